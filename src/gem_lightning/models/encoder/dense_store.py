"""Weights of a dense encoder on disk: safetensors, with its arguments in a JSON file alongside."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from gem_lightning.errors import CheckpointError
from gem_lightning.models.encoder.dense import DenseEncoder

WEIGHTS, ARGUMENTS = "model.safetensors", "config.json"
_IN_TOWER = "model.ecg_tower.encoder."  # what its tensors' names begin with inside a GEM


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


def load_of_tower(folder: str | os.PathLike[str]) -> DenseEncoder:
    """Return the encoder inside a saved GEM whose ECG tower is a ``DenseTower``, in float32 and eval mode.

    Raises:
        CheckpointError: The files are missing, or the tower is another one.
    """
    from safetensors import SafetensorError, safe_open

    folder = Path(folder)
    try:
        config = json.loads((folder / ARGUMENTS).read_text())
        encoder = DenseEncoder(**config["ecg_config"]["encoder"]["arguments"]["encoder"])
        with safe_open(folder / WEIGHTS, "pt") as file:
            names = [name for name in file.keys() if name.startswith(_IN_TOWER)]  # noqa: SIM118, no mapping
            tensors = {name.removeprefix(_IN_TOWER): file.get_tensor(name) for name in names}
        encoder.load_state_dict(_as_float(tensors))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"expected a GEM with a dense encoder, got {folder}: {error}") from error
    return encoder.eval()


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
        encoder.load_state_dict(_as_float(tensors))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"expected a folder that save_dense wrote, got {folder}: {error}") from error
    return encoder.eval()


def _as_float(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
