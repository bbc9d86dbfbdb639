"""The simulator benchmark: does a model read numbers and findings off an ECG whose truth is exactly known?"""

from __future__ import annotations

import math
import os
import pathlib
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from gem_lightning.claims.tolerance import default_tolerance
from gem_lightning.ecg import DIAGNOSES, SimulatedEcg, simulate
from gem_lightning.errors import DataError
from gem_lightning.evaluation.base import Prediction, Predictor, Progress, Query, Result, answer_all, fingerprint
from gem_lightning.evaluation.simulator_report import simulator_report
from gem_lightning.evaluation.statistics import bootstrap_sums, mean_interval, ratio
from gem_lightning.evaluation.text import QUANTITIES, Said, kept, read_text

TRUTH = {"rate": "heart_rate", "PR": "pr_ms", "QRS": "qrs_ms", "QT": "qt_ms"}
RATE_STEP = 10.0  # bpm: a truth that moves by more than this must move the text
SIMULATION = 1_000_000  # seeds a cohort, as in gem_lightning.ecg.simulate_cohort


class SimulatorBenchmark:
    """Asks about simulated ECGs and scores the texts against the truth.

    Every patient is asked about twice, the second time with another diagnosis: a text that does not follow the signal
    shows there.

    Args:
        n: Patients.
        seed: Cohort; no patient is shared with a cohort of another seed.
        diagnoses: Names to cycle through; None takes every one that the simulator knows.
        question: What is asked; None is the model's usual interpretation.
        pairs: Patients that are asked about a second time.
        fs: Sampling rate, Hz.
        seconds: Duration, s.
        parameters: Further arguments of :func:`gem_lightning.ecg.simulate`, such as ``snr_db``.
        draws: Bootstrap draws.
        cases: Worst and typical cases to show.
    """

    name = "simulator"

    def __init__(
        self,
        n: int = 200,
        seed: int = 7919,
        diagnoses: Sequence[str | Sequence[str]] | None = None,
        question: str | None = None,
        pairs: int | None = None,
        fs: float = 500,
        seconds: float = 10,
        parameters: dict[str, Any] | None = None,
        draws: int = 1000,
        cases: int = 4,
    ) -> None:
        if n < 1:
            raise DataError(f"expected at least 1 patient, got n={n}")
        self.n, self.seed, self.question = n, seed, question
        self.diagnoses = [d if isinstance(d, str) else tuple(d) for d in (diagnoses or DIAGNOSES)]
        self.pairs = min(n, n // 2 if pairs is None else pairs)
        self.options = {"fs": fs, "seconds": seconds, **(parameters or {})}
        self.settings = {"seed": seed, "diagnoses": self.diagnoses, "question": question, **self.options}
        self.draws, self.cases = draws, cases

    def ecg(self, name: str) -> SimulatedEcg:
        """The patient ``sim-SEED-NUMBER``, or with ``-b`` the same patient with the next diagnosis."""
        number = int(name.split("-")[2])
        turn = number + name.endswith("-b")
        diagnosis = self.diagnoses[turn % len(self.diagnoses)]
        extra = {} if turn == number else _moved_rate(self.diagnoses, number)
        return simulate(diagnosis, self.seed * SIMULATION + number, **{**self.options, **extra})

    def __call__(self, predictor: Predictor, out: str | os.PathLike[str], progress: Progress | None = None) -> Result:
        """Ask, score and report."""
        first = [f"sim-{self.seed}-{i:05d}" for i in range(self.n)]
        names = first + [f"{name}-b" for name in first[: self.pairs]]
        answers = answer_all(
            predictor,
            names,
            lambda name: Query(name, self.question, self.ecg(name).record),
            pathlib.Path(out) / "predictions.jsonl",
            progress,
            self.settings,
        )
        return self.score(answers, predictor.name)

    def score(self, answers: dict[str, Prediction], model: str = "model") -> Result:
        """Score texts by id; missing ones count as empty."""
        first = [f"sim-{self.seed}-{i:05d}" for i in range(self.n)]
        truth = {name: self.ecg(name) for name in first}
        said = {name: read_text(answers[name].text if name in answers else "") for name in first}
        numbers, errors = _numbers(truth, said, self.draws)
        findings, f1 = _findings(truth, said, self.draws)
        figures: dict[str, Any] = {
            "n": self.n,
            "numbers": numbers,
            "findings": findings,
            "uncertainty": _uncertainty(truth, said, self.draws),
            "change": self._change(answers, truth, said),
            "empty": sum(not said[name].claims for name in first),
            "failed": sum(answers[name].error is not None for name in first if name in answers),
            "missing": sum(name not in answers for name in first),
        }
        texts = {name: answers[name].text if name in answers else "" for name in first}
        report = simulator_report(figures, model, truth, said, texts, f1, self.cases)
        data = {name: fingerprint(ecg.record) for name, ecg in truth.items()}
        return Result(
            self.name, model, figures, report, {**errors, "finding F1": f1}, settings=self.settings, data=data
        )

    def _change(
        self, answers: dict[str, Prediction], truth: dict[str, SimulatedEcg], said: dict[str, Said]
    ) -> dict[str, Any]:
        """Does the text follow the signal when the same patient's signal changes?"""
        same_text, same_claims, followed = [], [], []
        for name in list(said)[: self.pairs]:
            other = answers.get(f"{name}-b")
            if other is None or name not in answers:
                continue
            after, moved = read_text(other.text), self.ecg(f"{name}-b")
            same_text.append(float(other.text == answers[name].text))
            same_claims.append(kept(said[name], after))
            step = moved.parameters["heart_rate"] - truth[name].parameters["heart_rate"]
            if abs(step) > RATE_STEP:
                quoted = [s.values.get("rate") for s in (said[name], after)]
                right = None not in quoted and (quoted[1] - quoted[0]) * step > 0  # type: ignore[operator]
                followed.append(float(right))
        return {
            "pairs": len(same_text),
            "identical_text": _mean(same_text, self.draws),
            "claims_kept": _mean(same_claims, self.draws),
            "rate_followed": _mean(followed, self.draws),
        }


def _moved_rate(diagnoses: Sequence[Any], number: int) -> dict[str, Any]:
    """With a single diagnosis the second look differs in rate instead."""
    return {"heart_rate": 60.0 if number % 2 else 100.0} if len(diagnoses) == 1 else {}


def _mean(values: list[float], draws: int) -> dict[str, Any] | None:
    return mean_interval(values, draws=draws).to_dict() if values else None


def _numbers(
    truth: dict[str, SimulatedEcg], said: dict[str, Said], draws: int
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Errors of quoted values, and beside them what quoting the cohort's median would give."""
    table: dict[str, Any] = {}
    errors: dict[str, dict[str, float]] = {}
    for quantity, (kind, unit) in QUANTITIES.items():
        true = np.array([_value(ecg.parameters.get(TRUTH[quantity])) for ecg in truth.values()])
        quoted = np.array([s.values.get(quantity, math.nan) for s in said.values()])
        exists = ~np.isnan(true)
        error = quoted - true
        column = np.where(exists, np.abs(error), math.nan)
        allowed = np.array([default_tolerance(kind, value).value if value == value else 0.0 for value in true])
        errors[f"{quantity} error, {unit}"] = {name: float(e) for name, e in zip(truth, column) if not math.isnan(e)}
        table[quantity] = {
            "unit": unit,
            "mae": mean_interval(column, draws=draws).to_dict(),
            "bias": mean_interval(np.where(exists, error, math.nan), draws=draws).to_dict(),
            "median_answer_mae": float(np.nanmean(np.abs(true - np.nanmedian(true)))) if exists.any() else None,
            "within": mean_interval(np.where(exists, (column <= allowed) * 1.0, math.nan), draws=draws).to_dict(),
            "quoted": mean_interval(np.where(exists, ~np.isnan(quoted) * 1.0, math.nan), draws=draws).to_dict(),
            "invented": int((~exists & ~np.isnan(quoted)).sum()),
            "points": [[float(t), float(q)] for t, q in zip(true, quoted) if not math.isnan(t + q)],
        }
    return table, errors


def _value(value: float | None) -> float:
    return math.nan if value is None else float(value)


@cache
def decidable() -> frozenset[str]:
    """Finding codes whose truth the simulator states for every record."""
    return frozenset(code for name in DIAGNOSES for seed in range(3) for code in simulate(name, seed).diagnoses)


def _findings(
    truth: dict[str, SimulatedEcg], said: dict[str, Said], draws: int
) -> tuple[dict[str, Any], dict[str, float]]:
    """F1 of asserted findings over the codes that the simulator decides; others are counted as undecided."""
    codes = sorted(decidable() | {code for ecg in truth.values() for code in ecg.diagnoses})
    place = {code: i for i, code in enumerate(codes)}
    true = np.zeros((len(truth), len(codes)), bool)
    stated = np.zeros_like(true)
    undecided: Counter[str] = Counter()
    false_denials = 0
    for row, (name, ecg) in enumerate(truth.items()):
        true[row, [place[code] for code in ecg.diagnoses]] = True
        for code in said[name].findings:
            if code in place:
                stated[row, place[code]] = True
            else:
                undecided[code] += 1
        false_denials += len(said[name].denied & set(ecg.diagnoses))
    cells = np.stack([true & stated, ~true & stated, true & ~stated], 2).astype(float)  # (n, codes, 3): TP FP FN
    kept_codes = true.any(0)

    def micro_macro(sums: np.ndarray) -> np.ndarray:
        tp, fp, fn = np.moveaxis(sums.reshape(len(sums), -1, 3), 2, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            each = 2 * tp / (2 * tp + fp + fn)
            micro = 2 * tp.sum(1) / (2 * tp + fp + fn).sum(1)
            precision, recall = tp.sum(1) / (tp + fp).sum(1), tp.sum(1) / (tp + fn).sum(1)
        macro = np.nanmean(each[:, kept_codes], 1)
        return np.stack([micro, macro, precision, recall], 1)

    intervals = bootstrap_sums(cells.reshape(len(cells), -1), micro_macro, draws=draws)
    whole = cells.sum(0)
    per_code = {
        code: {"cases": int(tp + fn), "stated": int(tp + fp), "right": int(tp), "f1": _f1(tp, fp, fn)}
        for code, (tp, fp, fn) in zip(codes, whole)
        if tp + fp + fn
    }
    figures: dict[str, Any] = {
        name: interval.to_dict() for name, interval in zip(("f1", "macro_f1", "precision", "recall"), intervals)
    }
    figures |= {"per_code": per_code, "undecided": dict(undecided), "false_denials": false_denials}
    return figures, {name: _f1(*row) or 0.0 for name, row in zip(truth, cells.sum(1))}


def _f1(tp: float, fp: float, fn: float) -> float | None:
    return float(2 * tp / (2 * tp + fp + fn)) if tp + fp + fn else None


def _uncertainty(truth: dict[str, SimulatedEcg], said: dict[str, Said], draws: int) -> dict[str, Any]:
    """Share of findings that are true, of those stated plainly and of those hedged."""
    known = decidable()
    table: dict[str, Any] = {}
    for word, wanted in (("stated plainly", True), ("hedged", False)):
        parts = np.zeros((len(truth), 2))
        for row, (name, ecg) in enumerate(truth.items()):
            codes = [code for code, certain in said[name].findings.items() if certain is wanted and code in known]
            parts[row] = sum(code in ecg.diagnoses for code in codes), len(codes)
        share = bootstrap_sums(parts, ratio, draws=draws)[0].to_dict()
        table[word] = {"findings": int(parts[:, 1].sum()), "true": share}
    return table
