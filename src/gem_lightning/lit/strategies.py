"""Sharded training strategies (FSDP2, FSDP1) with atomic checkpoints, and the classification of any strategy."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.strategies.model_parallel import _is_sharded_checkpoint
from lightning.pytorch.strategies import (
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    ParallelStrategy,
    Strategy,
    StrategyRegistry,
)
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException

from gem_lightning.errors import CheckpointError, GemError
from gem_lightning.jobs import replace_folder
from gem_lightning.lit.checkpointing.io import AtomicCheckpointIO, cannot_write, seal, write_sums
from gem_lightning.models.compat import check_fit
from gem_lightning.models.sharding import Sharding

_COMPUTE = {"32-true": None, "bf16-mixed": torch.bfloat16, "bf16-true": torch.bfloat16}


SHARDED = ("fsdp", "fsdp2", "deepspeed_stage_3")  # kinds whose processes hold parts of the weights


def strategy_kind(strategy: str | Strategy | type[Strategy] | None, devices: int = 1, stage: int | None = None) -> str:
    """Classify a strategy by its class, as what the plan and the refusals of a run depend on.

    Args:
        strategy: A name of Lightning's ``StrategyRegistry``, ``auto`` or None, a strategy, or its class.
        devices: Processes of the run; ``auto`` is DDP for several.
        stage: ZeRO stage of a ``DeepSpeedStrategy``, where it is not in the name.

    Returns:
        ``single``, ``ddp`` (every process holds the weights), ``fsdp``, ``fsdp2`` or ``deepspeed_stage_3``.

    Raises:
        GemError: Lightning has no strategy of that name.
    """
    if strategy in (None, "auto"):
        return "single" if devices == 1 else "ddp"
    if isinstance(strategy, str):
        if strategy not in StrategyRegistry:
            known = ", ".join(StrategyRegistry.available_strategies())
            raise GemError(f"expected trainer.strategy=auto or one of {known}, got {strategy!r}")
        entry = StrategyRegistry[strategy]
        strategy, stage = entry["strategy"], entry["init_params"].get("stage", stage)
    kind = strategy if isinstance(strategy, type) else type(strategy)
    if issubclass(kind, ModelParallelStrategy):
        return "fsdp2"
    if issubclass(kind, FSDPStrategy):
        return "fsdp"
    if issubclass(kind, DeepSpeedStrategy) and stage == 3:  # stages 1 and 2 leave the weights whole
        return "deepspeed_stage_3"
    return "ddp" if issubclass(kind, ParallelStrategy) else "single"


class AtomicShards(ParallelStrategy):
    """A strategy whose checkpoints are folders of shards, one file per process: complete with checksums, or absent."""

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write the shards under another name, flush them to disk, and rename when all processes are done.

        Raises:
            CheckpointError: A disk is full or refuses; what was there before is as it was.
        """
        final = Path(self.broadcast(filepath))
        partial = _partial(final)
        if self.is_global_zero:
            shutil.rmtree(partial, ignore_errors=True)
            final.parent.mkdir(parents=True, exist_ok=True)
        self.barrier()
        write = super().save_checkpoint
        self._together(final, lambda: write(checkpoint, partial))
        parts: list[Any] = [None] * self.world_size
        dist.all_gather_object(parts, self._together(final, lambda: seal(partial, self._own(partial))))
        self._together(final, lambda: self._publish(final, parts))

    def _together(self, final: Path, step: Callable[[], Any]) -> Any:
        """Do a step on every process and wait for all; if it fails on one, the checkpoint is discarded on all.

        Raises:
            CheckpointError: A process could not write.
        """
        failure: BaseException | None = None
        result = None
        try:
            result = step()
        except (Exception, CheckpointException) as error:  # the others must not wait for this one; the latter is none
            failure = error
        if self.reduce_boolean_decision(failure is not None, all=False):
            if self.is_global_zero:
                shutil.rmtree(_partial(final), ignore_errors=True)
            raise cannot_write(final, failure or OSError("another process could not write"))
        return result

    def _own(self, folder: Path) -> list[str]:
        """Return names of the files that this process wrote; common files count as the first one's."""
        rank, names = self.global_rank, [path.name for path in folder.iterdir()]
        return [name for name in names if name.startswith(f"__{rank}_") or (rank == 0 and not name.startswith("__"))]

    def _publish(self, final: Path, parts: list[dict[str, tuple[int, int]]]) -> None:
        """Write the checksums of all processes and rename the folder, on the first process."""
        if self.is_global_zero:
            write_sums(_partial(final), {name: value for part in parts for name, value in part.items()})
            replace_folder(_partial(final), final)


def _partial(final: Path) -> Path:
    """Return the name of a checkpoint until it is complete."""
    return final.with_name(f".{final.name}.partial")


class ShardedStrategy(AtomicShards, ModelParallelStrategy):
    """FSDP2 over all processes: each holds a shard of weights, gradients and optimiser state.

    ``precision=bf16-mixed`` gathers weights and computes in bfloat16, sums gradients in float32, and leaves weights,
    optimiser state and buffers in float32. Checkpoints are folders, one file a process.

    Args:
        process_group_backend: None takes NCCL on GPUs and gloo elsewhere.
    """

    def __init__(self, process_group_backend: str | None = None) -> None:
        super().__init__(tensor_parallel_size=1, process_group_backend=process_group_backend)

    @property
    def sharding(self) -> Sharding:
        """How a network is to be sharded.

        Raises:
            GemError: The precision has no sharded form.
        """
        precision = self.precision_plugin.precision
        if precision not in _COMPUTE:
            raise GemError(f"expected trainer.precision of {sorted(_COMPUTE)} with strategy=fsdp2, got {precision}")
        return Sharding(self.device_mesh["data_parallel"], _COMPUTE[precision])

    def setup_environment(self) -> None:
        """Make one group of all processes."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def setup(self, trainer: Any) -> None:
        """Refuse a network that was not sharded: its ranks would train apart.

        Raises:
            GemError: The module ignores ``strategy.sharding``.
        """
        from torch.distributed.tensor import DTensor

        if not any(isinstance(parameter, DTensor) for parameter in self.model.parameters()):  # type: ignore[union-attr]
            raise GemError(f"expected a network that can be sharded, got {type(self.model).__name__}; strategy=ddp")
        super().setup(trainer)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load shards of any number of processes, or the file of another strategy.

        Raises:
            CheckpointError: It is of another architecture, or no training checkpoint.
        """
        path = Path(self.broadcast(checkpoint_path))
        module: Any = self.lightning_module
        if _is_sharded_checkpoint(path):
            check_fit(stored_shapes(path), module.state_dict())
            return super().load_checkpoint(path, weights_only)
        checkpoint = AtomicCheckpointIO().load_checkpoint(path, weights_only=weights_only)
        self._load_whole(module, checkpoint.pop("state_dict"), checkpoint["optimizer_states"])
        return checkpoint

    def _load_whole(self, module: nn.Module, tensors: Mapping[str, Any], optimizers: list[dict[str, Any]]) -> None:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

        check_fit(tensors, module.state_dict())
        sharding = self.sharding
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(sharding.cut(tensors[name].to(parameter.dtype), parameter))
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        for optimizer, state in zip(self.optimizers, optimizers):
            order = [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
            set_optimizer_state_dict(
                module, optimizer, optim_state_dict=named(state, order), options=StateDictOptions(full_state_dict=True)
            )


class Fsdp1Strategy(AtomicShards, FSDPStrategy):
    """FSDP1, for GPUs only: each process reads the whole network before it keeps its shard; prefer ``strategy=fsdp2``.

    Precision as with :class:`ShardedStrategy`: the module's buffers stay in float32.
    """

    def __init__(self) -> None:
        from transformers.modeling_layers import GradientCheckpointingLayer

        super().__init__(
            auto_wrap_policy={GradientCheckpointingLayer},
            state_dict_type="sharded",
            use_orig_params=True,
        )

    @property
    def mixed_precision_config(self) -> Any:
        """Compute in bfloat16 where the precision requires it; sums and buffers stay in float32."""
        from torch.distributed.fsdp import MixedPrecision

        dtype = _COMPUTE.get(str(self.precision_plugin.precision))
        return dtype and MixedPrecision(param_dtype=dtype, reduce_dtype=torch.float32, buffer_dtype=torch.float32)


def named(state: dict[str, Any], order: list[str]) -> dict[str, Any]:
    """Key torch's optimiser state, whose keys are numbers of parameters, by their names.

    Args:
        state: As ``optimizer.state_dict()`` returns it.
        order: Names of the optimiser's parameters, group by group.
    """
    return {
        "state": {order[number]: value for number, value in state["state"].items()},
        "param_groups": [group | {"params": [order[n] for n in group["params"]]} for group in state["param_groups"]],
    }


def stored_shapes(folder: Path) -> dict[str, Any]:
    """Read the names of a folder's weights, each with its shape (as an empty tensor on the meta device).

    Raises:
        CheckpointError: The folder's own index cannot be read.
    """
    from torch.distributed.checkpoint import FileSystemReader

    try:
        entries = FileSystemReader(folder).read_metadata().state_dict_metadata
    except Exception as error:  # unpickling a damaged index fails in many ways
        raise CheckpointError(f"expected a checkpoint's index in {folder}, got {error}") from error
    prefix = "state_dict."
    return {
        name.removeprefix(prefix): torch.empty(entry.size, device="meta")
        for name, entry in entries.items()
        if name.startswith(prefix) and hasattr(entry, "size")
    }
