"""The estimators among scikit-learn's: its own checks, pipelines, searches, clones and tags; and it stays optional."""

from __future__ import annotations

import subprocess
import sys
import unittest
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import rnnfast

sklearn = pytest.importorskip("sklearn", reason='pip install "rnnfast[sklearn]"')

from sklearn.base import BaseEstimator, TransformerMixin, clone, is_classifier, is_regressor  # noqa: E402
from sklearn.exceptions import DataConversionWarning, NotFittedError  # noqa: E402
from sklearn.model_selection import (  # noqa: E402
    GridSearchCV,
    KFold,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    train_test_split,
)
from sklearn.pipeline import Pipeline, make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils import get_tags  # noqa: E402
from sklearn.utils.estimator_checks import estimator_checks_generator  # noqa: E402
from sklearn.utils.validation import check_is_fitted  # noqa: E402

ALL = ["SequenceClassifier", "SequenceTagger", "SequenceRegressor", "SequenceGenerator", "SequenceTransducer"]
NEEDED = {  # checks that are skipped, and what they would need
    "check_array_api_input": "SCIPY_ARRAY_API",
    "check_classifier_data_not_an_array": "pandas",
    "check_regressor_data_not_an_array": "pandas",
}
SMALL: dict[str, Any] = {"hidden_size": 6, "embedding_size": 4, "max_epochs": 8, "learning_rate": 0.05,
                         "random_state": 0, "n_jobs": 1}  # fmt: skip
TEXTS = ["a fine film", "a dull film", "fine acting", "so dull", "a fine day", "dull dull acting"] * 5
LABELS = np.array(["good", "bad"] * 15)
rng = np.random.default_rng(0)
CLIPS = [rng.normal(size=(n, 2)) + (i % 2) for i, n in enumerate(rng.integers(2, 7, 30))]
TABLE = rng.normal(size=(40, 6))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The default parameters leave the number of threads to the process."""
    before = rnnfast.get_num_threads()
    rnnfast.set_num_threads(1)
    yield
    rnnfast.set_num_threads(before)


LONG = {"check_regressors_train", "check_regressor_data_not_an_array"}


def checks() -> list[Any]:
    found = []
    for estimator in (rnnfast.SequenceClassifier(), rnnfast.SequenceRegressor()):
        seen: dict[str, int] = {}
        with pytest.warns(UserWarning, match="does not inherit from"):  # as an optional extra, it cannot
            pairs = list(estimator_checks_generator(estimator, mark="skip"))
        for _, check in pairs:
            name = getattr(check, "func", check).__name__
            seen[name] = seen.get(name, 0) + 1
            marks = [pytest.mark.slow] if name in LONG else []
            id = f"{type(estimator).__name__} {name} {seen[name]}"
            found.append(pytest.param(estimator, check, name, marks=marks, id=id))
    return found


@pytest.mark.parametrize(("estimator", "check", "name"), checks())
def test_check_estimator(estimator: Any, check: Any, name: str) -> None:
    """With default parameters, every one of them."""
    try:
        check(clone(estimator))
    except unittest.SkipTest as reason:
        if NEEDED.get(name, "nothing") not in str(reason):
            pytest.fail(f"skipped: {reason}")
        pytest.skip(str(reason))


def test_pipeline() -> None:
    """Of tables, of ragged numbers and of texts; parameters are reached through it."""
    pipe = make_pipeline(StandardScaler(), rnnfast.SequenceRegressor(**SMALL))
    y = TABLE[:, -1] + TABLE[:, 0]
    assert pipe.fit(TABLE, y).predict(TABLE).shape == (40,)
    assert pipe.score(TABLE, y) > 0
    assert pipe.n_features_in_ == 6
    pipe.set_params(sequenceregressor__hidden_size=3)
    assert pipe.get_params()["sequenceregressor__hidden_size"] == 3
    assert pipe.fit(TABLE, y)[-1].network_.recurrent.hidden_size == 3

    class Lower(TransformerMixin, BaseEstimator):
        def fit(self, X: Any, y: Any = None) -> Lower:
            self.fitted_ = True
            return self

        def transform(self, X: Any) -> list[list[str]]:
            return [rnnfast.tokenize(text) for text in X]

    for X, steps in ((TEXTS, [("words", Lower())]), (CLIPS, [])):
        pipe = Pipeline([*steps, ("rnn", rnnfast.SequenceClassifier(**SMALL))])
        pipe.fit(X, LABELS)
        assert set(pipe.predict(X)) <= {"good", "bad"}
        assert pipe.predict_proba(X).shape == (30, 2)
        assert pipe.score(X, LABELS) > 0.8
        assert pipe.classes_.tolist() == ["bad", "good"]
        check_is_fitted(pipe)
    assert "SequenceClassifier(" in repr(pipe)
    padded, lengths = rnnfast.pad(CLIPS)
    other = Pipeline([("rnn", rnnfast.SequenceClassifier(**SMALL))]).fit(padded, LABELS, rnn__lengths=lengths)
    assert np.array_equal(other[-1].predict_proba(CLIPS), pipe.predict_proba(CLIPS))


@pytest.mark.parametrize("kind", ["texts", "array of texts", "tokens", "ids", "ragged numbers"])
def test_search_and_validation(kind: str) -> None:
    X: Any = {
        "texts": TEXTS,
        "array of texts": np.array(TEXTS),
        "tokens": [text.split() for text in TEXTS],
        "ids": [[len(word) + 10 * ("f" in word) for word in text.split()] for text in TEXTS],
        "ragged numbers": CLIPS,
    }[kind]
    model = rnnfast.SequenceClassifier(**SMALL)
    scores = cross_val_score(model, X, LABELS, cv=3)
    assert scores.shape == (3,)
    assert scores.mean() > 0.6
    search = GridSearchCV(model, {"hidden_size": [2, 6], "cell": ["gru", "lstm"]}, cv=2, n_jobs=1, scoring="accuracy")
    search.fit(X, LABELS)
    assert not np.isnan(search.cv_results_["mean_test_score"]).any()
    assert search.best_params_.keys() == {"hidden_size", "cell"}
    assert search.best_estimator_.hidden_size == search.best_params_["hidden_size"]
    assert set(search.predict(X)) <= {"good", "bad"}


def test_folds_are_those_of_a_classifier_and_a_regressor() -> None:
    model = rnnfast.SequenceClassifier(**SMALL)
    by_hand = [clone(model).fit([TEXTS[i] for i in train], LABELS[train]).score([TEXTS[i] for i in test], LABELS[test])
               for train, test in StratifiedKFold(3).split(TEXTS, LABELS)]  # fmt: skip
    assert cross_val_score(model, TEXTS, LABELS, cv=3).tolist() == by_hand
    y = TABLE[:, -1]
    model = rnnfast.SequenceRegressor(**SMALL)
    by_hand = [clone(model).fit(TABLE[train], y[train]).score(TABLE[test], y[test])
               for train, test in KFold(3).split(TABLE)]  # fmt: skip
    result = cross_validate(model, TABLE, y, cv=3, scoring=["r2", "neg_mean_squared_error"])
    assert result["test_r2"] == pytest.approx(by_hand, rel=1e-9)
    assert cross_val_predict(model, TABLE, np.stack([y, -y], axis=1), cv=3).shape == (40, 2)


def test_search_of_a_tagger_and_a_transducer() -> None:
    """Ragged on both sides."""
    words = [text.split() for text in TEXTS]
    tags = [["ADJ" if word in ("fine", "dull") else "X" for word in sentence] for sentence in words]
    tagger = rnnfast.SequenceTagger(**SMALL, min_count=1)
    assert cross_val_score(tagger, words, tags, cv=2).mean() > 0.6
    search = GridSearchCV(tagger, {"suffixes": [(), (1, 2)]}, cv=2, n_jobs=1).fit(words, tags)
    assert len(search.predict(words)[0]) == len(words[0])
    transducer = rnnfast.SequenceTransducer(**SMALL | {"max_epochs": 2})
    assert cross_val_score(transducer, TEXTS, [text[::-1] for text in TEXTS], cv=2).shape == (2,)
    X, held_out, y, _ = train_test_split(words, tags, random_state=0)
    assert len(tagger.fit(X, y).predict(held_out)) == len(held_out)


@pytest.mark.parametrize("name", ALL)
def test_clone(name: str) -> None:
    kind = getattr(rnnfast, name)
    model = kind(hidden_size=7, random_state=np.random.RandomState(0), callbacks=[rnnfast.Callback()])
    copy = clone(model)
    assert type(copy) is kind
    assert not copy.__sklearn_is_fitted__()
    for key, value in model.get_params().items():
        if key not in ("random_state", "callbacks"):
            assert copy.get_params()[key] == value
    assert copy.random_state is not model.random_state
    assert copy.callbacks is not model.callbacks
    assert not [key for key in vars(copy) if key.endswith("_")]
    with pytest.raises(ValueError, match="hiden: expected one of"):
        copy.set_params(hiden=3)


@pytest.mark.parametrize("name", ALL)
def test_tags(name: str) -> None:
    model = getattr(rnnfast, name)()
    tags = get_tags(model)
    kind = {"SequenceClassifier": "classifier", "SequenceRegressor": "regressor"}.get(name)
    assert tags.estimator_type == kind
    assert is_classifier(model) == (kind == "classifier")
    assert is_regressor(model) == (kind == "regressor")
    assert (tags.classifier_tags is not None) == (kind == "classifier")
    assert (tags.regressor_tags is not None) == (kind == "regressor")
    assert tags.target_tags.required == (name != "SequenceGenerator")  # that one learns from X alone
    assert tags.target_tags.multi_output == (kind == "regressor")
    assert tags.input_tags.three_d_array
    assert not tags.input_tags.sparse
    assert not tags.input_tags.allow_nan


def test_its_exceptions_and_warnings() -> None:
    """Where scikit-learn is loaded, its own classes, which are also ours."""
    with pytest.raises(NotFittedError) as error:
        rnnfast.SequenceTagger().predict([["a"]])
    assert isinstance(error.value, RuntimeError)
    with pytest.raises(NotFittedError):
        check_is_fitted(rnnfast.SequenceClassifier())
    check_is_fitted(rnnfast.SequenceClassifier(**SMALL).fit(TEXTS, LABELS))
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed when a 1d array was expected"):
        rnnfast.SequenceClassifier(**SMALL).fit(TEXTS, LABELS[:, None])


OPTIONAL = """
import sys, warnings
sys.modules["sklearn"] = None  # import sklearn is an ImportError
import rnnfast
texts = ["a fine film", "a dull film"] * 4
options = {"hidden_size": 3, "max_epochs": 1, "random_state": 0}
rnnfast.SequenceClassifier(**options).fit(texts, [0, 1] * 4).score(texts, [0, 1] * 4)
rnnfast.SequenceRegressor(**options).fit(texts, [0.0, 1.0] * 4).score(texts, [0.0, 1.0] * 4)
rnnfast.SequenceTagger(**options).fit(texts, [[0, 1, 0]] * 8).score(texts, [[0, 1, 0]] * 8)
rnnfast.SequenceTransducer(**options).fit(texts, texts).predict(texts)
rnnfast.SequenceGenerator(**options).fit(texts)
assert rnnfast.SequenceClassifier(hidden_size=5).get_params()["hidden_size"] == 5
try:
    rnnfast.SequenceTagger().predict(texts)
except RuntimeError as error:
    assert type(error) is RuntimeError
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    rnnfast.SequenceClassifier(**options).fit(texts, [[0], [1]] * 4)
assert [w.category for w in caught] == [UserWarning]
del sys.modules["sklearn"]
rnnfast.SequenceClassifier(**options).fit(texts, [0, 1] * 4).predict(texts)
print([name for name in sys.modules if name.split(".")[0] in ("sklearn", "scipy", "pandas", "matplotlib", "tqdm")])
"""


def test_it_is_optional() -> None:
    """Neither import nor fit loads it, and everything works without."""
    done = subprocess.run([sys.executable, "-c", OPTIONAL], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["[]"]
