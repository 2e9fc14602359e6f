"""``NAME.edgeq.json`` beside a model: what edgeq train and edgeq export know of it. Read here only; strangers may have edited it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeq.core.errors import EdgeqError

SUFFIX = ".edgeq.json"
_MOST = 8 << 20  # bytes


def read(path: Path) -> tuple[dict[str, Any], str]:
    """The content of the sidecar of the model ``path`` and the sidecar's name; ``({}, "")`` where there is none.

    ``model.keras.edgeq.json`` speaks for one file; ``model.edgeq.json`` for all that were exported as ``model``.
    Raises :class:`EdgeqError` for one that cannot be read.
    """
    for sidecar in (path.with_name(path.name + SUFFIX), path.with_name(path.stem + SUFFIX)):
        if not sidecar.is_file():
            continue
        try:
            if sidecar.stat().st_size > _MOST:
                raise ValueError("too large")
            value = json.loads(sidecar.read_text("utf-8"))
            if not isinstance(value, dict):
                raise ValueError("no JSON object")
        except (OSError, ValueError, RecursionError) as error:
            raise EdgeqError(f"{sidecar}: is not a sidecar that can be read ({error}); remove it or export again") from None
        return value, sidecar.name
    return {}, ""


def source_preprocess(path: Path, sha256: str) -> str | None:
    """How images are prepared for the network with this ``sha256``, if the model ``path`` was exported from it and its sidecar says so.

    Raises :class:`EdgeqError` for a sidecar that cannot be read.
    """
    source = read(path)[0].get("source")
    spec = source.get("preprocess") if isinstance(source, dict) and source.get("sha256") == sha256 else None
    return spec if isinstance(spec, str) else None


def output_kind(path: Path, sha256: str) -> str | None:
    """What the output of the exported file ``path`` is, if its sidecar says so of the very file with this ``sha256``.

    Raises :class:`EdgeqError` for a sidecar that cannot be read.
    """
    value = read(path)[0]
    files, signature = value.get("files"), value.get("signature")
    entry = files.get(path.name) if isinstance(files, dict) else None
    if not isinstance(entry, dict) or entry.get("sha256") != sha256 or not isinstance(signature, dict):
        return None
    kind = signature.get("kind")
    return kind if kind in ("probs", "logits", "label") else None
