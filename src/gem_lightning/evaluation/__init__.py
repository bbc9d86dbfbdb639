"""Benchmarks, judges and statistics: how good a model's words about ECGs are, and how sure that is."""

from gem_lightning.evaluation import ecgbench, grounding, report, statistics

__all__ = ["ecgbench", "grounding", "report", "statistics"]
