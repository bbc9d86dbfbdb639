"""Chambers and myocardium: hypertrophy, voltage, ST-T changes, Q waves and infarction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import ge, gt

from gem_lightning.features.criteria.base import CHEST, LIMB, Case, criteria, downward, limits, upward, value
from gem_lightning.features.measurement.axes import s_depth
from gem_lightning.features.schema import LeadFeatures

# Neighbours on the chest that belong to two territories; on their own they count as anterior.
BORDERS = {("V2", "V3"): {"septal", "anterior"}, ("V4", "V5"): {"anterior", "lateral"}}


def muscle_rules(case: Case) -> None:
    """State hypertrophy, voltage, ST, T and Q findings."""
    abnormal_activation = case.has("paced_rhythm", "lbbb", "pre_excitation")
    atria(case)
    low_voltage(case)
    if not abnormal_activation:
        hypertrophy(case)
        q_waves(case)
        r_progression(case)
    st_segments(case)
    t_waves(case)
    if not abnormal_activation:
        infarction(case)
        benign_elevation(case)


def contiguous(case: Case, shows: Callable[[str, LeadFeatures], bool], count: int) -> dict[str, tuple[str, ...]]:
    """Territories with at least ``count`` leads that show something; chest leads also count across a border."""
    found = {}
    for territory, names in criteria()["territories"].items():
        leads = tuple(n for n in names if n in case.features.leads and shows(n, case.lead(n)))
        if len(leads) >= count:
            found[territory] = leads
    for pair, sides in BORDERS.items():
        if not sides & set(found) and all(shows(n, case.lead(n)) for n in pair):
            found["anterior"] = pair
    return found


def _in(territory: str, leads: Iterable[str]) -> str:
    return f"in {territory} leads {', '.join(leads)}"


def atria(case: Case) -> None:
    """Left and right atrial enlargement."""
    left, right = limits("left_atrial_enlargement"), limits("right_atrial_enlargement")
    if not case.has("sinus_rhythm", "sinus_bradycardia", "sinus_tachycardia"):
        return
    p_ms, first = case.features.p_ms, case.lead("V1")
    biphasic = first.p_form in ("biphasic", "inverted")
    if p_ms is not None and p_ms >= left["p"]:
        case.state("left_atrial_enlargement", {"p_ms": p_ms}, "probable" if biphasic else "possible")
    tall: dict[str, float] = {
        n: value(case.lead(n).p_mv) for n in ("II", "III", "aVF") if value(case.lead(n).p_mv) > right["p_ii"]
    }
    tall |= {n: value(case.lead(n).p_mv) for n in ("V1", "V2") if value(case.lead(n).p_mv) > right["p_v1"]}
    if tall:
        case.state("right_atrial_enlargement", {f"p_{n}_mv": v for n, v in tall.items()}, "probable", tuple(tall))


def hypertrophy(case: Case) -> None:
    """Left and right ventricular hypertrophy."""
    rule, sums = limits("lvh"), case.features.voltages_mv
    female = case.sex == "F"
    cornell = value(sums.get("cornell"))
    # The product takes a long QRS for muscle, which in a bundle branch block it is not.
    product = 0.0 if case.has("rbbb") else (cornell + 0.6 * female) * value(case.features.qrs_ms)
    one, three = case.lead("I"), case.lead("III")
    lewis = upward(one) + s_depth(three) - s_depth(one) - upward(three)
    met = {
        "sokolow_lyon_mv": (value(sums.get("sokolow_lyon")), ge, rule["sokolow"]),
        "r_avl_mv": (value(sums.get("sokolow_lyon_avl")), gt, rule["avl"]),
        "cornell_mv": (cornell, gt, rule["cornell_f" if female else "cornell_m"]),
        "cornell_product_mv_ms": (product, gt, rule["product"]),
        "lewis_mv": (lewis, ge, rule["lewis"]),
        "peguero_mv": (value(sums.get("peguero")), ge, rule["peguero_f" if female else "peguero_m"]),
    }
    evidence = {name: number for name, (number, reaches, limit) in met.items() if reaches(number, limit)}
    points = romhilt_estes(case)
    if points >= rule["points"]:
        evidence["romhilt_estes_points"] = float(points)
    if evidence and not (case.age is not None and case.age < 18):
        case.state("lvh", evidence, "probable" if len(evidence) > 1 else "possible")
    rule, first, angle = limits("rvh"), case.lead("V1"), case.features.axis_deg.get("QRS")
    dominant = upward(first) >= rule["r_v1"] and upward(first) > s_depth(first)
    right = angle is not None and angle > rule["axis"]
    if (dominant or value(sums.get("rvh")) > rule["sum"]) and right and not case.has("rbbb"):
        shown = {"r_v1_mv": upward(first), "rvh_sum_mv": sums.get("rvh"), "qrs_axis_deg": angle}
        case.state("rvh", shown, "probable")


def romhilt_estes(case: Case) -> int:
    """Romhilt and Estes' point score (1968); 4 points are probable hypertrophy, none are given in a bundle block.

    Without the point for an intrinsicoid deflection of 50 ms: that limit lies amid healthy values.
    """
    if case.has("rbbb"):
        return 0
    voltage = max(max(upward(case.lead(n)), s_depth(case.lead(n))) for n in LIMB)
    chest = max(s_depth(case.lead("V1")), s_depth(case.lead("V2")), upward(case.lead("V5")), upward(case.lead("V6")))
    strain = any(value(case.lead(n).t_mv) < -0.1 and upward(case.lead(n)) >= 0.5 for n in ("V5", "V6"))
    angle = case.features.axis_deg.get("QRS")
    points = 3 * (voltage >= 2.0 or chest >= 3.0) + 3 * strain + 3 * case.has("left_atrial_enlargement")
    points += 2 * (angle is not None and angle <= -30)
    return points + (value(case.features.qrs_ms) >= 90)


def low_voltage(case: Case) -> None:
    """Small QRS complexes in all limb or all precordial leads."""
    rule = limits("low_voltage")
    for group, names, limit in (("limb", LIMB, rule["limb"]), ("precordial", CHEST, rule["chest"])):
        heights = [case.lead(n).qrs_mv for n in names]
        if all(h is not None and h < limit for h in heights):
            evidence = {f"largest_{group}_mv": max(h for h in heights if h is not None)}
            case.state("low_voltage", evidence, leads=names, statement=f"low QRS voltage in {group} leads")


def elevated(case: Case, name: str) -> bool:
    """Whether the J point of a lead reaches its threshold."""
    rule = limits("st_elevation")
    level = value(case.features.st_mv.get(name, {}).get("J"))
    if name in ("V2", "V3"):
        if case.sex == "F":
            return level >= rule["f"]
        young = case.age is not None and case.age < rule["age"]
        return level >= (rule["young_m"] if young else rule["old_m"])
    return name != "aVR" and level >= rule["other"]


def depressed(case: Case, name: str) -> bool:
    """Whether the ST segment of a lead is depressed and not upsloping."""
    points, limit = case.features.st_mv.get(name, {}), limits("st_depression")["level"]
    return value(points.get("J")) <= -limit and value(points.get("J80")) <= -limit


def st_segments(case: Case) -> None:
    """ST elevation, ST depression and reciprocal change by territory."""
    st = case.features.st_mv
    secondary = case.has("lbbb", "rbbb", "paced_rhythm", "pre_excitation")
    up = contiguous(case, lambda n, _: elevated(case, n), limits("st_elevation")["leads"])
    down = contiguous(case, lambda n, _: depressed(case, n), limits("st_depression")["leads"])
    for code, found in (("st_elevation", up), ("st_depression", down)):
        for territory, leads in found.items():
            evidence = {f"st_j_{n}_mv": st[n]["J"] for n in leads}
            words = f"{criteria()['findings'][code]['statement']} {_in(territory, leads)}"
            case.state(code, evidence, "possible" if secondary else "definite", leads, words)
    for territory in up:
        mirror = tuple(n for n in criteria()["reciprocal"][territory] if depressed(case, n))
        if mirror:
            evidence = {f"st_j_{n}_mv": st[n]["J"] for n in mirror}
            words = f"reciprocal ST depression {_in(f'the leads opposite to {territory}:', mirror)}".replace(
                ": leads", ":"
            )
            case.state("reciprocal_change", evidence, "probable", mirror, words)


def t_waves(case: Case) -> None:
    """Inverted, flat and peaked T waves."""
    rule = limits("t_inversion")

    def inverted(name: str, lead: LeadFeatures) -> bool:
        prominent = upward(lead) >= 0.3 or upward(lead) > downward(lead)
        return name not in ("aVR", "V1") and value(lead.t_mv) < -rule["level"] and prominent

    secondary = case.has("lbbb", "rbbb", "paced_rhythm", "pre_excitation")
    for territory, leads in contiguous(case, inverted, rule["leads"]).items():
        evidence = {f"t_{n}_mv": case.lead(n).t_mv for n in leads}
        words = f"T wave inversion {_in(territory, leads)}"
        case.state("t_inversion", evidence, "possible" if secondary else "definite", leads, words)
    rule = limits("t_flat")
    flat = [n for n in ("I", "II", "V3", "V4", "V5", "V6") if case.lead(n).t_mv is not None
            and abs(value(case.lead(n).t_mv)) < rule["level"] and upward(case.lead(n)) >= rule["r"]]  # fmt: skip
    if len(flat) >= rule["leads"]:
        case.state("t_flat", {f"t_{n}_mv": case.lead(n).t_mv for n in flat}, leads=tuple(flat))
    rule = limits("t_peaked")
    tall = [n for n in (*LIMB, *CHEST) if value(case.lead(n).t_mv) > rule["limb" if n in LIMB else "chest"]]
    if len(tall) >= rule["leads"] and not secondary:
        case.state("t_peaked", {f"t_{n}_mv": case.lead(n).t_mv for n in tall}, "possible", tuple(tall))


def q_waves(case: Case) -> None:
    """Pathological Q waves and QS complexes by territory."""
    rule = limits("pathological_q")

    def pathological(name: str, lead: LeadFeatures) -> bool:
        if name in ("aVR", "V1"):
            return name == "V1" and lead.qrs_form == "QS"
        if lead.qrs_form == "QS":
            return True
        if name in ("V2", "V3"):
            return value(lead.q_ms) >= rule["v23"]
        return value(lead.q_ms) >= rule["ms"] and value(lead.q_mv) >= rule["mv"]

    for territory, leads in contiguous(case, pathological, rule["leads"]).items():
        evidence = {f"q_{n}_ms": case.lead(n).q_ms for n in leads} | {f"q_{n}_mv": case.lead(n).q_mv for n in leads}
        case.state("pathological_q", evidence, "definite", leads, f"pathological Q waves {_in(territory, leads)}")


def r_progression(case: Case) -> None:
    """R waves that fail to grow across the chest."""
    third = case.lead("V3")
    if third.qrs_mv is None or case.has("rvh", "lafb", "low_voltage"):
        return
    if value(third.r_mv) <= limits("poor_r_progression")["r_v3"] and upward(third) < downward(third):
        evidence = {"r_v3_mv": value(third.r_mv), "transition": case.features.transition}
        case.state("poor_r_progression", evidence, leads=("V1", "V2", "V3"))


def infarction(case: Case) -> None:
    """Infarction by territory, from Q waves or from ST elevation with reciprocal change."""
    for territory in criteria()["territories"]:
        names = set(criteria()["territories"][territory])

        def of(code: str, names: set[str] = names, border: bool = territory == "anterior") -> tuple[str, ...]:
            shown = (f.leads for f in case.found if f.code == code)
            return tuple(n for leads in shown if set(leads) <= names or (border and leads in BORDERS) for n in leads)

        q, st = of("pathological_q"), of("st_elevation")
        if len(q) >= 2:
            case.state(f"mi_{territory}", {"q_leads": list(q)}, "probable" if st else "possible", q)
        elif len(st) >= 2 and case.has("reciprocal_change"):
            case.state(f"mi_{territory}", {"st_elevation_leads": list(st)}, "probable", st)


def benign_elevation(case: Case) -> None:
    """Early repolarization and pericarditis: elevation without a mirror image."""
    if case.has("reciprocal_change", "mi_inferior", "mi_lateral", "mi_anterior", "mi_septal"):
        return
    st = case.features.st_mv
    spread, early = limits("pericarditis"), limits("early_repolarization")
    raised = tuple(n for n in st if n not in ("aVR", "V1") and value(st[n]["J"]) >= spread["level"])
    groups = [g for g in ("inferior", "lateral", "anterior") if set(criteria()["territories"][g]) & set(raised)]
    down = [n for n in st if depressed(case, n) and n not in ("aVR", "V1")]
    if len(raised) >= spread["leads"] and len(groups) >= 3 and not down:
        case.state("pericarditis", {f"st_j_{n}_mv": st[n]["J"] for n in raised}, "possible", raised)
    if case.features.qrs_ms is None or case.features.qrs_ms >= early["qrs"]:
        return

    def lifted(name: str, lead: LeadFeatures) -> bool:
        raised = name not in ("aVR", "V1", "V2", "V3") and value(st.get(name, {}).get("J")) >= early["level"]
        return raised and not value(lead.s_mv) and lead.st_form in ("concave", "upsloping")

    shown = tuple(n for leads in contiguous(case, lifted, early["leads"]).values() for n in leads)
    if shown and not case.has("t_inversion"):
        case.state("early_repolarization", {f"st_j_{n}_mv": st[n]["J"] for n in shown}, "possible", shown)
