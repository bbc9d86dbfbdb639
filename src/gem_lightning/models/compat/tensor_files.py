"""Checkpoint files as lazy tensors: headers are checked first, data are read one tensor at a time."""

from __future__ import annotations

import json
import math
import pickle
import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gem_lightning.errors import CheckpointError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_HEADER_LIMIT = 100_000_000  # as the safetensors library: a header beyond 100 MB is an attack or damage
INDEX_NAMES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLE_NAMES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class LazyTensor:
    """A tensor in a safetensors file; ``tensor[...]`` reads it into new memory.

    Reading, rather than mapping, keeps the file's pages out of the process, so that peak memory is one copy.

    Attributes:
        path: The file.
        offset: First byte of the data in the file.
        shape: Its shape.
        dtype: Its dtype.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    def __getitem__(self, index: Any) -> Tensor:
        tensor = torch.empty(self.shape, dtype=self.dtype)
        if tensor.numel():
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                read = file.readinto(tensor.reshape(-1).view(torch.uint8).numpy().data)
            if read != tensor.numel() * tensor.element_size():
                raise CheckpointError(f"expected {self.path} to stay as it was, got {read} bytes; copy it again")
        return tensor[index]

    def get_dtype(self) -> str:
        """Return the dtype by its name in the file, as transformers' loader expects it."""
        return _CODES[self.dtype]

    def get_shape(self) -> list[int]:
        """Return the shape, as transformers' loader expects it."""
        return list(self.shape)


Tensors = dict[str, LazyTensor | Tensor]


def open_safetensors(path: Path) -> dict[str, LazyTensor]:
    """Return every tensor of a file, unread.

    Raises:
        CheckpointError: The file is cut off or damaged.
    """
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, _HEADER_LIMIT):
                raise CheckpointError(f"the header needs {length} bytes")
            header = json.loads(file.read(length))
    except (struct.error, ValueError) as error:
        raise CheckpointError(
            f"expected a whole safetensors file, got {path} ({size} bytes), which is cut off or damaged ({error}); "
            "download it again"
        ) from error
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        if entry["dtype"] not in DTYPES:
            raise CheckpointError(f"expected dtypes {sorted(DTYPES)} in {path}, got {entry['dtype']} for {name}")
        dtype, shape, (begin, end) = DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
        if end - begin != math.prod(shape) * dtype.itemsize or begin < 0:
            raise CheckpointError(
                f"expected {name} in {path} to have {math.prod(shape)} values, got {end - begin} bytes"
            )
        if 8 + length + end > size:
            raise CheckpointError(
                f"expected at least {8 + length + end} bytes in {path}, got {size}: the file is cut off; "
                "download it again"
            )
        found[name] = LazyTensor(path, 8 + length + begin, shape, dtype)
    return found


def open_bin(path: Path) -> dict[str, Tensor]:
    """Open every tensor of a ``torch.save`` file, mapped where the file allows it; nothing in it is executed.

    Raises:
        CheckpointError: The file needs code to be unpickled, is cut off, or holds no tensors.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"expected a file of tensors that loads with weights_only=True, got {path}: {str(error)[:200]}; it was not "
            "executed. Download it again, or request safetensors"
        ) from error
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"expected a dict of tensors in {path}, got {type(content).__name__} with other things")
    return dict(content)


def open_file(path: Path) -> Tensors:
    """Return every tensor of a ``.safetensors`` or ``.bin`` file."""
    return dict(open_safetensors(path) if path.suffix == ".safetensors" else open_bin(path))


def weight_files(folder: Path) -> list[Path]:
    """Return the weight files of a folder: one file, or the shards that an index names; empty where there are none.

    Raises:
        CheckpointError: An index names a file that does not exist or is in another folder.
    """
    for name in INDEX_NAMES:
        if (folder / name).is_file():
            return _shards(folder / name)
    return next(([folder / name] for name in SINGLE_NAMES if (folder / name).is_file()), [])


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"expected an index with a weight_map, got {index}; download it again") from error
    unsafe = [name for name in names if Path(name).name != name]
    missing = [name for name in names if not (index.parent / name).is_file()]
    if unsafe or missing:
        raise CheckpointError(
            f"expected the shards {names} next to {index}, missing {missing}, outside {unsafe}; download them"
        )
    return [index.parent / name for name in names]


def open_folder(folder: Path) -> Tensors:
    """Return every tensor of a model folder, unread.

    Raises:
        CheckpointError: There are no weights, a file is damaged, or a shard lacks a tensor of the index.
    """
    files = weight_files(folder)
    if not files:
        raise CheckpointError(
            f"expected model.safetensors, pytorch_model.bin or shards with an index in {folder}, got none; "
            "download the weights"
        )
    tensors = merged(open_file(path) for path in files)
    for name in INDEX_NAMES:
        if (folder / name).is_file():
            promised = json.loads((folder / name).read_text(encoding="utf-8"))["weight_map"]
            lost = sorted(promised.keys() - tensors.keys())
            if lost:
                raise CheckpointError(f"expected {lost[:5]} ({len(lost)} in all) in the shards of {folder}, got none")
            break
    return tensors


def merged(parts: Iterable[Tensors]) -> Tensors:
    """Several sets of tensors as one; later ones win."""
    out: Tensors = {}
    for part in parts:
        out.update(part)
    return out
