"""The page for people: its routes, samples and downloads; the browser keeps what a visitor has done."""

# No postponed annotations here: FastAPI reads them from the functions.
import json
from concurrent.futures import Executor
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse

from gem_lightning.ecg.quality import quality
from gem_lightning.ecg.simulation.simulate import simulate
from gem_lightning.errors import GemError
from gem_lightning.reporting.html import SCRIPTS, environment, script, style_sheet
from gem_lightning.reporting.tracing import trace_data
from gem_lightning.revision import Edit, Revision
from gem_lightning.samples.sample import DEFAULT_QUESTION
from gem_lightning.serving.page_events import PageEvents, comparison_html
from gem_lightning.serving.routes import Files, Held, Question, Reading, Text, in_thread, uploads
from gem_lightning.serving.service import RECORD_TYPES, EcgService, Emit
from gem_lightning.serving.streaming import event_stream, follow

HERE = Path(__file__).parent
#: Scripts of the page itself, in the order in which they load, after those of a result.
PAGE_SCRIPTS = ("requests", "visits", "conversation", "downloads", "app")
#: Samples by name: label, the simulator's diagnosis and noise. 25 dB is a good recording, -8 dB hides every wave.
SAMPLES = {
    "normal": ("Normal", "sinus", 25.0),
    "af": ("Atrial fibrillation", "atrial_fibrillation", 25.0),
    "stemi": ("Inferior STEMI", "st_elevation", 25.0),
    "lbbb": ("Left bundle branch block", "lbbb", 25.0),
    "noise": ("Noise", "sinus", -8.0),
}
SAMPLE_SEED = 3
_REPORTS = {"pdf": "application/pdf", "json": "application/json", "fhir": "application/fhir+json", "html": "text/html"}
_SUFFIXES = {"pdf": ".pdf", "json": ".json", "fhir": ".fhir.json", "html": ".html"}
_MAX_TURNS = 20  # earlier questions that one request may bring
Edits = Annotated[str, Form(max_length=100_000)]
Uid = Annotated[str, Form(pattern="^[a-z][a-z0-9]{0,15}$")]


def page(model: str, error: str = "", max_upload_mb: int = 50, path: str = "/") -> str:
    """Fill the page.

    Args:
        model: Its name.
        error: Shown above the form.
        max_upload_mb: Largest upload.
        path: Under which it is sent; links lead from there to the root, wherever a proxy puts that.
    """
    return str(
        environment(HERE / "templates")
        .get_template("page.html.jinja")
        .render(
            model=model,
            error=error,
            usual=DEFAULT_QUESTION,
            samples=[(name, label) for name, (label, *_) in SAMPLES.items()],
            scripts=[*SCRIPTS, *PAGE_SCRIPTS],
            max_upload_mb=max_upload_mb,
            root="../" * (path.count("/") - 1),
        )
    )


def is_browser(request: Request) -> bool:
    """Whether the client is a browser that opens a page: programs do not accept HTML."""
    return "text/html" in request.headers.get("accept", "")


def page_router(service: EcgService, threads: Executor, max_upload_mb: int = 50) -> APIRouter:
    """Make the routes of the page around one service.

    Args:
        service: What they ask.
        threads: Where they ask it.
        max_upload_mb: Largest upload, which the page checks before it sends one.
    """
    router = APIRouter(include_in_schema=False)
    _add_files(router, service, max_upload_mb)
    _add_interpreting(router, service, threads)
    _add_results(router, service, threads)
    return router


def _add_files(router: APIRouter, service: EcgService, max_upload_mb: int) -> None:
    @router.get("/", response_class=HTMLResponse)
    async def home() -> str:
        return page(service.name, max_upload_mb=max_upload_mb)

    @router.get("/static/{name}")
    async def static(name: str) -> Response:
        return Response(*static_file(name))

    @router.get("/samples/{name}.dcm")
    def sample(name: str) -> Response:
        if name not in SAMPLES:
            raise HTTPException(404, f"expected a sample of {', '.join(SAMPLES)}, got {name!r}")
        _, diagnosis, snr_db = SAMPLES[name]
        record = simulate(diagnosis, seed=SAMPLE_SEED, snr_db=snr_db).record
        return Response(service.convert(record, "dicom"), media_type=RECORD_TYPES["dicom"])


def static_file(name: str) -> tuple[bytes, int, None, str]:
    """Content, status, headers and type of a script or of the style sheet.

    Raises:
        HTTPException: 404 for any other name.
    """
    if name == "page.css":
        text = style_sheet("result") + (HERE / "static" / name).read_text(encoding="utf-8")
        return text.encode(), 200, None, "text/css"
    stem = name.removesuffix(".js")
    if name.endswith(".js") and stem in SCRIPTS:
        return script(stem).encode(), 200, None, "text/javascript"
    if name.endswith(".js") and stem in PAGE_SCRIPTS:
        return (HERE / "static" / name).read_bytes(), 200, None, "text/javascript"
    raise HTTPException(404, f"no such file: {name}")


def _add_interpreting(router: APIRouter, service: EcgService, threads: Executor) -> None:
    @router.post("/page/interpret")
    async def interpret(files: Files, reading: Reading, held: Held, uid: Uid, question: Question = "") -> Response:
        ask, given = service.ask(question, held, reading), uploads(files)

        def work(emit: Emit) -> tuple[str, dict[str, Any]]:
            events = PageEvents(emit, uid, given[0].name)
            return "done", events.done(service.interpret(given, ask, events, events.measured))

        return event_stream(follow(threads, work))

    @router.post("/page/ask")
    async def answer(files: Files, reading: Reading, held: Held, uid: Uid, turns: Text, question: Question) -> Response:
        ask, given = service.ask(question, held, reading), uploads(files)
        known = checked_turns(turns)

        def work(emit: Emit) -> tuple[str, dict[str, Any]]:
            events = PageEvents(emit, uid, given[0].name)
            return "done", events.answered(service.converse(given, known, ask, events, events.asked).turns[-1])

        return event_stream(follow(threads, work))


def checked_edits(text: str) -> list[Edit]:
    """Read the edits of a text on the page, a JSON list of :meth:`Edit.to_dict`.

    Raises:
        GemError: The text is something else.
    """
    try:
        listed = json.loads(text or "[]")
    except ValueError:
        listed = None
    if not isinstance(listed, list):
        raise GemError("expected edits as a JSON list, got something else")
    return [Edit.from_dict(values) for values in listed]


def checked_turns(text: str) -> list[tuple[str, str]]:
    """Read earlier questions and answers, a JSON list of pairs of texts.

    Raises:
        GemError: The text is something else.
    """
    try:
        turns = [(str(question), str(answer)) for question, answer in json.loads(text)]
    except (ValueError, TypeError):
        raise GemError("expected turns as a JSON list of [question, answer], got something else") from None
    if len(turns) > _MAX_TURNS:
        raise GemError(f"expected at most {_MAX_TURNS} earlier questions, got {len(turns)}; start with the ECG again")
    return turns


def _add_results(router: APIRouter, service: EcgService, threads: Executor) -> None:
    @router.post("/page/report")
    async def report(
        files: Files,
        reading: Reading,
        format: Annotated[Literal["pdf", "json", "fhir", "html"], Form()],
        text: Text = "",
        edits: Edits = "",
        question: Question = "",
    ) -> Response:
        given, written = uploads(files), Revision.of(text, checked_edits(edits))
        name = given[0].name

        def make() -> bytes:
            found = service.verify(service.read(given, reading), written, question.strip())
            if format == "pdf":
                return found.to_pdf(file_name=name)
            if format == "html":
                return found.to_html(file_name=name).encode()
            return json.dumps(found.to_fhir() if format == "fhir" else found.to_dict(), indent=1).encode()

        headers = {"content-disposition": f'attachment; filename="ecg{_SUFFIXES[format]}"'}
        return Response(await in_thread(threads, make), media_type=_REPORTS[format], headers=headers)

    @router.post("/page/section")
    async def section(files: Files, reading: Reading, start: Annotated[float, Form(ge=0, allow_inf_nan=False)]) -> Any:
        given = uploads(files)

        def make() -> dict[str, Any]:
            record = service.read(given, reading)
            return trace_data(record, start, marked=quality(record).refused is None)

        return await in_thread(threads, make)

    @router.post("/page/compare", response_class=HTMLResponse)
    async def compare(first: Files, second: Files, uid: Uid) -> Any:
        one, other = uploads(first), uploads(second)

        def make() -> str:
            found = service.compare(service.read(one), service.read(other))
            return comparison_html(found, [files[0].name for files in (one, other)], uid)

        return await in_thread(threads, make)
