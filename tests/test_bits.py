"""The same bits for every run, thread count, batch composition, amount of padding, and split over time.

Always compared bit by bit. Problems are large enough that several threads run: the core uses one for every 1e6
flops, 2*G*H*(D+H+16) for each row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import rnnfast
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CELLS = rnnfast.cells()
DTYPES = [np.float32, np.float64]
every_cell = pytest.mark.parametrize("cell", CELLS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
both_directions = pytest.mark.parametrize("reverse", [False, True])
dense_and_ids = pytest.mark.parametrize("ids", [False, True])
random = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
sizes = st.sampled_from([1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 24, 33, 40])


@st.composite
def options(draw: Any) -> dict[str, Any]:
    """What make_problem takes, beside the sizes."""
    flags = {name: draw(st.booleans()) for name in ("ids", "ragged", "bias", "state", "reverse")}
    return {"dtype": draw(st.sampled_from(DTYPES)), "seed": draw(st.integers(0, 1000)), **flags}


def same(assert_same_bits: Any, actual: dict[str, Any], expected: dict[str, Any]) -> None:
    for name in expected:
        assert_same_bits(actual[name], expected[name], name)


@every_cell
@every_dtype
@both_directions
@dense_and_ids
def test_threads(make_problem: Any, assert_same_bits: Any, cell: str, dtype: Any, reverse: bool, ids: bool) -> None:
    for ragged, N, T, numbers in ((False, 37, 10, (2, 3)), (True, 37, 20, (2, 4)), (True, 230, 3, (2,))):
        p = make_problem(cell, N, T, 35, 70, dtype, ragged=ragged, reverse=reverse, ids=ids)
        expected = p.run(num_threads=1)
        same(assert_same_bits, p.run(num_threads=1), expected)
        for n in numbers:
            same(assert_same_bits, p.run(num_threads=n), expected)


@every_cell
@every_dtype
@both_directions
def test_teams(make_problem: Any, assert_same_bits: Any, cell: str, dtype: Any, reverse: bool) -> None:
    """Few rows and many units: the threads of a team share a slab's units, more than there are blocks among them."""
    for N, T, D, H, ids in (
        (1, 9, 20, 230, False),
        (3, 7, 33, 301, False),
        (5, 6, 12, 170, True),
        (29, 3, 8, 520, False),
    ):
        p = make_problem(cell, N, T, D, H, dtype, ragged=N > 1, reverse=reverse, ids=ids)
        expected = p.run(num_threads=1)
        for n in (2, 3, 5, 16):
            same(assert_same_bits, p.run(num_threads=n), expected)


@random
@given(
    cell=st.sampled_from(CELLS),
    N=st.integers(1, 60),
    T=st.integers(1, 12),
    D=st.integers(1, 80),
    H=st.integers(40, 150),
    threads=st.lists(st.integers(2, 4), min_size=1, max_size=2, unique=True),
    options=options(),
)
def test_threads_of_random_problems(
    make_problem: Any,
    assert_same_bits: Any,
    cell: str,
    N: int,
    T: int,
    D: int,
    H: int,
    threads: list[int],
    options: Any,
) -> None:
    """Mostly large enough for more than one thread: 1e6 flops are 12 rows of an LSTM with D = H = 70."""
    p = make_problem(cell, N, T, D, H, **options)
    expected = p.run(num_threads=1)
    for n in threads:
        same(assert_same_bits, p.run(num_threads=n), expected)


@every_cell
@both_directions
def test_more_than_65535_steps(make_problem: Any, assert_same_bits: Any, cell: str, reverse: bool) -> None:
    """One long walk, in one call and in two; the rows differ by a step, so that each is one too long for 16 bits."""
    p = make_problem(cell, 2, 70_000, 1, 2, np.float32, reverse=reverse)
    p = p.replace(lengths=np.array([70_000, 65_537]))
    whole = p.run()
    pieces = [slice(0, 65_536), slice(65_536, 70_000)][:: -1 if reverse else 1]
    state, h = p.state, {}
    for piece in pieces:
        n = np.clip(p.lengths - piece.start, 0, piece.stop - piece.start)
        part = p.replace(x=p.x[:, piece], state=state, lengths=n).forward(keep_tape=False)
        h[piece.start], state = part.h, part.state
    assert_same_bits(np.concatenate([h[start] for start in sorted(h)], axis=1), whole["h"], "h")
    for k, s in enumerate(state):
        assert_same_bits(s, whole[f"state[{k}]"], "state")
    assert_same_bits(p.run(num_threads=2)["dx"], whole["dx"], "dx")
    h_again, _, tape = p.forward(recompute=1000)
    assert_same_bits(h_again, whole["h"], "h")
    assert_same_bits(rnnfast.backward(tape, p.dh, p.dstate).x, whole["dx"], "dx")


@every_cell
def test_the_global_number_of_threads(make_problem: Any, assert_same_bits: Any, cell: str) -> None:
    p = make_problem(cell, 30, 40, 40, 40, np.float32, ragged=True)
    before = rnnfast.get_num_threads()
    try:
        results = []
        for n in (1, 2, 4):
            rnnfast.set_num_threads(n)
            results.append(p.run())
    finally:
        rnnfast.set_num_threads(before)
    for other in results[1:]:
        same(assert_same_bits, other, results[0])


@random
@given(cell=st.sampled_from(CELLS), N=sizes, T=st.integers(0, 12), D=sizes, H=sizes, options=options())
def test_every_run(
    make_problem: Any, assert_same_bits: Any, cell: str, N: int, T: int, D: int, H: int, options: Any
) -> None:
    p = make_problem(cell, N, T, D, H, **options)
    expected = p.run()
    for n in (None, 1, 2):
        same(assert_same_bits, p.run(num_threads=n), expected)
    with_tape, without = p.forward(), p.forward(keep_tape=False)
    assert_same_bits(without.h, with_tape.h, "h")
    for a, b in zip(without.state, with_tape.state, strict=True):
        assert_same_bits(a, b, "state")


def rows(p: Any, which: Any, T: int) -> Any:
    """The problem of some of the sequences, padded to, or cut at, T steps."""

    def steps(a: np.ndarray) -> np.ndarray:
        padded = np.full((len(which), T, *a.shape[2:]), np.nan if a.dtype.kind == "f" else -9, a.dtype)
        padded[:, : a.shape[1]] = a[which, :T]
        return padded

    states = {name: tuple(s[which] for s in getattr(p, name)) for name in ("state", "dstate")}
    return p.replace(x=steps(p.x), dh=steps(p.dh), lengths=p.lengths[which], **states)


@every_cell
@every_dtype
@both_directions
@dense_and_ids
def test_a_row_alone_and_in_any_batch(
    make_problem: Any, assert_same_bits: Any, cell: str, dtype: Any, reverse: bool, ids: bool
) -> None:
    rng = np.random.default_rng(3)
    for N, T, D, H in ((14, 6, 5, 18), (110, 3, 17, 9), (27, 4, 40, 43)):
        p = make_problem(cell, N, T, D, H, dtype, ragged=True, reverse=reverse, ids=ids)
        whole = p.run()
        batches = [[n] for n in rng.permutation(N)[:8]] + [rng.permutation(N)[:k] for k in (2, 3, 7, 13, N)]
        for which in batches:
            longest = int(p.lengths[which].max())
            part = rows(p, which, int(rng.integers(longest, longest + 4))).run()
            for name in whole:
                if whole[name] is None or name in ("dWx", "dWh", "db"):
                    continue
                got, expected = part[name], whole[name][which]
                if name in ("h", "dx"):
                    assert not got[:, longest:].any(), name
                    got, expected = got[:, :longest], expected[:, :longest]
                assert_same_bits(np.ascontiguousarray(got), np.ascontiguousarray(expected), f"{name} of rows {which}")


@every_cell
@both_directions
@dense_and_ids
def test_weight_gradients_and_padding(
    make_problem: Any, assert_same_bits: Any, cell: str, reverse: bool, ids: bool
) -> None:
    for dtype in DTYPES:
        p = make_problem(cell, 40, 9, 11, 20, dtype, ragged=True, reverse=reverse, ids=ids)
        expected = p.run()
        for T in (10, 17, 300):
            got = rows(p, np.arange(40), T).run()
            for name in expected:
                if name not in ("h", "dx"):
                    assert_same_bits(got[name], expected[name], name)


def in_pieces(p: Any, cuts: list[int]) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """h and the final state of calls that each carry on from the last."""
    N, T = p.x.shape[:2]
    lengths = np.full(N, T) if p.lengths is None else p.lengths
    state, h = p.state, np.zeros((N, T, p.Wh.shape[0]), p.Wh.dtype)
    pieces = list(zip([0, *cuts], [*cuts, T], strict=True))
    for start, stop in reversed(pieces) if p.reverse else pieces:
        part = p.replace(x=p.x[:, start:stop], state=state, lengths=np.clip(lengths - start, 0, stop - start))
        h[:, start:stop], state, _ = part.forward()
    return h, state


@every_cell
@every_dtype
@both_directions
@dense_and_ids
def test_steps_one_by_one(
    make_problem: Any, assert_same_bits: Any, cell: str, dtype: Any, reverse: bool, ids: bool
) -> None:
    for ragged, (N, D, H) in ((False, (1, 5, 20)), (True, (6, 17, 9)), (True, (30, 33, 40))):
        p = make_problem(cell, N, 13, D, H, dtype, ragged=ragged, reverse=reverse, ids=ids)
        output = p.forward()
        for cuts in (list(range(1, 13)), [4], [1, 2, 12], [0, 7, 7, 13]):
            h, state = in_pieces(p, cuts)
            assert_same_bits(h, output.h, f"h in pieces {cuts}")
            for a, b in zip(state, output.state, strict=True):
                assert_same_bits(a, b, f"state in pieces {cuts}")


@random
@given(
    cell=st.sampled_from(CELLS),
    N=sizes,
    D=sizes,
    H=sizes,
    cuts=st.lists(st.integers(0, 20), max_size=4).map(sorted),
    options=options(),
)
def test_splits_at_random_places(
    make_problem: Any, assert_same_bits: Any, cell: str, N: int, D: int, H: int, cuts: list[int], options: Any
) -> None:
    p = make_problem(cell, N, 20, D, H, **options)
    output = p.forward()
    h, state = in_pieces(p, cuts)
    assert_same_bits(h, output.h, "h")
    for a, b in zip(state, output.state, strict=True):
        assert_same_bits(a, b, "state")


@every_cell
@every_dtype
@dense_and_ids
def test_stream(make_problem: Any, assert_same_bits: Any, cell: str, dtype: Any, ids: bool) -> None:
    for N, D, H in ((1, 5, 20), (7, 33, 9), (300, 20, 40)):
        p = make_problem(cell, N, 6, D, H, dtype, ids=ids)
        output = p.forward()
        stream = rnnfast.Stream(cell, p.Wx, p.Wh, p.b, batch_size=N)
        stream.state = p.state
        out = np.empty((N, H), dtype)
        for t in range(6):
            h = stream.step(p.x[:, t], out=out if t % 2 else None)
            assert_same_bits(h, np.ascontiguousarray(output.h[:, t]), f"h at step {t}")
        for a, b in zip(stream.state, output.state, strict=True):
            assert_same_bits(a, b, "state")


@pytest.mark.parametrize("embedding_size", [0, 5])
def test_the_probabilities_of_a_sequence(assert_same_bits: Any, embedding_size: int) -> None:
    """Through embedding, two layers, dense layer and softmax: alone, in any batch, with any number of threads."""
    rng = np.random.default_rng(0)
    words = np.array(["a", "b", "c", "d", "e"])
    X = [" ".join(rng.choice(words, rng.integers(1, 30))) for _ in range(70)]
    model = rnnfast.SequenceClassifier(
        hidden_size=40, num_layers=2, embedding_size=embedding_size, max_epochs=1, validation_fraction=0, random_state=0
    )
    model.fit(X, rng.integers(0, 3, len(X)))
    before = rnnfast.get_num_threads()
    try:
        rnnfast.set_num_threads(1)
        whole = model.predict_proba(X)
        for n in (1, 2, 4):
            rnnfast.set_num_threads(n)
            for which in ([3], [69, 0], list(range(5)), list(range(10, 70)), list(rng.permutation(70))):
                assert_same_bits(model.predict_proba([X[i] for i in which]), whole[which], f"{which} by {n} threads")
    finally:
        rnnfast.set_num_threads(before)


@every_dtype
def test_training_over_threads(assert_same_bits: Any, dtype: Any) -> None:
    """The weights after some steps: every operation of a step, dropout included."""
    rng = np.random.default_rng(0)
    x, lengths = rng.integers(0, 300, (40, 25)), rng.integers(0, 26, 40)
    before, results = rnnfast.get_num_threads(), []
    try:
        for n in (1, 2, 4):
            rnnfast.set_num_threads(n)
            network = rnnfast.Network(
                300, 48, 300, num_layers=2, embedding_size=30, dropout=0.2, per_step=True, dtype=dtype, seed=0
            )
            rnnfast.fit(network, x, np.roll(x, -1, 1), lengths=lengths, max_epochs=3, clip_norm=0.5, seed=0)
            results.append(network.vector)
    finally:
        rnnfast.set_num_threads(before)
    for other in results[1:]:
        assert_same_bits(other, results[0])
