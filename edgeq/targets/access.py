"""The access ladder: what a file gives an attacker, from its bare label to the gradients of its file."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np

from edgeq import runtimes
from edgeq.core import cpu
from edgeq.core.answer import Kind
from edgeq.core.errors import EdgeqError
from edgeq.integer import read
from edgeq.targets.views import stripped

Level = Literal["label", "scores", "logits", "gradients"]
LEVELS: tuple[Level, ...] = ("label", "scores", "logits", "gradients")
"""From the least to the most that an attacker may see."""


def hindrance(level: str, target: Path, runtime: str, kind: Kind) -> str | None:
    """Why ``target``, answering through ``runtime`` with a ``kind``, does not give ``level``, in words; None where it does."""
    if level == "scores":
        return "it answers with a bare label" if kind == "label" else None
    if level == "label" or runtime == "keras" or (level == "logits" and kind == "logits"):
        return None
    if target.suffix not in (".tflite", ".onnx") or (target.suffix == ".tflite" and runtime == "ort"):
        return f"{level} are taken from the file that ort runs, the .onnx"
    try:
        return _no_gradients(target, runtime) if level == "gradients" else _no_logits(target, runtime)
    except runtimes.LostError:  # next time it may: no reason to attack otherwise
        raise
    except EdgeqError as error:
        return str(error).removeprefix(f"{target}: ")


def _no_gradients(target: Path, runtime: str) -> str | None:
    from edgeq.keras.ste.source import check

    if not runtimes.simulated(runtimes.real(runtime)):
        return f"no gradient goes through the roundings of {runtime}"
    check(read.differentiable(target)[0])
    missing = [name for name in ("tensorflow", "tf_keras") if find_spec(name) is None]
    return 'gradients need TensorFlow; pip install "edgeq[keras]"' if missing else None


def caveat(target: Path, runtime: str) -> str | None:
    """Where the file's gradients may not be those of the very sums that run, in words; None where they are."""
    graph, kind = read.differentiable(target)
    if kind:
        what = "has int16 activations" if kind == "int16" else f"is of dynamic range: {runtime} quantises its activations as it runs"
        return f"{target.name} {what}, which is not followed bit by bit; its gradients are those of its real numbers, near what it answers"
    if runtime != "ort":
        return None
    if graph.floating:
        return "its sums of floats are added up in another order than ONNX Runtime's: the logits are equal but for their last bits"
    if any(op.kind == "dynamic_quantize" for op in graph.ops):
        return (
            "its activations are rounded to steps that each image sets, and reals are added up where ONNX Runtime adds up codes: "
            "the logits are nearly the runtime's, not equal to them"
        )
    if not cpu.u8s8_saturates():
        return None
    for op in graph.ops:
        if op.kind in ("conv", "depthwise", "dense"):
            x, w = (graph.tensors[i] for i in op.inputs[:2])
            if (x.dtype, w.dtype) == ("uint8", "int8") and w.data is not None and 2 * 255 * int(np.abs(w.data.astype(int)).max()) >= 2**15:
                return "on this processor ONNX Runtime may cut sums of uint8 times int8 at 16 bits, which the gradients do not know of"
    return None


def _no_logits(target: Path, runtime: str) -> str | None:
    with stripped(target) as file:
        runtimes.probe(runtime, file, output="logits")
    return None


def strongest(target: Path, runtime: str, kind: Kind) -> tuple[Level, list[str]]:
    """The highest level that ``target`` gives on ``runtime``, and why it does not give those above."""
    why: list[str] = []
    for level in reversed(LEVELS):
        if (reason := hindrance(level, target, runtime, kind)) is None:
            return level, why
        why.append(reason)
    raise AssertionError("every target gives a label")


def attack_for(level: str) -> str:
    """The attack that is run where none was named."""
    return {"label": "rays", "gradients": "pgd"}.get(level, "spsa")
