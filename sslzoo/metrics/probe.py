"""The linear probe: logistic regression on frozen features, its regularisation chosen on the training split."""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

FOLDS = 3
STRENGTHS = (0.001, 0.01, 0.1)  # scikit-learn's C, for standardised columns
USUAL = 0.01  # where a class has too few rows for folds
ROWS = 2000  # of the training split, by which the strength is chosen
ITERATIONS = 100


def accuracy(
    train: npt.NDArray[np.float32],
    labels: npt.NDArray[Any],
    test: npt.NDArray[np.float32],
    truth: npt.NDArray[Any],
    seed: int = 0,
) -> dict[str, float] | None:
    """Accuracy on the test rows, and the C that cross-validation on training rows chose; None for one class.

    Columns are standardised by the training rows. The test rows choose nothing.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _, counts = np.unique(labels, return_counts=True)
    if len(counts) < 2:
        return None

    def made(strength: float) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=ITERATIONS, tol=1e-3))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the accuracy has long settled by then
        chosen = np.random.default_rng(seed).permutation(len(train))[:ROWS]
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        best = USUAL
        sampled = np.unique(labels[chosen], return_counts=True)[1]
        if len(sampled) > 1 and sampled.min() >= FOLDS:
            scores = {c: cross_val_score(made(c), train[chosen], labels[chosen], cv=folds).mean() for c in STRENGTHS}
            best = max(scores, key=lambda c: scores[c])
        model = made(best).fit(train, labels)
    return {"accuracy": float(model.score(test, truth)), "C": best}
