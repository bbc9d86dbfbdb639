"""Result page of one interpretation, laid out like a printed 12-lead report, every statement verified."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from gem_lightning import __version__
from gem_lightning.reporting.evidence import evidence_text, quality_sentences
from gem_lightning.reporting.html import SCRIPTS, Table, environment, script, style_sheet
from gem_lightning.reporting.statements import LABELS, marked_text
from gem_lightning.reporting.tracing import trace_data

if TYPE_CHECKING:
    from gem_lightning.ecg.record import EcgRecord
    from gem_lightning.features.schema import EcgFeatures
    from gem_lightning.reporting.interpretation import Interpretation

#: Sign and heading of each urgency: shape and text differ as well as colour.
URGENCIES = {"urgent": ("▲", "Urgent."), "undetermined": ("?", ""), "not_urgent": ("✓", "")}
QUALITIES = {"usable": "good", "care": "limited: read with care", "unusable": "not sufficient"}
SEXES = {"M": "male", "F": "female"}
_LEAD_COLUMNS = {"P, mV": "p_mv", "Q, mV": "q_mv", "R, mV": "r_mv", "S, mV": "s_mv", "T, mV": "t_mv"}
_QUANTITIES = (
    ("Heart rate", "heart_rate_bpm", "bpm"),
    ("RR interval", "rr_ms", "ms"),
    ("P duration", "p_ms", "ms"),
    ("PR interval", "pr_ms", "ms"),
    ("QRS duration", "qrs_ms", "ms"),
    ("QT interval", "qt_ms", "ms"),
)


def interpretation_html(
    interpretation: Interpretation,
    title: str,
    extra_tables: tuple[Table, ...] = (),
    back_url: str = "",
    file_name: str = "",
) -> str:
    """Fill the self-contained page; arguments as :meth:`Interpretation.to_html`."""
    from markupsafe import Markup

    return (
        environment()
        .get_template("interpretation.html.jinja")
        .render(
            title=title,
            style=Markup(style_sheet("result")),
            result=Markup(result_html(interpretation, extra_tables, file_name)),
            scripts=[Markup(script(name)) for name in SCRIPTS],
            back_url=back_url,
            version=__version__,
            provenance=interpretation.provenance,
        )
    )


def result_html(
    interpretation: Interpretation,
    extra_tables: tuple[Table, ...] = (),
    file_name: str = "",
    uid: str = "ecg",
    writing: bool = False,
    label: str = "",
) -> str:
    """The result as an HTML element without style or scripts, for any page that has these.

    Args:
        interpretation: What to show.
        extra_tables: Shown at the end.
        file_name: Of the recording.
        uid: Prefix of the element ids, unique on the page.
        writing: Keep a place for the text although there is none yet.
        label: What distinguishes the result from another on the page, for screen readers.
    """
    record, features = interpretation.record, interpretation.features
    device = record.meta.get("device_measurements") or {}
    return (
        environment()
        .get_template("result.html.jinja")
        .render(
            **_text_context(interpretation, uid),
            trace=trace_data(record, marked=not interpretation.refused),
            from_paper="paper" in record.meta,
            has_text=writing or bool(interpretation.text),
            title=reading_title(interpretation),
            note=interpretation.note,
            writing=writing,
            label=f", {label}" if label else "",
            facts=record_facts(record, features, file_name),
            headline=headline(features) if not interpretation.refused else [],
            quality=interpretation.quality.verdict,
            quality_label=QUALITIES[interpretation.quality.verdict],
            reasons=quality_sentences(interpretation.quality),
            refused=interpretation.refused,
            summary=interpretation.summary,
            partial=interpretation.partial,
            urgency=URGENCIES[interpretation.summary.urgency],
            changes=[edit.line for edit in interpretation.shown_edits if not edit.kept],
            findings=[(finding, evidence_text(finding)) for finding in interpretation.findings],
            device=bool(device),
            measurements=measurement_rows(features, device),
            lead_columns=[*_LEAD_COLUMNS, "ST at J, mV", "QRS", "T"],
            leads=lead_rows(features),
            extra_tables=extra_tables,
        )
    )


def reading_title(interpretation: Interpretation) -> str:
    """Heading of the text: who wrote it."""
    is_due = interpretation.partial and not (interpretation.text or interpretation.question)
    if interpretation.is_composed or is_due:
        return "Text composed from the measurements"
    if any(not edit.kept for edit in interpretation.edits):
        return "The model's text, corrected by the measurements"
    return "The model's text, checked against the signal"


def text_html(interpretation: Interpretation, uid: str = "ecg") -> str:
    """The verified text alone as an HTML element, for a text that is still being written and for answers."""
    return environment().get_template("text.html.jinja").render(**_text_context(interpretation, uid))


def _text_context(interpretation: Interpretation, uid: str) -> dict[str, Any]:
    marked = marked_text(interpretation)
    looks = Counter(statement.look for _, statement in marked if statement is not None)
    return {
        "uid": uid,
        "marked": marked,
        "statements": [statement for _, statement in marked if statement is not None],
        "labels": LABELS,
        "looks": looks,
        "question": interpretation.question,
        "edits": interpretation.shown_edits,
        "kept": f"{interpretation.kept_share:.0%}",
    }


def record_facts(record: EcgRecord, features: EcgFeatures, file_name: str = "") -> list[tuple[str, str]]:
    """What the header states of recording and patient, without identity; absent facts are left out."""
    facts = [
        ("File", file_name),
        ("Age", "" if features.age is None else f"{features.age:.0f} years"),
        ("Sex", SEXES.get(features.sex or "", "")),
        ("Recording", f"{len(record.leads)} leads, {record.seconds:.1f} s, {record.fs:.0f} Hz"),
        ("Format", str(record.meta.get("format", ""))),
        ("Device", str(record.meta.get("device", ""))),
        ("Reading", "; ".join(map(str, record.meta.get("notes") or ()))),
    ]
    return [(name, value) for name, value in facts if value]


def headline(features: EcgFeatures) -> list[tuple[str, str]]:
    """The measurements of a printed report's header, in its order."""
    axes = [features.axis_deg.get(wave) for wave in ("P", "QRS", "T")]
    qt, qtc = _number(features.qt_ms, ""), _number(features.qtc_ms.get("fridericia"), "ms")
    return [
        ("Rate", _number(features.heart_rate_bpm, "bpm")),
        ("PR", _number(features.pr_ms, "ms")),
        ("QRS", _number(features.qrs_ms, "ms")),
        ("QT/QTcF", f"{qt.strip()}/{qtc}"),
        ("P-QRS-T axes", "  ".join(_number(axis, "°", "") for axis in axes)),
    ]


def measurement_rows(features: EcgFeatures, device: dict[str, Any]) -> list[dict[str, str]]:
    """Name, measured value and the device's own value of every quantity of the whole record."""
    rows = [(name, getattr(features, key), device.get(key), unit, " ") for name, key, unit in _QUANTITIES]
    rows += [
        (f"QTc ({formula.capitalize()})", value, device.get(f"qtc_{formula}_ms"), "ms", " ")
        for formula, value in features.qtc_ms.items()
    ]
    if device.get("qtc_ms") is not None:
        rows.append(("QTc, formula not stated", None, device["qtc_ms"], "ms", " "))
    rows += [
        (f"{wave} axis", value, device.get(f"{wave.lower()}_axis_deg"), "°", "")
        for wave, value in features.axis_deg.items()
    ]
    return [
        {"name": name, "value": _number(value, unit, gap), "device": _number(own, unit, gap)}
        for name, value, own, unit, gap in rows
    ]


def lead_rows(features: EcgFeatures) -> list[dict[str, Any]]:
    """Amplitudes, ST level and forms of every lead."""
    rows = []
    for lead, found in features.leads.items():
        cells = [_number(getattr(found, key), "", "", 2) for key in _LEAD_COLUMNS.values()]
        cells.append(_number(features.st_mv.get(lead, {}).get("J"), "", "", 2))
        cells += [found.qrs_form or "–", found.t_form or "–"]
        rows.append({"lead": lead, "cells": cells})
    return rows


def _number(value: float | None, unit: str, gap: str = " ", digits: int = 0) -> str:
    if value is None:
        return "–"
    return f"{round(float(value), digits) + 0.0:.{digits}f}{gap}{unit}".replace("-", "−")
