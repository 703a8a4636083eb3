"""How much of the processor's multiply-add peak forward and training reach: python benchmarks/share_of_peak.py

The gradients are compared with a float64 run before anything is timed. Each round measures the peak, a forward pass
without a tape, one with, and a backward pass. Printed are the median of the rounds' own ratios and, behind the slash,
that of the fastest tenth: on a machine with neighbours, who share caches and memory but not the multiply-add units,
the two lie far apart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import rnnfast
from problems import Shape, machine, make_problem, peak

SHAPES = [
    Shape("lstm", 50, 64, 256, 256),
    Shape("lstm", 25, 16, 512, 512),
    Shape("lstm", 25, 128, 512, 512),
    Shape("lstm", 100, 32, 100, 128),
    Shape("gru", 50, 64, 256, 256),
    Shape("rnn_tanh", 100, 32, 100, 128),
]


def check(shape: Shape) -> float:
    """Largest error of any gradient in float32, relative to the largest number of that gradient."""
    results = []
    for dtype in (np.float32, np.float64):
        p = make_problem(shape)
        arrays = [a.astype(dtype) for a in (p.x, p.Wx, p.Wh, p.b)]
        h, _, tape = rnnfast.forward(shape.cell, *arrays)
        g = rnnfast.backward(tape, p.dh.astype(dtype))
        results.append([h, g.x, g.Wx, g.Wh, g.b, *g.state])
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(*results, strict=True))


def measure(shape: Shape, threads: int, rounds: int) -> dict[str, float]:
    p = make_problem(shape)
    shares: dict[str, list[float]] = {"forward": [], "forward with tape": [], "backward": [], "training": []}
    milliseconds: dict[str, list[float]] = {name: [] for name in shares}
    for number in range(rounds + 3):
        top = peak(threads, 0.01)
        start = time.perf_counter()
        rnnfast.forward(shape.cell, p.x, p.Wx, p.Wh, p.b, keep_tape=False, num_threads=threads)
        t1 = time.perf_counter()
        tape = rnnfast.forward(shape.cell, p.x, p.Wx, p.Wh, p.b, num_threads=threads).tape
        t2 = time.perf_counter()
        rnnfast.backward(tape, p.dh, num_threads=threads)
        t3 = time.perf_counter()
        if number < 3:
            continue
        for name, flops, seconds in (
            ("forward", 1, t1 - start),
            ("forward with tape", 1, t2 - t1),
            ("backward", 2, t3 - t2),
            ("training", 3, t3 - t1),
        ):
            shares[name].append(flops * shape.flops / seconds / top)
            milliseconds[name].append(seconds * 1e3)
    return (
        {name: statistics.median(s) for name, s in shares.items()}
        | {f"{name} fastest tenth": sorted(s)[-1 - len(s) // 10] for name, s in shares.items()}
        | {f"{name} ms": statistics.median(m) for name, m in milliseconds.items()}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads to measure")
    parser.add_argument("--rounds", type=int, default=20, help="rounds for each shape")
    parser.add_argument("--first", action="store_true", help="only the first shape")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    rows = []
    if not options.json:
        print(", ".join(f"{k}: {v}" for k, v in machine().items()))
        print(f"peak of one thread: {peak(1, 0.2) / 1e9:.0f} Gflop/s; shares of the peak of all threads in use")
        print(
            f"{'T/N/D/H':28}{'threads':>8}{'forward':>10}{'with tape':>11}{'backward':>10}{'training':>10}{'error':>10}"
        )
    for shape in SHAPES[: 1 if options.first else None]:
        error = check(shape)
        assert error < 1e-4, f"{shape}: gradients differ from float64 by {error}"
        for threads in options.threads:
            m = measure(shape, threads, options.rounds)
            rows.append({"shape": str(shape), "threads": threads, "error": error, **m})
            if not options.json:
                columns = "".join(
                    f"{m[name]:10.1%} /{m[f'{name} fastest tenth']:5.0%}"
                    for name in ("forward", "forward with tape", "backward", "training")
                )
                print(f"{shape!s:28}{threads:8}{columns}{error:10.1e}")
    if options.json:
        print(json.dumps({"machine": machine(), "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
