"""examples/forecasting.py: parts that follow one another in time, baselines known by hand, and every example run small.

Data is skipped where it cannot be fetched, unless RNNFAST_REQUIRE_DATA=1.
"""

from __future__ import annotations

import functools
import os

import numpy as np
import pytest
from matplotlib.figure import Figure
from rnnfast.datasets import DatasetError, available, load_stocks, load_weather
from rnnfast.examples import forecasting
from rnnfast.examples.example import Parts
from rnnfast.preprocessing import windows

EXAMPLES = {example.name: example for example in forecasting.EXAMPLES}


@functools.cache
def load(name: str, quick: bool = True) -> Parts:
    try:
        return EXAMPLES[name].load(quick)
    except DatasetError as error:
        if os.environ.get("RNNFAST_REQUIRE_DATA") == "1":
            raise
        pytest.skip(str(error))


def test_names() -> None:
    assert len(EXAMPLES) == len(forecasting.EXAMPLES)
    assert {example.dataset for example in forecasting.EXAMPLES} <= set(available())
    assert all(example.remark and example.title for example in forecasting.EXAMPLES)


@pytest.mark.parametrize(("length", "horizon"), [(14, 1), (5, 3), (1, 1)])
def test_parts_follow_one_another(length: int, horizon: int) -> None:
    times = np.arange(100.0)
    X, y = windows(times, length, horizon)
    parts = forecasting.in_time(X, y, length, horizon, first=X[:, 0, 0])
    assert parts.valid is not None
    targets = [np.unique(part[1]) for part in (parts.train, parts.valid, parts.test)]
    assert [t.tolist() for t in targets] == [[*range(length, 70)], [*range(70, 85)], [*range(85, 100)]]
    for x, y in (parts.train, parts.valid, parts.test):
        assert np.array_equal(x[:, -1, 0] + 1, y.reshape(len(y), -1)[:, 0])
    assert np.array_equal(parts.extra["first"], parts.test[0][:, 0, 0])


def test_linear_finds_a_linear_rule() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4, 2))
    y = np.einsum("ntd,tdk->nk", X, rng.normal(size=(4, 2, 6))).reshape(60, 3, 2) + 5
    parts = Parts((X[:50], y[:50]), (X[50:], y[50:]))
    assert np.allclose(forecasting.linear(parts), y[50:])


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_small_run(name: str) -> None:
    example = EXAMPLES[name]
    parts = load(name)
    baselines = example.baselines(parts)
    run = example.run(seed=1, parts=parts, quick=True)
    assert run.figures.keys() >= example.goals.keys()
    worst = max(baselines[next(iter(baselines))].values())
    assert all(0 < value < 10 * worst for value in run.figures.values())
    assert all(figures.keys() == run.figures.keys() for figures in baselines.values())
    assert set(example.met(run.figures)) == set(example.goals)
    assert run.model.predict(parts.test[0]).shape == parts.test[1].shape
    axes = Figure().subplots()
    assert example.picture(run.model, parts, axes) is axes
    assert axes.has_data()
    assert axes.get_ylabel()


def test_figures_are_of_temperatures() -> None:
    """A forecast change is as wrong as the forecast, and what is forecast is the day after the 14."""
    parts = load("temperature", quick=False)
    weather = load_weather()
    highest, date = weather["temp_max"], weather["date"]
    day = int(np.flatnonzero(date == parts.extra["date"][0])[0])
    assert day == int(0.85 * 1461)
    assert parts.test[1][0] == highest[day] - highest[day - 1]
    assert parts.extra["today"][0] == highest[day - 1]
    assert np.array_equal(parts.test[0][0, :, 1], highest[day - 14 : day])
    assert parts.sizes() == {"train": 1008, "valid": 219, "test": 220}
    week = load("week", quick=False)
    lowest = weather["temp_min"]
    assert np.array_equal(week.test[1][0, :, 1], lowest[day : day + 7] - lowest[day - 1])
    assert np.array_equal(week.test[0][0], parts.test[0][0])


def test_the_temperature_beats_persistence() -> None:
    example = EXAMPLES["temperature"]
    parts = load("temperature", quick=False)
    baselines = example.baselines(parts)
    assert [round(figures["rmse"], 2) for figures in baselines.values()] == [2.95, 2.71]
    run = example.run(parts=parts, max_epochs=12)
    assert run.figures["rmse"] < baselines["as today (persistence)"]["rmse"] - 0.05
    again = example.run(parts=parts, max_epochs=12)
    assert again.figures == run.figures


def test_prices() -> None:
    parts = load("stocks", quick=False)
    stocks = load_stocks()
    price = np.log(stocks["AAPL"][1])
    month = int(np.flatnonzero(stocks["AAPL"][0] == parts.extra["date"][0])[0])
    assert np.allclose(parts.test[1][0, :, 3], 100 * (price[month : month + 3] - price[month - 1]))
    assert np.allclose(parts.test[0][0, :, 3], 100 * np.diff(price[month - 13 : month]))
    assert parts.sizes() == {"train": 71, "valid": 16, "test": 17}


def test_the_adding_problem_is_fresh() -> None:
    parts = load("adding_gru_3000")
    assert parts.sizes() == {"train": 20 * 64, "test": 200}
    assert not set(map(bytes, parts.train[0])) & set(map(bytes, parts.test[0]))
    assert EXAMPLES["adding_gru_3000"].baselines(parts)["always 1"]["mse"] == pytest.approx(1 / 6, abs=0.05)
    X, y = parts.test
    assert np.allclose((X[:, :, 0] * X[:, :, 1]).sum(axis=1), y)
