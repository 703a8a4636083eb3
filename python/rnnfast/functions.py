"""The two functions on plain arrays, and the settings of the process.

For users with NumPy code of their own. Everything is checked and computed in ``_core``; this module gives it names,
keywords and documentation, and must not know of layers or training.
"""

from __future__ import annotations

import platform
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import _core
from ._core import Stream, Tape
from .reference import Gradients, Output

__all__ = [
    "Gradients",
    "MemoryEstimate",
    "Output",
    "PackedWeights",
    "Stream",
    "Tape",
    "backward",
    "cells",
    "forward",
    "get_num_threads",
    "memory_estimate",
    "set_num_threads",
    "show_config",
]


def forward(
    cell: str,
    x: ArrayLike,
    Wx: ArrayLike,
    Wh: ArrayLike,
    b: ArrayLike | None = None,
    state: tuple[ArrayLike | None, ...] | None = None,
    *,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    keep_tape: bool = True,
    num_threads: int | None = None,
    recompute: int | None = None,
) -> Output:
    """Run one recurrent layer over a batch of sequences.

    With σ the logistic function and ⊙ the elementwise product, each step computes::

        rnn_*   h' = φ(x Wx + h Wh + b)                              φ = tanh, relu or sigmoid
        lstm    i, f, o = σ(·),  g = tanh(·)  of  x Wx + h Wh + b    c' = f⊙c + i⊙g,  h' = o⊙tanh(c')
        gru     r, z = σ(x Wx + h Wh + b)                            h' = (1−z)⊙n + z⊙h
                n = tanh(x Wxn + b_n + r⊙(h Whn + b_nh))
        gru_reset_before        as gru, but n = tanh(x Wxn + b_n + (r⊙h) Whn)

    Parameters
    ----------
    cell : str
        One of :func:`cells`: ``"rnn_tanh"``, ``"rnn_relu"``, ``"rnn_sigmoid"``, ``"lstm"``, ``"gru"``,
        ``"gru_reset_before"``.
    x : array, (N, T, D) floating or (N, T) integer
        Inputs; integers are token ids in [0, D), which mean the one-hot encoding and never form it. A time-major
        array is passed as ``np.swapaxes(x, 0, 1)``: nothing is copied.
    Wx : array, (D, G*H)
        Input weights; G = 1 (rnn), 4 (lstm, blocks i, f, g, o), 3 (both gru, blocks r, z, n).
    Wh : array, (H, G*H)
        Recurrent weights, in the same blocks.
    b : array, (G*H,), for gru (4*H,), optional
        Bias; gru has b_r, b_z, b_n of the input side, then b_nh of the recurrent side.
    state : tuple of arrays (N, H), optional
        ``(h,)``, for lstm ``(h, c)``, before the first step; None (the whole or an item) is zero.
    lengths : array of integers, (N,), optional
        Valid steps of each sequence, 0..T, in any order. Later steps are not computed: their ``h`` is 0, and what
        the padding of ``x`` holds reaches nothing. Length 0 leaves the initial state.
    reverse : bool
        Walk each sequence from its own last valid step to its first; ``h[:, t]`` still belongs to ``x[:, t]``.
    keep_tape : bool
        Store what :func:`backward` needs. False is inference: less memory, and ``tape`` is None.
    num_threads : int, optional
        OpenMP threads, at most one for each million flops (some 20 µs) and four for each processor; None is
        :func:`get_num_threads`. Results have the same bits for every number.
    recompute : int, optional
        For long sequences: keep the states before every ``recompute``-th step alone, and let :func:`backward` compute
        the rest again, one such segment at a time. The tape shrinks to about ``1 / recompute``, the gradients keep
        their bits, and training takes about a third longer. None keeps everything; see :func:`memory_estimate`.

    Returns
    -------
    Output
        Named tuple of ``h`` (N, T, H), ``state`` (after the last valid step) and ``tape``.

    Raises
    ------
    ValueError
        An unknown cell, a wrong shape, a length outside 0..T, a token id outside [0, D): the message names the
        argument, what was expected and what came.
    TypeError
        Arrays that are not float32 or float64, or not all of one dtype.

    Notes
    -----
    All floating arrays share one dtype, float32 or float64; any strides and byte order will do; inputs are never
    written to. The tape keeps its inputs alive; changing one in place before the backward pass gives wrong gradients.

    References
    ----------
    Elman (1990), Finding structure in time. Hochreiter and Schmidhuber (1997), Long short-term memory; Gers et al.
    (2000) for the forget gate. Cho et al. (2014), Learning phrase representations using RNN encoder-decoder, which is
    gru_reset_before; gru applies r after the product, as cuDNN does. Chen et al. (2016), Training deep nets with
    sublinear memory cost, for ``recompute``.

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> rng = np.random.default_rng(0)
    >>> N, T, D, H = 2, 5, 3, 4
    >>> x, Wx, Wh = (rng.normal(size=s) for s in [(N, T, D), (D, 4 * H), (H, 4 * H)])
    >>> h, (h_n, c_n), tape = rnnfast.forward("lstm", x, Wx, Wh, lengths=[5, 3])
    >>> h.shape, bool((h[1, 3:] == 0).all()), bool((h_n[1] == h[1, 2]).all())
    ((2, 5, 4), True, True)
    """
    return Output(*_core.forward(cell, x, Wx, Wh, b, state, lengths, reverse, keep_tape, num_threads, recompute, None))


def backward(
    tape: Tape,
    dh: ArrayLike | None = None,
    dstate: tuple[ArrayLike | None, ...] | None = None,
    *,
    num_threads: int | None = None,
    dx: bool = True,
) -> Gradients:
    """Back-propagate through time: the gradients of every argument of a forward pass.

    For a loss L, given ∂L/∂h and ∂L/∂state, with dgates the gradients of the pre-activations::

        dx = dgates Wxᵀ    dWx = Σ xᵀ dgates    dWh = Σ h_previousᵀ dgates    db = Σ dgates

    Parameters
    ----------
    tape : Tape
        From :func:`forward`; it serves one backward pass.
    dh : array, (N, T, H), optional
        Gradient of ``h``; None is zero. What it holds past a sequence's length reaches nothing.
    dstate : tuple of arrays (N, H), optional
        Gradients of the final states; None (the whole or an item) is zero.
    num_threads : int, optional
        As in :func:`forward`.
    dx : bool
        False leaves the gradient of ``x`` out, which saves its product where nobody asks for it.

    Returns
    -------
    Gradients
        Named tuple: ``x`` (None for token ids and without ``dx``), ``Wx``, ``Wh``, ``b`` (None without a bias), and
        ``state``, the gradients of the initial states. Those of a sequence of length 0 are the given ``dstate``.

    Raises
    ------
    RuntimeError
        The tape was used before.
    ValueError, TypeError
        As in :func:`forward`.

    References
    ----------
    Werbos (1990), Backpropagation through time: what it does and how to do it.

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> x, Wx, Wh = np.ones((1, 2, 1)), np.ones((1, 1)), np.ones((1, 1))
    >>> h, state, tape = rnnfast.forward("rnn_relu", x, Wx, Wh)
    >>> rnnfast.backward(tape, dh=np.ones_like(h)).Wx  # h1 = w, h2 = w (1 + u): the sum grows by 1 + 2
    array([[3.]])
    """
    if not isinstance(tape, Tape):
        raise TypeError(f"tape: expected the tape of a forward pass, got {type(tape).__name__}")
    return Gradients(*_core.backward(tape, dh, dstate, num_threads, dx, None))


class PackedWeights:
    """Weights packed once, for inference that uses them again and again.

    :func:`forward` packs its weights in each call, which counts where sequences are few and short; this keeps them.
    The numbers are those of ``forward(cell, x, Wx, Wh, b, ..., keep_tape=False)``, to the bit.

    Parameters
    ----------
    cell : str
    Wx : array, (D, G*H)
    Wh : array, (H, G*H)
    b : array, (G*H,), for gru (4*H,), optional
        As for :func:`forward`. Copies are kept.

    Notes
    -----
    Several threads may use one object. The first pass with floating ``x``, and the first with token ids, packs, and
    holds the interpreter meanwhile.

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> x, Wx, Wh = np.ones((1, 2, 1)), np.ones((1, 1)), np.ones((1, 1))
    >>> weights = rnnfast.PackedWeights("rnn_relu", Wx, Wh)
    >>> weights.forward(x).h[0, :, 0]  # h1 = 1, h2 = 1 + 1
    array([1., 2.])
    """

    def __init__(self, cell: str, Wx: ArrayLike, Wh: ArrayLike, b: ArrayLike | None = None) -> None:
        self._weights = _core.PackedWeights(cell, Wx, Wh, b)

    def forward(
        self,
        x: ArrayLike,
        state: tuple[ArrayLike | None, ...] | None = None,
        *,
        lengths: ArrayLike | None = None,
        reverse: bool = False,
        num_threads: int | None = None,
    ) -> Output:
        """Run the layer over a batch, as :func:`rnnfast.forward` does; ``tape`` is None."""
        return Output(
            *_core.forward(self._weights, x, None, None, None, state, lengths, reverse, False, num_threads, None, None)
        )


class MemoryEstimate(NamedTuple):
    """Bytes of one layer's training step, beside the arrays that the caller passes in; see :func:`memory_estimate`.

    Examples
    --------
    >>> import rnnfast
    >>> rnnfast.memory_estimate("rnn_tanh", 2, 3, 4, 5).outputs  # h (2, 3, 5) and the final state (2, 5) in float32
    160
    """

    outputs: int
    tape: int
    gradients: int
    workspace: int
    peak: int


def memory_estimate(
    cell: str,
    N: int,
    T: int,
    D: int,
    H: int,
    *,
    dtype: DTypeLike = np.float32,
    ids: bool = False,
    recompute: int | None = None,
    num_threads: int | None = None,
) -> MemoryEstimate:
    """How many bytes a :func:`forward` and a :func:`backward` pass will take, for sequences of T steps.

    Parameters
    ----------
    cell : str
    N, T, D, H : int
        Sequences, steps, features (or tokens), hidden units.
    dtype : float32 or float64
    ids : bool
        The input is token ids: there is no ``dx``.
    recompute, num_threads : int, optional
        As in :func:`forward`.

    Returns
    -------
    MemoryEstimate
        ``outputs`` (h and the final states), ``tape`` (kept between the passes), ``gradients`` (all that
        :func:`backward` returns), ``workspace`` (packed weights and scratch of the pass that takes more, freed by its
        end), and ``peak``, the most that lives at the same time.

    Raises
    ------
    ValueError, TypeError
        An unknown cell or dtype, or a size that is no count.

    Examples
    --------
    >>> import rnnfast
    >>> whole = rnnfast.memory_estimate("lstm", 8, 4096, 64, 128)
    >>> less = rnnfast.memory_estimate("lstm", 8, 4096, 64, 128, recompute=64)
    >>> whole.tape // less.tape > 100, whole.peak // less.peak >= 3
    (True, True)
    """
    try:
        kind = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype: expected float32 or float64, got {dtype!r}") from None
    if kind not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"dtype: expected float32 or float64, got {kind}")
    for name, size in (("N", N), ("T", T), ("D", D), ("H", H), ("recompute", 1 if recompute is None else recompute)):
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or not 0 <= size < 2**31:
            raise ValueError(f"{name}: expected a count below 2**31, got {size!r}")
    if not isinstance(ids, bool | np.bool_):
        raise TypeError(f"ids: expected True or False, got {ids!r}")
    N, T, D, H = int(N), int(T), int(D), int(H)  # of NumPy's, products would overflow
    if recompute is not None and recompute < 1:
        raise ValueError(f"recompute: expected a positive integer, got {recompute!r}")
    if (N * T + D + H + 64) * (D + 4 * H + 64) >= 2**57:  # buffers of so many numbers have no size in 64 bits
        raise ValueError(f"N, T, D, H: expected sizes that a memory can hold, got {N}, {T}, {D}, {H}")
    G, bias_blocks, states = _core.cell_blocks(cell)
    item = kind.itemsize

    def buffers(N: int, T: int) -> list[int]:
        """Those of the core, which counts row by row: beyond a million in a straight line."""
        for n, change in ((N, lambda n: (n, T)), (T, lambda t: (N, t))):
            if n > 2**20:
                near, far = (buffers(*change(part)) for part in (2**19, 2**20))
                return [b + (b - a) * (n - 2**20) // 2**19 for a, b in zip(near, far, strict=True)]
        sizes = _core.buffer_bytes(cell, N, T, D, H, item == 8, bool(ids), int(recompute or 0), num_threads)
        return [int(size) for size in sizes]

    tape, forth, back = buffers(N, T)
    outputs = item * (N * T * H + states * N * H)
    gradients = item * ((0 if ids else N * T * D) + (D + H) * G * H + bias_blocks * H + states * N * H)
    peak = outputs + tape + max(forth, back + gradients)
    return MemoryEstimate(outputs, tape, gradients, max(forth, back), peak)


def cells() -> list[str]:
    """Names of the cells that :func:`forward` takes.

    Examples
    --------
    >>> import rnnfast
    >>> "lstm" in rnnfast.cells()
    True
    """
    return _core.cells()


def set_num_threads(n: int) -> None:
    """Set how many threads a call uses that does not say so itself.

    At import this is ``RNNFAST_NUM_THREADS``, else ``OMP_NUM_THREADS``, else the number of processors that the
    process may use.

    Raises
    ------
    ValueError, TypeError
        n is not a positive integer.

    Examples
    --------
    >>> import rnnfast
    >>> before = rnnfast.get_num_threads()
    >>> rnnfast.set_num_threads(1)
    >>> rnnfast.get_num_threads()
    1
    >>> rnnfast.set_num_threads(before)
    """
    _core.set_num_threads(n)


def get_num_threads() -> int:
    """How many threads a call uses that does not say so itself; see :func:`set_num_threads`.

    Where OpenMP has been limited to fewer since then, in the calling thread, as ``threadpoolctl`` does it for all
    libraries of the process (and ``torch.set_num_threads``, where PyTorch shares the OpenMP library), it is so many.

    Examples
    --------
    >>> import rnnfast
    >>> rnnfast.get_num_threads() >= 1
    True
    """
    return _core.get_num_threads()


def show_config(file: Any = None) -> None:
    """Print versions, compiler, the instruction sets compiled, found and chosen, and the threads.

    ``RNNFAST_ISA`` in the environment forces an instruction set; a missing or unknown one fails at import.

    Parameters
    ----------
    file : text file, optional
        Where to print; None is standard output.

    Examples
    --------
    >>> import rnnfast
    >>> rnnfast.show_config()  # doctest: +ELLIPSIS
    rnnfast ...
    """
    from . import __version__

    if file is not None and not hasattr(file, "write"):
        raise TypeError(f"file: expected a text file, got {file!r:.60}")
    print(f"rnnfast {__version__}, numpy {np.__version__}, Python {platform.python_version()}", file=file)
    print(f"compiler: {_core.compiler()}, {platform.system()} {platform.machine()}", file=file)
    print("instruction sets (RNNFAST_ISA forces one):", file=file)
    for isa in _core.instruction_sets():
        note = "chosen" if isa["chosen"] else "found" if isa["available"] else "not on this processor"
        print(f"  {isa['name']:10}{note:24}{isa['flags']}", file=file)
    print(f"threads: {get_num_threads()}", file=file)
