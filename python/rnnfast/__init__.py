"""rnnfast: recurrent neural networks on a CPU, from NumPy."""

from . import reference
from .functions import (
    Gradients,
    Output,
    Stream,
    Tape,
    backward,
    cells,
    forward,
    get_num_threads,
    set_num_threads,
    show_config,
)

__version__ = "0.1.0"
