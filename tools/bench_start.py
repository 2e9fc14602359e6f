"""How long edgeq takes to import and the command line to answer, and what it imports.

    python tools/bench_start.py MODEL.tflite --data DATA [--rounds 7]

Prints the median seconds of `import edgeq`, of `edgeq --help`, and of `edgeq attack` with SPSA until its first query (one image, two
queries), and whether TensorFlow was imported on the way. The first is measured inside a process, the others are whole processes.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

SCRIPT = "import sys; from edgeq.cli.main import main\ntry: main()\nfinally: print('tensorflow' in sys.modules, file=sys.stderr)"

IMPORT = "import time; start = time.perf_counter(); import {name}; print(time.perf_counter() - start)"


def importing(name: str) -> float:
    done = subprocess.run([sys.executable, "-c", IMPORT.format(name=name)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def seconds(arguments: list[str]) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True)
    return time.perf_counter() - start, done.stderr.strip().splitlines()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for name in ("edgeq", "click"):  # click is what any other command line of Python's loads, too
        times = sorted(importing(name) for _ in range(options.rounds))
        print(f"import {name}: median {statistics.median(times):.4f} s ({times[0]:.4f}..{times[-1]:.4f})")
    with tempfile.TemporaryDirectory() as folder:
        attack = [
            "attack",
            "--target",
            options.model,
            "--data",
            options.data,
            "--n",
            "1",
            "--attack",
            "spsa",
            "--max-queries",
            "2",
            "--json",
        ]
        for name, build in {
            "edgeq --help": lambda k: ["--help"],
            "edgeq attack, one image, XNNPACK": lambda k: [*attack, "--runtime", "litert-xnnpack", "--run", f"{folder}/x{k}.sqlite"],
            "edgeq attack, one image, every runtime": lambda k: [*attack, "--run", f"{folder}/a{k}.sqlite"],
        }.items():
            found = [seconds(build(k)) for k in range(options.rounds)]
            times = sorted(t for t, _ in found)
            print(f"{name}: median {statistics.median(times):.2f} s ({times[0]:.2f}..{times[-1]:.2f}); TensorFlow imported: {found[0][1]}")


if __name__ == "__main__":
    main()
