"""Runs a query attack on a target: lanes, budget, stopping.

Finished rows leave and waiting rows enter, so that the target's batch stays full. Queries are counted here, never by an attack;
the clean image is every row's first one (docs/concepts.md, *The figures*). What is kept and when a row stops is the attack's
:data:`~edgeq.core.protocols.Selection`. What a row gets does not depend on the lanes or on its neighbours.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.diagnostics import Diagnostics
from edgeq.core.goal import UNTARGETED, Goal
from edgeq.core.protocols import AnswersLater, QueryAttack, Target
from edgeq.core.rows import Rows
from edgeq.core.threat import Threat


@dataclass(frozen=True, eq=False)
class Finished:
    """Rows that ended together. ``index``: their places in ``rows``."""

    index: np.ndarray  # (f,) int64
    candidates: np.ndarray  # (f, h, w, c) uint8: the query that the attack's selection keeps
    queries: np.ndarray  # (f,) int64: images of this row that the target saw
    margin: np.ndarray  # (f,) float32: of the candidate, in raw steps; above 0: the goal is reached; NaN: it cannot be attacked
    diagnostics: Diagnostics  # the attack's, and ``first``

    @property
    def first(self) -> np.ndarray:
        """``(f,) int64``: queries until the first success, the clean check included; -1 where there was none."""
        assert self.diagnostics.first is not None
        return self.diagnostics.first


@dataclass(frozen=True, eq=False)
class _Lanes:
    index: np.ndarray
    labels: np.ndarray
    clean: np.ndarray
    candidates: np.ndarray
    queries: np.ndarray
    margin: np.ndarray  # of the candidate
    distance: np.ndarray  # of the candidate from the clean image; infinite while no query has succeeded
    first: np.ndarray
    state: Any  # the attack's, row for row

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True, eq=False)
class _Terms:
    """What all rows have in common."""

    attack: QueryAttack
    threat: Threat
    seed: int
    goal: Goal
    budget: int | None


def run(
    attack: QueryAttack,
    target: Target,
    rows: Rows,
    images: Callable[[np.ndarray], np.ndarray],
    threat: Threat,
    seed: int,
    budget: int | None = None,
    lanes: int | None = None,
    goal: Goal = UNTARGETED,
) -> Iterator[Finished]:
    """Attack ``rows``; yields them as they finish.

    ``images``: gives the clean images ``(m, h, w, c) uint8`` of row indices ``(m,)``, so that memory holds only the lanes.
    ``budget``: the most queries a row may cost, the clean check included; None for as many as the attack asks.
    Raises ValueError, before anything is asked, for a ``goal`` that the attack cannot serve.
    """
    goal.check(attack)
    return _run(_Terms(attack, threat, seed, goal, budget), target, rows, images, lanes or max(1, -(-4 * target.batch // attack.width)))


def _run(
    terms: _Terms, target: Target, rows: Rows, images: Callable[[np.ndarray], np.ndarray], lanes: int
) -> Generator[Finished, None, None]:
    """Two sets of lanes by turns, where the target can answer one while the other is advanced; else one."""
    waiting = iter(range(len(rows)))
    later, sets = (target.answer_later, 2) if isinstance(target, AnswersLater) else (lambda asked: lambda: target.answer(asked), 1)
    lanes = -(-min(lanes, len(rows)) // sets)
    ready: deque[tuple[_Set, np.ndarray]] = deque()
    for one in [_advancing(terms, rows, images, waiting, lanes) for _ in range(sets)]:
        if (asked := (yield from _until_asked(one, None))) is not None:
            ready.append((one, asked))
    flying: tuple[_Set, Callable[[], Answer]] | None = None
    while ready or flying is not None:
        landed = None if flying is None else (flying[0], flying[1]())
        flying = None
        if ready:
            one, asked = ready.popleft()
            flying = one, later(asked)
        if landed is not None and (asked := (yield from _until_asked(*landed))) is not None:
            ready.append((landed[0], asked))


_Set = Generator["Finished | np.ndarray", "Answer | None", None]
"""A set of lanes: yields images to be answered, is sent their answer, and in between yields rows that ended."""


def _until_asked(one: _Set, answer: Answer | None) -> Generator[Finished, None, np.ndarray | None]:
    """Yields what ends on this answer; returns the images that are asked next, None where the set is empty for good."""
    try:
        event = one.send(answer)
        while isinstance(event, Finished):
            yield event
            event = next(one)
    except StopIteration:
        return None
    return event


def _advancing(terms: _Terms, rows: Rows, images: Callable[[np.ndarray], np.ndarray], waiting: Iterator[int], lanes: int) -> _Set:
    active: _Lanes | None = None
    while True:
        running = 0 if active is None else len(active)
        fresh = np.fromiter(islice(waiting, lanes - running), np.int64)
        if active is None and not len(fresh):
            return
        asked = None if active is None else _within_budget(terms.attack.ask(active.state), active.queries, terms.budget)
        clean = images(fresh) if len(fresh) else None
        answer = yield _stack(None if asked is None else asked.images, clean)
        assert answer is not None
        if active is not None and asked is not None:
            active = yield from _advance(terms, active, asked, answer[: len(asked.images)])
        if clean is not None:
            entered = yield from _enter(terms, rows, fresh, clean, answer[len(answer) - len(fresh) :])
            active = entered if active is None else active if entered is None else _join(active, entered)


@dataclass(frozen=True, eq=False)
class _Asked:
    images: np.ndarray  # (s, h, w, c) uint8: lane after lane, each one's first ``counts`` queries
    counts: np.ndarray  # (r,) int64
    width: int

    def spread(self, where: np.ndarray, values: np.ndarray, fill: float) -> np.ndarray:
        """``(r, width)``: ``values``, one for each of ``images`` that ``where (s,) bool`` names; ``fill`` elsewhere."""
        flat = np.full(len(self.images), fill, values.dtype)
        flat[where] = values
        out = np.full((len(self.counts), self.width), fill, values.dtype)
        out[np.arange(self.width) < self.counts[:, None]] = flat
        return out

    def place(self, index: np.ndarray) -> np.ndarray:
        """``(r,) int64``: where in ``images`` each lane's query ``index (r,)`` lies."""
        return np.cumsum(self.counts) - self.counts + index


def _within_budget(asked: np.ndarray, spent: np.ndarray, budget: int | None) -> _Asked:
    r, width = asked.shape[:2]
    counts = np.full(r, width) if budget is None else np.minimum(width, budget - spent)
    flat = asked.reshape(r * width, *asked.shape[2:])
    if (counts < width).any():
        flat = flat[(np.arange(width) < counts[:, None]).ravel()]
    return _Asked(flat, counts, width)


def _advance(terms: _Terms, lanes: _Lanes, asked: _Asked, answer: Answer) -> Generator[Finished, Any, _Lanes | None]:
    attack, threat = terms.attack, terms.threat
    lane = np.repeat(np.arange(len(lanes)), asked.counts)
    inside = threat.contains(asked.images, lanes.clean[lane]) if attack.roams else np.ones(len(lane), bool)
    margins = terms.goal.margin(answer[inside] if attack.roams else answer, lanes.labels[lane[inside]])
    lanes = _keep(attack, threat, lanes, asked, inside, margins, lane)
    over = asked.counts < asked.width
    if attack.selection == "first success":
        over |= lanes.margin > 0
    if terms.budget is not None:
        over |= lanes.queries >= terms.budget
    left = yield from _leave(attack, lanes, over)
    if left is None:
        return None
    if over.any():
        answer = answer[np.repeat(~over, asked.counts)]
    left = dataclasses.replace(left, state=attack.tell(left.state, answer))
    return (yield from _leave(attack, left, attack.done(left.state)))


def _keep(
    attack: QueryAttack, threat: Threat, lanes: _Lanes, asked: _Asked, inside: np.ndarray, margins: np.ndarray, lane: np.ndarray
) -> _Lanes:
    """The lanes with their best candidates so far, by the attack's selection, and their counts. ``inside``: which of the images asked lie
    in the threat; ``margins``: theirs; ``lane (s,)``: the one that each image belongs to."""
    rows = np.arange(len(lanes))
    margin = asked.spread(inside, margins, -np.inf)
    reached = margin > 0
    index = margin.argmax(axis=1)
    better = margin[rows, index] >= lanes.margin  # where scores are flat, the latest iterate is the better guess for other runtimes
    distance = lanes.distance
    if attack.selection == "smallest norm":
        hits = inside.copy()
        hits[inside] = margins > 0
        distances = asked.spread(hits, threat.distance(asked.images[hits], lanes.clean[lane[hits]]), np.inf)
        nearest = distances.argmin(axis=1)
        nearer = distances[rows, nearest] < lanes.distance
        index = np.where(nearer, nearest, index)
        better = nearer | (better & np.isinf(lanes.distance))
        distance = np.minimum(distances[rows, nearest], lanes.distance)
    candidates = lanes.candidates
    candidates[better] = asked.images[asked.place(index)[better]]
    return dataclasses.replace(
        lanes,
        candidates=candidates,
        margin=np.where(better, margin[rows, index], lanes.margin),
        distance=distance,
        first=np.where((lanes.first < 0) & reached.any(axis=1), lanes.queries + reached.argmax(axis=1) + 1, lanes.first),
        queries=lanes.queries + asked.counts,
    )


def _enter(terms: _Terms, rows: Rows, fresh: np.ndarray, clean: np.ndarray, answer: Answer) -> Generator[Finished, Any, _Lanes | None]:
    attack, labels = terms.attack, rows.labels[fresh]
    state = attack.start(clean, rows[fresh], terms.threat, terms.seed, terms.goal)
    margin = terms.goal.margin(answer, labels)
    reached = margin > 0
    far = np.full(len(fresh), np.inf)
    lanes = _Lanes(fresh, labels, clean, clean.copy(), np.ones(len(fresh), np.int64), margin, far, np.where(reached, 1, -1), state)
    left = yield from _leave(attack, lanes, reached | ~terms.goal.attackable(labels) | (terms.budget == 1))
    if left is None or attack.roams:  # one that roams may never ask inside: then the clean image is its candidate
        return left
    # from here on any query is a better candidate than the clean image
    return dataclasses.replace(left, margin=np.full(len(left), -np.inf, np.float32))


def _leave(attack: QueryAttack, lanes: _Lanes, over: np.ndarray) -> Generator[Finished, Any, _Lanes | None]:
    """Yields the lanes that are over; returns the others, None if there is none."""
    if not over.any():
        return lanes
    diagnostics = dataclasses.replace(attack.diagnostics(lanes.state).take(over), first=lanes.first[over])
    yield Finished(lanes.index[over], lanes.candidates[over], lanes.queries[over], lanes.margin[over], diagnostics)
    return None if over.all() else _take(lanes, ~over)


def _stack(asked: np.ndarray | None, clean: np.ndarray | None) -> np.ndarray:
    parts = [part for part in (asked, clean) if part is not None]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _take(value: Any, keep: np.ndarray) -> Any:
    """An array, or a dataclass of such, with the rows ``keep``."""
    if isinstance(value, np.ndarray):
        return value[keep]
    return dataclasses.replace(value, **{f: _take(getattr(value, f), keep) for f in _per_row(value)})


def _join(a: Any, b: Any) -> Any:
    if isinstance(a, np.ndarray):
        return np.concatenate([a, b])
    return dataclasses.replace(a, **{f: _join(getattr(a, f), getattr(b, f)) for f in _per_row(a)})


def _per_row(value: Any) -> list[str]:
    """The fields that hold one entry a row: arrays, and dataclasses with such. What has none, a threat or a number, is shared by all."""
    items = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return [k for k, v in items.items() if isinstance(v, np.ndarray) or (dataclasses.is_dataclass(v) and _per_row(v))]
