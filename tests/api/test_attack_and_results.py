"""Runs from Python: the same rows as from the command line, resumable without their arrays, and figures found by name."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_tflite
from click.testing import CliRunner

import edgeq
from edgeq import EdgeqError, Images
from edgeq.core.reporter import Silent
from edgeq.report.rows import COLUMNS
from edgeq.runs.store import Run

pytestmark = pytest.mark.slow  # whole runs in real interpreters
SPSA = "spsa:steps=4:batch=16"
ASKED: dict[str, Any] = {"attacks": SPSA, "eps": ["3/255", "24/255"], "run": None}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "model.tflite"
    file.write_bytes(tiny_tflite.classifier(seed=3))
    return file


def arrays(n: int = 20) -> Images:
    found = edgeq.load("digits", n=n, seed=5)
    return Images(found.x, found.y)


def rows(result: edgeq.Result) -> list[tuple[Any, ...]]:
    return [tuple("nan" if value != value else value for value in row) for row in result.rows()]


def test_loaded_images_a_data_set_and_the_command_line_give_one_run(model: Path) -> None:
    from edgeq.cli.attack import command

    words = f"--target {model} --data digits --runtime litert-xnnpack,litert-reference --n 20 --seed 7 --attack {SPSA}"
    words += " --eps 3/255,24/255 --run cli.sqlite"
    assert CliRunner().invoke(command, [*words.split(), "--json"], catch_exceptions=False).exit_code == 0
    typed = edgeq.result("cli.sqlite")
    with edgeq.open(model, runtime="litert-xnnpack") as target:
        images = edgeq.load("digits", like=target, n=20, seed=7)
        by_images = edgeq.attack(target, images, **ASKED, seed=7, replay=["litert-reference"])
    by_name = edgeq.attack(model, "digits", **ASKED, n=20, seed=7, runtime="litert-xnnpack", replay=["litert-reference"])
    assert rows(by_images) == rows(by_name) == rows(typed)
    assert len(rows(typed)) == 5 * 2 * 20
    assert by_images.to_json()["cells"] == typed.to_json()["cells"]


class Stops(Silent):
    """Presses Ctrl-C when the third unit of rows is there."""

    def __init__(self) -> None:
        self.left = 3

    @contextmanager
    def progress(self) -> Iterator[Any]:
        def show(stage: str, done: int, total: int) -> None:
            self.left -= done == total
            if not self.left:
                raise KeyboardInterrupt

        yield show


def test_a_run_on_arrays_is_resumed_without_the_arrays(model: Path) -> None:
    images = arrays()
    images = Images(images.x[:, ::-1], images.y, names=[f"flipped/{name}" for name in images.names or ()])
    with pytest.raises(KeyboardInterrupt):
        edgeq.attack(model, images, **{**ASKED, "run": "r.sqlite"}, runtime="litert-reference", reporter=Stops())
    begun = edgeq.result("r.sqlite")
    assert not begun.finished
    assert begun.summary.run.written == 20
    document = begun.to_json()
    assert document["plan"]["data"] == f"array {images.sha256()[:16]}"
    assert document["data"]["sha256"] == images.sha256()
    digest = images.sha256()
    whole = rows(edgeq.attack(model, images, **ASKED, runtime="litert-reference"))
    del images
    resumed = edgeq.resume("r.sqlite")
    assert resumed.finished
    assert rows(resumed) == whole
    assert {row[COLUMNS.index("name")][:8] for row in whole} == {"flipped/"}
    with Run.open("r.sqlite") as run:
        assert Images(run.images(np.arange(20)), run.labels(), names=list(run.names().values())).sha256() == digest


def test_a_row_keeps_its_result_among_other_images(model: Path) -> None:
    images, place = arrays(), COLUMNS.index("name")
    whole = rows(edgeq.attack(model, images, **ASKED, runtime="litert-reference"))
    some = rows(edgeq.attack(model, images[[3, 11]], **ASKED, runtime="litert-reference"))
    assert some
    assert sorted(map(str, some)) == sorted(str(row) for row in whole if row[place] in ("3", "11"))


def test_images_of_the_models_size_are_shown_as_they_are_and_others_as_its_device_does(model: Path) -> None:
    model.with_name("model.edgeq.json").write_text(json.dumps({"files": {}, "preprocess": "resize=16,crop,mean=0,std=255"}))
    images = arrays(6)
    large = Images(images.x.repeat(2, axis=1).repeat(2, axis=2), images.y)
    shown = []
    for given, name in ((images, "a.sqlite"), (large, "b.sqlite")):
        edgeq.attack(model, given, "noise", eps="8/255", runtime="litert-reference", run=name)
        with Run.open(name) as run:
            shown.append(run.images(np.arange(6)))
    np.testing.assert_array_equal(shown[0], images.x)
    np.testing.assert_array_equal(shown[1], large.x[:, 4:12, 4:12])


def test_a_temporary_run_goes_with_its_result(model: Path) -> None:
    with edgeq.attack(model, arrays(4), "noise", runtime="litert-reference") as result:
        folder = result.path.parent
        assert result.path.is_file()
    assert not folder.exists()
    with pytest.raises(EdgeqError, match="is closed"):
        result.to_json()
    with edgeq.attack(model, arrays(4), "noise", runtime="litert-reference", run="kept.sqlite") as result:
        pass
    assert result.to_json()["run"]["file"] == "kept.sqlite"
    folder = edgeq.attack(model, arrays(4), "noise", runtime="litert-reference").path.parent
    gc.collect()
    assert not folder.exists()


def test_a_run_file_that_is_there_is_refused_before_anything_is_opened(model: Path) -> None:
    Path("r.sqlite").write_bytes(b"mine")
    with pytest.raises(EdgeqError, match="exists already"):
        edgeq.attack("none.tflite", arrays(4), "noise", run="r.sqlite")
    assert Path("r.sqlite").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("opened", "asked", "measured"),
    [
        ("litert-builtin", {}, ["litert-builtin"]),
        ("litert-builtin", {"replay": ["litert-reference"]}, ["litert-builtin", "litert-reference"]),
        (None, {"replay": ["litert-reference"]}, ["litert-xnnpack", "litert-reference"]),
        (None, {"runtime": "litert-reference"}, ["litert-reference"]),
        (None, {"runtime": "litert-reference", "replay": ()}, ["litert-reference"]),
    ],
)
def test_what_is_attacked_and_what_is_asked_as_well(model: Path, opened: str | None, asked: dict[str, Any], measured: list[str]) -> None:
    target = edgeq.open(model, runtime=opened) if opened else model
    with edgeq.attack(target, arrays(4), "spsa:steps=1:batch=4", **asked) as result:
        assert [t.runtime for t in result.summary.targets] == measured
        assert {c.crafted_on for c in result.summary.cells if c.kind == "query"} == {f"model/{measured[0]}"}
        assert result["spsa", "8/255"].target == f"model/{measured[0]}"


def test_targets_that_were_opened_in_two_ways_are_refused(model: Path) -> None:
    other = model.with_name("other.tflite")
    other.write_bytes(tiny_tflite.classifier(seed=4))
    one = edgeq.open(model, runtime="litert-reference", threads=1)
    with pytest.raises(EdgeqError, match="litert-reference and litert-builtin: one run attacks them in one"):
        edgeq.attack([one, edgeq.open(other, runtime="litert-builtin", threads=1)], arrays(4))
    with pytest.raises(EdgeqError, match="opened with threads 1 and 2"):
        edgeq.attack([one, edgeq.open(other, runtime="litert-reference", threads=2)], arrays(4))
    with edgeq.attack([one, other], arrays(4), "noise") as result:
        assert [t.id for t in result.summary.targets] == ["model/litert-reference", "other/litert-reference"]


def test_figures_are_found_by_what_they_are_called(model: Path) -> None:
    other = model.with_name("other.tflite")
    other.write_bytes(tiny_tflite.classifier(seed=4))
    asked: dict[str, Any] = {"runtime": "litert-reference", "replay": ["litert-builtin"]}
    with edgeq.attack([model, other], arrays(12), [SPSA, "spsa:steps=2:batch=16"], eps="24/255", **asked) as result:
        for key in (("spsa", "24/255"), (SPSA, "24/255")):
            with pytest.raises(EdgeqError, match="several things") as caught:
                result[key]
            assert '"model/litert-reference"' in str(caught.value)
            assert '"other/litert-reference"' in str(caught.value)
        mine = result[SPSA, 24 / 255, "other/litert-builtin", "model/litert-reference"]
        assert (mine.target, mine.cell.crafted_on, mine.cell.params["steps"]) == ("other/litert-builtin", "model/litert-reference", 4)
        line = next(x for c in result.summary.cells if c.cell == mine.cell.cell for x in c.targets if x.target == mine.target)
        assert isinstance(mine.robust_accuracy, float)
        assert mine.robust_accuracy == line.robust_accuracy.k / 12
        assert mine.interval == line.robust_accuracy.interval
        assert mine.clean_accuracy == line.clean_accuracy.k / 12
        assert mine.success == line.success.k / line.success.of
        with pytest.raises(EdgeqError, match='there is no spsa at 1/255 in this run; choose one of: "noise", "24/255"; "spsa", "24/255"'):
            result["spsa", "1/255"]
        with pytest.raises(EdgeqError, match="not that"):
            result[SPSA, "24/255", "tflm"]
        with pytest.raises(EdgeqError, match="takes an attack and a radius"):
            result["spsa"]


def test_a_table_for_pandas_and_what_to_install_for_it(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = edgeq.attack(model, arrays(4), "noise", runtime="litert-reference")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(EdgeqError, match="pip install pandas"):
        result.to_pandas()

    class DataFrame:
        from_records = staticmethod(lambda records, columns: (columns, list(records)))

    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=DataFrame))
    columns, records = result.to_pandas()
    assert columns == list(COLUMNS)
    assert len(records) == 2 * 4
    assert all(len(record) == len(columns) and all(type(v) in (int, float, str, type(None)) for v in record) for record in records)


def test_pages_and_notebooks_show_names_from_files_as_text(model: Path) -> None:
    evil = model.with_name("<script>x.tflite")
    evil.write_bytes(model.read_bytes())
    result = edgeq.attack(evil, arrays(4), SPSA, runtime="litert-reference")
    html = result._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;x.tflite" in html
    assert "at least this weak" in html
    assert "<script>" not in result.report("page.html").read_text()
    with pytest.raises(EdgeqError, match="is the run itself"):
        result.report(result.path)


def test_a_board_answers_a_pack(model: Path) -> None:
    edgeq.attack(model, arrays(4), "noise", runtime="litert-reference", run="r.sqlite")
    packed = edgeq.pack("r.sqlite", "board")
    assert [cell["images"] for cell in packed["cells"]] == [4, 4]
    lines = (Path("board") / "index.csv").read_text().splitlines()[1:]
    Path("answers.csv").write_text("id,cell,label\n" + "".join(f"{i},{c},{y}\n" for c, i, y, *_ in (line.split(",") for line in lines)))
    result = edgeq.score("r.sqlite", "answers.csv", name="my board")
    assert result["noise", "8/255", "my board"].robust_accuracy == 1
    (listed,) = edgeq.list_runs(".")
    assert (listed["run"], listed["n"], listed["done"], listed["error"]) == ("r.sqlite", 4, 1.0, None)
