"""Stream: one step at a time with the state kept inside. Its bits are compared with forward's in test_bits.py."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
import rnnfast

CELLS = rnnfast.cells()
DTYPES = [np.float32, np.float64]
NAMES = ", ".join(CELLS)
N, D, H = 3, 5, 4


def stream_of(p: Any, **options: Any) -> rnnfast.Stream:
    return rnnfast.Stream(p.cell, p.Wx, p.Wh, p.b, **{"batch_size": len(p.x), **options})


@pytest.fixture
def lstm(make_problem: Any) -> Any:
    """A stream of float64 with D = 5, H = 4, batch_size = 3."""
    return stream_of(make_problem("lstm", N, 1, D, H))


def raises(kind: type[Exception], message: str) -> Any:
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_steps_of_numbers_and_of_ids(
    make_problem: Any, assert_same_bits: Any, cell: str, dtype: Any, bias: bool
) -> None:
    """Both may come in any order to the same stream."""
    p = make_problem(cell, N, 8, D, H, dtype, bias=bias)
    ids = make_problem(cell, N, 8, D, H, dtype, ids=True).x
    stream, state = stream_of(p), None
    for t in range(8):
        x = ids if t in (1, 2, 5) else p.x
        h = stream.step(x[:, t])
        expected = rnnfast.forward(cell, x[:, t : t + 1], p.Wx, p.Wh, p.b, state)
        state = expected.state
        assert_same_bits(h, expected.h[:, 0].copy(), f"h at {t}")
        for got, wanted in zip(stream.state, state, strict=True):
            assert_same_bits(got, wanted, f"state at {t}")


def test_the_default_is_one_sequence(make_problem: Any) -> None:
    p = make_problem("gru", 1, 1, D, H)
    stream = rnnfast.Stream("gru", p.Wx, p.Wh)
    assert stream.step(p.x[:, 0]).shape == (1, H)
    assert stream.step([2]).shape == (1, H)


def test_out(make_problem: Any, assert_same_bits: Any) -> None:
    p = make_problem("lstm", N, 2, D, H)
    with_out, without = stream_of(p), stream_of(p)
    out = np.full((N, H), np.nan)
    for t in range(2):
        assert with_out.step(p.x[:, t], out=out) is out
        h = without.step(p.x[:, t])
        assert_same_bits(out, h)
        assert not any(np.shares_memory(h, s) for s in without.state)


def test_out_may_be_x(make_problem: Any, assert_same_bits: Any) -> None:
    p = make_problem("gru", 7, 1, 6, 6)
    x = p.x[:, 0].copy()
    expected = stream_of(p).step(x)
    assert_same_bits(stream_of(p).step(x, out=x), expected)


def test_results_are_not_overwritten(make_problem: Any) -> None:
    p = make_problem("lstm", N, 3, D, H)
    stream = stream_of(p)
    first = stream.step(p.x[:, 0])
    state, copies = stream.state, [first.copy(), *(s.copy() for s in stream.state)]
    for _ in range(3):
        stream.step(p.x[:, 1])
    for array, copy in zip((first, *state), copies, strict=True):
        assert np.array_equal(array, copy)


@pytest.mark.parametrize("cell", CELLS)
def test_state(make_problem: Any, assert_same_bits: Any, cell: str) -> None:
    p = make_problem(cell, N, 2, D, H)
    stream = stream_of(p)
    assert type(stream.state) is tuple
    assert len(stream.state) == len(p.state)
    assert not any(s.any() for s in stream.state)
    stream.state = list(p.state)
    for got, given in zip(stream.state, p.state, strict=True):
        assert_same_bits(got, given)
        got[...] = np.nan  # a copy: writing to it reaches nothing
    before = stream.state
    p.state[0][...] = np.nan  # nor does writing to what was given
    assert_same_bits(stream.state[0], before[0])
    h = stream.step(p.x[:, 0])
    assert np.isfinite(h).all()
    stream.state = (None, *before[1:])
    assert not stream.state[0].any()
    stream.state = None
    assert not any(s.any() for s in stream.state)


def test_state_of_any_layout(make_problem: Any, assert_same_bits: Any) -> None:
    p = make_problem("lstm", N, 1, D, H)
    for layout in (np.asfortranarray, lambda a: a.astype(">f8"), lambda a: np.repeat(a, 2, axis=1)[:, ::2]):
        stream = stream_of(p)
        stream.state = tuple(layout(s) for s in p.state)
        for got, given in zip(stream.state, p.state, strict=True):
            assert_same_bits(got, given)


@pytest.mark.parametrize("cell", CELLS)
def test_reset(make_problem: Any, assert_same_bits: Any, cell: str) -> None:
    p = make_problem(cell, N, 3, D, H)
    stream = stream_of(p)
    first = stream.step(p.x[:, 0])
    stream.step(p.x[:, 1])
    stream.reset()
    assert not any(s.any() for s in stream.state)
    assert_same_bits(stream.step(p.x[:, 0]), first)


def test_repr(lstm: Any, make_problem: Any) -> None:
    assert repr(lstm) == "Stream('lstm', D=5, H=4, batch_size=3, float64)"
    p = make_problem("rnn_relu", 1, 1, 2, 7, np.float32)
    assert repr(stream_of(p)) == "Stream('rnn_relu', D=2, H=7, batch_size=1, float32)"


@pytest.mark.parametrize("sizes", [(0, D, H), (N, 0, H), (N, D, 0), (0, 0, 0)])
@pytest.mark.parametrize("cell", CELLS)
def test_empty(make_problem: Any, assert_same_bits: Any, cell: str, sizes: tuple[int, ...]) -> None:
    n, d, h = sizes
    p = make_problem(cell, n, 1, d, h)
    stream = stream_of(p)
    assert_same_bits(stream.step(p.x[:, 0]), p.replace(state=None).forward().h[:, 0].copy())
    if n == 0:
        assert stream.step(np.zeros(0, int)).shape == (0, h)


LAYOUTS = {
    "column": np.asfortranarray,
    "negative": lambda a: a[::-1].copy()[::-1],
    "gaps": lambda a: np.repeat(a, 2, axis=0)[::2],
    "swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "misaligned": lambda a: np.frombuffer(b"\0" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
    "list": lambda a: a.tolist(),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("kind", ["f8", "i1", "u2", "i4", "u8", "i8"])
def test_layouts(make_problem: Any, assert_same_bits: Any, kind: str, layout: Any) -> None:
    p = make_problem("gru", N, 1, D, H, ids=kind != "f8")
    x = p.x[:, 0].astype(kind)
    assert_same_bits(stream_of(p).step(layout(x)), stream_of(p).step(x))


@pytest.mark.parametrize("before", ["i1", "i4", "i8", "i8,i4"])
@pytest.mark.parametrize("kind", ["f8", "i4", "u8", "i8"])
def test_fields_of_records(make_problem: Any, assert_same_bits: Any, kind: str, before: str) -> None:
    p = make_problem("gru", N, 1, D, H, ids=kind != "f8")
    x = p.x[:, 0].astype(kind)
    records = np.zeros(x.shape, f"{before},{kind}")
    field = records[records.dtype.names[-1]]
    field[...] = x
    assert_same_bits(stream_of(p).step(field), stream_of(p).step(x))


WEIGHTS = {"cell": "lstm", "Wx": np.zeros((D, 4 * H)), "Wh": np.zeros((H, 4 * H))}
CONSTRUCTOR: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"cell": "LSTM"}, ValueError, f"cell: expected one of {NAMES}, got 'LSTM'"),
    ({"Wh": np.zeros((8, 24))}, ValueError, "Wh: expected (H, 4*H) = (8, 32) for lstm, got (8, 24)"),
    ({"Wx": np.zeros((5, 15))}, ValueError, "Wx: expected (D, 4*H) = (D, 16) for lstm, got (5, 15)"),
    ({"Wx": np.zeros(16)}, ValueError, "Wx: expected (D, 4*H) = (D, 16) for lstm, got (16,)"),
    ({"b": np.zeros(4)}, ValueError, "b: expected (4*H,) = (16,) for lstm, got (4,)"),
    ({"Wx": np.zeros((D, 16), int)}, TypeError, "Wx: expected float32 or float64, got int64"),
    (
        {"Wh": np.zeros((H, 16), "f4"), "b": np.zeros(16)},
        TypeError,
        "expected one dtype for all floating arrays, got Wx: float64, Wh: float32, b: float64",
    ),
    ({"batch_size": -1}, ValueError, "batch_size: expected an integer of 0 or more, got -1"),
]


@pytest.mark.parametrize(("changes", "kind", "message"), CONSTRUCTOR)
def test_constructor_errors(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    with raises(kind, message):
        rnnfast.Stream(**{**WEIGHTS, **changes})


@pytest.mark.parametrize("changes", [{"cell": None}, {"batch_size": 2.5}, {"batch_size": "3"}, {"batch_size": 2**60}])
def test_constructor_names_what_is_wrong_in_kind(changes: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, MemoryError), match=rf"^(?i:{next(iter(changes))}|.*alloc)"):
        rnnfast.Stream(**{**WEIGHTS, **changes})


X = np.ones((N, D))
STEP: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"x_t": X.astype("f4")}, TypeError, "x_t: expected float64, as the weights, or integer token ids, got float32"),
    ({"x_t": None}, TypeError, "x_t: expected float64, as the weights, or integer token ids, got object"),
    ({"x_t": X > 0}, TypeError, "x_t: expected float64, as the weights, or integer token ids, got bool"),
    ({"x_t": [[1], [1, 2]]}, TypeError, "x_t: expected an array, got list"),
    ({"x_t": X[:2]}, ValueError, "x_t: expected (N, D) = (3, 5), got (2, 5)"),
    ({"x_t": X[0]}, ValueError, "x_t: expected (N, D) = (3, 5), got (5,)"),
    ({"x_t": X[:, None]}, ValueError, "x_t: expected (N, D) = (3, 5), got (3, 1, 5)"),
    ({"x_t": [1, 2]}, ValueError, "x_t: expected (N,) = (3,), got (2,)"),
    ({"x_t": [[1, 2, 3]]}, ValueError, "x_t: expected (N,) = (3,), got (1, 3)"),
    ({"x_t": [1, 5, 2]}, ValueError, "x_t[1] = 5: expected a token id in [0, D) = [0, 5)"),
    ({"x_t": [1, 2, -1]}, ValueError, "x_t[2] = -1: expected a token id in [0, D) = [0, 5)"),
    (
        {"x_t": np.array([2**63, 0, 0], np.uint64)},
        ValueError,
        "x_t[0] = 9223372036854775808: expected a token id in [0, D) = [0, 5)",
    ),
    ({"out": np.zeros((N, H), "f4")}, TypeError, "out: expected float64, as the weights, got float32"),
    ({"out": np.zeros((N, H), int)}, TypeError, "out: expected float64, as the weights, got int64"),
    ({"out": np.zeros((N, D))}, ValueError, "out: expected (N, H) = (3, 4), got (3, 5)"),
    *[
        ({"out": out}, ValueError, "out: expected a writeable C-contiguous array")
        for out in (
            np.zeros((H, N)).T,
            np.zeros((N, 2 * H))[:, ::2],
            np.broadcast_to(np.zeros(H), (N, H)),
            np.zeros((N, H), ">f8"),
            np.frombuffer(bytearray(1 + N * H * 8), offset=1).reshape(N, H),
            np.zeros((N, H)).tolist(),
        )
    ],
]


@pytest.mark.parametrize(("changes", "kind", "message"), STEP)
def test_step_errors(
    lstm: Any, assert_same_bits: Any, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    lstm.step(X)
    before = lstm.state
    with raises(kind, message):
        lstm.step(**{"x_t": X, **changes})
    for got, wanted in zip(lstm.state, before, strict=True):  # a failed step leaves the state
        assert_same_bits(got, wanted)
    lstm.step(X)


@pytest.mark.parametrize(
    ("state", "kind", "message"),
    [
        (3, TypeError, "state: expected a tuple (h, c) of 2 for lstm, got int"),
        ((None,), ValueError, "state: expected a tuple (h, c) of 2 for lstm, got one of 1"),
        ((None, np.zeros((N, D))), ValueError, "state[1]: expected (N, H) = (3, 4), got (3, 5)"),
        ((np.zeros((N, H), int), None), TypeError, "state[0]: expected float32 or float64, got int64"),
        (
            (np.ones((N, H)), np.zeros((N, H), "f4")),
            TypeError,
            "expected one dtype for all floating arrays, got weights: float64, state[0]: float64, state[1]: float32",
        ),
    ],
)
def test_state_errors(lstm: Any, state: Any, kind: type[Exception], message: str) -> None:
    before = lstm.state
    with raises(kind, message):
        lstm.state = state
    assert all(np.array_equal(a, b) for a, b in zip(lstm.state, before, strict=True))


def test_one_thread_at_a_time(make_problem: Any) -> None:
    """Steps of two threads at once are refused, not mixed up; a large step lets the other thread in."""
    p = make_problem("lstm", 300, 1, 200, 200)
    stream, refused = stream_of(p), []

    def steps() -> None:
        for _ in range(200):
            try:
                stream.step(p.x[:, 0])
            except RuntimeError as error:
                refused.append(str(error))
            if refused:
                return

    threads = [threading.Thread(target=steps) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if rnnfast.get_num_threads() > 1:  # steps of one thread keep the interpreter's lock
        assert set(refused) == {"Stream: expected one thread at a time, got two at once"}
    stream.step(p.x[:, 0])


FAILED_STEP = """
import resource, sys
import numpy as np, rnnfast
rng = np.random.default_rng(0)
x, Wx, Wh = (rng.normal(size=s).astype("f4") for s in [(60_000, 8), (8, 1024), (256, 1024)])
stream = rnnfast.Stream("lstm", Wx, Wh, batch_size=len(x))
out = np.zeros((len(x), 256), "f4")
right = rnnfast.forward("lstm", x[:, None], Wx, Wh, keep_tape=False).h[:, 0]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
failed = 0
for spare in np.arange(0.5, 6, 0.5):
    resource.setrlimit(resource.RLIMIT_AS, (used + int(spare * 2**20), -1))
    try:
        rnnfast.Stream("lstm", Wx, Wh, batch_size=10).step(x[:10])
        stream.step(x, out)
    except MemoryError:
        failed += 1
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
stream.reset()
assert (stream.step(x, out) == right).all()
print("failed", failed)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space through /proc")
def test_an_object_that_was_never_made() -> None:
    stream = rnnfast.Stream.__new__(rnnfast.Stream)
    for call in (lambda: stream.step(np.ones((1, 1))), stream.reset, lambda: stream.state):
        with pytest.raises(TypeError, match=r"Stream: expected one that Stream\(\.\.\.\) made"):
            call()
    assert repr(stream) == "<Stream, not made>"
    with pytest.raises(TypeError, match=r"Tape: expected one from rnnfast\.forward"):
        rnnfast.Tape.__new__(rnnfast.Tape)


def test_a_step_after_one_that_found_no_memory() -> None:
    done = subprocess.run([sys.executable, "-c", FAILED_STEP], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.startswith("failed")


def test_out_may_overlap_the_input() -> None:
    rng = np.random.default_rng(0)
    Wx, Wh = rng.normal(size=(16, 48)), rng.normal(size=(16, 48))
    base = rng.normal(size=(201, 16))
    expected = rnnfast.Stream("gru", Wx, Wh, batch_size=200).step(base[:-1].copy())
    rnnfast.Stream("gru", Wx, Wh, batch_size=200).step(base[:-1], base[1:])
    np.testing.assert_array_equal(base[1:], expected)
