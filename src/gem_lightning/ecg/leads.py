"""Lead names in every common spelling, and the leads that follow from others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from gem_lightning.ecg.record import LEADS, EcgRecord
from gem_lightning.errors import EcgReadError

# (6, 2): I, II, III, aVR, aVL, aVF from leads I and II (Einthoven, Goldberger).
LIMB_FROM_I_II = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0], [-0.5, -0.5], [1.0, -0.5], [-0.5, 1.0]])

_SPELLINGS = {lead.lower(): lead for lead in LEADS}
_SPELLINGS |= {
    "d1": "I",
    "d2": "II",
    "d3": "III",
    "di": "I",
    "dii": "II",
    "diii": "III",
}
_SPELLINGS |= {"l1": "I", "l2": "II", "l3": "III", "vr": "aVR", "vl": "aVL", "vf": "aVF"}
_SPELLINGS |= {f"c{i}": f"V{i}" for i in range(1, 7)}
# MDC codes (ISO 11073-10102) as in DICOM ("2:61") and SCP-ECG as in DICOM ("5.6.3-9-61").
_CODES = {1: "I", 2: "II", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF", **{i + 2: f"V{i}" for i in range(1, 7)}}
CODES = {lead: code for code, lead in _CODES.items()}
_PREFIX = re.compile(r"^([a-z]+_ecg_lead_|ecg_|ekg_|lead_|ableitung_|channel_)+")


@lru_cache(maxsize=4096)  # every reader asks for the same few spellings several times
def lead_name(text: str) -> str | None:
    """The standard name of a lead, or None where the spelling is not one of the twelve.

    Ignores case, blanks, underscores and hyphens, ``Lead``, ``ECG`` and ``MDC_ECG_LEAD_`` prefixes, ``DI``, ``D1``,
    ``VR``, ``C1``, other vendors' ``..._ECG_LEAD_`` codes and explanations in brackets ("Lead I (Einthoven)", "aVR,
    augmented"). A bare number is no name: it counts channels more often than it numbers limb leads.
    """
    plain = re.sub(r"[(\[,;:].*$", "", text.strip().lower())
    if re.match(r"^\s*-\s*a?v[rlf]", plain):
        return None  # inverted, as in the Cabrera sequence
    plain = _PREFIX.sub("", re.sub(r"[\s\-]+", "_", plain.strip()) + "_").replace("_", "")
    return _SPELLINGS.get(plain)


def lead_from_code(code: str) -> str | None:
    """The standard name behind an MDC ("2:61") or SCP-ECG ("5.6.3-9-61") code of DICOM, or None."""
    match = re.fullmatch(r"(?:2:|5\.6\.3-9-)(\d{1,3})", code.strip())
    return _CODES.get(int(match[1])) if match else None


def complete_limb_leads(
    signal: np.ndarray, names: Sequence[str]
) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Add the limb leads that follow from two others (Einthoven, Goldberger).

    Args:
        signal: (leads, samples).
        names: Standard names of its rows; other names are carried along.

    Returns:
        Signal and names with the derived leads after the others, and the names of those derived.
    """
    limb = [lead for lead in LEADS[:6] if lead in names]
    missing = tuple(lead for lead in LEADS[:6] if lead not in names)
    if not missing or len(limb) < 2:
        return signal, tuple(names), ()
    rows = [LEADS.index(lead) for lead in limb[:2]]  # any two different limb leads are independent
    one_two = np.linalg.inv(LIMB_FROM_I_II[rows]) @ signal[[list(names).index(lead) for lead in limb[:2]]]
    derived = LIMB_FROM_I_II[[LEADS.index(lead) for lead in missing]] @ one_two
    return np.concatenate([signal, derived.astype(signal.dtype)]), (*names, *missing), missing


def twelve_follow(names: Sequence[str]) -> bool:
    """Whether the twelve leads are among ``names``, in any spelling, or follow from them (two limb leads suffice)."""
    known = {lead_name(name) for name in names}
    return known.issuperset(LEADS[6:]) and len(known.intersection(LEADS[:6])) >= 2


def in_standard_order(signal: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The twelve rows of :data:`LEADS`.

    Raises:
        EcgReadError: A lead is missing or there twice.
    """
    missing = [lead for lead in LEADS if lead not in names]
    if missing:
        raise EcgReadError(
            f"expected the 12 leads {', '.join(LEADS)}, got {', '.join(names) or 'none'} "
            f"(missing {', '.join(missing)}); read what is there with leads='any'"
        )
    twice = sorted({lead for lead in LEADS if list(names).count(lead) > 1})
    if twice:
        raise EcgReadError(f"expected each lead once, got {', '.join(twice)} more than once; remove the repeated rows")
    return signal[[list(names).index(lead) for lead in LEADS]]


# What each lead shows when two electrodes are exchanged: sign and source.
SWAPS: dict[str, dict[str, tuple[int, str]]] = {
    "LA-RA": {"I": (-1, "I"), "II": (1, "III"), "III": (1, "II"), "aVR": (1, "aVL"), "aVL": (1, "aVR")},
    "RA-LL": {"I": (-1, "III"), "II": (-1, "II"), "III": (-1, "I"), "aVR": (1, "aVF"), "aVF": (1, "aVR")},
    "LA-LL": {"I": (1, "II"), "II": (1, "I"), "III": (-1, "III"), "aVL": (1, "aVF"), "aVF": (1, "aVL")},
    **{f"V{i}-V{i + 1}": {f"V{i}": (1, f"V{i + 1}"), f"V{i + 1}": (1, f"V{i}")} for i in range(1, 6)},
}


def swap_electrodes(record: EcgRecord, electrodes: str) -> EcgRecord:
    """Return the record as if two electrodes were exchanged; twice gives the original.

    Args:
        record: Twelve standard leads.
        electrodes: A key of :data:`SWAPS`, such as ``LA-RA`` or ``V1-V2``.
    """
    if electrodes not in SWAPS:
        raise EcgReadError(f"expected electrodes among {', '.join(SWAPS)}, got {electrodes!r}")
    signal = record.signal.copy()
    for lead, (sign, source) in SWAPS[electrodes].items():
        signal[record.leads.index(lead)] = sign * record.lead(source)
    return record.with_signal(signal)


def limb_leads(eight: np.ndarray) -> np.ndarray:
    """Twelve leads (12, samples) from I, II, V1 to V6 (8, samples); III, aVR, aVL, aVF follow exactly in that dtype."""
    one, two = eight[0], eight[1]
    derived = [two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return np.concatenate([np.stack([one, two, *derived]), eight[2:]])
