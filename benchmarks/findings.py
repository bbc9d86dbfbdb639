"""Findings against the experts' labels of LUDB and CinC-2021, and against simulated diagnoses.

    python benchmarks/findings.py PATH/TO/ludb [--cinc PATH/TO/cinc2021] [--patients 8] [--disagreements 40]

For every finding and database: cases, found, false, F1; then the mean F1 over findings with at least five cases. Where
a label follows another definition than the document that the criterion cites, the experts' own marks are the truth
instead: sinus bradycardia from their RR, ours over the same beats, and first-degree AV block from their PR. The axis is
also read by the older scheme of LUDB (left below 0°, horizontal 0-30°, normal 30-70°, vertical 70-90°, right above
90°), of which left with horizontal and normal with vertical are taken together. ``--disagreements`` lists where the two
differ.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
import re
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from delineation import expert, load
from gem_lightning.ecg import LEADS, read_ecg, simulate
from gem_lightning.ecg.simulation.simulate import DIAGNOSES
from gem_lightning.features import EcgFeatures, findings, measure
from gem_lightning.features.criteria import criteria, decide

RHYTHM, CONDUCTION, CHAMBER, AXIS = (
    "Rhythms", "Conduction abnormalities", "Hypertrophies", "Electric axis of the heart"
)  # fmt: skip
#: Finding → column of ``ludb.csv`` and how one of its lines begins.
LUDB: dict[str, tuple[str, str | tuple[str, ...]]] = {
    "sinus_rhythm": (RHYTHM, "sinus"),
    "sinus_tachycardia": (RHYTHM, "sinus tachycardia"),
    "sinus_arrhythmia": (RHYTHM, "sinus arrhythmia"),
    "atrial_fibrillation": (RHYTHM, "atrial fibrillation"),
    "atrial_flutter": (RHYTHM, "atrial flutter"),
    "av_block_3": (CONDUCTION, "iii degree av-block"),
    "sa_block": (CONDUCTION, "sinoatrial blockade"),
    "rbbb": (CONDUCTION, "complete right bundle branch block"),
    "lbbb": (CONDUCTION, "complete left bundle branch block"),
    "incomplete_rbbb": (CONDUCTION, "incomplete right bundle branch block"),
    "incomplete_lbbb": (CONDUCTION, "incomplete left bundle branch block"),
    "lafb": (CONDUCTION, "left anterior hemiblock"),
    "ivcd": (CONDUCTION, "non-specific intra"),
    "lvh": (CHAMBER, "left ventricular hypertrophy"),
    "rvh": (CHAMBER, "right ventricular hypertrophy"),
    "left_atrial_enlargement": (CHAMBER, "left atrial"),
    "right_atrial_enlargement": (CHAMBER, "right atrial"),
    "right_axis_deviation": (AXIS, "electric axis of the heart: right"),
    "paced_rhythm": ("Cardiac pacing", "pacemaker"),
    "pvc": ("Extrasystolies", "ventricular"),
    "pac": ("Extrasystolies", "atrial"),
    "mi": ("Ischemia", ("stemi", "scar", "undefined ischemia/scar")),
    "early_repolarization": ("Other states", "early repolarization"),
}
#: LUDB's labels that follow another definition than the criterion's document, and which.
OTHER_DEFINITION = {
    "incomplete_rbbb": "named from 82 ms on, by R' alone (AHA part III: 110 ms with the S waves)",
    "lafb": "named from an axis of -21° on and in wide complexes (AHA part III: -45° to -90°, below 120 ms)",
    "right_atrial_enlargement": "the tallest P of the labelled is 0.19 mV (AHA part V: above 0.25 mV)",
    "early_repolarization": "named from V3 alone (consensus paper of 2015: not from V1-V3)",
}
#: SNOMED CT codes that CinC-2021 uses besides the criterion's own.
ALSO = {
    "rbbb": ("59118001",), "pac": ("63593006",), "pvc": ("17338001",), "lvh": ("55827005",),
    "left_atrial_enlargement": ("253352002",), "st_depression": ("55930002", "428750005"), "t_flat": ("428750005",),
    "sinus_rhythm": ("427084000", "426177001", "427393009"),
}  # fmt: skip
SCHEME = {"left axis deviation": 0, "horizontal": 0, "normal": 1, "vertical": 1, "right axis deviation": 2}
SCHEME_LIMITS = (30.0, 90.0)  # degrees
LEAST = 5  # cases from which a finding counts in the mean


class Case(NamedTuple):
    """One record: its measurements, by finding whether the experts state it, and which seconds they marked."""

    name: str
    features: EcgFeatures
    truth: dict[str, bool]
    span_s: tuple[float, float] | None = None

    def found(self, code: str) -> bool:
        """Return whether the criterion is met; sinus rhythm at whatever rate."""
        if code == "sinus_bradycardia" and self.span_s:
            times = self.features.beats.time_s
            inside = times[(times > self.span_s[0]) & (times < self.span_s[1])]
            rate = 60.0 / float(np.mean(np.diff(inside))) if len(inside) > 1 else None
            return bool(decide(code, replace(self.features, heart_rate_bpm=rate)).met)
        return bool(decide(code, self.features).met)


def lines_of(row: dict[str, str], column: str) -> list[str]:
    """Return the lines of one cell in lower case."""
    return [line.strip().lower() for line in row[column].splitlines()]


def experts(folder: pathlib.Path, record: str) -> tuple[float, float, tuple[float, float]]:
    """Return the rate, bpm, PR, ms (second earliest onsets over leads), and first to last beat, s, that experts marked.

    NaN where unknown.
    """
    leads = [expert(str(folder / "data" / record), lead) for lead in LEADS]
    peaks = np.sort(np.concatenate([marks["R"] for marks in leads]))
    beats = [group for group in np.split(peaks, np.flatnonzero(np.diff(peaks) > 100) + 1) if len(group) >= 4]
    centres = np.array([np.median(group) for group in beats])

    def second(name: str, first: float, last: float) -> float:
        inside = [m[name][(m[name] > first) & (m[name] < last)] for m in leads]
        picks = np.sort([marks.max() for marks in inside if len(marks)])
        return float(picks[1]) if len(picks) >= 4 else float("nan")

    pr = [second("QRS_on", c - 60, c + 60) - second("P_on", c - 210, c - 20) for c in centres]
    known = [2.0 * value for value in pr if np.isfinite(value)]
    rate = 30_000.0 / float(np.mean(np.diff(centres))) if len(centres) > 1 else float("nan")
    span = (float(centres[0]) / 500 - 0.2, float(centres[-1]) / 500 + 0.2)
    return rate, float(np.median(known)) if known else float("nan"), span


def ludb(folder: pathlib.Path) -> list[Case]:
    """Return the cases of LUDB and print the accuracy of the axis class."""
    cases, hits = [], []
    for row in csv.DictReader((folder / "ludb.csv").open(newline="")):
        name, age = row["ID"].strip(), re.sub(r"\D", "", row["Age"])
        features = measure(load(folder, name), age=float(age) if age else None, sex=row["Sex"].strip() or None)
        truth = {code: any(line.startswith(text) for line in lines_of(row, column))
                 for code, (column, text) in LUDB.items()}  # fmt: skip
        rate, pr, span = experts(folder, name)
        truth["sinus_bradycardia"] = truth["sinus_rhythm"] and rate < 60
        truth["av_block_1"] = truth["sinus_rhythm"] and pr > 200
        cases.append(Case(name, features, truth, span))
        label, angle = row[AXIS].split(": ")[-1].strip(), features.axis_deg["QRS"]
        if label in SCHEME and angle is not None:
            hits.append(SCHEME[label] == int(np.searchsorted(SCHEME_LIMITS, angle, "right")))
    print(f"LUDB: axis class by its own scheme, accuracy {np.mean(hits):.3f} of {len(hits)}")
    return cases


def cinc(folder: pathlib.Path) -> list[Case]:
    """Return the cases of CinC-2021, by SNOMED CT codes; findings without a code or a label there do not count."""
    entries = criteria()["findings"].items()
    codes = {code: {entry["snomed"], *ALSO.get(code, ())} for code, entry in entries if entry["snomed"]}
    cases = []
    for path in sorted(folder.rglob("*.hea")):
        labels = set(re.findall(r"\d{6,}", next(s for s in path.read_text().splitlines() if "Dx" in s)))
        truth = {code: bool(labels & own) for code, own in codes.items()}
        cases.append(Case(path.stem, measure(read_ecg(path)), truth))
    used = [code for code in codes if any(case.truth[code] for case in cases)]
    return [case._replace(truth={code: case.truth[code] for code in used}) for case in cases]


def table(name: str, cases: list[Case]) -> dict[str, tuple[int, float]]:
    """Print one line for each finding; return cases and F1 of each."""
    scores = {}
    print(f"\n{name:34s}cases  found  false   F1")
    for code in cases[0].truth:
        truth, found = [c.truth[code] for c in cases], [c.found(code) for c in cases]
        right = sum(t and f for t, f in zip(truth, found))
        scores[code] = sum(truth), 2 * right / max(sum(truth) + sum(found), 1)
        note = OTHER_DEFINITION.get(code, "") if name == "LUDB" else ""
        print(f"{code:34s}{sum(truth):5d}{right:7d}{sum(found) - right:7d}   {scores[code][1]:.2f}  {note}".rstrip())
    return scores


def macro(scores: list[tuple[str, int, float]], counted: Callable[[str], bool]) -> str:
    """Return the mean F1 of the findings with enough cases."""
    f1 = [score for code, count, score in scores if count >= LEAST and counted(code)]
    return f"{np.mean(f1):.2f} of {len(f1)}"


def disagreements(databases: dict[str, list[Case]], count: int) -> None:
    """Print the first records whose label and finding differ, with the evidence of the criterion."""
    print("\ndisagreements")
    every = [(name, case, code) for name, cases in databases.items() for case in cases for code in case.truth]
    differ = [(n, case, code) for n, case, code in every if case.truth[code] != case.found(code)]
    for name, case, code in differ[:count]:
        decision = decide(code, case.features)
        values = {key: round(v, 2) if isinstance(v, float) else v for key, v in decision.evidence.items()}
        print(f"{name} {case.name:8s}{code:26s}{'label' if case.truth[code] else 'ours':6s}", values, decision.reason)
    print(f"{len(differ)} in all")


def simulated(patients: int) -> None:
    """Print, for every simulated diagnosis, in how many patients it is found."""
    print(f"\nsimulated diagnosis, found in (of {patients})")
    for diagnosis in DIAGNOSES:
        wanted = "sinus_rhythm" if diagnosis == "sinus" else diagnosis
        count = 0
        for seed in range(patients):
            sim = simulate(diagnosis, seed=seed)
            stated = findings(measure(sim.record), sim.parameters["age"], sim.parameters["sex"])
            count += wanted in {finding.code for finding in stated}
        print(f"{diagnosis:24s}{count:3d}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--cinc", type=pathlib.Path)
    parser.add_argument("--patients", type=int, default=8)
    parser.add_argument("--disagreements", type=int, default=0)
    args = parser.parse_args()
    databases = {"LUDB": ludb(args.folder)} | ({"CinC-2021": cinc(args.cinc)} if args.cinc else {})
    scores = [(code, *score) for name, cases in databases.items() for code, score in table(name, cases).items()]
    print(f"\nmean F1, at least {LEAST} cases: {macro(scores, lambda code: True)} findings; without labels by another "
          f"definition {macro(scores, lambda code: code not in OTHER_DEFINITION)}")  # fmt: skip
    if args.disagreements:
        disagreements(databases, args.disagreements)
    if args.patients:
        simulated(args.patients)


if __name__ == "__main__":
    main()
