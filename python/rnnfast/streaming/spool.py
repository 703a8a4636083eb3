"""Items of an iterator, and the temporary file that keeps them, or numbers of a CSV file."""

from __future__ import annotations

import contextlib
import os
import pickle
import tempfile
import threading
import weakref
import zlib
from collections.abc import Iterable
from typing import IO, Any

from ..checks import check_positive
from .sources import Items, Source

__all__ = ["Spool", "items"]

PathLike = str | os.PathLike[str]


class Spool:
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
    check_positive("block_size", block_size)
    if not isinstance(iterable, Iterable):
        raise TypeError(f"iterable: expected an iterable, got {iterable!r:.80}")
    spool, places = Spool(folder), [0]
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
