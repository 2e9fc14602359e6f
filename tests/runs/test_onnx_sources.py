"""PyTorch users' files in a run: a float ``.onnx`` with its weights in a second file lends gradients to what was quantised from it."""

import shutil

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import tiny_onnx
import torch_files

import edgeq
from edgeq.core.errors import EdgeqError
from edgeq.runs.executors.kit import Parcel
from edgeq.runs.store import Run
from edgeq.targets.spec import Artifact

pytestmark = pytest.mark.tensorflow
OPTIONS = {"preprocess": "mean=0,std=255", "threads": 1}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folder with ``m.onnx``, quantised, and its float network ``float/m.onnx`` with ``m.onnx.data``, as torch exports it; and images."""
    import onnx

    folder = tmp_path_factory.mktemp("torch")
    torch_files.quantised(folder, "qdq").rename(folder / "m.onnx")
    (folder / "float").mkdir()
    proto = onnx.ModelProto.FromString(torch_files.network())
    onnx.save(proto, folder / "float/m.onnx", save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    pixels = torch_files.images(24)
    with edgeq.open(folder / "m.onnx", **OPTIONS) as target:
        labels = target.answer(pixels).label()
    return folder, edgeq.Images(pixels, labels)


def attack(folder, images, **options):
    path = options.pop("run", folder / "r.sqlite")
    with edgeq.attack(folder / "m.onnx", images, "pgd:steps=5", eps="8/255", run=path, **(OPTIONS | options)):
        return path


def test_a_float_onnx_of_two_files_lends_its_gradients_and_both_are_what_was_attacked(files):
    folder, images = files
    file, weights = folder / "float/m.onnx", folder / "float/m.onnx.data"
    path = attack(folder, images, source=file)
    name = Artifact.of(file).sha256[:6]
    with Run.open(path) as run:
        noise, crafted = run.cells()[1:]
        assert crafted.crafted_on == f"m~{name}.onnx/ort"  # and not m/ort, which the target could be called
        target = next(t.id for t in run.targets() if t.spec.role == "target")
        stands = [(run.correct(c.cell, target) == 1).mean() for c in (noise, crafted)]
        assert stands[1] < stands[0] - 0.2, stands
        assert {a.bytes for a in run.artifacts()} >= {file.stat().st_size + weights.stat().st_size}
        assert len(run.labels_of(1, crafted.crafted_on)) == 24  # it answers too, on ONNX Runtime
    parcel = Parcel.of(file)
    assert [part for part, _ in parcel.files] == ["m.onnx", "m.onnx.data"]
    assert parcel.unpack(Artifact.of(file).sha256, folder / "elsewhere").with_name("m.onnx.data").read_bytes() == weights.read_bytes()
    whole = weights.read_bytes()
    try:
        weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(EdgeqError, match=r"float/m\.onnx: is gone, or not the file this run began with"):
            edgeq.resume(path)
    finally:
        weights.write_bytes(whole)


def test_a_float_file_of_its_own_is_differentiated_without_roundings_or_clamps(files, tmp_path):
    folder, images = files
    options = OPTIONS | {"access": "gradients", "run": tmp_path / "r.sqlite"}
    with edgeq.attack(folder / "float/m.onnx", images, "pgd:steps=1", eps="8/255", **options) as result:
        said = result.to_json()
    assert "gradients are m.onnx's own" in said["notes"]
    assert any("the attacker has the file with its gradients" in line for line in said["threat_model"])


def test_a_source_that_is_quantised_or_another_network_is_refused(files, tmp_path):
    folder, images = files
    with pytest.raises(EdgeqError, match=r"m\.onnx: is quantised, and --source takes a float network; pass it as another --target"):
        attack(folder, images, source=folder / "m.onnx", run=tmp_path / "r.sqlite")
    with pytest.raises(EdgeqError, match="is quantised"):
        attack(folder, images, source=torch_files.quantised(tmp_path, "dynamic"), run=tmp_path / "r.sqlite")
    (tmp_path / "other.onnx").write_bytes(tiny_onnx.smallest())
    with pytest.raises(EdgeqError, match=r"other\.onnx: takes images of \(2, 2, 1\)"):
        attack(folder, images, source=tmp_path / "other.onnx", run=tmp_path / "r.sqlite")
    shutil.copy(folder / "float/m.onnx", tmp_path / "alone.onnx")
    with pytest.raises(EdgeqError, match=r"keeps its weights in m\.onnx\.data, which cannot be read"):
        Artifact.of(tmp_path / "alone.onnx")
