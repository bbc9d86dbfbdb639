"""Where a point of the flat page lies on the camera's picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STEP = 8  # px between the nodes of a field


@dataclass(frozen=True)
class Warp:
    """A projective map with a small smooth displacement on top.

    The picture's point p shows the page's point ``inverse(p) + displacement(p)``.

    Attributes:
        matrix: (3, 3) map of the page's pixels to the picture's pixels.
        field: (rows, columns, 2) displacement in page px at the nodes (every ``STEP`` px), or None.
    """

    matrix: np.ndarray
    field: np.ndarray | None = None

    def _project(self, points: np.ndarray) -> np.ndarray:
        x, y, w = self.matrix @ np.stack([points[:, 0], points[:, 1], np.ones(len(points))])
        return np.stack([x / w, y / w], axis=1)

    def _displacement(self, points: np.ndarray) -> np.ndarray:
        assert self.field is not None
        rows, columns = self.field.shape[:2]
        at = np.clip(points / STEP, 0, [columns - 1, rows - 1])
        low = np.minimum(at.astype(np.int64), [columns - 2, rows - 2])
        (fx, fy), (c, r) = (at - low).T[..., None], low.T
        f = self.field
        return (f[r, c] * (1 - fx) + f[r, c + 1] * fx) * (1 - fy) + (f[r + 1, c] * (1 - fx) + f[r + 1, c + 1] * fx) * fy

    def forward(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 2) of the page as points of the picture, px."""
        image = self._project(points)
        if self.field is not None:
            for _ in range(8):  # the displacement is small and smooth, so this settles to a hundredth of a pixel
                image = self._project(points - self._displacement(image))
        return image
