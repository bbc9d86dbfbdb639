"""Clinical criteria, each decided by one function; :func:`decide` looks them up by code."""

from gem_lightning.features.criteria import (
    chambers,
    conduction,
    ischaemia,
    pacing,
    repolarisation,
    rhythm,
    summary,
)
from gem_lightning.features.criteria.base import Decision, by_lead, codes, criteria, decide, limits, wording

__all__ = ["Decision", "by_lead", "codes", "criteria", "decide", "limits", "wording"]
