"""dispatch.cpp: every instruction set gives the answers, and RNNFAST_ISA forces one or fails, never falls back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rnnfast import _core

ISAS = _core.instruction_sets()
TESTS = Path(__file__).parent


def run(*arguments: str, isa: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"RNNFAST_ISA": isa, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout, check=False)


CHOSEN = "from rnnfast import _core; print([i['name'] for i in _core.instruction_sets() if i['chosen']])"


def test_the_best_is_chosen() -> None:
    available = [isa["name"] for isa in ISAS if isa["available"]]
    assert run("-c", CHOSEN, isa="").stdout == f"{available[-1:]}\n"
    assert [isa["name"] for isa in ISAS if isa["chosen"]] == [os.environ.get("RNNFAST_ISA") or available[-1]]
    assert ISAS[0] == {**ISAS[0], "name": "scalar", "available": True}


@pytest.mark.parametrize("isa", [isa["name"] for isa in ISAS if isa["available"]])
def test_forced(isa: str) -> None:
    assert run("-c", CHOSEN, isa=isa).stdout == f"['{isa}']\n"


@pytest.mark.parametrize("isa", ["AVX2", "avx3", "avx2 ", *(isa["name"] for isa in ISAS if not isa["available"])])
def test_unknown_or_missing(isa: str) -> None:
    done = run("-c", "import rnnfast", isa=isa)
    names = ", ".join(i["name"] + ("" if i["available"] else " (not on this processor)") for i in ISAS)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"ImportError: RNNFAST_ISA: expected one of {names}, got '{isa}'"


@pytest.mark.slow
@pytest.mark.parametrize("isa", [isa["name"] for isa in ISAS if isa["available"] and not isa["chosen"]])
def test_answers(isa: str) -> None:
    """The comparison with the reference, the functions' accuracy and the bits, under the sets not chosen here."""
    files = [str(TESTS / f"test_{name}.py") for name in ("functions", "activations", "operations")]
    bits = [str(TESTS / "test_bits.py") + f"::test_{name}" for name in ("every_run", "splits_at_random_places")]
    done = run("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files, *bits, isa=isa)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


@pytest.mark.parametrize("value", ["0", "-2", "two", "1.5"])
def test_threads_from_the_environment(value: str) -> None:
    environment = os.environ | {"RNNFAST_NUM_THREADS": value}
    command = [sys.executable, "-c", "import rnnfast"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 1
    message = f"ImportError: RNNFAST_NUM_THREADS: expected a positive integer, got '{value}'"
    assert done.stderr.splitlines()[-1] == message


@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({"RNNFAST_NUM_THREADS": "3"}, "3"),
        ({"OMP_NUM_THREADS": "5,2"}, "5"),
        ({"RNNFAST_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, "3"),
        ({"OMP_NUM_THREADS": "junk"}, None),
        ({}, None),
    ],
)
def test_number_of_threads(variables: dict[str, str], threads: str | None) -> None:
    rest = {k: v for k, v in os.environ.items() if k not in ("RNNFAST_NUM_THREADS", "OMP_NUM_THREADS")}
    command = [sys.executable, "-c", "import rnnfast; print(rnnfast.get_num_threads())"]
    done = subprocess.run(command, capture_output=True, text=True, env=rest | variables, timeout=60, check=True)
    assert int(done.stdout) == int(threads or len(os.sched_getaffinity(0)))
