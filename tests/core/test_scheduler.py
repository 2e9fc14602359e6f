"""What the scheduler keeps, when it stops and what it counts, by attacks whose every query is written down."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import toys

from edgeq.attacks.rays import RayS
from edgeq.attacks.spsa import SPSA
from edgeq.core import scheduler
from edgeq.core.answer import Answer
from edgeq.core.diagnostics import Diagnostics
from edgeq.core.goal import UNTARGETED, Goal
from edgeq.core.rows import Rows
from edgeq.core.threat import Threat


@dataclass(frozen=True, eq=False)
class State:
    clean: np.ndarray
    labels: np.ndarray
    told: np.ndarray  # (r,) int64
    threat: Threat


@dataclass(frozen=True)
class Scripted:
    """Adds the values of ``script`` to the first pixel, ``width`` at a time, whatever the answers."""

    script: tuple[int, ...] = ()
    width: int = 2

    needs: ClassVar[str] = "scores"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    targeted: ClassVar[bool] = True
    roams: ClassVar[bool] = False
    selection: ClassVar[str] = "first success"

    def queries(self):
        return len(self.script)

    def start(self, clean, rows, threat, seed, goal=UNTARGETED):
        return State(clean, rows.labels, np.zeros(len(clean), np.int64), threat)

    def ask(self, state):
        asked = np.repeat(state.clean[:, None], self.width, axis=1)
        for row, told in enumerate(state.told):
            asked[row, :, 0, 0, 0] += np.array(self.script[told : told + self.width], np.uint8)
        return asked

    def tell(self, state, answer):
        assert len(answer) == len(state.told) * self.width
        return replace(state, told=state.told + self.width)

    def done(self, state):
        return state.told >= len(self.script)

    def diagnostics(self, state):
        return Diagnostics(differences=state.told)


class Nearest(Scripted):
    selection: ClassVar[str] = "smallest norm"


class Roaming(Nearest):
    roams: ClassVar[bool] = True


class Untargetable(Scripted):
    targeted: ClassVar[bool] = False


class Pixel:
    """Class 1 where the first pixel is odd, by as much as it is; class 2 from 100 on, by 200; class 0 else, by 50 less the pixel."""

    name, batch = "pixel", 4

    def __init__(self):
        self.seen = 0

    def answer(self, images):
        self.seen += len(images)
        p = images[:, 0, 0, 0].astype(np.int32)
        return Answer("logits", np.stack([np.maximum(50 - p, 0), np.where(p % 2, 50 + p, 0), np.where(p >= 100, 400, 0)], axis=1))


def run(attack, starts=(0,), labels=None, pixels=60, budget=None, goal=UNTARGETED, lanes=3):
    clean = np.zeros((len(starts), 1, 2, 1), np.uint8)
    clean[:, 0, 0, 0] = starts
    rows = Rows(np.arange(len(starts)), np.zeros(len(starts), np.int64) if labels is None else np.asarray(labels))
    target, out = Pixel(), {}
    for done in scheduler.run(attack, target, rows, lambda i: clean[i], Threat("linf", pixels / 255), 0, budget, lanes, goal):
        for at, index in enumerate(done.index):
            told = done.diagnostics.take(at)
            out[int(index)] = {
                "pixel": int(done.candidates[at, 0, 0, 0]),
                "queries": int(done.queries[at]),
                "margin": float(done.margin[at]),
                "first": int(done.first[at]),
                "told": int(told.differences),
            }
    assert sum(row["queries"] for row in out.values()) == target.seen
    return out


SCRIPT = (8, 2, 31, 11, 5, 40, 7, 4)  # of which the odd ones fool


def test_first_success_stops_and_keeps_the_highest_margin_of_its_round():
    assert run(Scripted(SCRIPT))[0] == {"pixel": 31, "queries": 5, "margin": 62, "first": 4, "told": 2}


def test_smallest_norm_goes_on_and_keeps_the_nearest_success():
    assert run(Nearest(SCRIPT))[0] == {"pixel": 5, "queries": 9, "margin": 10, "first": 4, "told": 8}


def test_of_equally_near_successes_the_earlier_is_kept():
    class Marked(Nearest):
        def ask(self, state):
            asked = super().ask(state)
            asked[..., 1, 0] = state.told  # the second pixel says which round it was, and stays below the first
            return asked

    clean, rows = np.zeros((1, 1, 2, 1), np.uint8), Rows(np.arange(1), np.zeros(1, np.int64))
    (done,) = scheduler.run(Marked((7, 9, 7, 11)), Pixel(), rows, lambda i: clean[i], Threat("linf", 60 / 255), 0)
    np.testing.assert_array_equal(done.candidates.ravel(), [7, 0])
    assert done.first == 2


def test_without_a_success_both_keep_the_highest_margin_the_latest_among_equals():
    flat = (50, 52, 20, 60)  # margins 0, 0, -30, 0
    for attack in (Scripted(flat), Nearest(flat)):
        assert run(attack)[0] == {"pixel": 60, "queries": 5, "margin": 0, "first": -1, "told": 4}


@pytest.mark.parametrize(("budget", "pixel", "first"), [(1, 0, -1), (3, 8, -1), (4, 31, 4), (5, 11, 4), (6, 5, 4), (9, 5, 4), (99, 5, 4)])
def test_smallest_norm_ends_with_the_budget(budget, pixel, first):
    row = run(Nearest(SCRIPT), budget=budget)[0]
    assert (row["queries"], row["pixel"], row["first"]) == (min(budget, 9), pixel, first)


def test_what_roams_counts_every_query_and_keeps_only_what_lies_inside():
    assert run(Roaming(SCRIPT), pixels=6)[0] == {"pixel": 5, "queries": 9, "margin": 10, "first": 6, "told": 8}
    assert run(Roaming((31, 33)), pixels=6)[0] == {"pixel": 0, "queries": 3, "margin": -50, "first": -1, "told": 2}


@pytest.mark.parametrize("attack", [Scripted(SCRIPT), Nearest(SCRIPT)])
def test_a_row_that_is_wrong_when_clean_is_over_at_once(attack):
    assert run(attack, starts=(1,))[0] == {"pixel": 1, "queries": 1, "margin": 2, "first": 1, "told": 0}


@pytest.mark.parametrize("cls", [Scripted, Nearest])
def test_a_wanted_class_is_what_stops_and_what_is_kept(cls):
    script = (31, 2, 104, 33, 101, 100)  # 31, 33, 101 are odd; class 2 leads from 100 on
    wanted = run(cls(script), pixels=120, goal=Goal("class", 2))[0]
    assert wanted["first"] == 4
    assert (wanted["pixel"], wanted["queries"]) == ((104, 5) if cls is Scripted else (100, 7))


def test_rows_of_the_wanted_class_are_shown_once_and_kept_clean():
    out = run(Scripted(SCRIPT), starts=(100, 0, 100, 1), labels=(2, 0, 0, 2), pixels=60, goal=Goal("class", 2))
    assert {k: out[0][k] for k in ("pixel", "queries", "first", "told")} == {"pixel": 100, "queries": 1, "first": -1, "told": 0}
    assert np.isnan(out[0]["margin"])
    assert out[1]["queries"] == 9
    assert out[2]["first"] == 1
    assert out[3]["queries"] == 1


def test_a_goal_that_an_attack_cannot_serve_is_refused_before_anything_is_asked():
    with pytest.raises(ValueError, match="Untargetable has no targeted form, so it cannot pursue the goal class:2"):
        scheduler.run(Untargetable(SCRIPT), None, None, None, None, 0, goal=Goal("class", 2))


@pytest.mark.parametrize("attack", [Scripted(SCRIPT), Nearest(SCRIPT), Roaming(SCRIPT)])
def test_rows_do_not_depend_on_lanes(attack):
    starts, labels = np.arange(23) * 3 % 64, np.arange(23) % 3
    whole = run(attack, starts, labels, lanes=23)
    assert whole == run(attack, starts, labels, lanes=4) == run(attack, starts, labels, lanes=1)
    for row in (0, 7, 22):
        assert run(attack, starts[row : row + 1], labels[row : row + 1]) == {0: whole[row]}


class Later(toys.LinearTarget):
    """Answers when it is asked to, later; never two things at once."""

    def __init__(self, **options):
        super().__init__(**options)
        self.unfetched = self.turns = 0

    def answer_later(self, images):
        assert not self.unfetched
        self.unfetched, answer = 1, super().answer(images)

        def fetch():
            self.unfetched = 0
            self.turns += 1
            return answer

        return fetch


@pytest.mark.parametrize("attack", [SPSA(steps=5, batch=8), RayS(steps=40)])
@pytest.mark.parametrize("n", [1, 2, 13])
def test_rows_do_not_depend_on_whether_the_target_answers_later(attack, n):
    rows, images = toys.rows_and_images(n)
    told = []
    for target in (toys.LinearTarget(), Later()):
        finished = list(scheduler.run(attack, target, rows, images.__getitem__, Threat("linf", 20 / 255), 1, budget=35, lanes=4))
        by_row = {i: (c.tobytes(), q, m) for f in finished for i, c, q, m in zip(f.index, f.candidates, f.queries, f.margin, strict=True)}
        assert sorted(by_row) == list(range(n))
        told.append((by_row, target.seen))
    assert told[0] == told[1]
    assert target.turns > 4
