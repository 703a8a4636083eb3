"""Loaders of sequences of numbers: sound, motion, melodies, weather, prices, digits, and the adding problem.

Each fetches one pinned package and parses what it needs out of it; what it returns are NumPy arrays, in lists where
their lengths differ. Called by `available` and by users; it knows no model.
"""

from __future__ import annotations

import csv
import gzip
import importlib.metadata
import io
import re
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from ..checks import generator_of
from .fetching import member, members, unpack

__all__ = [
    "adding_problem",
    "load_basic_motions",
    "load_chorales",
    "load_digits",
    "load_hourly_temperature",
    "load_japanese_vowels",
    "load_pickup_gesture",
    "load_stocks",
    "load_tunes",
    "load_weather",
]

Floats = NDArray[np.float64]
Split = tuple[list[Floats], list[str], list[Floats], list[str]]


def load_japanese_vowels(equal_length: bool = False) -> Split:
    """Return utterances of nine speakers: X_train, y_train, X_test, y_test.

    Each of the 270 + 370 utterances is a (T, 12) array, T from 7 to 29: 12 cepstrum coefficients of a frame of one
    man's saying /ae/. Its label is the speaker, "1" to "9".

    Parameters
    ----------
    equal_length : bool
        The twin, in which each utterance is stretched to 25 frames.

    Raises
    ------
    DatasetError
        The data cannot be fetched.

    Notes
    -----
    M. Kudo, J. Toyama and M. Shimbo. Multidimensional curve classification using passing-through regions. Pattern
    Recognition Letters 20, 1999. The split is theirs: 30 utterances of each speaker to train, 24 to 88 to test. From
    the UCI repository (CC BY 4.0) by way of the package aeon 1.6.0 (BSD-3). A logistic regression on each
    channel's mean and deviation is hard to beat here.
    """
    return _ts("JapaneseVowels_eq" if equal_length else "JapaneseVowels")


def load_basic_motions() -> Split:
    """Return what four people with a smart watch did: X_train, y_train, X_test, y_test.

    Each of the 40 + 40 clips is a (100, 6) array, ten seconds at 10 Hz: acceleration along x, y, z, then rotation about
    them. The labels are "Standing", "Running", "Walking" and "Badminton".

    Raises
    ------
    DatasetError
        The data cannot be fetched.

    Notes
    -----
    A. Bagnall et al. The UEA multivariate time series classification archive, 2018. In the package aeon 1.6.0 (BSD-3).
    Small: one clip of the test part is 2.5 %.
    """
    return _ts("BasicMotions")


def load_pickup_gesture(equal_length: bool = False) -> Split:
    """Return ten people's picking up of a remote control: X_train, y_train, X_test, y_test.

    Each of the 50 + 50 gestures is a (T, 1) array, T from 29 to 361: the acceleration along z. Its label is the
    person, "1" to "10".

    Parameters
    ----------
    equal_length : bool
        The twin, in which each gesture is continued to 361 steps by noise.

    Raises
    ------
    DatasetError
        The data cannot be fetched.

    Notes
    -----
    J. Guna, I. Humar and M. Pogačnik. Intuitive gesture based user identification system. TSP 2012;
    PickupGestureWiimoteZ of the UCR archive, in the package aeon 1.6.0 (BSD-3). Small and long: hard for a
    recurrent network.
    """
    return _ts("PickupGestureWiimoteZ_eq" if equal_length else "PickupGestureWiimoteZ")


def _ts(name: str) -> Split:
    """Both parts of a data set in the format .ts: after @data channels separated by colons, the last one the label."""
    files = members("aeon", f"aeon/datasets/data/*/{name}_T*.ts")
    parts = []
    for part in ("TRAIN", "TEST"):
        (text,) = (data.decode("utf-8") for path, data in files.items() if path.endswith(f"{name}_{part}.ts"))
        cases = [line.rsplit(":", 1) for line in re.split("@data", text, flags=re.IGNORECASE)[1].split("\n") if line]
        arrays = [np.array([c.split(",") for c in case.split(":")], np.float64).T.copy() for case, _ in cases]
        parts += [arrays, [label.strip() for _, label in cases]]
    return tuple(parts)  # type: ignore[return-value]


def load_weather() -> dict[str, NDArray[np.generic]]:
    """Return the weather of Seattle for each day of 2012 to 2015: a dict of arrays (1461,).

    ``date`` (datetime64[D]), ``precipitation`` (mm), ``temp_max`` and ``temp_min`` (°C), ``wind`` (m/s), all
    three float64, and ``weather``: "drizzle", "rain", "sun", "snow" or "fog".

    Raises
    ------
    DatasetError
        The data cannot be fetched.

    Notes
    -----
    Of NOAA, public domain; in the package vega-datasets 0.9.0. "snow" (23 days) and "drizzle" (54) are rare.
    """
    columns = _csv("seattle-weather")
    numbers = {name: np.array(columns[name], float) for name in ("precipitation", "temp_max", "temp_min", "wind")}
    return {"date": _dates(columns["date"], "D")} | numbers | {"weather": np.array(columns["weather"])}


def load_hourly_temperature(city: str = "seattle") -> tuple[NDArray[np.datetime64], Floats]:
    """Return the hours of 2010 and the temperature (°C) in each: two arrays (8759,).

    Parameters
    ----------
    city : {"seattle", "san francisco"}

    Raises
    ------
    ValueError
        Another city.
    DatasetError
        The data cannot be fetched.

    Notes
    -----
    Of NOAA, public domain; in the package vega-datasets 0.9.0, there in °F. The hour that summer time skips is
    missing (14 March, 3 h). Smooth, as climate normals are: the next hour is easy.
    """
    files = {"seattle": "seattle-temps", "san francisco": "sf-temps"}
    if city not in files:
        raise ValueError(f"city: expected one of {', '.join(files)}, got {city!r}")
    columns = _csv(files[city])
    return _dates(columns["date"], "h"), (np.array(columns["temp"], float) - 32) / 1.8


def load_stocks() -> dict[str, tuple[NDArray[np.datetime64], Floats]]:
    """Return the months and the prices (US dollars) of five shares: by ticker, two arrays (months,).

    "MSFT", "AMZN", "IBM" and "AAPL" from January 2000 to March 2010 (123 months), "GOOG" from August 2004 (68).

    Raises
    ------
    DatasetError
        The data cannot be fetched.

    Notes
    -----
    In the package vega-datasets 0.9.0, MIT licence. Monthly, though the package says daily. Nobody should expect to
    beat the forecast "as last month" here.
    """
    columns = _csv("stocks")
    stocks: dict[str, tuple[list[str], list[str]]] = {}
    for symbol, date, price in zip(columns["symbol"], columns["date"], columns["price"], strict=True):
        month, _, year = date.split()
        dates, prices = stocks.setdefault(symbol, ([], []))
        dates.append(f"{year}-{_MONTHS.index(month) // 3 + 1:02}")
        prices.append(price)
    return {name: (_dates(dates, "M"), np.array(prices, float)) for name, (dates, prices) in stocks.items()}


_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"


def _csv(name: str) -> dict[str, list[str]]:
    header, *rows = csv.reader(io.StringIO(member("vega-datasets", f"*/{name}.csv")))
    return {title: [row[place] for row in rows] for place, title in enumerate(header)}


def _dates(dates: list[str], unit: str) -> NDArray[np.datetime64]:
    return np.array([date.replace("/", "-") for date in dates], dtype=f"datetime64[{unit}]")


def load_digits() -> tuple[Floats, NDArray[np.int64]]:
    """Return handwritten digits as sequences of 8 rows of 8 pixels: X (1797, 8, 8), y (1797,).

    A pixel is 0 to 16, as float64; a label 0 to 9.

    Raises
    ------
    ImportError
        scikit-learn is not installed: nothing is fetched, the data is read out of it without importing it.

    Notes
    -----
    E. Alpaydin and C. Kaynak, UCI repository 1998, CC BY 4.0; the test part of "Optical recognition of handwritten
    digits", bundled with scikit-learn (BSD-3).
    """
    try:
        package = importlib.metadata.distribution("scikit-learn")
    except importlib.metadata.PackageNotFoundError as error:
        raise ImportError('load_digits needs scikit-learn: pip install "rnnfast[sklearn]"') from error
    data = gzip.decompress(Path(str(package.locate_file("sklearn/datasets/data/digits.csv.gz"))).read_bytes())
    table = np.loadtxt(io.BytesIO(data), delimiter=",")
    return table[:, :64].reshape(-1, 8, 8), table[:, 64].astype(np.int64)


def adding_problem(n: int = 10_000, T: int = 100, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return `n` examples of the adding problem: X (n, T, 2) and y (n,), both float32.

    X[:, :, 0] is uniform on [0, 1). X[:, :, 1] is a marker, 1 at one step of the first T // 2 and at one of the
    rest, 0 elsewhere. y is the sum of the two marked numbers, so that always answering 1 has a mean squared error of
    1/6. The same `seed` gives the same examples.

    Raises
    ------
    ValueError
        `n` < 1 or `T` < 2.

    Notes
    -----
    S. Hochreiter and J. Schmidhuber. Long short-term memory. Neural Computation 9, 1997; with one marker in each half,
    as in M. Arjovsky, A. Shah and Y. Bengio. Unitary evolution recurrent neural networks. ICML 2016.

    Examples
    --------
    >>> X, y = adding_problem(2, T=4)
    >>> X[0, :, 1].tolist()
    [1.0, 0.0, 0.0, 1.0]
    >>> bool(X[0, 0, 0] + X[0, 3, 0] == y[0])
    True
    """
    for name, value, least in (("n", n, 1), ("T", T, 2)):
        if value < least:
            raise ValueError(f"{name}: expected at least {least}, got {value}")
    rng = generator_of(seed)
    X = np.zeros((n, T, 2), np.float32)
    X[:, :, 0] = rng.random((n, T), np.float32)
    rows, half = np.arange(n), T // 2
    for marked in (rng.integers(0, half, n), rng.integers(half, T, n)):
        X[rows, marked, 1] = 1
    return X, (X[:, :, 0] * X[:, :, 1]).sum(axis=1)


def load_chorales(transpose: bool = False) -> list[NDArray[np.int64]]:
    """Return the melodies (soprano parts) of 407 chorales harmonised by J. S. Bach, each an (n, 2) array.

    The columns are the pitch as a MIDI number (60 is middle C; -1 is a rest) and the duration in thirty-seconds of a
    whole note (8 is a quarter). 21,032 notes and 390 rests. Notes that are tied are one; grace notes are left out,
    and repeats stand once, as written.

    Parameters
    ----------
    transpose : bool
        By at most six semitones, so that the key has no sharps or flats: C major or A minor.

    Raises
    ------
    DatasetError
        The data cannot be fetched.

    Notes
    -----
    MusicXML files (by M. Greentree and others) in the package music21 10.5.1 (BSD-3). Some melodies were harmonised
    several times, and some chorales stand in two versions (399 different melodies, 390 whatever the key and rhythm): a
    random split can have a melody on both sides. In pieces for two sopranos it is the first one's.
    """
    melodies = []
    for mxl in members("music21", "music21/corpus/bach/*.mxl").values():
        (score,) = unpack(mxl, "[!M]*xml").values()  # beside it: META-INF/container.xml
        names = {}
        for _, element in ElementTree.iterparse(io.BytesIO(score.strip())):
            if element.tag == "score-part":
                names[element.get("id")] = element.findtext("part-name", "")
            elif element.tag == "part":
                if names[element.get("id")].startswith("Soprano"):
                    melodies.append(_melody(element, transpose))
                    break
                element.clear()
    return melodies


_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def _melody(part: ElementTree.Element, transpose: bool) -> NDArray[np.int64]:
    notes: list[list[int]] = []
    divisions, shift = 1, 0  # of a quarter; semitones
    for element in part.iter():
        if element.tag == "divisions":
            divisions = int(element.text or "")
        elif element.tag == "fifths" and transpose:
            shift = (-7 * int(element.text or "") + 6) % 12 - 6
        if element.tag != "note" or element.find("grace") is not None:
            continue
        duration = Fraction(8 * int(element.findtext("duration", "")), divisions)
        step, octave = element.findtext("pitch/step"), element.findtext("pitch/octave", "0")
        alter = int(element.findtext("pitch/alter", "0"))
        pitch = -1 if step is None else 12 * (int(octave) + 1) + _SEMITONES[step] + alter + shift
        if any(tie.get("type") == "stop" for tie in element.findall("tie")) and notes and notes[-1][0] == pitch:
            notes[-1][1] += int(duration)
        else:
            notes.append([pitch, int(duration)])
    return np.array(notes)


def load_tunes(fields: str = "XTRMLK") -> list[str]:
    """Return 1,059 fiddle tunes (reels, jigs, hornpipes, ...) in ABC notation.

    Parameters
    ----------
    fields : str
        The letters of the information fields that are kept: number, title, rhythm, metre, unit length and key.
        ABC readers need ``X`` and ``K``. Others are the book ``B``, the transcriber ``Z`` and notes ``N``. Comments
        (``%``) are left out.

    Raises
    ------
    DatasetError
        The data cannot be fetched.

    Notes
    -----
    Ryan's Mammoth Collection (Boston 1882), transcribed by Ray Davies; in the package music21 10.5.1, whose corpus
    has a licence per file. Quoted strings such as ``"4"`` are fingerings and remarks, ``u`` and ``v`` bowings.
    """
    tunes = []
    for data in members("music21", "music21/corpus/ryansMammoth/*.abc").values():
        lines = data.decode("utf-8").strip().splitlines()
        dropped = rf"%|[^\W{re.escape(fields)}]:(?![|:])"  # a:| is music
        tunes.append("\n".join(line for line in lines if not re.match(dropped, line)) + "\n")
    return tunes
