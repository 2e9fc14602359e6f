"""Ops that move codes without computing."""

from __future__ import annotations

import numpy as np

from edgeq.integer.ops import Call, Step, quantisation


def reshape(call: Call) -> Step:
    return lambda x, *_: x.reshape(len(x), *call.output.shape)


def pad(call: Call) -> Step:
    """Fills with the code of zero."""
    o = call.op.options
    widths = ((0, 0), *zip(o["before"], o["after"], strict=True))
    fill = quantisation(call.output)[1] if call.output.quantised else 0
    return lambda x, *_: np.pad(x, widths, constant_values=fill)


def transpose(call: Call) -> Step:
    order = (0, *(i + 1 for i in call.op.options["order"]))
    return lambda x, *_: np.ascontiguousarray(x.transpose(order))


def strided_slice(call: Call) -> Step:
    o = call.op.options
    where = (slice(None), *(slice(b, e, s) for b, e, s in zip(o["begin"], o["end"], o["stride"], strict=True)))
    return lambda x, *_: np.ascontiguousarray(x[where])
