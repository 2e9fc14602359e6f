"""Training a small network, float or quantisation-aware, from images to a file that reloads."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import data as sets
from edgeq.build import files
from edgeq.build.trained import Evaluation, Quantised, Setting, Trained
from edgeq.core import plugins
from edgeq.core.errors import EdgeqError
from edgeq.core.numbers import number
from edgeq.core.reporter import SILENT, Reporter
from edgeq.data import Images
from edgeq.keras import quantizers
from edgeq.keras import train as keras
from edgeq.keras.load import Network
from edgeq.keras.quantizers import Ends, Scheme
from edgeq.keras.source import PIXELS, KerasSource
from edgeq.measure.intervals import wilson
from edgeq.pipeline import sidecar
from edgeq.pipeline.preprocess import Preprocess, resolve

RAW = "mean=0,std=1"  # edgeq's own networks take raw pixels
PACKAGES = ("tensorflow", "tf-keras", "tensorflow-model-optimization", "numpy")
CHUNK = 256
DATA = {"digits_cnn": "digits"}
"""Networks that are made for one data set, which are trained on it where none is named."""


def train(
    net: str,
    *,
    data: str | None = None,
    quant: str = "float",
    start: str | Path | None = None,
    epochs: int | None = None,
    rate: float | None = None,
    batch: int = 64,
    width: float = 1.0,
    n: int | None = None,
    preprocess: str | None = None,
    exif: bool = True,
    skip_unreadable: bool = False,
    seed: int = 0,
    output: str | Path = Path("models"),
    ends: Ends | None = None,
    preset: str | None = None,
    reporter: Reporter = SILENT,
) -> Trained:
    """Trains the network ``net`` of :mod:`edgeq.keras.nets` and saves it, with its sidecar, in the folder ``output``.

    ``data``: a data set, as :func:`edgeq.data.open` takes it, by default that of ``DATA``; ``n`` images of it are trained on (None: all).
    ``quant``: "float", "tfmot:int8" or what :func:`edgeq.keras.quantizers.parse` takes; ``start``: the float file that the weights come
    from, or "scratch"; None: a quantised network begins with a float one, which is trained and saved first. ``epochs``, at most, and
    ``rate``, Adam's first: None for those of the method. ``width``: multiplies the number of filters and units. ``preprocess``: how an
    image comes to the network's size; ``exif``: photographs are turned upright first, as their EXIF orientation says; ``skip_unreadable``:
    images that cannot be read are left out and counted. ``ends``: how a low-bit network's first and last layer are stored; ``preset``:
    "b19" for that paper's recipe.

    Raises :class:`EdgeqError`, also for a training that diverged; then nothing is saved.
    """
    output, start = Path(output), None if start is None else str(start)
    plugins.choose("network", net, plugins.names(plugins.NETWORKS))
    if data is None and net not in DATA:
        raise EdgeqError(f"--data: {net} has no images of its own; name those that it is to learn, as in --data zip:cifar10.zip")
    for option, value in (("--rate", rate), ("--width", width)):
        if value is not None and not 0 < value < np.inf:  # NaN passes click's ranges
            raise EdgeqError(f"{option} {value:g}: it takes a number above 0")
    scheme = None if quant in ("float", "tfmot:int8") else quantizers.parse(quant)
    if ends and not scheme:
        raise EdgeqError(f"--ends is about low-bit networks; {quant} treats all layers alike")
    if preset and quant == "tfmot:int8":
        raise EdgeqError(f"--preset {preset} has no int8 networks of TF-MOT's; write lsq:w8a8, or leave the preset out")
    if preset:
        ends, start = ends or "float", start or "scratch"
    ends = ends or "int8"
    for note in scheme.notes if scheme else ():
        reporter.say(note)
    lesson = _lesson(net, data or DATA[net], n, width, preprocess, exif, skip_unreadable, preset, seed, reporter)
    name, shape, classes = net + (f"-w{width:g}" if width != 1 else ""), lesson.setting.shape, lesson.setting.classes

    def fit(how: keras.Fit) -> keras.Fit:
        how = keras.B19 if preset else how
        return replace(how, batch=batch, epochs=epochs or how.epochs, rate=rate or how.rate)

    with files.staging(output) as folder:
        model = keras.network(net, width, classes, shape, seed)
        if start and start != "scratch":
            keras.copy_weights(model, Path(start))
        if quant == "float" or not start:
            trained = _teach(lesson, model, fit(keras.FLOAT), Quantised(quant="float"), folder / f"{name}.keras", reporter)
        if quant != "float":
            model, origin, scratch = keras.foldable(model, net, width, classes, shape), start or f"{name}.keras", start == "scratch"
            if scheme is None:
                model, slug, about = keras.quantise(model, lesson.images, seed), "int8", Quantised(quant, origin)
            else:
                model = keras.lower(model, scheme, ends, lesson.images, seed)
                slug, about = scheme.slug + "-float-ends" * (ends == "float"), Quantised(str(scheme), origin, ends)
            how = keras.FLOAT if scratch else keras.QAT if scheme in (None, quantizers.PORTABLE) else keras.LOWBIT
            trained = _teach(lesson, model, fit(how), about, folder / f"{name}-{slug}.savedmodel", reporter, scheme)
    return replace(trained, path=output / trained.path.name)


@dataclass(frozen=True, eq=False)
class _Lesson:
    """``images``: ``(n, h, w, c) uint8``; ``labels``: ``(n,) int64``; ``test``: the images ``test_index`` of it, prepared by ``prepare``
    when they are asked."""

    setting: Setting
    images: np.ndarray
    labels: np.ndarray
    test: Images
    test_index: np.ndarray
    prepare: Preprocess


def _lesson(
    net: str,
    data: str,
    n: int | None,
    width: float,
    preprocess: str | None,
    exif: bool,
    skip: bool,
    preset: str | None,
    seed: int,
    reporter: Reporter,
) -> _Lesson:
    taught, test = (sets.open(data, split=split, exif=exif) for split in ("train", "test"))
    skipped, others = (sets.unreadable(part, most, seed) if skip else [] for part, most in ((taught, n), (test, None)))
    index = sets.sample(taught, n, seed, skipped)
    left_out = [*dict.fromkeys((*skipped, *others))]
    for note in dict.fromkeys([*taught.notes, *test.notes, *sets.left_out(taught, left_out), *sets.turned(taught, index)]):
        reporter.say(note)
    prepare = _preprocess(net, taught.image(int(index[0])).shape, preprocess, reporter)
    setting = Setting(
        net=net,
        width=width,
        shape=(*prepare.size, prepare.channels),
        classes=len(taught.classes) if taught.classes else int(taught.labels.max()) + 1,
        preset=preset,
        data=data,
        preprocess=prepare.spec,
        labels=list(taught.classes) if taught.classes else None,
        seed=seed,
        versions=files.versions(PACKAGES),
        unreadable=left_out,
    )
    images, asked = sets.decode(taught, index, prepare.apply), np.sort(sets.sample(test, None, seed, others))
    return _Lesson(setting, images, taught.labels[index], test, asked, prepare)


def _preprocess(net: str, shape: tuple[int, ...], override: str | None, reporter: Reporter) -> Preprocess:
    """The data's own size up to 64 pixels, else the network's; raw pixels whatever is said of mean and std."""
    size = inspect.signature(plugins.load(plugins.NETWORKS, net)).parameters["input_shape"].default if max(shape[:2]) > 64 else shape
    prepare, sentence = resolve((size[0], size[1]), shape[2], shape, override=override, stated=RAW, where=f"{net} (raw pixels)")
    reporter.say(sentence)
    return replace(prepare, mean=(0.0,), std=(1.0,))


def _teach(
    lesson: _Lesson, model: Any, how: keras.Fit, about: Quantised, file: Path, reporter: Reporter, scheme: Scheme | None = None
) -> Trained:
    """Trains ``model``, saves it as ``file`` and asks it the test images. ``scheme``: of a low-bit network."""
    check = keras.watch(model, lesson.images) if scheme else None
    seed, settled = lesson.setting.seed, None
    with reporter.progress() as show:

        def fit(how: keras.Fit, stage: str) -> keras.Fitted:
            return keras.fit(model, lesson.images, lesson.labels, how, seed, lambda d, t, _: show(f"{stage} {file.name}", d, t), check)

        fitted = fit(how, "training")
        if scheme and scheme.a != quantizers.FLOAT:
            keras.settle(model)
            last = fit(how.last, "settling")
            keras.settle(model)
            fitted, settled = replace(fitted, validation=last.validation), last.epochs
    if about.quant == "tfmot:int8":
        keras.pin_input(model)
    test = _test(keras.save(model, file, lesson.images), lesson)
    low, high = test.interval
    ties = f", {number(test.tied)} tied at the top" if test.tied else ""
    interval = f"{number(low)} {number(high)}"
    reporter.say(f"{file.name}: {number(test.accuracy)} of {test.n} test images right ({interval}){ties}, {fitted.epochs} epochs")
    if test.chance:
        reporter.say(f"{file.name}: {test.chance}", "yellow")
    trained = Trained(file, lesson.setting, about, how, fitted, settled, test)
    files.write_sidecar(file.with_name(file.name + sidecar.SUFFIX), trained.to_json())
    return trained


def _test(network: Network, lesson: _Lesson) -> Evaluation:
    answered, tied = _answers(network, lesson)
    truth = lesson.test.labels[lesson.test_index]
    right, n = int((answered == truth).sum()), len(truth)
    return Evaluation(n, right, float(tied.mean()), _chance(answered, truth, wilson(right, n)[0], lesson.test.classes))


def _answers(network: Network, lesson: _Lesson) -> tuple[np.ndarray, np.ndarray]:
    """The class that the network answers to each test image, ``(n,) int64``, the first of equals; whether it had equals, ``(n,) bool``."""
    source = KerasSource(network, PIXELS[:, : lesson.prepare.channels], CHUNK)
    parts = np.split(lesson.test_index, range(CHUNK, len(lesson.test_index), CHUNK))
    answers = [source.answer(sets.decode(lesson.test, part, lesson.prepare.apply)) for part in parts]
    return np.concatenate([a.label() for a in answers]), np.concatenate([a.tied() for a in answers])


def _chance(answered: np.ndarray, truth: np.ndarray, low: float, names: Sequence[str] | None) -> str:
    """A warning where the accuracy, whose Wilson interval begins at ``low``, is not above the commonest class's share; else "".

    That share is what answering one class always gets, and no less than 1 / classes. ``answered``, ``truth``: ``(n,) int64``.
    """

    def named(label: int) -> str:
        return repr(names[label]) if names and label < len(names) else f"class {label}"

    commonest = np.bincount(truth)
    if low > (share := commonest.max() / len(truth)):
        return ""
    always = f", and it does answer {named(answered[0])} to all of them" if len(np.unique(answered)) == 1 else ""
    return (
        f"that is no better than chance, as answering {named(int(commonest.argmax()))} to all has {number(share)} right{always}; "
        "train longer, on more images, or at another --rate"
    )
