"""Worked examples: a class for each sequence: texts, sounds, motions, names, and images read row by row.

Each is held against linear models that see no order, or little of it; where one of those wins, the remark says so.
Data without a published split is cut by seed 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets import (
    load_basic_motions,
    load_digits,
    load_japanese_vowels,
    load_names,
    load_pickup_gesture,
    load_sentiment,
    load_text_sources,
)
from ..diagnostics import hidden_states
from ..estimators import SequenceClassifier
from ..metrics import accuracy, balanced_accuracy
from ..plots import confusion_matrix
from ..plots import hidden_states as heat_map
from ..preprocessing import split, tokenize
from .baselines import Baseline, bag_of_letters, bag_of_words, compare, last_letter, naive_bayes, summaries
from .example import Example, Parts

__all__ = ["EXAMPLES"]

Array = NDArray[Any]
EIGHTY_TEN_TEN = (0.8, 0.1, 0.1)


def cut(X: Sequence[Any], y: Sequence[Any], fractions: Sequence[float], part: float) -> Parts:
    """Training, validation (of three fractions) and held-out part by seed 0, or so much of each."""
    return Parts.of(X, y, split(len(X), fractions, 0), part)


def measure(truth: Sequence[Any], predicted: Sequence[Any]) -> dict[str, float]:
    return {"accuracy": accuracy(truth, predicted), "balanced accuracy": balanced_accuracy(truth, predicted)}


def figures(model: Any, parts: Parts) -> dict[str, float]:
    X, y = parts.test
    return measure(y, model.predict(X).tolist())


def against(**baselines: Baseline) -> Callable[[Parts], dict[str, dict[str, float]]]:
    """The baselines of an example, by their names with spaces for underscores."""
    named = {name.replace("_", " "): baseline for name, baseline in baselines.items()}
    return partial(compare, measure=measure, baselines=named)


def confusions(model: Any, parts: Parts, axes: Any) -> Any:
    """How often each true class (row) was taken for each other one (column)."""
    X, y = parts.test
    return confusion_matrix(y, model.predict(X).tolist(), ax=axes)


# ---- texts


def load_reviews(quick: bool) -> Parts:
    return cut(*load_sentiment(), EIGHTY_TEN_TEN, 0.05 if quick else 1)


def load_sources(quick: bool) -> Parts:
    """Without the texts that have no word, as "!"."""
    texts, sources = zip(*((x, y) for x, y in zip(*load_text_sources(), strict=True) if tokenize(x)), strict=True)
    return cut(texts, sources, EIGHTY_TEN_TEN, 0.02 if quick else 1)


def states_picture(model: Any, parts: Parts, axes: Any) -> Any:
    """What each hidden unit holds while a held-out sentence is read: forwards above, backwards below."""
    sentence = next((x for x in parts.test[0] if "n't" in x and 8 <= len(tokenize(x)) <= 14), parts.test[0][0])
    ids = model.encoder_([sentence], model.network_.dtype)
    (states,) = hidden_states(model.network_, ids)
    return heat_map(states, tokenize(sentence), ax=axes)


# ---- series of numbers


def mean(x: Array) -> Array:
    result: Array = x.mean(axis=0)
    return result


def deviation(x: Array) -> Array:
    result: Array = x.std(axis=0)
    return result


def length(x: Array) -> Array:
    return np.array([len(x) / 100])


def published(load: Callable[[], Any], quick: bool) -> Parts:
    """The parts of a split that was published with the data; `quick` takes every third sequence."""
    X_train, y_train, X_test, y_test = load()
    every = slice(None, None, 3 if quick else 1)
    return Parts((X_train[every], y_train[every]), (X_test[every], y_test[every]))


def load_images(quick: bool) -> Parts:
    X, y = load_digits()
    return cut(list(X), y.tolist(), EIGHTY_TEN_TEN, 0.3 if quick else 1)


def load_genders(quick: bool) -> Parts:
    """Sorted before they are cut: the parts do not depend on the order in which the names came."""
    names, genders = zip(*sorted(zip(*load_names(), strict=True)), strict=True)
    return cut(names, genders, (0.8, 0.2), 0.1 if quick else 1)


SENTIMENT = Example(
    name="sentiment",
    title="Sentiment of movie reviews",
    shape="many to one",
    dataset="sentiment",
    estimator=SequenceClassifier,
    params=dict(min_count=2, embedding_size=64, hidden_size=64, dropout=0.5, learning_rate=2e-3, max_epochs=12),
    load=load_reviews,
    figures=figures,
    baselines=against(
        bag_of_words=bag_of_words(),
        words_and_pairs=bag_of_words(2),
        naive_Bayes_on_words_and_pairs=naive_bayes(2),
    ),
    picture=states_picture,
    goals={"accuracy": (">=", 0.785)},
    remark=(
        "About as good as the best linear model here, naive Bayes on words and pairs; on other splits "
        "that one wins by a point. Snippets of one review stand in all parts, as in the split that "
        "the goal comes from."
    ),
)
VOWELS = replace(
    SENTIMENT,
    name="vowels",
    title="Who speaks: nine men's vowels",
    dataset="japanese_vowels",
    params=dict(hidden_size=64, dropout=0.3, learning_rate=5e-3, batch_size=16, max_epochs=60),
    load=partial(published, load_japanese_vowels),
    baselines=against(means=summaries(mean), means_and_deviations=summaries(mean, deviation)),
    picture=confusions,
    goals={"accuracy": (">=", 0.96)},
    remark=(
        "Logistic regression on each channel's mean and deviation is as good or better: what tells "
        "these speakers apart is hardly in the order. The published split has no validation part; the "
        "number of passes is fixed."
    ),
)

EXAMPLES = [
    SENTIMENT,
    replace(
        SENTIMENT,
        name="text_sources",
        title="Where a text is from: movie or product reviews, editorials, tweets",
        dataset="text_sources",
        params={**SENTIMENT.params, "max_epochs": 6},
        load=load_sources,
        picture=confusions,
        goals={},
        remark=(
            "The source of a text, not its topic: no set of news topics was found under a clear licence. "
            "Four of 23,703 texts have no word and are left out. Snippets of one review or editorial stand "
            "in all parts, which makes the task easier."
        ),
    ),
    VOWELS,
    replace(
        VOWELS,
        name="motion",
        title="What a person with a smart watch does",
        dataset="basic_motions",
        params=dict(hidden_size=64, dropout=0.3, batch_size=8, max_epochs=60, schedule="cosine", clip_norm=1.0),
        load=partial(published, load_basic_motions),
        goals={"accuracy": (">=", 0.8)},
        remark=(
            "Logistic regression on the six means makes no mistake and wins: how the watch is held says "
            "it all. There are 40 clips to learn from, and one of the test part is 2.5 %. Settings were "
            "compared by five-fold cross-validation on the training part."
        ),
    ),
    replace(
        VOWELS,
        name="gesture",
        title="Who picks a remote control up",
        dataset="pickup_gesture",
        params=dict(hidden_size=64, dropout=0.3, batch_size=8, max_epochs=60, schedule="cosine", clip_norm=1.0),
        load=partial(published, load_pickup_gesture),
        baselines=against(
            means_and_deviations=summaries(mean, deviation),
            with_the_length=summaries(mean, deviation, length),
        ),
        goals={"accuracy": (">=", 0.6)},
        remark=(
            "Slightly better than a linear model that is told how long each gesture takes, and far better "
            "than one that is not. Five gestures of each person to learn from, of up to 361 steps: "
            "clipped gradients and a falling learning rate are needed. One gesture of the test part is 2 "
            "%."
        ),
    ),
    replace(
        VOWELS,
        name="digits",
        title="Handwritten digits, read row by row",
        dataset="digits",
        params=dict(hidden_size=64, dropout=0.3, learning_rate=5e-3, max_epochs=30),
        load=load_images,
        baselines=against(all_pixels=summaries(np.ravel)),
        goals={"accuracy": (">=", 0.96)},
        remark=(
            "An image as a sequence of eight rows. Logistic regression on all pixels at once is close "
            "behind; a convolutional network would be the usual choice."
        ),
    ),
    replace(
        SENTIMENT,
        name="gender",
        title="Female or male: first names",
        dataset="names",
        params=dict(
            level="character",
            cell="gru",
            bidirectional=False,
            embedding_size=16,
            hidden_size=64,
            dropout=0.3,
            learning_rate=3e-3,
            max_epochs=20,
        ),
        load=load_genders,
        baselines=against(last_letter=last_letter, groups_of_letters=bag_of_letters()),
        picture=confusions,
        goals={"accuracy": (">=", 0.885), "balanced accuracy": (">=", 0.77)},
        remark=(
            "Logistic regression on runs of up to four letters wins. The 331 names that are both are left "
            "out, and four of five of the others are female: hence balanced accuracy."
        ),
    ),
]
