import pytest

from edgeq.core.errors import EdgeqError
from edgeq.runs.plan import Plan, cells


def test_a_plan_survives_the_run_file():
    import json

    plan = Plan("m.tflite", "digits", attacks=("pgd:steps=3", "spsa"), eps=("1/255", "8px"), n=None, runtimes=("tflm",))
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_run_from_before_there_was_a_choice_goes_on_with_its_one_clamp():
    old = {k: v for k, v in Plan("m.tflite", "digits", attacks=("pgd",)).to_json().items() if k not in ("clamp", "access")}
    plan = Plan.from_json(old)
    assert (plan.clamps, plan.access) == (("clipped",), None)
    assert Plan("m.tflite", "digits").clamps == ("clipped", "through")


def test_an_attack_that_follows_gradients_has_a_cell_on_each_source():
    found = cells(Plan("m.tflite", "digits", attacks=("pgd", "spsa")), ("keras", "tflm"), "tflm-exact", "logits")
    assert [(c.attack, c.crafted_on, c.access) for c in found[2:]] == [
        ("pgd", "keras", "gradients"),
        ("pgd", "tflm", "gradients"),
        ("spsa", "tflm-exact", "logits"),
    ]


@pytest.mark.parametrize(
    ("change", "file"),
    [
        ({}, True),
        ({"source": "f.h5"}, False),
        ({"source": "f.h5", "access": "gradients"}, True),
        ({"access": "scores"}, False),
        ({"attacks": ("spsa",)}, False),
        ({"target": "m.onnx"}, True),
        ({"target": "m.onnx", "access": "scores"}, False),
        ({"target": "m.h5"}, False),
    ],
)
def test_when_the_file_itself_is_differentiated(change, file):
    assert Plan(**{"target": "m.tflite", "data": "digits", "attacks": ("pgd",), **change}).differentiates_the_file is file


def test_one_cell_an_attack_and_radius_beside_the_noise_of_that_radius():
    plan = Plan("m.tflite", "digits", attacks=("pgd:steps=3", "spsa", "noise"), eps=("1/255", "8/255"))
    found = cells(plan, ("keras",), "litert-xnnpack")
    assert [(c.attack, c.kind, c.crafted_on, c.access) for c in found] == [
        ("clean", "clean", "", ""),
        *2 * [("noise", "noise", "", ""), ("pgd", "gradient", "keras", "gradients"), ("spsa", "query", "litert-xnnpack", "scores")],
    ]
    assert [c.cell for c in found] == list(range(7))
    assert found[2].params["steps"] == 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"attacks": ("pgd",)}, "--source"),
        ({"attacks": ("spsa",), "norm": "l2"}, "no l2 form"),
        ({"attacks": ("spsa",), "eps": ("0.9/255",)}, "below one pixel"),
        ({"attacks": ("spsa",), "eps": ("0.9/255",), "target": "m.h5"}, "whole pixels"),
    ],
)
def test_what_cannot_be_asked_is_refused(change, says):
    with pytest.raises(EdgeqError, match=says):
        cells(Plan(**{"target": "m.tflite", "data": "digits", **change}), (), "litert-xnnpack")


def test_below_a_pixel_only_gradients_of_a_float_network_are_left():
    found = cells(Plan("m.h5", "digits", attacks=("pgd",), eps=("0.5/255",)), ("keras",), "keras")
    assert [c.attack for c in found] == ["clean", "pgd"]
