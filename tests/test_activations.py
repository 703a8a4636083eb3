"""simd.hpp: tanh and sigmoid against longer numbers, over every exponent. test_isa.py runs this under every ISA.

They are called through rnn_tanh and rnn_sigmoid: a step from h = 0 with the table of arguments as the rows of Wx.
Zeros of the bias and of Wh are negative, so that adding them keeps the sign of a zero. Denormal arguments read as 0
and denormal results are 0 by design, so those are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import rnnfast

DTYPES = [np.float32, np.float64]
H = 67


def apply(name: str, x: np.ndarray) -> np.ndarray:
    """The activation of each number of x."""
    rows = -(-x.size // H)
    table = np.zeros((rows, H), x.dtype)
    table.reshape(-1)[: x.size] = x
    Wh, b = np.full((H, H), -0.0, x.dtype), np.full(H, -0.0, x.dtype)
    ids = np.arange(rows)[:, None]
    return rnnfast.forward(f"rnn_{name}", ids, table, Wh, b, keep_tape=False).h.reshape(-1)[: x.size]


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


def ulps(actual: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Distance in units of the last place of the exact result; 0 where that is denormal."""
    tiny = np.finfo(actual.dtype).tiny
    normal = np.abs(exact) >= tiny * (1 + 4 * np.finfo(actual.dtype).eps)
    unit = np.spacing(np.abs(np.where(normal, exact, 1)).astype(actual.dtype))
    return np.where(normal, np.abs(actual - exact) / unit, 0)


EXACT = {"tanh": np.tanh, "sigmoid": lambda x: np.where(x < 0, np.exp(-np.abs(x)), 1) / (1 + np.exp(-np.abs(x)))}
MOST = {
    ("tanh", np.float32): 2.0,
    ("sigmoid", np.float32): 2.0,
    ("tanh", np.float64): 4.0,
    ("sigmoid", np.float64): 4.0,
}


@pytest.mark.parametrize(("name", "dtype"), MOST, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_accuracy(name: str, dtype: Any) -> None:
    if dtype == np.float64 and np.finfo(np.longdouble).eps > np.finfo(np.float64).eps / 1000:
        pytest.skip("no longer number to compare float64 with")
    x = sample(dtype)
    assert x.size > 200_000
    error = ulps(apply(name, x), EXACT[name](x.astype(np.longdouble)))
    worst = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    most = MOST[name, dtype]
    assert error[worst] <= most, f"{name}({x[worst]!r}): {error[worst]:.3f} ULP, allowed {most}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_is_odd(dtype: Any) -> None:
    x = np.abs(sample(dtype))
    assert np.array_equal(apply("tanh", -x).tobytes(), (-apply("tanh", x)).tobytes())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_range(name: str, dtype: Any) -> None:
    y = apply(name, sample(dtype))
    low = -1 if name == "tanh" else 0
    assert low <= y.min()
    assert y.max() <= 1


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


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_numbers(dtype: Any) -> None:
    """tanh(x) is x to rounding, down to the smallest normal number."""
    x = np.geomspace(np.finfo(dtype).tiny, 1e-8, 5000).astype(dtype)
    x = x[x >= np.finfo(dtype).tiny]
    assert ulps(apply("tanh", x), x.astype(np.longdouble)).max() <= 1


def test_the_measure_can_fail() -> None:
    x = np.linspace(0.1, 3, 100).astype(np.float32)
    exact = np.tanh(x.astype(np.float64))
    assert ulps(np.nextafter(np.nextafter(np.nextafter(exact.astype(np.float32), 2), 2), 2), exact).max() > 2.0
    assert ulps(exact.astype(np.float32), exact).max() <= 0.5
