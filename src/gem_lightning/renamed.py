"""Old module paths still resolve, as ``_target_`` or as an attribute, with a FutureWarning, for one minor version."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from typing import Any

#: The version in which the old paths below go: they warn for one minor version.
GONE = "0.3.0"
#: Old module -> new module: those that packaged configs named as ``_target_`` before they moved, and those whose name
#: is a package now.
MODULES = {
    "gem_lightning.data.augment": "gem_lightning.data.ecg_text.augment",
    "gem_lightning.data.ecg_text": "gem_lightning.data.ecg_text.dataset",
    "gem_lightning.evaluation.ecgbench": "gem_lightning.evaluation.ecgbench.score",
    "gem_lightning.evaluation.encoder": "gem_lightning.evaluation.encoder.benchmark",
    "gem_lightning.evaluation.grounding_benchmark": "gem_lightning.evaluation.llm_judge.benchmark",
    "gem_lightning.evaluation.suite": "gem_lightning.evaluation.ecgbench.benchmark",
    "gem_lightning.grounding.client": "gem_lightning.llm.client",
    "gem_lightning.grounding.gate": "gem_lightning.generation.gate",
    "gem_lightning.grounding.local": "gem_lightning.llm.local",
    "gem_lightning.grounding.sources": "gem_lightning.sources.base",
    "gem_lightning.grounding.sources_public": "gem_lightning.sources.public",
    "gem_lightning.grounding.teacher": "gem_lightning.generation.teachers",
    "gem_lightning.lit.ecg_text_datamodule": "gem_lightning.lit.data.ecg_text",
    "gem_lightning.models.chat": "gem_lightning.models.chat.formats",
    "gem_lightning.models.coca_loss": "gem_lightning.models.encoder.loss",
    "gem_lightning.models.coca_mae": "gem_lightning.models.encoder.mae",
    "gem_lightning.models.coca_text": "gem_lightning.models.encoder.coca",
    "gem_lightning.models.ecg_coca": "gem_lightning.models.encoder.coca",
    "gem_lightning.models.ecg_transformer": "gem_lightning.models.encoder.transformer",
}


def resolve(package: str, name: str) -> Any:
    """Return what ``package.name`` meant before the modules moved.

    Args:
        package: A package of this library whose ``__getattr__`` does not know the name.
        name: An old submodule of it, or a name of the module that the package replaced.

    Raises:
        AttributeError: It never had such a name.
    """
    if importlib.util.find_spec(f"{package}.{name}") is None:  # else the import system finds it
        old = f"{package}.{name}"
        if old in MODULES:
            # Python hides a DeprecationWarning unless the main script is the caller; here it is Hydra.
            warnings.warn(
                f"{old} is {MODULES[old]} now and goes in {GONE}; update the config", FutureWarning, stacklevel=3
            )
            return importlib.import_module(MODULES[old])
        if package in MODULES and not name.startswith("__"):
            module = importlib.import_module(MODULES[package])
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
