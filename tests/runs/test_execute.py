"""What a run writes down of its gradients and of its two clamps."""

import numpy as np
import pytest
import tiny_tflite

from edgeq.measure.summary import summarise
from edgeq.runs.execute import execute
from edgeq.runs.plan import Plan
from edgeq.runs.prepare import prepare


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
