"""What a run writes down of its gradients and of its two clamps."""

import numpy as np
import pytest
import tiny_tflite
import toys

from edgeq.measure.summary import summarise
from edgeq.runs.execute import Watched, execute
from edgeq.runs.plan import Plan
from edgeq.runs.prepare import prepare


def test_zeros_are_counted_in_the_first_gradient_alone():
    rows, images = toys.rows_and_images(5)

    class Flat(toys.LinearSource):
        def value_and_grad(self, x, rows, objective):
            loss, gradient = super().value_and_grad(x, rows, objective)
            gradient[:2], gradient[2, 0] = 0, 0
            return loss, gradient

    watched = Watched(Flat(toys.LinearTarget()))
    x = images.astype(np.float32) / 255
    watched.value_and_grad(x, rows, "ce")
    zeros = watched.zeros
    assert zeros[0] == 2
    assert zeros[1] >= 2 * 30 + 5
    assert zeros[2] == 5 * 30
    watched.value_and_grad(x[:3], rows[:3], "ce")
    assert watched.zeros == zeros


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
