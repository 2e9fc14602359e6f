"""What one who does units needs beside the units themselves: the targets of a run, as a value that can be sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import edgeq
from edgeq.core.errors import EdgeqError
from edgeq.core.files import scratch
from edgeq.integer.read import parts, sha256
from edgeq.keras import engine, trust
from edgeq.runs.plan import Plan
from edgeq.runs.store import Run
from edgeq.targets.opener import Bench
from edgeq.targets.spec import TargetSpec


@dataclass(frozen=True)
class Parcel:
    """An artifact that travels: its name, and names and contents of its files (several for a folder, and for an ``.onnx`` with weights in a
    second file), relative to where it lies."""

    name: str
    files: tuple[tuple[str, bytes], ...]

    @classmethod
    def of(cls, path: Path) -> Parcel:
        """Raises OSError."""
        return cls(path.name, tuple((file.relative_to(path.parent).as_posix(), file.read_bytes()) for file in parts(path)))

    def unpack(self, hash: str, folder: Path) -> Path:
        """The artifact, in a folder of ``folder`` that is called by its SHA-256. Raises :class:`EdgeqError` for another content."""
        for name, content in self.files:
            file = folder / hash / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        path = folder / hash / self.name
        if sha256(path) != hash:
            raise EdgeqError(f"{self.name}: reached this worker as another file than was sent; start the run again")
        return path


@dataclass(frozen=True)
class Kit:
    """``specs``: the targets that can run; ``files``: their artifacts by SHA-256, where they lie, or as parcels; ``threads``: of each
    target; ``clamps``: see :class:`~edgeq.targets.opener.Bench`; ``float_threads``: of TensorFlow; ``trusted``: whose code may run."""

    specs: tuple[TargetSpec, ...]
    files: Mapping[str, Path | Parcel]
    threads: int | None
    clamps: tuple[str, ...]
    float_threads: int
    trusted: trust.Trusted
    version: str = edgeq.__version__

    def packed(self) -> Kit:
        """The same with its files' contents, for another machine."""
        return replace(self, files={hash: Parcel.of(file) if isinstance(file, Path) else file for hash, file in self.files.items()})

    @contextmanager
    def opened(self) -> Iterator[Bench]:
        """The targets, each opened when it is first asked, closed at the end."""
        engine.fix_threads(self.float_threads)
        unpacked: dict[str, Path] = {}
        with scratch() if any(isinstance(file, Parcel) for file in self.files.values()) else nullcontext() as folder:

            def place(hash: str) -> Path:
                file = self.files[hash]
                if isinstance(file, Path):
                    return file
                if hash not in unpacked:
                    assert folder is not None
                    unpacked[hash] = file.unpack(hash, folder)
                return unpacked[hash]

            with Bench(self.specs, place, self.threads, self.clamps) as bench:
                yield bench

    @contextmanager
    def elsewhere(self) -> Iterator[Bench]:
        """As :meth:`opened`, in a process that works for the one that made this value: what was trusted there is trusted here."""
        with scratch() as folder:
            trust.grant(self.trusted, folder)
            with self.opened() as bench:
                yield bench


def openable(run: Run) -> list[TargetSpec]:
    """The targets of a run that can be opened, and those that are derived from them."""
    files = {a.sha256 for a in run.artifacts()}
    return [t.spec for t in run.targets(running=True) if not t.spec.artifact or t.spec.artifact in files]


def of(run: Run, plan: Plan, float_threads: int) -> Kit:
    """The kit of a run, whose files lie on this machine."""
    paths = {a.sha256: Path(a.file) for a in run.artifacts()}
    return Kit(tuple(openable(run)), paths, plan.threads, plan.clamps, float_threads, trust.granted())
