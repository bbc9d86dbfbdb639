"""Training checkpoints on disk: whole or absent, verified before use, readable by every strategy."""

from __future__ import annotations

import json
import logging
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from gem_lightning.errors import CheckpointError
from gem_lightning.jobs import NoRoomError, write_atomically

logger = logging.getLogger(__name__)

SUFFIX = ".ckpt"  # a file, or a folder of shards
BEST = "best.json"  # names the best checkpoint of a run's folder, and its score
_SUMS = "checksums.json"
_META = "meta.pt"
_BLOCK = 1 << 24


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are whole or absent: written under another name, flushed to disk, then renamed."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path``; an interruption leaves the previous file.

        Raises:
            CheckpointError: The disk is full or refuses.
        """
        final = Path(path)
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(final, lambda path: torch.save(checkpoint, path))
        except (OSError, RuntimeError, NoRoomError) as error:  # a full disk is a RuntimeError to torch's zip writer
            raise cannot_write(final, error) from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Load a checkpoint of any strategy: a file, or assembled shards.

        Raises:
            CheckpointError: It is no training checkpoint.
        """
        if Path(path).is_dir():
            return assembled(Path(path))
        checkpoint = super().load_checkpoint(path, map_location, weights_only)
        if "state_dict" not in checkpoint or "global_step" not in checkpoint:
            raise CheckpointError(
                f"expected a training checkpoint, got {path} with {sorted(checkpoint)[:6]}; weights alone go to "
                "model.net.checkpoint="
            )
        return checkpoint


def cannot_write(path: Path, error: BaseException) -> CheckpointError:
    """Explain why a checkpoint could not be written."""
    failures = [failure for failure, _ in getattr(error, "failures", {}).values()]  # of the processes
    root: BaseException | None = failures[0] if failures else error
    while root is not None and not isinstance(root, OSError):
        root = root.__context__
    # torch's archive writer reports a full disk by its own line numbers only
    reason = "No space left on device" if "inline_container" in str(error) else str(error).splitlines()[0]
    reason = root.strerror or reason if isinstance(root, OSError) else reason
    free = shutil.disk_usage(path.parent).free / 2**30 if path.parent.is_dir() else 0.0
    return CheckpointError(
        f"expected room for a checkpoint, got {reason!r} at {path} ({free:.1f} GiB free); earlier checkpoints are "
        "whole: make room, then resume with ckpt_path=last"
    )


def assembled(folder: Path) -> dict[str, Any]:
    """Assemble the shards of a folder into one checkpoint in CPU memory, as ``strategy=single`` writes it.

    Raises:
        CheckpointError: The folder holds no shards.
    """
    from lightning.fabric.utilities.load import _load_distributed_checkpoint

    if not (folder / _META).is_file():
        raise CheckpointError(
            f"expected a training checkpoint ({_META} and shards) in {folder}, got none; a folder of weights goes to "
            "model.net.checkpoint="
        )
    checkpoint = _load_distributed_checkpoint(folder)
    names = sorted(name for name in checkpoint if name.startswith("optimizer_") and name != "optimizer_states")
    checkpoint["optimizer_states"] = [numbered(checkpoint.pop(name)) for name in names]
    return checkpoint


def numbered(state: dict[str, Any]) -> dict[str, Any]:
    """Return an optimiser's state by names of parameters, as torch's own by their numbers within the groups."""
    number = {name: i for i, name in enumerate(name for group in state["param_groups"] for name in group["params"])}
    return {
        "state": {number[name]: value for name, value in state["state"].items()},
        "param_groups": [group | {"params": [number[n] for n in group["params"]]} for group in state["param_groups"]],
    }


def seal(folder: Path, names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Flush files of a folder to disk; return their sizes and CRC-32 sums."""
    sums = {}
    for name in names:
        with open(folder / name, "rb") as file:
            os.fsync(file.fileno())
        sums[name] = ((folder / name).stat().st_size, _crc(folder / name))
    return sums


def write_sums(folder: Path, sums: dict[str, tuple[int, int]]) -> None:
    """Write what :func:`damage` compares a folder with."""
    write_atomically(folder / _SUMS, json.dumps(sums).encode())


def damage(path: Path) -> str | None:
    """Describe a checkpoint's damage; None if every byte is as it was written."""
    try:
        if path.is_dir():
            if not (path / _SUMS).is_file():
                return f"it is a folder without {_SUMS} (of weights? they go to model.net.checkpoint=)"
            sums = json.loads((path / _SUMS).read_text())
            with ThreadPoolExecutor(8) as pool:
                found = list(pool.map(lambda name: (_size(path / name), _crc(path / name)), sums))
            bad = [name for name, got in zip(sums, found) if list(got) != list(sums[name])]
            return f"{bad[0]} has changed" if bad else None
        with zipfile.ZipFile(path) as archive:
            bad_part = archive.testzip()
        return None if bad_part is None else f"{bad_part} has changed"
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        return str(error)


def newest_whole(folder: Path) -> Path | None:
    """Return the newest intact checkpoint of a run's folder; None where there is none at all.

    Raises:
        CheckpointError: There are checkpoints, and all of them are damaged.
    """
    found = in_order(folder)
    for path in reversed(found):
        reason = damage(path)
        if reason is None:
            return path
        logger.warning("%s is damaged (%s): resuming from the checkpoint before it", path, reason)
    if found:
        raise CheckpointError(
            f"expected an intact checkpoint in {folder}, got {len(found)} damaged ones; omit ckpt_path to start from "
            "scratch"
        )
    return None


def in_order(folder: Path) -> list[Path]:
    """List the checkpoints of a run's folder, oldest first."""
    return sorted(path for path in folder.glob(f"step-*{SUFFIX}") if path.stem[5:].isdigit())


def remove(path: Path) -> None:
    """Delete a checkpoint; it is renamed first, so that a partly deleted one is not mistaken for intact."""
    if path.is_dir():
        retired = path.with_name(f".{path.name.lstrip('.')}.retired")
        path.rename(retired)
        shutil.rmtree(retired)
    else:
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size


def _crc(path: Path) -> int:
    value = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            value = zlib.crc32(block, value)
    return value
