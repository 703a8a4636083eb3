"""examples/tagging.py: parts that share nothing, every example small, and better than the best constant answer.

Data is skipped where it cannot be fetched, unless RNNFAST_REQUIRE_DATA=1.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from itertools import chain, groupby
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from rnnfast.datasets import DatasetError, available, load_basic_motions
from rnnfast.examples import tagging
from rnnfast.examples.example import Parts

EXAMPLES = {example.name: example for example in tagging.EXAMPLES}
SIZES = {
    "pos": {"train": 3881, "valid": 485, "test": 485},
    "entities": {"train": 400, "valid": 50, "test": 50},
    "frames": {"train": 60, "valid": 20, "test": 40},
}


def of_data(read: Any, *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except DatasetError as error:
        if os.environ.get("RNNFAST_REQUIRE_DATA") == "1":
            raise
        pytest.skip(str(error))


@functools.cache
def load(name: str, quick: bool = True) -> Parts:
    parts: Parts = of_data(EXAMPLES[name].load, quick)
    return parts


def test_names() -> None:
    assert list(EXAMPLES) == list(SIZES)
    assert {example.dataset for example in EXAMPLES.values()} <= set(available())
    assert all(example.remark and example.title for example in EXAMPLES.values())


@pytest.mark.parametrize("name", EXAMPLES)
def test_parts(name: str) -> None:
    parts, quick = load(name, quick=False), load(name)
    assert parts.sizes() == SIZES[name]
    assert all(few <= 0.52 * SIZES[name][part] for part, few in quick.sizes().items())
    for X, y in (parts.train, parts.valid, parts.test, quick.train):  # type: ignore[misc]
        assert [len(x) for x in X] == [len(tags) for tags in y]


@pytest.mark.parametrize("name", ["pos", "entities"])
def test_sentences_are_cut_once(name: str) -> None:
    parts = load(name, quick=False)
    assert parts.valid is not None
    X, y = of_data(available()[EXAMPLES[name].dataset].load)
    cut = Counter((*map(tuple, pair),) for part in (parts.train, parts.valid, parts.test) for pair in zip(*part))  # noqa: B905
    assert cut == Counter((*map(tuple, pair),) for pair in zip(X, y, strict=True))


def test_recordings_are_made_of_clips_of_one_part_each() -> None:
    """Each piece is a piece of a clip with its label, and no clip serves two parts."""
    X_train, y_train, X_test, y_test = of_data(load_basic_motions)
    frames = {frame.tobytes(): (i, label) for i, (clip, label) in enumerate(
        zip([*X_train, *X_test], [*y_train, *y_test], strict=True)) for frame in clip}  # fmt: skip
    parts = load("frames", quick=False)
    clips = []
    for X, y in (parts.train, parts.valid, parts.test):  # type: ignore[misc]
        found = [[frames[frame.tobytes()] for frame in x] for x in X]
        assert [[label for _, label in steps] for steps in found] == y
        clips.append({clip for steps in found for clip, _ in steps})
        lengths = [len(list(piece)) for steps in found for _, piece in groupby(steps)]
        assert min(lengths) >= 20  # two pieces of one clip may follow each other
    train, valid, test = clips
    assert not train & valid
    assert not (train | valid) & test
    assert max(train | valid) < len(X_train) <= min(test)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_small_run(name: str) -> None:
    example, parts = EXAMPLES[name], load(name)
    run = example.run(seed=1, parts=parts, quick=True, hidden_size=8)
    assert len(run.model.history_["loss"]) == 1
    assert run.figures.keys() >= example.goals.keys()
    baselines = example.baselines(parts)
    assert len(baselines) >= 2
    for figures in (run.figures, *baselines.values()):
        assert figures.keys() == run.figures.keys()
        assert all(0 <= value <= 1 for value in figures.values())
    figure = Figure()
    axes = figure.subplots()
    assert example.picture(run.model, parts, axes) is axes
    figure.draw_without_rendering()
    assert axes.has_data()


def test_accuracy_on_unseen_words() -> None:
    parts = Parts(([["a", "b"]], [["X", "Y"]]), ([["a", "c"], ["d"]], [["X", "Y"], ["Y"]]))
    figures = tagging.measure_words(parts, parts.test[1], [["Y", "Y"], ["X"]])
    assert figures == {"accuracy": 1 / 3, "accuracy on unseen words": 1 / 2}


@pytest.mark.parametrize(("name", "passes"), [("pos", 6), ("frames", 10)])
def test_it_learns(name: str, passes: int) -> None:
    """Far better than the best constant answer."""
    example, parts = EXAMPLES[name], load(name)
    model = example.make(0, max_epochs=passes)
    example.train(model, parts)
    tags = list(chain.from_iterable(parts.test[1]))
    assert example.figures(model, parts)["accuracy"] > max(Counter(tags).values()) / len(tags) + 0.2


def test_recordings_are_the_same_each_time() -> None:
    for a, b in zip(load("frames").test[0], of_data(EXAMPLES["frames"].load, True).test[0], strict=True):
        np.testing.assert_array_equal(a, b)
