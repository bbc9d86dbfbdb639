"""How clearly a finding's criterion is met: one number that compose and verify share.

A margin of 0 or more meets the criterion; below -1 it is clearly missed; between, the measurement is too near the
criterion to say. The unit of a margin is half the tolerance of the number behind it (``tolerance.py``): a word rests on
a median over beats, a number in a text on one reading.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gem_lightning.features.schema import EcgFeatures, LeadFeatures

LIMB = ("I", "II", "III", "aVR", "aVL", "aVF")
PRECORDIAL = ("V1", "V2", "V3", "V4", "V5", "V6")

BAND_MS, BAND_QT_MS, BAND_MV, BAND_DEG, BAND_BPM = 10.0, 13.0, 0.025, 5.0, 1.5


class Margin(NamedTuple):
    """How far a measurement lies beyond a criterion.

    Attributes:
        value: In bands; >= 0 meets the criterion, <= -1 clearly misses it.
        measured: What was measured.
        criterion: The criterion in words.
        unit: Of ``measured``.
    """

    value: float
    measured: float | str | None
    criterion: str
    unit: str = ""


def st_threshold(lead: str) -> float:
    """J-point elevation that counts, mV: 0.2 in V2-V3, 0.1 elsewhere (Fourth Universal Definition of MI, men >= 40)."""
    return 0.2 if lead in ("V2", "V3") else 0.1


def lead_margin(features: EcgFeatures, code: str, lead: str) -> Margin | None:
    """Margin of a finding in one lead; None where the lead cannot be judged for it."""
    check = _LEAD_CHECKS.get(code)
    row = features.leads.get(lead)
    if check is None or row is None or row.trust <= 0:
        return None
    return check(features, row, lead)


def record_margin(features: EcgFeatures, code: str) -> Margin | None:
    """Margin of a finding in the whole record; None where no measurement alone decides it."""
    if code in _RECORD_CHECKS:
        return _RECORD_CHECKS[code](features)
    if code in _LEAD_CHECKS:
        return _two_leads(features, code)
    return None


def _two_leads(features: EcgFeatures, code: str) -> Margin | None:
    """The second-best lead: a territory needs two; aVR, where T is inverted in health, does not count."""
    leads = ("V1", "V2") if code == "rsr_prime" else tuple(lead for lead in LIMB + PRECORDIAL if lead != "aVR")
    if code in ("t_inversion", "t_flat"):
        leads = tuple(lead for lead in leads if lead not in ("III", "V1"))
    margins = [m for lead in leads if (m := lead_margin(features, code, lead)) is not None]
    if not margins:
        return None
    margins.sort(key=lambda m: m.value, reverse=True)
    return margins[0] if code == "rsr_prime" or len(margins) == 1 else margins[1]


def _st_elevation(features: EcgFeatures, row: LeadFeatures, lead: str) -> Margin | None:
    level = features.st_mv.get(lead, {}).get("J")
    limit = st_threshold(lead)
    return level if level is None else Margin((level - limit) / BAND_MV, level, f"J point >= {limit} mV", "mV")


def _st_depression(features: EcgFeatures, row: LeadFeatures, lead: str) -> Margin | None:
    level = features.st_mv.get(lead, {}).get("J")
    return level if level is None else Margin((-0.05 - level) / BAND_MV, level, "J point <= -0.05 mV", "mV")


def _t_inversion(features: EcgFeatures, row: LeadFeatures, lead: str) -> Margin | None:
    if row.t_mv is None:
        return None
    value = (-0.05 - row.t_mv) / BAND_MV
    if row.t_form == "biphasic":
        value = max(value, -0.5)
    return Margin(value, row.t_mv, "T <= -0.05 mV", "mV")


def _t_flat(features: EcgFeatures, row: LeadFeatures, lead: str) -> Margin | None:
    if row.t_mv is None:
        return Margin(0.0, "absent", "|T| < 0.1 mV", "mV")
    return Margin((0.1 - abs(row.t_mv)) / BAND_MV, row.t_mv, "|T| < 0.1 mV", "mV")


def _t_peaked(features: EcgFeatures, row: LeadFeatures, lead: str) -> Margin | None:
    limit = 1.0 if lead in PRECORDIAL else 0.5
    return None if row.t_mv is None else Margin((row.t_mv - limit) / BAND_MV, row.t_mv, f"T > {limit} mV", "mV")


def _pathological_q(features: EcgFeatures, row: LeadFeatures, lead: str) -> Margin | None:
    if row.qrs_form is None and row.r_mv is None:
        return None
    if row.qrs_form is not None and row.qrs_form.upper().startswith("QS"):
        return Margin(1.0, "QS", "QS, or Q >= 30 ms and >= 0.1 mV")
    if not row.q_mv or not row.q_ms:
        return Margin(-9.0, "no Q", "QS, or Q >= 30 ms and >= 0.1 mV")
    value = min((row.q_ms - 30.0) / BAND_MS, (row.q_mv - 0.1) / BAND_MV)
    return Margin(value, round(row.q_ms), "QS, or Q >= 30 ms and >= 0.1 mV", "ms")


def _rsr_prime(features: EcgFeatures, row: LeadFeatures, lead: str) -> Margin | None:
    if row.qrs_form is None:
        return None
    met = bool(row.r2_mv) or "'" in row.qrs_form or "′" in row.qrs_form
    return Margin(1.0 if met else -9.0, row.qrs_form, "a second R wave (R')")


def _above(value: float | None, limit: float, band: float, text: str, unit: str) -> Margin | None:
    return None if value is None else Margin((value - limit) / band, value, text, unit)


def _below(value: float | None, limit: float, band: float, text: str, unit: str) -> Margin | None:
    return None if value is None else Margin((limit - value) / band, value, text, unit)


def _within(value: float | None, low: float, high: float, band: float, text: str, unit: str) -> Margin | None:
    return None if value is None else Margin(min(value - low, high - value) / band, value, text, unit)


def _qtc(features: EcgFeatures) -> float | None:
    return features.qtc_ms.get("bazett")


def _axis(features: EcgFeatures) -> float | None:
    return features.axis_deg.get("QRS")


def _left_axis(features: EcgFeatures) -> Margin | None:
    axis = _axis(features)
    return _within(axis, -120.0, -30.0, BAND_DEG, "QRS axis from -30 to -90 degrees", "deg")


def _right_axis(features: EcgFeatures) -> Margin | None:
    axis = _axis(features)
    turned = axis if axis is None or axis > -120 else axis + 360.0
    margin = _within(turned, 90.0, 240.0, BAND_DEG, "QRS axis from 90 to 180 degrees", "deg")
    return margin and margin._replace(measured=axis)


def _p_absent(features: EcgFeatures) -> Margin | None:
    share = features.rhythm.p_per_qrs
    return _below(share, 0.3, 0.4, "P waves before fewer than 30 % of the beats", "")


def _regular(features: EcgFeatures) -> Margin | None:
    rhythm = features.rhythm
    if rhythm.regular is None:
        return None
    return Margin(1.0 if rhythm.regular else -9.0, rhythm.rr_cv, "RR intervals vary little")


def _irregular(features: EcgFeatures) -> Margin | None:
    regular = _regular(features)
    return regular and regular._replace(value=-9.0 if regular.value > 0 else 1.0, criterion="RR intervals vary")


def _poor_progression(features: EcgFeatures) -> Margin | None:
    row = features.leads.get("V3")
    return _below(row.r_mv if row else None, 0.3, BAND_MV, "R in V3 <= 0.3 mV", "mV")


def _low_voltage(features: EcgFeatures) -> Margin | None:
    values = []
    for names, limit in ((LIMB, 0.5), (PRECORDIAL, 1.0)):
        sizes = [row.qrs_mv for name in names if (row := features.leads.get(name)) and row.qrs_mv is not None]
        if len(sizes) == len(names):
            values.append((limit - max(sizes), max(sizes)))
    if not values:
        return None
    gap, size = max(values)
    return Margin(gap / BAND_MV, size, "QRS < 0.5 mV in every limb lead or < 1 mV in every precordial lead", "mV")


_LEAD_CHECKS: dict[str, Callable[[EcgFeatures, LeadFeatures, str], Margin | None]] = {
    "st_elevation": _st_elevation,
    "st_depression": _st_depression,
    "t_inversion": _t_inversion,
    "t_flat": _t_flat,
    "t_peaked": _t_peaked,
    "pathological_q": _pathological_q,
    "rsr_prime": _rsr_prime,
}
_RECORD_CHECKS: dict[str, Callable[[EcgFeatures], Margin | None]] = {
    "p_absent": _p_absent,
    "regular_rhythm": _regular,
    "irregular_rhythm": _irregular,
    "poor_r_progression": _poor_progression,
    "low_voltage": _low_voltage,
    "normal_axis": lambda f: _within(_axis(f), -30.0, 90.0, BAND_DEG, "QRS axis from -30 to 90 degrees", "deg"),
    "left_axis_deviation": _left_axis,
    "right_axis_deviation": _right_axis,
    "narrow_qrs": lambda f: _below(f.qrs_ms, 120.0, BAND_MS, "QRS < 120 ms", "ms"),
    "wide_qrs": lambda f: _above(f.qrs_ms, 120.0, BAND_MS, "QRS >= 120 ms", "ms"),
    "normal_pr": lambda f: _within(f.pr_ms, 120.0, 200.0, BAND_MS, "PR from 120 to 200 ms", "ms"),
    "prolonged_pr": lambda f: _above(f.pr_ms, 200.0, BAND_MS, "PR > 200 ms", "ms"),
    "normal_qtc": lambda f: _within(_qtc(f), 350.0, 450.0, BAND_QT_MS, "QTc from 350 to 450 ms (Bazett)", "ms"),
    "long_qtc": lambda f: _above(_qtc(f), 450.0, BAND_QT_MS, "QTc > 450 ms (Bazett)", "ms"),
    "short_qtc": lambda f: _below(_qtc(f), 350.0, BAND_QT_MS, "QTc < 350 ms (Bazett)", "ms"),
}


def is_clear(margin: Margin | None, met: bool) -> bool:
    """The criterion is met (or clearly missed) by at least one band, so that no reader would doubt it."""
    if margin is None or math.isnan(margin.value):
        return False
    return margin.value >= 1.0 if met else margin.value <= -1.0
