"""PGD on a float Keras network: edgeq's numpy loop beside a hand-written loop that is one ``tf.function`` from start to end.

edgeq's loop runs twice: with the objective fused into the source's ``tf.function``, and with the plain one, a numpy function between the
forward and the backward pass. All take the same number of steps from the same images, on logits, l_inf 8/255, without XLA; they take
turns within one run, each of them first as often, so that whatever else the machine does falls on all. edgeq's loop also keeps each
row's best gridded candidate, for which it asks a gradient more than the hand-written one.

    python tools/bench_pgd.py ../shared/models/pretrainedResnet.h5 --data zip:../shared/data/cifar10-jpeg.zip
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ratios import summary

from edgeq import data
from edgeq.attacks.pgd import PGD
from edgeq.core.rows import Rows, row_id
from edgeq.core.threat import Threat
from edgeq.keras import engine
from edgeq.keras.load import keras_model
from edgeq.keras.source import PIXELS, KerasSource, open


class Plain:
    """A source without its fused twins."""

    def __init__(self, source: KerasSource) -> None:
        self.batch, self.logits, self.answer_float = source.batch, source.logits, source.answer_float


def by_hand(path: Path, x0: np.ndarray, labels: np.ndarray, eps: float, steps: int, size: float) -> Callable[[], np.ndarray]:
    """The loop that a practitioner would write, on the Keras model itself with its softmax taken off."""
    tf = engine.tensorflow()
    model: Any = keras_model(path)[1]
    model.layers[-1].activation = tf.keras.activations.linear
    images, truth = tf.constant(x0), tf.constant(labels)

    @tf.function(autograph=False)
    def loop() -> Any:
        def body(step: Any, x: Any) -> tuple[Any, Any]:
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.nn.sparse_softmax_cross_entropy_with_logits(truth, model(x * 255.0, training=False))
            x = x + size * tf.sign(tape.gradient(loss, x))
            return step + 1, tf.clip_by_value(tf.clip_by_value(x, images - eps, images + eps), 0.0, 1.0)

        start = tf.clip_by_value(images + tf.random.uniform(images.shape, -eps, eps), 0.0, 1.0)
        return tf.while_loop(lambda step, _: step < steps, body, (0, start))[1]

    return lambda: loop().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a Keras .h5 or .keras that takes raw pixels and ends in softmax")
    parser.add_argument("--data", required=True, help="images of the network's size")
    parser.add_argument("--n", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=25)
    arguments = parser.parse_args()

    dataset = data.open(arguments.data)
    index = data.sample(dataset, arguments.n, 0)
    images = data.decode(dataset, index, lambda image: image)
    rows = Rows(np.array([row_id(dataset.names[i]) for i in index]), dataset.labels[index])
    source = open(arguments.model, PIXELS[:, : images.shape[3]], batch=arguments.n)
    threat, attack = Threat("linf", 8 / 255), PGD(steps=arguments.steps)
    reference = "all tf.function"
    runs: dict[str, Callable[[], np.ndarray]] = {
        "edgeq": lambda: attack.craft(source, images, rows, threat, 0).candidates,
        "edgeq, plain": lambda: attack.craft(Plain(source), images, rows, threat, 0).candidates,
        reference: by_hand(arguments.model, images / np.float32(255), rows.labels, threat.eps, attack.steps, attack.step * threat.eps),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    made: dict[str, np.ndarray] = {}
    order = list(runs)
    for turn in range(arguments.rounds + 1):
        for name in order:
            begin = time.perf_counter()
            made[name] = runs[name]()
            if turn:  # the first round traces and warms up
                times[name].append(time.perf_counter() - begin)
        order = order[1:] + order[:1]  # none is always the one after another
    made[reference] = np.rint(made[reference] * 255).astype(np.uint8)
    print(f"{arguments.steps} steps, n = {arguments.n}")
    for name, seconds in times.items():
        right = 1 - source.answer(made[name]).fooled(rows.labels).mean()
        ratios = summary(np.divide(seconds, times[reference]).tolist())
        print(f"{name:16} median {statistics.median(seconds):.2f} s; adversarial accuracy {right:.3f}; {ratios}")


if __name__ == "__main__":
    main()
