"""Training on several ranks: the same as on one, whatever the number; one rank's end is everybody's.

Processes under mpiexec run ranks.py; where the processes do not matter, the ranks are threads.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import parallel, training
from rnnfast.random_rows import Share, normal, uniform

PROGRAM = Path(__file__).with_name("ranks.py")
_spec = importlib.util.spec_from_file_location("ranks", PROGRAM)
ranks: Any = importlib.util.module_from_spec(_spec)  # type: ignore[arg-type]
_spec.loader.exec_module(ranks)  # type: ignore[union-attr]

MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
has_mpi = importlib.util.find_spec("mpi4py") is not None and MPIEXEC is not None
under_mpi = pytest.mark.skipif(not has_mpi, reason="mpi4py or mpiexec is not installed")


def mpiexec(size: int, *arguments: Any, check: bool = True, **variables: Any) -> subprocess.CompletedProcess[str]:
    command = [str(MPIEXEC), "-n", str(size), sys.executable, *map(str, arguments)]
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


class Threads:
    """Ranks that are threads of this process."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.barrier = threading.Barrier(size, timeout=60)
        self.arrays: list[Any] = [None] * size
        self.calls: list[tuple[str, int]] = []  # of rank 0

    def run(self, work: Callable[[Any], Any]) -> list[Any]:
        """What `work` returns or raises on each rank."""
        results: list[Any] = [None] * self.size

        def one(rank: int) -> None:
            try:
                results[rank] = work(OfThread(self, rank))
            except BaseException as error:
                results[rank] = error

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


class OfThread:
    def __init__(self, threads: Threads, rank: int) -> None:
        self.threads, self.rank, self.size = threads, rank, threads.size

    def sum(self, array: Any) -> None:
        self._exchange("sum", array, lambda arrays: sum(arrays[1:], arrays[0]))

    def broadcast(self, array: Any) -> None:
        self._exchange("broadcast", array, lambda arrays: arrays[0])

    def _exchange(self, name: str, array: Any, result: Callable[[list[Any]], Any]) -> None:
        shared = self.threads
        if self.rank == 0:
            shared.calls.append((name, array.size))
        shared.arrays[self.rank] = (name, array.copy())
        shared.barrier.wait()
        assert len({(n, a.shape, a.dtype) for n, a in shared.arrays}) == 1, shared.arrays
        found = result([a for _, a in shared.arrays])
        shared.barrier.wait()
        array[...] = found


def assert_close(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-12 * np.abs(value).max(initial=0), err_msg=name)


# ---- the same as on one


@under_mpi
def test_processes_train_as_one_does(tmp_path: Path) -> None:
    one = {f"{kind}.{k}": v for kind in ranks.KINDS for k, v in ranks.train(kind, None, 0).items()}
    for size in (1, 2, 3, 4):
        mpiexec(size, PROGRAM, tmp_path)
        found = [dict(np.load(tmp_path / f"rank{rank}.npz")) for rank in range(size)]
        for other in found:
            for name, value in other.items():
                np.testing.assert_array_equal(value, found[0][name])
        assert_close(found[0], one)
    mpiexec(4, PROGRAM, tmp_path)  # repeated: to the bit
    for name, value in np.load(tmp_path / "rank2.npz").items():
        np.testing.assert_array_equal(value, found[2][name])


@pytest.mark.parametrize("kind", ranks.KINDS)
@pytest.mark.parametrize("size", [2, 3])
def test_threads_train_as_one_does(kind: str, size: int) -> None:
    one = ranks.train(kind, None, 0)
    for found in Threads(size).run(lambda comm: ranks.train(kind, comm, comm.rank)):
        assert_close(found, one)


@pytest.mark.parametrize("normalizer", ["steps", "sequences", "both", "sum"])
def test_a_batch_is_divided_by_what_all_ranks_have(normalizer: str) -> None:
    """Of a batch with one long sequence and three short ones, a mean over ranks' means would be another number."""
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(n, 3)) for n in (30, 1, 2, 0)]
    y = [rng.integers(0, 3, len(s)) for s in x]

    def train(comm: Any) -> Any:
        network = rnnfast.Network(3, 4, 3, per_step=True, dtype=np.float64, seed=0)
        optimizer = rnnfast.SGD(1.0)
        history = rnnfast.fit(network, x, y, normalizer=normalizer, optimizer=optimizer, max_epochs=1, comm=comm)
        return {"weights": network.vector, "loss": np.array(history["loss"])}

    for size in (2, 4, 5):  # five: one has no sequence
        for found in Threads(size).run(train):
            assert_close(found, train(None))


def test_one_sum_for_each_step() -> None:
    threads = Threads(2)
    threads.run(lambda comm: ranks.train("carried", comm, comm.rank, max_epochs=1))
    size = ranks.model("carried").vector.size
    steps = 4 * 3  # 40 sequences by 10, 9 steps by 4
    assert [calls for calls in threads.calls if calls[0] == "sum" and calls[1] > size] == (
        [("sum", size + parallel.FIGURES)] * (steps + 2)  # and one where a pass begins and where it ends
    )


def test_seeds_and_weights_are_those_of_rank_0() -> None:
    def train(comm: Any) -> Any:
        network = rnnfast.Network(20, 9, 3, embedding_size=5, dropout=0.5, seed=comm.rank)
        rnnfast.fit(network, data.x, data.y, comm=comm, max_epochs=2, seed=comm.rank + 7)
        return network.vector, network.rng.random()

    data = ranks.data("labels", -1)
    first, second = Threads(2).run(train)
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1] == second[1]


@pytest.mark.parametrize("name", ["classifier", "tagger", "regressor", "generator", "transducer"])
def test_every_estimator(name: str) -> None:
    words = ["a fine film", "a dull film", "fine acting", "dull acting and a dull plot", "fine"] * 4
    settings: dict[str, Any] = {"hidden_size": 5, "max_epochs": 3, "dtype": "float64", "random_state": 3,
                                "batch_size": 7, "dropout": 0.2, "validation_fraction": 0.2}  # fmt: skip

    def train(comm: Any) -> Any:
        if name == "classifier":
            model: Any = rnnfast.SequenceClassifier(**settings).fit(words, [len(w) for w in words], comm=comm)
        elif name == "tagger":
            texts = [w.split() for w in words]
            model = rnnfast.SequenceTagger(**settings).fit(texts, [[t[0] for t in text] for text in texts], comm=comm)
        elif name == "regressor":
            X = np.random.default_rng(0).normal(size=(20, 6))
            model = rnnfast.SequenceRegressor(**settings).fit(X, X.sum(axis=1), comm=comm)
        elif name == "generator":
            model = rnnfast.SequenceGenerator(**settings).fit(" ".join(words) * 3, comm=comm)
        else:
            model = rnnfast.SequenceTransducer(**settings).fit(words, [w[::-1] for w in words], comm=comm)
        return {"weights": model.network_.vector, "loss": np.array(model.history_["loss"])}

    one = train(None)
    for found in Threads(3).run(train):
        assert not isinstance(found, BaseException), found
        assert_close(found, one)


def test_a_condition_with_ranks_that_have_no_sequence() -> None:
    def train(comm: Any) -> Any:
        model = rnnfast.SequenceGenerator(hidden_size=4, max_epochs=2, dtype="float64", random_state=1, batch_size=3,
                                          truncate=2, dropout=0.2, initial_state_std=0.1)  # fmt: skip
        model.fit(["abc", "ab", "c", "cab", "b"] * 3, ["x", "y", "x", "y", "x"] * 3, comm=comm)
        return {"weights": model.network_.vector, "loss": np.array(model.history_["loss"])}

    one = train(None)
    for found in Threads(7).run(train):
        assert not isinstance(found, BaseException), found
        assert_close(found, one)


# ---- random numbers of rows


@pytest.mark.parametrize("bits", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("shape", [(7, 3), (5, 4, 2), (1, 1), (6, 0), (3, 5, 3)])
def test_rows_have_the_numbers_that_they_have_in_the_whole(bits: str, before: int, shape: tuple[int, ...]) -> None:
    def generator() -> np.random.Generator:
        rng = np.random.Generator(getattr(np.random, bits)(5))
        rng.random(before, np.float32)  # an odd number leaves half of a draw
        return rng

    whole, after = (lambda rng: (rng.random(shape, np.float32), rng.random(3, np.float32)))(generator())
    for rows in [slice(r, None, size) for size in (1, 2, 4, 9) for r in range(size)]:
        share, rng = Share(rows, shape[0]), generator()
        mine = uniform(rng, (len(share.indices()), *shape[1:]), share)
        np.testing.assert_array_equal(mine, whole[rows])
        np.testing.assert_array_equal(rng.random(3, np.float32), after)
        rng = generator()
        drawn = normal(rng, 0.1, (2, len(share.indices()), 3), 1, share)
        np.testing.assert_array_equal(drawn, generator().normal(0, 0.1, (2, shape[0], 3))[:, rows])


# ---- how it ends


class At(rnnfast.Callback):
    """Does something after a step or a pass."""

    def __init__(self, event: str, number: int, act: Callable[[Any], None]) -> None:
        self.event, self.number, self.act = event, number, act

    def _reached(self, event: str, number: int) -> None:
        if (event, number) == (self.event, self.number):
            self.act(self.model)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        self._reached("step", batch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        self._reached("pass", epoch)

    def on_train_end(self, logs: dict[str, Any]) -> None:
        self._reached("end", 0)


def stop(model: Any) -> None:
    model.stop_training = True


def fail(model: Any) -> None:
    raise OSError("no space left")


@pytest.mark.parametrize(("event", "number"), [("step", 1), ("step", 3), ("pass", 2)])
def test_a_callback_of_rank_0_stops_all(event: str, number: int) -> None:
    def train(comm: Any) -> Any:
        network, callbacks = ranks.model("labels"), [At(event, number, stop)]
        data = ranks.data("labels", -1)
        history = rnnfast.fit(network, data, comm=comm, callbacks=callbacks, batch_size=10, max_epochs=5, seed=0)
        return {"weights": network.vector, "loss": np.array(history["loss"])}, history.stop_reason

    expected, reason = train(None)
    for found, also in Threads(2).run(train):
        assert_close(found, expected)
        assert also == reason == "callback"


def test_callbacks_are_called_on_rank_0_alone() -> None:
    seen = []

    def train(comm: Any) -> None:
        ranks.train("labels", comm, comm.rank, callbacks=[At("pass", 1, lambda model: seen.append(comm.rank))])

    assert Threads(3).run(train) == [None] * 3
    assert seen == [0]


@pytest.mark.parametrize(("event", "number"), [("step", 1), ("step", 3), ("pass", 2), ("pass", 19)])
def test_an_error_in_a_callback_ends_all(event: str, number: int) -> None:
    first, *others = Threads(3).run(
        lambda comm: ranks.train("labels", comm, comm.rank, callbacks=[At(event, number, fail)])
    )
    assert isinstance(first, OSError)
    for other in others:
        assert isinstance(other, parallel.RankError)
        assert str(other) == "rank 0 of 3 failed: OSError: no space left"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("event", ["begin", "step", "pass"])
def test_a_callback_changes_the_learning_rate_of_all(event: str, dtype: Any) -> None:
    def train(comm: Any) -> Any:
        optimizer = rnnfast.Adam(0.05)

        class Change(rnnfast.Callback):
            def on_train_begin(self, logs: Any) -> None:
                optimizer.learning_rate *= 0.3 if event == "begin" else 1

            def on_train_batch_end(self, batch: int, logs: Any) -> None:
                optimizer.learning_rate *= 0.7 if event == "step" else 1

            def on_epoch_end(self, epoch: int, logs: Any) -> None:
                optimizer.learning_rate *= 0.1 if event == "pass" else 1

        network, data = rnnfast.Network(20, 9, 3, embedding_size=5, dtype=dtype, seed=5), ranks.data("labels", -1)
        history = rnnfast.fit(network, data, optimizer=optimizer, batch_size=5, max_epochs=4, seed=0, comm=comm,
                              callbacks=[Change()])  # fmt: skip
        return {"weights": network.vector, "loss": np.array(history["loss"])}, optimizer.learning_rate

    one, rate = train(None)
    for found, also in Threads(3).run(train):
        assert also == rate or event == "step"  # the last change has no step behind it
        for name, value in one.items():
            np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-12 if dtype is np.float64 else 1e-4)


def test_a_callback_may_change_weights_where_a_pass_begins_or_ends() -> None:
    def halve(model: Any) -> None:
        model.vector *= 0.5

    class Begin(rnnfast.Callback):
        def on_train_begin(self, logs: Any) -> None:
            halve(self.model)

        def on_epoch_begin(self, epoch: int, logs: Any) -> None:
            halve(self.model)

    def train(comm: Any) -> Any:
        callbacks = [Begin(), At("pass", 1, halve)]
        return ranks.train("labels", comm, comm and comm.rank, max_epochs=4, callbacks=callbacks, validation=None)

    for found in Threads(2).run(train):
        assert_close(found, train(None))


def test_an_error_in_any_letters_is_told() -> None:
    def act(model: Any) -> None:
        raise OSError("caf\udce9.tsv: gone")

    first, second = Threads(2).run(lambda comm: ranks.train("labels", comm, comm.rank, callbacks=[At("step", 1, act)]))
    assert isinstance(first, OSError)
    assert "rank 0 of 2 failed: OSError: caf\\udce9.tsv: gone" in str(second)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_goes_on_with_more_ranks(schedule: str, tmp_path: Path) -> None:
    whole = ranks.train("labels", None, 0, max_epochs=6, schedule=schedule)

    def part(comm: Any, *stops: rnnfast.Callback) -> Any:
        return ranks.train("labels", comm, comm and comm.rank, max_epochs=6, schedule=schedule, callbacks=stops,
                           checkpoint=rnnfast.Checkpoint(tmp_path / "run", every=1))  # fmt: skip

    part(None, At("step", 2, stop))
    for found in Threads(2).run(lambda comm: part(comm, At("pass", 3, stop))):
        assert not isinstance(found, BaseException), found
    for found in Threads(3).run(part):
        assert_close(found, whole)


def test_an_error_after_the_end_is_of_its_rank_alone() -> None:
    first, second = Threads(2).run(lambda comm: ranks.train("labels", comm, comm.rank, callbacks=[At("end", 0, fail)]))
    assert isinstance(first, OSError)
    assert isinstance(second, dict)


@pytest.mark.parametrize("kind", ["labels", "pieces", "ends"])
@pytest.mark.parametrize("call", [1, 3, 6])
def test_an_error_in_the_data_of_one_rank_ends_all(kind: str, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL_AT", f"1:{call}")
    results = Threads(3).run(lambda comm: ranks.train(kind, comm, comm.rank))
    for rank, error in enumerate(results):
        assert isinstance(error, OSError if rank == 1 else parallel.RankError), error
        assert f"batch {call}: the disk is gone" in str(error)


def test_not_finite_on_one_rank_is_named_on_all() -> None:
    x = np.ones((4, 3, 2), np.float32)
    x[2, 1, 0] = np.nan  # a row of rank 0 of 2
    network = rnnfast.Network(2, 3, 2)
    options = {"check_finite": True, "bucket": False, "shuffle": False}
    first, second = Threads(2).run(lambda comm: rnnfast.fit(copy_of(network), x, [0, 1, 0, 1], comm=comm, **options))
    assert isinstance(first, FloatingPointError)
    assert "(row 1 is sequence 2 of the data)" in str(first)
    assert isinstance(second, parallel.RankError)
    assert "sequence 2 of the data" in str(second)


def copy_of(network: Any) -> Any:
    import copy

    return copy.copy(network)


def test_a_loss_that_is_not_finite_is_so_on_all() -> None:
    x = np.ones((4, 3, 2), np.float32)
    network = rnnfast.Network(2, 3, 2)
    network.dense.parameters["b"][0] = np.inf
    for error in Threads(2).run(lambda comm: rnnfast.fit(copy_of(network), x, [0, 1, 0, 1], comm=comm)):
        assert isinstance(error, FloatingPointError)
        assert "in pass 0, batch 0" in str(error)


def test_what_differs_between_ranks_is_named() -> None:
    def train(comm: Any) -> None:
        x = [np.array([4, 5]), np.array([6 + comm.rank])]
        rnnfast.fit(rnnfast.Network(9, 3, 2, embedding_size=2), x, [0, 1], comm=comm)

    first, second = Threads(2).run(train)
    assert isinstance(first, parallel.RankError)
    assert isinstance(second, ValueError)
    assert "rank 1 of 2: expected what rank 0 has, got another checksum of the training data" in str(second)
    assert "checksum of the training data" in str(first)

    options: Callable[[Any], Any] = lambda comm: {"max_epochs": 2 + comm.rank % 2}  # noqa: E731
    results = Threads(3).run(lambda comm: ranks.train("labels", comm, comm.rank, **options(comm)))
    assert "max_epochs" in str(results[1])
    assert [type(each).__name__ for each in results] == ["RankError", "ValueError", "RankError"]


def test_other_versions_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "version", lambda name: threading.current_thread().name)
    first, second = Threads(2).run(lambda comm: ranks.train("labels", comm, comm.rank))
    assert isinstance(first, parallel.RankError)
    assert "got another version of rnnfast" in str(second)


def test_a_checkpoint_that_cannot_be_written_ends_all(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "run"
    first, second = Threads(2).run(lambda comm: ranks.train("labels", comm, comm.rank, checkpoint=path))
    assert isinstance(first, OSError)
    assert isinstance(second, parallel.RankError)
    assert str(path) in str(first)
    assert str(path) in str(second)


def test_a_source_is_shared_and_its_changes_end_all(tmp_path: Path) -> None:
    path = tmp_path / "reviews.tsv"
    path.write_text("".join(f"{'good' if k % 3 else 'bad'}\ta film of {k % 7}\n" for k in range(100)))

    def train(comm: Any, *callbacks: rnnfast.Callback) -> Any:
        source = rnnfast.streaming.classification(path, block_size=500)
        model = rnnfast.SequenceClassifier(hidden_size=4, max_epochs=3, dropout=0.2, random_state=0, dtype="float64",
                                           batch_size=9, validation_fraction=0.2, callbacks=callbacks)  # fmt: skip
        model.fit(source, comm=comm)
        return {"weights": model.network_.vector, "loss": np.array(model.history_["loss"])}

    one = train(None)
    for found in Threads(3).run(train):
        assert not isinstance(found, BaseException), found
        assert_close(found, one)
    grow = At("pass", 1, lambda model: path.write_text("good\tone line more\n" * 101))
    for error in Threads(2).run(lambda comm: train(comm, grow)):
        assert isinstance(error, OSError)  # each rank reads it for itself
        assert "reviews.tsv: it changed after it was read for the first time" in str(error)


def test_arguments_that_are_wrong_on_one_rank_or_on_all() -> None:
    results = Threads(3).run(
        lambda comm: ranks.train("labels", comm, comm.rank, clip_norm=-1 if comm.rank == 2 else 1.0)
    )
    assert [type(each).__name__ for each in results] == ["RankError", "RankError", "ValueError"]
    assert str(results[0]) == "rank 2 of 3 failed: ValueError: clip_norm: expected a positive number, got -1"
    for error in Threads(3).run(lambda comm: ranks.train("labels", comm, comm.rank, clip_norm=-1)):
        assert isinstance(error, ValueError)
    model = rnnfast.SequenceClassifier(max_epochs=1)
    first, second = Threads(2).run(lambda comm: model.fit(["a", "b"], [0, 1][comm.rank :], comm=comm))
    assert isinstance(first, parallel.RankError)
    assert "y: expected (N,) = (2,) labels" in str(second)


@pytest.mark.parametrize("comm", ["world", 3, object(), rnnfast])
def test_a_comm_that_is_none(comm: Any) -> None:
    with pytest.raises(TypeError, match="comm: expected a communicator of mpi4py"):
        ranks.train("labels", comm, 0)


def test_rank_0_alone_writes_checkpoints_within_a_pass(tmp_path: Path) -> None:
    def train(comm: Any) -> Any:
        checkpoint = rnnfast.Checkpoint(tmp_path / f"rank {comm.rank}", every=1)
        return ranks.train("labels", comm, comm.rank, checkpoint=checkpoint)

    results = Threads(2).run(train)
    assert not [result for result in results if isinstance(result, BaseException)], results
    assert [path.name for path in tmp_path.iterdir()] == ["rank 0"]


@under_mpi
def test_a_communicator_that_this_process_is_not_in() -> None:
    program = "from mpi4py import MPI; import rnnfast; rnnfast.parallel.MPIComm(MPI.COMM_NULL)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "ValueError: comm: expected a communicator that this process is in, got MPI.COMM_NULL" in done.stderr


def test_a_rank_out_of_range() -> None:
    comm = OfThread(Threads(2), 2)
    with pytest.raises(ValueError, match="comm: expected 0 <= rank < size, got rank 2 of 2"):
        ranks.train("labels", comm, 0)


# ---- checkpoints


@pytest.mark.parametrize("kind", ranks.KINDS)
def test_a_run_goes_on_with_another_number_of_ranks(kind: str, tmp_path: Path) -> None:
    """Also in the middle of a pass, where a state is carried on: two ranks, then three, then one."""
    path = tmp_path / "run.safetensors"
    whole = ranks.train(kind, None, 0, max_epochs=4)

    def part(comm: Any, *stops: rnnfast.Callback) -> Any:
        return ranks.train(kind, comm, comm and comm.rank, max_epochs=4, callbacks=stops,
                           checkpoint=rnnfast.Checkpoint(path, every=2))  # fmt: skip

    Threads(2).run(lambda comm: part(comm, At("step", 1, stop)))
    assert path.exists()
    for found in Threads(3).run(lambda comm: part(comm, At("pass", 1, stop))):
        assert not isinstance(found, BaseException), found
    assert_close(part(None), whole)


def test_only_rank_0_needs_the_checkpoint(tmp_path: Path) -> None:
    whole = ranks.train("labels", None, 0, max_epochs=4)

    def part(comm: Any, *stops: rnnfast.Callback) -> Any:
        return ranks.train("labels", comm, comm.rank, max_epochs=4, callbacks=stops,
                           checkpoint=tmp_path / f"of_rank_{comm.rank}")  # fmt: skip

    Threads(2).run(lambda comm: part(comm, At("pass", 1, stop)))
    assert [path.name for path in tmp_path.iterdir()] == ["of_rank_0"]
    for found in Threads(2).run(part):
        assert_close(found, whole)


def test_a_damaged_checkpoint_ends_all(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_bytes(b"no checkpoint")
    first, second = Threads(2).run(lambda comm: ranks.train("labels", comm, comm.rank, checkpoint=path))
    assert isinstance(first, rnnfast.ModelFileError)
    assert isinstance(second, parallel.RankError)
    assert path.read_bytes() == b"no checkpoint"


@under_mpi
def test_a_killed_process_ends_the_job_and_it_goes_on_with_another_number(tmp_path: Path) -> None:
    done = mpiexec(2, PROGRAM, tmp_path, "labels", check=False, EVERY=1, KILL_AT="1:30")
    assert done.returncode != 0
    assert (tmp_path / "labels.safetensors").exists()
    assert not list(tmp_path.glob("*.npz"))
    mpiexec(3, PROGRAM, tmp_path, "labels", EVERY=1)
    found = dict(np.load(tmp_path / "rank1.npz"))
    assert_close(found, {f"labels.{k}": v for k, v in ranks.train("labels", None, 0).items()})


@under_mpi
def test_an_error_on_one_process_ends_the_job(tmp_path: Path) -> None:
    done = mpiexec(3, PROGRAM, tmp_path, "labels", check=False, FAIL_AT="2:7")
    assert done.returncode != 0
    assert "OSError: batch 7: the disk is gone" in done.stderr  # mpiexec ends the others when the first one ends


# ---- threads of a rank


@pytest.mark.parametrize(("hosts", "expected"), [(["a", "a"], 2), (["a", "b"], 4), (["a"] * 9, 1)])
def test_ranks_of_one_machine_divide_its_processors(
    hosts: list[str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Comm(parallel.Alone):
        size = len(hosts)

        def neighbours(self, text: str) -> list[str]:
            assert text == "a 0 1 2 3"
            return [f"{host} 0 1 2 3" for host in hosts]

    for name in ("RNNFAST_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(parallel.socket, "gethostname", lambda: "a")
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    before = rnnfast.get_num_threads()
    try:
        rnnfast.set_num_threads(4)
        together = parallel.Ranks(Comm())
        together.begin({}, np.zeros(3))
        assert rnnfast.get_num_threads() == expected
        together.put_threads_back()
        assert rnnfast.get_num_threads() == 4
        monkeypatch.setenv("OMP_NUM_THREADS", "4")
        parallel.Ranks(Comm()).begin({}, np.zeros(3))
        assert rnnfast.get_num_threads() == 4
    finally:
        rnnfast.set_num_threads(before)


# ---- torch.distributed, and the command line

GLOO = """
import sys
import numpy as np
import torch.distributed as distributed
sys.path.insert(0, {folder!r})
import ranks
distributed.init_process_group("gloo", init_method="file://{path}", rank=int(sys.argv[1]), world_size=2)
group = distributed.new_group([0, 1])
for comm in (distributed, group):
    found = ranks.train("labels", comm, int(sys.argv[1]))
    np.savez("{path}" + sys.argv[1] + ".npz", **found)
distributed.barrier()
distributed.destroy_process_group()
"""


def test_process_groups_of_torch(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "meet"
    program = GLOO.format(folder=str(PROGRAM.parent), path=path)
    processes = [subprocess.Popen([sys.executable, "-c", program, str(rank)]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    for rank in range(2):
        assert_close(dict(np.load(f"{path}{rank}.npz")), ranks.train("labels", None, 0))


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    words = np.array(["good", "fine", "dull", "bad", "a", "film", "the", "plot"])
    lines = []
    for _ in range(120):
        text = words[rng.integers(0, 8, rng.integers(1, 9))].tolist()
        lines.append(f"{'pos' if 'good' in text or 'fine' in text else 'neg'}\t{' '.join(text)}\n")
    path = tmp_path / "reviews.tsv"
    path.write_text("".join(lines))
    return path


@under_mpi
def test_the_command_line(reviews: Path) -> None:
    folder = reviews.parent
    options = ["train", reviews, "--epochs", "3", "--dtype", "float64", "--dropout", "0.3"]
    saved = []
    for size in (1, 2):
        path = folder / f"{size}.safetensors"
        done = mpiexec(size, "-m", "rnnfast", *options, "--mpi", "--save", path)
        assert done.stdout.count("pass 3/3") == 1
        assert done.stdout.count("saved to") == 1
        saved.append(rnnfast.load(path).network_.vector)
    np.testing.assert_allclose(saved[1], saved[0], rtol=0, atol=1e-12 * np.abs(saved[0]).max())


@under_mpi
def test_the_command_line_says_it_once(reviews: Path) -> None:
    for options, expected in (
        (["train", reviews, "--dropout", "2"], "rnnfast: dropout: expected 0 <= p < 1, got 2.0\n"),
        (["train", "nothing.tsv"], "rnnfast: nothing.tsv: expected a file or one of the data sets"),
        (["train", reviews, "--save", "/nowhere/model"], "rnnfast: --save /nowhere/model: expected a path in a folder"),
    ):
        done = mpiexec(3, "-m", "rnnfast", *options, "--mpi", check=False)
        assert done.returncode == 2
        assert done.stderr.startswith(expected)
        assert done.stderr.count("rnnfast:") == 1


@under_mpi
def test_the_command_line_names_the_rank(reviews: Path) -> None:
    """A rank whose file is another one, and the first of two that have none."""
    program = (
        "import sys; from mpi4py import MPI; from rnnfast.__main__ import main; rank = MPI.COMM_WORLD.rank; "
        "sys.exit(main(['train', sys.argv[1] if rank < int(sys.argv[2]) else 'gone.tsv', '--mpi', '--epochs', '2']))"
    )
    for sound, expected in (
        (2, "rnnfast: rank 2 of 3 failed: CommandError: gone.tsv: expected a file or"),
        (1, "rnnfast: rank 1 of 3 failed (2 ranks did): CommandError: gone.tsv: expected a file or"),
    ):
        done = mpiexec(3, "-c", program, reviews, sound, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith(expected), done.stderr
        assert done.stderr.count("rnnfast:") == 1


@under_mpi
def test_ctrl_c_ends_all_ranks_between_two_steps(reviews: Path) -> None:
    folder = reviews.parent
    command = [str(MPIEXEC), "-n", "2", sys.executable, "-m", "rnnfast", "train", str(reviews), "--mpi"]
    options = ["--epochs", "100000", "--save", str(folder / "model"), "--dtype", "float64"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("pass 3/"):
            break
    ours = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            words = path.read_bytes()
            if bytes(folder / "model") in words and b"mpiexec" not in words:
                ours.append(int(path.parent.name))
    assert len(ours) == 2
    os.kill(ours[1], signal.SIGINT)  # one rank is enough
    start = time.monotonic()
    rest, errors = process.communicate(timeout=60)
    assert time.monotonic() - start < 30
    assert errors.count("rnnfast: interrupted") == 1
    assert "the run goes on with --resume" in rest
    assert (folder / "model.checkpoint.safetensors").exists()
