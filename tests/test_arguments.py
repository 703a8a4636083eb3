"""arguments.hpp: any strides, byte order, alignment and integer type give the bits of plain arrays; nothing is written.

The messages about wrong arguments are in test_errors.py.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import reference

CELLS = rnnfast.cells()
DTYPES = [np.float32, np.float64]
Layout = Callable[[np.ndarray], np.ndarray]


def transposed(a: np.ndarray) -> np.ndarray:
    return a.T.copy().T


def time_major(a: np.ndarray) -> np.ndarray:
    return a.swapaxes(0, 1).copy().swapaxes(0, 1) if a.ndim > 1 else a


def negative(a: np.ndarray) -> np.ndarray:
    flip = (slice(None, None, -1),) * a.ndim
    return a[flip].copy()[flip]


def gaps(a: np.ndarray) -> np.ndarray:
    wide = np.full([3 * n for n in a.shape], 77, a.dtype)
    view = wide[(slice(1, None, 3),) * a.ndim]
    view[...] = a
    return view


def record(*fields: tuple[str, str]) -> Layout:
    def layout(a: np.ndarray) -> np.ndarray:
        view = np.zeros(a.shape, [*fields, ("value", a.dtype), ("after", "i4")])["value"]
        view[...] = a
        return view

    return layout


def misaligned(a: np.ndarray) -> np.ndarray:
    view = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def swapped(a: np.ndarray) -> np.ndarray:
    return a.astype(a.dtype.newbyteorder())


def read_only(a: np.ndarray) -> np.ndarray:
    a = a.copy()
    a.setflags(write=False)
    return a


LAYOUTS: dict[str, Layout] = {
    "fortran": np.asfortranarray,
    "transposed": transposed,
    "time major": time_major,
    "negative strides": negative,
    "gaps": gaps,
    "record": record(),
    "packed record": record(("before", "i1")),
    "misaligned": misaligned,
    "swapped": swapped,
    "swapped, negative": lambda a: negative(swapped(a)),
    "swapped, misaligned": lambda a: misaligned(swapped(a)),
    "read-only": read_only,
    "subclass": lambda a: np.ma.masked_array(a),
}


def assert_same_results(assert_same_bits: Any, actual: dict[str, Any], expected: dict[str, Any]) -> None:
    assert actual.keys() == expected.keys()
    for name in expected:
        assert_same_bits(actual[name], expected[name], name)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_layouts(make_problem: Any, assert_same_bits: Any, cell: str, dtype: Any, layout: Layout) -> None:
    for H, D in ((5, 3), (18, 17)):
        p = make_problem(cell, 3, 4, D, H, dtype, ragged=True, seed=H)
        assert_same_results(assert_same_bits, p.map(layout).run(), p.run())
        for name in ("x", "Wx", "Wh", "b", "dh"):  # one at a time
            got = p.replace(**{name: layout(getattr(p, name))}).run()
            assert_same_results(assert_same_bits, got, p.run())


@pytest.mark.parametrize("cell", CELLS)
def test_zero_strides(make_problem: Any, assert_same_bits: Any, cell: str) -> None:
    p = make_problem(cell, 3, 4, 5, 6)

    for axis in range(3):

        def repeated(a: np.ndarray, axis: int = axis) -> np.ndarray:
            axis = min(axis, a.ndim - 1)
            return np.broadcast_to(np.take(a, [0], axis=axis), a.shape)

        strided = p.map(repeated)
        assert 0 in strided.x.strides
        assert_same_results(assert_same_bits, strided.run(), strided.map(np.array).run())


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_integers(make_problem: Any, assert_same_bits: Any, kind: str, layout: Layout) -> None:
    p = make_problem("gru", 5, 7, 9, 4, ids=True, ragged=True, seed=2)
    got = p.replace(x=layout(p.x.astype(kind)), lengths=layout(p.lengths.astype(kind))).run()
    assert_same_results(assert_same_bits, got, p.run())


@pytest.mark.parametrize("module", [rnnfast, rnnfast.reference], ids=["rnnfast", "reference"])
def test_an_empty_list_of_lengths_has_any_type(make_problem: Any, module: Any) -> None:
    for kind in ("f8", "?", "U3", "i4,i4", "O"):
        problem = make_problem("gru", 0, 3, 4, 5).replace(lengths=np.zeros(0, kind))
        assert problem.forward(module).h.shape == (0, 3, 5)


def test_lists(make_problem: Any, assert_same_bits: Any) -> None:
    p = make_problem("lstm", 3, 4, 5, 6, ragged=True)
    lists = p.map(lambda a: a.tolist()).replace(lengths=p.lengths.tolist(), state=[s.tolist() for s in p.state])
    assert_same_results(assert_same_bits, lists.run(), p.run())
    ids = make_problem("lstm", 3, 4, 5, 6, ids=True)
    assert_same_results(assert_same_bits, ids.replace(x=ids.x.tolist()).run(), ids.run())


def test_the_largest_ids(make_problem: Any) -> None:
    """Bytes of a text: 255 is the last id, and not -1."""
    p = make_problem("rnn_relu", 1, 3, 256, 2, ids=True).replace(x=np.array([[0, 127, 255]], np.uint8))
    touched = [np.flatnonzero(p.run(module)["dWx"].any(axis=1)).tolist() for module in (rnnfast, reference)]
    assert touched[0] == touched[1]
    assert set(touched[0]) <= {0, 127, 255}


@pytest.mark.parametrize("module", [rnnfast, reference])
@pytest.mark.parametrize("cell", CELLS)
def test_inputs_are_never_written(make_problem: Any, assert_same_bits: Any, cell: str, module: Any) -> None:
    for ids in (False, True):
        p = make_problem(cell, 4, 5, 8, 16, ids=ids, ragged=True)
        before = {name: array.copy() for name, array in p.arrays()}
        p.run(module)
        for name, array in p.arrays():
            assert_same_bits(array, before[name], name)


@pytest.mark.parametrize("sizes", [(2, 3, 4, 5), (2, 0, 4, 5)])
@pytest.mark.parametrize("cell", CELLS)
def test_results_are_new_arrays(make_problem: Any, cell: str, sizes: tuple[int, ...]) -> None:
    p = make_problem(cell, *sizes)
    first, second = p.run(), p.run()
    given = [array for _, array in p.arrays()]
    for name, array in first.items():
        assert array.flags.c_contiguous, name
        assert array.flags.writeable, name
        others = [*given, *second.values(), *(a for other, a in first.items() if other != name)]
        assert not any(np.shares_memory(array, other) for other in others), name


def test_one_array_for_several_arguments(make_problem: Any, assert_same_bits: Any) -> None:
    p = make_problem("lstm", 6, 6, 6, 6)
    shared = p.replace(Wx=p.Wh, state=(p.dstate[0],) * 2, dstate=(p.dstate[0],) * 2, dh=p.x)
    assert_same_results(assert_same_bits, shared.run(), shared.map(np.array).run())


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_padding_reaches_nothing(
    make_problem: Any, assert_same_bits: Any, cell: str, dtype: Any, reverse: bool, poison: float
) -> None:
    p = make_problem(cell, 7, 6, 5, 9, dtype, ragged=True, reverse=reverse)
    padding = np.arange(6) >= p.lengths[:, None]
    x, dh = p.x.copy(), p.dh.copy()
    x[padding] = dh[padding] = poison
    results = p.replace(x=x, dh=dh).run()
    assert_same_results(assert_same_bits, results, p.run())
    for name in ("h", "dx"):
        zero = results[name][padding]
        assert_same_bits(zero, np.zeros_like(zero), name)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_ids_in_the_padding_may_be_anything(make_problem: Any, assert_same_bits: Any, cell: str, reverse: bool) -> None:
    p = make_problem(cell, 7, 6, 5, 9, ids=True, ragged=True, reverse=reverse)
    padding = np.arange(6) >= p.lengths[:, None]
    for poison in (-1, 5, 2**62, -(2**63)):
        assert_same_results(assert_same_bits, p.replace(x=np.where(padding, poison, p.x)).run(), p.run())


@pytest.mark.parametrize("cell", CELLS)
def test_nan_reaches_its_own_row_alone(make_problem: Any, assert_same_bits: Any, cell: str) -> None:
    p = make_problem(cell, 5, 4, 3, 9)
    x = p.x.copy()
    x[2, 1, 0] = np.nan
    got, expected = p.replace(x=x).run(), p.run()
    assert np.isnan(got["h"][2, 1:]).all()
    for name in ("h", "dx", *(name for name in got if "state" in name)):
        others = [0, 1, 3, 4]
        assert_same_bits(got[name][others], expected[name][others], name)
    assert_same_bits(got["h"][2, :1], expected["h"][2, :1])


def test_an_interrupt_is_no_wrong_argument() -> None:
    class Interrupted:
        def __array__(self, *arguments: Any, **options: Any) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rnnfast.forward("lstm", Interrupted(), np.zeros((1, 4)), np.zeros((1, 4)))


def test_scratch_follows_the_rows_that_there_are() -> None:
    """One row of 300,000 features needs megabytes, not as many rows of them as usually make a chunk."""
    D = 300_000
    x, Wx, Wh = np.ones((1, 1, D), "f4"), np.zeros((D, 1), "f4"), np.zeros((1, 1), "f4")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rnnfast.backward(rnnfast.forward("rnn_tanh", x, Wx, Wh).tape, np.ones((1, 1, 1), "f4"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB
