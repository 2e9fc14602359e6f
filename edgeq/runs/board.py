"""Bring your own board: write a run's inputs as the device takes them, and take back what it answered.

``pack``: one raw ``.bin`` a cell (images one after another, encoded through the target's pixel codes), ``index.csv``, ``index.json``,
a C header with the first few, and a README. ``score``: a CSV of labels or scores becomes one more target of the run.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from edgeq.core.answer import Answer, Kind
from edgeq.core.cell import Cell
from edgeq.core.errors import EdgeqError, printable
from edgeq.core.files import scratch
from edgeq.core.plugins import choose
from edgeq.core.signature import Signature, Tensor
from edgeq.integer import classifier, read
from edgeq.pipeline.codes import PixelCodes
from edgeq.runs.format import LIMIT, RunTarget
from edgeq.runs.store import Run
from edgeq.targets.spec import KERAS, TargetSpec, short

ENGINE = "answers.csv"
CHUNK = 256  # images in memory at once
_C_TYPES = {"int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t", "float32": "float"}

README = """# Inputs for a device

Written by `edgeq pack` from the run `{run}`, encoded for `{target}`: {described}.

- `cell-*.bin`: one file an attack and radius; cell 0 is the clean images. Images stand one after another, {count} values of {dtype} each
  ({bytes} bytes), in the order {order} ({sizes}), little-endian: exactly the bytes of the input tensor.
- `index.csv`: `cell,id,label,file,offset`, a line an image; `offset` is in bytes, `label` is the true class, 0-based.
- `index.json`: the same facts about the files, with their SHA-256.
- `images.h`: the first {header} images as C arrays, for a first test without a file system.

Run every image on the device and write a CSV with the columns `id,cell,label` (the class it answered), or better `id,cell,score_0,
score_1,...` (the raw output tensor: then ties are judged as for every other runtime). Rows may be missing. Then:

    edgeq score {run} answers.csv --name "my board"
"""


def pack(run: Run, directory: Path, target: str | None = None, header: int = 16) -> dict[str, Any]:
    """Writes the pack into ``directory``, which must be new or empty; all of it or nothing. Returns what stands in ``index.json``.

    ``target``: whose input codes to use; by default the first that is no Keras network. ``header``: images in the C header.
    """
    record, codes = _codes(run, target)
    layout = _layout(run, record)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise EdgeqError(f"{directory}: exists and is not an empty folder; choose another with -o")
    begun = False
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with scratch(directory.parent) as folder:
            begun, work = True, folder / "pack"
            work.mkdir()
            index = _write(run, work, record, codes, layout, header)
            os.replace(work, directory)
    except OSError as error:
        advice = "nothing was kept, make room and try again" if begun else "choose another place with -o"
        raise EdgeqError(f"{directory}: cannot be written ({error.strerror}); {advice}") from None
    return index


def _codes(run: Run, target: str | None) -> tuple[RunTarget, PixelCodes]:
    able = {t.id: t for t in run.targets(running=True) if t.spec.codes is not None and t.spec.answers}
    by_name = {**{name: able[id] for id, name in short(t.spec for t in able.values()).items()}, **able}
    if target is not None:
        choose("target with input codes in this run", target, list(by_name))
    elif not able:
        raise EdgeqError(f"{run.path}: no target of this run says how a pixel enters it, so nothing can be packed")
    record = by_name[target] if target else next((t for t in able.values() if t.spec.runtime != KERAS), next(iter(able.values())))
    codes = record.spec.codes
    assert codes is not None
    if codes.table.shape not in ((256, run.shape[2]), (256, 1)) or str(codes.table.dtype) not in _C_TYPES:
        raise EdgeqError(f"{run.path}: the input codes of {record.id} do not fit its images; run the attack again")
    return record, codes


def _layout(run: Run, record: RunTarget) -> str:
    """``nhwc`` or ``nchw``: how the target's input tensor lies in memory."""
    assert record.spec.signature is not None
    if (layout := record.spec.signature.layout) or record.spec.runtime == KERAS:
        return layout or "nhwc"
    file = next((Path(a.file) for a in run.artifacts() if a.sha256 == record.spec.artifact), None)
    if file is None or not file.exists() or read.sha256(file) != record.spec.artifact:
        where = "of its file" if file is None else f"of {file}, which is gone or another file now"
        raise EdgeqError(f"{run.path}: was made before runs recorded the input layout {where}; put it back, or run the attack again")
    model = read.read(file)
    seen = classifier.image_layout(model.tensors[model.inputs[0]].shape)
    return seen[1] if seen else "nhwc"


def _write(run: Run, work: Path, record: RunTarget, codes: PixelCodes, layout: str, header: int) -> dict[str, Any]:
    size = math.prod(run.shape) * codes.table.itemsize
    step = max(1, min(CHUNK, LIMIT // size))
    ids, labels = run.ids(), run.labels()
    cells = [(cell, index) for cell in run.cells() if len(index := np.flatnonzero(run.done(cell.cell) & (ids >= 0)))]
    each = max(1, -(-header // max(1, len(cells))))
    listed, first, axes = [], [], (2, 0, 1) if layout == "nchw" else (0, 1, 2)
    with open(work / "index.csv", "w", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(["cell", "id", "label", "file", "offset"])
        for cell, index in cells:
            name, digest = _file_name(cell), hashlib.sha256()
            with open(work / name, "wb") as out:
                for start in range(0, len(index), step):
                    chunk = index[start : start + step]
                    encoded = codes.encode(run.candidates(cell.cell, chunk)).transpose(0, *(1 + a for a in axes))
                    data = encoded.astype(encoded.dtype.newbyteorder("<")).tobytes()
                    out.write(data)
                    digest.update(data)
                    lines.writerows([cell.cell, ids[i], labels[i], name, (start + k) * size] for k, i in enumerate(chunk.tolist()))
                    if start == 0:
                        first += [(cell.cell, int(ids[i]), int(labels[i]), e) for i, e in zip(chunk[:each], encoded, strict=False)]
            facts = {"attack": cell.attack, "norm": cell.norm, "eps": cell.eps, "crafted_on": cell.crafted_on}
            listed.append({"cell": cell.cell, **facts, "file": name, "images": len(index), "sha256": digest.hexdigest()})
    _header(work / "images.h", first[:header], size // codes.table.itemsize, codes)
    shape = [run.shape[a] for a in axes]
    written = {
        "format": 1,
        "run": run.path.name,
        "target": record.id,
        "input": {
            "shape": shape,
            **({"layout": layout} if layout == "nchw" else {}),  # packs of height, width, channel stay as they were
            "dtype": str(codes.table.dtype),
            "bytes": size,
            "codes": codes.describe(),
        },
        "cells": listed,
    }
    (work / "index.json").write_text(json.dumps(written, indent=2) + "\n")
    facts = {
        "described": codes.describe(),
        "order": ", ".join(("height", "width", "channel")[a] for a in axes),
        "sizes": " x ".join(map(str, shape)),
        "count": math.prod(run.shape),
        "bytes": size,
        "dtype": codes.table.dtype,
        "header": len(first[:header]),
    }
    (work / "README.md").write_text(README.format(run=printable(run.path.name), target=printable(record.id), **facts))
    return written


def _file_name(cell: Cell) -> str:
    words = "clean" if cell.cell == 0 else f"{cell.attack}-{cell.norm}-{255 * cell.eps:.4g}px"
    return f"cell-{cell.cell}-{re.sub('[^a-z0-9.-]+', '-', words.lower())[:40]}.bin"  # the attack's name may come from a stranger's file


def _header(path: Path, images: list[tuple[int, int, int, np.ndarray]], values: int, codes: PixelCodes) -> None:
    """``const`` arrays, so that they stay in flash."""
    kind = _C_TYPES[str(codes.table.dtype)]

    def array(form: str, numbers: list[str]) -> str:
        return f"static const {form} = {{{', '.join(numbers)}}};\n"

    text = "// Written by edgeq pack: input tensors as the device takes them.\n#ifndef EDGEQ_IMAGES_H\n#define EDGEQ_IMAGES_H\n"
    text += f"#include <stdint.h>\n\n#define EDGEQ_IMAGES {len(images)}\n#define EDGEQ_VALUES {values}\n\n"
    text += array("int64_t edgeq_id[EDGEQ_IMAGES]", [f"{i}LL" for _, i, _, _ in images])
    text += array("int32_t edgeq_cell[EDGEQ_IMAGES]", [str(cell) for cell, *_ in images])
    text += array("int32_t edgeq_label[EDGEQ_IMAGES]", [str(label) for _, _, label, _ in images])
    text += f"static const {kind} edgeq_input[EDGEQ_IMAGES][EDGEQ_VALUES] = {{\n"
    for *_, image in images:
        flat = image.reshape(-1).tolist()
        text += "  {" + ",".join(f"{v:#.9g}f" if kind == "float" else str(v) for v in flat) + "},\n"
    path.write_text(text + "};\n\n#endif\n")


def score(run: Run, answers: Path, name: str, replace: bool = False) -> list[str]:
    """Adds what a device answered (``answers``: CSV) to ``run`` as the target ``name``; returns sentences to print.

    Raises :class:`EdgeqError` for an unknown id or cell, a row given twice, a label out of range or a score that is no number, and
    then nothing is written.
    """
    existing = {t.id: t for t in run.targets()}
    if not name.strip() or not name.isprintable() or len(name) > 60:
        raise EdgeqError(f"--name {name!r}: give the board a plain name of at most 60 letters")
    if name in {t.id for t in existing.values() if t.spec.derived != "board"} | {t.spec.runtime for t in existing.values()}:
        raise EdgeqError(f"--name {name}: is a runtime that edgeq itself ran; give the board another name")
    if name in existing and not replace:
        raise EdgeqError(f"--name {name}: has answered already; pass --replace to forget that, or another --name")
    try:
        with open(answers, newline="", encoding="utf-8-sig") as stream:
            cells, scored = _read(run, stream, str(answers))
        sha256 = hashlib.sha256(answers.read_bytes()).hexdigest()
    except UnicodeDecodeError:
        raise EdgeqError(f"{answers}: is no CSV text; write the columns id,cell,label or id,cell,score_0,...") from None
    except OSError as error:
        raise EdgeqError(f"{answers}: cannot be read ({error.strerror})") from None
    labels, written = run.labels(), run.cells()
    given = next((t.spec.signature.input for t in existing.values() if t.spec.signature and t.runs), Tensor(run.shape, "uint8"))
    output = Tensor((scored,), "float32") if scored else Tensor((), "int64")
    kind: Kind = "logits" if scored else "label"
    if scored == 1 and (single := _single(run)):  # where one score parts two classes, as in the file itself
        output, kind = dataclasses.replace(single.output, dtype="float32"), single.kind
    spec = TargetSpec(name, derived="board", signature=Signature(given, output, kind))
    identity = {"engine": ENGINE, "file": answers.name, "sha256": sha256}
    notes = []
    with run.transaction():
        run.remove_target(name)
        run.add(RunTarget(spec, identity=identity))
        for cell in written:
            rows = cells.get(cell.cell, {})
            if len(rows) < run.n:
                notes.append(f"cell {cell.cell} ({cell.attack}): {len(rows)} of {run.n} images are answered")
            if rows:
                idx = np.fromiter(rows, np.int64, len(rows))
                raw = np.array(list(rows.values()), np.float32 if scored else np.int64)
                run.add_answers(cell.cell, name, idx, Answer(kind, raw, output.scale, output.zero), labels[idx])
    if not cells.get(0):
        notes.append("no clean image (cell 0) is answered: robust accuracy needs those too")
    return notes


def _single(run: Run) -> Signature | None:
    """The signature of a file of this run that returns one score of two classes."""
    records = (t.spec for t in run.targets(True) if t.spec.runtime != KERAS)
    return next((s.signature for s in records if s.signature and s.signature.output.shape == (1,)), None)


def _read(run: Run, stream: TextIO, where: str) -> tuple[dict[int, dict[int, Any]], int]:
    """Per cell the answer of each row ``idx``: an int, or a tuple of scores; and the number of scores, 0 for labels."""
    classes = max((s.classes or 0 for t in run.targets(True) if (s := t.spec.signature)), default=0)
    widths = (classes, 1) if _single(run) else (classes,)
    lines = _lines(stream, where)
    head = [h.strip().lower() for h in next(lines, (0, []))[1]]
    scores = [h for h in head if re.fullmatch(r"score_\d+", h)]
    if len(set(head)) != len(head) or not {"id", "cell"} <= set(head) or ("label" in head) == bool(scores):
        raise EdgeqError(f"{where}: its first line must name the columns id,cell,label or id,cell,score_0,score_1,...")
    if scores and (set(scores) != {f"score_{k}" for k in range(len(scores))} or (classes and len(scores) not in widths)):
        raise EdgeqError(f"{where}: must have the columns score_0 to score_{(classes or len(scores)) - 1}, one a class")
    columns = [head.index(f"score_{k}") for k in range(len(scores))] or [head.index("label")]
    by_id = {int(i): k for k, i in enumerate(run.ids().tolist()) if i >= 0}
    have = {cell.cell: run.done(cell.cell) for cell in run.cells()}
    cells: dict[int, dict[int, Any]] = {}
    for number, line in lines:
        if not any(line):
            continue
        at = f"{where}, line {number}"
        if len(line) != len(head):
            raise EdgeqError(f"{at}: has {len(line)} fields where the first line has {len(head)}")
        cell, row = _whole(line[head.index("cell")], at), by_id.get(_whole(line[head.index("id")], at))
        if cell not in have or row is None or not have[cell][row]:
            raise EdgeqError(f"{at}: this run has no image with that id and cell; use those of index.csv, written by edgeq pack")
        if row in cells.setdefault(cell, {}):
            raise EdgeqError(f"{at}: this image of cell {cell} was answered before; give each once")
        if scores:
            values = tuple(_finite(line[c], at) for c in columns)
            cells[cell][row] = values
        else:
            label = _whole(line[columns[0]], at)
            if not 0 <= label < (classes or 2**31):
                raise EdgeqError(f"{at}: label {label} is out of range; classes are 0 to {(classes or 2**31) - 1}")
            cells[cell][row] = label
    if not cells:
        raise EdgeqError(f"{where}: contains no answers")
    return cells, len(scores)


def _lines(stream: TextIO, where: str) -> Iterator[tuple[int, list[str]]]:
    try:
        reader = csv.reader(stream)
        for line in reader:
            yield reader.line_num, line
    except csv.Error as error:
        raise EdgeqError(f"{where}: is no CSV text ({error}); write the columns id,cell,label or id,cell,score_0,...") from None


def _whole(text: str, at: str) -> int:
    if not re.fullmatch(r"\s*-?\d{1,19}\s*", text):
        raise EdgeqError(f"{at}: {text[:40]!r} is no whole number")
    return int(text)


def _finite(text: str, at: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and abs(value) < 3e38):
        raise EdgeqError(f"{at}: {text[:40]!r} is no finite number")
    return value
