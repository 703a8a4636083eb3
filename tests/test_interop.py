"""The programs of docs/interop.md, each where the package that it needs is installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "interop.md"
PROGRAMS = re.findall(r"```python needs=(\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize(("package", "program"), PROGRAMS, ids=[f"{p}-{i}" for i, (p, _) in enumerate(PROGRAMS)])
def test_programs_of_the_page(package: str, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, str(PAGE), "exec"), {"__name__": "page"})
