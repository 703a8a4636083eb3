"""What a contender is, what it is given, and when its answers are refused.

peers.py and onednn.py have the adapters, measure.py and benchmarks/test_grid.py use them. It must not know any library
but NumPy, nor clocks, rounds or reports.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .grid import BLOCKS, Row, lengths_of

__all__ = [
    "STREAM_STEPS",
    "Answers",
    "Array",
    "Contender",
    "Prepared",
    "Problem",
    "Weights",
    "compare",
    "dx_wanted",
    "key",
    "make_problem",
]

Array = NDArray[Any]
Answers = dict[str, Array]
TOLERANCE = {4: 1e-4, 8: 1e-9}  # of the largest number of an answer, by the bytes of a number
STREAM_STEPS = 4  # that are compared; each call of a stream is one step


class Weights(NamedTuple):
    """Of one layer and direction, in the layout of rnnfast.forward."""

    Wx: Array
    Wh: Array
    b: Array


@dataclass(frozen=True)
class Problem:
    """The numbers that all contenders get."""

    row: Row
    x: Array  # (N, T, D), or (N, T) token ids
    weights: list[list[Weights]]  # by layer, then by direction
    lengths: Array | None
    dh: Array  # (N, T, directions * H): the gradient of the loss with respect to the outputs, 0 past a length
    targets: Array | None = None  # (N, T), of a model

    @property
    def dense(self) -> Array:
        """x as floating numbers: one-hot for token ids."""
        return self.x if self.x.ndim == 3 else one_hot(self.x, self.row.D, self.dh.dtype)

    def astype(self, dtype: Any) -> Problem:
        """The same numbers in another type."""
        weights = [[Weights(*(a.astype(dtype) for a in w)) for w in layer] for layer in self.weights]
        x = self.x.astype(dtype) if self.x.ndim == 3 else self.x
        return Problem(self.row, x, weights, self.lengths, self.dh.astype(dtype), self.targets)


def one_hot(ids: Array, D: int, dtype: Any) -> Array:
    x = np.zeros((*ids.shape, D), dtype)
    np.put_along_axis(x, ids[..., None], 1, axis=-1)
    return x


def make_problem(row: Row, seed: int = 0) -> Problem:
    """Inputs of unit variance and weights that keep it so; the same for the same row and seed."""
    rng = np.random.default_rng(seed)
    dtype = np.float64 if row.float64 else np.float32
    G, P = BLOCKS[row.cell], BLOCKS[row.cell] + (row.cell == "gru")
    H = row.H
    T = STREAM_STEPS if row.kind == "stream" else row.T

    def normal(*size: int, scale: float = 1.0) -> Array:
        return (rng.standard_normal(size, np.float32) * scale).astype(dtype)

    weights = []
    for D in row.inputs:
        scale = (min(D, 256) + H) ** -0.5
        layer = [
            Weights(normal(D, G * H, scale=scale), normal(H, G * H, scale=scale), normal(P * H, scale=scale))
            for _ in range(row.directions)
        ]
        weights.append(layer)
    x = rng.integers(0, row.D, (row.N, T)) if row.ids or row.one_hot else normal(row.N, T, row.D)
    if row.one_hot:
        x = one_hot(x, row.D, dtype)
    lengths = lengths_of(row, seed) if row.ragged else None
    dh = normal(row.N, T, row.directions * H)
    if lengths is not None:
        dh[np.arange(T) >= lengths[:, None]] = 0
    targets = rng.integers(0, row.D, (row.N, T)) if row.kind == "model" else None
    return Problem(row, x, weights, lengths, dh, targets)


def compare(answers: Answers, expected: Answers, item: int) -> tuple[float, str | None]:
    """Largest error relative to the largest number of its array, and why the answers are refused, if they are."""
    missing = [name for name in expected if name not in answers]
    if missing:
        return float("inf"), f"no answer for {', '.join(missing)}"
    worst, where = 0.0, ""
    for name, right in expected.items():
        answer = answers[name]
        if answer.shape != right.shape:
            return float("inf"), f"{name} has shape {answer.shape}, expected {right.shape}"
        size = float(np.abs(right).max(initial=0)) or 1.0
        error = float(np.abs(answer - right).max(initial=0)) / size
        if not error <= worst:  # NaN too
            worst, where = error, name
        if error != error:
            break
    refused = None if worst <= TOLERANCE[item] else f"{where} is off by {worst:.1e} of its largest number"
    return worst, refused


@dataclass(frozen=True)
class Prepared:
    """A problem in a contender's own form."""

    call: Callable[[], Any]  # what is timed
    answers: Callable[[], Answers]  # the same computation, in rnnfast's layout


class Contender:
    """One library; made once in a process, for a number of threads."""

    name: ClassVar[str]
    package: ClassVar[str]
    modes: ClassVar[tuple[str, ...]] = ("training", "inference")

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def gap(self, row: Row, mode: str) -> str | None:
        """Why it does not run this row, or None."""
        if mode not in self.modes:
            return f"no {mode}"
        if row.kind == "model":
            return "not this whole model"
        return None

    def prepare(self, problem: Problem, mode: str) -> Prepared:
        raise NotImplementedError

    def implementation(self, problem: Problem, mode: str, prepared: Prepared) -> str:
        """Which code it really takes."""
        raise NotImplementedError

    def version(self) -> str:
        module = importlib.import_module(self.package)
        return str(module.__version__)


def key(name: str, layer: int, direction: int) -> str:
    return f"{name} l{layer}" + ("_reverse" if direction else "")


def dx_wanted(row: Row) -> bool:
    return row.dx and not row.ids
