"""Preprocessing: its spelling, its geometry, its defaults."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgeq.core.errors import EdgeqError
from edgeq.pipeline.preprocess import METHODS, Preprocess, default, resolve

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (90, 120, 3), np.uint8)


def parse(text: str, size: tuple[int, int] = (32, 32), channels: int = 3) -> Preprocess:
    return Preprocess.parse(text, size, channels)


REAL = st.floats(-300, 300, allow_nan=False, width=32).map(float)
WIDE = st.floats(1, 300, width=32).map(float)


@st.composite
def values(draw: st.DrawFn) -> Preprocess:
    channels = draw(st.sampled_from([1, 3]))
    length = draw(st.sampled_from([1, channels]))
    stated = draw(st.booleans())
    return Preprocess(
        size=(draw(st.integers(1, 300)), draw(st.integers(1, 300))),
        channels=channels,
        resize=draw(st.none() | st.integers(0, 500)),
        method=draw(st.sampled_from(METHODS)),
        crop=draw(st.booleans()),
        order=draw(st.sampled_from(["rgb", "bgr"])),
        mean=tuple(draw(REAL) for _ in range(length)) if stated else None,
        std=tuple(draw(WIDE) for _ in range(length)) if stated else None,
    )


@given(values())
def test_the_spelling_goes_both_ways(value: Preprocess) -> None:
    assert Preprocess.parse(value.spec, value.size, value.channels) == value


def test_imagenet_is_what_torchvision_and_slim_do_by_hand() -> None:
    chosen = parse("imagenet", (64, 64))
    assert chosen.spec == "resize=73,bilinear,crop"
    by_hand = Image.fromarray(PHOTO).resize((int(73 * 120 / 90), 73), Image.Resampling.BILINEAR)
    left, top = (by_hand.width - 64) // 2, (73 - 64) // 2
    assert (chosen.apply(PHOTO) == np.asarray(by_hand.crop((left, top, left + 64, top + 64)))).all()


@pytest.mark.parametrize("method", METHODS)
def test_stretch_uses_the_method(method: str) -> None:
    by_hand = Image.fromarray(PHOTO).resize((20, 32), Image.Resampling[method.upper()])
    assert (parse(f"stretch,{method}", (32, 20)).apply(PHOTO) == np.asarray(by_hand)).all()


def test_none_leaves_the_pixels_and_bgr_turns_them_round() -> None:
    assert (parse("none", (90, 120)).apply(PHOTO) == PHOTO).all()
    assert (parse("bgr", (90, 120)).apply(PHOTO) == PHOTO[..., ::-1]).all()
    assert (parse("crop", (30, 50)).apply(PHOTO) == PHOTO[30:60, 35:85]).all()


def test_grey_is_repeated_and_colour_becomes_luma() -> None:
    grey = PHOTO[..., :1]
    assert (parse("none", (90, 120), 3).apply(grey) == np.repeat(grey, 3, axis=2)).all()
    luma = PHOTO @ np.array([0.299, 0.587, 0.114])
    assert np.abs(parse("none", (90, 120), 1).apply(PHOTO)[..., 0] - luma).max() <= 0.51


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(["imagenet", "stretch"]),
    st.sampled_from([1, 3]),
)
def test_any_image_comes_out_at_the_models_size(height: int, width: int, h: int, w: int, text: str, channels: int) -> None:
    image = np.full((height, width, 3), 77, np.uint8)
    shown = parse(text, (h, w), channels).apply(image)
    assert shown.shape == (h, w, channels)
    assert shown.dtype == np.uint8
    assert (shown == 77).all()
    assert shown.flags.c_contiguous


@pytest.mark.parametrize(("text", "size"), [("none", (32, 32)), ("crop", (91, 20)), ("resize=32", (32, 32))])
def test_what_does_not_fit_is_refused(text: str, size: tuple[int, int]) -> None:
    with pytest.raises(EdgeqError, match="pass --preprocess"):
        parse(text, size).apply(PHOTO)


def test_an_image_of_one_line_does_not_grow_without_bound() -> None:
    with pytest.raises(EdgeqError, match="would grow to"):
        parse("imagenet", (224, 224)).apply(np.zeros((1, 60_000, 3), np.uint8))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("imagnet", "did you mean imagenet"),
        ("resize", "does not know 'resize'"),
        ("resize=-1", "resize takes"),
        ("resize=1e9", "resize takes"),
        ("resize=99999", "resize takes"),
        ("mean=1", "mean and std go together"),
        ("mean=1,2,std=1", "one number, or 3"),
        ("mean=nan,std=1", "one number, or 3"),
        ("mean=0,std=0", "std must be above 0"),
        ("mean=0,std=-1", "std must be above 0"),
        ("mean=0.485,0.456,0.406,std=0.229,0.224,0.225", "std=58.395,57.12,57.375"),
        ("crop,crop", "says crop twice"),
        ("", "does not know ''"),
        ("crop=1", "does not know 'crop=1'"),
    ],
)
def test_bad_spellings(text: str, message: str) -> None:
    with pytest.raises(EdgeqError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"--preprocess {text}: ")


@given(st.text(alphabet="imagenctresz=0123456789.,-_einf ", max_size=30))
def test_any_text_is_a_value_or_a_sentence(text: str) -> None:
    try:
        value = parse(text)
    except EdgeqError:
        return
    assert parse(value.spec) == value


def test_the_default_is_named() -> None:
    chosen, sentence = default((32, 32), 3, (32, 32, 3))
    assert chosen.spec == "none"
    assert "none" in sentence
    chosen, sentence = default((128, 128), 3, (375, 500, 1))
    assert chosen == parse("imagenet", (128, 128))
    assert "imagenet: shorter side to 146 pixels (bilinear, antialiased), centre crop to 128 x 128" in sentence
    assert "grey is repeated" in sentence
    assert "luma" in default((8, 8), 1, (8, 8, 3))[1]
    with pytest.raises(EdgeqError, match="takes 4 channels"):
        default((8, 8), 4, (8, 8, 3))


def test_each_source_adds_what_it_says() -> None:
    photo = (375, 500, 3)
    chosen, sentence = resolve((128, 128), 3, photo, None, "mean=127.5,std=127.5", "TFLite metadata")
    assert chosen.spec == "resize=146,bilinear,crop,mean=127.5,std=127.5"
    assert sentence.startswith("preprocessing from TFLite metadata: mean=127.5,std=127.5; so shorter side to 146")
    chosen, sentence = resolve((128, 128), 3, photo, "stretch,box", "imagenet,mean=127.5,std=127.5", "m.edgeq.json")
    assert chosen.spec == "stretch,box,mean=127.5,std=127.5"
    assert sentence == "preprocessing as given, stretch,box: straight to 128 x 128 pixels (box, antialiased)"
    assert resolve((128, 128), 3, photo)[0] == default((128, 128), 3, photo)[0]
