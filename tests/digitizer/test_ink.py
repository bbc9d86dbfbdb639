"""The ink of a drawn wave gives the wave back: on flanks, at tips, and where it begins and ends."""

import cv2
import numpy as np
import pytest

from gem_lightning.digitizer.ink import ink_cover
from gem_lightning.digitizer.rectify import PX_PER_MM
from gem_lightning.digitizer.redraw import FINE, redraw
from gem_lightning.digitizer.rows import Row, find_baselines, follow_rows

WIDTH, HEIGHT, BASE = 360, 200, 120.0
PAPER, GRID, INK = (252, 246, 240), (235, 150, 150), (30, 30, 40)


def wave(x):
    """A beat every 120 px: a narrow R wave of 60 px, an S wave, and a slow T wave."""
    phase = (x - 40) % 120
    up = 60 * np.exp(-(((phase - 40) / 2.2) ** 2)) - 22 * np.exp(-(((phase - 47) / 2.0) ** 2))
    return BASE - up - 15 * np.exp(-(((phase - 85) / 12) ** 2))


def drawn(pen_px, start=20.0, stop=340.0):
    """Red paper with the wave in black, eight times as fine and then averaged."""
    fine = 8
    page = np.full((HEIGHT * fine, WIDTH * fine, 3), PAPER, np.uint8)
    for place in range(0, WIDTH * fine, int(PX_PER_MM) * fine):
        page[:, place : place + fine // 2] = GRID
        page[place : place + fine // 2] = GRID
    x = np.arange(start, stop, 0.05)
    points = np.rint((np.stack([x, wave(x)], -1) * fine - 0.5) * 16).astype(np.int32)
    cv2.polylines(page, [points], False, INK, round(pen_px * fine), cv2.LINE_AA, 4)
    return cv2.resize(page, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


def trace_map(start=20, stop=340):
    """What a network that sees every trace would draw."""
    columns = np.arange(start, stop)
    rows = np.arange(HEIGHT)[:, None]
    found = np.zeros((HEIGHT, WIDTH), np.float32)
    found[:, columns] = np.exp(-((rows + 0.5 - wave(columns + 0.5)[None]) ** 2) / 2.4)
    return found


@pytest.mark.parametrize("pen_px", [1.5, 2.5])
def test_the_wave_comes_back_from_its_ink(pen_px):
    page, trace = drawn(pen_px), trace_map()
    cover = ink_cover(page, trace, np.ones(trace.shape, bool))
    (row,) = follow_rows(trace, find_baselines(trace))
    (found,) = redraw(cover, [row])
    assert found.start == pytest.approx(20, abs=0.8) and found.stop == pytest.approx(340, abs=0.8)
    assert found.start + found.stop == pytest.approx(360, abs=0.3)  # both ends alike: the middle is sharp
    x = (np.arange(WIDTH * FINE) + 0.5) / FINE
    inside = (x > 24) & (x < 336)
    error = found.fine[inside] - wave(x[inside])
    assert 10 * np.log10(np.var(wave(x[inside])) / np.mean(error**2)) > 28
    for peak in (80, 200, 320):  # R waves
        near = np.abs(x - peak) < 4
        assert found.fine[near].min() == pytest.approx(wave(np.arange(peak - 4, peak + 4, 0.05)).min(), abs=1)


def test_grid_is_no_ink():
    page, trace = drawn(2.0), trace_map()
    cover = ink_cover(page, trace, np.ones(trace.shape, bool))
    away = cv2.dilate(trace, np.ones((15, 15))) < 0.01
    assert np.quantile(cover[away], 0.99) < 0.2
    assert np.median(cover[trace > 0.9]) == pytest.approx(1, abs=0.2)


def test_without_a_trace_there_is_no_ink():
    page = np.full((HEIGHT, WIDTH, 3), PAPER, np.uint8)
    blank = np.zeros((HEIGHT, WIDTH), np.float32)
    assert ink_cover(page, blank, np.ones(blank.shape, bool)) is None


def test_a_row_without_ink_stays_as_it_is():
    row = Row(BASE, np.full(WIDTH, BASE), np.ones(WIDTH, np.float32), 20.0, 340.0)
    assert redraw(np.zeros((HEIGHT, WIDTH), np.float32), [row])[0].fine is None
