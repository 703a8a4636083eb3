"""Sequences: a data set of sequences of differing lengths, cut into padded batches.

training.py and the estimators read their data through it. What else has ``lengths``, ``per_step``, ``__len__`` and
``batch`` can stand in its place (encoder_decoder.Pairs does). It knows no model and no loss.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import as_array

__all__ = ["Sequences"]

Array = NDArray[Any]


class Sequences:
    """Sequences of differing lengths, and batches of them.

    Parameters
    ----------
    x : list of arrays (T_i,) or (T_i, F) of ids or (T_i, D) of features, or one padded array (N, T) or (N, T, D)
    y : targets, optional: (N,) or (N, K) for each sequence; a list of (T_i,) or (T_i, K), or padded, for each step
    lengths : (N,) integers, with a padded array only
    per_step : bool
        Whether `y` has a target for each step.
    condition : (N, C), optional
        A vector for each sequence, for a :class:`Network` with ``condition_size``: batches have ``(x, condition)``.

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> data = rnnfast.Sequences([np.array([4, 5, 6]), np.array([7])], y=[0, 1])
    >>> x, y, lengths = data.batch(np.array([1, 0]))
    >>> x.tolist(), y.tolist(), lengths.tolist()
    ([[7, 0, 0], [4, 5, 6]], [1, 0], [1, 3])
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        lengths: ArrayLike | None = None,
        *,
        per_step: bool = False,
        condition: ArrayLike | None = None,
    ) -> None:
        for name, value in (("x", x), ("y", y)):
            if value is None and name == "y":
                continue
            if isinstance(value, str | bytes) or not (
                getattr(value, "ndim", 1) and hasattr(value, "__len__") and hasattr(value, "__getitem__")
            ):
                raise TypeError(f"{name}: expected one item for each sequence, got {value!r:.60}")
        self.padded = isinstance(x, np.ndarray) and x.dtype != object
        if self.padded:
            x = as_array(x, "x")
            if x.ndim not in (2, 3):
                raise ValueError(f"x: expected (N, T) token ids or (N, T, D) features, got {x.shape}")
            self.x: Any = x
            self.lengths = np.full(len(x), x.shape[1], np.int64) if lengths is None else as_array(lengths, "lengths")
            if self.lengths.shape != (len(x),):
                raise ValueError(f"lengths: expected (N,) = ({len(x)},), got {self.lengths.shape}")
            if len(x) and self.lengths.dtype.kind not in "iu":
                raise TypeError(f"lengths: expected integers, got {self.lengths.dtype}")
            if len(x) and not (self.lengths.min() >= 0 and self.lengths.max() <= x.shape[1]):
                raise ValueError(f"lengths: expected 0..T = 0..{x.shape[1]}, got {self.lengths.min()}.."
                                 f"{self.lengths.max()}")  # fmt: skip
            self.lengths = self.lengths.astype(np.int64)  # fit subtracts from them
        else:
            if lengths is not None:
                raise ValueError("lengths: expected None with a list of sequences, whose lengths are their own")
            self.x = _alike(x, "x", "(T,) token ids or (T, D) features")
            self.lengths = np.array([len(s) for s in self.x], np.int64)
        if len(self.lengths) == 0:
            raise ValueError("x: expected at least one sequence, got none")
        self.per_step = per_step
        ragged = per_step and not (isinstance(y, np.ndarray) and y.ndim > 1)
        try:
            self.y: Any = y if y is None else _alike(y, "y", "(T,) or (T, K) targets") if ragged else as_array(y, "y")
        except ValueError as error:
            if ragged:
                raise
            raise ValueError("y: expected (N,) or (N, K) targets, got rows of differing lengths") from error
        if self.y is not None and len(self.y) != len(self):
            raise ValueError(f"y: expected targets for N = {len(self)} sequences, got {len(self.y)}")
        if self.y is not None and per_step:
            for i, (s, n) in enumerate(zip(self.y, self.lengths, strict=True)):
                if len(s) < n or (ragged and len(s) > n):
                    raise ValueError(f"y[{i}]: expected a target for each of {n} steps, got {len(s)}")
        self.condition = None if condition is None else as_array(condition, "condition")
        if self.condition is not None and (self.condition.ndim != 2 or len(self.condition) != len(self)):
            raise ValueError(f"condition: expected (N, C) = ({len(self)}, C), got {self.condition.shape}")

    def __len__(self) -> int:
        return len(self.lengths)

    def checksum(self) -> int:
        """CRC-32 of all that is not padding: by it a checkpoint knows its data."""
        arrays: list[Any] = [self.lengths, *(s[:n] for s, n in zip(self.x, self.lengths, strict=True))]
        if self.y is not None:
            arrays += [s[:n] for s, n in zip(self.y, self.lengths, strict=True)] if self.per_step else [self.y]
        if self.condition is not None:
            arrays.append(self.condition)
        found = 0
        for array in arrays:
            found = zlib.crc32(np.ascontiguousarray(array).data, found)
        return found

    def batch(self, rows: NDArray[np.int64]) -> tuple[Any, Array, NDArray[np.int64]]:
        """x (n, T) or (n, T, D), y and lengths of these rows, padded with zeros to the longest of them."""
        lengths = self.lengths[rows]
        steps = int(lengths.max(initial=0))
        x: Any = self.x[rows, :steps] if self.padded else _padded([self.x[i] for i in rows], steps)
        if self.condition is not None:
            x = (x, self.condition[rows])
        if self.y is None:
            y = np.zeros(0)
        elif not self.per_step:
            y = self.y[rows]
        else:
            y = self.y[rows, :steps] if isinstance(self.y, np.ndarray) else _padded([self.y[i] for i in rows], steps)
        return x, y, lengths


def _alike(sequences: Any, name: str, expected: str) -> list[Array]:
    """The sequences as arrays of one dtype and of one shape but for their lengths; an empty list fits all."""
    arrays = [np.asarray(s) for s in sequences]
    for i, a in enumerate(arrays):
        if a.ndim not in (1, 2):
            raise ValueError(f"{name}[{i}]: expected {expected}, got {a.shape}")
        if a.dtype.kind not in "fiub":
            raise TypeError(f"{name}[{i}]: expected {expected}, got {a.dtype}")
    known = [a for a in arrays if a.shape != (0,)]
    if not known:
        return [a.astype(np.int64) for a in arrays]
    features, dtype = known[0].shape[1:], np.result_type(*{a.dtype for a in known})
    for i, a in enumerate(arrays):
        if a.shape != (0,) and a.shape[1:] != features:
            shape = f"(T_i, {features[0]})" if features else "(T_i,)"
            raise ValueError(f"{name}[{i}]: expected shape {shape} as before it, got {a.shape}")
    return [a.astype(dtype, copy=False).reshape(len(a), *features) for a in arrays]


def _padded(arrays: list[Array], steps: int) -> Array:
    x = np.zeros((len(arrays), steps, *arrays[0].shape[1:]), arrays[0].dtype)
    for row, a in zip(x, arrays, strict=True):
        row[: len(a)] = a
    return x
