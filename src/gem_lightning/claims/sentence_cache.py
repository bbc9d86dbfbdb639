"""Sentences seen before, remembered by form: the same words with other numbers need no second reading.

What a sentence means does not depend on the size of most of its numbers. So a sentence is keyed by its text with such
numbers replaced by their class (digits, decimals and the interval between the grammar's own limits), and what is kept
is a template whose values point back to the numbers. A template is kept only if it gives back exactly the claims of the
sentence it was made from and of a probe with other numbers; every other sentence is read anew.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable

from gem_lightning.claims.claim import Claim

_NUMBER = re.compile(r"(?<![\w.,])(\d+(?:\.\d+)?)(?![\d]|[.,]\d)")
#: Sizes at which the grammar decides differently (``units.fits``, beat and lead numbers).
_LIMITS = (0.03, 2.5, 15.0, 30.0, 60.0, 100.0, 270.5, 400.5, 1000.0, 2500.5)
_SMALLEST_WHOLE = 60  # smaller whole numbers may count beats, leads or boxes
_FACTORS = (1.0, -1.0, 0.1, -0.1, 0.001, -0.001, 0.5, -0.5, 1000.0, 40.0, 200.0, 60.0)
_SIZE = 50_000

Source = tuple[int, float] | None
Template = list[tuple[Claim, Source, Source, Source]]


class _Classes(dict[str, str]):
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


class Memo:
    """Claims of sentences, by form.

    Args:
        read: What reads a sentence that is not known.
    """

    def __init__(self, read: Callable[[str], list[Claim]]) -> None:
        self.read = read
        self.templates: dict[str, Template] = {}
        self.seen: set[str] = set()
        self.hopeless: set[str] = set()
        self.classes = _Classes()

    def claims(self, sentence: str, offset: int) -> list[Claim]:
        """The claims of a sentence, spans moved by ``offset``."""
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
        if key in self.seen:  # a form that comes twice will come again
            self.seen.discard(key)
            self._learn(key, sentence, claims)
        elif key not in self.hopeless:
            self.seen.add(key)
        return _moved(claims, offset)

    def _learn(self, key: str, sentence: str, claims: list[Claim]) -> None:
        for store in (self.templates, self.seen, self.hopeless):
            if len(store) > _SIZE:
                store.clear()
        template = self._template(sentence, claims)
        if template is None:
            self.hopeless.add(key)
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
    """Other numbers of the same classes, all different from each other."""
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
    """Which number a value comes from and by what factor; None where that is not unique."""
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
