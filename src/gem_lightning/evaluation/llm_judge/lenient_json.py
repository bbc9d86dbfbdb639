"""Reading what judges write instead of JSON: fences, prose around it, curly quotes, trailing or missing commas,
comments, plus signs, arithmetic, and answers that break off. Nothing is ever evaluated as code.
"""

from __future__ import annotations

import ast
import json
import operator
import re
from dataclasses import dataclass, field
from typing import Any

OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
             ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow}  # fmt: skip
QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "\u00a0": " "})
BARE = re.compile(r"[^,\]}\n\"]+")
STRING_END = re.compile(r"\"\s*(?:[,:\]}]|$|\n|//)")


def arithmetic(text: str) -> float | int:
    """The value of an expression of numbers and + - * / // % **.

    Raises:
        ValueError: Anything else, a division by zero, or a number beyond reason.
    """

    def value(node: ast.AST) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
            return value(node.operand) * (-1 if isinstance(node.op, ast.USub) else 1)
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            left, right = value(node.left), value(node.right)
            if isinstance(node.op, ast.Pow) and (abs(right) > 64 or abs(left) > 1e9):
                raise ValueError(f"too large a power: {text[:40]}")
            return OPERATORS[type(node.op)](left, right)
        raise ValueError(f"not arithmetic: {text[:40]}")

    try:
        return value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ZeroDivisionError, OverflowError, MemoryError, RecursionError, TypeError) as error:
        raise ValueError(f"not arithmetic: {text[:40]} ({error})") from None


@dataclass
class Read:
    """What could be read.

    Attributes:
        value: The JSON value, or None when there is none.
        repairs: Names of the liberties that reading took.
        cut: Keys of the outermost object whose value breaks off (they hold what came before).
    """

    value: Any = None
    repairs: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)


def read_json(text: str) -> Read:
    """The first JSON object in a text."""
    start = text.find("{")
    if start < 0:
        return Read()
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text, start)
    except ValueError:
        return _read_broken(text, start)
    except RecursionError:
        return Read()
    around = (text[:start] + text[end:]).strip()
    prose = around.replace("```json", "").replace("```", "").strip()
    return Read(value, ["fence"] * ("```" in around) + ["prose"] * bool(prose))


def _read_broken(text: str, start: int) -> Read:
    parser = _Parser(text.translate(QUOTES), start)
    try:
        value = parser.object(outer=True)
    except RecursionError:
        return Read()
    if not value:
        return Read()
    if "```" in text:
        parser.note("fence")
    if any(mark in text for mark in "“”„«»"):
        parser.note("quotes")
    return Read(value, parser.repairs, parser.cut)


class _Parser:
    """A recursive reader that goes on where JSON would stop."""

    def __init__(self, text: str, at: int) -> None:
        self.text, self.at = text, at
        self.repairs: list[str] = []
        self.cut: list[str] = []
        self.depth = 0

    def note(self, repair: str) -> None:
        if repair not in self.repairs:
            self.repairs.append(repair)

    def skip(self) -> str:
        """Pass blanks and comments; the next character, or '' at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at].isspace():
                self.at += 1
            if self.text.startswith("//", self.at):
                self.note("comment")
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif self.text.startswith("/*", self.at):
                self.note("comment")
                end = self.text.find("*/", self.at)
                self.at = len(self.text) if end < 0 else end + 2
            else:
                return self.text[self.at : self.at + 1]

    def object(self, outer: bool = False) -> dict[str, Any]:
        """An object; what breaks off keeps its whole members."""
        self.at += 1
        members: dict[str, Any] = {}
        while True:
            sign = self.skip()
            if sign in ("}", "", "]"):
                if sign == "":
                    self.note("cut off")
                self.at += sign == "}"
                return members
            if sign == ",":
                self.at += 1
                if self.skip() == "}":
                    self.note("trailing comma")
                continue
            key = self.string() if sign == '"' else self.bare().rstrip(": ")
            if self.skip() != ":":
                if self.skip() == "":
                    self.note("cut off")
                    return members
                if not key:
                    self.at += 1
                continue
            self.at += 1
            value, whole = self.value()
            if key in members:
                self.note("duplicate key")
            members[str(key).strip()] = value
            if not whole and outer:
                self.cut.append(str(key).strip())
            following = self.skip()
            if following not in (",", "}", ""):
                self.note("missing comma")

    def array(self) -> list[Any]:
        self.at += 1
        items: list[Any] = []
        while True:
            sign = self.skip()
            if sign in ("]", "", "}"):
                if sign == "":
                    self.note("cut off")
                self.at += sign == "]"
                return items
            if sign == ",":
                self.at += 1
                if self.skip() == "]":
                    self.note("trailing comma")
                continue
            value, whole = self.value()
            if whole:
                items.append(value)
            if self.skip() not in (",", "]", ""):
                self.note("missing comma")

    def value(self) -> tuple[Any, bool]:
        """A value and whether it is whole."""
        sign = self.skip()
        self.depth += 1
        if self.depth > 50:
            raise RecursionError
        try:
            if sign == "{":
                value: Any = self.object()
            elif sign == "[":
                value = self.array()
            elif sign == '"':
                value = self.string()
            elif sign == "":
                self.note("cut off")
                return None, False
            else:
                return self.number(self.bare()), True
            return value, self.at <= len(self.text) and self.text[self.at - 1] in '}]"'
        finally:
            self.depth -= 1

    def string(self) -> str:
        """A string; quotes inside it that do not end it are kept."""
        start = self.at + 1
        at = start
        while True:
            at = self.text.find('"', at)
            if at < 0:
                self.note("cut off")
                self.at = len(self.text) + 1
                return self.text[start:].strip()
            if self.text[at - 1] == "\\" and self.text[at - 2] != "\\":
                at += 1
            elif STRING_END.match(self.text, at):
                break
            else:
                self.note("inner quotes")
                at += 1
        self.at = at + 1
        return self.text[start:at].replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")

    def bare(self) -> str:
        found = BARE.match(self.text, self.at)
        if not found:
            self.at += 1
            return ""
        word = re.split(r"//|/\*", found[0])[0]
        word = word.split(":")[0] + ":" if ":" in word else word
        self.at += max(1, len(word) - word.endswith(":"))
        return word.strip().rstrip(":").strip()

    def number(self, word: str) -> Any:
        """A number, a constant, arithmetic, or the word itself."""
        if word in ("true", "false", "null", "None", "NaN"):
            return {"true": True, "false": False}.get(word)
        if word.startswith("+"):
            self.note("plus sign")
        try:
            return int(word) if re.fullmatch(r"-?\d+", word) else float(word)
        except ValueError:
            return word
