"""training.py: what ends fit and what is left then: stopping rules, best weights, callbacks, NaN, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import Callback, Network, fit

X, Y = [np.array([4, 5]), np.array([6]), np.array([7, 4, 4])], [0, 1, 1]
HELD_OUT = ([np.array([5]), np.array([6, 7])], [7, 7])  # a class by which Script knows them


class Script:
    """A loss that says what it is told to, one number for each batch; those of the held-out data have their own."""

    def __init__(self, losses: list[float], held_out: list[float] | None = None) -> None:
        self.losses, self.held_out = iter(losses), iter(held_out or [])

    def __call__(self, outputs: np.ndarray, targets: Any, **options: Any) -> tuple[float, np.ndarray]:
        loss = next(self.held_out if 7 in targets else self.losses)
        return loss, np.zeros_like(outputs)


class Count:
    """An optimiser that adds 1 to each weight: what stands there tells after which pass it was."""

    def step(self, parameters: np.ndarray, gradients: np.ndarray) -> None:
        parameters += 1


def model() -> Network:
    network = Network(8, 4, 2, embedding_size=3, dtype=np.float64, seed=0)
    network.vector[...] = 0
    return network


def follow(losses: list[float], held_out: list[float] | None = None, **options: Any) -> tuple[Any, int]:
    """History and after how many steps the weights are; one batch for each pass."""
    network = model()
    options = {"max_epochs": len(losses), "validation": HELD_OUT if held_out else None, **options}
    history = fit(network, X, Y, loss=Script(losses, held_out), optimizer=Count(), **options)
    assert len(history["seconds"]) == len(history["loss"])
    assert min(history["seconds"], default=0) >= 0
    (value,) = set(network.vector.tolist())
    return history, int(value)


def test_max_epochs() -> None:
    history, weights = follow([3.0, 1.0, 2.0])
    assert (history.stop_reason, history["loss"], history.best_epoch, weights) == ("max_epochs", [3.0, 1.0, 2.0], 1, 3)


def test_zero_loss() -> None:
    history, weights = follow([3.0, 0.0, 2.0])
    assert (history.stop_reason, history["loss"], weights) == ("zero loss", [3.0, 0.0], 2)


def test_target_loss() -> None:
    history, weights = follow([3.0, 1.0001, 1.0, 0.5], target_loss=1.0)
    assert (history.stop_reason, history["loss"], weights) == ("target loss", [3.0, 1.0001, 1.0], 3)


@pytest.mark.parametrize(
    ("losses", "patience", "tol", "passes", "best"),
    [
        ([3, 2, 2.5, 2.1, 1.9], 2, 0.0, 4, 1),
        ([3, 2, 2.5, 1.9, 2.0, 2.0, 1.0], 2, 0.0, 6, 3),
        ([3, 3, 3, 3], 1, 0.0, 2, 0),
        ([3, 2.9, 2.8, 2.7, 2.6], 3, 0.15, 4, 3),  # each a little better, by less than tol
        ([3, 2.8, 2.6, 2.5, 2.3, 2.1], 1, 0.15, 4, 3),
    ],
)
@pytest.mark.parametrize("watched", ["training", "held out"])
def test_patience(watched: str, losses: list[float], patience: int, tol: float, passes: int, best: int) -> None:
    given = (losses, None) if watched == "training" else ([9.0 + i for i in range(len(losses))], losses)
    history, weights = follow(*given, patience=patience, tol=tol)
    assert (history.stop_reason, len(history["loss"]), history.best_epoch) == ("no improvement", passes, best)
    assert weights == best + 1  # those of the best pass are back


def test_best_weights_come_back_with_validation_data_only() -> None:
    losses = [3.0, 1.0, 2.0]
    assert follow(losses)[1] == 3
    assert follow(losses, patience=5)[1] == 2
    history, weights = follow([1.0, 2.0, 3.0], [4.0, 2.0, 2.0])
    assert (history["val_loss"], history.best_epoch, weights) == ([4.0, 2.0, 2.0], 1, 2)
    history, weights = follow([1.0, 2.0, 0.5], [4.0, 2.0, 5.0], monitor="loss")
    assert (history.best_epoch, weights) == (2, 3)
    history, weights = follow([1.0, 2.0], [np.nan, 7.0])
    assert (history.best_epoch, weights) == (1, 2)


def test_monitor_accuracy() -> None:
    """The weights are those of the pass with the highest accuracy on the held-out data, then with the lowest loss."""
    network = Network(8, 6, 2, embedding_size=4, seed=0)
    kept: list[np.ndarray] = []
    held_out = (X[::-1], Y[::-1])
    keep = OnEpoch(lambda m: kept.append(m.vector.copy()))
    history = fit(network, X, Y, validation=held_out, monitor="val_accuracy", max_epochs=30, seed=0,
                  optimizer=rnnfast.Adam(0.02), callbacks=[keep])  # fmt: skip
    assert set(history["val_accuracy"]) > {1.0}
    best = min((-a, loss) for a, loss in zip(history["val_accuracy"], history["val_loss"], strict=True))
    assert (-history["val_accuracy"][history.best_epoch], history["val_loss"][history.best_epoch]) == best
    assert np.array_equal(network.vector, kept[history.best_epoch])
    for monitor, options in (("val_loss", {}), ("accuracy", {}), ("val_accuracy", {"loss": "squared_error"})):
        with pytest.raises(ValueError, match="monitor: expected one of loss"):
            fit(network, X, Y, monitor=monitor, **options)


class OnEpoch(Callback):
    def __init__(self, act: Callable[[Any], Any]) -> None:
        self.act = act

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        self.act(self.model)


class Events(Callback):
    """Writes down every call; stops training or presses Ctrl-C when told to."""

    def __init__(self, act_at: tuple[Any, ...] = (), act: Callable[[Any], Any] = lambda model: None) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.act_at, self.act = act_at, act

    def note(self, *event: Any) -> None:
        self.seen.append(event)
        if event[: len(self.act_at)] == self.act_at and self.act_at:
            self.act(self.model)

    def on_train_begin(self, logs: dict[str, Any]) -> None:
        self.note("train begin", logs)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any]) -> None:
        self.note("epoch begin", epoch, logs)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        self.note("batch end", batch, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        self.note("epoch end", epoch, {k: v for k, v in logs.items() if k != "seconds"})

    def on_train_end(self, logs: dict[str, Any]) -> None:
        self.note("train end", logs)


def stop(network: Any) -> None:
    network.stop_training = True


def press(network: Any) -> None:
    signal.raise_signal(signal.SIGINT)


def test_callbacks_are_called_in_order() -> None:
    first, second, network = Events(), Events(), model()
    fit(network, X, Y, loss=Script([3.0, 6.0, 2.0, 2.0], [5.0, 4.0]), optimizer=Count(), batch_size=2, max_epochs=2,
        shuffle=False, bucket=False, validation=HELD_OUT, callbacks=(c for c in (first, second)))  # fmt: skip
    assert first.seen == [
        ("train begin", {"epochs": 2, "batches": 2}),
        ("epoch begin", 0, {"batches": 2}),
        ("batch end", 0, {"loss": 3.0, "steps": 3}),
        ("batch end", 1, {"loss": 6.0, "steps": 3}),
        ("epoch end", 0, {"loss": 4.0, "val_loss": 5.0}),  # (2 · 3 + 1 · 6) / 3
        ("epoch begin", 1, {"batches": 2}),
        ("batch end", 0, {"loss": 2.0, "steps": 3}),
        ("batch end", 1, {"loss": 2.0, "steps": 3}),
        ("epoch end", 1, {"loss": 2.0, "val_loss": 4.0}),
        ("train end", {"stop_reason": "max_epochs"}),
    ]
    assert first.seen == second.seen
    assert first.model is second.model is network


@pytest.mark.parametrize(
    ("at", "passes"), [(("epoch begin", 0), 0), (("epoch begin", 1), 1), (("batch end", 0), 1), (("epoch end", 1), 2)]
)
def test_callback_stops(at: tuple[Any, ...], passes: int) -> None:
    events = Events(at, stop)
    history, weights = follow([3.0, 1.0, 2.0], callbacks=[events])
    assert (history.stop_reason, len(history["loss"]), weights) == ("callback", passes, passes)
    assert events.seen[-1] == ("train end", {"stop_reason": "callback"})


def test_a_broken_off_pass_does_not_count() -> None:
    """Its loss, of a part of the data, is neither in the history nor the best."""
    network, events = model(), Events(("batch end", 1), stop)
    seen: list[float] = []

    def loss(outputs: np.ndarray, targets: Any, **options: Any) -> tuple[float, np.ndarray]:
        seen.append(3.0 - 0.1 * len(seen))
        return seen[-1], np.zeros_like(outputs)

    history = fit(
        network, X, Y, loss=loss, optimizer=Count(), batch_size=1, max_epochs=5, patience=3, callbacks=[events]
    )
    assert (history.stop_reason, history["loss"], history.best_epoch) == ("callback", [], -1)
    assert [event[0] for event in events.seen] == ["train begin", "epoch begin", "batch end", "batch end", "train end"]
    assert (network.vector == 2).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_loss_that_is_not_finite(value: float) -> None:
    network = model()
    with pytest.raises(FloatingPointError, match=f"loss is {value} in pass 2, batch 1: try a lower learning_rate"):
        fit(network, X, Y, loss=Script([1.0, 1.0, 3.0, 3.0, 1.0, value]), optimizer=Count(), batch_size=2)
    assert (network.vector == 2).all()  # of pass 0, the best


def test_weights_that_are_not_finite() -> None:
    class Overflow(Count):
        def step(self, parameters: np.ndarray, gradients: np.ndarray) -> None:
            parameters += 1
            if parameters[0] == 3:
                parameters[1] = np.inf

    network = model()
    with pytest.raises(FloatingPointError, match="a weight is not finite after pass 2"):
        fit(network, X, Y, loss=Script([1.0, 0.5, 0.4]), optimizer=Overflow(), max_epochs=3)
    assert (network.vector == 2).all()


def test_divergence_of_a_real_network() -> None:
    network = Network(2, 4, 1, cell="rnn_relu", seed=0)
    x = 1e3 * np.random.default_rng(0).normal(size=(8, 30, 2)).astype(np.float32)
    with pytest.raises(FloatingPointError, match=r"in pass \d+, batch \d+|after pass"), np.errstate(all="ignore"):
        fit(network, x, np.zeros((8, 1)), loss="squared_error", optimizer=rnnfast.SGD(10.0), max_epochs=50, seed=0)


def test_interrupt_keeps_the_best_weights() -> None:
    before = signal.getsignal(signal.SIGINT)
    assert before is signal.default_int_handler
    events = Events(("epoch begin", 3), press)
    history, weights = follow([3.0, 1.0, 2.0, 0.5, 0.1], callbacks=[events])
    assert (history.stop_reason, history["loss"], weights) == ("interrupted", [3.0, 1.0, 2.0], 2)
    assert events.seen[-1] == ("train end", {"stop_reason": "interrupted"})
    assert signal.getsignal(signal.SIGINT) is before


def test_interrupt_in_the_first_pass() -> None:
    history, weights = follow([3.0, 1.0], callbacks=[Events(("epoch begin", 0), press)])
    assert (history.stop_reason, history["loss"], history.best_epoch, weights) == ("interrupted", [], -1, 0)


def test_interrupt_stops_between_held_out_batches() -> None:
    calls = []

    def loss(outputs: np.ndarray, targets: Any, **options: Any) -> tuple[float, np.ndarray]:
        calls.append(len(outputs))
        if len(calls) == 5:
            press(None)
        return 1.0, np.zeros_like(outputs)

    held_out = ([np.array([4])] * 50, [0] * 50)
    history = fit(model(), X, Y, loss=loss, optimizer=Count(), batch_size=1, validation=held_out)
    assert (history.stop_reason, len(calls), history["loss"]) == ("interrupted", 5, [])


def test_second_interrupt_raises() -> None:
    def twice(network: Any) -> None:
        press(network)
        press(network)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        follow([3.0, 1.0, 2.0], callbacks=[Events(("epoch end", 1), twice)])
    assert signal.getsignal(signal.SIGINT) is before


def test_handler_is_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError):
        follow([3.0], callbacks=[Events(("batch end",), lambda network: 1 / 0)])
    assert signal.getsignal(signal.SIGINT) is before


def test_a_handler_of_others_is_left_alone() -> None:
    pressed = []

    def handler(number: int, frame: Any) -> None:
        pressed.append(number)

    before = signal.signal(signal.SIGINT, handler)
    try:
        history, weights = follow([3.0, 1.0, 2.0], callbacks=[Events(("epoch begin", 1), press)])
        assert (history.stop_reason, weights, pressed) == ("max_epochs", 3, [signal.SIGINT])
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_fit_in_another_thread() -> None:
    results: list[Any] = []
    handlers: list[Any] = []
    note = OnEpoch(lambda network: handlers.append(signal.getsignal(signal.SIGINT)))
    thread = threading.Thread(target=lambda: results.append(follow([3.0, 1.0], callbacks=[note])))
    thread.start()
    thread.join(30)
    ((history, weights),) = results
    assert (history.stop_reason, weights) == ("max_epochs", 2)
    assert handlers == [signal.default_int_handler] * 2


LONG_FIT = """
import json, os, signal, threading, time
import numpy as np, rnnfast

class Watch(rnnfast.Callback):
    best, weights = np.inf, None
    def on_train_begin(self, logs):
        threading.Timer(0.3, self.press).start()
    def press(self):
        self.pressed = time.perf_counter()
        os.kill(os.getpid(), signal.SIGINT)
    def on_epoch_end(self, epoch, logs):
        if logs["loss"] < self.best:
            self.best, self.weights = logs["loss"], self.model.vector.copy()

rng = np.random.default_rng(0)
x, y = rng.integers(0, 500, (256, 40)), rng.integers(0, 2, 256)
network = rnnfast.Network(500, 32, 2, embedding_size=16, seed=0)
watch = Watch()
history = rnnfast.fit(network, x, y, max_epochs=1_000_000, callbacks=[watch], optimizer=rnnfast.Adam(1e-4), seed=0)
late = time.perf_counter() - watch.pressed
before = network.vector.copy()
again = rnnfast.fit(network, x[:32], y[:32], max_epochs=1)
print(json.dumps({
    "late": late, "reason": history.stop_reason, "passes": len(history["loss"]),
    "best": watch.weights is None or bool((before == watch.weights).all()),
    "handler": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    "again": again.stop_reason, "finite": bool(np.isfinite(network.forward(x)).all()),
}))
"""


def test_interrupt_of_a_long_fit_from_outside() -> None:
    """A real signal, a real network: over within a second, and the model is as good as before."""
    environment = {**os.environ, "RNNFAST_NUM_THREADS": "1"}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", LONG_FIT], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - start < 30
    result = json.loads(done.stdout)
    assert result.pop("late") < 1
    assert result.pop("passes") >= 0
    assert result == {"reason": "interrupted", "best": True, "handler": True, "again": "max_epochs", "finite": True}
