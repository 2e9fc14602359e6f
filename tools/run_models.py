"""Every model file in folders: which runtimes run it, whether it can be read for gradients, and its twin against each runtime.

    python tools/run_models.py NAME=FOLDER ... --n 3 > docs/results/models.md

Prints the tables of docs/results/models.md: of each file that some runtime runs, how many elements of all its activations the twin (the
simulator behind the logits) has as each runtime has them, on random images; of each that none runs, edgeq's sentence. Files with the
same bytes are run once. ``--absent FILE`` lists files that could not be fetched, one a line.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from same_forward import differences

from edgeq import runtimes
from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature
from edgeq.integer import read_tflite, tflite_file
from edgeq.integer.graph import Graph
from edgeq.integer.simulate import simulate
from edgeq.pipeline.codes import PixelCodes, codes_for
from edgeq.pipeline.preprocess import Preprocess
from edgeq.runtimes._layout import layout_of
from edgeq.targets import access, probing

SUFFIXES = {".tflite", ".lite", ".onnx", ".h5", ".hdf5", ".keras"}
PREPROCESS = ("none", "bytes", "mean=127.5,std=127.5")


@dataclass
class Outcome:
    """``names``: of the file and its copies. ``refused``: why nothing runs it; else a cell a runtime, and what is said of gradients."""

    names: list[str]
    size: int = 0
    refused: str = ""
    cells: dict[str, str] = field(default_factory=dict)
    gradients: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", help="NAME=FOLDER")
    parser.add_argument("--n", type=int, default=3, help="random images a file (default: 3)")
    parser.add_argument("--absent", type=Path, help="a list of files that could not be fetched")
    a = parser.parse_args()
    seen: dict[str, Outcome] = {}
    for name, folder in (text.split("=", 1) for text in a.folders):
        for path in sorted(p for p in Path(folder).rglob("*") if p.suffix in SUFFIXES):
            shown, digest = f"{name}/{path.relative_to(folder)}", hashlib.sha256(path.read_bytes()).hexdigest()
            if digest in seen:
                seen[digest].names.append(shown)
                continue
            print(shown, file=sys.stderr, flush=True)
            seen[digest] = _outcome(path, shown, a.n)
    absent = a.absent.read_text().split() if a.absent else []
    print(_page(list(seen.values()), absent, a.n))


def _outcome(path: Path, name: str, n: int) -> Outcome:
    done = Outcome([name], path.stat().st_size)
    try:
        probed = probing.probe(path)
    except EdgeqError as error:
        done.refused = _bare(error, path)
        return done
    for runtime, answer in probed.answers.items():
        done.cells[runtime] = _equal(path, runtime, answer, n) if isinstance(answer, Signature) else f"refuses: {probed.reason(runtime)}"
    hindrance = access.hindrance("gradients", path, probed.main, "logits")
    caveat = None if hindrance or probed.main == "keras" else access.caveat(path, probed.main)
    done.gradients = f"no: {hindrance}" if hindrance else f"yes; {caveat}" if caveat else "yes"
    return done


def _equal(path: Path, runtime: str, signature: Signature, n: int) -> str:
    """How many elements of the twin are the runtime's, in words."""
    if runtime not in runtimes.listed(".tflite"):
        return "runs"
    try:
        model = tflite_file.read(str(path))
        graph = read_tflite.from_model(model)
        codes = _codes(signature, path)
        images = np.random.default_rng(0).integers(0, 256, (n, *signature.input.shape), np.uint8)
        counts = differences(runtime, path, model, graph, signature, codes, [images])
        said = _answers(runtime, path, graph, signature, codes, images)
    except EdgeqError:  # the line on gradients says why
        return "runs"
    total, apart = (sum(c[k] for c in counts.values()) for k in (0, 1))
    most = max(most / (largest or 1) for _, _, most, largest in counts.values())
    return f"runs; {apart:,} of {total:,} elements differ{f', by at most {most:.1g} of the largest' if apart else ''}{said}"


def _answers(runtime: str, path: Path, graph: Graph, signature: Signature, codes: PixelCodes, images: np.ndarray) -> str:
    """Whether the runtime as it is deployed, without its inner tensors kept, answers what the simulator does; "" where it does."""
    given = codes.encode(images) if layout_of(tflite_file.read(str(path))) == "nhwc" else codes.encode(images).transpose(0, 3, 1, 2)
    mine = np.asarray(simulate(graph, given.reshape(len(images), *graph.tensors[graph.input].shape), runtime))
    if mine.dtype == np.float32:
        return ""
    theirs = runtimes.open(runtime, path, signature, codes).answer(images).raw
    apart = int((theirs != mine.reshape(theirs.shape)).sum())
    return f"; {apart} of {theirs.size} scores differ as deployed" if apart else ""


def _codes(signature: Signature, path: Path) -> PixelCodes:
    h, w, c = signature.input.shape
    for text in PREPROCESS:
        try:
            return codes_for(signature.input, Preprocess.parse(text, (h, w), c), path.name)
        except EdgeqError as error:
            last = error
    raise last


def _bare(error: EdgeqError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")


def _page(outcomes: list[Outcome], absent: list[str], n: int) -> str:
    run, refused = [o for o in outcomes if not o.refused], [o for o in outcomes if o.refused]
    names = [*runtimes.listed(".tflite"), "keras"]
    lines = [f"## Files that some runtime runs ({len(run)}; {n} random images each)", ""]
    for o in run:
        lines.append(f"- **{o.names[0]}** ({o.size:,} bytes)" + (f", the same bytes as {', '.join(o.names[1:])}" if o.names[1:] else ""))
        by_cell: dict[str, list[str]] = {}
        for runtime in (r for r in names if r in o.cells):
            by_cell.setdefault(o.cells[runtime], []).append(runtime)
        lines += [f"  - {', '.join(rs)}: {cell}" for cell, rs in by_cell.items()]
        lines.append(f"  - gradients: {o.gradients}")
    lines += ["", f"## Files that are refused ({sum(len(o.names) for o in refused)})", ""]
    by_reason: dict[str, list[str]] = {}
    for o in refused:
        by_reason.setdefault(o.refused, []).extend(o.names)
    for reason, files in sorted(by_reason.items()):
        lines += [f"- *{reason}* ({len(files)}): {', '.join(files)}"]
    lines += ["", f"## Files that could not be fetched ({len(absent)})", "", ", ".join(absent) or "None.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
