"""From the logits of the next token to token sequences: sampling, greedy search, beam search.

All of it takes a function that makes one step, ``step(state, tokens) -> (logits, state)``, for a batch side by side.
estimators/generator.py and estimators/transducer.py call it, and so may any NumPy code. It must not know of networks,
vocabularies or texts: a token is a number in [0, K).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import as_array, check_positive

__all__ = ["beam_search", "filter_logits", "log_softmax", "sample", "sample_sequences"]

Array = NDArray[Any]
Ids = NDArray[np.int64]
State = tuple[Array, ...]
Step = Callable[[Any, Ids], tuple[Array, Any]]


def log_softmax(logits: ArrayLike) -> NDArray[np.float64]:
    """Return z_k - log Σ_j exp(z_j) along the last axis in float64, for logits of any size; -inf stays -inf.

    >>> log_softmax([1000.0, 1000.0]).round(6).tolist()
    [-0.693147, -0.693147]
    """
    z = as_array(logits, "logits")
    if z.dtype.kind not in "fiub" or z.ndim == 0 or z.shape[-1] == 0:
        raise ValueError(f"logits: expected (..., K) real numbers with K > 0, got {z.shape} of {z.dtype}")
    z = z.astype(np.float64)
    with np.errstate(over="ignore"):  # far apart: -inf is right
        z = z - z.max(axis=-1, keepdims=True)
    shifted: NDArray[np.float64] = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return shifted


def filter_logits(
    logits: ArrayLike,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    forbidden: Iterable[int] = (),
) -> NDArray[np.float64]:
    """Return logits z' whose softmax is what :func:`sample` draws from; tokens that are left out have -inf.

    In this order: the `forbidden` tokens go; z' = (z - max z) / temperature; the `top_k` likeliest stay; of these the
    nucleus stays, the fewest likeliest tokens whose probabilities sum to at least `top_p`. Of equal logits the lower
    token comes first.

    Parameters
    ----------
    logits : (n, K) real numbers, -inf for tokens that cannot be
    temperature : float, 0 or more
        Under 1 the likely get likelier, over 1 the distribution gets flatter; 0 leaves the likeliest token alone.
    top_k : int, optional
        Fan, Lewis & Dauphin, Hierarchical neural story generation, ACL 2018.
    top_p : float in (0, 1], optional
        Holtzman et al., The curious case of neural text degeneration, ICLR 2020.
    forbidden : tokens in [0, K)

    Raises
    ------
    TypeError, ValueError
        Another shape or kind of numbers; NaN or +inf; a row without a possible token; an argument out of range.

    Examples
    --------
    >>> filter_logits([[1.0, 3.0, 2.0, 0.0]], top_k=2).tolist()
    [[-inf, 0.0, -1.0, -inf]]
    """
    z = _check_logits("logits", logits)
    filters = _Filters(temperature, top_k, top_p)
    return filters.apply(z, _check_forbidden(forbidden, z.shape[1]))


@dataclass(frozen=True)
class _Filters:
    temperature: float
    top_k: int | None
    top_p: float | None

    def __post_init__(self) -> None:
        if not _is_number(self.temperature) or not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature: expected a number of 0 or more, got {self.temperature!r}")
        if self.top_k is not None:
            check_positive("top_k", self.top_k)
        if self.top_p is not None and (not _is_number(self.top_p) or not 0 < self.top_p <= 1):
            raise ValueError(f"top_p: expected None or a number in (0, 1], got {self.top_p!r}")

    def apply(self, z: NDArray[np.float64], forbidden: list[int]) -> NDArray[np.float64]:
        """See `filter_logits`; z (n, K) is changed."""
        if forbidden:
            z[:, forbidden] = -np.inf
        peak = z.max(axis=1, keepdims=True)
        if not (peak > -np.inf).all():
            row = int(np.flatnonzero(peak == -np.inf)[0])
            raise ValueError(f"logits[{row}]: expected a token that is possible and not forbidden, got none")
        with np.errstate(over="ignore"):  # far apart, or a tiny temperature: -inf is right
            z -= peak
            if self.temperature == 0:
                return _only(z, z.argmax(axis=1)[:, None])
            z /= self.temperature
        if self.top_k is not None and self.top_k < z.shape[1]:
            z = _only(z, _largest(z, self.top_k))
        if self.top_p is not None and self.top_p < 1:
            order = np.argsort(-z, axis=1, kind="stable")
            p = np.exp(np.take_along_axis(z, order, axis=1))
            p /= p.sum(axis=1, keepdims=True)
            rows, places = np.nonzero(p.cumsum(axis=1) - p >= self.top_p)  # those before suffice
            z[rows, order[rows, places]] = -np.inf
        return z

    def draw(self, z: NDArray[np.float64], forbidden: list[int], rng: np.random.Generator | None) -> Ids:
        """A token for each row of z (n, K), which is changed."""
        z = self.apply(z, forbidden)
        if rng is None:
            greedy: Ids = z.argmax(axis=1)
            return greedy
        cumulative = np.exp(z, out=z).cumsum(axis=1)
        # u < 1: the place drawn is one where the sum rises, so a token with p = 0 never comes.
        u = rng.random(len(z)) * cumulative[:, -1]
        tokens: Ids = (cumulative <= u[:, None]).sum(axis=1)
        return tokens

    def check_generator(self, rng: Any) -> None:
        if not (isinstance(rng, np.random.Generator) or (rng is None and self.temperature == 0)):
            raise TypeError(f"rng: expected a numpy.random.Generator, got {rng!r}")


def sample(
    logits: ArrayLike,
    rng: np.random.Generator | None,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    forbidden: Iterable[int] = (),
) -> Ids:
    """Draw a token for each row of logits: p = softmax(:func:`filter_logits`).

    Parameters
    ----------
    logits : (n, K) real numbers
    rng : numpy.random.Generator
        Gives one number for each row, whatever the arguments; None will do where `temperature` is 0.
    temperature, top_k, top_p, forbidden :
        As for :func:`filter_logits`.

    Returns
    -------
    tokens : (n,) int64

    Examples
    --------
    >>> sample([[1.0, 3.0, 2.0], [5.0, 5.0, 0.0]], None, temperature=0).tolist()
    [1, 0]
    """
    z = _check_logits("logits", logits)
    filters = _Filters(temperature, top_k, top_p)
    filters.check_generator(rng)
    return filters.draw(z, _check_forbidden(forbidden, z.shape[1]), rng)


def sample_sequences(
    step: Step,
    state: Any,
    start: ArrayLike,
    stop: int | Iterable[int] | None,
    *,
    max_length: int,
    rng: np.random.Generator | None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    forbidden: Iterable[int] = (),
) -> list[list[int]]:
    """Draw token after token for n sequences side by side, until each has stopped.

    Parameters
    ----------
    step : function (state, tokens (n,)) -> (logits (n, K), state)
        Reads the last tokens and says what may come next.
    state : what `step` takes at first; only handed on
    start : (n,) integers, the first tokens to be read
    stop : the token that ends a sequence, or several of which each does, or None
    max_length : int
        Tokens of a sequence at most.
    rng, temperature, top_k, top_p, forbidden :
        As for :func:`sample`. Each step takes n random numbers, so that a sequence does not depend on when the others
        stop.

    Returns
    -------
    list of n lists of tokens, without `start` and `stop`

    Examples
    --------
    >>> chain = np.log([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]])  # 0 → 1 → 2 → 0, mostly
    >>> sample_sequences(lambda state, tokens: (chain[tokens], state), None, [0, 1], 2, max_length=5, rng=None,
    ...                  temperature=0)
    [[1], []]
    """
    tokens, stops, blocked = _check_start(start, stop, max_length, forbidden)
    filters = _Filters(temperature, top_k, top_p)
    filters.check_generator(rng)
    drawn: list[Ids] = []
    lengths = np.full(len(tokens), max_length)
    while len(drawn) < lengths.max(initial=0):
        logits, state = step(state, tokens)
        z = _check_logits("logits of step", logits, len(tokens))
        if not drawn:
            _check_stops(stops, z.shape[1])
            _check_forbidden(blocked, z.shape[1])
        tokens = filters.draw(z, blocked, rng)
        lengths[_is_one_of(tokens, stops) & (lengths > len(drawn))] = len(drawn)
        drawn.append(tokens)
    return [row[:length].tolist() for row, length in zip(np.transpose(drawn), lengths, strict=True)]


def beam_search(
    step: Step,
    state: State,
    start: ArrayLike,
    stop: int | Iterable[int] | None,
    *,
    beam_width: int,
    max_length: int,
    length_penalty: float = 1.0,
    forbidden: Iterable[int] = (),
    n_best: int = 1,
) -> tuple[list[list[list[int]]], list[list[float]]]:
    """Search likely token sequences for n problems side by side, keeping `beam_width` hypotheses of each.

    In each step every hypothesis is continued by every token, and the best `beam_width` continuations by log p stay.
    One that ends with `stop` leaves the beam; a problem is done when `beam_width` hypotheses have left it, or at
    `max_length`. Then all compete, those that were cut off too, by

        score = log p(tokens, stop) / L^length_penalty

    where L counts the tokens and the `stop`. A beam of 1 is greedy search; one as wide as the number of sequences
    finds the best of all. Equal scores: the earlier hypothesis, then the lower token.

    Parameters
    ----------
    step : function (state, tokens (m,)) -> (log_probabilities (m, K), state)
        Reads the last token of each of m hypotheses, of any problems.
    state : tuple of arrays (n, ...)
        The first axis is the hypothesis: the search picks rows, ``tuple(s[rows] for s in state)``.
    start : (n,) integers, the first tokens to be read
    stop : the token that ends a sequence, or several of which each does, or None: only `max_length` does
    beam_width : int
    max_length : int
        Tokens of a sequence at most.
    length_penalty : float, 0 or more
        0 compares sums, which favours short sequences; 1 compares means.
    forbidden : tokens that are never produced
    n_best : int
        Sequences to return for each problem, at most `beam_width`.

    Returns
    -------
    sequences : for each problem a list of token lists, best first, without `start` and `stop`
        Fewer than `n_best` where there are not so many that are possible.
    scores : for each problem the list of their scores

    Raises
    ------
    TypeError, ValueError
        An argument out of range; `step` returns another shape, or what is not log probabilities.

    Examples
    --------
    Taking the likelier first token, greedy search misses the likelier sequence 1, 1 (0.4 · 0.9 > 0.6 · 0.5):

    >>> chain = np.log([[0.5, 0.5], [0.1, 0.9], [0.6, 0.4]])
    >>> for width in (1, 2):
    ...     sequences, scores = beam_search(lambda s, tokens: (chain[tokens], s), (), [2], None, beam_width=width,
    ...                                     max_length=2, length_penalty=0)
    ...     print(sequences[0], np.exp(scores[0]).round(2))
    [[0, 0]] [0.3]
    [[1, 1]] [0.36]
    """
    for name, number in (("beam_width", beam_width), ("n_best", n_best)):
        check_positive(name, number)
    if n_best > beam_width:
        raise ValueError(f"n_best: expected at most beam_width = {beam_width}, got {n_best}")
    if not _is_number(length_penalty) or not 0 <= length_penalty < math.inf:
        raise ValueError(f"length_penalty: expected a number of 0 or more, got {length_penalty!r}")
    length_penalty = float(min(length_penalty, 300))  # more compares as much, and whole powers would not end
    last, stops, blocked = _check_start(start, stop, max_length, forbidden)
    state = _check_state(state, len(last))
    ended: list[list[tuple[float, list[int]]]] = [[] for _ in last]

    # Of the a problems that are not done, each with b hypotheses; one that is impossible has log p = -inf.
    problem = np.arange(len(last))  # (a,)
    total = np.zeros((len(last), 1))  # (a, b) log p
    tokens: Ids = np.empty((len(last), 1, 0), np.int64)  # (a, b, length)
    for length in range(1, max_length + 1):
        if not len(problem):
            break
        log_p, state = step(state, last)
        log_p = _check_logits("log probabilities of step", log_p, len(last))
        if (log_p > 0.01).any():
            raise ValueError(f"log probabilities of step: expected numbers of at most 0, got {log_p.max()}")
        (a, b), K = total.shape, log_p.shape[1]
        _check_stops(stops, K)
        log_p[:, _check_forbidden(blocked, K)] = -np.inf
        candidates = (total[:, :, None] + log_p.reshape(a, b, K)).reshape(a, b * K)
        # As many continuations of each hypothesis as there are stops end it: so many hold a full beam that goes on.
        best = _largest(candidates, min((1 + len(stops)) * beam_width, b * K))
        score = np.take_along_axis(candidates, best, axis=1)
        parent, token = best // K, best % K
        ends = _is_one_of(token, stops)
        for i, j in np.argwhere((ends & (score > -np.inf))[:, :beam_width]):
            ended[problem[i]].append((score[i, j] / length**length_penalty, tokens[i, parent[i, j]].tolist()))

        keep = np.argsort(ends, axis=1, kind="stable")[:, :beam_width]
        score[ends] = -np.inf
        total, parent, token = (np.take_along_axis(array, keep, axis=1) for array in (score, parent, token))
        tokens = np.concatenate([np.take_along_axis(tokens, parent[:, :, None], axis=1), token[:, :, None]], axis=2)
        going = (total > -np.inf).any(axis=1) & np.array([len(ended[p]) < beam_width for p in problem])
        rows = (parent + np.arange(a)[:, None] * b)[going].ravel()
        state = tuple(s[rows] for s in _check_state(state, a * b))
        problem, total, tokens, last = problem[going], total[going], tokens[going], token[going].ravel()
    for i, j in np.argwhere(total > -np.inf):
        ended[problem[i]].append((total[i, j] / max_length**length_penalty, tokens[i, j].tolist()))
    sequences, scores = [], []
    for found in ended:
        ranked: dict[tuple[int, ...], float] = {}  # a sequence that several stops end counts once, as its best end
        for value, sequence in sorted(found, key=lambda item: -item[0]):
            ranked.setdefault(tuple(sequence), float(value))
        sequences.append([list(sequence) for sequence in ranked][:n_best])
        scores.append(list(ranked.values())[:n_best])
    return sequences, scores


def _largest(values: Array, k: int) -> Ids:
    """Places (n, k) of the k largest of each row of (n, M), best first; of equals the first."""
    n, M = values.shape
    places = np.broadcast_to(np.arange(M), (n, M))
    if k < M:
        threshold = np.partition(values, M - k, axis=1)[:, M - k, None]
        above, equal = values > threshold, values == threshold
        kept = above | (equal & (equal.cumsum(axis=1) <= k - above.sum(axis=1, keepdims=True)))
        places = np.nonzero(kept)[1].reshape(n, k)
    order = np.argsort(-np.take_along_axis(values, places, axis=1), axis=1, kind="stable")
    return np.take_along_axis(places, order, axis=1)


def _only(z: Array, kept: Ids) -> Array:
    only = np.full_like(z, -np.inf)
    np.put_along_axis(only, kept, np.take_along_axis(z, kept, axis=1), axis=1)
    return only


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _check_logits(name: str, logits: Any, rows: int | None = None) -> NDArray[np.float64]:
    """The logits as (n, K) float64, a copy."""
    array = as_array(logits, "logits")
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name}: expected real numbers, got {array.dtype}")
    if array.ndim != 2 or array.shape[1] == 0 or rows not in (None, len(array)):
        expected = "(n, K)" if rows is None else f"(n, K) = ({rows}, K)"
        raise ValueError(f"{name}: expected {expected} with K > 0, got {array.shape}")
    if array.size and not array.max() < np.inf:  # NaN is not
        row, token = np.argwhere(np.isnan(array) | (array == np.inf))[0].tolist()
        raise ValueError(f"{name}[{row}, {token}] = {array[row, token]}: expected a finite number or -inf")
    return array.astype(np.float64)


def _check_forbidden(forbidden: Iterable[int], K: int) -> list[int]:
    if not isinstance(forbidden, Iterable):
        raise TypeError(f"forbidden: expected tokens, got {forbidden!r}")
    tokens = [int(_check_token("forbidden", token)) for token in forbidden]
    for token in tokens:
        if token >= K:
            raise ValueError(f"forbidden: expected tokens in [0, K) = [0, {K}), got {token}")
    return tokens


def _check_token(name: str, token: Any) -> Any:
    if isinstance(token, bool) or not isinstance(token, int | np.integer):
        raise TypeError(f"{name}: expected an integer token, got {token!r}")
    if not 0 <= token < 2**63:
        raise ValueError(f"{name}: expected a token of 0 or more{', below 2**63' if token > 0 else ''}, got {token}")
    return token


def _check_stops(stops: Ids, K: int) -> None:
    if len(stops) and stops.max() >= K:
        raise ValueError(f"stop: expected tokens in [0, K) = [0, {K}), got {stops.max()}")


def _is_one_of(tokens: Ids, stops: Ids) -> NDArray[np.bool_]:
    one: NDArray[np.bool_] = (tokens[..., None] == stops).any(axis=-1)
    return one


def _check_start(start: ArrayLike, stop: Any, max_length: Any, forbidden: Iterable[int]) -> tuple[Ids, Ids, list[int]]:
    """The first tokens (n,), those that end a sequence, and those that are forbidden."""
    tokens = np.asarray(start)
    if tokens.ndim != 1:
        raise ValueError(f"start: expected (n,) tokens, got shape {tokens.shape}")
    if tokens.size and tokens.dtype.kind not in "iu":
        raise TypeError(f"start: expected integers, got {tokens.dtype}")
    check_positive("max_length", max_length)
    if not isinstance(forbidden, Iterable):
        raise TypeError(f"forbidden: expected tokens, got {forbidden!r}")
    blocked = [_check_token("forbidden", token) for token in forbidden]
    several = isinstance(stop, Iterable) and not isinstance(stop, str)
    stops = np.array(
        [_check_token("stop", token) for token in (stop if several else [] if stop is None else [stop])], int
    )
    for token in stops:
        if token in blocked:
            raise ValueError(f"stop: expected a token that is not forbidden, got {token}")
    return tokens.astype(np.int64), stops, blocked


def _check_state(state: Any, rows: int) -> State:
    if not isinstance(state, tuple | list):
        raise TypeError(f"state: expected a tuple of arrays, got {type(state).__name__}")
    arrays = tuple(np.asarray(s) for s in state)
    for i, array in enumerate(arrays):
        if array.ndim == 0 or len(array) != rows:
            raise ValueError(f"state[{i}]: expected a row for each of {rows} hypotheses, got shape {array.shape}")
    return arrays
