"""The reader of ``.onnx`` files, and the simulator's "ort": what ONNX Runtime answers, as ``runtimes/ort.py`` runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qdq_files
import tiny_onnx
from random_graphs import Builder, random_codes, random_graph

from edgeq.core import cpu
from edgeq.core.errors import EdgeqError
from edgeq.integer import onnx_file, read, read_onnx
from edgeq.integer.graph import Graph
from edgeq.integer.simulate import simulate
from edgeq.integer.write_onnx import write_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
HELPER = onnx.helper
TYPES = {"int8": onnx.TensorProto.INT8, "uint8": onnx.TensorProto.UINT8, "float32": onnx.TensorProto.FLOAT}


def graph_of(content: bytes) -> Graph:
    return read_onnx.from_model(onnx_file.parse(content, "m.onnx"))


def answers(content: bytes, codes: np.ndarray) -> np.ndarray:
    from edgeq.runtimes import ort

    session = ort._session(onnxruntime, content)
    given = session.get_inputs()[0]
    if codes.ndim == 4 and tuple(given.shape[1:]) != codes.shape[1:]:
        codes = codes.transpose(0, 3, 1, 2)
    parts = np.split(codes, len(codes)) if given.shape[0] == 1 else [codes]
    return np.concatenate([session.run(None, {given.name: part})[0] for part in parts])


def assert_same(content: bytes, n: int = 16, seed: int = 0, levels: int = 0) -> Graph:
    """The graph of a file, after ONNX Runtime and the simulator have given one answer of more than ``levels`` codes."""
    graph = graph_of(content)
    codes = random_codes(graph, n, seed)
    theirs = answers(content, codes)
    assert np.array_equal(simulate(graph, codes, "ort"), theirs), seed
    assert len(np.unique(theirs)) > levels
    return graph


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in graph.ops]


# -- files ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("portable", [False, True])
def test_a_written_graph_is_read_as_the_same_function(portable: bool) -> None:
    for seed in range(20):
        graph = random_graph(seed, portable)
        found = assert_same(write_onnx(graph), seed=seed)
        codes = random_codes(graph, 16, seed)
        assert np.array_equal(simulate(found, codes, "ort"), simulate(graph, codes, "litert-xnnpack")), seed
        assert found.tensors[found.input].shape == graph.tensors[graph.input].shape
        for ours, theirs in ((found.input, graph.input), (found.output, graph.output)):  # logits keep their unit
            assert found.tensors[ours].scale == graph.tensors[theirs].scale
            assert found.tensors[ours].zero == graph.tensors[theirs].zero


def test_levels_of_few_bits_and_softmax_come_back() -> None:
    for activation, out in [("relu", (1.0, 127 - 15)), ("relu_n1_to_1", (1 / 8, 128 - 8)), ("relu6", (6 / 200, -128))]:
        b = Builder(5)
        x = b.image((7, 7, 3))
        y = b.linear(x, "conv", 6, activation=activation, out=out, multipliers=np.full(6, 5e-4 / out[0]))
        y = b.pool(b.pool(y, "average_pool", 3, 2, "same"), "max_pool", 2, 1)
        found = assert_same(write_onnx(b.done(x, b.softmax(b.linear(b.flat(y), "dense", 5, activation="none", out=(0.1, 0))))), levels=4)
        assert ("minimum" in kinds(found)) == (activation != "relu6")  # that one is a fused activation again
    assert found.ops[0].kind == "quantize"
    assert found.ops[1].options["activation"] == "relu6"


@pytest.mark.parametrize("types", [("int8", "int8"), ("uint8", "uint8"), ("uint8", "int8")])
def test_float_ops_between_quantisations_are_integer_ops(types: tuple[str, str]) -> None:
    if types == ("uint8", "int8") and cpu.u8s8_saturates():
        pytest.skip("ONNX Runtime saturates on this processor (onnxruntime issue 14642)")
    for seed in range(20):
        graph = random_graph(seed, seed % 2 == 0, softmax=seed % 3 == 0)
        found = assert_same(qdq_files.write(graph, *types), seed=seed)
        here, there = ([k.replace("depthwise", "conv") for k in kinds(g) if k not in ("transpose", "reshape")] for g in (found, graph))
        assert here == there, seed  # a depthwise layer over one channel is an ordinary one


@pytest.mark.parametrize("options", [{}, {"nchw": True}, {"fixed_batch": True}, {"softmax": False}, {"c": 1}])
def test_a_classifier_in_either_layout(options: dict[str, Any]) -> None:
    found = assert_same(tiny_onnx.classifier(**options), levels=50)
    assert kinds(found)[:4] == ["conv", "transpose", "reshape", "dense"]


def test_a_float_border() -> None:
    content = tiny_onnx.classifier(floats=True)
    graph = graph_of(content)
    images = np.random.default_rng(0).uniform(0, 1, (16, 8, 8, 3)).astype(np.float32)
    assert simulate(graph, images, "ort") == pytest.approx(answers(content, images), abs=1e-6)
    assert kinds(graph)[0] == "quantize"


def test_an_optimised_file_that_onnx_runtime_saved(tmp_path: Path) -> None:
    from edgeq.runtimes import ort

    for content in (tiny_onnx.classifier(), qdq_files.write(random_graph(3))):
        ort._session(onnxruntime, content, tmp_path / "optimised.onnx")
        optimised = (tmp_path / "optimised.onnx").read_bytes()
        assert b"channels_last" in optimised
        codes = random_codes(graph_of(content), 16)
        assert np.array_equal(simulate(graph_of(optimised), codes, "ort"), answers(content, codes))


@pytest.mark.slow
def test_the_digits_file_in_every_tensor(digits_models: Any) -> None:
    from edgeq import data

    images = data.open("digits")
    codes = (np.stack([images.image(i) for i in range(300)]).astype(np.int16) - 128).astype(np.int8)
    graph = read.graph(digits_models.onnx)
    kept = simulate(graph, codes, "ort", keep=True)
    assert isinstance(kept, dict)
    assert np.array_equal(kept[graph.output], answers(digits_models.onnx.read_bytes(), codes))
    proto = onnx.load(digits_models.onnx)
    inner = [node.output[0] for node in proto.graph.node if node.op_type == "QuantizeLinear"][:-1]
    ops = [op for op in graph.ops if op.kind not in ("reshape", "transpose")][:-1]
    assert len(inner) == len(ops) == 4
    for name, op in zip(inner, ops, strict=True):
        del proto.graph.output[:]
        proto.graph.output.append(HELPER.make_tensor_value_info(name, TYPES["int8"], None))
        theirs = answers(proto.SerializeToString(), codes)
        theirs = theirs.transpose(0, 2, 3, 1) if theirs.ndim == 4 else theirs
        assert np.array_equal(kept[op.output], theirs), op.kind


# -- one op -----------------------------------------------------------------------------------------------------------------------------


def one_op(rng: np.random.Generator, dtype: str, op: str, shape: tuple[int, ...], same: bool = False, **attributes: Any) -> bytes:
    """DequantizeLinear -> op -> QuantizeLinear over random scales, powers of two half of the time; no op where ``op`` is ""."""
    constants: list[Any] = []
    low = np.iinfo(dtype).min
    ties = bool(rng.integers(2))

    def steps() -> list[str]:
        exponent = float(rng.integers(-7, -3)) if ties else rng.uniform(-7, -3)
        for value in (np.float32(2.0**exponent), np.array(rng.integers(low, low + 256), dtype)):
            constants.append(onnx.numpy_helper.from_array(np.asarray(value), f"c{len(constants)}"))
        return [c.name for c in constants[-2:]]

    first = steps()
    out = first if same else steps()
    nodes = [HELPER.make_node("DequantizeLinear", ["image", *first], ["x"])]
    inputs = ["x"]
    if op in ("Add", "Mul", "Concat"):  # with the image turned, in a scale of its own
        inputs.append("z")
        second = steps()
        nodes.append(HELPER.make_node("Transpose", ["x"], ["turned"], perm=[0, 1, 3, 2]))
        nodes.append(HELPER.make_node("QuantizeLinear", ["turned", *second], ["turned codes"]))
        nodes.append(HELPER.make_node("DequantizeLinear", ["turned codes", *second], ["z"]))
    if op:
        nodes.append(HELPER.make_node(op, inputs, ["y"], **attributes))
    nodes.append(HELPER.make_node("QuantizeLinear", ["y" if op else "x", *out], ["answer"]))
    borders = [HELPER.make_tensor_value_info(n, TYPES[dtype], ["n", *s]) for n, s in (("image", shape), ("answer", [None] * len(shape)))]
    proto = HELPER.make_graph(nodes, "one", borders[:1], borders[1:], constants)
    return bytes(HELPER.make_model(proto, opset_imports=[HELPER.make_opsetid("", 17)], ir_version=8).SerializeToString())


WINDOW = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [0, 0, 1, 1]}  # SAME over 6 x 6
ONE = {
    "quantize": ("", {}),
    "add": ("Add", {}),
    "mul": ("Mul", {}),
    "average_pool": ("AveragePool", WINDOW),
    "average_pool of all": ("AveragePool", {"kernel_shape": [6, 6]}),
    "mean": ("GlobalAveragePool", {}),
    "max_pool": ("MaxPool", WINDOW),
    "logistic": ("Sigmoid", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.3}),
    "softmax": ("Softmax", {"axis": 1}),
    "concatenation": ("Concat", {"axis": 2}),
}


@pytest.mark.parametrize("name", ONE)
def test_every_kernel_of_onnx_runtime(name: str) -> None:
    op, attributes = ONE[name]
    for seed in range(12):
        rng = np.random.default_rng(seed)
        content = one_op(rng, ("int8", "uint8")[seed % 2], op, (5, 6, 6), op == "MaxPool", **attributes)
        graph = graph_of(content)
        codes = random_codes(graph, 16, seed)
        assert np.array_equal(simulate(graph, codes, "ort"), answers(content, codes)), seed
        assert name.split()[0] in kinds(graph)
        assert "dequantize" not in kinds(graph)


def test_inputs_of_other_scales_are_joined() -> None:
    for seed in range(8):
        b = Builder(seed)
        x = b.image((6, 6, 3))
        parts = [b.linear(x, "conv", 3, activation="none", out=(0.03 * (i + 1), 10 * i)) for i in range(2)]
        y = b.op("concatenation", parts, b.tensor((6, 6, 6), 0.05, -20), axis=2, activation="none")
        assert "concatenation" in kinds(assert_same(write_onnx(b.done(x, y)), seed=seed, levels=50))


def test_two_quantisations_in_a_row_are_one() -> None:
    for seed in range(8):
        proto = onnx.ModelProto.FromString(tiny_onnx.classifier(seed=seed))
        product = next(n for n in proto.graph.node if n.op_type == "MatMul")
        product.op_type = "Identity"  # the codes before it are quantised again behind it
        del product.input[1:]
        for value in proto.graph.output:
            value.type.tensor_type.shape.dim[1].dim_value = 512
        found = assert_same(proto.SerializeToString(), seed=seed, levels=1)
        assert kinds(found).count("quantize") == 0


# -- files that are damaged, or not for us ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_damaged_files_give_a_graph_or_a_sentence() -> None:
    files = [
        tiny_onnx.classifier(4, 4),
        write_onnx(random_graph(7)),
        write_onnx(random_graph(3, softmax=True)),
        qdq_files.write(random_graph(1)),
    ]
    rng, told = np.random.default_rng(0), {"graph": 0, "error": 0}
    for i in range(300):
        data = bytearray(files[i % 4])
        if i % 3 == 0:
            del data[int(rng.integers(1, len(data))) :]
        else:
            for _ in range(i % 3):
                data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        told[_outcome(bytes(data))] += 1
    assert min(told.values()) > 30, told


@pytest.mark.slow
def test_wrong_attributes_inputs_and_shapes_give_a_graph_or_a_sentence() -> None:
    files = [
        tiny_onnx.classifier(4, 4),
        write_onnx(random_graph(11)),
        write_onnx(random_graph(7, softmax=True)),
        qdq_files.write(random_graph(1)),
    ]
    rng, told = np.random.default_rng(1), {"graph": 0, "error": 0}
    for i in range(300):
        proto = onnx.ModelProto.FromString(files[i % 4])
        graph = proto.graph
        node = graph.node[int(rng.integers(len(graph.node)))]
        numbers = [a.ints for a in node.attribute if a.ints]
        if i % 3 == 0 and numbers:
            numbers[0][int(rng.integers(len(numbers[0])))] = int(rng.choice([0, -1, 2, 7, 2**40, 2**62]))
        elif i % 3 == 1:
            names = [t.name for t in graph.initializer] + [o for n in graph.node for o in n.output]
            node.input[int(rng.integers(len(node.input)))] = names[int(rng.integers(len(names)))]
        else:
            dims = graph.initializer[int(rng.integers(len(graph.initializer)))].dims
            dims.append(int(rng.choice([0, 1, 3, 2**40, 2**62])))
        told[_outcome(proto.SerializeToString())] += 1
    assert min(told.values()) > 15, told


def _outcome(content: bytes) -> str:
    try:
        graph = graph_of(content)
    except EdgeqError:
        return "error"
    simulate(graph, random_codes(graph, 1), "ort")
    return "graph"


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    proto = onnx.ModelProto.FromString(tiny_onnx.classifier())
    next(n for n in proto.graph.node if n.op_type == "Relu").op_type = "Round"
    with pytest.raises(EdgeqError, match=r"Round \(relu\) cannot be read: it is no op of the integer graph; attack the file by queries"):
        graph_of(proto.SerializeToString())
    proto = onnx.ModelProto.FromString(write_onnx(random_graph(0)))
    conv = next(n for n in proto.graph.node if n.op_type == "QLinearConv")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(7), "other"))
    conv.input[7 - 1], conv.input[1] = "other", "other"
    with pytest.raises(EdgeqError, match="another scale, zero point or type than"):
        graph_of(proto.SerializeToString())


# -- differentiable -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.tensorflow
def test_the_differentiable_twin_answers_like_onnx_runtime(digits_models: Any) -> None:
    from edgeq.keras import engine
    from edgeq.keras.ste.source import executor

    tf = engine.tensorflow()
    for content in (
        digits_models.onnx.read_bytes(),
        write_onnx(random_graph(6)),
        qdq_files.write(random_graph(9)),
        write_onnx(random_graph(13)),
    ):
        graph = graph_of(content)
        codes = random_codes(graph, 16)
        expected = simulate(graph, codes, "ort", keep=True)
        assert isinstance(expected, dict)
        given = tf.constant(codes.astype(np.float32))
        for i, value in executor(graph, "ort", keep=True)(given).items():
            assert np.array_equal(value.numpy(), expected[i]), graph.tensors[i].name
        with tf.GradientTape() as tape:
            tape.watch(given)
            total = tf.reduce_sum(executor(graph, "ort")(given))
        assert np.abs(tape.gradient(total, given).numpy()).max() > 0


@pytest.mark.tensorflow
def test_an_onnx_file_alone_is_enough_for_a_white_box_attack(digits_models: Any, tmp_path: Path) -> None:
    from edgeq.runs.execute import execute
    from edgeq.runs.plan import Plan
    from edgeq.runs.prepare import prepare

    plan = Plan((str(digits_models.onnx),), "digits", attacks=("pgd:steps=10",), eps=("24/255",), n=64)
    setting = prepare(plan)
    assert any("gradients are" in note and "ort" in note for note in setting.notes)
    with setting.create(tmp_path / "run.sqlite", []) as run:
        execute(run, setting)
        right = {c.kind: (run.correct(c.cell, f"{digits_models.onnx.stem}/ort") == 1).mean() for c in run.cells()}
    assert right["clean"] > 0.9
    assert right["gradient"] < right["noise"] - 0.1
