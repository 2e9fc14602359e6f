"""The tool that keeps command files short: what is too long is named, and so is an exception that is no longer one."""

from check_commands import LINES, faults


def test_short_files_and_files_within_their_exception_pass() -> None:
    assert faults({"a.py": LINES - 1, "b.py": 200, "c.py": LINES}, {"b.py": 210, "c.py": LINES}) == []


def test_a_long_file_is_named_with_its_limit() -> None:
    new, grown = faults({"new.py": LINES, "old.py": 211}, {"old.py": 210})
    assert new.startswith(f"new.py has {LINES} lines: fewer than {LINES} are allowed")
    assert grown.startswith("old.py has 211 lines: at most 210 are allowed")


def test_an_exception_ends_with_its_reason() -> None:
    shorter, gone = faults({"old.py": LINES - 1}, {"old.py": 210, "removed.py": 150})
    assert "old.py needs no exception any more" in shorter
    assert "removed.py is not there" in gone
