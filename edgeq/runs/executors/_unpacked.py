"""The far side of a Dask cluster: the kit of a run in the process of a worker, where it does one work at a time."""

from __future__ import annotations

import importlib
import pickle
import threading
import weakref
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import edgeq
from edgeq.core.errors import EdgeqError
from edgeq.runs.executors.kit import Kit
from edgeq.targets.opener import Bench


class Unpacked:
    """A kit on a worker: its targets are opened when there is work, and closed when the cluster forgets the kit."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._bench: Bench | None = None
        kit: Kit = pickle.loads(content)
        if kit.version != edgeq.__version__:
            raise EdgeqError(f"a Dask worker has edgeq {edgeq.__version__}, and the run was started by {kit.version}; install that there")
        self._stack, self._kit = ExitStack(), kit
        weakref.finalize(self, self._stack.close)

    def __reduce__(self) -> tuple[Any, ...]:
        return Unpacked, (self._content,)

    def do(self, work: bytes) -> bytes:
        """All that comes of a pickled work, pickled."""
        with _ONE_AT_A_TIME:
            return pickle.dumps(list(pickle.loads(work)(self._opened())))

    def _opened(self) -> Bench:
        global _latest
        latest = _latest() if _latest is not None else None
        if latest is not self:  # what is trusted holds for the whole process
            if latest is not None:
                latest._stack.close()
            threads = self._kit.threads or importlib.import_module("distributed").get_worker().state.nthreads
            self._bench = self._stack.enter_context(replace(self._kit, threads=threads).elsewhere())
            _latest = weakref.ref(self)
        assert self._bench is not None
        return self._bench


_ONE_AT_A_TIME = threading.Lock()
_latest: weakref.ref[Unpacked] | None = None
