"""From what a person has (strings, tokens, ids, arrays) to what a network reads, learnt from the training data.

Called by the estimators alone. It knows preprocessing.py; it must not know of models or labels.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import as_array
from ..preprocessing import Vocabulary, tokenize
from ..streaming import Column, Source

__all__ = [
    "Encoder",
    "columns_of",
    "count",
    "joined_moments",
    "moments",
    "rebuild_moments",
    "sequences_of",
    "steps_of",
    "tokens_of",
]

Array = NDArray[Any]
ATOMS = (str, bytes, dict, set, np.void)  # what has a length and is no sequence of steps


class Encoder:
    """One array for each sequence: (T_i,) ids or (T_i, D) features.

    Attributes
    ----------
    kind : "text" (strings), "tokens" (lists of strings), "ids" (integers) or "features" ((T_i, D) or (T_i,) numbers)
    level : "word" or "character", what a text is cut into
    vocabulary : Vocabulary, for text and tokens
    size : int
        Of the vocabulary (for ids the largest of fit, one more for all larger ones), or D.
    mean, deviation : (D,) or None
        By which features are scaled.
    """

    def __init__(
        self,
        kind: str,
        vocabulary: Vocabulary | None,
        size: int,
        level: str = "word",
        mean: Array | None = None,
        deviation: Array | None = None,
    ) -> None:
        self.kind, self.vocabulary, self.size, self.level = kind, vocabulary, size, level
        self.mean, self.deviation = mean, deviation

    @classmethod
    def learn(cls, X: Any, min_count: int = 1, level: str = "word", scale: bool = False) -> Encoder:
        if level not in ("word", "character"):
            raise ValueError(f"level: expected 'word' or 'character', got {level!r}")
        kind = _kind_of(X)
        _check_steps(X)
        if kind in ("text", "tokens"):
            vocabulary = Vocabulary.build(_cut(X, level), min_count=min_count)
            return cls(kind, vocabulary, len(vocabulary), level)
        if kind == "ids":
            largest = 0
            for i, sequence in enumerate(X):
                largest = max(largest, int(_ids(sequence, f"X[{i}]").max()))
                if largest >= 2**31:
                    raise ValueError(f"X[{i}]: expected token ids of less than 2**31, got {largest}")
            return cls(kind, None, 2 + largest)  # the last one: unknown
        encoder = cls(kind, None, _features(X[0], "X[0]").shape[1])
        if encoder.size == 0:
            raise ValueError(f"X[0]: expected (T, D) with at least one feature, got {np.shape(X[0])}")
        if scale:
            f8 = np.dtype(np.float64)
            if isinstance(X, Column):
                encoder.mean, encoder.deviation = joined_moments(X.map(lambda b: np.concatenate(encoder(b, f8))))
            else:
                encoder.mean, encoder.deviation = moments(np.concatenate(encoder(X, f8)))
        return encoder

    def __call__(self, X: Any, dtype: np.dtype[Any]) -> list[Array]:
        kind = _kind_of(X)
        _check_steps(X)
        if kind != self.kind and {kind, self.kind} != {"text", "tokens"}:
            raise ValueError(f"X: expected {self.kind} as in fit, got {kind}")
        if self.vocabulary is not None:
            encoded: list[Array] = [self.vocabulary.encode(tokens) for tokens in tokens_of(X, self.level)]
        elif kind == "ids":
            encoded = [np.minimum(_ids(s, f"X[{i}]"), self.size - 1).astype(np.int64) for i, s in enumerate(X)]
        else:
            with np.errstate(over="ignore"):  # too large for dtype: an infinity, and an error
                encoded = [self._scaled(s, f"X[{i}]", dtype) for i, s in enumerate(X)]
        for i, sequence in enumerate(encoded):
            if len(sequence) == 0:
                raise _no_word(i, X[i])
        return encoded

    def _scaled(self, sequence: Any, name: str, dtype: np.dtype[Any]) -> Array:
        array = _features(sequence, name)
        if array.shape[1] != self.size:
            raise ValueError(f"{name}: expected (T, D) = (T, {self.size}) as in fit, got {array.shape}")
        if self.mean is not None:
            array = (array - self.mean) / self.deviation
        array = array.astype(dtype)
        if not np.isfinite(array).all():
            t, d = np.argwhere(~np.isfinite(array))[0]
            what = "NaN" if np.isnan(array[t, d]) else f"{array[t, d]}, infinity or too large for {dtype}"
            raise ValueError(f"{name}[{t}, {d}] is {what}: expected a finite number")
        return array

    def unseen(self, X: Any) -> Counter[Any]:
        """How often each token of X that fit did not see (or saw too rarely) comes; they all are ``<unk>``."""
        if self.vocabulary is not None:
            vocabulary = self.vocabulary
            return Counter(t for tokens in tokens_of(X, self.level) for t in tokens if t not in vocabulary)
        if self.kind == "ids":
            return Counter(int(i) for ids in X for i in ids if i >= self.size - 1)
        return Counter()

    def describe(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "kind": self.kind,
            "level": self.level,
            "size": self.size,
            "tokens": None if self.vocabulary is None else self.vocabulary.tokens[len(Vocabulary.SPECIALS) :],
            "mean": None if self.mean is None else self.mean.tolist(),
            "deviation": None if self.deviation is None else self.deviation.tolist(),
        }

    @classmethod
    def rebuild(cls, settings: dict[str, Any]) -> Encoder:
        """From what `describe` returned; anything else is a KeyError, TypeError or ValueError."""
        kind, level, size, tokens = (settings[name] for name in ("kind", "level", "size", "tokens"))
        has_tokens = tokens is not None
        if type(size) is not int or size < 1:
            raise ValueError(f"an input of size {size!r}")
        if (kind, has_tokens) not in (("text", True), ("tokens", True), ("ids", False), ("features", False)):
            raise ValueError(f"sequences of kind {kind!r} {'with' if has_tokens else 'without'} a vocabulary")
        vocabulary = Vocabulary(tokens) if has_tokens else None
        if vocabulary is not None and size != len(vocabulary):
            raise ValueError(f"{len(vocabulary)} tokens for a vocabulary of {size}")
        if level not in ("word", "character"):
            raise ValueError(f"tokens that are each a {level!r}")
        mean, deviation = settings["mean"], settings["deviation"]
        if mean is None and deviation is None:
            return cls(kind, vocabulary, size, level)
        return cls(kind, vocabulary, size, level, *rebuild_moments(mean, deviation, size))


def sequences_of(X: Any, lengths: ArrayLike | None = None, name: str = "X") -> Any:
    """X as something with one sequence for each item, whichever of the usual forms it has; errors call it `name`.

    - a list of sequences, or an array (N, T) or (N, T, D): without `lengths`
    - padded, (N, T) or (N, T, D) or a list of N padded rows, with N lengths: what is past them is not looked at
    - joined, (T_1 + ... + T_N, D) or (T_1 + ... + T_N,) or such a list, with N lengths

    An array of two dimensions that could be both is taken as padded.
    """
    if hasattr(X, "toarray"):  # first: one of SciPy's is a dict
        raise TypeError(f"{name}: expected dense sequences, got a sparse matrix; pass {name}.toarray()")
    if isinstance(X, Source):
        raise TypeError(f"{name}: expected sequences in memory, got {X!r}; fit and predict_each take sources")
    if X is None or isinstance(X, str | bytes | dict | set):
        raise TypeError(f"{name}: expected a list of sequences, got {type(X).__name__}")
    if not hasattr(X, "__len__") or hasattr(X, "iloc"):  # an array-like, or a data frame, whose items are columns
        if not hasattr(X, "__array__"):
            raise TypeError(f"{name}: expected a list of sequences, got {type(X).__name__}")
        X = np.asarray(X)
        X = X.tolist() if X.ndim == 1 else X
    if isinstance(X, np.ndarray):
        X = as_array(X, name)
        if X.ndim == 0:
            raise TypeError(f"{name}: expected a list of sequences, got one number")
        if X.dtype.kind == "c":
            raise ValueError(f"{name}: Complex data not supported; expected real numbers")
        if X.ndim == 1 and X.dtype.kind in "fiub" and lengths is None:
            raise ValueError(
                f"{name}: expected an array (N, T), got one of shape {X.shape}. Reshape your data, or pass lengths"
            )
        if X.ndim == 2 and X.shape[1] == 0 and len(X):
            raise ValueError(f"{name}: 0 feature(s) (shape={X.shape}) while a minimum of 1 is required.")
        if X.ndim >= 2 and X.dtype.kind == "O":
            X = _numbers(X, name)
    if lengths is None:
        return X
    n = as_array(lengths, "lengths")
    if n.ndim != 1 or (n.size and n.dtype.kind not in "iu") or (n < 0).any():
        raise ValueError(f"lengths: expected (N,) integers of 0 or more, got {n.shape} of {n.dtype}")
    padded = len(X) == len(n) and all(hasattr(row, "__len__") and not isinstance(row, ATOMS) for row in X)
    if padded:
        for i, (row, steps) in enumerate(zip(X, n, strict=True)):
            if steps > len(row):
                raise ValueError(f"lengths[{i}] = {steps}: expected at most {len(row)}, the steps of {name}[{i}]")
        return [row[:steps] for row, steps in zip(X, n, strict=True)]
    if n.sum() != len(X):
        raise ValueError(
            f"lengths: expected one for each of {len(X)} padded sequences, or a sum of {len(X)} joined steps, got "
            f"{len(n)} with a sum of {n.sum()}"
        )
    ends = np.cumsum(n)
    return [X[end - steps : end] for end, steps in zip(ends, n, strict=True)]


def steps_of(X: Any, level: str, lengths: ArrayLike | None = None) -> Any:
    """The sequences of X, with each text cut into its words or its characters as they are: a step for each target."""
    X = sequences_of(X, lengths)
    if not any(isinstance(sequence, str) for sequence in X):
        return X
    return [(tokenize if level == "word" else list)(s) if isinstance(s, str) else s for s in X]


def _numbers(X: Array, name: str) -> Array:
    """An array of objects as numbers, where they are all numbers."""
    if any(isinstance(value, str) for value in X.flat):
        return X
    try:
        return X.astype(np.float64)
    except (TypeError, ValueError) as error:
        message = f"{name}: expected numbers or strings; {error}. argument must be a string or a number"
        raise TypeError(message) from error


def columns_of(X: Any) -> int | None:
    """T, where X is a table: an array (N, T), or a list of N lists of T floating numbers."""
    if isinstance(X, np.ndarray):
        return X.shape[1] if X.ndim == 2 and X.dtype.kind in "fiub" else None
    lists = isinstance(X, list | tuple) and all(isinstance(row, list | tuple) and len(row) == len(X[0]) for row in X)
    return len(X[0]) if lists and all(isinstance(value, float) for row in X for value in row) else None


def count(X: Any) -> int:
    """How many sequences there are: at least one."""
    if len(X) == 0:
        raise ValueError("X: expected at least one sequence, got none")
    return len(X)


def tokens_of(X: Sequence[Any], level: str = "word") -> list[list[str]]:
    """Each sequence as a list of tokens: a string's words or characters; a list as it is."""
    return [_tokens(sequence, level) for sequence in X]


def _cut(X: Any, level: str) -> Iterator[list[str]]:
    for i, sequence in enumerate(X):
        tokens = _tokens(sequence, level)
        if not tokens and isinstance(X, Column):  # a list is encoded next; a stream would train for hours first
            raise _no_word(i, sequence)
        yield tokens


def _no_word(i: int, sequence: Any) -> ValueError:
    return ValueError(f"X[{i}]: expected at least one word, got none in {sequence!r}")


def _tokens(sequence: Any, level: str) -> list[str]:
    if not isinstance(sequence, str):
        return [str(token) for token in sequence]
    return tokenize(sequence) if level == "word" else list(unicodedata.normalize("NFC", sequence))


def _kind_of(X: Any) -> str:
    count(X)
    if isinstance(X, np.ndarray) and X.dtype.kind in "fiub" and X.ndim >= 2:
        return "features"
    kinds = {_kind_of_one(s, f"X[{i}]") for i, s in enumerate(X)} - {""}
    if len(kinds) > 1:
        raise ValueError(f"X: expected sequences of one kind, got {' and '.join(sorted(kinds))}")
    return kinds.pop() if kinds else "tokens"


def _kind_of_one(sequence: Any, name: str) -> str:
    if isinstance(sequence, str):
        return "text"
    if not hasattr(sequence, "__len__") or isinstance(sequence, ATOMS):
        kind = ValueError if isinstance(sequence, int | float | np.number) else TypeError
        raise kind(f"{name}: expected a string, tokens, ids or an array, got {sequence!r:.80}")
    if len(sequence) == 0:
        return ""
    if not isinstance(sequence, np.ndarray) and isinstance(next(iter(sequence), None), str):
        for t, token in enumerate(sequence):
            if not isinstance(token, str):
                raise TypeError(f"{name}[{t}]: expected a token, as before it, got {token!r:.80}")
        return "tokens"
    kind_of_array = as_array(sequence, name).dtype.kind
    if kind_of_array in "UO" and all(isinstance(token, str) for token in sequence):
        return "tokens"
    if kind_of_array in "iu" and np.ndim(sequence) == 1:
        return "ids"
    if kind_of_array in "fiub":
        return "features"
    raise TypeError(f"{name}: expected a string, tokens, ids or an array of numbers, got {sequence!r:.80}")


def _check_steps(X: Any) -> None:
    for i, sequence in enumerate(X):
        if len(sequence) == 0:
            raise ValueError(f"X[{i}]: expected at least one step, got an empty sequence ({sequence!r})")


def moments(steps: Array) -> tuple[Array, Array]:
    """Mean and deviation, (D,) each, of steps (M, D); a constant has the deviation 1."""
    largest = np.maximum(np.abs(steps).max(axis=0), np.finfo(np.float64).tiny)
    steps = steps / largest  # no square overflows
    deviation = steps.std(axis=0)
    constant = deviation <= 1e-13  # of a constant, rounding is left
    return steps.mean(axis=0) * largest, np.where(constant, 1.0, deviation * largest)


def joined_moments(parts: Iterable[Array]) -> tuple[Array, Array]:
    """The same of steps that come in parts (M_i, D)."""
    n, mean, deviation, largest = 0, np.zeros(1), np.zeros(1), np.zeros(1)
    for steps in parts:
        more, whole = len(steps), n + len(steps)
        top = np.maximum(np.abs(steps).max(axis=0), np.finfo(np.float64).tiny)
        own, spread = (steps / top).mean(axis=0) * top, (steps / top).std(axis=0) * top
        between = (own - mean) * (math.sqrt(n * more) / whole)
        deviation = np.hypot(np.hypot(deviation * math.sqrt(n / whole), spread * math.sqrt(more / whole)), between)
        mean = mean * (n / whole) + own * (more / whole)
        n, largest = whole, np.maximum(largest, top)
    return mean, np.where(deviation <= 1e-13 * largest, 1.0, deviation)


def rebuild_moments(mean: Any, deviation: Any, size: int) -> tuple[Array, Array]:
    """Moments of `size` columns from their lists in a file; anything else is a TypeError or ValueError."""
    m, d = np.array(mean, np.float64), np.array(deviation, np.float64)
    if not (m.shape == d.shape == (size,) and np.isfinite(m).all() and np.isfinite(d).all() and (d > 0).all()):
        raise ValueError(f"means {mean} and deviations {deviation} for {size} numbers")
    return m, d


def _ids(sequence: Any, name: str) -> Array:
    ids = as_array(sequence, name)
    if ids.min(initial=0) < 0:
        raise ValueError(f"{name}: expected token ids of 0 or more, got {ids.min()}")
    return ids


def _features(sequence: Any, name: str) -> Array:
    array = as_array(sequence, name)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: expected (T, D) or (T,) numbers, got {array.shape} of {array.dtype}")
    return array
