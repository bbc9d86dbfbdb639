"""DataModule of ECG and text pairs for encoder pre-training, in a resumable order."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from gem_lightning.data.ecg_text.augment import Augmentation
from gem_lightning.data.ecg_text.collate import EcgTextCollator, encode_texts, tokenizer_for
from gem_lightning.data.ecg_text.dataset import EcgTextDataset, EcgTextTable, open_pairs
from gem_lightning.data.ecg_text.labels import LabelSet, label_set
from gem_lightning.errors import DataError
from gem_lightning.lit.data.resumable import ResumableDataModule, StepSampler

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextOptions:
    """How texts are tokenised.

    Attributes:
        tokenizer: Folder or hub id; None learns a vocabulary of ``vocab_size`` from the training texts.
        tokenizer_folder: Where a learned tokenizer is kept for later runs of the same experiment.
        vocab_size: Largest learned vocabulary.
        max_length: Longest text, tokens.
        keep_sentences: Share of a training text's sentences that one epoch shows (see ``EcgTextCollator``).
    """

    tokenizer: str | None = None
    tokenizer_folder: str | os.PathLike = "text_tower"
    vocab_size: int = 2048
    max_length: int = 77  # the context of CLIP's and CoCa's text towers
    keep_sentences: float = 1.0


@dataclass(frozen=True)
class TableOptions:
    """What is read from the tables.

    Attributes:
        columns: Field to column name of tables whose columns have other names.
        labels: Label names of the task to use, of those that occur; None uses all.
        prompts: Prompts that replace those of some labels.
    """

    columns: Mapping[str, str] | None = None
    labels: Sequence[str] | None = None
    prompts: Mapping[str, Sequence[str]] | None = None


@dataclass(frozen=True)
class SignalOptions:
    """How signals are read and augmented.

    Attributes:
        samples: Samples per lead.
        fs: Sampling rate, Hz.
        contract: Signal contract of :func:`gem_lightning.ecg.read_ecg`.
        mean: Subtracted from the signal, per lead, mV; None subtracts nothing.
        std: Divides the signal, per lead, mV; None divides by nothing.
        augment: Called as ``augment(ecg, rng)`` on training batches, on the device; None changes nothing.
    """

    samples: int = 5000
    fs: float = 500.0
    contract: str = "clean"
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    augment: Augmentation | None = None


class EcgTextDataModule(ResumableDataModule):
    """Training, validation and test pairs of an encoder.

    Args:
        train: What ``open_pairs`` reads: a table, a folder of PTB-XL or MIMIC-IV-ECG, a source, a simulated cohort.
        val: The same; None takes the ``val`` split of ``train``.
        test: The same; None takes the ``test`` split of ``train`` where ``val`` is None too.
        task: Label set of the validation (see ``label_set``); None validates without labels.
        table: Columns, labels and prompts.
        text: How texts are tokenised.
        signal: How signals are read and augmented.
        batch_size: Pairs per step and process.
        num_workers: Loader processes.
        seed: Of order and augmentation.
    """

    def __init__(
        self,
        train: Any,
        val: Any = None,
        test: Any = None,
        task: str | None = None,
        table: TableOptions | None = None,
        text: TextOptions | None = None,
        signal: SignalOptions | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.sources = {"train": train, "val": val, "test": test}
        self.task, self.table = task, table or TableOptions()
        self.text, self.signal = text or TextOptions(), signal or SignalOptions()
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.tokenizer: Any = None
        self.tables: dict[str, EcgTextTable] = {}
        self.label_set: LabelSet | None = None

    def prepare_data(self) -> None:
        """Simulate missing cohorts and learn the vocabulary."""
        for source in self.sources.values():
            if hasattr(source, "prepare"):
                source.prepare()
        self.setup("fit")

    def setup(self, stage: str) -> None:
        """Open the tables, the tokenizer and the label set, once.

        Raises:
            DataError: There are no test pairs, at ``stage="test"``.
        """
        if not self.tables:
            self.tables = {"train": self._table("train"), "val": self._table("val")}
            text, texts = self.text, self.tables["train"].column("text")
            self.tokenizer = tokenizer_for(text.tokenizer, texts, text.vocab_size, text.tokenizer_folder)
            self.label_set = self._label_set()
        if stage == "test" and "test" not in self.tables:
            if self.sources["test"] is None and self.sources["val"] is not None:
                raise DataError("expected test pairs, got data.test=null; name a table, or omit data.val and data.test")
            self.tables["test"] = self._table("test")

    def _table(self, split: str) -> EcgTextTable:
        """Open the source of a split; one that is null is a split of the training data."""
        own = self.sources[split] is not None and (split != "train" or self.sources["val"] is not None)
        source = self.sources["train"] if self.sources[split] is None else self.sources[split]
        return open_pairs(source, None if own else split, self.table.columns)

    def _label_set(self) -> LabelSet | None:
        if self.task is None:
            return None
        codes = self.tables["val"].column("codes")
        folder = self.sources["train"] if isinstance(self.sources["train"], (str, os.PathLike)) else None
        found = label_set(self.task, folder, codes, self.table.prompts)
        return LabelSet(found.name, tuple(self.table.labels or found.labels), found.prompts, found.codes)

    def prompts(self) -> dict[str, torch.Tensor] | None:
        """Return the prompts of the label set as ``input_ids`` (P, L) and ``owner`` (P,); None without labels."""
        if self.label_set is None:
            return None
        texts = [(i, text) for i, name in enumerate(self.label_set.labels) for text in self.label_set.prompts[name]]
        ids = encode_texts(self.tokenizer, [text for _, text in texts], self.text.max_length)["input_ids"]
        return {"input_ids": ids, "owner": torch.tensor([i for i, _ in texts])}

    def train_dataloader(self) -> DataLoader[Any]:
        """Return shuffled batches; resumes after a checkpoint's last step."""
        sampler = self._sampler_of("train", shuffle=True)
        sampler.data = self
        logger.info("training on %d pairs, %d batches an epoch", len(self.tables["train"]), len(sampler))
        return self._loader("train", sampler)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return validation pairs in their order."""
        return self._loader("val", self._sampler_of("val", shuffle=False))

    def test_dataloader(self) -> DataLoader[Any]:
        """Return test pairs in their order."""
        return self._loader("test", self._sampler_of("test", shuffle=False))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augment training batches on their device; the draws depend on seed, epoch and the batch's own records."""
        augment = self.signal.augment
        if augment is None or self.trainer is None or not self.trainer.training:
            return batch
        key = [self.seed, int(batch["epoch"][0]), *batch["index"].tolist()]
        return {**batch, "ecg_values": augment(batch["ecg_values"], np.random.default_rng(key))}

    def _sampler_of(self, split: str, shuffle: bool) -> StepSampler:
        # equal lengths: contrastive batches must not be sorted by text length
        lengths = np.ones(len(self.tables[split]), dtype=np.int64)
        rank, ranks = self.share
        return StepSampler(
            lengths, self.batch_size, shuffle=shuffle, seed=self.seed, drop_last=shuffle, rank=rank, ranks=ranks
        )

    def _loader(self, split: str, sampler: StepSampler) -> DataLoader[Any]:
        signal = {name: value for name, value in vars(self.signal).items() if name != "augment"}
        dataset = EcgTextDataset(self.tables[split], label_set=self.label_set, **signal)
        keep = self.text.keep_sentences if split == "train" else 1.0
        collate = EcgTextCollator(self.tokenizer, self.text.max_length, keep, self.seed)
        return self.loader(dataset, sampler, collate, self.num_workers)
