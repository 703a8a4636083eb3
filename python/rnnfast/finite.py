"""check_finite: where the first NaN or infinity is, by layer, row and step.

layers.py calls it where ``check_finite`` is set, training.py for the loss. Looking costs one pass over the numbers;
only when one is not finite the steps are walked again, one by one, to find the first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core

__all__ = [
    "NotFiniteError",
    "check",
    "check_gradient_vector",
    "check_parameters",
    "checking",
    "first_gradient",
    "first_loss",
    "first_state",
]

Array = NDArray[Any]


class NotFiniteError(FloatingPointError):
    """A NaN or an infinity, found by ``check_finite``.

    Attributes
    ----------
    row, step : int or None
        Of the batch at hand; None where the number belongs to none (a parameter).
    """

    def __init__(self, message: str, row: int | None = None, step: int | None = None) -> None:
        super().__init__(message)
        self.row, self.step = row, step


def check(where: str, a: Array | None, lengths: Array | None = None, *, steps: bool = True) -> None:
    """Raise unless all of a (N, T, ...) is finite up to the lengths; without `steps`, (N, ...).

    The first is the one of the earliest step and, within it, of the first row.
    """
    if a is None or a.dtype.kind != "f" or np.isfinite(a).all():
        return
    wrong = ~np.isfinite(a)
    if steps and lengths is not None:
        wrong &= (np.arange(a.shape[1]) < lengths[:, None]).reshape(*a.shape[:2], *(1,) * (a.ndim - 2))
    places = np.argwhere(wrong)
    if len(places) == 0:
        return
    if steps:
        place = places[np.lexsort((places[:, 0], places[:, 1]))[0]]
        row, step, unit = int(place[0]), int(place[1]), place[2:]
        at = f" of row {row} at step {step}"
    else:
        place = places[0]
        row, step, unit = int(place[0]), None, place[1:]
        at = f" of row {row}"
    text = f"[{', '.join(map(str, unit))}]" if unit.size else ""
    raise NotFiniteError(f"{where}{text}{at} is {a[tuple(place)]}", row, step)


def check_parameters(layer: str, parameters: Mapping[str, Array], kind: str = "parameter") -> None:
    """Raise unless all parameters, or their gradients, are finite."""
    for name, value in parameters.items():
        if not np.isfinite(value).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
            at = f"[{', '.join(map(str, place))}]"
            raise NotFiniteError(f"{layer}: {kind} {name}{at} is {value[place]}")


def first_state(
    where: str,
    cell: str,
    weights: tuple[Array, Array, Array | None],
    x: Array,
    state: tuple[Array, ...] | None,
    lengths: Array | None,
    reverse: bool,
    rows: Array,
) -> None:
    """Walk these rows again, step by step, and raise at the first state that is not finite.

    x: (N, T, D) or (N, T) ids   state: of (N, H) each   lengths: (N,)
    The same bits as in one call: so the core promises.
    """
    Wx, Wh, b = weights
    n = np.full(len(x), x.shape[1]) if lengths is None else lengths
    states: Any = None if state is None else tuple(np.asarray(s)[rows] for s in state)
    for k in range(int(n[rows].max(initial=0))):
        active = n[rows] > k
        t = np.where(active, n[rows] - 1 - k if reverse else k, 0)
        one = x[rows, t][:, None]
        _, states, _ = _core.forward(
            cell, one, Wx, Wh, b, states, active.astype(np.int64), False, False, None, None, None
        )
        for name, s in zip(("h", "c"), states, strict=False):
            for i in np.flatnonzero(~np.isfinite(s).all(axis=1)):
                row, step, unit = int(rows[i]), int(t[i]), int(np.flatnonzero(~np.isfinite(s[i]))[0])
                raise NotFiniteError(f"{where}: {name}[{unit}] of row {row} at step {step} is {s[i, unit]}", row, step)


def first_gradient(
    where: str,
    cell: str,
    weights: tuple[Array, Array, Array | None],
    x: Array,
    state: tuple[Array, ...] | None,
    lengths: Array | None,
    reverse: bool,
    dh: Array | None,
    dstate: tuple[Array | None, ...] | None,
    rows: Array,
) -> None:
    """Go back through these rows again and raise at the first step whose gradients are not finite.

    A layer that reads x Wx through the identity has the gradients of the pre-activations for its dx.
    """
    Wx, Wh, b = weights
    n = np.full(len(x), x.shape[1]) if lengths is None else lengths
    identity = np.eye(Wx.shape[1], dtype=Wx.dtype)
    found: tuple[int, int, int] | None = None  # steps walked, row, step
    for row in rows:
        one = slice(row, row + 1)
        length = int(n[row])
        read = Wx[x[one, :length]] if x.dtype.kind in "iu" else x[one, :length] @ Wx
        _, _, tape = _core.forward(
            cell, read, identity, Wh, b, None if state is None else tuple(np.asarray(s)[one] for s in state),
            None, reverse, True, None, None, None,
        )  # fmt: skip
        assert tape is not None
        dx: Any = _core.backward(
            tape, None if dh is None else np.ascontiguousarray(dh[one, :length]),
            None if dstate is None else tuple(None if s is None else s[one] for s in dstate), None, True, None,
        )[0]  # fmt: skip
        steps = np.flatnonzero(~np.isfinite(dx[0]).all(axis=1))
        if steps.size:
            step = int(steps.min() if reverse else steps.max())
            walked = length - 1 - step if reverse else step
            if found is None or walked > found[0]:
                found = walked, int(row), step
    if found is not None:
        _, row, step = found
        raise NotFiniteError(f"{where}: a gradient of row {row} at step {step} is not finite", row, step)


def check_gradient_vector(model: Any) -> None:
    """Raise unless the gradient of every parameter is finite: for models whose layers have not looked."""
    g = model.gradient_vector
    if not np.isfinite(g).all():
        place = int(np.argmin(np.isfinite(g)))
        raise NotFiniteError(f"gradient_vector[{place}] is {g[place]}")


def first_loss(loss: Callable[..., tuple[float, Array]], outputs: Array, y: Any, lengths: Array | None) -> None:
    """Raise at the first sequence, or step of one, whose loss alone is not finite. lengths: None, one for each."""
    steps = 1 if lengths is None else int(lengths.max(initial=0))
    for step in range(steps):
        for row in range(len(outputs)):
            if lengths is not None and step >= lengths[row]:
                continue
            one: Any = slice(row, row + 1) if lengths is None else (slice(row, row + 1), slice(step, step + 1))
            value, _ = loss(
                outputs[one], y[one], lengths=None if lengths is None else np.ones(1, int), normalizer="sum"
            )
            if not np.isfinite(value):
                at = "" if lengths is None else f" at step {step}"
                raise NotFiniteError(f"loss of row {row}{at} is {value}", row, None if lengths is None else step)
    raise NotFiniteError("the sum of the losses is not finite, though each of them is")


@contextlib.contextmanager
def checking(model: Any, on: bool) -> Iterator[None]:
    """The layers of a model look for NaN and infinity until the end, where `on`."""
    layers = list(getattr(model, "layers", {}).values()) if on else []
    before = [layer.check_finite for layer in layers]
    try:
        for layer in layers:
            layer.check_finite = True
        yield
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer.check_finite = was
