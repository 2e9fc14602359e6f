"""The ascent loop against loops written out, and three variants of it that are nothing but hooks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import toys

from edgeq.attacks._ascent import Point, ascend, fixed, move
from edgeq.attacks.bim import BIM
from edgeq.attacks.mi import MI
from edgeq.attacks.pgd import PGD
from edgeq.core.goal import UNTARGETED, Goal
from edgeq.core.gradient import value_and_grad
from edgeq.core.rows import Rows
from edgeq.core.threat import Threat
from edgeq.objectives.ce import CE
from edgeq.objectives.margin import Margin


def setting(n=9):
    rows, clean = toys.rows_and_images(n, seed=3)
    return toys.LinearSource(toys.LinearTarget()), rows, clean


def by_the_book(source, clean, rows, threat, steps, size, decay=None):
    """BIM, or with ``decay`` MI-FGSM, for l_inf and l2, keeping the gridded iterate of highest loss."""
    x0 = clean.astype(np.float32) / np.float32(255)
    x, g, best, kept = x0, np.zeros_like(x0), np.full(len(clean), -np.inf, np.float32), clean.copy()
    for t in range(steps + 1):
        candidate = threat.grid(x, clean)
        loss, gradient = value_and_grad(source, CE(), candidate / np.float32(255), rows)
        for row in np.flatnonzero(loss > best) if t else ():
            best[row], kept[row] = loss[row], candidate[row]
        if decay is not None:
            gradient = np.stack([np.float32(decay) * gi + di / np.abs(di).ravel().sum() for gi, di in zip(g, gradient, strict=True)])
        g = gradient
        if threat.norm == "linf":
            x = np.clip(x + np.float32(size * threat.eps) * np.sign(g), x0 - np.float32(threat.eps), x0 + np.float32(threat.eps))
        else:
            x = threat.project(x + g / np.sqrt(np.square(g).sum(axis=(1, 2, 3), keepdims=True)) * np.float32(size * threat.eps), x0)
        x = np.clip(x, 0, 1)
    return kept, best


@pytest.mark.parametrize("threat", [Threat("linf", 8 / 255), Threat("linf", 1 / 255), Threat("l2", 0.6)])
def test_bim_and_mi_are_the_loops_of_their_papers(threat):
    source, rows, clean = setting()
    for attack, size, decay in ((BIM(6, 0.3), 0.3, None), (MI(6), 1 / 6, 1.0), (MI(6, 0.5), 1 / 6, 0.5), (MI(6, 0), 1 / 6, 0)):
        made = attack.craft(source, clean, rows, threat, 0)
        kept, loss = by_the_book(source, clean, rows, threat, 6, size, decay)
        np.testing.assert_array_equal(made.candidates, kept)
        np.testing.assert_array_equal(made.loss, loss)


class Scaled:
    """A source whose every second gradient is ``factor`` times too long."""

    batch = 8

    def __init__(self, source, factor):
        self.source, self.factor, self.turn = source, np.float32(factor), 0

    def logits(self, x):
        logits, pullback = self.source.logits(x)
        self.turn += 1
        return logits, lambda slope: pullback(slope) * (self.factor if self.turn % 2 else 1)


def test_the_length_of_a_gradient_does_not_matter_to_mi_and_zeros_add_nothing():
    source, rows, clean = setting(8)
    threat = Threat("linf", 8 / 255)
    first, other = (MI(5).craft(Scaled(source, factor), clean, rows, threat, 0).candidates for factor in (1, 1024))
    np.testing.assert_array_equal(first, other)
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(MI(1).craft(Scaled(source, 0), clean, rows, threat, 0).candidates, clean)
        assert (MI(5).craft(Scaled(source, 0), clean, rows, threat, 0).candidates != clean).any()


@pytest.mark.parametrize("options", [{"steps": 0}, {"decay": -0.1}, {"decay": np.nan}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="must be"):
        MI(**options)


def test_momentum_carries_mi_along_a_valley_in_which_bim_zigzags():
    """Two pixels: a steep one that turns at every step, and a flat one that always points the same way, beyond the ball."""
    slope = np.array([40.0, 1.0])

    class Valley:
        batch = 8

        def logits(self, x):
            off = x.reshape(len(x), 2) - np.array([0.503, 0.9])
            z = -(slope * np.square(off)).sum(axis=1)
            logits = np.stack([0 * z, z], axis=1).astype(np.float32)
            return logits, lambda s: (-2 * s[:, 1:] * slope * off).reshape(x.shape).astype(np.float32)

    clean, rows, threat = np.full((1, 1, 2, 1), 128, np.uint8), Rows(np.arange(1), np.zeros(1, np.int64)), Threat("l2", 60 / 255)
    flat = [attack.craft(Valley(), clean, rows, threat, 0).candidates[0, 0, 1, 0] for attack in (BIM(10, 0.1), MI(10))]
    assert flat[1] > flat[0] > 128


def nesterov(decay, size):
    """NI-FGSM (Lin et al. 2020): the gradient is taken where the momentum alone would lead. The loop's iterate is that point."""

    def momentum(point: Point):
        norm = np.abs(point.gradient).sum(axis=(1, 2, 3), keepdims=True)
        return decay * point.direction + point.gradient / norm

    def project(point: Point, direction, size):
        reach = np.float32(size * point.threat.eps)
        x = point.threat.project(point.x - reach * decay * point.direction + reach * point.threat.ascent(direction), point.clean)
        return point.threat.project(x + reach * decay * direction, point.clean)

    return {"momentum": momentum, "step": fixed(size), "project": project}


def apgd(checkpoints, threshold=0.75, pull=0.75):
    """APGD's moves (Croce and Hein 2020, algorithm 1): steps that are halved where they do not pay, and go on from the best iterate."""

    def step(point: Point):
        size = point.sizes[-1] if point.t else np.full((len(point.x), 1, 1, 1), 2.0)
        if point.t not in checkpoints:
            return size
        since = checkpoints[checkpoints.index(point.t) - 1] if checkpoints.index(point.t) else 0
        rises = sum(b > a for a, b in zip(point.losses[since:], point.losses[since + 1 :], strict=False))
        return np.where((rises < threshold * (point.t - since))[:, None, None, None], size / 2, size)

    def project(point: Point, direction, size):
        z = move(point, direction, size)
        x = point.threat.project(point.x + pull * (z - point.x) + (1 - pull) * (point.x - point.previous), point.clean)
        return np.where(size < point.sizes[-1], point.best, x) if point.t else z

    return {"step": step, "project": project}


@pytest.mark.parametrize("hooks", [nesterov(np.float32(1), 0.1), apgd([3, 6, 8])])
@pytest.mark.parametrize("objective", [CE(), Margin()])
def test_variants_are_hooks_and_reach_the_optimum(hooks, objective):
    source, rows, clean = setting(20)
    source.weights = source.weights[:, :2]
    clean = (clean // 4 + 96).astype(np.uint8)
    rows = Rows(rows.ids, rows.labels % 2)
    threat, lead = Threat("linf", 8 / 255), source.weights[:, 1] - source.weights[:, 0]
    made = ascend(source, clean, rows, threat, 0, steps=10, objective=objective, **hooks)
    moved = made.candidates.reshape(20, -1).astype(int) - clean.reshape(20, -1)
    corner = 8 * np.where(rows.labels[:, None], -1, 1) * np.sign(lead)
    np.testing.assert_array_equal(moved[:, lead != 0], corner[:, lead != 0].astype(int))


def test_apgd_halves_its_steps_and_returns_to_the_best_iterate():
    seen: list[Point] = []
    hooks = apgd([2, 4, 6, 8])
    bowl = toys.Bowl(np.arange(30) + 100)
    clean, rows = np.full((3, 6, 5, 1), 120, np.uint8), Rows(np.arange(3), np.zeros(3, np.int64))

    def momentum(point: Point):
        seen.append(point)
        return point.gradient

    made = ascend(bowl, clean, rows, Threat("linf", 12 / 255), 0, steps=10, momentum=momentum, **hooks)
    assert [point.t for point in seen] == list(range(10))
    last = seen[-1]
    sizes = np.array([size.ravel() for size in last.sizes])
    assert (sizes[-1] < sizes[0]).all()
    for a, b in pairwise(seen):
        np.testing.assert_array_equal(b.previous, a.x)
        halved = (b.sizes[-1] < b.sizes[max(0, a.t - 1)]).ravel()
        np.testing.assert_array_equal(b.x[halved], a.best[halved])
    assert len(last.losses) == 10
    assert (made.loss >= np.max(last.losses, axis=0)).all()


def test_hooks_begin_anew_with_each_restart():
    seen: list[Point] = []
    source, rows, clean = setting(4)

    def momentum(point: Point):
        seen.append(point)
        return point.gradient + point.direction

    ascend(source, clean, rows, Threat("linf", 8 / 255), 0, steps=2, step=fixed(0.5), momentum=momentum, random_start=True, restarts=2)
    assert [(p.t, len(p.losses), len(p.sizes)) for p in seen] == [(0, 1, 0), (1, 2, 1), (0, 1, 0), (1, 2, 1)]
    assert not seen[2].direction.any()
    assert (seen[2].x != seen[0].x).any()


def test_zeros_are_counted_in_the_first_gradient_alone():
    rows, clean = toys.rows_and_images(5)
    source = toys.LinearSource(toys.LinearTarget())
    source.weights[source.weights[:, 0] == 0] = 1

    class Flat:
        batch, calls = 8, 0

        def logits(self, x):
            self.calls += 1
            logits, pullback = source.logits(x)

            def back(slope):
                gradient = np.where(pullback(slope) == 0, 1, pullback(slope)).astype(np.float32)
                if self.calls == 1:
                    gradient[:2], gradient[2, 0] = 0, 0
                return gradient

            return logits, back

    told = PGD(steps=3, restarts=2).craft(Flat(), clean, rows, Threat("linf", 8 / 255), 0).diagnostics
    np.testing.assert_array_equal(told.zero, [True, True, False, False, False])
    np.testing.assert_array_equal(told.zero_pixels, [30, 30, 5, 0, 0])
    assert told.trace.shape == (5, 2 * 4)


@pytest.mark.parametrize("objective", [CE(), Margin()])
def test_a_plain_source_gives_what_its_fused_twin_gives_in_batches_of_any_size(objective):
    _, rows, clean = setting(21)
    target, x = toys.LinearTarget(), clean / np.float32(255)
    plain, fused = (value_and_grad(kind(target), objective, x, rows) for kind in (toys.LinearSource, toys.FusedSource))
    np.testing.assert_allclose(plain[0], fused[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(plain[1], fused[1], rtol=1e-4, atol=1e-4)
    for goal in (UNTARGETED, Goal("next"), Goal("class", 1)):
        whole = value_and_grad(toys.FusedSource(target), objective, x, rows, goal)
        alone = value_and_grad(toys.FusedSource(target), objective, x[20:], rows[20:], goal)
        np.testing.assert_array_equal(alone[0], whole[0][20:])
        np.testing.assert_array_equal(alone[1], whole[1][20:])
    logits, _ = toys.LinearSource(target).logits(x)
    wanted = (rows.labels + 1) % 4
    loss, _ = value_and_grad(toys.FusedSource(target), objective, x, rows, Goal("next"))  # no fused twin serves a wanted class
    np.testing.assert_array_equal(loss, objective(logits, rows.labels, wanted)[0])
