"""Neural delineation: the dense encoder's waves as marks, alone or averaged with the native delineation."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from gem_lightning.ecg.leads import complete_limb_leads
from gem_lightning.ecg.preprocess import clean
from gem_lightning.ecg.record import LEADS, EcgRecord
from gem_lightning.features.delineate import delineate
from gem_lightning.features.delineation.backends import average
from gem_lightning.features.delineation.given import with_marks
from gem_lightning.features.delineation.weights import find_weights
from gem_lightning.features.schema import Delineation
from gem_lightning.models.compat.load import SHIPPED
from gem_lightning.models.encoder.dense import DenseEncoder
from gem_lightning.models.encoder.dense_store import load_dense, load_of_tower
from gem_lightning.models.encoder.dense_waves import BIN_S, decode_waves

FS = 500.0  # Hz that the encoder reads
_PACKAGED = SHIPPED / "gem_small"  # its tower holds a dense encoder
_SURE = -20.0  # logit of what lies outside a record: no wave


def delineate_neural(record: EcgRecord, encoder: DenseEncoder | None = None) -> Delineation:
    """Delineate by the dense encoder; see :func:`gem_lightning.features.delineate`.

    Onsets and offsets are the same in all leads. Where the native delineation finds no heartbeat, neither does this:
    its tests of noise and flat lines hold for both. Kinds of beats, trust and atrial activity are the native ones.

    Args:
        record: Standard leads, any number, rate and length; leads that are not there are read as flat lines.
        encoder: None loads the one of the folder that ``GEM_LIGHTNING_DENSE`` names, else that inside ``gem_small``.

    Raises:
        CheckpointError: The folder holds no dense encoder.
    """
    return _with_waves(delineate(record), record, encoder)


def delineate_ensemble(record: EcgRecord, encoder: DenseEncoder | None = None) -> Delineation:
    """Delineate by both, each mark in the middle of the two; arguments as :func:`delineate_neural`."""
    native = delineate(record)
    return average(native, _with_waves(native, record, encoder))


def _with_waves(native: Delineation, record: EcgRecord, encoder: DenseEncoder | None) -> Delineation:
    if not native.beats:
        return native
    logits = read_waves(record, _weights() if encoder is None else encoder)
    marks = decode_waves(logits, record.fs)
    last = record.samples - 1
    return with_marks(native, record, {name: np.clip(column, 0, last) for name, column in marks.items()})


@torch.no_grad()
def read_waves(record: EcgRecord, encoder: DenseEncoder) -> np.ndarray:
    """Return the logits (3, bins) of P, QRS and T in every 20 ms of a record of any length.

    Longer records are read in windows that overlap by half; each bin is the mean over windows, weighed by its distance
    from their ends, where waves are cut.
    """
    signal, names, _ = complete_limb_leads(record.signal, record.leads)
    read = clean(EcgRecord(signal, record.fs, names), FS, leads="any")
    table = np.zeros((len(LEADS), max(read.samples, encoder.samples)), np.float32)
    for name, row in zip(read.leads, np.nan_to_num(read.signal)):
        if name in LEADS:
            table[LEADS.index(name), : read.samples] = row
            table[LEADS.index(name), read.samples :] = row[-1]  # held, so that the end is no edge
    step = round(BIN_S * FS)
    starts = [*range(0, table.shape[1] - encoder.samples, encoder.samples // 2), table.shape[1] - encoder.samples]
    starts = sorted({start - start % step for start in starts})
    windows = np.stack([table[:, start : start + encoder.samples] for start in starts])
    found = torch.cat([encoder.read(part).waves for part in torch.from_numpy(windows).split(16)]).float().numpy()
    bins = encoder.samples // step
    weight = np.minimum(np.arange(1, bins + 1), np.arange(bins, 0, -1)).astype(float)
    total, weights = np.zeros((3, table.shape[1] // step)), np.zeros(table.shape[1] // step)
    for start, logits in zip(starts, found):
        total[:, start // step : start // step + bins] += weight * logits
        weights[start // step : start // step + bins] += weight
    logits = np.where(weights > 0, total / np.maximum(weights, 1e-9), _SURE)
    return logits[:, : max(1, round(record.seconds / BIN_S))]


@lru_cache(maxsize=2)
def _load(folder: Path | None) -> DenseEncoder:
    return load_of_tower(_PACKAGED) if folder is None else load_dense(folder)


def _weights() -> DenseEncoder:
    return _load(find_weights())
