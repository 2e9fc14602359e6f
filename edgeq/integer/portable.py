"""Whether a network is one function on every runtime, proven from its graph alone.

Op by op, in the order in which they run: :mod:`edgeq.integer.agreement` decides whether the runtimes' kernels agree on the op's output for
every input that can reach it, given that they agree on its inputs. So if every op agrees, the networks do. The proof is of the functions
that :mod:`edgeq.integer.rounding` and :mod:`edgeq.integer.ops` restate from the sources of the engines named in
:mod:`edgeq.integer.engines`, on the processors named there. What lies outside the range in which a formula is the kernel's
(:func:`edgeq.integer.engines.doubt`), and ops for which the simulator is not quite equal (``simulate.EXACT``), are not proven.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgeq.integer.agreement import LAYERS, Difference, State, agree, anything, unproven
from edgeq.integer.engines import named
from edgeq.integer.graph import Graph
from edgeq.integer.ops import Call
from edgeq.integer.rounding import RUNTIMES

WORK = 2**26  # numbers looked at, some tens of seconds; the networks of ImageNet need up to a fifth of it


@dataclass(frozen=True)
class Verdict:
    """One op. ``name``: of its output. ``reason``: why it is not proven, as a predicate; None where it is. ``share``: of its channels that
    are proven. ``difference``: an example, where there is one.
    """

    index: int
    kind: str
    name: str
    reason: str | None
    share: float
    difference: Difference | None = None

    @property
    def proven(self) -> bool:
        return self.reason is None

    def __str__(self) -> str:
        return f"op {self.index} ({self.kind} {self.name.split(';')[-1][-40:]}) {self.reason or 'is proven'}"


@dataclass(frozen=True)
class Proof:
    """What :func:`prove` returns, one verdict an op. As a string: one sentence for a reader."""

    runtimes: tuple[str, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def holds(self) -> bool:
        """The output is the same on all the runtimes, code by code, for every input."""
        return self.first is None

    @property
    def first(self) -> Verdict | None:
        """The first op that is not proven. All that is computed before it is the same on all the runtimes."""
        return next((v for v in self.verdicts if not v.proven), None)

    def __str__(self) -> str:
        names = ", ".join(self.runtimes)
        if self.first is None:
            return f"proven: the same answer on {names} for every input ({named(self.runtimes)})"
        if self.first.kind == "softmax":
            return f"proven up to the softmax: the same on {names} for every input ({named(self.runtimes)}); {self.first}"
        return f"not proven: {self.first}"

    def to_json(self) -> dict[str, Any]:
        return {"holds": self.holds, "sentence": str(self), "engines": named(self.runtimes), **asdict(self)}


def prove(graph: Graph, runtimes: Sequence[str] = RUNTIMES) -> Proof:
    """Whether ``graph`` is the same function on all of ``runtimes``. Time and memory are bounded, whatever the graph."""
    states: dict[int, State] = {graph.input: anything(graph.tensors[graph.input])}
    verdicts, left = [], WORK
    for index, op in enumerate(graph.ops):
        out = graph.tensors[op.output]
        calls = [Call(op, tuple(graph.tensors[i] if i >= 0 else None for i in op.inputs), out, r) for r in runtimes]
        left -= _work(calls[0])
        outcome = unproven(out, "is not looked at: the network is too large to be proven whole")
        if left >= 0:
            try:
                with np.errstate(all="ignore"):
                    outcome = agree(calls, _given(calls[0], states))
            except (ValueError, OverflowError):
                outcome = unproven(out, "has scales that no kernel takes")
        states[op.output] = outcome.state
        verdicts.append(Verdict(index, op.kind, out.name, outcome.reason, outcome.share, outcome.difference))
    return Proof(tuple(runtimes), tuple(verdicts))


def _given(call: Call, states: Mapping[int, State]) -> list[State]:
    """What is known of the op's inputs. Integer layers read their weights and biases themselves."""
    layer = call.op.kind in LAYERS and call.output.quantised
    return [
        anything(t) if t is not None and t.data is not None and not layer else states.get(i)
        for i, t in zip(call.op.inputs, call.inputs, strict=True)
    ]


def _work(call: Call) -> int:
    """How many numbers are looked at: 256 thresholds a channel, pairs of codes, and weights, over which a pass is quick."""
    weights = sum(math.prod(t.shape) for t in call.inputs if t is not None and t.data is not None)
    if call.op.kind in LAYERS and call.output.quantised:
        return 256 * call.output.shape[-1] + weights // 16
    return 4 * weights + (2**17 if len(call.inputs) == 2 else 2**14)  # some milliseconds, and a third of one
