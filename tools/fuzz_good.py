"""The good files that ``tools/fuzz_files.py`` damages, small ones, with what their commands need beside them.

``python tools/fuzz_good.py m.h5`` writes the Keras network: a process of its own, as TensorFlow must not be loaded where others are made.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np


def make(root: Path, kinds: list[str]) -> None:
    """A good file of every kind with what its commands need beside it, and a file that nothing may touch."""
    import tiny_onnx
    import tiny_tflite
    from PIL import Image

    good = root / "good"
    good.mkdir()
    (good / "canary.txt").write_text("nobody reads this")
    tflite, rng = tiny_tflite.classifier(), np.random.default_rng(0)
    for kind in kinds:
        (folder := good / kind).mkdir()
        if kind not in ("onnx", "h5", "keras"):
            (folder / "m.tflite").write_bytes(tflite)
        if kind == "onnx":
            (folder / "m.onnx").write_bytes(tiny_onnx.classifier(c=1))
        elif kind in ("h5", "keras"):
            subprocess.run([sys.executable, __file__, str(folder / f"m.{kind}")], check=True, capture_output=True)
        elif kind == "npz":
            np.savez_compressed(folder / "d.npz", x_test=rng.integers(0, 256, (20, 8, 8, 1), np.uint8), y_test=np.arange(20) % 10)
        elif kind == "zip":
            with zipfile.ZipFile(folder / "d.zip", "w") as archive:
                for i, suffix in enumerate(("png", "tiff", "webp", "jpg", "gif", "bmp", "ppm", "png", "jpg", "png")):
                    out = io.BytesIO()
                    Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(out, {"jpg": "jpeg"}.get(suffix, suffix))
                    archive.writestr(f"{i}.{suffix}", out.getvalue())
                table = "".join(f"{i.filename},{n}\n" for n, i in enumerate(archive.infolist()))
                archive.writestr("labels.csv", "file,label\n" + table)
        elif kind == "sidecar":
            value = {
                "preprocess": "none,mean=0,std=255",
                "labels": [str(i) for i in range(10)],
                "files": {"m.tflite": {"sha256": "0" * 64}},
            }
            (folder / "m.edgeq.json").write_text(json.dumps(value))
        elif kind == "run":
            argv = [
                "attack",
                "--target",
                str(folder / "m.tflite"),
                "--data",
                "digits",
                "--n",
                "6",
                "--attack",
                "spsa",
                "--max-queries",
                "300",
            ]
            argv += ["--runtime", "litert-reference", "--run", str(folder / "run.sqlite")]
            subprocess.run([sys.executable, "-m", "edgeq", *argv], check=True, capture_output=True)
            (folder / "scores.csv").write_text("0,1\n1,2\n")


def make_keras(path: str) -> None:
    import tf_keras as keras

    layers = [
        keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ]
    keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 255), *layers, keras.layers.Softmax()]).save(path)


if __name__ == "__main__":
    make_keras(sys.argv[1])
