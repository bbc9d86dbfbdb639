"""Reading of foreign text: layout, number names, changes, other languages, and clinical content without a code."""

from __future__ import annotations

import json
import pathlib
import string

import pytest

from gem_lightning.claims.extract import extract, read_text
from gem_lightning.claims.parser.layout import plain, statements
from gem_lightning.ecg import simulate
from gem_lightning.features import measure
from gem_lightning.grounding import verify

ROWS = [
    json.loads(line)
    for line in (pathlib.Path(__file__).parent / "sentences_foreign.jsonl").read_text("utf-8").splitlines()
]


def plain_values(claim) -> dict:
    fields = {k: v for k, v in claim._asdict().items() if k != "span" and v not in (None, (), False)}
    return fields | ({"leads": sorted(fields["leads"])} if "leads" in fields else {})


def order(claim: dict) -> str:
    return json.dumps(claim, sort_keys=True)


@pytest.mark.parametrize("row", ROWS, ids=[str(i) for i in range(len(ROWS))])
def test_foreign_sentences(row):
    reading = read_text(row["text"])
    expected = [c | ({"leads": sorted(c["leads"])} if "leads" in c else {}) for c in row["claims"]]
    assert sorted(map(plain_values, reading.claims), key=order) == sorted(expected, key=order), row["text"]
    listed = [row["text"][a:b] for a, b in reading.unread_clinical]
    assert listed == row.get("unread_clinical", []), row["text"]
    assert list(reading.languages) == row.get("languages", [])


def test_markup_keeps_every_place():
    text = '<p>PR&nbsp;160&nbsp;ms</p> **QRS** {"qtc_ms": 430} a_b & c'
    assert len(plain(text)) == len(text)
    assert not set("<>{}_") & set(plain(text))


@pytest.mark.parametrize("text", [row["text"] for row in ROWS if "\n" in row["text"]])
def test_spans_lie_in_the_text(text):
    for claim in extract(text):
        start, end = claim.span
        assert 0 <= start < end <= len(text)
        assert set(text[start:end]) & set(string.ascii_letters + string.digits)


def test_a_heading_governs_until_a_blank_line():
    claims = extract("Absent:\n- LVH\n- RBBB\n\nLBBB")
    assert [(c.finding, c.negated) for c in claims] == [("lvh", True), ("rbbb", True), ("lbbb", False)]
    assert ["Absent:\n- LVH\n- RBBB\n\nLBBB"[slice(*c.span)] for c in claims] == ["LVH", "RBBB", "LBBB"]


def test_plain_prose_is_split_into_sentences_only():
    found = list(statements("Sinus rhythm. LBBB.", lambda _: None, lambda _: (False, False)))
    assert [(s.start, s.context) for s in found] == [(0, 0), (13, 0)]


@pytest.mark.parametrize(
    "text", ["Electrical alternans.", "The patient has Osborn waves.", "Brugada-Syndrom, Kammerflimmern."]
)
def test_clinical_content_is_claimed_or_listed(text):
    reading = read_text(text)
    assert reading.claims or reading.unread_clinical


def test_the_report_names_what_was_not_read():
    features = measure(simulate("sinus", seed=0).record)
    report = verify("Sinus rhythm. Elektrischer Alternans mit Kammerflimmern. QRS amplitude 1 mV in V5.", features)
    assert report.languages == ("de",)
    assert [report.text[a:b] for a, b in report.unread_clinical] == ["Elektrischer Alternans mit Kammerflimmern."]
    assert report.verdicts[-1].measured is not None
    assert report.to_dict()["languages"] == ["de"]
    json.loads(report.to_json())


def test_semicolons_in_prose_make_no_table():
    claims = extract("Probable LVH; LBBB\nNo RBBB; PR 160 ms")
    assert [(c.finding or c.kind, c.negated, c.uncertain) for c in claims] == [
        ("lvh", False, True),
        ("lbbb", False, False),
        ("rbbb", True, False),
        ("pr", False, False),
    ]
    assert [c.value for c in extract("HR;72\nPR;164")] == [72.0, 164.0]
