"""From sentences and arrays to what a recurrent network reads: ids, padding, masks, batches.

Tokens become ids (`tokenize`, `Vocabulary`), sequences of unequal length become one padded array and
its lengths (`pad`, `one_hot`), and a data set becomes training parts and batches (`split`, `batches`).
The estimators call all of it; training and users call it directly. It knows no layer, model or file.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .checks import as_array, check_positive, generator_of

__all__ = ["Vocabulary", "batches", "one_hot", "pad", "split", "tokenize", "windows"]

WINDOW = 50  # batches' worth of sequences that are sorted together: long enough to waste little padding


def tokenize(text: str) -> list[str]:
    """Split a text into lower-cased words; punctuation is dropped, inner apostrophes are kept.

    A word is letters, digits and underscores of any script with the combining marks that follow them.
    The text is first brought to Unicode form NFC, and a typographic apostrophe is written ``'``.

    >>> tokenize("It's GOOD, isn't it?  'Très bon!'")
    ["it's", 'good', "isn't", 'it', 'très', 'bon']
    """
    if not isinstance(text, str):
        raise TypeError(f"text: expected a str, got {type(text).__name__}")
    text = unicodedata.normalize("NFC", text.lower()).replace("\u2019", "'")
    # `\w` lacks combining marks, without which every Devanagari or Thai word falls apart.
    marks = "" if text.isascii() else "".join(sorted(c for c in set(text) if unicodedata.category(c)[0] == "M"))
    return re.findall(rf"\w[\w{marks}]*(?:'\w[\w{marks}]*)*", text)


class Vocabulary:
    """A two-way table of tokens and ids; ids 0 to 3 are ``<pad> <sos> <eos> <unk>``.

    Parameters
    ----------
    tokens : iterable of str
        The ordinary tokens in order: the first gets id 4. `Vocabulary.build` counts them in data.

    Raises
    ------
    TypeError, ValueError
        A token is not a str; a token is there twice, or is one of the four specials.

    Examples
    --------
    >>> vocabulary = Vocabulary.build([["a", "good", "film"], ["a", "bad", "film"]], min_count=2)
    >>> vocabulary.tokens
    ['<pad>', '<sos>', '<eos>', '<unk>', 'a', 'film']
    >>> vocabulary.encode(["a", "great", "film"], eos=True)
    array([4, 3, 5, 2])
    >>> vocabulary.decode([4, 3, 5, 2, 0])
    ['a', '<unk>', 'film']
    """

    PAD, SOS, EOS, UNK = range(4)
    SPECIALS = ("<pad>", "<sos>", "<eos>", "<unk>")

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        self._tokens = list(self.SPECIALS)
        self._ids = {token: id for id, token in enumerate(self.SPECIALS)}
        for place, token in enumerate(_iterated("tokens", tokens)):
            if not isinstance(token, str):
                raise TypeError(f"tokens[{place}]: expected a str, got {token!r}")
            if token in self._ids:
                kind = "a special" if token in self.SPECIALS else "there already"
                raise ValueError(f"tokens[{place}]: expected each ordinary token once, got {token!r}, {kind}")
            self._ids[token] = len(self._tokens)
            self._tokens.append(token)

    @classmethod
    def build(cls, sequences: Iterable[Iterable[str]], min_count: int = 1, max_size: int | None = None) -> Vocabulary:
        """Count the tokens of `sequences` (lists of tokens, or strings read as characters).

        Kept are those seen at least `min_count` times, the most frequent first and equals in
        alphabetical order, and of these the first `max_size` (specials not counted; None: all).
        """
        check_positive("min_count", min_count)
        if max_size is not None:
            check_positive("max_size", max_size)
        counts = Counter(
            token
            for place, sequence in enumerate(_iterated("sequences", sequences))
            for token in _iterated(f"sequences[{place}]", sequence)
        )
        for token in counts:
            if not isinstance(token, str):
                raise TypeError(f"sequences: expected tokens of type str, got {token!r}")
        kept = [t for t, n in counts.items() if n >= min_count and t not in cls.SPECIALS]
        kept.sort(key=lambda token: (-counts[token], token))
        return cls(kept[:max_size])

    def encode(self, tokens: Iterable[str], sos: bool = False, eos: bool = False) -> NDArray[np.int64]:
        """Return the ids of `tokens`, an unknown one as `UNK`, between `SOS` and `EOS` where asked."""
        ids = [self[token] for token in _iterated("tokens", tokens)]
        return np.array([self.SOS] * bool(sos) + ids + [self.EOS] * bool(eos), dtype=np.int64)

    def decode(self, ids: ArrayLike, specials: bool = False) -> list[str]:
        """Return the tokens of the 1-D `ids`; `PAD`, `SOS` and `EOS` only with `specials`.

        `UNK` is always kept, as ``<unk>``: it stands for a token. An id that is not in the vocabulary
        is a ValueError that names its place.
        """
        array = as_array(ids, "ids")
        if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
            raise TypeError(f"ids: expected integers of shape (T,), got {array.dtype} of shape {array.shape}")
        for place, id in enumerate(array):
            if not 0 <= id < len(self):
                raise ValueError(f"ids[{place}] = {id}: expected an id in [0, {len(self)})")
        return [self._tokens[id] for id in array if specials or id >= self.UNK]

    @property
    def tokens(self) -> list[str]:
        """All tokens in the order of their ids, specials first: a new list."""
        return self._tokens.copy()

    def __len__(self) -> int:
        return len(self._tokens)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tokens)

    def __contains__(self, token: object) -> bool:
        return isinstance(token, str) and token in self._ids

    def __getitem__(self, token: str) -> int:
        """Return the id of `token`, `UNK` when it is unknown."""
        if not isinstance(token, str):
            raise TypeError(f"token: expected a str, got {token!r}")
        return self._ids.get(token, self.UNK)

    def __eq__(self, other: object) -> bool:
        return self._tokens == other._tokens if isinstance(other, Vocabulary) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Vocabulary of {len(self)} tokens, {len(self.SPECIALS)} of them special>"


def pad(
    sequences: Iterable[Any], *, dtype: DTypeLike | None = None, value: float = 0
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Put sequences of unequal length into one array, and say how long each is.

    Parameters
    ----------
    sequences : iterable of N sequences
        All of one kind: (T_i,) integers (ids), (T_i,) floating numbers, or (T_i, D) numbers. T_i may be 0.
    dtype : a floating dtype, optional
        By default int64 for ids, float32 where every sequence is, else float64.
    value : float
        What stands past the end of a sequence.

    Returns
    -------
    x : (N, T) or (N, T, D), T the longest length
    lengths : (N,) int64

    Raises
    ------
    ValueError, TypeError
        No sequence; one of another shape or kind of numbers than those before it, which is named.

    Examples
    --------
    >>> x, lengths = pad([[5, 6, 7], [8]])
    >>> x.tolist(), lengths.tolist()
    ([[5, 6, 7], [8, 0, 0]], [3, 1])
    """
    arrays = [_as_sequence(sequence, f"sequences[{i}]") for i, sequence in enumerate(_iterated("sequences", sequences))]
    if not arrays:
        raise ValueError("sequences: expected at least one sequence, got none")
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"value: expected a number, got {value!r}")
    if dtype is not None and np.dtype(dtype).kind != "f":
        raise TypeError(f"dtype: expected a floating dtype, got {np.dtype(dtype)}")
    # An empty list says nothing of D or of the kind of numbers: the first that does is the model.
    known = [a for a in arrays if a.shape != (0,)] or [np.empty(0, np.int64)]
    features = known[0].shape[1:]  # () or (D,)
    ids = dtype is None and known[0].ndim == 1 and known[0].dtype == np.int64
    for i, a in enumerate(arrays):
        if a.shape == (0,):
            continue
        if a.shape[1:] != features:
            expected = f"(T_i, {features[0]})" if features else "(T_i,)"
            raise ValueError(f"sequences[{i}]: expected shape {expected} as before it, got {a.shape}")
        if dtype is None and a.ndim == 1 and (a.dtype == np.int64) != ids:
            kind = "integers" if ids else "floating numbers"
            raise TypeError(f"sequences[{i}]: expected {kind} as before it, got {a.dtype}")
    if ids and not (-(2**63) <= value < 2**63 and float(value).is_integer()):
        raise ValueError(f"value: expected an integer to pad ids with, got {value}")
    if dtype is None:
        dtype = np.int64 if ids else np.result_type(np.float32, *(a.dtype for a in known))
    lengths = np.array([len(a) for a in arrays], dtype=np.int64)
    x = np.full((len(arrays), lengths.max(), *features), value, dtype=dtype)
    for row, a in zip(x, arrays, strict=True):
        row[: len(a)] = a.reshape(len(a), *features)
    return x, lengths


def _as_sequence(sequence: Any, name: str) -> NDArray[Any]:
    """Return `sequence` as a (T_i,) or (T_i, D) array of int64 or of floating numbers."""
    try:
        array = np.asarray(sequence)
    except ValueError as error:  # rows of unequal length
        raise ValueError(f"{name}: expected shape (T_i,) or (T_i, D), got {error}") from None
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name}: expected integers or floating numbers, got {array.dtype}")
    if array.ndim not in (1, 2):
        raise ValueError(f"{name}: expected shape (T_i,) or (T_i, D), got {array.shape}")
    return array if array.dtype.kind == "f" else array.astype(np.int64, copy=False)


def one_hot(
    ids: ArrayLike, depth: int, *, lengths: ArrayLike | None = None, dtype: DTypeLike = np.float32
) -> NDArray[Any]:
    """Return the (..., depth) array that is 1 where the last index is the id, 0 elsewhere.

    Parameters
    ----------
    ids : (...) integers in [0, depth); (N, T) with `lengths`
        One that is out of range is a ValueError that names its place.
    lengths : (N,) integers in 0..T, optional
        Steps at or past a sequence's length are rows of zeros, and their ids may be anything.

    Examples
    --------
    >>> one_hot([[2, 0], [1, -1]], 3, lengths=[2, 1]).tolist()
    [[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]
    """
    check_positive("depth", depth)
    array = as_array(ids, "ids")
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"ids: expected integers, got {array.dtype}")
    valid: NDArray[np.bool_] = np.ones(array.shape, dtype=bool)
    if lengths is not None:
        if array.ndim != 2:
            raise ValueError(f"ids: expected shape (N, T) with lengths, got {array.shape}")
        valid = np.arange(array.shape[1]) < _check_lengths(lengths, *array.shape)[:, None]
    wrong = np.argwhere(valid & ((array < 0) | (array >= depth)))
    if len(wrong):
        place = tuple(wrong[0].tolist())
        name = f"ids[{', '.join(map(str, place))}]" if place else "ids"
        raise ValueError(f"{name} = {array[place]}: expected an id in [0, depth) = [0, {depth})")
    if array.size * int(depth) >= 2**46:
        raise MemoryError(f"depth: {array.size} rows of {depth} numbers are too many")
    x = np.zeros((array.size, depth), dtype=dtype)
    x[np.flatnonzero(valid), array[valid].astype(np.int64)] = 1
    return x.reshape(*array.shape, depth)


def batches(
    lengths: ArrayLike, batch_size: int, *, shuffle: np.random.Generator | None = None, bucket: bool = True
) -> Iterator[NDArray[np.int64]]:
    """Cut the indices of N sequences into batches; each index comes once, the last batch may be smaller.

    Parameters
    ----------
    lengths : (N,) non-negative integers
    shuffle : numpy.random.Generator, optional
        A new order for each call, decided by the generator. None: the given order.
    bucket : bool
        Sequences of similar length share a batch, so that little is padded. With `shuffle` the shuffled
        sequences are sorted by length within windows of 50 batches, and the batches come in random
        order; without, all are sorted by length (equal lengths keep their order).

    Examples
    --------
    >>> [batch.tolist() for batch in batches([5, 2, 9, 2], batch_size=2)]
    [[1, 3], [0, 2]]
    """
    check_positive("batch_size", batch_size)
    if shuffle is not None and not isinstance(shuffle, np.random.Generator):
        raise TypeError(f"shuffle: expected None or a numpy.random.Generator, got {shuffle!r}")
    lengths = _check_lengths(lengths)
    order = np.arange(len(lengths)) if shuffle is None else shuffle.permutation(len(lengths))
    if bucket:
        window = max(len(order), 1) if shuffle is None else WINDOW * batch_size
        for start in range(0, len(order), window):
            part = order[start : start + window]
            part[:] = part[np.argsort(lengths[part], kind="stable")]
    cut = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return iter(cut if shuffle is None else [cut[i] for i in shuffle.permutation(len(cut))])


def windows(
    series: ArrayLike, length: int, horizon: int = 1, *, target: ArrayLike | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Cut a series into overlapping pasts and what came after each: the data of a forecast.

    Parameters
    ----------
    series : (M,) or (M, D) numbers, one for each time
    length : int
        Steps of each past.
    horizon : int
        Steps ahead.
    target : (M,) or (M, K) numbers, optional
        What is forecast; None is the series itself.

    Returns
    -------
    X : (N, length, D) with N = M - length - horizon + 1; D = 1 for a series (M,)
        ``X[i]`` is ``series[i : i + length]``.
    y : (N,), (N, horizon), (N, K) or (N, horizon, K)
        ``target[i + length : i + length + horizon]``; without the axis of the horizon where that is 1.

    Raises
    ------
    ValueError
        A series that is too short, or a target of another length.

    Examples
    --------
    >>> X, y = windows([1.0, 2.0, 3.0, 4.0, 5.0], 2, horizon=2)
    >>> X[:, :, 0].tolist(), y.tolist()
    ([[1.0, 2.0], [2.0, 3.0]], [[3.0, 4.0], [4.0, 5.0]])
    """
    check_positive("length", length)
    check_positive("horizon", horizon)
    length, horizon = int(length), int(horizon)  # sums of NumPy's small integers overflow
    arrays = []
    for name, given in (("series", series), ("target", series if target is None else target)):
        try:
            array = np.asarray(given)
        except ValueError as error:
            raise ValueError(f"{name}: expected (M,) or (M, D) numbers, got rows of unequal length") from error
        if array.ndim not in (1, 2) or array.dtype.kind not in "fiub":
            raise ValueError(f"{name}: expected (M,) or (M, D) numbers, got {array.shape} of {array.dtype}")
        arrays.append(array)
    x, goal = arrays
    if len(goal) != len(x):
        raise ValueError(f"target: expected as many times as the series has, {len(x)}, got {len(goal)}")
    n = len(x) - length - horizon + 1
    if n < 1:
        raise ValueError(f"series: expected at least length + horizon = {length + horizon} times, got {len(x)}")
    start = np.arange(n)[:, None]
    y = goal[start + np.arange(length, length + horizon)]
    return x.reshape(len(x), -1)[start + np.arange(length)], y[:, 0] if horizon == 1 else y


def split(n: int, fractions: Sequence[float], seed: int) -> list[NDArray[np.int64]]:
    """Cut a seeded permutation of the indices 0..n-1 into parts that hold `fractions` of them.

    The sizes depend on `n` and `fractions` alone. A fraction that is not positive, fractions whose sum is
    not 1, and a part that would be empty are a ValueError.

    >>> [len(part) for part in split(10, [0.8, 0.1, 0.1], seed=0)]
    [8, 1, 1]
    """
    check_positive("n", n)
    if n >= 2**46:
        raise MemoryError(f"n: {n} indices are too many")
    for f in _iterated("fractions", fractions):
        if isinstance(f, bool) or not isinstance(f, int | float | np.integer | np.floating):
            raise TypeError(f"fractions: expected positive numbers that sum to 1, got {f!r}")
    if not all(f > 0 for f in fractions) or not math.isclose(math.fsum(fractions), 1, abs_tol=1e-9):
        raise ValueError(f"fractions: expected positive numbers that sum to 1, got {list(fractions)}")
    bounds = np.rint(np.cumsum(fractions) * n).astype(np.int64)
    parts = np.split(generator_of(seed).permutation(n), bounds[:-1])
    if not all(map(len, parts)):
        raise ValueError(f"n = {n}: the data set is too small, a part of {list(fractions)} of it is empty")
    return parts


def _iterated(name: str, items: Iterable[Any]) -> Iterator[Any]:
    try:
        return iter(items)
    except TypeError:
        raise TypeError(f"{name}: expected an iterable, got {items!r}") from None


def _check_lengths(lengths: ArrayLike, n: int | None = None, steps: int | None = None) -> NDArray[np.int64]:
    """Return `lengths` as an (n,) array of integers in 0..steps; with None, of any size."""
    array = as_array(lengths, "lengths")
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"lengths: expected integers, got {array.dtype}")
    if array.ndim != 1 or n not in (None, len(array)):
        expected = "(N,)" if n is None else f"(N,) = ({n},)"
        raise ValueError(f"lengths: expected shape {expected}, got {array.shape}")
    wrong = np.flatnonzero((array < 0) | (array > (math.inf if steps is None else steps)))
    if len(wrong):
        expected = "0 or more" if steps is None else f"a length in 0..T = 0..{steps}"
        raise ValueError(f"lengths[{wrong[0]}] = {array[wrong[0]]}: expected {expected}")
    return array.astype(np.int64)
