"""The command line: rnnfast train, predict, info, bench.

Reads arguments, calls the same parts as everybody (datasets.py, estimators.py), prints. A bad input ends with one
sentence on standard error and exit code 2, and overwrites nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__, datasets
from .estimators import SequenceClassifier
from .files import ModelFileError, read_model
from .functions import cells, show_config
from .preprocessing import split
from .training import Callback

TASKS = {"classify": SequenceClassifier}


class CommandError(Exception):
    """Ends the program with this sentence and exit code 2."""


class ProgressBar(Callback):
    """A bar over batches while standard error is a terminal, and a line for each pass."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.seconds = 0.0

    def on_train_begin(self, logs: dict[str, Any]) -> None:
        self.epochs, self.batches = logs["epochs"], logs["batches"]
        self.start = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any]) -> None:
        self.steps, self.epoch_start = 0, time.perf_counter()
        if not sys.stderr.isatty():
            return
        try:
            from tqdm import tqdm
        except ImportError:  # the extra "cli" brings it; a line for each pass will do
            return
        self.bar = tqdm(total=self.batches, desc=f"pass {epoch + 1}/{self.epochs}", leave=False, unit="batch")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        self.steps += logs["steps"]
        if self.bar is not None:
            rate = self.steps / (time.perf_counter() - self.epoch_start)
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", tokens_per_s=f"{rate:,.0f}", refresh=False)
            self.bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        self._close()
        held_out = f", validation accuracy {logs['val_accuracy']:.1%}" if "val_accuracy" in logs else ""
        print(
            f"pass {epoch + 1}/{self.epochs}: loss {logs['loss']:.4f}{held_out}, {logs['seconds']:.2f} s, "
            f"{self.steps / logs['seconds']:,.0f} tokens/s"
        )

    def on_train_end(self, logs: dict[str, Any]) -> None:
        self._close()
        self.seconds = time.perf_counter() - self.start

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = None


def train(options: argparse.Namespace) -> None:
    texts, labels, task, name = _load(options.data, options.task)
    path = Path(options.save or f"{name}.safetensors")
    _check_destination(path)
    try:
        train_rows, valid_rows, test_rows = split(len(texts), (0.8, 0.1, 0.1), options.split_seed)
    except ValueError as error:
        raise CommandError(
            f"{options.data}: {len(texts)} examples are too few to hold out a tenth ({error})"
        ) from error
    learnt = {labels[i] for i in train_rows}
    for row in valid_rows:
        if labels[row] not in learnt:
            raise CommandError(
                f"{options.data}: expected enough examples of each label to train on and to hold out, got "
                f"{labels.count(labels[row])} of {labels[row]!r}; add some, leave it out, or try another --split-seed"
            )

    def part(rows: np.ndarray[Any, Any]) -> tuple[list[str], list[str]]:
        return [texts[i] for i in rows], [labels[i] for i in rows]

    progress = ProgressBar()
    model = TASKS[task](
        cell=options.cell,
        hidden_size=options.hidden_size,
        num_layers=options.num_layers,
        bidirectional=not options.one_direction,
        embedding_size=options.embedding_size,
        dropout=options.dropout,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        max_epochs=options.epochs,
        target_loss=options.target_loss,
        patience=options.patience,
        clip_norm=options.clip_norm,
        min_count=options.min_count,
        random_state=options.seed,
        dtype=options.dtype,
        n_jobs=options.threads,
        callbacks=() if options.quiet else (progress,),
    )
    test_texts, test_labels = part(test_rows)
    train_texts, train_labels = part(train_rows)
    started = time.perf_counter()
    if not options.quiet:
        print(f"{name}: {len(train_rows)} training, {len(valid_rows)} validation, {len(test_rows)} held-out examples")
    model.fit(train_texts, train_labels, validation=part(valid_rows))
    seconds = progress.seconds or time.perf_counter() - started
    history = model.history_
    if not history["loss"]:
        raise KeyboardInterrupt  # in the first pass: nothing is worth saving
    model.save(path)
    majority, count = Counter(test_labels).most_common(1)[0]
    baseline = count / len(test_labels)
    accuracy = float(np.mean(model.predict(test_texts) == np.array(test_labels)))
    if options.json:
        result = {
            "accuracy": accuracy,
            "majority": baseline,
            "seconds": seconds,
            "passes": len(history["loss"]),
            "stopped": history.stop_reason,
            "model": str(path),
            "history": history.history,
        }
        print(json.dumps(result))
    else:
        done = "all passes are done" if history.stop_reason == "max_epochs" else f"stopped: {history.stop_reason}"
        print(f"{done}; weights of pass {history.best_epoch + 1}; {seconds:.1f} s of training")
        print(f"held-out accuracy {accuracy:.1%} (always '{majority}': {baseline:.1%})")
        print(f"saved to {path}")
    if history.stop_reason == "interrupted":
        raise KeyboardInterrupt  # the best pass is saved, but it is not what was asked for


def predict(options: argparse.Namespace) -> None:
    model = SequenceClassifier.load(options.model)
    if not options.text and sys.stdin.isatty():
        print("sentences, one on each line; Ctrl-D ends", file=sys.stderr)
    texts = options.text or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not texts:
        raise CommandError("expected a sentence as an argument, or lines on standard input, got none")
    try:
        probabilities = model.predict_proba(texts)
    except ValueError as error:
        raise CommandError(str(error).replace("X[", "sentence [", 1)) from error
    for text, p in zip(texts, probabilities, strict=True):
        best = int(p.argmax())
        label = model.classes_[best]
        if options.json:
            each = dict(zip(map(str, model.classes_), map(float, p), strict=True))
            print(json.dumps({"text": text, "label": str(label), "probabilities": each}, ensure_ascii=False))
        else:
            print(f"{label}\t{p[best]:.3f}\t{text}")


def info(options: argparse.Namespace) -> None:
    if options.model is None:
        show_config()
        print("data sets:")
        for dataset in datasets.available().values():
            print(f"  {dataset.name}: {dataset.description} ({dataset.size:,} examples, {dataset.licence})")
        return
    model = SequenceClassifier.load(options.model)
    print(f"{options.model}: {SequenceClassifier.__name__}, {model.network_.vector.size:,} parameters")
    print(f"classes: {', '.join(map(str, model.classes_))}")
    for name, value in model.get_params().items():
        if name != "callbacks":
            print(f"  {name} = {value!r}")
    for name, array in model.network_.named_parameters().items():
        print(f"  {name:30} {array.shape} {array.dtype}")


def bench(options: argparse.Namespace) -> None:
    from . import benchmark  # the only place: nobody else pays for it
    from .benchmark import report

    for path in (options.json_file, options.plot, options.page):
        if path is not None and not Path(path).parent.is_dir():
            raise CommandError(f"{path}: expected a path in a folder that exists, {Path(path).parent} does not")
    if (options.plot or options.page) and importlib.util.find_spec("matplotlib") is None:
        raise CommandError('--plot and --page need matplotlib: pip install "rnnfast[bench]"')
    if options.results is not None:
        try:
            result = json.loads(Path(options.results).read_text(encoding="utf-8"))
            if result["format"] != benchmark.FORMAT:
                raise ValueError(result["format"])
        except (KeyError, TypeError, ValueError) as error:
            raise CommandError(f"--from {options.results}: expected a file that --json wrote") from error
    else:
        result = benchmark.run(
            options.rows,
            quick=options.quick,
            peers=options.peers,
            threads=options.threads,
            modes=options.modes,
            seconds=options.seconds,
            json_file=options.json_file,
            progress=lambda line: print(line, file=sys.stderr, flush=True),
        )
    print(report.table(result))
    if options.plot is not None:
        report.plot(result, options.plot)
    if options.page is not None:
        report.page(result, options.page)
    if result.get("interrupted") and options.results is None:
        raise KeyboardInterrupt


def _load(data: str, task: str | None) -> tuple[list[str], list[str], str, str]:
    """Texts, labels, task and name of a built-in data set or a file."""
    known = datasets.available()
    if data in known:
        dataset = known[data]
        if task not in (None, dataset.task):
            raise CommandError(f"--task {task}: expected {dataset.task}, which {data} is for")
        texts, labels = dataset.load()
        return texts, labels, dataset.task, data
    if not Path(data).exists():
        raise CommandError(f"{data}: expected a file or one of the data sets {', '.join(known)}")
    if Path(data).is_dir():
        raise CommandError(f"{data}: expected a file, this is a folder")
    texts, labels = datasets.read_classification(data)
    if len(set(labels)) < 2:
        raise CommandError(f"{data}: expected at least two labels, got {labels[0]!r} alone")
    return texts, labels, task or "classify", Path(data).stem


def _check_destination(path: Path) -> None:
    """Before hours of training: the folder is there, and a file at this place is a model that may be replaced."""
    if not path.parent.is_dir():
        raise CommandError(f"--save {path}: expected a path in a folder that exists, {path.parent} does not")
    if path.is_dir():
        raise CommandError(f"--save {path}: expected a file, this is a folder")
    if not os.access(path.parent, os.W_OK):
        raise CommandError(f"--save {path}: expected a folder that can be written to, {path.parent} cannot")
    if path.exists():
        try:
            read_model(path, SequenceClassifier.__name__)
        except (ModelFileError, OSError) as error:
            raise CommandError(f"--save {path}: a file stands there that is not a model; name another path") from error


def _positive(kind: type) -> Any:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(
                f"expected a positive {'integer' if kind is int else 'number'}, got {text}"
            )
        return value

    return parse


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected an integer of 0 or more, got {text}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rnnfast", description="Recurrent neural networks on a CPU.")
    parser.add_argument("--version", action="version", version=f"rnnfast {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    show = argparse.ArgumentDefaultsHelpFormatter

    p = commands.add_parser("train", help="train a model and save it", formatter_class=show, description="""Train on
        a built-in data set or a file, choose the best pass on a tenth that is held out for it, and print the accuracy
        on another tenth, beside that of always answering with the commonest label.""")  # fmt: skip
    p.add_argument("data", metavar="DATA", help="a data set (sentiment) or a TSV file with lines label<TAB>text")
    p.add_argument("--task", choices=sorted(TASKS), help="what to learn; None follows from the data")
    p.add_argument("--save", metavar="PATH", help="where the model goes; None is DATA.safetensors in this folder")
    p.add_argument("--cell", choices=cells(), default="lstm", help="recurrent cell")
    p.add_argument("--hidden-size", type=_positive(int), default=64, help="units of each layer and direction")
    p.add_argument("--num-layers", type=_positive(int), default=1, help="recurrent layers on top of each other")
    p.add_argument("--one-direction", action="store_true", help="read sentences forward only")
    p.add_argument("--embedding-size", type=_whole, default=64, help="numbers for each word; 0 is one-hot words")
    p.add_argument("--dropout", type=float, default=0.5, help="part of the activations dropped in training")
    p.add_argument("--batch-size", type=_positive(int), default=32, help="sentences for each step of the optimiser")
    p.add_argument("--learning-rate", type=_positive(float), default=2e-3, help="step size of Adam")
    p.add_argument("--epochs", type=_positive(int), default=12, help="most passes over the data")
    p.add_argument("--target-loss", type=float, help="stop when a pass has at most this training loss")
    p.add_argument("--patience", type=_positive(int), help="stop after this many passes without a better validation")
    p.add_argument("--clip-norm", type=_positive(float), help="scale gradients to at most this norm")
    p.add_argument("--min-count", type=_positive(int), default=2, help="rarer words are <unk>")
    p.add_argument("--seed", type=_whole, default=0, help="of weights, dropout and the order of batches")
    p.add_argument("--split-seed", type=_whole, default=0, help="of the cut into training, validation, held-out parts")
    p.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="numbers to compute with")
    p.add_argument("--threads", type=_positive(int), help="OpenMP threads; None is one for each processor")
    p.add_argument("--quiet", action="store_true", help="no progress, only the result")
    p.add_argument("--json", action="store_true", help="the result as one JSON object; implies --quiet")
    p.set_defaults(run=train)

    p = commands.add_parser("predict", help="label sentences with a saved model")
    p.add_argument("model", metavar="MODEL", help="a file that train saved")
    p.add_argument("text", nargs="*", metavar="SENTENCE", help="sentences; without any, lines of standard input")
    p.add_argument("--json", action="store_true", help="a JSON object for each sentence, with all probabilities")
    p.set_defaults(run=predict)

    p = commands.add_parser("info", help="show the configuration, or what is in a model file")
    p.add_argument("model", nargs="?", metavar="MODEL", help="a file that train saved")
    p.set_defaults(run=info)

    p = commands.add_parser("bench", help="time rnnfast beside its peers", formatter_class=show, description="""Compare
        the answers, then time rnnfast beside the NumPy reference and every peer that is installed (the extra "peers"),
        over a grid of shapes. The whole grid takes hours; Ctrl-C ends it with what there is, and --json goes on where
        its file ended.""")  # fmt: skip
    p.add_argument("--quick", action="store_true", help="a dozen small rows, in two minutes")
    p.add_argument("--rows", metavar="ROW", nargs="+", default=[], help="parts of row names, patterns, or rows of your"
        " own (CELL T/N/D/H FLAGS); none is the whole grid")  # fmt: skip
    p.add_argument("--peers", metavar="NAME,...", type=lambda text: text.split(","), help="run only these beside"
        " rnnfast; None is every one")  # fmt: skip
    p.add_argument("--threads", type=_positive(int), nargs="+", help="numbers of threads; None is 1 and 2")
    p.add_argument("--modes", nargs="+", choices=("training", "inference"), default=["training", "inference"],
        help="what to time")  # fmt: skip
    p.add_argument("--seconds", type=_positive(float), help="for each contender and row; None is 1, with --quick 0.1")
    p.add_argument("--json", dest="json_file", metavar="FILE", help="write results after each row, and go on from them")
    p.add_argument("--plot", metavar="FILE", help="draw share of peak and ratio to the best peer (.svg, .png)")
    p.add_argument("--page", metavar="FILE", help="write a Markdown page and its plot, as docs/roofline.md")
    p.add_argument("--from", dest="results", metavar="FILE", help="measure nothing: show what --json wrote")
    p.set_defaults(run=bench)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0, or 2 after a sentence on standard error."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if options.command == "predict" and not any(text.startswith("-") for text in rest):
        options.text += rest  # argparse leaves over the sentences that stand behind an option
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.quiet = getattr(options, "quiet", False) or (options.command == "train" and options.json)
    try:
        options.run(options)
    except BrokenPipeError:  # the reader of our output left
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        print("rnnfast: interrupted", file=sys.stderr)
        return 130
    except MemoryError as error:
        print(f"rnnfast: not enough memory ({error})", file=sys.stderr)
        return 2
    except (CommandError, ModelFileError, datasets.DatasetError, OSError, ValueError, FloatingPointError) as error:
        print(f"rnnfast: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
