"""Content of a text as numbers and findings: shared by the benchmarks that need no judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gem_lightning.claims.tolerance import default_tolerance
from gem_lightning.ecg.record import EcgRecord

#: Quantity to (kind of claim, unit).
QUANTITIES: dict[str, tuple[str, str]] = {
    "rate": ("heart_rate", "bpm"),
    "PR": ("pr", "ms"),
    "QRS": ("qrs", "ms"),
    "QT": ("qt", "ms"),
}


@dataclass(frozen=True)
class TextContent:
    """Content of a text.

    Attributes:
        values: Quantity to the first value given for the whole record (the middle of a range).
        findings: Asserted finding code to whether it is certain.
        denied: Codes of findings stated as absent.
        claims: All claims.
    """

    values: dict[str, float] = field(default_factory=dict)
    findings: dict[str, bool] = field(default_factory=dict)
    denied: frozenset[str] = frozenset()
    claims: tuple[Any, ...] = ()


def read_text(text: str) -> TextContent:
    """Extract values, findings and denials from a text."""
    from gem_lightning.claims.extract import extract

    claims = extract(text)
    kinds = {kind: name for name, (kind, _) in QUANTITIES.items()}
    values: dict[str, float] = {}
    findings: dict[str, bool] = {}
    denied = set()
    for claim in claims:
        if claim.kind == "finding" and claim.finding:
            if claim.negated:
                denied.add(claim.finding)
            else:
                findings[claim.finding] = findings.get(claim.finding, False) or not claim.uncertain
        elif claim.kind in kinds and claim.beat is None and not claim.leads:
            value = _point(claim)
            if value is not None:
                values.setdefault(kinds[claim.kind], value)
    return TextContent(values, findings, frozenset(denied - findings.keys()), tuple(claims))


def _point(claim: Any) -> float | None:
    if claim.value is not None:
        return float(claim.value)
    if claim.low is not None and claim.high is not None:
        return (claim.low + claim.high) / 2
    return None


def claims_kept(before: TextContent, after: TextContent) -> float:
    """Return the share of claims that two texts have in common, of all they make (Jaccard); 1 when there are none.

    Numbers are equal within the default tolerance of their kind.
    """
    left = list(dict.fromkeys(claim.meaning for claim in after.claims))
    one = list(dict.fromkeys(claim.meaning for claim in before.claims))
    total, common = len(one) + len(left), 0
    for meaning in one:
        twin = next((other for other in left if _same(meaning, other)), None)
        if twin is not None:
            left.remove(twin)
            common += 1
    return common / (total - common) if total else 1.0


def _same(one: tuple[Any, ...], two: tuple[Any, ...]) -> bool:
    if one[0] != two[0] or one[4:] != two[4:]:
        return False
    for a, b in zip(one[1:4], two[1:4]):
        if (a is None) != (b is None):
            return False
        if a is not None and abs(a - b) > default_tolerance(one[0], a).value:
            return False
    return True


def draw_page(record: EcgRecord) -> Any:
    """Render the record for a report, uint8 (H, W, 3)."""
    from gem_lightning.render import EcgRenderer

    # small enough for many cases on one page
    return EcgRenderer(size=(680, 900))(record).image


def pick_cases(scores: dict[str, float], count: int) -> list[tuple[str, str]]:
    """Return (kind, id) of the worst and the median records by a score where higher is better."""
    order: Sequence[str] = sorted(scores, key=lambda name: (scores[name], name))
    worst = [("Worst", name) for name in order[: (count + 1) // 2]]
    middle = len(order) // 2
    typical = [("Typical", name) for name in order[middle : middle + count // 2]]
    return [*worst, *(pair for pair in typical if pair[1] not in {name for _, name in worst})]


def marked_text(text: str, record: EcgRecord) -> str | None:
    """Return the text as HTML with its claims coloured by their verdicts on the record."""
    from gem_lightning.claims.verify import verify
    from gem_lightning.features import measure

    return verify(text, measure(record)).to_html() if text else None
