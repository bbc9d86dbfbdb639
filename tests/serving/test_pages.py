"""The page for people: its routes, and a visit in a browser from the first click to the downloads."""

import base64
import hashlib
import json
import re
import shutil
import threading

import numpy as np
import pytest
from fastapi.testclient import TestClient

from gem_lightning.ecg import read_ecg, simulate, write_ecg
from gem_lightning.features import measure
from gem_lightning.render import EcgRenderer
from gem_lightning.reporting.html import SCRIPTS
from gem_lightning.samples.sample import DEFAULT_QUESTION as SAMPLE_QUESTION
from gem_lightning.serving.api import build_app
from gem_lightning.serving.limits import Limits
from gem_lightning.serving.pages import SAMPLES
from helpers_browser import WIDTHS, accessibility_faults, chromium, watched
from helpers_serving import BROWSER, DICOM, events, serving, upload

#: A page of an inferior infarct.
PHOTO = EcgRenderer(size=(850, 1100))(simulate("st_elevation", seed=4, snr_db=25).record).encode(".png")


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
    usual = events(
        client.post("/page/ask", files=upload(DICOM), data={**form, "question": SAMPLE_QUESTION}).text.splitlines()
    )
    kinds = [kind for kind, _ in usual]
    assert kinds.index("reading") < len(kinds) - 1 - kinds[::-1].index("text")  # marks come before the text has ended
    assert 'class="c ' in next(data["html"] for kind, data in usual if kind == "reading")
    for wrong in ("{", '[["a"]]', "3", json.dumps([["q", "a"]] * 21)):
        answer = client.post("/page/ask", files=upload(DICOM), data={**form, "turns": wrong})
        assert answer.status_code == 422 and answer.json()["detail"].startswith("expected")


@pytest.mark.parametrize(
    ("format", "start"), [("pdf", b"%PDF"), ("json", b"{"), ("fhir", b"{"), ("html", b"<!doctype")]
)
def test_downloads(client, format, start):
    form = {"format": format, "text": "Sinus rhythm at 20 bpm."}
    answer = client.post("/page/report", files=upload(DICOM), data=form)
    assert answer.status_code == 200
    assert answer.content.startswith(start)
    assert "attachment" in answer.headers["content-disposition"]
    if format in ("json", "html"):
        assert "20 bpm" in answer.text and "contradicted" in answer.text


def test_a_download_says_what_verification_changed(client):
    edits = [
        {"draft": "QRS 200 ms.", "text": "QRS 82 ms.", "action": "restate", "source": "measurement", "reason": "wide"}
    ]
    form = {"format": "html", "text": "QRS 82 ms.", "edits": json.dumps(edits)}
    page = client.post("/page/report", files=upload(DICOM), data=form).text
    assert "corrected by the measurements" in page
    assert "“QRS 200 ms.” → “QRS 82 ms.”" in page
    for wrong in ("{", "3", '[{"text": 1}]', json.dumps([{**edits[0], "action": "x"}]), json.dumps(edits * 2)):
        answer = client.post("/page/report", files=upload(DICOM), data={**form, "edits": wrong})
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("expected")


def test_a_report_opened_from_the_server_may_draw(client):
    answer = client.post("/v1/verify", files=upload(DICOM), data={"format": "html", "text": "Sinus rhythm."})
    policy = answer.headers["content-security-policy"]
    scripts = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
    assert len(scripts) == len(SCRIPTS)
    for script in scripts:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2]


def test_a_long_recording_comes_in_sections(client, tmp_path):
    record = simulate("sinus", seed=1, seconds=75).record
    files = upload(write_ecg(record, tmp_path / "long.dcm"))
    whole = measure(record)
    found = client.post("/page/section", files=files, data={"start": 60}).json()
    assert (found["start"], found["total"], found["leads"]) == (60, 75, list(record.leads))
    signal = np.frombuffer(base64.b64decode(found["signal"]), "<i2").reshape(12, -1) / 1000
    assert abs(signal - record.signal[:, 30_000:]).max() < 0.01
    assert abs(whole.beats.time_s[found["first"]] - 60) < 1
    peaks = [peak for peak in found["marks"]["R"][1] if peak is not None]
    assert 29_500 < peaks[0] < peaks[-1] < 37_600
    page = client.post("/page/report", files=files, data={"format": "html"}).text
    assert '"start": 0.0' in page
    assert '"total": 75.0' in page


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
    files = [("files", ("photo.png", PHOTO))]
    found = events(client.post("/page/interpret", files=files, data={"uid": "r1"}).text.splitlines())
    html, text = found[-1][1]["html"], found[-1][1]["text"]
    assert "data-paper" in html
    assert "digitised from paper" in html
    assert "Text composed from the measurements" in html
    assert "no model has written about it" in html
    assert "inferior" in text
    assert "No urgent" not in text
    assert [kind for kind, _ in found].count("text") == 1  # nothing of a model's goes before it


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


@pytest.mark.slow
def test_a_photo_a_long_recording_a_huge_file_and_a_busy_server(gem_small, tmp_path, monkeypatch):
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    app = build_app(gem_small, limits=Limits(max_requests=1), max_new_tokens=40)
    long = write_ecg(simulate("sinus", seed=1, seconds=100).record, tmp_path / "long.dcm")
    with serving(app) as home, chromium() as browser:
        tab, faults = watched(browser.new_context(viewport={"width": 1280, "height": 900}), home)
        tab.goto(home)

        def choose(name, data):
            tab.set_input_files("[data-start] input[type=file]", {"name": name, "mimeType": "", "buffer": data})

        # 200 MB, made in the browser and dropped: refused there and then, nothing is sent
        sent = []
        tab.on("request", lambda request: sent.append(request.url))
        tab.evaluate(
            "() => { const data = new DataTransfer(); data.items.add(new File([new Uint8Array(200e6)], 'huge.dcm'));"
            " dispatchEvent(new DragEvent('drop', { dataTransfer: data, cancelable: true })); }"
        )
        assert "at most 50 MB, got 200 MB" in tab.locator("[data-error]:not([hidden])").inner_text()
        assert sent == []

        choose("photo.png", PHOTO)
        tab.wait_for_selector(".conversation", timeout=120_000)
        assert "composed from the measurements" in tab.inner_text(".reading")
        tab.click(".overlay summary")
        tab.wait_for_selector(".overlay img[src]", timeout=120_000)
        assert tab.evaluate("document.querySelector('.overlay img').decode().then(() => true)")
        assert accessibility_faults(tab) == []
        tab.click("[data-new]")

        choose("long.dcm", long.read_bytes())
        tab.wait_for_selector(".conversation", timeout=120_000)
        assert "0 to 10 s of 100 s" in tab.inner_text(".scale")
        tab.locator("[data-do=start]").fill("70")
        tab.wait_for_selector(".scale:has-text('70 to 80 s')", timeout=60_000)
        drawn = tab.locator("path.trace").last.get_attribute("d") + tab.locator("path.trace").first.get_attribute("d")
        assert drawn.count("L") > 1000
        tab.click("[data-new]")

        # a server that is at work for someone else: the button repeats the request once there is room
        begun, go_on = threading.Event(), threading.Event()
        answer = app.state.service.queue.answer

        def wait(jobs):
            begun.set()
            assert go_on.wait(60)
            return answer(jobs)

        monkeypatch.setattr(app.state.service.queue, "answer", wait)
        other = browser.new_page()
        other.goto(home)
        other.click("[data-sample=normal]")
        assert begun.wait(60)
        tab.click("[data-sample=lbbb]")
        assert "at most 1 requests" in tab.locator("[data-error]:not([hidden])").inner_text()
        faults[:] = [fault for fault in faults if "429" not in fault]  # browsers log every refused request
        go_on.set()
        other.wait_for_selector(".conversation", timeout=120_000)
        tab.click("[data-later]")
        tab.wait_for_selector(".conversation", timeout=120_000)
        assert tab.locator("[data-error]:not([hidden])").count() == 0
        assert faults == []
