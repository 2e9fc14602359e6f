"""Reads thousands of damaged copies of a model file: each must give a graph or one sentence, soon, and within a bounded memory.

    python tools/fuzz_files.py model.tflite more.tflite --n 5000

Three kinds of damage, in turn: flipped bits, a cut end, and 32-bit words (offsets, lengths) exchanged or overwritten. A child process reads
them under an address-space limit of 1 GB beyond what it holds before; a crash or a hang ends the child and is reported with the seed.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.integer import portable, read_onnx, read_tflite

GIGABYTE, SECONDS = 2**30, 5.0


def damaged(content: bytes, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    data = np.frombuffer(content, np.uint8).copy()
    if seed % 3 == 0:
        at = rng.integers(0, len(data), int(rng.integers(1, 30)))
        data[at] ^= np.uint8(1) << rng.integers(0, 8, len(at)).astype(np.uint8)
    elif seed % 3 == 1:
        data = data[: int(rng.integers(0, len(data)))]
    else:
        words = data[: len(data) // 4 * 4].view(np.uint32)
        # tables lie at both ends of such files, weights between them
        near = np.concatenate([np.arange(min(2000, len(words))), np.arange(max(0, len(words) - 4000), len(words))])
        a, b = rng.choice(near, 2 * int(rng.integers(1, 10))).reshape(2, -1)
        words[a] = rng.choice([words[b], rng.integers(0, 2**32, len(a), dtype=np.uint32)])
    return data.tobytes()


def attend(path: str, seeds: range, found: multiprocessing.Queue) -> None:
    file = Path(path)
    content, reader = file.read_bytes(), read_onnx if file.suffix == ".onnx" else read_tflite
    reader.read(file)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + GIGABYTE, held + GIGABYTE))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / file.name
        for seed in seeds:
            copy.write_bytes(damaged(content, seed))
            began = time.process_time()  # the machine may have other things to do
            try:
                graph = reader.read(copy)
                portable.prove(graph)
                outcome = "a graph"
            except EdgeqError as error:
                outcome = "a sentence" if "\n" not in str(error) else "a message of several lines"
            except MemoryError:
                outcome = "more than 1 GB"
            except Exception as error:
                outcome = f"{type(error).__name__}: {error} (seed {seed})"
            found.put((seed, outcome, time.process_time() - began))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--n", type=int, default=5000)
    a = parser.parse_args()
    for path in a.files:
        counts, slowest, next_seed = collections.Counter[str](), 0.0, 0
        while next_seed < a.n:
            queue: multiprocessing.Queue = multiprocessing.Queue()
            child = multiprocessing.Process(target=attend, args=(path, range(next_seed, a.n), queue))
            child.start()
            while next_seed < a.n:
                try:
                    seed, outcome, seconds = queue.get(timeout=2 * SECONDS)
                except Exception:  # queue.Empty: a hang, or the child is gone
                    counts[f"crash or hang (seed {next_seed})"] += 1
                    next_seed += 1
                    break
                counts[outcome if seconds < SECONDS else f"{seconds:.1f} s (seed {seed})"] += 1
                slowest, next_seed = max(slowest, seconds), seed + 1
            child.kill()
            child.join()
        print(f"{Path(path).name}: {a.n} damaged copies, slowest {slowest:.2f} s: {dict(counts.most_common())}", flush=True)


if __name__ == "__main__":
    main()
