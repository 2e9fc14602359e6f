"""A comparison as a run: its two sides, what is crafted on each, and that a stopped one ends as it would have ended."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tiny_onnx
import tiny_tflite

from edgeq.api.comparing import compare
from edgeq.core.errors import EdgeqError
from edgeq.core.reporter import Silent
from edgeq.runs.execute import execute
from edgeq.runs.store import Run

pytestmark = pytest.mark.slow

SMALL = {"data": "digits", "n": 30, "eps": "16/255", "inside": 0, "threads": 1}
TWO = ("litert-reference", "litert-builtin")
SPSA = "spsa:steps=3:batch=8"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comparing")
    for name, seed in (("a", 1), ("b", 2)):
        (folder / f"{name}.tflite").write_bytes(tiny_tflite.classifier(seed=seed))
    shutil.copyfile(folder / "a.tflite", folder / "copy.tflite")
    return folder


class Stopping(Silent):
    """Ctrl-C when a stage is reached whose name begins so."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    @contextmanager
    def progress(self):
        def show(stage: str, done: int, total: int) -> None:
            if stage.startswith(self.stage):
                raise KeyboardInterrupt

        yield show


def crafted_on(path: Path) -> list[str]:
    with Run.open(path) as run:
        return [cell.crafted_on for cell in run.cells() if cell.adversarial]


def test_one_file_on_two_runtimes_has_a_cell_on_each(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    found = compare(place / "a.tflite", runtimes=TWO, attack=SPSA, run=path, **SMALL)
    assert crafted_on(path) == [f"a/{name}" for name in TWO]
    assert [made.crafted_on for made in found.adversarial] == ["A", "B"]
    assert {name: side.runtime for name, side in found.sides.items()} == dict(zip("AB", TWO, strict=True))


def test_two_files_each_on_its_own_runtime(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    found = compare(place / "a.tflite", place / "b.tflite", runtimes=TWO, run=path, **SMALL)
    with Run.open(path) as run:
        assert [t.id for t in run.targets()] == ["a/litert-reference", "b/litert-builtin"]
    assert [(side.file, side.runtime) for side in found.sides.values()] == [("a.tflite", TWO[0]), ("b.tflite", TWO[1])]


def test_a_copy_of_a_file_is_that_file_and_never_differs(place: Path) -> None:
    found = compare(place / "a.tflite", place / "copy.tflite", runtimes=TWO[:1], attack=SPSA, limits={"max_flips": 0.0}, **SMALL)
    assert [side.file for side in found.sides.values()] == ["a.tflite", "copy.tflite"]
    assert (found.clean.flips.k, found.gates[0].met) == (0, True)
    assert found.adversarial[0].robust_accuracy == found.adversarial[1].robust_accuracy
    apart = compare(place / "a.tflite", place / "copy.tflite", runtimes=TWO, **SMALL)
    assert [side.runtime for side in apart.sides.values()] == list(TWO)


@pytest.mark.parametrize("again", ["compare", "resume"])
@pytest.mark.parametrize("stage", ["a/litert-reference on noise", "spsa"])
def test_a_stopped_comparison_ends_with_the_same_figures(place: Path, tmp_path: Path, stage: str, again: str) -> None:
    files, asked = (place / "a.tflite", place / "b.tflite"), {"runtimes": TWO[:1], "attack": SPSA, **SMALL}
    path = tmp_path / "r.sqlite"
    with pytest.raises(KeyboardInterrupt):
        compare(*files, **asked, run=path, reporter=Stopping(stage))
    with Run.open(path, write=True) as run:
        assert not run.meta("finished")
        if again == "resume":
            execute(run)
    assert compare(*files, **asked, run=path) == compare(*files, **asked)


def test_another_question_is_another_run(place: Path, tmp_path: Path) -> None:
    compare(place / "a.tflite", runtimes=TWO, run=tmp_path / "r.sqlite", **SMALL)
    for other in ({"seed": 1}, {"runtimes": TWO[::-1]}, {"attack": "rays"}, {"n": 12}):
        with pytest.raises(EdgeqError, match="begun with other options"):
            compare(place / "a.tflite", **{"runtimes": TWO, **SMALL, "run": tmp_path / "r.sqlite", **other})


def test_a_side_that_cannot_run_is_named_before_there_is_a_run(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeq import runtimes

    real = runtimes.probe_all
    monkeypatch.setattr(
        runtimes, "probe_all", lambda names, file, **how: {**real(names, file, **how), TWO[1]: EdgeqError(f"{TWO[1]}: it has no kernel")}
    )
    with pytest.raises(EdgeqError, match="litert-builtin cannot run it: it has no kernel"):
        compare(place / "a.tflite", runtimes=TWO, run=tmp_path / "r.sqlite", **SMALL)
    assert not (tmp_path / "r.sqlite").exists()


@pytest.mark.tensorflow
def test_gradients_are_each_files_own_with_both_clamps(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "c.onnx").write_bytes(tiny_onnx.classifier(c=1, softmax=False))
    path = tmp_path / "r.sqlite"
    found = compare(place / "a.tflite", tmp_path / "c.onnx", attack="fgsm", run=path, **{**SMALL, "n": 60})
    assert crafted_on(path) == ["a/litert-xnnpack", "c/ort"]
    with Run.open(path) as run:
        for cell in (2, 3):
            assert [z.clamp for z in run.zeros(cell)] == ["clipped", "through"]
    for made in found.adversarial:
        own = made.robust_accuracy[made.crafted_on]
        assert own.k <= found.noise.accuracy[made.crafted_on].k


@pytest.mark.tensorflow
def test_a_float_network_beside_its_file_takes_pixels_as_the_file_does(digits_models, tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    found = compare(digits_models.h5, digits_models.ptq, attack=SPSA, run=path, **SMALL)
    assert [side.runtime for side in found.sides.values()] == ["keras", "litert-xnnpack"]
    assert len(crafted_on(path)) == 2
    assert found.clean.accuracy["A"].share > 0.8
    assert found.clean.scores.kind == "probs"
    with Run.open(path) as run:
        assert run.candidates(2, np.arange(30)).shape == (30, *run.shape)


def test_each_side_takes_pixels_in_its_own_way(tmp_path: Path) -> None:
    """The same function with its division by 255 outside and inside."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    import torch_files

    proto = onnx.ModelProto.FromString(torch_files.network())
    outside, inside = tmp_path / "outside.onnx", tmp_path / "inside.onnx"
    outside.write_bytes(proto.SerializeToString())
    first = next(t for t in proto.graph.initializer if t.name == proto.graph.node[0].input[1])
    first.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(first) / np.float32(255), first.name))
    inside.write_bytes(proto.SerializeToString())
    np.savez(tmp_path / "d.npz", x_test=torch_files.images(60), y_test=np.arange(60) % torch_files.CLASSES)
    asked = {**SMALL, "data": f"npz:{tmp_path / 'd.npz'}", "preprocess": "mean=0,std=255"}
    found = compare(outside, inside, preprocess_b="mean=0,std=1", **asked)
    assert found.clean.flips.k == 0
    assert found.clean.scores.largest < 1e-4
    assert compare(outside, inside, **asked).clean.flips.k > 0
    with pytest.raises(EdgeqError, match=r"inside\.onnx: states other preprocessing"):
        compare(outside, inside, preprocess_b="mean=0,std=1,resize=20", **asked)
    with pytest.raises(EdgeqError, match="is one file on both sides"):
        compare(outside, outside, preprocess_b="mean=0,std=1", **asked)


def test_onnx_files_are_compared_op_by_op(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    import torch_files

    before, after = torch_files.quantised(tmp_path, "qdq"), tmp_path / "after.onnx"
    proto = onnx.ModelProto.FromString(before.read_bytes())
    gemm = next(n for n in proto.graph.node if n.op_type == "Gemm")
    weights = next(n for n in proto.graph.node if n.output[0] == gemm.input[1]).input[0]
    codes = next(t for t in proto.graph.initializer if t.name == weights)
    codes.CopyFrom(onnx.numpy_helper.from_array(np.clip(onnx.numpy_helper.to_array(codes), -90, 90), codes.name))
    after.write_bytes(proto.SerializeToString())
    np.savez(tmp_path / "d.npz", x_test=torch_files.images(30), y_test=np.arange(30) % torch_files.CLASSES)
    asked = {**SMALL, "data": f"npz:{tmp_path / 'd.npz'}", "preprocess": "mean=0,std=255", "inside": 12}
    table = compare(before, after, **asked).layers
    assert table.reason == ""
    assert table.origin == {"A": "simulated", "B": "simulated"}
    assert table.unequal == {"A": 0, "B": 0}
    assert {"conv", "depthwise", "hard_sigmoid", "mul"} <= {line.kind for line in table.lines}
    assert table.first.kind == "dense"
    assert table.first.changed
    assert table.first.alone == table.first.differ > 0
    floats = compare(before, tmp_path / "float0.onnx", **asked).layers
    assert not floats.lines
    assert "ort answers otherwise when it keeps its inner tensors, and so does the simulator" in floats.reason
