"""The documentation site: sphinx-build -W --keep-going -n docs build/site, with the extra "docs".

The pages are those that people read in the repository. What stands outside of docs/ (README, CONTRIBUTING, sources) is
brought in, or linked as a file, here.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import rnnfast

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
OPTIONAL = ("onnx", "torch")  # modules of extras

project, author, copyright = "rnnfast", "the rnnfast authors", "the rnnfast authors"
version = release = rnnfast.__version__
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["README.md", "gallery/*.rst", "roofline-notes.md"]  # the notes are a section of roofline.md
templates_path = ["templates"]
html_theme = "pydata_sphinx_theme"
html_title = "rnnfast"
html_theme_options = {"show_prev_next": True, "navigation_depth": 2, "navbar_align": "left"}
html_show_sourcelink = False
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
suppress_warnings = ["config.cache"]
autosummary_generate = True
autodoc_typehints = "none"  # the docstrings say the types
autodoc_mock_imports = [name for name in OPTIONAL if find_spec(name) is None]
numpydoc_show_class_members = False
add_module_names = False
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "examples",
    "filename_pattern": "/plot_",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,
    "min_reported_time": 60,
}
PAGES = {"README.md": "start.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}
BELOW = {  # the pages under a page, as patterns: those that are not written yet are left out
    "tasks/README": ["tasks/*"],
    "parallel": ["scaling"],
    "performance": ["roofline"],
    "contributing": ["wheels", "changes", "decisions/*"],
}


def below(page: str) -> list[str]:
    """The pages in the menu of a page."""
    found = (path for pattern in BELOW.get(page, ()) for path in sorted(DOCS.glob(f"{pattern}.md")))
    names = [path.relative_to(DOCS).as_posix().removesuffix(".md") for path in found]
    return [name for name in names if name != page]


def links(app: Any, page: str, source: list[str]) -> None:
    """Links to pages outside of docs/ go to where they are brought in; those to sources fetch the file."""
    folder = (DOCS / page).parent

    def one(match: re.Match[str]) -> str:
        text, target, anchor = match.groups()
        if "://" in target:
            return match[0]
        base = ROOT if page in ("start", "contributing", "changes") else folder
        path = (base / target).resolve()
        if not path.exists():
            return match[0]
        inside = path.relative_to(ROOT).as_posix()
        depth = "../" * page.count("/")
        if inside in PAGES:
            return f"[{text}]({depth}{PAGES[inside]}{anchor or ''})"
        if path.is_dir() and (path / "README.md").exists():
            inside += "/README.md"
        if inside.startswith("docs/gallery"):
            return f"[{text}]({depth}examples/{path.stem if path.is_file() else 'index'}.rst)"
        if inside.startswith("docs/") and (ROOT / inside).suffix in (".md", ".svg", ".png"):
            return f"[{text}]({depth}{inside.removeprefix('docs/')}{anchor or ''})"
        if path.is_file():
            return f"{{download}}`{text.replace('`', '')} </../{inside}>`"
        return f"{text} (`{inside}`)"

    outside = {new.removesuffix(".md"): old for old, new in PAGES.items()}
    if page in outside:
        source[0] = (ROOT / outside[page]).read_text(encoding="utf-8")
    text = re.sub(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#\s]+)(#[^)]*)?\)", one, source[0])
    text = re.sub(r"^```python needs=\w+$", "```python", text, flags=re.MULTILINE)
    if pages := below(page):
        text += "\n\n```{toctree}\n:hidden:\n\n" + "".join(f"/{name}\n" for name in pages) + "```\n"
    source[0] = text


def setup(app: Any) -> None:
    app.connect("source-read", links)
