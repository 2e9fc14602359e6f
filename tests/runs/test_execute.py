"""What a run writes down of its gradients and of its two clamps."""

from types import SimpleNamespace

import numpy as np
import pytest
import tiny_tflite
import toys

from edgeq.api import words
from edgeq.attacks.pgd import PGD
from edgeq.core.cell import Cell, Unit
from edgeq.core.errors import EdgeqError
from edgeq.measure.summary import summarise
from edgeq.runs import estimate
from edgeq.runs.execute import execute
from edgeq.runs.plan import Plan
from edgeq.runs.prepare import prepare
from edgeq.runs.store import Run
from edgeq.runs.unit import Task, run_unit


def test_a_batch_carries_what_the_attack_tells_of_each_row():
    rows, images = toys.rows_and_images(5)
    cell = Cell(1, "pgd", {}, "linf", 4 / 255, "toy")
    source, identities = toys.LinearSource(toys.LinearTarget()), {"toy": {"engine": "toy"}}
    bench = SimpleNamespace(specs={}, identities=identities, sources=lambda *_: {"clipped": source})
    task = Task(Unit(cell, (7, 8, 9, 3, 4)), rows, lambda places: images[places], PGD(steps=3))
    (batch,) = run_unit(task, bench)
    told = batch.diagnostics["clipped"]
    assert batch.index.tolist() == [7, 8, 9, 3, 4]
    assert batch.identities == identities
    assert told.trace.shape == (5, 4)
    assert told.zero_pixels.tolist() == [0] * 5


@pytest.mark.tensorflow
def test_a_row_stands_only_if_it_withstands_both_clamps(tmp_path):
    (tmp_path / "m.tflite").write_bytes(tiny_tflite.classifier(seed=3))
    asked = {"targets": (str(tmp_path / "m.tflite"),), "data": "digits", "n": 120, "eps": ("8/255",), "runtimes": ("litert-reference",)}
    stands = {}
    for clamp in ("clipped", "through", "both"):
        setting = prepare(Plan(**asked, attacks=("pgd:steps=3:step=0.3",), clamp=clamp))
        with setting.create(tmp_path / f"{clamp}.sqlite", []) as run:
            execute(run, setting)
            stands[clamp] = run.correct(2, "m/litert-reference") == 1
            zeros = summarise(run).cells[1].zero_gradients
        assert [z.clamp for z in zeros] == (["clipped", "through"] if clamp == "both" else [clamp])
        assert all(z.rows.of == 120 and z.pixels is not None and z.pixels.of == 120 * 64 for z in zeros)
    np.testing.assert_array_equal(stands["both"], stands["clipped"] & stands["through"])


def sized(seconds_a_row: float, evaluations: int, settled: int | None = None, fixed: int | None = None, side: int = 2) -> int:
    """The rows at once of gradients that take so long a row, under each of two clamps."""
    opened = []

    def sources(id: str, batch: int) -> dict[str, SimpleNamespace]:
        opened.append(batch)
        return {clamp: SimpleNamespace(batch=fixed or batch) for clamp in ("clipped", "through")}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimate, "_gradient_seconds", lambda source, images: seconds_a_row * source.batch)
        size, batches, seconds = estimate._sized(
            SimpleNamespace(sources=sources), {"m": evaluations}, settled, np.zeros((1, side, side, 1))
        )
    assert (opened[0] == 8) == (side > 128)  # of large images a few first
    assert opened[-1] == size  # so that what is said of its identity is of this size
    assert batches["m"] == (fixed or size)
    assert seconds["m"] == pytest.approx(2 * seconds_a_row)
    return size


def test_gradients_are_taken_of_as_many_rows_at_once_as_end_soon() -> None:
    assert sized(0.001, 41) == 128  # 10 s
    assert sized(0.05, 41) == 2  # 8.2 s; 4 rows would take more than 15 s
    assert sized(0.05, 1) == 128
    assert sized(9.0, 41) == 1
    assert [sized(seconds, 41, side=224) for seconds in (0.001, 0.05, 9.0)] == [128, 2, 1]
    assert sized(0.05, 41, settled=64) == 64  # a run keeps its number
    assert sized(0.05, 41, fixed=16) == 128  # a network that takes one number alone is not asked for others


def test_an_estimate_is_corrected_as_the_run_goes() -> None:
    heard = []
    clock = estimate.Clock(estimate.Estimate({}, {}, 120.0, 50.0), {"gradients": 100.0, "answers": 20.0}, heard.append)
    clock.passed("answers", 15, 1)  # of which nothing is learnt about gradients
    clock.passed("gradients", 4, 5)
    clock.passed("gradients", 4, 4.5)
    assert heard == []  # too early to say
    clock.passed("gradients", 10, 40)  # 18 of 100 took 49.5
    assert [(round(e.sure), e.queries, e.corrected) for e in heard] == [(226, 0.0, True)]
    clock.passed("gradients", 10, 28)  # as said
    assert len(heard) == 1
    assert words.duration(heard[0]) == "estimated time left, by what is done: 4 min"


@pytest.mark.tensorflow
def test_a_run_keeps_the_batch_of_its_gradients_and_commits_by_it(tmp_path, monkeypatch) -> None:
    (tmp_path / "m.tflite").write_bytes(tiny_tflite.classifier(seed=3))
    plan = Plan((str(tmp_path / "m.tflite"),), "digits", n=7, eps=("8/255",), runtimes=("litert-reference",), attacks=("pgd:steps=3",))
    setting = prepare(plan)
    monkeypatch.setattr(estimate, "_gradient_seconds", lambda source, images: source.batch)  # a second a row
    monkeypatch.setattr("edgeq.runs.execute.COMMIT", 0)  # they are fast, and would all be written at once

    def stopping(stage: str, done: int, total: int) -> None:
        if stage.startswith("pgd") and done:
            raise KeyboardInterrupt

    with setting.create(tmp_path / "r.sqlite", []) as run, pytest.raises(KeyboardInterrupt):
        execute(run, setting, stopping)
    with Run.open(tmp_path / "r.sqlite", write=True) as run:
        assert run.meta("gradient_batch") == 1  # 4 gradients under 2 clamps take 8 s
        assert 1 <= run.done(2).sum() < 7
        monkeypatch.undo()  # now it is fast
        execute(run)
        assert run.meta("gradient_batch") == 1
        rows = run.candidates(2, np.arange(7))
        run.set_meta("gradient_batch", 0)
        with pytest.raises(EdgeqError, match="number of gradients at once makes no sense"):
            execute(run)
    with setting.create(tmp_path / "whole.sqlite", []) as run:
        run.set_meta("gradient_batch", 1)
        execute(run, setting)
        np.testing.assert_array_equal(run.candidates(2, np.arange(7)), rows)
