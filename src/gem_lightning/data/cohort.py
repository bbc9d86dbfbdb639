"""Cohorts on disk: records whose truth is known, simulated or recombined, each with a composed interpretation."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gem_lightning.ecg.leads import limb_leads
from gem_lightning.ecg.pack import SUFFIX, PackWriter
from gem_lightning.ecg.recombination import MarkedRecord, RecombinedBeats
from gem_lightning.ecg.recombination.fragments import INDEPENDENT
from gem_lightning.ecg.record import EcgRecord
from gem_lightning.ecg.simulation.noise import recording_noise
from gem_lightning.features.schema import Delineation, EcgFeatures, Finding
from gem_lightning.samples.io import InstructionSample, SampleFile, write_samples
from gem_lightning.samples.sample import DEFAULT_QUESTION

logger = logging.getLogger(__name__)

Row = dict[str, Any]  # of a sample, without its reference to the record
Made = tuple[EcgRecord, Row | list[Row]]  # a record, and its sample or samples

DIAGNOSES: tuple[str, ...] = (
    "sinus",
    "sinus_bradycardia",
    "sinus_tachycardia",
    "atrial_fibrillation",
    "av_block_1",
    "rbbb",
    "lbbb",
    "st_elevation",
    "long_qtc",
    "lvh",
    "pvc",
)
# from a moving patient to a quiet resting recording; ours
SNR_DB = (20.0, 35.0)
# 0.2 mV: two small boxes of drift, what breathing leaves after a resting recorder's filter; ours
WANDER_MV = (0.0, 0.2)


class Cohort:
    """Made ECGs as instruction samples: records in a pack, texts in JSON Lines, both made once.

    Patients differ by seed; a validation split is a cohort of another ``seed``.

    Args:
        folder: Where the cohort is kept.
        n: Number of ECGs.
        seed: Of the whole cohort.
        snr_db: Lowest and highest signal-to-noise ratio, dB.
        wander_mv: Lowest and highest baseline wander, mV (root mean square).
        style: Of the composed texts (see :func:`gem_lightning.grounding.compose`).
        question: First human turn; the signal and image come before it.
        workers: Processes; 0 uses all cores.
    """

    kind: ClassVar[str]
    verb: ClassVar[str]

    def __init__(
        self,
        folder: str | os.PathLike[str],
        n: int,
        seed: int,
        snr_db: tuple[float, float] = SNR_DB,
        wander_mv: tuple[float, float] = WANDER_MV,
        style: str = "brief",
        question: str = DEFAULT_QUESTION,
        workers: int = 0,
    ) -> None:
        self.folder = Path(folder)
        self.n, self.seed = n, seed
        self.snr_db = (float(snr_db[0]), float(snr_db[1]))
        self.wander_mv = (float(wander_mv[0]), float(wander_mv[1]))
        self.style, self.question, self.workers = style, question, workers

    def prepare(self) -> None:
        """Make the cohort unless it is there; of several processes one makes it and the others wait."""
        if self.path.exists():
            return
        from filelock import FileLock

        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")):
            if not self.path.exists():
                self._make()

    def samples(self) -> SampleFile:
        """Return the instruction samples; :meth:`prepare` comes first."""
        return SampleFile(self.path)

    @property
    def path(self) -> Path:
        """The samples' JSON Lines file; its name changes with what the cohort holds."""
        return self.folder / f"{self._name}.jsonl"

    def job(self) -> Callable[[int], Made]:
        """Return what makes one ECG, by its index; it is sent to worker processes."""
        raise NotImplementedError

    def content(self) -> tuple[Any, ...]:
        """Return what the cohort's ECGs depend on."""
        raise NotImplementedError

    def _make(self) -> None:
        logger.info("%s, measuring and describing %d ECGs into %s", self.verb, self.n, self.folder)
        pack = self.folder / f"{self._name}{SUFFIX}"
        samples = []
        with PackWriter(pack, self.n) as writer:
            for record, rows in self._make_all():
                ecg = {"ecg": f"{pack}::{writer.add(record)}"}
                listed = rows if isinstance(rows, list) else [rows]
                samples += [InstructionSample.from_dict(row | ecg) for row in listed]
        write_samples(samples, self.path)

    @property
    def _name(self) -> str:
        import hashlib

        return f"{self.kind}-{self.n}-{hashlib.sha256(repr(self.content()).encode()).hexdigest()[:8]}"

    def _make_all(self) -> Iterator[Made]:
        from joblib import Parallel, delayed
        from tqdm import tqdm

        job = self.job()
        # New processes, as the parent may hold threads of torch or Arrow; inside a sweep's worker, threads.
        pool = Parallel(self.workers or -1, batch_size=16, return_as="generator")
        made = pool(delayed(job)(index) for index in range(self.n))
        yield from tqdm(made, desc=f"cohort of {self.n}", total=self.n, unit="ECG", mininterval=1)


class SimulatedCohort(Cohort):
    """Simulated ECGs as instruction samples; see :class:`Cohort`.

    Args:
        diagnoses: Drawn in turn, so that the cohort is balanced.
    """

    kind, verb = "simulated", "simulating"

    def __init__(
        self,
        folder: str | os.PathLike[str],
        n: int,
        seed: int,
        diagnoses: Sequence[str] = DIAGNOSES,
        snr_db: tuple[float, float] = SNR_DB,
        wander_mv: tuple[float, float] = WANDER_MV,
        style: str = "brief",
        question: str = DEFAULT_QUESTION,
        workers: int = 0,
    ) -> None:
        super().__init__(folder, n, seed, snr_db, wander_mv, style, question, workers)
        self.diagnoses = tuple(diagnoses)

    def content(self) -> tuple[Any, ...]:
        """Return what the cohort's ECGs depend on."""
        return (self.n, self.seed, self.diagnoses, self.snr_db, self.wander_mv, self.style, self.question)

    def job(self) -> Callable[[int], Made]:
        """Return what simulates one ECG."""
        return partial(
            simulate_sample,
            seed=self.seed,
            diagnoses=self.diagnoses,
            snr_db=self.snr_db,
            wander_mv=self.wander_mv,
            style=self.style,
            question=self.question,
        )


class RecombinedCohort(Cohort):
    """ECGs recombined from marked beats as instruction samples; see :class:`Cohort`.

    The texts rest on the exact marks, not on a delineation. A row keeps ``truth`` and ``marks`` (per name, samples of
    each beat, None where absent) for evaluation and for training encoders.

    Args:
        records: Marked records, the donors; what is not a list of its own says by its repr which records it yields.
        patients: Use only these patients' beats; None uses all.
    """

    kind, verb = "recombined", "recombining"

    def __init__(
        self,
        folder: str | os.PathLike[str],
        n: int,
        seed: int,
        records: Iterable[MarkedRecord],
        patients: Sequence[str] | None = None,
        snr_db: tuple[float, float] = SNR_DB,
        wander_mv: tuple[float, float] = WANDER_MV,
        style: str = "brief",
        question: str = DEFAULT_QUESTION,
        workers: int = 0,
    ) -> None:
        super().__init__(folder, n, seed, snr_db, wander_mv, style, question, workers)
        self.records = records
        self.patients = None if patients is None else tuple(sorted(patients))

    def content(self) -> tuple[Any, ...]:
        """Return what the cohort's ECGs depend on."""
        listed = isinstance(self.records, Sequence)
        donors = tuple(record.patient for record in self.records) if listed else repr(self.records)
        return (self.n, self.seed, donors, self.patients, self.snr_db, self.wander_mv, self.style, self.question)

    def job(self) -> Callable[[int], Made]:
        """Return what recombines one ECG."""
        return partial(
            recombine_sample,
            beats=RecombinedBeats(self.records, self.seed, patients=self.patients),
            snr_db=self.snr_db,
            wander_mv=self.wander_mv,
            style=self.style,
            question=self.question,
            key=self._name,
        )


def simulate_sample(
    index: int,
    seed: int,
    diagnoses: Sequence[str] = DIAGNOSES,
    snr_db: tuple[float, float] = SNR_DB,
    wander_mv: tuple[float, float] = WANDER_MV,
    style: str = "brief",
    question: str = DEFAULT_QUESTION,
) -> Made:
    """Simulate one record and its instruction sample as a row without its ``ecg`` reference.

    The text rests on the measurements of the signal, as for a real record; the simulator's own truth is kept in
    ``truth`` for evaluation.
    """
    from gem_lightning.ecg import simulate

    diagnosis = diagnoses[index % len(diagnoses)]
    draw = np.random.default_rng([seed, index])
    noise = {"snr_db": float(draw.uniform(*snr_db)), "wander_mv": float(draw.uniform(*wander_mv))}
    # seeds below 2^31 fit every generator and every file format
    made = simulate(diagnosis, seed=int(draw.integers(2**31)), **noise)
    row, _, _ = describe(made.record, None, int(draw.integers(2**31)), style, question)
    truth = {"diagnoses": list(made.diagnoses), **_numbers(made.parameters)}
    return made.record, {"id": f"simulated-{seed}-{index}"} | row | {"truth": truth}


def recombine_sample(
    index: int,
    beats: RecombinedBeats,
    snr_db: tuple[float, float] = SNR_DB,
    wander_mv: tuple[float, float] = WANDER_MV,
    style: str = "brief",
    question: str = DEFAULT_QUESTION,
    key: str | None = None,
) -> Made:
    """Recombine one record and its instruction sample as a row without its ``ecg`` reference.

    Args:
        index: Of the ECG.
        beats: Puts it together.
        snr_db, wander_mv, style, question: See :class:`Cohort`.
        key: Beats of equal keys are cut once a process; None cuts those given.
    """
    from gem_lightning.features import delineate
    from gem_lightning.features.delineation.given import with_marks

    made = (beats if key is None else _CUT.setdefault(key, beats))[index]
    draw = np.random.default_rng([beats.seed, index, 1])
    record = noisy(made.record, snr_db, wander_mv, draw)
    exact = with_marks(delineate(record), record, made.marks, made.beat_class)
    row, _, found = describe(record, exact, int(draw.integers(2**31)), style, question)
    number = {"heart_rate" if name == "rate_bpm" else name: value for name, value in made.truth.items()}
    truth = number | {"diagnoses": sorted({finding.code for finding in found}), "patients": list(made.patients)}
    marks = {name: [None if np.isnan(v) else round(float(v), 1) for v in column] for name, column in made.marks.items()}
    return record, {"id": f"recombined-{beats.seed}-{index}"} | row | {"truth": truth, "marks": marks}


_CUT: dict[str, RecombinedBeats] = {}  # of this process


def noisy(
    record: EcgRecord, snr_db: tuple[float, float], wander_mv: tuple[float, float], draw: np.random.Generator
) -> EcgRecord:
    """Return a 12-lead record with a recorder's noise on it; its limb leads obey Einthoven's law.

    Args:
        record: Leads in standard order.
        snr_db: Lowest and highest signal-to-noise ratio, dB.
        wander_mv: Lowest and highest baseline wander, mV (root mean square).
        draw: Draws the noise and its size.
    """
    eight = record.signal[list(INDEPENDENT)].astype(float)
    snr, wander = float(draw.uniform(*snr_db)), float(draw.uniform(*wander_mv))
    noise = recording_noise(eight, record.fs, snr, wander, float(draw.choice([50.0, 60.0])), draw)
    return record.with_signal(limb_leads((eight + noise).astype(np.float32)))


def describe(
    record: EcgRecord, delineation: Delineation | None, seed: int, style: str, question: str
) -> tuple[dict[str, Any], EcgFeatures, list[Finding]]:
    """Measure a record and compose its text: ``conversations`` of one question and answer, measurements, findings.

    Args:
        record: The record.
        delineation: Its marks; None finds them.
        seed: Of the wording.
        style: Of the text.
        question: Of the human turn.
    """
    from gem_lightning.composition.compose import compose
    from gem_lightning.features import findings, measure

    features = measure(record, delineation)
    found = findings(features)
    text = compose(features, found, seed=seed, style=style)
    turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": text}]
    return {"conversations": turns}, features, found


def _numbers(parameters: dict[str, Any]) -> dict[str, float]:
    return {name: float(v) for name, v in parameters.items() if isinstance(v, (int, float, np.number))}
