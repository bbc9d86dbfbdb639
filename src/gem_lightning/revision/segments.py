"""Sentences of a text while it grows: consecutive slices that together are the text."""

from __future__ import annotations

import re

from gem_lightning.claims.parser.tokenize import sentences

#: An end that no decimal, abbreviation or initial can be: a mark after three letters or more, a unit or a bracket.
_SURE_END = re.compile(r"(?:[^\W\d_]{3,}|\b(?:ms|mV|mm)|[)\]°%])[.!?]$|\n$")
_BULLET = re.compile(r"\s*(?:[-*•‣–]\s+|\(?\d{1,2}[.)]\s+)?")


def segments(text: str) -> list[str]:
    """Cut a text into sentences as the verification reads them; clauses of one sentence stay together.

    Returns:
        Slices whose concatenation is ``text``; white space belongs to the sentence after it.
    """
    starts = [start for start, _ in sentences(text)]
    cuts = [0]
    for start in starts[1:]:
        before = text[cuts[-1] : start]
        # a semicolon ends a clause only, and "1." or a bare bullet is no sentence
        if before.rstrip(" ").endswith(";") or not any(char.isalpha() for char in before):
            continue
        cuts.append(start)
    pieces = [text[a:b] for a, b in zip(cuts, [*cuts[1:], len(text)])]
    return _with_leading_space([piece for piece in pieces if piece])


def _with_leading_space(pieces: list[str]) -> list[str]:
    """Move blanks at the end of a sentence to the start of the next; a line break ends its sentence."""
    moved: list[str] = []
    carried = ""
    for piece in pieces:
        whole = carried + piece
        body = whole.rstrip(" \t")
        carried = whole[len(body) :]
        if body:
            moved.append(body)
    if carried and moved:
        moved[-1] += carried
    return moved


def finished(text: str, last: bool = False) -> tuple[str, str] | None:
    """Split the first finished sentence off a growing text.

    Args:
        text: What has been written and not yet been split off.
        last: Nothing will follow.

    Returns:
        The sentence and what follows it; None while it may go on.
    """
    pieces = segments(text)
    if len(pieces) > 1 and pieces[1].strip():
        return pieces[0], text[len(pieces[0]) :]
    if last and text:
        return text, ""
    if text.strip() and _SURE_END.search(text) and any(char.isalpha() for char in text):
        return text, ""
    return None


def frame(sentence: str) -> tuple[str, str, str]:
    """Split a sentence into white space with bullet, its body, and white space behind."""
    head = _BULLET.match(sentence)
    assert head is not None
    body = sentence[head.end() :]
    stripped = body.rstrip()
    return head.group(), stripped, body[len(stripped) :]
