"""Label masks as the original makes them, for comparison with published training runs.

The rules count tokens of the prompt cut at separators, so texts that hold a separator, an empty answer, and tokenizers
that join tokens across a cut make the counts disagree; then every label of the conversation is lost. Qwen's rule also
learns role names, the MPT rule loses nearly every conversation, v0 learns headers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gem_lightning.errors import DataError
from gem_lightning.models.chat.tokens import Piece, encode_pieces, encode_whole
from gem_lightning.models.configuration_gem import IGNORE_INDEX

Count = Callable[[str], int]


def legacy_labels(
    style: Any,
    messages: Sequence[Any],
    pieces: Sequence[Piece],
    ids: list[int],
    tokenizer: Any,
    has_image: bool,
    limit: int | None,
) -> list[int]:
    """Labels of a conversation by the original's rule for its format.

    Args:
        style: The conversation's :class:`gem_lightning.models.chat.formats.ChatFormat`.
        messages: Its messages, markers placed.
        pieces: Its prompt.
        ids: The prompt's token ids, -200 at markers.
        tokenizer: The tokenizer.
        has_image: Markers mean something.
        limit: Length at which the original cuts text-only conversations, tokens.

    Raises:
        DataError: The original refuses such a conversation, or the format is not one of the original's.
    """
    if style.masks not in RULES:
        raise DataError("expected a format of the original for legacy_masks, got another; use legacy_masks=False")
    limit = limit or 2**31

    def count(text: str) -> int:
        return len(encode_whole([Piece(text, markers=True)], tokenizer, has_image)[0])

    if not has_image and style.masks != "qwen":
        ids = ids[:limit]
    kept = messages if style.start == "any" else _from_first_question(messages)
    return RULES[style.masks](style, kept, pieces, list(ids), tokenizer, has_image, limit, count)


def _from_first_question(messages: Sequence[Any]) -> list[Any]:
    """Messages from the first, or the second where the first is an answer; speakers must take turns."""
    kept = list(messages[1:] if messages and messages[0]["from"] != "human" else messages)
    if [message["from"] for message in kept] != ["human", "gpt"] * (len(kept) // 2) + ["human"] * (len(kept) % 2):
        raise DataError("expected questions and answers in turn, got two of one speaker; use legacy_masks=False")
    return kept


def _by_rounds(
    rounds: Sequence[str], separator: str, ids: list[int], count: Count, first: int, borrowed: int, shift: int,
    limit: int, padding: int | None,
) -> list[int]:  # fmt: skip
    """Mask each round up to its answer, by counting tokens of the cut text.

    Args:
        rounds: The prompt, cut after each answer.
        separator: What ends the question's part of a round.
        ids: Token ids; they become the labels.
        count: Tokens of a text.
        first: Tokens before the first round.
        borrowed: Tokens of the question's part that are not masked.
        shift: Added to both counts from the second round on.
        limit: Above this length a wrong count is not noticed.
        padding: Id that does not count as a token.
    """
    total = sum(token != padding for token in ids)
    position = first
    labels = [IGNORE_INDEX] * first + ids[first:]
    for index, text in enumerate(rounds):
        parts = text.split(separator)
        if text == "" or len(parts) != 2:
            break
        length, question = count(text), count(parts[0] + separator) - borrowed
        if index:
            length, question = length + shift, question + shift
        end = min(position + question, len(labels))
        labels[position:end] = [IGNORE_INDEX] * max(0, end - position)
        position += length
    labels[position:] = [IGNORE_INDEX] * len(labels[position:])
    return [IGNORE_INDEX] * len(labels) if position < limit and position != total else labels


def _v1(style, messages, pieces, ids, tokenizer, has_image, limit, count):  # type: ignore[no-untyped-def]
    text = "".join(piece.text for piece in pieces)
    shift = 0 if getattr(tokenizer, "legacy", False) else -1
    separator = style.user[1] + style.assistant[0] + style.assistant[1]
    return _by_rounds(text.split(style.assistant[2]), separator, ids, count, 1, 2, shift, limit, tokenizer.pad_token_id)


def _llama_2(style, messages, pieces, ids, tokenizer, has_image, limit, count):  # type: ignore[no-untyped-def]
    if not messages or not messages[0]["value"]:
        raise DataError("expected a first question with text, got an empty one; use legacy_masks=False")
    text = "".join(piece.text for piece in pieces)
    rounds = text.split(style.assistant[2].strip())
    return _by_rounds(rounds, "[/INST] ", ids, count, 1, 2, 0, limit, tokenizer.pad_token_id)


def _mpt(style, messages, pieces, ids, tokenizer, has_image, limit, count):  # type: ignore[no-untyped-def]
    end = style.assistant[2]
    parts = "".join(piece.text for piece in pieces).split(end)
    rounds = [end.join(parts[:3])] + [end.join(parts[at : at + 2]) for at in range(3, len(parts), 2)]
    shift = int(bool(getattr(tokenizer, "legacy", False)))
    return _by_rounds(rounds, end + style.assistant[0], ids, count, 0, 1, shift, limit, tokenizer.pad_token_id)


def _qwen(style, messages, pieces, ids, tokenizer, has_image, limit, count):  # type: ignore[no-untyped-def]
    # The newline is the id 198 of Qwen2's vocabulary, whatever the tokenizer
    always = {198, *tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])}
    labels: list[int] = []
    answer = False
    for piece in pieces:
        answer = piece.text == style.assistant[0] or (answer and piece.text != style.user[0])
        new = encode_pieces([piece], tokenizer, has_image)[0]
        labels += new if answer else [token if token in always else IGNORE_INDEX for token in new]
    return labels


def _plain(style, messages, pieces, ids, tokenizer, has_image, limit, count):  # type: ignore[no-untyped-def]
    if len(messages) != 2 or "<image>" not in messages[0]["value"]:
        raise DataError("expected one question with <image> and one answer, got others; use legacy_masks=False")
    first = count("<image>")
    return [IGNORE_INDEX] * first + ids[first:]


def _v0(style, messages, pieces, ids, tokenizer, has_image, limit, count):  # type: ignore[no-untyped-def]
    position = count(style.prefix)
    labels = [IGNORE_INDEX] * position + ids[position:]
    for message in messages:
        before, after = style.user if message["from"] == "human" else ("".join(style.assistant[:2]), style.assistant[2])
        length = count(before + message["value"] + after)
        length = length if has_image else min(length, limit)
        if message["from"] == "human":
            labels[position + 2 : position + length] = [IGNORE_INDEX] * len(labels[position + 2 : position + length])
        position += length
    return labels


RULES: dict[str, Callable[..., list[int]]] = {
    "v1": _v1,
    "llama_2": _llama_2,
    "mpt": _mpt,
    "qwen": _qwen,
    "plain": _plain,
    "v0": _v0,
}
