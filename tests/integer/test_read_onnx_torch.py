"""What PyTorch users bring: float networks in NCHW, and the three forms that ONNX Runtime's quantiser writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch_files

from edgeq.core.errors import EdgeqError
from edgeq.integer import onnx_file, read, read_onnx
from edgeq.integer.simulate import simulate

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def answers(content: bytes, x: np.ndarray) -> np.ndarray:
    """ONNX Runtime's, one image at a time."""
    from edgeq.runtimes import ort

    session = ort._session(onnxruntime, content)
    return np.concatenate([session.run(None, {"image": one.transpose(2, 0, 1)[None]})[0] for one in x])


def reals(n: int) -> np.ndarray:
    return torch_files.images(n).astype(np.float32) / 255


def test_a_float_network_is_read_up_to_the_last_bits() -> None:
    for seed in range(6):
        content = torch_files.network(seed)
        graph = read_onnx.from_model(onnx_file.parse(content, "m.onnx"))
        theirs = answers(content, reals(40))
        mine = simulate(graph, reals(40), "ort")
        assert np.abs(mine - theirs).max() < 2e-6 * np.ptp(theirs), seed  # measured: 6e-7
        assert len(np.unique(theirs.argmax(1))) > 1, seed
        assert not any(t.quantised for t in graph.tensors)


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_per_channel_files_are_what_onnx_runtime_answers_bit_by_bit(form: str, tmp_path: Path) -> None:
    for seed in range(3):
        file = torch_files.quantised(tmp_path, form, seed)
        graph, theirs = read.graph(file), answers(file.read_bytes(), reals(40))
        assert np.array_equal(simulate(graph, reals(40), "ort"), theirs), seed
        assert max(len(t.scale) for _, t in graph.constants()) == 16 or any(
            len(t.scale) == torch_files.CLASSES for _, t in graph.constants()
        )
        assert {"hard_sigmoid", "conv", "depthwise", "dense"} <= {op.kind for op in graph.ops}


def test_dynamic_quantisation_is_read_as_the_reals_it_stands_for(tmp_path: Path) -> None:
    for seed in range(3):
        file = torch_files.quantised(tmp_path, "dynamic", seed)
        theirs, floats = (answers(f.read_bytes(), reals(40)) for f in (file, tmp_path / f"float{seed}.onnx"))
        mine = simulate(read.graph(file), reals(40), "ort")
        off = np.abs(mine - theirs)
        # a sum that lies between two steps may be rounded to the other one; the rounding itself is reproduced
        assert np.median(off) < 1e-5 * np.ptp(theirs), seed
        assert off.max() < 0.1 * np.abs(floats - theirs).max(), seed
        assert (mine.argmax(1) == theirs.argmax(1)).mean() > 0.95, seed


def test_a_normalisation_that_makes_no_sense_is_a_sentence() -> None:
    proto = onnx.ModelProto.FromString(torch_files.network())
    variance = next(n for n in proto.graph.node if n.op_type == "BatchNormalization").input[4]
    stored = next(t for t in proto.graph.initializer if t.name == variance)
    stored.CopyFrom(onnx.numpy_helper.from_array(np.full(8, -1, np.float32), variance))
    with pytest.raises(EdgeqError, match=r"BatchNormalization \(v\d+\) cannot be read: its variances are negative, or zero"):
        read_onnx.from_model(onnx_file.parse(proto.SerializeToString(), "m.onnx"))


def test_dynamic_quantisation_of_another_form_is_a_sentence(tmp_path: Path) -> None:
    content = torch_files.quantised(tmp_path, "dynamic").read_bytes()

    def said(change: Any) -> str:
        proto = onnx.ModelProto.FromString(content)
        change({op: [n for n in proto.graph.node if n.op_type == op] for op in ("DynamicQuantizeLinear", "ConvInteger", "Mul", "Cast")})
        with pytest.raises(EdgeqError) as caught:
            read_onnx.from_model(onnx_file.parse(proto.SerializeToString(), "m.onnx"))
        return str(caught.value)

    def swap_zero(nodes: Any) -> None:
        nodes["ConvInteger"][0].input[2] = nodes["ConvInteger"][0].input[3]

    def read_scale_elsewhere(nodes: Any) -> None:
        next(n for n in nodes["Mul"] if n.input[0].endswith("_scale")).op_type = "Add"

    def other_scale(nodes: Any) -> None:
        scales = [n for n in nodes["Mul"] if n.input[0].endswith("scale")]
        first = next(n for n in nodes["Mul"] if n.input[1] == scales[0].output[0])
        first.input[1] = scales[-1].output[0]

    def no_cast(nodes: Any) -> None:
        nodes["Cast"][0].op_type = "Neg"

    assert "another zero point than its input's" in said(swap_zero)
    assert "by something else than a layer's product of scales" in said(read_scale_elsewhere)
    assert "multiplied by the scales of its input" in said(other_scale)
    assert "not brought back to reals" in said(no_cast)


def test_damaged_copies_give_a_graph_or_a_sentence(tmp_path: Path) -> None:
    files = [torch_files.network(), *(torch_files.quantised(tmp_path, form).read_bytes() for form in torch_files.FORMS)]
    rng, told = np.random.default_rng(0), {"graph": 0, "sentence": 0}
    for i in range(160):
        proto = onnx.ModelProto.FromString(files[i % 4])
        graph = proto.graph
        node = graph.node[int(rng.integers(len(graph.node)))]
        names = [t.name for t in graph.initializer] + [o for n in graph.node for o in n.output]
        if i % 8 < 4:
            node.input[int(rng.integers(len(node.input)))] = names[int(rng.integers(len(names)))]
        else:
            graph.initializer[int(rng.integers(len(graph.initializer)))].dims.append(int(rng.choice([0, 1, 3, 2**40])))
        try:
            found = read_onnx.from_model(onnx_file.parse(proto.SerializeToString(), "m.onnx"))
            simulate(found, reals(1), "ort")
            told["graph"] += 1
        except EdgeqError:
            told["sentence"] += 1
    assert min(told.values()) > 10, told


@pytest.mark.tensorflow
def test_the_differentiable_twins(tmp_path: Path) -> None:
    from edgeq.keras import engine
    from edgeq.keras.ste.source import executor

    tf = engine.tensorflow()
    files = [*(torch_files.quantised(tmp_path, form) for form in torch_files.FORMS), tmp_path / "float0.onnx"]
    gradients, x = {}, reals(8)
    for file in files:
        graph = read.graph(file)
        expected, point = simulate(graph, x, "ort"), tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(point)
            scores = executor(graph, "ort", "through")(point)
            total = tf.reduce_sum(scores[:, 0])
        gradients[file.stem], apart = tape.gradient(total, point).numpy(), np.abs(scores.numpy() - expected)
        if file.stem in ("qdq0", "qoperator0"):
            assert not apart.any()
        else:
            assert np.median(apart) < 1e-5 * np.ptp(expected), file.stem
    # the float network's slope along a direction, against a difference of ONNX Runtime's own answers
    rng, content = np.random.default_rng(0), (tmp_path / "float0.onnx").read_bytes()
    direction = rng.normal(size=x.shape).astype(np.float32)
    ahead, behind = (answers(content, x + s * np.float32(5e-4) * direction)[:, 0].astype(np.float64) for s in (1, -1))
    slope, wanted = (gradients["float0"] * direction).sum((1, 2, 3)), (ahead - behind) / 1e-3
    assert np.median(np.abs(slope - wanted)) < 0.01 * np.abs(wanted).max()  # some step over a kink
    # and the quantised files' point the same way
    for name in ("qdq0", "qoperator0", "dynamic0"):
        a, b = (g.reshape(8, -1) for g in (gradients[name], gradients["float0"]))
        assert ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).mean() > 0.9, name
