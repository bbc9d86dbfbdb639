"""Dense encoder against `measure()`, the majority and experts: values and wave boundaries, on patients held out.

    python benchmarks/dense_encoder.py WEIGHTS [WEIGHTS ...] [--ludb FOLDER] [--qtdb FOLDER] [--cinc FOLDER]
        [--devices FILE ...]

WEIGHTS are folders of `ecg_dense_pretrain`. LUDB: the n-th is scored on the patients that `data.train.fold=n` holds
out, all pooled. QTDB: two leads are read as II and V2, ten as flat lines. Only the first is used there, on CinC-2021,
where labels are of rhythm alone, and on devices' files. Errors are found minus expert, intervals 95 % over patients.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import wfdb

from gem_lightning.ecg import EcgRecord, read_ecg
from gem_lightning.ecg.preprocess import clean, fit_length
from gem_lightning.ecg.recombination import QUANTITIES, MarkedRecord, true_values
from gem_lightning.evaluation.encoder.intervals import majority_values, measured_values, score_values
from gem_lightning.evaluation.statistics import mean_interval
from gem_lightning.features import Delineation, delineate, measure
from gem_lightning.features.reliability import disagreements
from gem_lightning.models.encoder.dense import DenseEncoder
from gem_lightning.models.encoder.dense_delineator import delineate_ensemble, delineate_neural
from gem_lightning.models.encoder.dense_store import load_dense
from gem_lightning.sources.marked import LudbMarks
from measurements import expert

ATRIAL_FIBRILLATION = "164889003"  # SNOMED CT
BOUNDARIES = ("P_on", "P_off", "QRS_on", "QRS_off", "T_on", "T_off")
NEAR_MS = 150.0  # further away it is another wave, as in the scoring of these databases
Pair = tuple[dict[str, np.ndarray], dict[str, np.ndarray], float]  # marks found, marks of experts, Hz


def methods(encoder: DenseEncoder) -> dict[str, Callable[[EcgRecord], Delineation]]:
    neural, ensemble = (partial(f, encoder=encoder) for f in (delineate_neural, delineate_ensemble))
    return {"native": delineate, "neural": neural, "ensemble": ensemble}


def decoded(encoder: DenseEncoder, records: list[EcgRecord]) -> np.ndarray:
    """(n, 33) in bpm, ms, mV and probabilities."""
    signals = np.stack([fit_length(np.nan_to_num(r.signal), encoder.samples) for r in records])
    return np.concatenate([encoder.decode(part).numpy() for part in torch.from_numpy(signals).split(16)])


def truth_of(marked: MarkedRecord) -> np.ndarray:
    signal = np.nan_to_num(marked.record.signal)
    return true_values(signal, marked.marks, marked.beat_class, marked.record.fs, marked.af, marked.pvc)


def errors(found: np.ndarray, truth: np.ndarray, fs: float) -> tuple[np.ndarray, int]:
    """Errors (hits,) in ms of the marks next to the experts', and the number of experts' marks."""
    found, truth = found[np.isfinite(found)], truth[np.isfinite(truth)]
    if not len(found) or not len(truth):
        return np.zeros(0), len(truth)
    nearest = np.abs(truth[:, None] - found).argmin(1)
    apart = (found[nearest] - truth) * 1000 / fs
    return apart[np.abs(apart) <= NEAR_MS], len(truth)


def boundaries(pairs: list[Pair]) -> str:
    """Sensitivity, bias and SD of each boundary over records."""
    cells = []
    for name in BOUNDARIES:
        rows = [errors(found[name], truth[name], fs) for found, truth, fs in pairs]
        every, count = np.concatenate([row[0] for row in rows]), sum(row[1] for row in rows)
        cells.append(f"{name} {100 * len(every) / max(count, 1):.1f}% {every.mean():+.1f} ±{every.std():.1f}")
    return "  ".join(cells)


def ludb(folder: str, encoders: list[DenseEncoder]) -> None:
    """Pool the folds: what each encoder reads of the patients that it was not trained on."""
    values: dict[str, list[np.ndarray]] = {}
    pairs: dict[str, list[Pair]] = {}
    truth, apart = [], []
    for fold, encoder in enumerate(encoders):
        held, train = list(LudbMarks(folder, "held_out", fold)), list(LudbMarks(folder, "train", fold))
        truth += [truth_of(m) for m in held]
        majority = majority_values(np.stack([truth_of(m) for m in train]))
        values.setdefault("majority", []).extend([majority] * len(held))
        values.setdefault("decoded heads", []).extend(decoded(encoder, [m.record for m in held]))
        found = {name: [method(m.record) for m in held] for name, method in methods(encoder).items()}
        for name, marks in found.items():
            pairs.setdefault(name, []).extend((d.global_marks, m.marks, m.record.fs) for d, m in zip(marks, held))
            values.setdefault(name, []).extend(measured_values(m.record, d) for d, m in zip(marks, held))
        both = zip(held, found["native"], found["neural"])
        apart += [bool(disagreements(measure(m.record, a), measure(m.record, b))) for m, a, b in both]
    show(values, np.stack(truth), np.array(apart))
    for name, rows in pairs.items():
        print(f"{name:14s}{boundaries(rows)}")


def show(values: dict[str, list[np.ndarray]], truth: np.ndarray, apart: np.ndarray) -> None:
    print(f"\nLUDB, {len(truth)} patients never trained on")
    for name, rows in values.items():
        scores = score_values(np.stack(rows), truth)
        missed = ", ".join(k for k, v in scores.items() if k.endswith("missed") and v.value > 0)
        kept = {k: v for k, v in scores.items() if not k.endswith("missed")}
        print(f"{name:14s}" + "  ".join(f"{k} {v}" for k, v in kept.items()) + (f"; some {missed}" if missed else ""))
    error = {name: np.abs(np.stack(rows) - truth)[:, 1:4] for name, rows in values.items()}
    for column, name in enumerate(("PR", "QRS", "QT")):
        less = mean_interval((error["ensemble"] - error["native"])[:, column])
        print(f"error of the ensemble less that of native, {name}: {less} ms")
    for label, chosen in (("disagree", apart), ("agree", ~apart)):
        for name in ("native", "neural", "ensemble"):
            error = np.nanmean(np.abs(np.stack(values[name]) - truth)[chosen, :4], axis=0)
            print(f"native and neural {label} in {chosen.sum()}: {name} errs {error.round(1)} (bpm, PR, QRS, QT ms)")


def qtdb(folder: pathlib.Path, encoder: DenseEncoder) -> None:
    records = []
    for path in sorted(folder.glob("*.hea")):
        raw = wfdb.rdrecord(str(path.with_suffix("")))
        records.append((EcgRecord(raw.p_signal.T.astype(np.float32), float(raw.fs), ("II", "V2")), path))
    truths = [expert(str(path.with_suffix(""))) for _, path in records]
    print(f"\nQTDB, {len(records)} records, two leads together: sensitivity, bias ± SD in ms")
    for name, method in methods(encoder).items():
        pairs = [(method(record).global_marks, truth, record.fs) for (record, _), truth in zip(records, truths)]
        print(f"{name:14s}{boundaries(pairs)}")


def cinc(folder: pathlib.Path, encoder: DenseEncoder) -> None:
    paths = sorted(folder.glob("*.hea"))
    records = [clean(read_ecg(path)) for path in paths]
    labels = [next(line for line in path.read_text().splitlines() if "Dx:" in line) for path in paths]
    truth = np.full((len(paths), len(QUANTITIES)), np.nan)
    af = QUANTITIES.index("af")
    truth[:, af] = [ATRIAL_FIBRILLATION in label for label in labels]
    measured = np.stack([measured_values(r) for r in records])
    print(f"\nCinC-2021, {len(paths)} records, {int(truth[:, af].sum())} labelled as fibrillation")
    for name, found in {"measure()": measured, "decoded heads": decoded(encoder, records)}.items():
        false = (found[:, af] > 0.5) & (truth[:, af] == 0)
        apart = np.nanmedian(np.abs(found - measured)[:, :4], axis=0)
        auc = score_values(found, truth).get("af_auc", "unknown: one class")
        print(f"{name:14s}AF AUC {auc}; false alarms {false.sum()}; median distance to measure() {apart.round(1)}")


def devices(files: list[pathlib.Path], encoder: DenseEncoder) -> None:
    print("\ndevice file: rate, PR, QRS, QT by the device | measure() | decoded heads | ensemble")
    for path in files:
        record = read_ecg(path)
        stored = record.meta.get("device_measurements") or {}
        own = [stored.get(n, np.nan) for n in ("heart_rate_bpm", "pr_ms", "qrs_ms", "qt_ms")]
        both = measured_values(record, delineate_ensemble(record, encoder))
        rows = [own, measured_values(record)[:4], decoded(encoder, [clean(record)])[0, :4], both[:4]]
        print(f"{path.name:46s}" + " | ".join(" ".join(f"{v:5.0f}" for v in row) for row in rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", nargs="+")
    parser.add_argument("--ludb")
    parser.add_argument("--qtdb", type=pathlib.Path)
    parser.add_argument("--cinc", type=pathlib.Path)
    parser.add_argument("--devices", type=pathlib.Path, nargs="*", default=[])
    args = parser.parse_args()
    torch.set_num_threads(1)
    encoders = [load_dense(folder) for folder in args.weights]
    if args.ludb:
        ludb(args.ludb, encoders)
    if args.qtdb:
        qtdb(args.qtdb, encoders[0])
    if args.cinc:
        cinc(args.cinc, encoders[0])
    if args.devices:
        devices(args.devices, encoders[0])


if __name__ == "__main__":
    main()
