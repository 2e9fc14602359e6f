"""Networks: one file each, whose ``plugin`` is ``build(width=1.0, classes=..., input_shape=...) -> tf_keras.Model``.

All of them take **raw pixels, 0..255 as float32**, and end in softmax. So the int8 file's input has scale 1 and zero point -128, and a
device feeds it ``q = p - 128`` without arithmetic; the first batch normalisation sees to the range. No rescaling layer: it would become a
requantising MUL in the file. Every other part is what TF-MOT's int8 scheme folds: convolution or dense, batch normalisation, ReLU.
"""
