"""CODE-15 % HDF5 parts: 400 Hz, (exams, 4096, 12), zeros before and after the tracing."""

from __future__ import annotations

import numpy as np

from gem_lightning.ecg.readers import hdf5
from gem_lightning.ecg.readers.base import Options, RawEcg, Source, check_size
from gem_lightning.ecg.record import LEADS
from gem_lightning.errors import EcgReadError

# stated in the data set's description
_FS = 400.0


def read(source: Source, options: Options) -> RawEcg:
    """One exam (``index``, from 0; needed where there are several), without its zero padding.

    The dataset's description contradicts itself about the unit (1e-4 V, or V times 1000); mV is taken unless
    ``units`` is given.
    """
    with hdf5.opened(source) as file:
        tracings = hdf5.dataset(file, "tracings", source)
        if tracings is None or tracings.ndim != 3 or tracings.shape[2] != 12:
            raise EcgReadError(
                f"expected a data set 'tracings' of shape (exams, samples, 12), got none in {source.name}; "
                "is this a part of CODE-15?"
            )
        exams, samples, _ = tracings.shape
        check_size(source.budget, 12, samples * max(1.0, 500 / (options.fs or _FS)))
        index = options.index if options.index is not None else (0 if exams == 1 else -1)
        if not 0 <= index < exams:
            raise EcgReadError(
                f"expected index= from 0 to {exams - 1}, got {options.index}; {source.name} holds {exams} exams"
            )
        signal = np.asarray(tracings[index], dtype=np.float64).T  # (12, samples)
        ids = hdf5.dataset(file, "exam_id", source)
        identity = {"exam_id": int(ids[index])} if ids is not None else {}
    known = np.flatnonzero((signal != 0).any(axis=0))
    if not len(known):
        raise EcgReadError(f"expected a tracing, got only zeros at index {index} of {source.name}; take another exam")
    signal = signal[:, known[0] : known[-1] + 1]
    return RawEcg(signal, options.fs or _FS, LEADS, (options.units or "mV",) * 12, {}, identity)
