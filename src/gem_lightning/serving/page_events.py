"""Events and fragments of the page: what a request finds, as HTML that the page puts in its place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gem_lightning.reporting.html import environment
from gem_lightning.reporting.interpretation import Interpretation
from gem_lightning.reporting.result import result_html, text_html
from gem_lightning.serving.facts import differences
from gem_lightning.serving.service import Emit

_NAMES = {"heart_rate_bpm": "Heart rate", "rr_ms": "RR interval", "p_ms": "P duration", "pr_ms": "PR interval",
          "qrs_ms": "QRS duration", "qt_ms": "QT interval"}  # fmt: skip
_UNITS = {"deg": "°"}


class PageEvents:
    """Turns the events of an interpretation into fragments of the page; call it with each event.

    Args:
        emit: Sends an event to the browser: ``stage`` {stage}, ``result`` {html} once measured, ``text`` {delta},
            ``reading`` {html} whenever a statement has been verified.
        uid: Prefix of the element ids.
        file_name: Of the recording.
    """

    def __init__(self, emit: Emit, uid: str, file_name: str) -> None:
        self.emit, self.uid, self.file_name = emit, uid, file_name
        self.draft: Interpretation | None = None
        self._text, self._verified = "", False

    def __call__(self, kind: str, data: dict[str, Any]) -> None:
        """Pass an event on; what a sentence states is sent with its marks before the next text."""
        if kind == "statement":
            self._verified = True
            return
        if kind == "text":
            if self._verified and self.draft is not None:
                html = text_html(self.draft.with_text(self._text), self.uid)
                self._verified = False
                self.emit("reading", {"html": html})
            self._text += data["delta"]
        self.emit("result" if kind == "measured" else kind, data)

    def measured(self, draft: Interpretation) -> dict[str, Any]:
        """Keep the measured record and return its fragment, whose text is still to come."""
        self.draft = draft
        return {"html": result_html(draft, file_name=self.file_name, uid=self.uid, writing=draft.refused is None)}

    def done(self, found: Interpretation) -> dict[str, Any]:
        """The whole result, with its text for the requests that follow."""
        html = result_html(found, file_name=self.file_name, uid=self.uid)
        return {"html": html, "text": found.text, "refused": found.refused}


def comparison_html(found: Sequence[tuple[str, Interpretation]], uid: str) -> str:
    """Two measured recordings side by side with their differences, second less first.

    Args:
        found: (file name, interpretation) of both.
        uid: Prefix of the element ids.
    """
    (_, first), (_, second) = found
    codes = [{finding.code: finding.statement for finding in one.findings} for one in (first, second)]
    rows = [_difference(row) for row in differences(first, second)]
    return (
        environment(Path(__file__).parent / "templates")
        .get_template("comparison.html.jinja")
        .render(
            names=[name for name, _ in found],
            results=[
                result_html(one, file_name=name, uid=f"{uid}{k}", label=label)
                for k, ((name, one), label) in enumerate(
                    zip(found, ("first recording", "second recording"), strict=True)
                )
            ],
            rows=rows,
            gone=[text for code, text in codes[0].items() if code not in codes[1]],
            new=[text for code, text in codes[1].items() if code not in codes[0]],
        )
    )


def _difference(row: dict[str, Any]) -> dict[str, str]:
    """One row of the table: name, both values and the signed difference."""
    name, digits = row["name"], 2 if row["unit"] == "mV" else 0
    if match := re.fullmatch(r"qtc_(\w+)_ms", name):
        name = f"QTc ({match[1].capitalize()})"
    elif match := re.fullmatch(r"axis_(\w+)_deg", name):
        name = f"{match[1]} axis"
    elif match := re.fullmatch(r"st_j_(\w+)_mv", name):
        name = f"ST level in {match[1]}"
    unit = _UNITS.get(row["unit"], f" {row['unit']}")
    values = [row["first"], row["second"]]
    shown = ["–" if value is None else f"{value + 0.0:.{digits}f}{unit}" for value in values]
    change = "–" if row["difference"] is None else f"{row['difference'] + 0.0:+.{digits}f}{unit}"
    first, second, change = (text.replace("-", "−") for text in (*shown, change))
    return {"name": _NAMES.get(name, name), "first": first, "second": second, "change": change, "unit": row["unit"]}
