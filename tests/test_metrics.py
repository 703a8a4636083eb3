"""metrics.py: each figure against one worked out by hand or by its textbook definition, and every error message."""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rnnfast import metrics
from rnnfast.metrics import (
    Scores,
    accuracy,
    balanced_accuracy,
    bits,
    confusion_matrix,
    edit_distance,
    entity_f1,
    entity_scores,
    entity_spans,
    error_rate,
    exact_match,
    f1_score,
    mean_absolute_error,
    perplexity,
    root_mean_squared_error,
)

TRUE, PREDICTED = list("aaaabbbc"), list("aaabbbca")  # a: 3 of 4 found, 4 predicted; b: 2 of 3, 3; c: 0 of 1, 1
LETTERS = st.text("abc", max_size=8)


@pytest.mark.parametrize(
    ("true", "predicted"),
    [
        (TRUE, PREDICTED),
        (np.array(TRUE), np.array(PREDICTED)),
        (np.array(TRUE), PREDICTED),
        ([TRUE[:3], [], TRUE[3:]], [PREDICTED[:3], [], PREDICTED[3:]]),
        ([TRUE[:3], TRUE[3:]], [np.array(PREDICTED[:3]), tuple(PREDICTED[3:])]),
        (np.array(TRUE).reshape(4, 2), np.array(PREDICTED).reshape(4, 2)),
    ],
)
def test_labels_flat_and_in_sequences(true: Any, predicted: Any) -> None:
    assert accuracy(true, predicted) == 5 / 8
    assert balanced_accuracy(true, predicted) == pytest.approx((3 / 4 + 2 / 3 + 0) / 3)
    labels, counts = confusion_matrix(true, predicted)
    assert labels == ["a", "b", "c"]
    assert all(type(label) is str for label in labels)
    assert counts.dtype == np.int64
    assert counts.tolist() == [[3, 1, 0], [0, 2, 1], [1, 0, 0]]


def test_labels_of_several_types() -> None:
    assert accuracy([1, 2, 3], np.array([1, 2, 4])) == 2 / 3
    assert accuracy([True, False], [1, 0]) == 1
    assert confusion_matrix([None, "a", 2, 10], ["a", "a", 10, 10])[0] == [2, 10, None, "a"]
    assert confusion_matrix(np.array([2, 10]), np.array([10, 10]))[0] == [2, 10]
    assert confusion_matrix(["b\0"], ["b"])[0] == ["b", "b\0"]  # NumPy's str arrays would drop the NUL


def test_confusion_matrix_in_a_given_order() -> None:
    labels, counts = confusion_matrix(TRUE, PREDICTED, labels=np.array(["c", "d", "b", "a"]))
    assert labels == ["c", "d", "b", "a"]
    assert counts.tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [1, 0, 2, 0], [0, 0, 1, 3]]


def test_f1_score() -> None:
    a, b, c = 2 * 3 / (4 + 4), 2 * 2 / (3 + 3), 0.0
    np.testing.assert_allclose(f1_score(TRUE, PREDICTED, average=None), [a, b, c])
    assert f1_score(TRUE, PREDICTED) == pytest.approx((a + b + c) / 3)
    assert f1_score(TRUE, PREDICTED, average="weighted") == pytest.approx((4 * a + 3 * b + c) / 8)
    assert f1_score(TRUE, PREDICTED, average="micro") == pytest.approx(accuracy(TRUE, PREDICTED))
    assert f1_score(TRUE, PREDICTED, average="micro", labels=["a", "b"]) == pytest.approx(2 * 5 / (7 + 7))
    np.testing.assert_allclose(f1_score(TRUE, PREDICTED, average=None, labels=["z", "b"]), [0, b])
    assert f1_score(["a"], ["b"], average="weighted", labels=["z"]) == 0


def test_metrics_agree_with_scikit_learn() -> None:
    peer = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    true = rng.choice(list("abcd"), 300)
    predicted = np.where(rng.random(300) < 0.6, true, rng.choice(list("abcde"), 300))
    for average in ("macro", "micro", "weighted", None):
        expected = peer.f1_score(true, predicted, average=average, zero_division=0)
        np.testing.assert_allclose(f1_score(true, predicted, average=average), expected, rtol=1e-12)  # type: ignore[arg-type]
    labels, counts = confusion_matrix(true, predicted)
    np.testing.assert_array_equal(counts, peer.confusion_matrix(true, predicted, labels=labels))


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("", []),
        ("O O", []),
        ("B-X I-X O B-Y", [("X", 0, 2), ("Y", 3, 4)]),  # IOB2
        ("I-X I-X B-X O I-Y I-X", [("X", 0, 2), ("X", 2, 3), ("Y", 4, 5), ("X", 5, 6)]),  # IOB1
        ("S-X B-X I-X E-X S-Y S-Y", [("X", 0, 1), ("X", 1, 4), ("Y", 4, 5), ("Y", 5, 6)]),  # BIOES
        ("U-X B-X I-X L-X L-X M-X", [("X", 0, 1), ("X", 1, 4), ("X", 4, 5), ("X", 5, 6)]),  # BILOU, and a stray L
        ("B-X I-Y I-Y", [("X", 0, 1), ("Y", 1, 3)]),  # another type begins another entity
        ("B-X B-X", [("X", 0, 1), ("X", 1, 2)]),
        ("I-X S-X B-X U-X", [("X", 0, 1), ("X", 1, 2), ("X", 2, 3), ("X", 3, 4)]),
        ("O E-X I-X", [("X", 1, 2), ("X", 2, 3)]),
        ("B-X E-Y", [("X", 0, 1), ("Y", 1, 2)]),
        ("B I O S", [("", 0, 2), ("", 3, 4)]),
        ("B-X-Y I-X-Y I-X", [("X-Y", 0, 2), ("X", 2, 3)]),
    ],
)
def test_entity_spans(tags: str, spans: list[tuple[str, int, int]]) -> None:
    assert entity_spans(tags.split()) == spans
    assert entity_spans(np.array(tags.split(), dtype=object)) == spans  # type: ignore[arg-type]


@given(st.lists(st.integers(1, 3).flatmap(lambda n: st.tuples(st.just(n), st.sampled_from("XYO"))), max_size=6))
def test_entity_spans_read_every_scheme(blocks: list[tuple[int, str]]) -> None:
    """Entities and gaps, written in four ways, come back the same."""
    spans, iob2, iob1, bioes, bilou = [], [], [], [], []
    end, before = 0, "O"
    for n, kind in blocks:
        start, end = end, end + n
        if kind == "O":
            marks = [["O"] * n] * 4
        else:
            spans.append((kind, start, end))
            single = n == 1
            marks = [
                ["B"] + ["I"] * (n - 1),
                ["B" if before == kind else "I"] + ["I"] * (n - 1),
                ["S"] if single else ["B", *"I" * (n - 2), "E"],
                ["U"] if single else ["B", *"I" * (n - 2), "L"],
            ]
        before = kind
        for tags, letters in zip((iob2, iob1, bioes, bilou), marks, strict=True):
            tags += [m if m == "O" else f"{m}-{kind}" for m in letters]
    for tags in (iob2, iob1, bioes, bilou):
        assert entity_spans(tags) == spans


def test_entity_scores() -> None:
    true = [s.split() for s in ("B-PER I-PER O B-LOC", "B-LOC O", "O O B-PER")]
    predicted = [s.split() for s in ("B-PER I-PER O B-PER", "B-LOC I-LOC", "O O B-PER")]
    # PER: right (0, 0-2), (2, 2-3); predicted 3, true 2. LOC: predicted 1 with another end, true 2.
    overall, by_type = entity_scores(true, predicted)
    assert by_type == {"LOC": Scores(0, 0, 0, 2), "PER": Scores(2 / 3, 1, 0.8, 2)}
    assert overall == Scores(2 / 4, 2 / 4, 0.5, 4)
    assert entity_f1(true, predicted) == 0.5
    assert entity_f1(true, true) == 1
    assert entity_f1([["O"]], [["O"]]) == 0  # nothing to find: as the shared task's evaluation has it
    assert entity_scores([], []) == (Scores(0, 0, 0, 0), {})
    # The same span in two sentences is two entities.
    assert entity_scores([["B-X"], ["B-X"]], [["B-X"], ["O"]])[0] == Scores(1, 1 / 2, 2 / 3, 2)


def levenshtein(a: str, b: str) -> int:
    @cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return distance(len(a), len(b))


@given(LETTERS, LETTERS)
def test_edit_distance_is_that_of_its_definition(a: str, b: str) -> None:
    expected = levenshtein(a, b)
    assert edit_distance(a, b) == expected
    assert edit_distance(b, a) == expected
    assert edit_distance(list(a), tuple(b)) == expected
    assert edit_distance(np.array([ord(c) for c in a], int), [ord(c) for c in b]) == expected  # type: ignore[arg-type]


def test_edit_distance_of_long_sequences() -> None:
    rng = np.random.default_rng(0)
    a, b = ("".join(rng.choice(list("abcd"), n)) for n in (150, 131))  # beyond one and two machine words
    assert edit_distance(a, b) == levenshtein(a, b)
    assert edit_distance("a" * 20000, "a" * 19999 + "b") == 1


def test_error_rate_and_exact_match() -> None:
    truths, predictions = ["кот", "", "слон"], ["код", "я", "слон"]
    assert error_rate(truths, predictions) == (1 + 1 + 0) / 7
    assert error_rate([["to", "be"]], [["to", "be", "or", "not", "to"]]) == 1.5
    assert exact_match(truths, predictions) == 1 / 3
    assert exact_match([np.array([1, 2]), ["a"]], [[1, 2], ("b",)]) == 1 / 2  # type: ignore[list-item]
    assert exact_match([""], [""]) == 1


def test_errors_of_numbers() -> None:
    true, predicted = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [3.0, 8.0]])
    assert root_mean_squared_error(true, predicted) == math.sqrt((4 + 16) / 4)
    assert mean_absolute_error(true, predicted) == (2 + 4) / 4
    ragged_true, ragged_predicted = [np.array([1.0]), np.array([2.0, 4.0])], [np.array([2.0]), [2.0, 2.0]]
    assert root_mean_squared_error(ragged_true, ragged_predicted) == math.sqrt((1 + 0 + 4) / 3)
    assert mean_absolute_error(ragged_true, ragged_predicted) == 1
    assert mean_absolute_error([1, 2], [2, 4]) == 1.5
    assert root_mean_squared_error(np.float32([1e30]), np.float32([-1e30])) == pytest.approx(2e30)  # squared in float64
    assert mean_absolute_error(np.uint8([1]), np.uint8([3])) == 2


def test_perplexity_and_bits() -> None:
    assert perplexity(0) == 1
    assert perplexity(math.log(50)) == pytest.approx(50)
    assert perplexity(1e4) == math.inf
    assert bits(math.log(2)) == 1
    assert 2 ** bits(1.25) == pytest.approx(perplexity(1.25))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: accuracy([1, 2], [1]), ValueError, "y_pred: expected 2 labels or sequences as in y_true, got 1"),
        (lambda: accuracy([[1], [1, 2]], [[1], [1]]), ValueError, "y_pred[1]: expected 2 labels as in y_true[1], "
         "got 1"),
        (lambda: accuracy([[1], [1, 2]], [[1], 1]), TypeError, "y_pred[1]: expected a sequence of labels, got 1"),
        (lambda: accuracy(["a"], [["a"]]), TypeError, "y_true[0]: expected a sequence of labels, got 'a'"),
        (lambda: accuracy("abc", "abd"), TypeError, "y_true: expected a sequence of labels or sequences, got 'abc'"),
        (lambda: accuracy([1], 1), TypeError, "y_pred: expected a sequence of labels or sequences, got 1"),
        (lambda: accuracy([], []), ValueError, "y_true: expected at least one label, got none"),
        (lambda: balanced_accuracy([[], []], [[], []]), ValueError, "y_true: expected at least one label, got none"),
        (lambda: accuracy([[[1]]], [[[1]]]), TypeError, "expected labels, or sequences of labels, got a label [1]"),
        (lambda: confusion_matrix("ab", "ab"), TypeError, "y_true: expected a sequence"),
        (lambda: confusion_matrix([1], [3], labels=[1, 2]), ValueError, "y_pred: expected one of the 2 labels given, "
         "got 3"),
        (lambda: confusion_matrix([1], [1], labels=[1, 2, 1]), ValueError, "labels: expected each label once, got 1"),
        (lambda: f1_score([1], [1], average="mean"), ValueError, "average: expected \"macro\""),  # type: ignore[arg-type]
        (lambda: f1_score([1], [1], labels=[]), ValueError, "labels: expected at least one label, got none"),
        (lambda: entity_spans(["O", "PER"]), ValueError, 'tags[1]: expected "O", or B, I, E or S and a type, as in '
         "\"B-PER\", got 'PER'"),
        (lambda: entity_spans(["O-PER"]), ValueError, "got 'O-PER'"),
        (lambda: entity_spans([1]), ValueError, "tags[0]: expected \"O\""),  # type: ignore[list-item]
        (lambda: entity_f1([["O"], ["O"]], [["O"], ["X"]]), ValueError, "y_pred[1][0]: expected \"O\""),
        (lambda: entity_f1([["O"], ["O"]], [["O"], []]), ValueError, "y_pred[1]: expected 1 tags as in y_true[1]"),
        (lambda: entity_f1([["O"]], []), ValueError, "y_pred: expected 1 sentences as in y_true, got 0"),
        (lambda: entity_f1(["O"], ["O"]), TypeError, "y_true[0]: expected a sequence of tags, got 'O'"),
        (lambda: edit_distance("a", 1), TypeError, "b: expected a string or a sequence, got 1"),  # type: ignore[arg-type]
        (lambda: error_rate(["a", "b"], ["a"]), ValueError, "predictions: expected 2 sequences as in truths, got 1"),
        (lambda: error_rate(["a"], [[[]]]), TypeError, "predictions[0]: expected tokens that can be hashed, got [[]]"),
        (lambda: error_rate(["a"], [None]), TypeError, "predictions[0]: expected a string or a sequence, got None"),  # type: ignore[list-item]
        (lambda: error_rate([""], ["a"]), ValueError, "truths: expected at least one letter or token, got none"),
        (lambda: exact_match([], []), ValueError, "truths: expected at least one sequence, got none"),
        (lambda: exact_match("ab", "ab"), TypeError, "truths: expected a sequence of sequences, got 'ab'"),
        (lambda: root_mean_squared_error(np.ones((2, 3)), np.ones((2, 1))), ValueError,
         "y_pred: expected (2, 3) as in y_true, got (2, 1)"),
        (lambda: mean_absolute_error([np.ones(2), np.ones(3)], [np.ones(2), np.ones(2)]), ValueError,
         "y_pred[1]: expected (3,) as in y_true[1], got (2,)"),
        (lambda: mean_absolute_error([[1.0], [1.0, np.nan]], [[1.0], [1.0, 1.0]]), ValueError,
         "y_true[1][1]: expected a finite number, got nan"),
        (lambda: root_mean_squared_error(np.ones((2, 2)), [[1, 1], [np.inf, 1]]), ValueError,
         "y_pred[1, 0]: expected a finite number, got inf"),
        (lambda: mean_absolute_error([[1.0], [2.0]], [[1.0], [2.0, 3.0]]), ValueError,
         "y_pred[1]: expected (1,) as in y_true[1], got (2,)"),
        (lambda: mean_absolute_error(["a"], ["b"]), TypeError, "y_true: expected real numbers, got <U1"),
        (lambda: mean_absolute_error([], []), ValueError, "y_true: expected at least one number, got none"),
        (lambda: perplexity(-1), ValueError, "cross_entropy: expected a number of nats, 0 or more, got -1"),
        (lambda: bits(math.nan), ValueError, "cross_entropy: expected a number of nats, 0 or more, got nan"),
    ],
)  # fmt: skip
def test_error_messages(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        call()


def test_what_is_public() -> None:
    defined = {n for n, v in vars(metrics).items() if getattr(v, "__module__", "") == "rnnfast.metrics" and n[0] != "_"}
    assert defined - {"Labels"} == set(metrics.__all__)


@pytest.mark.parametrize("measure", [metrics.accuracy, metrics.balanced_accuracy, metrics.root_mean_squared_error])
def test_one_number_is_no_sequence(measure: Any) -> None:
    with pytest.raises(TypeError, match=re.escape("y_true: expected a sequence of")):
        measure(np.array(3), np.array(3))
