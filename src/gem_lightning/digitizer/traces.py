"""Rows of traces of a flat page, without folds, borders and texts, and its calibration pulses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gem_lightning.digitizer.calibration import Pulse, find_pulses
from gem_lightning.digitizer.ink import ink_cover
from gem_lightning.digitizer.network import PRINT, PULSE, TRACE, draw_maps
from gem_lightning.digitizer.rectify import PX_PER_MM
from gem_lightning.digitizer.redraw import FINE, redraw
from gem_lightning.digitizer.rows import Row, find_baselines, follow_rows

_OTHER_INK = 0.5  # what other ink counts on a trace's path
_PULSE_SHARE = 0.2  # of a row, in which the pulse in front of it ends
_BLANK_PX, _PULSE_ROOM_MM = 3, 6.0  # a gap between a pulse's foot and the lead, and where it is looked for
_PITCH_OFF = 0.4  # of the pulses' distance: beyond half of it the next row begins (ours)
#: Of what the rows that pulses mark are inked, a row outside them is inked; of the rows' distance, it lies away (ours).
_INKED_OUTSIDE, _PITCH_NEAR = 0.9, 0.15
#: Of its ink, in the median column, a trace explains 0.9 on a scan, 0.8 on a photo and 0.6 on a blurred one, all rows
#: of a page alike: a row that explains less than the first, and than the second share of the page's best, is no line
#: of a pen (ours).
_LINE, _LINE_OF_BEST = 0.6, 0.75
_JAGGED = 0.4  # px a quarter column: less than half of any trace is as steep (ours)
_MOST_FOLDS = 2  # of a page, that are taken for rows: each costs two seconds
_INKED = 0.65  # of a row's columns hold a trace, at least: of a line of text at most half do (ours)


def find_traces(page: np.ndarray, paper: np.ndarray) -> tuple[list[Row], list[Pulse]]:
    """Return the rows of traces from top to bottom, without lines of text, folds and borders, and the pulses.

    Args:
        page: uint8 (H, W, 3), flat.
        paper: bool (H, W): where paper is.
    """
    maps = draw_maps(page, paper)
    cover = ink_cover(page, maps[TRACE], paper)
    # the network hardly sees the tip of a narrow R wave: any ink may carry a path that leaves its baseline
    other = np.maximum(maps[PULSE], maps[PRINT]) if cover is None else np.minimum(cover, 1)
    ink = np.maximum(maps[TRACE], _OTHER_INK * other) * paper
    rows = follow_rows(ink, find_baselines(maps[TRACE] * paper))
    pulses = find_pulses(maps[PULSE] * paper, cover)
    traces = _traces(rows, pulses)
    if len(traces) < len(rows):  # lines of text took pieces of the traces next to them
        rows = follow_rows(ink, np.array([row.baseline for row in traces]))
    rows = [replace(row, start=_behind_pulse(row, pulses)) for row in rows]
    if cover is not None:
        rows = redraw(cover, rows)
        for _ in range(_MOST_FOLDS):  # a fold, a border or a text: its neighbours may have followed it for a while
            shares = [_line_share(row) for row in rows]
            if not rows or min(shares) > min(_LINE, _LINE_OF_BEST * max(shares)):
                break
            rows = follow_rows(ink, np.delete([row.baseline for row in rows], int(np.argmin(shares))))
            rows = redraw(cover, [replace(row, start=_behind_pulse(row, pulses)) for row in rows])
    return rows, pulses


def _traces(rows: list[Row], pulses: list[Pulse]) -> list[Row]:
    """The rows that are no lines of text or borders.

    Text has gaps. Where most rows stand behind a pulse, what lies above the first or below the last of them is a trace
    only where it has hardly more gaps than those and lies as far away as the rows from each other.
    """
    if not rows:
        return []
    inked = {id(row): float((row.confidence[int(row.start) : int(row.stop)] > 0.5).mean()) for row in rows}
    room = _room(pulses)
    baselines = np.array([row.baseline for row in rows])
    nearest = [(p.baseline, float(baselines[np.argmin(np.abs(baselines - p.baseline))])) for p in pulses]
    marked = sorted({own for foot, own in nearest if abs(foot - own) < room})
    if 2 * len(marked) <= len(rows) or len(marked) < 2:
        return [row for row in rows if inked[id(row)] > _INKED]
    inside = [row for row in rows if marked[0] <= row.baseline <= marked[-1]]
    kept = [
        row
        for row in inside
        if row.baseline in marked or (inked[id(row)] > _INKED and min(abs(row.baseline - own) for own in marked) > room)
    ]
    pitch = float(np.median(np.diff([row.baseline for row in kept])))
    usual = float(np.median([inked[id(row)] for row in kept]))
    for row in rows:
        away = max(marked[0] - row.baseline, row.baseline - marked[-1])
        if abs(away / pitch - 1) < _PITCH_NEAR and inked[id(row)] > _INKED_OUTSIDE * usual:
            kept.append(row)
    return sorted(kept, key=lambda row: row.baseline)


def _room(pulses: list[Pulse]) -> float:
    """How far from a pulse's feet, at 0 mV, the trace of its row may dwell, px: an ST segment, or a wandering line."""
    apart = np.diff(sorted(p.baseline for p in pulses))
    apart = apart[apart > _PULSE_ROOM_MM * PX_PER_MM]
    return max(_PULSE_ROOM_MM * PX_PER_MM, _PITCH_OFF * float(np.median(apart)) if len(apart) else 0.0)


def _line_share(row: Row) -> float:
    """How much of a row's ink a pen's line explains: little of a fold, a border's shadow or a line of text."""
    inside = slice(int(row.start), int(row.stop))
    if row.explained is None or row.fine is None:
        return 1.0
    moves = np.abs(np.diff(row.fine[inside.start * FINE : inside.stop * FINE]))
    if len(moves) and float(np.median(moves)) > _JAGGED:  # a line that fills a broad stroke by going up and down
        return 0.0
    return float(np.median(row.explained[inside]))


def _behind_pulse(row: Row, pulses: list[Pulse]) -> float:
    """Where the first lead of a row begins: behind the pulse in front of it and the blank that follows its foot."""
    room = _PULSE_ROOM_MM * PX_PER_MM
    last = row.start + _PULSE_SHARE * (row.stop - row.start)  # ink of a margin may lie in front of the pulse
    reach = _room(pulses)
    near = [p for p in pulses if abs(p.baseline - row.baseline) < reach and row.start - room < p.stop < last]
    if not near:
        return row.start
    start = max(row.start, max(p.stop for p in near))
    first = int(start)
    blank = row.confidence[first : first + int(room)] < 0.3
    for k in range(len(blank) - _BLANK_PX, -1, -1):
        if blank[k : k + _BLANK_PX].all():
            return float(first + k + _BLANK_PX)
    return start
