"""Comparison of a trained model with an untrained one and the most common answer on simulated ECGs."""

from __future__ import annotations

import os
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from gem_lightning.errors import DataError
from gem_lightning.evaluation.base import Prediction, Predictor, Query, Result, read_predictions
from gem_lightning.evaluation.simulator import SimulatorBenchmark
from gem_lightning.evaluation.text import read_text
from gem_lightning.reporting.evaluation import number
from gem_lightning.reporting.html import Table


class CommonestAnswer:
    """Predictor that ignores the record: of the training answers with the most common findings, it always gives the
    one whose numbers are nearest to the medians.

    Args:
        answers: Training answers; the first 2,000 are used.

    Raises:
        DataError: No answers.
    """

    name = "commonest answer"

    def __init__(self, answers: Sequence[str]) -> None:
        texts = list(answers[:2000])  # enough for stable medians, read in seconds
        if not texts:
            raise DataError("expected training answers to find the most common one, got none")
        contents = [read_text(text) for text in texts]
        findings, _ = Counter(frozenset(s.findings) for s in contents).most_common(1)[0]
        names = sorted({name for s in contents for name in s.values})
        values = np.array([[s.values.get(name, np.nan) for name in names] for s in contents])  # (answers, quantities)
        middle, spread = np.nanmedian(values, 0), np.nanstd(values, 0) + 1e-9
        distance = np.nansum(np.abs(values - middle) / spread, 1)
        distance[[frozenset(s.findings) != findings for s in contents]] = np.inf
        self.text = texts[int(distance.argmin())]

    def predict(self, query: Query) -> Prediction:
        """Return the same answer to every query."""
        return Prediction(self.text)


def contrast(
    benchmark: SimulatorBenchmark, predictors: Sequence[Predictor], out: str | os.PathLike[str], progress: Any = None
) -> Result:
    """Run the simulator benchmark for each predictor and put the headline results in adjacent columns.

    Args:
        benchmark: Held-out cohort.
        predictors: The model under test first.
        out: Folder; every predictor has its own below it.
        progress: Called with (done, total) for each predictor.

    Returns:
        The first predictor's result; its first table compares all.
    """
    results, agreements = [], []
    for predictor in predictors:
        folder = pathlib.Path(out) / predictor.name.replace(" ", "_")
        result = benchmark(predictor, folder, progress)
        result.save(folder)
        results.append(result)
        agreements.append(agreement(benchmark, read_predictions(folder / "predictions.jsonl")))
    first = results[0]
    first.metrics["agreement"] = {p.name: a for p, a in zip(predictors, agreements)}
    first.report.tables.insert(0, _table(benchmark, predictors, results, agreements))
    return first


def agreement(benchmark: SimulatorBenchmark, answers: dict[str, Prediction]) -> dict[str, float | int]:
    """Return the share of numeric claims that the record's own measurements support.

    Returns:
        ``share``, ``supported``, ``contradicted`` and ``unverifiable`` counts over the benchmark's first questions.
    """
    from gem_lightning.claims.verify import verify
    from gem_lightning.features import measure

    counts: Counter[str] = Counter()
    for name in benchmark.names:
        if name not in answers:
            continue
        report = verify(answers[name].text, measure(benchmark.ecg(name).record))
        counts.update(v.verdict for v in report.verdicts if v.claim.kind != "finding")
    checked = counts["supported"] + counts["contradicted"]
    return {"share": counts["supported"] / checked if checked else float("nan"), **counts}


def _table(
    benchmark: SimulatorBenchmark,
    predictors: Sequence[Predictor],
    results: Sequence[Result],
    agreements: Sequence[dict[str, Any]],
) -> Table:
    rows = []
    for quantity, row in results[0].metrics["numbers"].items():
        cells = [_error(result.metrics["numbers"][quantity]) for result in results]
        rows.append([f"{quantity}, mean error, {row['unit']}", *cells])
    rows.append(["Finding F1", *(number(r.metrics["findings"]["f1"]["value"], 2) for r in results)])
    rows.append(["Numeric claims that agree with the record", *(_percent(a["share"]) for a in agreements)])
    note = (
        f"{benchmark.n} simulated patients unseen in training. Errors are over the texts that quote the quantity, in "
        "brackets the share that does. Agreement: within the tolerance of grounding.verify against the record's own "
        "measurements."
    )
    return Table("On held-out ECGs", ["", *(p.name for p in predictors)], rows, note)


def _error(row: dict[str, Any]) -> str:
    quoted = row["quoted"]["value"]
    return f"{number(row['mae']['value'])} ({_percent(quoted)})" if quoted else "not quoted"


def _percent(share: float | None) -> str:
    return f"{number(share, 0, 100)} %"
