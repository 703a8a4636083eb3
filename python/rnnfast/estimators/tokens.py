"""Tokens: sequences that are read and written, as ids and back: characters, words, tokens or integers.

SequenceGenerator reads and writes its texts through it; encoding.py is for what is only read. It must not know of
models.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..preprocessing import Vocabulary
from .encoding import sequences_of, tokens_of

__all__ = ["Tokens", "check_tokens", "one_or_many"]

LEVELS = ("character", "word", "token")
KINDS = {"text": "a string", "tokens": "a list of strings", "ids": "a list of integers"}


class Tokens:
    """What a sequence is cut into, the vocabulary of it, and how it is put together again.

    Attributes
    ----------
    kind : "text" (strings), "tokens" (lists of strings) or "ids" (lists of integers)
    level : "character", "word" or "token", what a text is cut into; "token" for lists
    vocabulary : Vocabulary
        Integers stand in it as strings.
    """

    def __init__(self, kind: str, level: str, vocabulary: Vocabulary) -> None:
        if kind not in KINDS or level not in LEVELS or (kind == "text") != (level != "token"):
            raise ValueError(f"sequences of kind {kind!r} cut into {level!r}")
        self.kind, self.level, self.vocabulary = kind, level, vocabulary

    @property
    def size(self) -> int:
        return len(self.vocabulary)

    @classmethod
    def learn(cls, sequences: Iterable[Any], level: str | None, min_count: int) -> Tokens:
        if level not in (None, *LEVELS):
            raise ValueError(f"level: expected None or one of {', '.join(LEVELS)}, got {level!r}")
        kinds = {check_tokens(sequence, f"X[{i}]") for i, sequence in enumerate(sequences)}
        if len(kinds) > 1:
            raise ValueError(f"X: expected sequences of one kind, got {' and '.join(sorted(kinds))}")
        kind = kinds.pop()
        level = level or ("character" if kind == "text" else "token")
        if (kind == "text") != (level != "token"):
            expected = "lists of strings or of integers" if level == "token" else "strings"
            raise ValueError(f"X: expected {expected} with level={level!r}, got {kind}")
        tokens = cls(kind, level, Vocabulary())
        tokens.vocabulary = Vocabulary.build((tokens.cut(sequence, "X") for sequence in sequences), min_count)
        return tokens

    def cut(self, sequence: Any, name: str) -> list[str]:
        """The tokens of a sequence as they stand in the vocabulary."""
        kind = _kind_of(sequence, name)
        if kind not in ("", self.kind):
            raise ValueError(f"{name}: expected {KINDS[self.kind]} as in fit, got {sequence!r:.80}")
        return _words(sequence) if kind == "text" and self.level == "word" else tokens_of([sequence], "character")[0]

    def encode(self, sequence: Any, name: str) -> NDArray[np.int64]:
        """The ids of a sequence (T,)."""
        return self.vocabulary.encode(self.cut(sequence, name))

    def decode(self, ids: Iterable[int]) -> list[Any]:
        """The tokens as they stand in a sequence."""
        names = self.vocabulary.tokens
        specials = len(Vocabulary.SPECIALS)
        return [int(names[id]) if self.kind == "ids" and id >= specials else names[id] for id in ids]

    def join(self, ids: Iterable[int], prompt: Any = None) -> Any:
        """A sequence of the kind that fit was given, behind the prompt."""
        tokens = self.decode(ids)
        if self.kind != "text":
            return [*([] if prompt is None else prompt), *tokens]
        text = "".join(tokens)
        return prompt + text if prompt else text.removeprefix(" ") if self.level == "word" else text

    def unseen(self, X: Any) -> Counter[Any]:
        """How often each token of X that fit did not see (or saw too rarely) comes; they all are ``<unk>``."""
        cut = (self.cut(sequence, "X") for sequence in one_or_many(X, self.level)[0])
        counts = Counter(token for tokens in cut for token in tokens if token not in self.vocabulary)
        return Counter({int(token): n for token, n in counts.items()}) if self.kind == "ids" else counts

    def describe(self) -> dict[str, Any]:
        """As JSON can hold it."""
        tokens = self.vocabulary.tokens[len(Vocabulary.SPECIALS) :]
        return {"kind": self.kind, "level": self.level, "tokens": tokens}

    @classmethod
    def rebuild(cls, settings: dict[str, Any]) -> Tokens:
        """From what `describe` returned; anything else is a KeyError, TypeError or ValueError."""
        tokens = cls(settings["kind"], settings["level"], Vocabulary(settings["tokens"]))
        tokens.decode(range(tokens.size))  # integers are such
        return tokens


def one_or_many(X: Any, level: str | None, lengths: ArrayLike | None = None) -> tuple[list[Any], bool]:
    """The sequences of X, and whether X is one itself: a string, integers, or, for level "token", strings."""
    if isinstance(X, str) and lengths is None:
        return [X], True
    if lengths is None:
        items = X.tolist() if isinstance(X, np.ndarray) and X.ndim == 1 else X
        alone = (str, int, np.integer) if level == "token" else (int, np.integer)
        if isinstance(items, list | tuple) and items and all(isinstance(item, alone) for item in items):
            return [list(items)], True
        X = items
    sequences = list(sequences_of(X, lengths))
    if not sequences:
        raise ValueError("X: expected at least one sequence, got none")
    return sequences, False


def _words(text: str) -> list[str]:
    """Words and signs, each with the space before it, and other white space; joined they are " " and the text.

    >>> _words("It's late, he said.")
    [" It's", ' late', ',', ' he', ' said', '.']
    """
    text = unicodedata.normalize("NFC", text)
    marks = "".join(sorted(c for c in set(text) if unicodedata.category(c).startswith("M")))  # `\w` lacks them
    word = rf"\w[\w{marks}]*(?:['’]\w[\w{marks}]*)*"
    return re.findall(rf" ?{word}| ?[^\w\s]|\s", text if text[:1].isspace() else f" {text}")


def check_tokens(sequence: Any, name: str) -> str:
    """The kind of a sequence of at least one token."""
    kind = _kind_of(sequence, name)
    if not kind:
        raise ValueError(f"{name}: expected at least one token, got {sequence!r}")
    return kind


def _kind_of(sequence: Any, name: str) -> str:
    if isinstance(sequence, str):
        return "text" if sequence else ""
    if hasattr(sequence, "__len__") and not isinstance(sequence, bytes | dict | set):
        if all(isinstance(token, str) for token in sequence):
            return "tokens" if len(sequence) else ""
        if all(isinstance(token, int | np.integer) and not isinstance(token, bool) for token in sequence):
            return "ids"
    raise TypeError(f"{name}: expected a string, a list of strings or a list of integers, got {sequence!r:.80}")
