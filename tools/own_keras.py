"""Networks as users of Keras write them, through edgeq: a table of what works, or the sentence that says why not.

    python tools/own_keras.py [NAME ...]

Each network is built small (keras.applications without stored weights), trained for an epoch on the digits where that takes seconds, else
left as it was initialised, and saved by Keras 2 (``tf_keras``) and by Keras 3. Then: ``edgeq export``, ``edgeq attack`` on the network, the
same on the ``.tflite`` by its own gradients, and ``edgeq export --portable``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import edgeq
from edgeq import data
from edgeq.build.export import export
from edgeq.core.errors import EdgeqError
from edgeq.core.reporter import Silent
from edgeq.keras import engine

tf = engine.tensorflow()
PACKAGES = {2: tf.keras, 3: engine.need("keras")}
SIZE = 32
EPOCHS = 1


def small(k: Any, *first: Any, last: Any) -> Any:
    body = [k.layers.Conv2D(16, 3, padding="same", activation="relu"), k.layers.MaxPooling2D(), k.layers.Conv2D(16, 3, activation="relu")]
    body += [k.layers.MaxPooling2D(), k.layers.Flatten(), k.layers.Dense(32, activation="relu"), k.layers.Dropout(0.2)]
    return k.Sequential([k.layers.Input((SIZE, SIZE, 3)), *first, *body, last])


def rescaling(k: Any) -> Any:
    return small(k, k.layers.Rescaling(1 / 127.5, -1), last=k.layers.Dense(10, activation="softmax"))


def augmented(k: Any) -> Any:
    layers = (
        k.layers.RandomTranslation(0.1, 0.1),
        k.layers.RandomRotation(0.05),
        k.layers.RandomContrast(0.1),
        k.layers.Rescaling(1 / 255),
    )
    return small(k, *layers, last=k.layers.Dense(10, activation="softmax"))


def one_sigmoid(k: Any) -> Any:
    return small(k, k.layers.Rescaling(1 / 255), last=k.layers.Dense(1, activation="sigmoid"))


def two_outputs(k: Any) -> Any:
    x = given = k.layers.Input((SIZE, SIZE, 3))
    x = k.layers.Conv2D(16, 3, activation="relu")(k.layers.Rescaling(1 / 255)(x))
    x = k.layers.Conv2D(16, 3, strides=2, activation="relu")(x)
    x = k.layers.Dense(32, activation="relu")(k.layers.Flatten()(x))
    return k.Model(given, [k.layers.Dense(10, activation="softmax", name="digit")(x), k.layers.Dense(3, name="box")(x)])


def mixed(k: Any) -> Any:
    k.mixed_precision.set_global_policy("mixed_float16")
    try:
        return small(k, k.layers.Rescaling(1 / 255), last=k.layers.Dense(10, activation="softmax", dtype="float32"))
    finally:
        k.mixed_precision.set_global_policy("float32")


def mobilenet(k: Any) -> Any:
    base = k.applications.MobileNetV2((SIZE, SIZE, 3), alpha=0.35, include_top=False, weights=None, pooling="avg")
    return k.Sequential(
        [k.layers.Input((SIZE, SIZE, 3)), k.layers.Rescaling(1 / 127.5, -1), base, k.layers.Dense(10, activation="softmax")]
    )


def efficientnet(k: Any) -> Any:
    return k.applications.EfficientNetB0(weights=None, classes=10, input_shape=(SIZE, SIZE, 3))


NETWORKS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "Sequential with Rescaling": (rescaling, True),
    "augmentation layers": (augmented, True),
    "one sigmoid output": (one_sigmoid, True),
    "two outputs": (two_outputs, True),
    "mixed_float16": (mixed, True),
    "MobileNetV2 0.35": (mobilenet, False),
    "EfficientNetB0": (efficientnet, False),
}
"""Name -> how it is built, and whether it is trained."""


def images(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The digits as photographs of 32 x 32 pixels in colour, in folders of ten classes and of two (even, odd); the training split."""
    kept: tuple[list[np.ndarray], np.ndarray] | None = None
    for split in ("train", "test"):
        digits = data.open("digits", split)
        larger = [np.asarray(Image.fromarray(digits.image(i)[..., 0]).resize((SIZE, SIZE)).convert("RGB")) for i in range(len(digits))]
        for i, (image, label) in enumerate(zip(larger, digits.labels, strict=True)):
            for place in (folder / "ten" / split / str(label), folder / "two" / split / ("even", "odd")[label % 2]):
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(place / f"{i}.png")
        kept = kept or (larger, digits.labels)
    assert kept is not None
    return np.stack(kept[0]).astype(np.float32), kept[1]


def train(k: Any, model: Any, x: np.ndarray, labels: np.ndarray) -> None:
    """Adam, for ``EPOCHS``; of the two outputs the second learns zeros."""
    two, several = model.outputs[0].shape[-1] == 1, len(model.outputs) > 1
    loss = k.losses.BinaryCrossentropy() if two else k.losses.SparseCategoricalCrossentropy()
    truth: Any = labels % 2 if two else labels
    model.compile(k.optimizers.Adam(2e-3), [loss, k.losses.MeanSquaredError()] if several else loss)
    model.fit(x, [truth, np.zeros((len(x), 3), np.float32)] if several else truth, epochs=EPOCHS, batch_size=32, verbose=0)


class Heard(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, sentence: str, style: str = "") -> None:
        self.said.append(sentence)


def tried(work: Callable[[], str], folder: Path) -> str:
    """What ``work`` says, or the sentence of its refusal, without this machine's paths; a fault of edgeq's own is called one."""
    try:
        said = f"works: {work()}"
    except EdgeqError as error:
        said = str(error)
    except Exception as error:
        said = f"FAULT: {type(error).__name__}: {error}"
    return " ".join(said.replace(f"{folder}/", "").split()).replace("|", "\\|")


def exported(model: Path, photos: str, output: Path, name: str | None, portable: bool) -> str:
    """The files, the accuracy of the network and the range of that of its files on every runtime, and the proof."""
    heard = Heard()
    options: dict[str, Any] = {"calibrate": photos, "n": 40, "layers": 1, "portable": portable, "output_name": name, "reporter": heard}
    made = export(model, output, **options)
    right = {line.name: line.accuracy[0] for line in made.measured.fidelity.runtimes if line.accuracy}
    whole = right.pop("keras-float" if portable else "keras")
    text = f"{', '.join(sorted({Path(file).suffix for file in made.files}))}; accuracy {whole:.3f}, of the files {min(right.values()):.3f}"
    text += f" to {max(right.values()):.3f}"
    if portable and made.measured.portable is not None:
        text += "; " + made.measured.portable.sentence.split(" (")[0]
    return text + "".join(f"; {said}" for said in heard.said if said.startswith("no .onnx"))


def attacked(target: Path, photos: str, name: str | None) -> str:
    """The lowest robust accuracy under five steps of PGD at 4/255 on 40 images."""
    with edgeq.attack(target, photos, "pgd:steps=5", n=40, eps="4/255", output=name) as result:
        lowest = result.summary.lowest
        return f"robust accuracy {lowest.robust_accuracy:.3f}" if lowest else "it answers all images alike"


def row(path: Path, photos: str, name: str | None) -> list[str]:
    """The cells of a network."""
    out = path.with_name("build")
    return [
        tried(lambda: exported(path, photos, out, name, False), path.parent),
        tried(lambda: attacked(path, photos, name), path.parent),
        tried(lambda: attacked(out / "net.tflite", photos, None), path.parent),
        tried(lambda: exported(path, photos, out, name, True), path.parent),
    ]


def main() -> None:
    wanted = sys.argv[1:] or [*NETWORKS]
    print("| network | Keras | export | attack on the network | attack on the `.tflite`, by its own gradients | `export --portable` |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as place:
        x, labels = images(Path(place))
        for name in wanted:
            build, trained = NETWORKS[name]
            for major, k in PACKAGES.items():
                folder = Path(place) / f"{major}-{name.replace(' ', '-')}"
                folder.mkdir()
                k.utils.set_random_seed(0)
                model = build(k)
                if trained:
                    train(k, model, x, labels)
                model.save(path := folder / "net.keras")
                photos = f"folder:{Path(place) / ('two' if name == 'one sigmoid output' else 'ten')}"
                cells = row(path, photos, "digit" if name == "two outputs" else None)
                print(f"| {name}{'' if trained else ' (random weights)'} | {major} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
