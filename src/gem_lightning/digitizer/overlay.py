"""What was read, drawn over the page: for the eye that checks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from gem_lightning.ecg.record import LEADS

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
        first = mapping.x0 + strip.start * seconds * mapping.px_per_s
        lead, sign = LEADS.index(strip.lead.removeprefix("-")), -1.0 if strip.lead.startswith("-") else 1.0
        inside = slice(round(strip.start * seconds * found.record.fs), round(strip.stop * seconds * found.record.fs))
        signal, trust = found.record.signal[lead, inside], found.trust[lead, inside]
        x = first + np.arange(len(signal)) / found.record.fs * mapping.px_per_s
        y = mapping.baselines[strip.row] - sign * signal * mapping.px_per_mv[strip.row]
        kind = np.where(np.isfinite(signal), 1 + (trust > _TRUSTED), 0)  # 0: nothing was read
        for part in np.split(np.arange(len(signal)), np.flatnonzero(np.diff(kind)) + 1):
            points = np.stack([x, y], -1)[part[0] : part[-1] + 2]  # up to the next part
            points = points[np.isfinite(points).all(1)]
            if len(points) > 1 and kind[part[0]]:
                line = np.rint((points - 0.5) * (1 << _SHIFT)).astype(np.int32)
                color = _SURE if kind[part[0]] == 2 else _UNSURE
                cv2.polylines(image, [line], False, color, thick, cv2.LINE_AA, _SHIFT)
        row = mapping.rows[strip.row]
        place = (int(first) + 6, int(row.baseline - 5 * thick - 12))
        cv2.putText(
            image, strip.lead, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5 * thick + 0.2, _NAME, thick + 1, cv2.LINE_AA
        )
    return image
