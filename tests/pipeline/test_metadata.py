"""What model files say of themselves: sidecars, and TFLite Metadata built here by hand."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import flatbuffers
import pytest
import tiny_tflite
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.core.errors import EdgeqError
from edgeq.pipeline.metadata import stated

SHARED = Path(__file__).parents[3] / "shared" / "models"


def vector(builder: flatbuffers.Builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def table(builder: flatbuffers.Builder, fields: dict[int, int], numbers: dict[int, tuple[str, int]] | None = None) -> int:
    """A table with offsets in ``fields`` and scalars (``Uint8`` ..) in ``numbers``."""
    builder.StartObject(8)
    for slot, offset in fields.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, (kind, value) in (numbers or {}).items():
        getattr(builder, f"Prepend{kind}Slot")(slot, value, 0)
    return builder.EndObject()


def floats(builder: flatbuffers.Builder, values: list[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return builder.EndVector()


def metadata(mean: list[float], std: list[float], label_file: str | None) -> bytes:
    """ModelMetadata.subgraph_metadata[0], its input's NormalizationOptions and its output's label file."""
    b = flatbuffers.Builder(0)
    options = table(b, {0: floats(b, mean), 1: floats(b, std)})
    unit = table(b, {1: options}, {0: ("Uint8", 1)})
    inputs = vector(b, [table(b, {4: vector(b, [unit])})])
    fields = {2: inputs}
    if label_file is not None:
        name = b.CreateString(label_file)
        fields[3] = vector(b, [table(b, {6: vector(b, [table(b, {0: name}, {2: ("Int8", 2)})])})])
    b.Finish(table(b, {3: vector(b, [table(b, fields)])}), b"M001")
    return bytes(b.Output())


def model(content: bytes, labels: dict[str, str] | None = None) -> bytes:
    """A Model with nothing but its metadata, and the label files in a zip behind it."""
    b = flatbuffers.Builder(0)
    data = b.CreateByteVector(content)
    buffers = vector(b, [table(b, {}), table(b, {0: data})])
    name = b.CreateString("TFLITE_METADATA")
    entries = vector(b, [table(b, {0: name}, {1: ("Uint32", 1)})])
    b.Finish(table(b, {4: buffers, 6: entries}), b"TFL3")
    file = bytes(b.Output())
    if labels is None:
        return file
    stream = io.BytesIO(file)
    with zipfile.ZipFile(stream, "a") as archive:
        for path, text in labels.items():
            archive.writestr(path, text)
    return stream.getvalue()


def write(path: Path, content: bytes) -> Path:
    (path / "m.tflite").write_bytes(content)
    return path / "m.tflite"


def test_normalisation_and_labels_are_read(tmp_path: Path) -> None:
    file = write(tmp_path, model(metadata([127.5], [127.5], "labels.txt"), {"labels.txt": "cat\ndog, hound\n\n"}))
    assert stated(file) == ("mean=127.5,std=127.5", ["cat", "dog, hound"], "TFLite metadata")
    file = write(tmp_path, model(metadata([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], None)))
    assert stated(file) == ("mean=123.675,116.28,103.53,std=58.395,57.12,57.375", None, "TFLite metadata")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"TFL3" * 10,
        metadata([127.5], [127.5], None),  # of another kind
        model(metadata([0.5], [0.0], None)),
        model(metadata([float("nan")], [1.0], None)),
        model(metadata([1.0, 2.0, 3.0, 4.0], [1.0], None)),
        model(metadata([], [], "labels.txt")),  # no zip behind it
        model(b"\xff" * 64),
    ],
)
def test_nothing_useful_is_nothing_said(tmp_path: Path, content: bytes) -> None:
    assert stated(write(tmp_path, content)) == (None, None, "")


WHOLE = model(metadata([127.5], [127.5], "labels.txt"), {"labels.txt": "cat\ndog\n"})


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=5), st.integers(0, len(WHOLE)))
def test_damaged_metadata_never_crashes(tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]], cut: int) -> None:
    content = bytearray(WHOLE)
    for at, value in flips:
        content[at] = value
    spec, labels, where = stated(write(tmp_path_factory.mktemp("m"), bytes(content[: max(cut, 100)])))
    assert (spec is None and labels is None) == (where == "")


def test_a_vector_that_points_at_itself_many_times_is_not_followed(tmp_path: Path) -> None:
    # a length of 2^30 offsets behind the end of the file
    content = bytearray(metadata([127.5], [127.5], None))
    for at in range(0, len(content) - 3, 4):
        changed = content.copy()
        changed[at : at + 4] = b"\xff\xff\xff\x3f"
        spec, _, _ = stated(write(tmp_path, model(bytes(changed))))
        assert spec is None or spec.startswith("mean=")


@pytest.mark.parametrize("name", ["m.edgeq.json", "m.tflite.edgeq.json"])
def test_the_sidecar_is_believed_first(tmp_path: Path, name: str) -> None:
    file = write(tmp_path, WHOLE)
    (tmp_path / name).write_text(json.dumps({"preprocess": "imagenet", "other": 1}))
    assert stated(file) == ("imagenet", ["cat", "dog"], f"{name} and TFLite metadata")
    (tmp_path / name).write_text(json.dumps({"preprocess": "imagenet", "labels": ["a", "b"]}))
    assert stated(file) == ("imagenet", ["a", "b"], name)
    assert stated(tmp_path / "m.onnx")[0] == ("imagenet" if name == "m.edgeq.json" else None)


@pytest.mark.parametrize("mean", [0.0, 127.5])
@pytest.mark.parametrize(("dtype", "spec"), [("uint8", "bytes"), ("int8", None), ("float32", None)])
def test_uint8_inputs_take_pixels_as_they_are(tmp_path: Path, dtype: str, spec: str | None, mean: float) -> None:
    said = metadata([mean], [mean or 1.0], None)
    file = write(tmp_path, tiny_tflite.classifier(dtype=dtype, metadata={"TFLITE_METADATA": said}))
    assert stated(file)[0] == (spec or f"mean={mean},std={mean or 1.0}")


def test_names_beside_the_model_are_taken_where_the_file_has_none(tmp_path: Path) -> None:
    bare = write(tmp_path, model(metadata([127.5], [127.5], None)))
    (tmp_path / "labels.txt").write_text("0 ant\n1 bee\n")
    assert stated(bare) == ("mean=127.5,std=127.5", ["ant", "bee"], "TFLite metadata and labels.txt")
    assert stated(tmp_path / "m.onnx") == (None, ["ant", "bee"], "labels.txt")
    assert stated(write(tmp_path, WHOLE))[1:] == (["cat", "dog"], "TFLite metadata")
    (tmp_path / "labels.txt").write_text("\n")  # about something else
    assert stated(tmp_path / "m.onnx") == (None, None, "")
    (tmp_path / "imagenet_class_index.json").write_text('{"0": ["n01440764", "tench"]}')
    assert stated(tmp_path / "m.onnx") == (None, ["tench, n01440764"], "imagenet_class_index.json")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"preprocess": 1}', '{"labels": [1]}', '{"labels": "cat"}', "[" * 100_000])
def test_a_bad_sidecar_is_one_sentence(tmp_path: Path, text: str) -> None:
    file = write(tmp_path, WHOLE)
    (tmp_path / "m.edgeq.json").write_text(text)
    with pytest.raises(EdgeqError, match=r"m\.edgeq\.json: .*remove it or export again"):
        stated(file)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is not there")
def test_a_file_that_nobody_here_made() -> None:
    spec, labels, where = stated(SHARED / "mobilenet_v1_0.25_128_quant.tflite")
    assert spec == "bytes"
    assert labels == (SHARED / "imagenet_labels_1001.txt").read_text().rstrip().splitlines()
    assert where == "TFLite metadata"
    assert stated(SHARED / "pretrainedResnet_quant.tflite") == (None, None, "")
