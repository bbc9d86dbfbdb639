"""Each fault is found where it was put, and real good recordings are left alone."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from gem_lightning.ecg import EcgRecord, quality, read_ecg, simulate
from gem_lightning.ecg.leads import swap_electrodes
from gem_lightning.ecg.quality import partly_known


def record(seed=0, snr_db=28, **options):
    return simulate("sinus", seed=seed, snr_db=snr_db, **options).record


def changed(base: EcgRecord, lead: str, values) -> EcgRecord:
    signal = base.signal.copy()
    signal[base.leads.index(lead)] = values
    return base.with_signal(signal)


def faults(judged) -> set[str]:
    return {reason.split(":")[0] for reason in judged.reasons}


@pytest.mark.parametrize("seed", range(8))
def test_good_recordings_are_usable(seed):
    for fs in (250, 500, 1000):
        judged = quality(record(seed, fs=fs))
        assert judged.verdict == "usable", judged.reasons
        assert all(lead.trust == 1 for lead in judged.leads.values())


def test_flat_lead():
    judged = quality(changed(record(), "V3", 0.0))
    assert judged.verdict == "care"
    assert judged.leads["V3"].verdict == "unusable"
    assert judged.leads["V3"].reasons == ("flat",)
    assert judged.reasons == ("flat: V3 (no signal)",)


def test_constant_offset_is_flat_too():
    assert "flat" in quality(changed(record(), "V3", 1.2)).leads["V3"].reasons


def test_mostly_dead_recording_is_unusable():
    base = record()
    assert quality(base.with_signal(np.zeros_like(base.signal))).verdict == "unusable"


def test_saturation():
    base = record()
    judged = quality(changed(base, "V4", np.clip(base.lead("V4") * 3, -0.3, 0.5)))
    assert "saturated" in judged.leads["V4"].reasons
    assert quality(base).leads["V4"].reasons == ()


@pytest.mark.parametrize(("step_mv", "flagged"), [(0.05, True), (0.025, True), (0.01, False), (0.005, False)])
def test_coarse_steps(step_mv, flagged):
    base = record()
    judged = quality(base.with_signal((np.round(base.signal / step_mv) * step_mv).astype(np.float32)))
    assert ("coarse" in faults(judged)) == flagged
    assert all(("coarse" in lead.reasons) == flagged for lead in judged.leads.values())
    if flagged:
        assert judged.verdict == "care"
        assert all(lead.step_mv == pytest.approx(step_mv, abs=0.001) for lead in judged.leads.values())


def test_coarse_steps_of_real_recordings(shared_data):
    for path in sorted((shared_data / "cinc2021").glob("*.hea"))[::4]:
        real = read_ecg(path)
        assert "coarse" not in faults(quality(real)), path.stem
        rounded = real.with_signal((np.round(real.signal / 0.05) * 0.05).astype(np.float32))
        assert "coarse" in faults(quality(rounded)), path.stem


@pytest.mark.parametrize("mains_hz", [50, 60])
def test_mains(mains_hz):
    base = record(snr_db=35)
    hum = 0.1 * np.sin(2 * np.pi * mains_hz * np.arange(base.samples) / base.fs)
    judged = quality(changed(base, "V2", base.lead("V2") + hum))
    assert "mains" in judged.leads["V2"].reasons
    assert judged.leads["V2"].mains_mv == pytest.approx(0.1, abs=0.01)
    assert faults(judged) <= {"mains", "noise"}


def test_noise_by_its_size():
    rng = np.random.default_rng(0)
    base = record(snr_db=35)
    care = quality(changed(base, "V5", base.lead("V5") + 0.07 * rng.standard_normal(base.samples)))
    lost = quality(changed(base, "V5", base.lead("V5") + 0.4 * rng.standard_normal(base.samples)))
    assert (care.leads["V5"].verdict, lost.leads["V5"].verdict) == ("care", "unusable")


def test_wander_and_missing():
    base = record()
    slow = np.sin(2 * np.pi * 0.2 * np.arange(base.samples) / base.fs)
    assert "wander" in quality(changed(base, "V6", base.lead("V6") + slow)).leads["V6"].reasons
    part, most = base.lead("V1").copy(), base.lead("V1").copy()
    part[100:600], most[100:] = np.nan, np.nan
    assert quality(changed(base, "V1", part)).leads["V1"].verdict == "care"
    assert quality(changed(base, "V1", most)).leads["V1"].verdict == "unusable"


def test_short():
    assert "short" in faults(quality(record(seconds=4)))
    judged = quality(record(seconds=10).with_signal(record(seconds=10).signal[:, :900]))
    assert judged.verdict == "unusable"
    assert judged.reasons[0].startswith("short: 1.8 s")


@pytest.mark.parametrize("electrodes", ["LA-RA", "RA-LL"])
def test_swapped_electrodes(electrodes):
    found = sum(
        any(electrodes in reason for reason in quality(swap_electrodes(record(seed), electrodes)).reasons)
        for seed in range(20)
    )
    assert found >= 16


def test_exchanged_lead_names():
    base = record(3)
    signal = base.signal.copy()
    signal[[4, 5]] = signal[[5, 4]]
    assert any("aVL and aVF have each other's names" in reason for reason in quality(base.with_signal(signal)).reasons)


def test_single_lead_gain():
    base = record(3)
    judged = quality(changed(base, "III", 1.8 * base.lead("III") + 0.3 * base.lead("I")))
    assert any(reason.startswith("inconsistent: III do not follow") for reason in judged.reasons)


def test_fewer_leads_and_nan_only():
    few = EcgRecord(record().signal[:2], 500, ("I", "II"))
    assert quality(few).verdict == "usable"
    nothing = EcgRecord(np.full((12, 5000), np.nan), 500)
    assert quality(nothing).verdict == "unusable"


def test_real_recordings(shared_data):
    verdicts, swaps = [], 0
    for path in sorted((shared_data / "cinc2021").glob("*.hea")):
        judged = quality(read_ecg(path))
        verdicts.append(judged.verdict)
        swaps += "swapped" in faults(judged)
    assert swaps == 0
    assert verdicts.count("usable") >= 15
    assert "unusable" not in verdicts
    dead = quality(read_ecg(shared_data / "cinc2021" / "JS20004.hea"))
    assert [name for name, lead in dead.leads.items() if "flat" in lead.reasons] == ["V2", "V4", "V6"]
    judged = quality(read_ecg(shared_data / "ludb_odd" / "data" / "1.hea"))
    assert "inconsistent" in faults(judged)  # its header gains are normalised lead by lead


def test_without_scipy_or_wfdb():
    program = (
        "import sys\nfor name in ('scipy', 'wfdb', 'pydicom', 'pandas', 'defusedxml', 'h5py'):\n"
        "    sys.modules[name] = None\n"
        "from gem_lightning.ecg import simulate, quality\nprint(quality(simulate().record).verdict)"
    )
    import subprocess

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "usable", done.stderr


def excerpts(record, meta):
    """Four columns of 2.5 s, as a page shows three leads each."""
    signal = np.full_like(record.signal, np.nan)
    for column in range(4):
        shown = slice(column * record.samples // 4, (column + 1) * record.samples // 4)
        signal[3 * column : 3 * column + 3, shown] = record.signal[3 * column : 3 * column + 3, shown]
    return EcgRecord(signal, record.fs, record.leads, meta)


def test_a_page_is_judged_on_what_it_shows():
    clean = simulate("sinus", seed=3, snr_db=30).record
    noisy = simulate("sinus", seed=3, snr_db=-8).record
    assert quality(excerpts(clean, {"paper": {}})).verdict == "usable"
    assert quality(excerpts(noisy, {"paper": {}})).verdict == "unusable"
    assert quality(excerpts(clean, {})).verdict == "usable"  # saved in a format that does not say where it is from
    nothing = excerpts(clean, {"paper": {}})
    assert quality(nothing.with_signal(np.full_like(clean.signal, np.nan))).verdict == "unusable"


def test_a_record_is_known_in_part_where_a_fifth_of_it_is_missing():
    whole = record()
    assert partly_known(whole) is None
    lost = changed(whole, "V1", np.nan)
    assert partly_known(lost) is None  # a twelfth
    lost = changed(changed(lost, "V2", np.nan), "V3", np.nan)
    assert partly_known(lost) == "25% of the 12 leads missing"
    assert partly_known(EcgRecord(whole.signal[:2], whole.fs, whole.leads[:2])) == "83% of the 12 leads missing"
    assert "paper, 25% of the 12 leads shown" in partly_known(excerpts(whole, {"paper": {}}))


def test_a_digitised_page_is_judged_alike_from_every_format(tmp_path):
    from gem_lightning.ecg.writers import write_ecg
    from gem_lightning.features import measure

    record = simulate("rbbb", seed=2, snr_db=30).record
    signal = np.full_like(record.signal, np.nan)
    quarter = record.samples // 4
    for row in range(12):  # three rows of four excerpts, as on a 3x4 page
        column = row // 3
        signal[row, column * quarter : (column + 1) * quarter] = record.signal[
            row, column * quarter : (column + 1) * quarter
        ]
    signal[1] = record.signal[1]
    page = replace(record, signal=signal, meta={"paper": {}})
    write_ecg(page, tmp_path / "page.dcm")
    again = read_ecg(tmp_path / "page.dcm")
    assert quality(page).verdict == quality(again).verdict == "usable"
    assert measure(again).scale_error is None
    assert measure(again).qrs_ms == pytest.approx(measure(page).qrs_ms, abs=4)
