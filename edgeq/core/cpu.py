"""The processor: how many cores this process may use, and the flags on which integer results depend."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

# what the kernels of LiteRT, XNNPACK and ONNX Runtime choose their code by
_FLAGS = ("avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "amx_int8", "neon", "asimd", "asimddp", "i8mm", "sve")


def count() -> int:
    """Cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


@functools.cache
def flags() -> tuple[str, ...]:
    """The instruction sets that matter here, of those this processor has; empty where the system does not say."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ()
    line = next((line for line in text.splitlines() if line.lower().startswith(("flags", "features"))), "")
    have = set(line.partition(":")[2].split())
    return tuple(f for f in _FLAGS if f in have)


def describe() -> str:
    """``x86_64 avx2 fma avx512f``: the instruction set as a runtime's identity states it."""
    return " ".join((platform.machine(), *flags()))


def u8s8_saturates() -> bool:
    """Whether x86 kernels that multiply uint8 by int8 in pairs may saturate at 16 bits (no VNNI): onnxruntime issue 14642."""
    return platform.machine() in ("x86_64", "AMD64") and not {"avx512_vnni", "avx_vnni", "amx_int8"} & set(flags())
