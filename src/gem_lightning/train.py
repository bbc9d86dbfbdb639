"""Train: ``python -m gem_lightning.train experiment=quickstart``."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from gem_lightning.entry import main_with_errors
from gem_lightning.errors import GemError

if TYPE_CHECKING:
    from omegaconf import DictConfig

logger = logging.getLogger(__name__)


def train(cfg: DictConfig) -> float | None:
    """Instantiate data, model and trainer from ``cfg`` and fit.

    Returns:
        The last validation loss: what a sweep minimises; None without validation.

    Raises:
        GemError: ``ckpt_path`` names no whole checkpoint, or the devices that are asked for are not there.
        SystemExit: With code 75 where the run was told to stop and saved: start the same command again.
    """
    checkpoint = find_checkpoint(cfg.ckpt_path, cfg.paths.checkpoints)
    check_devices(cfg.trainer.accelerator, cfg.trainer.devices)

    import lightning
    from hydra.utils import instantiate

    _hush()
    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    data = instantiate(cfg.data)
    data.prepare_data()
    module = instantiate(cfg.model)
    trainer = instantiate(
        cfg.trainer,
        callbacks=[instantiate(c) for c in (cfg.callbacks or {}).values() if c],
        logger=[instantiate(log) for log in (cfg.logger or {}).values() if log],
        default_root_dir=cfg.paths.output,
    )
    if cfg.validate_first and checkpoint is None:
        trainer.validate(module, data, verbose=False)
    trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    logger.info("run folder: %s", cfg.paths.output)
    loss = trainer.callback_metrics.get("val/loss")
    return None if loss is None else float(loss)


def _hush() -> None:
    """Lightning prints each message twice under Hydra's logging, among them advertisements."""
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
