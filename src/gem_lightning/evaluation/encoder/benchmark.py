"""Encoder benchmark: zero-shot and probe scores on labelled 12-lead data sets, intervals by patient, embeddings."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gem_lightning.data.ecg_text.collate import encode_texts, load_tokenizer
from gem_lightning.data.ecg_text.dataset import EcgTextDataset, EcgTextTable, open_pairs
from gem_lightning.data.ecg_text.labels import LabelSet, label_set
from gem_lightning.errors import DataError
from gem_lightning.evaluation.base import Progress, Result
from gem_lightning.evaluation.encoder.metrics import class_embeddings
from gem_lightning.evaluation.encoder.probe import choose_strength, few_shot, fit_probe
from gem_lightning.evaluation.statistics import bootstrap_weights, macro_auc, weighted_auc
from gem_lightning.reporting.evaluation import EvaluationReport, number
from gem_lightning.reporting.html import Table

logger = logging.getLogger(__name__)
METHODS = {"zero_shot": "Zero-shot, from prompts", "linear_probe": "Linear probe"}


@dataclass(frozen=True)
class EncoderUnderTest:
    """An encoder in evaluation mode.

    Attributes:
        name: For reports.
        network: An ``EcgCoCa``, or a tower with ``pool``.
        tokenizer: Of its text tower; None leaves zero-shot out.
    """

    name: str
    network: nn.Module
    tokenizer: Any = None


@dataclass
class EncoderBenchmark:
    """Zero-shot, linear and few-shot scores of an encoder on one labelled data set.

        EncoderBenchmark(data="/data/ptb-xl", task="ptbxl_super")("outputs/ecg_coca_pretrain/model", out="outputs/e")

    Args:
        data: What ``open_pairs`` reads: a table, a folder of PTB-XL, a source, a simulated cohort.
        task: Label set, see ``label_set``.
        train: Data to fit probes on where ``data`` is the test set alone, for example another simulated cohort.
        config: A checkpoint's configuration; None takes the folder's or the published one.
        text_tower: Folder of the text tower's configuration and tokenizer; None takes the model folder's.
        labels: Names of the task's labels to keep; None keeps all.
        prompts: Own prompts of some labels.
        shots: Numbers of examples a class for few-shot probes.
        draws: Resamples of patients for intervals.
        batch_size: Records a forward pass.
        num_workers: Loader processes.
        device: Where the encoder runs; None takes CUDA where there is one.
        seed: Of few-shot draws and resamples.
        signal: Further arguments of ``EcgTextDataset``.
    """

    data: Any
    task: str
    train: Any = None
    config: Any = None
    text_tower: str | None = None
    labels: Sequence[str] | None = None
    prompts: Mapping[str, Sequence[str]] | None = None
    shots: Sequence[int] = (1, 10)
    draws: int = 1000
    batch_size: int = 64
    num_workers: int = 0
    device: str | None = None
    seed: int = 0
    signal: Mapping[str, Any] | None = None

    def load(self, model: Any, name: str | None = None) -> EncoderUnderTest:
        """Load the encoder of a pre-training folder or of a checkpoint in the original's layout, or wrap a module."""
        if isinstance(model, EncoderUnderTest):
            return model
        network, tokenizer = load_encoder(model, self.config, self.text_tower)
        known = type(model).__name__ if isinstance(model, nn.Module) else Path(model).name
        return EncoderUnderTest(name or known, network, tokenizer)

    def __call__(self, model: Any, out: str | os.PathLike | None = None, progress: Progress | None = None) -> Result:
        """Embed, score and report; writes ``embeddings.parquet`` to ``out``.

        Args:
            model: As for :meth:`load`.
            out: Folder; None writes nothing.
            progress: Called with the numbers of records done and in total.
        """
        encoder = self.load(model)
        device = torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        network = encoder.network.to(device)
        parts = self._tables()
        labels = self._labels(parts)
        total, done = sum(map(len, parts.values())), 0
        found: dict[str, dict[str, Any]] = {}
        for name, table in parts.items():
            features = embed(network, table, device, self.batch_size, self.num_workers, self.signal)
            found[name] = {"features": features, "targets": labels.matrix(table.column("codes")), "table": table}
            done += len(table)
            if progress is not None:
                progress(done, total)
        metrics: dict[str, Any] = {"task": labels.name, "records": {name: len(table) for name, table in parts.items()}}
        if encoder.tokenizer is not None:
            metrics["zero_shot"] = self._zero_shot(network, encoder.tokenizer, labels, found["test"], device)
        if "train" in found:
            metrics |= self._probes(found, labels)
        if out is not None:
            Path(out).mkdir(parents=True, exist_ok=True)
            write_embeddings(Path(out) / "embeddings.parquet", found)
        groups = dict(zip(parts["test"].column("id"), parts["test"].column("patient")))
        return Result("encoder", encoder.name, metrics, encoder_report(encoder.name, metrics), groups=groups)

    def _tables(self) -> dict[str, EcgTextTable]:
        """Return the available splits; the test split is scored."""
        if self.train is not None:
            own = open_pairs(self.train, need_text=False)
            val = own[: max(1, len(own) // 10)]
            return {
                "train": own[len(val) :],
                "val": val,
                "test": open_pairs(self.data, need_text=False),
            }
        whole = open_pairs(self.data, need_text=False)
        names = set(whole.column("split"))
        if "test" not in names:
            return {"test": whole}
        return {name: whole.split(name) for name in ("train", "val", "test") if name in names}

    def _labels(self, parts: Mapping[str, EcgTextTable]) -> LabelSet:
        folder = self.data if isinstance(self.data, (str, os.PathLike)) else getattr(self.data, "root", None)
        found = label_set(self.task, folder, parts["test"].column("codes"), self.prompts)
        wanted = tuple(self.labels or found.labels)
        unknown = [name for name in wanted if name not in found.labels]
        if unknown:
            raise DataError(f"expected labels of {self.task}: {', '.join(found.labels)}, got {', '.join(unknown)}")
        return LabelSet(found.name, wanted, found.prompts, found.codes)

    @torch.inference_mode()
    def _zero_shot(
        self, network: Any, tokenizer: Any, labels: LabelSet, test: Mapping[str, Any], device: torch.device
    ) -> dict[str, Any]:
        texts = [(i, text) for i, name in enumerate(labels.labels) for text in labels.prompts[name]]
        ids = encode_texts(tokenizer, [text for _, text in texts])["input_ids"].to(device)
        owner = torch.tensor([i for i, _ in texts], device=device)
        classes = class_embeddings(network.encode_text(ids), owner, len(labels.labels))
        ecg = nn.functional.normalize(torch.from_numpy(test["features"]), dim=-1)
        scores = (ecg @ classes.cpu().T).numpy()  # (records, L)
        return self._summary(scores, test, labels)

    def _probes(self, found: Mapping[str, Mapping[str, Any]], labels: LabelSet) -> dict[str, Any]:
        train, test = found["train"], found["test"]
        held_out = found.get("val", train)
        strength = choose_strength(train["features"], train["targets"], held_out["features"], held_out["targets"])
        scores = fit_probe(train["features"], train["targets"], test["features"], strength)
        linear = self._summary(scores, test, labels) | {"strength": strength}
        few = {}
        for shots in self.shots:
            values = few_shot(
                train["features"], train["targets"], test["features"], test["targets"], shots, seed=self.seed
            )
            few[str(shots)] = {"value": float(np.mean(values)), "sd": float(np.std(values))}
        return {"linear_probe": linear, "few_shot": few}

    def _summary(self, scores: np.ndarray, test: Mapping[str, Any], labels: LabelSet) -> dict[str, Any]:
        """Return the macro AUC with its interval, and the AUC of each label with its number of records."""
        targets, patients = test["targets"], test["table"].column("patient")
        [macro] = bootstrap_weights(
            lambda weights: macro_auc(scores, targets, weights), len(scores), patients, self.draws, self.seed
        )
        each = {
            name: {
                "auc": _rounded(weighted_auc(scores[:, i], targets[:, i] > 0)[0]),
                "records": int(targets[:, i].sum()),
            }
            for i, name in enumerate(labels.labels)
        }
        return {name: _rounded(getattr(macro, name)) for name in ("value", "low", "high")} | {"labels": each}


def load_encoder(model: Any, config: Any = None, text_tower: str | None = None) -> tuple[nn.Module, Any]:
    """Load an encoder in evaluation mode and its tokenizer.

    Args:
        model: Folder written by pre-training, a checkpoint in the original's layout, or a module.
        config: The checkpoint's configuration; None takes the folder's or the published one.
        text_tower: Folder of the text tower's configuration and tokenizer; None takes the folder's.

    Returns:
        ``EcgCoCa`` and tokenizer; the tokenizer is None (no zero-shot) where none is found.
    """
    from gem_lightning.models.encoder.coca import EcgCoCa

    if isinstance(model, nn.Module):
        return model.eval(), None if text_tower is None else load_tokenizer(text_tower)
    network = EcgCoCa.from_original(model, config, text_tower)
    packaged = Path(model) / "text_tower"
    place = text_tower or (str(packaged) if (packaged / "tokenizer.json").is_file() else None)
    if place is None:
        logger.warning("no tokenizer in %s/text_tower: no zero-shot; give text_tower=FOLDER", model)
    return network, None if place is None else load_tokenizer(place)


@torch.inference_mode()
def embed(
    network: nn.Module,
    table: EcgTextTable,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    num_workers: int = 0,
    signal: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """Return pooled embeddings (records, D) float32 of all records, computed in bfloat16 on a GPU.

    Args:
        network: An ``EcgCoCa`` or a tower with ``pool``.
        table: The records.
        device: Where the network is.
        batch_size: Records a forward pass.
        num_workers: Loader processes.
        signal: Further arguments of ``EcgTextDataset``.
    """
    tower: Any = getattr(network, "ecg", network)
    device = torch.device(device)
    loader: DataLoader[Any] = DataLoader(
        EcgTextDataset(table, **(signal or {})),
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=_signals,
        multiprocessing_context="spawn" if num_workers else None,
        pin_memory=device.type == "cuda",
    )
    tower.eval()
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        parts = [tower.pool(ecg.to(device, non_blocking=True)).float().cpu() for ecg in loader]
    return torch.cat(parts).numpy()


def write_embeddings(path: str | os.PathLike, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Write Parquet with ``id, patient, split, ecg`` and ``embedding`` (a list of float32) of every record."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = []
    for name, part in found.items():
        table, features = part["table"], np.ascontiguousarray(part["features"], dtype=np.float32)
        values = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])
        columns = {key: pa.array(table.column(key)) for key in ("id", "patient", "ecg")}
        parts.append(pa.table({**columns, "split": pa.array([name] * len(table)), "embedding": values}))
    pq.write_table(pa.concat_tables(parts), path)


def _signals(items: Sequence[Mapping[str, Any]]) -> Tensor:
    return torch.from_numpy(np.stack([item["ecg"] for item in items]))


def _rounded(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


def encoder_report(name: str, metrics: Mapping[str, Any]) -> EvaluationReport:
    """Build the tables of the macro AUC of each method and of every label."""
    methods = [method for method in METHODS if method in metrics]
    head = Table("Macro AUC", ["method", "AUC", "95 % interval by patient"])
    for method in methods:
        found = metrics[method]
        interval = f"{number(found['low'], 3)}–{number(found['high'], 3)}"
        head.rows.append([METHODS[method], number(found["value"], 3), interval])
    for shots, found in metrics.get("few_shot", {}).items():
        spread = f"± {number(found['sd'], 3)} over draws"
        head.rows.append([f"Probe on {shots} with and {shots} without", number(found["value"], 3), spread])
    each = Table("AUC of each label", ["label", "records", *(METHODS[method] for method in methods)])
    for label in metrics[methods[0]]["labels"] if methods else ():
        rows = [metrics[method]["labels"][label] for method in methods]
        each.rows.append([label, str(rows[0]["records"]), *(number(row["auc"], 3) for row in rows)])
    records = ", ".join(f"{count} {split}" for split, count in metrics["records"].items())
    return EvaluationReport(
        title=f"Encoder: {name}",
        subtitle=f"{metrics['task']}; records: {records}",
        summary=[(row[0], row[1]) for row in head.rows],
        tables=[head, each],
        notes=["Intervals come from resampling patients. Labels without both classes in the test set are excluded."],
    )
