import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from synthetic import CODES, RUNTIMES, SIGNATURE, images, make_run, target

from edgeq.core.answer import Answer
from edgeq.core.errors import EdgeqError
from edgeq.core.rows import row_id
from edgeq.measure.summary import summarise
from edgeq.runs.format import LIMIT, pack, unpack
from edgeq.runs.store import CLEAN, Artifact, Cell, Run

TESTS = Path(__file__).parents[1]
PROJECT = TESTS.parent


def start(path, n=8, shape=(4, 5, 3)):
    run = Run.create(path, shape=shape, n=n, meta={"plan": {"seed": 3}})
    run.add(CLEAN, Cell(1, "pgd", {"steps": 4}, "linf", 8 / 255, "keras", "gradients"))
    return run


def python(code, *args):
    environment = {**os.environ, "PYTHONPATH": f"{PROJECT}:{TESTS}"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_what_is_written_is_read_back_to_the_bit(tmp_path):
    rng = np.random.default_rng(1)
    x, idx, labels = images(8, (4, 5, 3), rng), np.arange(8), rng.integers(0, 10, 8)
    adversarial = rng.integers(0, 256, x.shape).astype(np.uint8)  # deltas of up to 255 pixels
    ids = np.array([row_id(str(i)) for i in idx])
    answer = Answer("probs", rng.integers(-128, 128, (8, 10)).astype(np.int8), 1 / 256, -128)
    board = target("tflm", artifact="ab", signature=SIGNATURE, codes=CODES, identity={"v": 1})
    with start(tmp_path / "a.sqlite") as run:
        run.add(Artifact("ab", "m", "m.tflite", 7), board)
        run.add_rows(idx, ids, [str(i) for i in idx], labels, x)
        run.add_candidates(1, idx[:5], adversarial[:5], x[:5], np.arange(5), np.linspace(0, 1, 5))
        run.add_answers(1, "tflm", idx[:5], answer[idx[:5]], labels[:5])
    with Run.open(tmp_path / "a.sqlite") as run:
        assert (run.shape, run.n, run.meta("plan"), run.targets()) == ((4, 5, 3), 8, {"seed": 3}, [board])
        assert (run.ids() == ids).all()
        assert (run.labels() == labels).all()
        assert (run.images(idx[::-1]) == x[::-1]).all()
        assert (run.candidates(1, idx[:5]) == adversarial[:5]).all()
        assert (run.candidates(0, idx) == x).all()
        assert run.queries(1).tolist() == [0, 1, 2, 3, 4, -1, -1, -1]
        assert run.done(1).tolist() == run.done(1, "tflm").tolist() == [True] * 5 + [False] * 3
        seen = run.outcomes(1, "tflm")
        assert (seen.correct[:5] == ~answer.fooled(labels)[:5]).all()
        assert (seen.label[:5] == answer.label()[:5]).all()
        assert (seen.correct[5:] == -1).all()
        assert (run.scores(1, "tflm", idx[:5]) == answer.raw[:5]).all()
        delta = adversarial.astype(float) - x
        assert np.allclose(run.norms(1)[0][:5], np.sqrt((delta**2).sum(axis=(1, 2, 3)))[:5] / 255)
        assert (run.norms(1)[1][:5] == np.abs(delta).max(axis=(1, 2, 3))[:5]).all()
    assert [p.name for p in tmp_path.iterdir()] == ["a.sqlite"]  # one file at rest


def test_records_are_replaced_in_place_and_transactions_are_all_or_nothing(tmp_path):
    with start(tmp_path / "a.sqlite") as run:
        run.add(target("a"), target("b"))
        run.add(target("a", identity={"version": "2"}))
        assert [(t.id, t.identity) for t in run.targets()] == [("a", {"version": "2"}), ("b", {})]
        with pytest.raises(KeyboardInterrupt), run.transaction():  # noqa: PT012
            run.set_meta("half", 1)
            raise KeyboardInterrupt
        assert run.meta("half") is None


def test_create_refuses_to_overwrite_and_leaves_nothing_behind_when_it_fails(tmp_path):
    path = make_run(tmp_path / "a.sqlite", n=4)
    before = path.read_bytes()
    with pytest.raises(EdgeqError, match="edgeq resume"):
        start(path)
    assert path.read_bytes() == before
    with pytest.raises(TypeError):  # not JSON
        Run.create(tmp_path / "b.sqlite", shape=(1, 1, 1), n=1, meta={"x": object()})
    assert not (tmp_path / "b.sqlite").exists()


def test_rows_that_come_with_the_plan_are_written_with_it_or_nothing_is(tmp_path):
    x, idx = images(8, (4, 5, 3), np.random.default_rng(1)), np.arange(8)

    def parts(broken):
        for some in (idx[:5], idx[5:]):
            yield some, some + 100, [f"i{i}" for i in some], some % 3, x[some]
            if broken:
                raise EdgeqError("i5: cannot be read")

    with pytest.raises(EdgeqError, match="i5"):
        Run.create(tmp_path / "a.sqlite", shape=(4, 5, 3), n=8, meta={}, records=[CLEAN], rows=parts(broken=True))
    assert not list(tmp_path.iterdir())
    with Run.create(tmp_path / "a.sqlite", shape=(4, 5, 3), n=8, meta={}, records=[CLEAN], rows=parts(broken=False)) as run:
        assert run.done(0).all()
        assert (run.images(idx) == x).all()
        assert run.ids().tolist() == [*range(100, 108)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such run"),
        (b"", "is empty"),
        (b"not a database, but long enough to be one" * 50, "not a run file"),
        ("sqlite", "not a run file"),
    ],
)
def test_what_is_no_run_is_said_in_a_sentence(tmp_path, content, said):
    path = tmp_path / "a.sqlite"
    if content == "sqlite":
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE t (x)")
        db.close()
    elif content is not None:
        path.write_bytes(content)
    for write in (False, True):
        with pytest.raises(EdgeqError, match=said):
            Run.open(path, write=write)


def test_a_newer_version_and_a_foreign_schema_are_refused(tmp_path):
    path = make_run(tmp_path / "a.sqlite", n=4)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(EdgeqError, match="newer edgeq"):
        Run.open(path)
    other = make_run(tmp_path / "b.sqlite", n=4)
    db = sqlite3.connect(other)
    db.executescript("DROP TABLE meta; CREATE VIEW meta AS SELECT 'n' AS key, '4' AS value")
    db.close()
    with pytest.raises(EdgeqError, match="its tables are not those of a run"):
        Run.open(other)


def test_one_writer_and_any_number_of_readers(tmp_path):
    path = make_run(tmp_path / "a.sqlite", n=4)
    holder = python(
        "import sys; from edgeq.runs.store import Run; r = Run.open(sys.argv[1], write=True); print('held', flush=True); sys.stdin.read()",
        path,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(EdgeqError, match="another process is writing"):
            Run.open(path, write=True)
        with Run.open(path) as run:
            assert summarise(run).run.n == 4
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    Run.open(path, write=True).close()  # the kernel gave the lock back


WRITER = """
import sys
import numpy as np
from synthetic import images
from edgeq.core.rows import row_id
from edgeq.runs.store import Run
rng = np.random.default_rng(0)
with Run.create(sys.argv[1], shape=(32, 32, 3), n=100_000, meta={}) as run:
    for start in range(0, 100_000, 20):
        idx = np.arange(start, start + 20)
        x = rng.integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
        with run.transaction():
            run.add_rows(idx, np.array([row_id(str(i)) for i in idx]), [str(i) for i in idx], idx % 10, x)
            run.add_candidates(1, idx, x ^ 1, x)
        print(start + 20, flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.013, 0.031])
def test_kill_9_keeps_every_committed_row_in_the_one_file(tmp_path, delay):
    path = tmp_path / "a.sqlite"
    writer = python(WRITER, path)
    for _ in range(3):
        writer.stdout.readline()
    time.sleep(delay)
    os.kill(writer.pid, signal.SIGKILL)
    committed = [60, *map(int, writer.communicate()[0].split())][-1]
    with Run.open(path, write=True) as run:
        done = run.done(0)
        assert committed <= done.sum() <= committed + 20  # a commit may be done and not yet said
        assert done.sum() % 20 == 0
        assert (done == run.done(1)).all()  # the two halves of a transaction live or die together
        last = np.flatnonzero(done)[-20:]
        assert (run.candidates(1, last) == run.images(last) ^ 1).all()
    assert [p.name for p in tmp_path.iterdir()] == ["a.sqlite"]


def test_a_full_disk_keeps_what_was_committed_and_says_how_to_go_on(tmp_path):
    rng = np.random.default_rng(0)
    with start(tmp_path / "a.sqlite", n=1000, shape=(32, 32, 3)) as run:
        run._db.execute("PRAGMA max_page_count = 60")
        written = 0
        with pytest.raises(EdgeqError, match=r"disk is full.*edgeq resume"):  # noqa: PT012
            for i in range(1000):
                x = rng.integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
                run.add_rows(np.array([i]), np.array([i + 7]), [str(i)], np.array([1]), x)
                written += 1
        run._db.execute("PRAGMA max_page_count = 100000")
        run.set_meta("room", True)  # and the open run can go on
    with Run.open(tmp_path / "a.sqlite", write=True) as run:
        assert run.done(0).sum() == written > 10


def test_a_read_only_run_can_be_read_and_says_so_when_written(tmp_path):
    path = make_run(tmp_path / "a.sqlite", n=4)
    with Run.open(path) as run, pytest.raises(EdgeqError, match="cannot be opened or written"):
        run.set_meta("x", 1)


def test_blobs_are_inflated_no_further_than_they_should_be():
    for array in (np.zeros(3000, np.uint8), np.random.default_rng(0).integers(0, 256, 300).astype(np.uint8)):
        assert unpack(pack(array), array.nbytes) == array.tobytes()
    bomb = pack(np.zeros(1 << 24, np.uint8))
    with pytest.raises(ValueError, match="wrong size"):
        unpack(bomb, 192)
    with pytest.raises(ValueError, match="missing"):
        unpack(None, 192)


def test_numbers_that_make_no_sense_allocate_nothing(tmp_path):
    for k, (key, value) in enumerate(
        [("n", str(LIMIT * 4)), ("n", '"many"'), ("shape", "[70000, 70000, 3]"), ("shape", "[-1, 2, 3]"), ("n", "[[")]
    ):
        path = make_run(tmp_path / f"{k}.sqlite", n=4)
        db = sqlite3.connect(path)
        db.execute("UPDATE meta SET value = ? WHERE key = ?", (value, key))
        db.commit()
        db.close()
        with pytest.raises(EdgeqError, match="is damaged"):
            Run.open(path)


@pytest.mark.parametrize("value", ["[]", '"text"', "{}", '{"input": 3, "output": 4, "kind": "probs"}', "{"])
def test_records_of_another_shape_are_damage(tmp_path, value):
    path = make_run(tmp_path / "a.sqlite", n=4)
    db = sqlite3.connect(path)
    db.execute("UPDATE targets SET signature = ?", (value,))
    db.commit()
    db.close()
    with Run.open(path) as run, pytest.raises(EdgeqError, match="is damaged"):
        summarise(run)


@pytest.mark.slow
def test_flipped_bytes_give_a_sentence_or_a_summary_never_a_traceback(tmp_path):
    from edgeq.report.html import render

    whole, rng, sentences = make_run(tmp_path / "a.sqlite", n=12).read_bytes(), np.random.default_rng(5), []
    path = tmp_path / "b.sqlite"
    for trial in range(80):
        damaged = np.frombuffer(whole, np.uint8).copy()
        where = rng.integers(0, 4096 * 3 if trial % 2 else len(whole), rng.integers(1, 12))
        damaged[where] = rng.integers(0, 256, len(where))
        path.write_bytes(damaged.tobytes()[: len(whole) if trial % 5 else int(rng.integers(1, len(whole)))])
        try:
            with Run.open(path) as run:
                render(run, summarise(run))
        except EdgeqError as error:
            sentences.append(str(error))
    assert not any("\n" in said for said in sentences)
    assert len(sentences) > 15


def test_memory_does_not_grow_with_the_images(tmp_path):
    import tracemalloc

    path = make_run(tmp_path / "a.sqlite", n=600, shape=(32, 32, 3), runtimes=RUNTIMES[:2])
    tracemalloc.start()
    with Run.open(path) as run:
        for start in range(0, 600, 32):
            run.candidates(3, np.arange(start, min(600, start + 32)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 600 * 32 * 32 * 3 / 2


def test_measurements_are_vectors_of_every_row_or_damage(tmp_path):
    even, odd = np.arange(0, 8, 2), np.arange(1, 8, 2)
    values = [np.full(3, float(i)) for i in range(8)]
    with start(tmp_path / "a.sqlite") as run:
        assert not run.measured(1).any()
        run.add_measurements(1, odd, {"x": [values[i] for i in odd], "y": [np.arange(float(i)) for i in odd]})
        assert (run.measured(1) == (np.arange(8) % 2 == 1)).all()
        with pytest.raises(EdgeqError, match="x is not measured of every row"):
            run.measurements(1, "x", 3)
        run.add_measurements(1, even, {"x": [values[i] for i in even], "y": [np.full(i, np.nan) for i in even]})
    with Run.open(tmp_path / "a.sqlite") as run:
        assert np.array_equal(run.measurements(1, "x", 3), values)
        assert [len(v) for v in run.measurements(1, "y")] == list(range(8))
        assert np.isnan(run.measurements(1, "y")[4]).all()
        assert not run.measured(0).any()
        with pytest.raises(EdgeqError, match="x is not measured"):
            run.measurements(1, "x", 2)
    for column, value in (("size", LIMIT), ("size", -1), ("size", "many"), ('"values"', b"x")):
        with sqlite3.connect(tmp_path / "a.sqlite") as db:
            (before,) = db.execute(f"SELECT {column} FROM measurements WHERE idx = 3 AND name = 'x'").fetchone()
            db.execute(f"UPDATE measurements SET {column} = ? WHERE idx = 3 AND name = 'x'", (value,))
        with Run.open(tmp_path / "a.sqlite") as run, pytest.raises(EdgeqError, match="is damaged"):
            run.measurements(1, "x")
        with sqlite3.connect(tmp_path / "a.sqlite") as db:
            db.execute(f"UPDATE measurements SET {column} = ? WHERE idx = 3 AND name = 'x'", (before,))
        db.close()
