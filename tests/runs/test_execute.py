"""What a run writes down of its gradients and of its two clamps."""

from types import SimpleNamespace

import numpy as np
import pytest
import tiny_tflite
import toys

from edgeq.attacks.pgd import PGD
from edgeq.core.cell import Cell, Unit
from edgeq.measure.summary import summarise
from edgeq.runs.execute import execute
from edgeq.runs.plan import Plan
from edgeq.runs.prepare import prepare
from edgeq.runs.unit import Task, run_unit


def test_a_batch_carries_what_the_attack_tells_of_each_row():
    rows, images = toys.rows_and_images(5)
    cell = Cell(1, "pgd", {}, "linf", 4 / 255, "toy")
    source, identities = toys.LinearSource(toys.LinearTarget()), {"toy": {"engine": "toy"}}
    bench = SimpleNamespace(specs={}, identities=identities, sources=lambda _: {"clipped": source})
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
