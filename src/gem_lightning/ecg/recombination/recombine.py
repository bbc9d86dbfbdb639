"""Endless 12-lead ECGs from the parts of real beats, with exact marks, beat classes and values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gem_lightning.ecg.leads import limb_leads
from gem_lightning.ecg.recombination.fragments import Beat, Donor, cut_all
from gem_lightning.ecg.recombination.marked import MarkedRecord
from gem_lightning.ecg.recombination.plan import Plan, Pool, draw
from gem_lightning.ecg.recombination.values import QUANTITIES, intervals, true_values
from gem_lightning.ecg.record import LEADS, EcgRecord
from gem_lightning.ecg.simulation.truth import MARKS
from gem_lightning.errors import DataError

_REAL_ECTOPIC = 0.5  # share of records whose ventricular beats are real ones; donors of those are few
_ECTOPIC_MIX, _ECTOPIC_WIDER = 0.5, (1.5, 2.1)  # a normal complex mixed and widened so far passes for a ventricular one
_ECTOPIC_QRS_S = (0.12, 0.22)
_P_OVER_T_S = 0.04  # a P wave may begin so long before T ends; an earlier one would hide in the T wave
_JOIN_S = 0.03  # over which two rests are cross-faded
_SHORTEST_T_S = 0.08  # from J to T end; the next complex hides what is shorter
_BEFORE_NEXT_S = 0.02  # T ends so long before the next complex at the latest


@dataclass(frozen=True)
class RecombinedEcg:
    """One ECG and the truth about it.

    Attributes:
        record: 12 leads, mV; ``meta`` names format, donors and licences.
        marks: Per name of MARKS (beats,) samples over all leads together, NaN where absent or outside the record.
        beat_class: (beats,) normal, premature_supraventricular or premature_ventricular.
        af: f waves of a fibrillating patient lie over everything.
        values: (33,) of :data:`~gem_lightning.ecg.recombination.values.QUANTITIES`.
        patients: Donors.
    """

    record: EcgRecord
    marks: dict[str, np.ndarray]
    beat_class: np.ndarray
    af: bool
    values: np.ndarray
    patients: tuple[str, ...]

    @property
    def truth(self) -> dict[str, Any]:
        """Return rate (bpm), pr_ms, qrs_ms, qt_ms (None where absent), p_share, af and pvc."""
        value = dict(zip(QUANTITIES, self.values.tolist()))
        numbers = {name: value[name] for name in ("rate_bpm", "pr_ms", "qrs_ms", "qt_ms")}
        known = {name: number if np.isfinite(number) else None for name, number in numbers.items()}
        p_share = intervals(self.marks, self.beat_class, self.record.fs)["p_share"]
        return known | {"p_share": p_share, "af": self.af, "pvc": bool(value["pvc"])}


class RecombinedBeats:
    """P, QRS and ST–T of different patients put together with new RR, PR, QT, QRS duration, axis and amplitudes.

    Rests between beats, and the f waves of fibrillation, are cut from real rests too: what is not a wave looks as it
    does in recordings. Einthoven's and Goldberger's equations hold exactly. ECG ``i`` of a seed is always the same.

    Args:
        records: Marked records, the donors.
        seed: Of the whole sequence.
        fs: Hz of the ECGs.
        seconds: Duration of each, s.
        af_share: Share of ECGs in atrial fibrillation, where a donor has it.
        patients: Use only these patients' beats; None uses all.

    Raises:
        DataError: No donor gives beats, P waves or quiet rests.
    """

    def __init__(
        self,
        records: Iterable[MarkedRecord],
        seed: int = 0,
        fs: float = 500.0,
        seconds: float = 10.0,
        af_share: float = 0.15,
        patients: Sequence[str] | None = None,
    ) -> None:
        self.records, self.seed, self.fs, self.seconds, self.af_share = records, seed, float(fs), seconds, af_share
        self.patients = None if patients is None else frozenset(patients)

    def __getitem__(self, index: int) -> RecombinedEcg:
        """Put ECG ``index`` together."""
        if index < 0:
            raise IndexError(f"expected an index of at least 0, got {index}")
        rng = np.random.default_rng([self.seed, index])
        return _Assembly(draw(self._pool, rng, self.fs, self.seconds, self.af_share), self, rng).make()

    def __iter__(self) -> Iterator[RecombinedEcg]:
        """Yield ECGs without end."""
        index = 0
        while True:
            yield self[index]
            index += 1

    def __getstate__(self) -> dict[str, Any]:
        """Leave the cut beats out: a worker process reads the records itself."""
        return {name: value for name, value in vars(self).items() if name not in ("_chosen", "_pool")}

    @property
    def licences(self) -> tuple[str, ...]:
        """Database and licence of the donors, for a model card."""
        return tuple(sorted({f"{record.origin}: {record.licence}" for record in self._chosen}))

    @cached_property
    def _chosen(self) -> list[MarkedRecord]:
        return [r for r in self.records if self.patients is None or r.patient in self.patients]

    @cached_property
    def _pool(self) -> Pool:
        donors = cut_all(self._chosen, self.fs)
        quiet = [d for d in donors if d.rest and not d.af and d.p]
        pool = Pool(
            beats=donors,
            p=[d for d in donors if d.p and not d.af],
            quiet=quiet,
            fibrillating=[d for d in donors if d.af and d.rest],
            ectopic=[d for d in donors if d.ectopic],
        )
        if not (pool.beats and pool.p and pool.quiet):
            raise DataError(
                "expected marked records with beats, P waves and rests between beats, got "
                f"{len(self._chosen)} records with {len(pool.beats)}, {len(pool.p)} and {len(pool.quiet)}; "
                "add records or patients"
            )
        return pool


class _Assembly:
    """One ECG in the making: eight leads, and the marks of the beats so far."""

    def __init__(self, plan: Plan, maker: RecombinedBeats, rng: np.random.Generator) -> None:
        self.plan, self.maker, self.rng, self.fs = plan, maker, rng, maker.fs
        self.samples = round(maker.fs * maker.seconds)
        self.eight = np.zeros((8, self.samples))
        self.rows: list[dict[str, float]] = []
        self.kinds: list[str] = []
        self.ectopic_donor = self._ectopic_donor()
        self.ectopic_mix = plan.mix if self.ectopic_donor else np.eye(8) + _ECTOPIC_MIX * rng.normal(size=(8, 8))
        self.ectopic_scale = rng.uniform(*_ECTOPIC_WIDER)

    def _ectopic_donor(self) -> Donor | None:
        donors = self.maker._pool.ectopic
        if not donors or self.rng.uniform() > _REAL_ECTOPIC:
            return None
        return donors[int(self.rng.integers(len(donors)))]

    def make(self) -> RecombinedEcg:
        """Lay beats and rest down, and collect the truth."""
        plan, ends = self.plan, np.append(self.plan.onsets[1:], self.plan.onsets[-1] + 1)
        last_t = -np.inf
        for onset, end, kind in zip(plan.onsets, ends, plan.kinds):
            row = self._ventricles(round(onset * self.fs), round(end * self.fs), str(kind))
            row |= self._atria(row["QRS_on"], last_t, str(kind))
            last_t = row["T_off"] if np.isfinite(row["T_off"]) else row["QRS_off"]
            self.rows.append(row)
            self.kinds.append(str(kind))
        clean = limb_leads(self.eight)  # the values are those of the waves, not of the f waves and noise between them
        rest = self.plan.mix @ _joined(plan.rest_donor.rest, self.samples, round(_JOIN_S * self.fs), self.rng)
        signal = limb_leads((self.eight + plan.rest_gain * rest).astype(np.float32))
        marks, beat_class = self._inside()
        donors = [plan.qrs_donor, plan.t_donor, plan.rest_donor, plan.p_donor]
        if "premature_ventricular" in self.kinds:
            donors.append(self.ectopic_donor)
        meta = {"format": "recombined", "licences": list(self.maker.licences)}
        return RecombinedEcg(
            record=EcgRecord(signal, self.fs, LEADS, meta),
            marks=marks,
            beat_class=beat_class,
            af=plan.af,
            values=true_values(clean, marks, beat_class, self.fs, plan.af),
            patients=tuple(sorted({donor.patient for donor in donors if donor is not None})),
        )

    def _ventricles(self, onset: int, following: int, kind: str) -> dict[str, float]:
        """Lay down QRS and ST–T; returns their marks."""
        qrs, st, t_on = self._ectopic() if kind == "premature_ventricular" else self._conducted()
        room = following - onset - qrs.shape[1] - round(_BEFORE_NEXT_S * self.fs)
        hidden = room < _SHORTEST_T_S * self.fs
        if st.shape[1] > room:
            st = _warp(st, max(room, round(_SHORTEST_T_S * self.fs)))
        n = qrs.shape[1]
        ramp = np.linspace(0, 1, n)
        qrs = qrs - qrs[:, :1] * (1 - ramp)
        qrs = qrs + (st[:, :1] - qrs[:, -1:]) * ramp**2  # ends where ST begins, changed most at its end
        self._lay(onset, qrs)
        self._lay(onset + n - 1, st)
        j, end = onset + n - 1, onset + n + st.shape[1] - 2
        deflection = np.abs(qrs).sum(0)
        t_start = j + t_on * st.shape[1]
        t_peak = t_start + np.abs(st[:, int(t_on * st.shape[1]) :]).sum(0).argmax()
        qrs_marks = {"QRS_on": onset, "R": onset + int(deflection.argmax()), "QRS_off": j}
        return qrs_marks | dict(zip(MARKS[6:], (np.nan,) * 3 if hidden else (t_start, t_peak, end)))

    def _conducted(self) -> tuple[np.ndarray, np.ndarray, float]:
        plan, rng = self.plan, self.rng
        beat, other = _any(plan.qrs_donor.beats, rng), _any(plan.t_donor.beats, rng)
        qrs = plan.qrs_gain * _warp(plan.mix @ beat.qrs, round(plan.qrs * self.fs))
        length = (plan.qt - plan.qrs) * (1 + 0.01 * rng.normal())  # QT varies by 1 % from beat to beat
        st = _warp(plan.mix_t @ other.st * plan.t_gain, max(round(length * self.fs), round(_SHORTEST_T_S * self.fs)))
        return qrs, st + plan.st_mv * np.linspace(1, 0, st.shape[1]), other.t_on

    def _ectopic(self) -> tuple[np.ndarray, np.ndarray, float]:
        rng, plan = self.rng, self.plan
        if self.ectopic_donor is not None:
            beat: Beat = _any(self.ectopic_donor.ectopic, rng)
            return plan.qrs_gain * (plan.mix @ beat.qrs), plan.qrs_gain * (plan.mix @ beat.st), beat.t_on
        beat, other = _any(plan.qrs_donor.beats, rng), _any(plan.t_donor.beats, rng)
        width = np.clip(plan.qrs * self.ectopic_scale, *_ECTOPIC_QRS_S)
        qrs = 1.2 * plan.qrs_gain * _warp(self.ectopic_mix @ beat.qrs, round(width * self.fs))
        # T points against the complex, as after an abnormal depolarisation
        st = _warp(-1.3 * self.ectopic_mix @ other.st, round(max(plan.qt - plan.qrs, 0.1) * self.fs))
        return qrs, st, other.t_on

    def _atria(self, qrs_on: float, last_t: float, kind: str) -> dict[str, float]:
        """Lay down a P wave where the beat has one; returns its marks, NaN without."""
        absent = dict.fromkeys(("P_on", "P", "P_off"), np.nan)
        donor = self.plan.p_donor
        if donor is None or kind == "premature_ventricular":
            return absent
        fragment = self.plan.mix_p @ _any(donor.p, self.rng)
        pr = self.plan.pr * (1 + 0.01 * self.rng.normal())  # PR varies by 1 % from beat to beat
        onset = round(qrs_on - pr * self.fs)
        length = round(fragment.shape[1] * self.plan.p_scale)
        length = min(length, max(round(0.03 * self.fs), round(qrs_on) - onset - 2))  # P ends before the complex
        if onset < last_t - _P_OVER_T_S * self.fs:
            return absent
        wave = self.plan.p_gain * _warp(fragment, length)
        self._lay(onset, wave, add=True)
        return {"P_on": onset, "P": onset + int(np.abs(wave).sum(0).argmax()), "P_off": onset + length - 1}

    def _lay(self, start: int, wave: np.ndarray, add: bool = False) -> None:
        low, high = max(0, start), min(self.samples, start + wave.shape[1])
        if high > low:
            part = wave[:, low - start : high - start]
            self.eight[:, low:high] = self.eight[:, low:high] * add + part

    def _inside(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the marks of beats whose QRS lies inside the record; waves cut by its ends are absent."""
        marks = {name: np.array([row[name] for row in self.rows], float) for name in MARKS}
        whole = (marks["QRS_on"] >= 0) & (marks["QRS_off"] <= self.samples - 1)
        marks = {name: column[whole] for name, column in marks.items()}
        for names in (MARKS[:3], MARKS[6:]):
            cut = (marks[names[0]] < 0) | (marks[names[2]] > self.samples - 1)
            for name in names:
                marks[name][cut] = np.nan
        return marks, np.array(self.kinds, object)[whole]


def _any(parts: Sequence[Any], rng: np.random.Generator) -> Any:
    return parts[int(rng.integers(len(parts)))]


def _warp(wave: np.ndarray, length: int) -> np.ndarray:
    """(8, n) stretched to (8, length) by linear interpolation; both ends stay."""
    length, n = max(3, length), wave.shape[1]
    at = np.linspace(0, n - 1, length)
    left = np.minimum(at.astype(int), n - 2)
    share = at - left
    return wave[:, left] * (1 - share) + wave[:, left + 1] * share


def _joined(stretches: Sequence[np.ndarray], samples: int, fade: int, rng: np.random.Generator) -> np.ndarray:
    """Return (8, samples) of random stretches, each lifted to the end of the last, faded in over ``fade``."""
    out = np.zeros((8, samples))
    ramp = np.linspace(0, 1, fade)
    at = 0
    while at < samples:
        piece = _any(stretches, rng)
        overlap = min(fade, samples - at)
        if at:
            lift = (out[:, at : at + overlap] - piece[:, :overlap]).mean(1, keepdims=True)
            # the lift fades, so that levels do not drift away over many joints
            piece = piece + lift * np.linspace(1, 0, piece.shape[1])
            piece = np.concatenate(
                [
                    out[:, at : at + overlap] * (1 - ramp[:overlap]) + piece[:, :overlap] * ramp[:overlap],
                    piece[:, overlap:],
                ],
                1,
            )
        end = min(samples, at + piece.shape[1])
        out[:, at:end] = piece[:, : end - at]
        at = end if end == samples else end - fade
    return out
