"""Train and test: ``python -m gem_lightning.train experiment=quickstart``."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import OmegaConf

from gem_lightning.config.main import main_with_errors
from gem_lightning.config.validate import check_choices, check_config, check_devices
from gem_lightning.errors import DataError, GemError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from gem_lightning.lit.plan import Plan, Run

logger = logging.getLogger(__name__)

#: Field of a plan's settings -> attribute of a GEM's module, which an encoder's has not.
_PATTERNS = {"freeze": "freeze_patterns", "unfreeze": "unfreeze_patterns", "lr_by_pattern": "lr_by_pattern"}


class Planned(NamedTuple):
    """The plan of a run and where it runs.

    Attributes:
        plan: None for an encoder, or where memory is not estimated.
        cuda: The run is on GPUs.
    """

    plan: Plan | None
    cuda: bool


def train(cfg: DictConfig) -> float | None:
    """Instantiate data, model and trainer from ``cfg``; fit with ``train``, test with ``test``.

    Returns:
        The last value of ``cfg.optimized_metric``, which a sweep optimises; None where it was not logged.

    Raises:
        GemError: ``ckpt_path`` names no intact checkpoint, the configured devices do not exist, or the config holds
            values that no run can have.
        SystemExit: With code 75 where a signal stopped the run and it saved its state; rerun the command to resume.
    """
    check_choices()
    join_tasks(cfg.trainer.devices)
    _quiet_libraries()
    check_config(cfg)
    checkpoint = find_checkpoint(cfg.ckpt_path, cfg.paths.checkpoints)
    if not cfg.dry_run:
        check_devices(cfg.trainer.accelerator, cfg.trainer.devices)

    import lightning
    import torch
    from hydra.utils import instantiate

    torch.set_float32_matmul_precision(cfg.matmul_precision)
    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    data, module = instantiate(cfg.data), instantiate(cfg.model)
    run = refuse(cfg, module)
    trainer = None if cfg.dry_run else make_trainer(cfg)
    if trainer is None:
        print_plan(cfg, data, module, run)
        return None
    data.prepare_data()
    planned = plan_run(cfg, data, run) if cfg.train else Planned(None, on_gpus(cfg))
    metrics: dict[str, Any] = {}
    if cfg.train:
        keep_earlier_run(cfg, checkpoint)
        if cfg.validate_first and checkpoint is None:
            trainer.validate(module, data, verbose=False)
        fit(trainer, module, data, checkpoint, planned)
        if trainer.interrupted:
            raise KeyboardInterrupt
        metrics |= trainer.callback_metrics
        checkpoint = getattr(trainer.checkpoint_callback, "best_model_path", None) or None
    if cfg.test:
        metrics |= test(trainer, module, data, checkpoint, Path(cfg.paths.output))
    logger.info("run folder: %s", cfg.paths.output)
    value = metrics.get(cfg.optimized_metric)
    if value is None:  # a sweeper needs it, a single run does not
        logger.info("optimized_metric=%s was not logged; logged are %s", cfg.optimized_metric, sorted(metrics))
    return None if value is None else float(value)


def test(trainer: Any, module: Any, data: Any, checkpoint: str | None, folder: Path) -> dict[str, float]:
    """Run ``trainer.test`` on the data's test split; writes ``test.json`` into the run's folder.

    Args:
        trainer: Of the run.
        module: Its LightningModule.
        data: Its DataModule.
        checkpoint: Whose weights are tested; None tests the module's own.
        folder: Of the run.

    Returns:
        Metric name to value, such as ``test/loss``.
    """
    import json

    from gem_lightning.jobs import write_atomically

    logger.info("testing %s", checkpoint or "the weights of the last step")
    (metrics,) = trainer.test(module, data, ckpt_path=checkpoint, weights_only=True, verbose=False)
    if trainer.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "test.json", json.dumps(metrics, indent=1).encode())
    logger.info("%s", ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
    return metrics


def join_tasks(devices: int | str) -> None:
    """Set up the process group of submitit's local executor; torchrun and SLURM set up their own.

    Raises:
        GemError: There are more or fewer tasks than devices, or a sweep of runs of several processes has no launcher
            that starts them.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if os.environ.get("SUBMITIT_EXECUTOR") == "local":
        tasks, number = int(os.environ["SUBMITIT_LOCAL_NTASKS"]), os.environ["SUBMITIT_LOCAL_LOCALID"]
        if isinstance(devices, int) and devices != tasks:
            raise GemError(f"expected one task per device, got hydra.launcher.tasks_per_node={tasks}, {devices=}")
        if tasks > 1:
            # jobs of one machine must not meet on the rendezvous port
            port = 20000 + int(os.environ["SUBMITIT_LOCAL_JOB_ID"]) % 20000
            os.environ |= {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": str(tasks), "NODE_RANK": "0"}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        return
    started = any(name in os.environ for name in ("LOCAL_RANK", "SLURM_PROCID"))
    sweeps = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    if isinstance(devices, int) and devices > 1 and sweeps and not started:
        raise GemError(
            f"expected a launcher that starts {devices} processes a run, got -m alone; add "
            f"hydra/launcher=submitit_slurm (or submitit_local) hydra.launcher.tasks_per_node={devices}"
        )


def _quiet_libraries() -> None:
    """Silence messages that Lightning would print twice under Hydra's logging, and those of ranks above 0."""
    from lightning.pytorch.utilities import rank_zero_only

    if rank_zero_only.rank:  # type: ignore[attr-defined]
        logging.getLogger("gem_lightning").setLevel(logging.WARNING)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*treespec.*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")  # the data module keeps the position
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*is deprecated.*")  # 5.17 has no other name
    warnings.filterwarnings(
        "ignore", message=".*Total length of .list. across ranks is zero.*"
    )  # no validation samples
    warnings.filterwarnings("ignore", message=".*Could not find a config file in.*")  # peft, of a folder of adapters
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it misses kernels for CPUs that it can do without


def find_checkpoint(name: str | None, folder: str) -> str | None:
    """Find the checkpoint that ``ckpt_path`` names.

    Args:
        name: A checkpoint; ``last``, the newest intact one of the run; ``auto``, the same, or None where there is none.
        folder: The run's checkpoints.

    Raises:
        GemError: There is none, or it is damaged.
    """
    if not name:
        return None
    from gem_lightning.lit.checkpointing.io import damage, newest_whole

    path = newest_whole(Path(folder)) if name in ("last", "auto") else Path(name)
    if path is None and name == "auto":
        return None
    if path is None or not path.exists():
        raise GemError(f"expected a checkpoint at {path or folder}, got none; omit ckpt_path to start from scratch")
    reason = damage(path) if name not in ("last", "auto") else None
    if reason is not None:
        raise GemError(
            f"expected an intact checkpoint, got {path}: {reason}; ckpt_path=last takes the newest intact one"
        )
    return str(path)


def refuse(cfg: DictConfig, module: Any) -> Run | None:
    """Refuse combinations that cannot work, before data is generated or weights are read.

    Returns:
        The settings that a plan needs; None where the module is no GEM.

    Raises:
        GemError: See :func:`gem_lightning.lit.plan.refuse_what_cannot_work`.
    """
    from gem_lightning.lit import GemLitModule
    from gem_lightning.lit.plan import refuse_what_cannot_work

    if not isinstance(module, GemLitModule):
        return None
    run = settings_of(cfg, module)
    refuse_what_cannot_work(run)
    if cfg.train and OmegaConf.select(cfg, "data.train", default="") is None:
        raise GemError("expected training samples, got data.train=null; name a file of samples")
    if cfg.test and OmegaConf.select(cfg, "data.test", default="") is None:
        raise GemError("expected test samples for test=true, got data.test=null; name a file of samples")
    return run


def make_trainer(cfg: DictConfig) -> Any:
    """Instantiate the trainer with its callbacks and loggers; one that is null is omitted.

    Without ``train`` there are no loggers: the table of the run's training would lose its rows to a test's step 0.
    """
    from hydra.utils import instantiate

    loggers = (cfg.get("logger") or {}).values() if cfg.train else ()
    return instantiate(
        cfg.trainer,
        callbacks=[instantiate(c) for c in (cfg.get("callbacks") or {}).values() if c],
        logger=[instantiate(log) for log in loggers if log],
        default_root_dir=cfg.paths.output,
    )


def keep_earlier_run(cfg: DictConfig, checkpoint: str | None) -> None:
    """Rename the outputs of an earlier run of the same name, unless this one resumes it."""
    from lightning.pytorch.utilities import rank_zero_only

    from gem_lightning.lit import set_aside

    if rank_zero_only.rank:  # type: ignore[attr-defined]
        return
    samples = OmegaConf.select(cfg, "callbacks.samples.folder")
    others = [Path(folder) for folder in (cfg.paths.logs, samples) if folder]
    set_aside(Path(cfg.paths.checkpoints), others, None if checkpoint is None else Path(checkpoint))


def plan_run(cfg: DictConfig, data: Any, run: Run | None) -> Planned:
    """Open the data and refuse a step that does not fit into memory.

    Raises:
        DataError: A split is empty, a file is missing, or the samples are too few for a step.
        GemError: See :mod:`gem_lightning.lit.plan`.
    """
    if run is None:
        return Planned(None, on_gpus(cfg))
    from gem_lightning.lit import plan as planning

    open_splits(data, run)
    if not cfg.check_memory:
        return Planned(None, on_gpus(cfg))
    try:
        plan = planning.make_plan(run, planning.measure_load(data, run.devices))
    except DataError as error:
        logger.info("memory is not estimated: %s", error)
        return Planned(None, on_gpus(cfg))
    planning.refuse_what_does_not_fit(plan, planning.device_memory(on_gpus(cfg)))
    return Planned(plan, on_gpus(cfg))


def open_splits(data: Any, run: Run) -> None:
    """Open the splits that training reads.

    Raises:
        DataError: A split is empty, a file is missing, or the samples are too few for a step.
    """
    for split in ("train", "val"):
        if data.sources[split] is not None:
            data.dataset(split)
    data.refuse_too_few(run.devices)


def print_plan(cfg: DictConfig, data: Any, module: Any, run: Run | None) -> None:
    """Prepare the data and print what a run will need; see :func:`plan_of`."""
    run, plan = plan_of(cfg, data, module, run)
    hours = plan.hours(cfg.mfu, cfg.peak_tflops, run.devices)
    print(f"{plan}\nhours                 {hours:,.2f} at MFU {cfg.mfu:g} of {cfg.peak_tflops:g} TFLOP/s a device")
    if plan.written:
        least = plan.sampling_hours(cfg.memory_bandwidth)
        print(f"  to sample answers   {least:,.2f} more at least, at {cfg.memory_bandwidth:g} TB/s a device")


def plan_of(cfg: DictConfig, data: Any, module: Any, run: Run | None) -> tuple[Run, Plan]:
    """Prepare the data and plan any kind of training; weights are not read, and no answers are sampled.

    Args:
        cfg: Of the run.
        data: Its DataModule.
        module: Its LightningModule.
        run: From :func:`refuse`; None for an encoder.

    Raises:
        GemError: See :mod:`gem_lightning.lit.plan`; or the module is neither a GEM nor an encoder.
    """
    from gem_lightning.lit import plan_stages

    if run is None and not hasattr(module, "losses"):
        raise GemError(
            f"expected a module with losses(batch) for dry_run=true, got {type(module).__name__}, whose operations are "
            "not counted; leave it out and time a short run: trainer.max_steps=20 name=trial"
        )
    writer = plan_stages.unwritten(data)
    data.prepare_data()
    if run is None:
        run = settings_of(cfg, module)
        return run, plan_stages.plan_encoder(run, module, data, [("ddp", 8)])
    open_splits(data, run)
    others = [(name, 8) for name in ("ddp", "fsdp2") if run.net.get("lora") is None or name == "ddp"]
    return run, plan_stages.plan_gem(run, module, data, writer, others)


def on_gpus(cfg: DictConfig) -> bool:
    """Return whether the run is on GPUs."""
    import torch

    return cfg.trainer.accelerator in ("gpu", "cuda") or (
        torch.cuda.is_available() and cfg.trainer.accelerator != "cpu"
    )


def settings_of(cfg: DictConfig, module: Any) -> Run:
    """Collect the settings that a plan needs from a config and the module built from it."""
    import torch
    from hydra.utils import get_class

    from gem_lightning.lit.plan import Run
    from gem_lightning.lit.strategies import strategy_kind

    wanted = cfg.trainer.devices  # -1 or auto: all
    local = wanted if isinstance(wanted, int) and wanted > 0 else max(1, torch.cuda.device_count())
    devices = local * cfg.trainer.num_nodes
    named: Any = cfg.trainer.strategy
    stage = None
    if OmegaConf.is_dict(named):
        named, stage = get_class(named._target_), named.get("stage")
    return Run(
        net=getattr(module.net_factory, "keywords", {}),
        **{to: getattr(module, name) for to, name in _PATTERNS.items() if hasattr(module, name)},
        optimizer=cfg.model.optim.optimizer._target_,
        strategy=strategy_kind(named, devices, stage),
        devices=devices,
        precision=cfg.trainer.precision,
        accumulate=cfg.trainer.accumulate_grad_batches,
        epochs=cfg.trainer.max_epochs or -1,
        max_steps=cfg.trainer.max_steps,
        cuda=on_gpus(cfg) or cfg.dry_run,
    )


def fit(trainer: Any, module: Any, data: Any, checkpoint: str | None, planned: Planned) -> None:
    """Train from a checkpoint or from the start.

    Raises:
        GemError: A step found no memory.
    """
    from gem_lightning.lit.plan import device_memory, out_of_memory

    try:
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        explained = out_of_memory(error, device_memory(planned.cuda), planned.plan)
        if explained is None:
            raise
        raise explained from error


def main() -> None:
    """Entry point."""
    main_with_errors("train", train)


if __name__ == "__main__":
    main()
