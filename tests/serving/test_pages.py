"""The upload page in browsers."""

import shutil

import pytest

from gem_lightning.serving.api import build_app
from helpers_serving import BROWSER, DICOM, serving, upload


def test_page_asks_for_a_file(client):
    page = client.get("/")
    assert page.status_code == 200
    assert 'type="file"' in page.text
    assert "not a medical device" in page.text


def test_a_question_is_shown_as_text(client):
    form = {"question": " Is the <axis> normal? ", "fs": "", "format": "html"}
    page = client.post("/v1/interpret", files=upload(DICOM), data=form)
    assert "Question: Is the &lt;axis&gt; normal?" in page.text


def test_people_read_a_sentence_where_programs_read_json(client):
    wrong = [("files", ("note.txt", b"hello"))]
    page = client.post("/v1/interpret", files=wrong, headers=BROWSER)
    assert page.status_code == 422
    assert "That did not work:</strong> expected" in page.text
    assert 'type="file"' in page.text  # and can try again at once
    assert client.post("/v1/interpret", files=wrong).json()["detail"].startswith("expected")
    assert "fs: " in client.post("/v1/interpret", files=upload(DICOM), data={"fs": "fast"}, headers=BROWSER).text
    assert "Not Found" in client.get("/elsewhere", headers=BROWSER).text


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(gem_small, tmp_path, width):
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with serving(build_app(gem_small)) as home:
        (tmp_path / "note.txt").write_text("hello")
        with sync_playwright() as play:
            flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
            browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
            tab = browser.new_page(viewport={"width": width, "height": 900})
            requests = []
            tab.on("request", lambda request: requests.append(request.url))
            tab.goto(home)
            tab.set_input_files("input[type=file]", tmp_path / "note.txt")
            tab.click("button")
            assert "expected" in tab.inner_text("[role=alert]")
            tab.set_input_files("input[type=file]", DICOM)
            tab.fill("textarea", "What is the rate?")
            tab.click("button")
            assert "Question: What is the rate?" in tab.inner_text("main")
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            browser.close()
    assert all(url.startswith((home, "data:")) for url in requests)
