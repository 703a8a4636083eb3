"""Optimisers and gradient clipping over one flat parameter vector and one flat gradient vector.

A model keeps all its parameters in one contiguous vector and all gradients in another (`layers.py`), so that a step is
one pass over memory, in place, by ``_core``; denormal moments become 0. `training.py` calls `step` once per batch and
puts `state` into checkpoints. Nothing here knows layers, losses or data. A NaN or infinite gradient is the caller's
matter: it spreads into the parameters and the moments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core

__all__ = ["SGD", "AdaGrad", "Adam", "clip_by_global_norm", "clip_by_value"]

Vector = NDArray[Any]


class _Optimizer:
    """What the optimisers share: checks, the moments (allocated at the first step), save and resume."""

    learning_rate: float
    _names: tuple[str, ...]  # of the moments

    def __post_init__(self) -> None:
        for name, value in list(vars(self).items()):
            below = 1 if name in ("momentum", "beta1", "beta2") else math.inf
            expected = f"a number in {'(' if name == 'epsilon' else '['}0, {below})"
            if not isinstance(value, int | float | np.number):
                raise TypeError(f"{name}: expected {expected}, got {value!r}")
            if not 0 <= value < below or (name == "epsilon" and value == 0):
                raise ValueError(f"{name}: expected {expected}, got {value}")
            if not isinstance(value, bool):
                setattr(self, name, float(value))  # steps are computed in float64, as they are when a run goes on
        self._steps = 0
        self._moments: dict[str, Vector] = {}

    def step(self, parameters: Vector, gradients: Vector) -> None:
        """Update `parameters` in place; `gradients` is only read.

        Both are contiguous vectors of one size and dtype, float32 or float64, and the same at every
        step: anything else is a TypeError or ValueError that says which.
        """
        self.learning_rate = float(self.learning_rate)  # which may be another since
        _check_vector("gradients", gradients, written=False)
        _check_vector("parameters", parameters)
        _check_alike("gradients", gradients, "parameters", parameters)
        for name, moment in self._moments.items():
            _check_alike("parameters", parameters, f"the {name} of the steps before", moment)
        moments = {
            name: self._moments[name] if name in self._moments else np.zeros_like(parameters) for name in self._names
        }
        self._steps += 1
        try:
            self._update(parameters, gradients, list(moments.values()))
        except BaseException:  # no memory: nothing has changed
            self._steps -= 1
            raise
        self._moments = moments

    def state(self) -> dict[str, Vector]:
        """Return copies of all that the next step depends on; `load_state` resumes to the bit."""
        moments = {name: moment.copy() for name, moment in self._moments.items()}
        return {"learning_rate": np.array(float(self.learning_rate)), "steps": np.array(self._steps), **moments}

    def load_state(self, state: Mapping[str, Vector]) -> None:
        """Continue from what `state` returned; other names, shapes or dtypes are a ValueError."""
        if not isinstance(state, Mapping):
            raise TypeError(f"state: expected a mapping, as state() returns, got {type(state).__name__}")
        rate, steps = np.asarray(state.get("learning_rate")), np.asarray(state.get("steps"))
        if rate.dtype.kind != "f" or steps.dtype.kind != "i" or rate.shape != () or steps.shape != ():
            raise ValueError("state: expected learning_rate (floating) and steps (integer), of shape ()")
        expected = {"learning_rate", "steps", *(self._names if steps else ())}
        if set(state) != expected:
            kind = type(self).__name__
            raise ValueError(f"state: expected {sorted(expected)} for {kind}, got {sorted(state)}")
        moments = {name: np.array(state[name]) for name in self._names if steps}
        for name, moment in moments.items():
            _check_vector(f"state[{name!r}]", moment)
            _check_alike(f"state[{name!r}]", moment, self._names[0], moments[self._names[0]])
        self.learning_rate, self._steps, self._moments = float(rate), int(steps), moments

    def _update(self, theta: Vector, g: Vector, moments: list[Vector]) -> None:
        raise NotImplementedError

    def _keep(self, weight_decay: float) -> float:
        return 1 - self.learning_rate * weight_decay


@dataclass(eq=False)
class SGD(_Optimizer):
    """Stochastic gradient descent, with momentum where asked::

        θ ← (1 - ηλ) θ        v ← μ v + g
        θ ← θ - η v           or, with Nesterov's look-ahead, θ - η (g + μ v)

    for learning rate η (an attribute, to be changed at any time), momentum μ and weight decay λ, which is
    decoupled as in `Adam`. v starts at 0.

    Polyak, Some methods of speeding up the convergence of iteration methods, 1964. Sutskever et al.,
    On the importance of initialization and momentum in deep learning, ICML 2013.

    >>> theta = np.array([1.0, 2.0])
    >>> SGD(learning_rate=0.5).step(theta, np.array([1.0, -1.0]))
    >>> theta
    array([0.5, 2.5])
    """

    learning_rate: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._names = ("velocity",) if self.momentum else ()

    def _update(self, theta: Vector, g: Vector, moments: list[Vector]) -> None:
        rule = "sgd" if not self.momentum else "nesterov" if self.nesterov else "momentum"
        keep = self._keep(self.weight_decay)
        _core.optimize(rule, theta, g, moments, keep, self.learning_rate, (self.momentum, 0.0), 1.0, 0.0)


@dataclass(eq=False)
class Adam(_Optimizer):
    """Steps scaled by running means of the gradient and of its square::

        m ← β₁ m + (1 - β₁) g        v ← β₂ v + (1 - β₂) g²
        θ ← (1 - ηλ) θ - η (m / (1 - β₁ᵗ)) / (√(v / (1 - β₂ᵗ)) + ε)

    at step t = 1, 2, ..., for learning rate η (an attribute, to be changed at any time) and weight decay
    λ, decoupled from the moments (AdamW). m and v start at 0.

    Kingma & Ba, Adam: a method for stochastic optimization, ICLR 2015. Loshchilov & Hutter, Decoupled
    weight decay regularization, ICLR 2019.

    >>> theta = np.array([1.0, 2.0])
    >>> Adam(learning_rate=0.5).step(theta, np.array([0.1, -9.0]))
    >>> theta.round(6)
    array([0.5, 2.5])
    """

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    _names = ("m", "v")

    def _update(self, theta: Vector, g: Vector, moments: list[Vector]) -> None:
        rate = self.learning_rate / (1 - self.beta1**self._steps)
        root_scale = math.sqrt(1 - self.beta2**self._steps)
        keep, decay = self._keep(self.weight_decay), (self.beta1, self.beta2)
        _core.optimize("adam", theta, g, moments, keep, rate, decay, root_scale, self.epsilon)


@dataclass(eq=False)
class AdaGrad(_Optimizer):
    """Steps scaled by all squared gradients so far, so that rare features keep large steps::

        s ← s + g²        θ ← θ - η g / (√s + ε)

    for learning rate η (an attribute, to be changed at any time). s starts at 0.

    Duchi, Hazan & Singer, Adaptive subgradient methods for online learning and stochastic optimization,
    JMLR 2011.

    >>> theta = np.array([1.0, 2.0])
    >>> AdaGrad(learning_rate=0.5).step(theta, np.array([0.1, -9.0]))
    >>> theta.round(6)
    array([0.5, 2.5])
    """

    learning_rate: float = 0.01
    epsilon: float = 1e-8

    _names = ("squares",)

    def _update(self, theta: Vector, g: Vector, moments: list[Vector]) -> None:
        _core.optimize("adagrad", theta, g, moments, 1.0, self.learning_rate, (0.0, 0.0), 1.0, self.epsilon)


def clip_by_value(gradients: Vector, limit: float) -> None:
    """Bring each number of the vector `gradients` into [-limit, limit], in place; NaN stays NaN.

    >>> g = np.array([-3.0, 0.5, 7.0])
    >>> clip_by_value(g, 1.0)
    >>> g
    array([-1. ,  0.5,  1. ])
    """
    _check_vector("gradients", gradients)
    _check_positive("limit", limit)
    _core.clip(gradients, limit)


def clip_by_global_norm(gradients: Vector, max_norm: float) -> float:
    """Scale the vector `gradients` in place to a Euclidean norm of at most `max_norm`::

        g ← g min(1, max_norm / ‖g‖)

    Returns the norm before, computed in float64 without overflow. Where a gradient is not finite, all are
    left as they are, for the caller to act on.

    Pascanu, Mikolov & Bengio, On the difficulty of training recurrent neural networks, ICML 2013.

    >>> g = np.array([3.0, 4.0])
    >>> clip_by_global_norm(g, 1.0)
    5.0
    >>> g
    array([0.6, 0.8])
    """
    _check_vector("gradients", gradients)
    _check_positive("max_norm", max_norm)
    squares = _core.sum_of_squares(gradients)
    if 1e-290 < squares < math.inf:
        norm = math.sqrt(squares)
        if norm > max_norm:
            _core.scale(gradients, max_norm / norm)
        return norm
    peak = float(np.abs(gradients).max(initial=0))  # the squares of float64 overflow, or lose digits
    if peak == 0 or not math.isfinite(peak):
        return peak
    scaled = np.divide(gradients, peak, dtype=np.float64)
    root = math.sqrt(np.square(scaled, out=scaled).sum())
    norm = peak * root
    if norm > max_norm:
        gradients *= max_norm / peak / root
    return norm


def _check_vector(name: str, vector: Vector, written: bool = True) -> None:
    if not isinstance(vector, np.ndarray) or vector.dtype not in (np.float32, np.float64):
        kind = vector.dtype if isinstance(vector, np.ndarray) else type(vector).__name__
        raise TypeError(f"{name}: expected an array of float32 or float64, got {kind}")
    if vector.ndim != 1 or not vector.flags.c_contiguous or not vector.flags.aligned:
        layout = (
            ", not contiguous" if not vector.flags.c_contiguous else "" if vector.flags.aligned else ", not aligned"
        )
        raise ValueError(f"{name}: expected a contiguous vector, got shape {vector.shape}{layout}")
    if written and not vector.flags.writeable:
        raise ValueError(f"{name}: expected a vector that can be written to, got a read-only one")


def _check_alike(name: str, vector: Vector, other_name: str, other: Vector) -> None:
    if vector.dtype != other.dtype:
        raise TypeError(f"{name}: expected {other.dtype} like {other_name}, got {vector.dtype}")
    if vector.size != other.size:
        raise ValueError(f"{name}: expected {other.size} numbers like {other_name}, got {vector.size}")


def _check_positive(name: str, value: float) -> None:
    if not isinstance(value, int | float | np.number) or not value > 0:
        raise ValueError(f"{name}: expected a positive number, got {value!r}")
