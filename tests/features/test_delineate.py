"""Delineation against simulated truth, damage, and signals without a heart beat."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from gem_lightning.ecg.record import LEADS, EcgRecord
from gem_lightning.ecg.simulation.simulate import simulate
from gem_lightning.errors import GemError
from gem_lightning.features import Delineation, delineate, measure
from gem_lightning.features.delineation.arrays import agree, held
from gem_lightning.features.delineation.atrial import conducted_in_ratio
from gem_lightning.features.schema import MARKS


def errors_ms(found: Delineation, truth: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Differences of mutual nearest marks within 150 ms, all leads."""
    out = []
    for ours, theirs in zip(found.marks[name], truth[name]):
        ours, theirs = ours[np.isfinite(ours)], theirs[np.isfinite(theirs)]
        if len(ours) and len(theirs):
            apart = np.abs(theirs[:, None] - ours[None])
            near = apart.argmin(1)
            hit = apart.min(1) <= 0.15 * found.fs
            out.append((ours[near[hit]] - theirs[hit]) * 1000 / found.fs)
    return np.concatenate(out)


@pytest.fixture(scope="module")
def clean():
    return [(sim, delineate(sim.record)) for sim in (simulate("sinus", seed=s) for s in range(6))]


@pytest.mark.parametrize("name", [name for name in MARKS if "_" in name])
def test_boundaries_of_clean_simulated_beats(clean, name):
    error = np.concatenate([errors_ms(found, sim.marks, name) for sim, found in clean])
    assert abs(error.mean()) <= 6
    assert error.std() <= 3


def test_qrs_edges_hold_in_noise():
    noisy = [simulate("sinus", seed=s, snr_db=15) for s in range(4)]
    found = [(sim, delineate(sim.record)) for sim in noisy]
    for name in ("QRS_on", "QRS_off"):
        error = np.concatenate([errors_ms(marks, sim.marks, name) for sim, marks in found])
        assert abs(error.mean()) <= 8
        assert error.std() <= 15


def test_p_onset_keeps_off_the_t_wave_of_a_fast_rhythm():
    fast = [simulate("sinus_tachycardia", seed=s) for s in range(4)]
    error = np.concatenate([errors_ms(delineate(sim.record), sim.marks, "P_on") for sim in fast])
    assert abs(error.mean()) <= 6
    assert error.std() <= 8


@pytest.mark.parametrize("seed", range(6))
def test_wide_paced_complexes_end_before_their_t_wave(seed):
    sim = simulate("paced_rhythm", seed=seed)
    found = delineate(sim.record)
    for name in ("QRS_on", "QRS_off", "T_on"):
        assert abs(errors_ms(found, sim.marks, name).mean()) <= 8
    whole = np.nanmedian(found.global_marks["QRS_off"] - found.global_marks["QRS_on"]) * 1000 / found.fs
    assert whole == pytest.approx(sim.parameters["qrs_ms"], abs=8)


@pytest.mark.parametrize(("diagnosis", "seed"), [("lbbb", 8), ("lbbb", 34)])
def test_p_and_t_waves_beside_slow_complexes_are_no_beats(diagnosis, seed):
    sim = simulate(diagnosis, seed=seed)
    assert delineate(sim.record).beats == len(sim.beat_class)


def test_whole_beats_do_not_widen_with_noise():
    wider = []
    for seed in range(6):
        sim = simulate("sinus", seed=seed, snr_db=15)
        found = delineate(sim.record).global_marks
        wider.append(np.nanmedian(found["QRS_off"] - found["QRS_on"]) * 2 - sim.parameters["qrs_ms"])
    assert np.mean(wider) < 6


@pytest.mark.parametrize("seed", [1, 3, 6])
def test_two_steep_parts_of_a_wide_complex_are_one(seed):
    sim = simulate("lbbb", seed=seed, snr_db=25)
    found = delineate(sim.record).global_marks
    length = np.nanmedian(found["QRS_off"] - found["QRS_on"]) * 1000 / 500
    assert length == pytest.approx(sim.parameters["qrs_ms"], abs=15)


def test_small_differences_between_leads_go_and_large_ones_stay():
    marks = np.array([[100.0, np.nan], [101.0, 50.0], [99.0, 50.0], [100.0, 50.0], [120.0, np.nan]])
    drawn = agree(marks, near=4)
    assert np.array_equal(np.isnan(drawn), np.isnan(marks))
    assert np.abs(drawn[:4, 0] - 100).max() < 0.3
    assert drawn[4, 0] == pytest.approx(120, abs=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 6, 8])
def test_held_is_a_run_of_so_many(count):
    mask = np.random.default_rng(count).random((3, 40)) < 0.7
    for forward in (True, False):
        plain = np.zeros_like(mask)
        for i in range(40):
            start = i if forward else i - count + 1
            plain[:, i] = (0 <= start <= 40 - count) and mask[:, start : start + count].all(1)
        assert np.array_equal(held(mask, count, forward), plain)


@pytest.mark.parametrize("diagnosis", ["pvc", "bigeminy"])
def test_wide_beats_are_found_in_noise(diagnosis):
    alike = []
    for seed in range(4):
        sim = simulate(diagnosis, seed=seed, snr_db=20)
        found = delineate(sim.record)
        assert found.beats == len(sim.beat_class)
        alike.append(list(found.beat_class) == list(sim.beat_class))
    assert sum(alike) >= 3


def test_p_waves_in_heavy_noise_are_real():
    right = wrong = 0
    for diagnosis in ("sinus", "lvh", "rbbb", "atrial_fibrillation", "av_block_1"):
        for seed in range(4):
            sim = simulate(diagnosis, seed=seed, snr_db=5)
            for ours, theirs in zip(delineate(sim.record).marks["P"], sim.marks["P"]):
                ours, theirs = ours[np.isfinite(ours)], theirs[np.isfinite(theirs)]
                apart = np.abs(ours[:, None] - theirs[None]).min(1, initial=np.inf)
                right, wrong = right + np.sum(apart <= 75), wrong + np.sum(apart > 75)
    assert right > 200
    assert wrong <= 0.01 * (right + wrong)


def test_every_beat_is_found_once(clean):
    for sim, found in clean:
        assert found.beats == len(sim.beat_class)
        assert np.all(found.beat_class == "normal")
        assert np.abs(found.global_marks["R"] - sim.global_marks["R"]).max() <= 0.02 * found.fs


@pytest.mark.parametrize("diagnosis", ["pvc", "bigeminy", "pac", "paced_rhythm"])
def test_beat_classes(diagnosis):
    sim = simulate(diagnosis, seed=1)
    assert list(delineate(sim.record).beat_class) == list(sim.beat_class)


def test_fibrillation_has_no_p_waves():
    for seed in range(3):
        found = delineate(simulate("atrial_fibrillation", seed=seed).record)
        assert found.beats > 5
        assert np.isfinite(found.marks["P"]).mean() <= 0.05


def test_fibrillation_conducts_at_random_and_flutter_in_ratio():
    rng = np.random.default_rng(0)
    cycle = 110.0  # samples
    assert conducted_in_ratio(np.full(10, 2 * cycle), cycle)
    assert conducted_in_ratio(cycle * rng.choice([2, 3, 4], 15) + rng.normal(0, 4, 15), cycle)
    assert not conducted_in_ratio(rng.uniform(180, 500, 15), cycle)


@pytest.mark.parametrize("seed", range(4))
def test_flutter_is_seen(seed):
    found = delineate(simulate("atrial_flutter", seed=seed).record)
    assert found.flutter
    assert not np.isfinite(found.marks["P"]).any()


def test_p_waves_free_of_qrs_are_reported():
    sim = simulate("av_block_2_mobitz_2", seed=0)
    found = delineate(sim.record)
    assert len(found.extra_p) == len(sim.extra_p)
    assert np.abs(np.sort(found.extra_p) - sim.extra_p).max() < 0.04 * found.fs


def in_order(marks: dict[str, np.ndarray]) -> bool:
    column = np.stack([marks[name] for name in MARKS])  # (9, ..., beats)
    rows = np.moveaxis(column, 0, -1).reshape(-1, column.shape[-1] * 9)
    return all(np.all(np.diff(row[np.isfinite(row)]) >= 0) for row in rows)


@pytest.mark.parametrize("fs", [100, 257.3, 500, 1000])
@pytest.mark.parametrize("seconds", [2.5, 10, 30])
@pytest.mark.parametrize("diagnosis", ["sinus", "lbbb", "av_block_3", "sinus_tachycardia"])
def test_marks_stay_inside_and_in_order(fs, seconds, diagnosis):
    record = simulate(diagnosis, seed=4, fs=fs, seconds=seconds, snr_db=12).record
    found = delineate(record)
    assert found.beats or found.reason
    for values in (*found.marks.values(), *found.global_marks.values()):
        known = values[np.isfinite(values)]
        assert np.all((known >= 0) & (known <= record.samples - 1))
    assert in_order(found.marks)
    assert in_order(found.global_marks)


def vf(rng: np.random.Generator) -> np.ndarray:
    t = np.arange(5000) / 500
    sources = [np.sin(2 * np.pi * np.cumsum(rng.uniform(3.5, 6.5) + 0.5 * np.sin(0.7 * t)) / 500) for _ in range(3)]
    return rng.normal(size=(12, 3)) @ np.stack(sources) * 0.3


@pytest.mark.parametrize("kind", ["noise", "asystole", "flat", "nan", "vf"])
def test_no_beat_but_a_reason(kind):
    rng = np.random.default_rng(3)
    signal = {
        "noise": rng.normal(0, 0.2, (12, 5000)),
        "asystole": rng.normal(0, 0.004, (12, 5000)) + 0.1 * np.sin(np.arange(5000) / 300),
        "flat": np.zeros((12, 5000)),
        "nan": np.full((12, 5000), np.nan),
        "vf": vf(rng),
    }[kind]
    found = delineate(EcgRecord(signal.astype(np.float32), 500))
    assert found.beats == 0
    assert found.reason


def test_a_short_record_says_so():
    assert "short" in delineate(EcgRecord(np.zeros((12, 100), np.float32), 500)).reason


@pytest.mark.parametrize(("lead", "seed", "snr_db"), [("V3", 2, 25), ("V3", 6, 25), ("V1", 7, None), ("II", 0, 25)])
@pytest.mark.parametrize("damage", ["noise", "flat", "nan", "saturated"])
def test_one_bad_lead_leaves_the_others_alone(damage, lead, seed, snr_db):
    sim = simulate("sinus", seed=seed, snr_db=snr_db)
    signal = sim.record.signal.copy()
    good = delineate(sim.record)
    row = LEADS.index(lead)
    signal[row] = {
        "noise": np.random.default_rng(0).normal(0, 1, signal.shape[1]),
        "flat": 0.0,
        "nan": np.nan,
        "saturated": np.clip(signal[row] * 50, -5, 5),
    }[damage]
    found = delineate(sim.record.with_signal(signal))
    rest = [i for i in range(12) if i != row]
    assert found.beats == good.beats
    assert found.trust[row] == 0
    for name in MARKS:
        ours, theirs = found.marks[name][rest], good.marks[name][rest]
        assert np.isfinite(ours).sum() == np.isfinite(theirs).sum()
        apart = np.abs(ours - theirs)
        assert np.nanquantile(apart, 0.98) <= 0.004 * 500


def test_other_lead_sets_and_an_unknown_stretch():
    record = simulate("sinus", seed=1).record
    two = EcgRecord(record.signal[[1, 7]], record.fs, ("II", "V2"))
    assert delineate(two).beats == delineate(record).beats
    signal = record.signal.copy()
    signal[:, 1000:1100] = np.nan
    assert delineate(record.with_signal(signal)).beats >= delineate(record).beats - 1


def test_unknown_backend():
    with pytest.raises(GemError, match="native"):
        delineate(simulate("sinus").record, backend="matlab")


def test_neurokit_backend_finds_the_same_beats():
    record = simulate("sinus", seed=1).record
    assert abs(delineate(record, backend="neurokit2").beats - delineate(record).beats) <= 1


def test_ludb_experts(shared_data):
    """The first twenty odd records: loose bounds, the full figures are in docs/features.md."""
    wfdb = pytest.importorskip("wfdb")
    folder = shared_data / "ludb_odd"
    if not folder.is_dir():
        pytest.skip("LUDB is not here")
    wanted = {"p": "P_on", "N": "QRS_on", "t": "T_on"}
    truth_count, hits, errors = dict.fromkeys(wanted.values(), 0), dict.fromkeys(wanted.values(), 0), {}
    for row in list(csv.DictReader((folder / "ludb.csv").open(newline="")))[:20]:
        path = str(folder / "data" / row["ID"].strip())
        signal = wfdb.rdrecord(path, physical=False).d_signal.T / 1000
        found = delineate(EcgRecord(signal.astype(np.float32), 500, LEADS))
        note = wfdb.rdann(path, "ii")
        for symbol, name in wanted.items():
            onset = [note.sample[k - 1] for k, s in enumerate(note.symbol) if s == symbol and note.symbol[k - 1] == "("]
            ours = found.marks[name][1]
            ours = ours[np.isfinite(ours)]
            for sample in onset:
                apart = np.abs(ours - sample).min(initial=np.inf)
                truth_count[name] += 1
                hits[name] += apart <= 75
                if apart <= 75:
                    errors.setdefault(name, []).append(2 * apart)
    for name in truth_count:
        assert hits[name] >= 0.96 * truth_count[name]
    assert np.median(errors["QRS_on"]) <= 10
    assert np.median(errors["P_on"]) <= 14


def test_pieces_of_a_beat_have_beats_or_a_reason():
    record = simulate("sinus", seed=3).record
    for start in range(0, 2000, 23):
        piece = EcgRecord(record.signal[:, start : start + 505], record.fs)
        found = delineate(piece)
        assert bool(found.beats) != bool(found.reason)
        assert bool(measure(piece, found).reason) == (not found.beats)


# -- P waves of uneven rhythms, mains, fast and slow rates ------------------------------------------------------------


@pytest.mark.parametrize("every", [2, 3, 4])
def test_premature_beats_cost_no_p_wave(every):
    for seed in range(8):
        for snr_db in (None, 20):
            sim = simulate("pac", seed=seed, every=every, snr_db=snr_db)
            true = np.isfinite(sim.marks["P"]).any(0).sum()
            found = np.isfinite(delineate(sim.record).global_marks["P"]).sum()
            assert found >= 0.8 * true, (seed, snr_db)


def test_fibrillation_has_no_p_wave_and_flutter_keeps_time():
    for seed in range(12):
        fibrillation = delineate(simulate("atrial_fibrillation", seed=seed, snr_db=20).record)
        assert not np.isfinite(fibrillation.global_marks["P"]).any()
        assert not fibrillation.flutter
        flutter = delineate(simulate("atrial_flutter", seed=seed, snr_db=20).record)
        assert flutter.flutter
        assert not np.isfinite(flutter.global_marks["P"]).any()


@pytest.mark.parametrize("hertz", [50, 60])
def test_strong_mains_change_neither_p_waves_nor_rhythm(hertz):
    for seed in range(8):
        record = simulate("sinus", seed=seed, snr_db=25).record
        wave = 0.3 * np.sin(2 * np.pi * hertz * np.arange(record.samples) / record.fs)
        clean, found = delineate(record), delineate(record.with_signal((record.signal + wave).astype(np.float32)))
        assert not found.flutter
        assert np.isfinite(found.global_marks["P"]).sum() == np.isfinite(clean.global_marks["P"]).sum()


@pytest.mark.parametrize(("rate", "least"), [(135, 12), (155, 12), (165, 12)])  # of 12
def test_fast_sinus_rhythm_keeps_its_p_waves(rate, least):
    share = [
        np.isfinite(
            delineate(simulate("sinus_tachycardia", seed=seed, heart_rate=rate, snr_db=25).record).global_marks["P"]
        ).mean()
        for seed in range(12)
    ]
    assert sum(s > 0.7 for s in share) >= least


@pytest.mark.parametrize("rate", [130, 138, 155, 165])
def test_the_flank_of_a_t_wave_is_no_p_wave(rate):
    for seed in range(8):
        record = simulate("sinus_tachycardia", seed=seed, heart_rate=rate, snr_db=25, p_mv=0.002).record
        assert not np.isfinite(delineate(record).global_marks["P"]).any(), seed


def test_a_clean_trace_at_30_a_minute_is_not_flat():
    found = delineate(simulate("sinus_bradycardia", seed=0, heart_rate=30).record)
    assert found.reason is None
    assert found.beats == 5


def test_a_ventricular_beat_coupled_at_370_ms_is_a_beat():
    sim = simulate("pvc", seed=1, every=5, heart_rate=75)
    early = np.median(np.diff(np.nanmedian(sim.marks["R"], axis=0)).min())
    shift = round(early - 0.37 * sim.record.fs)  # cut out what is longer than 370 ms before the second early beat
    at = int(np.nanmedian(sim.marks["R"], axis=0)[np.diff(np.nanmedian(sim.marks["R"], axis=0)).argmin()] + 0.2 * 500)
    signal = np.delete(sim.record.signal, np.s_[at : at + shift], axis=1)
    rr = np.diff(delineate(EcgRecord(signal, sim.record.fs)).global_marks["R"]) * 2
    assert rr.min() == pytest.approx(370, abs=30)


def test_p_waves_of_qtdb(shared_data):
    wfdb = pytest.importorskip("wfdb")
    for name in ("sel40", "sel46", "sel48"):  # their RR or their single lead once cost them all
        raw = wfdb.rdrecord(str(shared_data / "qtdb_odd" / name))
        share = []
        for row in raw.p_signal.T:
            marks = delineate(EcgRecord(row[None].astype(np.float32), float(raw.fs), ("II",)))
            share.append(np.isfinite(marks.global_marks["P"]).mean())
        assert max(share) > 0.8, name
