"""Train: ``python -m gem_lightning.train experiment=quickstart``."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gem_lightning.entry import main_with_errors, options
from gem_lightning.errors import DataError, GemError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from gem_lightning.lit.plan import Plan, Run

logger = logging.getLogger(__name__)

_STRATEGIES = {"ddp": "ddp", "ShardedStrategy": "fsdp2", "Fsdp1Strategy": "fsdp"}


class Planned(NamedTuple):
    """What is known of a run before it begins.

    Attributes:
        plan: None where there is none: no GEM, or its memory was not to be estimated.
        cuda: On GPUs.
    """

    plan: Plan | None
    cuda: bool


def train(cfg: DictConfig) -> float | None:
    """Instantiate data, model and trainer from ``cfg`` and fit.

    Returns:
        The last validation loss: what a sweep minimises; None without validation.

    Raises:
        GemError: ``ckpt_path`` names no whole checkpoint, or the devices that are asked for are not there.
        SystemExit: With code 75 where the run was told to stop and saved: start the same command again.
    """
    check_choices()
    check_complete(cfg)
    join_tasks(cfg.trainer.devices)
    checkpoint = find_checkpoint(cfg.ckpt_path, cfg.paths.checkpoints)
    if not cfg.dry_run:
        check_devices(cfg.trainer.accelerator, cfg.trainer.devices)

    import lightning
    from hydra.utils import instantiate

    _hush()
    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    data = instantiate(cfg.data)
    data.prepare_data()
    module = instantiate(cfg.model)
    planned = plan_run(cfg, data, module)
    if cfg.dry_run:
        return None
    trainer = instantiate(
        cfg.trainer,
        callbacks=[instantiate(c) for c in (cfg.get("callbacks") or {}).values() if c],
        logger=[instantiate(log) for log in (cfg.get("logger") or {}).values() if log],
        default_root_dir=cfg.paths.output,
    )
    if cfg.validate_first and checkpoint is None:
        trainer.validate(module, data, verbose=False)
    fit(trainer, module, data, checkpoint, planned)
    if trainer.interrupted:
        raise KeyboardInterrupt
    logger.info("run folder: %s", cfg.paths.output)
    loss = trainer.callback_metrics.get("val/loss")
    return None if loss is None else float(loss)


def join_tasks(devices: int | str) -> None:
    """Let the tasks of submitit's local executor find each other; torchrun and SLURM do so themselves.

    Raises:
        GemError: There are more or fewer tasks than devices, or a sweep of runs of several processes has no launcher
            that starts them.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if os.environ.get("SUBMITIT_EXECUTOR") == "local":
        tasks, number = int(os.environ["SUBMITIT_LOCAL_NTASKS"]), os.environ["SUBMITIT_LOCAL_LOCALID"]
        if isinstance(devices, int) and devices != tasks:
            raise GemError(f"expected a task a device, got hydra.launcher.tasks_per_node={tasks}, {devices=}")
        if tasks > 1:
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


def _hush() -> None:
    """Lightning prints each message twice under Hydra's logging, among them advertisements; one process speaks."""
    from lightning.pytorch.utilities import rank_zero_only

    if rank_zero_only.rank:  # type: ignore[attr-defined]
        logging.getLogger("gem_lightning").setLevel(logging.WARNING)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*treespec.*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")


def find_checkpoint(name: str | None, folder: str) -> str | None:
    """The checkpoint behind ``ckpt_path``.

    Args:
        name: A checkpoint; ``last``, the newest whole one of the run; ``auto``, the same, or None where there is none.
        folder: The run's checkpoints.

    Raises:
        GemError: There is none, or it is damaged.
    """
    if not name:
        return None
    from gem_lightning.lit.checkpoint_files import damage, newest_whole

    path = newest_whole(Path(folder)) if name in ("last", "auto") else Path(name)
    if path is None and name == "auto":
        return None
    if path is None or not path.exists():
        raise GemError(f"expected a checkpoint at {path or folder}, got nothing; leave out ckpt_path to start anew")
    reason = damage(path) if name not in ("last", "auto") else None
    if reason is not None:
        raise GemError(f"expected a whole checkpoint, got {path}: {reason}; ckpt_path=last takes the newest whole one")
    return str(path)


def check_choices() -> None:
    """Refuse a command line that chooses no network, or changes what its network does not read.

    Raises:
        GemError: With the experiments to choose from, or the keys to change instead.
    """
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return
    typed = [override.lstrip("+~") for override in HydraConfig.get().overrides.task]
    chosen = HydraConfig.get().runtime.choices
    if chosen.get("experiment") is None and not any(override.startswith("model") for override in typed):
        raise GemError(f"expected an experiment, got none; choose experiment={'|'.join(options('experiment'))}")
    ignored = [override for override in typed if override.partition("=")[0].partition(".")[0] == "optim"]
    if ignored and chosen.get("model", "gem") != "gem":
        raise GemError(
            f"expected the rates of model={chosen['model']} as model.lr, model.weight_decay, model.warmup, "
            f"model.final_lr, model.optimizer.*, got {ignored[0]}, which it does not read"
        )


def check_complete(cfg: DictConfig) -> None:
    """Refuse a config with values that only the user can give.

    Raises:
        GemError: Their names.
    """
    from omegaconf import OmegaConf

    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise GemError(f"expected values for {', '.join(missing)}, got none; add {missing[0]}=... to the command")


def plan_run(cfg: DictConfig, data: Any, module: Any) -> Planned:
    """Refuse what cannot work or fit; with ``dry_run``, print the plan.

    Raises:
        GemError: See :mod:`gem_lightning.lit.plan`.
    """
    import torch

    from gem_lightning.lit import GemLitModule
    from gem_lightning.lit import plan as planning

    cuda = cfg.trainer.accelerator in ("gpu", "cuda") or (
        torch.cuda.is_available() and cfg.trainer.accelerator != "cpu"
    )
    if not isinstance(module, GemLitModule):
        if cfg.dry_run:
            raise GemError(
                "expected model=gem with dry_run=true, got an encoder, which is not planned; leave out dry_run"
            )
        return Planned(None, cuda)
    run = settings_of(cfg, module, cuda)
    planning.refuse_what_cannot_work(run)
    if not cfg.dry_run and not cfg.check_memory:
        return Planned(None, cuda)
    others = [(name, 8) for name in ("ddp", "fsdp2") if run.net.get("lora") is None or name == "ddp"]
    try:
        plan = planning.make_plan(run, planning.measure_load(data, run.devices), others if cfg.dry_run else ())
    except DataError as error:
        if cfg.dry_run:
            raise
        logger.info("memory is not estimated: %s", error)
        return Planned(None, cuda)
    if cfg.dry_run:
        hours = plan.hours(cfg.mfu, cfg.peak_tflops, run.devices)
        print(f"{plan}\nhours                 {hours:,.2f} at MFU {cfg.mfu:g} of {cfg.peak_tflops:g} TFLOP/s a device")
    else:
        planning.refuse_what_does_not_fit(plan, planning.device_memory(cuda))
    return Planned(plan, cuda)


def settings_of(cfg: DictConfig, module: Any, cuda: bool) -> Run:
    """What a plan needs to know of a config and the module that it made."""
    import torch

    from gem_lightning.lit.plan import Run

    devices = cfg.trainer.devices if isinstance(cfg.trainer.devices, int) else max(1, torch.cuda.device_count())
    strategy = cfg.trainer.strategy if isinstance(cfg.trainer.strategy, str) else cfg.trainer.strategy._target_
    return Run(
        net=getattr(module.net_factory, "keywords", {}),
        freeze=module.hparams["freeze"],
        unfreeze=module.hparams["unfreeze"],
        optimizer=cfg.model.optimizer._target_,
        strategy=_STRATEGIES.get(strategy.rpartition(".")[2], "single"),
        devices=devices * cfg.trainer.num_nodes,
        precision=cfg.trainer.precision,
        accumulate=cfg.trainer.accumulate_grad_batches,
        epochs=cfg.trainer.max_epochs or 1,
        max_steps=cfg.trainer.max_steps,
        cuda=cuda or cfg.dry_run,
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
        said = out_of_memory(error, device_memory(planned.cuda), planned.plan)
        if said is None:
            raise
        raise said from error


def check_devices(accelerator: str, devices: int | str) -> None:
    """Refuse devices that are not there before anything is built.

    Raises:
        GemError: There are fewer GPUs, or none and ``auto`` would start processes on the CPU instead.
    """
    wanted = devices if isinstance(devices, int) else 0
    if accelerator not in ("auto", "gpu", "cuda") or wanted <= (accelerator == "auto"):
        return
    import torch

    found = torch.cuda.device_count()
    if wanted > found and not torch.backends.mps.is_available():
        raise GemError(
            f"expected {wanted} GPUs (trainer.devices), got {found}; set trainer.devices=auto, or "
            "trainer.accelerator=cpu for processes on the CPU"
        )


def main() -> None:
    """Entry point."""
    main_with_errors("train", train)


if __name__ == "__main__":
    main()
