"""What paper holds: each lead for a part of the time. Measurements from that agree with those of the whole record."""

import numpy as np
import pytest

from gem_lightning.ecg import LEADS, EcgRecord, simulate
from gem_lightning.features import findings, measure
from gem_lightning.render.layout import find_layout

CODES = ("sinus", "lbbb", "rbbb", "st_elevation", "av_block_1", "sinus_tachycardia", "lafb", "t_inversion")


def on_paper(record, layout):
    """The record with NaN where a page of this layout shows nothing."""
    signal = np.full_like(record.signal, np.nan)
    rows, rhythm, _ = find_layout(layout)
    for row in [*rows, *([lead] for lead in rhythm)]:
        edges = [k * record.samples // len(row) for k in range(len(row) + 1)]
        for name, a, b in zip(row, edges[:-1], edges[1:], strict=True):
            lead = LEADS.index(name)
            signal[lead, a:b] = record.signal[lead, a:b]
    return EcgRecord(signal, record.fs, LEADS, record.meta)


@pytest.mark.parametrize("layout", ["3x4", "3x4+1", "6x2", "3x4+3"])
@pytest.mark.parametrize("code", CODES)
def test_a_page_gives_the_measurements_of_the_record(code, layout):
    record = simulate(code, seed=5).record
    whole, page = measure(record), measure(on_paper(record, layout))
    assert page.heart_rate_bpm == pytest.approx(whole.heart_rate_bpm, abs=1)
    for name, limit in (("pr_ms", 15), ("qrs_ms", 10), ("qt_ms", 15)):
        if getattr(whole, name) is not None:
            assert getattr(page, name) == pytest.approx(getattr(whole, name), abs=limit), name
    for wave in ("QRS", "T"):
        away = abs(page.axis_deg[wave] - whole.axis_deg[wave]) % 360
        assert min(away, 360 - away) < 15, wave
    for lead in LEADS:
        assert page.leads[lead].trust > 0
        assert page.st_mv[lead]["J"] == pytest.approx(whole.st_mv[lead]["J"], abs=0.05), lead
    named = {f.code for f in findings(page)}
    assert {code} & {f.code for f in findings(whole)} <= named


@pytest.mark.parametrize("layout", ["3x4", "3x4+1", "6x2"])
def test_fibrillation_on_paper_has_no_p_waves(layout):
    for seed in range(4):
        page = measure(on_paper(simulate("atrial_fibrillation", seed=seed).record, layout))
        assert page.pr_ms is None
        assert "av_block_2_mobitz_2" not in {f.code for f in findings(page)}


def test_a_lead_without_a_beat_is_not_measured():
    record = simulate("sinus", seed=1).record
    signal = record.signal.copy()
    signal[3, 200:] = np.nan  # 0.4 s of aVR
    page = measure(EcgRecord(signal, record.fs, LEADS))
    assert page.leads["aVR"].qrs_mv is None
    assert page.leads["I"].qrs_mv is not None


@pytest.mark.parametrize("layout", ["3x4", "3x4+1", "6x2"])
def test_noise_and_a_flat_line_on_paper_hold_no_beats(layout):
    noise = np.random.default_rng(0).normal(0, 0.2, (12, 5000)).astype(np.float32)
    for signal in (noise, np.zeros_like(noise)):
        page = measure(on_paper(EcgRecord(signal, 500.0, LEADS), layout))
        assert page.heart_rate_bpm is None
        assert page.reason
