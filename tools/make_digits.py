"""Makes edgeq/data/_digits.npz from scikit-learn's digits: ``python tools/make_digits.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def main() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
    if images.shape != (1797, 8, 8) or not (images == digits.images).all() or images.max() != 16:
        raise SystemExit("scikit-learn's digits are no longer 1,797 images of 8x8 whole numbers 0..16")
    path = Path(__file__).parents[1] / "edgeq" / "data" / "_digits.npz"
    np.savez_compressed(path, images=images, labels=labels)
    print(f"{path.name}: {len(images)} images, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
