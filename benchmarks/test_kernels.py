"""pytest-benchmark suite: the answer is checked, then the call is timed, beside the NumPy reference.

Run with  pytest benchmarks --benchmark-enable ; without that flag each benchmark is a plain test.
"""

import statistics
import time

import numpy as np
import pytest
import rnnfast
from problems import Shape, make_problem

SHAPES = [Shape(cell, 20, 16, 64, 64) for cell in rnnfast.cells()] + [Shape("lstm", 50, 64, 256, 256)]


def train(module, shape, p):
    h, _, tape = module.forward(shape.cell, p.x, p.Wx, p.Wh, p.b)
    return h, module.backward(tape, p.dh)


@pytest.mark.parametrize("module", [rnnfast, rnnfast.reference], ids=["rnnfast", "numpy"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_training(benchmark, shape, module):
    benchmark.group = f"training {shape}"
    p = make_problem(shape)
    h, gradients = train(module, shape, p)
    expected_h, expected = train(rnnfast.reference, shape, make_problem(shape, np.float64))
    for actual, right in [(h, expected_h), *zip(gradients[:4], expected[:4], strict=True)]:
        assert np.abs(actual - right).max() < 2e-5 * np.abs(right).max()
    benchmark(train, module, shape, p)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_inference(benchmark, shape):
    benchmark.group = f"inference {shape}"
    p = make_problem(shape)
    result = benchmark(rnnfast.forward, shape.cell, p.x, p.Wx, p.Wh, p.b, keep_tape=False)
    expected = rnnfast.reference.forward(shape.cell, *(a.astype(np.float64) for a in (p.x, p.Wx, p.Wh, p.b))).h
    assert np.abs(result.h - expected).max() < 1e-5


def test_faster_than_numpy():
    """A kernel that lost its vectors fails this; a noisy machine does not: medians of interleaved rounds."""
    shape = Shape("lstm", 20, 16, 64, 64)
    p = make_problem(shape)
    times = {rnnfast: [], rnnfast.reference: []}
    for _ in range(9):
        for module, seconds in times.items():
            start = time.perf_counter()
            train(module, shape, p)
            seconds.append(time.perf_counter() - start)
    ratio = statistics.median(times[rnnfast.reference]) / statistics.median(times[rnnfast])
    assert ratio > 2, f"training takes {1 / ratio:.2f} of NumPy's time"
