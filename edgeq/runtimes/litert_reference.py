"""LiteRT with its reference kernels (tensorflow/lite/kernels/internal/reference): the plainest loops, and the slowest."""

from edgeq.core.runtime import Runtime
from edgeq.runtimes._litert import LiteRT

plugin: Runtime = LiteRT("litert-reference", "BUILTIN_REF", rank=30, most=4)
