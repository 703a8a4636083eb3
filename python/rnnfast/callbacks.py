"""Callback, History, Interrupt: what a training run tells while it goes on, what is left of it, how Ctrl-C ends it.

training.py calls them; users and the command line derive from Callback. They know no model and no data.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Callback", "History", "Interrupt"]


class Callback:
    """Base of callbacks; override what is needed. The names are those of Keras; ``self.model`` is the model.

    To stop training from a callback set ``self.model.stop_training = True``.

    Examples
    --------
    >>> import rnnfast
    >>> class Print(rnnfast.Callback):
    ...     def on_epoch_end(self, epoch, logs):
    ...         print(epoch, sorted(logs))
    """

    model: Any = None

    def set_model(self, model: Any) -> None:
        self.model = model

    def on_train_begin(self, logs: dict[str, Any]) -> None: ...
    def on_epoch_begin(self, epoch: int, logs: dict[str, Any]) -> None: ...
    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None: ...
    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None: ...
    def on_train_end(self, logs: dict[str, Any]) -> None: ...


@dataclass
class History:
    """What happened: ``history["loss"]`` is a list with a number for each pass, and so on.

    Examples
    --------
    >>> import rnnfast
    >>> history = rnnfast.History()
    >>> history.append({"loss": 0.5})
    >>> history["loss"]
    [0.5]

    Attributes
    ----------
    history : dict
        ``loss`` and ``seconds``, with validation data ``val_loss`` and, for cross-entropy, ``val_accuracy``. A pass
        that was broken off is not in it.
    stop_reason : str
        "zero loss", "target loss", "no improvement", "max_epochs", "callback" or "interrupted".
    best_epoch : int
        The pass with the best monitored figure, from 0; its weights are kept where ``fit`` says so.
    """

    history: dict[str, list[float]] = field(default_factory=lambda: {"loss": [], "seconds": []})
    stop_reason: str = "max_epochs"
    best_epoch: int = -1

    def __getitem__(self, name: str) -> list[float]:
        return self.history[name]

    def append(self, logs: dict[str, float]) -> None:
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)


class BrokenOff(KeyboardInterrupt):
    """Ctrl-C inside ``Interrupt.breaking()``."""


class Interrupt:
    """Turns the first Ctrl-C into a flag that is looked at between batches; the second one raises at once."""

    pressed = _breaks = False

    @contextlib.contextmanager
    def breaking(self) -> Iterator[None]:
        """What is done in here leaves nothing behind: Ctrl-C ends it by BrokenOff."""
        if self.pressed:
            raise BrokenOff
        self._breaks = True
        try:
            yield
        finally:
            self._breaks = False

    def __enter__(self) -> Interrupt:
        self.pressed = False
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.getsignal(signal.SIGINT)
            # Someone else's handler, or none that Python knows: leave it alone.
            self._main = self._before is signal.default_int_handler
        if self._main:
            signal.signal(signal.SIGINT, self._press)
        return self

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
        if self._breaks:
            raise BrokenOff

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._before)
