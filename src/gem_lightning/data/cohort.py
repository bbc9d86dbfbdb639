"""A simulated cohort on disk: records with known diagnoses, measured, each with a composed interpretation."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gem_lightning.ecg.pack import SUFFIX, PackWriter
from gem_lightning.ecg.record import EcgRecord
from gem_lightning.samples.io import InstructionSample, SampleFile, write_samples
from gem_lightning.samples.sample import DEFAULT_QUESTION

logger = logging.getLogger(__name__)

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


class SimulatedCohort:
    """Simulated ECGs as instruction samples: records in a pack, texts in JSON Lines, both made once.

    Patients differ by seed; a validation split is a cohort of another ``seed``.

    Args:
        folder: Where the cohort is kept.
        n: Number of ECGs.
        seed: Of the whole cohort.
        diagnoses: Drawn in turn, so that the cohort is balanced.
        snr_db: Lowest and highest signal-to-noise ratio, dB.
        wander_mv: Lowest and highest baseline wander, mV (root mean square).
        style: Of the composed texts (see :func:`gem_lightning.grounding.compose`).
        question: First human turn; the signal and image come before it.
        workers: Processes; 0 uses all cores.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        n: int,
        seed: int,
        diagnoses: Sequence[str] = DIAGNOSES,
        snr_db: tuple[float, float] = (20.0, 35.0),  # from a moving patient to a quiet resting recording; ours
        # 0.2 mV: two small boxes of drift, what breathing leaves after a resting recorder's filter; ours
        wander_mv: tuple[float, float] = (0.0, 0.2),
        style: str = "brief",
        question: str = DEFAULT_QUESTION,
        workers: int = 0,
    ) -> None:
        self.folder = Path(folder)
        self.n, self.seed, self.diagnoses = n, seed, tuple(diagnoses)
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

    def _make(self) -> None:
        logger.info("simulating, measuring and describing %d ECGs into %s", self.n, self.folder)
        pack = self.folder / f"{self._name}{SUFFIX}"
        samples = []
        with PackWriter(pack, self.n) as writer:
            for record, row in self._simulate_all():
                index = writer.add(record)
                samples.append(InstructionSample.from_dict(row | {"ecg": f"{pack}::{index}"}))
        write_samples(samples, self.path)

    def samples(self) -> SampleFile:
        """Return the instruction samples; :meth:`prepare` comes first."""
        return SampleFile(self.path)

    @property
    def path(self) -> Path:
        """The samples' JSON Lines file; its name changes with what the cohort holds."""
        return self.folder / f"{self._name}.jsonl"

    @property
    def _name(self) -> str:
        import hashlib

        what = repr((self.n, self.seed, self.diagnoses, self.snr_db, self.wander_mv, self.style, self.question))
        return f"simulated-{self.n}-{hashlib.sha256(what.encode()).hexdigest()[:8]}"

    def _simulate_all(self) -> Iterator[tuple[EcgRecord, dict[str, Any]]]:
        from joblib import Parallel, delayed
        from tqdm import tqdm

        job = partial(
            simulate_sample,
            seed=self.seed,
            diagnoses=self.diagnoses,
            snr_db=self.snr_db,
            wander_mv=self.wander_mv,
            style=self.style,
            question=self.question,
        )
        # New processes, as the parent may hold threads of torch or Arrow; inside a sweep's worker, threads.
        pool = Parallel(self.workers or -1, batch_size=16, return_as="generator")
        made = pool(delayed(job)(index) for index in range(self.n))
        yield from tqdm(made, desc=f"cohort of {self.n}", total=self.n, unit="ECG", mininterval=1)


def simulate_sample(
    index: int,
    seed: int,
    diagnoses: Sequence[str] = DIAGNOSES,
    snr_db: tuple[float, float] = (20.0, 35.0),
    wander_mv: tuple[float, float] = (0.0, 0.2),
    style: str = "brief",
    question: str = DEFAULT_QUESTION,
) -> tuple[EcgRecord, dict[str, Any]]:
    """Simulate one record and its instruction sample as a row without its ``ecg`` reference.

    The text rests on the measurements of the signal, as for a real record; the simulator's own truth is kept in
    ``truth`` for evaluation.
    """
    from gem_lightning.composition.compose import compose
    from gem_lightning.ecg import simulate
    from gem_lightning.features import findings, measure

    diagnosis = diagnoses[index % len(diagnoses)]
    draw = np.random.default_rng([seed, index])
    noise = {"snr_db": float(draw.uniform(*snr_db)), "wander_mv": float(draw.uniform(*wander_mv))}
    # seeds below 2^31 fit every generator and every file format
    made = simulate(diagnosis, seed=int(draw.integers(2**31)), **noise)
    features = measure(made.record)
    found = findings(features)
    text = compose(features, found, seed=int(draw.integers(2**31)), style=style)
    row = {
        "id": f"simulated-{seed}-{index}",
        "conversations": [
            {"from": "human", "value": f"<image>\n{question}"},
            {"from": "gpt", "value": text},
        ],
        "truth": {"diagnoses": list(made.diagnoses), **_numbers(made.parameters)},
    }
    return made.record, row


def _numbers(parameters: dict[str, Any]) -> dict[str, float]:
    return {name: float(v) for name, v in parameters.items() if isinstance(v, (int, float, np.number))}
