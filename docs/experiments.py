"""Write the cards of the experiments, ``docs/experiments.md``: ``python docs/experiments.py``.

The purpose of a card is the comment at the head of its file in ``conf/experiment``; memory, steps and hours are those
of the planner behind ``dry_run=true``, for samples of :data:`SAMPLE` or a few simulated ECGs.
"""

from __future__ import annotations

import re
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
#: Name -> (memory, GB; dense bfloat16 peak, TFLOP/s; memory bandwidth, TB/s), from the makers' data sheets.
GPUS = {"H100 80 GB": (80, 989, 3.35), "A100 80 GB": (80, 312, 2.04), "RTX 4090": (24, 165, 1.01)}
NOT_HERE = "<!-- not run: tests/test_configs.py composes and builds every experiment at tiny size -->"
HEAD = """# Experiments

A card for each file of `conf/experiment`, made by `python docs/experiments.py` (`make docs` does it). Any key of an
experiment is changed on the command line; [training](training.md) explains them.

**Planned** values are those of `dry_run=true`, which reads no weights: memory of one process, steps, and hours at MFU
{mfu}; answers that a model samples take longer by at least the time of reading its weights for each token. GEMs of
7B: {samples:,} samples of {tokens:,.0f} tokens (101 of the ECG, 576 of the image), one epoch where the experiment
states no other. The others: their own simulated ECGs, and `gem_small` as the model that writes; preparing these data
is not in the hours, and takes longer than so small a network. Nothing of this has been checked on a GPU. Your own: add
`dry_run=true` to the command ([what it counts](training.md#estimate-a-run)). **Measured** values name their page.
"""


@dataclass(frozen=True)
class Card:
    """What a file of ``conf/experiment`` does not state.

    Attributes:
        command: Overrides of its command.
        data: What it trains on.
        measured: What was measured, with its page; empty where it was not run.
        stand_in: Overrides with which it is planned on simulated ECGs, of which a few are enough; None plans a GEM of
            7B on :data:`SAMPLE`.
        samples: An epoch's, where ``stand_in`` has fewer.
    """

    command: tuple[str, ...] = ()
    data: str = ""
    measured: str = ""
    stand_in: tuple[str, ...] | None = None
    samples: int = 0


GROUNDING = ("data.train=ECG_Grounding_30k.json", "'data.root={ecg: /data/ecg, image: /data/images}'")
PARTS = ("model.net.checkpoint=llava-v1.6-vicuna-7b", "model.net.ecg=cpt_wfep_epoch_20.pt", *GROUNDING)
ON_GEM = ("model.net.checkpoint=GEM", "model.net.ecg=null", *GROUNDING)
BASE = "model.net.checkpoint=outputs/demo/model"
ONE_QUANTITY = "[one quantity](verified_generation.md#measured-one-quantity), on a tiny network"
NOT_RUN = "at tiny size by the tests; not at full size"
OWN = ("model.net.checkpoint=FOLDER", "data.train=mine/train.jsonl", "data.val=mine/val.jsonl")
IN_BFLOAT16 = ("model.net.dtype=bfloat16", "trainer.precision=bf16-mixed")
FEW, MANY = ((f"data.train.n={train}", f"data.val.n={val}") for train, val in ((64, 11), (330, 330)))
OF_A_THREAD = "of one thread ([encoder](encoder.md#measured))"
ON_SMALL = ("model.net.checkpoint=gem_small",)
ONE_COHORT = (
    *(f"~data.train.{name}" for name in ("recombined", "real", "unreadable")),
    "data.train.simulated.plan={_target_: gem_lightning.data.ConversationPlan, instrument: 0.6, wrong: 0.15}",
    "data.train.simulated.n=64",
    "data.val=null",
    "data.batches.weights=null",
)
CARDS = {
    "quickstart": Card((), "4,800 simulated ECGs, made by the run", "", FEW, 4800),
    "gem_tiny": Card((), "22 simulated ECGs", "seconds on one CPU core, in the tests", ()),
    "demo": Card((), "1,600 simulated ECGs", "about 5 minutes with its evaluation, two CPU cores (README)", FEW, 1600),
    "gem_small": Card(
        (
            "data.train.recombined.records.donors.root=LUDB",
            "model.net.ecg_weights=outputs/ecg_dense_pretrain/model/model.safetensors",
        ),
        "simulated ECGs, and expert-marked ones of LUDB",
        "75 minutes of one CPU core; scores in [the model card](gem_small.md)",
        ONE_COHORT,
        8480,
    ),
    "gem7b": Card(PARTS, "ECG_Grounding_30k (MIMIC-IV-ECG)", NOT_RUN),
    "gem7b_plus": Card(PARTS, "the same samples, their images drawn by the run", NOT_RUN),
    "align": Card(PARTS, "ECG_Grounding_30k, or any descriptions of ECGs", NOT_RUN),
    "gem7b_lora": Card(ON_GEM, "ECG_Grounding_30k", NOT_RUN),
    "gem7b_qlora": Card(ON_GEM, "ECG_Grounding_30k", NOT_RUN),
    "gem_lora": Card(
        (*OWN, *IN_BFLOAT16), "your ECGs and reports ([how](finetune_your_data.md))", "the path, by the tests"
    ),
    "gem_lora_sweep": Card(
        ("-m", *OWN),
        "as gem_lora; the plan is that of one trial",
        "4 tiny trials: 74 s ([searches](training.md#searches))",
    ),
    "gem_grpo": Card((BASE,), "4,096 simulated prompts", ONE_QUANTITY, ON_SMALL),
    "gem_dpo": Card((BASE,), "pairs of the model's own texts", ONE_QUANTITY, ON_SMALL),
    "gem_rft": Card((BASE,), "the best of the model's own texts", ONE_QUANTITY, ON_SMALL),
    "ecg_coca_pretrain": Card((), "2,530 simulated patients", f"402 s {OF_A_THREAD}", MANY, 2200),
    "ecg_clip_pretrain": Card((), "2,530 simulated patients", f"413 s {OF_A_THREAD}", MANY, 2200),
    "ecg_mae_pretrain": Card((), "2,530 simulated patients", "", MANY, 2200),
    "ecg_dense_pretrain": Card(
        ("data.train.root=/data/ludb",),
        "recombined beats, expert-marked and simulated ECGs",
        "a quarter of an hour on one core ([dense encoder](encoder.md#dense-encoder))",
        (
            "data.train=null",
            "data.val=null",
            "~data.shares.recombined",
            "~data.shares.marked",
            "data.shares.simulated=1",
        ),
    ),
    "digitizer": Card(
        ("+source@data.train.real=files", "data.train.real.root=FOLDER"),
        "drawn pages of simulated and your ECGs",
        "4,173 steps on a shared core; scores in [digitizer](digitizer.md#scores)",
        (),
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


def composed(name: str, folder: Path, *overrides: str) -> Any:
    """Compose an experiment whose files go to ``folder``."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        places = (f"paths.output={folder}", f"paths.cohorts={folder}/cohorts")
        return compose("train", [f"experiment={name}", "dry_run=true", *places, *overrides])


def plan_large(name: str, base: Path) -> tuple[Any, Any]:
    """Return settings and plan of a GEM of 7B."""
    from hydra.utils import instantiate

    from gem_lightning.lit.plan import Load, make_plan
    from gem_lightning.train import settings_of

    dtype = IN_BFLOAT16 if name.startswith("gem_lora") else ()
    cfg = composed(name, base, f"model.net.checkpoint={base}", "data.train=none", "model.net.ecg=null", *dtype)
    run = settings_of(cfg, instantiate(cfg.model))
    run = replace(run, devices=cfg.trainer.devices if isinstance(cfg.trainer.devices, int) else 1)
    rows = cfg.data.batch_size
    batch = {count: value * rows for count, value in SAMPLE.items()}
    load = Load(SAMPLES, SAMPLES // (rows * run.devices), rows, round(SAMPLE["tokens"]), batch, batch)
    return run, make_plan(run, load)


def plan_small(name: str, folder: Path, stand_in: tuple[str, ...]) -> tuple[Any, Any]:
    """Return settings and plan of an experiment on simulated ECGs."""
    from hydra.utils import instantiate

    from gem_lightning.lit.plan import steps_of
    from gem_lightning.train import plan_of, refuse

    cfg = composed(name, folder, *stand_in)
    data, module = instantiate(cfg.data), instantiate(cfg.model)
    run, plan = plan_of(cfg, data, module, refuse(cfg, module))
    if samples := CARDS[name].samples:
        steps = steps_of(run, samples // (cfg.data.batch_size * run.devices))
        plan = replace(plan, steps=steps, flops=plan.flops * steps / plan.steps)
    return run, plan


def plan_rows(name: str, folder: Path) -> Iterator[str]:
    """Yield the rows of a card's plan: one per GPU; ``folder`` is that of :func:`full_size`."""
    from gem_lightning.models.planning.memory import GIB

    stand_in = CARDS[name].stand_in
    run, plan = plan_large(name, folder) if stand_in is None else plan_small(name, folder, stand_in)
    memory = next(iter(plan.memory.values())).total
    yield f"| parameters, trained | {plan.parameters / 1e6:,.1f} M, {plan.trainable / 1e6:,.1f} M |"
    yield f"| planned: steps, devices, strategy | {plan.steps:,}, {run.devices}, {run.strategy} |"
    yield f"| planned: memory of a process | {memory / GIB:.1f} GiB |"
    hours = {}
    for gpu, (capacity, peak, bandwidth) in GPUS.items():
        hours[gpu] = at_least_hundredths(plan.hours(MFU, peak, run.devices))
        if plan.written:
            hours[gpu] += f", and {at_least_hundredths(plan.sampling_hours(bandwidth))} to sample answers"
        if memory > capacity * 1e9:
            hours[gpu] += " (does not fit: lower `data.batch_size`)"
    if len({*hours.values()}) == 1:
        hours = {", ".join(GPUS): next(iter(hours.values()))}
    for gpu, words in hours.items():
        yield f"| planned: hours on {run.devices} × {gpu} | {words} |"


def at_least_hundredths(hours: float) -> str:
    """Write hours; less than a hundredth is not written as nothing."""
    return f"{hours:.2f}" if hours >= 0.01 else "< 0.01"


def card(name: str, base: Path | None) -> Iterator[str]:
    """Yield the lines of one card; without ``base`` those that need no planning."""
    one = CARDS[name]
    words = [f"python -m gem_lightning.train experiment={name}", *one.command]
    text = " ".join(words) if len(" ".join(words)) <= 110 else " \\\n    ".join(words)
    yield from (f"## {name}", "", f"{purpose(name)}.".replace("..", "."), "", NOT_HERE, "```bash", text, "```", "")
    yield from ("| | |", "|---|---|", f"| data | {one.data} |")
    if base is not None:
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


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
