"""Functions over arrays with a cache: rnn_forward, rnn_backward, lstm_forward, lstm_backward; gates i, f, o, g."""

import numpy as np


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def rnn_forward(x, h0, Wx, Wh, b):
    """h (N, T, H) of x (N, T, D), and what rnn_backward needs."""
    N, T, _ = x.shape
    h, previous = np.zeros((N, T, len(Wh))), h0
    for t in range(T):
        h[:, t] = previous = np.tanh(x[:, t] @ Wx + previous @ Wh + b)
    return h, (x, h0, Wx, Wh, h)


def rnn_backward(dh, cache):
    x, h0, Wx, Wh, h = cache
    dx, dWx, dWh, db, later = np.zeros_like(x), np.zeros_like(Wx), np.zeros_like(Wh), np.zeros(len(Wh)), 0
    for t in reversed(range(x.shape[1])):
        previous = h[:, t - 1] if t > 0 else h0
        da = (dh[:, t] + later) * (1 - h[:, t] ** 2)
        dx[:, t], later = da @ Wx.T, da @ Wh.T
        dWx, dWh, db = dWx + x[:, t].T @ da, dWh + previous.T @ da, db + da.sum(axis=0)
    return dx, later, dWx, dWh, db


def lstm_forward(x, h0, Wx, Wh, b):
    T = x.shape[1]
    H, h, c, steps = len(Wh), h0, np.zeros_like(h0), []
    for t in range(T):
        a = x[:, t] @ Wx + h @ Wh + b
        i, f, o = (sigmoid(a[:, k * H : (k + 1) * H]) for k in range(3))
        g = np.tanh(a[:, 3 * H :])
        before, c = (h, c), f * c + i * g
        h = o * np.tanh(c)
        steps.append((*before, i, f, o, g, c, h))
    return np.stack([step[-1] for step in steps], axis=1), (x, Wx, Wh, steps)


def lstm_backward(dh, cache):
    x, Wx, Wh, steps = cache
    dx, dWx, dWh, db, dc, later = np.zeros_like(x), np.zeros_like(Wx), np.zeros_like(Wh), np.zeros(len(Wx[0])), 0, 0
    for t in reversed(range(x.shape[1])):
        h_before, c_before, i, f, o, g, c, _ = steps[t]
        d, u = dh[:, t] + later, np.tanh(c)
        dc = dc + d * o * (1 - u**2)
        parts = dc * g * i * (1 - i), dc * c_before * f * (1 - f), d * u * o * (1 - o), dc * i * (1 - g**2)
        da, dc = np.concatenate(parts, axis=1), dc * f
        dx[:, t], later = da @ Wx.T, da @ Wh.T
        dWx, dWh, db = dWx + x[:, t].T @ da, dWh + h_before.T @ da, db + da.sum(axis=0)
    return dx, later, dWx, dWh, db


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
