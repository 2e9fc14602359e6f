"""A board that is a loop of one's own over the pack's bytes."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnxruntime
import tiny_onnx

import edgeq
from edgeq.core.errors import EdgeqError
from edgeq.core.reporter import Silent
from edgeq.runs.store import Run

N = 40


class Heard(Silent):
    def __init__(self):
        self.lines = []

    def say(self, text, style=""):
        self.lines.append(text)


@pytest.fixture(scope="module", params=["int8", "float32"])
def run(request, tmp_path_factory):
    """An attacked network of 3 x 8 x 6 whose own labels are the true ones, and what else its input says."""
    folder = tmp_path_factory.mktemp(request.param)
    file = folder / "m.onnx"
    file.write_bytes(tiny_onnx.classifier(8, 6, nchw=True, softmax=False, floats=request.param == "float32"))
    pixels = np.random.default_rng(0).integers(0, 256, (N, 8, 6, 3)).astype(np.uint8)
    options = {"preprocess": "mean=0,std=255"}
    with edgeq.open(file, **options) as target:
        labels = target.answer(pixels).label()
    images = edgeq.Images(pixels, labels)
    with edgeq.attack(file, images, "spsa:steps=1:batch=8", eps="8/255", run=folder / "r.sqlite", **options):
        return folder / "r.sqlite", file, request.param


def answers(pack, file, shape, dtype):
    """What onnxruntime itself says to the bytes of the pack, read as images of ``shape``."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    with open(pack / "index.csv", newline="") as stream:
        lines = list(csv.DictReader(stream))
    with open(pack.parent / "answers.csv", "w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "cell", *(f"score_{k}" for k in range(10))])
        for line in lines:
            values = np.fromfile(pack / line["file"], dtype, 144, offset=int(line["offset"]))
            image = values.reshape(shape).transpose(2, 0, 1) if shape[2] == 3 else values.reshape(shape)
            writer.writerow([line["id"], line["cell"], *session.run(None, {"image": image[None]})[0][0].tolist()])
    return pack.parent / "answers.csv"


def test_a_file_of_channel_height_width_gets_its_own_bytes_and_a_board_that_reads_them_otherwise_is_warned_of(run, tmp_path):
    path, file, dtype = run
    packed = edgeq.pack(path, tmp_path / "board")
    assert (packed["input"]["shape"], packed["input"]["layout"]) == ([3, 8, 6], "nchw")
    assert "in the order channel, height, width (3 x 8 x 6)" in (tmp_path / "board/README.md").read_text()
    heard = Heard()
    edgeq.score(path, answers(tmp_path / "board", file, (3, 8, 6), dtype), "right", replace=True, reporter=heard)
    assert heard.lines == []
    edgeq.score(path, answers(tmp_path / "board", file, (8, 6, 3), dtype), "wrong", replace=True, reporter=heard)
    with Run.open(path) as opened:
        for cell in opened.cells():
            assert (opened.labels_of(cell.cell, "right") == opened.labels_of(cell.cell, "m/ort")).all()
    (line,) = heard.lines
    assert line.startswith("warning: wrong is right on 0.")
    assert "m/ort on 1.000 of the same 40" in line
    assert "which no rounding explains: check the layout" in line


def test_a_run_without_a_layout_is_packed_by_its_file_or_not_at_all(run, tmp_path):
    path, file, _ = run
    edgeq.pack(path, tmp_path / "new")
    copy, elsewhere = tmp_path / "old.sqlite", tmp_path / "elsewhere.onnx"
    copy.write_bytes(path.read_bytes())
    with Run.open(copy, write=True) as opened, opened.transaction():
        record = next(t for t in opened.targets() if t.id == "m/ort")
        signature = json.dumps({k: v for k, v in record.spec.signature.to_json().items() if k != "layout"})
        opened._db.execute("UPDATE targets SET signature = ? WHERE id = 'm/ort'", (signature,))
    with Run.open(copy) as opened:
        old = next(t for t in opened.targets() if t.id == "m/ort").spec
        assert old == replace(record.spec, signature=replace(record.spec.signature, layout=""))
    edgeq.pack(copy, tmp_path / "old")
    assert all(f.read_bytes() == (tmp_path / "new" / f.name).read_bytes() for f in (tmp_path / "old").glob("*.bin"))
    edgeq.resume(copy)
    file.rename(elsewhere)
    try:
        with pytest.raises(EdgeqError, match=r"before runs recorded the input layout of .*m\.onnx, which is gone or another file now"):
            edgeq.pack(copy, tmp_path / "gone")
    finally:
        elsewhere.rename(file)
