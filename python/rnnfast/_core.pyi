from typing import Any, TypedDict

from numpy.typing import ArrayLike, NDArray

class InstructionSet(TypedDict):
    name: str
    flags: str
    available: bool
    chosen: bool

class Tape:
    """What a forward pass leaves for one backward pass."""

    @property
    def nbytes(self) -> int: ...
    @property
    def used(self) -> bool: ...

class Stream:
    state: tuple[NDArray[Any], ...]
    def __init__(
        self, cell: str, Wx: ArrayLike, Wh: ArrayLike, b: ArrayLike | None = None, batch_size: int = 1
    ) -> None: ...
    def step(self, x_t: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def reset(self) -> None: ...

class PackedWeights:
    def __init__(self, cell: str, Wx: ArrayLike, Wh: ArrayLike, b: ArrayLike | None) -> None: ...

def forward(
    cell: str | PackedWeights,
    x: ArrayLike,
    Wx: ArrayLike | None,
    Wh: ArrayLike | None,
    b: ArrayLike | None,
    state: tuple[ArrayLike | None, ...] | None,
    lengths: ArrayLike | None,
    reverse: bool,
    keep_tape: bool,
    num_threads: int | None,
    recompute: int | None,
    out: NDArray[Any] | None,
    packed: bool = False,
    numbers: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], tuple[NDArray[Any], ...], Tape | None]: ...
def kept_tape(
    cell: str,
    x: ArrayLike,
    Wx: ArrayLike,
    Wh: ArrayLike,
    b: ArrayLike | None,
    lengths: ArrayLike | None,
    reverse: bool,
    packed: bool,
    numbers: NDArray[Any],
) -> Tape: ...
def tape_panels(cell: str, is_double: bool) -> tuple[int, int]: ...
def backward(
    tape: Tape,
    dh: ArrayLike | None,
    dstate: tuple[ArrayLike | None, ...] | None,
    num_threads: int | None,
    dx: bool,
    out: tuple[NDArray[Any] | None, ...] | None,
    transposed: bool = False,
) -> tuple[NDArray[Any] | None, NDArray[Any], NDArray[Any], NDArray[Any] | None, tuple[NDArray[Any], ...]]: ...
def buffer_bytes(
    cell: str,
    N: int,
    T: int,
    D: int,
    H: int,
    is_double: bool,
    ids: bool,
    recompute: int,
    num_threads: int | None,
) -> tuple[float, float, float]: ...
def cells() -> list[str]: ...
def cell_blocks(name: str) -> tuple[int, int, int]: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def instruction_sets() -> list[InstructionSet]: ...
def compiler() -> str: ...

# The operations of a training step: the callers in this package have checked what they pass.
def first_outside(ids: NDArray[Any], lengths: NDArray[Any] | None, limit: int) -> int: ...
def softmax_cross_entropy(
    logits: NDArray[Any],
    targets: NDArray[Any],
    lengths: NDArray[Any] | None,
    sequence_weight: NDArray[Any],
    class_weight: NDArray[Any] | None,
) -> tuple[float, NDArray[Any]]: ...
def softmax(logits: NDArray[Any]) -> NDArray[Any]: ...
def optimize(
    rule: str,
    parameters: NDArray[Any],
    gradients: NDArray[Any],
    moments: list[NDArray[Any]],
    keep: float,
    rate: float,
    decay: tuple[float, float],
    root_scale: float,
    epsilon: float,
) -> None: ...
def sum_of_squares(x: NDArray[Any]) -> float: ...
def scale(x: NDArray[Any], factor: float) -> None: ...
def clip(x: NDArray[Any], limit: float) -> None: ...
def gather(ids: NDArray[Any], lengths: NDArray[Any] | None, table: NDArray[Any]) -> NDArray[Any]: ...
def scatter(ids: NDArray[Any], lengths: NDArray[Any] | None, data: NDArray[Any], table: NDArray[Any]) -> None: ...
def dense(x: NDArray[Any], W: NDArray[Any], b: NDArray[Any], lengths: NDArray[Any] | None) -> NDArray[Any]: ...
def dense_gradient(
    x: NDArray[Any],
    W: NDArray[Any],
    d: NDArray[Any],
    dW: NDArray[Any],
    db: NDArray[Any],
    lengths: NDArray[Any] | None,
) -> NDArray[Any]: ...
def activation(name: str, x: NDArray[Any]) -> NDArray[Any]: ...  # name: exp, tanh or sigmoid
def multiply_add_rate(seconds: float) -> float: ...
def read_rate(bytes: int, seconds: float) -> float: ...
