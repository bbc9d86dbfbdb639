"""Text to items: sentences, and in each the words of the lexicon, numbers and punctuation, with their places."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from gem_lightning.claims.parser.lexicon import END, SPELLING, TOKEN, Entry, Lexicon

#: Words of one sentence beyond which it is no clinical sentence; it is skipped.
MAX_TOKENS = 1_500
_WRAPPED_LINE = 60

_SENTENCE_END = re.compile(r"[.;!?\n](?:(?<=\.)(?=\s|$|[A-Z\"')])|(?<=[;!\n])|(?<=\?)(?=\s|$))")
_SHORT_FORM = re.compile(r"(?:\b(?:e\.g|i\.e|vs|ca|approx|incl|resp|max|min|vent|Dr|freq))$", re.IGNORECASE)
_SINGLES = frozenset("pqrst")
_SECOND = Entry("U", "s")
_MARKS = {"(": "(", "[": "(", "{": "(", ")": ")", "]": ")", "}": ")", ",": ",", "/": "/", "-": "-", "+": "+", "?": "?"}
_MARKS |= {":": "equals", "=": "equals", "&": "and", "|": ",", "•": ",", "*": ",", "→": "to", "~": "approx"}


class Item(NamedTuple):
    """One meaningful piece of a sentence.

    Attributes:
        kind: ``Q`` quantity, ``A`` property, ``F`` finding, ``L`` lead or group, ``N`` number, ``U`` unit, or the name
            of a word class of the lexicon, or a punctuation mark.
        data: Depends on the kind.
        start: First character, in the sentence.
        end: One past the last character.
        gap: Words skipped between the item before and this one.
        text: The words or digits themselves, in lower case; empty for what is merged from several items.
    """

    kind: str
    data: Any
    start: int
    end: int
    gap: int = 0
    text: str = ""


def sentences(text: str) -> Iterator[tuple[int, str]]:
    """(start, text) of each sentence; ``;``, line ends and question marks end one, a wrapped line does not."""
    start = 0
    for match in _SENTENCE_END.finditer(text):
        end = match.end()
        mark = text[end - 1]
        if mark == "\n" and _is_wrapped(text, start, end - 1):
            continue
        if mark == "." and text[end - 2 : end - 1].isalpha() and _SHORT_FORM.search(text, max(0, end - 8), end - 1):
            continue
        if mark == "?" and not (end > 1 and (text[end - 2].isalnum() or text[end - 2] == ")")):
            continue
        if end - start > 1:
            yield start, text[start:end]
        start = end
    if start < len(text):
        yield start, text[start:]


_CONNECTS = re.compile(
    r"(?:,|\b(?:in|and|of|or|the|to|with|lead|leads|no|than|about|is|are|at|from))\s*$", re.IGNORECASE
)


def _is_wrapped(text: str, start: int, newline: int) -> bool:
    """A line end inside a sentence: the line leaves something open, or is long and the next begins in lower case."""
    line = max(start, text.rfind("\n", start, newline) + 1)
    after = text[newline + 1 : newline + 40].lstrip(" \t")
    if not after or after[0] in "\n-*•":
        return False
    if _CONNECTS.search(text, max(line, newline - 12), newline):
        return True
    return newline - line >= _WRAPPED_LINE and after[0].islower()


def scan(sentence: str, words: Lexicon) -> list[Item]:
    """The items of one sentence; unknown words are left out and counted."""
    plain = sentence.translate(SPELLING)
    lower = plain.lower()
    if len(lower) != len(plain):  # some capitals grow in lower case: keep places right
        lower = "".join(c.lower() if len(c.lower()) == 1 else c for c in plain)
    spans = [match.span() for match in TOKEN.finditer(lower) if not match.group().isspace()]
    if len(spans) > MAX_TOKENS:
        return []
    tokens = [lower[a:b] for a, b in spans]
    items: list[Item] = []
    gap, i, count = 0, 0, len(tokens)
    while i < count:
        token = tokens[i]
        root = words[token]
        if root is not None:
            entry, after = _longest(root, tokens, i + 1, words)
            if entry is not None and entry.kind == "Q" and token in _SINGLES and after == i + 1:
                entry = entry if _is_wave_letter(plain[spans[i][0]], tokens, i) else _SECOND if token == "s" else None
            if entry is not None and token == "i" and after == i + 1 and not _is_lead_one(tokens, i, words):
                entry = None
            if entry is not None:
                if entry.kind == "fused":
                    a, b = spans[i]
                    items += [
                        Item("Q", entry.data[0], a, a + 1, gap, token[:1]),
                        Item("L", entry.data[1], a + 1, b, 0, token[1:]),
                    ]
                elif entry.kind != "the":
                    a, b = spans[i][0], spans[after - 1][1]
                    items.append(Item(entry.kind, entry.data, a, b, gap, lower[a:b]))
                elif items and items[-1].kind == "and":
                    items[-1] = items[-1]._replace(data="the")
                gap, i = 0, after
                continue
        if token[0].isdecimal() or (token[0] == "." and len(token) > 1):
            if len(token) < 9 and token.replace(".", "", 1).isdecimal():
                items.append(Item("N", float(token), *spans[i], gap, token))
                gap = 0
        elif (mark := _MARKS.get(token[0])) is not None and (len(token) == 1 or token[0] == "-"):
            items.append(Item(mark, None, *spans[i], gap))
            gap = 0
        else:
            gap += 1
        i += 1
    return items


def _longest(root: dict[str, Any], tokens: list[str], i: int, words: Lexicon) -> tuple[Any, int]:
    """The entry of the longest phrase from here and the index after it; hyphens count as blanks."""
    node, entry, after = root, root.get(END), i
    while i < len(tokens):
        token = tokens[i]
        step = node.get(token)
        if step is None:
            if token == "-":
                i += 1
                continue
            step = node.get(words.correct(token)) if len(token) > 3 else None
            if step is None:
                break
        node = step
        i += 1
        if END in node:
            entry, after = node[END], i
    return entry, after


def _is_wave_letter(letter: str, tokens: list[str], i: int) -> bool:
    """A single letter names a wave if it is a capital, or stands before a number, a lead or a word of size."""
    if i and letter == "S" and tokens[i - 1][0].isdigit():
        return False
    if letter.isupper():
        return True
    following = tokens[i + 1] if i + 1 < len(tokens) else ""
    if following in ("in", "of", "is", "=", ":", "amplitude", "duration", "depth", "height", "inversion", "inverted"):
        return not (i and tokens[i - 1][0].isdigit())
    return bool(following) and following[0].isdigit() and not (i and tokens[i - 1][0].isdigit())


def _is_lead_one(tokens: list[str], i: int, words: Lexicon) -> bool:
    """``I`` is the lead, not the pronoun: beside another lead, after "lead" or "in", or before a comma or the end."""
    before = tokens[i - 1] if i else ""
    after = tokens[i + 1] if i + 1 < len(tokens) else ""
    if before in ("lead", "leads", "in", "and", "/", "(", "over", "of", ",", "-", "derivation"):
        return after not in ("think", "see", "would", "believe", "note", "suspect", "find", "do", "have", "read")
    if after in (
        "",
        ",",
        "and",
        "/",
        ".",
        ")",
        ":",
        "-",
        "to",
        "&",
        "is",
        "are",
        "was",
        "shows",
        "through",
        "+",
        "or",
        "=",
    ):
        return True
    return before in words.data["leads"] or after in words.data["leads"]
