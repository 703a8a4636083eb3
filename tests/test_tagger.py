"""estimators/tagger.py: a label for each step: words and their parts, characters, frames; the loss over valid steps."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import ModelFileError, SequenceTagger
from rnnfast.estimators.tagger import WordParts
from rnnfast.files import read_model, write_model
from rnnfast.metrics import entity_f1

SMALL: dict[str, Any] = {"hidden_size": 6, "embedding_size": 4, "suffix_size": 3, "shape_size": 2, "min_count": 1,
                         "learning_rate": 0.05, "max_epochs": 12, "random_state": 0, "n_jobs": 1}  # fmt: skip
SENTENCES = [["the", "dog", "runs"], ["A", "cat", "sleeps", "now"], ["cats"], ["the", "cat", "runs", "to", "Rome"]] * 4
TAGS = [["DET", "NOUN", "VERB"], ["DET", "NOUN", "VERB", "ADV"], ["NOUN"], ["DET", "NOUN", "VERB", "ADP", "NAME"]] * 4
LENGTHS = [len(s) for s in SENTENCES]
rng = np.random.default_rng(0)
FRAMES = [rng.normal(size=(n, 3)) for n in LENGTHS]
SIGNS = [(f[:, 1] > 0).astype(int) for f in FRAMES]


def fitted(X: Any = None, y: Any = None, **changes: Any) -> SequenceTagger:
    return SequenceTagger(**SMALL | changes).fit(SENTENCES if X is None else X, TAGS if y is None else y)


KINDS: dict[str, Any] = {
    "tokens": SENTENCES,
    "arrays of tokens": [np.array(s) for s in SENTENCES],
    "tuples": [tuple(s) for s in SENTENCES],
    "strings": [" ".join(s) for s in SENTENCES],
    "array of strings": np.array([" ".join(s) for s in SENTENCES]),
    "ids": [[3 * len(w) + ord(w[-1]) % 3 for w in s] for s in SENTENCES],
    "frames": FRAMES,
    "series": [f[:, 1] for f in FRAMES],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_input(kind: str, tmp_path: Path, assert_same_bits: Any) -> None:
    X, y = KINDS[kind], SIGNS if kind in ("frames", "series") else TAGS
    model = SequenceTagger(**SMALL | {"max_epochs": 40})
    assert model.fit(X, y) is model
    assert model.classes_.tolist() == sorted({t for tags in y for t in tags})
    predicted = model.predict(X)
    assert [len(p) for p in predicted] == LENGTHS
    assert all(type(label) in (str, int) for p in predicted for label in p)
    right = [a == b for p, t in zip(predicted, y, strict=True) for a, b in zip(p, t, strict=True)]
    assert model.score(X, y) == np.mean(right) > 0.85
    p = model.predict_proba(X)
    assert [a.shape for a in p] == [(n, len(model.classes_)) for n in LENGTHS]
    for a, labels in zip(p, predicted, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a.sum(axis=1), 1, rtol=1e-5)
        assert model.classes_[a.argmax(axis=1)].tolist() == labels
    model.save(tmp_path / "model")
    twin = SequenceTagger.load(tmp_path / "model")
    assert_same_bits(np.concatenate(twin.predict_proba(X)), np.concatenate(p))
    assert (twin.predict(X), twin.n_features_in_) == (predicted, model.n_features_in_)
    assert {**twin.get_params(), "suffixes": tuple(twin.suffixes)} == model.get_params()
    twin.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()


LABELS: dict[str, Any] = {
    "integers": [[len(t) for t in tags] for tags in TAGS],
    "booleans": [[t == "NOUN" for t in tags] for tags in TAGS],
    "arrays": [np.array(tags) for tags in TAGS],
    "arrays of objects": [np.array(tags, object) for tags in TAGS],
    "small integers": [np.array([len(t) for t in tags], np.int8) for tags in TAGS],
}


@pytest.mark.parametrize("name", LABELS)
def test_every_kind_of_label(name: str, tmp_path: Path, assert_same_bits: Any) -> None:
    y = LABELS[name]
    model = fitted(y=y, max_epochs=40)
    assert model.classes_.tolist() == sorted({t for tags in y for t in np.asarray(tags).tolist()})
    assert model.predict(SENTENCES) == [np.asarray(tags).tolist() for tags in y]
    assert model.score(SENTENCES, y) == 1.0
    model.save(tmp_path / "model")
    twin = SequenceTagger.load(tmp_path / "model")
    assert_same_bits(twin.classes_, model.classes_)
    assert twin.predict(SENTENCES) == model.predict(SENTENCES)


@pytest.mark.parametrize("kind", ["tokens", "frames"])
def test_three_forms_of_ragged_input(kind: str, assert_same_bits: Any) -> None:
    X, y = KINDS[kind], SIGNS if kind == "frames" else TAGS
    filler: Any = np.full(3, np.nan) if kind == "frames" else "nothing"
    padded = [[*s, *[filler] * (5 - len(s))] for s in X]
    padded_y = [[*t, *[9 if kind == "frames" else "none"] * (5 - len(t))] for t in y]
    joined, joined_y = [step for s in X for step in s], [label for t in y for label in t]
    expected = fitted(X, y)
    for given, labels in ((padded, padded_y), (joined, joined_y), (np.array(padded), np.array(padded_y)),
                          (np.array(joined), np.array(joined_y)), (joined, y)):  # fmt: skip
        model = SequenceTagger(**SMALL).fit(given, labels, lengths=LENGTHS)
        assert_same_bits(model.network_.vector, expected.network_.vector)
        assert model.classes_.tolist() == expected.classes_.tolist()
        assert model.predict(given, lengths=LENGTHS) == expected.predict(X)
        assert model.score(given, labels, lengths=LENGTHS) == expected.score(X, y)
        other = SequenceTagger(**SMALL).fit(given, labels, lengths=LENGTHS, validation=(given, labels, LENGTHS))
        assert other.history_["val_accuracy"][-1] > 0.5
    cube = rng.normal(size=(6, 4, 2))
    assert [len(p) for p in fitted(cube, (cube[:, :, 0] > 0).astype(int)).predict(cube)] == [4] * 6


def test_characters(tmp_path: Path) -> None:
    """A label for each character as it is: one letter and its accent are two where they are written as two."""
    X = ["ab1", "b", "a22b", "e\u0301 1", "1a"] * 4
    y = [["9" if c.isdigit() else "a" for c in text] for text in X]
    model = fitted(X, y, level="character", max_epochs=40)
    assert model.parts_ is None
    assert [len(p) for p in model.predict(X)] == [len(text) for text in X]
    assert model.predict(X) == y
    assert model.predict(["e\u0301!", "1"])[1] == ["9"]
    assert len(model.predict(["e\u0301!"])[0]) == 3
    assert model.score(X, y) == 1.0
    assert model.score([list(text) for text in X], y) == 1.0
    model.save(tmp_path / "model")
    assert SequenceTagger.load(tmp_path / "model").predict(X) == y
    with pytest.raises(ValueError, match=re.escape("y[3]: expected a label for each of the 4 steps of X[3], got 3")):
        fitted(X, [*y[:3], ["a"] * 3, *y[4:]], level="character")


def test_words_of_a_string() -> None:
    """Labels stand beside the words that tokenize makes: lower-cased, without punctuation."""
    X, y = ["It's fine, really.", "Fine!"] * 3, [["PRON", "ADJ", "ADV"], ["ADJ"]] * 3
    model = fitted(X, y, max_epochs=40)
    assert model.predict(["really: it's FINE"])[0] == ["ADV", "PRON", "ADJ"]
    assert model.predict([["it's", "fine"]]) == [["PRON", "ADJ"]]
    with pytest.raises(ValueError, match=re.escape("y[1]: expected a label for each of the 1 steps of X[1], got 2")):
        fitted(X, [y[0], ["ADJ", "PUNCT"], *y[2:]])
    with pytest.raises(ValueError, match=re.escape("X[1]: expected at least one step, got an empty sequence ([])")):
        model.predict(["fine", "?!"])


def test_parts_of_words() -> None:
    parts = WordParts.learn([["Ankara'da", "ev", "1999", "Ev"], ["ev"]], (1, 3), 1)
    known = [["9", "a", "v"], ["'da", "999", "^ev"], ["9", "Xx", "Xx'x", "x"]]
    assert [v.tokens[4:] for v in parts.vocabularies] == known
    tokens = ["Ankara'da", "EV", "3", "Bursa'da", "evv", "?"]
    (ids,) = parts([tokens])
    assert ids.shape == (6, 3)
    names = [[v.tokens[i] for v, i in zip(parts.vocabularies, row, strict=True)] for row in ids]
    assert names == [
        ["a", "'da", "Xx'x"],
        ["v", "^ev", "<unk>"],
        ["<unk>", "<unk>", "9"],
        ["a", "'da", "Xx'x"],
        ["v", "<unk>", "x"],
        ["<unk>", "<unk>", "<unk>"],
    ]
    assert [a.shape for a in parts([["a"], ["b", "c"]])] == [(1, 3), (2, 3)]
    rare = WordParts.learn([["ab", "ab", "cb"]], (1, 2), 2)
    assert [v.tokens[4:] for v in rare.vocabularies] == [["b"], ["^ab"], ["x"]]


def noun_or_verb(n: int, seed: int, start: str) -> tuple[list[list[str]], list[list[str]]]:
    """Words whose last letters tell what they are, and names by their first letter; none of them comes twice."""
    draw = np.random.default_rng(seed)
    endings = {"NOUN": ["ness", "tion"], "VERB": ["izes", "ates"]}
    X, y = [], []
    for i in range(n):
        words, tags = [], []
        for k in range(int(draw.integers(1, 6))):
            tag = str(draw.choice(["NOUN", "VERB", "NAME"]))
            stem = f"{start}{i}x{k}".translate(str.maketrans("0123456789", "bcdfghjklm"))
            words.append(
                (stem.capitalize() if tag == "NAME" else stem) + str(draw.choice(endings.get(tag, ["ness", "izes"])))
            )
            tags.append(tag)
        X.append(words)
        y.append(tags)
    return X, y


def test_unseen_words_are_known_by_their_parts() -> None:
    X, y = noun_or_verb(120, 0, "q")
    new, truth = noun_or_verb(60, 1, "z")
    options = {"max_epochs": 15, "learning_rate": 0.02, "min_count": 2, "batch_size": 8}
    model = fitted(X, y, **options)
    assert len(model.encoder_.vocabulary) == 4  # every word comes once: they all are <unk>
    assert sum(model.encoder_.unseen(new).values()) == sum(map(len, new))
    assert model.score(new, truth) > 0.97
    suffixes = fitted(X, y, **options, suffixes=[3])
    assert suffixes.score(new, truth) > 0.97
    without = fitted(X, y, **options, suffixes=())
    assert without.parts_ is None
    assert without.score(new, truth) < 0.6


def test_one_hot_words_are_read_alone(tmp_path: Path) -> None:
    model = fitted(embedding_size=0, max_epochs=40)
    assert model.parts_ is None
    assert model.network_.embedding is None
    assert model.score(SENTENCES, TAGS) == 1.0
    model.save(tmp_path / "model")
    assert SequenceTagger.load(tmp_path / "model").predict(SENTENCES) == TAGS


def test_rare_and_unseen_words() -> None:
    model = SequenceTagger(**SMALL | {"min_count": 5, "suffixes": ()}).fit(SENTENCES, TAGS)
    assert set(model.encoder_.vocabulary.tokens[4:]) == {"the", "runs", "cat"}
    assert SequenceTagger().min_count == 2
    a, b = model.predict_proba([["the", "giraffe", "runs"], ["the", "dog", "runs"]])
    assert np.array_equal(a, b)
    assert model.encoder_.unseen([["the", "giraffe", "dog", "dog"]]) == {"giraffe": 1, "dog": 2}


def gradient(model: SequenceTagger, X: Any, y: Any, **options: Any) -> np.ndarray:
    """Of one batch, through fit itself: an optimiser that keeps it and changes nothing."""
    network = model.network_
    seen: list[np.ndarray] = []

    class Recorder:
        def step(self, parameters: np.ndarray, gradients: np.ndarray) -> None:
            seen.append(gradients.copy())

    places = {label: k for k, label in enumerate(model.classes_.tolist())}
    targets = [np.array([places[t] for t in tags]) for tags in y]
    encoded = model._encode(X, model.encoder_, model.parts_)
    rnnfast.fit(network, encoded, targets, optimizer=Recorder(), batch_size=len(X), max_epochs=1, shuffle=False,
                bucket=False, normalizer=model.normalizer, **options)  # fmt: skip
    (g,) = seen
    return g


@pytest.mark.parametrize("normalizer", ["steps", "sequences", "both", "sum"])
def test_loss_is_over_valid_steps(normalizer: str) -> None:
    """The gradient of a ragged batch is the sum of those of its sequences alone, each with its weight: padding adds
    nothing, and the normalizer is what it is said to be."""
    model = fitted(max_epochs=1, dtype="float64", normalizer=normalizer)
    X, y = SENTENCES[:4], TAGS[:4]
    lengths = np.array(LENGTHS[:4])
    alone = np.array([gradient(model, [x], [t]) for x, t in zip(X, y, strict=True)])
    of_sums = alone * (lengths if normalizer in ("steps", "both") else np.ones(4))[:, None]  # undo the mean of one
    expected = {
        "steps": of_sums.sum(axis=0) / lengths.sum(),
        "sequences": of_sums.sum(axis=0) / 4,
        "both": (of_sums / lengths[:, None]).sum(axis=0) / 4,
        "sum": of_sums.sum(axis=0),
    }[normalizer]
    np.testing.assert_allclose(gradient(model, X, y), expected, rtol=1e-10, atol=1e-12)


def test_normalizer_reaches_fit() -> None:
    losses = {n: fitted(normalizer=n, max_epochs=2).history_["loss"][0] for n in ("steps", "sequences", "both", "sum")}
    assert losses["steps"] == pytest.approx(np.log(5), rel=0.2)  # about a uniform guess of 5 labels
    assert losses["both"] == pytest.approx(np.log(5), rel=0.2)
    assert losses["sequences"] == pytest.approx(np.log(5) * np.mean(LENGTHS), rel=0.2)
    assert losses["sum"] == pytest.approx(np.log(5) * np.sum(LENGTHS), rel=0.2)
    assert len(set(losses.values())) == 4
    with pytest.raises(ValueError, match="normalizer: expected one of"):
        fitted(normalizer="mean")


def test_entities() -> None:
    X = [["Ada", "Lovelace", "lived", "in", "London"], ["in", "Rome"], ["Bob", "left", "London"]] * 4
    y = [["B-PER", "I-PER", "O", "O", "B-LOC"], ["O", "B-LOC"], ["B-PER", "O", "B-LOC"]] * 4
    model = fitted(X, y, max_epochs=40)
    assert model.entity_f1(X, y) == 1.0
    truth = [["O"] * len(t) for t in y]
    truth[0] = y[0]
    assert model.entity_f1(X, truth) == entity_f1(truth, model.predict(X)) < 0.5
    joined = ([w for s in X for w in s], [t for tags in y for t in tags])
    assert model.entity_f1(*joined, lengths=[len(s) for s in X]) == 1.0


def test_unseen_labels() -> None:
    """Counted as wrong by score; sequences with them are left out of validation data; both are said."""
    model = fitted(max_epochs=40)
    changed = [["X", *t[1:]] for t in TAGS]
    with pytest.warns(UserWarning, match=f"y: 16 of {sum(LENGTHS)} labels were not seen in fit, and count as wrong"):
        assert model.score(SENTENCES, changed) == pytest.approx(1 - 16 / sum(LENGTHS))
    mixed = [TAGS[0], ["DET", "X", "VERB", "ADV"], TAGS[2]]
    with pytest.warns(UserWarning, match="validation: 1 of 3 sequences have labels not in y: they are left out"):
        other = SequenceTagger(**SMALL).fit(SENTENCES, TAGS, validation=(SENTENCES[:3], mixed))
    same = SequenceTagger(**SMALL).fit(SENTENCES, TAGS, validation=(SENTENCES[:3:2], TAGS[:3:2]))
    assert other.history_["val_loss"] == same.history_["val_loss"]
    with pytest.raises(
        ValueError, match="validation: 1 of 1 sequences have labels not in y: they are left out, and none"
    ):
        SequenceTagger(**SMALL).fit(SENTENCES, TAGS, validation=(SENTENCES[:1], [["X"] * 3]))


def test_validation() -> None:
    model = fitted(validation_fraction=0.25, max_epochs=30)
    history = model.history_
    assert len(history["val_accuracy"]) == 30
    best = max(history["val_accuracy"])
    assert history["val_accuracy"][history.best_epoch] == best
    train, valid = rnnfast.split(16, (0.75, 0.25), 0)
    held_out = ([SENTENCES[i] for i in valid], [TAGS[i] for i in valid])
    assert model.score(*held_out) == pytest.approx(best)
    words = {word for i in train for word in SENTENCES[i]}
    assert set(model.encoder_.vocabulary.tokens[4:]) == words
    both = SequenceTagger(**SMALL, validation_fraction=0.25).fit(SENTENCES, TAGS, validation=held_out)
    assert set(both.encoder_.vocabulary.tokens[4:]) == {word for s in SENTENCES for word in s}  # all are trained on


ERRORS: list[tuple[dict[str, Any], Any, Any, type[Exception], str]] = [
    ({}, SENTENCES, None, ValueError, "y: SequenceTagger requires y to be passed, but the target y is None"),
    ({}, SENTENCES, TAGS[1:], ValueError, "y: expected labels for N = 16 sequences, got 15"),
    ({}, SENTENCES, [TAGS[0], TAGS[1][1:], *TAGS[2:]], ValueError,
     "y[1]: expected a label for each of the 4 steps of X[1], got 3"),
    ({}, SENTENCES, [*TAGS[:2], [["NOUN"]], *TAGS[3:]], ValueError,
     "y[2]: expected a label for each of the 1 steps of X[2], got (1, 1)"),
    ({}, SENTENCES, [*TAGS[:2], "NOUN", *TAGS[3:]], TypeError,
     "y[2]: expected a list of labels, one for each step, got the string 'NOUN'"),
    ({}, SENTENCES, "NOUN", TypeError, "y: expected a list of sequences, got str"),
    ({}, SENTENCES, ["NOUN"] * 16, TypeError, "y[0]: expected a list of labels, one for each step, got"),
    ({}, SENTENCES, [[0.5] * n for n in LENGTHS], TypeError, "y[0]: expected strings, integers or booleans, got float"),
    ({}, SENTENCES, [["a", None, "b"], *TAGS[1:]], TypeError, "y[0]: expected strings, integers or booleans, got obj"),
    ({}, SENTENCES, [[1, 2, 3], *TAGS[1:]], TypeError, "y: expected labels of one kind, got strings and numbers"),
    ({}, SENTENCES, [["N"] * n for n in LENGTHS], ValueError, "y: expected at least two classes, got 1 class, 'N'"),
    ({}, [[], *SENTENCES[1:]], [[], *TAGS[1:]], ValueError, "X[0]: expected at least one step, got an empty sequence"),
    ({}, [], [], ValueError, "X: expected at least one sequence, got none"),
    ({}, "the dog", [["DET", "NOUN"]], TypeError, "X: expected a list of sequences, got str"),
    ({}, [None, ["a"]], [["x"], ["y"]], TypeError, "X[0]: expected a string, tokens, ids or an array, got None"),
    ({}, [f[:, : i % 2 + 1] for i, f in enumerate(FRAMES)], SIGNS, ValueError, "X[1]: expected (T, D) = (T, 1)"),
    ({}, [np.full((2, 2), np.nan), *FRAMES[1:]], [[0, 1], *SIGNS[1:]], ValueError, "X[0][0, 0] is NaN"),
    ({"suffixes": (1, 0)}, SENTENCES, TAGS, ValueError, "suffixes: expected positive lengths, got (1, 0)"),
    ({"suffixes": 3}, SENTENCES, TAGS, ValueError, "suffixes: expected positive lengths, got 3"),
    ({"suffixes": (1.5,)}, SENTENCES, TAGS, ValueError, "suffixes: expected positive lengths, got (1.5,)"),
    ({"suffix_size": 0}, SENTENCES, TAGS, ValueError, "suffix_size: expected a positive integer, got 0"),
    ({"shape_size": "8"}, SENTENCES, TAGS, ValueError, "shape_size: expected a positive integer, got '8'"),
    ({"min_count": 0}, SENTENCES, TAGS, ValueError, "min_count: expected a positive integer, got 0"),
    ({"level": "letter"}, SENTENCES, TAGS, ValueError, "level: expected 'word' or 'character', got 'letter'"),
    ({"truncate": 2}, SENTENCES, TAGS, ValueError, "truncate, carry_state: expected a model of one direction"),
    ({"validation_fraction": 0.01}, SENTENCES, TAGS, ValueError, "validation_fraction = 0.01: 16 sequences are too"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "X", "y", "error", "message"), ERRORS)
def test_errors(changes: dict[str, Any], X: Any, y: Any, error: type[Exception], message: str) -> None:
    model = SequenceTagger(**SMALL | changes)
    with pytest.raises(error, match=re.escape(message)):
        model.fit(X, y)
    assert not [name for name in vars(model) if name.endswith("_") and not name.startswith("_")]


def test_errors_after_fit() -> None:
    for call in (lambda m: m.predict(SENTENCES), lambda m: m.predict_proba(SENTENCES),
                 lambda m: m.score(SENTENCES, TAGS), lambda m: m.entity_f1(SENTENCES, TAGS)):  # fmt: skip
        with pytest.raises(RuntimeError, match="SequenceTagger: expected a fitted model; call fit first"):
            call(SequenceTagger())
    model = fitted()
    with pytest.raises(ValueError, match="X: expected tokens as in fit, got ids"):
        model.predict([[1, 2]])
    with pytest.raises(ValueError, match=re.escape("y[0]: expected a label for each of the 3 steps of X[0], got 1")):
        model.score(SENTENCES, [["DET"], *TAGS[1:]])
    with pytest.raises(ValueError, match=re.escape("validation: expected (X, y) or (X, y, lengths), got 1 items")):
        model.fit(SENTENCES, TAGS, validation=(SENTENCES,))


def test_warm_start(assert_same_bits: Any) -> None:
    model = fitted(warm_start=True)
    network, loss = model.network_, model.history_["loss"]
    before, parts = network.vector.copy(), model.parts_
    model.fit([["the", "unheard", "runs"]], [["DET", "NOUN", "VERB"]])  # no new words, no new labels
    assert model.parts_ is parts
    np.testing.assert_array_equal(network.vector, before)  # a copy of it was trained
    assert not np.array_equal(model.network_.vector, before)
    assert fitted(warm_start=True).fit(SENTENCES, TAGS).history_["loss"][0] < loss[0]
    with pytest.raises(ValueError, match=re.escape("y[1][2] = 'X': expected one of the labels of the first fit")):
        model.fit(SENTENCES, [TAGS[0], ["DET", "NOUN", "X", "ADV"], *TAGS[2:]])
    cold = fitted()
    assert_same_bits(cold.fit(SENTENCES, TAGS).network_.vector, fitted().network_.vector)


def test_the_same_seed_is_the_same_model(assert_same_bits: Any) -> None:
    def run(**changes: Any) -> SequenceTagger:
        return fitted(**{"dropout": 0.3, "num_layers": 2, "validation_fraction": 0.25, "max_epochs": 3, **changes})

    first = run()
    for other in (run(), run(n_jobs=2)):
        assert_same_bits(other.network_.vector, first.network_.vector)
        assert other.history_["val_loss"] == first.history_["val_loss"]
        assert_same_bits(np.concatenate(other.predict_proba(SENTENCES)), np.concatenate(first.predict_proba(SENTENCES)))
    assert not np.array_equal(run(random_state=1).network_.vector, first.network_.vector)


@pytest.mark.parametrize("cell", rnnfast.cells())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cells_and_dtypes(cell: str, dtype: str, tmp_path: Path, assert_same_bits: Any) -> None:
    model = fitted(cell=cell, dtype=dtype, bidirectional=cell != "gru", truncate=2 if cell == "gru" else None)
    assert model.network_.vector.dtype == model.predict_proba(SENTENCES)[0].dtype == dtype
    assert model.history_["loss"][-1] < 0.8 * model.history_["loss"][0]
    model.save(tmp_path / "model")
    twin = SequenceTagger.load(tmp_path / "model")
    assert_same_bits(np.concatenate(twin.predict_proba(SENTENCES)), np.concatenate(model.predict_proba(SENTENCES)))


def test_many_sentences_in_their_places() -> None:
    """More than one batch, of mixed lengths, one far longer than any of the training data."""
    model = fitted()
    words = [word for s in SENTENCES for word in s]
    many = [[words[i] for i in rng.integers(0, len(words), n)] for n in [*rng.integers(1, 9, 400), 700]]
    together = model.predict_proba(many)
    assert [len(p) for p in together] == [len(s) for s in many]
    for i in (0, 17, 255, 256, 399, 400):
        np.testing.assert_allclose(together[i], model.predict_proba([many[i]])[0], rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    path = tmp_path_factory.mktemp("parts") / "model"
    fitted(max_epochs=1).save(path)
    return read_model(path, "SequenceTagger")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("parts",), None), (("parts",), []), (("parts",), 5), (("parts",), [["a"]] * 3), (("parts",), [["a"]] * 4),
        (("parts",), [["a", "a"]] * 4), (("parts",), [[1]] * 4), (("classes",), ["a"]), (("classes",), ["a"] * 5),
        (("params", "suffixes"), None), (("params", "suffixes"), [1, 2]), (("params", "suffixes"), [0, 1, 2]),
        (("params", "suffix_size"), 4), (("params", "suffix_size"), 10**9), (("params", "suffix_size"), -1),
        (("params", "suffix_size"), "3"), (("params", "shape_size"), 10**40), (("params", "shape_size"), 0),
        (("params", "hidden_size"), 7), (("params", "embedding_size"), 0), (("params", "embedding_size"), 10**12),
        (("encoder", "size"), 9), (("encoder", "kind"), "ids"),
    ],
)  # fmt: skip
def test_settings_that_are_wrong(place: tuple[str, ...], value: Any, parts: Any, tmp_path: Path) -> None:
    arrays, settings = parts
    changed = json.loads(json.dumps(settings))
    inner = changed if len(place) == 1 else changed[place[0]]
    assert place[-1] in inner
    inner[place[-1]] = value
    write_model(tmp_path / "model", "SequenceTagger", arrays, changed)
    with pytest.raises(ModelFileError, match="expected a whole SequenceTagger, got one with"):
        SequenceTagger.load(tmp_path / "model")
    inner.pop(place[-1])
    write_model(tmp_path / "model", "SequenceTagger", arrays, changed)
    if place[0] != "params":
        with pytest.raises(ModelFileError, match="expected a whole SequenceTagger, got one with"):
            SequenceTagger.load(tmp_path / "model")
