"""The documentation site: every public name and page is in it, and it builds without a warning."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import rnnfast

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def names_of(page: str) -> dict[str, set[str]]:
    """What stands in the tables of a page, by module."""
    found: dict[str, set[str]] = {}
    for table in page.split(".. currentmodule:: ")[1:]:
        module, *rest = table.split("```")[0].splitlines()
        found.setdefault(module, set()).update(line.strip() for line in rest if re.fullmatch(r"   \w+", line))
    return found


def test_every_public_name_has_a_page() -> None:
    found = names_of((DOCS / "api.md").read_text(encoding="utf-8"))
    modules = {name for name in rnnfast.__all__ if isinstance(getattr(rnnfast, name), ModuleType)} | {"onnx", "torch"}
    assert found.pop("rnnfast") == set(rnnfast.__all__) - modules
    assert set(found) == {f"rnnfast.{name}" for name in modules}
    for name, names in found.items():
        try:
            module = importlib.import_module(name)
        except ImportError:  # of an extra
            continue
        assert names == set(module.__all__), name


def test_every_page_is_in_a_menu() -> None:
    menu = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = {
        path
        for block in re.findall(r"```\{toctree\}\n(.*?)```", menu, re.DOTALL)
        for line in block.split("\n")
        if line and not line.startswith(":")
        for path in DOCS.glob(f"{line}.md")
    }
    assert {path for path in DOCS.rglob("*.md") if path.name != "index.md" and "generated" not in path.parts} == listed


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    for package in ("sphinx", "numpydoc", "myst_parser", "pydata_sphinx_theme", "sphinx_gallery"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed: the extra docs")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(tmp_path / "trees"), str(DOCS)]
    done = subprocess.run([*command, str(tmp_path / "site")], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for page in (
        "index",
        "learn",
        "tasks/sentiment",
        "examples/plot_attention",
        "generated/rnnfast.fit",
        "contributing",
    ):
        assert (tmp_path / "site" / f"{page}.html").exists()
