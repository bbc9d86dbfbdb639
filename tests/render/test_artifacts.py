"""Flaws: the same seed gives the same bytes anywhere, and the geometry goes where the image goes."""

from __future__ import annotations

import hashlib
import multiprocessing
import resource

import numpy as np
import pytest

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.render import EcgRenderer, Page
from gem_lightning.render.artifacts import FLAWS, draw_amounts, find_artifacts, presets

SMALL = (336, 435)


def digest(index: int) -> str:
    """Hash of one image, by whatever process."""
    t = np.arange(2000) / 200
    record = EcgRecord(np.sin(2 * np.pi * t * (1 + np.arange(12)[:, None] / 7)).astype(np.float32), 200)
    image = EcgRenderer(size=SMALL, artifacts="hard")(record, seed=(7, 2, index)).image
    return hashlib.sha256(image.tobytes()).hexdigest()


@pytest.fixture(scope="module")
def alone():
    return [digest(k) for k in range(6)]


@pytest.mark.parametrize(("method", "workers"), [("fork", 1), ("fork", 2), ("fork", 4), ("spawn", 2)])
def test_same_bytes_for_any_workers_and_order(alone, method, workers):
    with multiprocessing.get_context(method).Pool(workers) as pool:
        backwards = pool.map(digest, range(5, -1, -1), chunksize=1)
    assert backwards[::-1] == alone


def test_seeds_differ_and_without_one_the_record_decides(record):
    draw = EcgRenderer(size=SMALL, artifacts="photo")
    assert not np.array_equal(draw(record, 1).image, draw(record, 2).image)
    assert np.array_equal(draw(record).image, draw(record).image)
    other = record.with_signal(record.signal * 0.5)
    assert draw(record).geometry.warp.matrix.tolist() != draw(other).geometry.warp.matrix.tolist()


def test_without_artifacts_the_seed_is_nothing(record):
    clean = EcgRenderer(size=SMALL, artifacts="clean")
    assert np.array_equal(clean(record, 1).image, EcgRenderer(size=SMALL)(record, 2).image)


def test_every_flaw_shows_by_itself(record):
    clean = EcgRenderer(size=(425, 550))(record).image
    amounts = {**presets()["hard"]}
    for name in FLAWS:
        _, low, high = amounts[name]
        spoilt = EcgRenderer(size=(425, 550), artifacts={name: [1, low or high, high]})(record, seed=5).image
        assert np.abs(spoilt.astype(int) - clean).max() > 4, name


def test_one_flaw_does_not_move_the_draw_of_another():
    both, one = find_artifacts("hard"), find_artifacts({"noise": presets()["hard"]["noise"]})
    for seed in range(20):
        first, second = (draw_amounts(flaws, np.random.default_rng(seed)) for flaws in (both, one))
        assert first.get("noise") == second.get("noise")


def test_probabilities_and_ranges_are_kept():
    chosen = find_artifacts({"preset": "clean", "noise": [0.3, 2, 5]})
    rng = np.random.default_rng(0)
    drawn = [draw_amounts(chosen, rng) for _ in range(3000)]
    present = [d["noise"] for d in drawn if "noise" in d]
    assert len(present) / 3000 == pytest.approx(0.3, abs=0.03)
    assert 2 <= min(present) < 2.1
    assert 4.9 < max(present) <= 5


@pytest.mark.parametrize("seed", range(8))
def test_geometry_moves_with_the_image(seed):
    """A dot printed on the page is found in the photo where the geometry says."""
    moving = ("rotation", "perspective", "wrinkles", "desk")
    flaws = {name: [1, presets()["hard"][name][2], presets()["hard"][name][2]] for name in moving}
    signal = np.full((12, 5000), np.nan)
    signal[1, 2500:2503] = 0.0  # one dot, 5 s into lead II
    record = EcgRecord(signal, 500)
    page = Page(color=(0, 0, 0), names=False, pulses=False, separators=False, footer="", line_mm=3.0)
    with pytest.warns(UserWarning, match="blank"):
        drawn = EcgRenderer("3x4+1", size=(850, 1100), artifacts=flaws, style="none", page=page)(record, seed=seed)
    x, y = drawn.geometry.locate(len(drawn.geometry.traces) - 1, 5.002, 0.0)[0]
    patch = 255.0 - drawn.image[int(y) - 15 : int(y) + 16, int(x) - 15 : int(x) + 16, 0]
    patch = np.clip(patch - np.median(patch) - 40, 0, None)
    rows, columns = np.mgrid[int(y) - 15 : int(y) + 16, int(x) - 15 : int(x) + 16] + 0.5
    assert (patch * columns).sum() / patch.sum() == pytest.approx(x, abs=0.6)
    assert (patch * rows).sum() / patch.sum() == pytest.approx(y, abs=0.6)


def test_boxes_follow_too(record):
    drawn = EcgRenderer(size=(850, 1100), artifacts={"rotation": [1, 5, 5]})(record, seed=0)
    flat = drawn.geometry.flat
    middle = np.array([[(b[0] + b[2]) / 2, (b[1] + b[3]) / 2] for b in flat.pulses])
    moved = drawn.geometry.to_image(middle)
    for (x, y), (x0, y0, x1, y1) in zip(moved, drawn.geometry.pulses):
        assert x0 < x < x1
        assert y0 < y < y1
    assert drawn.geometry.px_per_mm == pytest.approx(flat.px_per_mm, rel=0.01)


@pytest.mark.parametrize("preset", ["scan", "photo", "hard"])
def test_compiled_passes_equal_the_numpy_reference(record, preset, monkeypatch):
    import helpers_warp_reference as warp_reference
    from gem_lightning.render import artifacts

    renderer = EcgRenderer(size=SMALL, artifacts=preset)
    compiled = [renderer(record, seed).image.astype(int) for seed in range(3)]
    monkeypatch.setattr(artifacts, "look", warp_reference.look)
    monkeypatch.setattr(artifacts, "expose", warp_reference.expose)
    for seed in range(3):
        assert np.abs(compiled[seed] - renderer(record, seed).image).max() <= 1


def test_in_a_letterboxed_scan_names_and_pulses_stay_inside(record):
    draw = EcgRenderer(size=(336, 336), artifacts="scan")
    for seed in range(60):
        geometry = draw(record, seed).geometry
        for box in [*geometry.pulses, *(t[1:] for t in geometry.texts)]:
            assert min(box) >= 0, seed
            assert max(box) <= 336, seed


def test_a_buffer_is_reused(record):
    buffer = np.empty((*SMALL, 3), np.uint8)
    for artifacts in (None, "photo"):
        drawn = EcgRenderer(size=SMALL, artifacts=artifacts)(record, 3, out=buffer)
        assert drawn.image is buffer
        assert np.array_equal(buffer, EcgRenderer(size=SMALL, artifacts=artifacts)(record, 3).image)


@pytest.mark.slow
def test_a_thousand_images_leave_no_memory_behind(record):
    draw = EcgRenderer(size=SMALL, artifacts="photo")
    for seed in range(60):
        draw(record, seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(1000):
        draw(record, seed)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 5
