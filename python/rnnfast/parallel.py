"""Data-parallel training: what ranks tell each other while they train one model together.

Every rank runs the same program on the same data; :func:`rnnfast.fit` computes a share of each batch on each of them
and sums the gradients. Here are the three kinds of communicator that it takes, and Ranks, through which training.py,
trainer.py and the command line speak to the other ranks. It knows no model, no data and no files.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._threads import processors
from .random_rows import Share

__all__ = ["Alone", "Comm", "MPIComm", "RankError", "Ranks", "TorchComm", "all_ranks", "job"]

Array = NDArray[Any]
Fit = TypeVar("Fit", bound=Callable[..., Any])
FIGURES = 11  # numbers that travel with each gradient: 4 figures, the learning rate in 3 parts, 4 flags
TEXT = 2000  # bytes of an error's message that the other ranks are told


class RankError(RuntimeError):
    """Another rank failed, which ends the training on this one."""


@runtime_checkable
class Comm(Protocol):
    """What :func:`rnnfast.fit` asks of a group of processes; ranks call the same methods in the same order.

    ``rank`` counts from 0 to ``size`` - 1. ``sum`` replaces each number of a contiguous array by its sum over the
    ranks, with the same bits on all of them, ``broadcast`` an array by that of rank 0. An implementation may have
    ``neighbours(text) -> list of str``: the texts of all ranks, by which fit finds out who shares a machine and its
    processors.
    """

    rank: int
    size: int

    def sum(self, array: Array) -> None: ...
    def broadcast(self, array: Array) -> None: ...


class Alone:
    """One process: what ``comm=None`` is."""

    rank, size = 0, 1

    def sum(self, array: Array) -> None: ...
    def broadcast(self, array: Array) -> None: ...


class MPIComm:
    """A communicator of mpi4py, as ``MPI.COMM_WORLD``: what ``comm=MPI.COMM_WORLD`` becomes.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> from rnnfast.parallel import MPIComm
    >>> comm, numbers = MPIComm(MPI.COMM_SELF), np.array([1.0, 2.0])
    >>> comm.sum(numbers)
    >>> comm.size, numbers.tolist()
    (1, [1.0, 2.0])
    """

    def __init__(self, comm: Any) -> None:
        from mpi4py import MPI

        if comm == MPI.COMM_NULL:
            raise ValueError("comm: expected a communicator that this process is in, got MPI.COMM_NULL")
        self._comm, self._in_place = comm, MPI.IN_PLACE
        self.rank, self.size = comm.Get_rank(), comm.Get_size()

    def sum(self, array: Array) -> None:
        self._comm.Allreduce(self._in_place, array)

    def broadcast(self, array: Array) -> None:
        self._comm.Bcast(array)

    def neighbours(self, text: str) -> list[str]:
        return cast(list[str], self._comm.allgather(text))


class TorchComm:
    """A process group of torch.distributed on CPUs (gloo); None is the default group, which must be initialised.

    ``comm=torch.distributed`` becomes this, and so does ``comm=group``.
    """

    def __init__(self, group: Any = None) -> None:
        import torch
        import torch.distributed as distributed

        self._group, self._distributed, self._tensor = group, distributed, torch.from_numpy
        self.rank, self.size = distributed.get_rank(group), distributed.get_world_size(group)
        if self.rank < 0:
            raise ValueError("comm: expected a process group that this process is in")

    def sum(self, array: Array) -> None:
        self._distributed.all_reduce(self._tensor(array), group=self._group)

    def broadcast(self, array: Array) -> None:
        first = 0 if self._group is None else self._distributed.get_global_rank(self._group, 0)
        self._distributed.broadcast(self._tensor(array), first, group=self._group)

    def neighbours(self, text: str) -> list[str]:
        texts: list[Any] = [None] * self.size
        self._distributed.all_gather_object(texts, text, group=self._group)
        return texts


def as_comm(comm: Any) -> Comm:
    """What `comm` of fit stands for."""
    if comm is None:
        return Alone()
    if hasattr(comm, "Allreduce") and hasattr(comm, "Bcast"):
        return MPIComm(comm)
    if hasattr(comm, "all_reduce") and hasattr(comm, "get_world_size"):  # the module torch.distributed
        return TorchComm()
    if type(comm).__module__.startswith("torch.") or type(comm).__name__ == "ProcessGroup":
        return TorchComm(comm)
    if isinstance(comm, Comm):
        if not (type(comm.rank) is type(comm.size) is int and 0 <= comm.rank < comm.size):
            raise ValueError(f"comm: expected 0 <= rank < size, got rank {comm.rank!r} of {comm.size!r}")
        return comm
    raise TypeError(f"comm: expected a communicator of mpi4py, a process group of torch.distributed or an object with "
                    f"rank, size, sum and broadcast, got {comm!r:.80}")  # fmt: skip


class Ranks:
    """The ranks of one call of fit: a sum after each step of the optimiser, by which they also end together.

    Each rank takes part in the same sums in the same order. A rank that fails takes part once more, with zeros and a
    flag, and then raises its error; the others find the flag in place of what they waited for, and raise RankError.
    """

    def __init__(self, comm: Comm) -> None:
        self.comm, self.rank, self.size = comm, comm.rank, comm.size
        self.pressed = self.stop = False  # Ctrl-C, and stop_training, on any rank
        self.broken = False  # whether another rank has gone without a word
        self._buffer = np.zeros(FIGURES)  # of the next sum; fit gives it room for the gradient
        self._over = self.size == 1  # nothing more is to be said
        self._threads: int | None = None

    # ---- what fit says

    def begin(self, facts: Mapping[str, Any], like: Array) -> None:
        """All ranks are there, and are to train the same model on the same data; `like` is its gradient vector."""
        if self._over:
            return
        self._exchange()
        first = self.share(dict(facts))
        wrong = [name for name in {**first, **facts} if repr(first.get(name)) != repr(facts.get(name))]
        if wrong:
            name = wrong[0]
            self.fail(ValueError(f"{name} is {facts.get(name)!r:.80} here and {first.get(name)!r:.80} on rank 0"))
            raise ValueError(
                f"rank {self.rank} of {self.size}: expected what rank 0 has, got another {name}: "
                f"{facts.get(name)!r:.80}, there {first.get(name)!r:.80}"
            )
        self._exchange()
        self._set_threads()
        self._buffer = np.zeros(like.size + FIGURES, like.dtype)

    def share(self, value: Any) -> Any:
        """What rank 0 has of a value, on every rank."""
        if self.size == 1:
            return value
        data = np.frombuffer(pickle.dumps(value) if self.rank == 0 else b"", np.uint8).copy()
        size = np.array([data.size], np.int64)
        self._tell(self.comm.broadcast, size)
        if self.rank:
            data = np.empty(size[0], np.uint8)
        self._tell(self.comm.broadcast, data)
        return value if self.rank == 0 else pickle.loads(data.tobytes())

    def sum(self, gradient: Array | None = None, *figures: float, optimizer: Any = None) -> tuple[float, ...]:
        """Sum a gradient, in place, and some figures; learn whether any rank is to stop (`pressed`, `stop`), and take
        over the learning rate of rank 0, whose callbacks may have changed it."""
        if self.size == 1:
            return figures
        n = len(self._buffer) - FIGURES
        self._buffer[:n] = 0 if gradient is None else gradient
        self._buffer[n:-4] = 0
        self._buffer[n : n + len(figures)] = figures
        rate = getattr(optimizer, "learning_rate", None)
        if rate is not None and self.rank == 0:
            self._buffer[n + 4 : n + 7] = _parts(rate)
        self._buffer[-2:] = self.pressed, self.stop
        self._exchange()
        if gradient is not None:
            gradient[...] = self._buffer[:n]
        self.pressed, self.stop = (bool(flag) for flag in self._buffer[-2:])
        if rate is not None and self.rank:
            optimizer.learning_rate = float(self._buffer[n + 4 : n + 7].astype(np.float64).sum())
        return tuple(float(figure) for figure in self._buffer[n : n + len(figures)])

    def broadcast(self, array: Array) -> None:
        if self.size > 1:
            self._tell(self.comm.broadcast, array)

    def whole(self, parts: tuple[Array, ...] | None, share: Share) -> tuple[Array, ...] | None:
        """States (layers, N, H) of a whole batch, from those of the ranks' rows."""
        if self.size == 1 or parts is None:
            return parts
        result = []
        for part in parts:
            whole = np.zeros((part.shape[0], share.of, *part.shape[2:]), part.dtype)
            whole[:, share.rows] = part
            self._tell(self.comm.sum, whole)
            result.append(whole)
        return tuple(result)

    def share_of(self, n: int) -> Share:
        """The rows of a batch of `n` that are this rank's."""
        return Share(slice(self.rank, None, self.size), n)

    def wait(self) -> None:
        """For all ranks to be here: who starts the processes may end them all when one ends."""
        if self.size > 1 and not self.broken:
            self._tell(self.comm.sum, np.zeros(1))

    def end(self) -> None:
        """Nothing more is summed; an error after this is of its rank alone."""
        self._over = True

    # ---- how it ends

    def fail(self, error: BaseException) -> None:
        """Tell the others that this rank ends with an error."""
        if self._over:
            return
        self._buffer[:] = 0
        self._buffer[-4:-2] = 1, self.rank
        with contextlib.suppress(Exception):  # of a communicator that is broken: the first error is to be seen
            self._exchange(f"{type(error).__name__}: {error}")

    def _exchange(self, failure: str = "") -> None:
        """Sum the buffer; where a rank failed, say so and end."""
        self._tell(self.comm.sum, self._buffer)
        count, who = (round(float(value)) for value in self._buffer[-4:-2])
        if not count:
            return
        self._over = True
        failed, text = np.zeros(self.size, np.int64), np.zeros(TEXT, np.uint8)
        failed[self.rank] = bool(failure)
        if count > 1:
            self._tell(self.comm.sum, failed)
            who = int(np.argmax(failed))
        if self.rank == who:  # one says why
            said = failure.encode(errors="backslashreplace")[:TEXT]
            text[: len(said)] = np.frombuffer(said, np.uint8)
        self._tell(self.comm.sum, text)
        if not failure:
            why = text.tobytes().rstrip(b"\0").decode(errors="replace")
            others = "" if count == 1 else f" ({count} ranks did)"
            raise RankError(f"rank {who} of {self.size} failed{others}: {why}")

    def _tell(self, call: Callable[[Array], None], array: Array) -> None:
        try:
            call(array)
        except BaseException:
            self._over = self.broken = True  # another rank is gone: there is nobody to tell
            raise

    # ---- threads

    def _set_threads(self) -> None:
        """Ranks that share processors divide them among their threads."""
        if not hasattr(self.comm, "neighbours"):
            return
        mine = processors()
        texts = self.comm.neighbours(f"{socket.gethostname()} {' '.join(map(str, mine))}")
        host = socket.gethostname()
        others = [set(map(int, text.split()[1:])) for text in texts if text.split()[0] == host]
        threads = max(1, len(mine) // sum(bool(cores & set(mine)) for cores in others))
        if _core.get_num_threads() > threads and not any(name in os.environ for name in _THREADS):
            self._threads = _core.get_num_threads()
            _core.set_num_threads(threads)

    def put_threads_back(self) -> None:
        if self._threads is not None:
            _core.set_num_threads(self._threads)


def _parts(number: float) -> list[float]:
    """Numbers of float32 whose sum, with the zeros of other ranks, is a number of float64."""
    parts = []
    for _ in range(3):
        parts.append(float(np.float32(number)))
        number -= parts[-1]
    return parts


_THREADS = ("RNNFAST_NUM_THREADS", "OMP_NUM_THREADS")  # who sets these knows better


@contextlib.contextmanager
def job(comm: Any) -> Iterator[Ranks]:
    """What all ranks do together: an error of one of them in here ends it on all. One inside another is that one."""
    if isinstance(comm, Ranks):
        yield comm
        return
    ranks = Ranks(as_comm(comm))
    try:
        yield ranks
    except RankError:
        raise
    except BaseException as error:
        ranks.fail(error)
        raise
    finally:
        ranks.put_threads_back()


def all_ranks(fit: Fit) -> Fit:
    """Give a fit that knows Ranks its argument `comm`, as users pass it."""

    @functools.wraps(fit)
    def call(*args: Any, comm: Any = None, **options: Any) -> Any:
        with job(comm) as ranks:
            return fit(*args, comm=ranks, **options)

    return cast(Fit, call)
