"""EDF and continuous EDF+ (Kemp et al. 1992, 2003)."""

from __future__ import annotations

import re

import numpy as np

from gem_lightning.ecg.readers.base import RawEcg, Source, check_rate, check_size, patient
from gem_lightning.errors import EcgReadError

_WIDTHS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)  # bytes per signal of each header field
_LABEL, _UNIT, _PMIN, _PMAX, _DMIN, _DMAX, _COUNT = 0, 2, 3, 4, 5, 6, 8


def read(source: Source) -> RawEcg:
    """All signals but annotations; they must share one rate."""
    data = source.data
    signals = int(_number(data[252:256], "number of signals"))
    size = int(_number(data[184:192], "header size"))
    if not 1 <= signals <= 512 or size != 256 * (signals + 1) or len(data) < size:
        raise EcgReadError(f"expected a header of {256 * (signals + 1)} bytes, got {size} of {len(data)}; file damaged")
    if data[192:197] == b"EDF+D":
        raise EcgReadError("expected a continuous recording, got EDF+D with gaps; export it as EDF+C")
    table = _header_fields(data, signals)
    kept = [i for i in range(signals) if "annotation" not in table[_LABEL][i].lower()]
    per_block = [int(_number(text, "samples per data record")) for text in table[_COUNT]]
    if len({per_block[i] for i in kept}) != 1 or min(per_block) < 1:
        raise EcgReadError("expected one sampling rate for all leads, got several; export the ECG leads alone")
    seconds = _number(data[244:252], "duration of a data record")
    if seconds <= 0:
        raise EcgReadError(f"expected a data record longer than 0 s, got {seconds}; correct the header")
    width, held = sum(per_block), (len(data) - size) // 2
    blocks = int(_number(data[236:244], "number of data records"))
    blocks = held // width if blocks < 0 else blocks
    check_size(width, blocks, held)
    body = np.frombuffer(data, "<i2", blocks * width, size).reshape(blocks, width)
    starts = np.concatenate([[0], np.cumsum(per_block)])
    counts = np.stack([body[:, starts[i] : starts[i + 1]].ravel() for i in kept])  # (leads, samples)
    low, high, dlow, dhigh = (
        np.array([_number(table[f][i], "range") for i in kept])[:, None] for f in (_PMIN, _PMAX, _DMIN, _DMAX)
    )
    if np.any(dhigh == dlow) or np.any(high == low):
        raise EcgReadError("expected a physical and digital range per lead, got an empty one; amplitudes mean nothing")
    signal = (counts - dlow) * (high - low) / (dhigh - dlow) + low
    names = tuple(re.sub(r"(?i)^(ecg|ekg)\s+", "", table[_LABEL][i]) for i in kept)
    units = tuple(table[_UNIT][i] for i in kept)
    sex = re.match(rb"\S+ ([MF]) ", data[8:88])
    meta = patient(None, sex[1].decode() if sex else None)
    return RawEcg(signal, check_rate(per_block[kept[0]] / seconds), names, units, meta)


def _header_fields(data: bytes, signals: int) -> list[list[str]]:
    """Per field of the signal header, the text of each signal."""
    table, at = [], 256
    for width in _WIDTHS:
        table.append([data[at + i * width : at + (i + 1) * width].decode("latin-1").strip() for i in range(signals)])
        at += width * signals
    return table


def _number(text: bytes | str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise EcgReadError(f"expected a number as {what} in the EDF header, got {str(text)[:30]!r}; file damaged")
    return value
