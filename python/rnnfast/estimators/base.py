"""What the five estimators share: parameters, scikit-learn's conventions, one way to train, to save and to load.

An estimator turns what a person has into sequences (encoding.py), builds a model (network.py), trains it with fit
(training.py) and reads its outputs. scikit-learn is not needed; where it is loaded, its exceptions and tags are used.
An estimator must not know how a gradient is computed.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from .._threads import processors
from ..callbacks import Callback, History
from ..files import ModelFileError, read_model, write_model
from ..network import Model
from ..optimizers import Adam
from ..preprocessing import split
from ..streaming import Blocks, Part, Source
from ..training import fit
from .encoding import Encoder, columns_of, sequences_of

__all__ = [
    "PARAMETERS",
    "SequenceEstimator",
    "not_fitted",
    "with_parameters",
]

Array = NDArray[Any]

PARAMETERS = """
    cell : str
        One of :func:`rnnfast.cells`.
    hidden_size, num_layers : int
        Units of each layer and direction; recurrent layers on top of each other.
    bidirectional : bool
        Read each sequence from both ends. Needs whole sequences: not with `truncate`.
    embedding_size : int
        Size of a token's vector; 0 means one-hot tokens. Not used for features.
    dropout : float
        Part of the activations that training sets to 0: of the embedding, between layers, before the last layer.
    batch_size : int
        Sequences for each step of the optimiser (Adam).
    learning_rate : float
    schedule : "constant", "linear" or "cosine"
        How the learning rate goes on: see :func:`rnnfast.fit`.
    max_epochs : int
        Most passes over the data.
    tol, target_loss, patience :
        When to stop before that: the loss is zero, or at most `target_loss`, or `patience` passes in a row have not
        improved the monitored figure by more than `tol`.
    validation_fraction : float
        Part of the training data that is held out to choose the best pass; 0 is none.
    clip_norm, clip_value, truncate :
        Clipping of the gradient, and truncated back-propagation through time: see :func:`rnnfast.fit`.
    initial_state_std : float
        Training starts sequences from random states of this deviation; 0 is from zero.
    random_state : int, Generator or RandomState, optional
        Seed of the weights, the dropout, the order of the batches and the validation part: the same seed gives the
        same model, bit for bit.
    dtype : "float32" or "float64"
    n_jobs : int, optional
        Threads of the recurrent layers; -1 is one for each processor, None is :func:`rnnfast.get_num_threads`, which
        all else takes. Results do not depend on it.
    verbose : int
        1 prints a line for each pass.
    warm_start : bool
        A second fit goes on from the weights of the first; vocabularies, classes and scales stay as they were.
    callbacks : iterable of Callback
"""


def with_parameters(cls: type) -> type:
    """Put the shared parameters that the class has where its docstring says ``{parameters}``."""
    own = inspect.signature(cls).parameters
    entries = re.split(r"(?m)^(?=\w)", inspect.cleandoc(PARAMETERS) + "\n")
    kept = [entry for entry in entries if entry.split(" :")[0].split(",")[0] in own]
    if cls.__doc__ is not None:  # without the indentation that Python 3.13 and later leave out
        cls.__doc__ = inspect.cleandoc(cls.__doc__).replace("{parameters}\n", "".join(kept))
    return cls


@dataclass(eq=False, repr=False)
class SequenceEstimator:
    """Base of the estimators. A subclass adds its own parameters, and the methods that raise NotImplementedError."""

    cell: str = "lstm"
    hidden_size: int = 64
    num_layers: int = 1
    bidirectional: bool = True
    embedding_size: int = 64
    dropout: float = 0.0
    batch_size: int = 32
    learning_rate: float = 2e-3
    schedule: str = "constant"
    max_epochs: int = 12
    tol: float = 0.0
    target_loss: float | None = None
    patience: int | None = None
    validation_fraction: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None
    truncate: int | None = None
    initial_state_std: float = 0.0
    random_state: Any = None
    dtype: str = "float32"
    n_jobs: int | None = None
    verbose: int = 0
    warm_start: bool = False
    callbacks: Iterable[Callback] = ()

    _of_predict: ClassVar[tuple[str, ...]] = ()  # parameters that a fitted model still reads
    _estimator_type: ClassVar[str | None] = None  # "classifier" or "regressor" for scikit-learn
    _needs_y: ClassVar[bool] = True
    network_: Any = field(init=False)  # what fit sets; vars(model) has none of it before
    history_: History = field(init=False)
    fitted_params_: dict[str, Any] = field(init=False)
    notes_: dict[str, Any] = field(init=False)  # the caller's own, kept in the file: anything that JSON can hold
    n_features_in_: int = field(init=False)
    _columns: int | None = field(init=False)  # T, where fit was given an array (N, T)

    # ---- parameters, as scikit-learn asks for them: __init__ stores them and does nothing else

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return [name for name in inspect.signature(cls).parameters]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters by name."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name; an unknown one is a ValueError."""
        names = self._parameter_names()
        for name, value in params.items():
            if name not in names:
                raise ValueError(f"{name}: expected one of {', '.join(names)}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        changed = {k: v for k, v in self.get_params().items() if repr(v) != repr(defaults[k].default)}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in changed.items())})"

    def __sklearn_is_fitted__(self) -> bool:
        return "network_" in vars(self)

    def __sklearn_tags__(self) -> Any:
        from sklearn import utils

        tags = utils.Tags(
            estimator_type=self._estimator_type,
            target_tags=utils.TargetTags(required=self._needs_y),
            input_tags=utils.InputTags(three_d_array=True),
        )
        if self._estimator_type == "classifier":
            tags.classifier_tags = utils.ClassifierTags()
        elif self._estimator_type == "regressor":
            tags.regressor_tags = utils.RegressorTags()
            tags.target_tags.multi_output = True
        return tags

    # ---- training

    def _seed(self) -> int | None:
        """An integer for all that is random in one fit, or None."""
        if self.random_state is None or isinstance(self.random_state, int | np.integer):
            if self.random_state is not None and self.random_state < 0:
                raise ValueError(f"random_state: expected an integer of 0 or more, got {self.random_state}")
            return None if self.random_state is None else int(self.random_state)
        draw = getattr(self.random_state, "integers", None) or getattr(self.random_state, "randint", None)
        if draw is None:
            raise TypeError(f"random_state: expected None, an integer or a generator, got {self.random_state!r}")
        return int(draw(2**31 - 1))

    def _goes_on(self) -> bool:
        return bool(self.warm_start) and self.__sklearn_is_fitted__()

    def _part_held_out(self, validation: Any) -> float:
        """Which part of the data chooses the best pass: none where there is other data for that."""
        if isinstance(validation, Source):
            raise TypeError(f"validation: expected (X, y) in memory, as X is, got {validation!r}")
        if validation is not None and (not isinstance(validation, tuple | list) or len(validation) not in (2, 3)):
            got = f"{len(validation)} items" if hasattr(validation, "__len__") else type(validation).__name__
            raise ValueError(f"validation: expected (X, y) or (X, y, lengths), got {got}")
        self._check_parameters()
        part = self.validation_fraction
        if not isinstance(part, int | float | np.number) or not 0 <= part < 1:
            raise ValueError(f"validation_fraction: expected 0 <= part < 1, got {part}")
        return 0.0 if validation is not None else float(part)

    def _hold_out(self, n: int, seed: int | None, validation: Any = None) -> tuple[Array, Array]:
        """Rows to train on, and rows to choose the best pass with."""
        part = self._part_held_out(validation)
        if part == 0:
            return np.arange(n), np.arange(0)
        try:
            train, valid = split(n, (1 - part, part), 0 if seed is None else seed)
        except ValueError as error:
            raise _too_few(part, n) from error
        return train, valid

    _learnt: ClassVar[tuple[str, ...]]  # the fitted attributes beside the network

    def _learn_source(self, train: Part, whole: Part) -> None:
        """Set the fitted attributes from the sequences to train on; labels also from those that are held out."""
        raise NotImplementedError

    def _measure_source(self, train: Part) -> None:
        """Bring up to date what every fit looks at, one that goes on too."""

    def _encoded(self, X: Any, y: Any) -> Any:
        """The sequences of a block, and what is said of each, as the network reads them."""
        raise NotImplementedError

    def _fit_source(
        self,
        source: Source,
        y: Any,
        lengths: Any,
        validation: Any,
        checkpoint: Any,
        comm: Any,
        by_accuracy: bool = False,
        **options: Any,
    ) -> Self:
        """Train on data that are read a block at a time."""
        if y is not None or lengths is not None:
            raise ValueError("y, lengths: expected None with a source, which has its own")
        seed = self._seed()
        fraction = self._part_held_out(None if isinstance(validation, Source) else validation)
        whole = Part(source)
        if isinstance(validation, Source):
            train, valid = whole, Part(validation)
        else:
            train, valid = (Part(source, fraction, seed or 0, held_out) for held_out in (False, True))
            if not len(train) or (fraction and not len(valid)):
                raise _too_few(fraction, len(whole))
        learner = type(self)(**self.get_params())
        if self._goes_on():
            vars(learner).update(vars(self))
            network = self.network_
        else:
            learner._learn_source(train, whole)
            network = learner._build(seed)
        learner._measure_source(train)
        held_out: Any = Blocks(valid, learner._encoded, network.per_step) if len(valid) else None
        if validation is not None and not isinstance(validation, Source):
            other, said, n = (*validation, None)[:3]
            try:
                said = sequences_of(said, n, "y") if n is not None and network.per_step and self._needs_y else said
                held_out = learner._encoded(sequences_of(other, n), said)
            except (TypeError, ValueError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"validation: {error}") from error
        self._train(
            network,
            Blocks(train, learner._encoded, network.per_step),
            held_out,
            seed=seed,
            monitor="val_accuracy" if by_accuracy and held_out is not None else None,
            checkpoint=checkpoint,
            comm=comm,
            fitted={name: getattr(learner, name) for name in self._learnt},
            **options,
        )
        return self

    def predict_each(self, X: Iterable[Any]) -> Iterator[Any]:
        """What :meth:`predict` finds for each sequence, one after the other: of a source, a block in memory at a time.

        Parameters
        ----------
        X : a source of :mod:`rnnfast.streaming`, or any iterable of sequences

        Examples
        --------
        >>> import rnnfast
        >>> model = rnnfast.SequenceClassifier(hidden_size=8, max_epochs=30, learning_rate=0.02, random_state=0)
        >>> model = model.fit(["a fine film", "a dull film"] * 8, ["good", "bad"] * 8)
        >>> [str(label) for label in model.predict_each(text for text in ["fine", "dull"])]
        ['good', 'bad']
        """
        self._fitted()
        if isinstance(X, Source):
            found = Part(X).map(lambda X, _: self.predict(X))  # type: ignore[attr-defined]
        else:
            if not isinstance(X, Iterable) or isinstance(X, str | bytes | dict | set):
                raise TypeError(f"X: expected a source, or an iterable of sequences, got {type(X).__name__}")
            rest = iter(X)
            blocks = iter(lambda: list(itertools.islice(rest, 1000)), [])
            found = (self.predict(block) for block in blocks)  # type: ignore[attr-defined]
        return itertools.chain.from_iterable(found)

    def _settings(self, seed: int | None) -> dict[str, Any]:
        """The parameters that a Network takes under the same names."""
        return {
            "cell": self.cell,
            "num_layers": self.num_layers,
            "dropout": self.dropout,
            "initial_state_std": self.initial_state_std,
            "dtype": self.dtype,
            "seed": seed,
            "num_threads": len(processors()) if self.n_jobs == -1 else self.n_jobs,
        }

    def _train(
        self, network: Model, data: Any, held_out: Any, *, seed: int | None, fitted: dict[str, Any], **options: Any
    ) -> None:
        """Train, then keep the network and the other fitted attributes: a fit that fails changes nothing."""
        if network is vars(self).get("network_"):
            self._check_warm_start(network)
            network = copy.copy(network)
        callbacks = [*self.callbacks, *([_PrintEpochs()] if self.verbose else [])]
        history = fit(
            network,
            data,
            optimizer=Adam(self.learning_rate),
            schedule=self.schedule,  # type: ignore[arg-type]
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            target_loss=self.target_loss,
            patience=self.patience,
            tol=self.tol,
            validation=held_out,
            clip_norm=self.clip_norm,
            clip_value=self.clip_value,
            truncate=self.truncate,
            seed=seed,
            callbacks=callbacks,
            **options,
        )
        self._keep(network, history, fitted)

    def _check_warm_start(self, network: Model) -> None:
        """The parameters still describe the network whose weights are to go on."""
        wanted = self._build()
        kinds = [
            (m.settings, {name: (p.shape, p.dtype) for name, p in m.named_parameters().items()})
            for m in (network, wanted)
        ]
        if kinds[0] != kinds[1]:
            now, then = self.get_params(), self.fitted_params_
            changed = ", ".join(name for name in now if repr(now[name]) != repr(then[name]))
            raise ValueError(f"warm_start: expected a network like that of the first fit; changed since: {changed}")

    def _learn(self, X: Any, part: Any, min_count: int, level: str, scale: bool) -> Encoder:
        """An encoder for the training part; an error names the place in X."""
        try:
            return Encoder.learn(part, min_count, level, scale)
        except (TypeError, ValueError):
            Encoder.learn(X, min_count, level, scale)
            raise

    @staticmethod
    def _input_facts(X: Any, size: int) -> dict[str, Any]:
        columns = columns_of(X)
        return {"_columns": columns, "n_features_in_": size if columns is None else columns}

    def _rebuild_input(self, columns: Any, size: int) -> None:
        if columns is not None and (type(columns) is not int or columns < 1):
            raise ValueError(f"tables of {columns!r} columns")
        self._columns = columns
        self.n_features_in_ = size if columns is None else columns

    def _keep(self, network: Model, history: History, fitted: dict[str, Any]) -> None:
        state: dict[str, Any] = {"network_": network, "history_": history, "fitted_params_": self.get_params()}
        state["notes_"] = vars(self).get("notes_", {})
        vars(self).update(fitted | state)  # what save writes: set_params does not change a fitted model

    def _check_parameters(self) -> None:
        for name in ("tol", "initial_state_std"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 <= value < math.inf:
                raise ValueError(f"{name}: expected a number of 0 or more, got {value!r}")
        n = self.n_jobs
        if n is not None and (isinstance(n, bool) or not isinstance(n, int | np.integer) or not (n >= 1 or n == -1)):
            raise ValueError(f"n_jobs: expected None, a positive integer or -1 for all processors, got {n!r}")
        if not isinstance(self.callbacks, Iterable) or isinstance(self.callbacks, str):
            raise TypeError(f"callbacks: expected an iterable of Callback, got {self.callbacks!r}")
        try:
            np.dtype(self.dtype)
        except TypeError as error:
            raise TypeError(f"dtype: expected float32 or float64, got {self.dtype!r}") from error

    def _fitted(self) -> Any:
        if not self.__sklearn_is_fitted__():
            raise not_fitted(type(self).__name__)
        return self.network_

    # ---- files

    def _describe(self) -> dict[str, Any]:
        """The fitted attributes, but for the network, as JSON can hold them."""
        raise NotImplementedError

    def _rebuild(self, settings: dict[str, Any]) -> None:
        """Set the fitted attributes from what `_describe` returned; anything else is a ValueError or TypeError."""
        raise NotImplementedError

    def _build(self, seed: int | None = None) -> Model:
        """A new model for the parameters and the fitted attributes."""
        raise NotImplementedError

    def _least_size(self) -> int:
        """How many numbers a model for the parameters and the fitted attributes has at least."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to a safetensors file, whole or not at all.

        Callbacks are not saved, nor a `schedule` that is a function, and of a `random_state` only an integer.
        """
        network = self._fitted()
        params = {k: v for k, v in self.fitted_params_.items() if k != "callbacks"}
        params |= {name: getattr(self, name) for name in self._of_predict}
        params["dtype"] = network.dtype.name
        if not isinstance(params["random_state"], int | np.integer):
            params["random_state"] = None
        if not isinstance(params["schedule"], str):
            params["schedule"] = "constant"
        write_model(
            path,
            type(self).__name__,
            network.named_parameters(),
            {"params": params, "notes": self.notes_, "history": vars(self.history_), **self._describe()},
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a model that :meth:`save` wrote; it predicts the same bits, and has its history.

        Raises
        ------
        ModelFileError
            The file is not such a model.
        """
        arrays, settings = read_model(path, cls.__name__)
        try:
            model = cls(**settings["params"])
            for name in ("hidden_size", "num_layers", "embedding_size"):
                if type(getattr(model, name)) is not int or getattr(model, name) < 0:
                    raise ValueError(f"{name} = {getattr(model, name)!r}, no integer of 0 or more")
            seed = model.random_state
            if seed is not None and (type(seed) is not int or seed < 0):
                raise ValueError(f"random_state = {seed!r}, no integer of 0 or more")
            model.notes_ = dict(settings["notes"])
            history = _history(settings["history"])
            model._rebuild(settings)
            # Before memory is taken for a network: can its settings, read from a file, belong to so many numbers?
            H = model.hidden_size
            if max(H * H * model.num_layers, model._least_size()) > sum(array.size for array in arrays.values()):
                raise ValueError("settings that need more arrays than are there")
            network = model._build(model._seed())
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
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ModelFileError(f"{path}: expected a whole {cls.__name__}, got one with {error}") from error
        model._keep(network, history, {})
        return model

    # ---- what several of them need

    def _input(self, X: Any, lengths: Any) -> Any:
        """X of predict, a sequence for each item. An array (N, T) has the columns of fit: scikit-learn's rule."""
        columns = self._columns
        if (
            isinstance(X, np.ndarray)
            and lengths is None
            and columns is not None
            and columns_of(X) not in (None, columns)
        ):
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting {columns} features as input; "
                "sequences of another length come as a list, or as (N, T, 1)"
            )
        return sequences_of(X, lengths)


def _history(settings: dict[str, Any]) -> History:
    """From what a file says; anything else is a KeyError, TypeError or ValueError."""
    logs = {str(name): [float(value) for value in values] for name, values in settings["history"].items()}
    return History(logs, str(settings["stop_reason"]), int(settings["best_epoch"]))


def _too_few(part: float, n: int) -> ValueError:
    return ValueError(f"validation_fraction = {part}: {n} sequences are too few to hold a part out; pass more, or 0")


class _PrintEpochs(Callback):
    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        print(f"pass {epoch + 1}: " + ", ".join(f"{name} {value:.4f}" for name, value in logs.items()))


def not_fitted(name: str) -> Exception:
    """What a method raises before fit: a RuntimeError, and scikit-learn's NotFittedError where that is loaded."""
    message = f"{name}: expected a fitted model; call fit first"
    if sys.modules.get("sklearn") is None:
        return RuntimeError(message)
    from sklearn.exceptions import NotFittedError

    both: type[Exception] = type("NotFittedError", (NotFittedError, RuntimeError), {})
    return both(message)
