"""layers.py, the recurrent stacks: wiring against the reference, gradients against central differences."""

from __future__ import annotations

import copy
import itertools
import pickle
import re
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import GRU, LSTM, RNN, Dense, Embedding
from rnnfast.layers import Recurrent

N, T, D, H = 3, 4, 2, 3
LENGTHS = np.array([4, 0, 2])
CELLS = rnnfast.cells()


def make(cell: str, *sizes: int, **options: Any) -> Any:
    layer = Recurrent(cell, *sizes, dtype=np.float64, seed=0, **options)
    layer.vector[...] = np.random.default_rng(1).normal(0, 0.6, layer.size)  # biases too, without symmetry
    return layer


def numbers(*shape: int, seed: int = 2) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def slopes(outputs: Any, array: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Central differences of each of outputs() with respect to each number of the array: (outputs, *shape)."""
    result = np.zeros((len(outputs()), *array.shape))
    for place in np.ndindex(array.shape):
        value = array[place]
        array[place] = value + step
        high = outputs()
        array[place] = value - step
        result[(slice(None), *place)] = (high - outputs()) / (2 * step)
        array[place] = value
    return result


def assert_gradient(name: str, actual: np.ndarray, expected: np.ndarray) -> None:
    scale = max(float(np.max(np.abs(expected))), 0.1)
    worst = float(np.max(np.abs(actual - expected))) / scale
    assert worst <= 1e-7, f"{name}: off by {worst:.2g} of {scale:.2g}"


def check_gradients(layer: Any, lengths: Any, seed: int | None = None) -> None:
    """All gradients of every subset of {dh, dstate...}; with a seed, under dropout masks that it fixes."""
    rows = layer.num_layers * layer.directions
    x = numbers(N, T, D)
    state = tuple(numbers(rows, N, H, seed=3 + k) for k in range(layer.states))
    d = [numbers(N, T, layer.directions * H, seed=5), *(numbers(rows, N, H, seed=6 + k) for k in range(layer.states))]

    def forward() -> list[np.ndarray]:
        if seed is not None:
            layer.rng = np.random.default_rng(seed)
        h, final = layer.forward(x, state, lengths=lengths, training=True)
        return [h, *final]

    def outputs() -> np.ndarray:
        return np.array([np.sum(u * o) for u, o in zip(d, forward(), strict=True)])

    inputs = {"vector": layer.vector, "x": x} | {f"state[{k}]": s for k, s in enumerate(state)}
    numeric = {name: slopes(outputs, array) for name, array in inputs.items()}
    for subset in itertools.product([False, True], repeat=len(d)):
        if not any(subset):
            continue
        forward()
        dh, *dstate = [u if used else None for u, used in zip(d, subset, strict=True)]
        dx, d_initial = layer.backward(dh, tuple(dstate) if any(subset[1:]) else None)
        actual = {"vector": layer.gradient_vector, "x": dx} | {f"state[{k}]": s for k, s in enumerate(d_initial)}
        for name, expected in numeric.items():
            assert_gradient(f"{name} of {subset}", actual[name], expected[list(subset)].sum(axis=0))


# Beyond two layers of both directions, D != H: where others gave wrong gradients.
@pytest.mark.parametrize("num_layers", [1, 2, 3, 4])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients(cell: str, bidirectional: bool, num_layers: int) -> None:
    check_gradients(make(cell, D, H, num_layers, bidirectional), LENGTHS)


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "gru"])
def test_gradients_without_lengths_or_bias(cell: str) -> None:
    check_gradients(make(cell, D, H, 2, True), None)
    check_gradients(make(cell, D, H, 2, bias=False), LENGTHS)


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "gru"])
def test_gradients_under_dropout(cell: str) -> None:
    check_gradients(make(cell, D, H, 3, True, 0.4), LENGTHS, seed=7)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_forward_is_a_stack_of_reference_layers(cell: str, bidirectional: bool, assert_close: Any) -> None:
    layer = make(cell, D, H, 3, bidirectional)
    directions = 1 + bidirectional
    x, state = numbers(N, T, D), tuple(numbers(3 * directions, N, H, seed=3 + k) for k in range(layer.states))
    h, final = layer.forward(x, state, lengths=LENGTHS)
    expected, states = x, []
    for k in range(3):
        walks = []
        for i, suffix in enumerate(["", "_reverse"][:directions]):
            p = {name: layer.parameters[f"{name}_l{k}{suffix}"] for name in ("Wx", "Wh", "b")}
            initial = tuple(s[k * directions + i] for s in state)
            walk = rnnfast.reference.forward(cell, expected, **p, state=initial, lengths=LENGTHS, reverse=i == 1)
            walks.append(walk.h)
            states.append(walk.state)
        expected = np.concatenate(walks, axis=2)
    assert_close(h, expected, 1000, name="h")
    for k in range(layer.states):
        assert_close(final[k], np.stack([s[k] for s in states]), 1000, name=f"state[{k}]")


@pytest.mark.parametrize("cell", CELLS)
def test_token_ids_are_one_hot_words(cell: str, assert_close: Any) -> None:
    layer = make(cell, 5, H, 2, True)
    ids = np.array([[0, 4, 2, 2], [-9, 77, 5, 5], [3, 0, 99, -1]])
    results = []
    for x in (ids, rnnfast.one_hot(ids, 5, lengths=LENGTHS, dtype=np.float64)):
        h, _ = layer.forward(x, lengths=LENGTHS, training=True)
        dx, _ = layer.backward(numbers(N, T, 2 * H))
        results.append((h, layer.gradient_vector.copy(), dx))
    assert results[0][2] is None
    assert_close(results[0][0], results[1][0], 100)
    assert_close(results[0][1], results[1][1], 100)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cell", CELLS)
def test_padding_reaches_nothing(cell: str, dtype: Any, assert_same_bits: Any) -> None:
    """Neither its content (NaN) nor its amount changes a bit."""
    network = rnnfast.Network(D, H, 1, cell=cell, num_layers=3, bidirectional=True, dtype=dtype, seed=0)
    layer = network.recurrent

    def run(fill: float, steps: int) -> list[np.ndarray]:
        x, dh = numbers(N, T, D).astype(dtype), numbers(N, T, 2 * H).astype(dtype)
        padded = [np.full((N, steps, a.shape[2]), fill, dtype) for a in (x, dh)]
        for new, old in zip(padded, (x, dh), strict=True):
            for i, n in enumerate(LENGTHS):
                new[i, :n] = old[i, :n]
        h, state = layer.forward(padded[0], lengths=LENGTHS, training=True)
        dx, dstate = layer.backward(padded[1])
        past = np.arange(steps) >= LENGTHS[:, None]
        assert (h[past] == 0).all()
        assert (dx[past] == 0).all()
        return [h[:, :T], *state, dx[:, :T], *dstate, layer.gradient_vector.copy()]

    expected = run(0.0, T)
    for fill, steps in [(np.nan, T), (np.inf, T), (np.nan, T + 5)]:
        for actual, value in zip(run(fill, steps), expected, strict=True):
            assert_same_bits(actual, value, f"{fill}, {steps} steps")


def test_dropout_only_between_layers_and_only_in_training(assert_same_bits: Any) -> None:
    x = numbers(N, T, D)
    one = make("lstm", D, H, 1, True, 0.5)
    assert_same_bits(one.forward(x, training=True)[0], one.forward(x)[0])
    two = make("lstm", D, H, 2, False, 1 - 1e-9)  # every mask is 0: the upper layer reads zeros
    p = two.parameters
    top = rnnfast.forward("lstm", np.zeros((N, T, H)), p["Wx_l1"], p["Wh_l1"], p["b_l1"]).h
    assert_same_bits(two.forward(x, training=True)[0], top)
    assert not np.array_equal(two.forward(x)[0], top)


def test_dropout_follows_the_seed(assert_same_bits: Any) -> None:
    x = numbers(N, T, D)
    runs = []
    for seed in (5, 5, 6):
        layer = GRU(D, H, 3, dropout=0.5, dtype=np.float64, seed=0)
        layer.rng = np.random.default_rng(seed)
        runs.append([layer.forward(x, training=True)[0] for _ in range(2)])
    assert_same_bits(runs[0][0], runs[1][0])
    assert_same_bits(runs[0][1], runs[1][1])
    assert not np.array_equal(runs[0][0], runs[0][1])  # a new mask for each pass
    assert not np.array_equal(runs[0][0], runs[2][0])


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dropout_mask(p: float, dtype: Any) -> None:
    mask = rnnfast.layers.dropout_mask(np.random.default_rng(0), (400, 500), p, np.dtype(dtype))
    assert mask.dtype == dtype
    assert set(np.unique(mask).tolist()) == {0.0, float(dtype(1 / (1 - p)))}
    deviation = np.sqrt(p * (1 - p) / mask.size)
    assert abs(float((mask == 0).mean()) - p) < 5 * deviation


def blocks(layer: Any, name: str) -> list[np.ndarray]:
    value = layer.parameters[name]
    return np.split(value, value.shape[1] // layer.hidden_size, axis=1)


def test_the_cells_of_the_classes() -> None:
    assert [RNN(2, 3, activation=a).cell for a in ("tanh", "relu", "sigmoid")] == rnnfast.cells()[:3]
    assert [GRU(2, 3, reset_after=after).cell for after in (True, False)] == ["gru", "gru_reset_before"]
    assert LSTM(2, 3).cell == "lstm"
    with pytest.raises(TypeError, match="reset_after: expected True or False, got 1"):
        GRU(2, 3, reset_after=1)


@pytest.mark.parametrize("kind", [RNN, LSTM, GRU])
def test_initialisation(kind: Any) -> None:
    n, d = 40, 10
    layer = kind(d, n, 2, seed=0, dtype=np.float64)
    expected = {RNN: 1, LSTM: 4, GRU: 3}[kind]
    for name, rows in (("Wh_l0", n), ("Wh_l1", n)):
        assert len(blocks(layer, name)) == expected
        for Q in blocks(layer, name):
            assert Q.shape == (rows, n)
            np.testing.assert_allclose(Q.T @ Q, np.eye(n), atol=1e-12)
    for name, rows in (("Wx_l0", d), ("Wx_l1", n)):
        limit = np.sqrt(6 / (rows + n))
        for W in blocks(layer, name):
            assert W.shape == (rows, n)
            assert 0.97 * limit < np.abs(W).max() <= limit
            assert abs(W.mean()) < 5 * limit / np.sqrt(3 * W.size)
    every = [W for name in ("Wh_l0", "Wh_l1", "Wx_l1") for W in blocks(layer, name)]
    assert all(not np.array_equal(a, b) for a, b in itertools.combinations(every, 2))
    identity = kind(d, n, recurrent_init="identity", seed=0)
    assert all(np.array_equal(W, np.eye(n)) for W in blocks(identity, "Wh_l0"))
    uniform = kind(d, n, recurrent_init="uniform", seed=0)
    assert all(0.97 * n**-0.5 < np.abs(W).max() <= n**-0.5 for W in blocks(uniform, "Wh_l0"))
    assert set(kind(d, n, bias=False).parameters) == {"Wx_l0", "Wh_l0"}


def test_bias_starts_at_zero_but_for_the_forget_gate() -> None:
    for layer in (RNN(2, 3, 2, True), GRU(2, 3, 2, True)):
        assert all((p == 0).all() for name, p in layer.parameters.items() if name.startswith("b"))
    assert GRU(2, 3).parameters["b_l0"].shape == (12,)
    for layer, value in ((LSTM(2, 3, 2, True), 1.0), (LSTM(2, 3, 2, True, forget_bias=-2.5), -2.5)):
        for name in ("b_l0", "b_l0_reverse", "b_l1", "b_l1_reverse"):
            i, f, g, o = np.split(layer.parameters[name], 4)
            assert (f == value).all()
            assert not np.concatenate([i, g, o]).any()


def test_seeds() -> None:
    same = [LSTM(2, 3, 2, seed=4).vector, LSTM(2, 3, 2, seed=np.random.default_rng(4)).vector]
    assert same[0].tobytes() == same[1].tobytes()
    assert not np.array_equal(same[0], LSTM(2, 3, 2, seed=5).vector)
    assert not np.array_equal(LSTM(2, 3).vector, LSTM(2, 3).vector)


def test_parameters_and_gradients_are_views_into_one_vector() -> None:
    layer = make("gru", D, H, 2, True)
    assert sum(p.size for p in layer.parameters.values()) == layer.vector.size == layer.size
    before = layer.forward(numbers(N, T, D))[0]
    layer.vector *= 0.5
    assert not np.array_equal(layer.forward(numbers(N, T, D))[0], before)
    layer.parameters["b_l1_reverse"][...] = 77
    assert (layer.vector == 77).sum() == 4 * H
    layer.gradients["Wh_l0"][...] = 55
    assert (layer.gradient_vector == 55).sum() == 3 * H * H
    vector, gradients = np.zeros(layer.size), np.zeros(layer.size)
    values = layer.vector.copy()
    layer.bind(vector, gradients)
    assert np.array_equal(vector, values)
    assert (gradients == 55).sum() == 3 * H * H
    vector[...] = 3
    assert (layer.parameters["Wx_l0"] == 3).all()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_is_whole_and_its_own(duplicate: Any, assert_same_bits: Any) -> None:
    layer, x = make("lstm", D, H, 2, True), numbers(N, T, D)
    h, _ = layer.forward(x, training=True)
    twin = duplicate(layer)
    with pytest.raises(RuntimeError):
        twin.backward(h)  # the tapes stay with the original
    assert_same_bits(twin.forward(x, training=True)[0], h)
    twin.backward(h)
    assert twin.gradient_vector.any()
    twin.vector[...] = 0
    assert not twin.forward(x)[0].any()
    assert_same_bits(layer.forward(x)[0], h)


def test_no_sequences_and_no_steps() -> None:
    layer = make("lstm", D, H, 2, True)
    for n, t in [(0, 4), (3, 0), (0, 0)]:
        h, (h_n, c_n) = layer.forward(np.zeros((n, t, D)), training=True)
        assert (h.shape, h_n.shape, c_n.shape) == ((n, t, 2 * H), (4, n, H), (4, n, H))
        dx, dstate = layer.backward(h, (np.ones_like(h_n), None))
        assert dx.shape == (n, t, D)
        assert (dstate[0] == 1).all()
        assert not layer.gradient_vector.any()


def test_backward_needs_its_own_forward() -> None:
    layer, x, dh = make("lstm", D, H, 2), numbers(N, T, D), np.ones((N, T, H))
    expected = re.escape("backward: expected a forward pass with training=True before it")
    with pytest.raises(RuntimeError, match=expected):
        layer.backward(dh)
    layer.forward(x, training=True)
    layer.backward(dh)
    with pytest.raises(RuntimeError, match=expected):
        layer.backward(dh)  # a second time
    layer.forward(x, training=True)
    layer.forward(x)
    with pytest.raises(RuntimeError, match=expected):
        layer.backward(dh)  # after inference
    layer.parameters["Wx_l1"] = layer.parameters["Wx_l1"][:1]
    with pytest.raises(ValueError, match="Wx"):
        layer.forward(x, training=True)
    with pytest.raises(RuntimeError, match=expected):
        layer.backward(dh)  # after a pass that failed in the second layer


S = np.zeros((4, N, H))
MAKING = [
    (lambda: LSTM(0, 3), ValueError, "input_size: expected a positive integer, got 0"),
    (lambda: LSTM(2, -1), ValueError, "hidden_size: expected a positive integer, got -1"),
    (lambda: LSTM(2, 3, 1.5), TypeError, "num_layers: expected a positive integer, got 1.5"),
    (lambda: LSTM(2, True), TypeError, "hidden_size: expected a positive integer, got True"),
    (lambda: GRU(2, 3, dropout=1.0), ValueError, "dropout: expected 0 <= p < 1, got 1.0"),
    (lambda: GRU(2, 3, dropout=float("nan")), ValueError, "dropout: expected 0 <= p < 1, got nan"),
    (lambda: GRU(2, 3, dropout="0.5"), TypeError, "dropout: expected 0 <= p < 1, got '0.5'"),
    (lambda: GRU(2, 3, num_threads=0), ValueError, "num_threads: expected a positive integer, got 0"),
    (lambda: GRU(2, 3, bidirectional=np.ones(2)), TypeError, "bidirectional: expected True or False, got array"),
    (lambda: GRU(2, 3, bias=1), TypeError, "bias: expected True or False, got 1"),
    (lambda: Dense(2, 3, check_finite="no"), TypeError, "check_finite: expected True or False, got 'no'"),
    (lambda: RNN(2, 3, recurrent_init=np.ones(2)), ValueError, "recurrent_init: expected 'orthogonal'"),
    (lambda: GRU(2, 3, dtype="float16"), TypeError, "dtype: expected float32 or float64, got float16"),
    (lambda: RNN(2, 3, activation="elu"), ValueError, "got 'rnn_elu'"),
    (
        lambda: RNN(2, 3, recurrent_init="zeros"),
        ValueError,
        "recurrent_init: expected 'orthogonal', 'identity' or 'uniform', got 'zeros'",
    ),
]


def test_numpys_small_integers_are_sizes() -> None:
    """Products of int8 would overflow."""
    n = np.int8(100)
    assert LSTM(n, n, seed=0).parameters["Wh_l0"].shape == (100, 400)
    assert Embedding(n, n, seed=0).size == Dense(n, n, seed=0).parameters["W"].size == 10_000


RUNNING = [
    ({"state": (S,)}, ValueError, "state: expected a tuple of 2 for lstm, got 1"),
    ({"state": S}, ValueError, "state: expected a tuple of 2 for lstm, got ndarray"),
    (
        {"state": (S[:2], S)},
        ValueError,
        "state[0]: expected (num_layers * directions, N, H) = (4, N, 3), got (2, 3, 3)",
    ),
    ({"state": (S, S[:, :2])}, ValueError, "(3, 3), got (2, 3)"),
    ({"lengths": [4, 5, 0]}, ValueError, "lengths[1]"),
    ({"x": np.zeros((N, T, D + 1))}, ValueError, "x: expected (N, T, input_size) = (N, T, 2), got (3, 4, 3)"),
    ({"x": np.zeros((N, T, D), np.float32)}, TypeError, "Wx"),
    ({"dh": np.zeros((N, T, H))}, ValueError, "dh: expected (N, T, directions * H) = (3, 4, 6), got (3, 4, 3)"),
    ({"dh": np.zeros((N, T, 4 * H))}, ValueError, "dh: expected (N, T, directions * H) = (3, 4, 6), got (3, 4, 12)"),
    ({"dh": np.zeros((N, T, 2 * H), np.float32)}, TypeError, "dh: expected float64, got float32"),
    ({"dstate": (S,)}, ValueError, "dstate: expected a tuple of 2 for lstm, got 1"),
    (
        {"dstate": (None, np.zeros((5, N, H)))},
        ValueError,
        "dstate[1]: expected (num_layers * directions, N, H) = (4, 3, 3), got (5, 3, 3)",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), MAKING)
def test_errors_of_making(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.parametrize(("wrong", "error", "message"), RUNNING)
def test_errors_of_running(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    layer = make("lstm", D, H, 2, True)
    given: dict[str, Any] = {"x": numbers(N, T, D), "state": None, "lengths": None, "dh": None, "dstate": None} | wrong

    def run() -> None:
        layer.forward(given["x"], given["state"], lengths=given["lengths"], training=True)
        layer.backward(given["dh"], given["dstate"])

    with pytest.raises(error, match=re.escape(message)):
        run()
