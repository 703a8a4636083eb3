"""_threads.py: what the environment says about threads, and what is left of it after the import."""

import subprocess
import sys

import pytest

SCRIPT = "import os, rnnfast; print(rnnfast.get_num_threads(), os.environ.get('GOMP_SPINCOUNT'))"


def run(monkeypatch, **environment):
    for name in ("RNNFAST_NUM_THREADS", "OMP_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({"RNNFAST_NUM_THREADS": "3"}, "3"),
        ({"OMP_NUM_THREADS": "5,2"}, "5"),
        ({"RNNFAST_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, "3"),
    ],
)
def test_number_of_threads(monkeypatch, environment, threads):
    assert run(monkeypatch, **environment).stdout.split() == [threads, "None"]


def test_the_callers_spin_count_stays(monkeypatch):
    assert run(monkeypatch, GOMP_SPINCOUNT="77").stdout.split()[1] == "77"


@pytest.mark.parametrize("value", ["0", "-2", "two"])
def test_a_wrong_number_is_named(monkeypatch, value):
    result = run(monkeypatch, RNNFAST_NUM_THREADS=value)
    assert result.returncode == 1
    assert f"RNNFAST_NUM_THREADS: expected a positive integer, got '{value}'" in result.stderr
