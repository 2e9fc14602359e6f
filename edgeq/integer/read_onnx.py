"""An ``.onnx`` model as the integer graph: integer kernels (QLinearConv ...) or float ops between DequantizeLinear and QuantizeLinear.

The graph means what ONNX Runtime makes of the file, to be run with the runtime "ort": a float op whose inputs are all dequantised, and
whose result is only quantised, is one integer op there (``qdq_selectors.cc``); what is not stays between ``dequantize`` and ``quantize``.
No layout of the file's survives: a transposition only changes how a tensor is seen. The file is untrusted.
"""

from __future__ import annotations

from pathlib import Path

from edgeq.core.errors import EdgeqError
from edgeq.integer import model as models
from edgeq.integer import onnx_file
from edgeq.integer.graph import Graph
from edgeq.integer.onnx import ops, scales
from edgeq.integer.onnx.reader import Reader
from edgeq.integer.onnx.values import UnfitError, without_identities


def read(path: str | Path) -> Graph:
    """The graph in the file ``path``. Raises :class:`EdgeqError`."""
    return from_model(onnx_file.read(str(path)))


def from_model(model: models.Model) -> Graph:
    """The graph of a parsed file. :class:`EdgeqError` names the file, the op, and what to do."""
    m = model
    if m.format != "onnx":
        raise EdgeqError(f"{m.path}: is no .onnx model")
    if len(m.inputs) != 1 or len(m.outputs) != 1:
        raise EdgeqError(f"{m.path}: has {len(m.inputs)} inputs and {len(m.outputs)} outputs; only one of each can be read as a graph")
    m = without_identities(m)
    if not 1 <= len(m.ops) <= models.MAX_OPS:
        raise EdgeqError(f"{m.path}: has {len(m.ops)} ops; 1 to {models.MAX_OPS} can be read")
    r, where = Reader(m, ops.read), "the input"
    try:
        r.labels = scales.labels(r)
        r.enter()
        for r.at, op in enumerate(m.ops):
            where = f"{op.name} ({m.tensors[op.outputs[0]].name})" if op.outputs else op.name
            if r.at not in r.done and not (op.outputs and op.outputs[0] in r.values):
                r.values[r.output(op)] = ops.read(r, op)
        where = "the output"
        output = r.leave()
    except (UnfitError, ValueError, IndexError, KeyError, OverflowError, TypeError, RecursionError) as error:
        remedy = "attack the file by queries (--access scores), or simplify it first (quant_pre_process of onnxruntime.quantization)"
        raise EdgeqError(f"{m.path}: {where} cannot be read: {error}; {remedy}") from None
    return Graph(tuple(r.tensors), tuple(r.ops), 0, output, m.path)
