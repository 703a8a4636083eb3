"""rnnfast: recurrent neural networks on a CPU, from NumPy.

Three layers, each usable without the one above it: ``forward`` and ``backward`` on plain arrays; layers, losses,
optimisers and ``fit``; estimators. ``rnnfast.reference`` has the two functions in NumPy alone.
"""

__version__ = "0.1.0"

from . import _threads  # isort: skip  first of all: it loads the extension
from . import datasets, reference
from .estimators import SequenceClassifier
from .files import ModelFileError
from .functions import (
    Gradients,
    MemoryEstimate,
    Output,
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
from .layers import GRU, LSTM, RNN, Dense, Embedding
from .losses import softmax, softmax_cross_entropy, squared_error
from .network import Network
from .optimizers import SGD, AdaGrad, Adam, clip_by_global_norm, clip_by_value
from .preprocessing import Vocabulary, batches, one_hot, pad, split, tokenize
from .training import Callback, History, Sequences, evaluate, fit

del _threads

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "SGD",
    "AdaGrad",
    "Adam",
    "Callback",
    "Dense",
    "Embedding",
    "Gradients",
    "History",
    "MemoryEstimate",
    "ModelFileError",
    "Network",
    "Output",
    "SequenceClassifier",
    "Sequences",
    "Stream",
    "Tape",
    "Vocabulary",
    "backward",
    "batches",
    "cells",
    "clip_by_global_norm",
    "clip_by_value",
    "datasets",
    "evaluate",
    "fit",
    "forward",
    "get_num_threads",
    "memory_estimate",
    "one_hot",
    "pad",
    "reference",
    "set_num_threads",
    "show_config",
    "softmax",
    "softmax_cross_entropy",
    "split",
    "squared_error",
    "tokenize",
]
