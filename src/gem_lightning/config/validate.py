"""Validation of a training config before anything is built: choices, completeness, types, ranges, devices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from gem_lightning.config.main import options
from gem_lightning.config.types import check_types, source
from gem_lightning.errors import GemError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def _at_least(least: float) -> Callable[[Any], bool]:
    return lambda value: value >= least


def _above_zero(value: Any) -> bool:
    return 0 < value < math.inf


def _is_period(value: Any) -> bool:
    return 0 < value < 1 or (value >= 1 and value == int(value))


_COUNT = (int, _at_least(1), "an int, at least 1")
_LIMIT = (int, lambda value: value >= 1 or value == -1, "an int, at least 1, or -1 for no limit")
_RATE = (float, _above_zero, "a number above 0")
_SHARE = (float, lambda value: 0 <= value < math.inf, "a number, at least 0")
_SWITCH = (bool, lambda value: True, "true or false")
_RANGES: dict[str, tuple[type, Callable[[Any], bool], str]] = {
    "seed": (int, lambda value: 0 <= value < 2**32, f"an int from 0 to {2**32 - 1}"),
    "train": _SWITCH,
    "test": _SWITCH,
    "dry_run": _SWITCH,
    "check_memory": _SWITCH,
    "validate_first": _SWITCH,
    "mfu": (float, lambda value: 0 < value <= 1, "a share above 0, at most 1"),
    "peak_tflops": _RATE,
    "memory_bandwidth": _RATE,
    "trainer.max_steps": _LIMIT,
    "trainer.max_epochs": _LIMIT,
    "trainer.num_nodes": _COUNT,
    "trainer.accumulate_grad_batches": _COUNT,
    "trainer.gradient_clip_val": _SHARE,
    "trainer.log_every_n_steps": _COUNT,
    "data.batch_size": _COUNT,
    "data.max_length": _COUNT,
    "data.batches.pack_to": _COUNT,
    "data.batches.length_window": _COUNT,
    "data.num_workers": (int, _at_least(0), "an int, at least 0"),
    "optim.lr": _RATE,
    "optim.weight_decay": _SHARE,
    "optim.warmup": _SHARE,
    "optim.final_lr": _SHARE,
    "optim.optimizer.eps": _RATE,
    "callbacks.keep_last.every_n_steps": (float, _is_period, "a number of steps, or a share of the run below 1"),
    "callbacks.keep_last.keep": _COUNT,
}


def check_config(cfg: DictConfig) -> None:
    """Check everything that a composed config alone determines.

    Raises:
        GemError: Values that are missing, of a wrong type or out of range, or a run without an end.
    """
    check_complete(cfg)
    check_ranges(cfg)
    check_types(cfg)
    check_splits(cfg)
    if cfg.matmul_precision not in ("highest", "high", "medium"):
        raise GemError(f"expected matmul_precision to be highest, high or medium, got {cfg.matmul_precision!r}")
    if cfg.trainer.devices in (0, "0"):
        raise GemError("expected at least one device, got trainer.devices=0")
    if cfg.trainer.max_steps == -1 and cfg.trainer.max_epochs in (None, -1) and not cfg.trainer.get("max_time"):
        raise GemError("expected a run with an end, got none; set trainer.max_epochs or trainer.max_steps")


def check_choices() -> None:
    """Refuse a command line that chooses neither an experiment nor a model.

    Raises:
        GemError: With the experiments to choose from.
    """
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return
    typed = [override.lstrip("+~") for override in HydraConfig.get().overrides.task]
    chosen = HydraConfig.get().runtime.choices
    if chosen.get("experiment") is None and not any(override.startswith("model") for override in typed):
        raise GemError(f"expected an experiment, got none; choose experiment={'|'.join(options('experiment'))}")


def check_complete(cfg: DictConfig) -> None:
    """Refuse a config with values that only the user can give.

    Raises:
        GemError: Their names.
    """
    from omegaconf import OmegaConf

    missing = sorted(_missing(OmegaConf.to_container(cfg, resolve=False)))  # an interpolation to nowhere may be unused
    if missing:
        raise GemError(f"expected values for {', '.join(missing)}, got none; add {missing[0]}=... to the command")


def check_ranges(cfg: DictConfig) -> None:
    """Refuse numbers that no run can have.

    Null is left to :func:`gem_lightning.config.types.check_types`, but for the keys that no target takes: the run's
    own.

    Raises:
        GemError: The first such value, by the key to change.
    """
    from omegaconf import OmegaConf

    for key, (kind, is_right, expected) in _RANGES.items():
        value = OmegaConf.select(cfg, key)
        if value is None and key not in cfg:  # one of a target's, or one that this config lacks
            continue
        whole = isinstance(value, (int, float) if kind is float else kind)
        if not (whole and isinstance(value, bool) == (kind is bool) and is_right(value)):
            raise GemError(f"expected {source(cfg, key)} to be {expected}, got {value!r}")
    for pattern, rate in (OmegaConf.select(cfg, "model.lr_by_pattern") or {}).items():
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not _above_zero(rate):
            raise GemError(f"expected model.lr_by_pattern of {pattern} to be a number above 0, got {rate!r}")


def check_splits(cfg: DictConfig) -> None:
    """Refuse sizes of a simulated cohort where files of samples are read.

    Raises:
        GemError: The split, and how to leave it out.
    """
    from omegaconf import OmegaConf

    for split in ("train", "val", "test"):
        source = OmegaConf.select(cfg, f"data.{split}")
        if OmegaConf.is_dict(source) and "_target_" not in source and any(isinstance(v, int) for v in source.values()):
            raise GemError(
                f"expected a file of samples as data.{split}, got {dict(source)}, which the experiment sets for "
                f"data=simulated; add data.{split}=FILE{'' if split == 'train' else f' or data.{split}=null'}"
            )


def check_devices(accelerator: str, devices: int | str) -> None:
    """Refuse devices that do not exist, before anything is built.

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


def _missing(node: Any, path: str = "") -> Iterator[str]:
    if node == "???":
        yield path
    elif isinstance(node, dict):
        for name, value in node.items():
            yield from _missing(value, f"{path}.{name}" if path else str(name))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _missing(value, f"{path}[{number}]")
