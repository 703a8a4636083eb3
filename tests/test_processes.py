"""Forked children and pools of processes: the same bits, and never a wait for threads that only the parent has.

Each script runs in a process of its own with a time limit, and so do its children: a hang is a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

linux = pytest.mark.skipif(sys.platform != "linux", reason="forks")

PRELUDE = """
import os, signal, sys, threading
import numpy as np
import rnnfast

rnnfast.set_num_threads(3)
rng = np.random.default_rng(0)
x = rng.normal(size=(24, 30, 12)).astype(np.float32)
y = np.arange(24) % 2

def train():
    network = rnnfast.Network(12, 64, 2, cell="gru", dropout=0.2, seed=0)
    rnnfast.fit(network, x, y, batch_size=12, max_epochs=2, seed=0)
    return network.vector.tobytes() + network.forward(x).tobytes()

def in_a_child(function):
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a hang becomes a death
        os._exit(0 if function() else 1)
    assert os.waitpid(child, 0)[1] == 0
"""


def run(script: Path, code: str, *arguments: str) -> None:
    script.write_text(PRELUDE + textwrap.dedent(code), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr[-3000:]}"


@linux
@pytest.mark.parametrize("thread", ["main", "another"])
def test_fork_after_training(thread: str, tmp_path: Path) -> None:
    """From the main thread and from another one; the parent trains on."""
    run(
        tmp_path / "script.py",
        """
        expected = train()

        def work():
            in_a_child(lambda: train() == expected)
            in_a_child(lambda: train() == expected)

        if sys.argv[1] == "main":
            work()
        else:
            failed = []
            threading.excepthook = lambda arguments: failed.append(arguments.exc_value)
            other = threading.Thread(target=work)
            other.start()
            other.join()
            assert not failed, failed
        assert train() == expected
        """,
        thread,
    )


@linux
def test_threads_that_fork_while_one_trains(tmp_path: Path) -> None:
    run(
        tmp_path / "script.py",
        """
        expected, failed = train(), []
        threading.excepthook = lambda arguments: failed.append(arguments.exc_value)
        threads = [threading.Thread(target=lambda: in_a_child(lambda: train() == expected)) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert train() == expected
        for thread in threads:
            thread.join()
        assert not failed, failed
        """,
    )


@linux
def test_a_stream_that_another_thread_held_at_the_fork(tmp_path: Path) -> None:
    run(
        tmp_path / "script.py",
        """
        rng, H = np.random.default_rng(0), 512
        Wx, Wh = rng.normal(0, 0.05, (H, H)), rng.normal(0, 0.05, (H, H))
        stream, x, stop = rnnfast.Stream("rnn_tanh", Wx, Wh, batch_size=64), rng.normal(size=(64, H)), []

        def work():
            while not stop:
                stream.step(x)

        def usable():
            stream.reset()
            fresh = rnnfast.Stream("rnn_tanh", Wx, Wh, batch_size=64)
            return stream.step(x).tobytes() == fresh.step(x).tobytes()

        thread = threading.Thread(target=work)
        thread.start()
        for _ in range(10):
            in_a_child(usable)
        stop.append(True)
        thread.join()
        """,
    )


@linux
@pytest.mark.parametrize("threads", [1, 2])
def test_a_handler_that_forks(threads: int, tmp_path: Path) -> None:
    """The child has but the thread of the handler: alone it goes on, without the others of a call it ends."""
    run(
        tmp_path / "script.py",
        """
        import time
        rng, threads = np.random.default_rng(0), int(sys.argv[1])
        x, W = rng.normal(size=(64, 3000, 32)), rng.normal(0, 0.1, (32, 128))
        parent, children = os.getpid(), []
        signal.signal(signal.SIGALRM, lambda *_: children.append(os.fork()))
        signal.setitimer(signal.ITIMER_REAL, 0.15)
        while not children:
            h = rnnfast.forward("lstm", x, W, W, num_threads=threads, keep_tape=False).h
        if os.getpid() != parent:
            os._exit(0)
        deadline = time.monotonic() + 60
        while (ended := os.waitpid(children[0], os.WNOHANG)) == (0, 0):
            assert time.monotonic() < deadline, "the child hangs"
            time.sleep(0.01)
        assert os.waitstatus_to_exitcode(ended[1]) in ((0,) if threads == 1 else (0, 70)), ended
        assert rnnfast.forward("lstm", x, W, W, num_threads=threads, keep_tape=False).h.tobytes() == h.tobytes()
        """,
        str(threads),
    )


@linux
@pytest.mark.parametrize("spare", [1, 4, 7, 9, 12, 30])
def test_threads_that_cannot_be_had(spare: int, tmp_path: Path) -> None:
    """OpenMP ends the process where it cannot start a thread: so fewer are asked for, or it is a MemoryError."""
    run(
        tmp_path / "script.py",
        """
        import resource
        x = np.random.default_rng(0).normal(size=(64, 64, 128)).astype(np.float32)
        W = x[0, :1].T.repeat(512, 1) * np.float32(0.01)
        d = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]) * 2**20, resource.RLIM_INFINITY))
        for n in (2, 4):
            rnnfast.set_num_threads(n)
            for call in (
                lambda: rnnfast.forward("lstm", x, W, W, num_threads=n, keep_tape=False),
                lambda: rnnfast.softmax(d.reshape(-1, 10)),
            ):
                try:
                    call()
                except MemoryError:
                    pass
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        rnnfast.set_num_threads(1)
        expected = rnnfast.forward("lstm", x, W, W, num_threads=1, keep_tape=False).h
        assert rnnfast.forward("lstm", x, W, W, num_threads=4, keep_tape=False).h.tobytes() == expected.tobytes()
        """,
        str(spare),
    )


@linux
@pytest.mark.skipif(shutil.which("c++") is None, reason="compiles a program")
@pytest.mark.parametrize("first", ["rnnfast", "the other"])
def test_beside_another_user_of_openmp(first: str, tmp_path: Path) -> None:
    """Its threads are of the same runtime, and run before the fork, and again in the parent after it."""
    source, library = tmp_path / "other.cpp", tmp_path / "other.so"
    source.write_text("""
        #include <omp.h>
        extern "C" int threads() {
            int count = 0;
            #pragma omp parallel num_threads(3) reduction(+:count)
            count += 1;
            return count;
        }
    """)
    subprocess.run(["c++", "-shared", "-fPIC", "-fopenmp", "-o", str(library), str(source)], check=True, timeout=60)
    run(
        tmp_path / "script.py",
        """
        import ctypes
        other = ctypes.CDLL(sys.argv[1])
        if sys.argv[2] != "rnnfast":
            assert other.threads() == 3
        expected = train()
        assert other.threads() == 3
        in_a_child(lambda: train() == expected)
        assert other.threads() == 3
        assert train() == expected
        """,
        str(library),
        first,
    )


METHODS = ["fork", "forkserver", "spawn"] if os.name == "posix" else ["spawn"]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_multiprocessing(method: str, tmp_path: Path) -> None:
    """A pool of two, after the parent's threads have run; models and arrays go both ways."""
    run(
        tmp_path / "script.py",
        """
        import multiprocessing

        def answer(network):
            same = rnnfast.Network(12, 64, 2, cell="gru", dropout=0.2, seed=0)
            rnnfast.fit(same, x, y, batch_size=12, max_epochs=2, seed=0)
            return network.forward(x), same

        if __name__ == "__main__":
            expected = train()
            network = rnnfast.Network(12, 64, 2, cell="gru", dropout=0.2, seed=0)
            rnnfast.fit(network, x, y, batch_size=12, max_epochs=2, seed=0)
            with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
                results = pool.map_async(answer, [network] * 4).get(timeout=60)
            for output, same in results:
                assert output.tobytes() == network.forward(x).tobytes()
                assert same.vector.tobytes() == network.vector.tobytes()
            assert train() == expected
        """,
        method,
    )
