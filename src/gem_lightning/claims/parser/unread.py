"""Clinical content without a claim: the clauses of a sentence that state something which has no code."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gem_lightning.claims.claim import Claim
from gem_lightning.claims.parser.tokenize import Item, Scan
from gem_lightning.claims.parser.units import Mention

Span = tuple[int, int]

#: Contexts that are understood and state nothing of this record.
_SILENT = frozenset(("off_advice", "off_heading", "off_condition", "off_norm", "off_limit"))
_CLAUSE_END = re.compile(r"[,;:()\n|]|\b(?:and|with|but|or)\b", re.IGNORECASE)
_MARKS = " \t\r\n.,;:!?|()[]{}*•-"


def unread_spans(
    sentence: str, scanned: Scan, mentions: Sequence[Mention], uncoded: Sequence[Span], claims: Sequence[Claim]
) -> tuple[Span, ...]:
    """Return the spans of a sentence whose clinical content no claim holds.

    Args:
        sentence: The sentence.
        scanned: Its items before places were merged.
        mentions: Its mentions, those of leads beyond the twelve among them.
        uncoded: Properties of a wave that have no code.
        claims: Its claims.
    """
    terms = [*scanned.clinical, *uncoded]
    terms.extend((scanned.items[0].start, scanned.items[-1].end) for mention in mentions if mention.foreign)
    if not terms or _is_silent(scanned.items, terms, claims):
        return ()
    if not claims:
        return (_stripped(sentence, 0, len(sentence)),)
    bounds = sorted({0, len(sentence), *(place for m in _CLAUSE_END.finditer(sentence) for place in m.span())})
    found: list[Span] = []
    for start, end in sorted(terms):
        if any(c.span[0] <= start and end <= c.span[1] for c in claims):
            continue
        a = max([b for b in bounds if b <= start] + [c.span[1] for c in claims if c.span[1] <= start])
        b = min([b for b in bounds if b >= end] + [c.span[0] for c in claims if c.span[0] >= end])
        a, b = _stripped(sentence, a, b)
        if found and a <= found[-1][1]:
            found[-1] = (found[-1][0], max(b, found[-1][1]))
        else:
            found.append((a, b))
    return tuple(found)


def _is_silent(items: Sequence[Item], terms: Sequence[Span], claims: Sequence[Claim]) -> bool:
    """Advice, conditions and norms open the sentence before the first term, and nothing is claimed."""
    opened = next((item.start for item in items if item.kind in _SILENT), None)
    return opened is not None and not claims and (opened <= min(terms)[0] or items[0].kind in _SILENT)


def _stripped(sentence: str, start: int, end: int) -> Span:
    """Shrink a span to what stands between blanks and marks."""
    while start < end and sentence[start] in _MARKS:
        start += 1
    while end > start and sentence[end - 1] in _MARKS:
        end -= 1
    return start, end
