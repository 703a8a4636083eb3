"""Readers of the user's own files, one natural format for each kind of task.

Lines label<TAB>text to classify, CoNLL and CoNLL-U to tag, CSV with a header to regress, plain text to
generate, two columns of a TSV to transduce. All are UTF-8, with or without a byte order mark. A file of
another form is a ValueError that names path:line and what was expected. The command line calls it; it
fetches nothing and knows no model.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import check_path

__all__ = ["Series", "read_classification", "read_pairs", "read_series", "read_tagging", "read_text"]

PathLike = str | os.PathLike[str]
MISSING = {"", "na", "n/a", "null", "none"}  # a first cell that is no date


class Series(NamedTuple):
    """The columns of a CSV file: n rows of numbers at consecutive times."""

    names: list[str]
    values: NDArray[np.float64]  # (n, columns)
    dates: list[str] | None  # (n,), of the first column where it is not a number


def read_classification(path: PathLike) -> tuple[list[str], list[str]]:
    """Read a file of lines ``label<TAB>text``: returns the texts and their labels.

    Blank lines are skipped, spaces around a label or text are dropped, and a text may hold tabs.

    Raises
    ------
    ValueError
        A line of another form or encoding, which is named; a file without any.
    OSError
        The file cannot be read: FileNotFoundError, IsADirectoryError, ...
    """
    labels, texts = _whole(path, "label<TAB>text")
    return texts, labels


def read_pairs(path: PathLike) -> tuple[list[str], list[str]]:
    """Read a file of lines ``source<TAB>target``: returns the sources and their targets.

    Blank lines are skipped, spaces around both are dropped, and a target may hold tabs.

    Raises
    ------
    ValueError
        A line of another form or encoding, which is named; a file without any.
    OSError
        The file cannot be read.
    """
    return _whole(path, "source<TAB>target")


def read_tagging(path: PathLike, column: int | None = None) -> tuple[list[list[str]], list[list[str]]]:
    """Read sentences of tagged tokens: returns, for each sentence, its tokens and their tags.

    One token a line, with a blank line between sentences. The columns are separated by tabs if the first token's
    are, otherwise by spaces; the token is the first. Ten columns separated by tabs are CoNLL-U: the token is FORM
    (the second), and the lines of multiword tokens (``3-4``) and empty nodes (``5.1``) are skipped. A line that
    begins with ``#`` is a comment in CoNLL-U, and in the other formats if it has not as many columns as the
    first token; ``-DOCSTART-`` lines are skipped.

    Parameters
    ----------
    path : path
    column : int, optional
        The place of the tag among the columns, from 0 or, negative, from the end. None: UPOS in CoNLL-U (3),
        otherwise the last one.

    Raises
    ------
    ValueError
        A line without a token and a tag, or in another encoding, which is named; a file without any token.
    OSError
        The file cannot be read.
    """
    lines = list(_lines(path))
    form = tagging_form((line for _, line in lines), column)
    sentences, tags = tagged(lines, path, form)
    if not sentences:
        raise ValueError(f"{path}: expected lines {form.expected}, got an empty file")
    return sentences, tags


class TaggingForm(NamedTuple):
    """How the lines of a CoNLL file are cut."""

    separator: str | None
    width: int
    conllu: bool
    token: int
    place: int  # of the tag
    expected: str


def tagging_form(lines: Iterable[str], column: int | None) -> TaggingForm:
    """The form that the first token of a file tells."""
    first = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    separator = "\t" if "\t" in first else None
    width = len(first.split(separator))
    conllu = separator == "\t" and width == 10
    token, place = (1, 3) if conllu else (0, -1)
    expected = "the 10 columns of CoNLL-U" if conllu else f"token{'<TAB>' if separator else ' '}tag"
    return TaggingForm(separator, width, conllu, token, place if column is None else column, expected)


def tagged(
    lines: Iterable[tuple[int, str]], path: PathLike, form: TaggingForm
) -> tuple[list[list[str]], list[list[str]]]:
    """Tokens and tags of the sentences in some lines of a file."""
    separator, width, conllu, token, place, expected = form
    sentences: list[list[str]] = []
    tags: list[list[str]] = []
    inside = False
    for number, line in lines:
        fields = [field.strip() for field in line.split(separator)]
        if not line.strip() or fields[0] == "-DOCSTART-":
            inside = False
            continue
        if line.startswith("#") and (conllu or len(fields) != width):
            continue
        if conllu and re.fullmatch(r"\d+[-.]\d+", fields[0]):
            continue
        if (conllu and len(fields) != 10) or len(fields) < 2:
            raise ValueError(f"{path}:{number}: expected {expected}, got {_shown(line)}")
        if not -len(fields) <= place < len(fields) or place % len(fields) == token:
            raise ValueError(f"{path}:{number}: expected a tag in column {place}, got {_shown(line)}")
        if not (fields[token] and fields[place]):
            raise ValueError(f"{path}:{number}: expected a token and its tag, got {_shown(line)}")
        if not inside:
            sentences.append([])
            tags.append([])
            inside = True
        sentences[-1].append(fields[token])
        tags[-1].append(fields[place])
    return sentences, tags


def read_series(path: PathLike) -> Series:
    """Read a CSV file with a header: rows of numbers at consecutive times.

    Where the first column of the first row is not a number, the column is taken for dates, or other names of
    the rows, and kept apart as text.

    Returns
    -------
    Series
        ``names`` of the columns, ``values`` (n, columns), and ``dates`` (n,) or None.

    Raises
    ------
    ValueError
        A cell that is not a finite number, a row of another length than the header, or another encoding, which is
        named by its line and column; a header that has numbers, a name twice, or nothing but dates; no row.
    OSError
        The file cannot be read.
    """
    found = list(_series(path, _lines(path)))
    dates = [date for _, _, date in found if date is not None]
    return Series(found[0][0], np.array([values for _, values, _ in found]), dates or None)


def series_rows(path: PathLike) -> Iterator[tuple[list[str], NDArray[np.float64]]]:
    """Yield the names of the columns and each row of numbers: a CSV file line by line."""
    with open(check_path(path), "rb") as file:
        lines = (line.removeprefix(codecs.BOM_UTF8) if k == 0 else line for k, line in enumerate(file))
        for names, values, _ in _series(path, decoded((line.removesuffix(b"\n") for line in lines), path)):
            yield names, values


def _series(
    path: PathLike, lines: Iterable[tuple[int, str]]
) -> Iterator[tuple[list[str], NDArray[np.float64], str | None]]:
    """Yield the names of the columns, and of each row its numbers and, where rows have such, its date."""
    rows = ((n, [c.strip() for c in row]) for n, row in _rows(path, lines) if any(cell.strip() for cell in row))
    first = list(itertools.islice(rows, 2))
    if len(first) < 2:
        raise ValueError(f"{path}: expected a line of names and lines of numbers, got {len(first)} lines")
    number, header = first[0]
    dated = _number(first[1][1][0]) is None and first[1][1][0].lower() not in MISSING
    names = header[dated:]
    if not names:
        raise ValueError(f"{path}:{number}: expected at least one column of numbers, got {header[0]!r} alone")
    for name in names:
        if _number(name) is not None or not name or names.count(name) > 1:
            raise ValueError(f"{path}:{number}: expected a header of different names, got {name!r}")
    for number, cells in itertools.chain(first[1:], rows):
        if len(cells) != len(header):
            raise ValueError(f"{path}:{number}: expected {len(header)} columns as in the header, got {len(cells)}")
        values = np.empty(len(names))
        for place, (name, cell) in enumerate(zip(names, cells[dated:], strict=True)):
            value = _number(cell)
            if value is None or not math.isfinite(value):
                raise ValueError(f"{path}:{number}: column {name!r}: expected a finite number, got {cell!r}")
            values[place] = value
        yield names, values, cells[0] if dated else None


def read_text(path: PathLike) -> str:
    """Read a text; ends of lines become ``\\n``.

    Raises
    ------
    ValueError
        An empty file, or another encoding, whose line is named.
    OSError
        The file cannot be read.
    """
    text = "\n".join(line for _, line in _lines(path))
    if not text.strip():
        raise ValueError(f"{path}: expected text, got an empty file")
    return text


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _shown(line: str) -> str:
    return repr(line if len(line) <= 60 else line[:57] + "...")


def _lines(path: PathLike) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line; ValueError for the first that is not UTF-8."""
    return decoded(Path(check_path(path)).read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n"), path)


def decoded(lines: Iterable[bytes], path: PathLike, first: int = 1) -> Iterator[tuple[int, str]]:
    """Yield number and text of some lines of a file, from its line `first` on."""
    for number, line in enumerate(lines, start=first):
        try:
            yield number, line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            byte, place = line[error.start], error.start + 1
            raise ValueError(f"{path}:{number}: expected UTF-8, got byte 0x{byte:02x} at column {place}") from None


def _rows(path: PathLike, lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV file with the number of their last line."""
    reader = csv.reader(line + "\n" for _, line in lines)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f"{path}:{reader.line_num}: expected comma-separated values, got {error}") from None
        yield reader.line_num, row


def _whole(path: PathLike, expected: str) -> tuple[list[str], list[str]]:
    first, second = two_columns(_lines(path), path, expected)
    if not first:
        raise ValueError(f"{path}: expected lines {expected}, got an empty file")
    return first, second


def two_columns(lines: Iterable[tuple[int, str]], path: PathLike, expected: str) -> tuple[list[str], list[str]]:
    """Both sides of the tab in some lines of a file."""
    first, second = [], []
    for number, line in lines:
        if not line.strip():
            continue
        left, tab, right = line.partition("\t")
        if not (tab and left.strip() and right.strip()):
            raise ValueError(f"{path}:{number}: expected {expected}, got {_shown(line)}")
        first.append(left.strip())
        second.append(right.strip())
    return first, second
