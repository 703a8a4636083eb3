"""SequenceTransducer: many to many, unaligned: a sequence for each sequence, of another length and other tokens.

An EncoderDecoder (encoder_decoder.py) is trained on pairs, and searched for likely targets (sampling.py).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..encoder_decoder import EncoderDecoder, Pairs
from ..metrics import error_rate, exact_match
from ..parallel import all_ranks
from ..preprocessing import Vocabulary, pad
from ..sampling import beam_search, log_softmax
from ..streaming import Part, Source
from .base import SequenceEstimator, with_parameters
from .encoding import Encoder, count, sequences_of, tokens_of

__all__ = ["AttentionMap", "SequenceTransducer"]

Array = NDArray[Any]
ROWS = 256  # hypotheses that are searched side by side, at least one source


class AttentionMap(NamedTuple):
    """What each step of a target read of its source; see :meth:`SequenceTransducer.attention_weights`."""

    source: list[str]  # S tokens; the number of the step for features
    target: list[str]  # T tokens, <eos> last
    weights: Array  # (T, S), each row sums to 1


class Targets:
    """Target sequences as ids and back, learnt from the training data.

    Attributes
    ----------
    kind : "text" (strings), "tokens" (lists of strings) or "ids" (sequences of integers)
    level : "word" or "character", what a text is cut into
    vocabulary : Vocabulary
    """

    def __init__(self, kind: str, level: str, vocabulary: Vocabulary) -> None:
        if kind not in ("text", "tokens", "ids") or level not in ("word", "character"):
            raise ValueError(f"targets of kind {kind!r} cut into {level!r}")
        self.kind, self.level, self.vocabulary = kind, level, vocabulary

    @classmethod
    def learn(cls, y: Any, min_count: int, level: str) -> Targets:
        if level not in ("word", "character"):
            raise ValueError(f"target_level: expected 'word' or 'character', got {level!r}")
        kinds = {_kind_of(target, f"y[{i}]") for i, target in enumerate(y)} - {""}
        if len(kinds) > 1:
            raise ValueError(f"y: expected targets of one kind, got {' and '.join(sorted(kinds))}")
        vocabulary = Vocabulary.build((tokens_of([target], level)[0] for target in y), min_count)
        return cls(kinds.pop() if kinds else "text", level, vocabulary)

    def tokens(self, y: Any) -> list[list[str]]:
        """Each target as a list of tokens."""
        for i, target in enumerate(y):
            kind = _kind_of(target, f"y[{i}]")
            if kind and (kind == "ids") != (self.kind == "ids"):
                raise ValueError(f"y[{i}]: expected {self.kind} as in fit, got {kind}")
        return tokens_of(y, self.level)

    def encode(self, y: Any) -> list[Array]:
        return [self.vocabulary.encode(tokens) for tokens in self.tokens(y)]

    def decode(self, ids: Sequence[int]) -> Any:
        """A target of the kind that fit was given."""
        tokens = self.vocabulary.decode(ids)
        if self.kind == "text":
            return ("" if self.level == "character" else " ").join(tokens)
        return tokens if self.kind == "tokens" else [int(token) for token in tokens]

    def describe(self) -> dict[str, Any]:
        """As JSON can hold it."""
        tokens = self.vocabulary.tokens[len(Vocabulary.SPECIALS) :]
        return {"kind": self.kind, "level": self.level, "tokens": tokens}

    @classmethod
    def rebuild(cls, settings: dict[str, Any]) -> Targets:
        """From what `describe` returned; anything else is a KeyError, TypeError or ValueError."""
        return cls(settings["kind"], settings["level"], Vocabulary(settings["tokens"]))


def _kind_of(target: Any, name: str) -> str:
    if isinstance(target, str):
        return "text"
    if not hasattr(target, "__len__"):
        raise TypeError(f"{name}: expected a string, a list of tokens or of ids, got {target!r}")
    if len(target) == 0:
        return ""
    if all(isinstance(token, str) for token in target):
        return "tokens"
    if all(isinstance(token, int | np.integer) and not isinstance(token, bool) for token in target):
        return "ids"
    raise TypeError(f"{name}: expected a string, a list of tokens or of ids, got {target!r:.80}")


@with_parameters
@dataclass(eq=False, repr=False)
class SequenceTransducer(SequenceEstimator):
    """Many to many, unaligned: a sequence for each sequence, as in translation and transliteration.

    An :class:`EncoderDecoder`: a recurrent network reads the source, another starts from what the first one knows at
    the end and writes the target token by token, between ``<sos>`` and ``<eos>``; with attention it also looks at every
    step of the source. It is trained on cross-entropy with Adam and the true target so far (teacher forcing), and
    predicts by greedy or beam search.

    Sources are strings, lists of tokens, sequences of ids or (T_i, D) arrays of numbers; targets are strings, lists of
    tokens or sequences of ids, and so are predictions. Each side has a vocabulary of its own.

    Parameters
    ----------
    {parameters}
    attention : bool
        Global attention (Luong et al. 2015). Without it the source is what fits into one state.
    target_embedding : int, optional
        Size of a target token's vector, 0 for one-hot tokens; None is `embedding_size`.
    beam_width : int
        Hypotheses that a search keeps for each source; 1 is greedy search.
    length_penalty : float
        Hypotheses are compared by log p / L^length_penalty: 1 is the mean of their tokens, 0 favours short ones.
    max_length : int, optional
        Most tokens of a prediction. None is twice the longest target of fit, for a source which is k times as long as
        the longest one of fit k times that.
    min_count : int
        Rarer tokens of the training data are ``<unk>``, as all unseen ones are; it is never predicted.
    level : "character" or "word"
        What strings are cut into: each character as it is, or :func:`rnnfast.tokenize`.
    target_level : "character" or "word", optional
        The same for targets; None is `level`.
    scale : bool
        Bring each feature of the sources to mean 0 and deviation 1 of the training part.

    Attributes
    ----------
    network_ : EncoderDecoder
    history_ : History
    encoder_ : Encoder
        Of the sources. ``encoder_.unseen(X)`` counts the tokens that fit did not see.
    targets_ : Targets
        Vocabulary and kind of the targets.
    longest_ : tuple of two integers
        Steps of the longest source and tokens of the longest target of fit.
    n_features_in_ : int
        Size of the source's vocabulary, or features of a step.

    References
    ----------
    Sutskever et al. (2014), Sequence to sequence learning with neural networks. Luong et al. (2015), Effective
    approaches to attention-based neural machine translation.

    Examples
    --------
    >>> import rnnfast
    >>> words = ["ab", "ba", "aab", "abb", "bba", "baa", "bab", "aba"] * 4
    >>> model = rnnfast.SequenceTransducer(hidden_size=16, max_epochs=60, learning_rate=0.02, random_state=0)
    >>> model.fit(words, [word.upper() for word in words]).predict(["ab", "bba"])
    ['AB', 'BBA']
    """

    hidden_size: int = 128
    embedding_size: int = 32
    batch_size: int = 64
    learning_rate: float = 3e-3
    max_epochs: int = 16

    attention: bool = True
    target_embedding: int | None = None
    beam_width: int = 1
    length_penalty: float = 1.0
    max_length: int | None = None
    min_count: int = 1
    level: str = "character"
    target_level: str | None = None
    scale: bool = True

    _of_predict: ClassVar[tuple[str, ...]] = ("beam_width", "length_penalty", "max_length")
    encoder_: Encoder = field(init=False)
    targets_: Targets = field(init=False)
    longest_: tuple[int, int] = field(init=False)  # source and target of fit

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
        """Train on sources and their targets.

        Parameters
        ----------
        X : list of N sources; or a source of :mod:`rnnfast.streaming` with targets
        y : list of N targets
        lengths : (N,) integers, optional
            Where `X` is padded, or has the sources joined one behind the other.
        validation : tuple (X, y) or (X, y, lengths), optional; with a source also a source
            Instead of `validation_fraction`. The pass with the least loss on it is kept.
        checkpoint : path, optional
            See :func:`rnnfast.fit`: written after each pass, and gone on from where it is there.
        comm : communicator, optional
            Train on several processes: see :func:`rnnfast.fit`.
        """
        self._check_max_length()
        if self.truncate is not None:
            raise ValueError(f"truncate: expected None, for a source is read as a whole, got {self.truncate}")
        if isinstance(X, Source):
            return self._fit_source(X, y, lengths, validation, checkpoint, comm)
        seed, table = self._seed(), X if lengths is None else None
        X, y = sequences_of(X, lengths), _targets_of(y, "y")
        _same_count(X, y, "y")
        train, valid = self._hold_out(count(X), seed, validation)
        part, said = ([X[i] for i in train], [y[i] for i in train]) if len(valid) else (X, y)
        if self._goes_on():
            encoder, targets, longest, network = self.encoder_, self.targets_, self.longest_, self.network_
        else:
            encoder = self._learn(X, part, self.min_count, self.level, self.scale)
            targets = Targets.learn(said, self.min_count, self.target_level or self.level)
            longest = (0, 0)
            network = self._network(encoder, targets, seed)
        data = self._pairs(encoder, targets, part, said)
        held_out = None
        if validation is not None:
            other = sequences_of(*validation[::2])
            _same_count(other, validation[1], "validation: y")
            held_out = self._pairs(encoder, targets, other, _targets_of(validation[1], "validation: y"))
        elif len(valid):
            held_out = self._pairs(encoder, targets, [X[i] for i in valid], [y[i] for i in valid])
        longest = max(longest[0], int(data.source_lengths.max())), max(longest[1], int(data.lengths.max()) - 1)
        self._train(
            network,
            data,
            held_out,
            seed=seed,
            checkpoint=checkpoint,
            comm=comm,
            fitted={
                "encoder_": encoder,
                "targets_": targets,
                "longest_": longest,
                **self._input_facts(table, encoder.size),
            },
        )
        return self

    def predict(self, X: Any, *, lengths: ArrayLike | None = None) -> list[Any]:
        """The likeliest target of each source that the search finds, of the kind that fit was given."""
        found, _ = self._search(X, lengths, self.beam_width, 1)
        return [best[0] if best else self.targets_.decode([]) for best in found]

    _learnt = ("encoder_", "targets_", "longest_", "_columns", "n_features_in_")

    def _learn_source(self, train: Part, whole: Part) -> None:
        if not whole.source.labelled:
            raise ValueError(f"X: expected a source with targets, got {whole.source!r}")
        self.encoder_ = train.learn(Encoder.learn, train.X, self.min_count, self.level, self.scale)
        self.targets_ = train.learn(Targets.learn, train.y, self.min_count, self.target_level or self.level)
        self.longest_ = 0, 0
        self._columns, self.n_features_in_ = None, self.encoder_.size

    def _measure_source(self, train: Part) -> None:
        for data in train.map(self._encoded):
            longest = int(data.source_lengths.max()), int(data.lengths.max()) - 1
            self.longest_ = max(self.longest_[0], longest[0]), max(self.longest_[1], longest[1])

    def _encoded(self, X: Any, y: Any) -> Pairs:
        return self._pairs(self.encoder_, self.targets_, X, y)

    def transduce(
        self,
        X: Any,
        *,
        lengths: ArrayLike | None = None,
        beam_width: int | None = None,
        n_best: int = 1,
        return_scores: bool = False,
    ) -> Any:
        """The `n_best` likeliest targets of each source that a search finds.

        Parameters
        ----------
        X : list of N sources
        lengths : (N,) integers, optional
            As in :meth:`fit`.
        beam_width : int, optional
            None is the parameter of that name, or `n_best` where that is larger.
        n_best : int
            At most `beam_width`.
        return_scores : bool
            Also return log p / L^length_penalty of each, where L counts its tokens and ``<eos>``.

        Returns
        -------
        targets : list of N lists of `n_best` targets, best first
            Of fewer where the search found no more.
        scores : list of N lists of floats, with `return_scores`
        """
        width = max(self.beam_width, n_best) if beam_width is None else beam_width
        found, scores = self._search(X, lengths, width, n_best)
        return (found, scores) if return_scores else found

    def score(self, X: Any, y: Any, *, lengths: ArrayLike | None = None) -> float:
        """Share of the sources whose prediction is `y`, token by token from end to end."""
        return exact_match(*self._compared(X, y, lengths))

    def error_rate(self, X: Any, y: Any, *, lengths: ArrayLike | None = None) -> float:
        """Edits for each true token: insertions, deletions and substitutions that make the predictions right."""
        return error_rate(*self._compared(X, y, lengths))

    def attention_weights(self, source: Any, target: Any = None) -> AttentionMap:
        """What each token of a target read of its source.

        Parameters
        ----------
        source : one source
        target : one target, optional
            None is the prediction.

        Returns
        -------
        AttentionMap
            Named tuple of ``source`` (S tokens), ``target`` (T tokens, <eos> last) and ``weights`` (T, S).
        """
        network = copy.copy(self._fitted())  # of its own: the weights of its last pass are read
        if network.attention is None:
            raise ValueError("attention_weights: expected a model with attention=True, got one without")
        encoded = self.encoder_([source], network.dtype)
        if target is None:
            (target,) = self.predict([source])
        (ids,) = self.targets_.encode([target])
        read = np.concatenate([[Vocabulary.SOS], ids])
        network.forward((np.stack(encoded), None, read[None]))
        steps = [str(step) for step in range(len(encoded[0]))]
        if self.encoder_.vocabulary is not None:
            steps = tokens_of([source], self.encoder_.level)[0]
        elif self.encoder_.kind == "ids":
            steps = [str(id) for id in source]
        return AttentionMap(steps, [*self.targets_.tokens([target])[0], "<eos>"], network.attention.weights[0])

    def _search(self, X: Any, lengths: Any, beam_width: int, n_best: int) -> tuple[list[list[Any]], list[list[float]]]:
        network = self._fitted()
        sources = self.encoder_(self._input(X, lengths), network.dtype)
        n = np.array([len(s) for s in sources])
        limits = self._limits(n)
        found: list[Any] = [None] * len(n)
        scores: list[Any] = [None] * len(n)
        for limit in np.unique(limits):
            alike = np.flatnonzero(limits == limit)
            alike = alike[np.argsort(n[alike], kind="stable")]
            size = max(1, ROWS // beam_width) if isinstance(beam_width, int) and beam_width > 0 else 1
            for rows in np.split(alike, range(size, len(alike), size)):
                encoded = network.encode(*pad([sources[i] for i in rows]))

                def step(state: Any, tokens: Array, encoded: Any = encoded) -> tuple[Array, Any]:
                    logits, state = network.decode_step(encoded, state, tokens)
                    return log_softmax(logits), state

                sequences, values = beam_search(
                    step,
                    encoded.start,
                    np.full(len(rows), Vocabulary.SOS),
                    Vocabulary.EOS,
                    beam_width=beam_width,
                    max_length=int(limit),
                    length_penalty=self.length_penalty,
                    forbidden=(Vocabulary.PAD, Vocabulary.SOS, Vocabulary.UNK),
                    n_best=n_best,
                )
                for i, best, value in zip(rows, sequences, values, strict=True):
                    found[i], scores[i] = [self.targets_.decode(ids) for ids in best], value
        return found, scores

    def _check_max_length(self) -> None:
        n = self.max_length
        if n is not None and (not isinstance(n, int | np.integer) or n < 1):
            raise ValueError(f"max_length: expected None or a positive integer, got {n!r}")

    def _limits(self, source_lengths: Array) -> Array:
        """Most tokens of the prediction of each source: of its length alone, whatever stands beside it."""
        self._check_max_length()
        if self.max_length is not None:
            return np.full(len(source_lengths), self.max_length)
        source, target = self.longest_
        limits: Array = 2 * max(target, 1) * np.maximum(1, -(-source_lengths // max(source, 1)))
        return limits

    def _compared(self, X: Any, y: Any, lengths: Any) -> tuple[list[list[str]], list[list[str]]]:
        predicted = self.predict(X, lengths=lengths)
        y = _targets_of(y, "y")
        _same_count(predicted, y, "y")
        return self.targets_.tokens(y), self.targets_.tokens(predicted)

    def _pairs(self, encoder: Encoder, targets: Targets, X: Any, y: Any) -> Pairs:
        return Pairs(encoder(X, np.dtype(self.dtype)), targets.encode(y), start=Vocabulary.SOS, stop=Vocabulary.EOS)

    def _network(self, encoder: Encoder, targets: Targets, seed: int | None) -> EncoderDecoder:
        return EncoderDecoder(
            encoder.size,
            len(targets.vocabulary),
            self.hidden_size,
            bidirectional=self.bidirectional,
            embedding_size=None if encoder.kind == "features" else self.embedding_size,
            target_embedding=self._target_embedding(),
            attention=self.attention,
            **self._settings(seed),
        )

    def _target_embedding(self) -> int:
        return self.embedding_size if self.target_embedding is None else self.target_embedding

    def _describe(self) -> dict[str, Any]:
        return {
            "encoder": self.encoder_.describe(),
            "targets": self.targets_.describe(),
            "longest": list(self.longest_),
            "columns": self._columns,
        }

    def _rebuild(self, settings: dict[str, Any]) -> None:
        self.encoder_ = Encoder.rebuild(settings["encoder"])
        self.targets_ = Targets.rebuild(settings["targets"])
        source, target = settings["longest"]
        if any(type(size) is not int or size < 0 for size in (source, target, self._target_embedding())):
            raise ValueError("sizes that are no integers of 0 or more")
        self.longest_ = (source, target)
        self._rebuild_input(settings["columns"], self.encoder_.size)

    def _build(self, seed: int | None = None) -> EncoderDecoder:
        return self._network(self.encoder_, self.targets_, seed)

    def _least_size(self) -> int:
        width = self.embedding_size if self.encoder_.kind != "features" else 0
        read = self.encoder_.size * (width or self.hidden_size)
        return read + len(self.targets_.vocabulary) * (
            self.hidden_size + (self._target_embedding() or self.hidden_size)
        )


def _targets_of(y: Any, name: str) -> list[Any]:
    if y is None or isinstance(y, str | bytes) or not hasattr(y, "__len__"):
        raise TypeError(f"{name}: expected a list of targets, got {type(y).__name__}")
    return list(y)


def _same_count(X: Any, y: Any, name: str) -> None:
    if len(X) != len(y):
        raise ValueError(f"{name}: expected a target for each of N = {len(X)} sources, got {len(y)}")
