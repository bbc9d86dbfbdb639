"""Instruction samples for training: read, drawn and tokenised in the loader, in an order that survives a restart."""

from __future__ import annotations

import logging
from collections.abc import Mapping
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

logger = logging.getLogger(__name__)


class InstructionDataModule(ResumableDataModule):
    """Training, validation and test samples of a GEM; the order is the same for any number of loader processes.

    Args:
        processor: A ``GemProcessor``.
        train: Samples to learn from: a file (.json, .jsonl, .parquet), a folder or address of shards, an object with
            ``prepare()`` and ``samples()`` such as :class:`gem_lightning.data.SimulatedCohort`, or name → such a
            source for several.
        val: Held-out samples, or None.
        test: Samples for ``evaluate``, or None.
        renderer: Draws each record (an ``EcgRenderer``); None uses stored pictures only.
        paths: Leading folders in the samples to folders here.
        weights: Name of a training source → passes that an epoch makes through it; 1 where not named.
        question: Other words for the first question of training samples (:class:`QuestionTemplates`); None keeps them.
        unreadable: What a sample does whose record or picture is missing or broken: ``stop`` the run, or ``skip``.
        contract: Signal contract of :func:`gem_lightning.ecg.read_ecg`.
        batch_size: Samples a step and process.
        max_length: Longest sample, tokens.
        long_samples: Longer ones: ``cut`` off their end, ``skip`` them, or ``stop`` the run; how many there are is said
            at the start and logged.
        length_window: Batches whose samples are sorted by length together. 1 sorts nothing: right where the length of
            an answer tells its diagnosis, since batches of one diagnosis teach little.
        pack_to: Tokens of a row that holds several training samples; a batch then has ``batch_size`` such rows. None
            pads samples of similar length instead.
        cache: Folder that keeps the samples' exact lengths, which packing counts at the start.
        modalities: Leaves modalities of training samples out (:class:`ModalityDropout`); None keeps them.
        num_workers: Loader processes.
        seed: Of order, pictures, questions and modalities.
    """

    def __init__(
        self,
        processor: Any,
        train: Any,
        val: Any = None,
        test: Any = None,
        renderer: Any = None,
        paths: Mapping[str, str] | None = None,
        weights: Mapping[str, float] | None = None,
        question: Any = None,
        unreadable: str = "stop",
        contract: str = "clean",
        batch_size: int = 16,
        max_length: int | None = 4096,
        long_samples: str = "cut",
        length_window: int = 50,
        pack_to: int | None = None,
        cache: str | None = None,
        modalities: ModalityDropout | None = None,
        num_workers: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.processor = processor
        self.sources = {"train": train, "val": val, "test": test}
        self.dataset_options = {
            "renderer": renderer,
            "contract": contract,
            "max_length": max_length,
            "long_samples": long_samples,
            "unreadable": unreadable,
            "seed": seed,
        }
        self.paths, self.weights, self.question = paths, weights, question
        self.batch_size, self.length_window = batch_size, length_window
        self.pack_to, self.cache, self.modalities = pack_to, cache, modalities
        self.num_workers, self.seed = num_workers, seed
        self._datasets: dict[str, InstructionDataset] = {}

    def prepare_data(self) -> None:
        """Make what does not exist yet, for example a simulated cohort."""
        for source in self.sources.values():
            for one in source.values() if isinstance(source, Mapping) else (source,):
                if hasattr(one, "prepare"):
                    one.prepare()

    def dataset(self, split: str) -> InstructionDataset:
        """The samples of ``train``, ``val`` or ``test``, ready for the network; says once what was found."""
        if split not in self._datasets:
            options = self.dataset_options
            samples = Mixture(
                self.sources[split],
                self.weights if split == "train" else None,
                self.paths,
                options["contract"],
                drawn=options["renderer"] is not None,
                unreadable=options["unreadable"],
            )
            learning = {"question": self.question, "modalities": self.modalities} if split == "train" else {}
            self._datasets[split] = InstructionDataset(samples, self.processor, **learning, **options)
            long = settle_long_samples(self._datasets[split])
            if self.share[0] == 0:
                logger.info("%s: %s; %s", split, samples.report(), long)
        return self._datasets[split]

    def refuse_too_few(self, ranks: int) -> None:
        """Known before a network is built or a pack is made: a pack takes one sample at least.

        Raises:
            DataError: There are fewer training samples than one batch of all ``ranks`` takes.
        """
        samples = self.dataset("train").samples
        options: dict[str, Any] = {"drop_last": True, "ranks": ranks, "order": samples.order(self.seed)}
        LengthBatchSampler(samples.lengths, self.batch_size, **options)

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches of samples of similar length, or of packs; goes on where a checkpoint stopped."""
        dataset = self.dataset("train")
        rank, ranks = self.share
        options: dict[str, Any] = {
            "seed": self.seed,
            "drop_last": True,
            "window": self.length_window,
            "order": dataset.samples.order(self.seed),
            "rank": rank,
            "ranks": ranks,
        }
        sampler: StepSampler | PackStepSampler
        collate = GemCollator(self.processor)
        if self.pack_to is None:
            sampler = StepSampler(dataset.samples.lengths, self.batch_size, **options)
        else:
            lengths = token_lengths(dataset, self.cache)
            sampler = PackStepSampler(lengths, self.batch_size, self.pack_to, **options)
            collate = PackingCollator(self.processor, self.pack_to)
        sampler.data = self
        logger.info("training on %d samples, %d batches an epoch", len(sampler.order), len(sampler))
        return self.loader(dataset, sampler, collate, self.num_workers)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Held-out batches in file order."""
        return self._plain_loader("val")

    def test_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Test batches in file order."""
        return self._plain_loader("test")

    def examples(self, count: int) -> list[dict[str, Any]]:
        """The first held-out samples as ``id, sample, record, image, answer``, for people to look at."""
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
        return self.loader(dataset, sampler, GemCollator(self.processor), self.num_workers)
