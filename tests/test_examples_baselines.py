"""examples/baselines.py: each baseline on a few lines whose answer is plain, and what it says without scikit-learn."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from rnnfast.examples import baselines
from rnnfast.examples.example import Parts
from rnnfast.metrics import accuracy


def measure(truth: Any, predicted: Any) -> dict[str, float]:
    return {"accuracy": accuracy(truth, predicted)}


def test_compare_knows_the_best_constant_answer() -> None:
    parts = Parts((["ba", "ca", "do"], ["f", "f", "m"]), (["jo", "la", "mo", "nu"], ["m", "f", "m", "m"]))
    figures = baselines.compare(parts, measure, {"last letter": baselines.last_letter})
    assert figures == {"always m": {"accuracy": 0.75}, "last letter": {"accuracy": 0.75}}
    tagged = Parts(([["a"]], [["x"]]), ([["a", "a"], ["b"]], [["x", "y"], ["y"]]))
    figures = baselines.compare(tagged, measure, {"commonest": baselines.commonest_tag()})
    assert figures == {"always y": {"accuracy": 2 / 3}, "commonest": {"accuracy": 1 / 3}}


def test_compare_goes_on_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)  # import_module raises ImportError
    parts = Parts((["a", "b"], ["f", "m"]), (["a", "b"], ["f", "m"]))
    words = {"words": baselines.bag_of_words(), "last letter": baselines.last_letter}
    figures = baselines.compare(parts, measure, words)
    assert figures == {"always f": {"accuracy": 0.5}, "words": {}, "last letter": {"accuracy": 1.0}}


def test_words() -> None:
    X, y = ["good film", "not good film", "bad film", "not bad film"] * 3, ["+", "-", "-", "+"] * 3
    new = ["not good", "bad", "NOT bad", "good"]
    assert baselines.bag_of_words(2)(X, y, new) == ["-", "-", "+", "+"]
    assert baselines.bag_of_words()(X, y, new) != ["-", "-", "+", "+"]  # no sum of words can do this
    assert baselines.naive_bayes()(["a a b", "c"], [0, 1], ["a", "b c c", "b"]) == [0, 1, 0]


def test_letters() -> None:
    X, y = ["Anna", "Maria", "Paul", "Ivan", "Luca"], ["f", "f", "m", "m", "m"]
    assert baselines.last_letter(X, y, ["Elena", "Karl", "Tom"]) == ["f", "m", "m"]  # no name on m: what most are
    assert baselines.bag_of_letters()(X, y, ["Rosanna", "Ivan"]) == ["f", "m"]


def test_summaries() -> None:
    rng = np.random.default_rng(0)
    X = [scale * rng.normal(size=(20, 2)) for scale in (1, 3) * 10]  # the means say nothing
    y = ["calm", "wild"] * 10
    spread = baselines.summaries(lambda x: x.mean(axis=0), lambda x: x.std(axis=0))
    assert spread(X, y, X) == y
    assert baselines.summaries(np.ravel)(X[:4], y[:4], X[:4]) == y[:4]


def test_commonest_tag() -> None:
    X, y = [["the", "dog", "runs"], ["dog", "the", "runs"]], [["D", "N", "V"], ["N", "D", "N"]]
    new = [["the", "cats"], ["dog", "RUNS"]]
    assert baselines.commonest_tag()([*X, ["dog"]], [*y, ["N"]], new) == [["D", "N"], ["N", "N"]]
    assert baselines.commonest_tag((2, 1))([["walks", "a", "a"]], [["V", "D", "D"]], new) == [["D", "V"], ["D", "V"]]


def test_words_nearby() -> None:
    X = [["to", "run", "far"], ["a", "run", "ends"]] * 4
    y = [["P", "V", "A"], ["D", "N", "V"]] * 4
    assert baselines.words_nearby(1)(X, y, [["to", "run"], ["a", "run"]]) == [["P", "V"], ["D", "N"]]
    alone = baselines.words_nearby(0)(X, y, [["to", "run"], ["a", "run"]])
    assert alone[0][1] == alone[1][1]


def test_numbers_nearby() -> None:
    X = [np.array([[0.0], [1.0], [0.0], [0.0], [1.0], [0.0]])] * 5
    y = [["low", "high", "after", "low", "high", "after"]] * 5
    assert baselines.numbers_nearby(1)(X, y, X[:1]) == y[:1]
    assert baselines.numbers_nearby(0)(X, y, X[:1]) != y[:1]


def test_known_entities() -> None:
    X = [["New", "York", "is", "new"], ["York", "is", "old"], ["is", "she", "in", "York", "?"], ["is", "Is", "is"]]
    y = [["B-LOC", "I-LOC", "O", "O"], ["B-LOC", "O", "O"], ["O", "O", "O", "B-ORG", "O"], ["B-PSN", "O", "O"]]
    X, y = [*X, ["York"]], [*y, ["B-ORG"]]
    found = baselines.known_entities(X, y, [["in", "New", "York", "York", "New", "is"]])
    assert found == [["O", "B-LOC", "I-LOC", "B-ORG", "O", "O"]]  # "is" was an entity once, but mostly not
    assert baselines.known_entities([["a"]], [["O"]], [["a", "b"]]) == [["O", "O"]]


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(ImportError, match=r"pip install \"rnnfast\[sklearn\]\""):
        baselines.bag_of_letters()(["a", "b"], [0, 1], ["a"])
    assert baselines.last_letter(["a", "b"], [0, 1], ["a"]) == [0]
