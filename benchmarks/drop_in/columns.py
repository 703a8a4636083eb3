"""Column vectors, step by step: s = sigmoid(U x + W s + b), y = softmax(V s + c), and back-propagation by hand."""

import numpy as np


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


class Network:
    def __init__(self, inputs, hidden, outputs, seed=0):
        rng = np.random.default_rng(seed)
        self.U = rng.normal(0, 1 / np.sqrt(inputs), (hidden, inputs))
        self.W = rng.normal(0, 1 / np.sqrt(hidden), (hidden, hidden))
        self.V = rng.normal(0, 1 / np.sqrt(hidden), (outputs, hidden))
        self.b, self.c = np.zeros((hidden, 1)), np.zeros((outputs, 1))

    def forward(self, x):
        """States s[t] after step t and distributions y[t], as columns, for a sequence x (T, inputs)."""
        s, state = [], np.zeros((len(self.b), 1))
        for t in range(len(x)):
            state = sigmoid(self.U @ x[t][:, None] + self.W @ state + self.b)
            s.append(state)
        y = []
        for t in range(len(x)):
            e = np.exp(self.V @ s[t] + self.c)
            y.append(e / e.sum())
        return s, y

    def step(self, x, labels, rate):
        """One sequence: the mean cross-entropy before the step of gradient descent."""
        s, y = self.forward(x)
        dU, dW, dV = np.zeros_like(self.U), np.zeros_like(self.W), np.zeros_like(self.V)
        db, dc = np.zeros_like(self.b), np.zeros_like(self.c)
        ds = [None] * len(x)
        for t in range(len(x)):
            dy = y[t].copy()
            dy[labels[t]] -= 1
            dy /= len(x)
            dV += dy @ s[t].T
            dc += dy
            ds[t] = self.V.T @ dy
        later = np.zeros_like(self.b)
        for t in reversed(range(len(x))):
            da = (ds[t] + later) * s[t] * (1 - s[t])
            db += da
            dU += da @ x[t][None]
            if t > 0:
                dW += da @ s[t - 1].T
            later = self.W.T @ da
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
