"""What a trained network's sidecar says: the same keys in the same order, and none that does not apply."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.build.trained import Evaluation, Quantised, Setting, Trained
from edgeq.keras.train import FLOAT, Fitted

SETTING = Setting("digits_cnn", 1.0, (8, 8, 1), 10, None, "digits", "none,mean=0,std=1", ["0", "1"], 0, {"numpy": "2.4.6"})
ORIGIN = ["edgeq", "kind", "net", "width", "shape", "classes", "preset", "data", "preprocess", "labels", "seed", "versions", "unreadable"]
REACHED = ["epochs", "kept", "validation", "n"]
TRAINED = Trained(Path("m.keras"), SETTING, Quantised("float"), FLOAT, Fitted(3, 2, 0.97, 1294), None, Evaluation(359, 340, 0.0, ""))


def test_of_a_float_network() -> None:
    said = json.loads(json.dumps(TRAINED.to_json()))
    assert list(said) == [*ORIGIN, "quant", *REACHED, "fit", "test"]
    assert (said["shape"], said["kept"], said["validation"]) == ([8, 8, 1], 2, 0.97)
    assert said["fit"] == {"optimiser": "Adam", "rate": 2e-3, "decay": 0.3, "stairs": 3, "batch": 64}
    low, high = said["test"].pop("wilson95")
    assert said["test"] == {"n": 359, "accuracy": 340 / 359, "tied": 0.0, "chance": False}
    assert low < 340 / 359 < high


def test_of_a_low_bit_network_that_is_no_better_than_chance() -> None:
    low_bit = replace(
        TRAINED,
        quantised=Quantised("lsq:w3a3", "float.keras", "int8"),
        settled=1,
        test=Evaluation(100, 9, 0.5, "that is no better than chance"),
    )
    said = low_bit.to_json()
    assert list(said) == [*ORIGIN, "from", "quant", "ends", *REACHED, "settled", "fit", "test"]
    assert (said["from"], said["quant"], said["ends"], said["settled"]) == ("float.keras", "lsq:w3a3", "int8", 1)
    assert said["test"]["chance"] is True
    assert said["test"]["accuracy"] == pytest.approx(0.09)


def test_an_int8_network_has_no_ends() -> None:
    said = replace(TRAINED, quantised=Quantised("tfmot:int8", "scratch")).to_json()
    assert (said["from"], said["quant"], "ends" in said) == ("scratch", "tfmot:int8", False)
