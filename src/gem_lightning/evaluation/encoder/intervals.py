"""Scores of values read off an ECG, rate, intervals, P waves and fibrillation, against experts' marks and labels."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from gem_lightning.ecg.recombination.values import QUANTITIES
from gem_lightning.ecg.record import EcgRecord
from gem_lightning.evaluation.statistics import Interval, bootstrap_weights, mean_interval, weighted_auc
from gem_lightning.features import findings, measure
from gem_lightning.features.schema import Delineation

ERRORS = ("rate_bpm", "pr_ms", "qrs_ms", "qt_ms")
_RATE_NEAR_BPM = 5.0  # what the benchmarks call the right rate
_OFTEN = 0.5  # a record has P waves where at least so many of its beats have


def measured_values(record: EcgRecord, delineation: Delineation | None = None) -> np.ndarray:
    """Return the values (33,) of QUANTITIES that :func:`gem_lightning.features.measure` finds; axis, ST and T are NaN.

    Fibrillation is 1 where its criterion is met, else 0; a share of beats with P waves stands for their probability.
    """
    features = measure(record, delineation)
    out = np.full(len(QUANTITIES), np.nan)
    numbers = (features.heart_rate_bpm, features.pr_ms, features.qrs_ms, features.qt_ms)
    out[:4] = [np.nan if number is None else number for number in numbers]
    codes = {finding.code for finding in findings(features)}
    out[QUANTITIES.index("p")] = features.rhythm.p_per_qrs or 0.0
    out[QUANTITIES.index("af")] = float("atrial_fibrillation" in codes)
    out[QUANTITIES.index("pvc")] = float("pvc" in codes)
    return out


def majority_values(truth: np.ndarray) -> np.ndarray:
    """Return the values (33,) that a guess without a signal gives: the medians of ``truth`` (n, 33)."""
    known = np.isfinite(truth).any(0)
    return np.array([np.nanmedian(column) if any_known else np.nan for column, any_known in zip(truth.T, known)])


def score_values(
    found: np.ndarray, truth: np.ndarray, patients: Sequence[Hashable] | None = None
) -> dict[str, Interval]:
    """Return scores with 95 % intervals over patients.

    Args:
        found: (n, 33) in bpm, ms, mV and probabilities; NaN where nothing was read.
        truth: (n, 33); NaN where unknown.
        patients: (n,) who each record is from.

    Returns:
        ``rate_bpm pr_ms qrs_ms qt_ms`` mean absolute errors where both are known, ``*_missed`` the share of known
        values that were not read, ``rate_near`` the share of rates within 5 bpm, ``p_accuracy`` and ``af_auc``.
    """
    scores: dict[str, Interval] = {}
    for name in ERRORS:
        column = QUANTITIES.index(name)
        error = np.abs(found[:, column] - truth[:, column])
        missed = np.where(np.isfinite(truth[:, column]), np.isnan(found[:, column]).astype(float), np.nan)
        scores[name] = mean_interval(error, patients)
        scores[f"{name}_missed"] = mean_interval(missed, patients)
    near = np.abs(found[:, 0] - truth[:, 0]) <= _RATE_NEAR_BPM
    scores["rate_near"] = mean_interval(np.where(np.isfinite(truth[:, 0]), near, np.nan), patients)
    p, af = QUANTITIES.index("p"), QUANTITIES.index("af")
    right = (found[:, p] >= _OFTEN) == (truth[:, p] >= _OFTEN)
    scores["p_accuracy"] = mean_interval(np.where(np.isfinite(truth[:, p]), right, np.nan), patients)
    labelled = np.isfinite(truth[:, af])
    if 0 < np.nansum(truth[:, af]) < labelled.sum():
        positive, guess = truth[labelled, af] > 0.5, np.nan_to_num(found[labelled, af])
        groups = None if patients is None else [p for p, known in zip(patients, labelled) if known]
        [scores["af_auc"]] = bootstrap_weights(
            lambda weights: weighted_auc(guess, positive, weights)[:, None], int(labelled.sum()), groups
        )
    return scores
