"""Networks as users of Keras write them, through edgeq: a table of what works, or the sentence that says why not.

    python tools/own_keras.py [NAME ...] > docs/results/own-networks-keras.md

Each network is built small (keras.applications without stored weights), trained for two epochs on the digits where that takes seconds, else
left as it was initialised, and saved by Keras 2 (``tf_keras``) and by Keras 3. Then, as a user would and in processes of their own:
``edgeq export``, ``edgeq attack`` on the network, the same on the ``.tflite`` by its own gradients, and ``edgeq export --portable``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgeq import data
from edgeq.keras import engine

tf = engine.tensorflow()
PACKAGES = {2: tf.keras, 3: engine.need("keras")}
SIZE = 32
EPOCHS = 2


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
    """Two epochs of Adam; of the two outputs the second learns zeros."""
    two, several = model.outputs[0].shape[-1] == 1, len(model.outputs) > 1
    loss = k.losses.BinaryCrossentropy() if two else k.losses.SparseCategoricalCrossentropy()
    truth: Any = labels % 2 if two else labels
    model.compile(k.optimizers.Adam(2e-3), [loss, k.losses.MeanSquaredError()] if several else loss)
    model.fit(x, [truth, np.zeros((len(x), 3), np.float32)] if several else truth, epochs=EPOCHS, batch_size=32, verbose=0)


def edgeq(*words: Any) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-m", "edgeq", *map(str, words)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def sentence(said: str, folder: Path) -> str:
    """The last sentence of an error, without this machine's paths."""
    last = " ".join(said.strip().splitlines()[-1:]).replace(f"{folder}/", "")
    return re.sub(r"^edgeq: ", "", last).replace("|", "\\|")


def exported(model: Path, photos: str, folder: Path, *more: str) -> tuple[str, Path | None]:
    """What the export says, and its ``.tflite``: accuracy of the network and of the files, and the proof."""
    out = folder / f"build{len(list(folder.glob('build*')))}"
    code, printed, said = edgeq("export", model, "-o", out, "--calibrate", photos, "--n", 100, "--layers", 2, "--json", *more)
    if code:
        return sentence(said, folder), None
    document = json.loads(printed)
    right = {line["runtime"]: line["accuracy"][0] for line in document["fidelity"]["runtimes"] if line.get("accuracy")}
    whole = "keras-float" if "keras-float" in right else "keras"
    files = ", ".join(sorted({Path(name).suffix for name in document["files"]}))
    text = f"works: {files}; accuracy {right.pop(whole):.3f} -> " + " ".join(f"{v:.3f}" for v in sorted({*right.values()}))
    if more and "--portable" in more:
        text += f"; {document['portable']['sentence'].split(':')[0]}"
    no_onnx = next((line for line in said.splitlines() if line.startswith("no .onnx")), "")
    return text + (f"; {no_onnx.replace(f'{folder}/', '')}" if no_onnx else ""), next(out.glob("*.tflite"), None)


def attacked(target: Path, photos: str, folder: Path, *more: str) -> str:
    """The lowest robust accuracy under ten steps of PGD at 4/255, on 40 images."""
    run = folder / f"run{len(list(folder.glob('run*')))}.sqlite"
    options = ("--n", 40, "--attack", "pgd:steps=10", "--eps", "4/255", "--run", run, "--json")
    code, printed, said = edgeq("attack", "--target", target, "--data", photos, *options, *more)
    if code:
        return sentence(said, folder)
    document = json.loads(printed)
    return f"works: robust accuracy {document['lowest']['robust_accuracy']:.3f}"


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
                head = ("--output", "digit") if name == "two outputs" else ()
                of = ("--output-name", "digit") if name == "two outputs" else ()
                plain, tflite = exported(path, photos, folder, *of)
                cells = [plain, attacked(path, photos, folder, *head), attacked(tflite, photos, folder) if tflite else "-"]
                cells.append(exported(path, photos, folder, "--portable", *of)[0])
                print(f"| {name}{'' if trained else ' (random weights)'} | {major} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
