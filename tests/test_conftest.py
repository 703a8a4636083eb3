"""conftest.py: the tolerance helper rejects what it must, and random problems are what the tests take them for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import rnnfast

EXPECTED = np.linspace(-2.0, 3.0, 24).reshape(4, 6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tolerance_accepts_rounding(assert_close: Any, dtype: Any) -> None:
    actual = EXPECTED.astype(dtype)
    assert_close(actual, EXPECTED, 300, dtype=dtype)
    assert_close(actual + 3 * np.finfo(dtype).eps, EXPECTED, 300, dtype=dtype)
    assert_close(np.zeros((0, 3), dtype), np.zeros((0, 3)), 300, dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "bump"), [(np.float32, 1e-3), (np.float32, 1e-5), (np.float64, 1e-3), (np.float64, 1e-9)]
)
@pytest.mark.parametrize("depth", [2, 300, 100_000])
def test_tolerance_rejects_a_bump(assert_close: Any, dtype: Any, bump: float, depth: int) -> None:
    for place in np.ndindex(EXPECTED.shape):
        actual = EXPECTED.astype(dtype)
        actual[place] += dtype(3 * bump)  # relative to the largest number
        with pytest.raises(AssertionError, match=r"^array\[.*\]: expected .*, off by "):
            assert_close(actual, EXPECTED, depth, dtype=dtype)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a[:3], r"expected \(4, 6\), got \(3, 6\)"),
        (lambda a: a[None], r"expected \(4, 6\), got \(1, 4, 6\)"),
        (lambda a: a.astype(np.float32), "expected float64, got float32"),
        (lambda a: a.astype(">f8"), "expected float64, got >f8"),
        (lambda a: a.tolist(), "got list"),
        (lambda a: None, "got NoneType"),
        (lambda a: np.where(a == 3, np.nan, a), "got np.float64.nan"),
        (lambda a: np.where(a == 3, np.inf, a), "got np.float64.inf"),
        (lambda a: np.full_like(a, np.nan), "off by nan"),
        (lambda a: -a, "off by"),
    ],
)
def test_tolerance_rejects(assert_close: Any, change: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_close(change(EXPECTED.copy()), EXPECTED, 300)


def test_same_bits(assert_same_bits: Any) -> None:
    a = np.array([0.0, 1.0, np.nan])
    assert_same_bits(a.copy(), a)
    assert_same_bits(None, None)
    for other in (np.array([-0.0, 1, np.nan]), np.array([0, np.nextafter(1, 2), np.nan]), a[:2], a.astype("f4"), None):
        with pytest.raises(AssertionError):
            assert_same_bits(other, a)


@pytest.mark.parametrize("N", [1, 2, 7])
@pytest.mark.parametrize("cell", rnnfast.cells())
def test_problem(make_problem: Any, cell: str, N: int) -> None:
    p = make_problem(cell, N, 5, 3, 4, np.float32, seed=1, ragged=True)
    for name, array in p.arrays():
        if array.dtype.kind == "f":
            assert array.dtype == np.float32, name
            assert np.abs(array).min() > 0.01, name
            assert len(np.unique(array)) == array.size, name
    assert ((p.lengths >= 0) & (p.lengths <= 5)).all()
    if N > 1:
        assert p.lengths[N // 2] == 0
        assert p.lengths[0] == 5
    ids = make_problem(cell, N, 5, 3, 4, seed=1, ids=True, bias=False, state=False)
    assert ids.x.shape == (N, 5)
    assert ids.b is ids.state is ids.lengths is None
    assert make_problem(cell, N, 5, 3, 4, seed=2).x[0, 0, 0] != make_problem(cell, N, 5, 3, 4, seed=3).x[0, 0, 0]
