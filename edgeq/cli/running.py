"""What `edgeq attack`, `edgeq resume` and `edgeq demo` share: where a run goes, how it is shown, and its gate."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.cli import console

if TYPE_CHECKING:
    from edgeq.api.results import Result


def new_path(targets: Sequence[str]) -> Path:
    """``runs/TARGET-DATE-K.sqlite``, the first that is free."""
    stem = f"{Path(targets[0]).stem}-{date.today().isoformat()}"
    return next(path for k in range(1, 10_000) if not (path := Path("runs") / f"{stem}-{k}.sqlite").exists())


def show(work: Callable[[], Result], path: Path, as_json: bool = False, fail_under: float | None = None) -> None:
    """Prints the table (or JSON) of what ``work`` gives on stdout, and exits 1 where the gate is not met. ``path``: its run file."""
    try:
        result = work()
    except KeyboardInterrupt:
        if not path.exists():
            raise
        console.say(f"\nstopped; every finished row is kept. Go on with: edgeq resume {path}", command=True)
        sys.exit(130)
    if as_json:
        print(json.dumps(result.to_json(), allow_nan=False))
    else:
        result.table(console.out)
        console.say(f"run: {path}; as a page: edgeq report {path}", command=True)
    if fail_under is not None and (missed := result.missed(fail_under)):
        console.say(f"--fail-under {fail_under:g}: {missed}", "red")
        sys.exit(1)
