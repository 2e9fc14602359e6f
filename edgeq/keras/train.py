"""Training: float, and quantisation-aware (QAT) through TF-MOT's int8 scheme or the methods of :mod:`edgeq.keras.quantizers`.

Cross-entropy and Adam with a staircase decay (B19, section 4.2); the best epoch on a validation share is kept. Float networks are
saved as ``.keras``; QAT networks as a SavedModel, as nothing else reloads them. Both come back with the same outputs, bit by bit.
A low-bit network comes back as a Keras model too (:func:`restore`), for what needs its layers and not only its answers.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from edgeq.core import plugins
from edgeq.core.errors import EdgeqError
from edgeq.core.numbers import number
from edgeq.keras import engine, finite, load, rebuild, saved_model, scan
from edgeq.keras.quantizers import Ends, Scheme, parse
from edgeq.pipeline import sidecar

Progress = Callable[[int, int, str], None]
"""``(steps done, steps at most, "epoch 3: validation .973")``."""


@dataclass(frozen=True)
class Fit:
    """How long, how fast. ``rate``: Adam's first learning rate; it falls to ``decay`` of itself after each of ``stairs`` equal parts."""

    epochs: int = 20
    batch: int = 64
    rate: float = 2e-3
    decay: float = 0.3
    stairs: int = 3
    validation: float = 0.1
    patience: int = 8

    @property
    def last(self) -> Fit:
        """The last epochs of a low-bit network, a quarter as many, its offsets and steps fixed."""
        return replace(self, epochs=max(1, self.epochs // 4), rate=self.rate / 10, stairs=1)


@dataclass(frozen=True)
class Fitted:
    """What a training reached: the ``epochs`` that ran, the one whose weights are ``kept``, its accuracy on the ``validation`` share, and
    the ``n`` images that were trained on."""

    epochs: int
    kept: int
    validation: float
    n: int


FLOAT, QAT, LOWBIT = Fit(), Fit(epochs=10, rate=2e-4, patience=4), Fit(rate=1e-3)
B19 = Fit(epochs=50, rate=1e-3, decay=0.3, stairs=5, patience=50)
"""B19, section 4.2: cross-entropy, Adam, staircase decay, from scratch, first and last layer float. It gives no numbers: these are ours."""


@engine.generated()
def fit(
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    how: Fit,
    seed: int,
    progress: Progress | None = None,
    check: Callable[[bool], None] | None = None,
) -> Fitted:
    """Train ``model`` in place on ``(n, h, w, c) uint8`` images and ``(n,) int64`` labels.

    The pixels stay uint8 in memory and become float32 a batch at a time. ``check``: called after each epoch, and with True at the end;
    what it raises ends the training. Raises :class:`EdgeqError` as soon as the loss is not finite, and after an epoch that leaves a weight
    or saw a gradient that is not.
    """
    tf = engine.tensorflow()
    if len(images) < 10:
        raise EdgeqError(f"{len(images)} training images are too few; 10 at least")
    tf.keras.utils.set_random_seed(seed)
    order = np.random.default_rng(seed).permutation(len(images))
    validation = order[: max(1, round(how.validation * len(order)))]
    taken = order[len(validation) :]
    steps = -(-len(taken) // how.batch)
    total = steps * how.epochs

    with tf.device("/CPU:0"):
        pixels, truth = tf.constant(images), tf.constant(labels.astype(np.int64))
    plain = tf.data.Options()
    plain.autotune.enabled = False  # its thread sleeps longer and longer, and each epoch waited for it to wake

    def feed(index: np.ndarray, shuffle: bool) -> Any:
        indices = tf.data.Dataset.from_tensor_slices(index)
        indices = indices.shuffle(len(index), seed=seed) if shuffle else indices
        pairs = indices.batch(how.batch).map(lambda i: (tf.cast(tf.gather(pixels, i), tf.float32), tf.gather(truth, i)))
        return pairs.with_options(plain)

    def stop(epoch: int, said: str) -> NoReturn:
        raise EdgeqError(f"the training diverged in epoch {epoch}: {said}; lower --rate, or check the data")

    class Report(tf.keras.callbacks.Callback):  # type: ignore[name-defined]
        epoch, text = 0, "epoch 1"

        def on_train_batch_end(self, step: int, logs: Any = None) -> None:
            if not np.isfinite(logs["loss"]):
                if check:
                    check(False)  # knows more
                stop(self.epoch + 1, "its loss is not finite")
            if progress:
                progress(min(self.epoch * steps + step + 1, total - 1), total, self.text)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.epoch = epoch + 1
            self.text = f"epoch {epoch + 1}: validation {number(logs['val_accuracy'])}"
            if check:
                check(False)
            if said := finite.diverged(model, logs):
                stop(epoch + 1, said)

    rate = tf.keras.optimizers.schedules.ExponentialDecay(how.rate, max(1, -(-total // how.stairs)), how.decay, staircase=True)
    model.compile(tf.keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", ["accuracy"])
    best = tf.keras.callbacks.EarlyStopping("val_loss", patience=how.patience, restore_best_weights=True)
    report = Report()
    history = model.fit(feed(taken, True), epochs=how.epochs, validation_data=feed(validation, False), callbacks=[best, report], verbose=0)
    if check:
        check(True)
    if progress:
        progress(total, total, report.text)
    kept = int(np.argmin(history.history["val_loss"]))
    return Fitted(len(history.epoch), kept + 1, float(history.history["val_accuracy"][kept]), len(taken))


def network(name: str, width: float, classes: int, shape: tuple[int, ...], seed: int, **options: Any) -> Any:
    """A fresh network of :mod:`edgeq.keras.nets`; :class:`EdgeqError` where the name or the size does not fit."""
    build, keras = plugins.load(plugins.NETWORKS, name), engine.tensorflow().keras
    keras.utils.set_random_seed(seed)
    keras.backend.reset_uids()  # names of layers go into files, and must not depend on what was built before
    try:
        h, w, c = shape
        return build(width=width, classes=classes, input_shape=(h, w, c), **options)
    except (ValueError, TypeError) as error:
        raise EdgeqError(f"{name} cannot be built for images of {shape}: {scan.sentence(error)}") from None


def copy_weights(model: Any, path: Path) -> None:
    """Start ``model`` from a float ``.keras`` or ``.h5`` file with the same list of weights."""
    if path.is_dir():
        raise EdgeqError(f"{path}: --from takes a float .keras or .h5 file, not a directory")
    given = load.keras_model(path)[1]
    if name := finite.broken(given.weights):
        raise EdgeqError(f"{path}: its weights are damaged, {name} contains NaN or infinity; start from another network")
    weights = given.get_weights()
    if [w.shape for w in weights] != [w.shape for w in model.get_weights()]:
        raise EdgeqError(f"{path}: its weights are not those of {model.name}; name the same network and --width")
    model.set_weights(weights)


def quantise(model: Any, images: np.ndarray, seed: int) -> Any:
    """``model`` with TF-MOT's default int8 scheme around it, its weights kept, its ranges set by ``(n, h, w, c) uint8`` images.

    TF-MOT starts every activation's range at [-6, 6] and follows the data by a moving average of decay 0.999; a short fine-tuning never
    gets there (a ReLU's output kept a minimum near -5: a bit lost). So the average is followed to its end first: one update from
    v to v' tells the batch's extreme, v + 1000 (v' - v). Two passes, as a range clips what follows; all other weights are put back.
    """
    tf = engine.tensorflow()
    tfmot = engine.need("tensorflow_model_optimization")
    tf.keras.utils.set_random_seed(seed)
    try:
        quantised = tfmot.quantization.keras.quantize_model(model)
    except (RuntimeError, ValueError) as error:
        raise EdgeqError(f"{model.name}: TF-MOT cannot quantise it ({scan.sentence(error)})") from None
    batch = tf.cast(images[np.random.default_rng(seed).permutation(len(images))[:512]], tf.float32)
    pin_input(quantised)
    for _ in range(2):
        before = [w.numpy() for w in quantised.weights]
        quantised(batch, training=True)
        for weight, old in zip(quantised.weights, before, strict=True):
            name = weight.name.rpartition("/")[2]
            if name.endswith(("_min:0", "_max:0")) and not name.startswith(("kernel", "quantize_layer")):  # those two do not average
                limit = tf.minimum if name.endswith("_min:0") else tf.maximum
                weight.assign(limit(old + 1000 * (weight.numpy() - old), 0.0))
            else:
                weight.assign(old)
    return quantised


def lower(model: Any, scheme: Scheme, ends: Ends, images: np.ndarray, seed: int) -> Any:
    """``model`` with ``scheme`` around its layers, its weights kept, its steps and clips set by ``(n, h, w, c) uint8`` images."""
    from edgeq.keras.lowbit import wrap

    engine.tensorflow().keras.utils.set_random_seed(seed)
    quantised = wrap.wrap(model, scheme, ends)
    wrap.begin(quantised, images[np.random.default_rng(seed).permutation(len(images))[:256]])
    return quantised


def settle(model: Any) -> None:
    """Before the last epochs of a network that :func:`lower` made: its thresholds onto its accumulators' grids, kept there.

    And behind them once more, for one-bit steps of DoReFa, which follow their weights; else that changes nothing.
    """
    from edgeq.keras.lowbit import settle

    settle.settle(model)


def watch(model: Any, images: np.ndarray) -> Callable[[bool], None]:
    """For :func:`fit`: raises :class:`EdgeqError` for a step or clip that ran away, and for a layer dead at the end or twice running.

    Dead: it has one value, whatever the image; ``(n, h, w, c) uint8``, of which 64, evenly spread, are tried.
    """
    from edgeq.keras.lowbit import trained

    pulse, before = trained.Pulse(model, images[:: max(1, len(images) // 64)][:64]), set[str]()

    def check(last: bool) -> None:
        nonlocal before
        if said := trained.exploded(model):
            raise EdgeqError(f"the training failed: {said[0]}")
        dead = pulse.dead()
        if still := [name for name in dead if last or name in before]:
            raise EdgeqError(
                f"the training failed: {still[0]} is dead, its output is the same for every image; "
                "take more bits for activations, lower the rate, or start from a float network"
            )
        before = set(dead)

    return check


def pin_input(quantised: Any) -> None:
    """Set the input quantiser to exactly 0..255, whatever pixels the training saw: then the codes are the shift q = p - 128."""
    for layer in quantised.layers:
        if layer.name.startswith("quantize_layer"):
            for weight in layer.weights:
                if weight.name.endswith("_min:0"):
                    weight.assign(0.0)
                elif weight.name.endswith("_max:0"):
                    weight.assign(255.0)


def foldable(model: Any, name: str, width: float, classes: int, shape: tuple[int, ...]) -> Any:
    """The same function as the network ``name`` in the order of layers that TF-MOT folds (``pool_last``), with the weights of ``model``."""
    if "pool_last" not in inspect.signature(plugins.load(plugins.NETWORKS, name)).parameters:
        return model
    twin = network(name, width, classes, shape, 0, pool_last=True)
    twin.set_weights(model.get_weights())
    return twin


def restore(path: Path) -> tuple[Any, dict[str, Any]]:
    """The Keras model of a low-bit SavedModel that ``edgeq train`` wrote, with its quantised layers, and its sidecar.

    The network is built again as the sidecar says and takes the SavedModel's weights; :class:`EdgeqError` where the two do not fit.
    """
    said, name = sidecar.read(path)
    try:
        net, width, classes, shape = str(said["net"]), float(said["width"]), int(said["classes"]), tuple(int(d) for d in said["shape"])
        quant, ends = str(said["quant"]), said["ends"]
        if not (0 < width <= 16 and 1 < classes <= 10**6 and len(shape) == 3 and 0 < min(shape) <= max(shape) <= 4096):
            raise ValueError
        if ends not in ("int8", "float"):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise EdgeqError(
            f"{path}: {name or 'its .edgeq.json'} does not tell what network this is; train it with edgeq train --quant"
        ) from None
    from edgeq.keras.lowbit import wrap

    validation = saved_model.numbers(saved_model.checkpoint(path))
    with rebuild.bounded(path, engine.tensorflow().keras.layers.Layer, 4 * validation):  # the network is made up to four times on the way
        model = wrap.wrap(foldable(network(net, width, classes, shape, 0), net, width, classes, shape), parse(quant), ends)
    try:
        with engine.quiet():
            model.load_weights(str(path / "variables" / "variables")).assert_existing_objects_matched().expect_partial()
    except Exception as error:  # TensorFlow's, of any kind
        raise EdgeqError(f"{path}: its weights are not those of {quant} {net} ({scan.sentence(error)}); train it again") from None
    if broken := finite.broken(model.weights):
        raise EdgeqError(f"{path}: its weights are damaged, {broken} contains NaN or infinity; train it again")
    return model, said


def save(model: Any, path: Path, images: np.ndarray) -> load.Network:
    """Write a float model to ``NAME.keras``, or a QAT model to the directory ``path`` as a SavedModel, and read it back.

    :class:`EdgeqError` where a weight is not finite, it cannot be written, or it does not come back with the same answers to
    ``(n, h, w, c) uint8`` images.
    """
    if name := finite.broken(model.weights):
        raise EdgeqError(f"{path.name}: the training failed, {name} contains NaN or infinity; lower --rate, or check the data")
    try:
        with engine.quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.suffix == ".keras":
                bare = engine.tensorflow().keras.models.clone_model(model)  # the optimiser stays behind
                bare.set_weights(model.get_weights())
                bare.save(path)
            else:
                model.save(path, save_format="tf", include_optimizer=False)
    except OSError as error:
        raise EdgeqError(f"{path}: cannot be written ({scan.sentence(error)}); free some space or name another directory") from None
    again = load.load(path)
    # both frozen alike: TensorFlow fuses layers in a frozen graph, which changes the last bits of what the same weights answer
    trained = load.freeze(path, again.form, again.sha256, load.concrete(model, path))
    sample = engine.tensorflow().cast(images[:64], "float32")
    if not np.array_equal(again.function(sample).numpy(), trained.function(sample).numpy()):
        raise EdgeqError(f"{path.name}: the saved network does not answer what the trained one did; please report this")
    return again
