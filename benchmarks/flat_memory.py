"""Train on a generated file larger than the memory that is used: python benchmarks/flat_memory.py [--gigabytes 4]

Writes a .npy file of float32 features in a folder of its own, trains a small GRU on it for one pass from
`streaming.arrays`, predicts every sequence, and prints the peak of the process's resident memory before and after,
as the system counts it (Linux). With --text the file is lines label<TAB>text, for `streaming.classification`.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rnnfast
from rnnfast import streaming
from rnnfast.benchmark import machine

T, D = 100, 20


def peak() -> float:
    """GB, the largest so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def write_features(path: Path, size: int) -> Any:
    """Sequences whose class is the sign of a sum; their file is written past the page cache of this process."""
    rng, N = np.random.default_rng(0), size // (4 * T * D)
    y = np.empty(N, np.int64)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (N, T, D)})
        for start in range(0, N, 2000):
            x = rng.standard_normal((min(2000, N - start), T, D), np.float32)
            y[start : start + len(x)] = x[:, :, 0].sum(axis=1) > 0
            file.write(x.tobytes())
    return streaming.arrays(path, y)


def write_text(path: Path, size: int) -> Any:
    rng = np.random.default_rng(0)
    words = np.array([f"w{k}" for k in range(2000)])
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            for ids in rng.integers(0, 2000, (2000, 200)):
                file.write(f"{'high' if ids[-1] >= 1000 else 'low'}\t{' '.join(words[ids])}\n")
    return streaming.classification(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--text", action="store_true")
    options = parser.parse_args()
    of = machine()
    print(f"{of['processor']}, {os.cpu_count()} processors; rnnfast {rnnfast.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "corpus")
        start = time.perf_counter()
        source = (write_text if options.text else write_features)(path, int(options.gigabytes * 1e9))
        written = time.perf_counter() - start
        print(f"{source!r}, {path.stat().st_size / 1e9:.2f} GB, written and gone through in {written:.0f} s")
        before, start = peak(), time.perf_counter()
        model = rnnfast.SequenceClassifier(
            cell="gru", hidden_size=8, embedding_size=8, bidirectional=False, max_epochs=1, batch_size=256,
            learning_rate=0.01, validation_fraction=0.1, random_state=0)  # fmt: skip
        model.fit(source)
        trained = time.perf_counter() - start
        accuracy = model.history_["val_accuracy"][0]
        print(f"one pass in {trained:.0f} s; accuracy on the tenth that was held out {accuracy:.1%}")
        start = time.perf_counter()
        count = sum(1 for _ in model.predict_each(source))
        print(f"{count:,} predictions in {time.perf_counter() - start:.0f} s")
        print(f"peak of memory: {before:.2f} GB before training, {peak():.2f} GB after")


if __name__ == "__main__":
    main()
