"""files.py and the loading of models: whole files or none, and a clear error for whatever is not a model."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import ModelFileError, SequenceClassifier, streaming
from rnnfast.files import read_model, write_atomically, write_model
from safetensors.numpy import save_file

TEXTS, LABELS = ["good film", "bad film", "fine", "awful"] * 2, ["positive", "negative"] * 4


@pytest.fixture(scope="module")
def model() -> SequenceClassifier:
    return SequenceClassifier(hidden_size=3, embedding_size=2, max_epochs=1, random_state=0).fit(TEXTS, LABELS)


@pytest.fixture(scope="module")
def whole(model: SequenceClassifier, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "model.safetensors"
    model.save(path)
    return path.read_bytes()


def test_written_and_read(tmp_path: Path, assert_same_bits: Any) -> None:
    path = tmp_path / "a file.safetensors"
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    arrays = {"a": a, "transposed": a.T, "empty": np.zeros((0, 3)), "ids": np.array([1, -2])}
    settings = {"number": np.int64(3), "text": "ü 天", "list": [1.5, None, True, float("inf")], "nested": {"b": [1]}}
    write_model(path, "Thing", arrays, settings)
    read, found = read_model(path, "Thing")
    assert found == settings
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert_same_bits(read[name], array, name)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(TypeError, match="expected a value that JSON can hold, got a object"):
        write_model(path, "Thing", arrays, {"x": object()})
    assert read_model(path, "Thing")[1] == settings


def test_a_link_stays_one(tmp_path: Path, model: SequenceClassifier) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    model.save(link)
    assert link.is_symlink()
    assert rnnfast.load(target).predict(["fine"]) == model.predict(["fine"])


def test_halves_of_characters(tmp_path: Path) -> None:
    model = SequenceClassifier(hidden_size=3, level="character", max_epochs=1, random_state=0)
    model.fit(["a\ud800", "b"], ["\udfff", "é"]).save(tmp_path / "model")
    found = SequenceClassifier.load(tmp_path / "model")
    assert found.classes_.tolist() == ["é", "\udfff"]
    assert found.encoder_.vocabulary.tokens == model.encoder_.vocabulary.tokens


def test_settings_too_large_for_the_format(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model: expected settings of less than 100 MB in all, got 101,000,\d+ char"):
        write_model(tmp_path / "model", "kind", {}, {"text": "x" * 101_000_000})
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("wrong", [None, True, 1, 2.5])
def test_no_path(wrong: Any, model: SequenceClassifier) -> None:
    """An integer is a file of the process: writing there, or closing it, breaks what is not ours."""
    readers = (rnnfast.datasets.read_pairs, streaming.lines, streaming.tagging)
    for call in (rnnfast.load, SequenceClassifier.load, model.save, *readers, lambda p: streaming.series(p, 3)):
        with pytest.raises(TypeError, match=re.escape(f"path: expected a path, got {wrong!r}")):
            call(wrong)
    os.fstat(1)


def test_mode_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    before = os.umask(0o027)
    try:
        write_atomically(path, b"1")
        assert os.umask(0o027) == 0o027  # left as it was
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        write_atomically(path, b"2")
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
    finally:
        os.umask(before)
    assert path.read_bytes() == b"2"


FAILURES = [
    ("fsync", OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    ("chmod", PermissionError(errno.EPERM, "Operation not permitted"), "Operation not permitted"),
    ("replace", OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
]


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize(("call", "error", "reason"), FAILURES)
def test_a_failing_write_changes_nothing(
    call: str, error: OSError, reason: str, there: bool, model: SequenceClassifier, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = tmp_path / "model"
    if there:
        path.write_bytes(b"old")

    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(os if call == "fsync" else Path, call, fail)
    with pytest.raises(OSError, match=re.escape(f"could not write {path} ({reason}); what stood there is unchanged")):
        model.save(path)
    monkeypatch.undo()
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"] * there


def test_an_interrupted_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def press(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", press)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_the_file_is_synced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        assert os.fstat(descriptor).st_size == 3  # all of it is with the system
        events.append("fsync")
        fsync(descriptor)

    def note_replace(self: Path, target: Path) -> Path:
        assert self.parent == target.parent  # a rename within one file system
        events.append("replace")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    write_atomically(tmp_path / "file", b"new")
    assert events == ["fsync", "replace"]


def test_no_place_to_write(model: SequenceClassifier, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"could not write .*No such file or directory"):
        model.save(tmp_path / "missing" / "model")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match=r"could not write .*Is a directory"):
        model.save(tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_no_file_to_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a model file, found none"):
        SequenceClassifier.load(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="expected a model file, found a folder"):
        SequenceClassifier.load(tmp_path)


def load(path: Path, data: bytes) -> SequenceClassifier | None:
    """None for a ModelFileError of one sentence that names the file; any other exception is a failure."""
    path.write_bytes(data)
    try:
        return SequenceClassifier.load(path)
    except ModelFileError as error:
        message = str(error)
    assert re.fullmatch(re.escape(f"{path}: expected ") + ".+", message), message
    return None


def same(a: SequenceClassifier, b: SequenceClassifier) -> bool:
    parts = [
        (m.network_.vector.tobytes(), m.get_params(), m.classes_.tolist(), m.encoder_.kind, m.encoder_.vocabulary)
        for m in (a, b)
    ]
    return parts[0] == parts[1]


def test_whole(model: SequenceClassifier, whole: bytes, tmp_path: Path) -> None:
    loaded = load(tmp_path / "model", whole)
    assert loaded is not None
    assert same(loaded, model)


def test_truncated(whole: bytes, tmp_path: Path) -> None:
    places = {*range(12), *range(len(whole) - 12, len(whole)), *range(0, len(whole), len(whole) // 50)}
    for place in sorted(places):
        assert load(tmp_path / "model", whole[:place]) is None, place
    assert load(tmp_path / "model", whole + b"\0") is None


def test_flipped_bits(model: SequenceClassifier, whole: bytes, tmp_path: Path) -> None:
    """In the sizes, the header, the settings and the numbers: an error, or the very same model."""
    rng = np.random.default_rng(0)
    places = {*range(8 * 24), *rng.integers(0, 8 * len(whole), 600).tolist()}
    loaded = 0
    for place in places:
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        result = load(tmp_path / "model", bytes(data))
        assert result is None or same(result, model), f"bit {place}"
        loaded += result is not None
    assert loaded < 0.05 * len(places)


@pytest.mark.slow
def test_every_byte_and_every_bit(model: SequenceClassifier, whole: bytes, tmp_path: Path) -> None:
    """Cut at every byte, and with every single bit flipped."""
    assert all(load(tmp_path / "model", whole[:place]) is None for place in range(len(whole)))
    loaded, path = 0, tmp_path / "model"
    data = bytearray(whole)
    for place in range(8 * len(whole)):
        data[place // 8] ^= 1 << place % 8
        result = load(path, bytes(data))
        assert result is None or same(result, model), f"bit {place}"
        loaded += result is not None
        data[place // 8] ^= 1 << place % 8
    print(f"{len(whole)} cuts, {8 * len(whole)} flipped bits: {loaded} equal models, else an error that names the file")


def test_random_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for size in (0, 1, 7, 8, 9, 100, 5000):
        for head in (b"", struct.pack("<Q", 2**63), struct.pack("<Q", 99_000_000), struct.pack("<Q", max(size - 8, 0))):
            assert load(tmp_path / "model", head + rng.bytes(size)) is None


METADATA = [
    None, {}, {"format": "pt"}, {"rnnfast": ""}, {"rnnfast": "{}"}, {"rnnfast": "5"}, {"rnnfast": "null"},
    {"rnnfast": "[" * 100_000}, {"rnnfast": "9" * 5000}, {"rnnfast": '{"kind": "SequenceClassifier"}'},
    {"rnnfast": '{"kind": "SequenceClassifier", "format": 1, "settings": {}}'},
    {"rnnfast": '{"kind": "SequenceClassifier", "format": 1, "sha256": 5, "settings": 7}'},
]  # fmt: skip


@pytest.mark.parametrize("metadata", METADATA)
def test_safetensors_of_something_else(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    path = tmp_path / "other"
    save_file({"weight": np.zeros((2, 3))}, path, metadata=metadata)
    assert load(path, path.read_bytes()) is None


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "F4", "C64", "BOOL"])
def test_numbers_of_another_kind(dtype: str, tmp_path: Path) -> None:
    sizes = {"BF16": 8, "F4": 2, "C64": 32}
    text = json.dumps({"kind": "SequenceClassifier", "format": 1, "sha256": "", "settings": {}})
    size = sizes.get(dtype, 4)
    header = {"a": {"dtype": dtype, "shape": [4], "data_offsets": [0, size]}, "__metadata__": {"rnnfast": text}}
    data = json.dumps(header).encode()
    assert load(tmp_path / "model", struct.pack("<Q", len(data)) + data + bytes(size)) is None


def test_other_kind_and_format(model: SequenceClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model"
    write_model(path, "SequenceTagger", {}, {})
    with pytest.raises(ModelFileError, match="expected a SequenceClassifier, got a 'SequenceTagger'"):
        SequenceClassifier.load(path)
    monkeypatch.setattr(rnnfast.files, "FORMAT_VERSION", 2)
    model.save(path)
    monkeypatch.undo()
    with pytest.raises(ModelFileError, match="expected format 1, which this version of rnnfast reads, got 2"):
        SequenceClassifier.load(path)


@pytest.fixture(scope="module")
def parts(whole: bytes, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    path = tmp_path_factory.mktemp("parts") / "model"
    path.write_bytes(whole)
    return read_model(path, "SequenceClassifier")


def test_arrays_that_do_not_fit(parts: Any, tmp_path: Path) -> None:
    path = tmp_path / "model"
    arrays, settings = parts
    write_model(path, "SequenceClassifier", arrays, settings)
    assert SequenceClassifier.load(path).predict(TEXTS).shape == (8,)
    for name, array in arrays.items():
        for wrong in (None, array[..., :-1], array.reshape(-1), array.astype(np.float64), array.astype(np.int32)):
            changed = {**arrays, name: wrong}
            if wrong is None:
                del changed[name]
            if wrong is not None and (wrong.shape, wrong.dtype) == (array.shape, array.dtype):
                continue
            write_model(path, "SequenceClassifier", changed, settings)
            with pytest.raises(ModelFileError, match=f"expected a whole SequenceClassifier.*({name}|more arrays)"):
                SequenceClassifier.load(path)
    write_model(path, "SequenceClassifier", {**arrays, "another": np.zeros(3)}, settings)
    with pytest.raises(ModelFileError, match="arrays that do not fit its settings: another"):
        SequenceClassifier.load(path)


WRONG: list[tuple[tuple[str, ...], list[Any]]] = [
    (("params",), [None, 5, [], "x", {"size": 3}]),
    (("params", "cell"), ["elman", 5, None, ["lstm"], "gru"]),
    (("params", "hidden_size"), ["3", 3.0, 4, 0, -3, None, True, 10**6, 10**9, 10**15, 10**40, [3]]),
    (("params", "num_layers"), ["1", 2, 0, -1, None, 10**9, 10**40]),
    (("params", "embedding_size"), ["2", 3, 0, -2, None, 10**9, 10**40]),
    (("params", "bidirectional"), [False, 0, None]),
    (("params", "dropout"), ["0", 1.0, -1, None, [], float("nan")]),
    (("params", "dtype"), ["float64", "float16", "x", 5, {}, [1]]),
    (("params", "random_state"), ["x", -1, [-1], {}]),
    (("params", "n_jobs"), ["two", 0, -2, 1.5, []]),
    (("classes",), [None, 5, "ab", [], ["a"], ["a", "a"], [["a"], ["b"]], ["a", "b", "c"], [["a"], "b"], {}]),
    (("classes_dtype",), ["x", "<i8", "M8[s]", "|V8", "f4,f4", None, 5, {}, "S4", "(2,)i4", "<f8", "("]),
    (("encoder",), [None, 5, [], "x", {}]),
    (("encoder", "kind"), ["features", "ids", "pickle", None, 5, []]),
    (("encoder", "size"), ["9", 9.0, 8, 0, -9, None, True, 10**12, 10**40]),
    (("encoder", "tokens"), [None, 5, [], ["a"], ["a"] * 5, [1, 2, 3, 4, 5], ["<pad>", "b", "c", "d", "e"], {}]),
]


@pytest.mark.parametrize(("place", "values"), WRONG)
def test_settings_that_are_wrong(place: tuple[str, ...], values: list[Any], parts: Any, tmp_path: Path) -> None:
    """Whatever the settings say, loading ends with a ModelFileError, and takes no memory that the file cannot fill."""
    path = tmp_path / "model"
    arrays, settings = parts
    for value in [*values, *([] if len(place) == 2 and place[0] == "params" else ["missing"])]:
        changed = json.loads(json.dumps(settings))
        inner = changed if len(place) == 1 else changed[place[0]]
        assert place[-1] in inner
        if value == "missing":
            del inner[place[-1]]
        else:
            inner[place[-1]] = value
        write_model(path, "SequenceClassifier", arrays, changed)
        tracemalloc.start()
        try:
            with pytest.raises(ModelFileError, match="expected a whole SequenceClassifier, got one with"):
                SequenceClassifier.load(path)
            assert tracemalloc.get_traced_memory()[1] < 2_000_000, value
        finally:
            tracemalloc.stop()


def test_no_name_is_resolved_from_a_file(parts: Any, tmp_path: Path) -> None:
    arrays, settings = parts
    for name in ("__class__", "fit", "_network"):
        changed = json.loads(json.dumps(settings))
        changed["params"][name] = "os.system"
        write_model(tmp_path / "model", "SequenceClassifier", arrays, changed)
        with pytest.raises(ModelFileError, match="unexpected keyword argument"):
            SequenceClassifier.load(tmp_path / "model")
