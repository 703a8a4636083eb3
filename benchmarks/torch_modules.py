"""A training step of rnnfast.torch beside torch.nn's: dense and packed, results compared first.

    python benchmarks/torch_modules.py [--rows lstm,packed] [--threads 1 2] [--seconds 1]

Prints a Markdown table: forward and backward pass with the gradients of input and weights, milliseconds (medians of
interleaved rounds, as `rnnfast bench` has them), and how many times as fast rnnfast is.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import rnnfast
import rnnfast.torch
import torch
from rnnfast.benchmark import machine
from rnnfast.benchmark.measure import Timing, interleave
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

SIZES = ((16, 20, 32, 32), (32, 50, 64, 128), (64, 100, 128, 256))  # N, T, D, H
CELLS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}


def rows() -> list[tuple[str, str, str, tuple[int, ...]]]:
    """Cell, kind of input, dtype, sizes."""
    return [
        (cell, kind, dtype, sizes)
        for cell in CELLS
        for kind in ("dense", "packed")
        for dtype in ("float32", "float64")
        for sizes in SIZES
    ]


def step(
    module: Any, x: torch.Tensor, batch_sizes: torch.Tensor | None, weight: torch.Tensor
) -> Callable[[], torch.Tensor]:
    given = x if batch_sizes is None else PackedSequence(x, batch_sizes)

    def call() -> torch.Tensor:
        module.zero_grad()
        x.grad = None
        output, _ = module(given)
        result = output if batch_sizes is None else output.data
        loss = (result * weight).sum()
        loss.backward()
        return result.detach()

    return call


def prepare(cell: str, kind: str, dtype: str, sizes: tuple[int, ...]) -> dict[str, Callable[[], torch.Tensor]]:
    """The same step on the same numbers by both, compared."""
    N, T, D, H = sizes
    torch.manual_seed(0)
    of = {"dtype": getattr(torch, dtype)}
    theirs = getattr(nn, CELLS[cell])(D, H, **of)
    ours = getattr(rnnfast.torch, CELLS[cell])(D, H, **of)
    ours.load_state_dict(theirs.state_dict())
    x, batch_sizes = torch.randn(T, N, D, **of), None
    if kind == "packed":
        lengths = torch.randint(1, T + 1, (N,))
        x, batch_sizes, _, _ = pack_padded_sequence(x, lengths, enforce_sorted=False)
    weight = torch.randn(*x.shape[:-1], H, **of) / x[..., 0].numel()
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    calls = {
        name: step(module, x, batch_sizes, weight)
        for name, module, x in zip(("rnnfast", "torch"), (ours, theirs), inputs, strict=True)
    }
    results = [call() for call in calls.values()]
    tolerance = {"rtol": 1e-3, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-9, "atol": 1e-12}
    torch.testing.assert_close(*results, **tolerance)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, **tolerance)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, **tolerance)
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="only those that hold each of these words: lstm,packed,float32")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    of = machine()
    print(
        f"{of['processor']}, {of['processors']} processors, {of['instruction set']}; rnnfast {rnnfast.__version__} "
        f"({of['compiler']}), torch {torch.__version__}, NumPy {np.__version__}, Python {platform.python_version()}\n"
    )
    print("| cell | input | dtype | N/T/D/H | threads | rnnfast, ms | torch.nn, ms | times as fast |")
    print("|---|---|---|---|---|---|---|---|")
    ratios: dict[str, list[float]] = {"dense": [], "packed": []}
    for cell, kind, dtype, sizes in rows():
        for threads in options.threads:
            if not all(word in (cell, kind, dtype) for word in filter(None, options.rows.split(","))):
                continue
            torch.set_num_threads(threads)
            timings = {name: Timing(call) for name, call in prepare(cell, kind, dtype, sizes).items()}
            interleave(timings, options.seconds)
            ms = {name: timing.summary()["median"] for name, timing in timings.items()}
            ratio = ms["torch"] / ms["rnnfast"]
            ratios[kind].append(ratio)
            shown = "/".join(map(str, sizes))
            print(
                f"| {cell} | {kind} | {dtype} | {shown} | {threads} | {ms['rnnfast']:.3f} | {ms['torch']:.3f} | "
                f"{ratio:.2f} |",
                flush=True,
            )
    for kind, found in ratios.items():
        if found:
            mean = float(np.exp(np.mean(np.log(found))))
            print(f"\n{kind}: {mean:.2f} times as fast (geometric mean of {len(found)} rows), worst {min(found):.2f}")


if __name__ == "__main__":
    main()
