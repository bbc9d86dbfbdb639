"""Views of a record that a chain is asked about: measured, known from the simulator, or marked by experts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gem_lightning.composition.chains.pathways import Pathway, judge, outcome, pauses
from gem_lightning.ecg.record import EcgRecord
from gem_lightning.features import EcgFeatures, delineate, measure
from gem_lightning.features.criteria import criteria, decide
from gem_lightning.features.schema import Delineation, LeadFeatures

if TYPE_CHECKING:
    from gem_lightning.ecg import SimulatedEcg


@dataclass(frozen=True)
class View:
    """What is known of one record.

    Attributes:
        features: Measurements.
        marks: Where its waves begin and end.
        truth: Origin of both: ``measurement``, ``simulator`` or ``experts``.
        codes: Finding codes that are true of the record by its labels; None where the criteria decide them.
    """

    features: EcgFeatures
    marks: Delineation
    truth: str = "measurement"
    codes: frozenset[str] | None = None

    @classmethod
    def of(cls, record: EcgRecord) -> View:
        """Measure a record."""
        marks = delineate(record)
        return cls(measure(record, marks), marks)

    @classmethod
    def simulated(cls, ecg: SimulatedEcg) -> View:
        """Return the truth about a simulated record.

        Labels, wave marks, beat classes, free P waves, intervals, rate, axis, ST levels, T and R and S amplitudes are
        the simulator's own. The forms that it does not state (q, r', notches, R peak time, S duration) are read off its
        noise-free signal between its true marks. Nothing is delineated, and the noisy record is not looked at.
        """
        facts = ecg.parameters
        marks = true_marks(ecg)
        clean = replace(ecg.record, signal=ecg.clean)
        features = measure(clean, marks)
        return cls(_with_truth(features, facts), marks, "simulator", frozenset(ecg.diagnoses))

    @classmethod
    def marked(cls, record: EcgRecord, marks: Delineation, codes: Collection[str]) -> View:
        """Return a record measured between the marks of experts, with their diagnoses as finding codes."""
        return cls(measure(record, marks), marks, "experts", frozenset(codes))

    def present(self, pathway: Pathway) -> bool | None:
        """Return whether the record has a diagnosis; None where label and criteria disagree or one is unclear."""
        decisions = {name: judge(criterion, self.features) for name, criterion in pathway.criteria.items()}
        by_rule = outcome(pathway.rule, {name: d.met for name, d in decisions.items()})
        if by_rule is None or pathway.code is None:
            return by_rule
        if self.codes is None:
            named = stated(self.features, pathway.code)
        else:
            named = pathway.code in self.codes or any(code.startswith(f"{pathway.code}_") for code in self.codes)
        return by_rule if named is by_rule else None

    def spans(self, wave: str) -> np.ndarray:
        """Return (n, 2) start and end of every wave of a kind, s; ``pause`` runs from R to R.

        Args:
            wave: ``P QRS T pause free_p premature premature_narrow premature_wide other_qrs``.
        """
        marks, fs = self.marks.global_marks, self.marks.fs
        early = np.char.startswith(self.marks.beat_class.astype(str), "premature")
        chosen = {
            "premature": early,
            "premature_narrow": self.marks.beat_class == "premature_supraventricular",
            "premature_wide": self.marks.beat_class == "premature_ventricular",
            "other_qrs": ~early,
        }
        if wave == "pause":
            ends = pauses(self.features)
            return np.stack([marks["R"][ends - 1], marks["R"][ends]], 1) / fs
        if wave == "free_p":
            half = 0.5 * float(self.features.p_ms or TYPICAL_P_MS) / 1000
            return self.marks.extra_p[:, None] / fs + np.array([-half, half])
        name = "QRS" if wave in chosen else wave
        found = np.stack([marks[f"{name}_on"], marks[f"{name}_off"]], 1) / fs
        found = found[chosen[wave]] if wave in chosen else found
        return found[np.isfinite(found).all(1)]


TYPICAL_P_MS = 100.0  # duration of a P wave where none is conducted: the middle of healthy ones (80 to 120 ms)


def stated(features: EcgFeatures, code: str) -> bool | None:
    """Return whether the criteria state a finding; a code such as ``av_block_2`` stands for all that begin with it."""
    kinds = [name for name in criteria()["findings"] if name == code or name.startswith(f"{code}_mobitz")]
    found = [decide(name, features).met for name in kinds]
    return True if True in found else None if None in found else False


def true_marks(ecg: SimulatedEcg) -> Delineation:
    """Return the simulator's marks as a delineation that trusts every lead."""
    fs, leads = ecg.record.fs, ecg.record.leads
    return Delineation(
        marks=ecg.marks,
        global_marks=ecg.global_marks,
        beat_class=ecg.beat_class.astype(object),
        trust=np.ones(len(leads)),
        fs=fs,
        leads=leads,
        extra_p=ecg.extra_p,
        flutter="atrial_flutter" in ecg.diagnoses,
        atrial_mv=1.0 if "atrial_fibrillation" in ecg.diagnoses else 0.0,
        noise_mv=0.0,
    )


def _with_truth(features: EcgFeatures, facts: Mapping[str, Any]) -> EcgFeatures:
    """Put the simulator's own numbers in place of those read off its clean signal."""
    named = {name: facts[name] for name in ("pr_ms", "p_ms", "qrs_ms", "qt_ms", "axis_deg", "st_mv")}
    leads = {}
    for name, lead in features.leads.items():
        true = facts["amplitudes_mv"][name]
        leads[name] = replace(lead, t_mv=true["T"], **_deflections(lead, true))
    return replace(features, heart_rate_bpm=facts["heart_rate"], leads=leads, **named)


def _deflections(lead: LeadFeatures, true: Mapping[str, float]) -> dict[str, Any]:
    """Return the true height of the tallest upward and deepest downward deflection, where they are."""
    up = "r2_mv" if (lead.r2_mv or 0) > (lead.r_mv or 0) else "r_mv"
    down = "s_mv" if (lead.s_mv or 0) >= (lead.q_mv or 0) else "q_mv"
    found = {up: true["R"], down: true["S"]}
    return {name: number for name, number in found.items() if getattr(lead, name) is not None}
