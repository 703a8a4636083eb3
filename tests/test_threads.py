"""_threads.py: what the environment says about threads, and what is left of it after the import."""

import os
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


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity")
def test_the_processors_that_the_process_may_use(monkeypatch):
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert run(monkeypatch).stdout.split()[0] == "1"
    finally:
        os.sched_setaffinity(0, before)
    assert run(monkeypatch).stdout.split()[0] == str(len(before))


@pytest.mark.parametrize("value", ["0", "-2", "two"])
def test_a_wrong_number_is_named(monkeypatch, value):
    result = run(monkeypatch, RNNFAST_NUM_THREADS=value)
    assert result.returncode == 1
    assert f"RNNFAST_NUM_THREADS: expected a positive integer, got '{value}'" in result.stderr
