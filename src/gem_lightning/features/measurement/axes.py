"""Frontal axes, R progression and voltage sums."""

from __future__ import annotations

import numpy as np

from gem_lightning.ecg.leads import LIMB_FROM_I_II
from gem_lightning.ecg.record import LEADS
from gem_lightning.features.schema import LeadFeatures

PRECORDIAL = ("V1", "V2", "V3", "V4", "V5", "V6")
MIN_AREA_MV = 0.01  # mean deflection below which a vector has no direction


def frontal_axis(values: dict[str, float]) -> float | None:
    """Return the direction of the frontal vector from the net deflection of limb leads, degrees in (-180, 180].

    Einthoven's triangle: with lead I along 0 degrees, I = v cos(a) and aVF = v sin(a) * sqrt(3) / 2. Any two of I, II
    and III give both (I + III = II), so one missing lead does no harm.

    Args:
        values: Net deflection by lead name, mV; NaN or missing where unknown.
    """
    one, two, three = (values.get(name, np.nan) for name in ("I", "II", "III"))
    if not np.isfinite(one):
        one = two - three
    if not np.isfinite(two):
        two = one + three
    foot = two - one / 2
    if not np.isfinite(foot) and np.isfinite(one):
        foot = values.get("aVF", np.nan)
    if not (np.isfinite(one) and np.isfinite(foot)) or np.hypot(one, foot) < MIN_AREA_MV:
        return None
    angle = float(np.degrees(np.arctan2(foot * 2 / np.sqrt(3), one)))
    return 180.0 if angle <= -180 else angle


def scale_error(average: np.ndarray, names: tuple[str, ...], trust: np.ndarray) -> float | None:
    """Return how far the limb leads contradict each other because their amplitudes have no common scale.

    III, aVR, aVL and aVF follow from I and II (Einthoven, Goldberger). Where each lead was scaled by itself they still
    are sums of I and II, but with other factors: what other factors explain of the misfit, root mean square, as a share
    of the six leads' own. Noise and leads recorded at different times fit no factors.

    Args:
        average: (leads, width) mean QRS complex, mV.
        names: Lead names of the rows.
        trust: (leads,) 0 where a lead is not to be used.

    Returns:
        The share; None without I, II and one more trusted limb lead.
    """
    rows = {name: average[i] for i, name in enumerate(names) if trust[i] > 0}
    others = [name for name in LEADS[2:6] if name in rows]
    if not ({"I", "II"} <= set(rows) and others):
        return None
    base = np.stack([rows["I"], rows["II"]])
    derived = np.stack([rows[name] for name in others])
    base, derived = (x - x.mean(1, keepdims=True) for x in (base, derived))
    law = LIMB_FROM_I_II[[LEADS.index(name) for name in others]] @ base
    fit = derived @ np.linalg.pinv(base) @ base
    size = np.sqrt(np.mean(np.square(np.concatenate([base, derived]))))
    explained = np.mean(np.square(derived - law)) - np.mean(np.square(derived - fit))
    return float(np.sqrt(max(explained, 0.0)) / size) if size > 0 else None


def s_depth(lead: LeadFeatures) -> float:
    """Return the depth of the S wave, mV: the whole complex where that is a QS, never a Q before an R wave."""
    return lead.s_mv or (lead.q_mv or 0.0 if lead.qrs_form == "QS" else 0.0)


def transition(leads: dict[str, LeadFeatures]) -> str | None:
    """Return the first precordial lead whose R wave exceeds its S wave."""
    for name in PRECORDIAL:
        lead = leads.get(name)
        if lead is None or lead.qrs_mv is None:
            continue
        if max(lead.r_mv or 0.0, lead.r2_mv or 0.0) > s_depth(lead):
            return name
    return None


def voltages(leads: dict[str, LeadFeatures]) -> dict[str, float | None]:
    """Return the voltage sums that hypertrophy criteria use, mV; None where a lead is missing.

    ``sokolow_lyon`` S V1 + max(R V5, R V6) (1949); ``sokolow_lyon_avl`` R aVL; ``cornell`` R aVL + S V3 (1985);
    ``peguero`` deepest S + S V4 (2017); ``gubner`` R I + S III (1943); ``rvh`` R V1 + max(S V5, S V6) (1949);
    ``largest_limb`` and ``largest_precordial`` the largest peak-to-peak QRS of each group.
    """

    def up(name: str) -> float | None:
        lead = leads.get(name)
        return None if lead is None or lead.qrs_mv is None else max(lead.r_mv or 0.0, lead.r2_mv or 0.0)

    def down(name: str) -> float | None:
        lead = leads.get(name)
        return None if lead is None or lead.qrs_mv is None else s_depth(lead)

    def add(*terms: float | None) -> float | None:
        return None if any(t is None for t in terms) else float(sum(t for t in terms if t is not None))

    def most(*terms: float | None) -> float | None:
        known = [t for t in terms if t is not None]
        return max(known) if known else None

    def span(names: tuple[str, ...]) -> float | None:
        return most(*(leads[n].qrs_mv for n in names if n in leads))

    limb = ("I", "II", "III", "aVR", "aVL", "aVF")
    return {
        "sokolow_lyon": add(down("V1"), most(up("V5"), up("V6"))),
        "sokolow_lyon_avl": up("aVL"),
        "cornell": add(up("aVL"), down("V3")),
        "peguero": add(most(*(down(n) for n in leads)), down("V4")),
        "gubner": add(up("I"), down("III")),
        "rvh": add(up("V1"), most(down("V5"), down("V6"))),
        "largest_limb": span(limb),
        "largest_precordial": span(PRECORDIAL),
    }
