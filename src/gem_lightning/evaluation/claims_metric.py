"""The figures of a claim report over a dataset, as a torchmetrics metric that is right under DDP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torchmetrics import Metric

from gem_lightning.claims.verify import verify
from gem_lightning.errors import DataError

if TYPE_CHECKING:
    from gem_lightning.claims.report import ClaimReport
    from gem_lightning.features.schema import EcgFeatures


class ClaimMetric(Metric):
    """Claim precision, hallucination rate, coverage and leads covered, pooled over texts.

    Counts are summed over processes before any division, so that uneven shards give the figures of the whole set.

    Args:
        tolerance: As for :func:`gem_lightning.claims.verify.verify`.
        **kwargs: Of :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    texts: torch.Tensor
    claims: torch.Tensor
    supported: torch.Tensor
    contradicted: torch.Tensor
    abnormal: torch.Tensor
    mentioned: torch.Tensor
    leads: torch.Tensor
    conflicts: torch.Tensor

    def __init__(self, tolerance: dict[str, float] | float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tolerance = tolerance
        for name in ("texts", "claims", "supported", "contradicted", "abnormal", "mentioned", "leads", "conflicts"):
            self.add_state(name, default=torch.tensor(0, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, texts: str | Sequence[str], features: EcgFeatures | Sequence[EcgFeatures]) -> None:
        """Add texts with the measurements of their records, one each."""
        records = list(features) if isinstance(features, Sequence) else [features]
        words = [texts] if isinstance(texts, str) else list(texts)
        if len(words) != len(records):
            raise DataError(f"expected one record per text, got {len(words)} texts, {len(records)} records; pair them")
        for text, measured in zip(words, records):
            self.add(verify(text, measured, self.tolerance))

    def add(self, report: ClaimReport) -> None:
        """Add a report made before."""
        self.texts += 1
        self.claims += report.count()
        self.supported += report.count("supported")
        self.contradicted += report.count("contradicted")
        self.abnormal += len(report.abnormal)
        self.mentioned += len(report.mentioned)
        self.leads += len(report.leads_covered)
        self.conflicts += len(report.conflicts)

    def compute(self) -> dict[str, torch.Tensor]:
        """``precision``, ``hallucination_rate``, ``coverage`` (NaN where nothing was counted), means per text."""

        def share(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
            return part.float() / whole.float() if whole > 0 else torch.tensor(float("nan"), device=part.device)

        return {
            "precision": share(self.supported, self.supported + self.contradicted),
            "hallucination_rate": share(self.contradicted, self.claims),
            "coverage": share(self.mentioned, self.abnormal),
            "leads_covered": share(self.leads, self.texts),
            "claims_per_text": share(self.claims, self.texts),
            "conflicts_per_text": share(self.conflicts, self.texts),
        }
