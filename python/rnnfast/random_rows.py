"""Random numbers for some rows of a batch: those that one process would draw for these rows of the whole batch.

The ranks of data-parallel training (parallel.py) compute a share of each batch each. Dropout and random initial states
come through here, so that they do not depend on who computes a row; the generators are alike on all ranks after it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Share", "normal", "uniform"]

Array = NDArray[Any]
SKIPS = ("PCG64", "PCG64DXSM")  # bit generators whose `advance` counts draws of 64 bits


class Share(NamedTuple):
    """Rows of a batch of `of` rows."""

    rows: slice
    of: int

    def indices(self) -> range:
        return range(self.of)[self.rows]


def uniform(rng: np.random.Generator, shape: tuple[int, ...], share: Share | None) -> NDArray[np.float32]:
    """Numbers in [0, 1) for rows (n, ...)."""
    if share is None:
        return rng.random(shape, np.float32)
    result, size = np.empty(shape, np.float32), math.prod(shape[1:])
    done = 0  # rows of the batch
    for row, k in zip(result, share.indices(), strict=True):
        _skip(rng, (k - done) * size)
        rng.random(out=row, dtype=np.float32)
        done = k + 1
    _skip(rng, (share.of - done) * size)
    return result


def normal(rng: np.random.Generator, std: float, shape: tuple[int, ...], axis: int, share: Share | None) -> Array:
    """Normal numbers of deviation `std`; `axis` of `shape` is that of the rows."""
    if share is None:
        return rng.normal(0, std, shape)
    whole = rng.normal(0, std, (*shape[:axis], share.of, *shape[axis + 1 :]))  # how many draws one takes varies
    return whole[(slice(None),) * axis + (share.rows,)]


def _skip(rng: np.random.Generator, count: int) -> None:
    """Pass over `count` numbers of float32: halves of 64 bits, of which one may be left from before."""
    bits: Any = rng.bit_generator
    if type(bits).__name__ not in SKIPS:
        rng.random(count, np.float32)
        return
    if count and bits.state["has_uint32"]:
        rng.random(dtype=np.float32)
        count -= 1
    if count > 1:
        bits.advance(count // 2)
    if count % 2:
        rng.random(dtype=np.float32)
