"""The programs of docs/interop.md, each where the package that it needs is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "interop.md"
PROGRAMS = re.findall(r"```python needs=(\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize(("package", "program"), PROGRAMS, ids=[package for package, _ in PROGRAMS])
def test_programs_of_the_page(package: str, program: str, tmp_path: Path) -> None:
    """Each in a process of its own: the frameworks do not like each other's threads and settings."""
    if find_spec(package) is None or (package == "keras" and find_spec("jax") is None):
        pytest.skip(f"{package} is not installed")
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=280, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
