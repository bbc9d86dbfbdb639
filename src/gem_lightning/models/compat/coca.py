"""The published ECG-CoCa files: the configuration in its JSON form and the checkpoint's key layout."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gem_lightning.errors import CheckpointError

# The configuration named coca_ViT-B-32 by its authors: 85,989,888 parameters in the ECG tower, 403,348,993 in all.
PUBLISHED_CONFIG: dict[str, Any] = {
    "embed_dim": 512,
    "ecg_cfg": {"seq_length": 5000, "lead_num": 12, "layers": 12, "width": 768, "patch_size": 50},
    "text_cfg": {"hf_model_name": "ncbi/MedCPT-Query-Encoder", "hf_proj_type": "linear", "width": 768},
    # one less than the text tower's 77: its class token is not decoded
    "multimodal_cfg": {"context_length": 76, "width": 768, "heads": 8, "layers": 12},
}


def read_config(config: str | os.PathLike | Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a configuration in the published form, from a JSON file or a mapping; None means the published one.

    Raises:
        CheckpointError: The file is not JSON or lacks ``embed_dim`` and ``ecg_cfg``.
    """
    if config is None:
        return PUBLISHED_CONFIG
    if isinstance(config, Mapping):
        found = dict(config)
    else:
        try:
            found = json.loads(Path(config).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"expected a JSON configuration of ECG-CoCa, got {config}: {error}") from error
    missing = [name for name in ("embed_dim", "ecg_cfg") if name not in found]
    if missing:
        raise CheckpointError(
            f"expected the keys embed_dim and ecg_cfg in an ECG-CoCa configuration, got {sorted(found)}; "
            f"add {' and '.join(missing)} (see coca_checkpoint.PUBLISHED_CONFIG)"
        )
    return found


def ecg_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the published ``ecg_cfg`` as keyword arguments of ``EcgTransformer``."""
    ecg = config["ecg_cfg"]
    return {
        "leads": ecg.get("lead_num", 12),
        "samples": ecg.get("seq_length", 5000),
        "patch_size": ecg.get("patch_size", 50),
        "width": ecg["width"],
        "layers": ecg["layers"],
        "head_width": ecg.get("head_width", 64),
        "mlp_ratio": ecg.get("mlp_ratio", 4.0),
        "output_dim": config["embed_dim"],
    }


def read_state_dict(checkpoint: str | os.PathLike | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the weights of a checkpoint without the ``module.`` that DDP puts before every key.

    Args:
        checkpoint: A ``torch.save`` file (mapped into memory, so that unused parts cost nothing), a ``.safetensors``
            file, or the mapping that such a file holds; with or without optimiser state around ``state_dict``.

    Raises:
        CheckpointError: There is no such file, it needs unpickling of code, or it holds no tensors.
    """
    content: Mapping[str, Any] = checkpoint if isinstance(checkpoint, Mapping) else _read_file(Path(checkpoint))
    inner = content.get("state_dict", content)
    tensors = {key.removeprefix("module."): value for key, value in inner.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"expected tensors under state_dict or at the top, got the keys {sorted(content)[:8]}")
    return tensors


def _read_file(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"expected a checkpoint file, got {path}, which does not exist; give the path of the .pt")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:
        raise CheckpointError(
            f"expected a file of tensors that loads with weights_only=True, got {path}: {error}; "
            "save it again as torch.save({'state_dict': model.state_dict()}, path)"
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"expected a dict with state_dict in {path}, got {type(content).__name__}")
    return content


def load_exactly(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Copy ``tensors`` into ``module``; every parameter must come and nothing may be left over.

    Raises:
        CheckpointError: Keys are missing or unknown, or shapes differ.
    """
    own = module.state_dict()
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    shapes = [
        f"{key}: expected {tuple(own[key].shape)}, got {tuple(tensors[key].shape)}"
        for key in own.keys() & tensors.keys()
        if own[key].shape != tensors[key].shape
    ]
    if missing or unknown or shapes:
        raise CheckpointError(
            f"the checkpoint does not fit {what}: missing {missing[:4]} ({len(missing)}), unknown {unknown[:4]} "
            f"({len(unknown)}), misshapen {sorted(shapes)[:4]} ({len(shapes)}); give the configuration it was made with"
        )
    module.load_state_dict(tensors, assign=False)


def find_files(folder: Path) -> tuple[Path, Path]:
    """Return the one checkpoint and the ``coca.json`` of a folder that :func:`save_coca` wrote.

    Raises:
        CheckpointError: There is none, or more than one checkpoint.
    """
    weights, config = sorted(folder.glob("*.pt")), folder / "coca.json"
    if len(weights) != 1 or not config.is_file():
        raise CheckpointError(
            f"expected one .pt and coca.json in {folder}, got {[path.name for path in weights]} and "
            f"{'coca.json' if config.is_file() else 'no coca.json'}; give the checkpoint and the config separately"
        )
    return weights[0], config


def original_config(model: Any) -> dict[str, Any]:
    """Return the configuration of an ``EcgCoCa`` in the published form, with ``compat`` and ``logit_bias`` added."""
    tower, text, decoder = model.ecg, model.text, model.text_decoder
    blocks = tower.transformer.resblocks
    config: dict[str, Any] = {
        "embed_dim": tower.output_dim,
        "ecg_cfg": {
            "seq_length": tower.samples,
            "lead_num": tower.leads,
            "layers": len(blocks),
            "width": tower.width,
            "head_width": tower.width // blocks[0].attn.num_heads,
            "mlp_ratio": blocks[0].mlp.c_fc.out_features / tower.width,
            "patch_size": tower.patch_size,
            "output_tokens": True,
        },
        "text_cfg": {"hf_model_name": "text_tower", "hf_tokenizer_name": "text_tower", "hf_proj_type": "linear"},
        "custom_text": True,
        "compat": model.compat,
        "logit_bias": model.logit_bias is not None,
    }
    config["text_cfg"]["width"] = text.config.hidden_size
    if decoder is not None:
        config["text_cfg"]["vocab_size"] = decoder.text_projection.shape[1]
        config["multimodal_cfg"] = {
            "context_length": decoder.context_length,
            "width": decoder.width,
            "heads": decoder.resblocks[0].attn.num_heads,
            "layers": decoder.layers,
        }
    return config


def save_coca(
    model: Any,
    folder: str | os.PathLike,
    *,
    tokenizer: Any = None,
    prefix: str = "module.",
    epoch: int = 0,
    name: str = "ecg-coca",
    optimizer: Mapping[str, Any] | None = None,
) -> Path:
    """Write an ``EcgCoCa`` as the original does: ``cpt_wfep_epoch_N.pt``, ``coca.json`` and ``text_tower/``.

    Args:
        model: The ``EcgCoCa``, over an ``EcgTransformer`` and a text tower of ``bert_text_encoder``.
        folder: Created where absent.
        tokenizer: A transformers tokenizer, saved next to the text tower's configuration.
        prefix: Before every key; the published file has DDP's ``module.``.
        epoch: Recorded, and part of the file name.
        name: Recorded.
        optimizer: State to record; None leaves it out.

    Returns:
        The path of the checkpoint, which loads with ``weights_only=True``.
    """
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "epoch": epoch,
        "name": name,
        "state_dict": {prefix + key: value.detach().cpu() for key, value in model.state_dict().items()},
    }
    if optimizer is not None:
        content["optimizer"] = dict(optimizer)
    path = out / f"cpt_wfep_epoch_{epoch}.pt"
    torch.save(content, path)
    (out / "coca.json").write_text(json.dumps(original_config(model), indent=1), encoding="utf-8")
    model.text.config.save_pretrained(out / "text_tower")
    if tokenizer is not None:
        tokenizer.save_pretrained(out / "text_tower")
    return path
