"""checkpoint.py: a run that was stopped, however, goes on to the bits of one that never was.

Started as a program, with the stage and a folder, it is the processes that are stopped, and those that go on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import SGD, AdaGrad, Adam, Callback, ModelFileError, Network, fit
from rnnfast.checkpoint import Progress, read_checkpoint, write_checkpoint
from rnnfast.encoder_decoder import EncoderDecoder, Pairs
from rnnfast.files import read_model

N, EPOCHS = 23, 5
rng = np.random.default_rng(0)
LENGTHS = rng.integers(1, 9, N)
IDS = [rng.integers(4, 20, n) for n in LENGTHS]
FEATURES = [rng.normal(size=(n, 3)).astype(np.float32) for n in LENGTHS]
LABELS = rng.integers(0, 2, N)
STEPS = [(ids > 11).astype(np.int64) for ids in IDS]
TEXT = rng.integers(0, 20, (6, 21))
HELD_OUT = (IDS[:9], 1 - LABELS[:9])

# What is given to Network, what to fit; each is stopped in one way, at a pass and a batch of it.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, int, int]]] = {
    "shuffled": ({}, {}, ("raise", 2, 1)),
    "in order": ({}, {"shuffle": False, "bucket": False}, ("stop", 1, 3)),
    "dropout": ({"dropout": 0.4, "num_layers": 2, "bidirectional": True}, {"clip_norm": 0.3}, ("raise", 3, 0)),
    "dropout, killed": ({"dropout": 0.4, "num_layers": 2}, {"validation": HELD_OUT}, ("kill", 2, 2)),
    "validation": ({}, {"validation": HELD_OUT, "optimizer": (Adam, 0.05)}, ("raise", 3, 2)),
    "accuracy": ({"cell": "gru"}, {"validation": HELD_OUT, "monitor": "val_accuracy"}, ("stop", 4, 0)),
    "patience": ({}, {"patience": 2, "tol": 0.01, "validation": HELD_OUT, "max_epochs": 40}, ("raise", 2, 0)),
    "patience without validation": ({}, {"patience": 3, "tol": 0.05, "max_epochs": 40}, ("raise", 4, 5)),
    "cosine": ({}, {"schedule": "cosine"}, ("raise", 2, 3)),
    "cosine, killed": ({"dropout": 0.2}, {"schedule": "cosine", "optimizer": (SGD, 0.1, 0.9)}, ("kill", 3, 4)),
    "linear": ({}, {"schedule": "linear", "clip_value": 0.01, "optimizer": (AdaGrad, 0.1)}, ("stop", 2, 3)),
    "random states": ({"initial_state_std": 0.5, "cell": "rnn_relu"}, {"normalizer": "sequences"}, ("raise", 1, 1)),
    "two threads": ({"num_threads": 2, "dropout": 0.3}, {}, ("raise", 2, 2)),
    "tags": ({"per_step": True}, {"normalizer": "both"}, ("raise", 2, 2)),
    "tags in pieces": ({"per_step": True, "dropout": 0.2}, {"truncate": 3}, ("raise", 2, 5)),
    "last steps": ({"cell": "gru"}, {"truncate": 2}, ("stop", 2, 2)),
    "text": (
        {"per_step": True, "dropout": 0.2, "output_size": 20},
        {"truncate": 4, "carry_state": True, "shuffle": False, "bucket": False, "batch_size": 3},
        ("raise", 3, 6),
    ),
    "numbers": ({"features": True, "dtype": "float64"}, {"loss": "squared_error"}, ("stop", 2, 1)),
    "pairs": ({"pairs": True, "dropout": 0.2}, {"validation": True}, ("raise", 2, 1)),
    "no moments": ({}, {"optimizer": (SGD, 0.1)}, ("raise", 2, 1)),
    "another generator": ({}, {"generator": True}, ("raise", 2, 1)),
}


class Stop(Callback):
    """Ends the run in the midst of a pass."""

    def __init__(self, how: str, epoch: int, batch: int) -> None:
        self.how, self.at, self.epoch = how, (epoch, batch), 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any]) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        if (self.epoch, batch) != self.at:
            return
        if self.how == "raise":
            raise ZeroDivisionError
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        self.model.stop_training = True


def arguments(case: str) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """A model, data, and what else fit is given."""
    network, options = dict(CASES[case][0]), dict(CASES[case][1])
    kind, *numbers = options.pop("optimizer", (Adam, 0.02))
    options |= {"optimizer": kind(*numbers), "seed": 3}
    options = {"max_epochs": EPOCHS, "batch_size": 4, **options}
    if options.pop("generator", False):
        options["seed"] = np.random.Generator(np.random.MT19937(5))
    if network.pop("pairs", False):
        options["validation"] = Pairs(IDS[:5], STEPS[:5], start=2, stop=3)
        return EncoderDecoder(20, 4, 5, embedding_size=4, target_embedding=3, seed=1, **network), (
            Pairs(IDS, STEPS, start=2, stop=3),
        ), options  # fmt: skip
    if network.pop("features", False):
        return Network(3, 5, 1, seed=1, **network), ([x.astype(float) for x in FEATURES], LABELS[:, None]), options
    network = {"embedding_size": 4, "output_size": 2, "seed": 1, **network}
    x, y = (TEXT[:, :-1], TEXT[:, 1:]) if "carry_state" in options else (IDS, LABELS)
    return Network(20, 5, **network), (x, STEPS if y is LABELS and network.get("per_step") else y), options


def run(case: str, path: Path | None = None, *callbacks: Callback, **changes: Any) -> dict[str, Any]:
    """All that can be said of a run but for its time, as arrays."""
    model, data, options = arguments(case)
    if options.get("schedule"):
        options["optimizer"].learning_rate = 0.02
    history = fit(model, *data, **options | changes, callbacks=callbacks, checkpoint=path)
    numbers = {f"history.{k}": np.array(v) for k, v in history.history.items() if k != "seconds"}
    moments = {f"optimizer.{k}": v for k, v in (options | changes)["optimizer"].state().items()}
    return {
        "weights": model.vector,
        "best epoch": np.array(history.best_epoch),
        "stop reason": np.array(history.stop_reason),
        "next random number": model.rng.random(1),
        **numbers,
        **moments,
    }


def main(stage: str, folder: Path, *cases: str) -> None:
    for case in cases:
        path = folder / case
        if stage == "go on":
            np.savez(f"{path}.npz", **run(case, path))
            continue
        try:
            run(case, path, Stop(*CASES[case][2]))
        except ZeroDivisionError:
            assert CASES[case][2][0] == "raise"


def start(*arguments: str) -> int:
    """Another process."""
    environment = {**os.environ, "RNNFAST_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
    sys.exit()


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each case was stopped by one process, and finished by another one."""
    folder = tmp_path_factory.mktemp("resumed")
    killed = [case for case in CASES if CASES[case][2][0] == "kill"]
    assert start("stop", str(folder), *(case for case in CASES if case not in killed)) == 0
    for case in killed:
        assert start("stop", str(folder), case) == -signal.SIGKILL
    for case in CASES:
        assert len(read_model(folder / case, "checkpoint")[1]["history"]["loss"]) == CASES[case][2][1], case
    assert start("go on", str(folder), *CASES) == 0
    return folder


@pytest.mark.parametrize("case", CASES)
def test_going_on_is_never_having_stopped(case: str, resumed: Path, assert_same_bits: Any) -> None:
    """In a new process, to the same weights, losses, best pass, moments and random numbers; writing changes nothing."""
    with np.load(resumed / f"{case}.npz") as found:
        expected = run(case)
        assert set(found) == set(expected)
        assert len(expected["history.loss"]) > CASES[case][2][1]
        for name, value in expected.items():
            assert_same_bits(found[name], np.asarray(value), name)


def test_cases_cover_what_they_say() -> None:
    reasons = {case: str(run(case)["stop reason"]) for case in CASES if "patience" in case}
    assert reasons == dict.fromkeys(reasons, "no improvement")
    assert int(run("validation")["best epoch"]) < EPOCHS - 1  # the weights of an earlier pass come back
    assert {how for _, _, (how, _, _) in CASES.values()} == {"raise", "stop", "kill"}
    plain = run("shuffled")["weights"]
    for changes in ({"schedule": "cosine"}, {"seed": 4}, {"truncate": 3}, {"shuffle": False}):
        assert not np.array_equal(run("shuffled", **changes)["weights"], plain), changes


def test_more_passes(tmp_path: Path, assert_same_bits: Any) -> None:
    for epochs in (2, 3, EPOCHS):
        result = run("dropout", tmp_path / "file", max_epochs=epochs)
    for name, value in run("dropout").items():
        assert_same_bits(result[name], np.asarray(value), name)


@pytest.mark.parametrize("case", ["shuffled", "validation", "patience", "target"])
def test_a_finished_run_returns_at_once(case: str, tmp_path: Path, assert_same_bits: Any) -> None:
    changes = {"target_loss": 0.6, "max_epochs": 100, "optimizer": Adam(0.05)} if case == "target" else {}
    case = "shuffled" if case == "target" else case
    first = run(case, tmp_path / "file", **changes)
    written = (tmp_path / "file").read_bytes()
    assert str(first["stop reason"]) in ("max_epochs", "no improvement", "target loss")
    calls: list[str] = []

    class Note(Callback):
        def on_train_begin(self, logs: dict[str, Any]) -> None:
            calls.append("begin")

        def on_epoch_begin(self, epoch: int, logs: dict[str, Any]) -> None:
            calls.append("pass")

        def on_train_end(self, logs: dict[str, Any]) -> None:
            calls.append(logs["stop_reason"])

    if "optimizer" in changes:
        changes["optimizer"] = Adam(0.05)
    second = run(case, tmp_path / "file", Note(), **changes)
    assert calls == ["begin", str(first["stop reason"])]
    for name, value in first.items():
        assert_same_bits(np.asarray(second[name]), np.asarray(value), name)
    assert (tmp_path / "file").read_bytes() == written


def test_more_patience(tmp_path: Path) -> None:
    first = run("patience", tmp_path / "file")
    second = run("patience", tmp_path / "file", patience=4)
    passes = [len(result["history.loss"]) for result in (first, second, run("patience", patience=4))]
    assert passes[0] < passes[1] == passes[2]


def test_what_callbacks_did_at_the_end_of_a_pass_is_in_the_checkpoint(tmp_path: Path, assert_same_bits: Any) -> None:
    class Halve(Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
            self.optimizer.learning_rate /= 2
            self.model.vector *= np.float32(0.9)

    results = []
    for passes in ((2, 4), (4,)):
        for epochs in passes:
            optimizer, halve = Adam(0.02), Halve()
            halve.optimizer = optimizer
            path = tmp_path / str(len(passes))
            result = run("shuffled", path, halve, max_epochs=epochs, optimizer=optimizer)
        results.append((result["weights"], optimizer.learning_rate))
    assert results[0][1] == results[1][1] == 0.02 / 16
    assert_same_bits(results[0][0], results[1][0])


def test_the_same_optimizer_goes_on(tmp_path: Path, assert_same_bits: Any) -> None:
    """As in a notebook, where the cell with fit alone is run again."""
    optimizer = Adam(0.02)
    with pytest.raises(ZeroDivisionError):
        run("cosine", tmp_path / "file", Stop("raise", 3, 2), optimizer=optimizer)
    assert optimizer.learning_rate == 0.02
    assert_same_bits(run("cosine", tmp_path / "file", optimizer=optimizer)["weights"], run("cosine")["weights"])


class Own:
    """An optimiser of the user's: numbers and arrays of any shape in its state."""

    def __init__(self) -> None:
        self.learning_rate, self.count, self.mean = 0.1, 0, np.zeros((2, 2))

    def step(self, parameters: np.ndarray, gradients: np.ndarray) -> None:
        self.count += 1
        self.mean += gradients[:4].reshape(2, 2)
        parameters -= (self.learning_rate / self.count * (gradients + self.mean[0, 1])).astype(parameters.dtype)

    def state(self) -> dict[str, Any]:
        return {"learning_rate": np.array(self.learning_rate), "count": np.array(self.count), "mean": self.mean}

    def load_state(self, state: dict[str, Any]) -> None:
        self.learning_rate, self.count = float(state["learning_rate"]), int(state["count"])
        self.mean = np.array(state["mean"]).reshape(2, 2)
        assert state["count"].shape == ()


def test_an_optimizer_of_ones_own(tmp_path: Path, assert_same_bits: Any) -> None:
    for epochs in (1, 3):
        result = run("shuffled", tmp_path / "file", optimizer=Own(), max_epochs=epochs)
    assert_same_bits(result["weights"], run("shuffled", optimizer=Own(), max_epochs=3)["weights"])

    class Bare:
        def step(self, parameters: np.ndarray, gradients: np.ndarray) -> None:
            raise AssertionError

    network = Network(20, 5, 2, embedding_size=4)
    with pytest.raises(TypeError, match="optimizer: expected one with state and load_state for a checkpoint"):
        fit(network, IDS, LABELS, optimizer=Bare(), checkpoint=tmp_path / "third")
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize("kind", ["SequenceClassifier", "SequenceRegressor", "SequenceTagger"])
def test_estimators(kind: str, tmp_path: Path, assert_same_bits: Any) -> None:
    texts = ["a fine film", "a dull film", "so fine", "so very dull", "fine", "dull day"] * 3
    y = {
        "SequenceClassifier": [text.split()[0] for text in texts],
        "SequenceRegressor": [float(len(text)) for text in texts],
        "SequenceTagger": [[word[0] for word in text.split()] for text in texts],
    }[kind]
    options = {"hidden_size": 4, "embedding_size": 3, "batch_size": 4, "dropout": 0.2, "validation_fraction": 0.25,
               "random_state": 7, "schedule": "cosine", "max_epochs": 4}  # fmt: skip

    def make(*callbacks: Callback, **changes: Any) -> Any:
        return getattr(rnnfast, kind)(**{**options, "callbacks": callbacks, **changes})

    path = tmp_path / "file"
    with pytest.raises(ZeroDivisionError):
        make(Stop("raise", 2, 1)).fit(texts, y, checkpoint=path)
    resumed, whole = make().fit(texts, y, checkpoint=path), make().fit(texts, y)
    assert_same_bits(resumed.network_.vector, whole.network_.vector)
    assert resumed.history_["val_loss"] == whole.history_["val_loss"]
    assert len(resumed.history_["seconds"]) == 4
    with pytest.raises(ModelFileError, match=r"dropout = 0\.2, while this run has 0\.3"):
        make(dropout=0.3).fit(texts, y, checkpoint=path)
    with pytest.raises(ModelFileError, match=r"of the (training|validation) data = "):
        make(random_state=8).fit(texts, y, checkpoint=path)  # another part is held out


def test_progress() -> None:
    run, weights = Progress(learning_rate=0.1), np.zeros(2)
    for k, loss in enumerate([3.0, 2.0, 2.5, 2.0]):
        run.finish_pass({"loss": loss}, "loss", 0.0, weights + k)
    assert (run.epoch, run.waited, run.best, run.history.best_epoch) == (4, 2, 2.0, 1)
    assert run.best_weights is not None
    assert run.best_weights.tolist() == [1, 1]
    weights += 9
    assert run.best_weights.tolist() == [1, 1]  # a copy


def test_round_trip(tmp_path: Path) -> None:
    """Without best weights, random numbers, or passes; with infinities."""

    class Model:
        vector = np.arange(3.0)

    write_checkpoint(tmp_path / "file", Model(), SGD(0.5), np.random.default_rng(1), Progress(0.5), {"a": 1})
    rng, optimizer = np.random.default_rng(2), SGD(0.1)
    run = read_checkpoint(tmp_path / "file", Model(), optimizer, rng, {"a": 1})
    assert (run.best, run.tie_break, run.best_weights, run.epoch) == (float("inf"), float("inf"), None, 0)
    assert optimizer.learning_rate == 0.5
    assert rng.random() == np.random.default_rng(1).random()
