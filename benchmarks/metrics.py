"""CPU time of scoring 10,000 predictions strictly with 1,000 bootstrap draws.

    OMP_NUM_THREADS=1 python benchmarks/metrics.py

Nine labels with likelihoods (macro F1, balanced accuracy, AUC, Hamming loss, exact share), and an eight-way choice.
"""

from __future__ import annotations

import time

import numpy as np

from gem_lightning.evaluation import ecgbench
from gem_lightning.evaluation.ecgbench.tasks import TASKS

N, DRAWS = 10_000, 1_000


def main() -> None:
    rng = np.random.default_rng(0)
    for task in ("cpsc-test", "csn-test-no-cot"):
        space = TASKS[task].labels or tuple(TASKS[task].letters)
        gold = [{"id": f"r{i}", "answer": space[rng.integers(len(space))]} for i in range(N)]
        said = [
            {"id": f"r{i}", "text": space[rng.integers(len(space))], "likelihoods": {x: rng.random() for x in space}}
            for i in range(N)
        ]
        start = time.process_time()
        ecgbench.score(task, said, gold, draws=DRAWS)
        took = time.process_time() - start
        print(f"metrics: {task}, {N} predictions, {DRAWS} draws: {took:.1f} s of one core (target 20 s)")


if __name__ == "__main__":
    main()
