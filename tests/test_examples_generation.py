"""examples/generation.py: parts of a text and of whole sequences, figures, melodies as MIDI files, every example small.

Data is skipped where it cannot be fetched, unless RNNFAST_REQUIRE_DATA=1.
"""

from __future__ import annotations

import functools
import math
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from rnnfast.datasets import DatasetError, available, load_topics
from rnnfast.examples import generation
from rnnfast.examples.example import Parts

EXAMPLES = {example.name: example for example in generation.EXAMPLES}


@functools.cache
def load(name: str, quick: bool = True) -> Parts:
    try:
        return EXAMPLES[name].load(quick)
    except DatasetError as error:
        if os.environ.get("RNNFAST_REQUIRE_DATA") == "1":
            raise
        pytest.skip(str(error))


def test_names() -> None:
    assert len(EXAMPLES) == len(generation.EXAMPLES)
    assert {example.dataset for example in generation.EXAMPLES} <= set(available())
    assert all(example.remark and example.title for example in generation.EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_small_run(name: str) -> None:
    example = EXAMPLES[name]
    parts = load(name)
    baselines = example.baselines(parts)
    run = example.run(seed=1, parts=parts, quick=True, hidden_size=32)
    assert run.figures.keys() >= example.goals.keys()
    assert 0 < run.figures["bits"] < math.log2(run.model.encoder_.size) + 1
    assert all(0 < figures["bits"] < 12 for figures in baselines.values())
    figure = Figure()
    axes = figure.subplots()
    assert example.picture(run.model, parts, axes) is axes
    figure.draw_without_rendering()
    assert axes.has_data()


def test_parts_of_a_text() -> None:
    parts = load("text", quick=False)
    assert parts.valid is not None
    text = load_topics()
    assert parts.train[0] + parts.valid[0] + parts.test[0] == text
    assert len(parts.train[0]) == int(0.85 * len(text))
    assert len(parts.test[0]) == len(text) - int(0.9 * len(text))
    words = load("words", quick=False)
    assert set(words.test[0]) <= set(words.train[0])
    assert 0.03 < words.test[0].count(generation.RARE) / len(words.test[0]) < 0.3


def test_more_letters_before_it_cost_fewer_bits() -> None:
    bits = [figures["bits"] for figures in EXAMPLES["text"].baselines(load("text")).values()]
    assert bits[0] > bits[1] > bits[2] > bits[3]
    assert len(bits) == 6


def test_the_text_beats_letters_alone() -> None:
    text = load_topics()[:60_000]
    parts = Parts((text[:50_000], None), (text[50_000:], None))
    run = EXAMPLES["text"].run(parts=parts, hidden_size=64, embedding_size=32, max_epochs=4, batch_size=8)
    letters = generation.ngrams([text[:50_000]], [text[50_000:]], 1, "letters")
    assert run.figures["bits"] < letters["0 letters before it"]["bits"] - 0.8
    assert run.model.generate(prompt="The ", max_length=20, random_state=0)[0].startswith("The ")


def test_names_by_sex() -> None:
    example = EXAMPLES["invented_names"]
    parts = load("invented_names", quick=False)
    assert parts.valid is not None
    every = [parts.train[0], parts.valid[0], parts.test[0]]
    assert len({name for names in every for name in names}) == sum(map(len, every)) == 4832
    run = example.run(parts=parts, max_epochs=5, hidden_size=48, batch_size=16)
    alone = example.baselines(parts)["0 letters before it"]
    assert run.figures["bits"] < alone["bits"] - 1
    assert run.figures["bits"] < run.figures["bits under the other sex"] - 0.1
    assert run.figures["accuracy of the likelier sex"] > 0.8
    assert run.figures["balanced accuracy"] > 0.6
    drawn = run.model.generate(5, condition="female", random_state=0)
    assert len(drawn) == 5
    assert all(isinstance(name, str) for name in drawn)


def test_scores_of_names_by_hand() -> None:
    parts = Parts((["a"] * 4, ["female"] * 3 + ["male"]), (["Ann", "Bo"], ["female", "male"]))
    log_p = np.array([[-8.0, -16.0], [-9.0, -8.0]])  # of Bo the prior decides
    assert generation.names_scores(log_p, parts) == {
        "bits": 16 / 7,
        "bits under the other sex": 25 / 7,
        "accuracy of the likelier sex": 0.5,
        "balanced accuracy": 0.5,
    }


def test_no_melody_is_in_two_parts() -> None:
    parts = load("music", quick=False)
    assert parts.valid is not None

    def intervals(tokens: list[str]) -> tuple[int, ...]:
        return tuple(np.diff([int(token.split(":")[0]) for token in tokens]).tolist())

    train, valid, test = ({intervals(tokens) for tokens in part[0]} for part in (parts.train, parts.valid, parts.test))
    assert not train & valid
    assert not train & test
    assert not valid & test
    assert sum(parts.sizes().values()) == 407


def notes_in(path: Path) -> list[tuple[int, int]]:
    """(tick, key) where notes begin, in a Standard MIDI File of one track."""
    data = path.read_bytes()
    assert struct.unpack(">4sIHH", data[:12]) == (b"MThd", 6, 0, 1)
    assert struct.unpack(">4sI", data[14:22]) == (b"MTrk", len(data) - 22)
    lengths: dict[int, Any] = {0x80: 2, 0x90: 2, 0xC0: 1}
    notes, now, place = [], 0, 22
    while place < len(data):
        delta, more = 0, True
        while more:
            delta, more, place = delta << 7 | data[place] & 0x7F, bool(data[place] & 0x80), place + 1
        now += delta
        status, first = data[place], data[place + 1]
        if status == 0x90:
            notes.append((now, first))
        place += 3 + data[place + 2] if status == 0xFF else 1 + lengths[status]
    assert data[-3:] == b"\xff\x2f\x00"
    return notes


def test_a_melody_is_written(tmp_path: Path) -> None:
    example = EXAMPLES["music"]
    parts = load("music")
    model = example.make(hidden_size=16, max_epochs=1).fit(parts.train[0])
    path = tmp_path / "melody.mid"
    tokens = generation.write_melody(model, path, seed=2)
    pairs = [token.split(":") for token in tokens]
    starts = np.cumsum([0, *(60 * int(duration) for _, duration in pairs)]).tolist()
    expected = [(start, int(pitch)) for (pitch, _), start in zip(pairs, starts, strict=False) if pitch != "-1"]
    assert len(expected) > 3
    assert notes_in(path) == expected
    assert generation.write_melody(model, path, seed=2) == tokens
