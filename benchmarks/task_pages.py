"""The pages of the worked examples, made from what tasks.py measured: the code, the figures, the time, a picture.

tasks.py calls `write`; everything here is a function of its JSON file, but for `code_of`, which writes the code that a
page shows and a test runs. It must not measure.
"""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnnfast.examples import Example, Parts

__all__ = ["code_of", "overview", "page", "write"]

Entry = Mapping[str, Any]
SHARES = ("accuracy", "F1", "exact", "rate")  # figures that are parts of a whole
ERRORS = ("rate", "mse", "mae", "bits", "perplexity", "error", "distance", "loss")  # less is better
GOALS = {True: 3.0, False: 2.0}  # how many times faster than PyTorch: on ragged sequences, on others


def code_of(example: Example, parts: Parts) -> str:
    """The program that trains the example and prints its figures."""
    values = {name: json.dumps(v) if isinstance(v, str) else repr(v) for name, v in example.params.items()}
    params = "".join(f"    {name}={value},\n" for name, value in values.items())
    if parts.train[1] is not None:
        data, held_out, valid = "X, y", "X, y", "parts.valid"
    else:
        data, held_out, valid = "X, _", "X", "parts.valid[0]"
    fit = held_out if parts.valid is None else f"{held_out}, validation={valid}"
    return (
        "import rnnfast\n"
        "from rnnfast.examples import available\n\n"
        f'example = available()["{example.name}"]\n'
        "parts = example.load(False)\n"
        f"{data} = parts.train\n"
        f"model = rnnfast.{example.estimator.__name__}(\n{params}    random_state=0,\n)\n"
        f"model.fit({fit})\n"
        "print(example.figures(model, parts))\n"
    )


def write(tasks: Mapping[str, Entry], pictures: Path, folder: Path) -> list[Path]:
    """Write a page for each task that has figures, and README.md; copy their pictures. Returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    done = {name: entry for name, entry in tasks.items() if entry.get("runs")}
    written = []
    for name, entry in done.items():
        if entry.get("picture") and (pictures / entry["picture"]).exists():  # else it is there from before
            shutil.copyfile(pictures / entry["picture"], folder / entry["picture"])
            written.append(folder / entry["picture"])
        written.append(folder / f"{name}.md")
        written[-1].write_text(page(name, entry), encoding="utf-8")
    written.append(folder / "README.md")
    written[-1].write_text(overview(done), encoding="utf-8")
    return written


def overview(tasks: Mapping[str, Entry]) -> str:
    """README.md: one row for each task."""
    lines = [
        "# Worked examples",
        "",
        "Each is real data, an estimator, honest baselines and a picture; `rnnfast train NAME` runs one, and "
        "`python benchmarks/tasks.py` measured them all. Figures are on held-out data, the mean of the seeds on the "
        "page of the task. Training times have the passes with the validation part in them; PyTorch's time is for the "
        "same model, batches and number of passes, and × says how many times faster rnnfast trains, both without "
        "validation, passes alternating in one process. Goals of tasks that were not timed beside PyTorch were set "
        "after their figures were known: they guard against getting worse.",
        "",
        "| task | shape | estimator | figure | goal | best baseline | training | PyTorch | × |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in tasks.items():
        figure = _main(entry)
        best = best_baseline(entry, figure)
        beside = "" if best is None else f"{_label(best[0])}: {_shown(figure, best[1])}"
        times = _times(entry)
        row = [
            f"[{entry['title']}]({name}.md)",
            entry["shape"],
            f"`{entry['estimator']}`",
            f"{_label(figure)} {_shown(figure, _mean(entry, figure))}",
            _goal(entry, figure),
            beside,
            f"{statistics.mean(run['seconds'] for run in entry['runs']):.1f} s",
            "" if times is None else f"{times['torch']:.1f} s",
            "" if times is None else f"{times['ratio']:.1f}",
        ]
        lines.append(f"| {' | '.join(map(_cell, row))} |")
    return "\n".join([*lines, "", *_machine(list(tasks.values())), ""])


def page(name: str, entry: Entry) -> str:
    """NAME.md: all that was measured of one task."""
    sizes = {"train": "to train on", "valid": "to choose the best pass with", "test": "to measure on"}
    counts = ", ".join(f"{n:,} {entry['unit']} {sizes[part]}" for part, n in entry["sizes"].items())
    lines = [f"# {entry['title']}", "", f"{_sentence(entry['shape'])} `{entry['estimator']}`. [All tasks](README.md)"]
    if entry.get("picture"):
        lines += ["", f"![{entry['title']}]({entry['picture']})"]
        if entry.get("caption"):
            lines += ["", entry["caption"]]
    lines += ["", f"{counts}. The first of them:", "", "```text", *entry["sample"], "```"]
    lines += ["", "## The code", "", "```python", entry["code"].rstrip(), "```"]
    lines += ["", f"The same from the command line: `rnnfast train {name}`."]
    lines += ["", "## Figures on held-out data", "", *_figures(entry)]
    if entry["remark"]:
        lines += ["", entry["remark"]]
    lines += ["", "## Time", "", *_time(entry)]
    lines += ["", "## Data", "", *_data(entry), "", *_machine([entry]), ""]
    return "\n".join(lines)


def best_baseline(entry: Entry, figure: str) -> tuple[str, float] | None:
    """Name and value of the baseline that is best by this figure."""
    beside = {name: values[figure] for name, values in entry["baselines"].items() if figure in values}
    if not beside:
        return None
    name = (min if _less_is_better(entry, figure) else max)(beside, key=lambda name: beside[name])
    return name, beside[name]


def _figures(entry: Entry) -> list[str]:
    names = list(entry["runs"][0]["figures"])
    rows = [(f"seed {run['seed']}", run["figures"]) for run in entry["runs"]]
    rows += [("**mean**", {name: _mean(entry, name) for name in names})]
    rows += [(f"baseline: {_label(name)}", values) for name, values in entry["baselines"].items()]
    cells = [[who, *(_shown(name, values[name]) if name in values else "" for name in names)] for who, values in rows]
    if entry["goals"]:
        cells.insert(len(entry["runs"]) + 1, ["goal", *(_goal(entry, name) for name in names)])
    lines = [f"| | {' | '.join(map(_label, names))} |", f"|{'---|' * (len(names) + 1)}"]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in cells]
    figure = _main(entry)
    best = best_baseline(entry, figure)
    if best is not None:
        values, less = [run["figures"][figure] for run in entry["runs"]], _less_is_better(entry, figure)
        verdict = "better than" if (_mean(entry, figure) < best[1]) == less else "worse than"
        if min(values) <= best[1] <= max(values):
            verdict = "about as good as"
        lines += ["", f"By {_label(figure)} the network is {verdict} the best of the baselines, {_label(best[0])}."]
    return lines


def _time(entry: Entry) -> list[str]:
    runs = entry["runs"]
    seconds = ", ".join(f"{run['seconds']:.1f}" for run in runs)
    passes = sorted({run["passes"] for run in runs})
    each = f"{passes[0]}" if len(passes) == 1 else f"{passes[0]} to {passes[-1]}"
    held_out = ", with one over the validation part after each" if "valid" in entry["sizes"] else ""
    lines = [f"Training took {seconds} s ({_plural(each, 'pass', 'passes')}{held_out}; {_threads(entry)})."]
    if entry.get("busy"):
        lines[0] += " Other work ran on the machine meanwhile, so that it would take less alone."
    times, timing = _times(entry), entry.get("timing")
    if timing is None or times is None:
        return [*lines, *([f"It was not timed beside PyTorch: {timing['gap']}."] if timing else [])]
    spread = [theirs / ours for ours, theirs in zip(timing["rnnfast"], timing["torch"], strict=True)]
    part = "a pass" if timing["share"] == 1 else f"{100 * timing['share']:.0f} % of a pass"
    whole = _plural(f"{timing['passes']:g}", "pass", "passes")
    ours, theirs = (statistics.median(timing[who]) for who in ("rnnfast", "torch"))
    goal = GOALS[timing["ragged"]]
    way = f", {timing['sequences']}" if timing["sequences"] else ""
    return [
        *lines,
        "",
        f"| {_threads(timing)} | rnnfast | PyTorch{way} | ratio |",
        "|---|---|---|---|",
        f"| {part}, median of {len(spread)} | {ours:.3g} s | {theirs:.3g} s | "
        f"{times['ratio']:.1f} ({min(spread):.1f} to {max(spread):.1f}) |",
        f"| {whole}: that many medians | {times['rnnfast']:.1f} s | {times['torch']:.1f} s | {times['ratio']:.1f} |",
        "",
        "The same batches, model, initial weights, optimiser and number of passes, without validation; outputs equal "
        f"to {timing['difference']:.0e} before the first step; the two libraries took turns in one process. "
        f"Asked for: {goal:g} times faster, {'met' if times['ratio'] >= goal else 'missed'}.",
    ]


def _times(entry: Entry) -> dict[str, float] | None:
    """Seconds of all passes for both libraries, as medians times passes, and their ratio."""
    timing = entry.get("timing")
    if not timing or "gap" in timing:
        return None
    times = {who: statistics.median(timing[who]) / timing["share"] * timing["passes"] for who in ("rnnfast", "torch")}
    return {**times, "ratio": times["torch"] / times["rnnfast"]}


def _data(entry: Entry) -> list[str]:
    data = entry["data"]
    text = f"`{entry['dataset']}`: {_sentence(data['description'])}"
    for name in ("licence", "citation"):
        if data.get(name):
            text += f" {name.capitalize()}: {_sentence(data[name])}"
    return [text]


def _machine(entries: list[Entry]) -> list[str]:
    """Where it was measured, once if it was the same for all."""
    found = []
    for entry in entries:
        for part in (entry, entry.get("timing") or {}):
            if "machine" in part:
                m, v = part["machine"], part["versions"]
                versions = ", ".join(f"{name} {version}" for name, version in v.items())
                found.append(f"{m['processor']}, {m['processors']} processors, {m['instruction set']}; {versions}")
    # A line that another one says too, with more versions, is left out.
    lines = [line for line in dict.fromkeys(found) if not any(other.startswith(f"{line},") for other in found)]
    return ["Measured on: " + "; and on: ".join(lines) + "."] if lines else []


def _goal(entry: Entry, figure: str) -> str:
    if figure not in entry["goals"]:
        return ""
    relation, number = entry["goals"][figure]
    mean = _mean(entry, figure)
    met = mean >= number if relation == ">=" else mean <= number
    return f"{'≥' if relation == '>=' else '≤'} {_shown(figure, number)}: {'met' if met else 'missed'}"


def _main(entry: Entry) -> str:
    """The figure that the overview shows."""
    return str(next(iter(entry["goals"] or entry["runs"][0]["figures"])))


def _mean(entry: Entry, figure: str) -> float:
    return float(statistics.mean(run["figures"][figure] for run in entry["runs"]))


def _less_is_better(entry: Entry, figure: str) -> bool:
    if figure in entry["goals"]:
        return bool(entry["goals"][figure][0] == "<=")
    return any(word in figure for word in ERRORS)


def _shown(figure: str, value: float) -> str:
    return f"{100 * value:.1f} %" if any(word in figure for word in SHARES) else f"{value:.4g}"


def _label(name: str) -> str:
    return name.replace("_", " ")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _plural(number: str, one: str, many: str) -> str:
    return f"{number} {one if number == '1' else many}"


def _threads(entry: Entry) -> str:
    return _plural(str(entry["threads"]), "thread", "threads")
