"""Checkpoints: all that a training run needs to go on after a stop, to the same bits.

Called by training.py after each pass, and within one where a Checkpoint says so. It stores vectors and numbers through
files.py, and must not know what they mean to a model: anything with ``vector`` and, where it draws random numbers,
``rng`` will do.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .callbacks import Callback, History
from .files import ModelFileError, read_model, write_model

__all__ = [
    "Checkpoint",
    "Checkpoints",
    "Position",
    "Progress",
    "facts_of",
    "generator_state",
    "read_checkpoint",
    "restore_generator",
    "write_checkpoint",
]

Array = NDArray[Any]
KIND = "checkpoint"


class Checkpoint(Callback):
    """Writes a run down, so that it can be broken off anywhere and go on to the same bits.

    The file has all that the rest of the run depends on: weights, best weights, the optimiser's moments, both
    generators, the history, and the place in the pass with the state that is carried on there. :func:`fit` writes it
    atomically, after all other callbacks, at the end of each pass, and where Ctrl-C or a callback stops the run within
    one. Where it is there already, :func:`fit` goes on from it: in another process too, and with any number of threads.
    After an error, or a process that was killed, that is from the last time it was written.

    Other callbacks are told of a pass that is gone on with by ``on_epoch_begin`` once more, then of its remaining
    steps; what they remember themselves is not in the file.

    Parameters
    ----------
    path : str or path
        Of one run: another model, other data or settings are refused, with an error that names them. Several
        checkpoints need files of their own; the run goes on from the one that has got furthest.
    every : int, optional
        Write also after every `every`-th step of the optimiser within a pass; with `truncate` that is every
        `every`-th piece.

    Examples
    --------
    >>> import numpy as np, os, rnnfast, tempfile
    >>> x, y = np.arange(40).reshape(20, 2) % 7, np.arange(20) % 2
    >>> class Break(rnnfast.Callback):
    ...     def on_train_batch_end(self, batch, logs):
    ...         self.model.stop_training = batch == 4
    >>> def train(*callbacks):
    ...     network = rnnfast.Network(7, 4, 2, embedding_size=3, dropout=0.2, seed=0)
    ...     history = rnnfast.fit(network, x, y, batch_size=2, max_epochs=2, seed=0, callbacks=callbacks)
    ...     return network.vector, history.stop_reason
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = rnnfast.Checkpoint(os.path.join(folder, "run.safetensors"), every=3)
    ...     (_, stopped), (weights, ended) = train(checkpoint, Break()), train(checkpoint)
    >>> stopped, ended, np.array_equal(weights, train()[0])
    ('callback', 'max_epochs', True)
    """

    def __init__(self, path: str | os.PathLike[str], every: int | None = None) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"path: expected a str or path, got {path!r}")
        if every is not None and (isinstance(every, bool) or not isinstance(every, int | np.integer)):
            raise TypeError(f"every: expected a positive integer or None, got {every!r}")
        if every is not None and every < 1:
            raise ValueError(f"every: expected a positive integer or None, got {every}")
        self.path, self.every = path, None if every is None else int(every)

    def __repr__(self) -> str:
        return f"Checkpoint({os.fspath(self.path)!r}, every={self.every})"


@dataclass
class Position:
    """Where a pass is, between two steps of the optimiser."""

    generator: np.random.Generator  # as it was before the order of the pass was drawn
    done: int = 0  # steps of the optimiser
    batches: int = 0  # that these steps finished
    total: float = 0.0  # Σ loss · weight of these
    weight: float = 0.0
    seconds: float = 0.0
    state: Any = None  # a tuple of arrays that the next step starts from, where it does and is to be written


@dataclass
class Progress:
    """Where a run is: passes done, the best of them, and how long nothing was better."""

    learning_rate: float = 0.0  # before the schedule
    epoch: int = 0  # passes done
    waited: int = 0  # passes without an improvement of more than tol
    best: float = math.inf  # of the monitored figure, smaller is better
    tie_break: float = math.inf
    best_weights: Array | None = None
    history: History = field(default_factory=History)
    position: Position | None = None  # in the pass at hand, None between two passes

    def finish_pass(self, logs: dict[str, float], monitor: str, tol: float, weights: Array) -> None:
        """Enter a pass; keep its weights where it is the best so far."""
        monitored = -logs[monitor] if monitor == "val_accuracy" else logs[monitor]
        tie_break = logs.get("val_loss", 0.0)
        self.history.append(logs)
        self.waited = 0 if monitored < self.best - tol else self.waited + 1
        if (monitored, tie_break) < (self.best, self.tie_break):
            self.best, self.tie_break = monitored, tie_break
            self.history.best_epoch, self.best_weights = self.epoch, weights.copy()
        self.epoch, self.position = self.epoch + 1, None


class Checkpoints:
    """The checkpoints among the callbacks of a run, and what they hold beside its progress."""

    def __init__(
        self,
        callbacks: Sequence[Callback],
        model: Any,
        data: Any,
        held_out: Any,
        optimizer: Any,
        rng: np.random.Generator,
        settings: Mapping[str, Any],
        writes: bool = True,
    ) -> None:
        self.writes = writes  # of several ranks one does
        self.all = [callback for callback in callbacks if isinstance(callback, Checkpoint)]
        paths = [os.path.realpath(checkpoint.path) for checkpoint in self.all]
        for k, path in enumerate(paths):
            if path in paths[:k]:
                raise ValueError(f"callbacks, checkpoint: expected a file of its own for each, got {path} twice")
        if self.all and not hasattr(optimizer, "state"):
            raise TypeError(f"optimizer: expected one with state and load_state for a checkpoint, got {optimizer!r}")
        self.model, self.optimizer, self.rng = model, optimizer, rng
        self.facts = facts_of(model, data, held_out, optimizer, **settings) if self.all else {}

    def read(self, check: Callable[[Position], None]) -> Progress | None:
        """See :func:`read_checkpoint`; None where nothing is written yet."""
        paths = [checkpoint.path for checkpoint in self.all if os.path.exists(checkpoint.path)]
        return read_checkpoint(paths, self.model, self.optimizer, self.rng, self.facts, check) if paths else None

    def due(self, done: int | None = None) -> list[Checkpoint]:
        """Those that are written after so many steps of a pass; all where it ends, or is broken off."""
        return [one for one in self.all if done is None or (one.every is not None and done % one.every == 0)]

    def write(self, run: Progress, done: int | None = None) -> None:
        """Write those that are due."""
        for checkpoint in self.due(done) if self.writes else []:
            if np.isfinite(self.model.vector).all():  # else the pass ends with an error: what is written is better
                write_checkpoint(checkpoint.path, self.model, self.optimizer, self.rng, run, self.facts)


def facts_of(model: Any, data: Any, held_out: Any, optimizer: Any, **settings: Any) -> dict[str, Any]:
    """What must be the same where a run goes on, by the name that an error calls it."""
    facts = {k: _name_of(v) if callable(v) else v for k, v in settings.items()}
    facts |= {"optimizer": type(optimizer).__name__, **getattr(model, "settings", {})}
    if dataclasses.is_dataclass(optimizer):
        facts |= {f.name: getattr(optimizer, f.name) for f in dataclasses.fields(optimizer)}
    for name, part in (("training data", data), ("validation data", held_out)):
        if part is not None:
            facts[f"sequences of the {name}"] = len(part)
            if hasattr(part, "lengths"):
                facts[f"steps of the {name}"] = int(part.lengths.sum())
            facts[f"checksum of the {name}"] = part.checksum() if hasattr(part, "checksum") else None
    if hasattr(model, "named_parameters"):
        facts |= {f"shape of {name}": list(p.shape) for name, p in model.named_parameters().items()}
    return facts


def _name_of(function: Any) -> str:
    if isinstance(function, functools.partial):
        given = [*map(repr, function.args), *(f"{k}={v!r}" for k, v in function.keywords.items())]
        return f"{_name_of(function.func)}({', '.join(given)})"
    return str(getattr(function, "__name__", type(function).__name__))


def write_checkpoint(
    path: str | os.PathLike[str],
    model: Any,
    optimizer: Any,
    rng: np.random.Generator,
    run: Progress,
    facts: dict[str, Any],
) -> None:
    """Write where a run is; `facts` must be the same when it goes on.

    Raises
    ------
    OSError
        A full disk, a read-only folder: names the path; what stood there is untouched.
    TypeError
        The model's state is to be carried on, and is not a tuple of arrays.
    """
    state = {k: np.asarray(v) for k, v in optimizer.state().items()}
    arrays = {"weights": model.vector, **{f"optimizer.{k}": v.reshape(-1) for k, v in state.items()}}
    if run.best_weights is not None:
        arrays["best_weights"] = run.best_weights
    position, at = run.position, None
    if position is not None:
        carried = () if position.state is None else position.state
        if not isinstance(carried, tuple) or not all(isinstance(s, np.ndarray) and s.ndim for s in carried):
            raise TypeError(
                f"model.state: expected a tuple of arrays for a checkpoint within a pass, got {carried!r:.80}"
            )
        arrays |= {f"state.{k}": s for k, s in enumerate(carried)}
        at = {"generator": generator_state(position.generator), "states": len(carried)}
        at |= {name: getattr(position, name) for name in ("done", "batches", "total", "weight", "seconds")}
    settings = {
        "facts": facts,
        "shapes": {k: v.shape for k, v in state.items()},  # of the optimiser's state: a file has no numbers alone
        "generators": {"order": generator_state(rng), "model": generator_state(getattr(model, "rng", None))},
        "learning_rate": run.learning_rate,
        "epoch": run.epoch,
        "waited": run.waited,
        "best": [run.best, run.tie_break],
        "history": run.history.history,
        "best_epoch": run.history.best_epoch,
        "position": at,
    }
    write_model(path, KIND, arrays, settings)


def read_checkpoint(
    paths: Sequence[str | os.PathLike[str]],
    model: Any,
    optimizer: Any,
    rng: np.random.Generator,
    facts: dict[str, Any],
    check: Callable[[Position], None] = lambda position: None,
) -> Progress:
    """Put model, optimiser and generators where the furthest of some checkpoints was.

    `check` is to raise a ValueError where no pass of this run could be at a position.

    Raises
    ------
    ModelFileError
        Not a whole checkpoint, or one of another run; nothing is changed then.
    """
    found = [_read(path, model, optimizer, rng, facts, check) for path in paths]
    run, restore = max(found, key=lambda item: (item[0].epoch, item[0].position.done if item[0].position else 0))
    restore()
    return run


def _read(
    path: str | os.PathLike[str],
    model: Any,
    optimizer: Any,
    rng: np.random.Generator,
    facts: dict[str, Any],
    check: Callable[[Position], None],
) -> tuple[Progress, Callable[[], None]]:
    """Where a run was, and what puts everything there."""
    arrays, settings = read_model(path, KIND)
    model_rng = getattr(model, "rng", None)
    try:
        stored = settings["facts"]
        for name in [*facts, *(set(stored) - set(facts))]:
            if stored.get(name) != facts.get(name):
                raise ValueError(f"{name} = {stored.get(name)}, while this run has {facts.get(name)}")
        weights, best = arrays["weights"], arrays.get("best_weights")
        for array in (weights, *([] if best is None else [best])):
            if (array.shape, array.dtype) != (model.vector.shape, model.vector.dtype):
                raise ValueError(
                    f"{array.shape} weights of {array.dtype}, while this model has {model.vector.shape} of "
                    f"{model.vector.dtype}"
                )
        history = History(settings["history"], best_epoch=settings["best_epoch"])
        passes = settings["epoch"]
        if not all(isinstance(values, list) and len(values) == passes for values in history.history.values()) or (
            passes and "loss" not in history.history
        ):
            raise ValueError(f"a history that is not of {settings['epoch']} passes in all of {[*history.history]}")
        best_figure, tie_break = map(float, settings["best"])
        rate, epoch, waited = float(settings["learning_rate"]), int(settings["epoch"]), int(settings["waited"])
        run = Progress(rate, epoch, waited, best_figure, tie_break, best, history)
        state = {k: arrays[f"optimizer.{k}"].reshape(shape) for k, shape in settings["shapes"].items()}
        generators = [(rng, settings["generators"]["order"]), (model_rng, settings["generators"]["model"])]
        copy.deepcopy(optimizer).load_state(state)  # what fails, fails before anything is changed
        for generator, was in generators:
            restore_generator(copy.deepcopy(generator), was)
        at = settings.get("position")  # the first files have none: they are of the end of a pass
        if at is not None:
            run.position = _position(at, arrays, rng)
            check(run.position)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise ModelFileError(f"{path}: expected a checkpoint of this run, got one with {error}") from error

    def restore() -> None:
        optimizer.load_state(state)
        for generator, was in generators:
            restore_generator(generator, was)
        model.vector[...] = weights

    return run, restore


def _position(at: dict[str, Any], arrays: dict[str, Array], rng: np.random.Generator) -> Position:
    if type(at["done"]) is not int:
        raise ValueError(f"step {at['done']!r} of a pass")
    generator = copy.deepcopy(rng)
    restore_generator(generator, at["generator"])
    carried = tuple(arrays[f"state.{k}"] for k in range(at["states"]))
    total, weight, seconds = (float(at[name]) for name in ("total", "weight", "seconds"))
    return Position(generator, at["done"], int(at.get("batches", 0)), total, weight, seconds, carried or None)


def generator_state(rng: np.random.Generator | None) -> Any:
    """The state of a generator as JSON can hold it."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return value.tolist() if isinstance(value, np.ndarray) else value

    return None if rng is None else plain(rng.bit_generator.state)


def restore_generator(rng: np.random.Generator | None, state: Any) -> None:
    if (rng is None) != (state is None):
        raise ValueError("generators of another kind of model")
    if rng is not None:
        rng.bit_generator.state = state
