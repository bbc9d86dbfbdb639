"""Faults between samples: duplicate ids, duplicate and nearly duplicate signals, and leaks across splits."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gem_lightning.ecg.record import EcgRecord

RATE, SECONDS, LEADS = 50, 10, ("I", "II", "V2", "V5")
_TABLES, _SEED = 24, 20240501  # hash tables: a near-duplicate has to share a bucket in one of them


def signature(record: EcgRecord) -> str:
    """Return four leads at 50 Hz over the first 10 s as 8-bit integers in base64: enough to recognise a recording."""
    n = RATE * SECONDS
    rows = []
    for lead in LEADS:
        signal = np.nan_to_num(record.lead(lead)) if lead in record.leads else np.zeros(record.samples)
        t = np.arange(n) / RATE
        width = max(int(record.fs / RATE), 1)
        smooth = np.convolve(signal, np.ones(width) / width, mode="same")
        row = np.interp(t, np.arange(record.samples) / record.fs, smooth, right=0.0)
        rows.append(row - np.median(row))
    block = np.stack(rows)
    # 1e-6 mV: a flat record has a signature too
    largest = max(float(np.abs(block).max()), 1e-6)
    # 8 bits a sample: enough to recognise a signal, small enough for millions
    return base64.b64encode(np.rint(127 * block / largest).astype(np.int8).tobytes()).decode()


def read_signatures(texts: Sequence[str]) -> np.ndarray:
    """Decode signatures to (n, leads · samples) float32."""
    blocks = [np.frombuffer(base64.b64decode(text), np.int8) for text in texts]
    return np.stack(blocks).astype(np.float32) if blocks else np.zeros((0, RATE * SECONDS * len(LEADS)), np.float32)


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest correlation of two signatures over shifts of up to 2 s."""
    n = RATE * SECONDS
    fa = np.fft.rfft(a.reshape(len(LEADS), n), 2 * n)
    fb = np.fft.rfft(b.reshape(len(LEADS), n), 2 * n)
    cross = np.fft.irfft((fa * fb.conj()).sum(axis=0))
    reach = 2 * RATE
    best = max(cross[: reach + 1].max(), cross[-reach:].max())
    return float(best / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-9))


def _features(signatures: np.ndarray) -> np.ndarray:
    """Return magnitude spectra (n, bins), invariant to shifts; centred, of unit length."""
    n = RATE * SECONDS
    # without the lowest bins (wander) and those above 25 Hz (noise)
    spectra = np.abs(np.fft.rfft(signatures.reshape(-1, len(LEADS), n)))[..., 3:250]
    spectra = np.sqrt(spectra).reshape(len(signatures), -1)
    spectra -= spectra.mean(axis=0)
    return spectra / np.maximum(np.linalg.norm(spectra, axis=1, keepdims=True), 1e-9)


def near_pairs(signatures: np.ndarray, near: float) -> Iterator[tuple[int, int, float]]:
    """Yield pairs (i, j, similarity) of signatures with a similarity of ``near`` or more, i < j.

    Candidates share a bucket of random-hyperplane hashes of their spectra, so a million records take minutes.
    """
    if len(signatures) < 2:
        return
    spectra = _features(signatures)
    draw = np.random.default_rng(_SEED)
    bits = int(np.clip(np.log2(len(signatures)) - 2, 4, 20))
    seen: set[tuple[int, int]] = set()
    for _ in range(_TABLES):
        planes = draw.standard_normal((spectra.shape[1], bits)).astype(np.float32)
        codes = ((spectra @ planes) > 0) @ (1 << np.arange(bits))
        order = np.argsort(codes, kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
            if len(bucket) < 2:
                continue
            # a loose prefilter: near-duplicates correlate far higher
            alike = np.triu(spectra[bucket] @ spectra[bucket].T, 1) > 0.8
            for i, j in zip(*np.nonzero(alike)):
                pair = (int(min(bucket[i], bucket[j])), int(max(bucket[i], bucket[j])))
                if pair in seen:
                    continue
                seen.add(pair)
                score = similarity(signatures[pair[0]], signatures[pair[1]])
                if score >= near:
                    yield (*pair, score)


def compare_samples(rows: Sequence[dict[str, Any]], near: float) -> Iterator[dict[str, Any]]:
    """Yield faults between samples.

    Args:
        rows: One per sample: ``id, file, split, record, patient, signal`` (digest), ``text`` (digest), ``signature``.
        near: Similarity from which two signals are near-duplicates.
    """
    yield from _duplicates(rows)
    records = _records(rows)
    yield from _leaks(rows)
    names = [name for name in records if records[name].get("signature")]
    same = defaultdict(list)
    for name in names:
        same[records[name]["signal"]].append(name)
    for group in same.values():
        for other in group[1:]:
            yield _pair(records[group[0]], records[other], "duplicate_signal", "the same signal under another name")
    signatures = read_signatures([records[name]["signature"] for name in names])
    for i, j, score in near_pairs(signatures, near):
        a, b = records[names[i]], records[names[j]]
        if a["signal"] != b["signal"]:
            yield _pair(a, b, "near_duplicate", f"nearly the same signal (similarity {score:.3f})")


def _records(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the first row of each record, with all splits that contain it."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.get("record"):
            first = found.setdefault(row["record"], dict(row) | {"splits": set()})
            first["splits"].add(row["split"])
    return found


def _duplicates(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    ids: dict[tuple[str, str], Any] = {}
    texts: dict[tuple[Any, str], Any] = {}
    for row in rows:
        key = (row["file"], str(row["id"]))
        if key in ids:
            yield _fault(row, "duplicate_id", f"the id {row['id']!r} occurs twice in {row['file']}")
        ids.setdefault(key, row["id"])
        text = (row.get("signal") or row.get("record"), row["text"])
        if not row["text"]:  # malformed: already reported
            continue
        if text in texts:
            yield _fault(row, "duplicate", f"the same record and text as {texts[text]!r}")
        texts.setdefault(text, row["id"])


def _leaks(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield samples outside the split in which their patient or record occurs first."""
    for name, kind in (("patient", "leak_patient"), ("record", "leak_record")):
        first: dict[str, str] = {}
        for row in rows:
            if row.get(name) is None:
                continue
            split = first.setdefault(row[name], row["split"])
            if split != row["split"]:
                yield _fault(row, kind, f"{name} {row[name]} is also in {split}")


def _pair(a: dict[str, Any], b: dict[str, Any], kind: str, message: str) -> dict[str, Any]:
    if a["splits"] != b["splits"]:
        return _fault(b, "leak_record", f"{message} as {a['id']!r}, which is in {', '.join(sorted(a['splits']))}")
    return _fault(b, kind, f"{message} as {a['id']!r}")


def _fault(row: dict[str, Any], kind: str, message: str) -> dict[str, Any]:
    return {"id": row["id"], "file": row["file"], "kind": kind, "message": message}
