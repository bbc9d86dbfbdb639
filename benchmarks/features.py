"""Processor time of delineation, measurement and findings on one thread, for a 12-lead 10 s record at 500 Hz.

    python benchmarks/features.py

Target: 15 ms together; FeatureDB, the extractor of GEM's authors, took 290 ms on the same kind of machine.
"""

from __future__ import annotations

import time

import numpy as np

from gem_lightning.ecg import simulate
from gem_lightning.features import delineate, findings, measure

FEATUREDB_MS = 290.0
CASES = ("sinus", "atrial_fibrillation", "lvh", "rbbb", "pvc", "sinus_tachycardia")


def best_ms(function, repeats: int = 9) -> float:
    """Least processor time of several runs, ms."""
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        spent.append(time.process_time() - start)
    return 1000 * min(spent)


def main() -> None:
    rows = []
    for seed, case in enumerate(CASES):
        record = simulate(case, seed=seed, snr_db=20).record
        marks = delineate(record)
        features = measure(record, marks)
        findings(features)  # reads the criteria file once
        steps = (
            lambda r=record: delineate(r),
            lambda r=record, m=marks: measure(r, m),
            lambda f=features: findings(f.of_patient()),  # a copy: nothing is decided yet
        )
        rows.append([best_ms(step) for step in steps])
        print(f"{case:22s} delineate {rows[-1][0]:5.1f}  measure {rows[-1][1]:5.1f}  findings {rows[-1][2]:5.2f} ms")
    total = float(np.median(np.sum(rows, axis=1)))
    print(f"median together {total:.1f} ms; ratio to FeatureDB {FEATUREDB_MS / total:.0f}x")


if __name__ == "__main__":
    main()
