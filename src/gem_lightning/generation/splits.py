"""Splits by patient: each that was asked for gets a patient of those whose samples were accepted.

A patient's split follows from a hash of the patient alone, so that it stays when records are added or a run is shared
out over machines. Small data sets may leave a split empty in this way: then patients move to it from the largest one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def _wanted(splits: Mapping[str, float]) -> list[str]:
    wanted = [name for name, share in splits.items() if share > 0]
    return wanted if sum(splits.values()) >= 1 else ["train", *wanted]


def patients_to_move(
    rows: Iterable[Mapping[str, Any]], counts: Mapping[str, Any], splits: Mapping[str, float]
) -> dict[str, str]:
    """Return patient → split for patients who fill a split that none of the accepted ones fell into.

    Args:
        rows: Of the job; a sample's ``place`` is None where the data set has splits of its own.
        counts: Of :func:`gem_lightning.generation.run.count_samples`.
        splits: Shares of ``val`` and ``test`` that were asked for.
    """
    empty = [name for name in _wanted(splits) if name not in counts["samples_by_split"]]
    if not empty or not counts["samples"]:
        return {}
    groups: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["status"] == "accepted" and row["place"] is not None:
            groups.setdefault(row["sample"]["split"], {})[row["sample"]["patient"]] = row["place"]
    total = sum(map(len, groups.values()))
    moved: dict[str, str] = {}
    for name in empty:
        donor = max(groups.values(), key=len, default={})
        count = min(max(1, round(splits.get(name, 0) * total)), len(donor) - 1)
        for patient in sorted(donor, key=donor.__getitem__)[: max(0, count)]:
            del donor[patient]
            moved[patient] = name
    return moved


def too_few_samples(counts: Mapping[str, Any], splits: Mapping[str, float]) -> str | None:
    """Explain how many patients are missing; None where each split has a sample.

    Args:
        counts: Of :func:`gem_lightning.generation.run.count_samples`.
        splits: Shares of ``val`` and ``test`` that were asked for.
    """
    wanted = _wanted(splits)
    if all(name in counts["samples_by_split"] for name in wanted):
        return None
    reasons = "; ".join(f"{count} × {reason}" for reason, count in counts["reject_reasons"].items())
    rejected = f", and {counts['rejected']} rejected ({reasons}; see rejected.jsonl)" if reasons else ""
    return (
        f"expected accepted samples of at least {len(wanted)} patients, one each for {', '.join(wanted)}, got "
        f"{counts['samples']} of {counts['patients']}{rejected}; add records, or leave splits out "
        "(splits.val=0 splits.test=0)"
    )
