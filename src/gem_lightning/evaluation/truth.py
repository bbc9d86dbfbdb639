"""Truth about a record that does not come from this library's delineation: the simulator's, or experts' marks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from gem_lightning.claims.claim import Claim
from gem_lightning.claims.extract import extract
from gem_lightning.claims.report import CONTRADICTED, SUPPORTED, UNVERIFIABLE, Verdict, mentions_of
from gem_lightning.claims.verify import Verifier
from gem_lightning.ecg import DIAGNOSES, EcgRecord, SimulatedEcg, simulate
from gem_lightning.features import Delineation, EcgFeatures, measure
from gem_lightning.features.criteria import by_lead, criteria
from gem_lightning.features.schema import MARKS

_WAVES = {"p": ("P_on", "P", "P_off"), "N": ("QRS_on", "R", "QRS_off"), "t": ("T_on", "T", "T_off")}
_SAME_BEAT_S = 0.12  # peaks of one QRS complex lie nearer together in all leads; two beats never do


@dataclass(frozen=True)
class Truth:
    """What is true of a record.

    Attributes:
        features: Measured at the true marks.
        present: Codes of the findings that are true.
        decidable: Codes that are false where they are not in ``present``.
    """

    features: EcgFeatures
    present: frozenset[str]
    decidable: frozenset[str]

    @property
    def abnormal(self) -> tuple[str, ...]:
        """Return the abnormal findings among the true ones, sorted."""
        known = criteria()["findings"]
        return tuple(sorted(code for code in self.present if known.get(code, {}).get("abnormal", True)))

    def verdict(self, claim: Claim) -> str:
        """Decide on one claim: ``supported``, ``contradicted``, or ``unverifiable`` where the truth is silent."""
        measured = Verifier(self.features)(claim).verdict
        code = str(claim.finding)
        if claim.kind != "finding" or claim.beat is not None or (claim.leads and by_lead(code)):
            return measured
        if code in self.present:
            return CONTRADICTED if claim.negated else SUPPORTED
        if code not in self.decidable or measured == (CONTRADICTED if claim.negated else SUPPORTED):
            return measured  # a finding that follows from another one, such as ST deviation in LBBB, is no lie
        if claim.negated:
            return SUPPORTED
        return UNVERIFIABLE if claim.uncertain and measured == UNVERIFIABLE else CONTRADICTED


@dataclass(frozen=True)
class TruthScore:
    """Counts of one text.

    Attributes:
        right: True claims.
        wrong: False claims.
        stated: True abnormal findings that the text states.
        abnormal: True abnormal findings.
        named: True findings, normal ones included, that the text states.
        present: True findings.
    """

    right: int
    wrong: int
    stated: int
    abnormal: int
    named: int
    present: int


def score_text(text: str, truth: Truth) -> TruthScore:
    """Compare a text with the truth, claim by claim."""
    verdicts = [Verdict(claim, truth.verdict(claim)) for claim in extract(text)]
    found = [v.verdict for v in verdicts]
    stated = mentions_of(verdicts, truth.abnormal)
    named = mentions_of(verdicts, tuple(truth.present))
    counts = len(stated), len(truth.abnormal), len(named), len(truth.present)
    return TruthScore(found.count(SUPPORTED), found.count(CONTRADICTED), *counts)


@cache
def decidable() -> frozenset[str]:
    """Return the finding codes whose truth the simulator states for every record."""
    return frozenset(code for name in DIAGNOSES for seed in range(3) for code in simulate(name, seed).diagnoses)


def truth_of_simulation(ecg: SimulatedEcg) -> Truth:
    """Truth by construction: measured on the signal without noise at the marks that it was drawn with."""
    record = replace(ecg.record, signal=ecg.clean.astype(np.float32))
    count = len(record.leads)
    marks = Delineation(
        ecg.marks,
        ecg.global_marks,
        ecg.beat_class.astype(object),
        np.ones(count),
        record.fs,
        record.leads,
        extra_p=ecg.extra_p,
        flutter="atrial_flutter" in ecg.diagnoses,
    )
    return Truth(measure(record, marks), frozenset(ecg.diagnoses), decidable())


def truth_of_marks(
    record: EcgRecord, path: str | os.PathLike[str], present: Iterable[str] = (), known: Iterable[str] = ()
) -> Truth:
    """Truth by experts: measured at their marks, with the findings that they named.

    Args:
        record: The record, mV.
        path: Of its WFDB annotations without extension; one annotator a lead, named in lower case (``1.avf``), with
            ``(`` onset, ``p N t`` peak and ``)`` offset of each wave.
        present: Codes of the findings that the experts named.
        known: Codes that they would have named if they were there.
    """
    return Truth(measure(record, expert_marks(record, path)), frozenset(present), frozenset(known))


def expert_marks(record: EcgRecord, path: str | os.PathLike[str]) -> Delineation:
    """Read the experts' marks of every lead; over all leads the second earliest onset and second latest offset count.

    One reader's slip in one lead does not move the record's intervals.
    """
    rows = [_annotated(os.fspath(path), lead) for lead in record.leads]
    same = _SAME_BEAT_S * record.fs
    peaks = np.sort(np.concatenate([waves["N"][:, 1] for waves in rows]))
    cuts = np.flatnonzero(np.diff(peaks) > same) + 1
    groups = [group for group in np.split(peaks, cuts) if len(group) > len(record.leads) // 2]
    beats = np.array([np.median(group) for group in groups])
    marks = {name: np.full((len(rows), len(beats)), np.nan) for name in MARKS}
    for row, waves in enumerate(rows):
        for symbol, names in _WAVES.items():
            for wave in waves[symbol]:
                at = _beat_of(symbol, wave[1], beats, same)
                if at is not None:
                    for name, sample in zip(names, wave):
                        marks[name][row, at] = sample
    whole = {name: _over_leads(name, values) for name, values in marks.items()}
    classes = np.array(["normal"] * len(beats), object)
    return Delineation(marks, whole, classes, np.ones(len(rows)), record.fs, record.leads)


def _annotated(path: str, lead: str) -> dict[str, np.ndarray]:
    """Waves of one lead by symbol, (n, 3) samples: onset, peak, offset, NaN where not marked."""
    import wfdb

    note: Any = wfdb.rdann(path, lead.lower())
    found: dict[str, list[list[float]]] = {symbol: [] for symbol in _WAVES}
    for k, symbol in enumerate(note.symbol):
        if symbol in found:
            on = note.sample[k - 1] if k and note.symbol[k - 1] == "(" else np.nan
            off = note.sample[k + 1] if k + 1 < len(note.symbol) and note.symbol[k + 1] == ")" else np.nan
            found[symbol].append([on, note.sample[k], off])
    return {symbol: np.array(waves, float).reshape(-1, 3) for symbol, waves in found.items()}


def _beat_of(symbol: str, peak: float, beats: np.ndarray, same: float) -> int | None:
    """The beat that a wave belongs to: its own QRS, the next one after a P, the one before a T."""
    if not len(beats):
        return None
    if symbol == "N":
        nearest = int(np.abs(beats - peak).argmin())
        return nearest if abs(beats[nearest] - peak) <= same else None
    following = int(np.searchsorted(beats, peak))
    if symbol == "p":
        return following if following < len(beats) else None
    return following - 1 if following > 0 else None


def _over_leads(name: str, values: np.ndarray) -> np.ndarray:
    """One mark for all leads, (beats,): second earliest onset, second latest offset, median peak."""
    if not name.endswith(("_on", "_off")):
        with np.errstate(all="ignore"):
            return np.array([np.nanmedian(c) if np.isfinite(c).any() else np.nan for c in values.T])
    chosen = np.full(values.shape[1], np.nan)
    for beat, column in enumerate(values.T):
        known = np.sort(column[np.isfinite(column)])
        if len(known):
            second = min(1, len(known) - 1)
            chosen[beat] = known[second] if name.endswith("_on") else known[-1 - second]
    return chosen
