"""Export of training state as a folder that ``Gem.from_pretrained`` reads, one tensor in memory at a time."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from safetensors.torch import save_file
from torch import Tensor
from transformers import GenerationConfig

from gem_lightning.errors import CheckpointError
from gem_lightning.jobs import replace_folder
from gem_lightning.jobs.files import open_weights
from gem_lightning.lit.checkpointing.io import damage
from gem_lightning.models.card import write_card
from gem_lightning.models.compat import check_fit, load_gem
from gem_lightning.models.configuration_gem import GemConfig
from gem_lightning.models.lora import base_name, save_trained
from gem_lightning.models.modeling_gem import GemForConditionalGeneration
from gem_lightning.models.processing_gem import GemProcessor

logger = logging.getLogger(__name__)

SHELL = "model"  # in a folder of checkpoints: config and processor, all that weights lack to be a model
_FILE_BYTES = 5 * 10**9
_PREFIX = "state_dict.net."
_ADAPTERS = "adapter_config.json"  # peft's name


class SaveFinished(Callback):
    """Writes the trained weights when training ends: a folder that ``Gem.from_pretrained`` reads.

    Args:
        folder: Where to write model, processor and generation settings.
        checkpoints: The run's folder of checkpoints: receives config and processor for :func:`export`. None: no export.
    """

    def __init__(self, folder: str | os.PathLike[str], checkpoints: str | os.PathLike[str] | None = None) -> None:
        self.folder = Path(folder)
        self.shell = None if checkpoints is None else Path(checkpoints) / SHELL

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write config and processor next to the coming checkpoints."""
        net: Any = pl_module.net
        if self.shell is None or not trainer.is_global_zero:
            return
        _write_shell(getattr(net, "get_base_model", lambda: net)(), trainer, self.shell)
        (self.shell / _ADAPTERS).unlink(missing_ok=True)
        if hasattr(net, "peft_config"):
            net.peft_config["default"].save_pretrained(self.shell)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the folder under a temporary name and rename it."""
        if trainer.interrupted:
            return
        net: Any = pl_module.net
        _mark_trained(net)
        sharded = any(hasattr(parameter, "full_tensor") for parameter in net.parameters())
        if not sharded and not trainer.is_global_zero:
            return
        partial = self.folder.with_name(f".{self.folder.name}.partial")
        if sharded:  # every process takes part in gathering
            _write_weights(_gathered(net), partial, trainer.is_global_zero)
            if not trainer.is_global_zero:
                return
            _write_shell(net, trainer, partial)
            write_card(net, partial)
        else:
            save_trained(net, partial)
            _processor(trainer).save_pretrained(partial)
        replace_folder(partial, self.folder)
        logger.info("finished model: %s", self.folder)


def export(checkpoint: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """Export the weights of a training checkpoint, a file or shards, to a folder that ``Gem.from_pretrained`` reads.

    For a run with adapters the folder holds what the end of the run would have written: adapters and projectors that
    name their base, or, where other weights trained too or the base has no folder, the merged model.

    Args:
        checkpoint: In its run's folder of checkpoints.
        folder: To write; what is there is replaced.

    Raises:
        CheckpointError: The checkpoint is damaged, or its run's config is not next to it.
    """
    path, target = Path(checkpoint), Path(folder)
    shell = path.parent / SHELL
    if not (shell / "config.json").is_file():
        raise CheckpointError(f"expected the run's config and processor in {shell}, got none; is this a GEM's run?")
    reason = damage(path)
    if reason is not None:
        raise CheckpointError(f"expected an intact checkpoint, got {path}: {reason}; use the one before it")
    with torch.device("meta"):
        network = GemForConditionalGeneration(GemConfig.from_pretrained(shell))
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if (shell / _ADAPTERS).is_file():
        _export_adapters(path, network, shell, partial)
    else:
        shutil.copytree(shell, partial)
        _write_weights(_stored(path, network), partial, True)
        write_card(network, partial)
    replace_folder(partial, target)
    return target


def _export_adapters(path: Path, network: Any, shell: Path, folder: Path) -> None:
    """Write adapters alone without reading their base, or merge them into it."""
    from peft import LoraConfig, get_peft_model

    held = {name.removeprefix("net."): value for name, value in _state(path).items()}
    settings = LoraConfig.from_pretrained(str(shell))
    network.name_or_path = settings.base_model_name_or_path or ""  # peft notes it as the adapters' base
    with torch.device("meta"):
        wrapped = get_peft_model(network, settings)
    own = {name: p for name, p in wrapped.named_parameters() if ".lora_" in name or ".modules_to_save." in name}
    check_fit({name: value for name, value in held.items() if name in own}, own)
    if held.keys() > own.keys():
        if network.name_or_path:
            base = load_gem(network.name_or_path)[0].state_dict()
            names = {name: base_name(name) for name in wrapped.state_dict() if name not in held}
            held |= {name: base[found] for name, found in names.items() if found in base}
        wrapped.load_state_dict(held, strict=False, assign=True)
        merged: Any = wrapped.merge_and_unload()
        merged.generation_config = GenerationConfig.from_pretrained(shell)
        merged.save_pretrained(folder)
    else:
        wrapped.load_state_dict(held, strict=False, assign=True)
        wrapped.save_pretrained(folder)
    GemProcessor.from_pretrained(shell).save_pretrained(folder)


def _state(path: Path) -> dict[str, Tensor]:
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)["state_dict"]


def _stored(path: Path, network: Any) -> Iterator[tuple[str, Tensor]]:
    """Return names and values of a checkpoint's weights for a network, tied ones once."""
    wanted = _kept(network)
    if path.is_file():
        tied = network.state_dict().keys() - wanted.keys()
        held = {name.removeprefix("net."): value for name, value in _state(path).items()}
        tensors = {name: value for name, value in held.items() if name not in tied}
        check_fit(tensors, wanted, optional=())
        yield from ((name, tensors[name]) for name in wanted)
        return
    import torch.distributed.checkpoint as dcp

    reader = dcp.FileSystemReader(path)
    entries = reader.read_metadata().state_dict_metadata
    for name, parameter in wanted.items():
        entry: Any = entries.get(_PREFIX + name)
        if entry is None or entry.size != parameter.shape:
            raise CheckpointError(f"expected {name} {tuple(parameter.shape)} in {path}, got {entry and entry.size}")
        value = {_PREFIX + name: torch.empty(entry.size, dtype=entry.properties.dtype)}
        dcp.load(value, storage_reader=reader, no_dist=True)
        yield name, value[_PREFIX + name]


def _kept(net: Any) -> dict[str, Tensor]:
    """Return what a folder holds of a network: parameters, tied ones once, and saved buffers such as running means."""
    saved = net.state_dict().keys()
    return {name: value for name, value in (*net.named_parameters(), *net.named_buffers()) if name in saved}


def _gathered(net: Any) -> Iterator[tuple[str, Tensor]]:
    for name, value in _kept(net).items():
        whole = value.full_tensor() if hasattr(value, "full_tensor") else value
        yield name, whole.detach().cpu()


def _write_weights(tensors: Iterable[tuple[str, Tensor]], folder: Path, write: bool) -> None:
    """Safetensors files of at most 5 GB and their index; ``write=False`` only runs through the tensors."""
    if write:
        folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, list[str]] = {}
    waiting: dict[str, Tensor] = {}
    total = 0

    def flush() -> None:
        name = f"model-{len(files) + 1:05d}.safetensors"
        save_file({key: value.contiguous() for key, value in waiting.items()}, folder / name, {"format": "pt"})
        files[name] = list(waiting)
        waiting.clear()

    for name, tensor in tensors:
        if not write:
            continue
        if waiting and _bytes(waiting.values()) + _bytes([tensor]) > _FILE_BYTES:
            flush()
        waiting[name] = tensor
        total += _bytes([tensor])
    if not write:
        return
    flush()
    open_weights(folder)
    if len(files) == 1:
        (folder / next(iter(files))).rename(folder / "model.safetensors")
        return
    index = {"metadata": {"total_size": total}, "weight_map": {n: file for file, names in files.items() for n in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")


def _bytes(tensors: Iterable[Tensor] | Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _write_shell(net: Any, trainer: Trainer, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = net.config
    config.architectures = [GemForConditionalGeneration.__name__]
    config.save_pretrained(folder)
    net.generation_config.save_pretrained(folder)
    _processor(trainer).save_pretrained(folder)


def _processor(trainer: Trainer) -> Any:
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    return data.processor


def _mark_trained(net: Any) -> None:
    """Remove trained parts from the list of untrained ones."""
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    untrained = net.config.fresh_parts or []
    net.config.fresh_parts = [
        part for part in untrained if not any(f".{part}." in f".{name}" for name in trained)
    ] or None
