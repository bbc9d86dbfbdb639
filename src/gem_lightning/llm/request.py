"""The body of a chat request, in the shape that an endpoint accepts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from gem_lightning.errors import GemError

logger = logging.getLogger(__name__)

FORMATS = ("json_schema", "json_object", "none")  # each asks less of the endpoint than the one before
_FORMAT_WORDS = ("response_format", "json_schema", "json_object", "schema")


class RequestShape:
    """Begins with all that the protocol offers and gives up what the endpoint refuses.

    Many requests are on the way at once and are refused for the same thing: what counts is what the refused one held.

    Args:
        model: The endpoint's name of the model.
        temperature: Of sampling.
        structured: How a schema is sent: one of :data:`FORMATS`, or ``auto`` for the first that is accepted.
        extra: Further fields.

    Raises:
        GemError: ``structured`` is none of these.
    """

    def __init__(self, model: str, temperature: float, structured: str, extra: Mapping[str, Any]) -> None:
        if structured not in (*FORMATS, "auto"):
            raise GemError(f"expected structured among auto, {', '.join(FORMATS)}, got {structured!r}")
        self.model, self.extra = model, extra
        self._temperature: float | None = temperature
        self._length = "max_tokens"
        self._format, self._fixed = (FORMATS[0], False) if structured == "auto" else (structured, True)

    def body(self, messages: list[dict[str, Any]], schema: dict[str, Any] | None, length: int) -> dict[str, Any]:
        """The request as JSON: at most ``length`` tokens of answer, after ``schema`` where there is one."""
        body = {"model": self.model, "messages": messages, self._length: length, **self.extra}
        if self._temperature is not None:
            body["temperature"] = self._temperature
        if schema is not None and self._format == "json_schema":
            named = {"name": schema.get("title", "answer"), "schema": schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        elif schema is not None and self._format == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    def adapts(self, told: str, refused: Mapping[str, Any]) -> bool:
        """Give up what a refusal names; what ``extra`` sets is sent as it is, and is not given up.

        Args:
            told: The endpoint's words.
            refused: The body that it refused.

        Returns:
            Whether the request can be sent again in another shape.
        """
        lower = told.lower()
        if "max_completion_tokens" in lower and "max_tokens" in refused and "max_tokens" not in self.extra:
            self._length = "max_completion_tokens"
            return True
        if "temperature" in lower and "temperature" in refused and "temperature" not in self.extra:
            if self._temperature is not None:
                logger.warning("%s accepts no temperature: its answers are not the most likely ones", self.model)
            self._temperature = None
            return True
        if "response_format" in self.extra:
            return False
        asked = refused.get("response_format", {}).get("type")
        if self._fixed or asked not in FORMATS or not any(word in lower for word in _FORMAT_WORDS):
            return False
        weaker = FORMATS[FORMATS.index(asked) + 1]
        self._format = max(self._format, weaker, key=FORMATS.index)
        return True
