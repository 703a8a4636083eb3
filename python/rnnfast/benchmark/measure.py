"""Check, then time: the rounds of one number of threads in one child process, and the peak memory of one step.

`rows_of` and `memory_of` start a child on as many processors as threads, hand it a request as JSON, and yield what it
reports line by line. Called by rnnfast.benchmark.run. It must not know how a peer
works or how results are shown. docs/decisions/0003-benchmark-dependencies.md tells why the rounds are as they are.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import _core
from .contender import Contender, Prepared, compare, make_problem
from .grid import Machine, Row, attainable, flops, lengths_of, parse
from .own import reference_answers
from .peers import CONTENDERS

__all__ = ["Timing", "caches", "interleave", "memory_of", "rows_of", "settle"]

SIZES = tuple(1 << k for k in (14, 18, 20, 22, 24, 26))  # working sets whose read bandwidth is measured: 16 KiB..64 MiB
WARM_UPS, ROUNDS, LEAST_ROUNDS, SLOW_ROUNDS = 3, 20, 5, 3
BURST = 0.02  # seconds of consecutive calls of one contender in a round
SLOW = 1.0  # seconds: a call that takes longer is given fewer rounds
NO_CACHES = {"L1": 32 << 10, "L2": 512 << 10, "L3": 16 << 20}  # where the system does not tell


# ---- the machine


def caches(processor: int = 0, folder: Path = Path("/sys/devices/system/cpu")) -> dict[str, int]:
    """Bytes of the data caches of a processor, by level."""
    found = {}
    for index in sorted((folder / f"cpu{processor}" / "cache").glob("index*")):
        try:
            kind, level, size = ((index / name).read_text().strip() for name in ("type", "level", "size"))
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K"):
            found[f"L{level}"] = int(size[:-1]) << 10
    return found or dict(NO_CACHES)


def at_once(threads: int, probe: Callable[[], float]) -> float:
    """The mean of a probe on so many Python threads at once; probes release the interpreter."""
    if threads == 1:
        return probe()
    with ThreadPoolExecutor(threads) as pool:
        return statistics.fmean(pool.map(lambda _: probe(), range(threads)))


def peak(threads: int, seconds: float = 0.005) -> float:
    """Multiply-add flop/s of one thread while `threads` run."""
    return at_once(threads, lambda: _core.multiply_add_rate(seconds))


def bandwidth(threads: int, size: int, seconds: float = 0.005) -> float:
    """Bytes/s that one thread reads from its own `size` bytes while `threads` do."""
    return at_once(threads, lambda: _core.read_rate(size, seconds))


# ---- timing


def settle(limit: float = 0.1, step: float = 0.002) -> None:
    """Wait until no thread of this process runs.

    The workers of OpenMP, OpenBLAS and thread pools go on spinning after a call, up to 30 ms, on the processors that
    the next contender needs. Their time shows in the process's.
    """
    end = time.perf_counter() + limit
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(step)
        if time.process_time() - before < step / 8:
            return


@dataclass
class Timing:
    """Seconds of each timed call of one contender."""

    call: Callable[[], Any]
    seconds: list[float] = field(default_factory=list)
    rounds: int = 0

    def warm_up(self, seconds: float) -> None:
        for _ in range(WARM_UPS):
            start = time.perf_counter()
            self.call()
            if time.perf_counter() - start > min(SLOW, 2 * seconds):
                break

    def burst(self) -> None:
        """Untimed call, then calls for 20 ms; one timed call where that is longer."""
        start = time.perf_counter()
        self.call()  # wakes this contender's workers
        first = time.perf_counter() - start
        if first > SLOW / 2:  # waking cannot matter
            self.seconds.append(first)
            self.rounds += 1
            return
        end = time.perf_counter() + BURST
        while True:
            start = time.perf_counter()
            self.call()
            now = time.perf_counter()
            self.seconds.append(now - start)
            if now >= end:
                break
        self.rounds += 1

    def done(self, seconds: float) -> bool:
        if self.rounds >= ROUNDS:
            return True
        if self.rounds >= LEAST_ROUNDS:
            return sum(self.seconds) >= seconds
        return self.rounds >= SLOW_ROUNDS and min(self.seconds) > min(SLOW, 2 * seconds)

    def summary(self) -> dict[str, Any]:
        """Milliseconds."""
        ms = np.array(self.seconds) * 1e3
        low, median, high = (float(q) for q in np.quantile(ms, (0.1, 0.5, 0.9)))
        return {
            "median": median,
            "p10": low,
            "p90": high,
            "min": float(ms.min()),
            "rounds": self.rounds,
            "calls": len(self.seconds),
        }


def interleave(timings: dict[str, Timing], seconds: float, between: Callable[[int], None] = lambda _: None) -> None:
    """Rounds A B C A B C until each has enough; the first contender goes on until the last one is done."""
    first = next(iter(timings.values()), None)
    for timing in timings.values():
        timing.warm_up(seconds)
        settle()
    number = 0
    while waiting := [timing for timing in timings.values() if not timing.done(seconds)]:
        between(number)
        number += 1
        for timing in timings.values():
            if timing in waiting or timing is first:
                settle()
                timing.burst()


# ---- in the child


class _Bench:
    """Contenders of one process, and the measurements of a row."""

    def __init__(self, names: Sequence[str], threads: int, seconds: float, seed: int) -> None:
        self.threads, self.seconds, self.seed = threads, seconds, seed
        self.contenders: dict[str, Contender] = {}
        self.gaps: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        for name in names:
            kind = CONTENDERS[name]
            try:
                self.contenders[name] = contender = kind(threads)
                self.versions[kind.package] = contender.version()
            except Exception as error:  # an adapter meets whatever a broken installation raises
                self.gaps[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        self.caches = caches(min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0)

    def row(self, row: Row, mode: str) -> dict[str, Any]:
        problem = make_problem(row, self.seed)
        expected = reference_answers(problem, mode)
        found: dict[str, dict[str, Any]] = {}
        timings: dict[str, Timing] = {}
        for name, contender in self.contenders.items():
            reason = contender.gap(row, mode)
            if reason is not None:
                found[name] = {"gap": reason}
                continue
            try:
                prepared = contender.prepare(problem, mode)
                error, refused = compare(prepared.answers(), expected, row.item)
                if refused is not None:
                    found[name] = {"refused": refused}
                    continue
                taken = contender.implementation(problem, mode, prepared)
            except Exception as failure:  # noted in the row, whatever it is
                found[name] = {"gap": f"{type(failure).__name__}: {failure}".splitlines()[0][:200]}
                continue
            found[name] = {"error": error, "implementation": taken}
            timings[name] = Timing(prepared.call)
        del expected
        gc.collect()

        peaks: list[float] = []
        rates: dict[int, list[float]] = {size: [] for size in SIZES}
        settle()
        for size in SIZES:
            rates[size].append(bandwidth(self.threads, size))

        def between(number: int) -> None:
            settle()
            peaks.append(peak(self.threads))
            size = SIZES[number % len(SIZES)]
            rates[size].append(bandwidth(self.threads, size))

        interleave(timings, self.seconds, between)
        for name, timing in timings.items():
            found[name] |= timing.summary()
        return self._result(row, mode, found, peaks, rates)

    def _result(
        self, row: Row, mode: str, found: dict[str, Any], peaks: list[float], rates: dict[int, list[float]]
    ) -> dict[str, Any]:
        lengths = lengths_of(row, self.seed)
        machine = Machine(
            self.threads,
            statistics.median(peaks) if peaks else peak(self.threads),
            {size: statistics.median(values) for size, values in rates.items()},
            self.caches,
        )
        bound = attainable(row, mode, lengths, machine)
        return {
            "row": str(row),
            "mode": mode,
            "threads": self.threads,
            "steps": int(lengths.sum()),
            "flops": flops(row, mode, lengths),
            "peak": machine.peak,
            "bandwidth": {str(size): rate for size, rate in machine.bandwidth.items()},
            "attainable": bound.seconds * 1e3,
            "bound": bound.by,
            "seed": self.seed,
            "contenders": found,
        }


def _status(name: str) -> int:
    """VmHWM or VmRSS in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    raise OSError(f"/proc/self/status has no {name}")


def _memory(row: Row, name: str, threads: int, seed: int) -> dict[str, Any]:
    """Peak of one training step beyond what stood before it: inputs, weights and libraries."""
    try:
        contender = CONTENDERS[name](threads)
    except Exception as error:
        return {"gap": f"{type(error).__name__}: {error}".splitlines()[0]}
    if (reason := contender.gap(row, "training")) is not None:
        return {"gap": reason}
    tiny = contender.prepare(make_problem(row.but(T=2, N=2, D=8, H=8), seed), "training")
    tiny.call()
    prepared: Prepared = contender.prepare(make_problem(row, seed), "training")
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = _status("VmRSS")
    result = prepared.call()
    after = _status("VmHWM")
    del result
    return {"MiB": (after - before) / 2**20}


def _main() -> None:
    """Serve one request: JSON on standard input, a line of JSON for each result on what was standard output."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # peers may print
    request = json.load(sys.stdin)

    def report(**result: Any) -> None:
        out.write(json.dumps(result) + "\n")
        out.flush()

    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        if request["kind"] == "memory":
            row = parse(request["row"])
            report(memory=_memory(row, request["contender"], request["threads"], request["seed"]))
            return
        bench = _Bench(request["contenders"], request["threads"], request["seconds"], request["seed"])
        report(versions=bench.versions, gaps=bench.gaps)
        for text, mode in request["rows"]:
            report(row=bench.row(parse(text), mode))


# ---- in the parent


def _child(threads: int, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Results of a child on `threads` of the processors that this process may use."""
    processors = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if processors and threads > len(processors):
        raise ValueError(f"threads: expected at most {len(processors)}, the processors at hand, got {threads}")
    environment = dict(os.environ)
    for name in ("OMP", "OPENBLAS", "MKL", "BLIS", "RNNFAST"):
        environment[f"{name}_NUM_THREADS"] = str(threads)
    chosen = ",".join(map(str, processors[:threads]))
    # before any library is loaded: thread pools take their size from the processors that they find
    program = (
        f"import os; hasattr(os, 'sched_setaffinity') and os.sched_setaffinity(0, [{chosen}]); "
        "import runpy; runpy.run_module('rnnfast.benchmark.measure', run_name='__main__')"
    )
    command = [sys.executable, "-W", "ignore", "-c", program]
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as noise,  # peers are talkative
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=noise, text=True, env=environment) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(json.dumps(request))
            child.stdin.close()
            for line in child.stdout:
                yield json.loads(line)
        except BaseException:  # interrupted, or nobody wants the rest
            child.terminate()
            raise
        if child.wait() != 0:
            noise.seek(0)
            last = (noise.read().strip().splitlines() or ["no word"])[-1]
            raise RuntimeError(f"the measuring process ended with {child.returncode}: {last}")


def rows_of(
    rows: Sequence[tuple[Row, str]], contenders: Sequence[str], threads: int, seconds: float, seed: int
) -> Iterator[dict[str, Any]]:
    """First the versions and gaps of the contenders, then one result for each (row, mode)."""
    request = {
        "kind": "rows",
        "rows": [(str(row), mode) for row, mode in rows],
        "contenders": list(contenders),
        "threads": threads,
        "seconds": seconds,
        "seed": seed,
    }
    yield from _child(threads, request)


def memory_of(row: Row, contender: str, threads: int, seed: int) -> dict[str, Any]:
    """MiB that a training step of one contender takes at its peak, in a process of its own; or why there is none."""
    request = {"kind": "memory", "row": str(row), "contender": contender, "threads": threads, "seed": seed}
    try:
        results = list(_child(threads, request))
    except RuntimeError as error:
        return {"gap": str(error)}
    result: dict[str, Any] = results[-1]["memory"] if results else {"gap": "no answer"}
    return result


if __name__ == "__main__":
    _main()
