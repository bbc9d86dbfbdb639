"""The page for people: its routes, and a visit in a browser from the first click to the downloads."""

import io
import json
import shutil
import zipfile

import pytest
from fastapi.testclient import TestClient

from gem_lightning.ecg import read_ecg, simulate
from gem_lightning.render import EcgRenderer
from gem_lightning.serving.api import build_app
from gem_lightning.serving.limits import Limits
from gem_lightning.serving.pages import SAMPLES
from helpers_browser import WIDTHS, accessibility_faults, chromium, watched
from helpers_serving import BROWSER, DICOM, events, serving, upload


def test_page_asks_for_a_file_and_holds_no_script_of_its_own(client):
    page = client.get("/")
    assert page.status_code == 200
    assert 'type="file"' in page.text
    assert page.text.count("not a medical device") == 1
    assert "<style" not in page.text and " style=" not in page.text
    for line in page.text.splitlines():
        if "<script" in line:
            assert 'src="static/' in line
    for name in ("page.css", "recording.js", "app.js"):
        assert client.get(f"/static/{name}").status_code == 200
    for name in ("../api.py", "pages.py", "app.js.bak"):
        assert client.get(f"/static/{name}").status_code == 404


def test_a_question_is_shown_as_text(client):
    form = {"question": " Is the <axis> normal? ", "fs": "", "format": "html"}
    page = client.post("/v1/interpret", files=upload(DICOM), data=form)
    assert '<p class="question">Is the &lt;axis&gt; normal?</p>' in page.text


def test_people_read_a_sentence_where_programs_read_json(client):
    wrong = [("files", ("note.txt", b"hello"))]
    page = client.post("/v1/interpret", files=wrong, headers=BROWSER)
    assert page.status_code == 422
    assert "<span data-reason>expected" in page.text
    assert 'type="file"' in page.text  # and can try again at once
    assert 'src="../static/app.js"' in page.text
    assert client.post("/v1/interpret", files=wrong).json()["detail"].startswith("expected")
    assert "fs: " in client.post("/v1/interpret", files=upload(DICOM), data={"fs": "fast"}, headers=BROWSER).text
    assert "Not Found" in client.get("/elsewhere", headers=BROWSER).text


def test_samples_are_recordings_and_always_the_same(client):
    for name in SAMPLES:
        data = client.get(f"/samples/{name}.dcm").content
        assert read_ecg(data).seconds == 10
        assert data[-60_000:] == client.get(f"/samples/{name}.dcm").content[-60_000:]  # the signal
    assert client.get("/samples/other.dcm").status_code == 404


def test_the_stream_holds_the_page_piece_by_piece(client):
    answer = client.post("/page/interpret", files=upload(DICOM), data={"uid": "r1"})
    found = events(answer.text.splitlines())
    kinds = [kind for kind, _ in found]
    assert kinds[:3] == ["stage", "stage", "result"] and kinds[-1] == "done"
    first, last = (next(data["html"] for kind, data in found if kind == name) for name in ("result", "done"))
    assert 'id="r1"' in first and 'aria-busy="true"' in first
    text = "".join(data["delta"] for kind, data in found if kind == "text")
    assert text.strip() == found[-1][1]["text"] and 'class="c ' in last
    assert client.post("/page/interpret", files=upload(DICOM), data={"uid": "<b>"}).status_code == 422


def test_a_flat_line_is_refused_on_the_page(client, flat):
    found = events(client.post("/page/interpret", files=flat, data={"uid": "r1"}).text.splitlines())
    assert "text" not in [kind for kind, _ in found]
    assert found[-1][1]["text"] == "" and "not interpreted" in found[-1][1]["html"]


def test_a_conversation_goes_on_where_the_browser_has_it(client):
    turns = json.dumps([["", "Sinus rhythm."], ["What is the rate?", "64 bpm."]])
    form = {"uid": "r1t2", "turns": turns, "question": "And the axis?"}
    found = events(client.post("/page/ask", files=upload(DICOM), data=form).text.splitlines())
    assert found[-1][0] == "done" and "And the axis?" in found[-1][1]["html"]
    for wrong in ("{", '[["a"]]', "3", json.dumps([["q", "a"]] * 21)):
        answer = client.post("/page/ask", files=upload(DICOM), data={**form, "turns": wrong})
        assert answer.status_code == 422 and answer.json()["detail"].startswith("expected")


@pytest.mark.parametrize(
    ("route", "format", "start"),
    [("report", "pdf", b"%PDF"), ("report", "json", b"{"), ("report", "fhir", b"{"), ("report", "html", b"<!doctype"),
     ("signal", "dicom", b"\0"), ("signal", "wfdb", b"PK")],
)  # fmt: skip
def test_downloads(client, route, format, start):
    form = {"format": format, "text": "Sinus rhythm at 20 bpm."}
    answer = client.post(f"/page/{route}", files=upload(DICOM), data=form)
    assert answer.status_code == 200
    assert answer.content.startswith(start)
    assert "attachment" in answer.headers["content-disposition"]
    if format in ("json", "html"):
        assert "20 bpm" in answer.text and "contradicted" in answer.text
    if format == "wfdb":
        assert len(zipfile.ZipFile(io.BytesIO(answer.content)).namelist()) == 2


def test_two_recordings_are_compared(client):
    files = [("first", ("a.dcm", client.get("/samples/lbbb.dcm").content)),
             ("second", ("b.dcm", client.get("/samples/normal.dcm").content))]  # fmt: skip
    page = client.post("/page/compare", files=files, data={"uid": "c1"}).text
    assert 'id="c10"' in page and 'id="c11"' in page
    gone = page[page.index("Gone:") :]
    assert "left bundle branch block" in gone[: gone.index("</p>")]
    row = page[page.index("<td>QRS duration</td>") :]
    assert "−" in row[: row.index("</tr>")]  # the QRS complex is narrower in the second


def test_a_photo_is_shown_with_what_was_read(client):
    pytest.importorskip("gem_lightning.digitizer")
    page = EcgRenderer(size=(850, 1100))(simulate("sinus", seed=1).record).encode(".png")
    files = [("files", ("photo.png", page))]
    answer = client.post("/page/overlay", files=files)
    assert answer.content[:4] == b"RIFF" and answer.headers["content-type"] == "image/webp"
    found = events(client.post("/page/interpret", files=files, data={"uid": "r1"}).text.splitlines())
    assert "data-paper" in found[-1][1]["html"] and "digitised from paper" in found[-1][1]["html"]


def test_what_is_no_photo_has_no_overlay(client):
    answer = client.post("/page/overlay", files=upload(DICOM))
    assert answer.status_code == 422 and "expected" in answer.json()["detail"]


def test_a_server_with_tokens_asks_for_one_before_it_works(gem_small):
    with TestClient(build_app(gem_small, tokens=["a-token-of-this-server"])) as locked:
        assert locked.get("/").status_code == 200
        form = {"uid": "r1"}
        assert locked.post("/page/interpret", files=upload(DICOM), data=form).status_code == 401
        known = {"authorization": "Bearer a-token-of-this-server"}
        answer = locked.post("/page/compare", files=upload(DICOM, field="first") + upload(DICOM, field="second"),
                             data=form, headers=known)  # fmt: skip
        assert answer.status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_a_visit(gem_small, width, flat):
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    app = build_app(gem_small, limits=Limits(max_upload_mb=1), max_new_tokens=40)
    with serving(app) as home, chromium() as browser:
        context = browser.new_context(viewport={"width": width, "height": 900}, has_touch=width < 700)
        tab, faults = watched(context, home)
        tab.goto(home)
        assert accessibility_faults(tab) == []

        def drop(name, data):
            tab.set_input_files("[data-start] input[type=file]", {"name": name, "mimeType": "", "buffer": data})

        drop("note.txt", b"hello")
        assert "expected" in tab.locator("[data-error]:not([hidden])").inner_text()
        drop("large.dcm", bytes(1_100_000))
        assert "at most 1 MB" in tab.locator("[data-error]:not([hidden])").inner_text()
        tab.click("[data-sample=stemi]")
        tab.wait_for_selector(".conversation", timeout=60_000)
        assert tab.locator("[data-error]:not([hidden])").count() == 0
        assert tab.locator(".urgency.urgent").count() == 1
        assert tab.locator("[data-text] a.c").count() > 0
        assert accessibility_faults(tab) == []
        tab.locator("[data-text] a.c").first.click()
        assert tab.locator("rect.strip").count() > 0
        tab.locator("[data-panel] .close").click()
        with tab.expect_download() as download:
            tab.click("[data-get=pdf]")
        assert download.value.suggested_filename == "sample-stemi.pdf"
        tab.fill(".conversation input", "What is the rate?")
        tab.click(".conversation button")
        tab.wait_for_selector(".turns .text", timeout=60_000)
        tab.reload()
        tab.locator("[data-visits] li button").first.click()
        assert "What is the rate?" in tab.inner_text(".turns")
        tab.click("[data-new]")
        drop(*flat[0][1])
        tab.wait_for_selector(".refused")
        tab.wait_for_selector("[data-new]:not([hidden])")
        assert tab.locator(".reading").count() == 0
        tab.locator("[data-earlier] button").first.click()
        tab.wait_for_selector(".comparison")
        assert accessibility_faults(tab) == []
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert faults == []

        other, _ = watched(browser.new_context(), home)  # another visitor sees nothing of this visit
        other.goto(home)
        assert other.locator("[data-visits] li").count() == 0
        context.set_offline(True)
        tab.click("[data-new]")
        drop(*upload(DICOM)[0][1])
        assert "No connection" in tab.locator("[data-offline]:not([hidden])").inner_text()
