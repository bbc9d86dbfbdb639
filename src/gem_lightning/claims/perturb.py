"""Perturb true texts in one place: trials for a verifier, hard negatives for preference training."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from gem_lightning.claims.extract import extract
from gem_lightning.claims.tolerance import default_tolerance
from gem_lightning.ecg.record import LEADS
from gem_lightning.features.criteria import by_lead, decide
from gem_lightning.features.schema import EcgFeatures, Finding

#: Distance from a limit, in measurement errors, beyond which no reader would call an altered statement true.
_WRONG = 1.5
_MAGNITUDES = ("q_amplitude", "r_amplitude", "s_amplitude")  # read without their sign
_SWAPS = (
    ("right bundle branch block", "left bundle branch block", "lbbb"),
    ("left bundle branch block", "right bundle branch block", "rbbb"),
    ("sinus rhythm", "atrial fibrillation", "atrial_fibrillation"),
    ("sinus bradycardia", "sinus tachycardia", "sinus_tachycardia"),
    ("sinus tachycardia", "sinus bradycardia", "sinus_bradycardia"),
    ("atrial fibrillation", "atrial flutter", "atrial_flutter"),
    ("normal axis", "right axis deviation", "right_axis_deviation"),
    ("left axis deviation", "right axis deviation", "right_axis_deviation"),
    ("premature ventricular", "premature atrial", "pac"),
    ("left ventricular hypertrophy", "right ventricular hypertrophy", "rvh"),
)


def alter(text: str, features: EcgFeatures, found: Sequence[Finding], rng: random.Random) -> tuple[str, str] | None:
    """Change one number, lead, polarity or finding of a composed text beyond tolerance.

    Args:
        text: A text that is true of the record, as ``compose`` writes it.
        features: Measurements of the record.
        found: Findings that the text may state.
        rng: Chooses what to change.

    Returns:
        What was changed (``number``, ``lead``, ``polarity`` or ``finding``) and the altered text; None where the text
        offers nothing to change.
    """
    ways = [_number, _lead, _polarity, _finding]
    rng.shuffle(ways)
    for way in ways:
        altered = way(text, features, {f.code for f in found}, rng)
        if altered is not None:
            return way.__name__[1:], altered
    return None


def _number(text: str, features: EcgFeatures, codes: set[str], rng: random.Random) -> str | None:
    claims = [c for c in extract(text) if c.value is not None and c.kind != "voltage_sum"]
    rng.shuffle(claims)
    for claim in claims:
        stated = float(claim.value or 0.0)
        tolerance = default_tolerance(claim.kind, stated, features.rr_ms).value
        piece = text[slice(*claim.span)]
        for match in re.finditer(r"[−-]?\d+(?:\.\d+)?", piece):
            written = float(match.group().replace("−", "-"))
            scale = stated / written if written else 0.0
            if scale not in (1.0,) and abs(scale - 0.1) > 1e-6:
                continue
            sign = rng.choice((-1, 1))
            start = stated
            if claim.kind == "qtc":  # any formula will do, so leave all of them
                known = [value for value in features.qtc_ms.values() if value]
                start = max(known, default=stated) if sign > 0 else min(known, default=stated)
            moved = start + sign * rng.uniform(2.5, 5.0) * tolerance
            if (claim.kind == "heart_rate" and moved < 20) or (claim.kind in _MAGNITUDES and moved < 0):
                moved = stated + 4 * tolerance
            decimals = len(match.group().partition(".")[2])
            number = f"{moved / scale:.{decimals}f}"
            a = claim.span[0] + match.start()
            return text[:a] + number + text[a + len(match.group()) :]
    return None


def _lead(text: str, features: EcgFeatures, codes: set[str], rng: random.Random) -> str | None:
    for claim in _shuffled(extract(text), rng):
        if not claim.leads or claim.uncertain or not by_lead(str(claim.finding)) or claim.finding == "low_voltage":
            continue
        for match in re.finditer(r"\b(?:aV[RLF]|V[1-6]|III|II)\b", text):
            if not claim.span[1] <= match.start() <= claim.span[1] + 30 or match.group() not in claim.leads:
                continue
            for other in _shuffled(LEADS, rng):
                margin = decide(str(claim.finding), features, (other,)).margin
                wrong = margin is not None and (margin if claim.negated else -margin) >= _WRONG
                if other == "I" or other in claim.leads or not wrong:
                    continue
                changed = text[: match.start()] + other + text[match.end() :]
                if any(other in c.leads and c.finding == claim.finding for c in extract(changed)):
                    return changed
    return None


def _polarity(text: str, features: EcgFeatures, codes: set[str], rng: random.Random) -> str | None:
    places = list(re.finditer(r"\bNo (?=ST|T wave|T inv|pathological)", text))
    for match in _shuffled(places, rng):
        return text[: match.start()] + text[match.end() :]
    for claim in _shuffled(extract(text), rng):
        sure = claim.kind == "finding" and not claim.negated and not claim.uncertain and not claim.leads
        code = str(claim.finding)
        denied = code == "p_absent"  # its text is a denial already
        if sure and code in codes and claim.beat is None and not denied and decide(code, features).clear:
            return text[: claim.span[0]] + "no " + text[claim.span[0] :]
    return None


def _finding(text: str, features: EcgFeatures, codes: set[str], rng: random.Random) -> str | None:
    for old, new, code in _shuffled(_SWAPS, rng):
        decision = decide(code, features)
        place = re.search(rf"(?<!or )\b{old}", text, re.IGNORECASE)
        if place and decision.met is False and decision.clear:
            changed = text[: place.start()] + new + text[place.end() :]
            # a finding that the text hedges ("possible ...") is not false while the measurement leaves it open
            if any(c.finding == code and not c.uncertain and not c.negated for c in extract(changed)):
                return changed
    return None


def _shuffled(values: Any, rng: random.Random) -> list[Any]:
    copy = list(values)
    rng.shuffle(copy)
    return copy
