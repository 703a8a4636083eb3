"""
Gradients that vanish, and a cell that keeps them
=================================================

How much of the gradient of the last step's state is left at each step before it, for an Elman network and an LSTM that
starts with an open forget gate.
"""

import matplotlib.pyplot as plt
import numpy as np
import rnnfast

rng = np.random.default_rng(0)
x = rng.normal(size=(32, 60, 8)).astype("f4")

fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for cell, layer in {
    "Elman": rnnfast.RNN(8, 32, recurrent_init="uniform", seed=0),
    "LSTM, forget bias 3": rnnfast.LSTM(8, 32, forget_bias=3.0, seed=0),
}.items():
    norms = []
    for steps in range(1, 61):  # a sequence that ends there: the gradient of its first state
        _, state = layer.forward(x[:, -steps:], training=True)
        d_last = np.ones_like(state[0])
        _, d_first = layer.backward(None, (d_last, *(None,) * (len(state) - 1)))
        norms.append(float(np.sqrt(sum((d**2).sum() for d in d_first))))
    ax.semilogy(range(1, 61), np.array(norms) / norms[0], label=cell)
ax.set(xlabel="steps back", ylabel="gradient that is left", title="Vanishing gradients")
ax.legend()
plt.show()
