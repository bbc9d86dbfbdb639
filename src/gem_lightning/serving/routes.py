"""The routes of the API: ``/v1/measure``, ``interpret``, ``verify``, ``compare``, ``render``, ``convert``."""

# No postponed annotations here: FastAPI reads them from the functions.
import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, Request, Response, UploadFile
from fastapi.responses import HTMLResponse, JSONResponse

from gem_lightning.errors import RenderError
from gem_lightning.features.schema import plain
from gem_lightning.reporting.html import encoded_image, image_url, report_policy
from gem_lightning.serving import schemas
from gem_lightning.serving.facts import measured, written
from gem_lightning.serving.service import IMAGE_TYPES, RECORD_SUFFIXES, RECORD_TYPES, EcgService, Emit
from gem_lightning.serving.streaming import event_stream, follow
from gem_lightning.serving.uploads import Upload

#: Errors that any route of the API may send.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": schemas.Problem, "description": "No token of this server, where it has any."},
    403: {"model": schemas.Problem, "description": "Sent by a page of another site."},
    408: {"model": schemas.Problem, "description": "The body stopped coming."},
    413: {"model": schemas.Problem, "description": "The body is too large."},
    422: {"model": schemas.Problem, "description": "No ECG, several recordings, or a field that cannot be read."},
    429: {"model": schemas.Problem, "description": "Too many requests; Retry-After has the seconds to wait."},
}
_FHIR = "application/fhir+json"
_TEXTS: dict[str, Any] = {_FHIR: {}, "text/html": {}}

Files = Annotated[list[UploadFile], File(description="One recording; of WFDB the header and the signal file.")]
Rate = Annotated[float | None, Form(gt=0, allow_inf_nan=False, description="Hz, where the file does not state it.")]
Units = Annotated[str | None, Form(max_length=8, description="mV, uV, nV or V, where the file does not state it.")]
Gain = Annotated[float | None, Form(gt=0, allow_inf_nan=False, description="Counts per mV of uncalibrated samples.")]
Leads = Annotated[str | None, Form(max_length=200, description="Names of a table's columns in order: I,II,III,…")]
Mode = Literal["report", "guide", "revise", "rerank"]
Verify = Annotated[Mode | None, Form(description="How the text is held to the measurements; as the server is set.")]
OnFail = Annotated[
    Literal["restate", "drop", "flag"] | None, Form(description="What becomes of a contradicted sentence.")
]
Complete = Annotated[bool | None, Form(description="Add measured abnormal findings that the text leaves out.")]
Question = Annotated[str, Form(max_length=2_000, description="Empty for an interpretation.")]
Text = Annotated[str, Form(max_length=20_000, description="The text to verify.")]
Format = Annotated[Literal["json", "fhir", "html"], Form(description="json, a FHIR R4 bundle, or one page.")]


def reading_fields(fs: Rate = None, units: Units = None, gain: Gain = None, leads: Leads = None) -> dict[str, Any]:
    """What a file does not state itself, for ``read_ecg``."""
    names = [name.strip() for name in leads.split(",")] if leads else None
    return {"fs": fs, "units": units, "gain": gain, "lead_names": names}


def held_fields(verify: Verify = None, on_fail: OnFail = None, complete: Complete = None) -> dict[str, Any]:
    """How a request wants its text held to the measurements; what it leaves open is as the server is set."""
    given = {"verify": verify, "on_fail": on_fail, "complete": complete}
    return {name: value for name, value in given.items() if value is not None}


Reading = Annotated[dict[str, Any], Depends(reading_fields)]
Held = Annotated[dict[str, Any], Depends(held_fields)]


def uploads(files: list[UploadFile]) -> list[Upload]:
    """The files of a form as the service takes them."""
    return [Upload(file.filename or "", file.file) for file in files]


def in_thread(threads: Executor, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Run a function in one of the server's threads."""
    return asyncio.get_running_loop().run_in_executor(threads, partial(function, *arguments, **named))


def api_router(service: EcgService, threads: Executor) -> APIRouter:
    """Make the routes of the API around one service.

    Args:
        service: What they ask.
        threads: Where they ask it.
    """
    router = APIRouter(prefix="/v1", responses=PROBLEMS)
    _add_writing(router, service, threads)
    _add_measuring(router, service, threads)
    _add_files(router, service, threads)
    return router


def _add_measuring(router: APIRouter, service: EcgService, threads: Executor) -> None:
    def measure(files: list[Upload], reading: dict[str, Any]) -> dict[str, Any]:
        return measured(service.verify(service.read(files, reading)))

    @router.post("/measure", response_model=schemas.Measured)
    async def measure_record(files: Files, reading: Reading) -> Any:
        """Measurements and findings of a recording, and its technical quality."""
        return await in_thread(threads, measure, uploads(files), reading)

    def compare(first: list[Upload], second: list[Upload], reading: dict[str, Any]) -> dict[str, Any]:
        return service.compare(service.read(first, reading), service.read(second, reading)).to_dict()

    @router.post("/compare", response_model=schemas.Comparison)
    async def compare_records(first: Files, second: Files, reading: Reading) -> Any:
        """Measurements of two recordings and their differences, second less first."""
        return await in_thread(threads, compare, uploads(first), uploads(second), reading)

    @router.get("/models", response_model=schemas.Models)
    async def models() -> Any:
        """The models of this server."""
        return {"data": [{"id": service.name}]}


def _add_writing(router: APIRouter, service: EcgService, threads: Executor) -> None:
    streamed: dict[int | str, Any] = {200: {"content": {**_TEXTS, "text/event-stream": {}}}}

    @router.post("/interpret", response_model=schemas.Interpretation, responses=streamed)
    async def interpret(
        request: Request,
        files: Files,
        reading: Reading,
        held: Held,
        question: Question = "",
        format: Format = "json",
        stream: Annotated[bool, Form(description="Server-sent events in place of one answer.")] = False,
    ) -> Any:
        """A text about a recording, every statement verified; with ``stream`` as server-sent events.

        Events: ``stage`` {stage: reading, measuring, writing}, ``measured`` (as ``/v1/measure`` sends it), ``text``
        {delta}, ``statement`` (a verdict, when its sentence ends), ``done`` (the whole), ``error`` {status, detail}.
        """
        ask, given = service.ask(question, held, reading), uploads(files)
        if stream or "text/event-stream" in request.headers.get("accept", ""):

            def work(emit: Emit) -> tuple[str, dict[str, Any]]:
                return "done", written(service.interpret(given, ask, emit))

            return event_stream(follow(threads, work))
        return await in_thread(threads, lambda: _as_asked(service.interpret(given, ask), format))

    @router.post("/verify", response_model=schemas.Interpretation, responses={200: {"content": _TEXTS}})
    async def verify(
        files: Files,
        reading: Reading,
        text: Text,
        question: Question = "",
        format: Format = "json",
    ) -> Any:
        """Hold a text of anyone against the measurements of a recording; no model is asked."""

        def hold() -> Any:
            return _as_asked(service.verify(service.read(given, reading), text, question.strip()), format)

        given = uploads(files)
        return await in_thread(threads, hold)


def _as_asked(found: Any, format: str) -> Any:
    """An interpretation as plain values for JSON, or as a FHIR bundle or a page."""
    if format == "fhir":
        return JSONResponse(found.to_fhir(), media_type=_FHIR)
    if format == "html":
        policy = {"content-security-policy": report_policy()}
        return HTMLResponse(found.to_html(back_url="../"), headers=policy)
    return written(found)


def _add_files(router: APIRouter, service: EcgService, threads: Executor) -> None:
    images: dict[int | str, Any] = {200: {"content": {kind: {} for kind in IMAGE_TYPES.values()}}}

    @router.post("/render", response_class=Response, responses=images)
    async def render(
        files: Files,
        reading: Reading,
        layout: Annotated[str, Form(max_length=40, description="3x4+1, 6x2, 12x1, cabrera-6x2, …")] = "3x4+1",
        format: Annotated[Literal["png", "svg", "pdf"], Form()] = "png",
        speed: Annotated[float, Form(ge=5, le=100, description="mm/s")] = 25,
        gain_mm: Annotated[float, Form(ge=1, le=40, description="mm/mV")] = 10,
    ) -> Response:
        """The recording on 12-lead paper."""

        def draw() -> bytes:
            return service.render(service.read(given, reading), layout, format, speed=speed, gain=gain_mm)

        given = uploads(files)
        return Response(await in_thread(threads, draw), media_type=IMAGE_TYPES[format])

    kinds: dict[int | str, Any] = {200: {"content": {kind: {} for kind in RECORD_TYPES.values()}}}

    @router.post("/convert", response_class=Response, responses=kinds)
    async def convert(
        files: Files,
        reading: Reading,
        format: Annotated[Literal["wfdb", "dicom", "edf", "csv", "parquet"], Form()] = "wfdb",
    ) -> Response:
        """The signal of the recording as a file of another format; WFDB's two files as a ZIP archive."""

        def write() -> bytes:
            return service.convert(service.read(given, reading), format)

        given = uploads(files)
        headers = {"content-disposition": f'attachment; filename="ecg{RECORD_SUFFIXES[format]}"'}
        return Response(await in_thread(threads, write), media_type=RECORD_TYPES[format], headers=headers)


Image = Annotated[UploadFile, File(description="PNG, JPEG, TIFF, BMP, WebP or GIF of the whole page.")]
Layout = Annotated[str, Form(max_length=40, description="auto, or 3x4+1, 6x2, 12x1, …")]
Scale = Annotated[float | None, Form(gt=0, le=200, allow_inf_nan=False)]
SignalFormat = Annotated[
    Literal["json", "png", "wfdb", "dicom", "csv"], Form(description="png: the overlay; wfdb, dicom, csv: the signal.")
]


def digitize_router(service: EcgService, threads: Executor) -> APIRouter:
    """Make the route around one service; arguments as for ``api_router``."""
    router = APIRouter(prefix="/v1", responses=PROBLEMS)
    files: dict[int | str, Any] = {200: {"content": {"image/png": {}, **{kind: {} for kind in RECORD_TYPES.values()}}}}

    @router.post("/digitize", response_model=schemas.Digitized, responses=files)
    async def digitize(
        file: Image, layout: Layout = "auto", speed: Scale = None, gain: Scale = None, format: SignalFormat = "json"
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
        return Response(encoded_image(found.overlay(), ".png"), media_type="image/png")
    if found.record is None:
        raise RenderError(f"expected a page that can be digitised, got one that cannot: {found.refused}")
    return Response(service.convert(found.record, format), media_type=RECORD_TYPES[format])


def _plain(found: Any) -> dict[str, Any]:
    record = found.record
    leads = {} if record is None else {lead: row for row, lead in enumerate(record.leads)}
    return {
        "refused": found.refused,
        "layout": found.layout,
        "speed": found.speed,
        "gain": found.gain,
        "notes": list(found.notes),
        "fs": None if record is None else record.fs,
        "trust": found.lead_trust,
        "signal": {lead: plain(record.signal[row]) for lead, row in leads.items()},
        "overlay": image_url(found.overlay()),
    }
