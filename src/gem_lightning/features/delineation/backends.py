"""Delineators other than the native one, by name; networks live in a layer above and are imported when first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import GemError
from gem_lightning.features.delineation.given import same_beats
from gem_lightning.features.delineation.order import in_order
from gem_lightning.features.schema import MARKS, Delineation

Delineator = Callable[[EcgRecord], Delineation]

_SAME_WAVE_S = 0.06  # ends further apart than this are those of different waves, such as T and U; ours

_HOMES = {
    "neurokit2": ("gem_lightning.features.delineation.neurokit", "delineate_neurokit"),
    "neural": ("gem_lightning.models.encoder.dense_delineator", "delineate_neural"),
    "ensemble": ("gem_lightning.models.encoder.dense_delineator", "delineate_ensemble"),
}


def delineator(name: str) -> Delineator:
    """Return the delineator of a name.

    Raises:
        GemError: There is none of this name.
    """
    if name not in _HOMES:
        raise GemError(f"expected backend 'native', {', '.join(map(repr, _HOMES))}, got {name!r}")
    module, function = _HOMES[name]
    return getattr(importlib.import_module(module), function)


def average(native: Delineation, other: Delineation) -> Delineation:
    """Return the waves of ``native``, each onset and offset moved to the middle of the two where both have it.

    Which waves there are remains the native delineation's word, which tests a whole record for noise and P waves.
    """
    if not native.beats or not other.beats:
        return native
    partner = same_beats(native.global_marks["R"], other.global_marks["R"], native.fs)  # (beats,), -1 where none
    whole, leads = {}, {}
    for name in MARKS:
        theirs = np.where(partner >= 0, other.global_marks[name][partner], np.nan)
        apart = theirs - native.global_marks[name]
        same = (np.abs(apart) <= _SAME_WAVE_S * native.fs) & ("_" in name)  # False where NaN; peaks stay
        move = np.where(same, apart / 2, 0.0)
        whole[name] = native.global_marks[name] + move
        leads[name] = native.marks[name] + move
    return replace(native, marks=in_order(leads), global_marks=in_order(whole))
