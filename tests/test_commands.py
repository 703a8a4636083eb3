"""commands.py and tasks.py: every task of the command line on small files; test_command_line.py has the rest."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import examples
from rnnfast.__main__ import main

Capture = pytest.CaptureFixture[str]
FAST = ["--threads", "1", "--quiet", "--hidden-size", "8"]


@pytest.fixture(autouse=True)
def no_built_in_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(examples, "available", dict)
    monkeypatch.chdir(tmp_path)


def fails(arguments: list[str], capsys: Capture) -> str:
    capsys.readouterr()
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(r"rnnfast: [^\n]+\n", err), err
    return err


def run(arguments: list[str], capsys: Capture) -> str:
    capsys.readouterr()
    assert main(arguments) == 0
    return capsys.readouterr().out


@pytest.fixture
def tagged(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    words = {"DET": ["the", "a"], "NOUN": ["dog", "cat", "rat"], "VERB": ["runs", "sleeps"]}
    lines = []
    for _ in range(100):
        for tag in rng.permutation(["DET NOUN", "VERB"]).tolist():
            lines += [f"{rng.choice(words[t])}\t{t}" for t in tag.split()]
        lines.append("")
    path = tmp_path / "tags.conll"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_tag(tagged: Path, capsys: Capture) -> None:
    options = ["--epochs", "8", "--learning-rate", "0.02", "--dropout", "0", *FAST]
    out = run(["train", str(tagged), *options], capsys)
    assert "held-out accuracy 100.0% (each word's commonest tag: 100.0%)" in out
    assert rnnfast.load("tags.safetensors").score([["a", "dog"]], [["DET", "NOUN"]]) == 1.0
    assert run(["predict", "tags.safetensors", "the rat sleeps"], capsys) == "the\tDET\nrat\tNOUN\nsleeps\tVERB\n\n"
    row = json.loads(run(["predict", "tags.safetensors", "--json", "the rat"], capsys))
    assert row == {"text": "the rat", "tokens": ["the", "rat"], "tags": ["DET", "NOUN"]}
    main(["predict", "tags.safetensors", "the zebra"])
    assert "1 tokens were not seen in training, as 'zebra'" in capsys.readouterr().err
    result = json.loads(run(["evaluate", "tags.safetensors", str(tagged), "--json"], capsys))
    assert result["figures"] == {"accuracy": 1.0}


def test_entities_have_f1(tmp_path: Path, capsys: Capture) -> None:
    sentence = "Ann B-PER\nLee I-PER\nleft O\n"
    Path("names.conll").write_text("\n".join([sentence, "Rome B-LOC\nfell O\n"] * 30), encoding="utf-8")
    result = json.loads(
        run(["train", "names.conll", "--json", "--epochs", "6", "--learning-rate", "0.03", *FAST], capsys)
    )
    assert result["figures"] == {"accuracy": 1.0, "entity F1": 1.0}


@pytest.fixture
def series(tmp_path: Path) -> Path:
    rows = [f"2024-{i},{np.sin(i / 3):.6f},{10 + 5 * np.cos(i / 3):.6f}" for i in range(300)]
    path = tmp_path / "waves.csv"
    path.write_text("\n".join(["day,sine,level", *rows]), encoding="utf-8")
    return path


def test_regress(series: Path, capsys: Capture) -> None:
    options = ["--window", "12", "--horizon", "2", "--epochs", "40", "--learning-rate", "0.01", "--dropout", "0"]
    result = json.loads(run(["train", str(series), *options, "--json", *FAST], capsys))
    naive = result["baselines"]["the last value"]["RMSE"]
    ends = 10 + 5 * np.cos(np.arange(300) / 3)
    n = 300 - 12 - 2 + 1
    changes = np.array([[ends[i + 12] - ends[i + 11], ends[i + 13] - ends[i + 11]] for i in range(round(0.85 * n), n)])
    assert naive == pytest.approx(float(np.sqrt((changes**2).mean())), rel=1e-4)
    assert result["figures"]["RMSE"] < 0.3 * naive
    rows = [line.split("\t") for line in run(["predict", "waves.safetensors", str(series)], capsys).splitlines()]
    assert [row[0] for row in rows] == ["level, 1 ahead", "level, 2 ahead"]
    truth = 10 + 5 * np.cos(np.array([300, 301]) / 3)
    assert np.abs([float(row[1]) for row in rows] - truth).max() < 1.0
    measured = json.loads(run(["evaluate", "waves.safetensors", str(series), "--json"], capsys))["figures"]
    assert measured["RMSE"] < 0.3 * naive
    again = Path("other.csv")
    again.write_text("level,sine\n" + "1,2\n" * 11, encoding="utf-8")
    assert "expected at least 12 rows, the window of training, got 11" in fails(
        ["predict", "waves.safetensors", "other.csv"], capsys
    )
    again.write_text("level,other\n1,2\n", encoding="utf-8")
    assert "expected the columns sine, level of training, 'sine' is missing" in fails(
        ["predict", "waves.safetensors", "other.csv"], capsys
    )
    assert "expected one CSV file" in fails(["predict", "waves.safetensors", "a", "b"], capsys)


def test_one_step_ahead(series: Path, capsys: Capture) -> None:
    """The default horizon, and a file of one column."""
    Path("one.csv").write_text("v\n" + "".join(f"{np.sin(i / 5)}\n" for i in range(200)), encoding="utf-8")
    for path in (str(series), "one.csv"):
        result = json.loads(run(["train", path, "--epochs", "1", "--json", *FAST], capsys))
        assert result["figures"]["RMSE"] > 0
    assert len(run(["predict", "one.safetensors", "one.csv"], capsys).splitlines()) == 1


def test_series_that_do_not_do(series: Path, capsys: Capture) -> None:
    assert "--target x: expected one of the columns sine, level" in fails(
        ["train", str(series), "--target", "x", *FAST], capsys
    )
    assert "expected at least length + horizon = 401 times, got 300" in fails(
        ["train", str(series), "--window", "400", *FAST], capsys
    )
    Path("short.csv").write_text("a\n" + "1\n" * 15, encoding="utf-8")
    assert "1 examples are too few to hold out the last 15 %" in fails(["train", "short.csv", *FAST], capsys)


def test_generate(tmp_path: Path, capsys: Capture) -> None:
    Path("rhyme.txt").write_text("one two three four five six\n" * 60, encoding="utf-8")
    options = ["--epochs", "30", "--learning-rate", "0.02", "--embedding-size", "8", "--truncate", "20", *FAST]
    out = run(["train", "rhyme.txt", *options, "--hidden-size", "24"], capsys)
    found = re.search(r"held-out bits per token (\S+) \(how often each letter is: (\S+)\)", out)
    assert found
    assert float(found[1]) < 0.3 < 3.0 < float(found[2])
    write = ["generate", "rhyme.safetensors", "--prompt", "one t", "--length", "9", "--temperature", "0"]
    assert run(write, capsys) == "one two three \n"
    assert json.loads(run([*write, "--json"], capsys)) == {"text": "one two three "}
    drawn = [run(["generate", "rhyme.safetensors", "--n", "2", "--seed", seed], capsys) for seed in ("1", "1", "2")]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) >= 400
    row = json.loads(run(["predict", "rhyme.safetensors", "--json", "one two thre"], capsys))
    assert row["next"] == "e"
    bits = json.loads(run(["evaluate", "rhyme.safetensors", "rhyme.txt", "--json"], capsys))["figures"][
        "bits per token"
    ]
    assert bits < 0.3
    Path("short.txt").write_text("too short", encoding="utf-8")
    assert "9 characters are too few to hold out the last tenth" in fails(["train", "short.txt", *FAST], capsys)


def test_generate_tokens_of_a_class(tmp_path: Path, capsys: Capture) -> None:
    """Prompts and conditions of the command line become what the model was trained on: integers, a label, a vector."""
    options: dict[str, Any] = {"hidden_size": 16, "embedding_size": 8, "max_epochs": 60, "learning_rate": 0.02,
                               "random_state": 0, "n_jobs": 1, "truncate": None}  # fmt: skip
    up, down = [1, 2, 3], [3, 2, 1]
    rnnfast.SequenceGenerator(**options).fit([up, down] * 20, [0, 1] * 20).save("by_label.safetensors")
    rnnfast.SequenceGenerator(**options).fit([up, down] * 20, [[1.0, 0.0], [0.0, 1.0]] * 20).save(
        "by_vector.safetensors"
    )
    greedy = ["--temperature", "0", "--length", "9"]
    assert run(["generate", "by_label.safetensors", "--condition", "1", *greedy], capsys) == "3 2 1\n"
    assert run(["generate", "by_vector.safetensors", "--condition", "1,0", *greedy], capsys) == "1 2 3\n"
    prompted = ["generate", "by_label.safetensors", "--condition", "0", "--prompt"]
    assert run([*prompted, "1 2", *greedy], capsys) == "1 2 3\n"
    assert "'one': expected integers between spaces" in fails([*prompted, "one"], capsys)
    assert "expected one of the classes seen in fit, 0, 1" in fails(
        ["generate", "by_label.safetensors", "--condition", "2"], capsys
    )
    assert "--condition 'up': expected 2 numbers between commas" in fails(
        ["generate", "by_vector.safetensors", "--condition", "up"], capsys
    )
    melody = ["generate", "by_label.safetensors", "--condition", "0", "--midi", "tune.mid", *greedy]
    assert run(melody, capsys) == "1 2 3\n"
    assert Path("tune.mid").read_bytes().startswith(b"MThd")


def test_predict_with_models_of_tokens(tmp_path: Path, capsys: Capture) -> None:
    """Lists of tokens and of integers are written with spaces on the command line."""
    options: dict[str, Any] = {"hidden_size": 16, "embedding_size": 8, "max_epochs": 40, "learning_rate": 0.02,
                               "random_state": 0, "n_jobs": 1}  # fmt: skip
    tokens = [["good", "day"], ["bad", "day"], ["good"], ["bad"]] * 10
    labels = [words[0] for words in tokens]
    rnnfast.SequenceClassifier(**options).fit(tokens, labels).save("classes.safetensors")
    lines = run(["predict", "classes.safetensors", "a good day", "bad"], capsys).splitlines()
    assert [line.split("\t")[::2] for line in lines] == [["good", "a good day"], ["bad", "bad"]]
    rnnfast.SequenceClassifier(**options).fit([[4, 5], [6, 5]] * 20, [0, 1] * 20).save("ids.safetensors")
    assert run(["predict", "ids.safetensors", "6 5"], capsys).startswith("1\t")
    assert "'six': expected integers between spaces" in fails(["predict", "ids.safetensors", "six"], capsys)
    rnnfast.SequenceTransducer(**options).fit(tokens, [["x", w[0]] for w in tokens]).save("pairs.safetensors")
    assert run(["predict", "pairs.safetensors", "good day"], capsys) == "good day\tx good\n"
    rnnfast.SequenceGenerator(**options).fit([["a", "b", "c"]] * 20).save("next.safetensors")
    assert run(["predict", "next.safetensors", "a b"], capsys).startswith("'c'\t")
    rnnfast.SequenceClassifier(**options).fit([[1.0, 2.0], [3.0]] * 3, [0, 1] * 3).save("numbers.safetensors")
    assert "'1.0': expected a call from Python, for a model of features" in fails(
        ["predict", "numbers.safetensors", "1.0"], capsys
    )


@pytest.mark.parametrize("horizon", [1, 3])
def test_parts_of_a_series_share_no_target(horizon: int) -> None:
    X, y = rnnfast.windows(np.arange(200.0), 5, horizon)
    parts = rnnfast.tasks._cut_in_order(X, y, 0)
    times = [set(part[1].ravel().tolist()) for part in (parts.train, parts.valid, parts.test)]
    assert all(times)
    assert not times[0] & times[1]
    assert not times[1] & times[2]


def test_transduce(tmp_path: Path, capsys: Capture) -> None:
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcd"), rng.integers(1, 5))) for _ in range(300)]
    Path("upper.tsv").write_text("\n".join(f"{w}\t{w.upper()}" for w in words), encoding="utf-8")
    options = [
        "--task",
        "transduce",
        "--epochs",
        "40",
        "--learning-rate",
        "0.02",
        "--embedding-size",
        "8",
        "--json",
        *FAST,
    ]
    result = json.loads(run(["train", "upper.tsv", *options, "--hidden-size", "24"], capsys))
    assert result["figures"]["exact match"] > 0.9
    assert result["baselines"]["the source as it is"] == {"exact match": 0.0, "error rate": 1.0}
    assert run(["predict", "upper.safetensors", "abc", "dd"], capsys) == "abc\tABC\ndd\tDD\n"
    measured = json.loads(run(["evaluate", "upper.safetensors", "upper.tsv", "--json"], capsys))["figures"]
    assert measured["error rate"] < 0.1


def test_what_does_not_fit_together(tagged: Path, series: Path, capsys: Capture) -> None:
    assert main(["train", str(tagged), "--epochs", "1", *FAST]) == 0
    assert "expected a SequenceGenerator, got a SequenceTagger" in fails(["generate", "tags.safetensors"], capsys)
    assert "--no-attention: expected an option that SequenceTagger has" in fails(
        ["train", str(tagged), "--no-attention"], capsys
    )
    assert "expected a file or one of the data sets" in fails(["evaluate", "tags.safetensors", "missing"], capsys)
    text = Path("text.txt")
    text.write_text("some text, " * 50, encoding="utf-8")
    assert "--one-direction: expected an option that SequenceGenerator has" in fails(
        ["train", "text.txt", "--one-direction"], capsys
    )


def test_plots(tagged: Path, capsys: Capture) -> None:
    pytest.importorskip("matplotlib")
    assert main(["train", str(tagged), "--epochs", "2", "--plot", "losses.svg", *FAST]) == 0
    assert main(["evaluate", "tags.safetensors", str(tagged), "--plot", "confusion.png"]) == 0
    assert Path("losses.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert Path("confusion.png").read_bytes().startswith(b"\x89PNG")
    assert "expected a file that ends in .png, .svg, .pdf or .jpg" in fails(
        ["train", str(tagged), "--plot", "losses.xyz", *FAST], capsys
    )
    assert "--plot x/y.png: expected a path in a folder that exists, x does not" in fails(
        ["train", str(tagged), "--plot", "x/y.png", *FAST], capsys
    )


def test_confusion(tmp_path: Path, capsys: Capture) -> None:
    rows = ["good\tfine film", "bad\tdull film", "good\tfine", "bad\tdull"] * 20
    Path("reviews.tsv").write_text("\n".join(rows), encoding="utf-8")
    assert main(["train", "reviews.tsv", "--epochs", "20", "--learning-rate", "0.03", "--dropout", "0", *FAST]) == 0
    result = json.loads(run(["evaluate", "reviews.safetensors", "reviews.tsv", "--json"], capsys))
    assert result == {
        "figures": {"accuracy": 1.0, "macro F1": 1.0},
        "labels": ["bad", "good"],
        "confusion": [[40, 0], [0, 40]],
    }
    lines = run(["evaluate", "reviews.safetensors", "reviews.tsv"], capsys).splitlines()
    assert lines[0] == "accuracy 100.0%"
    assert [line.split() for line in lines[2:]] == [
        ["true", "predicted:", "bad", "good"],
        ["bad", "40", "0"],
        ["good", "0", "40"],
    ]


def test_datasets(capsys: Capture) -> None:
    out = run(["datasets"], capsys)
    rows: list[dict[str, Any]] = json.loads(run(["datasets", "--json"], capsys))
    assert len(rows) > 10
    for row in rows:
        assert row["licence"]
        assert f"{row['name']}: {row['description']}" in out
