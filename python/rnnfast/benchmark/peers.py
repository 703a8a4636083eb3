"""The contenders: rnnfast, its NumPy reference, and one small adapter for each peer that may be installed.

An adapter turns a problem into a call to be timed, and into answers in rnnfast's layout to be compared before that.
Called by measure.py and benchmarks/test_grid.py. It must not know of clocks, rounds or reports, and imports a peer only
when that peer is asked for.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

import rnnfast

from .contender import (
    STREAM_STEPS,
    Answers,
    Array,
    Contender,
    Prepared,
    Problem,
    Weights,
    compare,
    dx_wanted,
    key,
    make_problem,
)
from .grid import BLOCKS, CELLS, Row, flops
from .onednn import Onednn

__all__ = [
    "CONTENDERS",
    "Contender",
    "Prepared",
    "Problem",
    "Weights",
    "compare",
    "make_problem",
    "model_network",
    "reference_answers",
]

LEARNING_RATE, EPSILON, CLIP = 1e-3, 1e-5, 5.0  # of a model's step; Adam's epsilon of 1e-8 would amplify rounding


def reference_answers(problem: Problem, mode: str) -> Answers:
    """What every contender must find, in float64 from the NumPy reference; a model's from rnnfast in float64."""
    if problem.row.kind == "model":
        return Rnnfast(1).model(problem, np.float64).answers()
    return Reference(1).prepare(problem.astype(np.float64), mode).answers()


class Reference(Contender):
    """rnnfast.reference: every layer and direction one after the other."""

    name, package = "numpy", "numpy"
    module: Any = rnnfast.reference
    forward_options: ClassVar[dict[str, Any]] = {}
    backward_options: ClassVar[dict[str, Any]] = {}

    def gap(self, row: Row, mode: str) -> str | None:
        if row.kind == "layer" and flops(row, mode, np.full(row.N, row.T)) > 5e9:
            return "timed on rows of at most 5 Gflop: it is the oracle, not a peer"
        return super().gap(row, mode)

    def _forward(self, problem: Problem, keep: bool) -> tuple[Array, list[list[Any]]]:
        row, h, tapes = problem.row, problem.x, []
        for layer in problem.weights:
            outputs = [
                self.module.forward(
                    CELLS[row.cell],
                    h,
                    *w,
                    lengths=problem.lengths,
                    reverse=d == 1,
                    keep_tape=keep,
                    num_threads=self.threads,
                    **(self.forward_options if keep else {}),
                )
                for d, w in enumerate(layer)
            ]
            h = outputs[0].h if len(outputs) == 1 else np.concatenate([o.h for o in outputs], axis=2)
            tapes.append([o.tape for o in outputs])
        return h, tapes

    def _train(self, problem: Problem) -> tuple[Array, Answers]:
        row, H = problem.row, problem.row.H
        h, tapes = self._forward(problem, True)
        d: Any = problem.dh
        gradients: Answers = {}
        for layer in reversed(range(row.layers)):
            below: Any = None
            for direction, tape in enumerate(tapes[layer]):
                part = d if row.directions == 1 else d[:, :, direction * H : (direction + 1) * H]
                options = {} if layer or row.dx else self.backward_options
                g = self.module.backward(tape, part, num_threads=self.threads, **options)
                for name in ("Wx", "Wh", "b"):
                    gradients[key(name, layer, direction)] = getattr(g, name)
                if g.x is not None:
                    below = g.x if below is None else below + g.x
            d = below
        if dx_wanted(row):
            gradients["x"] = d
        return h, gradients

    def prepare(self, problem: Problem, mode: str) -> Prepared:
        if problem.row.kind == "stream":
            return self._stream(problem)
        if mode == "training":

            def answers() -> Answers:
                h, gradients = self._train(problem)
                return {"h": h, **gradients}

            return Prepared(lambda: self._train(problem), answers)
        return Prepared(lambda: self._forward(problem, False), lambda: {"h": self._forward(problem, False)[0]})

    def _stream(self, problem: Problem) -> Prepared:
        ((w,),), x = problem.weights, problem.x
        state: list[Any] = [None]

        def step(t: int = 0) -> Array:
            out = self.module.forward(CELLS[problem.row.cell], x[:, t : t + 1], *w, state[0], keep_tape=False)
            state[0] = out.state
            return np.asarray(out.h[:, 0])

        def answers() -> Answers:
            state[0] = None
            return {"h": np.stack([step(t) for t in range(STREAM_STEPS)], axis=1)}

        return Prepared(step, answers)

    def implementation(self, problem: Problem, mode: str, prepared: Prepared) -> str:
        return "NumPy's BLAS and functions, step by step"


class Rnnfast(Reference):
    """The functions; for several layers or directions the layer classes, for streams rnnfast.Stream."""

    name, package = "rnnfast", "rnnfast"
    module: Any = rnnfast
    backward_options: ClassVar[dict[str, Any]] = {"dx": False}  # where it is not asked for

    def gap(self, row: Row, mode: str) -> str | None:
        return None

    def prepare(self, problem: Problem, mode: str) -> Prepared:
        row = problem.row
        if row.kind == "model":
            return self.model(problem, problem.dh.dtype)
        if row.kind == "layer" and (row.layers > 1 or row.bidirectional):
            return self._layers(problem, mode)
        return super().prepare(problem, mode)

    def _layers(self, problem: Problem, mode: str) -> Prepared:
        row = problem.row
        kind = {"rnn": rnnfast.RNN, "lstm": rnnfast.LSTM, "gru": rnnfast.GRU}[row.cell]
        layer: Any = kind(
            row.D,
            row.H,
            row.layers,
            row.bidirectional,
            dtype=problem.dh.dtype,
            num_threads=self.threads,
        )
        self._load(layer, problem.weights)
        training = mode == "training"

        def call() -> Any:
            h, _ = layer.forward(problem.x, lengths=problem.lengths, training=training)
            return h, layer.backward(problem.dh)[0] if training else None

        def answers() -> Answers:
            h, dx = call()
            found = {"h": h}
            if training:
                found |= {name.replace("_", " ", 1): g.copy() for name, g in layer.gradients.items()}
                if dx_wanted(row):
                    found["x"] = dx
            return found

        return Prepared(call, answers)

    @staticmethod
    def _load(layer: Any, weights: list[list[Weights]]) -> None:
        for i, each in enumerate(weights):
            for direction, w in enumerate(each):
                for name, value in w._asdict().items():
                    layer.parameters[key(name, i, direction).replace(" ", "_", 1)][...] = value

    def _stream(self, problem: Problem) -> Prepared:
        ((w,),), x = problem.weights, problem.x
        stream = rnnfast.Stream(CELLS[problem.row.cell], *w, batch_size=problem.row.N)
        first = np.ascontiguousarray(x[:, 0])

        def answers() -> Answers:
            stream.reset()
            return {"h": np.stack([stream.step(x[:, t]) for t in range(STREAM_STEPS)], axis=1)}

        return Prepared(lambda: stream.step(first), answers)

    def model(self, problem: Problem, dtype: Any) -> Prepared:
        """A training step of a Network: the reference of the others when `dtype` is float64."""
        row, targets = problem.row, problem.targets
        assert targets is not None
        network = model_network(problem, dtype, self.threads)
        optimizer = rnnfast.Adam(LEARNING_RATE, epsilon=EPSILON)

        def call() -> float:
            loss, d = rnnfast.softmax_cross_entropy(network.forward(problem.x, training=True), targets)
            network.backward(d)
            rnnfast.clip_by_global_norm(network.gradient_vector, CLIP)
            optimizer.step(network.vector, network.gradient_vector)
            return loss

        def answers() -> Answers:
            loss = call()
            return {"loss": np.array(loss)} | {name: p.copy() for name, p in network.named_parameters().items()}

        assert row.kind == "model"
        return Prepared(call, answers)

    def implementation(self, problem: Problem, mode: str, prepared: Prepared) -> str:
        chosen = next(isa["name"] for isa in rnnfast._core.instruction_sets() if isa["chosen"])
        return f"kernels for {chosen}"


class RnnfastRecompute(Rnnfast):
    """forward(..., recompute=64), which trades time for memory, on long sequences."""

    name = "rnnfast-recompute"
    forward_options: ClassVar[dict[str, Any]] = {"recompute": 64}

    def gap(self, row: Row, mode: str) -> str | None:
        plain = row.kind == "layer" and row.layers == row.directions == 1 and mode == "training"
        return None if plain and row.T >= 500 else "only training of one layer over 500 steps or more"


class RnnfastPacked(Rnnfast):
    """rnnfast.PackedWeights: inference with weights that are packed once, as sessions of others may do."""

    name = "rnnfast-packed"

    def gap(self, row: Row, mode: str) -> str | None:
        plain = row.kind == "layer" and row.layers == row.directions == 1 and mode == "inference"
        return None if plain else "only inference of one layer"

    def prepare(self, problem: Problem, mode: str) -> Prepared:
        weights = rnnfast.PackedWeights(CELLS[problem.row.cell], *problem.weights[0][0])

        def call() -> Array:
            return weights.forward(problem.x, lengths=problem.lengths, num_threads=self.threads).h

        return Prepared(call, lambda: {"h": call()})


def model_network(problem: Problem, dtype: Any, threads: int) -> Any:
    """The network of a model row, with the problem's recurrent weights; the rest from a fixed seed."""
    row = problem.row

    def make(dtype: Any) -> Any:
        return rnnfast.Network(
            row.D,
            row.H,
            row.D,
            cell=CELLS[row.cell],
            num_layers=row.layers,
            bidirectional=row.bidirectional,
            embedding_size=row.E,
            per_step=True,
            dtype=dtype,
            seed=0,
            num_threads=threads,
        )

    single, network = make(np.float32), make(dtype)  # the same numbers whatever the type: those of single precision
    Rnnfast._load(single.recurrent, problem.weights)
    network.vector[...] = single.vector
    return network


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


class OnnxRuntime(Contender):
    """A graph of the ONNX operators LSTM, GRU or RNN; weights are constants, which the session packs beforehand."""

    name, package = "onnxruntime", "onnxruntime"
    modes = ("inference",)
    # blocks of rnnfast in the order of ONNX: LSTM i, o, f, c; GRU z, r, h; RNN i
    orders: ClassVar[dict[str, tuple[int, ...]]] = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import onnx
        import onnxruntime

        self.onnx, self.runtime = onnx, onnxruntime

    def gap(self, row: Row, mode: str) -> str | None:
        return "no kernels for float64" if row.float64 else super().gap(row, mode)

    def _session(self, problem: Problem, states: tuple[str, ...] = ()) -> Any:
        row, helper, H = problem.row, self.onnx.helper, problem.row.H
        kind = self.onnx.TensorProto.DOUBLE if row.float64 else self.onnx.TensorProto.FLOAT
        operator, order = row.cell.upper(), self.orders[row.cell]
        options: dict[str, Any] = {"linear_before_reset": 1} if row.cell == "gru" else {}
        constants: list[Any] = []
        nodes: list[Any] = []

        def constant(name: str, array: Array) -> str:
            constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
            return name

        def rows(W: Array) -> Array:
            return np.concatenate([W[:, k * H : (k + 1) * H].T for k in order])

        value = "x"
        for layer, each in enumerate(problem.weights):
            biases = []
            for w in each:
                second = np.zeros(len(order) * H, w.b.dtype)
                if row.cell == "gru":
                    second[2 * H :] = w.b[3 * H :]
                biases.append(np.concatenate([*(w.b[k * H : (k + 1) * H] for k in order), second]))
            arguments = [
                value,
                constant(f"W{layer}", np.stack([rows(w.Wx) for w in each])),
                constant(f"R{layer}", np.stack([rows(w.Wh) for w in each])),
                constant(f"B{layer}", np.stack(biases)),
                "" if problem.lengths is None else constant("lengths", problem.lengths.astype(np.int32)),
                *states,
            ]
            direction = "bidirectional" if row.bidirectional else "forward"
            finals = [f"final_{s}" for s in states]
            nodes.append(
                helper.make_node(
                    operator, arguments, [f"y{layer}", *finals], hidden_size=H, direction=direction, **options
                )
            )
            value = f"y{layer}"
            if layer + 1 < row.layers:
                nodes.append(helper.make_node("Transpose", [value], [f"t{layer}"], perm=[0, 2, 1, 3]))
                shape = constant(f"shape{layer}", np.array([0, 0, row.directions * H]))
                nodes.append(helper.make_node("Reshape", [f"t{layer}", shape], [f"r{layer}"]))
                value = f"r{layer}"
        T = 1 if row.kind == "stream" else row.T
        inputs = [helper.make_tensor_value_info("x", kind, [T, row.N, row.D])]
        inputs += [helper.make_tensor_value_info(s, kind, [1, row.N, H]) for s in states]
        outputs = [helper.make_tensor_value_info(value, kind, [T, row.directions, row.N, H])]
        outputs += [helper.make_tensor_value_info(f"final_{s}", kind, [1, row.N, H]) for s in states]
        graph = helper.make_graph(nodes, "rnn", inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        settings = self.runtime.SessionOptions()
        settings.intra_op_num_threads, settings.inter_op_num_threads = self.threads, 1
        settings.log_severity_level = 3
        return self.runtime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])

    def prepare(self, problem: Problem, mode: str) -> Prepared:
        row = problem.row
        if row.kind == "stream":
            return self._stream(problem)
        session = self._session(problem)
        feed = {"x": np.ascontiguousarray(problem.dense.swapaxes(0, 1))}

        def call() -> Any:
            return session.run(None, feed)

        def answers() -> Answers:
            y = call()[0]  # (T, directions, N, H)
            return {"h": y.transpose(2, 0, 1, 3).reshape(row.N, row.T, -1)}

        return Prepared(call, answers)

    def _stream(self, problem: Problem) -> Prepared:
        row, x = problem.row, problem.x
        names = ("h", "c") if row.cell == "lstm" else ("h",)
        session = self._session(problem, names)
        zero = np.zeros((1, row.N, row.H), x.dtype)
        feed = dict.fromkeys(names, zero)
        first = np.ascontiguousarray(x[None, :, 0])

        def step(x_t: Array) -> Array:
            feed["x"] = x_t
            y, *states = session.run(None, feed)
            feed.update(zip(names, states, strict=True))
            return np.asarray(y[0, 0])

        def answers() -> Answers:
            feed.update(dict.fromkeys(names, zero))
            steps = [step(np.ascontiguousarray(x[None, :, t])) for t in range(STREAM_STEPS)]
            return {"h": np.stack(steps, axis=1)}

        return Prepared(lambda: step(first), answers)

    def implementation(self, problem: Problem, mode: str, prepared: Prepared) -> str:
        return f"operator {problem.row.cell.upper()} of the CPU provider (MLAS), weights packed beforehand"


class Jax(Contender):
    """jit of lax.scan over time, the input product hoisted out of it, gradients by jax.vjp."""

    name, package = "jax", "jax"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import jax

        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_enable_x64", True)
        self.jax = jax

    def _step(self, cell: str, weights: Any, state: Any, gates: Any) -> Any:
        np_, nn, (_, Wh, b) = self.jax.numpy, self.jax.nn, weights
        h, H = state[0], Wh.shape[0]
        if cell == "rnn":
            return (np_.tanh(gates + h @ Wh),)
        product = h @ Wh
        if cell == "lstm":
            i, f, g, o = np_.split(gates + product, 4, axis=-1)
            c = nn.sigmoid(f) * state[1] + nn.sigmoid(i) * np_.tanh(g)
            return nn.sigmoid(o) * np_.tanh(c), c
        r, z = np_.split(nn.sigmoid(gates[:, : 2 * H] + product[:, : 2 * H]), 2, axis=-1)
        n = np_.tanh(gates[:, 2 * H :] + r * (product[:, 2 * H :] + b[3 * H :]))
        return ((1 - z) * n + z * h,)

    def _layer(self, row: Row, weights: Any, x: Any, valid: Any, reverse: bool, initial: Any = None) -> Any:
        np_ = self.jax.numpy
        Wx, Wh, b = weights
        H, width = Wh.shape[0], Wh.shape[1]
        gates = (Wx[x] if x.ndim == 2 else x @ Wx) + b[:width]  # token ids gather; nothing is multiplied
        if initial is None:
            initial = tuple(np_.zeros((x.shape[1], H), Wx.dtype) for _ in range(2 if row.cell == "lstm" else 1))

        def step(state: Any, item: Any) -> Any:
            new = self._step(row.cell, weights, state, item[0])
            if valid is None:
                return new, new[0]
            kept = tuple(np_.where(item[1], a, b) for a, b in zip(new, state, strict=True))
            return kept, np_.where(item[1], new[0], 0)

        items = (gates,) if valid is None else (gates, valid)
        return self.jax.lax.scan(step, initial, items, reverse=reverse)

    def prepare(self, problem: Problem, mode: str) -> Prepared:
        jax, row = self.jax, problem.row
        np_ = jax.numpy
        if row.kind == "stream":
            return self._stream(problem)
        weights = jax.tree.map(np_.asarray, [[tuple(w) for w in layer] for layer in problem.weights])
        x = np_.asarray(np.ascontiguousarray(problem.x.swapaxes(0, 1)))  # time first, as scan wants it
        dh = np_.asarray(np.ascontiguousarray(problem.dh.swapaxes(0, 1)))
        valid = None
        if problem.lengths is not None:
            valid = np_.asarray((np.arange(row.T)[:, None] < problem.lengths)[:, :, None])

        def forward(weights: Any, x: Any) -> Any:
            for layer in weights:
                hs = [self._layer(row, w, x, valid, d == 1)[1] for d, w in enumerate(layer)]
                x = hs[0] if len(hs) == 1 else np_.concatenate(hs, axis=-1)
            return x

        def train(weights: Any, x: Any, dh: Any) -> Any:
            if dx_wanted(row):
                h, pull = jax.vjp(forward, weights, x)
                return h, *pull(dh)
            h, pull = jax.vjp(lambda w: forward(w, x), weights)
            return h, *pull(dh)

        arguments = (weights, x, dh) if mode == "training" else (weights, x)
        compiled = jax.jit(train if mode == "training" else forward).lower(*arguments).compile()

        def call() -> Any:
            return jax.block_until_ready(compiled(*arguments))

        def answers() -> Answers:
            if mode == "inference":
                return {"h": np.asarray(call()).swapaxes(0, 1)}
            h, gradients, *rest = call()
            found = {"h": np.asarray(h).swapaxes(0, 1)}
            for layer, each in enumerate(gradients):
                for direction, arrays in enumerate(each):
                    for name, array in zip(("Wx", "Wh", "b"), arrays, strict=True):
                        found[key(name, layer, direction)] = np.asarray(array)
            if rest:
                found["x"] = np.asarray(rest[0]).swapaxes(0, 1)
            return found

        return Prepared(call, answers)

    def _stream(self, problem: Problem) -> Prepared:
        jax, row = self.jax, problem.row
        ((w,),) = problem.weights
        weights = tuple(jax.numpy.asarray(a) for a in w)
        zero = tuple(jax.numpy.zeros((row.N, row.H), problem.x.dtype) for _ in range(2 if row.cell == "lstm" else 1))
        x = jax.numpy.asarray(problem.x.swapaxes(0, 1))

        def one(weights: Any, state: Any, x_t: Any) -> Any:
            return self._step(row.cell, weights, state, x_t @ weights[0] + weights[2][: weights[1].shape[1]])

        compiled = jax.jit(one)
        state = [zero]

        def step(x_t: Any) -> Any:
            state[0] = jax.block_until_ready(compiled(weights, state[0], x_t))
            return state[0][0]

        def answers() -> Answers:
            state[0] = zero
            return {"h": np.stack([np.asarray(step(x[t])) for t in range(STREAM_STEPS)], axis=1)}

        first = x[0]
        return Prepared(lambda: step(first), answers)

    def implementation(self, problem: Problem, mode: str, prepared: Prepared) -> str:
        return "XLA's CPU compiler: jit(scan)"


class Thinc(Contender):
    """The Cython LSTM of Thinc's NumPy back end, called on packed rows: its layers would copy them first."""

    name, package = "thinc", "thinc"
    order = (1, 0, 3, 2)  # rnnfast's blocks i, f, g, o in the order of Thinc: f, i, o, c

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        from thinc.backends import NumpyOps

        self.ops = NumpyOps()

    def gap(self, row: Row, mode: str) -> str | None:
        if row.cell != "lstm" or row.float64:
            return "LSTM in float32 only"
        if row.kind == "stream":
            return "no single steps"
        return super().gap(row, mode)

    def _columns(self, W: Array, H: int) -> Array:
        return np.concatenate([W.T.reshape(4, H, -1)[k] for k in self.order])

    def prepare(self, problem: Problem, mode: str) -> Prepared:
        row, H = problem.row, problem.row.H
        lengths = np.full(row.N, row.T) if problem.lengths is None else problem.lengths
        order = np.argsort(-lengths, kind="stable")
        valid = np.arange(row.T)[:, None] < lengths[order]
        sizes = valid.sum(axis=1).astype(np.int32)
        x = np.ascontiguousarray(problem.dense[order].swapaxes(0, 1)[valid])
        dh = np.ascontiguousarray(problem.dh[order].swapaxes(0, 1)[valid])
        parts = []
        for layer in problem.weights:
            for w in layer:
                parts += [self._columns(w.Wx, H), self._columns(w.b, H), self._columns(w.Wh, H), np.zeros(4 * H, "f4")]
        parameters = np.concatenate([part.ravel() for part in parts])
        zero = np.zeros((row.layers, row.directions, H), np.float32)

        def infer() -> Any:
            return self.ops.lstm_forward_inference(parameters, zero, zero, x, sizes)

        def train() -> Any:
            h, state = self.ops.lstm_forward_training(parameters, zero, zero, x, sizes)
            return h, self.ops.backprop_lstm(dh.copy(), sizes, parameters, state)  # which writes into dh

        def rows(packed: Array) -> Array:
            padded = np.zeros((row.T, row.N, packed.shape[1]), packed.dtype)
            padded[valid] = packed
            result = np.zeros((row.N, row.T, packed.shape[1]), packed.dtype)
            result[order] = padded.swapaxes(0, 1)
            return result

        def answers() -> Answers:
            if mode == "inference":
                return {"h": rows(infer())}
            h, (dx, gradient) = train()
            found = {"h": rows(h)}
            if dx_wanted(row):
                found["x"] = rows(dx)
            back, start = np.argsort(self.order), 0
            for layer, D in enumerate(row.inputs):
                for direction in range(row.directions):
                    for name, width in (("Wx", D), ("b", 1), ("Wh", H), ("", 1)):
                        part = gradient[start : start + 4 * H * width].reshape(4, H, width)[back].reshape(4 * H, width)
                        start += 4 * H * width
                        if name:
                            found[key(name, layer, direction)] = part[:, 0] if name == "b" else part.T
            return found

        return Prepared(train if mode == "training" else infer, answers)

    def implementation(self, problem: Problem, mode: str, prepared: Prepared) -> str:
        return "Cython step by step, sgemm of BLIS on one thread"


CONTENDERS: dict[str, type[Contender]] = {
    each.name: each
    for each in (
        Rnnfast,
        RnnfastRecompute,
        RnnfastPacked,
        Reference,
        Torch,
        TorchPadded,
        Onednn,
        OnnxRuntime,
        Jax,
        Thinc,
    )
}
