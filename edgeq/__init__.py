"""edgeq: how easily the network that ships is fooled, measured on the file and the kernels that ship."""

__version__ = "0.1.0"
