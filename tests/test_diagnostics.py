"""diagnostics.py: ∂L/∂h_t against central differences and the gradients of the models; the two diseases are found."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import diagnostics
from rnnfast.diagnostics import EXPLODING, VANISHING, GradientFlow, gradient_norms, hidden_states
from rnnfast.encoder_decoder import EncoderDecoder, Pairs
from rnnfast.layers import Recurrent

SHAPES = [(layers, both) for layers in (1, 2, 3) for both in (False, True)]


def make(
    cell: str, num_layers: int, bidirectional: bool, N: int = 3, T: int = 5, D: int = 2, H: int = 3, dtype: Any = float
) -> tuple[Recurrent, dict[str, Any]]:
    """A layer with weights of some size, and a ragged batch with a gradient for every output and final state."""
    rng = np.random.default_rng([N, T, D, H])
    layer = Recurrent(cell, D, H, num_layers, bidirectional, dtype=dtype)
    layer.vector[...] = rng.uniform(0.1, 0.7, layer.size) * rng.choice([-1, 1], layer.size)
    rows = num_layers * layer.directions
    arguments = {
        "x": rng.normal(size=(N, T, D)).astype(dtype),
        "lengths": np.array([T, 0, *rng.integers(1, T, N - 2)]),
        "state": tuple(rng.normal(size=(rows, N, H)).astype(dtype) for _ in range(layer.states)),
        "dh": rng.normal(size=(N, T, layer.directions * H)).astype(dtype),
        "dstate": tuple(rng.normal(size=(rows, N, H)).astype(dtype) for _ in range(layer.states)),
    }
    return layer, arguments


def losses(layer: Recurrent, a: dict[str, Any], shift: Any = None, at: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    """Σ dh h + Σ dstate state of each sequence, in NumPy; `shift` (H,) is added to state k of a row after step t."""
    T, x, loss = a["x"].shape[1], a["x"], 0
    p = layer.parameters
    for level in range(layer.num_layers):
        outputs = []
        for i in range(layer.directions):
            row, name = level * layer.directions + i, f"l{level}" + "_reverse" * i
            state, h = tuple(s[row] for s in a["state"]), np.zeros((*x.shape[:2], layer.hidden_size))
            for t in reversed(range(T)) if i else range(T):
                valid = t < a["lengths"]
                _, state, _ = rnnfast.reference.forward(
                    layer.cell, x[:, t : t + 1], p[f"Wx_{name}"], p[f"Wh_{name}"], p[f"b_{name}"], state,
                    lengths=valid.astype(int),
                )  # fmt: skip
                if shift is not None and at[1:] == (row, t):
                    state = tuple(s + shift * valid[:, None] if k == at[0] else s for k, s in enumerate(state))
                h[:, t] = state[0] * valid[:, None]
            loss = loss + sum((d[row] * s).sum(1) for d, s in zip(a["dstate"], state, strict=True))
            outputs.append(h)
        x = np.concatenate(outputs, axis=2)
    return loss + (a["dh"] * x).sum((1, 2))


@pytest.mark.parametrize(("num_layers", "bidirectional"), [(1, False), (2, True)])
@pytest.mark.parametrize("cell", rnnfast.cells())
def test_norms_are_those_of_central_differences(cell: str, num_layers: int, bidirectional: bool) -> None:
    layer, a = make(cell, num_layers, bidirectional)
    flow = gradient_norms(layer, **a)
    N, T = a["x"].shape[:2]
    valid = np.arange(T) < a["lengths"][:, None]
    both = (flow.per_sequence, flow.cell_per_sequence)[: layer.states]
    assert (flow.cell_norms is None) == (flow.cell_per_sequence is None) == (layer.states == 1)
    step = 1e-6
    for k, norms in enumerate(both):
        assert norms is not None
        assert norms.shape == (num_layers * layer.directions, N, T)
        for row, t in itertools.product(range(len(norms)), range(T)):
            slopes = np.array([
                losses(layer, a, step * unit, (k, row, t)) - losses(layer, a, -step * unit, (k, row, t))
                for unit in np.eye(layer.hidden_size)
            ]) / (2 * step)  # (H, N)  # fmt: skip
            expected = np.where(valid[:, t], np.linalg.norm(slopes, axis=0), np.nan)
            np.testing.assert_allclose(norms[row, :, t], expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("num_layers", "bidirectional"), SHAPES)
@pytest.mark.parametrize("cell", ["rnn_relu", "lstm", "gru"])
def test_steps_add_up_to_the_gradients_of_the_layer(
    cell: str,
    num_layers: int,
    bidirectional: bool,
    dtype: Any,
    monkeypatch: pytest.MonkeyPatch,
    assert_same_bits: Any,
    assert_close: Any,
) -> None:
    layer, a = make(cell, num_layers, bidirectional, N=4, T=7, H=5, dtype=dtype)
    layer.forward(a["x"], a["state"], lengths=a["lengths"], training=True)
    _, dstate = layer.backward(a["dh"], a["dstate"])
    calls = record(monkeypatch)
    flow = gradient_norms(layer, **a)
    check_calls(calls, layer, flow, dstate, assert_same_bits, assert_close, depth=7 * (5 + 5 + 4))
    assert_same_bits(hidden_states(layer, a["x"], a["lengths"]), layer.forward(a["x"], lengths=a["lengths"])[0])


def record(monkeypatch: pytest.MonkeyPatch) -> list[rnnfast.Gradients]:
    calls: list[rnnfast.Gradients] = []

    def backward(*arguments: Any, **options: Any) -> rnnfast.Gradients:
        calls.append(rnnfast.backward(*arguments, **options))
        return calls[-1]

    monkeypatch.setattr(diagnostics, "backward", backward)
    return calls


def check_calls(
    calls: list[rnnfast.Gradients],
    layer: Recurrent,
    flow: GradientFlow,
    dstate: Any,
    assert_same_bits: Any,
    assert_close: Any,
    depth: int,
) -> None:
    """The first R * T calls, from the top layer down, of one step each."""
    R, _, T = flow.per_sequence.shape
    for level in reversed(range(layer.num_layers)):
        for i in range(layer.directions):
            row = level * layer.directions + i
            name = flow.names[row]
            assert name == f"l{level}" + "_reverse" * i
            start = ((layer.num_layers - 1 - level) * layer.directions + i) * T
            mine = calls[start : start + T]
            for k in range(layer.states) if dstate is not None else []:
                assert_same_bits(mine[-1].state[k], dstate[k][row], name)  # one call of T steps ends with these bits
            for weight, grads in (
                ("Wx", [c.Wx for c in mine]),
                ("Wh", [c.Wh for c in mine]),
                ("b", [c.b for c in mine]),
            ):
                total = np.sum(np.array(grads, float), axis=0)
                assert_close(
                    layer.gradients[f"{weight}_{name}"], total, depth, dtype=layer.dtype, name=f"{weight}_{name}"
                )
    assert len(calls) == R * T * (1 + layer.directions)


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm"])
@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_networks(
    cell: str,
    bidirectional: bool,
    per_step: bool,
    loss: str,
    monkeypatch: pytest.MonkeyPatch,
    assert_same_bits: Any,
    assert_close: Any,
) -> None:
    rng = np.random.default_rng(0)
    network = rnnfast.Network(
        9, 4, 3, cell=cell, num_layers=2, bidirectional=bidirectional, embedding_size=5, per_step=per_step,
        dropout=0.5, initial_state_std=1.0, seed=0, dtype=np.float64,
    )  # fmt: skip
    lengths = np.array([6, 2, 0, 4])
    x = [rng.integers(0, 9, n) for n in lengths]
    shape = () if loss == "cross_entropy" else (3,)
    values = [rng.integers(0, 3, (n, *shape)) for n in lengths]
    y: Any = values if per_step else np.array([rng.integers(0, 3, shape) for _ in lengths])
    same = rnnfast.Network(
        9, 4, 3, cell=cell, num_layers=2, bidirectional=bidirectional, embedding_size=5, per_step=per_step, dtype=float
    )
    same.vector[...] = network.vector
    function = rnnfast.softmax_cross_entropy if loss == "cross_entropy" else rnnfast.squared_error
    padded, targets, _ = rnnfast.Sequences(x, y, per_step=per_step).batch(np.arange(4))
    outputs = same.forward(padded, lengths=lengths, training=True)
    same.backward(function(outputs, targets, lengths=lengths if per_step else None, normalizer="sequences")[1])

    network.gradient_vector[...] = 7
    before, random = network.vector.copy(), network.rng.bit_generator.state
    calls = record(monkeypatch)
    flow = gradient_norms(network, x, y, loss=loss, normalizer="sequences")  # type: ignore[arg-type]
    check_calls(calls, same.recurrent, flow, None, assert_same_bits, assert_close, depth=6 * (5 + 4 + 4))
    assert_same_bits(network.vector, before)
    assert (network.gradient_vector == 7).all()
    assert network.state is None
    assert network.rng.bit_generator.state == random
    assert network.dropout == network.recurrent.dropout == 0.5
    data = rnnfast.Sequences(padded, targets, lengths, per_step=per_step)
    other = gradient_norms(network, data, loss=loss, normalizer="sequences")  # type: ignore[arg-type]
    for name in ("norms", "per_sequence", "share"):
        assert_same_bits(getattr(other, name), getattr(flow, name), name)
    h = hidden_states(network, x)
    assert_same_bits(h, same.recurrent.forward(same.embedding.forward(padded), lengths=lengths)[0])  # type: ignore[union-attr]
    assert_same_bits(hidden_states(network, padded, lengths), h)
    assert_same_bits(hidden_states(network, data), h)


def scalar(weight: float, bidirectional: bool = False, num_layers: int = 1) -> rnnfast.RNN:
    """h' = relu(x + weight h), so that ∂h_t/∂h_{t-1} is weight for positive x."""
    layer = rnnfast.RNN(1, 1, num_layers, bidirectional, activation="relu", dtype=np.float64)
    for name, value in layer.parameters.items():
        value[...] = weight if name.startswith("Wh") else 1 if name.startswith("Wx") else 0
    return layer


def test_distances_are_counted_from_the_end_of_each_walk() -> None:
    layer, nan = scalar(0.5, bidirectional=True), np.nan
    dstate = (np.array([[[1.0], [4.0], [9.0]], [[8.0], [2.0], [9.0]]]),)
    flow = gradient_norms(layer, np.ones((3, 4, 1)), lengths=[4, 2, 0], dstate=dstate)
    assert flow.names == ("l0", "l0_reverse")
    assert flow.lengths.tolist() == [4, 2, 0]
    assert flow.steps == 3
    expected = [
        [[1 / 8, 1 / 4, 1 / 2, 1], [2, 4, nan, nan], [nan] * 4],
        [[8, 4, 2, 1], [2, 1, nan, nan], [nan] * 4],
    ]
    np.testing.assert_array_equal(flow.per_sequence, expected)
    np.testing.assert_array_equal(flow.norms, [[(1 + 4) / 2, (1 / 2 + 2) / 2, 1 / 4, 1 / 8], [5, 2.5, 2, 1]])
    np.testing.assert_array_equal(flow.share, [[1, 1 / 2, 1 / 4, 1 / 8]] * 2)
    np.testing.assert_array_equal(flow.ratios, [1 / 8, 1 / 8])
    np.testing.assert_allclose(flow.factors, 0.5)


def test_steps_past_every_length() -> None:
    x = np.where(np.arange(6)[:, None] < 3, 1.0, np.nan) * np.ones((2, 1, 1))
    dh = np.where(np.arange(6)[:, None] < 3, 1.0, np.nan) * np.ones((2, 1, 1))
    flow = gradient_norms(scalar(0.5), x, lengths=[3, 2], dh=dh)
    np.testing.assert_array_equal(flow.norms, [[1, 1.5, 1.75, np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(flow.share, [[1, 0.5, 0.25, np.nan, np.nan, np.nan]])
    assert flow.steps == 2
    assert flow.ratio == 0.25


def test_without_gradients_the_loss_is_the_final_state() -> None:
    flow = gradient_norms(scalar(0.5, num_layers=2), np.ones((2, 3, 1)))
    np.testing.assert_array_equal(flow.per_sequence[1], [[1 / 4, 1 / 2, 1]] * 2)
    # Lower layer: what comes from the upper one, and half of what reaches its own next step.
    np.testing.assert_array_equal(flow.per_sequence[0], [[3 / 4, 1, 1]] * 2)
    network = rnnfast.Network(1, 1, 2, cell="rnn_relu", per_step=True, dtype=np.float64)
    network.recurrent.vector[...] = scalar(0.5).vector
    network.dense.parameters["W"][...] = 1, 2
    flow = gradient_norms(network, np.ones((1, 3, 1)))  # the sum of both outputs of each step
    np.testing.assert_array_equal(flow.per_sequence, [[[3 * 1.75, 3 * 1.5, 3]]])
    np.testing.assert_array_equal(flow.share, [[1, 1 / 2, 1 / 4]])


def test_share_is_that_of_the_last_loss_alone() -> None:
    """Each step has a loss: the norms never look small, but what the last one says is gone."""
    rng = np.random.default_rng(0)
    network = rnnfast.Network(6, 8, 4, cell="rnn_tanh", per_step=True, recurrent_init="uniform", seed=0)
    x, y = rng.normal(size=(5, 40, 6)).astype(np.float32), rng.integers(0, 4, (5, 40))
    flow = gradient_norms(network, x, y)
    assert flow.verdict == "vanishing"
    assert flow.norms.min() > 0.3 * flow.norms.max()
    assert flow.share[0, 0] == 1
    assert flow.share[0, -1] < 1e-6


def test_each_direction_is_judged_by_what_enters_at_its_own_end(assert_same_bits: Any) -> None:
    layer, a = make("gru", 2, bidirectional=True)
    share = gradient_norms(layer, **a).share
    directions = np.arange(4) % 2
    T, H = a["dh"].shape[1], layer.hidden_size
    for i in range(2):
        last = a["lengths"] - 1 if i == 0 else np.zeros(len(a["dh"]))
        here = (np.arange(T) == last[:, None])[:, :, None] & (np.arange(2 * H) // H == i)
        alone = {"dh": a["dh"] * here, "dstate": tuple(s * (directions == i)[:, None, None] for s in a["dstate"])}
        flow = gradient_norms(layer, **{**a, **alone})
        assert_same_bits(flow.share[directions == i], share[directions == i])
        longest = flow.per_sequence[directions == i, a["lengths"].argmax()]  # (layers, T)
        first, end = (longest[:, 0], longest[:, -1]) if i == 0 else (longest[:, -1], longest[:, 0])
        np.testing.assert_allclose(share[directions == i, -1], first / end)


def test_a_layer_is_left_as_it_is(assert_same_bits: Any) -> None:
    rng = np.random.default_rng(0)
    layers = [rnnfast.LSTM(3, 4, 2, dropout=dropout, seed=0) for dropout in (0.0, 0.5)]
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    flows = []
    for layer in layers:
        layer.gradient_vector[...] = 7
        before, random = layer.vector.copy(), layer.rng.bit_generator.state
        flows.append(gradient_norms(layer, x))
        hidden_states(layer, x)
        assert_same_bits(layer.vector, before)
        assert (layer.gradient_vector == 7).all()
        assert layer.rng.bit_generator.state == random
    assert layers[1].dropout == 0.5
    assert_same_bits(flows[1].norms, flows[0].norms)


def disease(model: Any, T: int = 100, D: int = 4) -> GradientFlow:
    x = np.random.default_rng(1).normal(size=(8, T, D)).astype(np.float32)
    return gradient_norms(model, x, np.arange(8) % 3)


def test_a_plain_network_with_small_weights_vanishes() -> None:
    network = rnnfast.Network(4, 32, 3, cell="rnn_tanh", recurrent_init="uniform", seed=0)
    flow = disease(network)
    assert flow.verdict == "vanishing"
    assert flow.ratio < 1e-20
    assert 0.3 < flow.factor < 0.7
    assert flow.ratio == pytest.approx(flow.factor**99, rel=100)
    text = str(flow)
    assert text.startswith(f"vanishing: 99 steps before the end of a sequence, {flow.ratio:.2g} of the gradient ")
    assert f"(× {flow.factor:.3g} a step)" in text
    assert "\n" not in text


def test_large_recurrent_weights_explode() -> None:
    network = rnnfast.Network(4, 32, 3, cell="rnn_relu", recurrent_init="identity", seed=0)
    network.recurrent.parameters["Wh_l0"][...] *= 1.5
    flow = disease(network)
    assert flow.verdict == "exploding"
    assert flow.factor == pytest.approx(1.5, rel=0.02)
    assert flow.ratio > 1e15
    assert str(flow).startswith("exploding: 99 steps before the end")
    assert "clip_norm" in str(flow)
    d = np.zeros((1, 8, 32), np.float32)
    d[...] = 1e30  # times 1.5 to the 99th is no float32
    with np.errstate(all="raise"):
        flow = gradient_norms(network.recurrent, np.ones((8, 100, 4)), dstate=(d,))
    assert (flow.verdict, flow.ratio) == ("exploding", np.inf)
    assert flow.factor == pytest.approx(1.5, rel=0.01)
    network.recurrent.parameters["Wh_l0"][...] *= 4
    with pytest.raises(FloatingPointError, match="a hidden state, or the gradient that enters, is not finite"):
        gradient_norms(network.recurrent, np.ones((8, 100, 4)))


def test_nan_out_of_an_overflow_explodes() -> None:
    layer = rnnfast.RNN(1, 2, activation="relu", bias=False)
    layer.parameters["Wx_l0"][...], layer.parameters["Wh_l0"][...] = 1, [[1e30, -1e30], [0, 0]]
    d = np.full((1, 1, 2), 1e30, np.float32)
    flow = gradient_norms(layer, np.array([[[-1.0], [1e-32], [1.0]]]), dstate=(d,))  # ∂L/∂h_0 = inf, 0 * inf
    assert (flow.verdict, flow.ratio, flow.factor) == ("exploding", np.inf, np.inf)
    assert flow.per_sequence[0, 0, 0] == np.inf


def test_an_lstm_carries_gradients_further() -> None:
    plain = disease(rnnfast.Network(4, 32, 3, cell="rnn_tanh", recurrent_init="uniform", seed=0))
    ratios = []
    for bias in (1.0, 3.0, 5.0):
        network = rnnfast.Network(4, 32, 3, cell="lstm", recurrent_init="uniform", forget_bias=bias, seed=0)
        flow = disease(network)
        ratios.append(flow.ratio)
        assert flow.cell_norms is not None
    assert ratios == sorted(ratios)
    assert ratios[0] > 1e6 * plain.ratio
    assert ratios[1] > 1e20 * plain.ratio
    assert flow.verdict == "stable"
    assert str(flow).endswith("a step).")
    orthogonal = disease(rnnfast.Network(4, 32, 3, cell="rnn_tanh", recurrent_init="orthogonal", seed=0))
    assert orthogonal.ratio > 1e6 * plain.ratio


def test_the_row_that_decides() -> None:
    share = np.ones((4, 3))

    def flow(*ratios: float) -> GradientFlow:
        last = np.array(ratios)
        return GradientFlow(
            ("l0", "l0_reverse", "l1", "l1_reverse"), np.array([3]),
            np.stack([np.ones(4), np.sqrt(last), last], axis=1), share, share[:, None],
        )  # fmt: skip

    assert flow(1, 1, 1, 1).verdict == "stable"
    assert (flow(1e-9, 1, 0.5, 1e-9).row, flow(1e-9, 1, 0.5, 1e-9).verdict) == (2, "stable")
    assert (flow(1e-9, 1, 1e-8, 1).row, flow(1e-9, 1, 1e-8, 1).verdict) == (2, "vanishing")
    assert (flow(1e-9, 1e4, 1e-8, 1e5).row, flow(1e-9, 1e4, 1e-8, 1e5).verdict) == (3, "exploding")
    assert flow(VANISHING, 1, VANISHING, 1).verdict == "vanishing"
    assert flow(1, 1, 1, EXPLODING).verdict == "exploding"
    assert flow(1, 1, 1, 1e4).factor == pytest.approx(100)
    assert flow(np.nan, np.nan, 0.5, 0.5).verdict == "stable"
    lines = str(flow(1e-9, 1, 1e-8, 1)).splitlines()
    assert [line.split()[0] for line in lines] == ["vanishing:", "l0", "l0_reverse", "l1", "l1_reverse"]
    assert [line.split()[-1] for line in lines[1:]] == ["vanishing", "stable", "vanishing", "stable"]


def test_dead_units_and_no_gradient_at_all() -> None:
    layer = scalar(0.5)
    layer.parameters["b_l0"][...] = -100
    flow = gradient_norms(layer, np.ones((2, 5, 1)))
    assert (flow.verdict, flow.ratio, flow.factor) == ("vanishing", 0, 0)
    flow = gradient_norms(scalar(0.5), np.ones((2, 5, 1)), dh=np.zeros((2, 5, 1)))
    assert flow.verdict == "no gradient"
    assert np.isnan(flow.ratio)
    assert np.isnan(flow.factor)
    assert str(flow).startswith("no gradient: ")
    one = gradient_norms(scalar(0.5), np.ones((2, 1, 1)))
    assert (one.verdict, one.ratio, one.factor, one.steps) == ("stable", 1, 1, 0)
    # A sequence whose last step has no gradient does not count.
    dh = np.zeros((2, 3, 1))
    dh[0, 2] = 1
    np.testing.assert_array_equal(gradient_norms(scalar(0.5), np.ones((2, 3, 1)), dh=dh).share, [[1, 0.5, 0.25]])


def test_norms_neither_overflow_nor_underflow() -> None:
    for size in (1e-200, 1e200):
        flow = gradient_norms(scalar(0.5), np.ones((1, 3, 1)), dh=np.full((1, 3, 1), size))
        np.testing.assert_allclose(flow.norms, size * np.array([[1, 1.5, 1.75]]), rtol=1e-15)


def test_parts_of_an_encoder_and_decoder() -> None:
    rng = np.random.default_rng(0)
    pairs = Pairs([rng.integers(4, 9, n) for n in (7, 3)], [rng.integers(4, 8, n) for n in (2, 4)])
    for attention in (False, True):
        model = EncoderDecoder(9, 8, 5, embedding_size=4, target_embedding=4, attention=attention, dropout=0.3, seed=0)
        encoder, decoder = (gradient_norms(model, pairs, part=part) for part in ("encoder", "decoder"))
        assert encoder.names == ("l0", "l0_reverse")
        assert decoder.names == ("l0",)
        assert encoder.lengths.tolist() == [7, 3]
        assert decoder.lengths.tolist() == [3, 5]
        for flow in (encoder, decoder):
            assert (flow.norms > 0).all()
            assert flow.verdict == "stable"
        assert hidden_states(model, pairs, part="encoder").shape == (2, 7, 10)
    with pytest.raises(ValueError, match="part: expected one of 'encoder', 'decoder', got None"):
        gradient_norms(model, pairs)


def test_conditions_and_states() -> None:
    rng = np.random.default_rng(0)
    network = rnnfast.Network(5, 4, 3, cell="gru", embedding_size=4, condition_size=2, seed=0, dtype=np.float64)
    ids, condition, y = rng.integers(0, 5, (3, 6)), rng.normal(size=(3, 2)), [0, 1, 2]
    flow = gradient_norms(network, rnnfast.Sequences(ids, y, condition=condition))
    state = network.initial_state(condition)
    layer = network.recurrent
    outputs = network.forward((ids, condition), training=True)
    dstate = rnnfast.softmax_cross_entropy(outputs, y)[1] @ network.dense.parameters["W"].T
    vectors = network.embedding.forward(ids)  # type: ignore[union-attr]
    again = gradient_norms(layer, vectors, state=state, dstate=(dstate[None],))
    np.testing.assert_allclose(again.per_sequence, flow.per_sequence, rtol=1e-12)
    zero = gradient_norms(layer, vectors, dstate=(dstate[None],))
    assert not np.allclose(zero.per_sequence, flow.per_sequence)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda net, layer, x: gradient_norms("lstm", x), TypeError,
         "model: expected a Network, an EncoderDecoder or a recurrent layer, got str"),
        (lambda net, layer, x: hidden_states(rnnfast.Dense(2, 2), x), TypeError, "got Dense"),
        (lambda net, layer, x: gradient_norms(net, x, dh=x), ValueError, "dh, dstate: expected None with a model"),
        (lambda net, layer, x: gradient_norms(layer, x, [0, 1]), ValueError, "y: expected None with a layer"),
        (lambda net, layer, x: hidden_states(layer, x, part="l0"), ValueError, "part: expected None with a layer"),
        (lambda net, layer, x: gradient_norms(net, x, [0, 1], part="dense"), ValueError,
         "part: expected one of 'recurrent', got 'dense'"),
        (lambda net, layer, x: gradient_norms(net, x, [0, 1], loss="hinge"), ValueError,
         "loss: expected one of 'cross_entropy', 'squared_error' or a function, got 'hinge'"),
        (lambda net, layer, x: gradient_norms(net, x, [0]), ValueError, "y: expected targets for N = 2 sequences, "
         "got 1"),
        (lambda net, layer, x: gradient_norms(net, x[:, :, :1], [0, 1]), ValueError, "x: expected"),
        (lambda net, layer, x: gradient_norms(net, x, [0, 1], lengths=[0, 0]), ValueError,
         "lengths: expected a sequence with at least one step, got none"),
        (lambda net, layer, x: gradient_norms(net, rnnfast.Sequences(x, [0, 1]), [0, 1]), ValueError,
         "y, lengths: expected None with a Sequences, which has its own"),
        (lambda net, layer, x: gradient_norms(layer, x, dh=x), ValueError,
         "dh: expected (N, T, directions * H) = (2, 3, 4), got (2, 3, 2)"),
        (lambda net, layer, x: gradient_norms(layer, x, dstate=(x,)), ValueError,
         "dstate: expected a tuple of 2 for lstm"),
        (lambda net, layer, x: gradient_norms(layer, x, state=(x,)), ValueError,
         "state: expected a tuple of 2 for lstm"),
        (lambda net, layer, x: gradient_norms(net, x * np.nan, [0, 1]), FloatingPointError,
         "a hidden state, or the gradient that enters, is not finite"),
    ],
)  # fmt: skip
def test_error_messages(call: Any, kind: type[Exception], message: str) -> None:
    network, layer = rnnfast.Network(2, 4, 2, seed=0), rnnfast.LSTM(2, 4, seed=0)
    with pytest.raises(kind, match=re.escape(message)):
        call(network, layer, np.ones((2, 3, 2), np.float32))


def test_numbers_of_another_precision() -> None:
    network = rnnfast.Network(2, 4, 2, seed=0)
    x = np.random.default_rng(0).normal(size=(2, 5, 2))
    flow = gradient_norms(network, x, [0, 1])  # float64, as lists of Python's numbers are
    np.testing.assert_array_equal(flow.norms, gradient_norms(network, x.astype(np.float32), [0, 1]).norms)
    assert hidden_states(network, x.tolist()).dtype == np.float32
