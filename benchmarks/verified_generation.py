"""Verified generation against the truth: every mode on simulated ECGs and on LUDB's odd records.

    python benchmarks/verified_generation.py MODEL [--simulated 60] [--ludb FOLDER] [--records 40] [--modes greedy ...]

Truth is the simulator's, or the cardiologists' marks and diagnoses of LUDB; the verifier's own precision is not shown,
for after revision it is 1 by construction. Texts are kept in ``--out`` and not written again. ``compose`` uses no
model: what a model has to add something to.
"""

from __future__ import annotations

import argparse
import csv
import json
import pathlib
import re
import sys
import time

import numpy as np
import wfdb

from gem_lightning.composition.compose import compose
from gem_lightning.ecg import DIAGNOSES, LEADS, EcgRecord, simulate
from gem_lightning.evaluation.base import Prediction
from gem_lightning.evaluation.truth import Truth, truth_of_marks, truth_of_simulation
from gem_lightning.evaluation.verified import side_by_side
from gem_lightning.features import findings, measure
from gem_lightning.models import Gem

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from expert_statements import PHRASES, statements

COHORT = 7919  # of evaluate benchmark=simulator: no patient is shared with training
MODES = {
    "greedy": {},
    "rerank, best of 8": {"verify": "rerank"},
    "guide, flag": {"verify": "guide", "on_fail": "flag"},
    "guide": {"verify": "guide"},
    "revise": {"verify": "revise"},
    "revise, drop": {"verify": "revise", "on_fail": "drop"},
    "revise, tries=4": {"verify": "revise", "tries": 4},
    "guide, complete": {"verify": "guide", "complete": True},
    "revise, complete": {"verify": "revise", "complete": True},
    "compose, no model": None,
}
AXES = {"left axis deviation": "left_axis_deviation", "right axis deviation": "right_axis_deviation"}


def simulated(count: int) -> dict[str, tuple[EcgRecord, Truth]]:
    """Records of the simulator, every diagnosis in turn."""
    found = {}
    for k in range(count):
        ecg = simulate(DIAGNOSES[k % len(DIAGNOSES)], COHORT * 1_000_000 + k)
        found[f"sim-{k}"] = (ecg.record, truth_of_simulation(ecg))
    return found


def ludb(folder: pathlib.Path, count: int) -> dict[str, tuple[EcgRecord, Truth]]:
    """Records of LUDB with the experts' marks and diagnoses; the counts are microvolts."""
    found = {}
    known = {*PHRASES.values(), *AXES.values()}
    for row in list(csv.DictReader((folder / "ludb.csv").open(newline="")))[:count]:
        path = folder / "data" / row["ID"].strip()
        signal = wfdb.rdrecord(str(path), physical=False).d_signal.T / 1000
        age = re.sub(r"\D", "", row["Age"])
        meta = {"age": float(age) if age else None, "sex": row["Sex"].strip() or None}
        record = EcgRecord(signal.astype(np.float32), 500.0, LEADS, meta)
        axis = row["Electric axis of the heart"].lower()
        present = {code for code, _ in statements(row)} | {code for text, code in AXES.items() if text in axis}
        found[f"ludb-{path.name}"] = (record, truth_of_marks(record, path, present, known))
    return found


def answer(gem: Gem, record: EcgRecord, settings: dict | None, seed: int) -> dict:
    """One text with its draft, kept share, tokens and seconds."""
    start = time.perf_counter()
    if settings is None:
        features = measure(record)
        row = {"text": compose(features, findings(features), seed=seed)}
    else:
        done = gem.interpret(record, max_new_tokens=256, seed=seed, **settings)
        tokens = done.tokens or len(gem.processor.tokenizer(done.text, add_special_tokens=False)["input_ids"])
        draft = "".join(edit.draft for edit in done.edits).strip() or done.text
        row = {"text": done.text, "draft": draft, "kept": done.kept_share, "tokens": tokens}
    return row | {"seconds": round(time.perf_counter() - start, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--simulated", type=int, default=60)
    parser.add_argument("--ludb", type=pathlib.Path)
    parser.add_argument("--records", type=int, default=40, help="of LUDB")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("outputs/verified_generation"))
    args = parser.parse_args()
    gem = Gem.from_pretrained(args.model, device="cpu")
    cohorts = {"simulated": simulated(args.simulated)}
    if args.ludb:
        cohorts["LUDB"] = ludb(args.ludb, args.records)
    args.out.mkdir(parents=True, exist_ok=True)
    base: dict[str, float] = {}
    header = "records | mode | tokens | T precision (95 %) | T coverage, abnormal | T coverage, all | claims | kept"
    print(f"| {header} | garbled | empty | s |\n{'|---' * 11}|")
    for name, cohort in cohorts.items():
        truths = {record_id: truth for record_id, (_, truth) in cohort.items()}
        for mode in args.modes:
            path = args.out / f"{name}-{re.sub('[^a-z0-9]+', '-', mode)}.jsonl"
            rows = {r["id"]: r for r in map(json.loads, path.read_text().splitlines())} if path.exists() else {}
            with path.open("a") as file:
                for seed, (record_id, (record, _)) in enumerate(cohort.items()):
                    if record_id not in rows:
                        rows[record_id] = {"id": record_id, **answer(gem, record, MODES[mode], seed)}
                        file.write(json.dumps(rows[record_id]) + "\n")
                        file.flush()
            fields = ("text", "draft", "kept", "tokens")
            answers = {i: Prediction(**{f: rows[i].get(f) for f in fields}) for i in cohort}
            found = side_by_side(answers, truths)
            final, tokens = found["final"], found["tokens"] or 0.0
            base.setdefault(name, tokens)
            precision, seconds = final["precision"], np.mean([rows[i]["seconds"] for i in cohort])
            cells = [
                f"{name} {len(cohort)}", mode, f"{tokens / base[name]:.2f}",
                f"{precision['value']:.3f} ({precision['low']:.3f}–{precision['high']:.3f})",
                f"{final['coverage']['value']:.2f}", f"{final['findings']['value']:.2f}", f"{final['claims']:.1f}",
                "–" if MODES[mode] is None else f"{found['kept_share']:.2f}",
                f"{final['garbled']:.3f}", str(final["empty"]), f"{seconds:.1f}",
            ]  # fmt: skip
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
