"""estimators/transducer.py: what it learns and predicts, searches, attention, files, bad input."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast.estimators import transducer
from rnnfast.estimators.transducer import SequenceTransducer
from rnnfast.files import ModelFileError

TABLE = dict(zip("abcd", "αβγδ", strict=True))


def words(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list(TABLE), rng.integers(1, 6))) for _ in range(count)]


def spelt(word: str) -> str:
    """d at the end is dropped, a b becomes two letters: lengths differ."""
    return "".join(TABLE[c] * (2 if c == "b" else 1) for c in word.removesuffix("d"))


def make(**options: Any) -> SequenceTransducer:
    options = {"hidden_size": 24, "embedding_size": 8, "learning_rate": 0.01, "max_epochs": 25, **options}
    return SequenceTransducer(random_state=0, **options)


@pytest.fixture(scope="module")
def trained() -> SequenceTransducer:
    X = words(300)
    return make().fit(X, [spelt(x) for x in X])


def test_it_learns(trained: SequenceTransducer) -> None:
    X = words(100, seed=1)
    y = [spelt(x) for x in X]
    assert trained.score(X, y) >= 0.9
    assert trained.error_rate(X, y) <= 0.05
    predicted = trained.predict(X)
    assert trained.score(X, y) == np.mean([p == t for p, t in zip(predicted, y, strict=True)])
    assert trained.error_rate(X, y) == rnnfast.metrics.error_rate(y, predicted)
    assert trained.score(X, predicted) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"attention": False, "learning_rate": 0.02, "max_epochs": 40},
        {"cell": "gru", "bidirectional": False, "num_layers": 2},
        {"dtype": "float64"},
        {"embedding_size": 0, "dropout": 0.1, "max_epochs": 40},
        {"target_embedding": 5, "initial_state_std": 0.1},
    ],
)
def test_it_learns_with(options: dict[str, Any]) -> None:
    X = words(200)
    y = [spelt(x) for x in X]
    assert make(**options).fit(X, y).score(X, y) >= 0.8


def test_kinds_of_sources_and_targets() -> None:
    X = words(40)
    targets = [spelt(x) for x in X]
    letters = sorted(set("".join(targets)))
    kinds = {
        "text": targets,
        "tokens": [list(t) for t in targets],
        "ids": [[letters.index(c) for c in t] for t in targets],
        "arrays": [np.array([letters.index(c) for c in t], np.int32) for t in targets],
    }
    sources = {
        "text": X,
        "tokens": [list(x) for x in X],
        "ids": [[ord(c) - 97 for c in x] for x in X],
        "features": [np.eye(4)[[ord(c) - 97 for c in x]] for x in X],
    }
    results = {}
    for name, source in sources.items():
        results[name] = make(max_epochs=2).fit(source, targets).predict(source)
        assert all(isinstance(t, str) for t in results[name])
    assert results["text"] == results["tokens"]
    expected = make(max_epochs=4).fit(X, targets).predict(X)
    assert len(set(expected)) > 1
    for name, y in kinds.items():
        model = make(max_epochs=4).fit(X, y)
        assert 0 <= model.score(X, y) <= 1
        predicted = model.predict(X)
        assert model.score(X, predicted) == 1
        if name == "tokens":
            assert predicted == [list(t) for t in expected]
        elif name in ("ids", "arrays"):
            assert predicted == [[letters.index(c) for c in t] for t in expected]


def test_words() -> None:
    X = ["One two.", "two three", "three", "one one", "Two"] * 8
    y = ["uno dos", "Dos, tres!", "tres", "uno uno", "dos"] * 8
    model = make(level="word").fit(X, y)
    assert model.predict(["one, two", "THREE"]) == ["uno dos", "tres"]
    assert model.score(X, y) == 1
    phones = make(target_level="word").fit(["ab", "ba", "a", "b"] * 8, ["eh bee", "bee eh", "eh", "bee"] * 8)
    assert phones.predict(["ba"]) == ["bee eh"]


def test_same_seed_same_bits(trained: SequenceTransducer, assert_same_bits: Any) -> None:
    X = words(300)
    y = [spelt(x) for x in X]
    assert_same_bits(make().fit(X, y).network_.vector, trained.network_.vector)
    short = {"max_epochs": 1, "hidden_size": 4}
    first, other = make(**short).fit(X, y), SequenceTransducer(random_state=1, **short).fit(X, y)
    assert not np.array_equal(first.network_.vector, other.network_.vector[: first.network_.vector.size])


def log_probability(model: SequenceTransducer, source: str, target: str) -> float:
    """log p of a target and <eos>, from teacher forcing."""
    ids = model.targets_.vocabulary.encode(target, sos=True, eos=True)
    logits = model.network_.forward((model.encoder_.vocabulary.encode(source)[None], None, ids[None, :-1]))[0]
    p = rnnfast.softmax(logits.astype(np.float64))
    return float(np.log(p[np.arange(len(ids) - 1), ids[1:]]).sum())


def test_scores_are_log_probabilities(trained: SequenceTransducer) -> None:
    X = words(20, seed=2)
    targets, scores = trained.transduce(X, beam_width=4, n_best=3, return_scores=True)
    plain = make().fit(words(60), [spelt(x) for x in words(60)])
    plain.length_penalty = 0.0
    sums = plain.transduce(X, n_best=2, return_scores=True)
    for x, best, values in zip(X, targets, scores, strict=True):
        assert len(set(best)) == 3
        assert values == sorted(values, reverse=True)
        for target, value in zip(best, values, strict=True):
            np.testing.assert_allclose(value, log_probability(trained, x, target) / (len(target) + 1), atol=1e-4)
    for x, best, values in zip(X, *sums, strict=True):
        for target, value in zip(best, values, strict=True):
            np.testing.assert_allclose(value, log_probability(plain, x, target), atol=1e-3)


def test_predictions_are_greedy_or_of_the_beam(trained: SequenceTransducer) -> None:
    weak = make(max_epochs=3).fit(words(100), [spelt(x) for x in words(100)])
    X = words(60, seed=3)
    greedy = weak.predict(X)
    vocabulary, network = weak.targets_.vocabulary, weak.network_
    for x, target in zip(X[:20], greedy, strict=False):
        ids = [vocabulary.SOS]
        while len(ids) <= 2 * weak.longest_[1] and ids[-1] != vocabulary.EOS:
            logits = network.forward((weak.encoder_.vocabulary.encode(x)[None], None, np.array([ids])))[0, -1]
            logits[[vocabulary.PAD, vocabulary.SOS, vocabulary.UNK]] = -np.inf
            ids.append(int(logits.argmax()))
        assert target == "".join(vocabulary.decode(ids))
    assert weak.transduce(X, beam_width=1) == [[t] for t in greedy]
    weak.set_params(beam_width=5)
    beam = weak.predict(X)
    assert beam == [best[0] for best in weak.transduce(X)]
    assert beam != greedy
    assert [len(best) for best in weak.transduce(X[:3], n_best=7)] == [7] * 3


@pytest.mark.parametrize("beam_width", [1, 3])
def test_a_source_does_not_depend_on_the_others(
    trained: SequenceTransducer, beam_width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = [*words(30, seed=4), "abcd" * 9, "ab" * 5]
    together = trained.transduce(X, beam_width=beam_width)
    assert [trained.transduce([x], beam_width=beam_width)[0] for x in X] == together
    monkeypatch.setattr(transducer, "ROWS", 4)
    assert trained.transduce(X, beam_width=beam_width) == together


def test_lengths_of_predictions(trained: SequenceTransducer) -> None:
    assert trained.longest_[0] == 5
    longest = trained.longest_[1]
    never = make(max_epochs=1).fit(words(30), [spelt(x) for x in words(30)])
    never.longest_ = trained.longest_
    never.network_.dense.parameters["b"][rnnfast.Vocabulary.EOS] = -1e3
    assert [len(t) for t in never.predict(["abc", "a" * 11])] == [2 * longest, 6 * longest]
    never.max_length = 7
    assert [len(t) for t in never.predict(["abc", "a" * 11])] == [7, 7]
    long = "abcd" * 50
    assert len(trained.predict([long])[0]) > 5  # longer than at training: an answer, not an error


def test_what_is_unseen(trained: SequenceTransducer) -> None:
    assert trained.encoder_.unseen(["abz", "zq"]) == {"z": 2, "q": 1}
    assert len(trained.predict(["abz", "zq"])) == 2
    assert trained.score(["ab"], ["zzz"]) == 0
    X = words(200)
    rare = make(max_epochs=2, min_count=3).fit([*X, "xy"], [*map(spelt, X), "ξψ"])
    assert {"x", "ξ"}.isdisjoint({*rare.encoder_.vocabulary.tokens, *rare.targets_.vocabulary.tokens})
    rare.network_.dense.parameters["b"][rnnfast.Vocabulary.UNK] = 1e3
    assert not any("<" in target for target in rare.predict(X[:20]))


def test_validation() -> None:
    X = words(80)
    y = [spelt(x) for x in X]
    model = make(max_epochs=3, validation_fraction=0.2).fit(X, y)
    given = make(max_epochs=3).fit(X, y, validation=(words(5, seed=9), [spelt(x) for x in words(5, seed=9)]))
    for fitted in (model, given):
        assert len(fitted.history_["val_loss"]) == 3
        assert fitted.history_.best_epoch == int(np.argmin(fitted.history_["val_loss"]))
    unseen = make(max_epochs=1).fit(X, y, validation=(["az"], ["ζ"]))  # tokens of the validation part are <unk>
    assert np.isfinite(unseen.history_["val_loss"][0])


def test_in_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn")
    from sklearn.model_selection import GridSearchCV

    X = ["a", "b", "ab", "ba"] * 5
    y = [spelt(x) for x in X]
    model = make(learning_rate=0.02, batch_size=8)
    assert sklearn.base.clone(model).get_params() == model.get_params()
    search = GridSearchCV(model, {"max_epochs": [1, 12]}, cv=2).fit(X, y)
    assert search.best_params_ == {"max_epochs": 12}
    assert isinstance(search.predict(X[:2])[0], str)


def test_forms_of_the_input() -> None:
    ids = [[1, 2, 3], [2, 1], [3]] * 5
    y = ["abc", "ba", "c"] * 5
    padded, lengths = rnnfast.pad(ids)
    joined = np.concatenate(ids)
    expected = make(max_epochs=2).fit(ids, y)
    for X in (padded, joined):
        model = make(max_epochs=2).fit(X, y, lengths=lengths)
        assert model.network_.vector.tobytes() == expected.network_.vector.tobytes()
        assert model.predict(X, lengths=lengths) == expected.predict(ids)
        assert model.score(X, y, lengths=lengths) == expected.score(ids, y)
    assert make(max_epochs=1).fit(ids, np.array(y)).predict(ids) is not None


def test_attention_weights(trained: SequenceTransducer) -> None:
    source, target, weights = trained.attention_weights("abcd")
    assert source == list("abcd")
    assert target == [*trained.predict(["abcd"])[0], "<eos>"]
    assert weights.shape == (len(target), 4)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    given = trained.attention_weights("abcd", "γγ")
    assert given.target == ["γ", "γ", "<eos>"]
    copies = [[4, 5], [5, 4], [4], [5]] * 4
    numbers = make(max_epochs=2).fit(copies, copies)
    assert numbers.attention_weights([5, 4, 4], [4]).source == ["5", "4", "4"]
    assert numbers.attention_weights([5, 4, 4], [4]).target == ["4", "<eos>"]
    features = make(max_epochs=2).fit([np.ones((3, 2)), np.zeros((1, 2))], ["ab", "b"])
    assert features.attention_weights(np.ones((2, 2)), "a").source == ["0", "1"]
    with pytest.raises(ValueError, match="expected a model with attention=True"):
        make(max_epochs=1, attention=False).fit(["a"], ["b"]).attention_weights("a")


def test_warm_start() -> None:
    X = words(60)
    y = [spelt(x) for x in X]
    model = make(max_epochs=5, warm_start=True).fit(X, y)
    first = model.history_["loss"][-1]
    model.fit(X, y)
    assert model.history_["loss"][0] < first * 1.05
    assert len(model.targets_.vocabulary) == 8


def test_a_failed_fit_changes_nothing(trained: SequenceTransducer) -> None:
    before = trained.predict(["abc"])
    with pytest.raises(ValueError, match="expected a target for each"):
        trained.fit(["a", "b"], ["c"])
    trained.set_params(clip_norm=-1.0)
    with pytest.raises(ValueError, match="clip_norm"):
        trained.fit(["x", "y"], ["y", "z"])
    trained.set_params(clip_norm=None)
    assert trained.predict(["abc"]) == before


@pytest.mark.parametrize("kind", ["text", "tokens", "ids", "features", "plain"])
def test_files(kind: str, tmp_path: Path, assert_same_bits: Any) -> None:
    X: Any = words(30)
    y: Any = [spelt(x) for x in X]
    options: dict[str, Any] = {"max_epochs": 2, "beam_width": 2, "target_embedding": 3}
    if kind == "tokens":
        X, y = [list(x) for x in X], [list(t) for t in y]
    elif kind == "ids":
        X, y = [[ord(c) for c in x] for x in X], [[ord(c) for c in t] for t in y]
    elif kind == "features":
        X = [np.random.default_rng(i).normal(size=(len(x), 3)) for i, x in enumerate(X)]
    elif kind == "plain":
        options = {"max_epochs": 1, "attention": False, "cell": "gru", "num_layers": 2, "dtype": "float64"}
    model = make(**options).fit(X, y)
    model.save(tmp_path / "model")
    again = SequenceTransducer.load(tmp_path / "model")
    assert_same_bits(again.network_.vector, model.network_.vector)
    assert again.predict(X) == model.predict(X)
    assert again.transduce(X, return_scores=True) == model.transduce(X, return_scores=True)
    assert again.get_params() == model.get_params()
    assert again.longest_ == model.longest_
    with pytest.raises(ModelFileError, match="expected a SequenceClassifier"):
        rnnfast.SequenceClassifier.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("targets", "kind"), "features"),
        (("targets", "tokens"), ["a", "a"]),
        (("targets", "tokens"), ["α"]),
        (("longest",), [1]),
        (("longest",), [-1, 2]),
        (("params", "target_embedding"), 10**12),
        (("params", "target_embedding"), -1),
        (("params", "attention"), False),
        (("encoder", "size"), 10**12),
        (("columns",), "x"),
    ],
)
def test_files_that_do_not_fit(path: tuple[str, ...], value: Any, tmp_path: Path) -> None:
    from rnnfast.files import read_model, write_model

    make(max_epochs=1).fit(words(20), words(20)).save(tmp_path / "model")
    arrays, settings = read_model(tmp_path / "model", "SequenceTransducer")
    inner = settings
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    write_model(tmp_path / "model", "SequenceTransducer", arrays, settings)
    with pytest.raises(ModelFileError, match="expected a whole SequenceTransducer"):
        SequenceTransducer.load(tmp_path / "model")


ERRORS: list[tuple[Any, Any, type[Exception], str]] = [
    (["a"], ["b", "c"], ValueError, "y: expected a target for each of N = 1 sources, got 2"),
    ([], [], ValueError, "X: expected at least one sequence, got none"),
    ("ab", ["b"], TypeError, "X: expected a list of sequences, got str"),
    (["a", "b"], "bc", TypeError, "y: expected a list of targets, got str"),
    (["a"], None, TypeError, "y: expected a list of targets, got NoneType"),
    (["a", ""], ["b", "c"], ValueError, "X[1]: expected at least one step, got an empty sequence"),
    (["a", "b"], ["b", 3], TypeError, "y[1]: expected a string, a list of tokens or of ids, got 3"),
    (["a"], [[0.5]], TypeError, "y[0]: expected a string, a list of tokens or of ids, got [0.5]"),
    (["a", "b"], ["b", [1]], ValueError, "y: expected targets of one kind, got ids and text"),
    ([np.array([[0.0], [np.nan]])], ["b"], ValueError, "X[0][1, 0]"),
]


@pytest.mark.parametrize(("X", "y", "error", "message"), ERRORS)
def test_bad_data(X: Any, y: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        make(max_epochs=1).fit(X, y)


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"truncate": 3}, "truncate: expected None"),
    ({"level": "syllable"}, "level: expected 'word' or 'character', got 'syllable'"),
    ({"target_level": "phone"}, "target_level: expected 'word' or 'character', got 'phone'"),
    ({"hidden_size": 0}, "hidden_size: expected a positive integer, got 0"),
    ({"target_embedding": -3}, "expected a positive integer, got -3"),
    ({"validation_fraction": 0.1}, "validation_fraction = 0.1: 2 sequences are too few"),
    ({"cell": "elman"}, "elman"),
]


def test_bad_validation() -> None:
    for validation, message in [
        ((["a"],), "validation: expected (X, y) or (X, y, lengths), got 1 items"),
        ((["a"], ["b", "c"]), "validation: y: expected a target for each of N = 1 sources, got 2"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            make(max_epochs=1).fit(["a", "b"], ["b", "a"], validation=validation)


@pytest.mark.parametrize(("options", "message"), OPTIONS)
def test_bad_parameters(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make(**{"max_epochs": 1, **options}).fit(["a", "b"], ["b", "a"])


def test_bad_calls(trained: SequenceTransducer) -> None:
    with pytest.raises(RuntimeError, match="call fit first"):
        make().predict(["a"])
    for call, error, message in [
        (lambda: trained.transduce(["a"], beam_width=0), ValueError, "beam_width: expected a positive integer, got 0"),
        (lambda: trained.transduce(["a"], beam_width=2, n_best=3), ValueError, "n_best: expected at most beam_width"),
        (lambda: trained.predict([[1.0]]), ValueError, "X: expected text as in fit, got features"),
        (lambda: trained.score(["a"], ["b", "c"]), ValueError, "y: expected a target for each of N = 1"),
        (lambda: trained.score(["a"], [[1]]), ValueError, "y[0]: expected text as in fit, got ids"),
        (
            lambda: trained.set_params(max_length=0).predict(["a"]),
            ValueError,
            "max_length: expected None or a positive",
        ),
    ]:
        with pytest.raises(error, match=re.escape(message)):
            call()
        trained.set_params(max_length=None)
