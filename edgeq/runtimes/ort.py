"""ONNX Runtime on the processor (microsoft/onnxruntime): one session, called by several threads at once."""

from __future__ import annotations

import contextlib
import importlib
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core import cpu
from edgeq.core.children import unnamed
from edgeq.core.errors import EdgeqError
from edgeq.core.runtime import Codes, Runtime
from edgeq.core.signature import Signature
from edgeq.runtimes._lanes import Lanes, best_chunk, check_batching
from edgeq.runtimes._layout import as_images, layout_of, widest

# the kernels that compute on integers, and the ops that compute on floats, in an optimised graph
_INTEGER = ("QLinear", "QGemm", "ConvInteger", "MatMulInteger", "QAttention", "DynamicQuantizeMatMul")
_FLOAT = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "ConvTranspose", "Add", "Mul", "Relu", "Clip", "Softmax"} | {
    *("Sigmoid", "MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean", "BatchNormalization", "LSTM", "GRU", "Attention", "Gelu")
}


@dataclass(frozen=True)
class ORT(Runtime):
    """Its CPU provider, which fuses float ops between DequantizeLinear and QuantizeLinear into integer kernels."""

    name = "ort"
    forms = (".onnx",)
    modules = ("onnx", "onnxruntime")
    missing = 'running .onnx files needs ONNX Runtime; pip install "edgeq[onnx]"'
    rank = 50
    simulated = True

    def open(self, path: str | Path, signature: Signature, codes: Codes, *, batch: int, threads: int) -> Lanes:
        from edgeq.integer import onnx_file
        from edgeq.integer.onnx.content import proto_of, self_contained

        engine = importlib.import_module("onnxruntime")
        content = self_contained(path)
        proto = proto_of(content, str(path))
        model = onnx_file.parse(content, str(path))
        fixed, *shape = model.tensors[model.inputs[0]].shape
        if fixed > 1:
            raise EdgeqError(f"{path}: takes {fixed} images at once, no more and no less; export it with a free batch axis or a batch of 1")
        layout = layout_of(model)
        # between Q and DQ the file says float where the optimised graph holds single bytes
        chunk = best_chunk(widest(model) // 4, min(64, max(1, batch // threads)))
        session = None
        if chunk > 1 and _free_batch(proto):  # a batch axis fixed at one image is freed, if the graph then still means the same
            with contextlib.suppress(Exception):  # onnxruntime's exception classes are not public
                freed = _session(engine, proto.SerializeToString())
                if check_batching(partial(_Lane, freed, signature, codes, shape, layout, 16), signature, chunk):
                    session = freed
        if session is None:
            session, chunk = _session(engine, content), 1
        identity = {
            "engine": "ONNX Runtime",
            "version": engine.__version__,
            "kernels": "CPUExecutionProvider",
            "cpu": cpu.describe(),
            "argmax": "lowest index",
            "u8s8_saturates": cpu.u8s8_saturates(),  # onnxruntime issue 14642
        }
        lanes = [_Lane(session, signature, codes, shape, layout, chunk) for _ in range(threads)]
        return Lanes(self.name, signature, lanes, chunk, batch, identity)

    def measure(self, path: str | Path) -> dict[str, Any]:
        """``integer``, ``float``: counts of integer kernels, and of float compute ops that are left, in the optimised graph."""
        from edgeq.integer.onnx.content import proto_of, self_contained

        with os.fdopen(unnamed(0), "rb") as optimised:  # nothing is left behind when this process is killed
            _session(importlib.import_module("onnxruntime"), self_contained(path), f"/dev/fd/{optimised.fileno()}")
            optimised.seek(0)
            proto = proto_of(optimised.read(), str(path))
        counts: dict[str, dict[str, int]] = {"integer": {}, "float": {}}
        for node in proto.graph.node:
            if (integer := node.op_type.startswith(_INTEGER)) or node.op_type in _FLOAT:
                of = counts["integer" if integer else "float"]
                of[node.op_type] = of.get(node.op_type, 0) + 1
        return counts


class _Lane:
    def __init__(self, session: Any, signature: Signature, codes: Codes, shape: list[int], layout: str, chunk: int) -> None:
        self.session, self.codes = session, codes
        self.input, self.output = session.get_inputs()[0].name, session.get_outputs()[0].name
        self.space = np.empty((chunk, *shape), signature.input.dtype)
        self.images = as_images(self.space, signature.input.shape, layout)

    def run(self, images: np.ndarray, out: np.ndarray) -> None:
        n = len(images)
        self.codes.encode(images, self.images[:n])
        out[...] = self.session.run([self.output], {self.input: self.space[:n]})[0].reshape(out.shape)

    def close(self) -> None:
        self.session = None


def _session(engine: Any, content: bytes, save: str | Path | None = None) -> Any:
    options = engine.SessionOptions()
    options.graph_optimization_level = engine.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the lanes are the threads
    options.log_severity_level = 4
    options.add_session_config_entry("session.qdqisint8allowed", "1")  # int8 QDQ becomes integer kernels too
    if save is not None:
        options.optimized_model_filepath = str(save)
    return engine.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _free_batch(proto: Any) -> bool:
    """Makes the first axis of input and output free, in place; whether it is so now. What is known inside the graph is dropped."""
    for value in (*proto.graph.input, *proto.graph.output):
        dims = value.type.tensor_type.shape.dim
        if not dims or dims[0].dim_value > 1:
            return False
        if not dims[0].dim_param:
            dims[0].dim_param = "edgeq_batch"
    del proto.graph.value_info[:]
    return True


plugin: Runtime = ORT()
