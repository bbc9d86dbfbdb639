"""Parse answers of ECG-Bench: labels, a letter, options of a question. None means unreadable."""

from __future__ import annotations

import re
from functools import lru_cache

FINAL = re.compile(r"(?:final\s+)?(?:answer|diagnos[ie]s|label)s?\s*(?:is|are)?\s*[:：]", re.IGNORECASE)
NEGATION = re.compile(
    r"\b(?:no|not|without|nor|never|absence of|negative for|rules? out|ruled out|excludes?)\W+(?:\w+\W+){0,3}$",
    re.IGNORECASE,
)
NONE = re.compile(r"\bnone\b|\bno (?:label|diagnosis|abnormalit(?:y|ies)) appl", re.IGNORECASE)
CLAUSE = re.compile(r"[.;:!?\n]|\bbut\b|\bhowever\b|\binstead\b", re.IGNORECASE)
# "ST changes" refers to the segment, not to sinus tachycardia (the label ST of CODE-15).
SEGMENT = r"(?!\s*[-–]?\s*(?:T\b|segments?|changes?|elevations?|depressions?|deviations?|abnormalit|shift))"


def final_part(text: str) -> str:
    """Return the text after the last "Answer:" or the like, when something follows it; else the whole text."""
    found = list(FINAL.finditer(text))
    after = text[found[-1].end() :] if found else ""
    return after if after.strip(" .\n") else text


@lru_cache(maxsize=64)
def _label_pattern(label: str) -> re.Pattern[str]:
    edge = SEGMENT if label == "ST" else ""
    return re.compile(rf"(?<![\w-]){re.escape(label)}(?![\w-]){edge}", re.IGNORECASE)


def labels(text: str, space: tuple[str, ...]) -> set[str] | None:
    """Return labels stated as separate terms and not negated; None when neither a label nor "none" is stated.

    "II-AVB" is not I-AVB, "IRBBB" not RBBB, "ABNORMAL" not NORM, "not NORM" not NORM.
    """
    part = final_part(text)
    stated = set()
    for label in space:
        for found in _label_pattern(label).finditer(part):
            clause = CLAUSE.split(part[: found.start()])[-1]
            if not NEGATION.search(clause):
                stated.add(label)
    return stated or (set() if NONE.search(part) else None)


def choice(text: str, letters: str, options: dict[str, str] | None = None) -> str | None:
    """Return the one letter that an answer states, or None: no letter, several, or a negated one.

    Args:
        text: The answer.
        letters: Allowed letters.
        options: Text of each option, for an answer that repeats the option instead of its letter.
    """
    some = f"[{letters}{letters.lower()}]"
    whole = re.fullmatch(rf"\W*({some})\W*", text)
    if whole:
        return whole[1].upper()
    stated = re.compile(
        r"(?i:\b(?:answer|option|choice)s?(?:\s+(?:is|would\s+be))?)\s*[:：]?\s*\**\(?"
        rf"(?:(?P<upper>[{letters}])(?![\w'’-])|(?P<lower>[{letters.lower()}])(?=\s*(?:[).:,*]|$)))"
    )
    found = list(stated.finditer(text))
    if found:
        last = found[-1]
        letter = (last["upper"] or last["lower"]).upper()
        also = re.match(rf"\W*(?:and|or|,|/|&)\W*({some})(?!\w)", text[last.end() :])
        return None if also and also[1].upper() != letter else letter
    leading = re.match(rf"\W*({some})\s*[.):]\s*\S?", text)
    others = {m.upper() for m in re.findall(rf"(?<!\w)([{letters}])[.)](?!\w)", text)}
    if leading:
        return leading[1].upper() if others <= {leading[1].upper()} else None
    return _by_option_text(text, options or {})


def _by_option_text(text: str, options: dict[str, str]) -> str | None:
    answer = _plain(final_part(text))
    plain = {letter: _plain(option) for letter, option in options.items()}
    hits = {letter: option for letter, option in plain.items() if option and _within(option, answer)}
    longest = {
        letter
        for letter, option in hits.items()
        if not any(option != other and option in other for other in hits.values())
    }
    return longest.pop() if len(longest) == 1 else None


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[\w.%/+-]+", text.lower())).strip(". ")


def _within(phrase: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text) is not None


def lettered_options(question: str) -> dict[str, str]:
    """Return options such as "A. …", "(B) …" of a question, by letter."""
    found = re.findall(r"(?:^|[\n,;]|\s)\(?([A-H])[.)]\s*(.+?)(?=(?:[\n,;]|\s)\s*\(?[A-H][.)]\s|\n|$)", question)
    return {letter: option.strip(" ,;.") for letter, option in found}


def listed_options(question: str) -> list[str]:
    """Return the options after "Options:" of an ECG-QA question, in its order."""
    if "Options:" not in question:
        return []
    listed = re.split(r"\bOnly answer\b", question.split("Options:")[-1], flags=re.IGNORECASE)[0]
    return [option.strip(" .\n") for option in listed.split(",") if option.strip(" .\n")]


def joined_options(text: str, options: list[str]) -> set[str]:
    """Return the options of which a gold answer consists; they may follow one another without a separator.

    An answer that no sequence of options spells is split at commas.
    """
    wanted = re.sub(r"\s+", " ", text.lower()).strip(" .")
    spelled: dict[int, tuple[str, ...]] = {0: ()}
    for end in range(1, len(wanted) + 1):
        for option in sorted(options, key=len, reverse=True):
            start = end - len(option)
            if start in spelled and wanted[start:end] == option.lower() and end not in spelled:
                spelled[end] = (*spelled[start], option)
        if end not in spelled and wanted[end - 1] in " ,;.&" and end - 1 in spelled:
            spelled[end] = spelled[end - 1]
    if len(wanted) in spelled and wanted:
        return {option.lower() for option in spelled[len(wanted)]}
    parts = {part.strip(" .") for part in re.split(r"[,;]", wanted)}
    return parts - {""}


def options_in(text: str, options: list[str]) -> set[str]:
    """Return the options in an answer, matched as whole terms, the longest first; or spelled without separators."""
    answer = re.sub(r"\s+", " ", final_part(text).lower()).strip(" .")
    left, found = answer, set()
    for option in sorted({option.lower() for option in options}, key=len, reverse=True):
        pattern = re.compile(rf"(?<![\w.]){re.escape(option)}(?!\w)(?!\.\d)")
        if pattern.search(left):
            found.add(option)
            left = pattern.sub("|", left)
    if re.search(r"\w", left):
        joined = joined_options(text, options)
        if joined <= {option.lower() for option in options}:
            return joined
    return found
