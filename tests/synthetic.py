"""A run made of random arrays: five runtimes, one that cannot run, two attacks at two radii, and a noise baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.rows import row_id
from edgeq.core.signature import Signature, Tensor
from edgeq.pipeline.codes import PixelCodes
from edgeq.runs.store import CLEAN, Artifact, Cell, Run, RunTarget
from edgeq.targets.spec import TargetSpec

BEFORE_GRID = " (before the grid)"
RUNTIMES = ("keras", "litert-xnnpack", "litert-builtin", "tflm")
SIGNATURE = Signature(Tensor((8, 8, 3), "int8", 1 / 255, -128), Tensor((10,), "int8", 1 / 256, -128), "probs", "nhwc")
PIXELS = np.repeat(np.arange(256)[:, None], 3, axis=1)
CODES = PixelCodes((PIXELS - 128).astype(np.int8), -128, (PIXELS / 255).astype(np.float32))


def target(id: str, status: str = "runs", reason: str = "", identity: Any = None, **spec: Any) -> RunTarget:
    """A target that is known by its runtime's name alone."""
    return RunTarget(TargetSpec(id, **{"runtime": id, **spec}), status, reason, identity or {})


def images(n: int, shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """``(n, h, w, c) uint8``: a soft disc on a ramp, so that a report of them has something to look at."""
    h, w, c = shape
    y, x = np.mgrid[0:h, 0:w] / max(h, w)
    centre = rng.uniform(0.3, 0.7, (n, 2, 1, 1))
    disc = 1 / (1 + np.exp(40 * (np.hypot(y - centre[:, 0], x - centre[:, 1]) - rng.uniform(0.1, 0.3, (n, 1, 1)))))
    colours = rng.uniform(0, 1, (n, 2, 1, 1, c))
    back = colours[:, 0] * (0.5 + 0.5 * y)[None, :, :, None]
    return np.rint(255 * (back + disc[..., None] * (colours[:, 1] - back))).astype(np.uint8)


def answers(rng: np.random.Generator, labels: np.ndarray, right: np.ndarray) -> Answer:
    """int8 scores whose top is the label where ``right``."""
    raw = rng.integers(-128, 60, (len(labels), 10)).astype(np.int8)
    raw[np.arange(len(labels)), np.where(right, labels, (labels + 1 + rng.integers(0, 9, len(labels))) % 10)] = 100
    return Answer("probs", raw, 1 / 256, -128)


def make_run(
    path: Path,
    n: int = 60,
    shape: tuple[int, int, int] = (8, 8, 3),
    classes: list[str] | None = None,
    finished: float = 1.0,
    seed: int = 0,
    runtimes: tuple[str, ...] = RUNTIMES,
    codes: Any = CODES,
    attacks: tuple[str, ...] = ("pgd", "spsa"),
) -> Path:
    """Writes a run; of the last cell only the share ``finished`` of the rows."""
    rng = np.random.default_rng(seed)
    x, labels, idx = images(n, shape, rng), rng.integers(0, 10, n), np.arange(n)
    names = [f"test/{i}.png" for i in range(n)]
    meta = {
        "created": "2026-11-02T10:00:00+00:00",
        "command": "edgeq attack --target model.tflite --data zip:images.zip --attack pgd,spsa --eps 1/255,8/255",
        "plan": {"seed": 0, "n": n, "attacks": ["pgd:steps=40", "spsa"], "eps": [1 / 255, 8 / 255], "norm": "linf"},
        "classes": classes or [f"class {i}" for i in range(10)],
        "environment": {"edgeq": "0.1.0", "python": "3.11.7", "machine": "x86_64", "cpu flags": "avx512_vnni, amx_int8"},
        "data": {"spec": "zip:images.zip", "sha256": "cd" * 32},
    }
    with Run.create(path, shape=shape, n=n, meta=meta) as run, run.transaction():
        run.add(
            Artifact("ab" * 32, "model.tflite", "model.tflite", 96320),
            Artifact("ef" * 32, "model.h5", "model.h5", 391212),
            *[
                target(
                    t,
                    artifact=("ef" if t == "keras" else "ab") * 32,
                    role="source" if t == "keras" else "target",
                    network="model",
                    signature=SIGNATURE,
                    codes=codes,
                    identity={"engine": t, "version": "2.3", "instruction set": "x86_64 avx512_vnni"},
                )
                for t in runtimes
            ],
            *[
                target(
                    f"keras{BEFORE_GRID}", runtime="keras", role="source", derived="before-grid", members=("keras",), signature=SIGNATURE
                )
                for _ in range("keras" in runtimes)
            ],
            target("ort", "cannot run", "there is no sibling .onnx beside the file"),
            CLEAN,
        )
        run.add_rows(idx, np.array([row_id(name) for name in names]), names, labels, x)
        clean = rng.uniform(size=n) < 0.9
        for name in runtimes:
            run.add_answers(0, name, idx, answers(rng, labels, clean ^ (rng.uniform(size=n) < 0.03)), labels)
        plan = [(a, e) for a in ("noise", *attacks) for e in (1, 8)]
        for number, (attack, pixels) in enumerate(plan, 1):
            kind = {"noise": "noise", "spsa": "query"}.get(attack, "gradient")
            on = {"noise": "", "query": "litert-xnnpack", "gradient": "keras"}[kind]
            access = {"query": "scores", "gradient": "gradients"}.get(kind, "")
            run.add(Cell(number, attack, {} if attack == "noise" else {"steps": 40}, "linf", pixels / 255, on, access, kind))
            step = rng.integers(-pixels, pixels + 1, x.shape) if attack == "noise" else pixels * rng.choice([-1, 1], x.shape)
            candidates = np.clip(x.astype(int) + step, 0, 255).astype(np.uint8)
            queries = rng.geometric(0.002, n) if kind == "query" else 0
            part = idx[: round(finished * n)] if number == len(plan) else idx
            run.add_candidates(number, part, candidates[part], x[part], np.broadcast_to(queries, n)[part], rng.normal(size=n)[part])
            stands = clean & (rng.uniform(size=n) < {"noise": 0.99}.get(attack, {1: 0.6, 8: 0.15}[pixels]))
            for name in (*runtimes, *(["keras" + BEFORE_GRID] if kind == "gradient" and "keras" in runtimes else [])):
                flips = rng.uniform(size=n) < (0 if name == on else 0.05)
                run.add_answers(number, name, part, answers(rng, labels, stands ^ flips)[part], labels[part])
    return path
