"""Linear probe of an encoder on LUDB's rhythm and conduction labels, beside the same probe on measured features.

    python benchmarks/encoder_ludb.py LUDB_FOLDER ENCODER_FOLDER

LUDB_FOLDER holds ludb.csv and data/ of LUDB 1.0.1, any part of it. Each record is one person; five folds by person.
Scores are pooled over folds; 95 % intervals resample persons. `untrained` is the same network with random weights.
"""

import csv
import sys
from pathlib import Path

import numpy as np
import wfdb

from gem_lightning.ecg import LEADS, EcgRecord
from gem_lightning.evaluation.encoder.benchmark import load_encoder
from gem_lightning.evaluation.encoder.metrics import macro_auroc
from gem_lightning.evaluation.encoder.probe import cross_validated
from gem_lightning.evaluation.statistics import bootstrap_weights, macro_auc
from gem_lightning.features import measure

LABELS = {
    "sinus bradycardia": ("Rhythms", "Sinus bradycardia"),
    "atrial fibrillation": ("Rhythms", "Atrial fibrillation"),
    "incomplete RBBB": ("Conduction abnormalities", "Incomplete right bundle branch block"),
    "left anterior hemiblock": ("Conduction abnormalities", "Left anterior hemiblock"),
    "first-degree AV block": ("Conduction abnormalities", "I degree av block"),
}


def read_ludb(path: Path) -> EcgRecord:
    """One record in mV: LUDB's header gains are normalised by lead, its raw counts are microvolts."""
    found = wfdb.rdrecord(str(path), physical=False)
    return EcgRecord(found.d_signal.T / 1000, found.fs, LEADS)


def hand_features(record: EcgRecord) -> np.ndarray:
    """(features,) intervals, axes, rhythm and voltages; what cannot be measured is NaN."""
    found = measure(record)
    values = [
        found.heart_rate_bpm, found.p_ms, found.pr_ms, found.qrs_ms, found.qt_ms, found.qtc_ms.get("bazett"),
        found.axis_deg.get("P"), found.axis_deg.get("QRS"), found.axis_deg.get("T"), found.rhythm.rr_cv,
        found.rhythm.p_per_qrs,
    ]  # fmt: skip
    for lead in found.leads.values():
        values += [lead.p_mv, lead.q_mv, lead.r_mv, lead.s_mv, lead.r2_mv, lead.t_mv]
    return np.array([np.nan if v is None else v for v in values], dtype=float)


def filled(table: np.ndarray) -> np.ndarray:
    """Unknown values as the column's median, with a column that says so."""
    unknown = np.isnan(table)
    median = np.nan_to_num(np.nanmedian(np.where(unknown.all(0), 0.0, table), axis=0))
    return np.hstack([np.where(unknown, median, table), unknown.astype(float)])


def main() -> None:
    import torch

    from gem_lightning.data.ecg_text.augment import fit_signal

    ludb, folder = Path(sys.argv[1]), sys.argv[2]
    rows = list(csv.DictReader((ludb / "ludb.csv").open(encoding="utf-8-sig")))
    records = [read_ludb(ludb / "data" / row["ID"].strip()) for row in rows]
    targets = np.array([[word in row[column].split("\n") for column, word in LABELS.values()] for row in rows], float)
    people = [row["ID"].strip() for row in rows]
    network, _ = load_encoder(folder)
    ecg = torch.from_numpy(np.stack([fit_signal(record.signal, network.ecg.samples) for record in records]))
    tables = {"hand features": filled(np.stack([hand_features(record) for record in records]))}
    with torch.inference_mode():
        tables["encoder"] = network.ecg.pool(ecg).numpy()
        network.ecg.init_parameters()
        tables["untrained"] = network.ecg.pool(ecg).numpy()
    print(f"{len(rows)} records; " + ", ".join(f"{n:.0f} {name}" for name, n in zip(LABELS, targets.sum(0))))
    for name, features in tables.items():
        scores = cross_validated(features, targets, people)
        [auc] = bootstrap_weights(lambda w, s=scores: macro_auc(s, targets, w), len(rows), people)
        print(f"{name:14s} macro AUC {auc.value:.3f} ({auc.low:.3f}–{auc.high:.3f})  " + each(scores, targets))


def each(scores: np.ndarray, targets: np.ndarray) -> str:
    values = (macro_auroc(scores[:, i : i + 1], targets[:, i : i + 1]) for i in range(len(LABELS)))
    return ", ".join(f"{name} {value:.2f}" for name, value in zip(LABELS, values))


if __name__ == "__main__":
    main()
