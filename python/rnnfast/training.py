"""fit: batches, loss, back-propagation, clipping, the optimiser, and the rules that stop it.

Works on any model with ``forward``, ``backward``, ``vector`` and ``gradient_vector`` (network.Network is one). Called
by estimators.py and by users; it must not know of texts, labels or files.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .losses import softmax_cross_entropy, squared_error
from .optimizers import Adam, clip_by_global_norm, clip_by_value
from .preprocessing import batches, pad

__all__ = ["Callback", "History", "Sequences", "evaluate", "fit"]

Array = NDArray[Any]
Loss = Callable[..., tuple[float, Array]]
LOSSES: dict[str, Loss] = {"cross_entropy": softmax_cross_entropy, "squared_error": squared_error}
MEANS = ("steps", "sequences", "both")  # normalizers under which the loss is a mean


class Optimizer(Protocol):
    """What fit asks of an optimiser (optimizers.py has SGD, Adam and AdaGrad)."""

    def step(self, parameters: Array, gradients: Array) -> None: ...


class Callback:
    """Base of callbacks; override what is needed. The names are those of Keras; ``self.model`` is the model.

    To stop training from a callback set ``self.model.stop_training = True``.

    Examples
    --------
    >>> import rnnfast
    >>> class Print(rnnfast.Callback):
    ...     def on_epoch_end(self, epoch, logs):
    ...         print(epoch, sorted(logs))
    """

    model: Any = None

    def set_model(self, model: Any) -> None:
        self.model = model

    def on_train_begin(self, logs: dict[str, Any]) -> None: ...
    def on_epoch_begin(self, epoch: int, logs: dict[str, Any]) -> None: ...
    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None: ...
    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None: ...
    def on_train_end(self, logs: dict[str, Any]) -> None: ...


@dataclass
class History:
    """What happened: ``history["loss"]`` is a list with a number for each pass, and so on.

    Examples
    --------
    >>> import rnnfast
    >>> history = rnnfast.History()
    >>> history.append({"loss": 0.5})
    >>> history["loss"]
    [0.5]

    Attributes
    ----------
    history : dict
        ``loss`` and ``seconds``, with validation data ``val_loss`` and, for cross-entropy, ``val_accuracy``. A pass
        that was broken off is not in it.
    stop_reason : str
        "zero loss", "target loss", "no improvement", "max_epochs", "callback" or "interrupted".
    best_epoch : int
        The pass with the best monitored figure, from 0; its weights are kept where ``fit`` says so.
    """

    history: dict[str, list[float]] = field(default_factory=lambda: {"loss": [], "seconds": []})
    stop_reason: str = "max_epochs"
    best_epoch: int = -1

    def __getitem__(self, name: str) -> list[float]:
        return self.history[name]

    def append(self, logs: dict[str, float]) -> None:
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)


class Sequences:
    """Sequences of differing lengths, and batches of them.

    Parameters
    ----------
    x : list of arrays (T_i,) of ids or (T_i, D), or one padded array (N, T) or (N, T, D)
    lengths : (N,) integers, with a padded array only
    y : targets, optional: (N,) or (N, K) for each sequence; a list of (T_i,) or (T_i, K), or padded, for each step

    Examples
    --------
    >>> import numpy as np
    >>> data = Sequences([np.array([4, 5, 6]), np.array([7])], y=[0, 1])
    >>> x, y, lengths = data.batch(np.array([1, 0]))
    >>> x.tolist(), y.tolist(), lengths.tolist()
    ([[7, 0, 0], [4, 5, 6]], [1, 0], [1, 3])
    """

    def __init__(self, x: Any, y: Any = None, lengths: ArrayLike | None = None, *, per_step: bool = False) -> None:
        self.x: Any = x if isinstance(x, np.ndarray) else [np.asarray(s) for s in x]
        self.padded = isinstance(x, np.ndarray)
        if self.padded:
            if x.ndim not in (2, 3):
                raise ValueError(f"x: expected (N, T) token ids or (N, T, D) features, got {x.shape}")
            self.lengths = np.full(len(x), x.shape[1], np.int64) if lengths is None else np.asarray(lengths)
            if self.lengths.shape != (len(x),):
                raise ValueError(f"lengths: expected (N,) = ({len(x)},), got {self.lengths.shape}")
            if len(x) and self.lengths.dtype.kind not in "iu":
                raise TypeError(f"lengths: expected integers, got {self.lengths.dtype}")
            if len(x) and not (self.lengths.min() >= 0 and self.lengths.max() <= x.shape[1]):
                raise ValueError(f"lengths: expected 0..T = 0..{x.shape[1]}, got {self.lengths.min()}.."
                                 f"{self.lengths.max()}")  # fmt: skip
        else:
            if lengths is not None:
                raise ValueError("lengths: expected None with a list of sequences, whose lengths are their own")
            for i, s in enumerate(self.x):
                if s.ndim not in (1, 2):
                    raise ValueError(f"x[{i}]: expected (T,) token ids or (T, D) features, got {s.shape}")
            self.lengths = np.array([len(s) for s in self.x], np.int64)
        if len(self.lengths) == 0:
            raise ValueError("x: expected at least one sequence, got none")
        self.per_step = per_step
        self.y: Any = y if y is None or (per_step and not isinstance(y, np.ndarray)) else np.asarray(y)
        if self.y is not None:
            if len(self.y) != len(self.lengths):
                raise ValueError(f"y: expected targets for N = {len(self.lengths)} sequences, got {len(self.y)}")
            if per_step and not isinstance(self.y, np.ndarray):
                self.y = [np.asarray(s) for s in self.y]
                for i, s in enumerate(self.y):
                    if len(s) != self.lengths[i]:
                        raise ValueError(f"y[{i}]: expected a target for each of {self.lengths[i]} steps, got {len(s)}")

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: NDArray[np.int64]) -> tuple[Array, Array, NDArray[np.int64]]:
        """x (n, T) or (n, T, D), y and lengths of these rows, padded to the longest of them."""
        lengths = self.lengths[rows]
        steps = int(lengths.max(initial=0))
        x = self.x[rows, :steps] if self.padded else pad([self.x[i] for i in rows])[0]
        if self.y is None:
            y = np.zeros(0)
        elif not self.per_step:
            y = self.y[rows]
        else:
            y = self.y[rows, :steps] if isinstance(self.y, np.ndarray) else pad([self.y[i] for i in rows])[0]
        return x, y, lengths


class _Interrupt:
    """Turns the first Ctrl-C into a flag that is looked at between batches; the second one raises at once."""

    def __enter__(self) -> _Interrupt:
        self.pressed = False
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.getsignal(signal.SIGINT)
            # Someone else's handler, or none that Python knows: leave it alone.
            self._main = self._before is signal.default_int_handler
        if self._main:
            signal.signal(signal.SIGINT, self._press)
        return self

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._before)


def fit(
    model: Any,
    x: Any,
    y: Any,
    *,
    lengths: ArrayLike | None = None,
    loss: Literal["cross_entropy", "squared_error"] | Loss = "cross_entropy",
    normalizer: Literal["steps", "sequences", "both", "sum"] = "steps",
    optimizer: Optimizer | None = None,
    batch_size: int = 32,
    max_epochs: int = 10,
    target_loss: float | None = None,
    patience: int | None = None,
    tol: float = 0.0,
    validation: tuple[Any, ...] | None = None,
    monitor: Literal["loss", "val_loss", "val_accuracy"] | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    truncate: int | None = None,
    carry_state: bool = False,
    shuffle: bool = True,
    bucket: bool = True,
    seed: int | np.random.Generator | None = None,
    callbacks: Iterable[Callback] = (),
) -> History:
    """Train a model.

    Each pass over the data (epoch) takes every sequence once, in batches of similar lengths; each batch is one
    forward pass, the loss, one backward pass, clipping, and one step of the optimiser. Training stops when

    - the loss of a pass is 0, or at most `target_loss`;
    - `max_epochs` passes are done;
    - `patience` passes in a row have not improved the monitored figure by more than `tol`;
    - a callback sets ``model.stop_training``, or Ctrl-C is pressed, which takes effect after the batch at hand.

    With validation data or `patience`, and after Ctrl-C, the model is left with the weights of its best pass.

    Parameters
    ----------
    model : Network, or anything with forward, backward, vector, gradient_vector
        ``forward(x, lengths=, state=, training=)`` returns the outputs and sets ``state``.
    x, y, lengths :
        See :class:`Sequences`; targets are for each step where ``model.per_step``.
    loss : "cross_entropy", "squared_error" or a function like those of rnnfast.losses
    normalizer : "steps", "sequences", "both" or "sum"
        What the summed loss of a batch is divided by; the loss of a pass is that of all its sequences at once.
    optimizer : object with ``step(parameters, gradients)``; None is ``Adam()``
    batch_size, max_epochs, target_loss, patience, tol :
        See above.
    validation : tuple (x, y) or (x, y, lengths), optional
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

    Returns
    -------
    History

    Raises
    ------
    FloatingPointError
        The loss is NaN or infinite: names pass and batch. The model keeps its best weights.
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
    per_step = bool(getattr(model, "per_step", False))
    data = Sequences(x, y, lengths, per_step=per_step)
    if validation is not None and len(validation) not in (2, 3):
        raise ValueError(f"validation: expected (x, y) or (x, y, lengths), got {len(validation)} items")
    held_out = None if validation is None else Sequences(*validation, per_step=per_step)
    function = _loss(loss)
    for name, limit in (("clip_norm", clip_norm), ("clip_value", clip_value)):
        if limit is not None and not limit > 0:
            raise ValueError(f"{name}: expected a positive number, got {limit}")
    _check(model, data, batch_size, max_epochs, patience, truncate, carry_state, shuffle or bucket)
    monitor = monitor or ("loss" if validation is None else "val_loss")
    accurate = function is softmax_cross_entropy
    known = ["loss", *(["val_loss"] if validation else []), *(["val_accuracy"] if validation and accurate else [])]
    if monitor not in known:
        raise ValueError(f"monitor: expected one of {', '.join(known)} with this loss and validation, got {monitor!r}")
    optimizer = Adam() if optimizer is None else optimizer
    rng = np.random.default_rng(seed)
    trainer = _Trainer(model, function, normalizer, optimizer, clip_norm, clip_value, truncate)
    history, best, best_tie_break, best_weights, waited = History(), np.inf, np.inf, None, 0
    callbacks = list(callbacks)
    model.stop_training = False

    def diverged(what: str) -> FloatingPointError:
        if best_weights is not None:
            model.vector[...] = best_weights
        return FloatingPointError(f"{what}: try a lower learning_rate, or clip_norm")

    for callback in callbacks:
        callback.set_model(model)
    _call(callbacks, "on_train_begin", {"epochs": max_epochs, "batches": -(-len(data) // batch_size)})
    with _Interrupt() as interrupt:
        for epoch in range(max_epochs):
            start = time.perf_counter()
            _call(callbacks, "on_epoch_begin", epoch, {})
            order = batches(data.lengths, batch_size, shuffle=rng if shuffle else None, bucket=bucket)
            total = weight = 0.0
            state, whole = None, True
            for number, rows in enumerate(order):
                if interrupt.pressed or model.stop_training:
                    whole = False
                    break
                batch_loss, batch_weight, state = trainer.step(*data.batch(rows), state if carry_state else None)
                if not np.isfinite(batch_loss):
                    raise diverged(f"loss is {batch_loss} in pass {epoch}, batch {number}")
                total += batch_loss * batch_weight
                weight += batch_weight
                steps = int(data.lengths[rows].sum())
                _call(callbacks, "on_train_batch_end", number, {"loss": batch_loss, "steps": steps})
            logs = {"loss": _mean(total, weight, normalizer)}
            if whole and not np.isfinite(model.vector).all():
                raise diverged(f"a weight is not finite after pass {epoch}, of loss {logs['loss']}")
            if whole and held_out is not None:
                values = _evaluate(model, held_out, function, normalizer, batch_size, lambda: interrupt.pressed)
                whole = values is not None
                logs.update({f"val_{name}": value for name, value in (values or {}).items()})
            logs["seconds"] = time.perf_counter() - start
            if whole:  # a part of a pass is neither a loss to compare nor a line of the history
                history.append(logs)
                monitored = -logs[monitor] if monitor == "val_accuracy" else logs[monitor]
                tie_break = logs.get("val_loss", 0.0)
                if monitored < best - tol:
                    waited = 0
                else:
                    waited += 1
                if (monitored, tie_break) < (best, best_tie_break):
                    best, best_tie_break = monitored, tie_break
                    history.best_epoch, best_weights = epoch, model.vector.copy()
                _call(callbacks, "on_epoch_end", epoch, logs)
            if interrupt.pressed:
                history.stop_reason = "interrupted"
            elif model.stop_training:
                history.stop_reason = "callback"
            elif logs["loss"] == 0:
                history.stop_reason = "zero loss"
            elif target_loss is not None and logs["loss"] <= target_loss:
                history.stop_reason = "target loss"
            elif patience is not None and waited >= patience:
                history.stop_reason = "no improvement"
            else:
                continue
            break
    keep_best = validation is not None or patience is not None or history.stop_reason == "interrupted"
    if keep_best and best_weights is not None:
        model.vector[...] = best_weights
    _call(callbacks, "on_train_end", {"stop_reason": history.stop_reason})
    return history


def evaluate(
    model: Any,
    data: Sequences,
    loss: Literal["cross_entropy", "squared_error"] | Loss = "cross_entropy",
    normalizer: str = "steps",
    batch_size: int = 256,
) -> dict[str, float]:
    """Loss over a data set without training, and the accuracy where the loss is cross-entropy.

    Parameters
    ----------
    model : Network, or anything with its ``forward``
    data : Sequences
    loss, normalizer :
        As in :func:`fit`.
    batch_size : int

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> from rnnfast.training import Sequences
    >>> network = rnnfast.Network(8, 4, 2, embedding_size=4, seed=0)
    >>> sorted(rnnfast.evaluate(network, Sequences([np.array([4, 5]), np.array([6])], [0, 1])))
    ['accuracy', 'loss']
    """
    values = _evaluate(model, data, _loss(loss), normalizer, batch_size, lambda: False)
    assert values is not None
    return values


def _evaluate(
    model: Any, data: Sequences, loss: Loss, normalizer: str, batch_size: int, stopped: Callable[[], bool]
) -> dict[str, float] | None:
    """What `evaluate` returns; None once `stopped()`, which is asked before each batch."""
    total = weight = correct = count = 0.0
    for rows in batches(data.lengths, batch_size):
        if stopped():
            return None
        x, y, lengths = data.batch(rows)
        outputs = model.forward(x, lengths=lengths)
        step_lengths = lengths if data.per_step else None
        w = _weight(normalizer, lengths, data.per_step)
        total += loss(outputs, y, lengths=step_lengths, normalizer=normalizer)[0] * w
        weight += w
        if loss is softmax_cross_entropy:
            right = outputs.argmax(axis=-1) == y
            valid = np.arange(x.shape[1]) < lengths[:, None] if data.per_step else np.ones(len(rows), bool)
            correct += float((right & valid).sum())
            count += float(valid.sum())
    logs = {"loss": _mean(total, weight, normalizer)}
    if loss is softmax_cross_entropy:
        logs["accuracy"] = correct / count if count else 0.0
    return logs


class _Trainer:
    """One optimiser step for a batch, or one for each of its pieces."""

    def __init__(
        self,
        model: Any,
        loss: Loss,
        normalizer: str,
        optimizer: Optimizer,
        clip_norm: float | None,
        clip_value: float | None,
        truncate: int | None,
    ) -> None:
        self.model, self.loss, self.normalizer, self.optimizer = model, loss, normalizer, optimizer
        self.clip_norm, self.clip_value, self.truncate = clip_norm, clip_value, truncate
        self.per_step = bool(getattr(model, "per_step", False))

    def step(self, x: Array, y: Array, lengths: NDArray[np.int64], state: Any) -> tuple[float, float, Any]:
        """Loss, its weight among other batches, and the final state."""
        k = self.truncate
        if k is None or x.shape[1] <= k:
            return self._update(x, y, lengths, state)
        if not self.per_step:  # walk to the last k steps of each sequence without a tape, then train on those
            early = np.maximum(lengths - k, 0)
            self.model.forward(x[:, : int(early.max())], lengths=early, state=state)
            last = np.minimum(early[:, None] + np.arange(k), x.shape[1] - 1)
            return self._update(x[np.arange(len(x))[:, None], last], y, lengths - early, self.model.state)
        total = weight = 0.0
        for start in range(0, x.shape[1], k):
            piece = slice(start, start + k)
            piece_lengths = np.clip(lengths - start, 0, k)
            loss, w, state = self._update(x[:, piece], y[:, piece], piece_lengths, state)
            total += loss * w
            weight += w
        if self.normalizer in ("steps", "both"):
            return _mean(total, weight, self.normalizer), weight, state
        return total / w, w, state  # each piece was divided by the same number: the pieces add up

    def _update(self, x: Array, y: Array, lengths: NDArray[np.int64], state: Any) -> tuple[float, float, Any]:
        model = self.model
        outputs = model.forward(x, lengths=lengths, state=state, training=True)
        state = model.state
        loss, gradient = self.loss(outputs, y, lengths=lengths if self.per_step else None, normalizer=self.normalizer)
        if math.isfinite(loss):
            model.backward(gradient)
            if self.clip_value is not None:
                clip_by_value(model.gradient_vector, self.clip_value)
            if self.clip_norm is not None:
                clip_by_global_norm(model.gradient_vector, self.clip_norm)
            self.optimizer.step(model.vector, model.gradient_vector)
        return loss, _weight(self.normalizer, lengths, self.per_step), state


def _weight(normalizer: str, lengths: NDArray[np.int64], per_step: bool) -> float:
    """By what a batch's loss was divided: the weight of its mean among other batches' means."""
    if normalizer not in MEANS:
        return 1.0
    if normalizer == "steps" and per_step:
        return float(lengths.sum())
    if normalizer == "both" and per_step:
        return float((lengths > 0).sum())
    return float(len(lengths))


def _mean(total: float, weight: float, normalizer: str) -> float:
    """The loss of all batches as one, from Σ loss · weight and Σ weight; sums add up."""
    if normalizer not in MEANS:
        return total
    return total / weight if weight else 0.0


def _loss(loss: str | Loss) -> Loss:
    function = LOSSES.get(loss) if isinstance(loss, str) else loss
    if function is None:
        raise ValueError(f"loss: expected one of {', '.join(map(repr, LOSSES))} or a function, got {loss!r}")
    return function


def _check(
    model: Any,
    data: Sequences,
    batch_size: int,
    max_epochs: int,
    patience: int | None,
    truncate: int | None,
    carry_state: bool,
    reordered: bool,
) -> None:
    if data.y is None:
        raise ValueError("y: expected targets, got None")
    for name, value in (("batch_size", batch_size), ("max_epochs", max_epochs), ("patience", patience),
                        ("truncate", truncate)):  # fmt: skip
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer)):
            raise TypeError(f"{name}: expected a positive integer, got {value!r}")
        if value is not None and value < 1:
            raise ValueError(f"{name}: expected a positive integer, got {value}")
    if (truncate or carry_state) and getattr(model, "bidirectional", False):
        raise ValueError("truncate, carry_state: expected a model of one direction, got a bidirectional one, "
                         "which needs whole sequences")  # fmt: skip
    if carry_state and (reordered or len(data) % batch_size):
        raise ValueError(
            "carry_state: expected shuffle=False, bucket=False and a number of sequences that batch_size divides, so "
            "that row i of each batch continues row i of the one before"
        )


def _call(callbacks: Sequence[Callback], event: str, *arguments: Any) -> None:
    for callback in callbacks:
        getattr(callback, event)(*arguments)
