"""How well and how fast this library and others delineate LUDB, scored against the cardiologists' marks.

    python benchmarks/delineation.py PATH/TO/ludb [--others dwt cwt] [--limit 20]

The folder holds data/<id>.{hea,dat,i,ii,...} (PhysioNet LUDB 1.0.1). Mutual-nearest matching within 150 ms; false
positives only between a lead's first and last expert mark, all leads pooled, errors are found minus expert.
"""

from __future__ import annotations

import argparse
import pathlib
import time

import numpy as np
import wfdb

from gem_lightning.ecg import LEADS, EcgRecord
from gem_lightning.features import Delineation, delineate
from gem_lightning.features._neurokit import delineate_neurokit

TOLERANCE = 75  # samples of 2 ms
WAVES = {"p": ("P_on", "P", "P_off"), "N": ("QRS_on", "R", "QRS_off"), "t": ("T_on", "T", "T_off")}


def expert(path: str, lead: str) -> dict[str, np.ndarray]:
    """Expert marks of one lead by mark name, samples."""
    note = wfdb.rdann(path, lead.lower())
    marks: dict[str, list[float]] = {name: [] for names in WAVES.values() for name in names}
    for k, symbol in enumerate(note.symbol):
        if symbol not in WAVES:
            continue
        on, peak, off = WAVES[symbol]
        marks[peak].append(note.sample[k])
        if k and note.symbol[k - 1] == "(":
            marks[on].append(note.sample[k - 1])
        if k + 1 < len(note.symbol) and note.symbol[k + 1] == ")":
            marks[off].append(note.sample[k + 1])
    return {name: np.array(values, float) for name, values in marks.items()}


def match(truth: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors (hits,) in ms, and which found marks (n,) are hits."""
    hit = np.zeros(len(found), bool)
    if not len(truth) or not len(found):
        return np.zeros(0), hit
    distance = np.abs(truth[:, None] - found[None])
    nearest, back = distance.argmin(1), distance.argmin(0)
    mutual = (back[nearest] == np.arange(len(truth))) & (distance.min(1) <= TOLERANCE)
    hit[nearest[mutual]] = True
    return 2.0 * (found[nearest[mutual]] - truth[mutual]), hit


def score(folder: pathlib.Path, records: list[str], method) -> tuple[dict[str, tuple], float]:
    """Per mark (sensitivity, PPV, bias, SD), and median milliseconds of processor time a record."""
    tally = {name: [0, 0, 0, []] for names in WAVES.values() for name in names}
    spent = []
    for record_id in records:
        path = str(folder / "data" / record_id)
        signal = wfdb.rdrecord(path, physical=False).d_signal.T / 1000  # counts are microvolts
        record = EcgRecord(signal.astype(np.float32), 500.0, LEADS)
        start = time.process_time()
        marks: Delineation = method(record)
        spent.append(time.process_time() - start)
        for i, lead in enumerate(LEADS):
            truth = expert(path, lead)
            every = np.concatenate(list(truth.values()))
            for name, sums in tally.items():
                found = np.sort(marks.marks[name][i])
                found = found[np.isfinite(found)]
                error, hit = match(truth[name], found)
                sums[0] += len(error)
                sums[1] += len(truth[name]) - len(error)
                if len(every):
                    sums[2] += int((~hit & (found >= every.min()) & (found <= every.max())).sum())
                sums[3].append(error)
    rows = {}
    for name, (right, missed, wrong, errors) in tally.items():
        error = np.concatenate(errors)
        rows[name] = (
            100 * right / max(right + missed, 1),
            100 * right / max(right + wrong, 1),
            float(error.mean()) if len(error) else np.nan,
            float(error.std()) if len(error) else np.nan,
        )
    return rows, 1000 * float(np.median(spent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--others", nargs="*", default=["dwt"], help="neurokit2 methods: dwt cwt peak prominence")
    parser.add_argument("--limit", type=int, default=None, help="only so many records")
    args = parser.parse_args()
    records = sorted({p.stem for p in (args.folder / "data").glob("*.hea")}, key=int)[: args.limit]
    methods = {"gem_lightning": delineate}
    methods |= {f"neurokit2 {m}": lambda r, m=m: delineate_neurokit(r, m) for m in args.others}
    delineate(EcgRecord(np.zeros((12, 5000), np.float32), 500.0))  # imports and caches before the clock runs
    speed = {}
    for name, method in methods.items():
        rows, speed[name] = score(args.folder, records, method)
        print(f"\n{name}: {len(records)} records, {speed[name]:.1f} ms a record")
        print("mark      Se %   PPV %  bias ms   SD ms")
        for mark, row in rows.items():
            print(f"{mark:8s}{row[0]:6.2f}  {row[1]:6.2f}  {row[2]:7.2f}  {row[3]:6.2f}")
    for name in list(methods)[1:]:
        print(f"\nratio: {name} takes {speed[name] / speed['gem_lightning']:.0f}x the time")


if __name__ == "__main__":
    main()
