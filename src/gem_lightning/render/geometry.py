"""Positions of traces, pulses and texts on an image, for digitisers, overlays and the web page."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gem_lightning.errors import RenderError
from gem_lightning.jobs import write_atomically

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Trace:
    """One lead's strip.

    Attributes:
        lead: Lead name; a leading minus marks an inverted lead (Cabrera's -aVR).
        t0, t1: First and last time shown, s from the start of the record.
        x0: Where ``t0`` lies, px.
        baseline_y: Where 0 mV lies, px.
        gain: mm per mV (half of the page's gain for precordial leads where requested).
        box: (x0, y0, x1, y1) of the strip, px.
        clipped: Some samples were clipped at the edge of the page.
    """

    lead: str
    t0: float
    t1: float
    x0: float
    baseline_y: float
    gain: float
    box: Box
    clipped: bool = False


class Text(NamedTuple):
    """A printed text and its box, px."""

    text: str
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True)
class Geometry:
    """Millimetres, seconds and millivolts to pixels; x to the right, y down, pixel (0, 0) spans 0 to 1.

    A sample at time t with value v lies at ``x0 + (t - t0) * speed * px_per_mm``, ``baseline_y - v * gain * px_per_mm``
    of its trace. After a camera's distortion that holds in ``flat``, and :meth:`to_image` carries points along; boxes
    and start points of this object are already those of the distorted image.

    Attributes:
        px_per_mm: Scale, px per mm (after a distortion: at the middle of the page).
        size: (H, W) of the image, px.
        page_mm: (width, height) of the paper, mm.
        origin: Where the paper's top left corner lies, px.
        speed: Paper speed, mm/s.
        gain: mm per mV.
        line_px: Width of the traces, px.
        traces: Every strip, from top to bottom and left to right.
        pulses: (x0, y0, x1, y1) of each 1 mV calibration pulse, px.
        texts: Every printed text with its box.
        warp: The distortion that carried the flat image here, or None.
        flat: The geometry before the distortion, or None.
    """

    px_per_mm: float
    size: tuple[int, int]
    page_mm: tuple[float, float]
    origin: tuple[float, float]
    speed: float
    gain: float
    line_px: float
    traces: list[Trace]
    pulses: list[Box]
    texts: list[Text]
    warp: Any = None
    flat: Geometry | None = None

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 2) of the flat image as points of this image, px."""
        points = np.asarray(points, dtype=np.float64)
        return points if self.warp is None else self.warp.forward(points)

    def locate(self, trace: int, t: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Pixels (n, 2) of the samples with times ``t`` (s) and values ``v`` (mV) on the strip with index ``trace``."""
        flat = self.flat or self
        strip = flat.traces[trace]
        t, v = np.broadcast_arrays(np.asarray(t, dtype=np.float64), np.asarray(v, dtype=np.float64))
        x = strip.x0 + (t - strip.t0) * flat.speed * flat.px_per_mm
        y = strip.baseline_y - v * strip.gain * flat.px_per_mm
        return self.to_image(np.stack([x.ravel(), y.ravel()], axis=1))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, in px of this image; ``matrix`` is the camera's part of a distortion."""
        keys = ("px_per_mm", "size", "page_mm", "origin", "speed", "gain", "line_px")
        found: dict[str, Any] = {key: getattr(self, key) for key in keys}
        found["traces"] = [asdict(trace) for trace in self.traces]
        found["pulses"] = [list(map(float, box)) for box in self.pulses]
        found["texts"] = [[text.text, *map(float, text[1:])] for text in self.texts]
        found["matrix"] = None if self.warp is None else self.warp.matrix.tolist()
        return found

    def warped(self, warp: Any) -> Geometry:
        """This flat geometry as seen through ``warp``."""
        if self.flat is not None:
            raise RenderError("expected a flat geometry, got one that is already distorted; compose the distortions")

        middle = np.array([self.size[1] / 2, self.size[0] / 2])
        boxes = [*(t.box for t in self.traces), *self.pulses, *(t[1:] for t in self.texts)]
        corners = np.array([[x, y] for x0, y0, x1, y1 in boxes for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))])
        starts = np.array([[t.x0, t.baseline_y] for t in self.traces])
        fixed = [middle, [middle[0] + 1, middle[1]], [middle[0], middle[1] + 1], self.origin]
        moved = warp.forward(np.concatenate([fixed, starts.reshape(-1, 2), corners.reshape(-1, 2)]))
        scale = _area_scale(*moved[:3])
        starts, corners = moved[4 : 4 + len(self.traces)], moved[4 + len(self.traces) :].reshape(-1, 4, 2)
        carried = iter(np.concatenate([corners.min(1), corners.max(1)], axis=1).tolist())
        return replace(
            self,
            px_per_mm=self.px_per_mm * scale,
            line_px=self.line_px * scale,
            origin=tuple(moved[3].tolist()),
            traces=[
                replace(t, x0=x, baseline_y=y, box=tuple(next(carried)))
                for t, (x, y) in zip(self.traces, starts.tolist())
            ],
            pulses=[tuple(next(carried)) for _ in self.pulses],
            texts=[Text(t.text, *next(carried)) for t in self.texts],
            warp=warp,
            flat=self,
        )


def _area_scale(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    """Length scale of the map that sends the unit corner (0,0) (1,0) (0,1) to a, b, c."""
    (ux, uy), (vx, vy) = b - a, c - a
    return float(np.sqrt(abs(ux * vy - uy * vx)))


@dataclass(frozen=True)
class RenderedEcg:
    """An image with its geometry.

    Attributes:
        image: Uint8 (H, W, 3), RGB.
        flat: The geometry as printed.
        dpi: Pixels per inch of paper.
        warp: The distortion that carried the flat image here, or None.
    """

    image: np.ndarray
    flat: Geometry
    dpi: float = 0.0
    warp: Any = None

    @cached_property
    def geometry(self) -> Geometry:
        """Geometry of ``image``; computed on first access, since data loaders never use it."""
        return self.flat if self.warp is None else self.flat.warped(self.warp)

    def save(self, path: str | Path, quality: int = 92) -> Path:
        """Write PNG or JPEG with its true resolution, so that a print has correct millimetres.

        Raises:
            RenderError: Another suffix (SVG and PDF are drawn from the record: ``EcgRenderer.save``).
        """
        path = Path(path)
        write_atomically(path, self.encode(path.suffix.lower(), quality))
        return path

    def encode(self, suffix: str = ".png", quality: int = 92) -> bytes:
        """The bytes of a .png or .jpg file with its true resolution.

        Raises:
            RenderError: Another suffix.
        """
        import io

        from PIL import Image

        if suffix not in (".png", ".jpg", ".jpeg"):
            raise RenderError(
                f"expected .png or .jpg, got {suffix!r}; for .svg and .pdf call EcgRenderer.save(record, path)"
            )
        file = io.BytesIO()
        form = "PNG" if suffix == ".png" else "JPEG"
        Image.fromarray(self.image).save(file, form, dpi=(self.dpi, self.dpi), quality=quality, compress_level=4)
        return file.getvalue()
