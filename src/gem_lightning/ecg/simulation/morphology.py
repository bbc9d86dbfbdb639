"""The waves of each diagnosis, so that its textbook criteria hold in the twelve leads.

Criteria: AHA/ACCF/HRS recommendations for the standardization and interpretation of the ECG, parts III (conduction),
IV (ST, T, QT), V (chamber hypertrophy), Circulation 2009; fourth universal definition of myocardial infarction, 2018.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gem_lightning.ecg.simulation.waves import Beat, Wave, aim, rotate, weights

# Frontal axis (degrees) or None, and V1 to V6: a territory's vector in the leads, as multiples of ``st_mv``.
TERRITORIES: dict[str, tuple[float | None, tuple[float, ...]]] = {
    "inferior": (98.0, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
    "lateral": (-12.0, (0.0, 0.0, 0.0, 0.2, 0.8, 0.75)),
    "high_lateral": (-20.0, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
    "septal": (None, (0.85, 1.3, 0.3, 0.0, 0.0, 0.0)),
    "anterior": (None, (0.1, 0.4, 1.45, 1.2, 0.2, 0.0)),
    "anteroseptal": (None, (0.75, 1.4, 1.6, 1.2, 0.2, 0.0)),
    "anterolateral": (-15.0, (0.0, 0.3, 1.4, 1.3, 0.95, 0.75)),
    "inferolateral": (70.0, (0.0, 0.0, 0.0, 0.2, 0.85, 0.8)),
}

_Q_END_MS = 58.0
_R_CHEST = np.array([0.0, 0.35, 0.75, 1.25, 1.3, 0.95])
_S_CHEST = -np.array([0.9, 1.15, 0.75, 0.35, 0.15, 0.06])
_T_CHEST = np.array([0.04, 0.32, 0.4, 0.38, 0.32, 0.24])


@dataclass(frozen=True)
class Heart:
    """What distinguishes one patient and one recording: intervals in ms, axes in degrees, amplitudes in mV.

    Attributes:
        p_mv, qrs_mv, t_mv: Size of the frontal vector of each wave.
        chest: Factor on the precordial QRS; ``chest_t`` the same for T.
        transition: Shift of the R progression, in electrode distances (positive is late).
        st_mv: Size of an ST deviation where one is requested (always positive).
        q_mv: Size of a pathological Q wave.
    """

    heart_rate: float
    pr_ms: float
    p_ms: float
    qrs_ms: float
    qt_ms: float
    t_ms: float
    axis_deg: float
    p_axis_deg: float
    t_axis_deg: float
    p_mv: float
    qrs_mv: float
    t_mv: float
    chest: float
    chest_t: float
    transition: float
    st_mv: float
    q_mv: float


def build(codes: frozenset[str], heart: Heart, territory: str) -> dict[str, Beat]:
    """Every kind of beat that a record with these diagnoses may hold: normal, pac, pvc, escape and those of pacing."""
    normal = Beat(_p(heart), _qrs(codes, heart, territory), (), ())
    st, t = _repolarisation(codes, heart, territory)
    normal = replace(normal, st=st, t=t)
    # a low atrial focus: smaller, shorter P, turned towards a negative P in the inferior leads
    ectopic = replace(heart, p_mv=0.7 * heart.p_mv, p_axis_deg=heart.p_axis_deg - 75, p_ms=0.85 * heart.p_ms)
    # from the left ventricle: positive in V4 to V6, left-to-right in V1 to V3
    wide = _ventricular(heart, axis_deg=70.0, chest=(-0.55, -0.9, -0.5, 0.6, 1.0, 0.9), duration=148.0)
    # experts mark the complex 12 to 28 ms after the spike begins (LUDB, paced records, middle half)
    spike = Wave(-24.0, -22.5, -20.0, weights(0.5, -70.0, (-0.5, -0.7, -0.7, -0.6, -0.5, -0.4)), power=1.0)
    # right ventricular apex: superior axis and negative chest leads, as in LUDB's paced records
    paced = _ventricular(heart, axis_deg=-68.0, chest=(-0.6, -0.95, -1.0, -0.9, -0.65, -0.4), duration=heart.qrs_ms)
    paced = replace(paced, beat_class="paced", spike=(spike,))
    # the atria answer as fast as the ventricles; the electrode in the right atrium points downwards (ours)
    atrial = Wave(-24.0, -22.5, -20.0, weights(0.5, 60.0, (0.4, 0.5, 0.5, 0.5, 0.4, 0.4)), power=1.0)
    return {
        "normal": normal,
        "pac": replace(normal, p=_p(ectopic), beat_class="premature_supraventricular"),
        "pvc": replace(wide, beat_class="premature_ventricular"),
        "paced": paced,
        "paced_atrium": replace(normal, p_spike=(atrial,)),
        "paced_both": replace(paced, p=normal.p, p_spike=(atrial,)),
        "escape": _ventricular(heart, axis_deg=-40.0, chest=(-0.5, -0.8, -0.6, 0.3, 0.7, 0.8), duration=heart.qrs_ms),
    }


def _p(heart: Heart) -> tuple[Wave, ...]:
    """Right then left atrium: one hump in the limb leads, biphasic in V1."""
    d, mv = heart.p_ms, heart.p_mv
    # the two atria point 16 degrees apart, so that their humps merge in the limb leads
    right = weights(0.8 * mv, heart.p_axis_deg + 8, np.array([0.5, 0.5, 0.45, 0.4, 0.35, 0.3]) * mv)
    # the left atrium points backwards: the negative second half of P in V1
    left = weights(0.75 * mv, heart.p_axis_deg - 8, np.array([-0.35, 0.0, 0.25, 0.35, 0.35, 0.35]) * mv)
    return (Wave(0, 0.36 * d, 0.78 * d, right, 1.2), Wave(0.22 * d, 0.6 * d, d, left, 1.2))


def _chest(profile: np.ndarray, heart: Heart) -> np.ndarray:
    """V1 to V6 of a profile, shifted along the chest and scaled."""
    return np.interp(np.arange(6) - heart.transition, np.arange(6), profile) * heart.chest


def _qrs(codes: frozenset[str], heart: Heart, territory: str) -> tuple[Wave, ...]:
    """The ventricles' activation under the given conduction."""
    if "lbbb" in codes:
        return _left_bundle_block(heart)
    late = "rbbb" in codes or "incomplete_rbbb" in codes
    early = "pre_excitation" in codes
    # with a blocked right bundle the left ventricle is done after about three fifths of the QRS
    end = 0.62 * heart.qrs_ms if "rbbb" in codes else (0.8 * heart.qrs_ms if late else heart.qrs_ms)
    # the normal front arrives 30 ms after the delta wave begins
    start = 30.0 if early else 0.0
    fixed, main = _narrow(codes, heart, end - start, start)
    if late:
        fixed += (_right_bundle_delay(heart, "rbbb" in codes),)
    if early:
        # slow muscle conduction: a third of the main vector, for the first 100 ms
        delta = rotate(main[0].weights * 0.32, 0.0)
        delta[2:] = np.array([0.25, 0.35, 0.4, 0.4, 0.35, 0.3]) * heart.chest
        main += (Wave(0.0, 48.0, 100.0, delta, 1.15),)
    if "pathological_q" in codes:
        # the R that is left overlaps the end of the Q, so that no gap is drawn between them
        after = _Q_END_MS - 14
        fixed, main = _with_q(fixed + main, _narrow(codes, heart, end - after, after)[1], heart, territory)
    return aim(fixed, main, heart.axis_deg)


def _narrow(codes: frozenset[str], heart: Heart, d: float, start: float) -> tuple[tuple[Wave, ...], tuple[Wave, ...]]:
    """Septal, main and basal vectors; the septal one is replaced by the free fascicle's in a hemiblock."""
    axis, mv = heart.axis_deg, heart.qrs_mv
    # q in the lateral leads; with a rightward axis a small r in them, without the q in III of a hemiblock
    septal_mv, septal_axis = 0.09 * mv, axis + (-90 if axis > 90 else 150 if axis > 20 else 120)
    if "lafb" in codes:
        # left anterior hemiblock starts downwards: small q in I and aVL, r in the inferior leads
        septal_mv, septal_axis = 0.36 * mv, 118.0
    elif "lpfb" in codes:
        # left posterior hemiblock starts upwards: r in I and aVL, q in the inferior leads
        septal_mv, septal_axis = 0.36 * mv, -42.0
    r = _chest(_R_CHEST, heart)
    s = _chest(_S_CHEST, heart)
    septal = np.array([0.24, 0.3, 0.22, 0.06, -0.07, -0.09]) * heart.chest
    if "rvh" in codes:
        # tall R in V1 and deep S in V6 (Sokolow-Lyon criteria of right hypertrophy)
        r = np.array([1.05, 0.9, 0.6, 0.5, 0.45, 0.4]) * heart.chest
        s = np.array([-0.15, -0.35, -0.6, -0.8, -0.85, -0.75]) * heart.chest
        septal *= 0.4
    if "lafb" in codes:
        # the late superior vector of the hemiblock keeps an S as far as V6
        s = s + np.array([0.0, 0.0, 0.0, -0.05, -0.2, -0.25]) * heart.chest
    if "rbbb" in codes or "incomplete_rbbb" in codes:
        # the block's late rightward vector takes the place of part of the S in V1 to V3
        s = s * np.array([0.55, 0.7, 0.8, 1.0, 1.0, 1.0])
    first = Wave(start, start + 0.18 * d, start + 0.42 * d, weights(septal_mv, septal_axis, septal))
    body = Wave(start + 0.14 * d, start + 0.44 * d, start + 0.76 * d, weights(mv, axis, r))
    basal = Wave(start + 0.44 * d, start + 0.68 * d, start + d, weights(0.13 * mv, axis + 165, s))
    return (first,), (body, basal)


def _right_bundle_delay(heart: Heart, complete: bool) -> Wave:
    """The right ventricle last: R' in V1, slurred S in I and V6."""
    d, size = heart.qrs_ms, 1.0 if complete else 0.55
    # R' in V1, V2 and a slurred S in V4 to V6; half as large where the block is incomplete
    chest = np.array([0.95, 0.55, 0.05, -0.22, -0.34, -0.36]) * size
    # the delay begins before the left ventricle ends, so that the QRS has no pause in it
    start = 0.46 * d if complete else 0.56 * d
    return Wave(start, 0.74 * d, d, weights(0.42 * size, 172.0, chest), 1.2)


def _left_bundle_block(heart: Heart) -> tuple[Wave, ...]:
    """Septum then free wall from right to left: notched R in I, aVL, V5, V6, rS or QS in V1 to V3."""
    d, c = heart.qrs_ms, heart.chest
    # the small initial r that most left bundle branch blocks keep in V1 to V3
    v1_r = Wave(0.0, 0.1 * d, 0.24 * d, weights(0.0, 0.0, np.array([0.1, 0.14, 0.12, 0.0, 0.0, 0.0])), 1.2)
    # septum, then free wall: two humps of one direction make the notch in the lateral leads
    first = weights(0.55 * heart.qrs_mv, heart.axis_deg, np.array([-0.3, -0.55, -0.4, 0.1, 0.75, 0.8]) * c)
    second = weights(0.6 * heart.qrs_mv, heart.axis_deg, np.array([-1.15, -1.65, -1.35, -0.35, 0.75, 0.9]) * c)
    return aim(
        (v1_r,),
        (Wave(0.0, 0.3 * d, 0.55 * d, first), Wave(0.38 * d, 0.68 * d, d, second)),
        heart.axis_deg,
    )


def _with_q(
    normal: tuple[Wave, ...], late: tuple[Wave, ...], heart: Heart, territory: str
) -> tuple[tuple[Wave, ...], tuple[Wave, ...]]:
    """A Q of at least 40 ms in the territory's leads, followed by the ``late`` R; the others stay ``normal``."""
    axis, chest = TERRITORIES[territory]
    # a Q deeper than 1.3 times the territory's size would leave no R in the strongest lead
    deep = heart.q_mv * np.minimum(np.asarray(chest), 1.3)
    vector = weights(0.0 if axis is None else heart.q_mv, (axis or 0.0) + 180, -deep)
    # leads of at least half the territory's strength lose their first forces
    dead = np.concatenate([[axis is not None] * 2, np.asarray(chest) > 0.5])
    # an R above 0.3 mV in a chest lead would contradict the infarct that the Q stands for
    small_r = np.concatenate([[np.inf] * 2, np.full(6, 0.3)])
    spared = tuple(replace(w, weights=np.where(dead, 0.0, w.weights)) for w in normal)
    later = tuple(replace(w, weights=np.where(dead, np.minimum(w.weights, small_r), 0.0)) for w in late)
    q = Wave(0.0, 24.0, _Q_END_MS, vector, 1.1)
    return ((*spared, q), later) if axis is not None else ((q, *later), spared)


def _ventricular(heart: Heart, axis_deg: float, chest: tuple[float, ...], duration: float) -> Beat:
    """A wide beat from the ventricles: no P, notched QRS, ST and T against it."""
    # beats from the ventricles are wide whatever was requested (at least 120 ms, and noise of measurement)
    d = max(duration, 128.0)
    size = 1.1 * heart.qrs_mv
    rise = weights(0.8 * size, axis_deg, np.array(chest))
    # the second front turns by 12 degrees, which notches the complex differently in each lead
    rest = weights(0.9 * size, axis_deg + 12, 1.1 * np.array(chest))
    qrs = (Wave(0.0, 0.34 * d, 0.7 * d, rise, 1.2), Wave(0.4 * d, 0.62 * d, d, rest, 1.2))
    # ST and T oppose the QRS (secondary repolarisation), an eighth to a half of its size
    against = -weights(0.14 * size, axis_deg, 0.14 * np.array(chest))
    # about a third of the QRS widening is added to the QT (JT stays nearly the same)
    qt = heart.qt_ms + max(0.0, 0.35 * (d - heart.qrs_ms))
    # room for an ST segment and a T wave
    end = max(qt, d + 160)
    st = (Wave(0.7 * d, d, end - 10, against, 1.5, hold=min(d + 60, end - 60)),)
    t = (_t_wave(end, 0.95 * heart.t_ms, 3.2 * against, d),)
    return Beat((), qrs, st, t)


def _t_wave(end: float, width: float, w: np.ndarray, qrs_ms: float, symmetric: bool = False) -> Wave:
    """A T wave that ends at ``end`` ms and starts after the QRS; the descent is the steeper part."""
    # the T wave never begins inside the QRS
    start = max(end - width, qrs_ms + 15)
    return Wave(start, start + (0.5 if symmetric else 0.56) * (end - start), end, w, 1.6)


def _repolarisation(codes: frozenset[str], heart: Heart, territory: str) -> tuple[tuple[Wave, ...], tuple[Wave, ...]]:
    """ST plateaus and T waves."""
    axis, chest = TERRITORIES[territory]
    local = weights(1.0 if axis is not None else 0.0, axis or 0.0, chest)
    t = weights(heart.t_mv, heart.t_axis_deg, _T_CHEST * heart.chest_t)
    st = np.zeros(8)
    if "lbbb" in codes:
        # secondary ST and T of left bundle branch block: against the QRS, up to 0.2 mV in V2
        st = weights(0.09, heart.axis_deg + 180, (0.14, 0.2, 0.16, 0.0, -0.08, -0.09))
        t = weights(0.3, heart.axis_deg + 180, (0.32, 0.5, 0.45, 0.15, -0.2, -0.26))
    elif "rbbb" in codes:
        # T is inverted in V1 and V2 only: secondary to the late right ventricle
        t[2:4] = -0.16, -0.08
    elif "pre_excitation" in codes:
        t = t * 0.5
    elif "rvh" in codes:
        # right ventricular strain: T inverted in V1 to V3
        t[2:5] = -0.2, -0.16, -0.08
    if "st_elevation" in codes:
        st = st + heart.st_mv * local
        # in the acute phase the T wave grows with the ST segment
        t = t + 0.5 * heart.st_mv * local
    if "st_depression" in codes:
        st = st - 0.7 * heart.st_mv * local
    if "t_inversion" in codes:
        t = _inverted(t, local, heart)
    if "t_peaked" in codes:
        # three times the height, narrow and symmetric: the tented T of hyperkalaemia
        t = np.where(np.abs(t) > 0.05, np.sign(t), 0.0) * np.maximum(np.abs(t) * 3.2, 0.15)
    if "low_voltage" in codes:
        # T and ST shrink with the QRS
        t, st = 0.55 * t, 0.55 * st
    peaked = "t_peaked" in codes
    width = 0.78 * heart.t_ms if peaked else heart.t_ms
    t_wave = _t_wave(heart.qt_ms, width, t, heart.qrs_ms, symmetric=peaked or "t_inversion" in codes)
    if not st.any():
        return (), (t_wave,)
    # the plateau lasts past J + 80 ms, where ST is read, and ends before the T wave does
    hold = min(heart.qrs_ms + 85, heart.qt_ms - 60)
    plateau = Wave(0.68 * heart.qrs_ms, heart.qrs_ms, heart.qt_ms - 5, st, 1.5, hold=hold)
    return (plateau,), (t_wave,)


def _inverted(t: np.ndarray, local: np.ndarray, heart: Heart) -> np.ndarray:
    """T weights turned over in the territory's leads, at least 0.2 mV deep where the territory is strongest."""
    t = t.copy()
    # deep enough to meet the 0.1 mV of every criterion in the involved leads
    size = 1.2 * max(heart.t_mv, 0.25)
    if local[:2].any():
        t[:2] = -size * local[:2]
    # weaker leads keep their T: an inversion has a territory
    involved = local[2:] >= 0.5
    t[2:][involved] = -size * np.minimum(local[2:][involved], 1.2)
    return t
