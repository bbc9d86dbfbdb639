"""Events and fragments of the page: what a request finds, as HTML that the page puts in its place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gem_lightning.reporting.html import environment
from gem_lightning.reporting.interpretation import Interpretation
from gem_lightning.reporting.result import result_html, text_html
from gem_lightning.serving.facts import Comparison, differences
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
        return {"html": html, **self._written(found), "refused": found.refused}

    def asked(self, draft: Interpretation) -> dict[str, Any]:
        """Keep the measured record of a question; the page shows it already."""
        self.draft = draft
        return {}

    def answered(self, found: Interpretation) -> dict[str, Any]:
        """The whole answer to a question, with its text for the requests that follow."""
        return {"html": text_html(found, self.uid), **self._written(found)}

    @staticmethod
    def _written(found: Interpretation) -> dict[str, Any]:
        edits = [edit.to_dict() | {"verdicts": []} for edit in found.edits]
        return {"text": found.text, "edits": edits}


def comparison_html(found: Comparison, names: Sequence[str], uid: str) -> str:
    """Two measured recordings side by side with their differences, second less first.

    Args:
        found: Both.
        names: Of their files.
        uid: Prefix of the element ids.
    """
    pair = (found.first, found.second)
    return (
        environment(Path(__file__).parent / "templates")
        .get_template("comparison.html.jinja")
        .render(
            names=names,
            results=[
                result_html(one, file_name=name, uid=f"{uid}{k}", label=f"{label} recording")
                for k, (name, one, label) in enumerate(zip(names, pair, ("first", "second"), strict=True))
            ],
            rows=[_difference(row) for row in differences(*pair)],
            gone=found.gone,
            new=found.new,
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
    # the difference of what is shown: "98 ms, 98 ms, +1 ms" would look like a mistake
    values = [value if value is None else round(value, digits) + 0.0 for value in (row["first"], row["second"])]
    shown = ["–" if value is None else f"{value:.{digits}f}{unit}" for value in values]
    (first_value, second_value), change = values, "–"
    if first_value is not None and second_value is not None:
        step = second_value - first_value
        step = round((step + 180) % 360 - 180 if row["unit"] == "deg" else step, digits) + 0.0
        change = f"{step:+.{digits}f}{unit}" if step else f"{step:.{digits}f}{unit}"
    first, second, change = (text.replace("-", "−") for text in (*shown, change))
    return {"name": _NAMES.get(name, name), "first": first, "second": second, "change": change, "unit": row["unit"]}
