"""Chat messages with pictures, as OpenAI-compatible endpoints take them."""

from __future__ import annotations

import base64
import io
import os
import pathlib
from collections.abc import Iterable
from typing import Any


def with_images(messages: list[dict[str, Any]], images: Iterable[Any]) -> list[dict[str, Any]]:
    """The messages with pictures (bytes, path or uint8 (H, W, 3)) added to the last user message as data URLs."""
    parts = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in images]
    if not parts:
        return messages
    last = max(i for i, message in enumerate(messages) if message["role"] == "user")
    content = messages[last]["content"]
    words = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
    return [*messages[:last], messages[last] | {"content": words + parts}, *messages[last + 1 :]]


def data_url(image: Any) -> str:
    """A picture as a ``data:`` URL; arrays are encoded as PNG."""
    if isinstance(image, (str, os.PathLike)):
        image = pathlib.Path(image).read_bytes()
    if not isinstance(image, bytes):
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="PNG")
        image = buffer.getvalue()
    kind = "jpeg" if image[:2] == b"\xff\xd8" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
