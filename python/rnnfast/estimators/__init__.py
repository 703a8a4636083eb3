"""Estimators in scikit-learn's conventions: data in, predictions out; a file for each shape of problem."""

from .classifier import SequenceClassifier

__all__ = ["SequenceClassifier"]
