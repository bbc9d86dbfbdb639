"""Data classes of this package: delineation, beat table, measurements and findings."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import numpy as np

from gem_lightning.errors import GemError

MARKS: tuple[str, ...] = ("P_on", "P", "P_off", "QRS_on", "R", "QRS_off", "T_on", "T", "T_off")
ST_POINTS: tuple[str, ...] = ("J", "J40", "J60", "J80")
QTC_FORMULAS: tuple[str, ...] = ("bazett", "fridericia", "framingham", "hodges")
STIMULI: tuple[str, ...] = ("atrial_stimulus_ms", "ventricular_stimulus_ms")  # columns of the beat table
BEAT_CLASSES: tuple[str, ...] = ("normal", "premature_supraventricular", "premature_ventricular", "paced", "unknown")


@dataclass(frozen=True)
class Delineation:
    """Where each wave begins, peaks and ends.

    Attributes:
        marks: One float array (leads, beats) per name of :data:`MARKS`, in samples; NaN where the wave is absent.
        global_marks: The same names, (beats,): early onset and late offset over trusted leads.
        beat_class: (beats,) one of :data:`BEAT_CLASSES` each.
        trust: (leads,) 0 (not used) to 1.
        fs: Sampling rate of the marks, Hz.
        leads: Lead names of the rows.
        reason: Why there are no beats (noise, asystole, fibrillation, too short), else None.
        extra_p: (n,) P peaks that no QRS follows (AV block), samples.
        flutter: Atrial waves of one form fill the pauses between beats.
        atrial_mv: What oscillates between T end and the next QRS complex, P wave included, mV (root mean square over
            trusted leads); NaN where no pause is long enough.
        noise_mv: Noise of the trusted leads (what bends within 10 ms at rest), mV (root mean square).
        mains_hz: Frequencies of mains, 50 or 60 Hz, that were found and taken away before anything was looked for.
        stimuli: (n,) onsets of pacemaker stimuli, samples.
    """

    marks: dict[str, np.ndarray]
    global_marks: dict[str, np.ndarray]
    beat_class: np.ndarray
    trust: np.ndarray
    fs: float
    leads: tuple[str, ...]
    reason: str | None = None
    extra_p: np.ndarray = field(default_factory=lambda: np.zeros(0))
    flutter: bool = False
    atrial_mv: float = float("nan")
    noise_mv: float = float("nan")
    mains_hz: tuple[float, ...] = ()
    stimuli: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def beats(self) -> int:
        """Return the number of beats."""
        return len(self.beat_class)


@dataclass(frozen=True)
class BeatTable:
    """Every measurement of every beat, by column.

    Attributes:
        time_s: (beats,) time of the R peak from the start of the record, s.
        beat_class: (beats,) one of :data:`BEAT_CLASSES` each.
        whole: Global columns (beats,): ``rr_ms`` (to the beat before), ``p_ms pr_ms qrs_ms qt_ms jt_ms``, and from
            a pacemaker's stimulus to the QRS onset ``atrial_stimulus_ms ventricular_stimulus_ms``; NaN = absent.
        by_lead: Columns (leads, beats): ``p_mv p_ms pr_ms q_mv q_ms r_mv r_ms s_mv s_ms r2_mv r_peak_ms qrs_mv
            qrs_ms t_mv t_ms qt_ms st_j_mv st_j40_mv st_j60_mv st_j80_mv st_ms st_slope_mv_s``, NaN = absent. Q and S
            depths are positive; P and T keep their sign.
        leads: Lead names of the rows.
    """

    time_s: np.ndarray
    beat_class: np.ndarray
    whole: dict[str, np.ndarray]
    by_lead: dict[str, np.ndarray]
    leads: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.time_s)

    def __getitem__(self, beat: int) -> dict[str, Any]:
        """Return one beat as a dict of plain numbers; absent values are None."""
        row: dict[str, Any] = {"time_s": float(self.time_s[beat]), "class": str(self.beat_class[beat])}
        row |= {name: plain(column[beat]) for name, column in self.whole.items()}
        columns = (plain(column[:, beat]) for column in self.by_lead.values())
        row["leads"] = {lead: dict(zip(self.by_lead, values)) for lead, values in zip(self.leads, zip(*columns))}
        return row

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True)
class LeadFeatures:
    """One lead, summarised: medians over the beats that count; None where it cannot be measured.

    Attributes:
        p_mv, q_mv, r_mv, s_mv, r2_mv, t_mv, u_mv: Amplitudes, mV; Q and S as positive depths, P, T and U signed; U is 0
            where there is none, None where T and the next P wave leave no room for it.
        p_ms, q_ms, r_ms, s_ms, qrs_ms, t_ms, qt_ms, pr_ms: Durations, ms.
        r_peak_ms: R peak time, from the QRS onset to the tallest upward deflection, ms.
        p_form: upright, inverted, biphasic, notched or absent.
        qrs_form: Letters of the deflections, such as qRs, rsR', QS; with ``notched`` or ``delta`` in ``qrs_notes``.
        t_form: upright, inverted, biphasic, flat or absent.
        st_form: horizontal, upsloping, downsloping, concave, convex or None.
        trust: 0 to 1.
    """

    p_mv: float | None = None
    p_ms: float | None = None
    p_form: str | None = None
    pr_ms: float | None = None
    q_mv: float | None = None
    q_ms: float | None = None
    r_mv: float | None = None
    r_ms: float | None = None
    s_mv: float | None = None
    s_ms: float | None = None
    r2_mv: float | None = None
    r_peak_ms: float | None = None
    qrs_mv: float | None = None
    qrs_ms: float | None = None
    qrs_form: str | None = None
    qrs_notes: tuple[str, ...] = ()
    t_mv: float | None = None
    t_ms: float | None = None
    t_form: str | None = None
    u_mv: float | None = None
    qt_ms: float | None = None
    st_slope_mv_s: float | None = None
    st_form: str | None = None
    trust: float = 1.0


@dataclass(frozen=True)
class Rhythm:
    """Regularity and the relation of P waves to QRS complexes.

    Attributes:
        regular: RR intervals vary little; None with fewer than three beats.
        rr_cv: Standard deviation of RR over its mean.
        p_per_qrs: Share of beats that have a P wave.
        pr_constant: PR varies little; None where it is not known.
        pattern: ``bigeminy``, ``trigeminy``, ``quadrigeminy`` or None.
        sdnn_ms, rmssd_ms: Variability of normal-to-normal intervals over this strip, ms.
        atrial_mv: What oscillates between T end and the next QRS complex, mV (root mean square over leads); without P
            waves that is f waves and noise. None where no pause is long enough.
        noise_mv: Noise of the leads, mV. P waves lower than a few times this cannot be seen, and f waves are those only
            where ``atrial_mv`` is well above it.
        notes: Named observations: ``flutter_waves``, ``p_free_of_qrs``, ``grouped_rr`` (RR of two or three values),
            ``paced_spikes``.
    """

    regular: bool | None = None
    rr_cv: float | None = None
    p_per_qrs: float | None = None
    pr_constant: bool | None = None
    pattern: str | None = None
    sdnn_ms: float | None = None
    rmssd_ms: float | None = None
    atrial_mv: float | None = None
    noise_mv: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EcgFeatures:
    """Measurements of one record: medians over beats, from global marks; None where it cannot be measured.

    Attributes:
        heart_rate_bpm: 60,000 over the mean RR, bpm.
        rr_ms, p_ms, pr_ms, qrs_ms, qt_ms, jt_ms: Intervals and durations, ms.
        qtc_ms: Corrected QT by formula (:data:`QTC_FORMULAS`), ms.
        axis_deg: Frontal axes of P, QRS and T, degrees in (-180, 180].
        st_mv: Per lead, level at each of :data:`ST_POINTS` against the PQ level, mV.
        leads: Per lead summary.
        beats: Every beat.
        rhythm: Regularity and P-QRS relation.
        voltages_mv: Named voltage sums, mV (``sokolow_lyon``, ``cornell``, ...).
        ranges: (smallest, largest) over beats of ``rr_ms pr_ms qrs_ms qt_ms p_ms``.
        transition: First precordial lead whose R exceeds its S, or None.
        scale_error: How far the limb leads' QRS complexes miss Einthoven's and Goldberger's laws for want of a common
            scale, as a share of their size; 0 where they agree, None where it is not known.
        fs, seconds: Of the record measured.
        reason: Why nothing could be measured, else None.
        age: Of the patient, years; None where unknown.
        sex: ``M``, ``F``, or None where unknown. Limits of several criteria depend on age and sex.
    """

    heart_rate_bpm: float | None
    rr_ms: float | None
    p_ms: float | None
    pr_ms: float | None
    qrs_ms: float | None
    qt_ms: float | None
    jt_ms: float | None
    qtc_ms: dict[str, float | None]
    axis_deg: dict[str, float | None]
    st_mv: dict[str, dict[str, float | None]]
    leads: dict[str, LeadFeatures]
    beats: BeatTable
    rhythm: Rhythm
    voltages_mv: dict[str, float | None] = field(default_factory=dict)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    transition: str | None = None
    scale_error: float | None = None
    fs: float = 500.0
    seconds: float = 10.0
    reason: str | None = None
    age: float | None = None
    sex: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the decisions that ``criteria.decide`` keeps here, so that equal features pickle alike."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def of_patient(self, age: float | None = None, sex: str | None = None) -> EcgFeatures:
        """Return the same measurements for another age (years) or sex; None leaves the known one.

        Raises:
            GemError: The age is out of range or the sex is not understood.
        """
        years = self.age if age is None else checked_age(age)
        return replace(self, age=years, sex=checked_sex(sex) or self.sex)

    def to_dict(self) -> dict[str, Any]:
        """Return plain Python values; NaN becomes None."""
        return plain(self)

    def to_json(self) -> str:
        """Return JSON text with units in the key names."""
        return json.dumps(self.to_dict(), allow_nan=False)

    def to_measurements(self) -> dict[str, Any]:
        """Return the ``machine_measurements`` field: fourteen time-ordered sequences per lead, after the GEM paper."""
        # By name: export builds on these classes, and only this convenience reaches up to it.
        return import_module("gem_lightning.features.export").to_measurements(self)


@dataclass(frozen=True)
class Finding:
    """One statement about the record with what it rests on.

    Attributes:
        code: A name of the lexicon, such as ``av_block_1``.
        statement: As text, such as "first-degree AV block".
        evidence: Measured values by name, with units in the names.
        threshold: The criterion as text with its numbers.
        source: Where the threshold comes from.
        certainty: ``definite``, ``probable`` or ``possible``.
        leads: Leads concerned, empty where the finding is of the whole record.
        snomed: SNOMED CT code as in CinC-2021, or None.
        abnormal: False for normal findings such as sinus rhythm.
        urgent: Needs attention at once by the source that ``criteria.yaml`` names (clear cases only).
    """

    code: str
    statement: str
    evidence: dict[str, Any]
    threshold: str
    source: str
    certainty: str = "definite"
    leads: tuple[str, ...] = ()
    snomed: str | None = None
    abnormal: bool = True
    urgent: bool = False


def checked_age(age: float | None) -> float | None:
    """Validate an age in years.

    Raises:
        GemError: It is not within 0 to 150.
    """
    if age is not None and not 0 <= age <= 150:
        raise GemError(f"expected an age of 0-150 years, got {age}; give None when it is not known")
    return None if age is None else float(age)


def checked_sex(sex: str | None) -> str | None:
    """Return ``M``, ``F`` or None from a text that begins with one of these letters.

    Raises:
        GemError: It begins with another letter.
    """
    letter = sex.strip()[:1].upper() if sex else ""
    if letter not in ("", "M", "F"):
        raise GemError(f"expected sex 'M', 'F' or None, got {sex!r}; give None when it is not known")
    return letter or None


def plain(value: Any) -> Any:
    """Convert numpy and dataclass values to JSON-ready Python; numbers rounded to 4 decimals, NaN as None."""
    if isinstance(value, (float, np.floating)):  # first: most values are
        return round(float(value), 4) if math.isfinite(value) else None
    if isinstance(value, BeatTable):
        return [{**row, "time_s": plain(row["time_s"])} for row in value]  # its rows are plain but for the time
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f" and value.ndim == 1:  # as above, without a call for each of thousands of numbers
            return [round(v, 4) if math.isfinite(v) else None for v in value.tolist()]
        return [plain(v) for v in value.tolist()]
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    return value
