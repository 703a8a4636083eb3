"""Simple models of sequences of tokens, counted and not trained by gradients: what the networks are held against.

n-grams for generation; for transduction, a table of what each token becomes, alone or among its neighbours. Called by
the worked examples alone. The standard library alone: nothing here knows a network, a data set or a figure's goal.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

__all__ = ["NGrams", "Rewriter", "align"]

Tokens = Sequence[Any]  # a string, or a list of hashable tokens
Context = tuple[Any, ...]

LONGEST = 2  # what one token becomes at most: x is кс, or K S
START, END = object(), object()


class NGrams:
    """Interpolated n-grams with Witten-Bell smoothing.

    With c(h, w) how often w follows the context h, c(h) = Σ_w c(h, w), t(h) how many different tokens follow it, and h'
    the context without its first token::

        p(w | h) = (c(h, w) + t(h) p(w | h')) / (c(h) + t(h))

    and p(w | h') where h was never seen; below the empty context stands 1 / V, for V - 1 tokens that were seen and one
    for all others.

    Parameters
    ----------
    most : int
        How many tokens before a token are known at most; of an n-gram it is n - 1.
    sequences : iterable of strings or lists of tokens
    ends : bool
        The end of each sequence is one more token, and its beginning is known; else they are parts of longer ones.

    References
    ----------
    Witten and Bell (1991), The zero-frequency problem. Chen and Goodman (1999), An empirical study of smoothing
    techniques for language modeling.

    Examples
    --------
    >>> model = NGrams(1, ["abab"])
    >>> model.probability("a", "b")  # (2 + 1 p(b)) / (2 + 1), where p(b) = (2 + 2 / 3) / (4 + 2)
    0.8148148148148149
    """

    def __init__(self, most: int, sequences: Iterable[Tokens], *, ends: bool = False) -> None:
        if most < 0:
            raise ValueError(f"most: expected a number of tokens, 0 or more, got {most}")
        self.most, self.ends = most, ends
        counts: defaultdict[Context, Counter[Hashable]] = defaultdict(Counter)  # context -> what follows
        for sequence in sequences:
            tokens = self._tokens(sequence)
            for i in range(self.ends, len(tokens)):
                for k in range(min(most, i) + 1):
                    counts[tokens[i - k : i]][tokens[i]] += 1
        self.size = len(counts[()]) + 1
        self.followers = {context: (found, found.total(), len(found)) for context, found in counts.items()}

    def probability(self, context: Tokens, token: Hashable) -> float:
        """p(token | context), of which at most the last `most` tokens count."""
        context, p = tuple(context), 1 / self.size
        for k in range(min(self.most, len(context)) + 1):
            known = self.followers.get(context[len(context) - k :])
            if known is None:
                break
            counts, total, different = known
            p = (counts[token] + different * p) / (total + different)
        return p

    def cost(self, sequence: Tokens, most: int | None = None) -> float:
        """Σ -log2 p of the tokens of a sequence, its end among them with `ends`; `most` may be less here."""
        tokens, k = self._tokens(sequence), self.most if most is None else min(most, self.most)
        places = range(self.ends, len(tokens))
        return -sum(math.log2(self.probability(tokens[max(0, i - k) : i], tokens[i])) for i in places)

    def bits(self, sequences: Iterable[Tokens], most: int | None = None) -> float:
        """Bits per token: the mean cost over all tokens of held-out sequences."""
        sequences = list(sequences)
        count = sum(len(sequence) + self.ends for sequence in sequences)
        if not count:
            raise ValueError("sequences: expected at least one token, got none")
        return sum(self.cost(sequence, most) for sequence in sequences) / count

    def _tokens(self, sequence: Tokens) -> Context:
        return (START, *sequence, END) if self.ends else tuple(sequence)


def align(sources: Sequence[Tokens], targets: Sequence[Tokens], passes: int = 2) -> list[list[Any] | None]:
    """Which piece of its target each token of a source became: in order, 0 to 2 tokens each, together the target.

    The first guess cuts both into equal parts; then each pass counts which pieces a token has, and chooses for each
    pair the likeliest pieces anew (Viterbi training).

    Returns
    -------
    list
        For each pair a piece, a part of the target, for each token of its source; None where the target is over twice
        as long.

    Examples
    --------
    >>> align(["masha", "sam", "hasan", "nash"], ["маша", "сам", "хасан", "наш"])[0]
    ['м', 'а', 'ш', '', 'а']
    """
    pairs = [(s, t if isinstance(t, str) else tuple(t)) for s, t in zip(sources, targets, strict=True)]
    found: list[list[Any] | None] = []
    for s, t in pairs:
        n = max(len(s), 1)
        cuts = [-(-i * len(t) // n) for i in range(len(s) + 1)]  # rounded up: of several the first has the piece
        found.append([t[a:b][:LONGEST] for a, b in itertools.pairwise(cuts)])
    for _ in range(passes):
        counts: defaultdict[Hashable, Counter[Any]] = defaultdict(Counter)
        for (source, _), pieces in zip(pairs, found, strict=True):
            for token, piece in zip(source, pieces or (), strict=False):
                counts[token][piece] += 1
        costs = {}  # of each piece of a token; of a token of any other piece
        for token, pieces_of in counts.items():
            total = math.log(pieces_of.total() + 1)
            costs[token] = {piece: total - math.log(n) for piece, n in pieces_of.items()}, total + 3
        found = [_cheapest(source, target, costs) for source, target in pairs]
    return found


def _cheapest(source: Tokens, target: Any, costs: dict[Any, tuple[dict[Any, float], float]]) -> list[Any] | None:
    """The pieces of least cost that make up the target."""
    n, m = len(source), len(target)
    best, chosen = [0.0] + [math.inf] * m, []  # best[j]: the least cost of target[:j] so far
    for i, token in enumerate(source):
        known, other = costs.get(token, ({}, 0.0))
        row, lengths = [math.inf] * (m + 1), [0] * (m + 1)  # lengths[j]: of the piece of this token that ends at j
        for j in range(max(0, m - LONGEST * (n - i - 1)), min(m, LONGEST * (i + 1)) + 1):
            for length in range(min(LONGEST, j) + 1):
                if best[j - length] < row[j]:
                    cost = best[j - length] + known.get(target[j - length : j], other * (1 + length))
                    if cost < row[j]:
                        row[j], lengths[j] = cost, length
        best = row
        chosen.append(lengths)
    if best[m] == math.inf:
        return None
    pieces, j = [], m
    for lengths in reversed(chosen):
        pieces.append(target[j - lengths[j] : j])
        j -= lengths[j]
    return pieces[::-1]


class Rewriter:
    """Rewrites a sequence token by token: each as what it most often became among the same neighbours.

    Where these neighbours were not seen around it, fewer of them count: one less on the left, then on the right too.

    Parameters
    ----------
    sources, targets : sequences of strings or lists of tokens
    neighbours : int
        How many tokens on each side count at most; 0 is letter by letter.

    Examples
    --------
    >>> sources, targets = ["masha", "sam", "hasan", "nash"], ["маша", "сам", "хасан", "наш"]
    >>> Rewriter(sources, targets, neighbours=1)("shamasa")
    'шамаса'
    """

    def __init__(self, sources: Sequence[Tokens], targets: Sequence[Tokens], neighbours: int = 0) -> None:
        self.neighbours = neighbours
        self.empty: Any = "" if all(isinstance(target, str) for target in targets) else ()
        counts: defaultdict[Any, Counter[Any]] = defaultdict(Counter)
        for source, pieces in zip(sources, align(sources, targets), strict=True):
            for i, piece in enumerate(pieces or ()):
                for context in self._contexts(source, i, neighbours):
                    counts[context][piece] += 1
        self.table = {context: found.most_common(1)[0][0] for context, found in counts.items()}

    def __call__(self, source: Tokens, neighbours: int | None = None) -> Any:
        """The target, a string or a tuple; one that was never seen becomes nothing. `neighbours` may be less."""
        k = self.neighbours if neighbours is None else min(neighbours, self.neighbours)
        target = self.empty
        for i in range(len(source)):
            target += next((self.table[c] for c in self._contexts(source, i, k) if c in self.table), self.empty)
        return target

    def _contexts(self, source: Tokens, i: int, neighbours: int) -> list[tuple[Any, ...]]:
        """The token at i and its neighbours, most first."""
        edge = [None] * neighbours
        padded, at = [*edge, *source, *edge], i + neighbours
        spans = sorted({(k - less, k) for k in range(neighbours + 1) for less in (0, 1) if k >= less}, key=sum)
        return [(left, *padded[at - left : at + right + 1]) for left, right in reversed(spans)]
