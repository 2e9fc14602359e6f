import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.core.errors import EdgeqError
from edgeq.core.threat import Threat, parse_eps

SHAPE = (3, 4, 5, 3)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["linf", "l2"]), st.floats(1e-3, 2))
def test_any_iterate_has_a_candidate_inside_the_ball(seed, norm, eps):
    draw = np.random.default_rng(seed)
    clean = draw.integers(0, 256, SHAPE, dtype=np.uint8)
    x = draw.uniform(-0.2, 1.2, SHAPE).astype(np.float32)
    threat = Threat(norm, eps)
    projected = threat.project(x, clean.astype(np.float32) / 255)
    for iterate in (projected, np.clip(x, 0, 1)):
        candidate = threat.grid(iterate, clean)
        assert candidate.dtype == np.uint8
        assert threat.contains(candidate, clean).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_the_grid_rounds_to_the_nearest_pixel_inside(seed, e):
    draw = np.random.default_rng(seed)
    clean = draw.integers(0, 256, SHAPE, dtype=np.uint8)
    x = np.clip(clean / 255 + draw.uniform(-e / 255, e / 255, SHAPE), 0, 1).astype(np.float32)
    want = np.clip(clean + np.clip(np.rint(np.float32(255) * x).astype(int) - clean, -e, e), 0, 255)
    np.testing.assert_array_equal(Threat("linf", e / 255).grid(x, clean), want)


def test_an_l2_step_that_already_fits_is_not_shrunk_and_one_that_does_not_fills_the_ball():
    clean = np.full((2, 8, 8, 1), 100, np.uint8)
    x = clean / np.float32(255)
    x[0, 0, 0, 0] += 3 / 255
    x[1] += 30 / 255
    threat = Threat("l2", 10 / 255)
    candidates = threat.grid(x, clean).astype(int) - 100
    assert candidates[0].sum() == 3
    norm = math.sqrt((candidates[1] ** 2).sum())
    assert 7 < norm <= 10


def test_the_projection_is_idempotent_and_leaves_inside_points():
    draw = np.random.default_rng(0)
    x0 = draw.uniform(0, 1, SHAPE).astype(np.float32)
    for threat in (Threat("linf", 0.1), Threat("l2", 0.7)):
        once = threat.project(x0 + draw.normal(0, 1, SHAPE).astype(np.float32), x0)
        np.testing.assert_allclose(threat.project(once, x0), once, atol=1e-6)
        inside = np.clip(x0 + np.float32(0.001), 0, 1)
        np.testing.assert_allclose(threat.project(inside, x0), inside, atol=1e-6)


@pytest.mark.parametrize(("text", "pixels"), [("8/255", 8), ("0.03", 7), ("8px", 8), ("1/255", 1), ("0.5/255", 0), ("1e-9", 0)])
def test_a_radius_in_pixels(text, pixels):
    assert Threat("linf", parse_eps(text)).pixels == pixels


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("8", "--eps 8: is 2,040 pixel steps in l_inf, and a pixel has 255; for 8 pixel steps write 8/255 or 8px"),
        ("2.5", "--eps 2.5: is 637 pixel steps in l_inf, and a pixel has 255; for 2.5 pixel steps write 2.5/255 or 2.5px"),
        ("300px", "--eps 300px: is 300 pixel steps in l_inf, and a pixel has 255; write 8/255"),
        ("1000/255", "--eps 1000/255: is 1,000 pixel steps in l_inf, and a pixel has 255; write 8/255"),
    ],
)
def test_a_radius_beyond_the_range_of_a_pixel_is_refused_with_what_was_meant(text, sentence):
    with pytest.raises(EdgeqError) as caught:
        Threat.parse("linf", text)
    assert str(caught.value) == sentence
    assert Threat.parse("l2", text).eps > 1
    assert Threat.parse("linf", "255/255").pixels == 255


@pytest.mark.parametrize("text", ["", "x", "0", "-1/255", "nan", "inf", "1/0", "1/2/3", "px"])
def test_what_is_no_radius_is_said(text):
    with pytest.raises(EdgeqError, match="not a radius"):
        parse_eps(text)
