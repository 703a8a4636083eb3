"""The documentation site: every public name and page is in it, and it builds without a warning."""

from __future__ import annotations

import importlib
import re
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import rnnfast

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def conf() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "conf.py"))


def menus(text: str) -> list[str]:
    """What stands in the menus of a page."""
    lines = "\n".join(re.findall(r"```\{toctree\}\n(.*?)```", text, re.DOTALL)).split("\n")
    return [line for line in lines if line and not line.startswith(":")]


def names_of(page: str) -> dict[str, set[str]]:
    """What stands in the tables of a page, by module."""
    found: dict[str, set[str]] = {}
    for table in re.split(r"\.\. (?:current)?module:: ", page)[1:]:
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


def test_every_page_is_reached_from_the_first() -> None:
    """Through the menus of index.md, and those that conf.py hangs below a page."""
    settings = conf()
    found, waiting = set[str](), ["index"]
    while waiting:
        page = waiting.pop()
        if page not in found:
            found.add(page)
            waiting += settings["below"](page)
            if (DOCS / f"{page}.md").exists():
                waiting += menus((DOCS / f"{page}.md").read_text(encoding="utf-8"))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - set(settings["exclude_patterns"])
    assert {f"{page}.md" for page in found - {"examples/index"}} == pages


def test_links_of_a_page_go_to_pages_and_files() -> None:
    source = ["[a](../README.md#data) [`b.hpp`](../cpp/simd.hpp) [c](gallery/plot_stream.py) [d](learn.md) [e](no.md)"]
    conf()["links"](None, "design", source)
    assert source[0].split("\n")[0] == (
        "[a](start.md#data) {download}`b.hpp </../cpp/simd.hpp>` [c](examples/plot_stream.rst) [d](learn.md) [e](no.md)"
    )


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    for package in ("sphinx", "numpydoc", "myst_parser", "pydata_sphinx_theme", "sphinx_gallery"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed: the extra docs")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-d", str(tmp_path / "trees")]
    done = subprocess.run(
        [*command, str(DOCS), str(tmp_path / "site")], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    pages = (
        "index",
        "learn",
        "start",
        "contributing",
        "tasks/sentiment",
        "examples/plot_attention",
        "generated/rnnfast.fit",
    )
    assert [page for page in pages if not (tmp_path / "site" / f"{page}.html").exists()] == []
    classifier = (tmp_path / "site" / "generated" / "rnnfast.SequenceClassifier.html").read_text(encoding="utf-8")
    assert 'id="rnnfast.SequenceClassifier.predict_proba"' in classifier
    constant = (tmp_path / "site" / "generated" / "rnnfast.diagnostics.VANISHING.html").read_text(encoding="utf-8")
    assert "GradientFlow.verdict" in constant  # not what float() says of itself
