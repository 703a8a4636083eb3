"""Worked examples on real data: ``rnnfast.examples.available()`` has them by name."""

from importlib import import_module

from .example import Example, Parts, Run

__all__ = ["Example", "Parts", "Run", "available"]

FAMILIES = ("classification", "tagging", "forecasting", "generation", "transduction")


def available() -> dict[str, Example]:
    """Return the worked examples by name."""
    found: dict[str, Example] = {}
    for family in FAMILIES:
        found |= {example.name: example for example in import_module(f".{family}", __name__).EXAMPLES}
    return found
