"""A scene in millimetres: which lead is drawn where and when. Layouts are data (``layouts.yaml``)."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

from gem_lightning.ecg.record import LEADS
from gem_lightning.errors import RenderError
from gem_lightning.plugins import plugins

BIG_BOX = 5.0  # mm, the grid's heavy lines; baselines and column starts lie on them
MARGIN = 5.0  # mm above and below
_SIDE = 3.5  # mm left and right
_NAME_ROOM = 12.0  # mm for a lead name left of the pulse
PULSE_MV, PULSE_S = 1.0, 0.2  # the standardisation pulse: 1 mV for 200 ms (AHA/ACC/HRS 2007, part I)
_PULSE_GAP = 1.5  # mm of baseline on each side of the pulse
_MAX_PITCH = 45.0  # mm between two rows


class Slot(NamedTuple):
    """A strip: its lead, its window (s from the start of the excerpt), start and baseline (mm), gain (mm/mV)."""

    lead: str
    t0: float
    t1: float
    x: float
    baseline: float
    gain: float


@dataclass(frozen=True)
class Scene:
    """Everything on the page, in mm from its top left corner.

    Attributes:
        page: (width, height).
        slots: The strips.
        pulses: (x, baseline, gain) of each calibration pulse.
        names: (lead, x, y) of each printed lead name: left of the pulse where rows hold one
            lead each, else above the strip.
        separators: (x, baseline) of each border between two leads of a row.
        pitch: Distance of rows.
        top, bottom: Where traces may be: between header and footer.
        seconds: Time on show, s.
        requested: Requested duration, s.
    """

    page: tuple[float, float]
    slots: tuple[Slot, ...]
    pulses: tuple[tuple[float, float, float], ...]
    names: tuple[tuple[str, float, float], ...]
    separators: tuple[tuple[float, float], ...]
    pitch: float
    top: float
    bottom: float
    seconds: float
    requested: float


@functools.cache
def catalogue() -> dict[str, Any]:
    """``layouts.yaml``: ``layouts`` and ``papers`` by name."""
    import yaml

    return yaml.safe_load(resources.files("gem_lightning.render").joinpath("layouts.yaml").read_text("utf-8"))


def find_layout(layout: str | Mapping[str, Any]) -> tuple[list[list[str]], list[str], str]:
    """Rows, rhythm leads and usual paper of a layout, by name or as a mapping with ``rows`` (and ``rhythm``).

    Names are those of ``layouts.yaml`` and of the entry point group ``gem_lightning.layouts`` of other packages, where
    each entry point is such a mapping.

    Raises:
        RenderError: An unknown name, an empty layout or an unknown lead.
    """
    if not isinstance(layout, str):
        found = layout
    elif layout in catalogue()["layouts"]:
        found = catalogue()["layouts"][layout]
    elif layout in plugins("layouts"):
        found = plugins("layouts")[layout].load()
    else:
        raise RenderError(
            f"expected a layout out of {', '.join((*catalogue()['layouts'], *plugins('layouts')))}, got {layout!r}; "
            'or give your own: {"rows": [["I", "V1"], ["II", "V2"]], "rhythm": ["II"]}'
        )
    rows = [[row] if isinstance(row, str) else [str(lead) for lead in row] for row in found.get("rows") or []]
    rhythm = [str(lead) for lead in found.get("rhythm") or []]
    if not rows or not all(rows):
        raise RenderError(f"expected a layout with at least one lead in each row, got {dict(found)!r}")
    for lead in [lead for row in rows for lead in row] + rhythm:
        if lead.removeprefix("-") not in LEADS:
            raise RenderError(f"expected the layout's leads out of {', '.join(LEADS)} (a minus inverts), got {lead!r}")
    return rows, rhythm, str(found.get("paper", "letter"))


def build_scene(
    layout: str | Mapping[str, Any],
    paper: str | Sequence[float] | None,
    speed: float,
    gain: float,
    seconds: float,
    half_gain_precordials: bool = False,
    header_mm: float = 0.0,
    footer_mm: float = 8.0,
) -> Scene:
    """Put a layout on paper.

    Args:
        layout: A name of ``layouts.yaml`` or a mapping.
        paper: ``letter``, ``a4``, ``fit`` (as large as the content), (width, height) in mm, or the layout's own.
        speed: mm/s.
        gain: mm/mV.
        seconds: Time on show, s; cut to what the paper holds.
        half_gain_precordials: Draw V1 to V6 at half of the gain.
        header_mm, footer_mm: Room for the header's and the footer's text, mm.

    Raises:
        RenderError: The layout is unknown or does not fit on the paper.
    """
    rows, rhythm, usual = find_layout(layout)
    strips = [*rows, *([lead] for lead in rhythm)]
    alone = all(len(strip) == 1 for strip in strips)
    # pulse, its gaps and 2 mm before the first sample; names stand left of single-lead rows
    lead_in = 2 * _PULSE_GAP + PULSE_S * speed + 2.0 + (_NAME_ROOM if alone else 0.0)
    top, foot = MARGIN + header_mm, MARGIN + footer_mm
    wish = usual if paper is None else paper
    if wish == "fit":
        # twelve rows still fit on a letter page; fewer rows get room for 3.5 mV
        pitch = 15.0 if len(strips) > 8 else 35.0
        width = math.ceil((lead_in + seconds * speed + 2 * _SIDE) / BIG_BOX) * BIG_BOX + BIG_BOX
        page = (width, math.ceil((top + foot + len(strips) * pitch) / BIG_BOX) * BIG_BOX)
    else:
        page = _paper(wish)
    # whole half seconds, so that columns begin on a grid line
    shown = min(seconds, math.floor((page[0] - 2 * _SIDE - lead_in) / speed / 0.5 + 1e-9) * 0.5)
    pitch = min(_MAX_PITCH, (page[1] - top - foot) / len(strips))
    # below 4 mm a row cannot hold even a small QRS complex
    if shown <= 0 or pitch < 4:
        raise RenderError(
            f"expected paper that holds {len(strips)} rows at {speed:g} mm/s, got {page[0]:g} x {page[1]:g} mm; "
            "use paper='fit' or a larger one"
        )
    # baselines on the 5 mm lattice, where the rows allow it
    pitch = math.floor(pitch / BIG_BOX) * BIG_BOX or pitch
    start = round((page[0] + lead_in - shown * speed) / 2 / BIG_BOX) * BIG_BOX
    if start + shown * speed > page[0] - _SIDE:
        start -= BIG_BOX
    # six tenths above, four below: R waves are taller than S waves are deep
    first = top + (page[1] - top - foot - len(strips) * pitch) / 2 + 0.6 * pitch
    first = round(first / BIG_BOX) * BIG_BOX
    spots = _place(strips, start, first, pitch, shown, speed, gain, half_gain_precordials)
    return Scene(page, *spots, pitch, top, page[1] - foot, shown, float(seconds))


def _place(
    strips: list[list[str]],
    start: float,
    first: float,
    pitch: float,
    shown: float,
    speed: float,
    gain: float,
    halve: bool,
) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
    """Slots, pulses, names and separators of rows that begin at x ``start`` and lie ``pitch`` apart, mm."""
    alone = all(len(strip) == 1 for strip in strips)
    pulse_x = start - 1.0 - _PULSE_GAP - PULSE_S * speed
    slots, names, separators, pulses = [], [], [], []
    for r, strip in enumerate(strips):
        baseline, span = first + r * pitch, shown / len(strip)
        for c, lead in enumerate(strip):
            factor = 0.5 if halve and lead.startswith("V") else 1.0
            x = start + c * span * speed
            slots.append(Slot(lead, c * span, (c + 1) * span, x, baseline, gain * factor))
            left_of_pulse = (lead, pulse_x - _PULSE_GAP - _NAME_ROOM + 1.0, baseline - 1.0)
            names.append(left_of_pulse if alone else (lead, x + 1.0, baseline - min(0.42 * pitch, 11.0)))
            if c:
                separators.append((x, baseline))
        halved = halve and all(lead.startswith("V") for lead in strip)
        pulses.append((pulse_x, baseline, gain / 2 if halved else gain))
    return tuple(slots), tuple(pulses), tuple(names), tuple(separators)


def _paper(paper: str | Sequence[float]) -> tuple[float, float]:
    """(width, height) of a paper, mm."""
    if isinstance(paper, str):
        papers = catalogue()["papers"]
        if paper not in papers:
            raise RenderError(f"expected paper out of {', '.join(papers)}, fit, or (width, height) mm, got {paper!r}")
        paper = papers[paper]
    width, height = (float(side) for side in paper)
    # mm: from a wrist display to a roll of paper; beyond it inches or pixels were meant
    if not (20 <= width <= 5000 and 20 <= height <= 5000):
        raise RenderError(f"expected paper of 20 to 5000 mm a side, got {width:g} x {height:g} mm")
    return width, height
