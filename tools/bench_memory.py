"""Peak memory of `edgeq attack` as a whole process, for growing numbers of images.

    python tools/bench_memory.py MODEL.tflite --data DATA [--source FLOAT.h5] [--n 250,500,1000,2000]

With a source: PGD (3 steps) on its gradients, replayed on XNNPACK. Without: SPSA with a budget of 60 queries. Prints the largest resident
size of each process.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--source")
    parser.add_argument("--n", default="250,500,1000,2000")
    options = parser.parse_args()
    how = ["--source", options.source, "--attack", "pgd:steps=3"] if options.source else ["--attack", "spsa", "--max-queries", "60"]
    with tempfile.TemporaryDirectory() as folder:
        for n in map(int, options.n.split(",")):
            arguments = [
                "attack",
                "--target",
                options.model,
                "--data",
                options.data,
                "--n",
                str(n),
                "--runtime",
                "litert-xnnpack",
                "--json",
            ]
            script = (
                "import resource, runpy, sys\n"
                "try: runpy.run_module('edgeq', run_name='__main__')\n"
                "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
            )
            command = [sys.executable, "-c", script, *arguments, *how, "--run", f"{folder}/{n}.sqlite"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(f"n = {n:5}: peak {int(done.stderr.split()[-1]) / 1024:,.0f} MiB")


if __name__ == "__main__":
    main()
