"""Cache of sentences by their form: the same text with other numbers is not parsed again."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

from gem_lightning.claims.claim import Claim

Span = tuple[int, int]


class Parsed(NamedTuple):
    """What one sentence states.

    Attributes:
        claims: Its claims in order.
        unread: (start, end) of clinical content that no claim holds.
        language: ISO 639-1 code of a sentence that is not read for its language.
    """

    claims: list[Claim]
    unread: tuple[Span, ...]
    language: str | None


_NUMBER = re.compile(r"(?<![\w.,])(\d+(?:\.\d+)?)(?![\d]|[.,]\d)")
#: Sizes at which the parser decides differently (which quantity a number fits, beat and lead numbers).
_LIMITS = (0.03, 2.5, 15.0, 30.0, 60.0, 100.0, 270.5, 400.5, 1000.0, 2500.5)
_SMALLEST_WHOLE = 60  # smaller whole numbers may count beats, leads or boxes
_FACTORS = (1.0, -1.0, 0.1, -0.1, 0.001, -0.001, 0.5, -0.5, 1000.0, 40.0, 200.0, 60.0)
_TIMES = 3  # occurrences before a form is learned: most occur once, and learning costs a second reading
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


_CLASSES = _Classes()  # the same for every cache


class SentenceCache:
    """Claims of sentences by form: the same text with other numbers is not parsed again.

    The meaning of a sentence does not depend on the size of most of its numbers. A sentence is keyed by its text with
    such numbers replaced by their class (digits, decimals and the interval between the parser's own limits). The value
    is a template that points back to the numbers. A template is kept only if it reproduces exactly the claims of the
    sentence that it was made from and of a probe with other numbers; every other sentence is parsed each time.

    Args:
        parse: Reads a sentence that is not known.
    """

    def __init__(self, parse: Callable[[str], Parsed]) -> None:
        self.parse = parse
        self.templates: dict[str, tuple[Template, tuple[Span, ...], str | None]] = {}
        self.seen: dict[str, int] = {}
        self.unlearnable: set[str] = set()
        self.classes = _CLASSES

    def read(self, sentence: str, offset: int) -> Parsed:
        """Return what a sentence states, spans moved by ``offset``."""
        parts = _NUMBER.split(sentence)
        digits = parts[1::2]
        parts[1::2] = [self.classes[d] for d in digits]
        key = "".join(parts)
        known = self.templates.get(key)
        if known is not None:
            template, unread, language = known
            claims = _filled(template, [float(d) for d in digits], offset) if template else []
            return Parsed(claims, _shifted(unread, offset), language)
        parsed = self.parse(sentence)
        if key not in self.unlearnable:
            if len(self.seen) > _SIZE:
                self.seen.clear()
            times = self.seen.get(key, 0) + 1
            if times < _TIMES:
                self.seen[key] = times
            else:
                self.seen.pop(key, None)
                self._learn(key, sentence, parsed)
        return Parsed(_moved(parsed.claims, offset), _shifted(parsed.unread, offset), parsed.language)

    def _learn(self, key: str, sentence: str, parsed: Parsed) -> None:
        for store in (self.templates, self.unlearnable):
            if len(store) > _SIZE:
                store.clear()
        template = self._template(sentence, parsed)
        if template is None:
            self.unlearnable.add(key)
        else:
            self.templates[key] = (template, parsed.unread, parsed.language)

    def _template(self, sentence: str, parsed: Parsed) -> Template | None:
        parts = _NUMBER.split(sentence)
        real = [float(d) for d in parts[1::2]]
        varied = _vary(parts[1::2], self.classes)
        if varied is None:
            return None
        parts[1::2] = varied
        numbers = [float(d) for d in varied]
        template: Template = []
        probe = self.parse("".join(parts))
        if (probe.unread, probe.language) != (parsed.unread, parsed.language):
            return None
        for claim in probe.claims:
            sources = [_source(value, numbers) for value in claim[1:4]]
            if any(value is not None and source is None for value, source in zip(claim[1:4], sources)):
                return None
            template.append((claim, sources[0], sources[1], sources[2]))
        return template if _filled(template, real, 0) == parsed.claims else None


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


def _shifted(spans: tuple[Span, ...], offset: int) -> tuple[Span, ...]:
    return tuple((a + offset, b + offset) for a, b in spans) if offset and spans else spans


def _moved(claims: list[Claim], offset: int) -> list[Claim]:
    if not offset:
        return list(claims)
    return [Claim._make((*c[:10], (c[10][0] + offset, c[10][1] + offset))) for c in claims]


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
