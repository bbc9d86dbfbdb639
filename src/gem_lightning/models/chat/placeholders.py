"""Markers in conversations: which data belong to which, and the placeholder tokens that they become."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gem_lightning.errors import DataError
from gem_lightning.models.chat.tokens import ECG, ECG_MARKER, IMAGE, IMAGE_MARKER
from gem_lightning.models.configuration_gem import IGNORE_INDEX

_ROLES = {"user": "human", "human": "human", "assistant": "gpt", "gpt": "gpt"}
_MARKER_LINE = re.compile(r"<(?:image|ecg)>\n?")


def read_messages(conversation: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Messages ``{"from", "value"}`` from these or from ``{"role", "content"}``, content a text or a list of parts.

    Raises:
        DataError: There is no message, a role is unknown, or a part is neither text, image nor ECG.
    """
    messages = []
    for message in conversation:
        speaker = _ROLES.get(str(message.get("from", message.get("role"))))
        content = message.get("value", message.get("content"))
        if isinstance(content, (list, tuple)):
            content = "".join(_part(part) for part in content)
        if speaker is None or not isinstance(content, str):
            raise DataError(
                f'expected messages {{"from": "human" or "gpt", "value": text}} or {{"role", "content"}}, '
                f"got {message!r}"
            )
        messages.append({"from": speaker, "value": content})
    if not messages:
        raise DataError("expected a conversation of at least one message, got none")
    return messages


def _part(part: Mapping[str, Any]) -> str:
    kind = part.get("type")
    if kind not in ("text", "image", "ecg"):
        raise DataError(f"expected parts of the type text, image or ecg, got {part!r}")
    return str(part["text"]) if kind == "text" else {"image": f"{IMAGE}\n", "ecg": f"{ECG}\n"}[kind]


def without_markers(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return a conversation whose markers, and the line breaks that end them, are gone."""
    return [{"from": message["from"], "value": _MARKER_LINE.sub("", message["value"])} for message in messages]


def share_out(
    batch: Sequence[list[dict[str, str]]], ecgs: list[Any], images: list[Any]
) -> list[tuple[list[dict[str, str]], list[Any], list[Any]]]:
    """Give each conversation its own data.

    Args:
        batch: Conversations.
        ecgs: One list per conversation, or all in reading order.
        images: Likewise.

    Returns:
        (conversation, its ECGs, its images); a conversation without a marker gets one before its first question when
        the batch holds exactly one of each given modality per conversation and no marker at all.

    Raises:
        DataError: The numbers fit no reading.
    """
    counts = [[sum(m["value"].count(name) for m in messages) for name in (ECG, IMAGE)] for messages in batch]
    if not any(map(any, counts)) and (ecgs or images):
        if any(values and len(values) != len(batch) for values in (ecgs, images)):
            raise DataError(
                f"expected one ECG or image per text without markers, got {len(ecgs)} ECGs and {len(images)} images "
                f"for {len(batch)} texts; put {IMAGE} or {ECG} where each belongs"
            )
        batch = [_with_marker(messages) for messages in batch]
        counts = [[0, 1]] * len(batch)
    own_ecgs = _shares(ecgs, [count[0] or count[1] for count in counts], "ECGs")
    own_images = _shares(images, [count[1] for count in counts], "images")
    return list(zip(batch, own_ecgs, own_images))


def filled_markers(messages: Sequence[Mapping[str, str]], ecgs: Sequence[Any], images: Sequence[Any]) -> list[str]:
    """List the markers that take the place of data: without any ``<ecg>``, an ``<image>`` holds the ECG too."""
    named = any(ECG in message["value"] for message in messages)
    filled = {ECG: named and bool(ecgs), IMAGE: bool(images) or (bool(ecgs) and not named)}
    return [marker for marker, full in filled.items() if full]


def _with_marker(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    first = next((index for index, message in enumerate(messages) if message["from"] == "human"), 0)
    return [
        {**message, "value": f"{IMAGE}\n{message['value']}"} if index == first else message
        for index, message in enumerate(messages)
    ]


def _shares(values: list[Any], wanted: list[int], what: str) -> list[list[Any]]:
    if not values:
        return [[] for _ in wanted]
    if all(isinstance(value, (list, tuple)) for value in values) and len(values) == len(wanted):
        return [list(value) for value in values]
    if len(values) != sum(wanted):
        raise DataError(
            f"expected {sum(wanted)} {what} for the markers of the batch, got {len(values)}; "
            "where some samples have none, pass one list per sample"
        )
    queue = iter(values)
    return [[next(queue) for _ in range(count)] for count in wanted]


def expand_markers(
    ids: Sequence[int],
    labels: Sequence[int],
    ecgs: Sequence[int],
    images: Sequence[int],
    ecg_token_id: int,
    image_token_id: int,
) -> tuple[list[int], list[int]]:
    """Put placeholders where the markers are: the ECG's, then the image's.

    Args:
        ids: Token ids with -200 at each ``<image>`` and -201 at each ``<ecg>``.
        labels: Of the same length.
        ecgs: Number of tokens of each ECG.
        images: Number of tokens of each image.
        ecg_token_id: Placeholder of one ECG token.
        image_token_id: Placeholder of one image token.

    Returns:
        Ids and labels; markers of a modality without data vanish.

    Raises:
        DataError: Markers and data differ in number.
    """
    ids = list(ids)
    image_markers, ecg_markers = ids.count(IMAGE_MARKER), ids.count(ECG_MARKER)
    together = ecg_markers == 0
    for what, given, marks in (("ECGs", ecgs, ecg_markers or image_markers), ("images", images, image_markers)):
        if given and len(given) != marks:
            raise DataError(
                f"expected {what} for {marks} markers, got {len(given)}; put {ECG} or {IMAGE} where each belongs"
            )
    next_ecg, next_image = iter(ecgs), iter(images)
    out: list[int] = []
    targets: list[int] = []
    for token, label in zip(ids, labels, strict=True):
        if token not in (IMAGE_MARKER, ECG_MARKER):
            out.append(token)
            targets.append(label)
            continue
        run: list[int] = []
        if token == ECG_MARKER or together:
            run += [ecg_token_id] * next(next_ecg, 0)
        if token == IMAGE_MARKER:
            run += [image_token_id] * next(next_image, 0)
        out += run
        targets += [IGNORE_INDEX] * len(run)
    return out, targets
