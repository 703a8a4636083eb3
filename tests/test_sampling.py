"""sampling.py against brute force on random chains, counted frequencies, and plain formulas."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
from rnnfast.sampling import beam_search, filter_logits, log_softmax, sample, sample_sequences

Array = np.ndarray[Any, Any]


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    result: Array = e / e.sum(axis=-1, keepdims=True)
    return result


def random_chains(n: int, K: int, seed: int = 0, spread: float = 1.5) -> Array:
    """log p[problem, token before last, last token, next token]."""
    z = np.random.default_rng(seed).normal(0, spread, (n, K, K, K))
    return np.asarray(np.log(softmax(z)))


def second_order(chains: Array) -> Any:
    """A step whose state matters: which problem, and the token before the last."""

    def step(state: tuple[Array, ...], tokens: Array) -> tuple[Array, tuple[Array, ...]]:
        problem, before = state
        return chains[problem, before, tokens], (problem, tokens)

    return step


def brute_force(
    chain: Array, start: int, stop: int | None, max_length: int, length_penalty: float, forbidden: tuple[int, ...] = ()
) -> list[tuple[float, tuple[int, ...]]]:
    """Every sequence that there is, with its score, best first."""
    K = len(chain)
    found = []
    ordinary = [token for token in range(K) if token != stop and token not in forbidden]
    for length in range(max_length + 1):
        if length < max_length and stop is None:
            continue
        for tokens in itertools.product(ordinary, repeat=length):
            whole = (*tokens, stop) if length < max_length else tokens
            log_p, before, last = 0.0, 0, start
            for token in whole:
                log_p += chain[before, last, token]
                before, last = last, token
            found.append((log_p / len(whole) ** length_penalty, tokens))
    return sorted(found, reverse=True)


# ---- one token


def test_log_softmax() -> None:
    z = np.random.default_rng(0).normal(0, 5, (4, 7)).astype(np.float32)
    np.testing.assert_allclose(log_softmax(z), np.log(softmax(z.astype(float))), rtol=1e-12, atol=1e-14)
    assert log_softmax(z).dtype == np.float64
    assert log_softmax([-1e300, -np.inf, -1e300]).round(9).tolist() == [-0.693147181, -np.inf, -0.693147181]


def test_temperature() -> None:
    z = np.random.default_rng(0).normal(0, 2, (3, 5))
    for temperature in (0.5, 1.0, 3.0):
        p = softmax(filter_logits(z, temperature=temperature))
        np.testing.assert_allclose(p, softmax(z / temperature), rtol=1e-12)
    for tiny in (0, 1e-320):
        kept = filter_logits([[1.0, 2.0, 1.5]], temperature=tiny)
        assert kept.tolist() == [[-np.inf, 0, -np.inf]]


def test_numbers_of_any_size() -> None:
    z = np.array([[1e308, -1e308, 1e308]])
    assert filter_logits(z, temperature=0.1).tolist() == [[0, -np.inf, 0]]
    assert log_softmax(z).round(6).tolist() == [[-0.693147, -np.inf, -0.693147]]
    assert {*sample(np.repeat(z, 50, axis=0), np.random.default_rng(0)).tolist()} == {0, 2}


def test_top_k() -> None:
    z = np.array([[1.0, 3.0, 2.0, 3.0, 3.0], [0.0, -np.inf, 5.0, 1.0, 0.0]])
    kept = filter_logits(z, top_k=2)
    assert np.isfinite(kept).tolist() == [[False, True, False, True, False], [False, False, True, True, False]]
    np.testing.assert_allclose(kept[1, 2:4], [0, -4])
    assert (filter_logits(z, top_k=99) == z - [[3], [5]]).all()
    # of equals the first, and a token that cannot be stays so
    assert np.isfinite(filter_logits(z, top_k=4)).tolist()[1] == [True, False, True, True, True]
    assert [np.flatnonzero(np.isfinite(row)).tolist() for row in filter_logits(z, temperature=0)] == [[1], [2]]


def test_top_p() -> None:
    p = np.array([[0.1, 0.4, 0.3, 0.2], [0.25, 0.25, 0.25, 0.25]])
    for top_p, expected in (
        (1e-9, [[1], [0]]),
        (0.39, [[1], [0, 1]]),
        (0.41, [[1, 2], [0, 1]]),
        (0.69, [[1, 2], [0, 1, 2]]),
        (0.89, [[1, 2, 3], [0, 1, 2, 3]]),
        (1, [[0, 1, 2, 3], [0, 1, 2, 3]]),
    ):
        kept = filter_logits(np.log(p), top_p=top_p)
        assert [np.flatnonzero(np.isfinite(row)).tolist() for row in kept] == expected, top_p
    # the nucleus is that of the distribution which top_k and the forbidden leave: 0.3/0.5 and 0.2/0.5
    kept = filter_logits(np.log(p[:1]), top_p=0.59, top_k=2, forbidden=[1])
    assert np.flatnonzero(np.isfinite(kept)).tolist() == [2]


def test_nucleus_against_its_definition() -> None:
    z = np.random.default_rng(3).normal(0, 2, (50, 20))
    for row, kept in zip(z, np.isfinite(filter_logits(z, top_p=0.8)), strict=True):
        p = softmax(row)
        assert p[kept].sum() >= 0.8 > p[kept].sum() - p[kept].min()
        assert p[kept].min() > p[~kept].max()


def test_frequencies() -> None:
    p = np.array([0.5, 0.0, 0.2, 0.25, 0.05])
    n = 100_000
    with np.errstate(divide="ignore"):
        z = np.tile(np.log(p), (n, 1))
    for arguments, expected in (
        ({}, p),
        ({"temperature": 0.5}, p**2 / (p**2).sum()),
        ({"top_k": 2}, np.array([2, 0, 0, 1, 0]) / 3),
        ({"top_p": 0.9, "forbidden": [0]}, np.array([0, 0, 4, 5, 0]) / 9),
    ):
        counts = np.bincount(sample(z, np.random.default_rng(1), **arguments), minlength=5)
        assert (counts[expected == 0] == 0).all()
        some = expected > 0
        chi_square = ((counts[some] - n * expected[some]) ** 2 / (n * expected[some])).sum()
        assert chi_square < 18.5, arguments  # 99.9 % of chi-square with 4 degrees of freedom
        wrong = np.roll(expected[some], 1)
        assert ((counts[some] - n * wrong) ** 2 / (n * wrong)).sum() > 18.5


def test_a_draw_depends_on_its_own_row_and_number() -> None:
    z = np.random.default_rng(0).normal(size=(6, 4))
    together = sample(z, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    assert [sample(row[None], rng)[0] for row in z] == together.tolist()
    greedy, after = np.random.default_rng(5), np.random.default_rng(5)
    assert (sample(z, greedy, temperature=0) == z.argmax(axis=1)).all()
    after.random(6)
    assert greedy.random() == after.random()


@pytest.mark.parametrize("number", [0.0, np.nextafter(1, 0)])
def test_an_impossible_token_never_comes(number: float) -> None:
    class Fixed(np.random.Generator):
        def random(self, *args: Any, **kwargs: Any) -> Any:
            return np.full(args[0], number)

    rng = Fixed(np.random.PCG64())
    for seed in range(50):
        z = np.random.default_rng(seed).normal(0, 3, (40, 9))
        z[:, [0, 7, 8]] = -np.inf
        tokens = sample(z, rng)
        assert ((tokens > 0) & (tokens < 7)).all()


# ---- sequences


def test_sequences_equal_draws_one_by_one() -> None:
    chains = random_chains(3, 5)
    arguments = {"temperature": 0.7, "top_k": 3}
    state = (np.arange(3), np.zeros(3, int))
    got = sample_sequences(
        second_order(chains), state, [1, 2, 3], 4, max_length=30, rng=np.random.default_rng(2), **arguments
    )
    rng = np.random.default_rng(2)
    tokens, expected, open_rows = np.array([1, 2, 3]), [[], [], []], {0, 1, 2}  # type: ignore[var-annotated]
    for _ in range(30):
        logits, state = second_order(chains)(state, tokens)
        tokens = sample(logits, rng, **arguments)
        open_rows -= {i for i in open_rows if tokens[i] == 4}
        for i in open_rows:
            expected[i].append(int(tokens[i]))
    assert got == expected
    assert len({len(row) for row in got}) > 1


def test_sequences_stop() -> None:
    chain = np.where(np.roll(np.eye(4), 1, axis=1) > 0, 0.0, -np.inf)  # 0 → 1 → 2 → 3 → 0
    calls = []

    def step(state: None, tokens: Array) -> tuple[Array, None]:
        calls.append(tokens.tolist())
        return chain[tokens], state

    def run(start: list[int], stop: Any, **arguments: Any) -> list[list[int]]:
        calls.clear()
        return sample_sequences(step, None, start, stop, rng=None, temperature=0, **arguments)

    assert run([0, 2, 1], 3, max_length=9) == [[1, 2], [], [2]]
    assert len(calls) == 3
    assert run([0, 2], 3, max_length=2) == [[1, 2], []]
    assert run([0], None, max_length=5) == [[1, 2, 3, 0, 1]]
    assert run([0, 2, 1], [2, 3], max_length=9) == [[1], [], []]
    assert run([0], [], max_length=5) == run([0], None, max_length=5)
    assert run([], 3, max_length=5) == []
    assert calls == []


# ---- beam search


@pytest.mark.parametrize("stop", [None, 2])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 0.6])
@pytest.mark.parametrize("forbidden", [(), (0,)])
def test_a_wide_beam_finds_the_best_of_all(stop: int | None, length_penalty: float, forbidden: tuple[int, ...]) -> None:
    n, K, L = 4, 4, 4
    chains = random_chains(n, K)
    start = [1, 3, 0, 1]
    every = [brute_force(chains[i], start[i], stop, L, length_penalty, forbidden) for i in range(n)]
    for width, n_best in ((len(every[0]), len(every[0])), (300, 7), (300, 300)):
        sequences, scores = beam_search(
            second_order(chains), (np.arange(n), np.zeros(n, int)), start, stop, beam_width=width, max_length=L,
            length_penalty=length_penalty, forbidden=forbidden, n_best=n_best,
        )  # fmt: skip
        for i in range(n):
            expected = every[i][:n_best]
            assert [tuple(s) for s in sequences[i]] == [tokens for _, tokens in expected]
            np.testing.assert_allclose(scores[i], [score for score, _ in expected], rtol=1e-12)


@pytest.mark.parametrize("stop", [None, 0])
def test_a_beam_of_one_is_greedy(stop: int | None) -> None:
    n, K, L = 30, 6, 12
    chains = random_chains(n, K)
    state = (np.arange(n), np.zeros(n, int))
    start = np.arange(n) % K
    greedy = sample_sequences(second_order(chains), state, start, stop, max_length=L, rng=None, temperature=0)
    sequences, scores = beam_search(second_order(chains), state, start, stop, beam_width=1, max_length=L)
    assert [found[0] for found in sequences] == greedy
    for i, tokens in enumerate(greedy):
        whole = tokens if len(tokens) == L else [*tokens, 0]
        path = [0, int(start[i]), *whole]
        log_p = [chains[i][path[j], path[j + 1], path[j + 2]] for j in range(len(whole))]
        assert scores[i] == pytest.approx([np.mean(log_p)], rel=1e-12)
    assert stop is None or len({len(tokens) for tokens in greedy}) > 3


def plain_beam(chain: Array, start: int, stop: int | None, width: int, L: int) -> list[tuple[float, list[int]]]:
    """The same search, written with lists, for one problem."""
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    ended: list[tuple[float, list[int]]] = []
    for length in range(1, L + 1):
        grown = []
        for log_p, tokens in live:
            before, last = [0, start, *tokens][-2:]
            grown += [(log_p + chain[before, last, k], [*tokens, k]) for k in range(len(chain))]
        grown.sort(key=lambda item: -item[0])
        ended += [(score / length, tokens[:-1]) for score, tokens in grown[:width] if tokens[-1] == stop]
        live = [item for item in grown if item[1][-1] != stop][:width]
        if len(ended) >= width:
            break
    else:
        ended += [(score / L, tokens) for score, tokens in live]
    return sorted(ended, key=lambda item: -item[0])


@pytest.mark.parametrize("stop", [None, 3])
@pytest.mark.parametrize("width", [2, 3, 5])
def test_narrow_beams(stop: int | None, width: int) -> None:
    n, K, L = 25, 5, 8
    chains = random_chains(n, K, seed=width)
    start = np.arange(n) % K
    sequences, scores = beam_search(
        second_order(chains),
        (np.arange(n), np.zeros(n, int)),
        start,
        stop,
        beam_width=width,
        max_length=L,
        n_best=width,
    )
    for i in range(n):
        expected = plain_beam(chains[i], int(start[i]), stop, width, L)[:width]
        assert sequences[i] == [tokens for _, tokens in expected]
        np.testing.assert_allclose(scores[i], [score for score, _ in expected], rtol=1e-12)
        alone = beam_search(
            second_order(chains), (np.array([i]), np.array([0])), start[i : i + 1], stop, beam_width=width,
            max_length=L, n_best=width,
        )  # fmt: skip
        assert (alone[0][0], alone[1][0]) == (sequences[i], scores[i])  # whatever the others do


def test_several_stops() -> None:
    """One that ends with 2 or 4 is found among all that end with either."""
    chains = random_chains(1, 5, seed=7)
    every = []
    for stop, other in ((2, 4), (4, 2)):
        every += [found for found in brute_force(chains[0], 1, stop, 4, 1.0, (other,)) if len(found[1]) < 4]
    every += [found for found in brute_force(chains[0], 1, None, 4, 1.0, (2, 4))]
    best: dict[tuple[int, ...], float] = {}  # a sequence that both end counts once
    for score, tokens in sorted(every, reverse=True):
        best.setdefault(tokens, score)
    sequences, scores = beam_search(
        second_order(chains), (np.array([0]), np.array([0])), [1], [2, 4], beam_width=300, max_length=4, n_best=200
    )
    assert [tuple(s) for s in sequences[0]] == list(best)
    assert len(best) < len(every)
    np.testing.assert_allclose(scores[0], list(best.values()), rtol=1e-12)


def test_equal_scores_are_ordered() -> None:
    chain = np.full((3, 3), np.log(1 / 3))
    step = lambda state, tokens: (chain[tokens], state)  # noqa: E731
    sequences, _ = beam_search(step, (), [0], None, beam_width=4, max_length=2, n_best=4)
    assert sequences == [[[0, 0], [0, 1], [0, 2], [1, 0]]]


def test_fewer_sequences_than_asked_for() -> None:
    chain = np.log([[0.5, 0.5], [0.5, 0.5]])
    step = lambda state, tokens: (chain[tokens], state)  # noqa: E731
    sequences, scores = beam_search(step, (), [0, 1], None, beam_width=9, max_length=1, n_best=9)
    assert [sorted(found) for found in sequences] == [[[0], [1]], [[0], [1]]]
    assert [len(found) for found in scores] == [2, 2]
    assert beam_search(step, (), [0], None, beam_width=2, max_length=3, forbidden=[0, 1]) == ([[]], [[]])
    assert beam_search(step, (np.zeros((0, 3)),), [], None, beam_width=2, max_length=3) == ([], [])


# ---- errors

STEP = lambda state, tokens: (np.full((len(tokens), 4), np.log(0.25)), state)  # noqa: E731


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"temperature": -1}, ValueError, "temperature: expected a number of 0 or more, got -1"),
        ({"temperature": np.nan}, ValueError, "temperature: expected a number of 0 or more, got nan"),
        ({"temperature": "1"}, ValueError, "temperature: expected a number of 0 or more, got '1'"),
        ({"top_k": 0}, ValueError, "top_k: expected a positive integer, got 0"),
        ({"top_k": 2.0}, TypeError, "top_k: expected a positive integer, got 2.0"),
        ({"top_p": 0}, ValueError, "top_p: expected None or a number in (0, 1], got 0"),
        ({"top_p": 1.5}, ValueError, "top_p: expected None or a number in (0, 1], got 1.5"),
        ({"forbidden": [4]}, ValueError, "forbidden: expected tokens in [0, K) = [0, 4), got 4"),
        ({"forbidden": [-1]}, ValueError, "forbidden: expected a token of 0 or more, got -1"),
        ({"forbidden": ["a"]}, TypeError, "forbidden: expected an integer token, got 'a'"),
        ({"forbidden": range(4)}, ValueError, "logits[0]: expected a token that is possible and not forbidden"),
        ({"logits": [1.0]}, ValueError, "logits: expected (n, K) with K > 0, got (1,)"),
        ({"logits": [["a"]]}, TypeError, "logits: expected real numbers, got <U1"),
        ({"logits": [[1.0, 2.0], [0.0, np.nan]]}, ValueError, "logits[1, 1] = nan: expected a finite number or -inf"),
        ({"logits": [[np.inf]]}, ValueError, "logits[0, 0] = inf: expected a finite number or -inf"),
        ({"rng": None}, TypeError, "rng: expected a numpy.random.Generator, got None"),
        ({"rng": 3}, TypeError, "rng: expected a numpy.random.Generator, got 3"),
    ],
)
def test_errors_of_sample(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        sample(**{"logits": np.zeros((2, 4)), "rng": np.random.default_rng(0), **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"beam_width": 0}, ValueError, "beam_width: expected a positive integer, got 0"),
        ({"beam_width": True}, TypeError, "beam_width: expected a positive integer, got True"),
        ({"max_length": 0}, ValueError, "max_length: expected a positive integer, got 0"),
        ({"n_best": 3}, ValueError, "n_best: expected at most beam_width = 2, got 3"),
        ({"length_penalty": -0.5}, ValueError, "length_penalty: expected a number of 0 or more, got -0.5"),
        ({"start": [[0]]}, ValueError, "start: expected (n,) tokens, got shape (1, 1)"),
        ({"start": [0.5]}, TypeError, "start: expected integers, got float64"),
        ({"stop": 4}, ValueError, "stop: expected tokens in [0, K) = [0, 4), got 4"),
        ({"stop": "a"}, TypeError, "stop: expected an integer token, got 'a'"),
        ({"forbidden": [1, 3]}, ValueError, "stop: expected a token that is not forbidden, got 3"),
        ({"forbidden": [9]}, ValueError, "forbidden: expected tokens in [0, K) = [0, 4), got 9"),
        ({"state": np.zeros(2)}, TypeError, "state: expected a tuple of arrays, got ndarray"),
        ({"state": (np.zeros(3),)}, ValueError, "state[0]: expected a row for each of 2 hypotheses, got shape (3,)"),
        ({"step": lambda s, t: (np.zeros((1, 4)), s)}, ValueError, "expected (n, K) = (2, K) with K > 0, got (1, 4)"),
        ({"step": lambda s, t: (np.full((2, 4), 5.0), s)}, ValueError, "expected numbers of at most 0, got 5.0"),
        ({"step": lambda s, t: (np.full((2, 4), np.nan), s)}, ValueError, "of step[0, 0] = nan"),
        ({"step": lambda s, t: (np.zeros((2, 4)), (np.zeros(5),))}, ValueError, "state[0]: expected a row"),
    ],
)  # fmt: skip
def test_errors_of_beam_search(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    given: dict[str, Any] = {"step": STEP, "state": (), "start": [0, 1], "stop": 3, "beam_width": 2, "max_length": 4}
    with pytest.raises(error, match=re.escape(message)):
        beam_search(**{**given, **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_length": 1.5}, TypeError, "max_length: expected a positive integer, got 1.5"),
        ({"stop": -1}, ValueError, "stop: expected a token of 0 or more, got -1"),
        ({"stop": 7}, ValueError, "stop: expected tokens in [0, K) = [0, 4), got 7"),
        ({"temperature": -1}, ValueError, "temperature: expected a number of 0 or more"),
        ({"step": lambda s, t: (np.zeros(4), s)}, ValueError, "logits of step: expected (n, K) = (2, K) with K > 0"),
    ],
)
def test_errors_of_sample_sequences(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    given: dict[str, Any] = {"step": STEP, "state": (), "start": [0, 1], "stop": 3, "max_length": 4, "rng": None}
    given["rng"] = np.random.default_rng(0)
    with pytest.raises(error, match=re.escape(message)):
        sample_sequences(**{**given, **arguments})
