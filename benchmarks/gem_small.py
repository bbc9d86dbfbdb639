"""The small GEM against experts' marks, labels and the simulator's truth, alongside what needs no training.

    python benchmarks/gem_small.py MODEL --ludb FOLDER [--cinc FOLDER] [--simulated 96] [--out outputs/gem_small]

LUDB: only patients that no part of the model was trained on (``is_held_out``). CinC 2021: rate against ``measure()``,
fibrillation against its labels. QTDB has two leads, which a twelve-lead encoder cannot read. Texts are greedy.
``majority`` always gives the commonest answer of the training patients, ``compose`` the library's own measurements.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torchmetrics.functional.classification import binary_calibration_error

from gem_lightning.claims.report import CONTRADICTED
from gem_lightning.composition.compose import compose
from gem_lightning.composition.instrument import disagreement, drawn_reading, instrument_reading
from gem_lightning.data.cohort import noisy
from gem_lightning.data.truths import MarkedRecords
from gem_lightning.ecg import EcgRecord
from gem_lightning.ecg.readers import read_ecg
from gem_lightning.evaluation.base import Prediction
from gem_lightning.evaluation.contrast import CommonestAnswer
from gem_lightning.evaluation.predictors import as_predictor
from gem_lightning.evaluation.simulator import SimulatorBenchmark
from gem_lightning.evaluation.statistics import mean_interval
from gem_lightning.evaluation.text import claims_kept, read_text
from gem_lightning.evaluation.truth import Truth
from gem_lightning.evaluation.verified import side_by_side
from gem_lightning.features import EcgFeatures, findings, measure
from gem_lightning.features.reliability import LIMITS
from gem_lightning.models import Gem
from gem_lightning.models.encoder.dense_values import VALUES
from gem_lightning.reporting.evaluation import with_interval
from gem_lightning.sources.marked import LudbMarks, is_held_out

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from verified_generation import ludb

Answers = dict[str, Prediction]
TOKENS = 160  # the longest brief text of the training cohorts has 150
NO_P = {"p_absent", "atrial_fibrillation", "atrial_flutter", "junctional_rhythm"}
AF_CODE = "164889003"  # SNOMED CT, in the headers of CinC 2021
WORDINGS = (
    "Interpret this ECG.",
    "Read this ECG.",
    "What do you see on this tracing?",
    "Kindly assess this recording.",
)


def written_by(gem: Gem, records: Mapping[str, EcgRecord], question: str | None = None, **settings: Any) -> Answers:
    """Greedy texts of a model, by record id."""
    found = gem.interpret_many(
        list(records.values()), question, max_new_tokens=TOKENS, batch_size=8, seed=0, **settings
    )
    answers = {}
    for name, one in zip(records, found, strict=True):
        if isinstance(one, Exception):
            answers[name] = Prediction("", error=str(one))
            continue
        draft = "".join(edit.draft for edit in one.edits).strip() or one.text
        answers[name] = Prediction(one.text, draft=draft if one.edits else None, kept=one.kept_share)
    return answers


def composed(records: Mapping[str, EcgRecord]) -> Answers:
    """The brief text of the library's own measurements."""
    answers = {}
    for name, record in records.items():
        features = measure(record)
        answers[name] = Prediction(compose(features, findings(features), 0, "brief"))
    return answers


def majority(folder: pathlib.Path) -> Callable[[Mapping[str, EcgRecord]], Answers]:
    """The commonest answer of LUDB's training patients, for every record."""
    records = MarkedRecords(LudbMarks(str(folder), "train"), gain=(1.0, 1.0))
    texts = []
    for index in range(len(list(records.records))):
        features = records(index, 0).view.features
        texts.append(compose(features, findings(features), 0, "brief"))
    text = CommonestAnswer(texts).text
    return lambda records: {name: Prediction(text) for name in records}


def numbers(answers: Answers, truths: Mapping[str, Truth]) -> dict[str, Any]:
    """Errors of the quoted values, presence of P and fibrillation, and claims against the truth."""
    contents = {name: read_text(answers[name].text) for name in truths}
    found: dict[str, Any] = {}
    for quantity, field in (("rate", "heart_rate_bpm"), ("PR", "pr_ms"), ("QRS", "qrs_ms"), ("QT", "qt_ms")):
        true = np.array([np.nan if (v := getattr(t.features, field)) is None else v for t in truths.values()], float)
        quoted = np.array([contents[name].values.get(quantity, np.nan) for name in truths])
        error = np.abs(quoted - true)
        found[f"{quantity} MAE"] = mean_interval(error)
        found[f"{quantity} quoted"] = f"{np.isfinite(quoted[np.isfinite(true)]).mean():.0%}"
        if quantity == "rate":
            found["rate within 5"] = mean_interval(np.where(np.isfinite(true), (error <= 5) * 1.0, np.nan))
    states_p = np.array([not NO_P & c.findings.keys() and bool(c.claims) for c in contents.values()])
    has_p = np.array([t.features.pr_ms is not None for t in truths.values()])
    found["P accuracy"] = mean_interval((states_p == has_p) * 1.0)
    states_af = np.array(["atrial_fibrillation" in c.findings for c in contents.values()])
    has_af = np.array(["atrial_fibrillation" in t.present for t in truths.values()])
    found["AF accuracy"] = mean_interval((states_af == has_af) * 1.0)
    found["AF found"] = (
        f"{int((states_af & has_af).sum())} of {int(has_af.sum())}, {int((states_af & ~has_af).sum())} false"
    )
    scored = side_by_side(answers, truths)
    for name in ("precision", "coverage", "findings"):
        value = scored["final"][name]
        found[name] = with_interval(value, 3)
    found |= {"claims": scored["final"]["claims"], "kept share": scored["kept_share"]}
    return found


def readings(
    records: Mapping[str, EcgRecord], truths: Mapping[str, Truth]
) -> tuple[list[EcgFeatures], dict[str, tuple[str, float]]]:
    """The library's reading of each record with one value far off, and by record that value's field and size."""
    told, wrong = [], {}
    for number, (name, record) in enumerate(records.items()):
        draw = np.random.default_rng([22, number])
        off, _, fields = drawn_reading(truths[name].features, True, draw)
        (field,) = fields
        told.append(replace(instrument_reading(record), **{field: getattr(off, field)}))
        wrong[name] = (field, getattr(off, field))
    return told, wrong


def follows_the_signal(
    answers: Answers, truths: Mapping[str, Truth], wrong: Mapping[str, tuple[str, float]]
) -> dict[str, Any]:
    """Share of texts that quote the value nearer the experts' than the wrong one, and that say that the two differ."""
    nearer, said = [], []
    for name, (field, value) in wrong.items():
        quoted = read_text(answers[name].text).values.get(LIMITS[field][0], np.nan)
        true = getattr(truths[name].features, field)
        nearer.append(float(abs(quoted - true) < abs(quoted - value)))
        said.append(float(disagreement([field]).strip() in answers[name].text))
    return {"follows the signal": str(mean_interval(nearer)), "says so": str(mean_interval(said))}


def labelled(answers: Answers, records: Mapping[str, EcgRecord], af: Mapping[str, bool]) -> dict[str, Any]:
    """Rate against ``measure()`` and fibrillation against labels, where there are no expert marks."""
    contents = {name: read_text(answers[name].text) for name in records}
    true = np.array([measure(record).heart_rate_bpm or np.nan for record in records.values()])
    error = np.abs(np.array([contents[name].values.get("rate", np.nan) for name in records]) - true)
    states = np.array(["atrial_fibrillation" in c.findings for c in contents.values()])
    label = np.array([af[name] for name in records])
    return {
        "rate MAE": mean_interval(error),
        "rate within 5": mean_interval((error <= 5) * 1.0),
        "AF accuracy": mean_interval((states == label) * 1.0),
        "AF found": f"{int((states & label).sum())} of {int(label.sum())}, {int((states & ~label).sum())} false",
    }


def cinc(folder: pathlib.Path) -> tuple[dict[str, EcgRecord], dict[str, bool]]:
    """Records of CinC 2021 and whether their headers name fibrillation."""
    headers = sorted(folder.glob("*.hea"))
    return {p.stem: read_ecg(str(p)) for p in headers}, {p.stem: AF_CODE in p.read_text() for p in headers}


def example_copies(count: int = 20) -> dict[str, EcgRecord]:
    """The real ECG of ``predict record=example``: whole, cut at random to nine seconds, and with noise on it."""
    import pydicom.examples

    whole = read_ecg(str(pydicom.examples.get_path("waveform")))
    draw, copies = np.random.default_rng(0), {"whole": whole}
    for k in range(count):
        length = round(9.0 * whole.fs)
        start = int(draw.integers(whole.samples - length + 1))
        copies[f"crop {k}"] = replace(whole, signal=whole.signal[:, start : start + length])
        copies[f"noisy {k}"] = noisy(whole, (12.0, 25.0), (0.0, 0.2), draw)
    return copies


def on_example(gem: Gem) -> dict[str, Any]:
    """Rate and contradicted claims over the copies of the real example, by the library's own measurements."""
    copies = example_copies()
    true = measure(copies["whole"]).heart_rate_bpm
    found = gem.interpret_many(list(copies.values()), max_new_tokens=TOKENS, batch_size=8, seed=0)
    rates = np.array([read_text(one.text).values.get("rate", np.nan) for one in found])
    wrong = [one.claims.count(CONTRADICTED) for one in found]
    return {
        "text": found[0].text,
        "rate": true,
        "rates within 3": float((np.abs(rates - (true or np.nan)) <= 3).mean()),
        "rates": [float(rates[np.isfinite(rates)].min()), float(rates[np.isfinite(rates)].max())],
        "contradicted, whole": wrong[0],
        "contradicted, mean": float(np.mean(wrong)),
        "copies": len(copies),
    }


def wordings(gem: Gem, records: Mapping[str, EcgRecord]) -> float:
    """Share of claims that stay when only the question's wording changes; the last wording was never trained on."""
    texts = [{n: read_text(a.text) for n, a in written_by(gem, records, question).items()} for question in WORDINGS]
    return float(np.mean([claims_kept(texts[0][name], other[name]) for other in texts[1:] for name in records]))


def show(title: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Print one table, methods in columns."""
    names = list(dict.fromkeys(key for row in rows.values() for key in row))
    print(f"\n{title}\n\n| | {' | '.join(rows)} |\n|{'---|' * (len(rows) + 1)}")
    for name in names:
        cells = [f"{v:.2f}" if isinstance(v := row.get(name, ""), float) else str(v) for row in rows.values()]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--ludb", type=pathlib.Path)
    parser.add_argument("--cinc", type=pathlib.Path)
    parser.add_argument("--simulated", type=int, default=96)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("outputs/gem_small"))
    args = parser.parse_args()
    gem = Gem.from_pretrained(args.model, device="cpu", dtype=torch.float32)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.ludb:
        on_ludb(gem, args.ludb, args.out)
    show("the real example", {"gem_small": on_example(gem)})
    if args.cinc:
        records, af = cinc(args.cinc)
        rows = {"gem_small": labelled(written_by(gem, records), records, af)}
        show(f"CinC 2021, {len(records)} records", rows | {"compose": labelled(composed(records), records, af)})
    if args.simulated:
        show(f"simulator, {args.simulated} patients", {"gem_small": on_simulator(gem, args.simulated, args.out)})


def on_ludb(gem: Gem, folder: pathlib.Path, out: pathlib.Path) -> None:
    """Print the scores on LUDB's held-out patients and keep the texts."""
    held = {n: v for n, v in ludb(folder, 200).items() if is_held_out(int(n.removeprefix("ludb-")))}
    truths = {name: truth for name, (_, truth) in held.items()}
    records = {name: record for name, (record, _) in held.items()}
    untrained = Gem(type(gem.model)(gem.model.config).eval(), gem.processor)
    told, wrong = readings(records, truths)
    written = {
        "gem_small": written_by(gem, records),
        "gem_small, instrument": written_by(gem, records, instrument=True),
        "gem_small, revise": written_by(gem, records, verify="revise"),
        "compose": composed(records),
        "majority": majority(folder)(records),
        "untrained": written_by(untrained, records),
    }
    show(f"LUDB, {len(held)} held-out patients", {n: numbers(a, truths) for n, a in written.items()})
    texts = {name: {i: a.text for i, a in answers.items()} for name, answers in written.items()}
    (out / "ludb.json").write_text(json.dumps(texts, indent=1))
    followed = follows_the_signal(written_by(gem, records, instrument=told), truths, wrong)
    print(f"\nconflicting instrument: {json.dumps(followed)}")
    print(f"\nclaims kept when only the question's wording changes: {wordings(gem, records):.3f}", flush=True)


def on_simulator(gem: Gem, count: int, out: pathlib.Path) -> dict[str, Any]:
    """Numbers, findings and change of text on simulated patients that no cohort of training shares."""
    bench = SimulatorBenchmark(count, pairs=count // 4)
    found = bench(as_predictor(gem, "gem_small"), out / "simulated").metrics
    row: dict[str, Any] = {f"{name} MAE": values["mae"]["value"] for name, values in found["numbers"].items()}
    row |= {f"{name} of the median answer": v["median_answer_mae"] for name, v in found["numbers"].items()}
    row |= {"finding macro F1": found["findings"]["macro_f1"]["value"], "F1": found["findings"]["f1"]["value"]}
    for words, stated in found["uncertainty"].items():
        row[f"true where {words}"] = f"{stated['true']['value']:.2f} of {stated['findings']}"
    row |= calibration(gem, bench)
    return row | {name: v["value"] for name, v in found["change"].items() if isinstance(v, dict)}


def calibration(gem: Gem, bench: SimulatorBenchmark) -> dict[str, float]:
    """Expected calibration error of the encoder's probabilities of P waves, fibrillation and premature beats."""
    encoder = gem.model.model.ecg_tower.encoder
    made = [bench.ecg(name) for name in bench.names]
    signals = torch.from_numpy(np.stack([one.record.signal for one in made]).astype(np.float32))
    with torch.no_grad():
        stated = torch.cat([encoder.decode(part) for part in signals.split(16)])
    errors = {}
    for name, codes in (("af", {"atrial_fibrillation"}), ("pvc", {"pvc", "bigeminy"})):
        probability = stated[:, VALUES.index(name)]
        true = torch.tensor([bool(codes & set(one.diagnoses)) for one in made])
        errors[f"ECE of {name}"] = float(binary_calibration_error(probability, true.long(), n_bins=10))
    return errors


if __name__ == "__main__":
    main()
