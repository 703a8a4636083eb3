"""A failed allocation is a MemoryError, after which everything works on and nothing is left behind.

Each test runs one of the programs below in a process of its own: this file, and the name of a function.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import itertools
import mmap
import os
import pickle
import platform
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import _core

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="preloads, forks"),
    pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="a sanitizer has malloc and signals"),
]
FUNCTIONS = ["malloc", "calloc", "realloc", "aligned_alloc", "posix_memalign", "mmap", "new"]


@pytest.fixture(scope="session")
def preload(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a library that fails allocations."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no c++")
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("needs glibc's __libc_malloc")
    folder = tmp_path_factory.mktemp("preload")
    source = Path(__file__).with_name("fail_allocations.cpp")
    command = [compiler, "-std=c++17", "-O1", "-fno-builtin", "-shared", "-fPIC", source, "-o", folder / "preload.so"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return str(folder / "preload.so")


CALLS = [
    *("forward", "inference", "recompute", "ids", "backward", "backward, recompute", "large", "stream", "stream, step"),
    *("stream, ids", "stream, state", "packed weights", "packed weights, pass", "embedding", "dense", "layer"),
    *("softmax", "cross entropy", "squared error", "sgd", "adam", "adagrad", "clip"),
]
LIBRARIES = ["_core", "numpy under _core", "numpy"]
FINE = "as it should be"
# NumPy 2.4 has places, such as indexing by a mask and the product of a column and a matrix, where a failed allocation
# gives a SystemError or ends the process: where Python calls it, that is its matter.
NUMPY = "NumPy's own: "


def check_lines(lines: list[str], *names: str) -> Counter[str]:
    """What a program says of some calls is fine; how many allocations of each kind failed."""
    assert {line.split(": ")[0] for line in lines} == set(names)
    assert [line for line in lines if not line.endswith(FINE) and NUMPY not in line] == []
    return Counter(line.split(" failed: ")[1].split(":")[0] for line in lines if " failed: " in line)


def report(name: str, lines: list[str], kinds: Counter[str]) -> None:
    own = sum(NUMPY in line for line in lines)
    text = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    print(f"failed allocations, {name}: {kinds.total()} ({text}); {own} met a bug of NumPy, the others none")


def test_failed_allocations(run_program: Any, preload: str) -> None:
    """Each allocation of a call fails once: a MemoryError, and afterwards the call gives the right bits."""
    lines = run_program("sweep", 1, *CALLS, LD_PRELOAD=preload)
    report(f"{len(CALLS)} calls", lines, check_lines(lines, *CALLS))
    kinds = check_lines([line for line in lines if line.startswith("large: ")], "large")  # every way to get memory
    assert set(kinds) == {"aligned_alloc of _core", "mmap of _core", "new of _core", "malloc of numpy under _core"}


def test_failed_allocations_leave_nothing_behind(run_program: Any, preload: str) -> None:
    """All of a call's, eight times in one process."""
    check_lines(run_program("failures", *CALLS, LD_PRELOAD=preload), *CALLS)


@pytest.mark.parametrize("step", [61, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["fit", "classifier"])
def test_failed_allocations_in_training(run_program: Any, preload: str, name: str, step: int) -> None:
    """Every one of them, or some."""
    lines = run_program("sweep", step, name, timeout=1200, LD_PRELOAD=preload)
    report(name, lines, check_lines(lines, name))


# ---- the programs


def flat(result: Any) -> list[Any]:
    """All numbers of a result, or of the state of an object, as bytes."""
    if isinstance(result, rnnfast.Stream):
        result = result.state
    elif hasattr(result, "load_state"):  # an optimiser
        result = result.state()
    if isinstance(result, dict):
        result = [result[key] for key in sorted(result)]
    if isinstance(result, tuple | list):
        return [flat(item) for item in result]
    if isinstance(result, np.ndarray):
        return [result.dtype.str, result.shape, result.tobytes()]
    return [repr(result)] if isinstance(result, float | int | str | None) else [type(result).__name__]


class Case:
    """A call whose allocations fail, and what must come out: of the call itself, or of `again` after a failure."""

    def __init__(self, call: Callable[[], Any], again: Callable[[], Any] | None = None) -> None:
        self.call, self.again = call, again or call


def case(name: str) -> Case:
    """Its arrays are beyond the 1 KB below which NumPy keeps freed ones, its buffers of sizes as in `empty_shelf`."""
    from conftest import make_problem_

    kind, _, variant = name.partition(", ")
    large = kind == "large"
    p = make_problem_("lstm", *((16, 128, 20, 48) if large else (4, 9, 40, 48)), ids="ids" in name, ragged=True)
    recompute = 3 if "recompute" in name else None
    rng = np.random.default_rng(0)
    if kind in ("forward", "inference", "recompute", "ids"):
        return Case(lambda: p.forward(recompute=recompute, keep_tape=kind != "inference")[:2])
    if kind == "large":
        return Case(p.run)
    if kind == "backward":
        tapes = [p.forward(recompute=recompute).tape]

        def back() -> Any:
            return rnnfast.backward(tapes[0], p.dh, p.dstate)

        def back_again() -> Any:
            if tapes[0].used:  # it says so, and a new one is needed
                with contextlib.suppress(RuntimeError):
                    raise AssertionError(f"a used tape gave {back()}")
                tapes[0] = p.forward(recompute=recompute).tape
            result = back()
            tapes[0] = p.forward(recompute=recompute).tape
            return result

        return Case(back, back_again)
    if kind == "stream":
        x, arguments = p.x[:, 0], ("lstm", p.Wx, p.Wh, p.b, 4)
        if not variant:
            return Case(lambda: rnnfast.Stream(*arguments).step(x))
        stream = rnnfast.Stream(*arguments)
        if variant in ("step", "ids"):
            return Case(lambda: stream.step(x))
        before = flat(stream.state)

        def assign() -> Any:
            stream.state = p.state
            return stream

        def assigned() -> Any:
            assert flat(stream.state) in (before, flat(p.state)), "state: one array of the old, one of the new"
            return assign()

        return Case(assign, assigned)
    if kind == "packed weights":
        weights = rnnfast.PackedWeights("lstm", p.Wx, p.Wh, p.b)  # packs in its first pass
        if variant == "pass":
            return Case(lambda: weights.forward(p.x, p.state, lengths=p.lengths)[:2])
        return Case(lambda: rnnfast.PackedWeights("lstm", p.Wx, p.Wh, p.b).forward(p.x)[:2])
    if kind in ("embedding", "dense", "layer"):
        ids, d = rng.integers(0, 50, (4, 9)), rng.normal(size=(4, 9, 48))
        layer: Any = (
            rnnfast.Embedding(50, 48, dtype=np.float64, seed=0) if kind == "embedding"
            else rnnfast.Dense(40, 48, dtype=np.float64, seed=0) if kind == "dense"
            else rnnfast.LSTM(40, 24, 1, True, dtype=np.float64, seed=0)
        )  # fmt: skip

        def step() -> Any:
            out = layer.forward(ids if kind == "embedding" else p.x, lengths=p.lengths, training=True)
            return out, layer.backward(d), layer.gradient_vector

        return Case(step)
    logits, target = rng.normal(size=(4, 9, 30)), rng.integers(0, 30, (4, 9))
    if kind == "softmax":
        return Case(lambda: rnnfast.softmax(logits, axis=1))
    if kind == "cross entropy":
        weight = rng.uniform(size=30).astype(np.float32)  # is converted
        return Case(lambda: rnnfast.softmax_cross_entropy(logits, target, lengths=p.lengths, class_weight=weight))
    if kind == "squared error":
        return Case(lambda: rnnfast.squared_error(logits, logits[::-1], lengths=p.lengths))
    if kind in ("sgd", "adam", "adagrad"):
        optimizer = {"sgd": rnnfast.SGD(momentum=0.9), "adam": rnnfast.Adam(), "adagrad": rnnfast.AdaGrad()}[kind]
        theta, g = rng.normal(size=(2, 500))

        def update() -> Any:
            optimizer.step(theta, g)
            return theta, optimizer

        def updated() -> Any:
            optimizer.load_state(optimizer.state())
            return update()

        return Case(update, updated)
    if kind == "clip":
        g = rng.normal(size=100_000)

        def clip() -> Any:
            gradient = g.copy()
            rnnfast.clip_by_value(gradient, 1.0)
            return rnnfast.clip_by_global_norm(gradient, 1.0), gradient

        return Case(clip)
    if kind == "fit":
        return fit_case()
    sentences = ["a fine film", "a dull film", "fine acting", "so dull"] * 3
    model = rnnfast.SequenceClassifier(hidden_size=12, embedding_size=16, max_epochs=2, random_state=0)

    def classify() -> Any:
        return model.fit(sentences, [1, 0, 1, 0] * 3).predict_proba(sentences), model.predict(sentences)

    return Case(classify)


def fit_case() -> Case:
    rng = np.random.default_rng(0)
    x, y = [rng.integers(0, 30, n) for n in (5, 3, 7, 4, 6, 2)], [0, 1, 1, 0, 1, 0]
    networks: list[Any] = []
    fit = rnnfast.fit  # loads the modules

    def train() -> Any:
        networks.append(rnnfast.Network(30, 16, 2, embedding_size=16, bidirectional=True, seed=0))
        optimizer = rnnfast.Adam()
        fit(networks[-1], x, y, optimizer=optimizer, schedule="linear", batch_size=3, max_epochs=2,
                    clip_norm=1.0, clip_value=1.0, validation=(x, y), seed=0)  # fmt: skip
        return networks[-1].vector

    def again() -> Any:
        assert signal.getsignal(signal.SIGINT) is handler
        for network in networks:  # of the failed call
            assert np.isfinite(network.vector).all()
            fit(network, x, y, batch_size=3, max_epochs=1, seed=0)
            assert np.isfinite(network.forward(np.array([[3, 4]]))).all()
        return train()

    handler = signal.getsignal(signal.SIGINT)
    return Case(train, again)


def empty_shelf() -> list[Any]:
    """Leave no buffer below 100 KB or from 2 MB on for the next call to take, until the result is given up.

    The core keeps 64 freed buffers and gives up the smallest for a new one; a call takes one of up to twice its size.
    """

    def buffers(count: int, size: int) -> list[Any]:
        table = np.zeros((1, size // 8))
        return [_core.gather(np.zeros((1, 1), np.int64), None, table) for _ in range(count)]

    buffers(64, 1 << 18)
    return buffers(4, 1 << 21)


def in_child(work: Callable[[], Any]) -> Any:
    """What a function returns in a forked child, or how the child died."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        signal.alarm(60)
        try:
            result = work()
        except BaseException as error:
            result = f"{type(error).__name__}: {error}"
        with os.fdopen(writer, "wb") as file:
            pickle.dump(result, file)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        data = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return pickle.loads(data) if status == 0 else f"died of {signal.Signals(-status).name}"


def watch() -> tuple[Any, Any]:
    """The preloaded library, watching; where it tells which allocation failed, forked children too."""
    from numpy._core import _multiarray_umath

    library = ctypes.CDLL(None)
    library.fail_after.argtypes = [ctypes.c_long]
    for i, module in enumerate((_core, _multiarray_umath)):
        assert library.watch(i, str(module.__file__).encode()) == 1
    failed = ctypes.c_int.from_buffer(mmap.mmap(-1, mmap.PAGESIZE))
    library.report_to(ctypes.byref(failed))
    rnnfast.set_num_threads(1)
    gc.disable()  # what is collected, and when, would differ from one child to the next
    return library, failed


def sweep(step: str, *names: str) -> None:
    """Fail every step-th allocation of some calls, each in a process of its own."""
    library, failed = watch()
    for name in names:
        of = case(name)
        held = empty_shelf()
        expected = in_child(lambda of=of: flat(of.call()))
        assert isinstance(expected, list), f"{name}: {expected}"
        for k in itertools.count(0, int(step)):
            failed.value = -1
            problem = in_child(functools.partial(attempt, library, failed, of, expected, k))
            if failed.value < 0 and problem == FINE:
                break
            if failed.value >= 32 and problem == "died of SIGSEGV":
                problem = NUMPY + problem
            assert failed.value >= 0, f"{name}, nothing having failed: {problem}"
            what = f"{FUNCTIONS[failed.value % 16]} of {LIBRARIES[failed.value // 16]}"
            print(f"{name}: allocation {k} failed: {what}: {problem}", flush=True)
        del held


def attempt(library: Any, failed: Any, of: Case, expected: list[Any], k: int) -> str:
    """Let the k-th allocation of a call fail; how that goes."""
    unraisable: list[str] = []
    sys.unraisablehook = lambda u: unraisable.append(repr(u.exc_value))
    library.fail_after(k)
    try:
        result, error = of.call(), None
    except BaseException as e:
        result, error = None, e
    library.fail_after(-1)
    if unraisable:
        return f"unraisable: {unraisable}"
    if error is None:
        bits = "the right" if flat(result) == expected else "wrong"
        return f"no error, and {bits} bits" if failed.value >= 0 or bits == "wrong" else FINE
    numpy = failed.value >= 32 and isinstance(error, SystemError)
    if not isinstance(error, MemoryError) and not numpy:
        return f"no MemoryError, but {error!r}"
    text = f"{NUMPY}{error!r}" if numpy else FINE
    del error
    return text if flat(of.again()) == expected else "the same call gives other bits now"


def failures(*names: str) -> None:
    """Fail the allocations of some calls again and again, those of each call in one process."""
    from programs import bytes_in_use

    library, failed = watch()

    def every(of: Case) -> int:
        for k in itertools.count():
            failed.value = -1
            library.fail_after(k)
            with contextlib.suppress(MemoryError):
                of.call()
            library.fail_after(-1)
            of.again()
            if failed.value < 0:
                break
        return k

    def left(of: Case) -> str:
        for _ in range(2):  # the first half fills what is kept
            before, count = bytes_in_use(), sum(every(of) for _ in range(4))
        grown = bytes_in_use() - before
        return FINE if grown < 16 * count else f"{count} failures leave {grown} bytes behind"

    for name in names:
        problem = in_child(functools.partial(left, case(name)))
        numpy = failed.value >= 32 and problem.startswith(("SystemError", "died of SIGSEGV"))
        print(f"{name}: {NUMPY * numpy}{problem}", flush=True)


if __name__ == "__main__":
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    globals()[sys.argv[1]](*sys.argv[2:])
