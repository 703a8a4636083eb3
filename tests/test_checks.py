"""checks.py: what is wrong with an argument, by its name, wherever it is given."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import datasets, sampling
from rnnfast.checks import generator_of

LOOP: list[Any] = []
LOOP.append(LOOP)
X = np.ones((4, 3, 2), np.float32)
MASKED = np.ma.array(X, mask=X == 1)
RAGGED: Any = [[1.0], [1.0, 2.0]]


@pytest.mark.parametrize("seed", [LOOP, "x", 1.5, True, [1, "x"], -1, [3, -1], np.array([1.5]), np.array(5), {"a": 1}])
def test_seeds(seed: Any) -> None:
    """One that holds itself ends NumPy's process."""
    text = "seed: expected None, an integer of 0 or more, several, or a generator, got "
    for call in (
        lambda: rnnfast.LSTM(2, 3, seed=seed),
        lambda: rnnfast.Dense(2, 3, seed=seed),
        lambda: rnnfast.Embedding(2, 3, seed=seed),
        lambda: rnnfast.Network(2, 3, 2, seed=seed),
        lambda: rnnfast.EncoderDecoder(4, 4, 3, seed=seed),
        lambda: rnnfast.fit(rnnfast.Network(2, 3, 2, seed=0), X, [0, 1, 0, 1], seed=seed),
        lambda: rnnfast.split(10, (0.5, 0.5), seed=seed),
        lambda: datasets.adding_problem(3, 4, seed),
    ):
        with pytest.raises((TypeError, ValueError), match=re.escape(text)):
            call()


def test_seeds_that_are_such() -> None:
    for seed in (
        None,
        0,
        2**100,
        np.int8(3),
        [1, 2],
        np.array([1, 2]),
        np.random.SeedSequence(1),
        np.random.PCG64(1),
    ):
        assert isinstance(generator_of(seed), np.random.Generator)
    assert generator_of([1, 2]).random() == np.random.default_rng([1, 2]).random()
    rng = np.random.default_rng(0)
    assert generator_of(rng) is rng


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("logits", lambda: rnnfast.softmax(RAGGED)),
        ("logits", lambda: sampling.log_softmax(RAGGED)),
        ("logits", lambda: sampling.sample(RAGGED, 0)),
        ("prediction", lambda: rnnfast.squared_error(RAGGED, RAGGED)),
        ("target", lambda: rnnfast.squared_error(X[0], RAGGED)),
        ("targets", lambda: rnnfast.softmax_cross_entropy(X[0], RAGGED)),
        ("class_weight", lambda: rnnfast.softmax_cross_entropy(X[0], [0, 1, 0], class_weight=RAGGED)),
        ("lengths", lambda: rnnfast.softmax_cross_entropy(X, np.zeros((4, 3), int), lengths=RAGGED)),
        ("x", lambda: rnnfast.Dense(2, 3).forward(RAGGED)),
        ("ids", lambda: rnnfast.Embedding(2, 3).forward(RAGGED)),
        ("state", lambda: rnnfast.GRU(2, 3).forward(X, (RAGGED,))),
        ("condition", lambda: rnnfast.Sequences(X, condition=RAGGED)),
        ("ids", lambda: rnnfast.Vocabulary(["a"]).decode(RAGGED)),
        ("lengths", lambda: rnnfast.SequenceClassifier().fit(X, [0, 1, 0, 1], lengths=RAGGED)),
    ],
)
def test_parts_of_unequal_shape(name: str, call: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected one array, got parts of unequal shape"):
        call()


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("X", lambda: rnnfast.SequenceClassifier().fit(MASKED, [0, 1, 0, 1])),
        ("y", lambda: rnnfast.SequenceClassifier().fit(X, np.ma.array([0, 1, 0, 1], mask=[0, 0, 0, 1]))),
        ("y", lambda: rnnfast.SequenceRegressor().fit(X, np.ma.array([0.0, 1, 0, 1], mask=[0, 0, 0, 1]))),
        ("x", lambda: rnnfast.Sequences(MASKED)),
        ("x", lambda: rnnfast.Dense(2, 3).forward(MASKED)),
        ("prediction", lambda: rnnfast.squared_error(MASKED, X)),
        ("x", lambda: rnnfast.streaming.arrays(MASKED)),
    ],
)
def test_masks_are_not_passed_over(name: str, call: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{name}: expected an array without masked numbers, got \d+: see lengths="):
        call()


def test_other_arguments() -> None:
    for wrong in (1j, "1", [1.0], True, None, np.complex64(1), np.nan, np.inf):
        for kind in (rnnfast.LSTM, rnnfast.GRU, lambda *sizes, **given: rnnfast.EncoderDecoder(*sizes, 4, **given)):
            with pytest.raises((TypeError, ValueError), match="forget_bias: expected a "):
                kind(3, 4, forget_bias=wrong)
    with pytest.raises(TypeError, match=r"state: expected a mapping, as state\(\) returns, got list"):
        rnnfast.SGD().load_state([])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="file: expected a text file, got 5"):
        rnnfast.show_config(5)
    with pytest.raises(TypeError, match="source: expected a string, or a sequence of tokens, got 5"):
        rnnfast.plots.attention([[1.0]], 5, ["a"])  # type: ignore[arg-type]
