"""Native, neural and averaged delineation of the whole heart against experts: LUDB's held-out patients and QTDB.

    python benchmarks/neural_delineation.py WEIGHTS --ludb FOLDER [--fold 0] [--qtdb FOLDER]

LUDB: marks over all leads, those of the fifth of the patients that WEIGHTS were not trained on. QTDB: the two leads are
read as II and V2, the other ten as flat lines; nothing was trained on it. Errors are found minus expert.
"""

from __future__ import annotations

import argparse
import pathlib
from functools import partial

import numpy as np
import wfdb

from gem_lightning.ecg import EcgRecord
from gem_lightning.ecg.recombination import true_values
from gem_lightning.evaluation.encoder.intervals import measured_values, score_values
from gem_lightning.features import delineate, measure
from gem_lightning.features.reliability import disagreements
from gem_lightning.models.encoder.dense_delineator import delineate_ensemble, delineate_neural
from gem_lightning.models.encoder.dense_store import load_dense
from gem_lightning.sources.marked import LudbMarks
from measurements import expert

BOUNDARIES = ("P_on", "P_off", "QRS_on", "QRS_off", "T_on", "T_off")
NEAR_MS = 150.0  # further away it is another wave, as in the scoring of these databases


def errors(found: np.ndarray, truth: np.ndarray, fs: float) -> tuple[np.ndarray, int]:
    """Errors (hits,) in ms of the marks next to the experts', and the number of experts' marks."""
    found, truth = found[np.isfinite(found)], truth[np.isfinite(truth)]
    if not len(found) or not len(truth):
        return np.zeros(0), len(truth)
    nearest = np.abs(truth[:, None] - found).argmin(1)
    apart = (found[nearest] - truth) * 1000 / fs
    return apart[np.abs(apart) <= NEAR_MS], len(truth)


def boundaries(pairs: list[tuple[dict, dict, float]]) -> str:
    """Sensitivity, bias and SD of each boundary over (found, expert, Hz) of records."""
    cells = []
    for name in BOUNDARIES:
        rows = [errors(found[name], truth[name], fs) for found, truth, fs in pairs]
        every, count = np.concatenate([row[0] for row in rows]), sum(row[1] for row in rows)
        cells.append(f"{name} {100 * len(every) / max(count, 1):.1f}% {every.mean():+.1f} ±{every.std():.1f}")
    return "  ".join(cells)


def ludb(folder: str, fold: int, methods: dict) -> None:
    held = list(LudbMarks(folder, "held_out", fold))
    print(f"\nLUDB fold {fold}, {len(held)} patients: Se, bias ± SD in ms")
    truth = np.stack(
        [true_values(np.nan_to_num(m.record.signal), m.marks, m.beat_class, m.record.fs, m.af, m.pvc) for m in held]
    )
    values = {}
    for name, method in methods.items():
        marks = [method(m.record) for m in held]
        print(f"{name:10s}{boundaries([(d.global_marks, m.marks, m.record.fs) for d, m in zip(marks, held)])}")
        values[name] = np.stack([measured_values(m.record, d) for d, m in zip(marks, held)])
    for name, found in values.items():
        scores = score_values(found, truth)
        kept = ("rate_bpm", "pr_ms", "qrs_ms", "qt_ms", "p_accuracy")
        print(f"{name:10s}" + "  ".join(f"{k} {scores[k]}" for k in kept))
    apart = [bool(disagreements(measure(m.record), measure(m.record, methods["neural"](m.record)))) for m in held]
    for label, chosen in (("disagree", np.array(apart)), ("agree", ~np.array(apart))):
        for name, found in values.items():
            error = np.nanmean(np.abs(found - truth)[chosen, :4], axis=0) if chosen.any() else np.full(4, np.nan)
            print(f"{label} in {chosen.sum()}: {name} errs {error.round(1)} (bpm, PR, QRS, QT ms)")


def qtdb(folder: pathlib.Path, methods: dict) -> None:
    records = []
    for path in sorted(folder.glob("*.hea")):
        raw = wfdb.rdrecord(str(path.with_suffix("")))
        records.append((EcgRecord(raw.p_signal.T.astype(np.float32), float(raw.fs), ("II", "V2")), path))
    print(f"\nQTDB, {len(records)} records, two leads together: Se, bias ± SD in ms")
    truths = [expert(str(path.with_suffix(""))) for _, path in records]
    for name, method in methods.items():
        pairs = [(method(record).global_marks, truth, record.fs) for (record, _), truth in zip(records, truths)]
        print(f"{name:10s}{boundaries(pairs)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights")
    parser.add_argument("--ludb")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--qtdb", type=pathlib.Path)
    args = parser.parse_args()
    encoder = load_dense(args.weights)
    methods = {
        "native": delineate,
        "neural": partial(delineate_neural, encoder=encoder),
        "ensemble": partial(delineate_ensemble, encoder=encoder),
    }
    if args.ludb:
        ludb(args.ludb, args.fold, methods)
    if args.qtdb:
        qtdb(args.qtdb, methods)


if __name__ == "__main__":
    main()
