"""The layer table, held against what the simulator's tensors say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_tflite
from random_graphs import random_graph

from edgeq import runtimes
from edgeq.core.answer import Answer
from edgeq.core.errors import EdgeqError
from edgeq.integer.graph import Graph, Op
from edgeq.integer.read import read
from edgeq.integer.simulate import plan, simulate
from edgeq.integer.write_tflite import write_tflite
from edgeq.measure import layers
from edgeq.pipeline.codes import codes_for
from edgeq.pipeline.preprocess import Preprocess
from edgeq.runtimes._probe import signature_of

IMAGES = 5


class Simulated:
    """A target whose answers are the simulator's, so that no interpreter has to be opened."""

    batch = 64

    def __init__(self, graph: Graph, name: str, codes) -> None:
        self.graph, self.name, self.codes = graph, name, codes

    def answer(self, images: np.ndarray) -> Answer:
        return Answer("logits", simulate(self.graph, self.codes.encode(images), self.name))


def side(name: str, runtime: str, graph: Graph, folder: Path) -> layers.Side:
    path = folder / f"{name}.tflite"
    path.write_bytes(write_tflite(graph))
    signature = signature_of(read(path), "logits")
    h, w, c = signature.input.shape
    codes = codes_for(signature.input, Preprocess((h, w), c, mean=(0.0,) * c, std=(255.0,) * c), name)
    return layers.Side(name, path, runtime, signature, codes, Simulated(graph, runtime, codes))


def images_of(one: layers.Side) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (IMAGES, *one.signature.input.shape), np.uint8)


def simulate_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No child processes: the interpreters' own tensors are tested in tests/runtimes/test_tensors.py."""

    def refuse(*_):
        raise EdgeqError("not here")

    monkeypatch.setattr(layers.tensors, "open", refuse)


@pytest.fixture
def ordinary(tmp_path: Path):
    """XNNPACK and TFLite Micro on one graph, and both sides' tensors in it."""
    graph = random_graph(4)
    sides = [side(name, runtime, graph, tmp_path) for name, runtime in (("A", "litert-xnnpack"), ("B", "tflm"))]
    images = images_of(sides[0])
    kept = [simulate(graph, s.codes.encode(images), s.runtime, keep=True) for s in sides]
    return graph, sides, images, kept


def test_counts_are_those_of_the_tensors(ordinary, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_only(monkeypatch)
    graph, (a, b), images, kept = ordinary
    (table,) = layers.compare(a, [b], images)
    assert table.reason == ""
    assert table.origin == {"A": "simulated", "B": "simulated"}
    assert table.unequal == {"A": 0, "B": 0}
    assert (table.n, table.missing) == (IMAGES, 0)
    assert len(table.lines) == len(graph.ops)
    for line, op in zip(table.lines, graph.ops, strict=True):
        off = np.abs(kept[0][op.output].astype(int) - kept[1][op.output].astype(int))
        assert (line.elements, line.differ, line.largest) == (off.size, (off > 0).sum(), off.max())
        assert line.output == graph.tensors[op.output].name
        assert not line.changed
    differing = [line.index for line in table.lines if line.differ]
    assert differing  # or nothing was tested
    assert table.first is not None
    assert table.first.index == differing[0]
    assert (table.first.alone, table.first.alone_largest) == (table.first.differ, table.first.largest)  # its inputs are equal


def test_alone_is_the_other_kernel_on_the_bases_inputs(ordinary, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_only(monkeypatch)
    graph, (a, b), images, kept = ordinary
    (table,) = layers.compare(a, [b], images)

    constants = {i: t.data for i, t in graph.constants()}
    for line, op, step in zip(table.lines, graph.ops, plan(graph, "tflm"), strict=True):
        given = [{**constants, **kept[0]}.get(i) for i in op.inputs]
        off = np.abs(step(*given).astype(int) - kept[0][op.output].astype(int))
        assert (line.alone, line.alone_largest) == ((off > 0).sum(), off.max())
    assert any(line.alone != line.differ for line in table.lines)


def test_a_portable_graph_parts_nowhere(tmp_path: Path) -> None:
    """With the interpreters' own tensors."""
    graph = random_graph(1, portable=True)
    a, b = (side(name, runtime, graph, tmp_path) for name, runtime in (("A", "litert-xnnpack"), ("B", "litert-reference")))
    (table,) = layers.compare(a, [b], images_of(a))
    assert table.origin == {"A": "kept", "B": "kept"}
    assert table.first is None
    assert table.to_json()["first"] is None
    assert len(table.lines) == len(graph.ops)
    assert all(line.alone == 0 for line in table.lines)


def test_tensors_that_belong_to_other_answers_are_replaced_by_the_simulators(ordinary, monkeypatch: pytest.MonkeyPatch) -> None:
    _, (a, b), images, _ = ordinary
    honest = layers.tensors.simulated

    def blank(*given):
        return lambda x: {k: v * 0 for k, v in honest(*given)(x).items()}

    monkeypatch.setattr(layers.tensors, "open", blank)
    (table,) = layers.compare(a, [b], images)
    assert table.origin == {"A": "simulated", "B": "simulated"}
    monkeypatch.setattr(layers.tensors, "simulated", blank)
    (table,) = layers.compare(a, [b], images)
    assert table.lines == ()
    assert "litert-xnnpack answers otherwise" in table.reason


def test_answers_that_part_later_are_counted(ordinary, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_only(monkeypatch)
    _, (a, b), images, _ = ordinary
    honest = b.target

    class Odd(Simulated):
        def answer(self, images: np.ndarray) -> Answer:
            answer = honest.answer(images)
            answer.raw[4:] ^= 1  # the first four images are how the origin is chosen
            return answer

    odd = replace(b, target=Odd(honest.graph, "tflm", b.codes))
    (table,) = layers.compare(a, [odd], images)
    assert table.unequal == {"A": 0, "B": IMAGES - 4}


def _with(graph: Graph, index: int, **changes) -> Graph:
    tensors = list(graph.tensors)
    tensors[index] = replace(tensors[index], **changes)
    return replace(graph, tensors=tuple(tensors))


def test_two_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Today's build has another bias in one layer: that op is marked, and there the two part."""
    simulate_only(monkeypatch)
    graph = random_graph(4)
    convs = [k for k, op in enumerate(graph.ops) if op.kind in ("conv", "depthwise", "dense")]
    op = graph.ops[convs[1]]
    old = graph.tensors[op.inputs[2]]
    other = _with(graph, op.inputs[2], data=(old.data + np.int32(old.data.std() + 999)).astype(np.int32))
    a, b = side("old", "litert-xnnpack", graph, tmp_path), side("new", "litert-xnnpack", other, tmp_path)
    (table,) = layers.compare(a, [b], images_of(a))
    assert [line.index for line in table.lines if line.changed] == [convs[1]]
    assert table.first is not None
    assert table.first.index == convs[1]
    assert [line.index for line in table.lines if line.alone] == [convs[1]]


def test_another_scale_is_read_in_the_bases_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Twice the scale of the last layer's output: the same values in half as many codes, apart by rounding or by the clamp."""
    simulate_only(monkeypatch)
    graph = random_graph(4)
    scale = graph.tensors[graph.output].scale
    a = side("old", "litert-xnnpack", graph, tmp_path)
    b = side("new", "litert-xnnpack", _with(graph, graph.output, scale=scale * 2), tmp_path)
    images = images_of(a)
    (table,) = layers.compare(a, [b], images)
    last = table.lines[-1]
    assert last.changed
    codes = [s.target.answer(images).raw.astype(int) for s in (a, b)]
    off = np.abs(codes[0] - 2 * codes[1])  # zero points are 0
    assert (last.differ, last.largest) == ((off > 0).sum(), off.max())


def test_graphs_of_other_ops_are_not_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    simulate_only(monkeypatch)
    graph = random_graph(4)
    tensors = (*graph.tensors, replace(graph.tensors[graph.output], name="more"))
    longer = Graph(tensors, (*graph.ops, Op("relu", (graph.output,), len(tensors) - 1)), graph.input, len(tensors) - 1)
    a, b = side("old", "litert-xnnpack", graph, tmp_path), side("new", "litert-xnnpack", longer, tmp_path)
    (table,) = layers.compare(a, [b], images_of(a))
    assert table.reason == f"not compared, the two graphs have {len(graph.ops)} and {len(longer.ops)} ops"
    c = side("third", "litert-xnnpack", random_graph(5), tmp_path)
    c = replace(c, codes=a.codes, signature=a.signature, target=a.target)
    tables = layers.compare(a, [b, replace(b, name="ort", runtime="ort")], images_of(a))
    assert [t.other for t in tables] == ["new", "ort"]
    assert tables[1].reason == "not compared, ort has other inner tensors than a .tflite states"


def test_a_file_that_cannot_be_simulated_still_has_a_table(tmp_path: Path) -> None:
    """ARG_MAX is no op of the integer graph: its tensors are compared as they run, and nothing is said of the ops alone."""
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_tflite.classifier(c=3, seed=2, label=True))
    opened = []
    for name in ("litert-xnnpack", "litert-reference"):
        signature = runtimes.probe(name, path)
        codes = codes_for(signature.input, Preprocess((8, 8), 3), "m")
        opened.append(layers.Side(name, path, name, signature, codes, runtimes.open(name, path, signature, codes, threads=1)))
    (table,) = layers.compare(opened[0], opened[1:], np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8))
    for one in opened:
        one.target.close()
    assert table.reason == ""
    assert [line.kind for line in table.lines][-1] == "ARG_MAX"
    assert {line.alone for line in table.lines} == {None}


def test_a_stand_in_has_the_tensors_of_what_it_stands_in_for(ordinary, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_only(monkeypatch)
    _, (a, b), images, _ = ordinary
    (table,) = layers.compare(a, [replace(b, runtime="tflm-exact")], images)
    assert table == layers.compare(a, [b], images)[0]
    assert table.first is not None
