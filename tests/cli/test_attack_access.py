"""The access ladder from outside: what `edgeq attack` takes by itself, what it says, and what it refuses."""

import json
import re
import sqlite3
import subprocess
import sys

import pytest
import tiny_tflite

CHEAP = ["--data", "digits", "--n", "16", "--eps", "24/255", "--runtime", "litert-xnnpack,litert-reference", "--json"]
WALL = "sorted({'tensorflow', 'keras', 'jax', 'onnx'} & set(sys.modules))"


def edgeq(*arguments, cwd, code=0, before=""):
    """Runs the command as a process; ``before``: what that process does first."""
    script = f"import sys\n{before}\nfrom edgeq.cli.main import main\ntry: main()\nfinally: print('modules', {WALL}, file=sys.stderr)"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240)
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ladder")
    for name, options in {"model": {}, "logits": {"softmax": False}, "label": {"label": True}}.items():
        (folder / f"{name}.tflite").write_bytes(tiny_tflite.classifier(seed=3, **options))
    return folder


def attack_cells(printed):
    return [c for c in printed["cells"] if c["kind"] != "noise"]


@pytest.mark.tensorflow
def test_with_nothing_but_the_file_it_takes_gradients_with_both_clamps_and_says_so(place):
    done = edgeq("attack", "--target", "model.tflite", *CHEAP, cwd=place)
    printed = json.loads(done.stdout)
    (cell,) = attack_cells(printed)
    assert (cell["attack"], cell["access"], cell["crafted_on"]) == ("pgd", "gradients", "model/litert-xnnpack")
    assert [z["clamp"] for z in cell["zero_gradients"]] == ["clipped", "through"]
    assert all(z["rows"]["of"] == 16 and z["pixels"]["of"] == 16 * 64 for z in cell["zero_gradients"])
    assert printed["access"]["level"] == "gradients"
    said = "access: gradients, the strongest that model.tflite allows here"
    assert said in done.stderr
    assert any(said.capitalize() in sentence for sentence in printed["threat_model"])
    assert any("has the file" in sentence for sentence in printed["threat_model"])
    robust = {(c["attack"], line["target"]): line["robust_accuracy"]["k"] for c in printed["cells"] for line in c["targets"]}
    assert robust["pgd", "model/litert-xnnpack"] <= robust["noise", "model/litert-xnnpack"]


def test_without_tensorflow_it_takes_logits_and_says_what_is_missing(place):
    gone = "sys.modules['tensorflow'] = sys.modules['tf_keras'] = None"
    arguments = ["--target", "model.tflite", *CHEAP, "--max-queries", "300"]
    done = edgeq("attack", *arguments, cwd=place, before=gone)
    printed = json.loads(done.stdout)
    (cell,) = attack_cells(printed)
    assert (cell["attack"], cell["access"], cell["crafted_on"]) == ("spsa", "logits", "model/litert-xnnpack")
    assert 'gradients need TensorFlow; pip install "edgeq[keras]"' in done.stderr
    refused = edgeq("attack", *arguments, "--access", "gradients", cwd=place, before=gone, code=2)
    assert "edgeq[keras]" in refused.stderr


@pytest.mark.parametrize(
    ("file", "access", "kept"), [("model", "logits", "probs"), ("model", "scores", "probs"), ("logits", "logits", "logits")]
)
def test_queries_see_what_was_asked_for_and_leave_tensorflow_alone(place, file, access, kept):
    done = edgeq("attack", "--target", f"{file}.tflite", *CHEAP, "--access", access, "--max-queries", "120", cwd=place)
    printed = json.loads(done.stdout)
    (cell,) = attack_cells(printed)
    assert (cell["attack"], cell["access"], cell["kind"]) == ("spsa", access, "query")
    assert printed["access"] == {"level": access, "sentence": f"access: {access}, as asked"}
    assert printed["targets"][0]["signature"]["kind"] == kept, "what is measured is the file's own output"
    assert "modules []" in done.stderr
    run = place / re.search(r"run: (\S+\.sqlite)", done.stderr)[1]
    db = sqlite3.connect(run)
    joined = "FROM candidates c JOIN answers a ON c.cell = a.cell AND c.idx = a.idx WHERE c.cell = 2"
    joined += f" AND a.target = '{file}/litert-xnnpack'"
    stopped = db.execute(f"SELECT a.correct {joined} AND c.queries < 120").fetchall()
    assert stopped
    assert not any(correct for (correct,) in stopped), "success is the real output's, whatever the attack saw"


def test_an_argmax_is_taken_away_like_a_softmax(place):
    arguments = ["--target", "label.tflite", *CHEAP, "--access", "logits", "--max-queries", "300", "--n", "80"]
    printed = json.loads(edgeq("attack", *arguments, cwd=place).stdout)
    line = attack_cells(printed)[0]["targets"][0]
    assert line["robust_accuracy"]["k"] < line["clean_accuracy"]["k"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--access", "label", "--attack", "spsa"], "spsa needs scores, and only the label is seen"),
        (["--access", "scores", "--attack", "pgd"], "--access scores gives none; add --source FLOAT.h5, or use --access gradients"),
        (["--access", "scores", "--target", "label.tflite"], "--access scores: it answers with a bare label"),
        (["--access", "gradients", "--target", "label.tflite"], "--access gradients: "),
        (["--runtime", "tflm-exact", "--target", "label.tflite"], "ARG_MAX"),
        (["--clamp", "pass"], "--clamp"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence(place, arguments, says):
    before = sorted(place.rglob("*"))
    done = edgeq("attack", "--target", "model.tflite", "--data", "digits", "--n", "4", *arguments, cwd=place, code=2)
    last = [line for line in done.stderr.splitlines() if line.startswith("edgeq: ")][-1]
    assert says in last
    assert sorted(place.rglob("*")) == before


@pytest.mark.tensorflow
def test_source_and_file_stand_in_one_table_in_pairs(digits_models, tmp_path):
    arguments = ["--target", digits_models.tflite, "--source", digits_models.keras, "--access", "gradients", "--data", "digits"]
    more = ["--attack", "fgsm", "--n", "60", "--eps", "32/255", "--runtime", "litert-xnnpack,litert-builtin", "--json"]
    printed = json.loads(edgeq("attack", *arguments, *more, cwd=tmp_path).stdout)
    source, file = attack_cells(printed)
    assert [t["runtime"] for c in (source, file) for t in printed["targets"] if t["id"] == c["crafted_on"]] == ["keras", "litert-xnnpack"]
    (pair,) = printed["white_box"]
    assert pair["cells"] == [source["cell"], file["cell"]]
    assert [line["target"].split("/")[1] for line in pair["targets"]] == ["litert-xnnpack", "litert-builtin"]
    for line in pair["targets"]:
        a, b = (next(t for t in c["targets"] if t["target"] == line["target"])["robust_accuracy"]["k"] for c in (source, file))
        assert (line["source"]["k"], line["file"]["k"]) == (a, b)
        assert line["only_source"] - line["only_file"] == a - b
    assert [z["clamp"] for z in source["zero_gradients"]] == [""]


def test_queries_to_tflm_exact_are_confirmed_by_tflm(place):
    pytest.importorskip("tflite_micro")
    arguments = ["--target", "model.tflite", "--data", "digits", "--n", "16", "--runtime", "tflm-exact"]
    arguments += ["--eps", "24/255", "--attack", "spsa:steps=4:batch=16"]
    done = edgeq("attack", *arguments, "--run", "exact.sqlite", "--json", cwd=place)
    printed = json.loads(done.stdout)
    (cell,) = attack_cells(printed)
    assert cell["crafted_on"] == "model/tflm-exact"
    assert [line["target"] for line in cell["targets"]] == ["model/tflm"]
    assert cell["targets"][0]["queries"]["all"]["median"] >= 1
    (confirmed,) = printed["confirmed"]
    assert (confirmed["by"], confirmed["rows"], confirmed["differ"]) == ("model/tflm", 3 * 16, 0)
    assert "0 of 48 differ" in " ".join(printed["threat_model"])
    slow = edgeq("attack", *[a if a != "tflm-exact" else "tflm" for a in arguments], "--run", "tflm.sqlite", "--json", cwd=place)
    assert json.loads(slow.stdout)["cells"][1]["targets"] == cell["targets"], "the same rows as queries to TFLM itself"
    # one byte of what the stand-in answered is changed: it is said loudly, and TFLM's answers stay in the table
    db = sqlite3.connect(place / "exact.sqlite")
    db.execute("UPDATE answers SET scores = zeroblob(length(scores)) WHERE target = 'model/tflm-exact' AND cell = 2 AND idx = 5")
    db.commit()
    db.close()
    again = edgeq("resume", "exact.sqlite", cwd=place)
    assert "tflm-exact IS NOT tflm HERE: 1 of 48 rows differ; tflm's count" in again.stdout
