from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeq.core import files
from edgeq.core.errors import EdgeqError

HOLDER = """
import sys, time
from pathlib import Path
from edgeq.core.files import scratch
with scratch(Path(sys.argv[1])) as folder:
    (folder / "half").write_bytes(bytes(1000))
    print(folder, flush=True)
    time.sleep(60)
"""


def test_what_killed_processes_left_is_removed_and_what_living_ones_hold_is_not(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (tmp_path / "work" / ".edgeq-own").mkdir(parents=True)
    (tmp_path / "work" / ".edgeq-scratch-link").symlink_to(outside)
    alive, dead = (subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path / "work"], stdout=subprocess.PIPE, text=True) for _ in range(2))
    try:
        left = [p.stdout.readline().strip() for p in (alive, dead)]
        os.kill(dead.pid, signal.SIGKILL)
        dead.communicate()
        assert os.path.isdir(left[1])
        with files.scratch(tmp_path / "work") as folder:
            (folder / "x").touch()
            assert [os.path.isdir(p) for p in left] == [True, False]
        assert not folder.exists()
    finally:
        alive.kill()
        alive.communicate()
    with files.scratch(tmp_path / "work"):
        assert not os.path.isdir(left[0])
    assert sorted(p.name for p in (tmp_path / "work").iterdir()) == [".edgeq-own", ".edgeq-scratch-link"]
    assert (outside / "kept").exists()


def test_what_is_no_plain_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path / ("9" * 5000), tmp_path / "none"):
        with pytest.raises(EdgeqError):
            files.sha256(Path(path))


@pytest.mark.parametrize("swaps", [True, False])
def test_a_saved_model_is_exchanged_whole_and_any_other_folder_is_refused(tmp_path, monkeypatch, swaps):
    if not swaps:
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    there = tmp_path / "net.savedmodel"
    for content in ("old", "new"):
        with files.scratch(tmp_path) as folder:
            (folder / there.name).mkdir()
            (folder / there.name / "saved_model.pb").write_text(content)
            files.move(folder / there.name, there)
        assert [p.name for p in tmp_path.iterdir()] == [there.name]
        assert (there / "saved_model.pb").read_text() == content
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").touch()
    with files.scratch(tmp_path) as folder:
        (folder / "mine").mkdir()
        with pytest.raises(OSError, match="not empty"):
            files.move(folder / "mine", tmp_path / "mine")
