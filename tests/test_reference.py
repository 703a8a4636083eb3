"""reference.py: against central differences, and against the equations written out, one sequence and step at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rnnfast import reference

CELLS = reference.cells()


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def lstm(x: Any, h: Any, c: Any, Wx: Any, Wh: Any, b: Any) -> tuple[np.ndarray, ...]:
    i, f, g, o = np.split(x @ Wx + h @ Wh + b, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru(x: Any, h: Any, Wx: Any, Wh: Any, b: Any) -> tuple[np.ndarray, ...]:
    (Wr, Wz, Wn), (Ur, Uz, Un), (br, bz, bn, bnh) = np.split(Wx, 3, axis=1), np.split(Wh, 3, axis=1), np.split(b, 4)
    r = sigmoid(x @ Wr + h @ Ur + br)
    z = sigmoid(x @ Wz + h @ Uz + bz)
    n = np.tanh(x @ Wn + bn + r * (h @ Un + bnh))
    return ((1 - z) * n + z * h,)


EQUATIONS = {
    "rnn_tanh": lambda x, h, Wx, Wh, b: (np.tanh(x @ Wx + h @ Wh + b),),
    "rnn_relu": lambda x, h, Wx, Wh, b: (np.maximum(x @ Wx + h @ Wh + b, 0),),
    "rnn_sigmoid": lambda x, h, Wx, Wh, b: (sigmoid(x @ Wx + h @ Wh + b),),
    "lstm": lstm,
    "gru": gru,
}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("cell", EQUATIONS)
def test_equations(make_problem: Any, cell: str, reverse: bool, ragged: bool) -> None:
    p = make_problem(cell, 3, 5, 4, 2, ragged=ragged, reverse=reverse)
    h, state, _ = p.forward(reference)
    for n in range(3):
        length = 5 if p.lengths is None else p.lengths[n]
        expected, now = np.zeros((5, 2)), tuple(s[n] for s in p.state)
        for t in reversed(range(length)) if reverse else range(length):
            now = EQUATIONS[cell](p.x[n, t], *now, p.Wx, p.Wh, p.b)
            expected[t] = now[0]
        np.testing.assert_allclose(h[n], expected, rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose([s[n] for s in state], now, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("cell", CELLS)
def test_missing_bias_and_state_are_zero(make_problem: Any, cell: str) -> None:
    p = make_problem(cell, 2, 3, 4, 2)
    zero = p.replace(b=np.zeros_like(p.b), state=tuple(map(np.zeros_like, p.state)))
    for changes in ({"b": None, "state": None}, {"b": None, "state": (None,) * len(p.state)}):
        got, expected = p.replace(**changes).run(reference), zero.run(reference)
        assert got.pop("db") is None
        assert expected.pop("db") is not None
        for name in got:
            np.testing.assert_array_equal(got[name], expected[name], err_msg=name)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients(make_problem: Any, check_gradients: Any, cell: str, reverse: bool, ragged: bool, ids: bool) -> None:
    p = make_problem(cell, 3, 3, 2, 3, ids=ids, ragged=ragged, reverse=reverse, seed=5)
    check_gradients(p, reference)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_without_bias_and_state(make_problem: Any, check_gradients: Any, cell: str) -> None:
    check_gradients(make_problem(cell, 2, 3, 2, 3, bias=False, state=False), reference)


def test_gradient_check_can_fail(make_problem: Any, check_gradients: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    right = reference.Lstm.backward

    def wrong(gate: Any, previous: Any, d: Any) -> Any:
        return right(gate, previous, (d[0], d[1] * (1 + 1e-6)))

    monkeypatch.setattr(reference.Lstm, "backward", staticmethod(wrong))
    with pytest.raises(AssertionError, match="off by"):
        check_gradients(make_problem("lstm", 2, 2, 2, 2), reference)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_token_ids_are_one_hot(make_problem: Any, cell: str, reverse: bool) -> None:
    p = make_problem(cell, 3, 6, 5, 4, ids=True, ragged=True, reverse=reverse)
    ids, dense = p.run(reference), p.replace(x=np.eye(5)[p.x]).run(reference)
    assert ids.pop("dx") is None
    for name in ids:
        np.testing.assert_allclose(ids[name], dense[name], rtol=1e-12, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_length_zero_passes_the_state_through(make_problem: Any, cell: str, reverse: bool) -> None:
    p = make_problem(cell, 2, 4, 3, 2, reverse=reverse).replace(lengths=[0, 0])
    h, state, tape = p.forward(reference)
    d = reference.backward(tape, p.dh, p.dstate)
    assert not h.any()
    assert not any(g.any() for g in (d.x, d.Wx, d.Wh, d.b))
    for given, got in zip((*p.state, *p.dstate), (*state, *d.state), strict=True):
        np.testing.assert_array_equal(got, given)
        assert got is not given


@pytest.mark.parametrize("cell", CELLS)
def test_reverse_is_forward_on_turned_sequences(make_problem: Any, cell: str) -> None:
    p = make_problem(cell, 3, 4, 3, 2, ragged=True, reverse=True)
    turn = np.array([[*reversed(range(length)), *range(length, 4)] for length in p.lengths])

    def turned(a: np.ndarray) -> np.ndarray:
        return np.take_along_axis(a, turn[:, :, None], axis=1)

    other = p.replace(x=turned(p.x), dh=turned(p.dh), reverse=False).run(reference)
    got = p.run(reference)
    for name in got:
        expected = turned(other[name]) if name in ("h", "dx") else other[name]
        np.testing.assert_allclose(got[name], expected, rtol=1e-13, atol=1e-15, err_msg=name)
    final = p.forward(reference)
    for n in np.flatnonzero(p.lengths):
        np.testing.assert_array_equal(final.state[0][n], final.h[n, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results(make_problem: Any, dtype: Any) -> None:
    p = make_problem("gru", 2, 3, 4, 5, dtype)
    output = p.forward(reference)
    assert output._fields == ("h", "state", "tape")
    gradients = reference.backward(output.tape, p.dh)
    assert gradients._fields == ("x", "Wx", "Wh", "b", "state")
    shapes = [a.shape for a in (output.h, *output.state, *gradients[:4], *gradients.state)]
    assert shapes == [(2, 3, 5), (2, 5), (2, 3, 4), (4, 15), (5, 15), (20,), (2, 5)]
    assert all(a.dtype == dtype for a in (output.h, *output.state, *gradients[:4], *gradients.state))
    assert p.forward(reference, keep_tape=False).tape is None
