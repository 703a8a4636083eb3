"""Pictures: learning curves, confusion matrix, gradients through time, hidden states, forecasts, attention.

Every function takes data, draws into ``ax`` or a figure of its own, and returns the Axes. The command line and the
examples call them, and so do users. Arrays and what looks like a History or a GradientFlow are enough: of the package
only metrics.py is known here. matplotlib is an extra: ``pip install "rnnfast[plots]"``.

A figure of its own is a plain ``matplotlib.figure.Figure``: pyplot, which keeps figures open until they are closed and
may want a display, never hears of it. ``ax.figure.savefig("name.png")`` writes it, and a notebook whose cell ends with
the call shows it. For a window, pass the ``ax`` of ``pyplot.subplots()``.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["attention", "confusion_matrix", "forecast", "gradient_norms", "hidden_states", "learning_curves"]

Array = NDArray[Any]

# Okabe and Ito (2008), Color universal design: told apart by people of every colour vision.
BLACK, BLUE, VERMILLION, GREEN, GREY = "#222222", "#0072B2", "#D55E00", "#009E73", "#7F7F7F"
COLOURS = (BLUE, VERMILLION, GREEN, "#CC79A7", "#E69F00", "#56B4E9")
SEQUENTIAL, DIVERGING = "Blues", "RdBu_r"


class Flow(Protocol):
    """What ``gradient_norms`` draws: a diagnostics.GradientFlow."""

    @property
    def names(self) -> Sequence[str]: ...
    @property
    def norms(self) -> Array: ...
    @property
    def cell_norms(self) -> Array | None: ...
    @property
    def share(self) -> Array: ...
    @property
    def row(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def ratio(self) -> float: ...
    @property
    def factor(self) -> float: ...
    @property
    def verdict(self) -> str: ...


def learning_curves(history: Any, ax: Axes | None = None) -> Axes:
    """Loss of each pass, in training and on held-out data, and the accuracy on a second axis.

    Parameters
    ----------
    history : History, or a dict of lists
        ``loss``, ``val_loss`` and, on the right axis, whatever ends in ``accuracy``. A best pass (``best_epoch``)
        is marked.
    ax : Axes, optional

    Raises
    ------
    ValueError
        There is no ``loss``, or no pass.

    Examples
    --------
    >>> ax = learning_curves({"loss": [0.7, 0.4, 0.3], "val_loss": [0.7, 0.5, 0.55]})
    >>> [line.get_label() for line in ax.lines]
    ['training loss', 'held-out loss']
    """
    curves = getattr(history, "history", history)
    if not hasattr(curves, "get") or not len(curves.get("loss", ())):
        raise ValueError('history: expected a History, or a dict, with "loss" for at least one pass')
    ax = _axes(ax, 6.4, 4.0)
    passes = range(1, len(curves["loss"]) + 1)
    handles = []
    for name, label, colour in (("loss", "training loss", BLUE), ("val_loss", "held-out loss", VERMILLION)):
        if len(curves.get(name, ())):
            handles += _curve(ax, passes, curves[name], label, colour, name)
    _plain(ax, "pass over the training data", "loss")
    ax.set_xlim(0.5, len(passes) + 0.5)
    _whole_numbers(ax.xaxis)
    rates = [name for name in curves if name.endswith("accuracy") and len(curves[name])]
    if rates:
        right = ax.twinx()
        right.spines["top"].set_visible(False)
        right.set_ylabel("accuracy")
        for name, colour in zip(rates, (GREEN, *COLOURS[3:] * len(rates)), strict=False):
            label = name.replace("val_", "held-out ").replace("_", " ")
            handles += _curve(right, passes, curves[name], label, colour, name, linestyle="--")
    best = getattr(history, "best_epoch", -1)
    if 0 <= best < len(passes):
        handles.append(ax.axvline(best + 1, color=GREY, linestyle=":", linewidth=1.2, label=f"best pass ({best + 1})"))
    _legend(ax, handles=handles, loc="center right" if rates else "best")
    return ax


def _curve(ax: Axes, x: range, y: Any, label: str, colour: str, name: str, **options: Any) -> list[Any]:
    values = _numbers(f"history[{name!r}]", y, (len(x),), "(passes,)")
    marker = "o" if len(x) < 30 else ""
    return list(ax.plot(x, values, color=colour, label=label, marker=marker, markersize=4, linewidth=1.8, **options))


def confusion_matrix(
    y_true: Any, y_pred: Any, labels: Sequence[Any] | None = None, normalize: bool = True, ax: Axes | None = None
) -> Axes:
    """How often each true label (row) got each predicted one (column).

    Parameters
    ----------
    y_true, y_pred : N labels, or N sequences of labels, which count step by step
    labels : sequence of K labels, optional
        Which, and in what order; None is all that occur, sorted.
    normalize : bool
        Colours and numbers in percent of the true label's row; else counts.
    ax : Axes, optional

    Raises
    ------
    ValueError
        Lengths that differ, no label at all, or one that is not among `labels`.

    Examples
    --------
    >>> ax = confusion_matrix(["a", "a", "b", "b"], ["a", "b", "b", "b"])
    >>> ax.images[0].get_array().tolist()
    [[50.0, 50.0], [0.0, 100.0]]
    """
    order, counts = metrics.confusion_matrix(y_true, y_pred, labels)
    values = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) if normalize else counts
    K = len(order)
    ax = _axes(ax, *(min(max(0.55 * K + 2.2, 4.2), 14), min(max(0.5 * K + 1.4, 3.6), 13)))
    image = ax.imshow(values, cmap=SEQUENTIAL, vmin=0, vmax=100 if normalize else max(counts.max(), 1), aspect="auto")
    _bar(ax, image, "% of the true label" if normalize else "count")
    size = min(10.0, 25 * min(_inches(ax)) / K)
    for i, j in np.argwhere(counts) if size > 4 else []:
        text = f"{values[i, j]:.0f}" + (f"\n({counts[i, j]:.0f})" if normalize and K <= 6 else "")
        colour = "white" if values[i, j] > 0.55 * image.norm.vmax else BLACK
        ax.text(j, i, text, ha="center", va="center", color=colour, fontsize=size)
    _tokens(ax, "x", order)
    _tokens(ax, "y", order)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    return ax


def gradient_norms(flow: Flow, ax: Axes | None = None) -> Axes:
    """Norm of the gradient at each hidden state, on its way back from the end of the sequences.

    Parameters
    ----------
    flow : GradientFlow
        From ``rnnfast.diagnostics.gradient_norms``. A line for each layer and direction, dotted for the cell state of
        an LSTM; and, dashed, what enters at the end alone, where each step has a loss of its own. Zeros and what is
        not finite leave a gap on the logarithmic axis.
    ax : Axes, optional

    Examples
    --------
    >>> import numpy as np, rnnfast
    >>> from rnnfast.diagnostics import gradient_norms as follow
    >>> ax = gradient_norms(follow(rnnfast.GRU(2, 3, seed=0), np.ones((1, 9, 2))))
    >>> ax.get_yscale(), len(ax.lines)
    ('log', 1)
    """
    for name in ("names", "norms", "share", "verdict"):
        if not hasattr(flow, name):
            raise TypeError(f"flow: expected a GradientFlow of rnnfast.diagnostics, got {type(flow).__name__}")
    ax = _axes(ax, 6.8, 4.2)
    k = np.arange(flow.norms.shape[1])

    def line(values: Array, label: str, colour: str, style: str) -> None:
        shown = np.where((values > 0) & np.isfinite(values), values, np.nan)
        marker = "o" if np.isfinite(shown).sum() < 2 else ""
        ax.plot(k, shown, color=colour, linestyle=style, label=label, linewidth=1.8, marker=marker)

    for row, name in enumerate(flow.names):
        level, _, reverse = name.removeprefix("l").partition("_")
        label = f"layer {level}" + (", reverse" if reverse else "")
        colour = COLOURS[row % len(COLOURS)]
        line(flow.norms[row], f"{label}, h" if flow.cell_norms is not None else label, colour, "-")
        if flow.cell_norms is not None:
            line(flow.cell_norms[row], f"{label}, c", colour, ":")
    ax.set_yscale("log")
    known = flow.verdict != "no gradient"
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        alone = flow.share[flow.row] * flow.norms[flow.row, 0]
        decades = np.abs(np.log10(alone / flow.norms[flow.row]))
    if known and (decades[np.isfinite(decades)] > 1).any():  # else the same line, or nearly
        line(alone, "entering at the end alone", BLACK, "--")
    _plain(ax, "steps back from the end of the sequence", "norm of the gradient  ‖∂L/∂h‖")
    ax.grid(axis="y", color="#E5E5E5", linewidth=0.8)
    ax.set_axisbelow(True)
    figures = f": × {flow.factor:.3g} a step,\n{flow.ratio:.2g} is left after {flow.steps} steps" if known else ""
    ax.set_title(flow.verdict + figures, fontsize=10, loc="left")
    if len(ax.lines) > 1:
        _legend(ax)
    return ax


def hidden_states(h: ArrayLike, tokens: Sequence[Any] | None = None, ax: Axes | None = None) -> Axes:
    """Heat map of what each unit holds at each step of a sequence: red above 0, blue below, white at 0.

    Parameters
    ----------
    h : (T, H)
        Of one sequence, as ``rnnfast.diagnostics.hidden_states(...)[n, :length]``.
    tokens : T words or letters, optional
        Under the steps.
    ax : Axes, optional

    Raises
    ------
    ValueError
        Another shape, a number that is not finite, or another number of tokens.

    Examples
    --------
    >>> ax = hidden_states([[0.5, -1.0], [0.0, 0.25], [1.0, 0.0]], "not so bad".split())
    >>> ax.images[0].get_array().shape, ax.images[0].get_clim()
    ((2, 3), (-1.0, 1.0))
    """
    values = _numbers("h", h, (None, None), "(T, H)", finite=True)
    T, H = values.shape
    if tokens is not None and len(tokens) != T:
        raise ValueError(f"tokens: expected T = {T}, one for each step of h, got {len(tokens)}")
    ax = _axes(ax, min(max(0.24 * T + 2.0, 5.0), 24), min(max(0.05 * H + 2.0, 3.2), 7))
    limit = float(np.abs(values).max()) or 1.0
    image = ax.imshow(
        values.T, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest", origin="upper"
    )
    _bar(ax, image, "hidden state")
    if tokens is None:
        _whole_numbers(ax.xaxis)
        ax.set_xlabel("step")
    else:
        _tokens(ax, "x", tokens)
    _whole_numbers(ax.yaxis)
    ax.set_ylabel("hidden unit")
    return ax


def forecast(
    truth: ArrayLike,
    prediction: ArrayLike,
    times: Any = None,
    baseline: ArrayLike | None = None,
    ax: Axes | None = None,
    *,
    ylabel: str = "value",
) -> Axes:
    """A forecast beside what came, with root mean squared errors in the legend.

    Parameters
    ----------
    truth, prediction : (T,)
        NaN leaves a gap, where there is no forecast or not yet a truth, and is left out of the errors.
    times : T dates (datetime64, datetime or ISO strings) or numbers, optional
        None counts steps.
    baseline : (T,), optional
        What an honest simple forecast says, such as yesterday's value.
    ax : Axes, optional
    ylabel : str
        What it is, with its unit: "temperature (°C)".

    Raises
    ------
    ValueError
        Another shape, or another number of times.

    Examples
    --------
    >>> ax = forecast([1.0, 2.0, 4.0], [1.0, 2.0, 3.0], baseline=[0.0, 1.0, 2.0], ylabel="temperature (°C)")
    >>> [line.get_label() for line in ax.lines]
    ['truth', 'baseline (RMSE 1.41)', 'forecast (RMSE 0.577)']
    """
    true = _numbers("truth", truth, (None,), "(T,)")
    T = len(true)
    lines = [("truth", true, BLACK, "-", 1.4)]
    for name, label, y, colour, style in (
        ("baseline", "baseline", baseline, VERMILLION, "--"),
        ("prediction", "forecast", prediction, BLUE, "-"),
    ):
        if y is None:
            continue
        values = _numbers(name, y, (T,), "(T,)")
        both = np.isfinite(true) & np.isfinite(values)
        if both.any():
            label += f" (RMSE {math.sqrt(np.mean((values - true)[both] ** 2)):.3g})"
        lines.append((label, values, colour, style, 1.6 if name == "prediction" else 1.2))
    at, dates = _times(times, T)
    ax = _axes(ax, 9.0, 4.0)
    for label, values, colour, style, width in lines:
        marker = "o" if T < 30 else ""
        ax.plot(at, values, color=colour, linestyle=style, linewidth=width, label=label, marker=marker, markersize=3.5)
    if dates:
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        locator = AutoDateLocator(minticks=3, maxticks=9)
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    _plain(ax, "date" if dates else "step" if times is None else "time", ylabel)
    ax.margins(x=0.01)
    if _inches(ax)[0] > 6:
        _legend(ax, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    else:
        _legend(ax)
    return ax


def attention(weights: ArrayLike, source: Sequence[Any], target: Sequence[Any], ax: Axes | None = None) -> Axes:
    """How much each letter or word of the target (row) read of each of the source (column).

    Parameters
    ----------
    weights : (T, S)
        Of one pair: rows that sum to 1.
    source, target : strings, or sequences of S and T tokens
    ax : Axes, optional

    Raises
    ------
    ValueError
        Another shape than that of the tokens, or a number that is not finite.

    Examples
    --------
    >>> ax = attention([[0.9, 0.1], [0.2, 0.8]], "да", "da")
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['д', 'а']
    """
    for name, tokens in (("source", source), ("target", target)):
        if not hasattr(tokens, "__len__"):
            raise TypeError(f"{name}: expected a string, or a sequence of tokens, got {tokens!r:.60}")
    T, S = len(target), len(source)
    values = _numbers("weights", weights, (T, S), "(len(target), len(source))", finite=True)
    ax = _axes(ax, min(max(0.3 * S + 2.0, 4.0), 20), min(max(0.3 * T + 1.4, 3.2), 16))
    image = ax.imshow(values, cmap=SEQUENTIAL, vmin=0, vmax=max(1.0, float(values.max(initial=0))), aspect="auto")
    _bar(ax, image, "attention")
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    _tokens(ax, "x", source)
    _tokens(ax, "y", target)
    ax.set_xlabel("source")
    ax.set_ylabel("target")
    return ax


def _axes(ax: Axes | None, width: float, height: float) -> Axes:
    """The Axes given, or those of a new figure of so many inches, which a notebook shows."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('rnnfast.plots needs matplotlib: pip install "rnnfast[plots]"') from error
    if ax is not None:
        if not hasattr(ax, "imshow"):
            raise TypeError(f"ax: expected the Axes of matplotlib, got {type(ax).__name__}")
        return ax
    figure = Figure(figsize=(width, height), layout="constrained")
    ax = figure.add_subplot()
    ax._repr_png_ = functools.partial(_png, figure)  # what IPython asks an object for that ends a cell
    return ax


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _plain(ax: Axes, xlabel: str, ylabel: str) -> None:
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _legend(ax: Axes, **options: Any) -> None:
    ax.legend(fontsize=9, framealpha=0.7, edgecolor="none", **options)


def _inches(ax: Axes) -> tuple[float, float]:
    """Width and height."""
    box = ax.get_window_extent()
    return box.width / ax.figure.dpi, box.height / ax.figure.dpi


def _bar(ax: Axes, image: Any, label: str) -> None:
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02, fraction=0.05, aspect=25)
    bar.set_label(label)
    bar.outline.set_visible(False)


def _whole_numbers(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _tokens(ax: Axes, which: str, tokens: Sequence[Any]) -> None:
    """Words along an axis: as large as fits, upright where they are too wide, only some where they are too many."""
    shown = (str(token).encode("utf-8", "replace").decode() for token in tokens)  # no halves of characters
    texts = [" ".join(text.split()) or "␣" for text in shown]
    inches = _inches(ax)[which == "y"] / max(len(texts), 1)  # for each
    step = math.ceil(0.1 / inches)
    size = min(10.0, max(6.0, 72 * inches * step / 1.3))
    wide = which == "x" and max(map(len, texts), default=0) * 0.6 * size / 72 > 0.9 * inches * step
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_ticks(
        range(0, len(texts), step), texts[::step], fontsize=size, rotation=90 if wide else 0, parse_math=False
    )
    axis.set_tick_params(length=0)


def _numbers(
    name: str, values: ArrayLike, shape: tuple[int | None, ...], symbols: str, finite: bool = False
) -> NDArray[np.float64]:
    """Real numbers of this shape (None: any size but 0), in float64."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected {symbols} numbers: {error}") from None
    fits = len(shape) == array.ndim and all(w in (None, n) for w, n in zip(shape, array.shape, strict=True))
    if not fits or not array.size:
        known = "" if None in shape else f" = {shape}"
        raise ValueError(f"{name}: expected {symbols}{known}, got {array.shape}")
    if finite and not np.isfinite(array).all():
        place = np.argwhere(~np.isfinite(array))[0].tolist()
        raise ValueError(f"{name}{place}: expected a finite number, got {array[tuple(place)]}")
    return array


def _times(times: Any, T: int) -> tuple[Any, bool]:
    """Where on the axis, and whether those are dates."""
    if times is None:
        return np.arange(T), False
    at = np.asarray(times)
    if at.shape != (T,):
        raise ValueError(f"times: expected (T,) = ({T},), one for each number of truth, got {at.shape}")
    if at.dtype.kind in "iuf":
        return at, False
    try:
        return at.astype("datetime64[s]"), True
    except (TypeError, ValueError):
        raise ValueError(f"times: expected dates or numbers, got {at[0]!r}") from None
