"""Estimators in scikit-learn's conventions: data in, predictions out.

Texts, tokens, ids or arrays become batches (preprocessing.py), a Network (network.py) is trained by fit (training.py),
and saved (files.py). scikit-learn itself is not needed. An estimator must not know how a gradient is computed.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .files import ModelFileError, read_model, write_model
from .losses import softmax
from .network import Network
from .optimizers import Adam
from .preprocessing import Vocabulary, batches, split, tokenize
from .training import Callback, History, Sequences, fit

__all__ = ["SequenceClassifier"]

Array = NDArray[Any]


class _Estimator:
    """Parameters by name, as scikit-learn asks for: __init__ stores them and does nothing else."""

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters by name."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self, **params: Any) -> _Estimator:
        """Set parameters by name; an unknown one is a ValueError."""
        names = self._parameter_names()
        for name, value in params.items():
            if name not in names:
                raise ValueError(f"{name}: expected one of {', '.join(names)}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        changed = {k: v for k, v in self.get_params().items() if repr(v) != repr(defaults[k].default)}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in changed.items())})"


class Encoder:
    """Turns what a person has into what a network takes; learnt from the training data.

    kind: "text" (strings, tokenised), "tokens" (lists of strings), "ids" (sequences of integers) or "features"
    ((T_i, D) or (T_i,) floating arrays).
    """

    def __init__(self, kind: str, vocabulary: Vocabulary | None, size: int) -> None:
        self.kind, self.vocabulary, self.size = kind, vocabulary, size

    @classmethod
    def learn(cls, X: Any, min_count: int) -> Encoder:
        kind = _kind_of(X)
        if kind in ("text", "tokens"):
            vocabulary = Vocabulary.build(_tokens(X, kind), min_count=min_count)
            return cls(kind, vocabulary, len(vocabulary))
        if kind == "ids":
            return cls(kind, None, 2 + max(int(max(s, default=-1)) for s in X))  # the last one: unknown
        first = next((i for i, s in enumerate(X) if len(s)), 0)
        return cls(kind, None, _features(X[first], f"X[{first}]").shape[1])

    def __call__(self, X: Any, dtype: np.dtype[Any]) -> list[Array]:
        """One array for each sequence: (T_i,) ids or (T_i, D) features."""
        kind = _kind_of(X)
        for i, sequence in enumerate(X):
            if len(sequence) == 0:
                raise ValueError(f"X[{i}]: expected at least one step, got an empty sequence ({sequence!r})")
        if kind != self.kind and {kind, self.kind} != {"text", "tokens"}:
            raise ValueError(f"X: expected {self.kind} as in fit, got {kind}")
        if kind in ("text", "tokens"):
            assert self.vocabulary is not None
            encoded: list[Array] = [self.vocabulary.encode(tokens) for tokens in _tokens(X, kind)]
        elif kind == "ids":
            encoded = [np.array(s, np.int64) for s in X]
            for i, ids in enumerate(encoded):
                if ids.size and ids.min() < 0:
                    raise ValueError(f"X[{i}]: expected token ids of 0 or more, got {ids.min()}")
                ids[ids >= self.size] = self.size - 1
        else:
            with np.errstate(over="ignore"):  # too large for dtype: an infinity, and an error below
                encoded = [_features(s, f"X[{i}]").astype(dtype) for i, s in enumerate(X)]
            for i, array in enumerate(encoded):
                if array.shape[1] != self.size:
                    raise ValueError(f"X[{i}]: expected (T, D) = (T, {self.size}) as in fit, got {array.shape}")
                if not np.isfinite(array).all():
                    t, d = np.argwhere(~np.isfinite(array))[0]
                    raise ValueError(f"X[{i}][{t}, {d}] = {array[t, d]}: expected a finite number")
        for i, sequence in enumerate(encoded):
            if len(sequence) == 0:
                raise ValueError(f"X[{i}]: expected at least one word, got none in {X[i]!r}")
        return encoded


class SequenceClassifier(_Estimator):
    """Many to one: a class for each sequence.

    A :class:`Network` reads the sequence (words through an embedding, or features as they are), and a Dense layer on
    its final state gives a logit for each class; p = softmax(logits), trained on cross-entropy with Adam.

    Parameters
    ----------
    cell : str
        One of :func:`rnnfast.cells`.
    hidden_size, num_layers : int
    bidirectional : bool
    embedding_size : int
        Size of a word's vector; 0 means one-hot words. Not used for features.
    dropout : float
    batch_size : int
    learning_rate : float
    max_epochs : int
        Passes over the data.
    tol, target_loss, patience :
        See :func:`rnnfast.fit`.
    validation_fraction : float
        Part of the training data that is held out to choose the pass with the best accuracy; 0 is none.
    clip_norm, clip_value, truncate :
        See :func:`rnnfast.fit`.
    min_count : int
        Rarer words of the training data are ``<unk>``, as all unseen ones are.
    random_state : int or None
        Seed of the weights, the dropout, the order of the batches and the validation part.
    dtype : "float32" or "float64"
    n_jobs : int or None
        Threads; None is :func:`rnnfast.get_num_threads`.
    verbose : int
        1 prints a line for each pass.
    warm_start : bool
        A second fit goes on from the weights of the first; words and classes stay as they were.
    callbacks : iterable of Callback

    Attributes
    ----------
    classes_ : array (K,)
    network_ : Network
    history_ : History
    encoder_ : Encoder
    n_features_in_ : int
        Size of the vocabulary, or features of a step.

    Examples
    --------
    >>> import rnnfast
    >>> sentences = ["a fine film", "a dull film", "fine acting", "dull acting"] * 4
    >>> labels = ["good", "bad", "good", "bad"] * 4
    >>> model = rnnfast.SequenceClassifier(hidden_size=8, max_epochs=30, learning_rate=0.02, random_state=0)
    >>> model.fit(sentences, labels).predict(["fine", "a dull one"]).tolist()
    ['good', 'bad']
    """

    _estimator_type = "classifier"
    classes_: Array
    encoder_: Encoder
    network_: Network
    history_: History
    n_features_in_: int
    fitted_params_: dict[str, Any]

    def __init__(
        self,
        cell: str = "lstm",
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = True,
        embedding_size: int = 64,
        dropout: float = 0.0,
        batch_size: int = 32,
        learning_rate: float = 2e-3,
        max_epochs: int = 12,
        tol: float = 0.0,
        target_loss: float | None = None,
        patience: int | None = None,
        validation_fraction: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        truncate: int | None = None,
        min_count: int = 1,
        random_state: int | None = None,
        dtype: str = "float32",
        n_jobs: int | None = None,
        verbose: int = 0,
        warm_start: bool = False,
        callbacks: Iterable[Callback] = (),
    ) -> None:
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.embedding_size = embedding_size
        self.dropout = dropout
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.max_epochs = max_epochs
        self.tol = tol
        self.target_loss = target_loss
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.truncate = truncate
        self.min_count = min_count
        self.random_state = random_state
        self.dtype = dtype
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.warm_start = warm_start
        self.callbacks = callbacks

    def fit(self, X: Any, y: ArrayLike, *, validation: tuple[Any, ArrayLike] | None = None) -> SequenceClassifier:
        """Train on sequences and their labels.

        Parameters
        ----------
        X : list of strings (tokenised), of lists of tokens, of id sequences or of (T_i, D) arrays; or one array, (N,
            T) as N univariate series, or (N, T, D)
        y : (N,) labels
        validation : tuple (X, y), optional
            Instead of `validation_fraction`.
        """
        if _count(X) == 0:
            raise ValueError("X: expected at least one sequence, got none")
        labels = _labels(X, y)
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(f"validation_fraction: expected 0 <= part < 1, got {self.validation_fraction}")
        if not (self.warm_start and hasattr(self, "network_")):
            try:
                classes = np.unique(labels)
            except TypeError as error:
                raise TypeError(f"y: expected labels of one kind, got some that have no order ({error})") from error
            if len(classes) < 2:
                raise ValueError(f"y: expected at least two classes, got {classes.tolist()[0]!r} alone")
            encoder = Encoder.learn(X, self.min_count)
            network = self._network(encoder, len(classes))
        else:
            classes, encoder, network = self.classes_, self.encoder_, self.network_
        sequences, targets = encoder(X, np.dtype(self.dtype)), self._targets(labels, classes)
        held_out = None
        if validation is not None:
            held_out = (
                encoder(validation[0], np.dtype(self.dtype)),
                self._targets(_labels(*validation), classes),
            )
        elif self.validation_fraction:
            seed = 0 if self.random_state is None else self.random_state
            train, valid = split(len(sequences), (1 - self.validation_fraction, self.validation_fraction), seed)
            held_out = ([sequences[i] for i in valid], targets[valid])
            sequences, targets = [sequences[i] for i in train], targets[train]
        callbacks = [*self.callbacks, *([_PrintEpochs()] if self.verbose else [])]
        history = fit(
            network,
            sequences,
            targets,
            optimizer=Adam(self.learning_rate),
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            target_loss=self.target_loss,
            patience=self.patience,
            tol=self.tol,
            validation=held_out,
            monitor="val_accuracy" if held_out else None,
            clip_norm=self.clip_norm,
            clip_value=self.clip_value,
            truncate=self.truncate,
            seed=self.random_state,
            callbacks=callbacks,
        )
        self.classes_, self.encoder_, self.network_, self.history_ = classes, encoder, network, history
        self.n_features_in_ = encoder.size
        self.fitted_params_ = self.get_params()  # what save writes: set_params does not change a fitted model
        return self

    def predict_proba(self, X: Any) -> Array:
        """Probability of each class, (N, K), in the order of ``classes_``."""
        network = self._fitted()
        sequences = Sequences(self.encoder_(X, network.dtype))
        result = np.zeros((len(sequences), len(self.classes_)), network.dtype)
        for rows in batches(sequences.lengths, 256):
            x, _, lengths = sequences.batch(rows)
            result[rows] = softmax(network.forward(x, lengths=lengths))
        return result

    def predict(self, X: Any) -> Array:
        """The likeliest class of each sequence, (N,)."""
        best = self.predict_proba(X).argmax(axis=1)
        predicted: Array = self.classes_[best]
        return predicted

    def score(self, X: Any, y: ArrayLike) -> float:
        """Accuracy: the part of the sequences whose predicted class is `y`."""
        self._fitted()
        targets = self._targets(_labels(X, y), self.classes_)
        return float(np.mean(self.predict_proba(X).argmax(axis=1) == targets))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to a safetensors file, whole or not at all."""
        network = self._fitted()
        params = {k: v for k, v in self.fitted_params_.items() if k != "callbacks"}
        params["dtype"] = network.dtype.name
        vocabulary = self.encoder_.vocabulary
        settings = {
            "params": params,
            "classes": self.classes_.tolist(),
            "classes_dtype": self.classes_.dtype.str,
            "encoder": {
                "kind": self.encoder_.kind,
                "size": self.encoder_.size,
                "tokens": None if vocabulary is None else vocabulary.tokens[4:],
            },
        }
        write_model(path, type(self).__name__, network.named_parameters(), settings)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SequenceClassifier:
        """Read a model that :meth:`save` wrote; it predicts the same bits.

        Raises
        ------
        ModelFileError
            The file is not such a model.
        """
        arrays, settings = read_model(path, cls.__name__)
        try:
            model = cls(**settings["params"])
            kind = np.dtype(settings["classes_dtype"])
            if kind.kind not in "biufUO":
                raise ValueError(f"classes of {kind}")
            model.classes_ = np.array(settings["classes"], dtype="U" if kind.kind == "U" else kind)
            e = settings["encoder"]
            model.encoder_ = Encoder(e["kind"], None if e["tokens"] is None else Vocabulary(e["tokens"]), e["size"])
            model._check_sizes(sum(array.size for array in arrays.values()))
            model.network_ = network = model._network(model.encoder_, len(model.classes_))
            own = network.named_parameters()
            wrong = [
                name
                for name in sorted({*own, *arrays})
                if name not in own
                or name not in arrays
                or (own[name].shape, own[name].dtype) != (arrays[name].shape, arrays[name].dtype)
            ]
            if wrong:
                raise ValueError(f"arrays that do not fit its settings: {', '.join(wrong)}")
            for name, array in arrays.items():
                own[name][...] = array
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelFileError(f"{path}: expected a whole {cls.__name__}, got one with {error}") from error
        model.n_features_in_ = model.encoder_.size
        model.fitted_params_ = model.get_params()
        model.history_ = History()
        return model

    def _check_sizes(self, numbers: int) -> None:
        """Before memory is taken for a network: can its settings, read from a file, belong to so many numbers?"""
        encoder, classes = self.encoder_, self.classes_
        sizes = (encoder.size, self.hidden_size, self.num_layers, self.embedding_size)
        if not all(type(size) is int and size >= 0 for size in sizes):
            raise ValueError("sizes that are not integers of 0 or more")
        has_tokens = encoder.vocabulary is not None
        if (encoder.kind, has_tokens) not in (("text", True), ("tokens", True), ("ids", False), ("features", False)):
            raise ValueError(f"sequences of kind {encoder.kind!r} {'with' if has_tokens else 'without'} a vocabulary")
        if encoder.vocabulary is not None and encoder.size != len(encoder.vocabulary):
            raise ValueError(f"{len(encoder.vocabulary)} tokens for a vocabulary of {encoder.size}")
        if classes.ndim != 1 or len(classes) < 2 or len(set(classes.tolist())) < len(classes):
            raise ValueError("classes that are not a list of at least two, each once")
        H, E = self.hidden_size, self.embedding_size if encoder.kind != "features" else 0
        if H * H * self.num_layers + H * len(classes) + encoder.size * (E or H) > numbers:
            raise ValueError("settings that need more arrays than are there")

    def _network(self, encoder: Encoder, classes: int) -> Network:
        return Network(
            encoder.size,
            self.hidden_size,
            classes,
            cell=self.cell,
            num_layers=self.num_layers,
            bidirectional=self.bidirectional,
            embedding_size=None if encoder.kind == "features" else self.embedding_size,
            dropout=self.dropout,
            dtype=self.dtype,
            seed=self.random_state,
            num_threads=self.n_jobs,
        )

    def _fitted(self) -> Network:
        if not hasattr(self, "network_"):
            raise RuntimeError(f"{type(self).__name__}: expected a fitted model; call fit first")
        return self.network_

    @staticmethod
    def _targets(labels: Array, classes: Array) -> NDArray[np.int64]:
        index = {label: k for k, label in enumerate(classes.tolist())}
        for i, label in enumerate(labels.tolist()):
            if label not in index:
                known = ", ".join(map(repr, index))
                raise ValueError(f"y[{i}] = {label!r}: expected one of the classes seen in fit, {known}")
        return np.array([index[label] for label in labels.tolist()], np.int64)


class _PrintEpochs(Callback):
    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        print(f"pass {epoch + 1}: " + ", ".join(f"{name} {value:.4f}" for name, value in logs.items()))


def _count(X: Any) -> int:
    if isinstance(X, str) or not hasattr(X, "__len__"):
        raise TypeError(f"X: expected a list of sequences, got {type(X).__name__}")
    return len(X)


def _labels(X: Any, y: ArrayLike) -> Array:
    labels = _array(y, "y")
    if labels.shape != (_count(X),):
        raise ValueError(f"y: expected (N,) = ({_count(X)},) labels, got {labels.shape}")
    if labels.dtype.kind not in "biufUO":
        raise TypeError(f"y: expected strings, integers or booleans, got {labels.dtype}")
    return labels


def _array(value: Any, name: str) -> Array:
    try:
        array: Array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: expected one array, got parts of unequal shape") from error
    return array


def _kind_of(X: Any) -> str:
    if _count(X) == 0:
        raise ValueError("X: expected at least one sequence, got none")
    if isinstance(X, np.ndarray) and X.dtype.kind in "fiub" and X.ndim >= 2:
        return "features"
    kinds = {_kind_of_one(s, f"X[{i}]") for i, s in enumerate(X)} - {""}
    if len(kinds) > 1:
        raise ValueError(f"X: expected sequences of one kind, got {' and '.join(sorted(kinds))}")
    return kinds.pop() if kinds else "tokens"


def _kind_of_one(sequence: Any, name: str) -> str:
    if isinstance(sequence, str):
        return "text"
    if not hasattr(sequence, "__len__"):
        raise TypeError(f"{name}: expected a string, tokens, ids or an array, got {sequence!r}")
    if len(sequence) == 0:
        return ""
    if not isinstance(sequence, np.ndarray) and isinstance(sequence[0], str):
        return "tokens"
    kind = _array(sequence, name).dtype.kind
    if kind in "UO" and all(isinstance(token, str) for token in sequence):
        return "tokens"
    if kind in "iu" and np.ndim(sequence) == 1:
        return "ids"
    if kind in "fiu":
        return "features"
    raise TypeError(f"{name}: expected a string, tokens, ids or an array of numbers, got {sequence!r:.80}")


def _tokens(X: Sequence[Any], kind: str) -> list[list[str]]:
    return [tokenize(s) if isinstance(s, str) else [str(token) for token in s] for s in X]


def _features(sequence: Any, name: str) -> Array:
    array = _array(sequence, name)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: expected (T, D) or (T,) numbers, got {array.shape} of {array.dtype}")
    return array
