"""DataModule of instruction samples: read, rendered and tokenised in the loader, in a resumable order."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader

from gem_lightning.data import (
    GemCollator,
    InstructionDataset,
    LengthBatchSampler,
    Mixture,
    ModalityDropout,
    PackingCollator,
    token_lengths,
)
from gem_lightning.data.lengths import settle_long_samples
from gem_lightning.lit.data.resumable import PackStepSampler, ResumableDataModule, StepSampler
from gem_lightning.samples.sample import with_root

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SampleOptions:
    """How one sample becomes one training item.

    Attributes:
        renderer: Draws records (an ``EcgRenderer``); None uses stored images only.
        draw: Which records the renderer draws: ``always`` all, ``missing`` those whose image file is missing (their
            number is logged), ``never`` none.
        contract: Signal contract of :func:`gem_lightning.ecg.read_ecg`; None takes the processor's.
        paths: Leading folders in the samples to folders on this machine.
        question: Other wordings of the first question of training samples (:class:`QuestionTemplates`); None keeps
            the samples' own.
        modalities: Drops modalities of training samples (:class:`ModalityDropout`); None keeps them.
        unreadable: A sample whose record or image is missing or broken: ``stop`` the run, or ``skip`` the sample.
        seed: Of the order, of rendering, questions and modalities.
        long_samples: A sample of more than ``max_length`` tokens: ``cut`` its end, ``skip`` it, or ``stop`` the run.
            Their number is reported at the start and logged.
        targets: Makes targets of the ECG encoder from training samples, see :class:`InstructionDataset`; the module's
            ``auxiliary_weight`` weighs their loss.
    """

    renderer: Any = None
    draw: str = "always"
    contract: str | None = None
    paths: Mapping[str, str] | None = None
    question: Any = None
    modalities: ModalityDropout | None = None
    unreadable: str = "stop"
    long_samples: str = "cut"
    seed: int = 0
    targets: Any = None


@dataclass(frozen=True)
class BatchOptions:
    """How training samples become batches.

    Attributes:
        weights: Name of a training source to the passes that an epoch makes through it; 1 where not named.
        length_window: Batches whose samples are sorted by length together. 1 sorts nothing: use it where the length
            of an answer reveals its diagnosis, because batches of one diagnosis train poorly.
        pack_to: Tokens of a row that holds several training samples; a batch then has ``batch_size`` such rows. None
            pads samples of similar length instead.
        cache: Folder that keeps the samples' exact lengths, which packing counts at the start.
    """

    weights: Mapping[str, float] | None = None
    # batches sorted by length inside 50 of them: little padding, and an order that still looks random
    length_window: int = 50
    pack_to: int | None = None
    cache: str | None = None


class InstructionDataModule(ResumableDataModule):
    """Training, validation and test samples of a GEM; the order is the same for any number of loader processes.

    Args:
        processor: A ``GemProcessor``.
        train: Training samples: a file (.json, .jsonl, .parquet), a folder or address of shards, an object with
            ``prepare()`` and ``samples()`` such as :class:`gem_lightning.data.SimulatedCohort`, or name to such a
            source for several.
        val: Validation samples, or None.
        test: Test samples for ``trainer.test``, or None.
        root: Folder that relative paths of all samples start at, or ``{ecg: FOLDER, image: FOLDER}``;
            ``samples.paths`` takes precedence.
        batch_size: Samples per step and process.
        max_length: Longest sample, tokens; None keeps all.
        num_workers: Loader processes.
        samples: How one sample is read.
        batches: How training samples are batched.
    """

    kind = InstructionDataset  # of the data sets

    def __init__(
        self,
        processor: Any,
        train: Any,
        val: Any = None,
        test: Any = None,
        root: str | Mapping[str, str] | None = None,
        batch_size: int = 16,
        max_length: int | None = 4096,
        num_workers: int = 1,
        samples: SampleOptions | None = None,
        batches: BatchOptions | None = None,
    ) -> None:
        super().__init__()
        self.processor = processor
        self.sources = {"train": train, "val": val, "test": test}
        self.batch_size, self.max_length, self.num_workers = batch_size, max_length, num_workers
        self.samples, self.batches = samples or SampleOptions(), batches or BatchOptions()
        self.seed = self.samples.seed
        self.contract = str(self.samples.contract or getattr(processor, "contract", "clean"))
        self.paths = with_root(root, self.samples.paths)
        self._datasets: dict[str, InstructionDataset] = {}

    def prepare_data(self) -> None:
        """Generate sources that do not exist yet, for example a simulated cohort."""
        for source in self.sources.values():
            for one in source.values() if isinstance(source, Mapping) else (source,):
                if hasattr(one, "prepare"):
                    one.prepare()

    def dataset(self, split: str) -> InstructionDataset:
        """Return the items of ``train``, ``val`` or ``test``; opens the split once and logs what it holds."""
        if split not in self._datasets:
            options, training = self.samples, split == "train"
            drawn = options.draw if options.renderer is not None else "never"
            samples = Mixture(
                self.sources[split],
                self.batches.weights if training else None,
                self.paths,
                self.contract,
                draw=drawn,
                unreadable=options.unreadable,
            )
            self._datasets[split] = self.kind(
                samples,
                self.processor,
                renderer=options.renderer,
                draw=drawn,
                contract=self.contract,
                max_length=self.max_length,
                seed=self.seed,
                question=options.question if training else None,
                unreadable=options.unreadable,
                modalities=options.modalities if training else None,
                long_samples=options.long_samples,
                targets=options.targets if training else None,
            )
            long = settle_long_samples(self._datasets[split])
            if self.share[0] == 0:
                logger.info("%s: %s; %s", split, samples.report(), long)
        return self._datasets[split]

    def refuse_too_few(self, ranks: int) -> None:
        """Refuse a split of less than one step, before a network is built or packs are computed.

        A pack takes one sample at least, so this bound holds for packed rows too.

        Raises:
            DataError: There are fewer training samples than one batch of all ``ranks`` takes.
        """
        samples = self.dataset("train").samples
        options: dict[str, Any] = {"drop_last": True, "ranks": ranks, "order": samples.order(self.seed)}
        LengthBatchSampler(samples.lengths, self.batch_size, **options)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return shuffled batches of samples of similar length, or of packs; resumes after a checkpoint's last step."""
        dataset = self.dataset("train")
        rank, ranks = self.share
        options: dict[str, Any] = {
            "seed": self.seed,
            "drop_last": True,
            "window": self.batches.length_window,
            "order": dataset.samples.order(self.seed),
            "rank": rank,
            "ranks": ranks,
        }
        sampler: StepSampler | PackStepSampler
        collate = self.collator()
        if self.batches.pack_to is None:
            sampler = StepSampler(dataset.samples.lengths, self.batch_size, **options)
        else:
            lengths = token_lengths(dataset, self.batches.cache)
            sampler = PackStepSampler(lengths, self.batch_size, self.batches.pack_to, **options)
            collate = PackingCollator(self.processor, self.batches.pack_to)
        sampler.data = self
        logger.info("training on %d samples, %d batches an epoch", len(sampler.order), len(sampler))
        return self.loader(dataset, sampler, collate, self.num_workers)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return validation batches in file order."""
        return self._plain_loader("val")

    def test_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return test batches in file order."""
        return self._plain_loader("test")

    def collator(self) -> Any:
        """Return what makes a batch of items."""
        return GemCollator(self.processor)

    def examples(self, count: int) -> list[dict[str, Any]]:
        """Return the first validation samples as ``id, sample, record, image, question, answer``, for display."""
        if self.sources["val"] is None:
            return []
        dataset = self.dataset("val")
        return [dataset.example(i) for i in range(min(count, len(dataset)))]

    def _plain_loader(self, split: str) -> DataLoader[Any] | list[Any]:
        if self.sources[split] is None:
            return []
        dataset = self.dataset(split)
        rank, ranks = self.share
        sampler = LengthBatchSampler(dataset.samples.lengths, self.batch_size, shuffle=False, rank=rank, ranks=ranks)
        return self.loader(dataset, sampler, self.collator(), self.num_workers)
