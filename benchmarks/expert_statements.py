"""Verdicts on statements that LUDB's experts made: how many of them the verification contradicts.

    python benchmarks/expert_statements.py PATH/TO/ludb [--list]

Each diagnosis of the table's columns on rhythm, conduction, ectopy and pacing becomes a claim about its record; the
same statements hedged ("possible X") are the second line, those of them whose criterion is not met the third; the last
line takes "possible X" for every criterion that is not met, whether or not anyone would say so.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
import re

import numpy as np
import wfdb

from gem_lightning.claims.claim import Claim
from gem_lightning.claims.verify import verify
from gem_lightning.ecg import LEADS, EcgRecord
from gem_lightning.features import EcgFeatures, measure
from gem_lightning.features.criteria import criteria, decide

COLUMNS = ("Rhythms", "Conduction abnormalities", "Extrasystolies", "Cardiac pacing")
#: Beginning of a line of the table and the code that it states; the longest that fits counts.
PHRASES = {
    "sinus rhythm": "sinus_rhythm",
    "sinus bradycardia": "sinus_bradycardia",
    "sinus tachycardia": "sinus_tachycardia",
    "sinus arrhythmia": "sinus_arrhythmia",
    "atrial fibrillation": "atrial_fibrillation",
    "atrial flutter": "atrial_flutter",
    "i degree av block": "av_block_1",
    "iii degree av-block": "av_block_3",
    "complete right bundle branch block": "rbbb",
    "complete left bundle branch block": "lbbb",
    "incomplete right bundle branch block": "incomplete_rbbb",
    "incomplete left bundle branch block": "incomplete_lbbb",
    "left anterior hemiblock": "lafb",
    "non-specific intra": "ivcd",
    "atrial extrasystole": "pac",
    "ventricular extrasystole": "pvc",
    "unipolar ventricular pacing": "paced_rhythm",
    "bipolar ventricular pacing": "paced_rhythm",
    "biventricular pacing": "paced_rhythm",
}


def statements(row: dict[str, str]) -> list[tuple[str, str]]:
    """Return code and line of every statement of a row that has a code."""
    found = []
    for column in COLUMNS:
        for line in row[column].splitlines():
            text = line.strip().lower()
            fits = [key for key in PHRASES if text.startswith(key)]
            if fits:
                found.append((PHRASES[max(fits, key=len)], line.strip()))
    return found


def read(folder: pathlib.Path) -> list[tuple[dict[str, str], EcgFeatures]]:
    """Return row of the table and measurements of every record."""
    out = []
    for row in csv.DictReader((folder / "ludb.csv").open(newline="")):
        counts = wfdb.rdrecord(str(folder / "data" / row["ID"].strip()), physical=False).d_signal
        age = re.sub(r"\D", "", row["Age"])
        record = EcgRecord((counts.T / 1000).astype(np.float32), 500.0, LEADS)
        out.append((row, measure(record, age=float(age) if age else None, sex=row["Sex"].strip() or None)))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--list", action="store_true", help="print every contradicted statement")
    args = parser.parse_args()
    firm, hedged, doubted, missed = [], [], [], []
    for row, features in read(args.folder):
        for code, line in statements(row):
            claim = Claim("finding", finding=code)
            verdict = verify([claim, claim._replace(uncertain=True)], features).verdicts
            firm.append(verdict[0].verdict)
            hedged.append(verdict[1].verdict)
            if decide(code, features).met is False:
                doubted.append(verdict[1].verdict)
            if args.list and verdict[0].verdict == "contradicted":
                print(f"record {row['ID']}: {line}: {verdict[0].reason} {decide(code, features).margin:.1f}")
        absent = [code for code in criteria()["findings"] if decide(code, features).met is False]
        claims = [Claim("finding", finding=code, uncertain=True) for code in absent]
        missed += [verdict.verdict for verdict in verify(claims, features).verdicts]
    lines = {
        "stated": firm,
        "stated, hedged": hedged,
        "stated, hedged, criterion not met": doubted,
        "every criterion not met, hedged": missed,
    }
    for name, verdicts in lines.items():
        counts = {word: verdicts.count(word) for word in ("supported", "unverifiable", "contradicted")}
        print(f"{name}: {counts}, contradicted {counts['contradicted'] / len(verdicts):.1%} of {len(verdicts)}")


if __name__ == "__main__":
    main()
