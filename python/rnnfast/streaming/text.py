"""Text files by line: texts, labelled texts, pairs, and tagged sentences, in the forms of datasets/readers.py."""

from __future__ import annotations

import codecs
import io
import os
import re
import zlib
from collections.abc import Callable, Iterable

import numpy as np

from ..checks import check_path, check_positive
from ..datasets.readers import decoded, tagged, tagging_form, two_columns
from .sources import BLOCK, Items, Source

__all__ = ["classification", "lines", "pairs", "tagging"]

PathLike = str | os.PathLike[str]


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
        Bytes that are no UTF-8, named by line and column; nothing but blank lines.
    OSError
        The file is not there, or changes while it is read.

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
    path = check_path(path)
    with open(path, "rb") as file:  # up to its first token, however far that is
        lines = (line.removeprefix(codecs.BOM_UTF8) if k == 0 else line for k, line in enumerate(file))
        form = tagging_form((line for _, line in decoded((line.removesuffix(b"\n") for line in lines), path)), column)
    return _text(path, lambda numbered: tagged(numbered, path, form), True, block_size)


def _text(
    path: PathLike, parse: Callable[[Iterable[tuple[int, str]]], Items], sentences: bool, block_size: int
) -> Source:
    """Blocks that end where a line ends, or a blank line."""
    check_positive("block_size", block_size)
    path = check_path(path)
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

    return Source(path, sizes, read, zlib.crc32(np.array(places, np.int64).tobytes()))


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
