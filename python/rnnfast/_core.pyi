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

def forward(
    cell: str,
    x: ArrayLike,
    Wx: ArrayLike,
    Wh: ArrayLike,
    b: ArrayLike | None,
    state: tuple[ArrayLike | None, ...] | None,
    lengths: ArrayLike | None,
    reverse: bool,
    keep_tape: bool,
    num_threads: int | None,
    recompute: int | None,
) -> tuple[NDArray[Any], tuple[NDArray[Any], ...], Tape | None]: ...
def backward(
    tape: Tape,
    dh: ArrayLike | None,
    dstate: tuple[ArrayLike | None, ...] | None,
    num_threads: int | None,
) -> tuple[NDArray[Any] | None, NDArray[Any], NDArray[Any], NDArray[Any] | None, tuple[NDArray[Any], ...]]: ...
def cells() -> list[str]: ...
def cell_blocks(name: str) -> tuple[int, int, int]: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def instruction_sets() -> list[InstructionSet]: ...
def compiler() -> str: ...
def multiply_add_rate(seconds: float) -> float: ...
def read_rate(bytes: int, seconds: float) -> float: ...
