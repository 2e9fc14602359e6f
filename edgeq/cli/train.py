"""``edgeq train``: a small network, float or quantisation-aware, from images to a file that reloads."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import console, files, trusting
from edgeq.core.errors import EdgeqError
from edgeq.pipeline import sidecar

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from edgeq.keras.quantizers import Ends

RAW = "mean=0,std=1"  # edgeq's own networks take raw pixels
EXAMPLE = """
\b
Examples:
  edgeq train digits_cnn --data digits -o models
  edgeq train digits_cnn --data digits --quant tfmot:int8 --from models/digits_cnn.keras -o models
  edgeq train digits_cnn --data digits --quant lsq:w4a4 --from models/digits_cnn.keras -o models
  edgeq train b19_cifar10 --data cifar10:download --quant dorefa:w2a32 --preset b19 --width 0.25 -o models
  edgeq train resnet8 --data zip:cifar10.zip --epochs 20 -o models
"""


@click.command(epilog=EXAMPLE)
@click.argument("net", metavar="NET")
@click.option(
    "--data",
    default="digits",
    show_default=True,
    metavar="DATA",
    help="digits, cifar10[:PATH or :download], svhn:PATH, folder:PATH, zip:PATH or npz:PATH.",
)
@click.option(
    "--quant",
    default="float",
    show_default=True,
    metavar="HOW",
    help="float, tfmot:int8, tfmot:portable (int8, one function on every runtime), lsq:w4a4, dorefa:w2a32, pact:w4a4 (DoReFa weights), "
    "pact+lsq:w4a4, binarynet or binaryconnect; "
    "w and a: bits of weights and activations, a32 for float ones; ':channel' behind them for one step a channel.",
)
@click.option(
    "--ends",
    type=click.Choice(["int8", "float"]),
    help="First and last layer: int8 (6-bit levels where activations are quantised, so that they can be proven), or as in B19 not "
    "quantised.  [default: int8]",
)
@click.option("--preset", type=click.Choice(["b19"]), help="B19's recipe: Adam, staircase decay, 50 epochs from scratch, float ends.")
@click.option(
    "--from",
    "start",
    metavar="FILE",
    help="Start from a float .keras or .h5, or 'scratch'. Default of a quantised network: train float first.",
)
@click.option("--epochs", type=click.IntRange(1), help="At most, a training. Default: 20, of tfmot:int8 and tfmot:portable 10.")
@click.option(
    "--rate", type=click.FloatRange(0, 1, min_open=True), help="Adam's first rate. Default: 2e-3 float, 1e-3 low-bit, 2e-4 tfmot:*."
)
@click.option("--batch", type=click.IntRange(1), default=64, show_default=True)
@click.option(
    "--width", type=click.FloatRange(0.01, 16), default=1.0, show_default=True, help="Multiplies the number of filters and units."
)
@click.option("--n", type=click.IntRange(10), help="Training images, sampled evenly over the classes. Default: all.")
@click.option("--preprocess", metavar="SPEC", help="How an image comes to the network's size, as in imagenet or stretch.")
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("models"), show_default=True, metavar="DIR")
@trusting.option
def command(**options: Any) -> None:
    """Train the network NET (digits_cnn, resnet8, b19_cifar10, b19_svhn) and save it in DIR.

    A float network becomes NAME.keras. A quantisation-aware one becomes a directory such as NAME-int8.savedmodel or
    NAME-lsq-w4a4.savedmodel, as TF-MOT's networks reload from nothing else. Both reload to the same outputs; beside them,
    NAME.edgeq.json says how they were made. A training that diverged is not saved; one that is no better than chance is, and that is said.
    """
    console.out.print(str(train(**options)), markup=False)


def train(
    net: str,
    data: str = "digits",
    quant: str = "float",
    start: str | None = None,
    epochs: int | None = None,
    rate: float | None = None,
    batch: int = 64,
    width: float = 1.0,
    n: int | None = None,
    preprocess: str | None = None,
    seed: int = 0,
    output: Path = Path("models"),
    ends: Ends | None = None,
    preset: str | None = None,
) -> Path:
    """Trains and saves; the path of the network. Raises :class:`~edgeq.core.errors.EdgeqError`."""
    import numpy as np

    from edgeq import data as sets
    from edgeq.core import plugins
    from edgeq.keras import quantizers
    from edgeq.measure.intervals import wilson

    plugins.choose("network", net, plugins.names(plugins.NETWORKS))
    for option, number in (("--rate", rate), ("--width", width)):
        if number is not None and not 0 < number < np.inf:  # NaN passes click's ranges
            raise EdgeqError(f"{option} {number:g}: it takes a number above 0")
    qat, scheme = quant != "float", None if quant in ("float", "tfmot:int8") else quantizers.parse(quant)
    if ends and not scheme:
        raise EdgeqError(f"--ends is about low-bit networks; {quant} treats all layers alike")
    if preset and quant == "tfmot:int8":
        raise EdgeqError(f"--preset {preset} has no int8 networks of TF-MOT's; write lsq:w8a8, or leave the preset out")
    if preset:
        ends, start = ends or "float", start or "scratch"
    for note in scheme.notes if scheme else ():
        console.say(note)
    taught, asked = sets.open(data, split="train"), sets.open(data, split="test")
    for note in dict.fromkeys([*taught.notes, *asked.notes]):
        console.say(note)
    index = sets.sample(taught, n, seed)
    classes = len(taught.classes) if taught.classes else int(taught.labels.max()) + 1
    prepare = _preprocess(net, taught.image(int(index[0])).shape, preprocess)
    images, labels = sets.decode(taught, index, prepare.apply), taught.labels[index]

    from edgeq.keras import train as keras

    shape, name = (*prepare.size, prepare.channels), net + (f"-w{width:g}" if width != 1 else "")
    record = {
        "kind": "network",
        "net": net,
        "width": width,
        "shape": list(shape),
        "classes": classes,
        "preset": preset,
        "data": data,
        "preprocess": prepare.spec,
        "labels": list(taught.classes) if taught.classes else None,
        "seed": seed,
        "versions": files.versions(["tensorflow", "tf-keras", "tensorflow-model-optimization", "numpy"]),
    }
    kind = ("int8" if scheme is None else scheme.slug + ("-float-ends" if ends == "float" else "")) if qat else ""
    with files.staging(output) as folder:

        def teach(model: Any, how: keras.Fit, file: str, said: dict[str, Any], check: Any = None) -> None:
            how = keras.B19 if preset else how
            how = dataclasses.replace(how, batch=batch, epochs=epochs or how.epochs, rate=rate or how.rate)
            with console.progress() as show:
                done = keras.fit(model, images, labels, how, seed, lambda d, t, text: show(f"training {file}", d, t), check)
                if scheme and said["quant"] != "float" and scheme.a != quantizers.FLOAT:
                    keras.settle(model)
                    last = keras.fit(model, images, labels, how.last, seed, lambda d, t, text: show(f"settling {file}", d, t), check)
                    keras.settle(model)
                    done |= {"settled": last["epochs"], "validation": last["validation"]}
            if said["quant"] == "tfmot:int8":
                keras.pin_input(model)
            answered, tied = _answers(keras.save(model, folder / file, images), prepare, asked)
            right, of = int((answered == asked.labels).sum()), len(asked)
            low, high = wilson(right, of)
            ties = f", {tied.mean():.3f} tied at the top" if tied.any() else ""
            console.say(f"{file}: {right / of:.3f} of {of} test images right ({low:.3f}..{high:.3f}){ties}, {done['epochs']} epochs")
            if chance := _chance(answered, asked.labels, low, taught.classes):
                console.say(f"{file}: {chance}", "yellow")
            test = {"n": of, "accuracy": right / of, "tied": float(tied.mean()), "wilson95": [low, high], "chance": bool(chance)}
            fit = {"optimiser": "Adam", "rate": how.rate, "decay": how.decay, "stairs": how.stairs, "batch": how.batch}
            files.write_sidecar(folder / (file + sidecar.SUFFIX), {**record, **said, **done, "fit": fit, "test": test})

        model = keras.network(net, width, classes, shape, seed)
        if start and start != "scratch":
            keras.copy_weights(model, Path(start))
        if not qat or not start:
            teach(model, keras.FLOAT, f"{name}.keras", {"quant": "float"})
        if qat:
            said: dict[str, Any] = {"from": start or f"{name}.keras", "quant": quant}
            model, how, check = keras.foldable(model, net, width, classes, shape), keras.QAT, None
            if scheme:
                said |= {"quant": str(scheme), "ends": ends or "int8"}
                model = keras.lower(model, scheme, ends or "int8", images, seed)
                how = keras.QAT if scheme == quantizers.PORTABLE else keras.LOWBIT
                check = keras.watch(model, images)
            else:
                model = keras.quantise(model, images, seed)
            teach(model, how if start != "scratch" else keras.FLOAT, f"{name}-{kind}.savedmodel", said, check)
    return output / (f"{name}-{kind}.savedmodel" if qat else f"{name}.keras")


def _preprocess(net: str, shape: tuple[int, ...], override: str | None) -> Any:
    """The data's own size up to 64 pixels, else the network's; raw pixels whatever is said of mean and std."""
    import inspect

    from edgeq.core import plugins
    from edgeq.pipeline.preprocess import resolve

    size = inspect.signature(plugins.load(plugins.NETWORKS, net)).parameters["input_shape"].default if max(shape[:2]) > 64 else shape
    found, sentence = resolve(tuple(size[:2]), shape[2], shape, override=override, stated=RAW, where=f"{net} (raw pixels)")
    console.say(sentence)
    return dataclasses.replace(found, mean=(0.0,), std=(1.0,))


def _answers(network: Any, prepare: Any, test: Any) -> tuple[np.ndarray, np.ndarray]:
    """The class that the network answers to each test image, ``(n,) int64``, the first of equals; whether it had equals, ``(n,) bool``."""
    import numpy as np

    from edgeq import data as sets
    from edgeq.keras.source import PIXELS, KerasSource

    source = KerasSource(network, PIXELS[:, : prepare.channels], 256)
    parts = np.array_split(np.arange(len(test)), range(256, len(test), 256))
    answers = [source.answer(sets.decode(test, part, prepare.apply)) for part in parts]
    return np.concatenate([a.label() for a in answers]), np.concatenate([a.tied() for a in answers])


def _chance(answered: np.ndarray, truth: np.ndarray, low: float, names: Sequence[str] | None) -> str:
    """A warning where the accuracy, whose Wilson interval begins at ``low``, is not above the commonest class's share; else "".

    That share is what answering one class always gets, and no less than 1 / classes. ``answered``, ``truth``: ``(n,) int64``.
    """
    import numpy as np

    def named(label: int) -> str:
        return repr(names[label]) if names and label < len(names) else f"class {label}"

    commonest = np.bincount(truth)
    if low > (share := commonest.max() / len(truth)):
        return ""
    always = f", and it does answer {named(answered[0])} to all of them" if len(np.unique(answered)) == 1 else ""
    return (
        f"that is no better than chance, as answering {named(int(commonest.argmax()))} to all has {share:.3f} right{always}; "
        "train longer, on more images, or at another --rate"
    )
