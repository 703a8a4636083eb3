"""The rows of the benchmark as data, and what arithmetic says of each: flops, bytes, the time that is attainable.

A row is written as `CELL T/N/D/H FLAGS...`, for example `lstm 50/64/256/256 ragged`. Called by measure.py, report.py
and benchmarks/test_grid.py. It must not know of contenders, clocks or files.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["GRID", "MEMORY_ROWS", "Machine", "Row", "attainable", "flops", "lengths_of", "parse", "products", "select"]

BLOCKS = {"rnn": 1, "lstm": 4, "gru": 3}  # weight blocks of H columns
CELLS = {"rnn": "rnn_tanh", "lstm": "lstm", "gru": "gru"}  # the names that rnnfast.forward takes
KINDS = ("stream", "model")


@dataclass(frozen=True)
class Row:
    """One problem.

    `ids` are token ids in [0, D); `one_hot` are the same tokens as dense vectors; `ragged` lengths are uniform in 1..T;
    `dx` says whether training asks for the gradient of x. A `stream` is one step of T = 1 with the state kept; a
    `model` is a whole training step with D words, an embedding of E numbers (0: one-hot words) and a softmax over D.
    """

    cell: str
    T: int
    N: int
    D: int
    H: int
    ids: bool = False
    one_hot: bool = False
    ragged: bool = False
    bidirectional: bool = False
    layers: int = 1
    dx: bool = True
    float64: bool = False
    kind: str = "layer"
    E: int = 0

    def __str__(self) -> str:
        flags = [
            self.kind if self.kind != "layer" else "",
            "ids" if self.ids else "",
            "one-hot" if self.one_hot else "",
            "ragged" if self.ragged else "",
            "bidirectional" if self.bidirectional else "",
            f"layers={self.layers}" if self.layers > 1 else "",
            f"embedding={self.E}" if self.E else "",
            "" if self.dx else "no-dx",
            "float64" if self.float64 else "",
        ]
        return " ".join([f"{self.cell} {self.T}/{self.N}/{self.D}/{self.H}", *filter(None, flags)])

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def item(self) -> int:
        """Bytes of a number."""
        return 8 if self.float64 else 4

    @property
    def inputs(self) -> list[int]:
        """Input size of each layer."""
        first = self.E if self.kind == "model" and self.E else self.D
        return [first] + [self.H * self.directions] * (self.layers - 1)

    def but(self, **changes: object) -> Row:
        """The same row with other flags."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def parse(text: str) -> Row:
    """Read a row as `str(row)` writes it.

    Examples
    --------
    >>> from rnnfast.benchmark.grid import parse
    >>> parse("gru 100/32/100/128 ragged").H
    128
    """
    try:
        cell, sizes, *flags = text.split()
        T, N, D, H = (int(size) for size in sizes.split("/"))
    except ValueError:
        raise ValueError(f"row: expected CELL T/N/D/H FLAGS..., got {text!r}") from None
    if cell not in BLOCKS:
        raise ValueError(f"row: expected one of {', '.join(BLOCKS)}, got {cell!r} in {text!r}")
    if min(T, N, D, H) < 1:
        raise ValueError(f"row: expected positive sizes, got {sizes!r}")
    row = Row(cell, T, N, D, H)
    for flag in flags:
        name, _, value = flag.partition("=")
        if flag in ("ids", "ragged", "bidirectional", "float64"):
            row = row.but(**{flag: True})
        elif flag == "one-hot":
            row = row.but(one_hot=True)
        elif flag == "no-dx":
            row = row.but(dx=False)
        elif flag in KINDS:
            row = row.but(kind=flag)
        elif name in ("layers", "embedding") and value.isdecimal() and int(value) > 0:
            row = row.but(**{"E" if name == "embedding" else name: int(value)})
        else:
            raise ValueError(f"row: {flag!r} in {text!r} is no flag")
    return row


@dataclass(frozen=True)
class Entry:
    row: Row
    source: str  # who uses this shape
    modes: tuple[str, ...]
    quick: bool


def _entries(table: str) -> list[Entry]:
    entries = []
    for line in table.strip().splitlines():
        text, source, modes, *rest = (part.strip() for part in line.split("|"))
        names = {"t": "training", "i": "inference"}
        entries.append(Entry(parse(text), source, tuple(names[letter] for letter in modes), rest == ["quick"]))
    return entries


# row | where the shape comes from | t: training, i: inference | part of --quick
GRID = _entries("""
lstm 50/50/65/128 ids                  | char-rnn                     | ti | quick
lstm 50/50/65/128 one-hot              | char-rnn                     | ti |
rnn 50/50/65/128 ids                   | char-rnn                     | ti |
rnn 50/50/65/128 one-hot               | char-rnn                     | ti |
gru 50/50/65/128 ids                   | char-rnn                     | ti |
gru 50/50/65/128 one-hot               | char-rnn                     | ti |
lstm 20/20/200/200                     | PTB, small                   | ti | quick
lstm 35/20/650/650                     | PTB, medium                  | ti |
lstm 365/256/31/128                    | NeuralHydrology              | ti |
gru 500/32/128/256                     | rnnoise, shortened           | ti |
lstm 50/64/500/500                     | oneDNN, MXNet                | ti |
lstm 25/32/512/512                     | DeepBench                    | ti |
lstm 25/64/1024/1024                   | DeepBench                    | ti |
rnn 50/16/1760/1760                    | DeepBench                    | ti |
gru 300/20/800/800                     | MXNet                        | ti |
lstm 629/128/128/128                   | oneDNN                       | ti |
lstm 40/128/256/256 bidirectional      | GNMT                         | ti |
lstm 100/64/512/512                    | PyTorch fastrnns             | ti |
lstm 4096/8/64/128                     | long sequences               | t  |
lstm 150/1/256/256                     | DeepBench                    | ti |
lstm 25/1/1024/1024                    | DeepBench                    | ti |
lstm 25/2/1024/1024                    | DeepBench                    | ti |
lstm 25/4/1024/1024                    | DeepBench                    | ti |
rnn 672/1/32/32                        | DeepBench                    | ti |
gru 187/1/1536/1536                    | DeepBench                    | ti |
rnn 25/1/65/100                        | min-char-rnn                 | ti | quick
gru 100/1/40/64                        | small batch                  | ti | quick
lstm 100/1/256/256                     | small batch                  | ti | quick
gru 500/8/64/128                       | small batch                  | ti |
lstm 25/16/512/512                     | middle batch                 | ti |
rnn 100/32/100/128                     | middle batch                 | ti | quick
lstm 100/32/100/128                    | middle batch                 | ti | quick
lstm 50/64/256/256                     | large batch                  | ti |
gru 50/64/256/256                      | large batch                  | ti |
rnn 50/64/256/256                      | large batch                  | ti |
lstm 25/128/512/512                    | large batch                  | ti |
gru 25/32/1024/1024                    | large weights                | ti |
lstm 100/32/100/128 ragged             | ragged lengths               | ti | quick
lstm 50/64/256/256 ragged              | ragged lengths               | ti |
gru 50/64/256/256 ragged               | ragged lengths               | ti |
rnn 100/32/100/128 ragged              | ragged lengths               | ti |
lstm 40/64/128/128 bidirectional ragged | ragged, both directions     | ti |
lstm 50/64/256/256 layers=2            | two layers                   | ti |
gru 100/8/128/128 layers=2             | two layers, small batch      | ti |
lstm 100/1/128/128 layers=2            | two layers, batch 1          | ti |
lstm 50/64/256/256 no-dx               | no gradient of x             | t  |
gru 100/32/100/128 no-dx               | no gradient of x             | t  |
gru 100/32/100/128                     | middle batch                 | ti | quick
lstm 50/32/65/65                       | odd sizes                    | ti |
gru 50/32/65/130                       | odd sizes                    | ti |
rnn 50/33/130/65                       | odd sizes                    | ti |
lstm 1/64/256/256                      | one step                     | ti |
gru 1/32/128/128                       | one step                     | ti |
lstm 50/64/256/256 float64             | float64                      | ti |
gru 50/64/256/256 float64              | float64                      | ti |
rnn 100/32/100/128 float64             | float64                      | ti | quick
lstm 20/20/10000/200 ids               | words, PTB                   | ti |
lstm 20/20/10000/200 one-hot           | words, PTB                   | ti |
lstm 1/1/1/24 stream                   | RTNeural                     | i  | quick
lstm 50/50/65/128 ids layers=2 model   | char-rnn, whole step         | t  | quick
lstm 35/20/10000/200 ids layers=2 embedding=200 model | PTB, whole step | t |
""")

MEMORY_ROWS = [
    parse(text)
    for text in (
        "lstm 100/64/512/512",
        "lstm 50/64/256/256",
        "lstm 4096/8/64/128",
        "lstm 25/64/1024/1024",
    )
]


def select(patterns: Sequence[str] = (), quick: bool = False) -> list[Entry]:
    """Rows of the grid whose text matches one of the patterns, which may be a row of one's own.

    A pattern is a whole row, which it then is alone, or has wildcards (`lstm 25/*`), or its words are parts of the text
    (`gru ragged`).

    Examples
    --------
    >>> from rnnfast.benchmark.grid import select
    >>> [str(entry.row) for entry in select(["stream"])]
    ['lstm 1/1/1/24 stream']
    """
    entries = [entry for entry in GRID if entry.quick or not quick]
    if not patterns:
        return entries
    chosen: dict[Entry, None] = {}
    for pattern in patterns:
        try:
            row: Row | None = parse(pattern)
        except ValueError:
            row = None
        found = [entry for entry in entries if (entry.row == row if row else _matches(str(entry.row), pattern))]
        if row and not found:
            found = [Entry(row, "given", _modes(row), False)]
        if not found:
            raise ValueError(f"rows: {pattern!r} matches no row of the grid, and is none itself")
        chosen |= dict.fromkeys(found)
    return list(chosen)


def _matches(text: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(text, pattern) or all(word in text for word in pattern.split())


def _modes(row: Row) -> tuple[str, ...]:
    return {"stream": ("inference",), "model": ("training",)}.get(row.kind, ("training", "inference"))


def lengths_of(row: Row, seed: int) -> NDArray[np.int64]:
    """Valid steps of each sequence: the first has T, so that the padding is needed."""
    if not row.ragged:
        return np.full(row.N, row.T, dtype=np.int64)
    lengths = np.random.default_rng(seed).integers(1, row.T + 1, row.N)
    lengths[0] = row.T
    return lengths.astype(np.int64)


# ---- what arithmetic says


def products(row: Row, mode: str) -> tuple[float, float]:
    """Multiply-adds for each valid step, of all layers and directions: hoisted over time, and recurrent.

    The input product, its gradients (dx, dWx) and dWh wait for no step before them; h Wh and its way back do. Token
    ids gather rows: no multiplication, forward or back.
    """
    width = BLOCKS[row.cell] * row.H * row.directions
    hoisted = 0.0
    for layer, D in enumerate(row.inputs):
        gathered = layer == 0 and row.ids and not row.E
        needs_dx = layer > 0 or (row.dx and not gathered) or bool(row.E)
        hoisted += 0 if gathered else width * D
        if mode == "training":
            hoisted += (0 if gathered else width * D) + (width * D if needs_dx else 0) + width * row.H
    if row.kind == "model":  # the dense layer, and its two gradients
        hoisted += 3.0 * row.H * row.directions * row.D
    return hoisted, width * row.H * row.layers * (2.0 if mode == "training" else 1.0)


def flops(row: Row, mode: str, lengths: NDArray[np.int64]) -> float:
    """Of the matrix products alone.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast.benchmark.grid import flops, parse
    >>> flops(parse("rnn 2/3/4/5"), "inference", np.array([2, 2, 2])) == 2 * 5 * (4 + 5) * 6
    True
    """
    return 2.0 * sum(products(row, mode)) * float(lengths.sum())


@dataclass(frozen=True)
class Machine:
    """What was measured beside a row: for one of the threads in use, while all of them ran."""

    threads: int
    peak: float  # flop/s, float32
    bandwidth: dict[int, float]  # working set in bytes -> bytes/s
    caches: dict[str, int]  # "L1", "L2", "L3" -> bytes that one thread has

    def level(self, size: float) -> str:
        """The nearest memory that holds so many bytes."""
        return next((name for name, capacity in self.caches.items() if size <= capacity), "DRAM")

    def read_rate(self, size: float) -> float:
        """Bytes/s of a working set: interpolated between the sizes measured in the same level, never across levels."""
        level = self.level(size)
        same = {s: rate for s, rate in sorted(self.bandwidth.items()) if self.level(s) == level} or self.bandwidth
        sizes = sorted(same)
        return float(np.interp(math.log(max(size, 1)), np.log(sizes), [same[s] for s in sizes]))


@dataclass(frozen=True)
class Bound:
    seconds: float
    by: str  # "arithmetic", or the level whose bandwidth takes most of the time


def attainable(row: Row, mode: str, lengths: NDArray[np.int64], machine: Machine) -> Bound:
    """The least time that the measured peak and bandwidths allow: a roofline, step by step.

    Hoisted products run at the peak of all threads. Each step's recurrent product runs at the peak too, unless reading
    Wh (for each layer and direction once a step, each thread its share) takes longer.
    """
    hoisted, recurrent = products(row, mode)
    peak = machine.threads * machine.peak / (2 if row.float64 else 1)  # half as many numbers in a register
    matrices = row.layers * row.directions * (2 if mode == "training" else 1)
    share = BLOCKS[row.cell] * row.H * row.H * row.item / machine.threads
    reading = matrices * share / machine.read_rate(share)
    active = _active(lengths)
    computing = 2.0 * recurrent * active / peak
    limited = np.maximum(computing, reading)
    first = 2.0 * hoisted * float(lengths.sum()) / peak
    seconds = first + float(limited.sum())
    waiting = float(limited[reading > computing].sum())
    return Bound(seconds, machine.level(share) + " bandwidth" if waiting > seconds / 2 else "arithmetic")


def _active(lengths: Iterable[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Sequences longer than t, for each step t that any has."""
    array = np.asarray(lengths)
    steps = np.arange(int(array.max(initial=0)))
    return np.asarray((array[None, :] > steps[:, None]).sum(axis=1), np.int64)
