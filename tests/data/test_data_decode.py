"""Image files of every kind as uint8 pixels."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from edgeq.core.errors import EdgeqError
from edgeq.data._decode import decode, is_turned

COLOUR = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
GREY = COLOUR[..., 0]


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
@pytest.mark.parametrize("pixels", [COLOUR, GREY], ids=["colour", "grey"])
def test_lossless_formats_give_their_pixels(kind: str, pixels: np.ndarray) -> None:
    assert (decode(encoded(Image.fromarray(pixels), kind), "x") == pixels.reshape(6, 7, -1)).all()


def test_webp_lossless_and_jpeg() -> None:
    assert (decode(encoded(Image.fromarray(COLOUR), "WEBP", lossless=True), "x") == COLOUR).all()
    smooth = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    assert np.abs(decode(encoded(Image.fromarray(smooth), "JPEG", quality=95), "x").astype(int) - smooth).max() <= 3


def test_alpha_is_dropped_and_palettes_are_colours() -> None:
    clear = np.dstack([COLOUR, np.zeros((6, 7), np.uint8)])
    assert (decode(encoded(Image.fromarray(clear), "PNG"), "x") == COLOUR).all()
    palette = Image.fromarray(np.tile(COLOUR[:1], (6, 1, 1))).quantize(7)
    assert (decode(encoded(palette, "PNG"), "x") == np.asarray(palette.convert("RGB"))).all()
    grey_alpha = Image.merge("LA", (Image.fromarray(GREY), Image.new("L", (7, 6), 0)))
    assert (decode(encoded(grey_alpha, "PNG"), "x")[..., 0] == GREY).all()


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    wide = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    assert decode(encoded(Image.fromarray(wide), "PNG"), "x")[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_cmyk_becomes_rgb() -> None:
    ink = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert np.abs(decode(encoded(ink, "JPEG", quality=95), "x").astype(int) - (255, 0, 0)).max() <= 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright_or_left_as_they_are_stored(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    tall = np.zeros((16, 32, 3), np.uint8)
    tall[:8, :16], tall[8:, :16], tall[:8, 16:] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    content = encoded(Image.fromarray(tall), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    plain = decode(encoded(Image.fromarray(tall), kind, **({"lossless": True} if kind == "WEBP" else {})), "x")
    with Image.open(io.BytesIO(content)) as image:
        want = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(decode(content, "x"), want)
    np.testing.assert_array_equal(decode(content, "x", upright=False), plain)
    assert decode(content, "x").shape == ((32, 16, 3) if orientation >= 5 else (16, 32, 3))
    assert is_turned(content, "x") == (orientation != 1)


def test_an_orientation_in_xmp_counts_too() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>'
    content = encoded(Image.fromarray(COLOUR), "JPEG", xmp=xmp)
    assert decode(content, "x").shape == (7, 6, 3)
    assert is_turned(content, "x")


@pytest.mark.parametrize("stated", [0, 9, 65535])
def test_an_orientation_that_is_none_is_left_out(stated: object) -> None:
    exif = Image.Exif()
    exif[0x0112] = stated
    content = encoded(Image.fromarray(COLOUR), "JPEG", exif=exif)
    assert decode(content, "x").shape == (6, 7, 3)
    assert not is_turned(content, "x")


def test_damaged_exif_spoils_no_image() -> None:
    for body in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + bytes(range(256))):
        content = encoded(Image.fromarray(COLOUR), "JPEG", exif=body)
        assert decode(content, "x").shape == (6, 7, 3)


def bomb() -> bytes:
    """A PNG that says it has 20,000 x 20,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", encoded(Image.fromarray(COLOUR), "PNG")[:60], encoded(Image.fromarray(COLOUR), "JPEG")[:300], bomb()],
    ids=["empty", "text", "truncated png", "truncated jpeg", "bomb"],
)
def test_what_is_no_image_is_one_sentence(content: bytes) -> None:
    with pytest.raises(EdgeqError, match=r"^photo\.png: ") as caught:
        decode(content, "photo.png")
    assert "\n" not in str(caught.value)


def test_floats_are_refused() -> None:
    with pytest.raises(EdgeqError, match="floating-point"):
        decode(encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "x")
