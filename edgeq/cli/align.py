"""``edgeq align``: are the gradients that attacks follow the network's, and what does quantisation do to an adversarial change?"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from edgeq.cli import console, trusting
from edgeq.core.errors import EdgeqError

if TYPE_CHECKING:
    from edgeq.core.protocols import Target
    from edgeq.core.rows import Rows
    from edgeq.core.threat import Threat
    from edgeq.integer.graph import Graph
    from edgeq.measure.comparison import Progress
    from edgeq.pipeline.codes import PixelCodes
    from edgeq.runs.prepare import Setting

EXAMPLE = """
\b
Examples:
  edgeq align --target model.tflite --source float.h5 --data zip:cifar10.zip
  edgeq align --target model.tflite --data folder:photos --estimates coordinate:pixels=256 --access logits
"""
KERAS, FLOAT, THROUGH = "keras", "float", "file through"


def _split(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (value or "").split(",") if part.strip())


@click.command(epilog=EXAMPLE)
@click.option("--target", required=True, metavar="FILE", help="The .tflite that ships.")
@click.option("--source", metavar="FILE", help="The float Keras network it was made from. Without one its rows are left out.")
@click.option("--runtime", default="litert-xnnpack", show_default=True, metavar="NAME", help="What answers. tflm-exact: as tflm, faster.")
@click.option("--data", default="digits", show_default=True, metavar="DATA", help="As for edgeq attack: digits, folder:PATH, zip:PATH ...")
@click.option("--label-column", metavar="NAME", help="The column of labels.csv that holds the classes.")
@click.option("--class-map", metavar="FILE", help="JSON or CSV: class of the data -> class of the model.")
@click.option("--class-names", metavar="FILE", help="The model's class names, a line each.")
@click.option("--n", type=click.IntRange(1), default=100, show_default=True, help="Images, sampled evenly over the classes.")
@click.option(
    "--estimates",
    callback=_split,
    default="spsa,coordinate",
    show_default=True,
    metavar="A,B",
    help="Gradients from queries, with options as in spsa:pairs=256 or coordinate:pixels=128:step=2.",
)
@click.option(
    "--access",
    type=click.Choice(["scores", "logits", "both"]),
    default="both",
    show_default=True,
    help="What they see: what the file returns, or the file without its last softmax.",
)
@click.option(
    "--objective", type=click.Choice(["ce", "margin"]), default="ce", show_default=True, help="The loss whose gradients are held."
)
@click.option("--attack", default="pgd", show_default=True, metavar="NAME", help="What crafts the images of the value shift, by gradients.")
@click.option("--eps", callback=_split, default="1/255,8/255", show_default=True, metavar="E,F", help="l_inf radii of the value shift.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--preprocess", metavar="SPEC", help="How the device prepares an image.")
@click.option("--source-preprocess", metavar="SPEC", help="mean and std of the float network, where they are other than the file's.")
@click.option("--output", type=click.Choice(["probs", "logits"]), help="What the output is, where the file does not tell.")
@click.option("--threads", type=click.IntRange(1), help="Threads (processes for TFLM). Default: all cores.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else.")
@trusting.option
def command(as_json: bool, **options: Any) -> None:
    """Hold the gradients of a .tflite against each other: the float network's, the file's own (straight-through, with both clamps), and
    estimates from queries to the runtime.

    Shows cosines in pairs, what is exactly zero or explodes, how many of an adversarial image's changes each layer's buckets swallow,
    and the variance of the logits.
    """
    content = align(**options)
    if as_json:
        from edgeq.report.to_json import dumps

        print(dumps(content))
    else:
        from edgeq.report.align import render

        render(content, console.out)


@dataclass(frozen=True, eq=False)
class Bench:
    """What was opened. ``seen``: access -> what estimates ask; ``sources``: name -> gradients; ``graph``: the file's, where it is known."""

    target: Target
    seen: dict[str, Target]
    sources: dict[str, Any]
    graph: Graph | None
    codes: PixelCodes


def align(*, estimates: tuple[str, ...], access: str, objective: str, attack: str, eps: tuple[str, ...], **options: Any) -> dict[str, Any]:
    """Everything as one JSON-able dictionary. Raises :class:`EdgeqError`."""
    from edgeq import data
    from edgeq.core import plugins
    from edgeq.core.rows import Rows, row_id
    from edgeq.core.threat import Threat, parse_eps
    from edgeq.integer.read import sha256
    from edgeq.measure import alignment
    from edgeq.measure.constant import sentence
    from edgeq.measure.figures import Alike

    methods = [plugins.build(plugins.ESTIMATORS, text) for text in dict.fromkeys(estimates)]
    if twice := {name for name, _ in methods if [n for n, _ in methods].count(name) > 1}:
        raise EdgeqError(f"--estimates {','.join(estimates)}: names {min(twice)} twice; run once for each")
    crafter, threats = _crafter(attack), [Threat("linf", parse_eps(text)) for text in dict.fromkeys(eps)]
    if low := [text for text, threat in zip(dict.fromkeys(eps), threats, strict=True) if not threat.reaches_integers]:
        raise EdgeqError(f"--eps {low[0]}: below one pixel no integer input differs from the clean one; use 1/255 or more")
    setting, notes = _prepare(options), list[str]()
    seed, index, dataset = options["seed"], setting.index, setting.dataset
    rows = Rows(np.array([row_id(dataset.names[i]) for i in index]), dataset.labels[index])

    def images(part: slice) -> np.ndarray:
        return data.decode(dataset, index[part], setting.preprocess.apply)

    with contextlib.ExitStack() as stack:
        bench = _open(stack, setting, options, access, bool(methods), notes)
        own = next((name for name in (THROUGH, FLOAT) if name in bench.sources), None)
        asked = {f"{name} {seen}": alignment.Asked(value, t, own) for name, value in methods for seen, t in bench.seen.items()}
        if len(bench.sources) + len(asked) < 2:
            raise EdgeqError(f"{options['target']}: gives one gradient only here, and it takes two to compare; add --source or --estimates")
        if FLOAT in bench.sources:  # the same questions to the float network: what the method does without any quantisation
            smooth = bench.sources[FLOAT]
            asked |= {f"{name} {FLOAT}": alignment.Asked(value, smooth, FLOAT, control=True) for name, value in methods}
        with console.progress() as show:
            found = alignment.align(bench.sources, asked, images, rows, objective, seed, show)
            shifts = [_shift(bench, crafter, images, rows, threat, seed, show) for threat in threats] if _shiftable(bench, notes) else []
            logits = _logits(bench, images, rows, seed)
        identity = bench.target.identity()
    for note in notes:
        console.say(f"  {note}")
    return {
        "format": 1,
        "warnings": sentence(options["runtime"], Alike(**alike) if (alike := shifts[0]["constant"]) else None, len(rows)) if shifts else [],
        "target": {"file": Path(options["target"]).name, "sha256": sha256(Path(options["target"]))},
        "source": {"file": Path(options["source"]).name, "sha256": sha256(Path(options["source"]))} if options["source"] else None,
        "runtime": options["runtime"],
        "identity": identity,
        "data": options["data"],
        "n": len(rows),
        "seed": seed,
        **found,
        "attack": {"name": crafter[0], "params": asdict(crafter[1])},
        "shift": shifts,
        "logit_variance": logits,
        "notes": notes,
    }


def _crafter(text: str) -> tuple[str, Any]:
    from edgeq.core import plugins

    name, value = plugins.build(plugins.ATTACKS, text)
    if value.needs != "gradients" or "linf" not in value.norms:
        raise EdgeqError(f"--attack {text}: crafts without gradients or has no linf form; take pgd, bim or fgsm")
    return name, value


def _prepare(options: dict[str, Any]) -> Setting:
    from edgeq.runs.plan import Plan
    from edgeq.runs.prepare import prepare

    if Path(options["target"]).suffix != ".tflite":
        raise EdgeqError(f"{options['target']}: is no .tflite; gradients and inner values of other files are not taken here")
    rest = {k: v for k, v in options.items() if k not in ("runtime", "target", "source")}
    sources = (options["source"],) if options["source"] else ()
    setting = prepare(Plan((options["target"],), sources=sources, **rest, runtimes=(options["runtime"],), attacks=("noise",)), console.say)
    for note in setting.notes:
        console.say(f"  {note}")
    return setting


def _open(stack: contextlib.ExitStack, setting: Setting, options: dict[str, Any], access: str, estimates: bool, notes: list[str]) -> Bench:
    from edgeq import runtimes

    file, name, threads = Path(options["target"]), options["runtime"], options["threads"]
    record = next(t for t in setting.targets if t.spec.runtime == name)
    if not record.runs:
        raise EdgeqError(f"{file}: {name} cannot run it: {record.reason}")
    codes, signature = record.spec.codes, record.spec.signature
    assert codes is not None
    assert signature is not None
    if signature.kind == "label":
        raise EdgeqError(f"{file}: answers with a bare label, of which no gradient can be estimated; export it with its scores")
    target = runtimes.open(name, file, signature, codes, threads=threads)
    stack.callback(target.close)
    seen = _views(stack, file, name, target, signature, codes, threads, access, notes) if estimates else {}
    sources: dict[str, Any] = {}
    if options["source"]:
        from edgeq.keras import source

        lent = next(t.spec.codes for t in setting.targets if t.spec.runtime == KERAS)
        assert lent is not None
        sources[FLOAT] = source.open(options["source"], lent.real)
    graph = _graph(file, signature.input.shape, notes)
    return Bench(target, seen, {**sources, **_own(file, graph, name, codes, notes)}, graph, codes)


def _views(stack: contextlib.ExitStack, file: Path, name: str, target: Any, signature: Any, codes: Any, threads: int | None,
           access: str, notes: list[str]) -> dict[str, Target]:  # fmt: skip
    """What estimates ask: the target, and the file without its last softmax in the same runtime."""
    from edgeq import runtimes
    from edgeq.targets import access as ladder
    from edgeq.targets import views

    if signature.kind == "logits":
        return {"logits": target}
    found: dict[str, Target] = {} if access == "logits" else {"scores": target}
    if access == "scores":
        return found
    if reason := ladder.hindrance("logits", file, name, signature.kind):
        if access == "logits":
            raise EdgeqError(f"{file}: --access logits: {reason}")
        notes.append(f"no logits are seen: {reason}")
        return found
    bare_file = stack.enter_context(views.stripped(file))
    bare = runtimes.open(name, bare_file, runtimes.probe(name, bare_file, output="logits"), codes, threads=threads)
    stack.callback(bare.close)
    views.logits(target, bare, signature.input.shape)  # raises where it is another network
    return {**found, "logits": bare}


def _graph(file: Path, shape: tuple[int, ...], notes: list[str]) -> Graph | None:
    from edgeq.integer import read_tflite

    try:
        graph = read_tflite.read(file)
    except EdgeqError as error:
        notes.append(f"no look inside the file: {error}")
        return None
    if graph.tensors[graph.input].shape == tuple(shape):
        return graph
    notes.append(f"no look inside the file: it takes an image as {graph.tensors[graph.input].shape}, not as {tuple(shape)}")
    return None


def _own(file: Path, graph: Graph | None, name: str, codes: PixelCodes, notes: list[str]) -> dict[str, Any]:
    """The file's own gradients, straight through its runtime's roundings, with each clamp."""
    from edgeq import runtimes
    from edgeq.targets import access as ladder

    if graph is None:
        return {}
    if reason := ladder.hindrance("gradients", file, name, "logits"):
        notes.append(f"the file's own gradients are left out: {reason}")
        return {}
    from edgeq.keras.ste.clamp import CLAMPS
    from edgeq.keras.ste.source import SteSource

    return {f"file {clamp}": SteSource(graph, codes, runtimes.real(name), clamp) for clamp in CLAMPS}


def _shiftable(bench: Bench, notes: list[str]) -> bool:
    if bench.graph is not None and not bench.sources:
        notes.append("value shift is left out: nothing here gives gradients to craft with; add --source FLOAT.h5")
    return bench.graph is not None and bool(bench.sources)


def _shift(bench: Bench, crafter: tuple[str, Any], images: Any, rows: Rows, threat: Threat, seed: int, show: Progress) -> dict[str, Any]:
    """Crafted on the float network where there is one, else on the file with both clamps, the worse for the defender kept."""
    from edgeq import runtimes
    from edgeq.attacks.noise import Noise
    from edgeq.measure import value_shift
    from edgeq.measure.comparison import Attack

    assert bench.graph is not None
    name, value = crafter
    lent = {FLOAT: bench.sources[FLOAT]} if FLOAT in bench.sources else bench.sources
    attack, stage = Attack(name, value, {"": bench.target}, {"": tuple(lent.values())}), f"{name} at {threat.pixels:g}/255 and value shift"
    figures = value_shift.measure(
        value_shift.Network(bench.graph, runtimes.real(bench.target.name), bench.codes, bench.target),
        images,
        rows,
        {
            "adversarial": lambda clean, some: attack.craft("", clean, some, threat, seed),
            "noise": lambda clean, some: Noise().craft(None, clean, some, threat, seed).candidates,
        },
        lambda done: show(stage, done, len(rows)),
    )
    return {"eps": threat.eps, "pixels": threat.pixels, "crafted_on": FLOAT if FLOAT in lent else "the file", **figures}


def _logits(bench: Bench, images: Any, rows: Rows, seed: int) -> dict[str, Any] | None:
    """Of both networks on the clean images; None without the float network or the file's own logits."""
    from edgeq.measure import alignment

    if FLOAT not in bench.sources or not {"logits", THROUGH} & {*bench.seen, *bench.sources}:
        return None
    float_network, seen = bench.sources[FLOAT], bench.seen.get("logits")
    of_float, of_file = [], []
    for start in range(0, len(rows), alignment.CHUNK):
        clean = images(slice(start, min(start + alignment.CHUNK, len(rows))))
        own = seen.answer(clean) if seen else bench.sources[THROUGH].answer_float(clean / np.float32(255))
        of_float.append(float_network.answer(clean).logits())
        of_file.append(own.logits())
    return alignment.logit_variance(np.concatenate(of_float), np.concatenate(of_file), seed)
