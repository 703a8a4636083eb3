"""elementwise.hpp and dense.hpp against NumPy, and bit by bit over threads. test_isa.py runs this under every ISA.

test_losses.py, test_optimizers.py and test_network.py compare with central differences and hand computation; here the
same operations meet their formulas in NumPy at sizes that reach every loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import _core
from rnnfast.losses import softmax, softmax_cross_entropy

DTYPES = [np.float32, np.float64]
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
WIDTHS = [1, 2, 5, 8, 15, 16, 17, 31, 33, 64, 65, 200]


def numbers(*shape: int, dtype: Any = np.float64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def over_threads(function: Callable[[], Any]) -> list[Any]:
    """The results with 1 to 4 threads."""
    before = rnnfast.get_num_threads()
    try:
        results = []
        for n in (1, 2, 3, 4):
            rnnfast.set_num_threads(n)
            results.append(function())
    finally:
        rnnfast.set_num_threads(before)
    return results


def same_over_threads(function: Callable[[], tuple[np.ndarray, ...]], assert_same_bits: Any) -> None:
    first, *rest = over_threads(function)
    for n, other in enumerate(rest, start=2):
        for k, (a, b) in enumerate(zip(other, first, strict=True)):
            assert_same_bits(a, b, f"result {k} of {n} threads")


# ---- softmax


@every_dtype
def test_exp(dtype: Any) -> None:
    """Within 2 ULP, by rows of 199 zeros and x, of weight Σ exp: where the gradient at 0 is 1, that at x is exp(x)."""
    longer = np.float64 if dtype == np.float32 else np.longdouble
    if np.finfo(longer).eps > np.finfo(dtype).eps / 1000:
        pytest.skip("no longer number to compare with")
    rng = np.random.default_rng(0)
    lowest = np.log(np.finfo(dtype).tiny) + 0.1
    x = np.concatenate([rng.uniform(lowest, 0, 40_000), rng.uniform(-2, 0, 40_000), -np.geomspace(1e-30, 1, 500)])
    z = np.zeros((len(x), 200), dtype)
    z[:, 7] = x
    exact = np.exp(z[:, 7].astype(longer))
    weight = (199 + exact).astype(np.float64)
    _, gradient = _core.softmax_cross_entropy(z, np.zeros(len(x), np.int64), None, weight, None)
    unscaled = gradient[:, 1] == 1
    assert unscaled.mean() > 0.5
    error = np.abs(gradient[:, 7] - exact) / np.spacing(exact.astype(dtype))
    assert float(np.max(error[unscaled])) <= 2


@every_dtype
@pytest.mark.parametrize("K", WIDTHS)
def test_softmax(dtype: Any, K: int) -> None:
    z = 5 * numbers(7, K, dtype=dtype)
    p = softmax(z)
    e = np.exp((z - z.max(axis=1, keepdims=True)).astype(np.float64))
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(p, e / e.sum(axis=1, keepdims=True), rtol=4 * eps)
    assert p.dtype == dtype
    z[0, K // 2] = -np.inf if K > 1 else 0
    z[1, K - 1] = np.nan
    z[2, 0] = np.inf
    p = softmax(z)
    assert p[0, K // 2] == (0 if K > 1 else 1)
    assert np.isnan(p[1]).all()
    assert np.isnan(p[2, 0])
    assert np.isfinite(p[3:]).all()


@every_dtype
@pytest.mark.parametrize("K", WIDTHS)
def test_cross_entropy(dtype: Any, K: int) -> None:
    rng = np.random.default_rng(K)
    z, y = 5 * numbers(6, 9, K, dtype=dtype), rng.integers(0, K, (6, 9))
    lengths = np.array([9, 0, 4, 1, 9, 7])
    valid = np.arange(9) < lengths[:, None]
    z[~valid] = np.nan
    weights = rng.uniform(0.5, 2, K)
    loss, gradient = softmax_cross_entropy(z, y, lengths=lengths, class_weight=weights)
    rows, true = z[valid], y[valid]
    rows = (rows - rows.max(axis=1, keepdims=True)).astype(np.float64)
    total = np.exp(rows).sum(axis=1)
    w = weights[true] / valid.sum()
    expected = np.zeros(z.shape)
    expected[valid] = w[:, None] * (np.exp(rows) / total[:, None] - np.eye(K)[true])
    eps = float(np.finfo(dtype).eps)
    terms = w * (np.log(total) - rows[np.arange(len(rows)), true])
    assert loss == pytest.approx(float(terms.sum()), rel=8 * eps, abs=1e-300)
    np.testing.assert_allclose(gradient, expected, rtol=8 * eps, atol=8 * eps * float(w.max()))


@every_dtype
def test_a_row_of_logits_alone(dtype: Any, assert_same_bits: Any) -> None:
    z, y = numbers(300, 65, dtype=dtype), np.arange(300) % 65
    whole = softmax_cross_entropy(z, y, normalizer="sum")[1]
    probabilities = softmax(z)
    for n in (0, 7, 299):
        assert_same_bits(softmax_cross_entropy(z[n : n + 1], y[n : n + 1])[1], whole[n : n + 1])
        assert_same_bits(softmax(z[n : n + 1]), probabilities[n : n + 1])


@every_dtype
def test_losses_over_threads(dtype: Any, assert_same_bits: Any) -> None:
    z, y = numbers(30, 20, 333, dtype=dtype), np.arange(600).reshape(30, 20) % 333
    lengths = np.arange(30) % 21

    def run() -> tuple[np.ndarray, ...]:
        loss, gradient = softmax_cross_entropy(z, y, lengths=lengths)
        return np.array(loss), gradient, softmax(z)

    same_over_threads(run, assert_same_bits)


# ---- optimisers and clipping


def adam(theta: Any, g: Any, m: Any, v: Any, keep: Any, rate: Any, b1: Any, b2: Any, root: Any, eps: Any) -> Any:
    T = theta.dtype.type
    m = m * T(b1) + g * T(1 - b1)
    v = v * T(b2) + g * g * T(1 - b2)
    return theta * T(keep) - m / (np.sqrt(v) / T(root) + T(eps)) * T(rate), m, v


def formula(rule: str, theta: Any, g: Any, moments: Any, keep: Any, rate: Any, decay: Any, root: Any, eps: Any) -> Any:
    """The new parameters and moments, rounded as the core rounds."""
    T = theta.dtype.type
    if rule == "sgd":
        return theta * T(keep) - g * T(rate), []
    if rule == "adagrad":
        s = moments[0] + g * g
        return theta * T(keep) - g / (np.sqrt(s) + T(eps)) * T(rate), [s]
    if rule == "adam":
        theta, m, v = adam(theta, g, *moments, keep, rate, *decay, root, eps)
        return theta, [m, v]
    v = moments[0] * T(decay[0]) + g
    direction = v * T(decay[0]) + g if rule == "nesterov" else v
    return theta * T(keep) - direction * T(rate), [v]


@every_dtype
@pytest.mark.parametrize(
    ("rule", "moments"), [("sgd", 0), ("momentum", 1), ("nesterov", 1), ("adam", 2), ("adagrad", 1)]
)
def test_optimizers(dtype: Any, rule: str, moments: int, assert_same_bits: Any) -> None:
    options = (0.99, 0.1, (0.9, 0.99), 0.3, 1e-3)
    for size in (0, 1, 7, 33, 16384, 100_003):
        theta, g = numbers(2, size, dtype=dtype)
        before = list(np.abs(numbers(moments, size, dtype=dtype, seed=1)))
        expected, expected_moments = formula(rule, theta, g, before, *options)

        def run(theta: Any = theta, g: Any = g, before: Any = before) -> tuple[np.ndarray, ...]:
            parameters, after = theta.copy(), [m.copy() for m in before]
            _core.optimize(rule, parameters, g, after, *options)
            return parameters, *after

        same_over_threads(run, assert_same_bits)
        eps = float(np.finfo(dtype).eps)
        for actual, value in zip(run(), [expected, *expected_moments], strict=True):
            np.testing.assert_allclose(actual, value, rtol=4 * eps, atol=4 * eps)


@every_dtype
def test_norm_scale_and_clip(dtype: Any, assert_same_bits: Any) -> None:
    for size in (0, 1, 15, 16384, 16385, 300_001):
        g = numbers(size, dtype=dtype)
        expected = float(np.square(g, dtype=np.float64).sum())

        def run(g: np.ndarray = g) -> tuple[np.ndarray, ...]:
            scaled, clipped = g.copy(), g.copy()
            _core.scale(scaled, 0.7)
            _core.clip(clipped, 0.5)
            return np.array(_core.sum_of_squares(g)), scaled, clipped

        same_over_threads(run, assert_same_bits)
        squares, scaled, clipped = run()
        assert float(squares) == pytest.approx(expected, rel=1e-13)
        assert_same_bits(scaled, g * dtype(0.7))
        assert_same_bits(clipped, np.clip(g, dtype(-0.5), dtype(0.5)))


# ---- embedding


@every_dtype
@pytest.mark.parametrize("D", [1, 7, 33, 150])  # the last two are work for several threads
def test_lookup(dtype: Any, D: int, assert_same_bits: Any) -> None:
    """Rows are summed in their order, so that the sum of NumPy's slow ``add.at`` is met to the bit."""
    N, T, V = 200, 50, 11
    rng = np.random.default_rng(D)
    lengths = rng.integers(0, T + 1, N)
    ids = rng.integers(0, V - 1, (N, T))  # the last row of the table gets no gradient
    valid = np.arange(T) < lengths[:, None]
    ids[~valid] = -7
    table, d = numbers(V, D, dtype=dtype), numbers(N, T, D, dtype=dtype)
    d[~valid] = np.nan
    out, gradient = np.zeros((N, T, D), dtype), np.zeros((V, D), dtype)
    out[valid] = table[ids[valid]]
    np.add.at(gradient, ids[valid], d[valid])

    def run() -> tuple[np.ndarray, ...]:
        into = np.full((V, D), 99, dtype)
        _core.scatter(ids, lengths, d, into)
        return _core.gather(ids, lengths, table), into

    same_over_threads(run, assert_same_bits)
    assert_same_bits(run()[0], out)
    assert_same_bits(run()[1], gradient)


# ---- dense layer

SHAPES = [(1, 3, 5), (3, 33, 17), (4, 1, 1), (40, 7, 65), (131, 300, 9), (400, 20, 530), (30, 515, 270)]


@every_dtype
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ragged", [False, True])
def test_dense(shape: tuple[int, int, int], dtype: Any, ragged: bool, assert_close: Any, assert_same_bits: Any) -> None:
    M, H, K = shape
    x, W, b = numbers(M, 2, H, dtype=dtype), numbers(H, K, dtype=dtype, seed=1), numbers(K, dtype=dtype, seed=2)
    d = numbers(M, 2, K, dtype=dtype, seed=3)
    lengths = np.arange(M) % 3 if ragged else np.full(M, 2)
    valid = np.arange(2) < lengths[:, None]
    expected = [a.astype(np.float64) for a in (x, W, b, d)]
    for a in (expected[0], expected[3]):
        a[~valid] = 0
    x[~valid] = d[~valid] = np.nan

    def run() -> tuple[np.ndarray, ...]:
        dW, db = np.full((H, K), 99, dtype), np.full(K, 99, dtype)
        dx = _core.dense_gradient(x, W, d, dW, db, lengths)
        return _core.dense(x, W, b, lengths), dx, dW, db

    same_over_threads(run, assert_same_bits)
    y, dx, dW, db = run()
    x64, W64, b64, d64 = expected
    assert_close(y, x64 @ W64 + b64, H + 1, dtype=dtype, name="y")
    assert_close(dx, d64 @ W64.T, K, dtype=dtype, name="dx")
    assert_close(dW, np.einsum("mth,mtk->hk", x64, d64), 2 * M, dtype=dtype, name="dW")
    assert_close(db, d64.sum(axis=(0, 1)), 2 * M, dtype=dtype, name="db")
    assert not dx[~valid].any()
    if ragged:
        assert_same_bits(y[~valid], np.broadcast_to(b, y[~valid].shape).copy())


@every_dtype
@pytest.mark.parametrize(("H", "K"), [(20, 5), (300, 33), (7, 600)])
def test_a_row_of_dense_alone(dtype: Any, H: int, K: int, assert_same_bits: Any) -> None:
    x, d = numbers(300, H, dtype=dtype), numbers(300, K, dtype=dtype, seed=3)
    W, b = numbers(H, K, dtype=dtype, seed=1), numbers(K, dtype=dtype, seed=2)

    def run(which: Any) -> tuple[np.ndarray, ...]:
        dx = _core.dense_gradient(x[which], W, d[which], np.zeros_like(W), np.zeros_like(b), None)
        return _core.dense(x[which], W, b, None), dx

    whole = run(np.arange(300))
    for which in ([5], [299, 0], [1, 2, 3], [7, 9, 11, 13], np.arange(20, 190)):
        for actual, expected in zip(run(which), whole, strict=True):
            assert_same_bits(actual, expected[which], f"rows {which}")
