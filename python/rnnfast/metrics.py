"""How good predictions are: labels, entities, texts, numbers, and the perplexity of a language model.

The estimators, the examples and the command line print these figures, and users call them with any two lists. NumPy and
the standard library alone: nothing here knows a model, a loss or a file.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Scores",
    "accuracy",
    "balanced_accuracy",
    "bits",
    "confusion_matrix",
    "edit_distance",
    "entity_f1",
    "entity_scores",
    "entity_spans",
    "error_rate",
    "exact_match",
    "f1_score",
    "mean_absolute_error",
    "perplexity",
    "root_mean_squared_error",
]

Labels = Sequence[Any] | NDArray[Any]


class Scores(NamedTuple):
    """Precision, recall and F1, each 0 where its denominator is, and how often the true answer occurs.

    Of n predicted, m true and k right ones: precision k / n, recall k / m, f1 2 k / (n + m), support m.
    """

    precision: float
    recall: float
    f1: float
    support: int


def accuracy(y_true: Labels, y_pred: Labels) -> float:
    """Share of the labels that are right.

    Parameters
    ----------
    y_true, y_pred : labels, or sequences of labels
        Lists or arrays of N labels, or of N sequences of T_i labels, which count step by step. A str is a label.

    Raises
    ------
    ValueError, TypeError
        Another number of labels or sequences, another length of one, or no label at all: the message names the place.

    Examples
    --------
    >>> accuracy(["cat", "dog"], ["cat", "cat"])
    0.5
    >>> accuracy([["DET", "NOUN"], ["VERB"]], [["DET", "VERB"], ["VERB"]])  # 2 of 3 steps
    0.6666666666666666
    """
    pairs = _pairs(y_true, y_pred)
    return sum(bool(t == p) for t, p in pairs) / len(pairs)


def balanced_accuracy(y_true: Labels, y_pred: Labels) -> float:
    """Mean over the true classes of the share of each that is found: 1 / K for the majority answer, whatever its size.

    Parameters and errors are those of :func:`accuracy`.

    Examples
    --------
    >>> balanced_accuracy("a a a b".split(), "a a a a".split())
    0.5
    """
    pairs = _pairs(y_true, y_pred)
    of_class = Counter(t for t, _ in pairs)
    found = Counter(t for t, p in pairs if t == p)
    return sum(found[label] / count for label, count in of_class.items()) / len(of_class)


def confusion_matrix(
    y_true: Labels, y_pred: Labels, labels: Iterable[Any] | None = None
) -> tuple[list[Any], NDArray[np.int64]]:
    """How often each true label got each predicted one; `y_true`, `y_pred` as in :func:`accuracy`.

    Parameters
    ----------
    labels : iterable of K labels, optional
        The order of rows and columns; None is all that occur, sorted.

    Returns
    -------
    labels : list of K labels
    counts : (K, K) int64
        Row: the true label. Column: the predicted one.

    Raises
    ------
    ValueError, TypeError
        As :func:`accuracy`; a label that is not among `labels`, or twice there.

    Examples
    --------
    >>> labels, counts = confusion_matrix(["a", "a", "b"], ["a", "b", "b"])
    >>> labels, counts.tolist()
    (['a', 'b'], [[1, 1], [0, 1]])
    """
    pairs = _pairs(y_true, y_pred)
    order = _sorted({label for pair in pairs for label in pair}) if labels is None else [_plain(k) for k in labels]
    index = {label: k for k, label in enumerate(order)}
    if len(index) != len(order):
        twice = next(label for k, label in enumerate(order) if index[label] != k)
        raise ValueError(f"labels: expected each label once, got {twice!r} twice")
    for pair in pairs:
        for name, label in zip(("y_true", "y_pred"), pair, strict=True):
            if label not in index:
                raise ValueError(f"{name}: expected one of the {len(order)} labels given, got {label!r}")
    counts = np.zeros((len(order), len(order)), np.int64)
    for (t, p), count in Counter(pairs).items():
        counts[index[t], index[p]] = count
    return order, counts


def f1_score(
    y_true: Labels,
    y_pred: Labels,
    *,
    average: Literal["macro", "micro", "weighted"] | None = "macro",
    labels: Iterable[Any] | None = None,
) -> Any:
    """F1: the harmonic mean of precision and recall, 2 k / (n + m) for n predicted, m true and k right ones.

    Parameters
    ----------
    y_true, y_pred :
        As in :func:`accuracy`.
    average : "macro", "micro", "weighted" or None
        The mean over the classes; over all labels at once (which is the accuracy where `labels` leaves none out); the
        mean weighted by how often each class is true; or none: an array with one number for each class.
    labels : iterable of labels, optional
        The classes that count, for instance all but "O"; None is all that occur, sorted.

    Returns
    -------
    float, or (K,) float64 for ``average=None``
        A class that is neither true nor predicted has 0.

    Examples
    --------
    >>> f1_score(["a", "a", "b"], ["a", "b", "b"], average=None).round(3).tolist()
    [0.667, 0.667]
    """
    if average not in ("macro", "micro", "weighted", None):
        raise ValueError(f'average: expected "macro", "micro", "weighted" or None, got {average!r}')
    pairs = _pairs(y_true, y_pred)
    true, predicted = Counter(t for t, _ in pairs), Counter(p for _, p in pairs)
    right = Counter(t for t, p in pairs if t == p)
    order = _sorted({*true, *predicted}) if labels is None else [_plain(k) for k in labels]
    if not order:
        raise ValueError("labels: expected at least one label, got none")
    if average == "micro":
        return _scores(*(sum(counts[k] for k in order) for counts in (right, predicted, true))).f1
    scores = [_scores(right[k], predicted[k], true[k]) for k in order]
    if average is None:
        return np.array([s.f1 for s in scores])
    weights = [s.support if average == "weighted" else 1 for s in scores]
    return sum(w * s.f1 for w, s in zip(weights, scores, strict=True)) / max(sum(weights), 1)


def entity_spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """The entities that a sentence's tags mark: (type, start, stop), stop excluded, from left to right.

    As the shared task's evaluation (conlleval) reads them, which is lenient and knows no scheme: an entity begins at a
    B, or at an I that follows none of its type, so that IOB1, IOB2, BIOES and BILOU tags all mean what they should, and
    those of a model that breaks its scheme still mean something.

    Parameters
    ----------
    tags : sequence of str
        "O", or B, I, E (L), S (U) and, after a hyphen, the type: "B-PER". A tag without hyphen has the type "".

    Raises
    ------
    ValueError
        Another tag; its place is named.

    References
    ----------
    Tjong Kim Sang and De Meulder (2003), Introduction to the CoNLL-2003 shared task.

    Examples
    --------
    >>> entity_spans(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"])
    [('PER', 0, 2), ('LOC', 3, 4), ('LOC', 4, 5)]
    """
    return _spans("tags", tags)


def _spans(name: str, tags: Sequence[str]) -> list[tuple[str, int, int]]:
    spans: list[tuple[str, int, int]] = []
    start, kind = None, ""  # of the entity that is open
    for place, tag in enumerate(_sequence(name, tags)):
        mark, _, new = tag.partition("-") if isinstance(tag, str) else ("", "", "")
        if mark not in ("O", *"BIESLUM") or (mark == "O" and tag != "O"):
            raise ValueError(f'{name}[{place}]: expected "O", or B, I, E or S and a type, as in "B-PER", got {tag!r}')
        if start is not None and (mark in "OBSU" or new != kind):
            spans.append((kind, start, place))
            start = None
        if start is None and mark != "O":
            start, kind = place, new
        if start is not None and mark in "ESLU":
            spans.append((kind, start, place + 1))
            start = None
    if start is not None:
        spans.append((kind, start, len(tags)))
    return spans


def entity_scores(y_true: Sequence[Sequence[str]], y_pred: Sequence[Sequence[str]]) -> tuple[Scores, dict[str, Scores]]:
    """Precision, recall and F1 over entities: one is right when its type and both its ends are.

    Parameters
    ----------
    y_true, y_pred : sequences of N sentences, each the tags of its T_i tokens
        As in :func:`entity_spans`; what does not fit is a ValueError that names the place.

    Returns
    -------
    overall : Scores
        Of all entities at once (micro average), which is what articles report.
    by_type : dict of type to Scores

    Examples
    --------
    >>> overall, by_type = entity_scores([["B-PER", "I-PER", "O", "B-LOC"]], [["B-PER", "I-PER", "B-LOC", "I-LOC"]])
    >>> overall
    Scores(precision=0.5, recall=0.5, f1=0.5, support=2)
    >>> by_type["LOC"].f1
    0.0
    """
    _same_length("y_true", y_true, "y_pred", y_pred, "sentences")
    right: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    true: Counter[str] = Counter()
    for i, (t, p) in enumerate(zip(y_true, y_pred, strict=True)):
        _same_length(f"y_true[{i}]", t, f"y_pred[{i}]", p, "tags")
        wanted, found = set(_spans(f"y_true[{i}]", t)), set(_spans(f"y_pred[{i}]", p))
        for counts, spans in ((true, wanted), (predicted, found), (right, wanted & found)):
            counts.update(kind for kind, _, _ in spans)
    by_type = {k: _scores(right[k], predicted[k], true[k]) for k in sorted({*true, *predicted})}
    return _scores(right.total(), predicted.total(), true.total()), by_type


def entity_f1(y_true: Sequence[Sequence[str]], y_pred: Sequence[Sequence[str]]) -> float:
    """F1 over all entities, exact in type and ends: the figure of the CoNLL shared tasks; see :func:`entity_scores`.

    Examples
    --------
    >>> entity_f1([["B-PER", "I-PER", "O"], ["O"]], [["B-PER", "I-PER", "O"], ["B-LOC"]])
    0.6666666666666666
    """
    return entity_scores(y_true, y_pred)[0].f1


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Fewest insertions, deletions and substitutions that turn `a` into `b` (Levenshtein 1966).

    Parameters
    ----------
    a, b : strings, or sequences of tokens
        A letter of a string is a code point: bring texts to one Unicode form (NFC) first.

    References
    ----------
    Myers (1999), A fast bit-vector algorithm for approximate string matching based on dynamic programming. Hyyrö
    (2003), A bit-vector algorithm for computing Levenshtein and Damerau edit distances.

    Examples
    --------
    >>> edit_distance("kitten", "sitting"), edit_distance(["to", "be"], ["to", "go", "be"])
    (3, 1)
    """
    a, b = _tokens("a", a), _tokens("b", b)
    if len(a) == 0 or len(b) == 0:
        return max(len(a), len(b))
    # Neighbours in a column of the dynamic programme differ by 1, 0 or -1: two integers of len(a) bits hold the column,
    # and all its cells are computed at once.
    places: dict[Hashable, int] = {}  # token -> a bit for each of its places in a
    for i, token in enumerate(a):
        places[token] = places.get(token, 0) | 1 << i
    every, last = (1 << len(a)) - 1, 1 << len(a) - 1
    up, down, distance = every, 0, len(a)  # D[i+1, j] - D[i, j] is 1, is -1; and D[len(a), j], for j = 0
    for token in b:
        match = places.get(token, 0)
        same = (((match & up) + up) ^ up) | match | down  # D[i+1, j+1] = D[i, j]
        right, left = down | (every & ~(same | up)), up & same  # D[i+1, j+1] - D[i+1, j] is 1, is -1
        distance += bool(right & last) - bool(left & last)
        right, left = right << 1 | 1, left << 1
        up, down = (left | ~(same | right)) & every, right & same & every
    return distance


def error_rate(truths: Sequence[Sequence[Hashable]], predictions: Sequence[Sequence[Hashable]]) -> float:
    """Edits per true letter or token: Σ edit_distance / Σ len(truth), over 1 where predictions are too long.

    Of strings it is the character error rate, of lists of words the word error rate.

    Parameters
    ----------
    truths, predictions : sequences of N strings or sequences of tokens
        Another number of predictions, or no true letter at all, is a ValueError.

    Examples
    --------
    >>> error_rate(["Москва", "Киев"], ["Масква", "Киев"])
    0.1
    """
    _same_length("truths", truths, "predictions", predictions, "sequences")
    edits = length = 0
    for i, (truth, prediction) in enumerate(zip(truths, predictions, strict=True)):
        truth, prediction = _tokens(f"truths[{i}]", truth), _tokens(f"predictions[{i}]", prediction)
        edits += edit_distance(truth, prediction)
        length += len(truth)
    if not length:
        raise ValueError("truths: expected at least one letter or token, got none")
    return edits / length


def exact_match(truths: Sequence[Sequence[Hashable]], predictions: Sequence[Sequence[Hashable]]) -> float:
    """Share of the sequences that are right from end to end.

    Parameters and errors are those of :func:`error_rate`; an empty sequence counts too.

    Examples
    --------
    >>> exact_match(["abc", "de"], ["abc", "ed"])
    0.5
    """
    _same_length("truths", truths, "predictions", predictions, "sequences")
    if len(truths) == 0:
        raise ValueError("truths: expected at least one sequence, got none")
    return sum(
        list(_sequence(f"truths[{i}]", t)) == list(_sequence(f"predictions[{i}]", p))
        for i, (t, p) in enumerate(zip(truths, predictions, strict=True))
    ) / len(truths)


def root_mean_squared_error(y_true: Any, y_pred: Any) -> float:
    """sqrt(mean (y_pred - y_true)²) over all numbers, in their unit, computed in float64.

    Parameters
    ----------
    y_true, y_pred : arrays of one shape, or lists of N arrays of shapes (T_i,) or (T_i, K)
        Another shape, or a number that is not finite, is a ValueError that names the place.

    Examples
    --------
    >>> root_mean_squared_error([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 8.0])
    2.0
    """
    return math.sqrt(float(np.mean(_errors(y_true, y_pred) ** 2)))


def mean_absolute_error(y_true: Any, y_pred: Any) -> float:
    """mean ``|y_pred - y_true|`` over all numbers; parameters and errors as in :func:`root_mean_squared_error`.

    Examples
    --------
    >>> mean_absolute_error([[1.0], [2.0, 3.0]], [[2.0], [2.0, 1.0]])
    1.0
    """
    return float(np.mean(np.abs(_errors(y_true, y_pred))))


def perplexity(cross_entropy: float) -> float:
    """exp(cross-entropy): among how many equally likely tokens a model of that loss chooses.

    Parameters
    ----------
    cross_entropy : float
        Mean over the tokens, in nats, which is what ``rnnfast.evaluate`` calls the loss. Less than 0 or NaN is a
        ValueError.

    Examples
    --------
    >>> round(perplexity(math.log(8)), 9)
    8.0
    """
    try:
        return math.exp(_nats(cross_entropy))
    except OverflowError:
        return math.inf


def bits(cross_entropy: float) -> float:
    """cross-entropy / ln 2: nats as bits, for each character or token that the mean was over.

    Parameters and errors are those of :func:`perplexity`.

    Examples
    --------
    >>> round(bits(math.log(8)), 9)
    3.0
    """
    return _nats(cross_entropy) / math.log(2)


def _nats(cross_entropy: float) -> float:
    if not isinstance(cross_entropy, int | float | np.number | np.ndarray) or np.ndim(cross_entropy):
        raise TypeError(f"cross_entropy: expected a number of nats, got {cross_entropy!r}")
    if not cross_entropy >= 0:  # NaN compares false
        raise ValueError(f"cross_entropy: expected a number of nats, 0 or more, got {cross_entropy}")
    return float(cross_entropy)


def _scores(right: int, predicted: int, true: int) -> Scores:
    return Scores(right / max(predicted, 1), right / max(true, 1), 2 * right / max(predicted + true, 1), true)


def _pairs(y_true: Any, y_pred: Any) -> list[tuple[Any, Any]]:
    """(true, predicted) of every step; at least one."""
    _same_length("y_true", y_true, "y_pred", y_pred, "labels or sequences")
    pairs: list[tuple[Any, Any]] = []
    for i, (t, p) in enumerate(zip(y_true, y_pred, strict=True)):
        if not _is_sequence(t) and not _is_sequence(p):
            pairs.append((_plain(t), _plain(p)))
            continue
        _same_length(f"y_true[{i}]", t, f"y_pred[{i}]", p, "labels")
        pairs.extend(zip(map(_plain, t), map(_plain, p), strict=True))
    if not pairs:
        raise ValueError("y_true: expected at least one label, got none")
    return pairs


def _is_sequence(value: Any) -> bool:
    """Whether it holds labels; a str is one, and so is a NumPy scalar."""
    return not isinstance(value, str | bytes) and hasattr(value, "__len__") and np.ndim(value) > 0


def _plain(label: Any) -> Any:
    """NumPy's scalars as Python's, so that labels print and compare alike."""
    if not isinstance(label, Hashable):
        raise TypeError(f"y_true, y_pred: expected labels, or sequences of labels, got a label {label!r}")
    return label.item() if isinstance(label, np.generic) else label


def _sorted(labels: Iterable[Any]) -> list[Any]:
    """Numbers first, then by type: None and str have no order of their own."""
    return sorted(labels, key=lambda k: ("" if isinstance(k, int | float) else type(k).__name__, k))


def _sequence(name: str, value: Any) -> Any:
    """A sequence that has a length and order; other things are a TypeError."""
    if (
        getattr(value, "shape", None) == ()
        or not hasattr(value, "__len__")
        or not hasattr(value, "__getitem__")
        or isinstance(value, dict)
    ):
        raise TypeError(f"{name}: expected a string or a sequence, got {value!r}")
    return value


def _tokens(name: str, value: Any) -> Any:
    tokens = _sequence(name, value)
    try:
        set(tokens)
    except TypeError:
        raise TypeError(f"{name}: expected tokens that can be hashed, got {tokens!r:.60}") from None
    return tokens


def _same_length(true_name: str, true: Any, name: str, predicted: Any, what: str) -> None:
    for key, value in ((true_name, true), (name, predicted)):
        if isinstance(value, str | bytes) or not hasattr(value, "__len__") or getattr(value, "shape", None) == ():
            raise TypeError(f"{key}: expected a sequence of {what}, got {value!r}")
    if len(predicted) != len(true):
        raise ValueError(f"{name}: expected {len(true)} {what} as in {true_name}, got {len(predicted)}")


def _errors(y_true: Any, y_pred: Any) -> NDArray[np.float64]:
    """y_pred - y_true, all numbers in one row."""
    _same_length("y_true", y_true, "y_pred", y_pred, "numbers or sequences")
    try:
        parts = [("", np.asarray(y_true), np.asarray(y_pred))]
    except ValueError:  # sequences of differing lengths
        pairs = enumerate(zip(y_true, y_pred, strict=True))
        parts = [(f"[{i}]", np.asarray(t), np.asarray(p)) for i, (t, p) in pairs]
    row = np.concatenate([_difference(*part) for part in parts])
    if not len(row):
        raise ValueError("y_true: expected at least one number, got none")
    return row


def _difference(place: str, true: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.float64]:
    for name, array in (("y_true", true), ("y_pred", predicted)):
        if array.dtype.kind not in "iuf":
            raise TypeError(f"{name}{place}: expected real numbers, got {array.dtype}")
        wrong = np.argwhere(~np.isfinite(array))
        if len(wrong):
            at = wrong[0].tolist()
            raise ValueError(f"{name}{place}{at}: expected a finite number, got {array[tuple(at)]}")
    if true.shape != predicted.shape:
        raise ValueError(f"y_pred{place}: expected {true.shape} as in y_true{place}, got {predicted.shape}")
    errors: NDArray[np.float64] = np.subtract(predicted, true, dtype=np.float64).ravel()
    return errors
