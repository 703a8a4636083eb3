"""functions.py and the core against the reference: the grid where kernels break, and sizes that take other paths.

test_isa.py runs this file again under every instruction set.
"""

from __future__ import annotations

import io
import itertools
import platform
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import _core, reference

CELLS = rnnfast.cells()
DTYPES = [np.float32, np.float64]
# around the registers and panels of every instruction set: 1, w-1, w, w+1, 2w+3
SIZES = sorted({1} | {n for w in (4, 8, 16) for n in (w - 1, w, w + 1, 2 * w + 3)} | {31, 32, 33, 67})


def test_cells_are_those_of_the_reference() -> None:
    assert rnnfast.cells() == reference.cells()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_every_combination(make_problem: Any, compare: Any, assert_close: Any, cell: str, dtype: Any) -> None:
    choices = itertools.product((False, True), (False, True), ("full", "ragged", "zero"), *[(False, True)] * 4)
    for seed, (reverse, ids, lengths, bias, state, dh, dstate) in enumerate(choices):
        p = make_problem(
            *(cell, 3, 5, 6, 9, dtype),
            **{"seed": seed, "ids": ids, "ragged": lengths == "ragged", "bias": bias, "state": state},
            reverse=reverse,
        )
        if lengths == "zero":
            p = p.replace(lengths=np.zeros(3, int))
        p = p.replace(dh=p.dh if dh else None, dstate=p.dstate if dstate else None)
        compare(p)
        h, states, tape = p.forward(keep_tape=False)
        expected = p.forward()
        assert tape is None
        assert_close(h, expected.h, 2)
        for got, with_tape in zip(states, expected.state, strict=True):
            assert_close(got, with_tape, 2)


@pytest.mark.parametrize("H", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sizes(make_problem: Any, compare: Any, dtype: Any, H: int) -> None:
    rng = np.random.default_rng(H)
    for D in SIZES:
        cell, N, T = rng.choice(CELLS), int(rng.choice([1, 2, 7])), int(rng.choice([1, 2, 17]))
        ids, ragged, reverse, bias, state = map(bool, rng.integers(0, 2, 5))
        p = make_problem(
            cell, N, T, D, H, dtype, seed=D, ids=ids, ragged=ragged, bias=bias, state=state, reverse=reverse
        )
        compare(p)


@pytest.mark.parametrize("N", [1, 2, 3, 4, 6, 7, 12, 13, 25])
@pytest.mark.parametrize("cell", CELLS)
def test_rows_around_the_tiles(make_problem: Any, compare: Any, cell: str, N: int) -> None:
    for dtype, H in itertools.product(DTYPES, (8, 33, 40)):
        compare(make_problem(cell, N, 3, 5, H, dtype, seed=N))


LARGE = {  # (N, T, D, H), threads
    "several slabs": ((200, 3, 5, 20), 1),
    "several chunks": ((5, 300, 3, 4), 1),
    "several updates": ((70, 40, 9, 10), 1),
    "wide input": ((9, 2, 600, 11), 1),
    "wide state": ((13, 3, 10, 300), 1),
    "several threads": ((110, 5, 40, 48), 3),
}


@pytest.mark.parametrize(("sizes", "threads"), LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_large(make_problem: Any, compare: Any, cell: str, dtype: Any, sizes: tuple[int, ...], threads: int) -> None:
    for ids, reverse in ((False, True), (True, False)):
        p = make_problem(cell, *sizes, dtype, ragged=True, ids=ids, reverse=reverse)
        compare(p, num_threads=threads)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "sizes", [(0, 3, 2, 4), (2, 0, 3, 4), (0, 0, 3, 4), (2, 3, 0, 4), (2, 3, 4, 0), (2, 3, 0, 0), (0, 0, 0, 0)]
)
def test_empty(make_problem: Any, compare: Any, cell: str, dtype: Any, sizes: tuple[int, ...]) -> None:
    N, T, D, _ = sizes
    for ids, ragged, bias, reverse in itertools.product((False, True), repeat=4):
        if not ids or D > 0 or N * T == 0:
            p = make_problem(cell, *sizes[:2], max(D, int(ids)), sizes[3], dtype, ids=ids, ragged=ragged, bias=bias)
            p = p.replace(Wx=p.Wx[:D], reverse=reverse)
            compare(p)
            h, state, tape = p.forward(keep_tape=False)
            assert h.shape == (N, T, sizes[3])
            assert tape is None
            for before, after in zip(p.state, state, strict=True):
                assert T > 0 or np.array_equal(before, after)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_ids_are_one_hot(make_problem: Any, assert_close: Any, cell: str, dtype: Any) -> None:
    p = make_problem(cell, 7, 6, 11, 18, dtype, ids=True, ragged=True)
    ids, dense = p.run(), p.replace(x=np.eye(11, dtype=dtype)[p.x]).run()
    assert ids.pop("dx") is None
    for name in ids:
        assert_close(ids[name], dense[name].astype(np.float64), p.depth, dtype=dtype, name=name)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients(make_problem: Any, check_gradients: Any, cell: str, reverse: bool, ragged: bool, ids: bool) -> None:
    """Central differences of the core itself."""
    p = make_problem(cell, 3, 4, 3, 5, ids=ids, ragged=ragged, reverse=reverse, seed=5)
    check_gradients(p, rnnfast)


def test_named_tuples(make_problem: Any) -> None:
    p = make_problem("lstm", 2, 3, 4, 5)
    output = p.forward()
    assert type(output) is rnnfast.Output is reference.Output
    assert output._fields == ("h", "state", "tape")
    assert type(output.state) is tuple
    assert isinstance(output.tape, rnnfast.Tape)
    gradients = rnnfast.backward(output.tape, p.dh)
    assert type(gradients) is rnnfast.Gradients is reference.Gradients
    assert gradients._fields == ("x", "Wx", "Wh", "b", "state")
    assert type(gradients.state) is tuple


def test_threads() -> None:
    before = rnnfast.get_num_threads()
    try:
        for n in (1, 3, np.int64(2)):
            rnnfast.set_num_threads(n)
            assert rnnfast.get_num_threads() == n
    finally:
        rnnfast.set_num_threads(before)


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    rnnfast.show_config()
    text = capsys.readouterr().out
    file = io.StringIO()
    rnnfast.show_config(file)
    assert file.getvalue() == text
    for part in (rnnfast.__version__, np.__version__, platform.python_version(), _core.compiler()):
        assert part in text
    for isa in _core.instruction_sets():
        (line,) = [line for line in text.splitlines() if line.split()[:1] == [isa["name"]]]
        state = "chosen" if isa["chosen"] else "found" if isa["available"] else "not on this processor"
        assert state in line
        assert isa["flags"] in line
    assert f"threads: {rnnfast.get_num_threads()}" in text.splitlines()
