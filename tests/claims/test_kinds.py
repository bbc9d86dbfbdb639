"""Sentences like device statements, model prose, tables and reports, judged by the conventions of docs/claims.md.

``sentences_kinds.jsonl``: what each text claims was written down before the parser read it. ``half`` says whether its
output was looked at while rules were written (``looked_at``) or never (``kept_apart``). ``optional`` claims may be
missed, ``alt`` gives other findings that pass, ``hedge_open`` leaves the certainty open.
"""

from __future__ import annotations

import json
import pathlib

import pytest

from gem_lightning.claims.claim import UNITS, Claim
from gem_lightning.claims.extract import read_text

ROWS = [
    json.loads(line)
    for line in (pathlib.Path(__file__).parent / "sentences_kinds.jsonl").read_text("utf-8").splitlines()
]
FLOOR = {"ms": 1.0, "bpm": 1.0, "deg": 1.0, "mV": 0.01}  # by how much a number may differ, or by 1 %


def same_numbers(expected: dict, claim: Claim) -> bool:
    for name in ("value", "low", "high"):
        want, got = expected.get(name), getattr(claim, name)
        if want is None or got is None:
            if want is not got:
                return False
        elif abs(want - got) > max(0.01 * abs(want), FLOOR[UNITS[expected["kind"]]]) + 1e-9:
            return False
    return True


def agrees(expected: dict, claim: Claim) -> bool:
    if expected["kind"] != claim.kind or set(expected.get("leads", ())) != set(claim.leads):
        return False
    if not expected.get("hedge_open") and bool(expected.get("uncertain")) != claim.uncertain:
        return False
    readings = [expected, *expected.get("alt", ())]
    named = any((r.get("finding"), bool(r.get("negated"))) == (claim.finding, claim.negated) for r in readings)
    return named and (claim.kind == "finding" or same_numbers(expected, claim))


def compare(row: dict) -> tuple[int, int, int, bool]:
    """Return hits, misses and inventions of one row, and whether its unread content and language are named."""
    reading = read_text(row["text"])
    free = list(reading.claims)
    hits = misses = 0
    for expected in sorted(row["claims"], key=lambda c: bool(c.get("optional"))):
        match = next((claim for claim in free if agrees(expected, claim)), None)
        if match is not None:
            free.remove(match)
        if not expected.get("optional"):
            hits += match is not None
            misses += match is None
    named = all(overlaps(row["text"], part, reading.unread_clinical) for part in row.get("unread_clinical", ()))
    return hits, misses, len(free), named and row.get("lang", "") in ("", *reading.languages)


def overlaps(text: str, part: str, spans: list[tuple[int, int]]) -> bool:
    start = text.index(part)
    end = start + len(part)
    return any(2 * (min(end, b) - max(start, a)) >= end - start for a, b in spans)


@pytest.mark.parametrize(("half", "bar"), [("looked_at", 0.98), ("kept_apart", 0.95)])
def test_f1_by_half(half, bar):
    rows = [row for row in ROWS if row["half"] == half]
    results = [compare(row) for row in rows]
    hits, misses, inventions = (sum(result[k] for result in results) for k in range(3))
    assert 2 * hits / (2 * hits + misses + inventions) >= bar
    assert sum(result[3] for result in results) >= bar * len(rows)


def test_enough_sentences_and_none_twice():
    texts = [row["text"] for row in ROWS]
    assert len(set(texts)) == len(texts) >= 500
    assert sum(row["half"] == "kept_apart" for row in ROWS) >= 60
