"""Network: (Embedding), recurrent layers, Dense, joined over one vector of parameters.

The architecture that training.py and most estimators train; Model, its base, joins layers for other ones
(encoder_decoder.py). It knows layers, neither losses nor optimisers.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .checks import generator_of
from .layers import Array, Dense, Embedding, Initializer, Layer, Recurrent, check_flags, dropout_mask, size_of
from .passes import Passes
from .random_rows import Share, normal

__all__ = ["Model", "Network", "check_options"]


class Model(Passes):
    """Layers that share one vector of parameters, ``vector``, and one of gradients, ``gradient_vector``."""

    initial_state_std = 0.0

    def _join(self, layers: dict[str, Layer]) -> None:
        """Give the layers one vector of parameters and one of gradients."""
        self.layers = layers
        dtype = next(iter(layers.values())).dtype
        size = sum(layer.size for layer in layers.values())
        self.vector: Array = np.zeros(size, dtype)
        self.gradient_vector: Array = np.zeros(size, dtype)
        start = 0
        for name, layer in layers.items():
            layer.name = name
            part = slice(start, start + layer.size)
            layer.bind(self.vector[part], self.gradient_vector[part])
            start += layer.size

    @property
    def check_finite(self) -> bool:
        """Whether all layers look for NaN and infinity."""
        return all(layer.check_finite for layer in self.layers.values())

    @check_finite.setter
    def check_finite(self, value: bool) -> None:
        for layer in self.layers.values():
            layer.check_finite = value

    @property
    def share(self) -> Share | None:
        """Which rows of a batch the model is given, where that is not all of them: set by fit on several ranks."""
        return next(iter(self.layers.values())).share

    @share.setter
    def share(self, value: Share | None) -> None:
        for layer in self.layers.values():
            layer.share = value

    @property
    def state(self) -> tuple[Array, ...] | None:
        """After the last forward pass of this thread; where it made none, of any."""
        mine = vars(self)
        last: tuple[Array, ...] | None = getattr(mine.get("_own"), "state", mine.get("_last"))
        return last

    @state.setter
    def state(self, value: tuple[Array, ...] | None) -> None:
        mine = vars(self)
        own = mine.get("_own") or mine.setdefault("_own", threading.local())
        own.state = mine["_last"] = value  # the one ends with its thread

    def __getstate__(self) -> dict[str, Any]:
        return {**{k: v for k, v in super().__getstate__().items() if k != "_own"}, "_last": self.state}

    def __copy__(self) -> Any:
        return copy.deepcopy(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._join(self.layers)

    @property
    def settings(self) -> dict[str, Any]:
        """What a checkpoint of another model would differ in."""
        names = ("cell", "hidden_size", "num_layers", "bidirectional", "dropout")
        recurrent = [layer for layer in self.layers.values() if isinstance(layer, Recurrent)]
        own = {name: getattr(layer, name) for layer in recurrent[:1] for name in names}
        return {"layers": list(self.layers), **own, "initial_state_std": self.initial_state_std}

    def named_parameters(self) -> dict[str, Array]:
        """``"layer.name"`` → view, for saving."""
        return {f"{key}.{name}": p for key, layer in self.layers.items() for name, p in layer.parameters.items()}


class Network(Model):
    """(Embedding) → recurrent layers → Dense, at the end of each sequence or at every step.

    Parameters
    ----------
    input_size : int, or several
        Features of a step, or the size of the vocabulary. Several: each step has F ids (a word, its suffix, ...), each
        of a vocabulary of its own.
    hidden_size, output_size : int
    cell : str
        One of :func:`rnnfast.cells`.
    num_layers, bidirectional, recurrent_init, forget_bias :
        As in :class:`LSTM`.
    embedding_size : int, or several, optional
        None: inputs are (N, T, input_size) features. 0: token ids as one-hot words. Positive: token ids through an
        :class:`Embedding` of this size. Several, as many as `input_size` has: inputs are (N, T, F) ids, whose vectors
        stand side by side.
    condition_size : int, optional
        C: the input is a pair (x, condition), and the initial states are ``condition @ W + b``, with (N, C) vectors
        `condition`: what a sequence is about (a class as a one-hot vector, a picture's features) starts it.
    initial_state_std : float
        Training starts from random states with this standard deviation, instead of zero ones, where no state is given.
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
    check_finite : bool
        Look for NaN and infinity, and name the layer, row and step of the first: see :func:`rnnfast.fit`.

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
        input_size: int | Sequence[int],
        hidden_size: int,
        output_size: int,
        *,
        cell: str = "lstm",
        num_layers: int = 1,
        bidirectional: bool = False,
        embedding_size: int | Sequence[int] | None = None,
        condition_size: int | None = None,
        initial_state_std: float = 0.0,
        dropout: float = 0.0,
        per_step: bool = False,
        recurrent_init: Initializer = "orthogonal",
        forget_bias: float = 1.0,
        dtype: DTypeLike = np.float32,
        seed: int | None = None,
        num_threads: int | None = None,
        recompute: int | None = None,
        check_finite: bool = False,
    ) -> None:
        self.rng = rng = generator_of(seed)
        check_options(initial_state_std, per_step=per_step, check_finite=check_finite)
        self.dropout, self.per_step, self.dtype = dropout, per_step, np.dtype(dtype)
        self.initial_state_std = initial_state_std
        layers: dict[str, Layer] = {}
        self.embeddings: list[Embedding] = []
        self.several = isinstance(input_size, Iterable) and not isinstance(input_size, str)
        if not self.several:
            input_size = size_of("input_size", input_size)
        hidden_size, output_size = size_of("hidden_size", hidden_size), size_of("output_size", output_size)
        if condition_size is not None:
            condition_size = size_of("condition_size", condition_size)
        if self.several:
            sizes = list(input_size)  # type: ignore[arg-type]
            widths = list(embedding_size) if isinstance(embedding_size, Iterable) else [embedding_size]
            if len(sizes) != len(widths) or not sizes or not all(widths):
                raise ValueError(
                    f"embedding_size: expected a positive size for each of input_size = {sizes}, got {embedding_size}"
                )
            for k, (size, width) in enumerate(zip(sizes, widths, strict=True)):
                size, width = size_of(f"input_size[{k}]", size), size_of(f"embedding_size[{k}]", width)
                self.embeddings.append(Embedding(size, width, dtype=dtype, seed=rng))
                layers[f"embedding_{k}"] = self.embeddings[-1]
        elif embedding_size:
            self.embeddings = [Embedding(input_size, embedding_size, dtype=dtype, seed=rng)]  # type: ignore[arg-type]
            layers["embedding"] = self.embeddings[0]
        self.widths = [e.parameters["E"].shape[1] for e in self.embeddings]
        self.recurrent = Recurrent(
            cell,
            sum(self.widths) or input_size,  # type: ignore[arg-type]
            hidden_size,
            num_layers,
            bidirectional,
            dropout,
            recurrent_init=recurrent_init,
            forget_bias=forget_bias,
            dtype=dtype,
            seed=rng,
            num_threads=num_threads,
            recompute=recompute,
        )
        layers["recurrent"] = self.recurrent
        r = self.recurrent
        states = r.states * r.num_layers * r.directions * r.hidden_size
        self.condition = None if condition_size is None else Dense(condition_size, states, dtype=dtype, seed=rng)
        if self.condition is not None:
            layers["condition"] = self.condition
        self.dense = Dense(r.hidden_size * r.directions, output_size, dtype=dtype, seed=rng)
        layers["dense"] = self.dense
        self._join(layers)
        self.check_finite = check_finite

    @property
    def embedding(self) -> Embedding | None:
        """The one embedding; None without, and where there are several."""
        return self.embeddings[0] if len(self.embeddings) == 1 else None

    @property
    def bidirectional(self) -> bool:
        return self.recurrent.bidirectional

    def forward(
        self,
        x: Any,
        *,
        lengths: ArrayLike | None = None,
        state: tuple[ArrayLike, ...] | None = None,
        training: bool = False,
    ) -> Array:
        """Return the outputs (logits or predictions), (N, output_size) or (N, T, output_size).

        `x` is (N, T, D), (N, T) or (N, T, F), as `input_size` and `embedding_size` say; with `condition_size` a pair
        of that and the condition. A given `state`, as from the last pass, takes the place of every other initial one.
        """
        dropping = training and self.dropout > 0
        before = after = None
        conditioned = False
        if self.condition is not None:
            if not isinstance(x, tuple) or len(x) != 2:
                raise ValueError(f"x: expected a pair (x, condition), got a {type(x).__name__}")
            x, condition = x
            if state is None:
                state = self.initial_state(condition, training=training)
                conditioned = True
        h = self._embed(x, lengths, training)
        if self.embeddings and dropping:
            before = dropout_mask(self.rng, h.shape, self.dropout, self.dtype, self.share)
            h *= before
        if state is None and training and self.initial_state_std > 0:
            shape = (self.recurrent.num_layers * self.recurrent.directions, len(h), self.recurrent.hidden_size)
            state = tuple(
                normal(self.rng, self.initial_state_std, shape, 1, self.share).astype(self.dtype)
                for _ in range(self.recurrent.states)
            )
        h, final = self.recurrent.forward(h, state, lengths=lengths, training=training)
        self.state = final
        if not self.per_step:
            top = final[0][-self.recurrent.directions :]  # (directions, N, H)
            h = np.concatenate(list(top), axis=1)
        if dropping:
            after = dropout_mask(self.rng, h.shape, self.dropout, self.dtype, self.share)
            h *= after
        self._keep(training, (before, after, conditioned))
        return self.dense.forward(h, lengths=lengths if self.per_step else None, training=training)

    def initial_state(self, condition: ArrayLike, training: bool = False) -> tuple[Array, ...]:
        """The states (num_layers * directions, N, H) that conditions (N, C) start with."""
        if self.condition is None:
            raise RuntimeError("initial_state: expected a Network with condition_size")
        r = self.recurrent
        states = self.condition.forward(np.asarray(condition, self.dtype), training=training)
        parts = states.reshape(len(states), r.states, r.num_layers * r.directions, r.hidden_size)
        return tuple(np.ascontiguousarray(np.swapaxes(parts[:, k], 0, 1)) for k in range(r.states))

    def _embed(self, x: Any, lengths: ArrayLike | None, training: bool) -> Any:
        if not self.embeddings:
            return x
        if not self.several:
            return self.embeddings[0].forward(x, lengths=lengths, training=training)
        x = np.asarray(x)
        if x.ndim != 3 or x.shape[2] != len(self.embeddings):
            raise ValueError(f"x: expected (N, T, F) = (N, T, {len(self.embeddings)}) ids, got {x.shape}")
        vectors = [e.forward(x[:, :, k], lengths=lengths, training=training) for k, e in enumerate(self.embeddings)]
        return np.concatenate(vectors, axis=2)

    def backward(self, d: Array) -> None:
        """Write ``gradient_vector``, from the gradient of the outputs, which must be 0 at padded steps."""
        with self._taken() as left:
            self._backward(d, *left)

    def _backward(self, d: Array, before: Array | None, after: Array | None, conditioned: bool) -> None:
        dh = self.dense.backward(d)
        if after is not None:
            dh *= after
        if self.per_step:
            dx, dstate = self.recurrent.backward(dh, dx=bool(self.embeddings))
        else:
            r = self.recurrent
            d_final = np.zeros((r.num_layers * r.directions, len(dh), r.hidden_size), self.dtype)
            d_final[-r.directions :] = np.stack(np.split(dh, r.directions, axis=1))
            dx, dstate = r.backward(None, (d_final, *(None,) * (r.states - 1)), dx=bool(self.embeddings))
        if self.condition is not None:
            if conditioned:
                of_rows = [np.swapaxes(s, 0, 1).reshape(s.shape[1], s.shape[0] * s.shape[2]) for s in dstate]
                self.condition.backward(np.concatenate(of_rows, axis=1))
            else:
                self.condition.gradients["W"][...] = 0
                self.condition.gradients["b"][...] = 0
        if dx is not None and self.embeddings:
            if before is not None:
                dx *= before
            start = 0
            for embedding, width in zip(self.embeddings, self.widths, strict=True):
                embedding.backward(dx[:, :, start : start + width])
                start += width


def check_options(initial_state_std: Any, **flags: Any) -> None:
    """What no layer looks at."""
    if not isinstance(initial_state_std, int | float | np.number) or not initial_state_std >= 0:
        raise ValueError(f"initial_state_std: expected a number of 0 or more, got {initial_state_std!r}")
    check_flags(**flags)
