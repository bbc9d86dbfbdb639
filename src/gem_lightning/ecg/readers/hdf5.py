"""Open HDF5 containers without following anything out of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gem_lightning.ecg.readers.base import Source
from gem_lightning.errors import EcgReadError, MissingExtraError


@contextmanager
def opened(source: Source) -> Iterator[Any]:
    """The file, open for reading; a user block before the signature is allowed (MATLAB 7.3 has one)."""
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError("h5py", "formats") from error
    import io

    with h5py.File(source.path or io.BytesIO(source.data), "r") as file:
        yield file


def dataset(file: Any, path: str, source: Source) -> Any:
    """The data set at ``path`` if all of its bytes lie in this file, else None where there is none.

    HDF5 can keep samples in any other file of the machine (external storage, virtual data sets, external and soft
    links): all of these are refused before they are opened.

    Raises:
        EcgReadError: The data set points out of the file, or stores nothing.
    """
    import h5py

    group = file
    parts = path.split("/")
    for i, part in enumerate(parts):
        if not isinstance(group, h5py.Group) or part not in group.keys():  # noqa: SIM118 ("in group" follows links)
            return None
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise EcgReadError(f"expected {path!r} inside {source.name}, got a link; copy the data into the file")
        if i < len(parts) - 1:
            group = group[part]
    found = group[parts[-1]]
    if not isinstance(found, h5py.Dataset):
        return None
    if found.external or found.is_virtual:
        raise EcgReadError(
            f"expected the samples inside {source.name}, got a data set of another file; copy the data into this one"
        )
    source.budget.check(
        "samples", float(np.prod(found.chunks or (1,), dtype=float))
    )  # what one packed block unpacks to
    if found.size and not found.id.get_storage_size():
        raise EcgReadError(f"expected stored samples in {path!r} of {source.name}, got none; export the file again")
    return found
