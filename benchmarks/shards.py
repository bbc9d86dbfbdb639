"""Reading training data back: streaming shards, shuffled, beside the files they were made from.

python benchmarks/shards.py [--n 2000]; samples a second of process time of one core, after the page cache is warm.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from gem_lightning.data import ShardReader, write_shards
from gem_lightning.data.batching import EpochOrder
from gem_lightning.ecg import simulate, write_wfdb
from gem_lightning.samples.io import SampleFile, write_samples
from gem_lightning.samples.sample import InstructionSample


def a_second(function, n: int, repeats: int = 3) -> float:
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return n / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=2000)
    n = parser.parse_args().n
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for i in range(20):
            write_wfdb(simulate("sinus", seed=i, snr_db=25).record, folder / f"r{i}")
        text = "Sinus rhythm at 72 bpm with a normal axis. " * 20
        turns = [{"from": "human", "value": "<image>\nInterpret this ECG."}, {"from": "gpt", "value": text}]
        rows = (InstructionSample(f"s{i}", turns, ecg=str(folder / f"r{i % 20}")) for i in range(n))
        write_samples(rows, folder / "data.jsonl")
        write_shards(folder / "data.jsonl", folder / "shards", workers=0)
        reader, samples = ShardReader(folder / "shards"), SampleFile(folder / "data.jsonl")
        order = np.random.default_rng(0).permutation(n)
        streamed = EpochOrder([n], chunks=[reader.chunks])(0)
        few = order[: n // 8]
        figures = {
            "shards in the order of training, few chunks at a time": a_second(lambda: [reader[i] for i in streamed], n),
            "shards by index, any order": a_second(lambda: [reader[i] for i in order], n),
            "WFDB files through read_ecg": a_second(lambda: [samples[i].record.read() for i in few], len(few)),
        }
        for name, value in figures.items():
            print(f"{value:10.0f} samples/s  {name}")
        print(f"{samples.spans.nbytes / n:.0f} bytes a sample of index in memory for a JSON file; "
              f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB resident at most")  # fmt: skip


if __name__ == "__main__":
    main()
