"""The page of an interpretation: complete by itself, true to its record, readable on a phone."""

import re
import shutil

import pytest

from gem_lightning.ecg import simulate
from gem_lightning.features import measure
from gem_lightning.render import EcgRenderer
from gem_lightning.reporting.html import Table
from gem_lightning.reporting.interpretation import Interpretation


@pytest.fixture(scope="module")
def page():
    record = simulate("rbbb", seed=4, snr_db=30).record
    features = measure(record)
    wrong = features.qrs_ms + 90
    text = f"Sinus rhythm at {features.heart_rate_bpm:.0f} bpm. QRS {wrong:.0f} ms <script>alert(1)</script>."
    image = EcgRenderer(size=(1000, 1294))(record).image
    extra = Table("On held-out ECGs", ["", "model"], [["rate", "3.1"]], "a note")
    return Interpretation.of(text, record, seen=image, features=features).to_html(extra_tables=(extra,))


def test_self_contained(page):
    assert not re.search(r"(src|href)=[\"'](?!data:)", page)
    assert "@import" not in page and "url(http" not in page
    assert page.count("<!doctype html>") == 1


def test_verdicts_and_measurements_are_on_the_page(page):
    assert "badge supported" in page
    assert "badge contradicted" in page
    assert "Research software, not a medical device" in page
    assert "On held-out ECGs" in page
    for lead in ("aVR", "V6"):
        assert f"<td>{lead}</td>" in page


def test_a_page_is_small_enough_for_a_mail(page):
    assert len(page) < 600_000


def test_text_of_a_model_cannot_carry_markup(page):
    assert "<script>" not in page


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_fits_the_screen(page, tmp_path, width):
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
        )
        tab = browser.new_page(viewport={"width": width, "height": 900})
        asked = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto((tmp_path / "page.html").as_uri())
        wide = tab.evaluate("document.documentElement.scrollWidth")
        width_of_image = tab.evaluate(
            "(() => { const i = document.querySelector('.ecg img'); return i.naturalWidth })()"
        )
        browser.close()
    assert wide <= width
    assert width_of_image == 1294
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
