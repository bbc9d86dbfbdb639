"""Benchmarks, LLM judges and statistics."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gem_lightning.evaluation import ecgbench, statistics
    from gem_lightning.evaluation.llm_judge import grounding, report

__all__ = ["ecgbench", "grounding", "report", "statistics"]


def __getattr__(name: str) -> Any:
    # Lazy, so that the subpackages can import modules of this package without a cycle.
    if name in ("grounding", "report"):
        return import_module(f"gem_lightning.evaluation.llm_judge.{name}")
    if name in ("ecgbench", "statistics"):
        return import_module(f"gem_lightning.evaluation.{name}")
    from gem_lightning.renamed import resolve

    return resolve(__name__, name)
