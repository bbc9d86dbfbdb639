"""``POST /v1/digitize``: a photo or scan of a paper ECG as a signal, with what was read drawn over the page."""

# No postponed annotations here: FastAPI reads them from the functions.
import io
from concurrent.futures import Executor
from typing import Annotated, Any, Literal

import numpy as np
import PIL.Image
from fastapi import APIRouter, File, Form, Response, UploadFile
from pydantic import BaseModel, Field

from gem_lightning.errors import RenderError
from gem_lightning.features.schema import plain
from gem_lightning.reporting.html import image_url
from gem_lightning.serving.routes import PROBLEMS, in_thread
from gem_lightning.serving.service import RECORD_TYPES, EcgService
from gem_lightning.serving.uploads import Upload

Image = Annotated[UploadFile, File(description="PNG, JPEG, TIFF, BMP, WebP or GIF of the whole page.")]
Layout = Annotated[str, Form(max_length=40, description="auto, or 3x4+1, 6x2, 12x1, …")]
Scale = Annotated[float | None, Form(gt=0, le=200, allow_inf_nan=False)]
Format = Annotated[
    Literal["json", "png", "wfdb", "dicom", "csv"], Form(description="png: the overlay; wfdb, dicom, csv: the signal.")
]


class Digitized(BaseModel):
    """A paper ECG as a signal."""

    refused: str | None = Field(description="Why the page cannot be read; null where it was read.")
    layout: str
    speed: float = Field(description="mm/s")
    gain: float = Field(description="mm/mV")
    notes: list[str] = Field(description="What was assumed.")
    fs: float | None = Field(description="Hz")
    trust: dict[str, float] = Field(description="Of each lead, 0 to 1, over what the page shows of it.")
    signal: dict[str, list[float | None]] = Field(description="Of each lead, mV; null where the page shows nothing.")
    overlay: str = Field(description="The flat page with what was read drawn over it, as a data URL.")


def digitize_router(service: EcgService, threads: Executor) -> APIRouter:
    """Make the route around one service; arguments as for ``api_router``."""
    router = APIRouter(prefix="/v1", responses=PROBLEMS)
    files: dict[int | str, Any] = {200: {"content": {"image/png": {}, **{kind: {} for kind in RECORD_TYPES.values()}}}}

    @router.post("/digitize", response_model=Digitized, responses=files)
    async def digitize(
        file: Image, layout: Layout = "auto", speed: Scale = None, gain: Scale = None, format: Format = "json"
    ) -> Any:
        """A photo or scan of a paper ECG as a signal; speed (mm/s) and gain (mm/mV) are read off the page."""
        upload = Upload(file.filename or "", file.file)
        return await in_thread(threads, _answer, service, upload, layout, speed, gain, format)

    return router


def _answer(
    service: EcgService, upload: Upload, layout: str, speed: float | None, gain: float | None, format: str
) -> Any:
    found = service.digitize(upload, layout, speed, gain)
    if format == "json":
        return _plain(found)
    if format == "png":
        return Response(_png(found.overlay()), media_type="image/png")
    if found.record is None:
        raise RenderError(f"expected a page that can be digitised, got one that cannot: {found.refused}")
    return Response(service.convert(found.record, format), media_type=RECORD_TYPES[format])


def _plain(found: Any) -> dict[str, Any]:
    record = found.record
    leads = {} if record is None else {lead: row for row, lead in enumerate(record.leads)}
    trust = {lead: found.trust[row][found.trust[row] > 0] for lead, row in leads.items()}
    return {
        "refused": found.refused,
        "layout": found.layout,
        "speed": found.speed,
        "gain": found.gain,
        "notes": list(found.notes),
        "fs": None if record is None else record.fs,
        "trust": {lead: float(shown.mean()) if len(shown) else 0.0 for lead, shown in trust.items()},
        "signal": {lead: plain(record.signal[row]) for lead, row in leads.items()},
        "overlay": image_url(found.overlay()),
    }


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "PNG", compress_level=4)
    return file.getvalue()
