"""Simulated records hold what they claim: measured on the samples, not on the simulator's own tables."""

import itertools

import numpy as np
import pytest

from gem_lightning.ecg import DIAGNOSES, LEADS, simulate, simulate_cohort
from gem_lightning.ecg.leads import limb_leads
from gem_lightning.ecg.simulation.morphology import TERRITORIES
from gem_lightning.ecg.simulation.truth import MARKS
from gem_lightning.errors import DataError

SEEDS = range(12)


def complexes(ecg, lead: str, which: str = "normal") -> np.ndarray:
    """Samples (mV) of the first complex of a kind, from QRS onset to offset."""
    beat = int(np.flatnonzero(ecg.beat_class == which)[0])
    on, off = (int(np.ceil(ecg.global_marks[name][beat])) for name in ("QRS_on", "QRS_off"))
    return ecg.clean[LEADS.index(lead), on : off + 1]


def r_and_s(ecg, lead: str) -> tuple[float, float]:
    y = complexes(ecg, lead)
    return max(float(y.max()), 0.0), max(float(-y.min()), 0.0)


def peaks(y: np.ndarray, height: float) -> np.ndarray:
    """Local maxima above ``height``."""
    return np.flatnonzero((y[1:-1] >= y[:-2]) & (y[1:-1] > y[2:]) & (y[1:-1] > height)) + 1


def rr(ecg) -> np.ndarray:
    return np.diff(ecg.global_marks["QRS_on"]) / ecg.record.fs


@pytest.mark.parametrize("diagnosis", DIAGNOSES)
def test_every_diagnosis_is_a_sound_record(diagnosis):
    for seed in SEEDS:
        ecg = simulate(diagnosis, seed=seed, snr_db=20)
        assert ecg.record.signal.shape == (12, 5000)
        assert np.isfinite(ecg.record.signal).all()
        assert np.abs(ecg.record.signal).max() < 6
        assert diagnosis in ecg.diagnoses or diagnosis == "sinus"
        assert set(ecg.marks) == set(ecg.global_marks) == set(MARKS)
        beats = len(ecg.beat_class)
        assert all(ecg.marks[name].shape == (12, beats) for name in MARKS)
        assert beats >= 4
        for first, then in itertools.pairwise(("P_on", "P", "P_off", "QRS_on", "R", "QRS_off", "T_on", "T", "T_off")):
            a, b = ecg.global_marks[first], ecg.global_marks[then]
            both = np.isfinite(a) & np.isfinite(b)
            assert (a[both] <= b[both] + 1e-9).all(), (diagnosis, seed, first, then)


def test_marks_are_where_the_signal_starts_and_stops():
    """At 2 kHz, without noise: zero outside the waves, not zero just inside."""
    ecg = simulate("sinus", seed=5, fs=2000, qrs_ms=92, pr_ms=170)
    activity = np.abs(ecg.clean).max(axis=0)
    marks = ecg.global_marks
    for i in range(1, len(ecg.beat_class) - 1):
        for before, after in ((marks["T_off"][i - 1], marks["P_on"][i]), (marks["P_off"][i], marks["QRS_on"][i])):
            low, high = int(np.ceil(before)), int(np.floor(after))
            assert not activity[low : high + 1].any()
            assert (activity[[low - 4, high + 4]] > 0).all()
    assert ecg.parameters["qrs_ms"] == pytest.approx(92)
    assert ecg.parameters["pr_ms"] == pytest.approx(170)


def test_peaks_are_extrema_of_their_lead():
    ecg = simulate("sinus", seed=1, fs=1000)
    for row in range(12):
        for name, on, off in (("P", "P_on", "P_off"), ("R", "QRS_on", "QRS_off"), ("T", "T_on", "T_off")):
            for i in range(len(ecg.beat_class)):
                at = ecg.marks[name][row, i]
                if np.isnan(at):
                    continue
                start = int(np.ceil(ecg.marks[on][row, i]))
                y = np.abs(ecg.clean[row, start : int(ecg.marks[off][row, i]) + 1])
                assert y[round(at) - start] >= 0.98 * y.max()


@pytest.mark.parametrize("diagnosis", ["sinus", "lbbb", "rbbb", "atrial_flutter", "pvc"])
def test_limb_leads_are_consistent_even_in_noise(diagnosis):
    for snr_db in (None, 10):
        signal = simulate(diagnosis, seed=2, snr_db=snr_db).record.signal
        assert np.array_equal(signal[2], signal[1] - signal[0])
        assert np.array_equal(limb_leads(signal[[0, 1, 6, 7, 8, 9, 10, 11]]), signal)


def test_seeds_and_parameters():
    one, again, other = (simulate("rbbb", seed=seed, snr_db=20) for seed in (4, 4, 5))
    assert np.array_equal(one.record.signal, again.record.signal)
    assert not np.array_equal(one.record.signal, other.record.signal)
    assert len({round(simulate(seed=seed).parameters["axis_deg"]["QRS"]) for seed in range(30)}) > 15
    same = [simulate(code, seed=9).parameters["transition"] for code in ("sinus", "long_qtc", "pvc")]
    assert len(set(same)) == 1  # the patient stays the same
    ecg = simulate("sinus", seed=3, heart_rate=120, pr_ms=130, qt_ms=290, axis_deg=-50, age=44, sex="F")
    assert ecg.parameters["heart_rate"] == pytest.approx(120, rel=0.03)
    assert ecg.parameters["qt_ms"] == pytest.approx(290)
    assert ecg.diagnoses == ("left_axis_deviation", "sinus_tachycardia")
    assert ecg.record.meta == {"format": "simulated", "age": 44, "sex": "F"}


@pytest.mark.parametrize("axis", [-75, -30, 0, 45, 90, 130])
def test_axis_of_the_net_area(axis):
    ecg = simulate("sinus", seed=6, fs=2000, axis_deg=axis)
    one, avf = (complexes(ecg, lead).sum() for lead in ("I", "aVF"))
    assert np.rad2deg(np.arctan2(avf * 2 / np.sqrt(3), one)) == pytest.approx(axis, abs=0.5)
    assert ecg.parameters["axis_deg"]["QRS"] == pytest.approx(axis, abs=0.01)


@pytest.mark.parametrize("snr_db", [0, 15, 30])
def test_noise_has_the_asked_power(snr_db):
    ecg = simulate("sinus", seed=8, snr_db=snr_db, wander_mv=0.0)
    noise = ecg.record.signal - ecg.clean
    eight = [0, 1, 6, 7, 8, 9, 10, 11]
    ratio = np.mean(ecg.clean[eight] ** 2) / np.mean(noise[eight] ** 2)
    assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=0.5)


@pytest.mark.parametrize("seed", SEEDS)
def test_sinus_is_normal(seed):
    ecg = simulate("sinus", seed=seed)
    p = ecg.parameters
    assert ecg.diagnoses == ("normal_ecg", "sinus_rhythm")
    assert 60 <= p["heart_rate"] <= 100
    assert 120 <= p["pr_ms"] <= 200
    assert p["qrs_ms"] <= 110
    assert p["qtc_ms"]["bazett"] < 450
    assert p["qtc_ms"]["fridericia"] < 450
    assert -30 <= p["axis_deg"]["QRS"] <= 90
    assert r_and_s(ecg, "V1")[1] + max(r_and_s(ecg, "V5")[0], r_and_s(ecg, "V6")[0]) < 3.5
    assert r_and_s(ecg, "aVL")[0] < 1.1
    assert r_and_s(ecg, "V1")[0] < r_and_s(ecg, "V1")[1]
    assert r_and_s(ecg, "V6")[0] > r_and_s(ecg, "V6")[1]
    assert max(np.abs(list(point.values())).max() for point in p["st_mv"].values()) < 0.05
    beat = int(np.flatnonzero(np.isfinite(ecg.global_marks["P"]))[0])
    assert ecg.clean[1, round(ecg.global_marks["P"][beat])] > 0.05  # upright P in II


@pytest.mark.parametrize("seed", SEEDS)
def test_right_bundle_branch_block(seed):
    ecg = simulate("rbbb", seed=seed)
    assert ecg.parameters["qrs_ms"] >= 120
    v1 = complexes(ecg, "V1")
    humps = peaks(v1, 0.03)
    assert len(humps) == 2  # r and R'
    assert v1[humps[1]] > v1[humps[0]]
    assert v1[humps[0] : humps[1]].min() < 0.5 * v1[humps[0]]
    for lead in ("I", "V6"):
        assert np.sum(complexes(ecg, lead) < -0.02) * 2 >= 40, lead  # S of 40 ms or more
    partial = simulate("incomplete_rbbb", seed=seed)
    assert 110 <= partial.parameters["qrs_ms"] < 120
    assert len(peaks(complexes(partial, "V1"), 0.03)) == 2


@pytest.mark.parametrize("seed", SEEDS)
def test_left_bundle_branch_block(seed):
    ecg = simulate("lbbb", seed=seed)
    assert ecg.parameters["qrs_ms"] >= 120
    for lead in ("I", "V5", "V6"):
        y = complexes(ecg, lead)
        assert y[: len(y) // 2].min() > -0.01, lead  # no q
        assert y.min() > ecg.parameters["st_mv"][lead]["J"] - 0.02, lead  # and no s below the depressed ST
    assert len(peaks(complexes(ecg, "V6"), 0.2)) == 2  # notched
    r, s = r_and_s(ecg, "V1")
    assert s > 3 * r
    beat = 1
    assert ecg.clean[11, round(ecg.global_marks["T"][beat])] < 0 < ecg.clean[7, round(ecg.global_marks["T"][beat])]


@pytest.mark.parametrize("seed", SEEDS)
def test_hemiblocks(seed):
    anterior, posterior = simulate("lafb", seed=seed), simulate("lpfb", seed=seed)
    assert -90 < anterior.parameters["axis_deg"]["QRS"] < -45
    assert 90 < posterior.parameters["axis_deg"]["QRS"] < 180
    assert max(ecg.parameters["qrs_ms"] for ecg in (anterior, posterior)) < 120
    for ecg, down, up in ((anterior, ("II", "III", "aVF"), "aVL"), (posterior, ("I", "aVL"), "III")):
        for lead in down:
            r, s = r_and_s(ecg, lead)
            assert s > r > 0.02, lead
            assert complexes(ecg, lead).argmax() < complexes(ecg, lead).argmin(), lead  # rS
        q = complexes(ecg, up)
        assert q.argmin() < q.argmax()  # qR
        assert q.max() > -q.min() > 0.02


@pytest.mark.parametrize("seed", SEEDS)
def test_atrial_fibrillation_and_flutter(seed):
    fibrillation = simulate("atrial_fibrillation", seed=seed)
    assert np.isnan(fibrillation.marks["P"]).all()
    assert rr(fibrillation).std() / rr(fibrillation).mean() > 0.1
    flutter = simulate("atrial_flutter", seed=seed)
    assert rr(flutter).std() < 0.005
    assert 240 <= flutter.parameters["atrial_rate"] <= 340
    assert flutter.parameters["atrial_rate"] / flutter.parameters["heart_rate"] == pytest.approx(4, abs=0.01)
    for ecg in (fibrillation, flutter):
        end, start = round(ecg.global_marks["T_off"][0]), round(ecg.global_marks["QRS_on"][1])
        assert np.ptp(ecg.clean[6, end:start]) > 0.03  # the baseline of V1 is never still


@pytest.mark.parametrize("seed", SEEDS)
def test_av_blocks(seed):
    first = simulate("av_block_1", seed=seed)
    assert first.parameters["pr_ms"] > 200
    mobitz1, mobitz2 = simulate("av_block_2_mobitz_1", seed=seed), simulate("av_block_2_mobitz_2", seed=seed)
    for ecg in (mobitz1, mobitz2):
        assert len(ecg.extra_p) >= 1
        p = np.sort(np.concatenate([ecg.global_marks["P"], ecg.extra_p]))
        p = p[np.isfinite(p)]
        assert np.diff(p).std() / np.diff(p).mean() < 0.05  # the atria do not miss a beat
    pr = mobitz1.global_marks["QRS_on"] - mobitz1.global_marks["P_on"]
    pauses = [np.searchsorted(mobitz1.global_marks["QRS_on"], at) for at in mobitz1.extra_p]
    for i in (i for i in pauses if 2 <= i < len(pr)):
        assert not pr[i - 1] < pr[i - 2] + 5  # longer before the drop (NaN where the record cuts a P)
        assert pr[i] < pr[i - 1] - 20  # and short again after it
    pr = mobitz2.global_marks["QRS_on"] - mobitz2.global_marks["P_on"]
    assert np.nanstd(pr) < 1
    third = simulate("av_block_3", seed=seed)
    assert np.isnan(third.marks["P"]).all()
    assert rr(third).std() < 0.01
    assert third.parameters["heart_rate"] < 50 < third.parameters["atrial_rate"]
    wide = simulate("av_block_3", seed=seed, escape="ventricular")
    assert wide.parameters["qrs_ms"] > 120


@pytest.mark.parametrize("seed", SEEDS)
def test_premature_beats(seed):
    for code, name in (("pvc", "premature_ventricular"), ("pac", "premature_supraventricular")):
        ecg = simulate(code, seed=seed)
        gaps, classes = rr(ecg), ecg.beat_class
        sinus = np.median([g for g, a, b in zip(gaps, classes, classes[1:]) if a == b == "normal"])
        early = [i for i in range(1, len(classes) - 1) if classes[i] == name]
        assert early
        widths = (ecg.global_marks["QRS_off"] - ecg.global_marks["QRS_on"])[early] * 2
        for i in early:
            assert gaps[i - 1] < 0.85 * sinus
            pause = (gaps[i - 1] + gaps[i]) / sinus
            assert (pause == pytest.approx(2, abs=0.12)) if code == "pvc" else (pause < 1.9)
        p = ecg.global_marks["P"][early]
        assert np.isnan(p).all() if code == "pvc" else np.isfinite(p).all()
        assert (widths > 120).all() if code == "pvc" else (widths < 120).all()
    classes = simulate("bigeminy", seed=seed).beat_class
    assert all((a == "normal") != (b == "normal") for a, b in itertools.pairwise(classes))


@pytest.mark.parametrize("seed", SEEDS)
def test_voltages(seed):
    high = simulate("lvh", seed=seed)
    assert r_and_s(high, "V1")[1] + max(r_and_s(high, "V5")[0], r_and_s(high, "V6")[0]) >= 3.5  # Sokolow-Lyon
    assert r_and_s(high, "aVL")[0] + r_and_s(high, "V3")[1] > 2.0
    right = simulate("rvh", seed=seed)
    r, s = r_and_s(right, "V1")
    assert r > s
    assert r > 0.7
    assert right.parameters["axis_deg"]["QRS"] > 90
    low = simulate("low_voltage", seed=seed)
    for lead in LEADS:
        assert np.ptp(complexes(low, lead)) < (0.5 if lead in LEADS[:6] else 1.0)
    assert max(np.ptp(complexes(simulate(seed=seed), lead)) for lead in LEADS[:6]) > 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_pre_excitation_and_pacing(seed):
    ecg = simulate("pre_excitation", seed=seed)
    assert ecg.parameters["pr_ms"] < 120
    assert ecg.parameters["qrs_ms"] > 110
    y = complexes(ecg, "V4")
    assert np.diff(y[:16]).max() < 0.5 * np.diff(y).max()  # slurred for the first 30 ms
    paced = simulate("paced_rhythm", seed=seed)
    assert (paced.beat_class == "paced").all()
    assert paced.parameters["qrs_ms"] > 120
    at = round(paced.global_marks["QRS_on"][0])
    ms = paced.record.fs / 1000
    assert np.abs(paced.clean[:, at - round(26 * ms) : at - round(18 * ms)]).max() > 0.15  # the spike ...
    assert np.abs(paced.clean[:, at - round(16 * ms) : at]).max() < 1e-6  # ... and then nothing until the complex


@pytest.mark.parametrize("seed", SEEDS)
def test_pacing_of_the_atria(seed):
    """A stimulus and nothing else leads every P wave; alone it leaves the beats as they are."""
    both, alone = (simulate("paced_rhythm", seed=seed, chamber=c) for c in ("atrium and ventricle", "atrium"))
    for ecg in (both, alone):
        at, ms = round(ecg.global_marks["P_on"][1]), ecg.record.fs / 1000
        assert np.abs(ecg.clean[:, at - round(26 * ms) : at - round(18 * ms)]).max() > 0.15
        assert np.abs(ecg.clean[:, at - round(16 * ms) : at]).max() < 1e-6
        assert np.isfinite(ecg.global_marks["P_on"][1:]).all()
        assert not {"sinus_rhythm", "sinus_bradycardia", "av_block_1"} & set(ecg.diagnoses)
    assert (both.beat_class == "paced").all() and both.parameters["qrs_ms"] > 120
    assert (alone.beat_class == "normal").all() and alone.parameters["qrs_ms"] < 110
    blocked = simulate(("paced_rhythm", "rbbb"), seed=seed, chamber="atrium", pr_ms=240)
    assert {"paced_rhythm", "rbbb", "av_block_1"} <= set(blocked.diagnoses)
    assert "av_block_1" not in simulate("paced_rhythm", seed=seed, chamber="atrium and ventricle", pr_ms=240).diagnoses
    with pytest.raises(DataError, match="expected a chamber of ventricle, atrium, atrium and ventricle, got 'left'"):
        simulate("paced_rhythm", chamber="left")


@pytest.mark.parametrize("territory", TERRITORIES)
@pytest.mark.parametrize("code", ["st_elevation", "st_depression"])
def test_st_by_territory(code, territory):
    leads = {
        "inferior": ("II", "III", "aVF"),
        "lateral": ("I", "aVL", "V5", "V6"),
        "high_lateral": ("I", "aVL"),
        "septal": ("V1", "V2"),
        "anterior": ("V3", "V4"),
        "anteroseptal": ("V1", "V2", "V3", "V4"),
        "anterolateral": ("I", "aVL", "V3", "V4", "V5", "V6"),
        "inferolateral": ("II", "III", "aVF", "V5", "V6"),
    }[territory]
    for seed in SEEDS:
        ecg = simulate(code, seed=seed, territory=territory)
        assert code in ecg.diagnoses
        assert any(name.startswith("mi_") for name in ecg.diagnoses) == (code == "st_elevation")
        beat = 1
        j = ecg.global_marks["QRS_off"][beat]
        base = ecg.clean[:, round(ecg.global_marks["QRS_on"][beat]) - 1]
        for lead in leads:
            row = LEADS.index(lead)
            for point, ms in (("J", 0), ("J40", 40), ("J60", 60)):
                level = np.interp(j + ms / 2, np.arange(5000), ecg.clean[row]) - base[row]
                assert level == pytest.approx(ecg.parameters["st_mv"][lead][point], abs=0.03)
            at_j = ecg.parameters["st_mv"][lead]["J"]
            if code == "st_elevation":
                assert at_j >= (0.2 if lead in ("V2", "V3") else 0.1), (lead, seed)
            else:
                assert at_j <= -0.05, (lead, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_q_t_and_qt(seed):
    ecg = simulate("pathological_q", seed=seed)
    deep = []
    for lead in ("II", "III", "aVF"):
        y = complexes(ecg, lead)
        first = np.flatnonzero(y > 0.02)
        q = y[: first[0] if len(first) else len(y)]
        deep.append(np.sum(q < -0.01) * 2 >= 38 and -q.min() >= 0.1)
    assert sum(deep) >= 2
    assert ecg.diagnoses == ("mi_inferior", "pathological_q", "sinus_rhythm")
    peaked = simulate("t_peaked", seed=seed)
    assert max(peaked.parameters["amplitudes_mv"][lead]["T"] for lead in LEADS[6:]) > 0.9
    inverted = simulate("t_inversion", seed=seed).parameters["amplitudes_mv"]
    assert inverted["V3"]["T"] < -0.2 > inverted["V4"]["T"]
    assert simulate("long_qtc", seed=seed).parameters["qtc_ms"]["bazett"] > 470
    assert simulate("short_qtc", seed=seed).parameters["qtc_ms"]["bazett"] < 350


def test_combinations_and_errors():
    both = simulate(("rbbb", "lafb"), seed=2)
    assert {"rbbb", "lafb", "left_axis_deviation"} <= set(both.diagnoses)
    assert all(simulate("rbbb", seed=seed).diagnoses == ("rbbb", "sinus_rhythm") for seed in range(40))
    assert both.parameters["qrs_ms"] >= 120
    assert {"atrial_fibrillation", "lbbb"} <= set(simulate(["atrial_fibrillation", "lbbb"], seed=1).diagnoses)
    for wrong, words in (
        ({"diagnosis": "flu"}, "got 'flu'"),
        ({"diagnosis": ("pvc", "atrial_flutter")}, "at most one rhythm"),
        ({"territory": "posterior", "diagnosis": "st_elevation"}, "territory of inferior"),
        ({"heartrate": 60}, "got heartrate"),
        ({"fs": 0}, "above 0 Hz"),
        ({"seconds": 0.5}, "1.5 s"),
    ):
        with pytest.raises(DataError, match=words):
            simulate(**wrong)


def test_cohorts_are_balanced_and_apart():
    kinds = ("sinus", ("rbbb", "lafb"), "atrial_fibrillation")
    train, held_out = (list(simulate_cohort(6, seed=seed, diagnoses=kinds, seconds=4)) for seed in (0, 1))
    assert ["atrial_fibrillation" in ecg.diagnoses for ecg in train] == [False, False, True] * 2
    assert not {ecg.parameters["seed"] for ecg in train} & {ecg.parameters["seed"] for ecg in held_out}


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"qrs_ms": 50}, "qrs_ms from 60 to 240, got 50"),
        ({"p_ms": 150, "pr_ms": 140}, "p_ms from 30 to 134, got 150"),
        ({"qt_ms": 180, "qrs_ms": 150}, "qt_ms from 210 to 800"),
        ({"heart_rate": 5}, "heart_rate from 15"),
    ],
)
def test_what_cannot_be_drawn_as_asked_is_refused_with_the_range(asked, told):
    with pytest.raises(DataError, match=told):
        simulate("sinus", seed=1, **asked)
    assert simulate("sinus", seed=1, qrs_ms=60).parameters["qrs_ms"] == 60
