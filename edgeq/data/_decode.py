"""One image file as pixels, as the usual training loaders give them (torchvision's ImageFolder, ``tf.image.decode_image``).

So EXIF orientation is not applied (pixels stay as the sensor wrote them) and alpha is dropped, not blended. Palettes and CMYK become RGB,
greys stay one channel, 16 bits are scaled to 8, and of an animation the first frame is taken.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError

FORMATS = ("JPEG", "PNG", "BMP", "PPM", "WEBP", "GIF", "TIFF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".pbm", ".pnm", ".webp", ".gif", ".tif", ".tiff")
MAX_BYTES = 64 << 20  # of one image file
MAX_PIXELS = 32_000_000  # 6,500 x 4,900: above any camera on a small device; in Pillow's hands it takes up to half a GB
LARGE, BOMB = 1_000_000, 200  # pixels; and pixels a byte of the file, beyond which a large image is no photo


def decode(data: bytes, where: str) -> np.ndarray:
    """``(h, w, c) uint8``, c 1 or 3, of an encoded image. Raises :class:`EdgeqError` naming ``where`` for anything else."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise EdgeqError(f"{where}: {width} x {height} pixels are more than {MAX_PIXELS:,}; make the image smaller")
            if width * height > max(LARGE, BOMB * len(data)):
                raise EdgeqError(f"{where}: {width} x {height} pixels in {len(data):,} bytes are no photo; make the image smaller")
            _check_tiles(image)
            image.load()
            if image.mode in ("1", "L", "LA"):
                pixels = np.asarray(image.convert("L"))[..., None]
            elif image.mode.startswith("I"):
                pixels = _sixteen(np.asarray(image), where)[..., None]
            elif image.mode == "F":
                raise EdgeqError(f"{where}: contains floating-point pixels; save it with 8 bits a channel")
            else:
                pixels = np.asarray(image.convert("RGB"))
    except EdgeqError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds of errors on damaged files: all mean the same here
        raise EdgeqError(f"{where}: is not an image that can be read ({_first_line(error)})") from None
    return np.ascontiguousarray(pixels)


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
