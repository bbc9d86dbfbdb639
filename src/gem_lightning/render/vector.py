"""The same page as true vectors: SVG and PDF with correct millimetres, letters as outlines."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.render.font import CAP_HEIGHT, glyphs, spell
from gem_lightning.render.layout import BIG_BOX
from gem_lightning.render.plate import NAME_MM, pulse_outline, separator_lines

if TYPE_CHECKING:
    from gem_lightning.render.draw import EcgRenderer

# PDF counts in points of 1/72 inch
_POINTS_PER_MM = 72 / 25.4
_Curve = tuple[tuple[str, tuple[float, ...]], ...]


class Lines(NamedTuple):
    """Polylines (n, 2) in mm with colour (RGB 0-255), width (mm) and dash (on, off; mm)."""

    points: list[np.ndarray]
    color: tuple[float, ...]
    width: float
    dash: tuple[float, float] | None = None


class Letters(NamedTuple):
    """A text as contours in mm (commands M L Q)."""

    text: str
    contours: list[_Curve]
    color: tuple[float, ...]


def page_items(renderer: EcgRenderer, record: EcgRecord) -> list[Lines | Letters]:
    """Everything on the page from back to front, mm from its top left corner."""
    scene, style = renderer.scene, renderer.style
    width, height = scene.page
    items: list[Lines | Letters] = []
    for pitch, line, color, dots in (
        (1.0, style.minor_mm, style.minor, style.dots),
        (BIG_BOX, style.major_mm, style.major, False),
    ):
        across = [np.array([[x, 0], [x, height]]) for x in np.arange(0, width + 1e-6, pitch)]
        down = [np.array([[0, y], [width, y]]) for y in np.arange(0, height + 1e-6, pitch)]
        wide = line * 2.2
        items.append(Lines(down, color, wide, (wide, pitch - wide)) if dots else Lines(across + down, color, line))
    pen = renderer.line_mm
    if renderer.page.pulses:
        outlines = [np.array(pulse_outline(x, y, renderer.speed, gain)) for x, y, gain in scene.pulses]
        items.append(Lines(outlines, style.ink, pen))
    if renderer.page.separators:
        items.append(Lines([np.array(line) for line in separator_lines(scene)], style.ink, pen))
    if renderer.page.names:
        cap = min(NAME_MM, scene.pitch * 0.24)
        items += [letters(lead, x, y, cap, style.ink) for lead, x, y in scene.names]
    if renderer.footer:
        items.append(letters(renderer.footer, scene.slots[0].x, scene.bottom + 6.0, 2.2, style.ink))
    if renderer.page.header:
        items.append(letters(renderer.header_line(record), scene.slots[0].x, scene.top - 1.5, 2.6, style.ink))
    items.append(Lines(_traces(renderer, record), renderer.ink, pen))
    return items


def _traces(renderer: EcgRenderer, record: EcgRecord) -> list[np.ndarray]:
    """The strips' gap-free runs, (n, 2), mm."""
    runs = []
    strips = renderer.strips(record)
    for slot, row, first, last in zip(renderer.scene.slots, strips.rows, strips.first, strips.last):
        sign = -1.0 if slot.lead.startswith("-") else 1.0
        value = sign * record.signal[row, first:last].astype(np.float64)
        x = slot.x + (np.arange(first, last) / record.fs - renderer.page.start - slot.t0) * renderer.speed
        y = np.clip(slot.baseline - value * slot.gain, 2.0, renderer.scene.page[1] - 2.0)
        known = np.concatenate([[False], ~np.isnan(value), [False]])
        borders = np.flatnonzero(np.diff(known.astype(np.int8)))
        runs += [np.stack([x[a:b], y[a:b]], axis=1) for a, b in zip(borders[::2], borders[1::2])]
    return runs


def letters(text: str, x: float, y: float, cap: float, color: tuple[float, ...]) -> Letters:
    """A text whose pen starts at (x, y) mm, capitals ``cap`` mm high."""
    scale, contours = cap / CAP_HEIGHT, []
    for ch in spell(text):
        glyph = glyphs()[ch]
        for contour in glyph.contours:
            moved = []
            for command, numbers in contour:
                place = np.array(numbers).reshape(-1, 2) * [scale, -scale] + [x, y]
                moved.append((command, tuple(place.ravel().tolist())))
            contours.append(tuple(moved))
        x += glyph.advance * scale
    return Letters(text, contours, color)


def to_svg(renderer: EcgRenderer, record: EcgRecord) -> str:
    """The page as SVG; its user unit is the millimetre."""
    width, height = renderer.scene.page
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}mm" height="{height:g}mm" '
        f'viewBox="0 0 {width:g} {height:g}">',
        f'<rect width="{width:g}" height="{height:g}" fill="{_hex(renderer.style.paper)}"/>',
    ]
    for item in page_items(renderer, record):
        if isinstance(item, Lines):
            ends = "butt" if item.dash else "round"
            dash = f' stroke-dasharray="{item.dash[0]:g} {item.dash[1]:g}"' if item.dash else ""
            path = "".join("M" + " ".join(f"{x:.3f},{y:.3f}" for x, y in line) for line in item.points)
            parts.append(
                f'<path d="{path}" fill="none" stroke="{_hex(item.color)}" stroke-width="{item.width:g}" '
                f'stroke-linejoin="round" stroke-linecap="{ends}"{dash}/>'
            )
        else:
            path = "".join(
                "".join(command + " ".join(f"{n:.3f}" for n in numbers) for command, numbers in contour) + "Z"
                for contour in item.contours
            )
            label = item.text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
            parts.append(f'<path d="{path}" fill="{_hex(item.color)}" aria-label="{label}"/>')
    return "\n".join([*parts, "</svg>\n"])


def to_pdf(renderer: EcgRenderer, record: EcgRecord) -> bytes:
    """The page as a one-page PDF 1.4, without date or identifiers."""
    width, height = renderer.scene.page
    lines = [f"{_POINTS_PER_MM:.6f} 0 0 {-_POINTS_PER_MM:.6f} 0 {height * _POINTS_PER_MM:.4f} cm 1 J 1 j"]
    lines.append(f"{_rgb(renderer.style.paper)} rg 0 0 {width:g} {height:g} re f")
    for item in page_items(renderer, record):
        if isinstance(item, Lines):
            dash = f"[{item.dash[0]:g} {item.dash[1]:g}] 0 d 0 J" if item.dash else "[] 0 d 1 J"
            lines.append(f"{_rgb(item.color)} RG {item.width:g} w {dash}")
            for line in item.points:
                steps = [f"{x:.3f} {y:.3f} {'l' if k else 'm'}" for k, (x, y) in enumerate(line)]
                lines.append(" ".join([*steps, "S"]))
        else:
            lines.append(f"{_rgb(item.color)} rg " + " ".join(_pdf_contour(c) for c in item.contours) + " f")
    stream = zlib.compress("\n".join(lines).encode("ascii"), 6)
    box = f"0 0 {width * _POINTS_PER_MM:.4f} {height * _POINTS_PER_MM:.4f}"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [{box}] /Contents 4 0 R /Resources << >> >>".encode("ascii"),
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(stream), stream),
    ]
    out, places = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(out)


def _pdf_contour(contour: _Curve) -> str:
    """A contour of M L Q as PDF's m l c h."""
    steps, at = [], np.zeros(2)
    for command, numbers in contour:
        place = np.array(numbers).reshape(-1, 2)
        if command == "Q":  # a quadratic as a cubic
            a, b = at + 2 / 3 * (place[0] - at), place[1] + 2 / 3 * (place[0] - place[1])
            steps.append(f"{a[0]:.3f} {a[1]:.3f} {b[0]:.3f} {b[1]:.3f} {place[1][0]:.3f} {place[1][1]:.3f} c")
        else:
            steps.append(f"{place[0][0]:.3f} {place[0][1]:.3f} {'m' if command == 'M' else 'l'}")
        at = place[-1]
    return " ".join([*steps, "h"])


def _hex(color: tuple[float, ...]) -> str:
    return "#" + "".join(f"{round(c):02x}" for c in color)


def _rgb(color: tuple[float, ...]) -> str:
    return " ".join(f"{c / 255:.4f}" for c in color)
