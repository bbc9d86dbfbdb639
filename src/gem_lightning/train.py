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
        GemError: ``ckpt_path`` names no checkpoint.
    """
    checkpoint = find_checkpoint(cfg.ckpt_path, cfg.paths.checkpoints)

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
    """The checkpoint file behind ``ckpt_path``; ``last`` is the newest of the run's own folder."""
    if not name:
        return None
    path = Path(folder) / "last.ckpt" if name == "last" else Path(name)
    if not path.exists():
        raise GemError(f"expected a checkpoint at {path}, got nothing; leave out ckpt_path to start anew")
    return str(path)


def main() -> None:
    """Entry point."""
    main_with_errors("train", train)


if __name__ == "__main__":
    main()
