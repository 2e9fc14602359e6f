import csv
import io
import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from synthetic import make_run

from edgeq.cli import export_run, pack, report, runs, score
from edgeq.core.errors import EdgeqError
from edgeq.runs.store import Run


def call(module, *arguments):
    """stdout of a command; its errors come through."""
    return CliRunner().invoke(module.command, [str(a) for a in arguments], catch_exceptions=False, standalone_mode=False).stdout


@pytest.fixture
def path(tmp_path):
    return make_run(tmp_path / "runs" / "a.sqlite", n=12)


def test_report_writes_beside_the_run_or_where_told(path, tmp_path):
    call(report, path)
    assert path.with_suffix(".html").read_text().lstrip().startswith("<!doctype html>")
    call(report, path, "-o", tmp_path / "new" / "b.html")
    assert (tmp_path / "new" / "b.html").stat().st_size > 10_000
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["b.html"]


def test_report_json_is_one_document_and_no_page(path):
    assert json.loads(call(report, path, "--json"))["run"]["n"] == 12
    assert not path.with_suffix(".html").exists()


def test_report_never_overwrites_the_run(path):
    before = path.read_bytes()
    with pytest.raises(EdgeqError, match="is the run itself"):
        call(report, path, "-o", path)
    assert path.read_bytes() == before


def test_runs_lists_whole_half_and_broken_files(path, tmp_path):
    make_run(path.parent / "demo" / "half.sqlite", n=20, finished=0.5)
    (path.parent / "broken.sqlite").write_bytes(path.read_bytes()[:9000])
    found = {r["run"].rsplit("/", 1)[-1]: r for r in json.loads(call(runs, path.parent, "--json"))}
    assert found["a.sqlite"]["done"] == 1.0
    assert found["half.sqlite"]["done"] == pytest.approx(1 - 0.5 / 4, abs=1e-6)
    assert "damaged" in found["broken.sqlite"]["error"]
    text = call(runs, path.parent)
    assert "finished" in text
    assert "% of the attacks' candidates and answers are there" in " ".join(text.split())
    with pytest.raises(EdgeqError, match="no such folder"):
        call(runs, tmp_path / "none")


def test_export_has_a_line_a_cell_runtime_and_image(path):
    rows = list(csv.DictReader(io.StringIO(call(export_run, path, "--csv"))))
    with Run.open(path) as run:
        assert len(rows) == sum(run.answered().values())
        seen = run.outcomes(5, "tflm")
        mine = [r for r in rows if r["cell"] == "5" and r["target"] == "tflm"]
        assert [int(r["answer"]) for r in mine] == seen.label.tolist()
        assert [int(r["correct"]) for r in mine] == seen.right.tolist()
        assert [1 - int(r["fooled"]) for r in mine] == seen.correct.tolist()
        assert [int(r["clean_correct"]) for r in mine] == run.outcomes(0, "tflm").right.tolist()
        assert all((r["correct"] == "1") == (r["answer"] == r["label"]) for r in mine)
        assert [int(r["queries"]) for r in mine] == run.queries(5).tolist()
    with pytest.raises(EdgeqError, match="--csv"):
        call(export_run, path)


def test_a_closed_pipe_is_no_error(path):
    code = "from edgeq.cli.main import main; main()"
    first = subprocess.Popen([sys.executable, "-c", code, "export-run", str(path), "--csv"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first.stdout.readline()
    first.stdout.close()
    assert first.stderr.read() == b""
    assert first.wait() == 0


def test_a_board_goes_round_through_the_command_line(path, tmp_path):
    call(pack, path, "-o", tmp_path / "board", "--max", "3")
    with open(tmp_path / "board" / "index.csv", newline="") as stream:
        lines = [f"{r['id']},{r['cell']},{r['label']}" for r in csv.DictReader(stream)]
    (tmp_path / "answers.csv").write_text("\n".join(["id,cell,label", *lines]))
    found = json.loads(call(score, path, tmp_path / "answers.csv", "--json"))
    mine = [t for c in found["cells"] for t in c["targets"] if t["target"] == "answers"]
    assert {t["robust_accuracy"]["share"] for t in mine} == {1.0}
    assert len(mine) == 6


@pytest.mark.parametrize("module", [report, runs, export_run, pack, score])
def test_every_command_shows_an_example(module):
    text = call(module, "--help")
    assert "Example" in text
    assert "edgeq " in text


def test_reading_a_run_leaves_tensorflow_alone(path):
    code = "import sys; from edgeq.cli import report; report.command([sys.argv[1]], standalone_mode=False);"
    code += "print('tensorflow' in sys.modules, 'ai_edge_litert' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]
