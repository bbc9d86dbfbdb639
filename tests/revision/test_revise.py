"""What revision promises: nothing contradicted is left, the model's own sentences are untouched, nothing true is."""

import random
from fnmatch import fnmatch

import numpy as np
import pytest

from gem_lightning.claims.perturb import alter
from gem_lightning.claims.verify import verify
from gem_lightning.composition.compose import STYLES, compose
from gem_lightning.composition.instrument import with_instrument
from gem_lightning.ecg import DIAGNOSES, EcgRecord, simulate
from gem_lightning.errors import GemError
from gem_lightning.features import findings, measure
from gem_lightning.features.criteria import decide
from gem_lightning.revision import (
    Edit,
    Reviser,
    Revision,
    StreamWriter,
    VerifyOptions,
    collect,
    faults,
    kept_share,
    revise,
    revise_sentences,
)
from helpers_features import make

CODES = ("sinus", "atrial_fibrillation", "av_block_1", "lbbb", "lafb", "st_elevation", "t_inversion", "av_block_3",
         "atrial_flutter", "paced_rhythm", "sinus_bradycardia", "pathological_q")  # fmt: skip


@pytest.fixture(scope="module")
def cohort():
    measured = {name: measure(simulate(name, seed=11).record) for name in CODES}
    return {name: (features, findings(features)) for name, features in measured.items()}


@pytest.fixture(scope="module")
def sinus(cohort):
    return cohort["sinus"][0]


def holds(draft, features, found, **settings):
    """Revise and check the promises; return the revision."""
    done = revise(draft, features, found, **settings)
    assert not verify(done.text, features).count("contradicted"), (draft, done.text)
    assert "".join(e.text for e in done.edits).strip() == done.text
    assert "".join(e.draft for e in done.edits) == draft
    for edit in done.edits:
        if edit.source == "model":
            assert edit.text == edit.draft or edit.action == "drop"
        assert done.text[edit.start :].startswith(edit.text.strip())
    return done


@pytest.mark.parametrize("on_fail", ["restate", "drop"])
@pytest.mark.parametrize("name", CODES)
def test_nothing_contradicted_is_left_of_any_text(cohort, name, on_fail):
    """Texts of other records, whole and altered: most of their sentences are wrong here."""
    features, found = cohort[name]
    rng = random.Random(name)
    for k, (other, (of_other, found_there)) in enumerate(cohort.items()):
        draft = compose(of_other, found_there, seed=k, style=STYLES[k % 4])
        holds(draft, features, found, on_fail=on_fail)
        altered = alter(compose(features, found, seed=k), features, found, rng)
        if altered and other != name:
            done = holds(altered[1], features, found, on_fail=on_fail)
            if verify(altered[1], features).count("contradicted"):
                assert kept_share(done.edits) < 1


@pytest.mark.parametrize("name", DIAGNOSES)
def test_a_model_that_is_always_right_is_never_edited(name):
    right = 0
    for seed in range(3):
        features = measure(simulate(name, seed=seed).record)
        found = findings(features)
        for style in STYLES:
            text = compose(features, found, seed=seed, style=style)
            done = revise(text, features, found)
            if not verify(text, features).count("contradicted"):
                right += 1
                assert done.text == text
                assert done.kept_share == 1
                assert {e.action for e in done.edits} <= {"keep", "flag"}
    assert right >= 10, "the composer is right in nearly all of its 12 texts"


WRONG = {
    "a number": ("The QRS duration is 190 ms.", "restate", "The QRS duration is 88 ms."),
    "a rate": ("Sinus rhythm at 143 bpm.", "restate", None),
    "a number in seconds": ("The PR interval is 0.31 s.", "restate", None),
    "a number in mm": ("The S wave in V1 is 31.0 mm.", "restate", None),
    "a unit": ("QT 0.19 s.", "restate", None),
    "an axis": ("Left axis deviation, −62°.", "restate", None),
    "a polarity": ("No P waves are seen.", "restate", None),
    "a finding": ("Left bundle branch block.", "restate", "No left bundle branch block."),
    "leads": ("T wave inversion in V4, V5 and V6.", "restate", None),
    "a rhythm": ("The ECG shows atrial fibrillation.", "restate", "The ECG shows sinus rhythm."),
    "a list item": ("- QRS: 190 ms\n", "restate", None),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_restated_in_its_place(sinus, name):
    draft, action, expected = WRONG[name]
    report = verify(draft, sinus)
    assert report.count("contradicted"), report.verdicts
    before, after = "The tracing is of good quality. ", " The rest is unremarkable."
    done = revise(before + draft + after, sinus)
    edits = [e for e in done.edits if not e.kept]
    assert [e.action for e in edits] == [action]
    assert edits[0].source == "measurement"
    assert edits[0].reason
    assert done.text.startswith(before.strip())
    assert done.text.endswith(after.strip())
    assert not verify(done.text, sinus).count("contradicted")
    if expected:
        qrs = f"{round(sinus.qrs_ms)} ms"
        assert edits[0].text.strip() == expected.replace("88 ms", qrs)


def test_a_number_keeps_unit_decimals_and_sign(sinus):
    done = revise("The PR interval is 0.31 s. QRS axis -120°. The S wave in V1 is 31.0 mm.", sinus)
    axis = round(sinus.axis_deg["QRS"])
    assert done.text == (
        f"The PR interval is {sinus.pr_ms / 1000:.2f} s. QRS axis {axis}°. "
        f"The S wave in V1 is {sinus.leads['V1'].s_mv * 10:.1f} mm."
    )


def test_the_same_findings_in_every_form_are_caught(cohort):
    """One false statement each on numbers, units, leads and negation, in several wordings."""
    features, found = cohort["lbbb"]
    false = [
        "QRS 84 ms.", "QRS .08 s.", "Narrow QRS complexes.", "No left bundle branch block.", "LBBB is not present.",
        "Heart rate 31.", "The QRS is not wide.", "Right bundle branch block.", "PR 310 ms.", "RR 300 ms",
        "ST elevation of 5 mm in I and aVL.", "The rhythm is irregular.", "There are no P waves.",
    ]  # fmt: skip
    caught = [line for line in false if verify(line, features).count("contradicted")]
    assert len(caught) >= len(false) - 1
    for line in caught:
        done = holds(line, features, found)
        assert done.kept_share == 0, line
    done = holds(" ".join(caught), features, found)
    assert done.kept_share == 0


def test_an_unsure_measurement_rewrites_nothing():
    """Borderline, low trust, flutter waves under ST-T, AF in a paced rhythm: flagged, never rewritten."""
    noisy = make(leads={"V2": {"trust": 0.1, "t_mv": 0.3}})
    flutter = measure(simulate("atrial_flutter", seed=3).record)
    paced = measure(simulate("paced_rhythm", seed=3).record)
    sinus = make()
    cases = [
        (noisy, "T wave amplitude 0.90 mV in V2."),
        (noisy, "T wave inversion in V2."),
        (flutter, "ST depression of 1 mm in V5."),
        (flutter, "T wave amplitude 1.20 mV in V5."),
        (flutter, "T wave inversion in II."),
        (paced, "Atrial fibrillation."),
        (sinus, f"QRS {round(sinus.qrs_ms + 25)} ms."),
    ]
    for features, text in cases:
        (edit,) = revise(text, features).edits
        assert edit.action == "flag", (text, edit)
        assert edit.text == text
        assert edit.reason
    sure = make(leads={"V2": {"t_mv": 0.3}})  # the same in a lead that can be read is rewritten
    assert revise("T wave amplitude 0.90 mV in V2.", sure).text == "T wave amplitude 0.30 mV in V2."


def test_what_a_certain_rhythm_leaves_no_room_for_is_restated(cohort):
    """ "Sinus bradycardia" and "PR 160 ms" in a complete heart block: undecided alone, but the block is certain."""
    features, found = cohort["av_block_3"]
    done = revise("The ECG shows sinus bradycardia. PR 160 ms. Possible sinus rhythm.", features, found)
    assert [e.action for e in done.edits] == ["restate", "drop", "flag"]
    assert "sinus bradycardia" not in done.text
    named = "Complete AV block with sinus rhythm of the atria."  # the block itself is named: the rest may be true
    assert revise(named, features, found).text == named
    paced, found = cohort["paced_rhythm"]
    assert revise("Atrial fibrillation.", paced, found).edits[0].action == "flag"
    assert revise("Sinus rhythm at 60 bpm.", paced, found).edits[0].action == "restate"


def test_no_urgent_finding_stands_only_where_that_is_established(cohort):
    """A reader could act on it: where urgency is open the sentence becomes what the evidence allows."""
    for features, found in cohort.values():
        (verdict,) = verify("No urgent finding.", features, findings=found).verdicts
        (edit,) = revise("No urgent finding.", features, found).edits
        assert (edit.text == "No urgent finding.") == (verdict.verdict == "supported"), edit
    masked, found = cohort["lbbb"]
    assert revise("No urgent finding.", masked, found).text.startswith("Urgency is undetermined")


def test_a_sentence_said_twice_stands_once(sinus):
    text = "No ST elevation. Sinus rhythm. No ST elevation. Conclusion: sinus rhythm."
    done = revise(text, sinus)
    assert done.text == "No ST elevation. Sinus rhythm. Conclusion: sinus rhythm."
    assert [e.action for e in done.edits] == ["keep", "keep", "drop", "keep"]
    assert revise(text, sinus, on_fail="flag").text == text


def test_complete_leaves_no_denial_beside_what_it_adds(cohort):
    """A denial that the measurement leaves open is kept alone, and gives way to the finding that is added."""
    near = make(st={"V5": -0.06, "V6": -0.06})
    found = findings(near)
    assert "st_depression" in {f.code for f in found}
    assert revise("No ST depression.", near, found).edits[0].action == "flag"
    done = revise("No ST depression. Sinus rhythm.", near, found, complete=True)
    assert "no st depression" not in done.text.lower()
    assert "ST depression" in done.text


def test_a_garbled_sentence_is_never_corrected_in_place(sinus):
    """A right number in "No 44 bpm." is no statement of the measurement."""
    for draft in (
        "No 44 bpm.",
        "Rate 44 bpm bpm.",
        "QRS the the complex 190 ms.",
        "ST elevation ST elevation, PR 310 ms.",
    ):
        (edit, *_) = revise(draft, sinus).edits
        assert not (edit.action == "restate" and faults(edit.text)), edit
        assert edit.action in ("restate", "drop"), edit
    assert revise("Sinus rhythm. Conclusion:. ms, ms. PR 66 bpm.", sinus).text.startswith("Sinus rhythm.")
    assert not any(faults(e.text) for e in revise("Sinus rhythm. Conclusion:. ms, ms. PR 66 bpm.", sinus).edits)


def test_nothing_is_rewritten_where_nothing_could_be_measured(sinus):
    flat = measure(EcgRecord(np.zeros((12, 5000), np.float32), 500.0, simulate("sinus").record.leads))
    text = "Atrial fibrillation at 140 bpm. QRS 200 ms."
    assert revise(text, flat).text == text


def test_no_text_is_left_empty(cohort):
    for features, found in cohort.values():
        for on_fail in ("drop", "restate"):
            done = revise("QRS 310 ms. Rate 12 bpm.", features, found, on_fail=on_fail)
            assert done.text
            assert not verify(done.text, features).count("contradicted")
    assert revise("", features, found).text == ""


def test_flag_changes_nothing_and_names_every_contradiction(cohort):
    features, found = cohort["sinus"]
    text = "Atrial fibrillation at 143 bpm. QRS 190 ms. No ST elevation."
    done = revise(text, features, found, on_fail="flag")
    assert done.text == text
    assert [e.action for e in done.edits] == ["flag", "flag", "keep"]
    assert done.kept_share == 1


@pytest.mark.parametrize("name", [n for n in CODES if n != "sinus"])
def test_complete_adds_what_was_measured(cohort, name):
    features, found = cohort[name]
    text = "A twelve-lead ECG was recorded."
    before = verify(text, features)
    done = revise(text, features, found, complete=True)
    after = verify(done.text, features)
    assert done.text.startswith(text)
    assert not after.count("contradicted")
    if before.abnormal:
        assert after.coverage >= 0.5
    added = [e for e in done.edits if e.action == "add"]
    assert all(e.source == "measurement" and not e.draft for e in added)
    urgent = [f for f in found if f.urgent]
    assert bool(urgent) == ("This ECG is urgent" in done.text)
    assert revise(done.text, features, found, complete=True).text == done.text


def test_the_grammar_check_passes_composed_texts_and_knows_garbled_ones(cohort):
    for features, found in cohort.values():
        for seed in range(3):
            for style in STYLES:
                for edit in revise(compose(features, found, seed, style), features, found).edits:
                    assert not faults(edit.draft), edit.draft
    garbled = ["Normal axis.09 ms.", "PR 16.", "QRS the the complex.", "ST elevation in.", "Rate 72 bpm bpm.",
               "The QT interval (420 ms.", "a inferior infarct.", "Sinus rhythm at a rate of", "No 44 bpm.",
               "No ST depression40 ms in V5.", "The Conclusion: sinus rhythm.", "QRS 636 bpm.",
               "because II, because II.", "QT  urgent finding."]  # fmt: skip
    for line in garbled:
        assert faults(line), line


def test_settings_are_refused_by_name():
    for settings in ({"verify": "all"}, {"on_fail": "ignore"}, {"tries": -1}, {"tries": True}):
        with pytest.raises(GemError, match="expected"):
            VerifyOptions(**settings)
    own, rest = VerifyOptions.split({"verify": "revise", "tries": 2, "do_sample": True})
    assert (own.verify, own.tries, rest) == ("revise", 2, {"do_sample": True})


def test_a_text_that_comes_in_pieces_is_revised_like_a_whole_one(cohort):
    rng = random.Random(0)
    for features, found in cohort.values():
        draft = compose(features, found, seed=1) + " QRS 240 ms. Complete heart block."
        cuts = sorted(rng.sample(range(len(draft)), 12))
        pieces = [draft[a:b] for a, b in zip([0, *cuts], [*cuts, len(draft)])]
        reviser = Reviser(features, found, VerifyOptions("revise"))
        grown = ""
        for edit in revise_sentences(StreamWriter(pieces), reviser):
            grown += reviser.addition(edit)
            assert not verify(grown, features, findings=found).count("contradicted")
        assert collect(reviser).text == revise(draft, features, found).text
        assert grown.strip() == collect(reviser).text


def test_edits_come_back_from_their_json(sinus):
    done = revise("Sinus rhythm. QRS 240 ms. Regular rhythm.", sinus)
    again = Revision.of(done.text, [Edit.from_dict(edit.to_dict()) for edit in done.edits])
    keys = ("draft", "text", "action", "source", "reason", "start")
    assert [[getattr(e, k) for k in keys] for e in again.edits] == [[getattr(e, k) for k in keys] for e in done.edits]
    with pytest.raises(GemError, match="edits"):
        Revision.of("Another text.", again.edits)


def test_a_hedge_is_not_doubled(cohort):
    features, found = cohort["atrial_flutter"]
    assert any(f.code == "atrial_flutter" and f.certainty != "definite" for f in found)
    for hedge in ("Suspected", "Possible", "Probable", "Likely"):
        text = revise(f"{hedge} sinus rhythm.", features).text
        assert text.lower().count("atrial flutter") == 1
        assert sum(text.lower().count(word) for word in ("suspected", "possible", "probable", "likely")) == 1


@pytest.mark.parametrize(
    ("name", "draft", "question", "answer"),
    [
        ("sinus", "The ECG was recorded.", "Is there left ventricular hypertrophy?", "lvh"),
        ("lbbb", "The PR interval is {pr} ms.", "Is there a bundle branch block?", "lbbb"),
        ("atrial_fibrillation", "The QRS duration is {qrs} ms.", "What is the rhythm?", "atrial_fibrillation"),
        ("st_elevation", "The PR interval is {pr} ms.", "Does it show ST elevation?", "st_elevation"),
        ("av_block_1", "The QRS duration is {qrs} ms.", "How long is the PR interval?", "pr"),
        ("sinus", "The QRS duration is {qrs} ms.", "What is the heart rate?", "heart_rate"),
        ("sinus", "The QRS duration is {qrs} ms.", "What about the axis?", "axis_qrs"),
        ("pathological_q", "The QRS duration is {qrs} ms.", "Are there signs of an old infarct?", "mi_*"),
        ("lbbb", "The PR interval is {pr} ms.", "Is this ECG normal?", "lbbb"),
    ],
)
def test_what_a_question_names_is_answered(cohort, name, draft, question, answer):
    features, found = cohort[name]
    draft = draft.format(pr=round(features.pr_ms or 0), qrs=round(features.qrs_ms))
    done = holds(draft, features, found, question=question)
    added = verify(done.text[len(draft) :], features).verdicts
    told = [v for v in added if fnmatch(str(v.claim.finding), answer) or v.claim.kind == answer]
    assert told and all(v.verdict == "supported" for v in told)
    again = holds(done.text, features, found, question=question)
    assert again.text == done.text
    assert holds(draft, features, found, question="Interpret this ECG.").text == draft


def test_what_the_measurements_leave_open_is_answered_so():
    features = measure(simulate("incomplete_rbbb", seed=11).record)
    codes = [
        code for code in ("lbbb", "rbbb") if decide(code, features).met is None or not decide(code, features).clear
    ]
    assert codes
    text = revise("The rate was counted.", features, question="Is there a bundle branch block?").text
    assert "leave open whether there is" in text or "incomplete right bundle branch block" in text.lower()


@pytest.mark.parametrize("name", CODES)
def test_an_added_answer_agrees_with_the_criterion(cohort, name):
    features, found = cohort[name]
    for code in ("lvh", "atrial_fibrillation", "t_inversion", "long_qtc", "mi_inferior", "pvc"):
        words = code.replace("_", " ").replace("mi inferior", "an inferior infarct").replace("pvc", "PVCs")
        done = holds("It was recorded.", features, found, question=f"Is there {words}?")
        for verdict in verify(done.text, features).verdicts:
            if verdict.claim.finding == code:
                assert decide(code, features).met is not verdict.claim.negated


def test_a_normal_ecg_is_stated_only_where_that_is_established(cohort):
    for features, found in cohort.values():
        done = holds("Normal ECG.", features, found)
        assert ("Normal ECG" in done.text) == bool(decide("normal_ecg", features).met)


def test_an_instrument_is_spoken_of_only_where_its_reading_was_shown(cohort):
    features, found = cohort["sinus"]
    text = "Sinus rhythm. The instrument's QT does not agree with the signal."
    assert holds(text, features, found).text == "Sinus rhythm."
    assert holds(text, features, found, question=with_instrument("Interpret this ECG.", features)).text == text
