"""RNN, LSTM and GRU for PyTorch: the modules of torch.nn, computed by the core.

The core's passes are operators of PyTorch's (``torch.ops.rnnfast``), with gradients and shapes registered, so that
autograd and torch.compile work; arrays are those of the tensors, without a copy. Needs PyTorch:
``pip install "rnnfast[torch]"``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _core

try:
    import torch
    from torch import Tensor, nn
    from torch.autograd import forward_ad
    from torch.nn.utils.rnn import PackedSequence
except ImportError as error:
    raise ImportError('rnnfast.torch needs PyTorch: pip install "rnnfast[torch]"') from error

__all__ = ["GRU", "LSTM", "RNN"]

_CELLS = {"LSTM": "lstm", "GRU": "gru", "RNN_TANH": "rnn_tanh", "RNN_RELU": "rnn_relu"}
_PANELS = {(cell, double): _core.tape_panels(cell, double) for cell in _CELLS.values() for double in (False, True)}
_OF_TAPE = {torch.float32: torch.int32, torch.float64: torch.int64}  # integers: nothing is differentiated by a tape


def _tape_size(cell: str, rows: int, H: int, dtype: torch.dtype) -> int:
    W, panels = _PANELS[cell, dtype == torch.float64]
    return (H + W - 1) // W * panels * (rows // 2 * 2 + 1) * W


def _clear_unused(numbers: Any, cell: str, rows: int, H: int) -> None:
    """What no number of a tape stands in becomes 0, so that equal passes leave equal tapes."""
    W, panels = _PANELS[cell, numbers.dtype == np.float64]
    blocks = (H + W - 1) // W
    if not numbers.size:
        return
    tape = numbers.reshape(blocks * panels, -1, W)  # gates by block, then each state by block
    tape[:, rows:] = 0
    if used := H % W:
        gates = _core.cell_blocks(cell)[1] * blocks
        for part in (tape[gates // blocks * (blocks - 1) : gates], tape[gates + blocks - 1 :: blocks]):
            part[:, :, used:] = 0


def _array(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.detach().resolve_neg().numpy()


def _rows(array: Any, batch_sizes: Tensor | None, batch_first: bool) -> Any:
    """As the core takes them: (N, T, .), or packed."""
    return array if array is None or batch_first or batch_sizes is not None else array.swapaxes(0, 1)


def _lengths(batch_sizes: Tensor | None) -> Any:
    """Of the sequences of packed rows: as many steps as there are larger batches."""
    if batch_sizes is None:
        return None
    sizes = batch_sizes.numpy()
    return np.searchsorted(-sizes, -np.arange(sizes[0]))


def _weights(cell: str, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None, b_hh: Tensor | None) -> tuple[Any, Any, Any]:
    """Wx, Wh and b of the core: views of the weights, and one bias (for a GRU the last block is a second one of n)."""
    Wx, Wh, b_x, b_h = _array(w_ih).T, _array(w_hh).T, _array(b_ih), _array(b_hh)
    if b_x is None:
        return Wx, Wh, None
    if cell != "gru":
        return Wx, Wh, b_x + b_h
    n = 2 * Wh.shape[0]
    return Wx, Wh, np.concatenate([b_x[:n] + b_h[:n], b_x[n:], b_h[n:]])


def _threads(rows: int, w_ih: Tensor, w_hh: Tensor) -> int:
    """Between operations of others threads sleep: waking one takes as long as ten million flops."""
    flops: int = 2 * rows * (w_ih.numel() + w_hh.numel())
    most: int = torch.get_num_threads()
    return max(1, min(most, flops // 10_000_000))


# ---- the two passes of one layer in one direction


def forward_pass(
    x: Tensor,
    batch_sizes: Tensor | None,
    h0: Tensor,
    c0: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    cell: str,
    reverse: bool,
    batch_first: bool,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """h, h_n, c_n (empty but for an LSTM), and with `training` what the backward pass needs."""
    H = w_hh.shape[1]
    h = x.new_empty((*x.shape[:-1], H))
    rows = h.numel() // H
    tape = x.new_empty(_tape_size(cell, rows, H, x.dtype) if training else 0, dtype=_OF_TAPE[x.dtype])
    numbers = tape.view(x.dtype).numpy() if training else None
    state = (_array(h0),) if c0 is None else (_array(h0), _array(c0))
    _, final, _ = _core.forward(
        cell,
        _rows(_array(x), batch_sizes, batch_first),
        *_weights(cell, w_ih, w_hh, b_ih, b_hh),
        state,
        _lengths(batch_sizes),
        reverse,
        False,
        _threads(rows, w_ih, w_hh),
        None,
        _rows(h.numpy(), batch_sizes, batch_first),
        batch_sizes is not None,
        numbers,
    )
    if numbers is not None:
        _clear_unused(numbers, cell, rows, H)
    h_n, c_n = torch.from_numpy(final[0]), torch.from_numpy(final[1]) if c0 is not None else x.new_empty(0)
    return h, h_n, c_n, tape


def backward_pass(
    dh: Tensor | None,
    dh_n: Tensor | None,
    dc_n: Tensor | None,
    x: Tensor,
    batch_sizes: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    tape: Tensor,
    N: int,
    cell: str,
    reverse: bool,
    batch_first: bool,
    with_dx: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x (or empty), h0, c0, w_ih, w_hh, b_ih, b_hh (the last ones, and c0's, perhaps empty)."""
    packed, lengths = batch_sizes is not None, _lengths(batch_sizes)
    Wx, Wh, b = _weights(cell, w_ih, w_hh, b_ih, b_hh)
    kept = _core.kept_tape(
        cell, _rows(_array(x), batch_sizes, batch_first), Wx, Wh, b, lengths, reverse, packed,
        tape.view(x.dtype).numpy(),
    )  # fmt: skip
    dx = x.new_empty(x.shape if with_dx else 0)
    dw_ih, dw_hh = x.new_empty(w_ih.shape), x.new_empty(w_hh.shape)
    out = (dw_ih.numpy(), dw_hh.numpy(), None if b is None else np.empty_like(b))
    _, _, _, db, (dh0, *dc0) = _core.backward(
        kept,
        _rows(_array(dh), batch_sizes, batch_first),
        (_array(dh_n), _array(dc_n)) if cell == "lstm" else (_array(dh_n),),
        _threads(2 * (x.numel() // x.shape[-1]), w_ih, w_hh),
        with_dx,
        (*out, _rows(dx.numpy(), batch_sizes, batch_first)) if with_dx else out,
        True,
    )
    db_ih, db_hh = x.new_empty(0), x.new_empty(0)
    if db is not None:
        db_ih, n = torch.from_numpy(db[: len(w_ih)]), 2 * Wh.shape[0]
        db_hh = torch.from_numpy(np.concatenate([db[:n], db[n + Wh.shape[0] :]]) if cell == "gru" else db.copy())
    return (
        dx,
        torch.from_numpy(dh0),
        torch.from_numpy(dc0[0]) if dc0 else x.new_empty(0),
        dw_ih,
        dw_hh,
        db_ih,
        db_hh,
    )


# ---- for autograd, and, as operators, for the compiler: the same two passes


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, batch_sizes, h0, _c0, *weights, ctx.cell, ctx.reverse, ctx.batch_first, _training = inputs
    ctx.N = h0.shape[0]
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, batch_sizes, *weights, output[3])


def _gradients(backward: Any, ctx: Any, dh: Tensor | None, dh_n: Tensor | None, dc_n: Tensor | None) -> tuple[Any, ...]:
    """Of each argument of forward_pass, where it is needed."""
    need = ctx.needs_input_grad
    found = backward(
        dh, dh_n, dc_n, *ctx.saved_tensors, ctx.N, ctx.cell, ctx.reverse, ctx.batch_first, need[0]
    )  # fmt: skip
    dx, *others = (g if n else None for g, n in zip(found, (need[0], *need[2:8]), strict=True))
    return dx, None, *others, None, None, None, None


class _Recurrence(torch.autograd.Function):
    """Without the operator: its way through PyTorch's dispatcher costs more than the passes of a small layer."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Any:
        output = forward_pass(*arguments)
        _setup_context(ctx, arguments, output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        with torch.no_grad():
            found = _gradients(backward_pass, ctx, *gradients[:3])
        if not torch.is_grad_enabled():  # create_graph=True: the gradients depend on all that they were made of
            return found
        given = (*gradients[:3], *ctx.saved_tensors[:-1])
        return tuple(None if g is None else _NoSecond.apply(g, *given) for g in found)


class _NoSecond(torch.autograd.Function):
    """A gradient that must not be differentiated: without it, a second derivative would be 0 and nobody told."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *given: Tensor | None) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise RuntimeError("rnnfast.torch: a second derivative is not there; torch.nn's modules have one")


_operator = torch.library.custom_op("rnnfast::recurrence", forward_pass, mutates_args=(), device_types="cpu")
_backward_operator = torch.library.custom_op(
    "rnnfast::recurrence_backward", backward_pass, mutates_args=(), device_types="cpu"
)
_operator.register_autograd(
    lambda ctx, *gradients: _gradients(_backward_operator, ctx, *gradients[:3]), setup_context=_setup_context
)


@_operator.register_fake
def _(
    x: Any, batch_sizes: Any, h0: Any, c0: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any,
    cell: Any, reverse: Any, batch_first: Any, training: Any,
) -> Any:  # fmt: skip
    H, rows = w_hh.shape[1], x.shape[0] if x.dim() == 2 else x.shape[0] * x.shape[1]
    tape = x.new_empty(_tape_size(cell, rows, H, x.dtype) if training else 0, dtype=_OF_TAPE[x.dtype])
    c_n = x.new_empty(0 if c0 is None else c0.shape)
    return x.new_empty((*x.shape[:-1], H)), x.new_empty(h0.shape), c_n, tape


@_backward_operator.register_fake
def _(
    dh: Any, dh_n: Any, dc_n: Any, x: Any, batch_sizes: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, tape: Any,
    N: Any, cell: Any, reverse: Any, batch_first: Any, with_dx: Any,
) -> Any:  # fmt: skip
    state = (N, w_hh.shape[1])
    of_bias = [x.new_empty(0 if b is None else b.shape) for b in (b_ih, b_hh)]
    dx, dc0 = x.new_empty(x.shape if with_dx else 0), x.new_empty(state if cell == "lstm" else 0)
    return dx, x.new_empty(state), dc0, w_ih.new_empty(w_ih.shape), w_hh.new_empty(w_hh.shape), *of_bias


def _pass(training: bool, x: Tensor) -> Any:
    """The operator wherever somebody looks at operations: the compiler, a tracer, a mode, a kind of tensor."""
    if (
        torch.compiler.is_compiling()
        or type(x) not in (Tensor, nn.Parameter)
        or torch.jit.is_tracing()
        or torch._C._len_torch_dispatch_stack()
    ):
        return _operator
    return _Recurrence.apply if training or forward_ad._current_level >= 0 else forward_pass


# ---- the modules


class _Recurrent(nn.RNNBase):
    """What the modules share: they are those of torch.nn, but for the pass itself.

    Not of their classes: torch.compile does not look into an instance of torch.nn.LSTM.
    """

    _mode = ""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if proj_size:
            raise ValueError(f"proj_size: expected 0, got {proj_size}: projections are not there")
        options = {"device": device, "dtype": dtype}
        super().__init__(
            self._mode, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, **options
        )

    def _check(
        self,
        x: Tensor,
        weights: list[Tensor],
        states: tuple[Tensor, ...],
        batch_sizes: Tensor | None,
        own_states: bool,
    ) -> None:
        name = f"rnnfast.torch.{type(self).__name__}"
        arrays = [("input", x), *((f"hx[{k}]" if len(states) > 1 else "hx", s) for k, s in enumerate(states))]
        for what, tensor in (*arrays, *zip(self._flat_weights_names, weights, strict=True)):
            if not tensor.is_cpu:
                raise RuntimeError(f"{name}: expected {what} on the CPU, got {tensor.device}; torch.nn has others")
            if tensor.dtype not in _OF_TAPE or tensor.dtype != x.dtype:
                expected = "float32 or float64" if tensor is x else f"{x.dtype}, as the input"
                raise TypeError(f"{name}: expected {what} of {expected}, got {tensor.dtype}")
        self.check_input(x, batch_sizes)
        if not own_states:
            expected_size = self.get_expected_hidden_size(x, batch_sizes)
            for (what, _), state in zip(arrays[1:], states, strict=True):
                words = f"Expected {what.replace('hx', 'hidden')} size {{}}, got {{}}"  # torch.nn's
                self.check_hidden_size(state, expected_size, words)

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """As torch.nn's: (output, h_n), for LSTM (output, (h_n, c_n))."""
        packed = isinstance(input, PackedSequence)
        x, batch_sizes, sorted_indices, unsorted_indices = input if packed else (input, None, None, None)
        if not isinstance(x, Tensor):
            raise TypeError(f"input: expected a tensor or a PackedSequence, got {type(x).__name__}")
        if not packed and x.dim() not in (2, 3):
            raise ValueError(f"input: expected 2 or 3 dimensions, got {x.dim()}")
        states = 2 if self.mode == "LSTM" else 1
        if states == 2 and hx is not None and (not isinstance(hx, tuple | list) or len(hx) != 2):
            got = f"{len(hx)} of them" if isinstance(hx, tuple | list) else type(hx).__name__
            raise TypeError(f"hx: expected a pair (h_0, c_0), got {got}")
        flat = [getattr(self, weight) for weight in self._flat_weights_names]  # as they are now: see functional_call
        time = 1 if self.batch_first else 0
        given = None if hx is None else tuple(hx) if states == 2 else (hx,)
        for k, s in enumerate(given or ()):
            if not isinstance(s, Tensor):
                raise TypeError(f"hx[{k}]: expected a tensor, got {type(s).__name__}")
        alone = not packed and x.dim() == 2  # one sequence without a batch
        for k, s in enumerate(given or ()):
            if s.dim() != (2 if alone else 3):
                name = f"hx[{k}]" if states == 2 else "hx"
                of = "one sequence without a batch" if alone else "this input"
                raise RuntimeError(f"{name}: expected {2 if alone else 3} dimensions for {of}, got {s.dim()}")
        if torch.is_autocast_enabled("cpu"):  # as the weights are: nothing is computed in bfloat16 here
            x = x.to(flat[0].dtype) if x.is_floating_point() else x
            given = None if given is None else tuple(s.to(flat[0].dtype) for s in given)
        if alone:
            x = x.unsqueeze(1 - time)
            given = None if given is None else tuple(s.unsqueeze(1) for s in given)
        directions = 2 if self.bidirectional else 1
        own_states = given is None
        if given is None:
            N = x.shape[1 - time] if batch_sizes is None else int(batch_sizes[0])
            given = (x.new_zeros(self.num_layers * directions, N, self.hidden_size),) * states
        elif sorted_indices is not None:
            given = tuple(s.index_select(1, sorted_indices) for s in given)
        self._check(x, flat, given, batch_sizes, own_states)
        training = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *given, *flat))
        per = 4 if self.bias else 2
        recurrence = _pass(training, x)
        finals: list[list[Tensor]] = [[], []]
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(directions):
                index = layer * directions + direction
                weights = (*flat[index * per : (index + 1) * per], None, None)[:4]
                h0, c0 = (*(s[index] for s in given), None)[:2]
                h, *final, _ = recurrence(
                    x, batch_sizes, h0, c0, *weights, _CELLS[self.mode], direction == 1, self.batch_first, training
                )
                outputs.append(h)
                for of_state, s in zip(finals, final, strict=True):
                    of_state.append(s)
            x = torch.cat(outputs, -1) if directions == 2 else outputs[0]
            if self.dropout and layer < self.num_layers - 1:
                x = nn.functional.dropout(x, self.dropout, self.training)
        state = [torch.stack(s) for s in finals[:states]]
        if unsorted_indices is not None:
            state = [s.index_select(1, unsorted_indices) for s in state]
        if alone:
            x, state = x.squeeze(1 - time), [s.squeeze(1) for s in state]
        output = PackedSequence(x, batch_sizes, sorted_indices, unsorted_indices) if packed else x
        return output, tuple(state) if states == 2 else state[0]


_DOC = """{title}

    In place of torch.nn.{name}: the same arguments, parameters, state dict, inputs (dense, PackedSequence, or one
    sequence without a batch) and outputs{but}. CPU, float32 and float64. The forward pass leaves {panels} × hidden_size
    numbers a step for the backward pass, which may be taken as often as wanted; a second derivative, and the transforms
    of torch.func, are not there. The number of threads is torch.get_num_threads(), and less for small layers.

    Parameters
    ----------
    input_size, hidden_size, num_layers, {extra}bias, batch_first, dropout, bidirectional, device, dtype
        As of torch.nn.{name}.

    Raises
    ------
    RuntimeError, TypeError
        Tensors of another device or dtype; a size other than the module's, in PyTorch's words.

    References
    ----------
    {source}

    Examples
    --------
    >>> import torch, rnnfast.torch
    >>> theirs, ours = torch.nn.{name}(3, 4, num_layers=2), rnnfast.torch.{name}(3, 4, num_layers=2)
    >>> ours.load_state_dict(theirs.state_dict())
    <All keys matched successfully>
    >>> x = torch.randn(5, 2, 3)
    >>> bool(torch.allclose(ours(x)[0], theirs(x)[0], atol=1e-6))
    True
    """


class RNN(_Recurrent):
    __doc__ = _DOC.format(
        title="Elman network: h' = φ(W_ih x + b_ih + W_hh h + b_hh), φ = tanh or relu.",
        name="RNN",
        but="",
        panels=2,
        extra="nonlinearity, ",
        source="Elman (1990), Finding structure in time.",
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        *args: Any,
        **kwargs: Any,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity, self._mode = nonlinearity, f"RNN_{nonlinearity.upper()}"
        super().__init__(input_size, hidden_size, num_layers, *args, **kwargs)


class LSTM(_Recurrent):
    __doc__ = _DOC.format(
        title="Long short-term memory: i, f, o = σ(·), g = tanh(·), c' = f⊙c + i⊙g, h' = o⊙tanh(c').",
        name="LSTM",
        but="; proj_size is not there",
        panels=6,
        extra="",
        source="Hochreiter and Schmidhuber (1997), Long short-term memory.",
    )
    _mode = "LSTM"


class GRU(_Recurrent):
    __doc__ = _DOC.format(
        title="Gated recurrent unit: r, z = σ(·), n = tanh(W_in x + b_in + r⊙(W_hn h + b_hn)), h' = (1−z)⊙n + z⊙h.",
        name="GRU",
        but="",
        panels=5,
        extra="",
        source="Cho et al. (2014), Learning phrase representations using RNN encoder-decoder.",
    )
    _mode = "GRU"
