"""datasets/readers.py: every format, what it tolerates, and errors that name the line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rnnfast.datasets import read_classification


def test_read_classification(tmp_path: Path) -> None:
    path = tmp_path / "data.tsv"
    path.write_bytes(b"\xef\xbb\xbfpos\tgood film\r\n\r\n neg \t bad\tfilm \n  \n\xc3\xa9\tcaf\xc3\xa9\xe2\x80\xa8x")
    texts, labels = read_classification(path)
    assert texts == ["good film", "bad\tfilm", "caf\u00e9\u2028x"]
    assert labels == ["pos", "neg", "\u00e9"]
    assert read_classification(str(path)) == (texts, labels)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "data.tsv: expected lines label<TAB>text, got an empty file"),
        (b"\n \r\n", "data.tsv: expected lines label<TAB>text, got an empty file"),
        (b"a\tb\nno tab\n", "data.tsv:2: expected label<TAB>text, got 'no tab'"),
        (b"a\tb\r\n\r\n\tno label\r\n", "data.tsv:3: expected label<TAB>text, got '\\tno label'"),
        (b"label\t \n", "data.tsv:1: expected label<TAB>text, got 'label\\t '"),
        (b"a\tb\n" + b"x" * 99, f"data.tsv:2: expected label<TAB>text, got '{'x' * 57}...'"),
        (b"a\tb\nc\tcaf\xe9\n", "data.tsv:2: expected UTF-8, got byte 0xe9 at column 6"),
        ("a\tb\n".encode("utf-16"), "data.tsv:1: expected UTF-8, got byte 0xff at column 1"),
    ],
)
def test_read_classification_errors(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "data.tsv"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_classification(path)


def test_read_classification_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        read_classification(tmp_path / "absent.tsv")
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        read_classification(tmp_path)
