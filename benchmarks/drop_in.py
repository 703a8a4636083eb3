"""How much faster the NumPy programs of docs/drop-in.md train with rnnfast inside: a Markdown table.

    python benchmarks/drop_in.py [--rounds 7]

Whole trainings, interleaved, in one process with one thread of BLAS and of OpenMP; medians.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import rnnfast
from rnnfast.benchmark import machine
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).parent / "drop_in"))
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("columns", "D 16, H 64, T 50", {"sizes": (16, 64, 3), "steps": 50}),
    ("columns", "D 64, H 256, T 50", {"sizes": (64, 256, 3), "steps": 50}),
    ("course", "RNN, N 32, T 30, D 64, H 128", {"sizes": (64, 8, 128), "cell": "rnn", "batch": 32, "steps": 30}),
    ("course", "LSTM, N 32, T 30, D 64, H 128", {"sizes": (64, 8, 128), "cell": "lstm", "batch": 32, "steps": 30}),
    ("course", "LSTM, N 8, T 50, D 16, H 32", {"sizes": (16, 8, 32), "cell": "lstm", "batch": 8, "steps": 50}),
    ("characters", "H 100, T 25", {"hidden": 100}),
    ("characters", "H 512, T 25", {"hidden": 512}),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    of = machine()
    print(
        f"{of['processor']}, {of['instruction set']}, one thread; rnnfast {rnnfast.__version__} ({of['compiler']}), "
        f"NumPy {np.__version__}, Python {platform.python_version()}; medians of {rounds} interleaved trainings of 30 "
        "updates\n"
    )
    print("| program | sizes | NumPy, ms | with rnnfast, ms | times as fast |")
    print("|---|---|---|---|---|")
    with threadpool_limits(1):
        for name, sizes, options in CASES:
            programs = [importlib.import_module(n) for n in (name, f"{name}_rnnfast")]
            seconds: list[list[float]] = [[], []]
            for program in programs:
                program.train(**options)
            for _ in range(rounds):
                for program, taken in zip(programs, seconds, strict=True):
                    start = time.perf_counter()
                    program.train(**options)
                    taken.append(time.perf_counter() - start)
            slow, fast = (1e3 * statistics.median(s) for s in seconds)
            print(f"| {name} | {sizes} | {slow:.1f} | {fast:.1f} | {slow / fast:.1f} |", flush=True)


if __name__ == "__main__":
    main()
