"""Training and export leave out images that cannot be read, where that is asked for, and their sidecars name them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeq.build.export import export
from edgeq.build.train import train
from edgeq.core.errors import EdgeqError

pytest.importorskip("tf_keras")
pytestmark = pytest.mark.tensorflow


def test_training_and_export_leave_out_what_cannot_be_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in range(2):
            (tmp_path / f"d/{split}/{label}").mkdir(parents=True)
            for i in range(12):
                pixels = rng.integers(0, 100, (8, 8), np.uint8) + np.uint8(100 * label)
                Image.fromarray(pixels).save(tmp_path / f"d/{split}/{label}/{i}.png")
        (tmp_path / f"d/{split}/0/3.png").write_bytes(b"no image")
    asked = {"output": tmp_path, "skip_unreadable": True}
    with pytest.raises(EdgeqError, match=r"train/0/3\.png: is not an image .*--skip-unreadable"):
        train("digits_cnn", data=f"folder:{tmp_path / 'd'}", epochs=1, output=tmp_path)
    trained = train("digits_cnn", data=f"folder:{tmp_path / 'd'}", epochs=1, **asked)
    assert trained.to_json()["unreadable"] == ["train/0/3.png", "test/0/3.png"]
    assert trained.test.n == 23

    exported = export(trained.path, formats=("tflite",), layers=0, **asked).to_json()
    assert exported["recipe"]["unreadable"] == ("train/0/3.png",)
    assert (exported["recipe"]["n"], exported["unreadable"]) == (23, ["test/0/3.png"])
