"""The lexicon of one language: phrases from a data file in a trie, with tolerance for typing errors."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import yaml

#: Length-preserving spelling: one apostrophe, one dash, one micro sign, one degree sign.
SPELLING = str.maketrans("’′‘`´″−–—‐‑‒―μº\u00a0\u202f\u2009", "''''''-------µ°   ")
TOKEN = re.compile(
    r"v\d{1,2}r\b|\d+(?:st|nd|rd|th)\b|\d+(?:\.\d+)?|\.\d+|[^\W\d_]+(?:'+[^\W\d_]*)*\d{0,2}'*|([^\w\s])\1*|_+|\S",
    re.UNICODE,
)
END = ""
_MAX_MEMO = 50_000
_SHORTEST_TYPO, _LONG_WORD, _LONGEST_TYPO = 5, 8, 20


class Entry(NamedTuple):
    """What a phrase means: a kind of item and its data."""

    kind: str
    data: Any = None


Node = dict[str, Any]


class Lexicon(dict[str, "Node | Entry | None"]):
    """Trie roots by first word, or the entry of a word that opens no phrase; looked up once and remembered.

    An unknown word is corrected if it is one slip away from a known one.

    Args:
        language: Suffix of the data file ``lexicon_<language>.yaml``.
    """

    def __init__(self, language: str) -> None:
        super().__init__()
        path = resources.files("gem_lightning.claims.parser").joinpath(f"lexicon_{language}.yaml")
        self.data: dict[str, Any] = yaml.load(
            path.read_text("utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )
        self.roots: Node = {}
        self.words: set[str] = set()
        self.fixed: dict[str, str | None] = {}
        for phrase, entry in _entries(self.data):
            self._add(phrase, entry)
        self.deletions: dict[str, list[str]] = {}
        for word in self.words:
            if word.isalpha() and len(word) >= _SHORTEST_TYPO:
                for short in _deletions(word):
                    self.deletions.setdefault(short, []).append(word)
        self.ordinary = frozenset(self.data["ordinary_words"])
        self.meanings: dict[str, dict[str, list[str]]] = self.data["meanings"]
        self.defaults: dict[str, str] = self.data["default_quantity"]
        self.default_words = frozenset(self.data["default_words"])
        self.implied = {code: name for name, codes in self.data["implied_quantity"].items() for code in codes}
        self.uncoded: dict[str, list[str]] = self.data["uncoded"]
        self.clinical = re.compile("|".join(self.data["clinical_stems"]))
        self.arterial = frozenset(self.data["arterial"])
        self.clinical_words: dict[str, bool] = {}
        self.territories: dict[str, list[str]] = self.data["territories"]

    def _add(self, phrase: str, entry: Entry) -> None:
        node = self.roots
        for word in split_words(phrase):
            self.words.add(word)
            node = node.setdefault(word, {})
        known = node.get(END)
        if known is None:
            node[END] = entry
        elif known.kind == entry.kind == "A" and entry.data[0] not in known.data:
            node[END] = Entry("A", known.data + entry.data)

    def is_clinical(self, word: str) -> bool:
        """Whether an unknown word has a clinical stem or ending."""
        known = self.clinical_words.get(word)
        if known is None:
            if len(self.clinical_words) > _MAX_MEMO:
                self.clinical_words.clear()
            known = self.clinical_words[word] = len(word) < _LONGEST_TYPO * 2 and bool(self.clinical.search(word))
        return known

    def correct(self, word: str) -> str:
        """The word itself, or the lexicon's word that one slip (letter lost, added, changed, swapped) turns into it."""
        if word in self.words:
            return word
        if word not in self.fixed:
            if len(self.fixed) > _MAX_MEMO:
                self.fixed.clear()
            self.fixed[word] = self._search(word)
        return self.fixed[word] or word

    def _search(self, word: str) -> str | None:
        if not word.isalpha() or not _SHORTEST_TYPO - 1 <= len(word) <= _LONGEST_TYPO or word in self.ordinary:
            return None
        if word[-1] == "s" and word[:-1] in self.words:
            return word[:-1]
        near = set(self.deletions.get(word, ()))
        if len(word) >= _SHORTEST_TYPO:
            near |= {w for short in _deletions(word) for w in self.deletions.get(short, ())}
        first = word[:2] if len(word) >= _LONG_WORD else word[0]  # in a long word even the first letter may slip
        close = [(slip, w) for w in near if (w[0] in first or w[1:] == word) and (slip := _slip(w, word))]
        return min(close)[1] if close else None

    def __missing__(self, word: str) -> Node | Entry | None:
        root = self.roots.get(word) or self.roots.get(self.correct(word))
        if root is not None and len(root) == 1 and END in root:
            root = root[END]
        if len(self) > _MAX_MEMO:
            self.clear()
        self[word] = root
        return root


@cache
def lexicon(language: str = "en") -> Lexicon:
    """The lexicon of a language, loaded once."""
    return Lexicon(language)


def split_words(phrase: str) -> list[str]:
    """A phrase as the scanner sees it: lower case, without blanks and hyphens."""
    tokens = (match.group() for match in TOKEN.finditer(phrase.lower().translate(SPELLING)))
    return [token for token in tokens if not token.isspace() and token != "-"]


def _expand(pattern: str) -> Iterator[str]:
    """Every phrase of a pattern: ``a|b`` are alternatives, a trailing ``*`` makes a word optional."""
    slots = []
    for word in str(pattern).split():
        optional = len(word) > 1 and word.endswith("*")
        choices = (word[:-1] if optional else word).split("|")
        slots.append([*choices, ""] if optional else choices)
    for words in itertools.product(*slots):
        phrase = " ".join(word for word in words if word)
        if phrase:
            yield phrase


def _entries(data: dict[str, Any]) -> Iterator[tuple[str, Entry]]:
    """Every phrase of the data file with its entry; where two entries share a phrase, the first one stays."""
    for patterns, entry in _patterns(data):
        for pattern in patterns:
            for phrase in _expand(pattern):
                yield phrase, entry


def _patterns(data: dict[str, Any]) -> Iterator[tuple[list[str], Entry]]:
    yield data["negation"].pop("not_negation"), Entry("skip")
    for codes in [*data["findings"]]:  # codes as keys: "av_block_1: true"
        if "+" not in codes and "_" in codes:
            yield [codes.replace("_", " ")], Entry("F", (codes,))
    for word, number in data["ordinals"].items():
        yield [word], Entry("ordinal", number)
    for word, number in data["numbers"].items():
        yield [word], Entry("numeral", float(number))
    for word, lead in data["leads"].items():
        yield [word], Entry("L", lead)
        for wave in "rsq":  # SV1, RV5, RaVL
            if word[0] in "va":
                yield [wave + word], Entry("fused", (wave, lead))
    for codes, patterns in data["findings"].items():
        yield patterns, Entry("F", tuple(codes.split("+")))
    for codes, patterns in data["denied_groups"].items():
        yield patterns, Entry("F", tuple("=" + code for code in codes.split("+")))
    yield data["infarct"], Entry("I")
    for name, patterns in data["quantities"].items():
        yield patterns, Entry("Q", name)
    yield data["intervals"], Entry("Q", "intervals")
    for word, patterns in data["properties"].items():
        yield patterns, Entry("A", (word,))
    for name, patterns in data["dimensions"].items():
        yield patterns, Entry("D", name)
    for name, patterns in data["units"].items():
        yield patterns, Entry("U", name)
    for group, prefix in (("comparators", ""), ("negation", "no_"), ("uncertainty", "may_"), ("contexts", "off_")):
        for name, patterns in data[group].items():
            yield patterns, Entry(prefix + name)
    for name, patterns in data["groups"].items():
        yield patterns, Entry("L", name)
    for name, patterns in data["words"].items():
        yield patterns, Entry(name)
    yield data["clinical"], Entry("clinical")


def _deletions(word: str) -> list[str]:
    return [word[:i] + word[i + 1 :] for i in range(len(word))]


def _slip(right: str, typed: str) -> int:
    """Kind of the one slip between two words, the likeliest first: 1 swapped, 2 lost or added, 3 changed; 0 more."""
    if len(right) == len(typed):
        wrong = [i for i, (a, b) in enumerate(zip(right, typed)) if a != b]
        if len(wrong) == 2:
            i, j = wrong
            return int(j == i + 1 and right[i] == typed[j] and right[j] == typed[i])
        return 3 if len(wrong) == 1 else 0
    longer, shorter = sorted((right, typed), key=len, reverse=True)
    lost = len(longer) - len(shorter) == 1 and any(longer[:i] + longer[i + 1 :] == shorter for i in range(len(longer)))
    return 2 if lost else 0
