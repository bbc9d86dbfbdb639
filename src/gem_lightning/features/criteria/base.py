"""The criteria file, read once, and what every rule needs to say a finding."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any

from gem_lightning.features.schema import EcgFeatures, Finding, LeadFeatures

TO_SCALE = 0.05  # limb leads whose QRS complexes miss each other's sums by more (features.scale_error) are not to scale
LIMB = ("I", "II", "III", "aVR", "aVL", "aVF")
CHEST = ("V1", "V2", "V3", "V4", "V5", "V6")


@lru_cache(maxsize=1)
def criteria() -> dict[str, Any]:
    """``criteria.yaml`` as nested dicts: ``sources``, ``territories``, ``reciprocal`` and ``findings``."""
    import yaml

    text = resources.files("gem_lightning.features.criteria").joinpath("criteria.yaml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(text, Loader=loader)


def limits(code: str) -> dict[str, Any]:
    """The numbers of one criterion."""
    return criteria()["findings"][code]["limits"]


def citation(entry: dict[str, Any]) -> str:
    """Where a criterion comes from, and which of its limits this library set."""
    keys = entry["source"] if isinstance(entry["source"], list) else [entry["source"]]
    text = "; ".join(criteria()["sources"][key] for key in keys)
    return text + (f"; set by this library: {', '.join(entry['ours'])}" if "ours" in entry else "")


@dataclass
class Case:
    """One record under examination.

    Attributes:
        features: Its measurements.
        age: Years, or None.
        sex: ``M``, ``F`` or None.
        found: What the rules have stated so far, in order.
    """

    features: EcgFeatures
    age: float | None
    sex: str | None
    found: list[Finding] = field(default_factory=list)

    def has(self, *codes: str) -> bool:
        """Whether any of these has been stated."""
        return any(f.code in codes for f in self.found)

    def lead(self, name: str) -> LeadFeatures:
        """One lead's summary; an empty one where the record has no such lead."""
        return self.features.leads.get(name) or LeadFeatures(trust=0.0)

    def state(
        self,
        code: str,
        evidence: dict[str, Any],
        certainty: str = "definite",
        leads: tuple[str, ...] = (),
        statement: str | None = None,
    ) -> None:
        """Add a finding; numbers in the evidence are rounded, absent ones left out.

        What amplitudes decide is no more than possible where the limb leads contradict each other in amplitude; the
        evidence then says so.
        """
        entry = criteria()["findings"][code]
        if entry.get("voltage") and value(self.features.scale_error) > TO_SCALE:
            certainty = "possible"
            evidence = evidence | {"limb_leads_scale_error": self.features.scale_error}
        self.found.append(
            Finding(
                code=code,
                statement=statement or entry["statement"],
                evidence={k: round(v, 3) if isinstance(v, float) else v for k, v in evidence.items() if v is not None},
                threshold=entry["threshold"].format(**entry["limits"]),
                source=citation(entry),
                certainty=certainty,
                leads=tuple(leads),
                snomed=entry["snomed"],
                abnormal=entry.get("abnormal", True),
            )
        )


def value(number: float | None) -> float:
    """A number for arithmetic: 0 where absent."""
    return number or 0.0


def upward(lead: LeadFeatures) -> float:
    """Tallest upward deflection of the QRS, mV."""
    return max(value(lead.r_mv), value(lead.r2_mv))


def downward(lead: LeadFeatures) -> float:
    """Deepest downward deflection of the QRS, mV."""
    return max(value(lead.s_mv), value(lead.q_mv))
