"""The application answers real requests with a real, if untaught, network."""

import io
import shutil
import threading
import time

import pydicom.examples
import pytest
import uvicorn
from fastapi.testclient import TestClient

from gem_lightning.ecg import simulate, write_wfdb
from gem_lightning.features import measure
from gem_lightning.serving.api import build_app


@pytest.fixture(scope="module")
def client(tiny_gem):
    ask = tiny_gem.interpret

    class Short:
        def interpret(self, record, question=None, reading=None):
            asked.append(question)
            return ask(record, question, max_new_tokens=4, reading=reading)

    return TestClient(build_app(Short(), name="tiny", max_upload_mb=1))


asked = []
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def upload(*paths):
    return [("files", (p.name, p.read_bytes())) for p in paths]


def test_page_asks_for_a_file(client):
    page = client.get("/")
    assert page.status_code == 200
    assert 'type="file"' in page.text
    assert "not a medical device" in page.text


def test_dicom_in_json_out(client):
    path = pydicom.examples.get_path("waveform")
    answer = client.post("/interpret", files=upload(path))
    assert answer.status_code == 200
    features = answer.json()["features"]
    assert abs(features["rr_ms"] - 982) <= 10  # the device's own measurement
    assert {"text", "claims", "features", "findings", "quality"} <= set(answer.json())


def test_wfdb_is_uploaded_as_header_and_signal(client, tmp_path):
    write_wfdb(simulate("sinus", seed=1).record, tmp_path / "a")
    page = client.post("/report", files=upload(*sorted(tmp_path.iterdir())))
    assert page.status_code == 200
    assert "data:image/webp;base64" in page.text


def test_a_question_is_asked_and_shown(client):
    path = pydicom.examples.get_path("waveform")
    page = client.post("/report", files=upload(path), data={"question": " Is the <axis> normal? ", "fs": ""})
    assert asked[-1] == "Is the <axis> normal?"
    assert "Question: Is the &lt;axis&gt; normal?" in page.text
    client.post("/interpret", files=upload(path), data={"question": "  "})
    assert asked[-1] is None


def test_a_table_is_read_with_the_rate_and_unit_that_the_form_says(client):
    record = simulate("sinus", seed=1).record
    text = "\n".join(",".join(f"{1000 * v:.1f}" for v in row) for row in record.signal[::-1].T)
    files = [("files", ("a.csv", text.encode()))]
    told = {"fs": "500", "units": "uV", "leads": ",".join(record.leads[::-1])}
    answer = client.post("/interpret", files=files, data=told)
    assert abs(answer.json()["features"]["rr_ms"] - measure(record).rr_ms) < 2
    assert "units=" in client.post("/interpret", files=files).json()["detail"]


def test_people_read_a_sentence_where_programs_read_json(client):
    wrong = [("files", ("note.txt", b"hello"))]
    page = client.post("/report", files=wrong, headers=BROWSER)
    assert page.status_code == 422
    assert "That did not work:</strong> expected" in page.text
    assert 'type="file"' in page.text  # and can try again at once
    assert client.post("/report", files=wrong).json()["detail"].startswith("expected")
    big = [("files", ("a.dcm", bytes(1_000_001)))]
    assert "at most 1 MB" in client.post("/report", files=big, headers=BROWSER).text
    path = upload(pydicom.examples.get_path("waveform"))
    assert "fs: " in client.post("/report", files=path, data={"fs": "fast"}, headers=BROWSER).text
    assert "Not Found" in client.get("/elsewhere", headers=BROWSER).text


def test_what_is_no_ecg_is_refused_with_the_reason(client):
    answer = client.post("/interpret", files=[("files", ("note.txt", b"hello"))])
    assert answer.status_code == 422
    assert "expected" in answer.json()["detail"]
    big = io.BytesIO(bytes(1_000_001))
    assert client.post("/interpret", files=[("files", ("a.dcm", big))]).status_code == 413


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(client, tmp_path, width):
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    server = uvicorn.Server(uvicorn.Config(client.app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        home = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
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
            tab.set_input_files("input[type=file]", pydicom.examples.get_path("waveform"))
            tab.fill("textarea", "What is the rate?")
            tab.click("button")
            assert "Question: What is the rate?" in tab.inner_text("main")
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            browser.close()
    finally:
        server.should_exit = True
        thread.join()
    assert all(url.startswith((home, "data:")) for url in requests)
