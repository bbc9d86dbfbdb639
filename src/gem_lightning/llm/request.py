"""Bodies of chat requests: messages with images, and the fields that an endpoint accepts."""

from __future__ import annotations

import base64
import io
import logging
import os
import pathlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gem_lightning.errors import GemError

logger = logging.getLogger(__name__)

FORMATS = ("json_schema", "json_object", "none")  # each demands less of the endpoint than the one before
_FORMAT_TERMS = ("response_format", "json_schema", "json_object", "schema")


@dataclass(frozen=True)
class Sampling:
    """How the model answers.

    Args:
        temperature: Sampling temperature; 0 for judges.
        max_tokens: Maximum answer length, tokens.
        structured: How a schema is sent: ``json_schema``, ``json_object``, ``none``, or ``auto`` (the first of these
            that the endpoint accepts).
        extra: Further fields of the request body.
    """

    temperature: float = 0.0
    max_tokens: int = 2048
    structured: str = "auto"
    extra: dict[str, Any] | None = None


class RequestShape:
    """Request fields, reduced step by step to those that the endpoint accepts.

    Many requests are in flight at once and are refused for the same field: the fields of the refused body decide.

    Args:
        model: Model name at the endpoint.
        sampling: Requested fields; those of ``extra`` are sent unchanged.

    Raises:
        GemError: ``sampling.structured`` is unknown.
    """

    def __init__(self, model: str, sampling: Sampling) -> None:
        structured = sampling.structured
        if structured not in (*FORMATS, "auto"):
            raise GemError(f"expected structured among auto, {', '.join(FORMATS)}, got {structured!r}")
        self.model, self.extra = model, dict(sampling.extra or {})
        self._temperature: float | None = sampling.temperature
        self._length = "max_tokens"
        self._format, self._fixed = (FORMATS[0], False) if structured == "auto" else (structured, True)

    def body(self, messages: list[dict[str, Any]], schema: dict[str, Any] | None, length: int) -> dict[str, Any]:
        """Return the request body for an answer of at most ``length`` tokens, following ``schema`` where given."""
        body = {"model": self.model, "messages": messages, self._length: length, **self.extra}
        if self._temperature is not None:
            body["temperature"] = self._temperature
        if schema is not None and self._format == "json_schema":
            named = {"name": schema.get("title", "answer"), "schema": schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        elif schema is not None and self._format == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    def adapt(self, message: str, refused: Mapping[str, Any]) -> bool:
        """Drop or weaken the field that a refusal names, unless ``extra`` sets it.

        Args:
            message: The endpoint's error message.
            refused: Body that it refused.

        Returns:
            Whether the request can be sent again with another body.
        """
        lower = message.lower()
        if "max_completion_tokens" in lower and "max_tokens" in refused and "max_tokens" not in self.extra:
            self._length = "max_completion_tokens"
            return True
        if "temperature" in lower and "temperature" in refused and "temperature" not in self.extra:
            if self._temperature is not None:
                logger.warning("%s accepts no temperature: its answers are sampled", self.model)
            self._temperature = None
            return True
        if "response_format" in self.extra:
            return False
        used = refused.get("response_format", {}).get("type")
        if self._fixed or used not in FORMATS or not any(term in lower for term in _FORMAT_TERMS):
            return False
        weaker = FORMATS[FORMATS.index(used) + 1]
        self._format = max(self._format, weaker, key=FORMATS.index)
        return True


def with_images(messages: list[dict[str, Any]], images: Iterable[Any]) -> list[dict[str, Any]]:
    """Add images (bytes, path or uint8 (H, W, 3)) to the last user message as data URLs."""
    parts = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in images]
    if not parts:
        return messages
    last = max(i for i, message in enumerate(messages) if message["role"] == "user")
    content = messages[last]["content"]
    text = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
    return [*messages[:last], messages[last] | {"content": text + parts}, *messages[last + 1 :]]


def data_url(image: Any) -> str:
    """Return an image as a ``data:`` URL; arrays are encoded as PNG."""
    if isinstance(image, (str, os.PathLike)):
        image = pathlib.Path(image).read_bytes()
    if not isinstance(image, bytes):
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="PNG")
        image = buffer.getvalue()
    kind = "jpeg" if image[:2] == b"\xff\xd8" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
