"""Real beats cut apart and put together again: endless ECGs whose marks and values are known exactly."""

from gem_lightning.ecg.recombination.marked import MarkedRecord
from gem_lightning.ecg.recombination.recombine import RecombinedBeats, RecombinedEcg
from gem_lightning.ecg.recombination.values import QUANTITIES, true_values

__all__ = ["QUANTITIES", "MarkedRecord", "RecombinedBeats", "RecombinedEcg", "true_values"]
