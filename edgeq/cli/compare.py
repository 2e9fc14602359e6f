"""``edgeq compare``: two runtimes of one file, or two files, side by side; with gates for CI."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from edgeq.cli import console, trusting
from edgeq.core.errors import EdgeqError

if TYPE_CHECKING:
    from edgeq.core.threat import Threat
    from edgeq.measure.comparison import Attack
    from edgeq.measure.layers import Side
    from edgeq.runs.plan import Plan
    from edgeq.runs.prepare import Setting

EXAMPLE = """
\b
Examples:
  edgeq compare model.tflite --runtime litert-xnnpack,tflm --data folder:photos
  edgeq compare yesterday.tflite today.tflite --data zip:cifar10.zip --max-flips 0.01 --max-accuracy-drop 0.005
  edgeq compare float.h5 model.tflite --data zip:cifar10.zip --attack pgd --eps 1/255
"""
KERAS = "keras"
GATES = ("max_flips", "max_accuracy_drop", "max_robust_drop")


def _split(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (value or "").split(",") if part.strip())


@click.command(epilog=EXAMPLE)
@click.argument("a", metavar="A", type=click.Path(path_type=Path))
@click.argument("b", metavar="[B]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--runtime",
    "--runtimes",
    "runtimes",
    callback=_split,
    metavar="R,S",
    help="Of A and of B. Default: litert-xnnpack and tflm for one file; for two, litert-xnnpack (an .onnx: ort) both times.",
)
@click.option("--data", default="digits", show_default=True, metavar="DATA", help="As for edgeq attack: digits, folder:PATH, zip:PATH ...")
@click.option("--label-column", metavar="NAME", help="The column of labels.csv that holds the classes.")
@click.option("--class-map", metavar="FILE", help="JSON or CSV: class of the data -> class of the model.")
@click.option("--class-names", metavar="FILE", help="The model's class names, a line each.")
@click.option("--n", type=click.IntRange(1), default=500, show_default=True, help="Images, sampled evenly over the classes.")
@click.option("--attack", metavar="NAME", help="Also craft on each side and show the other: pgd, fgsm, spsa:steps=20 ... Default: none.")
@click.option("--eps", default="8/255", show_default=True, help="Radius of the noise and of the attack: 8/255, 0.03 or 8px.")
@click.option("--norm", type=click.Choice(["linf", "l2"]), default="linf", show_default=True)
@click.option("--max-queries", type=click.IntRange(1), help="The most queries an image may cost, its clean check included.")
@click.option("--layers", type=click.IntRange(0), default=50, show_default=True, help="Images of which every inner tensor is compared.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--preprocess", metavar="SPEC", help="How the device prepares an image, for both sides.")
@click.option("--output", type=click.Choice(["label", "probs", "logits"]), help="What the output is, where a file does not tell.")
@click.option("--threads", type=click.IntRange(1), help="Threads (processes for TFLM). Default: all cores.")
@click.option("--max-flips", type=click.FloatRange(0, 1), metavar="SHARE", help="Exit with 1 when more labels of clean images differ.")
@click.option("--max-accuracy-drop", type=click.FloatRange(0, 1), metavar="ACC", help="Exit with 1 when B's accuracy is lower by more.")
@click.option("--max-robust-drop", type=click.FloatRange(0, 1), metavar="ACC", help="The same of robust accuracy under one's own attack.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else.")
@trusting.option
def command(a: Path, b: Path | None, as_json: bool, **options: Any) -> None:
    """Compare two runtimes of the file A, or the files A and B: .tflite, .onnx or Keras networks of one task.

    Shows accuracy in pairs, labels that flip on clean images and under noise, score differences, and op by op where the two part
    (.tflite files with the same ops). With --attack, each one's adversarial examples are shown to the other.
    """
    content = compare(a, b, **options)
    if as_json:
        from edgeq.report.to_json import dumps

        print(dumps(content))
    else:
        from edgeq.report.compare import render

        render(content, console.out)
    if not all(gate["met"] for gate in content["gates"]):
        sys.exit(1)


def compare(
    a: Path,
    b: Path | None,
    *,
    runtimes: tuple[str, ...],
    attack: str | None,
    eps: str,
    norm: str,
    seed: int,
    layers: int,
    max_queries: int | None,
    **options: Any,
) -> dict[str, Any]:
    """The whole comparison as one JSON-able dictionary. Raises :class:`EdgeqError`."""
    from edgeq import data
    from edgeq.core import plugins
    from edgeq.core.rows import Rows, row_id
    from edgeq.core.threat import Threat, parse_eps
    from edgeq.measure import comparison
    from edgeq.measure import layers as ops
    from edgeq.runs.plan import Plan

    limits = {name: options.pop(name) for name in GATES}
    threat = Threat(norm, parse_eps(eps))  # type: ignore[arg-type]
    if threat.norm == "linf" and not threat.reaches_integers:
        raise EdgeqError(f"--eps {eps}: below one pixel no integer input differs from the clean one; use 1/255 or more")
    if limits["max_robust_drop"] is not None and attack is None:
        raise EdgeqError("--max-robust-drop: needs an attack to measure by; add --attack pgd or --attack spsa")
    asked = plugins.build(plugins.ATTACKS, attack) if attack else None
    # what crafts is settled here; noise is all that the plan needs to know of
    settings, names = _settings(Plan((), **options, seed=seed, eps=(eps,), attacks=("noise",)), a, b, runtimes)
    first = settings[0]
    with contextlib.ExitStack() as stack:
        sides = tuple(_open(stack, *pair, options["threads"]) for pair in zip(comparison.NAMES, settings, names, strict=True))
        crafts = _attack(asked, sides, threat, max_queries) if asked else None
        index, dataset = first.index, first.dataset
        rows = Rows(np.array([row_id(dataset.names[i]) for i in index]), dataset.labels[index])

        def images(part: slice) -> Any:
            return data.decode(dataset, index[part], first.preprocess.apply)

        with console.progress() as show:
            targets = (sides[0].target, sides[1].target)
            figures = comparison.compare(targets, images, rows, threat, seed, crafts, show)
            table = ops.Layers("A", "B", 0, reason="not asked for (--layers 0)")
            if layers:
                some = images(slice(0, layers))
                (table,) = ops.compare(sides[0], sides[1:], some, lambda done: show("every op", done, len(some)))
        about = {side.name: _about(side) for side in sides}
    content = {"format": 1, "sides": about, "data": options["data"], **figures, "layers": table.to_json()}
    return {**content, "gates": comparison.gates(content, limits)}


def _settings(plan: Plan, a: Path, b: Path | None, asked: tuple[str, ...]) -> tuple[tuple[Setting, Setting], tuple[str, str]]:
    """For each side what :func:`edgeq.runs.prepare.prepare` made of its file, and its runtime there."""
    if b is None:
        if a.suffix != ".tflite":
            raise EdgeqError(f"{a}: has one runtime; name a second file to compare it with")
        names = asked or ("litert-xnnpack", "tflm")
        if len(names) != 2 or names[0] == names[1]:
            raise EdgeqError(f"--runtime {','.join(names)}: one file is compared on two runtimes, so name two; or name two files")
        setting = _prepare(replace(plan, targets=(str(a),), runtimes=names))
        return (setting, setting), (names[0], names[1])
    if len(asked) > 2:
        raise EdgeqError(f"--runtime {','.join(asked)}: two files run on two runtimes at most; name one for each, or one for both")
    wanted = (_runtime(a, asked[:1]), _runtime(b, asked[-1:]))
    if (wanted[0] == KERAS) != (wanted[1] == KERAS):  # the network then sees pixels as the file does
        network, file, name = (a, b, wanted[1]) if wanted[0] == KERAS else (b, a, wanted[0])
        setting = _prepare(replace(plan, targets=(str(file),), sources=(str(network),), runtimes=(name,)))
        return (setting, setting), wanted
    first, second = (_prepare(replace(plan, targets=(str(f),), runtimes=(name,))) for f, name in zip((a, b), wanted, strict=True))
    _check(first, second, a, b)
    return (first, second), wanted


def _runtime(file: Path, asked: tuple[str, ...]) -> str:
    """What runs ``file``: Keras networks and ``.onnx`` files have one runtime each."""
    if file.suffix not in (".tflite", ".onnx"):
        return KERAS
    return "ort" if file.suffix == ".onnx" else next(iter(asked), "litert-xnnpack")


def _prepare(plan: Plan) -> Setting:
    from edgeq.runs.prepare import prepare

    setting = prepare(plan, console.say)
    for note in setting.notes:
        console.say(f"  {note}")
    return setting


def _check(first: Setting, second: Setting, a: Path, b: Path) -> None:
    """Both sides see the same images with the same labels. Raises :class:`EdgeqError`."""
    signatures = [next(t.spec.signature for t in s.targets if t.spec.signature is not None) for s in (first, second)]
    shapes = [s.input.shape for s in signatures]
    if shapes[0] != shapes[1]:
        raise EdgeqError(f"{b}: takes images of {shapes[1]}, and {a} of {shapes[0]}; the same examples cannot be shown to both")
    classes = [s.classes for s in signatures]
    if None not in classes and classes[0] != classes[1]:
        raise EdgeqError(f"{b}: tells {classes[1]} classes apart, and {a} {classes[0]}; compare networks of one task")
    if not (np.array_equal(first.index, second.index) and np.array_equal(first.labels, second.labels)):
        raise EdgeqError(f"{b}: orders its classes otherwise than {a}; compare networks of one task")
    geometry = [replace(s.preprocess, mean=None, std=None).spec for s in (first, second)]
    if geometry[0] != geometry[1]:
        raise EdgeqError(f"{b}: states other preprocessing ({geometry[1]}) than {a} ({geometry[0]}); pass one --preprocess for both")


def _open(stack: contextlib.ExitStack, name: str, setting: Setting, runtime: str, threads: int | None) -> Side:
    from edgeq.measure.layers import Side
    from edgeq.targets.opener import Bench

    record = next(t for t in setting.targets if t.spec.runtime == runtime and t.spec.answers)
    files = {a.sha256: Path(a.file) for a in setting.artifacts}
    file, spec = files[record.spec.artifact], record.spec
    if spec.signature is None or spec.codes is None:
        raise EdgeqError(f"{file.name}: {runtime} cannot run it: {record.reason}")
    bench = stack.enter_context(Bench([spec], files.__getitem__, threads))
    return Side(name, file, runtime, spec.signature, spec.codes, bench.target(spec.id))


def _attack(asked: tuple[str, Any], sides: tuple[Side, ...], threat: Threat, max_queries: int | None) -> Attack:
    from edgeq.measure.comparison import Attack

    name, value = asked
    if value.needs == "nothing":
        raise EdgeqError(f"--attack {name}: is no attack; noise of the radius --eps is shown in any case")
    if threat.norm not in value.norms:
        raise EdgeqError(f"--attack {name}: has no {threat.norm} form; choose --norm {' or '.join(value.norms)}")
    if value.needs == "scores" and any(side.signature.kind == "label" for side in sides):
        raise EdgeqError(f"--attack {name}: needs scores, and a side returns labels only; leave the attack out")
    sources = {side.name: _sources(side) if value.needs == "gradients" else () for side in sides}
    return Attack(name, value, {side.name: side.target for side in sides}, sources, max_queries)


def _sources(side: Side) -> tuple[Any, ...]:
    """The network itself, or the file straight through the roundings of its runtime, with each clamp."""
    if side.runtime == KERAS:
        return (side.target,)
    from edgeq import runtimes
    from edgeq.integer import read
    from edgeq.keras.ste.clamp import CLAMPS
    from edgeq.keras.ste.source import SteSource

    graph = read.graph(side.file)
    return tuple(SteSource(graph, side.codes, runtimes.real(side.runtime), clamp) for clamp in CLAMPS)


def _about(side: Side) -> dict[str, Any]:
    from edgeq.integer.read import sha256

    return {
        "file": side.file.name,
        "sha256": sha256(side.file),
        "runtime": side.runtime,
        "kind": side.signature.kind,
        "identity": side.target.identity(),
    }
