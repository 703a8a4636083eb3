"""Worked examples: what comes next in a text, letter by letter and word by word, in a name and in a tune.

The figure is how many bits each token costs on held-out data, its end included where it has one, beside n-grams that
were counted on the same training data (and on the validation data, which they need for nothing else).
"""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import plots
from ..datasets import load_chorales, load_names, load_topics
from ..estimators import SequenceGenerator
from ..metrics import accuracy, balanced_accuracy
from ..music import note_of, write_midi
from ..preprocessing import split, tokenize
from .example import Example, Parts
from .language_baselines import NGrams

__all__ = ["EXAMPLES", "write_melody"]

Array = NDArray[Any]

OFTEN, RARE = 3, "<unk>"  # a word that comes less often in the training part is read and written as this one
SEXES = ("female", "male")


def bits(model: Any, parts: Parts) -> dict[str, float]:
    return {"bits": model.bits_per_token(parts.test[0])}


def known(parts: Parts) -> list[Any]:
    """The sequences of the training and the validation part."""
    assert parts.valid is not None
    return [*parts.train[0], *parts.valid[0]]


def ngrams(
    train: Iterable[Any], test: Iterable[Any], most: int, tokens: str, *, ends: bool = False
) -> dict[str, dict[str, float]]:
    """Bits per token of n-grams that know none, 1, ... `most` tokens before it."""
    counted = NGrams(most, train, ends=ends)
    return {f"{k} {tokens} before it": {"bits": counted.bits(test, k)} for k in range(most + 1)}


def curves(model: Any, parts: Parts, axes: Any) -> Any:
    """Loss by pass, in training and on the validation part."""
    return plots.learning_curves(model.history_, axes)


# ---- a text


def load_text(quick: bool) -> Parts:
    """Help texts of Python, joined: the first 85 % to train, 5 % to validate, the last 10 % to test."""
    text = load_topics()[: 20_000 if quick else None]
    train, rest = int(0.85 * len(text)), int(0.9 * len(text))
    return Parts((text[:train], None), (text[rest:], None), (text[train:rest], None))


def text_baselines(parts: Parts) -> dict[str, dict[str, float]]:
    return ngrams(["".join(known(parts))], [parts.test[0]], 5, "letters")


def text_picture(model: Any, parts: Parts, axes: Any, rows: int = 8, columns: int = 56, before: int = 200) -> Any:
    """A part of the held-out text, each letter on the bits that it costs."""
    text: str = parts.test[0]
    places = before + np.arange(rows * columns)
    p = model.predict_proba([text[i - before : i] for i in places])
    ids = model.encoder_.encode(text, "text")[places]
    cost = -np.log2(p[np.arange(len(ids)), ids]).reshape(rows, columns)
    image = axes.imshow(cost, cmap="Reds", vmin=0, vmax=10, aspect="auto")
    for place, (row, column) in zip(places, np.ndindex(rows, columns), strict=True):
        letter = {"\n": "↵"}.get(text[place], text[place])
        axes.text(column, row, letter, ha="center", va="center", family="monospace", fontsize=7)
    axes.set_axis_off()
    axes.figure.colorbar(image, ax=axes, label="bits")
    return axes


def load_words(quick: bool) -> Parts:
    """The same text as lower-cased words."""
    words = tokenize(load_topics())[: 4_000 if quick else None]
    train, rest = int(0.85 * len(words)), int(0.9 * len(words))
    often = {word for word, n in Counter(words[:train]).items() if n >= OFTEN}
    words = [word if word in often else RARE for word in words]
    return Parts((words[:train], None), (words[rest:], None), (words[train:rest], None))


def words_baselines(parts: Parts) -> dict[str, dict[str, float]]:
    return ngrams([known(parts)], [parts.test[0]], 3, "words")


# ---- names


def load_first_names(quick: bool) -> Parts:
    """First names of the United States and who has them, 80/10/10."""
    names, sexes = load_names()
    return Parts.of(names, sexes, split(len(names), [0.8, 0.1, 0.1], seed=0), 0.1 if quick else 1.0)


def names_figures(model: Any, parts: Parts) -> dict[str, float]:
    """Bits per letter of a name by the model of its own sex and of the other; which of them finds it likelier."""
    names = parts.test[0]
    log_p = np.column_stack([model.log_probability(names, [sex] * len(names)) for sex in SEXES])
    return names_scores(log_p / math.log(2), parts)


def names_scores(log_p: Array, parts: Parts) -> dict[str, float]:
    """Figures of log2 p(name | sex), (N, 2): the sex of the larger p(name | sex) p(sex) is the guess."""
    names, sexes = parts.test
    letters = sum(len(name) + 1 for name in names)
    own = np.array([SEXES.index(sex) for sex in sexes])
    rows, prior = np.arange(len(own)), np.log2([parts.train[1].count(sex) for sex in SEXES])
    guesses = [SEXES[k] for k in (log_p + prior).argmax(axis=1)]
    return {
        "bits": float(-log_p[rows, own].sum() / letters),
        "bits under the other sex": float(-log_p[rows, 1 - own].sum() / letters),
        "accuracy of the likelier sex": accuracy(sexes, guesses),
        "balanced accuracy": balanced_accuracy(sexes, guesses),
    }


def names_baselines(parts: Parts) -> dict[str, dict[str, float]]:
    """n-grams: one for all names, and one for each sex."""
    names, sexes = known(parts), [*parts.train[1], *(parts.valid or ([], []))[1]]
    found = {}
    counted = [NGrams(4, [n for n, s in zip(names, sexes, strict=True) if s == sex], ends=True) for sex in SEXES]
    for k in range(1, 5):
        log_p = np.array([[-of_sex.cost(name, k) for of_sex in counted] for name in parts.test[0]])
        found[f"{k} letters before it, for each sex"] = names_scores(log_p, parts)
    return ngrams(names, parts.test[0], 4, "letters", ends=True) | found


def names_picture(model: Any, parts: Parts, axes: Any) -> Any:
    """How much likelier held-out names are as women's than as men's."""
    names, sexes = parts.test
    female, male = (model.log_probability(names, [sex] * len(names)) for sex in SEXES)
    ratio = (female - male) / math.log(2)
    edges = np.linspace(-20, 20, 41)
    for sex in SEXES:
        of_sex = np.clip(ratio[np.array(sexes) == sex], -20, 20)
        axes.hist(of_sex, edges, alpha=0.6, density=True, label=f"{sex} names")
    axes.set_xlabel("log2 p(name | female) / p(name | male)")
    axes.set_ylabel("density of names")
    axes.legend()
    return axes


# ---- music


def load_melodies(quick: bool) -> Parts:
    """Soprano parts of Bach's chorales in C major or A minor, as tokens "pitch:duration"; 80/10/10 by melody.

    Versions of one melody with the same notes and rests, whatever their lengths and the key, are in one part.
    """
    melodies = load_chorales(transpose=True)
    versions: defaultdict[Any, list[list[str]]] = defaultdict(list)
    for melody in melodies:
        tokens = [f"{pitch}:{duration}" for pitch, duration in melody.tolist()]
        versions[tuple(np.diff(melody[:, 0]))].append(tokens)
    groups = list(versions.values())
    parts = split(len(groups), [0.8, 0.1, 0.1], seed=0)
    if quick:
        parts = [part[: len(part) // 8] for part in parts]
    train, valid, test = (([tokens for i in part for tokens in groups[i]], None) for part in parts)
    return Parts(train, test, valid)


def melodies_baselines(parts: Parts) -> dict[str, dict[str, float]]:
    return ngrams(known(parts), parts.test[0], 4, "notes", ends=True)


def write_melody(model: Any, path: str | os.PathLike[str], seed: int = 0, temperature: float = 0.9) -> list[str]:
    """Draw a melody from the model, write it as a MIDI file, and return its tokens."""
    (tokens,) = model.generate(max_length=120, temperature=temperature, random_state=seed)
    write_midi(path, map(note_of, tokens), tempo=96, program=19)  # a church organ
    return list(tokens)


def melodies_picture(model: Any, parts: Parts, axes: Any) -> Any:
    """Three melodies of the model, drawn note by note over time."""
    drawn = model.generate(3, max_length=60, temperature=0.9, random_state=0)
    for k, tokens in enumerate(drawn):
        notes = [note_of(token) for token in tokens]
        starts = np.cumsum([0, *(duration for _, duration in notes)])
        for (pitch, duration), start in zip(notes, starts, strict=False):
            if pitch is not None:
                axes.hlines(pitch + 24 * k, start, start + duration - 0.1, colors=f"C{k}", linewidth=4)
    axes.set_xlabel("quarter notes")
    axes.set_ylabel("pitch, each melody two octaves higher")
    return axes


EXAMPLES = [
    Example(
        name="text",
        title="The next letter of Python's help texts",
        shape="many to many",
        dataset="topics",
        estimator=SequenceGenerator,
        params=dict(
            level="character",
            embedding_size=64,
            hidden_size=256,
            batch_size=32,
            truncate=64,
            learning_rate=4e-3,
            schedule="cosine",
            max_epochs=10,
        ),
        load=load_text,
        figures=bits,
        baselines=text_baselines,
        picture=text_picture,
        goals={"bits": ("<=", 1.78)},
        remark="Better than n-grams of up to six letters. The text, and so the figures, differ by version of Python.",
    ),
    Example(
        name="words",
        title="The next word of Python's help texts",
        shape="many to many",
        dataset="topics",
        estimator=SequenceGenerator,
        params=dict(
            level="token",
            embedding_size=128,
            hidden_size=128,
            dropout=0.5,
            batch_size=8,
            truncate=32,
            learning_rate=4e-3,
            schedule="cosine",
            max_epochs=10,
        ),
        load=load_words,
        figures=bits,
        baselines=words_baselines,
        picture=curves,
        goals={"bits": ("<=", 7.46)},
        remark="So small a text, 55,000 words, says little of which word follows which: the network is hardly better "
        "than counted pairs of words. Words that come less than three times in the training part are one word here.",
    ),
    Example(
        name="invented_names",
        title="First names, women's or men's",
        shape="one to many",
        dataset="names",
        estimator=SequenceGenerator,
        params=dict(
            embedding_size=32,
            hidden_size=128,
            dropout=0.3,
            batch_size=16,
            learning_rate=3e-3,
            schedule="cosine",
            max_epochs=30,
        ),
        load=load_first_names,
        figures=names_figures,
        baselines=names_baselines,
        picture=names_picture,
        goals={"bits": ("<=", 2.77)},
        remark="Each name starts from its sex. It costs fewer bits than with n-grams, but as a judge of the sex (which "
        "makes the name likelier?) n-grams for each sex are as good or better.",
    ),
    Example(
        name="music",
        title="Melodies of Bach's chorales",
        shape="many to many",
        dataset="chorales",
        estimator=SequenceGenerator,
        params=dict(
            cell="gru",
            embedding_size=32,
            hidden_size=128,
            dropout=0.4,
            batch_size=8,
            learning_rate=3e-3,
            schedule="cosine",
            max_epochs=60,
            truncate=None,
        ),
        load=load_melodies,
        figures=bits,
        baselines=melodies_baselines,
        picture=melodies_picture,
        goals={"bits": ("<=", 3.35)},
        remark="Bits per note, pitch and duration. Better than n-grams of up to five notes, which know neither the "
        "beat nor where the line is going. `write_melody` writes a new one as a MIDI file.",
    ),
]
