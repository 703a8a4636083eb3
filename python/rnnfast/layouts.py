"""How each system lays out the weights of recurrent layers: the tables, and what moves blocks of one gate by them.

An array is an Entry: blocks of one gate, side by side. What one system has is cut into blocks, which are joined as
another has them. Called by convert.py, whose functions are those for users; knows layers and networks, no files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from .layers import GRU, LSTM, RNN, Array, Dense, Embedding, Layer, Recurrent
from .network import Model

__all__ = ["ORDERS", "arrays_of", "entries_of", "exported", "given_by_name", "imported", "load_layers", "pytorch_of"]

Block = tuple[int, int, str, str]  # layer, direction, side (x, h, b or c), gate
Size = int | str  # a symbol where nothing tells the number

#: The gates in the order of each system, by our letters: i, f, g (elsewhere also c), o; r, z (also u), n (also h, o).
ORDERS = {
    "rnnfast": {"lstm": "ifgo", "gru": "rzn"},
    "pytorch": {"lstm": "ifgo", "gru": "rzn"},
    "cudnn": {"lstm": "ifgo", "gru": "rzn"},
    "keras": {"lstm": "ifgo", "gru": "zrn"},
    "onnx": {"lstm": "iofg", "gru": "zrn"},
    "flax": {"lstm": "ifgo", "gru": "rzn"},
    "cs231n": {"lstm": "ifog"},
    "onednn": {"lstm": "ifgo", "gru": "zrn"},
    "openvino": {"lstm": "figo", "gru": "zrn"},
    "haste": {"lstm": "igfo", "gru": "zrn"},
}

# Name of an entry -> its blocks; * is every gate in the order above. x (D, H) and h (H, H) are of the weights of input
# and state, b and c (H,) of the biases of the two. A name stands for each layer and direction; with {gate}, for each
# gate too. The second line of a system has what is different for a cell.
_LAYOUTS: dict[str, dict[str, str]] = {
    "rnnfast": {"Wx_{name}": "x*", "Wh_{name}": "h*", "b_{name}": "b*"},
    "rnnfast gru": {"b_{name}": "b*cn"},
    "pytorch": {"weight_ih_{name}": "x*", "weight_hh_{name}": "h*", "bias_ih_{name}": "b*", "bias_hh_{name}": "c*"},
    "keras": {"{at} (kernel_{name})": "x*", "{at} (recurrent_kernel_{name})": "h*", "{at} (bias_{name})": "b*"},
    "keras gru": {"{at} (bias_{name})": "b*c*"},
    "onnx": {"W[{layer}]": "x*", "R[{layer}]": "h*", "B[{layer}]": "b*c*"},
    "flax": {"[{unit}]/i{gate}/kernel": "x*", "[{unit}]/h{gate}/kernel": "h*"},
    "flax lstm": {"[{unit}]/h{gate}/bias": "b*"},
    "flax gru": {"[{unit}]/i{gate}/bias": "b*", "[{unit}]/hn/bias": "cn"},
    "flax rnn": {"[{unit}]/i{gate}/bias": "b*"},
    "cs231n": {"Wx": "x*", "Wh": "h*", "b": "b*"},
}
_TRANSPOSED = {"pytorch", "onnx"}  # (G*H, D): blocks stand below each other
CELLS = ("rnn_tanh", "rnn_relu", "rnn_sigmoid", "lstm", "gru", "gru_reset_before")
_LACKS = {
    "pytorch": {"gru_reset_before": "its GRU applies r after the product", "rnn_sigmoid": "its RNN has tanh and relu"},
    "flax": {"gru_reset_before": "its GRUCell applies r after the product"},
    "cs231n": {cell: "it has lstm and rnn_tanh" for cell in ("rnn_relu", "rnn_sigmoid", "gru", "gru_reset_before")},
}
_PARTS = {Dense: {"weight": "W", "bias": "b"}, Embedding: {"weight": "E"}}  # PyTorch's name -> ours


class Entry(NamedTuple):
    """An array of some system: blocks of one gate, joined."""

    blocks: list[Block]
    transposed: bool
    stack: int  # the first axis is cut into so many; 0: it is not


def entries_of(
    system: str, cell: str, num_layers: int, directions: int, bias: bool, prefix: str = ""
) -> dict[str, Entry]:
    """The entries of some layers, by name, in the order that the system has."""
    lacks = _LACKS.get(system, {})
    if not isinstance(cell, str):
        raise TypeError(f"cell: expected a name, got {cell!r}")
    if cell not in CELLS or cell in lacks:
        why = f", which {system} lacks: {lacks[cell]}" if cell in lacks else ""
        raise ValueError(f"cell: expected one of {[c for c in CELLS if c not in lacks]}, got {cell!r}{why}")
    family = cell.split("_")[0]
    gates = "-" if family == "rnn" else ORDERS[system][family]
    layout = _LAYOUTS[system] | _LAYOUTS.get(f"{system} {'rnn' if family == 'rnn' else cell}", {})
    both = system == "onnx"  # directions in one array
    entries: dict[str, Entry] = {}
    for layer in range(num_layers):
        for here in [range(directions)] if both else [[direction] for direction in range(directions)]:
            names = {"name": f"l{layer}{'_reverse' * here[0]}", "layer": layer, "unit": layer * directions + here[0]}
            for template, code in layout.items():
                if code[0] in "bc" and not bias:
                    continue
                for these in gates if "{gate}" in template else [gates]:
                    sides = [(s, g) for s, of in re.findall("(.)(.)", code) for g in (these if of == "*" else of)]
                    name = template.format(gate=these.strip("-"), at=f"weights[{len(entries)}]", **names)
                    stack = directions if both else 2 if (system, code) == ("keras", "b*c*") else 0
                    blocks = [(layer, direction, *side) for direction in here for side in sides]
                    entries[prefix + name] = Entry(blocks, system in _TRANSPOSED, stack)
    return entries


def converted(arrays: Mapping[str, Array], source: dict[str, Entry], target: dict[str, Entry]) -> dict[str, Array]:
    """Arrays laid out as the source says, as the target says: new ones, contiguous."""
    blocks: dict[Block, Array] = {}
    for name, entry in source.items():
        array = arrays[name]
        array = array.reshape(-1, *array.shape[2:]) if entry.stack else array
        parts = np.split(array.T if entry.transposed else array, len(entry.blocks), axis=-1)
        blocks |= dict(zip(entry.blocks, parts, strict=True))
    wanted = {block for entry in target.values() for block in entry.blocks}
    one = next(iter(blocks.values()))
    for block in blocks.keys() - wanted:  # a second bias where there is to be one
        first, second = (*block[:2], "b", block[3]), blocks[block]
        with np.errstate(over="ignore", invalid="ignore"):
            blocks[first] = np.where(second == 0, blocks[first], blocks[first] + second)  # -0 stays
    blocks |= {block: np.zeros(one.shape[-1], one.dtype) for block in wanted - blocks.keys()}
    result = {}
    for name, entry in target.items():
        array = np.concatenate([blocks[block] for block in entry.blocks], axis=-1)
        array = np.ascontiguousarray(array.T if entry.transposed else array)
        result[name] = array.reshape(entry.stack, -1, *array.shape[1:]) if entry.stack else array
    return result


def shape_of(entry: Entry, D: Size, H: Size, directions: int) -> tuple[Size, ...]:
    """The shape of an entry's array."""

    def times(k: int, size: Size) -> Size:
        return k * size if isinstance(size, int) else f"{k}*{size}" if k > 1 else size

    layer, _, side, _ = entry.blocks[0]
    columns = times(len(entry.blocks) // max(entry.stack, 1), H)
    rows = H if side == "h" else D if layer == 0 else times(directions, H)
    shape = (columns,) if side in "bc" else (columns, rows) if entry.transposed else (rows, columns)
    return (entry.stack, *shape) if entry.stack else shape


def sizes_of(entries: dict[str, Entry], arrays: Mapping[str, Array]) -> tuple[Size, Size]:
    """D and H as most of the arrays have them, so that an error names the others; a symbol where none tells."""
    votes: dict[str, Counter[int]] = {"D": Counter(), "H": Counter()}
    for name, entry in entries.items():
        layer, _, side, _ = entry.blocks[0]
        shape = arrays[name].shape[bool(entry.stack) :] if name in arrays else ()
        if len(shape) != (1 if side in "bc" else 2):
            continue
        *rows, columns = shape[::-1] if entry.transposed else shape
        blocks = len(entry.blocks) // max(entry.stack, 1)
        if columns % blocks == 0:
            votes["H"][columns // blocks] += 1
        if side == "h" or (side == "x" and layer == 0):
            votes["D" if side == "x" else "H"][rows[0]] += 1
    for of in votes.values():
        del of[0]  # no layer has such a size
    D, H = (of.most_common(1)[0][0] if of else symbol for symbol, of in votes.items())
    return D, H


# ---- what is given


def arrays_of(given: Mapping[Any, Any]) -> dict[str, Array]:
    """Each value as an array; one of objects, which fits nowhere, for what NumPy cannot read."""
    arrays = {}
    for name, value in given.items():
        if hasattr(value, "detach") and hasattr(value, "dtype"):  # a tensor of PyTorch's
            value = value.detach().float() if str(value.dtype) == "torch.bfloat16" else value.detach()
        try:
            arrays[str(name)] = np.asarray(value)
        except Exception:  # tensors of another device; rows of different lengths
            arrays[str(name)] = np.array(None)
    return arrays


def checked(
    title: str,
    arrays: Mapping[str, Array],
    expected: Mapping[str, tuple[Size, ...]],
    dtype: np.dtype[Any],
    error: type[ValueError] = ValueError,
) -> dict[str, Array]:
    """The arrays in a dtype, where all are as expected and that is exact; else an error that lists the others."""

    def text(shape: tuple[Size, ...], dtype: np.dtype[Any]) -> str:
        return f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)}) of {dtype}"

    wrong = ""
    for name in [*expected, *(name for name in arrays if name not in expected)]:
        array, shape = arrays.get(name), expected.get(name)
        if array is None or array.shape != shape or array.dtype.kind != "f" or not np.can_cast(array.dtype, dtype):
            want = "none" if shape is None else text(shape, dtype)
            wrong += f"\n  {name}: expected {want}, got {'none' if array is None else text(array.shape, array.dtype)}"
    if wrong:
        raise error(f"{title}: expected other entries:{wrong}")
    with np.errstate(invalid="ignore"):  # of a signalling NaN
        return {name: arrays[name].astype(dtype, copy=False) for name in expected}


# ---- layers


def pytorch_of(module: Any, prefix: str) -> dict[str, Array]:
    """A module's parameters as PyTorch has them: copies."""
    if not isinstance(prefix, str):
        raise TypeError(f"prefix: expected a str, got {prefix!r}")
    result: dict[str, Array] = {}
    for start, layer in named_layers(module, prefix):
        if isinstance(layer, Recurrent):
            result |= exported("pytorch", layer, start)
        else:
            for name, ours in part_names(layer).items():
                result[start + name] = np.array(turned(ours, layer.parameters[ours]), order="C")
    return result


def named_layers(module: Any, prefix: str) -> Iterator[tuple[str, Layer]]:
    """The layers of a module, each with what stands before its names."""
    if isinstance(module, Model):
        yield from ((f"{prefix}{name}.", layer) for name, layer in module.layers.items())
    else:
        yield prefix, module


def part_names(layer: Any) -> dict[str, str]:
    for kind, names in _PARTS.items():
        if isinstance(layer, kind):
            return names
    raise TypeError(f"module: expected RNN, LSTM, GRU, Dense, Embedding or Network, got {type(layer).__name__}")


def turned(ours: str, array: Array) -> Array:
    return array.T if ours == "W" else array


def entries_of_layer(system: str, layer: Any, prefix: str = "") -> dict[str, Entry]:
    if not isinstance(layer, Recurrent):
        raise TypeError(f"layer: expected RNN, LSTM or GRU, got {type(layer).__name__}")
    bias = "b_l0" in layer.parameters or system in ("flax", "cs231n")
    return entries_of(system, layer.cell, layer.num_layers, layer.directions, bias, prefix)


def exported(system: str, layer: Any, prefix: str = "") -> dict[str, Array]:
    theirs = entries_of_layer(system, layer, prefix)
    return converted(layer.parameters, entries_of_layer("rnnfast", layer), theirs)


def load_layers(title: str, module: Any, arrays: dict[str, Array], prefix: str, error: type[ValueError]) -> None:
    expected = {name: array.shape for name, array in pytorch_of(module, prefix).items()}
    dtype = next(layer for _, layer in named_layers(module, prefix)).dtype
    arrays = checked(title, arrays, expected, dtype, error)
    found: list[tuple[Array, Array]] = []  # all of them, before the first is changed
    for start, layer in named_layers(module, prefix):
        if isinstance(layer, Recurrent):
            mine = converted(arrays, entries_of_layer("pytorch", layer, start), entries_of_layer("rnnfast", layer))
        else:
            mine = {ours: turned(ours, arrays[start + name]) for name, ours in part_names(layer).items()}
        found += [(layer.parameters[name], array) for name, array in mine.items()]
    for parameter, array in found:
        parameter[...] = array


READ_OFF = (
    "input_size", "hidden_size", "num_layers", "bidirectional", "bias", "activation", "reset_after", "recurrent_init",
)  # fmt: skip


def imported(
    title: str,
    system: str,
    given: Mapping[str, Any],
    settings: dict[str, Any],
    cell: str,
    num_layers: int,
    directions: int,
    bias: bool,
    prefix: str = "",
) -> Recurrent:
    """A new layer, its sizes read off the arrays."""
    for name in settings:
        if name in READ_OFF:
            raise TypeError(f"{name}: expected none of {', '.join(READ_OFF)}: the weights tell them")
    arrays = arrays_of(given)
    entries = entries_of(system, cell, num_layers, directions, bias, prefix)
    D, H = sizes_of(entries, arrays)
    double = any(array.dtype.kind == "f" and array.itemsize > 4 for array in arrays.values())
    dtype = np.dtype(settings.pop("dtype", np.float64 if double else np.float32))
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype: expected float32 or float64, got {dtype}")
    arrays = checked(title, arrays, {name: shape_of(e, D, H, directions) for name, e in entries.items()}, dtype)
    options: dict[str, Any] = {"num_layers": num_layers, "bidirectional": directions == 2, "bias": bias, "dtype": dtype}
    family, _, variant = cell.partition("_")
    if family == "rnn":
        options["activation"] = variant
    elif family == "gru":
        options["reset_after"] = variant == ""
    new: Any = {"rnn": RNN, "lstm": LSTM, "gru": GRU}[family]
    layer: Recurrent = new(input_size=D, hidden_size=H, recurrent_init="identity", **options, **settings)
    for name, array in converted(arrays, entries, entries_of_layer("rnnfast", layer)).items():
        layer.parameters[name][...] = array
    return layer


def given_by_name(state_dict: Mapping[str, Any], prefix: str) -> dict[str, Array]:
    """The arrays whose names have the prefix."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"state_dict: expected a mapping of names to arrays, got {type(state_dict).__name__}")
    if not isinstance(prefix, str):
        raise TypeError(f"prefix: expected a str, got {prefix!r}")
    arrays = arrays_of({name: value for name, value in state_dict.items() if str(name).startswith(prefix)})
    projections = [name for name in arrays if re.search("weight_hr_l[0-9]", name)]
    if projections:
        raise ValueError(f"state_dict: expected no LSTM with proj_size, got {', '.join(projections)}")
    return arrays
