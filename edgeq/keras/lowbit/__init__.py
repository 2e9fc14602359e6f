"""Networks whose layers are quantised: :mod:`.wrap` puts a method of :mod:`edgeq.keras.quantizers` around them."""
