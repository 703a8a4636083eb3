"""Network: (Embedding), recurrent layers, Dense, joined over one vector of parameters.

The one architecture that training.py and the estimators train. It knows layers, neither losses nor optimisers.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .layers import Array, Dense, Embedding, Layer, Recurrent, dropout_mask

__all__ = ["Network"]


class Network:
    """(Embedding) → recurrent layers → Dense, at the end of each sequence or at every step.

    Parameters
    ----------
    input_size : int
        Features of a step, or the size of the vocabulary.
    hidden_size, output_size : int
    cell : str
        One of :func:`rnnfast.cells`.
    num_layers, bidirectional :
        As in :class:`LSTM`.
    embedding_size : int, optional
        None: inputs are (N, T, input_size) features. 0: token ids as one-hot words. Positive: token ids through an
        :class:`Embedding` of this size.
    dropout : float
        On the embedding, between the layers, and before the Dense layer.
    per_step : bool
        False, many to one: outputs (N, output_size) from the final state of the top layer, both directions.
        True, many to many: outputs (N, T, output_size).
    dtype : float32 or float64
    seed : int, optional
    num_threads : int, optional
    recompute : int, optional
        As in :func:`rnnfast.forward`: less memory for long sequences.

    Attributes
    ----------
    vector, gradient_vector : arrays
        All parameters and all gradients; those of the layers are views into them.
    state : tuple of arrays or None
        After the last forward pass, of all layers.

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> network = rnnfast.Network(100, 8, 2, embedding_size=16, seed=0)
    >>> network.forward(np.array([[5, 7, 9], [3, 0, 0]]), lengths=[3, 1]).shape
    (2, 2)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        cell: str = "lstm",
        num_layers: int = 1,
        bidirectional: bool = False,
        embedding_size: int | None = None,
        dropout: float = 0.0,
        per_step: bool = False,
        dtype: DTypeLike = np.float32,
        seed: int | None = None,
        num_threads: int | None = None,
        recompute: int | None = None,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.rng = rng
        self.dropout, self.per_step, self.dtype = dropout, per_step, np.dtype(dtype)
        self.embedding = Embedding(input_size, embedding_size, dtype=dtype, seed=rng) if embedding_size else None
        self.recurrent = Recurrent(
            cell,
            embedding_size or input_size,
            hidden_size,
            num_layers,
            bidirectional,
            dropout,
            dtype=dtype,
            seed=rng,
            num_threads=num_threads,
            recompute=recompute,
        )
        self.dense = Dense(hidden_size * self.recurrent.directions, output_size, dtype=dtype, seed=rng)
        self.layers: dict[str, Layer] = {"recurrent": self.recurrent, "dense": self.dense}
        if self.embedding is not None:
            self.layers = {"embedding": self.embedding, **self.layers}
        self._join()
        self.state: tuple[Array, ...] | None = None
        self._masks: tuple[Array | None, Array | None] = (None, None)

    def _join(self) -> None:
        """Give the layers one vector of parameters and one of gradients."""
        size = sum(layer.size for layer in self.layers.values())
        self.vector: Array = np.zeros(size, self.dtype)
        self.gradient_vector: Array = np.zeros(size, self.dtype)
        start = 0
        for layer in self.layers.values():
            part = slice(start, start + layer.size)
            layer.bind(self.vector[part], self.gradient_vector[part])
            start += layer.size

    def __copy__(self) -> Network:
        return copy.deepcopy(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._join()

    @property
    def bidirectional(self) -> bool:
        return self.recurrent.bidirectional

    def named_parameters(self) -> dict[str, Array]:
        """``"layer.name"`` → view, for saving."""
        return {f"{key}.{name}": p for key, layer in self.layers.items() for name, p in layer.parameters.items()}

    def forward(
        self,
        x: ArrayLike,
        *,
        lengths: ArrayLike | None = None,
        state: tuple[ArrayLike, ...] | None = None,
        training: bool = False,
    ) -> Array:
        """Return the outputs (logits or predictions), (N, output_size) or (N, T, output_size)."""
        dropping = training and self.dropout > 0
        before = after = None
        h: Any = x
        if self.embedding is not None:
            h = self.embedding.forward(h, lengths=lengths, training=training)
            if dropping:
                before = dropout_mask(self.rng, h.shape, self.dropout, self.dtype)
                h *= before
        h, self.state = self.recurrent.forward(h, state, lengths=lengths, training=training)
        if not self.per_step:
            top = self.state[0][-self.recurrent.directions :]  # (directions, N, H)
            h = np.concatenate(list(top), axis=1)
        if dropping:
            after = dropout_mask(self.rng, h.shape, self.dropout, self.dtype)
            h *= after
        self._masks = (before, after)
        return self.dense.forward(h, lengths=lengths if self.per_step else None, training=training)

    def backward(self, d: Array) -> None:
        """Write ``gradient_vector``, from the gradient of the outputs, which must be 0 at padded steps."""
        before, after = self._masks
        dh = self.dense.backward(d)
        if after is not None:
            dh *= after
        if self.per_step:
            dx, _ = self.recurrent.backward(dh, dx=self.embedding is not None)
        else:
            r = self.recurrent
            d_final = np.zeros((r.num_layers * r.directions, len(dh), r.hidden_size), self.dtype)
            d_final[-r.directions :] = np.stack(np.split(dh, r.directions, axis=1))
            dx, _ = r.backward(None, (d_final, *(None,) * (r.states - 1)), dx=self.embedding is not None)
        if self.embedding is not None and dx is not None:
            if before is not None:
                dx *= before
            self.embedding.backward(dx)
