"""The two diseases of back-propagation through time made visible: gradients that vanish, and gradients that explode.

``gradient_norms`` follows the gradient of a loss back through every step of a batch and says what becomes of it;
``hidden_states`` gives what a network holds in its units at every step. Users call them, and plots.py draws them. Both
work on a copy of the model, and must not know how it is trained.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .functions import Tape, backward, forward
from .layers import Array, Recurrent
from .trainer import Loss
from .training import LOSSES, Sequences

__all__ = ["EXPLODING", "VANISHING", "GradientFlow", "gradient_norms", "hidden_states"]

#: The ratio up to which, and that from which on, GradientFlow.verdict says so; the reasons stand there.
VANISHING, EXPLODING = 1e-3, 1e3

Verdict = Literal["vanishing", "exploding", "stable", "no gradient"]
ADVICE = {
    "vanishing": "What stands there teaches next to nothing: an LSTM with forget_bias 1 or more, a GRU or orthogonal "
    "recurrent weights carry gradients further.",
    "exploding": "The far end drowns out the rest: clip_norm=1 or orthogonal recurrent weights hold it.",
    "stable": "",
}


@dataclass(frozen=True, eq=False)
class GradientFlow:
    """What becomes of a gradient on its way back through time; see :func:`gradient_norms`. ``print`` says it.

    A row is a layer and direction, in the order of the layer's states: R = num_layers * directions. Steps are counted
    back from the end of each sequence's walk: k = 0 is its last valid step, in a reverse direction its step 0.

    Attributes
    ----------
    names : tuple of R str
        ``"l0"``, ``"l0_reverse"``, ``"l1"``, ... as in the names of the parameters.
    lengths : (N,) int64
    share : (R, T) float64
        What is left, k steps before the end, of the gradient that enters at the end alone: the mean over the sequences
        of the norm at k divided by that at 0. (∂L/∂h and ∂L/∂c of an LSTM are one vector here.) Where each step has a
        loss of its own, `norms` never look small, and this does.
    norms : (R, T) float64
        ‖∂L/∂h‖ k steps before the end, the mean over the sequences that are longer than k; NaN where none is.
    per_sequence : (R, N, T) float64
        The same of each sequence, but at step t of the input; NaN past its length.
    cell_norms, cell_per_sequence :
        The same for ‖∂L/∂c‖ of an LSTM; None for others.

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> layer = rnnfast.RNN(1, 1, activation="relu", recurrent_init="identity", seed=0)
    >>> layer.parameters["Wh_l0"][...] = 0.5
    >>> flow = gradient_norms(layer, np.full((1, 12, 1), np.sign(layer.parameters["Wx_l0"])))
    >>> flow.norms[0, :4].tolist(), round(flow.factor, 9), flow.verdict
    ([1.0, 0.5, 0.25, 0.125], 0.5, 'vanishing')
    """

    names: tuple[str, ...]
    lengths: NDArray[np.int64]
    share: NDArray[np.float64]
    norms: NDArray[np.float64]
    per_sequence: NDArray[np.float64]
    cell_norms: NDArray[np.float64] | None = None
    cell_per_sequence: NDArray[np.float64] | None = None

    @property
    def steps(self) -> int:
        """How many steps the far end lies before the near end, in the row that decides."""
        return len(_known(self.share[self.row])) - 1

    @property
    def ratios(self) -> NDArray[np.float64]:
        """(R,): the share at the far end; 0 or inf where the model's dtype ends, NaN where no gradient enters."""
        return np.array([row[-1] if len(row) else np.nan for row in map(_known, self.share)])

    @property
    def factors(self) -> NDArray[np.float64]:
        """(R,): by what a step multiplies, exp of the slope of the least-squares line through log(share)."""
        return np.array([_factor(_known(row)) for row in self.share])

    @property
    def row(self) -> int:
        """The row that decides.

        Exploding anywhere is exploding: the row with the largest ratio. Else one layer that carries the gradient is
        enough, but each direction needs its own: of each direction the best layer, and of these the worst.
        """
        ratios = np.nan_to_num(self.ratios, nan=-1.0, posinf=np.inf)
        if ratios.max() >= EXPLODING:
            return int(ratios.argmax())
        directions = 2 if any(name.endswith("_reverse") for name in self.names) else 1
        best = ratios.reshape(-1, directions).argmax(axis=0)  # layers
        rows = best * directions + np.arange(directions)
        return int(rows[ratios[rows].argmin()])

    @property
    def ratio(self) -> float:
        """That of the row that decides."""
        return float(self.ratios[self.row])

    @property
    def factor(self) -> float:
        """That of the row that decides."""
        return float(self.factors[self.row])

    @property
    def verdict(self) -> Verdict:
        """Of the ratio: vanishing up to `VANISHING`, exploding from `EXPLODING` on; "no gradient" if none enters.

        A step of the optimiser adds up the gradients of all steps: a share of 1/1000 drowns in the noise between two
        batches, and one of 1000 drowns all the others.
        """
        return _verdict(self.ratio)

    def __str__(self) -> str:
        if self.verdict == "no gradient":
            return "no gradient: none enters at the end of a sequence, whose targets may be learnt by heart"
        lines = [
            f"{self.verdict}: {self.steps} steps before the end of a sequence, {self.ratio:.2g} of the gradient that "
            f"enters there is left (× {self.factor:.3g} a step). {ADVICE[self.verdict]}".rstrip()
        ]
        if len(self.names) > 1:
            width = max(map(len, self.names))
            lines += [
                f"  {name:{width}}  {ratio:9.2g}  × {factor:<6.3g} a step  {_verdict(ratio)}"
                for name, ratio, factor in zip(self.names, self.ratios, self.factors, strict=True)
            ]
        return "\n".join(lines)


def gradient_norms(
    model: Any,
    x: Any,
    y: Any = None,
    *,
    lengths: ArrayLike | None = None,
    loss: Literal["cross_entropy", "squared_error"] | Loss = "cross_entropy",
    normalizer: str = "steps",
    state: tuple[ArrayLike, ...] | None = None,
    dh: ArrayLike | None = None,
    dstate: tuple[ArrayLike | None, ...] | None = None,
    part: str | None = None,
) -> GradientFlow:
    """Follow the gradient of a loss back through time: ‖∂L/∂h_t‖ at every step of a batch.

    ∂L/∂h_t is all that reaches the hidden state of step t: what its own output says, and what flows back from later
    steps. With J_t = ∂h_t/∂h_{t-1}, the latter is the product of J's that shrinks or grows exponentially with the
    distance, wherever the norms of the J's stay below or above 1 (Bengio et al. 1994; Pascanu et al. 2013).

    Parameters
    ----------
    model : Network, EncoderDecoder, or a recurrent layer (RNN, LSTM, GRU)
        Left as it is. There is no dropout, and initial states are zero.
    x, y, lengths :
        One batch, as in :func:`rnnfast.fit`: see :class:`rnnfast.Sequences`, or such an object alone. Without `y` the
        loss is the sum of the outputs.
    loss, normalizer :
        As in :func:`rnnfast.fit`.
    state : tuple of arrays (num_layers * directions, N, H), optional
        Initial states, for a model that is carried on from a batch before.
    dh, dstate : optional, for a layer only
        Gradients of its outputs (N, T, directions * H) and final states, as in its ``backward``. Without any, the loss
        is the sum of the final h of the top layer.
    part : str, optional
        Which recurrent part of a model that has several: ``"encoder"`` or ``"decoder"``.

    Returns
    -------
    GradientFlow
        Its ``verdict`` says what becomes of the gradient that enters at the end of a sequence, on its way to the other
        end: for many to one that is all of it; where each step has a loss, that of the last step alone; and each
        direction of a bidirectional layer is judged by what enters at its own end.

    Raises
    ------
    ValueError, TypeError
        As the passes of the model; a batch without a step; arguments that a layer, or a model, does not have.
    FloatingPointError
        A hidden state, or the gradient where it enters, is not finite.

    Notes
    -----
    The kernels keep ∂L/∂h_t to themselves, so the layers run here in T calls of one step each, whose gradients have the
    bits of one call of T steps, in the model's own dtype: what underflows in training is 0 here too.

    References
    ----------
    Bengio, Simard and Frasconi (1994), Learning long-term dependencies with gradient descent is difficult. Pascanu,
    Mikolov and Bengio (2013), On the difficulty of training recurrent neural networks.

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> x, y = np.random.default_rng(0).integers(0, 10, (4, 50)), [0, 1, 1, 0]
    >>> network = rnnfast.Network(10, 16, 2, cell="rnn_tanh", embedding_size=8, recurrent_init="uniform", seed=0)
    >>> print(gradient_norms(network, x, y))  # doctest: +ELLIPSIS
    vanishing: 49 steps before the end of a sequence, ... of the gradient that enters there is left (× 0.4... a step)...
    """
    if isinstance(model, Recurrent):
        if y is not None:
            raise ValueError("y: expected None with a layer, whose gradients are dh and dstate")
        seen = _pass_of_layer(model, x, lengths, state, dh, dstate, part)
    else:
        if dh is not None or dstate is not None:
            raise ValueError("dh, dstate: expected None with a model, which has them from its loss")
        seen = _pass_of_model(model, x, y, lengths, loss, normalizer, state, part)
    layer, n, directions = seen.layer, seen.lengths, seen.layer.directions
    total = [_norms(d) for d in _state_gradients(seen)]
    share = np.empty((layer.num_layers * directions, seen.x.shape[1]))
    for i in range(directions):
        path = _by_distance(_norms(np.concatenate(_state_gradients(_end_of(seen, i)), axis=3)), n, directions)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            share[i::directions] = _mean(np.where(path[..., :1] > 0, path / path[..., :1], np.nan))[i::directions]
    names = tuple(_name(row, directions) for row in range(len(share)))
    means = [_mean(_by_distance(norms, n, directions)) for norms in total]
    steps = [np.where(np.arange(norms.shape[2]) < n[:, None], norms, np.nan) for norms in total]
    return GradientFlow(names, n, share, means[0], steps[0], *((means[1], steps[1]) if layer.states > 1 else ()))


def hidden_states(model: Any, x: Any, lengths: ArrayLike | None = None, *, part: str | None = None) -> Array:
    """What the top recurrent layer gives out at every step.

    Parameters
    ----------
    model, x, lengths, part :
        As in :func:`gradient_norms`.

    Returns
    -------
    h : (N, T, directions * H)
        0 past a sequence's length; a list of sequences is padded to the longest.

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> network = rnnfast.Network(10, 4, 2, embedding_size=3, bidirectional=True, seed=0)
    >>> hidden_states(network, [np.array([1, 2, 3]), np.array([4])]).shape
    (2, 3, 8)
    """
    twin, recorder = _twin(model, part)
    x, _, n = _batch(x, None, lengths, False)
    twin.forward(_cast(x, model.dtype), lengths=n)
    return np.asarray(recorder.h)


@dataclass(frozen=True)
class _Pass:
    """One batch of a recurrent layer: its input, and the gradients of its outputs."""

    layer: Recurrent
    x: Array  # (N, T, D), or (N, T) ids
    lengths: NDArray[np.int64]  # (N,)
    state: tuple[Array, ...] | None  # (R, N, H) each
    dh: Array | None  # (N, T, directions * H)
    dstate: tuple[Array | None, ...]  # (R, N, H) each

    def walk(self, row: int) -> range:
        """The steps in the order of a row's direction."""
        T = self.x.shape[1]
        return range(T - 1, -1, -1) if row % self.layer.directions else range(T)

    def valid(self, t: int) -> NDArray[np.int64]:
        """Lengths (N,) of step t as a sequence of its own: with 0, the state passes through."""
        return (t < self.lengths).astype(np.int64)


def _state_gradients(batch: _Pass) -> tuple[Array, ...]:
    """∂L/∂h, for an LSTM also ∂L/∂c, of every row, sequence and step: (R, N, T, H) each, 0 past a sequence's length.

    Both as parts of the state that one step hands to the next: ∂L/∂h with c held fast, and the other way round.
    """
    layer, x, (N, T), H = batch.layer, batch.x, batch.x.shape[:2], batch.layer.hidden_size
    rows = range(layer.num_layers * layer.directions)
    levels = [rows[k : k + layer.directions] for k in rows[:: layer.directions]]
    tapes: list[list[Tape]] = []
    for level in levels:
        outputs = [_forward_row(batch, row, x) for row in level]
        tapes += [tape for _, tape in outputs]
        x = np.concatenate([h for h, _ in outputs], axis=2)
    result = tuple(np.zeros((len(rows), N, T, H), layer.dtype) for _ in range(layer.states))
    d = np.zeros((N, T, layer.directions * H), layer.dtype) if batch.dh is None else batch.dh
    for level in reversed(levels):
        parts = [
            _backward_row(batch, row, tapes[row], d[:, :, i * H : (i + 1) * H], [r[row] for r in result])
            for i, row in enumerate(level)
        ]
        d = sum(parts[1:], start=parts[0])
    return result


def _forward_row(batch: _Pass, row: int, x: Array) -> tuple[Array, list[Tape]]:
    """Outputs (N, T, H) of one layer and direction, and the tape of each step."""
    layer, name = batch.layer, _name(row, batch.layer.directions)
    Wx, Wh, b = layer.parameters[f"Wx_{name}"], layer.parameters[f"Wh_{name}"], layer.parameters.get(f"b_{name}")
    h = np.zeros((*x.shape[:2], layer.hidden_size), layer.dtype)
    tapes: list[Any] = [None] * x.shape[1]
    state: Any = None if batch.state is None else tuple(s[row] for s in batch.state)
    for t in batch.walk(row):
        out, state, tapes[t] = forward(
            layer.cell, x[:, t : t + 1], Wx, Wh, b, state, lengths=batch.valid(t), num_threads=layer.num_threads
        )
        h[:, t] = out[:, 0]
    return h, tapes


def _backward_row(batch: _Pass, row: int, tapes: list[Tape], dh: Array, result: list[Array]) -> Array:
    """Fill `result`, (N, T, H) each, from the gradient of the outputs (N, T, H); return that of the input."""
    layer = batch.layer
    dx = np.zeros((*dh.shape[:2], layer.directions * layer.hidden_size if row >= layer.directions else 0), layer.dtype)
    d = [np.zeros_like(r[:, 0]) if s is None else s[row] for r, s in zip(result, batch.dstate, strict=True)]
    for t in reversed(batch.walk(row)):
        valid = batch.valid(t)[:, None] > 0
        with np.errstate(over="ignore", invalid="ignore"):
            d[0] = np.where(valid, d[0] + dh[:, t], d[0])
        for array, now in zip(result, d, strict=True):
            array[:, t] = np.where(valid, now, 0)
        gradients = backward(tapes[t], None, tuple(d), num_threads=layer.num_threads, dx=dx.shape[2] > 0)
        d = list(gradients.state)
        if gradients.x is not None:
            dx[:, t] = gradients.x[:, 0]
    return dx


def _end_of(batch: _Pass, direction: int) -> _Pass:
    """The same batch, of whose gradients alone those are left that enter at the end of one direction's walk."""
    directions, H, (N, T) = batch.layer.directions, batch.layer.hidden_size, batch.x.shape[:2]
    last = batch.lengths - 1 if direction == 0 else np.zeros(N, np.int64)
    here = (np.arange(T) == last[:, None])[..., None] & (np.arange(directions * H) // H == direction)
    rows = (np.arange(batch.layer.num_layers * directions) % directions == direction)[:, None, None]
    dstate = tuple(None if s is None else s * rows for s in batch.dstate)
    return replace(batch, dh=None if batch.dh is None else batch.dh * here, dstate=dstate)


class _Recorder:
    """Stands in for the recurrent layers of a model, and keeps what reaches them and what they give."""

    def __init__(self, layer: Recurrent) -> None:
        self.layer = layer
        self.x: Any = None
        self.h: Any = None
        self.state = self.lengths = self.dh = self.dstate = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)

    def forward(self, x: Any, state: Any = None, *, lengths: Any = None, training: bool = False) -> Any:
        self.x, self.state, self.lengths = np.array(x), state, lengths
        self.h, final = self.layer.forward(x, state, lengths=lengths, training=training)
        return self.h, final

    def backward(self, dh: Any = None, dstate: Any = None, *, dx: bool = True) -> Any:
        self.dh, self.dstate = copy.deepcopy((dh, dstate))  # a model may go on to use its arrays
        return self.layer.backward(dh, dstate, dx=dx)

    def seen(self) -> _Pass:
        layer, x = self.layer, self.x
        n = np.full(len(x), x.shape[1], np.int64) if self.lengths is None else np.asarray(self.lengths, np.int64)
        if not n.any():
            raise ValueError("lengths: expected a sequence with at least one step, got none")
        valid = (np.arange(x.shape[1]) < n[:, None])[:, :, None]
        dstate = (None,) * layer.states if self.dstate is None else tuple(self.dstate)
        dh = None if self.dh is None else np.where(valid, self.dh, 0).astype(layer.dtype)
        if not all(d is None or np.isfinite(d).all() for d in (self.h, dh, *dstate)):
            raise FloatingPointError(
                "a hidden state, or the gradient that enters, is not finite: look for NaN in x and the weights"
            )
        return _Pass(layer, x, n, self.state, dh, dstate)


def _pass_of_layer(layer: Recurrent, x: Any, lengths: Any, state: Any, dh: Any, dstate: Any, part: str | None) -> _Pass:
    x, _, n = _batch(x, None, lengths, False)
    _, recorder = _twin(layer, part)
    state, dh, dstate = (_cast(a, layer.dtype) for a in (state, dh, dstate))
    _, final = recorder.forward(_cast(x, layer.dtype), state, lengths=n, training=True)
    if dh is None and dstate is None:
        ones = np.zeros_like(final[0])
        ones[-layer.directions :] = 1
        dstate = (ones, *(None,) * (layer.states - 1))
    recorder.backward(dh, dstate, dx=False)
    return recorder.seen()


def _pass_of_model(
    model: Any, x: Any, y: Any, lengths: Any, loss: Any, normalizer: str, state: Any, part: str | None
) -> _Pass:
    per_step = bool(getattr(model, "per_step", False))
    function = LOSSES.get(loss) if isinstance(loss, str) else loss
    if not callable(function):
        raise ValueError(f"loss: expected one of {', '.join(map(repr, LOSSES))} or a function, got {loss!r}")
    x, y, n = _batch(x, y, lengths, per_step)
    twin, recorder = _twin(model, part)
    outputs = twin.forward(_cast(x, model.dtype), lengths=n, state=_cast(state, model.dtype), training=True)
    if y is not None:
        d = function(outputs, y, lengths=n if per_step else None, normalizer=normalizer)[1]
    else:
        d = np.ones_like(outputs)
        if per_step:
            d[np.arange(outputs.shape[1]) >= n[:, None]] = 0
    twin.backward(d)
    return recorder.seen()


def _twin(model: Any, part: str | None) -> tuple[Any, _Recorder]:
    """A copy of the model, without what is random in it, whose recurrent part is recorded."""
    if isinstance(model, Recurrent):
        if part is not None:
            raise ValueError(f"part: expected None with a layer, got {part!r}")
        recorder = _Recorder(copy.copy(model))
        return recorder, recorder
    layers = getattr(model, "layers", None)
    parts = [k for k, v in layers.items() if isinstance(v, Recurrent)] if isinstance(layers, dict) else []
    if not parts:
        got = type(model).__name__
        raise TypeError(f"model: expected a Network, an EncoderDecoder or a recurrent layer, got {got}")
    if part is None and len(parts) == 1:
        part = parts[0]
    if part is None or part not in parts:
        raise ValueError(f"part: expected one of {', '.join(map(repr, parts))}, got {part!r}")
    twin = copy.deepcopy(model)
    for thing in (twin, *twin.layers.values()):
        thing.dropout = thing.initial_state_std = 0.0
    recorder = _Recorder(twin.layers[part])
    setattr(twin, part, recorder)
    return twin, recorder


def _batch(x: Any, y: Any, lengths: Any, per_step: bool) -> tuple[Any, Any, NDArray[np.int64]]:
    """All of a data set as one batch; an array keeps its T."""
    data = x if hasattr(x, "batch") else Sequences(x, y, lengths, per_step=per_step)
    if data is x and (y is not None or lengths is not None):
        raise ValueError(f"y, lengths: expected None with a {type(x).__name__}, which has its own")
    if isinstance(x, np.ndarray):
        return x, data.y, data.lengths.astype(np.int64)
    x, y, n = data.batch(np.arange(len(data)))
    return x, None if data.y is None else y, n


def _cast(value: Any, dtype: np.dtype[Any]) -> Any:
    """Floating arrays, and those of a tuple, in the dtype of a model; ids and None as they are."""
    if isinstance(value, tuple | list):
        return tuple(_cast(item, dtype) for item in value)
    array = np.asarray(value)
    return array.astype(dtype, copy=False) if array.dtype.kind == "f" else value


def _name(row: int, directions: int) -> str:
    return f"l{row // directions}" + "_reverse" * (row % directions)


def _norms(d: Array) -> NDArray[np.float64]:
    """Euclidean norms along the last axis, without overflow or underflow; NaN, which is inf - inf, counts as inf."""
    wide = d.astype(np.float64)
    scale = np.abs(wide).max(axis=-1, keepdims=True, initial=0)
    scale[~(np.isfinite(scale) & (scale > 0))] = 1
    with np.errstate(over="ignore"):
        norms: NDArray[np.float64] = scale[..., 0] * np.sqrt(np.square(wide / scale).sum(axis=-1))
    norms[np.isnan(norms)] = np.inf
    return norms


def _by_distance(norms: NDArray[np.float64], lengths: NDArray[np.int64], directions: int) -> NDArray[np.float64]:
    """(R, N, T) at steps t, counted from the end of each walk: NaN past its beginning."""
    n, k = lengths[:, None], np.arange(norms.shape[2])
    ends = [np.maximum(n - 1 - k, 0), np.broadcast_to(k, norms.shape[1:])]  # step t at distance k, of each direction
    rows = [np.take_along_axis(row, ends[r % directions], axis=1) for r, row in enumerate(norms)]
    return np.where(k < n, np.stack(rows), np.nan)


def _mean(norms: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R, T) of (R, N, T): over the sequences that are not NaN; NaN where there is none."""
    known = ~np.isnan(norms)
    with np.errstate(over="ignore", invalid="ignore"):
        mean: NDArray[np.float64] = np.where(known, norms, 0).sum(axis=1) / known.sum(axis=1)
    return mean


def _known(share: NDArray[np.float64]) -> NDArray[np.float64]:
    return share[~np.isnan(share)]


def _factor(share: NDArray[np.float64]) -> float:
    k = np.flatnonzero((share > 0) & np.isfinite(share))
    if len(k) < 2:
        return float(share[-1]) if len(share) else np.nan  # 1 for one step; 0 or inf where one step is too much
    return float(np.exp(np.polyfit(k, np.log(share[k]), 1)[0]))


def _verdict(ratio: float) -> Verdict:
    if np.isnan(ratio):
        return "no gradient"
    return "vanishing" if ratio <= VANISHING else "exploding" if ratio >= EXPLODING else "stable"
