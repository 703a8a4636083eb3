"""Functions over arrays with a cache: rnn_forward, rnn_backward, lstm_forward, lstm_backward; gates i, f, o, g."""

import numpy as np
import rnnfast
from rnnfast.convert import reorder_gates


def rnn_forward(x, h0, Wx, Wh, b):
    """h (N, T, H) of x (N, T, D), and what rnn_backward needs."""
    h, _, tape = rnnfast.forward("rnn_tanh", x, Wx, Wh, b, (h0,))
    return h, tape


def rnn_backward(dh, cache):
    dx, dWx, dWh, db, (dh0,) = rnnfast.backward(cache, dh)
    return dx, dh0, dWx, dWh, db


def lstm_forward(x, h0, Wx, Wh, b):
    weights = (reorder_gates(w, "ifog", "ifgo") for w in (Wx, Wh, b))
    return rnnfast.forward("lstm", x, *weights, (h0, None))[::2]


def lstm_backward(dh, cache):
    dx, *weights, (dh0, _) = rnnfast.backward(cache, dh)
    return dx, dh0, *(reorder_gates(d, "ifgo", "ifog") for d in weights)


def train(sizes=(6, 5, 12), cell="lstm", batch=4, steps=15, updates=30):
    """A vector that sums up a sequence is learned from its last state; the losses, and all weights."""
    inputs, outputs, hidden = sizes
    forward, backward, G = (lstm_forward, lstm_backward, 4) if cell == "lstm" else (rnn_forward, rnn_backward, 1)
    rng = np.random.default_rng(2)
    Wx = rng.normal(0, 1 / np.sqrt(inputs), (inputs, G * hidden))
    Wh = rng.normal(0, 1 / np.sqrt(hidden), (hidden, G * hidden))
    b, V, W_start = np.zeros(G * hidden), rng.normal(0, 0.3, (hidden, outputs)), rng.normal(0, 0.3, (inputs, hidden))
    losses, weights = [], [Wx, Wh, b, V, W_start]
    for _ in range(updates):
        x = rng.normal(size=(batch, steps, inputs))
        target = np.tanh(x.cumsum(axis=1)[:, -1, :outputs])
        h, cache = forward(x, x[:, 0] @ W_start, Wx, Wh, b)
        error = h[:, -1] @ V - target
        losses.append(np.mean(error**2))
        dh = np.zeros_like(h)
        dh[:, -1] = 2 / error.size * error @ V.T
        _, dh0, dWx, dWh, db = backward(dh, cache)
        gradients = dWx, dWh, db, 2 / error.size * h[:, -1].T @ error, x[:, 0].T @ dh0
        for parameter, d in zip(weights, gradients, strict=True):
            parameter -= 0.3 * d
    return losses, weights
