"""Runs of several networks: who is crafted on whom, what is refused, and that equal files are one target."""

import shutil

import numpy as np
import pytest
import tiny_onnx
import tiny_tflite

from edgeq.core.errors import EdgeqError
from edgeq.core.jsonable import as_json
from edgeq.measure.summary import summarise
from edgeq.runs.execute import execute
from edgeq.runs.plan import Plan
from edgeq.runs.prepare import prepare
from edgeq.runs.store import Run

pytestmark = pytest.mark.slow

ASKED = {"data": "digits", "n": 12, "runtimes": ("litert-reference",), "eps": ("16/255",), "threads": 1}


@pytest.fixture
def files(tmp_path):
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        (tmp_path / f"{name}.tflite").write_bytes(tiny_tflite.classifier(seed=seed))
    return tmp_path


def run(files, path, names="ab", **options):
    setting = prepare(Plan(tuple(str(files / f"{name}.tflite") for name in names), **(ASKED | options)))
    with setting.create(files / path, []) as opened:
        execute(opened, setting)
    return files / path


def test_a_query_attack_runs_on_every_network_and_all_answer_its_candidates(files):
    with Run.open(run(files, "r.sqlite", attacks=("spsa:steps=2:batch=8",))) as opened:
        assert [c.crafted_on for c in opened.cells()] == ["", "", "a/litert-reference", "b/litert-reference"]
        summary = summarise(opened)
        for cell in summary.cells:
            assert [line.target for line in cell.targets] == ["a/litert-reference", "b/litert-reference"]
        assert summary.transfer == ()  # queries stop at the first success: no full budget, no matrix
        with Run.open(run(files, "alone.sqlite", names="b", attacks=("spsa:steps=2:batch=8",))) as alone:
            rows = np.arange(12)
            assert (alone.candidates(2, rows) == opened.candidates(3, rows)).all()
            assert (alone.scores(2, "b/litert-reference", rows) == opened.scores(3, "b/litert-reference", rows)).all()


def test_an_ensemble_answers_beside_its_members_and_is_attacked_by_labels(files):
    with Run.open(run(files, "r.sqlite", names="abc", agree=2, attacks=("rays",), max_queries=9)) as opened:
        members = [f"{name}/litert-reference" for name in "abc"]
        assert [c.crafted_on for c in opened.cells()[2:]] == [*members, "2 of 3 agree"]
        for cell in opened.cells():
            votes = np.stack([opened.labels_of(cell.cell, id) for id in members])
            counts = (votes[:, None] == votes).sum(axis=1)
            wanted = np.where(counts.max(axis=0) >= 2, votes[counts.argmax(axis=0), np.arange(12)], -2)
            assert (opened.labels_of(cell.cell, "2 of 3 agree") == wanted).all()
        summary = summarise(opened)
        consensus = summary.clean[-1].consensus
        assert consensus.predicted.k == (opened.labels_of(0, "2 of 3 agree") >= 0).sum()
        assert consensus.d_acc.k == (opened.correct(0, "2 of 3 agree") == 1).sum()


@pytest.mark.tensorflow
def test_the_transfer_matrix_has_a_row_for_every_network_and_their_mean(files):
    path = run(files, "r.sqlite", transfer=True, agree=2, attacks=("pgd:steps=3:step=0.4",))
    with Run.open(path) as opened:
        (matrix,) = summarise(opened).transfer
        assert [row.crafted_on for row in matrix.rows] == ["a/litert-reference", "b/litert-reference", "mean of 2"]
        assert matrix.targets == ("a/litert-reference", "b/litert-reference", "2 of 2 agree")
        robust = {(row.crafted_on, line.target): line.robust_accuracy.k for row in matrix.rows for line in row.lines}
        for id in matrix.targets[:2]:
            assert robust[id, id] == min(robust[other, id] for other in matrix.targets[:2])  # the white box is the strongest
        traces = opened.traces(2, "clipped")
        assert sorted(traces) == list(range(12))
        assert {trace.shape for trace in traces.values()} == {(4,)}
        before = as_json(summarise(opened))
    with Run.open(path, write=True) as opened:  # nothing is left to do
        execute(opened)
        assert as_json(summarise(opened)) == before


def test_the_same_file_twice_is_one_target_and_it_is_said(files):
    shutil.copyfile(files / "a.tflite", files / "again.tflite")
    setting = prepare(Plan(tuple(str(files / name) for name in ("a.tflite", "again.tflite")), **ASKED, attacks=("noise",)))
    assert [t.id for t in setting.targets] == ["a/litert-reference"]
    assert any("again.tflite is the file" in note for note in setting.notes)


def test_two_files_of_one_name_are_two_targets(files):
    (files / "x").mkdir()
    shutil.copyfile(files / "b.tflite", files / "x" / "a.tflite")
    setting = prepare(Plan((str(files / "a.tflite"), str(files / "x" / "a.tflite")), **ASKED, attacks=("noise",)))
    one, two = (t.id for t in setting.targets)
    assert one != two
    assert one.startswith("a~")
    assert {t.spec.artifact for t in setting.targets} == {a.sha256 for a in setting.artifacts}


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        (lambda: tiny_tflite.classifier(h=9), {}, r"other.tflite: takes images of \(9, 8, 1\), and .*a.tflite of \(8, 8, 1\)"),
        (lambda: tiny_tflite.classifier(classes=7), {}, "other.tflite: tells 7 classes apart, and .*a.tflite 10"),
        (lambda: tiny_tflite.classifier(seed=5), {"agree": 3}, "--agree 3: 2 networks are given"),
        (lambda: b"TFL3 or not", {}, "other.tflite"),
    ],
)
def test_what_does_not_belong_into_one_run_is_refused_by_name(files, content, options, says):
    (files / "other.tflite").write_bytes(content())
    with pytest.raises(EdgeqError, match=says):
        prepare(Plan((str(files / "a.tflite"), str(files / "other.tflite")), **ASKED, **options, attacks=("noise",)))


def test_each_file_takes_of_the_runtimes_asked_for_those_that_run_it(files):
    pytest.importorskip("onnxruntime")
    (files / "d.onnx").write_bytes(tiny_onnx.classifier(c=1))
    paths = (str(files / "a.tflite"), str(files / "d.onnx"))
    setting = prepare(Plan(paths, **(ASKED | {"runtimes": ("litert-reference", "litert-builtin", "ort")}), attacks=("noise",)))
    assert [t.id for t in setting.targets if t.runs] == ["a/litert-reference", "a/litert-builtin", "d/ort"]
    with pytest.raises(EdgeqError, match=r"d.onnx: none of --runtime litert-reference runs it"):
        prepare(Plan(paths, **ASKED, attacks=("noise",)))


def test_each_runtime_of_each_file_is_crafted_on_and_may_be_named_for_it(files):
    names = tuple(
        f"{files / name}.tflite={runtime}"
        for name, runtime in (("a", "litert-builtin"), ("a", "litert-reference"), ("b", "litert-builtin"))
    )
    setting = prepare(
        Plan((str(files / "a.tflite"), str(files / "b.tflite")), **(ASKED | {"runtimes": names, "each": True, "attacks": ("rays",)}))
    )
    ids = ["a/litert-builtin", "a/litert-reference", "b/litert-builtin"]
    assert [t.id for t in setting.targets] == ids
    assert [c.crafted_on for c in setting.cells if c.adversarial] == ids


def test_a_stand_in_is_crafted_on_and_what_it_stands_for_only_confirms_it(files):
    plan = Plan(
        (str(files / "a.tflite"),), **(ASKED | {"runtimes": ("tflm-exact", "litert-reference"), "each": True, "attacks": ("rays",)})
    )
    setting = prepare(plan)
    assert [c.crafted_on for c in setting.cells if c.adversarial] == ["a/tflm-exact", "a/litert-reference"]
    assert {t.id for t in setting.targets} == {"a/tflm-exact", "a/litert-reference", "a/tflm"}
