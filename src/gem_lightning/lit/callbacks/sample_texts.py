"""Callback that generates answers at each validation and verifies them against the signals."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from gem_lightning.claims.verify import verify
from gem_lightning.evaluation.metrics import ClaimMetric
from gem_lightning.evaluation.text import read_text
from gem_lightning.jobs import write_atomically
from gem_lightning.models.inference.generation import generate_texts

_LOGGED = ("precision", "hallucination_rate", "coverage", "claims_per_text")


class SampleTexts(Callback):
    """Generates answers to validation samples at each validation and scores their claims without an LLM judge.

    Logged as ``val/claims/...``: precision, hallucination rate, coverage and claims a text against the signals' own
    measurements, and the F1 of stated findings against those of the reference texts. The first answers are
    shown with their images in the logger and in a page of the run's folder.

    Args:
        count: Validation samples to answer.
        shown: Of these, how many to show.
        max_new_tokens: Longest answer.
        folder: For the pages ``step-N.html``; None writes none.
    """

    def __init__(
        self, count: int = 16, shown: int = 4, max_new_tokens: int = 96, folder: str | os.PathLike[str] | None = None
    ) -> None:
        self.count, self.shown, self.max_new_tokens = count, shown, max_new_tokens
        self.folder = None if folder is None else Path(folder)

    @torch.no_grad()
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Generate on every process, because sharded weights are gathered by all; the first one writes."""
        if trainer.sanity_checking:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        examples = data.examples(self.count)
        if not examples:
            return
        texts = generate_texts(pl_module.net, data.processor, examples, max_new_tokens=self.max_new_tokens)
        features = [_measured(example) for example in examples]
        metrics = text_metrics(texts, [example["answer"] for example in examples], features)
        logged = {f"val/claims/{name}": value for name, value in metrics.items()}
        pl_module.log_dict(logged, batch_size=1, sync_dist=trainer.world_size > 1)
        if trainer.is_global_zero:
            rows = list(zip(examples, texts, features))[: self.shown]
            _show(trainer, rows)
            if self.folder is not None:
                self.folder.mkdir(parents=True, exist_ok=True)
                page = _page(trainer.global_step, metrics, rows)
                write_atomically(self.folder / f"step-{trainer.global_step:06d}.html", page.encode())


def text_metrics(texts: Sequence[str], references: Sequence[str], features: Sequence[Any]) -> dict[str, float]:
    """Score texts: claims against measurements, findings against the references' findings.

    Args:
        texts: As generated.
        references: Reference answers.
        features: ``EcgFeatures`` of each signal; None where there is no signal.

    Returns:
        ``precision``, ``hallucination_rate``, ``coverage`` and ``claims_per_text`` (those that are defined), and
        ``finding_f1`` (micro; 0 where findings are due and none is stated).
    """
    pairs = [(text, measured) for text, measured in zip(texts, features, strict=True) if measured is not None]
    metric = ClaimMetric()
    metric.update([text for text, _ in pairs], [measured for _, measured in pairs])
    metrics = {name: float(value) for name, value in metric.compute().items() if name in _LOGGED}
    stated, expected = ([set(read_text(text).findings) for text in some] for some in (texts, references))
    right = sum(len(one & other) for one, other in zip(stated, expected, strict=True))
    total = sum(map(len, stated)) + sum(map(len, expected))
    if total:
        metrics["finding_f1"] = 2 * right / total
    return {name: value for name, value in metrics.items() if value == value}


def _measured(example: dict[str, Any]) -> Any:
    if example["record"] is None:
        return None
    from gem_lightning.features import measure

    return measure(example["record"])


def _show(trainer: Trainer, rows: Sequence[tuple[dict[str, Any], str, Any]]) -> None:
    """Log to every logger that takes texts and images."""
    for log in trainer.loggers:
        board: Any = getattr(log, "experiment", None)
        for example, text, _ in rows:
            if hasattr(board, "add_text"):
                shown = f"**generated** {text}\n\n**reference** {example['answer']}"
                board.add_text(f"val/{example['id']}", shown, trainer.global_step)
            if hasattr(board, "add_image") and example.get("image") is not None:
                board.add_image(f"val/{example['id']}", example["image"], trainer.global_step, dataformats="HWC")


def _page(step: int, metrics: dict[str, float], rows: Sequence[tuple[dict[str, Any], str, Any]]) -> str:
    from gem_lightning.reporting.evaluation import Case, EvaluationReport

    cases = [
        Case(
            example["id"],
            text,
            example.get("image"),
            marked=None if measured is None else verify(text, measured).to_html(),
            note=f"Reference: {example['answer']}",
        )
        for example, text, measured in rows
    ]
    summary = [(name.replace("_", " "), f"{value:.2f}") for name, value in metrics.items()]
    return EvaluationReport(f"Validation samples at step {step}", summary=summary, cases=cases).to_html()
