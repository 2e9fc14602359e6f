"""A model file in a runtime, to be asked by hand or attacked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature
from edgeq.pipeline.preprocess import Preprocess, resolve
from edgeq.targets.opener import Bench
from edgeq.targets.probing import probe, stated
from edgeq.targets.spec import Artifact, TargetSpec, networks


class OpenTarget:
    """What :func:`open` gives: a context manager. Its runtime starts with the first answer, and ends with :meth:`close`.

    ``file``: the model; ``spec``: who it is, with its runtime, its input codes and its :attr:`signature`; ``classes``: its class names in
    order, where the file or its sidecar states them. ``preprocess``, ``output``, ``threads``: as they were given to :func:`open`.
    """

    def __init__(self, file: Path, runs: Path, spec: TargetSpec, preprocess: str | None, output: str | None, threads: int | None) -> None:
        """``runs``: what the runtime runs, ``file`` or, in ORT, the ``.onnx`` that was made from it."""
        self.file, self.spec = file, spec
        self.preprocess, self.output, self.threads = preprocess, output, threads
        self._stated, self.classes, self._where = stated(file, output)
        self._bench: Bench | None = Bench([spec], lambda _: runs, threads)

    @property
    def signature(self) -> Signature:
        """What goes in and out: ``signature.input.shape`` is ``(h, w, c)``, ``signature.classes`` how many classes it tells apart."""
        assert self.spec.signature is not None
        return self.spec.signature

    def answer(self, images: np.ndarray) -> Answer:
        """Answers to ``images``, ``(m, h, w, c) uint8`` of the model's input size, 0..255, any ``m``; a row's answer depends on no other.

        ``.label()`` is ``(m,) int64``, ``.values()`` ``(m, k) float32`` probabilities or logits, ``.raw`` what the runtime returned. Raises
        :class:`EdgeqError` for images of another shape or dtype, and where the target is closed.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != self.signature.input.shape or not len(images):
            wanted = ", ".join(map(str, self.signature.input.shape))
            raise EdgeqError(f"{self.file.name}: takes (m, {wanted}) uint8 images, and not {images.shape} {images.dtype}")
        if self._bench is None:
            raise EdgeqError(f"{self.file.name}: is closed; open it again with edgeq.open")
        return self._bench.target(self.spec.id).answer(images)

    def prepared(self, stored: tuple[int, ...]) -> Preprocess:
        """How stored images of the shape ``(H, W, c)`` come to this model's input, as they would on the device."""
        h, w, c = self.signature.input.shape
        return resolve((h, w), c, stored, self.preprocess, self._stated, self._where)[0]

    def close(self) -> None:
        """Ends the runtime. A second call does nothing."""
        if self._bench is not None:
            self._bench.__exit__()
            self._bench = None

    def __enter__(self) -> OpenTarget:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        h, w, c = self.signature.input.shape
        return f"<{self.spec.id}: {h} x {w} x {c} uint8 -> {self.signature.kind} of {self.signature.classes or '?'} classes>"


def open(
    file: str | Path,
    runtime: str | None = None,
    *,
    preprocess: str | None = None,
    output: str | None = None,
    threads: int | None = None,
) -> OpenTarget:
    """The ``.tflite``, ``.onnx`` or Keras network ``file`` in ``runtime``: by default the first that runs it, in worker processes.

    ``preprocess``: how the device prepares an image, where the file does not say, as in ``"imagenet"`` or ``"mean=127.5,std=127.5"``;
    ``output``: ``"label"``, ``"probs"`` or ``"logits"``, where it does not say; ``threads``: by default all cores.

    The file is tried on two images first. Raises :class:`EdgeqError` where there is no such file, no runtime runs it, or what a pixel
    means to it is not known.
    """
    path = Path(file)
    asked = () if runtime is None else (runtime,)
    probed = probe(path, asked, output)
    probed.notes(asked)  # raises where a runtime was lost that would have been taken
    h, w, c = probed.signature.input.shape
    spec, _, where = stated(path, output)
    prepare, _ = resolve((h, w), c, (h, w, c), preprocess, spec, where)
    (name,) = networks([Artifact.of(path)])
    chosen = next(spec for spec, _ in probed.specs(name, prepare) if spec.runtime == probed.main)
    return OpenTarget(path, probed.files[probed.main], chosen, preprocess, output, threads)
