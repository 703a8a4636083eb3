"""Nothing is left behind: no memory, no object, no reference.

Each test runs one of the programs below in a process of its own: this file, and the name of a function.
"""

from __future__ import annotations

import gc
import itertools
import mmap
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import rnnfast

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="a sanitizer has malloc and signals"),
]


def test_memory_is_flat(run_program: Any) -> None:
    """Under 1 KB a call over random shapes, once the first half of the calls has filled what is kept for later ones."""
    print(*run_program("soak", 10_000))


@pytest.mark.slow
def test_memory_is_flat_for_long(run_program: Any) -> None:
    print(*run_program("soak", os.environ.get("RNNFAST_SOAK_CALLS", 400_000), timeout=24 * 3600))


def test_nothing_is_left_behind(run_program: Any) -> None:
    """No reference, no object, no block and no byte, by the counts of Python and of malloc."""
    print(*run_program("leaks", 40))


# ---- the programs


def wrong_calls(p: Any) -> list[Callable[[], Any]]:
    """Calls of everything with something wrong."""
    cell, N, T, H = p.cell, len(p.x), p.x.shape[1], len(p.Wh)
    tape = p.forward().tape
    rnnfast.backward(tape, p.dh)
    unused = p.forward().tape
    stream, packed = rnnfast.Stream(cell, p.Wx, p.Wh, p.b, N), rnnfast.PackedWeights(cell, p.Wx, p.Wh, p.b)
    dense, embedding = rnnfast.Dense(3, 4, seed=0), rnnfast.Embedding(3, 4, seed=0)
    huge = np.lib.stride_tricks.as_strided(np.ones(1), (1, 2**48, 1), (0, 0, 0))
    one = np.ones((1, 1))
    return [
        lambda: rnnfast.forward("gru2", p.x, p.Wx, p.Wh, p.b),
        lambda: rnnfast.forward(cell, p.x, p.Wx, p.Wh[:, :-1], p.b),
        lambda: rnnfast.forward(cell, p.x, p.Wx, p.Wh, p.b[:-1]),
        lambda: rnnfast.forward(cell, p.x, p.Wx, p.Wh.astype(np.float16), p.b),
        lambda: rnnfast.forward(cell, p.x.astype(complex), p.Wx, p.Wh, p.b),
        lambda: rnnfast.forward(cell, "x", p.Wx, p.Wh, p.b),
        lambda: rnnfast.forward(cell, np.full((N, T), -1), p.Wx, p.Wh, p.b),
        lambda: p.replace(lengths=np.full(N, T + 1)).forward(),
        lambda: p.replace(lengths=np.full(N, 0.5)).forward(),
        lambda: p.replace(state=p.state * 3).forward(),
        lambda: p.replace(state=3).forward(),
        lambda: p.forward(num_threads=0),
        lambda: p.forward(recompute=0),
        lambda: p.forward(keep_tape="no"),
        lambda: rnnfast.forward("rnn_tanh", huge, one, one),
        lambda: rnnfast.backward(tape, p.dh),
        lambda: rnnfast.backward(unused, p.dh[:, :-1]),
        lambda: rnnfast.backward(unused, p.dh, p.dstate * 3),
        lambda: rnnfast.backward(unused, p.dh.astype(np.longdouble)),
        lambda: rnnfast.Stream(cell, p.Wx, p.Wh, p.b, -1),
        lambda: rnnfast.Stream(cell, p.Wx, p.Wh[:-1], p.b),
        lambda: stream.step(np.ones((N, 99))),
        lambda: stream.step(np.full(N, -1)),
        lambda: stream.step(np.zeros(N, np.int64), out=np.ones((N, H, 1))),
        lambda: setattr(stream, "state", (p.dh,)),
        lambda: rnnfast.PackedWeights(cell, p.Wx[:, :-1], p.Wh),
        lambda: packed.forward(p.dh[:, :, :0]),
        lambda: dense.forward(np.ones((2, 5))),
        lambda: dense.backward(np.ones((2, 4))),
        lambda: embedding.forward([[1, 2, 3]]),
        lambda: rnnfast.softmax_cross_entropy(np.ones((2, 3)), [0, 3]),
        lambda: rnnfast.squared_error(np.ones((2, 3)), np.ones(3)),
        lambda: rnnfast.Adam().step(np.ones(3), np.ones(4)),
        lambda: rnnfast.clip_by_value(np.ones(3), -1.0),
    ]


def errors(p: Any) -> int:
    """Make the wrong calls; how many they are."""
    calls = wrong_calls(p)
    for i, call in enumerate(calls):
        try:
            call()
        except (ValueError, TypeError, RuntimeError, MemoryError):
            continue
        raise AssertionError(f"errors: call {i} raises nothing")
    return len(calls)


def resident() -> int:
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


def soak(calls: str) -> None:
    """Calls of every kind over random shapes: the second half must not grow."""
    from conftest import make_problem_
    from programs import DTYPES, LAYOUTS, Ordinary, layers, operations, passes

    rng = np.random.default_rng(0)

    def size(end: int, least: int = 1) -> int:
        return int(rng.integers(least, end))

    def some() -> int:
        """A few calls, and a lower bound of how many."""
        kind, dtype, ragged = rng.integers(4), DTYPES[rng.integers(2)], bool(rng.integers(2))
        if kind >= 2:
            function = (operations, layers)[kind - 2]
            function(Ordinary(), dtype, size(12), size(12), size(40), size(40), ragged, 0)
            return 10
        cell, ids, least = str(rng.choice(rnnfast.cells())), bool(rng.integers(2)), int(kind == 0)
        p = make_problem_(
            cell, *(size(n, least) for n in (12, 16)), size(24) + 1, size(40), dtype, ids=ids, ragged=ragged
        )
        if kind == 0:
            return errors(p)
        rnnfast.set_num_threads(size(4))
        passes(Ordinary(), p, LAYOUTS[rng.integers(4)])
        return 10

    sizes = []
    for _ in range(2):
        done = 0
        while done < int(calls) / 2:
            done += some()
        sizes.append(resident())
    grown = sizes[1] - sizes[0]
    text = f"soak: the second {done} calls add {grown} bytes, {max(grown, 0) / done:.2g} a call, to {sizes[0]}"
    print(text)
    assert grown < 1024 * done, text


def leaks(rounds: str) -> None:
    """The same calls again and again, with the same arrays."""
    from conftest import make_problem_
    from programs import DTYPES, InPlace, bytes_in_use, passes

    kinds = itertools.product(("lstm", "gru"), DTYPES, (False, True))
    problems = [make_problem_(cell, 3, 4, 6, 9, dtype, ids=ids, ragged=True) for cell, dtype, ids in kinds]
    problems.append(make_problem_("lstm", 32, 24, 20, 96))  # a large tape, large results
    objects = [array for p in problems for _, array in p.arrays()]
    objects += [np.dtype(np.float32), np.dtype(np.int64)]  # to that of float64, NumPy 2.4 leaves references in np.ones

    def all_calls() -> int:
        for p in problems:
            passes(InPlace(), p, "C")
        return sum(10 + errors(p) for p in problems)

    seen = np.zeros((2, 4), np.int64)
    for line in seen:  # the first half fills what is kept
        calls = sum(all_calls() for _ in range(int(rounds) // 2))
        line[3] = bytes_in_use()
        line[:2] = sum(map(sys.getrefcount, objects)), len(gc.get_objects())
        line[2] = sys.getallocatedblocks()
    references, tracked, blocks, size = map(int, seen[1] - seen[0])
    left = f"{references} references, {tracked} objects, {blocks} blocks and {size} bytes"
    text = f"leaks: the second {calls} calls leave {left} behind"
    print(text)
    assert references == 0, text
    assert tracked <= 0, text
    assert blocks < calls / 20, text
    assert size < calls, text


if __name__ == "__main__":
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    globals()[sys.argv[1]](*sys.argv[2:])
