"""sequences.py: batches of ragged and padded data, and every argument that does not fit."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from rnnfast import Network, Sequences, fit, pad

LENGTHS = [3, 1, 4, 2]
IDS = [np.arange(n) + 10 * n for n in LENGTHS]
FEATURES = [np.arange(2.0 * n).reshape(n, 2).astype(np.float32) for n in LENGTHS]
ROWS = np.array([3, 0, 1])


@pytest.mark.parametrize("x", [IDS, FEATURES], ids=["ids", "features"])
@pytest.mark.parametrize("held", ["list", "padded", "objects", "tuple"])
def test_batches(x: list[np.ndarray], held: str, assert_same_bits: Any) -> None:
    """Rows in the order asked for, padded to the longest of them, whatever the data are held in."""
    y = np.array([5, 6, 7, 8])
    if held == "padded":
        array, lengths = pad(x, value=-9)
        data = Sequences(array, y, lengths)
    elif held == "objects":
        array = np.empty(4, object)
        array[:] = x
        data = Sequences(array, y)
    else:
        data = Sequences(tuple(x) if held == "tuple" else x, y.tolist())
    got, targets, n = data.batch(ROWS)
    assert len(data) == 4
    assert (n.tolist(), n.dtype) == ([2, 3, 1], np.int64)
    assert targets.tolist() == [8, 5, 6]
    assert got.shape == (3, 3, *x[0].shape[1:])
    assert got.dtype == x[0].dtype
    for row, i in zip(got, ROWS, strict=True):
        assert_same_bits(np.ascontiguousarray(row[: LENGTHS[i]]), x[i])
        if held != "padded":
            assert not row[LENGTHS[i] :].any()


def test_targets_for_each_step() -> None:
    y = [ids % 2 for ids in IDS]
    padded, lengths = pad(y, value=7)
    objects = np.empty(4, object)
    objects[:] = y
    for given in (y, [t.tolist() for t in y], padded, objects):
        _, targets, n = Sequences(IDS, given, per_step=True).batch(ROWS)
        assert targets.shape == (3, 3)
        for row, i, steps in zip(targets, ROWS, n, strict=True):
            assert row[:steps].tolist() == y[i].tolist()
    vectors = [np.stack([t, t], axis=1) for t in y]
    assert Sequences(IDS, vectors, per_step=True).batch(ROWS)[1].shape == (3, 3, 2)
    assert Sequences(pad(IDS)[0], padded, lengths, per_step=True).batch(ROWS)[1].shape == (3, 3)


def test_empty_sequences_and_no_targets() -> None:
    data = Sequences([[], np.ones((2, 3)), []])
    x, y, lengths = data.batch(np.array([0, 1]))
    assert (x.shape, y.shape, lengths.tolist()) == ((2, 2, 3), (0,), [0, 2])
    assert data.batch(np.array([0, 2]))[0].shape == (2, 0, 3)
    assert Sequences([[], []], [1, 0]).batch(np.array([1]))[0].dtype == np.int64
    assert Sequences([[1], [2.5]]).batch(np.array([0]))[0].dtype == np.float64  # one dtype for all


def test_condition() -> None:
    data = Sequences(IDS, [0, 1, 0, 1], condition=[[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 2.0]])
    (x, condition), y, lengths = data.batch(ROWS)
    assert x.shape == (3, 3)
    assert condition.tolist() == [[0.0, 2.0], [1.0, 0.0], [0.0, 1.0]]
    assert (y.tolist(), lengths.tolist()) == ([1, 0, 1], [2, 3, 1])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint64])
@pytest.mark.parametrize("per_step", [False, True])
def test_lengths_of_any_integer_type(dtype: Any, per_step: bool, assert_same_bits: Any) -> None:
    """Pieces are cut at length - truncate, which an unsigned number cannot hold below 0."""
    padded, lengths = pad(FEATURES)
    y = np.ones((4, 4) if per_step else 4, np.int64)
    vectors = []
    for n in (lengths, lengths.astype(dtype)):
        network = Network(2, 3, 2, per_step=per_step, seed=0)
        fit(network, padded, y, lengths=n, truncate=2, max_epochs=2, seed=0)
        vectors.append(network.vector)
    assert_same_bits(*vectors)


def test_checksum() -> None:
    """Of the data alone: not of padding, nor of how they are held."""
    y, steps = np.array([0, 1, 0, 1]), [ids % 2 for ids in IDS]
    padded, lengths = pad(IDS)
    other = padded.copy()
    other[padded == 0] = 99
    padded_steps = pad(steps, value=5)[0]
    sums = [
        Sequences(IDS, y).checksum(),
        Sequences(padded, y.tolist(), lengths).checksum(),
        Sequences(other, y, lengths.astype(np.int32)).checksum(),
        Sequences(np.asfortranarray(padded), y, lengths).checksum(),
    ]
    assert len(set(sums)) == 1
    assert Sequences(IDS, steps, per_step=True).checksum() == Sequences(IDS, padded_steps, per_step=True).checksum()
    different = {
        sums[0],
        Sequences(IDS).checksum(),
        Sequences(IDS, 1 - y).checksum(),
        Sequences(IDS[::-1], y).checksum(),
        Sequences([IDS[0], *IDS[:0:-1]], y).checksum(),
        Sequences([IDS[0] + 1, *IDS[1:]], y).checksum(),
        Sequences([np.concatenate(IDS[:2]), *IDS[2:], []], y).checksum(),
        Sequences([ids.astype(np.int32) for ids in IDS], y).checksum(),
        Sequences(IDS, steps, per_step=True).checksum(),
        Sequences(IDS, [1 - t for t in steps], per_step=True).checksum(),
        Sequences(IDS, y, condition=np.ones((4, 1))).checksum(),
        Sequences(IDS, y, condition=np.zeros((4, 1))).checksum(),
        Sequences([[], [], np.zeros((0, 3)), []], y).checksum(),
    }
    assert len(different) == 13


ERRORS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"x": []}, ValueError, "x: expected at least one sequence, got none"),
    ({"x": np.zeros((0, 3))}, ValueError, "x: expected at least one sequence, got none"),
    ({"x": 5}, TypeError, "x: expected one item for each sequence, got 5"),
    ({"x": iter(IDS)}, TypeError, "x: expected one item for each sequence, got <list_iterator"),
    ({"x": np.array(3.0)}, TypeError, "x: expected one item for each sequence, got array(3.)"),
    ({"x": [["a", "b"]]}, TypeError, "x[0]: expected (T,) token ids or (T, D) features, got <U1"),
    ({"x": [[1], [None]]}, TypeError, "x[1]: expected (T,) token ids or (T, D) features, got object"),
    ({"x": [FEATURES[0], np.ones((1, 3))]}, ValueError, "x[1]: expected shape (T_i, 2) as before it, got (1, 3)"),
    ({"x": [IDS[0], FEATURES[0]]}, ValueError, "x[1]: expected shape (T_i,) as before it, got (3, 2)"),
    ({"y": 1}, TypeError, "y: expected one item for each sequence, got 1"),
    ({"y": np.array(1)}, TypeError, "y: expected one item for each sequence, got array(1)"),
    ({"y": [1, 2, 3]}, ValueError, "y: expected targets for N = 4 sequences, got 3"),
    ({"y": [0, 1, 0, 1], "per_step": True}, ValueError, "y[0]: expected (T,) or (T, K) targets, got ()"),
    ({"y": [[0] * 3, [0], [0] * 4, [0]], "per_step": True}, ValueError, "y[3]: expected a target for each of 2 steps"),
    ({"y": [[0] * 3, [0], [0] * 4, [0] * 3], "per_step": True}, ValueError, "y[3]: expected a target for each of 2"),
    ({"y": np.zeros((4, 3)), "per_step": True}, ValueError, "y[2]: expected a target for each of 4 steps, got 3"),
    ({"y": [["a"], ["b"], ["c"], ["d"]], "per_step": True}, TypeError, "y[0]: expected (T,) or (T, K) targets, got <U"),
    ({"lengths": LENGTHS}, ValueError, "lengths: expected None with a list of sequences, whose lengths are their own"),
    ({"condition": [1.0] * 4}, ValueError, "condition: expected (N, C) = (4, C), got (4,)"),
    ({"condition": np.ones((3, 2))}, ValueError, "condition: expected (N, C) = (4, C), got (3, 2)"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "error", "message"), ERRORS)
def test_errors(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Sequences(**{"x": IDS, **wrong})
