"""From a stored image to the pixels a model is shown: channels, resizing, cropping, as the device does it."""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass

import numpy as np

from edgeq.core.errors import EdgeqError

METHODS = ("nearest", "bilinear", "box", "bicubic", "lanczos")
MAX_RESIZED = 64_000_000  # pixels of an intermediate image
_KEYS = ("imagenet", "none", "stretch", "resize", "crop", "rgb", "bgr", "mean", "std", "bytes", *METHODS)


@dataclass(frozen=True)
class Preprocess:
    """image -> uint8 at the model's input size; and what real value a pixel then means.

    The order is: channels (grey is repeated; colour becomes ITU-R 601 luma), resizing, centre crop, channel order. Resizing is Pillow's:
    when it shrinks an image, bilinear, box, bicubic and lanczos average over all pixels they cover (antialiasing), as torchvision does
    and as OpenCV and ``tf.image.resize`` by default do not. Cropping starts at ``(H - h) // 2``.
    """

    size: tuple[int, int]  # (h, w) of the model's input
    channels: int  # 1 or 3
    resize: int | None = None  # shorter side after resizing; 0: straight to `size`, whatever the aspect; None: no resizing
    method: str = "bilinear"  # one of METHODS
    crop: bool = False  # centre crop to `size` after resizing
    order: str = "rgb"  # of the channels the model takes, or "bgr"
    mean: tuple[float, ...] | None = None  # real = (pixel - mean) / std, pixels 0..255, in the model's channel order
    std: tuple[float, ...] | None = None  # both None: not stated
    bytes: bool = False  # the device copies pixels into the input as they are; then nothing else is stated

    def apply(self, image: np.ndarray) -> np.ndarray:
        """``(H, W, c) uint8`` -> ``(h, w, channels) uint8``. Raises :class:`EdgeqError` where the size would not be the model's."""
        image = _with_channels(image, self.channels)
        if self.resize is not None:
            image = _resized(image, self._resized_size(*image.shape[:2]), self.method)
        height, width = self.size
        if self.crop and image.shape[0] >= height and image.shape[1] >= width:
            top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
            image = image[top : top + height, left : left + width]
        if image.shape[:2] != self.size:
            has = f"an image comes out as {image.shape[1]} x {image.shape[0]} pixels and the model takes {width} x {height}"
            raise EdgeqError(f"{has}; pass --preprocess imagenet (resize and crop) or --preprocess stretch")
        return np.ascontiguousarray(image[..., ::-1] if self.order == "bgr" else image)

    def _resized_size(self, height: int, width: int) -> tuple[int, int]:
        if not self.resize:
            return self.size
        short = min(height, width)
        resized = int(self.resize * height / short), int(self.resize * width / short)
        if resized[0] * resized[1] > MAX_RESIZED:
            raise EdgeqError(f"an image of {width} x {height} pixels would grow to {resized[1]} x {resized[0]}; pass --preprocess stretch")
        return resized

    @property
    def spec(self) -> str:
        """The ``--preprocess`` spelling; ``parse`` of it gives this value back."""
        words = [] if self.resize is None else ["stretch"] if self.resize == 0 else [f"resize={self.resize}"]
        if self.resize is not None or self.method != "bilinear":
            words.append(self.method)
        if self.crop:
            words.append("crop")
        if self.resize is None and not self.crop:
            words.insert(0, "none")
        if self.order != "rgb":
            words.append(self.order)
        if self.bytes:
            words.append("bytes")
        if self.mean is not None and self.std is not None:
            words += ["mean=" + ",".join(map(_short, self.mean)), "std=" + ",".join(map(_short, self.std))]
        return ",".join(words)

    @classmethod
    def parse(cls, text: str, size: tuple[int, int], channels: int, base: Preprocess | None = None) -> Preprocess:
        """The value that ``--preprocess`` spells: words with commas between them.

        ``none``; ``imagenet`` (shorter side to N/0.875, bilinear, centre crop); ``stretch`` (straight to the model's size);
        ``resize=146``; ``crop``; a method; ``rgb`` or ``bgr``; ``mean=..`` and ``std=..`` with one number or one a channel
        (``mean=123.7,116.8,103.9``), in pixels 0..255; ``bytes`` where the device copies pixels as they are. What
        ``text`` leaves open is taken from ``base``. Raises :class:`EdgeqError`.
        """
        stated: dict[str, object] = {}
        for key, values in _words(text):
            if key in ("none", "imagenet", "stretch", "resize", "crop"):
                stated.setdefault("resize", None)
                stated.setdefault("crop", False)
            if key == "resize":
                stated["resize"] = _side(values, text)
            elif key in ("mean", "std"):
                stated |= {"bytes": False, key: _reals(key, values, channels, text)}
            elif key == "bytes":
                stated |= {"bytes": True, "mean": None, "std": None}
            elif key in ("imagenet", "crop"):
                stated["crop"] = True
                if key == "imagenet":
                    stated |= {"resize": _imagenet_side(size), "method": "bilinear"}
            elif key == "stretch":
                stated["resize"] = 0
            elif key in METHODS:
                stated["method"] = key
            elif key in ("rgb", "bgr"):
                stated["order"] = key
        if "bytes" in (words := [key for key, _ in _words(text)]) and {"mean", "std"} & {*words}:
            raise EdgeqError(f"--preprocess {text}: bytes are copied as they are, without mean and std; state one of them")
        if ("mean" in stated) != ("std" in stated):
            raise EdgeqError(f"--preprocess {text}: mean and std go together; a pixel p enters as (p - mean) / std")
        _check_channels(channels)
        return dataclasses.replace(base or cls(size, channels), **stated)  # type: ignore[arg-type]

    @property
    def geometry(self) -> str:
        """Resizing and cropping, in words."""
        height, width = self.size
        if self.resize is None:
            return f"centre crop to {width} x {height}" if self.crop else f"none: images have the model's {width} x {height} pixels"
        how = f"{self.method}{'' if self.method == 'nearest' else ', antialiased'}"
        if self.resize == 0:
            return f"straight to {width} x {height} pixels ({how})"
        return f"shorter side to {self.resize} pixels ({how})" + (f", centre crop to {width} x {height}" if self.crop else "")


def default(size: tuple[int, int], channels: int, image_shape: tuple[int, ...]) -> tuple[Preprocess, str]:
    """What is done where nobody says anything, and the sentence that is printed about it.

    Nothing for images that have the model's size; else ``imagenet``: shorter side to ``round(N / 0.875)``, bilinear, centre crop N (N is
    the longer side of the model's input). ``image_shape``: ``(H, W, c)`` of one image of the data.
    """
    _check_channels(channels)
    chosen = Preprocess(size, channels)
    name = "none"
    if tuple(image_shape[:2]) != tuple(size):
        chosen, name = Preprocess.parse("imagenet", size, channels), "imagenet"
    words = chosen.geometry if name == "none" else f"{name}: {chosen.geometry}"
    if image_shape[2] != channels:
        words += "; colour becomes grey (ITU-R 601 luma)" if channels == 1 else "; grey is repeated in 3 channels"
    return chosen, f"preprocessing by default, {words} (--preprocess overrides)"


def resolve(
    size: tuple[int, int],
    channels: int,
    image_shape: tuple[int, ...],
    override: str | None = None,
    stated: str | None = None,
    where: str = "",
) -> tuple[Preprocess, str]:
    """``--preprocess`` (``override``) over what the file ``stated`` (in ``where``) over :func:`default`; and the sentence to print.

    Each fills in only what it mentions: TFLite metadata states mean and std, but no resizing, so resizing is the default's.
    """
    chosen, sentence = default(size, channels, image_shape)
    if stated:
        chosen = Preprocess.parse(stated, size, channels, chosen)
        sentence = f"preprocessing from {where}: {stated}; so {chosen.geometry}"
    if override:
        chosen = Preprocess.parse(override, size, channels, chosen)
        sentence = f"preprocessing as given, {override}: {chosen.geometry}"
    return chosen, sentence


def _words(text: str) -> list[tuple[str, list[str]]]:
    """``a=1,2,b`` as ``[(a, [1, 2]), (b, [])]``: a bare number belongs to the key before it."""
    words: list[tuple[str, list[str]]] = []
    for token in text.split(","):
        key, equals, value = token.strip().partition("=")
        if words and words[-1][1] and not equals and _is_number(key):
            words[-1][1].append(key)
            continue
        key = key.lower()
        if key not in _KEYS or bool(equals) != (key in ("resize", "mean", "std")):
            near = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near and near[0] != key else "write for example imagenet or resize=146,bilinear,crop"
            raise EdgeqError(f"--preprocess {text}: does not know {token.strip()!r}; {hint}")
        if key in (k for k, _ in words):
            raise EdgeqError(f"--preprocess {text}: says {key} twice")
        words.append((key, [value.strip()] if equals else []))
    return words


def _side(values: list[str], text: str) -> int:
    if len(values) != 1 or not values[0].isdecimal() or len(values[0]) > 4 or int(values[0]) > 8192:
        raise EdgeqError(f"--preprocess {text}: resize takes the shorter side in pixels, a whole number up to 8192")
    return int(values[0])


def _reals(key: str, values: list[str], channels: int, text: str) -> tuple[float, ...]:
    if not all(map(_is_number, values)) or len(values) not in (1, channels):
        raise EdgeqError(f"--preprocess {text}: {key} takes one number, or {channels}, one a channel")
    reals = tuple(float(v) for v in values)
    if key == "std" and min(reals) <= 0:
        raise EdgeqError(f"--preprocess {text}: std must be above 0")
    if key == "std" and max(reals) < 1:  # the habit of frameworks that divide by 255 first
        pixels = ",".join(_short(round(255 * v, 6)) for v in reals)
        raise EdgeqError(f"--preprocess {text}: mean and std count in pixels 0..255: multiply both by 255 (std={pixels})")
    return reals


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False


def _short(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _imagenet_side(size: tuple[int, int]) -> int:
    return round(max(size) / 0.875)


def _check_channels(channels: int) -> None:
    if channels not in (1, 3):
        raise EdgeqError(f"the model takes {channels} channels; edgeq attacks images with 1 (grey) or 3 (colour)")


def _with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    from PIL import Image

    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    return np.asarray(Image.fromarray(image).convert("L"))[..., None]


def _resized(image: np.ndarray, size: tuple[int, int], method: str) -> np.ndarray:
    from PIL import Image

    if image.shape[:2] == size:
        return image
    stored = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    resized = np.asarray(stored.resize((size[1], size[0]), Image.Resampling[method.upper()]))
    return resized.reshape(*size, image.shape[2])
