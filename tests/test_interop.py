"""The programs of docs/interop.md and docs/parallel.md, each where the package that it needs is installed."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = "".join((DOCS / name).read_text(encoding="utf-8") for name in ("interop.md", "parallel.md"))
PROGRAMS = re.findall(r"```python needs=(\w+)\n(.*?)```", PAGES, re.DOTALL)


@pytest.mark.parametrize(("package", "program"), PROGRAMS, ids=[package for package, _ in PROGRAMS])
def test_programs_of_the_pages(package: str, program: str, tmp_path: Path) -> None:
    """Each in a process of its own: the frameworks do not like each other's threads and settings."""
    if find_spec(package) is None or (package == "keras" and find_spec("jax") is None):
        pytest.skip(f"{package} is not installed")
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    command = [sys.executable, "program.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
