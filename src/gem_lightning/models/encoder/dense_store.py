"""Weights of a dense encoder on disk: safetensors, with its arguments in a JSON file alongside."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from gem_lightning.errors import CheckpointError
from gem_lightning.models.encoder.dense import DenseEncoder

WEIGHTS, ARGUMENTS = "model.safetensors", "config.json"


def save_dense(encoder: DenseEncoder, folder: str | os.PathLike[str], half: bool = False, **facts: Any) -> None:
    """Write ``model.safetensors`` and ``config.json``, each whole or not at all.

    Args:
        encoder: Its own arguments are kept, so that it can be rebuilt.
        folder: Made where missing.
        half: Store float16, half the size.
        **facts: What else the config shall hold, such as the seed or the licences of the data.
    """
    from safetensors.torch import save

    from gem_lightning.jobs import write_atomically

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: (value.half() if half and value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in encoder.state_dict().items()
    }
    write_atomically(folder / WEIGHTS, save(tensors))
    config = {"class": "DenseEncoder", "arguments": encoder.arguments} | facts
    write_atomically(folder / ARGUMENTS, json.dumps(config, indent=1).encode())


def load_dense(folder: str | os.PathLike[str]) -> DenseEncoder:
    """Return the encoder of a folder, in float32 and eval mode.

    Raises:
        CheckpointError: The files are missing, or do not belong together.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    try:
        config = json.loads((folder / ARGUMENTS).read_text())
        encoder = DenseEncoder(**config["arguments"])
        tensors = load_file(folder / WEIGHTS)
        encoder.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"expected a folder that save_dense wrote, got {folder}: {error}") from error
    return encoder.eval()
