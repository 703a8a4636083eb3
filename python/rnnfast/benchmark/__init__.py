"""rnnfast beside its peers: the grid of shapes, checked and timed. Behind `rnnfast bench`; nothing else imports it.

`run` measures and returns a dictionary that is also the JSON file; report.py shows it. The subpackage uses rnnfast's
public functions and what `_core` tells of the machine; no other part of rnnfast may know it, so that it costs nothing
to those who do not measure.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__, _core
from .grid import MEMORY_ROWS, Row, select
from .measure import caches, memory_of, rows_of
from .peers import CONTENDERS

__all__ = ["machine", "run", "versions"]

FORMAT = 1
MEMORY_CONTENDERS = ("rnnfast", "rnnfast-recompute", "torch", "jax")
MODES = ("training", "inference")


def machine() -> dict[str, Any]:
    """What a table must say beside its figures.

    Examples
    --------
    >>> from rnnfast.benchmark import machine
    >>> sorted(machine())
    ['caches', 'compiler', 'extension', 'instruction set', 'processor', 'processors', 'system']
    """
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    return {
        "processor": processor,
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "caches": caches(),
        "instruction set": next(isa["name"] for isa in _core.instruction_sets() if isa["chosen"]),
        "compiler": _core.compiler(),
        "extension": hashlib.sha256(Path(_core.__file__).read_bytes()).hexdigest()[:12],  # another build, another file
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions(contenders: Sequence[str]) -> dict[str, str]:
    """Of Python and of the packages of these contenders that are installed, without importing them.

    Examples
    --------
    >>> from rnnfast.benchmark import versions
    >>> sorted(versions(["rnnfast"]))
    ['numpy', 'python', 'rnnfast']
    """
    found = {"python": platform.python_version(), "rnnfast": __version__, "numpy": metadata.version("numpy")}
    for name in contenders:
        package = CONTENDERS[name].package
        try:
            found.setdefault(package, metadata.version(package))
        except metadata.PackageNotFoundError:
            continue
    return found


def run(
    rows: Sequence[str] = (),
    *,
    quick: bool = False,
    peers: Sequence[str] | None = None,
    threads: Sequence[int] | None = None,
    modes: Sequence[str] = MODES,
    seconds: float | None = None,
    json_file: str | Path | None = None,
    memory: bool = True,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Check and time rows of the grid; Ctrl-C returns what there is.

    Parameters
    ----------
    rows : sequence of str
        Parts of row names, patterns, or rows such as ``"lstm 50/64/256/256"``; none is the whole grid.
    quick : bool
        A dozen small rows, on the most threads alone, less time for each.
    peers : sequence of str, optional
        Names of :data:`rnnfast.benchmark.peers.CONTENDERS` to run beside rnnfast; None is all.
    threads : sequence of int, optional
        Each is a process of its own on as many processors. None is 1 and 2, as far as there are so many.
    modes : sequence of "training", "inference"
    seconds : float, optional
        Of timed calls for each contender and row, unless 20 rounds are over before; None is 1, for `quick` 0.1.
    json_file : path, optional
        Written after each row. Rows that it holds already are not measured again; it must come from this machine,
        this build of the extension and these versions.
    memory : bool
        Measure the peak memory of a training step too.
    seed : int
    progress : callable, optional
        Called with a line of text.

    Returns
    -------
    dict
        What the JSON file holds: machine, versions, settings, gaps, rows, memory.

    Raises
    ------
    ValueError
        A row, peer or mode that is unknown, more threads than processors, or a file of another machine.

    Examples
    --------
    >>> from rnnfast.benchmark import run
    >>> result = run(["rnn 2/2/3/4"], peers=["numpy"], threads=[1], seconds=0.001, memory=False)
    >>> [row["mode"] for row in result["rows"]]
    ['training', 'inference']
    """
    entries = select(rows, quick)
    names = _names(peers)
    for mode in modes:
        if mode not in MODES:
            raise ValueError(f"modes: expected training or inference, got {mode!r}")
    available = machine()["processors"]
    if threads is None:
        possible = [n for n in (1, 2) if n <= available]
        threads = possible[-1:] if quick else possible
    for n in threads:
        if not 1 <= n <= available:
            raise ValueError(f"threads: expected 1 to {available}, the processors at hand, got {n}")
    seconds = (0.1 if quick else 1.0) if seconds is None else seconds
    settings = {"seconds": seconds, "seed": seed, "quick": quick, "arguments": sys.argv[1:]}
    result = _start(json_file, names, settings)
    say = progress or (lambda _: None)

    try:
        for n in threads:
            wanted = [(entry.row, mode) for mode in modes for entry in entries if mode in entry.modes]
            done = {(r["row"], r["mode"]) for r in result["rows"] if r["threads"] == n and set(names) <= _tried(r)}
            waiting = [(row, mode) for row, mode in wanted if (str(row), mode) not in done]
            _measure(waiting, names, n, seconds, seed, result, json_file, say)
        if memory and "training" in modes and not rows:
            for row in MEMORY_ROWS[1:2] if quick else MEMORY_ROWS:
                _measure_memory(row, names, max(threads), seed, result, json_file, say)
    except KeyboardInterrupt:
        result["interrupted"] = True
        say("interrupted")
    _write(json_file, result)
    return result


def _names(peers: Sequence[str] | None) -> list[str]:
    if peers is None:
        return list(CONTENDERS)
    for name in peers:
        if name not in CONTENDERS:
            raise ValueError(f"peers: expected some of {', '.join(CONTENDERS)}, got {name!r}")
    return ["rnnfast", *(name for name in CONTENDERS if name in peers and name != "rnnfast")]


def _tried(row: dict[str, Any]) -> set[str]:
    return set(row["contenders"]) | set(row.get("missing", ()))


def _start(json_file: str | Path | None, names: list[str], settings: dict[str, Any]) -> dict[str, Any]:
    """A new result, or the one in the file."""
    fresh = {
        "format": FORMAT,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(names),
        "settings": settings,
        "gaps": {},
        "rows": [],
        "memory": [],
    }
    if json_file is None or not Path(json_file).exists():
        return fresh
    try:
        old: Any = json.loads(Path(json_file).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{json_file}: is no JSON ({error}); name another file") from error
    if not isinstance(old, dict):
        raise ValueError(f"{json_file}: holds no results; name another file")
    same = all(old.get(key) == fresh[key] for key in ("format", "machine"))
    common = set(old.get("versions", ())) & set(fresh["versions"])  # type: ignore[call-overload]
    if not same or any(old["versions"][name] != versions(names)[name] for name in common):
        raise ValueError(f"{json_file}: holds results of another machine, build or version; name another file")
    old["versions"] |= versions(names)
    old.pop("interrupted", None)
    return old


def _measure(
    waiting: list[tuple[Row, str]],
    names: list[str],
    threads: int,
    seconds: float,
    seed: int,
    result: dict[str, Any],
    json_file: str | Path | None,
    say: Callable[[str], None],
) -> None:
    total = len(waiting)
    while waiting:
        try:
            for found in rows_of(waiting, names, threads, seconds, seed):
                if "row" not in found:
                    for name, reason in found["gaps"].items():
                        if name not in result["gaps"]:
                            say(f"without {name}: {reason}")
                    result["gaps"] |= found["gaps"]
                    continue
                row, mode = waiting.pop(0)
                say(f"[{total - len(waiting)}/{total}, {threads} threads] {_line(found['row'])}")
                _keep(result, found["row"] | {"missing": sorted(result["gaps"])})
                _write(json_file, result)
        except RuntimeError as error:  # one row, or a peer in it, ended the process: on with the next
            if not waiting:
                break
            row, mode = waiting.pop(0)
            say(f"{row}, {mode}: {error}")
            result.setdefault("failed", []).append(
                {"row": str(row), "mode": mode, "threads": threads, "why": str(error)}
            )


def _keep(result: dict[str, Any], row: dict[str, Any]) -> None:
    key = (row["row"], row["mode"], row["threads"])
    result["rows"] = [r for r in result["rows"] if (r["row"], r["mode"], r["threads"]) != key] + [row]


def _line(row: dict[str, Any]) -> str:
    times = {name: c["median"] for name, c in row["contenders"].items() if "median" in c}
    shown = ", ".join(f"{name} {ms:.3g} ms" for name, ms in times.items())
    refused = "".join(f", {name} refused" for name, c in row["contenders"].items() if "refused" in c)
    return f"{row['row']}, {row['mode']}: {shown}{refused}"


def _measure_memory(
    row: Row,
    names: list[str],
    threads: int,
    seed: int,
    result: dict[str, Any],
    json_file: str | Path | None,
    say: Callable[[str], None],
) -> None:
    for name in MEMORY_CONTENDERS:
        key = (str(row), name, threads)
        if name not in names or any((m["row"], m["contender"], m["threads"]) == key for m in result["memory"]):
            continue
        found = memory_of(row, name, threads, seed)
        result["memory"].append({"row": str(row), "contender": name, "threads": threads, **found})
        say(f"memory, {row}, {name}: {found.get('gap') or format(found['MiB'], '.0f') + ' MiB'}")
        _write(json_file, result)


def _write(json_file: str | Path | None, result: dict[str, Any]) -> None:
    """Replace the file at once: an interruption leaves the old one or the new one."""
    if json_file is None:
        return
    path = Path(json_file)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
