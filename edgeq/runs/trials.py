"""Where a network's answers look wrong: does another usual normalisation, order of channels or numbering of the classes fit better?

A hundred images are shown in each way. Said is only what is right significantly more often than what was done: by McNemar's exact test, at
a level that is divided by the number of ways (Bonferroni), and above chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product

import numpy as np

from edgeq.core import doubts
from edgeq.core.errors import EdgeqError
from edgeq.core.reporter import Progress
from edgeq.pipeline.codes import PixelCodes, codes_for
from edgeq.pipeline.preprocess import Preprocess
from edgeq.runs.doubts import of_target, sentences
from edgeq.runs.executors.executor import Executor
from edgeq.runs.format import RunTarget
from edgeq.runs.reader import Reader
from edgeq.runs.store import Run
from edgeq.targets.opener import Bench
from edgeq.targets.spec import TargetSpec

IMAGES = 100
LEVEL = 0.05
OFFSETS = (0, 1, -1)
NORMALISATIONS = ("mean=0,std=255", "mean=127.5,std=127.5")
IMAGENET = {"rgb": "mean=123.675,116.28,103.53,std=58.395,57.12,57.375", "bgr": "mean=103.53,116.28,123.675,std=57.375,57.12,58.395"}
"""torchvision's, in pixels."""
_OTHER = {"rgb": "bgr", "bgr": "rgb"}
_KEY = "fits"  # in the meta table


@dataclass(frozen=True)
class Fit:
    """What fits ``target`` better than what was done: ``right`` instead of ``before`` of ``n`` images. ``option``: "preprocess" or
    "source-preprocess", and ``value`` to pass with it, "" where nothing is to be changed; ``offset``: of the classes from the labels."""

    target: str
    n: int
    right: int
    before: int
    option: str
    value: str
    offset: int

    def sentence(self, name: str) -> str:
        """For people; ``name``: what to call the target."""
        ways = [f"--{self.option} {self.value}"] * bool(self.value)
        if self.offset:
            higher = f"every class one {'higher' if self.offset > 0 else 'lower'} than its label"
            ways.append(f"{higher}, for which pass --class-map, or the model's own list with --class-names")
        return f"What fits: {self.right} of {self.n} images instead of {self.before} are right in {name} with {', and '.join(ways)}."


@dataclass(frozen=True, eq=False)
class Way:
    """How images are shown to a target: ``words``, for ``--preprocess``, and ``codes``; ``flipped``: channels in the other order."""

    words: str
    flipped: bool
    codes: PixelCodes

    def labels(self, bench: Bench, at: int, id: str, images: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """``at``, and ``(m,) int64`` labels of the images shown so; none of what the target does not answer."""
        images = np.ascontiguousarray(images[..., ::-1]) if self.flipped else images
        try:
            if (as_pixels := _as_pixels(bench.specs[id].codes, self.codes)) is not None:
                shown = np.stack([as_pixels[images[..., c], c] for c in range(images.shape[-1])], axis=-1)
                yield at, bench.target(id).answer(shown).label()
            else:
                with bench.shown(id, self.codes) as target:
                    yield at, target.answer(images).label()
        except EdgeqError:
            return


def ways(spec: TargetSpec, order: str) -> list[Way]:
    """All that is tried; the first is what was done. ``order``: of the channels, as it was."""
    assert spec.signature is not None
    assert spec.codes is not None
    tensor = spec.signature.input
    channels = tensor.shape[-1]
    found = []
    for flipped in (False, True) if channels == 3 and spec.role == "target" else (False,):
        now = _OTHER[order] if flipped else order
        here = [Way("", flipped, spec.codes)]
        raw = "mean=0,std=1" if np.dtype(tensor.dtype).kind == "f" else "bytes"
        for words in (raw, *NORMALISATIONS, *([IMAGENET[now]] if channels == 3 else [])):
            try:
                codes = codes_for(tensor, Preprocess.parse(words, (tensor.shape[0], tensor.shape[1]), channels), spec.id)
            except EdgeqError:  # bytes into 16 bits
                continue
            if codes not in [way.codes for way in here]:
                here.append(Way(words, flipped, codes))
        found += here
    return found


def best_of(labels: Mapping[int, np.ndarray], truth: np.ndarray, offsets: Sequence[int], classes: int) -> tuple[int, int, int, int] | None:
    """The best way and offset, and how many of the images are right with it and with the first way; None where it is not significantly
    better. ``labels``: what was answered, ``(m,) int64`` each, by the place of the way; ``truth``: ``(m,) int64``."""
    right = {(at, offset): seen == truth + offset for (at, seen), offset in product(sorted(labels.items()), offsets)}
    (at, offset), best = max(right.items(), key=lambda entry: (int(entry[1].sum()), -(entry[0][0] > 0) - (entry[0][1] != 0)))
    before, n = right[0, 0], len(truth)
    only, lost = int((best & ~before).sum()), int((before & ~best).sum())
    p = min(1.0, 2 * doubts.at_least(max(only, lost), only + lost, 0.5))
    if only <= lost or p * (len(right) - 1) >= LEVEL or doubts.by_chance(int(best.sum()), n, classes):
        return None
    return at, offset, int(best.sum()), int(before.sum())


def _value(way: Way, preprocess: Preprocess) -> str:
    """What to pass with ``--preprocess`` so that images are shown so: all of it, as it may stand in the place of what was passed before."""
    order = _OTHER[preprocess.order] if way.flipped else preprocess.order
    plain = replace(preprocess, order=order, **({"mean": None, "std": None, "bytes": False} if way.words else {}))  # type: ignore[arg-type]
    return Preprocess.parse(way.words, plain.size, plain.channels, plain).spec if way.words else plain.spec


def look(
    run: Run, executor: Executor, asked: Sequence[str], called: Mapping[str, str], progress: Progress, warn: Callable[[str], None]
) -> None:
    """At the answers of the targets ``asked`` to clean images. Of each network that looks wrong, the ways are tried on its first target,
    and what fits is kept with the run, once. ``called``: what to call them; ``warn`` hears it all."""
    records = {t.id: t for t in run.targets(running=True) if t.id in asked}
    found = {id: doubted for id, record in records.items() if (doubted := of_target(run, record))}
    first = {records[id].spec.network: records[id] for id in reversed(found) if records[id].spec.artifact}
    if first and run.meta(_KEY) is None:
        run.set_meta(_KEY, [asdict(fit) for record in first.values() if (fit := _tried(run, record, executor, progress))])
    for sentence in sentences(found, {id: record.spec.network for id, record in records.items()}, called):
        warn(sentence)
    for fit in kept(run):
        warn(fit.sentence(called.get(fit.target, fit.target)))


def _tried(run: Run, record: RunTarget, executor: Executor, progress: Progress) -> Fit | None:
    spec = record.spec
    if spec.signature is None or spec.codes is None:
        return None
    index = np.arange(min(IMAGES, run.n))
    images, truth = run.images(index), run.labels()[index]
    preprocess = Preprocess.parse(str(run.meta("preprocess")), run.shape[:2], run.shape[2])
    tried, labels = ways(spec, preprocess.order), dict[int, np.ndarray]()
    stage = f"other ways to show images to {record.id}"
    progress(stage, 0, len(tried))
    for at, seen in executor.map(partial(way.labels, at=at, id=record.id, images=images) for at, way in enumerate(tried)):
        labels[at] = seen
        progress(stage, len(labels), len(tried))
    progress(stage, len(tried), len(tried))
    if 0 not in labels:
        return None
    ships = spec.role == "target"
    best = best_of(labels, truth, OFFSETS if ships else (0,), spec.signature.classes or len(np.unique(truth)))
    if best is None:
        return None
    at, offset, right, before = best
    value = "" if not at else _value(tried[at], preprocess) if ships else tried[at].words
    return Fit(record.id, len(index), right, before, "preprocess" if ships else "source-preprocess", value, offset)


def kept(run: Reader) -> tuple[Fit, ...]:
    """What was found to fit, by :func:`look`. Raises :class:`EdgeqError` for a run that was edited."""
    kinds = {"target": str, "n": int, "right": int, "before": int, "option": str, "value": str, "offset": int}
    entries = run.meta(_KEY) or []
    good = isinstance(entries, list) and all(
        isinstance(e, dict) and {*e} == {*kinds} and all(type(e[key]) is kind for key, kind in kinds.items()) for e in entries
    )
    if not good:
        raise EdgeqError(f"{run.path}: is damaged (what fits its targets makes no sense); use a copy, or start a new run")
    return tuple(Fit(**entry) for entry in entries)


def _as_pixels(codes: PixelCodes | None, wanted: PixelCodes) -> np.ndarray | None:
    """``(256, c) uint8``: the pixel that becomes the code that another would become by ``wanted``; None where no pixel does for some."""
    if codes is None or codes.table.shape != wanted.table.shape:
        return None
    columns = []
    for have, want in zip(codes.table.T, wanted.table.T, strict=True):
        order = np.argsort(have, kind="stable")
        place = order[np.minimum(np.searchsorted(have[order], want), 255)]
        if not np.array_equal(have[place], want):
            return None
        columns.append(place.astype(np.uint8))
    return np.stack(columns, axis=1)
