"""The deployed file as a differentiable network: an integer graph whose forward pass answers like a chosen runtime, bit by bit, and
whose backward pass goes straight through every rounding (Bengio, Léonard, Courville 2013)."""
