"""estimators.py: what SequenceClassifier takes, learns, promises and saves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import SequenceClassifier
from rnnfast.training import Callback

SENTENCES = ["a fine film", "a dull film", "fine acting", "Dull, dull acting!", "what a fine, fine day", "so dull"] * 3
GOOD = [True, False, True, False, True, False] * 3
SMALL: dict[str, Any] = {"hidden_size": 6, "embedding_size": 4, "learning_rate": 0.05, "max_epochs": 12,
                         "random_state": 0}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    """Problems this small gain nothing from a second thread, and lose much on a busy machine."""
    before = rnnfast.get_num_threads()
    rnnfast.set_num_threads(1)
    yield
    rnnfast.set_num_threads(before)


def inputs(kind: str) -> Any:
    """The same task in each form: sequences, by whether `fine` or `dull` (a 1 or a 2) stands in them."""
    tokens = [rnnfast.tokenize(s) for s in SENTENCES]
    words = {"fine": 1, "dull": 2}
    ids = [[words.get(token, 3 + len(token)) for token in sentence] for sentence in tokens]
    values = [[{1: 1.0, 2: -1.0}.get(i, 0.1) for i in sentence] for sentence in ids]
    padded = rnnfast.pad(values)[0]
    forms: dict[str, Any] = {
        "strings": SENTENCES,
        "array of strings": np.array(SENTENCES),
        "tokens": tokens,
        "arrays of tokens": [np.array(sentence) for sentence in tokens],
        "ids": ids,
        "arrays of ids": [np.array(sentence, np.uint16) for sentence in ids],
        "numbers": values,
        "arrays (T_i, D)": [np.stack([v, np.ones(len(v))], axis=1) for v in values],
        "array (N, T)": padded,
        "array (N, T, D)": np.stack([padded, np.ones_like(padded)], axis=2).astype(np.float32),
    }
    return forms[kind]


KINDS = ["strings", "array of strings", "tokens", "arrays of tokens", "ids", "arrays of ids", "numbers",
         "arrays (T_i, D)", "array (N, T)", "array (N, T, D)"]  # fmt: skip
LABELS: dict[str, tuple[Any, Any]] = {  # label of a dull one, of a fine one: in sorted order, which classes_ has
    "strings": ("dull", "fine"),
    "integers": (-3, 7),
    "booleans": (False, True),
    "numpy integers": (np.int16(2), np.int16(5)),
    "numpy strings": (np.str_("a"), np.str_("long one")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_input(kind: str, tmp_path: Path, assert_same_bits: Any) -> None:
    X, y = inputs(kind), ["fine" if good else "dull" for good in GOOD]
    model = SequenceClassifier(**SMALL)
    assert model.fit(X, y) is model
    assert model.classes_.tolist() == ["dull", "fine"]
    assert model.predict(X).tolist() == y
    assert model.score(X, y) == 1.0
    p = model.predict_proba(X)
    assert (p.shape, p.dtype) == ((len(X), 2), np.float32)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    assert (p > 0).all()
    assert (p.argmax(axis=1) == np.array(GOOD)).all()
    model.save(tmp_path / "model")
    twin = SequenceClassifier.load(tmp_path / "model")
    assert_same_bits(twin.predict_proba(X), p)
    assert_same_bits(twin.predict(X), model.predict(X))
    assert twin.n_features_in_ == model.n_features_in_


@pytest.mark.parametrize("name", LABELS)
def test_every_kind_of_label(name: str, tmp_path: Path, assert_same_bits: Any) -> None:
    classes = LABELS[name]
    model = SequenceClassifier(**SMALL)
    for y in ([classes[good] for good in GOOD], np.array([classes[good] for good in GOOD])):
        model.fit(SENTENCES, y)
        assert model.classes_.tolist() == list(classes)
        assert model.classes_.dtype == np.asarray(y).dtype
        assert model.predict(SENTENCES).tolist() == list(y)
        assert model.score(SENTENCES, y) == 1.0
        wrong = [classes[not good] for good in GOOD[:4]] + [classes[good] for good in GOOD[4:]]
        assert model.score(SENTENCES, wrong) == pytest.approx(1 - 4 / len(GOOD))
        model.save(tmp_path / "model")
        twin = SequenceClassifier.load(tmp_path / "model")
        assert_same_bits(twin.classes_, model.classes_)
        assert twin.predict(SENTENCES).tolist() == list(y)


def test_three_classes_in_order() -> None:
    y = np.array([30, 10, 20] * 6)
    X = [[{10: 1.0, 20: 0.0, 30: -1.0}[label], 0.5] for label in y]
    model = SequenceClassifier(hidden_size=8, learning_rate=0.05, max_epochs=25, random_state=0).fit(X, y)
    assert model.classes_.tolist() == [10, 20, 30]
    assert model.predict_proba(X).shape == (18, 3)
    assert model.predict([[1.0, 0.5], [0.0, 0.5], [-1.0, 0.5]]).tolist() == [10, 20, 30]


def test_words() -> None:
    model = SequenceClassifier(**SMALL).fit(SENTENCES, GOOD)
    vocabulary = model.encoder_.vocabulary
    assert vocabulary == rnnfast.Vocabulary.build(map(rnnfast.tokenize, SENTENCES))
    assert model.n_features_in_ == len(vocabulary)
    # Unknown words are one and the same, and do not hinder the known ones.
    p = model.predict_proba(["never seen", "words unheard", "FINE!", "fine"])
    assert np.array_equal(p[0], p[1])
    assert np.array_equal(p[2], p[3])
    assert model.predict(["an utterly fine thing", "an utterly dull thing"]).tolist() == [True, False]
    assert model.predict([["fine"], ["dull"]]).tolist() == [True, False]  # tokens to a model of texts
    rare = SequenceClassifier(**SMALL | {"min_count": 4}).fit(SENTENCES, GOOD)
    assert set(rare.encoder_.vocabulary.tokens[4:]) == {"a", "film", "fine", "dull", "acting"}


def test_unknown_ids_are_one_and_the_input_is_not_changed() -> None:
    model = SequenceClassifier(**SMALL).fit(inputs("ids"), GOOD)
    assert model.n_features_in_ == 3 + len("acting") + 2  # 0..9, and the unknown one
    unseen = [np.array([1, 10]), np.array([1, 5_000_000])]
    p = model.predict_proba(unseen)
    assert np.array_equal(p[0], p[1])
    assert unseen[1].tolist() == [1, 5_000_000]


def test_one_hot_words() -> None:
    model = SequenceClassifier(**SMALL | {"embedding_size": 0}).fit(SENTENCES, GOOD)
    assert model.network_.embedding is None
    assert model.network_.recurrent.input_size == model.n_features_in_
    assert model.score(SENTENCES, GOOD) == 1.0


@pytest.mark.parametrize("cell", rnnfast.cells())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cells_and_dtypes(cell: str, dtype: str, tmp_path: Path, assert_same_bits: Any) -> None:
    options = SMALL | {"cell": cell, "dtype": dtype, "num_layers": 2, "bidirectional": cell == "gru", "max_epochs": 2}
    model = SequenceClassifier(**options).fit(SENTENCES, GOOD)
    assert model.predict_proba(SENTENCES).dtype == dtype == model.network_.vector.dtype
    model.save(tmp_path / "model")
    assert_same_bits(
        SequenceClassifier.load(tmp_path / "model").predict_proba(SENTENCES), model.predict_proba(SENTENCES)
    )


def test_parameters() -> None:
    model = SequenceClassifier(hidden_size=7, cell="gru")
    params = model.get_params()
    assert params["hidden_size"] == 7
    assert params["max_epochs"] == 12
    assert repr(model) == "SequenceClassifier(cell='gru', hidden_size=7)"
    assert repr(SequenceClassifier()) == "SequenceClassifier()"
    assert SequenceClassifier(**params).get_params() == params == model.get_params(deep=False)
    assert model.set_params(dropout=0.25, patience=3) is model
    assert (model.dropout, model.patience) == (0.25, 3)
    with pytest.raises(ValueError, match="hiden_size: expected one of cell, hidden_size"):
        model.set_params(hiden_size=4)
    assert not [name for name in vars(model) if name.endswith("_")]  # __init__ stores, and does nothing else
    odd = SequenceClassifier(hidden_size="many", cell=None)
    assert odd.get_params()["hidden_size"] == "many"


def test_settings_reach_the_network_and_fit() -> None:
    seen: list[dict[str, Any]] = []

    class Note(Callback):
        def on_train_begin(self, logs: dict[str, Any]) -> None:
            seen.append(logs)

    options = SMALL | {"num_layers": 2, "dropout": 0.25, "n_jobs": 2, "batch_size": 5, "max_epochs": 3}
    model = SequenceClassifier(**options, callbacks=[Note()]).fit(SENTENCES, GOOD)
    r = model.network_.recurrent
    assert (r.cell, r.hidden_size, r.num_layers, r.bidirectional, r.dropout, r.num_threads) == (
        "lstm",
        6,
        2,
        True,
        0.25,
        2,
    )
    assert model.network_.embedding.parameters["E"].shape == (model.n_features_in_, 4)
    assert seen == [{"epochs": 3, "batches": 4}]
    assert model.history_.stop_reason == "max_epochs"
    for options, reason in (
        ({"target_loss": 10.0}, "target loss"),
        ({"patience": 1, "tol": 100.0}, "no improvement"),
    ):
        assert SequenceClassifier(**SMALL | options).fit(SENTENCES, GOOD).history_.stop_reason == reason
    plain = SequenceClassifier(**SMALL, bidirectional=False).fit(SENTENCES, GOOD).history_["loss"]
    for options in ({"clip_norm": 1e-3}, {"clip_value": 1e-4}, {"truncate": 1}, {"learning_rate": 0.01}):
        changed = SequenceClassifier(**SMALL | {"bidirectional": False} | options).fit(SENTENCES, GOOD)
        assert changed.history_["loss"] != plain, options


def test_validation() -> None:
    model = SequenceClassifier(**SMALL).fit(
        SENTENCES, GOOD, validation=(["fine", "dull", "fine"], [True, False, False])
    )
    assert len(model.history_["val_loss"]) == len(model.history_["loss"])
    assert set(model.history_["val_accuracy"]) <= {0.0, 1 / 3, 2 / 3, 1.0}
    assert max(model.history_["val_accuracy"]) == pytest.approx(2 / 3)
    model = SequenceClassifier(**SMALL | {"validation_fraction": 0.25, "batch_size": 1}).fit(SENTENCES, GOOD)
    assert "val_loss" in model.history_.history
    steps: list[int] = []

    class Note(Callback):
        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            steps.append(batch)

    SequenceClassifier(**SMALL | {"validation_fraction": 1 / 3, "batch_size": 1, "max_epochs": 1},
                       callbacks=[Note()]).fit(SENTENCES, GOOD)  # fmt: skip
    assert len(steps) == 12  # two thirds of 18


def test_warm_start() -> None:
    model = SequenceClassifier(**SMALL | {"max_epochs": 2, "warm_start": True}).fit(SENTENCES, GOOD)
    network, loss = model.network_, model.history_["loss"]
    model.fit(["fine words unknown", "dull"], [True, False])
    assert model.network_ is network
    assert len(model.encoder_.vocabulary) == model.n_features_in_ == network.embedding.parameters["E"].shape[0]
    model.fit(SENTENCES, GOOD)
    assert model.history_["loss"][0] < loss[0]
    with pytest.raises(ValueError, match=re.escape("y[1] = 'new': expected one of the classes seen in fit, 'a', 'b'")):
        SequenceClassifier(**SMALL, warm_start=True).fit(["x", "y"], ["a", "b"]).fit(["x", "y"], ["a", "new"])
    cold = SequenceClassifier(**SMALL).fit(SENTENCES, GOOD)
    first = cold.network_
    cold.fit(["other"] * 2, ["p", "q"])
    assert cold.network_ is not first
    assert cold.classes_.tolist() == ["p", "q"]


def test_random_state(assert_same_bits: Any) -> None:
    options = SMALL | {"dropout": 0.3, "validation_fraction": 0.2, "max_epochs": 3}
    runs = [SequenceClassifier(**options | {"random_state": seed}).fit(SENTENCES, GOOD) for seed in (3, 3, 4)]
    assert_same_bits(runs[0].network_.vector, runs[1].network_.vector)
    assert_same_bits(runs[0].predict_proba(SENTENCES), runs[1].predict_proba(SENTENCES))
    assert runs[0].history_["val_loss"] == runs[1].history_["val_loss"]
    assert not np.array_equal(runs[0].network_.vector, runs[2].network_.vector)


def test_number_of_threads_changes_no_bit(assert_same_bits: Any) -> None:
    rng = np.random.default_rng(0)
    X, y = [rng.integers(0, 50, n).tolist() for n in rng.integers(1, 30, 64)], rng.integers(0, 2, 64)
    runs = [SequenceClassifier(hidden_size=32, embedding_size=24, max_epochs=2, random_state=0, n_jobs=n).fit(X, y)
            for n in (1, 2)]  # fmt: skip
    assert_same_bits(runs[0].network_.vector, runs[1].network_.vector)
    assert_same_bits(runs[0].predict_proba(X), runs[1].predict_proba(X))


@pytest.mark.parametrize("cell", ["rnn_relu", "lstm", "gru"])
def test_a_row_does_not_depend_on_its_batch(cell: str, assert_same_bits: Any) -> None:
    """Bits of the recurrent layers' states, and labels. (Dense uses BLAS: a probability may differ in its last bit.)"""
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(n, 3)) for n in rng.integers(1, 20, 40)]
    model = SequenceClassifier(cell=cell, hidden_size=11, num_layers=2, max_epochs=2, random_state=0)
    model.fit(X, rng.integers(0, 3, 40))
    together, network = model.predict(X), model.network_
    assert model.predict(X[::-1]).tolist() == together[::-1].tolist()
    assert [model.predict([x])[0] for x in X] == together.tolist()
    assert [label for i in range(0, 40, 7) for label in model.predict(X[i : i + 7])] == together.tolist()
    padded, lengths = rnnfast.pad(X, dtype=np.float32)
    network.forward(padded, lengths=lengths)
    states = network.state
    for i, x in enumerate(X):
        network.forward(x[None].astype(np.float32))
        for alone, among in zip(network.state, states, strict=True):
            assert_same_bits(alone[:, 0], among[:, i])


def test_saving_keeps_the_parameters(tmp_path: Path) -> None:
    options = {"random_state": np.int64(3), "clip_norm": np.float32(0.5), "dtype": np.float64, "max_epochs": 1,
               "num_layers": np.int64(2), "bidirectional": np.bool_(False), "callbacks": [Callback()]}  # fmt: skip
    options = SMALL | options
    model = SequenceClassifier(**options).fit(SENTENCES, GOOD)
    model.save(tmp_path / "model")
    twin = SequenceClassifier.load(str(tmp_path / "model"))
    expected = model.get_params() | {"dtype": "float64", "callbacks": ()}
    assert twin.get_params() == expected
    assert twin.encoder_.vocabulary == model.encoder_.vocabulary
    twin.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()


def test_a_loaded_model_goes_on_learning(tmp_path: Path, assert_same_bits: Any) -> None:
    model = SequenceClassifier(**SMALL | {"max_epochs": 2, "warm_start": True}).fit(SENTENCES, GOOD)
    model.save(tmp_path / "model")
    twin = SequenceClassifier.load(tmp_path / "model")
    assert twin.fit(SENTENCES, GOOD).history_["loss"] == model.fit(SENTENCES, GOOD).history_["loss"]
    assert_same_bits(twin.network_.vector, model.network_.vector)


def test_any_language(tmp_path: Path) -> None:
    X, y = ["ein schöner Tag", "schlechtes Wetter", "天气 很好", "糟糕 天气"] * 4, ["schön 😀", "übel"] * 8
    model = SequenceClassifier(**SMALL | {"max_epochs": 20}).fit(X, y)
    model.save(tmp_path / "Modell ü.safetensors")
    twin = SequenceClassifier.load(tmp_path / "Modell ü.safetensors")
    assert twin.predict(X).tolist() == y
    assert twin.encoder_.vocabulary.tokens == model.encoder_.vocabulary.tokens


def test_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    SequenceClassifier(**SMALL | {"max_epochs": 2, "verbose": 1}).fit(SENTENCES, GOOD)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["pass 1", "pass 2"]
    assert all("loss 0." in line for line in lines)
    SequenceClassifier(**SMALL | {"max_epochs": 2}).fit(SENTENCES, GOOD)
    assert capsys.readouterr() == ("", "")


def test_parameters_set_after_fit_do_not_spoil_the_file(tmp_path: Path) -> None:
    model = rnnfast.SequenceClassifier(hidden_size=4, max_epochs=1, random_state=0)
    model.fit(["a b", "c d"] * 4, [0, 1] * 4)
    model.set_params(hidden_size=9, dtype="float64").save(tmp_path / "model")
    same = rnnfast.SequenceClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(same.predict_proba(["a d"]), model.predict_proba(["a d"]))
