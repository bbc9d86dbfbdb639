"""Render a folder of records to a folder of images on all cores, resumable."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gem_lightning.ecg.listing import list_records, short_names
from gem_lightning.ecg.readers import read_ecg
from gem_lightning.errors import RenderError
from gem_lightning.jobs import JobFolder, Progress, run, write_atomically
from gem_lightning.render.draw import EcgRenderer

_SUFFIXES = (".png", ".jpg", ".svg", ".pdf")


@dataclass(frozen=True)
class RenderFile:
    """Read one record and write its image; the item is ``{"id", "path", "index"}``.

    Attributes:
        renderer: How to draw.
        target: Folder of the images.
        suffix: .png, .jpg, .svg or .pdf.
        seed: The artifacts' seed is (seed, index).
    """

    renderer: EcgRenderer
    target: str
    suffix: str
    seed: int = 0

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """The row of one image: its file, and for pixel formats its geometry."""
        record = read_ecg(item["path"], leads="any")
        path = Path(self.target) / (item["id"] + self.suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        row: dict[str, Any] = {"id": item["id"], "image": item["id"] + self.suffix}
        if self.suffix in (".svg", ".pdf"):
            vectors = self.renderer.svg(record).encode() if self.suffix == ".svg" else self.renderer.pdf(record)
            write_atomically(path, vectors)
            return row
        drawn = self.renderer(record, (self.seed, item["index"]))
        write_atomically(path, drawn.encode(self.suffix))
        return {**row, "geometry": drawn.geometry.to_dict()}


def render_folder(
    source: str | Path | Iterable[str | Path],
    target: str | Path,
    renderer: EcgRenderer | None = None,
    suffix: str = ".png",
    seed: int = 0,
    workers: int | None = None,
    show: Callable[[Progress], None] | None = None,
) -> Progress:
    """Draw every record of a folder (or of a list of paths).

    Images keep the records' relative names. ``target/job`` holds the state: a second call does what is missing; its
    ``shards/*.jsonl`` list each image with its geometry, and ``*.broken`` the records that could not be drawn and
    why.

    Args:
        source: Folder that is searched through, or paths.
        target: Folder of the images.
        renderer: How to draw; default ``EcgRenderer()``.
        suffix: .png, .jpg, .svg or .pdf.
        seed: Of the artifacts.
        workers: Processes; None takes all cores, 0 works in this one.
        show: Called with the progress after each block.

    Raises:
        RenderError: No record, or an unknown suffix.
        JobError: The target was begun with other settings.
    """
    if suffix not in _SUFFIXES:
        raise RenderError(f"expected a suffix out of {', '.join(_SUFFIXES)}, got {suffix!r}")
    renderer = renderer or EcgRenderer()
    items = [{"id": name, "path": path, "index": k} for k, (name, path) in enumerate(_records(source))]
    if not items:
        raise RenderError(f"expected records in {source}, found none")
    settings = {"renderer": _fingerprint(renderer), "suffix": suffix, "seed": seed}
    job = JobFolder(Path(target) / "job", items, settings, suffix=".jsonl", block=64)
    return run(job, RenderFile(renderer, str(target), suffix, seed), workers, show=show)


def _records(source: str | Path | Iterable[str | Path]) -> list[tuple[str, str]]:
    """(name, path) of each record, sorted; of a WFDB record only the header."""
    if isinstance(source, (str, Path)):
        return [(name, str(path)) for name, path in list_records(source)]
    files = [Path(p) for p in source]
    return list(zip(short_names([Path(p.name) for p in files]), map(str, files)))


def _fingerprint(renderer: EcgRenderer) -> str:
    """Hash of everything that determines the images."""
    state = {k: v for k, v in sorted(renderer.__getstate__().items()) if k != "_plate"}
    return hashlib.sha256(repr(state).encode()).hexdigest()[:16]
