"""Complete what a file leaves open: names, unit and rate of its rows, from the caller or by a stated assumption."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace

from gem_lightning.ecg.leads import lead_name
from gem_lightning.ecg.readers.base import Options, RawEcg, is_voltage, to_mv
from gem_lightning.ecg.record import LEADS
from gem_lightning.errors import EcgReadError

SAME_RATE = 0.01
"""Relative difference below which a stated rate and the file's are the same (rounding of 1/fs in ms)."""


class ReadWarning(UserWarning):
    """A file was read under an assumption that its reader should confirm."""


def complete(raw: RawEcg, options: Options) -> RawEcg:
    """Apply the caller's options, leave out rows that are no ECG, and name rows that have no names.

    Args:
        raw: As the reader returns it.
        options: What the caller states.

    Raises:
        EcgReadError: An option contradicts the file, or a lead has no unit.
    """
    raw = _named(raw, options)
    raw = _with_rate(raw, options)
    raw = _with_units(raw, options)
    return _only_ecg(raw)


def _named(raw: RawEcg, options: Options) -> RawEcg:
    """Names of the caller; standard order for twelve rows that carry nothing but numbers."""
    if options.lead_names is not None:
        if len(options.lead_names) != len(raw.leads):
            raise EcgReadError(
                f"expected {len(raw.leads)} names, one for each row, got {len(options.lead_names)}; correct lead_names="
            )
        return replace(raw, leads=options.lead_names)
    if len(raw.leads) == len(LEADS) and are_ordinals(raw.leads):
        note = f"the twelve rows carry no lead names: read in standard order {', '.join(LEADS)}"
        warnings.warn(f"{note}; pass lead_names= if they are others", ReadWarning, stacklevel=4)
        return replace(raw, leads=LEADS, notes=(*raw.notes, note))
    return raw


def are_ordinals(names: tuple[str, ...]) -> bool:
    """Whether the names only count: ``Channel 1 ... 12``, ``ECG 1``, ``0 ... 11``, or nothing at all."""
    parts = [re.fullmatch(r"\s*([^\d]*?)[\s_\-.]*(\d+)?\s*", name) for name in names]
    if not all(parts) or any(lead_name(name) for name in names):
        return False
    stems = {part[1].strip().lower() for part in parts if part}
    numbers = [int(part[2]) if part and part[2] else None for part in parts]
    counted = numbers in (list(range(len(names))), list(range(1, len(names) + 1)))
    return len(stems) == 1 and (counted or set(names) == {""})


def _with_rate(raw: RawEcg, options: Options) -> RawEcg:
    if options.fs is None or abs(options.fs - raw.fs) <= SAME_RATE * options.fs:
        return raw
    note = f"sampling rate {options.fs:g} Hz as given replaces {raw.fs:g} Hz of the file"
    return replace(raw, fs=float(options.fs), notes=(*raw.notes, note))


def _with_units(raw: RawEcg, options: Options) -> RawEcg:
    if options.units is None:
        return raw
    factor = to_mv(options.units)
    units = list(raw.units)
    for i, (name, unit) in enumerate(zip(raw.leads, raw.units)):
        if is_voltage(unit) and to_mv(unit) != factor and lead_name(name):
            raise EcgReadError(
                f"expected one unit for lead {name}, got {unit!r} in the file and units={options.units!r}; "
                "leave units= out"
            )
        if not is_voltage(unit) and (lead_name(name) or not unit):
            units[i] = options.units
    return replace(raw, units=tuple(units))


def _only_ecg(raw: RawEcg) -> RawEcg:
    """Leave out rows of another quantity (pressure, respiration), named in the notes."""
    keep = [i for i, (name, unit) in enumerate(zip(raw.leads, raw.units)) if is_voltage(unit) or lead_name(name)]
    for i in keep:
        if not is_voltage(raw.units[i]):
            raise EcgReadError(
                f"expected a voltage unit (mV, uV, nV, V) for lead {raw.leads[i]}, got {raw.units[i][:40]!r}; "
                "pass units= (for uncalibrated counts gain=)"
            )
    if not keep:
        found = ", ".join(sorted({repr(unit[:20]) for unit in raw.units})) or "none"
        raise EcgReadError(f"expected rows in a voltage unit (mV, uV, nV, V), got {found}; pass units=")
    if len(keep) == len(raw.leads):
        return raw
    out = [raw.leads[i] for i in range(len(raw.leads)) if i not in keep]
    return replace(
        raw,
        signal=raw.signal[keep],
        leads=tuple(raw.leads[i] for i in keep),
        units=tuple(raw.units[i] for i in keep),
        notes=(*raw.notes, f"left out, no ECG: {', '.join(out)}"),
    )
