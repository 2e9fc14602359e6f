"""What ``edgeq inspect`` computes, against counts made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_tflite

from edgeq.integer import tflite_file
from edgeq.integer.describe import describe, weight_levels
from edgeq.integer.read import read

SHARED = Path(__file__).resolve().parents[3] / "shared" / "models"


def test_counts_by_hand() -> None:
    content = tiny_tflite.classifier(h=8, w=6, c=3, classes=5)
    found = describe(tflite_file.parse(content, "m.tflite"))
    conv, pool, reshape, dense, softmax = found.layers
    assert (conv.parameters, conv.macs, conv.bits) == (8 * 27 + 8, 8 * 6 * 8 * 27, 8)
    assert (dense.parameters, dense.macs) == (4 * 3 * 8 * 5 + 5, 4 * 3 * 8 * 5)
    assert [layer.macs for layer in (pool, reshape, softmax)] == [0, 0, 0]
    assert (found.parameters, found.macs) == (conv.parameters + dense.parameters, (conv.macs or 0) + (dense.macs or 0))
    assert (softmax.scale, softmax.zero) == (1 / 256, -128)
    assert (found.bytes, found.kind, found.problem) == (len(content), "probs", None)
    weights = tflite_file.parse(content, "m.tflite").tensors
    codes = next(t for t in weights if t.name == "conv/w").codes()
    assert codes is not None
    assert conv.levels == len(np.unique(codes))


@pytest.mark.parametrize(
    ("codes", "axis", "levels"),
    [
        ([[42, -42, 0], [7, 0, -7]], 0, 3),  # ternary, another step in every channel
        ([[42, -42, 42], [7, 7, -7]], 0, 2),  # binary
        ([[42, -42, 0], [7, 0, -7]], None, 5),
        ([[0, 0], [0, 0]], 0, 1),
        ([[2, 4, 6, -8]], 0, 4),
        ([[3, 5], [6, 10]], 1, 2),  # columns 3 * (1, 2) and 5 * (1, 2)
    ],
)
def test_levels_are_counted_in_steps_of_each_channel(codes: list[list[int]], axis: int | None, levels: int) -> None:
    assert weight_levels(np.array(codes, np.int8), axis) == levels


def test_a_model_that_is_no_classifier_is_described_all_the_same() -> None:
    found = describe(tflite_file.parse(tiny_tflite.two_inputs(), "m.tflite"))
    assert len(found.inputs) == 2
    assert "2 inputs" in (found.problem or "")


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/models")
def test_resnet8_has_its_published_size() -> None:
    found = describe(read(SHARED / "pretrainedResnet_quant.tflite"))
    assert round(found.macs / 1e6, 1) == 12.5  # MLPerf-Tiny
    assert found.parameters == 77_706
    assert {layer.bits_used for layer in found.layers if layer.bits_used} == {8}
