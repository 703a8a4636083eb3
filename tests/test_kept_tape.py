"""What rnnfast.torch asks of the core: packed rows, a tape in an array of the caller's, strided results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import _core

CELLS = rnnfast.cells()


def tape_numbers(cell: str, rows: int, H: int, dtype: Any) -> int:
    W, panels = _core.tape_panels(cell, dtype == np.float64)
    return -(-H // W) * panels * (rows | 1) * W


def packed(p: Any, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows as in a PackedSequence, and their (sequence, time)."""
    order = np.argsort(-p.lengths, kind="stable")
    places = np.array([(n, t) for t in range(a.shape[1]) for n in order if t < p.lengths[n]], int).reshape(-1, 2)
    return a[places[:, 0], places[:, 1]], places


def run(p: Any, rows: bool, num_threads: int | None = None) -> dict[str, Any]:
    """Both passes over a tape in an array, twice backward; of packed rows, results by sequence and time."""
    x, dh, lengths, state, dstate = p.x, p.dh, p.lengths, p.state, p.dstate
    if rows:
        order = np.argsort(-lengths, kind="stable")
        (x, places), dh = packed(p, p.x), packed(p, p.dh)[0]
        lengths, state, dstate = lengths[order], tuple(s[order] for s in state), tuple(s[order] for s in dstate)
    H, dtype = p.Wh.shape[0], p.Wh.dtype
    of_time = p.x.shape[0] * p.x.shape[1]
    count = int(p.lengths.sum()) if p.lengths is not None else of_time
    numbers = np.full(tape_numbers(p.cell, count, H, dtype), np.nan, dtype)
    room = np.full((*x.shape[:-1], 2 * H), np.nan, dtype)
    weights = (p.cell, x, p.Wx, p.Wh, p.b)
    h, final, none = _core.forward(
        *weights, state, lengths, p.reverse, False, num_threads, None, room[..., H:], rows, numbers
    )
    assert none is None
    assert np.isnan(room[..., :H]).all()
    before = numbers.copy()
    results = []
    for _ in range(2):
        tape = _core.kept_tape(*weights, lengths, p.reverse, rows, numbers)
        out = [np.full_like(a, np.nan) for a in (p.Wx, p.Wh, p.b)]
        dx = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan, dtype)[..., : x.shape[-1]]
        _core.backward(tape, dh, dstate, num_threads, True, (*out, dx))
        again = _core.backward(tape, dh, dstate, num_threads, True, None)
        assert all(a.tobytes() == b.tobytes() for a, b in zip((dx, *out), again[:4], strict=True))
        _, *turned, _, _ = _core.backward(tape, dh, dstate, num_threads, True, None, True)
        assert all(a.T.tobytes() == b.tobytes() for a, b in zip(turned, out[:2], strict=True))
        results.append((dx, *out, *again[4]))
    assert before.tobytes() == numbers.tobytes(), "a kept tape was written to"
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*results, strict=True))
    dx, dWx, dWh, db, *dinitial = results[0]
    h, final = np.array(h), list(final)
    if rows:
        h_all, dx_all = np.zeros_like(p.dh), np.zeros_like(p.x)
        h_all[places[:, 0], places[:, 1]], dx_all[places[:, 0], places[:, 1]] = h, dx
        h, dx = h_all, dx_all
        back = np.argsort(order)
        final, dinitial = [s[back] for s in final], [s[back] for s in dinitial]
    named = {f"state[{k}]": s for k, s in enumerate(final)} | {f"dstate[{k}]": s for k, s in enumerate(dinitial)}
    return {"h": h, "dx": dx, "dWx": dWx, "dWh": dWh, "db": db, **named}


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_the_bits_of_an_ordinary_tape(
    make_problem: Any, assert_same_bits: Any, cell: str, reverse: bool, dtype: Any
) -> None:
    for sizes in ((1, 1, 1, 1), (5, 7, 3, 17), (9, 300, 4, 6)):  # the last: more rows than a segment
        for ragged in (False, True):
            p = make_problem(cell, *sizes, dtype, ragged=ragged, reverse=reverse)
            expected = p.run()
            for num_threads in (1, 3):
                got = run(p, False, num_threads)
                assert got.keys() == expected.keys()
                for name in got:
                    assert_same_bits(got[name], expected[name])


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_packed_rows(make_problem: Any, assert_same_bits: Any, cell: str, reverse: bool, dtype: Any) -> None:
    for sizes in ((1, 1, 1, 1), (6, 7, 3, 17), (9, 300, 4, 6)):
        p = make_problem(cell, *sizes, dtype, ragged=True, reverse=reverse)
        expected = p.run()
        for num_threads in (1, 3):
            got = run(p, True, num_threads)
            for name in got:
                assert_same_bits(got[name], expected[name])


def test_token_ids(make_problem: Any, assert_same_bits: Any) -> None:
    for reverse in (False, True):
        p = make_problem("lstm", 5, 7, 9, 17, ids=True, ragged=True, reverse=reverse)
        numbers = np.empty(tape_numbers("lstm", int(p.lengths.sum()), 17, np.dtype(np.float64)))
        weights = ("lstm", p.x, p.Wx, p.Wh, p.b)
        _core.forward(*weights, p.state, p.lengths, reverse, False, None, None, None, False, numbers)
        tape = _core.kept_tape(*weights, p.lengths, reverse, False, numbers)
        _, dWx, *_ = _core.backward(tape, p.dh, p.dstate, None, True, None)
        assert_same_bits(dWx, p.run()["dWx"])


def test_time_major_results(make_problem: Any, assert_same_bits: Any) -> None:
    p = make_problem("lstm", 3, 4, 5, 6, ragged=True)
    expected = p.run()
    room = np.full((4, 3, 6), np.nan)
    arguments = (p.x, p.Wx, p.Wh, p.b, p.state, p.lengths, False, True, None, None)
    _, _, tape = _core.forward("lstm", *arguments, room.swapaxes(0, 1))
    assert_same_bits(room.swapaxes(0, 1).copy(), expected["h"])
    dx = np.full((4, 3, 5), np.nan)
    out = (np.empty_like(p.Wx), np.empty_like(p.Wh), np.empty_like(p.b), dx.swapaxes(0, 1))
    _core.backward(tape, p.dh, p.dstate, None, True, out)
    assert_same_bits(dx.swapaxes(0, 1).copy(), expected["dx"])


def test_errors(make_problem: Any) -> None:
    p = make_problem("gru", 3, 4, 5, 6, ragged=True)
    x = packed(p, p.x)[0]
    weights = (p.Wx, p.Wh, p.b, None)
    sorted_lengths = np.sort(p.lengths)[::-1]
    for lengths in (sorted_lengths[::-1], sorted_lengths[1:], None, np.zeros(3, int)):
        with pytest.raises(
            ValueError, match=r"lengths: expected descending ones, whose sum is the number of packed rows"
        ):
            _core.forward("gru", x, *weights, lengths, False, False, None, None, None, True)
    with pytest.raises(ValueError, match=r"x: expected packed rows \(R, D\) floating, got \(3, 4, 5\) of float64"):
        _core.forward("gru", p.x, *weights, sorted_lengths, False, False, None, None, None, True)
    _, _, tape = make_problem("gru", 3, 4, 5, 6, ids=True).forward()
    with pytest.raises(ValueError, match="transposed: expected False for token ids"):
        _core.backward(tape, None, None, None, False, None, True)
    assert not tape.used
    with pytest.raises(ValueError, match="expected a writeable C-contiguous tape"):
        _core.kept_tape("gru", p.x, *weights[:3], None, False, False, np.zeros(7))
