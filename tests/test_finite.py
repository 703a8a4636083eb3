"""check_finite: the layer, row and step of the first NaN or infinity, in inputs, states, outputs and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import GRU, LSTM, RNN, Dense, Embedding, EncoderDecoder, Network
from rnnfast.encoder_decoder import Pairs
from rnnfast.finite import NotFiniteError

every_kind = pytest.mark.parametrize("kind", [RNN, LSTM, GRU])
both_directions = pytest.mark.parametrize("bidirectional", [False, True])
N, T, D, H = 5, 9, 3, 4
LENGTHS = np.array([9, 0, 7, 4, 9])


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def found(function: Any, *arguments: Any, **options: Any) -> NotFiniteError:
    with pytest.raises(NotFiniteError) as e:
        function(*arguments, **options)
    return e.value


@every_kind
@both_directions
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_input(kind: Any, bidirectional: bool, value: float) -> None:
    layer = kind(D, H, 2, bidirectional, seed=0, check_finite=True)
    x = numbers(N, T, D)
    x[2, 5, 1] = x[0, 6, 0] = x[4, 5, 2] = value  # the earliest step, and of its rows the first
    error = found(layer.forward, x, lengths=LENGTHS)
    assert str(error) == f"{kind.__name__}: x[1] of row 2 at step 5 is {value}"
    assert (error.row, error.step) == (2, 5)
    x[2, 5:] = np.nan  # where nothing is read nothing is found
    x[0, 6, 0] = x[4, 5, 2] = 0
    x[3, 4:] = np.inf
    layer.forward(x, lengths=[9, 0, 5, 4, 9])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("ids", [False, True])
def test_a_state_that_grows_without_bound(reverse: bool, ids: bool) -> None:
    """relu and a recurrent weight of 1e6: h is about 1e6^k after k steps, infinite after 7."""
    layer = RNN(D, H, bidirectional=True, activation="relu", check_finite=True)
    layer.vector[...] = 0
    name = "l0_reverse" if reverse else "l0"
    layer.parameters[f"Wx_{name}"][...] = 1
    layer.parameters[f"Wh_{name}"][...] = np.eye(H) * 1e6
    x = np.ones((N, T), np.int64) if ids else np.full((N, T, D), 1 / D, np.float32)
    lengths = np.array([3, 0, 8, 4, 9])
    error = found(layer.forward, x, lengths=lengths)
    row, at = (2, 0) if reverse else (2, 7)
    assert (error.row, error.step) == (row, at)
    place = "RNN, layer 0" + (", reverse" if reverse else "")
    assert str(error) == f"{place}: h[0] of row {row} at step {at} is inf"
    layer.forward(x, lengths=np.minimum(lengths, 7))


def test_a_cell_state_that_outputs_hide() -> None:
    """c overflows while h = o tanh(c) stays at 1."""
    layer = LSTM(1, 2, check_finite=True, dtype=np.float32)
    layer.vector[...] = 0
    b = layer.parameters["b_l0"].reshape(4, 2)
    b[:] = 50  # gates open, g = 1
    state = (np.zeros((1, 3, 2), np.float32), np.zeros((1, 3, 2), np.float32))
    state[1][0, 1, 1] = np.float32(3.4028234e38)
    x = np.zeros((3, 6, 1), np.float32)
    layer.forward(x, state)  # adding 1 changes nothing
    layer.parameters["Wx_l0"][0, 4:6] = 0
    b[1] = 50
    state[1][0, 1, 1] = np.inf
    error = found(layer.forward, x, state)
    assert str(error) == "LSTM, layer 0: initial c[1] of row 1 is inf"


@every_kind
@both_directions
def test_an_upstream_gradient(kind: Any, bidirectional: bool) -> None:
    network = kind(D, H, 2, bidirectional, seed=0, check_finite=True)
    x = numbers(N, T, D)
    h, _ = network.forward(x, lengths=LENGTHS, training=True)
    d = np.zeros_like(h)
    d[3, 2] = np.nan
    error = found(network.backward, d)
    assert str(error) == f"{kind.__name__}: dh[0] of row 3 at step 2 is nan"
    d[3, 2] = 0
    d[3, 4:] = np.nan  # padding
    network.backward(d)
    network.forward(x, lengths=LENGTHS, training=True)
    dstate = np.zeros((2 * (1 + bidirectional), N, H), np.float32)
    dstate[1, 4, 2] = np.inf
    error = found(network.backward, None, (dstate, *(None,) * (network.states - 1)))
    assert str(error) == f"{kind.__name__}: dstate[0][1][2] of row 4 is inf"


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("ids", [False, True])
def test_the_step_of_a_gradient(reverse: bool, ids: bool) -> None:
    """Identity and relu: a gradient of 1e30 at one step is 1e36 a step before and infinite two steps before."""
    layer = RNN(D, H, bidirectional=True, activation="relu", check_finite=True, dtype=np.float32)
    layer.vector[...] = 0
    name = "l0_reverse" if reverse else "l0"
    layer.parameters[f"Wx_{name}"][...] = 1e-3
    layer.parameters[f"b_{name}"][...] = 1e-30
    layer.parameters[f"Wh_{name}"][...] = np.eye(H) * 1e-6  # the states stay small
    x = np.ones((N, T), np.int64) if ids else np.full((N, T, D), 1.0, np.float32)
    h, _ = layer.forward(x, lengths=LENGTHS, training=True)
    layer.parameters[f"Wh_{name}"][...] = np.eye(H) * 1e6  # of the tape, which keeps the caller's arrays
    d = np.zeros_like(h)
    row, at = 4, 4
    d[row, at, H * reverse] = 1e30
    error = found(layer.backward, d)
    step = at + 2 if reverse else at - 2
    assert (error.row, error.step) == (row, step)
    place = "RNN, layer 0" + (", reverse" if reverse else "")
    assert str(error) == f"{place}: a gradient of row {row} at step {step} is not finite"


def test_the_gradients_of_both_directions_overflow_together() -> None:
    layer = RNN(1, 1, bidirectional=True, activation="relu", check_finite=True, bias=False)
    for name, value in layer.parameters.items():
        value[...] = 1 if name.startswith("Wx") else 0
    h, _ = layer.forward(np.full((1, 1, 1), 1e-3, np.float32), training=True)
    error = found(layer.backward, np.full_like(h, 2e38))
    assert str(error) == "RNN: gradient of x[0] of row 0 at step 0 is inf"


def test_a_sum_that_overflows() -> None:
    dense = Dense(1, 1, check_finite=True, seed=0)
    dense.parameters["W"][...] = 1e-3
    dense.forward(np.full((4, 1), 1, np.float32), training=True)
    error = found(dense.backward, np.full((4, 1), 2e38, np.float32))
    assert str(error) == "Dense: gradient of W[0, 0] is inf"
    assert error.row is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parameters(value: float) -> None:
    for layer, name, x in (
        (LSTM(D, H, 2, check_finite=True), "Wh_l1", numbers(N, T, D)),
        (Dense(D, H, check_finite=True), "b", numbers(N, D)),
    ):
        layer.parameters[name][(0,) * layer.parameters[name].ndim] = value
        error = found(layer.forward, x)
        assert f"{type(layer).__name__}: parameter {name}[0" in str(error)
    embedding = Embedding(5, 2, check_finite=True)
    embedding.parameters["E"][3, 1] = value
    embedding.forward([[1, 2, 4]])
    error = found(embedding.forward, [[1, 2, 4], [1, 3, 3]])
    assert str(error) == f"Embedding: vector[1] of row 1 at step 1 is {value}"
    embedding.forward([[1, 2, 4], [1, 3, 3]], lengths=[3, 1])


def test_dense() -> None:
    dense = Dense(2, 3, check_finite=True, seed=0)
    x = np.ones((2, 4, 2), np.float32)
    x[1, 2, 1] = np.nan
    assert str(found(dense.forward, x)) == "Dense: x[1] of row 1 at step 2 is nan"
    dense.forward(x, lengths=[4, 2], training=True)
    d = np.zeros((2, 4, 3), np.float32)
    d[0, 1, 2] = np.inf
    assert str(found(dense.backward, d)) == "Dense: gradient of y[2] of row 0 at step 1 is inf"
    dense.forward(x[:, 0], training=True)
    assert str(found(dense.backward, d[:, 1])) == "Dense: gradient of y[2] of row 0 is inf"


def test_nothing_changes_where_all_is_finite(assert_same_bits: Any) -> None:
    x, lengths = np.random.default_rng(1).integers(0, 9, (N, T)), LENGTHS
    for bidirectional in (False, True):
        results = []
        for check_finite in (False, True):
            network = Network(9, H, 2, embedding_size=3, num_layers=2, bidirectional=bidirectional, dropout=0.2,
                              per_step=True, seed=0, check_finite=check_finite)  # fmt: skip
            assert network.check_finite is check_finite
            y = network.forward(x, lengths=lengths, training=True)
            network.backward(np.where(np.arange(T)[:, None] < lengths[:, None, None], y, 0).astype(np.float32))
            results.append((y, network.gradient_vector))
        for a, b in zip(*results, strict=True):
            assert_same_bits(a, b)


def test_names_in_a_network() -> None:
    network = Network(9, H, 2, embedding_size=3, seed=0, check_finite=True)
    network.layers["recurrent"].parameters["b_l0"][0] = np.nan
    assert str(found(network.forward, [[1, 2]])) == "recurrent: parameter b_l0[0] is nan"
    network.check_finite = False
    network.forward([[1, 2]])
    model = EncoderDecoder(8, 7, 4, embedding_size=3, target_embedding=3, seed=0)
    model.check_finite = True
    model.layers["attention"].parameters["Wh"][0, 1] = np.inf
    x, _, lengths = Pairs([[4, 5, 6], [7]], [[5, 4], [6, 6, 4]]).batch(np.array([0, 1]))
    assert str(found(model.forward, x, lengths=lengths)) == "attention: parameter Wh[0, 1] is inf"


def test_it_is_off_by_default() -> None:
    x = np.full((1, 2, D), np.nan, np.float32)
    assert np.isnan(rnnfast.LSTM(D, H).forward(x)[0]).all()


# ---- fit

IDS = [np.array(s) for s in ([4, 5, 6], [7, 7], [8, 4, 4, 5], [6], [5, 5, 8], [7, 6])]
LABELS = np.array([0, 1, 0, 1, 0, 1])


def train(network: Any, x: Any = IDS, y: Any = LABELS, **options: Any) -> Any:
    settings = {"batch_size": 2, "max_epochs": 3, "shuffle": False, "bucket": False, "check_finite": True, "seed": 0}
    return rnnfast.fit(network, x, y, **settings | options)


def test_fit_changes_no_bit_and_puts_the_layers_back(assert_same_bits: Any) -> None:
    vectors = []
    for check_finite in (False, True):
        network = Network(9, 4, 2, embedding_size=3, dropout=0.3, seed=0)
        network.dense.check_finite = True
        train(network, check_finite=check_finite)
        assert [layer.check_finite for layer in network.layers.values()] == [False, False, True]
        vectors.append(network.vector)
    assert_same_bits(*vectors)


def test_fit_names_pass_batch_and_sequence() -> None:
    x = [np.ones((n, 2), np.float32) for n in (3, 2, 4, 1, 3, 2)]
    x[5][1, 0] = np.inf
    with pytest.raises(FloatingPointError, match=r"recurrent: x\[0\] of row 1 at step 1 is inf, in pass 0, batch 2 "
                                                 r"\(row 1 is sequence 5 of the data\)"):  # fmt: skip
        train(Network(2, 4, 2, seed=0), x)


@pytest.mark.parametrize("per_step", [False, True])
def test_fit_names_the_step_of_a_piece(per_step: bool) -> None:
    x = [np.ones((n, 2), np.float32) for n in (5, 9)]
    x[1][7, 1] = np.nan
    y = [np.zeros(len(s), int) for s in x] if per_step else [0, 1]
    first, step = 6, 1  # two of three pieces, or all but the last three steps, are over
    with pytest.raises(FloatingPointError) as e:
        train(Network(2, 4, 2, per_step=per_step, seed=0), x, y, truncate=3)
    assert f"recurrent: x[1] of row 1 at step {step} is nan, in pass 0, batch {2 if per_step else 0}" in str(e.value)
    assert f"(row 1 is sequence 1 of the data, whose step 0 is step {first} there)" in str(e.value)


def test_of_several_rows_the_gradient_that_overflows_first_is_named() -> None:
    """Going back, that is the one of the latest step, whichever row is walked again first."""
    layer = RNN(D, H, activation="relu", check_finite=True, dtype=np.float32)
    for late in (1, 3):
        layer.vector[...] = 0
        layer.parameters["Wx_l0"][...] = 1e-3
        layer.parameters["Wh_l0"][...] = np.eye(H) * 1e-6
        h, _ = layer.forward(np.ones((N, T, D), np.float32), training=True)
        layer.parameters["Wh_l0"][...] = np.eye(H) * 1e6  # of the tape, which keeps the caller's arrays
        d = np.zeros_like(h)
        d[4 - late, 4] = d[late, 7] = 1e30
        error = found(layer.backward, d)
        assert (error.row, error.step) == (late, 5)


def test_fit_names_a_sequence_of_the_validation_data() -> None:
    """In the order that it was given in, not that of the batches; and a loss, of outputs that are finite."""
    x, lengths = numbers(10, 6, 3), np.array([6, 5, 4, 3, 2, 1, 6, 5, 4, 3])
    y = x[:, :, :1].cumsum(axis=1)

    def fit(vx: np.ndarray, vy: np.ndarray) -> None:
        network = Network(3, 5, 1, per_step=True, seed=0)
        options: Any = {"loss": "squared_error", "max_epochs": 2, "seed": 1, "check_finite": True}
        rnnfast.fit(network, x, y, validation=(vx, vy, lengths), **options)

    fit(x, y)
    wrong = x.copy()
    wrong[5, 0, 1] = np.nan
    expected = (
        r"recurrent: x\[1\] of row \d at step 0 is nan, in the validation data \(row \d is sequence 5 of the data"
    )
    with pytest.raises(FloatingPointError, match=expected + r"\), after pass 0"):
        fit(wrong, y)
    wrong = y.copy()
    wrong[7, 2] = np.nan
    with pytest.raises(FloatingPointError, match=r"loss of row \d at step 2 is nan, in the validation data "
                                                 r"\(row \d is sequence 7 of the data\), after pass 0"):  # fmt: skip
        fit(x, wrong)


def test_fit_names_a_sequence_of_a_stream() -> None:
    """By its place in the source, which is shuffled in blocks."""
    x = [np.ones((2, 1), np.float32)] * 50
    bad = list(x)
    bad[37] = np.array([[1], [np.inf]], np.float32)

    def blocks(x: list[np.ndarray]) -> Any:
        source = rnnfast.streaming.items(((sequence, 0) for sequence in x), block_size=7)
        return rnnfast.streaming.Blocks(source, rnnfast.Sequences)

    for data, validation in ((bad, None), (x, bad)):
        held_out = None if validation is None else blocks(validation)
        network = Network(1, 2, 2, seed=0)
        with pytest.raises(FloatingPointError, match=r"\(row \d+ is sequence 37 of the data\)"):
            rnnfast.fit(network, blocks(data), validation=held_out, check_finite=True, seed=0)


def test_fit_names_a_loss() -> None:
    """Squared errors that overflow, of outputs that do not."""
    x = [np.zeros((n, 1), np.float32) for n in (3, 4)]
    y = [np.zeros((n, 1), np.float32) for n in (3, 4)]
    y[1][2] = 1e300 if y[1].dtype == np.float64 else 3e38
    network = Network(1, 2, 1, per_step=True, seed=0)

    def loss(outputs: np.ndarray, targets: np.ndarray, **options: Any) -> tuple[float, np.ndarray]:
        value, gradient = rnnfast.squared_error(outputs, targets, **options)
        return (np.inf if value > 1e30 else value), gradient

    with pytest.raises(FloatingPointError, match=r"^loss of row 1 at step 2 is inf, in pass 0, batch 0"):
        train(network, x, y, loss=loss)
    network = Network(1, 2, 1, seed=0)
    with pytest.raises(FloatingPointError, match=r"^loss of row 0 is inf, in pass 0, batch 0 \(row 0 is sequence 0"):
        train(network, x, np.array([[3e38], [0]], np.float32), loss=loss)


def test_fit_of_another_kind_of_model() -> None:
    class Own:
        per_step, state = False, None

        def __init__(self, outputs: float, gradient: float) -> None:
            self.vector, self.gradient_vector = np.zeros(3), np.zeros(3)
            self.outputs, self.gradient = outputs, gradient

        def forward(self, x: Any, **options: Any) -> np.ndarray:
            return np.full((len(x), 2), self.outputs)

        def backward(self, d: np.ndarray) -> None:
            self.gradient_vector[1] = self.gradient

    with pytest.raises(FloatingPointError, match=r"outputs\[0\] of row 0 is nan, in pass 0, batch 0"):
        train(Own(np.nan, 0))
    with pytest.raises(FloatingPointError, match=r"gradient_vector\[1\] is -inf, in pass 0, batch 0"):
        train(Own(1.0, -np.inf))
    train(Own(1.0, 0))
