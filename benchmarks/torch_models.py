"""PyTorch's twin of a model of rnnfast, and its training: what tasks.py times beside `rnnfast.fit`.

`twin` builds the module with the weights that a Network or an EncoderDecoder has, dropout in the same places; `train`
is one pass over the same batches with the same loss, pieces, clipping, schedule and optimiser. Ragged sequences are
packed, PyTorch's way to stop at the end of each, or padded, where that is right and faster. Needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import rnnfast
import torch
from rnnfast.encoder_decoder import Attention, EncoderDecoder
from rnnfast.layers import Dense, Embedding, Recurrent
from rnnfast.network import Network
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

__all__ = ["Twin", "adam", "compare", "gap", "train", "twin"]

State = tuple[Tensor, ...]
Schedule = Callable[[float], float]
LOSSES = {"cross_entropy": nn.functional.cross_entropy, "squared_error": nn.functional.mse_loss}
NORMALIZERS = ("steps", "sequences", "sum", "both")


def gap(model: Any, data: Any, options: Mapping[str, Any]) -> str | None:
    """Why PyTorch cannot be trained as `rnnfast.fit` is with these arguments; None where it can."""
    recurrent = model.encoder if isinstance(model, EncoderDecoder) else model.recurrent
    if recurrent.cell not in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        return f"PyTorch has no layer for {recurrent.cell}"
    if options["loss"] not in LOSSES or options["normalizer"] not in NORMALIZERS:
        return "a loss of its own"
    if not isinstance(options["optimizer"], rnnfast.Adam):
        return "another optimiser than Adam"
    ragged = len(np.unique(data.lengths)) > 1
    if options["truncate"] and not model.per_step and ragged and data.lengths.max() > options["truncate"]:
        return "PyTorch has no state at the end of ragged sequences that are cut"
    if options["carry_state"] and ragged:
        return "PyTorch refuses to carry on from sequences that have ended"
    return None


def twin(model: Network | EncoderDecoder, *, packed: bool = True) -> Twin:
    """The module with the same weights. Ragged sequences are packed; if not `packed`, padded where that is right."""
    return TorchEncoderDecoder(model, packed) if isinstance(model, EncoderDecoder) else TorchNetwork(model, packed)


def adam(module: Twin, optimizer: rnnfast.Adam) -> torch.optim.Optimizer:
    """The same optimiser, fused: PyTorch's fastest."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    kind = torch.optim.AdamW if optimizer.weight_decay else torch.optim.Adam
    return kind(
        parameters,
        lr=optimizer.learning_rate,
        betas=(optimizer.beta1, optimizer.beta2),
        eps=optimizer.epsilon,
        weight_decay=optimizer.weight_decay,
        fused=True,
    )


def train(
    module: Twin,
    optimizer: torch.optim.Optimizer,
    data: Any,
    options: Mapping[str, Any],
    rng: np.random.Generator,
    schedule: Schedule,
    most: float = np.inf,
) -> float:
    """One pass, as `rnnfast.fit` makes it with `max_epochs=1` and these arguments; the mean loss of its updates.

    `schedule`, a function of the part of the pass that is done, multiplies ``options["optimizer"].learning_rate``.
    After `most` updates it stops.
    """
    module.train()
    rate, truncate = options["optimizer"].learning_rate, options["truncate"]
    shuffle = rng if options["shuffle"] else None
    order = list(rnnfast.batches(data.lengths, options["batch_size"], shuffle=shuffle, bucket=options["bucket"]))
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    updates = sum(_count(data.lengths[rows], truncate, module.per_step) for rows in order)
    total, done, state = torch.zeros(()), 0, None
    for rows in order:
        state = state if options["carry_state"] else None
        for x, y, lengths, before in _pieces(*_tensors(data.batch(rows)), truncate, module.per_step):
            if done >= most:
                return float(total) / max(done, 1)
            if before is not None:  # many to one: up to the last steps, without gradients
                state = module.walk(*before, state)
            for group in optimizer.param_groups:
                group["lr"] = rate * schedule(done / updates)
            optimizer.zero_grad()
            outputs, state = module(x, lengths, state)
            loss = _loss(module, outputs, y, lengths, options)
            loss.backward()
            if options["clip_value"] is not None:
                nn.utils.clip_grad_value_(parameters, options["clip_value"])
            if options["clip_norm"] is not None:
                nn.utils.clip_grad_norm_(parameters, options["clip_norm"])
            optimizer.step()
            total += loss.detach()
            done += 1
            state = None if state is None else tuple(s.detach() for s in state)
    return float(total) / max(done, 1)


def compare(model: Any, module: Twin, data: Any, rows: Any, tolerance: float = 1e-5) -> float:
    """The largest difference between both outputs for these rows; AssertionError where it is over the tolerance."""
    x, _, lengths = data.batch(rows)
    ours = torch.from_numpy(model.forward(x, lengths=lengths))
    xs, _, n = _tensors((x, np.zeros(0), lengths))
    module.eval()
    with torch.no_grad():
        theirs = module(xs, n)[0]
        difference = float((theirs - (module.steps(ours, n) if module.per_step else ours)).abs().max())
    if not difference <= tolerance:
        raise AssertionError(f"outputs differ by {difference}, more than {tolerance}")
    return difference


class Twin(nn.Module):  # type: ignore[misc]
    """What both twins share.

    `forward` (x, lengths, state) returns logits or predictions and the state: those of valid steps alone, (M, K), where
    there are outputs for each step; `steps` brings targets into that form.
    """

    per_step: bool
    way: str  # what becomes of ragged sequences

    def __init__(self, model: Any, packed: bool) -> None:
        super().__init__()
        self.packed, self.per_step = packed, model.per_step
        self.initial_state_std = model.initial_state_std
        self.dropout = nn.Dropout(model.dropout)

    def steps(self, array: Tensor, lengths: Tensor) -> Tensor:
        """(M, ...) of (N, T, ...): the valid steps, in the order of `forward`."""
        if self.packed and _packs(lengths, array.shape[1]):
            return _pack(array, lengths).data
        if _ragged(lengths, array.shape[1]):
            return array[torch.arange(array.shape[1]) < lengths[:, None]]
        return array.flatten(0, 1)

    def run(
        self, layer: nn.RNNBase, x: Tensor, lengths: Tensor, state: State | None, *, packed: bool
    ) -> tuple[Any, State]:
        """Outputs, (N, T, ...) or packed, and final state of recurrent layers."""
        if state is None and self.training and self.initial_state_std:
            shape = (layer.num_layers * (1 + layer.bidirectional), len(x), layer.hidden_size)
            count = 2 if isinstance(layer, nn.LSTM) else 1
            state = tuple(torch.randn(shape, dtype=x.dtype) * self.initial_state_std for _ in range(count))
        given: Any = state if state is None or isinstance(layer, nn.LSTM) else state[0]
        h, final = layer(_pack(x, lengths) if packed and _packs(lengths, x.shape[1]) else x, given)
        return h, final if isinstance(final, tuple) else (final,)

    def walk(self, x: Any, lengths: Tensor, state: State | None) -> State:
        """The state behind x."""
        self.eval()
        with torch.no_grad():
            _, state = self(x, lengths, state)
        self.train()
        return state


class TorchNetwork(Twin):
    """(Embedding) → recurrent layers → Linear."""

    def __init__(self, network: Network, packed: bool) -> None:
        super().__init__(network, packed or network.bidirectional)
        self.way = "packed sequences" if self.packed else "padded sequences"
        self.embeddings = nn.ModuleList(_embedding(e) for e in network.embeddings)
        self.several, self.input_size = network.several, network.recurrent.input_size
        self.recurrent = _recurrent(network.recurrent)
        self.states = network.recurrent.states
        self.condition = None if network.condition is None else _linear(network.condition)
        self.dense = _linear(network.dense)

    def forward(self, x: Any, lengths: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        if self.condition is not None:
            x, about = x
            if state is None:  # (N, states * layers * directions * H)
                parts = self.condition(about.to(self.dense.weight.dtype)).unflatten(
                    1, (self.states, -1, self.recurrent.hidden_size)
                )
                state = tuple(s.transpose(0, 1).contiguous() for s in parts.unbind(1))
        h, state = self.run(self.recurrent, self._embed(x), lengths, state, packed=self.packed)
        if not self.per_step:
            h = self._last(h, lengths, state)
        elif isinstance(h, PackedSequence):
            h = h.data
        else:
            h = self.steps(h, lengths)
        return self.dense(self.dropout(h)), state

    def _embed(self, x: Tensor) -> Tensor:
        if self.several:
            return self.dropout(torch.cat([e(x[:, :, k]) for k, e in enumerate(self.embeddings)], dim=2))
        if len(self.embeddings):
            return self.dropout(self.embeddings[0](x))
        if not x.is_floating_point():
            return nn.functional.one_hot(x, self.input_size).to(self.dense.weight.dtype)
        return x

    def _last(self, h: Any, lengths: Tensor, state: State) -> Tensor:
        """(N, directions * H): the top layer at the end of each sequence."""
        if isinstance(h, PackedSequence) or not _ragged(lengths, h.shape[1]):
            return torch.cat(list(state[0][-(1 + self.recurrent.bidirectional) :]), dim=1)
        return h[torch.arange(len(h)), lengths - 1]


class TorchEncoderDecoder(Twin):
    """(Embedding) → encoder → bridge → decoder → (attention) → Linear."""

    def __init__(self, model: EncoderDecoder, packed: bool) -> None:
        super().__init__(model, packed)
        self.way = "packed sources and targets" if packed else "packed sources, padded targets"
        self.source_embedding = None if model.source_embedding is None else _embedding(model.source_embedding)
        self.target_embedding = None if model.target_embedding is None else _embedding(model.target_embedding)
        self.source_size, self.target_size = model.encoder.input_size, model.decoder.input_size
        self.encoder, self.decoder = _recurrent(model.encoder), _recurrent(model.decoder)
        self.bridge = nn.ModuleList(nn.ModuleList(_linear(dense) for dense in row) for row in model.bridge)
        self.attention = None if model.attention is None else TorchAttention(model.attention)
        self.dense = _linear(model.dense)

    def forward(self, x: tuple[Tensor, ...], lengths: Tensor, state: None = None) -> tuple[Tensor, None]:
        source, source_lengths, target = x
        steps = source.shape[1]
        read = self._embed(self.source_embedding, source, self.source_size)
        memory, final = self.run(self.encoder, read, source_lengths, None, packed=True)
        first = []
        for s, bridge in zip(final, self.bridge, strict=True):  # (layers * directions, N, H)
            ends = s.unflatten(0, (self.encoder.num_layers, -1)).transpose(1, 2).flatten(2)
            first.append(torch.stack([dense(e) for dense, e in zip(bridge, ends, strict=True)]))
        y = self._embed(self.target_embedding, target, self.target_size)
        h, _ = self.run(self.decoder, y, lengths, tuple(first), packed=self.packed)
        if self.attention is None:
            h = h.data if isinstance(h, PackedSequence) else self.steps(h, lengths)
        else:
            memory, h = _padded(memory, steps), _padded(h, target.shape[1])
            padding = torch.arange(steps) >= source_lengths[:, None] if _ragged(source_lengths, steps) else None
            h = self.steps(self.attention(h, memory, padding), lengths)
        return self.dense(self.dropout(h)), None

    def _embed(self, embedding: nn.Embedding | None, x: Tensor, size: int) -> Tensor:
        if embedding is not None:
            return self.dropout(embedding(x))
        return x if x.is_floating_point() else nn.functional.one_hot(x, size).to(self.dense.weight.dtype)


class TorchAttention(nn.Module):  # type: ignore[misc]
    """Global attention with the "general" score, by PyTorch's fused product; see encoder_decoder.Attention."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        p = attention.parameters
        self.memory = _linear_of(p["Wm"], None)
        self.state = _linear_of(p["Wh"], p["b"])

    def forward(self, h: Tensor, memory: Tensor, padding: Tensor | None) -> Tensor:
        """h~ (N, T, H) of h (N, T, H), memory (N, S, M) and where it is padded, (N, S)."""
        keys, values = self.memory(memory).chunk(2, dim=2)
        mask = None if padding is None else ~padding[:, None, None]
        one_head = (a[:, None] for a in (h, keys, values))
        context = nn.functional.scaled_dot_product_attention(*one_head, attn_mask=mask, scale=1.0)
        return torch.tanh(context[:, 0] + self.state(h))


def _recurrent(layer: Recurrent) -> nn.RNNBase:
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}.get(layer.cell, nn.RNN)
    options = {"nonlinearity": layer.cell.removeprefix("rnn_")} if kind is nn.RNN else {}
    module = kind(
        layer.input_size,
        layer.hidden_size,
        layer.num_layers,
        batch_first=True,
        bidirectional=layer.bidirectional,
        dropout=layer.dropout if layer.num_layers > 1 else 0.0,
        dtype=_dtype(layer.dtype),
        **options,
    )
    with torch.no_grad():
        for name in [key.removeprefix("Wx_") for key in layer.parameters if key.startswith("Wx_")]:
            Wx, Wh, b = (torch.from_numpy(layer.parameters[f"{key}_{name}"]) for key in ("Wx", "Wh", "b"))
            width = Wx.shape[1]
            getattr(module, f"weight_ih_{name}").copy_(Wx.T)
            getattr(module, f"weight_hh_{name}").copy_(Wh.T)
            getattr(module, f"bias_ih_{name}").copy_(b[:width])
            second = getattr(module, f"bias_hh_{name}")
            second.zero_()
            if layer.cell == "gru":  # the recurrent side's bias of n is one of its own
                second[-layer.hidden_size :] = b[width:]
            else:
                second.requires_grad_(False)  # else the sum of the two biases would take two steps
    return module


def _embedding(layer: Embedding) -> nn.Embedding:
    return nn.Embedding.from_pretrained(torch.tensor(layer.parameters["E"]), freeze=False)


def _linear(layer: Dense) -> nn.Linear:
    return _linear_of(layer.parameters["W"], layer.parameters["b"])


def _linear_of(W: Any, b: Any) -> nn.Linear:
    module = nn.Linear(*W.shape, bias=b is not None, dtype=_dtype(W.dtype))
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(W).T)
        if b is not None:
            module.bias.copy_(torch.from_numpy(b))
    return module


def _dtype(dtype: np.dtype[Any]) -> torch.dtype:
    return torch.float64 if dtype == np.float64 else torch.float32


def _ragged(lengths: Tensor, steps: int) -> bool:
    return int(lengths.min()) < steps


def _packs(lengths: Tensor, steps: int) -> bool:
    """Whether sequences of these lengths are worth packing, and may be."""
    return 0 < int(lengths.min()) < steps


def _pack(x: Tensor, lengths: Tensor) -> PackedSequence:
    return pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)


def _padded(h: Any, steps: int) -> Tensor:
    if isinstance(h, PackedSequence):
        return pad_packed_sequence(h, batch_first=True, total_length=steps)[0]
    return h


def _tensors(batch: tuple[Any, ...]) -> tuple[Any, Tensor, Tensor]:
    x, y, lengths = batch
    tensors = tuple(map(torch.from_numpy, x)) if isinstance(x, tuple) else torch.from_numpy(x)
    return tensors, torch.from_numpy(y), torch.from_numpy(lengths)


def _count(lengths: Any, truncate: int | None, per_step: bool) -> int:
    """Updates for a batch."""
    return 1 if truncate is None or not per_step else max(1, -(-int(lengths.max()) // truncate))


def _pieces(
    x: Any, y: Tensor, lengths: Tensor, truncate: int | None, per_step: bool
) -> Iterator[tuple[Any, Tensor, Tensor, tuple[Any, Tensor] | None]]:
    """(x, y, lengths) for each update, and what is read before it without gradients."""
    steps = int(lengths.max())
    if truncate is None or steps <= truncate:
        yield x, y, lengths, None
        return
    ids, *condition = x if isinstance(x, tuple) else (x,)

    def cut(start: int, stop: int) -> Any:
        part = ids[:, start:stop]
        return (part, *condition) if condition else part

    if not per_step:
        early = steps - truncate  # of sequences that are all as long
        yield cut(early, steps), y, lengths - early, (cut(0, early), lengths - truncate)
        return
    for start in range(0, steps, truncate):
        stop = min(start + truncate, steps)
        yield cut(start, stop), y[:, start:stop], (lengths - start).clamp(0, truncate), None


def _loss(module: Twin, outputs: Tensor, y: Tensor, lengths: Tensor, options: Mapping[str, Any]) -> Tensor:
    """The loss that `rnnfast.fit` divides by `normalizer`."""
    function, normalizer, N = LOSSES[options["loss"]], options["normalizer"], len(y)
    if module.per_step:
        y = module.steps(y, lengths)
    if normalizer == "steps" or (normalizer != "sum" and not module.per_step):
        return function(outputs, y)
    if normalizer != "both":
        return function(outputs, y) * (len(y) / (1 if normalizer == "sum" else N))
    each = function(outputs, y, reduction="none")
    own = module.steps(lengths[:, None].expand(-1, int(lengths.max())), lengths)  # of the sequence of each step
    return ((each if each.ndim == 1 else each.mean(dim=1)) / own).sum() / int((lengths > 0).sum())
