"""losses.py against central differences, hand-computed values and the plain log-softmax formula."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from rnnfast.losses import softmax, softmax_cross_entropy, squared_error

NORMALIZERS = ["steps", "sequences", "both", "sum", 2.5]
LENGTHS = [None, [4, 4, 4], [2, 0, 4], [0, 0, 0]]


def divide(steps: np.ndarray, lengths: Any, normalizer: Any) -> float:
    """Normalise losses of shape (N, T), of which the padded ones are 0, one sequence at a time."""
    N, T = steps.shape
    n = [T] * N if lengths is None else lengths
    if sum(n) == 0:
        return 0.0
    if normalizer == "both":
        return float(np.mean([row.sum() / k for row, k in zip(steps, n, strict=True) if k]))
    return float(steps.sum() / {"steps": sum(n), "sequences": N, "sum": 1}.get(normalizer, normalizer))


def central_differences(loss: Any, x: np.ndarray, step: float = 1e-5) -> np.ndarray:
    slope = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        high, low = x.copy(), x.copy()
        high[place] += step
        low[place] -= step
        slope[place] = (loss(high) - loss(low)) / (2 * step)
    return slope


def test_softmax() -> None:
    z = np.array([[1.0, 2.0, 3.0], [1e4, -1e4, 1e4]])
    e = np.exp(z[0])
    np.testing.assert_allclose(softmax(z)[0], e / e.sum(), rtol=1e-15)
    assert softmax(z)[1].tolist() == [0.5, 0, 0.5]
    np.testing.assert_allclose(softmax(z.T, axis=0), softmax(z).T, rtol=1e-15)
    assert softmax(z.astype(np.float32)).dtype == np.float32
    assert z[1, 0] == 1e4


def test_values_by_hand() -> None:
    z = np.log([[1.0, 3.0], [1.0, 1.0]])  # softmax: [1/4, 3/4] and [1/2, 1/2]
    loss, gradient = softmax_cross_entropy(z, [0, 1])
    assert loss == pytest.approx((np.log(4) + np.log(2)) / 2, rel=1e-15)
    np.testing.assert_allclose(gradient, [[-3 / 8, 3 / 8], [1 / 4, -1 / 4]], rtol=1e-15)
    loss, gradient = softmax_cross_entropy(z, [0, 1], class_weight=[3, 1])  # does not enter the normaliser
    assert loss == pytest.approx((3 * np.log(4) + np.log(2)) / 2, rel=1e-15)
    np.testing.assert_allclose(gradient, [[-9 / 8, 9 / 8], [1 / 4, -1 / 4]], rtol=1e-15)
    loss, gradient = squared_error(np.array([[1.0, 2.0], [3.0, 4.0]]), [[1, 4], [0, 4]])
    assert loss == (4 / 2 + 9 / 2) / 2
    assert gradient.tolist() == [[0, -1], [1.5, 0]]


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("class_weight", [None, [0.5, 0.0, 2.0, 1.0, 3.0]])
def test_cross_entropy(normalizer: Any, lengths: Any, class_weight: Any) -> None:
    random = np.random.default_rng(0)
    z, y = random.normal(size=(3, 4, 5)), random.integers(0, 5, size=(3, 4))
    log_p = z - np.log(np.exp(z).sum(axis=2, keepdims=True))
    steps = -np.take_along_axis(log_p, y[:, :, None], axis=2)[:, :, 0]
    steps = steps if class_weight is None else steps * np.array(class_weight)[y]
    n = np.array([4, 4, 4] if lengths is None else lengths)
    steps = np.where(np.arange(4) < n[:, None], steps, 0)

    def f(z: np.ndarray) -> tuple[float, np.ndarray]:
        return softmax_cross_entropy(z, y, lengths=lengths, normalizer=normalizer, class_weight=class_weight)

    loss, gradient = f(z)
    assert isinstance(loss, float)
    assert loss == pytest.approx(divide(steps, lengths, normalizer), rel=1e-13)
    slope = central_differences(lambda z: f(z)[0], z)
    np.testing.assert_allclose(gradient, slope, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_squared_error(normalizer: Any, lengths: Any) -> None:
    random = np.random.default_rng(0)
    p, t = random.normal(size=(2, 3, 4, 5))
    n = np.array([4, 4, 4] if lengths is None else lengths)
    steps = np.where(np.arange(4) < n[:, None], ((p - t) ** 2).mean(axis=2), 0)

    def f(p: np.ndarray) -> tuple[float, np.ndarray]:
        return squared_error(p, t, lengths=lengths, normalizer=normalizer)

    loss, gradient = f(p)
    assert isinstance(loss, float)
    assert loss == pytest.approx(divide(steps, lengths, normalizer), rel=1e-13)
    np.testing.assert_allclose(gradient, central_differences(lambda p: f(p)[0], p), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_one_step_is_a_sequence_of_one(normalizer: Any) -> None:
    random = np.random.default_rng(0)
    z, t, y = random.normal(size=(3, 5)), random.normal(size=(3, 5)), [4, 0, 2]
    y3 = np.array(y)[:, None]
    for flat, deep in [
        (
            softmax_cross_entropy(z, y, normalizer=normalizer),
            softmax_cross_entropy(z[:, None], y3, normalizer=normalizer),
        ),
        (
            squared_error(z, t, normalizer=normalizer),
            squared_error(z[:, None], t[:, None], normalizer=normalizer),
        ),
    ]:
        assert flat[0] == deep[0]
        assert flat[1].tolist() == deep[1][:, 0].tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_padding_reaches_nothing(dtype: Any, garbage: float) -> None:
    random = np.random.default_rng(0)
    z, t = random.normal(size=(2, 3, 4, 5)).astype(dtype)
    y = random.integers(0, 5, size=(3, 4))
    lengths = np.array([2, 0, 4])
    past = np.arange(4) >= lengths[:, None]
    clean = softmax_cross_entropy(z, y, lengths=lengths), squared_error(z, t, lengths=lengths)
    z[past], t[past], y[past] = garbage, garbage, -99
    dirty = softmax_cross_entropy(z, y, lengths=lengths), squared_error(z, t, lengths=lengths)
    for (loss, gradient), (loss_dirty, gradient_dirty) in zip(clean, dirty, strict=True):
        assert loss == loss_dirty
        assert gradient.tobytes() == gradient_dirty.tobytes()
        assert gradient_dirty.dtype == dtype
        assert gradient_dirty.flags.c_contiguous
        assert not gradient_dirty[past].any()


def test_float32_is_close_and_inputs_are_kept() -> None:
    random = np.random.default_rng(0)
    z, t = 5 * random.normal(size=(2, 7, 9, 33))
    y = random.integers(0, 33, size=(7, 9))
    z.flags.writeable = t.flags.writeable = False
    for f, target in [(softmax_cross_entropy, y), (squared_error, t)]:
        expected, gradient = f(z, target)
        for view in [z.astype(np.float32), np.asfortranarray(z.astype(np.float32))]:
            loss, gradient32 = f(view, target)
            assert loss == pytest.approx(expected, rel=1e-6)
            assert gradient32.dtype == np.float32
            np.testing.assert_allclose(gradient32, gradient, rtol=2e-5, atol=1e-9)


def test_extreme_logits() -> None:
    for dtype in (np.float32, np.float64):
        z = np.array([[1e30, -1e30, 0.0], [-np.inf, 2.0, 2.0]], dtype)
        loss, gradient = softmax_cross_entropy(z, [0, 1])
        assert loss == pytest.approx(np.log(2) / 2, rel=1e-7)
        assert gradient.tolist() == [[0, 0, 0], [0, -0.25, 0.25]]
        assert np.isnan(softmax_cross_entropy(np.array([[np.inf, 0]], dtype), [0])[0])
        assert np.isnan(softmax_cross_entropy(np.array([[np.nan, 0]], dtype), [0])[0])
    loss, _ = softmax_cross_entropy(np.array([[20.0, 0.0]], np.float32), [0])
    assert loss == pytest.approx(np.log1p(np.exp(-20)), rel=1e-6)  # summed in float64: not rounded to 0


@pytest.mark.parametrize("shape", [(0, 5), (0, 4, 5), (3, 0, 5)])
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_nothing_to_sum(shape: tuple[int, ...], normalizer: Any) -> None:
    z = np.zeros(shape, np.float32)
    for loss, gradient in [
        softmax_cross_entropy(z, np.zeros(shape[:-1], int), normalizer=normalizer),
        squared_error(z, z, normalizer=normalizer),
    ]:
        assert loss == 0
        assert gradient.shape == shape
        assert gradient.dtype == np.float32


Z, ZT = np.zeros((3, 5)), np.zeros((3, 4, 5))
Y, YT = np.zeros(3, int), np.zeros((3, 4), int)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: softmax_cross_entropy(Z.astype(int), Y),
            TypeError,
            "logits: expected float32 or float64, got int64",
        ),
        (
            lambda: softmax_cross_entropy(Z.astype(">f8"), Y),
            TypeError,
            "logits: expected float32 or float64, got >f8",
        ),
        (
            lambda: softmax_cross_entropy(Z[0], Y),
            ValueError,
            "logits: expected shape (N, K) or (N, T, K) with K > 0",
        ),
        (lambda: softmax_cross_entropy(Z[:, :0], Y), ValueError, "with K > 0, got (3, 0)"),
        (lambda: softmax_cross_entropy(Z, Y * 1.0), TypeError, "targets: expected integers, got float64"),
        (lambda: softmax_cross_entropy(Z, YT), ValueError, "targets: expected (N,) = (3,), got (3, 4)"),
        (lambda: softmax_cross_entropy(ZT, Y), ValueError, "targets: expected (N, T) = (3, 4), got (3,)"),
        (
            lambda: softmax_cross_entropy(ZT, np.eye(3, 4, 2, dtype=int) * 12, lengths=[1, 4, 4]),
            ValueError,
            "targets[1, 3] = 12: expected a class in [0, K) = [0, 5)",
        ),
        (
            lambda: softmax_cross_entropy(Z, [0, -1, 0]),
            ValueError,
            "targets[1] = -1: expected a class in [0, K)",
        ),
        (
            lambda: softmax_cross_entropy(Z, Y, lengths=[1, 1, 1]),
            ValueError,
            "lengths: expected None for shape (N, K)",
        ),
        (
            lambda: softmax_cross_entropy(ZT, YT, lengths=[1, 5, 1]),
            ValueError,
            "lengths[1] = 5: expected a length in",
        ),
        (
            lambda: squared_error(ZT, ZT, lengths=[1, -1, 1]),
            ValueError,
            "lengths[1] = -1: expected a length in 0..T =",
        ),
        (
            lambda: squared_error(ZT, ZT, lengths=[1, 1]),
            ValueError,
            "lengths: expected (N,) = (3,), got (2,)",
        ),
        (
            lambda: squared_error(ZT, ZT, lengths=[np.nan] * 3),
            TypeError,
            "lengths: expected integers, got float64",
        ),
        (
            lambda: squared_error(Z, Z, normalizer="mean"),
            ValueError,
            'normalizer: expected one of "steps", "sequences",',
        ),
        (lambda: squared_error(Z, Z, normalizer=0), ValueError, "or a positive number, got 0"),
        (lambda: squared_error(Z, Z, normalizer=np.nan), ValueError, "or a positive number, got nan"),
        (lambda: squared_error(Z, Z, normalizer=None), ValueError, "or a positive number, got None"),
        (lambda: squared_error(Z, Z[:, 0]), ValueError, "target: expected (N, K) = (3, 5), got (3,)"),
        (lambda: squared_error(ZT, Z), ValueError, "target: expected (N, T, K) = (3, 4, 5), got (3, 5)"),
        (lambda: squared_error(Z, Z * 1j), TypeError, "target: expected real numbers, got complex128"),
        (lambda: squared_error(list("ab"), Z), TypeError, "prediction: expected float32 or float64, got <U1"),
        (
            lambda: softmax_cross_entropy(Z, Y, class_weight=[1, 2]),
            ValueError,
            "class_weight: expected (K,) = (5,), got (2,)",
        ),
        (
            lambda: softmax_cross_entropy(Z, Y, class_weight=[1, 2, 3, 4, -5]),
            ValueError,
            "class_weight: expected non-negative numbers, got [1, 2, 3, 4, -5]",
        ),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_softmax_of_a_number() -> None:
    with pytest.raises(ValueError, match=re.escape("logits: expected at least one axis, got the number 5.0")):
        softmax(5.0)
