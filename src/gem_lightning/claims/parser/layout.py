"""Text to statements: paragraphs, headings with what stands under them, tables, key-value data and markup."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from gem_lightning.claims.parser.tokenize import sentences

#: Words of a heading at most; a longer line is a sentence.
_HEADING_WORDS = 8
_LISTED_HEADING_WORDS = 6  # without colon or markup: only what is shorter and stands over a list

_STRUCTURE = re.compile(r"[\n|{<#&\t_`]|\*\*|\.{4}")
_TAG = re.compile(r"</?[a-zA-Z][a-zA-Z0-9]{0,9}(?:\s[^<>\n]{0,60})?/?>")
_BREAK_TAG = re.compile(r"</?(?:br|p|li|ul|ol|tr|div|h[1-6])\b", re.IGNORECASE)
_ENTITY = re.compile(r"&(nbsp|lt|gt|le|ge|deg|amp|micro|ndash|mdash|plusmn|#\d{1,5});")
_ENTITIES = {"lt": "<", "gt": ">", "le": "≤", "ge": "≥", "deg": "°", "amp": "&", "micro": "µ", "plusmn": "±"}
_LEADERS = re.compile(r"(?<=[\w)])[ \t]*\.{4,}[ \t]*(?=[\w<>≤≥-])")  # "PR ....... 168 ms"
_KEY = re.compile(r"[\"'][\w .-]{1,40}[\"']\s*:")
_JSON = str.maketrans('{}[],"', "\n\n\n\n\n ")
_JOINED_WORD = re.compile(r"(?<=[^\W_])_(?=[^\W_])")
_BULLET = re.compile(r"[ \t]*(?:[-*•‣◦▪·–—+]|\(?\d{1,2}[.)]|\(?[a-z]\))[ \t]+")
_NORM_COLUMN = re.compile(r"(?:normal|norm|ref|reference|range|limits?|expected|usual)\b", re.IGNORECASE)
_LABEL_UNIT = re.compile(r"([^()]+?) ?(\([^()]+\))")
_RULE_ROW = re.compile(r"[\s|:+=-]+")


class Statement(NamedTuple):
    """What is read in one piece.

    Attributes:
        start: Place of the body in the text.
        text: Context (a heading or a table's header and row label) and body.
        context: Length of the context in ``text``; 0 without one.
        context_start: Place of the context in the text.
    """

    start: int
    text: str
    context: int = 0
    context_start: int = 0


class Line(NamedTuple):
    """One line without markup: where it starts, its text, its bullet and whether markup makes it a heading."""

    start: int
    text: str
    bullet: bool
    marked: bool


#: Answers for a heading: ``off`` (nothing under it claims), ``always`` (governs every statement under it), ``topic``
#: (governs statements that name no topic of their own), ``place`` (leads), ``finding`` (as topic, and a claim itself),
#: or None.
Classify = Callable[[str], str | None]
#: Whether a statement opens with a topic of its own, and whether it names leads.
Opens = Callable[[str], tuple[bool, bool]]


def statements(text: str, classify: Classify, opens: Opens) -> Iterator[Statement]:
    """Split a text into statements; plain prose costs no more than its sentences."""
    if not _STRUCTURE.search(text):
        for start, sentence in sentences(text):
            yield Statement(start, sentence)
        return
    yield from _Reader(plain(text), classify, opens).read()


def plain(text: str) -> str:
    """Replace markup by blanks, keeping every place: HTML, entities, JSON, joined keys, emphasis."""
    if "<" in text:
        text = _TAG.sub(lambda m: ("\n" if _BREAK_TAG.match(m.group()) else " ") + " " * (len(m.group()) - 1), text)
    if "&" in text:
        text = _ENTITY.sub(lambda m: _ENTITIES.get(m[1], " ").ljust(len(m.group())), text)
    if "[]" in text:
        text = text.replace("[]", "no")
    if _KEY.search(text):
        text = text.translate(_JSON)
    if "..." in text:
        text = _LEADERS.sub(lambda m: ":".ljust(len(m.group())), text)
    if "_" in text:
        text = _JOINED_WORD.sub(" ", text)
    return text


class _Reader:
    """Walks the lines of a text with the heading that governs them."""

    def __init__(self, text: str, classify: Classify, opens: Opens) -> None:
        self.text, self.classify, self.opens = text, classify, opens
        self.heading: tuple[int, str] | None = None
        self.role: str | None = None
        self.fresh = False  # nothing has stood under the heading yet

    def read(self) -> Iterator[Statement]:
        lines = list(_lines(self.text))
        i = 0
        while i < len(lines):
            if not lines[i].text.strip():
                if not self.fresh:
                    yield from self._set_heading(None)
                i += 1
            elif (rows := _table(self.text, lines, i)) > i:
                yield from self._rows(lines[i:rows])
                i = rows
            elif _is_heading(lines, i):
                yield from self._set_heading(lines[i])
                i += 1
            else:
                after = _paragraph(lines, i, self.heading is not None)
                yield from self._body(lines[i].start, self.text[lines[i].start : _end(lines[after - 1])])
                i = after
        yield from self._set_heading(None)

    def _set_heading(self, line: Line | None) -> Iterator[Statement]:
        """Open a heading, or close it; one that nothing stood under is read as a statement."""
        if self.heading is not None and self.fresh and self.role != "off":
            yield Statement(self.heading[0], self.heading[1])
        self.heading = self.role = None
        if line is not None:
            text = line.text.strip().strip("*#:").strip()
            self.heading = (line.start + line.text.index(text), text)
            self.role = self.classify(text)
            self.fresh = True

    def _body(self, start: int, body: str) -> Iterator[Statement]:
        if self.role == "off":
            self.fresh = False
            return
        for place, sentence in sentences(body):
            yield from self._governed(start + place, sentence)

    def _governed(self, start: int, sentence: str) -> Iterator[Statement]:
        """One statement under the heading, with the heading in front where it governs it."""
        first, self.fresh = self.fresh, False
        if self.heading is None or self.role is None:
            yield Statement(start, sentence)
            return
        place, text = self.heading
        own_topic, own_leads = self.opens(sentence)
        governs = self.role == "always" or (not own_leads if self.role == "place" else not own_topic)
        if governs:
            joined = text + (" " if self.role == "always" else ": ")  # a denial reaches over no colon
            yield Statement(start, joined + sentence, len(joined), place)
            return
        if first and self.role == "finding":
            yield Statement(place, text)
        yield Statement(start, sentence)

    def _rows(self, lines: list[Line]) -> Iterator[Statement]:
        """Cells of a table, each with its row label and its column's header."""
        yield from self._set_heading(None)
        rows = [_cells(line) for line in lines if not _RULE_ROW.fullmatch(line.text)]
        head = _header(rows, ruled=len(rows) < len(lines))
        roles = [self.classify(cell) for _, cell in head]
        unit = next((j for j, (_, cell) in enumerate(head) if cell.lower().startswith("unit")), None)
        for row in rows[1 if head else 0 :]:
            for j in range(1, len(row)):
                label = row[0][1]
                if j == unit or (j < len(head) and (roles[j] == "off" or _NORM_COLUMN.match(head[j][1]))):
                    continue
                title = head[j][1] + " " if j < len(roles) and roles[j] else ""
                suffix = f"({row[unit][1]})" if unit is not None and unit < len(row) else ""
                if title and (bracket := _LABEL_UNIT.fullmatch(label)):  # "ST (mm)" under "V1" is "ST V1 (mm)"
                    label, suffix = bracket[1], bracket[2]
                context = f"{label} {title}{suffix}: "
                yield Statement(row[j][0], context + row[j][1], len(context), row[0][0])


def _lines(text: str) -> Iterator[Line]:
    start = 0
    for raw in text.split("\n"):
        bullet = _BULLET.match(raw)
        begin = bullet.end() if bullet else 0
        body = raw[begin:]
        bare = body.strip()
        marked = bare.startswith("#") or (
            bare.startswith("**") and bare.rstrip(":").endswith("**") and bare.count("**") == 2
        )
        yield Line(start + begin, body.replace("**", "  ").replace("`", " "), bullet is not None, marked)
        start += len(raw) + 1


def _end(line: Line) -> int:
    return line.start + len(line.text)


def _is_heading(lines: list[Line], i: int) -> bool:
    """A short line that ends in a colon, is marked as a heading, or stands over a list and ends in no mark."""
    line = lines[i]
    bare = line.text.strip()
    count = len(bare.split())
    if bare.endswith(":") or line.marked:
        return count <= _HEADING_WORDS and not bare.rstrip(":").endswith((".", ";", "!"))
    if line.bullet or bare[-1] in ".;!?," or ":" in bare or count > _LISTED_HEADING_WORDS:
        return False
    if i + 1 >= len(lines) or not lines[i + 1].text.strip():
        return False
    return lines[i + 1].bullet or (lines[i + 1].text.startswith("  ") and not line.text.startswith(" "))


def _paragraph(lines: list[Line], i: int, governed: bool) -> int:
    """Index after the lines that are read together: a list item or line under a heading alone, prose whole."""
    j = i + 1
    while j < len(lines):
        line = lines[j]
        if not line.text.strip() or line.bullet or line.marked or _is_heading(lines, j) or "|" in line.text:
            break
        j += 1
    return j


def _table(text: str, lines: list[Line], i: int) -> int:
    """Index after the rows of a table that starts here; ``i`` where none does."""
    mark = _separator(lines[i])
    if mark in _LISTED:
        return _listed(lines, i, mark)
    j = i
    while j < len(lines) and lines[j].text.strip(" \t|").count(mark) >= (1 if mark == "|" else 2):
        j += 1
    bare = lines[i].text.strip()
    if mark == "|" and not bare.startswith("|") and ":" in bare:  # "Rate: 66 | PR: 160" is a list in one line
        return i
    return j if j - i > 1 or (bare.startswith("|") and j > i) else i


#: Separators of exported tables; in prose a blank follows them.
_LISTED = {mark: re.compile(f"[^{mark}\\n]{{1,40}}(?:{mark}(?! )[^{mark}\\n]{{0,40}})+") for mark in ";,"}


def _separator(line: Line) -> str:
    """The mark between the cells of a row: ``|``, a tab, or a semicolon or comma without blanks."""
    for mark in ("|", "\t", ";", ","):
        if mark in line.text:
            return mark
    return "\t"


def _listed(lines: list[Line], i: int, mark: str) -> int:
    """Index after the rows ``PR;164`` and ``QRS;90``: two or more lines with equally many cells."""
    count = lines[i].text.count(mark)
    j = i
    while j < len(lines) and lines[j].text.count(mark) == count and _LISTED[mark].fullmatch(lines[j].text.strip()):
        j += 1
    return j if j - i > 1 else i


def _cells(line: Line) -> list[tuple[int, str]]:
    """Place and text of every cell of a row."""
    mark = _separator(line)
    cells, place = [], line.start
    for part in line.text.split(mark):
        bare = part.strip()
        cells.append((place + (part.index(bare) if bare else 0), bare))
        place += len(part) + 1
    if line.text.strip().startswith(mark):
        cells = cells[1:]
    return cells[:-1] if cells and not cells[-1][1] else cells


def _header(rows: list[list[tuple[int, str]]], ruled: bool) -> list[tuple[int, str]]:
    """The header row, if the table has one: ruled off, or without a digit over a row with some."""
    if len(rows) < 2:
        return []
    numbered = [any(c.isdigit() for _, cell in row[1:] for c in cell) for row in rows[:2]]
    return rows[0] if ruled or (not numbered[0] and numbered[1]) else []
