"""Clinical criteria, each decided by one function; :func:`decide` looks them up by code."""

from collections.abc import Iterable

from gem_lightning.features.criteria import (
    acute,
    arrhythmia,
    base,
    chambers,
    conduction,
    electrodes,
    ischaemia,
    pacing,
    repolarisation,
    rhythm,
    summary,
)
from gem_lightning.features.criteria.base import Decision, by_lead, codes, criteria, limits, wording
from gem_lightning.features.schema import EcgFeatures


def decide(code: str, features: EcgFeatures, leads: Iterable[str] | None = None) -> Decision:
    """Decide one criterion on a record; see :func:`gem_lightning.features.criteria.base.decide`.

    Measurements that were changed in place since the last decision are decided from scratch.
    """
    base.refresh(features)
    return base.decide(code, features, leads)


__all__ = ["Decision", "by_lead", "codes", "criteria", "decide", "limits", "wording"]
