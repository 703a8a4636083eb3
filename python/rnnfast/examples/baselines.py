"""Honest baselines of the worked examples that name something: what models without recurrence get from the same data.

A baseline takes training sequences, their labels and new sequences, and returns labels of the new ones; `compare`
measures several. classification.py and tagging.py call them; nothing here knows a network. The linear models are
scikit-learn's, an extra.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..metrics import entity_spans
from ..preprocessing import tokenize

__all__ = [
    "Baseline",
    "bag_of_letters",
    "bag_of_words",
    "commonest_tag",
    "compare",
    "known_entities",
    "last_letter",
    "naive_bayes",
    "numbers_nearby",
    "summaries",
    "words_nearby",
]

Array = NDArray[Any]
Figures = dict[str, float]
Baseline = Callable[[Any, Any, Any], list[Any]]
Run = tuple[str, ...]  # of words or letters that follow one another


def compare(
    parts: Any, measure: Callable[[Any, Any], Figures], baselines: Mapping[str, Baseline]
) -> dict[str, Figures]:
    """Figures on ``parts.test`` of the best constant answer, and of each baseline; none of one that cannot be run here.

    The best constant answer is the commonest label of the test part itself: nobody knows it before, and no model should
    be worse.
    """
    (X, y), (new, truth) = parts.train, parts.test
    per_step = isinstance(truth[0], list)
    label = _commonest(_flat(truth) if per_step else truth)
    constant = [[label] * len(tags) for tags in truth] if per_step else [label] * len(truth)
    found: dict[str, Figures] = {}
    for name, baseline in baselines.items():
        try:
            found[name] = measure(truth, baseline(X, y, new))
        except ImportError:  # scikit-learn is an extra
            found[name] = {}
    return {f"always {label}": measure(truth, constant), **found}


# ---- a class for each sequence


def bag_of_words(longest: int = 1) -> Baseline:
    """Logistic regression on how often each word comes, and each run of up to `longest` words."""
    return _model(_logistic(), lambda text: _runs(tokenize(text), longest))


def naive_bayes(longest: int = 1) -> Baseline:
    """Naive Bayes on the same counts: linear too, and for short texts often the better one."""
    return _model(lambda: _sklearn("naive_bayes").MultinomialNB(), lambda text: _runs(tokenize(text), longest))


def bag_of_letters(longest: int = 4) -> Baseline:
    """Logistic regression on how often each run of up to `longest` letters comes, with a space at both ends."""
    return _model(_logistic(), lambda name: _runs(f" {name.lower()} ", longest))


def last_letter(X: list[str], y: list[Any], new: list[str]) -> list[Any]:
    """The commonest label of the names with the same last letter."""
    (found,) = commonest_tag()([[name[-1] for name in X]], [y], [[name[-1] for name in new]])
    return list(found)


def summaries(*of: Callable[[Array], Array]) -> Baseline:
    """Logistic regression on numbers that sum a sequence (T, D) up, as the mean of each channel.

    Lightly regularised: stronger regularisation made it worse.
    """
    return _model(_logistic(C=30.0), lambda x: np.concatenate([summary(x) for summary in of]))


# ---- a label for each step


def commonest_tag(suffixes: Sequence[int] = ()) -> Baseline:
    """The commonest label of each word; of an unseen one that of its first suffix that was seen, or of all words.

    `suffixes` are lengths, the first to be tried first.
    """

    def keys(word: str) -> Iterator[str]:
        """From the most specific on."""
        yield f"={word}"
        for n in suffixes:
            yield f"-{word[-n:].lower()}"
        yield ""

    def baseline(X: list[list[str]], y: list[list[Any]], new: list[list[str]]) -> list[Any]:
        tags: defaultdict[str, Counter[Any]] = defaultdict(Counter)
        for word, tag in zip(_flat(X), _flat(y), strict=True):
            for key in keys(word):
                tags[key][tag] += 1
        best = {key: _commonest(counts) for key, counts in tags.items()}
        return [[next(best[key] for key in keys(word) if key in best) for word in words] for words in new]

    return baseline


def words_nearby(width: int) -> Baseline:
    """A linear model of each word, its endings, capitals and digits, and those of `width` words on either side.

    Averaged support vector machines, one for each label.
    """

    def parts(word: str) -> list[str]:
        lower = word.lower()
        return [lower, *(f"-{lower[-n:]}" for n in (1, 2, 3)), f"{word[:1].isupper()} {word.isdigit()}"]

    def rows(words: list[str]) -> list[list[str]]:
        padded = [parts(word) for word in ["<sos>"] * width + words + ["<eos>"] * width]
        return [
            [f"{k} {part}" for k in range(2 * width + 1) for part in padded[t + k]]  # k = width: the word itself
            for t in range(len(words))
        ]

    options: dict[str, Any] = dict(alpha=1e-5, average=True, max_iter=20, tol=None, random_state=0)
    return _tagger(lambda: _sklearn("linear_model").SGDClassifier(**options), rows)


def numbers_nearby(width: int) -> Baseline:
    """Logistic regression on the numbers of each step and of `width` steps on either side, 0 past the ends.

    Of three strengths of regularisation none was better on the recordings.
    """

    def rows(x: Array) -> list[Array]:
        padded = np.pad(x, ((width, width), (0, 0)))
        return [padded[t : t + 2 * width + 1].ravel() for t in range(len(x))]

    def classifier() -> Any:
        return _sklearn("pipeline").make_pipeline(_sklearn("preprocessing").StandardScaler(), _logistic(C=0.1)())

    return _tagger(classifier, rows)


def known_entities(X: list[list[str]], y: list[list[str]], new: list[list[str]]) -> list[list[str]]:
    """IOB2 tags of the longest runs of words that mostly were entities in training, of the type they mostly were."""
    types: defaultdict[Run, Counter[str]] = defaultdict(Counter)
    for words, tags in zip(X, y, strict=True):
        for kind, start, end in entity_spans(tags):
            types[tuple(words[start:end])][kind] += 1
    longest = max(map(len, types), default=0)
    seen = Counter(run for words in X for run in _runs(words, longest) if run in types)
    known = {run: _commonest(kinds) for run, kinds in types.items() if 2 * kinds.total() > seen[run]}

    def tags_of(words: list[str]) -> list[str]:
        found: list[str] = []
        while len(found) < len(words):
            rest = words[len(found) :]
            n = next((n for n in range(longest, 0, -1) if tuple(rest[:n]) in known), 0)
            kind = known[tuple(rest[:n])] if n else ""
            found += [f"B-{kind}"] + [f"I-{kind}"] * (n - 1) if n else ["O"]
        return found

    return [tags_of(words) for words in new]


# ---- what several of them need


def _model(classifier: Callable[[], Any], row: Callable[[Any], Any]) -> Baseline:
    """A scikit-learn classifier of rows of numbers, or of how often each item of a list comes."""

    def baseline(X: list[Any], y: Sequence[Any], new: list[Any]) -> list[Any]:
        rows, new_rows = [row(x) for x in X], [row(x) for x in new]
        if isinstance(rows[0], list):
            table = _sklearn("feature_extraction.text").CountVectorizer(analyzer=list)
            rows, new_rows = table.fit_transform(rows), table.transform(new_rows)
        predicted: list[Any] = classifier().fit(rows, y).predict(new_rows).tolist()
        return predicted

    return baseline


def _tagger(classifier: Callable[[], Any], rows: Callable[[Any], list[Any]]) -> Baseline:
    """A classifier of the rows of a sequence's steps."""
    model = _model(classifier, lambda row: row)

    def baseline(X: list[Any], y: list[list[Any]], new: list[Any]) -> list[Any]:
        labels = iter(model(_flat(map(rows, X)), _flat(y), _flat(map(rows, new))))
        return [[next(labels) for _ in x] for x in new]

    return baseline


def _logistic(C: float = 1.0) -> Callable[[], Any]:
    return lambda: _sklearn("linear_model").LogisticRegression(C=C, max_iter=20_000)


def _sklearn(module: str) -> Any:
    try:
        return import_module(f"sklearn.{module}")
    except ImportError as error:
        raise ImportError('the linear baselines need scikit-learn: pip install "rnnfast[sklearn]"') from error


def _runs(items: Sequence[str], longest: int) -> list[Run]:
    """All runs of 1 to `longest` items."""
    return [run for n in range(1, longest + 1) for run in zip(*(items[k:] for k in range(n)), strict=False)]


def _commonest(labels: Iterable[Any]) -> Any:
    """Of labels, or of how often each comes."""
    return Counter(labels).most_common(1)[0][0]


def _flat(sequences: Iterable[Iterable[Any]]) -> list[Any]:
    return [item for sequence in sequences for item in sequence]
