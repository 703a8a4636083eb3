"""Estimators in scikit-learn's conventions: data in, predictions out; a file for each shape of problem."""

import os
from typing import Any

from ..files import ModelFileError, kind_of
from .classifier import SequenceClassifier
from .generator import SequenceGenerator
from .regressor import SequenceRegressor
from .tagger import SequenceTagger
from .transducer import SequenceTransducer

__all__ = [
    "SequenceClassifier",
    "SequenceGenerator",
    "SequenceRegressor",
    "SequenceTagger",
    "SequenceTransducer",
    "load",
]

_ESTIMATORS: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (SequenceClassifier, SequenceGenerator, SequenceRegressor, SequenceTagger, SequenceTransducer)
}


def load(path: str | os.PathLike[str]) -> Any:
    """Read a model that any estimator's ``save`` wrote.

    Raises
    ------
    ModelFileError
        The file is not such a model.

    Examples
    --------
    >>> import rnnfast, tempfile
    >>> model = rnnfast.SequenceClassifier(hidden_size=2, max_epochs=1).fit(["a b", "c"], [0, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/model.safetensors")
    ...     type(rnnfast.load(f"{folder}/model.safetensors")).__name__
    'SequenceClassifier'
    """
    kind = kind_of(path)
    if kind not in _ESTIMATORS:
        raise ModelFileError(f"{path}: expected one of {', '.join(_ESTIMATORS)}, got a {kind!r}")
    return _ESTIMATORS[kind].load(path)
