"""The recurrences in NumPy alone: the oracle that every kernel is compared with, and the slow half of benchmarks.

``forward`` and ``backward`` are the same calls as :func:`rnnfast.forward` and :func:`rnnfast.backward`, with the same
checks. The module mirrors cpp/cells.hpp, forward.hpp and backward.hpp step for step, so that reading one teaches the
other. It imports nothing but NumPy, and the cells return new arrays, never views into which something is written.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Gradients", "Output", "Tape", "backward", "cells", "forward"]

Array = NDArray[Any]
States = tuple[Array, ...]


class Output(NamedTuple):
    """What a forward pass returns."""

    h: Array
    state: States
    tape: Any


class Gradients(NamedTuple):
    """What a backward pass returns: the gradient of each argument of the forward pass."""

    x: Array | None
    Wx: Array
    Wh: Array
    b: Array | None
    state: States


# ---- cells.hpp


def sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    y: Array = np.where(x < 0, e, 1) / (1 + e)
    return y


class Cell:
    """A row of gates has `pre` blocks; x Wx adds to the first `input`, h Wh to the last `recurrent` of them.

    Of the latter the first `reset` take, in place of h, what `forward_reset` makes of it once the others are complete.
    """

    name: ClassVar[str]
    pre: ClassVar[int]
    input: ClassVar[int]
    recurrent: ClassVar[int]
    reset: ClassVar[int] = 0
    states: ClassVar[int]
    order: ClassVar[tuple[int, ...]]  # order[p]: the block of the public bias that holds block p

    @staticmethod
    def forward(gate: States, state: States) -> tuple[States, States]:
        """Pre-activations, states before -> activations, states after."""
        raise NotImplementedError

    @staticmethod
    def backward(gate: States, previous: States, d: States) -> tuple[States, States]:
        """Activations, states before, gradients of the states after -> those of the pre-activations, and before."""
        raise NotImplementedError

    @staticmethod
    def forward_reset(gate: States, state: States) -> tuple[States, Array]:
        """Pre-activations of the blocks that take h -> some activations, and what the other blocks take."""
        raise NotImplementedError

    @staticmethod
    def backward_reset(gate: States, previous: States, d_reset: Array, d: States) -> tuple[States, States]:
        """After backward, with the gradient of what forward_reset made: the gradients with its share."""
        raise NotImplementedError


class Rnn(Cell):
    pre, input, recurrent, states, order = 1, 1, 1, 1, (0,)


class RnnTanh(Rnn):
    name = "rnn_tanh"

    @staticmethod
    def forward(gate: States, state: States) -> tuple[States, States]:
        a = np.tanh(gate[0])
        return (a,), (a,)

    @staticmethod
    def backward(gate: States, previous: States, d: States) -> tuple[States, States]:
        return (d[0] * (1 - gate[0] ** 2),), (np.zeros_like(d[0]),)


class RnnRelu(Rnn):
    name = "rnn_relu"

    @staticmethod
    def forward(gate: States, state: States) -> tuple[States, States]:
        a = np.where(gate[0] < 0, 0, gate[0])
        return (a,), (a,)

    @staticmethod
    def backward(gate: States, previous: States, d: States) -> tuple[States, States]:
        return (d[0] * (gate[0] > 0),), (np.zeros_like(d[0]),)


class RnnSigmoid(Rnn):
    name = "rnn_sigmoid"

    @staticmethod
    def forward(gate: States, state: States) -> tuple[States, States]:
        a = sigmoid(gate[0])
        return (a,), (a,)

    @staticmethod
    def backward(gate: States, previous: States, d: States) -> tuple[States, States]:
        return (d[0] * gate[0] * (1 - gate[0]),), (np.zeros_like(d[0]),)


class Lstm(Cell):
    name = "lstm"
    pre, input, recurrent, states, order = 4, 4, 4, 2, (0, 1, 2, 3)

    @staticmethod
    def forward(gate: States, state: States) -> tuple[States, States]:
        i, f, g, o = sigmoid(gate[0]), sigmoid(gate[1]), np.tanh(gate[2]), sigmoid(gate[3])
        c = f * state[1] + i * g
        return (i, f, g, o), (o * np.tanh(c), c)

    @staticmethod
    def backward(gate: States, previous: States, d: States) -> tuple[States, States]:
        i, f, g, o = gate
        c = previous[1]
        u = np.tanh(f * c + i * g)
        do, dc = d[0] * u, d[0] * o * (1 - u**2) + d[1]
        di, df, dg = dc * g, dc * c, dc * i
        return (di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)), (
            np.zeros_like(dc),
            dc * f,
        )


class Gru(Cell):
    name = "gru"
    pre, input, recurrent, states, order = 4, 3, 3, 1, (2, 0, 1, 3)  # n, r, z, m of the public r, z, n, nh

    @staticmethod
    def forward(gate: States, state: States) -> tuple[States, States]:
        r, z, m = sigmoid(gate[1]), sigmoid(gate[2]), gate[3]
        n = np.tanh(gate[0] + r * m)
        return (n, r, z, m), ((1 - z) * n + z * state[0],)

    @staticmethod
    def backward(gate: States, previous: States, d: States) -> tuple[States, States]:
        n, r, z, m = gate
        dz, dn = d[0] * (previous[0] - n), d[0] * (1 - z) * (1 - n**2)
        dm, dr = dn * r, dn * m
        return (dn, dr * r * (1 - r), dz * z * (1 - z), dm), (d[0] * z,)


class GruResetBefore(Cell):
    name = "gru_reset_before"
    pre, input, recurrent, reset, states, order = 3, 3, 3, 1, 1, (2, 0, 1)  # n, r, z of the public r, z, n

    @staticmethod
    def forward_reset(gate: States, state: States) -> tuple[States, Array]:
        r = sigmoid(gate[1])
        return (gate[0], r, gate[2]), r * state[0]

    @staticmethod
    def forward(gate: States, state: States) -> tuple[States, States]:
        n, r, z = np.tanh(gate[0]), gate[1], sigmoid(gate[2])
        return (n, r, z), ((1 - z) * n + z * state[0],)

    @staticmethod
    def backward(gate: States, previous: States, d: States) -> tuple[States, States]:
        n, r, z = gate
        dz, dn = d[0] * (previous[0] - n), d[0] * (1 - z) * (1 - n**2)
        return (dn, r, dz * z * (1 - z)), (d[0] * z,)

    @staticmethod
    def backward_reset(gate: States, previous: States, d_reset: Array, d: States) -> tuple[States, States]:
        dn, r, dz = gate
        return (dn, d_reset * previous[0] * r * (1 - r), dz), (d[0] + d_reset * r,)


_CELLS: dict[str, type[Cell]] = {cell.name: cell for cell in (RnnTanh, RnnRelu, RnnSigmoid, Lstm, Gru, GruResetBefore)}


def cells() -> list[str]:
    """Names of the cells."""
    return list(_CELLS)


# ---- forward.hpp, backward.hpp


def weight_columns(cell: type[Cell], p: int, H: int) -> slice:
    """Columns of Wx or Wh that hold gate block p."""
    block = min(cell.order[p], max(cell.input, cell.recurrent) - 1)
    return slice(block * H, (block + 1) * H)


def bias_columns(cell: type[Cell], p: int, H: int) -> slice:
    return slice(cell.order[p] * H, (cell.order[p] + 1) * H)


def input_window(cell: type[Cell]) -> range:
    return range(cell.input)


def reset_window(cell: type[Cell]) -> range:
    return range(cell.pre - cell.recurrent, cell.pre - cell.recurrent + cell.reset)


def plain_window(cell: type[Cell]) -> range:
    return range(cell.pre - cell.recurrent + cell.reset, cell.pre)


class Step(NamedTuple):
    rows: Array  # (n,) the sequences that have this step
    time: Array  # (n,) where in x it stands
    gate: States  # pre arrays (n, H)
    previous: States  # states arrays (n, H)
    reset: Array | None  # (n, H) what the reset's blocks took in place of h


class Tape:
    """What a forward pass leaves for one backward pass."""

    def __init__(self, cell: type[Cell], x: Array, Wx: Array, Wh: Array, b: Array | None, steps: list[Step]):
        self.cell, self.x, self.Wx, self.Wh, self.b, self.steps = cell, x, Wx, Wh, b, steps
        self.used = False


def forward(
    cell: str,
    x: ArrayLike,
    Wx: ArrayLike,
    Wh: ArrayLike,
    b: ArrayLike | None = None,
    state: Any = None,
    *,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    keep_tape: bool = True,
    num_threads: int | None = None,
    recompute: int | None = None,
) -> Output:
    """Run one recurrent layer over a batch; the arguments and results of :func:`rnnfast.forward`, in NumPy alone.

    ``num_threads`` and ``recompute`` are checked and change nothing.

    Examples
    --------
    >>> import numpy as np
    >>> h, state, tape = forward("rnn_tanh", np.ones((1, 2, 1)), np.ones((1, 1)), np.ones((1, 1)))
    >>> bool(np.isclose(h[0, 1, 0], np.tanh(1 + np.tanh(1))))
    True
    """
    kind = _find_cell(cell)
    _check_positive(num_threads, "num_threads")
    _check_positive(recompute, "recompute")
    reverse, keep_tape = _check_flag(reverse, "reverse"), _check_flag(keep_tape, "keep_tape")
    check = _Check(kind)
    x, Wx, Wh, bias = check.input(x), check.floating(Wx, "Wx"), check.floating(Wh, "Wh"), None
    if b is not None:
        bias = check.floating(b, "b")
    D, H = check.weights(x, Wx, Wh, bias)
    N, T = x.shape[:2]
    initial = check.states(state, "state", N, H)
    dtype = check.dtype()
    length = _check_lengths(lengths, N, T)
    ids = x.ndim == 2
    if ids:
        _check_ids(x, length, D)

    h = np.zeros((N, T, H), dtype)
    states = [np.zeros((N, H), dtype) if s is None else s.astype(dtype) for s in initial]
    steps = []
    for t in range(max(length, default=0)):
        rows = np.flatnonzero(length > t)
        time = length[rows] - 1 - t if reverse else np.full(len(rows), t)
        previous = tuple(s[rows] for s in states)
        x_t = x[rows, time]
        gate = []
        for p in range(kind.pre):
            a = np.zeros((len(rows), H), dtype)
            if bias is not None:
                a += bias[bias_columns(kind, p, H)]
            if p in input_window(kind):
                w = Wx[:, weight_columns(kind, p, H)]
                a += w[x_t.astype(np.int64)] if ids else x_t @ w
            if p in plain_window(kind):
                a += previous[0] @ Wh[:, weight_columns(kind, p, H)]
            gate.append(a)
        reset = None
        if kind.reset:
            between, reset = kind.forward_reset(tuple(gate), previous)
            gate = list(between)
            for p in reset_window(kind):
                gate[p] = gate[p] + reset @ Wh[:, weight_columns(kind, p, H)]
        activations, after = kind.forward(tuple(gate), previous)
        for s, new in zip(states, after, strict=True):
            s[rows] = new
        h[rows, time] = after[0]
        if keep_tape:
            steps.append(Step(rows, time, activations, previous, reset))
    return Output(h, tuple(states), Tape(kind, x, Wx, Wh, bias, steps) if keep_tape else None)


def backward(
    tape: Any,
    dh: ArrayLike | None = None,
    dstate: Any = None,
    *,
    num_threads: int | None = None,
    dx: bool = True,
) -> Gradients:
    """Back-propagate through time; the arguments and results of :func:`rnnfast.backward`, in NumPy alone.

    Examples
    --------
    >>> import numpy as np
    >>> h, state, tape = forward("rnn_relu", np.ones((1, 2, 1)), np.ones((1, 1)), np.ones((1, 1)))
    >>> backward(tape, np.ones_like(h)).Wx  # h1 = w, h2 = w (1 + u): the sum grows by 1 + 2
    array([[3.]])
    """
    if not isinstance(tape, Tape):
        raise TypeError(f"tape: expected the tape of a forward pass, got {type(tape).__name__}")
    _check_positive(num_threads, "num_threads")
    _check_flag(dx, "dx")
    cell, x, Wx, Wh, b, steps = tape.cell, tape.x, tape.Wx, tape.Wh, tape.b, tape.steps
    N, T, H = *x.shape[:2], Wh.shape[0]
    check = _Check(cell)
    upstream = None if dh is None else check.floating(dh, "dh")
    if upstream is not None:
        _expect_shape(upstream, "dh", ("N", "T", "H"), (N, T, H))
    final = check.states(dstate, "dstate", N, H)
    if check.seen and check.dtype() != Wh.dtype:
        raise TypeError(f"dh, dstate: expected {Wh.dtype}, as in the forward pass, got {check.dtype()}")
    if tape.used:
        raise RuntimeError("tape: expected one that is unused, got one that a backward pass has used")
    tape.used = True

    d = [np.zeros((N, H), Wh.dtype) if s is None else s.copy() for s in final]
    ids = x.ndim == 2
    d_input = None if ids or not dx else np.zeros_like(x)
    dWx, dWh, db = np.zeros_like(Wx), np.zeros_like(Wh), None if b is None else np.zeros_like(b)
    for rows, time, gate, previous, reset in reversed(steps):
        d_rows = [s[rows] for s in d]
        if upstream is not None:
            d_rows[0] = d_rows[0] + upstream[rows, time]
        dgate, d_previous = cell.backward(gate, previous, tuple(d_rows))
        if reset is not None:
            d_reset = np.zeros_like(reset)
            for p in reset_window(cell):
                columns = weight_columns(cell, p, H)
                d_reset += dgate[p] @ Wh[:, columns].T
                dWh[:, columns] += reset.T @ dgate[p]
            dgate, d_previous = cell.backward_reset(dgate, previous, d_reset, d_previous)
        through_h = d_previous[0]
        for p in plain_window(cell):
            columns = weight_columns(cell, p, H)
            through_h = through_h + dgate[p] @ Wh[:, columns].T
            dWh[:, columns] += previous[0].T @ dgate[p]
        for s, new in zip(d, (through_h, *d_previous[1:]), strict=True):
            s[rows] = new
        for p in input_window(cell):
            columns = weight_columns(cell, p, H)
            if ids:
                np.add.at(dWx[:, columns], x[rows, time].astype(np.int64), dgate[p])
            else:
                dWx[:, columns] += x[rows, time].T @ dgate[p]
            if d_input is not None:
                d_input[rows, time] += dgate[p] @ Wx[:, columns].T
        if db is not None:
            for p in range(cell.pre):
                db[bias_columns(cell, p, H)] += dgate[p].sum(axis=0)
    return Gradients(d_input, dWx, dWh, db, tuple(d))


# ---- arguments.hpp: the same checks and the same words


def _find_cell(name: str) -> type[Cell]:
    if not isinstance(name, str):
        raise TypeError(f"cell: expected a name, got {type(name).__name__}")
    if name not in _CELLS:
        raise ValueError(f"cell: expected one of {', '.join(_CELLS)}, got {str(name)!r}")
    return _CELLS[name]


def _check_positive(value: Any, name: str) -> None:
    if value is None:
        return
    try:
        n = value.__index__()
    except (AttributeError, TypeError):
        n = None
    if n is None or isinstance(value, bool):
        raise TypeError(f"{name}: expected a positive integer, got {value!r}")
    if n < 1:
        raise ValueError(f"{name}: expected a positive integer, got {value}")


def _check_flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def _as_array(values: ArrayLike, name: str) -> Array:
    try:
        return np.asarray(values)
    except (ValueError, TypeError):  # lists of differing lengths
        raise TypeError(f"{name}: expected an array, got {type(values).__name__}") from None


def _tuple_text(items: tuple[Any, ...]) -> str:
    return f"({', '.join(map(str, items))}{',' if len(items) == 1 else ''})"


def _expect_shape(
    array: Array, name: str, symbols: tuple[str, ...], numbers: tuple[int | None, ...], of: str = ""
) -> None:
    same = array.ndim == len(numbers) and all(
        n is None or n == size for n, size in zip(numbers, array.shape, strict=True)
    )
    if not same:
        shown = tuple(s if n is None else n for s, n in zip(symbols, numbers, strict=True))
        raise ValueError(
            f"{name}: expected {_tuple_text(symbols)} = {_tuple_text(shown)}{f' for {of}' if of else ''}, "
            f"got {_tuple_text(array.shape)}"
        )


def _times(blocks: int) -> str:
    return "H" if blocks == 1 else f"{blocks}*H"


class _Check:
    """Checks the floating arrays of one call, which must share a dtype."""

    def __init__(self, cell: type[Cell]):
        self.cell = cell
        self.seen: list[tuple[str, np.dtype[Any]]] = []

    def floating(self, array: ArrayLike, name: str, expected: str = "float32 or float64") -> Array:
        a = _as_array(array, name)
        native = a.dtype.newbyteorder("=")
        if native not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise TypeError(f"{name}: expected {expected}, got {a.dtype}")
        self.seen.append((name, native))
        return a.astype(native, copy=False)

    def dtype(self) -> np.dtype[Any]:
        if len({dtype for _, dtype in self.seen}) > 1:
            seen = ", ".join(f"{name}: {dtype}" for name, dtype in self.seen)
            raise TypeError(f"expected one dtype for all floating arrays, got {seen}")
        return self.seen[0][1]

    def input(self, x: ArrayLike) -> Array:
        a = _as_array(x, "x")
        ids = a.dtype.kind in "iu"
        if not ids:
            a = self.floating(a, "x", "float32, float64 or integer token ids")
        if a.ndim != (2 if ids else 3):
            raise ValueError(
                f"x: expected (N, T, D) floating or (N, T) integer token ids, got {_tuple_text(a.shape)} of {a.dtype}"
            )
        return a

    def weights(self, x: Array, Wx: Array, Wh: Array, b: Array | None) -> tuple[int, int]:
        self.dtype()
        cell = self.cell
        G = max(cell.input, cell.recurrent)
        _expect_shape(Wh, "Wh", ("H", _times(G)), (None, None), cell.name)
        H = Wh.shape[0]
        _expect_shape(Wh, "Wh", ("H", _times(G)), (H, G * H), cell.name)
        _expect_shape(Wx, "Wx", ("D", _times(G)), (x.shape[2] if x.ndim == 3 else None, G * H), cell.name)
        if b is not None:
            _expect_shape(b, "b", (_times(cell.pre),), (cell.pre * H,), cell.name)
        return Wx.shape[0], H

    def states(self, states: Any, name: str, N: int, H: int) -> list[Array | None]:
        cell = self.cell
        if states is None:
            return [None] * cell.states
        expected = (
            f"{name}: expected a tuple {'(h,)' if cell.states == 1 else '(h, c)'} of {cell.states} "
            f"for {cell.name}, got "
        )
        if not isinstance(states, tuple | list):
            raise TypeError(expected + type(states).__name__)
        if len(states) != cell.states:
            raise ValueError(f"{expected}one of {len(states)}")
        checked: list[Array | None] = []
        for k, item in enumerate(states):
            if item is None:
                checked.append(None)
                continue
            array = self.floating(item, f"{name}[{k}]")
            _expect_shape(array, f"{name}[{k}]", ("N", "H"), (N, H))
            checked.append(array)
        return checked


def _check_lengths(lengths: ArrayLike | None, N: int, T: int) -> NDArray[np.int64]:
    if lengths is None:
        return np.full(N, T, dtype=np.int64)
    array = _as_array(lengths, "lengths")
    if array.dtype.kind not in "iu" and not (array.size == 0 and N == 0):
        raise TypeError(f"lengths: expected integers, got {array.dtype}")
    _expect_shape(array, "lengths", ("N",), (N,))
    for n, length in enumerate(array):
        if not 0 <= length <= T:
            raise ValueError(f"lengths[{n}] = {length}: expected 0..T = 0..{T}")
    return array.astype(np.int64) if N else np.zeros(0, np.int64)  # an empty list's type says nothing


def _check_ids(x: Array, length: NDArray[np.int64], D: int) -> None:
    for n, row in enumerate(x):
        for t, token in enumerate(row[: length[n]]):
            if not 0 <= token < D:
                raise ValueError(f"x[{n}, {t}] = {token}: expected a token id in [0, D) = [0, {D})")
