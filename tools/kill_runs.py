"""Kills edgeq at random moments and sees that nothing is lost: `attack` (by queries, by gradients, with two workers), `train`, `export`,
`report`.

    python tools/kill_runs.py --kills 300 --folder /tmp/kills

Each work is done once undisturbed. Then it is started again and again, and killed (SIGKILL, no warning) at a moment drawn uniformly from
its undisturbed time, until it has died its share of deaths; a run that died is resumed. An attack must end with the rows of the undisturbed
run, byte by byte, with the same files beside it, and no process that it started may outlive it; of the others, after *every* death, each
file that stands in the output folder must be whole: as the undisturbed one wrote it. At the end one start is left alone, and then no
scratch folder may be left anywhere.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

EDGEQ = [sys.executable, "-m", "edgeq"]
DATA = ["--data", "digits", "--n", "150", "--eps", "16/255,48/255", "--runtime", "litert-xnnpack,litert-reference"]
TARGET, SOURCE = "models/digits_cnn-int8.tflite", "models/digits_cnn.keras"


@dataclass
class Tally:
    starts: int = 0
    deaths: int = 0
    looked_at: int = 0
    faults: list[str] = field(default_factory=list)

    def check(self, right: bool, what: str) -> None:
        self.looked_at += 1
        if not right:
            self.faults.append(what)


def call(folder: Path, words: list[str], delay: float | None = None) -> tuple[int, bytes, float]:
    """Exit code, stdout and seconds of a command; killed after ``delay`` seconds."""
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "CUDA_VISIBLE_DEVICES": ""}
    start = time.monotonic()
    child = subprocess.Popen([*EDGEQ, *words], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        said, complaint = child.communicate(timeout=delay)
    except subprocess.TimeoutExpired:
        child.kill()
        said, complaint = child.communicate()
    if child.returncode not in (0, -9):
        print(f"edgeq {' '.join(words)}: {complaint.decode(errors='replace')[-400:]}", file=sys.stderr)
    return child.returncode, said, time.monotonic() - start


def undisturbed(folder: Path, words: list[str]) -> tuple[bytes, float]:
    code, said, seconds = call(folder, words)
    if code:
        raise SystemExit(f"edgeq {' '.join(words)} ends with {code} undisturbed")
    return said, seconds


def attack(folder: Path, kills: int, rng: random.Random, tally: Tally, how: list[str], workers: tuple[str, ...] = ()) -> None:
    begin = ["attack", "--target", TARGET, *DATA, *how, "--run"]
    _, seconds = undisturbed(folder, [*begin, "runs/whole.sqlite"])
    if workers:
        _, seconds = undisturbed(folder, [*begin, "runs/others.sqlite", *workers])
        (folder / "runs" / "others.sqlite").unlink()
    rows, _ = undisturbed(folder, ["export-run", "runs/whole.sqlite", "--csv"])
    run = folder / "runs" / "killed.sqlite"
    while tally.deaths < kills:
        words = ["resume", "runs/killed.sqlite"] if run.exists() and run.stat().st_size else [*begin, "runs/killed.sqlite"]
        if words[0] == "attack":
            run.unlink(missing_ok=True)  # empty: it died before its plan was written, and says so
        tally.starts += 1
        code, *_ = call(folder, [*words, *workers], rng.uniform(0, seconds))
        tally.deaths += code == -9
        tally.check(code in (0, -9), f"exit code {code} of {words[0]}")
        tally.check(not left_running(folder), "worker processes are left")
        if code == 0 or (code not in (0, -9)):
            compare(folder, rows, tally)
            run.unlink()
    if run.exists() and run.stat().st_size:
        undisturbed(folder, ["resume", "runs/killed.sqlite", *workers])
        compare(folder, rows, tally)
    scratch = sorted(p.name for p in (folder / "tmp").glob(".edgeq*"))
    tally.check(not scratch, f"scratch is left: {scratch}")
    shutil.rmtree(folder / "runs")


def left_running(folder: Path) -> list[str]:
    """Processes that keep their temporary files in ``folder``, five seconds after the one that started them was killed."""
    end = time.monotonic() + 5
    while True:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if f"TMPDIR={folder / 'tmp'}".encode() in (entry / "environ").read_bytes():
                    found.append(entry.name)
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.05)


def compare(folder: Path, rows: bytes, tally: Tally) -> None:
    code, said, _ = call(folder, ["export-run", "runs/killed.sqlite", "--csv"])
    tally.check(code == 0 and said == rows, "rows differ from those of the undisturbed run")
    beside = sorted(p.name for p in (folder / "runs").iterdir())
    tally.check(beside == ["killed.sqlite", "whole.sqlite"], f"beside the run: {beside}")


def writer(folder: Path, kills: int, rng: random.Random, tally: Tally, words: list[str]) -> None:
    out = folder / "out"
    _, seconds = undisturbed(folder, [*words, "out"] if words[0] != "report" else [*words, "out/page.html"])
    whole = {p.relative_to(out): content(p) for p in files(out)}
    kept = shutil.copytree(out, folder / "kept", dirs_exist_ok=True)
    fresh = False
    while tally.deaths < kills:
        fresh = not fresh
        shutil.rmtree(out, ignore_errors=True)
        if not fresh:  # in turn into an empty folder, and over what is there
            shutil.copytree(kept, out)
        tally.starts += 1
        code, *_ = call(folder, [*words, "out/page.html" if words[0] == "report" else "out"], rng.uniform(0, 1.05 * seconds))
        tally.deaths += code == -9
        tally.check(code in (0, -9), f"exit code {code}")
        found = {p.relative_to(out): content(p) for p in files(out)}
        for name, what in found.items():
            tally.check(what == whole.get(name), f"{name} is half written, or another")
        if code == 0 or not fresh:
            tally.check(found.keys() == whole.keys(), f"lost: {sorted(map(str, whole.keys() - found.keys()))}")
    undisturbed(folder, [*words, "out/page.html" if words[0] == "report" else "out"])
    left = [p.name for p in (*out.iterdir(), *(folder / "tmp").iterdir()) if p.name.startswith(".edgeq")]
    tally.check(not left, f"scratch is left: {left}")
    shutil.rmtree(out)
    shutil.rmtree(kept)


def files(out: Path) -> list[Path]:
    return [p for p in out.rglob("*") if p.is_file() and not any(part.startswith(".edgeq") for part in p.relative_to(out).parts)]


def content(path: Path) -> object:
    """What a file must hold, without the moments it was made at."""
    if path.name.endswith(".edgeq.json"):
        return sorted(json.loads(path.read_text("utf-8")))
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            return archive.testzip(), sorted((i.filename, i.file_size) for i in archive.infolist() if "metadata" not in i.filename)
    if "savedmodel" in str(path.parent):
        return path.stat().st_size if path.suffix != ".pb" else bool(path.stat().st_size)  # TensorFlow numbers its functions anew
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300, help="deaths, over all works together")
    parser.add_argument("--folder", type=Path, default=Path("kills"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[])
    a = parser.parse_args()
    (a.folder / "tmp").mkdir(parents=True, exist_ok=True)
    folder = a.folder.resolve()
    if not (folder / TARGET).exists():
        undisturbed(folder, ["train", "digits_cnn", "--quant", "tfmot:int8", "--epochs", "4", "-o", "models"])
        undisturbed(folder, ["export", "models/digits_cnn-int8.savedmodel", "-o", "models"])
    if not (folder / "reported.sqlite").exists():
        undisturbed(folder, ["attack", "--target", TARGET, *DATA, "--attack", "spsa:steps=5", "--run", "reported.sqlite"])
    query, gradient = ["--attack", "spsa:steps=10:batch=16,rays:steps=300"], ["--attack", "pgd:steps=20", "--source", SOURCE]
    works: dict[str, tuple[Callable[..., None], list[str]]] = {
        "attack, by queries": (attack, query),
        "attack, by gradients": (attack, gradient),
        "attack, two workers": (partial(attack, workers=("--workers", "2")), query),
        "train": (writer, ["train", "digits_cnn", "--epochs", "2", "-o"]),
        "export": (writer, ["export", SOURCE, "--calibrate", "digits", "-o"]),
        "report": (writer, ["report", "reported.sqlite", "-o"]),
    }
    chosen = {name: work for name, work in works.items() if not a.only or name in a.only}
    print("| work | starts | deaths | checks | faults |\n| --- | --- | --- | --- | --- |", flush=True)
    failed = False
    for name, (work, words) in chosen.items():
        tally = Tally()
        before = hashlib.sha256((folder / "reported.sqlite").read_bytes()).hexdigest()
        work(folder, -(-a.kills // len(chosen)), random.Random(f"{a.seed} {name}"), tally, words)
        tally.check(before == hashlib.sha256((folder / "reported.sqlite").read_bytes()).hexdigest(), "a run changed that was only read")
        failed |= bool(tally.faults)
        said = "; ".join(dict.fromkeys(tally.faults))
        print(f"| {name} | {tally.starts} | {tally.deaths} | {tally.looked_at} | {len(tally.faults)} {said}|", flush=True)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
