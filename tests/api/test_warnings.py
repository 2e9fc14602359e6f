"""What looks wrong stands above all figures, what fits better is found, and no gate is judged by it; on files that are right by design."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_tflite
from click.testing import CliRunner

import edgeq
from edgeq.cli.main import cli
from edgeq.runs import trials
from edgeq.runs.store import Run

RUNTIME = "litert-reference"
X = np.random.default_rng(0).integers(0, 256, (600, 8, 8, 3), dtype=np.uint8)


def answers(file: Path, preprocess: str | None = None, flipped: bool = False) -> np.ndarray:
    with edgeq.open(file, runtime=RUNTIME, preprocess=preprocess, threads=1) as target:
        return target.answer(np.ascontiguousarray(X[..., ::-1]) if flipped else X).label()


def apart(labels: np.ndarray, wrong: np.ndarray, n: int = 100) -> edgeq.Images:
    """Images whose ``labels`` are other than what is ``wrong``, as many of each class as there are at most."""
    index = np.flatnonzero(labels != wrong)
    rank = np.array([(labels[index[:k]] == labels[i]).sum() for k, i in enumerate(index)])
    index = index[np.argsort(rank, kind="stable")][:n]
    return edgeq.Images(X[index], labels[index], names=[str(i) for i in index])


def attacked(file: Path, images: Any, **asked: Any) -> dict[str, Any]:
    with edgeq.attack(str(file), images, "noise", runtime=RUNTIME, threads=1, **asked) as result:
        return result.to_json()


@pytest.fixture
def floats(tmp_path: Path) -> Path:
    file = tmp_path / "float.tflite"
    file.write_bytes(tiny_tflite.classifier(c=3, dtype="float32", seed=3))
    return file


def test_another_normalisation_and_order_of_channels_that_fit_are_named_once(
    floats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, passed, run = "mean=127.5,std=127.5", "mean=0,std=255", tmp_path / "r.sqlite"
    images = apart(answers(floats, wanted, flipped=True), answers(floats, passed))
    found = attacked(floats, images, preprocess=passed, run=run)
    (fit,) = found["fits"]
    assert (fit["right"], fit["before"], fit["n"], fit["offset"]) == (len(images), 0, len(images), 0)
    assert fit["value"] == f"none,bgr,{wanted}"
    assert found["warnings"][-2].startswith(f"What fits: {len(images)} of {len(images)} images instead of 0 are right")
    assert f"--preprocess {fit['value']}" in found["warnings"][-2]
    assert found["clean"][0]["doubts"][0]["void"]
    assert attacked(floats, images, preprocess=fit["value"])["warnings"] == []

    with monkeypatch.context() as patch:
        patch.setattr(trials, "_tried", lambda *_: pytest.fail("tried again"))
        assert edgeq.resume(run).to_json()["fits"] == found["fits"]
    for bad in ("x", [1], [{**fit, "n": "many"}], [{**fit, "more": 1}]):
        with Run.open(run, write=True) as opened:
            opened.set_meta("fits", bad)
        with pytest.raises(edgeq.EdgeqError, match="is damaged"):
            _ = edgeq.result(run).summary


def test_labels_that_count_from_one_are_named(tmp_path: Path) -> None:
    file = tmp_path / "model.tflite"
    file.write_bytes(tiny_tflite.classifier(c=3, seed=3))
    labels = answers(file)
    for offset in (1, -1):
        inside = (labels - offset >= 0) & (labels - offset < 10)
        images = edgeq.Images(X[inside][:100], (labels - offset)[inside][:100])
        found = attacked(file, images)
        assert [(fit["right"], fit["offset"], fit["value"]) for fit in found["fits"]] == [(100, offset, "")]
        assert any("--class-map" in line and ("higher" if offset > 0 else "lower") in line for line in found["warnings"])


def test_pixels_that_reach_two_codes(tmp_path: Path) -> None:
    file = tmp_path / "model.tflite"
    file.write_bytes(tiny_tflite.classifier(c=3, seed=3))
    images = apart(answers(file), answers(file, "mean=0,std=1"))
    found = attacked(file, images, preprocess="mean=0,std=1")
    assert found["warnings"][0].startswith("The 256 values of a pixel reach 2 codes of its input in litert-reference")
    assert [(fit["right"], fit["value"]) for fit in found["fits"]] == [(len(images), "none,bytes")]


def test_where_nothing_fits_nothing_is_named_and_no_gate_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.tflite").write_bytes(tiny_tflite.classifier(c=3, seed=3))
    labels = answers(Path("model.tflite"))
    np.savez("own.npz", images=X[:100], labels=labels[:100])
    np.savez("other.npz", images=X[:100], labels=np.random.default_rng(1).permutation(np.arange(100) % 10))
    asked = ["attack", "--target", "model.tflite", "--runtime", f"{RUNTIME},litert-builtin", "--attack", "spsa:steps=1:batch=4"]
    asked += ["--n", "40", "--eps", "64/255"]
    own = CliRunner().invoke(cli, [*asked, "--data", "own.npz", "--fail-under", "1.0", "--run", "own.sqlite"])
    bad = CliRunner().invoke(cli, [*asked, "--data", "other.npz", "--fail-under", "0.0", "--run", "other.sqlite"])
    assert own.exit_code == 1
    assert edgeq.result("own.sqlite").missed(0.0) == ""
    assert "WARNING" not in own.output
    assert isinstance(bad.exception, edgeq.EdgeqError)  # exit code 2
    assert "--fail-under 0: cannot be judged: litert-reference" in str(bad.exception)
    with pytest.raises(edgeq.EdgeqError, match="--fail-under 1: cannot be judged"):
        edgeq.result("other.sqlite").missed(1.0)
    assert bad.stdout.startswith("WARNING: litert-reference ")
    assert "So it is with litert-builtin." in " ".join(bad.stdout.split())
    assert bad.stderr.index("WARNING: litert-reference") < bad.stderr.index("run: other.sqlite; as a page")

    document = json.loads(CliRunner().invoke(cli, ["report", "other.sqlite", "--json"]).stdout)
    assert (document["lowest"], document["fits"]) == (None, [])
    assert "--fail-under cannot be judged" in document["warnings"][-1]
    assert CliRunner().invoke(cli, ["report", "other.sqlite", "-o", "bad.html"]).exit_code == 0
    page = Path("bad.html").read_text()
    assert "cannot be judged: see above" in page
    assert "under every attack (WCAR)" not in page
    assert document["warnings"][0][:30] in page


def test_a_source_of_gradients_is_looked_at_too() -> None:
    """Of a source the option is its own, and labels and channels are those of what ships."""
    labels = {0: np.zeros(40, int), 1: np.arange(40) % 4}
    truth = np.arange(40) % 4
    assert trials.best_of(labels, truth, (0,), 4) == (1, 0, 40, 10)
    assert trials.best_of({0: truth, 1: labels[0]}, truth, (0, 1, -1), 4) is None
    assert trials.best_of({0: truth + 1}, truth, (0,), 5) is None
    assert trials.best_of({0: truth + 1}, truth, (0, 1, -1), 5) == (0, 1, 40, 0)
    close = np.where(np.arange(40) < 15, truth, 0)
    assert trials.best_of({0: labels[0], 1: close}, truth, (0,), 4) is not None
    assert trials.best_of({0: labels[0], 1: np.where(np.arange(40) < 6, truth, 0)}, truth, (0,), 4) is None
