"""What was read, drawn over the page: for the eye that checks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from gem_lightning.digitizer.page import DigitizedEcg

#: Colours of Okabe and Ito (2008), RGB: trusted, and less so.
_SURE, _UNSURE, _NAME = (0, 114, 178), (213, 94, 0), (0, 90, 60)
_TRUSTED = 0.5
_SHIFT = 4  # bits of a pixel's fraction


def draw_overlay(found: DigitizedEcg) -> np.ndarray:
    """Return uint8 (H, W, 3): the flat page, paler, with traces in blue, doubtful stretches in red, and lead names."""
    image = (255 - (255 - found.page.astype(np.uint16)) // 2).astype(np.uint8)
    mapping = found.mapping
    if mapping is None or found.record is None:
        return image
    thick = max(1, image.shape[1] // 900)
    seconds = found.record.seconds
    for strip in mapping.strips:
        row = mapping.rows[strip.row]
        first = mapping.x0 + strip.start * seconds * mapping.px_per_s
        last = mapping.x0 + strip.stop * seconds * mapping.px_per_s
        columns = np.arange(max(0, int(first)), min(len(row.height), int(last)))
        points = np.stack([columns + 0.5, row.height[columns]], -1) * (1 << _SHIFT)
        sure = row.confidence[columns] > _TRUSTED
        for part in np.split(np.arange(len(columns)), np.flatnonzero(np.diff(sure.astype(int))) + 1):
            if len(part) > 1:
                color = _SURE if sure[part[0]] else _UNSURE
                line = np.rint(points[part]).astype(np.int32)
                cv2.polylines(image, [line], False, color, thick, cv2.LINE_AA, _SHIFT)
        place = (int(first) + 6, int(row.baseline - 5 * thick - 12))
        cv2.putText(
            image, strip.lead, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5 * thick + 0.2, _NAME, thick + 1, cv2.LINE_AA
        )
    return image
