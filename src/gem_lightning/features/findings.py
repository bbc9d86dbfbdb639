"""What the measurements mean, each statement with the criterion it meets and where that comes from."""

from __future__ import annotations

from gem_lightning.errors import GemError
from gem_lightning.features.criteria.base import Case
from gem_lightning.features.criteria.chambers_ischemia import muscle_rules
from gem_lightning.features.criteria.conduction import conduction_rules
from gem_lightning.features.criteria.rhythm import rhythm_rules
from gem_lightning.features.schema import EcgFeatures, Finding

SINUS_NORMAL = "sinus_rhythm"
BENIGN = ("rsr_prime", "sinus_arrhythmia")  # variants that alone do not make an ECG abnormal


def findings(features: EcgFeatures, age: float | None = None, sex: str | None = None) -> list[Finding]:
    """Apply the criteria of ``criteria.yaml``.

    Args:
        features: Measurements of one record.
        age: Years; ST thresholds in V2-V3 differ below 40.
        sex: ``M`` or ``F`` (words that begin so are understood); None uses the stricter threshold of the two.

    Returns:
        Rhythm first, then conduction, then chambers and myocardium; none where nothing was measured.

    Raises:
        GemError: The sex is not understood or the age negative.
    """
    if age is not None and not 0 <= age <= 150:
        raise GemError(f"expected an age of 0-150 years, got {age}; give None when it is not known")
    letter = sex.strip()[:1].upper() if sex else None
    if letter not in (None, "", "M", "F"):
        raise GemError(f"expected sex 'M', 'F' or None, got {sex!r}")
    case = Case(features, age, letter or None)
    if not len(features.beats):
        return []
    rhythm_rules(case)
    conduction_rules(case)
    muscle_rules(case)
    if case.has(SINUS_NORMAL) and not any(f.abnormal and f.code not in BENIGN for f in case.found):
        case.state("normal_ecg", {"heart_rate_bpm": features.heart_rate_bpm})
    return case.found
