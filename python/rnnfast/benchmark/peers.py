"""The contenders by name, and the small adapters of ONNX Runtime, JAX and Thinc; own.py, pytorch.py and onednn.py have
the others.

An adapter turns a problem into a call to be timed, and into answers in rnnfast's layout to be compared before that.
Called by __init__.py, measure.py and benchmarks/. It must not know of clocks, rounds or reports, and imports a peer
only when that peer is asked for.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from .contender import STREAM_STEPS, Answers, Array, Contender, Prepared, Problem, dx_wanted, key
from .grid import Row
from .onednn import Onednn
from .own import Reference, Rnnfast, RnnfastPacked, RnnfastRecompute
from .pytorch import Torch, TorchPadded

__all__ = ["CONTENDERS"]


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
