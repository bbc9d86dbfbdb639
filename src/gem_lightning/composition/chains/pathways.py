"""Pathways: the criteria of each diagnosis, decided on a record by the criteria functions, and the rule over them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

from gem_lightning.errors import DataError
from gem_lightning.features.criteria import conduction, decide, rhythm
from gem_lightning.features.criteria.base import (
    FORM,
    Decision,
    Margin,
    above,
    all_of,
    any_of,
    at_least,
    at_most,
    below,
    count_of,
    criteria,
    decided,
    downward,
    error,
    form,
    lead_of,
    limits,
    reached,
    undecided,
    upward,
    value,
)
from gem_lightning.features.measurement.axes import s_depth
from gem_lightning.features.schema import EcgFeatures

Rule = Any  # a criterion's name, "not NAME", or {"all" | "any": [rules]}


@dataclass(frozen=True)
class Criterion:
    """One criterion of a pathway.

    Attributes:
        id: Name in ``pathways.yaml``.
        text: As an option.
        ask: The question whether it is met.
        near: Statements close to it that do not decide the diagnosis.
        match: Pattern that recognises it in other wordings.
        leads: Leads in which it is decided one by one; empty for the whole record.
        need: How many of them have to show it.
        sign: What a lead that meets it shows.
        wave: Wave that shows it: ``P QRS T pause free_p premature premature_narrow premature_wide``, or None.
        quantity: Number behind it, or None.
    """

    id: str
    text: str
    ask: str
    near: tuple[str, ...]
    match: re.Pattern[str]
    leads: tuple[str, ...] = ()
    need: int = 1
    sign: str = ""
    wave: str | None = None
    quantity: str | None = None


@dataclass(frozen=True)
class Pathway:
    """A diagnosis and the way to it.

    Attributes:
        id: Target name, as in the published chains.
        name: As text.
        code: Finding code that states it; None where the rule itself is the definition.
        rule: Rule over criteria.
        criteria: Every criterion by name, in the order of the rule, then those that others ask for.
        match: Pattern that recognises the diagnosis in a question.
    """

    id: str
    name: str
    code: str | None
    rule: Rule
    criteria: Mapping[str, Criterion]
    match: re.Pattern[str]


@lru_cache(maxsize=1)
def pathways() -> dict[str, Pathway]:
    """Load ``pathways.yaml`` once."""
    import yaml

    file = resources.files("gem_lightning.composition.chains").joinpath("pathways.yaml")
    table = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {name: _pathway(name, row, table["criteria"]) for name, row in table["diagnoses"].items()}


def pathway(name: str) -> Pathway:
    """Return the pathway of a diagnosis.

    Raises:
        DataError: There is none.
    """
    if name not in pathways():
        raise DataError(f"expected a diagnosis of {', '.join(pathways())}, got {name!r}")
    return pathways()[name]


def _pathway(name: str, row: Mapping[str, Any], table: Mapping[str, Any]) -> Pathway:
    used = [*dict.fromkeys(n.removeprefix("not ") for n in names(row["rule"])), *row.get("also", ())]
    found = {n: _criterion(n, table[n], row.get("territory")) for n in used}
    return Pathway(name, row["name"], row["code"], row["rule"], found, re.compile(row["match"], re.IGNORECASE))


def _criterion(name: str, row: Mapping[str, Any], territory: str | None) -> Criterion:
    places = {"territory": criteria()["territories"], "opposite": criteria()["reciprocal"]}
    leads = row.get("leads", ())
    leads = tuple(places[leads][territory] if isinstance(leads, str) else leads)
    facts: dict[str, Any] = {code: _Limits(code) for code in criteria()["findings"]}
    if territory:
        facts |= {"territory": territory, "leads": ", ".join(leads)}
        facts["opposite"] = ", ".join(criteria()["reciprocal"][territory])

    def filled(text: str) -> str:
        return text.format(**facts)

    return Criterion(
        id=name,
        text=filled(row["text"]),
        ask=filled(row["ask"]),
        near=tuple(filled(text) for text in row["near"]),
        match=re.compile(row["match"], re.IGNORECASE),
        leads=leads,
        need=row.get("need", 1),
        sign=filled(row.get("sign", "")),
        wave=row.get("wave"),
        quantity=row.get("quantity"),
    )


class _Limits:
    """The limits of one finding as attributes, for texts such as ``{av_block_1.pr}``."""

    def __init__(self, code: str) -> None:
        self._code = code

    def __getattr__(self, name: str) -> Any:
        return limits(self._code)[name]


def names(rule: Rule) -> Iterator[str]:
    """Yield the criteria of a rule in order, with ``not`` where it stands."""
    if isinstance(rule, str):
        yield rule
    else:
        for part in next(iter(rule.values())):
            yield from names(part)


def outcome(rule: Rule, known: Mapping[str, bool | None]) -> bool | None:
    """Evaluate a rule on the criteria decided so far; None where the rest may still decide it."""
    if isinstance(rule, str):
        met = known.get(rule.removeprefix("not "))
        return met if met is None or not rule.startswith("not ") else not met
    ((kind, parts),) = rule.items()
    found = [outcome(part, known) for part in parts]
    decisive = kind == "any"
    if decisive in found:
        return decisive
    return None if None in found else not decisive


def following(rule: Rule, known: Mapping[str, bool | None]) -> str | None:
    """Return the next criterion that can still decide a rule; None once it is decided."""
    if isinstance(rule, str):
        name = rule.removeprefix("not ")
        return None if name in known else name
    if outcome(rule, known) is not None:
        return None
    parts = next(iter(rule.values()))
    return next((found for part in parts if (found := following(part, known)) is not None), None)


# -- decisions -------------------------------------------------------------------------------------------------------


def judge(criterion: Criterion, features: EcgFeatures, limit: float | None = None) -> Decision:
    """Decide a criterion on a record.

    Args:
        criterion: The criterion.
        features: Measurements.
        limit: Another limit than the criterion's own, where a question states one; only for criteria of one number.
    """
    if not len(features.beats):
        return undecided(features.reason or "no beats were found in this record")
    if criterion.leads:
        margins = {lead: lead_margin(criterion.id, features, lead) for lead in criterion.leads}
        shown = tuple(lead for lead, margin in margins.items() if reached(margin))
        return decided(count_of(margins.values(), criterion.need), {}, leads=shown)
    if limit is not None and criterion.id in _SCALARS:
        quantity, unit, compare = _SCALARS[criterion.id]
        return decided(compare(number(quantity, features), limit, error(unit)), {})
    return _WHOLE[criterion.id](features)


def lead_margin(name: str, features: EcgFeatures, lead: str) -> Margin:
    """Return the margin of a criterion in one lead; None where the lead was not measured."""
    found = lead_of(features, lead)
    if found.trust <= 0 or found.qrs_mv is None:
        return None
    return _BY_LEAD[name](features, lead)


def number(quantity: str, features: EcgFeatures) -> float | None:
    """Return the number behind a criterion: ms, mV, degrees or bpm; None where it was not measured."""
    sums = features.voltages_mv
    table: dict[str, Any] = {
        "pr": features.pr_ms,
        "qrs": features.qrs_ms,
        "axis": features.axis_deg.get("QRS"),
        "heart_rate": features.heart_rate_bpm,
        "r_avl": sums.get("sokolow_lyon_avl"),
        "sokolow": sums.get("sokolow_lyon"),
        "cornell": sums.get("cornell"),
        "r_v1": upward(lead_of(features, "V1")) if lead_of(features, "V1").qrs_mv is not None else None,
    }
    return table[quantity]


def _finding(code: str) -> Callable[[EcgFeatures], Decision]:
    return lambda features: decide(code, features)


def _conducted(features: EcgFeatures) -> Decision:
    share = at_least(rhythm.p_share(features), limits("sinus_rhythm")["p_share"], error("share"))
    return decided(all_of(form(not rhythm.free_p(features)), share), {})


def _long_pr(features: EcgFeatures) -> Decision:
    return decided(above(features.pr_ms, limits("av_block_1")["pr"], error("ms")), {})


def _pause(features: EcgFeatures) -> Decision:
    """Decide on an RR interval that may hold a P wave without a beat; the pause after an early beat is none."""
    times = pauses(features)
    return decided(form(len(times) > 0), {"count": len(times)})


def pauses(features: EcgFeatures) -> np.ndarray:
    """Return (n,) the numbers of the beats that end a pause; the pause after a premature beat does not count."""
    rr, early = features.beats.whole["rr_ms"], np.char.startswith(features.beats.beat_class.astype(str), "premature")
    if not np.isfinite(rr).any():
        return np.zeros(0, int)
    after = np.r_[False, early[:-1]]
    return np.flatnonzero((rr > rhythm.PAUSE * np.nanmedian(rr)) & ~after)


def _dissociation(features: EcgFeatures) -> Decision:
    spread = rhythm.pr_spread(features)
    apart = FORM if spread is None else above(spread, limits("av_block_3")["spread"], error("ms"))
    return decided(all_of(form(rhythm.free_p(features)), apart), {})


def _regular(features: EcgFeatures) -> Decision:
    return decided(None if features.rhythm.regular is None else form(features.rhythm.regular), {})


def _class(name: str) -> Callable[[EcgFeatures], Decision]:
    return lambda features: decided(form(bool((features.beats.beat_class == name).any())), {})


def _premature(features: EcgFeatures) -> Decision:
    return decided(form(bool(np.char.startswith(features.beats.beat_class.astype(str), "premature").any())), {})


def _axis_between(code: str) -> Callable[[EcgFeatures], Decision]:
    def within(features: EcgFeatures) -> Decision:
        rule, angle = limits(code), features.axis_deg.get("QRS")
        low = at_least(angle, rule["axis_low"], error("deg"))
        return decided(all_of(low, at_most(angle, rule["axis_high"], error("deg"))), {})

    return within


def _sokolow(features: EcgFeatures) -> Decision:
    rule, age = limits("lvh"), features.age
    adult = None if age is None else form(age >= rule["age"])
    return decided(all_of(at_least(number("sokolow", features), rule["sokolow"], 2 * error("mv")), adult), {})


def _cornell(features: EcgFeatures) -> Decision:
    rule, sum_ = limits("lvh"), number("cornell", features)
    by_sex = {sex: above(sum_, rule[f"cornell_{sex.lower()}"], 2 * error("mv")) for sex in "MF"}
    if features.sex:
        return decided(by_sex[features.sex], {})
    same = reached(by_sex["M"]) == reached(by_sex["F"])
    return decided(by_sex["M"] if same else None, {}, reason="the limit depends on the patient's sex")


def _tall_r_v1(features: EcgFeatures) -> Decision:
    rule, first, mv = limits("rvh"), lead_of(features, "V1"), error("mv")
    height = number("r_v1", features)
    dominant = all_of(at_least(height, rule["r_v1"], mv), above(height, s_depth(first), mv))
    return decided(any_of(dominant, above(features.voltages_mv.get("rvh"), rule["sum"], 2 * mv)), {})


_SCALARS: dict[str, tuple[str, str, Callable[..., Margin]]] = {
    "long_pr": ("pr", "ms", above),
    "wide_qrs": ("qrs", "ms", at_least),
    "slow": ("heart_rate", "bpm", below),
    "r_avl": ("r_avl", "mv", above),
    "sokolow": ("sokolow", "mv", above),
    "rvh_axis": ("axis", "deg", above),
    "tall_r_v1": ("r_v1", "mv", above),
}

_WHOLE: dict[str, Callable[[EcgFeatures], Decision]] = {
    "conducted": _conducted,
    "long_pr": _long_pr,
    "pause": _pause,
    "free_p": lambda features: decided(form(rhythm.free_p(features)), {}),
    "slow": lambda f: decided(below(f.heart_rate_bpm, limits("sinus_bradycardia")["rate"], error("bpm")), {}),
    "regular": _regular,
    "fibrillation": _finding("atrial_fibrillation"),
    "dissociation": _dissociation,
    "wide_qrs": _finding("wide_qrs"),
    "left_bundle": _finding("lbbb"),
    "right_bundle": _finding("rbbb"),
    "left_axis": _axis_between("lafb"),
    "right_axis": _axis_between("lpfb"),
    "premature": _premature,
    "narrow_premature": _class("premature_supraventricular"),
    "wide_premature": _class("premature_ventricular"),
    "r_avl": lambda f: decided(above(number("r_avl", f), limits("lvh")["avl"], error("mv")), {}),
    "sokolow": _sokolow,
    "cornell": _cornell,
    "rvh_axis": lambda f: decided(above(number("axis", f), limits("rvh")["axis"], error("deg")), {}),
    "tall_r_v1": _tall_r_v1,
}


def _terminal_r(features: EcgFeatures, name: str) -> Margin:
    lead = lead_of(features, name)
    tall = at_least(value(lead.r2_mv), min(max(value(lead.r_mv), 0.1), 0.3), 2 * error("mv"))
    return any_of(tall, form(conduction.terminal_r(lead) and not reached(tall)))


def _late_s(features: EcgFeatures, name: str) -> Margin:
    lead = lead_of(features, name)
    longer = above(value(lead.s_ms) - value(lead.r_ms), 0.0, 2 * error("ms"))
    return any_of(at_least(value(lead.s_ms), limits("rbbb")["s"], error("ms")), longer)


def _q_then_r(features: EcgFeatures, name: str) -> Margin:
    lead, mv = lead_of(features, name), error("mv")
    q, r, s = (value(height) for height in (lead.q_mv, lead.r_mv, lead.s_mv))
    return all_of(above(q, 0.0, mv), above(r - q, 0.0, 2 * mv), above(r - s, 0.0, 2 * mv))


def _r_then_s(features: EcgFeatures, name: str) -> Margin:
    lead, mv = lead_of(features, name), error("mv")
    return all_of(above(value(lead.r_mv), 0.0, mv), above(value(lead.s_mv) - value(lead.r_mv), 0.0, 2 * mv))


def _code(code: str) -> Callable[[EcgFeatures, str], Margin]:
    return lambda features, lead: decide(code, features, (lead,)).margin


_BY_LEAD: dict[str, Callable[[EcgFeatures, str], Margin]] = {
    "terminal_r": _terminal_r,
    "late_s": _late_s,
    "deep_s_v1": lambda f, n: above(
        downward(lead_of(f, n)) - 2 * upward(lead_of(f, n)), 0.0, 3 * error("mv")
    ),  # errors of S and of twice R
    "upright_lateral": lambda f, n: all_of(
        below(value(lead_of(f, n).q_mv), limits("lbbb")["q"], error("mv")),
        above(upward(lead_of(f, n)) - downward(lead_of(f, n)), 0.0, 2 * error("mv")),
    ),
    "late_r_peak": lambda f, n: all_of(
        above(upward(lead_of(f, n)) - downward(lead_of(f, n)), 0.0, 2 * error("mv")),
        above(value(lead_of(f, n).r_peak_ms), limits("lbbb")["r_peak"], error("ms")),
    ),
    "qr_avl": _q_then_r,
    "late_r_avl": lambda f, n: at_least(value(lead_of(f, n).r_peak_ms), limits("lafb")["r_peak"], error("ms")),
    "rs_lateral": _r_then_s,
    "qr_inferior": _q_then_r,
    "q_waves": _code("pathological_q"),
    "st_elevation": _code("st_elevation"),
    "mirror": _code("st_depression"),
    "st_depression": _code("st_depression"),
    "t_inversion": _code("t_inversion"),
}
