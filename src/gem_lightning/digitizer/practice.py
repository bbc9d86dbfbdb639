"""Pieces of ECG paper to train the digitiser on: drawn with random grids, inks, prints and flaws, with their truth.

They are drawn on the flat page itself, at :data:`PX_PER_MM`: cheap, and freer than the renderer's styles, because a
network that has seen one style only does not read another device's pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from gem_lightning.digitizer.network import MAPS, PRINT, PULSE, TRACE
from gem_lightning.digitizer.rectify import PX_PER_MM
from gem_lightning.ecg.record import LEADS, EcgRecord
from gem_lightning.render.handmarks import scribble

_FINE = 3  # times the page's resolution: lines are drawn there, so that they have soft edges
_SPREAD_PX = 1.1  # of the truth around a trace's sample: a line of 0.4 mm is two and a half pixels wide
_STEEP = 3.0  # pixels a column: the flanks of QRS complexes, whose columns are few and matter most
_WORDS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6", "25 mm/s", "10 mm/mV", "50 mm/s",
          "Vent. rate", "BPM", "PR interval", "QRS duration", "QT/QTc", "ms", "Normal sinus rhythm", "ID:", "Sex: F",
          "Age 64", "0.05-150 Hz", "60 Hz", "Unconfirmed", "Abnormal ECG", "12:48:01")  # fmt: skip
_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_PLAIN, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX,
          cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_COMPLEX_SMALL, cv2.FONT_HERSHEY_SCRIPT_SIMPLEX)  # fmt: skip


class Practice(NamedTuple):
    """A piece of paper, uint8 (N, N, 3), what it shows, float32 (MAPS, N, N), and where traces are steep, bool."""

    image: np.ndarray
    maps: np.ndarray
    steep: np.ndarray


def practise(records: Sequence[EcgRecord], seed: Sequence[int], size: int = 192) -> Practice:
    """Draw one piece of paper.

    Args:
        records: Traces are taken from these.
        seed: The same seed draws the same piece.
        size: Side, px of the flat page.
    """
    rng = np.random.default_rng(list(seed))
    paper, ink = _colours(rng)
    canvas = _grid(rng, size, paper)
    layer = np.zeros((size * _FINE, size * _FINE), np.uint8)
    maps, steep = np.zeros((MAPS, size, size), np.float32), np.zeros((size, size), bool)
    _prints(rng, layer, maps, size)
    _traces(rng, records, layer, maps, steep, size)
    cover = _shrunk(layer, size)[..., None]
    strength = rng.uniform(0.35, 1.0) if rng.random() < 0.4 else 1.0  # faded thermal paper
    image = canvas * (1 - strength * cover) + ink * strength * cover
    if rng.random() < 0.15:
        marked = np.clip(image, 0, 255).astype(np.uint8)
        before = marked.copy()
        scribble(marked, PX_PER_MM, rng)
        maps[PRINT] = np.maximum(maps[PRINT], (np.abs(marked.astype(int) - before).max(2) > 40).astype(np.float32))
        image = marked.astype(np.float32)
    return Practice(_flaws(rng, image), maps, steep)


def _colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    paper = np.clip(rng.normal([250, 248, 244], [6, 8, 12]), 190, 255)
    dark = rng.random()
    if dark < 0.7:
        ink = rng.uniform(0, 70) + rng.normal(0, 6, 3)
    elif dark < 0.9:
        ink = np.array([rng.uniform(0, 60), rng.uniform(0, 70), rng.uniform(60, 170)])  # blue pens and thermal heads
    else:
        ink = np.array([rng.uniform(90, 170), rng.uniform(0, 50), rng.uniform(0, 60)])
    return paper, np.clip(ink, 0, 255)


def _grid(rng: np.random.Generator, size: int, paper: np.ndarray) -> np.ndarray:
    """Paper with its lines: none, heavy ones only, both, or dots."""
    canvas = np.ones((size, size, 3), np.float32) * paper.astype(np.float32)
    kind = rng.choice(["both", "heavy", "dots", "none"], p=[0.75, 0.1, 0.1, 0.05])
    if kind == "none":
        return canvas
    hue = [np.array(c, float) for c in ((1, 0.35, 0.3), (1, 0.45, 0.5), (0.35, 0.55, 1), (0.3, 0.75, 0.4), (0.5,) * 3,
                                        (0.85, 0.55, 0.25))][rng.integers(6)]  # fmt: skip
    colour = np.clip(hue * rng.uniform(0.75, 1.0) * 255, 0, 255)
    turn = np.deg2rad(rng.normal(0, 0.3))
    scale = np.exp(rng.normal(0, 0.01, 2)) * PX_PER_MM
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    across = (np.cos(turn) * x + np.sin(turn) * y) / scale[0] + rng.uniform(0, 5)
    down = (np.cos(turn) * y - np.sin(turn) * x) / scale[1] + rng.uniform(0, 5)
    heavy = rng.uniform(0.3, 0.95)
    light = heavy * rng.uniform(0.1, 0.7)
    width = rng.uniform(0.1, 0.25), rng.uniform(0.06, 0.16)
    cover = np.maximum(_lines(across, 5, width[0]), _lines(down, 5, width[0])) * heavy
    if kind == "both":
        cover = np.maximum(cover, np.maximum(_lines(across, 1, width[1]), _lines(down, 1, width[1])) * light)
    elif kind == "dots":
        cover = np.maximum(cover * rng.uniform(0, 1), np.minimum(_lines(across, 1, 0.2), _lines(down, 1, 0.2)) * heavy)
    return canvas * (1 - cover[..., None]) + colour.astype(np.float32) * cover[..., None]


def _lines(coordinate: np.ndarray, spacing: float, width: float) -> np.ndarray:
    """Cover in [0, 1] of lines ``spacing`` mm apart and ``width`` mm wide, with edges one pixel soft."""
    gap = np.abs((coordinate + spacing / 2) % spacing - spacing / 2)
    return np.clip((width / 2 - gap) * PX_PER_MM + 0.5, 0, min(1.0, width * PX_PER_MM))


def _traces(
    rng: np.random.Generator,
    records: Sequence[EcgRecord],
    layer: np.ndarray,
    maps: np.ndarray,
    steep: np.ndarray,
    size: int,
) -> None:
    """One to four strips, which may begin, end, step to another lead, and cross."""
    speed = [25.0, 25.0, 25.0, 50.0, 12.5][rng.integers(5)]
    gain = [10.0, 10.0, 10.0, 5.0, 20.0][rng.integers(5)]
    width = rng.uniform(0.18, 0.55)
    pitch = rng.uniform(12, 40) * PX_PER_MM
    first = rng.uniform(-0.3, 1.0) * pitch
    for k in range(1 + int(size / pitch) + 1):
        baseline = first + k * pitch
        if rng.random() < 0.12 or baseline > size + pitch / 2:
            continue
        left = 0.0 if rng.random() < 0.75 else rng.uniform(0, size * 0.6)
        right = float(size) if rng.random() < 0.75 else max(left, rng.uniform(size * 0.4, size))
        cut = rng.uniform(left, right) if rng.random() < 0.3 else right
        for a, b in ((left, cut), (cut, right)):
            if b - a > 8:
                drawn = _strip(rng, records, layer, (a, b), baseline, speed, gain, width)
                _mark(maps[TRACE], steep, *drawn)
    if rng.random() < 0.25:
        _pulse(rng, layer, maps, size, speed, gain, width)


def _strip(
    rng: np.random.Generator,
    records: Sequence[EcgRecord],
    layer: np.ndarray,
    span: tuple[float, float],
    baseline: float,
    speed: float,
    gain: float,
    width: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a piece of a lead; return the places of its samples, px."""
    record = records[int(rng.integers(len(records)))]
    signal = record.lead(LEADS[rng.integers(len(LEADS))])
    if rng.random() < 0.3:
        signal = signal * np.exp(rng.normal(0, 0.5))
    seconds = (span[1] - span[0]) / PX_PER_MM / speed
    start = rng.uniform(0, max(0.01, record.seconds - seconds - 0.01))
    times = np.arange(max(0, int(start * record.fs)), min(len(signal), int((start + seconds) * record.fs) + 1))
    values = signal[times]
    if len(times) < 3 or not np.isfinite(values).all():
        return np.zeros(0), np.zeros(0)
    x = span[0] + (times / record.fs - start) * speed * PX_PER_MM
    y = baseline - values * gain * PX_PER_MM
    _polyline(layer, x, y, width)
    return x, y


def _mark(target: np.ndarray, steep: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Write a soft spot at the trace's height in each column's middle, and note where it is steep."""
    if not len(x):
        return
    height, width = target.shape
    columns = np.arange(max(0, int(np.ceil(x[0] - 0.5))), min(width - 1, int(np.floor(x[-1] - 0.5))) + 1)
    centre = np.interp(columns + 0.5, x, y) - 0.5
    rows = np.rint(centre).astype(int)[None] + np.arange(-4, 5)[:, None]
    value = np.exp(-((rows - centre[None]) ** 2) / (2 * _SPREAD_PX**2)).astype(np.float32)
    inside = (rows >= 0) & (rows < height)
    place = rows[inside], np.broadcast_to(columns, rows.shape)[inside]
    np.maximum.at(target, place, value[inside])
    rise = np.abs(np.gradient(centre)) if len(centre) > 1 else np.zeros(len(centre))
    near = np.maximum(rise, np.maximum(np.r_[0, rise[:-1]], np.r_[rise[1:], 0]))  # the tip between two flanks too
    steep[place] |= np.broadcast_to(near > _STEEP, rows.shape)[inside]


def _polyline(layer: np.ndarray, x: np.ndarray, y: np.ndarray, width_mm: float) -> None:
    points = (np.stack([x, y], -1) * _FINE - 0.5) * 16  # whole numbers are the middles of pixels there
    thick = max(1, round(width_mm * PX_PER_MM * _FINE))
    cv2.polylines(layer, [np.rint(points).astype(np.int32)], False, 255, thick, cv2.LINE_AA, 4)


def _shrunk(layer: np.ndarray, size: int) -> np.ndarray:
    """Share of each pixel of the page that a layer covers."""
    return cv2.resize(layer, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _pulse(
    rng: np.random.Generator, layer: np.ndarray, maps: np.ndarray, size: int, speed: float, gain: float, width: float
) -> None:
    x, y = rng.uniform(0, size - 40), rng.uniform(60, size)
    side, long, high = rng.uniform(1, 3) * PX_PER_MM, 0.2 * speed * PX_PER_MM, gain * PX_PER_MM
    points = np.array([(0, 0), (side, 0), (side, -high), (side + long, -high), (side + long, 0), (2 * side + long, 0)])
    _polyline(layer, x + points[:, 0], y + points[:, 1], width)
    drawn = np.zeros_like(layer)
    _polyline(drawn, x + points[:, 0], y + points[:, 1], max(width, 0.4))
    maps[PULSE] = np.maximum(maps[PULSE], _shrunk(drawn, size) > 0.3)


def _prints(rng: np.random.Generator, layer: np.ndarray, maps: np.ndarray, size: int) -> None:
    """Words, separators, dashed lines over the whole height, and bars over names."""
    drawn = np.zeros_like(layer)
    for _ in range(rng.poisson(1.6)):
        word = " ".join(_WORDS[i] for i in rng.integers(len(_WORDS), size=rng.integers(1, 4)))
        font, scale = _FONTS[rng.integers(len(_FONTS))], rng.uniform(0.35, 1.1) * PX_PER_MM * _FINE / 18
        place = (rng.uniform(-0.2, 0.9, 2) * size * _FINE).astype(int)
        cv2.putText(drawn, word, tuple(map(int, place)), font, scale, 255, int(rng.integers(1, 4)), cv2.LINE_AA)
    if rng.random() < 0.25:
        x = rng.uniform(0, size)
        dash, gap = rng.uniform(1, 6) * PX_PER_MM, rng.uniform(0, 4) * PX_PER_MM
        low, high = (0, size) if rng.random() < 0.5 else np.sort(rng.uniform(0, size, 2))
        for y in np.arange(low, high, dash + gap + 1e-3):
            _polyline(drawn, np.array([x, x]), np.array([y, min(high, y + dash)]), rng.uniform(0.15, 0.4))
    if rng.random() < 0.08:
        x0, y0 = rng.uniform(-20, size, 2)
        x1, y1 = x0 + rng.uniform(40, 200), y0 + rng.uniform(15, 40)
        drawn[max(0, int(y0 * _FINE)) : int(y1 * _FINE) + 1, max(0, int(x0 * _FINE)) : int(x1 * _FINE) + 1] = 255
    np.maximum(layer, drawn, out=layer)
    maps[PRINT] = _shrunk(drawn, size) > 0.3


def _flaws(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """What a camera, a scanner and a fax do: light, blur, few pixels, noise, JPEG."""
    size = image.shape[0]
    if rng.random() < 0.6:
        y, x = np.mgrid[0:size, 0:size] / size - 0.5
        light = 1 + rng.normal(0, 0.12) * x + rng.normal(0, 0.12) * y
        if rng.random() < 0.3:  # the edge of a shadow
            light = light * (1 - rng.uniform(0.1, 0.4) / (1 + np.exp(-(x * rng.normal() + y * rng.normal()) * 40)))
        image = image * light[..., None]
    if rng.random() < 0.5:
        image = image * np.exp(rng.normal(0, 0.06, 3))
    if rng.random() < 0.6:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.6))
    if rng.random() < 0.6:  # 2 to 10 px per mm
        small = max(48, round(size * rng.uniform(2, 10) / PX_PER_MM)) if rng.random() < 0.7 else round(size * 0.6)
        shrink = cv2.INTER_AREA if small < size else cv2.INTER_LINEAR
        image = cv2.resize(cv2.resize(image, (small, small), interpolation=shrink), (size, size),
                           interpolation=cv2.INTER_LINEAR)  # fmt: skip
    if rng.random() < 0.6:
        image = image + rng.normal(0, rng.uniform(1, 14), image.shape)
    if rng.random() < 0.2:
        image = np.repeat(image.mean(2, keepdims=True), 3, 2)
    if rng.random() < 0.05:
        image = 255 - image if rng.random() < 0.2 else (image > rng.uniform(110, 180)) * 255.0  # a fax
    done = np.clip(image, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 95))]
        done = cv2.imdecode(cv2.imencode(".jpg", done, quality)[1], cv2.IMREAD_COLOR)
    return done
