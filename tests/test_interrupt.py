"""Ctrl-C during a long call of the core, and threads that are in one when the interpreter ends.

In subprocesses with a time limit, for a signal is the process's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import numpy as np
import pytest
import rnnfast

posix = pytest.mark.skipif(os.name != "posix", reason="needs signals")

PRESS = """
import os, signal, sys, threading, time
import numpy as np
import rnnfast
pressed = 0.0
def press(after):
    def later():
        global pressed
        time.sleep(after)
        pressed = time.perf_counter()
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=later, daemon=True).start()
def late(call):
    press(0.2)
    try:
        call()
    except KeyboardInterrupt:
        print(time.perf_counter() - pressed)
    else:
        sys.exit("it was not interrupted")
rng = np.random.default_rng(0)
def problem(cell, N, T, D, H):
    G = {"lstm": 4, "gru": 3, "rnn_tanh": 1}[cell]
    x, Wx, Wh = (rng.normal(size=s).astype(np.float32) * 0.1 for s in ((1, 1, D), (D, G * H), (H, G * H)))
    return cell, np.broadcast_to(x, (N, T, D)), Wx, Wh
"""


def run(code: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PRESS + textwrap.dedent(code)], capture_output=True, text=True, timeout=120,
        env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


CALLS = {
    "one row": """
        p = problem("lstm", 1, 300_000, 16, 256)
        late(lambda: rnnfast.forward(*p, keep_tape=False))""",
    "many rows": """
        p = problem("gru", 96, 6000, 16, 256)
        late(lambda: rnnfast.forward(*p, keep_tape=False))""",
    "one long row beside short ones": """
        p = problem("lstm", 3, 400_000, 8, 160)
        lengths = np.array([10, 400_000, 10])
        late(lambda: rnnfast.forward(*p, lengths=lengths, keep_tape=False))""",
    "a team": """
        p = problem("lstm", 1, 40_000, 16, 700)
        late(lambda: rnnfast.forward(*p, keep_tape=False))""",
    "packed weights": """
        cell, x, Wx, Wh = problem("lstm", 24, 10_000, 16, 256)
        late(lambda: rnnfast.PackedWeights(cell, Wx, Wh).forward(x))""",
    "backward": """
        p = problem("lstm", 8, 40_000, 16, 128)
        h, _, tape = rnnfast.forward(*p, recompute=200)
        late(lambda: rnnfast.backward(tape, h))
        assert tape.used
        x, Wx, Wh = (a[:, :50] if a.ndim == 3 else a for a in p[1:])
        h, _, tape = rnnfast.forward(p[0], x, Wx, Wh)  # the library works on
        assert np.isfinite(rnnfast.backward(tape, h).Wx).all()""",
    "dense": """
        dense = rnnfast.Dense(2048, 4000)
        x = np.ones((40_000, 2048), np.float32)
        late(lambda: dense.forward(x, training=True))
        assert dense.forward(x[:3]).shape == (3, 4000)""",
}


@posix
@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("call", CALLS)
def test_it_ends_a_long_call(call: str, threads: str) -> None:
    (seconds,) = run(CALLS[call], RNNFAST_NUM_THREADS=threads)
    print(f"{call}, {threads} threads: {float(seconds):.3f} s")
    assert float(seconds) < 3  # promised is 1, of a machine that does nothing else; a call takes 5 to 20


@posix
@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_handler_that_raises_nothing(threads: str) -> None:
    """The call goes on, to the same bits, though the handler uses the library, and knows denormals, meanwhile."""
    lines = run(
        """
        p = problem("lstm", 4, 6000, 16, 96)
        calm = rnnfast.forward(*p)
        called = []
        def handler(number, frame):
            small = np.float32(1e-40)
            called.append(small * np.float32(0.5) > 0 and rnnfast.forward(*p).h.sum() == calm.h.sum())
        signal.signal(signal.SIGINT, handler)
        press(0.01)
        start = time.perf_counter()
        while not called or time.perf_counter() - start < 0.5:
            again = rnnfast.forward(*p)
            assert again.h.tobytes() == calm.h.tobytes()
            d = rnnfast.backward(again.tape, calm.h)
        print(*called)
        """,
        RNNFAST_NUM_THREADS=threads,
    )
    assert lines == ["True"]


@posix
def test_other_threads_do_not_see_it() -> None:
    """A call of another thread is finished; the interrupt is the main thread's."""
    assert run(
        """
        p = problem("lstm", 4, 30_000, 16, 64)
        calm = rnnfast.forward(*p, keep_tape=False).h
        result = []
        worker = threading.Thread(target=lambda: result.append(rnnfast.forward(*p, keep_tape=False).h))
        worker.start()
        press(0.05)
        try:
            while True: time.sleep(0.01)
        except KeyboardInterrupt:
            worker.join()
        print(result[0].tobytes() == calm.tobytes())
        """
    ) == ["True"]


@posix
@pytest.mark.parametrize("daemons", [1, 4])
def test_the_interpreter_ends_while_threads_compute(daemons: int) -> None:
    """Daemon threads inside a call: the process ends as it wanted to, with no abort."""
    code = f"""
import threading, time
import numpy as np, rnnfast
W = np.zeros((64, 256), np.float32)
def work():
    while True:
        x = np.zeros((8, 400, 64), np.float32)
        rnnfast.backward(rnnfast.forward("lstm", x, W, W).tape, np.zeros((8, 400, 64), np.float32))
for _ in range({daemons}): threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
print("the end")
"""
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "the end\n", "")


@posix
def test_asking_has_no_state(make_problem: Any, assert_same_bits: Any) -> None:
    """Two calls of the main thread and of another at once, while signals come: each has its own."""
    p = make_problem("gru", 30, 400, 20, 60, np.float32, ragged=True)
    expected = p.run(num_threads=2)
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(0.005):
            os.kill(os.getpid(), signal.SIGUSR1)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        end = time.perf_counter() + 1
        while time.perf_counter() < end:
            for name, value in p.run(num_threads=2).items():
                assert_same_bits(value, expected[name], name)
    finally:
        stop.set()
        sender.join()
        signal.signal(signal.SIGUSR1, before)
    assert seen
    assert isinstance(expected["h"], np.ndarray)
    assert rnnfast.get_num_threads() >= 1


@posix
@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "3"])
def test_fit_drops_the_batch_at_hand(threads: str) -> None:
    """One batch would take 10 seconds or more; the model is what it was before, and trains on."""
    lines = run(
        """
        x, y = np.zeros((48, 3000), np.int64), np.arange(48) % 2
        network = rnnfast.Network(9, 256, 2, embedding_size=8, dropout=0.1, recompute=100, seed=0)
        before, drawn = network.vector.copy(), network.rng.bit_generator.state
        press(0.5)
        history = rnnfast.fit(network, x, y, batch_size=48, max_epochs=5)
        print(time.perf_counter() - pressed, history.stop_reason, len(history["loss"]))
        assert network.vector.tobytes() == before.tobytes() and network.rng.bit_generator.state == drawn
        history = rnnfast.fit(network, x[:, :20], y, max_epochs=1)
        print(history.stop_reason)
        """,
        RNNFAST_NUM_THREADS=threads,
    )
    print(f"fit, {threads} threads: {float(lines[0]):.3f} s")
    assert float(lines[0]) < 3
    assert lines[1:] == ["interrupted", "0", "max_epochs"]
