"""Whatever the arguments: an error that names one of them, or the right answer; never a crash, never another error.

The default run makes the same calls every time. RNNFAST_FUZZ_CALLS=1000000 makes about so many, each time others; under
the sanitizers (.ci/sanitize) that is the test of a release. What is huge here takes its size from strides of 0: nothing
is allocated, and no product of sizes lies between what is quick and what no processor can address.
"""

from __future__ import annotations

import copy
import inspect
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rnnfast
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided
from rnnfast import reference

CALLS = int(os.environ.get("RNNFAST_FUZZ_CALLS", "0"))
CELLS = rnnfast.cells()
count: Counter[str] = Counter()  # calls, refused, compared


class Foreign(Exception):
    """What an object of the caller's own raises; it may come out as it is."""


REFUSALS = (ValueError, TypeError, MemoryError, Foreign)


# ---- awkward values: for an array of the right kind, by name; n chooses among variants


def shape_of_ones(a: np.ndarray, n: int) -> Any:
    return np.ones(a.shape[: n % (a.ndim + 1)], a.dtype)


def axis_more(a: np.ndarray, n: int) -> Any:
    return np.expand_dims(a, n % (a.ndim + 1))


def transposed(a: np.ndarray, n: int) -> Any:
    return np.ascontiguousarray(a.T)


def cut(a: np.ndarray, n: int) -> Any:
    return a[tuple(slice(0, max(size - (n >> k & 1), 0)) for k, size in enumerate(a.shape))]


def grown(a: np.ndarray, n: int) -> Any:
    return np.concatenate([a, a], axis=n % a.ndim) if a.ndim else a


def empty(a: np.ndarray, n: int) -> Any:
    return a[tuple(slice(0, 0 if n >> k & 1 else size) for k, size in enumerate(a.shape))]


DTYPES = [
    "f2",
    "f4",
    "f8",
    "g",
    "c8",
    "c16",
    "?",
    "O",
    "U3",
    "S2",
    "M8[s]",
    "m8[ns]",
    "i1",
    "u1",
    "i2",
    "i4",
    "i8",
    "u4",
    "u8",
    ">f4",
    ">f8",
    ">f2",
    ">i2",
    ">u8",
    "i4,i4",
    "V8",
]


def dtype(a: np.ndarray, n: int) -> Any:
    kind = np.dtype(DTYPES[n % len(DTYPES)])
    return a.astype(kind) if kind.kind not in "VSU" else np.zeros(a.shape, kind)


def huge(a: np.ndarray, n: int) -> Any:
    shape = [1 << (45 + (n >> 3) % 18) if k == n % max(a.ndim, 1) else size for k, size in enumerate(a.shape)]
    if n & 4:
        shape = [1 if k != n % max(a.ndim, 1) else size for k, size in enumerate(shape)]
    return as_strided(a.flat[:1].copy() if a.size else np.ones(1, a.dtype), shape, (0,) * len(shape))


def huge_and_empty(a: np.ndarray, n: int) -> Any:
    shape = [1 << (45 + (n >> 4) % 18) if k == n % max(a.ndim, 1) else size for k, size in enumerate(a.shape)]
    shape[(n >> 2) % max(a.ndim, 1)] = 0
    return as_strided(np.ones(1, a.dtype), shape, (0,) * len(shape))


# the same numbers, laid out in another way


def backwards(a: np.ndarray, n: int) -> Any:
    flip = tuple(slice(None, None, -1 if n >> k & 1 else 1) for k in range(a.ndim))
    return np.ascontiguousarray(a[flip])[flip]


def fortran(a: np.ndarray, n: int) -> Any:
    order = [(k + n) % a.ndim for k in range(a.ndim)]
    return np.ascontiguousarray(a.transpose(order)).transpose(np.argsort(order))


def sliced(a: np.ndarray, n: int) -> Any:
    steps = [1 + (n >> k & 1) * (1 + n % 3) for k in range(a.ndim)]
    around = np.full([size * step for size, step in zip(a.shape, steps, strict=True)], 77, a.dtype)
    view = around[tuple(slice(None, None, step) for step in steps)]
    view[...] = a
    return view


def unaligned(a: np.ndarray, n: int) -> Any:
    offset = 1 + n % 7
    view = np.zeros(a.nbytes + offset, np.uint8)[offset:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def field(a: np.ndarray, n: int) -> Any:
    records = np.zeros(a.shape, [("before", f"V{1 + n % 8}"), ("numbers", a.dtype)])
    records["numbers"] = a
    return records["numbers"]


def swapped(a: np.ndarray, n: int) -> Any:
    return a.astype(a.dtype.newbyteorder())


def read_only(a: np.ndarray, n: int) -> Any:
    a = a.copy()
    a.flags.writeable = False
    return a


def subclass(a: np.ndarray, n: int) -> Any:
    return a.view(Subclass) if n % 2 else np.ma.masked_array(a, mask=np.zeros(a.shape, bool))


def broadcast(a: np.ndarray, n: int) -> Any:
    first = tuple(slice(0, 1) if n >> k & 1 else slice(None) for k in range(a.ndim))
    return np.broadcast_to(a[first], a.shape)


def overlapping(a: np.ndarray, n: int) -> Any:
    source = np.resize(a, sum(a.shape) + 1)
    return as_strided(source, a.shape, (a.itemsize,) * a.ndim) if a.size else a


def listed(a: np.ndarray, n: int) -> Any:
    return a.tolist() if n % 2 else tuple(a)


def wrapped(a: np.ndarray, n: int) -> Any:
    return Wrapped(a)


# other numbers


def special(a: np.ndarray, n: int) -> Any:
    # No denormals: they count as 0 in the core, where the slope of relu is another.
    a = a.copy()
    if a.size and a.dtype.kind == "f":
        a.flat[(n >> 3) % a.size] = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30][n % 7 % 6]
    return a


def integer(a: np.ndarray, n: int) -> Any:
    kind = np.dtype(["i8", "i1", "u8", "u1", "i4", ">i8", ">u2"][n % 7])
    values = [-1, 0, 1, 3, 7, 2**7 - 1, 2**31 - 1, 2**31, 2**63 - 1, 2**64 - 1, -(2**63), -(2**7)]
    value = values[(n >> 3) % len(values)]
    a = a.astype(kind)
    if a.size and np.iinfo(kind).min <= value <= np.iinfo(kind).max:
        a.flat[(n >> 7) % a.size] = value
    return a


class Subclass(np.ndarray):
    """An array that thinks it knows better."""

    def __array_finalize__(self, other: Any) -> None:
        self.known = "better"


class Wrapped:
    """Not an array, but convertible to one."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array(self.array, dtype)


class Nonsense:
    """Fails where it is asked for anything: its array, length, items, number, truth or text."""

    def __init__(self, kind: type[Exception]) -> None:
        self.kind = kind

    def fail(self, *_: Any, **__: Any) -> Any:
        raise self.kind("mine")

    __array__ = __len__ = __getitem__ = __index__ = __int__ = __float__ = __bool__ = __iter__ = __contains__ = fail
    __lt__ = __le__ = __gt__ = __ge__ = __add__ = __radd__ = __mul__ = __rmul__ = __call__ = fail


class Liar:
    """Answers each question with something of the wrong kind."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        return "no array"

    def __len__(self) -> int:
        return 3

    def __getitem__(self, place: Any) -> Any:
        raise IndexError(place)

    def __index__(self) -> int:
        return 3


def untrue(name: str) -> type:
    """A class of this name, as NumPy's flags have it, whose objects are neither true nor false."""

    def fail(self: Any) -> bool:
        raise Foreign

    return type(name, (), {"__bool__": fail})


class Text(str):
    """A string that is not exactly a str."""


def nested(depth: int) -> Any:
    value: Any = 1.0
    for _ in range(depth):
        value = [value]
    return value


def itself() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


# made anew for each call, since a generator is used up
OTHERS: list[Callable[[], Any]] = [
    *(
        lambda v=v: v
        for v in (None, True, False, 0, 1, -1, 2, 3, 7, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**30)
    ),
    *(lambda v=v: v for v in (0.5, 1.0, -0.5, -0.0, np.nan, np.inf, -np.inf, 1e300, 1e-320, 1j)),
    *(
        lambda v=v: v
        for v in ("", "abc", "lstm", "gru", "rnn_tanh", "LSTM", b"lstm", "é" * 99, "\ud800", "lstm\0", "a\0b")
    ),
    *(lambda v=v: v for v in ("steps", "sum", "both", "float32", "f8", "i4", "none")),
    *(
        lambda v=v: v
        for v in ((), (None,), (None, None), (None, None, None), range(3), object, len, Ellipsis, NotImplemented)
    ),
    *(lambda v=v: v for v in (np.float64(1.5), np.float32(np.nan), np.int8(3), np.int8(-3), np.uint64(2**64 - 1))),
    *(
        lambda v=v: v
        for v in (np.bool_(True), np.str_("lstm"), np.datetime64("2020"), np.longdouble(2), np.complex64(1))
    ),
    lambda: Text("lstm"),
    lambda: [],
    lambda: [[]],
    lambda: {},
    lambda: {"a": 1},
    lambda: set(),
    lambda: {1, 2},
    lambda: [1, [2, 3]],
    lambda: [[1.0, 2.0], [3.0]],
    lambda: [None, None],
    lambda: ["a", 1],
    lambda: ["a", "b"],
    lambda: [["a"], ["b", "c"]],
    lambda: [0, 1, 1],
    lambda: (i for i in range(3)),
    lambda: iter(["a", "b"]),
    object,
    untrue("bool"),
    untrue("bool_"),
    Liar,
    lambda: [Liar()],
    lambda: Nonsense(Foreign),
    lambda: Nonsense(TypeError),
    lambda: [Nonsense(Foreign)],
    lambda: Wrapped("abc"),
    lambda: nested(40),
    lambda: nested(200),
    itself,
    lambda: bytearray(b"abc"),
    lambda: memoryview(b"abcdefgh"),
    lambda: np.array(3),
    lambda: np.array(3.5),
    lambda: np.array(None),
    lambda: np.array(True),
    lambda: np.zeros(0),
    lambda: np.zeros((0, 3)),
    lambda: np.zeros((3, 0), np.float32),
    lambda: np.ones((2, 3)),
    lambda: np.ones((2, 3, 4), np.float32),
    lambda: np.array([1, 2]),
    lambda: np.array([[0, 1, 2]], np.uint64),
    lambda: np.array(["a", "b"]),
    lambda: np.array(["a", None, 3], object),
    lambda: np.array([np.ones(2), np.ones(3)], object),
    lambda: np.array([np.nan, 1.0]),
    lambda: np.ma.masked_array([1.0, 2.0], mask=[True, False]),
    lambda: np.ones((1, 2)),
    lambda: np.random.default_rng(0),
    lambda: rnnfast.Adam(),
    lambda: np.zeros(3, "i4,f4"),
    lambda: np.array([b"a"]),
    lambda: np.array(["2020"], "M8[D]"),
]

LAYOUTS = [
    backwards,
    fortran,
    sliced,
    unaligned,
    field,
    swapped,
    read_only,
    subclass,
    broadcast,
    overlapping,
    listed,
    wrapped,
]
NUMBERS = [special, integer, dtype]
SHAPES = [shape_of_ones, axis_more, transposed, cut, grown, empty, huge, huge_and_empty]
MUTATIONS = {f.__name__: f for f in (*LAYOUTS, *NUMBERS, *SHAPES)}
NAMES = [*MUTATIONS, "other", "other", "alias", "item"]

Change = tuple[int, str, int]  # which argument, what is done to it, which variant of that
"""A change of one argument. Plain numbers and names, so that a failure prints what repeats it."""


def changes(most: int) -> st.SearchStrategy[list[Change]]:
    change = st.tuples(st.integers(0, 63), st.sampled_from(NAMES), st.integers(0, 1023))
    return st.lists(change, max_size=most)


def changed(value: Any, name: str, n: int, others: list[Any]) -> Any:
    """The value, or a tuple's item, after one change; where a change makes no sense for it, as it is."""
    if name == "other":
        return OTHERS[n % len(OTHERS)]()
    if name == "alias":
        return others[n % len(others)]
    if isinstance(value, tuple | list) and value and all(item is not value for item in value):
        k = n % len(value)
        item = OTHERS[n // 2 % len(OTHERS)]() if name == "item" else changed(value[k], name, n // 2, others)
        return type(value)([*value[:k], item, *value[k + 1 :]])
    if type(value) is not np.ndarray or max(value.shape, default=0) > 1000 or value.dtype.hasobject or name == "item":
        return value
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # of complex numbers cut to real ones
            return MUTATIONS[name](value, n)
    except (ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError):  # NumPy cannot make it
        return value


def mutate(arguments: dict[str, Any], made: list[Change]) -> dict[str, Any]:
    """The arguments, after the changes."""
    result = dict(arguments)
    names = list(arguments)
    for place, name, n in made:
        key = names[place % len(names)]
        result[key] = changed(result[key], name, n, list(result.values()))
    return result


# ---- what came of a call


class Refused:
    """An error of a kind that is allowed."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __repr__(self) -> str:
        return f"{type(self.error).__name__}: {self.error}"


def call(
    function: Callable[..., Any],
    words: Any,
    arguments: dict[str, Any],
    allowed: tuple[type, ...] = REFUSALS,
    named: bool = True,
) -> Any:
    """The result, or Refused. An error must be of an allowed kind, and name one of the words."""
    count["calls"] += 1
    found: BaseException | None = None
    try:
        result = function(**arguments)
    except allowed as error:
        found = error
    if found is None:
        return result
    count["refused"] += 1
    # A MemoryError says how much was asked for, or nothing: NumPy's does not know the name. An OSError names the file.
    if isinstance(found, OSError):
        assert str(arguments.get("path")) in str(found)
    elif named and not isinstance(found, MemoryError | Foreign | RuntimeError):
        said = re.search(rf"\b({'|'.join(map(re.escape, words))})\b", str(found))
        assert said is not None, f"names no argument: {found!r}"
    return Refused(found)


def fuzz(strategy: st.SearchStrategy[Any], check: Callable[[Any], None], *, examples: int, share: float) -> None:
    """Run a check on examples; with RNNFAST_FUZZ_CALLS until it has made its share of the calls."""
    goal = count["calls"] + CALLS * share
    while True:
        run = given(strategy)(lambda case: check(case))
        settings(
            max_examples=200 if CALLS else examples,
            derandomize=not CALLS,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )(run)()
        if count["calls"] >= goal:
            return


@pytest.fixture(scope="module", autouse=True)
def report(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if CALLS:
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print(f"\nfuzz: {count['calls']:,} calls, {count['refused']:,} refused, {count['compared']:,} compared")


pytestmark = pytest.mark.filterwarnings("ignore")  # of numbers: a warning is no refusal and no wrong answer


# ---- forward and backward: the core beside the reference

sizes = st.one_of(st.tuples(*[st.integers(0, 5)] * 4), st.tuples(*[st.integers(0, 3)] * 2, *[st.integers(0, 40)] * 2))
problems = st.tuples(st.sampled_from(CELLS), sizes, st.integers(0, 255))


@pytest.fixture(scope="module")
def problem_of(make_problem: Callable[..., Any]) -> Callable[[Any], Any]:
    def of(case: Any) -> Any:
        cell, (N, T, D, H), bits = case
        flags = {name: bool(bits >> k & 1) for k, name in enumerate(("ids", "ragged", "bias", "state", "reverse"))}
        flags["ids"] &= D > 0
        return make_problem(cell, N, T, D, H, np.float32 if bits & 32 else np.float64, seed=bits >> 6, **flags)

    return of


@pytest.fixture(scope="module")
def agree(assert_close: Callable[..., None]) -> Callable[..., None]:
    """Results of the core are those of the reference: both refuse in the same words, or all arrays are close."""

    def check(actual: Any, expected: Any, depth: int, name: str = "result") -> None:
        if isinstance(expected, tuple):
            assert len(actual) == len(expected), name
            for k, items in enumerate(zip(actual, expected, strict=True)):
                check(*items, depth, f"{name}[{k}]")
        elif not isinstance(expected, np.ndarray):
            assert (actual is None) == (expected is None), name
        else:
            finite = np.isfinite(expected)
            assert actual.shape == expected.shape, name
            # 0 times infinity here may be an infinite sum there, but what is finite is so in both.
            assert np.array_equal(np.isfinite(actual), finite), name
            if not finite.all():
                actual, expected = np.where(finite, actual, 0), np.where(finite, expected, 0)
            assert_close(actual, expected, depth, name=name)
            count["numbers"] += actual.size

    return check


def both(name: str, arguments: dict[str, Any], allowed: tuple[type, ...] = REFUSALS, **of_one: dict[str, Any]) -> Any:
    """What the core and the reference make of a call: two results, or None where one is refused, and rightly."""
    function = getattr(rnnfast, name)
    words = inspect.signature(function).parameters
    before = [(a, a.tobytes()) for a in arrays_in(arguments)]
    actual = call(function, words, arguments | of_one.get("core", {}), allowed)
    assert all(a.tobytes() == data for a, data in before), "an argument was written to"
    if isinstance(actual, Refused) and isinstance(actual.error, MemoryError):
        return None  # which the reference finds out later, or never: it packs no weights, and no schedule
    try:
        expected = getattr(reference, name)(**arguments | of_one.get("reference", {}))
    except MemoryError:  # it may compute with arrays that the core has no need of
        return None
    except allowed as error:
        expected = error
    if isinstance(actual, Refused):
        ours, theirs = (f"{type(e).__name__}: {e}"[:200].split("\0")[0] for e in (actual.error, expected))
        assert ours == theirs, f"core {ours!r}, reference {theirs!r}"
        return None
    assert not isinstance(expected, BaseException), f"the core takes what the reference refuses: {expected!r}"
    return actual, expected


def arrays_in(arguments: dict[str, Any]) -> Iterator[np.ndarray]:
    for value in arguments.values():
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, np.ndarray) and item.size < 10**5 and not item.dtype.hasobject:
                yield item


def test_forward_and_backward(problem_of: Callable[[Any], Any], agree: Callable[..., None]) -> None:
    def check(case: Any) -> None:
        made, batch = case
        problem = problem_of(made)
        right = {name: getattr(problem, name) for name in ("cell", "x", "Wx", "Wh", "b", "state", "lengths", "reverse")}
        right |= {"keep_tape": True, "num_threads": 1 + made[2] % 3, "recompute": made[2] % 3 or None}
        for of_forward, of_backward in batch:
            arguments = mutate(right, of_forward)
            found = both("forward", arguments)
            if found is None:
                continue
            outputs = [result[:2] for result in found]
            if max(outputs[0][0].shape) > 1000:  # huge and empty: NumPy makes no other array of the kind
                continue
            h, (D, H) = outputs[0][0], (len(np.asarray(arguments[name])) for name in ("Wx", "Wh"))
            depth = (h.shape[1] * (D + H + len(h)) + 2) ** (2 if h.dtype == np.float32 else 1)  # both of them round
            agree(*outputs, depth, "forward")
            count["compared"] += 1
            tapes = [result[2] for result in found]
            if tapes[0] is None:
                assert tapes[1] is None
                continue
            rng = np.random.default_rng(made[2])
            numbers = [rng.uniform(-1, 1, a.shape).astype(h.dtype) for a in (h, *outputs[0][1])]
            d = {"dh": numbers[0], "dstate": tuple(numbers[1:]), "num_threads": 1, "dx": True}
            of_one = {"core": {"tape": tapes[0]}, "reference": {"tape": tapes[1]}}
            gradients = both("backward", mutate(d, of_backward), **of_one)
            if gradients is None:
                # What is refused leaves the tape as it was; what the reference could not do has used it in the core.
                if tapes[0].used or tapes[1].used:
                    continue
                gradients = both("backward", d, **of_one)
                if gradients is None:
                    continue
            assert tapes[0].used
            if arguments["Wh"] is not right["Wh"]:
                # An activation's rounding changes its slope, near saturation by more than its share; a Wh that was
                # changed, to ones for instance, amplifies that by its norm.
                rows = np.nan_to_num(np.abs(np.asarray(arguments["Wh"], np.float64))).sum(axis=1)
                depth **= 1 + int(np.clip(rows.max(initial=0), 0, 60))
            agree(*gradients, depth, "backward")
            count["compared"] += 1
            assert both("backward", d, (*REFUSALS, RuntimeError), **of_one) is None

    batch = st.lists(st.tuples(changes(3), changes(2)), min_size=1, max_size=8)
    fuzz(st.tuples(problems, batch), check, examples=150, share=0.6)


def test_streams_and_packed_weights(problem_of: Callable[[Any], Any], assert_same_bits: Callable[..., None]) -> None:
    """They refuse what forward refuses, and give its bits."""

    def check(case: Any) -> None:
        made, of_weights, batch = case
        problem = problem_of(made)
        weights = mutate({name: getattr(problem, name) for name in ("cell", "Wx", "Wh", "b")}, of_weights)
        N, T = problem.x.shape[:2]
        words = (*weights, "batch_size", "state", "x_t", "out", "weights")
        handle = call(rnnfast.PackedWeights, words, weights)
        stream = call(rnnfast.Stream, words, {**weights, "batch_size": N})
        if isinstance(handle, Refused) or isinstance(stream, Refused):
            refused = [r for r in (handle, stream) if isinstance(r, Refused)]
            assert len(refused) == 2 or any(isinstance(r.error, MemoryError) for r in refused), refused
            return
        right = {"x": problem.x, "state": problem.state, "lengths": problem.lengths, "reverse": problem.reverse}
        x_t = problem.x[:, 0] if T else np.zeros(N, int)
        for of_forward, of_step, of_state in batch:
            arguments = mutate({**right, "num_threads": 1}, of_forward)
            actual = call(handle.forward, (*arguments, *words), arguments)
            wanted = call(rnnfast.forward, (*arguments, *words), {**weights, **arguments, "keep_tape": False})
            assert isinstance(actual, Refused) == isinstance(wanted, Refused), (actual, wanted)
            if not isinstance(actual, Refused):
                for numbers, right_ones in zip((actual.h, *actual.state), (wanted.h, *wanted.state), strict=True):
                    assert_same_bits(numbers, right_ones)
                count["compared"] += 1

            before = stream.state
            state = mutate({"state": problem.state or before}, of_state)["state"]
            if not isinstance(call(lambda value: setattr(stream, "state", value), words, {"value": state}), Refused):
                before = stream.state
            arguments = mutate({"x_t": x_t, "out": np.empty_like(before[0])}, of_step)
            h = call(stream.step, words, arguments)
            if isinstance(h, Refused):
                for got, wanted in zip(stream.state, before, strict=True):
                    assert_same_bits(got, wanted)
                continue
            x = np.asarray(arguments["x_t"])
            if not np.may_share_memory(x, h):
                expected = rnnfast.forward(**weights, x=x[:, None], state=before, keep_tape=False)
                assert_same_bits(h, expected.h[:, 0])
                assert_same_bits(stream.state[0], expected.state[0])
                count["compared"] += 1

    batch = st.lists(st.tuples(changes(2), changes(2), changes(1)), min_size=1, max_size=4)
    fuzz(st.tuples(problems, changes(2), batch), check, examples=100, share=0.2)


# ---- everything else that is public: one call that is right, then awkward values in the place of its arguments


def row(*values: float) -> np.ndarray:
    return np.array(values)


def network(**options: Any) -> rnnfast.Network:
    return rnnfast.Network(4, 3, 2, cell="gru", num_layers=2, embedding_size=2, dtype=np.float64, seed=0, **options)


def coder() -> rnnfast.EncoderDecoder:
    return rnnfast.EncoderDecoder(4, 3, 2, embedding_size=2, target_embedding=2, dtype=np.float64, seed=0)


def fitted(model: Any, **options: Any) -> np.ndarray:
    rnnfast.fit(model, **options)
    return model.vector


def weights(model: Any) -> np.ndarray:
    return model.network_.vector


def resumed(optimizer: Any, state: dict[str, Any]) -> np.ndarray:
    optimizer.load_state(state)
    parameters = np.ones(3)
    optimizer.step(parameters, np.ones(3))
    return parameters


def with_threads(num_threads: Any) -> None:
    before = rnnfast.get_num_threads()
    try:
        rnnfast.set_num_threads(num_threads)
    finally:
        rnnfast.set_num_threads(before)


def surface() -> dict[str, Callable[[], tuple[Callable[..., Any], dict[str, Any]]]]:
    """For each name, a function that makes a callable and arguments that are right for it."""
    from rnnfast import convert, diagnostics, metrics, music, sampling

    f4, f8 = np.float32, np.float64
    ids, lengths = np.array([[1, 2, 3], [3, 0, 0]]), np.array([3, 1])
    x = np.linspace(-1, 1, 18).reshape(2, 3, 3)
    chain = np.log(np.array([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]]))
    layers = {"RNN": rnnfast.RNN, "LSTM": rnnfast.LSTM, "GRU": rnnfast.GRU}
    moments = {"SGD": {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1}, "AdaGrad": {"epsilon": 1e-6}}
    moments["Adam"] = {"beta1": 0.5, "beta2": 0.7, "epsilon": 1e-6, "weight_decay": 0.1}

    def trained(layer: Any, *arguments: Any) -> Any:
        layer.forward(*arguments, training=True)
        return layer.backward

    def bind(function: Callable[..., Any], **arguments: Any) -> Any:
        return lambda: (function, dict(arguments))

    words = [["a", "b"], ["b"]]
    vocabulary = rnnfast.Vocabulary(["a", "b"])
    labels = {"y_true": ["a", "b", "a"], "y_pred": ["a", "a", "a"]}
    tags = {"y_true": [["B-X", "O"], ["O"]], "y_pred": [["B-X", "O"], ["B-Y"]]}
    texts = {"truths": ["ab", "c"], "predictions": ["ab", "d"]}
    drawn = {"temperature": 1.0, "top_k": 2, "top_p": 0.9, "forbidden": (0,)}
    step = {"step": lambda s, t: (chain[t % 3], s), "state": (), "start": np.array([0, 1]), "stop": 2, "max_length": 4}
    calls = {
        "memory_estimate": bind(
            rnnfast.memory_estimate, cell="gru", N=2, T=3, D=4, H=5, dtype=f4, ids=False, recompute=2, num_threads=1
        ),
        "softmax": bind(rnnfast.softmax, logits=x, axis=1),
        "softmax_cross_entropy": bind(
            rnnfast.softmax_cross_entropy,
            logits=x,
            targets=ids % 3,
            lengths=lengths,
            normalizer="steps",
            class_weight=row(1, 2, 0.5),
        ),
        "squared_error": bind(rnnfast.squared_error, prediction=x, target=x + 1, lengths=lengths, normalizer="both"),
        "clip_by_value": lambda: (rnnfast.clip_by_value, {"gradients": x.ravel().copy(), "limit": 0.5}),
        "clip_by_global_norm": lambda: (rnnfast.clip_by_global_norm, {"gradients": x.ravel().copy(), "max_norm": 0.5}),
        "Embedding": bind(rnnfast.Embedding, vocabulary_size=4, embedding_size=3, dtype=f8, seed=0),
        "Embedding.forward": bind(rnnfast.Embedding(4, 3, seed=0).forward, ids=ids, lengths=lengths, training=False),
        "Embedding.backward": lambda: (
            trained(rnnfast.Embedding(4, 3, dtype=f8, seed=0), ids),
            {"d": np.ones((2, 3, 3))},
        ),
        "Dense": bind(rnnfast.Dense, input_size=3, output_size=2, dtype=f4, seed=0),
        "Dense.forward": bind(rnnfast.Dense(3, 2, dtype=f8, seed=0).forward, x=x, lengths=lengths, training=False),
        "Dense.backward": lambda: (trained(rnnfast.Dense(3, 2, dtype=f8, seed=0), x), {"d": np.ones((2, 3, 2))}),
        "tokenize": bind(rnnfast.tokenize, text="It's GOOD"),
        "Vocabulary": bind(rnnfast.Vocabulary, tokens=["a", "b"]),
        "Vocabulary.build": bind(rnnfast.Vocabulary.build, sequences=words, min_count=1, max_size=3),
        "Vocabulary.encode": bind(vocabulary.encode, tokens=["a", "c"], sos=True, eos=True),
        "Vocabulary.decode": bind(vocabulary.decode, ids=np.array([1, 4, 5, 2]), specials=False),
        "pad": bind(rnnfast.pad, sequences=[ids[0], ids[0, :1]], dtype=f4, value=0),
        "one_hot": bind(rnnfast.one_hot, ids=ids, depth=4, lengths=lengths, dtype=f4),
        "batches": lambda: (
            lambda **a: list(rnnfast.batches(**a)),
            {"lengths": np.array([3, 1, 2]), "batch_size": 2, "shuffle": np.random.default_rng(0), "bucket": True},
        ),
        "windows": bind(rnnfast.windows, series=np.arange(6.0), length=2, horizon=1, target=np.arange(6.0)),
        "split": bind(rnnfast.split, n=6, fractions=[0.5, 0.5], seed=0),
        "Sequences": bind(rnnfast.Sequences, x=ids, y=row(0, 1), lengths=lengths, per_step=False, condition=x[:, 0]),
        "Sequences of lists": bind(rnnfast.Sequences, x=[ids[0], ids[1, :1]], y=[ids[0], ids[1, :1]], per_step=True),
        "accuracy": bind(metrics.accuracy, **labels),
        "balanced_accuracy": bind(metrics.balanced_accuracy, **labels),
        "confusion_matrix": bind(metrics.confusion_matrix, **labels, labels=["a", "b"]),
        "f1_score": bind(metrics.f1_score, **labels, average="macro", labels=["a", "b"]),
        "entity_spans": bind(metrics.entity_spans, tags=["B-X", "I-X", "O"]),
        "entity_scores": bind(metrics.entity_scores, **tags),
        "entity_f1": bind(metrics.entity_f1, **tags),
        "edit_distance": bind(metrics.edit_distance, a="kitten", b="sitting"),
        "error_rate": bind(metrics.error_rate, **texts),
        "exact_match": bind(metrics.exact_match, **texts),
        "root_mean_squared_error": bind(metrics.root_mean_squared_error, y_true=row(1, 2), y_pred=row(1, 3)),
        "mean_absolute_error": bind(metrics.mean_absolute_error, y_true=row(1, 2), y_pred=row(1, 3)),
        "perplexity": bind(metrics.perplexity, cross_entropy=1.5),
        "bits": bind(metrics.bits, cross_entropy=1.5),
        "log_softmax": bind(sampling.log_softmax, logits=chain),
        "filter_logits": bind(sampling.filter_logits, logits=chain, **drawn),
        "sample": lambda: (sampling.sample, {"logits": chain, "rng": np.random.default_rng(0), **drawn}),
        "sample_sequences": lambda: (
            sampling.sample_sequences,
            {**step, "rng": np.random.default_rng(0), **drawn},
        ),
        "beam_search": bind(
            sampling.beam_search,
            **step,
            beam_width=2,
            length_penalty=1.0,
            forbidden=(0,),
            n_best=2,
        ),
        "note_of": bind(music.note_of, token="67:8"),
        "write_midi": bind(
            music.write_midi, path="a.mid", notes=[(67, 1.0), ((60, 64), 0.5)], tempo=90.0, program=1, velocity=80
        ),
        "set_num_threads": bind(with_threads, num_threads=2),
        "Network": bind(
            rnnfast.Network,
            input_size=4,
            hidden_size=3,
            output_size=2,
            cell="gru",
            num_layers=2,
            bidirectional=True,
            embedding_size=2,
            condition_size=2,
            initial_state_std=0.1,
            dropout=0.1,
            per_step=True,
            recurrent_init="uniform",
            forget_bias=0.5,
            dtype=f4,
            seed=0,
            num_threads=1,
            recompute=2,
            check_finite=True,
        ),
        "Network of several": bind(
            rnnfast.Network, input_size=[4, 3], hidden_size=2, output_size=2, embedding_size=[2, 3]
        ),
        "EncoderDecoder": bind(
            rnnfast.EncoderDecoder,
            source_size=4,
            target_size=3,
            hidden_size=2,
            cell="lstm",
            num_layers=2,
            bidirectional=True,
            embedding_size=2,
            target_embedding=2,
            attention=True,
            dropout=0.1,
            recurrent_init="uniform",
            forget_bias=0.5,
            initial_state_std=0.1,
            dtype=f4,
            seed=0,
            num_threads=1,
            recompute=2,
        ),
        "EncoderDecoder.forward": bind(
            coder().forward, x=(ids, lengths, ids % 3), lengths=lengths, state=None, training=False
        ),
        "EncoderDecoder.backward": lambda: (trained(coder(), (ids, lengths, ids % 3)), {"d": np.ones((2, 3, 3))}),
        "Pairs": bind(rnnfast.Pairs, sources=[ids[0], ids[1, :1]], targets=[ids[0], ids[1, :1]], start=1, stop=2),
        "Checkpoint": bind(rnnfast.Checkpoint, path="a.safetensors", every=2),
        "fit": lambda: (
            fitted,
            {
                "model": network(),
                "x": ids,
                "y": np.array([0, 1]),
                "lengths": lengths,
                "loss": "cross_entropy",
                "normalizer": "steps",
                "optimizer": rnnfast.Adam(0.1),
                "schedule": "cosine",
                "batch_size": 1,
                "max_epochs": 2,
                "target_loss": 0.1,
                "patience": 2,
                "tol": 0.1,
                "validation": (ids, np.array([0, 1]), lengths),
                "monitor": "val_loss",
                "clip_norm": 1.0,
                "clip_value": 1.0,
                "truncate": 2,
                "carry_state": False,
                "shuffle": True,
                "bucket": True,
                "seed": 0,
                "callbacks": (),
                "checkpoint": None,
                "check_finite": True,
            },
        ),
        "evaluate": bind(
            rnnfast.evaluate,
            model=network(),
            data=rnnfast.Sequences(ids, np.array([0, 1]), lengths),
            loss="cross_entropy",
            normalizer="steps",
            batch_size=2,
        ),
        "gradient_norms": bind(
            diagnostics.gradient_norms,
            model=network(),
            x=ids,
            y=np.array([0, 1]),
            lengths=lengths,
            loss="cross_entropy",
            normalizer="steps",
            state=(np.ones((2, 2, 3)),),
            part="recurrent",
        ),
        "gradient_norms of a layer": bind(
            diagnostics.gradient_norms,
            model=rnnfast.GRU(3, 2, dtype=f8, seed=0),
            x=x,
            lengths=lengths,
            state=(np.ones((1, 2, 2)),),
            dh=np.ones((2, 3, 2)),
            dstate=(np.ones((1, 2, 2)),),
        ),
        "hidden_states": bind(diagnostics.hidden_states, model=network(), x=ids, lengths=lengths, part="recurrent"),
    }
    for several in (False, True):
        made = network(per_step=True, condition_size=2) if several else network()
        state = (np.ones((2, 2, 3)),)
        given = {"x": (ids, x[:, 0, :2]) if several else ids, "lengths": lengths}
        what = " with conditions" if several else ""
        calls[f"Network.forward{what}"] = bind(made.forward, **given, state=state, training=False)
        calls[f"Network.backward{what}"] = lambda made=made, given=given, several=several: (
            trained(copy.deepcopy(made), given["x"]),
            {"d": np.ones((2, 3, 2) if several else (2, 2))},
        )
    for kind, names in ((rnnfast.SGD, ["velocity"]), (rnnfast.Adam, ["m", "v"]), (rnnfast.AdaGrad, ["squares"])):
        calls[f"{kind.__name__}.load_state"] = bind(
            lambda kind=kind, **state: resumed(kind(momentum=0.5) if kind is rnnfast.SGD else kind(), state),
            **{name: row(1, 2, 3) for name in names},
            learning_rate=np.array(0.1),
            steps=np.array(3),
        )
    sequences = [x[0], x[1, :2], x[0, :1], x[1]]
    for name, X, y in (
        ("SequenceClassifier", ["a fine film", "a dull film", "fine", "dull"], ["good", "bad", "good", "bad"]),
        ("SequenceClassifier", np.concatenate([x, -x]), np.array([0, 1, 1, 0])),
        ("SequenceTagger", [["a", "b"], ["b"], ["a"], ["b", "a"]], [["X", "Y"], ["Y"], ["X"], ["Y", "X"]]),
        ("SequenceTagger", sequences, [np.arange(len(s)) for s in sequences]),
        ("SequenceRegressor", sequences, np.array([0.0, 1.0, 2.0, 3.0])),
        ("SequenceRegressor", np.concatenate([x, -x]), x[:, :2].reshape(4, 3)),
        ("SequenceGenerator", ["ab", "ba", "aab", "b"], ["x", "y", "x", "y"]),
        ("SequenceGenerator", ids.ravel(), None),
        ("SequenceTransducer", ["ab", "ba", "aab", "b"], ["BA", "AB", "B", "A"]),
        ("SequenceTransducer", sequences, [ids[0], ids[1], ids[0], ids[1, :1]]),
    ):
        estimator = getattr(rnnfast, name)
        small = {"hidden_size": 3, "max_epochs": 1, "random_state": 0}
        options = {**estimator().get_params(), **small, "embedding_size": 2, "batch_size": 2}
        options |= {"max_length": 3} if name == "SequenceTransducer" else {"suffix_size": 2, "shape_size": 2}
        options = {key: value for key, value in options.items() if key in estimator().get_params()}
        form = f"{name} of {'arrays' if hasattr(X[0], 'dtype') else 'texts'}"
        calls[form] = bind(
            lambda X, y, lengths, estimator=estimator, **options: weights(
                estimator(**options).fit(X, y, lengths=lengths)
            ),
            **options,
            X=X,
            y=y,
            lengths=None,
        )
        model = estimator(**small).fit(X, y)
        if name == "SequenceGenerator":
            calls[f"{form}: generate"] = bind(
                model.generate,
                n=2,
                prompt=X[:2] if y is None else "ab",
                condition=None if y is None else "x",
                max_length=3,
                temperature=1.0,
                top_k=2,
                top_p=0.9,
                beam_width=None,
                stop=None,
                random_state=0,
            )
            calls[f"{form}: log_probability"] = bind(model.log_probability, X=X, y=y, lengths=None)
        else:
            calls[f"{form}: predict"] = bind(model.predict, X=X, lengths=None)
            calls[f"{form}: score"] = bind(model.score, X=X, y=y, lengths=None)
        if name == "SequenceTransducer":
            calls[f"{form}: transduce"] = bind(
                model.transduce, X=X, lengths=None, beam_width=2, n_best=2, return_scores=True
            )
            calls[f"{form}: attention"] = bind(model.attention_weights, source=X[0], target=y[0])
    theirs = rnnfast.GRU(3, 2, dtype=f8, seed=0)
    W, R, B = convert.to_onnx(theirs)
    calls |= {
        "convert.reorder_gates": bind(convert.reorder_gates, array=x, source="rzn", target="zrn", axis=2),
        "convert.from_onnx": bind(
            lambda **of: convert.from_onnx(**of).vector, W=W[0], R=R[0], B=B[0], cell="gru", linear_before_reset=1
        ),
        "convert.from_cs231n": bind(
            lambda **of: convert.from_cs231n(**of).vector, Wx=np.ones((3, 8)), Wh=np.ones((2, 8)), b=row(*range(8))
        ),
        "convert.from_pytorch": bind(
            lambda prefix, **of: convert.from_pytorch(of, prefix=prefix).vector, prefix="", **convert.to_pytorch(theirs)
        ),
        "convert.load_pytorch": bind(
            lambda **of: (twin := rnnfast.GRU(3, 2, dtype=f8, seed=1), convert.load_pytorch(twin, of), twin.vector)[2],
            **convert.to_pytorch(theirs),
        ),
        "convert.from_keras": bind(
            lambda kernel, recurrent_kernel, bias, cell: (
                convert.from_keras([kernel, recurrent_kernel, bias], cell).vector
            ),
            **dict(zip(("kernel", "recurrent_kernel", "bias"), convert.to_keras(theirs), strict=True)),
            cell="gru",
        ),
    }
    for name, layer in layers.items():
        calls[name] = bind(
            layer,
            input_size=3,
            hidden_size=2,
            num_layers=2,
            bidirectional=True,
            dropout=0.1,
            bias=True,
            recurrent_init="identity",
            dtype=f4,
            seed=0,
            num_threads=1,
            recompute=2,
        )
        made = layer(3, 2, 2, True, dtype=f8, seed=0)
        state = tuple(np.ones((4, 2, 2)) for _ in range(made.states))
        calls[f"{name}.forward"] = bind(made.forward, x=x, state=state, lengths=lengths, training=False)
        calls[f"{name}.backward"] = lambda layer=layer, state=state: (
            trained(layer(3, 2, 2, True, dtype=f8, seed=0), x),
            {"dh": np.ones((2, 3, 4)), "dstate": state, "dx": True},
        )
    for name, options in moments.items():
        kind = getattr(rnnfast, name)
        calls[name] = bind(kind, learning_rate=0.1, **options)
        calls[f"{name}.step"] = lambda kind=kind: (
            kind().step,
            {"parameters": x.ravel().copy(), "gradients": x.ravel()[::-1].copy()},
        )
    return calls


# Of an item; of an array for a flag; of what is no iterable; of what is given on: to a layer, an encoder, a loss.
WORDS = (
    "token",
    "truth value",
    "iterable",
    "Wx",
    "keep_tape",
    "ids",
    "X",
    "targets",
    "target",
    "weights",
    "input_size",
)
LONG = ("max_length", "beam_width", "n_best", "max_epochs", "n")  # these say how long a call takes: no more than 7
IN_PLACE = ("parameters", "gradients")  # written to


def plain(value: Any) -> Any:
    """The same numbers in an array of the plainest layout."""
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    if type(value) is np.ndarray and value.dtype.kind in "iuf" and max(value.shape, default=0) < 1000:
        return np.array(value, value.dtype.newbyteorder("="), order="C")
    return value


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype.newbyteorder("=") == b.dtype.newbyteorder("=") and np.array_equal(
            a, b, equal_nan=a.dtype.kind == "f"
        )
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (not isinstance(a, float | int | str) or a == b or (a != a and b != b))


def is_ordinary(value: Any) -> bool:
    """Numbers, strings, None, and arrays and lists of them: what is no such thing may be refused in NumPy's words."""
    if isinstance(value, list | tuple):
        alike = len({getattr(v, "shape", None) for v in value}) < 2
        return alike and all(not isinstance(v, list | tuple) and is_ordinary(v) for v in value)
    if isinstance(value, np.ndarray):
        return type(value) is np.ndarray and value.ndim > 0 and value.dtype.kind in "iuf"
    return value is None or isinstance(value, int | float | complex | str | np.integer | np.floating)


SURFACE = surface()
# These loop over what they are given, as long as it claims to be.
LOOPS = (
    *("Vocabulary", "pad", "Sequences", "batches", "split", "log_softmax", "sample", "filter_logits", "beam_search"),
    *("accuracy", "balanced_accuracy", "confusion_matrix", "f1_score", "entity", "edit", "error_rate", "exact_match"),
)


# And these: nor are they given what is empty and huge.
ENDLESS = ("Sequence", "Pairs", "fit", "evaluate", "Network", "EncoderDecoder", "gradient_norms", "hidden_states")
# A path may be one that cannot be written to, a loss one that diverges.
OF_FILES, OF_TRAINING = ("write_midi", "fit"), ("fit", "Sequence", "gradient_norms")
SEEDS = ("seed", "random_state")
EXAMPLES: dict[str, int] = {}


def allowed_of(name: str) -> tuple[type, ...]:
    of_files, of_training = ((OSError,) if name.startswith(OF_FILES) else ()), (FloatingPointError,)
    return (
        *REFUSALS,
        *((RuntimeError,) if "backward" in name else ()),
        *of_files,
        *(of_training if name.startswith(OF_TRAINING) else ()),
    )


@pytest.mark.parametrize("name", SURFACE)
def test_surface(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of an allowed kind; or the result that the same numbers in plain arrays give."""
    monkeypatch.chdir(tmp_path)
    allowed = allowed_of(name)

    def check(made: list[Change]) -> None:
        function, right = SURFACE[name]()
        arguments = dict(right)
        keys = list(right)
        for place, what, n in made:
            key = keys[place % len(keys)]
            if (what == "huge" and name.startswith(LOOPS)) or (what.startswith("huge") and name.startswith(ENDLESS)):
                continue
            value = changed(arguments[key], what, n, list(arguments.values()))
            if key == "step" and not callable(value):
                continue
            if key in LONG and isinstance(value, int | float | np.number) and value > 7 and name != "split":
                continue
            if key in SEEDS and isinstance(value, list):  # NumPy's own generator dies of a list that holds itself
                continue
            arguments[key] = value
        new = [key for key in keys if arguments[key] is not right[key]]
        named = all(is_ordinary(arguments[key]) for key in new) and not {"dtype", *SEEDS} & set(new)
        spare = {
            key: copy.deepcopy(v) if isinstance(v, np.random.Generator | rnnfast.Adam | rnnfast.Network) else plain(v)
            for key, v in arguments.items()
        }
        result = call(function, [*right, *WORDS], arguments, allowed, named)
        used = set(right) & set(IN_PLACE) or any(isinstance(v, Iterator) for v in arguments.values())
        random = any(arguments.get(key, 0) is None for key in SEEDS)
        if not isinstance(result, Refused) and not used and not random:
            for file in Path().iterdir():
                file.unlink()
            assert same(result, SURFACE[name]()[0](**spare))
            count["compared"] += 1
        for file in Path().iterdir():
            file.unlink()

    fuzz(changes(2), check, examples=EXAMPLES.get(name, 25), share=0.15 / len(SURFACE))
