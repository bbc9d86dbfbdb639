"""Registers the family with transformers' Auto classes when those are first used, and not before."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_OURS = {
    "transformers.models.auto.modeling_auto": "gem_lightning.models.modeling_gem",
    "transformers.models.auto.processing_auto": "gem_lightning.models.processing_gem",
}


class _Announcer(importlib.abc.MetaPathFinder):
    """Finds nothing itself: lets the others find transformers' Auto modules and adds one step after their execution."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _OURS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                # One that is being imported right now has asked for this module itself, and registers when it is done
                if _OURS[name] not in sys.modules:
                    importlib.import_module(_OURS[name])

            loader.exec_module = execute_and_register
        return spec


def announce() -> None:
    """Make ``AutoModelForImageTextToText`` and ``AutoProcessor`` know the family from their first use on.

    Importing transformers costs seconds, so this waits for the importing program to do it.
    """
    for theirs, ours in _OURS.items():
        if theirs in sys.modules:
            importlib.import_module(ours)
    if not any(isinstance(finder, _Announcer) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Announcer())
