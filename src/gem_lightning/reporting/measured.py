"""One measured recording: quality, measurements and findings, for every JSON object and print about a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gem_lightning import __version__
from gem_lightning.ecg.quality import Quality
from gem_lightning.ecg.record import EcgRecord
from gem_lightning.features import EcgFeatures, Finding, findings, measure
from gem_lightning.features.reliability import reliability
from gem_lightning.features.schema import plain


@dataclass(frozen=True)
class Measured:
    """What the signal of one recording shows.

    Attributes:
        record: The record under the ``clean`` contract.
        features: Its measurements.
        findings: Criteria that the measurements meet; empty where the recording is refused.
        quality: Its technical quality.
    """

    record: EcgRecord
    features: EcgFeatures
    findings: list[Finding]
    quality: Quality

    @classmethod
    def of(cls, record: EcgRecord) -> Measured:
        """Measure a record; an unusable one gets no findings, whatever was measured."""
        features, quality = measure(record), reliability(record)
        return cls(record, features, [] if quality.refused else findings(features), quality)

    @property
    def refused(self) -> str | None:
        """Why the recording is not interpreted, else None."""
        return self.quality.refused

    def facts(self, file: str) -> dict[str, Any]:
        """Return what every JSON object about a recording holds, see :func:`facts`."""
        return facts(file, self.quality, self.findings)

    def to_dict(self, file: str) -> dict[str, Any]:
        """Return :meth:`facts` and every measurement as plain values, ready for JSON."""
        return {**self.facts(file), **self.features.to_dict()}


def facts(file: str, quality: Quality, found: Sequence[Finding]) -> dict[str, Any]:
    """Return what every JSON object about a recording holds.

    Args:
        file: The file as the user named it.
        quality: Technical quality of the recording.
        found: Its findings.

    Returns:
        ``file``, ``version`` (of this package), ``quality`` (``verdict`` and ``reasons``), ``refused`` (why the
        recording is not interpreted, or None) and ``findings``.
    """
    return {
        "file": file,
        "version": __version__,
        "quality": {"verdict": quality.verdict, "reasons": list(quality.reasons)},
        "refused": quality.refused,
        "findings": plain(list(found)),
    }
