"""estimators/encoding.py: the three forms of ragged input, what is learnt from the training data, and what is said of
the rest."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
from rnnfast.estimators.encoding import Encoder, columns_of, moments, sequences_of, tokens_of
from rnnfast.estimators.tagger import WordParts

F4, F8 = np.dtype(np.float32), np.dtype(np.float64)
LENGTHS = [2, 4, 1]
FEATURES = [np.arange(3.0 * n).reshape(n, 3) - n for n in LENGTHS]
IDS = [np.arange(n) + n for n in LENGTHS]
TOKENS = [["a", "b"], ["b", "c", "a", "a"], ["d"]]


def same(a: Any, b: Any) -> bool:
    return len(a) == len(b) and all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("sequences", [FEATURES, IDS, TOKENS], ids=["features", "ids", "tokens"])
@pytest.mark.parametrize("dtype", [int, np.uint8, np.int64])
def test_three_forms(sequences: Any, dtype: Any) -> None:
    """A list; joined with lengths; padded with lengths: as arrays or as lists, whatever stands in the padding."""
    lengths = np.array(LENGTHS, dtype)
    joined = [step for sequence in sequences for step in sequence]
    filler = {"a": "x"}.get(sequences[0][0]) if sequences is TOKENS else np.full_like(sequences[0][0], -5)
    padded = [[*s, *[filler] * (4 - len(s))] for s in sequences]
    forms = [(sequences, None), (joined, lengths), (padded, lengths), (padded, lengths.tolist())]
    if sequences is not TOKENS:
        forms += [(np.array(joined), lengths), (np.array(padded), LENGTHS), (np.array(padded).tolist(), lengths)]
    else:
        forms += [(np.array(joined), lengths), (np.array(padded, object), lengths)]
    for X, n in forms:
        assert same(sequences_of(X, n), sequences)


def test_arrays_are_rows() -> None:
    table, cube = np.ones((3, 4)), np.ones((3, 4, 2))
    assert sequences_of(table) is table
    assert sequences_of(cube) is cube
    assert same(sequences_of(table, [4, 0, 2]), [np.ones(4), np.ones(0), np.ones(2)])
    assert [len(s) for s in sequences_of(np.ones(7), [3, 4])] == [3, 4]
    assert [s.shape for s in sequences_of(np.ones((7, 2)), [3, 4])] == [(3, 2), (4, 2)]
    assert [s.shape for s in sequences_of(np.ones((2, 5)), [3, 4])] == [(3,), (4,)]  # could be both: padded
    assert sequences_of(np.array([[1, 2.5]], object)).dtype == np.float64


class Table:
    """What pandas' frames have, whose items are columns."""

    iloc = None

    def __len__(self) -> int:
        return 2

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


class Column(Table):
    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(["a text", "another"], object)


def test_data_frames() -> None:
    assert sequences_of(Table()).shape == (2, 3)
    assert sequences_of(Column()) == ["a text", "another"]


@pytest.mark.parametrize(
    ("X", "lengths", "error", "message"),
    [
        (None, None, TypeError, "Z: expected a list of sequences, got NoneType"),
        ("text", None, TypeError, "Z: expected a list of sequences, got str"),
        (b"text", None, TypeError, "Z: expected a list of sequences, got bytes"),
        ({"a": 1}, None, TypeError, "Z: expected a list of sequences, got dict"),
        ({"a"}, None, TypeError, "Z: expected a list of sequences, got set"),
        (5, None, TypeError, "Z: expected a list of sequences, got int"),
        ((s for s in TOKENS), None, TypeError, "Z: expected a list of sequences, got generator"),
        (np.array(5.0), None, TypeError, "Z: expected a list of sequences, got one number"),
        (np.array([1j]), None, ValueError, "Z: Complex data not supported"),
        (np.ones(3), None, ValueError, "Z: expected an array (N, T), got one of shape (3,). Reshape your data"),
        (np.ones((3, 0)), None, ValueError, "Z: 0 feature(s) (shape=(3, 0)) while a minimum of 1 is required."),
        (np.array([[{}, 1]]), None, TypeError, "Z: expected numbers or strings; "),
        (FEATURES, [[2, 4, 1]], ValueError, "lengths: expected (N,) integers of 0 or more, got (1, 3) of int64"),
        (FEATURES, 7, ValueError, "lengths: expected (N,) integers of 0 or more, got () of int64"),
        (FEATURES, [2, 4, -1], ValueError, "lengths: expected (N,) integers of 0 or more"),
        (FEATURES, [2.0, 4.0, 1.0], ValueError, "lengths: expected (N,) integers of 0 or more, got (3,) of float64"),
        (FEATURES, [2, 5, 1], ValueError, "lengths[1] = 5: expected at most 4, the steps of Z[1]"),
        (np.ones((7, 3)), [2, 4], ValueError, "lengths: expected one for each of 7 padded sequences, or a sum of 7"),
        (np.ones(7), [2, 4, 2], ValueError, "joined steps, got 3 with a sum of 8"),
        (
            [{1}, {2, 3}, {4}],
            [1, 1, 0],
            ValueError,
            "lengths: expected one for each of 3 padded sequences, or a sum of 3",
        ),
        (FEATURES, [2, 4], ValueError, "lengths: expected one for each of 3 padded sequences, or a sum of 3 joined"),
    ],
)
def test_what_is_no_list_of_sequences(X: Any, lengths: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        sequences_of(X, lengths, "Z")


def test_sparse_matrices() -> None:
    class Sparse:
        def toarray(self) -> None: ...

    with pytest.raises(
        TypeError, match=re.escape("X: expected dense sequences, got a sparse matrix; pass X.toarray()")
    ):
        sequences_of(Sparse())


def test_columns() -> None:
    assert columns_of(np.ones((3, 4))) == 4
    assert columns_of([[1.0, 2.0], [3.0, 4.0]]) == 2
    for X in (np.ones((3, 4, 2)), [[1.0], [2.0, 3.0]], [[1, 2], [3, 4]], FEATURES, TOKENS, ["ab", "cd"], None,
              np.array(["ab"])):  # fmt: skip
        assert columns_of(X) is None


def test_words_and_characters() -> None:
    texts = ["It's fine, fine!", "Fine day"]
    words = Encoder.learn(texts)
    assert (words.kind, words.level) == ("text", "word")
    assert words.vocabulary is not None
    assert words.vocabulary.tokens[4:] == ["fine", "day", "it's"]
    assert [ids.tolist() for ids in words(["day it's new", "FINE"], F4)] == [[5, 6, 3], [4]]
    assert same(words([["day", "it's", "new"], ["fine"]], F4), words(["day it's new", "FINE"], F4))  # tokens to texts
    letters = Encoder.learn(["ab", "b!"], level="character")
    assert letters.vocabulary is not None
    assert letters.vocabulary.tokens[4:] == ["b", "!", "a"]
    assert letters(["!ba?"], F4)[0].tolist() == [5, 4, 6, 3]
    assert tokens_of(["e\u0301"], "character") == [["é"]]
    rare = Encoder.learn(texts, min_count=2)
    assert rare.vocabulary is not None
    assert rare.vocabulary.tokens[4:] == ["fine"]
    with pytest.raises(ValueError, match="level: expected 'word' or 'character', got 'letter'"):
        Encoder.learn(texts, level="letter")


def test_unseen_is_counted() -> None:
    words = Encoder.learn(["a fine day", "a dull day", "a day"], min_count=2)
    assert words.unseen(["a new day", "new fine days"]) == Counter({"new": 2, "fine": 1, "days": 1})
    assert words.unseen([["a", "New"]]) == Counter({"New": 1})
    ids = Encoder.learn([[1, 2], [7]])
    assert ids.size == 9  # 0..7 and the unknown one
    assert ids.unseen([[1, 8], np.array([99, 0, 99])]) == Counter({99: 2, 8: 1})
    given = np.array([0, 7, 8, 10**12])
    assert ids([given, [3]], F4)[0].tolist() == [0, 7, 8, 8]
    assert given[3] == 10**12  # the input is not changed
    assert Encoder.learn(FEATURES).unseen(FEATURES) == Counter()


@pytest.mark.parametrize("dtype", [F4, F8])
def test_scaling(dtype: np.dtype[Any]) -> None:
    """Mean 0 and deviation 1 over all steps, not over sequences; the same for new data."""
    encoder = Encoder.learn(FEATURES, scale=True)
    steps = np.concatenate(FEATURES)
    scaled = np.concatenate(encoder(FEATURES, dtype))
    assert scaled.dtype == dtype
    np.testing.assert_allclose(scaled, (steps - steps.mean(axis=0)) / steps.std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(axis=0), 1, rtol=1e-6)
    np.testing.assert_allclose(encoder([steps.mean(axis=0)[None]], dtype)[0], 0, atol=1e-6)
    plain = Encoder.learn(FEATURES)
    assert plain.mean is plain.deviation is None
    assert same(plain(FEATURES, F8), FEATURES)
    table = np.arange(12).reshape(3, 4)
    assert [s.shape for s in Encoder.learn(table, scale=True)(table, dtype)] == [(4, 1)] * 3


def test_moments() -> None:
    steps = np.random.default_rng(0).normal(3, 2, (50, 2))
    mean, deviation = moments(steps)
    np.testing.assert_allclose(mean, steps.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(deviation, steps.std(axis=0), rtol=1e-14)
    # A constant, though its mean is rounded, is no small deviation: what differs later would be huge.
    for constant in (0.1, 1e300, -1e-300, 0.0, 1 / 3):
        mean, deviation = moments(np.full((7, 1), constant))
        assert deviation.tolist() == [1.0], constant
        assert mean[0] == pytest.approx(constant, rel=1e-15)
    assert moments(np.array([[0.1 + 0.2], [0.3], [0.3]]))[1].tolist() == [1.0]
    times = 1.7e9 + np.arange(10.0)[:, None]  # seconds since 1970, a small part of what they are
    np.testing.assert_allclose(moments(times)[1], np.std(np.arange(10)), rtol=1e-5)
    huge = np.array([[1e300], [-1e300], [1e300], [-1e300]])  # whose squares overflow
    assert moments(huge)[1].tolist() == [1e300]
    encoder = Encoder.learn([np.full((3, 1), 0.1), np.full((4, 1), 0.1)], scale=True)
    assert encoder([np.array([[0.2]])], F8)[0][0, 0] == pytest.approx(0.1)


def test_kinds() -> None:
    assert Encoder.learn(["ab"]).kind == "text"
    for X in (TOKENS, [np.array(["a", "b"])], [np.array(["a", "b"], object)], [("a",)], [[np.str_("a")]]):
        encoder = Encoder.learn(X)
        assert encoder.kind == "tokens"
        assert encoder.vocabulary is not None
        assert all(type(token) is str for token in encoder.vocabulary.tokens)
    for X in (IDS, [[1, 2], (3,)], [np.array([1], np.uint8), [2]], [range(3)]):
        assert Encoder.learn(X).kind == "ids"
    for X in (FEATURES, [[0.5, 1]], [[1, 2.5]], np.ones((2, 3), int), np.ones((2, 3), bool), np.ones((2, 3, 4)),
              [[[1, 2], [3, 4]]], [np.array([[True, False]])], [[True, False]]):  # fmt: skip
        assert Encoder.learn(X).kind == "features"
    piano_roll = [np.array([[True, False, True]]), np.array([[False, False, True]] * 2)]
    assert Encoder.learn(piano_roll)(piano_roll, F4)[0].tolist() == [[1, 0, 1]]


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ([["a"], ["b", None]], TypeError, "X[1][1]: expected a token, as before it, got None"),
        ([["a", 3]], TypeError, "X[0][1]: expected a token, as before it, got 3"),
        ([["a"], [3, "b"]], TypeError, "X[1]: expected a string, tokens, ids or an array of numbers, got [3, 'b']"),
        ([[b"a"]], TypeError, "X[0]: expected a string, tokens, ids or an array of numbers, got [b'a']"),
        ([[4], [5, -1]], ValueError, "X[1]: expected token ids of 0 or more, got -1"),
        ([[-4]], ValueError, "X[0]: expected token ids of 0 or more, got -4"),
        ([np.array([2**63], np.uint64)], ValueError, "X[0]: expected token ids of less than 2**31, got"),
        ([[2**70]], TypeError, "X[0]: expected a string, tokens, ids or an array of numbers, got ["),
        ([np.array(["2020-01-01"], "M8[D]")], TypeError, "X[0]: expected a string, tokens, ids or an array of numbers"),
        ([b"ab"], TypeError, "X[0]: expected a string, tokens, ids or an array, got b'ab'"),
        (list(np.zeros(2, "f4,i4")), TypeError, "X[0]: expected a string, tokens, ids or an array, got np.void"),
        ([{"a": 1}], TypeError, "X[0]: expected a string, tokens, ids or an array, got {'a': 1}"),
        ([[[0.5, 1.0], [np.inf, 2.0]]], ValueError, "X[0][1, 0] is inf, infinity or too large for float64"),
        ([[0.5], [1.0, np.nan]], ValueError, "X[1][1, 0] is NaN: expected a finite number"),
        (np.array([[1.0, np.nan]]), ValueError, "X[0][1, 0] is NaN: expected a finite number"),
    ],
)
def test_errors(X: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Encoder.learn(X, scale=True)


@pytest.mark.parametrize("X", [FEATURES, IDS, TOKENS, ["a fine day", "b"], np.ones((2, 3))])
@pytest.mark.parametrize("scale", [False, True])
def test_described_and_rebuilt(X: Any, scale: bool) -> None:
    encoder = Encoder.learn(X, scale=scale)
    settings = json.loads(json.dumps(encoder.describe()))
    twin = Encoder.rebuild(settings)
    assert same(twin(X, F8), encoder(X, F8))
    assert twin.describe() == encoder.describe()
    assert (twin.kind, twin.size, twin.level, twin.vocabulary) == (
        encoder.kind,
        encoder.size,
        encoder.level,
        encoder.vocabulary,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", "text"), ("kind", "pickle"), ("kind", None), ("size", 4), ("size", 0), ("size", 3.0), ("size", True),
        ("level", "letter"), ("level", None), ("tokens", ["a"]), ("tokens", 5), ("mean", [1.0]), ("mean", None),
        ("mean", "abc"), ("deviation", [[1.0, 1.0, 1.0]]), ("deviation", None), ("deviation", {}),
        ("deviation", [1.0, 0.0, 1.0]), ("deviation", [1.0, -1.0, 1.0]), ("deviation", [1.0, float("nan"), 1.0]),
        ("mean", [1.0, float("inf"), 1.0]),
    ],
)  # fmt: skip
def test_settings_that_are_wrong(name: str, value: Any) -> None:
    settings = Encoder.learn(FEATURES, scale=True).describe()
    with pytest.raises((KeyError, TypeError, ValueError)):
        Encoder.rebuild({**settings, name: value})
    del settings[name]
    with pytest.raises(KeyError):
        Encoder.rebuild(settings)


@pytest.mark.slow
def test_many_short_sequences() -> None:
    """Time in proportion to the data: four times as many sequences take less than eight times as long."""
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(2000)]

    def seconds(n: int) -> float:
        lengths = rng.integers(1, 8, n)
        tokens = [[words[i] for i in rng.integers(0, 2000, k)] for k in lengths]
        features = [np.ones((k, 2)) for k in lengths]
        start = time.process_time()
        for X in (tokens, [" ".join(t) for t in tokens], features, np.ones((n, 5))):
            encoder = Encoder.learn(X, scale=True)
            encoder(X, F4)
        sequences_of(np.concatenate(features), lengths)
        WordParts.learn(tokens, (1, 2, 3), 1)(tokens)
        return time.process_time() - start

    seconds(100)
    assert seconds(12_000) < 8 * seconds(3_000)
