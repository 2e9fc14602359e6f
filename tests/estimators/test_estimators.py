"""Gradients from scores alone, on losses whose gradient is known: what they ask, and what they make of the answers."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.core import plugins
from edgeq.core.errors import EdgeqError
from edgeq.estimators.coordinate import Coordinate, choose, ends
from edgeq.estimators.spsa import SPSA

IDS = np.array([5, 9, 123456789, 7])
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
IMAGES[0, 0] = 0
IMAGES[1, 0] = 255
WEIGHTS = np.random.default_rng(1).normal(size=(4, 90))


class Linear:
    """``weights[row] . image``, and what it was shown."""

    def __init__(self) -> None:
        self.shown: list[np.ndarray] = []

    def __call__(self, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        self.shown.append(images)
        return (images.reshape(len(images), -1).astype(float) * WEIGHTS[rows]).sum(1)


def test_pixels_are_distinct_and_a_rows_own() -> None:
    drawn = choose(0, IDS, 90, 40)
    assert drawn.shape == (4, 40)
    assert all(len(set(row)) == 40 and row.min() >= 0 and row.max() < 90 for row in drawn)
    np.testing.assert_array_equal(choose(0, IDS[[2, 0]], 90, 40), drawn[[2, 0]])
    assert (choose(1, IDS, 90, 40) != drawn).any()
    np.testing.assert_array_equal(choose(0, IDS, 90, 1000), np.tile(np.arange(90), (4, 1)))
    assert np.bincount(choose(0, np.arange(4000), 10, 3).ravel(), minlength=10) == pytest.approx(1200, rel=0.12)


def test_a_side_beyond_the_grid_does_not_exist() -> None:
    high, low = ends(np.array([0, 1, 2, 100, 253, 254, 255], np.uint8), 2)
    assert high.tolist() == [2, 3, 4, 102, 255, 254, 255]
    assert low.tolist() == [0, 1, 0, 98, 251, 252, 253]
    everything = np.arange(256, dtype=np.uint8)
    for step in (1, 64, 127):
        high, low = ends(everything, step)
        assert (high > low).all()


@pytest.mark.parametrize("step", [1, 3, 127])
def test_coordinate_differences_of_a_linear_loss_are_its_gradient(step: int) -> None:
    loss, method = Linear(), Coordinate(pixels=40, step=step)
    found = method.estimate(loss, IMAGES, IDS, 0)
    (shown,) = loss.shown
    assert len(shown) == 4 * method.queries(90) == 4 * 80
    assert ((shown.reshape(4, 80, -1) != IMAGES.reshape(4, 1, -1)).sum(2) <= 1).all()  # one pixel at a time
    np.testing.assert_allclose(found.slope, np.take_along_axis(WEIGHTS, found.pixels, 1), rtol=1e-5)
    np.testing.assert_allclose(found.difference, found.slope * found.length, rtol=1e-5)
    assert set(found.length.ravel()) <= {step, 2 * step}


def test_spsa_of_a_linear_loss_is_as_good_as_its_ceiling() -> None:
    loss, method = Linear(), SPSA(pairs=30)
    found = method.estimate(loss, IMAGES, IDS, 0)
    assert len(loss.shown[0]) == 4 * method.queries(90) == 4 * 60
    assert (np.abs(loss.shown[0].reshape(4, 60, -1).astype(int) - IMAGES.reshape(4, 1, -1)) <= 1).all()
    assert found.pixels is None
    inside = ((IMAGES > 0) & (IMAGES < 255)).reshape(4, -1)
    np.testing.assert_allclose(found.length[:, 0] ** 2, (np.where(inside, 2, 1) ** 2).sum(1))
    cosines = [np.dot(g, w) / np.linalg.norm(g) / np.linalg.norm(w) for g, w in zip(found.slope.astype(float), WEIGHTS, strict=True)]
    assert np.mean(cosines) == pytest.approx(method.ceiling(90), abs=0.1)
    assert SPSA(pairs=3000).ceiling(90) > 0.98 > SPSA(pairs=30).ceiling(90) + 0.4


@pytest.mark.parametrize("method", [Coordinate(pixels=10), SPSA(pairs=10)])
def test_a_rows_estimate_is_its_own(method) -> None:
    whole = method.estimate(Linear(), IMAGES, IDS, 3)
    order = np.array([2, 0])
    some = method.estimate(lambda images, rows: Linear()(images, order[rows]), IMAGES[order], IDS[order], 3)
    np.testing.assert_array_equal(some.slope, whole.slope[order])
    np.testing.assert_array_equal(some.difference, whole.difference[order])
    assert (method.estimate(Linear(), IMAGES, IDS, 4).difference != whole.difference).any()


def test_estimators_are_found_by_name_with_their_options() -> None:
    assert plugins.build(plugins.ESTIMATORS, "coordinate:pixels=8:step=2") == ("coordinate", Coordinate(8, 2))
    assert plugins.build(plugins.ESTIMATORS, "spsa:pairs=8") == ("spsa", SPSA(8))
    for wrong in ("coordinate:step=128", "coordinate:pixels=0", "spsa:step=0", "spsa:pairs=0", "sspa"):
        with pytest.raises(EdgeqError):
            plugins.build(plugins.ESTIMATORS, wrong)
