"""oneDNN by itself: its RNN primitives over the C API of version 3, by ctypes.

One of the contenders of peers.py. The library is found in the environment (the package
onednn-cpu-gomp puts libdnnl.so into its lib folder) or on the system's path. It must know no other peer.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .contender import Answers, Array, Contender, Prepared, Problem, dx_wanted, key
from .grid import BLOCKS, Row

__all__ = ["Onednn"]

# from dnnl_types.h
F32, ANY, PLAIN = 3, 1, {3: 4, 4: 5, 5: 6}  # data type; format tags: chosen by the primitive, abc, abcd, abcde
FORWARD_TRAINING, FORWARD_INFERENCE, BACKWARD = 64, 96, 128
LEFT_TO_RIGHT, CONCATENATED, OVERWRITE, TANH = 1, 3, 1, 0x21
WORKSPACE_MD, EXEC_ARG_MD, CPU = 135, 255, 1
SRC, STATES, DST, WX, WH, BIAS, WORKSPACE, SRC_OF, DST_OF = 1, (2, 3), 17, 33, 34, 41, 64, 1, 17
DIFF = 128  # added to an argument: its gradient
ALLOCATE = ctypes.c_void_p(-1 & (2 ** (8 * ctypes.sizeof(ctypes.c_void_p)) - 1))


class _Argument(ctypes.Structure):
    _fields_: ClassVar[Any] = [("arg", ctypes.c_int), ("memory", ctypes.c_void_p)]


class _Version(ctypes.Structure):
    _fields_: ClassVar[Any] = [("major", ctypes.c_int), ("minor", ctypes.c_int), ("patch", ctypes.c_int)]


class Onednn(Contender):
    """vanilla_rnn, lstm and lbr_gru; weights are reordered in every training step, and beforehand for inference."""

    name, package = "onednn", "onednn-cpu-gomp"
    operations: ClassVar[dict[str, str]] = {"rnn": "vanilla_rnn", "lstm": "lstm", "gru": "lbr_gru"}
    order: ClassVar[tuple[int, ...]] = (1, 0, 2, 3)  # a GRU's z, r, n, nh; an LSTM has rnnfast's i, f, g, o

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        places = [str(Path(sys.prefix) / "lib" / "libdnnl.so"), ctypes.util.find_library("dnnl")]
        found = [place for place in places if place and (Path(place).exists() or "/" not in place)]
        if not found:
            raise ImportError("no libdnnl")
        self.library = ctypes.CDLL(found[0])
        self.engine, self.stream = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("engine_create", ctypes.byref(self.engine), CPU, ctypes.c_size_t(0))
        self._call("stream_create", ctypes.byref(self.stream), self.engine, 1)
        self._taken = ""

    def version(self) -> str:
        function = self.library.dnnl_version
        function.restype = ctypes.POINTER(_Version)
        v = function().contents
        if v.major != 3:
            raise ImportError(f"libdnnl {v.major}: expected version 3")
        return f"{v.major}.{v.minor}.{v.patch}"

    def gap(self, row: Row, mode: str) -> str | None:
        if row.float64 or row.ragged or row.kind != "layer" or row.layers > 1:
            return "one layer of equal lengths in float32 only"
        return None

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.library, f"dnnl_{name}")(*arguments)
        if status:
            raise RuntimeError(f"dnnl_{name}: status {status}")

    def _made(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        self._call(name, ctypes.byref(handle), *arguments)
        return handle

    def _md(self, shape: tuple[int, ...], tag: int | None = None) -> ctypes.c_void_p:
        dims = (ctypes.c_int64 * len(shape))(*shape)
        return self._made(
            "memory_desc_create_with_tag", len(shape), dims, F32, PLAIN[len(shape)] if tag is None else tag
        )

    def _memory(self, md: ctypes.c_void_p, array: Array | None = None) -> ctypes.c_void_p:
        pointer = ALLOCATE if array is None else ctypes.c_void_p(array.ctypes.data)
        return self._made("memory_create", md, self.engine, pointer)

    def _query(self, pd: ctypes.c_void_p, what: int, index: int = 0) -> ctypes.c_void_p:
        function = self.library.dnnl_primitive_desc_query_md
        function.restype = ctypes.c_void_p
        return ctypes.c_void_p(function(pd, what, index))

    def _primitive(self, pd: ctypes.c_void_p, arguments: dict[int, ctypes.c_void_p]) -> Any:
        """A call that starts it."""
        primitive = self._made("primitive_create", pd)
        array = (_Argument * len(arguments))(*(_Argument(k, memory.value) for k, memory in arguments.items()))
        execute, stream, count = self.library.dnnl_primitive_execute, self.stream, len(arguments)

        def call() -> None:
            if execute(primitive, stream, count, array):
                raise RuntimeError("dnnl_primitive_execute failed")

        return call

    def _reordered(self, memory: ctypes.c_void_p, md: ctypes.c_void_p, to: ctypes.c_void_p) -> Any:
        """Memory in a primitive's own format, and the call that fills it."""
        target = self._memory(to)
        pd = self._made("reorder_primitive_desc_create", md, self.engine, to, self.engine, None)
        return target, self._primitive(pd, {SRC_OF: memory, DST_OF: target})

    def prepare(self, problem: Problem, mode: str) -> Prepared:
        row, training = problem.row, mode == "training"
        T, N, H, G = row.T, row.N, row.H, BLOCKS[row.cell]
        directions, P = row.directions, G + (row.cell == "gru")
        order = self.order if row.cell == "gru" else tuple(range(P))

        def blocks(array: Array, order: tuple[int, ...]) -> Array:
            return np.ascontiguousarray(array.reshape(-1, len(order), H)[:, list(order)])

        each = problem.weights[0]
        arrays = {
            SRC: np.ascontiguousarray(problem.dense.swapaxes(0, 1)),
            WX: np.stack([blocks(w.Wx, order[:G]) for w in each])[None],
            WH: np.stack([blocks(w.Wh, order[:G]) for w in each])[None],
            BIAS: np.stack([blocks(w.b, order)[0] for w in each])[None],
            DST: np.zeros((T, N, directions * H), np.float32),
        }
        # said to be optional, but without it dWh of one direction is wrong in 3.2
        states = STATES[: 2 if row.cell == "lstm" else 1]
        arrays |= {k: np.zeros((1, directions, N, H), np.float32) for k in states}
        mds = {k: self._md(array.shape) for k, array in arrays.items()}
        free = {k: self._md(arrays[k].shape, ANY) for k in (WX, WH)}
        memory = {k: self._memory(mds[k], array) for k, array in arrays.items()}
        forward = self._describe(row, FORWARD_TRAINING if training else FORWARD_INFERENCE, mds, free, None, None)
        packing, given = [], dict(memory)
        for k in (WX, WH):
            given[k], call = self._reordered(memory[k], mds[k], self._query(forward, EXEC_ARG_MD, k))
            packing.append(call)
        if not training:
            run = self._primitive(forward, given)
            for call in packing:
                call()
            return self._prepared([run], arrays, {}, problem, order)

        given[WORKSPACE] = self._memory(self._query(forward, WORKSPACE_MD))
        gradients = {k: np.zeros_like(arrays[k]) for k in (SRC, *states, WX, WH, BIAS)}
        gradients[DST] = np.ascontiguousarray(problem.dh.swapaxes(0, 1))
        gradient_free = {k: self._md(arrays[k].shape, ANY) for k in (WX, WH)}
        backward = self._describe(row, BACKWARD, mds, free, gradient_free, forward)
        behind, unpacking = dict(given), []
        for k in (WX, WH):
            behind[k], call = self._reordered(memory[k], mds[k], self._query(backward, EXEC_ARG_MD, k))
            packing.append(call)
        for k, array in gradients.items():
            target = self._memory(mds[k], array)
            behind[DIFF + k] = target
            if k in (WX, WH):
                md = self._query(backward, EXEC_ARG_MD, DIFF + k)
                behind[DIFF + k] = self._memory(md)
                pd = self._made("reorder_primitive_desc_create", md, self.engine, mds[k], self.engine, None)
                unpacking.append(self._primitive(pd, {SRC_OF: behind[DIFF + k], DST_OF: target}))
        calls = [*packing, self._primitive(forward, given), self._primitive(backward, behind), *unpacking]
        return self._prepared(calls, arrays, gradients, problem, order)

    def _describe(
        self, row: Row, kind: int, mds: Any, free: Any, gradient_free: Any, hint: ctypes.c_void_p | None
    ) -> ctypes.c_void_p:
        """The primitive's descriptor; states at the end are not asked for."""
        states = [mds[k] for k in STATES if k in mds]
        more = [None] * (2 if row.cell == "lstm" else 0)  # neither peepholes nor a projection

        def group(src: Any, Wx: Any, Wh: Any, b: Any, dst: Any) -> list[Any]:
            return [src, *states, Wx, Wh, *more, b, dst, *[None for _ in states]]

        arguments = group(mds[SRC], free[WX], free[WH], mds[BIAS], mds[DST])
        if hint is not None:
            arguments += group(mds[SRC], gradient_free[WX], gradient_free[WH], mds[BIAS], mds[DST])
        flags = ctypes.c_uint(OVERWRITE if hint is not None else 0)
        direction = CONCATENATED if row.bidirectional else LEFT_TO_RIGHT
        plain = row.cell == "rnn"
        name = f"{self.operations[row.cell]}_{'forward' if hint is None else 'backward'}_primitive_desc_create"
        return self._made(
            name,
            *(self.engine, kind, *([TANH] if plain else []), direction, *arguments, flags),
            *([ctypes.c_float(0), ctypes.c_float(0)] if plain else []),
            *([] if hint is None else [hint]),
            None,
        )

    def _prepared(
        self, calls: list[Any], arrays: dict[int, Array], gradients: dict[int, Array], problem: Problem, order: Any
    ) -> Prepared:
        wait, stream = self.library.dnnl_stream_wait, self.stream

        def call() -> Any:
            for each in calls:
                each()
            wait(stream)
            return arrays, gradients  # which keeps them alive, too

        def answers() -> Answers:
            call()
            found = {"h": arrays[DST].swapaxes(0, 1).copy()}
            if gradients and dx_wanted(problem.row):
                found["x"] = gradients[SRC].swapaxes(0, 1).copy()
            back = np.argsort(order)
            for k, name in ((WX, "Wx"), (WH, "Wh"), (BIAS, "b")):
                for direction in range(problem.row.directions if gradients else 0):
                    g = gradients[k][0, direction]
                    g = g[back] if name == "b" else g[:, back[: g.shape[1]]]
                    found[key(name, 0, direction)] = g.reshape(-1) if name == "b" else g.reshape(len(g), -1)
            return found

        return Prepared(call, answers)

    def implementation(self, problem: Problem, mode: str, prepared: Prepared) -> str:
        return f"primitive {self.operations[problem.row.cell]}"
