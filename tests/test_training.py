"""training.py: what fit computes, against loops by hand, central differences and the losses of all data at once."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import SGD, Adam, Network, fit, softmax_cross_entropy, squared_error
from rnnfast.training import Sequences

LENGTHS = np.array([5, 2, 7, 1, 0, 4, 6])
N, T, D, K = 7, 7, 3, 2
NORMALIZERS = ["steps", "sequences", "both", "sum"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    """Problems this small gain nothing from a second thread, and lose much on a busy machine."""
    before = rnnfast.get_num_threads()
    rnnfast.set_num_threads(1)
    yield
    rnnfast.set_num_threads(before)


class Recorder:
    """An optimiser that keeps the gradients and changes nothing."""

    def __init__(self) -> None:
        self.gradients: list[np.ndarray] = []

    def step(self, parameters: np.ndarray, gradients: np.ndarray) -> None:
        self.gradients.append(gradients.copy())


def problem(per_step: bool, dtype: Any = np.float64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, T, D)).astype(dtype), rng.integers(0, K, (N, T) if per_step else N)


def make(per_step: bool = False, dtype: Any = np.float64, **options: Any) -> Network:
    return Network(D, 4, K, cell="lstm", per_step=per_step, dtype=dtype, seed=1, **options)


IN_ORDER: dict[str, Any] = {"shuffle": False, "bucket": False, "max_epochs": 1}


def test_adding_problem_is_learned() -> None:
    """Hochreiter and Schmidhuber 1997: the sum of the two marked numbers; always answering 1 errs by 1/6."""

    def data(n: int, steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        rows, marked = np.arange(n), (rng.integers(0, steps // 2, n), rng.integers(steps // 2, steps, n))
        x = np.zeros((n, steps, 2), np.float32)
        x[:, :, 0] = rng.random((n, steps))
        x[rows, marked[0], 1] = x[rows, marked[1], 1] = 1
        return x, x[rows, marked[0], :1] + x[rows, marked[1], :1]

    network = Network(2, 24, 1, cell="gru", seed=0)
    x, y = data(400, 30, seed=1)
    held_out = Sequences(x, y)
    baseline = squared_error(np.ones_like(y), y)[0]
    assert baseline == pytest.approx(1 / 6, rel=0.15)
    assert rnnfast.evaluate(network, held_out, "squared_error")["loss"] > 0.5 * baseline
    history = fit(network, *data(1000, 30, seed=0), loss="squared_error", optimizer=Adam(1e-2), clip_norm=1.0,
                  max_epochs=15, seed=0)  # fmt: skip
    assert history["loss"][-1] < 0.003
    assert rnnfast.evaluate(network, held_out, "squared_error")["loss"] < 0.003


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("per_step", [False, True])
def test_loss_of_a_pass_is_that_of_all_data_at_once(per_step: bool, normalizer: Any) -> None:
    """Ragged batches, the last one smaller; the weights stand still."""
    x, y = problem(per_step)
    network = make(per_step)
    history = fit(network, x, y, lengths=LENGTHS, optimizer=SGD(0.0), batch_size=3, max_epochs=2, seed=0,
                  normalizer=normalizer, validation=(x[:5], y[:5], LENGTHS[:5]))  # fmt: skip
    for name, n in (("loss", N), ("val_loss", 5)):
        logits, lengths = network.forward(x[:n], lengths=LENGTHS[:n]), LENGTHS[:n]
        expected, _ = softmax_cross_entropy(logits, y[:n], lengths=lengths if per_step else None, normalizer=normalizer)
        assert history[name] == pytest.approx([expected] * 2, rel=1e-12), name
    valid = np.arange(T) < LENGTHS[:5, None] if per_step else np.ones(5, bool)
    right = (network.forward(x[:5], lengths=LENGTHS[:5]).argmax(axis=-1) == y[:5])[valid]
    assert history["val_accuracy"] == pytest.approx([right.mean()] * 2)


@pytest.mark.parametrize("normalizer", ["steps", "sequences", "sum"])
def test_loss_of_pieces_is_that_of_whole_sequences(normalizer: Any) -> None:
    x, y = problem(per_step=True)
    network = make(per_step=True)
    history = fit(network, x, y, lengths=LENGTHS, optimizer=SGD(0.0), batch_size=4, max_epochs=1, truncate=3,
                  normalizer=normalizer)  # fmt: skip
    expected, _ = softmax_cross_entropy(network.forward(x, lengths=LENGTHS), y, lengths=LENGTHS, normalizer=normalizer)
    assert history["loss"] == pytest.approx([expected], rel=1e-12)


def test_squared_error_and_evaluate() -> None:
    x, _ = problem(per_step=True)
    y = np.random.default_rng(1).normal(size=(N, T, K))
    network = make(per_step=True)
    errors = (network.forward(x, lengths=LENGTHS) - y)[np.arange(T) < LENGTHS[:, None]] ** 2
    values = rnnfast.evaluate(network, Sequences(x, y, LENGTHS, per_step=True), "squared_error", batch_size=2)
    assert values == {"loss": pytest.approx(errors.mean(), rel=1e-12)}
    history = fit(network, x, y, lengths=LENGTHS, loss="squared_error", optimizer=SGD(0.0), max_epochs=1)
    assert history["loss"] == pytest.approx([errors.mean()], rel=1e-12)


@pytest.mark.parametrize("per_step", [False, True])
def test_updates_are_those_of_a_loop_by_hand(per_step: bool, assert_same_bits: Any) -> None:
    x, y = problem(per_step)
    network, twin = make(per_step), make(per_step)
    fit(network, x, y, lengths=LENGTHS, optimizer=Adam(0.1), batch_size=3, normalizer="sequences",
        **IN_ORDER | {"max_epochs": 3})  # fmt: skip
    optimizer = Adam(0.1)
    for _ in range(3):
        for rows in (slice(0, 3), slice(3, 6), slice(6, 7)):
            n = LENGTHS[rows]
            logits = twin.forward(x[rows, : n.max()], lengths=n, training=True)
            targets = y[rows, : n.max()] if per_step else y[rows]
            _, d = softmax_cross_entropy(logits, targets, lengths=n if per_step else None, normalizer="sequences")
            twin.backward(d)
            optimizer.step(twin.vector, twin.gradient_vector)
    assert_same_bits(network.vector, twin.vector)


@pytest.mark.parametrize("truncate", [1, 3, 6])
@pytest.mark.parametrize("carry_state", [False, True])
def test_pieces_are_segment_wise_updates(truncate: int, carry_state: bool, assert_same_bits: Any) -> None:
    """Per step: one update for each piece, the state carried on between pieces, and between batches when asked."""
    x, y = problem(per_step=True)
    x, y, lengths = x[:6], y[:6], LENGTHS[:6]
    network, twin = make(per_step=True), make(per_step=True)
    fit(network, x, y, lengths=lengths, optimizer=SGD(0.5, momentum=0.9), batch_size=2, truncate=truncate,
        carry_state=carry_state, **IN_ORDER | {"max_epochs": 2})  # fmt: skip
    optimizer = SGD(0.5, momentum=0.9)
    for _ in range(2):
        state = None
        for rows in (slice(0, 2), slice(2, 4), slice(4, 6)):
            state = state if carry_state else None
            for start in range(0, int(lengths[rows].max()), truncate):
                steps = slice(start, min(start + truncate, int(lengths[rows].max())))
                n = np.clip(lengths[rows] - start, 0, truncate)
                logits = twin.forward(x[rows, steps], lengths=n, state=state, training=True)
                state = twin.state
                _, d = softmax_cross_entropy(logits, y[rows, steps], lengths=n)
                twin.backward(d)
                optimizer.step(twin.vector, twin.gradient_vector)
    assert_same_bits(network.vector, twin.vector)


@pytest.mark.parametrize("truncate", [None, 3])
def test_carried_state_many_to_one(truncate: int | None) -> None:
    """Row i of each batch goes on where row i of the batch before ended; each pass starts afresh."""
    x, y = problem(per_step=False)
    x, y, lengths = x[:6], y[:6], LENGTHS[:6]
    network = make()
    history = fit(network, x, y, lengths=lengths, optimizer=SGD(0.0), batch_size=2, carry_state=True,
                  truncate=truncate, **IN_ORDER | {"max_epochs": 2})  # fmt: skip
    logits = np.zeros((6, K))
    for column in range(2):
        state = None
        for row in range(column, 6, 2):
            logits[row] = network.forward(x[row : row + 1, : lengths[row]], state=state)
            state = network.state
    expected, _ = softmax_cross_entropy(logits, y)
    assert history["loss"] == pytest.approx([expected] * 2, rel=1e-12)
    alone, _ = softmax_cross_entropy(network.forward(x, lengths=lengths), y)
    assert history["loss"][0] != pytest.approx(alone, rel=1e-6)


def test_truncation_that_cuts_nothing(assert_same_bits: Any) -> None:
    x, y = problem(per_step=False)
    gradients = []
    for truncate in (None, T, T + 3):
        recorder = Recorder()
        fit(make(), x, y, lengths=LENGTHS, optimizer=recorder, truncate=truncate, **IN_ORDER)
        gradients.append(recorder.gradients)
    assert_same_bits(gradients[0][0], gradients[1][0])
    assert_same_bits(gradients[0][0], gradients[2][0])


@pytest.mark.parametrize("truncate", [1, 3, 6])
def test_truncated_many_to_one_gradient(truncate: int) -> None:
    """Central differences of the loss through the last steps of each sequence, from a state held constant."""
    x, y = problem(per_step=False)
    network, recorder = make(), Recorder()
    fit(network, x, y, lengths=LENGTHS, optimizer=recorder, truncate=truncate, **IN_ORDER)
    states = []
    for row, n in enumerate(LENGTHS):
        network.forward(x[row : row + 1, : max(n - truncate, 0)])
        states.append(network.state)

    def loss() -> float:
        parts = [x[row : row + 1, max(n - truncate, 0) : n] for row, n in enumerate(LENGTHS)]
        logits = [network.forward(part, state=state) for part, state in zip(parts, states, strict=True)]
        return softmax_cross_entropy(np.concatenate(logits), y)[0]

    expected = np.zeros_like(network.vector)
    for i, value in enumerate(network.vector.copy()):
        network.vector[i] = value + 1e-5
        high = loss()
        network.vector[i] = value - 1e-5
        expected[i] = (high - loss()) / 2e-5
        network.vector[i] = value
    (gradient,) = recorder.gradients
    assert np.abs(gradient - expected).max() <= 1e-7 * max(np.abs(expected).max(), 0.1)


def test_clipping() -> None:
    x, y = problem(per_step=False)

    def gradient(**options: Any) -> np.ndarray:
        recorder = Recorder()
        fit(make(), x, y, lengths=LENGTHS, optimizer=recorder, normalizer="sum", **IN_ORDER, **options)
        return recorder.gradients[0]

    g = gradient()
    norm, limit = float(np.linalg.norm(g)), float(np.sort(np.abs(g))[-10])
    np.testing.assert_allclose(gradient(clip_norm=norm / 3), g / 3, rtol=1e-12)
    assert np.array_equal(gradient(clip_norm=norm * 2), g)
    clipped = np.minimum(np.maximum(g, -limit), limit)
    assert np.array_equal(gradient(clip_value=limit), clipped)
    both = gradient(clip_value=limit, clip_norm=norm / 10)  # by value first
    np.testing.assert_allclose(both, clipped * (norm / 10) / np.linalg.norm(clipped), rtol=1e-12)


def run(seed: int, **options: Any) -> tuple[np.ndarray, list[float]]:
    x, y = problem(per_step=False)
    network = make(dropout=0.3, num_layers=2)
    history = fit(
        network, x, y, lengths=LENGTHS, optimizer=Adam(0.01), batch_size=2, max_epochs=3, seed=seed, **options
    )
    return network.vector, history["loss"]


def test_seed(assert_same_bits: Any) -> None:
    for options in ({}, {"bucket": False}, {"shuffle": False}):
        (a, losses), (b, again) = run(0, **options), run(0, **options)
        assert_same_bits(a, b)
        assert losses == again
    assert not np.array_equal(run(0)[0], run(1)[0])  # another order of the batches
    assert np.array_equal(run(0, shuffle=False)[0], run(1, shuffle=False)[0])


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("ids", [False, True])
def test_lists_and_padded_arrays_are_the_same(ids: bool, per_step: bool, assert_same_bits: Any) -> None:
    x, y = problem(per_step)
    if ids:
        x = np.random.default_rng(3).integers(0, D, (N, T))
    padded = x.copy()
    padded[np.arange(T) >= LENGTHS[:, None]] = -99 if ids else np.nan
    results = []
    for given, targets, lengths in (
        (padded, y, LENGTHS),
        ([row[:n] for row, n in zip(x, LENGTHS, strict=True)],
         [row[:n] for row, n in zip(y, LENGTHS, strict=True)] if per_step else y.tolist(), None),
    ):  # fmt: skip
        network = make(per_step, **({"embedding_size": 2} if ids else {}))
        fit(network, given, targets, lengths=lengths, batch_size=2, max_epochs=2, seed=0)
        results.append(network.vector)
    assert np.isfinite(results[0]).all()
    assert_same_bits(results[0], results[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("per_step", [False, True])
def test_dtypes(per_step: bool, dtype: Any) -> None:
    x, y = problem(per_step, dtype)
    network = make(per_step, dtype)
    history = fit(network, x, y, lengths=LENGTHS, optimizer=Adam(0.05), max_epochs=60, seed=0, clip_norm=1.0)
    assert network.vector.dtype == dtype
    assert history["loss"][-1] < 0.5 * history["loss"][0]


X = [np.zeros((2, D)), np.zeros((3, D))]
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"x": []}, ValueError, "x: expected at least one sequence, got none"),
    ({"x": np.zeros(3)}, ValueError, "x: expected (N, T) token ids or (N, T, D) features, got (3,)"),
    ({"x": [1, 2]}, ValueError, "x[0]: expected (T,) token ids or (T, D) features, got ()"),
    ({"x": [X[0], np.zeros((1, 2, D))]}, ValueError, "x[1]: expected (T,) token ids or (T, D) features"),
    ({"lengths": [2, 3]}, ValueError, "lengths: expected None with a list of sequences"),
    ({"x": np.zeros((2, 3, D)), "lengths": [1]}, ValueError, "lengths: expected (N,) = (2,), got (1,)"),
    ({"x": np.zeros((2, 3, D)), "lengths": [1, 4]}, ValueError, "lengths: expected 0..T = 0..3, got 1..4"),
    ({"x": np.zeros((2, 3, D)), "lengths": [-1, 2]}, ValueError, "lengths: expected 0..T = 0..3, got -1..2"),
    ({"x": np.zeros((2, 3, D)), "lengths": [1.0, 2.5]}, TypeError, "lengths: expected integers, got float64"),
    ({"y": [0]}, ValueError, "y: expected targets for N = 2 sequences, got 1"),
    ({"y": None}, ValueError, "y: expected targets, got None"),
    ({"y": [0, 2]}, ValueError, "targets[1] = 2: expected a class in [0, K) = [0, 2)"),
    ({"loss": "hinge"}, ValueError, "loss: expected one of 'cross_entropy', 'squared_error' or a function"),
    ({"normalizer": "mean"}, ValueError, "normalizer: expected one of"),
    ({"batch_size": 0}, ValueError, "batch_size: expected a positive integer, got 0"),
    ({"batch_size": None}, TypeError, "batch_size: expected a positive integer, got None"),
    ({"max_epochs": None}, TypeError, "max_epochs: expected a positive integer, got None"),
    ({"schedule": 0.5}, ValueError, "schedule: expected one of constant, linear, cosine or a function"),
    ({"max_epochs": 2.0}, TypeError, "max_epochs: expected a positive integer, got 2.0"),
    ({"patience": True}, TypeError, "patience: expected a positive integer, got True"),
    ({"truncate": 0}, ValueError, "truncate: expected a positive integer, got 0"),
    ({"clip_norm": 0}, ValueError, "clip_norm: expected a positive number, got 0"),
    ({"clip_value": float("nan")}, ValueError, "clip_value: expected a positive number, got nan"),
    ({"clip_norm": "1"}, ValueError, "clip_norm: expected a positive number, got '1'"),
    ({"tol": -0.1}, ValueError, "tol: expected a number of 0 or more, got -0.1"),
    ({"tol": None}, ValueError, "tol: expected a number of 0 or more, got None"),
    ({"target_loss": "low"}, ValueError, "target_loss: expected a number, got 'low'"),
    ({"target_loss": float("nan")}, ValueError, "target_loss: expected a number, got nan"),
    ({"schedule": "step"}, ValueError, "schedule: expected one of constant, linear, cosine or a function, and an"),
    (
        {"schedule": "linear", "optimizer": Recorder()},
        ValueError,
        "and an optimizer with a learning_rate, got 'linear'",
    ),
    ({"x": Sequences(X, [0, 1])}, ValueError, "y, lengths: expected None with a Sequences, which has its own"),
    ({"x": Sequences(X), "y": None}, ValueError, "y: expected targets, got None"),
    (
        {"x": Sequences(X, [[0] * 2, [0] * 3], per_step=True), "y": None},
        ValueError,
        "x: expected targets for each sequence, as the model has outputs, got a Sequences of others",
    ),
    ({"validation": (X,)}, ValueError, "validation: expected (x, y) or (x, y, lengths), got 1 items"),
    ({"validation": (X, [0])}, ValueError, "y: expected targets for N = 2 sequences, got 1"),
    ({"carry_state": True}, ValueError, "carry_state: expected shuffle=False, bucket=False"),
    ({"carry_state": True, "shuffle": False}, ValueError, "carry_state: expected shuffle=False, bucket=False"),
    ({"carry_state": True, "bucket": False}, ValueError, "carry_state: expected shuffle=False, bucket=False"),
    (
        {"carry_state": True, "shuffle": False, "bucket": False, "batch_size": 3},
        ValueError,
        "a number of sequences that batch_size divides",
    ),
]


@pytest.mark.parametrize(("wrong", "error", "message"), BAD)
def test_errors(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    network = make()
    before = network.vector.copy()
    with pytest.raises(error, match=re.escape(message)):
        fit(network, **{"x": X, "y": [0, 1]} | wrong)
    assert np.array_equal(network.vector, before)


class Rates(Recorder):
    """An optimiser that keeps its learning rate of each step."""

    def __init__(self, learning_rate: float = 0.5) -> None:
        super().__init__()
        self.learning_rate, self.rates = learning_rate, []

    def step(self, parameters: np.ndarray, gradients: np.ndarray) -> None:
        self.rates.append(self.learning_rate)


SCHEDULES: dict[str, tuple[Any, Any]] = {
    "constant": ("constant", lambda part: np.ones_like(part)),
    "linear": ("linear", lambda part: 1 - part),
    "cosine": ("cosine", lambda part: (1 + np.cos(np.pi * part)) / 2),
    "warm-up": (lambda part: min(1.0, 4 * part), lambda part: np.minimum(1, 4 * part)),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("truncate", [None, 3])
def test_schedule(name: str, truncate: int | None) -> None:
    """Of the part of the training that is done before each step; the optimiser's own rate is back at the end."""
    schedule, factor = SCHEDULES[name]
    x, y = problem(per_step=True)
    optimizer = Rates()
    fit(make(per_step=True), x, y, lengths=LENGTHS, optimizer=optimizer, batch_size=3, max_epochs=4, schedule=schedule,
        truncate=truncate, shuffle=False)  # fmt: skip
    steps = 3 if truncate is None else 1 + 2 + 3  # in each pass: sorted by length, batches of at most 2, 6 and 7 steps
    parts = np.arange(4 * steps) / (4 * steps)
    np.testing.assert_allclose(optimizer.rates, 0.5 * factor(parts), rtol=1e-12)
    assert optimizer.learning_rate == 0.5


def test_schedule_of_a_real_optimizer(assert_same_bits: Any) -> None:
    x, y = problem(per_step=False)
    network, twin = make(), make()
    optimizer, by_hand = Adam(0.1), Adam(0.1)
    history = fit(network, x, y, lengths=LENGTHS, optimizer=optimizer, batch_size=4, schedule="linear", shuffle=False,
                  bucket=False, max_epochs=3)  # fmt: skip
    assert history.stop_reason == "max_epochs"
    for step in range(6):
        rows = slice(0, 4) if step % 2 == 0 else slice(4, 7)
        by_hand.learning_rate = 0.1 * (1 - step / 6)
        logits = twin.forward(x[rows, : LENGTHS[rows].max()], lengths=LENGTHS[rows], training=True)
        twin.backward(softmax_cross_entropy(logits, y[rows])[1])
        by_hand.step(twin.vector, twin.gradient_vector)
    assert_same_bits(network.vector, twin.vector)
    assert optimizer.learning_rate == 0.1


def test_the_rate_is_back_after_an_error() -> None:
    class Stop(rnnfast.Callback):
        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            raise ZeroDivisionError

    x, y = problem(per_step=False)
    optimizer = Adam(0.1)
    with pytest.raises(ZeroDivisionError):
        fit(make(), x, y, optimizer=optimizer, schedule=lambda part: 0.125, callbacks=[Stop()])
    assert optimizer.learning_rate == 0.1


def test_a_constant_rate_is_the_callbacks_to_change() -> None:
    class Halve(rnnfast.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
            optimizer.learning_rate /= 2

    x, y = problem(per_step=False)
    optimizer = Rates()
    fit(make(), x, y, optimizer=optimizer, max_epochs=3, callbacks=[Halve()])
    assert optimizer.rates == [0.5, 0.25, 0.125]
    assert optimizer.learning_rate == 0.0625


class Doubled:
    """A data set that is computed when it is asked for: only what fit reads of one."""

    per_step = False

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y, self.lengths = x, y, LENGTHS

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n = self.lengths[rows]
        return 2 * self.x[rows, : n.max(initial=0)], self.y[rows], n


def test_a_data_set_of_ones_own(tmp_path: Any, assert_same_bits: Any) -> None:
    x, y = problem(per_step=False)
    results = []
    for given in ((Doubled(x, y),), (Sequences(2 * x, y, LENGTHS),), (2 * x, y)):
        network = make(dropout=0.2)
        lengths = LENGTHS if len(given) == 2 else None
        held_out = (2 * x, y, LENGTHS) if len(given) == 2 else given[0]
        history = fit(network, *given, lengths=lengths, batch_size=2, max_epochs=3, seed=0, validation=held_out,
                      checkpoint=tmp_path / str(len(results)))  # fmt: skip
        results.append((network.vector, history["loss"], history["val_loss"], history["val_accuracy"]))
    for other in results[1:]:
        assert_same_bits(results[0][0], other[0])
        assert results[0][1:] == other[1:]
    assert rnnfast.evaluate(make(), Doubled(x, y)) == rnnfast.evaluate(make(), Sequences(2 * x, y, LENGTHS))


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("truncate", [None, 2])
def test_condition_in_batches(per_step: bool, truncate: int | None, assert_same_bits: Any) -> None:
    """Pieces after the first one go on from the state, not from the condition; the gradient of the first reaches it."""
    x, y = problem(per_step)
    c = np.random.default_rng(1).normal(size=(N, 3))
    data = Sequences(x, y, LENGTHS, per_step=per_step, condition=c)
    network, twin = (make(per_step, condition_size=3) for _ in range(2))
    fit(network, data, optimizer=SGD(0.5), batch_size=N, truncate=truncate, **IN_ORDER)
    for name, value in network.layers["condition"].parameters.items():
        changed = not np.array_equal(value, twin.layers["condition"].parameters[name])
        assert changed == (per_step or truncate is None)
    if per_step and truncate:
        optimizer, state = SGD(0.5), None
        for start in range(0, T, 2):
            n = np.clip(LENGTHS - start, 0, 2)
            logits = twin.forward((x[:, start : start + 2], c), lengths=n, state=state, training=True)
            state = twin.state
            twin.backward(softmax_cross_entropy(logits, y[:, start : start + 2], lengths=n)[1])
            optimizer.step(twin.vector, twin.gradient_vector)
        assert_same_bits(network.vector, twin.vector)


def test_errors_of_targets_for_each_step() -> None:
    with pytest.raises(ValueError, match=re.escape("y[1]: expected a target for each of 3 steps, got 2")):
        fit(make(per_step=True), X, [[0, 1], [0, 1]])
    with pytest.raises(ValueError, match=re.escape("loss: expected one of 'cross_entropy'")):
        rnnfast.evaluate(make(), Sequences(X, [0, 1]), "hinge")


@pytest.mark.parametrize("option", [{"truncate": 2}, {"carry_state": True, "shuffle": False, "bucket": False}])
def test_both_directions_need_whole_sequences(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="truncate, carry_state: expected a model of one direction"):
        fit(make(bidirectional=True), X, [0, 1], batch_size=2, **option)
