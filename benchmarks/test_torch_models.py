"""PyTorch's twins: the same outputs from the same weights, and the same weights after the same training."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import rnnfast
from rnnfast.encoder_decoder import EncoderDecoder, Pairs

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parent))
import torch_models  # noqa: E402

torch.set_num_threads(1)
RAGGED, DENSE = [7, 3, 5, 7, 1, 4, 6, 2, 7, 5], [6] * 10
CLASSES = 4


def options(**changes):
    """What rnnfast.fit was given."""
    return {
        "loss": "cross_entropy",
        "normalizer": "steps",
        "optimizer": rnnfast.Adam(0.01),
        "batch_size": 3,
        "clip_norm": None,
        "clip_value": None,
        "truncate": None,
        "carry_state": False,
        "shuffle": True,
        "bucket": True,
        **changes,
    }


def sequences(lengths, ids=10, *, per_step=False, features=None, numbers=None, condition=None, dtype=np.float64):
    """Token ids below `ids` (of several vocabularies: each step has several), or features, and their targets."""
    rng = np.random.default_rng(0)
    shape = [(n,) if np.ndim(ids) == 0 else (n, len(ids)) for n in lengths]
    x = [rng.integers(0, ids, size) for size in shape]
    if features:
        x = [rng.normal(size=(n, features)).astype(dtype) for n in lengths]

    def target(*size):
        return rng.normal(size=(*size, numbers)).astype(dtype) if numbers else rng.integers(0, CLASSES, size)

    y = [target(n) for n in lengths] if per_step else target(len(lengths))
    condition = None if condition is None else rng.normal(size=(len(lengths), condition)).astype(dtype)
    return rnnfast.Sequences(x, y, per_step=per_step, condition=condition)


def network(size=10, outputs=CLASSES, **changes):
    made = rnnfast.Network(size, 5, outputs, **{"embedding_size": 4, "dtype": np.float64, "seed": 0, **changes})
    return with_biases(made)


def with_biases(model):
    """Zero biases hide mistakes."""
    rng = np.random.default_rng(1)
    for name, value in model.named_parameters().items():
        if ".b" in name:
            value[...] = rng.normal(0, 0.3, value.shape)
    return model


def pairs(**changes):
    rng = np.random.default_rng(0)
    model = EncoderDecoder(10, 9, 5, embedding_size=4, target_embedding=3, dtype=np.float64, seed=0, **changes)
    targets = [rng.integers(4, 9, n) for n in RAGGED[::-1]]
    return with_biases(model), Pairs([rng.integers(4, 10, n) for n in RAGGED], targets)


def only_one_bias(module):
    """As rnnfast has it: r and z of a GRU have one bias, not two that both take a step."""
    for name, parameter in module.named_parameters():
        if "bias_hh" in name and parameter.requires_grad:
            H = len(parameter) // 3
            parameter.register_hook(lambda g, H=H: torch.cat([torch.zeros_like(g[: 2 * H]), g[2 * H :]]))


def check(model, data, *, packed=True, **changes):
    """Equal outputs before training; equal losses and outputs after two passes on each side."""
    arguments = options(**changes)
    assert torch_models.gap(model, data, arguments) is None
    module = torch_models.twin(model, packed=packed)
    only_one_bias(module)
    rows = np.arange(len(data))
    torch_models.compare(model, module, data, rows, 1e-12)
    ours, theirs = arguments["optimizer"], torch_models.adam(module, arguments["optimizer"])
    rngs = np.random.default_rng(2), np.random.default_rng(2)
    losses = []
    for _ in range(2):
        ours.learning_rate = 0.01
        history = rnnfast.fit(
            model, data, **{**arguments, "max_epochs": 1, "seed": rngs[0], "schedule": lambda part: 1 - part / 2}
        )
        ours.learning_rate = 0.01
        losses.append(torch_models.train(module, theirs, data, arguments, rngs[1], lambda part: 1 - part / 2))
    torch_models.compare(model, module, data, rows, 1e-7)
    assert np.isfinite(losses).all()
    return history["loss"][-1], losses[-1]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
@pytest.mark.parametrize("lengths", [DENSE, RAGGED], ids=["dense", "ragged"])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("per_step", [True, False])
def test_cells(cell, lengths, packed, per_step):
    model = network(cell=cell, per_step=per_step)
    ours, theirs = check(model, sequences(lengths, per_step=per_step), packed=packed)
    assert ours == pytest.approx(theirs, rel=0.3)  # one weighs batches by their size


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("per_step", [True, False])
def test_layers_and_directions(cell, per_step):
    model = network(cell=cell, num_layers=2, bidirectional=True, per_step=per_step)
    check(model, sequences(RAGGED, per_step=per_step))


def test_features_and_one_hot():
    check(network(3, embedding_size=None), sequences(RAGGED, features=3))
    check(network(10, embedding_size=0), sequences(RAGGED))


def test_several_embeddings():
    check(network([10, 7], embedding_size=[4, 2], per_step=True), sequences(RAGGED, [10, 7], per_step=True))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("packed", [True, False])
def test_condition(cell, packed):
    model = network(cell=cell, num_layers=2, condition_size=3, per_step=True)
    check(model, sequences(RAGGED, per_step=True, condition=3), packed=packed)


@pytest.mark.parametrize("normalizer", ["steps", "sequences", "both", "sum"])
@pytest.mark.parametrize("per_step", [True, False])
@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_losses(normalizer, per_step, loss):
    numbers = 2 if loss == "squared_error" else None
    model = network(outputs=numbers or CLASSES, per_step=per_step)
    check(model, sequences(RAGGED, per_step=per_step, numbers=numbers), normalizer=normalizer, loss=loss)


def test_clipping():
    check(network(), sequences(RAGGED), clip_norm=0.1)
    check(network(), sequences(RAGGED), clip_value=0.01)


@pytest.mark.parametrize("normalizer", ["steps", "sequences"])
def test_truncated_at_each_step(normalizer):
    model = network(per_step=True, num_layers=2)
    check(model, sequences(RAGGED, per_step=True), truncate=2, normalizer=normalizer)


def test_truncated_many_to_one():
    check(network(num_layers=2), sequences(DENSE), truncate=4)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_carried_state(cell):
    lengths = [5] * 9
    model = network(cell=cell, per_step=True)
    check(model, sequences(lengths, per_step=True), truncate=2, carry_state=True, shuffle=False, bucket=False)


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("changes", [{}, {"cell": "gru", "num_layers": 2}, {"bidirectional": False}], ids=str)
def test_encoder_decoder(attention, packed, changes):
    model, data = pairs(attention=attention, **changes)
    check(model, data, packed=packed)


def test_dropout_stands_in_the_same_places():
    model = network(dropout=0.5, num_layers=2)
    module = torch_models.twin(model)
    assert module.dropout.p == module.recurrent.dropout == 0.5
    data = sequences(RAGGED)
    before = [p.detach().clone() for p in module.parameters()]
    torch_models.train(
        module,
        torch_models.adam(module, rnnfast.Adam(0.01)),
        data,
        options(),
        np.random.default_rng(0),
        lambda part: 1.0,
    )
    assert any((a != b).any() for a, b in zip(before, module.parameters(), strict=True))


def test_random_initial_state():
    model = network(initial_state_std=0.5, cell="gru")
    module = torch_models.twin(model)
    x, _, lengths = map(torch.from_numpy, sequences(RAGGED).batch(np.arange(3)))
    module.train()
    assert (module(x, lengths)[0] != module(x, lengths)[0]).any()
    module.eval()
    assert (module(x, lengths)[0] == module(x, lengths)[0]).all()


def test_compare_notices_a_difference():
    model, data = network(), sequences(RAGGED)
    module = torch_models.twin(model)
    model.vector[-1] += 1e-3
    with pytest.raises(AssertionError, match="differ"):
        torch_models.compare(model, module, data, np.arange(4), 1e-5)


def test_gaps():
    data = sequences(RAGGED)
    assert "rnn_sigmoid" in torch_models.gap(network(cell="rnn_sigmoid"), data, options())
    assert "loss" in torch_models.gap(network(), data, options(loss=rnnfast.squared_error))
    assert "optimiser" in torch_models.gap(network(), data, options(optimizer=rnnfast.SGD(0.1)))
    assert "cut" in torch_models.gap(network(), data, options(truncate=2))
    assert "carry" in torch_models.gap(network(), data, options(carry_state=True))
