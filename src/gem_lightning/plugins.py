"""Parts of other packages, found by their entry points; a part is imported where it is first used."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points


@cache
def plugins(kind: str) -> dict[str, EntryPoint]:
    """Return the entry points of the group ``gem_lightning.KIND`` by name; none of them is loaded.

    Args:
        kind: ``readers``, ``layouts`` or ``language_models``.
    """
    return {point.name: point for point in entry_points(group=f"gem_lightning.{kind}")}
