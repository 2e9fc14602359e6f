"""The quantisation of an ``.onnx`` file's codes, which its ops tell each other and no tensor carries."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import replace

import numpy as np

from edgeq.integer import model as models
from edgeq.integer.onnx.reader import Reader
from edgeq.integer.onnx.values import Steps, UnfitError, checked

_KEEP = {"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Identity", "Dropout", "MaxPool", "NhwcMaxPool"} | {
    *("Min", "Max", "Pad"),
    *("ConvInteger", "Sub", "Div", "Cast"),  # a mean of codes in integers
}
TRIPLES: dict[str, tuple[tuple[int, ...], tuple[int, int]]] = {
    "QLinearConv": ((0, 3), (6, 7)),
    "QLinearMatMul": ((0, 3), (6, 7)),
    "QGemm": ((0, 3), (7, 8)),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), ((0, 3), (6, 7))),
    **dict.fromkeys(
        ("QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax"), ((0,), (3, 4))
    ),
}
"""Integer kernel -> where its (codes, scale, zero point) begin, and where the output's scale and zero point are."""


def stated(r: Reader, op: models.Op, scale: int, zero: int) -> Steps:
    """The quantisation in the inputs ``scale`` and ``zero`` of an op, for a whole tensor."""
    value = r.constant(op.inputs[scale]).data
    if value.dtype != np.float32 or value.size != 1:
        raise UnfitError("an activation's scale is not one float32")
    if len(op.inputs) <= zero or op.inputs[zero] < 0:
        return checked(Steps(np.float32(value.reshape(-1)[0]), 0, "uint8"))
    offset = r.constant(op.inputs[zero]).data
    if offset.size != 1:
        raise UnfitError("an activation's zero point is not one number")
    return checked(Steps(np.float32(value.reshape(-1)[0]), int(offset.reshape(-1)[0]), str(offset.dtype)))


def joined(op: models.Op) -> tuple[tuple[int, ...], tuple[int, int]] | None:
    """Where an integer kernel's triples begin, and its output's scale and zero point; None for other ops."""
    if op.name == "QLinearConcat":
        return tuple(range(2, len(op.inputs) - 2, 3)), (0, 1)
    return TRIPLES.get(op.name)


def labels(r: Reader) -> dict[int, Steps]:
    """Codes -> the quantisation that an op beside them states, or that those have from which or into which they were only moved.

    A DequantizeLinear and QuantizeLinear of one scale that only change the type move codes too, and their scale is often just 1.
    """
    ops, scales, last = r.model.ops, dict[int, Steps](), dict[int, Steps]()
    links: dict[int, list[tuple[int, int]]] = defaultdict(list)

    def note(where: dict[int, Steps], index: int, op: models.Op, scale: int, zero: int) -> None:
        if r.model.tensors[index].data is None:
            with suppress(UnfitError):  # what is wrong there is said when the op is read
                where.setdefault(index, stated(r, op, scale, zero))

    def link(a: int, b: int, shift: int) -> None:
        links[a].append((b, shift))
        links[b].append((a, -shift))

    for op in ops:
        if not op.outputs or not op.inputs:
            continue
        if op.name in _KEEP:
            link(op.inputs[0], op.outputs[0], 0)
        elif op.name == "QuantizeLinear":
            before = ops[r.writers[op.inputs[0]]] if op.inputs[0] in r.writers else None
            shift = None if before is None else recode(r, before, op)
            if before is not None and shift is not None:
                link(before.inputs[0], op.outputs[0], shift)
            note(scales if shift is None else last, op.outputs[0], op, 1, 2)
        elif op.name == "DequantizeLinear":
            reader = r.only_reader(op.outputs[0])
            shift = None if reader is None or reader.name != "QuantizeLinear" else recode(r, op, reader)
            note(scales if shift is None else last, op.inputs[0], op, 1, 2)
        elif (places := joined(op)) is not None:
            for i in places[0]:
                note(scales, op.inputs[i], op, i + 1, i + 2)
            note(scales, op.outputs[0], op, *places[1])
    for known in (scales, last):
        for index, steps in [*known.items()]:
            scales.setdefault(index, steps)
            todo = [index]
            while todo:
                here = todo.pop()
                for other, shift in links[here]:
                    if other not in scales:
                        scales[other] = replace(scales[here], zero=scales[here].zero + shift)
                        todo.append(other)
    return scales


def recode(r: Reader, dequantize: models.Op, quantize: models.Op) -> int | None:
    """By how much codes move, where the pair changes their type alone."""
    if dequantize.name != "DequantizeLinear" or r.only_reader(quantize.inputs[0]) is not quantize:
        return None
    if r.model.tensors[dequantize.inputs[0]].data is not None:
        return None
    try:
        a, b = stated(r, dequantize, 1, 2), stated(r, quantize, 1, 2)
    except UnfitError:
        return None
    return b.zero - a.zero if a.scale == b.scale and a.dtype != b.dtype else None
