"""Reliability of a record's measurements: its technical quality, and whether two delineators agree."""

from __future__ import annotations

from dataclasses import replace

from gem_lightning.ecg.quality import Quality, quality
from gem_lightning.ecg.record import EcgRecord
from gem_lightning.features.delineate import delineate
from gem_lightning.features.delineation.backends import delineator
from gem_lightning.features.delineation.weights import find_weights
from gem_lightning.features.measure import measure
from gem_lightning.features.schema import Delineation, EcgFeatures

#: Differences between the native and the neural delineation beyond which a value is uncertain: what two annotators
#: rarely differ by. Ours.
LIMITS: dict[str, tuple[str, float, str]] = {
    "heart_rate_bpm": ("rate", 5.0, "bpm"),
    "pr_ms": ("PR", 15.0, "ms"),
    "qrs_ms": ("QRS", 15.0, "ms"),
    "qt_ms": ("QT", 25.0, "ms"),
}


def reliability(record: EcgRecord, native: Delineation | None = None) -> Quality:
    """Judge a recording as :func:`gem_lightning.ecg.quality.quality` does, and where the two delineators disagree.

    Without the neural delineator's weights it is the technical quality alone. A disagreement makes ``care`` of
    ``usable``; its reasons begin with ``uncertain:``.

    Args:
        record: 12 leads.
        native: Its delineation; None makes it.
    """
    judged = quality(record)
    if judged.verdict == "unusable" or find_weights() is None:
        return judged
    native = delineate(record) if native is None else native
    reasons = disagreements(measure(record, native), measure(record, delineator("neural")(record)))
    if not reasons:
        return judged
    return replace(judged, verdict="care", reasons=(*judged.reasons, *reasons))


def disagreements(one: EcgFeatures, other: EcgFeatures) -> tuple[str, ...]:
    """Return a sentence for each value in which two measurements of a record differ beyond :data:`LIMITS`."""
    out = []
    for field, (name, limit, unit) in LIMITS.items():
        a, b = getattr(one, field), getattr(other, field)
        if a is not None and b is not None and abs(a - b) > limit:
            out.append(f"uncertain: {name} is {a:.0f} {unit} by one delineation and {b:.0f} {unit} by another")
    return tuple(out)
