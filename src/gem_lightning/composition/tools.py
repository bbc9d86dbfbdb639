"""Tools that a language model may call on a record: measurements, criteria, and a stretch of one lead."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import GemError
from gem_lightning.features import delineate, measure
from gem_lightning.features.criteria import codes, decide, wording
from gem_lightning.features.schema import LeadFeatures, plain

LONGEST_S = 2.5  # of one look at the signal: a screen's column of a 12-lead page, some 250 numbers
STEP_S = 0.01  # between the samples of a look: a quarter of a small box, which keeps every wave's shape
#: Numbers of the whole record; those of single beats are there too, except rate, QTc and axis.
WHOLE = ("heart_rate_bpm", "rr_ms", "p_ms", "pr_ms", "qrs_ms", "qt_ms", "jt_ms", "qtc_ms", "qrs_axis_deg")
#: Numbers of one lead, medians over its beats or of one beat; forms are of the lead alone.
BY_LEAD = (
    "p_mv", "p_ms", "q_mv", "q_ms", "r_mv", "r_ms", "s_mv", "s_ms", "r2_mv", "r_peak_ms", "qrs_mv", "qrs_ms", "t_mv",
    "t_ms", "qt_ms", "st_j_mv", "st_j40_mv", "st_j60_mv", "st_j80_mv",
)  # fmt: skip
FORMS = ("p_form", "qrs_form", "t_form", "st_form")
_CALL = re.compile(r"^\s*(?:call[:\s]\s*)?`?(measure|criterion|zoom)\(([^()\n]*)\)`?\s*$", re.IGNORECASE | re.MULTILINE)
_ARGUMENTS = {"measure": ("quantity", "lead", "beat"), "criterion": ("code",), "zoom": ("lead", "t0", "t1")}
HELP = (
    "You may measure before you answer. Write one call on a line by itself and stop; its result follows.\n"
    f"measure(quantity, lead, beat): quantity of {', '.join(WHOLE)}; with a lead of {', '.join((*BY_LEAD, *FORMS))}; "
    "beats are counted from 1, and measure(beats) lists them.\n"
    "criterion(code): whether a finding is met, such as criterion(lbbb).\n"
    f"zoom(lead, t0, t1): waves and samples of at most {LONGEST_S} s, times in seconds."
)


class RecordTools:
    """Measures one record on request.

    Args:
        record: The record; it is delineated once, with the first call.
    """

    def __init__(self, record: EcgRecord) -> None:
        self.record = record

    @cached_property
    def _marks(self) -> Any:
        return delineate(self.record)

    @cached_property
    def features(self) -> Any:
        """Return the measurements of the record."""
        return measure(self.record, self._marks)

    def run(self, name: str, arguments: str | Mapping[str, Any]) -> dict[str, Any]:
        """Run a call; what is wrong with it comes back under ``error``, for the model to correct.

        Args:
            name: ``measure``, ``criterion`` or ``zoom``.
            arguments: By name, or as JSON text.
        """
        if name not in _ARGUMENTS:
            return {"error": f"expected a tool of {', '.join(_ARGUMENTS)}, got {name!r}"}
        try:
            given = json.loads(arguments or "{}") if isinstance(arguments, str) else dict(arguments)
            unknown = sorted(set(given) - set(_ARGUMENTS[name]))
            if unknown:
                return {"error": f"expected arguments {', '.join(_ARGUMENTS[name])}, got {', '.join(unknown)}"}
            found: dict[str, Any] = getattr(self, name)(**{k: v for k, v in given.items() if v not in (None, "")})
            return plain(found)
        except GemError as error:
            return {"error": str(error)}
        except (TypeError, ValueError, AttributeError) as error:  # a model may pass anything
            return {"error": f"expected {name}({', '.join(_ARGUMENTS[name])}), got {arguments!r}: {error}"}

    def measure(self, quantity: str, lead: str | None = None, beat: int | None = None) -> dict[str, Any]:
        """Return a number of the record, of a lead, or of one beat; None where it cannot be measured.

        Args:
            quantity: One of :data:`WHOLE`, with a lead of :data:`BY_LEAD` or :data:`FORMS`, or ``beats``.
            lead: Lead name.
            beat: Number of the beat, from 1.

        Raises:
            GemError: There is no such quantity, lead or beat.
        """
        table = self.features.beats
        if quantity == "beats":
            rows = zip(table.time_s.tolist(), table.beat_class.tolist())
            return {"beats": [{"beat": i, "time_s": t, "class": str(kind)} for i, (t, kind) in enumerate(rows, 1)]}
        known = WHOLE if lead is None else (*BY_LEAD, *FORMS)
        if quantity not in known:
            raise GemError(f"expected a quantity of {', '.join(known)}, got {quantity!r}")
        if lead is not None and lead not in self.features.leads:
            raise GemError(f"expected a lead of {', '.join(self.features.leads)}, got {lead!r}")
        if beat is not None and not 1 <= int(beat) <= len(table):
            raise GemError(f"expected a beat from 1 to {len(table)}, got {beat}")
        number = self._whole(quantity, beat) if lead is None else self._in_lead(quantity, lead, beat)
        return {"quantity": quantity, "lead": lead, "beat": beat, "value": number}

    def _whole(self, quantity: str, beat: int | None) -> Any:
        if beat is not None:
            if quantity not in self.features.beats.whole:
                raise GemError(f"expected a quantity of {', '.join(self.features.beats.whole)} for one beat")
            return self.features.beats.whole[quantity][int(beat) - 1]
        if quantity == "qtc_ms":
            return self.features.qtc_ms["fridericia"]
        if quantity == "qrs_axis_deg":
            return self.features.axis_deg["QRS"]
        return getattr(self.features, quantity)

    def _in_lead(self, quantity: str, lead: str, beat: int | None) -> Any:
        found: LeadFeatures = self.features.leads[lead]
        if quantity in FORMS:
            return getattr(found, quantity)
        if beat is not None:
            return self.features.beats.by_lead[quantity][self.features.beats.leads.index(lead), int(beat) - 1]
        if quantity.startswith("st_j"):
            return self.features.st_mv[lead][quantity[3:-3].upper()]
        return getattr(found, quantity)

    def criterion(self, code: str) -> dict[str, Any]:
        """Decide a clinical criterion on the record.

        Raises:
            GemError: There is no criterion of this code.
        """
        if code not in codes():
            raise GemError(f"expected a code of {', '.join(codes())}, got {code!r}")
        decision = decide(code, self.features)
        found: dict[str, Any] = {
            "code": code,
            "met": decision.met,
            "margin": decision.margin,
            "leads": list(decision.leads),
        }
        found |= {"evidence": dict(decision.evidence), "reason": decision.reason, "criterion": wording(code)[0]}
        return {name: value for name, value in found.items() if value not in ("", [], {})}

    def zoom(self, lead: str, t0: float, t1: float) -> dict[str, Any]:
        """Return the waves and samples of a stretch of one lead.

        Args:
            lead: Lead name.
            t0: Start, s.
            t1: End, s.

        Raises:
            GemError: There is no such lead, or the stretch lies outside the record or is too long.
        """
        start, end = float(t0), float(t1)
        if lead not in self.record.leads:
            raise GemError(f"expected a lead of {', '.join(self.record.leads)}, got {lead!r}")
        if not 0 <= start < end <= self.record.seconds or end - start > LONGEST_S:
            raise GemError(
                f"expected 0 <= t0 < t1 <= {self.record.seconds:g} s, at most {LONGEST_S} s, got {start:g} to {end:g} s"
            )
        row = self.record.leads.index(lead)
        times = np.arange(start, end, STEP_S)
        at = np.minimum((times * self.record.fs).round().astype(int), self.record.samples - 1)
        return {"lead": lead, "t0": start, "step_s": STEP_S, "mv": np.round(self.record.signal[row, at], 3),
                "waves": self._waves(start, end)}  # fmt: skip

    def _waves(self, start: float, end: float) -> list[dict[str, Any]]:
        """Return the waves, over all leads, that begin or end within a stretch, in order."""
        found: list[dict[str, Any]] = []
        for wave in ("P", "QRS", "T"):
            marks = [self._marks.global_marks[f"{wave}_{side}"] / self._marks.fs for side in ("on", "off")]
            for on, off in zip(*marks):
                if np.isfinite(on + off) and off > start and on < end:
                    found.append({"wave": wave, "start_s": round(float(on), 2), "end_s": round(float(off), 2)})
        free = self._marks.extra_p / self._marks.fs
        found += [{"wave": "P without QRS", "peak_s": round(float(p), 2)} for p in free if start <= p <= end]
        return sorted(found, key=lambda wave: wave.get("start_s", wave.get("peak_s", 0.0)))


def specifications() -> list[dict[str, Any]]:
    """Return the tools as an OpenAI-compatible endpoint takes them."""
    text, number = {"type": "string"}, {"type": "number"}
    quantity = text | {"enum": [*WHOLE, *BY_LEAD, *FORMS, "beats"]}
    table = {
        "measure": (
            f"A measured number: of the record ({', '.join(WHOLE)}), with a lead of that lead, with a beat (from 1) of "
            "that beat; quantity 'beats' lists all beats with time and class.",
            {"quantity": quantity, "lead": text, "beat": {"type": "integer"}},
            ["quantity"],
        ),
        "criterion": (
            "Whether a clinical criterion is met, with its margin in measurement errors, its leads and evidence.",
            {"code": text | {"enum": list(codes())}},
            ["code"],
        ),
        "zoom": (
            f"Waves (start and end, s) and samples (mV) of at most {LONGEST_S} s of one lead.",
            {"lead": text, "t0": number, "t1": number},
            ["lead", "t0", "t1"],
        ),
    }
    return [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": about,
                "parameters": {"type": "object", "properties": properties, "required": required},
            },
        }
        for name, (about, properties, required) in table.items()
    ]


def parse_call(text: str) -> tuple[str, dict[str, Any]] | None:
    """Return the tool call that a text ends with, as name and arguments; None where it ends otherwise.

    ``measure(pr_ms)``, ``measure(r_mv, V5, 3)`` and ``zoom(lead=II, t0=1.2, t1=2)`` are understood.
    """
    found = list(_CALL.finditer(text))
    if not found or text[found[-1].end() :].strip():
        return None
    name = found[-1][1].lower()
    given: dict[str, Any] = {}
    for place, part in enumerate(piece.strip() for piece in found[-1][2].split(",") if piece.strip()):
        key, mark, value = part.partition("=")
        names = _ARGUMENTS[name]
        key = key.strip() if mark else names[place] if place < len(names) else f"argument {place + 1}"
        given[key] = _value((value if mark else part).strip().strip("'\""))
    return name, given


def _value(text: str) -> Any:
    """Return a number where a text is one."""
    return float(text) if re.fullmatch(r"-?\d+\.\d+", text) else int(text) if re.fullmatch(r"-?\d+", text) else text
