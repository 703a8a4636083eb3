"""Data larger than memory: sources that are read from disk a block at a time, for fit and predict_each.

``lines``, ``classification``, ``tagging``, ``pairs``, ``series``, ``arrays`` and ``items`` make a Source of a file, an
array on disk or an iterator: they go through it once, check it, and remember where its blocks are. The estimators
learn from a Source in place of lists; training.py shuffles its blocks, and the sequences within each.
"""

from .sources import Blocks, Column, Part, Source
from .spool import items
from .tables import arrays, series
from .text import classification, lines, pairs, tagging

__all__ = [
    "Blocks",
    "Column",
    "Part",
    "Source",
    "arrays",
    "classification",
    "items",
    "lines",
    "pairs",
    "series",
    "tagging",
]
