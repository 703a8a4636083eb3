"""Sources: the same models from disk as from memory, in blocks of any size; a file that is not what it was."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import datasets, streaming

WORDS = "good fine nice dull bad awful film plot actor the a is was of".split()  # noqa: SIM905


def texts(n: int, seed: int = 0) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(seed)
    X = [" ".join(WORDS[i] for i in rng.integers(0, len(WORDS), rng.integers(1, 9))) for _ in range(n)]
    return X, ["pos" if "good" in x or "fine" in x else "neg" for x in X]


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.tsv"
    path.write_text("\ufeff" + "".join(f"{label}\t{text}\n" for text, label in zip(*texts(200), strict=True)))
    return path


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    path = tmp_path / "tagged.conll"
    blocks = ["".join(f"{word} {word[0]}\n" for word in text.split()) for text in texts(100)[0]]
    path.write_text("# a comment\n" + "\n".join(blocks) + "\n")
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    values = np.random.default_rng(0).normal(size=(300, 3)).cumsum(axis=0)
    path.write_text("day,a,b,c\n" + "".join(f"d{k},{x},{y},{z}\n" for k, (x, y, z) in enumerate(values)))
    return path


def everything(source: Any) -> tuple[list[Any], list[Any]]:
    X, y = [], []
    for part_X, part_y in streaming.Part(source).blocks():
        X.extend(part_X)
        y.extend([] if part_y is None else part_y)
    return X, y


# ---- sources


@pytest.mark.parametrize("size", [1, 7, 100, 1 << 20])
def test_blocks_of_any_size_hold_the_same(size: int, reviews: Path, sentences: Path, table: Path) -> None:
    assert everything(streaming.classification(reviews, block_size=size)) == datasets.read_classification(reviews)
    labels, found = everything(streaming.pairs(reviews, block_size=size))
    assert (labels, found) == datasets.read_pairs(reviews)
    assert everything(streaming.tagging(sentences, block_size=size)) == datasets.read_tagging(sentences)
    assert everything(streaming.tagging(sentences, 0 - 1, block_size=size)) == datasets.read_tagging(sentences, -1)
    lines = streaming.lines(reviews, block_size=size)
    assert everything(lines)[0] == reviews.read_text(encoding="utf-8-sig").splitlines()
    whole = datasets.read_series(table)
    for target, horizon in ((None, 1), ("a", 3)):
        X, y = everything(streaming.series(table, 5, horizon, target=target, block_size=size))
        column = -1 if target is None else whole.names.index(target)
        expected = rnnfast.windows(whole.values, 5, horizon, target=whole.values[:, column])
        np.testing.assert_array_equal(X, expected[0])
        np.testing.assert_array_equal(y, expected[1])


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("mapped", [False, True])
def test_arrays(size: int, mapped: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y, lengths = rng.normal(size=(20, 6, 2)), rng.integers(0, 3, 20), rng.integers(1, 7, 20)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    given = np.load(tmp_path / "x.npy", mmap_mode="r") if mapped else tmp_path / "x.npy"
    found, labels = everything(streaming.arrays(given, tmp_path / "y.npy", lengths, block_size=size * x[0].nbytes))
    assert labels == y.tolist()
    for row, expected, n in zip(found, x, lengths, strict=True):
        np.testing.assert_array_equal(row, expected[:n])
    assert streaming.arrays(x, y).checksum() != streaming.arrays(x, y, lengths).checksum()
    assert streaming.arrays(x, y).checksum() != streaming.arrays(x, y[::-1]).checksum()


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_items_are_asked_for_once(size: int) -> None:
    asked = []

    def generate() -> Any:
        for k in range(10):
            asked.append(k)
            yield [k, "x"], k * k

    source = streaming.items(generate(), block_size=size)
    for _ in range(2):
        assert everything(source) == ([[k, "x"] for k in range(10)], [k * k for k in range(10)])
    assert asked == list(range(10))
    assert everything(streaming.items(iter("abc"), labelled=False)) == (["a", "b", "c"], [])
    assert repr(source) == f"<Source items: 10 sequences in {-(-10 // size)} blocks>"


def test_a_held_out_part_is_drawn_once(reviews: Path) -> None:
    source = streaming.classification(reviews, block_size=300)
    train, valid = (streaming.Part(source, 0.25, 7, held_out) for held_out in (False, True))
    assert len(train) + len(valid) == 200
    assert 20 < len(valid) < 80
    assert sorted([*train.X, *valid.X]) == sorted(streaming.Part(source).X)
    assert list(valid.X) == list(streaming.Part(source, 0.25, 7, True).X)
    assert list(valid.X) != list(streaming.Part(source, 0.25, 8, True).X)
    assert [valid.y[i] for i in range(len(valid))] == list(valid.y)


# ---- training


def estimators(reviews: Path, sentences: Path, table: Path, tmp_path: Path) -> dict[str, Any]:
    """For each: an estimator, a source of some block size, and what it holds."""
    options: dict[str, Any] = {"hidden_size": 5, "max_epochs": 3, "random_state": 3, "dtype": "float64"}
    rng = np.random.default_rng(0)
    x = rng.normal(5, 3, size=(60, 4, 2))
    np.save(tmp_path / "x.npy", x)
    values = datasets.read_series(table).values
    return {
        "classifier": (rnnfast.SequenceClassifier(**options), lambda n: streaming.classification(reviews, block_size=n),
                       datasets.read_classification(reviews)),
        "features": (rnnfast.SequenceClassifier(**options), lambda n: streaming.arrays(
            tmp_path / "x.npy", np.arange(60) % 3, block_size=n), (x, np.arange(60) % 3)),
        "tagger": (rnnfast.SequenceTagger(**options), lambda n: streaming.tagging(sentences, block_size=n),
                   datasets.read_tagging(sentences)),
        "regressor": (rnnfast.SequenceRegressor(**options), lambda n: streaming.series(table, 6, 2, block_size=n),
                      rnnfast.windows(values, 6, 2, target=values[:, -1])),
        "generator": (rnnfast.SequenceGenerator(**options | {"truncate": 9}), lambda n: streaming.lines(
            reviews, block_size=n), (reviews.read_text(encoding="utf-8-sig").splitlines(), None)),
        "transducer": (rnnfast.SequenceTransducer(**options), lambda n: streaming.pairs(reviews, block_size=n),
                       datasets.read_pairs(reviews)),
    }  # fmt: skip


KINDS = ("classifier", "features", "tagger", "regressor", "generator", "transducer")


@pytest.mark.parametrize("kind", KINDS)
def test_estimators_learn_from_disk_what_they_learn_from_memory(
    kind: str, reviews: Path, sentences: Path, table: Path, tmp_path: Path
) -> None:
    """Vocabulary, labels and scale are those of the whole; one batch of all gives the same step in any order."""
    model, source, (X, y) = estimators(reviews, sentences, table, tmp_path)[kind]
    model.set_params(max_epochs=1, batch_size=1000, truncate=None)
    X = X if y is not None else list(X)
    whole = type(model)(**model.get_params())
    whole = whole.fit(X, y) if y is not None else whole.fit(X)
    model.fit(source(1 << 20))
    for name in model._learnt:
        found, expected = getattr(model, name), getattr(whole, name)
        if hasattr(expected, "describe"):
            found, expected = found.describe(), expected.describe()
            for of in (found, expected):
                of["moments"] = [np.round(of.pop(key), 9) for key in ("mean", "deviation") if of.get(key) is not None]
        if name.startswith("target_") and kind == "regressor":
            found, expected = np.round(found, 9), np.round(expected, 9)
        if name != "_columns":
            np.testing.assert_equal(found, expected)
    np.testing.assert_allclose(model.network_.vector, whole.network_.vector, rtol=0, atol=1e-8)
    np.testing.assert_allclose(model.history_["loss"], whole.history_["loss"], rtol=1e-8)
    small = type(model)(**model.get_params()).fit(source(500))  # other blocks, the same learning
    if hasattr(small.encoder_, "vocabulary") and small.encoder_.vocabulary is not None:
        assert small.encoder_.vocabulary.tokens == whole.encoder_.vocabulary.tokens


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_trains_the_same_and_files_keep_it(
    kind: str, reviews: Path, sentences: Path, table: Path, tmp_path: Path
) -> None:
    model, source, (X, _) = estimators(reviews, sentences, table, tmp_path)[kind]
    model.set_params(validation_fraction=0.2, batch_size=8, schedule="cosine")
    first = model.fit(source(700))
    again = type(model)(**model.get_params()).fit(source(700))
    np.testing.assert_array_equal(first.network_.vector, again.network_.vector)
    assert "val_loss" in first.history_.history
    first.save(tmp_path / "model")
    loaded = rnnfast.load(tmp_path / "model")
    if kind != "generator":
        some = list(X[:9])
        np.testing.assert_array_equal(np.array(loaded.predict(some), object), np.array(first.predict(some), object))
        each = list(loaded.predict_each(source(700)))
        assert len(each) == len(source(700))
        np.testing.assert_array_equal(np.array(each[:9], object), np.array(first.predict(some), object))
        here = list(first.predict_each(iter(some)))
        np.testing.assert_array_equal(np.array(here, object), np.array(each[:9], object))


@pytest.mark.parametrize("kind", ["classifier", "generator"])
def test_a_run_goes_on_within_a_pass(kind: str, reviews: Path, sentences: Path, table: Path, tmp_path: Path) -> None:
    """Also where the pieces of a batch are steps of their own, with a schedule, in another block."""

    class Stop(rnnfast.Callback):
        seen = 0

        def on_train_batch_end(self, batch: int, logs: Any) -> None:
            self.seen += 1
            self.model.stop_training = self.seen == 25

    model, source, _ = estimators(reviews, sentences, table, tmp_path)[kind]
    model.set_params(batch_size=16, schedule="linear", dropout=0.2, validation_fraction=0.2)
    whole = type(model)(**model.get_params()).fit(source(1500))
    checkpoint = tmp_path / "run.checkpoint"
    model.set_params(callbacks=[Stop()]).fit(source(1500), checkpoint=checkpoint)
    assert model.history_.stop_reason == "callback"
    model.set_params(callbacks=()).fit(source(1500), checkpoint=checkpoint)
    np.testing.assert_array_equal(model.network_.vector, whole.network_.vector)
    with pytest.raises(rnnfast.ModelFileError, match="of the training data"):
        model.fit(source(700), checkpoint=checkpoint)


def test_passes_differ_in_order_and_take_each_sequence_once(reviews: Path) -> None:
    seen: list[list[str]] = []

    def encode(X: Any, y: Any) -> rnnfast.Sequences:
        seen[-1] += X
        return rnnfast.Sequences([np.array([len(text) % 5]) for text in X], [0] * len(X))

    class Pass(rnnfast.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any) -> None:
            seen.append([])

    source = streaming.classification(reviews, block_size=400)
    network = rnnfast.Network(5, 3, 2, embedding_size=2, seed=0)
    data = streaming.Blocks(source, encode)
    rnnfast.fit(network, data, max_epochs=2, batch_size=9, seed=0, callbacks=[Pass()])
    assert sorted(seen[0]) == sorted(seen[1]) == sorted(streaming.Part(source).X)
    assert seen[0] != seen[1]
    rnnfast.evaluate(network, data)
    rnnfast.fit(network, data, max_epochs=1, shuffle=False, callbacks=[Pass()])
    assert seen[-1] == list(streaming.Part(source).X)


def test_warm_start_and_another_source_for_validation(reviews: Path) -> None:
    source = streaming.classification(reviews, block_size=900)
    model = rnnfast.SequenceClassifier(hidden_size=4, max_epochs=2, random_state=0, validation_fraction=0)
    model.fit(source, validation=source)
    assert model.history_["val_accuracy"]
    before = model.history_["loss"][-1]
    model.set_params(warm_start=True).fit(source, validation=texts(40, 1))
    assert model.history_["loss"][0] < before


# ---- memory


CORPUS = """
import resource, sys
import numpy as np
import rnnfast
from rnnfast import streaming
n = int(sys.argv[1])
x = np.lib.format.open_memmap("x.npy", "w+", np.float32, (n, 50, 20))
rng = np.random.default_rng(0)
for start in range(0, n, 1000):
    x[start : start + 1000] = rng.normal(size=(min(1000, n - start), 50, 20))
del x
y = rng.integers(0, 2, n)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
source = streaming.arrays("x.npy", y, block_size=2 << 20)
model = rnnfast.SequenceClassifier(hidden_size=4, max_epochs=1, random_state=0, batch_size=64, n_jobs=1)
model.fit(source)
for label in model.predict_each(source): pass
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units, and pages are not given back")
def test_memory_stays_flat(tmp_path: Path) -> None:
    """A file of 240 MB in a process that may not grow by 60: pages that were mapped are given back."""
    program = CORPUS.replace("before =", "open('/proc/self/clear_refs', 'w').write('5'); before =")
    command = [sys.executable, "-c", program, "60000"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=280, check=True)
    before, after = map(int, done.stdout.split())
    assert after - before < 60_000, done.stdout  # kB


# ---- what is wrong


def test_errors_of_files(reviews: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        streaming.lines(tmp_path / "nothing")
    (tmp_path / "empty").write_text("\n\n")
    with pytest.raises(ValueError, match="empty: expected at least one sequence, got none"):
        streaming.lines(tmp_path / "empty")
    reviews.write_bytes(reviews.read_bytes() + b"pos\tgood \xff film\n")
    with pytest.raises(ValueError, match=r"reviews.tsv:201: expected UTF-8, got byte 0xff at column 10"):
        streaming.classification(reviews, block_size=300)
    reviews.write_text("pos\ta film\nno tab\n")
    with pytest.raises(ValueError, match=r"reviews.tsv:2: expected label<TAB>text, got 'no tab'"):
        streaming.classification(reviews, block_size=4)
    with pytest.raises(ValueError, match="block_size: expected a positive integer, got 0"):
        streaming.lines(reviews, block_size=0)
    with pytest.raises(TypeError, match=r"block_size: expected a positive integer, got 1\.5"):
        streaming.items([], block_size=1.5)  # type: ignore[arg-type]


def test_errors_of_arrays_series_and_items(table: Path, tmp_path: Path) -> None:
    x = np.ones((4, 3, 2))
    for arguments, message in (
        ((np.ones(3),), r"x: expected \(N, T\) or \(N, T, D\) numbers, got \(3,\) of float64"),
        ((x, np.ones(3)), r"y: expected \(N, ...\) = \(4, ...\), got \(3,\)"),
        ((x, [1, [2, 3], 4, 5]), "y: expected one array, got parts of unequal shape"),
        ((x, None, [1, 2, 3]), r"lengths: expected \(4,\) integers of 1 to T = 3, got \(3,\) of int64"),
        ((x, None, [1, 2, 3, 4]), r"lengths\[3\] = 4: expected \(4,\) integers of 1 to T = 3"),
    ):
        with pytest.raises(ValueError, match=message):
            streaming.arrays(*arguments)
    (tmp_path / "bad.npy").write_text("no array")
    with pytest.raises(ValueError, match=r"x: .*bad.npy: expected a .npy file of numbers"):
        streaming.arrays(tmp_path / "bad.npy")
    with pytest.raises(ValueError, match="target: expected one of the columns a, b, c, got 'd'"):
        streaming.series(table, 4, target="d")
    with pytest.raises(ValueError, match=r"expected at least length \+ horizon = 302 rows, got 300"):
        streaming.series(table, 301)
    table.write_text("a,b\n1,2\n3,x\n")
    with pytest.raises(ValueError, match=r"table.csv:3: column 'b': expected a finite number, got 'x'"):
        streaming.series(table, 1)
    with pytest.raises(TypeError, match=r"item 1: expected a pair \(x, y\), got 5"):
        streaming.items([([1], 2), 5])
    with pytest.raises(TypeError, match="iterable: expected an iterable, got None"):
        streaming.items(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="items 2 to 3: expected what can be pickled"):
        streaming.items([([1], 1), ([1], 2), ([2], 3), ([1], lambda: 0)], block_size=2)
    with pytest.raises(ValueError, match="items: expected at least one sequence"):
        streaming.items([])


@pytest.mark.parametrize("change", ["longer", "shorter", "other", "gone"])
def test_a_file_that_changes_is_named(change: str, reviews: Path) -> None:
    source = streaming.classification(reviews, block_size=900)
    data, times = reviews.read_bytes(), os.stat(reviews)

    class Change(rnnfast.Callback):
        def on_epoch_end(self, epoch: int, logs: Any) -> None:
            if change == "gone":
                reviews.unlink()
                return
            changed = {"longer": data + b"pos\tgood\n", "shorter": data[:-40], "other": data.replace(b"dull", b"cold")}
            reviews.write_bytes(changed[change])
            if change == "other":
                os.utime(reviews, ns=(times.st_atime_ns, times.st_mtime_ns))

    model = rnnfast.SequenceClassifier(hidden_size=4, max_epochs=3, validation_fraction=0, callbacks=[Change()])
    with pytest.raises(OSError, match=r"reviews.tsv.*") as found:
        model.fit(source)
    assert change == "gone" or "it changed after it was read for the first time" in str(found.value)
    assert not hasattr(model, "network_")


def test_an_array_that_changes_is_named() -> None:
    x = np.random.default_rng(0).normal(size=(20, 3, 2))
    source = streaming.arrays(x, np.arange(20) % 2, block_size=200)
    x[13] += 1
    with pytest.raises(OSError, match="x: it changed after it was read for the first time, in rows"):
        rnnfast.SequenceClassifier(max_epochs=1).fit(source)


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    full = os.open("/dev/full", os.O_RDWR)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **options: os.fdopen(full, "wb", buffering=0))
    with pytest.raises(OSError, match=r"No space left on device, for a temporary file of 0 bytes: '/somewhere'"):
        streaming.items([([1], 2)], folder="/somewhere")


def test_arrays_of_any_layout() -> None:
    x, y = np.random.default_rng(0).normal(size=(40, 5, 2)), np.arange(40) % 2
    model = rnnfast.SequenceClassifier(hidden_size=3, max_epochs=1, batch_size=100, random_state=0)
    for given in (x, np.asfortranarray(x), x[:, ::-1][:, ::-1], x.astype("f2"), x.astype(">f4"), x > 0):
        whole = type(model)(**model.get_params()).fit(np.ascontiguousarray(given), y)
        model.fit(streaming.arrays(given, y))
        np.testing.assert_allclose(model.history_["loss"], whole.history_["loss"], rtol=1e-6)
    ids = np.random.default_rng(0).integers(0, 9, (40, 5))
    assert model.fit(streaming.arrays(ids, np.array(["a", "b"] * 20))).encoder_.kind == "ids"


def test_the_form_of_a_tagged_file_is_that_of_its_first_token(tmp_path: Path) -> None:
    """Behind a byte order mark, comments longer than a block, a first line that a block cuts."""
    rows = "".join(f"{k}\t{word}\t{word}\t{tag}\tX\t_\t0\troot\t_\t_\n" for k, word, tag in
                   ((1, "dög", "NOUN"), (2, "runs", "VERB")))  # fmt: skip
    path = tmp_path / "tagged.conllu"
    for text in ("\ufeff# sent_id = 1\n" + rows, "\ufeff" + "\n# a long comment\n" * 2 + rows, rows,
                 "\ufeff#c\nEU\tB\n", "éé X\nb Y\n", "a X\n \t\nb Y\n" * 20, "a X\r\n\r\nb Y\r\n" * 5):  # fmt: skip
        path.write_bytes(text.encode())
        for size in (1, 3, 20, 1 << 20):
            assert everything(streaming.tagging(path, block_size=size)) == datasets.read_tagging(path)
    path.write_text("a X\nb Y\n \n" * 200)
    assert len(streaming.tagging(path, block_size=100).sizes) > 10


FORKED = """
import os, sys
import numpy as np
from rnnfast import streaming
with open("big.csv", "w") as file:
    file.write("a\\n" + "".join(f"{k}\\n" for k in range(20000)))
for source in (streaming.series("big.csv", 3, block_size=2000), streaming.items(([k], k) for k in range(20000))):
    def check():
        at = 0
        for X, y in streaming.Part(source).blocks():
            for x, target in zip(X, y):
                assert x[0] == at and target == at + (3 if len(x) == 3 else 0), (x, target, at)
                at += 1
    child = os.fork()
    try:
        check()
    except BaseException as error:
        print(error)
        os._exit(1)
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_processes_and_threads_read_one_source(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    source = streaming.items((([k], k) for k in range(20000)), block_size=50)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(everything(source)[1])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(20000))] * 3


def test_a_memory_map_that_is_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).normal(size=(500, 20, 3)))
    for given in (path, np.load(path, mmap_mode="r"), np.load(path, mmap_mode="r")[100:]):
        source = streaming.arrays(given, np.arange(len(np.load(path)) if given is path else len(given)) % 2)
        size = path.stat().st_size
        with path.open("r+b") as file:
            whole = file.read()
            file.truncate(size // 10)
        with pytest.raises(OSError, match=rf"it changed: expected a file of {size} bytes, got {size // 10}"):
            rnnfast.SequenceClassifier(hidden_size=4, max_epochs=1).fit(source)
        path.write_bytes(whole)


def test_what_was_written_to_a_copy_on_write_map_stays(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((4000, 10)))
    x = np.load(tmp_path / "x.npy", mmap_mode="c")
    x[3000:] = 7
    source = streaming.arrays(x, np.arange(4000) % 2, block_size=80_000)
    assert x[3999, 0] == source.read(3)[0][-1][0] == 7


def test_labels_that_are_objects(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(20, 3, 2))
    checksums = {
        streaming.arrays(x, np.array([f"class {k % 2}" for k in range(20)], object)).checksum() for _ in range(3)
    }
    assert len(checksums) == 1
    for y in (np.array([None, 1] * 10), np.array([1, "x"] * 10, object), np.arange(20).astype("M8[D]")):
        with pytest.raises(TypeError, match="y: expected numbers, booleans or strings, got"):
            streaming.arrays(x, y)


def test_conditions_of_a_source() -> None:
    lines = ["a b c d", "c b", "abc"] * 20
    options: dict[str, Any] = {
        "hidden_size": 5,
        "max_epochs": 1,
        "batch_size": 100,
        "random_state": 0,
        "dtype": "float64",
    }
    for y in ([[k * 1.0] for k in range(60)], [(k, 1) for k in range(60)], [np.ones(2) * k for k in range(60)],
              ["x", "y", "z"] * 20, [0, 1, 2] * 20):  # fmt: skip
        whole = rnnfast.SequenceGenerator(**options).fit(lines, y)
        model = rnnfast.SequenceGenerator(**options).fit(streaming.items(zip(lines, y, strict=True), block_size=100))
        np.testing.assert_allclose(model.history_["loss"], whole.history_["loss"], rtol=1e-9)


def test_a_relative_path_is_of_the_folder_it_was_given_in(reviews: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(reviews.parent)
    source = streaming.classification(reviews.name)
    monkeypatch.chdir("/")
    assert len(everything(source)[0]) == 200


def test_sources_are_read_where_they_were_made(reviews: Path) -> None:
    source = streaming.classification(reviews)
    model = rnnfast.SequenceClassifier(hidden_size=3, max_epochs=1, random_state=0).fit(source)
    assert copy.deepcopy(source) is copy.copy(source) is source
    pickle.dumps(model)
    with pytest.raises(TypeError, match=r"reviews.tsv: a source cannot be pickled"):
        pickle.dumps(source)
    for call in (lambda: model.predict(source), lambda: model.score(source, [0])):
        with pytest.raises(TypeError, match="X: expected sequences in memory, got <Source"):
            call()


def test_what_a_source_cannot_be(reviews: Path) -> None:
    source, lines = streaming.classification(reviews), streaming.lines(reviews)
    model = rnnfast.SequenceClassifier(max_epochs=1)
    with pytest.raises(ValueError, match="y, lengths: expected None with a source"):
        model.fit(source, [0, 1])
    for estimator in (model, rnnfast.SequenceTagger(), rnnfast.SequenceRegressor(), rnnfast.SequenceTransducer()):
        with pytest.raises(ValueError, match="X: expected a source with"):
            estimator.fit(lines)
    data = streaming.Blocks(source, lambda X, y: rnnfast.Sequences([[1]] * len(X), [0] * len(X)))
    network = rnnfast.Network(5, 3, 2, embedding_size=2)
    with pytest.raises(ValueError, match="carry_state: expected data in memory"):
        rnnfast.fit(network, data, carry_state=True, shuffle=False, bucket=False)
    bad = streaming.Blocks(source, lambda X, y: rnnfast.Sequences([[1.5j]] * len(X), [0] * len(X)))
    with pytest.raises(TypeError, match=r"reviews.tsv: x\[0\]: expected"):
        rnnfast.fit(network, bad)
    with pytest.raises(ValueError, match=r"validation_fraction = 0\.001: 200 sequences are too few"):
        rnnfast.SequenceClassifier(validation_fraction=0.001).fit(source)
    reviews.write_text("pos\t...\nneg\ta film\n")
    with pytest.raises(ValueError, match=r"reviews.tsv: X\[0\]: expected at least one word, got none in '...'"):
        rnnfast.SequenceClassifier(validation_fraction=0).fit(streaming.classification(reviews))


def test_errors_name_sequences_by_their_places_in_the_source() -> None:
    """Whichever block they are in, of what is held out too; while it is learnt, encoded and predicted."""
    n, options = 100, {"hidden_size": 3, "max_epochs": 1, "random_state": 0}
    for k in (0, 7, 50, 99):
        for fraction in (0.0, 0.3):
            classifier = rnnfast.SequenceClassifier(validation_fraction=fraction, **options)
            regressor = rnnfast.SequenceRegressor(validation_fraction=fraction, **options)
            generator = rnnfast.SequenceGenerator(validation_fraction=fraction, **options)
            transducer = rnnfast.SequenceTransducer(validation_fraction=fraction, **options)
            tagger = rnnfast.SequenceTagger(validation_fraction=fraction, **options)
            for model, good, bad, message in (
                (classifier, (["a"], "x"), ([], "y"), f"items: X[{k}]: expected at least one step, got an empty"),
                (classifier, (["a"], 1), (["b"], 1.5), f"items: y[{k}] = 1.5: expected a class"),
                (regressor, ([1.0], 2.0), ([1.0], np.nan), f"items: y[{k}] contains NaN: expected finite numbers"),
                (regressor, ([1.0], 2.0), ([np.nan], 2.0), f"items: X[{k}][0, 0] is NaN: expected a finite number"),
                (generator, ("ab", "x"), ("", "y"), f"items: X[{k}]: expected at least one token, got ''"),
                (transducer, ("ab", "x"), ("ab", 3), f"items: y[{k}]: expected a string, a list of tokens or of ids"),
                (
                    tagger,
                    (["a"], ["x"]),
                    (["b"], ["x", "y"]),
                    f"items: y[{k}]: expected a label for each of the 1 step",
                ),
            ):
                data = [bad if i == k else good for i in range(n)]
                with pytest.raises((TypeError, ValueError)) as found:
                    model.fit(streaming.items(data, block_size=9))
                assert str(found.value).startswith(message)
    model = rnnfast.SequenceClassifier(**options).fit([["a"], ["b"]], [0, 1])
    found = model.predict_each(streaming.items([["a"]] * 30 + [[]], labelled=False, block_size=7))
    with pytest.raises(ValueError, match=r"items: X\[30\]: expected at least one step"):
        list(found)


def test_labels_of_a_source_are_those_of_a_list() -> None:
    x, options = np.random.default_rng(0).normal(size=(40, 3, 2)), {"hidden_size": 3, "max_epochs": 1}
    for y in (np.arange(40, dtype=np.int8) % 3, np.array(["a", "b"] * 20, "U10"), np.arange(40) % 2 == 0):
        expected = rnnfast.SequenceClassifier(**options).fit(x, y).classes_
        found = rnnfast.SequenceClassifier(**options).fit(streaming.arrays(x, y, block_size=300)).classes_
        assert (found.dtype, found.tolist()) == (expected.dtype, expected.tolist())
    for model, mixed in (
        (rnnfast.SequenceClassifier(**options), [(["a"], 1), (["b"], "1")]),
        (rnnfast.SequenceGenerator(**options), [(["a"], 1), (["b"], "1")]),
        (rnnfast.SequenceTagger(**options), [(["a"], [1]), (["b"], ["1"])]),
    ):
        with pytest.raises(TypeError, match="y: expected labels of one kind, got strings and numbers"):
            model.fit(streaming.items(mixed * 9, block_size=1))


def test_validation_in_memory_beside_a_source() -> None:
    """Padded, with targets for each step; and what is wrong with it."""
    rng, options = np.random.default_rng(0), {"hidden_size": 3, "max_epochs": 1, "random_state": 0, "dtype": "float64"}
    x, lengths = rng.normal(size=(6, 4, 2)), np.array([4, 2, 3, 1, 4, 4])
    y = x.sum(axis=2)
    rows = [(row[:n], target[:n]) for row, target, n in zip(x, y, lengths, strict=True)]
    for model, of in (
        (rnnfast.SequenceRegressor(per_step=True, **options), y),
        (rnnfast.SequenceTagger(**options), (y > 0).astype(int)),
    ):
        source = streaming.items((row, of[i][: len(row)]) for i, (row, _) in enumerate(rows))
        padded = model.fit(source, validation=(x, of, lengths)).history_["val_loss"]
        ragged = model.fit(source, validation=source).history_["val_loss"]
        np.testing.assert_allclose(padded, ragged, rtol=1e-12)
        with pytest.raises(ValueError, match=r"^validation: lengths"):
            model.fit(source, validation=(x, of, lengths + 9))
    model = rnnfast.SequenceClassifier(**options)
    with pytest.raises(ValueError, match=r"^validation: y\[1\] = 7: expected one of the classes seen in fit, 0, 1"):
        model.fit(streaming.items((row, i % 2) for i, (row, _) in enumerate(rows)), validation=(x, [0, 7] * 3))


def test_warm_starts_from_a_source_look_at_it() -> None:
    options: dict[str, Any] = {"hidden_size": 3, "max_epochs": 1, "random_state": 2}
    model = rnnfast.SequenceClassifier(**options).fit(["a", "b"], [0, 1])
    model.set_params(warm_start=True, validation_fraction=0.5)
    with pytest.raises(ValueError, match="1 sequences are too few to hold a part out"):
        model.fit(streaming.items([("a", 0)]))
    transducer = rnnfast.SequenceTransducer(**options).fit(["ab", "ba"], ["AB", "BA"]).set_params(warm_start=True)
    transducer.fit(streaming.items([("abab", "ABABABAB"), ("a", "A")]))
    assert transducer.longest_ == (4, 8)
    generator = rnnfast.SequenceGenerator(**options).fit("abab" * 50).set_params(warm_start=True)
    with pytest.raises(ValueError, match="X: expected one long text, as in the first fit, got a source"):
        generator.fit(streaming.items(["ab"] * 9, labelled=False))
    generator = rnnfast.SequenceGenerator(**options)
    source = streaming.items(["ab", "ba"] * 9, labelled=False)
    lists, pairs = (generator.fit(source, validation=v).history_["val_loss"] for v in (["ab"], (["ab"], None)))
    assert lists == pairs


def test_parts_and_blocks_say_what_they_take() -> None:
    source = streaming.items([([1], 0)] * 9)
    with pytest.raises(TypeError, match=r"source: expected one of rnnfast\.streaming, got list"):
        streaming.Blocks([1], lambda X, y: None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"encode: expected a function of \(X, y\), got None"):
        streaming.Blocks(source, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"fraction: expected 0 <= fraction < 1, got 1\.5"):
        streaming.Part(source, 1.5)
    with pytest.raises(TypeError, match="x: expected one item for each sequence, got <"):
        rnnfast.diagnostics.gradient_norms(rnnfast.Network(2, 3, 2), streaming.Blocks(source, rnnfast.Sequences))


def test_predict_each_and_validation_say_what_they_take(reviews: Path) -> None:
    source = streaming.classification(reviews)
    model = rnnfast.SequenceClassifier(hidden_size=3, max_epochs=1)
    with pytest.raises(RuntimeError, match="SequenceClassifier: expected a fitted model"):
        model.predict_each([])
    with pytest.raises(TypeError, match=r"validation: expected \(X, y\) in memory, as X is, got <Source"):
        model.fit(*texts(20), validation=source)
    model.fit(source)
    for wrong in ("a film", b"a film", None, 3, {"a": 1}):
        with pytest.raises(
            TypeError, match=f"X: expected a source, or an iterable of sequences, got {type(wrong).__name__}"
        ):
            model.predict_each(wrong)  # type: ignore[arg-type]
    assert list(model.predict_each([])) == []
