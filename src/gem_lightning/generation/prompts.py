"""Prompts for teacher LLMs: Jinja files in templates/, each replaceable by a user's own file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gem_lightning.errors import DataError
from gem_lightning.features.schema import EcgFeatures, plain

KINDS = ("interpretation", "report", "dialogue")
DIALOGUE_SCHEMA = {
    "title": "dialogue",
    "type": "object",
    "additionalProperties": False,
    "required": ["turns"],
    "properties": {
        "turns": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["question", "answer"],
                "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
            },
        }
    },
}
_LEAD_COLUMNS = ("p_mv", "p_ms", "q_mv", "q_ms", "r_mv", "s_mv", "r2_mv", "qrs_ms", "qrs_form", "t_mv", "t_form")
_BEAT_COLUMNS = ("rr_ms", "pr_ms", "qrs_ms", "qt_ms")


@cache
def _environment(folder: str | None) -> Any:
    from jinja2 import ChoiceLoader, FileSystemLoader, StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    own = FileSystemLoader(Path(__file__).parent / "templates")
    loader = own if folder is None else ChoiceLoader([FileSystemLoader(folder), own])
    # A prompt file may be untrusted: the sandbox denies it access to Python objects.
    return SandboxedEnvironment(
        loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )


def render_prompt(name: str, facts: Mapping[str, Any], prompt_file: str | None = None) -> str:
    """Render a prompt.

    Args:
        name: File of this package without suffix, such as ``interpretation``.
        facts: Output of :func:`facts_for_prompt`, and more.
        prompt_file: File that replaces it, with the same names; it may include this package's files. The facts are
            put before a file that uses none of them, such as a published prompt.

    Raises:
        DataError: The file is missing, uses an unknown name, or writes names as ``{report}``.
    """
    from jinja2 import TemplateError

    try:
        if prompt_file is None:
            return _environment(None).get_template(f"{name}.jinja").render(**facts).strip()
        path = Path(prompt_file)
        text = _environment(str(path.parent)).get_template(path.name).render(**facts).strip()
        if _uses_facts(prompt_file, frozenset(facts)):
            return text
        return f"{_environment(None).get_template('facts.jinja').render(**facts).strip()}\n\n{text}"
    except TemplateError as error:
        known = ", ".join(sorted(facts))
        raise DataError(f"prompt {prompt_file or name}: {error}; a prompt can use: {known}") from None


@cache
def _uses_facts(prompt_file: str, names: frozenset[str]) -> bool:
    """Return whether a prompt uses any fact of a record.

    Raises:
        DataError: It marks a name in another way than Jinja's.
    """
    from jinja2 import meta

    path = Path(prompt_file)
    text = path.read_text(encoding="utf-8")
    tree = _environment(str(path.parent)).parse(text)
    found = re.findall(r"(?<!\{)\{(\w+)\}(?!\})", text)
    single = next((name for name in found if name in names), None)
    if single is not None:
        raise DataError(f"prompt {prompt_file}: expected names as {{{{ {single} }}}}, got {{{single}}}")
    known = names - {"image", "max_words", "turns"}
    return bool(meta.find_undeclared_variables(tree) & known) or any(True for _ in meta.find_referenced_templates(tree))


def facts_for_prompt(
    features: EcgFeatures,
    findings: Any = (),
    report: str | None = None,
    age: float | None = None,
    sex: str | None = None,
    image: bool = False,
    max_words: int = 300,
    turns: int = 3,
) -> dict[str, Any]:
    """Return the names that a prompt can use.

    In addition to the arguments: ``summary``, ``leads`` and ``beats`` (tables as text), ``features`` (the object) and
    ``machine_measurements`` (fourteen sequences a lead, as in the original's data).
    """
    return {
        "age": age,
        "beats": _beat_lines(features),
        "features": features,
        "findings": tuple(findings or ()),
        "image": image,
        "leads": _lead_lines(features),
        "machine_measurements": _LazyJson(features.to_measurements),
        "max_words": max_words,
        "report": report,
        "sex": sex,
        "summary": _summary(features),
        "turns": turns,
    }


class _LazyJson:
    """JSON text of a value that is computed when a prompt uses it."""

    def __init__(self, make: Any) -> None:
        self._make = make

    def __str__(self) -> str:
        import json

        return json.dumps(plain(self._make()), ensure_ascii=False)


def _number(value: Any, digits: int) -> str:
    if isinstance(value, str):
        return value
    return "-" if value is None or value != value else f"{value:.{digits}f}"


def _summary(features: EcgFeatures) -> str:
    names = ("heart_rate_bpm", "rr_ms", "p_ms", "pr_ms", "qrs_ms", "qt_ms")
    pairs = [(name, getattr(features, name)) for name in names]
    pairs += [(f"qtc_{name}_ms", value) for name, value in features.qtc_ms.items()]
    pairs += [(f"{name}_axis_deg", value) for name, value in features.axis_deg.items()]
    lines = [f"{name}: {_number(value, 0)}" for name, value in pairs if value is not None]
    lines += [f"{name}_mv: {_number(value, 2)}" for name, value in features.voltages_mv.items() if value is not None]
    rhythm = {True: "regular", False: "irregular", None: "regularity not known"}[features.rhythm.regular]
    return "; ".join([rhythm, *lines])


def _lead_lines(features: EcgFeatures) -> str:
    lines = ["lead: " + ", ".join((*_LEAD_COLUMNS, "st_j_mv", "st_j60_mv", "st_form"))]
    for lead, row in features.leads.items():
        values = [_number(getattr(row, name), 2 if name.endswith("_mv") else 0) for name in _LEAD_COLUMNS]
        levels = features.st_mv.get(lead, {})
        values += [_number(levels.get("J"), 2), _number(levels.get("J60"), 2), row.st_form or "-"]
        lines.append(f"{lead}: {', '.join(values)}")
    return "\n".join(lines)


def _beat_lines(features: EcgFeatures) -> str:
    beats = features.beats
    rows = zip(*(beats.whole[name].tolist() for name in _BEAT_COLUMNS))
    lines = []
    for i, (time_s, name, values) in enumerate(zip(beats.time_s, beats.beat_class, rows)):
        numbers = ", ".join(_number(value, 0) for value in values)
        lines.append(f"{i + 1}. {time_s:.2f} s: {numbers} ({str(name).replace('_', ' ')})")
    return "\n".join(lines)
