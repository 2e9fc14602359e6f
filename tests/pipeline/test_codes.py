"""Pixels to codes: the shift (docs/concepts.md: *Pixel to input*), stated normalisations, and what is refused."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Tensor
from edgeq.pipeline.codes import PixelCodes, codes_for
from edgeq.pipeline.preprocess import Preprocess

PIXELS = np.arange(256)


def stated(mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None, channels: int = 3) -> Preprocess:
    return Preprocess((2, 2), channels, mean=mean, std=std)


def codes(dtype: str, scale: float = 1.0, zero: int = 0, preprocess: Preprocess | None = None, channels: int = 3) -> PixelCodes:
    return codes_for(Tensor((2, 2, channels), dtype, scale, zero), preprocess or stated(channels=channels), "m.tflite")


SHIFTS = [
    ("int8", 1.0, -128, 0.0, 255.0),  # MLPerf-Tiny ResNet8
    ("uint8", 1.0, 0, 0.0, 255.0),
    ("uint8", 1 / 128, 128, -1.0, 127 / 128),  # MobileNet v1 of the TensorFlow 1 era
    ("uint8", 2 / 255, 127, -254 / 255, 256 / 255),
    ("int8", 2 / 255, -1, -254 / 255, 256 / 255),
    ("int8", 1 / 255, -128, 0.0, 1.0),
    ("int8", 1 / 256, -128, 0.0, 255 / 256),
    ("uint8", float(np.float32(0.00784313)), 128, -1.0039, 0.9961),
]


@pytest.mark.parametrize(("dtype", "scale", "zero", "low", "high"), SHIFTS)
def test_plain_ranges_are_a_shift(dtype: str, scale: float, zero: int, low: float, high: float) -> None:
    found = codes(dtype, scale, zero)
    lowest = np.iinfo(dtype).min
    assert found.shift == lowest
    assert (found.table == (PIXELS + lowest)[:, None]).all()
    assert found.real[[0, 255], 0] == pytest.approx([low, high], abs=1e-4)
    assert found.used == 256
    assert found.describe() == f"shift q = p{' - 128' if lowest else ''}; 256 of 256 codes used"


@pytest.mark.parametrize(("scale", "zero"), [(0.0187, 114), (1 / 128, 126), (1.02, 0), (0.5, 0)])
def test_other_ranges_need_a_stated_meaning(scale: float, zero: int) -> None:
    with pytest.raises(EdgeqError, match=r"m\.tflite: its input codes span .* pass --preprocess mean=\.\.,std=\.\."):
        codes("uint8", scale, zero)


def test_a_stated_normalisation_is_rounded_like_quantize() -> None:
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    found = codes("uint8", 0.0187, 114, stated(mean, std))
    for c in range(3):
        ideal = (PIXELS - mean[c]) / std[c] / 0.0187 + 114
        assert np.abs(found.table[:, c] - np.clip(ideal, 0, 255)).max() <= 0.5
    assert found.shift is None
    assert found.real == pytest.approx((found.table.astype(float) - 114) * 0.0187, abs=1e-6)
    assert found.used == min(len(set(found.table[:, c].tolist())) for c in range(3))
    assert "of 256 codes used" in found.describe()
    # ties leave zero: 0.5 -> 1 and -0.5 -> -1
    assert codes("int8", 2.0, 0, stated((1.0,), (1.0,))).table[[0, 2], 0].tolist() == [-1, 1]


def test_a_statement_that_agrees_within_one_code_is_the_shift() -> None:
    # (p - 127.5) / 127.5 on a scale of 1/128: one code off at most, and devices copy bytes
    assert codes("uint8", 1 / 128, 128, stated((127.5,), (127.5,))).shift == 0
    # a statement that means something else is followed
    other = codes("uint8", 1 / 128, 128, stated((0.0,), (255.0,)))
    assert other.shift is None
    assert other.table[[0, 255], 0].tolist() == [128, 255]
    assert other.used == 128


def test_bytes_are_copied_whatever_they_mean() -> None:
    copied = Preprocess.parse("bytes", (2, 2), 3)
    for scale, zero in ((1 / 127, 128), (0.02, 114), (1.0, 0)):
        got = codes("uint8", scale, zero, copied)
        assert (got.shift, got.used) == (0, 256)
        np.testing.assert_allclose(got.real[:, 0], (PIXELS - zero) * scale, rtol=1e-6)
    assert codes("int8", 0.02, -14, copied).shift == -128
    np.testing.assert_array_equal(codes("float32", preprocess=copied).real[:, 1], PIXELS)
    with pytest.raises(EdgeqError, match="takes int16 at its input, into which no bytes are copied"):
        codes("int16", 1.0, 0, copied)
    assert Preprocess.parse(copied.spec, (2, 2), 3) == copied
    assert Preprocess.parse("mean=0,std=1", (2, 2), 3, copied) == stated((0.0,), (1.0,))
    assert not stated((0.0,), (1.0,)).bytes
    assert Preprocess.parse("bytes", (2, 2), 3, stated((0.0,), (1.0,))) == copied
    with pytest.raises(EdgeqError, match="bytes are copied as they are"):
        Preprocess.parse("bytes,mean=0,std=1", (2, 2), 3)


def test_floats_need_a_statement() -> None:
    with pytest.raises(EdgeqError, match="takes floats"):
        codes("float32")
    found = codes("float32", preprocess=stated((127.5,), (127.5,)))
    assert found.table.dtype == np.float32
    assert found.table[[0, 255], 2].tolist() == [-1.0, 1.0]
    assert found.describe() == "float32 -1..1; 256 of 256 values used"
    assert codes("int16", 1 / 32768, 0, stated((127.5,), (127.5,))).table[[0, 255], 0].tolist() == [-32768, 32767]
    with pytest.raises(EdgeqError, match="no image"):
        codes("bool")


TABLES = [
    codes("int8", 1.0, -128),
    codes("uint8"),
    codes("uint8", 0.0187, 114, stated((120.0,), (58.0,))),
    codes("uint8", 0.0187, 114, stated((123.0, 116.0, 103.0), (58.0, 57.0, 56.0))),
    codes("float32", preprocess=stated((123.0, 116.0, 103.0), (58.0, 57.0, 56.0))),
    PixelCodes.of_reals(np.linspace(0, 1, 256)),
]


@pytest.mark.parametrize("found", TABLES, ids=lambda c: c.describe())
@given(st.integers(0, 2**32 - 1))
def test_encoding_is_the_table(found: PixelCodes, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (3, 4, 5, 3), np.uint8)
    keep = images.copy()
    expected = np.stack([found.table[images[..., c], min(c, found.table.shape[1] - 1)] for c in range(3)], axis=-1)
    out = np.empty(images.shape, found.table.dtype)
    assert found.encode(images, out) is out
    for encoded in (out, found.encode(images)):
        assert encoded.dtype == found.table.dtype
        assert (encoded == expected).all()
    assert (images == keep).all()
    assert not np.shares_memory(found.encode(images), images)


@pytest.mark.parametrize("found", TABLES, ids=lambda c: c.describe())
def test_encoding_into_out_needs_little_memory(found: PixelCodes) -> None:
    images = np.zeros((512, 64, 64, 3), np.uint8)
    out = np.empty(images.shape, found.table.dtype)
    tracemalloc.start()
    found.encode(images, out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (2000 if found.shift is not None else images.nbytes / 4)


@pytest.mark.parametrize("found", TABLES, ids=lambda c: c.describe())
def test_json_keeps_every_bit(found: PixelCodes) -> None:
    again = PixelCodes.from_json(json.loads(json.dumps(found.to_json())))
    assert again.shift == found.shift
    assert again.table.dtype == found.table.dtype
    assert (again.table == found.table).all()
    assert again.real.dtype == np.float32
    assert (again.real == found.real).all()
