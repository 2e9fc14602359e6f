import numpy as np
import pytest

from edgeq.core import rng


def numpys(seed, row, step, count, stream):
    source = np.random.Philox(key=np.array([seed, row], np.uint64), counter=np.array([0, step, stream, 0], np.uint64))
    return np.random.Generator(source).integers(0, 2**64 - 1, count, dtype=np.uint64, endpoint=True)


@pytest.mark.parametrize("count", [1, 7, 255, 256, 1000])
def test_words_are_numpys_philox_in_the_short_and_the_long_way(count):
    ids = np.array([0, 5, 2**63 - 1], np.int64)
    steps = np.array([0, 9, 123456])
    got = rng.words(7, ids, steps, count, stream=3)
    want = [numpys(7, int(i), int(s), count, 3) for i, s in zip(ids, steps, strict=True)]
    np.testing.assert_array_equal(got, want)


def test_a_rows_draw_does_not_depend_on_its_neighbours():
    ids = np.arange(50, dtype=np.int64)
    whole = rng.uniform(1, ids, 4, (3, 2))
    order = np.array([30, 2, 49])
    np.testing.assert_array_equal(rng.uniform(1, ids[order], 4, (3, 2)), whole[order])


def test_draws_look_like_what_they_are_called():
    ids = np.arange(200, dtype=np.int64)
    u = rng.uniform(0, ids, 0, (500,))
    z = rng.normal(0, ids, 1, (500,))
    b = rng.bits(0, ids, 2, 500)
    n = u.size
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 5 * np.sqrt(1 / 12 / n)
    assert abs(z.mean()) < 5 / np.sqrt(n)
    assert abs(z.var() - 1) < 5 * np.sqrt(2 / n)
    assert set(np.unique(b)) == {0, 1}
    assert abs(b.mean() - 0.5) < 5 * 0.5 / np.sqrt(n)


def test_steps_streams_and_seeds_are_independent():
    ids = np.arange(4, dtype=np.int64)
    draws = [rng.words(s, ids, t, 8, k).tobytes() for s in (0, 1) for t in (0, 1) for k in (0, 1)]
    assert len(set(draws)) == len(draws)
