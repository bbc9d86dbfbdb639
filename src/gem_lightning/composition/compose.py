"""Text from measurements, offline: same features and seed, same words; every number comes from the features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gem_lightning.claims.claim import Claim
from gem_lightning.errors import GemError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gem_lightning.features.schema import EcgFeatures, Finding

STYLES = ("interpretation", "report", "brief", "teaching")


@dataclass(frozen=True)
class Composition:
    """A composed text and what it states.

    Attributes:
        text: The text.
        claims: Every claim that the text makes, in order, without spans.
        style: One of :data:`STYLES`.
    """

    text: str
    claims: tuple[Claim, ...]
    style: str


def compose(
    features: EcgFeatures,
    findings: Sequence[Finding] | None = None,
    seed: int | None = 0,
    style: str = "interpretation",
) -> str:
    """Words for one record.

    Args:
        features: Measurements of the record.
        findings: What is stated about it; None asks :func:`gem_lightning.features.findings`.
        seed: Chooses phrasing and order; None draws anew each time.
        style: ``brief`` (about 40 words, regular phrasing, whole numbers), ``report`` (a device-like list of
            statements), ``interpretation`` (a cardiologist's paragraph) or ``teaching`` (with the criterion beside
            each conclusion).

    Returns:
        The text. A statement whose measurement lies too near its criterion is left out rather than guessed.

    Raises:
        GemError: The style is unknown.
    """
    return compose_with_claims(features, findings, seed, style).text


def compose_with_claims(
    features: EcgFeatures,
    findings: Sequence[Finding] | None = None,
    seed: int | None = 0,
    style: str = "interpretation",
) -> Composition:
    """As :func:`compose`, with the claims that the text states (what ``extract`` must find again)."""
    if style not in STYLES:
        raise GemError(f"expected a style of {', '.join(STYLES)}, got {style!r}; choose one of them")
    from gem_lightning.composition.facts import Facts
    from gem_lightning.composition.statements import tell

    if findings is None:
        from gem_lightning.features import findings as find

        findings = find(features)
    statements = tell(Facts(features, findings), seed, style)
    claims = tuple(claim for statement in statements for claim in statement.claims)
    return Composition(" ".join(statement.text for statement in statements if statement.text), claims, style)
