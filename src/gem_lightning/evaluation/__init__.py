"""Benchmarks, judges and statistics: how good a model's words about ECGs are, and how sure that is."""

from typing import Any

from gem_lightning.evaluation import ecgbench, statistics
from gem_lightning.evaluation.llm_judge import grounding, report

__all__ = ["ecgbench", "grounding", "report", "statistics"]


def __getattr__(name: str) -> Any:
    from gem_lightning.renamed import resolve

    return resolve(__name__, name)
