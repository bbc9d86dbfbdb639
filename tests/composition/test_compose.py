"""What compose writes is read back without loss, and is true."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from gem_lightning.claims.parser.lexicon import lexicon
from gem_lightning.composition.compose import STYLES
from gem_lightning.ecg import simulate
from gem_lightning.errors import GemError
from gem_lightning.features import findings, measure
from gem_lightning.grounding import compose, compose_with_claims, extract, verify

DIAGNOSES = (
    "sinus",
    "sinus_bradycardia",
    "sinus_tachycardia",
    "sinus_arrhythmia",
    "atrial_fibrillation",
    "atrial_flutter",
    "av_block_1",
    "av_block_2_mobitz_1",
    "av_block_2_mobitz_2",
    "av_block_3",
    "rbbb",
    "incomplete_rbbb",
    "lbbb",
    "lafb",
    "lpfb",
    "left_axis_deviation",
    "lvh",
    "rvh",
    "long_qtc",
    "short_qtc",
    "low_voltage",
    "pac",
    "pvc",
    "bigeminy",
    "paced_rhythm",
    "pre_excitation",
    "st_elevation",
    "st_depression",
    "t_inversion",
    "t_peaked",
    "pathological_q",
)


@cache
def readable():
    """Codes that the lexicon can read: complete names, properties of quantities and infarcts by territory."""
    data = lexicon("en").data
    named = {code for key in data["findings"] for code in key.split("+")}
    return (
        named
        | {code.lstrip("!") for row in data["meanings"].values() for codes in row.values() for code in codes}
        | {code for codes in data["territories"].values() for code in codes}
    )


def meanings(claims):
    return Counter(claim.meaning for claim in claims if claim.finding is None or claim.finding in readable())


def read_back(features, found, seed, style):
    told = compose_with_claims(features, found, seed, style)
    want, got = meanings(told.claims), meanings(extract(told.text))
    assert got == want, (told.text, got - want, want - got)
    stated = verify(told.claims, features, findings=found)
    assert {v.verdict for v in stated.verdicts} == {"supported"}, stated.verdicts
    assert not stated.conflicts, (told.text, stated.conflicts)
    report = verify(told.text, features, findings=found)
    assert report.precision in (1.0, None), [v for v in report.verdicts if v.verdict != "supported"]
    assert not report.conflicts, (told.text, report.conflicts)


@pytest.mark.parametrize("diagnosis", DIAGNOSES)
def test_every_sentence_is_read_back_and_true(diagnosis):
    for seed in (11, 12):
        features = measure(simulate(diagnosis, seed=seed, snr_db=25).record)
        found = findings(features)
        for style in STYLES:
            for words in range(3):
                read_back(features, found, words, style)


def test_ludb_is_read_back(shared_data):
    from gem_lightning.ecg import read_ecg

    for path in sorted((shared_data / "ludb_odd" / "data").glob("*.hea"))[:100]:
        features = measure(read_ecg(path))
        found = findings(features)
        for k, style in enumerate(STYLES):
            read_back(features, found, k, style)


def test_same_seed_same_words_and_seeds_vary():
    features = measure(simulate("lbbb", seed=4).record)
    assert compose(features, seed=3) == compose(features, seed=3)
    assert len({compose(features, seed=s) for s in range(10)}) > 5
    assert len({compose(features, seed=s, style="brief") for s in range(10)}) == 1


def test_brief_is_short_and_whole():
    for diagnosis in DIAGNOSES:
        text = compose(measure(simulate(diagnosis, seed=2).record), style="brief")
        assert 12 <= len(text.split()) <= 75, text
        assert not any("." in word.rstrip(".,") and word[0].isdigit() for word in text.split()), text


def test_sequence_is_a_clinicians():
    text = compose(measure(simulate("lbbb", seed=4).record), seed=1)
    places = [text.find(word) for word in ("rhythm", "QT", "eft bundle")]
    assert -1 not in places
    assert places == sorted(places)


def test_teaching_names_the_criterion():
    assert "By definition" in compose(measure(simulate("av_block_1", seed=1).record), style="teaching")


def test_nothing_measured_nothing_said():
    import numpy as np

    from gem_lightning.ecg import LEADS, EcgRecord

    features = measure(EcgRecord(np.zeros((12, 5000), np.float32), 500.0, LEADS))
    for style in STYLES:
        assert extract(compose(features, style=style)) == []


def test_what_cannot_be_measured_is_not_passed_over_in_silence():
    import numpy as np

    from gem_lightning.ecg import LEADS, EcgRecord

    time = np.arange(5000) / 500
    waves = sum(0.2 * np.sin(2 * np.pi * rate * time + rate) for rate in (4.1, 4.9, 5.6, 6.3))
    chaotic = EcgRecord(np.tile(waves, (12, 1)).astype(np.float32), 500.0, LEADS)
    for record in (chaotic, EcgRecord(np.zeros((12, 5000), np.float32), 500.0, LEADS)):
        for style in STYLES:
            text = compose(measure(record), style=style)
            assert "Urgency is undetermined" in text
            assert extract(text) == []


def test_one_unit_for_amplitudes_in_a_text():
    features = measure(simulate("st_elevation", seed=4).record)
    units = set()
    for seed in range(20):
        for style in ("report", "interpretation", "teaching"):
            text = compose(features, seed=seed, style=style).split("By definition")[0]
            written = {unit for unit in ("mV", "mm") if f" {unit}" in text}
            assert len(written) < 2, text
            units |= written
    assert units == {"mV", "mm"}


def test_conduction_under_pacing_is_left_open():
    features = measure(simulate("paced_rhythm", seed=3).record)
    for style in STYLES:
        assert "AV conduction cannot be judged." in compose(features, style=style)


def test_premature_wide_beats_in_fibrillation_may_be_aberrant():
    features = measure(simulate("atrial_fibrillation", seed=3).record)
    early = next(f for f in findings(measure(simulate("pvc", seed=3).record)) if f.code == "pvc")
    text = compose(features, [*findings(features), early])
    assert "aberrant" in text
    assert not verify(text, features).unread_clinical
    assert "aberrant" not in compose(features)


def test_the_hedge_of_a_cause_stands_once():
    hedges = ("possible", "suspected", "probable", "likely", "may be")
    for seed in range(8):
        features = measure(simulate("lvh", seed=seed, snr_db=25).record)
        for part in compose(features, seed=seed).split(". "):
            if "secondary to" in part:
                assert sum(hedge in part for hedge in hedges) < 2, part


def test_unknown_style_is_named():
    with pytest.raises(GemError, match="sonnet"):
        compose(measure(simulate("sinus").record), style="sonnet")


def test_a_raised_st_segment_below_the_criteria_is_measured_not_denied():
    features = measure(simulate("sinus", seed=3).record, age=60, sex="M")
    points = ("J", "J40", "J60", "J80")
    low = {lead: dict.fromkeys(points, 0.14 if lead == "V3" else 0.0) for lead in features.st_mv}
    for seed in range(4):
        text = compose(replace(features, st_mv=low), seed=seed)
        assert "by these criteria. The ST level is 0.14 mV in V3." in text or "1.4 mm in V3." in text
        flat = {lead: dict.fromkeys(points, 0.0) for lead in features.st_mv}
        assert "The ST level is" not in compose(replace(features, st_mv=flat), seed=seed)


def test_no_t_wave_is_called_upright_that_is_flat():
    features = measure(simulate("sinus", seed=3).record, age=60, sex="M")
    leads = {name: replace(lead, t_mv=0.02, t_form="upright") if name in ("V5", "V6") else lead
             for name, lead in features.leads.items()}  # fmt: skip
    for seed in range(12):
        for sentence in compose(replace(features, leads=leads), seed=seed).split(". "):
            if "upright" in sentence:
                assert "V6" not in sentence
                assert "all" not in sentence


def test_some_paced_beats_are_not_all():
    record = simulate("paced_rhythm", seed=1).record
    features = measure(record)
    table = replace(features.beats, beat_class=features.beats.beat_class.copy())
    table.beat_class[: len(table) // 2] = "normal"
    text = compose(replace(features, beats=table), seed=0)
    assert "Spikes precede some of the complexes only." in text
    assert "Spikes precede the complexes." in compose(features, seed=0)
    assert "arrow QRS" not in text


def test_regular_and_sinus_arrhythmia_exclude_each_other():
    for seed in range(6):
        found = {f.code for f in findings(measure(simulate("sinus_arrhythmia", seed=seed).record))}
        assert not {"regular_rhythm", "sinus_arrhythmia"} <= found


def test_one_raised_lead_is_neither_a_finding_nor_denied():
    features = measure(simulate("sinus", seed=3).record, age=60, sex="M")
    points = ("J", "J40", "J60", "J80")
    one = replace(
        features,
        st_mv={lead: dict.fromkeys(points, 0.24 if lead == "V1" else 0.0) for lead in features.st_mv},
    )
    for seed in range(4):
        text = compose(one, seed=seed)
        assert "No ST elevation" not in text
        assert "Neither" not in text
        assert "depression." in text
        assert "0.24 mV in V1" in text or "2.4 mm in V1" in text
        assert verify(text, one).conflicts == []
