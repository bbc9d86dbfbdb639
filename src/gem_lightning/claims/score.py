"""Score of a verified text in [0, 1] that constant, evasive or repetitive texts cannot raise; see docs/claims.md."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from gem_lightning.claims.claim import Claim
from gem_lightning.features.criteria import criteria

if TYPE_CHECKING:
    from gem_lightning.claims.conflicts import Conflict
    from gem_lightning.claims.report import Verdict

#: Weight of an error by what it concerns: an urgent finding, an abnormal one, an interval or rate, another detail. An
#: invented or denied emergency outweighs what a dozen true numbers earn (all weights are ours).
SEVERITY = {"urgent": 6.0, "abnormal": 3.0, "interval": 2.0, "detail": 1.0}
HEDGED = 0.5  # a hedged error misleads less than a firm one
OPEN = 0.3  # weight of a statement of a finding whose criterion is not met but not firmly excluded
UNREAD = 1.5  # weight of clinical text that was not read: it may be anything
CONFLICT = 1.0  # weight of two statements of a text that exclude each other and of which neither is verified
#: Information at which a text counts as full: rhythm, rate, axis, PR, QRS, QT, ST and T, as a short report has.
FULL = 5.0
COMMON = 0.95  # a statement that is true of this share of plausible ECGs carries no information on this one
URGENT_WEIGHT = 4.0  # of an urgent finding in coverage, against 1 of another abnormal one
MISSED_URGENT = 0.5  # factor for a text that leaves an urgent finding out

_INTERVALS = frozenset(("heart_rate", "rr", "pr", "qrs", "qt", "qtc", "jt", "axis_qrs"))


@cache
def _reference() -> dict[str, Any]:
    """Load how often findings are met and how quantities are distributed on plausible ECGs."""
    import yaml

    text = resources.files("gem_lightning.claims").joinpath("reference.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def information(verdict: Verdict) -> float:
    """Return the information of a supported claim, 0 to 1: the share of plausible ECGs of which it is not true.

    Zero where that is below 5 %. A point counts less the farther it lies from the measurement.
    """
    claim = verdict.claim
    if claim.kind == "finding":
        share = _reference()["findings"].get(claim.finding or "", 0.0)
        if claim.leads and claim.negated:
            share = min(share, 1.0 - COMMON)  # a single lead shows a finding more rarely than the record does
        gain = share if claim.negated else 1.0 - share
        gain *= HEDGED if claim.uncertain and not claim.negated else 1.0
        return gain if gain > 1.0 - COMMON + 1e-9 else 0.0
    inside = _mass(claim, verdict.tolerance or 0.0)
    gain = inside if claim.negated else 1.0 - inside
    if gain <= 1.0 - COMMON:
        return 0.0
    if claim.value is None or claim.negated or not verdict.tolerance or not isinstance(verdict.measured, (int, float)):
        return gain
    gap = abs(claim.value - verdict.measured) / verdict.tolerance
    return gain * max(0.0, 1.0 - gap * gap)


def _mass(claim: Claim, tolerance: float) -> float:
    """Return the share of plausible ECGs of which a quantity's claim is true."""
    mean, deviation = _reference()["quantities"].get(claim.kind, (0.0, 1.0))
    low, high = (claim.value, claim.value) if claim.value is not None else (claim.low, claim.high)

    def below(x: float) -> float:
        return 0.5 * (1.0 + math.erf((x - mean) / (deviation * math.sqrt(2.0))))

    upper = 1.0 if high is None else below(high + tolerance)
    return max(0.0, upper - (0.0 if low is None else below(low - tolerance)))


def severity(claim: Claim, urgent: Iterable[str]) -> float:
    """Return the weight of a contradicted claim; ``urgent`` are the urgent findings of the record."""
    if claim.kind != "finding":
        return SEVERITY["interval" if claim.kind in _INTERVALS else "detail"]
    code = claim.finding or ""
    entry = criteria()["findings"].get(code, {})
    if code in ("urgent", "not_urgent") or code in urgent or ("urgent" in entry and not claim.negated):
        return SEVERITY["urgent"]
    return SEVERITY["abnormal" if entry.get("abnormal", True) else "interval"]


def components(
    verdicts: Sequence[Verdict],
    abnormal: Sequence[str],
    mentioned: Sequence[str],
    urgent: Sequence[str],
    conflicts: Sequence[Conflict],
    unread_clinical: Sequence[Any],
) -> dict[str, float]:
    """Return the parts of a score and the score itself.

    Args:
        verdicts: Of every claim of the text.
        abnormal: Codes of the record's abnormal findings.
        mentioned: Those that the text states.
        urgent: Those that are urgent.
        conflicts: Inside the text.
        unread_clinical: Clinical text that was not read.

    Returns:
        ``information`` (sum over distinct supported claims), ``errors`` (sum of weights), ``correctness``, ``content``,
        ``coverage``, ``urgent_stated`` and ``score``, all of them in [0, 1] but the first two.
    """
    by_claim = {verdict.claim[:10]: verdict.verdict for verdict in verdicts}
    gain, errors = _sums(verdicts, urgent)
    for conflict in conflicts:
        pair = {by_claim.get(conflict.first[:10]), by_claim.get(conflict.second[:10])}
        errors += CONFLICT if pair == {"unverifiable"} else 0.0
    errors += UNREAD * len(unread_clinical)
    correctness = gain / (gain + errors) if gain + errors else 0.0
    weights = {code: URGENT_WEIGHT if code in urgent else 1.0 for code in abnormal}
    covered = sum(weights[code] for code in mentioned if code in weights)
    content = min(1.0, gain / FULL)
    # without abnormal findings there is nothing to cover: the content decides alone
    coverage = covered / sum(weights.values()) if weights else content
    stated = not urgent or bool(set(urgent) & set(mentioned))
    score = correctness * (content + coverage) / 2 * (1.0 if stated else MISSED_URGENT)
    return {
        "information": gain,
        "errors": errors,
        "correctness": correctness,
        "content": content,
        "coverage": coverage,
        "urgent_stated": float(stated),
        "score": score,
    }


def _sums(verdicts: Sequence[Verdict], urgent: Sequence[str]) -> tuple[float, float]:
    """Return the information of distinct supported claims, and the weight of distinct errors."""
    gains: dict[Any, float] = {}
    losses: dict[Any, float] = {}
    for verdict in verdicts:
        claim = verdict.claim
        if verdict.verdict == "supported":
            topic = (claim.kind, claim.finding, claim.leads, claim.beat, claim.negated)
            gains[topic] = max(gains.get(topic, 0.0), information(verdict))
        elif verdict.verdict == "contradicted":
            weight = severity(claim, urgent) * (HEDGED if claim.uncertain else 1.0)
            losses[claim.meaning] = weight
        elif verdict.reason.startswith("borderline") and claim.kind == "finding" and not claim.negated:
            losses[claim.meaning] = OPEN
    return sum(gains.values()), sum(losses.values())
