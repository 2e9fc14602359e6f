"""Shows damaged files to the commands: each must end in a result or a sentence, soon, within a gigabyte, and touch no other file.

    python tools/fuzz_files.py --n 15000 tflite onnx h5 keras npz zip sidecar run

A server a format and core has the heavy modules loaded and nothing opened. It forks for every copy, and what edgeq starts as a process is
forked from there too, so a copy costs a tenth of a second. Every system call that names a file is watched by strace, where there is one:
what writes or deletes outside the copy's own folder, or reads what no command has to read, is reported. Copies follow from the seed alone.
"""

from __future__ import annotations

import argparse
import atexit
import collections
import contextlib
import functools
import gc
import importlib
import json
import os
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "tests")]

import damage  # noqa: E402
import fuzz_good  # noqa: E402

SECONDS, GIGABYTE, PATIENCE = 5.0, 2**30, 60
_MEANS = ("--preprocess", "mean=0,std=255")
_ATTACK = ("--n", "2", "--attack", "spsa", "--max-queries", "20", "--threads", "1", "--run", "new.sqlite")
_TFLITE = ("attack", "--target", "m.tflite", "--runtime", "litert-reference", *_ATTACK)
FORMATS: dict[str, tuple[str, tuple[damage.Damage, ...], tuple[tuple[str, ...], ...]]] = {
    "tflite": (
        "m.tflite",
        (damage.bits, damage.words, damage.cut, damage.words, damage.pieces),
        (("inspect", "m.tflite", "--json"), ("inspect", "m.tflite"), (*_TFLITE, "--data", "digits")),
    ),
    "onnx": (
        "m.onnx",
        (damage.bits, damage.words, damage.cut, damage.pieces),
        (("inspect", "m.onnx", "--json"), ("inspect", "m.onnx"), ("attack", "--target", "m.onnx", *_ATTACK, "--data", "digits")),
    ),
    "h5": (
        "m.h5",
        (damage.in_hdf5, damage.in_hdf5, damage.words, damage.bits, damage.cut),
        (("attack", "--target", "m.h5", "--data", "digits", "--n", "2", "--attack", "pgd:steps=1", "--run", "new.sqlite", *_MEANS),),
    ),
    "keras": (
        "m.keras",
        (damage.in_zip, damage.in_zip, damage.bits, damage.cut),
        (("attack", "--target", "m.keras", "--data", "digits", "--n", "2", "--attack", "pgd:steps=1", "--run", "new.sqlite", *_MEANS),),
    ),
    "npz": ("d.npz", (damage.in_zip, damage.in_zip, damage.bits, damage.cut), ((*_TFLITE, "--data", "d.npz"),)),
    "zip": ("d.zip", (damage.in_zip, damage.in_zip, damage.bits, damage.cut), ((*_TFLITE, "--data", "d.zip"),)),
    "sidecar": (
        "m.edgeq.json",
        (damage.json_values, damage.json_values, damage.bits, damage.cut),
        (("inspect", "m.tflite", "--json"), (*_TFLITE, "--data", "digits")),
    ),
    "run": (
        "run.sqlite",
        (damage.in_sqlite, damage.in_sqlite, damage.in_sqlite, damage.words, damage.cut, damage.bits),
        (
            *(("report", "run.sqlite"), ("report", "run.sqlite", "--json"), ("export-run", "run.sqlite", "--csv"), ("runs", ".")),
            *(("resume", "run.sqlite"), ("pack", "run.sqlite", "-o", "packed"), ("score", "run.sqlite", "scores.csv")),
        ),
    ),
}
"""Format: the file that is damaged, the ways, and the commands that are tried in turn, inside the copy's folder."""


class Forked(subprocess.Popen):
    """``python -m MODULE`` as a fork of this process, which has loaded what the module imports. Any other program is not started."""

    def _execute_child(self, args: Any, *rest: Any) -> None:  # rest: as CPython 3.11 to 3.14 call it
        pass_fds, env, pipes, new_session = rest[3], rest[5], rest[9:15], rest[-2]
        if "-m" not in args:
            raise FileNotFoundError(2, "only Python's own modules are started here", str(args[0]))
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            if new_session:
                os.setsid()
            for fd, target in zip((pipes[0], pipes[3], pipes[5]), range(3), strict=True):
                if fd not in (-1, target):
                    os.dup2(fd, target)
            _close_all_but({0, 1, 2, *pass_fds})
            os.environ.update(env or {})
            at = args.index("-m") + 1
            sys.argv = list(args[at:])
            run(functools.partial(runpy.run_module, args[at], run_name="__main__", alter_sys=True))
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def _close_all_but(keep: set[int]) -> None:
    for fd in {int(name) for name in os.listdir("/proc/self/fd")} - keep:
        with contextlib.suppress(OSError):  # the listing's own
            os.close(fd)


def run(work: Any) -> None:
    """Ends this process as Python would have after ``work``."""
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(fd, mode, closefd=False) for fd, mode in ((0, "r"), (1, "w"), (2, "w")))
    code = 0
    try:
        work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def command(argv: tuple[str, ...], folder: Path) -> None:
    """In a fork: one command, in ``folder``, under limits."""
    os.setsid()
    os.chdir(folder)
    (folder / "tmp").mkdir()
    os.environ["TMPDIR"], tempfile.tempdir = str(folder / "tmp"), None
    for name, fd, flags in (
        (os.devnull, 0, os.O_RDONLY),
        ("stdout.txt", 1, os.O_WRONLY | os.O_CREAT),
        ("stderr.txt", 2, os.O_WRONLY | os.O_CREAT),
    ):
        opened = os.open(name, flags, 0o600)
        os.dup2(opened, fd)
        os.close(opened)
    _close_all_but({0, 1, 2})
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE))
    sys.argv = ["edgeq", *argv]
    if listing := os.environ.get("FUZZ_MODULES"):
        atexit.register(lambda: Path(listing).write_text("\n".join(sys.modules)))
    from edgeq.cli.main import main

    run(main)


def once(argv: tuple[str, ...], folder: Path, held: int) -> tuple[str, float, int]:
    """What became of a command: in words, with processor seconds, and bytes of memory beyond those of an idle fork."""
    pid, began = os.fork(), time.monotonic()
    if pid == 0:
        command(argv, folder)
    ended, status, usage = 0, 0, None
    while not ended:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if not ended and time.monotonic() - began > PATIENCE:
            os.killpg(pid, signal.SIGKILL)
            os.wait4(pid, 0)
            return f"no end after {PATIENCE} s", float(PATIENCE), 0
        time.sleep(0.002 * (not ended))
    assert usage is not None
    seconds, memory = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 - held
    said = b"".join((folder / name).read_bytes() for name in ("stdout.txt", "stderr.txt") if (folder / name).exists())
    return _outcome(os.waitstatus_to_exitcode(status), said, seconds, memory), seconds, memory


def idle() -> int:
    """Bytes that a fork occupies which does nothing: less than the server's own peak, which would hide what a command takes."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return os.wait4(pid, 0)[2].ru_maxrss * 1024


def _outcome(code: int, said: bytes, seconds: float, memory: int) -> str:
    if code < 0:
        return f"crash ({signal.Signals(-code).name})"
    if code not in (0, 1, 2) or b"Traceback" in said:
        return f"exit {code}: {said.decode('utf-8', 'replace').strip().splitlines()[-1][:160] if said.strip() else 'nothing was said'}"
    if seconds > SECONDS:
        return f"slow: {seconds:.0f} s"
    if memory > GIGABYTE:
        return f"large: {memory >> 20} MB"
    if b"\x1b" in said or b"\0" in said:
        return "a control character reached the terminal"
    if code == 2 and not said.splitlines()[-1].startswith(b"edgeq: "):
        return "exit 2 without a sentence"
    return {0: "done", 1: "gate not met", 2: "one sentence"}[code]


def serve(kind: str, seeds: range, root: Path, results: Any) -> None:
    """A server: imports, then a fork a copy. Writes ``kind seed outcome seconds bytes`` as JSON lines."""
    load(kind in ("h5", "keras"))
    subprocess.Popen = Forked  # type: ignore[misc]
    name, ways, commands = FORMATS[kind]
    warm_up(root, kind, f"{kind}-{seeds.start}")
    gc.freeze()
    held = idle()
    good, folder = root / "good", root / f"{kind}-{seeds.start}"
    content = (good / kind / name).read_bytes()
    for seed in seeds:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(good / kind, folder)
        rng = np.random.default_rng([seed, *kind.encode()])
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
        (folder / name).write_bytes(ways[seed % len(ways)](content, rng))
        if kind == "run" and seed % 5 == 0:
            (folder / (name + "-journal")).write_bytes(damage.journal(str(good / "canary.txt"), rng))
        argv = commands[seed // len(ways) % len(commands)]
        outcome, seconds, memory = once(argv, folder, held)
        results.write(json.dumps([kind, seed, outcome, round(seconds, 2), memory]) + "\n")
        results.flush()


def warm_up(root: Path, kind: str, name: str) -> None:
    """Imports what the commands import on a good file, found out in forks that do so."""
    for argv in FORMATS[kind][2]:
        shutil.rmtree(folder := root / name, ignore_errors=True)
        shutil.copytree(root / "good" / kind, folder)
        os.environ["FUZZ_MODULES"] = "modules.txt"
        outcome, _, _ = once(argv, folder, 0)
        del os.environ["FUZZ_MODULES"]
        if outcome not in ("done", "one sentence" if argv[0] == "score" else "done"):
            raise SystemExit(f"{kind}: a good file is refused: {(folder / 'stderr.txt').read_text()[-500:]}")
        for module in (folder / "modules.txt").read_text().split():
            with contextlib.suppress(Exception):  # a name without a file, or a program
                importlib.import_module(module)


def load(keras: bool) -> None:
    """What interpreters need, which the commands open in processes of their own."""
    modules = ["edgeq.cli.main", "ai_edge_litert.interpreter", "onnx", "onnxruntime", "tflite_micro", "h5py"]
    for module in (*modules, *(("tensorflow", "tf_keras") if keras else ())):
        with contextlib.suppress(ModuleNotFoundError):  # an extra
            importlib.import_module(module)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", help=f"{', '.join(FORMATS)}; or model files to damage instead of tiny ones")
    parser.add_argument("--n", type=int, default=500, help="copies of each format")
    parser.add_argument("--seed", type=int, default=0, help="the first")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--no-strace", action="store_true")
    parser.add_argument("--inner", help=argparse.SUPPRESS)
    a = parser.parse_args()
    files = {Path(name).suffix[1:]: Path(name) for name in a.formats if Path(name).suffix}
    kinds = [name for name in a.formats if not Path(name).suffix] + [kind for kind in files if kind in FORMATS] or list(FORMATS)
    if unknown := [name for name in a.formats if name not in FORMATS and Path(name).suffix[1:] not in FORMATS]:
        parser.error(f"{unknown[0]}: is neither a format ({', '.join(FORMATS)}) nor a file of one")
    if a.inner:
        return work(kinds, a, Path(a.inner))
    with tempfile.TemporaryDirectory(prefix="edgeq-fuzz-") as folder:
        root = Path(folder).resolve()
        fuzz_good.make(root, kinds)
        for kind, file in files.items():
            shutil.copyfile(file, root / "good" / kind / FORMATS[kind][0])
        inner = [sys.executable, __file__, *kinds, "--n", str(a.n), "--seed", str(a.seed), "--jobs", str(a.jobs), "--inner", str(root)]
        watched = shutil.which("strace") is not None and not a.no_strace
        if watched:
            judging = f"|{sys.executable} {Path(__file__).with_name('fuzz_judge.py')} {root}"
            inner = [
                "strace",
                "-f",
                "-q",
                "-y",
                "-s",
                "4096",
                "--seccomp-bpf",
                "-e",
                "trace=%file,clone,clone3,fork,vfork",
                "-o",
                judging,
                *inner,
            ]
        quiet = {"PYTHONDONTWRITEBYTECODE": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "OPENBLAS_NUM_THREADS": "1"}
        subprocess.run(inner, check=True, env={**os.environ, **quiet, "HOME": str(root / "home")})
        if not watched:
            print("no system call was watched: strace is not here, or was not asked for")
            return None
        time.sleep(1)  # the judge reads on until the pipe ends
        wrong = (root / "violations.txt").read_text().splitlines()
        print(f"files outside a copy's own folder written, read or deleted: {len(wrong)}")
        print("\n".join(wrong[:20]))
    return None


def work(kinds: list[str], a: argparse.Namespace, root: Path) -> None:
    """Format by format, a server a job; a line a format."""
    for kind in kinds:
        share = -(-a.n // a.jobs)
        ranges = [range(a.seed + start, a.seed + min(start + share, a.n)) for start in range(0, a.n, share)]
        children = []
        for seeds in ranges:
            file = root / f"{kind}-{seeds.start}.jsonl"  # a pipe would fill up while another's is read
            if (pid := os.fork()) == 0:
                with file.open("w") as results:
                    serve(kind, seeds, root, results)
                os._exit(0)
            children.append((pid, file))
        found = []
        for pid, file in children:
            os.waitpid(pid, 0)
            found += [json.loads(line) for line in file.read_text().splitlines()]
        counts = collections.Counter(outcome for _, _, outcome, _, _ in found)
        firsts = {outcome: seed for _, seed, outcome, _, _ in reversed(found)}
        words = ", ".join(
            f"{n} {o}" + ("" if o in ("done", "one sentence", "gate not met") else f" (seed {firsts[o]})") for o, n in counts.most_common()
        )
        slowest, largest = max((f[3] for f in found), default=0), max((f[4] for f in found), default=0)
        print(f"{kind}: {len(found)} copies; slowest {slowest:.1f} s, largest {max(largest, 0) >> 20} MB; {words}", flush=True)


if __name__ == "__main__":
    main()
