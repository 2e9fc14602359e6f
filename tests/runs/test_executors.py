"""Units done in other processes and on a Dask cluster: the same rows, whoever dies."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_tflite

import edgeq
from edgeq.core.errors import EdgeqError
from edgeq.keras import trust
from edgeq.runs import execute as module
from edgeq.runs.execute import execute
from edgeq.runs.executors import cluster, opener, processes
from edgeq.runs.executors.kit import Kit, Parcel
from edgeq.runs.plan import Plan
from edgeq.runs.prepare import prepare
from edgeq.runs.store import Run
from edgeq.runs.unit import run_unit
from edgeq.runtimes import LostError
from edgeq.targets.spec import Artifact

pytestmark = pytest.mark.slow

QUERIES = {"access": "scores", "attacks": ("spsa:steps=4:batch=8", "rays:steps=20")}
GRADIENTS = {"attacks": ("pgd:steps=2",), "n": 150}
TABLES = ("rows", "candidates", "diagnostics", "answers")


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    """Workers find what this process finds: this very file among it."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("executors") / "m.tflite"
    path.write_bytes(tiny_tflite.classifier(seed=3))
    return path


@pytest.fixture(scope="module")
def alone(model) -> list[list[tuple]]:
    """What one process makes of the queries."""
    return done(model, model.with_name("alone.sqlite"), QUERIES)


def begun(model: Path, path: Path, how: dict) -> Run:
    asked = {"n": 300, "eps": ("8/255",), "runtimes": ("litert-reference", "litert-xnnpack"), **how}
    return prepare(Plan((str(model),), "digits", **asked)).create(path, [])


def done(model: Path, path: Path, how: dict, **options) -> list[list[tuple]]:
    with begun(model, path, how) as run:
        execute(run, **options)
    return rows(path)


def rows(path: Path) -> list[list[tuple]]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return [db.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall() for table in TABLES]


def test_two_workers_of_which_one_is_killed_make_the_same_rows(model, alone, tmp_path, monkeypatch):
    given, give = [], processes._Worker.give

    def kill(worker, job):
        give(worker, job)
        given.append(worker)
        if len(given) in (4, 9):  # with work in hand
            worker.process.kill()

    monkeypatch.setattr(processes._Worker, "give", kill)
    assert done(model, tmp_path / "two.sqlite", QUERIES, workers=2) == alone
    assert len({id(worker) for worker in given}) == 4
    assert not left_behind(tmp_path)


@pytest.mark.tensorflow
def test_two_workers_follow_the_same_gradients(model, tmp_path):
    one = done(model, tmp_path / "one.sqlite", GRADIENTS)
    assert done(model, tmp_path / "two.sqlite", GRADIENTS, workers=2) == one
    with Run.open(tmp_path / "two.sqlite") as run:
        (identity,) = run.meta("gradients").values()
        assert identity["threads"] == run.meta("float_threads")
        assert identity["batch"] == 128


def test_work_that_kills_every_worker_is_given_up_and_the_run_can_be_resumed(model, alone, tmp_path, monkeypatch):
    give = processes._Worker.give

    def kill(worker, job):
        give(worker, job)
        worker.process.kill()

    path = tmp_path / "lost.sqlite"
    with monkeypatch.context() as patch, begun(model, path, QUERIES) as run:
        patch.setattr(processes._Worker, "give", kill)
        with pytest.raises(LostError, match=r"3 worker processes died .* SIGKILL.*go on with: edgeq resume"):
            execute(run, workers=2)
    with Run.open(path, write=True) as run:
        execute(run, workers=2)
    assert rows(path) == alone


def test_what_a_worker_raises_ends_the_run_with_its_sentence(tmp_path):
    with processes.opened(2, nothing()) as team, pytest.raises(EdgeqError, match="no such luck"):
        list(team.map([refuse]))
    assert not left_behind(tmp_path)


def refuse(bench) -> Iterator[None]:
    raise EdgeqError("no such luck")
    yield


def count(upto: int, bench) -> Iterator[tuple[int, int]]:
    return ((os.getpid(), number) for number in range(upto))


def test_a_worker_takes_the_next_work_when_it_is_done(tmp_path):
    with processes.opened(2, nothing()) as team:
        told = [item for upto in (5, 0, 3) for item in team.map([partial(count, upto)] * 4)]
        pids = {pid for pid, _ in told}
        assert pids <= set(team.pids)
    assert os.getpid() not in pids
    assert sorted(number for _, number in told) == sorted(4 * [*range(5), *range(3)])
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def nothing() -> Kit:
    return Kit((), {}, None, (), 1, trust.Trusted())


def test_rows_of_another_runtime_are_refused_before_they_are_written(model, tmp_path, monkeypatch):
    def elsewhere(task, bench):
        for batch in run_unit(task, bench):
            other = {name: {**identity, "version": "0.0"} for name, identity in batch.identities.items()}
            yield replace(batch, identities=other if task.unit.target else batch.identities)

    monkeypatch.setattr(module, "run_unit", elsewhere)
    path = tmp_path / "other.sqlite"
    with (
        begun(model, path, QUERIES) as run,
        pytest.raises(EdgeqError, match=r"was another runtime when this run began \(version: .* 0.0 now"),
    ):
        execute(run)
    assert rows(path)[3] == []


def test_a_killed_writer_leaves_no_worker_and_ends_with_the_same_rows(model, alone, tmp_path):
    rng, path, whole = random.Random(5), tmp_path / "killed.sqlite", 6.0
    begun(model, path, QUERIES).close()
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-m", "edgeq", "resume", str(path), "--workers", "2"],
            cwd=tmp_path,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stderr=subprocess.DEVNULL,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(rng.uniform(1, whole))
        child.kill()
        child.wait()
        end = time.monotonic() + 5
        while left_behind(tmp_path) and time.monotonic() < end:
            time.sleep(0.05)
        assert not left_behind(tmp_path)
    with Run.open(path, write=True) as run:
        execute(run, workers=2)
    assert rows(path) == alone


def left_behind(folder: Path) -> list[int]:
    """Worker processes that keep their files in ``folder``, or were started by this process, and still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if b"edgeq.runs.executors._worker" in command and (str(folder).encode() in environment or parent == os.getpid()):
                found.append(int(entry.name))
    return found


def test_workers_are_a_number_or_an_address():
    assert opener.parse("3") == 3
    assert opener.parse("tcp://there:8786") == "tcp://there:8786"
    for text in ("0", "-1", "many", "1e3", "100000"):
        with pytest.raises(EdgeqError, match="--workers"):
            opener.parse(text)


def test_files_travel_by_their_hash(model, tmp_path):
    folder = tmp_path / "net"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "v").write_bytes(b"weights")
    for path in (model, folder):
        hash, parcel = Artifact.of(path).sha256, Parcel.of(path)
        unpacked = parcel.unpack(hash, tmp_path / "there")
        assert unpacked == tmp_path / "there" / hash / path.name
        assert Artifact.of(unpacked).sha256 == hash
        (name, content), *others = parcel.files
        damaged = replace(parcel, files=((name, content + b"!"), *others))
        with pytest.raises(EdgeqError, match="another file than was sent"):
            damaged.unpack(hash, tmp_path / "elsewhere")


def test_trust_reaches_workers_and_no_further(tmp_path):
    script = tmp_path / "layers.py"
    script.write_text("def mine(): return 7\n")
    try:
        trust.only([script])
        kit = replace(nothing(), trusted=trust.granted())
    finally:
        trust.only([])
    script.unlink()
    with processes.opened(2, kit) as team:
        assert list(team.map([trusted])) == [["mine", 7]]
    assert trust.own() == {}


def trusted(bench) -> Iterator[list]:
    for name, value in trust.own().items():
        yield [name, value()]


@pytest.mark.skipif(find_spec("distributed") is None, reason='Dask is not installed: pip install "edgeq[dask]"')
class TestDask:
    @pytest.fixture
    def workers(self, tmp_path) -> Iterator[tuple[str, list[subprocess.Popen]]]:
        """A scheduler's address, and two workers of it."""
        told = tmp_path / "scheduler.json"
        quiet = {
            "cwd": tmp_path,
            "env": {**os.environ, "TMPDIR": str(tmp_path)},
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
        }
        dask = [sys.executable, "-m", "dask"]
        options = ["--scheduler-file", str(told), "--no-dashboard"]
        children = [subprocess.Popen([*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", *options], **quiet)]
        try:
            while not told.exists():
                assert children[0].poll() is None
                time.sleep(0.1)
            children += [subprocess.Popen([*dask, "worker", *options, "--no-nanny", "--nthreads", "1"], **quiet) for _ in range(2)]
            import distributed

            with distributed.Client(scheduler_file=str(told), set_as_default=False) as client:
                client.wait_for_workers(2, timeout=60)
                address = client.scheduler.address
            yield address, children[1:]
        finally:
            for child in reversed(children):
                child.kill()
                child.wait()

    def test_one_of_two_workers_is_killed_and_the_rows_are_the_same(self, workers, model, alone, tmp_path, monkeypatch):
        address, children = workers
        monkeypatch.setattr(module, "COMMIT", 0)  # so that progress is heard after every batch

        def strike(stage: str, so_far: int, of: int) -> None:
            if 0 < so_far < of and stage.startswith("spsa"):
                children[0].send_signal(signal.SIGKILL)

        assert done(model, tmp_path / "dask.sqlite", QUERIES, workers=address, progress=strike) == alone
        assert children[0].wait(10) == -signal.SIGKILL

    @pytest.mark.tensorflow
    def test_its_gradients_are_the_same(self, workers, model, tmp_path):
        one = done(model, tmp_path / "one.sqlite", GRADIENTS)
        assert done(model, tmp_path / "dask.sqlite", GRADIENTS, workers=workers[0]) == one

    def test_a_scheduler_that_is_not_there_is_named_in_seconds(self, model, tmp_path):
        start = time.monotonic()
        with begun(model, tmp_path / "r.sqlite", QUERIES) as run, pytest.raises(EdgeqError, match="no Dask scheduler answers there"):
            execute(run, workers="tcp://127.0.0.1:9")
        assert time.monotonic() - start < 20

    def test_workers_without_this_edgeq_are_refused_by_name(self):
        for version, said in (("", "tcp://b has no edgeq"), ("0.0.1", "tcp://b has edgeq 0.0.1")):
            told = {"tcp://a": edgeq.__version__, "tcp://b": version}
            client = SimpleNamespace(wait_for_workers=lambda *_, **__: None, run=lambda _, told=told: told)
            with pytest.raises(EdgeqError, match=said):
                cluster.Cluster(None, client, "tcp://s", nothing())
