"""Runs a query attack on a target: lanes, budget, stopping.

Finished rows leave and waiting rows enter, so that the target's batch stays full. Queries are counted here, never by an attack;
the clean image is every row's first one (docs/concepts.md: *Queries*). What a row gets does not depend on the lanes or on its neighbours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.protocols import QueryAttack, Target
from edgeq.core.rows import Rows
from edgeq.core.threat import Threat


@dataclass(frozen=True, eq=False)
class Finished:
    """Rows that ended together. ``index``: their places in ``rows``."""

    index: np.ndarray  # (f,) int64
    candidates: np.ndarray  # (f, h, w, c) uint8: the query of highest margin, the latest among equals
    queries: np.ndarray  # (f,) int64: images of this row that the target saw
    margin: np.ndarray  # (f,) float32: of the candidate, in raw steps; above 0: fooled


@dataclass(frozen=True, eq=False)
class _Lanes:
    index: np.ndarray
    labels: np.ndarray
    clean: np.ndarray
    candidates: np.ndarray
    queries: np.ndarray
    margin: np.ndarray
    state: Any  # the attack's, row for row

    def __len__(self) -> int:
        return len(self.index)


def run(
    attack: QueryAttack,
    target: Target,
    rows: Rows,
    images: Callable[[np.ndarray], np.ndarray],
    threat: Threat,
    seed: int,
    budget: int | None = None,
    lanes: int | None = None,
) -> Iterator[Finished]:
    """Attack ``rows``; yields them as they finish.

    ``images``: gives the clean images ``(m, h, w, c) uint8`` of row indices ``(m,)``, so that memory holds only the lanes.
    ``budget``: the most queries a row may cost, the clean check included; None for as many as the attack asks.
    """
    lanes = lanes or max(1, -(-4 * target.batch // attack.width))
    active: _Lanes | None = None
    waiting = 0
    while active is not None or waiting < len(rows):
        running = 0 if active is None else len(active)
        fresh = np.arange(waiting, min(waiting + lanes - running, len(rows)))
        waiting += len(fresh)
        asked = None if active is None else _within_budget(attack.ask(active.state), active.queries, budget)
        clean = images(fresh) if len(fresh) else None
        answer = target.answer(_stack(None if asked is None else asked.images, clean))
        if active is not None and asked is not None:
            active = yield from _advance(attack, active, asked, answer[: len(asked.images)], threat, budget)
        if clean is not None:
            entered = yield from _enter(attack, rows, fresh, clean, answer[len(answer) - len(fresh) :], threat, seed, budget)
            active = entered if active is None else active if entered is None else _join(active, entered)


@dataclass(frozen=True, eq=False)
class _Asked:
    images: np.ndarray  # (s, h, w, c) uint8: lane after lane, each one's first ``counts`` queries
    counts: np.ndarray  # (r,) int64
    width: int


def _within_budget(asked: np.ndarray, spent: np.ndarray, budget: int | None) -> _Asked:
    r, width = asked.shape[:2]
    counts = np.full(r, width) if budget is None else np.minimum(width, budget - spent)
    flat = asked.reshape(r * width, *asked.shape[2:])
    if (counts < width).any():
        flat = flat[(np.arange(width) < counts[:, None]).ravel()]
    return _Asked(flat, counts, width)


def _advance(
    attack: QueryAttack, lanes: _Lanes, asked: _Asked, answer: Answer, threat: Threat, budget: int | None
) -> Generator[Finished, None, _Lanes | None]:
    margins = np.full((len(lanes), asked.width), -np.inf, np.float32)
    counted = np.arange(asked.width) < asked.counts[:, None]
    labels = np.repeat(lanes.labels, asked.counts)
    if attack.roams:
        inside = threat.contains(asked.images, np.repeat(lanes.clean, asked.counts, axis=0))
        counted[counted] = inside
        margins[counted] = answer[inside].margin(labels[inside])
    else:
        margins[counted] = answer.margin(labels)
    best = margins.argmax(axis=1)
    value = margins[np.arange(len(lanes)), best]
    better = value >= lanes.margin  # where scores are flat, the latest iterate is the better guess for other runtimes
    candidates = lanes.candidates
    candidates[better] = asked.images[(np.cumsum(asked.counts) - asked.counts + best)[better]]
    lanes = dataclasses.replace(lanes, candidates=candidates, margin=np.maximum(value, lanes.margin), queries=lanes.queries + asked.counts)
    over = (lanes.margin > 0) | (asked.counts < asked.width)
    if budget is not None:
        over |= lanes.queries >= budget
    left = yield from _leave(lanes, over)
    if left is None:
        return None
    if over.any():
        answer = answer[np.repeat(~over, asked.counts)]
    left = dataclasses.replace(left, state=attack.tell(left.state, answer))
    return (yield from _leave(left, attack.done(left.state)))


def _enter(
    attack: QueryAttack, rows: Rows, fresh: np.ndarray, clean: np.ndarray, answer: Answer, threat: Threat, seed: int, budget: int | None
) -> Generator[Finished, None, _Lanes | None]:
    labels = rows.labels[fresh]
    state = attack.start(clean, rows[fresh], threat, seed)
    lanes = _Lanes(fresh, labels, clean, clean.copy(), np.ones(len(fresh), np.int64), answer.margin(labels), state)
    left = yield from _leave(lanes, (lanes.margin > 0) | (budget == 1))
    if left is None or attack.roams:  # one that roams may never ask inside: then the clean image is its candidate
        return left
    # from here on any query is a better candidate than the clean image
    return dataclasses.replace(left, margin=np.full(len(left), -np.inf, np.float32))


def _leave(lanes: _Lanes, over: np.ndarray) -> Generator[Finished, None, _Lanes | None]:
    """Yields the lanes that are over; returns the others, None if there is none."""
    if not over.any():
        return lanes
    yield Finished(lanes.index[over], lanes.candidates[over], lanes.queries[over], lanes.margin[over])
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
    """The fields that hold one entry a row: arrays and nested states. Numbers and the threat are shared by all rows."""
    items = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return [k for k, v in items.items() if isinstance(v, np.ndarray) or (dataclasses.is_dataclass(v) and not isinstance(v, Threat))]
