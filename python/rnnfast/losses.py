"""Losses with their gradients: softmax cross-entropy on logits, and squared error.

Each returns the loss and its gradient with respect to the first argument. Padded steps are never read,
their gradient is 0, and the number that the sum over steps is divided by is an explicit argument.
`training.py` calls them, and so may any NumPy code. They know nothing of layers, models or batches. The exponentials
of a large vocabulary are computed by ``_core``, a row at a time.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from .checks import as_array

__all__ = ["softmax", "softmax_cross_entropy", "squared_error"]

Normalizer = Literal["steps", "sequences", "both", "sum"] | float


def softmax(logits: ArrayLike, axis: int = -1) -> NDArray[Any]:
    """Return exp(z_k) / Σ_j exp(z_j) along `axis`, for logits of any size without overflow.

    >>> softmax(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    z = as_array(logits, "logits")
    if z.ndim == 0:
        raise ValueError(f"logits: expected at least one axis, got the number {z}")
    if z.dtype.kind not in "fiub":
        raise TypeError(f"logits: expected real numbers, got {z.dtype}")
    if not isinstance(axis, int | np.integer) or not -z.ndim <= axis < z.ndim:
        raise ValueError(f"axis: expected one of {z.ndim} axes, got {axis!r}")
    z = z.astype(z.dtype.newbyteorder("=") if z.dtype in ("<f4", ">f4") else np.float64, copy=False)
    return np.moveaxis(_core.softmax(np.moveaxis(z, axis, -1)), -1, axis)


def softmax_cross_entropy(
    logits: NDArray[Any],
    targets: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
    normalizer: Normalizer = "steps",
    class_weight: ArrayLike | None = None,
) -> tuple[float, NDArray[Any]]:
    """Cross-entropy between softmax(logits) and the true classes, and its gradient.

    For one step with logits z (K,), true class y and p = softmax(z)::

        loss = -w_y log p_y        dloss/dz_k = w_y (p_k - [k = y])

    The steps are summed and divided by the normaliser (`class_weight` w does not change that number).

    Parameters
    ----------
    logits : (N, K) or (N, T, K) float32 or float64
    targets : (N,) or (N, T) integers in [0, K)
    lengths : (N,) integers in 0..T, optional, with (N, T, K) only
        Steps at or past a sequence's length are padding: whatever stands there, the loss does not
        change and the gradient is exactly 0.
    normalizer : what the sum over steps is divided by
        - "steps": the number of valid steps
        - "sequences": N
        - "both": each sequence by its own length, then by the number of sequences that are not empty
        - "sum": 1
        - a positive number: that number
    class_weight : (K,) non-negative numbers, optional

    Returns
    -------
    loss : float, summed in float64; 0 when no step is valid
    gradient : array of the shape and dtype of `logits`

    Raises
    ------
    TypeError, ValueError
        Another dtype or shape; a class or length out of range, with its place.

    Notes
    -----
    An infinite or NaN logit of a valid step gives a loss of NaN or inf, without a warning.

    Examples
    --------
    >>> loss, gradient = softmax_cross_entropy(np.zeros((1, 4)), [2])
    >>> round(loss, 6), gradient.tolist()
    (1.386294, [[0.25, 0.25, -0.75, 0.25]])
    """
    logits = _check_prediction("logits", logits)
    y = _check_shape("targets", as_array(targets, "targets"), logits.shape[:-1], "NT"[: logits.ndim - 1])
    if y.dtype.kind not in "iu" and y.size:
        raise TypeError(f"targets: expected integers, got {y.dtype}")
    n, weight = _steps(logits, lengths, normalizer)
    K = logits.shape[-1]
    y = y.astype(np.int64)  # a copy, so that what is checked is what is used
    place = _core.first_outside(y, n, K)
    if place >= 0:
        at = [int(i) for i in np.unravel_index(place, y.shape)]
        raise ValueError(f"targets{at} = {np.asarray(targets)[tuple(at)]}: expected a class in [0, K) = [0, {K})")
    if class_weight is not None:
        w = _check_shape("class_weight", as_array(class_weight, "class_weight"), (K,), "K")
        if w.dtype.kind not in "iuf" or not (np.isfinite(w) & (w >= 0)).all():
            raise ValueError(f"class_weight: expected non-negative numbers, got {w.tolist()}")
        class_weight = w
    return _core.softmax_cross_entropy(logits, y, n, weight, class_weight)


def squared_error(
    prediction: NDArray[Any],
    target: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
    normalizer: Normalizer = "steps",
) -> tuple[float, NDArray[Any]]:
    """Mean squared error, and its gradient.

    For one step with prediction p and target t, both (K,)::

        loss = Σ_k (p_k - t_k)² / K        dloss/dp_k = 2 (p_k - t_k) / K

    The steps are summed and divided by the normaliser.

    Parameters
    ----------
    prediction : (N, K) or (N, T, K) float32 or float64
    target : real numbers of the same shape
    lengths, normalizer : as in `softmax_cross_entropy`

    Returns
    -------
    loss : float, summed in float64; 0 when no step is valid
    gradient : array of the shape and dtype of `prediction`

    Raises
    ------
    TypeError, ValueError
        Another dtype or shape; a length out of range, with its place.

    Examples
    --------
    >>> loss, gradient = squared_error(np.array([[1.0, 2.0]]), [[1.0, 4.0]])
    >>> loss, gradient.tolist()
    (2.0, [[0.0, -2.0]])
    """
    prediction = _check_prediction("prediction", prediction)
    t = _check_shape("target", as_array(target, "target"), prediction.shape, "NTK" if prediction.ndim == 3 else "NK")
    if t.dtype.kind not in "iuf":
        raise TypeError(f"target: expected real numbers, got {t.dtype}")
    n, weight = _steps(prediction, lengths, normalizer)
    valid = (np.arange(prediction[0].size // prediction.shape[-1] if len(n) else 1) < n[:, None]).reshape(t.shape[:-1])
    weight = np.repeat(weight, n) / prediction.shape[-1]
    with np.errstate(invalid="ignore", over="ignore"):
        error = prediction[valid]  # (M, K), a copy
        error -= t[valid]
        loss = float((weight * np.einsum("mk,mk->m", error, error, dtype=np.float64)).sum())
        error *= (2 * weight).astype(error.dtype)[:, None]
    return loss, _scatter(error, valid)


def _check_prediction(name: str, array: ArrayLike) -> NDArray[Any]:
    array = as_array(array, name)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: expected float32 or float64, got {array.dtype}")
    if array.ndim not in (2, 3) or array.shape[-1] == 0:
        raise ValueError(f"{name}: expected shape (N, K) or (N, T, K) with K > 0, got {array.shape}")
    return array


def _check_shape(name: str, array: NDArray[Any], shape: tuple[int, ...], symbols: str) -> NDArray[Any]:
    if array.shape != shape:
        expected = str(tuple(symbols)).replace("'", "")
        raise ValueError(f"{name}: expected {expected} = {shape}, got {array.shape}")
    return array


def _steps(
    prediction: NDArray[Any], lengths: ArrayLike | None, normalizer: Normalizer
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the number of valid steps of each sequence, and the weight of each of its steps, both (N,)."""
    N, *steps = prediction.shape[:-1]
    T = steps[0] if steps else 1
    n = np.full(N, T) if lengths is None else as_array(lengths, "lengths")
    if not steps and lengths is not None:
        raise ValueError(f"lengths: expected None for shape (N, K) = {prediction.shape}, got {lengths}")
    if n.dtype.kind not in "iu" and n.size:
        raise TypeError(f"lengths: expected integers, got {n.dtype}")
    _check_shape("lengths", n, (N,), "N")
    given, n = n, n.astype(np.int64)
    wrong = _core.first_outside(n, None, T + 1)
    if wrong >= 0:
        raise ValueError(f"lengths[{wrong}] = {given[wrong]}: expected a length in 0..T = 0..{T}")

    if normalizer == "both":
        return n, 1.0 / (np.maximum(n, 1) * max(int(np.count_nonzero(n)), 1))
    divisors = {"steps": max(int(n.sum()), 1), "sequences": max(N, 1), "sum": 1}
    if isinstance(normalizer, str) and normalizer in divisors:
        divisor: float = divisors[normalizer]
    elif isinstance(normalizer, int | float | np.number) and 0 < normalizer < math.inf:
        divisor = float(normalizer)
    else:
        names = '"steps", "sequences", "both", "sum"'
        raise ValueError(f"normalizer: expected one of {names} or a positive number, got {normalizer!r}")
    return n, np.full(N, 1 / divisor)


def _scatter(rows: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """Put the (M, K) rows of the valid steps into zeros of shape (N, K) or (N, T, K)."""
    if len(rows) == valid.size:
        return rows.reshape(*valid.shape, rows.shape[1])
    array = np.zeros((*valid.shape, rows.shape[1]), dtype=rows.dtype)
    array[valid] = rows
    return array
