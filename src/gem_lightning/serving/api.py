"""HTTP application: ECG files in, verified interpretation out as a page or as JSON."""

# No postponed annotations here: FastAPI reads them from the functions.
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Form, HTTPException, Request, Response, UploadFile
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException as AnyHTTPException

from gem_lightning.ecg.listing import list_records
from gem_lightning.errors import GemError
from gem_lightning.reporting.html import environment, style_sheet
from gem_lightning.reporting.interpretation import Interpretation
from gem_lightning.revision.options import VerifyOptions
from gem_lightning.samples.sample import DEFAULT_QUESTION

Text = Annotated[str, Form()]
Rate = Annotated[float | None, Form()]


Flag = Annotated[bool | None, Form()]


def held_fields(verify: Text = "", on_fail: Text = "", complete: Flag = None) -> dict[str, Any]:
    """How a request wants its text held to the measurements; what it leaves open is as the server is set."""
    return {"verify": verify, "on_fail": on_fail, "complete": complete}


Held = Annotated[dict[str, Any], Depends(held_fields)]


def build_app(gem: Any, name: str = "", max_upload_mb: int = 50, options: VerifyOptions | None = None) -> FastAPI:
    """Build the application around one loaded model.

    Routes: ``GET /`` the upload page; ``POST /report`` the page of one record; ``POST /interpret`` the same as JSON.
    A record of several files (WFDB's header and signal) is uploaded in one request. An error is one sentence on the
    upload page for browsers and ``{"detail": sentence}`` for programs.

    Args:
        gem: A ``Gem``; used by one request at a time.
        name: Of the model, for the pages' footer.
        max_upload_mb: Largest upload, MB.
        options: How texts are held to the measurements; a request's fields ``verify``, ``on_fail`` and ``complete``
            replace them.
    """
    usual = options or VerifyOptions()
    # FastAPI's own documentation pages load scripts from a CDN; this application makes no external request.
    app = FastAPI(
        title="gem-lightning", description="Research software, not a medical device.", docs_url=None, redoc_url=None
    )
    one_at_a_time = threading.Lock()

    def upload_page(error: str = "") -> str:
        facts = {"style": style_sheet(), "model": name, "usual": DEFAULT_QUESTION, "error": error}
        return environment().get_template("upload.html.jinja").render(**facts)

    def interpret(
        files: list[UploadFile], question: str, fs: float | None, units: str, leads: str, held: dict[str, Any]
    ) -> Interpretation:
        settings = _settings(usual, held)
        reading = {"fs": fs, "units": units or None, "lead_names": leads.split(",") if leads else None}
        with tempfile.TemporaryDirectory() as folder:
            path = store_upload(files, Path(folder), max_upload_mb)
            try:
                with one_at_a_time:
                    return gem.interpret(path, question=question.strip() or None, reading=reading, **settings)
            except GemError as error:
                raise HTTPException(422, str(error)) from None

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        return upload_page()

    @app.post("/report", response_class=HTMLResponse)
    def report(
        files: list[UploadFile], held: Held, question: Text = "", fs: Rate = None, units: Text = "", leads: Text = ""
    ) -> str:
        return interpret(files, question, fs, units, leads, held).to_html(back_url="./")

    @app.post("/interpret")
    def interpret_json(
        files: list[UploadFile], held: Held, question: Text = "", fs: Rate = None, units: Text = "", leads: Text = ""
    ) -> dict[str, Any]:
        return interpret(files, question, fs, units, leads, held).to_dict()

    _add_error_pages(app, upload_page)
    return app


def _settings(usual: VerifyOptions, held: dict[str, Any]) -> dict[str, Any]:
    """The server's options with those of a request in their place.

    Raises:
        HTTPException: 422 for an unknown one.
    """
    try:
        chosen = replace(usual, **{key: value for key, value in held.items() if value not in ("", None)})
    except GemError as error:
        raise HTTPException(422, str(error)) from None
    return vars(chosen) if chosen.active else {}


def _add_error_pages(app: FastAPI, upload_page: Callable[[str], str]) -> None:
    """Show errors on the upload page in browsers; programs get FastAPI's JSON."""

    @app.exception_handler(AnyHTTPException)
    async def refused(request: Request, error: AnyHTTPException) -> Response:
        if _is_browser(request):
            return HTMLResponse(upload_page(str(error.detail)), error.status_code)
        return await http_exception_handler(request, error)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        if _is_browser(request):
            problems = "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
            return HTMLResponse(upload_page(f"expected a file and valid fields, got {problems}"), 422)
        return await request_validation_exception_handler(request, error)


def _is_browser(request: Request) -> bool:
    """Whether the client is a browser: programs do not accept HTML."""
    return "text/html" in request.headers.get("accept", "")


def store_upload(files: list[UploadFile], folder: Path, max_upload_mb: int) -> Path:
    """Write an upload's files into ``folder``; the one to read is returned.

    Raises:
        HTTPException: 413 for too large an upload, 422 for several recordings or a name that no file can have.
    """
    size = 0
    for file in files:
        # one byte more than allowed shows that there is more
        data = file.file.read(max_upload_mb * 1_000_000 + 1 - size)
        size += len(data)
        if size > max_upload_mb * 1_000_000:
            raise HTTPException(413, f"expected at most {max_upload_mb} MB, got more; send one record")
        name = Path(file.filename or "upload").name
        if name in ("", ".."):
            raise HTTPException(422, f"expected a file's name, got {file.filename!r}; rename the file")
        (folder / name).write_bytes(data)
    names = [path for _, path in list_records(folder)] or sorted(folder.iterdir())[:1]
    if len(names) != 1:
        raise HTTPException(
            422, f"expected one recording, got {', '.join(path.name for path in names)}; send them one by one"
        )
    return names[0]
