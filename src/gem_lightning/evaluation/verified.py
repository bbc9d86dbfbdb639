"""Draft and final text of verified generation against the truth, with what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gem_lightning.evaluation.base import Prediction
from gem_lightning.evaluation.statistics import bootstrap_sums
from gem_lightning.evaluation.truth import Truth, score_text
from gem_lightning.reporting.evaluation import number, with_interval
from gem_lightning.reporting.html import Table
from gem_lightning.revision.grammar import faults
from gem_lightning.revision.segments import segments


def side_by_side(answers: Mapping[str, Prediction], truths: Mapping[str, Truth], draws: int = 1000) -> dict[str, Any]:
    """Score the model's own sentences and the final texts against the truth.

    The verifier's own precision is no metric here: after revision it is 1 by construction.

    Args:
        answers: By record id; those without a draft stand unchanged.
        truths: By record id.
        draws: Number of bootstrap resamples.

    Returns:
        ``draft`` and ``final``, each with ``precision`` (true of decided claims), ``coverage`` (true abnormal findings
        stated), ``findings`` (all true findings stated), ``claims`` (decided ones a text), ``empty`` (texts) and
        ``garbled`` (share of sentences that the grammar check faults); ``kept_share`` and ``tokens`` (means per text).
    """
    names = [name for name in truths if name in answers]
    texts = {
        "draft": [answers[n].text if answers[n].draft is None else str(answers[n].draft) for n in names],
        "final": [answers[n].text for n in names],
    }
    metrics: dict[str, Any] = {}
    for version, written in texts.items():
        scores = [score_text(text, truths[name]) for name, text in zip(names, written, strict=True)]
        parts = np.array([[s.right, s.wrong, s.stated, s.abnormal, s.named, s.present] for s in scores], float)
        precision, coverage, findings = bootstrap_sums(parts, _ratios, draws=draws)
        metrics[version] = {
            "precision": precision.to_dict(),
            "coverage": coverage.to_dict(),
            "findings": findings.to_dict(),
            "claims": float(parts[:, :2].sum() / max(1, len(names))),
            "empty": sum(not text.strip() for text in written),
            "garbled": garbled_share(written),
        }
    kept = [answers[n].kept for n in names]
    spent = [answers[n].tokens for n in names]
    metrics["kept_share"] = (
        float(np.mean([k for k in kept if k is not None])) if any(k is not None for k in kept) else 1
    )
    metrics["tokens"] = float(np.mean([t for t in spent if t])) if any(spent) else None
    return metrics


def _ratios(sums: np.ndarray) -> np.ndarray:
    """Map sums (draws, 6) to precision and both coverages (draws, 3)."""
    right, wrong, stated, abnormal, named, present = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([right / (right + wrong), stated / abnormal, named / present], 1)


def garbled_share(texts: list[str]) -> float:
    """Return the share of sentences with a fault of :func:`gem_lightning.revision.grammar.faults`."""
    found = []
    for text in texts:
        sentences = [s for s in segments(text) if s.strip()]
        found += [bool(faults(s, last=k == len(sentences) - 1)) for k, s in enumerate(sentences)]
    return float(np.mean(found)) if found else 0.0


def verified_table(metrics: Mapping[str, Any]) -> Table:
    """The table of a report."""
    rows = [
        [
            label,
            with_interval(metrics[version]["precision"], 3),
            with_interval(metrics[version]["coverage"], 2),
            number(metrics[version]["claims"], 1),
            number(metrics[version]["garbled"], 1, 100) + " %",
            str(metrics[version]["empty"]),
        ]
        for version, label in (("draft", "the model's sentences"), ("final", "the final text"))
    ]
    tokens = "" if metrics["tokens"] is None else f" {number(metrics['tokens'], 0)} tokens written a text."
    note = f"Against the truth, not the verifier. Kept: {number(metrics['kept_share'], 0, 100)} % of sentences.{tokens}"
    header = ["Text", "True claims", "Abnormal findings stated", "Claims a text", "Garbled", "Empty"]
    return Table("Draft and final text against the truth", header, rows, note)
