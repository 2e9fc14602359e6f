"""The run as one JSON document with stable keys: the summary, and what was planned, asked and installed."""

from __future__ import annotations

import json
from typing import Any

from edgeq.core.jsonable import as_json
from edgeq.measure.figures import Summary
from edgeq.measure.summary import summarise
from edgeq.runs.reader import Reader

META = ("created", "command", "plan", "preprocess", "data", "environment", "notes", "classes", "unreadable", "gradient_batch")


def document(run: Reader, summary: Summary | None = None) -> dict[str, Any]:
    """:func:`~edgeq.measure.summary.summarise`, and beside it each of ``META``, None where the run holds none."""
    return {**as_json(summary or summarise(run)), **{key: run.meta(key) for key in META}}


def dumps(value: dict[str, Any]) -> str:
    """Strict JSON (no NaN), two spaces, non-ASCII letters as they are; what is not printable as ``\\u``, for a terminal may show it."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
