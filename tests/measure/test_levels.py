"""Inner activations against the frozen network's: a file with one wrong bias is caught at that very op."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from trained_graphs import network

from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Tensor
from edgeq.integer.graph import Graph
from edgeq.integer.read import read
from edgeq.integer.realise import realise
from edgeq.integer.simulate import simulate
from edgeq.integer.write_tflite import write_tflite
from edgeq.measure import certificate, levels
from edgeq.pipeline.codes import codes_for
from edgeq.pipeline.preprocess import Preprocess
from edgeq.runtimes import tensors
from edgeq.runtimes._probe import signature_of

TRAINED = network(22, 2, 2)
IMAGES = np.random.default_rng(0).integers(0, 256, (70, 8, 6, 3)).astype(np.uint8)


def compared(graph: Graph, folder: Path, monkeypatch: pytest.MonkeyPatch, seen: list | None = None) -> tuple[levels.Levels, ...]:
    """Simulated runtimes, of which one cannot keep its tensors: the interpreters' own are tested in tests/runtimes/test_tensors.py."""

    def opened(name, *rest):
        if name == "tflm":
            raise EdgeqError("tflm cannot keep its inner tensors")
        return tensors.simulated(name, *rest)

    monkeypatch.setattr(levels.tensors, "open", opened)
    path = folder / "m.tflite"
    path.write_bytes(write_tflite(graph))
    signature = signature_of(read(path), "logits")
    codes = codes_for(signature.input, Preprocess((8, 6), 3, mean=(0.0,) * 3, std=(1.0,) * 3), "m")
    runtimes = dict.fromkeys(("litert-xnnpack", "litert-builtin", "tflm"), signature)
    return levels.compare(TRAINED, path, runtimes, codes, IMAGES, (seen if seen is not None else []).append)


@pytest.mark.parametrize("packed", [False, True])
def test_a_certified_file_has_the_trained_levels(tmp_path, monkeypatch, packed) -> None:
    seen: list[int] = []
    first, second, missing = compared(realise(TRAINED, packed)[0], tmp_path, monkeypatch, seen)
    assert seen == [64, 70]
    for found in (first, second):
        assert (found.n, found.differ, found.first, found.reason) == (70, 0, None, "")
        assert [op.name for op in found.ops] == [TRAINED.tensors[op.output].name for op in TRAINED.ops]
        assert found.elements == 70 * sum(int(np.prod(TRAINED.tensors[op.output].shape)) for op in TRAINED.ops)
    assert missing.to_json()["reason"] == "tflm cannot keep its inner tensors"


def test_a_wrong_bias_is_named_and_counted(tmp_path, monkeypatch) -> None:
    graph = realise(TRAINED)[0]
    op = graph.ops[1]
    bias = graph.tensors[op.inputs[2]]
    wrong = list(graph.tensors)
    wrong[op.inputs[2]] = replace(bias, data=bias.data + np.int32(2000))
    broken = replace(graph, tensors=tuple(wrong))
    found = compared(broken, tmp_path, monkeypatch)[1]
    codes = (IMAGES.astype(np.int16) - 128).astype(np.int8)
    apart = np.abs(
        simulate(broken, codes, "litert-builtin", keep=True)[op.output].astype(int) - simulate(TRAINED, codes, keep=True)[op.output]
    )
    assert found.ops[0].differ == 0
    count = int((apart > 0).sum()), int(apart.max())
    assert found.first == levels.Mismatch(graph.tensors[op.output].name, apart.size, *count, *count)
    assert found.first.differ > 0
    behind = found.ops[2:]
    assert any(o.differ for o in behind), "a wrong level is seen behind it, too"
    assert not any(o.alone or o.alone_largest for o in behind), "but each later op does what it should with what it gets"
    assert found.alone_largest == found.first.largest
    assert found.to_json()["differ"] == sum(o.differ for o in found.ops) >= found.first.differ


def test_the_frozen_network_answers_as_a_target() -> None:
    given = Tensor((8, 6, 3), "int8", 1.0, -128)
    codes = codes_for(given, Preprocess((8, 6), 3, mean=(0.0,) * 3, std=(1.0,) * 3), "m")
    answer = levels.Frozen(TRAINED, codes).answer(IMAGES[:5])
    assert np.array_equal(answer.raw, simulate(TRAINED, (IMAGES[:5].astype(np.int16) - 128).astype(np.int8)))
    assert (answer.kind, answer.scale, answer.zero) == ("logits", pytest.approx(0.1), 0)


def test_the_certificates_table_is_plain_numbers() -> None:
    ways = {"scaled": realise(TRAINED)[1], "packed": realise(TRAINED, packed=True)[1]}
    table = certificate.table(ways)
    assert [record.layer for record in table] == [layer.name for layer in ways["scaled"]]
    for record, layer in zip(table, ways["packed"], strict=True):
        stored = record.stored["packed"]
        assert (record.channels, record.levels) == (len(layer.certificate.channels), layer.levels)
        assert (stored.bits, stored.certified) == (layer.stored, int(layer.certificate.channels.sum()))
        assert stored.runtimes == {r: float(layer.certificate.share_of(r)) for r in layer.certificate.runtimes}
        said = record.to_json()
        assert list(said) == ["layer", "kind", "channels", "levels", "stored"]
        assert said["stored"]["packed"] == {"bits": stored.bits, "certified": stored.certified, "runtimes": stored.runtimes}
