"""Estimators in scikit-learn's conventions: data in, predictions out; a file for each shape of problem."""

from .classifier import SequenceClassifier
from .regressor import SequenceRegressor
from .tagger import SequenceTagger

__all__ = ["SequenceClassifier", "SequenceRegressor", "SequenceTagger"]
