"""The application answers real requests with a real, if untaught, network."""

import io

import pydicom.examples
import pytest
from fastapi.testclient import TestClient

from gem_lightning.ecg import simulate, write_wfdb
from gem_lightning.serving.api import build_app


@pytest.fixture(scope="module")
def client(tiny_gem):
    gem = tiny_gem
    ask = gem.interpret

    class Short:
        def interpret(self, record, question=None):
            return ask(record, question, max_new_tokens=4)

    return TestClient(build_app(Short(), name="tiny", max_upload_mb=1))


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
    assert set(answer.json()) == {"text", "claims", "features"}


def test_wfdb_is_uploaded_as_header_and_signal(client, tmp_path):
    write_wfdb(simulate("sinus", seed=1).record, tmp_path / "a")
    page = client.post("/report", files=upload(*sorted(tmp_path.iterdir())))
    assert page.status_code == 200
    assert "data:image/webp;base64" in page.text


def test_what_is_no_ecg_is_refused_with_the_reason(client):
    answer = client.post("/interpret", files=[("files", ("note.txt", b"hello"))])
    assert answer.status_code == 422
    assert "expected" in answer.json()["detail"]
    big = io.BytesIO(bytes(1_000_001))
    assert client.post("/interpret", files=[("files", ("a.dcm", big))]).status_code == 413
