"""TensorFlow itself: imported late, quietly, and with a sentence where it is missing."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from edgeq.core import cpu
from edgeq.core.errors import EdgeqError
from edgeq.core.files import scratch


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing reaches file descriptor 2: TensorFlow's C++ logs ignore Python's streams and most of its own switches."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)


@contextlib.contextmanager
def generated() -> Iterator[None]:
    """Python files that AutoGraph writes meanwhile, one a function, lie in a scratch folder: TensorFlow removes them when its process ends
    by itself, and not when it is killed."""
    with scratch() as folder:
        before, tempfile.tempdir = tempfile.tempdir, str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before


def need(name: str, extra: str = "keras") -> Any:
    """The module ``name``; :class:`EdgeqError` naming the extra to install where it is missing."""
    if (module := sys.modules.get(name)) is not None:
        return module
    try:
        with quiet():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise EdgeqError(f'this needs {error.name}, which is not installed; pip install "edgeq[{extra}]"') from None


_threads: int | None = None


def fix_threads(count: int) -> None:
    """Has TensorFlow compute with ``count`` threads from its first operation on: the last bits of its sums may depend on their number.

    Imports nothing. In a process in which TensorFlow has computed already it changes nothing; :func:`identity` states what holds.
    """
    global _threads
    _threads = count
    if (tf := sys.modules.get("tensorflow")) is not None:
        _apply_threads(tf)


def tensorflow() -> Any:
    """``tensorflow``, with ``tf.keras`` being Keras 2 (about 5 s the first time)."""
    fresh = "tensorflow" not in sys.modules
    tf = need("tensorflow")
    need("tf_keras")
    if fresh:
        _apply_threads(tf)
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return tf


def identity() -> dict[str, Any]:
    """What the last bits of TensorFlow's sums depend on, beside the network and the batch."""
    tf = tensorflow()
    return {
        "engine": "tensorflow",
        "version": tf.__version__,
        "cpu": platform.machine(),
        "instructions": list(cpu.flags()),
        "threads": tf.config.threading.get_intra_op_parallelism_threads() or cpu.count(),
    }


def _apply_threads(tf: Any) -> None:
    if _threads is not None:
        with contextlib.suppress(RuntimeError):  # it has computed already
            tf.config.threading.set_intra_op_parallelism_threads(_threads)
