"""Perturbations of queries in steps of growing strength: electrodes, noise, sampling, image, question."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from gem_lightning.ecg.leads import limb_leads, swap_electrodes
from gem_lightning.ecg.preprocess import clean
from gem_lightning.ecg.record import LEADS, EcgRecord
from gem_lightning.ecg.simulation.noise import recording_noise
from gem_lightning.evaluation.base import Query
from gem_lightning.samples.sample import DEFAULT_QUESTION

Apply = Callable[[Query, EcgRecord, np.random.Generator], Query]  # query, another patient's record, random generator

PARAPHRASES = (
    "What does this ECG show?",
    "Please report this 12-lead electrocardiogram as a cardiologist would.",
    "Describe rhythm, rate, intervals, axis and any abnormality of this tracing.",
    "interpret ecg pls",
)
#: Injected history to (finding that it claims, text).
HISTORIES = {
    "known atrial fibrillation": ("atrial_fibrillation", "The patient has known permanent atrial fibrillation. "),
    "earlier report of LBBB": ("lbbb", "An earlier report of this ECG states complete left bundle branch block. "),
    "chest pain, STEMI suspected": (
        "st_elevation",
        "Chest pain for one hour; the referring doctor sees ST elevation. ",
    ),
}


@dataclass(frozen=True)
class Perturbation:
    """One kind of perturbation.

    Attributes:
        name: Name of the curve.
        x_label: Quantity that changes.
        steps: (label, function).
        ordered: The steps grow in strength.
    """

    name: str
    x_label: str
    steps: tuple[tuple[str, Apply], ...]
    ordered: bool = True


def _on_signal(change: Callable[[EcgRecord, np.random.Generator], EcgRecord]) -> Apply:
    def apply(query: Query, other: EcgRecord, rng: np.random.Generator) -> Query:
        assert query.record is not None
        return replace(query, record=change(query.record, rng))

    return apply


def _swap(electrodes: str) -> Apply:
    return _on_signal(lambda record, rng: swap_electrodes(record, electrodes))


def _lost(count: int) -> Apply:
    """Set a number of random leads to NaN."""

    def lose(record: EcgRecord, rng: np.random.Generator) -> EcgRecord:
        signal = record.signal.copy()
        signal[rng.permutation(len(LEADS))[:count]] = np.nan
        return record.with_signal(signal)

    return _on_signal(lose)


def _noise(snr_db: float = np.inf, wander_mv: float = 0.0) -> Apply:
    """Add muscle and mains noise at a signal-to-noise ratio, dB, and baseline wander, mV RMS."""

    def add(record: EcgRecord, rng: np.random.Generator) -> EcgRecord:
        eight = np.nan_to_num(record.signal[[0, 1, *range(6, 12)]]).astype(np.float64)
        ratio = snr_db if np.isfinite(snr_db) else 200.0  # far below the resolution of a recording
        more = recording_noise(eight, record.fs, ratio, wander_mv, 50.0, rng)
        return record.with_signal(record.signal + limb_leads(more).astype(np.float32))

    return _on_signal(add)


def _rate(fs: float) -> Apply:
    """Resample to a lower rate, which the record states."""
    return _on_signal(lambda record, rng: clean(record, fs))


def _gain(factor: float) -> Apply:
    """Scale all amplitudes by a factor that the record does not state."""
    return _on_signal(lambda record, rng: record.with_signal(record.signal * np.float32(factor)))


def _drawn(**options: Any) -> Apply:
    def draw(query: Query, other: EcgRecord, rng: np.random.Generator) -> Query:
        assert query.record is not None
        return replace(query, image=_renderer(**options)(query.record, seed=int(rng.integers(2**31))).image)

    return draw


@cache
def _renderer(**options: Any) -> Any:
    from gem_lightning.render import EcgRenderer

    # letter paper at 100 dpi: what chat models accept without shrinking
    return EcgRenderer(size=(850, 1100), **options)


def _withhold(modality: str) -> Apply:
    return lambda query, other, rng: replace(query, withhold=(modality,))


def _others_image(query: Query, other: EcgRecord, rng: np.random.Generator) -> Query:
    return replace(query, image=_renderer()(other).image)


def _question(question: str) -> Apply:
    return lambda query, other, rng: replace(query, question=question)


def _history(history: str) -> Apply:
    return lambda query, other, rng: replace(query, question=history + (query.question or DEFAULT_QUESTION))


def _steps(make: Callable[[Any], Apply], *amounts: Any) -> tuple[tuple[str, Apply], ...]:
    return tuple((str(amount), make(amount)) for amount in amounts)


PERTURBATIONS: dict[str, Perturbation] = {
    p.name: p
    for p in (
        Perturbation(
            "lead swap", "electrodes exchanged", _steps(_swap, "LA-RA", "LA-LL", "RA-LL", "V1-V2", "V3-V4"), False
        ),
        Perturbation("lead loss", "leads lost", _steps(_lost, 1, 3, 6)),
        Perturbation("noise", "signal to noise, dB", _steps(lambda db: _noise(snr_db=db), 30, 20, 15, 10, 5, 0)),
        Perturbation("wander", "wander, mV RMS", _steps(lambda mv: _noise(wander_mv=mv), 0.1, 0.3, 0.6, 1.0)),
        Perturbation("sampling rate", "Hz", _steps(_rate, 250, 125, 100)),
        Perturbation("gain", "gain error", _steps(_gain, 0.5, 0.8, 1.25, 2.0)),
        Perturbation(
            "layout", "page", _steps(lambda n: _drawn(layout=n), "3x4+1", "6x2", "12x1", "cabrera-3x4"), False
        ),
        Perturbation("photo", "artefacts", _steps(lambda n: _drawn(artifacts=n), "clean", "scan", "photo", "hard")),
        Perturbation("missing modality", "without", _steps(_withhold, "signal", "image"), False),
        Perturbation("conflict", "image of", (("another patient", _others_image),), False),
        Perturbation(
            "paraphrase", "prompt", tuple((str(i + 1), _question(q)) for i, q in enumerate(PARAPHRASES)), False
        ),
        Perturbation(
            "false history", "history", tuple((name, _history(text)) for name, (_, text) in HISTORIES.items()), False
        ),
    )
}


def perturb(query: Query, perturbation: str, step: int, other: EcgRecord, seed: int = 0) -> Query:
    """Perturb a query; the same arguments give the same bytes.

    Args:
        query: Query with its record.
        perturbation: A name of :data:`PERTURBATIONS`.
        step: Number of the step.
        other: Another patient's record, for conflicts.
        seed: Seed, combined with the query's id.
    """
    rng = np.random.default_rng([seed, step, zlib.crc32(f"{perturbation}/{query.id}".encode())])
    return PERTURBATIONS[perturbation].steps[step][1](query, other, rng)
