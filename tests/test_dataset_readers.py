"""datasets/readers.py: every format, what it tolerates, and errors that name the line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rnnfast.datasets import read_classification, read_pairs, read_series, read_tagging, read_text


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


def test_read_pairs(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_bytes("\ufeffMoscow\tМосква\r\n\r\n a b \t c\td \n".encode())
    assert read_pairs(path) == (["Moscow", "a b"], ["Москва", "c\td"])
    path.write_text("a\tb\nc\n")
    with pytest.raises(ValueError, match=re.escape("pairs.tsv:2: expected source<TAB>target, got 'c'")):
        read_pairs(path)
    path.write_text("")
    with pytest.raises(ValueError, match="expected lines source<TAB>target, got an empty file"):
        read_pairs(path)


def written(folder: Path, text: str, name: str = "data") -> Path:
    (folder / name).write_bytes(text.encode())
    return folder / name


@pytest.mark.parametrize("tab", ["\t", " "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_read_tagging(tmp_path: Path, tab: str, end: str) -> None:
    lines = [
        "",
        "# a comment here it is",
        "-DOCSTART-|-X-|O",
        "",
        "EU|NNP|B-ORG",
        "rejects|VBZ|O",
        "",
        " ",
        "#|SYM|O",
        "",
    ]
    path = written(tmp_path, "\ufeff" + end.join(lines).replace("|", tab))
    sentences = [["EU", "rejects"], ["#"]]
    assert read_tagging(path) == (sentences, [["B-ORG", "O"], ["O"]])
    assert read_tagging(str(path), column=1) == (sentences, [["NNP", "VBZ"], ["SYM"]])
    assert read_tagging(path, column=-2) == read_tagging(path, column=1)


def test_tokens_with_spaces_between_tabs(tmp_path: Path) -> None:
    path = written(tmp_path, "New York\tLOC\nis\tO\n10 000\tNUM")
    assert read_tagging(path) == ([["New York", "is", "10 000"]], [["LOC", "O", "NUM"]])


def test_read_conllu(tmp_path: Path) -> None:
    rest = "\t_\t_\t_\t_\t_"
    lines = ["# sent_id = 1", "# text = del x", f"1-2\tdel\t_\t_\t_{rest}", f"1\tde\tde\tADP\tIN{rest}"]
    lines += [f"2\tel\tel\tDET\tDT{rest}", f"2.1\tz\tz\tX\tX{rest}", "", "# text = #", f"1\t#\t#\tSYM\tHASH{rest}", ""]
    path = written(tmp_path, "\n".join(lines))
    assert read_tagging(path) == ([["de", "el"], ["#"]], [["ADP", "DET"], ["SYM"]])
    assert read_tagging(path, column=4)[1] == [["IN", "DT"], ["HASH"]]


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", None, "data: expected lines token tag, got an empty file"),
        ("\n# only a comment\n", None, "data: expected lines token tag, got an empty file"),
        ("a\tX\nb\n", None, "data:2: expected token<TAB>tag, got 'b'"),
        ("a X\nb\n", None, "data:2: expected token tag, got 'b'"),
        ("a\tX\n\nb\t\n", None, "data:3: expected a token and its tag, got 'b\\t'"),
        ("a\tX\n\tY\n", None, "data:2: expected a token and its tag, got '\\tY'"),
        ("a\tX\nb\tY\tZ\n", 2, "data:1: expected a tag in column 2, got 'a\\tX'"),
        ("a\tX\n", 0, "data:1: expected a tag in column 0, got 'a\\tX'"),
        ("a\tX\n", -2, "data:1: expected a tag in column -2, got 'a\\tX'"),
        ("1" + "\tx" * 9 + "\n2\tx\ty\n", None, "data:2: expected the 10 columns of CoNLL-U, got '2\\tx\\ty'"),
        ("a\tX\n" + "b" * 70, None, f"data:2: expected token<TAB>tag, got '{'b' * 57}...'"),
    ],
)
def test_read_tagging_errors(tmp_path: Path, text: str, column: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read_tagging(written(tmp_path, text), column)


def test_read_series(tmp_path: Path) -> None:
    series = read_series(written(tmp_path, "\ufeffdate, wind ,rain\r\n2020-01-01,1.5,-2e1\r\n\r\n2020-01-02, 0 ,3\r\n"))
    assert series.names == ["wind", "rain"]
    assert series.values.tolist() == [[1.5, -20], [0, 3]]
    assert series.values.dtype == np.float64
    assert series.dates == ["2020-01-01", "2020-01-02"]
    names, values, dates = read_series(written(tmp_path, 'a,"b, c"\n1,2\n'))
    assert (names, values.tolist(), dates) == (["a", "b, c"], [[1, 2]], None)
    assert read_series(written(tmp_path, ",x\n2020-01-01,2\n")).names == ["x"]  # as pandas writes an index


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "data: expected a line of names and lines of numbers, got 0 lines"),
        ("a,b\n", "data: expected a line of names and lines of numbers, got 1 lines"),
        ("1,2\n3,4\n", "data:1: expected a header of different names, got '1'"),
        ("a,a\n3,4\n", "data:1: expected a header of different names, got 'a'"),
        ("a,\n3,4\n", "data:1: expected a header of different names, got ''"),
        ("date\n2020-01-01\n", "data:1: expected at least one column of numbers, got 'date' alone"),
        ("a,b\n1,2\n\n3,nan\n", "data:4: column 'b': expected a finite number, got 'nan'"),
        ("a,b\nNaN,2\n", "data:2: column 'a': expected a finite number, got 'NaN'"),
        ("a,b\n,2\n", "data:2: column 'a': expected a finite number, got ''"),
        ("a,b\n1,inf\n", "data:2: column 'b': expected a finite number, got 'inf'"),
        ("d,b\nMon,1\nTue,x y\n", "data:3: column 'b': expected a finite number, got 'x y'"),
        ("a,b\n1,2\n3\n", "data:3: expected 2 columns as in the header, got 1"),
        ("a,b\n1,2\n3,4,5\n", "data:3: expected 2 columns as in the header, got 3"),
        ('a,b\n1,"3\n4"\n', "data:3: column 'b': expected a finite number, got '3\\n4'"),
        ("a,b\nN/A,2\n", "data:2: column 'a': expected a finite number, got 'N/A'"),
    ],
)
def test_read_series_errors(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read_series(written(tmp_path, text))


def test_read_text(tmp_path: Path) -> None:
    assert read_text(written(tmp_path, "\ufeffone\r\n\ttwo\u2028x\n\n")) == "one\n\ttwo\u2028x\n\n"
    with pytest.raises(ValueError, match="data: expected text, got an empty file"):
        read_text(written(tmp_path, " \n"))


@pytest.mark.parametrize("read", [read_classification, read_pairs, read_series, read_tagging, read_text])
def test_encoding_and_absence_of_each(tmp_path: Path, read: Any) -> None:
    (tmp_path / "data").write_bytes(b"a\tb\ncaf\xe9\tx\n")
    with pytest.raises(ValueError, match=re.escape("data:2: expected UTF-8, got byte 0xe9 at column 4")):
        read(tmp_path / "data")
    with pytest.raises(FileNotFoundError, match="absent"):
        read(tmp_path / "absent")
