"""RayS on a linear classifier whose boundary along a direction can be found by trying every radius."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import toys

from edgeq.attacks.rays import RayS
from edgeq.core import scheduler
from edgeq.core.answer import Answer
from edgeq.core.threat import Threat


def setting(n: int = 30):
    target = toys.LinearTarget()
    rows, clean = toys.rows_and_images(n, seed=5)
    return target, dataclasses.replace(rows, labels=target.answer(clean).label()), clean


def labels(target, asked: np.ndarray) -> Answer:
    return Answer("label", target.answer(asked.reshape(-1, *asked.shape[2:])).label())


def test_the_radius_is_the_distance_to_the_boundary_along_the_kept_signs():
    target, rows, clean = setting()
    attack = RayS(tolerance=0.05)
    state = attack.start(clean, rows, Threat("linf", 1 / 255), 0)
    for _ in range(300):
        state = attack.tell(state, labels(target, attack.ask(state)))
    found = np.flatnonzero(np.isfinite(state.radius))
    assert len(found) > 20
    assert (state.asked == 300).all()

    def fools(radius: np.ndarray) -> np.ndarray:  # of the kept direction: a run that no image has leaves its signs alone
        at = dataclasses.replace(
            state, phase=np.full(len(clean), 2), low=radius, high=radius, level=np.zeros_like(state.level), block=np.full(len(clean), 1)
        )
        return labels(target, attack.ask(at)).raw != rows.labels

    assert fools(state.radius)[found].all()
    below = fools(np.maximum(state.radius - np.float32(0.06), 1))
    assert not (below & (state.radius > 1.1))[found].any()


def test_ever_shorter_runs_are_turned_and_the_last_ones_are_single_pixels():
    _, rows, clean = setting(4)
    attack = RayS()
    state = attack.start(clean, rows, Threat("linf", 1 / 255), 0)
    never = Answer("label", rows.labels)  # nothing fools: each question is a new run
    seen = []
    for _ in range(200):
        turned = (attack.ask(state)[:, 0] == 0).reshape(4, -1)
        assert ((attack.ask(state) == 0) | (attack.ask(state) == 255)).all()
        seen.append(turned[0].sum())
        state = attack.tell(state, never)
    assert seen[:7] == [30, 15, 15, 8, 8, 8, 6]
    assert seen[-1] == 1
    assert (state.level == 5).all()


@pytest.mark.slow
def test_it_finds_most_of_what_can_be_fooled_and_counts_what_it_asked_outside():
    target, rows, clean = setting(60)
    bare = toys.LinearTarget(kind="label")
    eps = 15
    threat = Threat("linf", eps / 255)
    pixels = clean.reshape(60, -1).astype(int)
    room = np.where(np.arange(2)[:, None, None], np.minimum(eps, 255 - pixels), np.minimum(eps, pixels))  # downwards, upwards
    slopes = bare.weights.T[None] - bare.weights.T[rows.labels][:, None]  # of each other class's lead
    best = np.maximum(slopes, 0) @ room[1][..., None] + np.maximum(-slopes, 0) @ room[0][..., None]
    possible = ((pixels[:, None] @ slopes.transpose(0, 2, 1))[:, 0] + best[..., 0] > 0).any(axis=1)
    kept, queries = np.zeros_like(clean), 0
    for done in scheduler.run(RayS(steps=600), bare, rows, lambda i: clean[i], threat, 0, None, 32):
        kept[done.index] = done.candidates
        queries += done.queries.sum()
    assert bare.seen == queries
    assert threat.contains(kept, clean).all()
    fooled = target.answer(kept).fooled(rows.labels)
    assert not (fooled & ~possible).any()
    assert 20 < possible.sum() < 55
    assert fooled.sum() > 0.8 * possible.sum()


@pytest.mark.parametrize("options", [{"steps": 0}, {"tolerance": 0}, {"tolerance": 2}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="must be"):
        RayS(**options)
