"""Extraction of claims from a text: sentences, parsed or taken from a cache of their forms."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from operator import attrgetter
from typing import NamedTuple

from gem_lightning.claims.claim import Claim
from gem_lightning.claims.forms import Parsed, SentenceCache
from gem_lightning.claims.parser.cleanup import clean, without_arteries
from gem_lightning.claims.parser.ellipsis import DENIALS, complete_clauses
from gem_lightning.claims.parser.languages import languages
from gem_lightning.claims.parser.layout import Statement, statements
from gem_lightning.claims.parser.lexicon import Lexicon, lexicon
from gem_lightning.claims.parser.linking import LEAD_CODES, attach_places
from gem_lightning.claims.parser.locations import PLACES, merge_places
from gem_lightning.claims.parser.mentions import find_mentions
from gem_lightning.claims.parser.negation import apply_scope
from gem_lightning.claims.parser.quantities import NUMERIC, merge_numbers
from gem_lightning.claims.parser.tokenize import Item, scan
from gem_lightning.claims.parser.units import Mention
from gem_lightning.claims.parser.unread import unread_spans
from gem_lightning.errors import GemError

__all__ = ["Claim", "TextReading", "extract", "read_text"]

#: Characters of a text that are read: no interpretation is longer, and junk must not cost more than a moment.
MAX_CHARS = 200_000


class TextReading(NamedTuple):
    """What a text states.

    Attributes:
        claims: Its claims in order, with spans into the text.
        unread_clinical: (start, end) of clinical content that no claim holds, and of text in other languages.
        languages: ISO 639-1 codes of the other languages, in order of appearance.
    """

    claims: list[Claim]
    unread_clinical: list[tuple[int, int]]
    languages: tuple[str, ...]


def extract(text: str, language: str = "en") -> list[Claim]:
    """Extract the claims of a text, in order, after the conventions of docs/claims.md.

    Args:
        text: Any text; what is not understood is skipped.
        language: Lexicon to read with.

    Returns:
        Claims with spans into ``text``. Forms of sentences are cached (:class:`SentenceCache`).

    Raises:
        GemError: It is not a str.
    """
    return read_text(text, language).claims


def read_text(text: str, language: str = "en") -> TextReading:
    """Read a text: its claims, the clinical content that no claim holds, and the languages that are not read.

    Args:
        text: As for :func:`extract`.
        language: Lexicon to read with.

    Raises:
        GemError: It is not a str.
    """
    if not isinstance(text, str):
        raise GemError(f"expected a str, got {type(text).__name__}; decode bytes first")
    known = sentence_cache(language)
    roles = _roles(language)
    claims: list[Claim] = []
    unread: list[tuple[int, int]] = []
    contexts: set[tuple] = set()
    foreign: dict[str, None] = {}
    for statement in statements(text[:MAX_CHARS], roles.classify, roles.opens):
        found = known.read(statement.text, statement.start - statement.context)
        if statement.context:
            found = _in_place(statement, found, contexts)
        claims += found.claims
        unread += found.unread
        if found.language:
            foreign[found.language] = None
    return TextReading(claims, unread, tuple(foreign))


def _in_place(statement: Statement, found: Parsed, contexts: set[tuple]) -> Parsed:
    """Move spans out of a context: a claim of the context alone is kept once, at the context's own place.

    Args:
        statement: With a context.
        found: Read from it, spans as if the context stood right before the body.
        contexts: Claims of contexts so far, with the context's place; changed in place.
    """
    start = statement.start
    back = statement.context_start + statement.context - start  # from the joined text to the context's place
    claims = []
    for claim in found.claims:
        low, high = claim.span
        if high > start:
            claims.append(claim._replace(span=(max(low, start), high)))
        elif (key := (statement.context_start, claim[:10])) not in contexts:
            contexts.add(key)
            claims.append(claim._replace(span=(low + back, high + back)))
    unread = tuple((max(a, start), b) for a, b in found.unread if b > start)
    return Parsed(claims, unread, found.language)


@cache
def sentence_cache(language: str) -> SentenceCache:
    """Return the cache of a language, which lasts as long as the process."""
    words = lexicon(language)
    return SentenceCache(lambda sentence: parse(sentence, words))


class _Roles:
    """What headings mean for the statements under them, remembered by heading."""

    def __init__(self, words: Lexicon) -> None:
        self.words = words
        self.classify = lru_cache(1024)(self._classify)

    def _classify(self, heading: str) -> str | None:
        items = merge_places(scan(heading, self.words).items)
        kinds = {item.kind for item in items}
        if any(kind in _SILENT_HEADINGS for kind in kinds) or (kinds == {"A", "in"} and "Q" not in kinds):
            return "off"
        if "Q" in kinds:
            return "topic"
        if kinds & {"F", "I"}:
            return "finding"
        if any(kind.startswith(("no_", "may_")) for kind in kinds) or any(
            "absent" in (i.data or ()) for i in items if i.kind == "A"
        ):
            return "always"
        return "place" if "L" in kinds else None

    def opens(self, statement: str) -> tuple[bool, bool]:
        """Return whether a statement opens with a quantity or finding, and whether it names leads."""
        items = scan(statement, self.words).items
        first = next((item.kind for item in items if item.kind not in _OPENERS), None)
        return first in ("Q", "F", "I"), any(item.kind == "L" for item in items)


_SILENT_HEADINGS = frozenset(("off_heading", "off_norm", "off_limit", "off_advice", "off_history"))
_OPENERS = frozenset(("no_pre", "may_pre", "L", "old", ",", "lead"))


@cache
def _roles(language: str) -> _Roles:
    return _Roles(lexicon(language))


# -- one sentence to claims ----------------------------------------------------------------------------------------

_CLAIMING = frozenset(("Q", "A", "F", "I", "N", "numeral", "half"))
_CONSUMED = frozenset(
    ("lead", "beat", "number", "any", "criteria", "reciprocal", "every", "other", "ordinal", "last", "skip")
)


def parse(sentence: str, words: Lexicon) -> Parsed:
    """Read one sentence; spans are relative to it."""
    scanned = without_arteries(scan(sentence, words), words)
    language = languages().detect(scanned.tokens, sentence, words.words)
    if language is not None:
        stripped = sentence.strip()
        start = sentence.index(stripped)
        return Parsed([], ((start, start + len(stripped)),), language)
    kinds = {item.kind for item in scanned.items}
    items = clean(scanned.items, kinds)
    if not kinds.isdisjoint(PLACES):
        items = merge_places(items)
    if not kinds.isdisjoint(NUMERIC):
        items = merge_numbers(items)
    if not kinds.isdisjoint(_CONSUMED):
        items = _without_consumed(items)
    if "L" in kinds and not kinds.isdisjoint(DENIALS):
        items = complete_clauses(items, LEAD_CODES, words)
    mentions: list[Mention] = []
    uncoded: list[tuple[int, int]] = []
    if not kinds.isdisjoint(_CLAIMING):
        kinds = {item.kind for item in items}
        question = _is_open_question(sentence, items)
        if "tag" in kinds:  # "..., isn't it?"
            items = [item for item in items if item.kind not in ("tag", "?")]
        mentions, used, uncoded = find_mentions(items, kinds, words)
        if mentions:
            if "L" in kinds or "B" in kinds:
                attach_places(items, mentions, used)
            apply_scope(items, mentions, kinds, question, scanned.tail)
    claims = _stated(items, mentions)
    for m in mentions:
        if m.codes and m.codes[0][0] == "=" and not (m.negated or m.dropped):
            uncoded.append((items[m.i0].start, items[m.i1].end))  # "heart block" alone: only its denial states it
    return Parsed(claims, unread_spans(sentence, scanned, mentions, uncoded, claims), None)


_OPEN_QUESTION = re.compile(
    r"\W*(?:is|are|does|do|did|was|were|has|have|could|can|any|what|which|should|would|might|may|where|why|how|who)\b",
    re.IGNORECASE,
)


def _is_open_question(sentence: str, items: list[Item]) -> bool:
    """A question that nothing answers and no tag turns into a statement."""
    if "?" not in sentence or not sentence.rstrip().endswith("?") or any(item.kind == "tag" for item in items):
        return False
    return _OPEN_QUESTION.match(sentence) is not None


def _stated(items: list[Item], mentions: list[Mention]) -> list[Claim]:
    """Return the claims of the mentions in order, each once."""
    claims: list[Claim] = []
    stated: set[tuple] = set()
    for mention in mentions:
        if mention.dropped or mention.foreign:
            continue
        # "Mobitz I (Wenckebach)" and "1.2 mV (12 mm)" are one claim each
        once = not mention.values or items[mention.i1 - 1].kind == "("
        for claim in _claims(items, mention):
            meaning = claim[:10]
            if not (once and meaning in stated):
                stated.add(meaning)
                claims.append(claim)
    if len(claims) > 1:
        claims.sort(key=_place)
    return claims


_place = attrgetter("span")


def _without_consumed(items: list[Item]) -> list[Item]:
    """Drop items whose meaning is consumed; a reciprocal change opens a clause of its own."""
    kept: list[Item] = []
    for item in items:
        if item.kind == "reciprocal" and kept and kept[-1].kind in ("with", "and"):
            kept[-1] = kept[-1]._replace(kind="but")
        elif item.kind not in _CONSUMED:
            kept.append(item)
    return kept


def _claims(items: list[Item], mention: Mention) -> list[Claim]:
    """Build the claims of one mention."""
    if mention.values:
        return _measured(items, mention)
    span = (items[mention.i0].start, items[mention.i1].end)
    found = []
    for code in mention.codes:
        mark, negated = code[0], mention.negated
        if mark == "=":  # a group that only its denial states
            if not negated:
                continue
        elif mark == "~":  # "no P waves" is the finding that they are absent
            if not negated:
                continue
            negated = False
        elif mark == "!":
            negated = not negated
        name = code.lstrip("!=~")
        leads = () if name.startswith("mi_") else mention.leads
        stated = Claim("finding", None, None, None, None, leads, None, name, negated, mention.uncertain, span)
        found += [stated._replace(beat=beat) for beat in mention.beats] or [stated]
    return found


def _measured(items: list[Item], mention: Mention) -> list[Claim]:
    """Build one claim per value, per beat or per lead where they correspond."""
    values, leads, beats = mention.values, mention.leads, mention.beats
    span = (items[mention.i0].start, items[mention.i1].end)
    count = len(values)
    per_lead = count > 1 and len(leads) == count
    per_beat = count > 1 and len(beats) == count
    place = next((i for i in range(mention.i1, mention.i0, -1) if items[i].kind == "M"), 0)
    denied = mention.negated and values[0][1] is not None and items[place - 1].kind == "no_pre"  # "PR is not 240 ms"
    found = []
    for k, (kind, value, low, high, unit, name) in enumerate(values):
        if mention.negated and value is None and (low is None) != (high is None):
            low, high = high, low  # "no ST elevation above 1 mm"
        where = (leads[k],) if per_lead else leads
        stated = Claim(kind, value, low, high, unit, where, None, name, denied, mention.uncertain, span)
        found += [stated._replace(beat=beat) for beat in ((beats[k],) if per_beat else beats)] or [stated]
    return found
