"""What ``rnnfast train``, ``predict``, ``generate``, ``evaluate`` and ``datasets`` do.

__main__.py parses the arguments and turns errors into one line; here they become calls of what everybody uses
(examples/, tasks.py, estimators/), and their results lines or JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import datasets as data_sets
from . import estimators, examples, metrics, music, parallel, tasks
from .callbacks import Callback
from .checkpoint import Checkpoint
from .estimators import SequenceClassifier, SequenceGenerator, SequenceRegressor, SequenceTagger, SequenceTransducer
from .examples import Example
from .files import ModelFileError, write_atomically

__all__ = ["CommandError", "ProgressBar", "datasets", "evaluate", "generate", "predict", "train"]

# options of the command line and the parameters of estimators that they set
PARAMETERS = {
    "cell": "cell",
    "hidden_size": "hidden_size",
    "num_layers": "num_layers",
    "embedding_size": "embedding_size",
    "dropout": "dropout",
    "batch_size": "batch_size",
    "learning_rate": "learning_rate",
    "schedule": "schedule",
    "epochs": "max_epochs",
    "target_loss": "target_loss",
    "patience": "patience",
    "clip_norm": "clip_norm",
    "clip_value": "clip_value",
    "truncate": "truncate",
    "min_count": "min_count",
    "level": "level",
    "dtype": "dtype",
    "threads": "n_jobs",
}


class CommandError(Exception):
    """Ends the program with this sentence and exit code 2."""


EXPECTED = (  # what a user may meet; it is said in one line
    CommandError,
    data_sets.DatasetError,
    FloatingPointError,
    ImportError,
    ModelFileError,
    OSError,
    parallel.RankError,
    tasks.TaskError,
    ValueError,
)


class ProgressBar(Callback):
    """A bar over all steps of the optimiser while standard error is a terminal, and a line for each pass."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.seconds = 0.0

    def on_train_begin(self, logs: dict[str, Any]) -> None:
        self.epochs = logs["epochs"]
        self.start = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any]) -> None:
        self.steps, self.batches, self.epoch_start = 0, 0, time.perf_counter()
        if not sys.stderr.isatty():
            return
        try:
            from tqdm import tqdm
        except ImportError:  # the extra "cli" brings it; a line for each pass will do
            return
        if self.bar is None:
            self.bar = tqdm(total=logs["batches"] * (self.epochs - epoch), leave=False, unit="batch")
        self.bar.set_description(f"pass {epoch + 1}/{self.epochs}", refresh=False)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        self.steps += logs["steps"]
        if self.bar is not None:
            rate = self.steps / (time.perf_counter() - self.epoch_start)
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", tokens_per_s=f"{rate:,.0f}", refresh=False)
            self.bar.update(batch + 1 - self.batches)  # more than one where a pass is gone on with
        self.batches = batch + 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        held_out = ""
        if "val_accuracy" in logs:
            held_out = f", validation accuracy {logs['val_accuracy']:.1%}"
        elif "val_loss" in logs:
            held_out = f", validation loss {logs['val_loss']:.4f}"
        line = (
            f"pass {epoch + 1}/{self.epochs}: loss {logs['loss']:.4f}{held_out}, {logs['seconds']:.2f} s, "
            f"{self.steps / (time.perf_counter() - self.epoch_start):,.0f} tokens/s"
        )
        if self.bar is not None:
            self.bar.clear()
        print(line, flush=True)

    def on_train_end(self, logs: dict[str, Any]) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = None
        self.seconds = time.perf_counter() - self.start


# ---- train


def train(options: argparse.Namespace) -> None:
    """Train, on all ranks with --mpi; rank 0 says what went wrong on any."""
    if not options.mpi:
        return _train(options, parallel.Ranks(parallel.Alone()))
    if importlib.util.find_spec("mpi4py") is None:
        raise CommandError('--mpi needs mpi4py: pip install "rnnfast[mpi]"')
    from mpi4py import MPI

    with parallel.job(MPI.COMM_WORLD) as ranks:
        try:
            _train(options, ranks)
        except (*EXPECTED, KeyboardInterrupt) as error:
            ranks.fail(error)
            if ranks.broken:
                raise
            interrupted = isinstance(error, KeyboardInterrupt)
            if ranks.rank == 0:
                print(f"rnnfast: {'interrupted' if interrupted else error}", file=sys.stderr, flush=True)
            ranks.wait()
            raise SystemExit(130 if interrupted else 2) from error
        ranks.wait()


def _train(options: argparse.Namespace, ranks: parallel.Ranks) -> None:
    settings: dict[str, Any] = {name: getattr(options, name) for name in ("target", "window", "horizon")}
    example = _example(options, settings)
    path = Path(options.save or f"{example.name}.safetensors")
    checkpoint = path.with_name(f"{path.stem}.checkpoint.safetensors")
    if ranks.rank == 0:  # which alone writes
        _check_destination(path, example.estimator)
        _check_plot(options.plot)
        _check_checkpoint(checkpoint, options.resume)
    progress = ProgressBar()
    callbacks = [Checkpoint(checkpoint, options.checkpoint_every), *([] if options.quiet else [progress])]
    model = example.make(**_changes(options, example.estimator), callbacks=callbacks)
    parts = example.load(False)
    if not options.quiet and ranks.rank == 0:
        kinds = {"train": "training", "valid": "validation", "test": "held-out"}
        sizes = ", ".join(f"{n:,} {kinds[part]}" for part, n in parts.sizes().items())
        print(f"{example.name}: {sizes} {_unit(parts)}", flush=True)
    started = time.perf_counter()
    example.train(model, parts, comm=ranks)
    if ranks.rank:
        if model.history_.stop_reason == "interrupted":
            raise KeyboardInterrupt
        return
    seconds = progress.seconds or time.perf_counter() - started
    history = model.history_
    resumable = f"the run goes on with --resume, from {checkpoint}"
    if not history["loss"]:
        if not options.json:
            print(resumable)
        raise KeyboardInterrupt  # in the first pass: no model is worth saving
    model.set_params(callbacks=())
    model.notes_ = {"data": options.data, **({"series": settings["notes"]} if "notes" in settings else {})}
    model.save(path)
    figures, baselines = example.figures(model, parts), example.baselines(parts)
    left_out = [name for name, figures_of_it in baselines.items() if not figures_of_it]
    if options.json:
        result = {
            "figures": figures,
            "baselines": baselines,
            "goals": {name: list(goal) for name, goal in example.goals.items()},
            "seconds": seconds,
            "passes": len(history["loss"]),
            "stopped": history.stop_reason,
            "model": str(path),
            "history": history.history,
        }
        print(json.dumps(result, ensure_ascii=False))
    else:
        done = "all passes are done" if history.stop_reason == "max_epochs" else f"stopped: {history.stop_reason}"
        print(f"{done}; weights of pass {history.best_epoch + 1}; {seconds:.1f} s of training")
        for line in _report(figures, baselines):
            print(f"held-out {line}")
        if left_out:
            print(f'left out: {", ".join(left_out)}; they need scikit-learn: pip install "rnnfast[sklearn]"')
        print(f"saved to {path}")
    if options.plot is not None:
        _plot(options.plot, lambda axes: _plots().learning_curves(history, ax=axes))
    if history.stop_reason == "interrupted":
        if not options.json:
            print(resumable)
        raise KeyboardInterrupt  # the best pass is saved, but it is not what was asked for
    checkpoint.unlink(missing_ok=True)


def _example(options: argparse.Namespace, settings: dict[str, Any]) -> Example:
    """A built-in data set, or a file, as a worked example."""
    known = examples.available()
    if options.data in known:
        example = known[options.data]
        task = next(task for task in tasks.TASKS.values() if task.estimator is example.estimator)
        if options.task not in (None, task.name):
            raise CommandError(f"--task {options.task}: expected {task.name}, which {options.data} is for")
        return example
    _check_file(options.data, known)
    task = tasks.task_of(options.data, options.task)
    return tasks.example_of(options.data, task, options.split_seed, settings)


def _check_file(path: str, known: Any) -> None:
    if not Path(path).exists():
        raise CommandError(f"{path}: expected a file or one of the data sets {', '.join(known)}")
    if Path(path).is_dir():
        raise CommandError(f"{path}: expected a file, this is a folder")


def _changes(options: argparse.Namespace, estimator: type[Any]) -> dict[str, Any]:
    """The parameters that the options set: those that were given, and the seed."""
    changes = {name: getattr(options, option) for option, name in PARAMETERS.items()}
    changes = {name: value for name, value in changes.items() if value is not None}
    if options.one_direction:
        changes["bidirectional"] = False
    if options.no_attention:
        changes["attention"] = False
    for name in changes:
        if name not in estimator._parameter_names():
            option = {"bidirectional": "one-direction", "attention": "no-attention"}.get(name, name.replace("_", "-"))
            raise CommandError(f"--{option}: expected an option that {estimator.__name__} has")
    return {"seed": options.seed, **changes}


def _unit(parts: Any) -> str:
    return "characters" if isinstance(parts.train[0], str) else "examples"


def _report(figures: dict[str, float], baselines: dict[str, dict[str, float]]) -> list[str]:
    """A line for each figure, with the baselines that have it."""
    lines = []
    for name, value in figures.items():
        beside = [f"{who}: {_shown(name, other[name])}" for who, other in baselines.items() if name in other]
        lines.append(f"{name} {_shown(name, value)}" + (f" ({', '.join(beside)})" if beside else ""))
    return lines


def _shown(name: str, value: float) -> str:
    share = any(word in name for word in ("accuracy", "F1", "exact", "rate"))
    return f"{value:.1%}" if share else f"{value:.4g}"


def _check_destination(path: Path, estimator: type[Any]) -> None:
    """Before hours of training: the folder is there, and a file at this place is a model that may be replaced."""
    if not path.parent.is_dir():
        raise CommandError(f"--save {path}: expected a path in a folder that exists, {path.parent} does not")
    if path.is_dir():
        raise CommandError(f"--save {path}: expected a file, this is a folder")
    if not os.access(path.parent, os.W_OK):
        raise CommandError(f"--save {path}: expected a folder that can be written to, {path.parent} cannot")
    if path.exists():
        try:
            estimators.load(path)
        except (ModelFileError, OSError) as error:
            raise CommandError(f"--save {path}: a file stands there that is not a model; name another path") from error


def _check_checkpoint(path: Path, resume: bool) -> None:
    if resume and not path.exists():
        raise CommandError(f"--resume: expected a run that was broken off, whose checkpoint is {path}; found none")
    if path.exists() and not resume:
        raise CommandError(f"{path}: a run that was broken off left this; go on with --resume, or delete it")


def _check_plot(path: str | None) -> None:
    if path is None:
        return
    if not Path(path).parent.is_dir():
        raise CommandError(f"--plot {path}: expected a path in a folder that exists, {Path(path).parent} does not")
    if Path(path).suffix.lower() not in (".png", ".svg", ".pdf", ".jpg"):
        raise CommandError(f"--plot {path}: expected a file that ends in .png, .svg, .pdf or .jpg")
    if importlib.util.find_spec("matplotlib") is None:
        raise CommandError('--plot needs matplotlib: pip install "rnnfast[plots]"')


def _plots() -> Any:
    from . import plots

    return plots


def _plot(path: str, draw: Callable[[Any], Any]) -> None:
    """Draw into a figure of its own, and write it (.png, .svg, .pdf)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    draw(figure.add_subplot())
    drawing = io.BytesIO()
    try:
        figure.savefig(drawing, dpi=150, format=Path(path).suffix[1:].lower())
    except ValueError as error:
        raise CommandError(f"--plot {path}: {error}") from error
    write_atomically(path, drawing.getvalue())
    print(f"drawn to {path}", file=sys.stderr)


# ---- predict


def predict(options: argparse.Namespace) -> None:
    model = estimators.load(options.model)
    if isinstance(model, SequenceRegressor):
        return _forecast(model, options)
    if not options.text and sys.stdin.isatty():
        print("sentences, one on each line; Ctrl-D ends", file=sys.stderr)
    texts = options.text or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not texts:
        raise CommandError("expected a sentence as an argument, or lines on standard input, got none")
    sequences = [_sequence(model, text) for text in texts]
    for name, kind in ((SequenceClassifier, _predict_labels), (SequenceTagger, _predict_tags),
                       (SequenceTransducer, _predict_targets), (SequenceGenerator, _predict_next)):  # fmt: skip
        if isinstance(model, name):
            try:
                rows = kind(model, sequences)
            except ValueError as error:
                raise CommandError(str(error).replace("X[", "sentence [", 1)) from error
    for text, (line, row) in zip(texts, rows, strict=True):
        print(json.dumps({"text": text, **row}, ensure_ascii=False) if options.json else line)
    _say_unseen(model, sequences)
    return None


def _sequence(model: Any, text: str) -> Any:
    """A text as the model was given its sequences: whole, or as tokens or integers between spaces."""
    kind = model.encoder_.kind
    if isinstance(model, SequenceTagger) and kind == "text":
        return text.split()
    if kind == "text":
        return text
    if kind == "tokens":
        return text.split()
    if kind == "ids" and all(token.isdecimal() for token in text.split()):
        return [int(token) for token in text.split()]
    expected = "integers between spaces" if kind == "ids" else "a call from Python, for a model of features"
    raise CommandError(f"{text!r}: expected {expected}")


def _written(sequence: Any) -> str:
    """The other way round."""
    return sequence if isinstance(sequence, str) else " ".join(map(str, sequence))


Rows = list[tuple[str, dict[str, Any]]]  # for each text a line, and what JSON has beside the text


def _predict_labels(model: Any, texts: list[str]) -> Rows:
    rows = []
    for text, p in zip(texts, model.predict_proba(texts), strict=True):
        label = model.classes_[int(p.argmax())]
        each = dict(zip(map(str, model.classes_), map(float, p), strict=True))
        rows.append((f"{label}\t{p.max():.3f}\t{_written(text)}", {"label": str(label), "probabilities": each}))
    return rows


def _predict_tags(model: Any, sentences: list[Any]) -> Rows:
    """Words stand between spaces, as in the file that the model was trained on."""
    return [
        ("".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True)), {"tokens": words, "tags": tags})
        for words, tags in zip(sentences, model.predict(sentences), strict=True)
    ]


def _predict_targets(model: Any, texts: list[str]) -> Rows:
    return [
        (f"{_written(text)}\t{_written(target)}", {"target": target})
        for text, target in zip(texts, model.predict(texts), strict=True)
    ]


def _predict_next(model: Any, texts: list[str]) -> Rows:
    rows = []
    for text, p in zip(texts, model.predict_proba(texts), strict=True):
        best = {model.encoder_.vocabulary.tokens[k]: float(p[k]) for k in np.argsort(-p)[:5]}
        likeliest = next(iter(best))
        rows.append(
            (f"{likeliest!r}\t{best[likeliest]:.3f}\t{_written(text)}", {"next": likeliest, "probabilities": best})
        )
    return rows


def _say_unseen(model: Any, texts: Any) -> None:
    unseen = getattr(getattr(model, "encoder_", None), "unseen", None)
    if unseen is None or isinstance(model, SequenceGenerator):
        return
    counts = unseen(texts)
    if counts:
        most = ", ".join(repr(token) for token, _ in counts.most_common(5))
        print(f"rnnfast: {sum(counts.values())} tokens were not seen in training, as {most}", file=sys.stderr)


def _forecast(model: Any, options: argparse.Namespace) -> None:
    """What follows the end of a CSV file."""
    series = tasks.series_of(model)
    if len(options.text) != 1:
        raise CommandError(f"expected one CSV file with the columns {', '.join(series.columns)}, got {options.text}")
    values = series.values(options.text[0])
    found = np.atleast_1d(model.predict(values[None, -series.window :])[0]) + series.last(values)
    if options.json:
        print(json.dumps({"target": series.target, "forecast": found.tolist()}))
    else:
        for k, value in enumerate(found, start=1):
            print(f"{series.target}, {k} ahead\t{value:.6g}")


# ---- generate


def generate(options: argparse.Namespace) -> None:
    model = estimators.load(options.model)
    if not isinstance(model, SequenceGenerator):
        raise CommandError(f"{options.model}: expected a SequenceGenerator, got a {type(model).__name__}")
    drawn = model.generate(
        options.n,
        prompt=None if options.prompt is None else _sequence(model, options.prompt),
        condition=_condition(model, options.condition),
        max_length=options.length,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        beam_width=options.beam_width,
        random_state=options.seed,
    )
    for text in drawn:
        print(json.dumps({"text": text}, ensure_ascii=False) if options.json else _written(text))
    if options.midi is not None:
        notes = [music.note_of(token) for token in drawn[0]]
        music.write_midi(options.midi, notes)
        print(f"played to {options.midi}", file=sys.stderr)


def _condition(model: Any, text: str | None) -> Any:
    """The class that is written so, or the numbers between commas."""
    if text is None or model.conditions_.size is None:
        return text
    if model.conditions_.classes is None:
        try:
            return [float(number) for number in text.split(",")]
        except ValueError as error:
            raise CommandError(
                f"--condition {text!r}: expected {model.conditions_.size} numbers between commas"
            ) from error
    return next((label for label in model.conditions_.classes.tolist() if str(label) == text), text)


# ---- evaluate


def evaluate(options: argparse.Namespace) -> None:
    model = estimators.load(options.model)
    _check_plot(options.plot)
    known = examples.available()
    task = next(task for task in tasks.TASKS.values() if isinstance(model, task.estimator))
    if options.data in known:
        example = known[options.data]
        if not isinstance(model, example.estimator):
            raise CommandError(
                f"{options.data}: expected data for a {type(model).__name__}, got some for {example.estimator.__name__}"
            )
        parts = example.load(False)
        figures, draw = example.figures(model, parts), example.picture
    else:
        _check_file(options.data, known)
        if isinstance(model, SequenceRegressor):
            X, y = tasks.series_of(model).pairs(options.data)
        else:
            X, y = task.read(options.data, {})
        parts = examples.Parts((X, y), (X, y))
        figures, draw = task.figures(model, X, y), tasks.picture
    labels = counts = None
    if isinstance(model, SequenceClassifier):
        X, y = parts.test
        labels, counts = metrics.confusion_matrix(list(y), model.predict(X).tolist())
        if unseen := len(y) - int(np.isin(y, model.classes_).sum()):
            print(f"rnnfast: {unseen} of {len(y)} labels are not the model's, and count as wrong", file=sys.stderr)
    if options.json:
        result: dict[str, Any] = {"figures": figures}
        if counts is not None:
            result |= {"labels": labels, "confusion": counts.tolist()}
        print(json.dumps(result, ensure_ascii=False, default=str))
    else:
        for line in _report(figures, {}):
            print(line)
        if labels is not None and counts is not None:
            width = max(len(str(label)) for label in labels)
            print(f"{'true':{width}}  predicted: " + "  ".join(map(str, labels)))
            for label, row in zip(labels, counts, strict=True):
                print(
                    f"{label!s:{width}}             "
                    + "  ".join(f"{n:{len(str(k))}}" for n, k in zip(row, labels, strict=True))
                )
    if options.plot is not None:
        _plot(options.plot, lambda axes: draw(model, parts, axes))


def datasets(options: argparse.Namespace) -> None:
    known = data_sets.available()
    tasks_of = {name: [e.name for e in examples.available().values() if e.dataset == name] for name in known}
    if options.json:
        fields = ("name", "task", "size", "licence", "citation", "description", "use", "package")
        rows = [{**{name: getattr(d, name) for name in fields}, "examples": tasks_of[d.name]} for d in known.values()]
        print(json.dumps(rows, ensure_ascii=False))
        return
    for d in known.values():
        print(f"{d.name}: {d.description}")
        print(f"  for {d.use}; {d.size:,} examples; {d.licence}")
        for name in tasks_of[d.name]:
            print(f"  rnnfast train {name}")
