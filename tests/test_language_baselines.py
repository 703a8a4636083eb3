"""examples/language_baselines.py: probabilities that sum to 1 and are those of the formula, alignments, rewriting."""

from __future__ import annotations

import itertools
import math

import pytest
from rnnfast.examples.language_baselines import NGrams, Rewriter, align

TEXT = "abracadabra, a cadabra"


def test_probabilities_by_hand() -> None:
    """Of "abab" a and b come twice each, and after each a comes b."""
    model = NGrams(2, ["abab"])
    b = (2 + 2 * (1 / 3)) / (4 + 2)  # V = 3: a, b and all others
    ab = (2 + 1 * b) / (2 + 1)
    bab = (1 + 1 * ab) / (1 + 1)
    assert model.probability("", "b") == pytest.approx(b)
    assert model.probability("a", "b") == pytest.approx(ab)
    assert model.probability("ba", "b") == pytest.approx(bab)
    assert model.probability("aba", "b") == model.probability("ba", "b")
    assert model.probability("ca", "b") == model.probability("a", "b")
    assert model.probability("", "z") == pytest.approx((0 + 2 * (1 / 3)) / (4 + 2))


@pytest.mark.parametrize("context", ["", "a", "br", "zz", "abr", "xyzabra"])
def test_probabilities_sum_to_one(context: str) -> None:
    model = NGrams(3, [TEXT])
    letters = set(TEXT)
    assert sum(model.probability(context, w) for w in [*letters, "an unseen one"]) == pytest.approx(1)
    assert model.size == len(letters) + 1


def test_bits_are_the_mean_of_each_token() -> None:
    model = NGrams(2, [TEXT])
    held_out = "cabra z"
    cost = [-math.log2(model.probability(held_out[max(0, i - 2) : i], w)) for i, w in enumerate(held_out)]
    assert model.cost(held_out) == pytest.approx(sum(cost))
    assert model.bits([held_out]) == pytest.approx(sum(cost) / 7)
    assert model.bits(["cab", "ra"]) == pytest.approx((model.cost("cab") + model.cost("ra")) / 5)
    assert model.bits([held_out], 0) == pytest.approx(NGrams(0, [TEXT]).bits([held_out]))
    assert model.bits([held_out], 1) == pytest.approx(NGrams(1, [TEXT]).bits([held_out]))
    assert model.bits([held_out], 9) == model.bits([held_out])


def test_ends_and_beginnings_of_sequences() -> None:
    model = NGrams(2, [["x", "y"], ["x", "y", "z"], ["y"]], ends=True)
    plain = NGrams(2, [["x", "y"], ["x", "y", "z"], ["y"]])
    assert model.size == plain.size + 1
    # x begins two of three sequences; and every whole sequence has a probability, of which there are but so many
    every = [s for n in range(7) for s in itertools.product("xyz?", repeat=n)]
    total = sum(2 ** -model.cost(s) for s in every)
    assert 0.9 < total < 1
    assert model.cost(["x"]) > model.cost(["x", "y"])  # no sequence ends after x
    assert model.bits([[]]) == model.cost([])
    assert model.bits([["x", "y"]]) == pytest.approx(model.cost(["x", "y"]) / 3)


def test_more_context_helps_where_there_is_some() -> None:
    text = "the cat sat on the mat, the rat sat on the cat. "
    bits = [NGrams(k, [text * 20]).bits([text]) for k in range(4)]
    assert sorted(bits, reverse=True) == bits


def test_ngrams_of_nothing() -> None:
    with pytest.raises(ValueError, match="most: expected a number of tokens, 0 or more, got -1"):
        NGrams(-1, ["a"])
    with pytest.raises(ValueError, match="sequences: expected at least one token, got none"):
        NGrams(1, ["a"]).bits([""])


SOURCES = ["masha", "sam", "hasan", "nash", "yana", "xan", "max", "anyan"] * 3
TARGETS = ["маша", "сам", "хасан", "наш", "яна", "ксан", "макс", "анян"] * 3


def test_alignments_join_to_the_target() -> None:
    for source, target, pieces in zip(SOURCES, TARGETS, align(SOURCES, TARGETS), strict=True):
        assert pieces is not None
        assert len(pieces) == len(source)
        assert "".join(pieces) == target
    found = dict(zip(SOURCES, align(SOURCES, TARGETS), strict=True))
    assert found["masha"] == ["м", "а", "ш", "", "а"]
    assert found["max"] == ["м", "а", "кс"]


def test_pairs_that_cannot_be_aligned() -> None:
    assert align(["a", "ab", ""], ["xyz", "", ""]) == [None, ["", ""], []]
    assert align([["a", "b"]], [[1, 2, 3, 4]]) == [[(1, 2), (3, 4)]]


def test_rewriting_with_neighbours() -> None:
    rewrite = Rewriter(SOURCES, TARGETS, neighbours=2)
    for source, target in zip(SOURCES, TARGETS, strict=True):
        assert rewrite(source) == target
    assert rewrite("shasam") == "шасам"
    assert rewrite("sasha") == "саша" != rewrite("sasha", 0)
    assert rewrite("a?m") == "ам"
    assert rewrite("") == ""


def test_rewriting_tokens() -> None:
    words = [["the", "dog"], ["the", "cat"], ["a", "dog"]]
    rewrite = Rewriter(words, [["el", "perro"], ["el", "gato"], ["un", "perro"]])
    assert rewrite(["a", "cat"]) == ("un", "gato")
    assert rewrite(["a", "bird"]) == ("un",)
    alone = Rewriter(SOURCES, TARGETS)
    assert alone.table.keys() == {(0, letter) for letter in "".join(SOURCES)}
    assert [alone(s) for s in SOURCES] == [Rewriter(SOURCES, TARGETS, 2)(s, 0) for s in SOURCES]
