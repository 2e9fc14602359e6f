"""Whether the files of ``edgeq/cli`` are short: a command parses, calls, prints and gives an exit code, and that takes few lines.

python tools/check_commands.py    # exit code 1 where a file is too long
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

LINES = 120  # a file must have fewer


def faults(lengths: Mapping[str, int]) -> list[str]:
    """A sentence for each file that is too long. ``lengths``: lines by file name."""
    return [
        f"{name} has {count} lines, and fewer than {LINES} are allowed: move what is not parsing or printing into the room it belongs to"
        for name, count in sorted(lengths.items())
        if count >= LINES
    ]


def main() -> None:
    folder = Path(__file__).parents[1] / "edgeq" / "cli"
    lengths = {path.name: len(path.read_text().splitlines()) for path in folder.glob("*.py")}
    if found := faults(lengths):
        sys.exit("\n".join(found))
    print(f"commands: {len(lengths)} files, each below {LINES} lines")


if __name__ == "__main__":
    main()
