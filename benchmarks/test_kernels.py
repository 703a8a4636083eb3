"""A guard: every cell trains right beside the NumPy reference, and a good deal faster. No figures are taken here.

Run by the plain `pytest`, where each benchmark is a test; `pytest benchmarks --benchmark-enable` times them.
"""

import numpy as np
import pytest
import rnnfast
from rnnfast.benchmark.contender import make_problem
from rnnfast.benchmark.grid import parse
from rnnfast.benchmark.measure import Timing, interleave
from rnnfast.benchmark.peers import CONTENDERS

N, T, D, H = 16, 20, 64, 64


def make_arrays(cell, dtype=np.float32):
    rng = np.random.default_rng(0)
    G, P, _ = rnnfast._core.cell_blocks(cell)
    shapes = [(N, T, D), (D, G * H), (H, G * H), (P * H,), (N, T, H)]
    scales = [1, (D + H) ** -0.5, (D + H) ** -0.5, 1, 1]
    return [
        (rng.normal(size=s) * scale).astype(np.float32).astype(dtype) for s, scale in zip(shapes, scales, strict=True)
    ]


def train(module, cell, arrays):
    *inputs, dh = arrays
    h, _, tape = module.forward(cell, *inputs)
    return h, module.backward(tape, dh)


@pytest.mark.parametrize("cell", rnnfast.cells())
def test_training(benchmark, cell):
    """The cells that the grid leaves out, too."""
    h, gradients = train(rnnfast, cell, make_arrays(cell))
    expected_h, expected = train(rnnfast.reference, cell, make_arrays(cell, np.float64))
    for actual, right in [(h, expected_h), *zip(gradients[:4], expected[:4], strict=True)]:
        assert np.abs(actual - right).max() < 2e-5 * np.abs(right).max()
    benchmark(train, rnnfast, cell, make_arrays(cell))


@pytest.mark.parametrize(("row", "least"), [("lstm 20/16/64/64", 2), ("gru 20/16/64/64", 2), ("rnn 20/16/64/64", 2)])
def test_faster_than_numpy(row, least):
    """A kernel that lost its vectors fails this; a noisy machine does not: interleaved rounds, the quickest calls."""
    problem = make_problem(parse(row))
    timings = {name: Timing(CONTENDERS[name](1).prepare(problem, "training").call) for name in ("rnnfast", "numpy")}
    interleave(timings, 0.1)
    ratio = min(timings["numpy"].seconds) / min(timings["rnnfast"].seconds)
    assert ratio > least, f"training takes {1 / ratio:.2f} of NumPy's time"
