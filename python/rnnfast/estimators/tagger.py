"""SequenceTagger: many to many, aligned: a label for each step."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import as_array
from ..losses import softmax
from ..metrics import entity_f1
from ..network import Network
from ..parallel import all_ranks
from ..preprocessing import Vocabulary, batches
from ..sequences import Sequences
from ..streaming import Part, Source
from .base import SequenceEstimator, with_parameters
from .encoding import Encoder, count, sequences_of, steps_of, tokens_of
from .labels import classes_of, describe_labels, places, rebuild_labels

__all__ = ["SequenceTagger"]

Array = NDArray[Any]


class WordParts:
    """What unseen words share with seen ones: their last letters, and the shape of their letters.

    A token becomes len(suffixes) + 1 ids. A suffix of n letters is the token's last n, lower-cased, with a mark where
    the token has no more; the shape has X for capitals, x for other letters, 9 for digits, each run of them once:
    "Ankara'da" is "Xx'x".
    """

    def __init__(self, suffixes: tuple[int, ...], vocabularies: list[Vocabulary]) -> None:
        self.suffixes, self.vocabularies = suffixes, vocabularies

    @classmethod
    def learn(cls, sentences: Iterable[list[str]], suffixes: tuple[int, ...], min_count: int) -> WordParts:
        counts = Counter(token for sentence in sentences for token in sentence)
        columns: list[Counter[str]] = [Counter() for _ in range(len(suffixes) + 1)]
        for token, n in counts.items():
            for column, part in zip(columns, cls._parts(token, suffixes), strict=True):
                column[part] += n
        return cls(suffixes, [Vocabulary(sorted(p for p, n in c.items() if n >= min_count)) for c in columns])

    @staticmethod
    def _parts(token: str, suffixes: tuple[int, ...]) -> list[str]:
        lower = token.lower()
        ends = [f"{'^' if len(lower) <= n else ''}{lower[-n:]}" for n in suffixes]
        shape = "".join("X" if c.isupper() else "x" if c.isalpha() else "9" if c.isdigit() else c for c in token)
        return [*ends, re.sub(r"(.)\1+", r"\1", shape)]

    def describe(self) -> dict[str, Any]:
        """As JSON can hold it: the sizes of the suffixes, and the tokens of each vocabulary behind the specials."""
        tokens = [v.tokens[len(Vocabulary.SPECIALS) :] for v in self.vocabularies]
        return {"suffixes": list(self.suffixes), "tokens": tokens}

    def __call__(self, sentences: list[list[str]]) -> list[NDArray[np.int64]]:
        """(T_i, F) ids of the T_i tokens of each sentence."""
        known = {token: row for row, token in enumerate({token for sentence in sentences for token in sentence})}
        parts = [self._parts(token, self.suffixes) for token in known]
        table = np.array([[v[p] for v, p in zip(self.vocabularies, row, strict=True)] for row in parts], np.int64)
        return [table[[known[token] for token in sentence]] for sentence in sentences]


@with_parameters
@dataclass(eq=False, repr=False)
class SequenceTagger(SequenceEstimator):
    """Many to many, aligned: a label for each step, as parts of speech, entities, or what each frame of a clip shows.

    A :class:`Network` reads the sequence, from both ends unless told otherwise; a Dense layer on each state gives a
    logit for each label, trained on cross-entropy over the valid steps with Adam. A word is read as the word itself, if
    training saw it often enough, and as its last letters and the shape of its letters, which unseen words have too.

    Sequences are lists of tokens, strings (cut into words or characters), sequences of ids, or (T_i, D) or (T_i,)
    arrays of numbers, or an array (N, T, D).

    Parameters
    ----------
    {parameters}
    min_count : int
        Rarer words, suffixes and shapes of the training data are ``<unk>``, as all unseen ones are.
    level : "word" or "character"
        What a string is cut into, a label for each: :func:`rnnfast.tokenize`, or each character as it is.
    suffixes : tuple of int
        Lengths of the suffixes that are read, where sequences are words; () reads words alone, and so does
        ``embedding_size=0``.
    suffix_size, shape_size : int
        Sizes of the vectors of a suffix, and of the shape.
    scale : bool
        Bring each feature to mean 0 and deviation 1 of the training part.
    normalizer : "steps", "sequences", "both" or "sum"
        What the loss, and its gradient, is divided by: see :func:`rnnfast.softmax_cross_entropy`.

    Attributes
    ----------
    classes_ : array (K,)
        The labels.
    network_ : Network
    history_ : History
    encoder_ : Encoder
    parts_ : WordParts or None
    n_features_in_ : int
        Size of the vocabulary, or features of a step.

    Notes
    -----
    Labels that fit did not see count as wrong in :meth:`score`; sequences of validation data with such labels are left
    out, with a warning that says how many. ``encoder_.unseen(X)`` counts the words that fit did not see.

    Examples
    --------
    >>> import rnnfast
    >>> sentences = [["the", "dog", "runs"], ["runs", "a", "cat"], ["cat", "sleeps"]] * 4
    >>> tags = [["DET", "NOUN", "VERB"], ["VERB", "DET", "NOUN"], ["NOUN", "VERB"]] * 4
    >>> model = rnnfast.SequenceTagger(hidden_size=8, max_epochs=30, learning_rate=0.02, random_state=0)
    >>> model.fit(sentences, tags).predict([["the", "rat", "sleeps"]])
    [['DET', 'NOUN', 'VERB']]
    """

    min_count: int = 2
    level: str = "word"
    suffixes: tuple[int, ...] = (1, 2, 3)
    suffix_size: int = 24
    shape_size: int = 8
    scale: bool = True
    normalizer: str = "steps"

    classes_: Array = field(init=False)
    encoder_: Encoder = field(init=False)
    parts_: WordParts | None = field(init=False)

    @all_ranks
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        lengths: ArrayLike | None = None,
        validation: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
        comm: Any = None,
    ) -> Self:
        """Train on sequences and their labels.

        Parameters
        ----------
        X : list of N sequences, or an array (N, T, D); or a source of :mod:`rnnfast.streaming` with labels
        y : list of N sequences of T_i labels, or labels padded or joined as `X` is
        lengths : (N,) integers, optional
            Where `X` is padded, or has the sequences joined one behind the other.
        validation : tuple (X, y) or (X, y, lengths), optional; with a source also a source
            Instead of `validation_fraction`.
        checkpoint : path, optional
            See :func:`rnnfast.fit`: written after each pass, and gone on from where it is there.
        comm : communicator, optional
            Train on several processes: see :func:`rnnfast.fit`.
        """
        if isinstance(X, Source):
            options: dict[str, Any] = {"normalizer": self.normalizer, "by_accuracy": True}
            return self._fit_source(X, y, lengths, validation, checkpoint, comm, **options)
        seed = self._seed()
        level = self.encoder_.level if self._goes_on() else self.level
        X, labels = _pairs(level, X, y, lengths)
        train, valid = self._hold_out(len(X), seed, validation)
        part = [X[i] for i in train] if len(valid) else X
        if self._goes_on():
            classes, encoder, parts, network = self.classes_, self.encoder_, self.parts_, self.network_
        else:
            classes = classes_of([np.concatenate(labels)])
            encoder, parts = self._learn(X, part, self.min_count, level, self.scale), None
            if encoder.vocabulary is not None and level == "word" and self._suffixes() and self.embedding_size:
                parts = WordParts.learn(tokens_of(part), self._suffixes(), self.min_count)
            network = self._network(encoder, parts, len(classes), seed)
        targets = _targets(labels, classes)
        for i, t in enumerate(targets):
            if (t < 0).any():
                step = int(np.argmin(t))
                raise ValueError(
                    f"y[{i}][{step}] = {labels[i].tolist()[step]!r}: expected one of the labels of the first fit"
                )
        if validation is not None:
            other, other_labels = _pairs(level, *validation)
            other_targets = _targets(other_labels, classes)
        else:
            other, other_targets = [X[i] for i in valid], [targets[i] for i in valid]
        known = [i for i, t in enumerate(other_targets) if (t >= 0).all()]
        if len(known) < len(other):
            left_out = f"{len(other) - len(known)} of {len(other)} sequences have labels not in y: they are left out"
            if not known:
                raise ValueError(f"validation: {left_out}, and none is left")
            warnings.warn(f"validation: {left_out}", stacklevel=2)

        def data(X: Any, targets: list[Array], rows: Any) -> Sequences:
            encoded = self._encode(X, encoder, parts)
            return Sequences([encoded[i] for i in rows], [targets[i] for i in rows], per_step=True)

        held_out = data(other, other_targets, known) if known else None
        self._train(
            network,
            data(X, targets, train),
            held_out,
            seed=seed,
            normalizer=self.normalizer,
            monitor="val_accuracy" if held_out else None,
            checkpoint=checkpoint,
            comm=comm,
            fitted={
                "classes_": classes,
                "encoder_": encoder,
                "parts_": parts,
                "_columns": None,
                "n_features_in_": encoder.size,
            },
        )
        return self

    _learnt = ("classes_", "encoder_", "parts_", "_columns", "n_features_in_")

    def _learn_source(self, train: Part, whole: Part) -> None:
        if not whole.source.labelled:
            raise ValueError(f"X: expected a source with labels, got {whole.source!r}")
        self.classes_ = classes_of(whole.map(lambda X, y: np.concatenate(_pairs(self.level, X, y)[1])))
        self.encoder_ = train.learn(Encoder.learn, train.X, self.min_count, self.level, self.scale)
        self.parts_ = None
        if self.encoder_.vocabulary is not None and self.level == "word" and self._suffixes() and self.embedding_size:
            tokens = (tokens_of([sentence])[0] for sentence in train.X)
            self.parts_ = WordParts.learn(tokens, self._suffixes(), self.min_count)
        self._columns, self.n_features_in_ = None, self.encoder_.size

    def _encoded(self, X: Any, y: Any) -> Sequences:
        X, labels = _pairs(self.encoder_.level, X, y)
        targets = _targets(labels, self.classes_)
        for i, t in enumerate(targets):
            if (t < 0).any():
                unknown = labels[i].tolist()[int(np.argmin(t))]
                raise ValueError(f"y[{i}]: expected the labels that fit learnt, got {unknown!r}")
        return Sequences(self._encode(X, self.encoder_, self.parts_), targets, per_step=True)

    def predict_proba(self, X: Any, *, lengths: ArrayLike | None = None) -> list[Array]:
        """Probability of each label at each step: a list of N arrays (T_i, K), in the order of ``classes_``."""
        network = self._fitted()
        X = steps_of(X, self.encoder_.level, lengths)
        data = Sequences(self._encode(X, self.encoder_, self.parts_, network.dtype))
        found: list[Any] = [None] * len(data)
        for rows in batches(data.lengths, 256):
            x, _, n = data.batch(rows)
            outputs = softmax(network.forward(x, lengths=n))
            for row, output, steps in zip(rows, outputs, n, strict=True):
                found[row] = output[:steps]
        return found

    def predict(self, X: Any, *, lengths: ArrayLike | None = None) -> list[list[Any]]:
        """The likeliest label of each step: a list of N lists of T_i labels."""
        best = self.predict_proba(X, lengths=lengths)
        return [self.classes_[p.argmax(axis=1)].tolist() for p in best]

    def score(self, X: Any, y: Any, *, lengths: ArrayLike | None = None) -> float:
        """Accuracy: the part of all steps whose predicted label is that of `y`."""
        self._fitted()
        X, labels = _pairs(self.encoder_.level, X, y, lengths)
        predicted = np.concatenate([p.argmax(axis=1) for p in self.predict_proba(X)])
        targets = places(np.concatenate(labels), self.classes_)
        if unseen := int((targets < 0).sum()):
            warnings.warn(
                f"y: {unseen} of {len(targets)} labels were not seen in fit, and count as wrong", stacklevel=2
            )
        return float(np.mean(predicted == targets))

    def entity_f1(self, X: Any, y: Any, *, lengths: ArrayLike | None = None) -> float:
        """F1 over whole entities of BIO-like labels: see :func:`rnnfast.metrics.entity_f1`."""
        self._fitted()
        X, labels = _pairs(self.encoder_.level, X, y, lengths)
        return entity_f1([t.tolist() for t in labels], self.predict(X))

    def encode(self, X: Any, *, lengths: ArrayLike | None = None) -> list[Array]:
        """What the network reads of each sequence: (T_i,) ids, (T_i, F) ids of words and of their parts, or (T_i, D)
        features. What an exported model (:func:`rnnfast.onnx.export`) takes, padded, as its ``x``."""
        network = self._fitted()
        return self._encode(steps_of(X, self.encoder_.level, lengths), self.encoder_, self.parts_, network.dtype)

    def _encode(
        self, X: Any, encoder: Encoder, parts: WordParts | None, dtype: np.dtype[Any] | None = None
    ) -> list[Array]:
        encoded = encoder(X, np.dtype(self.dtype) if dtype is None else dtype)
        if parts is None:
            return encoded
        return [np.column_stack([ids, rest]) for ids, rest in zip(encoded, parts(tokens_of(X)), strict=True)]

    def _suffixes(self) -> tuple[int, ...]:
        given = self.suffixes
        if not isinstance(given, tuple | list) or not all(isinstance(n, int | np.integer) and n >= 1 for n in given):
            raise ValueError(f"suffixes: expected positive lengths, got {given!r}")
        return tuple(int(n) for n in given)

    def _part_sizes(self) -> tuple[int, int]:
        for name in ("suffix_size", "shape_size"):
            size = getattr(self, name)
            if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
                raise ValueError(f"{name}: expected a positive integer, got {size!r}")
        return int(self.suffix_size), int(self.shape_size)

    def _network(self, encoder: Encoder, parts: WordParts | None, labels: int, seed: int | None) -> Network:
        size: Any = encoder.size
        width: Any = None if encoder.kind == "features" else self.embedding_size
        if parts is not None:
            suffix_size, shape_size = self._part_sizes()
            size = [size, *(len(v) for v in parts.vocabularies)]
            width = [width, *(suffix_size for _ in parts.suffixes), shape_size]
        return Network(
            size,
            self.hidden_size,
            labels,
            bidirectional=self.bidirectional,
            embedding_size=width,
            per_step=True,
            **self._settings(seed),
        )

    def _describe(self) -> dict[str, Any]:
        parts = self.parts_
        return {
            **describe_labels(self.classes_),
            "encoder": self.encoder_.describe(),
            "parts": None if parts is None else parts.describe()["tokens"],
        }

    def _rebuild(self, settings: dict[str, Any]) -> None:
        self.classes_ = rebuild_labels(settings)
        self.encoder_, self.parts_ = Encoder.rebuild(settings["encoder"]), None
        self.suffixes = tuple(self.suffixes)  # a list in the file
        if settings["parts"] is not None:
            vocabularies = [Vocabulary(tokens) for tokens in settings["parts"]]
            if len(vocabularies) != len(self._suffixes()) + 1:
                raise ValueError(f"{len(vocabularies)} vocabularies of parts for suffixes {self.suffixes}")
            self.parts_ = WordParts(self._suffixes(), vocabularies)
        self._columns, self.n_features_in_ = None, self.encoder_.size

    def _build(self, seed: int | None = None) -> Network:
        return self._network(self.encoder_, self.parts_, len(self.classes_), seed)

    def _least_size(self) -> int:
        width = self.embedding_size if self.encoder_.kind != "features" else 0
        parts = 0 if self.parts_ is None else self.hidden_size * sum(self._part_sizes())
        return self.hidden_size * len(self.classes_) + self.encoder_.size * (width or self.hidden_size) + parts


def _pairs(level: str, X: Any, y: Any, lengths: ArrayLike | None = None) -> tuple[Any, list[Array]]:
    """Sequences, and their labels as (T_i,) arrays of one kind."""
    if y is None:
        raise ValueError("y: SequenceTagger requires y to be passed, but the target y is None")
    X, y = steps_of(X, level, lengths), sequences_of(y, lengths, "y")
    if len(y) != count(X):
        raise ValueError(f"y: expected labels for N = {len(X)} sequences, got {len(y)}")
    labels = []
    for i in range(len(X)):
        if isinstance(y[i], str):
            raise TypeError(f"y[{i}]: expected a list of labels, one for each step, got the string {y[i]!r}")
        t = as_array(y[i], f"y[{i}]")
        steps = len(X[i]) if hasattr(X[i], "__len__") else t.size  # what is no sequence, the encoder names
        if t.ndim != 1 or len(t) != steps:
            got = len(t) if t.ndim == 1 else t.shape
            raise ValueError(f"y[{i}]: expected a label for each of the {steps} steps of X[{i}], got {got}")
        if t.dtype.kind == "O" and all(isinstance(label, str) for label in t):
            t = t.astype(str)
        if len(t) and t.dtype.kind not in "biuU":
            raise TypeError(f"y[{i}]: expected strings, integers or booleans, got {t.dtype}")
        labels.append(t)
    if len({t.dtype.kind == "U" for t in labels if len(t)}) > 1:
        raise TypeError("y: expected labels of one kind, got strings and numbers")
    return X, labels


def _targets(labels: list[Array], classes: Array) -> list[Array]:
    """Where each label is in `classes`; -1 where it is not."""
    ends = np.cumsum([len(t) for t in labels])
    return np.split(places(np.concatenate(labels), classes), ends[:-1])
