"""Extraction of claims from a text: sentences, parsed or taken from a cache of their forms."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from functools import cache

from gem_lightning.claims.claim import Claim
from gem_lightning.claims.parser.heads import Mention
from gem_lightning.claims.parser.lexicon import Lexicon, lexicon
from gem_lightning.claims.parser.linking import attach_places
from gem_lightning.claims.parser.locations import merge_places
from gem_lightning.claims.parser.mentions import find_mentions
from gem_lightning.claims.parser.negation import apply_scope
from gem_lightning.claims.parser.quantities import merge_numbers
from gem_lightning.claims.parser.tokenize import Item, scan, sentences
from gem_lightning.errors import GemError

__all__ = ["Claim", "extract"]

#: Characters of a text that are read: no interpretation is longer, and junk must not cost more than a moment.
MAX_CHARS = 200_000


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
    if not isinstance(text, str):
        raise GemError(f"expected a str, got {type(text).__name__}; decode bytes first")
    known = sentence_cache(language)
    found: list[Claim] = []
    for start, sentence in sentences(text[:MAX_CHARS]):
        found += known.claims(sentence, start)
    return found


@cache
def sentence_cache(language: str) -> SentenceCache:
    """Return the cache of a language, which lasts as long as the process."""
    words = lexicon(language)
    return SentenceCache(lambda sentence: parse(sentence, words))


# -- one sentence to claims ----------------------------------------------------------------------------------------

_CLAIMING = frozenset(("Q", "A", "F", "I", "M"))
_CONSUMED = frozenset(
    ("lead", "beat", "number", "any", "criteria", "reciprocal", "every", "other", "ordinal", "last", "skip")
)


def parse(sentence: str, words: Lexicon) -> list[Claim]:
    """Return the claims of one sentence, spans relative to it, in order of appearance."""
    items = scan(sentence, words)
    items = merge_numbers(merge_places(items))
    items = _without_consumed(items)
    if not any(item.kind in _CLAIMING for item in items):
        return []
    mentions, used = find_mentions(items, words)
    if not mentions:
        return []
    attach_places(items, mentions, used)
    apply_scope(items, mentions, sentence.rstrip().endswith("?"))
    claims: list[Claim] = []
    stated: set[tuple] = set()
    for mention in mentions:
        if not mention.dropped:
            for claim in _claims(items, mention):
                # "Mobitz I (Wenckebach)" and "1.2 mV (12 mm)" are one claim each
                again = claim.kind == "finding" or items[mention.i1 - 1].kind == "("
                if again and claim[:10] in stated:
                    continue
                stated.add(claim[:10])
                claims.append(claim)
    return sorted(claims, key=lambda claim: claim.span)


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
    found = []
    for k, (kind, value, low, high, unit, name) in enumerate(values):
        if mention.negated and value is None and (low is None) != (high is None):
            low, high = high, low  # "no ST elevation above 1 mm"
        where = (leads[k],) if per_lead else leads
        stated = Claim(kind, value, low, high, unit, where, None, name, False, mention.uncertain, span)
        found += [stated._replace(beat=beat) for beat in ((beats[k],) if per_beat else beats)] or [stated]
    return found


# -- sentences by form ----------------------------------------------------------------------------------------------

_NUMBER = re.compile(r"(?<![\w.,])(\d+(?:\.\d+)?)(?![\d]|[.,]\d)")
#: Sizes at which the parser decides differently (which quantity a number fits, beat and lead numbers).
_LIMITS = (0.03, 2.5, 15.0, 30.0, 60.0, 100.0, 270.5, 400.5, 1000.0, 2500.5)
_SMALLEST_WHOLE = 60  # smaller whole numbers may count beats, leads or boxes
_FACTORS = (1.0, -1.0, 0.1, -0.1, 0.001, -0.001, 0.5, -0.5, 1000.0, 40.0, 200.0, 60.0)
_SIZE = 50_000  # entries kept; then the cache starts from scratch

Source = tuple[int, float] | None
Template = list[tuple[Claim, Source, Source, Source]]


class _Classes(dict[str, str]):
    """Class of a number by its digits; numbers of one class are read alike."""

    def __missing__(self, digits: str) -> str:
        value = float(digits) if len(digits) < 8 else -1.0
        whole = "." not in digits
        if value < 0 or (whole and not _SMALLEST_WHOLE <= value < 1000):
            kind = digits
        else:
            kind = f"\0{len(digits)}.{digits.find('.')}.{bisect_right(_LIMITS, value)}\0"
        if len(self) > _SIZE:
            self.clear()
        self[digits] = kind
        return kind


class SentenceCache:
    """Claims of sentences by form: the same text with other numbers is not parsed again.

    The meaning of a sentence does not depend on the size of most of its numbers. A sentence is keyed by its text with
    such numbers replaced by their class (digits, decimals and the interval between the parser's own limits). The value
    is a template that points back to the numbers. A template is kept only if it reproduces exactly the claims of the
    sentence that it was made from and of a probe with other numbers; every other sentence is parsed each time.

    Args:
        read: Parses a sentence that is not known.
    """

    def __init__(self, read: Callable[[str], list[Claim]]) -> None:
        self.read = read
        self.templates: dict[str, Template] = {}
        self.seen: set[str] = set()
        self.unlearnable: set[str] = set()
        self.classes = _Classes()

    def claims(self, sentence: str, offset: int) -> list[Claim]:
        """Return the claims of a sentence, spans moved by ``offset``."""
        parts = _NUMBER.split(sentence)
        digits = parts[1::2]
        parts[1::2] = [self.classes[d] for d in digits]
        key = "".join(parts)
        template = self.templates.get(key)
        if template:
            return _filled(template, [float(d) for d in digits], offset)
        if template is not None:
            return []
        claims = self.read(sentence)
        if key in self.seen:  # a form that occurs twice is likely to occur again; most occur once
            self.seen.discard(key)
            self._learn(key, sentence, claims)
        elif key not in self.unlearnable:
            self.seen.add(key)
        return _moved(claims, offset)

    def _learn(self, key: str, sentence: str, claims: list[Claim]) -> None:
        for store in (self.templates, self.seen, self.unlearnable):
            if len(store) > _SIZE:
                store.clear()
        template = self._template(sentence, claims)
        if template is None:
            self.unlearnable.add(key)
        else:
            self.templates[key] = template

    def _template(self, sentence: str, claims: list[Claim]) -> Template | None:
        parts = _NUMBER.split(sentence)
        real = [float(d) for d in parts[1::2]]
        varied = _vary(parts[1::2], self.classes)
        if varied is None:
            return None
        parts[1::2] = varied
        numbers = [float(d) for d in varied]
        template: Template = []
        for claim in self.read("".join(parts)):
            sources = [_source(value, numbers) for value in claim[1:4]]
            if any(value is not None and source is None for value, source in zip(claim[1:4], sources)):
                return None
            template.append((claim, sources[0], sources[1], sources[2]))
        return template if _filled(template, real, 0) == claims else None


def _vary(digits: list[str], classes: _Classes) -> list[str] | None:
    """Draw other numbers of the same classes, all different from each other."""
    used: set[str] = set()
    varied = []
    for d in digits:
        if classes[d] == d:
            varied.append(d)
            continue
        decimals = len(d) - d.find(".") - 1 if "." in d else 0
        step, value = 10.0**-decimals, float(d)
        candidates = (f"{value + sign * k * step:.{decimals}f}" for k in range(1, 60) for sign in (1, -1))
        other = next((c for c in candidates if c not in used and c not in digits and classes[c] == classes[d]), None)
        if other is None:
            return None
        used.add(other)
        varied.append(other)
    return varied


def _source(value: float | None, numbers: list[float]) -> Source:
    """Find which number a value comes from and by what factor; None where that is not unique."""
    if value is None:
        return None
    found = [(i, f) for i, n in enumerate(numbers) for f in _FACTORS if n and abs(n * f - value) < 1e-6]
    return found[0] if len(found) == 1 else None


def _moved(claims: list[Claim], offset: int) -> list[Claim]:
    return [Claim(*c[:10], (c[10][0] + offset, c[10][1] + offset)) for c in claims] if offset else list(claims)


def _filled(template: Template, numbers: list[float], offset: int) -> list[Claim]:
    found = []
    for claim, value, low, high in template:
        v = None if value is None else round(numbers[value[0]] * value[1], 6)
        a = None if low is None else round(numbers[low[0]] * low[1], 6)
        b = None if high is None else round(numbers[high[0]] * high[1], 6)
        if a is not None and b is not None and a > b:
            a, b = b, a
        start, end = claim[10]
        found.append(Claim(claim[0], v, a, b, *claim[4:10], (start + offset, end + offset)))
    return found
