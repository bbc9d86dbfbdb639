"""The original's parsing and scoring of ECG-Grounding: a chain of textual repairs, kept for comparison only.

The published program evaluates arithmetic in judges' answers as code; here the same results come from a parser
that accepts numbers and operators only.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from gem_lightning.errors import GemError
from gem_lightning.evaluation.llm_judge.parsing import arithmetic

CRITERIA = (
    "DiagnosisAccuracy", "AnalysisCompleteness", "AnalysisRelevance", "LeadAssessmentCoverage",
    "LeadAssessmentAccuracy", "ECGFeatureGrounding", "EvidenceBasedReasoning", "ClinicalDiagnosticFidelity",
)  # fmt: skip
LISTS = re.compile(rf'"(?P<key>{"|".join(CRITERIA)})":\s*(?P<content>\[.*?\])', re.DOTALL)
EXPLANATION = re.compile(r'"Explanation":\s*"([^"]*?)"')

# In this order: each works on the output of the one before.
REPAIRS_BEFORE = ((r"//.*", ""), (r",\s*([}\]])", r"\1"), (r'"\s*"', " "), (r"\+(\d)", r"\1"))
REPAIRS_AFTER = (
    (r'"\);', '"'),
    (r"\s+", " "),
    (r'"\s*[\]\)]', '"'),
    (r"\}\s*\{", "},{"),
    (r'("Explanation":\s*".*?)(?<!\\)"\s*,?\s*\{', r'\1"}, {'),
)


class LegacyScoreError(GemError, TypeError, AttributeError):
    """An answer at which the original program stops."""


def read(text: str) -> dict[str, dict[str, list[Any]]]:
    """Parse scores and explanations by criterion as the original does; criteria that it cannot parse are absent."""
    result: dict[str, dict[str, list[Any]]] = {}
    for found in LISTS.finditer(text.strip("```json\n").strip("\n```")):  # noqa: B005 (the original's own strip)
        try:
            entries = json.loads(_repair(found["content"]))
        except json.JSONDecodeError:
            continue
        scores, explanations = [], []
        for entry in entries:
            if not isinstance(entry, dict) or not isinstance(entry.get("Explanation", ""), str):
                raise LegacyScoreError(
                    f"expected entries with Score and Explanation under {found['key']}, got {entry!r}; score with "
                    "rules='strict'"
                )
            more = {name: value for name, value in entry.items() if name not in ("Score", "Explanation")}
            extra = f" Additional details: {json.dumps(more)}" if more else ""
            scores.append(entry.get("Score"))
            explanations.append(entry.get("Explanation", "").strip() + extra)
        result[found["key"]] = {"Scores": scores, "Explanations": explanations}
    return result


def _repair(content: str) -> str:
    content = content.replace("“", '"').replace("”", '"')
    for pattern, replacement in REPAIRS_BEFORE:
        content = re.sub(pattern, replacement, content)
    content = re.sub(r"\d+[\d\s*+\-/]+\d+", _computed, content)
    for pattern, replacement in REPAIRS_AFTER:
        content = re.sub(pattern, replacement, content)
    if len(re.findall(r'(?<!\\)"', content)) % 2:
        content = re.sub(r"(\s*[}\]])", r'"\1', content, count=1)
    content = re.sub(r'""+', '"', content)
    content = EXPLANATION.sub(lambda found: f'"Explanation": "{re.sub("[][]", "", found[1])}"', content)
    content = re.sub(r"(\})(\s*\{)", r"\1,\2", content)
    content += "}" * (content.count("{") - content.count("}"))
    return content + "]" * (content.count("[") - content.count("]"))


def _computed(found: re.Match[str]) -> str:
    try:
        return str(arithmetic(found[0]))
    except ValueError:
        return found[0]


def per_criterion(scores: dict[str, dict[str, list[Any]]]) -> dict[str, float]:
    """Return one record's values in the original's units: a share for DiagnosisAccuracy, sums for the rest.

    Raises:
        LegacyScoreError: A score is missing, null or not a number: the original stops there with a TypeError.
    """
    result: dict[str, float] = {}
    for criterion, entries in scores.items():
        values = entries["Scores"]
        if not all(isinstance(value, (int, float)) for value in values):
            raise LegacyScoreError(
                f"expected numbers under {criterion}, got {values!r}: the original stops here; use rules='strict'"
            )
        if criterion == "DiagnosisAccuracy":
            result[criterion] = sum(value > 0 for value in values) / len(values) if values else 0
        else:
            result[criterion] = sum(values)
    return result


def score(judgements: dict[str, str]) -> dict[str, Any]:
    """Compute means over the records that have a criterion, rounded to 2 decimals as published, and all values."""
    per_id = {name: per_criterion(read(text)) for name, text in judgements.items()}
    means: dict[str, float] = {}
    for criterion in CRITERIA:
        column = np.array([values[criterion] for values in per_id.values() if criterion in values], np.float64)
        if not len(column):
            continue
        if criterion == "DiagnosisAccuracy":
            column = column * 100
        elif criterion == "LeadAssessmentCoverage":
            column = column.clip(max=12) / 12 * 100
        elif criterion == "LeadAssessmentAccuracy":
            column = column / 24 * 100
        means[criterion] = float(np.round(column.mean(), 2))
    return {"means": means, "per_id": per_id, "n": len(judgements)}
