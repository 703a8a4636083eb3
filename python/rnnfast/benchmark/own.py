"""rnnfast and its NumPy reference as contenders, and the answers that every contender must find.

Called by peers.py, which lists the contenders, and measure.py. It uses rnnfast as its users do, and must not know of
other libraries, clocks or reports.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

import rnnfast

from .contender import STREAM_STEPS, Answers, Array, Contender, Prepared, Problem, Weights, dx_wanted, key
from .grid import CELLS, Row, flops

__all__ = ["Reference", "Rnnfast", "RnnfastPacked", "RnnfastRecompute", "model_network", "reference_answers"]

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
