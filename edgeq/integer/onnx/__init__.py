"""What lies between the bytes of an ``.onnx`` file and the integer graph; :mod:`edgeq.integer.read_onnx` puts it together."""
