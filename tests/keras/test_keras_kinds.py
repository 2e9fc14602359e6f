"""The kinds of file that TensorFlow's converter writes: where each runs, what its gradients are, and what is said of it."""

import numpy as np
import pytest
from one_op_files import answers

import edgeq
from edgeq import runtimes
from edgeq.core.errors import EdgeqError
from edgeq.integer import read, read_tflite, reals, tflite_file
from edgeq.integer.rounding import RUNTIMES
from edgeq.targets.access import caveat
from edgeq.targets.opener import Bench

pytestmark = pytest.mark.tensorflow
KINDS = ("float32", "float16", "dynamic", "int16", "int16-float")


def _random(rng, shape, gain):
    return rng.normal(0, gain / np.sqrt(np.prod(shape[:-1])) if len(shape) > 1 else 0.1, shape)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One small network of random weights as each kind; "int16-float" has float ends."""
    tf_keras = pytest.importorskip("tf_keras")
    import tensorflow as tf

    layers, rng = tf_keras.layers, np.random.default_rng(0)
    network = tf_keras.Sequential(
        [
            layers.Conv2D(16, 3, activation="relu", padding="same", input_shape=(8, 8, 1)),
            layers.DepthwiseConv2D(3, activation="relu6"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    gains = [1.5] * 6 + [8.0] * 2
    network.set_weights([_random(rng, w.shape, gain) for w, gain in zip(network.get_weights(), gains, strict=True)])
    examples = rng.uniform(0, 1, (30, 1, 8, 8, 1)).astype(np.float32)
    folder, sets = tmp_path_factory.mktemp("kinds"), tf.lite.OpsSet
    wide = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    for kind in KINDS:
        converter = tf.lite.TFLiteConverter.from_keras_model(network)
        converter.optimizations = [] if kind == "float32" else [tf.lite.Optimize.DEFAULT]
        if kind == "float16":
            converter.target_spec.supported_types = [tf.float16]
        elif kind.startswith("int"):
            converter.representative_dataset = lambda: ([x] for x in examples)
            converter.target_spec.supported_ops = [wide]
            if not kind.endswith("float"):
                converter.inference_input_type = converter.inference_output_type = tf.as_dtype(kind)
        (folder / f"{kind}.tflite").write_bytes(converter.convert())
    return {kind: folder / f"{kind}.tflite" for kind in KINDS}


def _gradients(file, images):
    """The logits of what gradients are taken from, and the slopes of one logit an image, of length 1."""
    with edgeq.open(file, preprocess="mean=0,std=255") as target:
        source = next(iter(Bench([target.spec], lambda _: file).sources(target.spec.id).values()))
    logits, pullback = source.logits((images / 255).astype(np.float32))
    slope = pullback(np.eye(10, dtype=np.float32)[np.arange(len(images)) % 10]).reshape(len(images), -1)
    return logits, slope / np.linalg.norm(slope, axis=1, keepdims=True)


def test_where_each_kind_runs_and_how_near_what_is_differentiated_is(files):
    pytest.importorskip("tflite_micro")
    images = np.random.default_rng(1).integers(0, 256, (12, 8, 8, 1), np.uint8)
    wanted = _gradients(files["float32"], images)[1]
    for kind, file in files.items():
        model = tflite_file.read(str(file))
        codes = (images / 255).astype(np.float32)
        if kind == "int16":
            codes = np.rint(codes / model.tensors[model.inputs[0]].scales[0]).clip(max=2**15 - 1).astype(np.int16)
        logits, slopes = _gradients(file, images)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        for name in RUNTIMES:
            try:
                raw = answers(file.read_bytes(), name, codes)
            except RuntimeError:
                assert (name, kind) in {("tflm", "float16"), ("tflm", "dynamic")}
                words = {"float16": "DEQUANTIZE of float16", "dynamic": "CONV_2D of floats with int8 weights"}[kind]
                with pytest.raises(EdgeqError, match=f"{kind}.tflite: tflm has no kernel for {words}"):
                    runtimes.probe(name, file)
                continue
            probabilities = raw * 2.0**-15 if kind == "int16" else raw
            assert probabilities.max(axis=1).std() > 0.05, "answers that differ"
            apart = np.abs(odds / odds.sum(axis=1, keepdims=True) - probabilities).max()
            assert apart < {"float32": 1e-6, "float16": 1e-6, "dynamic": 0.1}.get(kind, 0.01), (kind, name)
        least = {"float32": 0.999999, "float16": 0.9999}.get(kind, 0.95)
        assert (slopes * wanted).sum(axis=1).min() > least, kind


@pytest.mark.parametrize("kind", ["dynamic", "int16"])
def test_what_is_not_followed_bit_by_bit_is_attacked_and_it_is_said(kind, files, tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (6, 8, 8, 1), np.uint8)
    with edgeq.open(files[kind], preprocess="mean=0,std=255") as target:
        images = edgeq.Images(images, target.answer(images).label())
        found = edgeq.attack(target, images, ["pgd:steps=5", "spsa:steps=3:batch=8"], eps="24/255", run=tmp_path / "r.sqlite")
    for attack in ("pgd", "spsa"):
        assert found[attack, "24/255"].clean_accuracy == 1
    assert found["pgd", "24/255"].robust_accuracy < 1
    assert "not followed bit by bit" in caveat(files[kind], "litert-xnnpack")
    with pytest.raises(EdgeqError, match=r"cannot be read: .*(int16, whose kernels|dynamic range).*; attack it by queries"):
        read.graph(files[kind])


def test_constants_that_make_no_sense_are_refused(files):
    """A damaged file is a sentence, in real numbers too."""
    content, rng, refused = files["dynamic"].read_bytes(), np.random.default_rng(0), 0
    for i in range(200):
        damaged = bytearray((content, files["int16"].read_bytes())[i % 2])
        for at in rng.integers(8, len(damaged), 6):
            damaged[at] = rng.integers(256)
        try:
            model = tflite_file.parse(bytes(damaged), "m.tflite")
            read_tflite.from_model(reals.lowered(model))
        except EdgeqError as error:
            refused += str(error).startswith("m.tflite: ")
    assert refused > 5
