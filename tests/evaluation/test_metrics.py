import json
import math
import os
import pickle
import subprocess
import sys
import textwrap

import pytest
import torch

from gem_lightning.ecg import simulate
from gem_lightning.errors import DataError
from gem_lightning.evaluation import ecgbench, grounding
from gem_lightning.evaluation.metrics import (
    ClaimMetric,
    EcgBenchMetric,
    JudgedMetric,
    SimulatorMetric,
    simulated_metrics,
)
from gem_lightning.features import measure
from gem_lightning.grounding import compose, verify

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
    assert found == pytest.approx(simulated_metrics(said, truth), nan_ok=True)
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
def test_two_processes_give_the_metrics_of_one():
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
    assert sim == pytest.approx(simulated_metrics(words, truth), nan_ok=True)


@pytest.fixture(scope="module")
def cases():
    features = [
        measure(simulate(name, seed=1).record) for name in ("sinus", "lbbb", "av_block_1", "st_elevation", "pvc")
    ]
    texts = [compose(f, seed=k) for k, f in enumerate(features)]
    texts[1] += " Third degree AV block. PR 400 ms."
    texts[3] = "Sinus rhythm."
    return texts, features


def test_metrics_are_those_of_the_reports(cases):
    texts, features = cases
    metric = ClaimMetric()
    metric.update(texts, features)
    got = {name: float(value) for name, value in metric.compute().items()}
    reports = [verify(t, f) for t, f in zip(texts, features)]
    supported = sum(r.count("supported") for r in reports)
    contradicted = sum(r.count("contradicted") for r in reports)
    assert contradicted == 2
    assert got["precision"] == pytest.approx(supported / (supported + contradicted))
    assert got["hallucination_rate"] == pytest.approx(contradicted / sum(r.count() for r in reports))
    said, there = sum(len(r.mentioned) for r in reports), sum(len(r.abnormal) for r in reports)
    assert got["coverage"] == pytest.approx(said / there)


def test_uneven_parts_merge_to_the_whole(cases):
    texts, features = cases
    whole, one, two = ClaimMetric(), ClaimMetric(), ClaimMetric()
    whole.update(texts, features)
    one.update(texts[:4], features[:4])
    two.update(texts[4], features[4])
    one.merge_state(two)
    assert {k: float(v) for k, v in one.compute().items()} == {k: float(v) for k, v in whole.compute().items()}


def test_nothing_counted_is_not_a_number():
    assert math.isnan(float(ClaimMetric().compute()["precision"]))


def test_unequal_lengths_are_named(cases):
    texts, features = cases
    with pytest.raises(DataError, match="5 texts, 4 records"):
        ClaimMetric().update(texts, features[:4])


@pytest.mark.slow
def test_two_processes_agree_with_one(cases, tmp_path):
    texts, features = cases
    metric = ClaimMetric()
    metric.update(texts, features)
    script = tmp_path / "job.py"
    script.write_text(
        textwrap.dedent("""
        import pickle, sys, torch, torch.distributed as dist
        from gem_lightning.evaluation.metrics import ClaimMetric
        dist.init_process_group("gloo")
        texts, features = pickle.load(open(sys.argv[1], "rb"))
        part = slice(0, 4) if dist.get_rank() == 0 else slice(4, 5)
        metric = ClaimMetric()
        metric.update(texts[part], features[part])
        result = {k: float(v) for k, v in metric.compute().items()}
        if dist.get_rank() == 0:
            pickle.dump(result, open(sys.argv[2], "wb"))
        dist.destroy_process_group()
        """)
    )
    (tmp_path / "in").write_bytes(pickle.dumps((texts, features)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    subprocess.run([*command, str(tmp_path / "in"), str(tmp_path / "out")], check=True, timeout=300, env=os.environ)
    result = pickle.loads((tmp_path / "out").read_bytes())
    assert result == {k: float(v) for k, v in metric.compute().items()}
    assert torch.distributed.is_available()
