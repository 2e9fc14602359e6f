"""Progress where nobody sees a bar: in a file, or a pipe."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

MINUTE = 60.0  # seconds from one line to the next


class Lines:
    """Progress as lines: of a stage when it ends, if that took a second, and once a minute of the one that goes on."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._began: dict[str, float] = {}
        self._said: dict[str, float] = {}
        self._over: set[str] = set()
        self._now: tuple[str, int, int] | None = None  # the stage that goes on

    def show(self, stage: str, done: int, total: int) -> None:
        """Of a stage so many rows are done."""
        now = time.monotonic()
        with self._lock:
            if stage in self._over:
                return
            seconds = now - self._began.setdefault(stage, now)
            self._said.setdefault(stage, now)
            self._now = None if done >= total else (stage, done, total)
            if done >= total:
                self._over.add(stage)
                if seconds >= 1:
                    self._tell(f"{stage}: {total} in {seconds:.0f} s")
        self.tick()

    def tick(self) -> None:
        """Says how far the stage is that goes on, if a minute has gone by without a word on it."""
        now = time.monotonic()
        with self._lock:
            if self._now is None or now - self._said[self._now[0]] < MINUTE:
                return
            stage, done, total = self._now
            self._said[stage], seconds = now, now - self._began[stage]
            left = f", about {seconds * (total - done) / done:.0f} s left" if done else ""
            self._tell(f"{stage}: {done} of {total} ({100 * done / total:.0f} %) after {seconds:.0f} s{left}")

    def watch(self, ended: threading.Event) -> None:
        """Until all has ``ended``, also where nothing is finished for minutes."""
        while not ended.wait(MINUTE / 10):
            self.tick()
