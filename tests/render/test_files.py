"""Files: images and vectors out, photos in."""

from __future__ import annotations

import io
import re
import zlib

import numpy as np
import pytest
from PIL import Image

from gem_lightning.errors import RenderError
from gem_lightning.render import EcgRenderer, load_ecg_image, render_folder


def encoded(image, form, **more):
    buffer = io.BytesIO()
    image.save(buffer, form, **more)
    return buffer.getvalue()


def test_png_and_jpeg_carry_their_resolution(record, tmp_path):
    renderer = EcgRenderer(dpi=100)
    png = renderer.save(record, tmp_path / "a.png")
    with Image.open(png) as image:
        assert image.info["dpi"] == pytest.approx((100, 100), abs=0.1)
        assert np.array_equal(np.asarray(image), renderer(record).image)
    with Image.open(renderer.save(record, tmp_path / "a.jpg")) as image:
        assert image.size == (1100, 850)
    with pytest.raises(RenderError, match="svg"):
        renderer(record).save(tmp_path / "a.bmp")


def test_svg_has_true_millimetres(record, tmp_path):
    from xml.etree import ElementTree

    renderer = EcgRenderer("3x4+1", page={"header": "<b>&"})
    root = ElementTree.fromstring(renderer.save(record, tmp_path / "a.svg").read_text())
    assert (root.get("width"), root.get("height")) == ("279.4mm", "215.9mm")
    assert [float(v) for v in root.get("viewBox").split()] == [0, 0, 279.4, 215.9]
    traces = root[-1].get("d").split("M")[1:]
    assert len(traces) == 13
    last = np.array([[float(v) for v in p.split(",")] for p in traces[-1].split()])
    slot = renderer.scene.slots[-1]
    k = np.arange(len(last))
    assert np.abs(last[:, 0] - slot.x - k / 500 * 25).max() < 1e-3
    assert np.abs(last[:, 1] - slot.baseline + record.lead("II")[k] * 10).max() < 1e-3
    assert [e.get("aria-label") for e in root if e.get("aria-label")][:2] == ["I", "aVR"]


def test_pdf_is_whole_and_of_the_papers_size(record, tmp_path):
    data = EcgRenderer(style="dotted", page={"paper": "a4"}).save(record, tmp_path / "a.pdf").read_bytes()
    box = [float(v) for v in re.search(rb"/MediaBox \[([^\]]+)\]", data).group(1).split()]
    assert np.array(box[2:]) / 72 * 25.4 == pytest.approx([297, 210], abs=0.01)
    for place, number in zip(re.findall(rb"^(\d{10}) 00000 n", data, re.M), range(1, 5)):
        assert data[int(place) :].startswith(b"%d 0 obj" % number)
    stream = zlib.decompress(re.search(rb"stream\n(.*)\nendstream", data, re.S).group(1))
    assert stream.count(b" S\n") + stream.endswith(b" S") > 13


def test_photos_are_turned_upright():
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, :10] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    upright = load_ecg_image(encoded(Image.fromarray(image), "JPEG", exif=exif, quality=95))
    assert upright.shape == (30, 20, 3)
    assert upright[2].mean() > 150 > 50 > upright[25].mean()


@pytest.mark.parametrize(
    ("mode", "value", "seen"),
    [("L", 90, 90), ("I;16", 65535, 255), ("RGBA", (0, 0, 0, 0), 255), ("P", 0, None), ("1", 1, 255)],
)
def test_every_kind_of_pixel(mode, value, seen):
    image = load_ecg_image(encoded(Image.new(mode, (8, 6), value), "PNG"))
    assert image.shape == (6, 8, 3)
    assert image.dtype == np.uint8
    if seen is not None:
        assert np.all(image == seen)


def test_large_damaged_and_missing_images_are_refused(tmp_path):
    bomb = encoded(Image.new("1", (9000, 9000)), "PNG")
    with pytest.raises(RenderError, match="9000 x 9000"):
        load_ecg_image(bomb)
    good = encoded(Image.new("RGB", (400, 400), "red"), "PNG")
    for damaged in (good[:200], b"GIF89a", b"\x00" * 500, good[:100] + b"\xff" * 300):
        with pytest.raises(RenderError, match="cannot be read"):
            load_ecg_image(damaged)
    with pytest.raises(RenderError, match="bytes"):
        load_ecg_image(b"")
    with pytest.raises(RenderError, match="no file"):
        load_ecg_image(tmp_path / "none.png")
    assert load_ecg_image(good, max_side=100).shape == (100, 100, 3)


def test_a_folder_of_records_becomes_images_and_resumes(record, tmp_path):
    import json

    from gem_lightning.ecg import write_wfdb

    source, target = tmp_path / "records", tmp_path / "images"
    (source / "deep").mkdir(parents=True)
    for name in ("one", "deep/two"):
        write_wfdb(record, source / name)
    (source / "broken.hea").write_text("nothing\n")
    renderer = EcgRenderer(size=(336, 435), artifacts="scan")
    progress = render_folder(source, target, renderer, workers=0)
    assert (progress.rows, progress.broken) == (2, 1)
    rows = [
        json.loads(line) for p in (target / "job").rglob("*.jsonl") if p.parent.name == "shards" for line in p.open()
    ]
    assert {row["image"] for row in rows} == {"one.png", "deep/two.png"}
    assert all(len(row["geometry"]["traces"]) == 13 for row in rows)
    before = (target / "one.png").stat().st_mtime_ns
    assert render_folder(source, target, renderer, workers=0).skipped == 3
    assert (target / "one.png").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="settings"):
        render_folder(source, target, EcgRenderer(size=(336, 336)), workers=0)
