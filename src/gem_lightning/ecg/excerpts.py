"""Records whose leads are known for a part of the time each, as on paper."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from gem_lightning.ecg.record import EcgRecord

SHORTEST_S = 1.5  # of a stretch: at 60 bpm a shorter one may hold no whole beat
WHOLE = 0.9  # of the record: a lead known for longer needs no stretches


def is_in_excerpts(record: EcgRecord) -> bool:
    """Return whether some lead is known over a long stretch, but not over most of the record."""
    known = np.isfinite(record.signal)
    share = known.mean(1)
    part = (share > 0) & (share < WHOLE) & (known.sum(1) >= SHORTEST_S * record.fs)
    return bool(part.any()) and any(True for _ in stretches(record))


def is_like_paper(record: EcgRecord) -> bool:
    """Return whether half of the leads or more are excerpts, as of a digitised page, in any format it was saved in."""
    share = np.isfinite(record.signal).mean(1)
    return 2 * int(((share > 0) & (share < WHOLE)).sum()) >= len(record.leads) and is_in_excerpts(record)


def stretches(record: EcgRecord) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield first and last sample (not included) of each stretch, and the leads that are known all through it."""
    known = np.isfinite(record.signal)
    changes = np.flatnonzero((known[:, 1:] != known[:, :-1]).any(0)) + 1
    for start, stop in pairwise([0, *changes, record.samples]):
        if stop - start >= SHORTEST_S * record.fs and known[:, start].any():
            yield int(start), int(stop), np.flatnonzero(known[:, start])
