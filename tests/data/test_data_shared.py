"""The real archives beside the project."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq import data
from edgeq.pipeline.preprocess import default

SHARED = Path(__file__).parents[3] / "shared" / "data"
pytestmark = [pytest.mark.shared, pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is not there")]


def test_cifar10_as_60000_jpegs() -> None:
    opened = data.open(f"zip:{SHARED / 'cifar10-jpeg.zip'}", classes=10)
    assert len(opened) == 10_000
    assert opened.classes == ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    chosen = data.sample(opened, 500, 0)
    assert np.bincount(opened.labels[chosen]).tolist() == [50] * 10
    batch = data.decode(opened, chosen[:20], default((32, 32), 3, (32, 32, 3))[0].apply)
    assert batch.shape == (20, 32, 32, 3)
    assert 60 < batch.mean() < 180


def test_imagenet_sample() -> None:
    opened = data.open(f"zip:{SHARED / 'imagenet-sample-200.zip'}", classes=1001)
    assert len(set(opened.labels.tolist())) == len(opened) == 200
    assert "label_1001" in opened.notes[0]
    shapes = [opened.image(i).shape for i in range(0, 200, 20)]
    prepare, sentence = default((128, 128), 3, shapes[0])
    assert "shorter side to 146" in sentence
    assert data.decode(opened, range(0, 200, 20), prepare.apply).shape == (10, 128, 128, 3)
