"""Records whose truth is known, by number: what conversations are composed of and encoders are supervised with."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from gem_lightning.composition.chains.view import View
from gem_lightning.data.cohort import WANDER_MV, noisy
from gem_lightning.ecg import DIAGNOSES, LEADS, EcgRecord, simulate
from gem_lightning.ecg.recombination import MarkedRecord, RecombinedBeats
from gem_lightning.features import measure
from gem_lightning.features.schema import Delineation, plain

FS, SECONDS = 500, 10  # Hz and s of every record, as encoders read them


@dataclass(frozen=True)
class KnownRecord:
    """A record and what is true of it.

    Attributes:
        record: The signal.
        view: Measurements and marks.
        af: Atrial fibrillation; None where it is not known.
        pvc: There are ventricular premature beats; None takes the beats' classes.
        span: First and last sample between which every wave is marked; None is the whole record.
    """

    record: EcgRecord
    view: View
    af: bool | None = None
    pvc: bool | None = None
    span: tuple[float, float] | None = None

    @property
    def supervision(self) -> dict[str, Any]:
        """Return what an encoder is supervised with as plain values: ``marks beat_class af pvc span``."""
        marks = {name: plain(np.round(at, 1)) for name, at in self.view.marks.global_marks.items()}
        classes = [str(kind) for kind in self.view.marks.beat_class]
        span = None if self.span is None else list(self.span)
        return {"marks": marks, "beat_class": classes, "af": self.af, "pvc": self.pvc, "span": span}


class MarkedSource(Hashable, Iterable[MarkedRecord], Protocol):
    """Marked records, such as :class:`~gem_lightning.sources.marked.LudbMarks`; hashable, so that one reading lasts."""


class KnownRecords(Protocol):
    """Records by number, each with its truth; equal numbers give equal records."""

    def __call__(self, index: int, seed: int) -> KnownRecord:
        """Return record ``index`` of a cohort of this seed."""
        ...


class SimulatedRecords:
    """Simulated ECGs and the simulator's own truth.

    Args:
        diagnoses: Drawn in turn; None takes all that the simulator knows.
        snr_db: Lowest and highest signal-to-noise ratio, dB.
        wander_mv: Lowest and highest baseline wander, mV (root mean square).
    """

    def __init__(
        self,
        diagnoses: Sequence[str] | None = None,
        snr_db: tuple[float, float] = (12.0, 35.0),  # from a walking patient to a quiet resting recording; ours
        wander_mv: tuple[float, float] = WANDER_MV,
    ) -> None:
        self.diagnoses = tuple(diagnoses or DIAGNOSES)
        self.snr_db, self.wander_mv = _pair(snr_db), _pair(wander_mv)

    def __call__(self, index: int, seed: int) -> KnownRecord:
        """Simulate one record."""
        draw = np.random.default_rng([seed, index])
        noise = {"snr_db": float(draw.uniform(*self.snr_db)), "wander_mv": float(draw.uniform(*self.wander_mv))}
        # seeds below 2^31 fit every generator and every file format
        made = simulate(self.diagnoses[index % len(self.diagnoses)], int(draw.integers(2**31)), FS, SECONDS, **noise)
        return KnownRecord(made.record, View.simulated(made), "atrial_fibrillation" in made.diagnoses)


class RecombinedRecords:
    """ECGs recombined from marked beats, with the marks that they were put together by.

    Args:
        donors: Marked records, such as :class:`~gem_lightning.sources.marked.LudbMarks`.
        snr_db: Lowest and highest signal-to-noise ratio of the noise that is added to that of the donors, dB.
        wander_mv: Lowest and highest added baseline wander, mV (root mean square).
    """

    def __init__(
        self,
        donors: MarkedSource,
        snr_db: tuple[float, float] = (15.0, 40.0),  # the donors' own noise remains; ours
        wander_mv: tuple[float, float] = (0.0, 0.15),
    ) -> None:
        self.donors, self.snr_db, self.wander_mv = donors, _pair(snr_db), _pair(wander_mv)

    def __call__(self, index: int, seed: int) -> KnownRecord:
        """Put one record together."""
        made = _beats(self.donors, seed)[index]
        view = view_of_marks(made.record, made.marks, made.beat_class, made.af)
        record = noisy(made.record, self.snr_db, self.wander_mv, np.random.default_rng([seed, index, 2]))
        return KnownRecord(record, view, made.af)


class MarkedRecords:
    """Real records with their experts' marks, again and again: each time with another gain and other noise.

    Args:
        records: Marked records, such as :class:`~gem_lightning.sources.marked.LudbMarks`.
        gain: Lowest and highest factor of the amplitudes.
        snr_db: Lowest and highest signal-to-noise ratio of the added noise, dB.
        wander_mv: Lowest and highest added baseline wander, mV (root mean square).
    """

    def __init__(
        self,
        records: MarkedSource,
        gain: tuple[float, float] = (0.8, 1.25),  # what electrode places and bodies change between two days; ours
        snr_db: tuple[float, float] = (15.0, 40.0),
        wander_mv: tuple[float, float] = (0.0, 0.15),
    ) -> None:
        self.records, self.gain = records, _pair(gain)
        self.snr_db, self.wander_mv = _pair(snr_db), _pair(wander_mv)

    def __call__(self, index: int, seed: int) -> KnownRecord:
        """Return one of the records, changed."""
        known = _listed(self.records)
        one = known[index % len(known)]
        draw = np.random.default_rng([seed, index])
        record = replace(one.record, signal=(one.record.signal * draw.uniform(*self.gain)).astype(np.float32))
        view = view_of_marks(record, one.marks, one.beat_class, one.af)
        return KnownRecord(noisy(record, self.snr_db, self.wander_mv, draw), view, one.af, one.pvc, one.span)


def view_of_marks(record: EcgRecord, marks: Mapping[str, np.ndarray], beat_class: np.ndarray, af: bool | None) -> View:
    """Return what marks over all leads together, and the label of fibrillation, make known of a record."""
    count = len(record.leads)
    delineation = Delineation(
        marks={name: np.tile(values, (count, 1)) for name, values in marks.items()},
        global_marks=dict(marks),
        beat_class=beat_class.astype(object),
        trust=np.ones(count),
        fs=record.fs,
        leads=record.leads,
        extra_p=np.zeros(0),
        atrial_mv=1.0 if af else 0.0,  # as the simulator's truth: f waves that no noise hides
        noise_mv=0.0,
    )
    return View(measure(record, delineation), delineation, "experts")


def _pair(bounds: Sequence[float]) -> tuple[float, float]:
    return float(bounds[0]), float(bounds[1])


@lru_cache(maxsize=4)
def _beats(donors: MarkedSource, seed: int) -> RecombinedBeats:
    return RecombinedBeats(donors, seed, FS, SECONDS)  # cut once a process, not once a record


@lru_cache(maxsize=4)
def _listed(records: MarkedSource) -> list[MarkedRecord]:
    return list(records)


class UnreadableRecords:
    """Signals without a readable heartbeat: flat lines, noise, mains and chaos in turn; ``measure`` refuses each.

    The library's one rule decides what is unreadable: a signal that it measures all the same is drawn again.
    """

    _TRIES = 20  # the rule refuses more than nine in ten of these signals (measured), so that 20 never fail in practice

    def __call__(self, index: int, seed: int) -> KnownRecord:
        """Draw one signal."""
        draw = np.random.default_rng([seed, index])
        for _ in range(self._TRIES):
            signal = _SIGNALS[index % len(_SIGNALS)](draw)
            record = EcgRecord(signal.astype(np.float32), float(FS), LEADS, {})
            view = View.of(record)
            if view.features.reason is not None:
                return KnownRecord(record, view)
        raise AssertionError(f"{self._TRIES} signals of kind {index % len(_SIGNALS)} could be measured")


def _flat(draw: np.random.Generator) -> np.ndarray:
    """An electrode box without a patient, or asystole: the amplifier's noise, and perhaps breathing."""
    noise = draw.normal(
        0, draw.uniform(0, 0.006), (len(LEADS), FS * SECONDS)
    )  # mV; a recorder's own noise is below 6 µV
    return noise + draw.uniform(0, 0.02) * np.sin(_phase(draw, 0.3))


def _noise(draw: np.random.Generator) -> np.ndarray:
    """Muscle noise, white or with more slow parts, that buries any heartbeat, mV."""
    noise = draw.normal(0, draw.uniform(0.05, 0.8), (len(LEADS), FS * SECONDS))
    return noise if draw.random() < 0.5 else np.cumsum(0.1 * noise, axis=1)


def _mains(draw: np.random.Generator) -> np.ndarray:
    """Loose electrodes: mains of another size in each lead, mV."""
    size = draw.uniform(0.1, 1.0) * draw.uniform(0.5, 1.5, (len(LEADS), 1))
    return size * np.sin(_phase(draw, draw.choice([50.0, 60.0]))) + _flat(draw)


def _chaos(draw: np.random.Generator) -> np.ndarray:
    """Continuous undulation of 3 to 7 Hz without complexes, as in ventricular fibrillation."""
    drift = np.cumsum(draw.normal(0, 0.05, FS * SECONDS))
    weights = draw.normal(0, 0.5, (len(LEADS), 2))
    waves = np.stack(
        [np.sin(_phase(draw, draw.uniform(3, 7)) + drift), np.sin(_phase(draw, draw.uniform(3, 7)) - drift)]
    )
    return weights @ waves + draw.normal(0, 0.02, (len(LEADS), FS * SECONDS))


def _phase(draw: np.random.Generator, hz: float) -> np.ndarray:
    return 2 * np.pi * (hz * np.arange(FS * SECONDS) / FS + draw.random())


_SIGNALS = (_flat, _noise, _mains, _chaos)
