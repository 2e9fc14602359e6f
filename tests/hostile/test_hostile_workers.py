"""Files that behave on black and on noise, and hang or fill the memory on another image; workers that are stopped or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_tflite
from tiny_tflite import B, schema

from edgeq import runtimes
from edgeq.pipeline.codes import codes_for
from edgeq.pipeline.preprocess import Preprocess
from edgeq.runs.execute import execute
from edgeq.runs.plan import Plan
from edgeq.runs.prepare import prepare
from edgeq.runs.store import Run
from edgeq.runtimes import _process, tensors
from edgeq.targets import access


def lite(deed: str) -> bytes:
    """A dense layer over an 8x8 image; the ``deed`` is done where an image is nowhere darker than 200, as black and noise are."""
    g, rng = tiny_tflite.Graph(), np.random.default_rng(0)
    image, codes = g.tensor("image", (1, 8, 8, 1), "int8", 1 / 255, -128), g.tensor("codes", (1, 8, 8, 1), "float32")
    flat = g.tensor("flat", (1, 64), "float32")
    g.op(B.CAST, [image], [codes], schema.CastOptionsT())
    g.op(B.RESHAPE, [codes, g.tensor("shape", (2,), "int32", data=[-1, 64])], [flat], schema.ReshapeOptionsT())
    darkest, most, bright = g.tensor("darkest", (1,), "float32"), g.tensor("most", (), "float32"), g.tensor("bright", (), "bool")
    g.op(B.REDUCE_MIN, [flat, g.tensor("pixels", (1,), "int32", data=[1])], [darkest], schema.ReducerOptionsT())
    g.op(B.REDUCE_MAX, [darkest, g.tensor("images", (1,), "int32", data=[0])], [most], schema.ReducerOptionsT())
    g.op(B.GREATER, [most, g.tensor("200", (), "float32", data=200 - 128)], [bright], schema.GreaterOptionsT())
    done = g.tensor("done", (), "float32")
    {"hang": _hang, "fill": _fill}[deed](g, bright, done)
    zero = g.tensor("zero", (), "float32")
    g.op(B.MUL, [done, g.tensor("0", (), "float32", data=0)], [zero], schema.MulOptionsT())
    weights, bias = g.tensor("w", (10, 64), "float32", data=rng.normal(size=(10, 64))), g.tensor("b", (10,), "float32", data=np.zeros(10))
    scores, out = g.tensor("scores", (1, 10), "float32"), g.tensor("logits", (1, 10), "float32")
    g.op(B.FULLY_CONNECTED, [flat, weights, bias], [scores], schema.FullyConnectedOptionsT())
    g.op(B.ADD, [scores, zero], [out], schema.AddOptionsT())
    return g.done([image], [out])


def _fill(g: tiny_tflite.Graph, bright: int, done: int) -> None:
    """Two billion bytes where it is bright, else none."""
    number, many, dims = g.tensor("number", (), "int32"), g.tensor("many", (), "int32"), g.tensor("dims", (1,), "int32")
    g.op(B.CAST, [bright], [number], schema.CastOptionsT())
    g.op(B.MUL, [number, g.tensor("half a billion", (), "int32", data=500_000_000)], [many], schema.MulOptionsT())
    g.op(B.RESHAPE, [many, g.tensor("one", (1,), "int32", data=[1])], [dims], schema.ReshapeOptionsT())
    big = g.tensor("big", (1,), "float32")
    g.op(B.FILL, [dims, g.tensor("1", (), "float32", data=1)], [big], schema.FillOptionsT())
    g.op(B.SUM, [big, g.tensor("axis", (1,), "int32", data=[0])], [done], schema.ReducerOptionsT())


def _hang(g: tiny_tflite.Graph, bright: int, done: int) -> None:
    """A loop that goes on for as long as it is bright."""
    for name in ("cond", "body"):
        sub, value = schema.SubGraphT(), schema.TensorT()
        value.name, value.shape, value.type = name.encode(), [], tiny_tflite.TYPES["bool"]
        sub.tensors, sub.operators, sub.inputs, sub.outputs = [value], [], [0], [0]
        g.others.append(sub)
    options, last = schema.WhileOptionsT(), g.tensor("last", (), "bool")
    options.condSubgraphIndex, options.bodySubgraphIndex = 1, 2
    g.op(B.WHILE, [bright], [last], options)
    g.op(B.CAST, [last], [done], schema.CastOptionsT())


def onnx(deed: str) -> bytes:
    """The same as an ``.onnx``."""
    from onnx import TensorProto, helper, numpy_helper

    def node(op: str, given: list[str], made: str, **options: Any) -> Any:
        return helper.make_node(op, given, [made], **options)

    constants = {"200": np.float32(200 / 255), "w": np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)}
    constants |= {
        "0": np.float32(0),
        "many": np.int64(500_000_000 if deed == "fill" else 2**60),
        "one": np.array([1]),
        "true": np.array(True),
    }
    nodes = [
        node("DequantizeLinear", ["image", "scale", "zero"], "real"),
        node("Flatten", ["real"], "flat"),
        node("ReduceMin", ["flat"], "darkest", axes=[1], keepdims=0),
        node("ReduceMax", ["darkest"], "most", keepdims=0),
        node("Greater", ["most", "200"], "bright"),
        node("Cast", ["bright"], "number", to=TensorProto.INT64),
        node("Mul", ["number", "many"], "count"),
    ]
    if deed == "fill":
        one = numpy_helper.from_array(np.array([1], np.float32))
        nodes += [node("Reshape", ["count", "one"], "dims"), node("ConstantOfShape", ["dims"], "big", value=one)]
        nodes.append(node("ReduceSum", ["big"], "done", keepdims=0))
    else:
        ends = [
            helper.make_tensor_value_info(*x, []) for x in (("i", TensorProto.INT64), ("on", TensorProto.BOOL), ("v", TensorProto.FLOAT))
        ]
        made = [helper.make_tensor_value_info(*x, []) for x in (("go", TensorProto.BOOL), ("u", TensorProto.FLOAT))]
        body = helper.make_graph([node("Identity", ["on"], "go"), node("Abs", ["v"], "u")], "body", ends, made)
        nodes.append(node("Loop", ["count", "true", "0"], "done", body=body))
    nodes += [node("Mul", ["done", "0"], "nothing"), node("MatMul", ["flat", "w"], "scores"), node("Add", ["scores", "nothing"], "logits")]
    constants |= {"scale": np.float32(1 / 255), "zero": np.int8(-128)}
    graph = helper.make_graph(
        nodes,
        "hostile",
        [helper.make_tensor_value_info("image", TensorProto.INT8, ["n", 8, 8, 1])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def opened(name: str, path: Path, **options: Any) -> Any:
    signature = runtimes.probe(name, path, output="logits")
    return runtimes.open(name, path, signature, codes_for(signature.input, Preprocess((8, 8), 1), "m"), **options)


BLACK, WHITE = np.zeros((3, 8, 8, 1), np.uint8), np.full((3, 8, 8, 1), 255, np.uint8)
CASES = [(n, d) for n in ("litert-xnnpack", "litert-builtin", "litert-reference", "ort") for d in ("fill", "hang")] + [("tflm", "hang")]


@pytest.mark.parametrize(("name", "deed"), CASES)
def test_what_behaves_when_it_is_tried_is_ended_on_a_real_image(name: str, deed: str, tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip({"tflm": "tflite_micro", "ort": "onnxruntime"}.get(name, "numpy"))
    monkeypatch.setattr(_process, "CPU", 0.2)
    path = tmp_path / ("m.onnx" if name == "ort" else "m.tflite")
    path.write_bytes((onnx if name == "ort" else lite)(deed))
    target = opened(name, path, threads=2)
    processes = [worker.process for worker in target._workers]
    for process in processes:
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        assert int(limits.partition("Max data size")[2].split()[0]) < 2**30, "no worker can take a GiB"
    assert len(target.answer(BLACK)) == 3
    words = {"hang": r"did not answer \d images? in [\d.]+ s of processor time$", "fill": "cannot run it: .*(FILL|memory|alloc)"}
    start = time.monotonic()
    with pytest.raises(runtimes.WorkerError, match=words[deed]) as caught:
        target.answer(WHITE)
    assert str(caught.value).startswith(f"{path}: {name} ")
    assert not isinstance(caught.value, runtimes.LostError), "it is the file's doing"
    assert time.monotonic() - start < 20
    assert all(p.poll() is not None for p in processes)


def test_inner_tensors_are_read_within_the_same_limits(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(_process, "CPU", 0.2)
    path = tmp_path / "m.tflite"
    for deed, words in (("hang", "did not give the inner tensors of an image in"), ("fill", "FILL")):
        path.write_bytes(lite(deed))
        signature = runtimes.probe("litert-reference", path, output="logits")
        inner = tensors.open("litert-reference", path, signature, codes_for(signature.input, Preprocess((8, 8), 1), "m"))
        assert len(inner(BLACK)) > 5
        with pytest.raises(runtimes.WorkerError, match=words):
            inner(WHITE)


def test_a_worker_writes_no_file_and_takes_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_tflite.classifier())
    target = opened("litert-xnnpack", path, threads=2)
    lines = Path(f"/proc/{target._workers[0].process.pid}/limits").read_text().splitlines()
    target.close()
    soft = {line[:25].strip(): line[25:].split()[0] for line in lines}
    assert soft["Max file size"] == soft["Max core file size"] == "0"
    assert 2**28 <= int(soft["Max data size"]) < 2**30


@pytest.mark.parametrize("name", ["litert-xnnpack", "tflm"])
def test_a_worker_that_is_stopped_is_ended_and_named(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("tflite_micro" if name == "tflm" else "numpy")
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_tflite.classifier())
    target = opened(name, path, threads=2)
    process = target._workers[-1].process
    os.kill(process.pid, signal.SIGSTOP)
    monkeypatch.setattr(_process, "patience", lambda _: 0.3)
    with pytest.raises(runtimes.LostError, match=rf"m\.tflite: {name} did not answer \d images? in 0\.3 s \(its process is stopped\)"):
        target.answer(WHITE)
    assert process.returncode == -signal.SIGKILL


def test_time_that_this_process_slept_is_not_the_workers(tmp_path: Path, monkeypatch: Any) -> None:
    """Ctrl-Z, a closed laptop: the clock ran on for both."""
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_tflite.classifier())
    target = opened("litert-reference", path, threads=1)
    process, real, began = target._workers[0].process, time.monotonic, time.monotonic()
    monkeypatch.setattr(_process, "TICK", 0.05)
    monkeypatch.setattr(_process.time, "monotonic", lambda: began + 1e6 * (real() - began))
    os.kill(process.pid, signal.SIGSTOP)
    threading.Timer(0.3, os.kill, (process.pid, signal.SIGCONT)).start()
    assert len(target.answer(WHITE)) == 3
    target.close()


def test_no_worker_outlives_its_parent(tmp_path: Path) -> None:
    """Killed by SIGKILL while one of its workers computes without end, and another is stopped."""
    path = tmp_path / "m.tflite"
    path.write_bytes(lite("hang"))
    code = f"""
import os, signal, sys, threading, time
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
from pathlib import Path
from test_hostile_workers import WHITE, opened
a, b = (opened("litert-reference", Path({str(path)!r}), threads=1) for _ in "ab")
threading.Thread(target=a.answer, args=(WHITE,), daemon=True).start()
os.kill(b._workers[0].process.pid, signal.SIGSTOP)
time.sleep(0.2)
print(a._workers[0].process.pid, b._workers[0].process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=False, timeout=60)
    pids = [int(text) for text in done.stdout.split()]
    assert len(pids) == 2
    until = time.monotonic() + 5
    while time.monotonic() < until and any(_lives(pid) for pid in pids):
        time.sleep(0.02)
    assert not any(_lives(pid) for pid in pids)


def _lives(pid: int) -> bool:
    """Whether the process runs; one that only waits for somebody to take its status does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _plan(tmp_path: Path, content: bytes, images: np.ndarray, **options: Any) -> Plan:
    (tmp_path / "m.tflite").write_bytes(content)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(len(images)) % 10)
    given = {"attacks": ("spsa:steps=3:batch=8",), "access": "scores", "n": None, "eps": ("8/255",)}
    return Plan(targets=(str(tmp_path / "m.tflite"),), data=f"npz:{tmp_path / 'images.npz'}", **(given | options))


def _rows(path: Path) -> list[Any]:
    with Run.open(path) as run:
        cells, every = run.cells(), np.arange(run.n)
        return [
            (
                run.candidates(c.cell, every).tolist(),
                run.queries(c.cell).tolist(),
                *(run.labels_of(c.cell, t.id).tolist() for t in run.targets()),
            )
            for c in cells
        ]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_run_goes_on_from_where_its_worker_was_lost(number: int, tmp_path: Path, monkeypatch: Any) -> None:
    """While it attacks, and while it replays: the rows at the end are those of a run that nothing happened to."""
    monkeypatch.setattr(_process, "patience", lambda _: 0.3 if number == signal.SIGSTOP else 20)
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), np.uint8)
    plan = _plan(tmp_path, tiny_tflite.classifier(), images, runtimes=("litert-reference", "litert-builtin"), threads=1)
    setting = prepare(plan)
    with setting.create(tmp_path / "quiet.sqlite", []) as run:
        execute(run, setting)
    honest, targets, deaths = runtimes.open, [], 0
    due = ["spsa 8/255", "litert-builtin on spsa 8/255"]

    def remember(*args: Any, **options: Any) -> Any:
        targets.append(honest(*args, **options))
        return targets[-1]

    def strike(stage: str, done: int, total: int) -> None:
        if due and stage == due[0]:
            del due[0]
            for target in targets[-2:]:
                os.kill(target._workers[0].process.pid, number)

    monkeypatch.setattr(runtimes, "open", remember)
    path = tmp_path / "lost.sqlite"
    setting.create(path, []).close()
    for _ in range(5):
        with Run.open(path, write=True) as run:
            try:
                execute(run, progress=strike)
                break
            except runtimes.LostError as error:
                deaths += 1
                assert str(error).endswith(f"every finished row is kept, go on with: edgeq resume {path}")  # noqa: PT017
    assert deaths == 2
    assert _rows(path) == _rows(tmp_path / "quiet.sqlite")


def test_a_run_on_a_file_that_hangs_on_one_image_ends_with_exit_code_2(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), np.uint8)
    images[4] = 255
    _plan(tmp_path, lite("fill"), images)
    line = f"attack --target {tmp_path}/m.tflite --output logits --data npz:{tmp_path}/images.npz --attack noise --run {tmp_path}/r.sqlite"
    line += " --runtime litert-reference"
    for text in (line, f"resume {tmp_path}/r.sqlite"):
        done = subprocess.run([sys.executable, "-m", "edgeq", *text.split()], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2, done.stderr
        assert "litert-reference cannot run it: Node number" in done.stderr
        assert f"go on with: edgeq resume {tmp_path}/r.sqlite" in done.stderr


def test_a_probe_that_is_killed_does_not_move_the_attack_to_another_runtime(tmp_path: Path, monkeypatch: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 1), np.uint8)
    plan = _plan(tmp_path, tiny_tflite.classifier(), images)
    honest, lost = runtimes.probe, "litert-xnnpack"

    def probe(name: str, path: Any, *args: Any, **options: Any) -> Any:
        if name != lost:
            return honest(name, path, *args, **options)
        worker = _process.Worker({"task": "probe", "name": name, "path": str(path), "output": None})
        worker.process.kill()
        return worker.receive(9, "finish one image")

    monkeypatch.setattr(runtimes, "probe", probe)
    with pytest.raises(
        runtimes.LostError, match=r"litert-xnnpack was killed from outside \(SIGKILL.*no other runtime is taken in its place"
    ):
        prepare(plan)
    lost = "litert-reference"
    setting = prepare(plan)
    assert setting.targets[0].runs
    assert setting.cells[-1].crafted_on == "m/litert-xnnpack"
    assert any(note.startswith("warning: litert-reference is left out: ") and "SIGKILL" in note for note in setting.notes)
    with pytest.raises(runtimes.LostError, match="litert-reference"):
        prepare(replace(plan, runtimes=("litert-xnnpack", "litert-reference")))
    lost = "litert-builtin"
    with pytest.raises(runtimes.LostError):  # nor is another level of access taken
        access.hindrance("logits", tmp_path / "m.tflite", lost, "probs")


def test_another_runtime_is_attacked_where_the_first_refuses_and_it_is_said(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 1), np.uint8)
    plan = _plan(tmp_path, lite("fill"), images, runtimes=("tflm", "litert-reference"), output="logits")
    pytest.importorskip("tflite_micro")
    setting = prepare(plan)
    assert "litert-reference is attacked, as tflm does not run the file" in setting.notes
