"""The five tasks of the command line: how a file is read, cut and measured, and how a prediction is written.

A file becomes an Example, as the built-in data sets are (examples/), so that commands.py treats both alike. It knows
files and estimators; it must not print.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import datasets, metrics
from .estimators import (
    SequenceClassifier,
    SequenceGenerator,
    SequenceRegressor,
    SequenceTagger,
    SequenceTransducer,
)
from .examples import Example, Parts
from .preprocessing import split, windows

__all__ = ["TASKS", "Task", "TaskError", "example_of", "picture", "series_of", "task_of"]

Figures = dict[str, float]


class TaskError(Exception):
    """The file does not suit the task; the message says why."""


@dataclass(frozen=True)
class Series:
    """What a forecast needs to know of its columns; kept in the model's file."""

    columns: list[str]
    target: str
    window: int
    horizon: int

    def cut(self, values: Any) -> tuple[Any, Any]:
        """Pasts (N, window, D), and how the target differs from its last value in them, (N,) or (N, horizon)."""
        target = values[:, self.columns.index(self.target)]
        X, y = windows(values, self.window, self.horizon, target=target)
        last = target[self.window - 1 : self.window - 1 + len(X)]
        return X, y - (last if y.ndim == 1 else last[:, None])

    def values(self, path: str) -> Any:
        """The columns (M, D) of another file, in their order; at least a window of them."""
        series = datasets.read_series(path)
        missing = [name for name in self.columns if name not in series.names]
        if missing:
            raise TaskError(
                f"{path}: expected the columns {', '.join(self.columns)} of training, {missing[0]!r} is missing"
            )
        values = series.values[:, [series.names.index(name) for name in self.columns]]
        if len(values) < self.window:
            raise TaskError(f"{path}: expected at least {self.window} rows, the window of training, got {len(values)}")
        return values

    def pairs(self, path: str) -> tuple[Any, Any]:
        """What `cut` makes of another file."""
        try:
            return self.cut(self.values(path))
        except ValueError as error:
            raise TaskError(f"{path}: {error}") from error

    def last(self, values: Any) -> float:
        return float(values[-1, self.columns.index(self.target)])


@dataclass(frozen=True)
class Task:
    """One of the five.

    `read` takes a path and the settings of the command line, and returns X, y; `cut` makes training, validation and
    held-out parts of them; `figures` measures a model; `baselines` say what answers without a model give.
    """

    name: str
    estimator: type[Any]
    endings: tuple[str, ...]  # of files that are for this task unless told otherwise
    form: str  # of such a file
    params: dict[str, Any]
    read: Callable[[str, dict[str, Any]], tuple[Any, Any]]
    cut: Callable[[Any, Any, int], Parts]
    figures: Callable[[Any, Any, Any], Figures]
    baselines: Callable[[Parts], dict[str, Figures]]


def task_of(path: str, name: str | None) -> Task:
    """The task of this name, or the one that the file's ending tells."""
    if name is not None:
        return TASKS[name]
    found = [task for task in TASKS.values() if Path(path).suffix.lower() in task.endings]
    if found:
        return found[0]
    endings = ", ".join(f"{' '.join(task.endings)} ({task.name})" for task in TASKS.values() if task.endings)
    raise TaskError(f"{path}: expected --task, or a file that ends in {endings}")


def example_of(path: str, task: Task, split_seed: int, settings: dict[str, Any]) -> Example:
    """A file as a worked example, read at once."""
    X, y = task.read(path, settings)
    try:
        parts = task.cut(X, y, split_seed)
    except TaskError as error:
        raise TaskError(f"{path}: {error}") from error
    return Example(
        name=Path(path).stem,
        title=path,
        shape=task.name,
        dataset=path,
        estimator=task.estimator,
        params=task.params,
        load=lambda quick: parts,
        figures=lambda model, parts: task.figures(model, *parts.test),
        baselines=task.baselines,
        picture=picture,
    )


def series_of(model: Any) -> Series:
    """What the command line kept of a forecaster's columns."""
    try:
        return Series(**model.notes_["series"])
    except (KeyError, TypeError) as error:
        raise TaskError(
            "expected a model that `rnnfast train FILE.csv` saved, got one without names of columns"
        ) from error


def picture(model: Any, parts: Parts, axes: Any) -> Any:
    """What a model does with held-out data, drawn."""
    from . import plots

    X, y = parts.test
    if isinstance(model, SequenceClassifier):
        return plots.confusion_matrix(y, model.predict(X).tolist(), ax=axes)
    if isinstance(model, SequenceTagger):
        return plots.confusion_matrix(_flat(y), _flat(model.predict(X)), ax=axes)
    if isinstance(model, SequenceRegressor):
        truth, found = (np.reshape(a, (len(X), -1))[:, 0] for a in (y, model.predict(X)))
        return plots.forecast(truth, found, ax=axes)
    if isinstance(model, SequenceTransducer) and model.attention:
        looked = model.attention_weights(X[0])
        return plots.attention(looked.weights, looked.source, looked.target, ax=axes)
    return plots.learning_curves(model.history_, ax=axes)


def _flat(sequences: Iterable[Any]) -> list[Any]:
    return [item for sequence in sequences for item in sequence]


def _rows(items: Any, rows: Any) -> list[Any]:
    return [items[i] for i in rows]


def _cut_at_random(X: Any, y: Any, seed: int) -> Parts:
    try:
        train, valid, test = split(len(X), (0.8, 0.1, 0.1), seed)
    except ValueError as error:
        raise TaskError(f"{len(X)} examples are too few to hold out a tenth ({error})") from error
    parts = [(_rows(X, rows), _rows(y, rows)) for rows in (train, test, valid)]
    return Parts(parts[0], parts[1], parts[2])


def _cut_in_order(X: Any, y: Any, seed: int) -> Parts:
    """The last 15 % to measure on, the 15 % before them to choose the best pass with; no target is in two parts."""
    a, b = round(0.7 * len(X)), round(0.85 * len(X))
    overlap = (y.shape[1] if y.ndim == 2 else 1) - 1  # windows whose future reaches into the next part
    if not (overlap < a < b - overlap and b < len(X)):
        raise TaskError(f"{len(X)} examples are too few to hold out the last 15 %")
    return Parts((X[: a - overlap], y[: a - overlap]), (X[b:], y[b:]), (X[a : b - overlap], y[a : b - overlap]))


# ---- classify


def _cut_by_label(X: Any, y: Any, seed: int) -> Parts:
    parts = _cut_at_random(X, y, seed)
    if len(set(y)) < 2:
        raise TaskError(f"expected at least two labels, got {y[0]!r} alone")
    for label, n in Counter(y).items():
        if label not in parts.train[1]:
            raise TaskError(
                f"expected enough examples of each label to train on and to hold out, got {n} of {label!r}; add some, "
                "leave it out, or try another --split-seed"
            )
    return parts


def _classes_measured(model: Any, X: Any, y: Any) -> Figures:
    predicted = model.predict(X).tolist()
    return {"accuracy": metrics.accuracy(list(y), predicted), "macro F1": metrics.f1_score(list(y), predicted)}


def _commonest(parts: Parts) -> dict[str, Figures]:
    label, _ = Counter(parts.train[1]).most_common(1)[0]
    return {f"always {label!r}": {"accuracy": float(np.mean([truth == label for truth in parts.test[1]]))}}


# ---- tag


def _tags_measured(model: Any, X: Any, y: Any) -> Figures:
    predicted = model.predict(X)
    figures = {"accuracy": metrics.accuracy(y, predicted)}
    if all(re.fullmatch("O|[BIESLU]-.+", str(tag)) for tags in y for tag in tags):
        figures["entity F1"] = metrics.entity_f1(y, predicted)
    return figures


def _commonest_tag(parts: Parts) -> dict[str, Figures]:
    counts: dict[str, Counter[str]] = {}
    total: Counter[str] = Counter()
    for words, tags in zip(*parts.train, strict=True):
        for word, tag in zip(words, tags, strict=True):
            counts.setdefault(word, Counter())[tag] += 1
            total[tag] += 1
    X, y = parts.test
    predicted = [[counts.get(word, total).most_common(1)[0][0] for word in words] for words in X]
    return {"each word's commonest tag": {"accuracy": metrics.accuracy(y, predicted)}}


# ---- regress


def _read_series(path: str, settings: dict[str, Any]) -> tuple[Any, Any]:
    series = datasets.read_series(path)
    target = settings.get("target") or series.names[-1]
    if target not in series.names:
        raise TaskError(f"{path}: --target {target}: expected one of the columns {', '.join(series.names)}")
    notes = Series(list(series.names), target, settings.get("window") or 14, settings.get("horizon") or 1)
    settings["notes"] = vars(notes)
    try:
        return notes.cut(series.values)
    except ValueError as error:
        raise TaskError(f"{path}: {error}") from error


def _numbers_measured(model: Any, X: Any, y: Any) -> Figures:
    predicted = model.predict(X)
    return {
        "RMSE": metrics.root_mean_squared_error(y, predicted),
        "mean error": metrics.mean_absolute_error(y, predicted),
    }


def _persistence(parts: Parts) -> dict[str, Figures]:
    """The target differs from its last value by nothing."""
    y = parts.test[1]
    nothing = np.zeros_like(y)
    return {
        "the last value": {
            "RMSE": metrics.root_mean_squared_error(y, nothing),
            "mean error": metrics.mean_absolute_error(y, nothing),
        }
    }


# ---- generate


def _read_text(path: str, settings: dict[str, Any]) -> tuple[Any, Any]:
    return datasets.read_text(path), None


def _cut_text(X: str, y: Any, seed: int) -> Parts:
    a, b = round(0.85 * len(X)), round(0.9 * len(X))
    if len(X) < 100:
        raise TaskError(f"{len(X)} characters are too few to hold out the last tenth")
    return Parts((X[:a], None), (X[b:], None), (X[a:b], None))


def _bits_measured(model: Any, X: Any, y: Any) -> Figures:
    bits = model.bits_per_token(X)
    return {"bits per token": bits, "perplexity": 2**bits}


def _letter_frequencies(parts: Parts) -> dict[str, Figures]:
    """Each letter by how often it came in training, one more for those that did not."""
    counts = Counter(parts.train[0])
    known = set(counts) | set(parts.test[0])
    total = sum(counts.values()) + len(known)
    bits = -sum(math.log2((counts[c] + 1) / total) for c in parts.test[0]) / len(parts.test[0])
    return {"how often each letter is": {"bits per token": bits, "perplexity": 2**bits}}


# ---- transduce


def _pairs_measured(model: Any, X: Any, y: Any) -> Figures:
    predicted = model.predict(X)
    return {"exact match": metrics.exact_match(y, predicted), "error rate": metrics.error_rate(y, predicted)}


def _copies(parts: Parts) -> dict[str, Figures]:
    X, y = parts.test
    return {"the source as it is": {"exact match": metrics.exact_match(y, X), "error rate": metrics.error_rate(y, X)}}


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="classify",
            estimator=SequenceClassifier,
            endings=(".tsv",),
            form="lines label<TAB>text",
            params={"dropout": 0.5, "min_count": 2},
            read=lambda path, settings: datasets.read_classification(path),
            cut=_cut_by_label,
            figures=_classes_measured,
            baselines=_commonest,
        ),
        Task(
            name="tag",
            estimator=SequenceTagger,
            endings=(".conllu", ".conll"),
            form="CoNLL: lines token<TAB>tag, a blank line between sentences; or CoNLL-U",
            params={"dropout": 0.3, "learning_rate": 4e-3, "max_epochs": 18},
            read=lambda path, settings: datasets.read_tagging(path),
            cut=_cut_at_random,
            figures=_tags_measured,
            baselines=_commonest_tag,
        ),
        Task(
            name="regress",
            estimator=SequenceRegressor,
            endings=(".csv",),
            form="CSV with a header, a row for each time",
            params={"cell": "gru", "hidden_size": 32, "dropout": 0.2},
            read=_read_series,
            cut=_cut_in_order,
            figures=_numbers_measured,
            baselines=_persistence,
        ),
        Task(
            name="generate",
            estimator=SequenceGenerator,
            endings=(".txt",),
            form="plain text",
            params={
                "hidden_size": 256,
                "truncate": 64,
                "learning_rate": 4e-3,
                "schedule": "cosine",
                "max_epochs": 10,
            },
            read=_read_text,
            cut=_cut_text,
            figures=_bits_measured,
            baselines=_letter_frequencies,
        ),
        Task(
            name="transduce",
            estimator=SequenceTransducer,
            endings=(),
            form="lines source<TAB>target",
            params={},
            read=lambda path, settings: datasets.read_pairs(path),
            cut=_cut_at_random,
            figures=_pairs_measured,
            baselines=_copies,
        ),
    )
}
