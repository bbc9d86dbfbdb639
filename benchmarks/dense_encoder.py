"""Dense encoder, decoded, against `measure()` and the majority: LUDB by experts' marks, CinC-2021 by label, devices.

    python benchmarks/dense_encoder.py WEIGHTS [WEIGHTS ...] --ludb FOLDER [--cinc FOLDER] [--devices FILE ...]

WEIGHTS are folders of `ecg_dense_pretrain`. LUDB is scored on the patients that its `train` split holds out (fold 0).
"""

from __future__ import annotations

import argparse
import pathlib

import numpy as np
import torch

from gem_lightning.ecg import EcgRecord, read_ecg
from gem_lightning.ecg.preprocess import clean, fit_length
from gem_lightning.ecg.recombination import QUANTITIES, MarkedRecord, true_values
from gem_lightning.evaluation.encoder.intervals import majority_values, measured_values, score_values
from gem_lightning.models.encoder.dense_store import load_dense
from gem_lightning.sources.marked import LudbMarks

ATRIAL_FIBRILLATION = "164889003"  # SNOMED CT


def read_dense(folder: str, records: list[EcgRecord]) -> np.ndarray:
    """(n, 33) in bpm, ms, mV and probabilities."""
    encoder = load_dense(folder)
    signals = np.stack([fit_length(np.nan_to_num(r.signal), encoder.samples) for r in records])
    return np.concatenate([encoder.decode(part).numpy() for part in torch.from_numpy(signals).split(16)])


def truth_of(marked: MarkedRecord) -> np.ndarray:
    signal = np.nan_to_num(marked.record.signal)
    return true_values(signal, marked.marks, marked.beat_class, marked.record.fs, marked.af, marked.pvc)


def show(title: str, tables: dict[str, np.ndarray], truth: np.ndarray) -> None:
    print(f"\n{title}")
    for name, found in tables.items():
        scores = score_values(found, truth)
        print(f"{name:24s}" + "  ".join(f"{k} {v.value:.3g} [{v.low:.3g}, {v.high:.3g}]" for k, v in scores.items()))


def ludb(folder: str, weights: list[str]) -> None:
    held, train = list(LudbMarks(folder, "held_out")), list(LudbMarks(folder, "train"))
    truth = np.stack([truth_of(m) for m in held])
    records = [m.record for m in held]
    majority = majority_values(np.stack([truth_of(m) for m in train]))
    tables = {"majority": np.tile(majority, (len(held), 1))}
    tables["measure()"] = np.stack([measured_values(r) for r in records])
    tables |= {pathlib.Path(w).parent.name or w: read_dense(w, records) for w in weights}
    show(f"LUDB, {len(held)} patients never trained on", tables, truth)


def cinc(folder: pathlib.Path, weights: list[str]) -> None:
    paths = sorted(folder.glob("*.hea"))
    records = [clean(read_ecg(path)) for path in paths]
    truth = np.full((len(paths), len(QUANTITIES)), np.nan)
    for row, path in zip(truth, paths):
        label = next(line for line in path.read_text().splitlines() if "Dx:" in line)
        row[QUANTITIES.index("af")] = ATRIAL_FIBRILLATION in label
    measured = np.stack([measured_values(r) for r in records])
    print(f"\nCinC-2021, {len(paths)} records; fibrillation by label, numbers against measure()")
    for name, found in {"measure()": measured, **{w: read_dense(w, records) for w in weights}}.items():
        apart = np.nanmedian(np.abs(found - measured)[:, :4], axis=0)
        called = (found[:, QUANTITIES.index("af")] > 0.5) & (truth[:, QUANTITIES.index("af")] == 0)
        auc = score_values(found, truth).get("af_auc", "unknown: one class only")
        print(f"{name:40s}AF AUC {auc}, false in {called.sum()}; median distance {apart.round(1)}")


def devices(files: list[pathlib.Path], weights: list[str]) -> None:
    print("\ndevice file: rate, PR, QRS, QT by the device | measure() | dense")
    for path in files:
        record = read_ecg(path)
        stored = record.meta.get("device_measurements") or {}
        own = [stored.get(n, np.nan) for n in ("heart_rate_bpm", "pr_ms", "qrs_ms", "qt_ms")]
        rows = [own, measured_values(record)[:4], *(read_dense(w, [clean(record)])[0, :4] for w in weights)]
        print(f"{path.name:46s}" + " | ".join(" ".join(f"{v:5.0f}" for v in row) for row in rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", nargs="+")
    parser.add_argument("--ludb")
    parser.add_argument("--cinc", type=pathlib.Path)
    parser.add_argument("--devices", type=pathlib.Path, nargs="*", default=[])
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.ludb:
        ludb(args.ludb, args.weights)
    if args.cinc:
        cinc(args.cinc, args.weights)
    if args.devices:
        devices(args.devices, args.weights)


if __name__ == "__main__":
    main()
