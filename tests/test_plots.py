"""plots.py: the data is in the artists, nothing is cut off or overlaps, matplotlib stays as it was, and the errors."""

from __future__ import annotations

import dataclasses
import datetime
import io
import itertools
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast import metrics, plots
from rnnfast.diagnostics import GradientFlow, gradient_norms

matplotlib = pytest.importorskip("matplotlib")
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.text import Text  # noqa: E402

RNG = np.random.default_rng(0)
WORDS = [f"{'word' * (i % 3)}{i}" for i in range(60)]
TAGS = ["ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PRON", "PROPN", "PUNCT", "VERB", "X"]


def history(passes: int = 8, best: int = 5, accuracy: bool = True) -> rnnfast.History:
    h = rnnfast.History(best_epoch=best)
    for i in range(passes):
        logs = {"loss": 1 / (i + 1), "seconds": 0.5, "val_loss": 1.5 / (i + 1)}
        h.append({**logs, "val_accuracy": 1 - 0.5 / (i + 1)} if accuracy else logs)
    return h


def flow(per_step: bool = False, **options: Any) -> GradientFlow:
    network = rnnfast.Network(4, 6, 3, per_step=per_step, recurrent_init="uniform", seed=0, **options)
    y = RNG.integers(0, 3, (5, 30)) if per_step else RNG.integers(0, 3, 5)
    return gradient_norms(network, RNG.normal(size=(5, 30, 4)), y)


# name -> a call with an optional ax
CALLS: dict[str, Any] = {
    "learning_curves": lambda ax=None: plots.learning_curves(history(), ax),
    "learning_curves of one pass": lambda ax=None: plots.learning_curves({"loss": [0.5]}, ax),
    "confusion_matrix": lambda ax=None: plots.confusion_matrix(TAGS * 3, TAGS * 2 + TAGS[::-1], ax=ax),
    "confusion_matrix of two": lambda ax=None: plots.confusion_matrix([0, 0, 1], [0, 1, 1], ax=ax),
    "confusion_matrix of sixty": lambda ax=None: plots.confusion_matrix(WORDS, WORDS[::-1], ax=ax),
    "gradient_norms": lambda ax=None: plots.gradient_norms(flow(num_layers=2, bidirectional=True), ax),
    "gradient_norms of steps": lambda ax=None: plots.gradient_norms(flow(True, cell="rnn_tanh"), ax),
    "hidden_states": lambda ax=None: plots.hidden_states(RNG.normal(size=(60, 32)), WORDS, ax),
    "hidden_states of 200": lambda ax=None: plots.hidden_states(RNG.normal(size=(200, 3)), ["tokens"] * 200, ax),
    "hidden_states without words": lambda ax=None: plots.hidden_states(RNG.normal(size=(9, 4)), ax=ax),
    "forecast": lambda ax=None: plots.forecast(
        RNG.normal(size=400), RNG.normal(size=400), np.datetime64("2015-01-20") + np.arange(400), np.zeros(400), ax
    ),
    "forecast of few": lambda ax=None: plots.forecast([1, 2, 3], [1, 2, 4], ax=ax),
    "attention": lambda ax=None: plots.attention(RNG.dirichlet(np.ones(25), 18), WORDS[:25], WORDS[:18], ax),
    "attention of letters": lambda ax=None: plots.attention(np.eye(6), "Москва", "Moskva", ax),
}


@pytest.fixture(autouse=True)
def same_matplotlib() -> Iterator[None]:
    """No test may change a setting, nor leave a figure with pyplot."""
    settings, backend = dict(matplotlib.rcParams), matplotlib.rcParams._get("backend")
    yield
    assert matplotlib.rcParams._get("backend") == backend
    assert {k: v for k, v in matplotlib.rcParams.items() if k != "backend"} == {
        k: v for k, v in settings.items() if k != "backend"
    }
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def unseen(figure: Any) -> set[Any]:
    """Labels of ticks that lie outside of an axis' range: they exist, but are not drawn."""
    return {
        label
        for axes in figure.axes
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim()))
        for minor in (False, True)
        for place, label in zip(axis.get_ticklocs(minor=minor), axis.get_ticklabels(minor=minor), strict=True)
        if not min(limits) <= place <= max(limits)
    }


@pytest.mark.parametrize("name", CALLS)
def test_what_is_drawn_can_be_read(name: str) -> None:
    """All that is written lies inside of the figure and is not too small, and no tick's label runs into the next."""
    ax = CALLS[name]()
    assert isinstance(ax, Axes)
    figure = ax.figure
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer, hidden = canvas.get_renderer(), unseen(figure)
    drawn = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in hidden]
    boxes = {text: text.get_window_extent(renderer) for text in drawn}
    for text, box in boxes.items():
        assert text.get_fontsize() >= (4 if text in ax.texts else 6), text
        assert min(box.x0, box.y0) >= -1, text
        assert box.x1 <= figure.bbox.width + 1, text
        assert box.y1 <= figure.bbox.height + 1, text
    for axis in (ax.xaxis, ax.yaxis):
        for one, two in itertools.pairwise([boxes[t] for t in axis.get_ticklabels() if t in boxes]):
            assert not one.overlaps(two), axis
    assert min(figure.get_size_inches()) >= 3
    assert max(figure.get_size_inches()) <= 24


@pytest.mark.parametrize("name", CALLS)
def test_a_given_ax_is_drawn_into(name: str) -> None:
    left, right = Figure(figsize=(8, 6)).subplots(1, 2)
    assert CALLS[name](right) is right
    assert right.has_data()
    assert not left.has_data()
    assert not hasattr(right, "_repr_png_")


def test_a_notebook_shows_the_axes_and_pickle_takes_them() -> None:
    ax = plots.hidden_states(np.ones((3, 2)))
    assert ax._repr_png_().startswith(b"\x89PNG")
    copy = pickle.loads(pickle.dumps(ax))
    assert copy._repr_png_().startswith(b"\x89PNG")
    assert copy.figure is not ax.figure


def test_pyplot_is_not_needed(tmp_path: Path) -> None:
    program = (
        "import sys; from rnnfast import plots;"
        "plots.learning_curves({'loss': [1.0, 0.5]}).figure.savefig(sys.argv[1]);"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "curves.png")], check=True, timeout=120)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_learning_curves() -> None:
    h = history()
    ax = plots.learning_curves(h)
    training, held_out, best = ax.lines
    for line, values in ((training, h["loss"]), (held_out, h["val_loss"])):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 9))
        np.testing.assert_array_equal(line.get_ydata(), values)
    assert best.get_xdata()[0] == 6
    (right,) = [a for a in ax.figure.axes if a is not ax]
    np.testing.assert_array_equal(right.lines[0].get_ydata(), h["val_accuracy"])
    assert right.get_ylabel() == "accuracy"
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "training loss", "held-out loss", "held-out accuracy", "best pass (6)",
    ]  # fmt: skip
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("pass over the training data", "loss")
    alone = plots.learning_curves(history(accuracy=False, best=-1))
    assert len(alone.figure.axes) == 1
    assert len(alone.lines) == 2
    many = plots.learning_curves({"loss": [1.0], **{f"a{i}_accuracy": [0.5] for i in range(9)}})
    assert len(many.figure.axes[1].lines) == 9
    assert plots.learning_curves({"loss": [1.0, np.nan]}).lines[0].get_xdata().tolist() == [1, 2]


def test_confusion_matrix() -> None:
    true, predicted = list("aaaabbbc"), list("aaabbbca")
    counts = np.array([[3, 1, 0], [0, 2, 1], [1, 0, 0]])
    ax = plots.confusion_matrix(true, predicted, normalize=False)
    np.testing.assert_array_equal(ax.images[0].get_array(), counts)
    assert {t.get_position(): t.get_text() for t in ax.texts} == {
        (j, i): str(counts[i, j]) for i, j in np.argwhere(counts)
    }
    assert [t.get_text() for t in ax.get_xticklabels()] == [t.get_text() for t in ax.get_yticklabels()] == list("abc")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")
    ax = plots.confusion_matrix([true[:3], true[3:]], [np.array(predicted[:3]), predicted[3:]])
    np.testing.assert_allclose(ax.images[0].get_array(), 100 * counts / counts.sum(axis=1, keepdims=True))
    assert ax.images[0].get_clim() == (0, 100)
    assert ax.texts[0].get_text() == "75\n(3)"
    order = ["c", "b", "z", "a"]
    ax = plots.confusion_matrix(true, predicted, order)
    np.testing.assert_allclose(ax.images[0].get_array()[3], [0, 25, 0, 75])
    np.testing.assert_array_equal(ax.images[0].get_array()[2], 0)
    assert [t.get_text() for t in ax.get_yticklabels()] == order
    labels, expected = metrics.confusion_matrix(true, predicted)
    assert labels == list("abc")
    np.testing.assert_array_equal(expected, counts)  # the twin that gives numbers
    ax = plots.confusion_matrix(np.array([10, 2, 2]), np.array([10, 10, 2]))
    assert [t.get_text() for t in ax.get_xticklabels()] == ["2", "10"]


def test_gradient_norms() -> None:
    f = flow(cell="rnn_tanh", bidirectional=True)
    ax = plots.gradient_norms(f)
    assert [line.get_label() for line in ax.lines] == ["layer 0", "layer 0, reverse"]
    for line, norms in zip(ax.lines, f.norms, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(30))
        np.testing.assert_array_equal(line.get_ydata(), norms)
    assert ax.get_yscale() == "log"
    assert ax.get_title(loc="left").startswith(f"{f.verdict}: × {f.factor:.3g} a step")
    f = flow(True, cell="lstm")
    ax = plots.gradient_norms(f)
    assert [line.get_label() for line in ax.lines] == ["layer 0, h", "layer 0, c", "entering at the end alone"]
    assert f.cell_norms is not None
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), np.where(f.cell_norms[0] > 0, f.cell_norms[0], np.nan))
    np.testing.assert_allclose(ax.lines[2].get_ydata(), f.share[0] * f.norms[0, 0])
    odd = dataclasses.replace(
        flow(cell="gru"), norms=np.array([[1, 0, np.inf, 1e-300]]), share=np.array([[1, 0, 0, 0.0]])
    )
    np.testing.assert_array_equal(plots.gradient_norms(odd).lines[0].get_ydata(), [1, np.nan, np.nan, 1e-300])
    nothing = dataclasses.replace(odd, norms=np.zeros((1, 4)), share=np.full((1, 4), np.nan))
    assert plots.gradient_norms(nothing).get_title(loc="left") == "no gradient"


def test_hidden_states() -> None:
    h = RNG.normal(size=(7, 5))
    ax = plots.hidden_states(h, list("письмо!"))
    image = ax.images[0]
    np.testing.assert_array_equal(image.get_array(), h.T)
    assert image.get_clim() == (-np.abs(h).max(), np.abs(h).max())
    assert image.get_cmap().name == "RdBu_r"
    assert [t.get_text() for t in ax.get_xticklabels()] == list("письмо!")
    assert ax.get_ylabel() == "hidden unit"
    assert plots.hidden_states(np.zeros((2, 3))).images[0].get_clim() == (-1, 1)
    assert plots.hidden_states(h.astype(np.float32)).get_xlabel() == "step"
    ax = plots.hidden_states(h[:3], [" ", "two\nlines", 3])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["␣", "two lines", "3"]
    long = plots.hidden_states(RNG.normal(size=(1000, 2)), ["token"] * 1000)
    ticks = long.get_xticks()
    assert 20 < len(ticks) < 300  # some of them, evenly
    assert len(set(np.diff(ticks))) == 1


def test_forecast() -> None:
    truth, prediction = np.array([1.0, 2.0, np.nan, 4.0]), np.array([np.nan, 2.0, 3.0, 7.0])
    ax = plots.forecast(truth, prediction, baseline=[0, 1, 2, 3], ylabel="price (US$)")
    lines = {line.get_label(): line for line in ax.lines}
    assert list(lines) == ["truth", "baseline (RMSE 1)", "forecast (RMSE 2.12)"]  # sqrt((0 + 9) / 2)
    np.testing.assert_array_equal(lines["truth"].get_ydata(), truth)
    np.testing.assert_array_equal(lines["forecast (RMSE 2.12)"].get_ydata(), prediction)
    np.testing.assert_array_equal(lines["truth"].get_xdata(), [0, 1, 2, 3])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "price (US$)")
    days = np.datetime64("2020-02-28") + np.arange(4)
    for times in (
        days,
        days.astype(str).tolist(),
        [datetime.datetime(2020, 2, 28) + datetime.timedelta(i) for i in range(4)],
    ):
        ax = plots.forecast(truth, prediction, times)
        assert ax.get_xlabel() == "date"
        np.testing.assert_array_equal(ax.lines[0].get_xdata(), days)
    ax = plots.forecast(truth, prediction, [0.5, 1, 1.5, 2])
    assert ax.lines[0].get_xdata().tolist() == [0.5, 1, 1.5, 2]
    assert ax.get_xlabel() == "time"
    assert plots.forecast(truth, np.full(4, np.nan)).lines[1].get_label() == "forecast"


def test_attention() -> None:
    weights = RNG.dirichlet(np.ones(4), 3)
    ax = plots.attention(weights, ["I", "do", "not", "know"], "да?")
    np.testing.assert_array_equal(ax.images[0].get_array(), weights)
    assert ax.images[0].get_clim() == (0, 1)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["I", "do", "not", "know"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["д", "а", "?"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("source", "target")


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: plots.learning_curves({"val_loss": [1.0]}), ValueError,
         'history: expected a History, or a dict, with "loss" for at least one pass'),
        (lambda: plots.learning_curves(rnnfast.History()), ValueError, "history: expected a History"),
        (lambda: plots.learning_curves([1.0]), ValueError, "history: expected a History"),
        (lambda: plots.learning_curves({"loss": [1.0, 2.0], "val_loss": [1.0]}), ValueError,
         "history['val_loss']: expected (passes,) = (2,), got (1,)"),
        (lambda: plots.confusion_matrix([1, 2], [1]), ValueError,
         "y_pred: expected 2 labels or sequences as in y_true, got 1"),
        (lambda: plots.confusion_matrix([], []), ValueError, "y_true: expected at least one label, got none"),
        (lambda: plots.confusion_matrix("ab", "ab"), TypeError,
         "y_true: expected a sequence of labels or sequences, got 'ab'"),
        (lambda: plots.confusion_matrix([1], [3], [1, 2]), ValueError,
         "y_pred: expected one of the 2 labels given, got 3"),
        (lambda: plots.gradient_norms(np.ones((2, 3))), TypeError,  # type: ignore[arg-type]
         "flow: expected a GradientFlow of rnnfast.diagnostics, got ndarray"),
        (lambda: plots.hidden_states(np.ones((1, 2, 3))), ValueError, "h: expected (T, H), got (1, 2, 3)"),
        (lambda: plots.hidden_states(np.ones((0, 3))), ValueError, "h: expected (T, H), got (0, 3)"),
        (lambda: plots.hidden_states([[1.0, np.nan]]), ValueError, "h[0, 1]: expected a finite number, got nan"),
        (lambda: plots.hidden_states(np.ones((2, 3)), ["a"]), ValueError,
         "tokens: expected T = 2, one for each step of h, got 1"),
        (lambda: plots.hidden_states([["a"]]), ValueError, "h: expected (T, H) numbers"),
        (lambda: plots.forecast(np.ones((2, 3)), np.ones(2)), ValueError, "truth: expected (T,), got (2, 3)"),
        (lambda: plots.forecast(np.ones(3), np.ones(2)), ValueError, "prediction: expected (T,) = (3,), got (2,)"),
        (lambda: plots.forecast(np.ones(3), np.ones(3), baseline=[1]), ValueError,
         "baseline: expected (T,) = (3,), got (1,)"),
        (lambda: plots.forecast(np.ones(3), np.ones(3), [1, 2]), ValueError,
         "times: expected (T,) = (3,), one for each number of truth, got (2,)"),
        (lambda: plots.forecast(np.ones(2), np.ones(2), ["monday", "tuesday"]), ValueError,
         "times: expected dates or numbers, got"),
        (lambda: plots.attention(np.ones((2, 3)), "ab", "abc"), ValueError,
         "weights: expected (len(target), len(source)) = (3, 2), got (2, 3)"),
        (lambda: plots.attention([[np.inf]], "a", "b"), ValueError, "weights[0, 0]: expected a finite number, got inf"),
        (lambda: plots.attention([[1.0]], "a", "b", ax=3), TypeError,
         "ax: expected the Axes of matplotlib, got int"),
    ],
)  # fmt: skip
def test_error_messages(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        call()


def test_signs_of_mathematics_are_signs() -> None:
    labels = ["$x^{$", "a $ b", "\ud800", r"\$"]
    for ax in (plots.confusion_matrix(labels, labels), plots.attention(np.eye(4), labels, labels)):
        ax.figure.savefig(io.BytesIO(), format="png")
        assert sorted(t.get_text() for t in ax.get_xticklabels()) == sorted(["$x^{$", "a $ b", "?", r"\$"])


def test_arrays_of_a_history() -> None:
    ax = plots.learning_curves({"loss": np.array([2.0, 1.0]), "val_loss": np.array([2.0, 1.5])})
    assert len(ax.lines) == 2


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=re.escape('pip install "rnnfast[plots]"')):
        plots.forecast([1.0], [1.0])
