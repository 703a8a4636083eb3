"""The NumPy programs of docs/drop-in.md train to the same numbers with rnnfast inside, and differ in few lines."""

from __future__ import annotations

import difflib
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
FOLDER, PAGE = ROOT / "benchmarks" / "drop_in", ROOT / "docs" / "drop-in.md"
PROGRAMS = ["columns", "course", "characters"]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"drop_in_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "options"),
    [("columns", {}), ("course", {"cell": "rnn"}), ("course", {"cell": "lstm"}), ("characters", {})],
    ids=["columns", "course-rnn", "course-lstm", "characters"],
)
def test_the_same_training(name: str, options: dict[str, str]) -> None:
    (losses, weights), (fast_losses, fast_weights) = (load(n).train(**options) for n in (name, f"{name}_rnnfast"))
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:5]), "it learns"
    np.testing.assert_allclose(fast_losses, losses, rtol=1e-12)
    assert len(weights) == len(fast_weights) == 5
    for fast, slow in zip(fast_weights, weights, strict=True):
        assert np.abs(fast - slow).max() <= 1e-12 * np.abs(slow).max()


@pytest.mark.parametrize("name", PROGRAMS)
def test_at_most_ten_lines_are_new(name: str) -> None:
    slow, fast = ((FOLDER / f"{n}.py").read_text(encoding="utf-8").splitlines() for n in (name, f"{name}_rnnfast"))
    new = [line for line in difflib.unified_diff(slow, fast, n=0, lineterm="") if re.match(r"\+(?!\+\+)", line)]
    assert 0 < len(new) <= 10, new


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_page_shows_the_difference(name: str) -> None:
    slow, fast = ((FOLDER / f"{n}.py").read_text(encoding="utf-8").splitlines() for n in (name, f"{name}_rnnfast"))
    difference = [
        line for line in difflib.unified_diff(slow, fast, n=0, lineterm="") if not re.match(r"---|\+\+\+|@@", line)
    ]
    assert "\n".join(difference) in PAGE.read_text(encoding="utf-8")
