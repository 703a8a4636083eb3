"""estimators/conditions.py: labels and vectors as numbers, and what is said where they do not fit."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from rnnfast.estimators.conditions import Conditions


@pytest.mark.parametrize("y", [["b", "a", "b"], np.array([3, -1, 3]), [True, False, True]])
def test_labels(y: Any) -> None:
    conditions = Conditions.learn(y)
    assert conditions.size == 2
    assert conditions.classes is not None
    assert conditions.classes.tolist() == sorted({*np.asarray(y).tolist()})
    numbers = conditions(y, 3, "y")
    assert numbers is not None
    assert numbers.tolist() == [[0, 1], [1, 0], [0, 1]]
    assert [conditions.are_several(given) for given in (y[0], y)] == [False, True]
    twin = Conditions.rebuild(conditions.describe())
    assert np.array_equal(twin(y, 3, "y"), numbers)  # type: ignore[arg-type]
    assert twin.classes is not None
    assert twin.classes.dtype == conditions.classes.dtype


@pytest.mark.parametrize("y", [[[0.5, 2.0], [1, 3]], np.array([[1, 2], [3, 4]]), np.ones((2, 2), np.float32)])
def test_vectors(y: Any) -> None:
    conditions = Conditions.learn(y)
    assert (conditions.classes, conditions.size) == (None, 2)
    assert np.array_equal(conditions(y, 2, "y"), np.asarray(y, float))  # type: ignore[arg-type]
    assert [conditions.are_several(given) for given in (y[0], y)] == [False, True]
    assert Conditions.rebuild(conditions.describe()).size == 2


def test_none() -> None:
    conditions = Conditions.learn(None)
    assert conditions(None, 3, "y") is None
    assert Conditions.rebuild(conditions.describe()).size is None
    with pytest.raises(ValueError, match=r"condition: expected None, since fit was given no y, got 'a'"):
        conditions("a", 3, "condition")


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        ([0.5, 1.5], ValueError, "y: expected (N,) labels or (N, C) numbers, got (2,) of float64"),
        (["a", "a"], ValueError, "y: expected at least two classes, got 1 class, 'a'"),
        ([["a"], ["b"]], ValueError, "y: expected (N,) labels or (N, C) numbers, got (2, 1) of <U1"),
        ([["a"], ["b", "c"]], ValueError, "y: expected one array, got parts of unequal shape"),
        (np.zeros((2, 0)), ValueError, "y: expected (N,) labels or (N, C) numbers, got (2, 0) of float64"),
        ("a", ValueError, "y: expected (N,) labels or (N, C) numbers, got () of <U1"),
        (np.array(["a", 3], object), TypeError, "y: expected labels of one kind, got some that have no order"),
    ],
)
def test_errors_of_learn(y: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Conditions.learn(y)


@pytest.mark.parametrize(
    ("known", "y", "message"),
    [
        (["a", "b"], ["a", "c"], "y[1] = 'c': expected one of the classes seen in fit, 'a', 'b'"),
        (["a", "b"], ["a"], "y: expected (N,) = (2,) labels, got (1,)"),
        (["a", "b"], None, "y: expected a condition for each sequence, as in fit: 'a', 'b'; got None"),
        ([[1.0], [2.0]], None, "y: expected a condition for each sequence, as in fit: 1 numbers; got None"),
        ([[1.0], [2.0]], [[1.0]], "y: expected (N, C) = (2, 1) numbers, got (1, 1) of float64"),
        ([[1.0], [2.0]], ["a", "b"], "y: expected (N, C) = (2, 1) numbers, got (2,) of <U1"),
        ([[1.0], [2.0]], [[1.0], [np.nan]], "y[1, 0] = nan: expected a finite number"),
    ],
)
def test_errors(known: Any, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Conditions.learn(known)(y, 2, "y")


def test_errors_of_rebuild() -> None:
    good = Conditions.learn(["a", "b"]).describe()
    for changes in ({"size": 3}, {"size": 0}, {"size": "2"}, {"labels": {"classes": ["a"], "classes_dtype": "<U1"}}):
        with pytest.raises(ValueError, match=r"classes|size"):
            Conditions.rebuild({**good, **changes})
