"""
Forecasting a wave, one step at a time
======================================

A regressor learns the next value of a noisy wave; its forecasts are compared with "tomorrow is like today".
"""

import matplotlib.pyplot as plt
import numpy as np
import rnnfast

rng = np.random.default_rng(0)
t = np.arange(900)
wave = np.sin(t / 9) + 0.5 * np.sin(t / 23) + rng.normal(0, 0.05, t.size)
X, y = rnnfast.windows(wave, 30)

model = rnnfast.SequenceRegressor(hidden_size=16, max_epochs=15, learning_rate=0.01, random_state=0)
model.fit(X[:700], y[:700])
found = model.predict(X[700:])
error, naive = (float(np.sqrt(np.mean((a - y[700:]) ** 2))) for a in (found, X[700:, -1, 0]))

fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
ax.plot(y[700:], label="truth")
ax.plot(found, "--", label=f"forecast, error {error:.3f}")
ax.set(xlabel="step", title=f"Next value; the last value as forecast errs by {naive:.3f}")
ax.legend()
plt.show()
