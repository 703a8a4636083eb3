"""examples/transduction.py: pairs that stay in one part, baselines known by hand, and every example run small.

Data is skipped where it cannot be fetched, unless RNNFAST_REQUIRE_DATA=1; the verses, of Debian packages, in any case.
"""

from __future__ import annotations

import functools
import os

import pytest
from matplotlib.figure import Figure
from rnnfast.datasets import DatasetError, available
from rnnfast.examples import transduction
from rnnfast.examples.example import Parts

EXAMPLES = {example.name: example for example in transduction.EXAMPLES}


@functools.cache
def load(name: str, quick: bool = True) -> Parts:
    try:
        return EXAMPLES[name].load(quick)
    except DatasetError as error:
        if os.environ.get("RNNFAST_REQUIRE_DATA") == "1" and name != "verses":
            raise
        pytest.skip(str(error))


def test_names() -> None:
    assert len(EXAMPLES) == len(transduction.EXAMPLES)
    assert {example.dataset for example in transduction.EXAMPLES} <= set(available())
    assert all(example.remark and example.title for example in transduction.EXAMPLES)


def test_parts_have_no_pair_in_common() -> None:
    sources = [f"s{i}" for i in range(200)]
    parts = transduction.parts_of(sources, [s.upper() for s in sources], quick=False)
    assert parts.valid is not None
    assert parts.sizes() == {"train": 160, "valid": 20, "test": 20}
    assert sorted(s for part in (parts.train, parts.valid, parts.test) for s in part[0]) == sorted(sources)
    assert all(s.upper() == t for part in (parts.train, parts.valid, parts.test) for s, t in zip(*part, strict=True))
    small = transduction.parts_of(sources, sources, quick=True)
    assert small.sizes() == {"train": 16, "valid": 2, "test": 2}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_small_run(name: str) -> None:
    example = EXAMPLES[name]
    parts = load("transliteration") if name.startswith("transliteration") else load(name)
    baselines = example.baselines(parts)
    run = example.run(seed=1, parts=parts, quick=True, hidden_size=16)
    assert run.figures.keys() >= example.goals.keys()
    assert 0 <= run.figures["exact match"] <= 1
    assert 0 < run.figures["error rate"] < 20  # one pass: it does not know yet where to end
    assert all(0 <= figures["exact match"] < 1 and 0 < figures["error rate"] < 1.5 for figures in baselines.values())
    figure = Figure()
    axes = figure.subplots()
    assert example.picture(run.model, parts, axes) is axes
    figure.draw_without_rendering()
    assert axes.has_data()
    assert type(run.model.predict(parts.test[0][:1])[0]) is type(parts.test[1][0])


def test_transliteration_beats_a_table_of_letters() -> None:
    example, parts = EXAMPLES["transliteration"], load("transliteration")
    letters, one, two = example.baselines(parts).values()
    assert letters["exact match"] < one["exact match"]
    assert letters["error rate"] > one["error rate"]
    assert two["exact match"] > 0.4
    run = example.run(parts=parts, max_epochs=12, hidden_size=48, batch_size=16, learning_rate=5e-3)
    assert run.figures["exact match"] > letters["exact match"] + 0.1
    assert run.figures["error rate"] < letters["error rate"]


def test_sounds() -> None:
    parts = load("sounds")
    assert parts.sizes() == {"train": 1600, "valid": 200, "test": 200}
    phones = {phone for target in parts.train[1] for phone in target}
    assert len(phones) == 39
    assert not any(phone[-1].isdigit() for phone in phones)


def test_verses_by_hand() -> None:
    english = ["and god said", "god saw the light", "the light was good", "and the day"]
    spanish = ["y dios dijo", "dios vio la luz", "la luz era buena", "y el día"]
    train = [s.split() for s in english], [s.split() for s in spanish]
    test = [["god", "said", "the"], ["and", "god", "said"]], [["dios", "dijo", "la"], ["y", "dios", "dijo"]]
    figures = transduction.verses_baselines(Parts(train, test, ([], [])))
    assert figures["word by word"] == {"exact match": 1.0, "error rate": 0.0}
    assert figures["the most similar verse"] == {"exact match": 0.5, "error rate": pytest.approx(2 / 6)}


def test_verses() -> None:
    parts = load("verses")
    assert all(0 < len(verse) <= transduction.LONGEST for side in parts.train for verse in side)
    assert set(map(len, parts.train[0])) > {3, 12}
