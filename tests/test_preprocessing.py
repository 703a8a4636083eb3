"""preprocessing.py: words, ids, padding, one-hot rows, batches and parts, and every error message."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rnnfast.preprocessing import Vocabulary, batches, one_hot, pad, split, tokenize, windows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" ...!? ", []),
        ("The film IS good.", ["the", "film", "is", "good"]),
        ("''Conan'' isn't rock'n'roll'", ["conan", "isn't", "rock'n'roll"]),
        ("don\u2019t", ["don't"]),
        ("3.5 stars_x", ["3", "5", "stars_x"]),
        ("CLICHÉS über Ёж", ["clichés", "über", "ёж"]),
        ("cliche\u0301s", ["clichés"]),
        ("हिन्दी में", ["हिन्दी", "में"]),  # vowel signs are combining marks, which `\w` lacks
        ("İstanbul", ["i̇stanbul"]),
        ("\u2764\ufe0f yes", ["yes"]),
    ],
)
def test_tokenize(text: str, words: list[str]) -> None:
    assert tokenize(text) == words


def test_vocabulary_ids() -> None:
    vocabulary = Vocabulary(["b", "a"])
    assert (Vocabulary.PAD, Vocabulary.SOS, Vocabulary.EOS, Vocabulary.UNK) == (0, 1, 2, 3)
    assert vocabulary.tokens == list(vocabulary) == ["<pad>", "<sos>", "<eos>", "<unk>", "b", "a"]
    assert len(vocabulary) == 6
    assert (vocabulary["b"], vocabulary["a"], vocabulary["c"], vocabulary["<eos>"]) == (4, 5, 3, 2)
    assert "a" in vocabulary
    assert "<pad>" in vocabulary
    assert "c" not in vocabulary
    assert 4 not in vocabulary
    assert vocabulary == Vocabulary(["b", "a"]) != Vocabulary(["a", "b"])
    assert vocabulary != ["b", "a"]
    assert repr(vocabulary) == "<Vocabulary of 6 tokens, 4 of them special>"
    vocabulary.tokens.append("c")
    assert len(vocabulary.tokens) == 6


def test_vocabulary_build() -> None:
    sequences = [["d", "b", "a"], ["b", "<unk>", "a", "b"], ["c"]]
    assert Vocabulary.build(sequences).tokens[4:] == ["b", "a", "c", "d"]
    assert Vocabulary.build(sequences, min_count=2).tokens[4:] == ["b", "a"]
    assert Vocabulary.build(sequences, max_size=3).tokens[4:] == ["b", "a", "c"]
    assert Vocabulary.build(["abb", "b"]).tokens[4:] == ["b", "a"]
    assert len(Vocabulary.build([])) == 4


def test_vocabulary_encode_decode() -> None:
    vocabulary = Vocabulary("ab")
    ids = vocabulary.encode("axb", sos=True, eos=True)
    assert ids.dtype == np.int64
    assert ids.tolist() == [1, 4, 3, 5, 2]
    assert vocabulary.encode(["b"]).tolist() == [5]
    empty = vocabulary.encode([])
    assert empty.dtype == np.int64
    assert empty.shape == (0,)
    assert vocabulary.decode(ids) == ["a", "<unk>", "b"]
    assert vocabulary.decode(ids, specials=True) == ["<sos>", "a", "<unk>", "b", "<eos>"]
    assert vocabulary.decode([]) == []


@given(st.lists(st.lists(st.text(max_size=3)), max_size=5))
def test_vocabulary_round_trip(sequences: list[list[str]]) -> None:
    vocabulary = Vocabulary.build(sequences)
    assert vocabulary == Vocabulary(vocabulary.tokens[4:])
    for sequence in sequences:
        assert vocabulary.decode(vocabulary.encode(sequence), specials=True) == sequence


def test_pad_ids() -> None:
    x, lengths = pad([[5, 6, 7], [], (8,), np.array([9, 9], dtype=np.uint8)], value=-1)
    assert x.dtype == lengths.dtype == np.int64
    assert x.tolist() == [[5, 6, 7], [-1, -1, -1], [8, -1, -1], [9, 9, -1]]
    assert lengths.tolist() == [3, 0, 1, 2]
    x, lengths = pad([[], []])
    assert x.dtype == np.int64
    assert x.shape == (2, 0)
    assert lengths.tolist() == [0, 0]


def test_pad_floating() -> None:
    x, lengths = pad([[1.5, 2.0], [], [3.0]], value=np.nan)
    assert x.dtype == np.float64
    assert lengths.tolist() == [2, 0, 1]
    np.testing.assert_array_equal(x, [[1.5, 2], [np.nan, np.nan], [3, np.nan]])
    x, _ = pad([[1], [2.5, 3]], dtype=np.float32)  # an explicit dtype makes both floating
    assert x.dtype == np.float32
    assert x.tolist() == [[1, 0], [2.5, 3]]


def test_pad_vectors() -> None:
    a, b = np.ones((2, 3), np.float32), np.full((1, 3), 2, np.float32)
    x, lengths = pad([a, [], b, np.zeros((0, 3), np.float32)])
    assert x.dtype == np.float32
    assert x.shape == (4, 2, 3)
    assert lengths.tolist() == [2, 0, 1, 0]
    assert x[0].tolist() == a.tolist()
    assert x[2].tolist() == [[2, 2, 2], [0, 0, 0]]
    assert not x[1].any()
    assert not x[3].any()
    assert pad([a, b.astype(np.float64)])[0].dtype == np.float64
    assert pad([[[1, 2]], [[3, 4], [5, 6]]])[0].dtype == np.float64
    assert pad([a.astype(">f4")])[0].dtype == np.float32


@pytest.mark.parametrize(
    ("sequences", "options", "error", "message"),
    [
        ([], {}, ValueError, "sequences: expected at least one sequence, got none"),
        ("ab", {}, TypeError, "sequences[0]: expected integers or floating numbers, got <U1"),
        ([[1], [True]], {}, TypeError, "sequences[1]: expected integers or floating numbers, got bool"),
        ([1, 2], {}, ValueError, "sequences[0]: expected shape (T_i,) or (T_i, D), got ()"),
        ([[[1], [1, 2]]], {}, ValueError, "sequences[0]: expected shape (T_i,) or (T_i, D), got "),
        (
            [np.ones((2, 3)), np.ones((2, 4))],
            {},
            ValueError,
            "sequences[1]: expected shape (T_i, 3) as before it, got (2, 4)",
        ),
        ([[1], [[2.0]]], {}, ValueError, "sequences[1]: expected shape (T_i,) as before it, got (1, 1)"),
        ([[], [1], [2.5]], {}, TypeError, "sequences[2]: expected integers as before it, got float64"),
        ([[2.5], [1]], {}, TypeError, "sequences[1]: expected floating numbers as before it, got int64"),
        ([[1]], {"dtype": int}, TypeError, "dtype: expected a floating dtype, got int64"),
        ([[1]], {"value": 0.5}, ValueError, "value: expected an integer to pad ids with, got 0.5"),
        ([[1]], {"value": np.nan}, ValueError, "value: expected an integer to pad ids with, got nan"),
    ],
)
def test_pad_errors(sequences: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        pad(sequences, **options)


def test_one_hot() -> None:
    rows = one_hot([[2, 0], [1, 2]], 3)
    assert rows.dtype == np.float32
    assert rows.tolist() == np.eye(3)[[[2, 0], [1, 2]]].tolist()
    assert one_hot(1, 3, dtype=np.float64).tolist() == [0, 1, 0]
    assert one_hot(np.zeros((2, 0, 3), int), 4).shape == (2, 0, 3, 4)
    assert one_hot([], 4).shape == (0, 4)
    rows = one_hot([[2, -7], [99, 99], [0, 1]], 3, lengths=[1, 0, 2])
    assert rows.tolist() == [[[0, 0, 1], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]], [[1, 0, 0], [0, 1, 0]]]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("bucket", [False, True])
@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 7))
def test_batches_cover_once(shuffle: bool, bucket: bool, lengths: list[int], size: int) -> None:
    generator = np.random.default_rng(0) if shuffle else None
    parts = list(batches(lengths, size, shuffle=generator, bucket=bucket))
    assert sorted(int(i) for part in parts for i in part) == list(range(len(lengths)))
    assert len(parts) == -(-len(lengths) // size)
    assert all(1 <= len(part) <= size and part.dtype == np.int64 for part in parts)


def test_batches_order() -> None:
    lengths = [5, 2, 9, 2, 5]
    assert [b.tolist() for b in batches(lengths, 2, bucket=False)] == [[0, 1], [2, 3], [4]]
    assert [b.tolist() for b in batches(lengths, 2)] == [[1, 3], [0, 4], [2]]
    shuffled = [[b.tolist() for b in batches(lengths, 2, shuffle=np.random.default_rng(s))] for s in (0, 0, 1)]
    assert shuffled[0] == shuffled[1] != shuffled[2]
    generator = np.random.default_rng(0)
    first, second = ([b.tolist() for b in batches(range(99), 2, shuffle=generator)] for _ in range(2))
    assert first != second


def test_batches_bucket_wastes_little_and_mixes() -> None:
    lengths = np.random.default_rng(1).integers(1, 60, size=4000)
    generator = np.random.default_rng(2)

    def padding(parts: list[Any]) -> float:
        return sum(len(p) * int(lengths[p].max()) for p in parts) / int(lengths.sum()) - 1

    bucketed = list(batches(lengths, 16, shuffle=generator))
    assert padding(bucketed) < 0.05 < 0.5 < padding(list(batches(lengths, 16, shuffle=generator, bucket=False)))
    firsts = [int(lengths[part[0]]) for part in bucketed]
    assert firsts != sorted(firsts)


def test_batches_differ_between_passes() -> None:
    generator = np.random.default_rng(0)
    passes = [{frozenset(b.tolist()) for b in batches(range(4000), 16, shuffle=generator)} for _ in range(2)]
    assert not passes[0] & passes[1]  # sorting within windows, not all, leaves each sequence new partners


def test_split() -> None:
    parts = split(100, [0.8, 0.1, 0.1], seed=3)
    assert [len(part) for part in parts] == [80, 10, 10]
    assert sorted(np.concatenate(parts).tolist()) == list(range(100))
    assert all((a == b).all() for a, b in zip(parts, split(100, [0.8, 0.1, 0.1], seed=3), strict=True))
    assert (parts[0] != split(100, [0.8, 0.1, 0.1], seed=4)[0]).any()
    assert parts[0].tolist() != sorted(parts[0].tolist())
    assert [len(part) for part in split(10_568, [0.8, 0.1, 0.1], seed=0)] == [8454, 1057, 1057]


SERIES = np.arange(20.0).reshape(10, 2)
TARGET = 100 + np.arange(30).reshape(10, 3)


@pytest.mark.parametrize("series", [SERIES, SERIES[:, 0], SERIES.tolist(), SERIES.astype(np.float32)])
@pytest.mark.parametrize("target", [None, TARGET, TARGET[:, 1], (TARGET[:, 1] % 2 == 0).tolist()])
@pytest.mark.parametrize(("length", "horizon"), [(1, 1), (3, 1), (3, 2), (1, 9), (9, 1), (4, 6)])
def test_windows(series: Any, target: Any, length: int, horizon: int) -> None:
    X, y = windows(series, length, horizon, target=target)
    past, future = np.asarray(series), np.asarray(series if target is None else target)
    n = 10 - length - horizon + 1
    assert X.shape == (n, length, 1 if past.ndim == 1 else 2)
    assert y.shape == (n, *(() if horizon == 1 else (horizon,)), *future.shape[1:])
    assert (X.dtype, y.dtype) == (past.dtype, future.dtype)
    for i in range(n):
        assert np.array_equal(X[i], past[i : i + length].reshape(length, -1))
        expected = future[i + length : i + length + horizon]
        assert np.array_equal(y[i], expected[0] if horizon == 1 else expected)


def test_windows_do_not_share_memory() -> None:
    series = SERIES.copy()
    X, y = windows(series, 3)
    X[0] = y[0] = -1
    assert np.array_equal(series, SERIES)
    assert np.array_equal(X[1], SERIES[1:4])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: windows(SERIES, 0), ValueError, "length: expected a positive integer, got 0"),
        (lambda: windows(SERIES, 2.0), TypeError, "length: expected a positive integer, got 2.0"),
        (lambda: windows(SERIES, 3, horizon=0), ValueError, "horizon: expected a positive integer, got 0"),
        (
            lambda: windows(SERIES, 8, 3),
            ValueError,
            "series: expected at least length + horizon = 11 times, got 10",
        ),
        (lambda: windows([], 1), ValueError, "series: expected at least length + horizon = 2 times, got 0"),
        (lambda: windows(5.0, 1), ValueError, "series: expected (M,) or (M, D) numbers, got () of float64"),
        (
            lambda: windows(np.ones((3, 2, 2)), 1),
            ValueError,
            "series: expected (M,) or (M, D) numbers, got (3, 2, 2)",
        ),
        (lambda: windows(["a", "b"], 1), ValueError, "series: expected (M,) or (M, D) numbers, got (2,) of <U1"),
        (lambda: windows([[1.0], [2.0, 3.0]], 1), ValueError, "series: expected (M,) or (M, D) numbers, got rows of"),
        (
            lambda: windows(SERIES, 2, target=TARGET[1:]),
            ValueError,
            "target: expected as many times as the series has, 10, got 9",
        ),
        (lambda: windows(SERIES, 2, target="abc"), ValueError, "target: expected (M,) or (M, D) numbers, got () of"),
        (lambda: tokenize(3), TypeError, "text: expected a str, got int"),
        (lambda: Vocabulary(["a", "a"]), ValueError, "tokens[1]: expected each ordinary token once, got 'a'"),
        (
            lambda: Vocabulary(["<eos>"]),
            ValueError,
            "tokens[0]: expected each ordinary token once, got '<eos>'",
        ),
        (lambda: Vocabulary([3]), TypeError, "tokens[0]: expected a str, got 3"),
        (lambda: Vocabulary.build([[3]]), TypeError, "sequences: expected tokens of type str, got 3"),
        (
            lambda: Vocabulary.build([], min_count=0),
            ValueError,
            "min_count: expected a positive integer, got 0",
        ),
        (
            lambda: Vocabulary.build([], max_size=0),
            ValueError,
            "max_size: expected a positive integer, got 0",
        ),
        (lambda: Vocabulary("ab")[3], TypeError, "token: expected a str, got 3"),
        (lambda: Vocabulary("ab").encode(["a", ["b"]]), TypeError, "token: expected a str, got ['b']"),
        (lambda: Vocabulary("ab").decode([4, 6]), ValueError, "ids[1] = 6: expected an id in [0, 6)"),
        (lambda: Vocabulary("ab").decode([-1]), ValueError, "ids[0] = -1: expected an id in [0, 6)"),
        (
            lambda: Vocabulary("ab").decode([4.0]),
            TypeError,
            "ids: expected integers of shape (T,), got float64",
        ),
        (
            lambda: one_hot([[1, 0], [0, 5]], 5),
            ValueError,
            "ids[1, 1] = 5: expected an id in [0, depth) = [0, 5)",
        ),
        (lambda: one_hot(-1, 5), ValueError, "ids = -1: expected an id in [0, depth) = [0, 5)"),
        (lambda: one_hot([1.0], 5), TypeError, "ids: expected integers, got float64"),
        (lambda: one_hot([1], 0), ValueError, "depth: expected a positive integer, got 0"),
        (
            lambda: one_hot([1], 5, lengths=[1]),
            ValueError,
            "ids: expected shape (N, T) with lengths, got (1,)",
        ),
        (
            lambda: one_hot([[1]], 5, lengths=[2]),
            ValueError,
            "lengths[0] = 2: expected a length in 0..T = 0..1",
        ),
        (
            lambda: one_hot([[1]], 5, lengths=[1, 1]),
            ValueError,
            "lengths: expected shape (N,) = (1,), got (2,)",
        ),
        (lambda: batches([1, -2], 3), ValueError, "lengths[1] = -2: expected 0 or more"),
        (lambda: batches([[1]], 3), ValueError, "lengths: expected shape (N,), got (1, 1)"),
        (lambda: batches([np.nan], 3), TypeError, "lengths: expected integers, got float64"),
        (lambda: batches([1], 2.0), TypeError, "batch_size: expected a positive integer, got 2.0"),
        (
            lambda: batches([1], 2, shuffle=True),
            TypeError,
            "shuffle: expected None or a numpy.random.Generator",
        ),
        (
            lambda: split(9, [0.5, 0.4], 0),
            ValueError,
            "fractions: expected positive numbers that sum to 1, got",
        ),
        (
            lambda: split(9, [1.5, -0.5], 0),
            ValueError,
            "fractions: expected positive numbers that sum to 1, got",
        ),
        (lambda: split(2, [0.8, 0.1, 0.1], 0), ValueError, "n = 2: the data set is too small, a part of"),
        (lambda: split(0, [1], 0), ValueError, "n: expected a positive integer, got 0"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()
