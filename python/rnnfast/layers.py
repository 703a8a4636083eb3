"""Layers with their gradients written out: Embedding, RNN, LSTM, GRU, Dense.

``forward`` stores what ``backward`` needs; there is no autograd. The parameters of a layer are views into one
contiguous vector and its gradients into another, and a Network's layers share one pair of vectors, so that clipping,
an optimiser step or a checkpoint touches one array. Called by training.py and by users; layers know neither losses
nor optimisers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import _core
from .checks import as_array, generator_of
from .finite import check, check_parameters, first_gradient, first_state
from .passes import Passes
from .random_rows import Share, uniform

__all__ = ["GRU", "LSTM", "RNN", "Dense", "Embedding", "Layer"]

Array = NDArray[Any]
Initializer = Literal["orthogonal", "identity", "uniform"]


class Layer(Passes):
    """Named parameters and gradients: views into the vectors ``vector`` and ``gradient_vector``."""

    share: Share | None = None  # which rows of a batch it is given, where that is not all of them

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], dtype: DTypeLike, check_finite: bool = False) -> None:
        self.name = type(self).__name__  # in messages; a model gives its own
        check_flags(check_finite=check_finite)
        self.check_finite = check_finite
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise TypeError(f"dtype: expected float32 or float64, got {self.dtype}")
        self._shapes = dict(shapes)
        self.size = sum(math.prod(shape) for shape in self._shapes.values())
        self.vector: Array = np.zeros(0, self.dtype)
        self.gradient_vector: Array = np.zeros(0, self.dtype)
        self.parameters: dict[str, Array] = {}
        self.gradients: dict[str, Array] = {}
        self.bind(np.zeros(self.size, self.dtype), np.zeros(self.size, self.dtype))

    def bind(self, vector: Array, gradient_vector: Array) -> None:
        """Move parameters and gradients, values included, into the given vectors of ``size`` numbers."""
        for mine, theirs in ((self.vector, vector), (self.gradient_vector, gradient_vector)):
            theirs[: len(mine)] = mine
        self.vector, self.gradient_vector = vector, gradient_vector
        self.parameters, self.gradients = self._views(vector), self._views(gradient_vector)

    def _views(self, vector: Array) -> dict[str, Array]:
        views, start = {}, 0
        for name, shape in self._shapes.items():
            stop = start + math.prod(shape)
            views[name] = vector[start:stop].reshape(shape)
            start = stop
        return views

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k not in ("parameters", "gradients")}

    def __copy__(self) -> Any:
        return copy.deepcopy(self)  # two layers cannot share one vector

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copied or unpickled view is an array of its own: views are made anew.
        self.__dict__.update(state)
        self.parameters, self.gradients = self._views(self.vector), self._views(self.gradient_vector)


class Embedding(Layer):
    """A learnt vector for each token id: row ``ids[n, t]`` of E.

    Parameters
    ----------
    vocabulary_size, embedding_size : int
        Shape of E.
    dtype : float32 or float64
    seed : int or Generator, optional
        E starts from a normal distribution with deviation 0.4.
    check_finite : bool
        Look for NaN and infinity, and name the layer, row and step of the first: see :func:`rnnfast.fit`.

    Examples
    --------
    >>> import rnnfast
    >>> rnnfast.Embedding(10, 4, seed=0).forward([[1, 2, 3]]).shape
    (1, 3, 4)
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding_size: int,
        *,
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
        check_finite: bool = False,
    ) -> None:
        _check_sizes(vocabulary_size=vocabulary_size, embedding_size=embedding_size)
        vocabulary_size, embedding_size = int(vocabulary_size), int(embedding_size)
        super().__init__({"E": (vocabulary_size, embedding_size)}, dtype, check_finite)
        self.parameters["E"][...] = generator_of(seed).normal(0, 0.4, (vocabulary_size, embedding_size))

    def forward(self, ids: ArrayLike, *, lengths: ArrayLike | None = None, training: bool = False) -> Array:
        """Return (N, T, embedding_size); 0 past a sequence's length, where ids may be anything."""
        ids = as_array(ids, "ids")
        E = self.parameters["E"]
        if ids.dtype.kind not in "iu" or ids.ndim != 2:
            raise TypeError(f"ids: expected (N, T) integers, got {ids.shape} of {ids.dtype}")
        n = _check_lengths(ids.shape[0], ids.shape[1], lengths)
        checked = ids.astype(np.int64)  # a copy, so that what is checked is what is used
        place = _core.first_outside(checked, n, len(E))
        if place >= 0:
            i, t = divmod(place, ids.shape[1])
            raise ValueError(
                f"ids[{i}, {t}] = {ids[i, t]}: expected a token id in [0, vocabulary_size) = [0, {len(E)})"
            )
        self._keep(training, (checked, n))
        out: Array = _core.gather(checked, n, E)
        if self.check_finite:
            check(f"{self.name}: vector", out, n)
        return out

    def backward(self, d: Array) -> None:
        """Gradient of E, from that of the output (N, T, embedding_size)."""
        gradient = self.gradients["E"]
        with self._taken() as (ids, n):
            d = _check_gradient("d", d, (*ids.shape, gradient.shape[1]), "(N, T, embedding_size)", self.dtype)
            if self.check_finite:
                check(f"{self.name}: gradient of vector", d, n)
            _core.scatter(ids, n, d, gradient)
            if self.check_finite:
                check_parameters(self.name, self.gradients, "gradient of")


class Dense(Layer):
    """y = x W + b on the last axis.

    Parameters
    ----------
    input_size, output_size : int
        Shape of W; b has output_size numbers and starts at 0.
    dtype : float32 or float64
    seed : int or Generator, optional
        W starts uniform within ±sqrt(6 / (input_size + output_size)) (Glorot and Bengio 2010).
    check_finite : bool
        Look for NaN and infinity, and name the layer, row and step of the first: see :func:`rnnfast.fit`.

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> rnnfast.Dense(3, 2, seed=0).forward(np.ones((5, 3), np.float32)).shape
    (5, 2)
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
        check_finite: bool = False,
    ) -> None:
        _check_sizes(input_size=input_size, output_size=output_size)
        input_size, output_size = int(input_size), int(output_size)
        super().__init__({"W": (input_size, output_size), "b": (output_size,)}, dtype, check_finite)
        self.parameters["W"][...] = _glorot(generator_of(seed), input_size, output_size)

    def forward(self, x: ArrayLike, *, lengths: ArrayLike | None = None, training: bool = False) -> Array:
        """Return (..., output_size) for x (..., input_size).

        With lengths and x (N, T, input_size), what stands past a sequence's length is not read: y is b there.
        """
        x = as_array(x, "x")
        W, b = self.parameters["W"], self.parameters["b"]
        if x.ndim == 0 or x.shape[-1] != len(W) or x.dtype != self.dtype:
            raise ValueError(
                f"x: expected (..., input_size) = (..., {len(W)}) of {self.dtype}, got {x.shape} of {x.dtype}"
            )
        if lengths is not None and x.ndim != 3:
            raise ValueError(f"lengths: expected None unless x is (N, T, input_size), got x of {x.shape}")
        n = None if lengths is None else _check_lengths(x.shape[0], x.shape[1], lengths)
        self._keep(training, (x, n))
        if self.check_finite:
            check_parameters(self.name, self.parameters)
            check(f"{self.name}: x", x, n, steps=x.ndim > 2)
        y: Array = _core.dense(x, W, b, n)
        if self.check_finite:
            check(f"{self.name}: y", y, n, steps=y.ndim > 2)
        return y

    def backward(self, d: Array) -> Array:
        """Gradients of W and b; returns that of x, from that of the output (..., output_size)."""
        W = self.parameters["W"]
        with self._taken() as (x, n):
            d = _check_gradient("d", d, (*x.shape[:-1], W.shape[1]), "(..., output_size)", self.dtype)
            if self.check_finite:
                check(f"{self.name}: gradient of y", d, n, steps=d.ndim > 2)
            dx: Array = _core.dense_gradient(x, W, d, self.gradients["W"], self.gradients["b"], n)
            if self.check_finite:
                check(f"{self.name}: gradient of x", dx, n, steps=dx.ndim > 2)
                check_parameters(self.name, self.gradients, "gradient of")
        return dx


class Recurrent(Layer):
    """What RNN, LSTM and GRU share: layers on top of each other, each in one or both directions."""

    states: ClassVar[int] = 1  # h, or h and c

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        *,
        bias: bool = True,
        recurrent_init: Initializer = "orthogonal",
        forget_bias: float = 1.0,
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
        num_threads: int | None = None,
        recompute: int | None = None,
        check_finite: bool = False,
    ) -> None:
        _check_sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        _check_dropout(dropout)
        if isinstance(forget_bias, bool) or not isinstance(forget_bias, int | float | np.integer | np.floating):
            raise TypeError(f"forget_bias: expected a number, got {forget_bias!r:.80}")
        if not math.isfinite(forget_bias):
            raise ValueError(f"forget_bias: expected a finite number, got {forget_bias}")
        check_flags(bidirectional=bidirectional, bias=bias)
        if num_threads is not None:
            _check_sizes(num_threads=num_threads)
        input_size, hidden_size, num_layers = int(input_size), int(hidden_size), int(num_layers)  # 4 H overflows int8
        self.cell, self.input_size, self.hidden_size = cell, input_size, hidden_size
        self.num_layers, self.bidirectional, self.dropout = num_layers, bidirectional, dropout
        if recompute is not None:
            _check_sizes(recompute=recompute)
        self.num_threads, self.recompute = num_threads, recompute
        self.directions = 2 if bidirectional else 1
        blocks, bias_blocks, self.states = _core.cell_blocks(cell)  # type: ignore[misc]
        H = hidden_size
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(num_layers):
            D = input_size if layer == 0 else H * self.directions
            for name in self._names(layer):
                shapes[f"Wx_{name}"] = (D, blocks * H)
                shapes[f"Wh_{name}"] = (H, blocks * H)
                if bias:
                    shapes[f"b_{name}"] = (bias_blocks * H,)
        super().__init__(shapes, dtype, check_finite)
        self.rng = generator_of(seed)
        for name, value in self.parameters.items():
            for block in range(blocks if name.startswith("W") else 0):
                columns = slice(block * H, (block + 1) * H)
                value[:, columns] = (
                    _glorot(self.rng, *value[:, columns].shape)
                    if name.startswith("Wx")
                    else _square(self.rng, H, recurrent_init)
                )
            if name.startswith("b") and cell == "lstm":
                value[H : 2 * H] = forget_bias

    def _names(self, layer: int) -> list[str]:
        return [f"l{layer}", f"l{layer}_reverse"][: self.directions]

    def forward(
        self,
        x: ArrayLike,
        state: tuple[ArrayLike, ...] | None = None,
        *,
        lengths: ArrayLike | None = None,
        training: bool = False,
    ) -> tuple[Array, tuple[Array, ...]]:
        """Run all layers.

        Parameters
        ----------
        x : array, (N, T, input_size) floating or (N, T) token ids
        state : tuple of arrays (num_layers * directions, N, hidden_size), optional
            ``(h,)``, for LSTM ``(h, c)``; layer by layer, within a layer forward before reverse. None is zero.
        lengths : array, (N,) integers, optional
        training : bool
            Store what :meth:`backward` needs, and apply dropout.

        Returns
        -------
        h : array, (N, T, directions * hidden_size)
            Of the top layer, forward before reverse; 0 past a sequence's length.
        state : tuple of arrays (num_layers * directions, N, hidden_size)
        """
        if isinstance(x, np.ndarray) and x.ndim == 3 and x.shape[2] != self.input_size:
            raise ValueError(f"x: expected (N, T, input_size) = (N, T, {self.input_size}), got {x.shape}")
        training = bool(training)
        tapes: list[list[Any]] = []
        masks: list[Array | None] = []
        inputs: list[Any] = []  # of the layers, and their initial states, where these are asked for again
        given = None if state is None else self._check_state(state)
        final: list[tuple[Array, ...]] = []
        h: Any = x
        H = self.hidden_size
        for layer in range(self.num_layers):
            mask = None
            if layer and training and self.dropout:
                mask = dropout_mask(self.rng, h.shape, self.dropout, self.dtype, self.share)
                h *= mask  # only the mask is needed again
            both = None  # the outputs of both directions, side by side; the core checks the shape of x
            if self.bidirectional and np.ndim(h) >= 2:
                both = np.empty((*np.shape(h)[:2], 2 * H), self.dtype)
            outputs = [
                _core.forward(
                    self.cell,
                    h,
                    self.parameters[f"Wx_{name}"],
                    self.parameters[f"Wh_{name}"],
                    self.parameters.get(f"b_{name}"),
                    None if given is None else tuple(s[len(final) + i] for s in given),
                    lengths,
                    i == 1,
                    training,
                    self.num_threads,
                    self.recompute,
                    None if both is None else both[:, :, i * H : (i + 1) * H],
                )
                for i, name in enumerate(self._names(layer))
            ]
            if self.check_finite:
                x_layer = np.asarray(h)
                n = _check_lengths(x_layer.shape[0], x_layer.shape[1], lengths)
                starts = [given and tuple(s[len(final) + i] for s in given) for i in range(len(outputs))]
                inputs.append((x_layer, starts, n))
                self._check_outputs(layer, x_layer, starts, n, outputs)
            final += [state for _, state, _ in outputs]
            h = outputs[0][0] if both is None else both
            masks.append(mask)
            tapes.append([tape for _, _, tape in outputs])
        self._keep(training, (tapes, masks, inputs, h.shape[:2]))
        return h, tuple(np.array(s) for s in zip(*final, strict=True))

    def backward(
        self, dh: Array | None = None, dstate: tuple[Array | None, ...] | None = None, *, dx: bool = True
    ) -> tuple[Array | None, tuple[Array, ...]]:
        """Back-propagate through time: writes ``gradients``.

        Parameters
        ----------
        dh : array, (N, T, directions * hidden_size), optional
        dstate : tuple of arrays (num_layers * directions, N, hidden_size), optional
            Gradients of what :meth:`forward` returned; None (the whole or an item) is zero.
        dx : bool
            False leaves the gradient of the input out.

        Returns
        -------
        dx : array, (N, T, input_size); None for token ids, and where it was left out
        dstate : tuple of arrays (num_layers * directions, N, hidden_size)
            Gradient of the initial state.
        """
        with self._taken() as (tapes, masks, inputs, steps):
            return self._backward(tapes, masks, inputs, steps, dh, dstate, dx)

    def _backward(
        self,
        tapes: list[list[Any]],
        masks: list[Array | None],
        inputs: list[Any],
        steps: tuple[int, int],  # N, T
        dh: Array | None,
        dstate: tuple[Array | None, ...] | None,
        dx: bool,
    ) -> tuple[Array | None, tuple[Array, ...]]:
        H, d, dtype = self.hidden_size, dh, self.dtype
        if d is not None:
            d = _check_gradient("dh", d, (*steps, self.directions * H), "(N, T, directions * H)", dtype)
        if dstate is not None:
            _check_states("dstate", dstate, self.states, self.cell)
            shape, symbols = (self.num_layers * self.directions, steps[0], H), "(num_layers * directions, N, H)"
            dstate = tuple(
                None if s is None else _check_gradient(f"dstate[{k}]", s, shape, symbols, dtype)
                for k, s in enumerate(dstate)
            )
        if inputs:
            check(f"{self.name}: dh", d, inputs[0][2])
            for k, s in enumerate(dstate or ()):
                for index in range(0 if s is None else len(s)):
                    check(f"{self.name}: dstate[{k}][{index}]", s[index], steps=False)  # type: ignore[index]
        initial: dict[int, tuple[Array, ...]] = {}
        for layer in reversed(range(self.num_layers)):
            below: Array | None = None
            for i, name in enumerate(self._names(layer)):
                index = layer * self.directions + i
                out = (self.gradients[f"Wx_{name}"], self.gradients[f"Wh_{name}"], self.gradients.get(f"b_{name}"))
                d_direction = None if d is None else d[:, :, i * H : (i + 1) * H]
                d_final = None if dstate is None else tuple(None if s is None else s[index] for s in dstate)
                x, _, _, _, initial[index] = _core.backward(
                    tapes[layer][i], d_direction, d_final, self.num_threads, layer > 0 or dx, out
                )
                if inputs:
                    x_layer, starts, n = inputs[layer]
                    self._check_gradients(layer, i, x_layer, starts[i], n, d_direction, d_final, x, initial[index])
                if x is not None:
                    with np.errstate(over="ignore", invalid="ignore"):  # as in the core
                        below = x if below is None else np.add(below, x, out=below)
            mask = masks[layer]
            d = below if mask is None or below is None else np.multiply(below, mask, out=below)
        if inputs:
            check(f"{self.name}: gradient of x", d, inputs[0][2])
        order = [initial[i] for i in range(len(initial))]
        return d, tuple(np.array(s) for s in zip(*order, strict=True))

    # ---- check_finite

    def _place(self, layer: int, direction: int) -> str:
        return f"{self.name}, layer {layer}" + (", reverse" if direction else "")

    def _weights(self, layer: int, direction: int) -> tuple[Array, Array, Array | None]:
        name = self._names(layer)[direction]
        return self.parameters[f"Wx_{name}"], self.parameters[f"Wh_{name}"], self.parameters.get(f"b_{name}")

    def _check_outputs(self, layer: int, x: Array, starts: list[Any], n: Array | None, outputs: list[Any]) -> None:
        if layer == 0:
            check_parameters(self.name, self.parameters)
            check(f"{self.name}: x", x, n)
        for i, (h, state, _) in enumerate(outputs):
            place, start = self._place(layer, i), starts[i]
            for k, s in enumerate(start or ()):
                check(f"{place}: initial {'hc'[k]}", np.asarray(s), steps=False)
            bad = ~np.isfinite(h).all(axis=(1, 2))
            for s in state:
                bad |= ~np.isfinite(s).all(axis=1)
            if bad.any():
                first_state(place, self.cell, self._weights(layer, i), x, start, n, i == 1, np.flatnonzero(bad))

    def _check_gradients(
        self,
        layer: int,
        i: int,
        inputs: Array,
        start: tuple[Array, ...] | None,
        n: Array | None,
        dh: Array | None,
        dstate: tuple[Array | None, ...] | None,
        dx: Array | None,
        d_initial: tuple[Array, ...],
    ) -> None:
        place = self._place(layer, i)
        bad = np.zeros(len(inputs), bool)
        for s in d_initial:
            bad |= ~np.isfinite(s).all(axis=1)
        if bad.any():
            weights = self._weights(layer, i)
            first_gradient(place, self.cell, weights, inputs, start, n, i == 1, dh, dstate, np.flatnonzero(bad))
        check(f"{place}: gradient of x", dx, n)
        name = self._names(layer)[i]
        mine = {k: g for k, g in self.gradients.items() if k.partition("_")[2] == name}
        check_parameters(self.name, mine, "gradient of")

    def _check_state(self, state: tuple[ArrayLike, ...]) -> list[Array]:
        layers = self.num_layers * self.directions
        _check_states("state", state, self.states, self.cell)
        arrays = [as_array(s, "state") for s in state]
        for k, array in enumerate(arrays):
            if array.ndim != 3 or array.shape[0] != layers or array.shape[2] != self.hidden_size:
                raise ValueError(
                    f"state[{k}]: expected (num_layers * directions, N, H) = ({layers}, N, {self.hidden_size}), "
                    f"got {array.shape}"
                )
        return arrays


_RECURRENT_DOC = """{title}

    Parameters
    ----------
    input_size : int
        Features of a step, or the size of the vocabulary for token ids.
    hidden_size : int
        Units of each layer and direction.
    num_layers : int
        Layers on top of each other.
    bidirectional : bool
        Each layer also walks every sequence backwards; its outputs stand behind the forward ones.
    dropout : float
        Part of the outputs of each layer but the top one that training sets to 0 (the others grow by 1 / (1 - p)).
{extra}    bias : bool
    recurrent_init : "orthogonal", "identity" or "uniform"
        How each H × H block of Wh starts: orthogonal keeps norms through many steps (Saxe et al. 2014), identity
        suits relu (Le et al. 2015), uniform is within ±1/sqrt(H). Wx starts uniform (Glorot), the bias at 0.
    forget_bias : float
        Start of the forget gate's bias of an LSTM; 1 lets gradients through at first (Jozefowicz et al. 2015).
    dtype : float32 or float64
    seed : int or Generator, optional
        For initialisation and dropout.
    num_threads : int, optional
    recompute : int, optional
        As in :func:`rnnfast.forward`: less memory for long sequences.
    check_finite : bool
        Look for NaN and infinity, and name the layer, row and step of the first: see :func:`rnnfast.fit`.

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> layer = rnnfast.{name}(3, 4, num_layers=2, bidirectional=True, seed=0)
    >>> h, state = layer.forward(np.ones((2, 5, 3), np.float32), lengths=[5, 2], training=True)
    >>> h.shape, state[0].shape
    ((2, 5, 8), (4, 2, 4))
    >>> dx, dstate = layer.backward(np.ones_like(h))
    >>> dx.shape, layer.gradients["Wh_l0"].shape
    ((2, 5, 3), (4, {width}))
    """


class RNN(Recurrent):
    __doc__ = _RECURRENT_DOC.format(
        title="Elman network: h' = φ(x Wx + h Wh + b) (Elman 1990).",
        name="RNN",
        width=4,
        extra='    activation : "tanh", "relu" or "sigmoid"\n        φ.\n',
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        *,
        activation: Literal["tanh", "relu", "sigmoid"] = "tanh",
        **options: Any,
    ) -> None:
        super().__init__(f"rnn_{activation}", input_size, hidden_size, num_layers, bidirectional, dropout, **options)


class LSTM(Recurrent):
    __doc__ = _RECURRENT_DOC.format(
        title="Long short-term memory: c' = f⊙c + i⊙g, h' = o⊙tanh(c') (Hochreiter and Schmidhuber 1997).",
        name="LSTM",
        width=16,
        extra="",
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__("lstm", input_size, hidden_size, num_layers, bidirectional, dropout, **options)


class GRU(Recurrent):
    __doc__ = _RECURRENT_DOC.format(
        title="Gated recurrent unit: h' = (1−z)⊙n + z⊙h (Cho et al. 2014).",
        name="GRU",
        width=12,
        extra="""    reset_after : bool
        Apply r after the recurrent product, n = tanh(x Wxn + b_n + r⊙(h Whn + b_nh)), as cuDNN and PyTorch do; False is
        the cell ``"gru_reset_before"`` with n = tanh(x Wxn + b_n + (r⊙h) Whn), as in the paper.
""",
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        *,
        reset_after: bool = True,
        **options: Any,
    ) -> None:
        check_flags(reset_after=reset_after)
        cell = "gru" if reset_after else "gru_reset_before"
        super().__init__(cell, input_size, hidden_size, num_layers, bidirectional, dropout, **options)


def dropout_mask(
    rng: np.random.Generator, shape: tuple[int, ...], p: float, dtype: np.dtype[Any], share: Share | None = None
) -> Array:
    """0 with probability p, else 1 / (1 - p) (Srivastava et al. 2014, inverted)."""
    mask: Array = (uniform(rng, shape, share) >= np.float32(p)).astype(dtype)
    mask *= dtype.type(1 / (1 - p))
    return mask


def _glorot(rng: np.random.Generator, rows: int, columns: int) -> Array:
    limit = float(np.sqrt(6 / (rows + columns)))
    return rng.uniform(-limit, limit, (rows, columns))


def _square(rng: np.random.Generator, n: int, kind: Initializer) -> Array:
    if not isinstance(kind, str) or kind not in ("orthogonal", "identity", "uniform"):
        raise ValueError(f"recurrent_init: expected 'orthogonal', 'identity' or 'uniform', got {kind!r}")
    if kind == "identity":
        return np.eye(n)
    if kind == "uniform":
        return rng.uniform(-(n**-0.5), n**-0.5, (n, n))
    q: Array
    q, r = np.linalg.qr(rng.normal(size=(n, n)))
    q = q * np.where(np.diag(r) < 0, -1.0, 1.0)  # makes the distribution uniform over orthogonal matrices
    return q


def _check_lengths(N: int, T: int, lengths: ArrayLike | None) -> Array | None:
    """The lengths as (N,) int64, a copy; None is None."""
    if lengths is None:
        return None
    n = as_array(lengths, "lengths")
    if n.shape != (N,) or (n.size and n.dtype.kind not in "iu"):
        raise ValueError(f"lengths: expected (N,) = ({N},) integers, got {n.shape} of {n.dtype}")
    checked: Array = n.astype(np.int64)
    wrong = _core.first_outside(checked, None, T + 1)
    if wrong >= 0:
        raise ValueError(f"lengths[{wrong}] = {n[wrong]}: expected a length in 0..T = 0..{T}")
    return checked


def _check_gradient(name: str, d: Any, shape: tuple[int, ...], symbols: str, dtype: np.dtype[Any]) -> Array:
    array = np.asarray(d)
    if array.shape != shape:
        raise ValueError(f"{name}: expected {symbols} = {shape}, got {array.shape}")
    if array.dtype.type is not dtype.type:
        raise TypeError(f"{name}: expected {dtype}, got {array.dtype}")
    return array


def _check_states(name: str, state: Any, states: int, cell: str) -> None:
    if not isinstance(state, tuple | list) or len(state) != states:
        got = f"{len(state)}" if isinstance(state, tuple | list) else type(state).__name__
        raise ValueError(f"{name}: expected a tuple of {states} for {cell}, got {got}")


def size_of(name: str, size: Any) -> int:
    """A size as an int; an error has the name that it has for the caller, not for a layer."""
    if isinstance(size, bool) or not isinstance(size, int | np.integer):
        raise TypeError(f"{name}: expected a positive integer, got {size!r}")
    if not 1 <= size < 2**31:
        raise ValueError(f"{name}: expected a positive integer{'' if size < 1 else ' below 2**31'}, got {size}")
    return int(size)


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        size_of(name, size)


def check_flags(**flags: bool) -> None:
    for name, flag in flags.items():
        if not isinstance(flag, bool | np.bool_):
            raise TypeError(f"{name}: expected True or False, got {flag!r}")


def _check_dropout(dropout: float) -> None:
    if not isinstance(dropout, int | float | np.number):
        raise TypeError(f"dropout: expected 0 <= p < 1, got {dropout!r}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout: expected 0 <= p < 1, got {dropout}")
