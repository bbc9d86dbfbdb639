"""The seven steps of the original's README, four of ECG-Grounding and three of ECG-Bench, over a tree like its own.

The commands are those of docs/coming_from_gem.md; files of the original's own steps are read in between.
"""

import json
import os
import re
import shutil

import PIL.Image
import pytest

from gem_lightning.cli import main
from gem_lightning.ecg import simulate, write_wfdb
from gem_lightning.evaluation.llm_judge.judge import SCHEMES
from gem_lightning.render import EcgRenderer
from helpers_llm_server import LoopbackLLM
from helpers_processes import run_module

PROMPT = "Compare.\n=== Generated ===\n{{ generated }}\n=== End ===\n=== Reference ===\n{{groundtruth}}\n=== End ===\n"
REFERENCE = "The rate is {rate} bpm, a sinus rhythm; PR, QRS, QT are normal, no ST elevation. Conclusion: normal ECG."
WORDS = re.compile(r"[a-z]+(?:-[a-z]+)*|\d+(?:\.\d+)?")
ROOTS = "{ecg: data/ecg_timeseries, image: data/ecg_images}"


@pytest.fixture
def tree(tmp_path, golden):
    """The original's data tree with a tiny GEM in the published layout."""
    tiny, data = golden / "gem_tiny", tmp_path / "data"
    shutil.copytree(tiny / "model", tmp_path / "GEM-7B")
    shutil.copytree(tiny / "clip-vit-tiny-patch14-336", tmp_path / "clip-vit-tiny-patch14-336")
    shutil.copy(tiny / "coca_tiny.json", tmp_path)
    raw = json.loads((tmp_path / "GEM-7B" / "config.json").read_text()) | {"open_clip_config": "coca_tiny"}
    (tmp_path / "GEM-7B" / "config.json").write_text(json.dumps(raw))
    page, rows = EcgRenderer(size=(425, 550)), []
    for i in range(3):
        record = simulate("sinus", seed=i).record
        (data / "ecg_timeseries" / "mimic-iv" / f"p{i}").mkdir(parents=True)
        write_wfdb(record, data / "ecg_timeseries" / "mimic-iv" / f"p{i}" / str(i))
        for folder in ("ecg_images/gen_images/mimic_gen", "ecg_bench/images"):
            (data / folder).mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(page(record).image).save(data / folder / f"{i}-0.png")
        rows.append({"id": f"r{i}", "image": f"gen_images/mimic_gen/{i}-0.png", "ecg": f"mimic-iv/p{i}/{i}",
                     "conversations": turns("Please interpret this ECG.", REFERENCE.format(rate=60 + i)),
                     "machine_measurements": {"I": {"Heart_Rate": [60 + i]}}, "report": "Normal ECG"})  # fmt: skip
    bench = data / "ecg_bench"
    (bench / "ecg-grounding-test.json").write_text(json.dumps(rows))
    for task, answer in (("csn-test-no-cot", "A"), ("ptb-test", "NORM"), ("ptb-test-report", REFERENCE)):
        asked = [row | {"id": f"{task}-{row['id']}", "image": os.path.basename(row["image"]),
                        "conversations": turns("What is it? A. sinus B. AF", answer)} for row in rows]  # fmt: skip
        (bench / f"{task}.json").write_text(json.dumps(asked))
    (tmp_path / "prompts_evaluation.txt").write_text(PROMPT)
    return tmp_path


def turns(question, answer):
    return [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]


def judge(request, n):
    """Grade by the share of the reference's words that recur, in whichever scheme is asked for."""
    blocks = re.findall(r"=== ([^\n]+) ===\n(.*?)\n=== End ===", request["messages"][0]["content"], re.DOTALL)
    (_, one), (name, two) = blocks[-2:]
    text, reference = (one, two) if name == "Reference" else (two, one)
    known, said = (set(WORDS.findall(block.lower())) for block in (reference, text))
    share = len(known & said) / len(known)
    level = min(1.0, 1.5 * max(0.0, share - 0.2)) if share > 0.55 else 0.1
    wanted = set(request["response_format"]["json_schema"]["schema"]["required"])
    _, criteria, lists = next(s for s in SCHEMES.values() if {c.name for c in s[1]} == wanted)
    value = {}
    for criterion in criteria:
        entries = int(criterion.combine[4:]) // int(criterion.high) if "/" in criterion.combine else 1
        entry = {"Score": round(level * criterion.high, 3), "Explanation": "e"}
        value[criterion.name] = [entry] * entries if lists else entry
    return json.dumps(value)


def run(folder, module, *arguments):
    done = run_module(f"gem_lightning.{module}", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]


def results(folder):
    return json.loads((folder / "results.json").read_text())["metrics"]


@pytest.mark.slow
def test_four_steps_of_ecg_grounding(tree):
    test = "data/ecg_bench/ecg-grounding-test.json"
    # 1: bench_ecggrounding.sh
    asked = ("model=GEM-7B", "source=samples", f"source.samples={test}", f"source.root={ROOTS}", "workers=0")
    run(tree, "predict", *asked, "out=answers", "max_new_tokens=12")
    answers = [json.loads(line) for line in (tree / "answers" / "predictions.jsonl").open()]
    assert [row["id"] for row in answers] == ["r0", "r1", "r2"]
    # 2: process_gem_outputs.ipynb, from one file per GPU
    chunks = tree / "eval_outputs" / "gem" / "ecg-grounding-test"
    chunks.mkdir(parents=True)
    processed = []
    for i, (row, sample) in enumerate(zip(answers, json.loads((tree / test).read_text()), strict=True)):
        told = {"question_id": row["id"], "prompt": "p", "text": row["text"], "model_id": "gem7b", "metadata": {}}
        (chunks / f"chunk_{i}-step-final.jsonl").write_text(json.dumps(told) + "\n")
        kept = {name: sample[name] for name in ("id", "ecg", "image", "machine_measurements", "report")}
        reference = sample["conversations"][1]["value"]
        processed.append(kept | {"Model_generated": reference, "GPT4o_generated": reference, "model_id": "gem7b"})
    (tree / "gem7b_results.json").write_text(json.dumps(processed))
    # 3: generate_gpt_eval.py, over the original's processed file; 4: process_grounding_scores.ipynb
    with LoopbackLLM(judge) as server:
        client = f"{{_target_: gem_lightning.llm.client.ChatClient, model: judge, base_url: '{server.base_url}'}}"
        common = ("benchmark=grounding", f"benchmark.judges=[{client}]", "benchmark.prompt_file=prompts_evaluation.txt")
        run(tree, "evaluate", "model=gem7b_results.json", "benchmark.samples=gem7b_results.json", *common, "out=judged")
        assert any("=== Reference ===\nThe rate is 60 bpm" in r["messages"][0]["content"] for r in server.requests)
        ours = (f"benchmark.samples={test}", f"benchmark.root={ROOTS}")
        run(tree, "evaluate", f"model={chunks.relative_to(tree)}", *ours, *common, "out=judged_chunks")
    (scored,) = results(tree / "judged")["judges"].values()
    assert scored["n"] == 3 and scored["means"]["DiagnosisAccuracy"] == pytest.approx(100)
    (chunked,) = results(tree / "judged_chunks")["judges"].values()
    assert chunked["n"] == 3 and chunked["means"]["DiagnosisAccuracy"] < 50  # a random network's words
    # 4: from files, ours and one per record as the original writes them
    file = next((tree / "judged").glob("judgements-grounding-*.jsonl"))
    batch = tree / "grounding_model_evals" / "gem7b_results" / "batch_0_to_3"
    batch.mkdir(parents=True)
    for row in map(json.loads, file.open()):
        (batch / f"{row['id']}.json").write_text(json.dumps({"id": row["id"], "results": row["answer"]}))
    for name, place in (("own", file), ("theirs", batch.parent)):
        given = ("benchmark.judges=[]", f"benchmark.judgements={place}")
        run(tree, "evaluate", "model=gem7b_results.json", "benchmark=grounding", *given, f"out={name}")
    assert results(tree / "own") == results(tree / "theirs")
    assert results(tree / "own")["legacy"]["means"]["DiagnosisAccuracy"] == 100


@pytest.mark.slow
def test_three_steps_of_ecg_bench(tree):
    common = ("benchmark=ecgbench", "benchmark.folder=data/ecg_bench", "benchmark.draws=20", "max_new_tokens=12",
              "benchmark.root={ecg: data/ecg_timeseries, image: data/ecg_bench/images}")  # fmt: skip
    # 1 and 2: answers and scores, evaluate_ecgbench.py
    run(tree, "evaluate", "model=GEM-7B", *common, "out=bench")
    whole = results(tree / "bench")
    assert set(whole) == {"csn-test-no-cot", "ptb-test", "ptb-test-report"}
    # 2 again, from the answers of one task
    one = "bench/ptb-test/predictions.jsonl"
    run(tree, "evaluate", f"model={one}", *common, "benchmark.tasks=[ptb-test]", "out=again")
    assert results(tree / "again")["ptb-test"]["strict"]["f1"] == whole["ptb-test"]["strict"]["f1"]
    # 3: eval_report.py
    with LoopbackLLM(judge) as server:
        client = f"{{_target_: gem_lightning.llm.client.ChatClient, model: judge, base_url: '{server.base_url}'}}"
        answered = "model=bench/ptb-test-report/predictions.jsonl"
        asked = ("benchmark.tasks=[ptb-test-report]", f"benchmark.judges=[{client}]")
        run(tree, "evaluate", answered, *common, *asked, "out=reports")
    (scored,) = results(tree / "reports")["ptb-test-report"]["judges"].values()
    assert scored["n"] == 3 and set(scored["means"]) == {"Diagnosis", "Waveform", "Rhythm"}


@pytest.mark.slow
def test_a_leaderboard_over_ecg_bench_and_ecg_grounding(tree, monkeypatch):
    """The published tasks and a judge beside each other, for a network and for somebody else's answers."""
    rows = json.loads((tree / "data/ecg_bench/ecg-grounding-test.json").read_text())
    answers = [{"id": row["id"], "text": row["conversations"][1]["value"]} for row in rows]
    answers += [{"id": f"ptb-test-{row['id']}", "text": "NORM"} for row in rows]
    (tree / "theirs.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    places = {"ecg": "data/ecg_timeseries", "image": "data/ecg_images"}
    with LoopbackLLM(judge) as server:
        client = {"_target_": "gem_lightning.llm.client.ChatClient", "model": "judge", "base_url": server.base_url,
                  "cache": "${out}/answers.jsonl"}  # fmt: skip
        board = {
            "models": [{"name": "GEM", "model": "GEM-7B", "max_new_tokens": 12, "device": "cpu"},
                       {"name": "theirs", "model": "theirs.jsonl"}],
            "benchmarks": {
                "ecgbench": {"folder": "data/ecg_bench", "tasks": ["ptb-test"], "draws": 20,
                             "root": places | {"image": "data/ecg_bench/images"}},
                "grounding": {"samples": "data/ecg_bench/ecg-grounding-test.json", "root": places, "judges": [client],
                              "draws": 20},
            },
            "out": "board",
        }  # fmt: skip
        (tree / "board.yaml").write_text(json.dumps(board))  # JSON is YAML
        monkeypatch.chdir(tree)
        main(["leaderboard", "board.yaml"])
    found = json.loads((tree / "board" / "results.json").read_text())
    cells = {(cell["model"], cell["benchmark"]): cell for cell in found["cells"]}
    assert {cell["status"] for cell in cells.values()} == {"done"}, cells
    assert cells["theirs", "ecgbench"]["metrics"]["ptb-test"]["strict"]["f1"] > 0
    judged = {name: cells[name, "grounding"]["metrics"]["judges"] for name in ("GEM", "theirs")}
    means = {name: next(iter(judges.values()))["means"] for name, judges in judged.items()}
    assert means["theirs"]["DiagnosisAccuracy"] > 90
    assert means["GEM"]["DiagnosisAccuracy"] < 50
    assert all(cells[name, "grounding"]["requests"] for name in means)
    assert {test["a"] for tests in found["tests"].values() for test in tests} == {"GEM"}
