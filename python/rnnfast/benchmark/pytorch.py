"""PyTorch as a contender: torch.nn's layers with autograd, packed or padded, and the step of a whole model.

Called by peers.py. It imports PyTorch only when it is asked for.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from .contender import STREAM_STEPS, Answers, Array, Contender, Prepared, Problem, dx_wanted, key
from .grid import BLOCKS, Row
from .own import CLIP, EPSILON, LEARNING_RATE, model_network

__all__ = ["Torch", "TorchPadded"]


class Torch(Contender):
    """torch.nn.LSTM, GRU and RNN with autograd, batch first; packed sequences for ragged lengths."""

    name, package = "torch", "torch"
    packed: ClassVar[bool] = True

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import torch

        torch.set_num_threads(threads)
        self.torch = torch
        self._taken: dict[tuple[Any, ...], str] = {}

    def gap(self, row: Row, mode: str) -> str | None:
        return None

    def _module(self, problem: Problem) -> Any:
        torch, row = self.torch, problem.row
        kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[row.cell]
        dtype = torch.float64 if row.float64 else torch.float32
        module = kind(
            row.inputs[0],
            row.H,
            num_layers=row.layers,
            batch_first=True,
            bidirectional=row.bidirectional,
            dtype=dtype,
        )
        width = BLOCKS[row.cell] * row.H
        with torch.no_grad():
            for layer, each in enumerate(problem.weights):
                for direction, w in enumerate(each):
                    suffix = key("", layer, direction).replace(" ", "_")
                    getattr(module, f"weight_ih{suffix}").copy_(torch.from_numpy(w.Wx.T.copy()))
                    getattr(module, f"weight_hh{suffix}").copy_(torch.from_numpy(w.Wh.T.copy()))
                    getattr(module, f"bias_ih{suffix}").copy_(torch.from_numpy(w.b[:width].copy()))
                    second = getattr(module, f"bias_hh{suffix}")
                    second.zero_()
                    if row.cell == "gru":  # the only one where the second bias differs from the first
                        second[2 * row.H :] = torch.from_numpy(w.b[width:].copy())
        return module

    def _gradients(self, module: Any, row: Row) -> Answers:
        found = {}
        for layer in range(row.layers):
            for direction in range(row.directions):
                suffix = key("", layer, direction).replace(" ", "_")

                def gradient(name: str, suffix: str = suffix) -> Array:
                    return np.array(getattr(module, name + suffix).grad.numpy())

                found[key("Wx", layer, direction)] = gradient("weight_ih").T
                found[key("Wh", layer, direction)] = gradient("weight_hh").T
                b = gradient("bias_ih")
                if row.cell == "gru":
                    b = np.concatenate([b, gradient("bias_hh")[2 * row.H :]])
                found[key("b", layer, direction)] = b
        return found

    def prepare(self, problem: Problem, mode: str) -> Prepared:
        torch, row = self.torch, problem.row
        if row.kind == "model":
            return self._model(problem)
        if row.kind == "stream":
            return self._stream(problem)
        module = self._module(problem).train(mode == "training")
        x, dh = torch.from_numpy(problem.dense.copy()), torch.from_numpy(problem.dh)
        if mode == "training" and dx_wanted(row):
            x.requires_grad_()
        lengths = None if problem.lengths is None else torch.from_numpy(problem.lengths)
        utilities = torch.nn.utils.rnn

        def forward() -> Any:
            if lengths is None or not self.packed:
                return module(x)[0]
            packed = utilities.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return utilities.pad_packed_sequence(module(packed)[0], batch_first=True, total_length=row.T)[0]

        def train() -> Any:
            module.zero_grad(set_to_none=True)
            x.grad = None
            h = forward()
            h.backward(dh)
            return h

        def infer() -> Any:
            with torch.inference_mode():
                return forward()

        def answers() -> Answers:
            h = np.array((train() if mode == "training" else infer()).detach().numpy())
            if problem.lengths is not None:
                h[np.arange(row.T) >= problem.lengths[:, None]] = 0
            found = {"h": h}
            if mode == "training":
                found |= self._gradients(module, row)
                if dx_wanted(row):
                    found["x"] = np.array(x.grad.numpy())
            return found

        return Prepared(train if mode == "training" else infer, answers)

    def _stream(self, problem: Problem) -> Prepared:
        torch, row = self.torch, problem.row
        kind = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell, "rnn": torch.nn.RNNCell}[row.cell]
        cell = kind(row.D, row.H)
        module = self._module(problem)
        with torch.no_grad():
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(cell, name).copy_(getattr(module, f"{name}_l0"))
        x = torch.from_numpy(problem.x)
        state: list[Any] = [None]

        def step(t: int = 0) -> Any:
            with torch.inference_mode():
                state[0] = cell(x[:, t], state[0])
                return state[0][0] if row.cell == "lstm" else state[0]

        def answers() -> Answers:
            state[0] = None
            return {"h": np.stack([np.array(step(t).numpy()) for t in range(STREAM_STEPS)], axis=1)}

        first = x[:, 0].clone()

        def call() -> Any:
            with torch.inference_mode():
                state[0] = cell(first, state[0])

        return Prepared(call, answers)

    def _model(self, problem: Problem) -> Prepared:
        """Embedding or one-hot words, the layers, Linear, cross-entropy, clipping, fused Adam."""
        torch, row = self.torch, problem.row
        network = model_network(problem, np.float32, 1)
        recurrent = self._module(problem)
        dense = torch.nn.Linear(row.H, row.D)
        parts = [recurrent, dense]
        with torch.no_grad():
            dense.weight.copy_(torch.from_numpy(network.dense.parameters["W"].T.copy()))
            dense.bias.copy_(torch.from_numpy(network.dense.parameters["b"].copy()))
        embedding = None
        if row.E:
            embedding = torch.nn.Embedding(row.D, row.E)
            with torch.no_grad():
                embedding.weight.copy_(torch.from_numpy(network.embedding.parameters["E"].copy()))
            parts.append(embedding)
        for name, parameter in recurrent.named_parameters():
            if name.startswith("bias_hh") and row.cell != "gru":
                parameter.requires_grad_(False)  # else the sum of the two biases would take two steps
        parameters = [p for part in parts for p in part.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE, eps=EPSILON, fused=True)
        ids, targets = torch.from_numpy(problem.x), torch.from_numpy(np.asarray(problem.targets)).reshape(-1)
        functional = torch.nn.functional

        def call() -> float:
            optimizer.zero_grad(set_to_none=True)
            x = functional.one_hot(ids, row.D).float() if embedding is None else embedding(ids)
            logits = dense(recurrent(x)[0])
            loss = functional.cross_entropy(logits.reshape(-1, row.D), targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            return float(loss.item())

        def answers() -> Answers:
            found = {"loss": np.array(call())}
            for layer in range(row.layers):
                name = f"l{layer}"
                for ours, theirs in (("Wx", "weight_ih"), ("Wh", "weight_hh"), ("b", "bias_ih")):
                    value = getattr(recurrent, f"{theirs}_{name}").detach().numpy()
                    found[f"recurrent.{ours}_{name}"] = np.array(value.T)
            found["dense.W"], found["dense.b"] = (np.array(p.detach().numpy().T) for p in dense.parameters())
            if embedding is not None:
                found["embedding.E"] = np.array(embedding.weight.detach().numpy())
            return found

        return Prepared(call, answers)

    def implementation(self, problem: Problem, mode: str, prepared: Prepared) -> str:
        row = problem.row
        like = (row.cell, row.kind, row.ragged, row.float64, row.bidirectional, row.layers, mode)
        if like not in self._taken:
            profiler = self.torch.profiler
            with profiler.profile(activities=[profiler.ProfilerActivity.CPU]) as profile:
                prepared.call()
            names = {str(event.key).removeprefix("aten::") for event in profile.key_averages()}
            onednn = sorted(name for name in names if "mkldnn_rnn" in name)
            chosen = onednn or sorted(names & {"lstm", "gru", "rnn_tanh", "lstm_cell", "gru_cell", "rnn_tanh_cell"})
            self._taken[like] = ("oneDNN: " if onednn else "one operation after the other: ") + ", ".join(chosen)
        return self._taken[like]


class TorchPadded(Torch):
    """The same without packing: right for one direction only, since padding stands behind what counts."""

    name = "torch-padded"
    packed: ClassVar[bool] = False

    def gap(self, row: Row, mode: str) -> str | None:
        return None if row.ragged and not row.bidirectional else "only ragged lengths in one direction"
