"""The folder of the neural delineator's weights, from the environment or an installed package."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

VARIABLE = "GEM_LIGHTNING_DENSE"  # environment variable: the folder that save_dense wrote
PACKAGE = "gem_lightning_small"  # an installed package that ships them in its folder ``dense``


def find_weights() -> Path | None:
    """Return the folder of the weights, from the environment or an installed package; None where there are none."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    found = importlib.util.find_spec(PACKAGE)
    for place in (found.submodule_search_locations or ()) if found else ():
        if (Path(place) / "dense" / "config.json").is_file():
            return Path(place) / "dense"
    return None
