"""Delineation and measurement on records that no constant was chosen on alone: QTDB, devices, CinC-2021, simulator.

    python benchmarks/measurements.py [--qtdb FOLDER] [--devices FILE ...] [--cinc FOLDER] [--simulated 500]
        [--pacing 70]

QTDB's marks (``.qc``) belong to both leads at once, so each lead is delineated alone and the lead nearest to a mark
counts, as usual for this database; a wave of a marked beat
is false where no expert's lies within 150 ms, in the lead with fewer such.
"""

from __future__ import annotations

import argparse
import pathlib

import numpy as np
import wfdb

from gem_lightning.ecg import EcgRecord, read_ecg, simulate
from gem_lightning.features import delineate, findings, measure
from gem_lightning.features.criteria import decide

WAVES = {0: ("P_on", "P", "P_off"), 1: ("QRS_on", "R", "QRS_off"), 2: ("T_on", "T", "T_off")}
SYMBOLS = {"p": 0, "N": 1, "t": 2}
TOLERANCE_S = 0.15
ATRIAL = {"atrial_fibrillation", "atrial_flutter"}
LABELLED_ATRIAL = {"164889003", "164890007"}  # SNOMED CT: fibrillation, flutter
INTERVALS = ("pr_ms", "qrs_ms", "qt_ms")


def expert(path: str) -> dict[str, np.ndarray]:
    """Expert marks (n,) by name, samples."""
    note = wfdb.rdann(path, "qc")
    marks: dict[str, list[int]] = {name: [] for names in WAVES.values() for name in names}
    for k, symbol in enumerate(note.symbol):
        kind = SYMBOLS.get(symbol, 1 if symbol.isalpha() and symbol.isupper() else None)
        if kind is None:
            continue
        on, peak, off = WAVES[kind]
        marks[peak].append(note.sample[k])
        if k and note.symbol[k - 1] == "(":
            marks[on].append(note.sample[k - 1])
        if k + 1 < len(note.symbol) and note.symbol[k + 1] == ")":
            marks[off].append(note.sample[k + 1])
    return {name: np.array(values, float) for name, values in marks.items()}


def false_marks(marks: dict[str, np.ndarray], name: str, truth: np.ndarray, beats: np.ndarray, fs: float) -> int:
    """Count a lead's marks without an expert's within 150 ms, in beats that the experts marked: not every beat is."""
    found, peak = marks[name][0], marks["R"][0]
    if not len(beats):
        return 0
    judged = np.isfinite(found) & (np.abs(peak[:, None] - beats).min(1) <= TOLERANCE_S * fs)
    apart = np.abs(found[judged][:, None] - truth).min(1) if len(truth) else np.full(judged.sum(), np.inf)
    return int((apart > TOLERANCE_S * fs).sum())


def score_record(path: str) -> dict[str, tuple[int, np.ndarray, int]]:
    """Return by mark: expert marks, errors (hits,) in ms of the nearer lead, false marks."""
    raw = wfdb.rdrecord(path)
    truth = expert(path)
    leads = []
    for row in raw.p_signal.T:
        record = EcgRecord(row[None].astype(np.float32), float(raw.fs), ("II",))
        leads.append(delineate(record).marks)
    out = {}
    for names in WAVES.values():
        peaks = truth[names[1]]
        for name in names:
            found = [np.sort(m[name][0][np.isfinite(m[name][0])]) for m in leads]
            near = [f[np.abs(truth[name][:, None] - f[None]).argmin(1)] - truth[name] for f in found if len(f)]
            error = np.zeros(0)
            if near and len(truth[name]):
                stack = np.stack(near)
                error = stack[np.abs(stack).argmin(0), np.arange(len(truth[name]))] * 1000 / raw.fs
            hits = error[np.abs(error) <= 1000 * TOLERANCE_S]
            false = [
                false_marks(m, name, truth[name] if len(truth[name]) >= len(peaks) else peaks, truth["R"], raw.fs)
                for m in leads
            ]
            out[name] = (len(truth[name]), hits, min(false))
    return out


def qtdb(folder: pathlib.Path) -> None:
    """Print sensitivity, PPV, bias and SD of every mark, and the records that lose P waves."""
    rows = {p.stem: score_record(str(p.with_suffix(""))) for p in sorted(folder.glob("*.hea"))}
    print(f"\nQTDB: {len(rows)} records\nmark      Se %   PPV %  bias ms   SD ms")
    for name in (n for names in WAVES.values() for n in names):
        truth = sum(r[name][0] for r in rows.values())
        error = np.concatenate([r[name][1] for r in rows.values()])
        false = sum(r[name][2] for r in rows.values())
        print(
            f"{name:8s}{100 * len(error) / truth:6.2f}  {100 * len(error) / max(len(error) + false, 1):6.2f}  "
            f"{error.mean():7.2f}  {error.std():6.2f}"
        )
    lost = {k: f"{len(r['P'][1])}/{r['P'][0]}" for k, r in rows.items() if len(r["P"][1]) < 0.8 * r["P"][0]}
    print(f"more than a fifth of P lost in {len(lost)}: {lost}")
    print(f"P where the experts mark none: { {k: r['P'][2] for k, r in rows.items() if r['P'][2] > 3} }")


def devices(files: list[pathlib.Path]) -> None:
    """Print our intervals less those that the device stored in the file."""
    print("\ndevice file: ours (device's), ms")
    for file in files:
        record = read_ecg(file)
        stored, ours = record.meta["device_measurements"], measure(record)
        text = "  ".join(f"{n[:-3]} {getattr(ours, n) or np.nan:.0f} ({stored.get(n, np.nan):.0f})" for n in INTERVALS)
        print(f"{file.name:40s}{text}")


def cinc(folder: pathlib.Path) -> None:
    """Print records in which fibrillation or flutter is found against the label, and those without any P wave."""
    false, bare = [], []
    for path in sorted(folder.glob("*.hea")):
        record = read_ecg(path)
        label = next(line for line in path.read_text().splitlines() if "Dx:" in line).split("Dx:")[1]
        labelled = bool(LABELLED_ATRIAL & {code.strip() for code in label.split(",")})
        features = measure(record)
        found = ATRIAL & {f.code for f in findings(features)}
        if bool(found) != labelled:
            false.append((path.stem, *sorted(found)))
        if not labelled and (features.rhythm.p_per_qrs or 0) < 0.5:
            bare.append((path.stem, features.rhythm.p_per_qrs))
    print(f"\nCinC-2021: fibrillation or flutter against the label in {false}\nP before fewer than half of QRS: {bare}")


def simulated(count: int) -> None:
    """Print how often sinus rhythm with ectopy, uneven RR and noise is called fibrillation or flutter; and recall."""
    cases = [("pac", {"every": n}) for n in (2, 3, 4, 6)] + [("pvc", {"every": n}) for n in (2, 3, 5)]
    cases += [("sinus_arrhythmia", {}), ("sinus", {}), ("av_block_2_mobitz_1", {})]
    wrong: dict[str, int] = {}
    absent = 0
    for seed in range(count):
        name, options = cases[seed % len(cases)]
        noise = (10, 15, 20, 25, 30)[seed // len(cases) % 5]
        features = measure(simulate(name, seed=seed, snr_db=noise, **options).record)
        codes = {f.code for f in findings(features)}
        absent += "p_absent" in codes
        for code in ATRIAL & codes:
            key = f"{name} {options.get('every', '')} {noise} dB: {code}"
            wrong[key] = wrong.get(key, 0) + 1
    print(
        f"\n{count} simulated sinus rhythms: fibrillation or flutter in {sum(wrong.values())} {wrong}, no P in {absent}"
    )
    for name in sorted(ATRIAL):
        runs = [measure(simulate(name, seed=s, snr_db=(10, 20, 30)[s % 3]).record) for s in range(count // 10)]
        hit = [name in {f.code for f in findings(f)} for f in runs]
        p = np.mean([f.rhythm.p_per_qrs for f in runs])
        print(f"{name}: found in {sum(hit)} of {len(hit)}, P per QRS {p:.2f}")
    for rate in (135, 155, 165):
        runs = [
            {
                f.code
                for f in findings(measure(simulate("sinus_tachycardia", seed=s, heart_rate=rate, snr_db=25).record))
            }
            for s in range(12)
        ]
        found, none = sum("sinus_tachycardia" in r for r in runs), sum("p_absent" in r for r in runs)
        print(f"sinus tachycardia at {rate}: {found} of 12, P absent in {none}")


def pacing(count: int) -> None:
    """Print the chambers found in so many simulated paced rhythms per chamber and noise; AV delays of 130-310 ms."""
    print("\nchamber of pacing, as found")
    for chamber in ("ventricle", "atrium", "atrium and ventricle"):
        for noise in (None, 25, 20, 15):
            found: dict[str, int] = {}
            for seed in range(count):
                options = {} if chamber == "ventricle" else {"pr_ms": 130 + 180 * seed / count}
                record = simulate("paced_rhythm", seed=seed, chamber=chamber, snr_db=noise, **options).record
                features = measure(record)
                paced, sinus = (decide(code, features) for code in ("paced_rhythm", "sinus_rhythm"))
                name = paced.evidence["paced_chamber"] if paced.met else "none"
                name += ", called sinus rhythm" if sinus.met else ""
                found[name] = found.get(name, 0) + 1
            print(f"{chamber}, {'clean' if noise is None else f'{noise} dB'}: {found}")


def mains(folder: pathlib.Path | None) -> None:
    """Print what 0.3 mV of mains and steps of 50 µV do to sinus rhythm, simulated and real."""
    records = {"simulated": [simulate("sinus", seed=s, snr_db=25).record for s in range(20)]}
    if folder:
        real = [read_ecg(p) for p in sorted(folder.glob("*.hea"))]
        records["real"] = [r for r in real if "sinus_rhythm" in {f.code for f in findings(measure(r))}]
    for kind, rows in records.items():
        for hertz in (50, 60, 0):
            codes = []
            for r in rows:
                wave = 0.3 * np.sin(2 * np.pi * hertz * np.arange(r.samples) / r.fs)
                signal = r.signal + wave if hertz else np.round(r.signal / 0.05) * 0.05
                codes.append({f.code for f in findings(measure(r.with_signal(signal.astype(np.float32))))})
            sinus, flutter = (sum(bool(c & s) for c in codes) for s in ({"sinus_rhythm"}, ATRIAL))
            what = f"{hertz} Hz of 0.3 mV" if hertz else "steps of 50 µV"
            empty = sum(not c for c in codes)
            print(f"{kind}, {what}: sinus rhythm in {sinus} of {len(rows)}, flutter or fibrillation {flutter}, "
                  f"nothing {empty}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--qtdb", type=pathlib.Path)
    parser.add_argument("--devices", type=pathlib.Path, nargs="*", default=[])
    parser.add_argument("--cinc", type=pathlib.Path)
    parser.add_argument("--simulated", type=int, default=0, help="how many simulated sinus rhythms")
    parser.add_argument("--pacing", type=int, default=0, help="how many paced rhythms per chamber and noise")
    parser.add_argument("--mains", action="store_true", help="mains and coarse steps, on --cinc's records too")
    args = parser.parse_args()
    if args.qtdb:
        qtdb(args.qtdb)
    if args.devices:
        devices(args.devices)
    if args.cinc:
        cinc(args.cinc)
    if args.simulated:
        simulated(args.simulated)
    if args.pacing:
        pacing(args.pacing)
    if args.mains:
        mains(args.cinc)


if __name__ == "__main__":
    main()
