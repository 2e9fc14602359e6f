"""The files of low-bit networks: equal to the frozen network on the interpreters where the certificate says so."""

from __future__ import annotations

import time

import numpy as np
import pytest
from random_graphs import TFLITE, interpret, random_codes

from edgeq.core.errors import EdgeqError
from edgeq.integer import portable, read_tflite, tflite_file
from edgeq.integer.realise import PACKED, SCALED
from edgeq.integer.simulate import simulate
from edgeq.keras import train
from edgeq.keras.quantizers import parse

pytest.importorskip("tensorflow_model_optimization")
pytest.importorskip("onnxruntime")
pytest.importorskip("tflite_micro")

import low_bit

from edgeq.keras.ship import frozen
from edgeq.keras.ship import portable as snap

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize(
    ("net", "quant"),
    [
        *(("digits_cnn", q) for q in ("lsq:w2a2", "lsq:w6a6", "binarynet", "tfmot:portable")),
        *(("mixed", q) for q in ("lsq:w2a2", "binarynet", "tfmot:portable")),
        *(("resnet8", q) for q in ("binarynet", "tfmot:portable")),
    ],
)
def test_certified_files_answer_what_was_trained(net, quant) -> None:
    shipped = frozen(low_bit.settled(net, quant), low_bit.images(net), "net", (SCALED, PACKED), True)
    assert shipped.trained is not None
    low_bit.assert_frozen(low_bit.settled(net, quant), shipped.trained, low_bit.images(net, 64))
    codes = np.concatenate([low_bit.codes(net), random_codes(shipped.trained, 32)])
    wanted = simulate(shipped.trained, codes)
    assert len(np.unique(wanted)) > 10
    assert all(layer.certificate.share == 1 for layer in shipped.certificates[SCALED])
    for name in TFLITE:
        np.testing.assert_array_equal(interpret(name, shipped.files["net.tflite"], codes), wanted, err_msg=name)
    np.testing.assert_array_equal(interpret("ort", shipped.files["net.onnx"], codes), wanted)
    read = {n: read_tflite.from_model(tflite_file.parse(c, n)) for n, c in shipped.files.items() if n.endswith(".tflite")}
    assert portable.prove(read["net.tflite"]).holds
    assert ("net-packed.tflite" in read) == (quant != "tfmot:portable" and quant != "lsq:w6a6")
    for graph in list(read.values())[1:]:
        content = shipped.files["net-packed.tflite"]
        assert len(content) < len(shipped.files["net.tflite"])
        for name in TFLITE:
            got = interpret(name, content, codes)
            np.testing.assert_array_equal(got, simulate(graph, codes, name), err_msg=name)
            if all(layer.certificate.share_of(name) == 1 for layer in shipped.certificates[PACKED]):
                np.testing.assert_array_equal(got, wanted, err_msg=name)


def test_no_packed_form_of_wide_weights() -> None:
    with pytest.raises(EdgeqError, match=r"no layer's weights fit INT4, .* take --store scaled"):
        frozen(low_bit.settled("digits_cnn", "lsq:w6a6"), low_bit.images("digits_cnn"), "net", (PACKED,), False)


@pytest.mark.parametrize(("net", "quant"), [("digits_cnn", "lsq:w4a32"), ("mixed", "dorefa:w2a32:channel")])
def test_weight_only_files_dequantise_rightly_everywhere(net, quant) -> None:
    shipped = frozen(low_bit.settled(net, quant), low_bit.images(net), "net", (SCALED, PACKED), True)
    assert (list(shipped.files), shipped.trained, shipped.integer) == (["net.tflite", "net.onnx"], None, False)
    codes, wanted = low_bit.codes(net, 16), simulate(low_bit.frozen(net, quant), low_bit.codes(net, 16))
    for name in (*TFLITE, "ort"):
        got = interpret(name, shipped.files["net.onnx" if name == "ort" else "net.tflite"], codes)
        assert np.abs(got - wanted).max() <= 1e-4 * np.abs(wanted).max(), name


def test_a_float_network_is_snapped_onto_the_portable_grids(tmp_path) -> None:
    model = low_bit.floating("mixed")
    model.save(tmp_path / "float.keras")
    images = low_bit.images("mixed", 128)
    pixels = np.repeat(np.arange(256, dtype=np.float32)[:, None], images.shape[3], axis=1)
    form = snap(tmp_path / "float.keras", images, pixels)
    snapped, shipped = form.model, frozen(form.model, images, "net", (SCALED,), False, form.zero)
    assert (form.zero, form.sentences) == (0, [])
    graph = read_tflite.from_model(tflite_file.parse(shipped.files["net.tflite"], "net.tflite"))
    assert portable.prove(graph).holds
    x = images.astype(np.float32)
    scores, real = (np.log(m(x, training=False).numpy() + 1e-9) for m in (snapped, model))
    close = [np.corrcoef(a, b)[0, 1] for a, b in zip(scores, real, strict=True)]
    assert np.median(close) > 0.95
    with pytest.raises(EdgeqError, match=r"--portable takes a float .keras or .h5 file"):
        snap(tmp_path, images, pixels)


def test_freezing_writing_and_certifying_takes_seconds() -> None:
    """ResNet8 as it is deployed: its budget is a minute."""
    images = low_bit.images("resnet8", 4).repeat(2, axis=1).repeat(2, axis=2)
    model = train.lower(train.network("resnet8", 1.0, 10, (32, 32, 3), 0), parse("lsq:w4a4"), "int8", images, 0)
    start = time.process_time()
    shipped = frozen(model, images, "net", (SCALED, PACKED), True)
    assert time.process_time() - start < 30
    assert len(shipped.files["net-packed.tflite"]) < 0.7 * len(shipped.files["net.tflite"])
