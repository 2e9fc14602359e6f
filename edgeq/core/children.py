"""Child processes of this very package: how one is started, what it may share with its parent, and that it never outlives it."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

RESERVE = 8 * 2**30  # bytes of address space beyond: libraries, stacks and the allocator's reserves take some 0.1 GiB a thread, unused


def python_child(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a Python child that finds this very package, and nothing in the working directory."""
    here = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(p for p in (here, os.environ.get("PYTHONPATH", "")) if p)
    # one thread for numpy's linear algebra: none is used, and idle threads count against the memory limit
    return [sys.executable, "-P", "-m", module, *arguments], {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}


def unnamed(size: int) -> int:
    """A descriptor of memory that two processes can share, and that is gone with them."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("edgeq")
    else:  # macOS
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


def die_with_parent(life: int) -> None:
    """Has the kernel kill this process when the other end of the pipe ``life`` is closed, even while native code runs, or while it is
    stopped. Elsewhere than on Linux nothing happens: it ends when it next looks for a request."""
    import fcntl

    if not hasattr(fcntl, "F_SETSIG"):
        return
    fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)


def limit(memory: int, write: bool) -> int:
    """Holds this process to ``memory`` bytes, no core dumps, and unless ``write`` no bytes in files, where the system has such limits.

    Returns ``memory``.
    """
    import resource

    for what, most in (
        (resource.RLIMIT_DATA, memory),  # private memory: what is really taken
        (resource.RLIMIT_AS, memory + RESERVE),  # for systems that do not count the former
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, memory if write else 0),
    ):
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    return memory


def limit_cpu(seconds: float) -> None:
    """Processor time of all threads from now on, after which SIGPROF ends this process."""
    signal.setitimer(signal.ITIMER_PROF, min(seconds, 1e6))


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
