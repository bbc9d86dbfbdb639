"""Draw a record as a calibrated paper image with its geometry."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import RenderError
from gem_lightning.jobs import write_atomically
from gem_lightning.render.artifacts import apply_artifacts, draw_amounts, find_artifacts, generator
from gem_lightning.render.font import draw_text
from gem_lightning.render.geometry import Box, Geometry, RenderedEcg, Text, Trace
from gem_lightning.render.kernels.stroke import stroke_traces
from gem_lightning.render.layout import Scene, build_scene
from gem_lightning.render.plate import Style, draw_plate, find_style

# 600 MB in memory; 32,767 is the largest side of OpenCV's remap
_MAX_PIXELS, _MAX_SIDE = 200_000_000, 32_000


class RenderWarning(UserWarning):
    """The image is correct but lacks a part of what was requested."""


@dataclass(frozen=True)
class Page:
    """What the page holds beyond layout and scale; every field has the usual value.

    Attributes:
        paper: ``letter``, ``a4``, ``fit``, (width, height) in mm; None for the layout's usual one.
        seconds: Duration shown, s.
        start: Where the excerpt begins, s.
        half_gain_precordials: Draw V1 to V6 at half of the gain.
        line_mm: Width of the traces, mm; default 0.2646 (0.75 pt), and at least 1 px, so that a small image stays
            legible.
        color: Trace colour (RGB 0-255); default the style's ink.
        header: Text above the traces; ``{key}`` takes a value of ``record.meta`` (for example ``"{age} y {sex}"``). No
            identifier is printed unless it is named here.
        footer: Text below; default speed and gain.
        names, pulses, separators: Whether lead names, calibration pulses and column borders are printed.

    Raises:
        RenderError: ``seconds`` or ``start`` is out of range.
    """

    paper: str | Sequence[float] | None = None
    seconds: float = 10.0
    start: float = 0.0
    half_gain_precordials: bool = False
    line_mm: float | None = None
    color: Sequence[float] | None = None
    header: str | None = None
    footer: str | None = None
    names: bool = True
    pulses: bool = True
    separators: bool = True

    def __post_init__(self) -> None:
        _check_positive("seconds", self.seconds)
        if not (np.isfinite(self.start) and self.start >= 0):
            raise RenderError(f"expected start (s) of 0 or more, got {self.start}")


def _check_positive(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise RenderError(f"expected {name} above 0, got {value}")


class EcgRenderer:
    """Draws records as calibrated 12-lead paper images.

    Args:
        layout: A name of ``layouts.yaml`` (``3x4+1``, ``6x2``, ``12x1``, ``cabrera-3x4``, ``single``, ...) or a mapping
            with ``rows`` and ``rhythm``.
        size: (H, W) of the image, px; the page is scaled to fit and centred, its paper runs on to the edges. None:
            the size of the page at ``dpi``.
        dpi: Pixels per inch; default 200 where no ``size`` is given. With ``size`` too, the scale is fixed and the page
            must fit.
        speed: Paper speed, mm/s (usually 12.5, 25 or 50).
        gain: mm per mV (usually 5, 10 or 20).
        style: A name of ``styles.yaml`` or a mapping of colours.
        artifacts: A camera's flaws: a preset (``scan``, ``photo``, ``hard``) or a mapping of flaws to [probability,
            low, high] (``artifacts.yaml``), with ``preset`` to start from; None or ``clean`` for none.
        page: Paper, excerpt and what is printed around the traces: a :class:`Page` or a mapping of its fields.

    Raises:
        RenderError: An argument is out of range, or the layout does not fit on the paper.
    """

    def __init__(
        self,
        layout: str | Mapping[str, Any] = "3x4+1",
        size: Sequence[int] | None = None,
        dpi: float | None = None,
        speed: float = 25,
        gain: float = 10,
        style: str | Mapping[str, Any] | Style = "red",
        artifacts: str | Mapping[str, Any] | None = None,
        page: Page | Mapping[str, Any] | None = None,
    ) -> None:
        _check_positive("speed (mm/s)", speed)
        _check_positive("gain (mm/mV)", gain)
        self.page = page = _page(page)
        self.artifacts = find_artifacts(artifacts)
        self.style = find_style(style)
        self.ink = tuple(float(c) for c in page.color) if page.color is not None else self.style.ink
        half = page.half_gain_precordials
        usual = f"{speed:g} mm/s   {gain:g} mm/mV" + ("   V1-V6 half gain" if half else "")
        self.footer = usual if page.footer is None else page.footer
        margins = 6.0 if page.header else 0.0, 8.0 if self.footer else 0.0  # mm: one line of text with its leading
        self.scene = build_scene(layout, page.paper, speed, gain, page.seconds, half, *margins)
        self.size, self.px_per_mm, self.origin = _canvas(self.scene, size, dpi)
        self.line_mm = 0.2646 if page.line_mm is None else float(page.line_mm)
        # below 1 px a trace would fade into the grid
        self.line_px = max(self.line_mm * self.px_per_mm, 1.0 if page.line_mm is None else 0.05)
        self.speed, self.gain = float(speed), float(gain)
        self._plate: tuple[np.ndarray, list[Box], list[Text]] | None = None
        if self.scene.seconds < self.scene.requested:
            _warn(
                f"the paper holds {self.scene.seconds:g} of {self.scene.requested:g} s at {speed:g} mm/s; "
                "use page={'paper': 'fit'} for all"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plate": None}

    def __call__(self, record: EcgRecord, seed: Any = None, out: np.ndarray | None = None) -> RenderedEcg:
        """Draw a record.

        Args:
            record: Any rate and length; a short one leaves blank paper, NaN leaves a gap.
            seed: Of the artifacts: an int, a sequence of ints such as (seed, epoch, index), or a Generator; None makes
                the signal itself the seed. The same seed gives the same bytes in any process.
            out: A uint8 (H, W, 3) buffer to draw into.

        Raises:
            RenderError: A lead of the layout is not in the record, or no sample of the record is known.
        """
        plate, pulses, texts = self._printed_plate()
        image = self._canvas_copy(plate, out)
        texts = list(texts)
        if self.page.header:
            texts.append(self._draw_header(image, record))
        rng = generator(seed, record.signal) if self.artifacts else None
        amounts = draw_amounts(self.artifacts, rng) if rng is not None else {}
        clipped = self._draw_traces(image, record, amounts.get("fade", 1.0))
        geometry = Geometry(
            self.px_per_mm, self.size, self.scene.page, self.origin, self.speed, self.gain, self.line_px,
            self._traces(clipped), list(pulses), texts,
        )  # fmt: skip
        warp = None
        if rng is not None and amounts:
            distorted, warp = apply_artifacts(image, self.px_per_mm, amounts, rng)
            if out is None:
                image = distorted
            else:
                np.copyto(image, distorted)
        return RenderedEcg(image, geometry, self.px_per_mm * 25.4, warp)

    def save(self, record: EcgRecord, path: str | Path, seed: Any = None) -> Path:
        """Draw a record into a .png, .jpg, .svg or .pdf file (vectors are drawn without artifacts).

        Raises:
            RenderError: Another suffix, or the record cannot be drawn.
        """
        path = Path(path)
        if path.suffix.lower() == ".svg":
            write_atomically(path, self.svg(record).encode())
        elif path.suffix.lower() == ".pdf":
            write_atomically(path, self.pdf(record))
        else:
            self(record, seed).save(path)
        return path

    def svg(self, record: EcgRecord) -> str:
        """The page as SVG text in millimetres."""
        from gem_lightning.render.vector import to_svg

        return to_svg(self, record)

    def pdf(self, record: EcgRecord) -> bytes:
        """The page as a one-page PDF of the paper's size."""
        from gem_lightning.render.vector import to_pdf

        return to_pdf(self, record)

    def _printed_plate(self) -> tuple[np.ndarray, list[Box], list[Text]]:
        """The background, drawn once."""
        if self._plate is None:
            image, pulses, texts = draw_plate(
                self.scene, self.size, self.px_per_mm, self.origin, self.style, self.speed, self.line_px,
                self.footer, names=self.page.names, pulses=self.page.pulses, separators=self.page.separators,
            )  # fmt: skip
            image.flags.writeable = False
            self._plate = image, pulses, texts
        return self._plate

    def _canvas_copy(self, plate: np.ndarray, out: np.ndarray | None) -> np.ndarray:
        if out is None:
            return plate.copy()
        if out.shape != plate.shape or out.dtype != np.uint8:
            raise RenderError(f"expected out to be uint8 {plate.shape}, got {out.dtype} {out.shape}")
        np.copyto(out, plate)
        return out

    def header_line(self, record: EcgRecord) -> str:
        """The header with the record's values in it."""
        known = {"fs": f"{record.fs:g}", "seconds": f"{record.seconds:g}", **record.meta}
        return str(self.page.header).format_map(_Blank(known))

    def _draw_header(self, image: np.ndarray, record: EcgRecord) -> Text:
        line = self.header_line(record)
        x = self.origin[0] + self.scene.slots[0].x * self.px_per_mm
        y = self.origin[1] + (self.scene.top - 1.5) * self.px_per_mm
        return Text(line, *draw_text(image, line, x, y, max(2.6 * self.px_per_mm, 5.5), self.style.ink))

    def strips(self, record: EcgRecord) -> Strips:
        """Which row and samples of the record each strip of the scene shows.

        Raises:
            RenderError: A lead of the layout is not in the record, or no sample of the record is known.
        """
        times = np.array([[s.t0, s.t1] for s in self.scene.slots]) + self.page.start
        # 1e-6 samples: a start that is whole up to rounding keeps its sample
        first = np.clip(np.ceil(times[:, 0] * record.fs - 1e-6), 0, record.samples).astype(np.int64)
        last = np.clip(np.floor(times[:, 1] * record.fs + 1e-6) + 1, first, record.samples).astype(np.int64)
        return Strips(self._rows(record), first, last, first / record.fs - times[:, 0])

    def _draw_traces(self, image: np.ndarray, record: EcgRecord, strength: float) -> np.ndarray:
        """Draw every strip; return how many samples of each were clipped at the edge of the page."""
        slots, scale, strips = self.scene.slots, self.px_per_mm, self.strips(record)
        per_second = self.speed * scale
        signs = np.array([-1.0 if s.lead.startswith("-") else 1.0 for s in slots])
        # 2 mm from the page's edge: clipped traces stay visible as such
        limits = (self.origin[1] + 2.0 * scale, self.origin[1] + (self.scene.page[1] - 2.0) * scale)
        clipped = stroke_traces(
            image, record.signal, strips.rows, strips.first, strips.last,
            self.origin[0] + np.array([s.x for s in slots]) * scale + strips.lag * per_second,
            per_second / record.fs, self.origin[1] + np.array([s.baseline for s in slots]) * scale,
            np.array([s.gain for s in slots]) * scale * signs, limits, self.line_px / 2,
            tuple(int(c) for c in self.ink), strength,
        )  # fmt: skip
        if clipped.any():
            leads = ", ".join(dict.fromkeys(s.lead for s, n in zip(slots, clipped) if n))
            _warn(f"samples beyond the page were clipped at its edge in {leads}; use a smaller gain to see them")
        return clipped

    def _rows(self, record: EcgRecord) -> np.ndarray:
        """Row of the record's signal for each strip, by lead name."""
        names = {lead: i for i, lead in enumerate(record.leads)}
        wanted = [slot.lead.removeprefix("-") for slot in self.scene.slots]
        missing = [lead for lead in dict.fromkeys(wanted) if lead not in names]
        if missing:
            raise RenderError(
                f"expected the leads {', '.join(dict.fromkeys(wanted))}, the record lacks {', '.join(missing)}; "
                "choose a layout of the leads it has"
            )
        rows = np.array([names[lead] for lead in wanted], np.int64)
        blank = [lead for lead in dict.fromkeys(wanted) if not np.isfinite(record.signal[names[lead]]).any()]
        if len(blank) == len(set(wanted)):
            raise RenderError("expected a record with at least one known sample in the leads on show, got only NaN")
        if blank:
            _warn(f"no sample is known in {', '.join(blank)}: the strip is blank")
        return rows

    def _traces(self, clipped: np.ndarray) -> list[Trace]:
        traces, scale, (left, top) = [], self.px_per_mm, self.origin
        for slot, count in zip(self.scene.slots, clipped):
            x, y = left + slot.x * scale, top + slot.baseline * scale
            right = x + (slot.t1 - slot.t0) * self.speed * scale
            box = (x, y - 0.6 * self.scene.pitch * scale, right, y + 0.4 * self.scene.pitch * scale)
            t0, t1 = slot.t0 + self.page.start, slot.t1 + self.page.start
            traces.append(Trace(slot.lead, t0, t1, x, y, slot.gain, box, bool(count)))
        return traces


def _page(given: Page | Mapping[str, Any] | None) -> Page:
    if given is None or isinstance(given, Page):
        return given or Page()
    unknown = set(given) - {field.name for field in fields(Page)}
    if unknown:
        known = ", ".join(field.name for field in fields(Page))
        raise RenderError(f"expected page fields of {known}, got {', '.join(sorted(unknown))}")
    return Page(**given)


class Strips(NamedTuple):
    """For each strip (strips,): row of the signal, samples ``first`` to ``last`` (not included), and by how much the
    first sample lags the strip's start, s."""

    rows: np.ndarray
    first: np.ndarray
    last: np.ndarray
    lag: np.ndarray


class _Blank(dict):
    """A mapping that answers unknown keys with nothing, for headers."""

    def __missing__(self, key: str) -> str:
        return ""


def _canvas(
    scene: Scene, size: Sequence[int] | None, dpi: float | None
) -> tuple[tuple[int, int], float, tuple[float, float]]:
    """(H, W), px per mm and the page's corner (x, y), px."""
    width, height = scene.page
    if dpi is not None and not (np.isfinite(dpi) and dpi > 0):
        raise RenderError(f"expected dpi above 0, got {dpi}")
    if size is None:
        scale = (200.0 if dpi is None else float(dpi)) / 25.4
        pixels = (round(height * scale), round(width * scale))
    else:
        if len(size) != 2 or min(size) < 16:
            raise RenderError(f"expected size (H, W) of at least 16 x 16 px, got {tuple(size)}")
        pixels = (int(size[0]), int(size[1]))
        scale = min(pixels[1] / width, pixels[0] / height) if dpi is None else float(dpi) / 25.4
    if pixels[0] * pixels[1] > _MAX_PIXELS or max(pixels) > _MAX_SIDE:
        raise RenderError(
            f"expected at most {_MAX_PIXELS:,} pixels and {_MAX_SIDE:,} a side, got {pixels[0]} x {pixels[1]}; "
            "use a smaller dpi"
        )
    if dpi is not None and (width * scale > pixels[1] + 1 or height * scale > pixels[0] + 1):
        raise RenderError(
            f"expected a size of at least {round(height * scale)} x {round(width * scale)} px (H, W) for "
            f"{width:g} x {height:g} mm at {dpi:g} dpi, got {pixels}; leave out size or dpi"
        )
    return pixels, scale, ((pixels[1] - width * scale) / 2, (pixels[0] - height * scale) / 2)


def _warn(message: str) -> None:
    warnings.warn(message, RenderWarning, stacklevel=4)
