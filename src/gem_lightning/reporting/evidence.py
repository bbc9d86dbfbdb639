"""Format the evidence of a finding, and the reasons of a quality verdict, as text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gem_lightning.ecg.quality import Quality
    from gem_lightning.features.schema import Finding

# End of a name → unit and decimals; the longest end that fits counts.
_UNITS = {
    "_mv_ms": ("mV ms", 0), "_mv": ("mV", 2), "_ms": ("ms", 0), "_bpm": ("bpm", 0), "_deg": ("°", 0), "_s": ("s", 1),
}  # fmt: skip
_ABBREVIATIONS = {"qtc": "QTc", "avl": "aVL", "cv": "variation"} | {
    word: word.upper() for word in ("p", "q", "r", "s", "t", "j", "pr", "qrs", "qt", "rr", "st", "rvh", "v1", "v3")
}
_NAMES = ("bazett", "cornell", "estes", "fridericia", "lewis", "lyon", "peguero", "romhilt", "sokolow")


def evidence_text(finding: Finding) -> str:
    """The measured values of a finding, such as ``PR 236 ms`` or ``ST J II 0.29 mV, ST J III 0.28 mV``."""
    return ", ".join(_value(name, value) for name, value in finding.evidence.items())


_LEAD_DETAIL = re.compile(r"([\w-]+) \(([^()]*)\)")  # one lead of a quality reason, such as "V1 (0.20 mV)"
_NUMBER = re.compile(r"([\d.]*)(.*)")


def quality_sentences(quality: Quality) -> list[str]:
    """The reasons of a quality verdict as sentences, such as ``Flat: all leads (no signal).``"""
    return [_quality_sentence(reason, len(quality.leads)) for reason in quality.reasons]


def _quality_sentence(reason: str, leads: int) -> str:
    fault, _, rest = reason.partition(": ")
    alike: dict[str, list[tuple[str, str]]] = {}  # what a detail is about -> (lead, its number)
    for lead, detail in _LEAD_DETAIL.findall(rest):
        number, unit = _NUMBER.match(detail).groups()  # type: ignore[union-attr]
        alike.setdefault(unit, []).append((lead, number))
    groups = []
    for unit, found in alike.items():
        names = "all leads" if len(found) == leads else ", ".join(lead for lead, _ in found)
        numbers = sorted({number for _, number in found}, key=lambda text: float(text or 0))
        groups.append(f"{names} ({' to '.join(dict.fromkeys((numbers[0], numbers[-1])))}{unit})")
    return f"{fault.capitalize()}: {'; '.join(groups) or rest.rstrip('.')}."


def _value(key: str, value: Any) -> str:
    ending = next((end for end in _UNITS if key.endswith(end)), "")
    unit, decimals = _UNITS.get(ending, ("", 2))
    words = [
        _ABBREVIATIONS.get(word) or (word.capitalize() if word in _NAMES else word)
        for word in key.removesuffix(ending).split("_")
    ]
    name = re.sub("Sokolow Lyon|Romhilt Estes", lambda names: names[0].replace(" ", "-"), " ".join(words))
    listed = value if isinstance(value, list | tuple) else [value]
    numbers = ", ".join(f"{v:.{decimals}f}" if isinstance(v, float) else str(v) for v in listed)
    return f"{name} {numbers}{'' if unit in ('', '°') else ' '}{unit}"
