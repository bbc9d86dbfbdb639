"""``POST /v1/chat/completions`` as OpenAI's clients send it: questions about an ECG that comes as a file part."""

# No postponed annotations here: FastAPI reads them from the functions.
import base64
import binascii
import io
import json
import time
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from gem_lightning.errors import DataError
from gem_lightning.serving import schemas
from gem_lightning.serving.facts import written
from gem_lightning.serving.routes import PROBLEMS, in_thread
from gem_lightning.serving.service import Ask, EcgService, Emit
from gem_lightning.serving.streaming import Event, follow, stream_response
from gem_lightning.serving.uploads import Upload


class TextPart(BaseModel):
    """Text of a message."""

    type: Literal["text"]
    text: str = Field(max_length=2_000)


class FileData(BaseModel):
    """A file in base64, also as a data URL."""

    filename: str = "ecg"
    file_data: str


class FilePart(BaseModel):
    """A file of the recording that the conversation is about."""

    type: Literal["file"]
    file: FileData


class Message(BaseModel):
    """One message; what ``system`` and ``developer`` state does not reach the model."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart | FilePart] | None = None

    @property
    def text(self) -> str:
        """Its text parts, joined."""
        if isinstance(self.content, list):
            return " ".join(part.text for part in self.content if isinstance(part, TextPart)).strip()
        return (self.content or "").strip()

    @property
    def files(self) -> list[FileData]:
        """Its files."""
        return [part.file for part in self.content or () if isinstance(part, FilePart)]


class ChatRequest(BaseModel):
    """A conversation; answers are greedy, so that settings of sampling are accepted and have no effect."""

    model_config = ConfigDict(extra="allow")

    model: str = ""
    messages: list[Message] = Field(min_length=1, max_length=64)
    stream: bool = False
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)


class Answer(BaseModel):
    """The message of the model; ``refusal`` states why a recording is not interpreted."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: str | None


class Choice(BaseModel):
    """The one answer."""

    index: Literal[0] = 0
    message: Answer
    finish_reason: Literal["stop"] = "stop"


class Usage(BaseModel):
    """Tokens of the prompt and of the answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """OpenAI's completion, and the verified interpretation that it holds."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    interpretation: schemas.Interpretation


def chat_router(service: EcgService, threads: Executor) -> APIRouter:
    """Make the route around one service; arguments as for ``api_router``."""
    router = APIRouter(prefix="/v1", responses=PROBLEMS)

    def answer(request: ChatRequest, emit: Emit) -> dict[str, Any]:
        uploads, turns, ask = _conversation(request, service)
        chat = service.converse(uploads, turns, ask, emit, lambda draft: {})  # the completion holds the measurements
        found, (before, after) = chat.turns[-1], chat.usage
        return {
            **_head(service.name),
            "choices": [{"message": {"content": found.text or None, "refusal": found.refused}}],
            "usage": {"prompt_tokens": before, "completion_tokens": after, "total_tokens": before + after},
            "interpretation": written(found),
        }

    streamed: dict[int | str, Any] = {200: {"content": {"text/event-stream": {}}}}

    @router.post("/chat/completions", response_model=Completion, responses=streamed)
    async def complete(request: ChatRequest) -> Any:
        """Questions about one recording, which a user's message holds as parts of type ``file``."""
        if not request.stream:
            return await in_thread(threads, answer, request, lambda kind, data: None)
        events = follow(threads, lambda emit: ("done", answer(request, emit)))
        return _stream(events, _head(service.name))

    return router


def _head(model: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}


def _conversation(request: ChatRequest, service: EcgService) -> tuple[list[Upload], list[tuple[str, str]], Ask]:
    """The recording's files, the earlier turns, and what is asked now.

    Raises:
        DataError: There is no file, or the last message is not the user's.
    """
    uploads = [_decoded(file) for message in request.messages if message.role == "user" for file in message.files]
    if not uploads:
        raise DataError("expected an ECG as a part of a user's message, got none; send {type: file, file: {file_data}}")
    spoken = [message for message in request.messages if message.role in ("user", "assistant")]
    if spoken[-1].role != "user":
        raise DataError("expected a user's message at the end, got the assistant's; ask a question")
    turns, question = [], ""
    for message in spoken:
        if message.role == "user":
            question = f"{question}\n{message.text}".strip()
        else:
            turns.append((question, message.text))
            question = ""
    # a conversation has no several drafts to choose from
    held = {"verify": "report"} if service.options.verify == "rerank" else {}
    most = request.max_completion_tokens or request.max_tokens
    return uploads, turns, replace(service.ask(question, held, {}), max_new_tokens=most)


def _decoded(file: FileData) -> Upload:
    data = file.file_data
    if data.startswith("data:"):
        data = data.partition(",")[2]
    try:
        return Upload(file.filename, io.BytesIO(base64.b64decode(data, validate=True)))
    except (binascii.Error, ValueError):
        raise DataError("expected file_data in base64, got something else; encode the file's bytes") from None


def _stream(events: AsyncIterator[Event], head: dict[str, Any]) -> StreamingResponse:
    """The events as OpenAI's chunks; the last holds the interpretation, too."""

    def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        whole = {**head, "object": "chat.completion.chunk", "choices": [choice], **more}
        return f"data: {json.dumps(whole, ensure_ascii=False)}\n\n"

    async def lines() -> AsyncIterator[str]:
        yield chunk({"role": "assistant", "content": ""})
        async for kind, data in events:
            if kind == "text":
                yield chunk({"content": data["delta"]})
            elif kind == "error":
                error = {"message": data["detail"], "code": data["status"]}
                yield f"data: {json.dumps({'error': error})}\n\n"
            elif kind == "done":
                refusal = data["choices"][0]["message"]["refusal"]
                more = {"usage": data["usage"], "interpretation": data["interpretation"]}
                yield chunk({"refusal": refusal} if refusal else {}, "stop", **more)
        yield "data: [DONE]\n\n"

    return stream_response(lines())
