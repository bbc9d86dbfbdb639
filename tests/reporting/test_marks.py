"""Marks of a verified text: whole statements, one look per verdict, borderline of its own."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import pytest

from gem_lightning.ecg import simulate
from gem_lightning.features import measure
from gem_lightning.grounding import verify
from gem_lightning.reporting.claims import marks, pieces


@pytest.fixture(scope="module")
def features():
    return measure(simulate("sinus", seed=1, heart_rate=67).record, age=50, sex="M")


def marked(text, features):
    return [text[a:b] for a, b, _ in marks(verify(text, features))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sinus rhythm at 67 bpm.", ["Sinus rhythm", "at 67 bpm"]),
        ("No ST elevation in V2.", ["No ST elevation"]),
        ("Rate 67. No ST elevation or depression.", ["Rate 67", "No ST elevation or depression"]),
        ("There is no left bundle branch block.", ["no left bundle branch block"]),
        ("Sinus rhythm. No LVH. PR 160 ms.", ["Sinus rhythm", "No LVH", "PR 160 ms"]),
        ("Left bundle branch block is absent.", ["Left bundle branch block is absent"]),
        ("Narrow QRS complexes (96 ms).", ["Narrow QRS", "96 ms"]),
        ("No P waves. Absent P waves.", ["No P waves", "Absent P waves"]),
        ("Normal axis, 40°.", ["Normal axis", "40°"]),
    ],
)
def test_a_mark_spans_the_whole_statement(text, expected, features):
    assert marked(text, features) == expected


def test_marks_are_disjoint_and_rebuild_the_text(features):
    text = "Sinus rhythm at 67 bpm, no ST elevation or depression. QRS is narrow, 95 ms. Nothing else. LBBB? No."
    report = verify(text, features)
    spans = [(a, b) for a, b, _ in marks(report)]
    assert all(b <= c for (_, b), (c, _) in pairwise(spans))
    assert "".join(piece.text for piece in pieces(report)) == text
    assert sum(len(inside) for *_, inside in marks(report)) == len(report.verdicts)


def test_borderline_has_its_own_look(features):
    near = replace(features, qrs_ms=100.0)
    kinds = {value: pieces(verify(f"QRS {value} ms", near))[0].kind for value in (100, 125, 180)}
    assert kinds == {100: "supported", 125: "borderline", 180: "contradicted"}
    html = verify("QRS 125 ms", near).to_html()
    assert 'class="c borderline"' in html
    assert "≈" in html
    plain = verify("QRS 125 ms", near).to_terminal(color=False)
    assert plain.startswith("QRS 125 ms[≈]")
    coloured = {verify(f"QRS {value} ms", near).to_terminal(color=True)[:5] for value in (100, 125, 180)}
    assert len(coloured) == 3


def test_looks_differ_in_colour_line_and_sign():
    html = verify("QRS 125 ms", measure(simulate("sinus", seed=1).record)).to_html()
    rules = dict(re.findall(r"\.claims \.(supported|contradicted|borderline|unverifiable)\{([^}]*)\}", html))
    assert len({re.search(r"border-color:(#\w+)", rule).group(1) for rule in rules.values()}) == 4
    assert len({(re.search(r"border-bottom-style:(\w+)", rule) or [0, "solid"])[1] for rule in rules.values()}) == 4
