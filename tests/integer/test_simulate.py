import json
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import one_op_files
import pytest
from ai_edge_litert import schema_py_generated as schema
from one_op_files import answers, make
from tiny_tflite import B, classifier, packed
from tiny_tflite import Graph as Draft

from edgeq.core.errors import EdgeqError
from edgeq.integer import read_tflite, tflite_file
from edgeq.integer.graph import Graph
from edgeq.integer.rounding import RUNTIMES
from edgeq.integer.simulate import EXACT, simulate

SHARED = Path(__file__).parents[2].parent / "shared"
RESNET, MOBILENET = SHARED / "models/pretrainedResnet_quant.tflite", SHARED / "models/mobilenet_v1_0.25_128_quant.tflite"


def _graph(content: bytes) -> Graph:
    return read_tflite.from_model(tflite_file.parse(content, "one.tflite"))


def _codes(graph: Graph, rng: np.random.Generator, n: int) -> np.ndarray:
    t = graph.tensors[graph.input]
    return rng.integers(-128 if t.dtype == "int8" else 0, 128 if t.dtype == "int8" else 256, (n, *t.shape)).astype(t.dtype)


def _tflm(runtime: str) -> None:
    if runtime == "tflm":
        pytest.importorskip("tflite_micro")


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("kind", list(one_op_files.MAKERS))
def test_one_op_equals_the_interpreter(kind: str, dtype: str, runtime: str) -> None:
    _tflm(runtime)
    if runtime == "tflm" and (dtype == "uint8" or kind == "relu_n1_to_1"):
        pytest.skip("TFLite Micro has no such kernel")
    if kind.endswith("4") and (dtype == "uint8" or (runtime, kind) == ("tflm", "dense4")):
        pytest.skip("no runtime has such a kernel, or TFLite Micro only for some of the files")
    tolerance = EXACT.get((kind, runtime), 0)
    for seed in range(8 if kind in ("conv", "depthwise", "dense", "add", "mean") else 4):
        rng = np.random.default_rng([seed, 7])
        content = make(kind, rng, dtype)
        graph = _graph(content)
        images = _codes(graph, rng, 4)
        theirs, ours = answers(content, runtime, images), simulate(graph, images, runtime)
        assert isinstance(ours, np.ndarray)
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        if tolerance:
            assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= tolerance
        else:
            np.testing.assert_array_equal(ours, theirs, f"seed {seed}")


def _stated(scale: object = None, zero: int | None = None, axis: int = 0, factor: float = 1.0) -> object:
    """Changes what a file states of its bias."""

    def change(q: schema.QuantizationParametersT) -> None:
        scales = np.asarray(q.scale, np.float32)
        q.scale = scales * np.float32(factor) if scale is None else np.full_like(scales, scale)
        q.quantizedDimension = axis
        if zero is not None:
            q.zeroPoint = np.full(len(q.scale), zero, np.int64)

    return change


BIASES = {
    "as written": _stated(),
    "nothing stated": None,
    "an axis it lacks": _stated(axis=3),
    "a hair apart": _stated(factor=1 + 1e-7),
    "twice": _stated(factor=2),
    "a million times": _stated(factor=1e6),
    "a zero point": _stated(zero=5),
    **{f"scale {bad}": _stated(bad) for bad in (0.0, -1.0, np.nan, np.inf, 1e-40, 1e-30)},
}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
def test_what_a_file_states_of_a_bias_is_taken_as_the_kernels_take_it(kind: str, dtype: str, runtime: str) -> None:
    """None adds another number to a sum for it; each has its own reasons to refuse a file, or to leave a layer to other kernels."""
    _tflm(runtime)
    if (runtime, dtype) == ("tflm", "uint8"):
        pytest.skip("TFLite Micro has no such kernel")
    for seed, (said, change) in enumerate(BIASES.items()):
        for rng in (np.random.default_rng([seed, k]) for k in range(4)):  # one scale of the weights, or one a channel
            model = schema.ModelT.InitFromPackedBuf(make(kind, rng, dtype), 0)
            bias = next(t for t in model.subgraphs[0].tensors if t.name == b"b")
            if change is None:
                bias.quantization = None
            else:
                change(bias.quantization)
            content = packed(model)
            graph = _graph(content)
            images = _codes(graph, rng, 3)
            try:
                theirs = answers(content, runtime, images)
            except RuntimeError:
                with pytest.raises(EdgeqError, match="has a bias"):
                    simulate(graph, images, runtime)
                continue
            np.testing.assert_array_equal(simulate(graph, images, runtime), theirs, said)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_whole_classifier(runtime: str) -> None:
    _tflm(runtime)
    content = classifier(8, 8, 3, seed=3)
    graph = _graph(content)
    images = _codes(graph, np.random.default_rng(0), 20)
    np.testing.assert_array_equal(simulate(graph, images, runtime), answers(content, runtime, images))


def test_chunks_do_not_matter_and_keep_gives_every_tensor() -> None:
    graph = _graph(classifier(8, 8, 3))
    images = _codes(graph, np.random.default_rng(0), 7)
    kept = simulate(graph, images, "tflm", keep=True, chunk=3)
    assert isinstance(kept, dict)
    assert set(kept) == {graph.input, *(op.output for op in graph.ops)}
    np.testing.assert_array_equal(kept[graph.output], simulate(graph, images, "tflm", chunk=64))
    assert all(kept[op.output].shape == (7, *graph.tensors[op.output].shape) for op in graph.ops)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_float_tail_over_integers_is_exact(runtime: str) -> None:
    """DEQUANTIZE with scale 1, then MEAN, fully connected on integers, MUL and ADD: all sums are integers, or halves of them."""
    _tflm(runtime)
    rng, g = np.random.default_rng(0), Draft()
    x = g.tensor("x", (1, 4, 4, 8), "int8", 1.0, -5)
    real, mean, out = g.tensor("real", (1, 4, 4, 8), "float32"), g.tensor("mean", (1, 8), "float32"), g.tensor("out", (1, 5), "float32")
    g.op(B.DEQUANTIZE, [x], [real], schema.DequantizeOptionsT())
    g.op(B.MEAN, [real, g.tensor("axes", (2,), "int32", data=[1, 2])], [mean], schema.ReducerOptionsT())
    weights = g.tensor("w", (5, 8), "int8", 1.0, 0, rng.integers(-100, 100, (5, 8)))
    floats, dense = g.tensor("f", (5, 8), "float32"), g.tensor("dense", (1, 5), "float32")
    g.op(B.DEQUANTIZE, [weights], [floats], schema.DequantizeOptionsT())
    bias = g.tensor("b", (5,), "float32", data=rng.integers(-9, 9, 5))
    g.op(B.FULLY_CONNECTED, [mean, floats, bias], [dense], schema.FullyConnectedOptionsT())
    g.op(B.MUL, [dense, g.tensor("s", (1, 5), "float32", data=rng.uniform(0, 1, 5))], [out], schema.MulOptionsT())
    content = g.done([x], [out])
    graph = _graph(content)
    images = _codes(graph, rng, 6)
    np.testing.assert_array_equal(simulate(graph, images, runtime), answers(content, runtime, images))


def test_no_images() -> None:
    graph = _graph(classifier(8, 8, 3))
    out = simulate(graph, np.empty((0, 8, 8, 3), np.int8))
    assert isinstance(out, np.ndarray)
    assert out.shape == (0, 10)


def test_wrong_runtime_and_wrong_codes() -> None:
    graph = _graph(classifier(8, 8, 3))
    with pytest.raises(EdgeqError, match="one of litert-xnnpack"):
        simulate(graph, np.zeros((1, 8, 8, 3), np.int8), "keras")
    with pytest.raises(ValueError, match="input codes"):
        simulate(graph, np.zeros((1, 8, 8, 3), np.uint8))


def _photos(archive: Path, n: int, size: int) -> np.ndarray:
    from PIL import Image

    with zipfile.ZipFile(archive) as z:
        names = sorted(k for k in z.namelist() if k.lower().endswith((".jpg", ".jpeg", ".png")))
        names = names[:: max(1, len(names) // n)][:n]
        return np.stack([np.asarray(Image.open(BytesIO(z.read(k))).convert("RGB").resize((size, size))) for k in names])


@pytest.mark.shared
@pytest.mark.skipif(not RESNET.exists(), reason="the models beside the project are absent")
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_mlperf_resnet(runtime: str) -> None:
    _tflm(runtime)
    images = (_photos(SHARED / "data/cifar10-jpeg.zip", 6, 32).astype(np.int16) - 128).astype(np.int8)
    np.testing.assert_array_equal(simulate(read_tflite.read(RESNET), images, runtime), answers(RESNET.read_bytes(), runtime, images))


@pytest.mark.shared
@pytest.mark.skipif(not MOBILENET.exists(), reason="the models beside the project are absent")
@pytest.mark.parametrize("runtime", RUNTIMES[:3])
def test_uint8_mobilenet(runtime: str) -> None:
    images = _photos(SHARED / "data/imagenet-sample-200.zip", 2, 128)
    np.testing.assert_array_equal(simulate(read_tflite.read(MOBILENET), images, runtime), answers(MOBILENET.read_bytes(), runtime, images))


def test_the_simulator_needs_no_interpreter() -> None:
    code = "import json, sys; import edgeq.integer.simulate; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)
    assert not {"tensorflow", "ai_edge_litert", "scipy"} & set(loaded)
