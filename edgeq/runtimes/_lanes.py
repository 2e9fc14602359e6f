"""A target that spreads images over lanes: workers that each own one single-threaded interpreter.

Lanes rather than one interpreter with many threads: a lane's arithmetic never depends on how many others there are, encoding runs in
the lanes too, and small layers do not wait for each other (measured on ResNet8: never slower, and 1.4 times as fast on the builtin
kernels). ``invoke`` releases the interpreter lock.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature


class Lane(Protocol):
    """One worker. Only one thread uses it at a time."""

    def run(self, images: np.ndarray, out: np.ndarray) -> None:
        """Answers ``(j, h, w, c) uint8`` images, ``j`` at most the chunk, into ``out`` ``(j, k)``."""
        ...

    def close(self) -> None: ...


class Lanes:
    """A :class:`~edgeq.core.protocols.Target` over lanes that each take ``chunk`` images at once."""

    def __init__(self, name: str, signature: Signature, lanes: Sequence[Lane], chunk: int, batch: int, identity: dict[str, Any]) -> None:
        self.name = name
        self.signature = signature
        self.chunk = chunk
        # whole chunks for every lane, so that none waits for another; at least one round
        round_ = chunk * len(lanes)
        self.batch = max(1, batch // round_) * round_
        self._lanes = lanes
        self._identity = identity
        self._pool = ThreadPoolExecutor(len(lanes), thread_name_prefix=name) if len(lanes) > 1 else None

    def answer(self, images: np.ndarray) -> Answer:
        """Answers to ``(m, h, w, c) uint8`` images, any ``m``; a row's answer does not depend on the others."""
        check_images(self.name, self.signature, images)
        raw = np.empty((len(images), self.signature.width), self.signature.output.dtype)
        self.fill(images, raw)
        return as_answer(self.signature, raw)

    def fill(self, images: np.ndarray, raw: np.ndarray) -> None:
        """Writes the raw outputs of ``(m, h, w, c) uint8`` images into ``raw``, ``(m, k)`` in the output's dtype."""
        shares = pieces(len(images), self.chunk, len(self._lanes))
        busy = self._lanes[: len(shares)]
        queue = iter(shares)

        def work(lane: Lane) -> None:
            for piece in queue:  # one iterator for all: a lane that is done early takes the next piece
                lane.run(images[piece], raw[piece])

        if self._pool is None or len(busy) == 1:
            for lane in busy:
                work(lane)
        else:
            for job in [self._pool.submit(work, lane) for lane in busy]:
                job.result()

    def identity(self) -> dict[str, Any]:
        """Engine, version, kernel set, instruction set, and the rule that breaks ties: what makes this runtime this function."""
        return dict(self._identity)

    def close(self) -> None:
        """Releases interpreters, threads and processes; the target answers no more."""
        if self._pool is not None:
            self._pool.shutdown()
        for lane in self._lanes:
            lane.close()
        self._lanes = ()


def check_images(name: str, signature: Signature, images: np.ndarray) -> None:
    """Raises ValueError for what is no batch of uint8 images of this signature."""
    if images.dtype != np.uint8 or images.shape[1:] != signature.input.shape:
        raise ValueError(f"{name} takes uint8 images of shape {signature.input.shape}, not {images.dtype} of {images.shape[1:]}")


def as_answer(signature: Signature, raw: np.ndarray) -> Answer:
    """What the raw outputs ``(m, k)`` of a file say."""
    if signature.kind == "label":
        return Answer("label", raw[:, 0].astype(np.int64))
    return Answer(signature.kind, raw, signature.output.scale, signature.output.zero)


def pieces(count: int, chunk: int, lanes: int) -> list[slice]:
    """``count`` images in slices of at most ``chunk``: a multiple of ``lanes``, nearly equal, so that no lane idles at the end."""
    rounds = -(-count // (chunk * lanes))
    number = min(count, rounds * lanes)
    bounds = [i * count // max(number, 1) for i in range(number + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(bounds)]


def best_chunk(activation_bytes: int, most: int) -> int:
    """Images a lane takes at once: as many as keep the widest layer's input and output in half a megabyte, at most ``most``.

    Larger batches leave the second-level cache and are slower on every kernel set (ResNet8: 64 loses 5 %, 256 loses 30 %).
    """
    return int(np.clip(2**19 // max(activation_bytes, 1), 1, max(most, 1)))


def check_batching(make: Callable[[], Lane], signature: Signature, chunk: int) -> bool:
    """Whether a lane's answers to several images at once are, bit by bit, its answers to each alone, in any order.

    ``chunk`` images are tried, at least 2 and at most 16: float kernels may sum in another order for another number of rows.
    """
    count = min(max(chunk, 2), 16)
    images = np.random.default_rng(0).integers(0, 256, (count, *signature.input.shape), np.uint8)
    width = signature.width

    def answers(groups: list[np.ndarray]) -> np.ndarray:
        lane = make()
        try:
            out = [np.empty((len(g), width), signature.output.dtype) for g in groups]
            for group, space in zip(groups, out, strict=True):
                lane.run(group, space)
            return np.concatenate(out)
        finally:
            lane.close()

    alone = answers([images[i : i + 1] for i in range(count)])
    try:
        together = answers([images, np.ascontiguousarray(images[::-1])])
    except (RuntimeError, ValueError, EdgeqError):  # a graph whose batch cannot be changed
        return False
    return np.array_equal(together, np.concatenate([alone, alone[::-1]]), equal_nan=True)
