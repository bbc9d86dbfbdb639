"""The HTTP application: routes, limits, security, metrics and documentation around one model."""

# No postponed annotations here: FastAPI reads them from the functions.
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from gem_lightning import __version__
from gem_lightning.errors import GemError
from gem_lightning.revision.options import VerifyOptions
from gem_lightning.serving import schemas
from gem_lightning.serving.chat import chat_router
from gem_lightning.serving.docs_page import docs_page
from gem_lightning.serving.limits import BodyLimit, Limits, RateLimit, RequestLimit, in_fields, problem
from gem_lightning.serving.observe import AccessLog, Metrics
from gem_lightning.serving.pages import is_browser, page, page_router
from gem_lightning.serving.routes import api_router, digitize_router
from gem_lightning.serving.security import BearerCheck, OriginCheck, SecurityHeaders
from gem_lightning.serving.service import EcgService

if TYPE_CHECKING:
    from gem_lightning.models.gem import Gem


def build_app(
    gem: "Gem",
    name: str = "",
    options: VerifyOptions | None = None,
    limits: Limits | None = None,
    tokens: Sequence[str] = (),
    trusted_hosts: Sequence[str] = ("*",),
    max_new_tokens: int = 512,
    batch_size: int = 32,
    workers: int = 0,
) -> FastAPI:
    """Build the application around one loaded model; its :class:`EcgService` is ``app.state.service``.

    Args:
        gem: The model.
        name: Of the model, for pages and ``/v1/models``.
        options: How texts are held to the measurements, by default ``revise`` with ``complete``; a request may choose
            another way.
        limits: Sizes and numbers of requests; None takes the usual ones.
        tokens: Bearer tokens, one of which ``/v1/`` asks for; empty for none.
        trusted_hosts: Names under which the server is reached; others get 400.
        max_new_tokens: Longest answer.
        batch_size: Most requests that the model answers together.
        workers: Processes that read and measure, see :class:`EcgService`.
    """
    service = EcgService(gem, name, options, max_new_tokens, batch_size, workers)
    limits = limits or Limits()
    threads = ThreadPoolExecutor(limits.max_requests, thread_name_prefix="request")
    metrics = Metrics(service.queue)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()
        threads.shutdown(wait=False, cancel_futures=True)

    # FastAPI's own documentation pages load scripts from a CDN; this application makes no external request.
    app = FastAPI(
        title="gem-lightning",
        version=__version__,
        description="12-lead ECG interpretation. Research software, not a medical device.",
        docs_url=None,
        redoc_url=None,
        lifespan=life,
        middleware=_middleware(metrics, limits, service, tokens, trusted_hosts),
    )
    app.state.service, app.state.threads = service, threads
    # for OpenAPI alone: BearerCheck refuses before a body is read
    secured = [Security(HTTPBearer(auto_error=False))] if tokens else []
    for make in (api_router, digitize_router, chat_router):
        app.include_router(make(service, threads), dependencies=secured)
    app.include_router(page_router(service, threads, limits.max_upload_mb))
    _add_operation(app, service, metrics)
    _add_errors(app, service.name)
    return app


def _middleware(
    metrics: Metrics, limits: Limits, service: EcgService, tokens: Sequence[str], hosts: Sequence[str]
) -> list[Middleware]:
    """What a request passes before its route, the first first."""
    found = [
        Middleware(SecurityHeaders),
        Middleware(AccessLog, metrics=metrics),
        Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
        Middleware(OriginCheck),
    ]
    if tokens:
        found.append(Middleware(BearerCheck, tokens=tokens))
    if limits.requests_per_minute:
        found.append(Middleware(RateLimit, per_minute=limits.requests_per_minute))
    return [
        *found,
        Middleware(BodyLimit, max_bytes=limits.max_upload_mb * 1_000_000),
        Middleware(RequestLimit, most=limits.max_requests, retry_after_s=lambda: service.queue.retry_after_s),
    ]


def _add_operation(app: FastAPI, service: EcgService, metrics: Metrics) -> None:
    """Routes for those who run the server, and the documentation."""

    @app.get("/healthz", response_model=schemas.Health)
    async def health() -> Any:
        """Whether the server answers."""
        return {"version": app.version, "model": service.name}

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def show_metrics() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> str:
        return docs_page(app.openapi())


def _add_errors(app: FastAPI, model: str) -> None:
    """One sentence for every error: as JSON, for browsers on the upload page."""

    def answer(request: Request, status: int, detail: str, headers: Any = None) -> Response:
        if is_browser(request):
            return HTMLResponse(page(model, detail, path=request.url.path), status, headers)
        return problem(status, detail, headers)

    @app.exception_handler(GemError)
    async def unusable(request: Request, error: GemError) -> Response:
        return answer(request, 422, in_fields(str(error)))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        # the parser of forms says 400 for what is no form
        return answer(request, 422 if error.status_code == 400 else error.status_code, error.detail, error.headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in error.errors()[:5])
        return answer(request, 422, f"expected a file and valid fields, got {faults}")
