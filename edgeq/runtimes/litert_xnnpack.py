"""LiteRT with the kernels of its default delegate (google/XNNPACK), those of most phones; what it does not take, the builtin ones do."""

from edgeq.core.runtime import Runtime
from edgeq.runtimes._litert import LiteRT

plugin: Runtime = LiteRT("litert-xnnpack", "AUTO", rank=10)
