"""Source: sequences on disk in blocks that fit into memory, the parts of it, and what training reads of them.

It knows no form of a file, no estimator and no model.
"""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "Blocks", "Column", "Items", "Part", "Source"]

BLOCK = 16 << 20  # bytes that are read at a time
Items = tuple[Sequence[Any], Sequence[Any] | NDArray[Any] | None]  # sequences, and what is said of each
Found = TypeVar("Found")


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

    Parameters
    ----------
    source : Source
    fraction : float
        About which part of the sequences is held out.
    seed : int
    held_out : bool
        Whether this is that part, or the rest.

    Attributes
    ----------
    X, y : Column
    """

    def __init__(self, source: Source, fraction: float = 0.0, seed: int = 0, held_out: bool = False) -> None:
        if not isinstance(source, Source):
            raise TypeError(f"source: expected one of rnnfast.streaming, got {type(source).__name__}")
        if not 0 <= fraction < 1:
            raise ValueError(f"fraction: expected 0 <= fraction < 1, got {fraction}")
        self.source, self._fraction, self._seed, self._held_out = source, fraction, seed, held_out
        self.sizes = np.array([len(self._rows(k)) for k in range(len(source.sizes))])
        self.X, self.y = Column(self, 0), Column(self, 1)

    def __len__(self) -> int:
        return int(self.sizes.sum())

    def _rows(self, block: int) -> NDArray[np.int64]:
        """Where the sequences of this part are in a block."""
        n = int(self.source.sizes[block])
        if self._fraction == 0:
            return np.arange(0 if self._held_out else n)
        drawn = np.random.default_rng([self._seed, block]).random(n) < self._fraction
        return np.flatnonzero(drawn == self._held_out)

    def find(self, i: int) -> tuple[int, int]:
        """The block of sequence i, and its place among those that the block has of this part."""
        if not 0 <= i < len(self):
            raise IndexError(i)
        ends = np.cumsum(self.sizes)
        block = int(np.searchsorted(ends, i, side="right"))
        return block, i - int(ends[block] - self.sizes[block])

    def places(self, block: int) -> NDArray[np.int64]:
        """Where the sequences of a block are in the source."""
        places: NDArray[np.int64] = self.source.sizes[:block].sum() + self._rows(block)
        return places

    def place(self, i: int) -> int:
        """Where sequence i is in the source."""
        block, k = self.find(i)
        return int(self.places(block)[k])

    def read(self, block: int) -> Items:
        X, y = self.source.read(block)
        if self._fraction == 0:
            return X, y
        rows = self._rows(block)
        said = y[rows] if isinstance(y, np.ndarray) else None if y is None else [y[i] for i in rows]
        return [X[i] for i in rows], said

    def blocks(self) -> Iterator[Items]:
        for block in np.flatnonzero(self.sizes):
            yield self.read(int(block))

    def apply(self, function: Callable[[Any, Any], Found], block: int) -> Found:
        """What a function (X, y) makes of a block; its errors name sequences by their places in the source."""
        X, y = self.read(block)
        with self._naming(int(self.sizes[:block].sum()), len(X)):
            return function(X, y)

    def map(self, function: Callable[[Any, Any], Found]) -> Iterator[Found]:
        for block in np.flatnonzero(self.sizes):
            yield self.apply(function, int(block))

    def learn(self, function: Callable[..., Found], *arguments: Any) -> Found:
        """What a function learns from a column; its errors name sequences by their places in the source."""
        with self._naming(0):
            return function(*arguments)

    @contextlib.contextmanager
    def _naming(self, first: int, count: int = 0) -> Iterator[None]:
        """Errors of ``X[i]`` or ``y[i]``, counted from sequence `first` of this part on, or of `count` sequences."""
        try:
            yield
        except (TypeError, ValueError) as error:
            message = str(error)
            if message.startswith(f"{self.source.name}: "):  # it is said already
                raise
            named = re.match(r"([Xxy]\[)(\d+)(?=\])", message)
            if named and first + int(named[2]) < len(self):
                message = f"{named[1]}{self.place(first + int(named[2]))}{message[named.end() :]}"
            elif count:
                message = f"in its sequences {self.place(first)} to {self.place(first + count - 1)}: {message}"
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{self.source.name}: {message}") from error


class Column:
    """The sequences of a part, or their y: to be gone through from the start, again and again."""

    def __init__(self, part: Part, place: int) -> None:
        self._part, self._place = part, place

    def __len__(self) -> int:
        return len(self._part)

    def map(self, function: Callable[[Any], Found]) -> Iterator[Found]:
        """What a function makes of each block; its errors name sequences by their places in the source."""
        return self._part.map(lambda *found: function(found[self._place]))

    def __iter__(self) -> Iterator[Any]:
        for found in self._part.blocks():
            yield from found[self._place]  # type: ignore[misc]

    def __getitem__(self, i: int) -> Any:
        block, k = self._part.find(i)
        return self._part.read(block)[self._place][k]  # type: ignore[index]


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
        if not callable(encode):
            raise TypeError(f"encode: expected a function of (X, y), got {encode!r:.80}")
        self.part = source if isinstance(source, Part) else Part(source)
        self.encode, self.per_step = encode, per_step
        self._blocks = np.flatnonzero(self.part.sizes)  # those that have sequences
        self.sizes = self.part.sizes[self._blocks]
        self.y = self.part.y

    def __len__(self) -> int:
        return int(self.sizes.sum())

    def block(self, k: int) -> Any:
        block = int(self._blocks[k])
        found = self.part.apply(self._encoded, block)
        with contextlib.suppress(AttributeError):  # what encode returned may have no place for more
            found.places = self.part.places(block)
        return found

    def _encoded(self, X: Any, y: Any) -> Any:
        found = self.encode(X, y)
        if getattr(found, "y", None) is None:
            raise ValueError(f"encode: expected Sequences with targets, got {type(found).__name__} without")
        return found

    def checksum(self) -> int:
        return zlib.crc32(self.sizes.tobytes(), self.part.source.checksum())
