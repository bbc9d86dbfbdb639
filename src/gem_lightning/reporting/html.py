"""Style sheet, scripts, templates and images of the self-contained HTML pages."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
PAGE_PX = (1000, 1294)  # (height, width) of the image on the page: 3x4+1 stays legible, the page under 600 kB
#: The scripts of a result, in the order in which they load.
SCRIPTS = ("recording", "drawing", "calipers", "export", "viewer")


@dataclass(frozen=True)
class Table:
    """A further table of the page; cells are shown as they are.

    Args:
        title: Heading.
        header: Column names.
        rows: Cells by row.
        note: One line under it.
    """

    title: str
    header: list[str]
    rows: list[list[str]] = field(default_factory=list)
    note: str = ""


def style_sheet(*further: str) -> str:
    """The style sheet of every page that the library writes, and further ones by name, such as ``result``."""
    return "\n".join((HERE / f"{name}.css").read_text(encoding="utf-8") for name in ("style", *further))


def script(name: str) -> str:
    """One of :data:`SCRIPTS` as text."""
    return (HERE / "scripts" / f"{name}.js").read_text(encoding="utf-8")


@cache
def report_policy() -> str:
    """The content security policy of the self-contained pages: they load nothing, and no script but their own runs."""
    digests = (hashlib.sha256(script(name).encode()).digest() for name in SCRIPTS)
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    own = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'self'"
    return f"{own}; script-src {hashes}; frame-ancestors 'none'"


@cache
def environment(*folders: Path) -> Any:
    """Jinja environment over ``folders`` and then ``reporting/templates``, with escaping on; made once."""
    from jinja2 import Environment, FileSystemLoader

    return Environment(loader=FileSystemLoader([*folders, HERE / "templates"]), autoescape=True, trim_blocks=True)


def image_url(image: np.ndarray) -> str:
    """Encode a uint8 (H, W, 3) RGB image as a data URL."""
    return f"data:image/webp;base64,{base64.b64encode(encoded_image(image)).decode()}"


def encoded_image(image: np.ndarray, suffix: str = ".webp") -> bytes:
    """Encode a uint8 (H, W, 3) RGB image without loss: as WebP, a third of the smallest PNG, or as ``.png``."""
    import cv2

    # a quality above 100 asks WebP's encoder for lossless; PNG's would warn of it
    lossless = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []
    done, data = cv2.imencode(suffix, image[..., ::-1], lossless)
    assert done
    return data.tobytes()
