"""SequenceGenerator: a language model over characters, words or tokens, and texts, tunes or names drawn from it.

A Network with an output at every step learns which token comes next (training.py); generation walks through it with a
Stream for each layer, and sampling.py chooses. It must not know how a token is chosen from its logits.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import as_array, check_positive, generator_of
from ..functions import Stream
from ..losses import softmax
from ..network import Network
from ..parallel import all_ranks
from ..preprocessing import Vocabulary, batches
from ..sampling import beam_search, log_softmax, sample_sequences
from ..sequences import Sequences
from ..streaming import Part, Source
from .base import SequenceEstimator, with_parameters
from .conditions import Conditions
from .labels import classes_of
from .tokens import Tokens, check_tokens, one_or_many

__all__ = ["SequenceGenerator"]

Array = NDArray[Any]
Ids = NDArray[np.int64]
PIECE = 64  # steps of a piece of one long text, where `truncate` is None
ROWS = 64  # sequences that are read at once where nothing is learnt
NUMBERS = 1 << 22  # logits that are computed at once there


class _Walk:
    """One step at a time for N sequences, the state kept in a Stream for each layer."""

    def __init__(self, network: Network, rows: int) -> None:
        r, p = network.recurrent, network.recurrent.parameters
        self.network, self.states = network, r.states
        self.streams = [
            Stream(r.cell, p[f"Wx_l{k}"], p[f"Wh_l{k}"], p[f"b_l{k}"], batch_size=rows) for k in range(r.num_layers)
        ]

    @property
    def state(self) -> tuple[Array, ...]:
        """Arrays (N, H), layer by layer."""
        return tuple(s for stream in self.streams for s in stream.state)

    @state.setter
    def state(self, state: tuple[Array, ...]) -> None:
        for k, stream in enumerate(self.streams):
            stream.state = tuple(state[k * self.states : (k + 1) * self.states])

    def read(self, tokens: Ids) -> Array:
        """h of the top layer, (N, H), after the tokens (N,)."""
        embedding = self.network.embedding
        h: Array = tokens if embedding is None else embedding.parameters["E"][tokens]
        for stream in self.streams:
            h = stream.step(h)
        return h

    def logits(self, tokens: Ids) -> Array:
        """Of the tokens that come next, (N, K)."""
        return self.network.dense.forward(self.read(tokens))


@with_parameters
@dataclass(eq=False, repr=False)
class SequenceGenerator(SequenceEstimator):
    """A language model: what comes next in a text, a tune, a name; and new ones drawn from it.

    A :class:`Network` reads a sequence from ``<sos>`` on and has a logit for each token at every step,
    p(next | before) = softmax(logits), trained on cross-entropy with Adam. Two kinds of training data:

    - one long text, or list of tokens or of integers: it is cut into `batch_size` rows that are read side by side,
      `truncate` steps at a time, with the state carried from piece to piece (truncated back-propagation through time);
    - a list of sequences, each between ``<sos>`` and ``<eos>``: names, verses, tunes. With `y` each starts from a
      condition, a class or a vector (one to many).

    Parameters
    ----------
    {parameters}
    level : "character", "word" or "token", optional
        What strings are cut into. "word": words and signs, each with the space before it, so that they join to the text
        again. "token": nothing is cut, and a list of strings is one long list of tokens. None is "character" for
        strings, "token" for lists of strings or integers.
    min_count : int
        Rarer tokens of the training data are ``<unk>``, as all unseen ones are; it is never generated.

    Attributes
    ----------
    network_ : Network
    history_ : History
        Losses are in nats per token.
    encoder_ : Tokens
        ``encoder_.vocabulary`` has the tokens in the order of :meth:`predict_proba`; ``encoder_.unseen(X)`` counts the
        tokens that fit did not see.
    ends_ : bool
        Whether sequences end with ``<eos>``: not those of one long text.
    conditions_ : Conditions
        What sequences are about; ``conditions_.classes`` are its labels, where it has such.
    n_features_in_ : int
        Size of the vocabulary.

    Notes
    -----
    There is no `bidirectional`: a network that has read the text from its end knows what it is asked to predict.

    References
    ----------
    Mikolov et al. (2010), Recurrent neural network based language model. Graves (2013), Generating sequences with
    recurrent neural networks. Condition as initial state: Karpathy and Fei-Fei (2015), Deep visual-semantic alignments
    for generating image descriptions.

    Examples
    --------
    >>> import rnnfast
    >>> model = rnnfast.SequenceGenerator(hidden_size=32, embedding_size=8, batch_size=4, max_epochs=30,
    ...                                   learning_rate=0.03, random_state=0)
    >>> model.fit("row, row, row your boat, " * 50).generate(prompt="your boat, ", max_length=13, temperature=0)
    ['your boat, row, row, row']
    """

    _needs_y: ClassVar[bool] = False
    hidden_size: int = 256
    bidirectional: bool = field(init=False, default=False)
    learning_rate: float = 4e-3
    schedule: str = "cosine"
    max_epochs: int = 10
    truncate: int | None = 64
    level: str | None = None
    min_count: int = 1

    encoder_: Tokens = field(init=False)
    ends_: bool = field(init=False)
    conditions_: Conditions = field(init=False)
    _forbidden: list[int] = field(init=False)  # tokens that are never generated

    @all_ranks
    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        validation: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
        comm: Any = None,
    ) -> Self:
        """Train on one long text, or on a list of sequences.

        Parameters
        ----------
        X : str, list of tokens (level="token") or list of integers: one long text; or a list of N such sequences; or a
            source of :mod:`rnnfast.streaming`, whose labels, where it has such, are what each sequence is about
        y : (N,) labels or (N, C) numbers, optional
            What each sequence is about.
        lengths : (N,) integers, optional
            Where `X` is a padded array of integers, or has the sequences joined one behind the other.
        validation : X, or a tuple (X, y) or (X, y, lengths), optional; with a source a source
            Instead of `validation_fraction`, which of one long text is its end.
        checkpoint : path, optional
            See :func:`rnnfast.fit`: written after each pass, and gone on from where it is there.
        comm : communicator, optional
            Train on several processes: see :func:`rnnfast.fit`.
        """
        seed, truncate = self._seed(), PIECE if self.truncate is None else self.truncate
        for name, value in (("batch_size", self.batch_size), ("truncate", truncate)):
            check_positive(name, value)
        if validation is not None and not isinstance(validation, tuple | Source):
            validation = (validation, None)
        if isinstance(X, Source):
            if self._goes_on() and not self.ends_:
                raise ValueError("X: expected one long text, as in the first fit, got a source")
            return self._fit_source(X, y, lengths, validation, checkpoint, comm)
        sequences, whole = one_or_many(X, self.level, lengths)
        for i, sequence in enumerate(sequences):
            check_tokens(sequence, "X" if whole else f"X[{i}]")
        if whole and y is not None:
            raise ValueError("y: expected None with one long text: a condition belongs to each of many sequences")
        train, valid = self._hold_out(len(sequences[0]) if whole else len(sequences), seed, validation)
        if whole:
            part, other = [sequences[0][: len(train)]], [sequences[0][len(train) :]] if len(valid) else []
        else:
            part, other = [sequences[i] for i in train], [sequences[i] for i in valid]
        if self._goes_on():
            encoder, network, conditions = self.encoder_, self.network_, self.conditions_
            if self.ends_ == whole:
                expected = "a list of sequences" if self.ends_ else "one long text"
                raise ValueError(f"X: expected {expected} as in the first fit")
        else:
            encoder = Tokens.learn(part, self.level, self.min_count)
            conditions = Conditions.learn(y)
            network = self._network(encoder, conditions, seed)
        about = conditions(y, len(sequences), "y")
        about, other_about = (None, None) if about is None else (about[train], about[valid])
        if validation is not None:
            other_X, other_y, n = (*validation, None)[:3]
            other = one_or_many(other_X, encoder.level, n)[0]
            other_about = conditions(other_y, len(other), "validation")

        def data(X: list[Any], about: Array | None, name: str, rows: int, steps: int) -> Sequences:
            ids = [encoder.encode(sequence, name) for sequence in X]
            if not whole:
                return _one_by_one(ids, True, about)
            text = np.concatenate(ids)
            return _side_by_side(text, min(rows, -(-len(text) // steps)))

        training = data(part, about, "X", self.batch_size, truncate)
        # In rows of four pieces: no more logits at once than training has.
        held_out = data(other, other_about, "validation", len(train), 4 * truncate) if other else None
        learnt = {id for targets in training.y for id in np.unique(targets).tolist()} - {Vocabulary.PAD, Vocabulary.UNK}
        if not learnt - {Vocabulary.EOS}:
            raise ValueError(f"min_count = {self.min_count}: expected tokens that come so often, got none")
        if self._goes_on():
            learnt |= {*range(encoder.size)} - {*self._forbidden}
        self._train(
            network,
            training,
            held_out,
            seed=seed,
            shuffle=not whole,
            bucket=not whole,
            checkpoint=checkpoint,
            comm=comm,
            fitted={
                "encoder_": encoder,
                "ends_": not whole,
                "conditions_": conditions,
                "_forbidden": sorted({*range(encoder.size)} - learnt),
                "n_features_in_": encoder.size,
            },
        )
        return self

    _learnt = ("encoder_", "ends_", "conditions_", "_forbidden", "n_features_in_")

    def _learn_source(self, train: Part, whole: Part) -> None:
        self.encoder_, self.ends_ = train.learn(Tokens.learn, train.X, self.level, self.min_count), True
        about = None
        if whole.source.labelled:
            about = next(whole.y.map(lambda y: as_array(y, "y")))
            if about.ndim == 1:  # else vectors, of which the first block tells the size
                about = classes_of(whole.y.map(lambda y: as_array(y, "y")))
        self.conditions_ = Conditions.learn(about)
        size = self.n_features_in_ = self.encoder_.size
        if size == len(Vocabulary.SPECIALS):
            raise ValueError(f"min_count = {self.min_count}: expected tokens that come so often, got none")
        self._forbidden = [Vocabulary.PAD, Vocabulary.SOS, Vocabulary.UNK]

    def _encoded(self, X: Any, y: Any) -> Sequences:
        about = self.conditions_(y, len(X), "y")
        for i, sequence in enumerate(X):
            check_tokens(sequence, f"X[{i}]")
        return _one_by_one([self.encoder_.encode(s, f"X[{i}]") for i, s in enumerate(X)], True, about)

    def generate(
        self,
        n: int = 1,
        *,
        prompt: Any = None,
        condition: Any = None,
        max_length: int = 200,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        beam_width: int | None = None,
        stop: Any = None,
        random_state: Any = None,
    ) -> list[Any]:
        """Draw new sequences: strings or lists, as fit was given.

        Parameters
        ----------
        n : int
            How many, side by side.
        prompt : str or list, optional
            What they begin with; any length. Tokens that fit did not see are read as ``<unk>``.
        condition : a label or (C,) numbers, or n of them, optional
            What they are about, where fit was given `y`.
        max_length : int
            Tokens behind the prompt, at most.
        temperature, top_k, top_p :
            How a token is drawn: see :func:`rnnfast.sampling.sample`. ``temperature=0`` takes the likeliest.
        beam_width : int, optional
            Search for likely sequences instead of drawing: the n best of one beam, or the best for each of n
            conditions. See :func:`rnnfast.sampling.beam_search`.
        stop : token, optional
            Ends a sequence, which it is not part of, as ``<eos>`` does where fit was given a list of sequences.
        random_state : int, Generator, optional
            The same seed gives the same sequences, whatever the number of threads.

        Returns
        -------
        list of n sequences, each with the prompt before it; of a beam perhaps fewer
        """
        network = self._fitted()
        check_positive("n", n)
        first = [Vocabulary.SOS, *([] if prompt is None else self.encoder_.encode(prompt, "prompt"))]
        several = self.conditions_.are_several(condition)
        given = condition if several or condition is None else [condition] * n
        about = self.conditions_(given, n, "condition")
        rows = n if several or beam_width is None else 1
        walk = _Walk(network, rows)
        if about is not None:
            walk.state = _layer_by_layer(network.initial_state(about[:rows]))
        for token in first[:-1]:
            walk.read(np.full(rows, token))
        start, stops = np.full(rows, first[-1]), self._stops(stop)
        if beam_width is None:
            drawn = sample_sequences(
                lambda state, tokens: (walk.logits(tokens), state),
                None,
                start,
                stops,
                max_length=max_length,
                rng=generator_of(random_state, "random_state"),
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                forbidden=self._forbidden,
            )
            return [self.encoder_.join(ids, prompt) for ids in drawn]
        if (temperature, top_k, top_p) != (1.0, None, None):
            raise ValueError("beam_width: expected None with temperature, top_k or top_p: a beam draws nothing")
        walks = {rows: walk}  # with other numbers of rows later on

        def step(state: tuple[Array, ...], tokens: Ids) -> tuple[Array, tuple[Array, ...]]:
            if len(tokens) not in walks:
                walks[len(tokens)] = _Walk(network, len(tokens))
            walk = walks[len(tokens)]
            walk.state = state
            return log_softmax(walk.logits(tokens)), walk.state

        best, _ = beam_search(
            step,
            walk.state,
            start,
            stops,
            beam_width=beam_width,
            max_length=max_length,
            forbidden=self._forbidden,
            n_best=1 if several else n,
        )
        return [self.encoder_.join(ids, prompt) for found in best for ids in found]

    def log_probability(self, X: Any, y: ArrayLike | None = None, *, lengths: ArrayLike | None = None) -> Array:
        """Natural log p of each sequence, ``<eos>`` included where sequences end with it, (N,); one long text is one.

        Parameters
        ----------
        X, y, lengths :
            As for :meth:`fit`. A text of any length is read with the state carried all the way.
        """
        return self._scores(X, y, lengths)[0]

    def bits_per_token(self, X: Any, y: ArrayLike | None = None, *, lengths: ArrayLike | None = None) -> float:
        """Mean of -log2 p(token | those before it) over all tokens: bits per character at the level of characters.

        Parameters are those of :meth:`log_probability`; ``<eos>`` counts as a token where sequences end with it.
        """
        log_p, counts = self._scores(X, y, lengths)
        if counts.sum() == 0:
            raise ValueError("X: expected at least one token, got none")
        return float(-log_p.sum() / counts.sum() / math.log(2))

    def perplexity(self, X: Any, y: ArrayLike | None = None, *, lengths: ArrayLike | None = None) -> float:
        """2 to the power of :meth:`bits_per_token`: among how many tokens the model is undecided, in the mean."""
        return float(2 ** self.bits_per_token(X, y, lengths=lengths))

    def score(self, X: Any, y: ArrayLike | None = None, *, lengths: ArrayLike | None = None) -> float:
        """Return -:meth:`bits_per_token`, so that higher is better."""
        return -self.bits_per_token(X, y, lengths=lengths)

    def predict_proba(self, X: Any, y: ArrayLike | None = None) -> Array:
        """p(next token | prefix), (N, K) in the order of ``encoder_.vocabulary``, specials first.

        Parameters
        ----------
        X : list of N prefixes, which may be empty; a string, or a list of integers, is one
        y : N conditions, where fit was given such
        """
        network = self._fitted()
        data = self._sequences(X, y, None, ends=True)
        p = np.zeros((len(data), self.encoder_.size), network.dtype)
        for rows, start, logits, _ in self._outputs(data):
            last = data.lengths[rows] - 1 - start
            here = (last >= 0) & (last < logits.shape[1])
            p[rows[here]] = softmax(logits[here, last[here]])
        return p

    def predict(self, X: Any, y: ArrayLike | None = None) -> list[Any]:
        """The likeliest token after each prefix; None where that is the end of the sequence."""
        p = self.predict_proba(X, y)
        p[:, self._forbidden] = -1
        best = p.argmax(axis=1)
        ends = best == (Vocabulary.EOS if self.ends_ else -1)
        return [None if end else token for end, token in zip(ends, self.encoder_.decode(best), strict=True)]

    def _sequences(self, X: Any, y: Any, lengths: Any, ends: bool) -> Sequences:
        sequences, _ = one_or_many(X, self.encoder_.level, lengths)
        about = self.conditions_(y, len(sequences), "y")
        encode = self.encoder_.encode
        return _one_by_one([encode(sequence, f"X[{i}]") for i, sequence in enumerate(sequences)], ends, about)

    def _outputs(self, data: Sequences) -> Iterator[tuple[Ids, int, Array, Array]]:
        """Rows, the first step of a piece, and its logits (n, t, K) and targets (n, t), for all pieces of all rows."""
        network = self.network_
        for rows in batches(data.lengths, ROWS):
            x, y, lengths = data.batch(rows)
            ids, state = (x[0], network.initial_state(x[1])) if isinstance(x, tuple) else (x, None)
            steps = max(1, NUMBERS // (len(rows) * self.encoder_.size))
            for start in range(0, ids.shape[1], steps):
                h = ids[:, start : start + steps]
                n = np.clip(lengths - start, 0, h.shape[1])
                if network.embedding is not None:
                    h = network.embedding.forward(h, lengths=n)
                h, state = network.recurrent.forward(h, state, lengths=n)
                yield rows, start, network.dense.forward(h, lengths=n), y[:, start : start + steps]

    def _scores(self, X: Any, y: Any, lengths: Any) -> tuple[NDArray[np.float64], Ids]:
        """log p and the number of tokens of each sequence, (N,)."""
        self._fitted()
        data = self._sequences(X, y, lengths, self.ends_)
        total = np.zeros(len(data))
        for rows, start, logits, targets in self._outputs(data):
            log_p = np.take_along_axis(log_softmax(logits), targets[:, :, None], axis=2)[:, :, 0]
            valid = start + np.arange(targets.shape[1]) < data.lengths[rows][:, None]
            total[rows] += np.where(valid, log_p, 0).sum(axis=1)
        return total, data.lengths

    def _stops(self, stop: Any) -> list[int]:
        """The ids that end a sequence."""
        ends = [Vocabulary.EOS] if self.ends_ else []
        if stop is None:
            return ends
        names = [str(stop), f" {stop}"] if self.encoder_.level == "word" else [str(stop)]
        vocabulary = self.encoder_.vocabulary
        known = [vocabulary[name] for name in names if name in vocabulary and vocabulary[name] not in self._forbidden]
        if isinstance(stop, str) == (self.encoder_.kind == "ids") or not known:
            raise ValueError(f"stop: expected None or one {self.encoder_.level} that fit saw, got {stop!r}")
        return [*ends, *known]

    def _network(self, encoder: Tokens, conditions: Conditions, seed: int | None) -> Network:
        return Network(
            encoder.size,
            self.hidden_size,
            encoder.size,
            embedding_size=self.embedding_size,
            condition_size=conditions.size,
            per_step=True,
            **self._settings(seed),
        )

    def _describe(self) -> dict[str, Any]:
        return {
            "encoder": self.encoder_.describe(),
            "conditions": self.conditions_.describe(),
            "ends": self.ends_,
            "forbidden": self._forbidden,
        }

    def _rebuild(self, settings: dict[str, Any]) -> None:
        self.encoder_ = Tokens.rebuild(settings["encoder"])
        self.conditions_ = Conditions.rebuild(settings["conditions"])
        self.ends_, self._forbidden = settings["ends"], settings["forbidden"]
        self.n_features_in_ = self.encoder_.size
        if type(self.ends_) is not bool or type(self._forbidden) is not list:
            raise ValueError(f"sequences that end, {self.ends_!r}, and forbidden tokens {self._forbidden!r}")
        if not all(type(id) is int and 0 <= id < self.encoder_.size for id in self._forbidden):
            raise ValueError("forbidden tokens that are not in the vocabulary")

    def _build(self, seed: int | None = None) -> Network:
        return self._network(self.encoder_, self.conditions_, seed)

    def _least_size(self) -> int:
        H = self.hidden_size
        return self.encoder_.size * (H + (self.embedding_size or H)) + H * (self.conditions_.size or 0)


def _one_by_one(ids: list[Ids], ends: bool, about: Array | None) -> Sequences:
    """Each sequence behind <sos>; its tokens are the targets, and <eos> where it `ends`."""
    end = [Vocabulary.EOS] if ends else []
    y = [np.array([*row, *end], np.int64) for row in ids]
    x = [np.array([Vocabulary.SOS, *row], np.int64)[: len(targets)] for row, targets in zip(ids, y, strict=True)]
    return Sequences(x, y, per_step=True, condition=about)


def _side_by_side(text: Ids, rows: int) -> Sequences:
    """One long text cut into rows, each behind <sos>."""
    T = -(-len(text) // rows)
    y: Ids = np.full((rows, T), Vocabulary.PAD)
    y.ravel()[: len(text)] = text
    x = np.column_stack([np.full(rows, Vocabulary.SOS), y[:, :-1]])
    return Sequences(x, y, np.clip(len(text) - T * np.arange(rows), 0, T), per_step=True)


def _layer_by_layer(states: tuple[Array, ...]) -> tuple[Array, ...]:
    """Arrays (num_layers, N, H) as those of each layer, (N, H)."""
    return tuple(s for layer in zip(*states, strict=True) for s in layer)
