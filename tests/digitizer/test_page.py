"""Whole pages: what is read, what is refused, and that the reader, the measurements and the pictures follow from it."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gem_lightning.digitizer import digitize
from gem_lightning.ecg import LEADS, quality, read_ecg, simulate
from gem_lightning.errors import EcgReadError, RenderError
from gem_lightning.features import measure
from gem_lightning.render import EcgRenderer


@pytest.fixture(scope="module")
def record():
    return simulate("sinus", seed=3).record


@pytest.fixture(scope="module")
def page(record):
    return EcgRenderer(layout="3x4+1", dpi=150, style="red", artifacts="scan")(record, seed=1)


@pytest.fixture(scope="module")
def found(page):
    return digitize(page.image)


def decibels(truth, read):
    ok = np.isfinite(read)
    error = (read - truth)[ok]
    return 10 * np.log10(np.var(truth[ok]) / np.var(error))


def test_a_scan_is_read(found, record, page):
    assert found.refused is None and found.layout == "3x4+1" and (found.speed, found.gain) == (25.0, 10.0)
    assert found.record.leads == LEADS and found.record.fs == 500 and not found.notes
    snr = {}
    for trace in page.geometry.flat.traces if page.geometry.flat else page.geometry.traces:
        start, stop = int(trace.t0 * 500), int(trace.t1 * 500) - 10
        lead = LEADS.index(trace.lead)
        snr[trace.lead] = decibels(record.signal[lead, start:stop], found.record.signal[lead, start:stop])
    assert np.median(list(snr.values())) > 13 and min(snr.values()) > 5


def test_trust_is_where_the_page_shows_something(found):
    shown = np.isfinite(found.record.signal)
    assert found.trust.shape == shown.shape and (found.trust[~shown] == 0).all()
    assert found.trust[shown].mean() > 0.7
    assert shown[LEADS.index("II")].mean() > 0.99  # the rhythm strip
    assert shown[LEADS.index("V6")].mean() == pytest.approx(0.25, abs=0.02)


def test_a_digitised_record_is_judged_as_one_that_was_read(found):
    assert found.record.meta["paper"]["layout"] == "3x4+1"
    assert set(found.lead_trust) == set(LEADS) and min(found.lead_trust.values()) > 0.5
    assert quality(found.record).verdict != "unusable"  # its leads are shown in part, not missing


def test_a_place_on_the_image_is_a_time_and_a_voltage(found, page):
    mapping, geometry = found.mapping, page.geometry
    trace = geometry.traces[-1]  # the rhythm strip
    row = int(np.argmax(mapping.baselines))
    times = np.array([1.0, 5.0, 9.0])
    flat = np.stack([mapping.x0 + times * mapping.px_per_s, np.full(3, mapping.baselines[row])], -1)
    assert np.allclose(mapping.to_signal(flat, row), np.stack([times * 1000, np.zeros(3)], -1))
    true = geometry.locate(len(geometry.traces) - 1, times, np.zeros(3))
    away = np.linalg.norm(mapping.flat.to_image(flat) - true, axis=1) / geometry.px_per_mm
    assert trace.lead == "II" and away.max() < 0.5  # mm


def test_measurements_of_the_paper_are_those_of_the_record(found, record):
    paper, truth = measure(found.record), measure(record)
    assert paper.heart_rate_bpm == pytest.approx(truth.heart_rate_bpm, abs=1)
    assert paper.qrs_ms == pytest.approx(truth.qrs_ms, abs=15)
    assert paper.qt_ms == pytest.approx(truth.qt_ms, abs=20)


def test_the_overlay_is_the_flat_page_with_what_was_read(found):
    overlay = found.overlay()
    assert overlay.shape == found.page.shape and overlay.dtype == np.uint8
    blue = (overlay[..., 2] > 150) & (overlay[..., 0] < 60)
    assert blue.sum() > 2000


def test_a_layout_that_the_leads_contradict_is_refused(page):
    assert "do not agree" in digitize(page.image, layout="cabrera-3x4+1").refused
    assert "rows" in digitize(page.image, layout="12x1").refused
    with pytest.raises(RenderError, match="expected layout auto or one of"):
        digitize(page.image, layout="3x5")


def lines_of_text():
    image = Image.new("RGB", (1000, 1300), "white")
    draw = ImageDraw.Draw(image)
    for k in range(40):
        draw.text((60, 60 + 28 * k), "Discharge summary: the patient was seen on the ward " * 2, fill="black")
    return np.asarray(image)


def chart():
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(8, 5), dpi=120)
    plt.plot(np.cumsum(np.random.default_rng(0).normal(size=500)))
    figure.canvas.draw()
    image = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
    plt.close(figure)
    return image


def clouds():
    rng = np.random.default_rng(1)
    small = rng.integers(0, 255, (30, 40, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((1200, 900), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("draw", [lambda: np.full((1000, 1400, 3), 255, np.uint8), lines_of_text, chart, clouds])
def test_what_is_no_ecg_is_refused(draw):
    found = digitize(draw())
    assert found.refused and found.record is None


def test_paper_without_traces_is_refused(record):
    image = EcgRenderer(layout="3x4+1", dpi=110)(record, seed=0).image.copy()
    image[(image.max(2) < 140)] = 255  # traces and letters
    assert digitize(image).refused


def test_an_image_is_a_file_like_any_other(record, page, tmp_path):
    data = io.BytesIO()
    Image.fromarray(page.image).save(data, "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = read_ecg(data.getvalue(), leads="any")
    assert read.meta["format"] == "paper" and read.meta["paper"]["layout"] == "3x4+1"
    assert any("digitised from paper" in note for note in read.meta["notes"])
    with pytest.raises(EcgReadError, match="no grid of ECG paper"):
        blank = io.BytesIO()
        Image.fromarray(lines_of_text()).save(blank, "PNG")
        read_ecg(blank.getvalue())


def test_a_pdf_page_is_a_page(record, tmp_path):
    path = EcgRenderer(layout="3x4+1").save(record, tmp_path / "ecg.pdf")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = read_ecg(path)
    assert read.meta["paper"]["layout"] == "3x4+1"
    assert measure(read).heart_rate_bpm == pytest.approx(measure(record).heart_rate_bpm, abs=1)
