"""Each limit of acute patterns, arrhythmias, chambers and electrodes: just at it, just beyond it, just short of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gem_lightning.ecg import LEADS
from gem_lightning.features.criteria import decide
from gem_lightning.features.criteria.base import FORM, TINY
from gem_lightning.features.schema import BeatTable, Rhythm
from helpers_features import (
    BIG_T,
    DEEP,
    DOWN,
    FLAT,
    FREE,
    GONE,
    IRREGULAR,
    LAFB,
    LEFT,
    QUIET,
    RIGHT,
    S1Q3T3,
    TALL_T,
    axis,
    every,
    make,
)

EVEN = Rhythm(regular=True, rr_cv=0.01, p_per_qrs=0.0)
LOW = {"II": {"p_form": "inverted"}}
SMALL_S = {"I": {"s_mv": 0.0}, "III": {"q_mv": None, "t_mv": 0.1}}
R_KEPT = every(("V2", "V3", "V4"), r_mv=0.8, s_mv=0.6, r2_mv=None)
BIPHASIC = R_KEPT | every(("V2", "V3"), r_mv=0.8, s_mv=0.6, r2_mv=None, t_mv=0.1, t_form="biphasic")
PEAKED = every(("V3", "V4"), t_mv=1.25)
ATRIAL = {"leads": LOW, "rhythm": EVEN}


# code, measurements, met, margin or None where another number decides, certainty or None
EDGES = [
    # ischaemia: six leads and aVR or V1
    ("ischaemia", {"leads": QUIET, "st": FLAT | DOWN | {"aVR": 0.1}}, True, 0.0, "probable"),
    ("ischaemia", {"leads": QUIET, "st": FLAT | DOWN | {"V1": 0.1}}, True, 0.0, "probable"),
    ("ischaemia", {"leads": QUIET, "st": FLAT | DOWN | {"aVR": 0.15}}, True, 0.0, None),
    ("ischaemia", {"leads": QUIET, "st": FLAT | dict.fromkeys(DOWN, -0.15) | {"aVR": 0.125}}, True, 1.0, None),
    ("ischaemia", {"leads": QUIET, "st": FLAT | DOWN | {"aVR": 0.09}}, None, None, None),
    ("ischaemia", {"leads": QUIET, "st": FLAT | DOWN | {"V6": -0.09, "aVR": 0.2}}, None, None, None),
    ("ischaemia", {"leads": QUIET | every(("V4", "V5"), t_mv=0.3), "st": FLAT}, False, None, None),
    ("ischaemia", {"leads": RIGHT, "qrs_ms": 150.0, "st": FLAT | DOWN | {"aVR": 0.2}}, None, None, None),
    ("ischaemia", {"notes": ("flutter_waves",), "st": FLAT | DOWN | {"aVR": 0.2}}, None, None, None),
    # posterior infarct
    ("mi_posterior", {"leads": QUIET, "st": FLAT | {"V1": -0.05, "V2": -0.05}}, True, 0.0, "possible"),
    ("mi_posterior", {"leads": QUIET, "st": FLAT | {"V2": -0.05}}, None, None, None),
    ("mi_posterior", {"leads": QUIET, "st": FLAT}, False, None, None),
    ("mi_posterior", {"leads": QUIET, "st": FLAT | dict.fromkeys(("V1", "V2"), -0.15) | DOWN | {"aVR": 0.15}},
     None, None, None),
    ("mi_posterior", {"leads": QUIET | {"V1": {"r_mv": 0.5, "s_mv": 0.5, "q_mv": None, "r2_mv": None, "t_mv": 0.2}},
                      "st": FLAT | {"V1": -0.1, "V2": -0.1}}, True, 2.0, "possible"),
    ("mi_posterior", {"leads": QUIET | {"V1": {"r_mv": 0.6, "s_mv": 0.5, "q_mv": None, "r2_mv": None, "t_mv": 0.0}},
                      "st": FLAT | {"V1": -0.1, "V2": -0.1}}, True, 2.0, "possible"),
    ("mi_posterior", {"leads": QUIET | {"V1": {"r_mv": 0.6, "s_mv": 0.5, "q_mv": None, "r2_mv": None, "t_mv": 0.2}},
                      "st": FLAT | {"V1": -0.1, "V2": -0.1}}, True, 2.0, "probable"),
    # Sgarbossa and Smith: an S of 1 mV in V1
    ("sgarbossa", {"leads": LEFT, "qrs_ms": 150.0, "st": FLAT | {"I": 0.1}}, True, 0.0, "probable"),
    ("sgarbossa", {"leads": LEFT, "qrs_ms": 150.0, "st": FLAT | {"I": 0.11}}, True, 0.4, "probable"),
    ("sgarbossa", {"leads": LEFT, "qrs_ms": 150.0, "st": FLAT | {"I": 0.09}}, False, None, None),
    ("sgarbossa", {"leads": LEFT, "qrs_ms": 150.0, "st": FLAT | {"V1": -0.1}}, True, 0.0, None),
    ("sgarbossa", {"leads": LEFT, "qrs_ms": 150.0, "st": FLAT | {"V1": -0.09}}, False, None, None),
    ("sgarbossa", {"leads": LEFT, "qrs_ms": 150.0, "st": FLAT | {"V1": 0.25}}, False, None, None),
    ("sgarbossa", {"leads": LEFT, "qrs_ms": 150.0, "st": FLAT | {"V1": 0.3125}}, True, 0.5, None),
    ("sgarbossa", {"leads": LEFT | {"II": {"r_mv": 0.5, "s_mv": 0.5, "q_mv": None, "r2_mv": None}}, "qrs_ms": 150.0,
                   "st": FLAT | {"II": 0.12}}, False, None, None),
    ("sgarbossa", {"leads": LEFT | {"II": {"r_mv": 0.1, "s_mv": 0.9, "q_mv": None, "r2_mv": None}}, "qrs_ms": 150.0,
                   "st": FLAT | {"II": -0.3}}, False, None, None),
    ("sgarbossa", {"leads": LEFT, "qrs_ms": None, "st": FLAT | {"I": 0.3}}, None, None, None),
    # de Winter
    ("de_winter", {"leads": TALL_T, "heart_rate_bpm": 100.0}, True, 0.0, "probable"),
    ("de_winter", {"leads": TALL_T, "heart_rate_bpm": 101.5}, False, -1.0, None),
    ("de_winter", {"leads": every(("V3", "V4"), t_mv=0.49), "heart_rate_bpm": 70.0}, False, -0.2, None),
    ("de_winter", {"leads": TALL_T | RIGHT, "qrs_ms": 150.0}, None, None, None),
    # Wellens
    ("wellens", {"leads": BIPHASIC, "st": FLAT}, True, FORM, "possible"),
    ("wellens", {"leads": BIPHASIC, "st": FLAT | {"V2": 0.1}}, False, -TINY, None),
    ("wellens", {"leads": BIPHASIC, "st": FLAT | {"V3": 0.075}}, True, 1.0, None),
    ("wellens", {"leads": BIPHASIC | {"V2": {"t_mv": 0.1, "t_form": "upright"}}, "st": FLAT}, False, -FORM, None),
    ("wellens", {"leads": BIPHASIC | R_KEPT | every(("V2", "V3"), t_mv=-0.2, t_form="inverted"), "st": FLAT},
     False, None, None),
    ("wellens", {"leads": BIPHASIC | every(("V2", "V3"), r_mv=0.8, s_mv=0.6, r2_mv=None, t_mv=-0.25,
                                           t_form="inverted"), "st": FLAT}, True, 1.0, None),
    ("wellens", {"leads": BIPHASIC | {"V4": {"q_mv": 0.3, "q_ms": 40.0}}, "st": FLAT}, False, -FORM, None),
    ("wellens", {"leads": BIPHASIC | {"V3": {"r_mv": 0.2, "s_mv": 0.9, "r2_mv": None, "t_mv": 0.1,
                                             "t_form": "biphasic"}}, "st": FLAT}, False, None, None),
    # hyperacute T
    ("hyperacute_t", {"leads": BIG_T}, True, 0.0, "possible"),
    ("hyperacute_t", {"leads": every(("V3", "V4"), t_mv=1.075, qrs_mv=1.0)}, True, 1.0, None),
    ("hyperacute_t", {"leads": every(("V3", "V4"), t_mv=0.5, qrs_mv=0.4)}, True, 0.0, None),
    ("hyperacute_t", {"leads": every(("V3", "V4"), t_mv=0.99, qrs_mv=1.0)}, False, None, None),
    ("hyperacute_t", {"leads": every(("V3", "V4"), t_mv=0.49, qrs_mv=0.4)}, False, None, None),
    ("hyperacute_t", {"leads": every(LEADS, t_mv=None)}, False, -FORM, None),
    ("hyperacute_t", {"leads": every(LEADS, t_mv=None, trust=0.0)}, None, None, None),
    # right ventricular strain
    ("rv_strain", {"leads": DEEP | S1Q3T3}, True, 0.0, "possible"),
    ("rv_strain", {"leads": DEEP | S1Q3T3 | {"I": {"s_mv": 0.14}}}, False, None, None),
    ("rv_strain", {"leads": DEEP | S1Q3T3 | {"III": {"q_mv": 0.14, "t_mv": -0.2}}}, False, None, None),
    ("rv_strain", {"leads": DEEP | S1Q3T3 | {"III": {"q_mv": 0.15, "t_mv": -0.1}}}, False, None, None),
    ("rv_strain", {"leads": DEEP | SMALL_S} | axis(95.0), True, 1.0, "possible"),
    ("rv_strain", {"leads": DEEP | SMALL_S} | axis(90.0), False, None, None),
    ("rv_strain", {"leads": DEEP | SMALL_S | {"V3": {"t_mv": -0.1}}} | axis(95.0), False, -TINY, None),
    ("rv_strain", {"leads": DEEP | SMALL_S | {"V1": {"t_mv": -0.2, "r_mv": 0.9, "s_mv": 0.1, "r2_mv": None,
                                                     "q_mv": None}}} | axis(120.0), True, None, "probable"),
    # potassium, Brugada
    ("hyperkalaemia", {"leads": PEAKED, "pr_ms": 200.0, "qrs_ms": 100.0}, False, None, None),
    ("hyperkalaemia", {"leads": PEAKED, "pr_ms": 210.0, "qrs_ms": 100.0}, True, 1.0, "possible"),
    ("hyperkalaemia", {"leads": PEAKED, "pr_ms": 160.0, "qrs_ms": 120.0}, True, 0.0, "possible"),
    ("hyperkalaemia", {"leads": PEAKED, "pr_ms": 205.0, "qrs_ms": 120.0}, True, 0.5, "probable"),
    ("hyperkalaemia", {"leads": every(("V3", "V4"), t_mv=1.2), "pr_ms": 230.0, "qrs_ms": 125.0}, False, -TINY, None),
    # ectopic atrial rhythms
    ("ectopic_atrial_rhythm", ATRIAL | {"heart_rate_bpm": 100.0, "pr_ms": 120.0}, True, 0.0, "probable"),
    ("ectopic_atrial_rhythm", ATRIAL | {"heart_rate_bpm": 100.0, "pr_ms": 130.0}, True, 0.0, "probable"),
    ("ectopic_atrial_rhythm", ATRIAL | {"heart_rate_bpm": 80.0, "pr_ms": 119.0}, False, None, None),
    ("ectopic_atrial_rhythm", ATRIAL | {"heart_rate_bpm": 101.5, "pr_ms": 160.0}, False, -1.0, None),
    ("ectopic_atrial_rhythm", {"leads": LOW, "pr": [np.nan] * 3 + [160] * 7, "heart_rate_bpm": 80.0, "pr_ms": 160.0},
     True, 0.0, None),
    ("ectopic_atrial_rhythm", {"leads": LOW, "pr": [np.nan] * 4 + [160] * 6, "heart_rate_bpm": 80.0, "pr_ms": 160.0},
     False, None, None),
    ("atrial_tachycardia", ATRIAL | {"heart_rate_bpm": 101.5, "pr_ms": 160.0}, True, 1.0, "probable"),
    ("atrial_tachycardia", ATRIAL | {"heart_rate_bpm": 100.0, "pr_ms": 160.0}, False, -TINY, None),
    # junction and escape
    ("junctional_rhythm", {"pr": GONE, "rhythm": EVEN, "heart_rate_bpm": 60.0}, True, None, "probable"),
    ("junctional_rhythm", {"pr": GONE, "rhythm": EVEN, "heart_rate_bpm": 60.5}, True, None, "possible"),
    ("junctional_rhythm", {"pr": GONE, "rhythm": EVEN, "heart_rate_bpm": 100.0}, True, 0.0, "possible"),
    ("junctional_rhythm", {"pr": GONE, "rhythm": EVEN, "heart_rate_bpm": 101.5}, False, -1.0, None),
    ("junctional_rhythm", {"pr": GONE, "rhythm": EVEN, "heart_rate_bpm": 50.0, "qrs_ms": 120.0}, False, -TINY, None),
    ("junctional_rhythm", {"leads": LOW, "rhythm": EVEN, "heart_rate_bpm": 50.0, "pr_ms": 120.0}, False, None, None),
    ("junctional_rhythm", {"leads": LOW, "rhythm": EVEN, "heart_rate_bpm": 50.0, "pr_ms": 115.0}, True, 0.5, None),
    ("junctional_rhythm", {"pr": GONE, "rhythm": EVEN, "heart_rate_bpm": 50.0, "leads": every(trust=0.5)},
     False, -FORM, None),
    ("escape_rhythm", {"pr": GONE, "rhythm": EVEN, "heart_rate_bpm": 60.0, "qrs_ms": 140.0}, True, 0.0, "probable"),
    ("escape_rhythm", {"pr": GONE, "rhythm": EVEN, "heart_rate_bpm": 61.5, "qrs_ms": 140.0}, False, -1.0, None),
    ("escape_rhythm", {"pr": GONE, "rhythm": EVEN, "heart_rate_bpm": 40.0, "qrs_ms": 120.0}, True, None, None),
    ("escape_rhythm", {"pr": GONE, "rhythm": EVEN, "heart_rate_bpm": 40.0, "qrs_ms": 119.0}, False, None, None),
    # tachycardias
    ("supraventricular_tachycardia", {"pr": GONE, "rhythm": EVEN, "heart_rate_bpm": 101.5, "qrs_ms": 90.0},
     True, 1.0, "possible"),
    ("supraventricular_tachycardia", {"pr": GONE, "rhythm": EVEN, "heart_rate_bpm": 100.0, "qrs_ms": 90.0},
     False, -TINY, None),
    ("supraventricular_tachycardia", {"pr": GONE, "rhythm": EVEN, "heart_rate_bpm": 180.0, "qrs_ms": 120.0},
     False, -TINY, None),
    ("wide_complex_tachycardia", {"pr": GONE, "rhythm": EVEN, "heart_rate_bpm": 101.5, "qrs_ms": 150.0},
     True, 1.0, "probable"),
    ("wide_complex_tachycardia", {"pr": GONE, "rhythm": EVEN, "heart_rate_bpm": 100.0, "qrs_ms": 150.0},
     False, -TINY, None),
    ("wide_complex_tachycardia", {"pr": GONE, "rhythm": EVEN, "heart_rate_bpm": 150.0, "qrs_ms": 119.0},
     False, None, None),
    # pauses, at the edges too
    ("pause", {"rr": [np.nan, 800, 3010, 800]}, True, 1.0, "definite"),
    ("pause", {"rr": [np.nan, 800, 3000, 800]}, False, -TINY, None),
    ("pause", {"rr": [np.nan] + [800] * 4, "seconds": 6.21}, True, 1.0, "probable"),
    ("pause", {"rr": [np.nan] + [800] * 4, "seconds": 6.19}, False, None, None),
    ("pause", {"rr": [np.nan, 800, 3020, 800], "seconds": 20.0}, True, 2.0, "definite"),
    ("pause", {"rr": [np.nan], "seconds": 0.8}, None, None, None),
    ("pause", {"rr": [np.nan], "seconds": 3.0}, None, None, None),
    ("pause", {"rr": [np.nan], "seconds": 3.005}, True, 0.5, "probable"),
    ("pause", {"rr": [np.nan, 800, 3005], "seconds": 20.0}, True, 0.5, "definite"),
    # sinoatrial block: cycles of 800 ms
    ("sa_block", {"rr": [np.nan, 1000, 1000, 2000, 1000, 1000]}, True, 1.0, "probable"),
    ("sa_block", {"rr": [np.nan, 1000, 1000, 3000, 1000, 1000]}, True, 1.0, "probable"),
    ("sa_block", {"rr": [np.nan, 1000, 1000, 2125, 1000, 1000]}, True, 0.0, None),
    ("sa_block", {"rr": [np.nan, 1000, 1000, 1875, 1000, 1000]}, True, 0.0, None),
    ("sa_block", {"rr": [np.nan, 1000, 1000, 2225, 1000, 1000]}, False, -1.0, None),
    ("sa_block", {"rr": [np.nan, 1000, 1000, 1400, 1000, 1000]}, False, -4.75, None),
    ("sa_block", {"rr": [np.nan, 1000, 1000, 2000, 1500, 1000]}, False, -3.75, None),
    ("sa_block", {"rr": [np.nan, 1000, 1000, 1300, 1000, 1000]}, False, -8.75, None),
    ("sa_block", {"rr": [np.nan, 1000, 1000, 1000, 1000, 1000]}, False, None, None),
    ("sa_block", {"rr": [np.nan, 1000, 1000, 1300, 2000, 1000, 1000]}, False, -FORM, None),
    ("sa_block", {"rr": [np.nan, 1000, 2000, 1000]}, False, -FORM, None),
    ("sa_block", {"rr": [np.nan, 1000, 2000, 1000, 1000]}, True, 1.0, None),
    ("sa_block", {"rr": [np.nan, 900, 1000, 2000, 1100, 1000]}, True, 1.0, None),
    ("sa_block", {"rr": [np.nan, 890, 1000, 2000, 1100, 1000]}, False, -FORM, None),
    ("sa_block", {"rr": [np.nan, 1000, 1000, 2000, 1000, 1000], "notes": FREE}, False, -FORM, None),
    ("sa_block", {"rr": [np.nan, 1000, 500, 2000, 1000, 1000, 1000],
                  "kinds": ["normal"] * 2 + ["premature_ventricular"] + ["normal"] * 4}, False, -8.75, None),
    ("sa_block", {"rr": [np.nan, 1000, 1000, 2000, 1000, 1000, 500, 1500],
                  "kinds": ["normal"] * 6 + ["premature_supraventricular", "normal"]}, True, 1.0, "possible"),
    ("sa_block", {"rr": [np.nan] * 3}, None, None, None),
    ("sa_block", {"rr": [np.nan, 1000, 1000, 2000, 1000, 1000], "kinds": ["paced"] * 2 + ["normal"] * 4},
     None, None, None),
    # P in V1: depth times duration
    ("left_atrial_enlargement", {"p_ms": 100.0, "leads": {"V1": {"p_form": "inverted", "p_mv": -0.05, "p_ms": 80.0}}},
     True, 0.0, "possible"),
    ("left_atrial_enlargement", {"p_ms": 100.0, "leads": {"V1": {"p_form": "inverted", "p_mv": -0.1, "p_ms": 80.0}}},
     True, 4.0 / 3.0, "possible"),
    ("left_atrial_enlargement", {"p_ms": 100.0, "leads": {"V1": {"p_form": "inverted", "p_mv": -0.049, "p_ms": 80.0}}},
     False, None, None),
    ("left_atrial_enlargement", {"p_ms": 100.0, "leads": {"V1": {"p_form": "biphasic", "p_mv": -0.1, "p_ms": 80.0}}},
     True, 0.0, "possible"),
    ("left_atrial_enlargement", {"p_ms": 100.0, "leads": {"V1": {"p_form": "biphasic", "p_mv": 0.1, "p_ms": 80.0}}},
     False, -1.0, None),
    ("left_atrial_enlargement", {"p_ms": 100.0, "leads": {"V1": {"p_form": "upright", "p_mv": 0.1, "p_ms": 80.0}}},
     False, -1.0, None),
    ("left_atrial_enlargement", {"p_ms": 120.0, "leads": {"V1": {"p_form": "upright", "p_mv": 0.1, "p_ms": 80.0}}},
     True, 0.0, "possible"),
    ("left_atrial_enlargement", {"p_ms": 120.0, "leads": {"V1": {"p_form": "biphasic", "p_mv": 0.1, "p_ms": 80.0}}},
     True, 0.0, "probable"),
    ("left_atrial_enlargement", {"p_ms": 100.0, "leads": {"V1": {"p_form": "notched", "p_mv": -0.2, "p_ms": 80.0}}},
     False, -1.0, None),
    ("left_atrial_enlargement", {"p_ms": None, "leads": {"V1": {"p_form": "upright", "p_mv": 0.1, "p_ms": 80.0}}},
     None, None, None),
    # hypertrophy and right bundle branch
    ("rvh", {"leads": {"V1": {"r_mv": 0.8, "s_mv": 0.8, "r2_mv": None, "q_mv": None}}} | axis(120.0),
     False, -TINY, None),
    ("incomplete_rbbb", {"qrs_ms": 110.0, "leads": RIGHT | {"V1": {"r_mv": 0.4, "r2_mv": 0.4}}}, True, 0.0, "definite"),
    ("incomplete_rbbb", {"qrs_ms": 100.0, "leads": {"V1": {"r_mv": 0.4, "r2_mv": 0.04}, "V2": {"r2_mv": None}}},
     None, None, None),
    ("incomplete_rbbb", {"qrs_ms": 100.0, "leads": {"V1": {"r_mv": 0.4, "r2_mv": 0.03}, "V2": {"r2_mv": None}}},
     False, -FORM, None),
    # fascicles
    ("bifascicular_block", {"leads": RIGHT | LAFB, "qrs_ms": 140.0} | axis(-60.0), True, 1.0, "definite"),
    ("bifascicular_block", {"leads": RIGHT | LAFB, "qrs_ms": 140.0} | axis(-40.0), False, None, None),
    ("bifascicular_block", {"leads": RIGHT | LAFB, "qrs_ms": 110.0} | axis(-60.0), False, None, None),
    ("trifascicular_block", {"leads": RIGHT | LAFB, "qrs_ms": 140.0, "pr_ms": 205.0} | axis(-60.0), True, 0.5,
     "possible"),
    ("trifascicular_block", {"leads": RIGHT | LAFB, "qrs_ms": 140.0, "pr_ms": 200.0} | axis(-60.0), False, -TINY, None),
    # an RR of 1.3 cycles is no pause yet
    ("av_block_2_mobitz_1", {"rhythm": Rhythm(regular=False, notes=FREE), "rr": [np.nan, 1000, 1300, 1000, 1000],
                             "pr": [160, 230, 160, 160, 160]}, False, -FORM, None),
    ("av_block_2_mobitz_1", {"rhythm": Rhythm(regular=False, notes=FREE), "rr": [np.nan, 1000, 1301, 1000, 1000],
                             "pr": [160, 230, 160, 160, 160]}, True, FORM, None),
    # P in 35 % of the beats; pacing with P waves
    ("atrial_fibrillation", {"rr": IRREGULAR * 2, "pr": [160.0] * 7 + [np.nan] * 13}, False, -TINY, None),
    ("atrial_fibrillation", {"rr": IRREGULAR * 2, "pr": [160.0] * 6 + [np.nan] * 14}, True, 0.5, None),
    ("atrial_fibrillation", {"kinds": ["paced"] * 3 + ["normal"] * 7, "pr": [160.0] * 10}, False, None, None),
    ("atrial_fibrillation", {"kinds": ["paced"] * 3 + ["normal"] * 7, "pr": GONE}, None, None, None),
    # 2:1 block
    ("av_block_2_1", {"pr": [160, 185], "rhythm": Rhythm(regular=True, notes=FREE)}, True, 0.0, "probable"),
    ("av_block_2_1", {"pr": [160, 195], "rhythm": Rhythm(regular=True, notes=FREE)}, False, -1.0, None),
    ("av_block_2_1", {"pr": [160, 160], "rhythm": Rhythm(regular=False, notes=FREE)}, False, -FORM, None),
    ("av_block_2_1", {"pr": [160, 160], "rhythm": Rhythm(regular=True)}, False, -FORM, None),
    ("av_block_2_1", {"kinds": ["paced"] * 4, "pr": [160] * 4}, None, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("code", "changes", "met", "margin", "certainty"), EDGES)
def test_edge(code, changes, met, margin, certainty):
    features = make(**changes)
    if code == "de_winter":
        for name in ("V3", "V4"):
            features.st_mv[name].update(J=-0.1, J80=0.0)
    decision = decide(code, features)
    assert decision.met is met, decision
    if margin is not None:
        assert decision.margin == pytest.approx(margin, abs=1e-12 if abs(margin) == TINY else 1e-6), decision
    if certainty is not None:
        assert decision.certainty == certainty, decision


def alternating(step, beats=6, leads=("V3", "V4"), **changes):
    """Beats whose T waves differ by this much, mV, from one to the next in these leads."""
    features = make(rr=[np.nan] + [800.0] * (beats - 1), **changes)
    heights = np.full((12, beats), 0.5)
    for name in leads:
        heights[LEADS.index(name), 1::2] += step
    columns = (features.beats.time_s, features.beats.beat_class, features.beats.whole)
    return replace(features, beats=BeatTable(*columns, {"t_mv": heights}, LEADS))


def test_t_alternans():
    def margin(*args, **changes):
        return decide("t_alternans", alternating(*args, **changes)).margin

    assert margin(0.125) == margin(-0.125) == pytest.approx(0.5)
    assert margin(0.09) == pytest.approx(-0.2)
    assert decide("t_alternans", alternating(0.125)).leads == ("V3", "V4")
    assert decide("t_alternans", alternating(0.125)).evidence["smallest_t_step_V3_mv"] == pytest.approx(0.125)
    assert margin(0.3, leads=("V3",)) < 0
    assert margin(0.3, beats=5) is None
    assert decide("t_alternans", make(rr=[np.nan] + [800.0] * 9)).met is None  # no heights by beat
    assert margin(0.3, leads=("V3", "V4"), notes=("flutter_waves",)) is None
    broken = alternating(0.3)
    broken.beats.by_lead["t_mv"][LEADS.index("V4"), 2] = 0.8  # as tall as its neighbours
    assert decide("t_alternans", broken).met is False
    broken.beats.by_lead["t_mv"][LEADS.index("V4"), 2] = np.nan
    assert decide("t_alternans", broken).met is False
    mixed = alternating(0.3)
    mixed.beats.beat_class[2] = "premature_ventricular"
    assert decide("t_alternans", mixed).margin == -FORM
    hidden = alternating(0.3, leads=("V3", "V4"))
    silent = replace(hidden, leads=hidden.leads | {"V4": replace(hidden.leads["V4"], trust=0.0)})
    assert decide("t_alternans", silent).met is None


def test_runs_of_ventricular_beats_at_their_limits():
    def run(beats, rr=400.0):
        kinds = ["normal"] * 3 + ["premature_ventricular"] * beats + ["normal"] * 3
        return decide("ventricular_tachycardia", make(kinds=kinds, rr=[np.nan] + [rr] * (len(kinds) - 1)))

    assert [run(beats).margin for beats in (0, 2, 3, 5)] == [-3.0, -1.0, 0.0, 2.0]
    assert run(0).evidence["ventricular_run_beats"] == 0
    assert run(3, rr=600.0).met is False  # 100 bpm
    assert run(3, rr=599.0).met
    early, usual = "premature_ventricular", "normal"
    mixed = make(kinds=[usual, early, usual, early, early, early, usual], rr=[np.nan] + [400.0] * 6)
    assert decide("ventricular_tachycardia", mixed).evidence["ventricular_run_beats"] == 3
    assert decide("couplet", mixed).met is False


@pytest.mark.parametrize(
    ("j", "late", "t", "margin"),
    [
        (0.2, 0.1, -0.2, 0.0), (0.3, 0.25, -0.2, 2.0), (0.3, 0.3, -0.2, -TINY), (0.3, 0.1, 0.0, -TINY),
        (0.3, 0.1, 0.1, -4.0), (0.19, 0.1, -0.2, -0.4),
    ],
)  # fmt: skip
def test_brugada_pattern_at_its_limits(j, late, t, margin):
    features = make(leads=every(("V1", "V2"), t_mv=t), qrs_ms=80.0)
    for name in ("V1", "V2"):
        features.st_mv[name].update(J=j, J80=late)
    decision = decide("brugada", features)
    assert decision.margin == pytest.approx(margin, abs=1e-12 if margin == -TINY else 1e-6)
    assert decision.leads == (("V1", "V2") if decision.met else ())
