"""Conditions: what sequences are about, as the numbers that a Network starts them from.

SequenceGenerator learns them from its `y`. They know neither sequences nor models.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import as_array
from ..preprocessing import one_hot
from .labels import classes_of, describe_labels, places, rebuild_labels

__all__ = ["Conditions"]

Array = NDArray[Any]


class Conditions:
    """None, labels (one-hot) or vectors.

    Attributes
    ----------
    classes : array (C,) or None
        Of labels.
    size : int or None
        C; None without conditions.
    """

    def __init__(self, classes: Array | None, size: int | None) -> None:
        self.classes, self.size = classes, size

    @classmethod
    def learn(cls, y: Any) -> Conditions:
        if y is None:
            return cls(None, None)
        array = as_array(y, "y")
        if array.ndim == 2 and array.shape[1] > 0 and array.dtype.kind in "fiub":
            return cls(None, array.shape[1])
        if array.ndim != 1 or array.dtype.kind not in "biuUO":
            raise ValueError(f"y: expected (N,) labels or (N, C) numbers, got {array.shape} of {array.dtype}")
        classes = classes_of([array])
        return cls(classes, len(classes))

    def are_several(self, condition: Any) -> bool:
        """Whether it is one for each of some sequences, not one for all."""
        return np.ndim(condition) == (2 if self.classes is None else 1)

    def __call__(self, y: Any, n: int, name: str) -> Array | None:
        """One for each of n sequences, (n, C); None where there are none."""
        if self.size is None:
            if y is not None:
                raise ValueError(f"{name}: expected None, since fit was given no y, got {y!r:.80}")
            return None
        known = f"{self.size} numbers" if self.classes is None else ", ".join(map(repr, self.classes.tolist()))
        if y is None:
            raise ValueError(f"{name}: expected a condition for each sequence, as in fit: {known}; got None")
        array = as_array(y, name)
        if self.classes is None:
            if array.shape != (n, self.size) or array.dtype.kind not in "fiub":
                expected = f"(N, C) = ({n}, {self.size}) numbers"
                raise ValueError(f"{name}: expected {expected}, got {array.shape} of {array.dtype}")
            if not np.isfinite(array).all():
                i, k = np.argwhere(~np.isfinite(array))[0]
                raise ValueError(f"{name}[{i}, {k}] = {array[i, k]}: expected a finite number")
            return array.astype(np.float64)
        if array.shape != (n,):
            raise ValueError(f"{name}: expected (N,) = ({n},) labels, got {array.shape}")
        ids = places(array, self.classes)
        if (ids < 0).any():
            i = int(np.argmin(ids))
            raise ValueError(f"{name}[{i}] = {array.tolist()[i]!r}: expected one of the classes seen in fit, {known}")
        return one_hot(ids, self.size, dtype=np.float64)

    def describe(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"size": self.size, "labels": None if self.classes is None else describe_labels(self.classes)}

    @classmethod
    def rebuild(cls, settings: dict[str, Any]) -> Conditions:
        """From what `describe` returned; anything else is a KeyError, TypeError or ValueError."""
        size = settings["size"]
        if size is not None and (type(size) is not int or size < 1):
            raise ValueError(f"conditions of size {size!r}")
        classes = None if settings["labels"] is None else rebuild_labels(settings["labels"])
        if classes is not None and len(classes) != size:
            raise ValueError(f"{len(classes)} classes for conditions of size {size}")
        return cls(classes, size)
