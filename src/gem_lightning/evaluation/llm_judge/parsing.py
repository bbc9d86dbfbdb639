"""Read judge scores from a judge's answer: JSON repair, bounds, and an account of what is missing.

Nothing in an answer is ever evaluated as code.
"""

from __future__ import annotations

import ast
import json
import math
import operator
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "\u00a0": " "})
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
# A bare sum as a value, such as 1+1: json-repair would read its first number.
SUM = re.compile(r"(?<=:)\s*([-+]?\d[\d.\s]*(?:[-+*/]\s*\d[\d.\s]*)+)(?=[,}\]\n])")
MAX_POWER, MAX_BASE = 64, 1e9  # bounds on ``**``: larger powers take seconds to minutes


@dataclass(frozen=True)
class Criterion:
    """What a judge scores.

    Attributes:
        name: Name in the published tables.
        high: Largest score of one entry; the smallest is 0.
        combine: ``share`` (mean over ``high``), ``sum``, ``sum/N`` (sum clipped at N) or ``mean``.
        scale: Factor from a record's value to the table's.
        aliases: Other spellings in use.
    """

    name: str
    high: float
    combine: str
    scale: float = 1.0
    aliases: tuple[str, ...] = ()

    def value(self, scores: list[float]) -> float | None:
        """Combine one record's entries into its value; None when there is nothing to combine."""
        if self.combine == "sum":
            return sum(scores)
        if self.combine.startswith("sum/"):
            return min(sum(scores), self.maximum)
        if not scores:
            return None
        return sum(scores) / len(scores) / (self.high if self.combine == "share" else 1.0)

    @property
    def maximum(self) -> float:
        """Return the largest possible value of a record; infinite for an open sum."""
        if self.combine == "sum":
            return math.inf
        if self.combine.startswith("sum/"):
            return float(self.combine[4:])
        return 1.0 if self.combine == "share" else self.high


@dataclass
class JudgeScore:
    """One parsed answer of a judge.

    Attributes:
        values: Criterion to the record's value.
        missing: Criterion to the reason why it has none: absent, cut off, empty, null, out of range, not a number.
        repairs: Deviations from the requested form that were corrected.
        readable: The answer holds a JSON object.
    """

    values: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    repairs: Counter[str] = field(default_factory=Counter)
    readable: bool = True


def read(answer: Any, criteria: tuple[Criterion, ...]) -> JudgeScore:
    """Parse one answer, a text or an already parsed dict."""
    parsed = ParsedJson(answer) if isinstance(answer, dict) else read_json(answer if isinstance(answer, str) else "")
    result = JudgeScore(repairs=Counter(parsed.repairs), readable=isinstance(parsed.value, dict))
    members = {plain_key(str(key)): value for key, value in (parsed.value or {}).items()}
    for criterion in criteria:
        names = map(plain_key, (criterion.name, *criterion.aliases))
        name = next((n for n in names if n in members), None)
        if name is None:
            result.missing[criterion.name] = "unreadable" if not result.readable else "absent"
            continue
        if parsed.cut is not None and name == plain_key(parsed.cut):
            result.missing[criterion.name] = "cut off"
            continue
        if name != plain_key(criterion.name):
            result.repairs["other spelling"] += 1
        scores, reason = _scores(members[name], criterion.high, result.repairs)
        value = criterion.value(scores) if reason is None else None
        if value is None:
            result.missing[criterion.name] = reason or "empty"
        else:
            result.values[criterion.name] = value
    return result


def plain_key(key: str) -> str:
    """Return a key without case, spaces and punctuation."""
    return re.sub(r"[^a-z0-9]", "", key.lower())


def _scores(value: Any, high: float, repairs: Counter[str]) -> tuple[list[float], str | None]:
    """Return the scores of a criterion's entries; one unusable entry makes the whole criterion unusable."""
    if not isinstance(value, list):
        repairs["not a list"] += 1
        value = [value]
    scores: list[float] = []
    for entry in value:
        if isinstance(entry, dict):
            named = {plain_key(str(key)): item for key, item in entry.items()}
            if "score" not in named:
                return [], "no score"
            entry = named["score"]
        number, reason = number_of(entry, high, repairs)
        if number is None:
            return [], reason
        scores.append(number)
    return scores, None


def number_of(value: Any, high: float, repairs: Counter[str]) -> tuple[float | None, str | None]:
    """Return a score as a number in [0, high], or the reason why it is none; "2/2" is two of two, "85%" is 85."""
    if value is None:
        return None, "null"
    if isinstance(value, bool):
        return None, "not a number"
    if isinstance(value, str):
        text = value.strip().rstrip("%").strip()
        of = re.fullmatch(r"\+?(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)", text)
        if of and float(of[2]) == high:
            repairs["score of the scale"] += 1
            text = of[1]
        try:
            value = arithmetic(text)
        except ValueError:
            return None, "not a number"
        repairs["number as text" if re.fullmatch(r"[+-]?\d+(\.\d+)?", text) else "arithmetic"] += 1
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None, "not a number"
    if not math.isfinite(number):
        return None, "not a number"
    return (number, None) if 0 <= number <= high else (None, "out of range")


def arithmetic(text: str) -> float | int:
    """Compute an expression of numbers and + - * / // % **.

    Raises:
        ValueError: Anything else, a division by zero, or a power beyond the bounds.
    """

    def value(node: ast.AST) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
            return value(node.operand) * (-1 if isinstance(node.op, ast.USub) else 1)
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            left, right = value(node.left), value(node.right)
            if isinstance(node.op, ast.Pow) and (abs(right) > MAX_POWER or abs(left) > MAX_BASE):
                raise ValueError(f"too large a power: {text[:40]}")
            return OPERATORS[type(node.op)](left, right)
        raise ValueError(f"not arithmetic: {text[:40]}")

    try:
        return value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ZeroDivisionError, OverflowError, MemoryError, RecursionError, TypeError) as error:
        raise ValueError(f"not arithmetic: {text[:40]} ({error})") from None


@dataclass
class ParsedJson:
    """A JSON object found in a text.

    Attributes:
        value: The object, or None when there is none.
        repairs: Names of the corrections.
        cut: Key of the outermost object whose value is incomplete because the text ends inside it.
    """

    value: Any = None
    repairs: list[str] = field(default_factory=list)
    cut: str | None = None


def read_json(text: str) -> ParsedJson:
    """Read the first JSON object in a text; invalid JSON is repaired by ``json_repair``."""
    start = text.find("{")
    if start < 0:
        return ParsedJson()
    repairs = ["fence"] if "```" in text else []
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text, start)
    except ValueError:
        return _repaired(text[start:], repairs)
    except RecursionError:
        return ParsedJson()
    around = (text[:start] + text[end:]).replace("```json", "").replace("```", "")
    return ParsedJson(value, repairs + ["prose"] * bool(around.strip()))


def _repaired(text: str, repairs: list[str]) -> ParsedJson:
    import json_repair

    straight = text.translate(QUOTES)
    body = SUM.sub(_computed, straight)
    try:
        value = json_repair.loads(body, skip_json_loads=True)
    except (RecursionError, ValueError):
        return ParsedJson()
    if isinstance(value, list):  # prose with braces after the object
        value = next((item for item in value if isinstance(item, dict)), None)
    if not isinstance(value, dict) or not value:
        return ParsedJson()
    repairs += ["quotes"] * (straight != text) + ["arithmetic"] * (body != straight) + ["repaired"]
    if _is_cut(body):
        return ParsedJson(value, [*repairs, "cut off"], str(list(value)[-1]))
    return ParsedJson(value, repairs)


def _computed(found: re.Match[str]) -> str:
    try:
        return f" {arithmetic(found[1])}"
    except ValueError:
        return found[0]


def _is_cut(body: str) -> bool:
    """Return whether brackets outside strings stay open: json-repair closes them, so that half a list looks whole."""
    outside = STRING.sub("", body)
    if outside.count('"') % 2:  # the text ends inside a string
        outside = outside[: outside.index('"')]
    return outside.count("{") + outside.count("[") > outside.count("}") + outside.count("]")
