"""The command line: rnnfast train, predict, generate, evaluate, datasets, info, bench.

Arguments are parsed here, and errors end in one sentence on standard error and exit code 2, with nothing overwritten;
commands.py does the work.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from . import __version__, commands, estimators
from .commands import CommandError
from .functions import cells, show_config
from .tasks import TASKS


def info(options: argparse.Namespace) -> None:
    if options.model is None:
        show_config()
        print("data sets:")
        commands.datasets(argparse.Namespace(json=False))
        return
    model = estimators.load(options.model)
    print(f"{options.model}: {type(model).__name__}, {model.network_.vector.size:,} parameters")
    if hasattr(model, "classes_"):
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


def _not_negative(text: str) -> float:
    return 0.0 if text in ("0", "0.0") else float(_positive(float)(text))


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected an integer of 0 or more, got {text}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rnnfast", description="Recurrent neural networks on a CPU.")
    parser.add_argument("--version", action="version", version=f"rnnfast {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True)
    show = argparse.ArgumentDefaultsHelpFormatter
    forms = "; ".join(f"{task.name}: {task.form}" for task in TASKS.values())

    p = subparsers.add_parser("train", help="train a model and save it", description=f"""Train on a built-in data set
        (rnnfast datasets lists them) or a file, choose the best pass on a part that is held out for it, and print the
        figures on another part, beside what simple answers give. Files by task: {forms}. Settings that are not given
        are those of the data set, or of the task.""")  # fmt: skip
    p.add_argument("data", metavar="DATA", help="a data set (as sentiment) or a file")
    p.add_argument("--task", choices=sorted(TASKS), help="what to learn; otherwise it follows from the data")
    p.add_argument("--save", metavar="PATH", help="where the model goes; otherwise DATA.safetensors in this folder")
    p.add_argument("--resume", action="store_true", help="go on with a run that was broken off, from its checkpoint:"
        " written at the end of each pass, and at Ctrl-C")  # fmt: skip
    p.add_argument("--checkpoint-every", type=_positive(int), metavar="STEPS", help="write the checkpoint also within a"
        " pass, each time that so many steps of the optimiser are done")  # fmt: skip
    p.add_argument("--cell", choices=cells(), help="recurrent cell")
    p.add_argument("--hidden-size", type=_positive(int), help="units of each layer and direction")
    p.add_argument("--num-layers", type=_positive(int), help="recurrent layers on top of each other")
    p.add_argument("--one-direction", action="store_true", help="read sequences forward only")
    p.add_argument("--embedding-size", type=_whole, help="numbers for each token; 0 is one-hot tokens")
    p.add_argument("--dropout", type=float, help="part of the activations dropped in training")
    p.add_argument("--batch-size", type=_positive(int), help="sequences for each step of the optimiser")
    p.add_argument("--learning-rate", type=_positive(float), help="step size of Adam")
    p.add_argument("--schedule", choices=("constant", "linear", "cosine"), help="how the learning rate goes on")
    p.add_argument("--epochs", type=_positive(int), help="most passes over the data")
    p.add_argument("--target-loss", type=float, help="stop when a pass has at most this training loss")
    p.add_argument("--patience", type=_positive(int), help="stop after this many passes without a better validation")
    p.add_argument("--clip-norm", type=_positive(float), help="scale gradients to at most this norm")
    p.add_argument("--clip-value", type=_positive(float), help="clip each number of a gradient to this")
    p.add_argument("--truncate", type=_positive(int), help="steps that gradients go back through time")
    p.add_argument("--min-count", type=_positive(int), help="rarer tokens are <unk>")
    p.add_argument("--level", choices=("character", "word"), help="what a text is cut into")
    p.add_argument("--no-attention", action="store_true", help="transduce: the decoder sees the final state alone")
    p.add_argument("--target", metavar="COLUMN", help="regress: the column to forecast; otherwise the last")
    p.add_argument("--window", type=_positive(int), help="regress: rows that a forecast looks at; otherwise 14")
    p.add_argument("--horizon", type=_positive(int), help="regress: rows ahead that are forecast; otherwise 1")
    p.add_argument("--seed", type=_whole, default=0, help="of weights, dropout and the order of batches (default: 0)")
    p.add_argument("--split-seed", type=_whole, default=0, help="of the cut of a file into parts (default: 0)")
    p.add_argument("--dtype", choices=("float32", "float64"), help="numbers to compute with")
    p.add_argument("--threads", type=_positive(int), help="OpenMP threads; otherwise one for each processor")
    p.add_argument("--mpi", action="store_true", help="train on all processes of an mpiexec: each computes a part of"
        " every batch; needs mpi4py")  # fmt: skip
    p.add_argument("--plot", metavar="FILE", help="draw the losses of the passes (.png, .svg, .pdf)")
    p.add_argument("--quiet", action="store_true", help="no progress, only the result")
    p.add_argument("--json", action="store_true", help="the result as one JSON object; implies --quiet")
    p.set_defaults(run=commands.train)

    p = subparsers.add_parser("predict", help="apply a saved model", description="""Label, tag or rewrite texts, one on
        each line; say what a text goes on with; or forecast what follows a CSV file.""")  # fmt: skip
    p.add_argument("model", metavar="MODEL", help="a file that train saved")
    p.add_argument("text", nargs="*", metavar="TEXT", help="texts, or a CSV file; without any, lines of standard input")
    p.add_argument("--json", action="store_true", help="a JSON object for each text, with all probabilities")
    p.set_defaults(run=commands.predict)

    p = subparsers.add_parser("generate", help="let a saved model write", formatter_class=show)
    p.add_argument("model", metavar="MODEL", help="a file that train saved, of a task that generates")
    p.add_argument("--n", type=_positive(int), default=1, help="how many sequences to write")
    p.add_argument("--prompt", help="what they begin with")
    p.add_argument("--condition", help="the class that they are of, for a model that knows classes")
    p.add_argument("--length", type=_positive(int), default=200, help="most tokens of each sequence")
    p.add_argument("--temperature", type=_not_negative, default=1.0, help="of the draws; 0 takes the likeliest token")
    p.add_argument("--top-k", type=_positive(int), help="draw among the k likeliest tokens")
    p.add_argument("--top-p", type=_positive(float), help="draw among the likeliest tokens of this total probability")
    p.add_argument("--beam-width", type=_positive(int), help="search for a likely sequence instead of drawing")
    p.add_argument("--seed", type=_whole, default=0, help="of the draws: the same seed writes the same")
    p.add_argument("--midi", metavar="FILE", help="write the first one as a MIDI file, for a model of notes")
    p.add_argument("--json", action="store_true", help="a JSON object for each sequence")
    p.set_defaults(run=commands.generate)

    p = subparsers.add_parser("evaluate", help="measure a saved model", description="""Print accuracy, F1 and confusion,
        errors, bits per token, or edit distances of a saved model on the held-out part of a built-in data set, or on
        all of a file.""")  # fmt: skip
    p.add_argument("model", metavar="MODEL", help="a file that train saved")
    p.add_argument("data", metavar="DATA", help="a data set or a file of the model's task")
    p.add_argument("--plot", metavar="FILE", help="draw confusion, forecast or attention (.png, .svg, .pdf)")
    p.add_argument("--json", action="store_true", help="the figures as one JSON object")
    p.set_defaults(run=commands.evaluate)

    p = subparsers.add_parser("datasets", help="list the built-in data sets, with size, licence and use")
    p.add_argument("--json", action="store_true", help="as one JSON list, with citations")
    p.set_defaults(run=commands.datasets)

    p = subparsers.add_parser("info", help="show the configuration, or what is in a model file")
    p.add_argument("model", nargs="?", metavar="MODEL", help="a file that train saved")
    p.set_defaults(run=info)

    p = subparsers.add_parser("bench", help="time rnnfast beside its peers", formatter_class=show, description="""
        Compare the answers, then time rnnfast beside the NumPy reference and every peer that is installed (the extra
        "peers"), over a grid of shapes. The whole grid takes hours; Ctrl-C ends it with what there is, and --json goes
        on where its file ended.""")  # fmt: skip
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
    except commands.EXPECTED as error:
        print(f"rnnfast: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
