"""edgeq: how easily the network that ships is fooled, measured on the file and the kernels that ship.

What stands here is looked up when it is asked for, so that ``import edgeq`` loads nothing: ``edgeq.attack`` is
:func:`edgeq.api.attacking.attack`, and so on for every name in ``__all__``. How to use them: docs/python.md.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # typing's own would take longer to import than all of this
if TYPE_CHECKING:
    from typing import Any

    from edgeq.api.aligning import align as align
    from edgeq.api.attacking import attack as attack
    from edgeq.api.attacking import resume as resume
    from edgeq.api.boards import pack as pack
    from edgeq.api.boards import score as score
    from edgeq.api.comparing import compare as compare
    from edgeq.api.images import Images as Images
    from edgeq.api.images import load as load
    from edgeq.api.opening import OpenTarget as OpenTarget
    from edgeq.api.opening import open as open
    from edgeq.api.results import Result as Result
    from edgeq.api.results import list_runs as list_runs
    from edgeq.api.results import result as result
    from edgeq.api.trusting import trust as trust
    from edgeq.build.export import export as export
    from edgeq.build.train import train as train
    from edgeq.core.errors import EdgeqError as EdgeqError
    from edgeq.measure.inspection import inspect as inspect

__version__ = "0.1.0"

_PLACES = {
    "EdgeqError": "edgeq.core.errors",
    "Images": "edgeq.api.images",
    "OpenTarget": "edgeq.api.opening",
    "Result": "edgeq.api.results",
    "align": "edgeq.api.aligning",
    "attack": "edgeq.api.attacking",
    "compare": "edgeq.api.comparing",
    "export": "edgeq.build.export",
    "inspect": "edgeq.measure.inspection",
    "list_runs": "edgeq.api.results",
    "load": "edgeq.api.images",
    "open": "edgeq.api.opening",
    "pack": "edgeq.api.boards",
    "result": "edgeq.api.results",
    "resume": "edgeq.api.attacking",
    "score": "edgeq.api.boards",
    "train": "edgeq.build.train",
    "trust": "edgeq.api.trusting",
}
"""The module that each public name is in."""

__all__ = ["__version__", *_PLACES]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'edgeq' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_PLACES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
