"""Text to items: sentences, and in each phrases of the lexicon, numbers and punctuation, with their places."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from gem_lightning.claims.parser.lexicon import END, SPELLING, TOKEN, Entry, Lexicon

#: Words of one sentence beyond which it is no clinical sentence; it is skipped.
MAX_TOKENS = 1_500

_SENTENCE_END = re.compile(r"[.;!?\n](?:(?<=\.)(?=\s|$|[A-Z\"')])|(?<=[;!\n])|(?<=\?)(?=\s|$))")
_LONGEST_SHORT = 8  # letters; longer than any short form below
_SHORT_FORM = re.compile(r"(?:\b(?:e\.g|i\.e|vs|ca|approx|incl|resp|max|min|vent|Dr|freq))$", re.IGNORECASE)
#: Abbreviations that also end sentences: "ST elev. 2 mm" goes on, "No ST elev. LBBB" does not.
_SHORTENED = re.compile(r"\b(?:elev|depr|inv|dev|neg|pos|deg|prob|poss|abn|inf|ant|lat|sec)$", re.IGNORECASE)
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
        text: As written, in lower case; empty for what is merged from several items.
    """

    kind: str
    data: Any
    start: int
    end: int
    gap: int = 0
    text: str = ""


def sentences(text: str) -> Iterator[tuple[int, str]]:
    """(start, text) of each sentence; a question that is answered at once ends with its answer."""
    start = 0
    for match in _SENTENCE_END.finditer(text):
        end = match.end()
        if end <= start or _goes_on(text, start, end):
            continue
        if text[end - 1] == "?" and (answer := _ANSWER.match(text, end)) is not None:
            end = answer.end()
            if _AMOUNT.match(text, end):  # "Is the QRS wide? Yes, 140 ms."
                continue
        if end - start > 1:
            yield start, text[start:end]
        start = end
    if start < len(text):
        yield start, text[start:]


#: "Q waves? None." A lone answer belongs to its question.
_ANSWER = re.compile(
    r"\s*(?:yes|no|none|nil|absent|present|negative|positive|not (?:seen|present|excluded)"
    r"|definitely|certainly|indeed|absolutely|clearly|obviously|(?:un)?likely|possibl[ey]|probabl[ey])\s*(?:[.!,;\n]|$)",
    re.IGNORECASE,
)
_AMOUNT = re.compile(r"(?<=,) (?:about |around |at |of )?\d")
#: "V2: 3 mm ST elevation; V3: 4 mm" and "it was 92 ms; now it is 134 ms": a number of the quantity before.
_NEXT_NUMBER = re.compile(
    r"\s*(?:it )?now (?:it )?(?:is|measures|reads|stands at) \d"
    r"|\s*(?:lead )?(?:I{1,3}|aV[RLF]|V[1-6])\s*[:=]?\s*[-+−]?\d+(?:\.\d+)?\s*(?:mm|mV)\b",
    re.IGNORECASE,
)
#: "T waves negative in V1; those in V2 positive", "... in III; I and aVL are free of them": leads and no topic.
_LEANS = re.compile(
    r"(?=[^.;:!?\n]*\b(?:I{1,3}|aV[RLF]|V[1-6])\b)(?=[^.;:!?\n]*\b(?:it|they|them|those|that|not|none|neither|absent)\b)"
    r"(?![^.;:!?\n]*\b(?:waves?|segments?|complex(?:es)?|intervals?|ST|QRS|QTc?|PR|elevations?|depressions?|axis)\b)"
    r"(?:[^.;:!?\s]+\s*){2,10}[.;\n]"
)
_INITIALS = re.compile(r"(?:^|[^A-Za-z])(?:[A-Za-z]\.)+$")
_FIRST_INITIAL = re.compile(r"[A-Z]\.")
_CONNECTS = re.compile(
    r"(?:,|\b(?:in|and|of|or|the|to|with|in leads?|no|than|about|is|are|at|from))\s*$", re.IGNORECASE
)
_ANSWERED = re.compile(r"[:?=]\s*no\s*$", re.IGNORECASE)
_NEW_ENTRY = re.compile(r"(?:aV[RLF]\b|[a-z][\w ]{0,24}[:=])")


def _goes_on(text: str, start: int, end: int) -> bool:
    """The mark before ``end`` ends no sentence."""
    mark = text[end - 1]
    if mark == "\n":
        return _is_wrapped(text, start, end - 1)
    if mark == ";":
        return _NEXT_NUMBER.match(text, end) is not None or _leans(text, end)
    if mark == "?":
        return not (end > 1 and (text[end - 2].isalnum() or text[end - 2] == ")"))
    if mark == "." and text[end - 2 : end - 1].isalpha():
        if end > _LONGEST_SHORT and text[end - 1 - _LONGEST_SHORT : end - 1].isalpha():
            return False  # a whole word
        if _SHORT_FORM.search(text, max(0, end - 8), end - 1):
            return True
        after = text[end : end + 3].lstrip()[:1]
        if (after.isdigit() or after.islower() or after == ",") and _SHORTENED.search(text, max(0, end - 8), end - 1):
            return True
        initials = _INITIALS.search(text, max(start, end - 8), end)
        if initials is not None:  # "M.I. of the inferior wall"
            following = text[end : end + 3].lstrip()
            return _FIRST_INITIAL.match(text, end) is not None or (
                initials.group().count(".") > 1 and following[:1].islower()
            )
    return False


def _leans(text: str, end: int) -> bool:
    """What follows names leads and a pronoun or denial but no topic: it continues the statement before."""
    return _LEANS.match(text, end + 1 if text[end : end + 1] == " " else end) is not None


def _is_wrapped(text: str, start: int, newline: int) -> bool:
    """A line end inside a sentence: the line leaves something open, or the next one begins in lower case."""
    line = max(start, text.rfind("\n", start, newline) + 1)
    after = text[newline + 1 : newline + 40].lstrip(" \t")
    if not after or after[0] in "\n-*•" or text[line:newline].rstrip().endswith(":"):
        return False
    if _CONNECTS.search(text, max(line, newline - 12), newline):
        return _ANSWERED.search(text, max(line, newline - 12), newline) is None
    return after[0].islower() and bool(text[line:newline].strip()) and not _NEW_ENTRY.match(after)


class Scan(NamedTuple):
    """One sentence as items.

    Attributes:
        items: What the grammar reads.
        clinical: Clinical terms without a code and leads beyond the twelve, as (start, end).
        tokens: Words, numbers and marks in lower case.
        tail: Unknown words after the last item.
    """

    items: list[Item]
    clinical: list[tuple[int, int]]
    tokens: list[str]
    tail: int


def scan(sentence: str, words: Lexicon) -> Scan:
    """Find the items of one sentence; unknown words are left out and counted."""
    plain = sentence if sentence.isascii() else sentence.translate(SPELLING)
    lower = plain.lower()
    if len(lower) != len(plain):  # some capitals grow in lower case: keep places right
        lower = "".join(c.lower() if len(c.lower()) == 1 else c for c in plain)
    spans = [match.span() for match in TOKEN.finditer(lower)]
    if len(spans) > MAX_TOKENS:
        return Scan([], [], [], 0)
    tokens = [lower[a:b] for a, b in spans]
    items: list[Item] = []
    clinical: list[tuple[int, int]] = []
    gap, i, count = 0, 0, len(tokens)
    while i < count:
        token = tokens[i]
        root = words[token]
        if root is None or isinstance(root, Entry):
            entry, after = root, i + 1
        else:
            entry, after = _entry(root, tokens, i, words)
        if entry is not None and after == i + 1 and len(token) == 1:
            entry = _letter(entry, plain[spans[i][0]], tokens, i, words)
        if entry is not None:
            a, b = spans[i][0], spans[after - 1][1]
            kind = entry.kind
            if kind == "clinical":
                clinical.append((a, b))
                gap, i = gap + after - i, after
                continue
            if kind == "fused":
                items.append(Item("Q", entry.data[0], a, a + 1, gap, token[:1]))
                items.append(Item("L", entry.data[1], a + 1, b, 0, token[1:]))
            elif kind != "the":
                items.append(Item(kind, entry.data, a, b, gap, lower[a:b]))
                if kind == "foreign_lead":
                    clinical.append((a, b))
            elif items and items[-1].kind == "and":
                items[-1] = items[-1]._replace(data="the")
            gap, i = 0, after
            continue
        if token[0].isdecimal() or (token[0] == "." and len(token) > 1):
            if len(token) < 9 and token.replace(".", "", 1).isdecimal():
                items.append(Item("N", float(token), *spans[i], gap, token))
                gap = 0
        elif token == ";" and i + 1 < count:
            items.append(Item(",", None, *spans[i], gap, ";"))
            gap = 0
        elif (mark := _MARKS.get(token[0])) is not None and (len(token) == 1 or token[0] == "-"):
            items.append(Item(mark, None, *spans[i], gap, token if mark == "(" else ""))
            gap = 0
        elif i + 1 < count or token[0].isalpha():  # the mark at the end is no unknown word
            gap += 1
            if words.is_clinical(token):
                clinical.append(spans[i])
        i += 1
    return Scan(items, clinical, tokens, gap)


def _letter(entry: Any, written: str, tokens: list[str], i: int, words: Lexicon) -> Any:
    """What a single letter means here: a wave, the second, lead I, or nothing."""
    token = tokens[i]
    if entry.kind == "Q" and token in _SINGLES and not _is_wave_letter(written, tokens, i):
        return _SECOND if token == "s" else None
    return None if token == "i" and not _is_lead_one(tokens, i, words) else entry


def _entry(root: dict[str, Any], tokens: list[str], i: int, words: Lexicon) -> tuple[Any, int]:
    """The entry of the phrase that begins at ``i`` and the index after it."""
    entry, after = _longest(root, tokens, i + 1, words)
    if entry is not None and entry.kind == "F" and i + 2 < after < len(tokens):
        return _yielding(entry, root, tokens, i, after, words)
    return entry, after


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
            if token == "(" and (skipped := _over_gloss(node, tokens, i, words)):  # "atrioventricular (AV) block"
                i = skipped
                continue
            step = node.get(words.correct(token)) if len(token) > 3 else None
            if step is None:
                break
        node = step
        i += 1
        if END in node:
            entry, after = node[END], i
    return entry, after


def _yielding(
    entry: Any, root: dict[str, Any], tokens: list[str], i: int, after: int, words: Lexicon
) -> tuple[Any, int]:
    """A finding whose last word opens a longer one yields to it: "the rhythm is atrial | fibrillation"."""
    last = words[tokens[after - 1]]
    if last is None or isinstance(last, Entry):
        return entry, after
    other, end = _longest(last, tokens, after, words)
    if other is None or other.kind != "F" or end <= after or other.data == entry.data:
        return entry, after
    return _longest(root, tokens[: after - 1], i + 1, words)


def _over_gloss(node: dict[str, Any], tokens: list[str], i: int, words: Lexicon) -> int | None:
    """Index after a short bracket inside a phrase, or of its first word where the phrase goes on there."""
    close = next((k for k in range(i + 2, min(i + 4, len(tokens))) if tokens[k] == ")"), None)
    if close is None or close + 1 >= len(tokens):
        return None
    following = tokens[close + 1]
    inner: dict[str, Any] | None = node
    for token in tokens[i + 1 : close]:
        inner = inner.get(token) if inner else None
    if inner is not None and following in inner:  # "right bundle (branch) block"
        tokens[i] = tokens[close] = "-"
        return i + 1
    return close + 1 if following in node or words.correct(following) in node else None


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
    """``I`` is the lead, not the pronoun: next to another lead, after "lead" or "in", or before a comma or the end."""
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
