"""Pairs of ECG and text for pre-training an encoder: read, augmented and tokenised, in an order that can go on."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from gem_lightning.data.ecg_text.augment import Augmentation
from gem_lightning.data.ecg_text.collate import EcgTextCollator, encode_texts, tokenizer_for
from gem_lightning.data.ecg_text.dataset import EcgTextDataset, EcgTextTable, open_pairs
from gem_lightning.data.ecg_text.labels import LabelSet, label_set
from gem_lightning.lit.data.resumable import ResumableDataModule, StepSampler

logger = logging.getLogger(__name__)


class EcgTextDataModule(ResumableDataModule):
    """Training and validation pairs of an encoder.

    Args:
        train: What ``open_pairs`` reads: a table, a folder of PTB-XL or MIMIC-IV-ECG, a source, a simulated cohort.
        val: The same; None takes the ``val`` split of ``train`` (and ``train`` keeps its own).
        task: Label set of the validation (see ``label_set``); None validates without labels.
        labels: Own label names for the task, of those that occur; None takes all.
        prompts: Own prompts of some labels.
        tokenizer: Folder or hub id; None learns a vocabulary of ``vocab_size`` from the training texts.
        tokenizer_folder: Where a learned tokenizer is kept for later runs of the same experiment.
        vocab_size: Largest learned vocabulary.
        augment: Called as ``augment(ecg, rng)`` on training batches, on the device; None changes nothing.
        columns: Field to column name of tables.
        batch_size: Pairs a step and process.
        max_length: Longest text, tokens.
        keep_sentences: Share of a training text's sentences that are shown at a time (see ``EcgTextCollator``).
        num_workers: Loader processes.
        seed: Of order and augmentation.
        signal: Further arguments of ``EcgTextDataset``: ``samples``, ``fs``, ``contract``, ``mean``, ``std``.
    """

    def __init__(
        self,
        train: Any,
        val: Any = None,
        task: str | None = None,
        labels: Sequence[str] | None = None,
        prompts: Mapping[str, Sequence[str]] | None = None,
        tokenizer: str | None = None,
        tokenizer_folder: str | os.PathLike = "text_tower",
        vocab_size: int = 2048,
        augment: Augmentation | None = None,
        columns: Mapping[str, str] | None = None,
        batch_size: int = 64,
        max_length: int = 77,
        keep_sentences: float = 1.0,
        num_workers: int = 0,
        seed: int = 0,
        signal: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.sources = {"train": train, "val": val}
        self.task, self.label_names, self.own_prompts = task, labels, prompts
        self.tokenizer_source, self.tokenizer_folder, self.vocab_size = tokenizer, tokenizer_folder, vocab_size
        self.augment, self.columns, self.seed = augment, columns, seed
        self.batch_size, self.max_length, self.num_workers = batch_size, max_length, num_workers
        self.keep_sentences = keep_sentences
        self.signal = dict(signal or {})
        self.tokenizer: Any = None
        self.tables: dict[str, EcgTextTable] = {}
        self.label_set: LabelSet | None = None

    def prepare_data(self) -> None:
        """Simulate what does not exist yet and learn the vocabulary."""
        for source in self.sources.values():
            if hasattr(source, "prepare"):
                source.prepare()
        self.setup("fit")

    def setup(self, stage: str) -> None:
        """Open the tables, the tokenizer and the label set, once."""
        if self.tables:
            return
        own = self.sources["val"] is not None
        self.tables["train"] = open_pairs(self.sources["train"], None if own else "train", self.columns)
        held_out = self.sources["val" if own else "train"]
        self.tables["val"] = open_pairs(held_out, None if own else "val", self.columns)
        texts = self.tables["train"].column("text")
        self.tokenizer = tokenizer_for(self.tokenizer_source, texts, self.vocab_size, self.tokenizer_folder)
        if self.task is not None:
            codes = self.tables["val"].column("codes")
            folder = self.sources["train"] if isinstance(self.sources["train"], (str, os.PathLike)) else None
            found = label_set(self.task, folder, codes, self.own_prompts)
            names = tuple(self.label_names or found.labels)
            self.label_set = LabelSet(found.name, names, found.prompts, found.codes)

    def prompts(self) -> dict[str, torch.Tensor] | None:
        """Prompts of the label set as ``input_ids`` (P, L) and ``owner`` (P,); None without labels."""
        if self.label_set is None:
            return None
        texts = [(i, text) for i, name in enumerate(self.label_set.labels) for text in self.label_set.prompts[name]]
        ids = encode_texts(self.tokenizer, [text for _, text in texts], self.max_length)["input_ids"]
        return {"input_ids": ids, "owner": torch.tensor([i for i, _ in texts])}

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches; goes on where a checkpoint stopped."""
        sampler = self._sampler_of("train", shuffle=True)
        sampler.data = self
        logger.info("training on %d pairs, %d batches an epoch", len(self.tables["train"]), len(sampler))
        return self._loader("train", sampler)

    def val_dataloader(self) -> DataLoader[Any]:
        """Held-out pairs in their order."""
        return self._loader("val", self._sampler_of("val", shuffle=False))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augment training batches where they lie; the draws depend on seed, epoch and the batch's own records."""
        if self.augment is None or self.trainer is None or not self.trainer.training:
            return batch
        key = [self.seed, int(batch["epoch"][0]), *batch["index"].tolist()]
        return {**batch, "ecg_values": self.augment(batch["ecg_values"], np.random.default_rng(key))}

    def _sampler_of(self, split: str, shuffle: bool) -> StepSampler:
        # equal lengths: contrastive batches must not be sorted by what the texts say
        lengths = np.ones(len(self.tables[split]), dtype=np.int64)
        rank, ranks = self.share
        return StepSampler(
            lengths, self.batch_size, shuffle=shuffle, seed=self.seed, drop_last=shuffle, rank=rank, ranks=ranks
        )

    def _loader(self, split: str, sampler: StepSampler) -> DataLoader[Any]:
        keep = self.keep_sentences if split == "train" else 1.0
        dataset = EcgTextDataset(self.tables[split], label_set=self.label_set, **self.signal)
        collate = EcgTextCollator(self.tokenizer, self.max_length, keep, self.seed)
        return self.loader(dataset, sampler, collate, self.num_workers)
