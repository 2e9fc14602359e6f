"""Whether proofs are proofs: random and adversarial graphs on the real interpreters (``tools/attack_proofs.py``), and every fault that was
once there, put back, is found by them."""

from __future__ import annotations

from collections.abc import Callable

import attack_proofs
import numpy as np
import pytest
from attack_proofs import tried
from draw_graphs import KINDS, Draw, draw
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import Builder

from edgeq.integer import engines, fixed_point, ops, rounding
from edgeq.integer.certify import certify_layer
from edgeq.integer.engines import doubt
from edgeq.integer.graph import Graph, Op
from edgeq.integer.ops import Call, convert, curves, elementwise
from edgeq.integer.portable import prove
from edgeq.integer.rounding import RUNTIMES
from edgeq.integer.simulate import simulate
from edgeq.integer.write_tflite import write_tflite

pytest.importorskip("tflite_micro")
pytestmark = pytest.mark.slow


@settings(max_examples=2, deadline=None, derandomize=True)
@given(st.integers(0, 2**30))
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_proven_is_wrong_and_nothing_simulated_is_off(kind: str, seed: int) -> None:
    results = dict(tried(kind, range(seed, seed + 10)))
    assert len(results) == 10
    assert not {s: r.fault for s, r in results.items() if r.fault}


def _old_bound(call: Call, bound: float) -> int:
    scale, zero = ops.quantisation(call.output)
    ratio = np.float32(bound) / scale
    return zero + int(np.rint(ratio) if call.xnnpack else np.copysign(np.floor(np.abs(np.float64(ratio)) + 0.5), ratio))


def _old_multiplier(call: Call) -> np.float64:
    sa, sb, so = (t.scale[0] for t in (*call.inputs, call.output) if t is not None)
    return np.float64(sa * sb / so)


def _old_delegate(op: Op, inputs: object, output: object) -> bool:
    return op.kind in ("softmax", "hard_swish")


def _no_doubt(kind: str) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.delitem(engines._DOUBTS, kind)


def _put(where: object, name: str, value: object) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(where, name, value)


FAULTS = {
    "XNNPACK's zero point after the rounding of a bound": ("conv relu_n1_to_1 max_pool", _put(ops, "bound_code", _old_bound)),
    "TFLite Micro's multiplier of MUL in float32": ("mul", _put(elementwise, "product_multiplier", _old_multiplier)),
    "all ops delegated to XNNPACK": ("quantize leaky_relu average_pool add", _put(ops, "left_to_builtin", _old_delegate)),
    "one way of adding in the builtin kernel": ("add", _put(elementwise, "_shifted", lambda x, bits: np.zeros_like(x))),
    "a cut multiplier in the reference's dense layer": (
        "dense",
        lambda patch: patch.setitem(rounding.FORMULAS, ("litert-reference", "dense"), rounding.double_rounding),
    ),
    "TANH's radius cut at 31 bits": ("tanh", _put(fixed_point, "input_radius", lambda bits, left: 1)),
    "floats quantised by the builtin kernel as by the reference": (
        "float_input",
        _put(convert, "_blocks", lambda x, n, v, scalar: scalar(x)),
    ),
    "TFLite Micro's multipliers in float32": ("tie", _put(curves, "scales", lambda call: (call.given.scale[0], call.output.scale[0]))),
    "XNNPACK's squares as products": ("twice", _put(elementwise, "_xnnpack_square", elementwise._mul)),
    "clamps beyond 32 bits": ("mul", _put(engines, "_BOUNDS", {})),
    **{
        f"no doubt about {kind}": (kind, _no_doubt(kind)) for kind in ("conv", "add", "mul", "relu", "logistic", "leaky_relu", "hard_swish")
    },
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_put_back_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds, put = FAULTS[name]
    put(monkeypatch)
    found = (r.fault for kind in kinds.split() for _, r in tried(kind, range(400)) if r.fault)
    assert next(found, None) is not None


def test_tflite_micro_computes_multipliers_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of RELU and LEAKY_RELU too: 1.23 / 7.872 is 5/32 or next to it, and 28 * 5/32 is halfway between two codes."""
    d = Draw(0)
    d.op("relu", (d.tensor((256,), 1.23, 0, "int8"),), 7.872, 0, "int8")
    codes = np.arange(-128, 128, dtype=np.int8)[None]
    theirs = {r: attack_proofs.interpret(r, write_tflite(d.done()), codes) for r in ("litert-reference", "tflm")}
    assert (theirs["litert-reference"] != theirs["tflm"]).any()
    for runtime, answers in theirs.items():
        np.testing.assert_array_equal(simulate(d.done(), codes, runtime), answers)
    assert not prove(d.done(), ("litert-reference", "tflm")).holds
    seed = 30_000_182
    assert dict(tried("leaky_relu", [seed]))[seed].fault is None
    monkeypatch.setattr(curves, "scales", lambda call: (call.given.scale[0], call.output.scale[0]))
    assert "simulated tflm is off" in str(dict(tried("leaky_relu", [seed]))[seed].fault)


def _relu6(scale: float, zero: int) -> Graph:
    """One convolution with a fused RELU6 whose bound of 6 lies between two codes."""
    b = Builder()
    x = b.image((4, 4, 2), 2.0**-4, 0)
    weights = np.arange(-9, 9).reshape(1, 3, 3, 2) * 4
    b.linear(x, "conv", 1, weights=weights, multipliers=np.array([2.0**-6]), bias=np.array([1]), activation="relu6", out=(scale, zero))
    return b.done()


def test_a_bound_between_two_codes_with_an_odd_zero_point_is_not_proven() -> None:
    """XNNPACK adds the zero point before it rounds: 6 / 4 + 3 = 4.5 becomes 4, 3 + rint(1.5) = 5 on the others."""
    assert "gives 4 on litert-xnnpack and 5 on litert-builtin" in str(prove(_relu6(4.0, 3)))
    assert prove(_relu6(4.0, 2)).holds
    assert prove(_relu6(4.0, 3), RUNTIMES[1:]).holds


def test_mul_on_tflm_is_not_proven_where_float32_and_float64_part() -> None:
    d = Draw(0)
    a = d.tensor((4, 4, 2), 0.097, 3, "int8")
    d.op("mul", (a, d.tensor((4, 4, 2), 0.188, -5, "int8", np.arange(-16, 16) * 4)), 1.78, 0, "int8", activation="none")
    multipliers = [elementwise.product_multiplier(Call(d.ops[0], (d.tensors[0], d.tensors[1]), d.tensors[2], r)) for r in RUNTIMES[2:]]
    assert multipliers[0] != multipliers[1]


def test_int4_weights_are_not_proven_on_onnx_runtime() -> None:
    graph = next(g for g in (draw("int4", s) for s in range(50)) if any(t.dtype == "int4" for t in g.tensors))
    assert "INT4 weights, which ONNX Runtime computes in floats" in str(prove(graph, ("litert-builtin", "ort")))
    rng = np.random.default_rng(0)
    weights, cuts = rng.integers(-1, 2, (8, 3, 3, 4)), np.repeat([[-9, -3, 3]], 8, axis=0)
    stored = [certify_layer(weights, cuts, (0, 3), int4=packed, runtimes=("litert-builtin", "ort")) for packed in (False, True)]
    assert stored[0].share_of("ort") == stored[0].share_of("litert-builtin") == 1
    assert (stored[1].share_of("ort"), stored[1].share_of("litert-builtin")) == (0, 1)


def test_what_is_proven_names_engines_and_processors() -> None:
    said = str(prove(_relu6(4.0, 2)))
    assert said.endswith("for every input (LiteRT 2.3 and TFLite Micro 0.dev20261023 on x86-64 with AVX2)")
    assert prove(_relu6(4.0, 2)).to_json()["engines"] == "LiteRT 2.3 and TFLite Micro 0.dev20261023 on x86-64 with AVX2"


def test_a_multiplier_that_xnnpack_refuses_is_not_proven_there() -> None:
    b = Builder()
    b.linear(b.image((2, 2, 1), 1.0, 0), "conv", 1, kernel=1, weights=np.array([4]), multipliers=np.array([256.0]), bias=np.array([1]))
    graph = b.done()
    call = Call(graph.ops[0], tuple(graph.tensors[i] for i in graph.ops[0].inputs), graph.tensors[-1], "litert-xnnpack")
    assert "which XNNPACK refuses" in str(doubt(call))
    assert not prove(graph).holds
