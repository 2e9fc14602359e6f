"""`edgeq attack` from outside, as a process: what it writes, what it says, how it ends."""

import contextlib
import csv
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny_tflite

from edgeq import load
from edgeq import open as open_target

OWN = ["--data", "own.npz"]  # digits with the labels that the model gives them: it is right on all
BASE = [
    "--data",
    "digits",
    "--runtime",
    "litert-xnnpack,litert-reference",
    "--n",
    "24",
    "--attack",
    "spsa:steps=6:batch=16",
    "--eps",
    "3/255,24/255",
]


def edgeq(*arguments, cwd, code=0, **options):
    command = [sys.executable, "-m", "edgeq", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    (folder / "model.tflite").write_bytes(tiny_tflite.classifier(seed=3))
    digits = load("digits", n=200)
    with open_target(folder / "model.tflite", runtime="litert-reference") as right:
        np.savez(folder / "own.npz", images=digits.x, labels=right.answer(digits.x).label())
    return folder


@pytest.fixture(scope="module")
def finished(place):
    """A finished run and what the command printed as JSON."""
    done = edgeq("attack", "--target", "model.tflite", *BASE, "--run", "whole.sqlite", "--json", cwd=place)
    return place / "whole.sqlite", json.loads(done.stdout)


def rows_of(run):
    """Every candidate, query count and answer of a run, in order."""
    db = sqlite3.connect(run)
    tables = ("SELECT idx, id, name, label, image FROM rows ORDER BY idx",
              "SELECT cell, idx, queries, delta FROM candidates ORDER BY cell, idx",
              "SELECT * FROM answers ORDER BY cell, target, idx")  # fmt: skip
    found = [db.execute(sql).fetchall() for sql in tables]
    db.close()
    return found


def all_images_are_in(run, n):
    with contextlib.closing(sqlite3.connect(f"file:{run}?mode=ro", uri=True)) as db, contextlib.suppress(sqlite3.Error):
        return db.execute("SELECT count(*) FROM rows").fetchone() == (n,)
    return False


def test_the_figures_follow_from_the_rows(finished):
    run, printed = finished
    rows, candidates, answers = rows_of(run)
    truth = {idx: label for idx, _, _, label, _ in rows}
    right = {(cell, target, idx): label == truth[idx] for cell, target, idx, _, _, label, _ in answers}
    stands = {(cell, target, idx): stood for cell, target, idx, stood, *_ in answers}
    cells = [c for c in printed["cells"] if c["kind"] == "query"]
    assert [c["pixels"] for c in cells] == [3, 24]
    for cell in cells:
        assert {line["target"] for line in cell["targets"]} == {"model/litert-xnnpack", "model/litert-reference"}
        for line in cell["targets"]:
            both = [right[0, line["target"], i] and stands[cell["cell"], line["target"], i] for i in range(24)]
            assert line["robust_accuracy"]["k"] == sum(both)
            assert line["robust_accuracy"]["of"] == 24
            low, high = line["robust_accuracy"]["interval"]
            assert low <= sum(both) / 24 <= high
    # what stopped a row early must fool the runtime it was found on
    budget = 1 + 6 * 17
    for cell, idx, queries, _ in candidates:
        if any(c["cell"] == cell for c in cells):
            assert 1 <= queries <= budget
            if queries < budget:
                assert not stands[cell, "model/litert-xnnpack", idx]


def test_a_larger_radius_is_never_harder_here_and_attacks_beat_noise(finished):
    _, printed = finished
    robust = {(c["attack"], c["pixels"]): c["targets"][0]["robust_accuracy"]["k"] for c in printed["cells"]}
    assert robust["spsa", 24] <= robust["spsa", 3]
    assert robust["spsa", 24] <= robust["noise", 24]


def test_kill_9_and_resume_give_the_rows_of_an_uninterrupted_run(finished, place):
    whole, _ = finished
    run = place / "killed.sqlite"
    # deterministic places to die in: after the k-th commit
    script = (
        "import os, signal, sys\n"
        "from edgeq.runs.store import Run\n"
        "left, commit = [int(sys.argv.pop(1))], Run.transaction\n"
        "from contextlib import contextmanager\n"
        "@contextmanager\n"
        "def counted(self):\n"
        "    with commit(self):\n"
        "        yield\n"
        "    left[0] -= self._depth == 0\n"
        "    if left[0] == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Run.transaction = counted\n"
        "from edgeq.cli.main import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", script]
    deaths = 0
    for commits in (6, 3, 5, 7, 4, 6, 8, 1000):
        words = ["resume", str(run)] if run.exists() else ["attack", "--target", "model.tflite", *BASE, "--run", str(run)]
        done = subprocess.run([*command, str(commits), *words], cwd=place, capture_output=True, text=True, timeout=120)
        deaths += done.returncode == -signal.SIGKILL
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr
    assert deaths >= 3
    assert rows_of(run) == rows_of(whole)


def test_rows_do_not_depend_on_threads(finished, place):
    whole, _ = finished
    edgeq("attack", "--target", "model.tflite", *BASE, "--threads", "1", "--run", "one.sqlite", cwd=place)
    assert rows_of(place / "one.sqlite") == rows_of(whole)


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(place):
    run = place / "interrupted.sqlite"
    slow = ["--data", "digits", "--runtime", "litert-xnnpack", "--n", "300", "--attack", "spsa:steps=5000:batch=64", "--eps", "1/255"]
    # a shell that runs the tests in the background has SIGINT ignored, and children inherit that
    script = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from edgeq.cli.main import main; main()"
    command = [sys.executable, "-c", script, "attack", "--target", "model.tflite", *slow, "--run", str(run)]
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while time.monotonic() < until and not (run.exists() and all_images_are_in(run, 300)):
        time.sleep(0.05)
    time.sleep(0.5)
    other = edgeq("resume", run, cwd=place, code=2)
    assert "another process" in other.stderr
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "edgeq resume" in err
    assert "Traceback" not in err
    assert len(rows_of(run)[0]) == 300


def test_the_budget_and_the_gate(place):
    arguments = ["attack", "--target", "model.tflite", *BASE, *OWN, "--max-queries", "9", "--json"]
    done = edgeq(*arguments, "--run", "gate.sqlite", "--fail-under", "1.0", cwd=place, code=1)
    printed = json.loads(done.stdout)
    queries = [c["targets"][0]["queries"]["all"] for c in printed["cells"] if c["kind"] == "query"]
    assert all(q["p90"] <= 9 for q in queries)
    edgeq("resume", "gate.sqlite", "--fail-under", "0.0", cwd=place)


def test_a_dead_file_passes_no_gate_and_is_said_above_all_figures(place):
    """Its scores are one, whatever the image: ten equal ones, and of these the first is the only class it is ever right on."""
    (place / "dead.tflite").write_bytes(tiny_tflite.classifier(dead=True))
    arguments = ["attack", "--target", "dead.tflite", *BASE, "--max-queries", "9", "--run", "dead.sqlite", "--fail-under"]
    done = edgeq(*arguments, "0.9", cwd=place, code=2)
    assert done.stdout.startswith("WARNING: litert-xnnpack answers all 24 clean images with the same scores")
    assert "cannot be judged" in done.stderr
    edgeq("resume", "dead.sqlite", "--fail-under", "0.01", cwd=place, code=2)
    edgeq("report", "dead.sqlite", "-o", "dead.html", cwd=place)
    page = (place / "dead.html").read_text()
    assert page.index("litert-xnnpack answers all 24 clean images with the same scores") < page.index("clean accuracy")
    found = json.loads(edgeq("report", "dead.sqlite", "--json", cwd=place).stdout)
    assert "So it is with litert-reference." in found["warnings"][0]
    assert len(found["warnings"]) == 2  # what looks wrong, and what it means
    clean = found["clean"][0]
    assert 1 <= clean["accuracy"]["k"] <= 3  # the share of one class of ten
    assert found["lowest"] is None
    assert (clean["with_ties"]["share"], clean["ties"]["share"]) == (1, 1)


def test_export_run_gives_every_row_as_csv(finished, place):
    whole, _ = finished
    done = edgeq("export-run", whole, "--csv", cwd=place)
    table = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(table) == len(rows_of(whole)[2])


def test_a_spsa_attack_leaves_tensorflow_alone(place):
    heavy = "sorted({'tensorflow', 'keras', 'jax', 'onnx'} & set(sys.modules))"
    script = f"import sys; from edgeq.cli.main import main\ntry: main()\nfinally: print({heavy})"
    arguments = ["attack", "--target", "model.tflite", "--data", "digits", "--n", "2", "--attack", "spsa", "--max-queries", "3"]
    arguments += ["--run", "bare.sqlite"]
    done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=place, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


GOOD = {"--target": "model.tflite", "--attack": "spsa", "--eps": "8/255", "--data": "digits", "--n": "4"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"--target": "missing.tflite"}, "no such file"),
        ({"--target": "empty.tflite"}, "empty"),
        ({"--target": "short.tflite"}, "truncated|damaged"),
        ({"--target": "text.tflite"}, "not a"),
        ({"--target": "detector.tflite"}, "outputs|detect"),
        ({"--target": "segmentation.tflite"}, "segmentation|map|spatial"),
        ({"--target": "autoencoder.tflite"}, "autoencoder|image"),
        ({"--target": "two.tflite"}, "inputs"),
        ({"--target": "edgetpu.tflite"}, "Edge TPU"),
        ({"--target": "puzzling.tflite"}, "--output"),
        ({"--attack": "spas"}, "did you mean spsa"),
        ({"--attack": "spsa:stesp=3"}, "no option 'stesp'"),
        ({"--attack": "spsa:batch=3"}, "even"),
        ({"--attack": "pgd", "--target": "model.onnx"}, "model.onnx: .*damaged"),
        ({"--eps": "0.5/255"}, "below one pixel"),
        ({"--eps": "nope"}, "not a radius"),
        ({"--norm": "l2"}, "no l2 form"),
        ({"--data": "digit"}, "digits"),
        ({"--data": "npz:nan.npz"}, "NaN"),
        ({"--data": "npz:labels.npz"}, "label"),
        ({"--data": "zip:slip.zip"}, r"\.\."),
        ({"--runtime": "litert-xnpack"}, "litert-xnnpack"),
        ({"--runtime": "ort"}, "sibling"),
        ({"--device": "stm32f649"}, "stm32f469"),
        ({"--source": "missing.h5", "--attack": "pgd"}, "no such file"),
        ({"--run": "taken.sqlite"}, "exists"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_nothing_is_written(bad, change, says):
    import re

    before = sorted(p.relative_to(bad) for p in bad.rglob("*"))
    done = edgeq("attack", *[word for pair in {**GOOD, **change}.items() for word in pair], cwd=bad, code=2)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("edgeq: ")
    assert re.search(says, last), last
    assert done.stdout == ""
    assert sorted(p.relative_to(bad) for p in bad.rglob("*")) == before


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    import zipfile

    folder = tmp_path_factory.mktemp("bad")
    good = tiny_tflite.classifier()
    files = {
        "model": good, "empty": b"", "short": good[: len(good) // 2], "text": b"hello, I am no model" * 20,
        "detector": tiny_tflite.detector(), "segmentation": tiny_tflite.segmentation(), "autoencoder": tiny_tflite.autoencoder(),
        "two": tiny_tflite.two_inputs(), "edgetpu": tiny_tflite.edgetpu(), "puzzling": tiny_tflite.puzzling(),
    }  # fmt: skip
    for name, content in files.items():
        (folder / f"{name}.tflite").write_bytes(content)
    images = np.zeros((4, 8, 8, 1), np.float32)
    np.savez(folder / "nan.npz", x_test=np.where(np.arange(64).reshape(8, 8, 1) == 5, np.nan, images), y_test=np.arange(4))
    np.savez(folder / "labels.npz", x_test=images.astype(np.uint8), y_test=np.array([0, 1, 2, 99]))
    with zipfile.ZipFile(folder / "slip.zip", "w") as archive:
        archive.writestr("../a/0.png", b"x")
    (folder / "model.onnx").write_bytes(b"no matter: options are looked at first")
    (folder / "taken.sqlite").write_bytes(b"mine")
    return folder


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full to stand for a full disk")
def test_a_full_disk_is_said_when_json_cannot_be_written(place, finished):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edgeq", "resume", str(finished[0]), "--json"],
            cwd=place, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120,
        )  # fmt: skip
    assert done.returncode == 2
    assert "no space left" in done.stderr
