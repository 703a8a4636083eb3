"""Worked examples: a label for each step of a sequence: parts of speech, named entities, the frames of a recording.

Each is held against tables of what was seen, and against a linear model of a step and its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets import load_basic_motions, load_entities, load_treebank
from ..estimators import SequenceTagger
from ..metrics import accuracy, entity_f1
from ..plots import confusion_matrix
from ..preprocessing import split
from .baselines import commonest_tag, compare, known_entities, numbers_nearby, words_nearby
from .example import Example, Parts

__all__ = ["EXAMPLES"]

Array = NDArray[Any]
Tags = Sequence[Sequence[str]]
CLIPS, FRAMES = 6, (20, 60)  # in a recording; least and most of each that are shown


def cut(X: Tags, y: Tags, part: float) -> Parts:
    """80/10/10 by seed 0, or so much of each."""
    return Parts.of(X, y, split(len(X), (0.8, 0.1, 0.1), 0), part)


def confusions(model: Any, parts: Parts, axes: Any) -> Any:
    """How often each true label (row) was taken for each other one (column), step by step."""
    X, y = parts.test
    return confusion_matrix(y, model.predict(X), ax=axes)


# ---- parts of speech


def load_sentences(quick: bool) -> Parts:
    return cut(*load_treebank(), 0.05 if quick else 1)


def measure_words(parts: Parts, truth: Tags, predicted: Tags) -> dict[str, float]:
    """Accuracy, and that on words which are not in the training part."""
    seen = set(chain.from_iterable(parts.train[0]))
    unseen = [word not in seen for word in chain.from_iterable(parts.test[0])]
    pairs = zip(chain.from_iterable(truth), chain.from_iterable(predicted), unseen, strict=True)
    new = [(t, p) for t, p, is_new in pairs if is_new]
    return {"accuracy": accuracy(truth, predicted), "accuracy on unseen words": accuracy(*zip(*new, strict=True))}


def words_figures(model: Any, parts: Parts) -> dict[str, float]:
    X, y = parts.test
    return measure_words(parts, y, model.predict(X))


def words_baselines(parts: Parts) -> dict[str, dict[str, float]]:
    baselines = {
        "commonest tag of each word": commonest_tag(),
        "of unseen words, of their endings": commonest_tag(suffixes=(5, 4, 3, 2, 1)),
        "linear, a word and its neighbours": words_nearby(1),
    }
    return compare(parts, partial(measure_words, parts), baselines)


# ---- named entities


def load_news(quick: bool) -> Parts:
    return cut(*load_entities(), 0.5 if quick else 1)


def measure_entities(truth: Tags, predicted: Tags) -> dict[str, float]:
    return {"entity F1": entity_f1(truth, predicted), "accuracy": accuracy(truth, predicted)}


def entities_figures(model: Any, parts: Parts) -> dict[str, float]:
    X, y = parts.test
    return measure_entities(y, model.predict(X))


def entities_baselines(parts: Parts) -> dict[str, dict[str, float]]:
    baselines = {
        "commonest tag of each word": commonest_tag(),
        "longest known entity": known_entities,
        "linear, a word and its neighbours": words_nearby(1),
    }
    return compare(parts, measure_entities, baselines)


# ---- frames of a recording


def load_recordings(quick: bool) -> Parts:
    """Recordings in which one activity follows another, and the activity of each frame.

    Made of pieces of clips, drawn at random by seed 0: of the published training part to train and, of other clips, to
    choose the best pass with; of the test part to measure on.
    """
    X, y, X_test, y_test = load_basic_motions()
    rng = np.random.default_rng(0)
    train, valid = (([X[i] for i in rows], [y[i] for i in rows]) for rows in split(len(X), (0.75, 0.25), 0))
    few = 4 if quick else 1
    recordings = partial(record, rng)
    return Parts(recordings(*train, 60 // few), recordings(X_test, y_test, 40 // few), recordings(*valid, 20 // few))


def record(rng: np.random.Generator, clips: list[Array], labels: list[str], n: int) -> tuple[Any, Any]:
    """n recordings of some clips each, (T_i, D), and the T_i labels of their frames."""
    X, y = [], []
    for _ in range(n):
        pieces, activities = [], []
        for clip in rng.choice(len(clips), CLIPS):
            frames = int(rng.integers(FRAMES[0], FRAMES[1] + 1))
            start = int(rng.integers(len(clips[clip]) - frames + 1))
            pieces.append(clips[clip][start : start + frames])
            activities += [labels[clip]] * frames
        X.append(np.concatenate(pieces))
        y.append(activities)
    return X, y


def measure_frames(truth: Tags, predicted: Tags) -> dict[str, float]:
    return {"accuracy": accuracy(truth, predicted)}


def frames_figures(model: Any, parts: Parts) -> dict[str, float]:
    X, y = parts.test
    return measure_frames(y, model.predict(X))


def frames_baselines(parts: Parts) -> dict[str, dict[str, float]]:
    baselines = {
        "linear, a frame": numbers_nearby(0),
        "linear, 7 frames": numbers_nearby(3),
        "linear, 21 frames": numbers_nearby(10),
    }
    return compare(parts, measure_frames, baselines)


def frames_picture(model: Any, parts: Parts, axes: Any) -> Any:
    """How probable the model finds each activity in each frame of a held-out recording; the line is the truth."""
    X, y = parts.test
    (probabilities,) = model.predict_proba(X[:1])
    classes = model.classes_.tolist()
    image = axes.imshow(probabilities.T, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.plot([classes.index(label) for label in y[0]], color="#D55E00", linewidth=1.5, drawstyle="steps-mid")
    axes.figure.colorbar(image, ax=axes, label="probability")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("frame (a tenth of a second)")
    return axes


EXAMPLES = [
    Example(
        name="pos",
        title="Parts of speech in Turkish",
        shape="many to many, aligned",
        dataset="treebank",
        estimator=SequenceTagger,
        params=dict(
            embedding_size=64, suffixes=(1, 2, 3), hidden_size=64, dropout=0.5, learning_rate=4e-3, max_epochs=18
        ),
        load=load_sentences,
        figures=words_figures,
        baselines=words_baselines,
        picture=confusions,
        goals={"accuracy": (">=", 0.938)},
        remark=(
            "Every fifth word of the test part is unseen; its last letters say most. The linear "
            "model of a word and its neighbours is a point behind."
        ),
    ),
    Example(
        name="entities",
        title="Named entities in Japanese news",
        shape="many to many, aligned",
        dataset="entities",
        estimator=SequenceTagger,
        params=dict(embedding_size=64, suffixes=(1, 2), hidden_size=64, dropout=0.5, learning_rate=4e-3, max_epochs=40),
        load=load_news,
        figures=entities_figures,
        baselines=entities_baselines,
        picture=confusions,
        goals={"entity F1": (">=", 0.58)},
        remark=(
            "400 sentences to learn from, 50 to measure on: figures move by several points with the seed "
            "and the split. The linear model wins on the test part, the network on the validation part."
        ),
    ),
    Example(
        name="frames",
        title="What a person does in each frame of a recording",
        shape="many to many, aligned",
        dataset="basic_motions",
        estimator=SequenceTagger,
        params=dict(hidden_size=32, dropout=0.3, learning_rate=3e-3, batch_size=8, max_epochs=25),
        load=load_recordings,
        figures=frames_figures,
        baselines=frames_baselines,
        picture=frames_picture,
        goals={"accuracy": (">=", 0.95)},
        remark=(
            "The network wins by far: no single frame shows an activity, and it chooses for itself how "
            "far it looks. The recordings are made of cut clips, so that the joints are more abrupt than "
            "a person's."
        ),
    ),
]
