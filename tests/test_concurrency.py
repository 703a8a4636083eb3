"""Threads, forks and the floating-point environment: what a call must leave as it was, and bear around it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import rnnfast

CELLS = rnnfast.cells()
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, forks")

# What the scripts below start with: a problem of enough work for several threads, and its bits.
PRELUDE = """
import os, sys, threading
import numpy as np
import rnnfast

rng = np.random.default_rng(0)
N, T, D, H = 40, 20, 40, 64
x, Wx, Wh = (rng.normal(size=s) / 4 for s in [(N, T, D), (D, 4 * H), (H, 4 * H)])

def bits(num_threads=2):
    h, state, tape = rnnfast.forward("lstm", x, Wx, Wh, num_threads=num_threads)
    d = rnnfast.backward(tape, h, num_threads=num_threads)
    return b"".join(a.tobytes() for a in (h, *state, d.x, d.Wx, d.Wh, *d.state))
"""


def run_script(body: str, timeout: float = 60) -> str:
    """Run a script in a process of its own; a hang, a crash or an exception fails the test."""
    script = PRELUDE + textwrap.dedent(body)
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=timeout, env=environment, check=False
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout


def denormals_live() -> bool:
    small = np.array([1e-40] * 9, np.float32)
    return bool((small / np.float32(2) != 0).all() and (small + small > small).all() and sys.float_info.min / 2 > 0)


def test_denormals_live_after_a_call(make_problem: Any) -> None:
    assert denormals_live()
    p = make_problem("lstm", 40, 20, 40, 64, np.float32)
    for n in (1, 2, 4):
        output = p.forward(num_threads=n)
        assert denormals_live()
        rnnfast.backward(output.tape, p.dh, num_threads=n)
        assert denormals_live()
    rnnfast.Stream("lstm", p.Wx, p.Wh, p.b, 40).step(p.x[:, 0])
    assert denormals_live()
    with pytest.raises(ValueError, match="Wh"):
        rnnfast.forward("lstm", p.x, p.Wx, p.Wx)
    assert denormals_live()


def test_denormals_live_in_other_threads(make_problem: Any) -> None:
    p = make_problem("gru", 40, 20, 40, 64, np.float32)

    def work(_: int) -> bool:
        before = denormals_live()
        p.run(num_threads=2)
        return before and denormals_live()

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(12)))
        p.run(num_threads=3)
        assert all(pool.map(lambda _: denormals_live(), range(12)))


def test_denormals_live_after_import() -> None:
    run_script("""
        small = np.full(9, 1e-40, np.float32)
        assert (small / np.float32(2) > 0).all()
        found = []
        thread = threading.Thread(target=lambda: found.append((small / np.float32(2) > 0).all()))
        thread.start()
        thread.join()
        assert found == [True]
    """)


@pytest.mark.parametrize("cell", CELLS)
def test_eight_python_threads(make_problem: Any, assert_same_bits: Any, cell: str) -> None:
    problems = [make_problem(cell, 20 + k, 6, 30, 40, np.float32, ragged=True, seed=k) for k in range(8)]
    expected = [p.run(num_threads=1) for p in problems]

    def work(k: int) -> None:
        for i in range(10):
            p = (k + i) % 8
            results = problems[p].run(num_threads=1 + i % 2)
            for name, value in expected[p].items():
                assert_same_bits(results[name], value, name)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_streams_of_several_threads(make_problem: Any, assert_same_bits: Any) -> None:
    p = make_problem("lstm", 5, 30, 20, 30)
    expected = p.replace(state=None).forward().h

    def work(_: int) -> None:
        stream = rnnfast.Stream("lstm", p.Wx, p.Wh, p.b, batch_size=5)
        for t in range(30):
            assert_same_bits(stream.step(p.x[:, t]), expected[:, t].copy())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))


def test_one_of_two_threads_gets_a_tape(make_problem: Any, assert_same_bits: Any) -> None:
    p = make_problem("lstm", 30, 10, 40, 64)
    expected = p.run()["dx"]

    def work(tape: Any) -> Any:
        try:
            return rnnfast.backward(tape, p.dh, p.dstate).x
        except RuntimeError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        for _ in range(10):
            first, second = pool.map(work, [p.forward().tape] * 2)
            refused, dx = (first, second) if isinstance(first, str) else (second, first)
            assert refused == "tape: expected one that is unused, got one that a backward pass has used"
            assert_same_bits(dx, expected)


def test_a_stream_changed_during_a_step() -> None:
    """Another thread's reset, state or repr may be refused or wait, but must not free what the step works on."""
    run_script("""
        rnnfast.set_num_threads(2)
        N = 512
        big = rnnfast.Stream("lstm", rng.normal(size=(200, 800)), rng.normal(size=(200, 800)), batch_size=N)
        x, state = rng.normal(size=(N, 200)), tuple(rng.normal(size=(2, N, 200)))

        def step():
            for _ in range(25):
                try:
                    big.step(x)
                except RuntimeError:
                    pass

        def change():
            big.reset()
            big.state = state
            repr(big), big.state

        thread = threading.Thread(target=step)
        thread.start()
        while thread.is_alive():
            try:
                change()
            except RuntimeError:
                pass
            garbage = [np.full((N, 200), np.nan) for _ in range(2)]
        thread.join()
        big.reset()
        assert np.isfinite(big.step(x)).all()
    """)


def test_the_lock_of_the_interpreter_is_released(make_problem: Any) -> None:
    p = make_problem("lstm", 64, 60, 128, 256)
    output = p.forward(num_threads=1)
    for call in (lambda: p.forward(num_threads=1), lambda: rnnfast.backward(output.tape, p.dh, num_threads=1)):
        with ThreadPoolExecutor(1) as pool:
            start = last = time.perf_counter()
            future, longest = pool.submit(call), 0.0
            while not future.done():
                time.sleep(0.001)
                now = time.perf_counter()
                longest, last = max(longest, now - last), now
        assert longest < (last - start) / 3, f"this thread stood still for {longest:.3f} of {last - start:.3f} s"


@linux
@pytest.mark.parametrize("threads", [(3, 1), (1, 3)])
def test_several_threads_run(threads: tuple[int, int]) -> None:
    """Without this, the tests of threads could all run on one."""
    run_script(f"""
        def tasks():
            return len(os.listdir("/proc/self/task"))

        bits(num_threads=1)
        assert tasks() == 1
        h, _, tape = rnnfast.forward("lstm", x, Wx, Wh, num_threads={threads[0]})
        assert tasks() == {threads[0]}
        rnnfast.backward(tape, h, num_threads={threads[1]})
        assert tasks() == 3
    """)


@linux
@pytest.mark.parametrize("threads", [1, 2])
def test_fork(threads: int) -> None:
    run_script(f"""
        import signal
        expected = bits({threads})
        stream = rnnfast.Stream("lstm", Wx, Wh, batch_size=N)
        first = stream.step(x[:, 0])
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # a hang becomes a death
            same = bits(2) == expected and bits(1) == expected and bits(None) == expected
            stream.reset()
            same = same and np.array_equal(stream.step(x[:, 0]), first)
            other = rnnfast.Stream("lstm", Wx, Wh, batch_size=N)
            same = same and np.array_equal(other.step(x[:, 0]), first)
            grandchild = os.fork()
            if grandchild == 0:
                signal.alarm(20)
                os._exit(0 if bits(2) == expected else 1)
            same = same and os.waitpid(grandchild, 0)[1] == 0
            os._exit(0 if same else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert bits(2) == expected
    """)


@linux
def test_fork_of_a_team() -> None:
    """A stream of one row and many units is carried by a team, which a forked child does not have."""
    run_script("""
        import signal
        rng = np.random.default_rng(0)
        weights = [rng.normal(size=(512, 2048)).astype(np.float32) for _ in range(2)]
        x = rng.normal(size=(1, 512)).astype(np.float32)
        rnnfast.set_num_threads(2)
        stream = rnnfast.Stream("lstm", *weights)
        first = stream.step(x)
        stream.reset()
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # a hang becomes a death
            os._exit(0 if np.array_equal(stream.step(x), first) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert np.array_equal(stream.step(x), first)
    """)


@linux
def test_fork_while_other_threads_compute() -> None:
    """What a thread of the parent holds at the moment of the fork never opens in the child."""
    run_script("""
        import signal
        expected = bits()
        stop = False

        def work():
            while not stop:
                bits()

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        codes = []
        for _ in range(8):
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                os._exit(0 if bits() == expected else 1)
            codes.append(os.waitpid(child, 0)[1])
        stop = True
        for thread in threads:
            thread.join()
        assert codes == [0] * 8, codes
    """)
