"""The metric gives the figures of the reports, however the texts are spread over processes."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import textwrap

import pytest
import torch

from gem_lightning.ecg import simulate
from gem_lightning.errors import DataError
from gem_lightning.evaluation.claims_metric import ClaimMetric
from gem_lightning.features import measure
from gem_lightning.grounding import compose, verify


@pytest.fixture(scope="module")
def cases():
    features = [
        measure(simulate(name, seed=1).record) for name in ("sinus", "lbbb", "av_block_1", "st_elevation", "pvc")
    ]
    texts = [compose(f, seed=k) for k, f in enumerate(features)]
    texts[1] += " Third degree AV block. PR 400 ms."
    texts[3] = "Sinus rhythm."
    return texts, features


def test_figures_are_those_of_the_reports(cases):
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
        from gem_lightning.evaluation.claims_metric import ClaimMetric
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
    import pickle

    (tmp_path / "in").write_bytes(pickle.dumps((texts, features)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    subprocess.run([*command, str(tmp_path / "in"), str(tmp_path / "out")], check=True, timeout=300, env=os.environ)
    result = pickle.loads((tmp_path / "out").read_bytes())
    assert result == {k: float(v) for k, v in metric.compute().items()}
    assert torch.distributed.is_available()
