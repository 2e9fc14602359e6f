"""The certificates of an export as plain numbers: what share of each layer's channels is proven, for which runtimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgeq.integer.realise import Layer


@dataclass(frozen=True)
class Stored:
    """A layer stored in one way. ``bits``: a weight's; ``certified``: channels whose every output is the trained level, for every input,
    on all runtimes; ``runtimes``: the share of the channels of which that is proven for one runtime."""

    bits: int
    certified: int
    runtimes: Mapping[str, float]


@dataclass(frozen=True)
class LayerCertificate:
    """One layer. ``layer``: its name; ``kind``: its op; ``channels``, ``levels``: of its output; ``stored``: way of storing -> what is
    proven of it."""

    layer: str
    kind: str
    channels: int
    levels: int
    stored: Mapping[str, Stored]

    def to_json(self) -> dict[str, Any]:
        """As the sidecar of an export has it."""
        return asdict(self)


def table(certificates: Mapping[str, Sequence[Layer]]) -> tuple[LayerCertificate, ...]:
    """A value a layer. ``certificates``: way of storing -> the layers of the same network, stored so."""
    records = []
    for layers in zip(*certificates.values(), strict=True):
        stored = {
            way: Stored(
                layer.stored,
                int(layer.certificate.channels.sum()),
                {name: layer.certificate.share_of(name) for name in layer.certificate.runtimes},
            )
            for way, layer in zip(certificates, layers, strict=True)
        }
        first = layers[0]
        records.append(LayerCertificate(first.name, first.kind, len(first.certificate.channels), first.levels, stored))
    return tuple(records)
