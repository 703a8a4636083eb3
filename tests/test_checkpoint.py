"""checkpoint.py: a run that was stopped, however and wherever, goes on to the bits of one that never was.

Started as a program, with the stage, a folder and how often to write, it is the processes that are stopped, and those
that go on.
"""

from __future__ import annotations

import functools
import os
import random
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import SGD, AdaGrad, Adam, Callback, Checkpoint, ModelFileError, Network, fit
from rnnfast.checkpoint import Progress, read_checkpoint, write_checkpoint
from rnnfast.encoder_decoder import EncoderDecoder, Pairs
from rnnfast.files import read_model, write_model

N, EPOCHS = 23, 5
rng = np.random.default_rng(0)
LENGTHS = rng.integers(1, 9, N)
IDS = [rng.integers(4, 20, n) for n in LENGTHS]
FEATURES = [rng.normal(size=(n, 3)).astype(np.float32) for n in LENGTHS]
LABELS = rng.integers(0, 2, N)
STEPS = [(ids > 11).astype(np.int64) for ids in IDS]
TEXT = rng.integers(0, 20, (6, 21))
HELD_OUT = (IDS[:9], 1 - LABELS[:9])
IN_ORDER: dict[str, Any] = {"shuffle": False, "bucket": False}
CARRIED: dict[str, Any] = {"carry_state": True, "batch_size": 3, **IN_ORDER}

# What is given to Network, what to fit; each is stopped in one way, at a pass and a batch of it.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, int, int]]] = {
    "shuffled": ({}, {}, ("raise", 2, 1)),
    "in order": ({}, IN_ORDER, ("stop", 1, 3)),
    "dropout": ({"dropout": 0.4, "num_layers": 2, "bidirectional": True}, {"clip_norm": 0.3}, ("raise", 3, 4)),
    "dropout, killed": ({"dropout": 0.4, "num_layers": 2}, {"validation": HELD_OUT}, ("kill", 2, 2)),
    "validation": ({}, {"validation": HELD_OUT, "optimizer": (Adam, 0.05)}, ("raise", 3, 2)),
    "accuracy": ({"cell": "gru"}, {"validation": HELD_OUT, "monitor": "val_accuracy"}, ("stop", 4, 0)),
    "patience": ({}, {"patience": 2, "tol": 0.01, "validation": HELD_OUT, "max_epochs": 40}, ("raise", 2, 3)),
    "patience without validation": ({}, {"patience": 3, "tol": 0.05, "max_epochs": 40}, ("raise", 4, 5)),
    "cosine": ({}, {"schedule": "cosine"}, ("raise", 2, 3)),
    "cosine, killed": ({"dropout": 0.2}, {"schedule": "cosine", "optimizer": (SGD, 0.1, 0.9)}, ("kill", 3, 4)),
    "linear": ({}, {"schedule": "linear", "clip_value": 0.01, "optimizer": (AdaGrad, 0.1)}, ("stop", 2, 3)),
    "random states": ({"initial_state_std": 0.5, "cell": "rnn_relu"}, {"normalizer": "sequences"}, ("raise", 1, 1)),
    "two threads": ({"num_threads": 2, "dropout": 0.3}, {}, ("raise", 2, 2)),
    "tags": ({"per_step": True}, {"normalizer": "both"}, ("raise", 2, 2)),
    "tags in pieces": ({"per_step": True, "dropout": 0.2}, {"truncate": 3}, ("raise", 2, 5)),
    "last steps": ({"cell": "gru"}, {"truncate": 2}, ("stop", 2, 2)),
    "text": ({"per_step": True, "dropout": 0.2, "output_size": 20}, {"truncate": 4, **CARRIED}, ("raise", 3, 6)),
    "text, a batch ends": ({"per_step": True, "output_size": 20, "num_layers": 2}, {"truncate": 4, **CARRIED},
                           ("kill", 1, 5)),
    "carried": ({"cell": "rnn_tanh", "initial_state_std": 0.2}, CARRIED, ("stop", 2, 0)),
    "carried, last steps": ({"dropout": 0.2}, {"truncate": 3, **CARRIED}, ("raise", 2, 1)),
    "random states in pieces": ({"per_step": True, "initial_state_std": 0.5, "dropout": 0.3, "num_layers": 2},
                                {"truncate": 2, "normalizer": "sequences", "schedule": "linear", "clip_norm": 0.1},
                                ("raise", 1, 9)),
    "patience in pieces": ({"per_step": True, "cell": "gru", "dropout": 0.1},
                           {"truncate": 3, "patience": 2, "tol": 0.02, "validation": (IDS[:9], STEPS[:9]),
                            "max_epochs": 40}, ("stop", 1, 4)),
    "tags, both directions": ({"per_step": True, "bidirectional": True, "num_layers": 2, "dropout": 0.3},
                              {"schedule": "cosine", "clip_value": 0.1}, ("raise", 2, 4)),
    "numbers": ({"features": True, "dtype": "float64"}, {"loss": "squared_error"}, ("stop", 2, 1)),
    "pairs": ({"pairs": True, "dropout": 0.2}, {"validation": True}, ("raise", 2, 1)),
    "pairs, deep": ({"pairs": True, "dropout": 0.2, "num_layers": 2, "cell": "gru", "initial_state_std": 0.3},
                    {"validation": True, "patience": 9, "schedule": "cosine"}, ("stop", 1, 3)),
    "no moments": ({}, {"optimizer": (SGD, 0.1)}, ("raise", 2, 1)),
    "another generator": ({}, {"generator": True}, ("raise", 2, 1)),
    "one generator for all": ({"dropout": 0.3, "seed": None}, {}, ("raise", 2, 3)),
}  # fmt: skip


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


class Say(Callback):
    """Tells the process that waits for it that the run has begun."""

    def on_train_begin(self, logs: dict[str, Any]) -> None:
        print("begun", flush=True)


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
    if network["seed"] is None:
        network["seed"] = options["seed"] = np.random.default_rng(1)
    data = (TEXT[:, :-1], TEXT[:, 1:], TEXT[:, 0] % 2) if "carry_state" in options else (IDS, STEPS, LABELS)
    return Network(20, 5, **network), (data[0], data[1 if network.get("per_step") else 2]), options


def run(case: str, path: Path | Checkpoint | None = None, *callbacks: Callback, **changes: Any) -> dict[str, Any]:
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


def main(stage: str, folder: Path, every: str, *cases: str) -> None:
    for case in cases:
        checkpoint = Checkpoint(folder / case, every=int(every) or None)
        if stage == "go on":
            np.savez(folder / f"{case}.npz", **run(case, checkpoint))
            continue
        if stage == "never end":
            run(case, checkpoint, Say(), max_epochs=10**6)
        try:
            run(case, checkpoint, Stop(*CASES[case][2]))
        except ZeroDivisionError:
            assert CASES[case][2][0] == "raise"


def start(threads: int, *arguments: str) -> int:
    """Another process."""
    environment = {**os.environ, "RNNFAST_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
    sys.exit()


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Problems this small gain nothing from a second thread, and lose much on a busy machine."""
    before = rnnfast.get_num_threads()
    rnnfast.set_num_threads(1)
    yield
    rnnfast.set_num_threads(before)


@pytest.fixture(scope="module")
def expected() -> Callable[[str], dict[str, Any]]:
    """What a case leads to that is never stopped, and has no checkpoint."""
    return functools.cache(run)


def place(path: Path) -> tuple[int, int]:
    """Passes and steps of the pass at hand that a checkpoint is after."""
    settings = read_model(path, "checkpoint")[1]
    return settings["epoch"], 0 if settings["position"] is None else settings["position"]["done"]


@pytest.fixture(scope="module", params=[0, 1], ids=["each pass", "each step"])
def resumed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each case was stopped by one process, and finished by another one, with another number of threads."""
    folder, every = tmp_path_factory.mktemp("resumed"), request.param
    killed = [case for case in CASES if CASES[case][2][0] == "kill"]
    assert start(1, "stop", str(folder), str(every), *(case for case in CASES if case not in killed)) == 0
    for case in killed:
        assert start(1, "stop", str(folder), str(every), case) == -signal.SIGKILL
    for case, (_, _, (how, epoch, batch)) in CASES.items():
        assert place(folder / case) == (epoch, batch + 1 if how == "stop" else batch if every else 0), case
    assert start(2, "go on", str(folder), "0", *CASES) == 0
    return folder


@pytest.mark.parametrize("case", CASES)
def test_going_on_is_never_having_stopped(case: str, resumed: Path, expected: Any, assert_same_bits: Any) -> None:
    """In a new process, to the same weights, losses, best pass, moments and random numbers; writing changes nothing."""
    with np.load(resumed / f"{case}.npz") as found:
        expected = expected(case)
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


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path: Path, assert_same_bits: Any) -> None:
    """24 processes, each killed while it trains or writes, and each with another number of threads than the last one;
    where the last one was, the run ends, with the bits of one that was never stopped."""
    draw, cases, last = random.Random(0), ["tags in pieces", "text", "dropout"], {}
    for k in range(24):
        case = cases[k % 3]
        child = subprocess.Popen(
            [sys.executable, __file__, "never end", str(tmp_path), "1", case],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "RNNFAST_NUM_THREADS": str(1 + k // 3 % 3)},
        )
        limit = threading.Timer(120, child.kill)
        limit.start()
        with child:
            assert child.stdout is not None
            begun = child.stdout.readline()
            time.sleep(draw.uniform(0, 0.3))
            child.kill()
        limit.cancel()
        assert begun == "begun\n"
        assert child.returncode == -signal.SIGKILL
        if (tmp_path / case).exists():
            assert place(tmp_path / case) >= last.get(case, (0, 0))
            last[case] = place(tmp_path / case)
    assert len([path for path in tmp_path.iterdir() if path.name.startswith(".")]) > 0  # killed while they wrote
    for case in cases:
        epochs = last[case][0] + 1
        assert epochs > 2
        result, expected = run(case, tmp_path / case, max_epochs=epochs), run(case, max_epochs=epochs)
        for name, value in expected.items():
            assert_same_bits(np.asarray(result[name]), np.asarray(value), f"{case}: {name}")


PIECES = ["shuffled", "validation", "tags in pieces", "text", "carried, last steps", "random states in pieces", "pairs"]


@pytest.mark.parametrize("case", PIECES)
def test_a_stop_after_any_step(case: str, tmp_path: Path, expected: Any, assert_same_bits: Any) -> None:
    """Of the second pass; the steps that are left are told to callbacks as they were counted."""
    steps: list[tuple[int, int]] = []

    class Note(Callback):
        def on_epoch_begin(self, epoch: int, logs: dict[str, Any]) -> None:
            self.epoch, self.batches = epoch, logs["batches"]

        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            steps.append((self.epoch, batch))

    run(case, None, note := Note())
    whole = steps.copy()
    for k, stop in enumerate(stop for stop in whole if stop[0] == 1 and stop[1] + 1 < note.batches):
        steps.clear()
        result = run(case, tmp_path / str(k), Stop("stop", *stop), Note())
        assert str(result["stop reason"]) == "callback"
        assert place(tmp_path / str(k)) == (stop[0], stop[1] + 1)
        result = run(case, tmp_path / str(k), Note())
        assert steps == whole
        for name, value in expected(case).items():
            assert_same_bits(np.asarray(result[name]), np.asarray(value), f"{name} after a stop at {stop}")


def test_stopped_again_and_again(tmp_path: Path, expected: Any, assert_same_bits: Any) -> None:
    """Each time after one step more than the last one, in all the ways of stopping that leave the process alive."""

    class StopAfter(Callback):
        steps = 0

        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            StopAfter.steps += 1
            if StopAfter.steps % 2:
                self.model.stop_training = True
            elif StopAfter.steps % 3:
                signal.raise_signal(signal.SIGINT)
            else:
                raise ZeroDivisionError

    for case in ("tags in pieces", "cosine"):
        for _ in range(1000):
            try:
                result = run(case, Checkpoint(tmp_path / case, every=2), StopAfter())
            except ZeroDivisionError:
                continue
            if str(result["stop reason"]) == "max_epochs":
                break
        for name, value in expected(case).items():
            assert_same_bits(np.asarray(result[name]), np.asarray(value), name)


def test_ctrl_c_within_a_pass_loses_nothing(tmp_path: Path, expected: Any, assert_same_bits: Any) -> None:
    """The model is left with its best weights, the file with those of the last step; so too while the held-out data
    are looked at, when the steps of the pass are done."""

    class Press(Callback):
        weights: Any = None

        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            if (batch, self.now) == (2, 3):
                signal.raise_signal(signal.SIGINT)
                Press.weights = self.model.vector.copy()

        def on_epoch_begin(self, epoch: int, logs: dict[str, Any]) -> None:
            self.now = epoch

    result = run("validation", tmp_path / "file", Press())
    assert str(result["stop reason"]) == "interrupted"
    assert place(tmp_path / "file") == (3, 3)
    stored = read_model(tmp_path / "file", "checkpoint")[0]
    assert_same_bits(stored["weights"], Press.weights)
    assert_same_bits(stored["best_weights"], result["weights"])
    losses = []

    def loss(outputs: np.ndarray, targets: np.ndarray, **options: Any) -> tuple[float, np.ndarray]:
        losses.append(len(targets))
        if len(losses) == 3 * 9 - 2:  # a pass has 6 batches and 3 of held-out data
            signal.raise_signal(signal.SIGINT)
        return rnnfast.softmax_cross_entropy(outputs, targets, **options)

    assert str(run("validation", tmp_path / "held out", loss=loss)["stop reason"]) == "interrupted"
    assert place(tmp_path / "held out") == (2, 6)
    losses[:] = [0] * 100
    for path, options in ((tmp_path / "file", {}), (tmp_path / "held out", {"loss": loss})):
        result, whole = run("validation", path, **options), run("validation", **options)
        for name, value in whole.items():
            assert_same_bits(np.asarray(result[name]), np.asarray(value), name)


def test_a_stop_before_the_first_step(tmp_path: Path, expected: Any, assert_same_bits: Any) -> None:
    """Of the run, when the optimiser has no moments, and of a later pass; on_epoch_begin is called again."""

    class StopAt(Callback):
        def __init__(self, *epochs: int) -> None:
            self.epochs, self.seen = epochs, []

        def on_epoch_begin(self, epoch: int, logs: dict[str, Any]) -> None:
            self.seen.append(epoch)
            self.model.stop_training = epoch in self.epochs

    for epoch in (0, 2, 2):
        run("text", tmp_path / "file", StopAt(epoch))
        assert place(tmp_path / "file") == (epoch, 0)
    result = run("text", tmp_path / "file", last := StopAt())
    assert last.seen == [2, 3, 4]
    for name, value in expected("text").items():
        assert_same_bits(np.asarray(result[name]), np.asarray(value), name)


def test_a_second_ctrl_c_leaves_the_last_checkpoint(tmp_path: Path, expected: Any, assert_same_bits: Any) -> None:
    class Twice(Callback):
        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            if batch == 4:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run("dropout", Checkpoint(tmp_path / "file", every=2), Twice())
    assert place(tmp_path / "file") == (0, 4)
    result = run("dropout", tmp_path / "file")
    for name, value in expected("dropout").items():
        assert_same_bits(np.asarray(result[name]), np.asarray(value), name)


def test_when_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After every k-th step but the last, after each pass, and once where a callback stops the run."""
    seen: list[tuple[str, int, int]] = []

    def note(path: Any, model: Any, optimizer: Any, rng: Any, at: Progress, facts: Any) -> None:
        seen.append((path.name, at.epoch, 0 if at.position is None else at.position.done))

    monkeypatch.setattr(rnnfast.checkpoint, "write_checkpoint", note)
    for every, expected in ((None, []), (1, [1, 2, 3, 4, 5]), (2, [2, 4]), (3, [3]), (4, [4]), (6, []), (100, [])):
        seen.clear()
        run("shuffled", Checkpoint(tmp_path / "a", every), max_epochs=2)
        assert [(epoch, done) for _, epoch, done in seen] == [
            *((0, done) for done in expected), (1, 0), *((1, done) for done in expected), (2, 0)]  # fmt: skip
    seen.clear()
    run("shuffled", tmp_path / "a", Checkpoint(tmp_path / "b", every=np.int64(3)), Stop("stop", 1, 3))
    assert seen == [("b", 0, 3), ("b", 1, 0), ("a", 1, 0), ("b", 1, 3), ("b", 1, 4), ("a", 1, 4)]
    seen.clear()
    run("tags in pieces", Checkpoint(tmp_path / "a", every=7), max_epochs=1)
    assert len(seen) > 1  # pieces count


def test_seconds_of_a_pass_add_up(tmp_path: Path) -> None:
    path = tmp_path / "file"
    run("shuffled", path, Stop("stop", 1, 2))
    arrays, settings = read_model(path, "checkpoint")
    assert 0 < settings["position"]["seconds"] < 1000
    settings["position"]["seconds"] = 1000.0
    write_model(path, "checkpoint", arrays, settings)
    model, data, options = arguments("shuffled")
    seconds = fit(model, *data, **options, checkpoint=path)["seconds"]
    assert [value > 1000 for value in seconds] == [False, True, False, False, False]


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    class Spoil(Callback):
        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            if batch == 3:
                self.model.vector[-1] = np.inf

    with pytest.raises(FloatingPointError, match="in pass 0, batch 4"):
        run("shuffled", Checkpoint(tmp_path / "file", every=1), Spoil())
    assert place(tmp_path / "file") == (0, 3)


def test_several_checkpoints(tmp_path: Path, expected: Any, assert_same_bits: Any) -> None:
    """Each is written when it wants; the run goes on from the one that has got furthest, and needs all to be whole."""
    often, seldom = Checkpoint(tmp_path / "often", every=2), Checkpoint(tmp_path / "seldom")
    for first, second in ((often, seldom), (seldom, often)):
        with pytest.raises(ZeroDivisionError):
            run("dropout", None, first, second, Stop("raise", 2, 4))
        assert (place(often.path), place(seldom.path)) == ((2, 4), (2, 0))
        begun: list[int] = []

        class Note(Callback):
            def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
                begun.append(batch)  # noqa: B023

        result = run("dropout", None, Note(), first, second)
        assert begun[0] == 4
        for name, value in expected("dropout").items():
            assert_same_bits(np.asarray(result[name]), np.asarray(value), name)
        assert place(often.path) == place(seldom.path) == (EPOCHS, 0)
        seldom.path.write_bytes(seldom.path.read_bytes()[:-1])
        with pytest.raises(ModelFileError, match="seldom"):
            run("dropout", None, first, second)
        often.path.unlink()
        seldom.path.unlink()


def test_one_file_for_one_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one = Checkpoint("file")
    for path, callbacks in ((None, [one, one]), (one, [one]), (tmp_path / "file", [one]), ("./file", [one])):
        with pytest.raises(ValueError, match=f"expected a file of its own for each, got {tmp_path / 'file'} twice"):
            run("shuffled", path, *callbacks)
    assert not (tmp_path / "file").exists()
    for epochs in (1, 2):  # one run after the other
        run("shuffled", None, one, max_epochs=epochs)
    with pytest.raises(ModelFileError, match="file: expected a checkpoint of this run, got one with"):
        run("tags", None, one)


def test_arguments() -> None:
    for path in (5, None, b"file", object()):
        with pytest.raises(TypeError, match="path: expected a str or path, got"):
            Checkpoint(path)
    for every in (True, 1.0, "5", np.float64(2)):
        with pytest.raises(TypeError, match="every: expected a positive integer or None, got"):
            Checkpoint("file", every=every)
    for every in (0, -3, np.int64(0)):
        with pytest.raises(ValueError, match="every: expected a positive integer or None, got"):
            Checkpoint("file", every=every)
    with pytest.raises(TypeError, match="checkpoint: expected a path or a Checkpoint, got 3"):
        run("shuffled", 3)
    assert repr(Checkpoint(Path("a"), 3)) == "Checkpoint('a', every=3)"
    assert isinstance(Checkpoint("a"), Callback)


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


TEXTS = ["a fine film", "a dull film", "so fine", "so very dull", "fine", "dull day"] * 3
DATA: dict[str, tuple[Any, ...]] = {
    "SequenceClassifier": (TEXTS, [text.split()[0] for text in TEXTS]),
    "SequenceRegressor": (TEXTS, [float(len(text)) for text in TEXTS]),
    "SequenceTagger": (TEXTS, [[word[0] for word in text.split()] for text in TEXTS]),
    "SequenceGenerator": (TEXTS,),
    "SequenceTransducer": (TEXTS, [text[::-1] for text in TEXTS]),
}


@pytest.mark.parametrize("kind", [*DATA, "SequenceGenerator of a text"])
def test_estimators_within_a_pass(kind: str, tmp_path: Path, assert_same_bits: Any) -> None:
    """As a callback, and given to fit; a text is one batch, which is trained on in pieces."""
    data = (" ".join(TEXTS * 3),) if "text" in kind else DATA[kind]
    options = {"hidden_size": 4, "batch_size": 4, "dropout": 0.2, "validation_fraction": 0.25, "random_state": 7,
               "schedule": "linear", "max_epochs": 3, "initial_state_std": 0.1}  # fmt: skip
    if "Generator" in kind:
        options["truncate"] = 6

    def fitted(*callbacks: Callback, n_jobs: int = 1, **given: Any) -> Any:
        return getattr(rnnfast, kind.split()[0])(**options, callbacks=callbacks, n_jobs=n_jobs).fit(*data, **given)

    path, whole = tmp_path / "file", fitted()
    with pytest.raises(ZeroDivisionError):
        fitted(Checkpoint(path, every=1), Stop("raise", 0, 2))
    assert place(path) == (0, 2)
    with pytest.raises(ZeroDivisionError):
        fitted(Stop("raise", 1, 1), checkpoint=Checkpoint(path, every=1), n_jobs=2)
    assert place(path) == (1, 1)
    resumed = fitted(checkpoint=path)
    assert_same_bits(resumed.network_.vector, whole.network_.vector)
    assert {**resumed.history_.history, "seconds": 0} == {**whole.history_.history, "seconds": 0}


@pytest.mark.parametrize("kind", ["SequenceClassifier", "SequenceRegressor", "SequenceTagger"])
def test_estimators(kind: str, tmp_path: Path, assert_same_bits: Any) -> None:
    texts, y = DATA[kind]
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


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """train --checkpoint-every, broken off within the first pass by an error and then by Ctrl-C, and --resume."""
    from rnnfast.__main__ import main as command

    monkeypatch.chdir(tmp_path)
    rows = [f"{text}\t{'fine' if 'fine' in text else 'dull'}" for text in TEXTS * 3]
    Path("reviews.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    train = ["train", "reviews.tsv", "--epochs", "2", "--hidden-size", "4", "--batch-size", "4", "--dropout", "0.2"]
    assert command([*train, "--save", "whole", "--quiet"]) == 0
    softmax, calls = rnnfast.losses.softmax_cross_entropy, [0]

    def loss(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == 5:
            raise MemoryError("in the fifth step")
        if calls[0] == 8:
            signal.raise_signal(signal.SIGINT)
        return softmax(*arguments, **options)

    monkeypatch.setitem(rnnfast.training.LOSSES, "cross_entropy", loss)
    monkeypatch.setattr(rnnfast.training, "softmax_cross_entropy", loss)
    assert command([*train, "--save", "model", "--checkpoint-every", "2"]) == 2
    assert place(tmp_path / "model.checkpoint.safetensors") == (0, 4)
    capsys.readouterr()
    assert command([*train, "--save", "model", "--resume", "--threads", "2"]) == 130
    assert "the run goes on with --resume, from model.checkpoint.safetensors\n" in capsys.readouterr().out
    assert place(tmp_path / "model.checkpoint.safetensors") == (
        0,
        6,
    )  # the fifth and the sixth; what was done of the seventh is dropped
    assert not Path("model").exists()
    assert command([*train, "--save", "model", "--resume"]) == 0
    first, second = (rnnfast.load(name).network_.vector for name in ("whole", "model"))
    assert first.tobytes() == second.tobytes()
    assert not Path("model.checkpoint.safetensors").exists()
    with pytest.raises(SystemExit):
        command(["train", "--help"])
    assert "--checkpoint-every STEPS" in capsys.readouterr().out


def test_progress_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a pass is gone on with, the bar goes on too, and counts the steps that were done before."""
    from rnnfast.commands import ProgressBar

    class Bar:
        def __init__(self, total: int, **options: Any) -> None:
            self.total, self.seen = total, []

        def update(self, n: int) -> None:
            self.seen.append(n)

        def close(self) -> None:
            bars.append(self)

        def set_description(self, *arguments: Any, **options: Any) -> None: ...
        def set_postfix(self, **options: Any) -> None: ...
        def clear(self) -> None: ...

    bars: list[Bar] = []
    monkeypatch.setitem(sys.modules, "tqdm", types.SimpleNamespace(tqdm=Bar))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run("shuffled", tmp_path / "file", ProgressBar(), Stop("stop", 3, 2))
    run("shuffled", tmp_path / "file", ProgressBar())
    assert [(bar.total, bar.seen) for bar in bars] == [(30, [1] * 21), (12, [4, *[1] * 8])]
    assert capsys.readouterr().out.count("pass 4/5: loss") == 1


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
    run = read_checkpoint([tmp_path / "file"], Model(), optimizer, rng, {"a": 1})
    assert (run.best, run.tie_break, run.best_weights, run.epoch) == (float("inf"), float("inf"), None, 0)
    assert optimizer.learning_rate == 0.5
    assert rng.random() == np.random.default_rng(1).random()
