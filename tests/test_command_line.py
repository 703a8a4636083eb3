"""__main__.py: train, predict and info end to end on a small file, and what bad input ends in."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import SequenceClassifier, datasets, examples
from rnnfast.__main__ import _parser, main
from rnnfast.files import write_model

QUICK = ["--hidden-size", "8", "--embedding-size", "8", "--learning-rate", "0.03", "--epochs", "6", "--dropout", "0",
         "--min-count", "1", "--threads", "1"]  # fmt: skip


def lines(n: int) -> list[str]:
    """Label<TAB>text: 2 of 3 are good, and one word tells."""
    rng = np.random.default_rng(0)
    words = np.array(["film", "story", "actor", "plot", "it's", "long", "short"])
    result = []
    for i in range(n):
        label, telling = (("good", "fine"), ("good", "fine"), ("bad", "dull"))[i % 3]
        text = [*rng.choice(words, rng.integers(1, 5)), telling]
        result.append(f"{label}\t{' '.join(rng.permutation(text))}")
    return result


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.tsv"
    path.write_text("\n".join(lines(120)) + "\n", encoding="utf-8")
    return path


@dataclasses.dataclass
class Trained:
    path: Path
    output: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "reviews.tsv").write_text("\n".join(lines(150)), encoding="utf-8")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert main(["train", str(folder / "reviews.tsv"), "--save", str(folder / "model"), *QUICK]) == 0
    assert err.getvalue() == ""
    return Trained(folder / "model", out.getvalue())


Capture = pytest.CaptureFixture[str]


def fails(arguments: list[str], capsys: Capture) -> str:
    """Exit code 2, nothing on standard output but progress, and one line on standard error: returned."""
    capsys.readouterr()
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert "saved" not in out
    assert re.fullmatch(r"rnnfast: [^\n]+\n", err), err
    return err


def test_train(trained: Trained) -> None:
    output = trained.output.splitlines()
    assert output[0] == "reviews: 120 training, 15 validation, 15 held-out examples"
    assert [line.split(":")[0] for line in output[1:7]] == [f"pass {i}/6" for i in range(1, 7)]
    assert all(re.search(r"loss \d\.\d+, validation accuracy \d+\.\d%, .* s, [\d,]+ tokens/s", s) for s in output[1:7])
    assert re.fullmatch(r"all passes are done; weights of pass \d; \d+\.\d s of training", output[7])
    found = re.fullmatch(r"held-out accuracy (\S+)% \(always 'good': (\S+)%\)", output[8])
    assert found
    assert float(found[1]) == 100.0
    test = rnnfast.split(150, (0.8, 0.1, 0.1), 0)[2]
    assert float(found[2]) == pytest.approx(100 * np.mean([i % 3 != 2 for i in test]), abs=0.051)
    assert output[9:] == ["held-out macro F1 100.0%", f"saved to {trained.path}"]


def test_the_saved_model_is_the_best_one_and_predicts(trained: Trained) -> None:
    model = SequenceClassifier.load(trained.path)
    assert model.classes_.tolist() == ["bad", "good"]
    labels, texts = zip(*(line.split("\t") for line in lines(150)), strict=True)
    assert model.score(texts, labels) > 0.95
    assert model.callbacks == ()


def test_train_as_json(data: Path, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "model"
    assert main(["train", str(data), "--save", str(path), "--json", "--target-loss", "0.3", "--seed", "1", *QUICK]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    result = json.loads(out)
    assert set(result) == {"figures", "baselines", "goals", "seconds", "passes", "stopped", "model", "history"}
    assert (result["stopped"], result["model"]) == ("target loss", str(path))
    ((baseline, majority),) = result["baselines"].items()
    assert baseline == "always 'good'"
    assert 0.3 <= majority["accuracy"] <= result["figures"]["accuracy"] <= 1
    assert result["passes"] == len(result["history"]["loss"]) == len(result["history"]["val_accuracy"])
    assert result["seconds"] > 0
    assert result["history"]["loss"][-1] <= 0.3
    assert SequenceClassifier.load(path).random_state == 1


def test_quiet_and_the_default_name(data: Path, tmp_path: Path, capsys: Capture, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "reviews.tsv", "--quiet", *QUICK]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [line.split()[0] for line in out.splitlines()] == ["all", "held-out", "held-out", "saved"]
    first = (tmp_path / "reviews.safetensors").read_bytes()
    assert main(["train", "reviews.tsv", "--quiet", "--one-direction", *QUICK]) == 0  # a model may be replaced
    assert (tmp_path / "reviews.safetensors").read_bytes() != first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["reviews.safetensors", "reviews.tsv"]


def test_the_same_seed_writes_the_same_file(data: Path, tmp_path: Path) -> None:
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        assert main(["train", str(data), "--save", str(tmp_path / name), "--quiet", "--seed", seed, *QUICK]) == 0
    a, b, c = (SequenceClassifier.load(tmp_path / name).network_.vector.tobytes() for name in "abc")
    assert a == b
    assert a != c


def test_options_reach_the_model(data: Path, tmp_path: Path) -> None:
    given = {"cell": "gru", "hidden-size": 5, "num-layers": 2, "embedding-size": 0, "dropout": 0.25, "batch-size": 7,
             "learning-rate": 0.5, "epochs": 2, "target-loss": 0.125, "patience": 9, "clip-norm": 0.75, "min-count": 3,
             "seed": 11, "dtype": "float64", "threads": 1}  # fmt: skip
    options = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    assert main(["train", str(data), "--save", str(tmp_path / "m"), "--quiet", "--one-direction", *options]) == 0
    params = SequenceClassifier.load(tmp_path / "m").get_params()
    names = {"epochs": "max_epochs", "seed": "random_state", "threads": "n_jobs"}
    for name, value in given.items():
        assert params[names.get(name, name.replace("-", "_"))] == value, name
    assert params["bidirectional"] is False


def test_split_seed(data: Path, tmp_path: Path, capsys: Capture) -> None:
    majorities = set()
    for seed in range(4):
        options = ["--save", str(tmp_path / "m"), "--json", "--split-seed", str(seed), *QUICK, "--epochs", "1"]
        assert main(["train", str(data), *options]) == 0
        majorities.add(json.loads(capsys.readouterr().out)["baselines"]["always 'good'"]["accuracy"])
        test = rnnfast.split(120, (0.8, 0.1, 0.1), seed)[2]
        assert float(np.mean([i % 3 != 2 for i in test])) in majorities
    assert len(majorities) > 1


SENTENCES = ["a fine, fine day", "dull!", "unheard words"]


def test_predict(trained: Trained, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["predict", str(trained.path), *SENTENCES]) == 0
    output = capsys.readouterr()
    assert output.err == "rnnfast: 4 tokens were not seen in training, as 'a', 'day', 'unheard', 'words'\n"
    rows = [line.split("\t") for line in output.out.splitlines()]
    model = SequenceClassifier.load(trained.path)
    expected = model.predict_proba(SENTENCES)
    assert [row[2] for row in rows] == SENTENCES
    assert [row[0] for row in rows] == model.predict(SENTENCES).tolist()
    assert [row[0] for row in rows[:2]] == ["good", "bad"]
    assert [float(row[1]) for row in rows] == pytest.approx(expected.max(axis=1).tolist(), abs=5.1e-4)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([SENTENCES[0], "", "  ", *SENTENCES[1:]])))  # blank lines
    assert main(["predict", str(trained.path)]) == 0
    assert capsys.readouterr() == output


def test_predict_as_json(trained: Trained, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = [*SENTENCES, "schöner Film 天气"]
    assert main(["predict", str(trained.path), "--json", *sentences]) == 0
    output = capsys.readouterr()
    rows = [json.loads(line) for line in output.out.splitlines()]
    assert [row["text"] for row in rows] == sentences
    assert "schöner Film 天气" in output.out
    for row in rows:
        assert set(row) == {"text", "label", "probabilities"}
        assert list(row["probabilities"]) == ["bad", "good"]
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-6)
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].get)
    model = str(trained.path)
    for order in (["--json", model, *sentences], [model, *sentences, "--json"], [model, *sentences[:1], "--json",
                  *sentences[1:]]):  # fmt: skip
        assert main(["predict", *order]) == 0
        assert capsys.readouterr() == output
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(sentences) + "\n"))
    assert main(["predict", "--json", model]) == 0
    assert capsys.readouterr() == output


def test_info(trained: Trained, capsys: Capture) -> None:
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert f"rnnfast {rnnfast.__version__}" in out
    assert "chosen" in out
    assert "sentiment: English movie review snippets" in out
    assert main(["info", str(trained.path)]) == 0
    out, err = capsys.readouterr()
    model = SequenceClassifier.load(trained.path)
    assert err == ""
    assert f"SequenceClassifier, {model.network_.vector.size:,} parameters" in out
    assert "classes: bad, good" in out
    assert "  hidden_size = 8\n" in out
    assert re.search(rf"embedding\.E +\({model.n_features_in_}, 8\) float32", out)
    assert re.search(r"recurrent\.Wh_l0_reverse +\(8, 32\) float32", out)


def test_as_a_program(trained: Trained) -> None:
    """A real process: python -m rnnfast, with bytes on standard input, and a bad call."""
    command = [sys.executable, "-m", "rnnfast", "predict", str(trained.path)]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict", "RNNFAST_NUM_THREADS": "1"}
    done = subprocess.run(
        command, input="fine film ü\ndull\n".encode(), capture_output=True, timeout=60, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "rnnfast: 1 tokens were not seen in training, as 'ü'\n".encode())
    assert [line.split("\t")[::2] for line in done.stdout.decode().splitlines()] == [
        ["good", "fine film ü"],
        ["bad", "dull"],
    ]
    done = subprocess.run(command, input=b"fine\n\xff\n", capture_output=True, timeout=60, env=environment)
    assert (done.returncode, done.stdout) == (2, b"")
    assert re.fullmatch(rb"rnnfast: [^\n]*can't decode byte 0xff[^\n]*\n", done.stderr)


BAD_FILES = [
    ("malformed", b"good\ta\nbad b\n", "data.tsv:2: expected label<TAB>text, got 'bad b'"),
    ("no text", b"good\ta\n\nbad\t \n", "data.tsv:3: expected label<TAB>text"),
    ("undecodable", b"good\ta\nbad\tb \xff\n", "data.tsv:2: expected UTF-8, got byte 0xff at column 7"),
    ("empty", b"", "data.tsv: expected lines label<TAB>text, got an empty file"),
    ("blank", b"\n \n\n", "data.tsv: expected lines label<TAB>text, got an empty file"),
    ("one label", b"good\ta\n" * 30, "data.tsv: expected at least two labels, got 'good' alone"),
    ("too few", b"good\ta\nbad\tb\n", "data.tsv: 2 examples are too few to hold out a tenth"),
    ("punctuation", b"good\ta\nbad\t!?\n" * 30, "expected at least one word, got none in '!?'"),
]


@pytest.mark.parametrize(("content", "message"), [row[1:] for row in BAD_FILES], ids=[row[0] for row in BAD_FILES])
def test_bad_data(content: bytes, message: str, tmp_path: Path, capsys: Capture) -> None:
    path, save = tmp_path / "data.tsv", tmp_path / "model"
    path.write_bytes(content)
    assert message in fails(["train", str(path), "--save", str(save), *QUICK], capsys)
    assert path.read_bytes() == content
    assert not save.exists()


def test_no_data(tmp_path: Path, capsys: Capture) -> None:
    missing = str(tmp_path / "missing.tsv")
    assert f"{missing}: expected a file or one of the data sets " in fails(["train", missing], capsys)
    assert "expected a file, this is a folder" in fails(
        ["train", str(tmp_path), "--save", str(tmp_path / "model")], capsys
    )
    assert list(tmp_path.iterdir()) == []


def test_a_label_with_too_few_examples(data: Path, tmp_path: Path, capsys: Capture) -> None:
    rare = int(rnnfast.split(120, (0.8, 0.1, 0.1), 0)[1][0])  # falls into the validation part
    rows = lines(120)
    rows[rare] = "odd\tone of a kind"
    data.write_text("\n".join(rows), encoding="utf-8")
    err = fails(["train", str(data), "--save", str(tmp_path / "model"), *QUICK], capsys)
    assert "expected enough examples of each label to train on and to hold out, got 1 of 'odd'" in err


def test_no_place_to_save(data: Path, trained: Trained, tmp_path: Path, capsys: Capture, monkeypatch: Any) -> None:
    train = ["train", str(data), *QUICK, "--save"]
    err = fails([*train, str(tmp_path / "no" / "model")], capsys)
    assert f"expected a path in a folder that exists, {tmp_path / 'no'} does not" in err
    assert "expected a file, this is a folder" in fails([*train, str(tmp_path)], capsys)
    before = data.read_bytes()
    assert "a file stands there that is not a model; name another path" in fails([*train, str(data)], capsys)
    assert data.read_bytes() == before
    damaged = tmp_path / "damaged"
    damaged.write_bytes(trained.path.read_bytes()[:-1])
    assert "a file stands there that is not a model" in fails([*train, str(damaged)], capsys)
    assert damaged.read_bytes() == trained.path.read_bytes()[:-1]
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "expected a folder that can be written to" in fails([*train, str(tmp_path / "model")], capsys)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["damaged", "reviews.tsv"]


@pytest.mark.parametrize("there", [False, True])
def test_full_disk(
    there: bool, data: Path, trained: Trained, tmp_path: Path, capsys: Capture, monkeypatch: Any
) -> None:
    path = tmp_path / "model"
    if there:
        path.write_bytes(trained.path.read_bytes())

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    err = fails(["train", str(data), "--save", str(path), *QUICK], capsys)
    checkpoint = tmp_path / "model.checkpoint.safetensors"  # written first: better after a pass than after all of them
    assert f"could not write {checkpoint} (No space left on device); what stood there is unchanged" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "reviews.tsv"] if there else ["reviews.tsv"]
    if there:
        assert path.read_bytes() == trained.path.read_bytes()


def test_not_enough_memory(data: Path, tmp_path: Path, capsys: Capture) -> None:
    err = fails(["train", str(data), "--save", str(tmp_path / "model"), *QUICK, "--hidden-size", "10000000"], capsys)
    assert "not enough memory (Unable to allocate" in err


def test_bad_models(trained: Trained, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "model"
    for command in (["predict", str(path), "a text"], ["info", str(path)]):
        path.unlink(missing_ok=True)
        assert f"{path}: expected a model file, found none" in fails(command, capsys)
        path.write_bytes(b"not a model")
        assert f"{path}: expected a safetensors file" in fails(command, capsys)
        path.write_bytes(trained.path.read_bytes()[:-7])
        assert f"{path}: expected a safetensors file" in fails(command, capsys)
        path.write_bytes(trained.path.read_bytes()[:-1] + b"!")
        assert "whose checksum differs: it is damaged" in fails(command, capsys)
        write_model(path, "checkpoint", {}, {})
        assert "got a 'checkpoint'" in fails(command, capsys)
        write_model(path, "SequenceClassifier", {}, {})
        assert "expected a whole SequenceClassifier" in fails(command, capsys)


def test_nothing_to_predict(trained: Trained, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = ["predict", str(trained.path)]
    assert "sentence [1]: expected at least one word, got none in '...'" in fails([*predict, "fine", "..."], capsys)
    assert "sentence [0]: expected at least one step" in fails([*predict, ""], capsys)
    for text in ("", "\n \n"):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        assert "expected a sentence as an argument, or lines on standard input, got none" in fails(predict, capsys)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"fine\n\xff\n"), encoding="utf-8"))
    assert "can't decode byte 0xff" in fails(predict, capsys)


def test_a_model_of_other_sequences(tmp_path: Path, capsys: Capture) -> None:
    model = SequenceClassifier(hidden_size=3, max_epochs=1, n_jobs=1).fit([[1.0, 2.0], [3.0]], [0, 1])
    model.save(tmp_path / "model")
    assert "'text': expected a call from Python, for a model of features" in fails(
        ["predict", str(tmp_path / "model"), "text"], capsys
    )


def built_in(load: Any) -> examples.Example:
    """The example of sentiment, on other data."""
    return dataclasses.replace(examples.available()["sentiment"], load=load)


def test_task(data: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(quick: bool) -> Any:
        raise AssertionError("loaded before the task was checked")

    other = built_in(load)
    monkeypatch.setattr(examples, "available", lambda: {"sentiment": other})
    err = fails(["train", "sentiment", "--task", "tag", "--save", str(tmp_path / "model")], capsys)
    assert "--task tag: expected classify, which sentiment is for" in err
    assert main(["train", str(data), "--task", "classify", "--save", str(tmp_path / "model"), "--quiet", *QUICK]) == 0
    unknown = tmp_path / "data.unknown"
    unknown.write_bytes(data.read_bytes())
    assert "expected --task, or a file that ends in .tsv (classify), .conllu .conll (tag)" in fails(
        ["train", str(unknown)], capsys
    )


def test_a_built_in_data_set(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    labels, texts = (list(column) for column in zip(*(line.split("\t") for line in lines(60)), strict=True))
    parts = examples.Parts(*((texts[a:b], labels[a:b]) for a, b in ((0, 48), (54, 60), (48, 54))))
    small = built_in(lambda quick: parts)
    monkeypatch.setattr(examples, "available", lambda: {"sentiment": small})
    monkeypatch.chdir(tmp_path)
    assert main(["train", "sentiment", *QUICK]) == 0
    assert capsys.readouterr().out.startswith("sentiment: 48 training, 6 validation, 6 held-out examples\n")
    assert [p.name for p in tmp_path.iterdir()] == ["sentiment.safetensors"]

    def load(quick: bool) -> Any:
        raise datasets.DatasetError("could not be fetched. Check the connection")

    broken = built_in(load)
    monkeypatch.setattr(examples, "available", lambda: {"sentiment": broken})
    before = (tmp_path / "sentiment.safetensors").read_bytes()
    assert "could not be fetched. Check the connection" in fails(["train", "sentiment"], capsys)
    assert (tmp_path / "sentiment.safetensors").read_bytes() == before


def test_resume(data: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that dies in its fourth pass goes on with --resume to the same bits, and leaves no checkpoint behind."""
    train = ["train", str(data), "--quiet", *QUICK, "--dropout", "0.2", "--save"]
    assert "--resume: expected a run that was broken off" in fails([*train, str(tmp_path / "b"), "--resume"], capsys)
    assert main([*train, str(tmp_path / "a")]) == 0
    finish = rnnfast.checkpoint.Progress.finish_pass

    def die(self: Any, *arguments: Any) -> None:
        if self.epoch == 3:
            raise MemoryError("in the fourth pass")
        finish(self, *arguments)

    monkeypatch.setattr(rnnfast.checkpoint.Progress, "finish_pass", die)
    assert main([*train, str(tmp_path / "b")]) == 2
    monkeypatch.undo()
    assert "a run that was broken off left this; go on with --resume, or delete it" in fails(
        [*train, str(tmp_path / "b")], capsys
    )
    assert not (tmp_path / "b").exists()
    assert (tmp_path / "b.checkpoint.safetensors").exists()
    assert main([*train, str(tmp_path / "b"), "--resume"]) == 0
    first, second = (SequenceClassifier.load(tmp_path / name) for name in "ab")
    assert first.network_.vector.tobytes() == second.network_.vector.tobytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "reviews.tsv"]


def test_interrupt(data: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in training saves the best whole pass, if there is one, and the checkpoint; 130 tells the shell."""
    train = ["train", str(data), "--save", str(tmp_path / "model"), *QUICK]
    softmax, evaluate = rnnfast.losses.softmax_cross_entropy, rnnfast.training._evaluate
    press_now = [True]

    def press(*arguments: Any, **options: Any) -> Any:
        if press_now.pop():
            signal.raise_signal(signal.SIGINT)
        press_now.append(False)
        return softmax(*arguments, **options)

    def press_after(*arguments: Any, **options: Any) -> Any:
        logs = evaluate(*arguments, **options)
        press_now[:] = [True]
        return logs

    monkeypatch.setitem(rnnfast.training.LOSSES, "cross_entropy", press)
    monkeypatch.setattr(rnnfast.training, "softmax_cross_entropy", press)
    assert main(train) == 130
    assert not (tmp_path / "model").exists()
    assert capsys.readouterr().err == "rnnfast: interrupted\n"
    press_now[:] = [False]
    monkeypatch.setattr(rnnfast.training, "_evaluate", press_after)
    assert main([*train, "--resume", "--json"]) == 130
    out, err = capsys.readouterr()
    assert err == "rnnfast: interrupted\n"
    result = json.loads(out)
    assert (result["stopped"], result["passes"]) == ("interrupted", 1)
    assert SequenceClassifier.load(tmp_path / "model").predict(["fine"]).shape == (1,)

    def interrupted(path: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "read_classification", interrupted)
    assert main(train) == 130
    assert capsys.readouterr() == ("", "rnnfast: interrupted\n")


BAD_OPTIONS = [
    ["train"], ["run"], [], ["predict"], ["train", "x", "--hidden-size", "0"], ["train", "x", "--hidden-size", "1.5"],
    ["train", "x", "--epochs", "-1"], ["train", "x", "--learning-rate", "nan"], ["train", "x", "--clip-norm", "0"],
    ["train", "x", "--learning-rate", "inf"], ["train", "x", "--cell", "elman"], ["train", "x", "--dtype", "float16"],
    ["train", "x", "--task", "translate"], ["train", "x", "--embedding-size", "-1"], ["train", "x", "--seed", "-1"],
    ["train", "x", "--split-seed", "1e3"], ["train", "x", "--target-loss", "low"], ["train", "x", "--threads", "0"],
    ["train", "x", "--no-such-option"], ["info", "x", "y"], ["predict", "x", "--jason", "text"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", BAD_OPTIONS, ids=" ".join)
def test_bad_options(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]


def test_dropout_out_of_range(data: Path, tmp_path: Path, capsys: Capture) -> None:
    train = ["train", str(data), "--save", str(tmp_path / "model"), *QUICK]
    assert "dropout: expected 0 <= p < 1, got 1.5" in fails([*train, "--dropout", "1.5"], capsys)


@pytest.mark.parametrize("command", ["train", "predict", "info"])
def test_every_option_is_explained(command: str, capsys: Capture) -> None:
    (commands,) = (a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    actions = commands.choices[command]._actions
    assert len(actions) > (15 if command == "train" else 1)
    for action in actions:
        assert action.help, action
        assert len(action.help.split()) > 1, action
        assert " ".join(action.help.split()[:3]) in shown, action
        for option in action.option_strings:
            assert option in shown
