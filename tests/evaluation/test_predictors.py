"""A network under test: a query that fails does not stop the others of its batch."""

import json

import pytest

from gem_lightning.ecg import simulate
from gem_lightning.errors import DataError
from gem_lightning.evaluation.base import Query
from gem_lightning.evaluation.predictions import read_rows
from gem_lightning.evaluation.predictors import GemPredictor


def test_one_bad_query_does_not_stop_its_batch(tiny_gem):
    predictor = GemPredictor(tiny_gem.model, tiny_gem.processor, max_new_tokens=4)
    queries = [Query(f"q{i}", "What is it?", simulate("sinus", seed=i).record) for i in range(3)]
    queries[1] = Query("q1", "<ecg> and <ecg>?", queries[1].record)  # one record for two markers
    found = {}
    predictor.predict_many(queries, lambda query, prediction: found.update({query.id: prediction}))
    assert "expected" in found["q1"].error
    for i in (0, 2):
        assert found[f"q{i}"] == predictor.predict(queries[i])
        assert found[f"q{i}"].error is None


def test_answers_of_a_folder_are_those_with_ids(tmp_path):
    (tmp_path / "one.json").write_text(json.dumps({"id": "a", "text": "Sinus rhythm."}))  # as the original's judge
    (tmp_path / "deep").mkdir()
    rows = [{"question_id": "b", "text": "x"}, {"question_id": "c", "text": "y"}]
    (tmp_path / "deep" / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "settings.json").write_text(json.dumps({"temperature": 0}))
    (tmp_path / "notes.txt").write_text("no answers")
    assert {row.get("id", row.get("question_id")) for row in read_rows(tmp_path)} == {"a", "b", "c"}
    with pytest.raises(DataError, match=r"expected \.json, \.jsonl or \.parquet, got 'notes\.txt'"):
        read_rows(tmp_path / "notes.txt")
    (tmp_path / "one.json").write_text('{"id": "a"')
    with pytest.raises(DataError, match=r"expected a JSON file at .*one\.json"):
        read_rows(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="with ids below"):
        read_rows(tmp_path / "empty")
