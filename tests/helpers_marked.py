"""Marked records without any file: simulated patients whose marks are exact, two of them fibrillating."""

from functools import cache

import numpy as np

from gem_lightning.ecg import simulate
from gem_lightning.ecg.recombination import MarkedRecord

KINDS = ("sinus", "sinus", "rbbb", "pvc", "atrial_fibrillation", "atrial_fibrillation")


def marked(made, patient, af):
    return MarkedRecord(
        made.record, made.global_marks, made.beat_class, patient, af, origin="simulator", licence="ours"
    )


@cache
def donors():
    made = [simulate(kind, seed=i, snr_db=30) for i, kind in enumerate(KINDS)]
    return tuple(marked(m, f"patient {i}", KINDS[i] == "atrial_fibrillation") for i, m in enumerate(made))


def logits_of(waves):
    """Dense labels (3, bins) as logits that decode to them."""
    return np.log((waves + 1e-6) / (1 - waves + 1e-6))
