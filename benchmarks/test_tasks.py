"""What tasks.py measures, on small synthetic examples of each kind, and the pages that it makes of it."""

from __future__ import annotations

import json
import os
import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rnnfast
from rnnfast import datasets, examples
from rnnfast.examples import Example, Parts

sys.path.insert(0, str(Path(__file__).parent))
import task_pages
import tasks

PAGES = sorted((Path(__file__).parents[1] / "docs" / "tasks").glob("*.md"))
WORDS = ["a", "fine", "dull", "film", "play", "and", "so"]


def sentences(n, seed):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 7))) for _ in range(n)]


def three(data):
    """(X, y) of 40, 10 and 20 sequences."""
    X, y = data
    cut = [slice(40), slice(40, 50), slice(50, 70)]
    return [(X[part], None if y is None else y[part]) for part in cut]


def load_classes(quick):
    X = sentences(70, 0)
    train, valid, test = three((X, np.array(["fine" in x for x in X]).astype(str)))
    return Parts(train, test, valid)


def load_tags(quick):
    X = [s.split() for s in sentences(70, 1)]
    train, valid, test = three((X, [["A" if w in "fine dull" else "B" for w in s] for s in X]))
    return Parts(train, test, valid)


def load_numbers(quick):
    X, y = rnnfast.windows(np.sin(np.arange(90) / 3), 20)
    train, valid, test = three((X, y))
    return Parts(train, test, valid)


def load_text(quick):
    text = " ".join(sentences(60, 2))
    return Parts((text[:1000], None), (text[1000:], None), (text[900:1000], None))


def load_names(quick):
    X = sentences(70, 3)
    train, valid, test = three((X, np.array([x.split()[0] for x in X])))
    known = set(train[1])
    keep = [i for i, label in enumerate(test[1]) if label in known]
    return Parts(train, ([test[0][i] for i in keep], test[1][keep]), valid)


def load_pairs(quick):
    X = sentences(70, 4)
    train, valid, test = three((X, [x.upper()[::-1] for x in X]))
    return Parts(train, test, valid)


def score(model, parts, name):
    X, y = parts.test
    return {name: model.score(X, y) if y is not None else -model.score(X)}


def half(parts, name):
    return {"half": {name: np.float64(0.5)}, "a third, of another figure": {"other": 1 / 3}}


def curve(model, parts, axes):
    """The loss of each pass.

    Nothing else.
    """
    axes.plot(model.history_["loss"])
    return axes


def made(name, estimator, load, figure="accuracy", **changes):
    params = {"hidden_size": 6, "embedding_size": 4, "batch_size": 8, "max_epochs": 2, **changes.pop("params", {})}
    return Example(
        **{
            "name": name,
            "title": f"The task {name}",
            "shape": "many to one",
            "dataset": "sentiment",
            "estimator": estimator,
            "params": params,
            "load": load,
            "figures": partial(score, name=figure),
            "baselines": partial(half, name=figure),
            "picture": curve,
            "goals": {figure: (">=", 0.25)},
            "remark": "As an example only.",
            **changes,
        }
    )


EXAMPLES = {
    example.name: example
    for example in [
        made("classes", rnnfast.SequenceClassifier, load_classes, params={"dropout": 0.2, "schedule": "cosine"}),
        made("tags", rnnfast.SequenceTagger, load_tags, params={"cell": "gru", "clip_norm": 1.0}),
        made("numbers", rnnfast.SequenceRegressor, load_numbers, "mse", params={"cell": "gru"}),
        made("text", rnnfast.SequenceGenerator, load_text, "bits", params={"truncate": 10}, goals={"bits": ("<=", 9)}),
        made("named", rnnfast.SequenceGenerator, load_names, "bits", params={"num_layers": 2}, goals={}),
        made("pairs", rnnfast.SequenceTransducer, load_pairs, "exact match", params={"max_length": 5}),
    ]
}


@pytest.fixture(autouse=True)
def _two_threads():
    threads = rnnfast.get_num_threads()
    yield
    rnnfast.set_num_threads(threads)


@pytest.fixture
def known(monkeypatch):
    """The examples above in place of the real ones."""
    monkeypatch.setattr(examples, "available", lambda: EXAMPLES)


@pytest.fixture
def measured(known, tmp_path, capsys):
    """The file of two tasks."""
    pytest.importorskip("matplotlib")
    path = tmp_path / "measured.json"
    tasks.main(["classes", "named", "--seeds", "2", "--json", str(path)])
    return path


def test_figures(measured):
    entry = json.loads(measured.read_text())["tasks"]["classes"]
    assert [run["seed"] for run in entry["runs"]] == [0, 1]
    again = EXAMPLES["classes"].run(1)
    assert entry["runs"][1]["figures"] == again.figures
    assert entry["runs"][1]["passes"] == 2
    assert entry["baselines"]["half"] == {"accuracy": 0.5}
    assert entry["sizes"] == {"train": 40, "valid": 10, "test": 20}
    assert entry["caption"] == "The loss of each pass."
    picture = measured.with_suffix("") / entry["picture"]
    assert picture.stat().st_size < tasks.LARGEST
    assert entry["machine"]["processor"]


def test_what_is_there_is_not_measured_again(measured, monkeypatch, capsys):
    monkeypatch.setattr(Example, "run", lambda *_, **__: pytest.fail("measured again"))
    tasks.main(["classes", "--seeds", "2", "--json", str(measured)])
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        tasks.main(["classes", "--seeds", "3", "--json", str(measured)])
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        tasks.main(["classes", "--seeds", "2", "--again", "--json", str(measured)])


def test_only_what_is_missing_is_measured(measured, monkeypatch, capsys):
    seeds, run = [], Example.run
    monkeypatch.setattr(Example, "run", lambda self, seed, **options: seeds.append(seed) or run(self, seed, **options))
    tasks.main(["classes", "named", "--seeds", "3", "--json", str(measured)])
    assert seeds == [2, 2]


def test_other_settings_are_measured_anew(measured, monkeypatch, capsys):
    example = EXAMPLES["classes"]
    other = made("classes", example.estimator, example.load, params={"dropout": 0.5})
    monkeypatch.setattr(examples, "available", lambda: {"classes": other})
    tasks.main(["classes", "--seeds", "1", "--json", str(measured)])
    found = json.loads(measured.read_text())["tasks"]
    assert [len(found[name]["runs"]) for name in ("classes", "named")] == [1, 2]
    assert "dropout=0.5" in found["classes"]["code"]


def test_times_that_are_there_are_not_measured_again(measured, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(tasks, "time_beside_torch", lambda *_: calls.append(1) or {"gap": "none"})
    command = ["classes", "--torch", "--no-figures", "--json", str(measured)]
    for extra, count in (([], 1), ([], 1), (["--again"], 2)):
        tasks.main([*command, *extra])
        assert len(calls) == count
    assert json.loads(measured.read_text())["tasks"]["classes"]["timing"] == {"gap": "none"}


def test_a_picture_of_many_parts_is_a_png(tmp_path):
    pytest.importorskip("matplotlib")

    def many(model, parts, axes):
        return axes.scatter(*np.random.default_rng(0).random((2, 20_000)))

    example = made("many", rnnfast.SequenceClassifier, load_classes, picture=many)
    assert tasks.draw(example, None, None, tmp_path / "many") == "many.png"
    assert (tmp_path / "many.png").read_bytes().startswith(b"\x89PNG")


def test_unknown_name(known, capsys):
    with pytest.raises(SystemExit):
        tasks.main(["nothing"])
    assert "nothing: expected names of classes, tags" in capsys.readouterr().err


def test_data_that_cannot_be_fetched(monkeypatch, tmp_path, capsys):
    def load(quick):
        raise datasets.DatasetError("no connection")

    monkeypatch.setattr(examples, "available", lambda: {"far": made("far", rnnfast.SequenceClassifier, load)})
    tasks.main(["--json", str(tmp_path / "f.json")])
    assert "left out: no connection" in capsys.readouterr().err


# ---- training beside PyTorch


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_call_of_fit_is_caught(name):
    example = EXAMPLES[name]
    training = tasks.caught(example, example.load(True), seed=3)
    params = example.make(3).get_params()
    assert training.options["batch_size"] == 8
    assert training.options["optimizer"].learning_rate == params["learning_rate"]
    assert training.options["schedule"] == params["schedule"]
    assert training.options["max_epochs"] == 2
    fitted = example.run(3).model
    rnnfast.fit(training.model, training.data, **training.options)
    assert (training.model.vector == fitted.network_.vector).all()


def test_parts_of_a_pass():
    example = EXAMPLES["classes"]
    training = tasks.caught(example, example.load(True))
    whole = [tasks.part_of_pass(training, 0.2, k) for k in range(6)]
    assert [len(part) for part in whole] == [8] * 6
    assert sorted(np.concatenate([part.rows for part in whole[:5]]).tolist()) == list(range(40))
    assert whole[5].rows.tolist() == whole[0].rows.tolist()
    x, _, lengths = whole[1].batch(np.array([2]))
    expected, _, expected_lengths = training.data.batch(np.array([10]))
    assert (x == expected).all()
    assert (lengths == expected_lengths).all()
    assert tasks.part_of_pass(training, 1, 4) is training.data


def test_passes_one_by_one_are_a_training():
    example = EXAMPLES["classes"]  # of a cosine
    parts = example.load(True)
    whole, cut = (tasks.caught(example, parts) for _ in range(2))
    rnnfast.fit(whole.model, whole.data, **{**whole.options, "validation": None, "monitor": None})
    rng = np.random.default_rng(0)
    for k in range(2):
        history = tasks.fit_part(cut, cut.data, rng, tasks.schedule_of(cut, k / 2, (k + 1) / 2))
        assert set(history.history) == {"loss", "seconds"}  # nothing is spent on validation
    np.testing.assert_allclose(cut.model.vector, whole.model.vector, rtol=1e-6)
    assert cut.options["optimizer"].learning_rate == example.make().learning_rate


@pytest.mark.parametrize("name", EXAMPLES)
def test_time_beside_torch(name, known, tmp_path, capsys):
    pytest.importorskip("torch")
    path = tmp_path / "times.json"
    tasks.main([name, "--torch", "--no-figures", "--passes", "2", "--threads", "1", "--json", str(path)])
    timing = json.loads(path.read_text())["tasks"][name]["timing"]
    assert len(timing["rnnfast"]) == len(timing["torch"]) == 2
    assert timing["difference"] < 1e-5
    assert timing["ragged"] == (name not in ("numbers", "text"))
    ways = {"classes": ["packed"], "tags": ["packed"], "named": ["packed", "padded"], "pairs": ["packed"]}
    assert timing["sequences"].split()[:1] in [[way] for way in ways.get(name, [])] or timing["sequences"] == ""
    assert (timing["sequences"] == "") == (not timing["ragged"])
    assert timing["share"] == (1 if name == "text" else 8 / 40)  # two passes: fewer than rounds
    assert timing["passes"] == 2
    assert "torch" in timing["versions"]


def test_gap(monkeypatch, tmp_path, capsys):
    pytest.importorskip("torch")
    example = made("squashed", rnnfast.SequenceClassifier, load_classes, params={"cell": "rnn_sigmoid"})
    monkeypatch.setattr(examples, "available", lambda: {"squashed": example})
    tasks.main(["--torch", "--no-figures", "--json", str(tmp_path / "t.json")])
    timing = json.loads((tmp_path / "t.json").read_text())["tasks"]["squashed"]["timing"]
    assert timing == {"gap": "PyTorch has no layer for rnn_sigmoid"}


# ---- pages


def entry(**changes):
    """What tasks.py writes of a task."""
    times = {
        "rnnfast": [1.0, 2.0, 1.1],
        "torch": [4.0, 4.2, 4.4],
        "share": 1,
        "passes": 12.0,
        "ragged": True,
        "sequences": "packed sequences",
        "difference": 2.4e-7,
        "threads": 2,
        "machine": {"processor": "P", "processors": 2, "instruction set": "avx2"},
        "versions": {"python": "3.11", "torch": "2"},
    }
    return {
        "title": "Names",
        "shape": "many to one",
        "estimator": "SequenceClassifier",
        "code": "import rnnfast\n",
        "sizes": {"train": 8454, "valid": 10, "test": 20},
        "unit": "sequences",
        "sample": ["X[0] = 'ab'"],
        "goals": {"accuracy": [">=", 0.75]},
        "remark": "A remark.",
        "caption": "What is seen.",
        "dataset": "names",
        "data": {"description": "names of people", "licence": "MIT", "citation": "Somebody."},
        "machine": {"processor": "P", "processors": 2, "instruction set": "avx2"},
        "versions": {"python": "3.11"},
        "threads": 2,
        "baselines": {"majority": {"accuracy": 0.5}, "letters_|_all": {"accuracy": 0.9}},
        "runs": [
            {"seed": seed, "seconds": 10.0 + seed, "passes": 12, "figures": {"accuracy": a, "mse": 1234.56}}
            for seed, a in enumerate([0.7, 0.8, 0.9])
        ],
        "picture": "names.svg",
        "timing": times,
        **changes,
    }


def test_page():
    text = task_pages.page("names", entry())
    for expected in (
        "# Names\n",
        "![Names](names.svg)\n\nWhat is seen.",
        "8,454 sequences to train on",
        "```python\nimport rnnfast\n```",
        "`rnnfast train names`",
        "| | accuracy | mse |\n|---|---|---|\n| seed 0 | 70.0 % | 1235 |",
        "| **mean** | 80.0 % | 1235 |\n| goal | ≥ 75.0 %: met |  |\n| baseline: majority | 50.0 % |  |",
        "By accuracy the network is about as good as the best of the baselines, letters | all.",
        "A remark.",
        "Training took 10.0, 11.0, 12.0 s (12 passes, with one over the validation part after each; 2 threads).",
        "| 2 threads | rnnfast | PyTorch, packed sequences | ratio |",
        "| a pass, median of 3 | 1.1 s | 4.2 s | 3.8 (2.1 to 4.0) |",
        "| 12 passes: that many medians | 13.2 s | 50.4 s | 3.8 |",
        "outputs equal to 2e-07",
        "Asked for: 3 times faster, met.",
        "`names`: Names of people. Licence: MIT. Citation: Somebody.",
        "Measured on: P, 2 processors, avx2; python 3.11, torch 2.",
    ):
        assert expected in text
    assert "baseline: letters \\| all" in text
    beaten = {"majority": {"accuracy": 0.5}}
    assert "the network is better than the best of the baselines" in task_pages.page("n", entry(baselines=beaten))
    unbeaten = {"linear": {"accuracy": 0.95}}
    assert "the network is worse than the best of the baselines" in task_pages.page("n", entry(baselines=unbeaten))


def test_page_without_goal_time_and_picture():
    text = task_pages.page("names", entry(goals={}, timing=None, picture=None, remark=""))
    assert "goal" not in text
    assert "PyTorch" not in text
    assert "![" not in text
    assert "not timed beside PyTorch: no layer." in task_pages.page("names", entry(timing={"gap": "no layer"}))


def test_less_is_better():
    goals = {"mse": ["<=", 2.0]}
    text = task_pages.page("n", entry(goals=goals, baselines={"a": {"mse": 3000.0}, "b": {"mse": 2000.0}}))
    assert "| goal |  | ≤ 2: missed |" in text
    assert "By mse the network is better than the best of the baselines, b." in text
    assert task_pages.best_baseline(entry(goals={}), "accuracy") == ("letters_|_all", 0.9)
    assert task_pages.best_baseline(entry(goals={}), "mse") is None


def test_part_of_a_pass_on_a_page():
    timing = {**entry()["timing"], "share": 0.05, "passes": 1, "ragged": False, "sequences": ""}
    text = task_pages.page("names", entry(timing=timing))
    assert "| 5 % of a pass, median of 3 | 1.1 s |" in text
    assert "| 1 pass: that many medians | 22.0 s | 84.0 s | 3.8 |" in text


def test_overview(tmp_path):
    (tmp_path / "names.svg").write_text("<svg/>")
    found = {"names": entry(), "waiting": {}}
    written = task_pages.write(found, tmp_path, tmp_path / "pages")
    assert [path.name for path in written] == ["names.svg", "names.md", "README.md"]
    row = "| [Names](names.md) | many to one | `SequenceClassifier` | accuracy 80.0 % | ≥ 75.0 %: met | "
    row += "letters \\| all: 90.0 % | 11.0 s | 50.4 s | 3.8 |"
    assert row in (tmp_path / "pages" / "README.md").read_text()


def test_pages_from_a_file(measured, tmp_path, capsys):
    folder = tmp_path / "pages"
    tasks.main(["--from", str(measured), "--pages", str(folder)])
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "classes.md", "classes.svg", "named.md", "named.svg"
    ]  # fmt: skip
    for path in folder.glob("*.md"):
        assert str(tmp_path) not in path.read_text()


def reduced(code):
    """The program of a page, on the small data and with one pass."""
    code, count = re.subn(r"example\.load\(False\)", "example.load(True)", code)
    assert count == 1
    code = re.sub(r"    max_epochs=.*\n", "", code)
    code, count = re.subn(r"    random_state=0,\n", "    random_state=0,\n    max_epochs=1,\n", code)
    assert count == 1
    return code


def code_on(page):
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    return code


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_code_runs(name, known, capsys):
    example = EXAMPLES[name]
    parts = example.load(True)
    code = code_on(task_pages.page(name, entry(code=task_pages.code_of(example, parts))))
    namespace = {}
    exec(compile(reduced(code), name, "exec"), namespace)
    figures = example.run(0, parts=parts, max_epochs=1).figures
    assert capsys.readouterr().out == f"{figures}\n"
    changed = {**example.params, "random_state": 0, "max_epochs": 1}
    assert {k: v for k, v in namespace["model"].get_params().items() if k in changed} == changed


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in PAGES if path.stem != "README"], ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore:.*labels:UserWarning")  # of small data
def test_the_code_of_the_documentation_runs(path):
    example = examples.available()[path.stem]
    try:
        parts = example.load(True)
    except datasets.DatasetError as error:
        if os.environ.get("RNNFAST_REQUIRE_DATA") == "1":
            raise
        pytest.skip(str(error))
    code = code_on(path.read_text(encoding="utf-8"))
    assert code == task_pages.code_of(example, parts), "the page is of another version: make it anew"
    exec(compile(reduced(code), str(path), "exec"), {})
