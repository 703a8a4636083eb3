"""optimizers.py against the published update rules, written out number by number in float64."""

from __future__ import annotations

import copy
import math
import re
import tracemalloc
from typing import Any

import numpy as np
import pytest
from rnnfast.optimizers import SGD, AdaGrad, Adam, clip_by_global_norm, clip_by_value

STEPS = 6


def problem(dtype: Any = np.float64) -> tuple[np.ndarray, list[np.ndarray]]:
    random = np.random.default_rng(0)
    return random.normal(size=5).astype(dtype), [random.normal(size=5).astype(dtype) for _ in range(STEPS)]


def run(optimizer: Any, theta: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    for g in gradients:
        optimizer.step(theta, g)
    return theta


def sgd(theta: float, gradients: list[float], eta: float, mu: float, nesterov: bool, decay: float) -> float:
    v = 0.0
    for g in gradients:
        v = mu * v + g
        theta = theta - eta * decay * theta - eta * (g + mu * v if nesterov else v)
    return theta


def adam(theta: float, gradients: list[float], eta: float, b1: float, b2: float, eps: float, decay: float) -> float:
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
        theta = theta - eta * decay * theta - eta * m_hat / (math.sqrt(v_hat) + eps)
    return theta


def adagrad(theta: float, gradients: list[float], eta: float, eps: float) -> float:
    s = 0.0
    for g in gradients:
        s += g * g
        theta = theta - eta * g / (math.sqrt(s) + eps)
    return theta


CASES = [
    (SGD, (0.1, 0.0, False, 0.0), sgd),
    (SGD, (0.1, 0.9, False, 0.0), sgd),
    (SGD, (0.1, 0.9, True, 0.0), sgd),
    (SGD, (0.1, 0.5, True, 0.3), sgd),
    (SGD, (0.1, 0.0, False, 0.3), sgd),
    (Adam, (0.1, 0.9, 0.999, 1e-8, 0.0), adam),
    (Adam, (0.1, 0.5, 0.7, 0.3, 0.2), adam),
    (AdaGrad, (0.1, 1e-8), adagrad),
    (AdaGrad, (0.1, 0.5), adagrad),
]
KINDS = [
    lambda: SGD(0.1),
    lambda: SGD(0.1, 0.9, True),
    lambda: Adam(0.1, weight_decay=0.1),
    lambda: AdaGrad(0.1),
]


@pytest.mark.parametrize(("kind", "numbers", "rule"), CASES)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-13), (np.float32, 1e-5)])
def test_published_rule(kind: Any, numbers: Any, rule: Any, dtype: Any, rtol: float) -> None:
    theta, gradients = problem(dtype)
    expected = [rule(float(theta[i]), [float(g[i]) for g in gradients], *numbers) for i in range(5)]
    result = run(kind(*numbers), theta, gradients)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, expected, rtol=rtol, atol=rtol / 10)


def test_defaults() -> None:
    assert repr(SGD()) == "SGD(learning_rate=0.01, momentum=0.0, nesterov=False, weight_decay=0.0)"
    assert repr(Adam()) == "Adam(learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-08, weight_decay=0.0)"
    assert repr(AdaGrad()) == "AdaGrad(learning_rate=0.01, epsilon=1e-08)"


@pytest.mark.parametrize("make", KINDS)
def test_learning_rate_can_change(make: Any) -> None:
    theta, gradients = problem()
    optimizer = make()
    optimizer.learning_rate = 0.0
    before = theta.copy()
    optimizer.step(theta, gradients[0])
    assert (theta == before).all()
    optimizer.learning_rate = 0.1
    optimizer.step(theta, gradients[1])
    assert (theta != before).all()


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stop", [0, 1, 4])
def test_resume_to_the_bit(make: Any, dtype: Any, stop: int) -> None:
    theta, gradients = problem(dtype)
    first = make()
    run(first, theta, gradients[:stop])
    first.learning_rate = 0.05
    state, resumed = first.state(), theta.copy()
    saved = copy.deepcopy(state)
    run(first, theta, gradients[stop:])
    assert all((state[name] == saved[name]).all() for name in saved)  # a copy, which later steps leave alone
    second = make()
    second.load_state(state)
    run(second, resumed, gradients[stop:])
    assert resumed.tobytes() == theta.tobytes()
    assert second.state().keys() == first.state().keys()
    assert all(second.state()[name].tobytes() == array.tobytes() for name, array in first.state().items())
    assert all((state[name] == saved[name]).all() for name in saved)
    assert all(isinstance(array, np.ndarray) for array in state.values())


@pytest.mark.parametrize("kind", [SGD, Adam, AdaGrad])
@pytest.mark.parametrize("rate", [np.float32(0.05), np.float16(0.05), np.longdouble("0.05"), 1])
def test_numbers_of_any_kind_resume_to_the_bit(kind: Any, rate: Any) -> None:
    """They are taken as Python's floats, also where they are put in later, so that a state holds all of them."""
    for later in (False, True):
        whole, gradients = problem(np.float32)
        first = kind(0.5 if later else rate)
        if later:
            first.learning_rate = rate
        run(first, whole, gradients[:2])
        second, resumed = kind(0.1), whole.copy()
        second.load_state(first.state())
        run(first, whole, gradients[2:])
        run(second, resumed, gradients[2:])
        assert resumed.tobytes() == whole.tobytes()
        assert first.learning_rate == second.learning_rate == float(rate)


def test_a_rate_that_was_put_in_and_not_used_yet_is_saved() -> None:
    optimizer = Adam(0.1)
    optimizer.learning_rate = 1
    Adam(0.2).load_state(optimizer.state())


@pytest.mark.parametrize("make", KINDS)
def test_in_place_without_allocation(make: Any) -> None:
    memory = np.ones(100_001)
    theta, g = memory[1:], np.ones(100_000)  # a view into a model's vector
    g.flags.writeable = False
    optimizer = make()
    optimizer.step(theta, g)
    tracemalloc.start()
    optimizer.step(theta, g)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000  # one vector has 800,000 bytes
    assert memory[0] == 1
    assert (memory[1:] != 1).all()


@pytest.mark.parametrize("make", KINDS)
def test_zero_gradient_and_no_parameters(make: Any) -> None:
    theta = np.ones(3)
    optimizer = make()
    optimizer.step(theta, np.zeros(3))
    assert np.isfinite(theta).all()
    make().step(np.zeros(0), np.zeros(0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clip_by_value(dtype: Any) -> None:
    g = np.array([-np.inf, -3, -1, 0.25, np.nan, 7], dtype)
    clip_by_value(g, 1.5)
    assert g.dtype == dtype
    np.testing.assert_array_equal(g, [-1.5, -1.5, -1, 0.25, np.nan, 1.5])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clip_by_global_norm(dtype: Any) -> None:
    g = np.array([3, -4, 0], dtype)
    assert clip_by_global_norm(g, 5.0) == 5
    assert g.tolist() == [3, -4, 0]
    assert clip_by_global_norm(g, 2.5) == 5
    assert g.tolist() == [1.5, -2, 0]
    assert clip_by_global_norm(np.zeros(3, dtype), 1.0) == 0
    assert clip_by_global_norm(np.zeros(0, dtype), 1.0) == 0
    for scale in (np.finfo(dtype).max / 8, np.finfo(dtype).tiny):  # squares overflow, or underflow
        g = scale * np.array([3, -4, 0], dtype)
        assert clip_by_global_norm(g, float(scale)) == pytest.approx(5 * float(scale), rel=1e-6)
        np.testing.assert_allclose(g / scale, [0.6, -0.8, 0], rtol=1e-6)
    for bad in (np.nan, np.inf):
        g = np.array([1, bad, 2], dtype)
        assert not math.isfinite(clip_by_global_norm(g, 1.0))
        np.testing.assert_array_equal(g, [1, bad, 2])
    many = np.full(10**6, 0.1, dtype)
    assert clip_by_global_norm(many, 1.0) == pytest.approx(100, rel=1e-7)
    assert np.linalg.norm(many.astype(np.float64)) == pytest.approx(1, rel=1e-6)


def stepped(optimizer: Any) -> Any:
    optimizer.step(np.ones(3), np.ones(3))
    return optimizer


V, W = np.ones(3), np.ones(3, np.float32)
READ_ONLY = np.ones(3)
READ_ONLY.flags.writeable = False
MISALIGNED = np.zeros(25, np.uint8)[1:].view(np.float64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SGD(-1), ValueError, "learning_rate: expected a number in [0, inf), got -1"),
        (lambda: SGD(math.nan), ValueError, "learning_rate: expected a number in [0, inf), got nan"),
        (lambda: SGD("fast"), TypeError, "learning_rate: expected a number in [0, inf), got 'fast'"),
        (lambda: SGD(momentum=1), ValueError, "momentum: expected a number in [0, 1), got 1"),
        (lambda: SGD(weight_decay=-1), ValueError, "weight_decay: expected a number in [0, inf), got -1"),
        (lambda: Adam(beta1=1.0), ValueError, "beta1: expected a number in [0, 1), got 1.0"),
        (lambda: Adam(beta2=-0.1), ValueError, "beta2: expected a number in [0, 1), got -0.1"),
        (lambda: AdaGrad(epsilon=0), ValueError, "epsilon: expected a number in (0, inf), got 0"),
        (
            lambda: SGD().step([1.0], V),
            TypeError,
            "parameters: expected an array of float32 or float64, got list",
        ),
        (
            lambda: SGD().step(V, V.astype(int)),
            TypeError,
            "gradients: expected an array of float32 or float64, got int",
        ),
        (lambda: SGD().step(V, W), TypeError, "gradients: expected float64 like parameters, got float32"),
        (lambda: SGD().step(V, V[:2]), ValueError, "gradients: expected 3 numbers like parameters, got 2"),
        (
            lambda: SGD().step(np.ones((3, 1)), V),
            ValueError,
            "parameters: expected a contiguous vector, got shape (3, 1)",
        ),
        (
            lambda: SGD().step(V, np.ones(6)[::2]),
            ValueError,
            "gradients: expected a contiguous vector, got shape (3,), no",
        ),
        (
            lambda: SGD().step(MISALIGNED, V),
            ValueError,
            "parameters: expected a contiguous vector, got shape (3,), not aligned",
        ),
        (
            lambda: SGD().step(READ_ONLY, V),
            ValueError,
            "parameters: expected a vector that can be written to",
        ),
        (
            lambda: stepped(Adam()).step(np.ones(2), np.ones(2)),
            ValueError,
            "parameters: expected 3 numbers like the m",
        ),
        (
            lambda: stepped(AdaGrad()).step(W, W),
            TypeError,
            "parameters: expected float64 like the squares of the steps",
        ),
        (
            lambda: Adam().load_state(stepped(AdaGrad()).state()),
            ValueError,
            "state: expected ['learning_rate', 'm', 'steps', 'v'] for Adam, got ['learning_rate', 'squ",
        ),
        (
            lambda: SGD().load_state({}),
            ValueError,
            "state: expected learning_rate (floating) and steps (integer)",
        ),
        (
            lambda: Adam().load_state(stepped(Adam()).state() | {"v": np.ones(2)}),
            ValueError,
            "state['v']: expected 3 numbers like m, got 2",
        ),
        (
            lambda: Adam().load_state(stepped(Adam()).state() | {"m": np.ones((3, 1))}),
            ValueError,
            "state['m']: expected a contiguous vector, got shape (3, 1)",
        ),
        (lambda: clip_by_value(V, 0), ValueError, "limit: expected a positive number, got 0"),
        (
            lambda: clip_by_value(READ_ONLY, 1),
            ValueError,
            "gradients: expected a vector that can be written to",
        ),
        (
            lambda: clip_by_global_norm(V, math.nan),
            ValueError,
            "max_norm: expected a positive number, got nan",
        ),
        (
            lambda: clip_by_global_norm([1.0], 1),
            TypeError,
            "gradients: expected an array of float32 or float64, got",
        ),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_a_refused_state_changes_nothing() -> None:
    optimizer = stepped(Adam())
    before = optimizer.state()
    with pytest.raises(ValueError, match="state"):
        optimizer.load_state(before | {"steps": np.array(7), "v": np.ones(2)})
    assert all((optimizer.state()[name] == array).all() for name, array in before.items())
