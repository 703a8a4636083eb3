"""A model of characters, one chunk after the other with the state carried on; one-hot columns, clipping, AdaGrad."""

import numpy as np
import rnnfast

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
        T, ids = len(inputs), np.array([inputs])
        h, _, tape = rnnfast.forward("rnn_tanh", ids, self.Wxh.T, self.Whh.T, self.bh[:, 0], (state.T,))
        hs, dh, ps, loss = h[0, :, :, None], np.zeros_like(h), {}, 0.0
        for t in range(T):
            y = self.Why @ hs[t] + self.by
            ps[t] = np.exp(y - y.max()) / np.exp(y - y.max()).sum()
            loss -= np.log(ps[t][targets[t], 0])
        dWhy, dby = np.zeros_like(self.Why), np.zeros_like(self.by)
        for t in reversed(range(T)):
            dy = ps[t].copy()
            dy[targets[t]] -= 1
            dWhy += dy @ hs[t].T
            dby += dy
            dh[0, t] = (self.Why.T @ dy)[:, 0]
        d = rnnfast.backward(tape, dh)
        return loss, [d.Wx.T, d.Wh.T, dWhy, d.b[:, None], dby], hs[T - 1]

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
