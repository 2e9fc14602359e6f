"""Makes tests/digits_lstm.tflite, an int8 LSTM that TensorFlow's converter keeps as one stateful op: ``python tools/make_lstm.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def main() -> None:
    import tensorflow as tf
    import tf_keras as keras

    from edgeq import data

    keras.utils.set_random_seed(0)
    digits = data.open("digits", split="train")
    images = np.stack([digits.image(i) for i in range(len(digits))]).astype(np.float32) / 255

    def network(batch: int | None) -> keras.Model:
        layers = [keras.layers.Reshape((8, 8)), keras.layers.LSTM(8), keras.layers.Dense(10), keras.layers.Softmax()]
        return keras.Sequential([keras.layers.Input((8, 8, 1), batch_size=batch), *layers])

    taught, shipped = network(None), network(1)  # with a batch of one the converter keeps the LSTM in one op
    taught.compile("adam", "sparse_categorical_crossentropy")
    taught.fit(images, digits.labels, epochs=40, verbose=0)
    shipped.set_weights(taught.get_weights())
    converter = tf.lite.TFLiteConverter.from_keras_model(shipped)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([images[i : i + 1]] for i in range(200))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    path = Path(__file__).parents[1] / "tests" / "digits_lstm.tflite"
    path.write_bytes(converter.convert())
    print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
