"""Largest error of the float32 activations in units in the last place: python benchmarks/activation_error.py

Every float32 that the functions bend over, both signs, against NumPy's float64. For smaller arguments tanh(x) = x and
sigmoid(x) = 1/2 to the last bit; for larger ones they are 1, or denormal, which a call flushes to 0.
"""

from __future__ import annotations

import numpy as np
import rnnfast
from rnnfast.benchmark import machine

H = 1024
LIMITS = {"tanh": (2.0**-15, 10.0), "sigmoid": (2.0**-26, 87.0)}
EXACT = {"tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x))}


def apply(name: str, x: np.ndarray) -> np.ndarray:
    """Rows of Wx, taken as token ids by a step from h = 0: the activation of each number of x."""
    table = x.reshape(-1, H)
    ids = np.arange(len(table))[:, None]
    return rnnfast.forward(f"rnn_{name}", ids, table, np.zeros((H, H), "f4"), keep_tape=False).h.reshape(x.shape)


def main() -> None:
    print(", ".join(f"{k}: {v}" for k, v in machine().items()))
    for name, limits in LIMITS.items():
        first, last = (int(np.float32(x).view(np.uint32)) for x in limits)
        last -= (last - first) % H
        for sign in (1, -1):
            worst, where = 0.0, 0.0
            for start in range(first, last, 1 << 20):
                x = sign * np.arange(start, min(start + (1 << 20), last), dtype=np.uint32).view(np.float32)
                exact = EXACT[name](x.astype(np.float64))
                error = np.abs(apply(name, x) - exact) / np.spacing(np.abs(exact).astype(np.float32))
                at = int(error.argmax())
                if error[at] > worst:
                    worst, where = float(error[at]), float(x[at])
            print(f"{name:8} {'positive' if sign > 0 else 'negative'}: {worst:.3f} ULP at {where!r}")


if __name__ == "__main__":
    main()
