"""SequenceClassifier: many to one, a class for each sequence."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import as_array
from ..losses import softmax
from ..network import Network
from ..parallel import all_ranks
from ..preprocessing import batches
from ..sequences import Sequences
from ..streaming import Part, Source
from .base import SequenceEstimator, with_parameters
from .encoding import Encoder, count, sequences_of
from .labels import classes_of, describe_labels, places, rebuild_labels, warn_of_column

__all__ = ["SequenceClassifier"]

Array = NDArray[Any]


@with_parameters
@dataclass(eq=False, repr=False)
class SequenceClassifier(SequenceEstimator):
    """Many to one: a class for each sequence.

    A :class:`Network` reads the sequence (tokens through an embedding, or features as they are), and a Dense layer on
    its final state gives a logit for each class; p = softmax(logits), trained on cross-entropy with Adam.

    Sequences are strings (cut into words or characters), lists of tokens, sequences of ids, or (T_i, D) or (T_i,)
    arrays of numbers; an array (N, T) is N univariate series, as scikit-learn's tables are.

    Parameters
    ----------
    {parameters}
    min_count : int
        Rarer tokens of the training data are ``<unk>``, as all unseen ones are.
    level : "word" or "character"
        What a string is cut into: :func:`rnnfast.tokenize`, or each character as it is.
    scale : bool
        Bring each feature to mean 0 and deviation 1 of the training part.

    Attributes
    ----------
    classes_ : array (K,)
    network_ : Network
    history_ : History
    encoder_ : Encoder
    n_features_in_ : int
        Columns of a table (N, T), else the size of the vocabulary, or features of a step.

    Notes
    -----
    Labels that fit did not see count as wrong in :meth:`score` and are left out of validation data, with a warning that
    says how many; beside a source they are an error. ``encoder_.unseen(X)`` counts the tokens that fit did not see.

    Examples
    --------
    >>> import rnnfast
    >>> sentences = ["a fine film", "a dull film", "fine acting", "dull acting"] * 4
    >>> labels = ["good", "bad", "good", "bad"] * 4
    >>> model = rnnfast.SequenceClassifier(hidden_size=8, max_epochs=30, learning_rate=0.02, random_state=0)
    >>> model.fit(sentences, labels).predict(["fine", "a dull one"]).tolist()
    ['good', 'bad']
    """

    min_count: int = 1
    level: str = "word"
    scale: bool = True

    _estimator_type: ClassVar[str] = "classifier"
    classes_: Array = field(init=False)
    encoder_: Encoder = field(init=False)

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
        """Train on sequences and their labels.

        Parameters
        ----------
        X : list of N sequences; or one array, (N, T) as N univariate series, or (N, T, D); or a source of
            :mod:`rnnfast.streaming` with labels, whose vocabulary, scale and weights are learnt block by block
        y : (N,) labels
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
            return self._fit_source(X, y, lengths, validation, checkpoint, comm, by_accuracy=True)
        seed, table = self._seed(), X if lengths is None else None
        X = sequences_of(X, lengths)
        labels = _labels(y, count(X))
        train, valid = self._hold_out(len(X), seed, validation)
        part = [X[i] for i in train] if len(valid) else X
        if self._goes_on():
            classes, encoder, network = self.classes_, self.encoder_, self.network_
        else:
            classes = classes_of([labels])
            encoder = self._learn(X, part, self.min_count, self.level, self.scale)
            network = self._network(encoder, len(classes), seed)
        targets = self._targets(labels, classes)
        if validation is not None:
            other = sequences_of(*validation[::2])
            other_targets = places(_labels(validation[1], count(other)), classes)
        else:
            other, other_targets = [X[i] for i in valid], targets[valid]
        held_out = self._held_out(encoder, other, other_targets) if len(other) else None
        encoded = encoder(X, np.dtype(self.dtype))
        data = Sequences([encoded[i] for i in train], targets[train])
        self._train(
            network,
            data,
            held_out,
            seed=seed,
            monitor="val_accuracy" if held_out else None,
            checkpoint=checkpoint,
            comm=comm,
            fitted={"classes_": classes, "encoder_": encoder, **self._input_facts(table, encoder.size)},
        )
        return self

    _learnt = ("classes_", "encoder_", "_columns", "n_features_in_")

    def _learn_source(self, train: Part, whole: Part) -> None:
        if not whole.source.labelled:
            raise ValueError(f"X: expected a source with labels, got {whole.source!r}")
        self.classes_ = classes_of(whole.map(lambda X, y: _labels(y, len(X))))
        self.encoder_ = train.learn(Encoder.learn, train.X, self.min_count, self.level, self.scale)
        self._columns, self.n_features_in_ = None, self.encoder_.size

    def _encoded(self, X: Any, y: Any) -> Sequences:
        targets = self._targets(_labels(y, len(X)), self.classes_)
        return Sequences(self.encoder_(X, np.dtype(self.dtype)), targets)

    def _held_out(self, encoder: Encoder, X: Any, targets: Array) -> Sequences:
        unseen = int((targets < 0).sum())
        if unseen == len(targets):
            raise ValueError("validation: expected some labels that are in y, got none")
        if unseen:
            message = f"validation: {unseen} of {len(targets)} sequences have labels not in y: they are left out"
            warnings.warn(message, stacklevel=3)
        return Sequences(encoder([x for x, t in zip(X, targets, strict=True) if t >= 0], np.dtype(self.dtype)),
                         targets[targets >= 0])  # fmt: skip

    def predict_proba(self, X: Any, *, lengths: ArrayLike | None = None) -> Array:
        """Probability of each class, (N, K), in the order of ``classes_``."""
        network = self._fitted()
        data = Sequences(self.encoder_(self._input(X, lengths), network.dtype))
        result = np.zeros((len(data), len(self.classes_)), network.dtype)
        for rows in batches(data.lengths, 256):
            x, _, n = data.batch(rows)
            result[rows] = softmax(network.forward(x, lengths=n))
        return result

    def predict(self, X: Any, *, lengths: ArrayLike | None = None) -> Array:
        """The likeliest class of each sequence, (N,)."""
        best = self.predict_proba(X, lengths=lengths).argmax(axis=1)
        predicted: Array = self.classes_[best]
        return predicted

    def score(self, X: Any, y: ArrayLike, *, lengths: ArrayLike | None = None) -> float:
        """Accuracy: the part of the sequences whose predicted class is `y`."""
        best = self.predict_proba(X, lengths=lengths).argmax(axis=1)
        targets = places(_labels(y, len(best)), self.classes_)
        if unseen := int((targets < 0).sum()):
            warnings.warn(
                f"y: {unseen} of {len(targets)} labels were not seen in fit, and count as wrong", stacklevel=2
            )
        return float(np.mean(best == targets))

    def _network(self, encoder: Encoder, classes: int, seed: int | None) -> Network:
        return Network(
            encoder.size,
            self.hidden_size,
            classes,
            bidirectional=self.bidirectional,
            embedding_size=None if encoder.kind == "features" else self.embedding_size,
            **self._settings(seed),
        )

    @staticmethod
    def _targets(labels: Array, classes: Array) -> NDArray[np.int64]:
        targets = places(labels, classes)
        if (targets < 0).any():
            i = int(np.argmin(targets))
            known = ", ".join(map(repr, classes.tolist()))
            raise ValueError(f"y[{i}] = {labels.tolist()[i]!r}: expected one of the classes seen in fit, {known}")
        return targets

    def _describe(self) -> dict[str, Any]:
        return {**describe_labels(self.classes_), "encoder": self.encoder_.describe(), "columns": self._columns}

    def _rebuild(self, settings: dict[str, Any]) -> None:
        self.classes_ = rebuild_labels(settings)
        self.encoder_ = Encoder.rebuild(settings["encoder"])
        self._rebuild_input(settings["columns"], self.encoder_.size)

    def _build(self, seed: int | None = None) -> Network:
        return self._network(self.encoder_, len(self.classes_), seed)

    def _least_size(self) -> int:
        width = self.embedding_size if self.encoder_.kind != "features" else 0
        return self.hidden_size * len(self.classes_) + self.encoder_.size * (width or self.hidden_size)


def _labels(y: Any, n: int) -> Array:
    if y is None:
        raise ValueError("y: SequenceClassifier requires y to be passed, but the target y is None")
    labels = as_array(y, "y")
    if labels.shape == (n, 1):
        warn_of_column()
        labels = labels[:, 0]
    if labels.shape != (n,):
        raise ValueError(f"y: expected (N,) = ({n},) labels, got {labels.shape}")
    if labels.dtype.kind not in "biufUO":
        raise TypeError(f"y: expected strings, integers or booleans, got {labels.dtype}")
    whole = np.isfinite(labels) & (labels == np.floor(labels)) if labels.dtype.kind == "f" else np.ones(n, bool)
    if not whole.all():
        i = int(np.argmin(whole))
        raise ValueError(f"y[{i}] = {labels[i]}: expected a class. Unknown label type: continuous, or NaN or inf")
    return labels
