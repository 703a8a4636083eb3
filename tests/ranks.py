"""The program that test_parallel.py runs under mpiexec: five kinds of training, written to a file for each rank.

``python ranks.py FOLDER [KIND ...]``; the environment says what goes wrong: FAIL_AT "rank:step", KILL_AT "rank:step".
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import rnnfast

N = 37  # no multiple of 2, 3 or 4; the last batch has fewer sequences than four ranks
LENGTHS = np.random.default_rng(1).integers(0, 12, N)


def at(name: str) -> tuple[int, int]:
    rank, step = os.environ.get(name, "-1:-1").split(":")
    return int(rank), int(step)


class Sequences(rnnfast.Sequences):
    """Whose `batch` fails, or ends its process, at some call on some rank."""

    rank, calls = 0, 0

    def batch(self, rows: Any) -> Any:
        self.calls += 1
        if at("KILL_AT") == (self.rank, self.calls):
            os.kill(os.getpid(), signal.SIGKILL)
        if at("FAIL_AT") == (self.rank, self.calls):
            raise OSError(f"batch {self.calls}: the disk is gone")
        return super().batch(rows)


def data(kind: str, rank: int) -> Any:
    rng = np.random.default_rng(2)
    x = [rng.integers(4, 20, n) for n in LENGTHS]
    if kind == "carried":
        x = rng.integers(4, 20, (40, 9))
        return rnnfast.Sequences(x, rng.integers(0, 3, x.shape), per_step=True)
    if kind == "attention":
        return rnnfast.Pairs(x, [rng.integers(4, 15, n) for n in rng.integers(0, 9, N)])
    steps = kind == "pieces"
    y = [rng.integers(0, 3, n) for n in LENGTHS] if steps else rng.integers(0, 3, N)
    found = Sequences(x, y, per_step=steps)
    found.rank = rank
    return found


def model(kind: str) -> Any:
    options: dict[str, Any] = {"dropout": 0.3, "dtype": np.float64, "seed": 5}
    if kind == "attention":
        return rnnfast.EncoderDecoder(20, 15, 8, embedding_size=4, target_embedding=4, attention=True,
                                      initial_state_std=0.1, **options)  # fmt: skip
    if kind == "labels":
        options |= {"num_layers": 2, "bidirectional": True, "initial_state_std": 0.1}
    if kind == "ends":
        options |= {"cell": "gru", "num_layers": 2}
    return rnnfast.Network(20, 9, 3, embedding_size=5, per_step=kind in ("pieces", "carried"), **options)


def settings(kind: str) -> dict[str, Any]:
    result: dict[str, Any] = {"batch_size": 10, "clip_norm": 0.5, "clip_value": 0.2, "seed": 3, "max_epochs": 20}
    if kind in ("pieces", "ends", "carried"):
        result["truncate"] = 4
    if kind == "carried":
        result |= {"carry_state": True, "shuffle": False, "bucket": False}
    if kind == "pieces":
        result["normalizer"] = "both"
    if kind in ("labels", "ends"):
        result["validation"] = data(kind, -1)
    return result


KINDS = ("labels", "pieces", "ends", "attention", "carried")


def train(kind: str, comm: Any, rank: int, **options: Any) -> dict[str, np.ndarray]:
    network = model(kind)
    history = rnnfast.fit(network, data(kind, rank), comm=comm, **settings(kind) | options)
    figures = {name: np.array(values) for name, values in history.history.items() if name != "seconds"}
    return {"weights": network.vector, **figures}


def main(folder: Path, kinds: list[str]) -> None:
    from mpi4py import MPI

    comm, rank = MPI.COMM_WORLD, MPI.COMM_WORLD.Get_rank()
    found = {}
    for kind in kinds:
        options: dict[str, Any] = {}
        if "EVERY" in os.environ:
            options["checkpoint"] = rnnfast.Checkpoint(folder / f"{kind}.safetensors", int(os.environ["EVERY"]))
        for name, value in train(kind, comm, rank, **options).items():
            found[f"{kind}.{name}"] = value
    np.savez(folder / f"rank{rank}.npz", **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(KINDS))
