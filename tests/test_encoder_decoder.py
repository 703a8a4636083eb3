"""encoder_decoder.py: gradients against central differences, padding, the search's step against teacher forcing."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast.encoder_decoder import Attention, EncoderDecoder, Pairs

V, K, H, E = 6, 5, 2, 3  # source words, target words, units, embedding
SOURCE_LENGTHS = np.array([4, 1, 3, 0])
LENGTHS = np.array([1, 5, 3, 2])
rng = np.random.default_rng(0)
SOURCE = rng.integers(0, V, (4, 4))
TARGET = rng.integers(0, K, (4, 5))
SOURCE[np.arange(4) >= SOURCE_LENGTHS[:, None]] = 77  # anything past a length
TARGET[np.arange(5) >= LENGTHS[:, None]] = -9
FEATURES = rng.normal(size=(4, 4, 3))
FEATURES[np.arange(4) >= SOURCE_LENGTHS[:, None]] = np.nan
D_LOGITS = rng.normal(size=(4, 5, K)) * (np.arange(5) < LENGTHS[:, None])[..., None]
CELLS = rnnfast.cells()


def make(cell: str = "lstm", dtype: Any = np.float64, **options: Any) -> EncoderDecoder:
    options = {"embedding_size": E, "target_embedding": 2, **options}
    size = 3 if options["embedding_size"] is None else V
    model = EncoderDecoder(size, K, H, cell=cell, dtype=dtype, seed=0, **options)
    model.vector[...] = np.random.default_rng(1).normal(size=model.vector.size) * 0.7
    return model


def run(model: EncoderDecoder, source: Any = SOURCE, training: bool = False) -> np.ndarray:
    return model.forward((source, SOURCE_LENGTHS, TARGET), lengths=LENGTHS, training=training)


def assert_central_differences(model: EncoderDecoder, forward: Any) -> None:
    """gradient_vector of sum(D_LOGITS * forward(training=True)), and each of its numbers by moving one parameter."""
    model.gradient_vector[...] = 99
    forward(True)
    model.backward(D_LOGITS)
    expected = np.zeros_like(model.vector)
    for i, value in enumerate(model.vector):
        moved = []
        for sign in (1, -1):
            model.vector[i] = value + sign * 1e-5
            moved.append(np.sum(D_LOGITS * forward(False)))
        model.vector[i] = value
        expected[i] = (moved[0] - moved[1]) / 2e-5
    worst = float(np.max(np.abs(model.gradient_vector - expected)))
    assert worst <= 1e-7 * max(float(np.max(np.abs(expected))), 0.1)
    for name, layer in model.layers.items():
        assert layer.gradient_vector.any(), name


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients(cell: str, attention: bool, num_layers: int) -> None:
    model = make(cell, attention=attention, num_layers=num_layers)
    assert_central_differences(model, lambda training: run(model, training=training))


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"embedding_size": None},
        {"embedding_size": 0, "target_embedding": 0},
        {"bidirectional": False, "num_layers": 2},
        {"recompute": 2},
    ],
)
def test_gradients_of_each_option(options: dict[str, Any], attention: bool) -> None:
    model = make("gru", attention=attention, **options)
    source = FEATURES if options.get("embedding_size", E) is None else SOURCE
    assert_central_differences(model, lambda training: run(model, source, training))


@pytest.mark.parametrize("attention", [True, False])
def test_gradients_under_dropout(attention: bool) -> None:
    model = make(attention=attention, num_layers=2, dropout=0.3, initial_state_std=0.5)
    masks = model.rng.bit_generator.state

    def forward(training: bool) -> np.ndarray:
        model.rng.bit_generator.state = masks
        return run(model, training=True)

    assert_central_differences(model, forward)


def test_gradients_without_lengths() -> None:
    model = make("gru", num_layers=2)
    source, target = SOURCE % V, TARGET % K
    D = np.ones((4, 5, K)) * np.arange(K)
    model.forward((source, None, target), training=True)
    model.backward(D)
    full = np.full(4, 4), np.full(4, 5)
    gradient = model.gradient_vector.copy()
    model.forward((source, full[0], target), lengths=full[1], training=True)
    model.backward(D)
    np.testing.assert_allclose(gradient, model.gradient_vector, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cell", ["rnn_tanh", "gru", "lstm"])
def test_outputs_are_those_of_the_equations(cell: str, assert_close: Any) -> None:
    """One sequence at a time, without padding, in plain NumPy on the reference's layers."""
    model = make(cell, num_layers=2)
    p = model.named_parameters()
    logits = run(model)
    for n in range(4):
        h = p["source_embedding.E"][SOURCE[n : n + 1, : SOURCE_LENGTHS[n]]]
        first = []
        for k in range(2):
            walks = [
                rnnfast.reference.forward(
                    cell, h, *(p[f"encoder.{w}_l{k}{s}"] for w in ("Wx", "Wh", "b")), reverse=s != ""
                )
                for s in ("", "_reverse")
            ]
            h = np.concatenate([w.h for w in walks], axis=2)
            ends = [np.concatenate(both, axis=1) for both in zip(*(w.state for w in walks), strict=True)]
            first.append(
                tuple(
                    end @ p[f"bridge_{name}_l{k}.W"] + p[f"bridge_{name}_l{k}.b"]
                    for name, end in zip("hc", ends, strict=False)
                )
            )
        memory = h[0]
        h = p["target_embedding.E"][TARGET[n : n + 1, : LENGTHS[n]]]
        for k in range(2):
            weights = (p[f"decoder.{w}_l{k}"] for w in ("Wx", "Wh", "b"))
            h = rnnfast.reference.forward(cell, h, *weights, first[k]).h
        Wa, Wc = np.split(p["attention.Wm"], 2, axis=1)
        scores = h[0] @ (memory @ Wa).T
        alpha = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        combined = np.tanh(alpha @ memory @ Wc + h[0] @ p["attention.Wh"] + p["attention.b"])
        expected = combined @ p["dense.W"] + p["dense.b"]
        assert_close(logits[n, : LENGTHS[n]], expected, 1000)
        assert_close(model.attention_weights[n, : LENGTHS[n], : SOURCE_LENGTHS[n]], alpha, 1000)


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("ids", [True, False])
def test_padding_reaches_nothing(ids: bool, attention: bool, assert_same_bits: Any) -> None:
    results = []
    for garbage in (0, 3):
        model = make(embedding_size=E if ids else None, attention=attention)
        source, target = (SOURCE if ids else FEATURES).copy(), TARGET.copy()
        source[np.arange(4) >= SOURCE_LENGTHS[:, None]] = garbage
        target[np.arange(5) >= LENGTHS[:, None]] = garbage
        y = model.forward((source, SOURCE_LENGTHS, target), lengths=LENGTHS, training=True)
        model.backward(D_LOGITS)
        results.append((y, model.gradient_vector))
        assert np.isfinite(model.gradient_vector).all()
        if attention:
            padded = np.broadcast_to(np.arange(4) >= SOURCE_LENGTHS[:, None, None], (4, 5, 4))
            assert not model.attention_weights[padded].any()
            sums = model.attention_weights.sum(axis=2)
            np.testing.assert_allclose(sums, np.broadcast_to((SOURCE_LENGTHS > 0)[:, None], (4, 5)), rtol=1e-12)
    assert_same_bits(results[0][0], results[1][0])
    assert_same_bits(results[0][1], results[1][1])


def test_a_row_does_not_depend_on_the_others() -> None:
    model = make("gru")
    together = run(model)
    for n in range(4):
        x = (SOURCE[n : n + 1, : SOURCE_LENGTHS[n]], None, TARGET[n : n + 1, : LENGTHS[n]])
        np.testing.assert_allclose(model.forward(x)[0], together[n, : LENGTHS[n]], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_float32_is_close_to_float64(cell: str, assert_close: Any) -> None:
    exact = make(cell, num_layers=2)
    rough = make(cell, np.float32, num_layers=2)
    exact.vector[...] = rough.vector
    expected = run(exact, training=True)
    exact.backward(D_LOGITS)
    y = run(rough, training=True)
    rough.backward(D_LOGITS.astype(np.float32))
    assert_close(y, expected, 1000, dtype=np.float32, name="logits")
    assert_close(rough.gradient_vector, exact.gradient_vector, 1000, dtype=np.float32, name="gradient")


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_steps_are_teacher_forcing(cell: str, num_layers: int, attention: bool, assert_close: Any) -> None:
    """Also where hypotheses of a source are repeated and reordered, as a beam search does."""
    model = make(cell, attention=attention, num_layers=num_layers)
    target = TARGET % K
    logits = model.forward((SOURCE, SOURCE_LENGTHS, target))
    encoded = model.encode(SOURCE, SOURCE_LENGTHS)
    rows, state = np.arange(4), encoded.start
    for t in range(target.shape[1]):
        step, state = model.decode_step(encoded, state, target[rows, t])
        assert_close(step, logits[rows, t], 1000)
        chosen = np.array([3, 1, 1, 0, 2, 0])[: 4 + t % 3]
        rows, state = rows[chosen], tuple(s[chosen] for s in state)


def test_named_parameters_copies_and_pickles_are_whole(assert_same_bits: Any) -> None:
    model = make(num_layers=2)
    assert sum(p.size for p in model.named_parameters().values()) == model.vector.size
    assert all(np.shares_memory(p, model.vector) for p in model.named_parameters().values())
    for twin in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_same_bits(run(twin), run(model))
        before = run(model)
        twin.vector[...] = 0
        assert not run(twin).any()
        assert_same_bits(run(model), before)


def test_dropout_is_off_in_inference_and_follows_the_seed(assert_same_bits: Any) -> None:
    plain, dropping, again = (EncoderDecoder(V, K, H, dropout=p, seed=3) for p in (0.0, 0.5, 0.5))
    assert_same_bits(run(dropping), run(plain))
    first = run(dropping, training=True)
    assert_same_bits(run(again, training=True), first)
    assert not np.array_equal(run(again, training=True), first)


def test_random_initial_states_are_for_training_alone(assert_same_bits: Any) -> None:
    plain, random = (EncoderDecoder(V, K, H, initial_state_std=std, seed=3) for std in (0.0, 1.0))
    assert_same_bits(run(random), run(plain))
    first = run(random, training=True)
    assert not np.array_equal(first, run(plain))
    assert not np.array_equal(run(random, training=True), first)


def pairs_of_reversed_words(count: int = 60) -> Pairs:
    words = [np.random.default_rng([7, i]).integers(4, 8, 2 + i % 3) for i in range(count)]
    return Pairs(words, [w[::-1] for w in words])


@pytest.mark.parametrize(("attention", "cell"), [(True, "gru"), (False, "lstm")])
def test_it_learns_to_reverse(cell: str, attention: bool) -> None:
    pairs = pairs_of_reversed_words()
    model = EncoderDecoder(8, 8, 24, cell=cell, embedding_size=8, target_embedding=8, attention=attention, seed=0)
    options: dict[str, Any] = {"max_epochs": 100, "target_loss": 0.01, "clip_norm": 1, "seed": 0}
    history = rnnfast.fit(model, pairs, validation=pairs, optimizer=rnnfast.Adam(0.01), **options)
    assert history["loss"][0] > 1
    assert history["val_loss"][-1] < 0.05
    assert history["val_accuracy"][-1] == 1


@pytest.mark.parametrize("options", [{"truncate": 2}, {"carry_state": True, "shuffle": False, "bucket": False}])
def test_whole_sequences_are_needed(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="needs whole sequences"):
        rnnfast.fit(EncoderDecoder(8, 8, 4), pairs_of_reversed_words(), batch_size=20, **options)


def test_pairs() -> None:
    pairs = Pairs([[4, 5, 6], [7], []], [[8, 9], [], [4]], start=2, stop=3)
    assert (len(pairs), pairs.lengths.tolist(), pairs.source_lengths.tolist()) == (3, [3, 1, 2], [3, 1, 0])
    (source, source_lengths, read), y, lengths = pairs.batch(np.array([2, 0]))
    assert source.tolist() == [[0, 0, 0], [4, 5, 6]]
    assert source_lengths.tolist() == [0, 3]
    assert read.tolist() == [[2, 4, 0], [2, 8, 9]]
    assert y.tolist() == [[4, 3, 0], [8, 9, 3]]
    assert lengths.tolist() == [2, 3]
    (source, _, read), y, _ = pairs.batch(np.array([1]))
    assert (source.tolist(), read.tolist(), y.tolist()) == ([[7]], [[2]], [[3]])


def test_pairs_of_features() -> None:
    features = [np.ones((2, 3), np.float32), np.full((1, 3), 5, np.float32)]
    (source, lengths, _), _, _ = Pairs(features, [[4], [5]]).batch(np.array([1, 0]))
    assert source.dtype == np.float32
    assert source.tolist() == [[[5.0] * 3, [0.0] * 3], [[1.0] * 3] * 2]
    assert lengths.tolist() == [1, 2]


ERRORS = [
    (lambda: Pairs([[1]], []), ValueError, "targets: expected one for each of N = 1 sources, got 0"),
    (lambda: Pairs([], []), ValueError, "x: expected at least one sequence, got none"),
    (lambda: Pairs([[1], [[0.5]]], [[1], [1]]), ValueError, "x[1]: expected shape (T_i,) as before it, got (1, 1)"),
    (lambda: Pairs([[1]], [[0.5]]), ValueError, "targets[0]: expected (T,) token ids, got (1,) of float64"),
    (lambda: Pairs([[1]], [[[1, 1]]]), ValueError, "targets[0]: expected (T,) token ids, got (1, 2) of int64"),
    (lambda: EncoderDecoder(V, K, 0), ValueError, "hidden_size: expected a positive integer, got 0"),
    (lambda: EncoderDecoder(V, K, H, target_embedding=-1), ValueError, "expected a positive integer, got -1"),
    (lambda: EncoderDecoder(V, K, H, dropout=1.0), ValueError, "dropout: expected 0 <= p < 1, got 1.0"),
    (lambda: EncoderDecoder(V, K, H, initial_state_std=-1), ValueError, "initial_state_std: expected a number of 0"),
    (lambda: make().forward(SOURCE), TypeError, "x: expected a tuple (source, source_lengths, target), got ndarray"),
    (lambda: make().forward((SOURCE % V, None, TARGET[:2] % K)), ValueError, "x: expected as many targets as N = 4"),
    (lambda: make().forward((SOURCE, None, TARGET)), ValueError, "ids["),
    (lambda: make().forward((SOURCE, SOURCE_LENGTHS + 9, TARGET)), ValueError, "lengths[0] = 13: expected a length"),
    (lambda: make().forward((SOURCE % V, None, TARGET % K), state=()), ValueError, "truncate and carry_state do not"),
    (lambda: make().backward(D_LOGITS), RuntimeError, "backward: expected a forward pass with training=True"),
    (lambda: Attention(2, 2).backward(D_LOGITS), RuntimeError, "backward: expected a forward pass with training=True"),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()
