"""Texts that contradict themselves, and texts that only seem to."""

from __future__ import annotations

import pytest

from gem_lightning.claims.conflicts import conflicts
from gem_lightning.grounding import extract

CONTRADICTORY = (
    "Normal ECG. LBBB.",
    "AF. PR 160 ms.",
    "LBBB. QRS 84 ms.",
    "No ST elevation. ST elevation of 3 mm in V3.",
    "Atrial fibrillation with a P wave before each QRS complex.",
    "Atrial fibrillation. P wave amplitude 0.12 mV in II.",
    "Atrial fibrillation. Regular sinus rhythm.",
    "Sinus rhythm. Atrial fibrillation.",
    "Sinus bradycardia, rate 88 bpm.",
    "Sinus bradycardia. Sinus tachycardia.",
    "Rate 60 bpm. RR 600 ms.",
    "Normal axis. Left axis deviation.",
    "Normal axis, -48°.",
    "Normal PR interval of 240 ms.",
    "PR 160 ms. First-degree AV block.",
    "Normal QTc of 520 ms.",
    "Normal ECG. Rate 150 bpm.",
    "Normal ECG. Third-degree AV block.",
    "Normal ECG. ST elevation of 3 mm in V3.",
    "Normal ECG. QRS 150 ms.",
    "Normal ECG with a PR of 280 ms.",
    "Sinus rhythm. P waves are absent.",
    "No P waves. PR 160 ms.",
    "No P waves. P wave duration 100 ms.",
    "LBBB. RBBB.",
    "LBBB. Narrow QRS.",
    "Complete RBBB. Incomplete RBBB.",
    "Narrow QRS, 150 ms.",
    "Atrial flutter. Sinus rhythm.",
    "Asystole. Heart rate 70 bpm.",
    "Ventricular fibrillation. Sinus rhythm.",
    "Abnormal ECG. Normal ECG.",
    "No T inversion. T wave amplitude -0.3 mV in V4.",
    "T waves upright in V4. T wave amplitude -0.3 mV in V4.",
    "This is urgent. Nothing urgent.",
    "Third-degree AV block. Nothing urgent.",
    "Nothing urgent. Ventricular fibrillation.",
    "Poor R wave progression. Normal R wave progression.",
    "First-degree AV block. Third-degree AV block.",
    "Regular rhythm. Atrial fibrillation.",
    "Irregular rhythm. Regular rhythm.",
    "RR intervals are regular. Irregularly irregular rhythm.",
    "QRS 90 ms. QRS 140 ms.",
    "QT 400 ms. QTc 600 ms at a rate of 60 bpm.",
    "QRS 180 ms, QT 400 ms, JT 320 ms.",
    "Left axis deviation. Axis 90°.",
    "No pathological Q waves. Q waves in III.",
    "Right axis deviation. Left axis deviation.",
    "Short QTc. Long QTc.",
    "Normal QRS duration. Wide QRS.",
    "No LVH. LVH.",
    "No ST depression. ST depression of 2 mm in V5.",
    "ST elevation of 3 mm in V3. ST depression of 1 mm in V3.",
    "Junctional rhythm. Sinus rhythm.",
    "Supraventricular tachycardia. Rate 60 bpm.",
    "Ventricular tachycardia. Rate 60 bpm.",
    "Bradycardia of sinus origin. Ventricular rate 120 bpm.",
    "Sinus rhythm at 72 bpm. Heart rate 48 bpm.",
    "No PVCs. PVCs.",
    "Inferior infarct. No infarction.",
    "No bundle branch block. LBBB.",
    "PR is not 240 ms. PR 240 ms.",
    "QTc is not prolonged at 520 ms.",
    "QRS below 100 ms. LBBB.",
)
SOUND = (
    "Sinus rhythm with PVCs. Irregular rhythm.",
    "Sinus rhythm, rate 72 bpm. RR 833 ms.",
    "Atrial fibrillation. Irregular rhythm. No P waves.",
    "Paced rhythm. Wide QRS, 160 ms.",
    "LBBB, QRS 150 ms. Left axis deviation.",
    "RBBB with left anterior fascicular block.",
    "Sinus bradycardia at 52 bpm. Sinus rhythm.",
    "Normal ECG. Sinus rhythm. Normal axis. QRS 90 ms. PR 160 ms. Rate 70 bpm.",
    "Normal ECG. No ST elevation.",
    "ST elevation in V2. No ST elevation in V5.",
    "ST elevation of 3 mm in V3. No ST depression.",
    "Possible LBBB. QRS 90 ms.",
    "First-degree AV block, PR 240 ms. LBBB.",
    "Normal sinus rhythm. Early repolarization.",
    "Third-degree AV block. Junctional escape rhythm at 44 bpm.",
    "AF with a ventricular rate of 58 bpm.",
    "PR 160 ms. PR interval 162 ms.",
    "T inversion in V1. T waves upright in V5.",
    "QRS 118 ms. IVCD.",
    "RSR' in V1. Incomplete RBBB. QRS 108 ms.",
    "Old inferior infarct. No acute ST changes.",
    "Atrial flutter, 2:1 conduction, ventricular rate 150 bpm. Regular rhythm.",
    "No first-degree AV block. PR 160 ms.",
    "Normal ECG. rsR' in V1. Sinus arrhythmia.",
    "Atrial fibrillation. The QRS axis is normal.",
    "Sinus rhythm. Low voltage. No LVH.",
    "Heart rate 40 bpm. Third-degree AV block. Narrow QRS.",
    "This is urgent because of ventricular tachycardia. Wide QRS.",
    "PR is not 240 ms. PR 160 ms.",
    "Possible atrial fibrillation. PR 160 ms.",
    "Sinus rhythm with a run of ventricular tachycardia.",
)


@pytest.mark.parametrize("text", CONTRADICTORY)
def test_a_text_that_contradicts_itself(text):
    found = conflicts(extract(text))
    assert found, extract(text)
    assert all(conflict.reason and "inf" not in conflict.reason.split() for conflict in found)


@pytest.mark.parametrize("text", SOUND)
def test_a_sound_text(text):
    assert not conflicts(extract(text))


def test_two_claims_conflict_once():
    assert len(conflicts(extract("LBBB. QRS 84 ms."))) == 1
    assert len(conflicts(extract("Sinus rhythm. Atrial fibrillation."))) == 1
