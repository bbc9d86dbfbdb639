"""Plot an ECG with its marks and intervals, as a matplotlib figure or as SVG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.features.delineate import delineate
from gem_lightning.features.schema import Delineation, EcgFeatures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"P": "#1b7f4d", "QRS": "#b3261e", "T": "#1f5fa8"}
_PEAK = {"P": "P", "QRS": "R", "T": "T"}
_TRACE = "#222222"
_GRID = "#f0c9c4"


def plot(
    record: EcgRecord,
    features: EcgFeatures,
    delineation: Delineation | None = None,
    leads: tuple[str, ...] | None = None,
    columns: int = 2,
) -> Figure:
    """Leads over time with P, QRS and T shaded from onset to offset, and the intervals in the title.

    Args:
        record: The record.
        features: Its measurements.
        delineation: Its marks; computed where None.
        leads: Which leads, in order; all by default.
        columns: Columns of panels.

    Returns:
        A matplotlib figure that belongs to no window; ``figure.savefig(path)`` writes it.
    """
    from matplotlib.figure import Figure

    marks = delineate(record) if delineation is None else delineation
    names = leads or record.leads
    rows = -(-len(names) // columns)
    # 1.25 inches a lead: a QRS of 2 mV stays readable
    figure = Figure(figsize=(7.5 * columns, 1.25 * rows + 0.7), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False)
    for k, panel in enumerate(axes.T.ravel()):
        if k < len(names):
            _panel(panel, record, marks, names[k])
        else:
            panel.set_visible(False)
    for panel in axes[-1]:
        panel.set_xlabel("s", fontsize=8)
    figure.suptitle(headline(features), fontsize=10)
    return figure


def svg(record: EcgRecord, features: EcgFeatures, delineation: Delineation | None = None, columns: int = 2) -> str:
    """Render as an SVG element without XML header, ready to be put into a page."""
    import matplotlib as mpl

    buffer = io.StringIO()
    # Fixed ids and no date: the same record gives the same bytes.
    with mpl.rc_context({"svg.hashsalt": "gem-lightning", "svg.fonttype": "none"}):
        plot(record, features, delineation, columns=columns).savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def headline(features: EcgFeatures) -> str:
    """Rate and intervals in one line, or why there are none."""
    if features.reason and features.heart_rate_bpm is None:
        return features.reason
    parts = [
        _value("rate", features.heart_rate_bpm, "/min"),
        _value("PR", features.pr_ms, "ms"),
        _value("QRS", features.qrs_ms, "ms"),
        _value("QT", features.qt_ms, "ms"),
        _value("QTc (Fridericia)", features.qtc_ms.get("fridericia"), "ms"),
        _value("QRS axis", features.axis_deg.get("QRS"), "°"),
    ]
    return "   ".join(part for part in parts if part)


def _value(name: str, value: float | None, unit: str) -> str:
    return "" if value is None else f"{name} {value:.0f}{'' if unit == '°' else ' '}{unit}"


def _panel(panel: Axes, record: EcgRecord, marks: Delineation, name: str) -> None:
    """One lead with its marks."""
    row = record.leads.index(name)
    signal = record.signal[row]
    step = max(1, round(record.fs / 250))  # what 250 Hz leaves out is thinner than the line
    time = np.arange(0, record.samples, step) / record.fs
    panel.plot(time, signal[::step], color=_TRACE, linewidth=0.7)
    for wave, colour in COLOURS.items():
        on, off = (marks.marks[f"{wave}_{end}"][row] / marks.fs for end in ("on", "off"))
        for start, stop in zip(on, off):
            if np.isfinite(start) and np.isfinite(stop):
                panel.axvspan(start, stop, color=colour, alpha=0.16, linewidth=0)
        peak = marks.marks[_PEAK[wave]][row]
        peak = peak[np.isfinite(peak)].round().astype(int)
        panel.plot(peak / marks.fs, signal[peak], linestyle="", marker=".", markersize=3.5, color=colour)
    panel.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    panel.set_xlim(0, record.seconds)
    panel.tick_params(labelsize=7)
    panel.grid(color=_GRID, linewidth=0.5)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
