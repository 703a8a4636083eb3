"""rnnfast.benchmark: the grid, the arithmetic of bounds, the check that refuses wrong answers, rounds, report, command.

The report is tested on a small result recorded here; timings themselves are tested nowhere.
"""

from __future__ import annotations

import copy
import doctest
import importlib
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import rnnfast
from rnnfast import benchmark
from rnnfast.__main__ import main
from rnnfast.benchmark import grid, measure, own, peers, report
from rnnfast.benchmark.contender import Contender, Prepared, Problem, Weights, compare, make_problem
from rnnfast.benchmark.grid import Machine, Row, parse


@pytest.mark.parametrize("name", ["contender", "grid", "measure", "onednn", "peers", "report"])
def test_docstring_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"rnnfast.benchmark.{name}"))
    assert result.failed == 0


# ---- grid


def test_every_row_reads_back() -> None:
    rows = [entry.row for entry in grid.GRID]
    assert [parse(str(row)) for row in rows] == rows
    assert len(set(rows)) == len(rows)
    assert len(rows) > 50


def test_the_grid_holds_the_shapes_that_were_promised() -> None:
    rows = {str(entry.row): entry for entry in grid.GRID}
    for cell in ("lstm", "rnn", "gru"):
        assert {f"{cell} 50/50/65/128 ids", f"{cell} 50/50/65/128 one-hot"} <= set(rows)
    for n in (1, 2, 4):
        assert "inference" in rows[f"lstm 25/{n}/1024/1024"].modes
    assert 10 <= len(grid.select(quick=True)) <= 14
    assert {str(row) for row in grid.MEMORY_ROWS} >= {"lstm 4096/8/64/128", "lstm 100/64/512/512"}


@pytest.mark.parametrize(
    "text",
    [
        "lstm",
        "lstm 1/2/3",
        "lstm 1/2/3/x",
        "elman 1/2/3/4",
        "lstm 0/2/3/4",
        "lstm 1/2/3/4 fast",
        "gru 1/2/3/4 layers=0",
    ],
)
def test_what_is_no_row(text: str) -> None:
    with pytest.raises(ValueError, match="row: "):
        parse(text)


def test_select() -> None:
    assert {entry.row.cell for entry in grid.select(["gru *"])} == {"gru"}
    assert [str(entry.row) for entry in grid.select(["rnn 3/4/5/6 ragged"])] == ["rnn 3/4/5/6 ragged"]
    assert [str(entry.row) for entry in grid.select(["lstm 50/64/256/256"])] == ["lstm 50/64/256/256"]
    assert grid.select(["ragged lstm", "lstm"])[:3] == grid.select(["lstm ragged"])
    assert len(grid.select(["stream", "model"])) == 3
    assert grid.select(["lstm 2/3/4/5 ids model"])[0].modes == ("training",)
    with pytest.raises(ValueError, match="'nothing' matches no row"):
        grid.select(["nothing"])


def test_ragged_lengths_span_the_whole_range() -> None:
    row = parse("lstm 10/500/3/4 ragged")
    lengths = grid.lengths_of(row, 0)
    assert set(lengths) == set(range(1, 11))
    assert lengths[0] == 10
    assert (grid.lengths_of(row.but(ragged=False), 0) == 10).all()


def flops(text: str, mode: str) -> float:
    row = parse(text)
    return grid.flops(row, mode, np.full(row.N, row.T))


def test_flops() -> None:
    one = 2 * 4 * 7 * (3 + 7) * 5 * 2  # 2 G H (D + H) T N
    assert flops("lstm 5/2/3/7", "inference") == one
    assert flops("lstm 5/2/3/7", "training") == 3 * one
    assert flops("lstm 5/2/3/7 no-dx", "training") == 3 * one - 2 * 4 * 7 * 3 * 10
    assert flops("lstm 5/2/3/7 ids", "inference") == 2 * 4 * 7 * 7 * 10
    assert flops("lstm 5/2/3/7 ids", "training") == 3 * 2 * 4 * 7 * 7 * 10
    assert flops("lstm 5/2/3/7 bidirectional", "training") == 6 * one
    assert flops("gru 5/2/3/7 layers=2", "inference") == 2 * 3 * 7 * (3 + 7 + 7 + 7) * 10
    assert flops("lstm 5/2/9/7 ids embedding=3 model", "training") == 3 * (one + 2 * 7 * 9 * 10)
    half = grid.flops(parse("lstm 4/2/3/7 ragged"), "inference", np.array([4, 1]))
    assert half == 2 * 4 * 7 * 10 * 5


def machine(threads: int = 1, **changes: Any) -> Machine:
    made: dict[str, Any] = {
        "peak": 1e11,
        "bandwidth": {1 << 14: 2e11, 1 << 18: 1e11, 1 << 22: 5e10, 1 << 26: 1e10},
        "caches": {"L1": 1 << 15, "L2": 1 << 19, "L3": 1 << 24},
    } | changes
    return Machine(threads, **made)


def bound(text: str, mode: str, of: Machine) -> grid.Bound:
    row = parse(text)
    return grid.attainable(row, mode, np.full(row.N, row.T), of)


def test_the_bandwidth_of_a_level_holds_within_it() -> None:
    m = machine()
    assert m.read_rate(100) == m.read_rate(1 << 15) == 2e11
    assert m.read_rate((1 << 15) + 1) == m.read_rate(1 << 19) == 1e11
    assert m.read_rate(1 << 23) == 5e10
    assert m.read_rate(1 << 30) == 1e10
    between = machine(bandwidth={1 << 20: 6e10, 1 << 24: 4e10}).read_rate(1 << 22)
    assert between == pytest.approx(5e10)


def test_large_batches_are_bound_by_arithmetic() -> None:
    for mode in ("training", "inference"):
        found = bound("lstm 50/64/256/256", mode, machine(2))
        assert found.by == "arithmetic"
        assert found.seconds == pytest.approx(flops("lstm 50/64/256/256", mode) / 2e11)
    assert bound("lstm 50/64/256/256 float64", "training", machine()).seconds == pytest.approx(
        2 * bound("lstm 50/64/256/256", "training", machine()).seconds
    )


def test_batch_one_is_bound_by_reading_weights() -> None:
    found = bound("lstm 25/1/1024/1024", "inference", machine())
    size = 4 * 4 * 1024 * 1024  # 16 MiB, just within L3
    assert found.by == "L3 bandwidth"
    assert found.seconds == pytest.approx(25 * size / 5e10 + 2 * size / 4 * 25 / 1e11)
    half = bound("lstm 25/1/1024/1024", "inference", machine(2))
    assert half.seconds == pytest.approx(found.seconds / 2)
    fits = bound("gru 25/1/8/256", "inference", machine(2))  # 384 KiB each of 768
    assert fits.by == "L2 bandwidth"
    there_and_back = bound("gru 25/1/8/256", "training", machine(2))
    assert 2 * 25 * 3 * 256 * 256 * 4 / 2 / 1e11 < there_and_back.seconds < 3 * fits.seconds


def test_ragged_steps_count_what_is_active() -> None:
    row = parse("lstm 3/2/8/64 ragged")
    both = grid.attainable(row, "inference", np.array([3, 3]), machine()).seconds
    one = grid.attainable(row, "inference", np.array([3, 0]), machine()).seconds
    assert both / 2 <= one < both


# ---- peers


def answers(row: Row, mode: str, change: Any = None) -> tuple[float, str | None]:
    """rnnfast's answers to a problem that `change` has spoilt, against the reference's to the true one."""
    problem = make_problem(row)
    spoilt = copy.deepcopy(problem)
    if change is not None:
        change(spoilt)
    found = own.Rnnfast(1).prepare(spoilt, mode).answers()
    return compare(found, own.reference_answers(problem, mode), row.item)


ROWS = [
    "lstm 6/5/4/9",
    "gru 6/5/4/9 ragged",
    "rnn 6/5/4/9 float64",
    "lstm 6/5/4/9 ids",
    "lstm 6/5/4/9 one-hot",
    "gru 6/5/4/9 bidirectional ragged",
    "lstm 6/5/4/9 layers=2",
    "gru 6/5/4/9 no-dx",
    "lstm 1/1/1/24 stream",
]


@pytest.mark.parametrize("text", ROWS)
def test_rnnfast_and_the_reference_agree(text: str) -> None:
    for mode in ("inference",) if "stream" in text else ("training", "inference"):
        error, refused = answers(parse(text), mode)
        assert refused is None
        assert error < 1e-5


def test_all_gradients_are_asked_for() -> None:
    problem = make_problem(parse("gru 3/2/4/5 layers=2 bidirectional"))
    weights = {f"{w} l{layer}{d}" for w in ("Wx", "Wh", "b") for layer in (0, 1) for d in ("", "_reverse")}
    assert set(own.reference_answers(problem, "training")) == {"h", "x"} | weights
    without = own.reference_answers(make_problem(parse("gru 3/2/4/5 ids")), "training")
    assert set(without) == {"h", "Wx l0", "Wh l0", "b l0"}


@pytest.mark.parametrize("mode", ["training", "inference"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_wrong_order_of_gates_is_refused(cell: str, mode: str) -> None:
    def swap(problem: Problem) -> None:
        for array in problem.weights[0][0]:
            array[..., :9], array[..., 9:18] = array[..., 9:18].copy(), array[..., :9].copy()

    _, refused = answers(parse(f"{cell} 6/5/4/9"), mode, swap)
    assert refused is not None
    assert "is off by" in refused


def test_small_mistakes_are_refused() -> None:
    def late(problem: Problem) -> None:
        problem.dh[:, -1] *= 1.001  # in a gradient alone

    assert answers(parse("lstm 6/5/4/9"), "training", late)[1] is not None
    expected = {"h": np.ones((2, 3))}
    assert compare({"h": np.full((2, 3), np.nan)}, expected, 4)[1] is not None
    assert "no answer for h" in str(compare({}, expected, 4)[1])
    assert "shape" in str(compare({"h": np.ones((3, 2))}, expected, 4)[1])
    assert compare({"h": expected["h"] + 1e-6}, expected, 4)[1] is None
    assert compare({"h": expected["h"] + 1e-6}, expected, 8)[1] is not None


def test_a_model_step_agrees_in_both_precisions() -> None:
    row = parse("lstm 5/4/13/8 ids embedding=6 model")
    problem = make_problem(row)
    found = own.Rnnfast(1).prepare(problem, "training").answers()
    assert {"loss", "embedding.E", "dense.W", "recurrent.Wx_l0"} <= set(found)
    error, refused = compare(found, own.reference_answers(problem, "training"), 4)
    assert refused is None
    before = own.model_network(problem, np.float32, 1).named_parameters()
    assert all(np.abs(found[name] - p).max() > 100 * error * np.abs(p).max() for name, p in before.items())


@pytest.mark.parametrize("name", ["torch", "torch-padded", "onednn", "onnxruntime", "jax", "thinc"])
@pytest.mark.filterwarnings("ignore")
def test_peers_that_are_installed_agree(name: str) -> None:
    if peers.CONTENDERS[name].package not in benchmark.versions([name]):
        pytest.skip("not installed")
    contender = peers.CONTENDERS[name](1)
    tried = 0
    for text in ROWS:
        row = parse(text)
        for mode in ("training", "inference"):
            if contender.gap(row, mode) or (row.kind == "stream" and mode == "training"):
                continue
            if name == "thinc" and mode == "training":
                continue  # test_thinc_trains_wrongly
            problem = make_problem(row)
            prepared = contender.prepare(problem, mode)
            prepared.call()
            assert compare(prepared.answers(), own.reference_answers(problem, mode), row.item)[1] is None, text
            assert contender.implementation(problem, mode, prepared)
            tried += 1
    assert tried


def test_thinc_trains_wrongly() -> None:
    """Its backward pass adds gradients to the weights and leaves out the first step: when this fails, time it."""
    pytest.importorskip("thinc")
    problem = make_problem(parse("lstm 6/5/4/9"))
    found = peers.CONTENDERS["thinc"](1).prepare(problem, "training").answers()
    assert compare(found, own.reference_answers(problem, "training"), 4)[1] is not None
    assert np.abs(found["x"][:, 0]).max() == 0


# ---- measure


def test_rates_of_the_machine() -> None:
    peak = measure.peak(1)
    assert 1e8 < peak < 1e13
    near, far = (max(measure.bandwidth(1, size) for _ in range(5)) for size in (1 << 14, 1 << 26))
    assert 1e8 < far < 1e13
    assert far / 4 < near < 1e13  # more by a factor of ten on a quiet machine: a busy one halved it between the two
    with pytest.raises(ValueError, match="bytes: expected at least 1024, got 10"):
        rnnfast._core.read_rate(10, 0.001)


def test_caches(tmp_path: Path) -> None:
    for k, (kind, level, size) in enumerate([("Data", 1, 32), ("Instruction", 1, 64), ("Unified", 2, 512)]):
        folder = tmp_path / "cpu3" / "cache" / f"index{k}"
        folder.mkdir(parents=True)
        for name, value in (("type", kind), ("level", level), ("size", f"{size}K")):
            (folder / name).write_text(f"{value}\n")
    assert measure.caches(3, tmp_path) == {"L1": 32 << 10, "L2": 512 << 10}
    assert measure.caches(4, tmp_path) == measure.NO_CACHES


def test_rounds_interleave(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(measure, "BURST", 0.0)
    monkeypatch.setattr(measure, "settle", lambda: None)
    timings = {name: measure.Timing(lambda name=name: order.append(name)) for name in "ab"}  # type: ignore[misc]
    between: list[int] = []
    measure.interleave(timings, 1.0, between.append)
    assert order[:6] == list("aaabbb")
    assert order[6:] == list("aabb") * measure.ROUNDS  # one untimed, one timed
    assert between == list(range(measure.ROUNDS))
    summary = timings["a"].summary()
    assert summary["rounds"] == summary["calls"] == measure.ROUNDS
    assert summary["min"] <= summary["p10"] <= summary["median"] <= summary["p90"]


def test_slow_calls_get_fewer_rounds() -> None:
    timing = measure.Timing(lambda: None)
    for rounds, seconds, done in [(2, 3.0, False), (3, 3.0, True), (3, 0.5, False), (5, 0.3, True), (5, 0.1, False)]:
        timing.rounds, timing.seconds = rounds, [seconds] * rounds
        assert timing.done(1.0) is done, (rounds, seconds)


def test_settle_waits_for_busy_threads() -> None:
    import threading

    stop = time.perf_counter() + 0.05

    def spin() -> None:
        while time.perf_counter() < stop:
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    measure.settle(limit=5)
    assert time.perf_counter() >= stop
    thread.join()


# ---- run, and the command


def small(**changes: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"peers": ["numpy"], "threads": [1], "seconds": 0.001, "memory": False} | changes
    return benchmark.run(["rnn 2/2/3/4"], **options)


def test_run_measures_and_goes_on_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "results.json"
    first = small(json_file=file)
    assert json.loads(file.read_text()) == first
    assert [(r["row"], r["mode"], r["threads"]) for r in first["rows"]] == [
        ("rnn 2/2/3/4", "training", 1),
        ("rnn 2/2/3/4", "inference", 1),
    ]
    for row in first["rows"]:
        assert set(row["contenders"]) == {"rnnfast", "numpy"}
        assert row["contenders"]["rnnfast"]["median"] > 0
        assert row["peak"] > 1e8
        assert row["attainable"] > 0
    assert small(json_file=file)["rows"] == first["rows"]  # nothing was measured anew
    monkeypatch.setattr(benchmark, "machine", lambda: {"processor": "another", "processors": 1})
    with pytest.raises(ValueError, match="another machine, build or version"):
        small(json_file=file)


def test_a_missing_peer_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent(Contender):
        name: ClassVar[str] = "absent"
        package: ClassVar[str] = "no_such_package"

        def __init__(self, threads: int) -> None:
            import no_such_package  # noqa: F401

    monkeypatch.setitem(peers.CONTENDERS, "absent", Absent)
    bench = measure._Bench(["rnnfast", "absent"], 1, 0.001, 0)
    assert set(bench.contenders) == {"rnnfast"}
    assert bench.gaps == {"absent": "ModuleNotFoundError: No module named 'no_such_package'"}
    assert "absent" not in bench.row(parse("rnn 2/2/3/4"), "inference")["contenders"]
    assert "no_such_package" not in benchmark.versions(["absent"])


def test_a_wrong_peer_is_refused_and_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Swapped(own.Rnnfast):
        name: ClassVar[str] = "swapped"

        def prepare(self, problem: Problem, mode: str) -> Prepared:
            ((w,),) = problem.weights
            H = problem.row.H
            order = np.r_[H : 2 * H, :H, 2 * H : 4 * H]
            weights = [[Weights(w.Wx[:, order].copy(), w.Wh[:, order].copy(), w.b[order].copy())]]
            return super().prepare(Problem(problem.row, problem.x, weights, problem.lengths, problem.dh), mode)

    class Broken(own.Rnnfast):
        name: ClassVar[str] = "broken"

        def prepare(self, problem: Problem, mode: str) -> Prepared:
            raise RuntimeError("no such operator\nand more")

    monkeypatch.setitem(peers.CONTENDERS, "swapped", Swapped)
    monkeypatch.setitem(peers.CONTENDERS, "broken", Broken)
    row = measure._Bench(["rnnfast", "swapped", "broken"], 1, 0.001, 0).row(parse("lstm 3/2/4/5"), "training")
    assert "refused" in row["contenders"]["swapped"]
    assert "median" not in row["contenders"]["swapped"]
    assert row["contenders"]["broken"] == {"gap": "RuntimeError: no such operator"}
    assert row["contenders"]["rnnfast"]["median"] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peers": ["nobody"]}, "peers: expected some of rnnfast, .*, got 'nobody'"),
        ({"threads": [10_000]}, "threads: expected 1 to"),
        ({"modes": ["both"]}, "modes: expected training or inference, got 'both'"),
    ],
)
def test_what_run_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**change)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_memory_of_a_step() -> None:
    row = parse("lstm 64/32/64/128")
    found = measure.memory_of(row, "rnnfast", 1, 0)
    h = row.N * row.T * row.H * 4 / 2**20
    assert 6 * h < found["MiB"] < 30 * h  # gates, states and outputs are some 8 times h
    assert "gap" in measure.memory_of(row, "rnnfast-recompute", 1, 0)  # too short


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results.json"
    arguments = ["bench", "--rows", "gru 2/2/3/4", "--peers", "numpy", "--threads", "1", "--seconds", "0.001"]
    assert main([*arguments, "--modes", "inference", "--json", str(file)]) == 0
    shown, progress = capsys.readouterr()
    assert "gru 2/2/3/4" in shown
    assert "[1/1, 1 threads] gru 2/2/3/4, inference: rnnfast" in progress
    assert main(["bench", "--from", str(file)]) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "nothing"], "matches no row"),
        (["--peers", "nobody"], "got 'nobody'"),
        (["--json", "no/such/folder/x.json"], "expected a path in a folder that exists"),
        (["--from", "pyproject.toml"], "expected a file that --json wrote"),
    ],
)
def test_what_the_command_refuses(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parent.parent)
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_plot_without_matplotlib_fails_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(benchmark, "run", lambda *args, **options: pytest.fail("measured"))
    assert main(["bench", "--page", "roofline.md"]) == 2
    assert "need matplotlib" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    command = [sys.executable, "-m", "rnnfast", "bench", "--peers", "numpy", "--threads", "1", "--seconds", "0.01"]
    rows = ["--rows", "rnn 2/2/3/4", "lstm 20/20/200/200", "gru 300/20/800/800"]
    with subprocess.Popen(
        [*command, *rows, "--json", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            end = time.monotonic() + 60
            while not file.exists() and time.monotonic() < end:
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    result = json.loads(file.read_text())
    assert result["interrupted"]
    assert 1 <= len(result["rows"]) < 6
    assert "Traceback" not in err
    assert "rnn 2/2/3/4" in out


# ---- report


def recorded() -> dict[str, Any]:
    """Two rows on one and two threads, as the JSON file holds them."""

    def contender(ms: float) -> dict[str, Any]:
        return {"median": ms, "p10": 0.9 * ms, "p90": 1.2 * ms, "min": 0.8 * ms, "rounds": 20, "calls": 40,
                "error": 1e-6, "implementation": "some"}  # fmt: skip

    def row(text: str, mode: str, threads: int, attainable: float, **contenders: Any) -> dict[str, Any]:
        parsed = parse(text)
        lengths = np.full(parsed.N, parsed.T)
        return {
            "row": text,
            "mode": mode,
            "threads": threads,
            "steps": int(lengths.sum()),
            "flops": grid.flops(parsed, mode, lengths),
            "peak": 1e11,
            "bandwidth": {"16384": 2e11},
            "attainable": attainable,
            "bound": "arithmetic",
            "seed": 0,
            "contenders": {
                name.replace("_", "-"): c if isinstance(c, dict) else contender(c) for name, c in contenders.items()
            },
        }

    refused = {"refused": "h is off by 1.0e+00 of its largest number"}
    return {
        "format": 1,
        "date": "2026-01-01T00:00:00+00:00",
        "machine": {
            "processor": "Some CPU",
            "processors": 2,
            "caches": {"L1": 32768},
            "instruction set": "avx2",
            "compiler": "gcc",
            "extension": "0123456789ab",
            "system": "Linux",
        },
        "versions": {"rnnfast": "0.1.0", "torch": "2"},
        "settings": {},
        "gaps": {"jax": "ModuleNotFoundError: No module named 'jax'"},
        "rows": [
            row("lstm 50/64/256/256", "training", 1, 100.7, rnnfast=125.0, numpy=900.0, torch=250.0, thinc=refused),
            row("lstm 50/64/256/256", "training", 2, 50.3, rnnfast=62.5, numpy=800.0, torch=62.5, onnxruntime=50.0),
            row("lstm 10/8/65/100 ids", "inference", 1, 1.0, rnnfast=1.0, torch=8.0),
            row("lstm 10/8/65/100 one-hot", "inference", 1, 1.0, rnnfast=1.2, torch=8.0, torch_padded=4.8),
            row("lstm 1/1/1/24 stream", "inference", 1, 1e-4, rnnfast=0.002, torch=0.02),
        ],
        "memory": [
            {"row": "lstm 50/64/256/256", "contender": "rnnfast", "threads": 2, "MiB": 30.0},
            {"row": "lstm 50/64/256/256", "contender": "torch", "threads": 2, "MiB": 60.0},
            {"row": "lstm 50/64/256/256", "contender": "rnnfast-recompute", "threads": 2, "gap": "no recompute"},
        ],
    }


def test_lines() -> None:
    first, second, *_ = report.lines(recorded())
    assert first.share_of_peak == pytest.approx(flops("lstm 50/64/256/256", "training") / 0.125 / 1e11)
    assert first.share_of_attainable == pytest.approx(100.7 / 125)
    assert (first.best_peer, first.ratio("torch"), first.torch_ratio) == ("torch", 2.0, 2.0)
    assert first.refused == {"thinc": "h is off by 1.0e+00 of its largest number"}
    assert (second.best_peer, second.ratio("onnxruntime")) == ("onnxruntime", 0.8)
    assert report.lines(recorded())[3].torch_ratio == 4.0  # its faster way
    assert report.lines(recorded())[4].bound.startswith("latency and overhead")


def test_targets() -> None:
    found: dict[str, list[report.Target]] = {}
    for target in report.targets(recorded()):
        found.setdefault(target.what, []).append(target)
    assert [t.met for t in found["faster than the best peer"]] == [True, False, True, True, True]
    share = found["share of peak, H ≥ 256, training"]
    assert [t.goal for t in share] == [0.87, 0.87]
    assert [t.met for t in share] == [False, False]
    assert [t.value for t in found["2 threads over 1, N ≥ 8"]] == [2.0]
    assert [(t.value, t.met) for t in found["token ids against one-hot, D < 1000"]] == [(1.2, False)]
    assert [(t.value, t.met) for t in found["one step of a stream, microseconds"]] == [(2.0, True)]
    assert [(t.value, t.met) for t in found["peak memory of a training step against PyTorch"]] == [(0.5, True)]
    assert found["geometric mean over PyTorch"][0].value == pytest.approx(math.prod([2, 1, 8, 4, 10]) ** 0.2)


def test_table() -> None:
    text = report.table(recorded())
    assert "Some CPU" in text
    assert "without jax: ModuleNotFoundError" in text
    assert "thinc refused, its answers are wrong" in text
    line = next(line for line in text.splitlines() if line.startswith("lstm 50/64/256/256") and " 2 " in line)
    assert line.split()[-1] == "onnxruntime"
    assert "0.80" in line
    assert "training, 2 threads: geometric mean over PyTorch 1.00, over the best peer 0.80; 1 of 1 rows not" in text


def test_page(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "roofline.md"
    report.page(recorded(), path)
    text = path.read_text(encoding="utf-8")
    for heading in ("Targets", "Training, 1 thread", "Training, 2 threads", "Inference, 1 thread", "What was tried"):
        assert f"\n## {heading}\n" in text
    assert "lstm 50/64/256/256, training, 2 threads: 0.8× (≥ 1×)" in text
    assert "| lstm 50/64/256/256 | 30 | 60 | 0.50 |" in text
    assert "(no roofline-notes.md yet)" in text
    assert (tmp_path / "roofline.svg").stat().st_size < 200_000
    (tmp_path / "roofline-notes.md").write_text("### Batch 1\n\nTwo ways.\n", encoding="utf-8")
    report.page(recorded(), path)
    assert path.read_text(encoding="utf-8").endswith("## What was tried\n\n### Batch 1\n\nTwo ways.\n")
    assert all(line.count("|") in (0, n) for n, block in tables(text) for line in block)


def tables(text: str) -> list[tuple[int, list[str]]]:
    """Lines of each Markdown table, with the bars of its first line."""
    blocks: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [(block[0].count("|"), block) for block in blocks if block]
