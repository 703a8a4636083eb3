"""Every example runs: the docstrings of the installed package, and the Python blocks of README.md."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import rnnfast

MODULES = ["rnnfast", *(m.name for m in pkgutil.walk_packages(rnnfast.__path__, "rnnfast.", onerror=lambda name: None))]
README = Path(__file__).parents[1] / "README.md"
PAGES = [README, README.parent / "CONTRIBUTING.md", *sorted(README.parent.glob("docs/**/*.md"))]


@pytest.mark.parametrize("name", [m for m in MODULES if not m.endswith(("_core", "__main__"))])
def test_docstring_examples(name):
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        if "pip install" not in str(error):  # of an extra that is not installed
            raise
        pytest.skip(str(error))
    result = doctest.testmod(module)
    assert result.failed == 0


@pytest.mark.parametrize("path", sorted(README.parent.glob("docs/*.md")), ids=lambda path: path.name)
def test_examples_of_the_documentation(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL):
        exec(compile(block, str(path), "exec"), namespace)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(README.parent)))
def test_links(path):
    """What a page links to is there: other pages, pictures, folders."""
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


def test_readme_examples(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 3
    namespace = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), namespace)
    assert "['good' 'bad']" in capsys.readouterr().out


@pytest.mark.parametrize("name", rnnfast.__all__)
def test_public_names_are_documented(name):
    thing = getattr(rnnfast, name)
    if callable(thing):
        assert thing.__doc__, name
        assert ">>>" in thing.__doc__ or name in {"Gradients", "Output", "Stream", "Tape", "ModelFileError"}, name
