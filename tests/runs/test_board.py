import csv
import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from synthetic import make_run

from edgeq.core.errors import EdgeqError
from edgeq.measure.summary import summarise
from edgeq.runs.board import pack, score
from edgeq.runs.store import Run


@pytest.fixture
def path(tmp_path):
    return make_run(tmp_path / "a.sqlite", n=12)


def table(folder):
    with open(folder / "index.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def answer(path, lines):
    path.write_text("\n".join(",".join(map(str, line)) for line in lines) + "\n")
    return path


def test_a_pack_holds_the_very_bytes_of_the_input_tensor(path, tmp_path):
    with Run.open(path) as run:
        found = pack(run, tmp_path / "board")
        ids = {int(i): k for k, i in enumerate(run.ids())}
        rows = table(tmp_path / "board")
        assert len(rows) == 12 * len(run.cells()) == sum(c["images"] for c in found["cells"])
        for row in rows:
            raw = (tmp_path / "board" / row["file"]).read_bytes()[int(row["offset"]) :][: 8 * 8 * 3]
            pixels = run.candidates(int(row["cell"]), np.array([ids[int(row["id"])]]))[0]
            assert (np.frombuffer(raw, np.int8).reshape(8, 8, 3).astype(int) + 128 == pixels).all()
    assert json.loads((tmp_path / "board/index.json").read_text()) == found
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_the_header_is_c_and_bounded(path, tmp_path):
    with Run.open(path) as run:
        pack(run, tmp_path / "board", header=5)
    text = (tmp_path / "board/images.h").read_text()
    assert "#define EDGEQ_IMAGES 5\n" in text
    first = np.fromfile(tmp_path / "board/cell-0-clean.bin", np.int8)[: 8 * 8 * 3]
    row = re.search(r"edgeq_input\[EDGEQ_IMAGES\]\[EDGEQ_VALUES\] = \{\n  \{([^}]*)\}", text).group(1)
    assert [int(v) for v in row.split(",")] == first.tolist()
    if shutil.which("cc"):
        source = tmp_path / "main.c"
        body = "return edgeq_input[4][191] + edgeq_label[0] + edgeq_cell[0] + (int)edgeq_id[0];"
        source.write_text(f'#include "board/images.h"\nint main(void) {{ {body} }}\n')
        subprocess.run(["cc", "-Wall", "-Werror", "-c", source, "-o", tmp_path / "main.o"], check=True)


def test_pack_refuses_a_full_folder_and_an_unknown_target(path, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("keep")
    with Run.open(path) as run:
        with pytest.raises(EdgeqError, match="not an empty folder"):
            pack(run, tmp_path / "full")
        with pytest.raises(EdgeqError, match="did you mean litert-xnnpack"):
            pack(run, tmp_path / "new", target="litert-xnpack")
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "full/mine.txt").read_text() == "keep"


def test_a_board_that_answers_like_a_runtime_gets_its_numbers(path, tmp_path):
    with Run.open(path) as run:
        pack(run, tmp_path / "board")
        told = {c.cell: run.labels_of(c.cell, "tflm") for c in run.cells()}
        ids = {int(i): k for k, i in enumerate(run.ids())}
    lines = [(r["id"], r["cell"], told[int(r["cell"])][ids[int(r["id"])]]) for r in table(tmp_path / "board")]
    with Run.open(path, write=True) as run:
        assert score(run, answer(tmp_path / "answers.csv", [("id", "cell", "label"), *lines]), "my board") == []
        summary = summarise(run)
    for cell in summary.cells:
        mine, theirs = (replace(cell.of(id), target="", ties=None) for id in ("tflm", "my board"))
        assert mine == theirs
    assert any("my board answered was read from a CSV" in s for s in summary.not_shown)
    assert summary.targets[-1].identity["engine"] == "answers.csv"


def test_scores_are_judged_strictly_and_missing_rows_are_said(path, tmp_path):
    with Run.open(path) as run:
        ids, labels = run.ids(), run.labels()
    head = ["id", "cell", *(f"score_{k}" for k in range(10))]
    even = [[ids[i], 0, *[7] * 10] for i in range(5)]  # all tie: right
    wrong = [[ids[5], 0, *[8 if k != labels[5] else 7 for k in range(10)]]]
    with Run.open(path, write=True) as run:
        notes = score(run, answer(tmp_path / "answers.csv", [head, *even, *wrong]), "b")
        seen = run.outcomes(0, "b")
        assert seen.correct.tolist() == [1] * 5 + [0] + [-1] * 6
        assert seen.tied[:6].tolist() == [1] * 6
        assert (run.scores(0, "b", np.arange(5)) == 7).all()
        assert "cell 0 (clean): 6 of 12 images are answered" in notes
        assert summarise(run).unfinished == ()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "first line must name"),
        ([("id", "label")], "first line must name"),
        ([("id", "cell", "label", "score_0")], "first line must name"),
        ([("id", "cell", "score_0", "score_2")], "score_0 to score_9"),
        ([("id", "cell", "label")], "contains no answers"),
        ([("id", "cell", "label"), ("ID", 0, 12)], "line 2: label 12 is out of range; classes are 0 to 9"),
        ([("id", "cell", "label"), ("ID", 0, -1)], "out of range"),
        ([("id", "cell", "label"), ("ID", 0, "cat")], "'cat' is no whole number"),
        ([("id", "cell", "label"), ("ID", 77, 1)], "no image with that id and cell"),
        ([("id", "cell", "label"), (5, 0, 1)], "no image with that id and cell"),
        ([("id", "cell", "label"), ("ID", 0, 1), ("ID", 0, 1)], "line 3: this image of cell 0 was answered before"),
        ([("id", "cell", "label"), ("ID", 0)], "line 2: has 2 fields"),
        ([("id", "cell", *(f"score_{k}" for k in range(10))), ("ID", 0, *["nan"] * 10)], "'nan' is no finite number"),
        ([("id", "cell", *(f"score_{k}" for k in range(10))), ("ID", 0, *["1e39"] * 10)], "no finite number"),
    ],
)
def test_answers_that_cannot_be_right_are_refused_and_nothing_is_written(path, tmp_path, lines, said):
    with Run.open(path, write=True) as run:
        known = run.ids()[0]
        file = answer(tmp_path / "answers.csv", [tuple(known if v == "ID" else v for v in line) for line in lines])
        with pytest.raises(EdgeqError, match=re.escape(said)):
            score(run, file, "b")
        assert "b" not in [t.id for t in run.targets()]


def test_binary_rubbish_and_taken_names_are_refused(path, tmp_path):
    (tmp_path / "rubbish.csv").write_bytes(bytes(range(256)) * 9)
    with Run.open(path, write=True) as run:
        with pytest.raises(EdgeqError, match="no CSV text"):
            score(run, tmp_path / "rubbish.csv", "b")
        file = answer(tmp_path / "answers.csv", [("id", "cell", "label"), (run.ids()[0], 0, 1)])
        with pytest.raises(EdgeqError, match="edgeq itself ran"):
            score(run, file, "tflm", replace=True)
        score(run, file, "b")
        with pytest.raises(EdgeqError, match="--replace"):
            score(run, file, "b")
        score(run, answer(tmp_path / "two.csv", [("id", "cell", "label"), (run.ids()[1], 0, 1)]), "b", replace=True)
        assert run.done(0, "b").nonzero()[0].tolist() == [1]
