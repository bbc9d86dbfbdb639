"""Training from streaming shards: shuffled, shared out over ranks and workers, resumed to the sample."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gem_lightning.data.shards import unpack
from gem_lightning.errors import DataError, MissingExtraError


class _Unpack:
    """Bytes → what ``encode`` makes of the sample and its record; picklable."""

    def __init__(self, encode: Callable[..., Any] | None) -> None:
        self.encode = encode

    def __call__(self, blob: bytes) -> Any:
        sample, record = unpack(blob)
        return (sample, record) if self.encode is None else self.encode(sample, record)


def stream_shards(
    folder: str | os.PathLike[str],
    encode: Callable[..., Any] | None = None,
    shuffle: bool = True,
    seed: int = 0,
    drop_last: bool | None = None,
) -> Any:
    """A litdata ``StreamingDataset`` over shards; folder may also be an ``s3://`` or other address litdata knows.

    Args:
        folder: Written by :func:`gem_lightning.data.write_shards`.
        encode: ``encode(sample, record)`` makes an item for the collator; None gives the pair.
        shuffle: Chunks and samples within them, anew each epoch.
        seed: Of the order.
        drop_last: Give every rank the same number of samples by leaving out the remainder (litdata's default).

    Raises:
        DataError: No shards there.
    """
    try:
        from litdata import StreamingDataset
    except ImportError:
        raise MissingExtraError("litdata", "stream") from None
    local = "://" not in str(folder)
    if local and not (Path(folder) / "index.json").is_file():
        raise DataError(f"expected shards (index.json) in {folder}, got none; make them with stage=shards")
    return StreamingDataset(
        str(folder), shuffle=shuffle, seed=seed, drop_last=drop_last, transform=_Unpack(encode), max_pre_download=4
    )


def stream_loader(
    dataset: Any,
    batch_size: int,
    collate: Callable[[list[Any]], Any] | None = None,
    workers: int = 0,
    pin_memory: bool = False,
) -> Any:
    """A loader whose ``state_dict()`` and ``load_state_dict()`` resume after the last sample that was handed out."""
    from litdata import StreamingDataLoader

    return StreamingDataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=collate or list,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        multiprocessing_context="spawn" if workers else None,
    )
