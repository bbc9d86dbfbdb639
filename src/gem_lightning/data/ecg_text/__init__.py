"""ECG-text pairs for encoder pre-training."""

from typing import Any


def __getattr__(name: str) -> Any:
    from gem_lightning.renamed import resolve

    return resolve(__name__, name)
