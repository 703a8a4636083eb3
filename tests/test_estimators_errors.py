"""estimators.py: bad input ends in an error that names the argument, what was expected and what came."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from rnnfast import SequenceClassifier

OPTIONS: dict[str, Any] = {"hidden_size": 3, "embedding_size": 2, "max_epochs": 1, "random_state": 0, "n_jobs": 1}
TEXTS, IDS, FEATURES = ["good film", "bad film", "so so"], [[4, 5], [6], [7, 4]], [np.ones((2, 3)), np.zeros((4, 3))]
NAN = np.array([[1.0, 2.0], [np.nan, 3.0]])


def fitted(X: Any) -> SequenceClassifier:
    return SequenceClassifier(**OPTIONS).fit(X, [0, 1, 1][: len(X)])


FITTING: list[tuple[Any, Any, type[Exception], str]] = [
    ([], [], ValueError, "X: expected at least one sequence, got none"),
    ("good film", [0], TypeError, "X: expected a list of sequences, got str"),
    (None, [0], TypeError, "X: expected a list of sequences, got NoneType"),
    ((s for s in TEXTS), [0, 1, 1], TypeError, "X: expected a list of sequences, got generator"),
    (TEXTS, [0, 1], ValueError, "y: expected (N,) = (3,) labels, got (2,)"),
    (TEXTS, [[0, 1], [1, 1], [1, 0]], ValueError, "y: expected (N,) = (3,) labels, got (3, 2)"),
    (TEXTS, None, ValueError, "y: SequenceClassifier requires y to be passed, but the target y is None"),
    (TEXTS, [0.5, 1, 1], ValueError, "y[0] = 0.5: expected a class. Unknown label type: continuous"),
    (TEXTS, [0, np.nan, 1], ValueError, "y[1] = nan: expected a class."),
    (TEXTS, [[0], [1, 2], [1]], ValueError, "y: expected one array, got parts of unequal shape"),
    (TEXTS, 1, ValueError, "y: expected (N,) = (3,) labels, got ()"),
    (TEXTS, ["a", None, "b"], TypeError, "y: expected labels of one kind"),
    (TEXTS, [b"a", b"b", b"b"], TypeError, "y: expected strings, integers or booleans, got |S1"),
    (TEXTS, np.zeros(3, "M8[s]"), TypeError, "y: expected strings, integers or booleans, got datetime64[s]"),
    (TEXTS, ["a", "a", "a"], ValueError, "y: expected at least two classes, got 1 class, 'a'"),
    (TEXTS, [1, 1, 1], ValueError, "y: expected at least two classes, got 1 class, 1"),
    (["good", "", "bad"], [0, 1, 1], ValueError, "X[1]: expected at least one step, got an empty sequence ('')"),
    (["good", "bad", "?!"], [0, 1, 1], ValueError, "X[2]: expected at least one word, got none in '?!'"),
    ([["good"], [], ["bad"]], [0, 1, 1], ValueError, "X[1]: expected at least one step, got an empty sequence ([])"),
    ([[], [], []], [0, 1, 1], ValueError, "X[0]: expected at least one step"),
    ([[4], [], [5]], [0, 1, 1], ValueError, "X[1]: expected at least one step"),
    ([np.zeros((0, 3)), *FEATURES], [0, 1, 1], ValueError, "X[0]: expected at least one step"),
    ([[], *FEATURES], [0, 1, 1], ValueError, "X[0]: expected at least one step"),
    (np.zeros((2, 0)), [0, 1], ValueError, "X: 0 feature(s) (shape=(2, 0)) while a minimum of 1 is required."),
    ([[4], [-1], [5]], [0, 1, 1], ValueError, "X[1]: expected token ids of 0 or more, got -1"),
    (["good", None, "bad"], [0, 1, 1], TypeError, "X[1]: expected a string, tokens, ids or an array, got None"),
    ([1.5, 2.5], [0, 1], ValueError, "X[0]: expected a string, tokens, ids or an array, got 1.5"),
    (np.array([1.5, 2.5]), [0, 1], ValueError, "X: expected an array (N, T), got one of shape (2,). Reshape your data"),
    ([[None], [None]], [0, 1], TypeError, "X[0]: expected a string, tokens, ids or an array of numbers, got [None]"),
    ([[1j], [2j]], [0, 1], TypeError, "X[0]: expected a string, tokens, ids or an array of numbers, got [1j]"),
    (["good", ["bad"]], [0, 1], ValueError, "X: expected sequences of one kind, got text and tokens"),
    (["good", [4, 5]], [0, 1], ValueError, "X: expected sequences of one kind, got ids and text"),
    ([[4, 5], [0.5]], [0, 1], ValueError, "X: expected sequences of one kind, got features and ids"),
    ([[[1.0, 2.0], [3.0]], [[1.0, 2.0]]], [0, 1], ValueError, "X[0]: expected one array, got parts of unequal shape"),
    ([np.ones((2, 3)), np.ones((2, 4))], [0, 1], ValueError, "X[1]: expected (T, D) = (T, 3) as in fit, got (2, 4)"),
    ([np.ones((2, 3)), np.ones(2)], [0, 1], ValueError, "X[1]: expected (T, D) = (T, 3) as in fit, got (2, 1)"),
    (np.ones((2, 3, 4, 5)), [0, 1], ValueError, "X[0]: expected (T, D) or (T,) numbers, got (3, 4, 5)"),
    (np.ones((2, 3, 0)), [0, 1], ValueError, "X[0]: expected (T, D) with at least one feature, got (3, 0)"),
    ([np.ones((2, 2)), NAN], [0, 1], ValueError, "X[1][1, 0] is NaN: expected a finite number"),
    (
        [[1.0], [0.5, np.inf]],
        [0, 1],
        ValueError,
        "X[1][1, 0] is inf, infinity or too large for float64: expected a finite number",
    ),
]


@pytest.mark.parametrize(("X", "y", "error", "message"), FITTING)
def test_fit(X: Any, y: Any, error: type[Exception], message: str) -> None:
    model = SequenceClassifier(**OPTIONS)
    with pytest.raises(error, match=re.escape(message)):
        model.fit(X, y)
    assert not hasattr(model, "network_")


PREDICTING: list[tuple[Any, Any, type[Exception], str]] = [
    (TEXTS, [], ValueError, "X: expected at least one sequence, got none"),
    (TEXTS, "good", TypeError, "X: expected a list of sequences, got str"),
    (TEXTS, ["good", " "], ValueError, "X[1]: expected at least one word, got none in ' '"),
    (TEXTS, IDS, ValueError, "X: expected text as in fit, got ids"),
    (IDS, TEXTS, ValueError, "X: expected ids as in fit, got text"),
    (IDS, [[4], [5, -2]], ValueError, "X[1]: expected token ids of 0 or more, got -2"),
    (IDS, [[0.5]], ValueError, "X: expected ids as in fit, got features"),
    (FEATURES, [np.ones((2, 3)), np.ones((5, 2))], ValueError, "X[1]: expected (T, D) = (T, 3) as in fit, got (5, 2)"),
    (FEATURES, np.ones((2, 5)), ValueError, "X[0]: expected (T, D) = (T, 3) as in fit, got (5, 1)"),
    (FEATURES, np.full((1, 2, 3), np.nan), ValueError, "X[0][0, 0] is NaN: expected a finite number"),
]


@pytest.mark.parametrize(("X", "wrong", "error", "message"), PREDICTING)
def test_predict(X: Any, wrong: Any, error: type[Exception], message: str) -> None:
    model = fitted(X)
    for call in (model.predict, model.predict_proba, lambda X: model.score(X, [0] * len(X))):
        with pytest.raises(error, match=re.escape(message)):
            call(wrong)


@pytest.mark.parametrize(
    ("options", "X", "error", "message"),
    [
        ({"n_jobs": 0}, TEXTS, ValueError, "n_jobs: expected None, a positive integer or -1 for all processors, got 0"),
        ({"n_jobs": 1.5}, TEXTS, ValueError, "n_jobs: expected None, a positive integer"),
        ({"callbacks": [None]}, TEXTS, TypeError, "callbacks[0]: expected a Callback, got None"),
        (
            {"hidden_size": 2**31},
            TEXTS,
            ValueError,
            "hidden_size: expected a positive integer below 2**31, got 2147483648",
        ),
        ({}, [[2**40], [1], [2]], ValueError, f"X[0]: expected token ids of less than 2**31, got {2**40}"),
        ({}, [np.array([2**63 + 5], "u8"), [1], [2]], ValueError, f"less than 2**31, got {2**63 + 5}"),
    ],
)
def test_what_is_out_of_range(options: dict[str, Any], X: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        SequenceClassifier(**OPTIONS | options).fit(X, [0, 1, 1])


def test_small_integers_of_numpy_and_all_processors() -> None:
    options = OPTIONS | {"hidden_size": np.uint8(100), "n_jobs": -1}
    found = SequenceClassifier(**options).fit(TEXTS, [0, 1, 1]).predict_proba(TEXTS)
    expected = SequenceClassifier(**OPTIONS | {"hidden_size": 100}).fit(TEXTS, [0, 1, 1]).predict_proba(TEXTS)
    np.testing.assert_array_equal(found, expected)
    X = np.arange(24.0).reshape(3, 4, 2)
    of_objects = SequenceClassifier(**OPTIONS).fit(X.astype(object), [0, 1, 1]).predict_proba(X)
    np.testing.assert_array_equal(of_objects, SequenceClassifier(**OPTIONS).fit(X, [0, 1, 1]).predict_proba(X))


def test_numbers_beyond_the_dtype() -> None:
    X = [[1.0], [0.5, 1e300]]
    with pytest.raises(ValueError, match=re.escape("X[1][1, 0] is inf, infinity or too large for float32")):
        SequenceClassifier(**OPTIONS, scale=False).fit(X, [0, 1])
    model = SequenceClassifier(**OPTIONS).fit(X, [0, 1])  # scaled, they fit
    with pytest.raises(ValueError, match=re.escape("X[0][0, 0] is NaN: expected a finite number")):
        model.predict([[np.nan]])


def test_score() -> None:
    model = SequenceClassifier(**OPTIONS).fit(TEXTS, ["a", "b", "b"])
    with pytest.warns(UserWarning, match="y: 1 of 3 labels were not seen in fit, and count as wrong"):
        assert model.score(TEXTS, ["a", "b", "c"]) <= 2 / 3
    for y, shape in ((["a"], "(1,)"), (["a"] * 4, "(4,)"), ([["a", "b"]] * 3, "(3, 2)"), ("a", "()")):
        with pytest.raises(ValueError, match=re.escape(f"y: expected (N,) = (3,) labels, got {shape}")):
            model.score(TEXTS, y)


def test_validation() -> None:
    model = SequenceClassifier(**OPTIONS)
    with pytest.raises(ValueError, match="validation: expected some labels that are in y, got none"):
        model.fit(TEXTS, [0, 1, 1], validation=(["film"], [9]))
    with pytest.warns(UserWarning, match="validation: 1 of 2 sequences have labels not in y: they are left out"):
        model.fit(TEXTS, [0, 1, 1], validation=(["film", "good"], [9, 0]))
    assert model.history_["val_accuracy"][0] in (0.0, 1.0)  # of one sequence
    with pytest.raises(ValueError, match=re.escape("y: expected (N,) = (1,) labels, got (2,)")):
        model.fit(TEXTS, [0, 1, 1], validation=(["film"], [0, 1]))
    for part in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="validation_fraction: expected 0 <= part < 1"):
            SequenceClassifier(**OPTIONS, validation_fraction=part).fit(TEXTS, [0, 1, 1])


@pytest.mark.parametrize("call", ["predict", "predict_proba", "score", "save"])
def test_not_fitted(call: str, tmp_path: Any) -> None:
    model, path = SequenceClassifier(), tmp_path / "model"
    arguments = {"score": (TEXTS, [0, 1, 1]), "save": (path,)}.get(call, (TEXTS,))
    with pytest.raises(RuntimeError, match="SequenceClassifier: expected a fitted model; call fit first"):
        getattr(model, call)(*arguments)
    assert not path.exists()


SETTINGS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"cell": "elman"}, ValueError, "cell: expected one of rnn_tanh"),
    ({"hidden_size": 0}, ValueError, "hidden_size: expected a positive integer, got 0"),
    ({"hidden_size": "8"}, TypeError, "hidden_size: expected a positive integer, got '8'"),
    ({"num_layers": 1.0}, TypeError, "num_layers: expected a positive integer, got 1.0"),
    ({"embedding_size": -1}, ValueError, "embedding_size: expected a positive integer, got -1"),
    ({"dropout": 1.5}, ValueError, "dropout: expected 0 <= p < 1, got 1.5"),
    ({"batch_size": 0}, ValueError, "batch_size: expected a positive integer, got 0"),
    ({"learning_rate": -1.0}, ValueError, "learning_rate: expected a number in [0, inf), got -1.0"),
    ({"max_epochs": 0}, ValueError, "max_epochs: expected a positive integer, got 0"),
    ({"patience": 0}, ValueError, "patience: expected a positive integer, got 0"),
    ({"clip_norm": -1}, ValueError, "clip_norm: expected a positive number, got -1"),
    ({"truncate": 3}, ValueError, "truncate, carry_state: expected a model of one direction"),
    ({"initial_state_std": float("inf")}, ValueError, "initial_state_std: expected a number of 0 or more, got inf"),
    ({"tol": float("nan")}, ValueError, "tol: expected a number of 0 or more, got nan"),
    ({"callbacks": None}, TypeError, "callbacks: expected an iterable of Callback, got None"),
    ({"dtype": 5}, TypeError, "dtype: expected float32 or float64, got 5"),
    ({"random_state": -1}, ValueError, "random_state: expected an integer of 0 or more, got -1"),
    ({"min_count": 0}, ValueError, "min_count: expected a positive integer, got 0"),
    ({"dtype": "float16"}, TypeError, "dtype: expected float32 or float64, got float16"),
    ({"n_jobs": 0}, ValueError, "n_jobs: expected None, a positive integer or -1 for all processors, got 0"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), SETTINGS)
def test_settings(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        SequenceClassifier(**OPTIONS | wrong).fit(TEXTS, [0, 1, 1])
