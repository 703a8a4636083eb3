"""Labels: the classes that come in them, where each is, and how a file keeps them. They know no model."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["classes_of", "describe_labels", "places", "rebuild_labels", "warn_of_column"]

Array = NDArray[Any]


def classes_of(parts: Iterable[Array]) -> Array:
    """The classes that come in the parts of y, sorted: at least two, of one kind."""
    classes: Array | None = None
    for part in parts:
        try:
            found = np.unique(part)
        except TypeError as error:
            raise TypeError(f"y: expected labels of one kind, got some that have no order ({error})") from error
        if classes is not None and (classes.dtype.kind in "UO") != (found.dtype.kind in "UO"):
            raise TypeError("y: expected labels of one kind, got strings and numbers")
        classes = found if classes is None else np.union1d(classes, found)
    if classes is None or len(classes) < 2:
        got = "none" if classes is None or len(classes) == 0 else f"1 class, {classes.tolist()[0]!r}"
        raise ValueError(f"y: expected at least two classes, got {got}")
    return classes


def describe_labels(labels: Array) -> dict[str, Any]:
    """Classes as JSON can hold them."""
    return {"classes": labels.tolist(), "classes_dtype": labels.dtype.str}


def places(labels: Array, classes: Array) -> NDArray[np.int64]:
    """Where each label is in `classes`; -1 where it is not."""
    index = {label: k for k, label in enumerate(classes.tolist())}
    return np.array([index.get(label, -1) for label in labels.tolist()], np.int64)


def rebuild_labels(settings: dict[str, Any]) -> Array:
    kind = np.dtype(settings["classes_dtype"])
    if kind.kind not in "biufUO":
        raise ValueError(f"classes of {kind}")
    labels: Array = np.array(settings["classes"], dtype="U" if kind.kind == "U" else kind)
    if labels.ndim != 1 or len(labels) < 2 or len(set(labels.tolist())) < len(labels):
        raise ValueError("classes that are not a list of at least two, each once")
    return labels


def warn_of_column() -> None:
    """y is (N, 1): taken as (N,), with scikit-learn's warning where that is loaded."""
    message = "A column-vector y was passed when a 1d array was expected"
    category: type[Warning] = UserWarning
    if sys.modules.get("sklearn") is not None:
        from sklearn.exceptions import DataConversionWarning

        category = DataConversionWarning
    warnings.warn(message, category, stacklevel=4)
