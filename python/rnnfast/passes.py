"""What a forward pass leaves for the backward pass, and which thread may train.

Base of layers and models (layers.py, network.py); knows nothing of either. Any number of threads may predict with one
layer, also while one trains it; a second one that trains would mix two passes, and gets a RuntimeError.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["Passes", "one_trainer"]

_TWO = "expected one thread to train it at a time, got another while a pass of the first was under way"


Thread = tuple[int, int]  # forks up to its process, and identifier
_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


def _this_thread() -> Thread:
    return _forks, threading.get_ident()


def _another(holder: Thread | None, me: Thread) -> bool:
    """Whether `holder` is another thread of this process: those of the parent are not in a forked child."""
    return holder is not None and holder[0] == me[0] and holder != me


class Passes:
    """Keeps, by name, what a training pass left, and whose it is."""

    def _keep(self, training: bool, left: Any, name: str = "pass") -> None:
        """Keep what a forward pass left; one without training drops what this thread left before."""
        me, mine = _this_thread(), vars(self)
        kept = mine.setdefault("_kept", {})
        alone = not (_another(mine.get("_trainer"), me) or _another(mine.get("_going_back"), me))
        if training:
            if not alone:
                raise RuntimeError(f"{type(self).__name__}: {_TWO}")
            kept[name] = (me, left)
        elif alone and name in kept and kept[name][0][1] == me[1]:
            del kept[name]

    @contextlib.contextmanager
    def _taken(self, name: str = "pass") -> Iterator[Any]:
        """What the forward pass left, for the backward pass, which uses it up unless it fails."""
        me, mine = _this_thread(), vars(self)
        kept = mine.get("_kept", {})
        if name not in kept:
            raise RuntimeError("backward: expected a forward pass with training=True before it")
        one = kept[name]
        if "_going_back" in mine and mine["_going_back"][0] != me[0]:  # that thread was left behind by a fork
            mine.pop("_going_back", None)
        if one[0][1] != me[1] or _another(mine.get("_trainer"), me) or _another(mine.setdefault("_going_back", me), me):
            raise RuntimeError(f"{type(self).__name__}: {_TWO}")
        try:
            yield one[1]
            if kept.get(name) is one:
                del kept[name]
        finally:
            mine.pop("_going_back", None)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("_kept", "_training", "_trainer", "_going_back")}


@contextlib.contextmanager
def one_trainer(model: Any) -> Iterator[None]:
    """A model and its layers are trained by this thread, and by this call alone, until the end.

    Raises
    ------
    RuntimeError
        Another call trains it.
    """
    me = _this_thread()
    if not hasattr(model, "__dict__"):
        yield
        return
    training = (*me, object())
    found = vars(model).setdefault("_training", training)
    if found[0] != me[0] and found[1] != me[1]:  # of a thread that a fork left behind
        found = vars(model)["_training"] = training
    if found is not training:
        raise RuntimeError(f"{type(model).__name__}: expected one fit at a time, got another while the first goes on")
    parts = [model, *getattr(model, "layers", {}).values()]
    try:
        for part in parts:
            vars(part)["_trainer"] = me
        yield
    finally:
        for part in parts:
            vars(part).pop("_trainer", None)
        vars(model).pop("_training", None)
