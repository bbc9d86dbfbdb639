"""Conversations as token ids and labels: the formats of published models, or a tokenizer's own chat template."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gem_lightning.errors import DataError
from gem_lightning.models.chat.tokens import ECG, IMAGE, MARKERS, SPLIT, Piece, encode_pieces, encode_whole

TEMPLATE = "template"
Message = Mapping[str, str]


@dataclass(frozen=True)
class ChatFormat:
    """Texts around the turns of a conversation; see ``chat_formats.yaml`` for the fields."""

    user: Sequence[str]
    assistant: Sequence[str]
    generation: str
    prefix: str = ""
    first_user: str | None = None
    open: Sequence[str] | None = None
    suffix: str = ""
    tokens: str = "whole"
    image: str = IMAGE
    start: str = "human"
    captions: bool = False
    masks: str | None = None
    remembers: bool = True

    def pieces(self, conversation: Sequence[Message], generate: bool = False) -> list[Piece]:
        """Return the prompt of a conversation.

        Args:
            conversation: Messages ``{"from": "human" | "gpt", "value": text}``.
            generate: End with the start of an answer.

        Returns:
            Pieces whose texts in a row are the prompt.
        """
        messages = list(conversation)
        if self.start == "human":
            while messages and messages[0]["from"] != "human":
                messages.pop(0)
        found = [Piece(self.prefix)]
        for index, message in enumerate(messages):
            found += self._turn(message, first=index == 0, caption=self.captions and not generate)
        return [*found, Piece(self.generation if generate else self.suffix)]

    def _turn(self, message: Message, first: bool, caption: bool) -> list[Piece]:
        value, human = message["value"], message["from"] == "human"
        if human and caption:
            return [Piece("".join(part for part in SPLIT.split(value) if part in MARKERS), markers=True)]
        if not value and self.open is not None:
            return [Piece(self.open[0] if human else self.open[1])]
        if human:
            before = self.first_user if first and self.first_user is not None else self.user[0]
            return [Piece(before), Piece(value, markers=True), Piece(self.user[1])]
        header, lead, end = self.assistant
        answer = Piece(value, learnt=True, markers=True)
        return [Piece(header), Piece(lead, learnt=True), answer, Piece(end, learnt=True)]


@cache
def chat_formats() -> dict[str, ChatFormat]:
    """Return every named format."""
    text = Path(__file__).with_name("chat_formats.yaml").read_text(encoding="utf-8")
    return {name: ChatFormat(**content) for name, content in yaml.safe_load(text).items()}


def chat_format(chat: str | ChatFormat | Mapping[str, Any]) -> ChatFormat:
    """Return a format by its name, its fields, or itself.

    Raises:
        DataError: There is no such format, or a field is unknown.
    """
    if isinstance(chat, ChatFormat):
        return chat
    if isinstance(chat, Mapping):
        unknown = chat.keys() - {field.name for field in fields(ChatFormat)}
        if unknown:
            raise DataError(f"expected the fields of ChatFormat, got {sorted(unknown)} too; see chat_formats.yaml")
        return ChatFormat(**chat)
    if chat not in chat_formats():
        raise DataError(f"expected a chat format of {[TEMPLATE, *chat_formats()]}, got {chat!r}")
    return chat_formats()[chat]


def plain_chat(chat: str | ChatFormat | Mapping[str, Any]) -> str | dict[str, Any]:
    """Return a format as JSON can hold it."""
    return asdict(chat) if isinstance(chat, ChatFormat) else chat if isinstance(chat, str) else dict(chat)


def place_markers(
    conversation: Sequence[Message],
    chat: str | ChatFormat | Mapping[str, Any],
    around: Mapping[str, Sequence[str]] | None = None,
) -> list[dict[str, str]]:
    """Conversation with the marker of a message's only image at its front, as the published models were trained.

    A message with several markers, or with ``<ecg>``, keeps each at its own place; ``around`` holds, by marker, the
    tokens before and after it.
    """
    image = IMAGE if chat == TEMPLATE else chat_format(chat).image
    placed = []
    for message in conversation:
        value = message["value"]
        if value.count(IMAGE) == 1 and ECG not in value:
            value = f"{IMAGE}\n{value.replace(IMAGE, '').strip()}".strip()
        value = value.replace(IMAGE, image)
        for marker, (start, end) in (around or {}).items():
            value = value.replace(marker, start + marker + end)
        placed.append({"from": message["from"], "value": value})
    return placed


def tokenize_conversation(
    conversation: Sequence[Message],
    tokenizer: Any,
    chat: str | ChatFormat | Mapping[str, Any] = "llava_v1",
    legacy_masks: bool = False,
    max_length: int | None = None,
    has_image: bool = True,
    generate: bool = False,
    around: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, list[int]]:
    """Token ids and labels of a conversation.

    Args:
        conversation: Messages ``{"from": "human" | "gpt", "value": text}``; ``<image>`` and ``<ecg>`` in a text are
            markers.
        tokenizer: A tokenizer of transformers; a fast one unless the format is tokenized in pieces.
        chat: Name of a format, a :class:`ChatFormat` or its fields, or ``template`` for the tokenizer's own.
        legacy_masks: Mask the labels as the original does, faults included (``legacy.py`` lists them). By
            default the labels are the answers with what ends them, whatever their texts contain.
        max_length: Cut text-only conversations here, as the original does; conversations with markers are cut only
            after expansion. None means the tokenizer's own limit.
        has_image: Markers mean something; False leaves them as text.
        generate: End with the start of an answer.
        around: Tokens before and after a marker, by marker, as LLaVA's ``mm_use_im_start_end`` writes them.

    Returns:
        ``input_ids`` with -200 at each ``<image>`` and -201 at each ``<ecg>``, and ``labels`` of the same length.

    Raises:
        DataError: The format is unknown, a speaker is unknown, or the conversation breaks a rule of the format.
    """
    for message in conversation:
        if message.get("from") not in ("human", "gpt") or not isinstance(message.get("value"), str):
            raise DataError(f'expected messages {{"from": "human" or "gpt", "value": text}}, got {message!r}')
    # the original's rule for captions does not look at the flag
    has_image = has_image or (chat != TEMPLATE and chat_format(chat).captions)
    messages = place_markers(conversation, chat, around) if has_image else list(conversation)
    limit = max_length if max_length is not None else getattr(tokenizer, "model_max_length", None)
    if chat == TEMPLATE:
        ids, labels = encode_whole(template_pieces(messages, tokenizer, generate), tokenizer, has_image, False)
    else:
        style = chat_format(chat)
        pieces = style.pieces(messages, generate)
        encode = encode_pieces if style.tokens == "pieces" else encode_whole
        ids, labels = encode(pieces, tokenizer, has_image)
        if legacy_masks:
            from gem_lightning.models.chat.legacy import legacy_labels

            labels = legacy_labels(style, messages, pieces, ids, tokenizer, has_image, limit)
    if not has_image and limit is not None and not (chat != TEMPLATE and chat_format(chat).tokens == "pieces"):
        ids, labels = ids[:limit], labels[:limit]
    return {"input_ids": ids, "labels": labels}


def template_pieces(conversation: Sequence[Message], tokenizer: Any, generate: bool = False) -> list[Piece]:
    """Render a conversation with the tokenizer's own chat template; answers and their end tokens are learned.

    Raises:
        DataError: The tokenizer has no template, or its template hides an answer.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise DataError(
            "expected a tokenizer with a chat template, got one without; name a format, for example chat='llava_v1'"
        )
    # Answers stand in by signs that no template touches, so that their places in the text are known exactly
    signs = {f"\ue000{index}\ue001": message for index, message in enumerate(conversation)}
    messages = [
        {"role": "user" if message["from"] == "human" else "assistant", "content": sign}
        for sign, message in signs.items()
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate)
    ends = sorted(map(re.escape, {tokenizer.eos_token, *tokenizer.all_special_tokens} - {None, ""}), key=len)
    ending = re.compile(rf"\s*(?:{'|'.join(reversed(ends))})") if ends else None
    found: list[Piece] = []
    for sign, message in signs.items():
        before, shown, text = text.partition(sign)
        if not shown:
            raise DataError("expected a chat template that shows every message once, got one that drops or moves some")
        learnt = message["from"] == "gpt"
        found += [Piece(before), Piece(message["value"], learnt=learnt, markers=True)]
        end = ending.match(text) if learnt and ending else None
        if end:
            found.append(Piece(end.group(), learnt=True))
            text = text[end.end() :]
    return [*found, Piece(text)]
