"""Load untrusted image files: photos and scans of paper ECGs."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np

from gem_lightning.errors import MissingExtraError, RenderError

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")
_PDF_DPI, _PDF_SIDE = 200, 4200  # 8 px per mm, as a good scan; a letter page at 380 dpi


def load_ecg_image(
    source: str | Path | bytes,
    max_side: int | None = None,
    # phones take 12 to 50 megapixels; an A4 page at 600 dpi has 35
    max_pixels: int = 60_000_000,
    max_bytes: int = 60_000_000,
) -> np.ndarray:
    """Read an image or the first page of a PDF upright, as uint8 RGB (H, W, 3).

    The camera's turn (EXIF) is undone, transparency lies on white, 16-bit greys keep their range, and of several
    frames the first is taken.

    Args:
        source: A path or the file's bytes.
        max_side: Shrink so that no side exceeds this, px.
        max_pixels: Refuse images that would unpack to more pixels; known from the header, before unpacking.
        max_bytes: Refuse longer files.

    Raises:
        RenderError: No file, no image, damaged, or too large.
        MissingExtraError: A PDF, and ``pypdfium2`` is not installed.
    """
    from PIL import Image, ImageOps

    name, data = _bytes(source, max_bytes)
    if data.startswith(b"%PDF"):
        return _first_page(name, data, max_side or _PDF_SIDE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
        width, height = image.size
        if width * height > max_pixels:
            raise RenderError(
                f"expected at most {max_pixels:,} pixels, {name} has {width} x {height}; shrink it or raise max_pixels"
            )
        if max_side is not None and image.format == "JPEG":
            image.draft("RGB", (max_side, max_side))
        image.load()
        image = ImageOps.exif_transpose(image)
    except RenderError:
        raise
    except Exception as error:  # damaged files raise anything from struct.error to SyntaxError
        raise RenderError(f"expected an image ({', '.join(_FORMATS)}), {name} cannot be read: {error}") from error
    pixels = _rgb(image)
    if max_side is not None and max(pixels.shape[:2]) > max_side:
        scale = max_side / max(pixels.shape[:2])
        size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
    return np.ascontiguousarray(pixels)


def _bytes(source: str | Path | bytes, max_bytes: int) -> tuple[str, bytes]:
    """A name for messages, and the file's bytes."""
    if isinstance(source, bytes):
        name, length = "the image", len(source)
    else:
        path = Path(source)
        if not path.is_file():
            raise RenderError(f"expected an image's path, there is no file {path.name!r}")
        name, length = path.name, path.stat().st_size
    if not 0 < length <= max_bytes:
        raise RenderError(f"expected an image of 1 to {max_bytes:,} bytes, {name} has {length:,}")
    return name, source if isinstance(source, bytes) else Path(source).read_bytes()


def _first_page(name: str, data: bytes, max_side: int) -> np.ndarray:
    """Draw the first page of a PDF, at 200 dpi or so that no side exceeds ``max_side`` px."""
    try:
        import pypdfium2
    except ImportError as error:
        raise MissingExtraError("pypdfium2", "formats") from error
    try:
        page = pypdfium2.PdfDocument(data)[0]
        scale = min(_PDF_DPI / 72, max_side / max(page.get_size()))  # a PDF's unit is 1/72 inch
        return np.ascontiguousarray(page.render(scale=scale).to_numpy()[..., 2::-1])  # BGR
    except pypdfium2.PdfiumError as error:
        raise RenderError(f"expected a PDF with a page, {name} cannot be read: {error}") from error


def _rgb(image: object) -> np.ndarray:
    """Any of Pillow's modes as uint8 RGB (H, W, 3)."""
    from PIL import Image

    assert isinstance(image, Image.Image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        grey = np.asarray(image, dtype=np.float64)
        # 16-bit greys are recognised by their range
        top = 65535.0 if grey.max() > 255 else 255.0
        return np.repeat(np.clip(grey * (255 / top) + 0.5, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    if "A" in image.mode or "transparency" in image.info:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    return np.asarray(image.convert("RGB"))
