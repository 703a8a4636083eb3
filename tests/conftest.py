"""conftest.py: what the tests of the core share: random problems, the one owner of tolerances, central differences, and
a way to run a program.

Fixtures return functions, because under the importlib import mode a test cannot import this file by name.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import _core

Results = dict[str, Any]  # name -> array or None


@dataclasses.dataclass(frozen=True)
class Problem:
    """The arguments of one forward pass and one backward pass."""

    cell: str
    x: Any
    Wx: Any
    Wh: Any
    b: Any
    state: Any
    lengths: Any
    dh: Any
    dstate: Any
    reverse: bool = False

    def replace(self, **changes: Any) -> Problem:
        return dataclasses.replace(self, **changes)

    def forward(self, module: Any = rnnfast, **options: Any) -> Any:
        options = {"lengths": self.lengths, "reverse": self.reverse, **options}
        return module.forward(self.cell, self.x, self.Wx, self.Wh, self.b, self.state, **options)

    def run(self, module: Any = rnnfast, num_threads: int | None = None) -> Results:
        """Everything that both passes return, by name."""
        h, state, tape = self.forward(module, num_threads=num_threads)
        d = module.backward(tape, self.dh, self.dstate, num_threads=num_threads)
        named = {f"state[{k}]": s for k, s in enumerate(state)} | {f"dstate[{k}]": s for k, s in enumerate(d.state)}
        return {"h": h, "dx": d.x, "dWx": d.Wx, "dWh": d.Wh, "db": d.b, **named}

    def arrays(self) -> Iterator[tuple[str, Any]]:
        """Each array by name, those in tuples one by one."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                yield from ((f"{field.name}[{k}]", item) for k, item in enumerate(value))
            elif isinstance(value, np.ndarray):
                yield field.name, value

    def map(self, function: Callable[[Any], Any]) -> Problem:
        """Apply a function to every floating array."""

        def of(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(of, value))
            return function(value) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value

        return self.replace(**{f.name: of(getattr(self, f.name)) for f in dataclasses.fields(self)})

    @property
    def depth(self) -> int:
        """Numbers that one result adds up: D and H in each of T steps, and N rows for the weights."""
        N, T = self.x.shape[:2]
        D, H = self.Wx.shape[0], self.Wh.shape[0]
        return T * (D + H + N) + 2


def make_problem_(
    cell: str,
    N: int,
    T: int,
    D: int,
    H: int,
    dtype: Any = np.float64,
    *,
    seed: int = 0,
    ids: bool = False,
    ragged: bool = False,
    bias: bool = True,
    state: bool = True,
    reverse: bool = False,
) -> Problem:
    """Random numbers without symmetry, none of them near zero; ragged lengths hold a 0 (in the middle) and T."""
    rng = np.random.default_rng([seed, N, T, D, H])
    G, bias_blocks, states = _core.cell_blocks(cell)

    def numbers(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * rng.uniform(0.1, 1.5, shape) * rng.choice([-1.0, 1.0], shape, p=[0.4, 0.6])).astype(dtype)

    def state_tuple() -> tuple[np.ndarray, ...]:
        return tuple(numbers(N, H) for _ in range(states))

    lengths = None
    if ragged:
        lengths = rng.integers(0, T + 1, N)
        if N > 1:
            lengths[0], lengths[N // 2] = T, 0
    return Problem(
        cell=cell,
        x=rng.integers(0, D, (N, T)) if ids else numbers(N, T, D),
        Wx=numbers(D, G * H, scale=1 if ids else max(D, 1) ** -0.5),
        Wh=numbers(H, G * H, scale=0.7 * max(H, 1) ** -0.5),
        b=numbers(bias_blocks * H, scale=0.5) if bias else None,
        state=state_tuple() if state else None,
        lengths=lengths,
        dh=numbers(N, T, H),
        dstate=state_tuple(),
        reverse=reverse,
    )


def assert_close_(actual: Any, expected: Any, depth: int, *, dtype: Any = None, name: str = "array") -> None:
    """The one owner of tolerances: actual, of the dtype given or else expected's, is expected up to rounding.

    The bound is relative to the largest number of the array, or to 1/2 where that is smaller: the terms of a problem
    are about 1, and what cancels to less keeps their rounding error. float32, against a float64 reference:
    4 ceil(log2(depth)) eps. float64: twice that, because there the reference rounds as well. NaN is never close.
    """
    assert type(actual) is np.ndarray, f"{name}: got {type(actual).__name__}"
    wanted = np.dtype(expected.dtype if dtype is None else dtype)
    assert actual.dtype == wanted, f"{name}: expected {wanted}, got {actual.dtype}"
    assert actual.shape == expected.shape, f"{name}: expected {expected.shape}, got {actual.shape}"
    if actual.size == 0:
        return
    factor = 4 if wanted == np.float32 else 8
    tolerance = factor * math.ceil(math.log2(max(depth, 2))) * np.finfo(wanted).eps
    scale = max(float(np.max(np.abs(expected))), 0.5)
    error = np.abs(actual.astype(np.float64) - expected) / scale
    if not (error <= tolerance).all():  # NaN compares false
        place = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error)), error.shape)
        raise AssertionError(
            f"{name}{[int(i) for i in place]}: expected {expected[place]!r}, got {actual[place]!r}, off by "
            f"{error[place]:.3g} of {scale:.3g}; allowed {tolerance:.3g}"
        )


def compare_(problem: Problem, *, num_threads: int | None = None) -> None:
    """The core against the reference in float64: outputs, states and all gradients."""
    dtype = problem.Wh.dtype
    expected = problem.map(lambda a: a.astype(np.float64)).run(rnnfast.reference)
    actual = problem.run(num_threads=num_threads)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        if value is None:
            assert actual[name] is None, name
        else:
            assert_close_(actual[name], value, problem.depth, dtype=dtype, name=name)


def numeric_gradients_(problem: Problem, module: Any, step: float = 1e-5) -> dict[str, Results]:
    """Central differences of sum(upstream * output), one output at a time: {"dh": {"dx": ...}, "dstate[0]": ...}."""

    def losses(changed: Problem) -> np.ndarray:
        h, state, _ = changed.forward(module, keep_tape=False)
        return np.array([np.sum(d * s) for d, s in zip((problem.dh, *problem.dstate), (h, *state), strict=True)])

    outputs = ["dh"] + [f"dstate[{k}]" for k in range(len(problem.dstate))]
    result: dict[str, Results] = {name: {} for name in outputs}
    for name, value in problem.arrays():
        if value.dtype.kind != "f" or name.startswith("d"):
            continue
        slope = np.zeros((len(outputs), *value.shape))
        for place in np.ndindex(value.shape):
            moved = []
            for sign in (1, -1):
                copy = value.copy()
                copy[place] += sign * step
                moved.append(losses(_with_array(problem, name, copy)))
            slope[(slice(None), *place)] = (moved[0] - moved[1]) / (2 * step)
        for output, values in zip(outputs, slope, strict=True):
            result[output]["d" + name] = values
    return result


def _with_array(problem: Problem, name: str, array: np.ndarray) -> Problem:
    if not name.startswith("state["):
        return problem.replace(**{name: array})
    k = int(name[6:-1])
    return problem.replace(state=(*problem.state[:k], array, *problem.state[k + 1 :]))


def check_gradients_(problem: Problem, module: Any, bound: float = 1e-7) -> None:
    """Every gradient of every subset of {dh, dh_n, dc_n} within a bound, relative, of central differences."""
    numeric = numeric_gradients_(problem, module)
    for count in range(1, len(numeric) + 1):
        for subset in itertools.combinations(numeric, count):
            d = [problem.dh, *problem.dstate]
            given = [value if output in subset else None for output, value in zip(numeric, d, strict=True)]
            dstate = tuple(given[1:])
            got = problem.replace(dh=given[0], dstate=dstate if any(s is not None for s in dstate) else None).run(
                module
            )
            for name in numeric["dh"]:
                expected = sum(numeric[output][name] for output in subset)
                scale = max(float(np.max(np.abs(expected), initial=0)), 0.1)
                worst = float(np.max(np.abs(got[name] - expected), initial=0)) / scale
                assert worst <= bound, f"{name} of {subset}: off by {worst:.2g} of {scale:.2g}"


def assert_same_bits_(actual: Any, expected: Any, name: str = "array") -> None:
    """The same dtype, shape and bits: 0 differs from -0, and one NaN equals another of the same bits."""
    if expected is None or actual is None:
        assert actual is expected, name
        return
    assert actual.dtype == expected.dtype, name
    assert actual.shape == expected.shape, name
    bits = [np.ascontiguousarray(a).view(np.uint8) for a in (actual, expected)]
    if not np.array_equal(*bits):
        places = np.argwhere(~((actual == expected) & (np.signbit(actual) == np.signbit(expected))))
        raise AssertionError(f"{name}: {len(places)} of {actual.size} numbers differ, first at {places[:1].tolist()}")


@pytest.fixture(scope="session")
def make_problem() -> Callable[..., Problem]:
    return make_problem_


@pytest.fixture(scope="session")
def assert_close() -> Callable[..., None]:
    return assert_close_


@pytest.fixture(scope="session")
def assert_same_bits() -> Callable[..., None]:
    return assert_same_bits_


@pytest.fixture(scope="session")
def compare() -> Callable[..., None]:
    return compare_


@pytest.fixture(scope="session")
def check_gradients() -> Callable[..., None]:
    return check_gradients_


def run_program_(file: Any, name: str, *arguments: Any, timeout: float = 280, **variables: str) -> list[str]:
    """The lines that a program of a test file prints in a process of its own, where a crash is a message."""
    command = [sys.executable, "-X", "faulthandler", str(file), name, *map(str, arguments)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"} | variables
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout, check=False)
    lines, code = done.stdout.splitlines(), done.returncode
    how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    assert code == 0, f"{how}, the last line being: {lines[-1:]}\n{done.stderr[-3000:]}"
    return lines


@pytest.fixture
def run_program(request: pytest.FixtureRequest) -> Callable[..., list[str]]:
    """Runs a program of the file of the test, which is given by its name and arguments."""
    return functools.partial(run_program_, request.path)


@pytest.fixture(autouse=True)
def interruptible():
    """Ctrl-C means what it does in a terminal, also where a background job ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
