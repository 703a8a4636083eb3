"""rnnfast: recurrent neural networks on a CPU, from NumPy.

Three layers, each usable without the one above it: ``forward`` and ``backward`` on plain arrays; layers, losses,
optimisers and ``fit``; estimators. ``rnnfast.reference`` has the two functions in NumPy alone.
"""

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

__version__ = "0.1.0"

from . import _threads  # isort: skip  first of all: it loads the extension
from .functions import (
    Gradients,
    MemoryEstimate,
    Output,
    PackedWeights,
    Stream,
    Tape,
    backward,
    cells,
    forward,
    get_num_threads,
    memory_estimate,
    set_num_threads,
    show_config,
)

del _threads

if _TYPE_CHECKING:
    from . import (
        convert,
        datasets,
        diagnostics,
        examples,
        metrics,
        music,
        parallel,
        plots,
        reference,
        sampling,
        streaming,
    )
    from .callbacks import Callback, History
    from .checkpoint import Checkpoint
    from .encoder_decoder import EncoderDecoder, Pairs
    from .estimators import (
        SequenceClassifier,
        SequenceGenerator,
        SequenceRegressor,
        SequenceTagger,
        SequenceTransducer,
        load,
    )
    from .files import ModelFileError
    from .layers import GRU, LSTM, RNN, Dense, Embedding
    from .losses import softmax, softmax_cross_entropy, squared_error
    from .network import Network
    from .optimizers import SGD, AdaGrad, Adam, clip_by_global_norm, clip_by_value
    from .preprocessing import Vocabulary, batches, one_hot, pad, split, tokenize, windows
    from .sequences import Sequences
    from .training import evaluate, fit

# What the functions do not need is imported when it is first asked for: `import rnnfast` stays quick.
_LATER = {
    "convert": ["convert"],
    "datasets": ["datasets"],
    "diagnostics": ["diagnostics"],
    "examples": ["examples"],
    "metrics": ["metrics"],
    "music": ["music"],
    "plots": ["plots"],
    "reference": ["reference"],
    "sampling": ["sampling"],
    "callbacks": ["Callback", "History"],
    "checkpoint": ["Checkpoint"],
    "encoder_decoder": ["EncoderDecoder", "Pairs"],
    "estimators": [
        "SequenceClassifier",
        "SequenceGenerator",
        "SequenceRegressor",
        "SequenceTagger",
        "SequenceTransducer",
        "load",
    ],
    "files": ["ModelFileError"],
    "layers": ["GRU", "LSTM", "RNN", "Dense", "Embedding"],
    "losses": ["softmax", "softmax_cross_entropy", "squared_error"],
    "network": ["Network"],
    "parallel": ["parallel"],
    "optimizers": ["SGD", "AdaGrad", "Adam", "clip_by_global_norm", "clip_by_value"],
    "preprocessing": ["Vocabulary", "batches", "one_hot", "pad", "split", "tokenize", "windows"],
    "sequences": ["Sequences"],
    "streaming": ["streaming"],
    "training": ["evaluate", "fit"],
}
_MODULE_OF = {name: module for module, names in _LATER.items() for name in [module, *names]}
_MODULE_OF |= {name: name for name in ("onnx", "random_rows", "torch")}  # not for *: two need packages of their own


def __getattr__(name: str) -> _Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _importlib.import_module(f".{_MODULE_OF[name]}", __name__)
    value = module if name == _MODULE_OF[name] else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "SGD",
    "AdaGrad",
    "Adam",
    "Callback",
    "Checkpoint",
    "Dense",
    "Embedding",
    "EncoderDecoder",
    "Gradients",
    "History",
    "MemoryEstimate",
    "ModelFileError",
    "Network",
    "Output",
    "PackedWeights",
    "Pairs",
    "SequenceClassifier",
    "SequenceGenerator",
    "SequenceRegressor",
    "SequenceTagger",
    "SequenceTransducer",
    "Sequences",
    "Stream",
    "Tape",
    "Vocabulary",
    "backward",
    "batches",
    "cells",
    "clip_by_global_norm",
    "clip_by_value",
    "convert",
    "datasets",
    "diagnostics",
    "evaluate",
    "examples",
    "fit",
    "forward",
    "get_num_threads",
    "load",
    "memory_estimate",
    "metrics",
    "music",
    "one_hot",
    "pad",
    "parallel",
    "plots",
    "reference",
    "sampling",
    "set_num_threads",
    "show_config",
    "softmax",
    "softmax_cross_entropy",
    "split",
    "squared_error",
    "streaming",
    "tokenize",
    "windows",
]
