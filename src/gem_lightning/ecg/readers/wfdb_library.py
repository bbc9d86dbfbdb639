"""WFDB records with segments, skew, several rates or FLAC, through the wfdb library, after our own checks."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np

from gem_lightning.ecg.readers.base import Options, RawEcg, Source, check_rate, check_size, number, patient
from gem_lightning.errors import EcgReadError, MissingExtraError

#: Bytes of a sample in each format of signal(5).
BYTES = {"16": 2.0, "61": 2.0, "160": 2.0, "80": 1.0, "24": 3.0, "32": 4.0, "212": 1.5, "310": 4 / 3, "311": 4 / 3}
_MAX_SEGMENTS = 1000  # wfdb opens one file for each


def read(source: Source, text: str, options: Options) -> RawEcg:
    """Signals at the rate of the fastest ones; slower ones (respiration) are left out and noted."""
    import wfdb

    if source.path is None:
        raise EcgReadError("expected a path, got the bytes of a header; give the .hea file's path")
    _check(source, text, options)
    try:
        found = wfdb.rdrecord(str(source.path.with_suffix("")), smooth_frames=False, m2s=True, return_res=64)
    except ImportError as error:
        raise MissingExtraError("soundfile", "formats") from error
    signals = found.e_p_signal if found.e_p_signal is not None else list(np.asarray(found.p_signal).T)
    per_frame = list(found.samps_per_frame or [1] * len(signals))
    fastest = max(per_frame)
    keep = [i for i, count in enumerate(per_frame) if count == fastest]
    slow = [found.sig_name[i] for i in range(len(signals)) if i not in keep]
    length = min(len(signals[i]) for i in keep)
    signal = np.stack([np.asarray(signals[i][:length], np.float64) for i in keep])
    notes = [f"left out, another sampling rate: {', '.join(slow)}"] if slow else []
    return RawEcg(
        signal,
        check_rate(float(found.fs) * fastest),
        tuple(str(found.sig_name[i]) for i in keep),
        tuple(str(found.units[i] or "mV") for i in keep),
        _facts(list(found.comments or [])),
        {"comments": tuple(found.comments or ())},
        tuple(notes),
    )


def _check(source: Source, text: str, options: Options, depth: int = 0) -> None:
    """Names, links, sizes and gains of a header and of those that it names, before the library opens anything."""
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    first = lines[0]
    samples = number(first[3]) if len(first) > 3 else None
    if "/" in first[0]:
        if depth:
            raise EcgReadError("expected segments with signals, got segments of segments; read one of them")
        if len(lines) - 1 > _MAX_SEGMENTS:
            raise EcgReadError(f"expected at most {_MAX_SEGMENTS} segments, got {len(lines) - 1}; read one of them")
        check_size(source.budget, number(first[1]) or 0, samples or 1)
        for line in lines[1:]:
            if line[0] != "~":  # a gap
                part = source.sibling(f"{line[0]}.hea")
                _check(part, part.data.decode("latin-1"), options, depth + 1)
        return
    count = int(number(first[1]) or 0)
    per_frame: Counter[str] = Counter()
    formats: dict[str, str] = {}
    for line in lines[1 : count + 1]:
        match = re.fullmatch(r"(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?", line[1]) if len(line) > 1 else None
        gain = re.match(r"[-+0-9.eE]+", line[2]) if len(line) > 2 else None
        if match is None or gain is None or not number(gain[0]):
            raise EcgReadError(
                f"expected 'file format gain ...' in the WFDB header, got {' '.join(line)[:60]!r}; correct the header"
            )
        per_frame[line[0]] += int(match[2] or 1)
        formats[line[0]] = match[1]
    check_size(source.budget, max(count, 1), 1)
    for file, kind in formats.items():
        part = source.sibling(file)
        size = part.path.stat().st_size if part.path is not None else 0
        source.budget.spend("bytes", size)
        if kind in BYTES:
            stored = size / BYTES[kind]
            check_size(source.budget, per_frame[file], samples or stored // per_frame[file], stored + 1)
        elif not samples:  # FLAC packs a flat line to almost nothing: its size bounds no samples
            raise EcgReadError(f"expected the number of samples in {source.name}, got none; complete the header")
    source.budget.check("samples", sum(per_frame.values()) * (samples or 0))


def _facts(comments: list[str]) -> dict[str, Any]:
    found = dict(re.findall(r"(?im)^<?(age|sex)>?\s*:\s*(.+)$", "\n".join(comments)))
    lower = {key.lower(): value for key, value in found.items()}
    return patient(lower.get("age"), lower.get("sex"))
