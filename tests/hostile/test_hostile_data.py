"""Data from strangers: every file is images or one sentence, soon and in bounded memory."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import data_files
import numpy as np
import pytest

from edgeq import data
from edgeq.core import devices
from edgeq.core.errors import EdgeqError
from edgeq.data import _decode, _matlab, _pickle
from edgeq.pipeline import metadata, preprocess, sidecar


def refusal(file: Path, content: bytes, kind: str = "") -> str:
    """The sentence that refuses ``content``, within five seconds and 200 MB."""
    file.write_bytes(content)
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(EdgeqError) as error:
        data.open(kind + str(file)).image(0)
    assert time.process_time() - began < 5
    assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
    tracemalloc.stop()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_npz_that_declares_gigabytes(tmp_path: Path) -> None:
    bomb = {"images": ((20 << 20, 2, 2), 80 << 20), "labels": ((20 << 20,), 20 << 20)}
    assert "100 times" in refusal(tmp_path / "d.npz", data_files.npz(bomb))
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):  # thousands of times
        content = data_files.npz({"images": ((9, 2, 2), 36), "labels": ((9,), 9)}, method)
        assert "deflate" in refusal(tmp_path / "d.npz", content)
    many = 3_000_000
    for labels, message in ((many, "3,000,000 images"), (5, "5 labels")):
        content = data_files.npz({"x": ((many, 2, 2), 4 * many), "y": ((labels,), labels)})
        assert message in refusal(tmp_path / "d.npz", content)


@pytest.mark.parametrize(
    "header", ["{'descr': '|u1', 'fortran_order': False, 'shape': ((((", "(" * 5000, "{'descr': [('a', {}, 3)]}", "'\\"]
)
def test_an_npz_header_that_is_no_header(tmp_path: Path, header: str) -> None:
    raw = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header.encode() + b"\n"
    content = data_files.archive({"images.npy": raw + bytes(64), "labels.npy": raw + bytes(64)})
    assert "header" in refusal(tmp_path / "d.npz", content)


def test_images_that_unpack_to_much_more(tmp_path: Path) -> None:
    for name, content in (("a/0.png", data_files.png(5600, 5600)), ("a/0.png", data_files.png(8000, 8000, 8, noise=400_000))):
        assert "make the image smaller" in refusal(tmp_path / "d.zip", data_files.archive({name: content}))
    assert "tiles of 20000 x 20000" in refusal(tmp_path / "d.zip", data_files.archive({"a/0.tif": data_files.tiled_tiff(20000)}))


def test_sixteen_bits_become_eight_in_little_memory() -> None:
    tracemalloc.start()
    pixels = _decode.decode(data_files.png(2000, 2000, noise=20_000), "p.png")
    assert pixels.shape == (2000, 2000, 1)
    assert tracemalloc.get_traced_memory()[1] < 80 * 2**20  # 16 bytes a pixel; it were 24 and more
    tracemalloc.stop()
    wide = np.arange(65536).reshape(256, 256)
    assert np.array_equal(_decode._sixteen(wide.astype(np.int32), ""), ((wide + 128) // 257).astype(np.uint8))


def test_a_large_table_for_few_images(tmp_path: Path) -> None:
    image = data_files.png(4, 4)
    for table in (b"file,label\n" + b"a,b\n" * 10_000_000, b"file," + b"," * 40_000_000):
        assert "too large for 1 images" in refusal(tmp_path / "d.zip", data_files.archive({"0.png": image, "labels.csv": table}))


def test_folders_named_by_large_numbers(tmp_path: Path) -> None:
    for name in ("9" * 100, "9" * 240, "\u0664" * 12):
        content = data_files.archive({f"{name}/0.png": data_files.png(4, 4)})
        assert "too large a number" in refusal(tmp_path / "d.zip", content)
    long = data_files.archive({"9" * 5000 + "/0.png": data_files.png(4, 4)})
    assert "too large a number" in refusal(tmp_path / "d.zip", long)


def test_zips_of_other_methods_and_with_long_listings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        content = bytearray(data_files.archive({"a/0.png": data_files.png(4, 4)}, method))
        assert "deflate" in refusal(tmp_path / "d.zip", bytes(content))
    monkeypatch.setattr("edgeq.core.zips.MAX_LISTING", 1000)
    content = data_files.archive({f"a/{i}.png": b"" for i in range(100)})
    assert "lists more" in refusal(tmp_path / "d.zip", bytes(content))


def test_metadata_whose_labels_cannot_be_unpacked(tmp_path: Path) -> None:
    """Label files lie in a zip behind the model: with the member gone, or packed by LZMA, there are no labels, and no traceback."""
    for archive in (data_files.archive({"other.txt": b"a\nb"}), data_files.archive({"labels.txt": b"a\nb"}, zipfile.ZIP_LZMA)):

        class Entry:
            def text(self, slot: int) -> str:
                return "labels.txt"

            def number(self, slot: int, kind: str) -> int:
                return 2

            def tables(self, slot: int) -> list[Entry]:
                return [self]

        with pytest.raises(metadata.zips.DAMAGE):
            metadata._labels(b"TFL3" + archive, [Entry()])  # type: ignore[list-item]


def test_bad_sidecars_maps_and_words(tmp_path: Path) -> None:
    (tmp_path / "m.edgeq.json").write_text("[" * 100_000)
    with pytest.raises(EdgeqError, match="sidecar"):
        sidecar.read(tmp_path / "m.tflite")
    for text in ("resize=" + "9" * 5000, "resize=\u00b2", "mean=1e999,std=1"):
        with pytest.raises(EdgeqError, match="preprocess"):
            preprocess.Preprocess.parse(text, (4, 4), 1)
    digits = "digits"
    for content in ('a,"' + "x" * 200_000, "a\0,b", '{"a": ' + "9" * 5000 + "}", '{"a": 1e999}', '{"0": NaN}'):
        file = tmp_path / ("m.json" if content.startswith("{") else "m.csv")
        file.write_text(content)
        with pytest.raises(EdgeqError):
            data.open(digits, class_map=file)


def test_a_tar_that_unpacks_to_much_more(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("other")
        info.size = 300 << 20
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    assert "unpacks to more" in refusal(tmp_path / "d.tar.gz", gzip.compress(out.getvalue(), 1), "cifar10:")
    assert "tar file" in refusal(tmp_path / "d.tar.xz", b"\xfd7zXZ\x00" + bytes(2000), "cifar10:")


def test_a_pickle_of_many_opcodes() -> None:
    began = time.process_time()
    with pytest.raises(EdgeqError, match="opcodes"):
        _pickle.read_dict(pickle.PROTO + b"\x02" + pickle.EMPTY_LIST * 400_000 + pickle.STOP, "p")
    assert time.process_time() - began < 5


def test_matlab_arrays_that_unpack_to_much_more() -> None:
    element = zlib.compress(struct.pack("<II", 14, 160 << 20) + bytes(160 << 20), 1)
    content = bytes(126) + b"IM" + (struct.pack("<II", 15, len(element)) + element) * 2
    began = time.process_time()
    with pytest.raises(EdgeqError, match="more than 256 MB"):
        _matlab.read_arrays(content, {"X"}, "m.mat")
    assert time.process_time() - began < 5


def test_device_profiles_with_numbers_beyond_all_reason(tmp_path: Path) -> None:
    for value in ("9" * 5000, "9" * 1000, "-1", "1e308", "[" * 3000):
        (tmp_path / "d.toml").write_text(f"ram_bytes = {value}\n")
        with pytest.raises(EdgeqError) as error:
            devices.load(tmp_path / "d.toml")
        assert len(str(error.value)) < 400
