"""Samples with dense labels: recombined, real and simulated ECGs, mixed and augmented, for pre-training an encoder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gem_lightning.data.ecg_text.augment import baseline_wander
from gem_lightning.ecg.preprocess import fit_length
from gem_lightning.ecg.recombination import MarkedRecord, RecombinedBeats, true_values
from gem_lightning.ecg.simulation.randomised import random_ecg
from gem_lightning.errors import DataError
from gem_lightning.models.encoder.dense_waves import wave_shares

FS, SAMPLES = 500.0, 5000  # what the encoder reads, Hz and samples
_INTERVALS = slice(1, 4)  # PR, QRS and QT among the values
_ST, _T = 9, 21  # first column of ST levels and of T amplitudes


@dataclass(frozen=True)
class Labelled:
    """One ECG with its labels.

    Attributes:
        signal: (12, T) mV at 500 Hz.
        marks: Per name of MARKS (beats,) samples.
        values: (33,) of QUANTITIES.
        span: First and last annotated sample; None is the whole.
    """

    signal: np.ndarray
    marks: dict[str, np.ndarray]
    values: np.ndarray
    span: tuple[float, float] | None = None


class Part(Protocol):
    """An endless supply of labelled ECGs."""

    def draw(self, index: int) -> Labelled:
        """Return ECG ``index``, always the same one."""


class RecombinedPart:
    """ECGs recombined from marked records.

    Args:
        records: The donors.
        seed: Of the sequence.
        patients: Use only these patients; None uses all.
    """

    def __init__(self, records: Iterable[MarkedRecord], seed: int = 0, patients: Sequence[str] | None = None) -> None:
        self.beats = RecombinedBeats(records, seed, FS, SAMPLES / FS, patients=patients)

    def draw(self, index: int) -> Labelled:
        """Return ECG ``index``."""
        made = self.beats[index]
        return Labelled(made.record.signal, made.marks, made.values)


class MarkedPart:
    """The marked records themselves, in turn.

    Args:
        records: At 500 Hz.
        patients: Use only these patients; None uses all.
    """

    def __init__(self, records: Iterable[MarkedRecord], patients: Sequence[str] | None = None) -> None:
        self.records, self.patients = records, None if patients is None else frozenset(patients)

    def draw(self, index: int) -> Labelled:
        """Return record ``index`` modulo their number."""
        return self.labelled[index % len(self.labelled)]

    @cached_property
    def labelled(self) -> list[Labelled]:
        """Return all records with their values.

        Raises:
            DataError: There is none, or one has another rate.
        """
        chosen = [r for r in self.records if self.patients is None or r.patient in self.patients]
        if not chosen or any(r.record.fs != FS for r in chosen):
            raise DataError(f"expected marked records at {FS:g} Hz, got {sorted({r.record.fs for r in chosen})}")
        return [_label(record) for record in chosen]


class SimulatedPart:
    """ECGs of the simulator with random values.

    Args:
        seed: Of the sequence.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def draw(self, index: int) -> Labelled:
        """Return ECG ``index``."""
        made = random_ecg(self.seed, index, FS, SAMPLES / FS)
        values = true_values(made.clean, made.global_marks, made.beat_class, FS, af=False)
        return Labelled(made.clean, made.global_marks, values)


@dataclass(frozen=True)
class Distortion:
    """Random changes of an ECG and, where they change them, of its labels.

    Attributes:
        stretch: Slowest and fastest playback; intervals and rate follow.
        stretched: Share of the ECGs that are stretched.
        shift_s: Largest shift in time, s.
        gain: Standard deviation of the logarithm of the gain.
        wander_mv: Mean amplitude of the baseline wander of a lead, mV.
        noise_mv: Mean standard deviation of white noise at 500 Hz, mV.
        mains_mv: Mean amplitude of mains in a lead, mV.
        lead_drop: Share of leads that are set to 0; their ST and T become unknown.
        few_leads: Share of ECGs that keep one to three leads only, as a monitor or an old recorder has them.
    """

    stretch: tuple[float, float] = (0.77, 1.3)
    stretched: float = 0.6
    shift_s: float = 0.3
    gain: float = 0.25
    wander_mv: float = 0.03
    noise_mv: float = 0.015
    mains_mv: float = 0.01
    lead_drop: float = 0.03
    few_leads: float = 0.1

    def __call__(self, ecg: Labelled, rng: np.random.Generator) -> Labelled:
        """Return a changed copy."""
        factor = rng.uniform(*self.stretch) if rng.uniform() < self.stretched else 1.0
        shift = rng.uniform(-self.shift_s, self.shift_s) * FS
        moved = stretch(ecg, factor, shift)
        gain = float(np.exp(rng.normal(0, self.gain)))
        values = moved.values.copy()
        values[_ST:] *= gain
        signal = gain * moved.signal + self.noise(rng, moved.signal.shape[1])
        dropped = rng.uniform(size=12) < self.lead_drop
        if rng.uniform() < self.few_leads:
            dropped = rng.permutation(12) >= rng.integers(1, 4)
        signal[dropped] = 0
        values[_ST:_T][dropped] = np.nan
        values[_T:][dropped] = np.nan
        return replace(moved, signal=signal.astype(np.float32), values=values)

    def noise(self, rng: np.random.Generator, samples: int) -> np.ndarray:
        """Return wander, muscle noise and mains (12, samples), mV; four in five ECGs have each of the first two."""
        wander = baseline_wander(
            samples,
            FS,
            amplitudes=np.abs(rng.normal(0, 1, 2)) * (rng.uniform() < 0.8),
            frequencies=rng.uniform(0.05, 0.6, 2),  # drift and breathing
            phases=rng.uniform(0, 2 * np.pi, 2),
            gains=rng.normal(0, self.wander_mv, 12),
        )
        size = rng.gamma(1.0, self.noise_mv) * (rng.uniform() < 0.8) * rng.uniform(0.5, 1.5, (12, 1))
        muscle = size * rng.standard_normal((12, samples), dtype=np.float32)
        hum = np.sin(2 * np.pi * rng.choice([50.0, 60.0]) / FS * np.arange(samples) + rng.uniform(0, 2 * np.pi))
        mains = rng.gamma(1.0, self.mains_mv, (12, 1)) * (rng.uniform() < 0.3) * hum
        return wander + muscle + mains


def stretch(ecg: Labelled, factor: float, shift: float) -> Labelled:
    """Return the ECG ``factor`` times slower and ``shift`` samples later; what lies outside is 0, and unknown."""
    if factor == 1.0 and round(shift) == 0:
        return ecg
    samples = ecg.signal.shape[1]
    at = (np.arange(samples) - shift) / factor
    left = np.clip(np.floor(at).astype(int), 0, samples - 2)
    share = (at - left).astype(np.float32)
    inside = (at >= 0) & (at <= samples - 1)
    signal = (ecg.signal[:, left] * (1 - share) + ecg.signal[:, left + 1] * share) * inside
    low, high = ecg.span or (0.0, samples - 1.0)
    values = ecg.values.copy()
    values[0] /= factor
    values[_INTERVALS] *= factor
    return Labelled(
        signal=signal,
        marks={name: column * factor + shift for name, column in ecg.marks.items()},
        values=values,
        span=(low * factor + shift, high * factor + shift),
    )


class DenseMixture(Dataset[dict[str, Any]]):
    """Endless labelled ECGs of several parts, each with its share; item ``(epoch, index)`` is always the same.

    Args:
        parts: By name.
        shares: By the same names; they sum to 1.
        length: ECGs an epoch.
        seed: Of part and distortion.
        distortion: Applied to every ECG; None changes nothing.

    Raises:
        DataError: Shares of other parts, or that do not sum to 1.
    """

    def __init__(
        self,
        parts: dict[str, Part],
        shares: dict[str, float],
        length: int,
        seed: int = 0,
        distortion: Distortion | None = None,
    ) -> None:
        if set(parts) != set(shares) or abs(sum(shares.values()) - 1) > 1e-6:
            raise DataError(f"expected shares of {sorted(parts)} that sum to 1, got {shares}")
        self.parts, self.shares, self.length, self.seed = parts, shares, length, seed
        self.distortion = distortion

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """Return ``ecg_values`` (12, 5000) mV, ``waves`` (3, 500), ``values`` (33,), ``epoch`` and ``index``."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        rng = np.random.default_rng([self.seed, epoch, index])
        name = rng.choice(list(self.shares), p=list(self.shares.values()))
        ecg = self.parts[str(name)].draw(epoch * self.length + index)
        return as_item(ecg if self.distortion is None else self.distortion(ecg, rng)) | {"epoch": epoch, "index": index}


class DenseRecords(Dataset[dict[str, Any]]):
    """Marked records as they are, for validation.

    Args:
        part: Their labels.
    """

    def __init__(self, part: MarkedPart) -> None:
        self.part = part

    def __len__(self) -> int:
        return len(self.part.labelled)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """Return the same fields as :class:`DenseMixture`."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        return as_item(self.part.labelled[index]) | {"epoch": epoch, "index": index}


def as_item(ecg: Labelled) -> dict[str, Any]:
    """Return ``ecg_values`` (12, 5000) mV, ``waves`` (3, 500) and ``values`` (33,), float32."""
    return {
        "ecg_values": fit_length(ecg.signal, SAMPLES),
        "waves": wave_shares(ecg.marks, SAMPLES, FS, ecg.span),
        "values": ecg.values.astype(np.float32),
    }


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Stack items of :class:`DenseMixture` into a batch."""
    return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}


def _label(marked: MarkedRecord) -> Labelled:
    signal = np.nan_to_num(marked.record.signal)
    values = true_values(signal, marked.marks, marked.beat_class, FS, marked.af, marked.pvc)
    return Labelled(signal, marked.marks, values, marked.span)
