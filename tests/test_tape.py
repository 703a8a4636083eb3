"""The tape: it serves one backward pass, keeps its inputs alive, and a failed call does not use it up."""

from __future__ import annotations

import gc
import warnings
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import reference

CELLS = rnnfast.cells()
MODULES = [rnnfast, reference]
USED = r"^tape: expected one that is unused, got one that a backward pass has used$"


@pytest.mark.parametrize("module", MODULES)
def test_one_backward_pass(make_problem: Any, module: Any) -> None:
    p = make_problem("lstm", 2, 3, 4, 5)
    tape = p.forward(module).tape
    assert not tape.used
    module.backward(tape, p.dh, p.dstate)
    assert tape.used
    for arguments in ((), (p.dh,), (p.dh, p.dstate)):
        with pytest.raises(RuntimeError, match=USED):
            module.backward(tape, *arguments)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("cell", CELLS)
def test_a_failed_call_does_not_use_it_up(make_problem: Any, assert_same_bits: Any, cell: str, module: Any) -> None:
    p = make_problem(cell, 2, 3, 4, 5)
    expected = p.run(module)
    tape = p.forward(module).tape
    f32 = p.map(lambda a: a.astype(np.float32))
    failing: list[tuple[Any, Any, dict[str, Any]]] = [
        (p.dh[:, :2], None, {}),
        (p.dh.astype(int), None, {}),
        (f32.dh, None, {}),
        (None, f32.dstate, {}),
        (p.dh, f32.dstate, {}),
        (p.dh, p.dstate[:-1], {}),
        (p.dh, (*p.dstate[:-1], p.dstate[-1][:, :4]), {}),
        (p.dh, 3, {}),
        (p.dh, p.dstate, {"num_threads": 0}),
    ]
    for dh, dstate, options in failing:
        with pytest.raises((ValueError, TypeError)):
            module.backward(tape, dh, dstate, **options)
        assert not tape.used
    d = module.backward(tape, p.dh, p.dstate)
    for name, actual in (("dx", d.x), ("dWx", d.Wx), ("dWh", d.Wh), ("db", d.b), ("dstate[0]", d.state[0])):
        assert_same_bits(actual, expected[name], name)


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_it_keeps_its_inputs_alive(make_problem: Any, assert_same_bits: Any, cell: str, ids: bool) -> None:
    def problem() -> Any:
        return make_problem(cell, 3, 40, 300, 20, ids=ids, ragged=True)

    p = problem()
    expected = p.run()
    dh, dstate = p.dh.copy(), tuple(map(np.copy, p.dstate))
    tape = problem().forward().tape
    del p
    gc.collect()
    garbage = [np.full(n, np.nan) for n in (36000, 300 * 20, 300 * 80, 20 * 80, 80, 60) for _ in range(20)]
    d = rnnfast.backward(tape, dh, dstate)
    for name, actual in (("dx", d.x), ("dWx", d.Wx), ("dWh", d.Wh), ("db", d.b)):
        assert_same_bits(actual, expected[name], name)
    del garbage


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_missing_gradients_are_zeros(
    make_problem: Any, assert_same_bits: Any, cell: str, reverse: bool, module: Any
) -> None:
    p = make_problem(cell, 4, 5, 3, 9, ragged=True, reverse=reverse)
    zero_dh, zeros = np.zeros_like(p.dh), tuple(map(np.zeros_like, p.dstate))
    mixed = (None, *p.dstate[1:])
    for sparse, full in [
        ((None, None), (zero_dh, zeros)),
        ((p.dh, None), (p.dh, zeros)),
        ((None, p.dstate), (zero_dh, p.dstate)),
        ((p.dh, mixed), (p.dh, (zeros[0], *mixed[1:]))),
        ((p.dh, (p.dstate[0], *[None] * (len(zeros) - 1))), (p.dh, (p.dstate[0], *zeros[1:]))),
    ]:
        got, expected = (p.replace(dh=dh, dstate=dstate).run(module) for dh, dstate in (sparse, full))
        for name in expected:
            assert_same_bits(got[name], expected[name], name)


@pytest.mark.parametrize("module", MODULES)
def test_no_tape(make_problem: Any, module: Any) -> None:
    output = make_problem("gru", 2, 3, 4, 5).forward(module, keep_tape=False)
    assert output.tape is None
    with pytest.raises(TypeError, match=r"^tape: expected the tape of a forward pass, got NoneType$"):
        module.backward(output.tape)


def test_properties(make_problem: Any) -> None:
    p = make_problem("lstm", 2, 3, 4, 5)
    tape = p.forward().tape
    assert repr(tape) == "<Tape of lstm, N=2, T=3, D=4, H=5>"
    assert tape.nbytes >= 2 * 3 * (4 + 2) * 5 * 8
    rnnfast.backward(tape)
    assert repr(tape) == "<Tape of lstm, N=2, T=3, D=4, H=5, used>"
    assert tape.nbytes == 0
    with pytest.raises(TypeError):
        rnnfast.Tape()


def test_tapes_are_independent(make_problem: Any, assert_same_bits: Any) -> None:
    """The buffers of one tape never become those of another that is in use."""
    problems = [make_problem("gru", 3, 5, 4, 6 + k % 3, seed=k) for k in range(30)]
    expected = [p.run()["dx"] for p in problems]
    tapes = [p.forward().tape for p in problems]
    for k in np.random.default_rng(0).permutation(30):
        assert_same_bits(rnnfast.backward(tapes[k], problems[k].dh, problems[k].dstate).x, expected[k])


@pytest.mark.parametrize("name", ["x", "Wx", "Wh", "b"])
def test_an_array_reshaped_before_backward(name: str) -> None:
    """The tape keeps a view of its own: the caller's object may take another shape."""
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(6, 5, 2)), "Wx": rng.normal(size=(2, 3)), "Wh": rng.normal(size=(3, 3)),
              "b": rng.normal(size=3)}  # fmt: skip
    expected = rnnfast.backward(rnnfast.forward("rnn_tanh", **arrays).tape, np.ones((6, 5, 3)))
    tape = rnnfast.forward("rnn_tanh", **arrays).tape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from NumPy 2.5 on
        arrays[name].shape = (arrays[name].size,)
    gradients = rnnfast.backward(tape, np.ones((6, 5, 3)))
    for actual, right in zip(gradients[:4], expected[:4], strict=True):
        np.testing.assert_array_equal(actual, right)
