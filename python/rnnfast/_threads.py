"""How many threads there are and how they wait. Imported before anything else loads ``_core``; knows nothing more.

GNU OpenMP reads its settings when it is loaded. By default a waiting thread spins for milliseconds, which costs a busy
neighbour, or the other thread of the same team on a shared processor, far more than it gains here; a thousand rounds
cover the gaps between two parallel loops of a call. The setting is made for the load only, unless the caller has one.
"""

from __future__ import annotations

import os

_SPIN = "GOMP_SPINCOUNT"
_short = _SPIN not in os.environ and "OMP_WAIT_POLICY" not in os.environ
if _short:
    os.environ[_SPIN] = "1000"
try:
    from . import _core
finally:
    if _short:
        os.environ.pop(_SPIN, None)


def processors() -> list[int]:
    """Those that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [*range(os.cpu_count() or 1)]


for _name in ("RNNFAST_NUM_THREADS", "OMP_NUM_THREADS"):
    _value = os.environ.get(_name, "").split(",")[0].strip()
    if _value.isdecimal() and int(_value) > 0:
        _core.set_num_threads(int(_value))
        break
    if _value and _name.startswith("RNNFAST"):
        raise ImportError(f"{_name}: expected a positive integer, got {_value!r}")
else:
    _core.set_num_threads(len(processors()))
