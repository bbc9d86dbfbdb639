"""Marks in the order of the heart's waves, in every lead and over all leads together."""

from __future__ import annotations

import numpy as np


def in_order(marks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Marks, (..., beats) each, so that none stands before its predecessor.

    A wave gives way to the QRS complex beside it, a T wave to what follows it; peaks lie between their ends; a wave for
    which no room is left is dropped.
    """
    m = dict(marks)
    start, stop = m["QRS_on"], m["QRS_off"]
    earlier = np.concatenate([np.full_like(stop[..., :1], np.nan), stop[..., :-1]], axis=-1)
    m["QRS_on"] = start = np.fmin(np.fmax(start, earlier), stop)
    m["R"] = np.clip(m["R"], start, stop)
    m["P_off"] = np.where(np.isnan(m["P_off"]), np.nan, np.fmin(m["P_off"], start))
    m["P_on"] = np.where(np.isnan(m["P_on"]), np.nan, np.fmax(m["P_on"], earlier))
    _place(m, "P")
    begin = np.where(np.isnan(m["P_on"]), start, m["P_on"])
    following = np.concatenate([begin[..., 1:], np.full_like(begin[..., :1], np.inf)], axis=-1)
    m["T_off"] = np.where(np.isnan(m["T_off"]), np.nan, np.fmin(m["T_off"], following))
    m["T_on"] = np.where(np.isnan(m["T_on"]), np.nan, np.fmax(m["T_on"], stop))
    _place(m, "T")
    return m


def _place(marks: dict[str, np.ndarray], wave: str) -> None:
    """Put the peak between the ends; drop the wave where they have crossed."""
    on, off = marks[f"{wave}_on"], marks[f"{wave}_off"]
    gone = ~(on < off)
    marks[wave] = np.where(gone, np.nan, np.clip(marks[wave], on, off))
    marks[f"{wave}_on"], marks[f"{wave}_off"] = np.where(gone, np.nan, on), np.where(gone, np.nan, off)
