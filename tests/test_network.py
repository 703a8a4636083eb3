"""layers.py, the rest: Embedding, Dense and Network against central differences, hand computation and the reference."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import Dense, Embedding, Network

N, T, V, D, H, K = 3, 4, 5, 2, 3, 2
LENGTHS = np.array([4, 0, 2])
IDS = np.array([[0, 4, 2, 4], [-9, 77, 5, 5], [3, 0, 99, -1]])  # anything past a length
CELLS = rnnfast.cells()


def numbers(*shape: int, seed: int = 2) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def slope(loss: Any, vector: np.ndarray, step: float = 1e-5) -> np.ndarray:
    result = np.zeros_like(vector)
    for i in range(len(vector)):
        value = vector[i]
        vector[i] = value + step
        high = loss()
        vector[i] = value - step
        result[i] = (high - loss()) / (2 * step)
        vector[i] = value
    return result


def assert_gradient(actual: np.ndarray, expected: np.ndarray) -> None:
    scale = max(float(np.max(np.abs(expected))), 0.1)
    assert float(np.max(np.abs(actual - expected))) / scale <= 1e-7


def make(cell: str = "lstm", **options: Any) -> Network:
    network = Network(V if "embedding_size" in options else D, H, K, cell=cell, dtype=np.float64, seed=0, **options)
    network.vector[...] = numbers(network.vector.size) * 0.6
    return network


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_embedding(dtype: Any) -> None:
    layer = Embedding(V, 3, dtype=dtype, seed=0)
    E = layer.parameters["E"]
    out = layer.forward(IDS, lengths=LENGTHS, training=True)
    assert out.dtype == dtype
    assert out[0].tolist() == [E[i].tolist() for i in (0, 4, 2, 4)]
    assert out[2].tolist() == [E[3].tolist(), E[0].tolist(), [0.0] * 3, [0.0] * 3]
    assert not out[1].any()
    d = np.arange(36, dtype=dtype).reshape(3, 4, 3)
    d[np.arange(T) >= LENGTHS[:, None]] = np.nan
    layer.gradient_vector[...] = 99
    layer.backward(d)
    expected = np.stack([d[0, 0] + d[2, 1], [0, 0, 0], d[0, 2], d[2, 0], d[0, 1] + d[0, 3]])
    assert layer.gradients["E"].tolist() == expected.tolist()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint32", "int64", "uint64", ">i4"])
def test_embedding_takes_every_integer(dtype: str) -> None:
    layer = Embedding(V, 2, dtype=np.float64, seed=0)
    layer.forward(np.array([[0, 1, 0]], dtype), training=True)
    layer.backward(np.ones((1, 3, 2)))
    assert layer.gradients["E"].tolist() == [[2.0, 2.0], [1.0, 1.0], [0, 0], [0, 0], [0, 0]]


@pytest.mark.parametrize("shape", [(6,), (2, 5), (2, 3, 4), (0,), (0, 3)])
def test_dense(shape: tuple[int, ...]) -> None:
    layer = Dense(4, 3, dtype=np.float64, seed=0)
    layer.parameters["b"][...] = [1.0, -2.0, 3.0]
    x, d = numbers(*shape, 4), numbers(*shape, 3, seed=3)
    W, b = layer.parameters["W"], layer.parameters["b"]
    y = layer.forward(x, training=True)
    np.testing.assert_allclose(y, np.einsum("...d,dk->...k", x, W) + b, rtol=1e-13, atol=1e-13)
    dx = layer.backward(d)
    assert dx.shape == x.shape
    assert_gradient(layer.gradient_vector, slope(lambda: np.sum(d * layer.forward(x)), layer.vector))
    np.testing.assert_allclose(dx, np.einsum("...k,dk->...d", d, W), rtol=1e-13, atol=1e-13)


def test_initialisation() -> None:
    dense = Dense(200, 100, seed=0)
    limit = np.sqrt(6 / 300)
    assert 0.99 * limit < np.abs(dense.parameters["W"]).max() <= limit
    assert not dense.parameters["b"].any()
    E = Embedding(300, 100, seed=0).parameters["E"]
    assert abs(float(E.std()) - 0.4) < 5 * 0.4 / np.sqrt(2 * E.size)
    assert abs(float(E.mean())) < 5 * 0.4 / np.sqrt(E.size)
    for kind in (lambda seed: Dense(4, 3, seed=seed), lambda seed: Embedding(4, 3, seed=seed),
                 lambda seed: Network(4, 3, 2, embedding_size=2, seed=seed)):  # fmt: skip
        assert kind(1).vector.tobytes() == kind(1).vector.tobytes()
        assert kind(1).vector.tobytes() != kind(2).vector.tobytes()


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("embedding_size", [None, 0, 3])
@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients(cell: str, per_step: bool, embedding_size: int | None, bidirectional: bool) -> None:
    options = {} if embedding_size is None else {"embedding_size": embedding_size}
    network = make(cell, num_layers=2, bidirectional=bidirectional, per_step=per_step, **options)
    x = numbers(N, T, D) if embedding_size is None else IDS
    d = numbers(N, T, K) if per_step else numbers(N, K)
    if per_step:  # the gradient of a loss is 0 at padded steps
        d[np.arange(T) >= LENGTHS[:, None]] = 0
    network.gradient_vector[...] = 99
    network.forward(x, lengths=LENGTHS, training=True)
    network.backward(d)
    assert_gradient(
        network.gradient_vector, slope(lambda: np.sum(d * network.forward(x, lengths=LENGTHS)), network.vector)
    )


@pytest.mark.parametrize("per_step", [False, True])
def test_gradients_under_dropout(per_step: bool) -> None:
    network = make(num_layers=2, bidirectional=True, per_step=per_step, embedding_size=3, dropout=0.4)
    d = numbers(N, T, K) if per_step else numbers(N, K)
    if per_step:
        d[np.arange(T) >= LENGTHS[:, None]] = 0
    masks = network.rng.bit_generator.state

    def forward() -> np.ndarray:
        network.rng.bit_generator.state = masks
        return network.forward(IDS, lengths=LENGTHS, training=True)

    forward()
    network.backward(d)
    gradient = network.gradient_vector.copy()
    assert_gradient(gradient, slope(lambda: np.sum(d * forward()), network.vector))


def test_dropout_is_off_in_inference_and_follows_the_seed(assert_same_bits: Any) -> None:
    plain, dropping = (Network(V, H, K, embedding_size=3, num_layers=2, dropout=p, seed=0) for p in (0.0, 0.5))
    assert_same_bits(dropping.forward(IDS, lengths=LENGTHS), plain.forward(IDS, lengths=LENGTHS))
    runs = []
    for _ in range(2):
        network = Network(V, H, K, embedding_size=3, num_layers=2, dropout=0.5, seed=0)
        runs.append([network.forward(IDS, lengths=LENGTHS, training=True) for _ in range(2)])
    assert_same_bits(runs[0][0], runs[1][0])
    assert_same_bits(runs[0][1], runs[1][1])
    assert not np.array_equal(runs[0][0], runs[0][1])


@pytest.mark.parametrize("per_step", [False, True])
def test_dropout_on_the_embedding_and_before_the_dense_layer(per_step: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    network = make(embedding_size=3, dropout=1 - 1e-9, per_step=per_step)  # every mask is 0
    seen = []
    forward = network.recurrent.forward

    def spy(x: Any, *rest: Any, **options: Any) -> Any:
        seen.append(x.copy())
        return forward(x, *rest, **options)

    monkeypatch.setattr(network.recurrent, "forward", spy)
    y = network.forward(IDS, lengths=LENGTHS, training=True)
    assert not seen[0].any()
    assert (y == network.dense.parameters["b"]).all()
    network.forward(IDS, lengths=LENGTHS)
    assert seen[1].any()


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_one_hot_words_are_explicit_features(cell: str, per_step: bool, assert_close: Any) -> None:
    network = make(cell, embedding_size=0, per_step=per_step, bidirectional=True)
    twin = Network(V, H, K, cell=cell, dtype=np.float64, per_step=per_step, bidirectional=True)
    twin.vector[...] = network.vector
    d = numbers(N, T, K) if per_step else numbers(N, K)
    y = network.forward(IDS, lengths=LENGTHS, training=True)
    features = rnnfast.one_hot(IDS, V, lengths=LENGTHS, dtype=np.float64)
    assert_close(y, twin.forward(features, lengths=LENGTHS, training=True), 100)
    network.backward(d)
    twin.backward(d)
    assert_close(network.gradient_vector, twin.gradient_vector, 100)


@pytest.mark.parametrize("cell", ["rnn_relu", "lstm", "gru"])
def test_outputs_are_those_of_the_reference(cell: str, assert_close: Any) -> None:
    """Many to one reads the final state of the top layer in both directions, many to many its every step."""
    x = numbers(N, T, D)
    for per_step in (False, True):
        network = make(cell, bidirectional=True, num_layers=2, per_step=per_step)
        p = network.recurrent.parameters
        h: Any = x
        for k in range(2):
            walks = [
                rnnfast.reference.forward(
                    cell, h, *(p[f"{n}_l{k}{s}"] for n in ("Wx", "Wh", "b")), lengths=LENGTHS, reverse=s != ""
                )
                for s in ("", "_reverse")
            ]
            h = np.concatenate([w.h for w in walks], axis=2)
        read = h if per_step else np.concatenate([w.state[0] for w in walks], axis=1)
        expected = read @ network.dense.parameters["W"] + network.dense.parameters["b"]
        assert_close(network.forward(x, lengths=LENGTHS), expected, 1000)


@pytest.mark.parametrize("cell", CELLS)
def test_state_carries_over(cell: str, assert_same_bits: Any) -> None:
    network = make(cell, num_layers=2, per_step=True)
    x = numbers(N, 6, D)
    whole = network.forward(x)
    state = network.state
    first = network.forward(x[:, :2])
    second = network.forward(x[:, 2:], state=network.state)
    assert_same_bits(np.concatenate([first, second], axis=1), whole)
    for now, then in zip(network.state, state, strict=True):
        assert_same_bits(now, then)


def test_layers_share_one_vector() -> None:
    network = make(embedding_size=3, num_layers=2)
    layers = [network.embedding, network.recurrent, network.dense]
    assert network.vector.size == sum(layer.size for layer in layers) == network.gradient_vector.size
    names = network.named_parameters()
    assert {"embedding.E", "recurrent.Wx_l0", "recurrent.Wh_l1", "recurrent.b_l1", "dense.W", "dense.b"} <= set(names)
    for value, (name, array) in enumerate(names.items()):
        array[...] = value + 1
        assert (network.vector == value + 1).sum() == array.size, name
    network.vector[...] = 5
    assert all((array == 5).all() for array in names.values())
    network.forward(IDS, lengths=LENGTHS, training=True)
    network.gradient_vector[...] = np.nan
    network.backward(numbers(N, K))
    assert np.isfinite(network.gradient_vector).all()


def test_a_copy_learns_on_its_own(assert_same_bits: Any) -> None:
    network = make(embedding_size=3)
    twin = copy.deepcopy(network)
    before = network.vector.copy()
    x = [np.array([4, 0]), np.array([2, 3, 1])]
    for model in (network, twin):
        rnnfast.fit(model, x, [0, 1], max_epochs=2, optimizer=rnnfast.Adam(0.1), seed=0)
        assert not np.array_equal(model.vector, before)
    assert_same_bits(twin.vector, network.vector)
    assert not np.shares_memory(twin.vector, network.vector)


ERRORS = [
    (lambda: Embedding(0, 3), ValueError, "vocabulary_size: expected a positive integer, got 0"),
    (lambda: Embedding(3, "4"), TypeError, "embedding_size: expected a positive integer, got '4'"),
    (lambda: Embedding(3, 4, dtype="int8"), TypeError, "dtype: expected float32 or float64, got int8"),
    (lambda: Embedding(3, 4).forward([1, 2]), TypeError, "ids: expected (N, T) integers, got (2,) of int64"),
    (lambda: Embedding(3, 4).forward([[1.0]]), TypeError, "ids: expected (N, T) integers, got (1, 1) of float64"),
    (
        lambda: Embedding(3, 4).forward([[0, 1], [2, 3]]),
        ValueError,
        "ids[1, 1] = 3: expected a token id in [0, vocabulary_size) = [0, 3)",
    ),
    (lambda: Embedding(3, 4).forward([[0, 1], [-1, 3]], lengths=[2, 1]), ValueError, "ids[1, 0] = -1"),
    (
        lambda: Embedding(3, 4).forward([[0, 1]], lengths=[1, 1]),
        ValueError,
        "lengths: expected (N,) = (1,) integers, got (2,) of int64",
    ),
    (lambda: Embedding(3, 4).forward([[0, 1]], lengths=[0.5]), ValueError, "integers, got (1,) of float64"),
    (
        lambda: Embedding(3, 4).forward([[0, 1]], lengths=[3]),
        ValueError,
        "lengths[0] = 3: expected a length in 0..T = 0..2",
    ),
    (lambda: Embedding(3, 4).backward(np.zeros((1, 1, 4))), RuntimeError, "backward: expected a forward pass"),
    (lambda: Dense(4, 0), ValueError, "output_size: expected a positive integer, got 0"),
    (
        lambda: Dense(4, 3).forward(np.zeros((2, 5), np.float32)),
        ValueError,
        "x: expected (..., input_size) = (..., 4) of float32, got (2, 5) of float32",
    ),
    (lambda: Dense(4, 3).forward(np.zeros((2, 4))), ValueError, "got (2, 4) of float64"),
    (lambda: Dense(4, 3).forward(np.float32(1)), ValueError, "got () of float32"),
    (
        lambda: Dense(4, 3).forward(np.zeros((2, 4), np.float32), lengths=[1, 1]),
        ValueError,
        "lengths: expected None unless x is (N, T, input_size), got x of (2, 4)",
    ),
    (
        lambda: Dense(4, 3).forward(np.zeros((2, 5, 4), np.float32), lengths=[1, 6]),
        ValueError,
        "lengths[1] = 6: expected a length in 0..T = 0..5",
    ),
    (lambda: Dense(4, 3).backward(np.zeros((2, 3))), RuntimeError, "backward: expected a forward pass"),
    (lambda: Network(4, 3, 0), ValueError, "output_size: expected a positive integer, got 0"),
    (lambda: Network(4, 3, 2, embedding_size=-1), ValueError, "embedding_size: expected a positive integer, got -1"),
    (lambda: Network(4, 3, 2, dropout=1), ValueError, "dropout: expected 0 <= p < 1, got 1"),
    (lambda: Network(4, 3, 2, cell="elman"), ValueError, "got 'elman'"),
    (lambda: Network(4, 3, 2, dtype="float16"), TypeError, "dtype: expected float32 or float64, got float16"),
    (lambda: Network(4, 3, 2).backward(np.zeros((1, 2), np.float32)), RuntimeError, "expected a forward pass"),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_errors_of_backward() -> None:
    embedding, dense = Embedding(3, 4), Dense(4, 3)
    embedding.forward([[0, 1]], training=True)
    with pytest.raises(ValueError, match=re.escape("d: expected (N, T, embedding_size) = (1, 2, 4), got (1, 2, 3)")):
        embedding.backward(np.zeros((1, 2, 3), np.float32))
    dense.forward(np.zeros((2, 4), np.float32), training=True)
    with pytest.raises(ValueError, match=re.escape("d: expected (..., output_size) = (2, 3), got (6,)")):
        dense.backward(np.zeros(6, np.float32))
    with pytest.raises(TypeError, match="d: expected float32, got float64"):
        dense.backward(np.zeros((2, 3)))
    network = make()
    network.forward(numbers(N, T, D), training=True)
    network.forward(numbers(N, T, D))
    with pytest.raises(RuntimeError, match="expected a forward pass with training=True"):
        network.backward(np.zeros((N, K)))


def test_a_shallow_copy_is_whole() -> None:
    """Two networks cannot share layers: each is views into one vector."""
    network = Network(V, H, K, embedding_size=D, seed=0)
    twin = copy.copy(network)
    network.vector[...] = 0
    assert not network.forward(IDS, lengths=LENGTHS).any()
    assert twin.forward(IDS, lengths=LENGTHS).any()


def _losses(network: Any, x: Any, lengths: Any, weight: Any) -> float:
    return float((network.forward(x, lengths=lengths) * weight).sum())


@pytest.mark.parametrize("cell", rnnfast.cells())
@pytest.mark.parametrize("kind", ["several ids", "condition", "condition of ids"])
@pytest.mark.parametrize("per_step", [False, True])
def test_gradients_of_several_ids_and_of_a_condition(cell: str, kind: str, per_step: bool) -> None:
    """Every parameter against central differences, ragged, two layers."""
    rng, lengths = np.random.default_rng(1), np.array([3, 1, 2])
    options: dict[str, Any] = {"cell": cell, "num_layers": 2, "per_step": per_step, "dtype": "float64", "seed": 0}
    ids: Any = rng.integers(0, 4, (3, 3, 2))
    condition = rng.normal(size=(3, 5))
    if kind == "several ids":
        network, x = rnnfast.Network([4, 5], 3, 2, embedding_size=[2, 3], bidirectional=True, **options), ids
    elif kind == "condition":
        network = rnnfast.Network(2, 3, 2, condition_size=5, **options)
        x = (rng.normal(size=(3, 3, 2)), condition)
    else:
        network = rnnfast.Network(4, 3, 2, embedding_size=3, condition_size=5, **options)
        x = (ids[:, :, 0], condition)
    network.vector[...] = rng.normal(0, 0.7, network.vector.shape)  # no zero biases
    weight = rng.normal(size=(3, 3, 2) if per_step else (3, 2))
    if per_step:
        weight *= (np.arange(3) < lengths[:, None])[:, :, None]
    network.forward(x, lengths=lengths, training=True)
    network.backward(weight)
    found, vector = network.gradient_vector.copy(), network.vector
    for k in range(len(vector)):
        value, step = vector[k], 1e-6
        vector[k] = value + step
        up = _losses(network, x, lengths, weight)
        vector[k] = value - step
        down = _losses(network, x, lengths, weight)
        vector[k] = value
        assert abs(found[k] - (up - down) / (2 * step)) <= 1e-7 * max(1.0, float(np.abs(found).max())), k


def test_a_given_state_takes_the_place_of_the_condition() -> None:
    network = rnnfast.Network(4, 3, 2, embedding_size=3, condition_size=2, per_step=True, dtype="float64", seed=0)
    x, condition = np.array([[1, 2, 3, 0]]), np.array([[1.0, -1.0]])
    whole = network.forward((x, condition))
    first = network.forward((x[:, :2], condition), training=True)
    network.backward(np.ones_like(first))
    assert np.abs(network.condition.gradients["W"]).max() > 0
    rest = network.forward((x[:, 2:], condition), state=network.state, training=True)
    np.testing.assert_array_equal(np.concatenate([first, rest], 1), whole)
    network.backward(np.ones_like(rest))
    assert np.abs(network.condition.gradients["W"]).max() == 0  # nothing of the pass before is left
    assert not np.array_equal(whole, network.forward((x, -condition)))


def test_random_initial_states_are_drawn_in_training_alone(assert_same_bits: Any) -> None:
    network = rnnfast.Network(2, 3, 2, initial_state_std=0.5, seed=0)
    x = np.ones((4, 2, 2), np.float32)
    assert_same_bits(network.forward(x), network.forward(x))
    first, second = network.forward(x, training=True), network.forward(x, training=True)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first[0], first[1])  # another one for each sequence
    again = rnnfast.Network(2, 3, 2, initial_state_std=0.5, seed=0).forward(x, training=True)
    assert_same_bits(first, again)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"input_size": [4, 5], "embedding_size": 3},
            "embedding_size: expected a positive size for each of input_size",
        ),
        ({"input_size": [4, 5], "embedding_size": [3, 0]}, "embedding_size: expected a positive size for each"),
        ({"input_size": [4], "embedding_size": None}, "embedding_size: expected a positive size for each"),
        ({"input_size": 4, "initial_state_std": -1.0}, "initial_state_std: expected a number of 0 or more, got -1.0"),
        ({"input_size": 4, "condition_size": 0}, "condition_size: expected a positive integer, got 0"),
    ],
)
def test_wrong_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        rnnfast.Network(hidden_size=3, output_size=2, **options)


def test_wrong_inputs() -> None:
    several = rnnfast.Network([4, 5], 3, 2, embedding_size=[2, 2])
    with pytest.raises(ValueError, match=re.escape("x: expected (N, T, F) = (N, T, 2) ids, got (1, 3)")):
        several.forward(np.zeros((1, 3), np.int64))
    conditional = rnnfast.Network(2, 3, 2, condition_size=4)
    with pytest.raises(ValueError, match=re.escape("x: expected a pair (x, condition), got a ndarray")):
        conditional.forward(np.zeros((1, 3, 2), np.float32))
    with pytest.raises(RuntimeError, match="condition_size"):
        several.initial_state(np.zeros((1, 2)))
