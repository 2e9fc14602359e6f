"""The near side of a worker: a process of its own that holds the interpreters of one file, its limits, and what is said of its end.

Interpreters are native code that reads untrusted files, and a file may behave on one image and not on the next. So they never live in
this process. Requests and replies are lines of JSON on two pipes (a reply may carry bytes); images and raw outputs lie in shared memory.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
import select
import signal
import subprocess
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.children import python_child, signal_name, unnamed
from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature
from edgeq.runtimes._lanes import as_answer, check_images, pieces

START = 60.0  # seconds that a first trial of a file may take, by the clock; opening it with all its lanes SLACK times that
WAIT = 20.0  # seconds that an answer may take by the clock, and SLACK times its processor time: then it is stopped or starved
SLACK = 4
CPU = 2.0  # seconds of processor time that an answer may take, and FACTOR times what its images took when the file was opened
FACTOR = 20
TICK = 1.0  # seconds; a longer wait was this process's own: it was stopped, or the machine slept
PACE, FASTER = 0.2, 4  # seconds of answers that one message may ask for: of a fast file, up to so many batches
NOISE = 2**14  # bytes of an interpreter's chatter that are kept

# signals that come from outside; any other is the interpreter's own doing
_OUTSIDE = {getattr(signal, name, None) for name in ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU")}


class WorkerError(EdgeqError):
    """A worker gave no answer: its interpreter refused the file or an image, crashed, or took too much time or memory."""


class LostError(WorkerError):
    """A worker was killed from outside, or did nothing for too long: that says nothing of its file, and may not happen again."""


class Worker:
    """One process. ``request``: what it shall do (:mod:`edgeq.runtimes._worker`), with ``name`` and ``path``; ``shared``: bytes of memory.

    The process dies with this value, and with this process, however that ends.
    """

    def __init__(self, request: dict[str, Any], shared: int = 0) -> None:
        self.name, self.path = request["name"], request["path"]
        self.memory: mmap.mmap | None = None
        life, alive = os.pipe()  # nothing is written: the worker is killed when our end is closed
        inherited = [life]
        try:
            if shared:
                inherited.append(unnamed(shared))
                self.memory = mmap.mmap(inherited[-1], shared)
            command, env = python_child("edgeq.runtimes._worker", *map(str, inherited))
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(  # of its own session: Ctrl-C and Ctrl-Z are for this process alone
                command, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe, env=env, pass_fds=inherited, start_new_session=True
            )
        except OSError as error:
            os.close(alive)
            raise LostError(f"{self.path}: no process can be started for {self.name} ({error.strerror})") from None
        finally:
            for fd in inherited:
                os.close(fd)
        self.close = weakref.finalize(self, _end, self.process, alive)
        self._held, self.noise = bytearray(), b""
        self._cpu = 0.0
        assert self.process.stdout
        assert self.process.stderr
        self._out, self._err = self.process.stdout.fileno(), self.process.stderr.fileno()
        os.set_blocking(self._err, False)
        self._poll = select.poll()
        for fd in (self._out, self._err):
            self._poll.register(fd, select.POLLIN)
        self.send(request)

    def send(self, request: dict[str, Any]) -> None:
        """One line; a worker that is gone is noticed when its reply is awaited."""
        assert self.process.stdin
        self._cpu = request.get("cpu", 0.0)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request).encode() + b"\n")

    def receive(self, seconds: float, task: str) -> tuple[dict[str, Any], bytes]:
        """The reply, and the bytes that follow it. ``task``: in words, as in *finish one image*.

        Raises :class:`WorkerError` for what the file brought about, and after ``seconds`` at the latest :class:`LostError` for what not.
        """
        line = self._line(seconds, task)
        try:
            reply = json.loads(line)
        except ValueError:
            self.close()
            raise WorkerError(f"{self.path}: the process of {self.name} gave an answer that makes no sense; it should {task}") from None
        size = reply.pop("bytes", 0)
        while len(self._held) < size:
            self._read(seconds, task)
        payload = bytes(self._held[:size])
        del self._held[:size]
        if "error" in reply:
            raise WorkerError(reply["error"])
        if "refused" in reply:
            reason = condense(self.chatter() if reply.get("silent") else "") or condense(reply["refused"]) or "no reason given"
            raise WorkerError(f"{self.path}: {self.name} cannot run it: {reason}")
        return reply, payload

    def chatter(self) -> str:
        """What the interpreter printed so far."""
        with contextlib.suppress(BlockingIOError):
            while self._listen():
                pass
        return self.noise.decode("utf-8", "replace")

    def _listen(self) -> bytes:
        text = os.read(self._err, NOISE)
        self.noise = (self.noise + text)[-NOISE:]
        return text

    def _line(self, seconds: float, task: str) -> bytes:
        while (end := self._held.find(b"\n")) < 0:
            self._read(seconds, task)
        line = bytes(self._held[:end])
        del self._held[: end + 1]
        return line

    def _read(self, seconds: float, task: str) -> None:
        """Waits for more of a reply."""
        waited = 0.0
        while True:
            start = time.monotonic()
            events = dict(self._poll.poll(1000 * min(TICK, seconds)))
            waited += min(time.monotonic() - start, TICK)
            if self._out in events:
                if more := os.read(self._out, 2**20):
                    self._held += more
                    return
                raise self._ended(task)
            if events and not self._listen():
                self._poll.unregister(self._err)
            if waited >= seconds:
                stopped = " (its process is stopped)" if _is_stopped(self.process.pid) else ""
                self.close()
                raise LostError(f"{self.path}: {self.name} did not {task} in {seconds:g} s{stopped}")

    def _ended(self, task: str) -> WorkerError:
        """What is said of a worker that closed its end."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(TICK)
        words = condense(self.chatter())
        self.close()
        code = self.process.returncode
        if code == -signal.SIGPROF:
            time_ = f"{self._cpu:.3g} s of processor time" if self._cpu else "the processor time that a file of its size may take"
            return WorkerError(f"{self.path}: {self.name} did not {task} in {time_}")
        if -code in _OUTSIDE:
            why = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
            how = f"killed from outside ({signal_name(-code)}{why})"
            return LostError(f"{self.path}: the process of {self.name} was {how}; it should {task}")
        because = f": {words}" if words else ""
        if code < 0:
            return WorkerError(f"{self.path}: the interpreter {self.name} crashed ({signal_name(-code)}) on this file{because}")
        return WorkerError(f"{self.path}: the interpreter {self.name} ended without an answer on this file{because or ' (no message)'}")


Round = list[tuple[slice, Worker, tuple[np.ndarray, np.ndarray]]]
"""What is asked at once: for each worker its share of the images, and its views of the memory for images and for raw outputs."""


class Answering:
    """A :class:`~edgeq.core.protocols.Target` over workers that share the images out, each of them as lanes of its own."""

    def __init__(self, signature: Signature, workers: list[Worker], share: int, batch: int) -> None:
        """``share``: images that a worker is sent at once, at most, and that its memory holds; ``batch``: that several workers answer best
        at once, one says it itself; of a fast file more."""
        self.name, self.signature, self._share, self._workers = workers[0].name, signature, share, workers
        image = int(np.prod(signature.input.shape))
        width, dtype = signature.width, np.dtype(signature.output.dtype)
        self._views: list[tuple[np.ndarray, np.ndarray]] = []
        self._unfetched: Callable[[], Answer] | None = None
        try:
            ready = [w.receive(SLACK * START, "open the file")[0] for w in workers]
            for worker in workers:
                assert worker.memory is not None
                images = np.frombuffer(worker.memory, np.uint8, share * image).reshape(share, *signature.input.shape)
                out = np.frombuffer(worker.memory, dtype, share * width, output_offset(share * image)).reshape(share, width)
                self._views.append((images, out))
        except BaseException:
            self.close()
            raise
        self.chunk, self._identity, self._seconds = ready[0]["chunk"], ready[0]["identity"], max(r["seconds"] for r in ready)
        batch = ready[0]["batch"] if len(workers) == 1 else batch
        self.batch = batch * int(np.clip(PACE / (batch * self._seconds), 1, FASTER))

    def answer(self, images: np.ndarray) -> Answer:
        """Answers to ``(m, h, w, c) uint8`` images, any ``m``; a row's answer does not depend on the others.

        Raises :class:`WorkerError` where an interpreter crashes, hangs, wants too much memory or is killed; then it is closed for good.
        """
        return self.answer_later(images)()

    def answer_later(self, images: np.ndarray) -> Callable[[], Answer]:
        """See :class:`~edgeq.core.protocols.AnswersLater`. Both halves raise as :meth:`answer` does."""
        check_images(self.name, self.signature, images)
        if self._unfetched is not None:
            self._unfetched()
        raw = np.empty((len(images), self.signature.width), self.signature.output.dtype)
        shares, every = pieces(len(images), self._share, len(self._workers)), len(self._workers)
        rounds = [list(zip(shares[at : at + every], self._workers, self._views, strict=False)) for at in range(0, len(shares), every)]

        def send(asked: Round) -> None:
            for piece, worker, (space, _) in asked:
                n = piece.stop - piece.start
                space[:n] = images[piece]
                worker.send({"n": n, "cpu": allowance(n, self._seconds)})

        def receive(asked: Round) -> None:
            for piece, worker, (_, out) in asked:
                n = piece.stop - piece.start
                worker.receive(patience(allowance(n, self._seconds)), f"answer {n} image{'s' * (n > 1)}")
                raw[piece] = out[:n]

        def fetch() -> Answer:
            if self._unfetched is fetch:
                self._unfetched = None
                with self._closing():
                    for turn, asked in enumerate(rounds):
                        receive(asked)
                        for following in rounds[turn + 1 : turn + 2]:
                            send(following)
            return as_answer(self.signature, raw)

        with self._closing():
            for asked in rounds[:1]:
                send(asked)
        self._unfetched = fetch
        return fetch

    @contextlib.contextmanager
    def _closing(self) -> Iterator[None]:
        try:
            yield
        except BaseException:  # also Ctrl-C: what was asked is not waited for
            self.close()
            raise

    def identity(self) -> dict[str, Any]:
        """Engine, version, kernel set, instruction set, and the rule that breaks ties: what makes this runtime this function."""
        return dict(self._identity)

    def close(self) -> None:
        """Ends the processes; the target answers no more."""
        for worker in self._workers:
            worker.close()
        self._views, self._unfetched = [], None


def allowance(images: int, seconds: float) -> float:
    """Seconds of processor time that so many images may take, each of which took ``seconds`` when the file was opened."""
    return CPU + FACTOR * images * seconds


def patience(cpu: float) -> float:
    """Seconds by the clock to wait for what may take ``cpu`` seconds of processor time."""
    return WAIT + SLACK * cpu


def output_offset(image_bytes: int) -> int:
    """Where in the shared memory the raw outputs begin."""
    return -(-image_bytes // 64) * 64


def shared_bytes(signature: Signature, share: int) -> int:
    """Bytes of memory that images and raw outputs of one message take."""
    images = share * int(np.prod(signature.input.shape))
    return output_offset(images) + share * signature.width * np.dtype(signature.output.dtype).itemsize


def condense(text: str) -> str:
    """The essential clause of an interpreter's message: without source paths, logging marks and chatter."""
    lines = [line for line in text.splitlines() if not re.match(r"\s*(INFO|WARNING|W\d{4}|I\d{4}|\[Recording)", line)]
    joined = "; ".join(line.strip(" .") for line in lines if line.strip())
    joined = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", joined)
    joined = re.sub(r"[\w./-]+\.(cc|cpp|h|hpp)(:\d+)?:?\s*", "", joined)
    clauses = re.split(r"; |(?<=[\w\)])\.(?=Tensor |Node |quantized_)", joined)  # LiteRT strings its sentences together
    said: dict[str, str] = {}
    for clause in clauses:
        said.setdefault(re.sub(r"\d+", "", clause), clause)  # of every tensor the same: of the first
    joined = "; ".join(said.values())
    joined = re.sub(r"(?<=[a-z\)])(?=Node number)", "; ", joined)
    joined = re.sub(r"\s+", " ", joined).strip(" ;.")
    return joined if len(joined) <= 220 else joined[:217].rsplit(" ", 1)[0] + "..."


def _end(process: subprocess.Popen[bytes], alive: int) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        assert stream
        stream.close()
    os.close(alive)


def _is_stopped(pid: int) -> bool:
    with contextlib.suppress(OSError, AttributeError):
        return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
    return False
