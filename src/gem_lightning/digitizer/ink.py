"""Ink of the traces on a flat page: how much of each pixel it covers, whatever the paper's and the ink's colour."""

from __future__ import annotations

import cv2
import numpy as np

from gem_lightning.digitizer.network import against_paper

_SURE, _SEEN = 0.6, 0.1  # of the network: pixels that show the ink's colour, and what is no paper
_GRID, _STRONG_GRID = 0.97, 0.5  # of blank paper lies below the grid's cover; a grid darker than half of the ink
_FEWEST = 500  # px, for a colour


def ink_cover(page: np.ndarray, trace: np.ndarray, paper: np.ndarray) -> np.ndarray | None:
    """Share of each pixel (H, W) that is covered by the traces' ink: 1 in the middle of a stroke, near 0 on the grid.

    The colour is projected so that ink differs most from what else is on the page (Fisher's discriminant): black on red
    paper is recognised by its red. None where no trace is sure.

    Args:
        page: uint8 (H, W, 3), flat.
        trace: The network's trace map (H, W).
        paper: bool (H, W): where paper is.
    """
    sure = (trace > _SURE) & paper
    if sure.sum() < _FEWEST:
        return None
    value = against_paper(page)
    blanks = value[paper & (cv2.dilate(trace, np.ones((9, 9))) < _SEEN)][::7]
    if len(blanks) < _FEWEST:
        return None
    level, blank = np.median(value[sure], 0), np.median(blanks, 0)
    direction = np.linalg.solve(np.cov(blanks.T) + 1e-4 * np.eye(3), blank - level)
    scale = float(direction @ (blank - level))
    cover = ((blank - value) @ direction.astype(np.float32)) / scale
    # strong lines of the grid are no pieces of strokes: only what is darker than they are counts
    grid = min(_STRONG_GRID, max(0.0, float(np.quantile((blank - blanks) @ direction / scale, _GRID))))
    return np.clip((cover - grid) / (1 - grid), 0, 3).astype(np.float32)
