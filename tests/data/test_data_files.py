"""digits, cifar10, svhn and npz: their files, true and hostile."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeq import data
from edgeq.core.errors import EdgeqError
from edgeq.data import _pickle
from edgeq.data._matlab import read_arrays

RNG = np.random.default_rng(1)


def outcome(call: Callable[[], Any]) -> Any:
    """What ``call`` returns, or the sentence it raises. Any other exception fails the test."""
    try:
        return call()
    except EdgeqError as error:
        return str(error)


# digits


def test_digits_are_scikit_learns_and_split_in_strata() -> None:
    sklearn = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    theirs = sklearn.load_digits()
    splits = {name: data.open("digits", name, classes=10) for name in ("train", "test")}
    assert {name: len(s) for name, s in splits.items()} == {"train": 1438, "test": 359}
    assert sorted(int(n) for s in splits.values() for n in s.names) == list(range(1797))
    for opened in splits.values():
        index = [int(n) for n in opened.names]
        assert (opened.labels == theirs.target[index]).all()
        assert (np.array([opened.image(i)[..., 0] for i in range(len(opened))]) == np.rint(theirs.images[index] * 255 / 16)).all()
    counts = np.bincount(splits["test"].labels) / np.bincount(theirs.target)
    assert np.abs(counts - 0.2).max() < 0.005
    assert splits["test"].names[:4] == ["2", "6", "17", "18"]  # the split never moves


# cifar10


def python2_pickle(pixels: np.ndarray, labels: list[int], numpy_module: str = "numpy.core.multiarray") -> bytes:
    """A batch as Python 2's cPickle wrote the official files: protocol 2, byte strings."""

    def text(value: bytes) -> bytes:
        return (b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    array = (
        f"c{numpy_module}\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85q\x03".encode("latin1")
        + text(b"b") + b"q\x04\x87q\x05Rq\x06(K\x01" + number(pixels.shape[0]) + number(pixels.shape[1]) + b"\x86q\x07cnumpy\ndtype\nq\x08"
        + text(b"u1") + b"q\x09K\x00K\x01\x87q\x0aRq\x0b(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0cb\x89"
        + text(pixels.tobytes()) + b"q\x0dtq\x0eb"
    )  # fmt: skip
    return (
        b"\x80\x02}q\x00(" + text(b"data") + array + text(b"labels") + b"]q\x0f(" + b"".join(map(number, labels)) + b"e"
        + text(b"batch_label") + text(b"testing batch 1 of 1") + text(b"filenames") + b"]q\x10(" + text(b"a.png") + b"eu."
    )  # fmt: skip


PIXELS = RNG.integers(0, 256, (12, 3072), np.uint8)
LABELS = [int(v) for v in RNG.integers(0, 10, 12)]
OFFICIAL = python2_pickle(PIXELS, LABELS)


def cifar_folder(path: Path, batch: bytes = OFFICIAL) -> str:
    folder = path / "cifar-10-batches-py"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("test_batch", *(f"data_batch_{i}" for i in range(1, 6))):
        (folder / name).write_bytes(batch)
    return f"cifar10:{folder}"


def test_the_test_writes_what_numpy_reads() -> None:
    value = pickle.loads(OFFICIAL, encoding="bytes")  # our own bytes
    assert (value[b"data"] == PIXELS).all()
    assert value[b"labels"] == LABELS


@pytest.mark.parametrize(
    "batch",
    [
        OFFICIAL,
        python2_pickle(PIXELS, LABELS, "numpy._core.multiarray"),
        *(pickle.dumps({"data": PIXELS, "labels": LABELS, "filenames": ["a"]}, protocol=p) for p in (2, 3, 4)),
        pickle.dumps({b"data": PIXELS, b"labels": LABELS}, protocol=4),
    ],
    ids=["python 2", "numpy 2", "protocol 2", "protocol 3", "protocol 4", "bytes keys"],
)
def test_cifar10_images_and_labels(tmp_path: Path, batch: bytes) -> None:
    opened = data.open(cifar_folder(tmp_path, batch), classes=10)
    assert opened.labels.tolist() == LABELS
    planes = PIXELS[5].reshape(3, 32, 32)  # red, green, blue; rows first
    assert (opened.image(5) == np.dstack(list(planes))).all()
    assert opened.classes is not None
    assert opened.classes[3] == "cat"
    assert opened.names[5] == "test/00005"
    assert len(data.open(f"cifar10:{tmp_path}", "train")) == 60


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_cifar10_from_a_tar(tmp_path: Path, mode: str) -> None:
    folder = cifar_folder(tmp_path).removeprefix("cifar10:")
    with tarfile.open(tmp_path / "cifar.tar", mode) as archive:
        archive.add(folder, "cifar-10-batches-py")
    opened = data.open(f"cifar10:{tmp_path / 'cifar.tar'}")
    assert opened.sha256() == data.open(f"cifar10:{folder}").sha256()


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_hostile_pickle_does_not_run(tmp_path: Path, protocol: int) -> None:
    canary = tmp_path / "ran"
    attack = pickle.dumps({"data": Hostile(canary), "labels": [1]}, protocol=protocol)
    spec = cifar_folder(tmp_path, attack)
    with pytest.raises(EdgeqError, match="was not unpickled"):
        data.open(spec)
    assert not canary.exists()
    pickle.loads(attack)
    assert canary.exists()  # it was hostile indeed


def mark_bomb() -> bytes:
    """Nested tuples as a dictionary key: 2^64 steps to hash."""
    return b"\x80\x02}q\x00(K\x01K\x02\x86" + b"2\x86" * 64 + b"K\x01u."


@pytest.mark.parametrize(
    "attack",
    [
        b"\x80\x02}cbuiltins\neval\nU\x011\x85R.",
        b"\x80\x02}cposix\nsystem\nU\x02id\x85R.",
        b"\x80\x02cnumpy\nload\nU\x01x\x85R.",
        b"\x80\x05\x96\x00\x00\x00\x00\xff\x00\x00\x00.",  # a bytearray of a terabyte
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nJ\xff\xff\xff\x7f\x85U\x01b\x87R}b.",
        b"\x80\x02cnumpy\ndtype\n}X\x04\x00\x00\x00nameX\x01\x00\x00\x00xsb.",
        mark_bomb(),
        OFFICIAL[: len(OFFICIAL) // 2],
        b"",
        b"]",
        b"\x80\x02]q\x00.",
    ],
    ids=["eval", "system", "numpy.load", "bytearray", "shape", "build", "hash", "truncated", "empty", "no stop", "list"],
)
def test_hostile_and_damaged_pickles_are_one_sentence(attack: bytes) -> None:
    with pytest.raises(EdgeqError, match="is no CIFAR file") as caught:
        _pickle.read_dict(attack, "x")
    assert "\n" not in str(caught.value)


def test_a_huge_memo_index_allocates_nothing() -> None:
    # the C unpickler would allocate 32 GB for this
    assert _pickle.read_dict(b"\x80\x02}r\xff\xff\xff\x7f.", "x") == {}


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes_of_a_pickle_give_a_dictionary_or_a_sentence(flips: list[tuple[int, int]]) -> None:
    content = bytearray(python2_pickle(PIXELS[:1, :64], LABELS[:1]))
    for at, value in flips:
        content[at % len(content)] = value
    found = outcome(lambda: _pickle.read_dict(bytes(content), "x"))
    assert isinstance(found, dict) or "CIFAR" in found


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (PIXELS[:, :3000], LABELS, "3,072 bytes"),
        (PIXELS, LABELS[:-1], "12 images and 11 labels"),
        (PIXELS, [10, *LABELS[1:]], "contains the label 10"),
        (PIXELS, [-1, *LABELS[1:]], "contains the label -1"),
    ],
)
def test_cifar10_with_wrong_content(tmp_path: Path, pixels: np.ndarray, labels: list[int], message: str) -> None:
    with pytest.raises(EdgeqError, match=message):
        data.open(cifar_folder(tmp_path, python2_pickle(np.ascontiguousarray(pixels), labels)))


def test_cifar10_missing_files(tmp_path: Path) -> None:
    with pytest.raises(EdgeqError, match="contains no test_batch"):
        data.open(f"cifar10:{tmp_path}")
    with pytest.raises(EdgeqError, match="there is no file or folder"):
        data.open(f"cifar10:{tmp_path / 'none'}")
    (tmp_path / "x.tar.gz").write_bytes(b"\x1f\x8bnonsense")
    with pytest.raises(EdgeqError, match="is not a tar file"):
        data.open(f"cifar10:{tmp_path / 'x.tar.gz'}")


def test_cifar10_is_downloaded_only_where_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    fetched = []

    def fetch(name: str) -> Path:
        fetched.append(name)
        return Path(cifar_folder(tmp_path / "fetched").removeprefix("cifar10:"))

    monkeypatch.setitem(sys.modules, "edgeq.keras.datasets", SimpleNamespace(fetch=fetch))
    with pytest.raises(EdgeqError, match="cifar10:download to fetch it"):
        data.open("cifar10")
    assert not fetched
    assert data.open("cifar10:download").labels.tolist() == LABELS
    assert fetched == ["cifar10"]


def test_cifar10_is_looked_for_in_keras_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    cifar_folder(tmp_path / "datasets")
    assert data.open("cifar10").labels.tolist() == LABELS


# svhn


def mat_file(arrays: dict[str, np.ndarray], compress: bool) -> bytes:
    scipy = pytest.importorskip("scipy.io", reason="scipy, which writes the file, is not installed")
    stream = io.BytesIO()
    scipy.savemat(stream, arrays, do_compression=compress)
    return stream.getvalue()


CROPS = RNG.integers(0, 256, (32, 32, 3, 9), np.uint8)
DIGITS = np.array([[10], [1], [2], [3], [4], [5], [9], [10], [7]])


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("kind", [np.uint8, np.float64])
def test_svhn_counts_ten_as_zero(tmp_path: Path, compress: bool, kind: type) -> None:
    (tmp_path / "test_32x32.mat").write_bytes(mat_file({"X": CROPS, "y": DIGITS.astype(kind)}, compress))
    opened = data.open(f"svhn:{tmp_path}", classes=10)
    assert opened.labels.tolist() == [0, 1, 2, 3, 4, 5, 9, 0, 7]
    assert all((opened.image(i) == CROPS[..., i]).all() for i in range(9))
    assert len(data.open(f"svhn:{tmp_path / 'test_32x32.mat'}")) == 9
    with pytest.raises(EdgeqError, match=r"contains no train_32x32\.mat"):
        data.open(f"svhn:{tmp_path}", "train")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": CROPS, "y": DIGITS + 1}, "contains the label 11"),
        ({"X": CROPS, "y": DIGITS - 2}, "contains the label -1"),
        ({"X": CROPS, "y": DIGITS[:5]}, "9 images and 5 labels"),
        ({"X": CROPS, "y": DIGITS * 0.3}, "is not a whole number"),
        ({"X": CROPS[:16], "y": DIGITS}, r"X has shape \(16, 32, 3, 9\)"),
        ({"X": CROPS.astype(np.float32), "y": DIGITS}, "float32"),
        ({"X": CROPS}, "contains no X and y"),
    ],
)
def test_svhn_with_wrong_content(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    (tmp_path / "test_32x32.mat").write_bytes(mat_file(arrays, True))
    with pytest.raises(EdgeqError, match=message):
        data.open(f"svhn:{tmp_path}")


def test_svhn_is_not_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(EdgeqError, match="write svhn:PATH"):
        data.open("svhn")


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@example(compress=False, flips=[(220, 40)], cut=0)  # its numbers are missing
@given(st.booleans(), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 600))
def test_damaged_matlab_files_give_arrays_or_a_sentence(compress: bool, flips: list[tuple[int, int]], cut: int) -> None:
    content = bytearray(mat_file({"X": np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "y": np.ones((4, 1))}, compress))
    for at, value in flips:
        content[at % len(content)] = value
    found = outcome(lambda: read_arrays(bytes(content[: len(content) - cut % 97]), {"X", "y"}, "x"))
    assert (isinstance(found, dict) and set(found) <= {"X", "y"}) or "MATLAB" in found


# npz


def npz(path: Path, compressed: bool = False, **arrays: np.ndarray) -> str:
    (np.savez_compressed if compressed else np.savez)(path / "d.npz", **arrays)
    return f"npz:{path / 'd.npz'}"


X = RNG.integers(0, 256, (6, 5, 4, 3), np.uint8)
Y = np.array([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize(
    "arrays",
    [
        {"x_test": X, "y_test": Y},
        {"images": X, "labels": Y[:, None].astype(np.uint8)},
        {"images": X.astype(np.float64), "labels": Y.astype(float)},
        {"images": X.astype(np.int32), "labels": Y},
        {"images": (X / 255).astype(np.float32), "labels": Y},
        {"images": X.transpose(0, 3, 1, 2), "labels": Y},
        {"images": np.asfortranarray(X), "labels": Y},
        {"test_images": X, "test_labels": Y, "train_images": X[:2], "train_labels": Y[:2]},
    ],
    ids=["uint8", "column", "float64", "int32", "unit floats", "channels first", "fortran", "medmnist"],
)
def test_npz_arrays_are_pixels(tmp_path: Path, compressed: bool, arrays: dict[str, np.ndarray]) -> None:
    opened = data.open(npz(tmp_path, compressed, **arrays), classes=3)
    assert opened.labels.tolist() == Y.tolist()
    assert (np.array([opened.image(i) for i in range(6)]) == X).all()
    assert opened.image(0).dtype == np.uint8


def test_npz_notes_say_what_was_taken_as_what(tmp_path: Path) -> None:
    assert "taken as pixel/255 and rounded" in data.open(npz(tmp_path, images=X / 255, labels=Y)).notes[0]
    assert "(n, c, h, w)" in data.open(npz(tmp_path, images=X.transpose(0, 3, 1, 2), labels=Y)).notes[0]
    assert "x_train is used" in data.open(npz(tmp_path, x_train=X, y_train=Y)).notes[0]
    assert data.open(npz(tmp_path, images=X[..., 0], labels=Y)).image(0).shape == (5, 4, 1)


def test_npz_of_one_image_does_not_read_the_others(tmp_path: Path) -> None:
    opened = data.open(npz(tmp_path, images=X, labels=Y))
    path = tmp_path / "d.npz"
    with path.open("r+b") as file:  # the second image changes on disk after opening: a map shows it, a copy would not
        at = path.read_bytes().index(X[1].tobytes())
        file.seek(at)
        file.write(bytes(X[1].size))
    assert (opened.image(1) == 0).all()
    assert (opened.image(0) == X[0]).all()


NAN = np.where(np.arange(6)[:, None, None, None] == 4, np.nan, X / 255)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": NAN, "labels": Y}, "image 4 contains NaN"),
        ({"images": X / 127.5 - 1, "labels": Y}, "values run from -"),
        ({"images": X.astype(np.int16) + 1, "labels": Y}, "to 256"),
        ({"images": X, "labels": Y + 0.5}, "is not a whole number"),
        ({"images": X, "labels": np.full(6, np.nan)}, "label nan of row 0"),
        ({"images": X, "labels": np.eye(6)}, "one whole number an image"),
        ({"images": X, "labels": Y - 1}, "label -1 of images/0 is negative"),
        ({"images": X, "labels": Y + 1}, "label 3 of images/2 is outside"),
        ({"images": X, "labels": Y[:5]}, "6 images, and labels 5 labels"),
        ({"images": X.reshape(6, -1), "labels": Y}, "give \\(n, h, w\\)"),
        ({"images": np.array([1, "a"], object), "labels": Y}, "object"),
        ({"images": np.array(["a"]), "labels": Y}, "not numbers"),
        ({"x": X}, "contains no x_test and y_test"),
    ],
)
def test_npz_with_wrong_content(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(EdgeqError, match=message):
        data.open(npz(tmp_path, **arrays), classes=3)


def test_npz_whose_header_promises_more_than_it_holds(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**6, 3)})
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(10))
        archive.writestr("labels.npy", header.getvalue() + bytes(10))
    with pytest.raises(EdgeqError, match="is larger than 8 GB"):
        data.open(f"npz:{tmp_path / 'd.npz'}")


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.booleans(), st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_npz_gives_images_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, compressed: bool, flips: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("npz")
    npz(folder, compressed, images=X[:2], labels=Y[:2])
    content = bytearray((folder / "d.npz").read_bytes())
    for at, value in flips:
        content[at % len(content)] = value
    (folder / "d.npz").write_bytes(content)
    found = outcome(lambda: data.open(f"npz:{folder / 'd.npz'}").image(0))
    assert "d.npz" in found if isinstance(found, str) else found.dtype == np.uint8
