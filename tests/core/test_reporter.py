"""Who is told what the library assumes."""

from __future__ import annotations

from edgeq.core.reporter import SILENT, Lines


def test_lines_show_names_and_obey_none_of_them(capsys) -> None:
    reporter = Lines()
    reporter.say("a\x1b[2J.tflite: read", "yellow")
    with reporter.progress() as show:
        show("op by op", 1, 2)
    assert capsys.readouterr() == ("", "a\ufffd[2J.tflite: read\n")


def test_silence_is_the_default_of_python(capsys) -> None:
    SILENT.say("nothing")
    with SILENT.progress() as show:
        show("nothing", 1, 1)
    assert capsys.readouterr() == ("", "")
