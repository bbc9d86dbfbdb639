"""Digitise paper: flatten the page, trace its rows, name its leads, and say how far each sample can be trusted."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from gem_lightning.digitizer.calibration import Pulse
from gem_lightning.digitizer.layouts import AGREES, Choice, Strip, chosen, rank_layouts, row_count
from gem_lightning.digitizer.rectify import PX_PER_MM, Rectified, rectify
from gem_lightning.digitizer.redraw import FINE
from gem_lightning.digitizer.rows import Row
from gem_lightning.digitizer.traces import find_traces
from gem_lightning.ecg.record import LEADS, EcgRecord
from gem_lightning.errors import RenderError
from gem_lightning.render.layout import catalogue
from gem_lightning.render.load import load_ecg_image

FS = 500.0  # Hz of the record that is made
DEFAULT_SPEED, DEFAULT_GAIN = 25.0, 10.0  # where no pulse says: the usual ones (AHA/ACC/HRS 2007, part I)
_LONGEST_SIDE = 4200  # px: 15 px per mm of a letter page, beyond which nothing is gained
_SAME_START_MM = 1.5  # rows of one page begin and end together within this
_HALF_SECOND_PX = 3.0  # a page shows whole half seconds; ends that differ by less are read as one (ours)
#: Grid of which less is plainly seen, or whose tiles disagree more with one plane, is no ECG paper.
_LEAST_GRID, _MOST_MISFIT = 0.12, 0.045
_BORDER_PX = 1.5  # next to a border between two leads, where the ink of both runs together: half a pen, and a half
_LEAST_EXPLAINED = 0.15  # of the ink near a trace and of its own line, that must agree (ours)
_SEEN = 0.3  # confidence of a trace that its leads are tested by
_ODD_LENGTH_TRUST = 0.5  # of such a page: no sample counts as sure
_CROSSED_TRUST = 0.5  # of every lead where QRS complexes disagree: below one half nothing counts as sure (ours)
_TOO_CROSSED = 0.1  # of the leads' power: a page whose leads disagree more is read in a named layout only (ours)
#: Share of the plain grid that seems stretched by an eighth: 0.014 of a drawn page that was followed within 0.2 mm,
#: 0.023 of one with slips to a wrong line; text and clouds, taken for a grid, are torn to a tenth and more (ours).
_MOST_TORN, _NO_PAPER = 0.018, 0.08
_LEAST_CONFIDENCE = 0.45  # of the traces on average; a page below it is refused


@dataclass(frozen=True)
class DigitizedEcg:
    """A paper ECG as a signal.

    Attributes:
        record: Twelve leads at 500 Hz, mV; NaN where the page shows nothing. None where the page is refused.
        trust: float32 (leads, samples) in [0, 1]: 0 where the page shows nothing.
        layout: Name of the layout; empty where refused.
        speed: mm per s.
        gain: mm per mV.
        mapping: Flat page (px) to image (px) and to ms and mV; None where no grid was found.
        page: uint8 (H, W, 3): the flat page.
        notes: What was assumed, each in a sentence.
        refused: Why the page cannot be read; None where it was read.
    """

    record: EcgRecord | None
    trust: np.ndarray
    layout: str
    speed: float
    gain: float
    mapping: PageMapping | None
    page: np.ndarray
    notes: tuple[str, ...] = ()
    refused: str | None = None

    @property
    def lead_trust(self) -> dict[str, float]:
        """Mean trust of what the page shows of each lead; 0 where it shows nothing, empty where refused."""
        if self.record is None:
            return {}
        shown = np.isfinite(self.record.signal)
        return {
            lead: float(self.trust[k][shown[k]].mean()) if shown[k].any() else 0.0
            for k, lead in enumerate(self.record.leads)
        }

    def overlay(self) -> np.ndarray:
        """Return uint8 (H, W, 3): the flat page with what was read drawn over it."""
        from gem_lightning.digitizer.overlay import draw_overlay

        return draw_overlay(self)


@dataclass(frozen=True)
class PageMapping:
    """Where each strip lies.

    Attributes:
        flat: The flattened page; ``flat.to_image`` carries its px to the image's.
        strips: Lead, row, and time shown of each strip.
        x0: Place of time 0 on the flat page, px.
        baselines: Place of 0 mV of each row, px.
        px_per_s: Of the flat page.
        px_per_mv: Of each row.
    """

    flat: Rectified
    strips: tuple[Strip, ...]
    x0: float
    baselines: tuple[float, ...]
    px_per_s: float
    px_per_mv: tuple[float, ...]
    rows: tuple[Row, ...] = field(repr=False, default=())

    def to_signal(self, points: np.ndarray, row: int) -> np.ndarray:
        """Return (ms, mV) of points (n, 2) of the flat page, px, on a row."""
        points = np.asarray(points, np.float64)
        ms = (points[:, 0] - self.x0) / self.px_per_s * 1000
        return np.stack([ms, (self.baselines[row] - points[:, 1]) / self.px_per_mv[row]], -1)


def digitize(
    image: np.ndarray | str | os.PathLike[str] | bytes,
    layout: str = "auto",
    speed: float | None = None,
    gain: float | None = None,
) -> DigitizedEcg:
    """Digitise a photo, a scan or a screenshot of a 12-lead ECG on paper.

    Args:
        image: uint8 (H, W, 3), or an image file.
        layout: A name of ``layouts.yaml``; ``auto`` takes the one that the leads' relations prove.
        speed: mm per s; None reads it off the calibration pulse.
        gain: mm per mV; None reads it off the calibration pulse.

    Returns:
        The record with its trust, or the reason why the page is ``refused``: it is never guessed.

    Raises:
        RenderError: The file is no image, or an argument is unknown.
    """
    if layout != "auto" and layout not in catalogue()["layouts"]:
        raise RenderError(f"expected layout auto or one of {', '.join(catalogue()['layouts'])}, got {layout!r}")
    pixels = _pixels(image)
    if min(pixels.shape[:2]) < 200:  # a letter page of 200 px has less than one px per mm
        return _refused(pixels, "the image is too small: expected at least 200 px a side")
    flat = rectify(pixels)
    if flat.strength < _LEAST_GRID or flat.misfit > _MOST_MISFIT or flat.torn > _NO_PAPER:
        return _refused(pixels, "no grid of ECG paper was found; photograph the whole page, sharp and from above")
    if flat.torn > _MOST_TORN:
        return _refused(flat.page, "the paper is too crumpled to follow its grid; photograph it flat")
    rows, pulses = find_traces(flat.page, flat.paper)
    return _assemble(flat, rows, pulses, layout, speed, gain)


def _pixels(image: Any) -> np.ndarray:
    if not isinstance(image, np.ndarray):
        return load_ecg_image(Path(image) if isinstance(image, os.PathLike) else image, max_side=_LONGEST_SIDE)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise RenderError(f"expected uint8 (H, W, 3), got {image.dtype} {image.shape}; load files by their path")
    return image


def _refused(page: np.ndarray, why: str, mapping: PageMapping | None = None) -> DigitizedEcg:
    return DigitizedEcg(None, np.zeros((len(LEADS), 0), np.float32), "", 0.0, 0.0, mapping, page, (), why)


# -- from rows to leads ------------------------------------------------------------------------------------------------


def _assemble(
    flat: Rectified, rows: list[Row], pulses: list[Pulse], layout: str, speed: float | None, gain: float | None
) -> DigitizedEcg:
    if not rows:
        return _refused(flat.page, "no trace was found on the paper")
    scale = _read_scale(pulses, speed, gain)
    rows, x0, x1, usual = _stretch(rows, scale.speed)
    if (x1 - x0) / (scale.speed * PX_PER_MM) < 2:  # shorter than one column of a usual page
        return _refused(flat.page, "the traces found are shorter than two seconds; photograph the whole page")
    choice = _choose(rows, x0, x1, layout)
    if isinstance(choice, str):
        return _refused(flat.page, choice)
    own = [_of_row(row, pulses, rows) for row in rows]
    gains = [p.gain if gain is None and p is not None and p.gain is not None else scale.gain for p in own]
    baselines = [p.baseline if p is not None else row.baseline + 0.5 for p, row in zip(own, rows, strict=True)]
    mapping = PageMapping(
        flat,
        choice.strips,
        x0,
        tuple(baselines),
        scale.speed * PX_PER_MM,
        tuple(g * PX_PER_MM for g in gains),
        tuple(rows),
    )
    record, trust = _sample(mapping, x1)
    notes = scale.notes
    seen = trust[np.isfinite(record.signal)]
    if not len(seen) or float(seen.mean()) < _LEAST_CONFIDENCE:
        return _refused(flat.page, "the traces are too faint or too blurred to follow", mapping)
    if not usual:
        trust *= _ODD_LENGTH_TRUST
        notes += ("the traces are not as long as whole half seconds: their ends may be off, and with them all times",)
    if choice.crossed:
        trust *= _CROSSED_TRUST
        notes += ("the leads do not quite agree in their QRS complexes: some may be cut, or another row's",)
    found = DigitizedEcg(record, trust, choice.name, scale.speed, scale.gain, mapping, flat.page, notes)
    record.meta["paper"] = {  # by which quality knows that a lead is shown in part only
        "layout": found.layout,
        "speed_mm_s": found.speed,
        "gain_mm_mv": found.gain,
        "trust": {lead: round(trusted, 3) for lead, trusted in found.lead_trust.items()},
    }
    return found


@dataclass(frozen=True)
class _Scale:
    speed: float
    gain: float
    notes: tuple[str, ...]


def _read_scale(pulses: list[Pulse], speed: float | None, gain: float | None) -> _Scale:
    """Speed and gain: given, or those of most pulses, or the usual ones with a note."""
    notes = []
    speeds = [p.speed for p in pulses if p.speed is not None and p.gain is not None]
    gains = [p.gain for p in pulses if p.speed is not None and p.gain is not None]
    if speed is None:
        speed = max(set(speeds), key=speeds.count) if speeds else DEFAULT_SPEED
        if not speeds:
            notes.append(f"no calibration pulse was found: {DEFAULT_SPEED:g} mm/s is assumed")
    if gain is None:
        gain = max(set(gains), key=gains.count) if gains else DEFAULT_GAIN
        if not gains:
            notes.append(f"no calibration pulse was found: {DEFAULT_GAIN:g} mm/mV is assumed")
    return _Scale(float(speed), float(gain), tuple(notes))


def _stretch(rows: list[Row], speed: float) -> tuple[list[Row], float, float, bool]:
    """The rows that run over the page's common stretch, its ends, px, and whether it is as long as usual."""
    length = np.array([row.stop - row.start for row in rows])
    long = [row for row, own in zip(rows, length, strict=True) if own > 0.6 * length.max()]
    half = speed * PX_PER_MM / 2

    def off(start: float, stop: float) -> float:
        """How far the length is from whole half seconds, px."""
        return abs(stop - start - max(1, round((stop - start) / half)) * half)

    ends = [_clusters([getattr(row, end) for row in long]) for end in ("start", "stop")]
    # a page of an odd length has to be shown by half of the rows more
    found = max(
        ((n + m + (off(x0, x1) < _HALF_SECOND_PX) * len(long) / 2, x0, x1) for x0, n in ends[0] for x1, m in ends[1]),
        key=lambda one: one[0],
    )
    start, stop = found[1:]
    known = off(start, stop) < _HALF_SECOND_PX
    if known:  # a thick pen and a blurred page lengthen or shorten a trace at both ends alike
        length_px = round((stop - start) / half) * half
        start = (start + stop - length_px) / 2
        stop = start + length_px
    return long, start, stop, known


def _clusters(places: list[float]) -> list[tuple[float, int]]:
    """Places that rows share, px, and how many do; a row may begin or end with what is no trace of it."""
    near = [[q for q in places if abs(q - p) < _SAME_START_MM * PX_PER_MM] for p in places]
    return sorted({(float(np.median(group)), len(group)) for group in near})


def _choose(rows: list[Row], x0: float, x1: float, layout: str) -> Choice | str:
    """The page's layout, or why there is none."""
    if layout != "auto":
        if row_count(layout) != len(rows):
            return f"layout {layout} has {row_count(layout)} rows, {len(rows)} were found"
        (named,) = rank_layouts(_in_mm(rows, x0, x1), [layout])
        if named.left_over is not None and named.left_over > 4 * AGREES:  # the user says so, the leads say otherwise
            return f"the leads do not agree with each other in layout {layout}"
        return named
    choices = rank_layouts(_in_mm(rows, x0, x1))
    best = chosen(choices)
    if best is not None:
        if best.crossed and (best.at_worst or 0) > _TOO_CROSSED:
            return f"the leads do not agree in their QRS complexes; name the layout {best.name} to read the rest"
        return best
    if not choices:
        return f"no known layout has {len(rows)} rows of traces"
    if all(c.left_over is None for c in choices):
        return f"the leads of {len(rows)} rows cannot be distinguished; name the layout: {choices[0].name}"
    return "the leads do not agree with each other in any known layout; name it, or photograph the whole page"


def _in_mm(rows: list[Row], x0: float, x1: float) -> np.ndarray:
    """The rows' heights upwards (rows, quarter columns), mm; NaN where they are not seen."""
    places = np.arange(math.ceil(x0 * FINE), int(x1 * FINE))
    found = []
    for row in rows:
        fine = np.repeat(row.height, FINE) if row.fine is None else row.fine
        at = np.clip(places, 0, len(fine) - 1)
        found.append(np.where(row.confidence[at // FINE] > _SEEN, -fine[at] / PX_PER_MM, np.nan))
    return np.stack(found)


def _of_row(row: Row, pulses: list[Pulse], rows: list[Row]) -> Pulse | None:
    """The pulse that stands on a row: the nearest within half of the rows' distance."""
    pitch = float(np.median(np.diff([r.baseline for r in rows]))) if len(rows) > 1 else 30 * PX_PER_MM
    near = [
        p for p in pulses if p.gain is not None and p.speed is not None and abs(p.baseline - row.baseline) < pitch / 2
    ]
    return min(near, key=lambda p: abs(p.baseline - row.baseline), default=None)


def _sample(mapping: PageMapping, x1: float) -> tuple[EcgRecord, np.ndarray]:
    """The record at :data:`FS` and its trust."""
    seconds = (x1 - mapping.x0) / mapping.px_per_s
    signal = np.full((len(LEADS), round(seconds * FS)), np.nan, np.float32)
    trust = np.zeros(signal.shape, np.float32)
    times = np.arange(signal.shape[1]) / FS
    # a lead that is shown twice comes from its longer strip
    for strip in sorted(mapping.strips, key=lambda s: s.stop - s.start):
        row, name = mapping.rows[strip.row], strip.lead.removeprefix("-")
        sign = -1.0 if strip.lead.startswith("-") else 1.0
        inside = (times >= strip.start * seconds - 1e-9) & (times < strip.stop * seconds - 1e-9)
        columns, values = _columns(mapping, strip, seconds)
        if len(columns) < 4:
            continue
        place = mapping.x0 + times[inside] * mapping.px_per_s
        # a column beyond the first and last is still the same stroke
        within = (place >= columns[0] - _BORDER_PX - 1) & (place <= columns[-1] + _BORDER_PX + 1)
        clipped = np.clip(place, columns[0], columns[-1])
        value = sign * PchipInterpolator(columns, values)(clipped)
        lead = LEADS.index(name)
        signal[lead, inside] = np.where(within, value, np.nan)
        sure = row.confidence if row.explained is None else row.confidence * row.explained
        seen = np.interp(place, np.arange(len(sure)) + 0.5, sure)
        trust[lead, inside] = np.where(within, np.clip(seen, 0, 1), 0)
    return EcgRecord(signal, FS, LEADS, {"format": "paper"}), trust


def _columns(mapping: PageMapping, strip: Strip, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Middles of the columns in which a strip's trace is seen, px, and its values there, mV."""
    row = mapping.rows[strip.row]
    first = mapping.x0 + strip.start * seconds * mapping.px_per_s
    last = mapping.x0 + strip.stop * seconds * mapping.px_per_s
    columns = np.arange(max(0, int(np.ceil(first - 0.5))), min(len(row.height) - 1, int(np.floor(last - 0.5))) + 1)
    columns = columns[(row.confidence[columns] > 0.15) & (columns >= row.start) & (columns + 1 <= row.stop)]
    if row.explained is not None:  # a line over blank paper is no trace
        columns = columns[row.explained[columns] > _LEAST_EXPLAINED]
    if strip.start > 0:
        columns = columns[columns > first + _BORDER_PX]
    if strip.stop < 1:
        columns = columns[columns < last - 1 - _BORDER_PX]
    height, steps = (row.height, 1) if row.fine is None else (row.fine, FINE)
    places = (columns[:, None] * steps + np.arange(steps)).ravel()
    return (places + 0.5) / steps, (mapping.baselines[strip.row] - height[places]) / mapping.px_per_mv[strip.row]
