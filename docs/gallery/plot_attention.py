"""
What a transducer looks at
==========================

A SequenceTransducer learns to turn words round; its attention runs from the end of the source to its beginning.
"""

import matplotlib.pyplot as plt
import numpy as np
import rnnfast
from rnnfast import plots

rng = np.random.default_rng(0)
words = ["".join(rng.choice(list("abcdefg"), rng.integers(3, 8))) for _ in range(600)]
model = rnnfast.SequenceTransducer(hidden_size=32, max_epochs=25, learning_rate=0.01, random_state=0)
model.fit(words, [word[::-1] for word in words])

seen = model.attention_weights("gfedabc")
fig, ax = plt.subplots(figsize=(5, 4), layout="constrained")
plots.attention(seen.weights, seen.source, seen.target, ax)
plt.show()
