"""recompute: checkpoints instead of a tape. The same bits, less memory; and memory_estimate, which says how much."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import rnnfast

CELLS = rnnfast.cells()


def run(p: Any, num_threads: int = 1, **options: Any) -> dict[str, Any]:
    h, state, tape = p.forward(num_threads=num_threads, **options)
    d = rnnfast.backward(tape, p.dh, p.dstate, num_threads=num_threads)
    named = {f"state[{k}]": s for k, s in enumerate(state)} | {f"dstate[{k}]": s for k, s in enumerate(d.state)}
    return {"h": h, "dx": d.x, "dWx": d.Wx, "dWh": d.Wh, "db": d.b, **named}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("ragged", "reverse", "ids"), [(False, False, False), (True, True, False), (True, False, True)]
)
def test_bits(
    make_problem: Any, assert_same_bits: Any, cell: str, dtype: Any, ragged: bool, reverse: bool, ids: bool
) -> None:
    """Segments shorter and longer than an update of the weight gradients (some 192 rows), and than the sequence."""
    for N, T, D, H in ((1, 230, 5, 9), (7, 90, 20, 33), (29, 24, 9, 17), (2, 9, 12, 230)):
        p = make_problem(cell, N, T, D, H, dtype, ragged=ragged, reverse=reverse, ids=ids)
        expected = run(p)
        for every, threads in ((1, 1), (2, 3), (7, 2), (25, 1), (T, 2), (10 * T, 4)):
            actual = run(p, threads, recompute=every)
            for name in expected:
                assert_same_bits(actual[name], expected[name], f"{name}, recompute={every}")


def test_no_rows(make_problem: Any, assert_same_bits: Any) -> None:
    for N, T in ((0, 5), (3, 0), (0, 0)):
        p = make_problem("lstm", N, T, 4, 6)
        expected, actual = run(p), run(p, recompute=2)
        for name in expected:
            assert_same_bits(actual[name], expected[name], name)


def test_a_tape_of_checkpoints_is_small(make_problem: Any) -> None:
    p = make_problem("lstm", 4, 2048, 16, 64, np.float32)
    whole, less = p.forward().tape, p.forward(recompute=64).tape
    assert less.nbytes * 40 < whole.nbytes
    rnnfast.backward(less, p.dh)
    with pytest.raises(RuntimeError, match="unused"):
        rnnfast.backward(less, p.dh)
    assert p.forward(keep_tape=False, recompute=64).tape is None


@pytest.mark.parametrize(
    ("value", "kind"), [(0, ValueError), (-3, ValueError), (1.5, TypeError), ("64", TypeError), (True, TypeError)]
)
def test_wrong_steps(make_problem: Any, value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="recompute"):
        make_problem("gru", 2, 3, 4, 5).forward(recompute=value)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("recompute", [None, 32])
def test_the_estimate_is_what_is_taken(make_problem: Any, cell: str, recompute: int | None) -> None:
    N, T, D, H = 3, 700, 20, 50
    p = make_problem(cell, N, T, D, H, np.float32)
    h, state, tape = p.forward(recompute=recompute)
    estimate = rnnfast.memory_estimate(cell, N, T, D, H, recompute=recompute)
    assert estimate.outputs == h.nbytes + sum(s.nbytes for s in state)
    pages = 4096 * (len(state) + 1)  # a buffer is whole pages, or may be a larger one that was kept
    assert estimate.tape <= tape.nbytes <= 2 * estimate.tape + pages + 3 * (2 << 20)
    d = rnnfast.backward(tape, p.dh)
    assert estimate.gradients == sum(a.nbytes for a in (d.x, d.Wx, d.Wh, d.b, *d.state))
    assert estimate.peak <= sum(estimate[:4])


def test_numpys_integers_do_not_overflow_in_an_estimate() -> None:
    sizes = 64, 4096, 2048, 2048
    assert rnnfast.memory_estimate("lstm", *map(np.int32, sizes)) == rnnfast.memory_estimate("lstm", *sizes)


def test_a_tape_does_not_keep_large_buffers_of_others(make_problem: Any) -> None:
    for T in range(100, 900, 20):
        make_problem("lstm", 8, T, 8, 32, np.float32).forward()
    tape = make_problem("lstm", 8, 3, 8, 32, np.float32).forward().tape
    assert tape.nbytes < 2 * rnnfast.memory_estimate("lstm", 8, 3, 8, 32).tape + 3 * 5 * 4096


def test_the_estimate_of_a_long_sequence() -> None:
    whole = rnnfast.memory_estimate("lstm", 8, 4096, 64, 128, num_threads=2)
    less = rnnfast.memory_estimate("lstm", 8, 4096, 64, 128, recompute=64, num_threads=2)
    assert whole.peak >= 3 * less.peak  # the scratch of a pass depends on the instruction set
    assert rnnfast.memory_estimate("lstm", 8, 4096, 64, 128, ids=True).gradients < whole.gradients
    assert rnnfast.memory_estimate("lstm", 8, 4096, 64, 128, dtype=np.float64).outputs == 2 * whole.outputs


@pytest.mark.parametrize(
    "change",
    [
        {"cell": "lstn"},
        {"N": -1},
        {"T": 1.5},
        {"H": True},
        {"recompute": 0},
        {"recompute": True},
        {"T": 2**31},
        {"num_threads": 0},
    ],
)
def test_wrong_sizes_of_an_estimate(change: dict[str, Any]) -> None:
    right: dict[str, Any] = {"cell": "lstm", "N": 2, "T": 3, "D": 4, "H": 5}
    with pytest.raises(ValueError, match=next(iter(change))):
        rnnfast.memory_estimate(**right | change)
    with pytest.raises(TypeError, match="dtype"):
        rnnfast.memory_estimate(**right, dtype=np.int32)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_layers(assert_same_bits: Any, bidirectional: bool) -> None:
    x = np.random.default_rng(0).normal(size=(5, 60, 7)).astype(np.float32)
    results = []
    for recompute in (None, 9):
        layer = rnnfast.LSTM(7, 12, 2, bidirectional, seed=0, recompute=recompute)
        h, _ = layer.forward(x, lengths=[60, 3, 0, 41, 59], training=True)
        dx, _ = layer.backward(np.ones_like(h))
        results.append([h, dx, layer.gradient_vector.copy()])
    for actual, expected in zip(*results, strict=True):
        assert_same_bits(actual, expected)


@pytest.mark.parametrize("cell", CELLS)
def test_dx_only_where_asked_for(make_problem: Any, assert_same_bits: Any, cell: str) -> None:
    p = make_problem(cell, 6, 20, 9, 13, ragged=True)
    expected = rnnfast.backward(p.forward().tape, p.dh, p.dstate)
    actual = rnnfast.backward(p.forward().tape, p.dh, p.dstate, dx=False)
    assert actual.x is None
    for a, e in zip(
        (actual.Wx, actual.Wh, actual.b, *actual.state),
        (expected.Wx, expected.Wh, expected.b, *expected.state),
        strict=True,
    ):
        assert_same_bits(a, e)
    with pytest.raises(TypeError, match="dx"):
        rnnfast.backward(p.forward().tape, p.dh, dx=None)
