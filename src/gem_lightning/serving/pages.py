"""The upload page, and errors on it for people; programs get JSON."""

# No postponed annotations here: FastAPI reads them from the functions.
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from gem_lightning.reporting.html import environment, style_sheet
from gem_lightning.samples.sample import DEFAULT_QUESTION


def upload_page(model: str, error: str = "") -> str:
    """The page that takes a recording, with an error above its form where there is one."""
    facts = {"style": style_sheet(), "model": model, "usual": DEFAULT_QUESTION, "error": error}
    return str(environment().get_template("upload.html.jinja").render(**facts))


def page_router(model: str) -> APIRouter:
    """Make the route of the upload page."""
    router = APIRouter(include_in_schema=False)

    @router.get("/", response_class=HTMLResponse)
    def page() -> str:
        return upload_page(model)

    return router


def is_browser(request: Request) -> bool:
    """Whether the client is a browser: programs do not accept HTML."""
    return "text/html" in request.headers.get("accept", "")
