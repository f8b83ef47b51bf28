"""The linear probe: logistic regression on frozen features, its regularisation chosen on the training split."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..tools.records import Record
from .task import Task

FOLDS = 3
STRENGTHS = (0.001, 0.01, 0.1)  # scikit-learn's C, for standardised columns
USUAL = 0.01  # where a class has too few rows for folds
ROWS = 2000  # of the bank, by which the strength is chosen
ITERATIONS = 100


@dataclass(frozen=True)
class Probe(Record):
    """Holds the accuracy on the queries, and scikit-learn's C, which cross-validation on rows of the bank chose."""

    accuracy: float
    strength: float = field(metadata={"key": "C"})


def linear_probe(task: Task, seed: int = 0) -> Probe | None:
    """Return what a classifier fitted to the bank scores on the queries; None where the bank has one class.

    A row has one class. Columns are standardised by the bank's rows, and the queries choose nothing.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, labels = task.bank, task.bank_labels
    if len(np.unique(labels)) < 2:
        return None

    def model(strength: float) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=ITERATIONS, tol=1e-3))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the accuracy has long settled by then
        chosen = np.random.default_rng(seed).permutation(len(train))[:ROWS]
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        best = USUAL
        sampled = np.unique(labels[chosen], return_counts=True)[1]
        if len(sampled) > 1 and sampled.min() >= FOLDS:
            scores = {c: cross_val_score(model(c), train[chosen], labels[chosen], cv=folds).mean() for c in STRENGTHS}
            best = max(scores, key=lambda c: scores[c])
        fitted = model(best).fit(train, labels)
    return Probe(float(fitted.score(task.queries, task.query_labels)), best)
