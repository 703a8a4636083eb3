"""estimators/tokens.py: what sequences are cut into, and that they come back."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from rnnfast.estimators.tokens import Tokens, _words, one_or_many
from rnnfast.preprocessing import Vocabulary


@pytest.mark.parametrize(
    ("X", "level", "kind", "found"),
    [
        (["abca", "b"], None, "text", "character"),
        (["abca", "b"], "character", "text", "character"),
        (["a b, a", "b a"], "word", "text", "word"),
        ([["do", "re"], ["re"]], None, "tokens", "token"),
        ([np.array(["do", "re"]), np.array(["re"])], "token", "tokens", "token"),
        ([[60, 62, 60], [-1]], None, "ids", "token"),
        ([np.array([60, 62], np.uint8), np.array([7])], "token", "ids", "token"),
    ],
)
def test_kinds_and_levels(X: Any, level: str | None, kind: str, found: str) -> None:
    tokens = Tokens.learn(X, level, 1)
    assert (tokens.kind, tokens.level) == (kind, found)
    for sequence in X:
        back = tokens.join(tokens.encode(sequence, "X").tolist())
        assert back == (sequence if isinstance(sequence, str) else list(sequence))
    twin = Tokens.rebuild(tokens.describe())
    assert (twin.kind, twin.level, twin.vocabulary) == (tokens.kind, tokens.level, tokens.vocabulary)


TEXTS = [
    "It's late, he said.",
    " two  spaces, and a \n\n\tnew line (with signs) - 1,234.5%",
    "naïve façade — « Ça va ? »",
    "\nfirst an empty line",
    "नमस्ते दुनिया, สวัสดี",
    "an O’Neill's dog's",
    " ",
    "trailing  ",
]


@pytest.mark.parametrize("text", TEXTS)
def test_words_join_to_the_text(text: str) -> None:
    joined = "".join(_words(text))
    assert joined == (text if text[0].isspace() else f" {text}")
    tokens = Tokens.learn([text], "word", 1)
    assert tokens.join(tokens.encode(text, "X").tolist()).strip(" ") == text.strip(" ")


def test_words() -> None:
    assert _words("It's late, he said.") == [" It's", " late", ",", " he", " said", "."]
    assert _words("नमस्ते") == [" नमस्ते"]  # marks belong to the word
    assert _words("cafe\u0301!") == [" caf\u00e9", "!"]
    assert _words("") == [" "]


def test_a_prompt_comes_back_as_it_is() -> None:
    tokens = Tokens.learn(["the cat sat"], "word", 1)
    assert tokens.join(tokens.encode("sat", "X").tolist(), "The unseen") == "The unseen sat"
    assert tokens.join(tokens.encode("the cat", "X").tolist(), "") == "the cat"
    notes = Tokens.learn([[60, 62]], None, 1)
    assert notes.join(notes.encode([62], "X").tolist(), [99, 60]) == [99, 60, 62]
    assert notes.join([Vocabulary.UNK]) == ["<unk>"]


def test_unseen() -> None:
    assert Tokens.learn(["abc"], None, 1).unseen("abxcyx") == {"x": 2, "y": 1}
    assert Tokens.learn(["abc"], None, 1).unseen(["ax", "b"]) == {"x": 1}
    assert Tokens.learn([[1, 2, 1]], None, 2).unseen([[2, 1], [9]]) == {2: 1, 9: 1}
    words = Tokens.learn(["a cat"], "word", 1)
    assert words.unseen("a dog") == {" dog": 1}
    assert words.encode("a dog", "X").tolist()[1] == Vocabulary.UNK


@pytest.mark.parametrize(
    ("X", "level", "sequences", "alone"),
    [
        ("abc", None, ["abc"], True),
        (["abc", "d"], None, ["abc", "d"], False),
        (np.array(["abc", "d"]), "character", ["abc", "d"], False),
        (["abc", "d"], "token", [["abc", "d"]], True),
        (np.array(["abc", "d"]), "token", [["abc", "d"]], True),
        ([1, 2], None, [[1, 2]], True),
        (np.array([1, 2]), None, [[1, 2]], True),
        ([[1, 2], [3]], None, [[1, 2], [3]], False),
        ([["abc"], ["d"]], "token", [["abc"], ["d"]], False),
        ("", None, [""], True),
        ([""], None, [""], False),
    ],
)
def test_one_or_many(X: Any, level: str | None, sequences: Any, alone: bool) -> None:
    found, one = one_or_many(X, level)
    assert ([s if isinstance(s, str) else list(s) for s in found], one) == (sequences, alone)


def test_no_sequence() -> None:
    for X in ([], np.zeros(0, int), ()):
        with pytest.raises(ValueError, match="X: expected"):
            one_or_many(X, None)
    with pytest.raises(TypeError, match="X: expected a list of sequences, got NoneType"):
        one_or_many(None, None)


def test_padded_and_joined() -> None:
    padded = np.array([[1, 2, 0], [3, 0, 0]])
    for X in (padded, [1, 2, 3], np.array([1, 2, 3])):
        sequences, alone = one_or_many(X, None, [2, 1])
        assert [list(s) for s in sequences] == [[1, 2], [3]]
        assert not alone


@pytest.mark.parametrize(
    ("X", "level", "error", "message"),
    [
        (["abc", ["d"]], None, ValueError, "X: expected sequences of one kind, got text and tokens"),
        (["abc"], "token", ValueError, "X: expected lists of strings or of integers with level='token', got text"),
        ([["a"]], "word", ValueError, "X: expected strings with level='word', got tokens"),
        (["abc"], "letter", ValueError, "level: expected None or one of character, word, token, got 'letter'"),
        (["abc", 3], None, TypeError, "X[1]: expected a string, a list of strings or a list of integers, got 3"),
        ([[1.5]], None, TypeError, "X[0]: expected a string, a list of strings or a list of integers, got [1.5]"),
        ([["a", 1]], None, TypeError, "X[0]: expected a string, a list of strings or a list of integers, got ['a', 1]"),
        ([[True]], None, TypeError, "X[0]: expected a string, a list of strings or a list of integers, got [True]"),
        ([b"abc"], None, TypeError, "X[0]: expected a string, a list of strings or a list of integers, got b'abc'"),
        ([np.zeros((2, 2), int)], None, TypeError, "X[0]: expected a string, a list of strings or a list of integers"),
    ],
)
def test_errors_of_learn(X: Any, level: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Tokens.learn(X, level, 1)


def test_errors_of_encode_and_rebuild() -> None:
    with pytest.raises(ValueError, match=re.escape("prompt: expected a string as in fit, got ['a']")):
        Tokens.learn(["abc"], None, 1).encode(["a"], "prompt")
    with pytest.raises(ValueError, match=re.escape("prompt: expected a list of integers as in fit, got 'a'")):
        Tokens.learn([[1]], None, 1).encode("a", "prompt")
    good = Tokens.learn([[1]], None, 1).describe()
    for changes in ({"kind": "text"}, {"level": "word"}, {"kind": "x"}, {"tokens": ["a"]}, {"tokens": [3]}):
        with pytest.raises((ValueError, TypeError)):
            Tokens.rebuild({**good, **changes})
