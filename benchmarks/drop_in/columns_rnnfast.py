"""Column vectors, step by step: s = sigmoid(U x + W s + b), y = softmax(V s + c), and back-propagation by hand."""

import numpy as np
import rnnfast


class Network:
    def __init__(self, inputs, hidden, outputs, seed=0):
        rng = np.random.default_rng(seed)
        self.U = rng.normal(0, 1 / np.sqrt(inputs), (hidden, inputs))
        self.W = rng.normal(0, 1 / np.sqrt(hidden), (hidden, hidden))
        self.V = rng.normal(0, 1 / np.sqrt(hidden), (outputs, hidden))
        self.b, self.c = np.zeros((hidden, 1)), np.zeros((outputs, 1))

    def forward(self, x):
        """States s[t] after step t and distributions y[t], as columns, for a sequence x (T, inputs)."""
        h, _, self.tape = rnnfast.forward("rnn_sigmoid", x[None], self.U.T, self.W.T, self.b[:, 0])
        s = list(h[0, :, :, None])
        y = []
        for t in range(len(x)):
            e = np.exp(self.V @ s[t] + self.c)
            y.append(e / e.sum())
        return s, y

    def step(self, x, labels, rate):
        """One sequence: the mean cross-entropy before the step of gradient descent."""
        s, y = self.forward(x)
        dV, dc = np.zeros_like(self.V), np.zeros_like(self.c)
        ds = [None] * len(x)
        for t in range(len(x)):
            dy = y[t].copy()
            dy[labels[t]] -= 1
            dy /= len(x)
            dV += dy @ s[t].T
            dc += dy
            ds[t] = self.V.T @ dy
        d = rnnfast.backward(self.tape, np.stack(ds)[None, :, :, 0], dx=False)
        dU, dW, db = d.Wx.T, d.Wh.T, d.b[:, None]
        for parameter, d in ((self.U, dU), (self.W, dW), (self.V, dV), (self.b, db), (self.c, dc)):
            parameter -= rate * d
        return -np.mean([np.log(y[t][label, 0]) for t, label in enumerate(labels)])


def train(sizes=(8, 16, 3), steps=20, updates=30):
    """Which of the first inputs is the largest, for each step; the losses, and all weights."""
    inputs, hidden, outputs = sizes
    rng, network, losses = np.random.default_rng(1), Network(inputs, hidden, outputs), []
    for _ in range(updates):
        x = rng.normal(size=(steps, inputs))
        labels = np.argmax(x[:, :outputs], axis=1)
        losses.append(network.step(x, labels, rate=0.5))
    return losses, [network.U, network.W, network.V, network.b, network.c]
