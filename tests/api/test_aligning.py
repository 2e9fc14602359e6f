"""An alignment as a run: what is measured of each row, and that a stopped one ends as it would have ended."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tiny_tflite

from edgeq.api.aligning import align
from edgeq.core.errors import EdgeqError
from edgeq.core.reporter import Silent
from edgeq.runs.store import Run

pytestmark = pytest.mark.slow

SMALL = {"data": "digits", "n": 40, "estimates": ("spsa:pairs=4", "coordinate:pixels=4"), "attack": "fgsm", "eps": ("2/255",), "threads": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("aligning") / "m.tflite"
    path.write_bytes(tiny_tflite.classifier(seed=3))
    return path


class Stopping(Silent):
    """Ctrl-C when so many rows of a stage are done."""

    def __init__(self, stage: str, rows: int) -> None:
        self.stage, self.rows = stage, rows

    @contextmanager
    def progress(self):
        def show(stage: str, done: int, total: int) -> None:
            if stage.startswith(self.stage) and done >= self.rows:
                raise KeyboardInterrupt

        yield show


@pytest.mark.tensorflow
def test_a_stopped_alignment_ends_with_the_same_figures(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    for stage, rows, cell in (("fgsm", 0, 2), ("gradients", 16, 0), ("value shift under noise", 1, 1), ("value shift under fgsm", 32, 2)):
        with pytest.raises(KeyboardInterrupt):
            align(model, **SMALL, run=path, reporter=Stopping(stage, rows))
        with Run.open(path) as run:
            assert not run.measured(cell).all()
    assert align(model, **SMALL, run=path) == align(model, **SMALL)
    with Run.open(path) as run:
        assert all(run.measured(cell).all() for cell in range(3))


@pytest.mark.tensorflow
def test_parts_that_are_kept_are_not_asked_again(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.sqlite"
    found = align(model, **SMALL, run=path)

    def never(*_):
        raise AssertionError("everything is measured")

    monkeypatch.setattr("edgeq.measure.gradients._estimate", never)
    monkeypatch.setattr("edgeq.measure.value_shift.simulate", never)
    assert align(model, **SMALL, run=path) == found
    with pytest.raises(EdgeqError, match="begun with other options"):
        align(model, **{**SMALL, "estimates": ("spsa:pairs=5",)}, run=path)


def test_estimates_alone_need_no_gradients(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.targets.access.find_spec", lambda name: None)
    path = tmp_path / "r.sqlite"
    found = align(model, **SMALL, run=path, runtime="litert-reference")
    assert [*found.gradients] == ["spsa scores", "spsa logits", "coordinate scores", "coordinate logits"]
    assert (found.shift, found.logit_variance) == ((), None)
    with Run.open(path) as run:
        assert [cell.kind for cell in run.cells()] == ["clean"]
        assert run.measured(0).all()


def test_a_run_of_something_else_is_no_alignment(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.targets.access.find_spec", lambda name: None)
    path, asked = tmp_path / "r.sqlite", {**SMALL, "run": tmp_path / "r.sqlite", "runtime": "litert-reference"}
    align(model, **asked)
    with Run.open(path) as run:
        kept = run.meta("align")
    for other, says in ((None, "no run of edgeq align"), ({"target": "m"}, "no run of"), ({**kept, "target": "x"}, "do not run")):
        with Run.open(path, write=True) as run:
            run.set_meta("align", other)
        with pytest.raises(EdgeqError, match=says):
            align(model, **asked)
    with Run.open(path, write=True) as run:
        run.set_meta("align", kept)
        run.add_measurements(0, np.arange(1), {"zeros: spsa scores": [np.zeros(3)]})
    with pytest.raises(EdgeqError, match="is not measured of every row"):
        align(model, **asked)


@pytest.mark.tensorflow
def test_files_of_pytorch_users(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    import torch_files

    target, source = torch_files.quantised(tmp_path, "qoperator"), tmp_path / "float0.onnx"
    np.savez(tmp_path / "d.npz", x_test=torch_files.images(24), y_test=np.arange(24) % torch_files.CLASSES)
    few = {"data": f"npz:{tmp_path / 'd.npz'}", "n": 16, "attack": "fgsm", "eps": ("4/255",), "threads": 1, "preprocess": "mean=0,std=255"}
    found = align(target, source=source, estimates=(), **few)
    assert [*found.gradients] == ["float", "file clipped", "file through"]
    assert min(c.mean for c in found.cosines) > 0.8
    assert found.runtime == "ort"
    assert found.logit_variance.ratio == pytest.approx(1, abs=0.2)
    (shift,) = found.shift
    assert shift.unequal == 0
    assert {"conv", "mul", "add", "dense"} <= {line.kind for line in shift.adversarial.lines if line.changed}
    floats = align(source, estimates=("coordinate:pixels=8",), **few)
    assert [*floats.gradients] == ["file", "coordinate logits"]
    assert floats.shift == ()
    assert "value shift is left out: nothing in the file is rounded" in " ".join(floats.notes)
    assert floats.cosines[0].mean > 0.9
