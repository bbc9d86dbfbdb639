"""What a recording shows before any text: its measurements, and the facts of every JSON object about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gem_lightning import __version__
from gem_lightning.ecg.record import EcgRecord
from gem_lightning.features.schema import plain
from gem_lightning.reporting.interpretation import Interpretation


def measured(record: EcgRecord) -> Interpretation:
    """Measure a record: its interpretation before a text; an unusable one has no findings, whatever was measured."""
    found = Interpretation.of("", record)
    return replace(found, findings=[]) if found.quality.refused else found


def facts(file: str, found: Interpretation) -> dict[str, Any]:
    """Return what every JSON object about a recording begins with.

    Args:
        file: The file as the user named it.
        found: Its interpretation, with or without a text.

    Returns:
        ``file``, ``version`` (of this package), ``quality`` (``verdict`` and ``reasons``), ``refused`` (why the
        recording is not interpreted, or None) and ``findings``.
    """
    return {
        "file": file,
        "version": __version__,
        "quality": {"verdict": found.quality.verdict, "reasons": list(found.quality.reasons)},
        "refused": found.quality.refused,
        "findings": [] if found.quality.refused else plain(found.findings),
    }
