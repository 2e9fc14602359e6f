import io
from dataclasses import replace

import pytest
from rich.console import Console
from synthetic import make_run

from edgeq.measure.summary import summarise
from edgeq.report.terminal import render
from edgeq.runs.store import Run


def printed(path, width=80, **options):
    stream = io.StringIO()
    with Run.open(path) as run:
        summary = summarise(run)
    render(summary, Console(file=stream, width=width, highlight=False, **options))
    return summary, stream.getvalue()


@pytest.mark.parametrize(("width", "left_out"), [(60, "what differs and queries"), (70, "what differs"), (79, "what differs")])
def test_a_narrow_terminal_gets_whole_columns_and_hears_which_are_missing(tmp_path, width, left_out):
    path = make_run(tmp_path / "a.sqlite", n=30, runtimes=("keras", "litert-reference", "a very long name of a board indeed"))
    summary, text = printed(path, width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert f"in {width} columns without {left_out}: edgeq report shows all" in " ".join(text.split())
    assert not any(line.startswith("in 80") for line in printed(path)[1].splitlines())
    wide = {line[:50] for line in printed(path)[1].splitlines() if line.startswith("litert-reference ")}
    attacked = {line[:50] for line in lines if line.startswith("litert-reference ")}
    assert len(attacked & wide) >= len(summary.cells)  # robust accuracy with its interval, success and ties are all there
    head = next(line for line in lines if line.startswith("runtime") and "robust" in line)
    assert head.endswith("inf" if width == 60 else "queries")


@pytest.mark.parametrize("runtimes", [("keras", "litert-xnnpack"), ("keras", "litert-reference", "a very long name of a board indeed")])
def test_it_fits_eighty_columns_piped_and_in_colour(tmp_path, runtimes):
    path = make_run(tmp_path / "a.sqlite", n=30, runtimes=runtimes)
    _, piped = printed(path)
    assert max(map(len, piped.splitlines())) <= 80
    assert "\x1b" not in piped
    _, coloured = printed(path, force_terminal=True, color_system="truecolor")
    assert "\x1b[1m" in coloured


def test_a_line_holds_the_figures_of_its_runtime(tmp_path):
    summary, text = printed(make_run(tmp_path / "a.sqlite", n=60))
    cell = next(c for c in summary.cells if c.attack == "spsa")
    block = text[text.index("spsa at 1/255 l_inf") :].splitlines()
    for line in cell.targets:
        shown = next(b for b in block if b.startswith(line.target)).removeprefix(line.target).split()
        assert float(shown[0]) == pytest.approx(line.clean_accuracy.share, abs=6e-4)
        assert float(shown[1]) == pytest.approx(line.robust_accuracy.share, abs=6e-4)
        assert [float(v.strip("[]")) for v in shown[2:4]] == pytest.approx(line.robust_accuracy.interval, abs=6e-3)
        assert float(shown[4]) == pytest.approx(line.b19_acc.share, abs=6e-4)
        assert float(shown[6]) == pytest.approx(line.ties.share, abs=6e-3)
        assert (line.floor is None) == (shown[-1] == "-")


def test_clean_accuracy_ties_and_what_they_would_add_stand_first(tmp_path):
    summary, text = printed(make_run(tmp_path / "a.sqlite", n=60))
    block = text[text.index("Clean images") :].splitlines()
    for line in summary.clean:
        shown = next(b for b in block if b.startswith(line.target)).split()[1:]
        wanted = [line.accuracy.share, *line.accuracy.interval, line.ties.share, line.with_ties.share]
        assert [float(v) for v in shown] == pytest.approx(wanted, abs=6e-4)
    assert "WARNING" not in text


def test_a_warning_stands_above_everything(tmp_path):
    with Run.open(make_run(tmp_path / "a.sqlite", n=20)) as run:
        summary = summarise(run)
    stream = io.StringIO()
    warnings = ("tflm answers all 20 clean images with the same \x1b scores " + "and so on " * 12,)
    render(replace(summary, warnings=warnings), Console(file=stream, width=80, highlight=False))
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("WARNING: tflm answers all 20")
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in stream.getvalue()


def test_words_that_a_report_may_not_say(tmp_path):
    _, text = printed(make_run(tmp_path / "a.sqlite", n=30, finished=0.5))
    assert "NOT FINISHED" in text
    assert "at least this weak" in text
    for word in ("is robust", "compliant", "secure", "safe"):
        assert word not in text.lower()


def test_escape_sequences_in_names_do_not_reach_the_terminal(tmp_path):
    _, text = printed(make_run(tmp_path / "a.sqlite", n=10, runtimes=("keras", "litert-xnnpack", "\x1b]0;owned\x07[bold]")))
    assert "\x1b" not in text
    assert "[bold]" in text  # shown as it is, never read as markup
