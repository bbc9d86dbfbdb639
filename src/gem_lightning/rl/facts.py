"""Facts that a completion is rewarded against: the simulator's truth where there is one, else the measurements."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from gem_lightning.claims.conflicts import conflicts
from gem_lightning.claims.extract import read_text
from gem_lightning.claims.report import ClaimReport, mentions_of
from gem_lightning.claims.verify import Verifier, verify
from gem_lightning.errors import DataError
from gem_lightning.evaluation.truth import Truth, truth_of_simulation
from gem_lightning.features import EcgFeatures, Finding, findings, measure
from gem_lightning.features.criteria.summary import urgent
from gem_lightning.samples.sample import InstructionSample, simulated_ecg


@dataclass(frozen=True)
class Facts:
    """What is known about one record.

    Attributes:
        features: Measurements; those at the true marks where the truth is known.
        truth: The simulator's; None for a recording.
        answer: The sample's own answer, empty where it has none.
    """

    features: EcgFeatures
    truth: Truth | None = None
    answer: str = ""

    @cached_property
    def _found(self) -> list[Finding]:
        return findings(self.features)

    @cached_property
    def _urgent(self) -> tuple[str, ...]:
        assert self.truth is not None
        return tuple(code for code in urgent(self.features) if code in self.truth.abnormal)

    def report(self, text: str) -> ClaimReport:
        """Verify a text against the truth, or where there is none against the measurements."""
        truth = self.truth
        if truth is None:
            return verify(text, self.features, findings=self._found)
        reading, judge = read_text(text), Verifier(self.features)
        verdicts = [replace(judge(claim), verdict=truth.verdict(claim)) for claim in reading.claims]
        stated, inside = mentions_of(verdicts, truth.abnormal), conflicts(reading.claims)
        return ClaimReport(
            verdicts, text, truth.abnormal, stated, inside, self.features, *reading[1:], urgent=self._urgent
        )


def facts_of(sample: InstructionSample, record: Any = None) -> Facts:
    """Collect the facts about a sample's record.

    Args:
        sample: One whose record is ``simulate:...`` has its truth.
        record: Its signal where that is at hand; None reads it.

    Raises:
        DataError: The sample has no signal that could be measured.
    """
    if sample.record is not None and sample.record.simulated:
        truth = truth_of_simulation(simulated_ecg(sample.record))
        return Facts(truth.features, truth, sample.answer)
    record = sample.read_record() if record is None else record
    if record is None:
        raise DataError(f"expected a signal to reward answers by, got none in the sample {sample.id!r}")
    return Facts(measure(record), None, sample.answer)
