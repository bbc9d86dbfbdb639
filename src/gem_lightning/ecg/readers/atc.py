"""AliveCor ATC (Kardia): blocks of one to six limb leads of 16 bits."""

from __future__ import annotations

import struct

import numpy as np

from gem_lightning.ecg.readers.base import Options, RawEcg, Source, check_rate, check_size
from gem_lightning.errors import EcgReadError

_HEADER, _CHECKSUM = 12, 4  # bytes before the first block; after the content of each
_LEADS = {b"ecg ": "I", b"ecg2": "II", b"ecg3": "III", b"ecg4": "aVR", b"ecg5": "aVL", b"ecg6": "aVF"}


def read(source: Source, options: Options) -> RawEcg:
    """The leads of a recorder file; resolution and rate stand in its block ``fmt``."""
    data = source.data
    blocks: dict[bytes, bytes] = {}
    at = _HEADER
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + size > len(data):
            break
        blocks.setdefault(name, data[at + 8 : at + 8 + size])
        at += 8 + size + _CHECKSUM
    leads = [name for name in _LEADS if name in blocks]
    if len(blocks.get(b"fmt ", b"")) < 5 or not leads:  # format block of AliveCor's ATC: version, flags, rate
        raise EcgReadError(f"expected the blocks 'fmt ' and 'ecg ', got none in {source.name}; the file is truncated")
    _, rate, step_nv = struct.unpack_from("<BHH", blocks[b"fmt "])
    if not step_nv:
        raise EcgReadError(f"expected an amplitude resolution in nV, got 0 in {source.name}; amplitudes mean nothing")
    rows = [np.frombuffer(blocks[name][: len(blocks[name]) // 2 * 2], "<i2") for name in leads]
    samples = min(map(len, rows))
    check_size(source.budget, len(rows), samples)
    signal = np.stack([row[:samples] for row in rows]) * float(step_nv)
    return RawEcg(signal, check_rate(rate), tuple(_LEADS[name] for name in leads), ("nV",) * len(rows))
