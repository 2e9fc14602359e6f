"""Every Keras file comes out as one frozen graph up to its logits; what is hostile, damaged or no classifier gives a sentence."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeq.core.errors import EdgeqError
from edgeq.keras import engine
from edgeq.keras.load import load

pytestmark = pytest.mark.tensorflow
tf = pytest.importorskip("tf_keras") and engine.tensorflow()


def packages():
    return {"Keras 2": tf.keras, "Keras 3": engine.need("keras")}


def sequential(k, last="softmax", units=5, shape=(6, 6, 1)):
    layers = [k.layers.Input(shape), k.layers.Conv2D(3, 3, activation="relu"), k.layers.BatchNormalization(), k.layers.Flatten()]
    return k.Sequential([*layers, k.layers.Dropout(0.3), k.layers.Dense(units, activation=last)])


def functional(k, tail):
    given = k.layers.Input((6, 6, 1))
    return k.Model(given, tail(k, k.layers.Dense(5)(k.layers.GlobalAveragePooling2D()(k.layers.Conv2D(3, 3)(given)))))


def softmax_layer(k, x):
    return k.layers.Softmax()(x)


def softmax_activation(k, x):
    return k.layers.Activation("softmax")(x)


def before_softmax(model, k, x):
    """The logits by Keras's own means: the last dense layer without its activation."""
    inner = k.Model(model.inputs, model.layers[-2].output)(x, training=False)
    dense = model.layers[-1]
    return inner @ dense.kernel + dense.bias


@pytest.mark.parametrize("package", ["Keras 2", "Keras 3"])
@pytest.mark.parametrize("form", ["model.h5", "model.keras", "model"])
def test_softmax_is_cut_off_in_every_form(tmp_path: Path, package: str, form: str) -> None:
    k = packages()[package]
    model = sequential(k)
    path = tmp_path / form
    model.export(path, verbose=False) if package == "Keras 3" and form == "model" else model.save(path)
    network = load(path)
    x = np.random.default_rng(0).random((4, 6, 6, 1), dtype=np.float32)
    assert np.allclose(network.function(tf.constant(x)), model(x, training=False), atol=1e-6)
    assert np.allclose(network.logits(tf.constant(x)), before_softmax(model, k, x), atol=1e-5)
    assert network.signature.kind == "probs"
    assert network.signature.input.shape == (6, 6, 1)
    assert network.signature.output.shape == (5,)
    assert ("SavedModel" if form == "model" else package) in network.form
    assert not network.quantised


@pytest.mark.parametrize("package", ["Keras 2", "Keras 3"])
@pytest.mark.parametrize("tail", [softmax_layer, softmax_activation])
def test_softmax_as_a_layer_of_its_own(tmp_path: Path, package: str, tail) -> None:
    k = packages()[package]
    model = functional(k, tail)
    model.save(tmp_path / "model.keras")
    network = load(tmp_path / "model.keras")
    x = np.random.default_rng(0).random((3, 6, 6, 1), dtype=np.float32)
    wanted = k.Model(model.inputs, model.layers[-2].output)(x)
    assert np.allclose(network.logits(tf.constant(x)), wanted, atol=1e-6)


def test_an_output_without_softmax_is_taken_as_it_is_and_said(tmp_path: Path) -> None:
    sequential(tf.keras, None).save(tmp_path / "model.keras")
    network = load(tmp_path / "model.keras")
    x = tf.random.uniform((3, 6, 6, 1))
    assert network.signature.kind == "logits"
    assert "taken as logits" in network.kind_note
    assert np.array_equal(network.logits(x), network.function(x))


def test_probabilities_without_a_softmax_become_logarithms(tmp_path: Path) -> None:
    k = tf.keras
    given = k.layers.Input((6, 6, 1))
    small = k.initializers.RandomNormal(stddev=0.001, seed=0)  # else bright noise may take every sigmoid to 0, and their sum with them
    scores = k.layers.Dense(4, activation="sigmoid", kernel_initializer=small)(k.layers.Flatten()(given))
    total = k.layers.Dense(4, use_bias=False, kernel_initializer="ones")(scores)
    k.Model(given, scores / total).save(tmp_path / "model", save_format="tf")
    network = load(tmp_path / "model")
    x = tf.random.uniform((3, 6, 6, 1))
    assert network.signature.kind == "probs"
    assert "logarithm" in network.kind_note
    assert np.allclose(network.logits(x), np.log(network.function(x)), atol=1e-6)


def test_a_quantisation_aware_savedmodel_is_known_as_one(digits_models) -> None:
    network = load(digits_models.qat)
    assert network.quantised
    assert network.signature.kind == "probs"


def refused(path: Path, words: str) -> None:
    with pytest.raises(EdgeqError, match=words) as caught:
        load(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text


@pytest.mark.parametrize("package", ["Keras 2", "Keras 3"])
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_lambda_is_refused(tmp_path: Path, package: str, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    functional(packages()[package], lambda k, x: k.layers.Lambda(lambda z: z * 2)(x)).save(path)
    refused(path, "code of its own")


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"module": "subprocess", "class_name": "Popen", "config": {}}, "foreign module"),
        ({"module": "builtins", "class_name": "eval", "config": {}}, "foreign module"),
        ({"module": "keras.src.utils", "class_name": "function", "config": "get_file"}, "code of its own"),
        ({"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/x"}}, "code of its own"),
        ({"class_name": "Custom>Lambda", "config": {}}, "code of its own"),
        ({"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}}, "may read files"),
    ],
)
def test_hostile_configurations_are_refused_before_keras_sees_them(tmp_path: Path, node: dict, words: str) -> None:
    sequential(tf.keras).save(tmp_path / "good.keras")
    path = tmp_path / "bad.keras"
    with zipfile.ZipFile(tmp_path / "good.keras") as good, zipfile.ZipFile(path, "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if name == "config.json":
                config = json.loads(content)
                config["config"]["layers"][1]["config"]["activation"] = node
                content = json.dumps(config).encode()
            bad.writestr(name, content)
    refused(path, words)


def test_an_archive_with_other_members_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    sequential(tf.keras).save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../evil.py", "x")
    refused(path, "unexpected member")


def test_h5_links_out_of_the_file_are_refused(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "model.h5"
    sequential(tf.keras).save(path)
    with h5py.File(path, "a") as file:
        file["model_weights/away"] = h5py.ExternalLink("/etc/hostname", "/")
    refused(path, "link to another place")


def test_h5_data_in_another_file_is_refused(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "model.h5"
    sequential(tf.keras).save(path)
    with h5py.File(path, "a") as file:
        file.create_dataset("away", (4,), "u1", external=[("/etc/hostname", 0, 4)])
    refused(path, "in another file")


def test_an_enormous_declared_array_is_refused(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "model.h5"
    sequential(tf.keras).save(path)
    with h5py.File(path, "a") as file:
        file.create_dataset("huge", (1 << 40,), "f4", chunks=(1024,))
    refused(path, "GiB")


@pytest.mark.parametrize("op", ["write", "python", "random"])
def test_savedmodels_that_reach_outside_are_refused(tmp_path: Path, op: str) -> None:
    trace = tmp_path / "trace"

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 4, 4, 1))])
        def call(self, x):
            y = tf.reshape(x, (-1, 16))
            if op == "write":
                tf.io.write_file(str(trace), "x")
            elif op == "python":
                y = tf.ensure_shape(tf.numpy_function(lambda a: a, [y], tf.float32), (None, 16))
            else:
                y += tf.random.uniform(tf.shape(y))
            return {"scores": y}

    module = Module()
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=module.call)
    refused(tmp_path / "model", "is not run")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda k, i, j: k.Model([i, j], k.layers.Dense(3)(k.layers.Flatten()(i + j))), "2 inputs"),
        (lambda k, i, j: k.Model(i, k.layers.Conv2D(1, 3, padding="same")(i)), "is a map"),
        (lambda k, i, j: k.Model(i, k.layers.Dense(1)(k.layers.Flatten()(i))), "returns a single number and no sigmoid makes it"),
        (lambda k, i, j: k.Model(i, k.layers.Dense(1, activation="softmax")(k.layers.Flatten()(i))), "its softmax of a single unit is 1"),
        (lambda k, i, j: k.Model(i, [k.layers.Dense(3)(k.layers.Flatten()(i)), k.layers.Flatten()(i)]), "2 outputs"),
        (lambda k, i, j: k.Model(v := k.layers.Input((7,)), k.layers.Dense(3)(v)), "not an image"),
        (lambda k, i, j: k.Model(v := k.layers.Input((None, None, 3)), k.layers.GlobalAveragePooling2D()(v)), "is open"),
    ],
)
def test_what_is_no_image_classifier_is_refused(tmp_path: Path, build, words: str) -> None:
    k = tf.keras
    build(k, k.layers.Input((6, 6, 1)), k.layers.Input((6, 6, 1))).save(tmp_path / "model.keras")
    refused(tmp_path / "model.keras", words)


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    refused(tmp_path / "none.h5", "no such file")
    (tmp_path / "empty.keras").touch()
    refused(tmp_path / "empty.keras", "is empty")
    (tmp_path / "text.h5").write_text("not a model")
    refused(tmp_path / "text.h5", "neither a Keras")
    refused(tmp_path, "without saved_model.pb")
    (tmp_path / "sm").mkdir()
    (tmp_path / "sm" / "saved_model.pb").write_bytes(b"\xff" * 40)
    refused(tmp_path / "sm", "damaged")


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_truncated_files(tmp_path: Path, suffix: str) -> None:
    sequential(tf.keras).save(tmp_path / f"good{suffix}")
    whole = (tmp_path / f"good{suffix}").read_bytes()
    for part in (0.1, 0.5, 0.9):
        path = tmp_path / f"cut{suffix}"
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(EdgeqError):
            load(path)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_flipped_bits_give_a_sentence_or_a_network(tmp_path: Path, suffix: str) -> None:
    sequential(tf.keras).save(tmp_path / f"good{suffix}")
    whole = (tmp_path / f"good{suffix}").read_bytes()
    rng, sentences = np.random.default_rng(0), []
    for _ in range(12):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(0, len(damaged), 60)] ^= rng.integers(1, 256, 60).astype(np.uint8)
        path = tmp_path / f"bad{suffix}"
        path.write_bytes(damaged.tobytes())
        try:
            load(path)
        except EdgeqError as error:
            sentences.append(str(error))
    assert sentences
    assert not any("\n" in sentence for sentence in sentences)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = sequential(tf.keras)
    model.layers[-1].bias.assign([np.nan] * 5)
    model.save(tmp_path / "model.keras")
    refused(tmp_path / "model.keras", "damaged, .* contains NaN or infinity")


def test_without_tensorflow_there_is_a_sentence() -> None:
    code = """
import sys, pathlib
sys.modules["tensorflow"] = None
from edgeq.core.errors import EdgeqError
from edgeq.keras.load import load
p = pathlib.Path(sys.argv[1])
try:
    load(p)
except EdgeqError as error:
    print(error)
"""
    here = Path(__file__)
    done = subprocess.run([sys.executable, "-c", code, str(here.parent)], capture_output=True, text=True, check=True)
    assert "without saved_model.pb" in done.stdout  # what needs no TensorFlow to be seen is said first
    code = code.replace("load(p)", "from edgeq.keras import engine; engine.tensorflow()")
    done = subprocess.run([sys.executable, "-c", code, str(here)], capture_output=True, text=True, check=True)
    assert 'pip install "edgeq[keras]"' in done.stdout


@pytest.mark.parametrize("package", ["Keras 2", "Keras 3"])
def test_networks_of_keras_applications_answer_as_keras_says(tmp_path: Path, package: str) -> None:
    """MobileNetV3: functions on tensors, rescaling, squeeze and excitation; inside a network of one's own, whose weights are frozen."""
    k = packages()[package]
    inner = k.applications.MobileNetV3Small((32, 32, 3), weights=None, classes=6, minimalistic=False, alpha=0.75)
    inner.trainable = False
    rng = np.random.default_rng(0)
    inner.set_weights([rng.random(w.shape, dtype=np.float32) / 4 + 0.1 for w in inner.get_weights()])
    given = k.layers.Input((32, 32, 3))
    model = k.Model(given, k.layers.Dense(4)(inner(k.layers.RandomFlip("horizontal")(given), training=False)))
    x = rng.random((2, 32, 32, 3), dtype=np.float32) * 255
    for suffix in (".h5", ".keras") if package == "Keras 2" else (".keras",):  # Keras 3 cannot reload its own .h5 of such functions
        model.save(tmp_path / f"model{suffix}")
        network = load(tmp_path / f"model{suffix}")
        assert np.allclose(network.function(tf.constant(x)), model(x, training=False), atol=1e-5)
        assert np.ptp(network.function(tf.constant(x)).numpy()) > 1e-3
