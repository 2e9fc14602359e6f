"""Whether the files of ``edgeq/cli`` are short: a command parses, calls, prints and gives an exit code, and that takes few lines.

python tools/check_commands.py    # exit code 1 where a file is too long, or an exception is no longer needed
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

LINES = 120  # a file must have fewer
EXCEPTIONS = {"align.py": 310, "compare.py": 250, "main.py": 125, "running.py": 133}


def faults(lengths: Mapping[str, int], exceptions: Mapping[str, int]) -> list[str]:
    """A sentence for each file that is too long, and for each exception that is not needed.

    ``lengths``: lines by file name. ``exceptions``: the most lines by file name, of files that may have ``LINES`` and more.
    """
    long = [
        f"{name} has {count} lines: {'at most ' + str(exceptions[name]) if name in exceptions else f'fewer than {LINES}'} are allowed; "
        "move what is not parsing or printing into the room it belongs to"
        for name, count in sorted(lengths.items())
        if count > exceptions.get(name, LINES - 1)
    ]
    spare = [
        f"{name} needs no exception any more ({lengths[name]} lines)" if name in lengths else f"{name} is not there"
        for name in sorted(exceptions)
        if lengths.get(name, 0) < LINES
    ]
    return [*long, *(f"{sentence}: take it out of EXCEPTIONS in tools/check_commands.py" for sentence in spare)]


def main() -> None:
    folder = Path(__file__).parents[1] / "edgeq" / "cli"
    lengths = {path.name: len(path.read_text().splitlines()) for path in folder.glob("*.py")}
    if found := faults(lengths, EXCEPTIONS):
        sys.exit("\n".join(found))
    print(f"commands: {len(lengths)} files, {len(EXCEPTIONS)} of them with {LINES} lines or more")


if __name__ == "__main__":
    main()
