"""How far a gradient gets: python benchmarks/gradient_flow.py [FILE.svg]

For each cell and way to start it, the share of the gradient of a loss at the last of 100 steps that is left at the
first: the mean over 64 sequences of noise, 64 units, before training. With a file it is drawn (needs matplotlib).
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import rnnfast

N, T, D, H = 64, 100, 8, 64
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("tanh, uniform Wh", "rnn_tanh", {"recurrent_init": "uniform"}),
    ("tanh, orthogonal Wh", "rnn_tanh", {"recurrent_init": "orthogonal"}),
    ("relu, uniform Wh", "rnn_relu", {"recurrent_init": "uniform"}),
    ("relu, identity Wh", "rnn_relu", {"recurrent_init": "identity"}),
    ("LSTM, forget bias 0", "lstm", {"forget_bias": 0.0}),
    ("LSTM, forget bias 1", "lstm", {"forget_bias": 1.0}),
    ("LSTM, forget bias 3", "lstm", {"forget_bias": 3.0}),
    ("GRU", "gru", {}),
]


def main() -> None:
    rng = np.random.default_rng(0)
    x, y = 0.3 * rng.normal(size=(N, T, D)), rng.normal(size=(N, 1))
    flows = {}
    print(f"{'':22}{'left after ' + str(T - 1) + ' steps':>22}{'factor of a step':>20}  verdict")
    for title, cell, options in CASES:
        network = rnnfast.Network(D, H, 1, cell=cell, dtype="float64", seed=0, **options)
        flow = flows[title] = rnnfast.diagnostics.gradient_norms(network, x, y, loss="squared_error")
        print(f"{title:22}{flow.ratio:22.1e}{flow.factor:20.3f}  {flow.verdict}")
    if len(sys.argv) > 1:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.add_subplot()
        for title, flow in flows.items():
            axes.semilogy(np.arange(T), flow.share[flow.row], label=title)
        axes.set(xlabel="steps before the end of the sequence", ylabel="share of the gradient that is left")
        axes.legend()
        figure.savefig(sys.argv[1])


if __name__ == "__main__":
    main()
