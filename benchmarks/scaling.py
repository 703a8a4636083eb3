"""How training goes on more ranks: measured on this machine with mpiexec, and predicted beyond it by a small model.

``python benchmarks/scaling.py [--page docs/scaling.md] [--steps 12]`` runs 1, 2 and 4 ranks of one thread each, with
the same batch (strong scaling) and with a batch that grows with the ranks (weak scaling), and sums vectors of several
sizes. The model has four constants: seconds of a step for each sequence and for each step, latency and seconds per
byte of a sum. Needs ``pip install ".[mpi]" mpich`` or another MPI.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rnnfast
from rnnfast.parallel import MPIComm

RANKS, ROUNDS = (1, 2, 4), 5
BATCH, T, D, H = 64, 50, 128, 256  # of the network that is trained, an LSTM of 394,754 parameters
SIZES = (1 << 6, 1 << 12, 1 << 16, 1 << 20, 1 << 22)  # float32 numbers of the sums
# Latency in seconds and seconds per byte of the networks that are predicted for: usual figures, not measured here.
NETWORKS = {"10 Gbit/s Ethernet": (30e-6, 1 / 1.1e9), "100 Gbit/s InfiniBand": (2e-6, 1 / 11e9)}


class Timed(MPIComm):
    """Counts the seconds that sums take, waiting for the others included."""

    seconds = 0.0

    def sum(self, array: Any) -> None:
        start = time.perf_counter()
        super().sum(array)
        self.seconds += time.perf_counter() - start


class Steps(rnnfast.Callback):
    """When each step ended, and how long sums had taken by then."""

    def __init__(self, comm: Timed) -> None:
        self.comm, self.times = comm, []

    def on_train_batch_end(self, batch: int, logs: Any) -> None:
        self.times.append((time.perf_counter(), self.comm.seconds))


def rank_program(steps: int) -> None:
    """What each rank runs; rank 0 prints what it measured."""
    from mpi4py import MPI

    comm = Timed(MPI.COMM_WORLD)
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {}
    for kind, batch in (("strong", BATCH), ("weak", BATCH * comm.size), ("half", BATCH // 2)):
        x = rng.normal(size=(batch * (steps + 5), T, D)).astype(np.float32)
        y = rng.integers(0, 2, len(x))
        network = rnnfast.Network(D, H, 2, seed=0, num_threads=1)
        clock = Steps(comm)
        rnnfast.fit(network, x, y, batch_size=batch, max_epochs=1, comm=comm, callbacks=[clock], bucket=False)
        whole, sums = np.diff(np.array(clock.times[5:]), axis=0).T if comm.rank == 0 else (np.ones(1), np.ones(1))
        found[kind] = {"step": float(np.median(whole)), "sum": float(np.median(sums))}
    found["parameters"] = network.vector.size
    for size in SIZES:
        array, times = np.ones(size, np.float32), []
        for _ in range(max(10, min(200, (1 << 24) // size))):
            MPI.COMM_WORLD.Barrier()
            start = time.perf_counter()
            comm.sum(array)
            times.append(time.perf_counter() - start)
            array[:] = 1
        found.setdefault("sums", {})[size] = float(np.median(times))
    if comm.rank == 0:
        print(json.dumps(found))


def measure(steps: int) -> dict[int, dict[str, Any]]:
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if mpiexec is None:
        raise SystemExit("expected mpiexec of an MPI; pip install mpich brings one")
    found: dict[int, list[dict[str, Any]]] = {size: [] for size in RANKS}
    for _ in range(ROUNDS):  # interleaved: neighbours on a shared machine come and go
        for size in RANKS:
            command = [mpiexec, "-n", str(size), sys.executable, __file__, "--rank-program", "--steps", str(steps)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr)
            found[size].append(json.loads(done.stdout.splitlines()[-1]))
    return {size: medians(runs) for size, runs in found.items()}


def medians(runs: list[Any]) -> Any:
    if isinstance(runs[0], dict):
        return {key: medians([run[key] for run in runs]) for key in runs[0]}
    return type(runs[0])(np.median(runs))


def of_sums(found: dict[int, dict[str, Any]]) -> tuple[float, float]:
    """Latency and seconds per byte of a sum over 2 ranks: t = 2 latency + bytes * seconds per byte."""
    sizes = np.array(SIZES, float)
    t = np.array([found[2]["sums"][str(size)] for size in SIZES])
    weight = 1 / t  # relative errors
    A = np.stack([2 * np.ones_like(sizes), 4 * sizes], axis=1)
    latency, per_byte = np.linalg.lstsq(A * weight[:, None], t * weight, rcond=None)[0]
    return max(float(latency), 1e-7), float(per_byte)


def sum_time(ranks: int, size: int, latency: float, per_byte: float) -> float:
    """Recursive halving and doubling (Rabenseifner 2004), which MPI takes for long vectors."""
    return 2 * np.log2(ranks) * latency + 2 * (ranks - 1) / ranks * 4 * size * per_byte if ranks > 1 else 0.0


TEXT = """# Scaling

Written by `python benchmarks/scaling.py --page docs/scaling.md`. How to train on several ranks:
[parallel.md](parallel.md).

An LSTM, D = {D}, H = {H}, {n:,} parameters in float32, sequences of {T} steps, one thread for each rank.
{machine}.

## Measured

Medians of {rounds} rounds, in which the rows take turns. Ranks beyond the {cores} processors share them: those rows
show that nothing breaks, not speed. "In sums" is the time inside Allreduce on rank 0, waiting for slower ranks
included. Efficiency is the speed over that of one rank, divided by the ranks that have a processor of their own.

| ranks | batch | ms a step | in sums, ms | sequences/s | of 1 rank | efficiency |
|---|---|---|---|---|---|---|
{rows}

A sum over 2 ranks of this machine, which share its memory:

| numbers | µs | GB/s |
|---|---|---|
{sums}

## Predicted

    step(P, b) = b c + a + sum(P)      b sequences on each of P ranks
    sum(P) = 2 log2(P) l + 2 (P - 1)/P · bytes · s        (Rabenseifner 2004)

with c = {c:.0f} µs a sequence and a = {a:.2f} ms a step (optimiser, Python), from one rank with batches of {BATCH}
and of {half}, and l = {l:.1f} µs, 1/s = {bandwidth:.2f} GB/s in this machine. Between machines they are the network's:
the figures of the two networks are usual ones, not measured here. Communication stays under 10 % of a step from so
many sequences on each rank on:

| ranks | this machine's memory | {networks} |
|---|---|{rules}
{least}

Efficiency that this predicts for {BATCH} sequences on each rank:

| ranks | this machine's memory | {networks} |
|---|---|{rules}
{efficiency}

What measured rows show and the model leaves out: ranks wait for the slowest, whose share has the longest sequences, or
whose processor is busy. Overlapping the sum with the backward pass could at best hide the sum: {slow:.1%} of a step in
the slowest column at 1,024 ranks and {BATCH} sequences on each. The gradient of a layer is there only when the walk
back through its time ends, so a network of one layer has nothing to overlap with. By this the overlap does not pay,
and it was not built; nor were local steps between sums, which change the result.
"""


def page(found: dict[int, dict[str, Any]]) -> str:
    n, cores = found[1]["parameters"], os.cpu_count() or 1
    c = max(1e-9, (found[1]["strong"]["step"] - found[1]["half"]["step"]) / (BATCH - BATCH // 2))
    a = max(0.0, found[1]["strong"]["step"] - BATCH * c)
    latency, per_byte = of_sums(found)
    rows = []
    for kind in ("strong", "weak"):
        for size in RANKS:
            batch = BATCH if kind == "strong" else BATCH * size
            step, sums = found[size][kind]["step"], found[size][kind]["sum"]
            speed = batch / step
            ratio = speed / (BATCH / found[1][kind]["step"])
            times = f"{1e3 * step:.2f} | {1e3 * sums:.2f} | {speed:,.0f} | {ratio:.2f} ×"
            rows.append(f"| {size} | {batch} ({kind}) | {times} | {ratio / min(size, cores):.0%} |")
    of_size = {size: found[2]["sums"][str(size)] for size in SIZES}
    constants = [(latency, per_byte), *NETWORKS.values()]
    work = BATCH * c + a

    def table(cell: Callable[[float], str]) -> str:
        """A row for each number of ranks; `cell` is given the seconds of a sum."""
        numbers = (2, 4, 16, 64, 256, 1024)
        return "\n".join(
            f"| {P:,} | " + " | ".join(cell(sum_time(P, n, *of)) for of in constants) + " |" for P in numbers
        )

    slowest = max(sum_time(1024, n, *of) for of in constants)
    return TEXT.format(
        D=D, H=H, T=T, rounds=ROUNDS, BATCH=BATCH, half=BATCH // 2, n=n, cores=cores,
        rows="\n".join(rows), c=1e6 * c, a=1e3 * a,
        machine=f"{processor()}, {cores} processors; rnnfast {rnnfast.__version__}, NumPy {np.__version__}, {mpi()}, "
        f"Python {platform.python_version()}",
        sums="\n".join(f"| {size:,} | {1e6 * t:.1f} | {4 * size / t / 1e9:.2f} |" for size, t in of_size.items()),
        l=1e6 * latency, bandwidth=1e-9 / per_byte, networks=" | ".join(NETWORKS), rules="---|" * len(NETWORKS),
        least=table(lambda t: f"{max(1, int(np.ceil((9 * t - a) / c))):,}"),
        efficiency=table(lambda t: f"{work / (work + t):.1%}"), slow=slowest / (work + slowest),
    )  # fmt: skip


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def mpi() -> str:
    from mpi4py import MPI

    return MPI.Get_library_version().splitlines()[0].replace("\t", " ").replace("Version:", "").strip(" \0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", metavar="FILE", help="write a Markdown page")
    parser.add_argument("--steps", type=int, default=12, help="steps of the optimiser for each row and round")
    parser.add_argument("--rank-program", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank_program:
        return rank_program(options.steps)
    text = page(measure(options.steps))
    print(text)
    if options.page:
        Path(options.page).write_text(text, encoding="utf-8")
    return None


if __name__ == "__main__":
    main()
