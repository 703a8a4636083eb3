"""Example: one worked task, from real data to a figure beside honest baselines and a picture.

The modules beside this file describe the tasks; the command line, benchmarks/tasks.py and the tests run them. An
example is data and four small functions; how it is trained is its estimator's matter.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = ["Example", "Parts", "Run"]


@dataclass(frozen=True)
class Parts:
    """A data set, cut: (X, y) to train on, to choose the best pass with, and to measure on; y is None for generation.

    `extra` holds what figures and baselines need beside that (dates, scales, what was left out).
    """

    train: tuple[Any, Any]
    test: tuple[Any, Any]
    valid: tuple[Any, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, X: Sequence[Any], y: Sequence[Any], rows: Sequence[Any], part: float = 1.0) -> Self:
        """Rows of a data set: to train on, to choose the best pass with where there are three, and to measure on.

        Of each only the first `part`: rows at random stay so.
        """
        rows = [each[: math.ceil(part * len(each))] for each in rows]
        train, *valid, test = (([X[i] for i in each], [y[i] for i in each]) for each in rows)
        return cls(train, test, valid[0] if valid else None)

    def sizes(self) -> dict[str, int]:
        """How many sequences (letters, of one long text) each part has."""
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        return {name: len(part[0]) for name, part in parts.items() if part is not None}


@dataclass(frozen=True)
class Run:
    """What came out: `figures` on held-out data, and the fitted model."""

    figures: dict[str, float]
    seconds: float  # of training
    model: Any
    parts: Parts


@dataclass(frozen=True)
class Example:
    """A worked task.

    Attributes
    ----------
    name : str
        What ``rnnfast train NAME`` calls it.
    title, shape : str
        "Sentiment of movie reviews"; "many to one", ...
    dataset : str
        The name in :func:`rnnfast.datasets.available`.
    estimator : type
        Of rnnfast, made with `params` and a ``random_state``.
    load : function (quick) -> Parts
        With `quick` a small part of the data, for tests.
    figures : function (model, parts) -> dict
        Figures on ``parts.test``, by name; of a kind in which `goals` are.
    baselines : function (parts) -> dict
        Name of a baseline -> its figures, measured on the same test part.
    picture : function (model, parts, axes) -> Axes
        Something worth looking at, drawn into matplotlib's axes.
    goals : dict
        Figure -> (">=" or "<=", number): what is to be met on the mean of three seeds.
    remark : str
        What a reader must know: what wins and what does not, caution about the data.
    """

    name: str
    title: str
    shape: str
    dataset: str
    estimator: type[Any]
    params: Mapping[str, Any]
    load: Callable[[bool], Parts]
    figures: Callable[[Any, Parts], dict[str, float]]
    baselines: Callable[[Parts], dict[str, dict[str, float]]]
    picture: Callable[[Any, Parts, Any], Any]
    goals: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    remark: str = ""

    def make(self, seed: int = 0, **changes: Any) -> Any:
        """The estimator, not fitted."""
        return self.estimator(**{**self.params, "random_state": seed, **changes})

    def run(self, seed: int = 0, *, parts: Parts | None = None, quick: bool = False, **changes: Any) -> Run:
        """Load, train, measure; `changes` are parameters of the estimator. With `quick` small data and one pass."""
        parts = self.load(quick) if parts is None else parts
        model = self.make(seed, **{**({"max_epochs": 1} if quick else {}), **changes})
        start = time.perf_counter()
        self.train(model, parts)
        seconds = time.perf_counter() - start
        return Run(self.figures(model, parts), seconds, model, parts)

    @staticmethod
    def train(model: Any, parts: Parts, **options: Any) -> Any:
        """``model.fit`` on the parts."""
        X, y = parts.train
        return (
            model.fit(X, y, validation=parts.valid, **options)
            if y is not None
            else model.fit(X, validation=None if parts.valid is None else parts.valid[0], **options)
        )

    def met(self, figures: Mapping[str, float]) -> dict[str, bool]:
        """Which goals these figures meet."""
        return {
            name: bool(figures[name] >= number if relation == ">=" else figures[name] <= number)
            for name, (relation, number) in self.goals.items()
        }
