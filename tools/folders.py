"""Folders of photographs as people have them: does edgeq answer what a loop of one's own answers, image by image?

    python tools/folders.py IMAGES.zip MODEL.tflite LABELS.txt [-o FOLDER]

IMAGES.zip: images/nXXXXXXXX_name.JPEG and a labels.csv with the columns file and label_1000 (ImageNet's classes, from 0). MODEL: a
classifier of 1,001 classes, the first of which is the background, with a uint8 input of N x N. LABELS: its class names, a line each.

From the images six folders are made. Each is given to `edgeq attack`, in a process of its own, and to the loop below, which decodes, turns,
resizes and crops by Pillow and numpy and asks LiteRT's interpreter; it uses nothing of edgeq. Prints the table of docs/results/folders.md.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

TURNED = {6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180, 8: Image.Transpose.ROTATE_270}
"""How a photograph that stands upright is stored, by its EXIF orientation."""
Photo = tuple[str, int, bytes]
"""File name, class of 1,000, content."""


def photos(archive: Path) -> list[Photo]:
    with zipfile.ZipFile(archive) as packed:
        rows = csv.DictReader(io.StringIO(packed.read("labels.csv").decode()))
        return [(Path(row["file"]).name, int(row["label_1000"]), packed.read(row["file"])) for row in rows]


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def class_index(found: list[Photo], names: list[str]) -> str:
    """As Keras's imagenet_class_index.json. Ids of classes that no image is of are made up."""
    index = {str(i): [f"n{i:08d}", names[i + 1]] for i in range(1000)}
    for name, label, _ in found:
        index[str(label)][0] = name[:9]
    return json.dumps(index)


def in_another_mode(content: bytes, k: int) -> tuple[str, bytes]:
    """A suffix and the image in grey, with a palette, in CMYK, at half its width, or as lossless WebP."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    return [
        lambda: (".png", saved(image.convert("L"), "PNG")),
        lambda: (".png", saved(image.convert("P", palette=Image.Palette.ADAPTIVE), "PNG")),
        lambda: (".jpg", saved(image.convert("CMYK"), "JPEG", quality=95)),
        lambda: (".png", saved(image.resize((image.width // 2, image.height)), "PNG")),
        lambda: (".webp", saved(image, "WEBP", lossless=True)),
    ][k % 5]()


def folders(found: list[Photo], names: list[str], place: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Makes each folder below ``place``, whose name it has; yields it with what it is, and options for edgeq."""
    (place / "index.json").write_text(class_index(found, names))
    for name, _, content in found:
        write(place / "wnid" / "val" / name[:9] / name, content)
    yield "wnid", "`val/nXXXXXXXX/`, and a class index with `--class-names`", ["--class-names", str(place / "index.json")]

    lines = [f'"{names[label + 1]}";/home/me/photos/images/{Path(name).stem}' for name, label, _ in found]
    for name, _, content in found:
        write(place / "table" / "images" / name, content)
    (place / "table" / "labels.csv").write_text("\n".join(["label;name", *lines]) + "\n")
    yield "table", "`labels.csv` with names, semicolons and paths from elsewhere; `labels.txt` beside the model", []

    for name, label, content in found:
        write(place / "mapped" / str(label) / name, content)
    mapped = {str(label): label + 1 for _, label, _ in found}
    (place / "map.json").write_text(json.dumps(mapped))
    yield "mapped", "folders `0` to `999`, and a class map", ["--class-map", str(place / "map.json")]

    for k, (name, label, content) in enumerate(found):
        image, orientation, exif = Image.open(io.BytesIO(content)).convert("RGB"), (6, 3, 8, 1)[k % 4], Image.Exif()
        exif[274] = orientation
        stored = image.transpose(TURNED[orientation]) if orientation in TURNED else image
        write(place / "portraits" / str(label + 1) / f"{Path(name).stem}.png", saved(stored, "PNG", exif=exif))
    yield "portraits", "three of four stored on their side or head, with EXIF orientation", []

    for k, (name, label, content) in enumerate(found):
        suffix, other = in_another_mode(content, k)
        write(place / "modes" / str(label + 1) / (Path(name).stem + suffix), other)
    yield "modes", "grey, palette, CMYK, other sizes and shapes, WebP", []

    for name, label, content in found:
        write(place / "broken" / str(label + 1) / name, content[: len(content) // 2] if name == found[0][0] else content)
    yield "broken", "one file cut in half, `--skip-unreadable`", ["--skip-unreadable"]


def own_loop(model: Path, folder: Path, truth: dict[str, int]) -> dict[str, tuple[int, int]]:
    """What the model answers to each image that can be read, and its class of 1,001; by the name's stem."""
    interpreter = Interpreter(str(model))
    interpreter.allocate_tensors()
    given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    side = int(given["shape"][1])
    answers = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpeg", ".jpg", ".png", ".webp")):
        try:
            with Image.open(path) as opened:
                image = ImageOps.exif_transpose(opened).convert("RGB")
        except OSError:
            continue
        short = min(image.size)
        size = round(side / 0.875)
        pixels = np.asarray(image.resize((int(size * image.width / short), int(size * image.height / short)), Image.Resampling.BILINEAR))
        top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
        interpreter.set_tensor(given["index"], pixels[None, top : top + side, left : left + side])
        interpreter.invoke()
        answers[path.stem] = int(interpreter.get_tensor(answer["index"])[0].argmax()), truth[path.stem] + 1
    return answers


def by_edgeq(model: Path, folder: Path, options: list[str], run: Path) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """The same of edgeq's run; and its notes on what it decided."""
    arguments = ["attack", "--target", str(model), "--data", f"folder:{folder}", "--runtime", "litert-xnnpack", "--attack", "noise"]
    arguments += ["--n", "1000", "--json", "--run", str(run), *options]
    notes = json.loads(_edgeq(*arguments))["notes"]
    rows = csv.DictReader(io.StringIO(_edgeq("export-run", str(run), "--csv")))
    clean = (row for row in rows if row["cell"] == "0")
    return {Path(row["name"]).stem: (int(row["answer"]), int(row["label"])) for row in clean}, notes


def _edgeq(*arguments: str) -> str:
    return subprocess.run([sys.executable, "-m", "edgeq", *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("images", "model", "labels"):
        parser.add_argument(name, type=Path)
    parser.add_argument("-o", "--output", type=Path, help="keeps the folders and runs there")
    options = parser.parse_args()
    found, names = photos(options.images), options.labels.read_text().rstrip().splitlines()
    truth = {Path(name).stem: label for name, label, _ in found}
    print("| folder | images | right, own loop | right, edgeq | answers that differ | labels that differ |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        place = options.output or Path(scratch)
        (place / "model").mkdir(parents=True)
        model = Path(shutil.copy(options.model, place / "model"))
        shutil.copy(options.labels, place / "model" / "labels.txt")
        for folder, what, more in folders(found, names, place):
            wanted = own_loop(model, place / folder, truth)
            got, notes = by_edgeq(model, place / folder, more, place / f"{folder}.sqlite")
            apart = [sum(wanted[stem][i] != got[stem][i] for stem in wanted.keys() & got.keys()) for i in (0, 1)]
            counts = [sum(answer == label for answer, label in answers.values()) for answers in (wanted, got)]
            same = "" if wanted.keys() == got.keys() else f" and {len(got)} of edgeq's"
            print(f"| {what} | {len(wanted)}{same} | {counts[0]} | {counts[1]} | {apart[0]} | {apart[1]} |", flush=True)
            print("\n".join(f"  {note}" for note in notes if folder in note), file=sys.stderr)


if __name__ == "__main__":
    main()
