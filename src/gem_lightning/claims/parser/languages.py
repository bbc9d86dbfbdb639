"""Detection of sentences in other languages, from word lists, stems and scripts."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from functools import cache
from importlib import resources
from typing import Any

import yaml

_MAX_MEMO = 50_000
_SHORTEST_CONTENT = 4  # shorter lexicon words ("qrs", "st") are international
_SHORT_VOTE, _SHORTEST_VOTE, _LETTER_VOTE, _LEXICON_VOTE = (
    0.75,
    0.5,
    0.5,
    0.5,
)  # weaker evidence than a listed word of some length

Votes = dict[str, float]


class Languages:
    """Votes for languages, remembered by word."""

    def __init__(self) -> None:
        path = resources.files("gem_lightning.claims.parser").joinpath("languages.yaml")
        data: dict[str, Any] = yaml.load(path.read_text("utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self.english = frozenset(data["english"].split())
        self.words = {code: frozenset(entry["words"].split()) - self.english for code, entry in data["latin"].items()}
        self.stems = {code: re.compile("|".join(entry["stems"].split())) for code, entry in data["latin"].items()}
        self.letters = {code: frozenset(entry["letters"]) for code, entry in data["latin"].items()}
        self.scripts = {
            code: [tuple(int(end, 16) for end in span.split("-")) for span in spans]
            for code, spans in data["scripts"].items()
        }
        self.shared = frozenset(data["shared"].split())
        self.hints: dict[str, dict[str, list[str]]] = data["hints"]
        self.memo: dict[str, Votes] = {}
        ranges = "".join(f"{chr(low)}-{chr(high)}" for spans in self.scripts.values() for low, high in spans)
        self.other_script = re.compile(f"[{ranges}]")

    def detect(self, tokens: Sequence[str], sentence: str, known: Container[str]) -> str | None:
        """Return the ISO 639-1 code of a sentence that is not English, None where it is English or says nothing.

        Args:
            tokens: Its words in lower case.
            sentence: The sentence.
            known: Words of the English lexicon.
        """
        if (
            not sentence.isascii()
            and self.other_script.search(sentence)
            and (code := self._script(sentence)) is not None
        ):
            return code
        votes: Votes = {}
        english = 0.0
        for token in tokens:
            if len(token) >= _SHORTEST_CONTENT and token in known:
                english += 0.0 if token in self.shared else _LEXICON_VOTE
                continue
            own = self.memo.get(token)
            if own is None:
                own = self._votes(token)
            if own:
                for code, vote in own.items():
                    votes[code] = votes.get(code, 0.0) + vote
            elif token in self.english:
                english += 1
        if not votes:
            return None
        best = max(votes, key=votes.__getitem__)
        return best if votes[best] >= _SHORT_VOTE and votes[best] > english else None

    def _votes(self, word: str) -> Votes:
        """Return the votes of one word: 1 for a list or stem, half for a letter of the language."""
        votes: Votes = {}
        memo_key, word = word, word.rsplit("'", 1)[-1]  # "d'ischémie"
        if word.isalpha() and word not in self.english and (len(word) > 1 or not word.isascii()):
            for code in self.words:
                listed = 0.0
                if self.stems[code].match(word) is not None or word in self.words[code]:
                    listed = 1.0 if len(word) >= _SHORTEST_CONTENT else _SHORT_VOTE if len(word) > 2 else _SHORTEST_VOTE
                lettered = not word.isascii() and not self.letters[code].isdisjoint(word)
                if listed or lettered:
                    votes[code] = listed + _LETTER_VOTE * lettered
        if len(self.memo) > _MAX_MEMO:
            self.memo.clear()
        self.memo[memo_key] = votes
        return votes

    def _script(self, sentence: str) -> str | None:
        """Return the language of the script that at least half of the letters belong to."""
        counts: dict[str, int] = {}
        letters = 0
        for char in sentence:
            if char.isalpha():
                letters += 1
                point = ord(char)
                for code, spans in self.scripts.items():
                    if any(low <= point <= high for low, high in spans):
                        counts[code] = counts.get(code, 0) + 1
                        break
        # logographic scripts share lines with Latin abbreviations, so that half of the letters is enough
        if not counts or 2 * sum(counts.values()) < letters:
            return None
        found = next(code for code in self.scripts if code in counts)
        lower = sentence.lower()
        others = self.hints.get(found, {})
        return next((code for code, parts in others.items() if any(part in lower for part in parts)), found)


@cache
def languages() -> Languages:
    """Return the detector, loaded once."""
    return Languages()
