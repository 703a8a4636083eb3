"""convert.py: what the weights of other systems mean there, they mean here, in every order and layout, both ways.

Each system has a step function below, written from its documentation; where the system is installed, it is run too.
Weights are random, without symmetry and never 0, so that a gate, a matrix or a bias in a wrong place shows.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import ModelFileError, convert
from safetensors.numpy import load_file, save_file

N, T, D, H = 2, 5, 3, 4
CELLS = ("rnn_tanh", "rnn_relu", "rnn_sigmoid", "lstm", "gru", "gru_reset_before")
IN_TORCH = ("rnn_tanh", "rnn_relu", "lstm", "gru")
IN_FLAX = ("rnn_tanh", "rnn_relu", "rnn_sigmoid", "lstm", "gru")
SHAPES = list(itertools.product((1, 2, 3), (False, True), (False, True)))  # num_layers, bidirectional, bias
FEW = [(1, False, True), (2, True, True), (3, False, False)]


def new(cell: str, num_layers: int = 1, bidirectional: bool = False, bias: bool = True, dtype: Any = np.float64) -> Any:
    options: dict[str, Any] = {"num_layers": num_layers, "bidirectional": bidirectional, "bias": bias, "dtype": dtype}
    if cell == "lstm":
        layer: Any = rnnfast.LSTM(D, H, **options)
    elif cell.startswith("gru"):
        layer = rnnfast.GRU(D, H, reset_after=cell == "gru", **options)
    else:
        layer = rnnfast.RNN(D, H, activation=cell[4:], **options)
    return fill(layer)


def fill(module: Any, seed: int = 0) -> Any:
    rng = np.random.default_rng([seed, module.vector.size])
    size = module.vector.size
    module.vector[...] = rng.uniform(0.1, 0.8, size) * rng.choice([-1, 1], size, p=[0.4, 0.6])
    return module


def example(dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(N, T, D)).astype(dtype)


def agree(actual: Any, expected: Any, bound: float = 1e-12) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.max(np.abs(actual - expected)) <= bound


def same(a: Any, b: Any, assert_same_bits: Callable[..., None]) -> None:
    """Two layers of one kind with the same numbers."""
    assert (a.cell, a.input_size, a.hidden_size) == (b.cell, b.input_size, b.hidden_size)
    assert type(a) is type(b)
    assert list(a.parameters) == list(b.parameters)
    assert_same_bits(a.vector, b.vector)


# ---- the equations of the systems, a step of each


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "rnn_tanh": np.tanh,
    "rnn_relu": lambda a: np.maximum(a, 0),
    "rnn_sigmoid": sigmoid,
}


def keras_step(cell: str, weights: Any, x: Any, h: Any, c: Any) -> Any:
    kernel, recurrent, *rest = weights
    bias = rest[0] if rest else np.zeros((2, 3 * H) if cell == "gru" else kernel.shape[1])
    if cell == "lstm":
        z = x @ kernel + h @ recurrent + bias
        i, f, candidate, o = (z[:, k * H : (k + 1) * H] for k in range(4))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
        return sigmoid(o) * np.tanh(c), c
    if cell == "gru":
        left, right = x @ kernel + bias[0], h @ recurrent + bias[1]
        z = sigmoid(left[:, :H] + right[:, :H])
        r = sigmoid(left[:, H : 2 * H] + right[:, H : 2 * H])
        candidate = np.tanh(left[:, 2 * H :] + r * right[:, 2 * H :])
        return z * h + (1 - z) * candidate, c
    if cell == "gru_reset_before":
        left = x @ kernel + bias
        z = sigmoid(left[:, :H] + h @ recurrent[:, :H])
        r = sigmoid(left[:, H : 2 * H] + h @ recurrent[:, H : 2 * H])
        return z * h + (1 - z) * np.tanh(left[:, 2 * H :] + (r * h) @ recurrent[:, 2 * H :]), c
    return ACTIVATIONS[cell](x @ kernel + h @ recurrent + bias), c


def onnx_step(cell: str, weights: Any, x: Any, h: Any, c: Any) -> Any:
    W, R, B = weights
    G = len(W) // H
    B = np.zeros(2 * G * H) if B is None else B

    def blocks(array: np.ndarray) -> list[np.ndarray]:
        return [array[k * H : (k + 1) * H] for k in range(G)]

    w, u, wb, rb = blocks(W), blocks(R), blocks(B[: G * H]), blocks(B[G * H :])
    sides = [(x @ w[k].T + wb[k], h @ u[k].T + rb[k]) for k in range(G)]
    if cell == "lstm":
        i, o, f, g = (a + b for a, b in sides)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    if cell.startswith("gru"):
        z, r = (sigmoid(a + b) for a, b in sides[:2])
        right = r * sides[2][1] if cell == "gru" else (r * h) @ u[2].T + rb[2]  # linear_before_reset 1 or 0
        return (1 - z) * np.tanh(sides[2][0] + right) + z * h, c
    return ACTIVATIONS[cell](sum(sides[0])), c


def flax_step(cell: str, p: Any, x: Any, h: Any, c: Any) -> Any:
    def dense(name: str, value: Any) -> Any:
        return value @ p[name]["kernel"] + p[name].get("bias", 0)

    if cell == "lstm":
        i, f, o = (sigmoid(dense(f"i{k}", x) + dense(f"h{k}", h)) for k in "ifo")
        c = f * c + i * np.tanh(dense("ig", x) + dense("hg", h))
        return o * np.tanh(c), c
    if cell == "gru":
        r, z = (sigmoid(dense(f"i{k}", x) + dense(f"h{k}", h)) for k in "rz")
        n = np.tanh(dense("in", x) + r * dense("hn", h))
        return (1.0 - z) * n + z * h, c
    return ACTIVATIONS[cell](dense("i", x) + dense("h", h)), c


def cs231n_step(cell: str, weights: Any, x: Any, h: Any, c: Any) -> Any:
    Wx, Wh, b = weights
    a = x.dot(Wx) + h.dot(Wh) + b
    if cell == "rnn_tanh":
        return np.tanh(a), c
    i, f, o = sigmoid(a[:, :H]), sigmoid(a[:, H : 2 * H]), sigmoid(a[:, 2 * H : 3 * H])
    c = f * c + i * np.tanh(a[:, 3 * H :])
    return o * np.tanh(c), c


def run(step: Callable[..., Any], cell: str, units: list[Any], directions: int, x: np.ndarray) -> np.ndarray:
    """Layers on top of each other of steps; units are the weights of each layer and direction."""
    for layer in range(len(units) // directions):
        outputs = []
        for direction in range(directions):
            h, c, out = np.zeros((N, H)), np.zeros((N, H)), np.zeros((N, T, H))
            for t in reversed(range(T)) if direction else range(T):
                h, c = step(cell, units[layer * directions + direction], x[:, t], h, c)
                out[:, t] = h
            outputs.append(out)
        x = np.concatenate(outputs, axis=2)
    return x


def keras_units(weights: list[Any], bias: bool) -> list[Any]:
    size = 3 if bias else 2
    return [weights[k : k + size] for k in range(0, len(weights), size)]


def onnx_units(W: Any, R: Any, B: Any) -> list[Any]:
    return [(W[k][d], R[k][d], None if B is None else B[k][d]) for k in range(len(W)) for d in range(len(W[k]))]


def random_as(tree: Any, seed: int = 7) -> Any:
    """Arrays of the shapes of others, in the same lists and mappings: as another system could have made them."""
    rng = np.random.default_rng(seed)

    def of(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: of(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [of(inner) for inner in value]
        if value is None:
            return None
        return rng.uniform(0.1, 0.8, value.shape) * rng.choice([-1, 1], value.shape, p=[0.4, 0.6])

    return of(tree)


@pytest.mark.parametrize(("num_layers", "bidirectional", "bias"), SHAPES)
@pytest.mark.parametrize("cell", CELLS)
def test_equations_of_keras(cell: str, num_layers: int, bidirectional: bool, bias: bool) -> None:
    layer, x = new(cell, num_layers, bidirectional, bias), example()
    weights = convert.to_keras(layer)
    agree(layer.forward(x)[0], run(keras_step, cell, keras_units(weights, bias), layer.directions, x))
    weights = random_as(weights)
    made = convert.from_keras(weights, cell, bidirectional=bidirectional, bias=bias)
    assert made.dtype == np.float64
    agree(made.forward(x)[0], run(keras_step, cell, keras_units(weights, bias), layer.directions, x))


@pytest.mark.parametrize(("num_layers", "bidirectional", "bias"), SHAPES)
@pytest.mark.parametrize("cell", CELLS)
def test_equations_of_onnx(cell: str, num_layers: int, bidirectional: bool, bias: bool) -> None:
    layer, x = new(cell, num_layers, bidirectional, bias), example()
    arrays = convert.to_onnx(layer)
    assert (arrays[2] is None) == (not bias)
    agree(layer.forward(x)[0], run(onnx_step, cell, onnx_units(*arrays), layer.directions, x))
    arrays = random_as(arrays)
    reset = {"linear_before_reset": 1} if cell == "gru" else {}
    made = convert.from_onnx(*arrays, cell=cell, **reset)
    agree(made.forward(x)[0], run(onnx_step, cell, onnx_units(*arrays), layer.directions, x))
    if cell == "gru":
        made = convert.from_onnx(*arrays, cell="gru", linear_before_reset=0)
        assert made.cell == "gru_reset_before"
        agree(made.forward(x)[0], run(onnx_step, made.cell, onnx_units(*arrays), layer.directions, x))


@pytest.mark.parametrize(("num_layers", "bidirectional", "bias"), SHAPES)
@pytest.mark.parametrize("cell", IN_FLAX)
def test_equations_of_flax(cell: str, num_layers: int, bidirectional: bool, bias: bool) -> None:
    layer, x = new(cell, num_layers, bidirectional, bias), example()
    cells = convert.to_flax(layer)
    agree(layer.forward(x)[0], run(flax_step, cell, cells, layer.directions, x))
    cells = random_as(cells)
    made = convert.from_flax(cells, cell, bidirectional=bidirectional)
    agree(made.forward(x)[0], run(flax_step, cell, cells, layer.directions, x))
    if len(cells) == 1:
        assert (convert.from_flax(cells[0], cell).vector == made.vector).all()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "rnn_tanh"])
def test_equations_of_cs231n(cell: str, bias: bool) -> None:
    layer, x = new(cell, bias=bias), example()
    weights = convert.to_cs231n(layer)
    agree(layer.forward(x)[0], run(cs231n_step, cell, [weights], 1, x))
    weights = random_as(weights)
    agree(convert.from_cs231n(*weights, cell).forward(x)[0], run(cs231n_step, cell, [weights], 1, x))
    if cell == "lstm":
        assert convert.from_cs231n(*weights).cell == "lstm"


# ---- the systems themselves, where they are installed


def torch_module(torch: Any, cell: str, num_layers: int, bidirectional: bool, bias: bool, dtype: str) -> Any:
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}.get(cell, torch.nn.RNN)
    options: dict[str, Any] = {"nonlinearity": cell[4:]} if cell.startswith("rnn") else {}
    options |= {"num_layers": num_layers, "bidirectional": bidirectional, "bias": bias, "dtype": getattr(torch, dtype)}
    torch.manual_seed(3)
    return kind(D, H, batch_first=True, **options)


@pytest.mark.parametrize(("num_layers", "bidirectional", "bias"), SHAPES)
@pytest.mark.parametrize("cell", IN_TORCH)
def test_pytorch(cell: str, num_layers: int, bidirectional: bool, bias: bool, assert_same_bits: Any) -> None:
    torch = pytest.importorskip("torch")
    for dtype, bound in ("float64", 1e-12), ("float32", 1e-5):
        x = example(dtype)
        layer = new(cell, num_layers, bidirectional, bias, dtype)

        def check(layer: Any, module: Any, x: np.ndarray = x, bound: float = bound) -> None:
            with torch.no_grad():
                h, state = module(torch.from_numpy(x))
            ours, our_state = layer.forward(x)
            agree(ours, h, bound)
            for mine, theirs in zip(our_state, state if cell == "lstm" else (state,), strict=True):
                agree(mine, theirs, bound)

        module = torch_module(torch, cell, num_layers, bidirectional, bias, dtype)
        state_dict = module.state_dict()  # both biases are random
        made = convert.from_pytorch(state_dict, cell=cell if cell == "rnn_relu" else None)
        check(made, module)
        assert (made.cell, made.num_layers, made.bidirectional) == (cell, num_layers, bidirectional)
        assert ("b_l0" in made.parameters) == bias
        convert.load_pytorch(layer, state_dict)
        same(made, layer, assert_same_bits)
        fill(layer)
        exported = convert.to_pytorch(layer)
        assert list(exported) == list(state_dict)
        module.load_state_dict({name: torch.from_numpy(array) for name, array in exported.items()})
        check(layer, module)


@pytest.fixture
def keras(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    backend = next((name for name in ("jax", "torch", "tensorflow") if importlib.util.find_spec(name)), "numpy")
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", backend))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return pytest.importorskip("keras")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cell", CELLS)
def test_keras(cell: str, keras: Any) -> None:
    for num_layers, bidirectional, bias in FEW:
        layers = []
        for _ in range(num_layers):
            options = {"use_bias": bias, "return_sequences": True}
            if cell == "lstm":
                one = keras.layers.LSTM(H, **options)
            elif cell.startswith("gru"):
                one = keras.layers.GRU(H, reset_after=cell == "gru", **options)
            else:
                one = keras.layers.SimpleRNN(H, activation=cell[4:], **options)
            layers.append(keras.layers.Bidirectional(one) if bidirectional else one)
        model = keras.Sequential([keras.Input((T, D)), *layers])
        layer, x = new(cell, num_layers, bidirectional, bias, np.float32), example(np.float32)
        model.set_weights(convert.to_keras(layer))
        agree(keras.ops.convert_to_numpy(model(x)), layer.forward(x)[0], 1e-5)
        model.set_weights(random_as(model.get_weights()))
        made = convert.from_keras(model.get_weights(), cell, bidirectional=bidirectional, bias=bias)
        agree(keras.ops.convert_to_numpy(model(x)), made.forward(x)[0], 1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cell", CELLS)
def test_onnx_runtime(cell: str) -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    kind = cell[:4].rstrip("_").upper()

    def outputs(W: Any, R: Any, B: Any, x: np.ndarray) -> np.ndarray:
        directions = len(W[0])
        attributes: dict[str, Any] = {"hidden_size": H, "direction": ["forward", "bidirectional"][directions - 1]}
        if kind == "GRU":
            attributes["linear_before_reset"] = int(cell == "gru")
        if kind == "RNN":
            attributes["activations"] = [cell[4:].capitalize()] * directions
        for k in range(len(W)):
            given = {"W": W[k], "R": R[k]} | ({} if B is None else {"B": B[k]})
            node = onnx.helper.make_node(kind, ["x", *given], ["y"], **attributes)
            info = [onnx.helper.make_tensor_value_info(name, 1, None) for name in "xy"]
            constants = [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in given.items()]
            graph = onnx.helper.make_graph([node], "graph", info[:1], info[1:], constants)
            model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)
            session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
            (y,) = session.run(None, {"x": np.ascontiguousarray(np.swapaxes(x, 0, 1))})  # (T, directions, N, H)
            x = y.transpose(2, 0, 1, 3).reshape(N, T, -1)
        return x

    for num_layers, bidirectional, bias in FEW:
        layer, x = new(cell, num_layers, bidirectional, bias, np.float32), example(np.float32)
        arrays = convert.to_onnx(layer)
        agree(outputs(*arrays, x), layer.forward(x)[0], 1e-5)
        arrays = random_as(arrays)
        reset = {"linear_before_reset": 1} if cell == "gru" else {}
        agree(outputs(*arrays, x), convert.from_onnx(*arrays, cell=cell, **reset).forward(x.astype(float))[0], 1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["OptimizedLSTMCell", "LSTMCell", "GRUCell", "rnn_tanh", "rnn_relu", "rnn_sigmoid"])
def test_flax(kind: str) -> None:
    linen, jax = pytest.importorskip("flax.linen"), pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    cell = kind if kind.startswith("rnn") else kind.removesuffix("Cell").removeprefix("Optimized").lower()
    options: dict[str, Any] = {"features": H, "param_dtype": np.float64}
    if kind.startswith("rnn"):
        options["activation_fn"] = {"tanh": jax.numpy.tanh, "relu": linen.relu, "sigmoid": linen.sigmoid}[kind[4:]]
    of_kind = getattr(linen, kind, linen.SimpleCell)

    def outputs(cells: Any, directions: int, x: Any) -> Any:
        for k in range(0, len(cells), directions):
            rnns = [linen.RNN(of_kind(**options)) for _ in range(directions)]
            if directions == 1:
                x = rnns[0].apply({"params": {"cell": cells[k]}}, x)
            else:
                names = ("forward_rnn", "backward_rnn")
                params = {name: {"cell": one} for name, one in zip(names, cells[k : k + 2], strict=True)}
                x = linen.Bidirectional(*rnns).apply({"params": params}, x)
        return np.asarray(x)

    for num_layers, bidirectional, bias in FEW:
        layer, x = new(cell, num_layers, bidirectional, bias), example()
        cells = convert.to_flax(layer)
        params = linen.RNN(of_kind(**options)).init(jax.random.key(0), x)["params"]["cell"]
        assert {(k, n) for k in params for n in params[k]} == {(k, n) for k in cells[0] for n in cells[0][k]}
        agree(outputs(cells, layer.directions, x), layer.forward(x)[0])
        cells = random_as(cells)
        made = convert.from_flax(cells, cell, bidirectional=bidirectional)
        agree(outputs(cells, layer.directions, x), made.forward(x)[0])


# ---- there and back, bit for bit


def there_and_back(layer: Any) -> Iterator[tuple[str, Any]]:
    cell, both, bias = layer.cell, layer.bidirectional, "b_l0" in layer.parameters
    if cell in IN_TORCH:
        state_dict = convert.to_pytorch(layer, "a.")
        yield "pytorch", convert.from_pytorch({**state_dict, "b": 0}, prefix="a.", cell=cell)
        other = new(cell, layer.num_layers, both, bias, layer.dtype)
        other.vector[...] = 0
        convert.load_pytorch(other, state_dict, "a.")
        yield "load_pytorch", other
    yield "keras", convert.from_keras(convert.to_keras(layer), cell, bidirectional=both, bias=bias)
    reset = {"linear_before_reset": 1} if cell == "gru" else {}
    yield "onnx", convert.from_onnx(*convert.to_onnx(layer), cell=cell, **reset)
    if cell in IN_FLAX and bias:
        yield "flax", convert.from_flax(convert.to_flax(layer), cell, bidirectional=both)
    if cell in ("lstm", "rnn_tanh") and bias and layer.num_layers == layer.directions == 1:
        yield "cs231n", convert.from_cs231n(*convert.to_cs231n(layer), cell)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cell", CELLS)
def test_there_and_back(cell: str, dtype: Any, assert_same_bits: Any) -> None:
    for num_layers, bidirectional, bias in SHAPES:
        layer = new(cell, num_layers, bidirectional, bias, dtype)
        for place, value in enumerate((np.nan, np.inf, -np.inf, -0.0, np.finfo(dtype).tiny / 4, np.finfo(dtype).max)):
            layer.vector[place::29] = value  # each somewhere in every kind of array
        before = layer.vector.copy()
        for system, other in there_and_back(layer):
            same(other, layer, assert_same_bits)
            assert (other.num_layers, other.bidirectional) == (num_layers, bidirectional), system
        assert_same_bits(layer.vector, before)


@pytest.mark.parametrize("layer", [rnnfast.RNN(1, 1), rnnfast.LSTM(3, 4), rnnfast.GRU(1, 2)])
def test_what_is_returned_is_a_contiguous_copy(layer: Any) -> None:
    arrays = [*convert.to_keras(layer), *(a for of in convert.to_onnx(layer) for a in of)]
    arrays += convert.to_pytorch(layer).values()
    arrays += [a for name in convert.to_flax(layer)[0].values() for a in name.values()]
    parts = [rnnfast.Dense(1, 3), rnnfast.Dense(3, 2), rnnfast.Embedding(2, 3)]
    arrays += [array for part in parts for array in convert.to_pytorch(part).values()]
    assert all(array.flags.c_contiguous and array.flags.writeable for array in arrays)
    for one in (layer, *parts):
        assert not any(np.shares_memory(array, one.vector) for array in arrays)


def test_entries_of_flax() -> None:
    entries = {cell: {(k, n): a.shape for k, p in convert.to_flax(new(cell))[0].items() for n, a in p.items()}
               for cell in ("lstm", "gru", "rnn_tanh")}  # fmt: skip
    kernels = {gate: {(f"{side}{gate}", "kernel"): (D if side == "i" else H, H) for side in "ih"}
               for gate in (*"ifgorzn", "")}  # fmt: skip
    biases = {"lstm": ("hi", "hf", "hg", "ho"), "gru": ("ir", "iz", "in", "hn"), "rnn_tanh": ("i",)}
    for cell, gates in ("lstm", "ifgo"), ("gru", "rzn"), ("rnn_tanh", [""]):
        expected = {entry: shape for gate in gates for entry, shape in kernels[gate].items()}
        assert entries[cell] == expected | {(name, "bias"): (H,) for name in biases[cell]}


def test_two_biases_become_one() -> None:
    state_dict = random_as(convert.to_pytorch(new("gru")))
    b = convert.from_pytorch(state_dict).parameters["b_l0"]
    left, right = state_dict["bias_ih_l0"], state_dict["bias_hh_l0"]
    assert (b == np.concatenate([left[: 2 * H] + right[: 2 * H], left[2 * H :], right[2 * H :]])).all()
    assert (convert.to_pytorch(convert.from_pytorch(state_dict))["bias_hh_l0"][: 2 * H] == 0).all()
    state_dict["bias_ih_l0"] = state_dict["bias_hh_l0"] = np.full(3 * H, np.finfo(float).max)
    assert (convert.from_pytorch(state_dict).parameters["b_l0"][: 2 * H] == np.inf).all()  # and no warning


def test_settings_of_the_new_layer() -> None:
    layer = convert.from_pytorch(convert.to_pytorch(new("lstm", 2)), dropout=0.25, num_threads=1, check_finite=True)
    assert (layer.dropout, layer.num_threads, layer.check_finite) == (0.25, 1, True)
    with pytest.raises(TypeError, match="bias"):
        convert.from_pytorch(convert.to_pytorch(layer), bias=False)
    with pytest.raises(TypeError, match="reset_after"):
        convert.from_keras(convert.to_keras(new("gru")), "gru", reset_after=False)


def test_dtypes() -> None:
    weights = convert.to_keras(new("lstm"))
    for given, dtype in (np.float16, np.float32), (np.float32, np.float32), (np.float64, np.float64), (">f8", "f8"):
        cast = [array.astype(given) for array in weights]
        layer = convert.from_keras(cast, "lstm")
        assert layer.dtype == dtype
        assert (layer.parameters["Wx_l0"] == cast[0]).all()
    layer = convert.from_keras([array.astype(np.float32) for array in weights], "lstm", dtype=np.dtype("float64"))
    assert layer.dtype == np.float64
    mixed = [weights[0].astype(np.float32), *weights[1:]]
    assert convert.from_keras(mixed, "lstm").dtype == np.float64
    for wrong in (np.int64, bool, complex, object, str, np.longdouble):
        with pytest.raises(
            ValueError, match=f"recurrent_kernel_l0.*got.*of {'<U32' if wrong is str else np.dtype(wrong)}$"
        ) as error:
            convert.from_keras([weights[0], weights[1].astype(wrong), weights[2]], "lstm")
        assert str(error.value).count("\n") == 1
    with pytest.raises(ValueError, match=r"kernel_l0\): expected \(3, 16\) of float32, got \(3, 16\) of float64"):
        convert.from_keras(weights, "lstm", dtype=np.float32)
    with pytest.raises(TypeError, match="dtype: expected float32 or float64, got float16"):
        convert.from_keras(weights, "lstm", dtype=np.float16)


def test_orders() -> None:
    """The table at the top of the page and ORDERS are one."""
    rows = re.findall(r"^(\w+) +(\w, \w, \w, \w) +((?:\w, \w, \w)?)", str(convert.__doc__), flags=re.MULTILINE)
    table = {name: {"lstm": lstm.replace(", ", ""), "gru": gru.replace(", ", "")} for name, lstm, gru in rows}
    del table["cs231n"]["gru"]
    assert table == convert.ORDERS


@pytest.mark.parametrize("dtype", [np.float32, np.int16, ">f8"])
def test_reorder_gates(dtype: Any, assert_same_bits: Any) -> None:
    array = np.arange(2 * 8 * 3).reshape(2, 8, 3).astype(dtype)
    got = convert.reorder_gates(array, "ifgo", "iofg", axis=1)
    assert_same_bits(got, np.concatenate([array[:, :2], array[:, 6:], array[:, 2:6]], axis=1).astype(dtype))
    assert_same_bits(convert.reorder_gates(got, "iofg", "ifgo", axis=-2), array)
    same = convert.reorder_gates(array, "abc", "abc")
    assert_same_bits(same, array)
    assert not np.shares_memory(same, array)
    assert convert.reorder_gates([1, 2, 3, 4], "rznm", "zrnm").tolist() == [2, 1, 3, 4]
    assert convert.reorder_gates(np.zeros((0, 3)), "rzn", "nzr", axis=0).shape == (0, 3)


@pytest.mark.parametrize(
    ("shape", "source", "target", "axis", "message"),
    [
        ((3, 8), "iffo", "iffo", -1, "source: expected a letter of its own for each gate, got 'iffo'"),
        ((3, 8), "", "", -1, "source: expected a letter"),
        ((3, 8), "ifgo", "ifco", -1, "target: expected the letters of source = 'ifgo' in some order, got 'ifco'"),
        ((3, 8), "ifgo", "ifgoo", -1, "target: "),
        ((3, 8), "rzn", "zrn", -1, "array: expected 3 blocks of one size along axis -1, got (3, 8)"),
        ((3, 8), "rzn", "zrn", 2, "array: expected 3 blocks of one size along axis 2, got (3, 8)"),
        ((), "rzn", "zrn", -1, "array: expected 3 blocks of one size along axis -1, got ()"),
    ],
)
def test_gates_that_cannot_be_reordered(shape: Any, source: str, target: str, axis: int, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        convert.reorder_gates(np.zeros(shape), source, target, axis)


# ---- what does not fit


@pytest.mark.parametrize("cell", ["gru_reset_before", "rnn_sigmoid"])
def test_cells_that_others_lack(cell: str, tmp_path: Path) -> None:
    layer = new(cell)
    for call in (
        lambda: convert.to_pytorch(layer),
        lambda: convert.load_pytorch(layer, {}),
        lambda: convert.from_pytorch(convert.to_pytorch(new("gru")), cell=cell),
        lambda: convert.save(tmp_path / "file", layer),
    ):
        with pytest.raises(ValueError, match=f"cell: expected one of .*'gru'], got '{cell}', which pytorch lacks: its"):
            call()
    with pytest.raises(ValueError, match=rf"\['rnn_tanh', 'lstm'], got '{cell}', which cs231n lacks"):
        convert.to_cs231n(layer)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="which flax lacks: its GRUCell applies r after the product"):
        convert.to_flax(new("gru_reset_before"))
    with pytest.raises(ValueError, match=r"cell: expected one of .*, got 'lsmt'$"):
        convert.from_keras(convert.to_keras(layer), "lsmt")


def test_layers_that_do_not_fit() -> None:
    dense, network = rnnfast.Dense(3, 2), rnnfast.Network(3, 4, 2)
    for call in (convert.to_keras, convert.to_onnx, convert.to_flax, convert.to_cs231n):
        for module in dense, network, None:
            with pytest.raises(TypeError, match=f"layer: expected RNN, LSTM or GRU, got {type(module).__name__}"):
                call(module)
    with pytest.raises(TypeError, match=r"module: expected RNN, .* or Network, got NoneType"):
        convert.to_pytorch(None)
    translator = rnnfast.EncoderDecoder(5, 5, 4, attention=True)
    with pytest.raises(TypeError, match=r"module: expected .* got Attention"):
        convert.to_pytorch(translator)
    for layer in new("lstm", 2), new("lstm", bidirectional=True):
        got = f"got {layer.num_layers} and {layer.directions}"
        with pytest.raises(ValueError, match=f"expected 1 layer and 1 direction, {got}"):
            convert.to_cs231n(layer)
    with pytest.raises(TypeError, match="state_dict: expected a mapping of names to arrays, got list"):
        convert.from_pytorch([])
    with pytest.raises(TypeError, match="bidirectional: expected True or False"):
        convert.from_keras([], "lstm", bidirectional=2)


def flat(tree: Any) -> dict[str, np.ndarray]:
    """Arrays in lists and mappings, by where they are."""
    if isinstance(tree, dict | list | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {f"{name}/{inner}".rstrip("/"): a for name, value in items for inner, a in flat(value).items()}
    return {"": tree}


def keras_call(given: dict[str, Any]) -> Any:
    return convert.from_keras([given[str(k)] for k in range(len(given))], "gru", bidirectional=True)


def onnx_call(given: dict[str, Any]) -> Any:
    of = [[given.get(f"{kind}/{k}") for k in range(2)] for kind in range(3)]
    return convert.from_onnx(*of, cell="lstm")


def flax_call(given: dict[str, Any]) -> Any:
    cells: list[Any] = [{} for _ in range(2)]
    for path, array in given.items():
        k, name, kind = path.split("/")
        cells[int(k)].setdefault(name, {})[kind] = array
    return convert.from_flax(cells, "gru", bidirectional=True)


def pytorch_of() -> dict[str, np.ndarray]:
    return convert.to_pytorch(new("lstm", 2, True), "a.")


# what reads, what is read, and what an error calls an entry
READERS: dict[str, tuple[Callable[[dict[str, Any]], Any], Callable[[], Any], Callable[[str], str]]] = {
    "from_pytorch": (lambda given: convert.from_pytorch(given, prefix="a."), pytorch_of, str),
    "load_pytorch": (lambda given: convert.load_pytorch(new("lstm", 2, True), given, "a."), pytorch_of, str),
    "keras": (keras_call, lambda: convert.to_keras(new("gru", 2, True)), lambda name: f"weights[{name}] ("),
    "onnx": (
        onnx_call,
        lambda: convert.to_onnx(new("lstm", 2, True)),
        lambda name: f"{'WRB'[int(name[0])]}[{name[2]}]",
    ),
    "flax": (flax_call, lambda: convert.to_flax(new("gru", 1, True)), lambda name: f"[{name[0]}]{name[1:]}"),
}


# entries that tell D, where the others cannot tell that it is another
ONLY_D = {
    ("from_pytorch", "wider", "a.weight_ih_l0"),
    ("from_pytorch", "wider", "a.weight_ih_l0_reverse"),
    ("keras", "longer", "0"),
    ("keras", "longer", "3"),
    ("onnx", "wider", "0/0"),
}


@pytest.mark.parametrize("reader", READERS)
def test_each_entry_that_is_wrong_is_named(reader: str) -> None:
    read, make, name_of = READERS[reader]
    whole = flat(make())
    read(dict(whole))
    changes: dict[str, Callable[[Any], Any]] = {
        "wider": lambda a: np.zeros((*a.shape[:-1], a.shape[-1] + 1)),
        "longer": lambda a: np.zeros((len(a) + 1, *a.shape[1:])),
        "of one more axis": lambda a: a[None],
        "a number": lambda a: np.float64(3),
        "of integers": lambda a: a.astype(int),
        "no array": lambda a: [[1.0], [1.0, 2.0]],
    }
    if reader != "keras":  # in a list, what is missing is at the end
        changes["missing"] = lambda a: None
    for change, function in changes.items():
        for name, array in whole.items():
            given = whole | {name: function(array)}
            if given[name] is None:
                del given[name]
            if (reader, change, name) in ONLY_D:
                continue
            with pytest.raises(ValueError, match="expected other entries") as error:
                read(given)
            lines = str(error.value).splitlines()[1:]
            assert len(lines) == 1, (change, name, lines)
            assert lines[0].startswith(f"  {name_of(name)}"), change
            if change == "missing":
                assert lines[0].endswith("got none")
            if change in ("wider", "longer", "of one more axis"):
                shape = ", ".join(map(str, given[name].shape)) + "," * (given[name].ndim == 1)
                assert lines[0].endswith(f"got ({shape}) of float64")
            if change != "missing" and (reader, "wider", name) not in ONLY_D:
                want = ", ".join(map(str, array.shape)) + "," * (array.ndim == 1)
                assert f"expected ({want}) of float64" in lines[0], change


def test_all_that_is_wrong_is_listed_and_nothing_is_loaded(assert_same_bits: Any) -> None:
    layer = new("gru", 2)
    before = layer.vector.copy()
    given = random_as(convert.to_pytorch(layer))
    given["weight_ih_l0"] = np.zeros((12, 5))
    given["bias_hh_l1"] = given["bias_hh_l1"].astype(np.int32)
    del given["weight_hh_l1"]
    given["weight_ih_l2"] = np.zeros((12, 4))
    given["fc.weight"] = np.zeros(())
    with pytest.raises(ValueError, match="state_dict") as error:
        convert.load_pytorch(layer, given)
    assert str(error.value).splitlines() == [
        "state_dict: expected other entries:",
        "  weight_ih_l0: expected (12, 3) of float64, got (12, 5) of float64",
        "  weight_hh_l1: expected (12, 4) of float64, got none",
        "  bias_hh_l1: expected (12,) of float64, got (12,) of int32",
        "  weight_ih_l2: expected none, got (12, 4) of float64",
        "  fc.weight: expected none, got () of float64",
    ]
    assert_same_bits(layer.vector, before)
    given["fc.weight"] = np.zeros((10**4, 1))
    with pytest.raises(ValueError, match="state_dict") as error:
        convert.from_pytorch(given)
    named = [line.split(":")[0].strip() for line in str(error.value).splitlines()[1:]]
    of_two = ["weight_hh_l2", "bias_ih_l2", "bias_hh_l2"]  # there would be a third layer, and D would be 5
    assert named == ["weight_hh_l1", "bias_hh_l1", *of_two, "fc.weight"]


def test_a_state_dict_that_tells_too_little() -> None:
    weights = convert.to_pytorch(new("lstm"))
    with pytest.raises(ValueError, match=r"weight_ih_l0: expected \(16, D\) of float64, got none$"):
        convert.from_pytorch({name: a for name, a in weights.items() if name != "weight_ih_l0"})
    with pytest.raises(
        ValueError, match=r"expected a\.weight_hh_l0, \(G\*H, H\) with G = 1, 3 or 4 .*, got none among"
    ):
        convert.from_pytorch(weights, prefix="a.")
    for shape in (18, 4), (16, 0), (16,), (8, 4), ():
        with pytest.raises(ValueError, match=re.escape("expected weight_hh_l0, (G*H, H) with G = 1, 3 or 4")) as error:
            convert.from_pytorch({"weight_ih_l0": np.zeros((18, 3)), "weight_hh_l0": np.zeros(shape)})
        assert str(error.value).endswith(f"got {{'weight_hh_l0': {shape}}} among ['weight_ih_l0', 'weight_hh_l0']")
    with pytest.raises(ValueError, match=r"weight_ih_l0: expected \(4\*H, D\) of float32, got none"):
        convert.from_pytorch({}, cell="lstm")
    with pytest.raises(ValueError, match=r"weights\[1\] \(recurrent_kernel_l0\): expected \(H, 3\*H\) of float32"):
        convert.from_keras([], "gru")
    with pytest.raises(ValueError, match=r"W\[0\]: expected \(1, H, D\) of float32, got none"):
        convert.from_onnx([], [], cell="rnn_tanh")
    with pytest.raises(ValueError, match=r"\[0\]/ii/kernel: expected \(D, H\) of float32, got none"):
        convert.from_flax([], "lstm")
    with pytest.raises(ValueError, match=r"\[0\]/ii/: expected none"):
        convert.from_flax({"ii": np.zeros(3)}, "lstm")
    for name in "weight_ih_l999999", "weight_ih_l" + "9" * 5000, "bias_ih_l٣":  # of no such layer
        with pytest.raises(ValueError, match=f"{name}: expected none, got") as error:
            convert.from_pytorch(weights | {name: weights["weight_ih_l0"]})
        assert str(error.value).count("\n") < 30
    empty = {"weight_ih_l0": np.zeros((16, 0)), "weight_hh_l0": np.zeros((16, 4))}
    with pytest.raises(ValueError, match=r"weight_ih_l0: expected \(16, D\) of float64, got \(16, 0\)"):
        convert.from_pytorch(empty)


def test_projections_are_refused() -> None:
    given = convert.to_pytorch(new("lstm", bidirectional=True), "a.")
    given |= {"a.weight_hr_l0": np.ones((2, 4)), "a.weight_hr_l0_reverse": np.ones((2, 4))}
    message = re.escape("state_dict: expected no LSTM with proj_size, got a.weight_hr_l0, a.weight_hr_l0_reverse")
    with pytest.raises(ValueError, match=message):
        convert.from_pytorch(given, prefix="a.")
    with pytest.raises(ValueError, match=message):
        convert.load_pytorch(new("lstm", bidirectional=True), given, "a.")


@pytest.mark.parametrize(
    ("cell", "given", "allowed"),
    [("gru", None, "0 or 1"), ("gru", 2, "0 or 1"), ("gru_reset_before", 1, "0 or None"), ("lstm", 1, "0 or None")],
)
def test_linear_before_reset(cell: str, given: Any, allowed: str) -> None:
    arrays = convert.to_onnx(new(cell))
    with pytest.raises(ValueError, match=f"linear_before_reset: expected {allowed} for {cell}, got {given}"):
        convert.from_onnx(*arrays, cell=cell, linear_before_reset=given)
    if cell != "gru":
        assert convert.from_onnx(*arrays, cell=cell, linear_before_reset=0).cell == cell


def test_one_layer_of_onnx_needs_no_list(assert_same_bits: Any) -> None:
    layer = new("lstm", bidirectional=True)
    W, R, B = (arrays[0] for arrays in convert.to_onnx(layer))
    same(convert.from_onnx(W, R, B, cell="lstm"), layer, assert_same_bits)
    with pytest.raises(
        ValueError, match=r"entries:\n  B\[0\]: expected \(1, 32\) of float64, got \(2, 32\) of float64$"
    ):
        convert.from_onnx(W[:1], R[:1], B, cell="lstm")


# ---- files


def network(**options: Any) -> Any:
    return fill(rnnfast.Network(7, H, 2, embedding_size=D, num_layers=2, bidirectional=True, **options))


MODULES: dict[str, Callable[[], Any]] = {
    "lstm": lambda: new("lstm", 3, True),
    "gru": lambda: new("gru", 2, dtype=np.float32),
    "rnn_relu": lambda: new("rnn_relu", bias=False),
    "dense": lambda: fill(rnnfast.Dense(3, 5)),
    "embedding": lambda: fill(rnnfast.Embedding(6, 2, dtype=np.float64)),
    "network": network,
    "conditioned": lambda: network(cell="gru", condition_size=2, dtype=np.float64),
    "several": lambda: fill(rnnfast.Network((5, 6), H, 2, embedding_size=(2, 3), cell="rnn_tanh")),
}


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("prefix", ["", "model.part."])
def test_files_there_and_back(kind: str, prefix: str, tmp_path: Path, assert_same_bits: Any) -> None:
    path = tmp_path / "file.safetensors"
    module, other = MODULES[kind](), MODULES[kind]()
    before = module.vector.copy()
    convert.save(path, module, prefix)
    assert_same_bits(module.vector, before)
    other.vector[...] = 0
    convert.load(path, other, prefix)
    assert_same_bits(other.vector, before)
    written = convert.to_pytorch(module, prefix)
    for name, array in load_file(path).items():
        assert_same_bits(array, written[name], name)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_names_in_files() -> None:
    names = [*convert.to_pytorch(network(condition_size=2), "a.")]
    assert names[:2] == ["a.embedding.weight", "a.recurrent.weight_ih_l0"]
    assert names[-4:] == ["a.condition.weight", "a.condition.bias", "a.dense.weight", "a.dense.bias"]
    assert "a.recurrent.bias_hh_l1_reverse" in names


def torch_network(torch: Any) -> Any:
    class Module(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(7, D)
            self.recurrent = torch.nn.LSTM(D, H, 2, batch_first=True, bidirectional=True)
            self.dense = torch.nn.Linear(2 * H, 2)

        def forward(self, ids: Any) -> Any:
            _, (h, _) = self.recurrent(self.embedding(ids))
            return self.dense(torch.cat([h[-2], h[-1]], 1))

    torch.manual_seed(5)
    return Module()


def test_files_of_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    files = pytest.importorskip("safetensors.torch")
    path, ids = tmp_path / "file.safetensors", np.random.default_rng(2).integers(0, 7, (N, T))
    for dtype, bound in (np.float32, 1e-5), (np.float64, 1e-12):
        module = torch_network(torch).to(getattr(torch, np.dtype(dtype).name))
        mine = network(dtype=dtype)
        convert.save(path, mine)
        module.load_state_dict(files.load_file(path))
        with torch.no_grad():
            agree(mine.forward(ids), module(torch.from_numpy(ids)), bound)
            for parameter in module.parameters():
                parameter.uniform_(-0.8, 0.9)
            files.save_file(module.state_dict(), path)
            convert.load(path, mine)
            agree(mine.forward(ids), module(torch.from_numpy(ids)), bound)
    part = rnnfast.LSTM(D, H, 2, bidirectional=True, dtype=np.float64)
    convert.load(path, part, "recurrent.")
    assert (part.vector == mine.recurrent.vector).all()


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_files_of_16_bits_of_pytorch(half: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    files = pytest.importorskip("safetensors.torch")
    module = torch_network(torch).to(getattr(torch, half))
    files.save_file(module.state_dict(), tmp_path / "file")
    for dtype in np.float32, np.float64:
        mine, exact = network(dtype=dtype), network(dtype=dtype)
        convert.load(tmp_path / "file", mine)
        convert.load_pytorch(exact, {name: value.to(torch.float32) for name, value in module.state_dict().items()})
        assert (mine.vector == exact.vector).all()
    convert.load_pytorch(mine, module.state_dict())  # NumPy cannot read tensors of bfloat16
    assert (mine.vector == exact.vector).all()
    convert.load_pytorch(mine, dict(module.named_parameters()))  # with gradients
    assert (mine.vector == exact.vector).all()


def test_every_number_of_16_bits_is_read(tmp_path: Path) -> None:
    bits = np.arange(2**16, dtype="<u2")
    for kind in "F16", "BF16":
        header = json.dumps({"weight": {"dtype": kind, "shape": [2**16, 1], "data_offsets": [0, 2**17]}}).encode()
        (tmp_path / "file").write_bytes(len(header).to_bytes(8, "little") + header + bits.tobytes())
        sign, e, m = bits >> 15, (bits >> 10) & 31, bits & 1023
        top, bias, width = 31, 15, 10
        if kind == "BF16":
            e, m, top, bias, width = (bits >> 7) & 255, bits & 127, 255, 127, 7
        e, m = e.astype(int), m.astype(float)
        value = np.where(e == 0, m / 2**width * 2.0 ** (1 - bias), (1 + m / 2**width) * 2.0 ** (e - bias))
        value = np.where(e == top, np.where(m == 0, np.inf, np.nan), value) * np.where(sign, -1, 1)
        for dtype in np.float32, np.float64:  # some of the NaN are signalling ones
            layer = rnnfast.Embedding(2**16, 1, dtype=dtype)
            convert.load(tmp_path / "file", layer)
            np.testing.assert_array_equal(layer.vector, value.astype(dtype))
            there = ~np.isnan(value)
            np.testing.assert_array_equal(np.signbit(layer.vector[there]), sign[there] == 1)


def test_files_that_do_not_fit(tmp_path: Path, assert_same_bits: Any) -> None:
    path, layer = tmp_path / "file", new("lstm", dtype=np.float32)
    before = layer.vector.copy()
    arrays = convert.to_pytorch(fill(new("lstm", dtype=np.float32), 1))

    def fails(match: str, error: type[Exception] = ModelFileError, prefix: str = "") -> str:
        with pytest.raises(error, match=match) as caught:
            convert.load(path, layer, prefix)
        assert_same_bits(layer.vector, before)
        assert str(caught.value).startswith(f"{path}: expected ")
        return str(caught.value)

    fails("expected a model file, found none", FileNotFoundError)
    path.mkdir()
    fails("expected a model file, found a folder", FileNotFoundError)
    path.rmdir()
    for data in b"", b"\xff" * 100, b"PK\x03\x04" + b"0" * 50:
        path.write_bytes(data)
        fails("expected a safetensors file, got one that cannot be read")
    save_file({name: array.astype(np.float64) for name, array in arrays.items()}, path)
    assert fails("weight_ih_l0: expected .* of float32, got .* of float64").count("\n") == 4
    wrong = {"extra": np.zeros(2, np.float32), "weight_ih_l0": np.zeros((16, 2), np.float32)}
    save_file({name: a for name, a in (arrays | wrong).items() if name != "bias_hh_l0"}, path)
    assert fails("expected other entries").splitlines()[1:] == [
        "  weight_ih_l0: expected (16, 3) of float32, got (16, 2) of float32",
        "  bias_hh_l0: expected (16,) of float32, got none",
        "  extra: expected none, got (2,) of float32",
    ]
    fails("a.weight_ih_l0: expected .*, got none", prefix="a.")
    save_file({f"a.{name}": a for name, a in arrays.items()} | {"steps": np.arange(3), "a.ids": np.arange(2)}, path)
    fails(r"expected entries of F64, F32, F16, BF16, got a\.ids of I64$", prefix="a.")
    save_file({f"a.{name}": a for name, a in arrays.items()} | {"steps": np.arange(3)}, path)
    convert.load(path, layer, "a.")
    assert (layer.parameters["Wx_l0"] == arrays["weight_ih_l0"].T).all()


def test_every_cut_of_a_file(tmp_path: Path) -> None:
    layer = rnnfast.RNN(2, 1)
    convert.save(tmp_path / "whole", layer)
    data = (tmp_path / "whole").read_bytes()
    assert json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"] == {"format": "pt"}
    for size in range(len(data)):
        (tmp_path / "cut").write_bytes(data[:size])
        with pytest.raises(ModelFileError, match="cut: expected"):
            convert.load(tmp_path / "cut", layer)


def test_a_failing_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"could not write .*; what stood there is unchanged"):
        convert.save(path, new("lstm"))
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_a_network_with_a_wrong_part_is_left_as_it_was(assert_same_bits: Any) -> None:
    module = network()
    before = module.vector.copy()
    given = convert.to_pytorch(fill(network(), 1))
    given["dense.bias"] = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match=r"dense.bias: expected \(2,\) of float32, got \(3,\) of float32"):
        convert.load_pytorch(module, given)
    assert_same_bits(module.vector, before)


def test_no_framework_is_imported(run_program: Any) -> None:
    assert run_program("frameworks") == ["[]"]


def frameworks() -> None:
    import sys

    convert.from_keras(convert.to_keras(new("lstm")), "lstm")
    print([name for name in ("torch", "keras", "onnx", "flax", "jax", "tensorflow") if name in sys.modules])


if __name__ == "__main__":
    import sys

    globals()[sys.argv[1]]()


def test_every_cell_is_known_or_refused() -> None:
    """A new cell must be thought of here, or every converter would write it in an order of nobody's."""
    assert set(rnnfast.layouts.CELLS) == set(rnnfast.cells())


def test_what_the_weights_tell_is_not_given() -> None:
    state = convert.to_pytorch(rnnfast.GRU(3, 4))
    for name in ("hidden_size", "num_layers", "bias", "reset_after", "activation", "bidirectional", "recurrent_init"):
        with pytest.raises(TypeError, match=f"{name}: expected none of input_size, .*: the weights tell them"):
            convert.from_pytorch(state, **{name: 1})
    with pytest.raises(TypeError, match="weights: expected a list of arrays, got NoneType"):
        convert.from_keras(None, "lstm")  # type: ignore[arg-type]
    for cells in (None, [3], "cells"):
        with pytest.raises(TypeError, match="cells: expected a mapping of one cell, or a list of mappings"):
            convert.from_flax(cells, "lstm")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="prefix: expected a str, got 3"):
        convert.to_pytorch(rnnfast.GRU(3, 4), prefix=3)  # type: ignore[arg-type]
