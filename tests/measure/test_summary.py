import json

import numpy as np
import pytest
from synthetic import BEFORE_GRID, SIGNATURE, make_run, target

from edgeq.core.answer import Answer
from edgeq.core.jsonable import as_json
from edgeq.core.signature import Signature, Tensor
from edgeq.measure.intervals import wilson
from edgeq.measure.summary import summarise
from edgeq.runs.store import CLEAN, Artifact, Cell, Run


def labelled(*labels):
    return Answer("label", np.array(labels))


@pytest.fixture
def tiny(tmp_path):
    """Four images of class 1; phone and board see them, phone is attacked by queries, and the numbers can be counted by hand."""
    x = np.full((4, 2, 2, 1), 100, np.uint8)
    truth, idx = np.ones(4, np.int64), np.arange(4)
    with Run.create(tmp_path / "a.sqlite", shape=(2, 2, 1), n=4, meta={}) as run:
        run.add(target("phone"), target("board"), target("ort", "cannot run", "no sibling."), CLEAN)
        run.add(Cell(1, "noise", {}, "linf", 4 / 255, kind="noise"), Cell(2, "spsa", {}, "linf", 4 / 255, "phone", "scores", "query"))
        run.add(Cell(3, "square", {}, "linf", 4 / 255, "phone", "scores", "query"))
        run.add_rows(idx, idx + 10, ["a", "b", "c", "d"], truth, x)
        for cell, step in ((1, 1), (2, np.array([1, 2, 4, 4]).reshape(4, 1, 1, 1)), (3, 4)):
            run.add_candidates(cell, idx, (x + step).astype(np.uint8), x, np.array([1, 5, 9, 30]))
        for cell, phone, board in (
            (0, (0, 1, 1, 1), (1, 1, 1, 0)),
            (1, (0, 1, 1, 1), (1, 1, 0, 0)),
            (2, (1, 0, 0, 1), (1, 2, 1, 1)),
            (3, (1, 1, 0, 1), (1, 1, 1, 1)),
        ):
            run.add_answers(cell, "phone", idx, labelled(*phone), truth)
            run.add_answers(cell, "board", idx, labelled(*board), truth)
    with Run.open(tmp_path / "a.sqlite") as run:
        yield as_json(summarise(run))


def line(summary, cell, target):
    return next(t for c in summary["cells"] if c["cell"] == cell for t in c["targets"] if t["target"] == target)


def test_the_three_accuracies_are_measures(tiny):
    phone = line(tiny, 2, "phone")
    assert (phone["clean_accuracy"]["k"], phone["clean_accuracy"]["of"]) == (3, 4)
    assert phone["robust_accuracy"] == {
        "k": 1,
        "of": 4,
        "share": 0.25,
        "interval": list(wilson(1, 4)),
    }  # right clean *and* attacked: d alone
    assert phone["b19_acc"]["share"] == 0.5  # a and d, though a was wrong clean
    assert (phone["success"]["k"], phone["success"]["of"]) == (2, 3)


def test_norms_are_over_rows_right_clean_and_wrong_attacked(tiny):
    phone, board = line(tiny, 2, "phone"), line(tiny, 2, "board")
    assert phone["linf"] == pytest.approx({"mean": 3, "median": 3, "p90": 3.8})  # b moved by 2, c by 4
    assert phone["l2"]["mean"] == pytest.approx((2 * 2 + 4 * 2) / 2 / 255)
    assert board["linf"]["mean"] == 2  # b alone
    assert line(tiny, 3, "board")["linf"] is None  # nothing broken


def test_queries_are_the_attacked_targets(tiny):
    assert line(tiny, 2, "phone")["queries"]["successes"] == pytest.approx({"mean": 7, "median": 7, "p90": 8.6})
    assert line(tiny, 2, "phone")["queries"]["all"]["median"] == 7
    assert line(tiny, 2, "board")["queries"] is None


def test_the_floor_is_three_figures_against_the_one_crafted_on(tiny):
    floor = line(tiny, 2, "board")["floor"]
    assert floor["against"] == "phone"
    assert [floor[k]["k"] for k in ("clean", "noise", "adversarial")] == [2, 3, 2]
    assert line(tiny, 2, "phone")["floor"] is None


def test_pairs_are_tested_on_the_same_rows(tiny):
    pair = line(tiny, 2, "board")["mcnemar"]
    assert (pair["only_this"], pair["only_other"], pair["n"], pair["p"]) == (2, 1, 4, 1.0)  # board: a, c; phone: d


def test_worst_case_has_both_denominators_and_leaves_noise_out(tiny):
    phone, board = tiny["wcar"]
    assert phone["attacks"] == ["spsa", "square"]
    assert (phone["over_n"]["k"], phone["over_n"]["of"], phone["over_clean_right"]["of"]) == (1, 4, 3)
    assert (board["over_n"]["k"], board["over_clean_right"]["of"]) == (2, 3)


def test_agreement_and_the_lowest_accuracy(tiny):
    assert tiny["agreement"]["targets"] == ["phone", "board"]
    assert tiny["agreement"]["clean"] == [[1.0, 0.5], [0.5, 1.0]]
    assert tiny["agreement"]["adversarial"][0]["matrix"][0][1] == (2 + 3) / 8  # over both attacks, noise left out
    assert (tiny["lowest"]["robust_accuracy"], tiny["lowest"]["target"], tiny["lowest"]["attack"]) == (0.25, "phone", "spsa")


def test_what_is_not_shown_is_read_off_the_run(tiny):
    said = " ".join(tiny["not_shown"])
    assert "ort could not run this file: no sibling." in said
    assert "n = 4" in said
    assert "Only query attacks" in said
    assert tiny["unfinished"] == []
    assert "robust" not in " ".join(tiny["threat_model"]).lower()


@pytest.fixture
def ladder(tmp_path):
    """Four images of class 1: pgd from a float network and from the file, and a stand-in for tflm that is wrong about one row."""
    x = np.full((4, 2, 2, 1), 100, np.uint8)
    truth, idx = np.ones(4, np.int64), np.arange(4)
    meta = {"access": {"level": "gradients", "sentence": "access: gradients, as asked"}}
    meta["zero_gradients"] = {
        "1/0": 1,
        "2/0": {"clipped": [1, 6, 8], "through": [0, 1, 8]},
        "2/2": {"clipped": [1, 8, 8], "through": [0, 0, 8]},
    }
    with Run.create(tmp_path / "a.sqlite", shape=(2, 2, 1), n=4, meta=meta) as run:
        run.add(Artifact("ef", "f.h5", "f.h5", 1), Artifact("ab", "m", "m", 1))
        run.add(target("tflm-exact", artifact="ab", derived="stand-in", members=("tflm",)), target("tflm", artifact="ab"))
        run.add(target("keras", artifact="ef", role="source"), CLEAN)
        run.add(Cell(1, "pgd", {"steps": 4}, "linf", 4 / 255, "keras"), Cell(2, "pgd", {"steps": 4}, "linf", 4 / 255, "tflm"))
        run.add(Cell(3, "spsa", {}, "linf", 4 / 255, "tflm-exact", "scores", "query"))
        run.add_rows(idx, idx + 10, ["a", "b", "c", "d"], truth, x)
        for cell, exact, tflm in (
            (0, (1, 1, 1, 0), (1, 1, 1, 0)),
            (1, (1, 1, 0, 0), (1, 1, 0, 0)),
            (2, (0, 1, 0, 1), (0, 1, 0, 1)),
            (3, (0, 0, 1, 0), (0, 1, 1, 0)),  # they differ in the second row
        ):
            run.add_candidates(cell or 9, idx, (x + 1).astype(np.uint8), x, np.array([1, 5, 9, 30]))
            for name, answer in (("tflm-exact", exact), ("tflm", tflm), ("keras", tflm)):
                run.add_answers(cell, name, idx, labelled(*answer), truth)
    with Run.open(tmp_path / "a.sqlite") as run:
        yield as_json(summarise(run))


def test_source_and_file_are_compared_in_pairs_on_each_runtime(ladder):
    (pair,) = ladder["white_box"]
    assert (pair["attack"], pair["source"], pair["file"], pair["cells"]) == ("pgd", "keras", "tflm", [1, 2])
    (only,) = pair["targets"]  # not the source itself, nor the stand-in
    assert (only["target"], only["source"]["k"], only["file"]["k"]) == ("tflm", 2, 1)  # d was wrong when clean
    assert (only["only_source"], only["only_file"], only["p"]) == (1, 0, 1.0)


def test_a_stand_in_is_not_in_the_table_and_where_it_is_wrong_is_said(ladder):
    assert [t["target"] for t in ladder["cells"][2]["targets"]] == ["tflm", "keras"]
    assert line(ladder, 3, "tflm")["robust_accuracy"]["k"] == 2  # tflm's own answers
    assert line(ladder, 3, "tflm")["queries"]["all"]["median"] == 7
    assert ladder["cells"][2]["reference"] == "tflm"
    (confirmed,) = ladder["confirmed"]
    assert (confirmed["by"], confirmed["rows"], confirmed["differ"]) == ("tflm", 16, 1)
    assert [c["differ"] for c in confirmed["cells"]] == [0, 0, 0, 1]
    assert any("tflm-exact is NOT tflm on 1 of 16 rows" in said for said in ladder["not_shown"])


def test_zero_gradients_by_clamp_and_of_runs_from_before(ladder):
    old, new, query = (cell["zero_gradients"] for cell in ladder["cells"])
    assert [(z["clamp"], z["rows"]["k"], z["pixels"]) for z in old] == [("", 1, None)]
    assert [(z["clamp"], z["rows"]["k"], z["pixels"]["share"]) for z in new] == [("clipped", 2, 14 / 16), ("through", 0, 1 / 16)]
    assert query == []
    said = " ".join(ladder["not_shown"])
    assert "pgd at 4/255 l_inf: the gradient of 1 of 4 images was exactly zero" in said  # from keras; one clamp sees all rows of the file
    assert said.count("was exactly zero") == 1


def test_the_access_is_stated_first(ladder):
    assert ladder["threat_model"][0] == "Access: gradients, as asked."


def test_a_tie_fools_nobody_and_proves_nobody_right(tmp_path):
    """Rows: wrong by argmax, though tied; wrong; right; right by the lowest index. Then an attack ties all, and fools the last."""
    truth, idx, x = np.array([1, 0, 0, 0]), np.arange(4), np.full((4, 1, 1, 1), 100, np.uint8)
    clean = np.array([[5, 5, 1], [5, 6, 1], [7, 6, 1], [6, 6, 1]], np.int8)
    attacked = np.array([[5, 5, 1], [6, 6, 1], [1, 6, 6], [1, 1, 6]], np.int8)
    attacked[2, 0] = 6
    with Run.create(tmp_path / "a.sqlite", shape=(1, 1, 1), n=4, meta={}) as run:
        run.add(target("t"), CLEAN, Cell(1, "spsa", {}, "linf", 4 / 255, "t", "scores", "query"))
        run.add_rows(idx, idx, list("abcd"), truth, x)
        run.add_candidates(1, idx, x + np.uint8(1), x, 9)
        run.add_answers(0, "t", idx, Answer("logits", clean), truth)
        run.add_answers(1, "t", idx, Answer("logits", attacked), truth)
        found = as_json(summarise(run))
    (before,), attack = found["clean"], line(found, 1, "t")
    assert {k: before[k]["k"] for k in ("accuracy", "with_ties", "ties")} == {"accuracy": 2, "with_ties": 3, "ties": 2}
    assert attack["clean_accuracy"]["k"] == 2  # c and d
    assert attack["robust_accuracy"]["k"] == 1  # c stays right in a tie; a ties, too, but never was right
    assert (attack["success"]["k"], attack["success"]["of"]) == (1, 2)  # d
    assert attack["b19_acc"]["k"] == 2  # b and c by the lowest index, whatever was clean
    assert attack["ties"]["k"] == 3
    assert (found["wcar"][0]["over_n"]["k"], found["wcar"][0]["over_clean_right"]["of"]) == (1, 2)
    assert "lowest index" in found["rule"]["right"]
    assert found["warnings"] == []


@pytest.mark.parametrize(("truth", "dead"), [([0, 1, 2, 0], True), ([0, 0, 0, 0], False)])
def test_one_answer_to_all_images_is_a_warning(tmp_path, truth, dead):
    """Equal scores always, equal labels where the data has several classes; the accuracy is the share of one class."""
    idx, truth = np.arange(4), np.array(truth)
    signature = Signature(SIGNATURE.input, Tensor((3,), "int8", 1 / 256, -128), "probs")
    raw = np.array([[7, 7, 7]] * 4, np.int8)
    with Run.create(tmp_path / "a.sqlite", shape=(2, 2, 1), n=4, meta={}) as run:
        run.add(*[target(name, signature=signature) for name in ("same", "class", "works")], target("board"), CLEAN)
        run.add_rows(idx, idx, list("abcd"), truth, np.zeros((4, 2, 2, 1), np.uint8))
        run.add_answers(0, "same", idx, Answer("probs", raw), truth)
        run.add_answers(0, "class", idx, Answer("probs", raw - idx[:, None].astype(np.int8) * np.int8([0, 1, 1])), truth)
        run.add_answers(0, "works", idx, Answer("probs", np.eye(3, dtype=np.int8)[truth]), truth)
        run.add_answers(0, "board", idx, labelled(0, 0, 0, 0), truth)
        found = as_json(summarise(run))
    clean = {c["target"]: c for c in found["clean"]}
    assert clean["same"]["accuracy"]["k"] == (truth == 0).sum()
    assert clean["same"]["with_ties"]["k"] == 4
    assert clean["same"]["constant"] == {"what": "scores", "label": 0, "dead": dead}
    assert found["warnings"][0].startswith("same answers all 4 clean images with the same scores")
    if dead:
        assert clean["class"]["constant"] == clean["board"]["constant"] == {"what": "label", "label": 0, "dead": False}
        assert clean["works"]["constant"] is None
        assert [w.split()[0] for w in found["warnings"]] == ["same", "class", "board", "Until"]
    else:  # images of one class that a network gets right: only equal scores are odd
        assert clean["class"]["constant"] is clean["board"]["constant"] is None


def test_an_unfinished_run_is_measured_over_its_finished_rows_and_says_so(tmp_path):
    with Run.open(make_run(tmp_path / "a.sqlite", n=50, finished=0.4)) as run:
        summary = as_json(summarise(run))
    last = summary["cells"][-1]
    assert {t["n"] for t in last["targets"]} == {20}
    assert "spsa at 8/255 l_inf: 20 of 50 images are crafted" in summary["unfinished"]
    assert any("not finished" in s for s in summary["not_shown"])


def test_the_float_network_before_the_grid_stands_beside_and_never_leads(tmp_path):
    with Run.open(make_run(tmp_path / "a.sqlite", n=50)) as run:
        summary = as_json(summarise(run))
    beside = [t for c in summary["cells"] for t in c["targets"] if t["before_grid"]]
    assert len(beside) == 2  # pgd at two radii
    assert all(t["target"] == "keras" + BEFORE_GRID and t["l2"] is None and t["clean_accuracy"]["of"] == 50 for t in beside)
    assert "keras" + BEFORE_GRID not in [
        *summary["agreement"]["targets"],
        *(w["target"] for w in summary["wcar"]),
        summary["lowest"]["target"],
    ]


def test_a_run_of_no_attack_and_one_of_no_rows(tmp_path):
    with Run.create(tmp_path / "a.sqlite", shape=(1, 1, 1), n=0, meta={}) as run:
        run.add(target("t", signature=SIGNATURE), CLEAN)
        summary = as_json(summarise(run))
    assert summary["lowest"] is None
    assert summary["clean"][0]["accuracy"]["share"] is None
    json.dumps(summary, allow_nan=False)
