"""Data sets that Keras can download. Called by name from :mod:`edgeq.data`, which never imports TensorFlow."""

from __future__ import annotations

import os
from pathlib import Path

from edgeq.core.errors import EdgeqError

# Origin and SHA-256 as in Keras's own loader. The file is read by edgeq's restricted unpickler, not by Keras.
SOURCES = {
    "cifar10": (
        "cifar-10-batches-py.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    )
}


def fetch(name: str) -> Path:
    """The file of the data set ``name`` in Keras's cache, downloaded (170 MB for cifar10) and checked if it is not there.

    Raises :class:`EdgeqError` where there is no network, ModuleNotFoundError where there is no TensorFlow.
    """
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    from tf_keras.utils import get_file

    file, origin, digest = SOURCES[name]
    try:
        return Path(get_file(file, origin, file_hash=digest, cache_subdir="datasets"))
    except Exception as error:  # urllib's, http's, ssl's and Keras's own
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise EdgeqError(f"{name}: could not be downloaded ({reason}); write {name}:PATH with the official file") from None
