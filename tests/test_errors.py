"""Every message about a wrong argument, in full; the core and the reference must use the same words.

Those of Stream are in test_stream.py, those of used tapes in test_tape.py.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import _core, reference

N, T, D, H = 2, 5, 3, 8
IDS = np.array([[0, 1, 2, 1, 0], [1, 1, 1, 1, 1]])
NAMES = ", ".join(reference.cells())


@pytest.fixture(params=[rnnfast, reference], ids=["core", "reference"])
def module(request: pytest.FixtureRequest) -> Any:
    return request.param


def zeros(*shape: int, dtype: Any = np.float64) -> np.ndarray:
    return np.zeros(shape, dtype)


def arguments(cell: str = "lstm", changes: dict[str, Any] | None = None) -> dict[str, Any]:
    G, bias_blocks, _ = _core.cell_blocks(cell)
    right = {"x": zeros(N, T, D), "Wx": zeros(D, G * H), "Wh": zeros(H, G * H), "b": zeros(bias_blocks * H)}
    return {"cell": cell, **right, **(changes or {})}


def ids_with(place: tuple[int, int], value: int, dtype: Any = np.int64) -> np.ndarray:
    ids = IDS.astype(dtype)
    ids[place] = value
    return ids


def lstm_states(text: str) -> str:
    return f"a tuple (h, c) of 2 for lstm, got {text}"


X_TYPE = "x: expected float32, float64 or integer token ids, got "
X_SHAPE = "x: expected (N, T, D) floating or (N, T) integer token ids, got "
ONE_DTYPE = "expected one dtype for all floating arrays, got "
TOKEN = "expected a token id in [0, D) = [0, 3)"
THREADS = "num_threads: expected a positive integer, got "

# (cell, arguments that differ from right ones, exception, message)
FORWARD: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("lstm", {"cell": "LSTM"}, ValueError, f"cell: expected one of {NAMES}, got 'LSTM'"),
    ("lstm", {"cell": ""}, ValueError, f"cell: expected one of {NAMES}, got ''"),
    # x
    ("lstm", {"x": zeros(N, T, D, dtype="f2")}, TypeError, X_TYPE + "float16"),
    ("lstm", {"x": zeros(N, T, D, dtype=">f2")}, TypeError, X_TYPE + ">f2"),
    ("lstm", {"x": zeros(N, T, D, dtype=complex)}, TypeError, X_TYPE + "complex128"),
    ("lstm", {"x": zeros(N, T, dtype=bool)}, TypeError, X_TYPE + "bool"),
    ("lstm", {"x": zeros(N, T, dtype="m8[s]")}, TypeError, X_TYPE + "timedelta64[s]"),
    ("lstm", {"x": zeros(N, T, dtype="i4,i4")}, TypeError, X_TYPE + "[('f0', '<i4'), ('f1', '<i4')]"),
    ("lstm", {"x": zeros(N, T, D).astype(object)}, TypeError, X_TYPE + "object"),
    ("lstm", {"x": None}, TypeError, X_TYPE + "object"),
    ("lstm", {"x": "abc"}, TypeError, X_TYPE + "<U3"),
    ("lstm", {"x": zeros(T, D)}, ValueError, X_SHAPE + "(5, 3) of float64"),
    ("lstm", {"x": zeros(1, N, T, D, dtype="f4")}, ValueError, X_SHAPE + "(1, 2, 5, 3) of float32"),
    ("lstm", {"x": zeros(T)}, ValueError, X_SHAPE + "(5,) of float64"),
    ("lstm", {"x": 3.0}, ValueError, X_SHAPE + "() of float64"),
    ("lstm", {"x": IDS[0]}, ValueError, X_SHAPE + "(5,) of int64"),
    ("lstm", {"x": zeros(N, T, 1, dtype="u1")}, ValueError, X_SHAPE + "(2, 5, 1) of uint8"),
    ("lstm", {"x": zeros(1, dtype=">i4")}, ValueError, X_SHAPE + "(1,) of >i4"),
    # token ids
    ("lstm", {"x": ids_with((1, 2), 3)}, ValueError, f"x[1, 2] = 3: {TOKEN}"),
    ("gru", {"x": ids_with((0, 4), -1), "reverse": True}, ValueError, f"x[0, 4] = -1: {TOKEN}"),
    ("lstm", {"x": ids_with((1, 0), 2**62)}, ValueError, f"x[1, 0] = 4611686018427387904: {TOKEN}"),
    ("lstm", {"x": ids_with((1, 0), 2**63 + 5, "u8")}, ValueError, f"x[1, 0] = 9223372036854775813: {TOKEN}"),
    ("lstm", {"x": ids_with((1, 0), -128, "i1")}, ValueError, f"x[1, 0] = -128: {TOKEN}"),
    ("lstm", {"x": ids_with((0, 1), 9), "lengths": [2, 0]}, ValueError, f"x[0, 1] = 9: {TOKEN}"),
    (
        "rnn_relu",
        {"x": IDS, "Wx": zeros(0, H)},
        ValueError,
        "x[0, 0] = 0: expected a token id in [0, D) = [0, 0)",
    ),
    # weights
    ("lstm", {"Wh": zeros(8, 24)}, ValueError, "Wh: expected (H, 4*H) = (8, 32) for lstm, got (8, 24)"),
    ("gru", {"Wh": zeros(8, 32)}, ValueError, "Wh: expected (H, 3*H) = (8, 24) for gru, got (8, 32)"),
    ("rnn_tanh", {"Wh": zeros(8, 9)}, ValueError, "Wh: expected (H, H) = (8, 8) for rnn_tanh, got (8, 9)"),
    ("lstm", {"Wh": zeros(32)}, ValueError, "Wh: expected (H, 4*H) = (H, 4*H) for lstm, got (32,)"),
    ("rnn_relu", {"Wh": zeros()}, ValueError, "Wh: expected (H, H) = (H, H) for rnn_relu, got ()"),
    ("lstm", {"Wx": zeros(2, 32)}, ValueError, "Wx: expected (D, 4*H) = (3, 32) for lstm, got (2, 32)"),
    ("gru", {"Wx": zeros(3, 32)}, ValueError, "Wx: expected (D, 3*H) = (3, 24) for gru, got (3, 32)"),
    ("lstm", {"x": IDS, "Wx": zeros(2, 31)}, ValueError, "Wx: expected (D, 4*H) = (D, 32) for lstm, got (2, 31)"),
    ("rnn_sigmoid", {"Wx": zeros(8)}, ValueError, "Wx: expected (D, H) = (3, 8) for rnn_sigmoid, got (8,)"),
    ("lstm", {"b": zeros(8)}, ValueError, "b: expected (4*H,) = (32,) for lstm, got (8,)"),
    ("gru", {"b": zeros(24)}, ValueError, "b: expected (4*H,) = (32,) for gru, got (24,)"),
    ("rnn_tanh", {"b": zeros(1, 8)}, ValueError, "b: expected (H,) = (8,) for rnn_tanh, got (1, 8)"),
    ("lstm", {"Wx": zeros(D, 32, dtype=int)}, TypeError, "Wx: expected float32 or float64, got int64"),
    ("lstm", {"Wh": None}, TypeError, "Wh: expected float32 or float64, got object"),
    ("lstm", {"b": zeros(32, dtype="f2")}, TypeError, "b: expected float32 or float64, got float16"),
    (
        "lstm",
        {"x": zeros(N, T, D, dtype="f4")},
        TypeError,
        ONE_DTYPE + "x: float32, Wx: float64, Wh: float64, b: float64",
    ),
    (
        "lstm",
        {"x": IDS, "b": zeros(32, dtype=">f4")},
        TypeError,
        ONE_DTYPE + "Wx: float64, Wh: float64, b: float32",
    ),
    (
        "lstm",
        {"b": None, "Wh": zeros(H, 32, dtype="f4")},
        TypeError,
        ONE_DTYPE + "x: float64, Wx: float64, Wh: float32",
    ),
    # state
    (
        "lstm",
        {"state": (None, zeros(N, H, dtype="f4"))},
        TypeError,
        ONE_DTYPE + "x: float64, Wx: float64, Wh: float64, b: float64, state[1]: float32",
    ),
    ("lstm", {"state": zeros(2, N, H)}, TypeError, "state: expected " + lstm_states("ndarray")),
    ("gru", {"state": 3}, TypeError, "state: expected a tuple (h,) of 1 for gru, got int"),
    ("lstm", {"state": (None,)}, ValueError, "state: expected " + lstm_states("one of 1")),
    ("lstm", {"state": []}, ValueError, "state: expected " + lstm_states("one of 0")),
    ("rnn_relu", {"state": [None] * 2}, ValueError, "state: expected a tuple (h,) of 1 for rnn_relu, got one of 2"),
    ("lstm", {"state": (zeros(N, 7), None)}, ValueError, "state[0]: expected (N, H) = (2, 8), got (2, 7)"),
    ("lstm", {"state": (None, zeros(H))}, ValueError, "state[1]: expected (N, H) = (2, 8), got (8,)"),
    (
        "gru",
        {"state": (zeros(N, H, dtype=int),)},
        TypeError,
        "state[0]: expected float32 or float64, got int64",
    ),
    # lengths
    ("lstm", {"lengths": [5, 6]}, ValueError, "lengths[1] = 6: expected 0..T = 0..5"),
    ("lstm", {"lengths": [-1, 5]}, ValueError, "lengths[0] = -1: expected 0..T = 0..5"),
    (
        "lstm",
        {"lengths": np.array([1, 2**63], np.uint64)},
        ValueError,
        "lengths[1] = 9223372036854775808: expected 0..T = 0..5",
    ),
    ("lstm", {"lengths": [5]}, ValueError, "lengths: expected (N,) = (2,), got (1,)"),
    ("lstm", {"lengths": [[5, 5]]}, ValueError, "lengths: expected (N,) = (2,), got (1, 2)"),
    ("lstm", {"lengths": 5}, ValueError, "lengths: expected (N,) = (2,), got ()"),
    ("lstm", {"lengths": [5.0, 4.0]}, TypeError, "lengths: expected integers, got float64"),
    ("lstm", {"lengths": [5, np.nan]}, TypeError, "lengths: expected integers, got float64"),
    ("lstm", {"lengths": [True, True]}, TypeError, "lengths: expected integers, got bool"),
    ("lstm", {"lengths": [None, None]}, TypeError, "lengths: expected integers, got object"),
    ("lstm", {"lengths": "ab"}, TypeError, "lengths: expected integers, got <U2"),
    ("lstm", {"lengths": []}, TypeError, "lengths: expected integers, got float64"),
    # threads
    ("lstm", {"num_threads": 0}, ValueError, THREADS + "0"),
    ("lstm", {"num_threads": -(2**70)}, ValueError, THREADS + str(-(2**70))),
    ("lstm", {"num_threads": 2.5}, TypeError, THREADS + "2.5"),
    ("lstm", {"num_threads": "2"}, TypeError, THREADS + "'2'"),
    ("lstm", {"num_threads": True}, TypeError, THREADS + "True"),
    # the first wrong argument is named
    ("lstm", {"cell": "a", "x": None}, ValueError, f"cell: expected one of {NAMES}, got 'a'"),
    ("lstm", {"x": zeros(N), "Wh": zeros(3)}, ValueError, X_SHAPE + "(2,) of float64"),
]

BACKWARD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"dh": zeros(N, T)}, ValueError, "dh: expected (N, T, H) = (2, 5, 8), got (2, 5)"),
    ({"dh": zeros(T, N, H)}, ValueError, "dh: expected (N, T, H) = (2, 5, 8), got (5, 2, 8)"),
    ({"dh": zeros()}, ValueError, "dh: expected (N, T, H) = (2, 5, 8), got ()"),
    ({"dh": zeros(N, T, H, dtype=int)}, TypeError, "dh: expected float32 or float64, got int64"),
    ({"dh": "a"}, TypeError, "dh: expected float32 or float64, got <U1"),
    ({"dstate": zeros(2, N, H)}, TypeError, "dstate: expected " + lstm_states("ndarray")),
    ({"dstate": (None,) * 3}, ValueError, "dstate: expected " + lstm_states("one of 3")),
    ({"dstate": (None, zeros(N, T))}, ValueError, "dstate[1]: expected (N, H) = (2, 8), got (2, 5)"),
    ({"dstate": (zeros(N, H, dtype="f2"), None)}, TypeError, "dstate[0]: expected float32 or float64, got float16"),
    (
        {"dh": zeros(N, T, H), "dstate": (None, zeros(N, H, dtype="f4"))},
        TypeError,
        ONE_DTYPE + "dh: float64, dstate[1]: float32",
    ),
    (
        {"dh": zeros(N, T, H, dtype="f4")},
        TypeError,
        "dh, dstate: expected float64, as in the forward pass, got float32",
    ),
    (
        {"dstate": (zeros(N, H, dtype="f4"), None)},
        TypeError,
        "dh, dstate: expected float64, as in the forward pass, got float32",
    ),
    ({"num_threads": 0}, ValueError, THREADS + "0"),
    ({"num_threads": None, "tape": None}, TypeError, "tape: expected the tape of a forward pass, got NoneType"),
    ({"tape": "tape"}, TypeError, "tape: expected the tape of a forward pass, got str"),
]


@pytest.mark.parametrize(
    ("cell", "changes", "kind", "message"), FORWARD, ids=[f"{'+'.join(row[1])}-{k}" for k, row in enumerate(FORWARD)]
)
def test_forward(module: Any, cell: str, changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^{re.escape(message)}$") as caught:
        module.forward(**arguments(cell, changes))
    assert caught.type is kind


@pytest.mark.parametrize("cell", rnnfast.cells())
def test_right_arguments_are_right(module: Any, cell: str) -> None:
    for threads in (1, np.int8(2), 2**70, None):
        module.forward(**arguments(cell, {"num_threads": threads}))
    for changes in ({}, {"x": IDS}, {"b": None}, {"lengths": [0, 5]}):
        module.forward(**arguments(cell, changes))


@pytest.mark.parametrize(
    ("changes", "kind", "message"), BACKWARD, ids=[f"{'+'.join(row[0])}-{k}" for k, row in enumerate(BACKWARD)]
)
def test_backward(module: Any, changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^{re.escape(message)}$") as caught:
        module.backward(**{"tape": module.forward(**arguments()).tape, **changes})
    assert caught.type is kind


def test_backward_of_float32(module: Any) -> None:
    f32 = {name: a.astype("f4") if isinstance(a, np.ndarray) else a for name, a in arguments().items()}
    message = "^dh, dstate: expected float32, as in the forward pass, got float64$"
    with pytest.raises(TypeError, match=message):
        module.backward(module.forward(**f32).tape, zeros(N, T, H))


def test_tapes_do_not_mix() -> None:
    other = {rnnfast: reference, reference: rnnfast}
    for module in other:
        with pytest.raises(TypeError, match=r"^tape: expected the tape of a forward pass, got Tape$"):
            module.backward(other[module].forward(**arguments()).tape)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cell", None),
        ("cell", 3),
        ("cell", ["lstm"]),
        ("cell", b"lstm"),
        ("x", [[1, 2], [3]]),
        ("Wx", [[1.0, 2.0], [3.0]]),
        ("b", [[1.0, 2.0], [3.0]]),
        ("state", ([[1.0], [2.0, 3.0]], None)),
        ("lengths", [[1], [1, 2]]),
        ("reverse", "no"),
        ("reverse", 2),
        ("reverse", np.array([1, 2])),
        ("keep_tape", "no"),
        ("num_threads", np.array([1, 2])),
        ("num_threads", np.array([2])),
        ("num_threads", np.array(2)),
    ],
    ids=lambda value: ascii(value).replace("\n", ""),
)
def test_wrong_in_kind(name: str, value: Any) -> None:
    """What is no string, array, flag or number at all: the same answer, or the same words, which name the argument."""

    def outcome(module: Any) -> str:
        try:
            h, _, tape = module.forward(**arguments(changes={name: value}))
        except (ValueError, TypeError) as error:
            return f"{type(error).__name__}: {str(error)[:100]}"
        return f"h {h.shape}, {'no ' if tape is None else ''}tape"

    core = outcome(rnnfast)
    assert core == outcome(reference)
    assert core.split()[0] == "h" or core.split()[1].startswith(name)


@pytest.mark.parametrize("reverse", [False, True])
def test_of_several_wrong_ids_the_first_is_named(reverse: bool) -> None:
    ids = IDS.copy()
    ids[0, 4], ids[1, 0] = 9, 7
    for module in (rnnfast, reference):
        with pytest.raises(ValueError, match=r"^x\[0, 4\] = 9: "):
            module.forward(**arguments(changes={"x": ids, "reverse": reverse}))


@pytest.mark.parametrize("value", [0, -3, 1.5, "2", None, True])
def test_set_num_threads(value: Any) -> None:
    before = rnnfast.get_num_threads()
    kind = ValueError if type(value) is int else TypeError
    with pytest.raises(kind, match=f"^{THREADS}{value!r}$"):
        rnnfast.set_num_threads(value)
    assert rnnfast.get_num_threads() == before


@pytest.mark.parametrize("shape", [(1, 2**48, 1), (2**48, 1, 1), (1, 1, 2**48)])
def test_what_no_memory_can_hold(shape: tuple[int, ...]) -> None:
    """An array of stride 0 may claim any size."""
    x, Wx = (np.lib.stride_tricks.as_strided(np.ones(1), s, (0,) * len(s)) for s in (shape, (shape[2], 1)))
    with pytest.raises(MemoryError):
        rnnfast.forward("rnn_tanh", x, Wx, np.ones((1, 1)))
    assert rnnfast.forward("rnn_tanh", np.zeros((1, 1, 1)), np.ones((1, 1)), np.ones((1, 1))).h == 0
