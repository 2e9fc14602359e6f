"""The certificates of an export as plain numbers: what share of each layer's channels is proven, for which runtimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeq.integer.realise import Layer


def table(certificates: Mapping[str, Sequence[Layer]]) -> list[dict[str, Any]]:
    """A record a layer: ``{"layer", "kind", "channels", "levels", "stored": {way: {"bits", "certified", "runtimes": {name: share}}}}``.

    ``certified``: channels whose every output is the trained level, for every input, on all runtimes; shares are of channels.
    """
    ways = list(certificates)
    found = []
    for layers in zip(*certificates.values(), strict=True):
        first = layers[0]
        stored = {
            way: {
                "bits": layer.stored,
                "certified": int(layer.certificate.channels.sum()),
                "runtimes": {name: layer.certificate.share_of(name) for name in layer.certificate.runtimes},
            }
            for way, layer in zip(ways, layers, strict=True)
        }
        found.append(
            {"layer": first.name, "kind": first.kind, "channels": len(first.certificate.channels), "levels": first.levels, "stored": stored}
        )
    return found
