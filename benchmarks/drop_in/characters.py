"""A model of characters, one chunk after the other with the state carried on; one-hot columns, clipping, AdaGrad."""

import numpy as np

TEXT = "the quick brown fox jumps over the lazy dog; pack my box with five dozen liquor jugs. "


class Model:
    def __init__(self, size, hidden, seed=0):
        rng = np.random.default_rng(seed)
        self.Wxh = rng.normal(0, 0.1, (hidden, size))
        self.Whh = rng.normal(0, 0.1, (hidden, hidden))
        self.Why = rng.normal(0, 0.1, (size, hidden))
        self.bh, self.by = np.zeros((hidden, 1)), np.zeros((size, 1))
        self.parameters = [self.Wxh, self.Whh, self.Why, self.bh, self.by]
        self.squares = [np.zeros_like(p) for p in self.parameters]

    def loss(self, inputs, targets, state):
        """Loss of a chunk of ids, gradients of the parameters, and the state after it."""
        size, T = len(self.by), len(inputs)
        xs, hs, ps, loss = {}, {-1: state}, {}, 0.0
        for t in range(T):
            xs[t] = np.zeros((size, 1))
            xs[t][inputs[t]] = 1
            hs[t] = np.tanh(self.Wxh @ xs[t] + self.Whh @ hs[t - 1] + self.bh)
            y = self.Why @ hs[t] + self.by
            ps[t] = np.exp(y - y.max()) / np.exp(y - y.max()).sum()
            loss -= np.log(ps[t][targets[t], 0])
        dWxh, dWhh, dWhy = np.zeros_like(self.Wxh), np.zeros_like(self.Whh), np.zeros_like(self.Why)
        dbh, dby, later = np.zeros_like(self.bh), np.zeros_like(self.by), np.zeros_like(state)
        for t in reversed(range(T)):
            dy = ps[t].copy()
            dy[targets[t]] -= 1
            dWhy += dy @ hs[t].T
            dby += dy
            da = (self.Why.T @ dy + later) * (1 - hs[t] ** 2)
            dbh += da
            dWxh += da @ xs[t].T
            dWhh += da @ hs[t - 1].T
            later = self.Whh.T @ da
        return loss, [dWxh, dWhh, dWhy, dbh, dby], hs[T - 1]

    def update(self, gradients, rate=0.03, limit=5.0):
        for parameter, d, square in zip(self.parameters, gradients, self.squares, strict=True):
            d = np.clip(d, -limit, limit)
            square += d * d
            parameter -= rate * d / np.sqrt(square + 1e-8)


def train(hidden=20, chunk=25, updates=30):
    """The losses, and all weights."""
    ids = {c: i for i, c in enumerate(sorted(set(TEXT)))}
    text = [ids[c] for c in TEXT * (updates * chunk // len(TEXT) + 2)]
    model, losses, state = Model(len(ids), hidden), [], np.zeros((hidden, 1))
    for start in range(0, updates * chunk, chunk):
        inputs, targets = text[start : start + chunk], text[start + 1 : start + chunk + 1]
        loss, gradients, state = model.loss(inputs, targets, state)
        model.update(gradients)
        losses.append(loss)
    return losses, model.parameters
