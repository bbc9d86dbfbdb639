"""Write the cards of the experiments, ``docs/experiments.md``: ``python docs/experiments.py [--check]``.

The purpose of a card is the comment at the head of its file in ``conf/experiment``; memory, steps and hours are those
of the planner behind ``dry_run=true``, for samples of :data:`SAMPLE`. ``--check`` exits with 1 where the page is old.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "conf" / "experiment"
PAGE = ROOT / "docs" / "experiments.md"
#: Tokens of a sample: ECG 101, image 576, text 359 (docs/training.md, Batches); of these an answer of 300.
SAMPLE = {"tokens": 1036.0, "squares": 1036.0**2, "labels": 300.0, "ecgs": 1.0, "tiles": 1.0}
SAMPLES = 30_000  # of ECG_Grounding_30k.json
MFU = 0.4  # as conf/train.yaml
#: Name -> (memory, GB; dense bfloat16 peak, TFLOP/s), from the makers' data sheets.
GPUS = {"H100 80 GB": (80, 989), "A100 80 GB": (80, 312), "RTX 4090": (24, 165)}
NOT_HERE = "<!-- not run: tests/test_configs.py composes and builds every experiment at tiny size -->"
HEAD = """# Experiments

A card for each file of `conf/experiment`, made by `python docs/experiments.py` (`make docs` does it). Any key of an
experiment is changed on the command line; [training](training.md) explains them.

**Planned** values are those of `dry_run=true`, which reads no weights: memory of one process, steps, and hours at MFU
{mfu}, for {samples:,} samples of {tokens:,.0f} tokens (101 of the ECG, 576 of the image), one epoch where
the experiment states no other. They have not been checked on a GPU. Your own: add `dry_run=true` to the command.
**Measured** values name their page. Encoders and experiments on a model's own answers (`gem_grpo`, `gem_dpo`,
`gem_rft`) have no planned rows here, because their data or their model must exist; `dry_run=true` plans yours too
([what it counts](training.md#estimate-a-run)).
"""


@dataclass(frozen=True)
class Card:
    """What a file of ``conf/experiment`` does not state.

    Attributes:
        command: Overrides of its command.
        data: What it trains on.
        measured: What was measured, with its page; empty where it was not run.
        planned: It is planned on GPUs, as a GEM of 7B.
    """

    command: tuple[str, ...] = ()
    data: str = ""
    measured: str = ""
    planned: bool = False


GROUNDING = ("data.train=ECG_Grounding_30k.json", "'data.root={ecg: /data/ecg, image: /data/images}'")
PARTS = ("model.net.checkpoint=llava-v1.6-vicuna-7b", "model.net.ecg=cpt_wfep_epoch_20.pt", *GROUNDING)
ON_GEM = ("model.net.checkpoint=GEM", "model.net.ecg=null", *GROUNDING)
BASE = "model.net.checkpoint=outputs/demo/model"
ONE_QUANTITY = "[one quantity](verified_generation.md#measured-one-quantity), on a tiny network"
NOT_RUN = "at tiny size by the tests; not at full size"
OWN = ("model.net.checkpoint=FOLDER", "data.train=mine/train.jsonl", "data.val=mine/val.jsonl")
IN_BFLOAT16 = ("model.net.dtype=bfloat16", "trainer.precision=bf16-mixed")
CARDS = {
    "quickstart": Card((), "4,800 simulated ECGs, made by the run", ""),
    "gem_tiny": Card((), "22 simulated ECGs", "seconds on one CPU core, in the tests"),
    "demo": Card((), "1,600 simulated ECGs", "about 5 minutes with its evaluation, two CPU cores (README)"),
    "gem_small": Card(
        (
            "data.train.recombined.records.donors.root=LUDB",
            "model.net.ecg_weights=outputs/ecg_dense_pretrain/model/model.safetensors",
        ),
        "simulated ECGs, and expert-marked ones of LUDB",
        "75 minutes of one CPU core; scores in [the model card](gem_small.md)",
    ),
    "gem7b": Card(PARTS, "ECG_Grounding_30k (MIMIC-IV-ECG)", NOT_RUN, True),
    "gem7b_plus": Card(PARTS, "the same samples, their images drawn by the run", NOT_RUN, True),
    "align": Card(PARTS, "ECG_Grounding_30k, or any descriptions of ECGs", NOT_RUN, True),
    "gem7b_lora": Card(ON_GEM, "ECG_Grounding_30k", NOT_RUN, True),
    "gem7b_qlora": Card(ON_GEM, "ECG_Grounding_30k", NOT_RUN, True),
    "gem_lora": Card(
        (*OWN, *IN_BFLOAT16), "your ECGs and reports ([how](finetune_your_data.md))", "the path, by the tests", True
    ),
    "gem_lora_sweep": Card(("-m", *OWN), "as gem_lora", "4 tiny trials: 74 s ([searches](training.md#searches))"),
    "gem_grpo": Card((BASE,), "4,096 simulated prompts", ONE_QUANTITY),
    "gem_dpo": Card((BASE,), "pairs of the model's own texts", ONE_QUANTITY),
    "gem_rft": Card((BASE,), "the best of the model's own texts", ONE_QUANTITY),
    "ecg_coca_pretrain": Card((), "2,530 simulated patients", "402 s of one thread ([encoder](encoder.md#measured))"),
    "ecg_clip_pretrain": Card((), "2,530 simulated patients", "413 s of one thread ([encoder](encoder.md#measured))"),
    "ecg_mae_pretrain": Card((), "2,530 simulated patients", ""),
    "ecg_dense_pretrain": Card(
        ("data.train.root=/data/ludb",),
        "recombined beats, expert-marked and simulated ECGs",
        "a quarter of an hour on one core ([dense encoder](encoder.md#dense-encoder))",
    ),
    "digitizer": Card(
        ("+source@data.train.real=files", "data.train.real.root=FOLDER"),
        "drawn pages of simulated and your ECGs",
        "4,173 steps on a shared core; scores in [digitizer](digitizer.md#scores)",
    ),
}


def purpose(name: str) -> str:
    """The comment at the head of an experiment's file, without its command lines."""
    lines = (EXPERIMENTS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[1:]
    comment = []
    for line in lines:
        if not line.startswith("# "):
            break
        if not re.match(r"#  +\S", line):
            comment.append(line[2:])
    return " ".join(comment).rstrip(":")


def full_size(folder: Path) -> Path:
    """Write the configuration of a 7B GEM with the published towers; weights are not needed."""
    from gem_lightning.models.build import make_config
    from gem_lightning.models.configuration_gem import PUBLISHED_VISION

    llm = {"model_type": "llama", "max_position_embeddings": 4096, "vocab_size": 32000}
    make_config(llm, None, PUBLISHED_VISION, {}).save_pretrained(folder)
    return folder


def plan_rows(name: str, base: Path) -> Iterator[str]:
    """Yield the rows of a card's plan: one per GPU."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.utils import instantiate

    from gem_lightning.lit.plan import Load, make_plan
    from gem_lightning.models.planning.memory import GIB
    from gem_lightning.train import settings_of

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        fixed = [f"experiment={name}", f"model.net.checkpoint={base}", "data.train=none", "dry_run=true"]
        cfg = compose("train", [*fixed, "model.net.ecg=null", *(IN_BFLOAT16 if name == "gem_lora" else ())])
    run = settings_of(cfg, instantiate(cfg.model))
    run = replace(run, devices=cfg.trainer.devices if isinstance(cfg.trainer.devices, int) else 1)
    rows = cfg.data.batch_size
    batch = {count: value * rows for count, value in SAMPLE.items()}
    load = Load(SAMPLES, SAMPLES // (rows * run.devices), rows, round(SAMPLE["tokens"]), batch, batch)
    plan = make_plan(run, load)
    memory = next(iter(plan.memory.values())).total
    yield f"| parameters, trained | {plan.parameters / 1e6:,.0f} M, {plan.trainable / 1e6:,.1f} M |"
    yield f"| planned: steps, devices, strategy | {plan.steps:,}, {run.devices}, {run.strategy} |"
    yield f"| planned: memory of a process | {memory / GIB:.0f} GiB |"
    for gpu, (capacity, peak) in GPUS.items():
        fits = "" if memory < capacity * 1e9 else " (does not fit: lower `data.batch_size`)"
        yield f"| planned: hours on {run.devices} × {gpu} | {plan.hours(MFU, peak, run.devices):.2f}{fits} |"


def card(name: str, base: Path | None) -> Iterator[str]:
    """Yield the lines of one card; without ``base`` those that need no planning."""
    one = CARDS[name]
    words = [f"python -m gem_lightning.train experiment={name}", *one.command]
    text = " ".join(words) if len(" ".join(words)) <= 110 else " \\\n    ".join(words)
    yield from (f"## {name}", "", f"{purpose(name)}.".replace("..", "."), "", NOT_HERE, "```bash", text, "```", "")
    yield from ("| | |", "|---|---|", f"| data | {one.data} |")
    if one.planned and base is not None:
        yield from plan_rows(name, base)
    yield from (f"| measured | {one.measured or 'not yet'} |", "")


def page(planned: bool = True) -> str:
    """Markdown of the whole page, with or without the planned values.

    Raises:
        SystemExit: An experiment has no card, or a card no experiment.
    """
    names = {path.stem for path in EXPERIMENTS.glob("*.yaml")}
    if names != set(CARDS):
        raise SystemExit(f"expected one card for each experiment, got {sorted(names ^ set(CARDS))} on one side only")
    with tempfile.TemporaryDirectory() as folder:
        base = full_size(Path(folder)) if planned else None
        lines = [line for name in CARDS for line in card(name, base)]
    head = HEAD.format(mfu=MFU, samples=SAMPLES, **{"tokens": SAMPLE["tokens"]})
    return "\n".join([head, *lines]).rstrip() + "\n"


def main(arguments: Any) -> int:
    """Write or check the page."""
    text = page()
    if "--check" in arguments:
        old = not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text
        sys.stdout.write("docs/experiments.md is out of date; run: make docs\n" if old else "")
        return int(old)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
