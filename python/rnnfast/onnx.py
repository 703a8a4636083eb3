"""ONNX: whole models out, for any runtime, and models of others in.

``export`` writes a fitted estimator or a network as a graph from ids or features and lengths to probabilities or
numbers. ``Session`` runs a graph with the core as its RNN, LSTM and GRU; the other operators are those of ONNX's
reference. Weights alone are convert.py's. Needs the package onnx: ``pip install "rnnfast[onnx]"``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .convert import from_onnx, to_onnx
from .estimators import SequenceClassifier, SequenceRegressor, SequenceTagger
from .estimators.base import SequenceEstimator
from .files import ModelFileError, write_atomically
from .functions import forward
from .layers import Dense, Recurrent, check_flags
from .layouts import converted, entries_of
from .network import Network

try:
    import onnx
    from onnx import TensorProto, helper, inliner, numpy_helper
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun
except ImportError as error:
    raise ImportError('rnnfast.onnx needs the package onnx: pip install "rnnfast[onnx]"') from error

__all__ = ["Session", "export", "recurrent_layers", "to_model"]

Array = NDArray[Any]
OPSET, IR_VERSION = 17, 8  # what ONNX Runtime 1.14 and later read


# ---- out


class _Graph:
    """Nodes and weights as they come; the last output of a node is what the next one takes."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.inputs: list[Any] = []

    def input(self, name: str, kind: int, shape: list[Any]) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def weight(self, name: str, value: ArrayLike) -> str:
        array = np.asarray(value)
        if array.dtype == np.float64 and not name.startswith("double"):
            if (np.abs(array) > np.finfo(np.float32).max).any():
                raise ValueError(f"model: expected weights that float32 can hold, got {np.abs(array).max()} in {name}")
            array = array.astype(np.float32)
        self.weights.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def add(self, op: str, *inputs: str, outputs: tuple[str, ...] = (), **attributes: Any) -> str:
        name = f"{op.lower()}_{len(self.nodes)}"
        made = outputs or (name,)
        self.nodes.append(helper.make_node(op, list(inputs), list(made), name=name, **attributes))
        return made[-1]

    def shape(self, *sizes: int) -> str:
        return self.weight(f"sizes_{len(self.weights)}", np.array(sizes, np.int64))


def _recurrent(graph: _Graph, layer: Recurrent, x: str, lengths: str, initial: tuple[str, ...], name: str) -> Any:
    """The layers, from x (T, N, D): h (T, N, directions * H) and h_n (directions, N, H) of the top layer."""
    W, R, B = to_onnx(layer)  # refuses a cell that ONNX has not
    op = {"lstm": "LSTM", "gru": "GRU", "gru_reset_before": "GRU"}.get(layer.cell, "RNN")
    if op == "RNN" and not layer.cell.startswith("rnn_"):
        raise ValueError(f"cell: expected one that ONNX has, got {layer.cell!r}")
    attributes: dict[str, Any] = {"hidden_size": layer.hidden_size}
    attributes["direction"] = "bidirectional" if layer.bidirectional else "forward"
    if op == "GRU":
        attributes["linear_before_reset"] = int(layer.cell == "gru")
    if op == "RNN":
        attributes["activations"] = [layer.cell.removeprefix("rnn_").capitalize()] * layer.directions
    final = ""
    for k in range(layer.num_layers):
        weights = [graph.weight(f"{name}.{kind}_{k}", of[k]) if of else "" for kind, of in zip("WRB", (W, R, B))]  # noqa: B905
        first, last = k * layer.directions, (k + 1) * layer.directions
        states = [
            graph.add("Slice", s, graph.shape(first), graph.shape(last), graph.shape(0)) for s in initial
        ]  # of this layer
        h, final = f"{name}.h_{k}", f"{name}.h_n_{k}"
        graph.add(op, x, *weights, lengths, *states, outputs=(h, final), **attributes)
        h = graph.add("Transpose", h, perm=[0, 2, 1, 3])  # (T, N, directions, H)
        x = graph.add("Reshape", h, graph.shape(0, 0, layer.directions * layer.hidden_size))
    return x, final


def _dense(graph: _Graph, layer: Dense, x: str, name: str) -> str:
    x = graph.add("MatMul", x, graph.weight(f"{name}.W", layer.parameters["W"]))
    return graph.add("Add", x, graph.weight(f"{name}.b", layer.parameters["b"])) if "b" in layer.parameters else x


def _embed(graph: _Graph, network: Network, x: str) -> str:
    """Vectors (N, T, D) of ids (N, T) or (N, T, F)."""
    if not network.embeddings:
        size = graph.weight("size", np.array(network.recurrent.input_size, np.int64))
        return graph.add("OneHot", x, size, graph.weight("off_on", np.array([0, 1], np.float32)), axis=-1)
    tables = [graph.weight(f"embedding_{k}", e.parameters["E"]) for k, e in enumerate(network.embeddings)]
    if not network.several:
        return graph.add("Gather", tables[0], x)
    columns = [
        graph.add("Gather", x, graph.weight(f"column_{k}", np.array(k, np.int64)), axis=2) for k in range(len(tables))
    ]
    return graph.add("Concat", *(graph.add("Gather", t, c) for t, c in zip(tables, columns, strict=True)), axis=-1)


def _network(graph: _Graph, network: Network, ids: bool, moments: tuple[Array, Array] | None) -> str:
    """Outputs (N, K), or (N, T, K) that are 0 past the lengths, from inputs that it declares."""
    recurrent = network.recurrent
    if ids:
        x = graph.input("x", TensorProto.INT64, ["N", "T", len(network.embeddings)] if network.several else ["N", "T"])
        x = _embed(graph, network, x)
    else:
        x = graph.input("x", TensorProto.FLOAT, ["N", "T", recurrent.input_size])
    if moments is not None:
        x = graph.add("Cast", x, to=TensorProto.DOUBLE)
        x = graph.add("Sub", x, graph.weight("double_mean", moments[0].astype(np.float64)))
        x = graph.add("Div", x, graph.weight("double_deviation", moments[1].astype(np.float64)))
        x = graph.add("Cast", x, to=TensorProto.FLOAT)
    lengths = graph.input("lengths", TensorProto.INT64, ["N"])
    initial: tuple[str, ...] = ()
    if network.condition is not None:
        C = len(network.condition.parameters["W"])
        given = graph.input("condition", TensorProto.FLOAT, ["N", C])
        start = _dense(graph, network.condition, given, "condition")
        rows = recurrent.num_layers * recurrent.directions
        start = graph.add("Reshape", start, graph.shape(0, recurrent.states, rows, recurrent.hidden_size))
        start = graph.add("Transpose", start, perm=[1, 2, 0, 3])  # (states, rows, N, H)
        initial = tuple(
            graph.add("Gather", start, graph.weight(f"state_{k}", np.array(k, np.int64)), axis=0)
            for k in range(recurrent.states)
        )
    short = graph.add("Cast", lengths, to=TensorProto.INT32)
    h, final = _recurrent(graph, recurrent, graph.add("Transpose", x, perm=[1, 0, 2]), short, initial, "recurrent")
    if not network.per_step:
        h = graph.add("Reshape", graph.add("Transpose", final, perm=[1, 0, 2]), graph.shape(0, -1))
        return _dense(graph, network.dense, h, "dense")
    return _dense(graph, network.dense, graph.add("Transpose", h, perm=[1, 0, 2]), "dense")


def _masked(graph: _Graph, outputs: str) -> str:
    """0 at the steps past a sequence's length."""
    zero, one = (graph.weight(n, np.array(v, np.int64)) for n, v in (("zero", 0), ("one", 1)))
    T = graph.add("Gather", graph.add("Shape", outputs), one, axis=0)
    steps = graph.add("Range", zero, T, one)
    valid = graph.add("Less", steps, graph.add("Unsqueeze", "lengths", graph.shape(1)))
    mask = graph.add("Unsqueeze", graph.add("Cast", valid, to=TensorProto.FLOAT), graph.shape(2))
    return graph.add("Mul", outputs, mask)


def to_model(model: Network | SequenceEstimator, *, ids: bool | None = None) -> Any:
    """A network or a fitted estimator as an ``onnx.ModelProto``, in float32.

    Inputs and outputs by name:

    - ``x``: (N, T) int64 token ids, where there are words or an embedding, (N, T, F) for several ids a step, else
      (N, T, D) float32 features (an estimator's scaling is in the graph). Padding of ids must hold some id, such as 0.
    - ``lengths``: (N,) int64, 1..T.
    - ``condition``: (N, C) float32, of a network with `condition_size`.
    - ``probabilities`` of SequenceClassifier (N, K) and SequenceTagger (N, T, K), ``values`` of SequenceRegressor,
      ``outputs`` of a Network; 0 past the lengths.

    The metadata ``rnnfast`` is JSON with the estimator's name, its vocabulary and its labels, and with the
    vocabularies of the further ids of a tagger's words (their suffixes and shape, in the order of the F ids).

    Parameters
    ----------
    model : Network, SequenceClassifier, SequenceTagger or SequenceRegressor
    ids : bool, optional
        Whether a Network without an embedding takes token ids, as one-hot words, or features; None: features.

    Raises
    ------
    TypeError
        Something else: searches and samples (SequenceTransducer, SequenceGenerator) are no graph; their networks are.

    Notes
    -----
    Results are those of rnnfast to rounding, 1e-5 in float32. Operators of opset 17.

    Examples
    --------
    >>> import rnnfast, rnnfast.onnx
    >>> model = rnnfast.onnx.to_model(rnnfast.Network(100, 8, 2, embedding_size=4, seed=0))
    >>> [i.name for i in model.graph.input], [o.name for o in model.graph.output]
    (['x', 'lengths'], ['outputs'])
    """
    graph, name = _Graph(), "outputs"
    about: dict[str, Any] = {"model": type(model).__name__}
    if isinstance(model, SequenceClassifier | SequenceTagger | SequenceRegressor):
        network, encoder = model._fitted(), model.encoder_
        about |= {"encoder": encoder.describe()}
        if isinstance(model, SequenceTagger) and model.parts_ is not None:
            about["parts"] = model.parts_.describe()
        moments = None if encoder.mean is None or encoder.deviation is None else (encoder.mean, encoder.deviation)
        outputs = _network(graph, network, encoder.kind != "features", moments)
        if isinstance(model, SequenceRegressor):
            name, about["shape"] = "values", list(model._shape)
            outputs = graph.add("Mul", outputs, graph.weight("target_deviation", model.target_deviation_))
            outputs = graph.add("Add", outputs, graph.weight("target_mean", model.target_mean_))
        else:
            name, about["classes"] = "probabilities", model.classes_.tolist()
            outputs = graph.add("Softmax", outputs, axis=-1)
    elif isinstance(model, Network):
        network = model
        check_flags(**({} if ids is None else {"ids": ids}))
        if network.embeddings and ids is False:
            raise ValueError("ids: expected None or True for a network with an embedding, got False")
        outputs = _network(graph, network, bool(network.embeddings or ids), None)
    else:
        raise TypeError(
            "model: expected a Network, SequenceClassifier, SequenceTagger or SequenceRegressor, "
            f"got {type(model).__name__}"
        )
    if network.per_step:
        outputs = _masked(graph, outputs)
    graph.add("Identity", outputs, outputs=(name,))
    K = network.dense.parameters["W"].shape[1]
    shape = ["N", "T", K] if network.per_step else ["N", K]
    result = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    made = helper.make_model(
        helper.make_graph(graph.nodes, "rnnfast", graph.inputs, [result], graph.weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="rnnfast",
    )
    helper.set_model_props(made, {"rnnfast": json.dumps(about, ensure_ascii=False, default=str)})
    onnx.checker.check_model(made)
    return made


def export(model: Network | SequenceEstimator, path: str | os.PathLike[str], *, ids: bool | None = None) -> None:
    """Write what :func:`to_model` makes, whole or not at all.

    Raises
    ------
    TypeError
        As :func:`to_model`.
    OSError
        The file cannot be written: names the path.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np, rnnfast, rnnfast.onnx
    >>> network = rnnfast.Network(3, 8, 2, per_step=True, seed=0)
    >>> path = pathlib.Path(tempfile.mkdtemp(), "network.onnx")
    >>> rnnfast.onnx.export(network, path)
    >>> x = np.ones((2, 5, 3), np.float32)
    >>> (outputs,) = rnnfast.onnx.Session(path).run(None, {"x": x, "lengths": np.array([5, 2])})
    >>> bool(np.allclose(outputs, network.forward(x, lengths=[5, 2]), atol=1e-6))
    True
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path: expected a str or path, got {path!r}")
    write_atomically(path, to_model(model, ids=ids).SerializeToString())


# ---- in


class _Recurrence(NamedTuple):
    """A node's weights as the core takes them, one for each direction."""

    cell: tuple[str, ...]
    reverse: tuple[bool, ...]
    layout: int
    states: int

    def run(self, X: Any, W: Any, R: Any, B: Any, lengths: Any, initial: list[Any]) -> tuple[Array, ...]:
        x = X if self.layout else X.swapaxes(0, 1)  # (N, T, D)
        axis = 1 if self.layout else 0  # of the directions in states
        h, finals = [], []
        for k, (cell, reverse) in enumerate(zip(self.cell, self.reverse, strict=True)):
            state = tuple(None if s is None else s.take(k, axis) for s in initial)
            Wx, Wh, b = _weights(cell, W[k], R[k], None if B is None else B[k])
            output = forward(cell, x, Wx, Wh, b, state, lengths=lengths, reverse=reverse, keep_tape=False)
            h.append(output.h)
            finals.append(output.state)
        Y = np.stack(h, axis=2)  # (N, T, directions, H)
        return (Y if self.layout else Y.transpose(1, 2, 0, 3)), *(np.stack(s, axis) for s in zip(*finals, strict=True))


def _weights(cell: str, W: Array, R: Array, B: Array | None) -> tuple[Any, ...]:
    """Wx, Wh, b of the core from those of one direction."""
    arrays = {"W[0]": W[None], "R[0]": R[None]} | ({} if B is None else {"B[0]": B[None]})
    theirs, ours = (entries_of(system, cell, 1, 1, B is not None) for system in ("onnx", "rnnfast"))
    found = converted(arrays, theirs, ours)
    return found["Wx_l0"], found["Wh_l0"], found.get("b_l0")


_DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
_KNOWN = {"activations", "direction", "hidden_size", "layout", "linear_before_reset"}
_IGNORED = {"output_sequence"}  # of opset 1, where outputs say the same


def _read(node: Any, place: int = 0, initializers: Mapping[str, Any] | None = None) -> _Recurrence:
    """What a node asks for; a ValueError that names node and attribute where the core has it not."""
    where = f"node {node.name or place} ({node.op_type})"
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}

    def refuse(what: str, expected: str, got: Any) -> None:
        raise ValueError(f"{where}: {what}: expected {expected}, got {got}")

    for name, value in given.items():
        if name not in _KNOWN | _IGNORED and not (name == "input_forget" and value == 0):
            refuse(name, "none, or input_forget = 0" if name == "input_forget" else "none", value)
    direction = given.get("direction", b"forward").decode()
    directions = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}.get(direction, ())
    if not directions:
        refuse("direction", "forward, reverse or bidirectional", direction)
    default = _DEFAULTS[node.op_type]
    activations = [a.decode() for a in given.get("activations", [])] or default * len(directions)
    if node.op_type == "RNN":
        if len(activations) != len(directions) or not {"tanh", "relu", "sigmoid"} >= {a.lower() for a in activations}:
            refuse("activations", "Tanh, Relu or Sigmoid for each direction", activations)
        cells = tuple(f"rnn_{a.lower()}" for a in activations)
    else:
        if [a.lower() for a in activations] != [a.lower() for a in default * len(directions)]:
            refuse("activations", str(default * len(directions)), activations)
        reset = "gru" if given.get("linear_before_reset", 0) else "gru_reset_before"
        cells = ("lstm" if node.op_type == "LSTM" else reset,) * len(directions)
    if initializers is not None and len(node.input) > 7 and node.input[7]:
        weights = initializers.get(node.input[7])
        if weights is None or numpy_helper.to_array(weights).any():
            refuse("input P", "no peepholes", node.input[7])
    return _Recurrence(cells, directions, int(given.get("layout", 0)), 2 if node.op_type == "LSTM" else 1)


def _operator(op: str) -> type:
    """An operator for ONNX's reference, which ignores lengths, with the core inside."""

    class Operator(OpRun):  # type: ignore[misc]
        op_domain = ""

        def _run(self, X: Any, W: Any, R: Any, *others: Any, **_: Any) -> tuple[Any, ...]:
            B, lengths, *initial = (*others, *[None] * (4 - len(others)))[:4]
            what = _read(self.onnx_node)  # it was checked
            where = f"node {self.onnx_node.name} ({op})"
            if X.dtype not in (np.float32, np.float64):
                raise ValueError(f"{where}: expected float32 or float64, got {X.dtype}")
            if X.ndim != 3 or X.shape[2] != W.shape[2]:
                raise ValueError(f"{where}: expected X of 3 dimensions, the last of {W.shape[2]}, got {X.shape}")
            try:
                found = what.run(X, W, R, B, lengths, initial[: what.states])
            except (TypeError, ValueError) as error:
                raise ValueError(f"{where}: {error}") from error
            return found[: len(self.onnx_node.output)]

    Operator.__name__ = op
    return Operator


def _model(source: Any) -> Any:
    """A ModelProto, from one or from a file."""
    if isinstance(source, onnx.ModelProto):
        return inliner.inline_local_functions(source) if source.functions else source
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"model: expected a path or an onnx.ModelProto, got {type(source).__name__}")
    path = Path(source)
    size = path.stat().st_size  # an OSError names the path
    try:
        model = onnx.load(path, format="protobuf")  # with weights in files beside it
        onnx.checker.check_model(model if size < 2**31 else str(path))
    except Exception as error:  # protobuf's and the checker's
        raise ModelFileError(f"{path}: expected an ONNX model: {str(error).splitlines()[0]}") from None
    return inliner.inline_local_functions(model) if model.functions else model


def _nodes(graph: Any, known: Mapping[str, Any] | None = None) -> Iterator[tuple[int, Any, dict[str, Any]]]:
    """Place, recurrent node and initializers in reach, of a graph and of those in its nodes (If, Loop, Scan)."""
    initializers = {**(known or {}), **{i.name: i for i in graph.initializer}}
    for place, node in enumerate(graph.node):
        if node.op_type in _DEFAULTS and not node.domain:
            yield place, node, initializers
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner, initializers)


class Session:
    """A model of ONNX's, run in NumPy with the core as its recurrent operators.

    Parameters
    ----------
    model : path or onnx.ModelProto
        For instance of :func:`export`, or of PyTorch's ``torch.onnx.export``. RNN (Tanh, Relu, Sigmoid), LSTM and GRU
        (``linear_before_reset`` 0 and 1), in each direction, either layout, with lengths and initial states.

    Attributes
    ----------
    input_names, output_names : lists of str
    metadata : dict
        What :func:`export` says of the model; empty for one of others.

    Raises
    ------
    ModelFileError
        The file is no ONNX model.
    ValueError
        An operator that ONNX's reference does not know, or what the core's lack: peepholes, clip, input_forget, other
        activations. Names node and attribute.

    Examples
    --------
    >>> import numpy as np, rnnfast, rnnfast.onnx
    >>> network = rnnfast.Network(100, 8, 2, embedding_size=4, seed=0)
    >>> session = rnnfast.onnx.Session(rnnfast.onnx.to_model(network))
    >>> feeds = {"x": np.array([[5, 7, 9], [3, 0, 0]]), "lengths": np.array([3, 1])}
    >>> session.run(None, feeds)[0].shape
    (2, 2)
    """

    def __init__(self, model: str | os.PathLike[str] | Any) -> None:
        model = _model(model)
        for place, node, initializers in _nodes(model.graph):
            _read(node, place, initializers)
        try:
            self._evaluator = ReferenceEvaluator(model, new_ops=[_operator(op) for op in _DEFAULTS])
        except Exception as error:  # its own kinds, for an operator that it does not know
            known = str(error).splitlines()[0]
            raise ValueError(f"model: expected operators that onnx.reference has: {known}") from None
        constants = {i.name for i in model.graph.initializer}
        inputs = [i for i in model.graph.input if i.name not in constants]
        self.input_names = [i.name for i in inputs]
        self._kinds = {i.name: i.type.tensor_type.elem_type for i in inputs}
        self.output_names = [o.name for o in model.graph.output]
        about = {p.key: p.value for p in model.metadata_props}
        self.metadata: dict[str, Any] = json.loads(about["rnnfast"]) if "rnnfast" in about else {}

    def run(self, output_names: list[str] | None, feeds: Mapping[str, ArrayLike]) -> list[Array]:
        """Outputs by name, or all; as ``onnxruntime.InferenceSession.run``."""
        if not isinstance(feeds, Mapping) or set(feeds) != set(self.input_names):
            got = list(feeds) if isinstance(feeds, Mapping) else type(feeds).__name__
            raise ValueError(f"feeds: expected {self.input_names}, got {got}")
        if isinstance(output_names, str):
            raise TypeError(f"output_names: expected a list of str or None, got {output_names!r}")
        arrays = {name: np.asarray(array) for name, array in feeds.items()}
        for name, array in arrays.items():
            if self._kinds[name] and array.dtype != helper.tensor_dtype_to_np_dtype(self._kinds[name]):
                expected = helper.tensor_dtype_to_np_dtype(self._kinds[name])
                raise TypeError(f"feeds[{name!r}]: expected {expected}, got {array.dtype}")
        unknown = [name for name in output_names or () if name not in self.output_names]
        if unknown:
            raise ValueError(f"output_names: expected some of {self.output_names}, got {unknown}")
        results: list[Array] = self._evaluator.run(output_names, arrays)
        return results


def recurrent_layers(model: str | os.PathLike[str] | Any) -> dict[str, Recurrent]:
    """The recurrent nodes of a model as layers of ours, to train further: by the node's name, or its place.

    Of nodes of one name the second gets a ``'`` behind it.

    Parameters
    ----------
    model : path or onnx.ModelProto
        Weights must be initializers; a node in the direction "reverse" alone has no such layer.

    Raises
    ------
    ModelFileError, ValueError
        As :class:`Session`; a node whose weights are computed.

    Examples
    --------
    >>> import rnnfast, rnnfast.onnx
    >>> network = rnnfast.Network(100, 8, 2, cell="gru", num_layers=2, embedding_size=4, seed=0)
    >>> [layer.cell for layer in rnnfast.onnx.recurrent_layers(rnnfast.onnx.to_model(network)).values()]
    ['gru', 'gru']
    """
    model = _model(model)
    found: dict[str, Recurrent] = {}
    for place, node, initializers in _nodes(model.graph):
        what, where = _read(node, place, initializers), f"node {node.name or place} ({node.op_type})"
        names = [*node.input[1:4], ""][:3]
        missing = [n for n in names if n and n not in initializers]
        if missing:
            raise ValueError(f"{where}: expected weights that are initializers, got {missing}")
        if what.reverse == (True,) or len(set(what.cell)) > 1:
            raise ValueError(f"{where}: expected one cell, forward or in both directions, got {what.cell}")
        weights = [numpy_helper.to_array(initializers[n]) for n in names if n]
        cell = what.cell[0]
        reset = {"gru": 1, "gru_reset_before": 0}.get(cell)
        kind = cell if reset is None else "gru"
        name = node.name or str(place)
        while name in found:  # names need not differ
            name += "'"
        found[name] = from_onnx(weights[0], weights[1], *weights[2:], cell=kind, linear_before_reset=reset)
    return found
