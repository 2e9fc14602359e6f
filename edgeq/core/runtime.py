"""What a runtime is: an engine with one kernel set that answers for model files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.core.protocols import Target
from edgeq.core.signature import Signature


class Codes(Protocol):
    """Pixels to input codes; :class:`edgeq.pipeline.codes.PixelCodes`."""

    def encode(self, images: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """``(m, h, w, c) uint8`` to the input's dtype, into ``out`` (which may be a strided view)."""
        ...

    def to_json(self) -> dict[str, Any]:
        """All that another process needs to know of it."""
        ...


class Opened(Target, Protocol):
    """A file in a runtime, in this process; :class:`edgeq.runtimes.Lanes` is one."""

    chunk: int  # images that are run at once

    def fill(self, images: np.ndarray, raw: np.ndarray) -> None:
        """Writes the raw outputs of ``(m, h, w, c) uint8`` images, any ``m``, into ``raw``, ``(m, k)`` in the output's dtype."""
        ...


InnerTensors = Callable[[np.ndarray, list[int]], dict[int, np.ndarray]]
"""``(1, h, w, c) uint8``, one image, and indices of tensors in the file -> index -> its values, of those that the runtime keeps."""


class Runtime(Protocol):
    """All that is special about a runtime. A value of this type is the ``plugin`` of a file in ``edgeq/runtimes``.

    A class that derives from it has the defaults given here. Its module imports no engine: ``open``, ``measure`` and ``tensors`` do, and
    are called in a worker process only, within limits, as files are untrusted.
    """

    name: str
    forms: tuple[str, ...]  # the files that it runs: ".tflite", ".onnx"
    modules: tuple[str, ...] = ()  # that must be importable; the worker imports them before its clock runs
    missing: str = ""  # what to say where one is not: what is not installed, and what to do
    rank: int = 100  # runtimes are tried and listed by rising rank; equal ranks by name
    listed: bool = True  # False: it is asked for by name only
    stands_in_for: str | None = None  # the runtime whose answers it computes: what attacks on it find is confirmed there
    simulated: bool = False  # the integer simulator (``edgeq/integer``) knows its rounding, or that of what it stands in for
    in_process: bool = False  # it runs no native code on the file, and answers in this process
    holds_lock: bool = False  # its engine holds Python's lock while it runs: lanes are processes
    silent: bool = False  # its errors do not say why, what it prints does

    @abstractmethod
    def open(self, path: str | Path, signature: Signature, codes: Codes, *, batch: int, threads: int) -> Opened:
        """The file, which is one of ``forms``. ``batch``: images asked at once, at most, where that fills the ``threads`` lanes.

        Answers depend on neither. Raises :class:`EdgeqError`; any other exception is taken for the engine's refusal of the file.
        """
        ...

    def memory(self, size: int, activations: int, lanes: int) -> int | None:
        """Bytes of memory that it may take with a file of ``size`` bytes, whose activations take ``activations`` bytes in 4-byte numbers,
        open in so many lanes; None: what most engines need (``docs/runtimes.md``)."""
        return None

    def measure(self, path: str | Path) -> dict[str, Any]:
        """What else the engine can tell of a file, as JSON takes it."""
        return {}

    def tensors(self, path: str | Path, signature: Signature, codes: Codes) -> InnerTensors:
        """The activations inside the file. Raises :class:`EdgeqError` where the engine does not keep those that the file states."""
        raise EdgeqError(f"{path}: its inner tensors are not those that the file states")
