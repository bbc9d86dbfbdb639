"""Lead names in every common spelling, and the leads that follow from others."""

from __future__ import annotations

import numpy as np

# (6, 2): I, II, III, aVR, aVL, aVF from leads I and II (Einthoven, Goldberger).
LIMB_FROM_I_II = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0], [-0.5, -0.5], [1.0, -0.5], [-0.5, 1.0]])


def limb_leads(eight: np.ndarray) -> np.ndarray:
    """Twelve leads (12, samples) from I, II, V1 to V6 (8, samples); III, aVR, aVL, aVF follow exactly in that dtype."""
    one, two = eight[0], eight[1]
    derived = [two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return np.concatenate([np.stack([one, two, *derived]), eight[2:]])
