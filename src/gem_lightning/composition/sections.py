"""Sections of an interpretation, each a list of statements with their claims."""

from __future__ import annotations

from gem_lightning.claims.claim import Claim
from gem_lightning.claims.parser.linking import LEAD_CODES
from gem_lightning.composition.facts import Facts, Stated, Statement, finding_claim, value_claim
from gem_lightning.composition.phrases import Phrases, join, sentence
from gem_lightning.ecg.record import LEADS
from gem_lightning.features.criteria.base import decide, limits
from gem_lightning.features.criteria.summary import READABLE

_AXIS_CODES = ("left_axis_deviation", "right_axis_deviation", "extreme_axis_deviation", "normal_axis")


def leads_of(stated: Stated) -> tuple[str, ...]:
    """Return the leads to name with a finding; blocks and territories carry theirs in the name."""
    return stated.leads if stated.code in LEAD_CODES else ()


def axis_code(facts: Facts) -> str | None:
    """Return the code of the QRS axis, unless it lies too near a limit."""
    return next((code for code in _AXIS_CODES if code in facts and facts.holds(code)), None)


def place(phrases: Phrases, leads: tuple[str, ...]) -> str:
    """Name leads: a span, a group or a list."""
    spans = {("V1", "V2", "V3", "V4", "V5", "V6"): "all precordial leads", ("II", "III", "aVF"): "the inferior leads"}
    spans[("I", "aVL", "V5", "V6")] = "the lateral leads"
    wide = {LEADS: "all leads", LEADS[:6]: "the limb leads"}
    if leads in wide:
        return wide[leads]
    if leads in spans and phrases.random.random() < 0.5:
        return spans[leads]
    first = LEADS.index(leads[0])
    if len(leads) > 2 and leads[0][0] == "V" and leads == LEADS[first : first + len(leads)]:
        return f"{leads[0]}{phrases.pick('–', ' to ', '-', ' through ')}{leads[-1]}"
    return phrases.pick("", "", "leads ") + join(leads)


def amount(
    phrases: Phrases, kind: str, mv: float, leads: tuple[str, ...] = (), name: str | None = None
) -> tuple[str, Claim]:
    """Phrase a voltage in the unit of the text, with its claim."""
    number = round(mv * 10, 1) if phrases.in_mm else round(mv, 2)
    text = f"{abs(number):.1f} mm" if phrases.in_mm else f"{abs(number):.2f} mV"
    value = round(number * 0.1, 6) if phrases.in_mm else number
    return f"{'−' if number < 0 else ''}{text}", value_claim(kind, value, leads, name=name)


def hedged(phrases: Phrases, stated: Stated, term: str) -> str:
    """Return a term with the hedge that the certainty of its finding demands."""
    only = ""
    if stated.code == "lvh" and stated.certainty == "possible":
        scored = set(stated.finding.evidence) <= {"romhilt_estes_points"}
        only = " by the Romhilt-Estes score only" if scored else " by voltage criteria only"
    return phrases.hedge(stated.code, stated.certainty) + term + only


def quality(facts: Facts, phrases: Phrases) -> list[Statement]:
    """State which leads cannot be read."""
    poor = tuple(lead for lead in LEADS if (row := facts.features.leads.get(lead)) and row.trust < READABLE)
    if not poor:
        return []
    return [Statement(f"{join(poor)} cannot be read because of noise.")]


def rhythm(facts: Facts, phrases: Phrases, lean: bool = False) -> list[Statement]:
    """State rhythm, rate, regularity and P waves; ``lean`` leaves out the RR interval, which repeats the rate."""
    rate, code = facts.number("heart_rate"), facts.rhythm
    assert rate is not None
    claims: tuple[Claim, ...] = (value_claim("heart_rate", rate),)
    if code is None:
        text = phrases.pick(f"The ventricular rate is {rate} bpm.", f"Rate {rate}/min.")
        why = "The origin of the rhythm is undetermined."
        statements = [Statement(text, claims), Statement(why)]
    else:
        stated = facts.stated[code]
        term = hedged(phrases, stated, phrases.name(facts.named(code)))
        claim = finding_claim(code, uncertain=stated.uncertain)
        if stated.uncertain:  # the rate is certain, so it stands apart from the hedge
            statements = [
                Statement(sentence(term), (claim,)),
                Statement(f"The ventricular rate is {rate} bpm.", claims),
            ]
        else:
            text = phrases.pick(
                f"{term} at {rate} bpm",
                f"{term} with a ventricular rate of {rate} bpm",
                f"{term}, rate {rate}/min",
                f"{term}, {rate} beats per minute",
                f"the ECG shows {term} at a rate of {rate} bpm",
            )
            statements = [Statement(sentence(text), (claim, *claims))]
    rr = facts.number("rr")
    if "regular_rhythm" in facts:
        statements.append(
            Statement(phrases.pick("The rhythm is regular.", "Regular rhythm."), (finding_claim("regular_rhythm"),))
        )
    elif "irregular_rhythm" in facts:
        text = phrases.pick("The rhythm is irregular.", "The RR intervals are irregular.", "Irregular rhythm.")
        statements.append(Statement(text, (finding_claim("irregular_rhythm"),)))
    steady = rr is not None and abs(60000.0 / rr - rate) < 1.0  # else a reader takes the two for a contradiction
    if rr is not None and steady and not lean and phrases.random.random() < 0.5:
        text = phrases.pick(f"The RR interval is {rr} ms.", f"RR interval {rr} ms.")
        statements.append(Statement(text, (value_claim("rr", rr),)))
    if "p_absent" in facts:
        unseen = "P waves cannot be identified."  # where the rhythm is not known, no more is known of the atria
        named = code not in (None, "undetermined_rhythm")
        text = phrases.pick("No P waves are seen.", "P waves are absent.", "No P waves.", unseen) if named else unseen
        statements.append(Statement(text, (finding_claim("p_absent"),)))
    elif facts.p_waves and facts.holds("sinus_rhythm") and facts.missing("p_absent") and phrases.random.random() < 0.5:
        text = phrases.pick("P waves precede every QRS complex.", "A P wave is visible before each QRS complex.")
        statements.append(Statement(text, (finding_claim("p_absent", negated=True),)))
    return statements


def axis(facts: Facts, phrases: Phrases) -> list[Statement]:
    """State the QRS axis by name and in degrees."""
    degrees, code = facts.number("axis_qrs"), axis_code(facts)
    if degrees is None:
        return []
    number = f"{'−' if degrees < 0 else ''}{abs(degrees)}"
    if code is None:
        text = phrases.pick(f"The QRS axis is {number} degrees.", f"QRS axis {number}°.")
        return [Statement(text, (value_claim("axis_qrs", degrees),))]
    term = phrases.name(code)
    text = phrases.pick(f"{term} ({number}°)", f"{term} at {number} degrees", f"{term}, {number}°")
    return [Statement(sentence(text), (finding_claim(code), value_claim("axis_qrs", degrees)))]


def intervals(facts: Facts, phrases: Phrases) -> list[Statement]:
    """State PR, QRS, QT and QTc with the terms that describe them."""
    pr, qrs, qt, qtc = (facts.number(kind) for kind in ("pr", "qrs", "qt", "qtc"))
    statements = []
    if pr is not None:
        text = phrases.pick(f"The PR interval is {pr} ms", f"PR {pr} ms", f"PR interval of {pr} ms")
        claims = [value_claim("pr", pr)]
        if facts.holds("normal_pr") and "normal_pr" in facts and phrases.random.random() < 0.6:
            text, claims = (
                phrases.pick(f"Normal PR interval ({pr} ms)", f"The PR interval is normal at {pr} ms"),
                [finding_claim("normal_pr"), value_claim("pr", pr)],
            )
        statements.append(Statement(text + ".", tuple(claims)))
    if qrs is not None:
        text, claims = phrases.pick(f"The QRS duration is {qrs} ms", f"QRS {qrs} ms"), [value_claim("qrs", qrs)]
        one_kind = not facts.ventricles_paced  # among paced beats others may stand: the duration alone is stated
        if one_kind and facts.holds("narrow_qrs"):
            text = phrases.pick(f"The QRS is narrow, {qrs} ms", f"Narrow QRS complexes ({qrs} ms)")
            claims = [finding_claim("narrow_qrs"), value_claim("qrs", qrs)]
        elif one_kind and facts.holds("wide_qrs"):
            text = phrases.pick(f"The QRS is wide at {qrs} ms", f"Wide QRS complexes ({qrs} ms)")
            claims = [finding_claim("wide_qrs"), value_claim("qrs", qrs)]
        statements.append(Statement(text + ".", tuple(claims)))
    if qt is not None and qtc is not None:
        text = phrases.pick(
            f"QT {qt} ms, QTc {qtc} ms (Fridericia).",
            f"QT/QTc {qt}/{qtc} ms.",
            f"The QT interval is {qt} ms and the QTc {qtc} ms.",
        )
        statements.append(Statement(text, (value_claim("qt", qt), value_claim("qtc", qtc))))
        if "normal_qtc" in facts and facts.holds("normal_qtc") and phrases.random.random() < 0.4:
            statements.append(Statement("The QTc is within normal limits.", (finding_claim("normal_qtc"),)))
    return statements


def p_wave(facts: Facts, phrases: Phrases, lean: bool = False) -> list[Statement]:
    """State P duration and the amplitude in lead II; ``lean`` only where an atrium is abnormal."""
    if lean and not ("left_atrial_enlargement" in facts or "right_atrial_enlargement" in facts):
        return []
    statements = []
    duration, row = facts.number("p_duration"), facts.features.leads.get("II")
    if duration is not None:
        text = phrases.pick(f"P wave duration {duration} ms.", f"The P wave lasts {duration} ms.")
        statements.append(Statement(text, (value_claim("p_duration", duration),)))
    if (
        facts.to_scale
        and facts.p_waves
        and row is not None
        and row.p_mv is not None
        and row.trust > 0
        and abs(row.p_mv) >= 0.03
    ):
        text, claim = amount(phrases, "p_amplitude", row.p_mv, ("II",))
        statements.append(
            Statement(phrases.pick(f"P wave amplitude {text} in II.", f"The P wave in lead II is {text}."), (claim,))
        )
    return statements


def beats(facts: Facts, phrases: Phrases) -> list[Statement]:
    """State what single beats show: QRS beat by beat, premature beats by their number."""
    table, statements = facts.features.beats, []
    first = [float(v) for v in table.whole.get("qrs_ms", ())[:3]]
    if len(first) == 3 and all(v == v for v in first):
        a, b, c = (round(v) for v in first)
        text = f"QRS {a}, {b} and {c} ms in the first three beats."
        statements.append(Statement(text, tuple(value_claim("qrs", v, beat=i + 1) for i, v in enumerate((a, b, c)))))
    for code, name in (("pvc", "premature_ventricular"), ("pac", "premature_supraventricular")):
        numbers = [i + 1 for i, kind in enumerate(table.beat_class) if kind == name]
        if code in facts and 0 < len(numbers) < 4:
            term = {"pvc": "premature ventricular complexes", "pac": "premature atrial complexes"}[code]
            text = f"Beats {join([str(n) for n in numbers])} are {term}." if len(numbers) > 1 else ""
            text = text or f"Beat {numbers[0]} is a {term[:-2]}."
            statements.append(Statement(text, tuple(finding_claim(code)._replace(beat=n) for n in numbers)))
    return statements


def qrs(facts: Facts, phrases: Phrases, lean: bool = False) -> list[Statement]:
    """State R and S voltages, Q waves, R progression, R' and low voltage; ``lean`` voltages only where they matter."""
    statements = []
    voltages = not lean or any(code in facts for code in ("lvh", "rvh", "low_voltage", "poor_r_progression"))
    for wave, lead in (("s", "V1"), ("r", "V5"), ("r", "aVL")):
        row = facts.features.leads.get(lead)
        value = getattr(row, f"{wave}_mv", None) if row is not None and row.trust > 0 else None
        if not (voltages and facts.to_scale) or value is None or value < 0.1 or phrases.random.random() < 0.3:
            continue
        text, claim = amount(phrases, f"{wave}_amplitude", value, (lead,))
        name = f"{wave.upper()} wave"
        statements.append(
            Statement(phrases.pick(f"The {name} in {lead} is {text}.", f"{name} {text} in {lead}."), (claim,))
        )
    shown = ("pathological_q", "rsr_prime", "poor_r_progression", "low_voltage")
    statements += [_located(facts, phrases, code) for code in shown if code in facts]
    if facts.missing("pathological_q"):
        statements.append(Statement("No pathological Q waves.", (finding_claim("pathological_q", negated=True),)))
    if facts.missing("poor_r_progression") and phrases.random.random() < 0.6:
        text = phrases.pick("Normal R wave progression.", "R wave progression is normal.")
        statements.append(Statement(text, (finding_claim("poor_r_progression", negated=True),)))
    return statements


def _located(facts: Facts, phrases: Phrases, code: str) -> Statement:
    """State a finding with its leads."""
    stated = facts.stated[code]
    leads = leads_of(stated)
    where = f" in {place(phrases, leads)}" if leads else ""
    term = hedged(phrases, stated, phrases.name(code))
    return Statement(sentence(term + where), (finding_claim(code, leads, uncertain=stated.uncertain),))


def st_t(facts: Facts, phrases: Phrases) -> list[Statement]:
    """State ST deviation and T waves: where, how much, or that there is none."""
    statements = []
    absent = [code for code in ("st_elevation", "st_depression") if facts.missing(code)]
    for code in ("st_elevation", "st_depression"):
        if code in facts:
            statements += [_located(facts, phrases, code), *_levels(facts, phrases, code)]
    # a raised ST segment below the criteria is not denied, but measured: one lead beyond its limit is no finding alone
    near = _near_elevation(facts) if "st_elevation" in absent else None
    if near and decide("st_elevation", facts.features, (near[0],)).met is not False:
        absent.remove("st_elevation")
    limit = " by these criteria" if near and "st_elevation" in absent else ""
    if len(absent) == 2:
        text = phrases.pick("No ST elevation or depression", "Neither ST elevation nor ST depression")
        claims = tuple(finding_claim(code, negated=True) for code in absent)
        statements.append(Statement(f"{text}{limit}.", claims))
    elif absent:
        text = f"No {phrases.name(absent[0])}{limit}."
        statements.append(Statement(text, (finding_claim(absent[0], negated=True),)))
    if near:
        level, claim = amount(phrases, "st_level", near[1], (near[0],))
        statements.append(Statement(f"The ST level is {level} in {near[0]}.", (claim,)))
    for code in ("t_inversion", "t_flat", "t_peaked"):
        if code in facts:
            statements.append(_located(facts, phrases, code))
    statements += _secondary(facts, phrases)
    statements += _t_amplitudes(facts, phrases)
    if facts.missing("t_inversion"):
        # upright T waves in aVR, and often in V1, are not what health shows
        clear = tuple(lead for lead in LEADS if lead not in ("aVR", "V1") and _is_upright(facts, lead))
        if len(clear) > 3 and phrases.random.random() < 0.6:
            text = f"T waves are upright in {place(phrases, clear)}."
            statements.append(Statement(text, (finding_claim("t_inversion", clear, negated=True),)))
        else:
            statements.append(Statement("No T wave inversion.", (finding_claim("t_inversion", negated=True),)))
    return statements


RAISED_MV = 0.1  # limb leads' limit of ST elevation (UDMI, table 2): from here on a reader sees a raised ST segment


def _near_elevation(facts: Facts) -> tuple[str, float] | None:
    """Return the lead with the highest ST level at J, mV, where a reader would see it raised."""
    levels = {lead: points.get("J") or 0.0 for lead, points in facts.features.st_mv.items() if lead != "aVR"}
    readable = {lead: mv for lead, mv in levels.items() if facts.features.leads[lead].trust > 0}
    lead = max(readable, key=lambda name: readable[name], default=None)
    if lead is None or not facts.to_scale or "atrial_flutter" in facts or readable[lead] < RAISED_MV:
        return None
    return lead, readable[lead]


def _is_upright(facts: Facts, lead: str) -> bool:
    """Return whether a T wave is upright and too large to be called flat."""
    row = facts.features.leads.get(lead)
    flat = "t_flat" in facts and lead in facts.stated["t_flat"].leads
    shown = row is not None and row.t_form == "upright" and (row.t_mv or 0.0) >= limits("t_flat")["level"]
    return shown and not flat and facts.missing("t_inversion", lead)


def _secondary(facts: Facts, phrases: Phrases) -> list[Statement]:
    """Name the activation or hypertrophy that ST-T changes may follow from."""
    changed = [code for code in ("st_elevation", "st_depression", "t_inversion") if code in facts]
    causes = [code for code in ("paced_rhythm", "lbbb", "pre_excitation", "rbbb", "lvh") if code in facts]
    # a mere possibility explains nothing away
    causes = [c for c in causes if facts.stated[c].certainty != "possible" and _explains(facts, c, changed)]
    if not changed or not causes or any(code.startswith("mi_") or code == "sgarbossa" for code in facts.stated):
        return []
    stated = facts.stated[causes[0]]
    # one hedge: that of the link, which covers a cause that is itself uncertain
    text = f"These changes {'may be' if stated.uncertain else 'are'} secondary to {phrases.first(causes[0])}."
    return [Statement(text, (finding_claim(causes[0], uncertain=stated.uncertain),))]


def _explains(facts: Facts, cause: str, changed: list[str]) -> bool:
    """Return whether ST-T changes can follow from a cause: where they are, and in which beats they were measured."""
    if cause == "paced_rhythm":  # else the changes were measured in the beats that conduct
        return facts.ventricles_paced and (facts.features.qrs_ms or 0) >= limits("wide_qrs")["qrs"]
    if (
        cause == "lvh"
    ):  # strain: lateral leads, and elevation opposite to them (Hancock et al., Circulation 2009;119:e251)
        where = {code: set(leads_of(facts.stated[code])) for code in changed}
        return all(
            leads <= ({"V1", "V2", "V3"} if code == "st_elevation" else {"I", "aVL", "V5", "V6"})
            for code, leads in where.items()
        )
    return True


def _levels(facts: Facts, phrases: Phrases, code: str) -> list[Statement]:
    levels = [(lead, facts.features.st_mv.get(lead, {}).get("J")) for lead in facts.stated[code].leads[:3]]
    known = [(lead, level) for lead, level in levels if level is not None and facts.to_scale]
    if not known:
        return []
    amounts = [(lead, *amount(phrases, "st_level", level, (lead,))) for lead, level in known]
    listed = join([f"{text} in {lead}" for lead, text, _ in amounts])
    return [Statement(f"The ST level is {listed}.", tuple(claim for _, _, claim in amounts))]


def _t_amplitudes(facts: Facts, phrases: Phrases) -> list[Statement]:
    named = facts.stated["t_inversion"].leads[:2] if "t_inversion" in facts else (phrases.pick("II", "V3", "V5"),)
    rows = [(lead, facts.features.leads.get(lead)) for lead in named]
    known = [(lead, row.t_mv) for lead, row in rows if row and row.t_mv is not None and row.trust > 0]
    if not known or not facts.to_scale or "atrial_flutter" in facts:
        return []
    amounts = [(lead, *amount(phrases, "t_amplitude", mv, (lead,))) for lead, mv in known]
    listed = join([f"{text} in {lead}" for lead, text, _ in amounts])
    return [Statement(f"T wave amplitude {listed}.", tuple(claim for _, _, claim in amounts))]
