"""threadpoolctl limits the threads of the core together with those of NumPy's BLAS."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import rnnfast

threadpoolctl = pytest.importorskip("threadpoolctl")


@pytest.fixture
def four() -> Any:
    before = rnnfast.get_num_threads()
    with threadpoolctl.threadpool_limits(3):  # whatever another test left, as torch.set_num_threads(1)
        rnnfast.set_num_threads(4)
        yield
    rnnfast.set_num_threads(before)


def test_limits(four: Any) -> None:
    with threadpoolctl.threadpool_limits(3):
        pass
    assert rnnfast.get_num_threads() == 4
    with threadpoolctl.threadpool_limits(1):
        assert rnnfast.get_num_threads() == 1
        rnnfast.set_num_threads(2)  # who asks for it has it
        assert rnnfast.get_num_threads() == 2
    assert rnnfast.get_num_threads() == 2
    with threadpoolctl.threadpool_limits(1, user_api="openmp"):
        assert rnnfast.get_num_threads() == 1
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        assert rnnfast.get_num_threads() == 2


def test_a_limited_call_takes_one_thread(four: Any, make_problem: Any, assert_same_bits: Any) -> None:
    """Its buffers are those of one thread."""
    alone = rnnfast.memory_estimate("lstm", 64, 30, 64, 64, num_threads=1)
    assert rnnfast.memory_estimate("lstm", 64, 30, 64, 64).workspace > alone.workspace
    with threadpoolctl.threadpool_limits(1):
        assert rnnfast.memory_estimate("lstm", 64, 30, 64, 64) == alone
        p = make_problem("lstm", 64, 30, 64, 64)
        limited = p.run()
    free = p.run()
    for name in free:
        assert_same_bits(limited[name], free[name])


def test_what_it_shows() -> None:
    program = (
        "import numpy, threadpoolctl\n"
        "def openmp(): return {i['filepath'] for i in threadpoolctl.threadpool_info() if i['user_api'] == 'openmp'}\n"
        "before = openmp()\n"
        "import rnnfast\n"
        "assert openmp() - before, threadpoolctl.threadpool_info()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
