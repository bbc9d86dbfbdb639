"""EDF, EDF+ (Kemp et al. 1992, 2003) and BioSemi's BDF, which stores 24 bits."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from gem_lightning.ecg.leads import lead_name
from gem_lightning.ecg.readers.base import (
    Options,
    RawEcg,
    Source,
    acquired,
    check_rate,
    check_size,
    patient,
    years_between,
)
from gem_lightning.errors import EcgReadError

_WIDTHS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)  # bytes per signal of each header field
_MONTHS = {
    m: i for i, m in enumerate(["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"], 1)
}
# places of the fields that are used among _WIDTHS
_LABEL, _UNIT, _PMIN, _PMAX, _DMIN, _DMAX, _COUNT = 0, 2, 3, 4, 5, 6, 8


def read(source: Source, options: Options) -> RawEcg:
    """The signals that share the leads' rate; annotations and other rates are left out."""
    data = source.data
    width = 3 if data[:1] == b"\xff" else 2  # bytes a sample
    signals = int(_number(data[252:256], "number of signals"))
    source.budget.check("channels", signals)
    # fixed columns of ASCII (Kemp et al., Electroencephalogr Clin Neurophysiol 1992;82:391, table 1)
    size = int(_number(data[184:192], "header size"))
    if signals < 1 or size != 256 * (signals + 1) or len(data) < size:
        raise EcgReadError(f"expected a header of {256 * (signals + 1)} bytes, got {size} of {len(data)}; file damaged")
    table = _header_fields(data, signals)
    per_block = [int(_number(text, "samples per data record")) for text in table[_COUNT]]
    seconds = _number(data[244:252], "duration of a data record")
    if seconds <= 0 or min(per_block) < 1:
        raise EcgReadError(f"expected data records longer than 0 s, got {seconds} s; correct the header")
    values, blocks = (len(data) - size) // width, int(_number(data[236:244], "number of data records"))
    blocks = values // sum(per_block) if blocks < 0 else blocks
    check_size(source.budget, 1, blocks * sum(per_block), values)
    body = np.frombuffer(data, np.uint8, blocks * sum(per_block) * width, size).reshape(blocks, -1)
    starts = np.concatenate([[0], np.cumsum(per_block)]) * width
    noted = [i for i in range(signals) if "annotation" in table[_LABEL][i].lower()]
    if data[192:197] in (b"EDF+D", b"BDF+D"):
        _refuse_gaps([body[:, starts[i] : starts[i + 1]] for i in noted[:1]], seconds)
    names = [_label(table[_LABEL][i]) for i in range(signals)]
    # a respiration channel at 25 Hz must not decide the rate of the ECG
    kept = _of_one_rate(names, per_block, noted)
    rows = [_counts(body[:, starts[i] : starts[i + 1]], width) for i in kept]
    low, high, dlow, dhigh = (
        np.array([_number(table[f][i], "range") for i in kept])[:, None] for f in (_PMIN, _PMAX, _DMIN, _DMAX)
    )
    if np.any(dhigh == dlow) or np.any(high == low):
        raise EcgReadError("expected a physical and digital range per lead, got an empty one; amplitudes mean nothing")
    signal = (np.stack(rows) - dlow) * (high - low) / (dhigh - dlow) + low
    out = [table[_LABEL][i] for i in range(signals) if i not in kept and i not in noted]
    sex = re.match(rb"\S+ ([MF]) ", data[8:88])
    identity = {"patient": data[8:88].decode("latin-1").strip(), "recording": data[88:168].decode("latin-1").strip()}
    return RawEcg(
        signal,
        check_rate(per_block[kept[0]] / seconds),
        tuple(names[i] for i in kept),
        tuple(table[_UNIT][i] for i in kept),
        patient(_age(data), sex[1].decode() if sex else None) | acquired(data[176:184].decode("latin-1")),
        identity | {"start": data[168:184].decode("latin-1").strip()},
        (f"left out, another sampling rate: {', '.join(out)}",) if out else (),
    )


def _label(text: str) -> str:
    """A signal's label without its modality and reference electrode (``ECG I-REF``), where a lead name remains."""
    bare = re.sub(r"(?i)^(ecg|ekg)\s+|[-\s]*ref$", "", text)
    return bare if lead_name(bare) else text


def _of_one_rate(names: list[str], per_block: list[int], noted: list[int]) -> list[int]:
    """Signals at the rate of the leads, or at the most frequent rate where no label is a lead."""
    signals = [i for i in range(len(names)) if i not in noted]
    leads = [i for i in signals if lead_name(names[i])]
    rates = Counter(per_block[i] for i in leads or signals)
    if not rates:
        raise EcgReadError("expected signals, got annotations alone; export the ECG leads")
    if leads and len(rates) > 1:
        raise EcgReadError("expected one sampling rate for all leads, got several; export the ECG leads alone")
    return [i for i in signals if per_block[i] == rates.most_common(1)[0][0]]


def _counts(block: np.ndarray, width: int) -> np.ndarray:
    """(samples,) integers of one signal from its bytes (blocks, bytes a block)."""
    raw = np.ascontiguousarray(block).reshape(-1)
    if width == 2:
        return raw.view("<i2")
    triples = raw.reshape(-1, 3).astype(np.int32)
    return triples[:, 0] | triples[:, 1] << 8 | triples[:, 2].astype(np.int8).astype(np.int32) << 16


def _refuse_gaps(annotations: list[np.ndarray], seconds: float) -> None:
    """A discontinuous file states each record's start; it is read where they follow each other."""
    starts = []
    for block in annotations[0] if annotations else ():
        match = re.match(rb"([+-]\d+(?:\.\d*)?)\x14", block.tobytes())
        starts.append(float(match[1]) if match else np.nan)
    # less than a sample at 1,000 Hz is rounding of the stored start, not a gap
    if len(starts) > 1 and np.abs(np.diff(starts) - seconds).max() > 1e-3:
        raise EcgReadError("expected a continuous recording, got EDF+D with gaps; export the parts one by one")


def _age(data: bytes) -> int | None:
    """Years between the birth date of the patient field and the start of the recording."""
    birth = re.match(rb"\S+ \S+ (\d\d)-([A-Z]{3})-(\d{4})", data[8:88])
    start = re.match(rb"Startdate (\d\d)-([A-Z]{3})-(\d{4})", data[88:168])
    if not birth or not start:
        return None
    return years_between(
        *(f"{m[3].decode()}{_MONTHS.get(m[2].decode(), 0):02d}{m[1].decode()}" for m in (birth, start))
    )


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
