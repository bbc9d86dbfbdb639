"""Marks in the order of the heart's waves, in every lead and over all leads together."""

from __future__ import annotations

import numpy as np


def in_order(marks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Order marks, (..., beats) each, so that none lies before its predecessor.

    A wave gives way to the QRS complex next to it, a T wave to what follows it; peaks lie between their ends. A wave
    for which no room is left is dropped, and P and T waves with their complex.
    """
    m = dict(marks)
    m["QRS_on"], m["QRS_off"] = _apart(m["QRS_on"], m["R"], m["QRS_off"])
    _place(m, "QRS", "R")
    start, stop = m["QRS_on"], m["QRS_off"]
    for name in ("P_on", "P_off", "T_on", "T_off"):
        m[name] = np.where(np.isnan(start), np.nan, m[name])
    earlier = np.concatenate([np.full_like(stop[..., :1], np.nan), stop[..., :-1]], axis=-1)
    m["P_off"] = np.where(np.isnan(m["P_off"]), np.nan, np.fmin(m["P_off"], start))
    m["P_on"] = np.where(np.isnan(m["P_on"]), np.nan, np.fmax(m["P_on"], earlier))
    _place(m, "P", "P")
    begin = np.where(np.isnan(m["P_on"]), start, m["P_on"])
    following = np.concatenate([begin[..., 1:], np.full_like(begin[..., :1], np.inf)], axis=-1)
    m["T_off"] = np.where(np.isnan(m["T_off"]), np.nan, np.fmin(m["T_off"], following))
    m["T_on"] = np.where(np.isnan(m["T_on"]), np.nan, np.fmax(m["T_on"], stop))
    _place(m, "T", "T")
    return m


def _apart(on: np.ndarray, peak: np.ndarray, off: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return onsets and offsets (..., beats) of complexes that do not overlap: each ends before the next one's peak."""
    following = np.concatenate([peak[..., 1:], np.full_like(peak[..., :1], np.nan)], axis=-1)
    edges = np.stack([on, np.where(np.isnan(off), np.nan, np.fmin(off, following))], axis=-1)  # (..., beats, 2)
    flat = edges.reshape(*on.shape[:-1], -1)
    edges = np.where(np.isnan(flat), np.nan, np.fmax.accumulate(flat, axis=-1)).reshape(edges.shape)
    return edges[..., 0], edges[..., 1]


def _place(marks: dict[str, np.ndarray], wave: str, peak: str) -> None:
    """Put the peak between the ends; drop the wave where they have crossed."""
    on, off = marks[f"{wave}_on"], marks[f"{wave}_off"]
    gone = ~(on < off)
    marks[peak] = np.where(gone, np.nan, np.clip(marks[peak], on, off))
    marks[f"{wave}_on"], marks[f"{wave}_off"] = np.where(gone, np.nan, on), np.where(gone, np.nan, off)
