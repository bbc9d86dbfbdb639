"""Random changes of ECG batches while training an encoder, each a pure function of the generator handed in.

Every augmentation is called as ``augment(ecg, rng)`` with ``ecg`` (B, leads, samples) in mV on any device and a numpy
``Generator``; it returns a new tensor of the same shape and leaves its input alone. Small draws are made by ``rng``, so
that they are the same on every device; only dense noise is generated on the batch's device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from gem_lightning.ecg.preprocess import fit_length
from gem_lightning.errors import DataError

Augmentation = Callable[[Tensor, np.random.Generator], Tensor]


def baseline_wander(
    samples: int, fs: float, amplitudes: np.ndarray, frequencies: np.ndarray, phases: np.ndarray, gains: np.ndarray
) -> np.ndarray:
    """Generate a slow wander: a sum of cosines, scaled per lead.

    Args:
        samples: Length T.
        fs: Sampling rate, Hz.
        amplitudes: (..., K) of the cosines, mV.
        frequencies: (..., K), Hz.
        phases: (..., K), radians.
        gains: (..., leads) factor of each lead.

    Returns:
        (..., leads, T) mV, float64.
    """
    t = np.arange(samples) / fs
    waves = amplitudes[..., None] * np.cos(2 * np.pi * frequencies[..., None] * t + phases[..., None])  # (..., K, T)
    return gains[..., None] * waves.sum(axis=-2)[..., None, :]


class BaselineWander:
    """Add :func:`baseline_wander` with the original's draws: three cosines of 0.01–0.2 Hz and up to ``amplitude``.

    Args:
        p: Share of the samples that are changed.
        amplitude: Largest of a component, mV.
        fs: Hz.
    """

    def __init__(self, p: float = 0.5, amplitude: float = 0.5, fs: float = 500) -> None:
        self.p, self.amplitude, self.fs = _share(p), amplitude, fs

    def __call__(self, ecg: Tensor, rng: np.random.Generator) -> Tensor:
        """Wander on a random share of (B, leads, samples)."""
        batch, leads, samples = ecg.shape
        chosen = rng.uniform(size=batch) <= self.p
        wander = baseline_wander(
            samples,
            self.fs,
            amplitudes=rng.uniform(0, self.amplitude, (batch, 3)) * chosen[:, None],
            # three sines below 0.2 Hz: respiration and slow drift
            frequencies=rng.uniform(0.01, 0.2, (batch, 3)),
            phases=rng.uniform(0, 2 * np.pi, (batch, 3)),
            gains=rng.normal(1, 0.5, (batch, leads)),
        )
        return ecg + torch.from_numpy(wander).to(ecg)


class CutMix:
    """Replace a stretch of an ECG, in all leads, by the same stretch of another of the batch (arXiv:1905.04899).

    A batch of one stays as it is. At most half is replaced, so that each keeps the text that describes most of it (the
    original replaces any share, but is applied to single records, where it does nothing).

    Args:
        p: Share of the samples that take part.
        alpha: Of the Beta distribution of the stretch's share of the length.
    """

    def __init__(self, p: float = 0.5, alpha: float = 0.5) -> None:
        self.p, self.alpha = _share(p), alpha

    def __call__(self, ecg: Tensor, rng: np.random.Generator) -> Tensor:
        """Mix stretches among (B, leads, samples)."""
        batch, _, samples = ecg.shape
        chosen = np.flatnonzero(rng.uniform(size=batch) < self.p)
        source = np.arange(batch)
        source[chosen] = rng.permutation(chosen)
        share = rng.beta(self.alpha, self.alpha, batch)
        length = np.minimum(share, 1 - share) * samples
        centre = rng.uniform(0, samples, batch)
        inside = _inside(centre - length / 2, centre + length / 2, samples)
        return torch.where(torch.from_numpy(inside).to(ecg.device)[:, None], ecg[torch.from_numpy(source)], ecg)


class RandomMasking:
    """Set short stretches to 0 in all leads: about half of a record's widths' worth, 30 % of it after overlaps.

    Args:
        p: Share of the samples that are changed.
        width: Narrowest and widest stretch, s.
        fs: Hz.
        original: Draw how many samples of a batch change as the original does: the nearest integer to a normal
            draw of mean ``p`` B and standard deviation 0.1 B, so that a batch of one changes in 2 % of the cases.
    """

    def __init__(
        self, p: float = 0.3, width: tuple[float, float] = (0.08, 0.18), fs: float = 500, original: bool = False
    ) -> None:
        self.p, self.original = _share(p), original
        self.narrow, self.wide = round(width[0] * fs), round(width[1] * fs)

    def __call__(self, ecg: Tensor, rng: np.random.Generator) -> Tensor:
        """Mask stretches of (B, leads, samples)."""
        batch, _, samples = ecg.shape
        keep = np.ones((batch, samples), dtype=bool)
        for row in self._rows(batch, rng):
            places = samples - self.wide
            # as the original: half of the places, with 7.5 % spread
            count = int(np.clip(round(rng.normal(0.5 * places / self.wide, 0.0375 * places / self.wide)), 0, places))
            centre = rng.choice(places, count, replace=False) + self.wide // 2
            radius = rng.integers(self.narrow, self.wide, count) // 2
            for start, end in zip(centre - radius, centre + radius):
                keep[row, start:end] = False
        return ecg * torch.from_numpy(keep).to(ecg)[:, None]

    def _rows(self, batch: int, rng: np.random.Generator) -> np.ndarray:
        if not self.original:
            return np.flatnonzero(rng.uniform(size=batch) < self.p)
        # the original draws the number of mixed samples from a normal distribution
        count = int(np.clip(round(rng.normal(self.p * batch, 0.1 * batch)), 0, batch))
        return rng.choice(batch, count, replace=False)


class LeadDrop:
    """Set whole leads to 0, as with an electrode that is off.

    Args:
        p: Share of the samples that lose leads.
        most: Largest number of leads lost.
    """

    def __init__(self, p: float = 0.2, most: int = 3) -> None:
        self.p, self.most = _share(p), most

    def __call__(self, ecg: Tensor, rng: np.random.Generator) -> Tensor:
        """Drop leads of (B, leads, samples)."""
        batch, leads, _ = ecg.shape
        lost = rng.integers(1, self.most + 1, batch) * (rng.uniform(size=batch) < self.p)
        order = rng.uniform(size=(batch, leads)).argsort(axis=1).argsort(axis=1)  # a rank for each lead
        return ecg * torch.from_numpy(order >= lost[:, None]).to(ecg)[..., None]


class Noise:
    """Add white noise.

    Args:
        p: Share of the samples that are changed.
        most: Largest standard deviation, mV.
    """

    def __init__(self, p: float = 0.5, most: float = 0.05) -> None:
        self.p, self.most = _share(p), most

    def __call__(self, ecg: Tensor, rng: np.random.Generator) -> Tensor:
        """Noise on (B, leads, samples)."""
        batch = len(ecg)
        size = rng.uniform(0, self.most, batch) * (rng.uniform(size=batch) < self.p)
        generator = torch.Generator(ecg.device).manual_seed(int(rng.integers(2**62)))
        noise = torch.randn(ecg.shape, generator=generator, device=ecg.device, dtype=ecg.dtype)
        return ecg + torch.from_numpy(size).to(ecg)[:, None, None] * noise


class Gain:
    """Scale all leads of a sample by one factor.

    Args:
        p: Share of the samples that are changed.
        low: Smallest factor.
        high: Largest factor.
    """

    def __init__(self, p: float = 0.5, low: float = 0.8, high: float = 1.25) -> None:
        self.p, self.low, self.high = _share(p), low, high

    def __call__(self, ecg: Tensor, rng: np.random.Generator) -> Tensor:
        """Scale (B, leads, samples)."""
        batch = len(ecg)
        factor = np.exp(rng.uniform(np.log(self.low), np.log(self.high), batch))
        factor = np.where(rng.uniform(size=batch) < self.p, factor, 1.0)
        return ecg * torch.from_numpy(factor).to(ecg)[:, None, None]


class TimeShift:
    """Move a sample in time; what leaves at one end is lost and zeros come in at the other.

    Args:
        p: Share of the samples that are moved.
        most: Largest shift either way, s.
        fs: Hz.
    """

    def __init__(self, p: float = 0.5, most: float = 0.2, fs: float = 500) -> None:
        self.p, self.most = _share(p), round(most * fs)

    def __call__(self, ecg: Tensor, rng: np.random.Generator) -> Tensor:
        """Shift (B, leads, samples)."""
        batch, leads, samples = ecg.shape
        shift = rng.integers(-self.most, self.most + 1, batch) * (rng.uniform(size=batch) < self.p)
        source = np.arange(samples) - shift[:, None]  # (B, samples)
        inside = torch.from_numpy((source >= 0) & (source < samples)).to(ecg.device)
        index = torch.from_numpy(source.clip(0, samples - 1)).to(ecg.device)
        moved = ecg.gather(2, index[:, None].expand(-1, leads, -1))
        return moved * inside[:, None]


class Augment:
    """Several augmentations in a row.

    Args:
        steps: Called in order with the same generator.
    """

    def __init__(self, steps: Sequence[Augmentation]) -> None:
        self.steps = list(steps)

    def __call__(self, ecg: Tensor, rng: np.random.Generator) -> Tensor:
        """Return all steps on (B, leads, samples)."""
        for step in self.steps:
            ecg = step(ecg, rng)
        return ecg


def original_augmentations() -> Augment:
    """Return ECG-CoCa's augmentations: baseline wander (p 0.5), CutMix (p 0.5) and random masking (p 0.3)."""
    return Augment([BaselineWander(0.5), CutMix(0.5), RandomMasking(0.3, original=True)])


def fit_signal(
    signal: np.ndarray, samples: int, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> np.ndarray:
    """Convert a record to the encoder's input: NaN as 0, standardised per lead where configured, cut or zero-padded.

    Args:
        signal: (leads, T), mV.
        samples: Length of the result; the end is cut or filled.
        mean: Per lead, mV; None subtracts nothing (as the published encoder was trained).
        std: Per lead, mV; None divides by nothing.

    Returns:
        (leads, samples) float32, a new array.
    """
    fitted = fit_length(signal, samples)
    recorded = fitted[:, : signal.shape[1]]  # what is filled up stays 0
    if mean is not None:
        recorded -= np.asarray(mean, np.float32)[:, None]
    if std is not None:
        recorded /= np.asarray(std, np.float32)[:, None]
    return fitted


def _inside(start: np.ndarray, end: np.ndarray, samples: int) -> np.ndarray:
    """(B, samples) True from start (B,) to end (B,)."""
    t = np.arange(samples)
    return (t >= np.round(start)[:, None]) & (t < np.round(end)[:, None])


def _share(p: float) -> float:
    if not 0 <= p <= 1:
        raise DataError(f"expected a share p of the samples from 0 to 1, got {p}")
    return p
