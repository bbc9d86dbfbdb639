"""Intraventricular conduction, frontal axis and QT."""

from __future__ import annotations

from gem_lightning.features.criteria.base import Case, downward, limits, upward, value
from gem_lightning.features.schema import LeadFeatures


def conduction_rules(case: Case) -> None:
    """State axis, bundle branch and fascicular blocks, pre-excitation and QT findings."""
    if not case.has("paced_rhythm"):
        axis(case)
        pre_excitation(case)
        if not case.has("pre_excitation"):
            bundle_branches(case)
            fascicles(case)
    width(case)
    corrected_qt(case)


def axis(case: Case) -> None:
    """Direction of the QRS in the frontal plane."""
    angle = case.features.axis_deg.get("QRS")
    if angle is None:
        return
    if angle < limits("extreme_axis_deviation")["high"]:
        code = "extreme_axis_deviation"
    elif angle < limits("left_axis_deviation")["high"]:
        code = "left_axis_deviation"
    else:
        code = "right_axis_deviation" if angle > limits("right_axis_deviation")["low"] else "normal_axis"
    case.state(code, {"qrs_axis_deg": angle})


def pre_excitation(case: Case) -> None:
    """Short PR with a delta wave."""
    rule, features = limits("pre_excitation"), case.features
    slurred = tuple(name for name, lead in features.leads.items() if "delta" in lead.qrs_notes)
    if features.pr_ms is None or features.qrs_ms is None:
        return
    if features.pr_ms < rule["pr"] and features.qrs_ms > rule["qrs"] and len(slurred) >= rule["leads"]:
        evidence = {"pr_ms": features.pr_ms, "qrs_ms": features.qrs_ms}
        case.state("pre_excitation", evidence, "probable", leads=slurred)


def right_form(case: Case) -> tuple[str, ...]:
    """V1 or V2 where the QRS ends with an R wave as in right bundle branch block."""
    rule = limits("rbbb")
    six, one = case.lead("V6"), case.lead("I")
    late_s = [value(lead.s_ms) >= rule["s"] or value(lead.s_ms) > value(lead.r_ms) for lead in (one, six)]
    if not all(late_s):
        return ()
    shown = []
    for name in ("V1", "V2"):
        lead = case.lead(name)
        broad_r = upward(lead) > 2 * downward(lead) and "notched" in lead.qrs_notes
        if value(lead.r2_mv) >= min(max(value(lead.r_mv), 0.1), 0.3) or broad_r:
            shown.append(name)
    return tuple(shown)


def minnesota_form(case: Case) -> tuple[str, ...]:
    """V1 or V2 where R' is taller than R, as in the Minnesota code's incomplete right bundle branch block."""
    least = limits("incomplete_rbbb")["r_prime"]
    leads = ((name, case.lead(name)) for name in ("V1", "V2"))
    return tuple(n for n, lead in leads if value(lead.r2_mv) >= least and value(lead.r2_mv) > value(lead.r_mv))


def strauss_form(case: Case) -> bool:
    """Strauss' left bundle branch block: long, rS or QS in V1 and V2, notched in two leads; Q waves may remain."""
    rule, qrs = limits("lbbb"), value(case.features.qrs_ms)
    notched = [n for n in ("I", "aVL", "V1", "V2", "V5", "V6") if split(case.lead(n))]
    septal = all(downward(case.lead(n)) > 2 * upward(case.lead(n)) for n in ("V1", "V2"))
    return septal and len(notched) >= rule["leads"] and qrs >= rule["strict_f" if case.sex == "F" else "strict_m"]


def split(lead: LeadFeatures) -> bool:
    """Whether an upright complex has two peaks."""
    return upward(lead) > downward(lead) and ("notched" in lead.qrs_notes or value(lead.r2_mv) > 0)


def left_form(case: Case) -> bool:
    """Form of left bundle branch block: no Q in I and V6, late R peak laterally, hardly any R in V1."""
    rule = limits("lbbb")
    lateral = [case.lead(n) for n in ("I", "V5", "V6")]
    no_q = all(value(case.lead(n).q_mv) < rule["q"] for n in ("I", "V6"))
    late = any(upward(x) > downward(x) and value(x.r_peak_ms) > rule["r_peak"] for x in lateral)
    return no_q and late and downward(case.lead("V1")) > 2 * upward(case.lead("V1"))


def bundle_branches(case: Case) -> None:
    """Complete and incomplete bundle branch block, or nonspecific delay."""
    qrs = case.features.qrs_ms
    if qrs is None:
        return
    evidence = {"qrs_ms": qrs}
    right, left, narrow = right_form(case), left_form(case), minnesota_form(case)
    if (qrs >= limits("lbbb")["qrs"] and left) or (strauss_form(case) and not right):
        case.state("lbbb", evidence)
    elif qrs >= limits("rbbb")["qrs"] and right:
        case.state("rbbb", evidence, leads=right)
    elif qrs >= limits("incomplete_rbbb")["low"] and right:
        case.state("incomplete_rbbb", evidence, leads=right)
    elif qrs >= limits("incomplete_lbbb")["low"] and left and upward(case.lead("V6")) > downward(case.lead("V6")):
        case.state("incomplete_lbbb", evidence, "possible")
    elif qrs >= limits("ivcd")["qrs"]:
        case.state("ivcd", evidence)
    elif narrow:
        case.state("incomplete_rbbb", evidence, "possible", leads=narrow)
    elif right:
        case.state("rsr_prime", evidence, leads=right)


def fascicles(case: Case) -> None:
    """Left anterior and left posterior fascicular block."""
    angle, qrs = case.features.axis_deg.get("QRS"), case.features.qrs_ms
    if angle is None or qrs is None or case.has("lbbb"):
        return
    front, back, first = limits("lafb"), limits("lpfb"), case.lead("V1")
    if qrs >= front["qrs"] and not case.has("rbbb"):
        return
    high = case.lead("aVL")
    evidence = {"qrs_axis_deg": angle, "qrs_ms": qrs, "r_peak_aVL_ms": high.r_peak_ms}
    leftward = q_then_r(high) and value(high.r_peak_ms) >= front["r_peak"]
    if front["axis_low"] <= angle <= front["axis_high"] and leftward:
        case.state("lafb", evidence)
    rightward = all(0 < value(case.lead(n).r_mv) < value(case.lead(n).s_mv) for n in ("I", "aVL"))
    rightward = rightward and all(q_then_r(case.lead(n)) for n in ("III", "aVF"))
    dominant = upward(first) > downward(first) and not case.has("rbbb")
    if back["axis_low"] < angle <= back["axis_high"] and rightward and not dominant:
        case.state("lpfb", {"qrs_axis_deg": angle, "qrs_ms": qrs}, "possible")


def q_then_r(lead: LeadFeatures) -> bool:
    """A qR complex: a Q wave and a taller R wave, which also exceeds what follows it."""
    return 0 < value(lead.q_mv) < value(lead.r_mv) and value(lead.r_mv) > value(lead.s_mv)


def width(case: Case) -> None:
    """QRS wide or narrow."""
    qrs = case.features.qrs_ms
    if qrs is None:
        return
    if qrs >= limits("wide_qrs")["qrs"]:
        case.state("wide_qrs", {"qrs_ms": qrs})
    elif qrs <= limits("narrow_qrs")["qrs"]:
        case.state("narrow_qrs", {"qrs_ms": qrs})


def corrected_qt(case: Case) -> None:
    """QTc long, short or normal by Fridericia's formula; AHA part IV advises against Bazett's at other rates."""
    qtc = case.features.qtc_ms.get("fridericia")
    if qtc is None:
        return
    evidence = {"qtc_fridericia_ms": qtc, "qtc_bazett_ms": case.features.qtc_ms.get("bazett"),
                "qt_ms": case.features.qt_ms}  # fmt: skip
    rule = limits("long_qtc")
    high = rule["m"] if case.sex == "M" else rule["f"]
    if qtc >= high:
        sure = case.features.qrs_ms is not None and case.features.qrs_ms < limits("wide_qrs")["qrs"]
        case.state("long_qtc", evidence, "definite" if sure else "possible")
    elif qtc <= limits("short_qtc")["high"]:
        case.state("short_qtc", evidence)
    else:
        case.state("normal_qtc", evidence)
