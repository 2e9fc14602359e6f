"""ONNX Runtime on the processor: one session, called by several threads at once."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature
from edgeq.integer import classifier, onnx_file
from edgeq.integer.onnx.content import proto_of, self_contained
from edgeq.runtimes import cpu
from edgeq.runtimes._lanes import Codes, Lanes, best_chunk, check_batching
from edgeq.runtimes._process import unnamed
from edgeq.runtimes.litert import as_images, widest

# the kernels that compute on integers, and the ops that compute on floats, in an optimised graph
_INTEGER = ("QLinear", "QGemm", "ConvInteger", "MatMulInteger", "QAttention", "DynamicQuantizeMatMul")
_FLOAT = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "ConvTranspose", "Add", "Mul", "Relu", "Clip", "Softmax"} | {
    *("Sigmoid", "MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean", "BatchNormalization", "LSTM", "GRU", "Attention", "Gelu")
}


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


def open(path: str | Path, signature: Signature, codes: Codes, *, batch: int = 256, threads: int | None = None) -> Lanes:
    """The ``.onnx`` file as a target. ``threads``: lanes, by default the cores this process may use."""
    runtime = _runtime(path)
    content = self_contained(path)
    proto = proto_of(content, str(path))
    model = onnx_file.parse(content, str(path))
    fixed, *shape = model.tensors[model.inputs[0]].shape
    if fixed > 1:
        raise EdgeqError(f"{path}: takes {fixed} images at once, no more and no less; export it with a free batch axis or a batch of 1")
    _, layout = classifier.image_layout((1, *shape)) or ((), "nhwc")
    threads = threads or cpu.count()
    # between Q and DQ the file says float where the optimised graph holds single bytes
    chunk = best_chunk(widest(model) // 4, min(64, max(1, batch // threads)))
    session = None
    if chunk > 1 and _free_batch(proto):  # a batch axis fixed at one image is freed, if the graph then still means the same
        with contextlib.suppress(Exception):  # onnxruntime's exception classes are not public
            freed = _session(runtime, proto.SerializeToString())
            if check_batching(partial(_Lane, freed, signature, codes, shape, layout, 16), signature, chunk):
                session = freed
    if session is None:
        session, chunk = _session(runtime, content), 1
    identity = {
        "engine": "ONNX Runtime",
        "version": runtime.__version__,
        "kernels": "CPUExecutionProvider",
        "cpu": cpu.describe(),
        "argmax": "lowest index",
        "u8s8_saturates": cpu.u8s8_saturates(),  # onnxruntime issue 14642
    }
    return Lanes("ort", signature, [_Lane(session, signature, codes, shape, layout, chunk) for _ in range(threads)], chunk, batch, identity)


def kernels(path: str | Path) -> tuple[dict[str, int], dict[str, int]]:
    """Counts of integer kernels, and of float compute ops that are left, in the optimised graph. For workers."""
    runtime = _runtime(path)
    with os.fdopen(unnamed(0), "rb") as optimised:  # nothing is left behind when this process is killed
        _session(runtime, self_contained(path), f"/dev/fd/{optimised.fileno()}")
        optimised.seek(0)
        proto = proto_of(optimised.read(), str(path))
    integer: dict[str, int] = {}
    floating: dict[str, int] = {}
    for node in proto.graph.node:
        if node.op_type.startswith(_INTEGER):
            integer[node.op_type] = integer.get(node.op_type, 0) + 1
        elif node.op_type in _FLOAT:
            floating[node.op_type] = floating.get(node.op_type, 0) + 1
    return integer, floating


def _runtime(path: str | Path) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise EdgeqError(f'{path}: running .onnx files needs ONNX Runtime; pip install "edgeq[onnx]"') from None
    return onnxruntime


def _session(runtime: Any, content: bytes, save: str | Path | None = None) -> Any:
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the lanes are the threads
    options.log_severity_level = 4
    options.add_session_config_entry("session.qdqisint8allowed", "1")  # int8 QDQ becomes integer kernels too
    if save is not None:
        options.optimized_model_filepath = str(save)
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


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
