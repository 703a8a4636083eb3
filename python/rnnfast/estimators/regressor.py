"""SequenceRegressor: many to one or many to many, real numbers: forecasts, and a number for each step."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import as_array
from ..network import Network
from ..parallel import all_ranks
from ..preprocessing import batches
from ..sequences import Sequences
from ..streaming import Part, Source
from .base import SequenceEstimator, with_parameters
from .encoding import Encoder, count, joined_moments, moments, rebuild_moments, sequences_of, steps_of

__all__ = ["SequenceRegressor"]

Array = NDArray[Any]


@with_parameters
@dataclass(eq=False, repr=False)
class SequenceRegressor(SequenceEstimator):
    """Many to one, or many to many: real numbers for each sequence, or for each step.

    A :class:`Network` reads the sequence; a Dense layer on its final state, or on each state, gives the numbers,
    trained on squared error with Adam. Several numbers are several outputs, several steps ahead, or both.

    Sequences are (T_i, D) or (T_i,) arrays of numbers, ids, lists of tokens or strings; an array (N, T) is N univariate
    series, as scikit-learn's tables are. :func:`rnnfast.windows` cuts a long series into such sequences and
    their futures.

    Parameters
    ----------
    {parameters}
    per_step : bool
        A target for each step, instead of one for each sequence.
    min_count, level :
        As for :class:`SequenceClassifier`, where sequences are texts or tokens.
    scale : bool
        Bring each feature and each target to mean 0 and deviation 1 of the training part; :meth:`predict` undoes it.
        Losses (``target_loss``, ``history_``) are in units of the targets' variance then.

    Attributes
    ----------
    network_ : Network
    history_ : History
    encoder_ : Encoder
    target_mean_, target_deviation_ : arrays (K,)
        Of the flattened targets of a sequence or step.
    n_features_in_ : int
        Columns of a table (N, T), else the size of the vocabulary, or features of a step.

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> series = np.sin(np.arange(300) / 5)
    >>> X, y = rnnfast.windows(series, 20)
    >>> model = rnnfast.SequenceRegressor(hidden_size=16, max_epochs=20, learning_rate=0.01, random_state=0)
    >>> bool(model.fit(X[:200], y[:200]).score(X[200:], y[200:]) > 0.99)
    True
    """

    bidirectional: bool = False
    max_epochs: int = 50
    per_step: bool = False
    min_count: int = 1
    level: str = "word"
    scale: bool = True

    _estimator_type: ClassVar[str] = "regressor"
    encoder_: Encoder = field(init=False)
    target_mean_: Array = field(init=False)
    target_deviation_: Array = field(init=False)
    _shape: tuple[int, ...] = field(init=False)  # of the target of one sequence or step

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
        """Train on sequences and their targets.

        Parameters
        ----------
        X : list of N sequences; or one array, (N, T) as N univariate series, or (N, T, D); or a source of
            :mod:`rnnfast.streaming` with targets
        y : (N,) or (N, ...) numbers; with `per_step` a list of (T_i,) or (T_i, ...), or such numbers padded or joined
            as `X` is
        lengths : (N,) integers, optional
            Where `X` is padded, or has the sequences joined one behind the other.
        validation : tuple (X, y) or (X, y, lengths), optional; with a source also a source
            Instead of `validation_fraction`. Of a time series, hold out its end, not random windows that overlap.
        checkpoint : path, optional
            See :func:`rnnfast.fit`: written after each pass, and gone on from where it is there.
        comm : communicator, optional
            Train on several processes: see :func:`rnnfast.fit`.
        """
        if isinstance(X, Source):
            return self._fit_source(X, y, lengths, validation, checkpoint, comm, loss="squared_error")
        seed, table = self._seed(), X if lengths is None else None
        level = self.encoder_.level if self._goes_on() else self.level
        X, targets, shape = _pairs(self.per_step, level, X, y, lengths)
        train, valid = self._hold_out(len(X), seed, validation)
        part = [X[i] for i in train] if len(valid) else X
        if self._goes_on():
            encoder, network, mean, deviation = self.encoder_, self.network_, self.target_mean_, self.target_deviation_
            if shape != self._shape:
                raise ValueError(f"y: expected targets of shape {self._shape} as in the first fit, got {shape}")
        else:
            encoder = self._learn(X, part, self.min_count, level, self.scale)
            mean, deviation = self._moments(np.concatenate([targets[i] for i in train]))
            network = self._network(encoder, len(mean), seed)
        if validation is not None:
            other, other_targets, other_shape = _pairs(self.per_step, level, *validation)
            if other_shape != shape:
                raise ValueError(f"validation: expected targets of shape {shape} as in y, got {other_shape}")
            valid = np.arange(len(other))
        else:
            other, other_targets = X, targets

        moments = encoder, mean, deviation
        self._train(
            network,
            self._scaled(*moments, X, targets, train),
            self._scaled(*moments, other, other_targets, valid) if len(valid) else None,
            seed=seed,
            loss="squared_error",
            checkpoint=checkpoint,
            comm=comm,
            fitted={
                "encoder_": encoder,
                "target_mean_": mean,
                "target_deviation_": deviation,
                "_shape": shape,
                **self._input_facts(table, encoder.size),
            },
        )
        return self

    _learnt = ("encoder_", "target_mean_", "target_deviation_", "_shape", "_columns", "n_features_in_")

    def _learn_source(self, train: Part, whole: Part) -> None:
        if not whole.source.labelled:
            raise ValueError(f"X: expected a source with targets, got {whole.source!r}")
        self.encoder_ = train.learn(Encoder.learn, train.X, self.min_count, self.level, self.scale)
        _, targets, self._shape = next(train.map(lambda X, y: _pairs(self.per_step, self.level, X, y)))
        size = targets[0].shape[1]
        self.target_mean_, self.target_deviation_ = np.zeros(size), np.ones(size)
        if self.scale:
            parts = train.map(lambda X, y: np.concatenate(self._checked(X, y)[1]))
            self.target_mean_, self.target_deviation_ = joined_moments(parts)
        self._columns, self.n_features_in_ = None, self.encoder_.size

    def _checked(self, X: Any, y: Any) -> tuple[Any, list[Array]]:
        X, targets, shape = _pairs(self.per_step, self.encoder_.level, X, y)
        if shape != self._shape:
            raise ValueError(f"y: expected targets of shape {self._shape} as before, got {shape}")
        return X, targets

    def _encoded(self, X: Any, y: Any) -> Sequences:
        X, targets = self._checked(X, y)
        return self._scaled(self.encoder_, self.target_mean_, self.target_deviation_, X, targets, range(len(X)))

    def _scaled(self, encoder: Encoder, mean: Array, deviation: Array, X: Any, targets: Any, rows: Any) -> Sequences:
        """Some rows of a data set as the network reads them."""
        with np.errstate(over="ignore"):
            scaled = [((t - mean) / deviation).astype(self.dtype) for t in targets]
        for i, t in enumerate(scaled):
            if not np.isfinite(t).all():
                raise ValueError(f"y[{i}]: expected numbers that {self.dtype} can hold, got larger ones")
        encoded = encoder(X, np.dtype(self.dtype))
        scaled = [scaled[i] for i in rows]
        y = scaled if self.per_step else np.concatenate(scaled)
        return Sequences([encoded[i] for i in rows], y, per_step=self.per_step)

    def predict(self, X: Any, *, lengths: ArrayLike | None = None) -> Any:
        """The numbers, shaped as `y` was: (N, ...); for each step a list of (T_i, ...), or (N, T, ...) for an array."""
        network = self._fitted()
        whole = isinstance(X, np.ndarray) and X.ndim > 1 and lengths is None
        X = self._input(X, lengths)
        data = Sequences(self.encoder_(steps_of(X, self.encoder_.level) if network.per_step else X, network.dtype))
        found: list[Any] = [None] * len(data)
        for rows in batches(data.lengths, 256):
            x, _, n = data.batch(rows)
            outputs = network.forward(x, lengths=n) * self.target_deviation_ + self.target_mean_
            for row, output, steps in zip(rows, outputs, n, strict=True):
                found[row] = output[:steps].reshape(steps, *self._shape) if network.per_step else output
        if network.per_step:
            return np.stack(found) if whole else found
        return np.stack(found).reshape(len(found), *self._shape)

    def score(self, X: Any, y: Any, *, lengths: ArrayLike | None = None) -> float:
        """R² = 1 - Σ(y - p)² / Σ(y - mean)² over all sequences and steps, its mean over outputs.

        An output whose truth is constant counts 1 where it is met exactly, else 0.
        """
        predicted = self.predict(X, lengths=lengths)
        _, targets, shape = _pairs(self.network_.per_step, self.encoder_.level, X, y, lengths)
        if shape != self._shape:
            raise ValueError(f"y: expected targets of shape {self._shape} as in fit, got {shape}")
        truth = np.concatenate(targets)
        found = np.concatenate([np.reshape(p, (-1, truth.shape[1])) for p in predicted])
        mean, deviation = moments(truth)  # in units of which no square overflows
        with np.errstate(over="ignore"):
            error, variation = ((((truth - a) / deviation) ** 2).sum(axis=0) for a in (found, mean))
        varied = np.ptp(truth, axis=0) > 0
        r2 = np.where(varied, 1 - error / np.where(varied, variation, 1), np.where(error > 0, 0.0, 1.0))
        return float(r2.mean())

    def _moments(self, targets: Array) -> tuple[Array, Array]:
        """What is subtracted from (M, K) targets, and by what they are divided then."""
        return moments(targets) if self.scale else (np.zeros(targets.shape[1]), np.ones(targets.shape[1]))

    def _network(self, encoder: Encoder, outputs: int, seed: int | None) -> Network:
        return Network(
            encoder.size,
            self.hidden_size,
            outputs,
            bidirectional=self.bidirectional,
            embedding_size=None if encoder.kind == "features" else self.embedding_size,
            per_step=self.per_step,
            **self._settings(seed),
        )

    def _describe(self) -> dict[str, Any]:
        return {
            "encoder": self.encoder_.describe(),
            "columns": self._columns,
            "shape": list(self._shape),
            "target_mean": self.target_mean_.tolist(),
            "target_deviation": self.target_deviation_.tolist(),
        }

    def _rebuild(self, settings: dict[str, Any]) -> None:
        self.encoder_ = Encoder.rebuild(settings["encoder"])
        self._rebuild_input(settings["columns"], self.encoder_.size)
        self._shape = tuple(settings["shape"])
        if not all(type(size) is int and size > 0 for size in self._shape):
            raise ValueError(f"targets of shape {self._shape}")
        self.target_mean_, self.target_deviation_ = rebuild_moments(
            settings["target_mean"], settings["target_deviation"], math.prod(self._shape)
        )

    def _build(self, seed: int | None = None) -> Network:
        return self._network(self.encoder_, len(self.target_mean_), seed)

    def _least_size(self) -> int:
        width = self.embedding_size if self.encoder_.kind != "features" else 0
        return self.hidden_size * len(self.target_mean_) + self.encoder_.size * (width or self.hidden_size)


def _pairs(
    per_step: bool, level: str, X: Any, y: Any, lengths: ArrayLike | None = None
) -> tuple[Any, list[Array], tuple[int, ...]]:
    """Sequences, their targets as (1, K) or (T_i, K), and the shape that K numbers have for the user."""
    if y is None:
        raise ValueError("y: SequenceRegressor requires y to be passed, but the target y is None")
    X = steps_of(X, level, lengths) if per_step else sequences_of(X, lengths)
    n = count(X)
    if per_step:
        ys = [as_array(t, f"y[{i}]") for i, t in enumerate(sequences_of(y, lengths, "y"))]
        if len(ys) != n:
            raise ValueError(f"y: expected targets for N = {n} sequences, got {len(ys)}")
    else:
        whole = as_array(y, "y")
        if whole.ndim == 0 or len(whole) != n:
            raise ValueError(f"y: expected (N, ...) = ({n}, ...) numbers, got {whole.shape}")
        ys = list(whole[:, None])
    targets, shape = [], ys[0].shape[1:]
    if math.prod(shape) == 0:
        raise ValueError(f"y: expected at least one number for each, got shape {shape}")
    for i, t in enumerate(ys):
        name = f"y[{i}]"
        if t.dtype.kind == "O":
            t = _numbers(t, name)
        if t.dtype.kind not in "fiub":
            raise TypeError(f"{name}: expected real numbers, got {t.dtype}")
        steps = len(X[i]) if hasattr(X[i], "__len__") else t.size  # what is no sequence, the encoder names
        if per_step and (t.ndim == 0 or len(t) != steps):
            got = len(t) if t.ndim else "one number"
            raise ValueError(f"{name}: expected a target for each of {steps} steps, got {got}")
        if t.shape[1:] != shape:
            raise ValueError(f"{name}: expected targets of shape {shape} as before it, got {t.shape[1:]}")
        t = t.astype(np.float64).reshape(len(t), math.prod(shape))
        if not np.isfinite(t).all():
            where = np.argwhere(~np.isfinite(t))[0]
            step = f" at step {where[0]}" if per_step else ""
            what = "NaN" if np.isnan(t[tuple(where)]) else "infinity"
            raise ValueError(f"{name} contains {what}{step}: expected finite numbers")
        targets.append(t)
    return X, targets, shape


def _numbers(array: Array, name: str) -> Array:
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected real numbers, got {array!r:.60}") from error
