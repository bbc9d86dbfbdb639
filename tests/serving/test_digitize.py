"""A drawn page comes back as its signal; what is no page is refused."""

import numpy as np
import pytest

from gem_lightning.ecg import read_ecg, simulate
from gem_lightning.features import measure
from gem_lightning.render import EcgRenderer

RECORD = simulate("sinus", seed=1).record


@pytest.fixture(scope="module")
def page():
    return [("file", ("page.jpg", EcgRenderer(dpi=150)(RECORD).encode(".jpg")))]


def test_a_page_becomes_a_signal(client, page):
    found = client.post("/v1/digitize", files=page).json()
    assert found["refused"] is None
    assert (found["layout"], found["speed"], found["gain"]) == ("3x4+1", 25, 10)
    assert len(found["signal"]) == len(found["trust"]) == 12
    rhythm = np.array(found["signal"]["II"], float)
    assert np.isfinite(rhythm).mean() > 0.9
    assert found["overlay"].startswith("data:image/webp;base64,")


def test_the_signal_alone(client, page, tmp_path):
    (tmp_path / "a.csv").write_bytes(client.post("/v1/digitize", files=page, data={"format": "csv"}).content)
    assert abs(measure(read_ecg(tmp_path / "a.csv")).rr_ms - measure(RECORD).rr_ms) < 20


@pytest.mark.slow
def test_other_routes_take_photos(client, page):
    files = [("files", page[0][1])]
    found = client.post("/v1/measure", files=files).json()
    assert abs(found["features"]["rr_ms"] - measure(RECORD).rr_ms) < 20


def test_what_is_no_page_is_refused(client):
    import io

    import PIL.Image

    file = io.BytesIO()
    PIL.Image.fromarray(np.full((600, 800, 3), 255, np.uint8)).save(file, "PNG")
    blank = [("file", ("a.png", file.getvalue()))]
    assert "grid" in client.post("/v1/digitize", files=blank).json()["refused"]
    assert client.post("/v1/digitize", files=blank, data={"format": "png"}).content.startswith(b"\x89PNG")
    assert client.post("/v1/digitize", files=blank, data={"format": "csv"}).status_code == 422
    assert client.post("/v1/digitize", files=[("file", ("a.png", b"x"))]).status_code == 422
    assert client.post("/v1/digitize", files=blank, data={"layout": "none"}).status_code == 422
