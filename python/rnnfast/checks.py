"""What arguments of many functions must be; the errors name them. Base of all: it knows nothing of rnnfast."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["as_array", "check_path", "check_positive", "generator_of"]

GENERATORS = (np.random.Generator, np.random.RandomState, np.random.BitGenerator, np.random.SeedSequence)


def as_array(value: Any, name: str) -> NDArray[Any]:
    """An array of `value`, as ``numpy.asarray`` makes it."""
    masked = int(np.ma.getmaskarray(value).sum()) if isinstance(value, np.ma.MaskedArray) else 0
    if masked:
        raise TypeError(f"{name}: expected an array without masked numbers, got {masked}: see lengths=")
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: expected one array, got parts of unequal shape") from error


def check_path(path: Any, name: str = "path") -> str:
    """The path as a string: an integer is no path, for ``open`` would close the file of that number."""
    try:
        return os.fsdecode(path)
    except TypeError as error:
        raise TypeError(f"{name}: expected a path, got {path!r:.80}") from error


def check_positive(name: str, number: Any) -> None:
    if isinstance(number, bool) or not isinstance(number, int | np.integer):
        raise TypeError(f"{name}: expected a positive integer, got {number!r}")
    if number < 1:
        raise ValueError(f"{name}: expected a positive integer, got {number}")


def generator_of(seed: Any, name: str = "seed") -> np.random.Generator:
    """The generator of a seed, as ``numpy.random.default_rng`` makes it."""
    if not (seed is None or isinstance(seed, GENERATORS)):
        expected = f"{name}: expected None, an integer of 0 or more, several, or a generator, got {seed!r:.80}"
        several = isinstance(seed, list | tuple) or (isinstance(seed, np.ndarray) and seed.ndim > 0)
        numbers = seed if several else [seed]
        if not all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in numbers):
            raise TypeError(expected)
        if any(n < 0 for n in numbers):
            raise ValueError(expected)
    return np.random.default_rng(seed)
