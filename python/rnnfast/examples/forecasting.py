"""Worked examples: real numbers from a series, one or several steps ahead: weather, prices, and the adding problem.

A forecast is held against those that need no network: as it was, as is usual at this time of the year, and a linear
model of the same past. Parts follow one another in time, and no target lies in two of them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import plots
from ..datasets import adding_problem, load_stocks, load_weather
from ..estimators import SequenceRegressor
from ..metrics import mean_absolute_error, root_mean_squared_error
from ..preprocessing import windows
from .example import Example, Parts

__all__ = ["EXAMPLES"]

Array = NDArray[Any]

DAYS, WEEK = 14, 7  # past and future of a forecast of the weather
YEAR = 365.25
MONTHS, QUARTER = 12, 3  # of prices
TICKERS = ("MSFT", "AMZN", "IBM", "AAPL")  # GOOG came four years later
STEPS = 100  # of the adding problem


def in_time(X: Array, y: Array, length: int, horizon: int, **extra: Array) -> Parts:
    """Windows of `length` and targets of `horizon` times, cut 70/15/15 by the time of the target.

    A window whose target reaches into the next part is left out. `extra` has a row for each window; the parts have
    those of the test part.
    """
    times = len(X) + length + horizon - 1
    first = length + np.arange(len(X))  # the time where each target begins
    cuts = [0, int(0.7 * times), int(0.85 * times), times]
    train, valid, test = ((first >= cuts[k]) & (first + horizon <= cuts[k + 1]) for k in range(3))
    return Parts((X[train], y[train]), (X[test], y[test]), (X[valid], y[valid]), {k: v[test] for k, v in extra.items()})


def last_of(parts: Parts, count: int) -> Parts:
    """The last `count` windows of the training part, the other parts whole."""
    return replace(parts, train=(parts.train[0][-count:], parts.train[1][-count:]))


def errors(truth: Array, forecast: Array) -> dict[str, float]:
    return {"rmse": root_mean_squared_error(truth, forecast), "mae": mean_absolute_error(truth, forecast)}


def figures(model: Any, parts: Parts) -> dict[str, float]:
    """Errors of a forecast change, which are those of the forecast."""
    return errors(parts.test[1], model.predict(parts.test[0]))


def linear(parts: Parts) -> Array:
    """Forecasts of the test part by least squares on all numbers of the past."""
    (X, y), X_test = parts.train, parts.test[0]
    rows, rows_test = (np.column_stack([x.reshape(len(x), -1), np.ones(len(x))]) for x in (X, X_test))
    weights = np.linalg.lstsq(rows, y.reshape(len(y), -1), rcond=1e-10)[0]
    forecast: Array = (rows_test @ weights).reshape(len(X_test), *y.shape[1:])
    return forecast


# ---- the weather of Seattle


def daily_weather() -> tuple[Array, Array, Array]:
    """Of M days the date, the highest and the lowest temperature (M, 2), and what a forecast is made from (M, 6)."""
    weather: dict[str, Any] = load_weather()
    temperatures = np.column_stack([weather["temp_max"], weather["temp_min"]])
    angle = 2 * np.pi * np.arange(len(temperatures)) / YEAR
    rain, wind = np.log1p(weather["precipitation"]), weather["wind"]
    return weather["date"], temperatures, np.column_stack([rain, temperatures, wind, np.sin(angle), np.cos(angle)])


def load_temperature(quick: bool) -> Parts:
    """From 14 days, how much warmer tomorrow's highest temperature is than today's."""
    date, temperatures, x = daily_weather()
    X, tomorrow = windows(x, DAYS, target=temperatures[:, 0])
    today = temperatures[DAYS - 1 : -1, 0]
    parts = in_time(X, tomorrow - today, DAYS, 1, today=today, date=date[DAYS:])
    return last_of(parts, 200) if quick else parts


def temperature_baselines(parts: Parts) -> dict[str, dict[str, float]]:
    truth = parts.test[1]
    return {"as today (persistence)": errors(truth, 0 * truth), "linear": errors(truth, linear(parts))}


def temperature_picture(model: Any, parts: Parts, axes: Any) -> Any:
    """Each day's highest temperature, and its forecasts the day before: the network's, and as that day."""
    (X, change), today, date = parts.test, parts.extra["today"], parts.extra["date"]
    tomorrow, forecast = today + change, today + model.predict(X)
    return plots.forecast(tomorrow, forecast, date, today, axes, ylabel="highest temperature of the day (°C)")


def load_week(quick: bool) -> Parts:
    """From 14 days, how far the highest and lowest temperatures of the next 7 are from today's: (7, 2)."""
    _, temperatures, x = daily_weather()
    X, following = windows(x, DAYS, WEEK, target=temperatures)
    today = temperatures[DAYS - 1 : len(x) - WEEK, None]
    _, usual = windows(seasons(temperatures, int(0.7 * len(x))), DAYS, WEEK)
    parts = in_time(X, following - today, DAYS, WEEK, usual=usual - today)
    return last_of(parts, 200) if quick else parts


def seasons(temperatures: Array, known: int) -> Array:
    """What is usual at each day's time of the year, (M, 2): two waves fitted to the first `known` days."""
    angle = 2 * np.pi * np.arange(len(temperatures))[:, None] / YEAR * [1, 2]
    waves = np.column_stack([np.ones(len(angle)), np.sin(angle), np.cos(angle)])
    usual: Array = waves @ np.linalg.lstsq(waves[:known], temperatures[:known], rcond=None)[0]
    return usual


def week_forecasts(parts: Parts) -> dict[str, Array]:
    """The simple forecasts of the test part, (N, 7, 2) each."""
    return {
        "as today (persistence)": np.zeros_like(parts.test[1]),
        "usual at this time of the year": parts.extra["usual"],
        "linear": linear(parts),
    }


def week_baselines(parts: Parts) -> dict[str, dict[str, float]]:
    return {name: errors(parts.test[1], forecast) for name, forecast in week_forecasts(parts).items()}


def week_picture(model: Any, parts: Parts, axes: Any) -> Any:
    """The error of a forecast by how many days ahead it is."""
    X, y = parts.test
    for name, forecast in {"network": model.predict(X), **week_forecasts(parts)}.items():
        ahead = np.sqrt(((forecast - y) ** 2).mean(axis=(0, 2)))
        axes.plot(1 + np.arange(WEEK), ahead, marker="o", label=name)
    axes.set_xlabel("days ahead")
    axes.set_ylabel("error (°C, root of the mean square)")
    axes.legend()
    return axes


# ---- prices


def load_prices(quick: bool) -> Parts:
    """From a year of monthly returns of four shares, their returns over the next 1, 2 and 3 months: (3, 4), per cent.

    A return is 100 ln(price / price before).
    """
    stocks = load_stocks()
    prices = np.log(np.column_stack([stocks[ticker][1] for ticker in TICKERS]))  # (123, 4)
    X, following = windows(100 * np.diff(prices, axis=0), MONTHS, QUARTER)
    date = stocks[TICKERS[0]][0][MONTHS + 1 : MONTHS + 1 + len(X)]
    parts = in_time(X, following.cumsum(axis=1), MONTHS, QUARTER, date=date)
    return last_of(parts, 40) if quick else parts


def prices_baselines(parts: Parts) -> dict[str, dict[str, float]]:
    truth, mean = parts.test[1], parts.train[1].mean(axis=0)
    return {
        "as last month (persistence)": errors(truth, 0 * truth),
        "mean return of the training part": errors(truth, np.broadcast_to(mean, truth.shape)),
        "linear": errors(truth, linear(parts)),
    }


def prices_picture(model: Any, parts: Parts, axes: Any) -> Any:
    """The next month's return of each share against its forecast."""
    X, y = parts.test
    forecast = model.predict(X)
    for k, ticker in enumerate(TICKERS):
        axes.scatter(forecast[:, 0, k], y[:, 0, k], s=12, label=ticker)
    axes.axline((0, 0), slope=1, color="0.6", linewidth=1)
    axes.set_xlabel("return of the next month, forecast (per cent)")
    axes.set_ylabel("as it was (per cent)")
    axes.legend()
    return axes


# ---- the adding problem


def load_adding(quick: bool, *, batches: int) -> Parts:
    """Two marked numbers among 100 and their sum; 64 fresh sequences for each step of the optimiser."""
    train = adding_problem(64 * (20 if quick else batches), STEPS, seed=0)
    return Parts(train, adding_problem(200 if quick else 5000, STEPS, seed=1))


def adding_figures(model: Any, parts: Parts) -> dict[str, float]:
    return {"mse": root_mean_squared_error(parts.test[1], model.predict(parts.test[0])) ** 2}


def adding_baselines(parts: Parts) -> dict[str, dict[str, float]]:
    return {"always 1": {"mse": root_mean_squared_error(parts.test[1], np.ones_like(parts.test[1])) ** 2}}


def adding_picture(model: Any, parts: Parts, axes: Any) -> Any:
    """Sums against their forecasts."""
    X, y = parts.test[0][:1000], parts.test[1][:1000]
    axes.scatter(y, model.predict(X), s=4)
    axes.axline((1, 1), slope=1, color="0.6", linewidth=1)
    axes.set_xlabel("sum of the two marked numbers")
    axes.set_ylabel("answer")
    return axes


def adding(cell: str, batches: int, most: float) -> Example:
    return Example(
        name=f"adding_{cell}_{batches}",
        title=f"The adding problem, {STEPS} steps: {cell.upper()} after {batches:,} batches",
        shape="many to one",
        dataset="adding",
        estimator=SequenceRegressor,
        params=dict(
            cell=cell, hidden_size=64, learning_rate=1e-3, batch_size=64, clip_norm=1.0, max_epochs=1, scale=False
        ),
        load=partial(load_adding, batches=batches),
        figures=adding_figures,
        baselines=adding_baselines,
        picture=adding_picture,
        goals={"mse": ("<=", most)},
        remark="Synthetic: can a cell carry a number over many steps? No sequence comes twice, so that nothing but "
        "learning the rule helps.",
    )


EXAMPLES = [
    Example(
        name="temperature",
        title="Tomorrow's highest temperature in Seattle",
        shape="many to one",
        dataset="weather",
        estimator=SequenceRegressor,
        params=dict(
            cell="gru", hidden_size=16, dropout=0.2, learning_rate=2e-3, batch_size=16, max_epochs=80, patience=10
        ),
        load=load_temperature,
        figures=figures,
        baselines=temperature_baselines,
        picture=temperature_picture,
        goals={"rmse": ("<=", 2.80)},
        remark="The network forecasts the change from today. It is better than persistence, and no better than a "
        "linear model of the same 14 days: four years of one place hold little more.",
    ),
    Example(
        name="week",
        title="The next seven days' highest and lowest temperatures in Seattle",
        shape="many to one, seven steps ahead, two outputs",
        dataset="weather",
        estimator=SequenceRegressor,
        params=dict(
            cell="gru", hidden_size=16, dropout=0.2, learning_rate=2e-3, batch_size=16, max_epochs=80, patience=10
        ),
        load=load_week,
        figures=figures,
        baselines=week_baselines,
        picture=week_picture,
        goals={"rmse": ("<=", 3.25)},
        remark="Better than persistence, and better than what is usual at this time of the year, which a forecast of a "
        "week tends to; a linear model of the same 14 days is as good or better.",
    ),
    Example(
        name="stocks",
        title="Prices of four shares, one to three months ahead",
        shape="many to one, three steps ahead, four outputs",
        dataset="stocks",
        estimator=SequenceRegressor,
        params=dict(
            cell="gru", hidden_size=8, dropout=0.2, learning_rate=2e-3, batch_size=16, max_epochs=80, patience=10
        ),
        load=load_prices,
        figures=figures,
        baselines=prices_baselines,
        picture=prices_picture,
        remark="Persistence wins: as last month, or the mean return, which is nearly the same. The network learns to "
        "say about that, and the linear model, with more weights than months, learns noise. Nothing here is advice. "
        "The fifth share of the data, GOOG, came too late to stand beside the others.",
    ),
    adding("gru", 3000, 0.005),
    adding("gru", 6000, 0.002),
    adding("lstm", 6000, 0.02),
]
