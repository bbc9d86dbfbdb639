"""The leaderboard command over real small parts: a network, the instrument, files of answers, a loopback endpoint."""

import json
import os

import pytest
import yaml

from gem_lightning.cli import main
from helpers_chains import RIGHT, chain, write
from helpers_llm_server import LoopbackLLM


def board(tmp_path, models, benchmarks):
    path = tmp_path / "board.yaml"
    path.write_text(yaml.safe_dump({"models": models, "benchmarks": benchmarks, "out": str(tmp_path / "out")}))
    return str(path)


def results(tmp_path):
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    return {(cell["model"], cell["benchmark"]): cell for cell in found["cells"]}, found["tests"]


@pytest.fixture
def benchmarks(tmp_path):
    file = write(tmp_path / "chains.jsonl", [chain(i) for i in range(4)])
    return {"reasoning": {"file": file, "draws": 50}, "simulator": {"n": 2, "draws": 50, "cases": 0}}


def test_models_and_benchmarks_on_one_page(tmp_path, benchmarks, tiny_gem):
    tiny_gem.save_pretrained(tmp_path / "tiny")
    answers = write(tmp_path / "answers.jsonl", [{"id": str(i), "answers": RIGHT} for i in range(4)])
    with LoopbackLLM(lambda request, n: "Sinus rhythm at 75 bpm. (A)") as server:
        endpoint = {"base_url": server.base_url, "api_key_env": None}
        models = [
            {"name": "tiny", "model": str(tmp_path / "tiny"), "max_new_tokens": 4, "device": "cpu"},
            {"model": "instrument"},
            {"name": "right", "model": answers},
            {"name": "parrot", "model": "parrot", "endpoint": endpoint},
        ]
        path = board(tmp_path, models, benchmarks)
        main(["leaderboard", path])
        cells, tests = results(tmp_path)
        asked = len(server.requests)
        stamps = {file: os.stat(file).st_mtime_ns for file in (tmp_path / "out").rglob("report.html")}
        main(["leaderboard", path])
        assert len(server.requests) == asked
    assert stamps == {file: os.stat(file).st_mtime_ns for file in (tmp_path / "out").rglob("report.html")}
    undone = {key: cell["status"] for key, cell in cells.items() if cell["status"] != "done"}
    assert undone == {("right", "simulator"): "not applicable"}
    assert cells["right", "reasoning"]["metrics"]["completion"]["value"] == 1
    assert cells["parrot", "simulator"]["answers"] == 3
    assert cells["parrot", "simulator"]["requests"] == 3
    assert cells["parrot", "simulator"]["tokens"] == 3 * 120
    assert cells["parrot", "simulator"]["cost_usd"] is None
    pairs = {(pair["a"], pair["b"]) for pair in tests["simulator"]}
    assert pairs == {("tiny", "instrument"), ("tiny", "parrot"), ("instrument", "parrot")}
    assert len(tests["reasoning"]) == 6
    assert all("metrics" in pair for pair in tests["reasoning"])
    page = (tmp_path / "out" / "leaderboard.html").read_text()
    assert "no row for this benchmark" in page
    for cell in cells.values():
        assert (tmp_path / "out" / cell["report"]).is_file() or cell["status"] != "done"


def test_a_failure_is_shown_and_only_it_is_run_again(tmp_path, benchmarks):
    folder = tmp_path / "absent"
    path = board(tmp_path, [{"name": "gone", "model": str(folder / "p.jsonl")}, {"model": "instrument"}], benchmarks)
    with pytest.raises(SystemExit) as end:
        main(["leaderboard", path])
    assert end.value.code == 4
    cells, _ = results(tmp_path)
    assert [cells["gone", name]["status"] for name in benchmarks] == ["failed", "failed"]
    assert str(folder) in cells["gone", "reasoning"]["why"]
    assert str(folder) in (tmp_path / "out" / "leaderboard.html").read_text()
    before = cells["instrument", "simulator"]
    assert before["status"] == "done"
    folder.mkdir()
    write(folder / "p.jsonl", [{"id": str(i), "answers": RIGHT} for i in range(4)])
    main(["leaderboard", path])
    cells, _ = results(tmp_path)
    assert cells["gone", "reasoning"]["status"] == "done"
    assert cells["instrument", "simulator"] == before


def test_an_interrupted_run_leaves_a_page_and_resumes_with_what_is_missing(tmp_path, benchmarks, monkeypatch):
    from gem_lightning.evaluation.predictors import ApiPredictor

    def interrupted(self, queries, keep):
        for i, query in enumerate(queries):
            if i == 2:
                raise KeyboardInterrupt
            answer(self, [query], keep)

    answer = ApiPredictor.predict_many
    with LoopbackLLM(lambda request, n: "Sinus rhythm.") as server:
        endpoint = {"base_url": server.base_url, "api_key_env": None}
        models = [{"name": "api", "model": "api", "endpoint": endpoint}, {"model": "instrument"}]
        some = {"simulator": benchmarks["simulator"]}
        monkeypatch.setattr(ApiPredictor, "predict_many", interrupted)
        with pytest.raises(SystemExit) as end:
            main(["leaderboard", board(tmp_path, models, some)])
        assert end.value.code == 130
        statuses = [results(tmp_path)[0][name, "simulator"]["status"] for name in ("api", "instrument")]
        assert statuses == ["interrupted", "not run"]
        monkeypatch.undo()
        endpoint["concurrency"] = 2  # changes no answer
        main(["leaderboard", board(tmp_path, models, some)])
        assert len(server.requests) == 3
        some["simulator"]["n"] = 4
        main(["leaderboard", board(tmp_path, models, some)])
        assert len(server.requests) == 6  # two patients more, one of them twice
    cells, _ = results(tmp_path)
    assert {cell["status"] for cell in cells.values()} == {"done"}
    assert cells["api", "simulator"]["metrics"]["n"] == 4


def test_a_replaced_file_is_scored_again_and_files_may_differ_by_benchmark(tmp_path, benchmarks):
    answers = tmp_path / "answers.jsonl"
    write(answers, [{"id": str(i), "answers": RIGHT} for i in range(4)])
    path = board(tmp_path, [{"name": "files", "model": {"reasoning": str(answers)}}], benchmarks)
    main(["leaderboard", path])
    cells, _ = results(tmp_path)
    assert cells["files", "simulator"]["status"] == "not applicable"
    write(answers, [{"id": str(i), "answers": [*RIGHT[:-1], "No"]} for i in range(4)])
    main(["leaderboard", path])
    cells, _ = results(tmp_path)
    assert cells["files", "reasoning"]["metrics"]["completion"]["value"] == 0


@pytest.mark.parametrize(
    ("models", "benchmarks", "said"),
    [
        ([{"model": "instrument", "temprature": 1}], {"simulator": {}}, "temprature"),
        ([{"model": "instrument"}], {"simulator": {"nn": 2}}, "among n, seed"),
        ([{"model": "instrument"}], {"simulatr": {}}, "ecgbench, grounding"),
        ([{"model": "instrument"}], {"reasoning": {}}, "benchmark.file"),
        ([{"model": "instrument"}] * 2, {"simulator": {}}, "a name twice"),
        ([{"name": "x"}], {"simulator": {}}, "`model` for x"),
    ],
)
def test_a_mistake_is_an_error_before_anything_runs(tmp_path, capsys, models, benchmarks, said):
    with pytest.raises(SystemExit) as end:
        main(["leaderboard", board(tmp_path, models, benchmarks)])
    assert end.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
