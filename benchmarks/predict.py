"""A folder of records through ``predict``, against one call of ``Gem.interpret`` and one page per record.

    python benchmarks/predict.py [--n 200] [--batch-size 32]

The network has the demo's architecture with random weights: the length of its answers is what ``max_new_tokens``
allows, so that both sides write equally much. Rates are per second of processor time; peak memory is that of the
process after a fifth of the records and at the end.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import hydra
import torch
from hydra.utils import instantiate

from gem_lightning.ecg import simulate, write_wfdb
from gem_lightning.models import Gem
from gem_lightning.predict import predict
from gem_lightning.render import EcgRenderer

DIAGNOSES = ("sinus", "rbbb", "lbbb", "atrial_fibrillation")
TOKENS = 96  # as the demo


def main() -> None:
    """Print both rates, their ratio and the memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=32)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "records").mkdir()
        for i in range(arguments.n):
            write_wfdb(simulate(DIAGNOSES[i % 4], seed=i, snr_db=25).record, root / "records" / f"r{i:05d}")
        gem = random_gem()
        gem.save_pretrained(root / "model")
        few = sorted((root / "records").glob("*.hea"))[: max(10, arguments.n // 10)]
        gem.interpret(few[0], max_new_tokens=TOKENS).to_html()  # imports and compilation are not timed
        start = time.process_time()
        for i, path in enumerate(few):
            (root / f"{i}.html").write_text(gem.interpret(path, max_new_tokens=TOKENS).to_html(), encoding="utf-8")
        alone = len(few) / (time.process_time() - start)
        print(f"one by one with a page: {alone:.2f} records a CPU second ({len(few)} records)")
        part = run(root, "part", arguments.n // 5, arguments.batch_size)
        early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        whole = run(root, "whole", arguments.n, arguments.batch_size)
        late = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"predict, batches of {arguments.batch_size}: {whole:.2f} records a CPU second ({part:.2f} for a fifth)")
        print(f"ratio: {whole / alone:.1f} (target 5)")
        print(f"peak memory: {early:.0f} MB after {arguments.n // 5}, {late:.0f} MB after {arguments.n} more")


def run(root: Path, name: str, n: int, batch_size: int) -> float:
    """Interpret the first n records in a job of their own; records per second of processor time."""
    folder = root / name
    folder.mkdir()
    for path in sorted((root / "records").iterdir())[: 2 * n]:
        (folder / path.name).symlink_to(path)
    own = [f"weights={root}/model", f"record={folder}", f"out={folder}/out", f"batch_size={batch_size}"]
    own.append("workers=0")  # threads of this process, whose processor time is counted
    with hydra.initialize_config_module("gem_lightning.conf", version_base="1.3"):
        cfg = hydra.compose("predict", overrides=[*own, f"max_new_tokens={TOKENS}"])
    start = time.process_time()
    predict(cfg)
    return n / (time.process_time() - start)


def random_gem() -> Gem:
    """The demo's network before training."""
    with hydra.initialize_config_module("gem_lightning.conf", version_base="1.3"):
        cfg = hydra.compose("train", overrides=["experiment=quickstart"])
    torch.manual_seed(0)
    network = instantiate(cfg.model.net)()
    return Gem(network.eval(), instantiate(cfg.processor), EcgRenderer())


if __name__ == "__main__":
    main()
