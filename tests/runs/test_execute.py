"""What a run does with its candidates: of two clamps the worse for the defender."""

import numpy as np
import pytest
import tiny_tflite
import toys

from edgeq.core.protocols import Crafted
from edgeq.measure.summary import summarise
from edgeq.runs.execute import Watched, _worse, execute
from edgeq.runs.plan import Plan
from edgeq.runs.prepare import prepare


def crafted(images, loss):
    nothing = np.zeros(len(images), bool)
    return Crafted(images, images.astype(np.float32), np.asarray(loss, np.float32), np.zeros((1, len(images)), np.float32), nothing)


def test_what_fools_comes_first_and_then_the_higher_loss():
    target = toys.LinearTarget()
    _, images = toys.rows_and_images(40)
    label = target.answer(images).label()
    a, b = images[:20], images[20:]
    truth = np.where(np.arange(20) % 2, label[:20], label[20:])  # one of the two fools, unless both have one label
    loss = np.where(np.arange(20) < 10, 1.0, np.nan).astype(np.float32)
    candidates, kept = _worse(a, np.zeros(20, np.float32), crafted(b, loss), target, truth)
    fooled = [target.answer(x).fooled(truth) for x in (a, b, candidates)]
    np.testing.assert_array_equal(fooled[2], fooled[0] | fooled[1])
    same = fooled[0] == fooled[1]
    assert same.any()
    np.testing.assert_array_equal(candidates[same & (loss == 1)], b[same & (loss == 1)])
    np.testing.assert_array_equal(candidates[same & np.isnan(loss)], a[same & np.isnan(loss)])  # FGSM knows no loss: the first one stays
    assert (kept[same & (loss == 1)] == 1).all()


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
    asked = {"target": str(tmp_path / "m.tflite"), "data": "digits", "n": 120, "eps": ("8/255",), "runtimes": ("litert-reference",)}
    stands = {}
    for clamp in ("clipped", "through", "both"):
        setting = prepare(Plan(**asked, attacks=("pgd:steps=3:step=0.3",), clamp=clamp))
        with setting.create(tmp_path / f"{clamp}.sqlite", []) as run:
            execute(run, setting)
            stands[clamp] = run.correct(2, "litert-reference") == 1
            zeros = summarise(run)["cells"][1]["zero_gradients"]
        assert [z["clamp"] for z in zeros] == (["clipped", "through"] if clamp == "both" else [clamp])
        assert all(z["rows"]["of"] == 120 and z["pixels"]["of"] == 120 * 64 for z in zeros)
    np.testing.assert_array_equal(stands["both"], stands["clipped"] & stands["through"])
