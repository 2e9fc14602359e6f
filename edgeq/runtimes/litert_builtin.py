"""LiteRT with its optimised kernels alone (tensorflow/lite/kernels, ruy): without a delegate."""

from edgeq.core.runtime import Runtime
from edgeq.runtimes._litert import LiteRT

plugin: Runtime = LiteRT("litert-builtin", "BUILTIN_WITHOUT_DEFAULT_DELEGATES", rank=20, forgetful=True)
