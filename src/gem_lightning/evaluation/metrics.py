"""Benchmark scores as torchmetrics metrics, for validation loops.

| class | function with the same values |
|---|---|
| :class:`EcgBenchMetric` | :func:`gem_lightning.evaluation.ecgbench.score` |
| :class:`JudgedMetric` | :func:`gem_lightning.evaluation.grounding.score`, ``report.score`` |
| :class:`SimulatorMetric` | :func:`simulated_metrics` |
| :class:`ClaimMetric` | :func:`gem_lightning.evaluation.claims.claim_metrics` |

:func:`score_answers` adds metrics of your own to the result of any benchmark.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torchmetrics import Metric

from gem_lightning.claims.verify import verify
from gem_lightning.ecg import SimulatedEcg
from gem_lightning.errors import DataError
from gem_lightning.evaluation.base import Prediction, Result, read_predictions
from gem_lightning.evaluation.ecgbench import strict
from gem_lightning.evaluation.ecgbench.tasks import find_task
from gem_lightning.evaluation.llm_judge import grounding, report
from gem_lightning.evaluation.llm_judge.parsing import Criterion, read
from gem_lightning.evaluation.predictions import prediction_id
from gem_lightning.evaluation.simulator import TRUTH, decidable
from gem_lightning.evaluation.statistics import mean_interval, nanmean
from gem_lightning.evaluation.text import QUANTITIES, read_text
from gem_lightning.reporting.evaluation import with_interval
from gem_lightning.reporting.html import Table

if TYPE_CHECKING:
    from gem_lightning.claims.report import ClaimReport
    from gem_lightning.features.schema import EcgFeatures


class RecordMetric(Metric):
    """Keeps one row per record, under the record's id.

    A distributed sampler repeats records to fill the last batch, and a rank may get none at all: rows are gathered and
    each id counts once, so that the values are those of one process over the whole set.

    Args:
        width: Numbers per record.
        **kwargs: Arguments of :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False

    rows: list[torch.Tensor]

    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def keep(self, ids: Sequence[str], rows: np.ndarray) -> None:
        """Add rows (n, width)."""
        keys = np.array([[_key(name)] for name in ids], np.float64).reshape(-1, 1)
        table = np.concatenate([keys, np.asarray(rows, np.float64).reshape(-1, self.width)], 1)  # (n, 1 + width)
        self.rows.append(torch.from_numpy(table).to(self.device))

    def table(self) -> np.ndarray:
        """Return rows (records, width), one per record, in a fixed order."""
        rows = self.rows if isinstance(self.rows, list) else [self.rows]
        if not rows or not sum(len(part) for part in rows):
            raise DataError(f"expected records before {type(self).__name__}.compute(), got none; call update() first")
        table = torch.cat(rows).cpu().numpy()
        return table[np.unique(table[:, 0], return_index=True)[1], 1:]

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        if isinstance(self.rows, list) and not self.rows:  # a rank without records still joins the gathering
            self.rows = [torch.zeros((0, 1 + self.width), dtype=torch.float64, device=self.device)]
        super()._sync_dist(*args, **kwargs)


def _key(name: str) -> float:
    """Return 52 bits of the id's hash: exact in float64."""
    return float(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 12)


def _tensors(values: dict[str, float]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


class EcgBenchMetric(RecordMetric):
    """Strict metrics of a label, choice or set task of ECG-Bench.

    Args:
        task: Name of the task.
        **kwargs: Arguments of :class:`torchmetrics.Metric`.
    """

    higher_is_better = True

    def __init__(self, task: str, **kwargs: Any) -> None:
        self.task = find_task(task)
        self.space = strict.label_space(self.task)
        super().__init__(2 * len(self.space) + 1 if self.task.kind == "labels" else 2, **kwargs)

    def update(self, predictions: Sequence[dict[str, Any]], gold: Sequence[dict[str, Any]]) -> None:
        """Add predictions with their gold rows, in the same order."""
        ids = [prediction_id(row) for row in gold]
        if [prediction_id(row) for row in predictions] != ids:
            raise DataError(
                "expected predictions and gold rows of the same ids in the same order; sort one by the other"
            )
        if self.task.kind == "labels":
            true, stated, ok = strict.label_matrices(self.task, list(predictions), list(gold), self.space)
            rows = np.concatenate([true, stated, ~ok[:, None]], 1)
        else:
            hits = [strict.hit(self.task, row, answer)[:2] for row, answer in zip(predictions, gold)]
            rows = np.array([[right, not parsed] for right, parsed in hits])
        self.keep(ids, rows.astype(np.float64))

    def compute(self) -> dict[str, torch.Tensor]:
        """Return ``accuracy``, or ``f1``, ``balanced_accuracy``, ``hamming`` and ``exact``; and ``unparsed_rate``."""
        table = self.table()
        unread = float(table[:, -1].mean())
        if self.task.kind != "labels":
            return _tensors({"accuracy": float(table[:, 0].mean()), "unparsed_rate": unread})
        width = len(self.space)
        values = strict.label_metrics(table[:, :width] > 0, table[:, width : 2 * width] > 0)
        return _tensors(values | {"unparsed_rate": unread})


class JudgedMetric(RecordMetric):
    """Strict means of judge scores, by criterion.

    Args:
        scheme: ``v1`` or ``v2`` (ECG-Grounding), ``ptb-test-report`` or ``arena``.
        **kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        DataError: An unknown scheme.
    """

    higher_is_better = True

    def __init__(self, scheme: str = "v1", **kwargs: Any) -> None:
        schemes: dict[str, tuple[Criterion, ...]] = {**grounding.VERSIONS, **report.ASPECTS}
        if scheme not in schemes:
            raise DataError(f"expected scheme {', '.join(schemes)}, got {scheme!r}")
        self.criteria = schemes[scheme]
        super().__init__(len(self.criteria), **kwargs)

    def update(self, judgements: dict[str, Any]) -> None:
        """Add answers by record id."""
        values = [read(answer, self.criteria).values for answer in judgements.values()]
        rows = [[v.get(c.name, math.nan) * c.scale for c in self.criteria] for v in values]
        self.keep(list(judgements), np.array(rows))

    def compute(self) -> dict[str, torch.Tensor]:
        """Return the mean of each criterion over the records that have it; NaN where none has."""
        return _tensors({c.name: float(mean) for c, mean in zip(self.criteria, nanmean(self.table().T))})


class SimulatorMetric(RecordMetric):
    """Errors of quoted numbers and F1 of findings against simulated truth.

    Args:
        **kwargs: Arguments of :class:`torchmetrics.Metric`.
    """

    higher_is_better = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(len(QUANTITIES) * 2 + 3, **kwargs)

    def update(self, ids: Sequence[str], texts: Sequence[str], truth: Sequence[SimulatedEcg]) -> None:
        """Add texts about simulated records."""
        self.keep(ids, simulated_rows(texts, truth))

    def compute(self) -> dict[str, torch.Tensor]:
        """Return the values of :func:`simulated_metrics`."""
        return _tensors(_simulated(self.table()))


def simulated_metrics(texts: Sequence[str], truth: Sequence[SimulatedEcg]) -> dict[str, float]:
    """Score texts about simulated records.

    Returns:
        ``rate_mae`` (bpm), ``PR_mae``, ``QRS_mae``, ``QT_mae`` (ms) over quoted values; ``rate_quoted`` and so on
        (share of the records that have the quantity); ``finding_f1`` (micro, over what the simulator decides).
    """
    return _simulated(simulated_rows(texts, truth))


def simulated_rows(texts: Sequence[str], truth: Sequence[SimulatedEcg]) -> np.ndarray:
    """Return (n, 2·quantities + 3): absolute error (NaN: not quoted) and existence per quantity; TP, FP, FN."""
    known = decidable()
    rows = np.full((len(texts), 2 * len(QUANTITIES) + 3), math.nan)
    for row, text, ecg in zip(rows, texts, truth, strict=True):
        content = read_text(text)
        for i, name in enumerate(QUANTITIES):
            true = ecg.parameters.get(TRUTH[name])
            row[2 * i + 1] = true is not None
            if true is not None and name in content.values:
                row[2 * i] = abs(content.values[name] - true)
        stated, present = set(content.findings) & known, set(ecg.diagnoses)
        row[-3:] = len(stated & present), len(stated - present), len(present - stated)
    return rows


def _simulated(table: np.ndarray) -> dict[str, float]:
    values: dict[str, float] = {}
    for i, name in enumerate(QUANTITIES):
        errors, exists = table[:, 2 * i], table[:, 2 * i + 1]
        quoted = ~np.isnan(errors)
        values[f"{name}_mae"] = float(errors[quoted].mean()) if quoted.any() else math.nan
        values[f"{name}_quoted"] = float(quoted.sum() / exists.sum()) if exists.sum() else math.nan
    tp, fp, fn = table[:, -3:].sum(0)
    values["finding_f1"] = float(2 * tp / (2 * tp + fp + fn)) if tp + fp + fn else math.nan
    return values


CLAIM_COUNTS = ("texts", "claims", "supported", "contradicted", "abnormal", "mentioned", "leads", "conflicts")


class ClaimMetric(Metric):
    """Claim precision, hallucination rate, coverage and leads covered, pooled over texts.

    Counts are summed over processes before any division, so that uneven shards give the values of the whole set.

    Args:
        tolerance: As for :func:`gem_lightning.claims.verify.verify`.
        **kwargs: Arguments of :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def __init__(self, tolerance: dict[str, float] | float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tolerance = tolerance
        for name in CLAIM_COUNTS:
            self.add_state(name, default=torch.tensor(0, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, texts: str | Sequence[str], features: EcgFeatures | Sequence[EcgFeatures]) -> None:
        """Add texts with the measurements of their records."""
        records = list(features) if isinstance(features, Sequence) else [features]
        batch = [texts] if isinstance(texts, str) else list(texts)
        if len(batch) != len(records):
            raise DataError(f"expected one record per text, got {len(batch)} texts, {len(records)} records; pair them")
        for text, measured in zip(batch, records):
            self.add(verify(text, measured, self.tolerance))

    def add(self, report: ClaimReport) -> None:
        """Add an existing report."""
        counts = (1, report.count(), report.count("supported"), report.count("contradicted"), len(report.abnormal))
        more = (len(report.mentioned), len(report.leads_covered), len(report.conflicts))
        for name, count in zip(CLAIM_COUNTS, (*counts, *more)):
            setattr(self, name, getattr(self, name) + count)

    def compute(self) -> dict[str, torch.Tensor]:
        """Return ``precision``, ``hallucination_rate``, ``coverage`` (NaN where undefined) and means per text."""

        def share(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
            return part.float() / whole.float() if whole > 0 else torch.tensor(float("nan"), device=part.device)

        count: dict[str, torch.Tensor] = {name: getattr(self, name) for name in CLAIM_COUNTS}
        return {
            "precision": share(count["supported"], count["supported"] + count["contradicted"]),
            "hallucination_rate": share(count["contradicted"], count["claims"]),
            "coverage": share(count["mentioned"], count["abnormal"]),
            "leads_covered": share(count["leads"], count["texts"]),
            "claims_per_text": share(count["claims"], count["texts"]),
            "conflicts_per_text": share(count["conflicts"], count["texts"]),
        }


#: Value of each record that the metric is defined for, from the answers without an error, by id.
AnswerMetric = Callable[[Mapping[str, Prediction]], Mapping[str, float]]


def score_answers(result: Result, metrics: Mapping[str, AnswerMetric], folder: str | os.PathLike[str]) -> None:
    """Add metrics to a benchmark's result: mean with a 95 % interval by patient, and a value per record for `compare`.

    Args:
        result: Of the benchmark that wrote ``folder``; changed in place.
        metrics: Metrics by name.
        folder: Holds the benchmark's ``predictions.jsonl``.

    Raises:
        DataError: There is no such file, a name is taken, or a metric returns no value of any answer.
    """
    path = Path(folder) / "predictions.jsonl"
    if metrics and not path.is_file():
        raise DataError(
            f"expected the answers of {result.benchmark} in {path}, found none; metrics= works with benchmarks that "
            "write them there: simulator, claims, grounding, robustness and your own"
        )
    rows = []
    for name, metric in metrics.items():
        if name in result.metrics or name in result.per_record:
            raise DataError(f"expected a new name of a metric, got {name!r}, which {result.benchmark} has; rename it")
        answers = {key: answer for key, answer in read_predictions(path).items() if answer.error is None}
        values = {key: float(value) for key, value in metric(answers).items() if key in answers}
        if not values:
            raise DataError(f"expected {name} to return values by the ids of {path}, got none of {len(answers)}")
        interval = mean_interval(list(values.values()), [result.groups.get(key) for key in values]).to_dict()
        result.metrics[name], result.per_record[name] = interval, values
        rows.append([name, with_interval(interval, 2), str(len(values))])
    if rows:
        note = "95 % bootstrap intervals, by patient where known."
        result.report.tables.append(Table("Further metrics", ["Metric", "Mean", "Records"], rows, note))
