"""datasets/loaders_series.py: parsing, on small archives made here, and the counts of the real data.

Real data is skipped where it cannot be fetched, unless RNNFAST_REQUIRE_DATA=1; the digits, of scikit-learn, always.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import io
import os
import re
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rnnfast import datasets
from rnnfast.datasets import DatasetError, available, fetching

Files = dict[str, bytes]


def pack(files: Files) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name, data in files.items():
            opened.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Files], None]:
    """Makes every package consist of the given files."""

    def give(files: Files) -> None:
        (tmp_path / "archive").write_bytes(pack(files))
        monkeypatch.setattr(fetching, "fetch", lambda *_, **__: tmp_path / "archive")

    return give


def real(load: Callable[..., Any], *args: Any, optional: bool = False, **kwargs: Any) -> Any:
    try:
        return load(*args, **kwargs)
    except (DatasetError, ImportError) as error:
        if os.environ.get("RNNFAST_REQUIRE_DATA") == "1" and not optional:
            raise
        pytest.skip(str(error))


def test_ts_files(serve: Any) -> None:
    train = b"# a comment: with\n@dimensions 2\n@DATA\n1,2.5,3:-4,5E-1,6:Walking\n\n7:8:Standing \n"
    test = b"@data\n9,10:11,12:Walking\n"
    folder = "aeon/datasets/data/BasicMotions/BasicMotions"
    serve({f"{folder}_TRAIN.ts": train, f"{folder}_TEST.ts": test, f"{folder}_TRAIN.arff": b"?"})
    X_train, y_train, X_test, y_test = datasets.load_basic_motions()
    assert [x.tolist() for x in X_train] == [[[1, -4], [2.5, 0.5], [3, 6]], [[7, 8]]]
    assert [x.tolist() for x in X_test] == [[[9, 11], [10, 12]]]
    assert (y_train, y_test) == (["Walking", "Standing"], ["Walking"])


@pytest.mark.parametrize(
    ("load", "twin", "train", "test", "shortest", "longest", "channels", "classes"),
    [
        ("load_japanese_vowels", False, 270, 370, 7, 29, 12, 9),
        ("load_japanese_vowels", True, 270, 370, 25, 25, 12, 9),
        ("load_basic_motions", None, 40, 40, 100, 100, 6, 4),
        ("load_pickup_gesture", False, 50, 50, 29, 361, 1, 10),
        ("load_pickup_gesture", True, 50, 50, 361, 361, 1, 10),
    ],
)
def test_real_clips(
    load: str, twin: bool | None, train: int, test: int, shortest: int, longest: int, channels: int, classes: int
) -> None:
    options = {} if twin is None else {"equal_length": twin}
    X_train, y_train, X_test, y_test = real(getattr(datasets, load), **options)
    assert (len(X_train), len(y_train), len(X_test), len(y_test)) == (train, train, test, test)
    assert train + test == available()[load.removeprefix("load_")].size
    lengths = [len(x) for x in X_train + X_test]
    assert (min(lengths), max(lengths)) == (shortest, longest)
    assert {(x.shape[1:], x.dtype.name) for x in X_train + X_test} == {((channels,), "float64")}
    assert np.isfinite(np.concatenate(X_train + X_test)).all()
    assert len(set(y_train)) == classes
    assert set(y_test) == set(y_train)


def test_real_vowels_are_those_of_the_archive() -> None:
    X, y, _, y_test = real(datasets.load_japanese_vowels)
    assert X[0].shape == (20, 12)
    assert X[0][0, :2].tolist() == [1.860936, -0.207383]
    assert y == [str(speaker) for speaker in range(1, 10) for _ in range(30)]
    assert Counter(y_test)["3"] == 88


def test_weather_of_a_small_file(serve: Any) -> None:
    rows = b"date,precipitation,temp_max,temp_min,wind,weather\r\n2012/01/31,0.5,1,-2,3,sun\r\n2012/02/01,0,4,5,6,fog"
    serve({"vega_datasets/_data/seattle-weather.csv": rows})
    weather = datasets.load_weather()
    assert list(weather) == ["date", "precipitation", "temp_max", "temp_min", "wind", "weather"]
    assert np.diff(weather["date"]).tolist() == [np.timedelta64(1, "D")]
    assert weather["temp_min"].tolist() == [-2, 5]
    assert weather["weather"].tolist() == ["sun", "fog"]


def test_real_weather() -> None:
    weather = real(datasets.load_weather)
    assert {array.shape for array in weather.values()} == {(available()["weather"].size,)}
    assert (np.diff(weather["date"]) == np.timedelta64(1, "D")).all()
    assert str(weather["date"][0]) == "2012-01-01"
    assert (weather["temp_max"] >= weather["temp_min"]).all()
    assert Counter(weather["weather"].tolist()) == {"sun": 714, "fog": 411, "rain": 259, "drizzle": 54, "snow": 23}


@pytest.mark.parametrize(("city", "first", "step"), [("seattle", 39.4, 39.2), ("san francisco", 47.8, 47.4)])
def test_real_hourly_temperature(city: str, first: float, step: float) -> None:
    hours, degrees = real(datasets.load_hourly_temperature, city)
    assert hours.shape == degrees.shape == (available()["hourly_temperature"].size,)
    np.testing.assert_allclose(degrees[:2] * 1.8 + 32, [first, step])
    missing = np.flatnonzero(np.diff(hours) != np.timedelta64(1, "h"))
    assert [str(hours[place]) for place in missing] == ["2010-03-14T02"]
    assert (str(hours[0]), str(hours[-1])) == ("2010-01-01T00", "2010-12-31T23")


def test_city() -> None:
    with pytest.raises(ValueError, match="city: expected one of seattle, san francisco, got 'paris'"):
        datasets.load_hourly_temperature("paris")


def test_stocks_of_a_small_file(serve: Any) -> None:
    serve({"v/stocks.csv": b"symbol,date,price\nB,Dec 1 2000,1.5\nA,Jan 1 2004,2\nB,Jan 1 2001,3\n"})
    stocks = datasets.load_stocks()
    assert list(stocks) == ["B", "A"]
    dates, prices = stocks["B"]
    assert [str(date) for date in dates] == ["2000-12", "2001-01"]
    assert prices.tolist() == [1.5, 3]


def test_real_stocks() -> None:
    stocks = real(datasets.load_stocks)
    lengths = {name: len(dates) for name, (dates, _) in stocks.items()}
    assert lengths == {"MSFT": 123, "AMZN": 123, "IBM": 123, "GOOG": 68, "AAPL": 123}
    assert sum(lengths.values()) == available()["stocks"].size
    for dates, prices in stocks.values():
        assert (np.diff(dates) == np.timedelta64(1, "M")).all()
        assert (prices > 0).all()
    assert stocks["AAPL"][1][-1] == 223.02


def test_digits_of_a_small_file(tmp_path: Path, monkeypatch: Any) -> None:
    rows = np.arange(130).reshape(2, 65) % 17

    class Package:
        def locate_file(self, name: str) -> Path:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress("\n".join(",".join(map(str, row)) for row in rows).encode()))
            return path

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Package())
    X, y = datasets.load_digits()
    assert X.tolist() == rows[:, :64].reshape(2, 8, 8).tolist()
    assert y.tolist() == rows[:, 64].tolist()


def test_digits_without_scikit_learn(monkeypatch: Any) -> None:
    def distribution(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    with pytest.raises(ImportError, match=re.escape('pip install "rnnfast[sklearn]"')):
        datasets.load_digits()


def test_real_digits() -> None:
    X, y = real(datasets.load_digits, optional=True)  # not fetched: there or not
    assert X.shape == (available()["digits"].size, 8, 8)
    assert (X.min(), X.max(), X.dtype) == (0, 16, np.float64)
    assert Counter(y.tolist())[0] == 178


@pytest.mark.parametrize("T", [2, 3, 100])
def test_adding_problem(T: int) -> None:
    X, y = datasets.adding_problem(500, T=T, seed=1)
    assert (X.shape, y.shape, X.dtype, y.dtype) == ((500, T, 2), (500,), np.float32, np.float32)
    numbers, marked = X[:, :, 0], X[:, :, 1] == 1
    assert ((X[:, :, 1] == 0) | marked).all()
    assert (marked[:, : T // 2].sum(axis=1) == 1).all()
    assert (marked[:, T // 2 :].sum(axis=1) == 1).all()
    np.testing.assert_allclose(y, numbers[marked].reshape(500, 2).sum(axis=1), rtol=1e-6)
    assert set(np.flatnonzero(marked.any(axis=0))) == set(range(T))  # every step is marked in some example
    assert numbers.min() >= 0
    assert numbers.max() < 1


def test_adding_problem_is_seeded() -> None:
    same, again, other = (datasets.adding_problem(50, seed=seed)[0] for seed in (3, 3, 4))
    assert same.tobytes() == again.tobytes() != other.tobytes()
    assert datasets.adding_problem(20_000, T=10)[1].var() == pytest.approx(1 / 6, rel=0.05)
    for options, name in (({"n": 0}, "n: expected at least 1, got 0"), ({"T": 1}, "T: expected at least 2, got 1")):
        with pytest.raises(ValueError, match=name):
            datasets.adding_problem(**options)


def note(pitch: str, duration: int, extra: str = "") -> str:
    step = re.fullmatch(r"([A-G])([#b]?)(\d)", pitch)
    if not step:
        return f"<note>{extra}<rest/><duration>{duration}</duration></note>"
    alter = {"#": "<alter>1</alter>", "b": "<alter>-1</alter>", "": ""}[step[2]]
    sound = f"<pitch><step>{step[1]}</step>{alter}<octave>{step[3]}</octave></pitch>"
    return f"<note>{extra}{sound}<duration>{duration}</duration></note>"


def score(soprano: str, fifths: int = 0, name: str = "Soprano") -> bytes:
    """A .mxl of a horn, then the soprano, two divisions to a quarter."""
    attributes = f"<attributes><divisions>2</divisions><key><fifths>{fifths}</fifths></key></attributes>"
    parts = "<score-part id='P1'><part-name>Horn</part-name></score-part>"
    parts += f"<score-part id='P2'><part-name>{name}</part-name></score-part>"
    xml = f"""
        <?xml version="1.0"?><!DOCTYPE score-partwise><score-partwise><part-list>{parts}</part-list>
        <part id="P1"><measure>{attributes}{note("C9", 2)}</measure></part>
        <part id="P2"><measure>{attributes}{soprano}</measure></part></score-partwise>"""
    return pack({"META-INF/container.xml": b"<container/>", "a.xml": xml.encode()})


def test_chorales_of_small_scores(serve: Any) -> None:
    grace, start, stop = "<grace/>", "<tie type='start'/>", "<tie type='stop'/>"
    first = note("F#4", 2) + note("", 1) + "<forward><duration>8</duration></forward>"
    first += note("B4", 4, start) + note("B4", 1, stop) + note("C5", 4, start) + note("D5", 2, stop)
    ornament = note("Bb4", 1, grace).replace("<duration>1</duration>", "")
    files = {
        "music21/corpus/bach/bwv1.mxl": score(first, fifths=1),
        "music21/corpus/bach/bwv2.mxl": score(ornament + note("Bb4", 8), fifths=-3, name="Soprano 1"),
        "music21/corpus/bach/bwv3.mxl": score(note("C4", 8), name="Violin"),
        "music21/corpus/bach/other.xml": b"?",
    }
    serve(files)
    melodies = datasets.load_chorales()
    assert [melody.tolist() for melody in melodies] == [
        [[66, 8], [-1, 4], [71, 20], [72, 16], [74, 8]],
        [[70, 32]],
    ]
    moved = datasets.load_chorales(transpose=True)  # G major down, or E flat major down, to C major
    assert [melody[:, 0].tolist() for melody in moved] == [[71, -1, 76, 77, 79], [67]]


@pytest.mark.parametrize("fifths", range(-7, 8))
def test_transposed_tonic_is_c(serve: Any, fifths: int) -> None:
    pitch = 60 + (7 * fifths) % 12
    name = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"][pitch - 60] + "4"
    serve({"music21/corpus/bach/a.mxl": score(note(name, 2), fifths)})
    (melody,) = datasets.load_chorales(transpose=True)
    assert melody[0, 0] % 12 == 0
    assert abs(melody[0, 0] - pitch) <= 6


@pytest.mark.slow
def test_real_chorales() -> None:
    melodies = real(datasets.load_chorales)
    assert len(melodies) == available()["chorales"].size
    everything = np.concatenate(melodies)
    assert (everything[:, 0] >= 0).sum() == 21_032
    assert (everything[:, 0] == -1).sum() == 390
    assert everything[:, 0].max() == 81
    assert everything[:, 1].min() == 1
    assert Counter(everything[:, 1].tolist()).most_common(2) == [(8, 14_318), (4, 3_720)]
    assert melodies[0][:4].tolist() == [[65, 8], [72, 8], [69, 8], [65, 8]]
    moved = np.concatenate(datasets.load_chorales(transpose=True))
    white = np.isin(moved[moved[:, 0] >= 0, 0] % 12, [0, 2, 4, 5, 7, 9, 11]).mean()
    assert white > 0.95


def test_tunes_of_small_files(serve: Any) -> None:
    tune = "X:1\nT:A Reel\nZ:somebody\nK:D\n%%staffsep 5\nA:|Bc|\nd:|\n\n"
    serve({"music21/corpus/ryansMammoth/A.abc": tune.encode()})
    assert datasets.load_tunes() == ["X:1\nT:A Reel\nK:D\nA:|Bc|\nd:|\n"]
    assert datasets.load_tunes(fields="") == ["A:|Bc|\nd:|\n"]


def test_real_tunes() -> None:
    tunes = real(datasets.load_tunes)
    assert len(tunes) == available()["tunes"].size
    assert sum(map(len, tunes)) == 331_101
    assert all(tune.startswith("X:") and "\nK:" in tune for tune in tunes)
    assert not any("@" in tune or "\r" in tune for tune in tunes)
