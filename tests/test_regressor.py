"""estimators/regressor.py: numbers for each sequence or step: shapes, scaling, R², files, determinism, a forecast."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import ModelFileError, SequenceRegressor, windows
from rnnfast.files import read_model, write_model

SMALL: dict[str, Any] = {"hidden_size": 6, "max_epochs": 3, "random_state": 0, "learning_rate": 0.02, "n_jobs": 1}
rng = np.random.default_rng(0)
LENGTHS = [5, 2, 7, 1, 4, 6, 3, 5, 2, 4]
X = [rng.normal(size=(n, 3)) for n in LENGTHS]
N = len(X)
LAST = np.array([x[-1, 0] + 2 * x[-1, 1] for x in X])  # a target of each sequence
RUNNING = [np.stack([x[:, 0], 10 - x[:, 1]], axis=1) for x in X]  # two targets of each step
TARGETS = {
    "(N,)": LAST,
    "(N, 1)": LAST[:, None],
    "(N, K)": np.stack([LAST, 50 - LAST, 3 * LAST], axis=1),
    "(N, h, K)": rng.normal(size=(N, 4, 2)),
    "integers": np.arange(N),
    "booleans": LAST > 0,
    "a list": LAST.tolist(),
    "lists": [[a, -a] for a in LAST.tolist()],
    "objects": LAST.astype(object),
    "float32": LAST.astype(np.float32),
}


def fitted(y: Any = LAST, inputs: Any = None, **changes: Any) -> SequenceRegressor:
    return SequenceRegressor(**SMALL | changes).fit(X if inputs is None else inputs, y)


@pytest.mark.parametrize("name", TARGETS)
def test_targets_of_each_sequence(name: str, tmp_path: Path, assert_same_bits: Any) -> None:
    """Predictions are shaped as the targets were; a saved model predicts the same bits."""
    y = TARGETS[name]
    model = fitted(y)
    p = model.predict(X)
    assert (p.shape, p.dtype) == (np.shape(y), np.float64)
    assert model.predict(X[:1]).shape == (1, *np.shape(y)[1:])
    assert model.target_mean_.shape == model.target_deviation_.shape == (np.prod(np.shape(y)[1:], dtype=int),)
    assert np.isfinite(model.score(X, y))
    model.save(tmp_path / "model")
    twin = SequenceRegressor.load(tmp_path / "model")
    assert_same_bits(twin.predict(X), p)
    assert twin.score(X, y) == model.score(X, y)
    twin.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()


STEPS = {
    "(T_i,)": [r[:, 0] for r in RUNNING],
    "(T_i, K)": RUNNING,
    "(T_i, h, K)": [np.stack([r, 2 * r, -r], axis=1) for r in RUNNING],
    "lists": [r.tolist() for r in RUNNING],
}


@pytest.mark.parametrize("name", STEPS)
def test_targets_of_each_step(name: str, tmp_path: Path, assert_same_bits: Any) -> None:
    y = STEPS[name]
    model = fitted(y, per_step=True)
    p = model.predict(X)
    assert isinstance(p, list)
    assert [a.shape for a in p] == [np.shape(t) for t in y]
    assert np.isfinite(model.score(X, y))
    model.save(tmp_path / "model")
    for a, b in zip(SequenceRegressor.load(tmp_path / "model").predict(X), p, strict=True):
        assert_same_bits(a, b)


@pytest.mark.parametrize("per_step", [False, True])
def test_three_forms_of_ragged_input(per_step: bool, assert_same_bits: Any) -> None:
    """A list, padded, joined: the same model, whatever stands in the padding."""
    y: Any = RUNNING if per_step else LAST
    padded, lengths = rnnfast.pad(X, value=np.nan)
    padded_y = rnnfast.pad(RUNNING, value=np.inf)[0] if per_step else y
    joined, joined_y = np.concatenate(X), np.concatenate(RUNNING) if per_step else y
    expected = fitted(y, per_step=per_step)
    forms = [
        (padded, padded_y),
        (joined, joined_y),
        (padded.tolist(), y),
        (joined.tolist(), joined_y),
        (joined, padded_y),
    ]
    for given, targets in forms:
        model = SequenceRegressor(**SMALL, per_step=per_step)
        model.fit(given, targets, lengths=lengths, validation=(given, targets, lengths))
        assert len(model.history_["val_loss"]) == 3
        assert model.n_features_in_ == expected.n_features_in_ == 3
        model = SequenceRegressor(**SMALL, per_step=per_step).fit(given, targets, lengths=lengths)
        assert_same_bits(model.network_.vector, expected.network_.vector)
        for a, b in zip(model.predict(given, lengths=lengths), expected.predict(X), strict=True):
            assert np.array_equal(a, b)
        assert model.score(given, targets, lengths=lengths) == expected.score(X, y)


def test_arrays() -> None:
    """(N, T) are N univariate series, (N, T, D) others; for each step an array comes back as an array."""
    table, cube = rng.normal(size=(8, 5)), rng.normal(size=(8, 5, 2))
    model = fitted(table[:, -1], table)
    assert model.n_features_in_ == 5
    assert model.network_.recurrent.input_size == 1
    with pytest.raises(ValueError, match="X has 6 features, but SequenceRegressor is expecting 5 features as input"):
        model.predict(np.ones((2, 6)))
    assert model.predict(list(np.ones((2, 6)))).shape == model.predict(np.ones((2, 6, 1))).shape == (2,)
    model = fitted(cube[:, :, 0], cube, per_step=True)
    assert model.n_features_in_ == 2
    assert model.predict(cube).shape == (8, 5)
    assert [p.shape for p in model.predict(list(cube))] == [(5,)] * 8
    assert [p.shape for p in model.predict(cube, lengths=[5, 2, 1, 5, 4, 3, 2, 1])][:3] == [(5,), (2,), (1,)]
    assert fitted(cube, cube, per_step=True).predict(cube).shape == cube.shape
    ragged = np.empty(N, object)
    ragged[:] = X
    assert [len(p) for p in fitted(RUNNING, per_step=True).predict(ragged)] == LENGTHS


def test_tokens_ids_and_texts() -> None:
    texts = ["good", "good good", "bad", "bad good bad", "so bad", "so good"] * 3
    y = np.array([text.split().count("good") - text.split().count("bad") for text in texts], float)
    for given in (texts, [t.split() for t in texts], [[len(w) for w in t.split()] for t in texts], np.array(texts)):
        model = SequenceRegressor(**SMALL | {"max_epochs": 60, "embedding_size": 4}).fit(given, y)
        assert model.score(given, y) > 0.9
    model = SequenceRegressor(**SMALL, per_step=True).fit(["It's fine, so!", "so"], [[1.0, 2.0, 3.0], [3.0]])
    assert [len(a) for a in model.predict(["so, it's (very) fine", "fine"])] == [4, 1]  # words, not letters
    letters = SequenceRegressor(**SMALL, level="character", per_step=True)
    p = letters.fit(["abc", "ca"], [[1.0, 2.0, 3.0], [3.0, 1.0]]).predict(np.array(["cab!", "a"]))
    assert [len(a) for a in p] == [4, 1]


@pytest.mark.parametrize("per_step", [False, True])
def test_scale(per_step: bool) -> None:
    """Of the training part alone; undone by predict, so that predictions are in the units of y."""
    y: Any = [1e6 + 1e4 * r for r in RUNNING] if per_step else 1e6 + 1e4 * TARGETS["(N, K)"]
    held_out = ([x + 100 for x in X], [t - 1e7 for t in y] if per_step else y - 1e7)
    model = SequenceRegressor(**SMALL | {"max_epochs": 200}, per_step=per_step).fit(X, y)
    both = SequenceRegressor(**SMALL, per_step=per_step).fit(X, y, validation=held_out)
    targets = np.concatenate(y) if per_step else y
    steps = np.concatenate(X)
    for m in (model, both):  # validation data change no scale
        np.testing.assert_allclose(m.target_mean_, targets.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(m.target_deviation_, targets.std(axis=0), rtol=1e-12)
        np.testing.assert_allclose(m.encoder_.mean, steps.mean(axis=0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(m.encoder_.deviation, steps.std(axis=0), rtol=1e-12)
    assert both.history_["val_loss"][0] > 100 * both.history_["loss"][0]
    assert model.score(X, y) > 0.9
    assert model.history_["loss"][-1] < 0.1  # in units of the targets' variance
    part = SequenceRegressor(**SMALL, validation_fraction=0.3, per_step=per_step).fit(X, y)
    train, valid = rnnfast.split(N, (0.7, 0.3), 0)
    assert len(valid) == 3
    kept = np.concatenate([y[i] for i in train]) if per_step else y[train]
    np.testing.assert_allclose(part.target_mean_, kept.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(part.target_deviation_, kept.std(axis=0), rtol=1e-12)
    np.testing.assert_allclose(part.encoder_.mean, np.concatenate([X[i] for i in train]).mean(axis=0), rtol=1e-9)
    plain = SequenceRegressor(**SMALL, scale=False, per_step=per_step).fit(X, RUNNING if per_step else LAST)
    assert plain.encoder_.mean is None
    assert set(plain.target_mean_) == {0.0}
    assert set(plain.target_deviation_) == {1.0}


def test_scaling_does_not_change_what_is_learnt(assert_same_bits: Any) -> None:
    """The same problem in other units: by powers of two, to the bit."""
    model, other = fitted(LAST), fitted(16 * LAST, [4 * x for x in X])
    assert_same_bits(other.network_.vector, model.network_.vector)
    assert_same_bits(other.predict([4 * x for x in X]), 16 * model.predict(X))


def test_validation_beside_a_fraction() -> None:
    """Where validation data are given, all of X is trained on."""
    model = SequenceRegressor(**SMALL, validation_fraction=0.3).fit(X, LAST, validation=(X[:2], LAST[:2]))
    np.testing.assert_allclose(model.target_mean_, LAST.mean(), rtol=1e-12)
    assert "val_loss" in model.history_.history


@pytest.mark.parametrize("name", [*TARGETS, *STEPS])
def test_score_is_r2(name: str) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    per_step = name in STEPS and name not in ("lists",)
    y: Any = STEPS[name] if per_step else TARGETS[name]
    model = fitted(y, per_step=per_step)
    p = model.predict(X)
    truth = np.concatenate([np.asarray(t, float) for t in y]) if per_step else np.asarray(y, float)
    found = np.concatenate(p) if per_step else p
    expected = metrics.r2_score(truth.reshape(len(truth), -1), found.reshape(len(truth), -1))
    assert model.score(X, y) == pytest.approx(expected, rel=1e-9)
    assert abs(expected - 1) > 1e-3


def test_score_of_constant_truth() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    model = fitted(TARGETS["(N, K)"])
    p = model.predict(X)
    for truth in (
        np.stack([LAST, np.full(N, 3.0), p[:, 2]], axis=1),
        np.ones((N, 3)),
        np.stack([p[:, 0]] + [LAST] * 2, 1),
    ):
        assert model.score(X, truth) == pytest.approx(metrics.r2_score(truth, p), rel=1e-9)
    assert model.score(X, p) == 1.0
    twice = [X[0]] * 2
    p = model.predict(twice)
    assert model.score(twice, p) == metrics.r2_score(p, p) == 1.0  # constant, and met exactly
    assert model.score(twice, p + 1) == metrics.r2_score(p + 1, p) == 0.0
    assert model.score(X, np.full((N, 3), 0.1)) == 0.0  # whose mean is rounded
    huge = 1e300 * TARGETS["(N, K)"]
    assert fitted(huge, max_epochs=100).score(X, huge) > 0.5


@pytest.mark.parametrize("per_step", [False, True])
def test_loss(per_step: bool) -> None:
    """The mean squared error of all steps and outputs, in units of the targets' variance."""
    y: Any = RUNNING if per_step else TARGETS["(N, K)"]
    model = fitted(y, per_step=per_step, learning_rate=0.0, max_epochs=1, dtype="float64", batch_size=3)
    p, truth = model.predict(X), y
    if per_step:
        p, truth = np.concatenate(p), np.concatenate(y)
    expected = (((p - truth) / truth.std(axis=0)) ** 2).mean()
    assert model.history_["loss"] == pytest.approx([expected], rel=1e-9)


def test_constant_target() -> None:
    """Of deviation 0: it is met, and nothing is divided by 0."""
    model = fitted(np.full(N, 0.1), max_epochs=60)
    assert model.target_deviation_.tolist() == [1.0]
    np.testing.assert_allclose(model.predict(X), 0.1, atol=0.02)
    mixed = fitted(np.stack([LAST, np.full(N, 1e6)], axis=1), max_epochs=60)
    np.testing.assert_allclose(mixed.predict(X)[:, 1], 1e6, rtol=1e-6)


def with_nan(value: float) -> list[np.ndarray]:
    changed = [x.copy() for x in X]
    changed[2][3, 1] = value
    return changed


ERRORS: list[tuple[dict[str, Any], Any, Any, type[Exception], str]] = [
    ({}, X, None, ValueError, "y: SequenceRegressor requires y to be passed, but the target y is None"),
    ({}, X, LAST[1:], ValueError, "y: expected (N, ...) = (10, ...) numbers, got (9,)"),
    ({}, X, 5.0, ValueError, "y: expected (N, ...) = (10, ...) numbers, got ()"),
    ({}, X, ["a"] * N, TypeError, "y[0]: expected real numbers, got <U1"),
    ({}, X, [None] * N, ValueError, "y[0] contains NaN: expected finite numbers"),
    ({}, X, [{}] * N, TypeError, "y[0]: expected real numbers, got array([{}]"),
    ({}, X, np.ones((N, 0)), ValueError, "y: expected at least one number for each, got shape (0,)"),
    ({}, X, LAST + 1j, TypeError, "y[0]: expected real numbers, got complex128"),
    ({}, X, RUNNING, ValueError, "y: expected one array, got parts of unequal shape"),
    ({}, X, np.where(np.arange(N) == 4, np.nan, LAST), ValueError, "y[4] contains NaN: expected finite numbers"),
    ({}, X, np.where(np.arange(N) == 4, -np.inf, LAST), ValueError, "y[4] contains infinity: expected finite numbers"),
    ({}, with_nan(np.nan), LAST, ValueError, "X[2][3, 1] is NaN: expected a finite number"),
    ({}, with_nan(np.inf), LAST, ValueError, "X[2][3, 1] is inf"),
    ({"scale": False}, with_nan(1e300), LAST, ValueError, "X[2][3, 1] is inf, infinity or too large for float32"),
    ({"scale": False}, X, 1e300 * LAST, ValueError, "y[0]: expected numbers that float32 can hold, got larger ones"),
    ({}, [1, 2], [1.0, 2.0], ValueError, "X[0]: expected a string, tokens, ids or an array, got 1"),
    ({"per_step": True}, [1, 2], [[1.0], [2.0]], ValueError, "X[0]: expected a string, tokens, ids or an array, got 1"),
    ({}, [], [], ValueError, "X: expected at least one sequence, got none"),
    ({}, "abc", [1.0], TypeError, "X: expected a list of sequences, got str"),
    ({}, [X[0], X[1][:, :2]], [1.0, 2.0], ValueError, "X[1]: expected (T, D) = (T, 3) as in fit, got (2, 2)"),
    ({"per_step": True}, X, LAST, ValueError, "y: expected an array (N, T), got one of shape (10,)"),
    ({"per_step": True}, X, RUNNING[1:], ValueError, "y: expected targets for N = 10 sequences, got 9"),
    ({"per_step": True}, X, "abc", TypeError, "y: expected a list of sequences, got str"),
    ({"per_step": True}, X, [1.0] * N, ValueError, "y[0]: expected a target for each of 5 steps, got"),
    ({"per_step": True}, X, [r[1:] for r in RUNNING], ValueError, "y[0]: expected a target for each of 5 steps, got 4"),
    ({"per_step": True}, X, [RUNNING[0], *STEPS["(T_i,)"][1:]], ValueError,
     "y[1]: expected targets of shape (2,) as before it, got ()"),
    ({"per_step": True}, X, [RUNNING[0], np.full((2, 2), np.nan), *RUNNING[2:]], ValueError,
     "y[1] contains NaN at step 0: expected finite numbers"),
    ({"per_step": True}, X, [RUNNING[0], [[0, 0], [1, np.inf]], *RUNNING[2:]], ValueError,
     "y[1] contains infinity at step 1: expected finite numbers"),
    ({"validation_fraction": 0.01}, X, LAST, ValueError, "validation_fraction = 0.01: 10 sequences are too few to"),
    ({"validation_fraction": "a"}, X, LAST, ValueError, "validation_fraction: expected 0 <= part < 1, got a"),
    ({"tol": -1.0}, X, LAST, ValueError, "tol: expected a number of 0 or more, got -1.0"),
    ({"initial_state_std": "x"}, X, LAST, ValueError, "initial_state_std: expected a number of 0 or more, got 'x'"),
    ({"target_loss": "low"}, X, LAST, ValueError, "target_loss: expected a number, got 'low'"),
    ({"schedule": "step"}, X, LAST, ValueError, "schedule: expected one of constant, linear, cosine"),
    ({"random_state": 1.5}, X, LAST, TypeError, "random_state: expected None, an integer or a generator, got 1.5"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "inputs", "y", "error", "message"), ERRORS)
def test_errors(changes: dict[str, Any], inputs: Any, y: Any, error: type[Exception], message: str) -> None:
    model = SequenceRegressor(**SMALL | changes)
    with pytest.raises(error, match=re.escape(message)):
        model.fit(inputs, y)
    assert not [name for name in vars(model) if name.endswith("_") and not name.startswith("_")]


def test_errors_after_fit() -> None:
    with pytest.raises(RuntimeError, match="SequenceRegressor: expected a fitted model; call fit first"):
        SequenceRegressor().predict(X)
    model = fitted()
    with pytest.raises(ValueError, match=re.escape("X[2][3, 1] is NaN: expected a finite number")):
        model.predict(with_nan(np.nan))
    with pytest.raises(ValueError, match=re.escape("y: expected targets of shape () as in fit, got (3,)")):
        model.score(X, TARGETS["(N, K)"])
    with pytest.raises(ValueError, match="X: expected features as in fit, got text"):
        model.predict(["abc"])
    for validation, got in (((X,), "1 items"), ((X, LAST, None, None), "4 items"), (5, "int")):
        with pytest.raises(ValueError, match=re.escape(f"validation: expected (X, y) or (X, y, lengths), got {got}")):
            fitted().fit(X, LAST, validation=validation)
    with pytest.raises(ValueError, match=re.escape("validation: expected targets of shape () as in y, got (3,)")):
        model.fit(X, LAST, validation=(X, TARGETS["(N, K)"]))


def test_longer_sequences() -> None:
    """Longer than any of the training data, in one batch with short ones: the numbers are finite, and their own."""
    model = fitted(RUNNING, per_step=True)
    long = rng.normal(size=(500, 3))
    p = model.predict([X[0], long, X[1]])
    assert [len(a) for a in p] == [5, 500, 2]
    assert np.isfinite(p[1]).all()
    np.testing.assert_allclose(p[1], model.predict([long])[0], rtol=1e-6)
    np.testing.assert_allclose(p[0], model.predict(X)[0], rtol=1e-6)


def test_many_predictions_are_those_of_each_alone() -> None:
    """More than one batch, of mixed lengths: each number in its place."""
    many = [rng.normal(size=(n, 3)) for n in rng.integers(1, 9, 600)]
    model = fitted()
    p = model.predict(many)
    for i in (0, 1, 255, 256, 300, 599):
        np.testing.assert_allclose(p[i], model.predict([many[i]])[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", rnnfast.cells())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cells_and_dtypes(cell: str, dtype: str, tmp_path: Path, assert_same_bits: Any) -> None:
    model = fitted(
        RUNNING, per_step=True, cell=cell, dtype=dtype, num_layers=2, bidirectional=cell == "lstm", max_epochs=30
    )
    assert model.network_.vector.dtype == dtype
    assert model.network_.bidirectional == (cell == "lstm")
    assert model.history_["loss"][-1] < 0.8 * model.history_["loss"][0]
    model.save(tmp_path / "model")
    twin = SequenceRegressor.load(tmp_path / "model")
    assert_same_bits(np.concatenate(twin.predict(X)), np.concatenate(model.predict(X)))


@pytest.mark.parametrize("per_step", [False, True])
def test_the_same_seed_is_the_same_model(per_step: bool, assert_same_bits: Any) -> None:
    """Bit for bit, for another number of threads too."""
    many = [rng.normal(size=(n, 3)) for n in rng.integers(1, 30, 70)]
    y: Any = [x[:, :2] for x in many] if per_step else [x[-1, 0] for x in many]

    def run(**changes: Any) -> SequenceRegressor:
        options = {"hidden_size": 24, "dropout": 0.3, "num_layers": 2, "validation_fraction": 0.2, "max_epochs": 2}
        return SequenceRegressor(**SMALL | options | {"per_step": per_step} | changes).fit(many, y)

    first = run()
    for other in (run(), run(n_jobs=2), run(n_jobs=2)):
        assert_same_bits(other.network_.vector, first.network_.vector)
        assert other.history_["val_loss"] == first.history_["val_loss"]
        for a, b in zip(other.predict(many), first.predict(many), strict=True):
            assert_same_bits(np.asarray(a), np.asarray(b))
    assert not np.array_equal(run(random_state=1).network_.vector, first.network_.vector)


def test_warm_start(assert_same_bits: Any) -> None:
    model = fitted(warm_start=True)
    loss, network, mean = model.history_["loss"], model.network_, model.target_mean_
    model.fit([x + 5 for x in X], LAST + 100)  # scales stay as they were
    assert model.network_ is not network  # a copy of it was trained
    assert model.target_mean_ is mean
    model = fitted(warm_start=True, max_epochs=20)
    before = model.network_.vector.copy()
    assert model.fit(X, LAST).history_["loss"][0] < loss[0]
    assert not np.array_equal(model.network_.vector, before)
    with pytest.raises(ValueError, match=re.escape("y: expected targets of shape () as in the first fit, got (3,)")):
        model.fit(X, TARGETS["(N, K)"])
    cold = fitted()
    assert_same_bits(cold.fit(X, LAST).network_.vector, fitted().network_.vector)


def test_settings_reach_the_network_and_fit() -> None:
    plain = fitted().history_["loss"]
    assert SequenceRegressor().max_epochs == 50
    assert not SequenceRegressor().bidirectional
    for changes in ({"clip_norm": 1e-3}, {"clip_value": 1e-4}, {"truncate": 1}, {"learning_rate": 0.5},
                    {"batch_size": 2}, {"schedule": "linear"}, {"initial_state_std": 1.0}, {"dropout": 0.5},
                    {"cell": "gru"}, {"bidirectional": True}, {"scale": False}):  # fmt: skip
        assert fitted(**changes).history_["loss"] != plain, changes
    for changes, reason in (({"target_loss": 100.0}, "target loss"), ({"patience": 1, "tol": 100.0}, "no improvement")):
        assert fitted(**changes).history_.stop_reason == reason
    ids = SequenceRegressor(**SMALL, embedding_size=5).fit([[1, 2], [3]], [0.0, 1.0])
    assert ids.network_.embedding.parameters["E"].shape == (5, 5)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    path = tmp_path_factory.mktemp("parts") / "model"
    fitted(TARGETS["(N, K)"]).save(path)
    return read_model(path, "SequenceRegressor")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shape", None), ("shape", [4]), ("shape", "ab"), ("shape", [-3]), ("shape", [3.5]), ("shape", [10**9, 10**9]),
        ("shape", [[3]]), ("target_mean", None), ("target_mean", [1.0]), ("target_mean", ["a", "b", "c"]),
        ("target_mean", [1.0, 2.0, float("nan")]), ("target_deviation", [1.0, 1.0]), ("target_deviation", {}),
        ("target_deviation", [1.0, 0.0, 1.0]), ("target_deviation", [1.0, float("inf"), 1.0]),
        ("columns", "x"), ("columns", -1), ("columns", 2.5), ("encoder", None), ("encoder", {}), ("params", {}),
        ("params", None),
        ("missing", "shape"), ("missing", "target_mean"), ("missing", "columns"), ("missing", "encoder"),
    ],
)  # fmt: skip
def test_settings_that_are_wrong(name: str, value: Any, parts: Any, tmp_path: Path) -> None:
    arrays, settings = parts
    changed = json.loads(json.dumps(settings))
    if name == "missing":
        del changed[value]
    elif name == "params" and value is not None:
        changed["params"]["hidden_size"] = 5
    else:
        changed[name] = value
    write_model(tmp_path / "model", "SequenceRegressor", arrays, changed)
    with pytest.raises(ModelFileError, match="expected a whole SequenceRegressor, got one with"):
        SequenceRegressor.load(tmp_path / "model")


def test_forecast_of_a_noisy_sine() -> None:
    """Windows of the past, three steps ahead: better than saying that all stays as it is."""
    noise = np.random.default_rng(1)
    series = np.sin(np.arange(500) / 4) + 0.1 * noise.normal(size=500)
    inputs, y = windows(series, 16, horizon=3)
    cut = 350  # in order, and without the windows that reach into the later part
    model = SequenceRegressor(hidden_size=16, max_epochs=25, learning_rate=0.01, random_state=0, n_jobs=1)
    model.fit(inputs[: cut - 18], y[: cut - 18])
    p, truth = model.predict(inputs[cut:]), y[cut:]
    assert p.shape == truth.shape == (len(series) - 18 - cut, 3)
    errors, persistence = (
        np.sqrt(((guess - truth) ** 2).mean(axis=0)) for guess in (p, np.repeat(inputs[cut:, -1], 3, axis=1))
    )
    assert (errors < 0.6 * persistence).all()
    assert (errors < 0.2).all()  # the noise alone is 0.1


def test_several_outputs_of_a_target_of_its_own() -> None:
    """The wind of tomorrow from the weather until today."""
    weather = np.random.default_rng(0).normal(size=(300, 3))
    wind = np.concatenate([[0], weather[:-1, 1] - weather[:-1, 2]])  # of the day before
    inputs, y = windows(weather, 5, target=wind)
    model = SequenceRegressor(hidden_size=12, max_epochs=40, learning_rate=0.01, random_state=0, n_jobs=1)
    assert model.fit(inputs[:200], y[:200]).score(inputs[200:], y[200:]) > 0.9
