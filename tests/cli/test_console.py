"""What is said where nobody sees a bar."""

from __future__ import annotations

import time

from edgeq.cli import console, lines


def test_without_a_terminal_a_long_stage_says_a_line_a_minute_and_one_at_its_end(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    with console.progress() as show:
        for seconds in range(0, 151, 10):
            clock[0] = float(seconds)
            show("[b]long", seconds, 150)
        show("short", 0, 3)
        show("short", 3, 3)
        show("[b]long", 150, 150)
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "[b]long: 60 of 150 (40 %) after 60 s, about 90 s left",
        "[b]long: 120 of 150 (80 %) after 120 s, about 30 s left",
        "[b]long: 150 in 150 s",
    ]


def test_a_stage_in_which_nothing_is_finished_says_a_line_a_minute_too(monkeypatch, capsys):
    monkeypatch.setattr(lines, "MINUTE", 0.05)
    with console.progress() as show:
        show("slow", 0, 50)
        end = time.monotonic() + 20
        said = ""
        while said.count("slow: 0 of 50 (0 %) after 0 s") < 2 and time.monotonic() < end:
            time.sleep(0.01)
            said += capsys.readouterr().err
    assert said.count("slow: 0 of 50 (0 %) after 0 s\n") >= 2
