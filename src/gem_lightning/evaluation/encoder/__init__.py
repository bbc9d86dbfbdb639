"""Zero-shot, probing and retrieval benchmark of an ECG encoder."""

from typing import Any


def __getattr__(name: str) -> Any:
    from gem_lightning.renamed import resolve

    return resolve(__name__, name)
