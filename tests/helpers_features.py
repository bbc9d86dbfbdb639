"""Measurements of a normal ECG that tests change one by one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from gem_lightning.ecg import LEADS, simulate
from gem_lightning.features import measure
from gem_lightning.features.schema import BeatTable


@cache
def sinus():
    return measure(simulate("sinus", seed=1).record, age=50, sex="M")


def make(leads=None, st=None, rr=None, pr=None, kinds=None, notes=None, **fields):
    """A normal ECG with other leads (fields by name), J levels, RR and PR by beat, beat classes, rhythm notes."""
    features = sinus()
    table = {name: replace(lead, **(leads or {}).get(name, {})) for name, lead in features.leads.items()}
    levels = {
        name: dict.fromkeys(points, (st or {})[name]) if name in (st or {}) else dict(points)
        for name, points in features.st_mv.items()
    }
    beats = features.beats
    if rr is not None or pr is not None or kinds is not None:
        count = len(next(v for v in (kinds, rr, pr) if v is not None))
        whole = {name: column[:1].repeat(count) for name, column in beats.whole.items()}
        whole["rr_ms"] = np.array([800.0] * count if rr is None else rr, float)
        whole["pr_ms"] = np.array([160.0] * count if pr is None else pr, float)
        classes = np.array(["normal"] * count if kinds is None else kinds, object)
        beats = BeatTable(np.arange(count) * 0.8, classes, whole, {}, beats.leads)
        fields.setdefault("seconds", count * 0.8)
    if notes is not None:
        fields.setdefault("rhythm", replace(features.rhythm, notes=notes))
    return replace(features, leads=table, st_mv=levels, beats=beats, **fields)


def qtc(value):
    return {"qtc_ms": sinus().qtc_ms | {"fridericia": value}}


def axis(value):
    return {"axis_deg": sinus().axis_deg | {"QRS": value}}


def every(names=LEADS, **fields):
    return dict.fromkeys(names, fields)


RIGHT = {"I": {"s_ms": 50.0}, "V6": {"s_ms": 50.0}, "V1": {"r_mv": 0.2, "r2_mv": 0.5}}
LEFT = {
    "I": {"q_mv": 0.0, "r_mv": 1.0, "s_mv": 0.0, "r_peak_ms": 70.0}, "V6": {"q_mv": 0.0, "r_mv": 1.0, "s_mv": 0.1},
    "V5": {"r_peak_ms": 30.0}, "V1": {"r_mv": 0.1, "s_mv": 1.0, "r2_mv": None, "q_mv": None},
}  # fmt: skip
LAFB = {"aVL": {"q_mv": 0.1, "r_mv": 0.8, "s_mv": 0.1, "r_peak_ms": 55.0}}
LPFB = {
    "I": {"r_mv": 0.2, "s_mv": 0.5}, "aVL": {"r_mv": 0.2, "s_mv": 0.5}, "V1": {"r_mv": 0.2, "r2_mv": None, "s_mv": 0.9},
    "III": {"q_mv": 0.1, "r_mv": 0.9, "s_mv": 0.0}, "aVF": {"q_mv": 0.1, "r_mv": 0.9, "s_mv": 0.0},
}  # fmt: skip
FREE = ("p_free_of_qrs",)
SMALL = every(("III", "aVL", "V1", "V2"), p_mv=0.05)
QUIET = every(LEADS, q_mv=None, q_ms=None)
GONE = [np.nan] * 10
FLAT = dict.fromkeys(LEADS, 0.0)
DOWN = dict.fromkeys(("I", "II", "V3", "V4", "V5", "V6"), -0.1)
DEEP = every(("V1", "V2", "V3"), t_mv=-0.2, t_form="inverted")
S1Q3T3 = {"I": {"s_mv": 0.15}, "III": {"q_mv": 0.15, "t_mv": -0.2}}
TALL_T = every(("V3", "V4"), t_mv=0.5)
BIG_T = every(("V3", "V4"), t_mv=1.0, qrs_mv=1.0)
IRREGULAR = [np.nan, 500, 420, 600, 480, 560, 410, 590, 450, 520]
