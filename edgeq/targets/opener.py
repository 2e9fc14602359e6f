"""The one way to open targets, sources of gradients and what attacks see of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeq import runtimes
from edgeq.core.errors import EdgeqError
from edgeq.core.protocols import Target
from edgeq.pipeline.codes import PixelCodes
from edgeq.targets import views
from edgeq.targets.ensemble import Ensemble, Mean
from edgeq.targets.spec import KERAS, TargetSpec

BATCH = 256  # images that a target is asked at once
GRADIENTS = 128  # rows whose gradients are taken at once; fewer of a slow network
CLAMPS = ("clipped", "through")


class Bench:
    """Targets by id, each opened when it is first asked for, and once. A context manager: what was opened is closed with it.

    ``files``: from an artifact's SHA-256 to where it lies on this machine. ``threads``: of each target; by default all cores.
    ``clamps``: what a clamp of a file's integer graph lets pass backwards; a file is one source for each.
    ``identities``: of all that was opened so far: of targets by id, of what differentiates a file by :func:`gradients_of` its id.
    """

    def __init__(
        self, specs: Iterable[TargetSpec], files: Callable[[str], Path], threads: int | None = None, clamps: Sequence[str] = CLAMPS
    ) -> None:
        self.specs = {spec.id: spec for spec in specs}
        self._files, self._threads, self._clamps = files, threads, clamps
        self._stack = ExitStack()
        self._opened: dict[tuple[str, str], Any] = {}
        self.identities: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.clear()
        self._stack.close()

    def target(self, id: str) -> Target:
        """What answers as ``id``. Raises :class:`EdgeqError`."""
        target: Target = self._once(id, "", self._target)
        if id not in self.identities:
            self.identities[id] = target.identity()
        return target

    @contextmanager
    def shown(self, id: str, codes: PixelCodes) -> Iterator[Target]:
        """``id`` with another map from pixels to its input, for as long as the context lasts. Raises :class:`EdgeqError`."""
        spec = self.specs[id]
        target = open_target(replace(spec, codes=codes), self._files(spec.artifact), self._threads)
        try:
            yield target
        finally:
            target.close()

    def seen(self, id: str, access: str) -> Target:
        """What a query attack gets of ``id`` at a level of the access ladder. Raises :class:`EdgeqError`."""
        view: Target = self._once(id, access, lambda spec: self._view(spec, access))
        return view

    def sources(self, id: str, batch: int = GRADIENTS) -> dict[str, Any]:
        """The gradients of ``id``, by clamp: a float network has none (""), a file of integers is one source for each.

        ``batch``: rows at once, on which their last bits depend; what asks for others last is what ``identities`` says of them.
        """
        sources: dict[str, Any] = self._once(id, f"gradients {batch}", lambda spec: self._sources(spec, batch))
        if self.specs[id].runtime != KERAS or batch != GRADIENTS:
            self.identities[gradients_of(id)] = next(iter(sources.values())).identity()
        else:  # a float network is its own source
            self.identities.pop(gradients_of(id), None)
        return sources

    def _once(self, id: str, what: str, make: Callable[[TargetSpec], Any]) -> Any:
        if (id, what) not in self._opened:
            self._opened[id, what] = make(self.specs[id])
        return self._opened[id, what]

    def _target(self, spec: TargetSpec) -> Target:
        if spec.derived == "ensemble":
            return Ensemble(spec.id, {member: self.target(member) for member in spec.members}, spec.agree)
        if spec.derived == "mean":
            return Mean(spec.id, {member: self.target(member) for member in spec.members})
        target = open_target(spec, self._files(spec.artifact), self._threads)
        self._stack.callback(target.close)
        return target

    def _view(self, spec: TargetSpec, access: str) -> Target:
        real = self.target(spec.id)
        if access == "label":
            return views.labels(real)
        if access != "logits" or spec.runtime == KERAS or spec.signature is None or spec.signature.kind == "logits":
            return real
        bare_file = self._stack.enter_context(views.stripped(self._files(spec.artifact)))
        signature = runtimes.probe(spec.runtime, bare_file, output="logits")
        bare = open_target(replace(spec, signature=signature), bare_file, self._threads)
        self._stack.callback(bare.close)
        return views.logits(real, bare, signature.input.shape)

    def _sources(self, spec: TargetSpec, batch: int) -> dict[str, Any]:
        if spec.derived == "mean":
            several = {member: self.sources(member, batch) for member in spec.members}
            clamps = [c for c in self._clamps if any(c in by_clamp for by_clamp in several.values())] or [""]
            return {c: Mean(spec.id, {id: by_clamp.get(c) or by_clamp[""] for id, by_clamp in several.items()}) for c in clamps}
        if spec.runtime == KERAS and batch == GRADIENTS:
            return {"": self.target(spec.id)}
        assert spec.codes is not None
        if spec.runtime == KERAS:
            return {"": _network(spec, self._files(spec.artifact), batch)}
        from edgeq.integer import read
        from edgeq.keras.ste.source import SteSource

        (graph, kind), runtime = read.differentiable(self._files(spec.artifact)), runtimes.real(spec.runtime)
        codes = PixelCodes.of_reals(spec.codes.real) if kind and graph.tensors[graph.input].dtype == "float32" else spec.codes
        if graph.floating:  # its clamps are activations, and all sources would be one
            return {"": SteSource(graph, codes, runtime, batch=batch)}
        return {clamp: SteSource(graph, codes, runtime, clamp, batch) for clamp in self._clamps}


def gradients_of(id: str) -> str:
    """What to call that which differentiates a target."""
    return f"the gradients of {id}"


def open_target(spec: TargetSpec, file: Path, threads: int | None = None) -> Target:
    """The file of ``spec``, which was probed before, in its runtime. Raises :class:`EdgeqError`."""
    if spec.signature is None or spec.codes is None:
        raise EdgeqError(f"{file}: how a pixel enters {spec.id} is not known, so it cannot be asked; start a new run")
    if spec.runtime == KERAS:
        return _network(spec, file, GRADIENTS)
    return runtimes.open(spec.runtime, file, spec.signature, spec.codes, batch=BATCH, threads=threads)


def _network(spec: TargetSpec, file: Path, batch: int) -> Any:
    """The float network of ``spec``, of several outputs the one that it names; ``batch``: rows whose gradients are taken at once."""
    from edgeq.keras import source

    assert spec.signature is not None
    assert spec.codes is not None
    given, kind = spec.signature.output, spec.signature.kind
    return source.open(file, spec.codes.real, batch, given.name or (kind if (given.shape, kind) == ((1,), "logits") else None))
