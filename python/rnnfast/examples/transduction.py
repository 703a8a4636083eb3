"""Worked examples: a sequence for each sequence: names to another script, letters to sounds, a language to another.

Figures are of greedy predictions. The baselines are tables: what each letter (or word) becomes, alone or among its
neighbours, counted on the training and the validation part.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from .. import plots
from ..datasets import load_pronunciations, load_transliteration, load_verses
from ..estimators import SequenceTransducer
from ..metrics import error_rate, exact_match
from ..preprocessing import split, tokenize
from .example import Example, Parts
from .language_baselines import Rewriter

__all__ = ["EXAMPLES"]

WORDS = 20_000  # of the pronouncing dictionary, drawn at random
LONGEST = 12  # words of a verse


def parts_of(sources: list[Any], targets: list[Any], quick: bool) -> Parts:
    """Pairs cut 80/10/10 at random; of a tenth of them with `quick`."""
    return Parts.of(sources, targets, split(len(sources), [0.8, 0.1, 0.1], seed=0), 0.1 if quick else 1.0)


def scores(truths: list[Any], predictions: list[Any]) -> dict[str, float]:
    """Share of targets that are right from end to end, and edits per true letter, phone or word."""
    return {"exact match": exact_match(truths, predictions), "error rate": error_rate(truths, predictions)}


def figures(model: Any, parts: Parts) -> dict[str, float]:
    return scores(parts.test[1], model.predict(parts.test[0]))


def known(parts: Parts) -> tuple[list[Any], list[Any]]:
    """The pairs of the training and the validation part."""
    assert parts.valid is not None
    return [*parts.train[0], *parts.valid[0]], [*parts.train[1], *parts.valid[1]]


def letters_baselines(parts: Parts) -> dict[str, dict[str, float]]:
    rewrite = Rewriter(*known(parts), neighbours=2)
    names = "letter by letter", "with one neighbour on each side", "with two"
    sources, targets = parts.test
    return {name: scores(targets, [rewrite(s, k) for s in sources]) for k, name in enumerate(names)}


def attention_picture(model: Any, parts: Parts, axes: Any) -> Any:
    """Where the decoder looked while it wrote the longest of the first few targets."""
    source = max(parts.test[0][:20], key=len)
    looked = model.attention_weights(source)
    return plots.attention(looked.weights, looked.source, looked.target, axes)


def curves(model: Any, parts: Parts, axes: Any) -> Any:
    """Loss by pass, in training and on the validation part."""
    return plots.learning_curves(model.history_, axes)


def load_towns(quick: bool) -> Parts:
    """Towns of six countries in Latin and in Cyrillic letters."""
    return parts_of(*load_transliteration(), quick)


def load_sounds(quick: bool) -> Parts:
    """English words and their phones, without stress."""
    words, phones = load_pronunciations(stress=False)
    rows = split(len(words), [WORDS / len(words), 1 - WORDS / len(words)], seed=0)[0]
    return parts_of([words[i] for i in rows], [phones[i] for i in rows], quick)


# ---- verses


def load_short_verses(quick: bool) -> Parts:
    """Verses of at most twelve words in English and in Spanish, lower-cased and without punctuation."""
    english, spanish = ([tokenize(verse) for verse in verses] for verses in load_verses())
    pairs = [(a, b) for a, b in zip(english, spanish, strict=True) if 0 < len(a) <= LONGEST and 0 < len(b) <= LONGEST]
    return parts_of([a for a, _ in pairs], [b for _, b in pairs], quick)


def verses_baselines(parts: Parts) -> dict[str, dict[str, float]]:
    """Word by word, and the translation of the known verse that shares most words."""
    sources, targets = known(parts)
    rewrite = Rewriter(sources, targets)
    bags = [Counter(source) for source in sources]

    def nearest(verse: list[str]) -> list[str]:
        bag = Counter(verse)
        shared = [2 * (bag & other).total() / (len(verse) + other.total()) for other in bags]
        return list(targets[shared.index(max(shared))])

    tests, truths = parts.test
    return {
        "word by word": scores(truths, [list(rewrite(verse)) for verse in tests]),
        "the most similar verse": scores(truths, [nearest(verse) for verse in tests]),
    }


TOWNS = Example(
    name="transliteration",
    title="Names of towns from Latin to Cyrillic letters",
    shape="many to many, unaligned",
    dataset="transliteration",
    estimator=SequenceTransducer,
    params=dict(
        embedding_size=32, hidden_size=128, bidirectional=True, learning_rate=3e-3, batch_size=64, max_epochs=16
    ),
    load=load_towns,
    figures=figures,
    baselines=letters_baselines,
    picture=attention_picture,
    goals={"exact match": (">=", 0.76), "error rate": ("<=", 0.040)},
    remark="Better than counting what a letter becomes alone or beside one neighbour, and by a little than beside two: "
    "most of the rule is local. Russian and Ukrainian forms of one town are a coin's toss, which no model can win.",
)

EXAMPLES = [
    TOWNS,
    replace(
        TOWNS,
        name="transliteration_without_attention",
        title="Names of towns from Latin to Cyrillic letters, through one state",
        params={**TOWNS.params, "attention": False},
        picture=curves,
        goals={"exact match": (">=", 0.56), "error rate": ("<=", 0.16)},
        remark="The whole name must fit into one state: much worse than with attention, and than a table of letters "
        "with one neighbour. It is here to show what attention is for.",
    ),
    replace(
        TOWNS,
        name="sounds",
        title="Letters to sounds: how English words are pronounced",
        dataset="pronunciations",
        params={**TOWNS.params, "dropout": 0.3},
        load=load_sounds,
        goals={},
        remark="Better than tables of letters among their neighbours. A random sixth of the dictionary, the first "
        "pronunciation of each word, without stress: a third of it are names, which follow no rule.",
    ),
    replace(
        TOWNS,
        name="verses",
        title="Short verses from English to Spanish",
        dataset="verses",
        params={**TOWNS.params, "dropout": 0.5, "batch_size": 16, "learning_rate": 1e-3, "max_epochs": 20},
        load=load_short_verses,
        baselines=verses_baselines,
        goals={},
        remark="Too few verses: word by word is nearer to the truth, and the known verse that shares most words is "
        "more often right from end to end, for verses repeat. A network that translates needs a thousand times more.",
    ),
]
