"""Nothing is touched outside the arrays: they end at a page that may not be touched, or start behind one.

Each test runs one of the programs below in a process of its own: this file, and the name of a function.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import _core

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="protects pages, forks"),
    pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="a sanitizer has malloc and signals"),
]
ISAS = [isa["name"] for isa in _core.instruction_sets() if isa["available"]]
SIZES = sorted({size for w in (4, 8, 16) for size in (1, w - 1, w, w + 1, 2 * w + 3)})
TOO_MANY = ("read", "written", "an input", "a weight", "an output")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("rounds", [1, pytest.param(len(SIZES), marks=pytest.mark.slow)])
def test_nothing_outside_the_arrays_is_touched(run_program: Any, rounds: int, isa: str) -> None:
    *cases, last = run_program("guards", rounds, timeout=1200, RNNFAST_ISA=isa)
    assert last == "done"
    print(f"guard pages, {isa}: {len(cases)} guarded cases, nothing outside the arrays is touched")


def test_what_is_outside_is_found(run_program: Any) -> None:
    """One number or row too many ends the program; what is written on the page of an array is found afterwards."""
    expected = [f"{what}, {side}: died of SIGSEGV" for side in ("start", "end") for what in TOO_MANY]
    expected += [f"the same page, {side}: written outside an array" for side in ("start", "end")]
    assert sorted(run_program("overruns")) == sorted(expected)


# ---- the programs


class Pages:
    """Copies of arrays that end at a page which may not be touched, or start behind one."""

    def __init__(self, side: str) -> None:
        self.side = side
        self.protect = ctypes.CDLL(None).mprotect
        self.protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        self.free: dict[int, list[np.ndarray]] = {}  # bytes -> whole pages
        self.used: list[tuple[np.ndarray, np.ndarray]] = []  # whole pages, what of them is around the array

    def __call__(self, array: Any) -> Any:
        if array is None:
            return None
        array = np.ascontiguousarray(array)
        size = max(-(-array.nbytes // mmap.PAGESIZE), 1) * mmap.PAGESIZE
        whole = self.free[size].pop() if self.free.get(size) else self.map(size)
        whole[...] = 255  # NaN
        first = 0 if self.side == "start" else size - array.nbytes
        self.used.append((whole, whole[array.nbytes :] if self.side == "start" else whole[:first]))
        copy = whole[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
        copy[...] = array
        return copy

    def map(self, size: int) -> np.ndarray:
        area = np.frombuffer(mmap.mmap(-1, size + 2 * mmap.PAGESIZE), np.uint8)
        for guard in (0, mmap.PAGESIZE + size):
            assert self.protect(area.ctypes.data + guard, mmap.PAGESIZE, 0) == 0
        return area[mmap.PAGESIZE : -mmap.PAGESIZE]

    def done(self) -> None:
        """The arrays are not used any more; nothing around them may have been written."""
        for whole, rest in self.used:
            assert (rest == 255).all(), "written outside an array"
            self.free.setdefault(whole.size, []).append(whole)
        self.used.clear()


def guards(rounds: str) -> None:
    """Every kind of call on guarded arrays, which must give the bits of the same call on ordinary ones."""
    from conftest import assert_same_bits_, make_problem_
    from programs import DTYPES, LAYOUTS, Ordinary, layers, operations, passes

    def compare(name: str, function: Callable[..., dict[str, Any]], threads: int, *arguments: Any) -> None:
        rnnfast.set_num_threads(1)
        expected = function(Ordinary(), *arguments)
        for put in guarded:
            print(f"{name}, threads={threads}, {put.side}", flush=True)  # there also when the next line crashes
            rnnfast.set_num_threads(threads)
            results = function(put, *arguments)
            assert results.keys() == expected.keys()
            for key, value in expected.items():
                assert_same_bits_(results[key], value, key)
            put.done()

    def pick(choices: Any) -> Any:
        return choices[int(rng.integers(len(choices)))]

    guarded = [Pages("start"), Pages("end")]
    rng = np.random.default_rng(0)
    for i in range(int(rounds)):
        for cell, dtype, ids, j in itertools.product(rnnfast.cells(), DTYPES, (False, True), range(len(SIZES))):
            H, D = SIZES[j], SIZES[(i + j) % len(SIZES)] if int(rounds) > 1 else pick(SIZES)
            N, T = pick((1, 2, 7)), pick((1, 2, 4))
            flags = {name: pick((False, True)) for name in ("ragged", "bias", "state", "reverse")}
            p = make_problem_(cell, N, T, D, H, dtype, seed=i, ids=ids, **flags)
            layout = pick(LAYOUTS)
            text = f"{cell}, {np.dtype(dtype)}, {ids=}, {N=}, {T=}, {D=}, {H=}, {flags}, {layout}"
            compare(text, passes, pick((1, 2, 3)), p, layout)
        for dtype, H, ragged in itertools.product(DTYPES, SIZES, (False, True)):
            sizes = pick((1, 2, 7)), pick((1, 2, 4)), H, pick(SIZES)
            for function in (operations, layers):
                text = f"{function.__name__}, {np.dtype(dtype)}, N, T, H, K = {sizes}, {ragged=}"
                compare(text, function, pick((1, 2, 3)), dtype, *sizes, ragged, i)
    # A team of threads shares the units of few rows; and threads that have rows each.
    cells, dtypes = (["lstm"], DTYPES[:1]) if int(rounds) == 1 else (rnnfast.cells(), DTYPES)
    for cell, dtype, ids in itertools.product(cells, dtypes, (False, True)):
        for N, T, D, H in ((1, 30 if cell.startswith("rnn") else 10, 37, 230), (7, 32, 67, 67)):
            p = make_problem_(cell, N, T, D, H, dtype, ids=ids, ragged=N > 1)
            for threads in (2, 3):
                compare(f"{cell}, {np.dtype(dtype)}, {ids=}, {N=}, {T=}, {D=}, {H=}", passes, threads, p, "C")
            p.forward(num_threads=3)
            assert cell.startswith("rnn") or len(os.listdir("/proc/self/task")) >= 3
    for dtype, ragged, threads in itertools.product(dtypes, (False, True), (2, 3)):
        sizes = (13, 9, 67, 131)
        for function in (operations, layers):
            compare(
                f"{function.__name__}, large, {np.dtype(dtype)}, {ragged=}", function, threads, dtype, *sizes, ragged, 0
            )
    print("done")


def overrun(side: str, what: str) -> None:
    """One number or one row too many at the guarded side of an array, or a number at the other side of it."""
    from conftest import make_problem_

    put = Pages(side)
    p, larger = (make_problem_("lstm", N, 3, D, 4) for N, D in ((2, 5), (3, 6)))

    def longer(array: np.ndarray) -> Any:
        """The array with a row more along its first axis, which is not there."""
        rows = put(array)
        rows = rows if side == "end" else rows[(slice(None, None, -1),) * (array.ndim - 1)]
        return np.lib.stride_tricks.as_strided(rows, (len(array) + 1, *array.shape[1:]), rows.strides)

    x, Wx, h, y = longer(p.x), longer(p.Wx), longer(p.dh), put(p.x)
    before, behind = y.ctypes.data - 1, y.ctypes.data + y.nbytes
    guarded, unguarded = (behind, before) if side == "end" else (before, behind)
    ends = ("lstm", larger.x[:, :, :5], p.Wx, p.Wh, None, None, None, False, False, 1, None)
    calls: dict[str, Callable[[], Any]] = {
        "read": lambda: ctypes.string_at(guarded, 1),
        "written": lambda: ctypes.memset(guarded, 0, 1),
        "an input": lambda: rnnfast.forward("lstm", x, p.Wx, p.Wh, num_threads=1),
        "a weight": lambda: rnnfast.forward("lstm", larger.x, Wx, p.Wh, num_threads=1),
        "an output": lambda: _core.forward(*ends, h),
        "the same page": lambda: ctypes.memset(unguarded, 0, 1),
    }
    calls[what]()
    put.done()


def overruns() -> None:
    """How each one ends, in a process of its own."""
    for side, what in itertools.product(("start", "end"), (*TOO_MANY, "the same page")):
        print(f"{what}, {side}", end=": ", flush=True)
        child = os.fork()
        if child == 0:
            try:
                overrun(side, what)
            except AssertionError as error:
                print(error, flush=True)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != 0:
            print(f"died of {signal.Signals(-code).name}", flush=True)


if __name__ == "__main__":
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    globals()[sys.argv[1]](*sys.argv[2:])
