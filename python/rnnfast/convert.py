"""Weights of recurrent layers to and from other systems, as NumPy arrays; weight files with PyTorch's names.

========  ==========  =======  ======================  ============================================================
system    LSTM        GRU      weights of the input    biases
========  ==========  =======  ======================  ============================================================
rnnfast   i, f, g, o  r, z, n  (D, G*H)                one; gru has four blocks: r, z, n, then n of the state's side
pytorch   i, f, g, o  r, z, n  (G*H, D)                two, of the input's and of the state's side
cudnn     i, f, g, o  r, z, n  opaque                  none, one or two
keras     i, f, g, o  z, r, n  (D, G*H)                one; (2, 3*H) of a GRU with reset_after
onnx      i, o, f, g  z, r, n  (directions, G*H, D)    (directions, 2*G*H)
flax      i, f, g, o  r, z, n  (D, H) for each gate    LSTM on the state's side, GRU on the input's and one more for n
cs231n    i, f, o, g           (D, G*H)                one
onednn    i, f, g, o  z, r, n  ldigo                   one; linear-before-reset GRU four: z, r, n, n of the state's side
openvino  f, i, g, o  z, r, n  (directions, G*H, D)    one; linear-before-reset GRU four
haste     i, g, f, o  z, r, n  (D, G*H)                LSTM one, GRU two
========  ==========  =======  ======================  ============================================================

g is also called c; z also u; n also h or o. Where a system adds two biases, they become one here, and on the way back
the second is 0; b_nh of ``"gru"``, n = tanh(x Wxn + b_n + r⊙(h Whn + b_nh)), is another number and is kept. What is
given is checked as a whole: a ValueError lists all entries that are missing, not expected, or of another shape or
dtype, and nothing is loaded. float16 and float32 become float64 where a layer is, not the reverse; NaN may be anywhere.
No framework is imported. Called by users; layouts.py does the work.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save as to_bytes

from .files import ModelFileError, write_atomically
from .layers import Array, Layer, Recurrent, check_flags
from .layouts import ORDERS, arrays_of, entries_of, exported, given_by_name, imported, load_layers, pytorch_of
from .network import Model

__all__ = [
    "ORDERS", "from_cs231n", "from_flax", "from_keras", "from_onnx", "from_pytorch", "load", "load_pytorch",
    "reorder_gates", "save", "to_cs231n", "to_flax", "to_keras", "to_onnx", "to_pytorch",
]  # fmt: skip

_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # bfloat16: the upper half of a float32


def reorder_gates(array: ArrayLike, source: str, target: str, axis: int = -1) -> Array:
    """Put blocks of one size along an axis into another order; returns a copy.

    Parameters
    ----------
    array : array
    source, target : str
        A letter for each block, in the order that `array` has and in that it is to have: see ``ORDERS``.
    axis : int

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast.convert import ORDERS, reorder_gates
    >>> reorder_gates(np.array([0, 1, 20, 21, 30, 31]), source="zrn", target="rzn")
    array([20, 21,  0,  1, 30, 31])
    >>> kernel = np.zeros((3, 16))  # of an LSTM with D = 3, H = 4
    >>> reorder_gates(kernel, ORDERS["keras"]["lstm"], ORDERS["onnx"]["lstm"]).T.shape  # as ONNX has it
    (16, 3)
    """
    array = np.asarray(array)
    for name, value, kind, text in (
        ("source", source, str, "a str"),
        ("target", target, str, "a str"),
        ("axis", axis, int | np.integer, "an integer"),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"{name}: expected {text}, got {value!r}")
    if not source or len(set(source)) != len(source):
        raise ValueError(f"source: expected a letter of its own for each gate, got {source!r}")
    if sorted(source) != sorted(target):
        raise ValueError(f"target: expected the letters of source = {source!r} in some order, got {target!r}")
    if not -array.ndim <= axis < array.ndim or array.shape[axis] % len(source):
        raise ValueError(f"array: expected {len(source)} blocks of one size along axis {axis}, got {array.shape}")
    places = np.arange(array.shape[axis]).reshape(len(source), -1)
    return array.take(places[[source.index(gate) for gate in target]].reshape(-1), axis)


def to_pytorch(module: Layer | Model, prefix: str = "") -> dict[str, Array]:
    """What ``load_state_dict`` of the same module in PyTorch takes, as copies.

    Parameters
    ----------
    module : RNN, LSTM, GRU, Dense, Embedding, or Network
        In PyTorch ``RNN``, ``LSTM``, ``GRU``, ``Linear``, ``Embedding``, and a module that has a Network's parts under
        their names: ``"embedding.weight"``, ``"recurrent.weight_ih_l0"``, ``"dense.bias"``. ``gru_reset_before`` and
        ``rnn_sigmoid`` have no twin in PyTorch: ValueError.
    prefix : str
        Stands before every name.

    Returns
    -------
    dict
        For each layer k and direction (suffix ``_reverse``): ``weight_ih_lk`` (G*H, D), ``weight_hh_lk`` (G*H, H),
        ``bias_ih_lk`` and ``bias_hh_lk`` (G*H,); the last is 0 but for b_nh.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html, torch.nn.GRU.html: names and equations.

    Examples
    --------
    >>> import rnnfast
    >>> {name: a.shape for name, a in rnnfast.convert.to_pytorch(rnnfast.GRU(3, 4, bias=False), "encoder.").items()}
    {'encoder.weight_ih_l0': (12, 3), 'encoder.weight_hh_l0': (12, 4)}
    """
    return pytorch_of(module, prefix)


def load_pytorch(module: Layer | Model, state_dict: Mapping[str, ArrayLike], prefix: str = "") -> None:
    """Put PyTorch's weights into a module, in place: all of them, or, where an entry is wrong, none.

    Parameters
    ----------
    module : RNN, LSTM, GRU, Dense, Embedding, or Network
    state_dict : mapping
        As :func:`to_pytorch` returns it: arrays, or tensors on the CPU, ``model.state_dict()``.
    prefix : str
        Of the names to read; others are left aside.

    Examples
    --------
    >>> import rnnfast
    >>> layer, other = rnnfast.LSTM(3, 4, seed=0), rnnfast.LSTM(3, 4, seed=1)
    >>> rnnfast.convert.load_pytorch(layer, rnnfast.convert.to_pytorch(other))
    >>> bool((layer.vector == other.vector).all())
    True
    >>> rnnfast.convert.load_pytorch(layer, rnnfast.convert.to_pytorch(rnnfast.LSTM(5, 4, bias=False)))
    Traceback (most recent call last):
        ...
    ValueError: state_dict: expected other entries:
      weight_ih_l0: expected (16, 3) of float32, got (16, 5) of float32
      bias_ih_l0: expected (16,) of float32, got none
      bias_hh_l0: expected (16,) of float32, got none
    """
    load_layers("state_dict", module, given_by_name(state_dict, prefix), prefix, ValueError)


def from_pytorch(
    state_dict: Mapping[str, ArrayLike], *, prefix: str = "", cell: str | None = None, **settings: Any
) -> Recurrent:
    """Make an RNN, LSTM or GRU of the ``state_dict`` of PyTorch's; sizes, layers, directions and bias are read off it.

    Parameters
    ----------
    state_dict : mapping
        As in :func:`load_pytorch`. One of an LSTM with ``proj_size`` is refused.
    prefix : str
        Of the names to read; others are left aside.
    cell : str, optional
        None: told by the number of gates, one being ``"rnn_tanh"``, whose weights ``"rnn_relu"`` has as well.
    **settings :
        ``dtype``, ``dropout`` and others of the layer; without dtype, float64 if an array is, else float32.

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> weights = {"rnn.weight_ih_l0": np.ones((12, 5)), "rnn.weight_hh_l0": np.ones((12, 4)), "head.bias": np.ones(2)}
    >>> layer = rnnfast.convert.from_pytorch(weights, prefix="rnn.")
    >>> layer.cell, layer.input_size, layer.hidden_size, layer.dtype
    ('gru', 5, 4, dtype('float64'))
    """
    arrays = given_by_name(state_dict, prefix)
    if cell is None:
        shapes = {name: a.shape for name, a in arrays.items() if name.startswith(f"{prefix}weight_hh_l")}
        gates = Counter(s[0] // s[1] for s in shapes.values() if len(s) == 2 and s[1] and s[0] % s[1] == 0)
        cell = {1: "rnn_tanh", 3: "gru", 4: "lstm"}.get(gates.most_common(1)[0][0] if gates else 0)
        if cell is None:
            raise ValueError(
                f"state_dict: expected {prefix}weight_hh_l0, (G*H, H) with G = 1, 3 or 4 for rnn, gru or lstm, "
                f"got {shapes or 'none'} among {list(arrays)}"
            )
    pattern = re.compile(re.escape(prefix) + "(?:weight|bias)_[ih]h_l(0|[1-9][0-9]{0,5})(_reverse)?")
    found = [match for match in map(pattern.fullmatch, arrays) if match]
    num_layers = 1 + min(max((int(match[1]) for match in found), default=0), len(found))  # one name can claim any layer
    directions = 2 if any(match[2] for match in found) else 1
    bias = any(match[0].startswith(f"{prefix}bias") for match in found)
    return imported("state_dict", "pytorch", arrays, settings, cell, num_layers, directions, bias, prefix)


def to_keras(layer: Recurrent) -> list[Array]:
    """The weights of Keras layers, one list for all, as ``set_weights`` of them or of a model of them takes it.

    Returns
    -------
    list of arrays
        For each layer, and where it is bidirectional for each direction, forward first: kernel (D, G*H),
        recurrent_kernel (H, G*H) and, unless ``bias=False``, bias: (2, 3*H) for ``"gru"``, which is
        ``GRU(reset_after=True)``, else (G*H,).

    Source: https://keras.io/api/layers/recurrent_layers/ and the slices in LSTMCell.call and GRUCell.call.

    Examples
    --------
    >>> import rnnfast
    >>> [a.shape for a in rnnfast.convert.to_keras(rnnfast.GRU(3, 4, bidirectional=True))]
    [(3, 12), (4, 12), (2, 12), (3, 12), (4, 12), (2, 12)]
    """
    return list(exported("keras", layer).values())


def from_keras(
    weights: Sequence[ArrayLike], cell: str, *, bidirectional: bool = False, bias: bool = True, **settings: Any
) -> Recurrent:
    """Make an RNN, LSTM or GRU of the weights of Keras layers.

    Parameters
    ----------
    weights : list of arrays
        As :func:`to_keras` returns it, and ``get_weights()`` of a layer, of a ``Bidirectional`` with
        ``merge_mode="concat"``, or of a model of these alone. Where D = H the shapes do not tell two layers from two
        directions: `bidirectional` does.
    cell : str
        ``"gru"`` for ``GRU(reset_after=True)``, ``"gru_reset_before"`` for False; ``"rnn_tanh"`` for ``SimpleRNN``.
    bidirectional, bias : bool
        bias is ``use_bias`` in Keras.
    **settings :
        As in :func:`from_pytorch`.

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> weights = [np.ones((3, 16)), np.ones((4, 16)), np.ones((4, 16)), np.ones((4, 16))]
    >>> layer = rnnfast.convert.from_keras(weights, "lstm", bias=False)
    >>> layer.input_size, layer.hidden_size, layer.num_layers
    (3, 4, 2)
    """
    check_flags(bidirectional=bidirectional, bias=bias)
    if not isinstance(weights, list | tuple):
        raise TypeError(f"weights: expected a list of arrays, got {type(weights).__name__}")
    directions = 1 + bool(bidirectional)
    num_layers = max(1, len(weights) // (directions * (3 if bias else 2)))
    names = [*entries_of("keras", cell, num_layers, directions, bias)]
    names += [f"weights[{k}]" for k in range(len(names), len(weights))]
    given = dict(zip(names, weights, strict=False))  # what is missing is found later
    return imported("weights", "keras", given, settings, cell, num_layers, directions, bias)


def to_onnx(layer: Recurrent) -> tuple[list[Array], list[Array], list[Array] | None]:
    """Weights of ONNX's operators RNN, LSTM and GRU, one for each layer.

    A GRU node must have ``linear_before_reset=1`` for ``"gru"``, and 0, ONNX's default, for ``"gru_reset_before"``.

    Returns
    -------
    W, R : lists of arrays, (directions, G*H, D) and (directions, G*H, H)
    B : list of arrays, (directions, 2*G*H), or None
        The biases of the input's side, then those of the state's.

    Source: https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html.

    Examples
    --------
    >>> import rnnfast
    >>> W, R, B = rnnfast.convert.to_onnx(rnnfast.LSTM(3, 4, num_layers=2, bidirectional=True))
    >>> [w.shape for w in W], R[0].shape, B[0].shape
    ([(2, 16, 3), (2, 16, 8)], (2, 16, 4), (2, 32))
    """
    arrays = exported("onnx", layer)
    W, R, B = ([array for name, array in arrays.items() if name[0] == kind] for kind in "WRB")
    return W, R, B or None


def from_onnx(
    W: ArrayLike | Sequence[ArrayLike],
    R: ArrayLike | Sequence[ArrayLike],
    B: ArrayLike | Sequence[ArrayLike] | None = None,
    *,
    cell: str,
    linear_before_reset: int | None = None,
    **settings: Any,
) -> Recurrent:
    """Make an RNN, LSTM or GRU of the weights of ONNX nodes; peepholes, clip and input_forget have no twin here.

    Parameters
    ----------
    W, R, B : array of one node, or list of arrays, one for each layer
        As :func:`to_onnx` returns them. A single direction is taken as forward.
    cell : str
    linear_before_reset : 0 or 1, optional
        Of a GRU node; 0 where the node has none. With ``cell="gru"`` it must be given: 1 is that cell, 0 makes it
        ``"gru_reset_before"``.
    **settings :
        As in :func:`from_pytorch`.

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> W, R, B = np.ones((1, 12, 3)), np.ones((1, 12, 4)), np.ones((1, 24))
    >>> rnnfast.convert.from_onnx(W, R, B, cell="gru", linear_before_reset=1).parameters["b_l0"]
    array([2., 2., 2., 2., 2., 2., 2., 2., 1., 1., 1., 1., 1., 1., 1., 1.])
    """
    allowed = (0, 1) if cell == "gru" else (0, None)
    if linear_before_reset not in allowed:
        raise ValueError(
            f"linear_before_reset: expected {allowed[0]} or {allowed[1]} for {cell}, got {linear_before_reset}"
        )
    if cell == "gru" and linear_before_reset == 0:
        cell = "gru_reset_before"
    lists = [value if isinstance(value, list | tuple) else [] if value is None else [value] for value in (W, R, B)]
    named = {f"{kind}[{k}]": a for kind, of in zip("WRB", lists, strict=True) for k, a in enumerate(of)}
    given = arrays_of({name: array for name, array in named.items() if array is not None})
    both = sum(array.shape[:1] == (2,) for array in given.values())
    directions = 2 if 2 * both > len(given) else 1
    num_layers = max(1, len(lists[0]), len(lists[1]))
    bias = any(name[0] == "B" for name in given)
    return imported("W, R, B", "onnx", given, settings, cell, num_layers, directions, bias)


def to_flax(layer: Recurrent) -> list[dict[str, dict[str, Array]]]:
    """Parameters of Flax's cells (linen), for each layer, and where it is bidirectional each direction, forward first.

    ``nnx.LSTMCell`` has the same entries, with ``if_`` for ``if``. nnx's OptimizedLSTMCell, GRUCell and SimpleCell have
    one kernel for input and state each, ``dense_i`` and ``dense_h``: our Wx, Wh and b as they are; GRUCell lacks b_nh.

    Returns
    -------
    list of dicts
        LSTMCell and OptimizedLSTMCell: kernels of ii, if, ig, io (D, H) and hi, hf, hg, ho (H, H), the latter with a
        bias (H,). GRUCell: ir, iz, in with bias; hr, hz without; hn with b_nh. SimpleCell: i with bias; h. Without
        bias it is 0 there. ``gru_reset_before`` has no twin in Flax: ValueError.

    Source: https://flax.readthedocs.io/en/stable/api_reference/flax.linen/layers.html: the cells' equations.

    Examples
    --------
    >>> import rnnfast
    >>> (cell,) = rnnfast.convert.to_flax(rnnfast.GRU(3, 4))
    >>> cell["hr"].keys(), cell["hn"].keys()
    (dict_keys(['kernel']), dict_keys(['kernel', 'bias']))
    """
    cells: dict[str, dict[str, dict[str, Array]]] = {}
    for path, array in exported("flax", layer).items():
        unit, name, kind = path.split("/")
        cells.setdefault(unit, {}).setdefault(name, {})[kind] = array
    return list(cells.values())


def from_flax(
    cells: Mapping[str, Any] | Sequence[Mapping[str, Any]], cell: str, *, bidirectional: bool = False, **settings: Any
) -> Recurrent:
    """Make an RNN, LSTM or GRU of the parameters of Flax's cells.

    Parameters
    ----------
    cells : mapping of one cell, or list of mappings
        As :func:`to_flax` returns them: of ``nn.RNN`` ``variables["params"]["cell"]``, of ``nn.Bidirectional`` those of
        ``"forward_rnn"`` and of ``"backward_rnn"``.
    cell : str
    bidirectional : bool
    **settings :
        As in :func:`from_pytorch`.

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> params = {"i": {"kernel": np.ones((3, 4)), "bias": np.ones(4)}, "h": {"kernel": np.ones((4, 4))}}
    >>> rnnfast.convert.from_flax(params, "rnn_tanh").parameters["Wx_l0"].shape
    (3, 4)
    """
    check_flags(bidirectional=bidirectional)
    units = [cells] if isinstance(cells, Mapping) else cells
    if not isinstance(units, list | tuple) or not all(isinstance(unit, Mapping) for unit in units):
        raise TypeError(f"cells: expected a mapping of one cell, or a list of mappings, got {cells!r:.60}")
    given: dict[str, Any] = {}
    for k, unit in enumerate(units):
        for name, entry in unit.items():
            leaves = entry if isinstance(entry, Mapping) else {"": entry}
            given |= {f"[{k}]/{name}/{kind}": array for kind, array in leaves.items()}
    directions = 1 + bool(bidirectional)
    return imported("cells", "flax", given, settings, cell, max(1, len(units) // directions), directions, True)


def to_cs231n(layer: Recurrent) -> tuple[Array, Array, Array]:
    """Wx (D, G*H), Wh (H, G*H), b (G*H,) of an LSTM or tanh RNN as in CS231n's exercises; one layer, forward.

    Source: https://cs231n.github.io/assignments2021/assignment3/, lstm_step_forward in rnn_layers.py.

    Examples
    --------
    >>> import rnnfast
    >>> [a.shape for a in rnnfast.convert.to_cs231n(rnnfast.LSTM(3, 4))]
    [(3, 16), (4, 16), (16,)]
    """
    if isinstance(layer, Recurrent) and layer.num_layers * layer.directions != 1:
        raise ValueError(f"layer: expected 1 layer and 1 direction, got {layer.num_layers} and {layer.directions}")
    Wx, Wh, b = exported("cs231n", layer).values()
    return Wx, Wh, b


def from_cs231n(Wx: ArrayLike, Wh: ArrayLike, b: ArrayLike, cell: str = "lstm", **settings: Any) -> Recurrent:
    """Make an LSTM, or for ``"rnn_tanh"`` an RNN, of the weights that :func:`to_cs231n` returns.

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> rnnfast.convert.from_cs231n(np.ones((3, 8)), np.ones((2, 8)), np.arange(8.0)).parameters["b_l0"]
    array([0., 1., 2., 3., 6., 7., 4., 5.])
    """
    return imported("weights", "cs231n", {"Wx": Wx, "Wh": Wh, "b": b}, settings, cell, 1, 1, True)


def save(path: str | os.PathLike[str], module: Layer | Model, prefix: str = "") -> None:
    """Write what :func:`to_pytorch` returns to a safetensors file, whole or not at all.

    ``model.load_state_dict(safetensors.torch.load_file(path))`` reads it in PyTorch.

    Examples
    --------
    >>> import os, tempfile, rnnfast
    >>> network, other = (rnnfast.Network(10, 8, 2, embedding_size=4, seed=seed) for seed in (0, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     rnnfast.convert.save(path, network)
    ...     rnnfast.convert.load(path, other)
    >>> bool((network.vector == other.vector).all())
    True
    """
    write_atomically(path, to_bytes(to_pytorch(module, prefix), metadata={"format": "pt"}))


def load(path: str | os.PathLike[str], module: Layer | Model, prefix: str = "") -> None:
    """As :func:`load_pytorch`, from a safetensors file; see :func:`save`.

    ``safetensors.torch.save_file(model.state_dict(), path)`` writes one in PyTorch. float16 and bfloat16 are converted,
    which is exact; float64 is refused where the module is float32.

    Raises
    ------
    ModelFileError
        Not a safetensors file, or one whose entries are not those of the module: lists all that differ.
    OSError
        The file cannot be opened.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: expected a model file, found {'a folder' if Path(path).is_dir() else 'none'}")
    try:
        entries = deserialize(Path(path).read_bytes())  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise ModelFileError(f"{path}: expected a safetensors file, got one that cannot be read ({error})") from error
    found = [(name, entry) for name, entry in entries if name.startswith(prefix)]
    others = [f"{name} of {entry['dtype']}" for name, entry in found if entry["dtype"] not in _FLOATS]
    if others:
        raise ModelFileError(f"{path}: expected entries of {', '.join(_FLOATS)}, got {', '.join(others)}")
    arrays = {}
    for name, entry in found:
        array = np.frombuffer(entry["data"], _FLOATS[entry["dtype"]]).reshape(entry["shape"])
        arrays[name] = (array.astype("<u4") << 16).view("<f4") if entry["dtype"] == "BF16" else array
    load_layers(str(path), module, arrays, prefix, ModelFileError)
