"""One thread trains a layer or a model; any number predict, also meanwhile; copies and files keep no pass."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import GRU, LSTM, Dense, Embedding, EncoderDecoder, Network
from rnnfast.encoder_decoder import Pairs

X = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)
IDS = np.array([[4, 5, 6], [7, 4, 4]])
PAIRS, _, LENGTHS = Pairs([[4, 5, 6], [7]], [[5, 4], [6, 6, 4]]).batch(np.array([0, 1]))
MODELS: dict[str, tuple[Callable[[], Any], Any, dict[str, Any]]] = {
    "Embedding": (lambda: Embedding(9, 3, seed=0), IDS, {}),
    "Dense": (lambda: Dense(3, 2, seed=0), X, {}),
    "LSTM": (lambda: LSTM(3, 4, 2, True, dropout=0.3, seed=0), X, {"lengths": [6, 0, 3, 4]}),
    "Network": (lambda: Network(3, 4, 2, dropout=0.3, per_step=True, seed=0), X, {}),
    "EncoderDecoder": (lambda: EncoderDecoder(8, 7, 4, dropout=0.3, seed=0), PAIRS, {"lengths": LENGTHS}),
}
every_model = pytest.mark.parametrize("kind", MODELS)
TWO = "expected one thread to train it at a time"


def in_a_thread(function: Callable[[], Any]) -> Any:
    """What the function returned or raised in a thread of its own."""
    results: list[Any] = []

    def call() -> None:
        try:
            results.append(function())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return results[0]


def output(result: Any) -> np.ndarray:
    return result[0] if isinstance(result, tuple) else result


@every_model
def test_predictions_leave_a_pass_alone(kind: str, assert_same_bits: Any) -> None:
    make, x, options = MODELS[kind]
    model, expected = make(), make()
    y = output(expected.forward(x, training=True, **options))
    expected.backward(np.ones_like(y))
    assert_same_bits(output(model.forward(x, training=True, **options)), y)
    predicted = [in_a_thread(lambda: model.forward(x, **options)) for _ in range(3)]
    model.backward(np.ones_like(y))
    assert_same_bits(model.gradient_vector, expected.gradient_vector)
    for p in predicted:
        assert_same_bits(output(p), output(expected.forward(x, **options)))


@every_model
def test_a_pass_of_another_thread(kind: str) -> None:
    make, x, options = MODELS[kind]
    model = make()
    y = output(model.forward(x, training=True, **options))
    error = in_a_thread(lambda: model.backward(np.ones_like(y)))
    assert isinstance(error, RuntimeError)
    assert TWO in str(error)
    in_a_thread(lambda: model.forward(x, training=True, **options))
    with pytest.raises(RuntimeError, match=TWO):  # this would be the gradient of the other's pass
        model.backward(np.ones_like(y))
    model.forward(x, training=True, **options)
    model.backward(np.ones_like(y))
    with pytest.raises(RuntimeError, match="expected a forward pass with training=True before it"):
        model.backward(np.ones_like(y))
    model.forward(x, training=True, **options)
    model.forward(x, **options)
    with pytest.raises(RuntimeError, match="expected a forward pass with training=True before it"):
        model.backward(np.ones_like(y))


@every_model
def test_copies_have_no_pass(kind: str) -> None:
    make, x, options = MODELS[kind]
    model = make()
    y = output(model.forward(x, training=True, **options))
    for other in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with pytest.raises(RuntimeError, match="expected a forward pass with training=True before it"):
            other.backward(np.ones_like(y))
        in_a_thread(lambda other=other: other.forward(x, training=True, **options))
    model.backward(np.ones_like(y))


def test_while_backward_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forward pass for training that comes while another thread is in its backward pass."""
    model, seen = Dense(3, 2, seed=0), []
    y = model.forward(X, training=True)
    going_back = rnnfast._core.dense_gradient

    def slow(*arguments: Any) -> Any:
        seen.append(in_a_thread(lambda: model.forward(X, training=True)))
        return going_back(*arguments)

    monkeypatch.setattr(rnnfast._core, "dense_gradient", slow)
    model.backward(np.ones_like(y))
    (error,) = seen
    assert isinstance(error, RuntimeError)
    assert TWO in str(error)


def test_states_are_of_the_thread_that_asks(assert_same_bits: Any) -> None:
    network = Network(3, 4, 2, seed=0)
    assert network.state is None
    network.forward(X)
    mine = network.state
    other = in_a_thread(lambda: (network.forward(X[:2] + 1), network.state)[1])
    assert_same_bits(network.state[0], mine[0])
    assert other[0].shape == (1, 2, 4)
    fresh = Network(3, 4, 2, seed=0)
    in_a_thread(lambda: fresh.forward(X))
    assert_same_bits(fresh.state[0], mine[0])
    assert_same_bits(pickle.loads(pickle.dumps(fresh)).state[0], mine[0])


def test_states_end_with_their_threads() -> None:
    network = Network(3, 4, 2, seed=0)
    states = []

    def forward() -> None:
        network.forward(X)
        states.append(weakref.ref(network.state[0]))

    for _ in range(5):
        in_a_thread(forward)
    gc.collect()
    assert [state() is not None for state in states] == [False] * 4 + [True]  # the last one, for all who made none


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_may_train_what_another_thread_was_training() -> None:
    """There it is in nobody's hands; the thread that forks is the same there, within its own fit."""
    network, statuses = Network(3, 4, 2, seed=0), []

    class Fork(rnnfast.Callback):
        def __init__(self, function: Callable[[], Any]) -> None:
            self.function = function

        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            self.model.stop_training = True
            statuses.append(self.function())

    def in_a_child() -> int:
        child = os.fork()
        if child == 0:
            status = 2
            try:
                fit(network)
                network.forward(X, training=True)
                network.backward(np.zeros((4, 2), np.float32))
                status = 0
            except RuntimeError:
                status = 1
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    fit(network, callbacks=[Fork(lambda: in_a_thread(in_a_child)), Fork(in_a_child)])
    assert statuses == [0, 1]


class Meet(rnnfast.Callback):
    """Runs a function in another thread in the middle of a pass."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function, self.results = function, []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        self.results.append(in_a_thread(self.function))


def fit(network: Network, **options: Any) -> Any:
    return rnnfast.fit(network, X, [0, 1, 0, 1], batch_size=2, max_epochs=2, seed=0, **options)


def test_two_fits() -> None:
    network = Network(3, 4, 2, dropout=0.2, seed=0)
    meet = Meet(lambda: fit(network))
    fit(network, callbacks=[meet])
    assert len(meet.results) == 4
    for error in meet.results:
        assert isinstance(error, RuntimeError)
        assert "Network: expected one fit at a time, got another while the first goes on" in str(error)
    fit(network)  # and one after the other


def test_training_by_hand_while_fit_runs(assert_same_bits: Any) -> None:
    calm, network = Network(3, 4, 2, dropout=0.2, seed=0), Network(3, 4, 2, dropout=0.2, seed=0)
    fit(calm)
    meet = Meet(lambda: network.recurrent.forward(X, training=True))
    fit(network, callbacks=[meet])
    assert [str(error) for error in meet.results] == [
        f"Recurrent: {TWO}, got another while a pass of the first was under way"
    ] * 4
    assert_same_bits(network.vector, calm.vector)


@pytest.mark.parametrize("truncate", [None, 2])
def test_predictions_while_fit_runs(truncate: int | None, assert_same_bits: Any) -> None:
    """From many threads, all the time: the weights come out as without them."""
    calm, network = (Network(3, 4, 2, dropout=0.2, seed=0) for _ in range(2))
    options = {"truncate": truncate, "max_epochs": 150}
    rnnfast.fit(calm, X, [0, 1, 0, 1], batch_size=2, seed=0, **options)
    stop, seen = threading.Event(), []

    def predict() -> None:
        while not stop.is_set():
            seen.append(network.forward(X[:3]).shape)

    threads = [threading.Thread(target=predict) for _ in range(4)]
    for thread in threads:
        thread.start()
    rnnfast.fit(network, X, [0, 1, 0, 1], batch_size=2, seed=0, **options)
    stop.set()
    for thread in threads:
        thread.join()
    assert_same_bits(network.vector, calm.vector)
    assert set(seen) == {(3, 2)}


def test_a_model_that_is_no_layer_of_ours() -> None:
    class Slots:
        __slots__ = ("gradient_vector", "state", "stop_training", "vector")

        def __init__(self) -> None:
            self.vector, self.gradient_vector, self.state = np.zeros(1), np.zeros(1), None

        def forward(self, x: Any, **options: Any) -> np.ndarray:
            return np.zeros((len(x), 2))

        def backward(self, d: np.ndarray) -> None: ...

    assert fit(Slots()).stop_reason == "max_epochs"  # type: ignore[arg-type]


def test_the_two_gru_layers_are_apart() -> None:
    """What one layer's pass left is not another's."""
    one, two = GRU(3, 4, seed=0), GRU(3, 4, seed=0)
    h, _ = one.forward(X, training=True)
    with pytest.raises(RuntimeError, match="expected a forward pass"):
        two.backward(np.ones_like(h))
    one.backward(np.ones_like(h))
