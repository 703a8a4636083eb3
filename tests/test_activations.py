"""simd.hpp: exp, tanh and sigmoid against longer numbers. test_isa.py runs this under every ISA.

benchmarks/activation_error.py says what is promised and looks for what breaks it: all of float32 takes minutes, so it
looks at a sample here, and at all that is special. A call of the package computes the same numbers, but reads
denormals as 0 and makes them 0.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import _core

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import activation_error
from activation_error import SIGNS, bits_of, blocks, exact, find, find_nan, measure, numbers, unit

DTYPES = [np.float32, np.float64]
H = 67
longdouble = pytest.mark.skipif(
    bool(np.finfo(np.longdouble).eps > np.finfo(np.float64).eps / 1000), reason="no longer number than float64"
)
KINDS = ["f4", pytest.param("f8", marks=longdouble)]


def apply(name: str, x: np.ndarray) -> np.ndarray:
    """The activation of each number of x in a call: a step from h = 0 with x as the rows of Wx.

    Zeros of the bias and of Wh are negative, so that adding them keeps the sign of a zero.
    """
    rows = -(-x.size // H)
    table = np.zeros((rows, H), x.dtype)
    table.reshape(-1)[: x.size] = x
    Wh, b = np.full((H, H), -0.0, x.dtype), np.full(H, -0.0, x.dtype)
    ids = np.arange(rows)[:, None]
    return rnnfast.forward(f"rnn_{name}", ids, table, Wh, b, keep_tape=False).h.reshape(-1)[: x.size]


# ---- what is promised


@pytest.mark.parametrize("kind", KINDS)
def test_promises(kind: str) -> None:
    results, broken = measure(kind, sample={"f4": 307, "f8": 61}[kind], jobs=1)
    assert broken == {}
    assert [found.count > 500_000 for found in results] == [True] * 4
    assert min(found.ulp for found in results) > 0.9  # it looks where the errors are
    assert [found.denormal > 0.5 for found in results] == [True, False, False, True]
    saturated = {"f4": [8.4, 16.2], "f8": [18.5, 36.3]}[kind]
    assert [found.below_one for found in results[1:3]] == pytest.approx(saturated, rel=0.02)


@pytest.mark.parametrize(("name", "sign"), [(name, sign) for name in SIGNS for sign in SIGNS[name]])
def test_every_denormal_of_float32(name: str, sign: int) -> None:
    """tanh(x) = x, sigmoid(x) = 1/2, exp(x) = 1."""
    for bits in blocks(0, bits_of(np.finfo("f4").tiny, "f4") - 1, 1, "f4"):
        found = find(name, numbers(bits, sign))
        assert (found.broken, found.ulp) == ({}, 0)


@pytest.mark.parametrize("name", SIGNS)
def test_every_nan_of_float32(name: str) -> None:
    for bits in blocks(bits_of(np.inf, "f4") + 1, 2**31 - 1, 1, "f4"):
        assert [find_nan(name, numbers(bits, sign)).broken for sign in (1, -1)] == [{}, {}]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SIGNS)
def test_numpy_is_exact_enough(name: str, kind: str) -> None:
    """Within a hundredth of the ULP that is measured; of x87's long double, to the last bits."""
    error, longer = activation_error.reference_error(name, kind), np.finfo(activation_error.LONGER[kind])
    assert error * longer.eps / np.finfo(kind).eps < 0.01
    if longer.nmant in (52, 63):
        assert 0.4 < error < 4


def test_unit() -> None:
    one = np.array([1, 1 - 2.0**-30, 0.5, 1.5, 2.0**-126, 2.0**-140, 0])
    last = [2.0**-23, 2.0**-24, 2.0**-24, 2.0**-23, 2.0**-149, 2.0**-149, 2.0**-149]
    assert unit(one, np.dtype("f4")).tolist() == last
    assert unit(-one, np.dtype("f4")).tolist() == last


@longdouble
def test_unit_of_float64() -> None:
    below_one = 1 - np.longdouble(2) ** -60
    assert unit(np.array([below_one, 1, 0], np.longdouble), np.dtype("f8")).tolist() == [2.0**-53, 2.0**-52, 2.0**-1074]


# ---- and that it would be noticed


def where(condition: Callable[[np.ndarray], Any], value: Any) -> Callable[[str, np.ndarray], np.ndarray]:
    """The functions with another result where the argument meets a condition."""
    right = _core.activation

    def broken(name: str, x: np.ndarray) -> np.ndarray:
        y = right(name, x)
        return np.where(condition(x), value(x, y) if callable(value) else value, y).astype(x.dtype)

    return broken


def up(y: np.ndarray, times: int) -> np.ndarray:
    for _ in range(times):
        y = np.nextafter(y, y.dtype.type(2))
    return y


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (where(lambda x: abs(x) == 0.25, lambda x, y: up(y, 4)), ["more than", "not odd"]),
        (where(lambda x: abs(x) == 0.25, np.nan), ["more than", "out of its range", "not odd"]),
        (
            where(lambda x: abs(x) < np.finfo(x.dtype).tiny, lambda x, y: np.copysign(0, x)),
            ["tanh: denormals or zeros"],
        ),
        (where(lambda x: x == 0, 1), ["tanh: denormals or zeros", "sigmoid: denormals or zeros"]),
        (where(lambda x: x == 0, 0.5), ["exp: denormals or zeros"]),
        (where(lambda x: x == 0, lambda x, y: y + 0.0), ["not odd"]),
        (
            where(lambda x: abs(x) == np.finfo(x.dtype).max, 0.75),
            ["tanh: not saturated", "sigmoid: not saturated", "exp: not saturated"],
        ),
        (where(lambda x: x >= 1e20, lambda x, y: up(y, 1)), ["out of its range"]),
        (
            where(lambda x: x >= 1e20, lambda x, y: np.nextafter(y, 0)),
            ["tanh: not saturated", "sigmoid: not saturated"],
        ),
        (where(lambda x: x <= -1e20, 1e-30), ["not small where the result is denormal"]),
        (where(np.isnan, 0.0), ["a number where the argument is none"]),
    ],
)
def test_the_search_can_fail(monkeypatch: Any, kind: str, change: Any, said: list[str]) -> None:
    monkeypatch.setattr(activation_error, "_core", SimpleNamespace(activation=change))
    found = activation_error.Found()
    special = np.array([0, np.finfo(kind).smallest_subnormal, 0.25, 1e20, np.finfo(kind).max, np.inf], kind)
    for name, signs in SIGNS.items():
        for sign in signs:
            found.add(find(name, sign * special))
        found.add(find_nan(name, np.array([np.nan], kind)))
    text = "\n".join(found.broken)
    assert [what for what in said if what not in text] == []


@pytest.mark.slow
def test_the_program(monkeypatch: Any, capfd: Any) -> None:
    isas = [isa["name"] for isa in _core.instruction_sets() if isa["available"]]
    assert activation_error.main(["--sample=1000003", "--every-isa", "--jobs=2"]) == 0
    rows = [line.split(" | ") for line in capfd.readouterr().out.splitlines() if "float32 |" in line]
    assert [row[1] for row in rows] == isas
    assert {len(row) for row in rows} == {7}
    monkeypatch.setattr(activation_error, "_core", SimpleNamespace(**vars(_core)))
    monkeypatch.setattr(activation_error._core, "activation", where(np.isnan, 0.0))
    assert activation_error.main(["--sample=1000003"]) == 1
    assert "BROKEN tanh: a number where the argument is none: " in capfd.readouterr().out


# ---- the function that is measured


@pytest.mark.parametrize("dtype", DTYPES)
def test_activation_of_arrays(dtype: Any, assert_same_bits: Any) -> None:
    x = np.random.default_rng(0).normal(0, 5, 150).astype(dtype)
    for name in SIGNS:
        y = _core.activation(name, x)
        for size in range(70):  # any remainder of registers
            assert_same_bits(_core.activation(name, x[size : 2 * size]), y[size : 2 * size])
        assert_same_bits(_core.activation(name, x.reshape(10, 15).T), y.reshape(10, 15).T)
        assert np.allclose(y, exact_of(name, x), rtol=1e-6)
    with pytest.raises(ValueError, match="name: expected exp, tanh or sigmoid, got 'relu'"):
        _core.activation("relu", x)


def exact_of(name: str, x: np.ndarray) -> np.ndarray:
    return np.concatenate([exact(name, one) for one in x.reshape(-1, 1)])


def sample(dtype: Any) -> np.ndarray:
    """Both signs of numbers of every exponent, denser where the functions bend, and the ends of each binade."""
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    exponents = np.arange(info.minexp, info.maxexp)
    some = np.repeat(exponents, 60_000 // len(exponents))
    bend = np.repeat(np.arange(-14, 7), 2_500)
    ends = [s * np.ldexp(dtype(1), exponents).astype(dtype) for s in (1, 1 + info.eps, 2 - 2 * info.eps)]
    numbers = np.concatenate([np.ldexp(rng.uniform(1, 2, e.size), e).astype(dtype) for e in (some, bend)] + ends)
    return np.concatenate([numbers, -numbers])


# ---- the same in calls, where denormals are zeros


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_calls(name: str, dtype: Any, assert_same_bits: Any) -> None:
    x = sample(dtype)
    assert x.size > 200_000
    alone = _core.activation(name, x)
    tiny = np.finfo(dtype).tiny
    assert_same_bits(apply(name, x), np.where(np.abs(alone) < tiny, np.copysign(dtype(0), alone), alone))


@pytest.mark.parametrize("dtype", DTYPES)
def test_denormals_in_calls(dtype: Any) -> None:
    small = np.array([1, 1 - np.finfo(dtype).eps, 0.1, np.finfo(dtype).eps], dtype) * np.finfo(dtype).tiny
    small = np.concatenate([small, -small])
    assert np.array_equal(_core.activation("tanh", small), small)
    in_call = small * (np.abs(small) >= np.finfo(dtype).tiny)
    assert repr(apply("tanh", small).tolist()) == repr(in_call.tolist())
    assert apply("sigmoid", small).tolist() == _core.activation("sigmoid", small).tolist() == [0.5] * 8
    far = np.array([-1e20, -np.inf, -750, np.log(np.finfo(dtype).tiny) - 0.1], dtype)
    assert apply("sigmoid", far).tolist() == [0] * 4
    alone = _core.activation("sigmoid", far)
    assert (alone > 0).all()
    assert (alone < np.finfo(dtype).tiny).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_numbers(dtype: Any) -> None:
    x = np.array([1e20, -1e20, np.inf, -np.inf, np.finfo(dtype).max, -np.finfo(dtype).max, np.nan, 0.0, -0.0], dtype)
    assert repr(apply("tanh", x).tolist()) == "[1.0, -1.0, 1.0, -1.0, 1.0, -1.0, nan, 0.0, -0.0]"
    assert repr(apply("sigmoid", x).tolist()) == "[1.0, 0.0, 1.0, 0.0, 1.0, 0.0, nan, 0.5, 0.5]"
    assert repr(apply("relu", x).tolist()[2:4]) == "[inf, 0.0]"
    assert np.isnan(apply("relu", x)[6])
    for place in range(H):  # in each lane, alone
        alone = np.zeros(H, dtype)
        alone[place] = np.nan
        for name in ("tanh", "sigmoid", "relu"):
            assert np.flatnonzero(np.isnan(apply(name, alone))).tolist() == [place]
