"""Linear and few-shot probes of frozen features: one logistic regression per label."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from gem_lightning.evaluation.encoder.metrics import macro_auroc

# four decades around the usual C = 1 of standardised features
STRENGTHS = (0.001, 0.01, 0.1, 1.0)


def fit_probe(features: np.ndarray, targets: np.ndarray, others: np.ndarray, strength: float) -> np.ndarray:
    """Fit one logistic regression per label on standardised features and score other records.

    Args:
        features: (N, D) to fit on.
        targets: (N, L) of 0 and 1.
        others: (M, D) to score.
        strength: scikit-learn's ``C``, the inverse of the penalty.

    Returns:
        (M, L) decision values; 0 where a label has one class only.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    # 1e-6 keeps constant features at zero
    mean, std = features.mean(0), features.std(0) + 1e-6
    x, z = (features - mean) / std, (others - mean) / std
    scores = np.zeros((len(others), targets.shape[1]))
    for label in range(targets.shape[1]):
        truth = targets[:, label] > 0
        if 0 < truth.sum() < len(truth):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # ranks converge long before the loss does
                model = LogisticRegression(C=strength, max_iter=300).fit(x, truth)
            scores[:, label] = model.decision_function(z)
    return scores


def choose_strength(features: np.ndarray, targets: np.ndarray, held_out: np.ndarray, truth: np.ndarray) -> float:
    """Return the strength of :data:`STRENGTHS` with the best macro AUC on a held-out set (M, D), targets (M, L)."""
    return max(STRENGTHS, key=lambda c: macro_auroc(fit_probe(features, targets, held_out, c), truth))


def few_shot(
    features: np.ndarray,
    targets: np.ndarray,
    others: np.ndarray,
    truth: np.ndarray,
    shots: int,
    repeats: int = 5,
    seed: int = 0,
) -> list[float]:
    """Return the macro AUC of probes fitted on ``shots`` records with and ``shots`` without each label.

    Args:
        features: (N, D) to draw from.
        targets: (N, L).
        others: (M, D) to score.
        truth: (M, L).
        shots: Records per class and label; labels with fewer are excluded.
        repeats: Number of independent draws.
        seed: Seed of the draws.

    Returns:
        One macro AUC per repeat.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(repeats):
        scores = np.zeros(truth.shape)
        probed = np.zeros(truth.shape[1], bool)
        for label in range(targets.shape[1]):
            present, absent = np.flatnonzero(targets[:, label] > 0), np.flatnonzero(targets[:, label] == 0)
            if min(len(present), len(absent)) < shots:
                continue
            rows = np.r_[rng.choice(present, shots, replace=False), rng.choice(absent, shots, replace=False)]
            scores[:, label] = fit_probe(features[rows], targets[rows, label : label + 1], others, 0.1)[:, 0]
            probed[label] = True
        found.append(macro_auroc(scores[:, probed], truth[:, probed]) if probed.any() else float("nan"))
    return found


def cross_validated(
    features: np.ndarray, targets: np.ndarray, patients: Sequence[str], folds: int = 5, strength: float = 0.01
) -> np.ndarray:
    """Return out-of-fold probe scores (N, L); a patient is never in both parts.

    Args:
        features: (N, D).
        targets: (N, L).
        patients: (N,) names.
        folds: Number of folds; a patient's fold follows from the order of the names.
        strength: As in :func:`fit_probe`.
    """
    fold = np.unique(np.asarray(patients), return_inverse=True)[1] % folds
    scores = np.zeros(targets.shape)
    for part in range(folds):
        test = fold == part
        found = fit_probe(features[~test], targets[~test], features, strength)
        # A fold rich in a label leaves fewer for fitting and so a lower intercept: without standardisation the pooled
        # scores of small data sets rank backwards.
        scores[test] = (found[test] - found[~test].mean(0)) / (found[~test].std(0) + 1e-9)
    return scores
