"""The run as one JSON document with stable keys: the summary, and what was planned, asked and installed."""

from __future__ import annotations

import json
from typing import Any

from edgeq.measure.summary import OpenRun, summarise

META = ("created", "command", "plan", "data", "environment", "threat", "classes")


def document(run: OpenRun, summary: dict[str, Any] | None = None) -> dict[str, Any]:
    """:func:`~edgeq.measure.summary.summarise` plus the run's ``created``, ``command``, ``plan``, ``data``, ``environment``,
    ``threat`` and ``classes``, None where the run holds none."""
    return {**(summary or summarise(run)), **{key: run.meta(key) for key in META}}


def dumps(value: dict[str, Any]) -> str:
    """Strict JSON (no NaN), two spaces, non-ASCII letters as they are."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
