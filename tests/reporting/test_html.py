"""The page of an interpretation: complete by itself, true to its record, refused where it cannot be read."""

import base64
import json
import re

import numpy as np
import pytest

from gem_lightning.composition.compose import compose
from gem_lightning.ecg import simulate
from gem_lightning.features import measure
from gem_lightning.reporting.html import Table
from gem_lightning.reporting.interpretation import Interpretation


@pytest.fixture(scope="module")
def interpretation():
    record = simulate("rbbb", seed=4, snr_db=30).record
    features = measure(record)
    text = (
        f"Sinus rhythm at {features.heart_rate_bpm:.0f} bpm. QRS {features.qrs_ms + 90:.0f} ms "
        "<script>alert(1)</script>. No ST elevation in V4. ST depression is not seen."
    )
    return Interpretation.of(text, record, features=features)


@pytest.fixture(scope="module")
def page(interpretation):
    extra = Table("On held-out ECGs", ["", "model"], [["rate", "3.1"]], "a note")
    return interpretation.to_html(extra_tables=(extra,), file_name="ward 3.dcm")


@pytest.fixture(scope="module")
def flat():
    record = simulate("sinus", seed=1).record
    return Interpretation.of("Sinus rhythm at 66 bpm.", record.with_signal(np.zeros_like(record.signal)))


def trace_of(page):
    return json.loads(re.search(r"<script type=\"application/json\" data-trace>(.*?)</script>", page, re.DOTALL)[1])


def test_self_contained(page):
    assert not re.search(r"(src|href)=[\"'](?!#|data:)", page)
    assert "@import" not in page and "url(http" not in page
    assert page.count("<!doctype html>") == 1
    assert page.count("Research software, not a medical device") == 1


def test_header_verdicts_and_tables_are_on_the_page(page, interpretation):
    assert "ward 3.dcm" in page
    assert f"<dd>{interpretation.features.heart_rate_bpm:.0f} bpm</dd>" in page
    assert 'class="c supported"' in page and 'class="c contradicted"' in page
    assert "On held-out ECGs" in page
    for lead in ("aVR", "V6"):
        assert f'<tr data-lead="{lead}">' in page


def test_a_mark_covers_what_denies_its_statement(page):
    marked = re.findall(r'<a class="c [^>]*data-leads="([^"]*)"[^>]*>([^<]*)', page)
    assert ("V4", "No ST elevation") in marked
    assert "ST depression is not seen" in [text for _, text in marked]


@pytest.mark.parametrize("diagnosis", ["sinus", "st_elevation", "lbbb"])
@pytest.mark.parametrize("style", ["interpretation", "brief"])
def test_no_green_mark_names_a_finding_that_its_text_denies(diagnosis, style):
    record = simulate(diagnosis, seed=3).record
    features = measure(record)
    page = Interpretation.of(compose(features, style=style, seed=2), record, features=features).to_html()
    text = re.sub(r"<[^>]+>", "", re.search(r'<div class="text">(.*?)</p>', page, re.DOTALL)[1])
    for word in re.findall(r'<a class="c [^>]*>([^<]*)', page):
        before = text[: text.index(word)].rstrip()
        assert not re.search(r"\b(no|without|nor)$", before, re.IGNORECASE), word


def test_the_signal_comes_back_from_the_page(page, interpretation):
    trace, record = trace_of(page), interpretation.record
    values = np.frombuffer(base64.b64decode(trace["signal"]), "<i2").reshape(12, -1)
    np.testing.assert_allclose(values / 1000, record.signal, atol=0.0006)
    assert trace["leads"] == list(record.leads)
    assert {len(row) for row in trace["marks"]["R"]} == {len(interpretation.features.beats)}


def test_unknown_samples_are_gaps_not_zeros():
    record = simulate("sinus", seed=1).record
    signal = record.signal.copy()
    signal[3, 100:160] = np.nan
    trace = trace_of(Interpretation.of("", record.with_signal(signal)).to_html())
    values = np.frombuffer(base64.b64decode(trace["signal"]), "<i2").reshape(12, -1)
    assert (values[3, 100:160] == -32768).all()


def test_statements_point_at_their_beats():
    record = simulate("pvc", seed=2).record
    found = Interpretation.of("Premature ventricular complexes. PR 160 ms.", record)
    page = found.to_html()
    wide = [i for i, name in enumerate(found.features.beats.beat_class) if name == "premature_ventricular"]
    assert f'data-beats="{" ".join(map(str, wide))}"' in page
    assert 'data-wave="PR"' in page


def test_a_wrong_denial_points_at_the_leads_that_contradict_it():
    record = simulate("st_elevation", seed=3).record
    page = Interpretation.of("No ST elevation. No T inversion.", record).to_html()
    assert 'data-wave="ST" data-leads="II III aVF"' in page
    assert 'data-wave="T" data-leads=""' in page


def test_a_page_is_small_enough_for_a_mail(page):
    assert len(page) < 600_000


def test_text_of_a_model_cannot_carry_markup(page):
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_reader_is_warned_of_statements_that_disagree(page, interpretation):
    wrong = interpretation.claims.count("contradicted")
    assert wrong > 0
    assert re.search(rf"✗ {wrong} of \d+ statements", page)
    calm = Interpretation.of("", interpretation.record).to_html()
    assert "statements disagree" not in calm


def test_an_unusable_recording_is_refused_everywhere(flat):
    page = flat.to_html()
    assert "This recording is not interpreted" in page
    assert "Flat: all leads (no signal)." in page
    assert "66 bpm" not in page and "checked against the signal" not in page
    plain = flat.to_dict()
    assert plain["refused"] == flat.refused is not None
    assert (plain["text"], plain["findings"], plain["claims"]["verdicts"]) == ("", [], [])
    assert plain["summary"]["urgency"] == "undetermined"
    assert "not interpreted" in flat.to_terminal(color=False)


def test_urgency_is_of_the_measurements_not_of_the_text():
    record = simulate("st_elevation", seed=3).record
    calm = Interpretation.of("Normal ECG. No urgent finding.", record)
    assert calm.summary.urgency == "urgent"
    assert 'class="urgency urgent"' in calm.to_html()
    assert calm.to_dict()["summary"] == Interpretation.of("", record).to_dict()["summary"]
    assert calm.with_text("Sinus rhythm.").summary is calm.summary  # computed once for all texts about a record
    normal = Interpretation.of("This ECG is urgent.", simulate("sinus", seed=3).record)
    assert normal.summary.urgency == "not_urgent"
    masked = Interpretation.of("", simulate("lbbb", seed=3).record)
    assert masked.summary.urgency == "undetermined"
