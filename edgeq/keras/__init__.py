"""The only TensorFlow room: networks, training, gradients, export.

Importing this package imports no TensorFlow; it sets what must stand in the environment before TensorFlow is imported. TF-MOT
works with Keras 2 alone, so ``tf.keras`` has to be the ``tf_keras`` package; Keras 3 files are read through ``keras`` beside it.
"""

from __future__ import annotations

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
