from __future__ import annotations

from check_commands import LINES, faults


def test_a_command_file_that_is_too_long_is_named() -> None:
    assert faults({"a.py": LINES - 1, "b.py": 3}) == []
    (said,) = faults({"a.py": LINES - 1, "new.py": LINES})
    assert said.startswith(f"new.py has {LINES} lines")
