"""PackedWeights: the bits of forward, from weights that are packed once."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import rnnfast


@pytest.mark.parametrize("cell", rnnfast.cells())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ids", [False, True])
def test_bits(make_problem: Any, assert_same_bits: Any, cell: str, dtype: Any, ids: bool) -> None:
    for N, T, D, H in ((5, 12, 9, 20), (1, 7, 33, 210), (40, 3, 5, 65)):
        p = make_problem(cell, N, T, D, H, dtype, ragged=True, ids=ids)
        weights = rnnfast.PackedWeights(cell, p.Wx, p.Wh, p.b)
        for reverse in (False, True):
            expected = p.replace(reverse=reverse).forward(keep_tape=False)
            for threads in (1, 3):
                actual = weights.forward(p.x, p.state, lengths=p.lengths, reverse=reverse, num_threads=threads)
                assert actual.tape is None
                for a, e in zip((actual.h, *actual.state), (expected.h, *expected.state), strict=True):
                    assert_same_bits(a, e)


def test_both_kinds_of_input_and_later_changes(make_problem: Any, assert_same_bits: Any) -> None:
    p, q = make_problem("gru", 4, 6, 8, 11), make_problem("gru", 4, 6, 8, 11, ids=True)
    Wx = p.Wx.copy()
    weights = rnnfast.PackedWeights("gru", Wx, p.Wh, p.b)
    Wx[...] = np.nan
    for x in (p.x, q.x, p.x, q.x):
        expected = rnnfast.forward("gru", x, p.Wx, p.Wh, p.b, keep_tape=False)
        assert_same_bits(weights.forward(x).h, expected.h)


def test_threads_at_once(make_problem: Any, assert_same_bits: Any) -> None:
    p = make_problem("lstm", 6, 30, 20, 40, np.float32)
    expected = p.forward(keep_tape=False).h
    weights = rnnfast.PackedWeights("lstm", p.Wx, p.Wh, p.b)
    found: list[Any] = []

    def work() -> None:
        for _ in range(20):
            found.append(weights.forward(p.x, p.state, num_threads=1).h)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 120
    for h in found:
        assert_same_bits(h, expected)


def test_errors(make_problem: Any) -> None:
    p = make_problem("lstm", 2, 3, 4, 5, np.float32)
    weights = rnnfast.PackedWeights("lstm", p.Wx, p.Wh)
    with pytest.raises(ValueError, match=r"x: expected \(N, T, D\) with D = 4, as the weights, got D = 3"):
        weights.forward(p.x[:, :, :3])
    with pytest.raises(TypeError, match="float64"):
        weights.forward(p.x.astype(np.float64))
    with pytest.raises(ValueError, match=r"x\[0, 1\] = 4: expected a token id in \[0, D\) = \[0, 4\)"):
        weights.forward([[0, 4, 0]])
    with pytest.raises(ValueError, match="Wh"):
        rnnfast.PackedWeights("lstm", p.Wx, p.Wh[:, :7])
    with pytest.raises(ValueError, match="cell"):
        rnnfast.PackedWeights("lstn", p.Wx, p.Wh)
    assert weights.forward(p.x).h.shape == (2, 3, 5)
