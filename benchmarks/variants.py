"""What two variants cost: the GRU with the reset before its product, and a tape that is kept. A Markdown table.

    python benchmarks/variants.py [--threads 1]

The same sizes and numbers beside each other, interleaved, medians of a forward and a backward pass in float32.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import rnnfast
from rnnfast import _core
from rnnfast.benchmark import machine
from rnnfast.benchmark.measure import Timing, interleave

SIZES = ((1, 100, 64, 128), (16, 20, 64, 64), (32, 50, 128, 256), (64, 50, 256, 512))  # N, T, D, H


def arrays(cell: str, N: int, T: int, D: int, H: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    G, P, _ = _core.cell_blocks(cell)
    shapes = ((N, T, D), (D, G * H), (H, G * H), (P * H,), (N, T, H))
    return tuple(rng.normal(0, s[0] ** -0.5 if len(s) == 2 else 1, s).astype(np.float32) for s in shapes)


def step(cell: str, *sizes: int) -> Callable[[], Any]:
    *given, dh = arrays(cell, *sizes)

    def call() -> Any:
        return rnnfast.backward(rnnfast.forward(cell, *given).tape, dh)

    return call


def kept_step(cell: str, *sizes: int) -> Callable[[], Any]:
    *given, dh = arrays(cell, *sizes)
    N, T, _, H = sizes
    W, panels = _core.tape_panels(cell, False)
    numbers = np.empty(-(-H // W) * panels * (N * T | 1) * W, np.float32)

    def call() -> Any:
        _core.forward(cell, *given, None, None, False, False, None, None, None, False, numbers)
        tape = _core.kept_tape(cell, *given, None, False, False, numbers)
        return _core.backward(tape, dh, None, None, True, None)

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    rnnfast.set_num_threads(options.threads)
    of = machine()
    print(
        f"{of['processor']}, {of['instruction set']}, {options.threads} thread(s); rnnfast {rnnfast.__version__} "
        f"({of['compiler']}), NumPy {np.__version__}, Python {platform.python_version()}\n"
    )
    print("| variant | N/T/D/H | ms | beside | ms | times as long |")
    print("|---|---|---|---|---|---|")
    pairs = [("gru_reset_before", step, "gru", step), ("lstm, tape kept", kept_step, "lstm", step)]
    for name, make, other, make_other in pairs:
        for sizes in SIZES:
            calls = {"variant": make(name.split(",")[0], *sizes), "other": make_other(other, *sizes)}
            timings = {key: Timing(call) for key, call in calls.items()}
            interleave(timings, 1.0)
            ms = {key: timing.summary()["median"] for key, timing in timings.items()}
            shown, ratio = "/".join(map(str, sizes)), ms["variant"] / ms["other"]
            print(f"| {name} | {shown} | {ms['variant']:.3f} | {other} | {ms['other']:.3f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
