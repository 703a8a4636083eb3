"""Problems that the benchmarks share: the same inputs for every contender, and the peak that they are measured by.

`peak` is measured in the same run as what it is compared with: multiply-adds on registers, one Python thread for
each of the threads, which the extension lets run at once.
"""

from __future__ import annotations

import platform
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rnnfast import _core


@dataclass(frozen=True)
class Shape:
    cell: str
    T: int
    N: int
    D: int
    H: int

    @property
    def blocks(self) -> int:
        return _core.cell_blocks(self.cell)[0]

    @property
    def flops(self) -> float:
        """Of the matrix products of one forward pass; training takes three times as many."""
        return 2.0 * self.blocks * self.H * (self.D + self.H) * self.T * self.N

    def __str__(self) -> str:
        return f"{self.cell} {self.T}/{self.N}/{self.D}/{self.H}"


@dataclass(frozen=True)
class Problem:
    x: Any
    Wx: Any
    Wh: Any
    b: Any
    dh: Any


def make_problem(shape: Shape, dtype: Any = np.float32, seed: int = 0) -> Problem:
    """Inputs of unit variance and weights that keep it so."""
    rng = np.random.default_rng(seed)
    G, P, _ = _core.cell_blocks(shape.cell)
    N, T, D, H = shape.N, shape.T, shape.D, shape.H
    scale = (D + H) ** -0.5

    def normal(*size: int, scale: float = 1.0) -> Any:
        return (rng.normal(size=size) * scale).astype(dtype)

    return Problem(
        normal(N, T, D),
        normal(D, G * H, scale=scale),
        normal(H, G * H, scale=scale),
        normal(P * H, scale=scale),
        normal(N, T, H),
    )


def peak(threads: int, seconds: float = 0.05) -> float:
    """Multiply-add flop/s of float32 registers on this many threads at once."""
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(lambda _: _core.multiply_add_rate(seconds), range(threads)))


def machine() -> dict[str, str]:
    """What a table must say beside its figures."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = f"{names[0]}, {len(names)} processors" if names else processor
    chosen = next(isa["name"] for isa in _core.instruction_sets() if isa["chosen"])
    return {
        "processor": processor,
        "instruction set": chosen,
        "compiler": _core.compiler(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
