"""FHIR Observation (R4, R5) with SampledData: one component a lead, or one lead as the value."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from gem_lightning.ecg.leads import lead_name
from gem_lightning.ecg.readers.base import Options, RawEcg, Source, acquired, check_rate, check_size, number
from gem_lightning.errors import EcgReadError

_TO_MS = {"ms": 1.0, "s": 1e3, "us": 1e-3}


def read(source: Source, options: Options) -> RawEcg:
    """Leads of the Observation, or of the first one in a Bundle that has any."""
    source.budget.check("table bytes", len(source.data))
    try:
        content = json.loads(source.data)
    except (ValueError, RecursionError) as error:
        raise EcgReadError(f"expected FHIR JSON, got damaged JSON in {source.name}; export it again") from error
    entries = content.get("entry", [{"resource": content}]) if isinstance(content, dict) else []
    resources = [entry.get("resource", {}) for entry in entries if isinstance(entry, dict)]
    for resource in resources:
        parts = [p for p in [resource, *resource.get("component", [])] if "valueSampledData" in p]
        if resource.get("resourceType") == "Observation" and parts:
            return _record(resource, parts, source)
    raise EcgReadError(f"expected an Observation with valueSampledData, got none in {source.name}; export the waveform")


def _record(resource: dict[str, Any], parts: list[dict[str, Any]], source: Source) -> RawEcg:
    source.budget.check("channels", len(parts))
    names, units, rows, rates = [], [], [], set()
    for part in parts:
        sampled = part["valueSampledData"]
        period = number(sampled.get("period"))  # R4: ms
        period = period or (number(sampled.get("interval")) or 0) * _TO_MS.get(sampled.get("intervalUnit", ""), np.nan)
        if not period or sampled.get("dimensions", 1) != 1:
            raise EcgReadError("expected a period and one dimension a lead, got none; export one component a lead")
        rates.add(round(1000.0 / period, 6))  # periods such as 3.90625 ms are written with few digits
        names.append(_name(part.get("code", {})))
        origin = sampled.get("origin", {})
        units.append(str(origin.get("code") or origin.get("unit") or ""))
        rows.append(
            _samples(sampled, source) * (number(sampled.get("factor")) or 1.0) + (number(origin.get("value")) or 0)
        )
    if len(rates) != 1:
        raise EcgReadError("expected one period for all leads, got several; export the ECG leads alone")
    length = min(map(len, rows))
    check_size(source.budget, len(rows), length, len(rows) * max(map(len, rows)))
    signal = np.stack([row[:length] for row in rows])
    identity: dict[str, Any] = {
        key: str(resource[key]) for key in ("id", "subject", "effectiveDateTime") if key in resource
    }
    device = resource.get("device", {})
    meta = {"device": device["display"]} if isinstance(device, dict) and device.get("display") else {}
    meta |= acquired(resource.get("effectiveDateTime"))
    return RawEcg(signal, check_rate(rates.pop()), tuple(names), tuple(units), meta, identity)


def _name(code: dict[str, Any]) -> str:
    """A lead's name from the text or codings of a component's code."""
    texts = [str(code.get("text", ""))]
    texts += [str(coding.get(key, "")) for coding in code.get("coding", []) for key in ("display", "code")]
    return next((name for text in texts if (name := lead_name(text))), texts[0])


def _samples(sampled: dict[str, Any], source: Source) -> np.ndarray:
    """(samples,) before factor and origin; ``E`` (error), ``U`` and ``L`` (beyond a limit) are unknown."""
    cells = str(sampled.get("data", "")).split()
    source.budget.spend("table cells", len(cells))
    try:
        return np.array([np.nan if cell in ("E", "U", "L") else cell for cell in cells], dtype=np.float64)
    except ValueError as error:
        raise EcgReadError(f"expected decimal samples, got {str(error)[-40:]}; export the Observation again") from error
