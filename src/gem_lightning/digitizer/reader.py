"""The reader of the format ``paper``: photos and scans of paper ECGs, through :func:`digitize`."""

from __future__ import annotations

from gem_lightning.digitizer.page import digitize
from gem_lightning.ecg.readers.base import Options, RawEcg, Source
from gem_lightning.errors import EcgReadError, RenderError

_SECONDS = 60.0  # ten times what a page takes on one core


def read(source: Source, options: Options) -> RawEcg:
    """Read a page as a recording: NaN where the paper shows nothing, and how each sample is trusted in ``meta``.

    Raises:
        EcgReadError: It is no image, or a page that cannot be read; the message says why.
    """
    source.budget.extend(_SECONDS)
    try:
        found = digitize(source.data)
    except RenderError as error:
        raise EcgReadError(str(error)) from error
    if found.record is None:
        raise EcgReadError(
            f"expected a page that can be digitised, got {source.name}: {found.refused}; try gem-lightning digitize "
            "with --layout, --speed or --gain"
        )
    record = found.record
    notes = (f"digitised from paper, layout {found.layout}, {found.speed:g} mm/s, {found.gain:g} mm/mV", *found.notes)
    meta, units = {"paper": record.meta["paper"]}, ("mV",) * len(record.leads)
    return RawEcg(record.signal, record.fs, record.leads, units, meta, notes=notes)
