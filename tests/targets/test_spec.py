"""Targets as values: what they are called, and that they can be compared, hashed, sent and opened elsewhere."""

import pickle

import numpy as np
from synthetic import CODES, SIGNATURE

from edgeq.pipeline.codes import PixelCodes
from edgeq.targets.spec import Artifact, TargetSpec, networks, short


def artifact(name, sha256):
    return Artifact(sha256 * 32, name, f"/there/{name}", 1)


def test_files_are_called_by_their_stems_and_by_more_only_where_that_tells_two_apart():
    files = [artifact("m.tflite", "ab"), artifact("m.onnx", "cd"), artifact("m.h5", "ef")]
    assert networks(files) == ["m", "m", "m"]  # no runtime runs two of them
    assert networks([*files, artifact("m.keras", "01")]) == ["m", "m", "m.h5", "m.keras"]
    assert networks([artifact("m.tflite", "ab"), artifact("m.tflite", "cd")]) == ["m~ababab", "m~cdcdcd"]
    assert networks([artifact("m.tflite", "ab"), artifact("m.tflite", "ab")]) == ["m", "m"]


def test_a_table_of_one_network_shows_runtimes_and_one_of_several_shows_ids():
    one = [TargetSpec("m/tflm", "m", "ab", "tflm"), TargetSpec("f/keras", "f", "cd", "keras", "source")]
    grid = TargetSpec("f/keras (before the grid)", "f", "cd", "keras", "source", "before-grid", ("f/keras",))
    board = TargetSpec("my board", derived="board")
    assert short([*one, grid, board]) == {
        "m/tflm": "tflm",
        "f/keras": "keras",
        "f/keras (before the grid)": "f/keras (before the grid)",
        "my board": "my board",
    }
    two = [*one, TargetSpec("n/tflm", "n", "ef", "tflm")]
    assert set(short(two).values()) == {"m/tflm", "f/keras", "n/tflm"}


def test_equal_targets_are_one_value_wherever_they_were_made():
    spec = TargetSpec("m/tflm", "m", "ab", "tflm", signature=SIGNATURE, codes=CODES)
    there = pickle.loads(pickle.dumps(spec))
    assert there == spec
    assert len({there, spec}) == 1
    other = PixelCodes(CODES.table, CODES.shift, CODES.real + np.float32(1))
    assert TargetSpec("m/tflm", "m", "ab", "tflm", signature=SIGNATURE, codes=other) != spec
