"""The folder of weights that the user gives the neural delineator."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "GEM_LIGHTNING_DENSE"  # environment variable: the folder that save_dense wrote


def find_weights() -> Path | None:
    """Return the folder that the environment names; None takes those inside ``gem_small``, and checks no record."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None
