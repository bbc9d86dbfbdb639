"""Instrument on reasoning chains: simulated records (the simulator's truth) and LUDB (experts' marks and diagnoses).

    python benchmarks/reasoning.py --simulated 500
    python benchmarks/reasoning.py --ludb FOLDER
    python benchmarks/reasoning.py --cinc FOLDER

Of LUDB the truth is measured between the marks of cardiologists (second earliest onset and second latest offset over
the leads), and a diagnosis is theirs; the instrument finds its own marks. CinC's headers hold diagnoses alone: there
the initial question is compared with them. Each failure is printed.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gem_lightning.composition.chains.chain import Chain
from gem_lightning.composition.chains.make import make_chains, mixed
from gem_lightning.composition.chains.pathways import pathways
from gem_lightning.composition.chains.view import View
from gem_lightning.ecg import DIAGNOSES, EcgRecord, read_ecg, simulate
from gem_lightning.evaluation.reasoning.instrument import InstrumentDialogue
from gem_lightning.evaluation.reasoning.score import Marked, mark, reasoning_metrics
from gem_lightning.features.criteria import criteria
from gem_lightning.features.schema import MARKS, Delineation

SEED = 8_000_000  # of simulated patients that nothing was looked at for
CODES = {
    "i degree av block": "av_block_1",
    "iii degree av-block": "av_block_3",
    "complete right bundle branch block": "rbbb",
    "complete left bundle branch block": "lbbb",
    "left anterior hemiblock": "lafb",
    "left ventricular hypertrophy": "lvh",
    "right ventricular hypertrophy": "rvh",
    "atrial fibrillation": "atrial_fibrillation",
    "atrial flutter, typical": "atrial_flutter",
}
UNCLASSED = {"pac", "pvc", "atrial_fibrillation", "atrial_flutter"}  # the experts do not mark which beats are early
SYMBOLS = {"p": "P", "N": "QRS", "t": "T"}


def answered(view: View, chain: Chain) -> list[str]:
    """Answers of the instrument to a chain."""
    talk, answers = InstrumentDialogue(view), []
    for question in chain.questions:
        answers.append(talk.ask(question))
        talk.note(question, question.answer)
    return answers


def simulated(count: int, per_record: int = 2) -> Iterator[Marked]:
    """Chains of simulated records with noise: one of a diagnosis that the record has, where any, and one not."""
    for i in range(count):
        ecg = simulate(DIAGNOSES[i % len(DIAGNOSES)], SEED + i, snr_db=25)
        name = f"{DIAGNOSES[i % len(DIAGNOSES)]}-{SEED + i}"
        chains = mixed(make_chains(View.simulated(ecg), name, "simulator", name, i), i)[:per_record]
        measured = View.of(ecg.record)
        yield from (report(chain, answered(measured, chain)) for chain in chains)


def ludb(folder: Path) -> Iterator[Marked]:
    """Every chain that the experts' marks and diagnoses answer."""
    with (folder / "ludb.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        record = ludb_record(folder, row)
        marks = expert_marks(folder, row["ID"].strip())
        if marks is None:
            continue
        codes = ludb_codes(row)
        truth = View.marked(record, marks, codes)
        wanted = [one for one in pathways() if not (one.startswith("premature") and codes & UNCLASSED)]
        measured = View.of(record)
        for chain in make_chains(truth, f"ludb-{row['ID'].strip()}", "ludb", row["ID"].strip(), 0, wanted):
            yield report(chain, answered(measured, chain))


def ludb_record(folder: Path, row: dict[str, str]) -> EcgRecord:
    """A record in mV (raw counts are microvolts), with age and sex."""
    import wfdb

    raw = wfdb.rdrecord(str(folder / "data" / row["ID"].strip()), physical=False)
    leads = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    age = row["Age"].strip()
    meta = {"sex": row["Sex"].strip(), "age": float(age) if age.isdecimal() else None}
    return EcgRecord(raw.d_signal.T.astype(np.float32) / 1000, float(raw.fs), leads, meta)


def ludb_codes(row: dict[str, str]) -> set[str]:
    """Finding codes of the cardiologists' diagnoses."""
    stated = [line.strip().lower() for name, cell in row.items() if name != "ID" for line in (cell or "").split("\n")]
    codes = {CODES[text] for text in stated if text in CODES}
    codes |= {f"mi_{wall}" for text in stated for wall in criteria()["territories"]
              if text.startswith(("stemi", "scar")) and wall in text}  # fmt: skip
    codes |= {"pvc" for text in stated if text.startswith("ventricular extrasystole")}
    return codes | {"pac" for text in stated if text.startswith("atrial extrasystole")}


def expert_marks(folder: Path, name: str) -> Delineation | None:
    """The marks of the twelve leads, beat by beat; None where fewer than three beats are marked."""
    import wfdb

    leads = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    found: dict[str, list[np.ndarray]] = {wave: [] for wave in SYMBOLS.values()}
    for lead in leads:
        notes = wfdb.rdann(str(folder / "data" / name), lead.lower())
        rows: dict[str, list[tuple[float, float, float]]] = {wave: [] for wave in SYMBOLS.values()}
        for k in range(1, len(notes.symbol) - 1):
            if notes.symbol[k] in SYMBOLS and (notes.symbol[k - 1], notes.symbol[k + 1]) == ("(", ")"):
                rows[SYMBOLS[notes.symbol[k]]].append(tuple(float(s) for s in notes.sample[k - 1 : k + 2]))
        for wave, some in rows.items():
            found[wave].append(np.array(some).reshape(-1, 3))
    peaks = np.sort(np.concatenate([some[:, 1] for some in found["QRS"]]))
    beats = np.array([np.median(g) for g in np.split(peaks, np.flatnonzero(np.diff(peaks) > 100) + 1) if len(g) >= 4])
    if len(beats) < 3:
        return None
    marks = {mark: np.full((12, len(beats)), np.nan) for mark in MARKS}
    windows = {
        "P": (-210, -10),
        "QRS": (-60, 60),
        "T": (20, 330),
    }  # samples around R, as the scoring of LUDB takes them
    free = []
    for i in range(12):
        for wave, (low, high) in windows.items():
            names = ("QRS_on", "R", "QRS_off") if wave == "QRS" else (f"{wave}_on", wave, f"{wave}_off")
            for on, peak, off in found[wave][i]:
                inside = np.flatnonzero((peak - beats >= low) & (peak - beats <= high))
                if len(inside):
                    beat = inside[np.argmin(np.abs(peak - beats[inside]))]
                    for mark_name, sample in zip(names, (on, peak, off)):
                        marks[mark_name][i, beat] = sample
                elif wave == "P":
                    free.append(peak)
    whole = {name: _whole(name, table) for name, table in marks.items()}
    classes, trust = np.array(["normal"] * len(beats), object), np.ones(12)
    return Delineation(marks, whole, classes, trust, 500.0, leads, extra_p=_groups(np.array(free), beats))


def _whole(name: str, table: np.ndarray) -> np.ndarray:
    """Second earliest onset, second latest offset, median peak over leads; NaN where fewer than four leads have one."""
    ordered = np.sort(table, axis=0)  # NaN last
    count = np.isfinite(table).sum(0)
    pick = np.ones_like(count) if name.endswith("_on") else count - 2 if name.endswith("_off") else count // 2
    chosen = ordered[np.clip(pick, 0, len(table) - 1), np.arange(table.shape[1])]
    return np.where(count >= 4, chosen, np.nan)


def _groups(peaks: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """P peaks that at least four leads show between two beats."""
    ordered = np.sort(peaks)
    groups = np.split(ordered, np.flatnonzero(np.diff(ordered) > 50) + 1) if len(ordered) else []
    middle = [float(np.median(group)) for group in groups if len(group) >= 4]
    return np.array([p for p in middle if beats[0] < p < beats[-1]])


def cinc(folder: Path) -> None:
    """The initial question of every diagnosis whose code a data set uses, against the header's codes."""
    hits, wrong = Counter[bool](), []
    snomed = {str(criteria()["findings"][one.code]["snomed"]): one for one in pathways().values()
              if one.code in criteria()["findings"] and criteria()["findings"][one.code]["snomed"]}  # fmt: skip
    for path in sorted(folder.glob("*.hea")):
        line = next(text for text in path.read_text().splitlines() if text.startswith("# Dx"))
        labels = set(line.partition(":")[2].strip().split(","))
        view = View.of(read_ecg(path))
        for code, one in snomed.items():
            present = view.present(one)
            hits[present is (code in labels)] += 1
            if present is not (code in labels) and (code in labels or present):
                wrong.append(f"  {path.stem} {one.id}: label {code in labels}, instrument {present}")
    print(f"CinC: {hits[True]} of {sum(hits.values())} diagnoses agree with the header")
    print("\n".join(wrong))


def report(chain: Chain, answers: list[str]) -> Marked:
    """Mark a chain and print its first wrong answer."""
    marked = mark(chain, answers)
    if not marked.complete:
        at = next(i for i, good in enumerate(marked.right) if i and not good)
        question = chain.questions[at]
        label = "present" if chain.present else "absent"
        print(f"  {chain.id} ({label}): {question.text} {'; '.join(question.options)}")
        print(f"    right {question.answer}, given {answers[at]}")
    return marked


def summary(name: str, marked: list[Marked]) -> None:
    """Print completion, depth and accuracy with their intervals."""
    metrics = reasoning_metrics(marked)
    present = [m for m in marked if m.chain.present]
    print(f"{name}: {len(marked)} chains of {len({m.chain.record for m in marked})} records, {len(present)} present")
    for key in ("completion", "depth_share", "initial", "accuracy"):
        row = metrics[key]
        print(f"  {key} {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]")
    kinds = {kind: row["value"] for kind, row in metrics["accuracy"].items() if isinstance(row, dict)}
    print("  " + ", ".join(f"{kind} {share:.3f}" for kind, share in kinds.items()))
    print(f"  completion where present {np.mean([m.complete for m in present]):.3f}")
    print(f"  first errors {metrics['first_errors']}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulated", type=int, default=0, help="number of records")
    parser.add_argument("--ludb", type=Path)
    parser.add_argument("--cinc", type=Path)
    options = parser.parse_args()
    if options.simulated:
        summary("simulated", list(simulated(options.simulated)))
    if options.ludb:
        summary("LUDB", list(ludb(options.ludb)))
    if options.cinc:
        cinc(options.cinc)
