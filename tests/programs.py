"""What the programs that several test files run share: calls of everything, on arrays that the caller places.

A program is run by its path, so that it finds this file and conftest.py by name; a test does not.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Any

import numpy as np
import rnnfast
from rnnfast import _core

DTYPES = (np.float32, np.float64)
LAYOUTS = ("C", "transposed", "reversed", "spread")


class Ordinary:
    """Places copies anywhere, with the guard, if there were one, at their end."""

    side = "end"

    def __call__(self, array: Any) -> Any:
        return None if array is None else np.array(array, order="C")


class InPlace(Ordinary):
    def __call__(self, array: Any) -> Any:
        return array


def lay(put: Any, array: np.ndarray, layout: str) -> Any:
    """The same array with other strides, all of its numbers between the first and the last one in memory."""
    if array.dtype.kind != "f" or layout == "C" or array.size == 0:
        return put(array)
    if layout == "transposed":
        return put(array.T).T
    if layout == "reversed":
        back = (slice(None, None, -1),) * array.ndim
        return put(array[back])[back]
    spread = put(np.full(2 * array.size - 1, np.nan, array.dtype))  # every second number
    view = np.lib.stride_tricks.as_strided(spread, array.shape, [2 * s for s in np.ascontiguousarray(array).strides])
    view[...] = array
    return view


def beside(put: Any, array: np.ndarray) -> tuple[Any, Any]:
    """Rows of twice the width, the half that the guard is next to being the array, and the other half."""
    H = array.shape[2]
    both = put(np.full((*array.shape[:2], 2 * H), np.nan, array.dtype))
    half, other = (both[:, :, H:], both[:, :, :H]) if put.side == "end" else (both[:, :, :H], both[:, :, H:])
    half[...] = array
    return half, other


def passes(put: Any, p: Any, layout: str) -> dict[str, Any]:
    """Results of every kind of pass over one problem, on arrays that `put` places."""
    x, Wx, Wh = (lay(put, a, layout) for a in (p.x, p.Wx, p.Wh))
    b, lengths = put(p.b), put(p.lengths)
    state = None if p.state is None else tuple(map(put, p.state))
    dstate = tuple(map(put, p.dstate))
    results: dict[str, Any] = {}

    def keep(kind: str, *arrays: Any) -> None:
        results.update({f"{kind}[{i}]": a for i, a in enumerate(arrays)})

    for recompute in (None, 2):
        h, other = beside(put, np.zeros_like(p.dh))
        arguments = (x, Wx, Wh, b, state, lengths, p.reverse, True, None, recompute, h)
        _, final, tape = _core.forward(p.cell, *arguments)
        keep(f"forward, recompute={recompute}", h, *final)
        assert np.isnan(other).all(), "written beside the rows of h"
        dh, _ = beside(put, p.dh)
        out = tuple(put(None if a is None else np.full_like(a, np.nan)) for a in (p.Wx, p.Wh, p.b))
        dx, _, _, _, dinitial = _core.backward(tape, dh, dstate, None, True, out)
        keep(f"backward, recompute={recompute}", dx, *out, *dinitial)
    h = put(np.zeros_like(p.dh))
    packed = _core.PackedWeights(p.cell, Wx, Wh, b)
    for kind, weights in (("no tape", (p.cell, x, Wx, Wh, b)), *[("packed", (packed, x, None, None, None))] * 2):
        _, final, _ = _core.forward(*weights, state, lengths, p.reverse, False, None, None, h)
        keep(kind, h.copy(), *final)
    stream = rnnfast.Stream(p.cell, Wx, Wh, b, len(p.x))
    stream.state = state
    h = put(np.zeros(p.dh.shape[::2], p.dh.dtype))
    for t in range(p.x.shape[1]):
        keep(f"step {t}", stream.step(x[:, t], out=h).copy(), stream.step(lay(put, p.x[:, t], layout)), *stream.state)
    return results


def operations(put: Any, dtype: Any, N: int, T: int, H: int, K: int, ragged: bool, seed: int) -> dict[str, Any]:
    """Results of the operations of a training step, on arrays that `put` places."""
    rng = np.random.default_rng([seed, N, T, H, K])

    def numbers(*shape: int) -> Any:
        return put(rng.normal(size=shape).astype(dtype))

    n = np.full(N, T)
    if ragged:
        n = rng.integers(0, T + 1, N)
    lengths = put(n)
    x, W, b, d, dW, db = (numbers(*s) for s in ((N, T, H), (H, K), (K,), (N, T, K), (H, K), (K,)))
    results = {"dense": _core.dense(x, W, b, lengths), "all": _core.dense(x, W, b, None)}
    results["dx"] = _core.dense_gradient(x, W, d, dW, db, lengths)
    results |= {"dW": dW, "db": db}
    ids, E, dE = put(rng.integers(0, K, (N, T))), numbers(K, H), numbers(K, H)
    results["gather"] = _core.gather(ids, lengths, E)
    _core.scatter(ids, lengths, numbers(N, T, H), dE)
    results["scatter"] = dE
    places = [_core.first_outside(ids, lengths, limit) for limit in (K, 1, 0)]
    for name, weight in (("loss", None), ("weighted", put(rng.uniform(size=K)))):
        loss, results[name + ", gradient"] = _core.softmax_cross_entropy(
            d, ids, lengths, put(rng.uniform(size=N)), weight
        )
        places.append(loss)
    results["softmax"] = _core.softmax(d)
    size = N * T * H
    for rule, count in (("sgd", 0), ("momentum", 1), ("nesterov", 1), ("adam", 2), ("adagrad", 1)):
        theta, g, *moments = numbers(size), numbers(size), *(put(abs(numbers(size))) for _ in range(count))
        _core.optimize(rule, theta, g, moments, 0.99, 0.1, (0.9, 0.99), 0.5, 1e-8)
        results |= {rule: theta} | {f"{rule}[{i}]": m for i, m in enumerate(moments)}
    v = numbers(size)
    places.append(_core.sum_of_squares(v))
    _core.scale(v, 1.5)
    _core.clip(v, 1.0)
    return results | {"clip": v, "numbers": np.array(places)}


def layers(put: Any, dtype: Any, N: int, T: int, H: int, K: int, ragged: bool, seed: int) -> dict[str, Any]:
    """Parameters after a training step of layers whose two vectors `put` places, and what the passes return."""
    rng = np.random.default_rng([seed, N, T, H, K])
    embedding = rnnfast.Embedding(K, H, dtype=dtype, seed=seed)
    recurrent = rnnfast.GRU(H, H, 2, True, dtype=dtype, seed=seed)
    dense = rnnfast.Dense(2 * H, K, dtype=dtype, seed=seed)
    for layer in (embedding, recurrent, dense):
        layer.bind(put(layer.vector), put(layer.gradient_vector))
    ids, y = put(rng.integers(0, K, (N, T))), put(rng.integers(0, K, (N, T)))
    lengths = put(rng.integers(0, T + 1, N)) if ragged else None
    h, state = recurrent.forward(embedding.forward(ids, lengths=lengths, training=True), lengths=lengths, training=True)
    logits = dense.forward(put(h), lengths=lengths, training=True)
    _, d = rnnfast.softmax_cross_entropy(put(logits), y, lengths=lengths)
    dx, dstate = recurrent.backward(put(dense.backward(put(d))), tuple(map(put, state)))
    embedding.backward(put(dx))
    results = {"h": h, "logits": logits, "d": d, "dx": dx, "state": state[0], "dstate": dstate[0]}
    for layer in (embedding, recurrent, dense):
        norm = rnnfast.clip_by_global_norm(layer.gradient_vector, 1.0)
        rnnfast.Adam(0.1).step(layer.vector, layer.gradient_vector)
        name = type(layer).__name__
        results |= {name: layer.vector, f"{name}, gradients": layer.gradient_vector, f"{name}, norm": np.array(norm)}
    return results


class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ("0", "1", "2", "3", "mapped", "5", "6", "used", "8", "9")]


def bytes_in_use() -> int:
    """What malloc has given out; 0 where it does not say."""
    gc.collect()
    function = getattr(ctypes.CDLL(None), "mallinfo2", None)  # of glibc 2.33 or later
    if function is None:
        return 0
    function.restype = Mallinfo
    info = function()
    return int(info.used + info.mapped)
