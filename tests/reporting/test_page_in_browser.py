"""The result page in a browser: what a reader can do with it, at both widths, in light and dark."""

import io

import numpy as np
import pytest
from PIL import Image

from gem_lightning.composition.compose import compose
from gem_lightning.ecg import simulate
from gem_lightning.features import measure
from gem_lightning.reporting.interpretation import Interpretation
from helpers_browser import WIDTHS, accessibility_faults, chromium, watched

pytestmark = pytest.mark.slow


def made(diagnosis="st_elevation", seconds=10, extra=""):
    record = simulate(diagnosis, seed=3, snr_db=28, seconds=seconds).record
    features = measure(record)
    return Interpretation.of(compose(features, seed=2) + extra, record, features=features)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    stemi = made(extra=" Left bundle branch block. QRS 125 ms. U waves in V2.")
    flat = Interpretation.of("", stemi.record.with_signal(np.zeros_like(stemi.record.signal)))
    for name, found in {"stemi": stemi, "flat": flat, "long": made("pvc", seconds=25)}.items():
        (folder / f"{name}.html").write_text(found.to_html(file_name=f"{name}.dcm"), encoding="utf-8")
    (folder / "stemi.pdf").write_bytes(stemi.to_pdf())
    return folder, stemi


@pytest.mark.parametrize("width", WIDTHS)
def test_a_reader_uses_the_page(pages, width):
    folder, stemi = pages
    with chromium() as browser:
        tab, faults = watched(browser.new_context(viewport={"width": width, "height": 900}), "file:")
        tab.goto((folder / "stemi.html").as_uri())
        strips = 13 if width > 700 else 12
        assert tab.locator("path.trace").count() == strips + (4 if width > 700 else 1)  # and calibration pulses

        tab.locator("a.c", has_text="ST elevation").first.click()
        marked = len(stemi.features.beats)
        assert tab.locator("rect.strip").count() == (4 if width > 700 else 3)  # II, III, aVF; II also as rhythm strip
        assert marked <= tab.locator("rect.wave").count() <= 3 * marked + 3
        assert "agrees with the measurement" in tab.inner_text("[data-panel]")
        tab.locator("[data-panel] .close").click()

        tab.select_option("[data-do=lead]", "III")
        assert "ST elevation" in tab.inner_text("[data-panel]")
        tab.locator("[data-panel] .close").click()
        tab.locator(".paper").focus()
        tab.keyboard.press("m")
        assert tab.locator(".marks circle").count() > 9 * marked
        tab.keyboard.press("c")
        before = tab.inner_text("[data-readout]")
        for _ in range(5):
            tab.keyboard.press("Shift+ArrowRight")
        assert "200 ms" in before
        assert "300 ms" in tab.inner_text("[data-readout]")
        tab.keyboard.press("Escape")
        assert tab.inner_text("[data-readout]") == ""
        width_before = tab.locator(".paper svg").bounding_box()["width"]
        tab.keyboard.press("+")
        assert tab.locator(".paper svg").bounding_box()["width"] > 1.4 * width_before
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        for scheme in ("light", "dark"):
            tab.emulate_media(color_scheme=scheme)
            assert accessibility_faults(tab) == []
        tab.goto((folder / "flat.html").as_uri())
        assert "not interpreted" in tab.inner_text(".refused")
        assert tab.locator(".reading").count() == 0
        assert accessibility_faults(tab) == []
        assert faults == []


def test_calipers_measure_what_the_signal_is(pages):
    folder, _ = pages
    with chromium() as browser:
        tab, faults = watched(browser.new_context(viewport={"width": 1280, "height": 900}), "file:")
        tab.goto((folder / "long.html").as_uri())
        tab.click("[data-do=calipers]")
        scale = tab.locator(".paper svg").bounding_box()["width"] / 266  # px per mm: 12 mm, 10 s at 25 mm/s, 4 mm
        box = tab.locator(".paper svg").bounding_box()
        x, y = box["x"] + (12 + 2 * 62.5 + 8) * scale, box["y"] + 24 * scale  # in V1
        tab.mouse.move(x, y)
        tab.mouse.down()
        tab.mouse.move(x + 10 * scale, y - 5 * scale)
        tab.mouse.up()
        text = tab.inner_text("[data-readout]")
        assert "400 ms, 0.50 mV" in text and "150 bpm" in text
        tab.click("[data-do=later]")
        assert "10 to 20 s" in tab.get_attribute(".paper svg", "aria-label")
        with tab.expect_download() as download:
            tab.click("[data-do=png]")
        image = Image.open(download.value.path())
        assert image.width == 2660
        assert np.asarray(image.convert("L")).min() < 60  # the trace
        assert faults == []


def test_the_pdf_shows_the_record_in_true_millimetres(pages):
    folder, stemi = pages
    (folder / "pdf.html").write_text(
        '<body style="margin:0"><embed src="stemi.pdf#toolbar=0&view=Fit" type="application/pdf" '
        'width="1500" height="1070">'
    )
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": 1500, "height": 1070})
        tab.goto((folder / "pdf.html").as_uri())
        for _ in range(20):  # the viewer draws when it is ready, and reports nothing
            tab.wait_for_timeout(500)
            image = np.asarray(Image.open(io.BytesIO(tab.screenshot())).convert("RGB")).astype(float)
            if (image.min(axis=2) > 250).mean() > 0.2:
                break
    sheet = np.argwhere(image.min(axis=2) > 200)
    (top, left), right = sheet.min(0), sheet[:, 1].max()
    scale = (right - left + 1) / 297  # px per mm of an A4 sheet
    dark = image.max(axis=2) < 110
    from gem_lightning.render import EcgRenderer
    from gem_lightning.reporting.pdf import _ECG_BOTTOM, _ECG_TOP, A4

    slot = EcgRenderer(page={"paper": (A4[0] - 10, A4[1] - _ECG_TOP - _ECG_BOTTOM), "footer": ""}).scene.slots[-1]
    y0 = top + (_ECG_TOP + slot.baseline) * scale
    rows = np.arange(int(y0 - 12 * scale), int(y0 + 6 * scale))
    times = np.arange(0.1, 9.9, 0.04)
    columns = np.round(left + (5 + slot.x + times * 25) * scale).astype(int)
    seen = []
    for column in columns:
        found = rows[dark[rows, column]]
        seen.append((y0 - found.mean()) / scale / 10 if len(found) else np.nan)  # mV
    true = stemi.record.lead("II")[np.round(times * stemi.record.fs).astype(int)]
    known = np.isfinite(seen)
    assert known.mean() > 0.9
    assert np.median(np.abs(np.array(seen)[known] - true[known])) < 0.05  # half a small square
    assert np.corrcoef(np.array(seen)[known], true[known])[0, 1] > 0.9
