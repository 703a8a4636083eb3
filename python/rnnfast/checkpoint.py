"""Checkpoints: all that a training run needs to go on after a stop, to the same bits.

Called by training.py after each pass. It stores vectors and numbers through files.py, and must not know what they mean
to a model: anything with ``vector`` and, where it draws random numbers, ``rng`` will do.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .callbacks import History
from .files import ModelFileError, read_model, write_model

__all__ = ["Progress", "facts_of", "read_checkpoint", "write_checkpoint"]

Array = NDArray[Any]
KIND = "checkpoint"


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

    def finish_pass(self, logs: dict[str, float], monitor: str, tol: float, weights: Array) -> None:
        """Enter a pass; keep its weights where it is the best so far."""
        monitored = -logs[monitor] if monitor == "val_accuracy" else logs[monitor]
        tie_break = logs.get("val_loss", 0.0)
        self.history.append(logs)
        self.waited = 0 if monitored < self.best - tol else self.waited + 1
        if (monitored, tie_break) < (self.best, self.tie_break):
            self.best, self.tie_break = monitored, tie_break
            self.history.best_epoch, self.best_weights = self.epoch, weights.copy()
        self.epoch += 1


def facts_of(model: Any, data: Any, held_out: Any, optimizer: Any, **settings: Any) -> dict[str, Any]:
    """What must be the same where a run goes on, by the name that an error calls it."""
    facts = {k: getattr(v, "__name__", type(v).__name__) if callable(v) else v for k, v in settings.items()}
    facts |= {"optimizer": type(optimizer).__name__, **getattr(model, "settings", {})}
    if dataclasses.is_dataclass(optimizer):
        facts |= {f.name: getattr(optimizer, f.name) for f in dataclasses.fields(optimizer)}
    for name, part in (("training data", data), ("validation data", held_out)):
        if part is not None:
            facts |= {f"sequences of the {name}": len(part), f"steps of the {name}": int(part.lengths.sum())}
            facts[f"checksum of the {name}"] = part.checksum() if hasattr(part, "checksum") else None
    return facts


def write_checkpoint(
    path: str | os.PathLike[str],
    model: Any,
    optimizer: Any,
    rng: np.random.Generator,
    run: Progress,
    facts: dict[str, Any],
) -> None:
    """Write where a run is; `facts` must be the same when it goes on."""
    state = {k: np.asarray(v) for k, v in optimizer.state().items()}
    arrays = {"weights": model.vector, **{f"optimizer.{k}": v.reshape(-1) for k, v in state.items()}}
    if run.best_weights is not None:
        arrays["best_weights"] = run.best_weights
    settings = {
        "facts": facts,
        "shapes": {k: v.shape for k, v in state.items()},  # of the optimiser's state: a file has no numbers alone
        "generators": {"order": _generator(rng), "model": _generator(getattr(model, "rng", None))},
        "learning_rate": run.learning_rate,
        "epoch": run.epoch,
        "waited": run.waited,
        "best": [run.best, run.tie_break],
        "history": run.history.history,
        "best_epoch": run.history.best_epoch,
    }
    write_model(path, KIND, arrays, settings)


def read_checkpoint(
    path: str | os.PathLike[str], model: Any, optimizer: Any, rng: np.random.Generator, facts: dict[str, Any]
) -> Progress:
    """Put model, optimiser and generators where they were.

    Raises
    ------
    ModelFileError
        Not a whole checkpoint, or one of another run; nothing is changed then.
    """
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
        if not all(len(values) == settings["epoch"] for values in history.history.values()):
            raise ValueError(f"a history that is not of {settings['epoch']} passes in all of {[*history.history]}")
        best_figure, tie_break = map(float, settings["best"])
        rate, epoch, waited = float(settings["learning_rate"]), int(settings["epoch"]), int(settings["waited"])
        run = Progress(rate, epoch, waited, best_figure, tie_break, best, history)
        state = {k: arrays[f"optimizer.{k}"].reshape(shape) for k, shape in settings["shapes"].items()}
        generators = [(rng, settings["generators"]["order"]), (model_rng, settings["generators"]["model"])]
        copy.deepcopy(optimizer).load_state(state)  # what fails, fails before anything is changed
        for generator, was in generators:
            _restore(copy.deepcopy(generator), was)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise ModelFileError(f"{path}: expected a checkpoint of this run, got one with {error}") from error
    optimizer.load_state(state)
    for generator, was in generators:
        _restore(generator, was)
    model.vector[...] = weights
    return run


def _generator(rng: np.random.Generator | None) -> Any:
    """The state of a generator as JSON can hold it."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return value.tolist() if isinstance(value, np.ndarray) else value

    return None if rng is None else plain(rng.bit_generator.state)


def _restore(rng: np.random.Generator | None, state: Any) -> None:
    if (rng is None) != (state is None):
        raise ValueError("generators of another kind of model")
    if rng is not None:
        rng.bit_generator.state = state
