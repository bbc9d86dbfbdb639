"""One ECG as the array that the ECG tower reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from gem_lightning.ecg.preprocess import clean, fit_length
from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import DataError


def signal_values(ecg: Any, samples: int = 5000, sampling_rate: float = 500.0, contract: str = "clean") -> np.ndarray:
    """Signal of fixed length, without NaN.

    Args:
        ecg: An :class:`EcgRecord`, or an array (leads, T) in standard lead order at ``sampling_rate``, mV.
        samples: Samples per lead of the result; shorter signals end in zeros, longer ones are cut.
        sampling_rate: Of the result, Hz.
        contract: ``clean`` orders a record's leads by name and resamples it; ``gem`` takes rows and rate as they come.

    Returns:
        float32 (leads, samples), mV.

    Raises:
        DataError: Not a signal of leads and samples.
    """
    if isinstance(ecg, EcgRecord):
        signal = (clean(ecg, sampling_rate) if contract == "clean" else ecg).signal
    else:
        signal = np.asarray(ecg, dtype=np.float32)
    if signal.ndim != 2 or 0 in signal.shape:
        raise DataError(f"expected an ECG of shape (leads, samples), got {signal.shape}; pass one record at a time")
    return fit_length(signal, samples)
