import json

import pytest

from edgeq.core.errors import EdgeqError
from edgeq.runs import migrate
from edgeq.runs.plan import Plan, cells


def test_a_plan_survives_the_run_file():
    plan = Plan(("m.tflite", "n.onnx"), "digits", attacks=("pgd:steps=3", "spsa"), eps=("1/255", "8px"), n=None, runtimes=("tflm",))
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_run_of_one_target_from_before_there_was_a_choice_goes_on_with_its_one_clamp():
    old = {"target": "m.tflite", "data": "digits", "source": "f.h5", "attacks": ["pgd"], "n": 5}
    plan = Plan.from_json(migrate.plan(old))
    assert plan == Plan(("m.tflite",), "digits", sources=("f.h5",), attacks=("pgd",), n=5, clamp="clipped")
    assert (plan.clamps, plan.access) == (("clipped",), None)
    assert Plan.from_json(migrate.plan({"target": "m.tflite", "data": "digits", "clamp": "both"})).clamps == ("clipped", "through")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"places": ["moon"]}, "does not know"),
        ({"n": "5"}, "no such n"),
        ({"targets": [5]}, "no such targets"),
        ({"access": "all"}, "access"),
    ],
)
def test_a_plan_with_anything_else_in_it_is_refused_and_not_thinned_out(change, says):
    value = json.loads(json.dumps(Plan(("m.tflite",), "digits").to_json()))
    with pytest.raises(ValueError, match=says):
        Plan.from_json(value | change)


def test_an_attack_that_follows_gradients_has_a_cell_on_each_source():
    planned = cells(Plan(("m.tflite",), "digits", attacks=("pgd", "spsa")), ("f/keras", "m/tflm"), ("m/tflm-exact", "n/ort"), "logits")
    assert [(c.attack, c.crafted_on, c.access) for c in planned[2:]] == [
        ("pgd", "f/keras", "gradients"),
        ("pgd", "m/tflm", "gradients"),
        ("spsa", "m/tflm-exact", "logits"),
        ("spsa", "n/ort", "logits"),
    ]


@pytest.mark.parametrize(
    ("change", "file"),
    [
        ({}, True),
        ({"sources": ("f.h5",)}, False),
        ({"sources": ("f.h5",), "access": "gradients"}, True),
        ({"sources": ("f.h5",), "transfer": True}, True),
        ({"transfer": True, "access": "scores"}, False),
        ({"sources": ("f.h5",), "each": True}, True),
        ({"access": "scores"}, False),
        ({"attacks": ("spsa",)}, False),
        ({"targets": ("m.onnx",)}, True),
        ({"targets": ("m.onnx",), "access": "scores"}, False),
        ({"targets": ("m.h5",)}, True),
    ],
)
def test_when_targets_are_differentiated_themselves(change, file):
    assert Plan(**{"targets": ("m.tflite",), "data": "digits", "attacks": ("pgd",), **change}).own_gradients is file


def test_one_cell_an_attack_and_radius_beside_the_noise_of_that_radius():
    plan = Plan(("m.tflite",), "digits", attacks=("pgd:steps=3", "spsa", "noise"), eps=("1/255", "8/255"))
    found = cells(plan, ("keras",), ("litert-xnnpack",))
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
        ({"attacks": ("spsa",), "eps": ("0.9/255",), "targets": ("m.h5",)}, "whole pixels"),
    ],
)
def test_what_cannot_be_asked_is_refused(change, says):
    with pytest.raises(EdgeqError, match=says):
        cells(Plan(**{"targets": ("m.tflite",), "data": "digits", **change}), (), ("litert-xnnpack",))


def test_below_a_pixel_only_gradients_of_a_float_network_are_left():
    found = cells(Plan(("m.h5",), "digits", attacks=("pgd",), eps=("0.5/255",)), ("keras",), ("keras",))
    assert [c.attack for c in found] == ["clean", "pgd"]


def test_runtimes_are_those_of_every_file_or_of_one():
    plan = Plan(("a.tflite", "b=c.tflite"), "digits", runtimes=("a.tflite=tflm", "a.tflite=litert-xnnpack", "b=c.tflite=ort"))
    assert [plan.runtimes_of([file]) for file in plan.targets] == [("tflm", "litert-xnnpack"), ("ort",)]
    assert plan.runtimes_of(plan.targets) == ("tflm", "litert-xnnpack", "ort")  # two paths to one file
    assert Plan(("a.tflite", "b.tflite"), "digits", runtimes=("tflm", "ort")).runtimes_of(["b.tflite"]) == ("tflm", "ort")


@pytest.mark.parametrize("runtimes", [("a.tflite=tflm",), ("a.tflite=tflm", "ort"), ("a.tflite=tflm", "b.tflite=tflm", "c.tflite=tflm")])
def test_runtimes_of_some_files_alone_are_refused(runtimes):
    with pytest.raises(EdgeqError, match=r"a\.tflite=tflm,b\.tflite=litert-xnnpack"):
        Plan(("a.tflite", "b.tflite"), "digits", runtimes=runtimes)


def test_a_plan_from_before_there_was_a_choice_of_each_runtime_crafts_on_the_first():
    old = {k: v for k, v in json.loads(json.dumps(Plan(("m.tflite",), "digits").to_json())).items() if k != "each"}
    assert Plan.from_json(old) == Plan(("m.tflite",), "digits")
