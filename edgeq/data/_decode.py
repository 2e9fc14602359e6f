"""One image file as pixels: upright, as viewers and telephones show it.

Alpha is dropped, not blended. Palettes and CMYK become RGB, greys stay one channel, 16 bits are scaled to 8, and of an animation the first
frame is taken. Training loaders (torchvision's ImageFolder, ``tf.image.decode_image``) leave out the EXIF orientation alone.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError

FORMATS = ("JPEG", "PNG", "BMP", "PPM", "WEBP", "GIF", "TIFF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".pbm", ".pnm", ".webp", ".gif", ".tif", ".tiff")
MAX_BYTES = 64 << 20  # of one image file
MAX_PIXELS = 32_000_000  # 6,500 x 4,900: above any camera on a small device; in Pillow's hands it takes up to half a GB
LARGE, BOMB = 1_000_000, 200  # pixels; and pixels a byte of the file, beyond which a large image is no photo


def decode(data: bytes, where: str, upright: bool = True) -> np.ndarray:
    """``(h, w, c) uint8``, c 1 or 3, of an encoded image: turned as its EXIF orientation says, or, without ``upright``, as it is stored.

    Raises :class:`EdgeqError` naming ``where`` for anything else.
    """
    with _opened(data, where) as image:
        stated = _orientation(image)
        image.load()
        left = _orientation(image)
        done = stated if left == 1 else 1  # Pillow turns a TIFF itself when it loads it
        if image.mode in ("1", "L", "LA"):
            pixels = np.asarray(image.convert("L"))[..., None]
        elif image.mode.startswith("I"):
            pixels = _sixteen(np.asarray(image), where)[..., None]
        elif image.mode == "F":
            raise EdgeqError(f"{where}: contains floating-point pixels; save it with 8 bits a channel")
        else:
            pixels = np.asarray(image.convert("RGB"))
    return np.ascontiguousarray(turned(pixels, left if upright else _BACK.get(done, done)))


def is_turned(data: bytes, where: str) -> bool:
    """Whether an encoded image is stored other than upright, by its EXIF orientation. May raise :class:`EdgeqError` as :func:`decode`."""
    if not data.startswith((b"II", b"MM")) and not any(mark in data for mark in _MARKS):  # a PNG would be decoded whole to see it
        return False
    with _opened(data, where) as image:
        return _orientation(image) != 1


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """``(h, w, c)`` pixels as stored, made upright; ``orientation``: 1 to 8, EXIF tag 274 (CIPA DC-008, 4.6.5.1)."""
    if orientation >= 5:  # rows and columns are exchanged
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


_MARKS = (b"Exif", b"eXIf", b"EXIF", b"exif", b"Orientation", b"adobe")
"""One of these is in every file but a TIFF that states an orientation, in EXIF or in XMP."""
_BACK = {6: 8, 8: 6}
"""What undoes an orientation; the others undo themselves."""


def _orientation(image: Any) -> int:
    """1 where none is stated, or where what is stated cannot be read: as viewers do."""
    with contextlib.suppress(Exception):
        value = image.getexif().get(274, 1)
        return value if value in range(1, 9) else 1
    return 1


@contextlib.contextmanager
def _opened(data: bytes, where: str) -> Iterator[Any]:
    from PIL import Image

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=FORMATS) as image:  # as of damaged EXIF
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise EdgeqError(f"{where}: {width} x {height} pixels are more than {MAX_PIXELS:,}; make the image smaller")
            if width * height > max(LARGE, BOMB * len(data)):
                raise EdgeqError(f"{where}: {width} x {height} pixels in {len(data):,} bytes are no photo; make the image smaller")
            _check_tiles(image)
            yield image
    except EdgeqError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds of errors on damaged files: all mean the same here
        raise EdgeqError(f"{where}: is not an image that can be read ({_first_line(error)})") from None


def _sixteen(values: np.ndarray, where: str) -> np.ndarray:
    """16 bits to 8: ``rint(v / 257)``, which takes 65,535 to 255. Pillow's own conversion would clip at 255."""
    if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
        raise EdgeqError(f"{where}: contains 32-bit pixels; save it with 8 bits a channel")
    return _TO_EIGHT[values]


_TO_EIGHT = ((np.arange(65536) + 128) // 257).astype(np.uint8)


def _check_tiles(image: Any) -> None:
    """A TIFF may be of tiles that are larger than itself: they are unpacked whole."""
    tags = getattr(image, "tag_v2", {})
    sides = [tags.get(tag, 0) for tag in (322, 323)]  # TileWidth, TileLength
    if not all(isinstance(side, int) for side in sides) or sides[0] * sides[1] > MAX_PIXELS:
        raise ValueError(f"tiles of {sides[0]} x {sides[1]} pixels")


def _first_line(error: Exception) -> str:
    text = str(error).split("\n")[0].split(" <_io")[0].strip()
    return text or type(error).__name__
