"""Callback and History: what a training run tells while it goes on, and what is left of it.

training.py calls them; users and the command line derive from Callback. They know no model and no data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Callback", "History"]


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
