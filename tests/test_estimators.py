"""estimators.py: what SequenceClassifier takes, learns, promises and saves."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
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


def clips() -> tuple[list[np.ndarray], list[str]]:
    rng = np.random.default_rng(0)
    y = ["up", "down", "flat"] * 8
    slopes = {"up": 1.0, "down": -1.0, "flat": 0.0}
    X = [slopes[label] * np.arange(n)[:, None] + 0.1 * rng.normal(size=(n, 2)) for label, n in
         zip(y, rng.integers(3, 8, 24), strict=True)]  # fmt: skip
    return X, y


@pytest.mark.parametrize("kind", ["features", "tokens", "ids"])
def test_three_forms_of_ragged_input(kind: str, assert_same_bits: Any) -> None:
    """A list, padded, joined: the same model, and the same of validation data."""
    X, y = clips()
    filler: Any = np.array([np.nan, np.inf])
    if kind != "features":
        X, filler = [["rise" if x[0] > 0.5 else "fall" if x[0] < -0.5 else "stay" for x in clip] for clip in X], "no"
    if kind == "ids":
        X, filler = [[{"rise": 7, "fall": 2, "stay": 0}[word] for word in clip] for clip in X], -1
    lengths = np.array([len(x) for x in X])
    joined = [step for x in X for step in x]
    padded = [[*x, *[filler] * (lengths.max() - len(x))] for x in X]
    forms = [(joined, lengths), (padded, lengths), (np.array(joined), lengths), (np.array(padded), lengths.tolist())]
    expected = SequenceClassifier(**SMALL).fit(X, y, validation=(X, y))
    assert expected.score(X, y) > 0.9
    for given, n in forms:
        model = SequenceClassifier(**SMALL).fit(given, y, lengths=n, validation=(given, y, n))
        assert_same_bits(model.network_.vector, expected.network_.vector)
        assert model.history_["val_loss"] == expected.history_["val_loss"]
        assert model.n_features_in_ == expected.n_features_in_
        assert_same_bits(model.predict_proba(given, lengths=n), expected.predict_proba(X))
        assert model.predict(given, lengths=n).tolist() == expected.predict(X).tolist()
        assert model.score(given, y, lengths=n) == expected.score(X, y)


def test_padded_data_are_no_table() -> None:
    """With lengths, the columns of an array are steps, of which there may be another number later."""
    padded, lengths = rnnfast.pad([clip[:, 0] for clip in clips()[0]])
    model = SequenceClassifier(**SMALL).fit(padded, clips()[1], lengths=lengths)
    assert model.n_features_in_ == 1
    assert model.predict(np.ones((3, 11))).shape == (3,)
    table = SequenceClassifier(**SMALL).fit(padded, clips()[1])
    assert table.n_features_in_ == padded.shape[1]
    with pytest.raises(ValueError, match="X has 11 features, but SequenceClassifier is expecting 7 features as input"):
        table.predict(np.ones((3, 11)))
    assert table.predict(list(np.ones((3, 11)))).shape == table.predict(np.ones((3, 11, 1))).shape == (3,)


def test_scale(tmp_path: Path, assert_same_bits: Any) -> None:
    """Features in any unit are learnt alike; of the training part alone, and kept in the file."""
    X, y = clips()
    model = SequenceClassifier(**SMALL).fit(X, y)
    other_units = SequenceClassifier(**SMALL).fit([1024 * x for x in X], y)
    assert_same_bits(other_units.network_.vector, model.network_.vector)
    steps = np.concatenate(X)
    np.testing.assert_allclose(model.encoder_.mean, steps.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(model.encoder_.deviation, steps.std(axis=0), rtol=1e-12)
    part = SequenceClassifier(**SMALL, validation_fraction=0.25).fit(X, y)
    train, _ = rnnfast.split(24, (0.75, 0.25), 0)
    np.testing.assert_allclose(part.encoder_.mean, np.concatenate([X[i] for i in train]).mean(axis=0), rtol=1e-12)
    model.save(tmp_path / "model")
    assert_same_bits(SequenceClassifier.load(tmp_path / "model").predict_proba(X), model.predict_proba(X))
    plain = SequenceClassifier(**SMALL, scale=False).fit(X, y)
    assert plain.encoder_.mean is None
    assert not np.array_equal(plain.network_.vector, model.network_.vector)
    shifted = SequenceClassifier(**SMALL).fit([x + 1e6 for x in X], y)
    assert shifted.score([x + 1e6 for x in X], y) > 0.9


def test_a_feature_that_is_constant_in_training() -> None:
    X, y = clips()
    X = [np.concatenate([x, np.full((len(x), 1), 0.1)], axis=1) for x in X]
    model = SequenceClassifier(**SMALL).fit(X, y)
    changed = [x + np.array([0, 0, 0.1]) for x in X]
    np.testing.assert_allclose(model.predict_proba(changed), model.predict_proba(X), atol=0.2)


def test_characters(tmp_path: Path) -> None:
    names, y = ["Anna", "Otto", "Lena", "Hugo", "Maria", "Marco"] * 4, ["f", "m"] * 12
    model = SequenceClassifier(**SMALL, level="character").fit(names, y)
    assert set(model.encoder_.vocabulary.tokens[4:]) == set("".join(names))
    assert model.n_features_in_ == 4 + len(set("".join(names)))
    assert model.score(names, y) == 1.0
    assert model.predict(["Sofia", "Paolo"]).tolist() == ["f", "m"]
    assert model.encoder_.unseen(["Zoé", "Ze"]) == {"Z": 2, "é": 1}
    model.save(tmp_path / "model")
    assert SequenceClassifier.load(tmp_path / "model").predict(["Sofia", "Paolo"]).tolist() == ["f", "m"]
    with pytest.raises(ValueError, match="level: expected 'word' or 'character', got 'letter'"):
        SequenceClassifier(**SMALL, level="letter").fit(names, y)


def test_labels_in_a_column() -> None:
    with pytest.warns(UserWarning, match="A column-vector y was passed when a 1d array was expected"):
        model = SequenceClassifier(**SMALL).fit(SENTENCES, np.array(GOOD)[:, None])
    assert model.predict(SENTENCES).tolist() == GOOD
    with pytest.warns(UserWarning, match="A column-vector y was passed"):
        assert model.score(SENTENCES, np.array(GOOD)[:, None]) == 1.0


def test_unseen_words_and_labels_are_counted() -> None:
    model = SequenceClassifier(**SMALL, min_count=4).fit(SENTENCES, GOOD)
    assert model.score(SENTENCES, GOOD) == 1.0
    assert model.encoder_.unseen(["what a dreadful, dreadful film"]) == {"what": 1, "dreadful": 2}
    with pytest.warns(UserWarning, match="y: 2 of 18 labels were not seen in fit, and count as wrong"):
        assert model.score(SENTENCES, [5, 6, *GOOD[2:]]) == pytest.approx(16 / 18)


def test_kinds_of_random_state(assert_same_bits: Any) -> None:
    """Integers of any type are one seed; a generator gives a new one for each fit, the same for equal generators."""
    options = SMALL | {"dropout": 0.2, "max_epochs": 2}

    def fit(state: Any) -> np.ndarray:
        return SequenceClassifier(**options | {"random_state": state}).fit(SENTENCES, GOOD).network_.vector

    for same in ((3, np.int64(3)), (np.random.default_rng(1), np.random.default_rng(1)),
                 (np.random.RandomState(1), np.random.RandomState(1))):  # fmt: skip
        assert_same_bits(fit(same[0]), fit(same[1]))
    generator = np.random.default_rng(1)
    assert not np.array_equal(fit(generator), fit(generator))
    assert not np.array_equal(fit(None), fit(None))
    for wrong in (1.5, "seed"):
        with pytest.raises(TypeError, match="random_state: expected None, an integer or a generator, got"):
            fit(wrong)
    with pytest.raises(ValueError, match="random_state: expected an integer of 0 or more, got -1"):
        fit(-1)


def test_what_is_random_and_what_is_not(assert_same_bits: Any) -> None:
    """Schedules and initial states reach the training; validation data beside a fraction leave all of X to it."""
    plain = SequenceClassifier(**SMALL).fit(SENTENCES, GOOD)
    for changes in ({"schedule": "cosine"}, {"initial_state_std": 1.0}):
        assert not np.array_equal(SequenceClassifier(**SMALL | changes).fit(SENTENCES, GOOD).network_.vector,
                                  plain.network_.vector), changes  # fmt: skip
    held_out = (SENTENCES[:3], GOOD[:3])
    both = SequenceClassifier(**SMALL, validation_fraction=0.5).fit(SENTENCES, GOOD, validation=held_out)
    alone = SequenceClassifier(**SMALL).fit(SENTENCES, GOOD, validation=held_out)
    assert_same_bits(both.network_.vector, alone.network_.vector)
    with pytest.raises(ValueError, match=re.escape("validation: expected (X, y) or (X, y, lengths), got 1 items")):
        SequenceClassifier(**SMALL).fit(SENTENCES, GOOD, validation=(SENTENCES,))
    with pytest.raises(ValueError, match="initial_state_std: expected a number of 0 or more, got -1"):
        SequenceClassifier(**SMALL, initial_state_std=-1).fit(SENTENCES, GOOD)


def test_warm_start() -> None:
    model = SequenceClassifier(**SMALL | {"max_epochs": 2, "warm_start": True}).fit(SENTENCES, GOOD)
    network, loss = model.network_, model.history_["loss"]
    before = network.vector.copy()
    model.fit(["fine words unknown", "dull"], [True, False])
    np.testing.assert_array_equal(network.vector, before)  # a copy of it was trained
    assert 0 < np.abs(model.network_.vector - before).max() < 0.11  # two steps of Adam of 0.05 each
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


def test_a_fit_that_fails_changes_nothing(assert_same_bits: Any) -> None:
    """Neither a warm start that diverges, nor one that a callback breaks, nor one whose network is another."""
    model = SequenceClassifier(**SMALL | {"warm_start": True}).fit(SENTENCES, GOOD)
    expected, attributes = model.predict_proba(SENTENCES), dict(vars(model))

    class Break(rnnfast.Callback):
        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            self.model.vector[...] = np.nan
            raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        model.set_params(callbacks=[Break()]).fit(SENTENCES, GOOD)
    with pytest.raises(FloatingPointError):
        model.set_params(callbacks=(), learning_rate=1e39).fit(SENTENCES, GOOD)
    for change in ({"hidden_size": 5}, {"cell": "gru"}, {"bidirectional": False}, {"embedding_size": 3}):
        (name,) = change
        with pytest.raises(ValueError, match=f"warm_start: expected a network like that of the first fit; .*{name}"):
            rnnfast.SequenceClassifier(**SMALL | {"warm_start": True}).fit(SENTENCES, GOOD).set_params(**change).fit(
                SENTENCES, GOOD
            )
    assert_same_bits(model.predict_proba(SENTENCES), expected)
    model.set_params(learning_rate=attributes["learning_rate"])
    assert {name: value for name, value in vars(model).items() if value is not attributes[name]} == {}


def test_a_loaded_model_has_its_history(tmp_path: Path) -> None:
    model = SequenceClassifier(**SMALL | {"validation_fraction": 0.3, "patience": 1}).fit(SENTENCES, GOOD)
    model.save(tmp_path / "model")
    assert SequenceClassifier.load(tmp_path / "model").history_ == model.history_


def test_predicting_in_many_threads(assert_same_bits: Any) -> None:
    """Eight Python threads on one model, sequences of other lengths in each: the bits of one thread."""
    model = SequenceClassifier(**SMALL).fit(SENTENCES, GOOD)
    inputs = [[" ".join(["fine", "dull"] * (k + 1))] * (k + 1) for k in range(8)]
    expected = [model.predict_proba(X) for X in inputs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            for found, right in zip(pool.map(model.predict_proba, inputs), expected, strict=True):
                assert_same_bits(found, right)


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


def test_a_schedule_of_ones_own_is_not_saved(tmp_path: Path, assert_same_bits: Any) -> None:
    model = SequenceClassifier(**SMALL, schedule=lambda part: 1 - part**2).fit(SENTENCES, GOOD)
    model.save(tmp_path / "model")
    twin = SequenceClassifier.load(tmp_path / "model")
    assert twin.schedule == "constant"
    assert_same_bits(twin.network_.vector, model.network_.vector)


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
