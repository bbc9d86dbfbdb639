"""Throughput callback and progress bar: samples, tokens and FLOPs per second, data wait, memory."""

from __future__ import annotations

import logging
import resource
import time
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch.callbacks import Callback, TQDMProgressBar

from gem_lightning.models.planning.flops import FlopCounter

logger = logging.getLogger(__name__)

_SHOWN = {
    "samples/s": ("speed/samples_per_s", 1),
    "tokens/s": ("speed/tokens_per_s", 0),
    "MFU": ("speed/mfu", 3),
    "real": ("speed/real_token_share", 3),
    "wait": ("speed/data_wait_share", 3),
    "GiB": ("memory/peak_gib", 1),
}
# Dense bfloat16, FLOP/s, of NVIDIA's data sheets; Lightning's table has these cards with sparsity, or not by their name
_PEAKS = {"h200 nvl": 835.5e12, "h200": 989.4e12, "h100 nvl": 835.5e12}
_SIDE, _TRIES = {"cpu": 1024, "cuda": 8192}, 5  # of the matrix product that measures a peak


class ProgressBar(TQDMProgressBar):
    """Lightning's progress bar with throughput.

    Loss, samples and tokens a second, MFU, the share of real tokens, the share of time that waited for data, memory.
    """

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Values at the end of the bar."""
        values = super().get_metrics(trainer, pl_module)
        values.pop("v_num", None)
        for name, (key, digits) in _SHOWN.items():
            if key in trainer.logged_metrics:
                values[name] = round(float(trainer.logged_metrics[key]), digits or None)
        return values


class Throughput(Callback):
    """Speed of this process: samples and real tokens a second, MFU, share of real tokens, waiting for data, memory.

    MFU is the counted operations of the batches (:class:`gem_lightning.models.planning.flops.FlopCounter`: nothing that
    is recomputed) over the device's peak.

    Args:
        every_n_steps: Batches between two log entries; None takes the trainer's ``log_every_n_steps``.
        peak_tflops: Of one device at the run's precision; None calls :func:`device_peak`.
    """

    def __init__(self, every_n_steps: int | None = None, peak_tflops: float | None = None) -> None:
        self.every_n_steps = every_n_steps
        self.peak = None if peak_tflops is None else peak_tflops * 1e12
        self.changed = {"cut": 0, "skipped": 0}  # samples since the run (re)started
        self._flops: FlopCounter | None = None
        self._reset(time.perf_counter())

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set up the FLOP counter and the device's peak."""
        net: Any = getattr(pl_module, "net", None)
        if hasattr(net, "generate"):  # a language model, not an encoder alone
            self._flops = FlopCounter(net)
        if self.every_n_steps is None:
            self.every_n_steps = trainer.log_every_n_steps * trainer.accumulate_grad_batches  # type: ignore[attr-defined]
        if self.peak is None and self._flops is not None:
            self.peak, source = device_peak(pl_module.device)
            logger.info("MFU is the share of %.3g TFLOP/s (%s)", self.peak / 1e12, source)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Add the time since the last step to the data wait."""
        self._waited += time.perf_counter() - self._step_ended

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch and log every ``every_n_steps``."""
        now = self._step_ended = time.perf_counter()
        counts = batch.get("counts") or _plain_counts(batch)
        for name in self._sums:
            self._sums[name] += counts[name]
        for name in self.changed:
            self.changed[name] += counts.get(name, 0)
        if self._flops is not None:
            self._operations += self._flops.count(counts).total
        self._steps += 1
        if self._steps < (self.every_n_steps or 1):
            return
        pl_module.log_dict(self._metrics(max(now - self._began, 1e-9), pl_module.device))
        self._reset(now)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exclude the validation between epochs from the data wait."""
        self._reset(time.perf_counter())

    def _metrics(self, elapsed: float, device: torch.device) -> dict[str, float]:
        metrics = {
            "speed/samples_per_s": self._sums["samples"] / elapsed,
            "speed/tokens_per_s": self._sums["tokens"] / elapsed,
            "speed/real_token_share": self._sums["tokens"] / self._sums["padded"],
            "speed/data_wait_share": self._waited / elapsed,
            **{f"data/{name}_samples": float(count) for name, count in self.changed.items()},
            "memory/peak_gib": _peak_bytes(device) / 2**30,
        }
        if self._operations:
            # TFLOP/s of the model's own operations, recomputation not counted
            metrics["speed/tflops"] = self._operations / elapsed / 1e12
        if self._operations and self.peak:
            metrics["speed/mfu"] = self._operations / elapsed / self.peak
        return metrics

    def _reset(self, now: float) -> None:
        self._began = self._step_ended = now
        self._sums = dict.fromkeys(("samples", "tokens", "padded"), 0)
        self._steps, self._operations, self._waited = 0, 0.0, 0.0


def device_peak(device: torch.device) -> tuple[float, str]:
    """Return a device's peak, FLOP/s, and its source.

    Dense bfloat16 from the vendor's data sheet for known GPUs; else the best of a few large matrix products, in
    float32 on a CPU: an upper bound for this process, not for the machine.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        known = next((peak for part, peak in _PEAKS.items() if part in name.lower()), None)
        known = known or get_available_flops(device, torch.bfloat16)
        if known:
            return float(known), f"{name}, dense bfloat16"
    side = _SIDE.get(device.type, 1024)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    one = torch.ones(side, side, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(_TRIES):
        began = time.perf_counter()
        torch.mm(one, one)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best, f"measured matrix product, {str(dtype).removeprefix('torch.')}"


def _plain_counts(batch: Any) -> dict[str, int]:
    """Count a batch without counts by its attention mask; of signals without a text, each counts as one token."""
    if "attention_mask" not in batch:
        return dict.fromkeys(("samples", "tokens", "padded"), len(batch["ecg_values"]))
    mask = batch["attention_mask"]
    return {"samples": len(mask), "tokens": int(mask.sum()), "padded": mask.numel()}


def _peak_bytes(device: torch.device) -> int:
    """Return the peak memory of tensors on the device; on the CPU, of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
