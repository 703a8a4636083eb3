"""examples/classification.py: parts that share nothing, every example small, and better than the best constant answer.

Data is skipped where it cannot be fetched, unless RNNFAST_REQUIRE_DATA=1.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from rnnfast.datasets import DatasetError, available
from rnnfast.examples import classification
from rnnfast.examples.example import Parts
from rnnfast.preprocessing import tokenize

EXAMPLES = {example.name: example for example in classification.EXAMPLES}
SIZES = {
    "sentiment": {"train": 8454, "valid": 1057, "test": 1057},
    "text_sources": {"train": 18959, "valid": 2370, "test": 2370},
    "vowels": {"train": 270, "test": 370},
    "motion": {"train": 40, "test": 40},
    "gesture": {"train": 50, "test": 50},
    "digits": {"train": 1438, "valid": 179, "test": 180},
    "gender": {"train": 3866, "test": 966},
}
WHOLE = {"sentiment": "sentiment", "text_sources": "text_sources", "digits": "digits", "gender": "names"}


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


def labelled(*parts: tuple[Any, Any] | None) -> Counter[Any]:
    """How often each sequence comes with each label."""
    pairs = [pair for part in parts if part is not None for pair in zip(*part, strict=True)]
    return Counter((x if isinstance(x, str) else np.asarray(x).tobytes(), label) for x, label in pairs)


def test_names() -> None:
    assert list(EXAMPLES) == list(SIZES)
    assert {example.dataset for example in EXAMPLES.values()} <= set(available())
    assert all(example.remark and example.title for example in EXAMPLES.values())


@pytest.mark.parametrize("name", EXAMPLES)
def test_parts(name: str) -> None:
    parts, quick = load(name, quick=False), load(name)
    assert parts.sizes() == SIZES[name]
    assert all(4 * few < 3 * SIZES[name][part] for part, few in quick.sizes().items())
    assert labelled(quick.train) <= labelled(parts.train)
    assert labelled(quick.test) <= labelled(parts.test)
    assert set(quick.train[1]) == set(parts.train[1])  # every class is there
    if name in WHOLE:  # cut by us: nothing is lost, nothing stands in two parts
        X, y = of_data(available()[WHOLE[name]].load)
        whole = labelled((list(X), np.asarray(y).tolist()))
        wordless = {pair: n for pair, n in whole.items() if isinstance(pair[0], str) and not tokenize(pair[0])}
        assert sum(wordless.values()) == (4 if name == "text_sources" else 0)
        assert labelled(parts.train, parts.valid, parts.test) == whole - Counter(wordless)
    else:
        assert not labelled(parts.train) & labelled(parts.test)


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


@pytest.mark.parametrize(("name", "passes", "least"), [("vowels", 10, 0.7), ("digits", 10, 0.7), ("gender", 5, 0.85)])
def test_it_learns(name: str, passes: int, least: float) -> None:
    """Better than the best constant answer, by far."""
    example, parts = EXAMPLES[name], load(name, quick=name != "gender")
    model = example.make(0, max_epochs=passes)
    example.train(model, parts)
    accuracy = example.figures(model, parts)["accuracy"]
    constant = max(Counter(parts.test[1]).values()) / len(parts.test[1])
    assert accuracy > max(least, constant + 0.03)
