"""Every worked example measured, beside PyTorch: python benchmarks/tasks.py [NAME ...] --torch --pages docs/tasks

For each example of rnnfast.examples: its baselines; training with several seeds, and its figures; a picture of the
model of the first seed; then, with --torch, training time beside PyTorch's. All of it goes into a JSON file, written
after each step: what is there is not measured again. The pages are made from that file, by task_pages.py.

The comparison is of like with like: the estimator's own call of rnnfast.fit is caught, and torch_models.py does what it
would do, on the same batches, from the same weights. Outputs are compared before anything is timed; then the libraries
take turns.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import inspect
import io
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import rnnfast
from rnnfast import datasets, examples
from rnnfast.benchmark import machine, versions
from rnnfast.estimators import base
from rnnfast.examples import Example, Parts
from rnnfast.training import SCHEDULES, Callback, History
from task_pages import code_of, write

ROUNDS = (3, 15)  # of each library, at least and at most
SECONDS = 15.0  # of both, once there are so few rounds
PARTS = 20  # of a pass, where a training has fewer passes than rounds
LARGEST = 150_000  # bytes of a picture
SAMPLE = 300  # characters of a sequence that a page shows
COMPARED = 5000  # steps, about, of which outputs are compared
WARM = 8  # steps of the optimiser before anything is timed

Entry = dict[str, Any]


# ---- figures


def describe(example: Example, parts: Parts) -> Entry:
    """What pages say of an example and its data."""
    data = datasets.available().get(example.dataset)
    X, y = parts.train
    unit = "characters" if isinstance(X, str) else "tokens" if example.params.get("level") == "token" else "sequences"
    first = {"X[0]": X[0], "y[0]": None if y is None else y[0]} if unit == "sequences" else {"X": X}
    return {
        "title": example.title,
        "shape": example.shape,
        "estimator": example.estimator.__name__,
        "code": code_of(example, parts),
        "sizes": parts.sizes(),
        "unit": unit,
        "sample": [f"{name} = {_short(value)}" for name, value in first.items() if value is not None],
        "goals": {name: list(goal) for name, goal in example.goals.items()},
        "remark": example.remark,
        "caption": (getattr(example.picture, "func", example.picture).__doc__ or "").split("\n\n")[0],
        "dataset": example.dataset,
        "data": {name: getattr(data, name, "") for name in ("description", "licence", "citation")},
    }


def measure(example: Example, entry: Entry, seeds: int, picture: Path, save: Callable[[], None], quick: bool) -> None:
    """Baselines, and the runs of the seeds that are not in the entry yet."""
    parts = example.load(quick)
    entry.update(describe(example, parts))
    entry.update(machine=machine(), versions=versions(["rnnfast"]), threads=rnnfast.get_num_threads())
    if "baselines" not in entry:
        entry["baselines"] = _numbers(example.baselines(parts))
        save()
    runs = entry.setdefault("runs", [])
    changes: dict[str, Any] = {"max_epochs": 1} if quick else {}
    for seed in sorted({*range(seeds)} - {run["seed"] for run in runs}):
        run = example.run(seed, parts=parts, **changes)
        history = run.model.history_
        if history.stop_reason == "interrupted":
            raise KeyboardInterrupt  # a part of a training has no figures
        runs.append(
            {
                "seed": seed,
                "seconds": run.seconds,
                "passes": len(history["loss"]),
                "stopped": history.stop_reason,
                "figures": _numbers(run.figures),
            }
        )
        runs.sort(key=lambda run: run["seed"])
        say(f"  seed {seed}: {run.seconds:.1f} s, " + ", ".join(f"{k} {v:.4g}" for k, v in run.figures.items()))
        if seed == 0:
            entry["picture"] = draw(example, run.model, parts, picture)
        save()


def draw(example: Example, model: Any, parts: Parts, path: Path) -> str:
    """Write the picture, as SVG if that is small, else as PNG; returns the name of the file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": example.name, "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
        example.picture(model, parts, axes)
        svg, png = io.BytesIO(), io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None})
        figure.savefig(png, format="png", dpi=110)
        pyplot.close(figure)
    kind, data = min((("svg", svg.getvalue()), ("png", png.getvalue())), key=lambda pair: len(pair[1]) > LARGEST)
    path.parent.mkdir(parents=True, exist_ok=True)
    path = path.with_name(f"{example.name}.{kind}")
    path.write_bytes(data)
    return path.name


# ---- time beside PyTorch


@dataclasses.dataclass(frozen=True)
class Training:
    """What an estimator gives to `rnnfast.fit`: the model, not trained yet, the data, and all other arguments."""

    model: Any
    data: Any
    options: dict[str, Any]


class Rows:
    """Some rows of a data set, as a data set."""

    def __init__(self, data: Any, rows: Any) -> None:
        self.data, self.rows = data, rows
        self.lengths, self.per_step = data.lengths[rows], data.per_step
        self.y = data.y  # fit asks whether there are targets

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: Any) -> Any:
        return self.data.batch(self.rows[rows])


def caught(example: Example, parts: Parts, seed: int = 0, **changes: Any) -> Training:
    """The call of `rnnfast.fit` that the example's estimator makes, instead of it."""
    found: list[Training] = []

    def fit(*arguments: Any, **options: Any) -> History:
        bound = inspect.signature(rnnfast.fit).bind(*arguments, **options)
        bound.apply_defaults()
        given = dict(bound.arguments)
        found.append(Training(given.pop("model"), given.pop("x"), given))
        return History()

    with mock.patch.object(base, "fit", fit):
        example.train(example.make(seed, **changes), parts)
    (training,) = found
    return training


def part_of_pass(training: Training, share: float, number: int) -> Any:
    """The whole data, or its `number`-th piece of a whole number of batches."""
    if share == 1:
        return training.data
    size = training.options["batch_size"]
    count = max(1, round(share * len(training.data) / size)) * size
    pieces = max(1, len(training.data) // count)
    return Rows(
        training.data, np.arange(count * (number % pieces), min(count * (number % pieces + 1), len(training.data)))
    )


def schedule_of(training: Training, start: float, stop: float) -> Callable[[float], float]:
    """The factor of the learning rate between two parts of the whole training."""
    schedule = training.options["schedule"]
    factor = SCHEDULES[schedule] if isinstance(schedule, str) else schedule
    return lambda part: factor(start + (stop - start) * part)


class StopAfter(Callback):
    """Ends training after so many steps of the optimiser."""

    def __init__(self, most: int) -> None:
        self.most = most

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        self.model.stop_training = batch + 1 >= self.most


def fit_part(
    training: Training,
    data: Any,
    rng: np.random.Generator,
    schedule: Callable[[float], float],
    callbacks: Sequence[Callback] = (),
) -> History:
    """`rnnfast.fit` for one pass over these data, without validation."""
    without = dict.fromkeys(("validation", "monitor", "patience", "target_loss", "checkpoint"))
    changes = {"max_epochs": 1, "callbacks": callbacks, "schedule": schedule, "seed": rng}
    return rnnfast.fit(training.model, data, **{**training.options, **without, **changes})


def time_beside_torch(training: Training, passes: float, threads: int, rounds: int | None = None) -> Entry:
    """Rounds of both libraries in turn, each a pass, or a part of one where the training has few passes."""
    import torch
    import torch_models

    reason = torch_models.gap(training.model, training.data, training.options)
    if reason is not None:
        return {"gap": reason}
    rnnfast.set_num_threads(threads)
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    data, batch_size = training.data, training.options["batch_size"]
    share = 1.0 if passes >= ROUNDS[0] or not training.options["shuffle"] else 1 / PARTS
    ragged = any(
        lengths.mean() < 0.99 * lengths.max()
        for lengths in (data.lengths, getattr(data, "source_lengths", data.lengths))
    )
    model, ours = copy.copy(training.model), copy.deepcopy(training.options["optimizer"])
    copied = dataclasses.replace(training, model=model, options={**training.options, "optimizer": ours})
    schedule = schedule_of(training, 0, 0)
    fit_part(copied, data, np.random.default_rng(0), schedule, [StopAfter(WARM)])

    def warm(packed: bool) -> float:
        """Seconds of PyTorch for a few steps."""
        module = torch_models.twin(training.model, packed=packed)
        optimizer = torch_models.adam(module, training.options["optimizer"])
        seconds = []
        for _ in range(2):
            start, rng = time.perf_counter(), np.random.default_rng(0)
            torch_models.train(module, optimizer, data, training.options, rng, schedule, WARM)
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    ways = [packed for packed in (True, False) if torch_models.twin(training.model, packed=packed).packed == packed]
    packed = min(ways if ragged else [True], key=warm)
    module = torch_models.twin(training.model, packed=packed)
    optimizer = torch_models.adam(module, training.options["optimizer"])
    rows = np.arange(max(1, min(len(data), batch_size, COMPARED // int(data.lengths.max()))))
    difference = torch_models.compare(training.model, module, data, rows)
    rngs = np.random.default_rng(0), np.random.default_rng(0)
    seconds: dict[str, list[float]] = {"rnnfast": [], "torch": []}
    began = time.perf_counter()
    for number in range(rounds or ROUNDS[1]):
        if rounds is None and number >= ROUNDS[0] and time.perf_counter() - began > SECONDS:
            break
        part = part_of_pass(training, share, number)
        at = [min(1.0, (number + k) * share / passes) for k in (0, 1)]
        schedule = schedule_of(training, at[0], at[1])
        start = time.perf_counter()
        if fit_part(training, part, rngs[0], schedule).stop_reason == "interrupted":
            raise KeyboardInterrupt  # a part of a pass has no time
        middle = time.perf_counter()
        torch_models.train(module, optimizer, part, training.options, rngs[1], schedule)
        end = time.perf_counter()
        seconds["rnnfast"].append(middle - start)
        seconds["torch"].append(end - middle)
    ratio = statistics.median(seconds["torch"]) / statistics.median(seconds["rnnfast"])
    say(f"  beside PyTorch, {len(seconds['torch'])} rounds: {ratio:.2f} times faster")
    return {
        **seconds,
        "share": len(part) / len(data),
        "passes": passes,
        "ragged": ragged,
        "sequences": module.way if ragged else "",
        "difference": max(difference, 1e-8),
        "threads": threads,
        "machine": machine(),
        "versions": versions(["rnnfast", "torch"]),
    }


# ---- the command


def say(text: str) -> None:
    print(text, flush=True)


def _short(value: Any) -> str:
    """A sequence as a page shows it."""
    array = isinstance(value, np.ndarray) and value.ndim > 0
    with np.printoptions(precision=3, threshold=20, edgeitems=2, suppress=True):
        text = f"array{value.shape}\n{value}" if array else repr(value.item() if hasattr(value, "item") else value)
    return text if len(text) <= SAMPLE else f"{text[:SAMPLE]} ..."


def _numbers(values: Any) -> Any:
    """As JSON can hold them: NumPy's numbers as Python's."""
    return {k: _numbers(v) if isinstance(v, dict) else float(v) for k, v in values.items()}


def _read(path: Path) -> dict[str, Entry]:
    if not path.exists():
        return {}
    tasks: dict[str, Entry] = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    return tasks


def _write(path: Path, tasks: dict[str, Entry]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"tasks": tasks}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="examples; none is all of them")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--torch", action="store_true", help="time training beside PyTorch too")
    parser.add_argument("--no-figures", action="store_true", help="with --torch: nothing but that")
    parser.add_argument("--passes", type=int, metavar="K", help="rounds of each library (default: 3 to 15, by time)")
    parser.add_argument("--threads", type=int, default=rnnfast.get_num_threads())
    parser.add_argument(
        "--json",
        type=Path,
        default=Path(__file__).with_name("tasks.json"),
        metavar="FILE",
        help="(default: tasks.json beside this program)",
    )
    parser.add_argument("--again", action="store_true", help="measure what the file has already, too")
    parser.add_argument("--pages", type=Path, metavar="DIR", help="write the pages of all that the file has")
    parser.add_argument(
        "--from", type=Path, dest="source", metavar="FILE", help="measure nothing: pages from this file"
    )
    parser.add_argument("--busy", action="store_true", help="say on the pages that other work ran on the machine")
    parser.add_argument("--quick", action="store_true", help="small data and one pass: does everything work?")
    options = parser.parse_args(arguments)
    path = options.source or options.json
    pictures = path.with_suffix("")
    tasks = _read(path)
    if options.source is None:
        known = examples.available()
        if unknown := [name for name in options.names if name not in known]:
            parser.error(f"{', '.join(unknown)}: expected names of {', '.join(known)}")
        rnnfast.set_num_threads(options.threads)

        def save() -> None:
            _write(path, tasks)

        for name in options.names or known:
            say(name)
            try:
                _task(known[name], tasks.setdefault(name, {}), options, pictures / name, save)
            except datasets.DatasetError as error:
                print(f"  left out: {error}", file=sys.stderr)
    elif not tasks:
        parser.error(f"{path}: expected a file that this program wrote")
    if options.pages is not None:
        for written in write(tasks, pictures, options.pages):
            say(str(written))


def _task(example: Example, entry: Entry, options: Any, picture: Path, save: Callable[[], None]) -> None:
    settings = {"estimator": example.estimator.__name__, "params": repr(dict(example.params)), "quick": options.quick}
    if entry.get("settings", settings) != settings:
        say("  with other settings before: measured anew")
        entry.clear()
    entry["settings"] = settings
    if not options.no_figures:
        if options.again:
            for name in ("runs", "baselines"):
                entry.pop(name, None)
        if len(entry.get("runs", [])) < options.seeds:
            measure(example, entry, options.seeds, picture, save, options.quick)
            entry["busy"] = entry.get("busy", False) or options.busy
            save()
        else:  # titles and remarks may have changed
            entry.update(describe(example, example.load(options.quick)))
            save()
    if options.torch and (options.again or "timing" not in entry):
        training = caught(example, example.load(options.quick), **({"max_epochs": 1} if options.quick else {}))
        runs = entry.get("runs", [])
        passes = statistics.median(run["passes"] for run in runs) if runs else training.options["max_epochs"]
        entry["timing"] = time_beside_torch(training, passes, options.threads, options.passes)
        save()


if __name__ == "__main__":
    main()
