"""Numbers: arrays on disk, and windows of a CSV file."""

from __future__ import annotations

import contextlib
import mmap
import os
import zlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import as_array, check_path, check_positive
from ..datasets.readers import series_rows
from ..preprocessing import windows
from .sources import BLOCK, Items, Source
from .spool import Spool

__all__ = ["arrays", "series"]

PathLike = str | os.PathLike[str]


def arrays(x: PathLike | NDArray[Any], y: Any = None, lengths: ArrayLike | None = None, *, block_size: int = BLOCK,
           ) -> Source:  # fmt: skip
    """Rows of an array on disk: for :class:`rnnfast.SequenceClassifier` and :class:`rnnfast.SequenceRegressor`.

    Parameters
    ----------
    x : path of a .npy file, or array (a ``numpy.memmap``)
        (N, T, D) features; (N, T) numbers, which are univariate series, or integers, which are token ids. Only the
        rows of a block are in memory.
    y : path of a .npy file, or array (N, ...), optional
    lengths : (N,) integers, optional
        Steps of each row; None: all.
    block_size : int
        Bytes of `x` that are read at a time, about.

    Raises
    ------
    TypeError, ValueError
        Arrays of other shapes or kinds.
    OSError
        A file cannot be read.

    Examples
    --------
    >>> import numpy as np, os, rnnfast, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "x.npy")
    ...     np.save(path, np.random.default_rng(0).normal(size=(200, 7, 3)))
    ...     source = rnnfast.streaming.arrays(path, np.arange(200) % 2)
    ...     model = rnnfast.SequenceClassifier(hidden_size=4, max_epochs=1, random_state=0).fit(source)
    ...     first = next(model.predict_each(source))
    >>> len(source), first in (0, 1)
    (200, True)
    """
    check_positive("block_size", block_size)
    name = os.fspath(x) if isinstance(x, str | os.PathLike) else "x"
    x, y = _mapped(x, "x"), None if y is None else _mapped(y, "y")
    if y is not None and y.dtype.kind == "O":  # their checksum would be that of addresses
        y = np.array(y.tolist()) if all(isinstance(value, str) for value in y.flat) else y
    if y is not None and y.dtype.kind not in "biufU":
        raise TypeError(f"y: expected numbers, booleans or strings, got {y.dtype}")
    if x.ndim not in (2, 3) or x.dtype.kind not in "fiub":
        raise ValueError(f"x: expected (N, T) or (N, T, D) numbers, got {x.shape} of {x.dtype}")
    if y is not None and (y.ndim == 0 or len(y) != len(x)):
        raise ValueError(f"y: expected (N, ...) = ({len(x)}, ...), got {y.shape}")
    n = np.full(len(x), x.shape[1]) if lengths is None else as_array(lengths, "lengths")
    expected = f"({len(x)},) integers of 1 to T = {x.shape[1]}"
    if n.shape != (len(x),) or n.dtype.kind not in "iu":
        raise ValueError(f"lengths: expected {expected}, got {n.shape} of {n.dtype}")
    for i in np.flatnonzero((n < 1) | (n > x.shape[1]))[:1]:
        raise ValueError(f"lengths[{i}] = {n[i]}: expected {expected}")
    rows = max(1, block_size // max(1, x[:1].nbytes))
    starts = range(0, len(x), rows)

    def block(k: int) -> tuple[NDArray[Any], Any]:
        for of, array in ((name, x), ("y", y)):
            _whole_file(of, array)
        part = slice(starts[k], starts[k] + rows)
        found = np.array(x[part], order="C"), None if y is None else np.array(y[part], order="C")
        for array in (x, y):
            _release(array)
        return found

    def checksum(found: tuple[NDArray[Any], Any]) -> int:
        return zlib.crc32(b"" if found[1] is None else found[1].data, zlib.crc32(found[0].data))

    checksums = [checksum(block(k)) for k in range(len(starts))]

    def read(k: int) -> Items:
        found = block(k)
        if checksum(found) != checksums[k]:
            raise OSError(f"{name}: it changed after it was read for the first time, in rows {starts[k]} and after")
        steps = n[starts[k] : starts[k] + rows]
        return [row[:t] for row, t in zip(found[0], steps, strict=True)], found[1]

    sizes = [min(rows, len(x) - start) for start in starts]
    return Source(
        name, sizes, read, zlib.crc32(n.astype(np.int64).tobytes(), zlib.crc32(np.array(checksums).tobytes()))
    )


def _mapped(array: Any, name: str) -> NDArray[Any]:
    if not isinstance(array, str | os.PathLike):
        return array if isinstance(array, np.memmap) else as_array(array, name)
    try:
        return np.lib.format.open_memmap(array, mode="r")
    except ValueError as error:
        raise ValueError(f"{name}: {os.fspath(array)}: expected a .npy file of numbers, got {error}") from error


def _map_of(array: Any) -> Any:
    """The memory map that an array is, or is a view of; None where there is none."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and isinstance(array._mmap, mmap.mmap):  # type: ignore[attr-defined]
            return array
        array = array.base
    return None


def _whole_file(name: str, array: Any) -> None:
    """An OSError where the file of a memory map is shorter than the map: reading there would end the process."""
    if (of := _map_of(array)) is not None:
        start = of.offset - of.offset % mmap.ALLOCATIONGRANULARITY
        expected, found = start + len(of._mmap), of._mmap.size()
        if found < expected:
            raise OSError(f"{name}: it changed: expected a file of {expected} bytes, got {found}")


def _release(array: Any) -> None:
    """Pages of a file that was mapped need not stay in memory; they are read again where they are needed.

    Not those of a copy-on-write map ("c"), which may hold what is in no file.
    """
    of = _map_of(array)
    if of is not None and of.mode != "c":
        with contextlib.suppress(AttributeError, ValueError, OSError):  # not on every system
            of._mmap.madvise(mmap.MADV_DONTNEED)


def series(
    path: PathLike, length: int, horizon: int = 1, *, target: str | None = None, block_size: int = BLOCK
) -> Source:
    """Windows of a CSV file of numbers at consecutive times, for :class:`rnnfast.SequenceRegressor`.

    ``X`` and ``y`` are those of :func:`rnnfast.windows`. The numbers are kept in a temporary file, as float64.

    Parameters
    ----------
    path : path
        See :func:`rnnfast.datasets.read_series`.
    length, horizon : int
        Steps of each past, and steps ahead.
    target : str, optional
        The column that is forecast; None is the last.
    block_size : int
        Bytes of numbers that are read at a time, about.
    """
    for name, value in (("length", length), ("horizon", horizon), ("block_size", block_size)):
        check_positive(name, value)
    spool = Spool()
    names: list[str] = []
    count = 0
    for header, row in series_rows(path):
        names, count = header, count + 1
        spool.write(row.tobytes())
    column = names.index(target) if target in names else -1 if target is None else None
    if column is None:
        raise ValueError(f"target: expected one of the columns {', '.join(names)}, got {target!r}")
    number = count - length - horizon + 1
    if number < 1:
        raise ValueError(f"{path}: expected at least length + horizon = {length + horizon} rows, got {count}")
    wide = 8 * len(names)
    rows = max(1, block_size // (wide * length))  # windows overlap; each is an array of its own in the end
    starts = range(0, number, rows)

    spool.finish()
    ranges = [(start * wide, (min(rows, number - start) + length + horizon - 1) * wide) for start in starts]
    checksums = [zlib.crc32(spool.read(*of)) for of in ranges]

    def read(k: int) -> Items:
        data = spool.read(*ranges[k], checksums[k])
        values = np.frombuffer(data).reshape(-1, len(names))
        X, y = windows(values, length, horizon, target=values[:, column])
        return list(X), list(y)

    return Source(check_path(path), [min(rows, number - start) for start in starts], read, spool.checksum)
