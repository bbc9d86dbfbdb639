"""How clearly a finding's criterion is met: one number that compose and verify share.

A margin of 0 or more meets the criterion; below -1 it is clearly missed; between, the measurement is too near the
criterion to say. Criteria and their sources are those of ``features/criteria/criteria.yaml``. The unit of a margin is
half the tolerance of the number behind it (``claims/tolerance.py``): a word rests on a median over beats, a number in a
text on one reading.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from gem_lightning.features.criteria.base import limits

if TYPE_CHECKING:
    from gem_lightning.features.schema import EcgFeatures, LeadFeatures

LIMB = ("I", "II", "III", "aVR", "aVL", "aVF")
PRECORDIAL = ("V1", "V2", "V3", "V4", "V5", "V6")

BAND_MS, BAND_QT_MS, BAND_MV, BAND_DEG, BAND_CV = 10.0, 13.0, 0.025, 5.0, 0.02


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
    rule = limits("st_elevation")
    limit = rule["old_m"] if lead in ("V2", "V3") else rule["other"]
    return _above(features.st_mv.get(lead, {}).get("J"), limit, BAND_MV, f"J point >= {limit} mV", "mV")


def _st_depression(features: EcgFeatures, row: LeadFeatures, lead: str) -> Margin | None:
    limit = -limits("st_depression")["level"]
    return _below(features.st_mv.get(lead, {}).get("J"), limit, BAND_MV, f"J point <= {limit} mV", "mV")


def _t_inversion(features: EcgFeatures, row: LeadFeatures, lead: str) -> Margin | None:
    margin = _below(row.t_mv, -0.05, BAND_MV, "T <= -0.05 mV", "mV")
    if margin is not None and row.t_form == "biphasic":
        return margin._replace(value=max(margin.value, -0.5))
    return margin


def _t_flat(features: EcgFeatures, row: LeadFeatures, lead: str) -> Margin | None:
    if row.t_mv is None:
        return Margin(0.0, "absent", "|T| < 0.1 mV", "mV")
    return Margin((0.1 - abs(row.t_mv)) / BAND_MV, row.t_mv, "|T| < 0.1 mV", "mV")


def _t_peaked(features: EcgFeatures, row: LeadFeatures, lead: str) -> Margin | None:
    limit = limits("t_peaked")["chest" if lead in PRECORDIAL else "limb"]
    return _above(row.t_mv, limit, BAND_MV, f"T > {limit} mV", "mV")


def _pathological_q(features: EcgFeatures, row: LeadFeatures, lead: str) -> Margin | None:
    rule = limits("pathological_q")
    words = f"QS, or Q >= {rule['ms']} ms and >= {rule['mv']} mV (V2-V3: any Q of {rule['v23']} ms)"
    if row.qrs_form is None:
        return None
    if row.qrs_form == "QS":
        return Margin(1.0, "QS", words)
    if not row.q_mv or not row.q_ms:
        return Margin(-9.0, "no Q", words)
    if lead in ("V2", "V3"):
        return Margin((row.q_ms - rule["v23"]) / BAND_MS, round(row.q_ms), words, "ms")
    value = min((row.q_ms - rule["ms"]) / BAND_MS, (row.q_mv - rule["mv"]) / BAND_MV)
    return Margin(value, round(row.q_ms), words, "ms")


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
    return features.qtc_ms.get("fridericia")


def _axis(features: EcgFeatures, low: str | float, high: str | float, code: str, wrap: bool = False) -> Margin | None:
    rule, axis = limits(code), features.axis_deg.get("QRS")
    a, b = (rule[v] if isinstance(v, str) else v for v in (low, high))
    if axis is None:
        return None
    turned = axis + 360.0 if wrap and axis < -90 else axis
    return _within(turned, a, b, BAND_DEG, f"QRS axis {rule['low']} to {rule['high']} degrees", "deg")._replace(  # type: ignore[union-attr]
        measured=axis
    )


def _p_absent(features: EcgFeatures) -> Margin | None:
    limit = limits("p_absent")["p_share"]
    return _below(features.rhythm.p_per_qrs, limit, 0.3, f"P waves before fewer than {limit:.0%} of the beats", "")


def _regular(features: EcgFeatures) -> Margin | None:
    limit = limits("regular_rhythm")["cv"]
    return _below(features.rhythm.rr_cv, limit, BAND_CV, f"RR varies by less than {limit:.0%}", "")


def _irregular(features: EcgFeatures) -> Margin | None:
    limit = limits("irregular_rhythm")["cv"]
    return _above(features.rhythm.rr_cv, limit, BAND_CV, f"RR varies by more than {limit:.0%}", "")


def _poor_progression(features: EcgFeatures) -> Margin | None:
    row, limit = features.leads.get("V3"), limits("poor_r_progression")["r_v3"]
    if row is None or row.qrs_mv is None:
        return None
    margin = Margin((limit - (row.r_mv or 0.0)) / BAND_MV, row.r_mv, f"R in V3 <= {limit} mV and below S", "mV")
    deepest = max(row.s_mv or 0.0, row.q_mv or 0.0)
    return margin._replace(value=min(margin.value, (deepest - (row.r_mv or 0.0)) / BAND_MV))


def _low_voltage(features: EcgFeatures) -> Margin | None:
    rule, values = limits("low_voltage"), []
    for names, limit in ((LIMB, rule["limb"]), (PRECORDIAL, rule["chest"])):
        sizes = [row.qrs_mv for name in names if (row := features.leads.get(name)) and row.qrs_mv is not None]
        if len(sizes) == len(names):
            values.append((limit - max(sizes), max(sizes)))
    if not values:
        return None
    gap, size = max(values)
    words = f"QRS < {rule['limb']} mV in every limb lead or < {rule['chest']} mV in every precordial lead"
    return Margin(gap / BAND_MV, size, words, "mV")


def _lvh(features: EcgFeatures) -> Margin | None:
    rule, sums = limits("lvh"), features.voltages_mv
    named = (
        ("sokolow_lyon", "sokolow"),
        ("cornell", "cornell_m"),
        ("sokolow_lyon_avl", "avl"),
        ("peguero", "peguero_m"),
    )
    margins = [
        Margin((value - rule[limit]) / (2 * BAND_MV), value, f"{name} >= {rule[limit]} mV", "mV")
        for name, limit in named
        if (value := sums.get(name)) is not None
    ]
    return max(margins, default=None)


def _narrow(features: EcgFeatures) -> Margin | None:
    limit = limits("wide_qrs")["qrs"]
    return _below(features.qrs_ms, limit, BAND_MS, f"QRS < {limit} ms", "ms")


def _wide(features: EcgFeatures) -> Margin | None:
    limit = limits("wide_qrs")["qrs"]
    return _above(features.qrs_ms, limit, BAND_MS, f"QRS >= {limit} ms", "ms")


def _normal_pr(features: EcgFeatures) -> Margin | None:
    low, high = limits("normal_pr")["low"], limits("av_block_1")["pr"]
    return _within(features.pr_ms, low, high, BAND_MS, f"PR {low} to {high} ms", "ms")


def _long_pr(features: EcgFeatures) -> Margin | None:
    limit = limits("av_block_1")["pr"]
    return _above(features.pr_ms, limit, BAND_MS, f"PR > {limit} ms", "ms")


def _normal_qtc(features: EcgFeatures) -> Margin | None:
    rule = limits("normal_qtc")
    words = f"QTc {rule['low']} to {rule['m']} ms (Fridericia)"
    return _within(_qtc(features), rule["low"], rule["m"], BAND_QT_MS, words, "ms")


def _long_qtc(features: EcgFeatures) -> Margin | None:
    limit = limits("long_qtc")["m"]
    return _above(_qtc(features), limit, BAND_QT_MS, f"QTc >= {limit} ms (Fridericia)", "ms")


def _short_qtc(features: EcgFeatures) -> Margin | None:
    limit = limits("short_qtc")["high"]
    return _below(_qtc(features), limit, BAND_QT_MS, f"QTc <= {limit} ms (Fridericia)", "ms")


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
    "lvh": _lvh,
    "normal_axis": lambda f: _axis(f, "low", "high", "normal_axis"),
    "left_axis_deviation": lambda f: _axis(f, "low", "high", "left_axis_deviation"),
    "right_axis_deviation": lambda f: _axis(f, "low", 200.0, "right_axis_deviation", wrap=True),
    "extreme_axis_deviation": lambda f: _axis(f, "low", "high", "extreme_axis_deviation"),
    "narrow_qrs": _narrow,
    "wide_qrs": _wide,
    "normal_pr": _normal_pr,
    "prolonged_pr": _long_pr,
    "av_block_1": _long_pr,
    "normal_qtc": _normal_qtc,
    "long_qtc": _long_qtc,
    "short_qtc": _short_qtc,
}


def is_clear(margin: Margin | None, met: bool) -> bool:
    """The criterion is met (or clearly missed) by at least one band, so that no reader would doubt it."""
    if margin is None or math.isnan(margin.value):
        return False
    return margin.value >= 1.0 if met else margin.value <= -1.0
