"""What was measured, for people: a table, a plot, and the page docs/roofline.md, all from the JSON alone.

Called by the bench command and by tests. It measures nothing and knows no contender but by name; each target of the
project is one entry of `_row_targets`, and no figure is written by hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .grid import Row, parse

__all__ = ["Line", "Target", "geometric_mean", "lines", "page", "plot", "table", "targets"]

OWN = ("rnnfast", "rnnfast-recompute", "rnnfast-packed", "numpy")  # no peers
TORCH = ("torch", "torch-padded")
OVERHEAD = 0.25  # of the attainable: below it, neither arithmetic nor bandwidth explains the time


@dataclass(frozen=True)
class Line:
    """One row of the table: a row of the grid in one mode on one number of threads."""

    row: Row
    mode: str
    threads: int
    ms: dict[str, float]  # median by contender, of those that were timed
    spread: tuple[float, float]  # 10 and 90 percent of rnnfast's
    least: float
    share_of_peak: float | None
    attainable: float
    share_of_attainable: float
    bound: str
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> float:
        return self.ms["rnnfast"]

    @property
    def best_peer(self) -> str | None:
        peers = {name: ms for name, ms in self.ms.items() if name not in OWN}
        return min(peers, key=peers.__getitem__) if peers else None

    def ratio(self, name: str | None) -> float | None:
        """The other's time over ours."""
        return self.ms[name] / self.ours if name in self.ms else None

    @property
    def torch_ratio(self) -> float | None:
        """To PyTorch in its faster way."""
        return min((self.ms[name] / self.ours for name in TORCH if name in self.ms), default=None)


def lines(result: dict[str, Any]) -> list[Line]:
    """The rows that rnnfast was timed on, in the order of the file."""
    found = []
    for r in result["rows"]:
        ms = {name: c["median"] for name, c in r["contenders"].items() if "median" in c}
        if "rnnfast" not in ms:
            continue
        row, ours = parse(r["row"]), r["contenders"]["rnnfast"]
        peak = r["threads"] * r["peak"] / (2 if row.float64 else 1)
        share = r["attainable"] / ms["rnnfast"]
        layer = row.kind == "layer"
        found.append(
            Line(
                row,
                r["mode"],
                r["threads"],
                ms,
                (ours["p10"], ours["p90"]),
                ours["min"],
                r["flops"] / (ms["rnnfast"] * 1e-3) / peak if layer else None,
                r["attainable"],
                share,
                r["bound"] if share >= OVERHEAD and layer else f"latency and overhead ({r['bound']})",
                {name: c["refused"] for name, c in r["contenders"].items() if "refused" in c},
            )
        )
    return found


def geometric_mean(ratios: Iterable[float | None]) -> float | None:
    """None without any ratio.

    Examples
    --------
    >>> from rnnfast.benchmark.report import geometric_mean
    >>> geometric_mean([2.0, None, 8.0])
    4.0
    """
    logs = [math.log(ratio) for ratio in ratios if ratio]
    return round(math.exp(math.fsum(logs) / len(logs)), 12) if logs else None


# ---- the targets


@dataclass(frozen=True)
class Target:
    """What the project set itself, and what was measured."""

    what: str
    where: str
    goal: float
    value: float
    at_least: bool = True
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def __str__(self) -> str:
        shown = f"{self.value:.1%}" if self.unit == "%" else f"{self.value:.3g}{self.unit}"
        goal = f"{self.goal:.0%}" if self.unit == "%" else f"{self.goal:.3g}{self.unit}"
        return f"{shown} ({'≥' if self.at_least else '≤'} {goal})"


def _row_targets(line: Line, of: dict[tuple[Row, str, int], Line], steps: dict[str, int]) -> list[Target]:
    """Those of one row; `of` finds its companions."""
    row, mode, threads = line.row, line.mode, line.threads
    where = f"{row}, {mode}, {_threads(threads)}"
    found: list[Target] = []

    def add(what: str, goal: float, value: float | None, at_least: bool = True, unit: str = "×") -> None:
        if value is not None:
            found.append(Target(what, where, goal, value, at_least, unit))

    def companion(row: Row, threads: int = threads) -> float | None:
        other = of.get((row, mode, threads))
        return None if other is None else other.ours

    add("faster than the best peer", 1, line.ratio(line.best_peer))
    if row.kind == "model":
        add("whole training step against PyTorch", 3, line.torch_ratio)
        return found
    if row.kind == "stream":
        add("one step of a stream, microseconds", 3, line.ours * 1e3, False, " µs")
        return found
    plain = row.layers == row.directions == 1 and not row.ragged and not row.float64 and row.dx and not row.ids
    if plain and row.N / threads >= 24 and row.H >= 128 and row.T > 1:
        training = mode == "training"
        goal = (0.87 if training else 0.90) if row.H >= 256 else (0.80 if training else 0.82)
        add(f"share of peak, H ≥ {256 if row.H >= 256 else 128}, {mode}", goal, line.share_of_peak, unit="%")
    if plain and row.N == 1:
        add("share of the attainable, N = 1", 0.75, line.share_of_attainable, unit="%")
    if row.ragged and (full := companion(row.but(ragged=False))) is not None:
        part = steps[f"{row} {mode} {threads}"] / (row.N * row.T)
        add("ragged: time over its share of the full batch", 1.1, line.ours / full / part, False)
    if row.ids and (dense := companion(row.but(ids=False, one_hot=True))) is not None:
        few = row.D < 1000
        add(f"token ids against one-hot, D {'<' if few else '≥'} 1000", 1.3 if few else 20, dense / line.ours)
    if row.float64:
        single = companion(row.but(float64=False))
        add("float64: part of the float32 speed", 0.45, None if single is None else single / line.ours)
        add("float64 against PyTorch", 5, line.torch_ratio)
    add("recompute: its time over the plain step's", 1.4, line.ratio("rnnfast-recompute"), False)
    if threads == 2 and row.N >= 8 and (one := companion(row, 1)) is not None:
        add("2 threads over 1, N ≥ 8", 1.85, one / line.ours)
    return found


def targets(result: dict[str, Any]) -> list[Target]:
    """Every target that the measured rows decide, those of single rows first."""
    every = lines(result)
    of = {(line.row, line.mode, line.threads): line for line in every}
    steps = {f"{r['row']} {r['mode']} {r['threads']}": r["steps"] for r in result["rows"]}
    found = [target for line in every for target in _row_targets(line, of, steps)]
    for name, each in _memory(result).items():
        if {"rnnfast", "torch"} <= set(each):
            what = "peak memory of a training step against PyTorch"
            found.append(Target(what, name, 0.6, each["rnnfast"] / each["torch"], False, "×"))
        if {"rnnfast", "rnnfast-recompute"} <= set(each) and parse(name).T >= 4096:
            what = "recompute: its peak memory over the plain step's"
            found.append(Target(what, name, 0.25, each["rnnfast-recompute"] / each["rnnfast"], False, "×"))
    for what, goal, ratio in (
        ("geometric mean over the best peer", 2.5, geometric_mean(line.ratio(line.best_peer) for line in every)),
        ("geometric mean over PyTorch", 4.0, geometric_mean(line.torch_ratio for line in every)),
    ):
        if ratio is not None:
            found.append(Target(what, "all rows", goal, ratio, True, "×"))
    return found


def _memory(result: dict[str, Any]) -> dict[str, dict[str, float]]:
    """MiB by row and contender."""
    by_row: dict[str, dict[str, float]] = {}
    for m in result["memory"]:
        by_row.setdefault(m["row"], {}).update({m["contender"]: m["MiB"]} if "MiB" in m else {})
    return by_row


# ---- the table


def _threads(n: int) -> str:
    return f"{n} thread{'s' if n > 1 else ''}"


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _peers(every: Sequence[Line]) -> list[str]:
    names: dict[str, None] = {}
    for line in every:
        names |= dict.fromkeys([*line.ms, *line.refused])
    return [name for name in names if name != "rnnfast"]


def table(result: dict[str, Any]) -> str:
    """For a terminal: a line for each row, ratios to each contender, geometric means, gaps."""
    every = lines(result)
    peers = _peers(every)
    head = ["row", "mode", "thr", "ms", "10..90 %", "of peak", "of attainable", *peers, "best peer"]
    body = []
    for line in every:
        ratios = ["refused" if name in line.refused else _ratio(line.ratio(name)) for name in peers]
        low, high = line.spread
        body.append(
            [
                *(str(line.row), line.mode, str(line.threads), _ms(line.ours), f"{_ms(low)}..{_ms(high)}"),
                *(_percent(line.share_of_peak), _percent(line.share_of_attainable), *ratios, line.best_peer or "–"),
            ]
        )
    widths = [max(len(cells[k]) for cells in [head, *body]) for k in range(len(head))]
    text = [_machine_text(result), "", "times of the others are in units of rnnfast's: above 1, rnnfast is faster", ""]
    for cells in [head, *body]:
        text.append(
            "  ".join(c.ljust(w) if k < 2 else c.rjust(w) for k, (c, w) in enumerate(zip(cells, widths, strict=True)))
        )
    text += ["", *_means(every)]
    for name, each in _memory(result).items():
        shown = ", ".join(f"{contender} {_ms(mib)} MiB" for contender, mib in each.items())
        text.append(f"peak memory of a training step, {name}: {shown}")
    decided = targets(result)
    text.append(f"targets: {sum(t.met for t in decided)} of {len(decided)} met")
    text += [f"without {name}: {reason}" for name, reason in result["gaps"].items()]
    for name in peers:
        reasons = {line.refused[name] for line in every if name in line.refused}
        if reasons:
            text.append(f"{name} refused, its answers are wrong: {'; '.join(sorted(reasons)[:3])}")
    text += [f"failed: {f['row']}, {f['mode']}: {f['why']}" for f in result.get("failed", ())]
    return "\n".join(text)


def _means(every: Sequence[Line]) -> list[str]:
    text = []
    for mode in dict.fromkeys(line.mode for line in every):
        for threads in sorted({line.threads for line in every if line.mode == mode}):
            part = [line for line in every if (line.mode, line.threads) == (mode, threads)]
            best = geometric_mean(line.ratio(line.best_peer) for line in part)
            torch = geometric_mean(line.torch_ratio for line in part)
            slower = sum((line.ratio(line.best_peer) or 2) <= 1 for line in part)
            text.append(
                f"{mode}, {_threads(threads)}: geometric mean over PyTorch {_ratio(torch)}, "
                f"over the best peer {_ratio(best)}; {slower} of {len(part)} rows not faster than the best peer"
            )
    return text


def _machine_text(result: dict[str, Any]) -> str:
    m = result["machine"]
    sizes = ", ".join(f"{name} {size >> 10} KiB" for name, size in m["caches"].items())
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return (
        f"{m['processor']}, {m['processors']} processors, {sizes}; kernels for {m['instruction set']}; "
        f"{m['compiler']}, extension {m['extension']}; {versions}; {result['date']}"
    )


# ---- the plot


def plot(result: dict[str, Any], path: str | Path) -> None:
    """Share of peak, and ratio to the best peer, of every row; needs matplotlib.

    The kind of file follows from the name; SVG keeps its text and is small.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "rnnfast"})
    import matplotlib.pyplot as plt
    from matplotlib import ticker

    every = lines(result)
    names = list(dict.fromkeys(str(line.row) for line in every))
    modes = [mode for mode in ("training", "inference") if any(line.mode == mode for line in every)]
    figure, axes = plt.subplots(
        1,
        max(2 * len(modes), 1),
        figsize=(3.2 * 2 * max(len(modes), 1) + 3, 1.8 + 0.2 * len(names)),
        sharey=True,
        squeeze=False,
    )
    colours = {1: "tab:blue", 2: "tab:orange"}
    for k, mode in enumerate(modes):
        share, ratio = axes[0][2 * k], axes[0][2 * k + 1]
        for line in every:
            if line.mode != mode:
                continue
            y, colour = names.index(str(line.row)), colours.get(line.threads, "tab:green")
            if line.share_of_peak is not None:
                share.plot(100 * line.share_of_peak, y, "o", color=colour, markersize=4)
            best = line.ratio(line.best_peer)
            if best is not None:
                ratio.plot(best, y, "o", color=colour, markersize=4)
        share.set_xlim(0, 100)
        share.set_title(f"{mode}:\npercent of the peak", fontsize=9)
        ratio.set_xscale("log")
        ratio.xaxis.set_major_locator(ticker.FixedLocator([0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]))
        ratio.xaxis.set_major_formatter("{x:g}")
        ratio.xaxis.set_minor_locator(ticker.NullLocator())
        ratio.axvline(1, color="black", linewidth=0.8)
        ratio.set_title(f"{mode}: time of the\nbest peer over ours", fontsize=9)
        for axis in (share, ratio):
            axis.grid(axis="y", linewidth=0.3)
            axis.tick_params(labelsize=7)
    axes[0][0].set_yticks(range(len(names)), names)
    axes[0][0].invert_yaxis()
    for threads in sorted({line.threads for line in every}):
        colour = colours.get(threads, "tab:green")
        axes[0][0].plot([], [], "o", color=colour, markersize=4, label=_threads(threads))
    axes[0][0].legend(fontsize=7, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if Path(path).suffix == ".svg" else None)
    plt.close(figure)


# ---- the page

_HEAD = """# Roofline: every row beside its peers

This page is written by `rnnfast bench --from FILE --page docs/roofline.md`; no figure is by hand. To measure anew:

    pip install ".[bench,peers]"
    rnnfast bench --json results.json
    rnnfast bench --from results.json --page docs/roofline.md

**Protocol.** Every contender gets the same weights and inputs. Outputs and, in training, the gradients of x, Wx, Wh
and b are compared with the NumPy reference in float64 before anything is timed; a contender whose answers are wrong has
no figure. For each number of threads there is one process on as many processors. In each round every contender runs
calls for 20 ms, after one that is not timed; before its turn all threads of the others have gone to sleep. Times are
medians in milliseconds. A training step is a forward pass that keeps what the backward pass needs, and that backward
pass with gradients of all outputs; weights are packed every time, except by ONNX Runtime, which packs constants when
its session starts. Token ids (`ids`) reach all but rnnfast, JAX and NumPy, which gather rows, as one-hot
vectors made beforehand.

**Attainable** is a roofline: products that can be hoisted out of time run at the multiply-add peak of all threads; the
recurrent product of a step takes the longer of its arithmetic and of reading Wh at the bandwidth of the cache level
that holds each thread's share. Peak and bandwidths were measured between the rounds of each row. *Share of peak* counts
the matrix products alone. *Bound by* says which of the two takes most of that time, or `latency and overhead` where
the measured time is over four times the attainable.
"""


def page(result: dict[str, Any], path: str | Path) -> None:
    """Write the Markdown page and, beside it, its plot; needs matplotlib for the plot.

    A file NAME-notes.md beside it (for docs/roofline.md, docs/roofline-notes.md) becomes the section "What was tried".
    """
    path = Path(path)
    every = lines(result)
    image = path.with_suffix(".svg")
    plot(result, image)
    text = [_HEAD, f"**Machine.** {_machine_text(result)}.", "", _peaks(result), ""]
    text += [f"![share of peak and ratio to the best peer]({image.name})", "", "## Summary", ""]
    text += [f"- {sentence}" for sentence in _means(every)]
    text += ["", *_targets_text(result)]
    for mode in ("training", "inference"):
        for threads in sorted({line.threads for line in every}):
            part = [line for line in every if (line.mode, line.threads) == (mode, threads) and line.row.kind != "model"]
            if part:
                text += [f"## {mode.capitalize()}, {_threads(threads)}", ""]
                text += [*_rows_text(part, result), ""]
    models = [line for line in every if line.row.kind == "model"]
    if models:
        text += ["## Whole training steps of a model", "", *_MODEL, *_rows_text(models, result, with_threads=True), ""]
    text += _memory_text(result)
    text += ["## Which implementation each took", "", *_implementations(result), ""]
    text += [f"- {name}: not here. {reason}" for name, reason in result["gaps"].items()]
    text += [_ABSENT, "", "## What was tried", ""]
    notes = path.with_name(path.stem + "-notes.md")
    text.append(notes.read_text(encoding="utf-8").strip() if notes.exists() else f"(no {notes.name} yet)")
    path.write_text("\n".join(text).rstrip() + "\n", encoding="utf-8")


_MODEL = [
    "Gather, recurrent layers, dense, softmax cross-entropy, clipping by norm, Adam (PyTorch: fused). Loss and all",
    "parameters after one step agreed before the timing, with Adam's ε at 1e-5 for both.",
    "",
]
_ABSENT = (
    "- `mkldnn_rnn_layer` is oneDNN's LSTM, of the version that PyTorch brings.\n"
    "- Keras: its CPU layers are the scans of its back end, JAX or PyTorch operations, so it was left out."
)


def _peaks(result: dict[str, Any]) -> str:
    text = []
    for threads in sorted({r["threads"] for r in result["rows"]}):
        part = [r for r in result["rows"] if r["threads"] == threads]
        peak = _median(r["peak"] for r in part)
        rates = ", ".join(
            f"{int(size) >> 10} KiB {_median(r['bandwidth'][size] for r in part) / 1e9:.0f}"
            for size in sorted(part[0]["bandwidth"], key=int)
        )
        text.append(
            f"{threads} at once: each thread reaches {peak / 1e9:.0f} Gflop/s and reads, "
            f"by working set, {rates} GB/s (medians over the rows)."
        )
    return "\n".join(text)


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def _rows_text(part: Sequence[Line], result: dict[str, Any], with_threads: bool = False) -> list[str]:
    peers = _peers(part)
    every = lines(result)
    of = {(line.row, line.mode, line.threads): line for line in every}
    steps = {f"{r['row']} {r['mode']} {r['threads']}": r["steps"] for r in result["rows"]}
    head = [
        *("row", "bound by", "attainable", "measured", "10..90 %", "of peak", "of attainable"),
        *(f"{name} ms" for name in peers),
        *("best peer / ours", "targets missed"),
    ]
    text = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for line in part:
        missed = [f"{t.what}: {t}" for t in _row_targets(line, of, steps) if not t.met]
        name = str(line.row) + (f", {_threads(line.threads)}" if with_threads else "")
        others = ["refused" if peer in line.refused else _ms(line.ms.get(peer)) for peer in peers]
        cells = [
            *(name, line.bound, _ms(line.attainable), f"**{_ms(line.ours)}**"),
            *(f"{_ms(line.spread[0])}..{_ms(line.spread[1])}", _percent(line.share_of_peak)),
            *(_percent(line.share_of_attainable), *others, _ratio(line.ratio(line.best_peer))),
            "; ".join(missed) or "none",
        ]
        text.append("| " + " | ".join(cells) + " |")
    return text


def _targets_text(result: dict[str, Any]) -> list[str]:
    decided = targets(result)
    text = ["## Targets", "", "| target | met | missed, worst first |", "|---|---|---|"]
    for what in dict.fromkeys(t.what for t in decided):
        each = [t for t in decided if t.what == what]
        missed = sorted(
            (t for t in each if not t.met), key=lambda t: t.value / t.goal if t.at_least else t.goal / t.value
        )
        shown = "; ".join(f"{t.where}: {t}" for t in missed) or "–"
        text.append(f"| {what} | {len(each) - len(missed)} of {len(each)} | {shown} |")
    return [*text, ""]


def _memory_text(result: dict[str, Any]) -> list[str]:
    if not result["memory"]:
        return []
    names = list(dict.fromkeys(m["contender"] for m in result["memory"] if "MiB" in m))
    text = ["## Peak memory of a training step", ""]
    text += ["MiB beyond inputs, weights and libraries, each in a process of its own.", ""]
    text += ["| row | " + " | ".join(names) + " | rnnfast / PyTorch |", "|---" * (len(names) + 2) + "|"]
    for row, each in _memory(result).items():
        ratio = each["rnnfast"] / each["torch"] if {"rnnfast", "torch"} <= set(each) else None
        text.append(f"| {row} | " + " | ".join(_ms(each.get(name)) for name in names) + f" | {_ratio(ratio)} |")
    return [*text, ""]


def _implementations(result: dict[str, Any]) -> list[str]:
    taken: dict[tuple[str, str], dict[str, None]] = {}
    for r in result["rows"]:
        kind = " ".join([r["row"].split()[0], *r["row"].split()[2:]])
        for name, c in r["contenders"].items():
            if "implementation" in c:
                taken.setdefault((name, c["implementation"]), {})[f"{kind} ({r['mode']})"] = None
            elif "refused" in c:
                taken.setdefault((name, "refused, its answers are wrong"), {})[f"{kind} ({r['mode']})"] = None
    text = []
    for (name, implementation), kinds in taken.items():
        where = f" {', '.join(kinds)}" if name in TORCH or "refused" in implementation else ""
        text.append(f"- {name}: {implementation}.{where}")
    return text
