"""pytest-benchmark suite over rows of the grid: each contender's answers are checked, then its call is timed.

Run with  pytest benchmarks --benchmark-enable ; without that flag each benchmark is a plain test. RNNFAST_GRID=all
takes every row, RNNFAST_GRID=gru,ragged those whose names match. `rnnfast bench` interleaves contenders and is the one
to take figures from; this suite is for the loop of change, check, look.
"""

import os

import pytest
from rnnfast.benchmark import versions
from rnnfast.benchmark.contender import compare, make_problem
from rnnfast.benchmark.grid import select
from rnnfast.benchmark.own import reference_answers
from rnnfast.benchmark.peers import CONTENDERS

PATTERNS = os.environ.get("RNNFAST_GRID", "")
FEW = [  # one of each kind that the code tells apart
    "rnn 25/1/65/100",
    "gru 100/1/40/64",
    "lstm 50/32/65/65",
    "lstm 20/20/20/20 ids",
    "gru 9/8/20/20 ragged",
    "lstm 9/8/20/20 bidirectional ragged",
    "gru 9/8/20/20 layers=2",
    "rnn 9/8/20/20 float64",
    "lstm 1/1/1/24 stream",
    "lstm 5/4/65/24 model ids layers=2",
    "lstm 5/4/65/24 model ids embedding=20",
]
ENTRIES = select([] if PATTERNS == "all" else [p for p in PATTERNS.split(",") if p] or FEW)
INSTALLED = [
    name for name, kind in CONTENDERS.items() if kind.package in versions([name]) and name != "rnnfast-recompute"
]
CASES = [(entry.row, mode) for entry in ENTRIES for mode in entry.modes]


@pytest.fixture(scope="module")
def contenders():
    """Made once each: a library is asked for its threads only once."""
    return {}


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize(("row", "mode"), CASES, ids=str)
@pytest.mark.filterwarnings("ignore")  # of the peers
def test_row(benchmark, contenders, row, mode, name):
    if name not in contenders:
        try:
            contenders[name] = CONTENDERS[name](1)
        except ImportError as error:
            contenders[name] = str(error)
    contender = contenders[name]
    if isinstance(contender, str):
        pytest.skip(contender)
    if reason := contender.gap(row, mode):
        pytest.skip(reason)
    benchmark.group = f"{row}, {mode}"
    problem = make_problem(row)
    prepared = contender.prepare(problem, mode)
    _, refused = compare(prepared.answers(), reference_answers(problem, mode), row.item)
    if refused and name not in ("rnnfast", "numpy"):
        pytest.skip(f"{name}: {refused}")  # a peer's mistake is not ours
    assert refused is None
    benchmark(prepared.call)
