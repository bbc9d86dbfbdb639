"""The application answers real requests with the shipped model; nothing is asserted about its exact words."""

import io
import json
import zipfile

import pytest
from fhir.resources.R4B.bundle import Bundle

from gem_lightning.ecg import read_ecg, simulate, write_wfdb
from gem_lightning.features import measure
from helpers_serving import DICOM, events, upload


def test_a_dicom_file_is_measured(client):
    answer = client.post("/v1/measure", files=upload(DICOM))
    assert answer.status_code == 200
    found = answer.json()
    assert found["refused"] is None
    assert abs(found["features"]["rr_ms"] - 982) <= 10  # the device's own measurement
    assert len(found["features"]["beats"]) == len(measure(read_ecg(DICOM)).beats)
    assert found["record"]["leads"][:2] == ["I", "II"]
    assert {"code", "statement", "evidence", "source"} <= set(found["findings"][0])


def test_a_recording_is_interpreted(client):
    found = client.post("/v1/interpret", files=upload(DICOM), data={"question": " What is the rate? "}).json()
    assert found["text"]
    assert found["question"] == "What is the rate?"
    assert {v["verdict"] for v in found["claims"]["verdicts"]} <= {"supported", "contradicted", "unverifiable"}
    assert found["provenance"] == "model gem_small"


def test_the_stream_holds_stages_measurements_text_and_verdicts(client):
    for verify in ("report", "revise"):
        form = {"stream": "true", "verify": verify}
        with client.stream("POST", "/v1/interpret", files=upload(DICOM), data=form) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            found = events(answer.iter_lines())
        kinds = [kind for kind, _ in found]
        assert [data["stage"] for kind, data in found if kind == "stage"] == ["reading", "measuring", "writing"]
        assert kinds.index("measured") < kinds.index("text")
        assert kinds[-1] == "done"
        done = found[-1][1]
        assert "".join(data["delta"] for kind, data in found if kind == "text").strip() == done["text"]
        stated = [data["claim"]["span"] for kind, data in found if kind == "statement"]
        assert stated == [v["claim"]["span"] for v in done["claims"]["verdicts"]]
        assert client.post("/v1/measure", files=upload(DICOM)).json() == found[kinds.index("measured")][1]


def test_a_stream_is_asked_for_by_its_type_too(client):
    headers = {"accept": "text/event-stream"}
    found = events(client.post("/v1/interpret", files=upload(DICOM), headers=headers).text.splitlines())
    assert found[-1][0] == "done"


def test_an_error_ends_a_stream(client):
    wrong = [("files", ("note.txt", b"hello"))]
    kind, data = events(client.post("/v1/interpret", files=wrong, data={"stream": "true"}).text.splitlines())[-1]
    assert kind == "error"
    assert data["status"] == 422
    assert data["detail"].startswith("expected")


def test_a_flat_line_is_refused_by_every_route(client, flat):
    for route, form in (("interpret", {}), ("interpret", {"verify": "rerank"}), ("verify", {"text": "Sinus rhythm."})):
        found = client.post(f"/v1/{route}", files=flat, data=form).json()
        assert "cannot be read reliably" in found["refused"]
        assert (found["text"], found["findings"], found["claims"]["verdicts"]) == ("", [], [])
    assert "cannot be read reliably" in client.post("/v1/measure", files=flat).json()["refused"]
    found = events(client.post("/v1/interpret", files=flat, data={"stream": "true"}).text.splitlines())
    assert "text" not in [kind for kind, _ in found]


def test_a_text_is_verified(client):
    form = {"text": "Sinus rhythm at 20 bpm."}
    found = client.post("/v1/verify", files=upload(DICOM), data=form).json()
    assert {v["claim"]["kind"]: v["verdict"] for v in found["claims"]["verdicts"]}["heart_rate"] == "contradicted"
    bundle = client.post("/v1/verify", files=upload(DICOM), data={**form, "format": "fhir"})
    assert bundle.headers["content-type"] == "application/fhir+json"
    Bundle.model_validate(bundle.json())
    page = client.post("/v1/verify", files=upload(DICOM), data={**form, "format": "html"})
    assert "data-trace" in page.text


@pytest.mark.parametrize(("format", "start"), [("png", b"\x89PNG"), ("svg", b"<svg"), ("pdf", b"%PDF")])
def test_a_recording_is_drawn(client, format, start):
    answer = client.post("/v1/render", files=upload(DICOM), data={"format": format, "layout": "6x2"})
    assert answer.content.startswith(start)
    assert "layout" in client.post("/v1/render", files=upload(DICOM), data={"layout": "7x7"}).json()["detail"]


def test_two_recordings_are_compared(client, tmp_path):
    files = []
    for field, diagnosis, seed in (("first", "sinus", 1), ("second", "atrial_fibrillation", 2)):
        write_wfdb(simulate(diagnosis, seed=seed).record, tmp_path / field)
        files += upload(*sorted(tmp_path.glob(f"{field}.*")), field=field)
    found = client.post("/v1/compare", files=files).json()
    rate = next(row for row in found["differences"] if row["name"] == "heart_rate_bpm")
    assert rate["difference"] == pytest.approx(rate["second"] - rate["first"])
    assert any("fibrillation" in text for text in found["findings_new"])


def test_an_axis_turns_the_shorter_way(client):
    from types import SimpleNamespace

    from gem_lightning.serving.facts import differences

    def with_axis(degrees):
        empty = dict.fromkeys(("heart_rate_bpm", "rr_ms", "p_ms", "pr_ms", "qrs_ms", "qt_ms"))
        return SimpleNamespace(features=SimpleNamespace(**empty, qtc_ms={}, st_mv={}, axis_deg={"QRS": degrees}))

    (*_, axis) = differences(with_axis(170.0), with_axis(-170.0))
    assert axis["difference"] == 20


def test_a_signal_is_written_in_other_formats(client, tmp_path):
    answer = client.post("/v1/convert", files=upload(DICOM), data={"format": "wfdb"})
    zipfile.ZipFile(io.BytesIO(answer.content)).extractall(tmp_path)
    assert abs(read_ecg(tmp_path / "ecg.hea").signal - read_ecg(DICOM).signal).max() < 0.01
    (tmp_path / "a.dcm").write_bytes(client.post("/v1/convert", files=upload(DICOM), data={"format": "dicom"}).content)
    again = client.post("/v1/measure", files=upload(tmp_path / "a.dcm")).json()
    assert abs(again["features"]["rr_ms"] - 982) <= 10


def test_a_table_is_read_with_the_rate_and_unit_that_the_form_states(client):
    record = simulate("sinus", seed=1).record
    text = "\n".join(",".join(f"{1000 * v:.1f}" for v in row) for row in record.signal[::-1].T)
    files = [("files", ("a.csv", text.encode()))]
    stated = {"fs": "500", "units": "uV", "leads": ",".join(record.leads[::-1])}
    found = client.post("/v1/measure", files=files, data=stated).json()
    assert abs(found["features"]["rr_ms"] - measure(record).rr_ms) < 2
    assert "units=" in client.post("/v1/measure", files=files).json()["detail"]


def test_several_recordings_at_once_are_refused(client, tmp_path):
    for name in ("a", "b"):
        write_wfdb(simulate("sinus", seed=1).record, tmp_path / name)
    answer = client.post("/v1/measure", files=upload(*sorted(tmp_path.iterdir())))
    assert answer.status_code == 422
    assert "one recording" in answer.json()["detail"]


def test_a_file_name_leads_nowhere_else(client):
    for name in ("../../etc/a.dcm", "C:\\temp\\a.dcm", "a" * 300 + ".dcm", "..", "\u202e.dcm"):
        answer = client.post("/v1/measure", files=[("files", (name, DICOM.read_bytes()))])
        assert answer.status_code in (200, 422)


def test_the_model_is_named(client):
    assert client.get("/v1/models").json()["data"][0]["id"] == "gem_small"
    assert client.get("/healthz").json()["status"] == "ok"


def test_the_documentation_is_complete_and_needs_no_other_site(client):
    page = client.get("/docs").text
    for path in client.get("/openapi.json").json()["paths"]:
        assert path in page
    assert "http://" not in page.replace("http://127.0.0.1", "")
    assert "<script" not in page


def test_errors_are_described_as_they_are_sent(client):
    described = client.get("/openapi.json").json()
    for path, methods in described["paths"].items():
        for operation in methods.values():
            for status in ("401", "408", "413", "422", "429"):
                if path.startswith("/v1/"):
                    schema = operation["responses"][status]["content"]["application/json"]["schema"]
                    assert schema["$ref"].endswith("Problem")
    assert json.dumps(described).count("HTTPValidationError") == 0
