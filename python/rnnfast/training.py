"""fit: batches, loss, back-propagation, clipping, the optimiser, and the rules that stop it.

Works on any model with ``forward``, ``backward``, ``vector`` and ``gradient_vector`` (network.Network is one) and on
any data like sequences.Sequences. Called by the estimators and by users; it must not know of texts or labels.
"""

from __future__ import annotations

import contextlib
import copy
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .callbacks import BrokenOff, Callback, History, Interrupt
from .checkpoint import Checkpoint, Checkpoints, Position, Progress, facts_of, generator_state, restore_generator
from .checks import check_positive, generator_of
from .finite import NotFiniteError, checking, first_loss
from .losses import softmax_cross_entropy, squared_error
from .optimizers import Adam
from .parallel import Alone, Ranks, all_ranks
from .passes import one_trainer
from .preprocessing import batches
from .sequences import Sequences
from .trainer import MEANS, Loss, Optimizer, Trainer, places_of, sequence_of, weight_of

__all__ = ["Callback", "History", "Sequences", "evaluate", "fit"]

Array = NDArray[Any]
Order = Iterator[tuple[Any, NDArray[np.int64]]]  # data, and rows of it
LOSSES: dict[str, Loss] = {"cross_entropy": softmax_cross_entropy, "squared_error": squared_error}
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda part: 1.0,
    "linear": lambda part: 1.0 - part,
    "cosine": lambda part: 0.5 + 0.5 * math.cos(math.pi * part),  # Loshchilov and Hutter 2017, without restarts
}


@all_ranks
def fit(
    model: Any,
    x: Any,
    y: Any = None,
    *,
    lengths: ArrayLike | None = None,
    loss: Literal["cross_entropy", "squared_error"] | Loss = "cross_entropy",
    normalizer: Literal["steps", "sequences", "both", "sum"] = "steps",
    optimizer: Optimizer | None = None,
    schedule: Literal["constant", "linear", "cosine"] | Callable[[float], float] = "constant",
    batch_size: int = 32,
    max_epochs: int = 10,
    target_loss: float | None = None,
    patience: int | None = None,
    tol: float = 0.0,
    validation: Any = None,
    monitor: Literal["loss", "val_loss", "val_accuracy"] | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    truncate: int | None = None,
    carry_state: bool = False,
    shuffle: bool = True,
    bucket: bool = True,
    seed: int | np.random.Generator | None = None,
    callbacks: Iterable[Callback] = (),
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    check_finite: bool = False,
    comm: Any = None,
) -> History:
    """Train a model.

    Each pass over the data (epoch) takes every sequence once, in batches of similar lengths; each batch is one
    forward pass, the loss, one backward pass, clipping, and one step of the optimiser. Training stops when

    - the loss of a pass is 0, or at most `target_loss`;
    - `max_epochs` passes are done;
    - `patience` passes in a row have not improved the monitored figure by more than `tol`;
    - a callback sets ``model.stop_training``, which takes effect after the optimiser's next step;
    - Ctrl-C is pressed: the batch at hand is dropped.

    With validation data or `patience`, and after Ctrl-C, the model is left with the weights of its best pass.

    Parameters
    ----------
    model : Network, or anything with forward, backward, vector, gradient_vector
        ``forward(x, lengths=, state=, training=)`` returns the outputs and sets ``state``.
    x, y, lengths :
        See :class:`Sequences`; targets are for each step where ``model.per_step``. Or a :class:`Sequences` alone, or
        anything like it.
    loss : "cross_entropy", "squared_error" or a function like those of rnnfast.losses
    normalizer : "steps", "sequences", "both" or "sum"
        What the summed loss of a batch is divided by; the loss of a pass is that of all its sequences at once.
    optimizer : object with ``step(parameters, gradients)``; None is ``Adam()``
    schedule : "constant", "linear", "cosine" or a function
        What the optimiser's learning rate is multiplied by, given the part of the training that is done, 0 to 1:
        linear and cosine (Loshchilov and Hutter 2017) fall to 0 at the end of the last of `max_epochs` passes.
    batch_size, max_epochs, target_loss, patience, tol :
        See above.
    validation : tuple (x, y) or (x, y, lengths), or a Sequences, optional
    monitor : "loss", "val_loss" or "val_accuracy", optional
        By what passes are compared; None is "val_loss" with validation data, else "loss". Equal accuracies are
        compared by "val_loss".
    clip_norm : float, optional
        Scale the gradient to at most this Euclidean norm (Pascanu et al. 2013).
    clip_value : float, optional
        Clip each number of the gradient to ±clip_value, before `clip_norm`.
    truncate : int, optional
        Truncated back-propagation through time: gradients flow through at most this many steps, and the state is
        carried on without them. For each step, one optimiser step for each piece; many to one, through the last
        steps of each sequence.
    carry_state : bool
        The final state of a batch is the initial one of the next, within a pass: row i of each batch continues row
        i of the one before. Needs ``shuffle=False``, ``bucket=False`` and a whole number of batches.
    shuffle : bool
        Draw a new order for each pass.
    bucket : bool
        Put sequences of similar lengths into one batch.
    seed : int or Generator, optional
        For the order of the batches.
    callbacks : iterable of Callback
    checkpoint : path or Checkpoint, optional
        One more callback; a path stands for ``Checkpoint(path)``. Where the file is there already, training goes on, to
        the same bits as if it had never stopped; only `max_epochs` and what else ends it may change.

    check_finite : bool
        Look at inputs, parameters, states, outputs, losses and gradients, layer by layer, and end with an error that
        names the layer, row and step of the first NaN or infinity, in forward order for states and outputs, in
        backward order for gradients. Changes no bit, and takes some per cent of the time.
    comm : communicator of mpi4py, process group of torch.distributed, or a Comm, optional
        Train on several processes (ranks), each of which makes this call with the same arguments: docs/parallel.md.
        `batch_size` is that of all of them together; each computes every ``size``-th sequence of a batch, and the
        gradients are added up. What differs in the last bits is the order of that sum. Model, seed and checkpoint are
        those of rank 0, on which alone callbacks are called and files written; they may change the learning rate, and
        weights at the beginning or the end of a pass, not within one. A stop or Ctrl-C on any rank is one on all.

    Returns
    -------
    History

    Raises
    ------
    FloatingPointError
        The loss is NaN or infinite, or with `check_finite` anything is: names pass and batch. The model keeps its best
        weights.
    RuntimeError
        Another thread, or an enclosing call, trains the model. ``parallel.RankError``: another rank failed.
    OSError
        A checkpoint cannot be written: the model is as after its last step, and the file as it was before.
    ModelFileError
        The checkpoint is damaged, or of another model, data set or setting, which is named.
    ValueError
        Arguments that do not fit each other.

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> x = [np.array(ids) for ids in ([4, 5], [5, 4, 4], [6, 7], [7, 6, 6])]
    >>> network = rnnfast.Network(8, 8, 2, embedding_size=4, seed=0)
    >>> history = rnnfast.fit(network, x, [0, 0, 1, 1], max_epochs=200, target_loss=0.01,
    ...                       optimizer=rnnfast.Adam(0.02), seed=0)
    >>> history.stop_reason
    'target loss'
    """
    _expect("model", model, "forward", "backward", "vector", "gradient_vector")
    per_step = bool(getattr(model, "per_step", False))
    data = _data(x, y, lengths, per_step)
    held_out = None
    if validation is not None:
        if isinstance(validation, tuple) and len(validation) not in (2, 3):
            raise ValueError(f"validation: expected (x, y) or (x, y, lengths), got {len(validation)} items")
        given = validation if isinstance(validation, tuple) else (validation, None)
        held_out = _data(given[0], given[1], given[2] if len(given) == 3 else None, per_step)
    function = _loss(loss)
    for name, limit in (("clip_norm", clip_norm), ("clip_value", clip_value)):
        if limit is not None and not (_is_number(limit) and limit > 0):
            raise ValueError(f"{name}: expected a positive number, got {limit!r}")
    if not (_is_number(tol) and tol >= 0):
        raise ValueError(f"tol: expected a number of 0 or more, got {tol!r}")
    if target_loss is not None and not (_is_number(target_loss) and not math.isnan(target_loss)):
        raise ValueError(f"target_loss: expected a number, got {target_loss!r}")
    _check(model, data, batch_size, max_epochs, patience, truncate, carry_state, shuffle or bucket)
    monitor = monitor or ("loss" if validation is None else "val_loss")
    accurate = function is softmax_cross_entropy
    known = ["loss", *(["val_loss"] if held_out else []), *(["val_accuracy"] if held_out and accurate else [])]
    if monitor not in known:
        raise ValueError(f"monitor: expected one of {', '.join(known)} with this loss and validation, got {monitor!r}")
    optimizer = Adam() if optimizer is None else optimizer
    factor = SCHEDULES.get(schedule) if isinstance(schedule, str) else schedule
    if not callable(factor) or (factor is not SCHEDULES["constant"] and not hasattr(optimizer, "learning_rate")):
        raise ValueError(f"schedule: expected one of {', '.join(SCHEDULES)} or a function, and an optimizer with a "
                         f"learning_rate, got {schedule!r}")  # fmt: skip
    rng = generator_of(seed)
    ranks: Ranks = comm
    trainer = Trainer(model, function, normalizer, optimizer, clip_norm, clip_value, truncate, check_finite, ranks)
    callbacks = list(callbacks)
    if checkpoint is not None:
        if not isinstance(checkpoint, str | os.PathLike | Checkpoint):
            raise TypeError(f"checkpoint: expected a path or a Checkpoint, got {checkpoint!r}")
        callbacks.append(checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint))
    with one_trainer(model), checking(model, check_finite):
        for i, callback in enumerate(callbacks):
            if not hasattr(callback, "on_train_begin"):
                raise TypeError(f"callbacks[{i}]: expected a Callback, got {callback!r}")
            callback.set_model(model)
        model.stop_training = False

        streamed = hasattr(data, "block")

        def plan(generator: np.random.Generator) -> tuple[Order, int]:
            """The batches of a pass, and how many steps of the optimiser they take; of a stream, how many they are."""
            if streamed:
                order = _block_by_block(data, batch_size, generator if shuffle else None, bucket)
                return order, sum(-(-int(size) // batch_size) for size in data.sizes)
            cut = list(batches(data.lengths, batch_size, shuffle=generator if shuffle else None, bucket=bucket))
            return ((data, rows) for rows in cut), sum(trainer.updates(data.lengths[rows]) for rows in cut)

        settings = {
            "loss": loss, "normalizer": normalizer, "schedule": schedule, "batch_size": batch_size, "monitor": monitor,
            "clip_norm": clip_norm, "clip_value": clip_value, "truncate": truncate, "carry_state": carry_state,
            "shuffle": shuffle, "bucket": bucket}  # fmt: skip
        checkpoints = Checkpoints(callbacks, model, data, held_out, optimizer, rng, settings, writes=ranks.rank == 0)
        # Before a checkpoint is read, which sets the learning rate of rank 0 to where a schedule was.
        facts = facts_of(model, data, held_out, optimizer, **settings) if ranks.size > 1 else {}
        run = None
        if ranks.rank == 0:
            run = checkpoints.read(lambda at: trainer.check(at, plan(copy.deepcopy(at.generator))[0], carry_state))
        run = run or Progress(learning_rate=getattr(optimizer, "learning_rate", 0.0))
        if ranks.size > 1:
            rules = {"max_epochs": max_epochs, "target_loss": target_loss, "patience": patience, "tol": tol}
            versions = {"version of rnnfast": version("rnnfast"), "version of numpy": np.__version__}
            ranks.begin(facts | rules | versions, model.vector)
            run = _start_alike(ranks, model, optimizer, rng, run)
        history = run.history
        called = callbacks if ranks.rank == 0 else []

        def diverged(what: str) -> FloatingPointError:
            if run.best_weights is not None:
                model.vector[...] = run.best_weights
            return FloatingPointError(f"{what}: try a lower learning_rate, or clip_norm")

        def rule(loss: float) -> str | None:
            if loss == 0:
                return "zero loss"
            if target_loss is not None and loss <= target_loss:
                return "target loss"
            return "no improvement" if patience is not None and run.waited >= patience else None

        _call(called, "on_train_begin", {"epochs": max_epochs, "batches": -(-len(data) // batch_size)})
        reason = rule(history["loss"][-1]) if history["loss"] else None
        with Interrupt() as interrupt, _rate_put_back(optimizer, run.learning_rate, factor), trainer.shares():
            trainer.interrupt = interrupt
            while reason is None and run.epoch < max_epochs:
                epoch, begun = run.epoch, run.position is not None
                at = run.position = run.position or Position(copy.deepcopy(rng))
                start = time.perf_counter() - at.seconds
                order, updates = plan(copy.deepcopy(at.generator) if begun else rng)
                _call(called, "on_epoch_begin", epoch, {"batches": updates})
                if ranks.size > 1:  # what callbacks changed on rank 0
                    ranks.sum(optimizer=optimizer)
                    _broadcast(ranks, model)
                carried, parts, whole = None, trainer.train(order, carry_state, at.done, at.state), False
                while True:
                    if factor is not SCHEDULES["constant"]:
                        done = (at.batches if streamed else at.done) / updates
                        rate = run.learning_rate * factor((epoch + done) / max_epochs)
                        optimizer.learning_rate = rate  # type: ignore[attr-defined]
                    drawn = generator_state(getattr(model, "rng", None))
                    try:
                        part = next(parts)
                    except StopIteration:
                        whole = True
                        break
                    except BrokenOff:  # by Ctrl-C or stop_training: of this step nothing is left
                        restore_generator(getattr(model, "rng", None), drawn)
                        break
                    except NotFiniteError as error:
                        raise diverged(f"{error}, in pass {epoch}, batch {at.done}{trainer.place(error)}") from error
                    if not np.isfinite(part.loss):
                        raise diverged(f"loss is {part.loss} in pass {epoch}, batch {at.done}")
                    at.total, at.weight, carried = at.total + part.total, at.weight + part.weight, part.state
                    at.done, at.batches = at.done + 1, at.batches + part.ends
                    at.state = ranks.whole(carried, trainer.share) if checkpoints.due(at.done) else None
                    _call(called, "on_train_batch_end", at.done - 1, {"loss": part.loss, "steps": part.steps})
                    at.seconds = time.perf_counter() - start
                    if streamed or at.done < updates:
                        checkpoints.write(run, at.done)
                # A part of a pass is neither a loss to compare nor a line of the history.
                logs = {"loss": _mean(at.total, at.weight, normalizer)}
                if whole and not np.isfinite(model.vector).all():
                    raise diverged(f"a weight is not finite after pass {epoch}, of loss {logs['loss']}")
                if whole and held_out is not None:
                    try:
                        values = _evaluate(
                            model, held_out, function, normalizer, batch_size, interrupt, ranks, check_finite
                        )
                    except NotFiniteError as error:
                        raise diverged(f"{error}, after pass {epoch}") from error
                    whole = values is not None
                    logs.update({f"val_{name}": value for name, value in (values or {}).items()})
                if not whole and checkpoints.all and at.state is None:
                    at.state = ranks.whole(carried, trainer.share)
                logs["seconds"] = time.perf_counter() - start
                if whole:
                    run.finish_pass(logs, monitor, tol, model.vector)
                    _call(called, "on_epoch_end", epoch, logs)
                    reason = rule(logs["loss"])
                checkpoints.write(run)
                ranks.pressed, ranks.stop = ranks.pressed or interrupt.pressed, ranks.stop or model.stop_training
                ranks.sum(optimizer=optimizer)
                if ranks.size > 1:  # processors of another kind may step to other last bits
                    _broadcast(ranks, model)
                if ranks.pressed:
                    reason = "interrupted"
                elif ranks.stop:
                    reason = "callback"
        history.stop_reason = reason or "max_epochs"
        keep_best = held_out is not None or patience is not None or history.stop_reason == "interrupted"
        if keep_best and run.best_weights is not None:
            model.vector[...] = run.best_weights
            _broadcast(ranks, model)
        ranks.end()
        _call(called, "on_train_end", {"stop_reason": history.stop_reason})
        return history


def _start_alike(ranks: Ranks, model: Any, optimizer: Any, rng: np.random.Generator, run: Progress) -> Progress:
    """Weights, generators, optimiser and progress of rank 0, on every rank."""
    _broadcast(ranks, model)
    generators = [rng, getattr(model, "rng", None)]
    moments = optimizer.state() if hasattr(optimizer, "state") else None
    run, drawn, moments = ranks.share((run, [generator_state(each) for each in generators], moments))
    for generator, was in zip(generators, drawn, strict=True):
        restore_generator(generator, was)
    if moments is not None:
        optimizer.load_state(moments)
    return run


def _broadcast(ranks: Ranks, model: Any) -> None:
    weights = np.ascontiguousarray(model.vector)
    ranks.broadcast(weights)
    model.vector[...] = weights


@contextlib.contextmanager
def _rate_put_back(optimizer: Any, rate: float, factor: Any) -> Iterator[None]:
    """A schedule leaves the optimiser with the learning rate that it came with."""
    try:
        yield
    finally:
        if factor is not SCHEDULES["constant"]:
            optimizer.learning_rate = rate


def _block_by_block(
    data: Any, batch_size: int, shuffle: np.random.Generator | None = None, bucket: bool = True
) -> Order:
    """The batches of a stream of blocks, each with the block that it is of; data in memory are one block."""
    if not hasattr(data, "block"):
        return ((data, rows) for rows in batches(data.lengths, batch_size, shuffle=shuffle, bucket=bucket))
    rng = None if shuffle is None else np.random.default_rng(shuffle.integers(2**63))  # at once: the rest is drawn late
    order = range(len(data.sizes)) if rng is None else rng.permutation(len(data.sizes))
    blocks = (data.block(int(k)) for k in order)
    return (
        (block, rows) for block in blocks for rows in batches(block.lengths, batch_size, shuffle=rng, bucket=bucket)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _data(x: Any, y: Any, lengths: Any, per_step: bool) -> Any:
    """A data set as it is, or Sequences of what was given."""
    if not (hasattr(x, "batch") or hasattr(x, "block")):
        return Sequences(x, y, lengths, per_step=per_step)
    if y is not None or lengths is not None:
        raise ValueError(f"y, lengths: expected None with a {type(x).__name__}, which has its own")
    if bool(x.per_step) != per_step:
        kind = "each step" if per_step else "each sequence"
        raise ValueError(
            f"x: expected targets for {kind}, as the model has outputs, got a {type(x).__name__} of others"
        )
    return x


def evaluate(
    model: Any,
    data: Any,
    loss: Literal["cross_entropy", "squared_error"] | Loss = "cross_entropy",
    normalizer: str = "steps",
    batch_size: int = 256,
) -> dict[str, float]:
    """Loss over a data set without training, and the accuracy where the loss is cross-entropy.

    Parameters
    ----------
    model : Network, or anything with its ``forward``
    data : Sequences, or anything like it
    loss, normalizer :
        As in :func:`fit`.
    batch_size : int

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> network = rnnfast.Network(8, 4, 2, embedding_size=4, seed=0)
    >>> sorted(rnnfast.evaluate(network, rnnfast.Sequences([np.array([4, 5]), np.array([6])], [0, 1])))
    ['accuracy', 'loss']
    """
    _expect("model", model, "forward")
    if not hasattr(data, "block"):
        _expect("data", data, "lengths", "batch")
    if data.y is None:
        raise ValueError("data: expected targets y, got None")
    values = _evaluate(model, data, _loss(loss), normalizer, batch_size, Interrupt(), Ranks(Alone()))
    assert values is not None
    return values


def _evaluate(
    model: Any,
    data: Any,
    loss: Loss,
    normalizer: str,
    batch_size: int,
    interrupt: Interrupt,
    ranks: Ranks,
    check_finite: bool = False,
) -> dict[str, float] | None:
    """What `evaluate` returns, over the shares of all ranks; None once Ctrl-C is pressed on any."""
    total = weight = correct = count = 0.0
    for part, rows in _block_by_block(data, batch_size):
        rows = rows[ranks.share_of(len(rows)).rows]
        if not len(rows):
            continue
        x, y, lengths = part.batch(rows)
        step_lengths = lengths if data.per_step else None
        try:
            with interrupt.breaking():
                outputs = model.forward(x, lengths=lengths)
            value, _ = loss(outputs, y, lengths=step_lengths, normalizer=normalizer)
            if check_finite and not math.isfinite(value):
                first_loss(loss, outputs, y, step_lengths)
        except BrokenOff:
            ranks.pressed = True
            break
        except NotFiniteError as error:
            raise NotFiniteError(
                f"{error}, in the validation data{sequence_of(error, places_of(part, rows))}"
            ) from error
        w = weight_of(normalizer, lengths, data.per_step)
        total += value * w
        weight += w
        if loss is softmax_cross_entropy:
            right = outputs.argmax(axis=-1) == y
            valid = np.arange(y.shape[1]) < lengths[:, None] if data.per_step else np.ones(len(rows), bool)
            correct += float((right & valid).sum())
            count += float(valid.sum())
    total, weight, correct, count = ranks.sum(None, total, weight, correct, count)
    if ranks.pressed:
        return None
    logs = {"loss": _mean(total, weight, normalizer)}
    if loss is softmax_cross_entropy:
        logs["accuracy"] = correct / count if count else 0.0
    return logs


def _mean(total: float, weight: float, normalizer: str) -> float:
    """The loss of all batches as one, from Σ loss · weight and Σ weight; sums add up."""
    if normalizer not in MEANS:
        return total
    return total / weight if weight else 0.0


def _expect(name: str, value: Any, *members: str) -> None:
    missing = [member for member in members if not hasattr(value, member)]
    if missing:
        raise TypeError(f"{name}: expected an object with {', '.join(members)}, got {type(value).__name__}")


def _loss(loss: str | Loss) -> Loss:
    function = LOSSES.get(loss) if isinstance(loss, str) else loss
    if not callable(function):
        raise ValueError(f"loss: expected one of {', '.join(map(repr, LOSSES))} or a function, got {loss!r}")
    return function


def _check(
    model: Any,
    data: Any,
    batch_size: int,
    max_epochs: int,
    patience: int | None,
    truncate: int | None,
    carry_state: bool,
    reordered: bool,
) -> None:
    if data.y is None:
        raise ValueError("y: expected targets, got None")
    optional = {name: value for name, value in (("patience", patience), ("truncate", truncate)) if value is not None}
    for name, value in {"batch_size": batch_size, "max_epochs": max_epochs, **optional}.items():
        check_positive(name, value)
    if (truncate or carry_state) and getattr(model, "bidirectional", False):
        raise ValueError("truncate, carry_state: expected a model of one direction, got a bidirectional one, "
                         "which needs whole sequences")  # fmt: skip
    if carry_state and hasattr(data, "block"):
        raise ValueError("carry_state: expected data in memory, got a stream of blocks")
    if carry_state and (reordered or len(data) % batch_size):
        raise ValueError(
            "carry_state: expected shuffle=False, bucket=False and a number of sequences that batch_size divides, so "
            "that row i of each batch continues row i of the one before"
        )


def _call(callbacks: Sequence[Callback], event: str, *arguments: Any) -> None:
    for callback in callbacks:
        getattr(callback, event)(*arguments)
