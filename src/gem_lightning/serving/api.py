"""The HTTP application: ECG files in; the checked interpretation out, as a page or as JSON."""

# No postponed annotations here: FastAPI reads them from the functions.
import tempfile
import threading
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, UploadFile
from fastapi.responses import HTMLResponse

from gem_lightning.ecg import EcgRecord, read_ecg
from gem_lightning.ecg.listing import list_records
from gem_lightning.errors import GemError
from gem_lightning.present.html import environment, interpretation_html, style_sheet


def build_app(gem: Any, name: str = "", max_upload_mb: int = 50) -> FastAPI:
    """An application around one loaded model.

    Routes: ``GET /`` the upload page; ``POST /report`` the page of one record; ``POST /interpret`` the same as JSON.
    A record of several files (WFDB's header and signal) is uploaded in one request.

    Args:
        gem: A ``Gem``; used by one request at a time.
        name: Of the model, for the pages' footer.
        max_upload_mb: Largest upload, MB.
    """
    app = FastAPI(title="gem-lightning", description="Research software, not a medical device.")
    one_at_a_time = threading.Lock()

    def interpret(files: list[UploadFile], question: str | None) -> tuple[EcgRecord, Any]:
        with tempfile.TemporaryDirectory() as folder:
            path = store_upload(files, Path(folder), max_upload_mb)
            try:
                record = read_ecg(path)
                with one_at_a_time:
                    return record, gem.interpret(path, question=question or None)
            except GemError as error:
                raise HTTPException(422, str(error)) from None

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        return environment().get_template("upload.html.jinja").render(style=style_sheet(), model=name)

    @app.post("/report", response_class=HTMLResponse)
    def report(files: list[UploadFile], question: str = "") -> str:
        record, found = interpret(files, question)
        return interpretation_html(found.text, found.claims, found.features, None, record, provenance=f"model {name}")

    @app.post("/interpret")
    def interpret_json(files: list[UploadFile], question: str = "") -> dict[str, Any]:
        _, found = interpret(files, question)
        return {"text": found.text, "claims": found.claims.to_dict(), "features": found.features.to_dict()}

    return app


def store_upload(files: list[UploadFile], folder: Path, max_upload_mb: int) -> Path:
    """Write an upload's files into ``folder``; the one to read is returned.

    Raises:
        HTTPException: 413 for too large an upload, 422 for several recordings or a name that no file can have.
    """
    size = 0
    for file in files:
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
