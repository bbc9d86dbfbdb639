"""A model that quotes the record beats the most common training answer on simulated ECGs."""

import pytest

from gem_lightning.errors import DataError
from gem_lightning.evaluation.contrast import CommonestAnswer, contrast
from gem_lightning.evaluation.predictors import as_predictor
from gem_lightning.evaluation.simulator import SimulatorBenchmark
from gem_lightning.features import measure
from gem_lightning.grounding import compose


def test_the_most_common_answer_has_the_most_common_findings_and_median_numbers():
    answers = [f"Sinus rhythm, rate {rate} bpm." for rate in (60, 70, 95)] + ["Atrial fibrillation, rate 70 bpm."]
    assert CommonestAnswer(answers).text == "Sinus rhythm, rate 70 bpm."
    with pytest.raises(DataError, match="got none"):
        CommonestAnswer([])


def test_the_first_table_compares_all_predictors(tmp_path):
    benchmark = SimulatorBenchmark(n=4, pairs=0, draws=10, cases=0, diagnoses=["sinus", "sinus_tachycardia"])
    reader = as_predictor(lambda record, question=None: compose(measure(record)), "reader")
    common = CommonestAnswer(["Sinus rhythm, rate 250 bpm, QRS 90 ms."])
    result = contrast(benchmark, [reader, common], tmp_path)
    table = result.report.tables[0]
    assert table.header == ["", "reader", "commonest answer"]
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["rate, mean error, bpm"][0].endswith("(100 %)")
    assert rows["PR, mean error, ms"][1] == "not quoted"
    assert result.metrics["agreement"]["reader"]["share"] == 1
    assert result.metrics["agreement"]["commonest answer"]["contradicted"] >= 4
    assert {path.name for path in tmp_path.iterdir()} == {"reader", "commonest_answer"}
