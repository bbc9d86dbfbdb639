import json
import os
import subprocess
import sys

import pytest

from gem_lightning.ecg import simulate
from gem_lightning.errors import DataError
from gem_lightning.evaluation import ecgbench, grounding
from gem_lightning.evaluation.metrics import EcgBenchMetric, JudgedMetric, SimulatorMetric, simulated_figures

SPACE = ("NORM", "MI", "STTC", "CD", "HYP")


def label_rows(n=40):
    gold = [{"id": f"r{i}", "answer": SPACE[i % 5] if i % 7 else "MI, CD"} for i in range(n)]
    said = [{"id": f"r{i}", "text": SPACE[(i * 3) % 5] if i % 6 else "no idea"} for i in range(n)]
    return said, gold


def judged(n=12):
    return {
        f"j{i}": {c.name: [{"Score": (i * 7 % 10) / 10 * c.high}] for c in grounding.V1 if (i + len(c.name)) % 5}
        for i in range(n)
    }


def texts(n=6):
    truth = [simulate("av_block_1" if i % 2 else "atrial_fibrillation", seed=i) for i in range(n)]
    said = [f"Sinus rhythm at {70 + i} bpm. PR {210 + i} ms, QRS 90 ms. First-degree AV block." for i in range(n)]
    return [f"s{i}" for i in range(n)], said, truth


def test_ecgbench_metric_equals_its_function_in_any_batching():
    said, gold = label_rows()
    wanted = ecgbench.score("ptb-test", said, gold, draws=0)
    metric = EcgBenchMetric("ptb-test")
    for start in range(0, 40, 7):
        metric.update(said[start : start + 7], gold[start : start + 7])
    metric.update(said[:7], gold[:7])  # a repeated record counts once
    found = metric.compute()
    for name in ("f1", "balanced_accuracy", "hamming", "exact", "unparsed_rate"):
        assert float(found[name]) == pytest.approx(wanted[name], abs=1e-9), name


@pytest.mark.parametrize("task", ["csn-test-no-cot", "ecgqa-test"])
def test_accuracy_metrics_equal_their_functions(task):
    question = "Which? Options: A, B, C, D"
    gold = [{"id": str(i), "conversations": [{"value": question}, {"value": "ABCD"[i % 4]}]} for i in range(20)]
    said = [{"id": str(i), "text": "ABCD"[i % 3]} for i in range(20)]
    metric = EcgBenchMetric(task)
    metric.update(said, gold)
    assert float(metric.compute()["accuracy"]) == ecgbench.score(task, said, gold, draws=0)["accuracy"]


def test_judged_metric_equals_its_function():
    answers = judged()
    metric = JudgedMetric("v1")
    metric.update(dict(list(answers.items())[:5]))
    metric.update(dict(list(answers.items())[5:]))
    wanted = grounding.score(answers, draws=0)["means"]
    assert {name: float(value) for name, value in metric.compute().items()} == pytest.approx(wanted)


def test_simulator_metric_equals_its_function():
    ids, said, truth = texts()
    metric = SimulatorMetric()
    metric.update(ids[:4], said[:4], truth[:4])
    metric.update(ids[4:], said[4:], truth[4:])
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found == pytest.approx(simulated_figures(said, truth), nan_ok=True)
    assert found["PR_quoted"] == 1
    assert found["QRS_mae"] > 0


def test_misuse_is_refused():
    said, gold = label_rows()
    with pytest.raises(DataError, match="same ids"):
        EcgBenchMetric("ptb-test").update(said[1:3], gold[:2])
    with pytest.raises(DataError, match="update"):
        JudgedMetric().compute()
    with pytest.raises(DataError, match="v2"):
        JudgedMetric("v3")


WORKER = """
import importlib.util, json, sys, torch, torch.distributed as dist
from pathlib import Path
rank, port, here = int(sys.argv[1]), sys.argv[2], sys.argv[3]
spec = importlib.util.spec_from_file_location("rows", here)
rows = importlib.util.module_from_spec(spec); spec.loader.exec_module(rows)
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
from gem_lightning.evaluation.metrics import EcgBenchMetric, JudgedMetric, SimulatorMetric
said, gold = rows.label_rows(41)
mine = [(rank + 2 * i) % 41 for i in range(21)]  # a distributed sampler repeats the first record to fill up
bench = EcgBenchMetric("ptb-test")
bench.update([said[i] for i in mine], [gold[i] for i in mine])
judge, answers = JudgedMetric("v1"), list(rows.judged().items())
if rank == 0:  # the other rank has no record at all
    judge.update(dict(answers))
ids, words, truth = rows.texts()
sim = SimulatorMetric()
sim.update(ids[rank::2], words[rank::2], truth[rank::2])
found = [{k: float(v) for k, v in m.compute().items()} for m in (bench, judge, sim)]
print(json.dumps(found))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_give_the_figures_of_one():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), str(port), __file__],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    bench, judge, sim = json.loads(outputs[0].strip().splitlines()[-1])
    assert outputs[0].strip().splitlines()[-1] == outputs[1].strip().splitlines()[-1]
    said, gold = label_rows(41)
    wanted = ecgbench.score("ptb-test", said, gold, draws=0)
    assert bench["f1"] == pytest.approx(wanted["f1"], abs=1e-9)
    assert bench["unparsed_rate"] == pytest.approx(wanted["unparsed_rate"], abs=1e-9)
    assert judge == pytest.approx(grounding.score(judged(), draws=0)["means"])
    _, words, truth = texts()
    assert sim == pytest.approx(simulated_figures(words, truth), nan_ok=True)
