"""Trainer: what fit does with a batch: forward, loss, backward, clipping, one step of the optimiser or several.

Called by training.py, which knows of passes, rules and files; this knows of none. On several ranks (parallel.py) each
computes its rows of the batch, and the sum of the gradients is clipped and stepped along on all of them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .callbacks import BrokenOff, Interrupt
from .checkpoint import Position
from .finite import NotFiniteError, check, check_gradient_vector, first_loss
from .optimizers import clip_by_global_norm, clip_by_value
from .parallel import Ranks

__all__ = ["MEANS", "Loss", "Optimizer", "Trainer", "places_of", "sequence_of", "weight_of"]

Array = NDArray[Any]
Loss = Callable[..., tuple[float, Array]]
Order = Iterable[tuple[Any, NDArray[np.int64]]]  # data, and rows of it
MEANS = ("steps", "sequences", "both")  # normalizers under which the loss is a mean


class Optimizer(Protocol):
    """What fit asks of an optimiser (optimizers.py has SGD, Adam and AdaGrad)."""

    def step(self, parameters: Array, gradients: Array) -> None: ...


@dataclass(frozen=True)
class Part:
    """One step of the optimiser."""

    loss: float
    total: float  # what the loss adds to Σ loss · weight of a pass
    weight: float
    steps: int  # valid ones
    state: Any  # after it, of this rank's rows, where the next one starts from that
    ends: bool = True  # whether its batch is done


class Trainer:
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
        check_finite: bool,
        ranks: Ranks,
    ) -> None:
        self.ranks, self.share, self.state = ranks, ranks.share_of(0), None
        self.check_finite, self.interrupt = check_finite, Interrupt()
        self.rows, self.skipped = np.zeros(0, np.int64), np.zeros(0, np.int64)  # of the batch at hand; steps, by row
        self.model, self.loss, self.normalizer, self.optimizer = model, loss, normalizer, optimizer
        self.clip_norm, self.clip_value, self.truncate = clip_norm, clip_value, truncate
        self.per_step = bool(getattr(model, "per_step", False))

    def updates(self, lengths: NDArray[np.int64]) -> int:
        """How many steps of the optimiser a batch takes."""
        steps = int(lengths.max(initial=0))
        return 1 if self.truncate is None or not self.per_step else max(1, -(-steps // self.truncate))

    def train(self, order: Order, carry_state: bool, done: int = 0, state: Any = None) -> Iterator[Part]:
        """Train on the batches of a pass, a step of the optimiser for each item that is taken; `done` of them are, and
        the next one starts from `state`, of a whole batch."""
        whole = True
        for data, rows in order:
            updates = self.updates(data.lengths[rows])
            if done >= updates:
                done -= updates
                continue
            x, y, lengths = data.batch(rows)
            self.share = self.ranks.share_of(len(rows))
            if self.ranks.size > 1:
                self.model.share = self.share
                if state is not None and whole:
                    state = tuple(s[:, self.share.rows] for s in state)
            whole = False
            self.rows, self.skipped = places_of(data, rows)[self.share.rows], np.zeros_like(lengths)[self.share.rows]
            for part in self._batch(x, y, lengths, state, done):
                done += 1
                state = part.state if carry_state or done < updates else None
                yield replace(part, state=state, ends=done == updates)
            done = 0

    @contextlib.contextmanager
    def shares(self) -> Iterator[None]:
        """The model is given shares of batches in here."""
        try:
            yield
        finally:
            if self.ranks.size > 1:
                self.model.share = None

    def check(self, at: Position, order: Order, carry_state: bool) -> None:
        """A ValueError where no pass over these batches could be."""
        end = 0  # steps up to the end of a batch: that which goes on, or the last
        ends, data, rows = [0], None, np.zeros(0, np.int64)
        for data, rows in order:
            end += self.updates(data.lengths[rows])
            ends.append(end)
            if end > at.done:
                break
        if data is None or not 0 <= at.done <= end:
            raise ValueError(f"step {at.done} of a pass, while this run has {end} in each")
        expected = None
        if at.done and (carry_state or at.done not in ends):
            x, _, lengths = data.batch(rows)
            self.model.forward(_piece(x, slice(1)), lengths=np.minimum(lengths, 1))
            expected = [(s.shape, s.dtype) for s in self.model.state]
        found = None if at.state is None else [(s.shape, s.dtype) for s in at.state]
        if found != expected:
            raise ValueError(f"states {found} to carry on, while this run has {expected}")

    def _batch(self, x: Any, y: Array, lengths: NDArray[np.int64], state: Any, done: int) -> Iterator[Part]:
        """`x`, `y`, `lengths` are of the whole batch, `state` of this rank's rows."""
        k, steps = self.truncate, int(lengths.max(initial=0))
        if k is None or steps <= k:
            yield self._update(x, y, lengths, state)
        elif not self.per_step:
            yield replace(self._update(x, y, lengths, state, last=k), steps=int(lengths.sum()))
        else:
            for start in range(done * k, steps, k):
                piece = slice(start, start + k)
                self.skipped = np.full_like(self.rows, start)
                part = self._update(_piece(x, piece), y[:, piece], np.clip(lengths - start, 0, k), state)
                if start and self.normalizer == "sequences":  # each piece was divided by the same number: they add up
                    part = replace(part, weight=0.0)
                state = part.state
                yield part

    def place(self, error: NotFiniteError) -> str:
        """Which sequence and step of the data the row and step of an error are."""
        known = error.row is not None and error.row < len(self.skipped) and error.step is not None
        skipped = int(self.skipped[error.row]) if known else 0
        return sequence_of(error, self.rows, f", whose step 0 is step {skipped} there" if skipped else "")

    def _update(self, x: Any, y: Array, lengths: NDArray[np.int64], state: Any, last: int | None = None) -> Part:
        """One step of the optimiser; with `last`, gradients go back through so many steps of each sequence."""
        model, ranks, own = self.model, self.ranks, self.share.rows
        weight = weight_of(self.normalizer, lengths if last is None else np.minimum(lengths, last), self.per_step)
        mine = (0.0, 0.0)
        ranks.pressed, ranks.stop = ranks.pressed or self.interrupt.pressed, ranks.stop or model.stop_training
        if not (ranks.pressed or ranks.stop):
            try:
                with self.interrupt.breaking():
                    mine = self._gradient(_rows(x, own), y[own], lengths[own], state, last, weight)
            except BrokenOff:
                ranks.pressed = True
        if not math.isfinite(mine[0]) or ranks.pressed or ranks.stop:
            model.gradient_vector[...] = 0
        total, found = ranks.sum(model.gradient_vector, *mine, optimizer=self.optimizer)
        if ranks.pressed or ranks.stop:
            raise BrokenOff
        if self.normalizer in MEANS and abs(found - weight) > 1e-5 * weight:
            raise RuntimeError(f"expected the ranks to have {weight:g} steps or sequences of a batch, got {found:g}: "
                               "their data differ")  # fmt: skip
        loss = total if self.normalizer not in MEANS else total / weight if weight else 0.0
        if math.isfinite(loss):
            if self.clip_value is not None:
                clip_by_value(model.gradient_vector, self.clip_value)
            if self.clip_norm is not None:
                clip_by_global_norm(model.gradient_vector, self.clip_norm)
            self.optimizer.step(model.vector, model.gradient_vector)
        return Part(loss, total, weight, int(lengths.sum()), self.state)

    def _gradient(
        self, x: Any, y: Array, lengths: NDArray[np.int64], state: Any, last: int | None, whole: float
    ) -> tuple[float, float]:
        """This rank's part of the gradient of a batch of weight `whole`, left in the model; its summed loss and its
        weight."""
        model = self.model
        if last is not None:  # walk to the last steps of each sequence without a tape, then train on those
            early, steps = np.maximum(lengths - last, 0), _steps(x)
            model.forward(_piece(x, slice(int(early.max(initial=0)))), lengths=early, state=state)
            self.skipped, state = early, model.state
            ids, *condition = x if isinstance(x, tuple) else (x,)
            ends = ids[np.arange(len(ids))[:, None], np.minimum(early[:, None] + np.arange(last), steps - 1)]
            x, lengths = (ends, *condition) if condition else ends, lengths - early
        of_steps = lengths if self.per_step else None
        outputs = model.forward(x, lengths=lengths, state=state, training=True)
        self.state = model.state
        if self.check_finite:
            check("outputs", outputs, of_steps, steps=self.per_step)
        loss, gradient = self.loss(outputs, y, lengths=of_steps, normalizer=self.normalizer)
        weight = weight_of(self.normalizer, lengths, self.per_step)
        if self.check_finite and not math.isfinite(loss):
            first_loss(self.loss, outputs, y, of_steps)
        if math.isfinite(loss):
            if weight != whole:
                gradient *= gradient.dtype.type(weight / whole)
            model.backward(gradient)
            if self.check_finite:
                check_gradient_vector(model)
        return loss * weight, weight


def places_of(data: Any, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where rows of a data set, or of a block of a stream, are in the whole."""
    found: NDArray[np.int64] = data.places[rows] if hasattr(data, "places") else rows
    return found


def sequence_of(error: NotFiniteError, places: NDArray[np.int64], piece: str = "") -> str:
    """Which sequence of the data the row of an error is."""
    if error.row is None or error.row >= len(places):
        return ""
    return f" (row {error.row} is sequence {places[error.row]} of the data{piece})"


def _rows(x: Any, rows: slice) -> Any:
    """Some rows of the inputs of a batch, which may be several arrays."""
    return tuple(a[rows] for a in x) if isinstance(x, tuple) else x[rows]


def _steps(x: Any) -> int:
    return int((x[0] if isinstance(x, tuple) else x).shape[1])


def _piece(x: Any, steps: slice) -> Any:
    """Some steps of the inputs of a batch, with its condition where it has one."""
    return (x[0][:, steps], *x[1:]) if isinstance(x, tuple) else x[:, steps]


def weight_of(normalizer: str, lengths: NDArray[np.int64], per_step: bool) -> float:
    """By what a batch's loss was divided: the weight of its mean among other batches' means."""
    if normalizer not in MEANS:
        return 1.0
    if normalizer == "steps" and per_step:
        return float(lengths.sum())
    if normalizer == "both" and per_step:
        return float((lengths > 0).sum())
    return float(len(lengths))
