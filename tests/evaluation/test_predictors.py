"""A network under test: a query that fails does not stop the others of its batch."""

from gem_lightning.ecg import simulate
from gem_lightning.evaluation.base import Query
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
