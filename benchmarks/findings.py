"""Findings against LUDB's diagnosis table and against simulated diagnoses.

    python benchmarks/findings.py PATH/TO/ludb [--patients 8]

For every diagnosis of the table: cases, found, false, F1. Two readings belong here, not into the criteria: what F1
sinus bradycardia would have at other limits of the rate (LUDB labels it below about 55 bpm), and the axis by the older
scheme of LUDB (left below 0°, horizontal 0-30°, normal 30-70°, vertical 70-90°, right above 90°), of which left with
horizontal and normal with vertical are taken together.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
import re

import numpy as np
import wfdb

from gem_lightning.ecg import LEADS, EcgRecord, simulate
from gem_lightning.ecg.simulation.simulate import DIAGNOSES
from gem_lightning.features import EcgFeatures, findings, measure

RHYTHM, CONDUCTION, CHAMBER = "Rhythms", "Conduction abnormalities", "Hypertrophies"
TABLE = {
    "sinus_rhythm": (RHYTHM, "sinus rhythm"),
    "sinus_bradycardia": (RHYTHM, "sinus bradycardia"),
    "sinus_tachycardia": (RHYTHM, "sinus tachycardia"),
    "sinus_arrhythmia": (RHYTHM, "sinus arrhythmia"),
    "atrial_fibrillation": (RHYTHM, "atrial fibrillation"),
    "atrial_flutter": (RHYTHM, "atrial flutter"),
    "av_block_1": (CONDUCTION, "i degree av block"),
    "av_block_3": (CONDUCTION, "iii degree av-block"),
    "rbbb": (CONDUCTION, "complete right bundle branch block"),
    "lbbb": (CONDUCTION, "complete left bundle branch block"),
    "incomplete_rbbb": (CONDUCTION, "incomplete right bundle branch block"),
    "incomplete_lbbb": (CONDUCTION, "incomplete left bundle branch block"),
    "lafb": (CONDUCTION, "left anterior hemiblock"),
    "ivcd": (CONDUCTION, "non-specific intra"),
    "lvh": (CHAMBER, "left ventricular hypertrophy"),
    "rvh": (CHAMBER, "right ventricular hypertrophy"),
    "left_atrial_enlargement": (CHAMBER, "left atrial hypertrophy"),
    "right_atrial_enlargement": (CHAMBER, "right atrial"),
    "left_axis_deviation": ("Electric axis of the heart", "electric axis of the heart: left"),
    "right_axis_deviation": ("Electric axis of the heart", "electric axis of the heart: right"),
    "paced_rhythm": ("Cardiac pacing", "pacemaker"),
    "pvc": ("Extrasystolies", "ventricular"),
    "pac": ("Extrasystolies", "atrial"),
    "st_elevation": ("Ischemia", "stemi"),
    "early_repolarization": ("Other states", "early repolarization"),
}
AXIS = {"left axis deviation": 0, "horizontal": 0, "normal": 1, "vertical": 1, "right axis deviation": 2}
AXIS_LIMITS = (30.0, 90.0)  # degrees
BRADYCARDIA = (50.0, 55.0, 60.0)  # bpm: the 2018 guideline, LUDB's usage, textbooks


def read(folder: pathlib.Path) -> list[tuple[dict[str, str], EcgFeatures, set[str]]]:
    """Row of the table, measurements and finding codes of every record."""
    out = []
    for row in csv.DictReader((folder / "ludb.csv").open(newline="")):
        counts = wfdb.rdrecord(str(folder / "data" / row["ID"].strip()), physical=False).d_signal
        features = measure(EcgRecord((counts.T / 1000).astype(np.float32), 500.0, LEADS))
        age = re.sub(r"\D", "", row["Age"])
        stated = findings(features, float(age) if age else None, row["Sex"].strip() or None)
        out.append((row, features, {finding.code for finding in stated}))
    return out


def labelled(row: dict[str, str], column: str, words: str) -> bool:
    """Whether a line of the table's cell begins with these words."""
    return any(line.strip().lower().startswith(words) for line in row[column].splitlines())


def report(name: str, truth: list[bool], found: list[bool]) -> None:
    """Print one line of the table."""
    right = sum(t and f for t, f in zip(truth, found))
    f1 = 2 * right / max(sum(truth) + sum(found), 1)
    print(f"{name:34s}{sum(truth):5d}{right:7d}{sum(found) - right:7d}   {f1:.2f}")


def ludb(folder: pathlib.Path) -> None:
    """Print F1 of every diagnosis and the accuracy of the axis class."""
    records = read(folder)
    print(f"{'LUDB':34s}cases  found  false   F1")
    for code, (column, words) in TABLE.items():
        report(
            code, [labelled(row, column, words) for row, _, _ in records], [code in stated for *_, stated in records]
        )
    truth = [labelled(row, *TABLE["sinus_bradycardia"]) for row, _, _ in records]
    for limit in BRADYCARDIA:
        slow = [
            bool({"sinus_bradycardia", "sinus_rhythm"} & stated) and (f.heart_rate_bpm or 0) < limit
            for _, f, stated in records
        ]
        report(f"sinus_bradycardia below {limit:.0f} bpm", truth, slow)
    hits = []
    for row, features, _ in records:
        word, angle = row["Electric axis of the heart"].split(": ")[-1].strip(), features.axis_deg["QRS"]
        if word in AXIS and angle is not None:
            hits.append(AXIS[word] == int(np.searchsorted(AXIS_LIMITS, angle, "right")))
    print(f"axis class accuracy {np.mean(hits):.3f} of {len(hits)}")


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
    parser.add_argument("--patients", type=int, default=8)
    args = parser.parse_args()
    ludb(args.folder)
    simulated(args.patients)


if __name__ == "__main__":
    main()
