"""Attacks from Python: a run from targets, images and attacks, by the one path that the command line takes, too."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq import runtimes
from edgeq.api import stated, words
from edgeq.api.images import Images
from edgeq.api.opening import OpenTarget
from edgeq.api.results import Result
from edgeq.core import devices
from edgeq.core.errors import EdgeqError
from edgeq.core.reporter import SILENT, Reporter
from edgeq.runs.execute import execute
from edgeq.runs.plan import Plan
from edgeq.runs.prepare import prepare
from edgeq.runs.store import Run
from edgeq.targets.spec import KERAS, is_float

if TYPE_CHECKING:
    from edgeq.core.threat import Norm
    from edgeq.runs.plan import Clamp
    from edgeq.runs.prepare import Setting
    from edgeq.targets.access import Level

AnyTarget = OpenTarget | str | Path
Workers = int | str
"""Processes here, or ``"tcp://HOST:PORT"`` of a Dask scheduler."""


def attack(
    targets: AnyTarget | Sequence[AnyTarget],
    images: Images | str | Path | None = None,
    attacks: str | Sequence[str] = (),
    *,
    eps: str | float | Sequence[str | float] = "8/255",
    norm: Norm = "linf",
    goal: str = "untargeted",
    source: str | Path | Sequence[str | Path] = (),
    transfer: bool = False,
    runtime: str | None = None,
    replay: Sequence[str] | None = None,
    agree: int | None = None,
    access: Level | None = None,
    clamp: Clamp = "both",
    n: int | None = 500,
    seed: int = 0,
    max_queries: int | None = None,
    label_column: str | None = None,
    class_map: str | Path | None = None,
    class_names: str | Path | None = None,
    exif: bool = True,
    skip_unreadable: bool = False,
    preprocess: str | None = None,
    source_preprocess: str | None = None,
    output: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    run: str | Path | None = None,
    workers: Workers = 1,
    reporter: Reporter = SILENT,
    command: Sequence[str] = (),
) -> Result:
    """Attacks ``targets`` on ``images`` and measures what every runtime answers: ``edgeq attack`` as a function.

    ``targets``: what ``edgeq.open`` gave, or files; several are networks of one task in one run. ``images``: ``edgeq.Images``, all of which
    are shown in their order, or a data set as ``edgeq.load`` takes it, of which ``n`` images are sampled under ``seed``, with
    ``label_column``, ``class_map`` and ``class_names`` (files); by default those that the files' sidecars name. Photographs are turned
    upright by their EXIF orientation unless ``exif`` is False; with ``skip_unreadable`` images that cannot be read are left out and
    counted. ``attacks``: names, with options as in ``"pgd:steps=20"``; by default what suits the access.

    ``eps``: radii, ``"4/255"``, ``"4px"`` or shares of the pixel range, in ``norm`` "linf" or "l2". ``goal``: "untargeted", "class:3" or
    "next". ``source``: float networks, Keras or ``.onnx``, that lend gradients. ``transfer``: craft on every target's own ones too.
    ``runtime``: what is attacked of files that are given by path, by default the first that runs each; ``replay``: further runtimes
    that answer every candidate, by default every one for a path without ``runtime``, and none else. ``device``: a profile that names the
    runtime. ``agree``: measure the targets as an ensemble too, of which so many must agree. ``access``: "label", "scores", "logits" or
    "gradients", the most that the attacker gets; ``clamp``: "clipped", "through" or "both", what a clamp of the file lets pass backwards.
    ``max_queries``: an image, its clean check included. ``preprocess``, ``source_preprocess``, ``output``, ``threads``: as for
    ``edgeq.open``, by default as the targets were opened.

    ``run``: the new run file, which ``edgeq resume`` can go on with; without one it is a temporary file that is gone with the result.
    ``workers``: processes that do the work, or ``"tcp://HOST:PORT"``. ``reporter`` hears notes and progress; ``command`` is recorded.

    Raises :class:`EdgeqError`, one sentence; before the run file exists where it is about files and options.
    """
    path = None if run is None else Path(run)
    if path is not None and path.exists():
        raise EdgeqError(f"{path}: this run exists already; go on with `edgeq resume {path}`, or choose another name")
    several: list[AnyTarget] = [targets] if isinstance(targets, (OpenTarget, str, Path)) else list(targets)
    files = tuple(str(t.file if isinstance(t, OpenTarget) else t) for t in several)
    opened = [t for t in several if isinstance(t, OpenTarget)]
    if device is not None:
        runtime = _device(device, files, reporter).runtime if runtime is None else runtime
    if images is None:
        images = stated.data_of([*files, *_texts(source)], reporter)
    given = images if isinstance(images, Images) else None
    plan = Plan(
        files,
        str(images) if given is None else f"{given.spec} {given.sha256()[:16]}",
        sources=_texts(source),
        transfer=transfer,
        agree=agree,
        runtimes=_runtimes(several, runtime, replay),
        attacks=_texts(attacks),
        access=access,
        clamp=clamp,
        eps=_texts(eps),
        norm=norm,
        goal=goal,
        n=len(given) if given is not None else n,
        seed=seed,
        max_queries=max_queries,
        preprocess=preprocess or _common(opened, "preprocess"),
        source_preprocess=source_preprocess,
        output=output or _common(opened, "output"),
        label_column=label_column,
        class_map=None if class_map is None else str(class_map),
        class_names=None if class_names is None else str(class_names),
        threads=threads or _common(opened, "threads"),
        exif=exif,
        skip_unreadable=skip_unreadable,
    )
    setting = prepare(plan, reporter.say, None if given is None else given.dataset())
    with contextlib.ExitStack() as owned:
        if path is None:
            path = Path(owned.enter_context(tempfile.TemporaryDirectory(prefix="edgeq-"))) / "run.sqlite"
        with setting.create(path, list(command)) as begun:
            for sentence, style in words.plan(setting, path):
                reporter.say(sentence, style)
            _finish(begun, setting, workers, reporter)
        return Result(path, owned.pop_all() if run is None else None)


def resume(run: str | Path, *, workers: Workers = 1, reporter: Reporter = SILENT) -> Result:
    """Brings the run file ``run`` to its end, with the rows that it would have had without the interruption: ``edgeq resume``.

    Raises :class:`EdgeqError` where a file or a runtime is not what it was when the run began.
    """
    with Run.open(run, write=True) as begun:
        _finish(begun, None, workers, reporter)
    return Result(run)


def _finish(run: Run, setting: Setting | None, workers: Workers, reporter: Reporter) -> None:
    with reporter.progress() as show:
        execute(run, setting, show, lambda estimate: reporter.say(words.duration(estimate)), workers, words.warner(reporter))


def _texts(value: Any) -> tuple[str, ...]:
    """One value, or several, as texts; a number so that it is read as that number."""
    several = value if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    return tuple(map(str, several))


def _runtimes(targets: Sequence[AnyTarget], runtime: str | None, replay: Sequence[str] | None) -> tuple[str, ...]:
    """What a plan names: the attacked runtime first; empty for every runtime that runs a file."""
    opened = {_suffix(t): t.spec.runtime for t in reversed(targets) if isinstance(t, OpenTarget)}
    if not opened and runtime is None and replay is None:
        return ()
    by_format: dict[str, dict[str, None]] = {}
    for target in targets:
        form = _suffix(target)
        first = runtime or opened.get(form) or next(iter(runtimes.listed(form) if form else ()), KERAS)
        by_format.setdefault(form, {})[target.spec.runtime if isinstance(target, OpenTarget) else first] = None
    attacked = by_format.pop(".tflite", {})
    if len(attacked) > 1:
        raise EdgeqError(
            f"the .tflite targets are to be attacked in {' and '.join(attacked)}: one run attacks them in one runtime, the others answer; "
            "open them in one, and name the others in replay"
        )
    return tuple(dict.fromkeys((*attacked, *(name for names in by_format.values() for name in names), *(replay or ()))))


def _suffix(target: AnyTarget) -> str:
    """``.tflite``, ``.onnx``, or "" for a Keras network."""
    file = Path(target.file if isinstance(target, OpenTarget) else target)
    return "" if is_float(file) else file.suffix


def _common(opened: Sequence[OpenTarget], what: str) -> Any:
    """How the targets were opened, all alike. Raises :class:`EdgeqError` where they were not."""
    values = list(dict.fromkeys(getattr(target, what) for target in opened))
    if len(values) > 1:
        raise EdgeqError(f"the targets were opened with {what} {values[0]} and {values[1]}; pass one {what} for all of them")
    return values[0] if values else None


def _device(name: str, files: Sequence[str], reporter: Reporter) -> devices.Device:
    """The profile, after saying whether each of ``files`` fits it."""
    profile = devices.load(name)
    for file in map(Path, files):
        arena = None
        if profile.runtime == "tflm" and file.suffix == ".tflite" and file.is_file():
            with contextlib.suppress(EdgeqError):  # the run itself will say why TFLM does not take the file
                arena = runtimes.arena_bytes(file)
        if file.is_file():
            for sentence in devices.fits(profile, file.stat().st_size, arena).sentences:
                reporter.say(f"{profile.title}: {file.name + ': ' if len(files) > 1 else ''}{sentence}")
    return profile
