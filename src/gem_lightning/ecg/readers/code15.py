"""CODE-15 % HDF5 parts: 400 Hz, (exams, 4096, 12), zeros before and after the tracing."""

from __future__ import annotations

import io

import numpy as np

from gem_lightning.ecg.readers.base import Options, RawEcg, Source, check_size
from gem_lightning.ecg.record import LEADS
from gem_lightning.errors import EcgReadError, MissingExtraError

_FS = 400.0


def read(source: Source, options: Options, format: str) -> RawEcg:
    """One exam (``index``, from 0; needed where there are several), without its zero padding.

    The dataset's description contradicts itself about the unit (1e-4 V, or V times 1000); mV is taken unless
    ``units`` is given.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError("h5py", "formats") from error

    with h5py.File(source.path or io.BytesIO(source.data), "r") as file:
        tracings = file.get("tracings")
        if not isinstance(tracings, h5py.Dataset) or tracings.ndim != 3 or tracings.shape[2] != 12:
            raise EcgReadError(
                f"expected a data set 'tracings' of shape (exams, samples, 12), got none in {source.name}; "
                "is this a part of CODE-15?"
            )
        exams, samples, _ = tracings.shape
        check_size(12, samples)
        check_size(1, float(np.prod(tracings.chunks or (1,), dtype=float)))  # what one packed block unpacks to
        index = options.index if options.index is not None else (0 if exams == 1 else -1)
        if not 0 <= index < exams:
            raise EcgReadError(
                f"expected index= from 0 to {exams - 1}, got {options.index}; {source.name} holds {exams} exams"
            )
        signal = np.asarray(tracings[index], dtype=np.float64).T  # (12, samples)
        identity = {"exam_id": int(file["exam_id"][index])} if "exam_id" in file else {}
    known = np.flatnonzero((signal != 0).any(axis=0))
    if not len(known):
        raise EcgReadError(f"expected a tracing, got only zeros at index {index} of {source.name}; take another exam")
    signal = signal[:, known[0] : known[-1] + 1]
    return RawEcg(signal, options.fs or _FS, LEADS, (options.units or "mV",) * 12, {}, identity)
