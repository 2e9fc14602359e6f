"""From a model file to the runtimes that run it, and what goes in and out of it there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeq import runtimes
from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature
from edgeq.integer.read import sha256
from edgeq.pipeline import codes as pixel_codes
from edgeq.pipeline import metadata, sidecar
from edgeq.pipeline.preprocess import Preprocess
from edgeq.targets.spec import KERAS, Artifact, Role, TargetSpec, is_float


@dataclass(frozen=True, eq=False)
class Probed:
    """A model file. ``files``: what each runtime runs, the file or its ``.onnx`` sibling; ``answers``: its signature there, or why not."""

    path: Path
    files: dict[str, Path]
    answers: dict[str, Signature | EdgeqError]

    @property
    def main(self) -> str:
        """The runtime that is attacked: the first that runs the file."""
        return next(name for name, answer in self.answers.items() if isinstance(answer, Signature))

    @property
    def signature(self) -> Signature:
        answer = self.answers[self.main]
        assert isinstance(answer, Signature)
        return answer

    def reason(self, runtime: str) -> str:
        """Why ``runtime`` does not run it, in words; "" where it does."""
        answer = self.answers[runtime]
        if isinstance(answer, Signature):
            return ""
        return str(answer).removeprefix(f"{self.files[runtime]}: ").removeprefix(f"{runtime} cannot run it: ").removeprefix(f"{runtime}: ")

    def notes(self, asked: Sequence[str]) -> list[str]:
        """Sentences on runtimes before the attacked one that cannot run the file, and on those whose process was lost.

        Raises :class:`~edgeq.runtimes.LostError` where that would choose the runtime that is attacked, or is one of ``asked``: next time
        it may run.
        """
        wanted, before, sentences = {n for name in asked for n in (name, runtimes.real(name))}, True, list[str]()
        left: list[str] = []
        for name, answer in self.answers.items():
            before = before and name != self.main
            if isinstance(answer, runtimes.LostError):
                if before or name in wanted:
                    raise runtimes.LostError(f"{answer}; no other runtime is taken in its place: try again, or name others with --runtime")
                sentences.append(f"warning: {name} is left out: {answer}")
            elif before:
                left.append(name)
        if left:
            verb = "does" if len(left) == 1 else "do"
            sentences.append(f"{self.main} is attacked, as {', '.join(left)} {verb} not run the file")
        return sentences

    def specs(self, network: str, preprocess: Preprocess, role: Role = "target") -> list[tuple[TargetSpec, str]]:
        """Its targets in the order of its runtimes, each with the reason why it cannot run, or ""."""
        specs = []
        for name, file in self.files.items():
            answer, artifact = self.answers[name], Artifact.of(file)
            stands_for = runtimes.real(name)
            derived = ("stand-in", (f"{network}/{stands_for}",)) if stands_for != name else ("", ())
            spec = TargetSpec(f"{network}/{name}", network, artifact.sha256, name, role, *derived)
            if isinstance(answer, Signature):
                spec = replace(spec, signature=answer, codes=pixel_codes.codes_for(answer.input, preprocess, str(file)))
            specs.append((spec, self.reason(name)))
        return specs


def probe(path: Path, asked: Sequence[str] = (), output: str | None = None) -> Probed:
    """``path`` opened in each of the runtimes ``asked`` for, or in all that run files of its format; in processes of their own.

    ``output``: what its output is, where it does not say; or which one, of a Keras network with several.
    Raises :class:`EdgeqError` where none runs it.
    """
    if not path.exists():
        raise EdgeqError(f"{path}: there is no such file")
    if path.is_dir() and not (path / "saved_model.pb").is_file():
        raise EdgeqError(f"{path}: is a folder, and no SavedModel; pass a .tflite, .onnx, .h5 or .keras file")
    files = _files(path, asked)
    answers = _signatures(files, output or (None if is_float(path) else sidecar.output_kind(path, sha256(path))))
    if not any(isinstance(answer, Signature) for answer in answers.values()):
        raise next(error for error in answers.values() if isinstance(error, EdgeqError))
    for name in files:  # a stand-in was asked for by name: the interpreter alone would be another run
        if runtimes.real(name) != name and isinstance(error := answers[name], EdgeqError):
            raise error
    return Probed(path, files, answers)


def stated(path: Path, output: str | None = None) -> tuple[str | None, list[str] | None, str]:
    """What :func:`edgeq.pipeline.metadata.stated` gives; and of a Keras network whose graph normalises its own pixels, which nobody speaks
    of, that they go in as they are."""
    spec, labels, where = metadata.stated(path)
    if is_float(path) and "mean=" not in (spec or ""):
        from edgeq.keras.load import load

        if own := load(path, output).preprocess:
            spec, where = ",".join(filter(None, (spec, own))), " and ".join(filter(None, (where, "its graph")))
    return spec, labels, where


def own_normalisation(path: Path, preprocess: Preprocess, output: str | None = None) -> list[str]:
    """A sentence where a Keras network normalises its own pixels: that it does, and what ``preprocess`` gives it."""
    if not is_float(path):
        return []
    from edgeq.keras.load import load

    own = load(path, output).normalised
    if own is None:
        return []
    if preprocess.mean is None or preprocess.std is None or ({*preprocess.mean}, {*preprocess.std}) == ({0}, {1}):
        return [f"{own}; pixels 0..255 go in as they are"]
    given = f"mean {', '.join(f'{v:g}' for v in preprocess.mean)} and std {', '.join(f'{v:g}' for v in preprocess.std)}"
    if own.takes_pixels:
        return [f"warning: {own}, and pixels are normalised with {given} before; pass --preprocess mean=0,std=1 to have it done once"]
    return [f"{own}, after pixels were normalised with {given}"]


def fitting(path: Path, asked: Sequence[str]) -> tuple[str, ...]:
    """Of the runtimes that several files are asked to run on, those that run this one; none for a float network, which has only one.

    Raises :class:`EdgeqError` where none is left.
    """
    if is_float(path) or not asked:
        return ()
    onnx, tflite = set(runtimes.listed(".onnx")), path.suffix != ".onnx"
    unfit = {KERAS} | (onnx if tflite and _sibling(path) is None else set())
    left = tuple(name for name in asked if name not in unfit and (tflite or name in onnx))
    if not left:
        raise EdgeqError(f"{path}: none of --runtime {','.join(asked)} runs it; name one that does as well")
    return left


def _files(path: Path, asked: Sequence[str]) -> dict[str, Path]:
    """The file that each runtime in question would run: the file itself, or for ORT the ``.onnx`` sibling that its sidecar names."""
    if is_float(path):
        if asked and tuple(asked) != (KERAS,):
            raise EdgeqError(f"{path}: only the runtime keras runs a Keras network; edgeq export makes files for the others")
        return {KERAS: path}
    if path.suffix == ".onnx":
        if asked and tuple(asked) != ("ort",):
            raise EdgeqError(f"{path}: only the runtime ort runs an .onnx file; pass the .tflite beside it for the others")
        return {"ort": path}
    sibling = _sibling(path)
    names = tuple(asked) or (*runtimes.listed(".tflite"), *(runtimes.listed(".onnx") if sibling else ()))
    names = tuple(dict.fromkeys((*names, *(runtimes.real(n) for n in names))))  # a stand-in is confirmed on what it stands in for
    for name in names:
        if name == KERAS:
            raise EdgeqError(f"{path}: keras runs Keras networks; pass one as --source and it is measured beside the others")
        if name == "ort" and sibling is None:
            raise EdgeqError(f"{path}: ort runs .onnx files, and no sidecar names a sibling; make one with edgeq export")
    return {name: sibling if name == "ort" and sibling else path for name in names}


def _sibling(path: Path) -> Path | None:
    """The ``.onnx`` that edgeq export wrote beside ``path``, if both are still the files it wrote."""
    files = sidecar.read(path)[0].get("files")
    entries = files.items() if isinstance(files, dict) else ()
    named = {name: entry.get("sha256") for name, entry in entries if isinstance(entry, dict)}
    other = next((path.with_name(Path(k).name) for k in named if k.endswith(".onnx")), None)
    try:
        if other is None or not other.is_file():
            return None
    except OSError:  # a name that no file system takes
        return None
    return other if named.get(path.name) == sha256(path) and named[other.name] == sha256(other) else None


def _signatures(files: dict[str, Path], output: str | None) -> dict[str, Signature | EdgeqError]:
    if KERAS in files:
        from edgeq.keras.load import load

        return {KERAS: load(files[KERAS], output).signature}
    by_file: dict[Path, list[str]] = {}
    for name, file in files.items():
        by_file.setdefault(file, []).append(name)
    answers: dict[str, Signature | EdgeqError] = {}
    for file, names in by_file.items():
        answers |= runtimes.probe_all(names, file, output=output)
    return {name: answers[name] for name in files}
