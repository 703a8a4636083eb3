"""checkpoint.py: a checkpoint of another run, one that is damaged, and one that cannot be written: each is named, and
nothing is changed, neither the model nor the file."""

from __future__ import annotations

import copy
import errno
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import SGD, Adam, Callback, Checkpoint, ModelFileError, Network, Sequences, fit
from rnnfast.files import read_model, write_model

N = 23
rng = np.random.default_rng(0)
LENGTHS = rng.integers(1, 9, N)
IDS = [rng.integers(4, 20, n) for n in LENGTHS]
LABELS = rng.integers(0, 2, N)
HELD_OUT = (IDS[:9], 1 - LABELS[:9])
STEPS = [ids % 2 for ids in IDS]
# A run that is stopped in the middle of a batch, with a state to carry on; and one that carries it from batch to batch.
PIECES: dict[str, Any] = {"model": {"per_step": True, "num_layers": 2}, "y": STEPS, "truncate": 2, "schedule": "linear"}
CARRIED: dict[str, Any] = {"x": IDS[:20], "y": LABELS[:20], "carry_state": True, "shuffle": False, "bucket": False}

OTHER: list[tuple[dict[str, Any], str]] = [
    ({"batch_size": 5}, "batch_size = 4, while this run has 5"),
    ({"loss": "squared_error", "y": np.zeros((N, 2), np.float32)}, "loss = cross_entropy, while this run has squared"),
    ({"loss": lambda *a, **o: (1.0, None)}, "loss = cross_entropy, while this run has <lambda>"),
    ({"normalizer": "sum"}, "normalizer = steps, while this run has sum"),
    ({"schedule": "linear"}, "schedule = constant, while this run has linear"),
    ({"clip_norm": 1.0}, "clip_norm = None, while this run has 1.0"),
    ({"clip_value": 0.5}, "clip_value = None, while this run has 0.5"),
    ({"truncate": 4}, "truncate = None, while this run has 4"),
    ({"shuffle": False}, "shuffle = True, while this run has False"),
    ({"bucket": False}, "bucket = True, while this run has False"),
    ({"monitor": "val_loss", "validation": HELD_OUT}, "monitor = loss, while this run has val_loss"),
    ({"validation": HELD_OUT, "monitor": "loss"}, "sequences of the validation data = None, while this run has 9"),
    ({"x": IDS[1:], "y": LABELS[1:]}, f"sequences of the training data = {N}, while this run has {N - 1}"),
    ({"x": [IDS[0][:-1], *IDS[1:]]}, "steps of the training data ="),
    ({"x": [IDS[0] + 1, *IDS[1:]]}, "checksum of the training data ="),
    ({"x": IDS[::-1], "y": LABELS[::-1]}, "checksum of the training data ="),
    ({"y": 1 - LABELS}, "checksum of the training data ="),
    ({"optimizer": Adam(0.03)}, "learning_rate = 0.02, while this run has 0.03"),
    ({"optimizer": Adam(0.02, beta1=0.8)}, "beta1 = 0.9, while this run has 0.8"),
    ({"optimizer": SGD(0.02)}, "optimizer = Adam, while this run has SGD"),
    ({"model": {"hidden_size": 6}}, "hidden_size = 5, while this run has 6"),
    ({"model": {"cell": "rnn_relu"}}, "cell = rnn_tanh, while this run has rnn_relu"),
    ({"model": {"dropout": 0.1}}, "dropout = 0.0, while this run has 0.1"),
    ({"model": {"initial_state_std": 0.1}}, "initial_state_std = 0.0, while this run has 0.1"),
    ({"model": {"num_layers": 2}}, "num_layers = 1, while this run has 2"),
    (
        {"carry_state": True, "x": IDS[:20], "y": LABELS[:20], "shuffle": False, "bucket": False},
        "carry_state = False, while this run has True",
    ),
    (
        {"loss": functools.partial(rnnfast.softmax_cross_entropy, class_weight=[1, 2])},
        "loss = cross_entropy, while this run has softmax_cross_entropy(class_weight=[1, 2])",
    ),
    ({"model": {"embedding_size": 6}}, "shape of embedding.E = [20, 4], while this run has [20, 6]"),
    ({"model": {"input_size": 40, "embedding_size": 2}}, "shape of embedding.E = [20, 4], while this run has [40, 2]"),
    ({"model": {"dtype": "float64"}}, "weights of float32, while this model has"),
    ({"model": {"embedding_size": 0}}, "layers = ['embedding', 'recurrent', 'dense'], while this run has ['recurrent'"),
]


class Setup:
    """A run of few passes, and whether something of it was changed."""

    def __init__(self, **changes: Any) -> None:
        network = {
            "input_size": 20,
            "hidden_size": 5,
            "output_size": 2,
            "cell": "rnn_tanh",
            "embedding_size": 4,
            "seed": 1,
        }
        self.model = Network(**network | changes.pop("model", {}))
        self.options = {"x": IDS, "y": LABELS, "batch_size": 4, "max_epochs": 2, "seed": np.random.default_rng(3)}
        self.options |= {"optimizer": Adam(0.02), **changes}
        self.before = self.state()

    def state(self) -> str:
        optimizer = self.options["optimizer"]
        return repr((
            self.model.vector.tobytes(), {k: v.tobytes() for k, v in optimizer.state().items()},
            self.options["seed"].bit_generator.state, self.model.rng.bit_generator.state,
        ))  # fmt: skip

    def fit(self, path: Path | Checkpoint, *callbacks: Callback) -> Any:
        return fit(self.model, **self.options, checkpoint=path, callbacks=callbacks)


class Stop(Callback):
    """Stops the run after a step of its second pass."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any]) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        self.model.stop_training = (self.epoch, batch) == (1, self.batch)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("written") / "file"
    Setup().fit(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def within(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A checkpoint in the middle of a batch of PIECES."""
    path = tmp_path_factory.mktemp("within") / "file"
    Setup(**PIECES).fit(path, Stop(8))
    arrays, settings = read_model(path, "checkpoint")
    assert (settings["position"]["done"], settings["position"]["states"]) == (9, 1)
    assert arrays["state.0"].shape == (2, 4, 5)
    return path.read_bytes()


@pytest.mark.parametrize(("changes", "message"), OTHER)
def test_a_checkpoint_of_another_run(changes: dict[str, Any], message: str, written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(written)
    setup = Setup(**changes)
    with pytest.raises(
        ModelFileError, match=re.escape(f"{path}: expected a checkpoint of this run, got one with ")
    ) as e:
        setup.fit(path)
    assert message in str(e.value)
    assert setup.state() == setup.before
    assert path.read_bytes() == written


def test_what_may_differ(written: bytes, tmp_path: Path, assert_same_bits: Any) -> None:
    """What ends a run, how many threads there are, what stands in padding, how the data are held."""
    path = tmp_path / "file"
    expected = Setup(max_epochs=4)
    expected.fit(tmp_path / "new")
    padded, lengths = rnnfast.pad(IDS)
    padded[np.arange(padded.shape[1]) >= lengths[:, None]] = -7
    for changes in (
        {},
        {"model": {"num_threads": 2}},
        {"target_loss": -1.0, "tol": 0.5, "patience": 50},
        {"x": padded, "lengths": lengths.astype(np.uint8), "y": LABELS.tolist()},
        {"x": Sequences(IDS, LABELS), "y": None},
        {"clip_norm": None, "schedule": "constant"},
    ):
        path.write_bytes(written)
        setup = Setup(**{"max_epochs": 4} | changes)
        assert len(setup.fit(path)["loss"]) == 4
        if "patience" not in changes:  # with it the best weights come back
            assert_same_bits(setup.model.vector, expected.model.vector)


WRONG: list[tuple[str, Any]] = [
    ("facts", None), ("facts", []), ("facts", {}), ("shapes", None), ("shapes", {}), ("shapes", {"m": [3]}),
    ("shapes", {"learning_rate": [], "steps": [], "m": [-1], "v": [-1], "w": [2]}), ("generators", None),
    ("generators", {}), ("generators", {"order": None, "model": None}), ("generators", {"order": 5, "model": 6}),
    ("learning_rate", None), ("learning_rate", "fast"), ("epoch", None), ("epoch", 3), ("epoch", 10**400),
    ("waited", "x"), ("best", None), ("best", [1.0]), ("best", ["a", "b"]), ("history", None), ("history", 5),
    ("history", {"loss": [1.0]}), ("history", {"loss": 7}), ("best_epoch", "missing"), ("history", "missing"),
    ("weights", "missing"), ("optimizer.m", "missing"), ("weights", np.zeros(3, np.float32)),
    ("best_weights", np.zeros(3, np.float32)), ("optimizer.m", np.zeros(3, np.float32)),
    ("optimizer.steps", np.zeros(1, np.float32)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_checkpoint_that_makes_no_sense(name: str, value: Any, written: bytes, tmp_path: Path) -> None:
    """Whole files with a right checksum that no run wrote: nothing is taken from them, not even a part."""
    path = tmp_path / "file"
    path.write_bytes(written)
    arrays, settings = copy.deepcopy(read_model(path, "checkpoint"))
    where = arrays if name in arrays else settings
    assert name in where
    where[name] = value
    if isinstance(value, str) and value == "missing":
        del where[name]
    write_model(path, "checkpoint", arrays, settings)
    setup = Setup()
    with pytest.raises(ModelFileError, match="expected a checkpoint of this run, got one with"):
        setup.fit(path)
    assert setup.state() == setup.before


WRONG_POSITIONS: list[tuple[str, Any]] = [
    ("position", 5), ("position", []), ("position", {}), ("done", "missing"), ("done", -1), ("done", 10**6),
    ("done", 9.0), ("done", True), ("done", None), ("done", "9"), ("done", 0), ("done", 10),  # where a batch ends
    ("done", 5),  # in a batch of 3 rows
    ("total", None), ("total", "x"),
    ("weight", [1]), ("seconds", None), ("generator", None), ("generator", {}), ("generator", "missing"), ("states", 0),
    ("states", 2), ("states", 10**12), ("states", -1), ("states", None), ("states", 1.0), ("state.0", "missing"),
    *(("state.0", np.zeros(shape, "f4")) for shape in [(2, 4, 6), (2, 3, 5), (1, 4, 5), (40,), (2, 4, 5, 1), (0,)]),
    ("state.0", np.zeros((2, 4, 5))), ("state.0", np.zeros((2, 4, 5), np.int32)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG_POSITIONS)
def test_a_position_that_no_pass_has(name: str, value: Any, within: bytes, tmp_path: Path) -> None:
    """A step beyond the pass, a carried state of another shape, or none where there has to be one: nothing is taken."""
    path = tmp_path / "file"
    path.write_bytes(within)
    arrays, settings = copy.deepcopy(read_model(path, "checkpoint"))
    where = arrays if name in arrays else settings if name in settings else settings["position"]
    assert name in where
    where[name] = value
    if isinstance(value, str) and value == "missing":
        del where[name]
    write_model(path, "checkpoint", arrays, settings)
    setup, data = Setup(**PIECES), path.read_bytes()
    with pytest.raises(ModelFileError, match="expected a checkpoint of this run, got one with"):
        setup.fit(path)
    assert setup.state() == setup.before
    assert path.read_bytes() == data


@pytest.mark.parametrize(("done", "rows", "fits"), [
    (2, 4, True), (5, 4, True), (2, 3, False), (2, None, False), (0, 4, False), (0, None, True), (6, 4, False),
])  # fmt: skip
def test_states_from_batch_to_batch(done: int, rows: int | None, fits: bool, tmp_path: Path) -> None:
    """They are there after each batch, the last one too, and not before the first one."""
    path = tmp_path / "file"
    Setup(**CARRIED).fit(path, Stop(2))
    arrays, settings = read_model(path, "checkpoint")
    assert settings["position"]["done"] == 3
    del arrays["state.0"]
    settings["position"] |= {"done": done, "states": 0}
    if rows is not None:
        arrays["state.0"], settings["position"]["states"] = np.zeros((1, rows, 5), np.float32), 1
    write_model(path, "checkpoint", arrays, settings)
    setup = Setup(**CARRIED)
    if fits:
        assert len(setup.fit(path)["loss"]) == 2
        return
    with pytest.raises(ModelFileError, match="expected a checkpoint of this run, got one with st"):
        setup.fit(path)
    assert setup.state() == setup.before


def test_files_without_a_position(written: bytes, tmp_path: Path, assert_same_bits: Any) -> None:
    """As they were before there was one: of the end of a pass."""
    path = tmp_path / "file"
    path.write_bytes(written)
    arrays, settings = read_model(path, "checkpoint")
    assert settings.pop("position") is None
    write_model(path, "checkpoint", arrays, settings)
    resumed, whole = Setup(max_epochs=4), Setup(max_epochs=4)
    assert len(resumed.fit(path)["loss"]) == 4
    whole.fit(tmp_path / "another")
    assert_same_bits(resumed.model.vector, whole.model.vector)


@pytest.mark.parametrize("kind", [dict, tuple])
def test_a_state_that_is_not_a_tuple_of_arrays(kind: type[Any], tmp_path: Path) -> None:
    """A model may carry on what it likes, until that is to be written."""
    setup = Setup(**CARRIED)
    forward = setup.model.forward

    def nested(x: Any, *, state: Any = None, **options: Any) -> Any:
        out = forward(x, state=None if state is None else state["h"] if kind is dict else state[0], **options)
        setup.model.state = {"h": setup.model.state} if kind is dict else (setup.model.state,)
        return out

    setup.model.forward = nested
    assert len(setup.fit(tmp_path / "file")["loss"]) == 2
    setup.options["max_epochs"] = 3
    with pytest.raises(TypeError, match=r"state: expected a tuple of arrays for a checkpoint within a pass, got [{(]"):
        setup.fit(Checkpoint(tmp_path / "file", every=2))


@pytest.mark.parametrize("part", ["order", "model"])
def test_generators_of_another_kind(part: str, written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(written)
    arrays, settings = read_model(path, "checkpoint")
    settings["generators"][part] = json.loads(json.dumps(np.random.SFC64(1).state, default=np.ndarray.tolist))
    write_model(path, "checkpoint", arrays, settings)
    setup = Setup()
    with pytest.raises(ModelFileError, match=r"got one with .*PCG64"):
        setup.fit(path)
    assert setup.state() == setup.before


@pytest.mark.parametrize("kind", ["written", "within"])
def test_damaged_files(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Truncated anywhere, or with a bit flipped anywhere: an error that changes nothing, or the very same numbers."""
    written, changes = request.getfixturevalue(kind), PIECES if kind == "within" else {}
    path, rng, setup = tmp_path / "file", np.random.default_rng(0), Setup(**changes)
    whole = Setup(**changes)
    path.write_bytes(written)
    whole.fit(path)
    for place in [*range(0, len(written), len(written) // 60), len(written) - 1]:
        path.write_bytes(written[:place])
        with pytest.raises(ModelFileError, match=re.escape(f"{path}: expected a")):
            setup.fit(path)
        assert setup.state() == setup.before
    read = 0
    for place in {*range(0, 8 * 40, 3), *rng.integers(0, 8 * len(written), 250).tolist()}:
        data = bytearray(written)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        try:
            setup.fit(path)
        except ModelFileError:
            assert setup.state() == setup.before, place
        else:
            assert setup.state() == whole.state(), place
            setup, read = Setup(**changes), read + 1
    assert read < 20


def test_other_files(tmp_path: Path) -> None:
    setup = Setup()
    with pytest.raises(FileNotFoundError, match="found a folder"):
        setup.fit(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelFileError, match="expected a safetensors file"):
        setup.fit(tmp_path / "file")
    write_model(tmp_path / "file", "SequenceTagger", {}, {})
    with pytest.raises(ModelFileError, match="expected a checkpoint, got a 'SequenceTagger'"):
        setup.fit(tmp_path / "file")
    with pytest.raises(FileNotFoundError, match="could not write"):
        setup.fit(tmp_path / "none" / "file")


FAILURES = [
    (tempfile, "mkstemp", OSError(errno.EROFS, "Read-only file system")),
    (os, "fsync", OSError(errno.ENOSPC, "No space left on device")),
    (Path, "replace", OSError(errno.EROFS, "Read-only file system")),
]


@pytest.mark.parametrize(("where", "call", "error"), FAILURES)
def test_a_full_disk_keeps_the_old_file(
    where: Any, call: str, error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, assert_same_bits: Any
) -> None:
    path, seen = tmp_path / "file", []

    class Fill(Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
            if epoch == 2:
                seen.append((path.read_bytes(), self.model.vector.copy()))

                def fail(*arguments: Any, **options: Any) -> None:
                    raise error

                monkeypatch.setattr(where, call, fail)

    setup = Setup(max_epochs=4)
    with pytest.raises(OSError, match=re.escape(f"could not write {path} ({error.strerror})")):
        setup.fit(path, Fill())
    monkeypatch.undo()
    ((before, weights),) = seen
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [before]
    assert_same_bits(setup.model.vector, weights)  # the model is what it was after the pass
    resumed, never_stopped = Setup(max_epochs=4), Setup(max_epochs=4)
    assert len(resumed.fit(path)["loss"]) == 4
    never_stopped.fit(tmp_path / "another")
    assert_same_bits(resumed.model.vector, never_stopped.model.vector)


@pytest.mark.parametrize(("where", "call", "error"), FAILURES)
@pytest.mark.parametrize("changes", [PIECES, CARRIED | {"schedule": "cosine"}])
def test_a_full_disk_within_a_pass(
    changes: dict[str, Any], where: Any, call: str, error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    assert_same_bits: Any,
) -> None:  # fmt: skip
    """The old file is whole, the learning rate is put back, the model is as after its last step, and all can go on."""
    path, seen = tmp_path / "file", []

    class Fill(Stop):
        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            if (self.epoch, batch) == (1, self.batch):
                seen.append((path.read_bytes(), self.model.vector.copy()))

                def fail(*arguments: Any, **options: Any) -> None:
                    raise error

                monkeypatch.setattr(where, call, fail)

    setup = Setup(**changes)
    with pytest.raises(OSError, match=re.escape(f"could not write {path} ({error.strerror})")):
        setup.fit(Checkpoint(path, every=1), Fill(3))
    monkeypatch.undo()
    ((before, weights),) = seen
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [before]
    settings = read_model(path, "checkpoint")[1]
    assert (settings["epoch"], settings["position"]["done"]) == (1, 3)
    assert_same_bits(setup.model.vector, weights)
    assert setup.options["optimizer"].learning_rate == 0.02
    again, never_stopped = Setup(**changes), Setup(**changes)
    never_stopped.fit(tmp_path / "another")
    for resumed in (setup, again):  # with what the error has left, and in a new process
        path.write_bytes(before)
        assert len(resumed.fit(path)["loss"]) == 2
        assert resumed.state() == never_stopped.state()


def test_a_file_that_may_not_grow(tmp_path: Path, assert_same_bits: Any) -> None:
    """A real write that fails, as on a full disk: the file is the old one, and training goes on when there is room."""
    resource = pytest.importorskip("resource")
    path, before = tmp_path / "file", []

    class Limit(Stop):
        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            if (self.epoch, batch) == (1, self.batch):
                before.append(path.read_bytes())
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    setup, never_stopped = Setup(**PIECES), Setup(**PIECES)
    try:
        with pytest.raises(OSError, match=re.escape(f"could not write {path} (File too large); what stood there is")):
            setup.fit(Checkpoint(path, every=1), Limit(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.read_bytes() for p in tmp_path.iterdir()] == before
    setup.fit(path)
    never_stopped.fit(tmp_path / "another")
    assert setup.state() == never_stopped.state()


KILLS = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from rnnfast.checkpoint import Progress, read_checkpoint, write_checkpoint

class Model:
    rng = None
    def __init__(self): self.vector = np.zeros(5_000, np.float32)

class Optimizer:
    def __init__(self): self.m = np.zeros(5_000, np.float32)
    def state(self): return {"m": self.m}
    def load_state(self, state): self.m = state["m"]

def write(k):
    model, optimizer, run = Model(), Optimizer(), Progress(epoch=k)
    model.vector += k
    optimizer.m -= k
    run.history.history = {"loss": [1.0] * k}
    write_checkpoint(path, model, optimizer, np.random.default_rng(k), run, {})

path, draw = Path(sys.argv[1]) / "file", random.Random(0)

def once():
    # seconds until a child has written one
    start, child = time.perf_counter(), os.fork()
    if child == 0:
        write(0)
        os._exit(0)
    os.waitpid(child, 0)
    return time.perf_counter() - start

longest = max(once() for _ in range(5))
last, seen = 0, set()
for _ in range(200):
    child = os.fork()
    if child == 0:
        for k in range(last + 1, 10**6):
            write(k)
    time.sleep(draw.uniform(0, 2 * longest))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    model, optimizer = Model(), Optimizer()
    run = read_checkpoint([path], model, optimizer, np.random.default_rng(0), {})
    assert (model.vector == run.epoch).all() and (optimizer.m == -run.epoch).all() and run.epoch >= last
    last = run.epoch
    seen.add(last)
print(len(seen), len(list(path.parent.iterdir())))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_while_it_is_written(tmp_path: Path) -> None:
    """200 kills at any moment: the file is the old one or the new one, whole."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLS, str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    files, left = map(int, done.stdout.split())
    assert files > 5  # they were written in between
    assert left > 1  # a kill did come between the beginning of a file and its renaming
