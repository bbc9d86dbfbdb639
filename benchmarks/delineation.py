"""How well and how fast this library and others delineate LUDB, scored against the cardiologists' marks.

    python benchmarks/delineation.py PATH/TO/ludb [--others dwt cwt xqrs gqrs] [--limit 20] [--folds 5] [--patients 25]

The folder holds data/<id>.{hea,dat,i,ii,...} (PhysioNet LUDB 1.0.1). Mutual-nearest matching within 150 ms; false
positives only between a lead's first and last expert mark, all leads pooled, errors are found minus expert.
``--folds`` fits the constants of the QRS edges and the bias of every boundary on all other folds (records are dealt
out in turn) and scores each fold with them: the figures that new records of this kind can expect. ``--patients`` adds
simulated patients, clean and in noise, whose marks are true by construction.
"""

from __future__ import annotations

import argparse
import pathlib
import time

import numpy as np
import wfdb

from gem_lightning.ecg import LEADS, EcgRecord, simulate
from gem_lightning.features import Delineation, delineate
from gem_lightning.features.delineation import qrs as _qrs
from gem_lightning.features.delineation.neurokit import delineate_neurokit
from gem_lightning.features.schema import MARKS

TOLERANCE = 75  # samples of 2 ms
GRID = [(share, pull) for share in (0.5, 1.0, 2.0) for pull in (0.6, 1.0, 1.4)]  # factors on the constants in use
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


def load(folder: pathlib.Path, record_id: str) -> EcgRecord:
    """One record; LUDB's counts are microvolts."""
    signal = wfdb.rdrecord(str(folder / "data" / record_id), physical=False).d_signal.T / 1000
    return EcgRecord(signal.astype(np.float32), 500.0, LEADS)


def score(folder: pathlib.Path, records: list[str], method) -> tuple[dict[str, tuple], float]:
    """Per mark (sensitivity, PPV, bias, SD), and median milliseconds of processor time a record."""
    tally = {name: [0, 0, 0, []] for names in WAVES.values() for name in names}
    spent = []
    for record_id in records:
        record = load(folder, record_id)
        start = time.process_time()
        marks: Delineation = method(record)
        spent.append(time.process_time() - start)
        for i, lead in enumerate(LEADS):
            truth = expert(str(folder / "data" / record_id), lead)
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


def errors_of(folder: pathlib.Path, records: list[str]) -> dict[str, list[np.ndarray]]:
    """Errors (hits,) in ms of every boundary, an array a record."""
    out: dict[str, list[np.ndarray]] = {name: [] for name in MARKS if "_" in name}
    for record_id in records:
        marks = delineate(load(folder, record_id)).marks
        truths = [expert(str(folder / "data" / record_id), lead) for lead in LEADS]
        for name, rows in out.items():
            found = [np.sort(row[np.isfinite(row)]) for row in marks[name]]
            rows.append(np.concatenate([match(t[name], f)[0] for t, f in zip(truths, found)]))
    return out


def cross_validate(folder: pathlib.Path, records: list[str], folds: int) -> dict[str, tuple[float, float]]:
    """Bias and SD, ms, of every boundary on records that its constants were not fitted on."""
    used = {name: getattr(_qrs, name) for name in ("LEAD_ON", "LEAD_OFF", "PULL_ON", "PULL_OFF")}
    runs = []
    for share, pull in GRID:
        for name, number in used.items():
            setattr(_qrs, name, number * (share if name.startswith("LEAD") else pull))
        runs.append(errors_of(folder, records))
    for name, number in used.items():
        setattr(_qrs, name, number)
    fold = np.arange(len(records)) % folds
    held: dict[str, list[np.ndarray]] = {name: [] for name in runs[0]}
    for name, rows in held.items():
        for k in range(folds):
            train = [np.concatenate([run[name][i] for i in np.flatnonzero(fold != k)]) for run in runs]
            best = (
                int(np.argmin([error.std() for error in train])) if name.startswith("QRS") else GRID.index((1.0, 1.0))
            )
            rows += [runs[best][name][i] - train[best].mean() for i in np.flatnonzero(fold == k)]
    return {name: (float(np.concatenate(e).mean()), float(np.concatenate(e).std())) for name, e in held.items()}


def simulated(patients: int) -> None:
    """Print bias / SD of every boundary in sinus rhythm, and how many P waves found are none, by signal to noise."""
    print(f"\n{patients} simulated patients: bias / SD, ms; PPV of P, %")
    for snr_db in (None, 20, 10, 5):
        errors: dict[str, list[np.ndarray]] = {name: [] for name in MARKS if "_" in name}
        right = wrong = 0
        for seed in range(patients):
            sim = simulate("sinus", seed=seed, snr_db=snr_db)
            marks = delineate(sim.record).marks
            for name in (*errors, "P"):
                for truth, found in zip(sim.marks[name], marks[name]):
                    found = np.sort(found[np.isfinite(found)])
                    error, hit = match(truth[np.isfinite(truth)], found)
                    if name == "P":
                        right, wrong = right + hit.sum(), wrong + (~hit).sum()
                    else:
                        errors[name].append(error)
        both = {name: np.concatenate(rows) for name, rows in errors.items()}
        text = "  ".join(f"{name} {e.mean():.1f} / {e.std():.1f}" for name, e in both.items())
        print(f"{f'{snr_db} dB' if snr_db else 'clean':6s}{text}  PPV {100 * right / (right + wrong):.1f}")


def detect_qrs(record: EcgRecord, method: str) -> Delineation:
    """R peaks of wfdb's detectors, lead by lead; they find no boundaries."""
    from wfdb import processing

    rows = []
    for row in record.signal.astype(float):
        if method == "xqrs":
            found = processing.xqrs_detect(row, record.fs, verbose=False)
        else:
            found = processing.gqrs_detect(sig=row, fs=record.fs)
        rows.append(np.asarray(found, float))
    beats = max(map(len, rows))
    marks = {name: np.full((len(rows), beats), np.nan) for name in MARKS}
    for i, row in enumerate(rows):
        marks["R"][i, : len(row)] = row
    none = {name: np.full(beats, np.nan) for name in MARKS}
    return Delineation(marks, none, np.full(beats, "unknown"), np.ones(len(rows)), record.fs, record.leads)


def others(names: list[str]) -> dict:
    """Methods by the name that is printed."""
    detectors = ("xqrs", "gqrs")
    nk = {f"neurokit2 {m}": lambda r, m=m: delineate_neurokit(r, m) for m in names if m not in detectors}
    return nk | {f"wfdb {m}": lambda r, m=m: detect_qrs(r, m) for m in names if m in detectors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument(
        "--others", nargs="*", default=["dwt", "xqrs"], help="neurokit2: dwt cwt peak prominence; wfdb: xqrs gqrs"
    )
    parser.add_argument("--folds", type=int, default=0, help="cross-validate this library's constants")
    parser.add_argument("--patients", type=int, default=0, help="simulated patients")
    parser.add_argument("--limit", type=int, default=None, help="only so many records")
    args = parser.parse_args()
    records = sorted({p.stem for p in (args.folder / "data").glob("*.hea")}, key=int)[: args.limit]
    methods = {"gem_lightning": delineate} | others(args.others)
    delineate(EcgRecord(np.zeros((12, 5000), np.float32), 500.0))  # imports and caches before the clock runs
    speed = {}
    for name, method in methods.items():
        rows, speed[name] = score(args.folder, records, method)
        print(f"\n{name}: {len(records)} records, {speed[name]:.1f} ms a record")
        print("mark      Se %   PPV %  bias ms   SD ms")
        for mark, row in rows.items():
            if not np.isfinite(row[2]):
                continue  # this method does not look for it
            print(f"{mark:8s}{row[0]:6.2f}  {row[1]:6.2f}  {row[2]:7.2f}  {row[3]:6.2f}")
    if args.folds:
        print(f"\ngem_lightning, {args.folds}-fold cross-validation\nmark    bias ms   SD ms")
        for mark, (bias, sd) in cross_validate(args.folder, records, args.folds).items():
            print(f"{mark:8s}{bias:6.2f}  {sd:6.2f}")
    if args.patients:
        simulated(args.patients)
    for name in list(methods)[1:]:
        print(f"\nratio: {name} takes {speed[name] / speed['gem_lightning']:.0f}x the time")


if __name__ == "__main__":
    main()
