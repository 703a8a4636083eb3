"""rnnfast.onnx: what is exported runs in ONNX Runtime with equal results; what others export runs here."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rnnfast
import rnnfast.layouts

onnx = pytest.importorskip("onnx")

import rnnfast.onnx as ours  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

CELLS = rnnfast.layouts.CELLS  # that ONNX has too
LENGTHS = np.array([5, 2, 7, 1])


def runtime(model: Any) -> Any:
    return pytest.importorskip("onnxruntime").InferenceSession(model.SerializeToString())


def check(model: Any, feeds: dict[str, Any], expected: np.ndarray) -> None:
    """By ONNX Runtime and by the session here."""
    for session in (runtime(model), ours.Session(model)):
        (result,) = session.run(None, feeds)
        assert result.shape == expected.shape
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5, err_msg=type(session).__name__)


def valid(outputs: np.ndarray) -> np.ndarray:
    """0 past the lengths, where outputs are for each step."""
    steps = np.arange(7) < LENGTHS[:, None]
    return outputs * steps[:, :, None] if outputs.ndim == 3 else outputs


def network(*sizes: int, **options: Any) -> Any:
    made = rnnfast.Network(*sizes, seed=0, **options)
    made.vector[...] = np.random.default_rng(1).normal(0, 0.5, made.vector.size)  # biases too, without symmetry
    return made


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_networks(cell: str, per_step: bool) -> None:
    x = np.random.default_rng(0).normal(size=(4, 7, 3)).astype(np.float32)
    for num_layers, bidirectional in ((1, False), (3, False), (2, True)):
        model = network(3, 5, 2, cell=cell, num_layers=num_layers, bidirectional=bidirectional, per_step=per_step)
        expected = valid(model.forward(x, lengths=LENGTHS))
        padded = np.where((np.arange(7) < LENGTHS[:, None])[:, :, None], x, 77)
        check(ours.to_model(model), {"x": padded.astype(np.float32), "lengths": LENGTHS}, expected)


def test_ids_conditions_and_float64() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 9, (4, 7))
    model = network(9, 5, 2, embedding_size=4, dtype=np.float64)
    check(ours.to_model(model), {"x": ids, "lengths": LENGTHS}, model.forward(ids, lengths=LENGTHS))
    one_hot = network(9, 5, 2, embedding_size=0, per_step=True)
    expected = valid(one_hot.forward(ids, lengths=LENGTHS))
    check(ours.to_model(one_hot, ids=True), {"x": ids, "lengths": LENGTHS}, expected)
    parts = np.stack([ids, ids % 3], axis=2)
    several = network((9, 3), 5, 2, embedding_size=(4, 2), per_step=True)
    expected = valid(several.forward(parts, lengths=LENGTHS))
    check(ours.to_model(several), {"x": parts, "lengths": LENGTHS}, expected)
    for cell in ("lstm", "gru"):
        given = rng.normal(size=(4, 3)).astype(np.float32)
        model = network(9, 5, 2, cell=cell, embedding_size=4, condition_size=3, num_layers=2, bidirectional=True)
        expected = model.forward((ids, given), lengths=LENGTHS)
        check(ours.to_model(model), {"x": ids, "lengths": LENGTHS, "condition": given}, expected)


def padded(sequences: list[Any]) -> dict[str, Any]:
    T = max(map(len, sequences))
    x = np.stack([np.concatenate([s, np.zeros((T - len(s), *s.shape[1:]), s.dtype)]) for s in sequences])
    return {"x": x, "lengths": np.array([len(s) for s in sequences])}


def test_a_classifier(tmp_path: Path) -> None:
    sentences = ["a fine film", "a dull film", "fine acting throughout", "dull"] * 4
    model = rnnfast.SequenceClassifier(hidden_size=6, max_epochs=3, random_state=0, bidirectional=True)
    model.fit(sentences, ["good", "bad", "good", "bad"] * 4)
    made = ours.to_model(model)
    new = ["a fine new film", "dull"]
    feeds = padded(model.encoder_(new, np.dtype("f4")))
    check(made, feeds, model.predict_proba(new))
    ours.export(model, tmp_path / "model.onnx")
    session = ours.Session(tmp_path / "model.onnx")
    assert session.metadata["classes"] == ["bad", "good"]
    assert session.metadata["encoder"]["tokens"] == model.encoder_.describe()["tokens"]
    assert (session.input_names, session.output_names) == (["x", "lengths"], ["probabilities"])
    assert json.loads(runtime(made).get_modelmeta().custom_metadata_map["rnnfast"]) == session.metadata


def test_a_tagger_with_parts_of_words() -> None:
    X, y = [["the", "dog", "barks"], ["dogs", "bark"]] * 4, [["D", "N", "V"], ["N", "V"]] * 4
    for options in ({}, {"suffixes": (1, 2)}):
        model = rnnfast.SequenceTagger(hidden_size=6, max_epochs=2, random_state=0, **options).fit(X, y)
        new = [["the", "cat", "barks", "loud"], ["cats"]]
        feeds = padded(model._encode(new, model.encoder_, model.parts_))
        probabilities = model.predict_proba(new)
        expected = np.zeros((2, 4, len(model.classes_)), np.float32)
        expected[0], expected[1, :1] = probabilities
        check(ours.to_model(model), feeds, expected)


@pytest.mark.parametrize("per_step", [False, True])
def test_a_regressor_with_scales(per_step: bool) -> None:
    rng = np.random.default_rng(0)
    X = [(1000 + 50 * rng.normal(size=(n, 2))).astype(np.float32) for n in (5, 3, 6, 4) * 3]
    y = [3e4 + 10 * x[:, :1] if per_step else 3e4 + 10 * x[-1] for x in X]
    model = rnnfast.SequenceRegressor(hidden_size=6, max_epochs=2, random_state=0, per_step=per_step).fit(X, y)
    made, feeds = ours.to_model(model), padded(X[:2])
    found = model.predict(X[:2])
    for session in (runtime(made), ours.Session(made)):
        (result,) = session.run(["values"], feeds)
        if per_step:
            assert (result[1, 3:] == 0).all()
            result = [row[: len(x)] for row, x in zip(result, X, strict=False)]
        for a, b in zip(result, found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_sequence_of_no_steps() -> None:
    """ONNX Runtime, which leaves the state 0, agrees where no state is given."""
    x, lengths = np.ones((2, 3, 3), np.float32), np.array([3, 0])
    for cell in CELLS:
        model = network(3, 5, 2, cell=cell, bidirectional=True)
        check(ours.to_model(model), {"x": x, "lengths": lengths}, model.forward(x, lengths=lengths))


# ---- what others export


REFUSED = {"test_lstm_with_peepholes": r"node 0 \(LSTM\): input P: expected no peepholes, got P"}


def cases() -> list[Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():  # it makes the cases of all operators
        warnings.simplefilter("ignore")
        found = [case for op in ("RNN", "LSTM", "GRU") for case in collect_testcases(op)]
    assert len(found) >= 12
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_the_cases_of_onnx(case: Any) -> None:
    if case.name in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[case.name]):
            ours.Session(case.model)
        return
    session = ours.Session(case.model)
    for inputs, outputs in case.data_sets:
        results = session.run(None, dict(zip(session.input_names, inputs, strict=True)))
        for result, expected in zip(results, outputs, strict=True):
            np.testing.assert_allclose(result, expected, rtol=case.rtol, atol=case.atol)


def node_model(op: str, attributes: dict[str, Any], inputs: dict[str, Any], outputs: int = 2) -> Any:
    names = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
    places = [n if n in inputs else "" for n in names]
    while not places[-1]:
        places.pop()
    made = ["Y", "Y_h", "Y_c"][:outputs]
    node = helper.make_node(op, places, made, name="it", **attributes)
    kinds = {n: TensorProto.INT32 if n == "sequence_lens" else TensorProto.FLOAT for n in inputs}
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(n, kinds[n], a.shape) for n, a in inputs.items() if n not in ("W", "R", "B")],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in made],
        [numpy_helper.from_array(a, n) for n, a in inputs.items() if n in ("W", "R", "B")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", ["RNN", "LSTM", "GRU"])
def test_nodes_as_onnx_runtime_computes_them(op: str, direction: str) -> None:
    rng = np.random.default_rng(0)
    N, T, D, H, G, dirs = 3, 6, 4, 5, {"RNN": 1, "LSTM": 4, "GRU": 3}[op], 2 if direction == "bidirectional" else 1

    def numbers(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.7, shape).astype(np.float32)

    inputs = {"X": numbers(T, N, D), "W": numbers(dirs, G * H, D), "R": numbers(dirs, G * H, H)}
    full = inputs | {"B": numbers(dirs, 2 * G * H), "sequence_lens": np.array([6, 2, 4], np.int32)}
    full["initial_h"] = numbers(dirs, N, H)
    if op == "LSTM":
        full["initial_c"] = numbers(dirs, N, H)
    kinds: list[dict[str, Any]] = [{}]
    if op == "GRU":
        kinds = [{"linear_before_reset": k} for k in (0, 1)]
    elif op == "RNN":
        kinds = [{"activations": [a] * dirs} for a in ("Tanh", "Relu", "Sigmoid")]
    for attributes in kinds:
        for given in (inputs, full, full | {"P": np.zeros((dirs, 3 * H), np.float32)} if op == "LSTM" else full):
            model = node_model(
                op, {"hidden_size": H, "direction": direction, **attributes}, given, 3 if op == "LSTM" else 2
            )
            if "P" in given:
                model.graph.initializer.append(numpy_helper.from_array(given["P"], "P"))
                del model.graph.input[[i.name for i in model.graph.input].index("P")]
            feeds = {k: v for k, v in given.items() if k not in ("W", "R", "B", "P")}
            for a, b in zip(ours.Session(model).run(None, feeds), runtime(model).run(None, feeds), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize(
    ("op", "attributes", "message"),
    [
        ("LSTM", {"clip": 1.0}, "node it (LSTM): clip: expected none, got 1.0"),
        ("LSTM", {"input_forget": 1}, "node it (LSTM): input_forget: expected none, or input_forget = 0, got 1"),
        ("GRU", {"activations": ["Relu", "Tanh"]}, "node it (GRU): activations: expected ['Sigmoid', 'Tanh'], got"),
        ("RNN", {"activations": ["Elu"]}, "node it (RNN): activations: expected Tanh, Relu or Sigmoid for each"),
        ("RNN", {"direction": "up"}, "node it (RNN): direction: expected forward, reverse or bidirectional, got up"),
    ],
)  # fmt: skip
def test_what_the_core_lacks_is_named(op: str, attributes: dict[str, Any], message: str) -> None:
    G = {"RNN": 1, "LSTM": 4, "GRU": 3}[op]
    inputs = {"X": np.ones((2, 1, 3), np.float32), "W": np.ones((1, G * 2, 3), np.float32)}
    inputs["R"] = np.ones((1, G * 2, 2), np.float32)
    model = node_model(op, {"hidden_size": 2, **attributes}, inputs)
    with pytest.raises(ValueError, match=re.escape(message)):
        ours.Session(model)
    with pytest.raises(ValueError, match=re.escape(message)):
        ours.recurrent_layers(model)


def test_errors(tmp_path: Path) -> None:
    path = tmp_path / "no.onnx"
    for data in (b"", b"no model", ours.to_model(network(3, 4, 2)).SerializeToString()[:-40]):
        path.write_bytes(data)
        with pytest.raises(rnnfast.ModelFileError, match=re.escape(f"{path}: expected an ONNX model")):
            ours.Session(path)
    with pytest.raises(FileNotFoundError):
        ours.Session(tmp_path / "absent.onnx")
    with pytest.raises(TypeError, match=r"model: expected a path or an onnx\.ModelProto, got int"):
        ours.Session(3)
    with pytest.raises(TypeError, match=r"model: expected a Network, SequenceClassifier, .*, got LSTM"):
        ours.to_model(rnnfast.LSTM(3, 4))
    with pytest.raises(Exception, match="fit"):
        ours.to_model(rnnfast.SequenceClassifier())
    session = ours.Session(ours.to_model(network(3, 4, 2)))
    x = np.ones((1, 2, 3), np.float32)
    with pytest.raises(ValueError, match=re.escape("feeds: expected ['x', 'lengths'], got ['x']")):
        session.run(None, {"x": x})
    with pytest.raises(ValueError, match=re.escape("output_names: expected some of ['outputs'], got ['y']")):
        session.run(["y"], {"x": x, "lengths": [2]})
    unknown = helper.make_graph(
        [helper.make_node("Sorcery", ["x"], ["y"], name="a", domain="none")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(unknown, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("none", 1)])
    with pytest.raises(ValueError, match="Sorcery"):
        ours.Session(model)


@pytest.mark.parametrize("cell", [c for c in CELLS if c != "rnn_relu"])
def test_layers_of_a_model(cell: str) -> None:
    model = network(3, 5, 2, cell=cell, num_layers=2, bidirectional=True)
    first, second = ours.recurrent_layers(ours.to_model(model)).values()
    x = np.random.default_rng(0).normal(size=(4, 7, 3)).astype(np.float32)
    h, _ = first.forward(x, lengths=LENGTHS)
    h, _ = second.forward(h, lengths=LENGTHS)
    expected, _ = model.recurrent.forward(x, lengths=LENGTHS)
    np.testing.assert_allclose(h, expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_what_pytorch_exports(name: str, dynamo: bool, tmp_path: Path) -> None:
    """By both of its exporters; the newer one writes an RNN as other operators."""
    torch = pytest.importorskip("torch")
    if dynamo:
        pytest.importorskip("onnxscript")

    class Tagger(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(11, 4)
            self.recurrent = getattr(torch.nn, name)(4, 5, 2, bidirectional=True, batch_first=True)
            self.output = torch.nn.Linear(10, 3)

        def forward(self, ids: Any) -> Any:
            return self.output(self.recurrent(self.embedding(ids))[0]).softmax(-1)

    torch.manual_seed(0)
    model, ids = Tagger().eval(), torch.randint(0, 11, (3, 7))
    path = tmp_path / "torch.onnx"
    axes = {} if dynamo else {"dynamic_axes": {"ids": [0, 1]}}
    torch.onnx.export(model, (ids,), str(path), dynamo=dynamo, input_names=["ids"], **axes)
    session = ours.Session(path)
    for some in (ids, torch.randint(0, 11, (3, 7) if dynamo else (2, 9))):
        (result,) = session.run(None, {"ids": some.numpy()})
        np.testing.assert_allclose(result, model(some).detach().numpy(), atol=1e-6)
    if dynamo and name == "RNN":
        return
    layers = list(ours.recurrent_layers(path).values())
    assert [layer.cell for layer in layers] == [{"RNN": "rnn_tanh"}.get(name, name.lower())] * 2
    inputs = model.embedding(ids).detach().numpy()
    h = layers[1].forward(layers[0].forward(inputs)[0])[0]
    np.testing.assert_allclose(h, model.recurrent(model.embedding(ids))[0].detach().numpy(), atol=1e-6)


# ---- nodes inside functions and branches, and what is fed


def lstm_node(name: str, **attributes: Any) -> Any:
    return helper.make_node("LSTM", ["X", "W", "R", "B", "lengths"], ["", "Y"], name=name, hidden_size=4, **attributes)


def lstm_weights() -> list[Any]:
    rng = np.random.default_rng(0)
    shapes = {"W": (1, 16, 3), "R": (1, 16, 4), "B": (1, 32)}
    return [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), name) for name, s in shapes.items()]


def info(name: str, kind: int, *shape: Any) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


X_AND_LENGTHS = [info("X", TensorProto.FLOAT, "T", "N", 3), info("lengths", TensorProto.INT32, "N")]
FEEDS = {
    "X": np.random.default_rng(1).normal(size=(5, 3, 3)).astype(np.float32),
    "lengths": np.array([5, 2, 1], np.int32),
}


def whole(nodes: list[Any], weights: list[Any], inputs: list[Any], functions: Any = ()) -> Any:
    graph = helper.make_graph(nodes, "g", inputs, [info("Y", TensorProto.FLOAT, 1, "N", 4)], weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=8)


def in_a_function(**attributes: Any) -> Any:
    names = ["X", "W", "R", "B", "lengths"]
    body = [lstm_node("inner", **attributes)]
    function = helper.make_function("my", "Rec", names, ["Y"], body, [helper.make_opsetid("", 17)])
    return whole([helper.make_node("Rec", names, ["Y"], domain="my")], lstm_weights(), X_AND_LENGTHS, [function])


def in_branches(*more: str) -> Any:
    node = lstm_node("inner")
    node.input.extend(more)
    branches = [
        helper.make_graph([node], name, [], [info("Y", TensorProto.FLOAT, 1, "N", 4)]) for name in ("then", "else")
    ]
    choice = helper.make_node("If", ["yes"], ["Y"], then_branch=branches[0], else_branch=branches[1])
    peepholes = [numpy_helper.from_array(np.ones((1, 12), np.float32), "P")] if more else []
    inputs = [*X_AND_LENGTHS, info("yes", TensorProto.BOOL)]
    return whole([choice], lstm_weights() + peepholes, inputs)


def test_functions_and_branches_are_read() -> None:
    alone = whole([lstm_node("alone")], lstm_weights(), X_AND_LENGTHS)
    (expected,) = rnnfast.onnx.Session(alone).run(None, FEEDS)
    (found,) = rnnfast.onnx.Session(in_a_function()).run(None, FEEDS)
    np.testing.assert_array_equal(found, expected)
    (found,) = rnnfast.onnx.Session(in_branches()).run(None, FEEDS | {"yes": np.array(True)})
    np.testing.assert_array_equal(found, expected)
    for attributes in ({"clip": 0.1}, {"input_forget": 1}, {"activations": ["Sigmoid", "Relu", "Tanh"]}):
        with pytest.raises(ValueError, match=next(iter(attributes))):
            rnnfast.onnx.Session(in_a_function(**attributes))
    with pytest.raises(ValueError, match=r"inner .*no peepholes"):
        rnnfast.onnx.Session(in_branches("", "", "P"))


def test_layers_of_functions_branches_and_nodes_of_one_name() -> None:
    assert len(rnnfast.onnx.recurrent_layers(in_a_function())) == 1
    assert list(rnnfast.onnx.recurrent_layers(in_branches())) == ["inner", "inner'"]


def test_what_is_fed() -> None:
    session = rnnfast.onnx.Session(whole([lstm_node("alone")], lstm_weights(), X_AND_LENGTHS))
    with pytest.raises(TypeError, match=r"feeds\['X'\]: expected float32, got float64"):
        session.run(None, FEEDS | {"X": FEEDS["X"].astype(np.float64)})
    with pytest.raises(TypeError, match=r"feeds\['lengths'\]: expected int32, got int64"):
        session.run(None, FEEDS | {"lengths": np.array([5, 2, 1])})
    with pytest.raises(ValueError, match=r"node alone \(LSTM\): expected X of 3 dimensions, the last of 3"):
        session.run(None, FEEDS | {"X": FEEDS["X"][:, :, :2]})
    with pytest.raises(ValueError, match=r"node alone \(LSTM\): lengths"):
        session.run(None, FEEDS | {"lengths": np.array([9, 2, 1], np.int32)})
    with pytest.raises(TypeError, match="output_names: expected a list of str or None, got 'Y'"):
        session.run("Y", FEEDS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"feeds: expected \['X', 'lengths'\], got NoneType"):
        session.run(None, None)  # type: ignore[arg-type]


def test_what_is_exported(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="ids: expected"):
        rnnfast.onnx.to_model(rnnfast.Network(3, 4, 2), ids="no")  # type: ignore[arg-type]
    network = rnnfast.Network(3, 4, 2, embedding_size=2, dtype=np.float64)
    with pytest.raises(ValueError, match="ids: expected None or True for a network with an embedding"):
        rnnfast.onnx.to_model(network, ids=False)
    network.vector[0] = 1e39
    with pytest.raises(ValueError, match=r"model: expected weights that float32 can hold, got 1e\+39"):
        rnnfast.onnx.to_model(network)
    with pytest.raises(TypeError, match="path: expected a str or path, got None"):
        rnnfast.onnx.export(rnnfast.Network(3, 4, 2), None)  # type: ignore[arg-type]
    sentences, tags = [["the", "Dog", "runs"], ["a", "cat"]] * 8, [["D", "N", "V"], ["D", "N"]] * 8
    model = rnnfast.SequenceTagger(max_epochs=1, min_count=1, random_state=0).fit(sentences, tags)
    session = rnnfast.onnx.Session(rnnfast.onnx.to_model(model))
    parts = session.metadata["parts"]
    assert parts["suffixes"] == [1, 2, 3]
    assert [len(tokens) + 4 for tokens in parts["tokens"]] == [len(v) for v in model.parts_.vocabularies]
    encoded = model.encode([["the", "cat"], ["a"]])
    x = np.stack([np.pad(ids, ((0, 2 - len(ids)), (0, 0))) for ids in encoded])
    (found,) = session.run(None, {"x": x, "lengths": np.array([2, 1])})
    for row, expected in zip(found, model.predict_proba([["the", "cat"], ["a"]]), strict=True):
        np.testing.assert_allclose(row[: len(expected)], expected, atol=1e-5)
