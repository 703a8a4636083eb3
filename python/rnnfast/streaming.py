"""Data larger than memory: sources that are read from disk a block at a time, for fit and predict_each.

``lines``, ``classification``, ``tagging``, ``pairs``, ``series``, ``arrays`` and ``items`` make a Source of a file, an
array on disk or an iterator: they go through it once, check it, and remember where its blocks are. The estimators
learn from a Source in place of lists; training.py shuffles its blocks, and the sequences within each. It knows no
estimator and no model.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import mmap
import os
import pickle
import re
import tempfile
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .datasets.readers import decoded, series_rows, tagged, tagging_form, two_columns
from .preprocessing import windows

__all__ = [
    "Blocks",
    "Column",
    "Part",
    "Source",
    "arrays",
    "classification",
    "items",
    "lines",
    "pairs",
    "series",
    "tagging",
]

Items = tuple[list[Any], list[Any] | None]  # sequences, and what is said of each
PathLike = str | os.PathLike[str]
BLOCK = 16 << 20  # bytes


class Source:
    """Sequences on disk, and what is said of each, in blocks that fit into memory.

    Attributes
    ----------
    name : str
        In errors.
    sizes : (blocks,) integers
        Sequences of each block.
    labelled : bool
        Whether there is a y.
    """

    def __init__(self, name: str, sizes: Sequence[int], read: Callable[[int], Items], checksum: int) -> None:
        self.name, self.sizes, self._read, self._checksum = name, np.asarray(sizes, np.int64), read, checksum
        if self.sizes.sum() == 0:
            raise ValueError(f"{name}: expected at least one sequence, got none")
        self.labelled = self.read(int(np.argmax(self.sizes > 0)))[1] is not None

    def __len__(self) -> int:
        return int(self.sizes.sum())

    def __repr__(self) -> str:
        return f"<Source {self.name}: {len(self):,} sequences in {len(self.sizes):,} blocks>"

    def __copy__(self) -> Source:
        return self

    def __deepcopy__(self, memo: Any) -> Source:
        return self

    def __reduce__(self) -> Any:
        raise TypeError(f"{self.name}: a source cannot be pickled; make it in the process that reads it")

    def read(self, block: int) -> Items:
        """The sequences of a block and what is said of each, or None.

        Raises
        ------
        OSError
            The file is not what it was when the source was made.
        """
        X, y = self._read(block)
        if len(X) != self.sizes[block]:
            raise OSError(f"{self.name}: it changed: expected {self.sizes[block]} sequences in block {block}, "
                          f"got {len(X)}")  # fmt: skip
        return X, y

    def checksum(self) -> int:
        """CRC-32 of the whole: by it a checkpoint, and another rank, know the data."""
        return self._checksum


class Part:
    """A source, or the sequences of it that are held out, or those that are not: chosen by lot in each block.

    Attributes
    ----------
    X, y : Column
    """

    def __init__(self, source: Source, fraction: float = 0.0, seed: int = 0, held_out: bool = False) -> None:
        self.source, self._fraction, self._seed, self._held_out = source, fraction, seed, held_out
        self.sizes = np.array([int(self._chosen(k).sum()) for k in range(len(source.sizes))])
        self.X, self.y = Column(self, 0), Column(self, 1)

    def __len__(self) -> int:
        return int(self.sizes.sum())

    def _chosen(self, block: int) -> NDArray[np.bool_]:
        n = int(self.source.sizes[block])
        if self._fraction == 0:
            return np.full(n, not self._held_out)
        drawn = np.random.default_rng([self._seed, block]).random(n) < self._fraction
        chosen: NDArray[np.bool_] = drawn == self._held_out
        return chosen

    def read(self, block: int) -> Items:
        X, y = self.source.read(block)
        if self._fraction == 0:
            return X, y
        rows = np.flatnonzero(self._chosen(block))
        return [X[i] for i in rows], None if y is None else [y[i] for i in rows]

    def blocks(self) -> Iterator[Items]:
        for block in np.flatnonzero(self.sizes):
            yield self.read(int(block))


class Column:
    """The sequences of a part, or their y: to be gone through from the start, again and again."""

    def __init__(self, part: Part, place: int) -> None:
        self._part, self._place = part, place

    def __len__(self) -> int:
        return len(self._part)

    def blocks(self) -> Iterator[list[Any]]:
        for found in self._part.blocks():
            yield found[self._place]  # type: ignore[misc]

    def __iter__(self) -> Iterator[Any]:
        for block in self.blocks():
            yield from block

    def __getitem__(self, i: int) -> Any:
        ends = np.cumsum(self._part.sizes)
        if not 0 <= i < len(self):
            raise IndexError(i)
        block = int(np.searchsorted(ends, i, side="right"))
        return self._part.read(block)[self._place][i - int(ends[block] - self._part.sizes[block])]  # type: ignore[index]


class Blocks:
    """What :func:`rnnfast.fit` trains on, or chooses the best pass with, a block at a time.

    Each pass takes the blocks in another order, and the sequences of each in another order; both follow from the seed
    of fit. A checkpoint within a pass goes on after reading what was done of it.

    Parameters
    ----------
    source : Source or Part
    encode : function (X, y) -> Sequences
        Of the lists of one block, or anything like Sequences.
    per_step : bool
        Whether `y` has a target for each step.

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> source = rnnfast.streaming.items(([k % 5, 1, 2], k % 2) for k in range(1000))
    >>> data = rnnfast.streaming.Blocks(source, lambda X, y: rnnfast.Sequences([np.array(ids) for ids in X], y))
    >>> network = rnnfast.Network(5, 4, 2, embedding_size=3, seed=0)
    >>> len(rnnfast.fit(network, data, max_epochs=2, seed=0)["loss"])
    2
    """

    def __init__(self, source: Source | Part, encode: Callable[[Any, Any], Any], per_step: bool = False) -> None:
        self.source, self.encode, self.per_step = source, encode, per_step
        self.blocks = np.flatnonzero(source.sizes)  # those that have sequences
        self.sizes = source.sizes[self.blocks]
        self.y = source  # targets are in the blocks

    def __len__(self) -> int:
        return int(self.sizes.sum())

    def block(self, k: int) -> Any:
        X, y = self.source.read(int(self.blocks[k]))
        try:
            found = self.encode(X, y)
            if getattr(found, "y", None) is None:
                raise ValueError(f"encode: expected Sequences with targets, got {type(found).__name__} without")
            return found
        except (TypeError, ValueError) as error:
            start = int(self.sizes[:k].sum())
            place = f"{_source(self.source).name}: in its sequences {start} to {start + len(X) - 1}: {error}"
            raise (TypeError if isinstance(error, TypeError) else ValueError)(place) from error

    def checksum(self) -> int:
        return zlib.crc32(self.sizes.tobytes(), _source(self.source).checksum())


def _source(source: Source | Part) -> Source:
    return source.source if isinstance(source, Part) else source


# ---- text files


def lines(path: PathLike, *, block_size: int = BLOCK) -> Source:
    """Each line of a UTF-8 text file that is not blank, as a sequence: for :class:`rnnfast.SequenceGenerator`.

    Parameters
    ----------
    path : path
    block_size : int
        Bytes that are read at a time, about.

    Raises
    ------
    ValueError
        A line of another form or encoding, which is named; a file without any.
    OSError
        The file cannot be read.

    Examples
    --------
    >>> import pathlib, rnnfast, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "boats.txt")
    ...     _ = path.write_text("row row\\nyour boat\\n" * 50)
    ...     source = rnnfast.streaming.lines(path)
    ...     model = rnnfast.SequenceGenerator(hidden_size=8, max_epochs=1, random_state=0).fit(source)
    >>> len(source), len(model.encoder_.vocabulary)
    (100, 13)
    """

    def parse(numbered: Iterable[tuple[int, str]]) -> Items:
        return [line for _, line in numbered if line.strip()], None

    return _text(path, parse, False, block_size)


def classification(path: PathLike, *, block_size: int = BLOCK) -> Source:
    """Lines ``label<TAB>text``, for :class:`rnnfast.SequenceClassifier`: see :func:`lines`."""

    def parse(numbered: Iterable[tuple[int, str]]) -> Items:
        labels, texts = two_columns(numbered, path, "label<TAB>text")
        return texts, labels

    return _text(path, parse, False, block_size)


def pairs(path: PathLike, *, block_size: int = BLOCK) -> Source:
    """Lines ``source<TAB>target``, for :class:`rnnfast.SequenceTransducer`: see :func:`lines`."""
    return _text(path, lambda numbered: two_columns(numbered, path, "source<TAB>target"), False, block_size)


def tagging(path: PathLike, column: int | None = None, *, block_size: int = BLOCK) -> Source:
    """Sentences of CoNLL or CoNLL-U, for :class:`rnnfast.SequenceTagger`: see :func:`lines`.

    `column` is as in :func:`rnnfast.datasets.read_tagging`.
    """
    with open(path, "rb") as file:  # up to its first token, however far that is
        lines = (line.removeprefix(codecs.BOM_UTF8) if k == 0 else line for k, line in enumerate(file))
        form = tagging_form((line for _, line in decoded((line.removesuffix(b"\n") for line in lines), path)), column)
    return _text(path, lambda numbered: tagged(numbered, path, form), True, block_size)


def _text(
    path: PathLike, parse: Callable[[Iterable[tuple[int, str]]], Items], sentences: bool, block_size: int
) -> Source:
    """Blocks that end where a line ends, or a blank line."""
    _positive("block_size", block_size)
    here = os.path.abspath(path)  # the working folder may change
    places: list[tuple[int, int, int, int]] = []  # of each block: first byte, bytes, first line, CRC-32
    sizes: list[int] = []

    def parsed(data: bytes, first: int) -> Items:
        return parse(decoded(data.removesuffix(b"\n").split(b"\n"), path, first))

    with open(path, "rb") as file:
        identity = _identity(file)
        start, line, rest = 0, 1, b""
        while True:
            more = file.read(block_size)
            data = rest + more
            if not data:
                break
            end = len(data) if not more else _last_end(data, sentences)
            if end == 0:  # no end yet
                rest = data
                continue
            data, rest = data[:end], data[end:]
            text = data.removeprefix(codecs.BOM_UTF8) if start == 0 else data
            sizes.append(len(parsed(text, line)[0]))
            places.append((start, end, line, zlib.crc32(data)))
            start, line = start + end, line + data.count(b"\n")
        if identity != _identity(file):
            raise OSError(f"{path}: it changed while it was read")

    def read(block: int) -> Items:
        start, size, line, checksum = places[block]
        with open(here, "rb") as file:
            if _identity(file) != identity:
                raise OSError(f"{path}: it changed after it was read for the first time")
            file.seek(start)
            data = file.read(size)
        if zlib.crc32(data) != checksum:
            raise OSError(
                f"{path}: it changed after it was read for the first time, at bytes {start} to {start + size}"
            )
        return parsed(data.removeprefix(codecs.BOM_UTF8) if start == 0 else data, line)

    return Source(os.fspath(path), sizes, read, zlib.crc32(np.array(places, np.int64).tobytes()))


def _last_end(data: bytes, sentences: bool) -> int:
    """Behind the last line, or blank line, of a part of a file; 0 where there is none."""
    if not sentences:
        return data.rfind(b"\n") + 1
    for blank in (b"\n\n", b"\n\r\n"):
        if (place := data.rfind(blank)) >= 0:
            return place + len(blank)
    return max((match.end() for match in re.finditer(rb"\n[ \t\r\f\v]*(?=\n)", data)), default=-1) + 1


def _identity(file: io.BufferedReader) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


# ---- arrays


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
    _positive("block_size", block_size)
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
    n = np.full(len(x), x.shape[1]) if lengths is None else np.asarray(lengths)
    if n.shape != (len(x),) or n.dtype.kind not in "iu" or (len(n) and not 0 < n.min() <= n.max() <= x.shape[1]):
        raise ValueError(f"lengths: expected ({len(x)},) integers of 1 to T = {x.shape[1]}, got {n.shape} of {n.dtype}")
    rows = max(1, block_size // max(1, x[:1].nbytes))
    starts = range(0, len(x), rows)
    checksums = []

    def block(k: int) -> tuple[NDArray[Any], Any]:
        for of, array in ((name, x), ("y", y)):
            _whole_file(of, array)
        part = slice(starts[k], starts[k] + rows)
        found = np.array(x[part], order="C"), None if y is None else np.array(y[part], order="C")
        for array in (x, y):
            _release(array)
        return found

    def checksum(found: tuple[NDArray[Any], Any]) -> int:
        return zlib.crc32(b"" if found[1] is None else np.ascontiguousarray(found[1]).data, zlib.crc32(found[0].data))

    for k in range(len(starts)):
        checksums.append(checksum(block(k)))

    def read(k: int) -> Items:
        found = block(k)
        if checksum(found) != checksums[k]:
            raise OSError(f"{name}: it changed after it was read for the first time, in rows {starts[k]} and after")
        steps = n[starts[k] : starts[k] + rows]
        return [row[:t] for row, t in zip(found[0], steps, strict=True)], None if found[1] is None else list(found[1])

    sizes = [min(rows, len(x) - start) for start in starts]
    return Source(
        name, sizes, read, zlib.crc32(n.astype(np.int64).tobytes(), zlib.crc32(np.array(checksums).tobytes()))
    )


def _mapped(array: Any, name: str) -> NDArray[Any]:
    if not isinstance(array, str | os.PathLike):
        return np.asanyarray(array)
    try:
        return np.lib.format.open_memmap(array, mode="r")
    except ValueError as error:
        raise ValueError(f"{name}: {os.fspath(array)}: expected a .npy file of numbers, got {error}") from error


def _whole_file(name: str, array: Any) -> None:
    """An OSError where the file of a memory map is shorter than the map: reading there would end the process."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and isinstance(array._mmap, mmap.mmap):  # type: ignore[attr-defined]
            start = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
            expected, found = start + len(array._mmap), array._mmap.size()  # type: ignore[attr-defined]
            if found < expected:
                raise OSError(f"{name}: it changed: expected a file of {expected} bytes, got {found}")
            return
        array = array.base


def _release(array: Any) -> None:
    """Pages of a file that was mapped need not stay in memory; they are read again where they are needed."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and isinstance(array._mmap, mmap.mmap):  # type: ignore[attr-defined]
            with contextlib.suppress(AttributeError, ValueError, OSError):  # not on every system
                array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
        array = array.base


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
        _positive(name, value)
    spool = _Spool()
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

    return Source(os.fspath(path), [min(rows, number - start) for start in starts], read, spool.checksum)


def items(
    iterable: Iterable[Any], *, labelled: bool = True, block_size: int = 1000, folder: PathLike | None = None
) -> Source:
    """What an iterator yields, kept in a temporary file: pairs (x, y), or with ``labelled=False`` sequences x alone.

    Parameters
    ----------
    iterable : iterable
        Gone through once.
    block_size : int
        Sequences that are read at a time.
    folder : path, optional
        Where the temporary file is; None is the system's place. It goes with the source.

    Raises
    ------
    OSError
        The disk is full: names the folder.
    TypeError
        An item is no pair.
    """
    _positive("block_size", block_size)
    if not isinstance(iterable, Iterable):
        raise TypeError(f"iterable: expected an iterable, got {iterable!r:.80}")
    spool, places = _Spool(folder), [0]
    sizes: list[int] = []
    checksums: list[int] = []

    def keep(found: list[Any]) -> None:
        try:
            data = pickle.dumps(found, pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # of the items' own kinds
            place = f"items {sum(sizes)} to {sum(sizes) + len(found) - 1}"
            raise TypeError(f"{place}: expected what can be pickled; {error}") from error
        spool.write(data)
        places.append(spool.size)
        checksums.append(zlib.crc32(data))
        sizes.append(len(found))

    part: list[Any] = []
    for i, item in enumerate(iterable):
        if labelled and not (isinstance(item, tuple | list) and len(item) == 2):
            raise TypeError(f"item {i}: expected a pair (x, y), got {item!r:.80}; or pass labelled=False")
        part.append(item)
        if len(part) == block_size:
            keep(part)
            part = []
    if part:
        keep(part)
    spool.finish()

    def read(k: int) -> Items:
        found = pickle.loads(spool.read(places[k], places[k + 1] - places[k], checksums[k]))
        return ([x for x, _ in found], [y for _, y in found]) if labelled else (found, None)

    return Source("items", sizes, read, spool.checksum)


class _Spool:
    """A temporary file without a name, that ends with its last user."""

    def __init__(self, folder: PathLike | None = None) -> None:
        self.size = self.checksum = 0
        self._lock = threading.Lock()
        self._folder = os.fspath(folder or tempfile.gettempdir())
        self._file = tempfile.TemporaryFile(dir=folder, prefix="rnnfast-")  # noqa: SIM115, it ends with this object
        weakref.finalize(self, _close, self._file)

    def write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise self._named(error) from error
        self.size += len(data)
        self.checksum = zlib.crc32(data, self.checksum)

    def finish(self) -> None:
        """Nothing more is written."""
        try:
            self._file.flush()
        except OSError as error:
            raise self._named(error) from error

    def read(self, start: int, size: int, checksum: int | None = None) -> bytes:
        """By place, so that threads and forked processes do not move each other's."""
        if hasattr(os, "pread"):
            parts = []
            while size and (part := os.pread(self._file.fileno(), size, start)):
                parts.append(part)
                start, size = start + len(part), size - len(part)
            data = b"".join(parts)
        else:
            with self._lock:
                self._file.seek(start)
                data = self._file.read(size)
        if checksum is not None and zlib.crc32(data) != checksum:
            raise OSError(f"{self._folder}: a temporary file changed after it was written")
        return data

    def _named(self, error: OSError) -> OSError:
        return OSError(error.errno, f"{error.strerror}, for a temporary file of {self.size} bytes", self._folder)


def _close(file: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # a full disk was told of before
        file.close()


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: expected a positive integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name}: expected a positive integer, got {value}")
